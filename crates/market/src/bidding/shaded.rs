//! A share of what a proposal is worth that follows wins and losses.

use std::collections::BTreeMap;

use alloy_primitives::U256;
use lockstep_primitives::SlotNumber;

use super::{BidResult, BiddingStrategy, Valued, WHOLE_BPS, part};

/// Bids a part of the worth, more after losses and less after wins, by the number of rollups of the package: where winners pay what
/// they bid, the least that wins is best, and what that is only wins and losses tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shaded {
    least_bps: u64,
    most_bps: u64,
    step_bps: u64,
    /// By the size of the package; in the middle where nothing was seen. There are as many sizes as rollups in a sale.
    parts: BTreeMap<usize, u64>,
}

impl Shaded {
    /// Bids between two parts, in basis points, and moves by a step after each slot in which packages of a size were bid for.
    pub fn new(least_bps: u64, most_bps: u64, step_bps: u64) -> Self {
        let most_bps = most_bps.min(WHOLE_BPS);
        Self { least_bps: least_bps.min(most_bps), most_bps, step_bps, parts: BTreeMap::new() }
    }

    fn part(&self, size: usize) -> u64 {
        self.parts.get(&size).copied().unwrap_or_else(|| self.least_bps.midpoint(self.most_bps))
    }
}

impl BiddingStrategy for Shaded {
    fn name(&self) -> &'static str {
        "shaded"
    }

    fn bid(&mut self, _slot: SlotNumber, _now_ms: u64, packages: &[Valued]) -> Vec<Option<U256>> {
        packages.iter().map(|package| part(package, self.part(package.rollups.len()))).collect()
    }

    fn observe(&mut self, _slot: SlotNumber, results: &[BidResult]) {
        // Of overlapping packages of one size only some can win: one that did is a win of the size.
        let mut won: BTreeMap<usize, bool> = BTreeMap::new();
        for result in results {
            *won.entry(result.rollups.len()).or_default() |= result.price.is_some();
        }
        for (size, won) in won {
            let part = self.part(size);
            let next = if won { part.saturating_sub(self.step_bps) } else { part.saturating_add(self.step_bps) };
            self.parts.insert(size, next.clamp(self.least_bps, self.most_bps));
        }
    }
}
