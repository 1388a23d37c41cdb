//! Other ways to build, to compare with. None of this is Lockstep's; it runs on the same simulation and the same rollups.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, BinaryHeap},
    sync::Arc,
};

use alloy_primitives::{Address, B256, I256};
use lockstep_building::{Candidate, Lanes, Simulated, SlotView, open_lanes, run_bundle, simulate_all};
use lockstep_primitives::{Bundle, ChainId, Leg, Reason, RollupSet};
use lockstep_simulation::Checkpoint;
use rayon::prelude::*;

use crate::Failed;

/// What an order has to keep of what it was worth alone, in hundredths; else it goes back into the queue, once.
const KEEPS: u64 = 95;
/// How often an order goes back because it is worth less.
const RETRIES: u8 = 1;
/// So that values for gas can be compared as integers.
const SCALE: u64 = 1_000_000;

/// Blocks that were built.
#[derive(Clone, Debug, Default)]
pub struct Built {
    /// What they are worth to the proposer, in the numeraire's smallest unit.
    pub value: I256,
    /// Lockstep hashes of what is in them, with what each is worth there.
    pub placed: BTreeMap<B256, I256>,
}

/// Greedy re-execution from empty blocks: our own re-implementation of the ordering algorithm that rbuilder publishes, extended
/// to bundles over several rollups, all or nothing.
///
/// Orders go by what they were worth alone for a unit of gas. Each is executed on top of what is there; one that is worth less
/// than 95 % of what it was alone goes back once, with what it is worth now; one whose nonce is not due waits for the order that
/// makes it due.
///
/// # Errors
/// When the engine fails.
pub fn greedy(view: &SlotView, simulated: &[Simulated], rollups: &RollupSet) -> Result<Built, Failed> {
    let mut lanes = open_lanes(view, rollups)?;
    let mut queue: BinaryHeap<Order> = simulated
        .iter()
        .enumerate()
        .filter(|(_, entry)| entry.candidate.bundle.rollups().is_subset(rollups))
        .map(|(index, entry)| {
            let (value, gas) = worth(entry);
            Order { density: density(value, gas), sequence: Reverse(entry.candidate.sequence), index, value, retries: RETRIES }
        })
        .collect();
    let mut waiting: BTreeMap<(ChainId, Address, u64), Vec<Order>> = BTreeMap::new();
    let mut delivered = BTreeSet::new();
    let mut built = Built::default();
    while let Some(order) = queue.pop() {
        let Some(entry) = simulated.get(order.index) else { continue };
        let bundle = &entry.candidate.bundle;
        let marks = marks(&lanes, bundle);
        let attempt = run_bundle(view, &mut lanes, bundle, &delivered)?;
        if let Some(rejection) = attempt.blocked {
            if let (Some(chain), Reason::NonceTooHigh { signer, nonce, .. }) = (rejection.place.chain, rejection.reason) {
                waiting.entry((chain, signer, nonce)).or_default().push(order);
            }
            continue;
        }
        let value = attempt.run.value;
        let least = order.value.saturating_mul(percent(KEEPS)) / percent(100);
        if value < least || value.is_negative() {
            roll_back(&mut lanes, marks);
            if let Some(retries) = order.retries.checked_sub(1).filter(|_| !value.is_negative()) {
                let gas = attempt.run.gas.values().sum();
                queue.push(Order { density: density(value, gas), value, retries, ..order });
            }
            continue;
        }
        delivered.extend(attempt.run.delivered);
        built.take(entry.candidate.hash, value)?;
        for (chain, signer, nonce) in next_nonces(bundle) {
            queue.extend(waiting.remove(&(chain, signer, nonce)).unwrap_or_default());
        }
    }
    close(lanes)?;
    Ok(built)
}

/// A sequential loop: bundles in the order in which they arrived, each on top of those before it, by one thread.
///
/// # Errors
/// When the engine fails.
pub fn sequential(view: &SlotView, candidates: &[Candidate], rollups: &RollupSet) -> Result<Built, Failed> {
    let mut lanes = open_lanes(view, rollups)?;
    let mut delivered = BTreeSet::new();
    let mut built = Built::default();
    for candidate in candidates.iter().filter(|candidate| candidate.bundle.rollups().is_subset(rollups)) {
        let attempt = run_bundle(view, &mut lanes, &candidate.bundle, &delivered)?;
        if attempt.blocked.is_none() {
            delivered.extend(attempt.run.delivered);
            built.take(candidate.hash, attempt.run.value)?;
        }
    }
    close(lanes)?;
    Ok(built)
}

