//! What a builder bids: strategies, from what proposals are worth and what became of earlier bids.
//!
//! A strategy is told what each set of rollups is worth to its builder in a slot and answers what to offer for each. Offers are never
//! above the worth, and never below the reserve. Later it is told what was won, and at what price. It reads no clock and draws
//! nothing: the same history gives the same bids.

mod budget;
mod forecast;
mod shaded;
mod share;

pub use budget::{Budget, MAX_SPENDINGS};
pub use forecast::{Forecast, MAX_FORECAST_SETS, MAX_FORECAST_WINDOW};
pub use shaded::Shaded;
pub use share::Share;

use std::fmt;

use alloy_primitives::U256;
use lockstep_primitives::{RollupSet, SlotNumber};

/// All of a value, in basis points.
pub(crate) const WHOLE_BPS: u64 = 10_000;

/// A set of rollups, and what its slot is worth to the builder. Amounts are in the numeraire's smallest unit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Valued {
    /// The set.
    pub rollups: RollupSet,
    /// What proposing on all of them is worth.
    pub value: U256,
    /// The sum of what their sellers ask for.
    pub reserve: U256,
}

/// What became of a bid.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BidResult {
    /// What was bid for.
    pub rollups: RollupSet,
    /// What was offered.
    pub offered: U256,
    /// What it won for; `None` when it lost.
    pub price: Option<U256>,
}

/// How to bid.
pub trait BiddingStrategy: fmt::Debug + Send {
    /// What configurations and logs call it.
    fn name(&self) -> &'static str;

    /// What to offer for each package, in their order; `None` for nothing. `now_ms` is in Unix milliseconds.
    fn bid(&mut self, slot: SlotNumber, now_ms: u64, packages: &[Valued]) -> Vec<Option<U256>>;

    /// Takes what became of a slot's bids: of all that were sent, won or lost.
    fn observe(&mut self, slot: SlotNumber, results: &[BidResult]);
}

/// A part of a value, at least the reserve, where the value is.
fn part(package: &Valued, bps: u64) -> Option<U256> {
    let (whole, rest) = package.value.div_rem(U256::from(WHOLE_BPS));
    let bps = U256::from(bps.min(WHOLE_BPS));
    let wanted = whole * bps + rest * bps / U256::from(WHOLE_BPS);
    (package.value >= package.reserve).then(|| wanted.max(package.reserve))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn package(rollups: u64, value: u64, reserve: u64) -> Valued {
        Valued { rollups: (0..rollups).collect(), value: U256::from(value), reserve: U256::from(reserve) }
    }

    fn offers(strategy: &mut dyn BiddingStrategy, slot: u64, packages: &[Valued]) -> Vec<Option<u64>> {
        strategy.bid(slot, slot * 1_000, packages).into_iter().map(|offer| offer.map(|offer| offer.to())).collect()
    }

    fn result(package: &Valued, offered: u64, won: bool) -> BidResult {
        let offered = U256::from(offered);
        BidResult { rollups: package.rollups.clone(), offered, price: won.then_some(offered) }
    }

    #[test]
    fn a_share_is_bid_where_the_value_is_worth_the_reserve() {
        let packages = [package(1, 100, 10), package(2, 100, 95), package(1, 100, 100), package(1, 100, 101), package(1, 0, 0)];
        let share = &mut Share { bps: 9_000 };
        assert_eq!(offers(share, 1, &packages), [Some(90), Some(95), Some(100), None, Some(0)]);
        let whole = Valued { value: U256::MAX, ..package(1, 0, 0) };
        assert_eq!(Share { bps: 10_000 }.bid(1, 0, &[whole]), [Some(U256::MAX)]);
    }

    #[test]
    fn shading_rises_with_losses_and_falls_with_wins_by_the_size_of_the_package() {
        let mut shaded = Shaded::new(5_000, 9_000, 1_000);
        let (single, pair) = (package(1, 1_000, 0), package(2, 1_000, 0));
        let packages = [single.clone(), pair];
        assert_eq!(offers(&mut shaded, 1, &packages), [Some(700), Some(700)], "it begins in the middle");
        shaded.observe(1, &[result(&single, 700, false)]);
        assert_eq!(offers(&mut shaded, 2, &packages), [Some(800), Some(700)]);
        for slot in 2..9 {
            shaded.observe(slot, &[result(&single, 800, false)]);
        }
        assert_eq!(offers(&mut shaded, 9, &packages), [Some(900), Some(700)], "no more than the most");
        for slot in 9..30 {
            shaded.observe(slot, &[result(&single, 900, true)]);
        }
        assert_eq!(offers(&mut shaded, 30, &packages), [Some(500), Some(700)], "no less than the least");
    }

    #[test]
    fn a_budget_counts_what_may_be_owed_and_what_was() {
        let mut budget = Budget::new(Box::new(Share { bps: 10_000 }), U256::from(1_000));
        let (a, b) = (package(1, 600, 0), package(2, 900, 0));
        // Both overlap, so they cannot both win; but what the second may cost beside the first does not fit any more.
        assert_eq!(offers(&mut budget, 1, &[a.clone(), b.clone()]), [Some(600), None]);
        // Nothing is owed for what was lost.
        budget.observe(1, &[result(&a, 600, false)]);
        assert_eq!(offers(&mut budget, 2, std::slice::from_ref(&b)), [Some(900)]);
        budget.observe(2, &[result(&b, 900, true)]);
        assert_eq!(offers(&mut budget, 3, &[a.clone(), package(1, 100, 0)]), [None, Some(100)]);
        budget.observe(3, &[]);
        // An hour later it is forgotten.
        assert_eq!(offers(&mut budget, 3_603, std::slice::from_ref(&a)), [Some(600)]);
    }

    #[test]
    fn within_any_hour_no_more_than_the_budget_is_won_and_no_offer_is_above_its_value() {
        let mut state = 7_u64;
        let mut next = |below: u64| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state % below
        };
        let limit = 5_000;
        let mut budget = Budget::new(Box::new(Shaded::new(3_000, 10_000, 500)), U256::from(limit));
        let mut spent: Vec<(u64, u64)> = Vec::new();
        for slot in 0..5_000 {
            let packages: Vec<Valued> = (0..next(4)).map(|_| package(1 + next(3), next(900), next(200))).collect();
            let now_ms = slot * 20_000;
            let offers = budget.bid(slot, now_ms, &packages);
            let mut results = Vec::new();
            // All packages here overlap, so one wins at the most.
            let mut sold = false;
            for (package, offer) in packages.iter().zip(offers) {
                let Some(offer) = offer else { continue };
                assert!(offer <= package.value && offer >= package.reserve);
                let price = (!sold && next(2) == 0).then(|| offer - offer / U256::from(3));
                sold |= price.is_some();
                spent.extend(price.map(|price| (now_ms, price.to::<u64>())));
                results.push(BidResult { rollups: package.rollups.clone(), offered: offer, price });
            }
            budget.observe(slot, &results);
            let hour: u64 = spent.iter().filter(|(at_ms, _)| now_ms - at_ms < 3_600_000).map(|(_, price)| price).sum();
            assert!(hour <= limit, "slot {slot}: {hour}");
        }
    }
}
