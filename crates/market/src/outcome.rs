//! What an auction yields.

use std::collections::BTreeMap;

use alloy_primitives::{B256, U256};
use lockstep_primitives::{Allocation, ChainId, Grant, RollupSet};

use crate::{AcceptedBid, Clearing, Mechanism, Sale, Win};

/// The outcome of a slot's auction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Who proposes where and what each proposer owes: one grant for each winning bid, and one at price zero to its
    /// default proposer for each other rollup with a block, ordered by smallest chain id.
    pub allocation: Allocation,
    /// All bids, winning or not, ordered by digest and bidder.
    pub bids: Vec<AcceptedBid>,
    /// What was won, by the lowest rollup of each.
    pub wins: Vec<Win>,
    /// What each rollup on sale is paid; zero where nobody bought. The sum is that of the prices, to the wei.
    pub proceeds: BTreeMap<ChainId, U256>,
    /// By how much the surplus over the reserves may be below the greatest there is. Zero when the search was complete.
    pub gap: U256,
    /// Rollups whose winners pay what they bid, because less could not be computed in time ([`crate::Clearing::as_bid`]).
    pub as_bid: RollupSet,
}

impl Outcome {
    /// Has a mechanism decide a sale.
    ///
    /// The bidders are taken as recovered. A bid that is no bid for this sale (see [`Sale::surplus`]) wins nothing. `seed` is what
    /// draws are made with; nobody may know it before the bids are fixed.
    pub fn decide(mechanism: &dyn Mechanism, sale: &Sale, bids: Vec<AcceptedBid>, seed: B256) -> Self {
        Self::decide_beside(mechanism, sale, bids, Vec::new(), seed)
    }

    /// As [`Outcome::decide`], beside what was won before: `held` holds where no bid of this sale wins.
    pub(crate) fn decide_beside(
        mechanism: &dyn Mechanism,
        sale: &Sale,
        mut bids: Vec<AcceptedBid>,
        held: Vec<Win>,
        seed: B256,
    ) -> Self {
        bids.sort_by_key(AcceptedBid::order);
        bids.dedup_by_key(|accepted| accepted.order());
        let mut clearing = mechanism.clear(sale, &bids, seed);
        let sold: RollupSet = clearing.wins.iter().flat_map(|win| win.rollups.iter().copied()).collect();
        clearing.wins.extend(held.into_iter().filter(|win| win.rollups.is_disjoint(&sold)));
        clearing.wins.sort_by_key(|win| win.rollups.first().copied());
        Self::of(clearing, sale, bids)
    }

    /// The outcome of what was decided about bids that are ordered by digest and bidder, or about none.
    pub(crate) fn of(clearing: Clearing, sale: &Sale, bids: Vec<AcceptedBid>) -> Self {
        let mut proceeds: BTreeMap<ChainId, U256> = sale.terms().keys().map(|chain| (*chain, U256::ZERO)).collect();
        let mut grants = Vec::new();
        let mut sold = RollupSet::new();
        for win in &clearing.wins {
            proceeds.extend(win.shares.clone());
            sold.extend(&win.rollups);
            grants.push(Grant { proposer: win.bidder, rollups: win.rollups.clone(), price: win.price });
        }
        let by_default = sale.default_proposers(&sold).into_iter();
        grants.extend(by_default.map(|(chain, proposer)| Grant { proposer, rollups: [chain].into(), price: U256::ZERO }));
        grants.sort_by_key(|grant| grant.rollups.first().copied());

        let allocation = Allocation { slot: sale.slot(), grants };
        Self { allocation, bids, wins: clearing.wins, proceeds, gap: clearing.gap, as_bid: clearing.as_bid }
    }

    /// Which of the bids won, in ascending order.
    pub fn winners(&self) -> Vec<usize> {
        let won =
            |accepted: &AcceptedBid| self.wins.iter().any(|win| (win.bid, win.bidder) == (accepted.digest, accepted.bidder));
        self.bids.iter().enumerate().filter(|(_, accepted)| won(accepted)).map(|(index, _)| index).collect()
    }

    /// The bids that won, ordered by digest and bidder.
    pub fn winning_bids(&self) -> impl Iterator<Item = &AcceptedBid> {
        self.winners().into_iter().filter_map(|winner| self.bids.get(winner))
    }
}