/// One builder a rollup, none of which knows of the others: what a builder sees of a bundle are the transactions on its own
/// rollup. Relays it has not: nobody signs for a message of another rollup's block that is not there yet.
#[derive(Clone, Debug)]
pub struct Independent {
    /// What each builder sees, simulated alone; the hash and sequence are those of the whole bundle.
    parts: BTreeMap<ChainId, Vec<Simulated>>,
}

impl Independent {
    /// What every builder sees of the bundles.
    ///
    /// # Errors
    /// When the engine fails.
    pub fn new(view: &SlotView, candidates: &[Candidate]) -> Result<Self, Failed> {
        let mut parts = BTreeMap::new();
        for chain in view.rollups.keys() {
            let seen: Vec<Candidate> = candidates.iter().filter_map(|candidate| part(candidate, *chain)).collect();
            parts.insert(*chain, simulate_all(view, &seen)?);
        }
        Ok(Self { parts })
    }

    /// Builds every rollup's block, greedily, rollups in parallel.
    ///
    /// # Errors
    /// When the engine fails.
    pub fn build(&self, view: &SlotView) -> Result<BTreeMap<ChainId, Built>, Failed> {
        let parts: Vec<(&ChainId, &Vec<Simulated>)> = self.parts.iter().collect();
        let built =
            parts.par_iter().map(|(chain, parts)| Ok::<_, Failed>((**chain, greedy(view, parts, &RollupSet::from([**chain]))?)));
        built.collect::<Vec<_>>().into_iter().collect()
    }
}

/// What became of the bundles that span rollups.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Legs {
    /// Landed with every leg.
    pub whole: usize,
    /// Landed with some legs and not with others: somebody paid for half of what was asked for.
    pub part: usize,
    /// Did not land at all.
    pub none: usize,
    /// What blocks are worth without the bundles that landed in part.
    pub sound_value: I256,
}

/// Counts what became of the bundles in blocks that were built without knowing of each other.
///
/// # Errors
/// When a value does not fit 256 bits.
pub fn legs(candidates: &[Candidate], blocks: &BTreeMap<ChainId, Built>) -> Result<Legs, Failed> {
    let mut legs = Legs::default();
    for candidate in candidates {
        let bundle = &candidate.bundle;
        let landed = |chain: ChainId| blocks.get(&chain).is_some_and(|built| built.placed.contains_key(&candidate.hash));
        let landed_legs = bundle.legs.iter().filter(|leg| matches!(leg, Leg::Txs { .. }) && landed(leg.chain())).count();
        let whole = landed_legs == bundle.legs.len();
        if bundle.is_cross_rollup() {
            match landed_legs {
                0 => legs.none += 1,
                _ if whole => legs.whole += 1,
                _ => legs.part += 1,
            }
        }
        if whole {
            for value in blocks.values().filter_map(|built| built.placed.get(&candidate.hash)) {
                legs.sound_value = legs.sound_value.checked_add(*value).ok_or("a value does not fit 256 bits")?;
            }
        }
    }
    Ok(legs)
}

/// What a builder of one rollup sees of a bundle.
fn part(candidate: &Candidate, chain: ChainId) -> Option<Candidate> {
    let own = |leg: &&Leg| matches!(leg, Leg::Txs { chain: on, .. } if *on == chain);
    let legs: Vec<Leg> = candidate.bundle.legs.iter().filter(own).cloned().collect();
    let blocks = candidate.bundle.blocks.iter().filter(|(on, _)| **on == chain).map(|(on, range)| (*on, *range)).collect();
    let require = candidate.bundle.require.iter().filter(|required| required.chain == chain).copied().collect();
    let bundle = Bundle { legs, blocks, require, ..(*candidate.bundle).clone() };
    (!bundle.legs.is_empty()).then(|| Candidate { bundle: Arc::new(bundle), ..candidate.clone() })
}

/// An order in the queue: the greatest value for gas goes first, among equals the one that arrived earlier.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Order {
    density: I256,
    sequence: Reverse<u64>,
    index: usize,
    value: I256,
    retries: u8,
}

impl Built {
    fn take(&mut self, hash: B256, value: I256) -> Result<(), Failed> {
        self.value = self.value.checked_add(value).ok_or("a value does not fit 256 bits")?;
        self.placed.insert(hash, value);
        Ok(())
    }
}

