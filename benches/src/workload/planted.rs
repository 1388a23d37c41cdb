//! Instances whose best proposal is known because it was there first.
//!
//! Every rollup has a price for a unit of its gas. The bundles of the best proposal are planted, and each rollup's block has
//! room for exactly those. Everything else is worth at most what its gas costs at these prices, or stands in the way of planted
//! bundles that are together worth more beyond that cost. Whatever is proposed is worth the cost of its gas and what it brings
//! beyond that; the first is greatest when the blocks are full, the second when everything planted is there. So nothing is
//! worth more than what was planted (the prices are a solution of the dual linear program).
//!
//! Bundles are transfers, each of 21,000 gas, that pay by their tips: room is counted in whole transfers and value to the wei.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use alloy_consensus::TxEip1559;
use alloy_primitives::{B256, Bytes, I256, TxKind, U256};
use lockstep_building::{Candidate, SlotView};
use lockstep_primitives::{RevertMode, to_signed};
use rayon::prelude::*;

use super::{
    Workload,
    draw::{FEE_CAP, GWEI, Planned, Step, TRANSFER_GAS, payee},
    shuffle, sign, users,
};
use crate::{
    Failed, World, WorldSpec,
    rng::Rng,
    world::{Kinds, MAX_ROLLUPS},
};

/// An instance and the best that can be made of it.
#[derive(Clone, Debug)]
pub struct Planted {
    /// All bundles, in an order that tells nothing, and a slot with room for those that were planted.
    pub workload: Workload,
    /// What the best proposal for all rollups is worth, in wei.
    pub optimum: I256,
    /// Lockstep hashes of the bundles that it consists of.
    pub best: BTreeSet<B256>,
}

impl Planted {
    /// Draws an instance of at least that many bundles on rollups under Ethereum's rules.
    ///
    /// # Errors
    /// When the rollups cannot be made.
    pub fn draw(rollups: usize, bundles: usize, seed: u64) -> Result<Self, Failed> {
        if !(1..=MAX_ROLLUPS).contains(&rollups) {
            return Err(format!("an instance has 1 to {MAX_ROLLUPS} rollups, not {rollups}").into());
        }
        let mut bed = Bed::new(rollups, seed);
        // No block without room.
        (0..rollups).for_each(|rollup| bed.plain(rollup));
        while bed.offers.len() < bundles {
            bed.grow();
        }
        shuffle(&mut bed.offers, &mut bed.rng);
        let Bed { offers, next_user, .. } = bed;
        let mut world = World::found(WorldSpec { rollups, kinds: Kinds::Ethereum, pools: 0, ..WorldSpec::default() })?;
        let users = users::derive(next_user)?;
        let planned: Vec<Planned> = offers.iter().map(|offer| offer.planned(&world)).collect();
        for transfer in offers.iter().flat_map(|offer| &offer.transfers) {
            world.fund(transfer.rollup, users.get(transfer.user).ok_or("a transfer of a user who does not exist")?.address);
        }
        let chains: Vec<u64> = (0..rollups).map(|rollup| world.chain(rollup)).collect();
        let mut view = world.into_view();
        for (rollup, chain) in chains.into_iter().enumerate() {
            let planted = offers.iter().filter(|offer| offer.planted).flat_map(|offer| &offer.transfers);
            let count = planted.filter(|transfer| transfer.rollup == rollup).count();
            leave_room(&mut view, chain, TRANSFER_GAS * count as u64);
        }
        let candidates: Vec<Candidate> = planned
            .par_iter()
            .enumerate()
            .map(|(index, planned)| {
                let bundle = sign(planned, &users)?;
                Ok(Candidate { hash: bundle.hash(), bundle: Arc::new(bundle), sequence: index as u64 })
            })
            .collect::<Result<_, Failed>>()?;
        let best = offers.iter().zip(&candidates).filter(|(offer, _)| offer.planted).map(|(_, candidate)| candidate.hash);
        let tips: u128 = offers.iter().filter(|offer| offer.planted).map(|offer| offer.tips).sum();
        let optimum = to_signed(U256::from(tips) * U256::from(TRANSFER_GAS)).ok_or("the optimum does not fit 256 bits")?;
        let best: BTreeSet<B256> = best.collect();
        let workload = Workload {
            name: "planted optimum".to_owned(),
            description: format!("{} bundles on {rollups} rollups, seed {seed}, with a planted optimum", candidates.len()),
            view: Arc::new(view),
            candidates,
            replaces: BTreeMap::new(),
        };
        Ok(Self { workload, optimum, best })
    }
}

