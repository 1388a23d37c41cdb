//! The combinatorial auction with core-selecting payments.
//!
//! ```text
//!  winners: as in the combinatorial auction
//!  VCG:     what the others lose by a winner's being there      (can be so low that losers together would have paid the sellers more)
//!  core:    no losers, with or without some winners, would have paid the sellers more together than they get
//!  prices:  of the core, the one nearest to VCG by the sum of squares
//! ```
//!
//! Ausubel and Milgrom (2002), "Ascending Auctions with Package Bidding", on why VCG alone is not enough; Day and Raghavan (2007),
//! "Fair Payments for Efficient Allocations in Public Sector Combinatorial Auctions", on finding the core's constraints one by one;
//! Erdil and Klemperer (2010), "A New Payment Rule for Core-Selecting Package Auctions", on which point of it to take.

mod coalitions;
mod nearest;

use std::collections::BTreeMap;

use alloy_primitives::{Address, B256, U256, U512};
use lockstep_primitives::{ChainId, RollupSet};

use self::{
    coalitions::{Blocking, Coalitions, Winner},
    nearest::{Agent, Demand, nearest},
};
use super::{Clearing, Mechanism, Win};
use crate::{
    AcceptedBid, MAX_SEARCH_NODES, Sale, Sharing,
    payment::{second_price_floors, share_out},
    winner,
};

/// How many constraints of the core are looked for.
const MAX_DEMANDS: usize = 256;

/// Sells packages to the bids with the greatest surplus over the reserves together, at prices that no others would have bettered
/// for the sellers, and of those at the ones nearest to what each winner's being there costs the others. For a single rollup that
/// is the second greatest bid.
///
/// Bidders have less reason to offer less than a package is worth than where they pay what they bid, though more than in a
/// second-price auction of one thing. A bidder does not compete with itself: its own other bids raise no price of its.
///
/// A package must pay each of its sellers at least what a sale of that seller's unit alone would have paid it by the same rule. Who
/// wins several packages pays one amount for all that bids and tags tie together, shared over them by what each is bid for beyond
/// what its sellers must get.
///
/// More than 20 rollups that bids tie together, or more bids than can be looked at in time, are sold at what is bid, which is in
/// the core too; [`Clearing::as_bid`] says so.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CoreSelecting {
    /// How sellers share a package's price.
    pub sharing: Sharing,
}

impl Mechanism for CoreSelecting {
    fn name(&self) -> &'static str {
        "core-selecting"
    }

    fn clear(&self, sale: &Sale, offers: &[AcceptedBid], _seed: B256) -> Clearing {
        let floors = second_price_floors(sale, offers);
        let choice = winner::solve(sale, offers, &floors, MAX_SEARCH_NODES);
        let mut work = MAX_SEARCH_NODES;
        let mut wins = Vec::new();
        let mut as_bid = RollupSet::new();
        for component in winner::components_of(sale, offers, &floors) {
            let within = |winner: &&usize| offers.get(**winner).is_some_and(|offer| !offer.bid.rollups.is_disjoint(&component));
            let winners: Vec<usize> = choice.winners.iter().filter(within).copied().collect();
            let bought = Bought::by_bidder(sale, offers, &floors, &winners);
            let payments = core_payments(sale, offers, &floors, &component, &bought, &mut work);
            if payments.is_none() {
                let sold = winners.iter().filter_map(|winner| offers.get(*winner));
                as_bid.extend(sold.flat_map(|offer| offer.bid.rollups.iter().copied()));
            }
            for (index, bought) in bought.iter().enumerate() {
                let over_reserve = payments.as_ref().and_then(|payments| payments.get(index)).copied().unwrap_or(bought.most);
                for (winner, price) in bought.winners.iter().zip(bought.prices(over_reserve)) {
                    let Some(AcceptedBid { bidder, bid, digest }) = offers.get(*winner) else { continue };
                    let shares = self.sharing.share(price, &bid.rollups, &floors, sale, offers);
                    wins.push(Win { bid: *digest, bidder: *bidder, rollups: bid.rollups.clone(), price, shares });
                }
            }
        }
        Clearing { as_bid, ..Clearing::new(wins, choice.gap) }
    }
}

/// What a bidder wins of rollups that are tied together. Amounts are beyond the reserves where nothing else is said.
#[derive(Debug)]
struct Bought {
    bidder: Address,
    /// Its winning offers.
    winners: Vec<usize>,
    /// By winning offer: the reserves, the least that it has to pay, and what it offers, reserves included.
    bounds: Vec<(U256, U256, U256)>,
    least: U256,
    most: U256,
}

impl Bought {
    fn by_bidder(sale: &Sale, offers: &[AcceptedBid], floors: &BTreeMap<ChainId, U256>, winners: &[usize]) -> Vec<Self> {
        let mut by_bidder: BTreeMap<Address, Self> = BTreeMap::new();
        for winner in winners {
            let Some(AcceptedBid { bidder, bid, .. }) = offers.get(*winner) else { continue };
            let reserve = sale.reserve(&bid.rollups);
            let owed = bid.rollups.iter().filter_map(|chain| floors.get(chain));
            let owed = owed.fold(U256::ZERO, |sum, floor| sum.saturating_add(*floor));
            let least = if sale.units().is_unit(&bid.rollups) { reserve } else { owed };
            let new = || Self { bidder: *bidder, winners: Vec::new(), bounds: Vec::new(), least: U256::ZERO, most: U256::ZERO };
            let bought = by_bidder.entry(*bidder).or_insert_with(new);
            bought.winners.push(*winner);
            bought.bounds.push((reserve, least, bid.amount));
            bought.least += least - reserve;
            bought.most += bid.amount - reserve;
        }
        by_bidder.into_values().collect()
    }

    /// What each winning offer pays when all of them pay so much beyond the reserves.
    fn prices(&self, over_reserve: U256) -> Vec<U256> {
        let room: Vec<U512> = self.bounds.iter().map(|(_, least, most)| U512::from(most - least)).collect();
        let rest = share_out(over_reserve.saturating_sub(self.least), &room);
        self.bounds.iter().zip(rest).map(|((_, least, _), rest)| least + rest).collect()
    }
}

/// What each winner pays beyond the reserves; `None` when that cannot be computed in time.
fn core_payments(
    sale: &Sale,
    offers: &[AcceptedBid],
    floors: &BTreeMap<ChainId, U256>,
    component: &RollupSet,
    bought: &[Bought],
    work: &mut u64,
) -> Option<Vec<U256>> {
    let winners: Vec<Winner> = bought.iter().map(|bought| Winner { bidder: bought.bidder, surplus: bought.most }).collect();
    let coalitions = Coalitions::new(sale, offers, floors, component, &winners, work)?;
    let mut agents = Vec::with_capacity(bought.len());
    for (index, bought) in bought.iter().enumerate() {
        // Without it the others would have that much; with it they have what is not its own.
        let without = coalitions.value_without(index, work)?;
        let others = winners.iter().zip(0..).filter(|(_, other)| *other != index);
        let others = others.fold(U256::ZERO, |sum, (other, _)| sum.saturating_add(other.surplus));
        let vcg = without.saturating_sub(others).clamp(bought.least, bought.most);
        agents.push(Agent { wanted: vcg, most: bought.most });
    }
    let mut demands: Vec<Demand> = Vec::new();
    loop {
        let payments = nearest(&agents, &demands);
        let Some(Blocking { payers, at_least }) = coalitions.blocking(&payments, work)? else { return Some(payments) };
        if demands.len() >= MAX_DEMANDS {
            return None;
        }
        demands.push(Demand { payers, at_least });
    }
}