fn worth(entry: &Simulated) -> (I256, u64) {
    match entry.attempt.blocked {
        Some(_) => (I256::ZERO, 0),
        None => (entry.attempt.run.value, entry.attempt.run.gas.values().sum()),
    }
}

fn density(value: I256, gas: u64) -> I256 {
    value.saturating_mul(percent(SCALE)) / percent(gas.max(1))
}

fn percent(number: u64) -> I256 {
    I256::try_from(number).unwrap_or(I256::MAX)
}

fn marks(lanes: &Lanes, bundle: &Bundle) -> Vec<(ChainId, Checkpoint)> {
    let chains = bundle.rollups();
    chains.into_iter().filter_map(|chain| Some((chain, lanes.get(&chain)?.block().checkpoint()))).collect()
}

fn roll_back(lanes: &mut Lanes, marks: Vec<(ChainId, Checkpoint)>) {
    for (chain, mark) in marks {
        if let Some(lane) = lanes.get_mut(&chain) {
            lane.block_mut().rollback(mark);
        }
    }
}

/// The nonces that come after those of a bundle's transactions.
fn next_nonces(bundle: &Bundle) -> Vec<(ChainId, Address, u64)> {
    let txs = bundle.legs.iter().flat_map(|leg| leg.txs().iter().map(|tx| (leg.chain(), &tx.tx)));
    txs.map(|(chain, tx)| (chain, tx.signer(), tx.nonce().saturating_add(1))).collect()
}

/// Every way to build ends with finished blocks, or their times could not be compared.
fn close(lanes: Lanes) -> Result<(), Failed> {
    for (chain, lane) in lanes {
        lane.finish().map_err(|error| format!("rollup {chain}: {error}"))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        WorldSpec,
        workload::{Kind, Mix, Workload, fitting},
    };

    fn drawn(mix: &Mix, count: usize) -> (Workload, Vec<Simulated>, RollupSet) {
        let spec = WorldSpec { rollups: 2, pools: 6, ..WorldSpec::default() };
        let workload = Workload::draw(&spec, mix, count, 1).unwrap();
        let simulated = simulate_all(&workload.view, &workload.candidates).unwrap();
        let rollups = workload.view.rollups.keys().copied().collect();
        (workload, simulated, rollups)
    }

    #[test]
    fn with_room_for_everything_that_does_not_conflict_all_ways_earn_the_same() {
        let (workload, simulated, rollups) = drawn(&Mix::only(Kind::Transfer), 12);
        let (view, candidates) = (&workload.view, &workload.candidates);
        let greedy = greedy(view, &simulated, &rollups).unwrap();
        let sequential = sequential(view, candidates, &rollups).unwrap();
        let blocks = Independent::new(view, candidates).unwrap().build(view).unwrap();
        let independent: I256 = blocks.values().fold(I256::ZERO, |sum, built| sum + built.value);
        assert_eq!(greedy.placed.len(), 12);
        assert_eq!((greedy.value, independent), (sequential.value, sequential.value));
    }

    #[test]
    fn with_little_room_greedy_takes_the_dearest_and_the_loop_the_first() {
        let (workload, simulated, rollups) = drawn(&Mix::only(Kind::Transfer), 400);
        let view = fitting(&workload.view, &simulated, 300);
        let greedy = greedy(&view, &simulated, &rollups).unwrap();
        let sequential = sequential(&view, &workload.candidates, &rollups).unwrap();
        assert!(greedy.placed.len() < 400 && greedy.value > sequential.value);
    }

    #[test]
    fn nonce_chains_are_placed_whole_though_only_their_first_can_run_alone() {
        let (workload, simulated, rollups) = drawn(&Mix::only(Kind::NonceChain), 10);
        assert_eq!(greedy(&workload.view, &simulated, &rollups).unwrap().placed.len(), 10);
    }

    #[test]
    fn independent_builders_burn_what_nobody_mints() {
        let (workload, ..) = drawn(&Mix::only(Kind::Cctp), 6);
        let blocks = Independent::new(&workload.view, &workload.candidates).unwrap().build(&workload.view).unwrap();
        let counted = legs(&workload.candidates, &blocks).unwrap();
        assert_eq!((counted.whole, counted.part, counted.none), (0, 6, 0));
        assert_eq!(counted.sound_value, I256::ZERO);
    }
}
