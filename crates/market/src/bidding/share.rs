//! A fixed share of what a proposal is worth.

use alloy_primitives::U256;
use lockstep_primitives::SlotNumber;

use super::{BidResult, BiddingStrategy, Valued, part};

/// Bids a part of the worth, the same always. With all of it, it is truthful, which is best where winners pay what others bid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share {
    /// Which part, in basis points, at most 10000.
    pub bps: u64,
}

impl BiddingStrategy for Share {
    fn name(&self) -> &'static str {
        "share"
    }

    fn bid(&mut self, _slot: SlotNumber, _now_ms: u64, packages: &[Valued]) -> Vec<Option<U256>> {
        packages.iter().map(|package| part(package, self.bps)).collect()
    }

    fn observe(&mut self, _slot: SlotNumber, _results: &[BidResult]) {}
}
