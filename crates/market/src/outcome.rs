//! What an auction yields.

use std::collections::BTreeMap;

use alloy_primitives::U256;
use lockstep_primitives::{Allocation, ChainId, Grant, RollupSet};

use crate::{AcceptedBid, MAX_SEARCH_NODES, Sale, floors, split, winner};

/// The outcome of a slot's auction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Who proposes where and what each proposer owes: one grant for each winning bid, and one at price zero to its
    /// default proposer for each other rollup with a block, ordered by smallest chain id.
    pub allocation: Allocation,
    /// All bids, winning or not, ordered by digest and bidder.
    pub bids: Vec<AcceptedBid>,
    /// Which of `bids` won, in ascending order.
    pub winners: Vec<usize>,
    /// By how much the winning bids together are above the reserves of what they bought.
    pub surplus: U256,
    /// What each rollup on sale is paid; zero where nobody bought. The sum is that of the prices, to the wei.
    pub proceeds: BTreeMap<ChainId, U256>,
    /// Whether no other choice of bids is better. `false` when the search reached [`MAX_SEARCH_NODES`].
    pub optimal: bool,
}

impl Outcome {
    /// Determines the winners of a sale.
    ///
    /// The bidders are taken as recovered. A bid that is no bid for this sale (see [`Sale::surplus`]) wins nothing.
    pub fn decide(sale: &Sale, mut bids: Vec<AcceptedBid>) -> Self {
        bids.sort_by_key(AcceptedBid::order);
        bids.dedup_by_key(|accepted| accepted.order());
        let floors = floors(sale, &bids);
        let choice = winner::solve(sale, &bids, &floors, MAX_SEARCH_NODES);

        let mut proceeds: BTreeMap<ChainId, U256> = sale.terms().keys().map(|chain| (*chain, U256::ZERO)).collect();
        let mut grants = Vec::new();
        let mut sold = RollupSet::new();
        for winner in &choice.winners {
            let AcceptedBid { bidder, bid, .. } = &bids[*winner];
            // What is sold by itself displaces no other sale: its sellers' due is their reserves.
            let reserve = |chain| sale.terms().get(chain).map(|terms| terms.reserve);
            let unit = sale.units().is_unit(&bid.rollups);
            let due = |chain| if unit { reserve(chain) } else { floors.get(chain).copied() };
            let sellers: Vec<(ChainId, U256)> = bid.rollups.iter().filter_map(|chain| Some((*chain, due(chain)?))).collect();
            proceeds.extend(split(bid.amount, &sellers));
            sold.extend(&bid.rollups);
            grants.push(Grant { proposer: *bidder, rollups: bid.rollups.clone(), price: bid.amount });
        }
        let by_default = sale.default_proposers(&sold).into_iter();
        grants.extend(by_default.map(|(chain, proposer)| Grant { proposer, rollups: [chain].into(), price: U256::ZERO }));
        grants.sort_by_key(|grant| grant.rollups.first().copied());

        Self {
            allocation: Allocation { slot: sale.slot(), grants },
            bids,
            winners: choice.winners,
            surplus: choice.surplus,
            proceeds,
            optimal: choice.optimal,
        }
    }

    /// The bids that won, ordered by digest and bidder.
    pub fn winning_bids(&self) -> impl Iterator<Item = &AcceptedBid> {
        self.winners.iter().filter_map(|winner| self.bids.get(*winner))
    }
}
