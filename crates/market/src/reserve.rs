//! The least that a seller asks for: fixed, by schedule, or what its default proposer would earn without a sale.
//!
//! The **implied reserve** is what the default proposer typically earned, or would have earned, in recent slots. With
//! [`ImpliedMeasure::Mean`] a seller that sold every slot of the window at the reserve would have got at least what it would have
//! earned itself: in expectation selling is no worse, as far as the next slots are like the last ones. With
//! [`ImpliedMeasure::Median`] single slots of great value do not move the reserve, but where earnings are skewed, as extractable
//! value is, the median is below the mean, and a sale at no more than the reserve loses the difference. Which of both happened is
//! told by [`EarningsHistory::regret`].

mod error;
mod history;
mod versions;

pub use error::ReserveError;
pub use history::{Earnings, EarningsHistory, Figure, MAX_EARNINGS, MAX_HISTORY_SLOTS, Regret};
pub use versions::{MAX_PAST_VERSIONS, MAX_PENDING_VERSIONS, Version, VersionError, Versions};

use alloy_primitives::U256;
use lockstep_primitives::{ChainId, ImpliedMeasure, ImpliedReserve, ReserveRule, SlotNumber};

use crate::MAX_AMOUNT;

/// How many steps a schedule of reserves has at the most.
pub const MAX_RESERVE_STEPS: usize = 64;

/// Whether a rule makes sense for `chain`.
///
/// # Errors
/// Names what does not: a schedule without steps or with more than [`MAX_RESERVE_STEPS`], a window or a number of samples out of
/// range, an amount above [`MAX_AMOUNT`], which nobody may bid.
pub fn check_reserve(chain: ChainId, rule: &ReserveRule) -> Result<(), ReserveError> {
    match rule {
        ReserveRule::Fixed(reserve) => check_amount(chain, *reserve),
        ReserveRule::Schedule(steps) if steps.is_empty() || steps.len() > MAX_RESERVE_STEPS => {
            Err(ReserveError::NumberOfSteps { chain, steps: steps.len(), limit: MAX_RESERVE_STEPS })
        }
        ReserveRule::Schedule(steps) => steps.values().try_for_each(|reserve| check_amount(chain, *reserve)),
        ReserveRule::Implied(implied) => {
            let ImpliedReserve { window, min_samples, floor, .. } = *implied;
            let limit = MAX_HISTORY_SLOTS as u64;
            if window == 0 || window > limit {
                return Err(ReserveError::Window { chain, window, limit });
            }
            if min_samples == 0 || min_samples > window {
                return Err(ReserveError::MinSamples { chain, min_samples, window });
            }
            check_amount(chain, floor)
        }
    }
}

/// The reserve of a rule for `slot`; `None` before the first step of a schedule.
///
/// `before` is the first slot whose earnings do not count: the slot that was running when the auction for `slot` opened, so that
/// the reserve is known to all who bid and no longer moves. Earnings of `slot` itself and of later ones never count.
pub fn reserve_at(rule: &ReserveRule, slot: SlotNumber, before: SlotNumber, history: &EarningsHistory) -> Option<U256> {
    match rule {
        ReserveRule::Fixed(reserve) => Some(*reserve),
        ReserveRule::Schedule(steps) => steps.range(..=slot).next_back().map(|(_, reserve)| *reserve),
        ReserveRule::Implied(implied) => Some(implied_reserve(implied, before.min(slot), history)),
    }
}

fn implied_reserve(rule: &ImpliedReserve, before: SlotNumber, history: &EarningsHistory) -> U256 {
    let samples = history.samples(rule.basis, before.saturating_sub(rule.window), before);
    if (samples.len() as u64) < rule.min_samples {
        return rule.floor;
    }
    let typical = match rule.measure {
        ImpliedMeasure::Median => median(samples),
        ImpliedMeasure::Mean => mean(&samples),
    };
    typical.map_or(rule.floor, |typical| typical.max(rule.floor))
}

fn check_amount(chain: ChainId, reserve: U256) -> Result<(), ReserveError> {
    if reserve > MAX_AMOUNT {
        return Err(ReserveError::ReserveTooLarge { chain, reserve });
    }
    Ok(())
}

/// The middle one of the amounts; of an even number of them the mean of the two in the middle, rounded up, because a reserve must
/// not be below what it stands for. `None` of none.
pub fn median(mut amounts: Vec<U256>) -> Option<U256> {
    amounts.sort_unstable();
    let middle = amounts.len() / 2;
    let upper = *amounts.get(middle)?;
    if !amounts.len().is_multiple_of(2) {
        return Some(upper);
    }
    let lower = *amounts.get(middle.checked_sub(1)?)?;
    Some(lower + (upper - lower).div_ceil(U256::from(2)))
}

