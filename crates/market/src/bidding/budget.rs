//! No more than so much in an hour.

use std::collections::VecDeque;

use alloy_primitives::U256;
use lockstep_primitives::{RollupSet, SlotNumber};

use super::{BidResult, BiddingStrategy, Valued};
use crate::cover::disjoint_bound;

/// How many slots' spendings are remembered. With more in an hour the oldest are taken together, which counts them longer.
pub const MAX_SPENDINGS: usize = 4_096;

/// How long what was spent counts.
const HOUR_MS: u64 = 3_600_000;

/// Another strategy, held to a budget: of what it would bid, in its order, as much as may still be owed within the hour. What was
/// bid counts, as far as it may all win, until it is known what was won; then what was won counts for an hour.
#[derive(Debug)]
pub struct Budget {
    strategy: Box<dyn BiddingStrategy>,
    per_hour: U256,
    /// When, for which slot, and how much; of slots that are not known yet what they may cost.
    spent: VecDeque<(u64, SlotNumber, U256)>,
}

impl Budget {
    /// A strategy with so much to spend in any hour, in the numeraire's smallest unit.
    pub fn new(strategy: Box<dyn BiddingStrategy>, per_hour: U256) -> Self {
        Self { strategy, per_hour, spent: VecDeque::new() }
    }

    fn left(&mut self, now_ms: u64) -> U256 {
        while self.spent.front().is_some_and(|(at_ms, ..)| now_ms.saturating_sub(*at_ms) >= HOUR_MS) {
            self.spent.pop_front();
        }
        let spent = self.spent.iter().fold(U256::ZERO, |sum, (.., amount)| sum.saturating_add(*amount));
        self.per_hour.saturating_sub(spent)
    }

    fn note(&mut self, now_ms: u64, slot: SlotNumber, amount: U256) {
        self.spent.push_back((now_ms, slot, amount));
        if self.spent.len() > MAX_SPENDINGS
            && let Some((.., oldest)) = self.spent.pop_front()
            && let Some((.., next)) = self.spent.front_mut()
        {
            *next = next.saturating_add(oldest);
        }
    }
}

impl BiddingStrategy for Budget {
    fn name(&self) -> &'static str {
        self.strategy.name()
    }

    fn bid(&mut self, slot: SlotNumber, now_ms: u64, packages: &[Valued]) -> Vec<Option<U256>> {
        let left = self.left(now_ms);
        let mut offers = self.strategy.bid(slot, now_ms, packages);
        let mut owed = U256::ZERO;
        let mut held: Vec<(&RollupSet, U256)> = Vec::new();
        for (package, offer) in packages.iter().zip(&mut offers) {
            let Some(amount) = *offer else { continue };
            held.push((&package.rollups, amount));
            let needed = disjoint_bound(held.iter().copied());
            if needed > left {
                held.pop();
                *offer = None;
            } else {
                owed = needed;
            }
        }
        if !owed.is_zero() {
            self.note(now_ms, slot, owed);
        }
        offers
    }

    fn observe(&mut self, slot: SlotNumber, results: &[BidResult]) {
        let owed = results.iter().filter_map(|result| result.price).fold(U256::ZERO, |sum, price| sum.saturating_add(price));
        for (_, of, amount) in &mut self.spent {
            if *of == slot {
                *amount = owed;
            }
        }
        self.spent.retain(|(.., amount)| !amount.is_zero());
        self.strategy.observe(slot, results);
    }
}