/// One transfer.
#[derive(Clone, Copy, Debug)]
struct Transfer {
    user: usize,
    rollup: usize,
    nonce: u64,
}

/// A bundle of transfers.
#[derive(Clone, Debug)]
struct Offer {
    transfers: Vec<Transfer>,
    /// The sum of what its transactions tip for a unit of gas, in wei.
    tips: u128,
    /// Whether it is part of the best proposal.
    planted: bool,
}

impl Offer {
    fn planned(&self, world: &World) -> Planned {
        let count = self.transfers.len().max(1) as u128;
        let steps = self.transfers.iter().enumerate().map(|(index, transfer)| {
            let rest = if index == 0 { self.tips % count } else { 0 };
            let tip = self.tips / count + rest;
            let tx = TxEip1559 {
                chain_id: world.chain(transfer.rollup),
                nonce: transfer.nonce,
                gas_limit: TRANSFER_GAS,
                max_fee_per_gas: FEE_CAP + tip,
                max_priority_fee_per_gas: tip,
                to: TxKind::Call(payee(transfer.user)),
                value: U256::from(1),
                access_list: Default::default(),
                input: Bytes::new(),
            };
            Step::Tx { user: transfer.user, tx, mode: RevertMode::Fail }
        });
        Planned { steps: steps.collect(), ..Planned::default() }
    }
}

/// Where offers are planted. Shares are in thousandths of what gas costs.
struct Bed {
    rng: Rng,
    /// Of a unit of gas on each rollup, in wei.
    prices: Vec<u128>,
    next_user: usize,
    offers: Vec<Offer>,
}

impl Bed {
    fn new(rollups: usize, seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        // Rollups differ, so that value for gas, all rollups taken together, says little.
        let prices = (0..rollups).map(|_| u128::from(GWEI + rng.below(8 * GWEI))).collect();
        Self { rng, prices, next_user: 0, offers: Vec::new() }
    }

    /// A few offers that have to do with each other and with no others.
    fn grow(&mut self) {
        match self.rng.below(100) {
            0..25 => {
                let rollup = self.rollup();
                self.plain(rollup);
            }
            25..45 => self.rival(),
            45..65 => self.rival_of_two(),
            65..75 => self.chain(),
            _ => self.padding(),
        }
    }

    /// Worth more than its cost, and in nobody's way.
    fn plain(&mut self, rollup: usize) {
        let (own, more) = (1 + self.rng.below(4), self.also_elsewhere());
        let transfers = self.transfers(rollup, own, more);
        let share = self.between(1_050, 2_000);
        self.offer(transfers, share, true);
    }

    /// A planted bundle, and a lure that spends its first nonce. The lure is worth more for its gas, and less beyond its cost:
    /// at least three transfers bring 0.4 of their cost or more, the lure at most 1.5 times what one of them is worth.
    fn rival(&mut self) {
        let (rollup, own) = (self.rollup(), 3 + self.rng.below(3));
        let transfers = self.transfers(rollup, own, false);
        let share = self.between(1_400, 1_800);
        let lure = transfers[..1].to_vec();
        self.offer(transfers, share, true);
        let times = self.between(1_050, 1_500);
        self.offer(lure, share * times / 1_000, false);
    }

    /// Two planted bundles, on one rollup or two, and a lure that spends the first nonces of both. Each brings at least twice
    /// 0.5 of a transfer's cost, the lure at most 1.15 times what a transfer of each is worth: less than the two together.
    fn rival_of_two(&mut self) {
        let mut lure = Vec::new();
        let mut tips = 0;
        for _ in 0..2 {
            let (rollup, own) = (self.rollup(), 2 + self.rng.below(2));
            let transfers = self.transfers(rollup, own, false);
            let share = self.between(1_500, 1_900);
            tips += self.prices[rollup] * share / 1_000;
            lure.push(transfers[0]);
            self.offer(transfers, share, true);
        }
        let tips = tips * self.between(1_050, 1_150) / 1_000;
        self.offers.push(Offer { transfers: lure, tips, planted: false });
    }

    /// A bundle that is worth a fifth of its cost, and one of the same sender, possible after it only, that makes up for it.
    fn chain(&mut self) {
        let rollup = self.rollup();
        let transfers = self.transfers(rollup, 3, false);
        let share = self.between(1_600, 2_000);
        self.offer(transfers[..1].to_vec(), 200, true);
        self.offer(transfers[1..].to_vec(), share, true);
    }