/// Sums of all that a history holds fit into 256 bits, see [`MAX_EARNINGS`].
fn mean(amounts: &[U256]) -> Option<U256> {
    let sum = amounts.iter().fold(U256::ZERO, |sum, amount| sum + *amount);
    (!amounts.is_empty()).then(|| sum.div_ceil(U256::from(amounts.len())))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use lockstep_primitives::ImpliedBasis;

    use super::*;

    const CHAIN: ChainId = 10;

    fn amount(value: u64) -> U256 {
        U256::from(value)
    }

    fn middle(values: &[u64]) -> Option<U256> {
        median(values.iter().copied().map(amount).collect())
    }

    /// A history in which the default proposer earned these amounts in slots 0, 1, 2 and so on.
    fn earned(values: &[u64]) -> EarningsHistory {
        let mut history = EarningsHistory::new(CHAIN);
        for (value, slot) in values.iter().zip(0..) {
            history.record(slot, Figure::Earned(amount(*value)), slot).unwrap();
        }
        history
    }

    const IMPLIED: ImpliedReserve = ImpliedReserve {
        basis: ImpliedBasis::Posted,
        measure: ImpliedMeasure::Median,
        window: 4,
        min_samples: 3,
        floor: U256::from_limbs([5, 0, 0, 0]),
    };

    #[test]
    fn a_median_is_defined_for_every_number_of_amounts() {
        assert_eq!(middle(&[]), None);
        assert_eq!(middle(&[7]), Some(amount(7)));
        assert_eq!(middle(&[9, 1, 4]), Some(amount(4)));
        assert_eq!(middle(&[1, 2]), Some(amount(2)), "rounded up");
        assert_eq!(middle(&[8, 1, 4, 100]), Some(amount(6)));
        assert_eq!(median(vec![U256::MAX, U256::MAX - U256::ONE]), Some(U256::MAX));
    }

    #[test]
    fn a_schedule_steps_and_begins_with_its_first_step() {
        let rule = ReserveRule::Schedule([(10, amount(3)), (20, amount(1))].into());
        let none = EarningsHistory::new(CHAIN);
        let reserve = |slot| reserve_at(&rule, slot, slot, &none);
        assert_eq!([reserve(10), reserve(19), reserve(20), reserve(u64::MAX)], [3, 3, 1, 1].map(|value| Some(amount(value))));
        assert_eq!(reserve(9), None);
    }

    #[test]
    fn rules_without_a_meaning_are_refused() {
        let implied = |change: fn(&mut ImpliedReserve)| {
            let mut implied = IMPLIED;
            change(&mut implied);
            ReserveRule::Implied(implied)
        };
        let many = (0..=MAX_RESERVE_STEPS as u64).map(|slot| (slot, U256::ZERO)).collect();
        let bad = [
            (ReserveRule::Fixed(MAX_AMOUNT + U256::ONE), "reserve_too_large"),
            (ReserveRule::Schedule(BTreeMap::from([(1, U256::MAX)])), "reserve_too_large"),
            (ReserveRule::Schedule(BTreeMap::new()), "reserve_steps"),
            (ReserveRule::Schedule(many), "reserve_steps"),
            (implied(|rule| rule.window = 0), "reserve_window"),
            (implied(|rule| rule.window = MAX_HISTORY_SLOTS as u64 + 1), "reserve_window"),
            (implied(|rule| rule.min_samples = 0), "reserve_min_samples"),
            (implied(|rule| rule.min_samples = 5), "reserve_min_samples"),
            (implied(|rule| rule.floor = U256::MAX), "reserve_too_large"),
        ];
        for (rule, code) in bad {
            assert_eq!(check_reserve(CHAIN, &rule).unwrap_err().code(), code, "{rule:?}");
        }
        assert_eq!(check_reserve(CHAIN, &ReserveRule::Implied(IMPLIED)), Ok(()));
    }

    #[test]
    fn the_implied_reserve_looks_back_over_its_window_only() {
        let history = earned(&[1000, 1000, 10, 20, 30, 40, 9, 9]);
        let rule = ReserveRule::Implied(IMPLIED);
        assert_eq!(reserve_at(&rule, 6, 6, &history), Some(amount(25)));
        // Sold ahead: what was known when the auction opened.
        assert_eq!(reserve_at(&rule, 8, 6, &history), Some(amount(25)));
        // Nothing that comes after the slot counts, whatever is asked for.
        assert_eq!(reserve_at(&rule, 6, 99, &history), Some(amount(25)));
        let mean = ReserveRule::Implied(ImpliedReserve { measure: ImpliedMeasure::Mean, ..IMPLIED });
        assert_eq!(reserve_at(&mean, 4, 4, &history), Some(amount(508)), "2030 / 4, rounded up");
    }

    #[test]
    fn with_few_samples_and_under_the_floor_the_floor_holds() {
        let rule = ReserveRule::Implied(IMPLIED);
        assert_eq!(reserve_at(&rule, 2, 2, &earned(&[90, 90])), Some(amount(5)));
        assert_eq!(reserve_at(&rule, 3, 3, &earned(&[90, 90, 90])), Some(amount(90)));
        assert_eq!(reserve_at(&rule, 3, 3, &earned(&[1, 2, 3])), Some(amount(5)));
        assert_eq!(reserve_at(&rule, 0, 0, &EarningsHistory::new(CHAIN)), Some(amount(5)));
    }
}