    /// Worth less than its cost. It fills what a worse proposal leaves free, and crowds out what is better.
    fn padding(&mut self) {
        let (rollup, more) = (self.rollup(), self.also_elsewhere());
        let own = 1 + self.rng.below(if more { 3 } else { 5 });
        let transfers = self.transfers(rollup, own, more);
        let share = self.between(if more { 700 } else { 400 }, 990);
        self.offer(transfers, share, false);
    }

    fn offer(&mut self, transfers: Vec<Transfer>, share: u128, planted: bool) {
        let cost: u128 = transfers.iter().map(|transfer| self.prices[transfer.rollup]).sum();
        self.offers.push(Offer { transfers, tips: cost * share / 1_000, planted });
    }

    /// That many transfers of a new user on a rollup, and, if wanted, one to three on another.
    fn transfers(&mut self, rollup: usize, own: u64, more: bool) -> Vec<Transfer> {
        let user = self.next_user;
        self.next_user += 1;
        let mut transfers: Vec<Transfer> = (0..own).map(|nonce| Transfer { user, rollup, nonce }).collect();
        if more {
            let other = (rollup + 1 + self.rng.index(self.prices.len() - 1)) % self.prices.len();
            transfers.extend((0..1 + self.rng.below(3)).map(|nonce| Transfer { user, rollup: other, nonce }));
        }
        transfers
    }

    fn rollup(&mut self) -> usize {
        self.rng.index(self.prices.len())
    }

    /// Whether a bundle spans two rollups; three in ten do where there are two.
    fn also_elsewhere(&mut self) -> bool {
        self.rng.permille(300) && self.prices.len() > 1
    }

    fn between(&mut self, least: u64, most: u64) -> u128 {
        u128::from(least + self.rng.below(most - least + 1))
    }
}

fn leave_room(view: &mut SlotView, chain: u64, gas: u64) {
    if let Some(rollup) = view.rollups.get_mut(&chain) {
        for plan in &mut Arc::make_mut(&mut rollup.slot).blocks {
            plan.next.gas_limit = gas;
        }
    }
}

#[cfg(test)]
mod tests {
    use lockstep_building::simulate_all;
    use lockstep_primitives::RollupSet;

    use super::*;
    use crate::baseline::greedy;

    #[test]
    fn what_was_planted_fits_exactly_and_is_worth_the_optimum() {
        for seed in 1..=3 {
            let planted = Planted::draw(3, 60, seed).unwrap();
            let (view, rollups) = (&planted.workload.view, planted.workload.view.rollups.keys().copied().collect::<RollupSet>());
            let best: Vec<Candidate> =
                planted.workload.candidates.iter().filter(|candidate| planted.best.contains(&candidate.hash)).cloned().collect();
            let built = greedy(view, &simulate_all(view, &best).unwrap(), &rollups).unwrap();
            assert_eq!((built.placed.len(), built.value), (best.len(), planted.optimum));
            let room: u64 = view.rollups.values().map(|rollup| rollup.slot.blocks[0].next.gas_limit).sum();
            let wanted: usize = best.iter().map(|candidate| candidate.bundle.txs().count()).sum();
            assert_eq!(room, wanted as u64 * TRANSFER_GAS);
        }
    }

    #[test]
    fn greedy_falls_for_the_lures() {
        let planted = Planted::draw(3, 120, 1).unwrap();
        let (view, candidates) = (&planted.workload.view, &planted.workload.candidates);
        let rollups: RollupSet = view.rollups.keys().copied().collect();
        let built = greedy(view, &simulate_all(view, candidates).unwrap(), &rollups).unwrap();
        assert!(built.value.is_positive() && built.value < planted.optimum, "{} of {}", built.value, planted.optimum);
    }

    #[test]
    fn a_seed_gives_the_same_instance_every_time() {
        let hashes = |seed| {
            let candidates = Planted::draw(2, 20, seed).unwrap().workload.candidates;
            candidates.iter().map(|candidate| candidate.hash).collect::<Vec<B256>>()
        };
        assert_eq!(hashes(5), hashes(5));
        assert_ne!(hashes(5), hashes(6));
    }

    #[test]
    fn an_instance_on_no_rollups_or_too_many_is_refused() {
        for rollups in [0, MAX_ROLLUPS + 1] {
            let error = Planted::draw(rollups, 4, 1).unwrap_err().to_string();
            assert!(error.contains(&rollups.to_string()), "{error}");
        }
    }
}
