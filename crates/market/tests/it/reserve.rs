//! What a seller asks for follows from what it could earn itself, and terms change only when and as it was said.

use std::collections::BTreeMap;

use alloy_primitives::{I256, U256};
use lockstep_market::{EarningsHistory, Figure, MAX_HISTORY_SLOTS, Regret, Versions, check_reserve, median, reserve_at};
use lockstep_primitives::{ChainId, ImpliedBasis, ImpliedMeasure, ImpliedReserve, ReserveRule, SlotNumber};
use proptest::prelude::*;

const CHAIN: ChainId = 10;

fn amounts(values: &[u64]) -> Vec<U256> {
    values.iter().map(|value| U256::from(*value)).collect()
}

/// A figure about one of twelve slots. Few slots and small amounts, so that the same figure is often said twice.
fn figures() -> impl Strategy<Value = Vec<(SlotNumber, Figure)>> {
    let figure = (0u64..12, 0u8..4, 0u64..3).prop_map(|(slot, kind, amount)| {
        let amount = U256::from(amount);
        let figure = match kind {
            0 => Figure::Earned(amount),
            1 => Figure::Posted(amount),
            2 => Figure::Computed(amount),
            _ => Figure::Paid(amount),
        };
        (slot, figure)
    });
    prop::collection::vec(figure, 0..40)
}

fn shuffled() -> impl Strategy<Value = (Vec<u64>, Vec<u64>)> {
    let values = prop::collection::vec(0u64..20, 1..12);
    values.prop_flat_map(|values| (Just(values.clone()), Just(values).prop_shuffle()))
}

fn recorded(figures: &[(SlotNumber, Figure)]) -> EarningsHistory {
    let mut history = EarningsHistory::new(CHAIN);
    for (slot, figure) in figures {
        // What was said before stands.
        let _refused = history.record(*slot, *figure, 11);
    }
    history
}

fn implied(measure: ImpliedMeasure, window: u64) -> ReserveRule {
    ReserveRule::Implied(ImpliedReserve { basis: ImpliedBasis::Posted, measure, window, min_samples: 1, floor: U256::ZERO })
}

/// What a rollup would have earned in slots 0, 1, 2 and so on, and its reserve after them.
fn posted(values: &[u64], measure: ImpliedMeasure) -> (EarningsHistory, U256) {
    let mut history = EarningsHistory::new(CHAIN);
    for (amount, slot) in amounts(values).into_iter().zip(0..) {
        history.record(slot, Figure::Posted(amount), slot).expect("each slot once");
    }
    let slots = values.len() as u64;
    let reserve = reserve_at(&implied(measure, slots), slots, slots, &history).expect("an implied reserve is always there");
    (history, reserve)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(10_000))]

    #[test]
    fn half_of_the_amounts_are_at_or_below_the_median_and_half_at_or_above(
        (values, shuffled) in shuffled(),
    ) {
        let middle = median(amounts(&values)).expect("there are amounts");
        prop_assert_eq!(median(amounts(&shuffled)), Some(middle));
        let below = amounts(&values).iter().filter(|amount| **amount <= middle).count();
        let above = amounts(&values).iter().filter(|amount| **amount >= middle).count();
        prop_assert!(2 * below >= values.len() && 2 * above >= values.len());
        // Of an even number it is the mean of the two in the middle, rounded up.
        let mut sorted = values;
        sorted.sort_unstable();
        let (lower, upper) = (sorted[(sorted.len() - 1) / 2], sorted[sorted.len() / 2]);
        prop_assert_eq!(middle, U256::from((lower + upper).div_ceil(2)));
    }

    /// The mean: had it sold all of these slots at the reserve, it would not have lost by it.
    #[test]
    fn at_the_mean_selling_is_no_worse_than_not_selling(values in prop::collection::vec(0u64..1000, 1..20)) {
        let (mut history, reserve) = posted(&values, ImpliedMeasure::Mean);
        for slot in 0..values.len() as u64 {
            history.record(slot, Figure::Paid(reserve), slot).expect("each slot is paid once");
        }
        let Regret { slots, sold, regret, .. } = history.regret(ImpliedBasis::Posted, 0, u64::MAX);
        prop_assert_eq!((slots, sold), (values.len() as u64, values.len() as u64));
        prop_assert!(regret <= I256::ZERO);
        // Nor does it ask for more than rounding up makes of it.
        prop_assert!(regret > -I256::from_raw(U256::from(values.len())));
    }

    #[test]
    fn at_the_median_half_of_the_slots_lose_nothing(values in prop::collection::vec(0u64..1000, 1..20)) {
        let (_, reserve) = posted(&values, ImpliedMeasure::Median);
        let kept = amounts(&values).iter().filter(|own| **own <= reserve).count();
        prop_assert!(2 * kept >= values.len());
    }

    #[test]
    fn what_is_said_first_stands_and_the_rest_changes_nothing(figures in figures()) {
        let mut history = EarningsHistory::new(CHAIN);
        let mut first: BTreeMap<(SlotNumber, &str), U256> = BTreeMap::new();
        for (slot, figure) in &figures {
            let before = history.clone();
            let stands = *first.entry((*slot, figure.name())).or_insert(figure.amount()) == figure.amount();
            let answer = history.record(*slot, *figure, 11);
            prop_assert_eq!(answer.is_ok(), stands);
            if !stands {
                prop_assert_eq!(answer.map_err(|error| error.code()), Err("earnings_changed"));
                prop_assert_eq!(&history, &before);
            }
        }
        let known = history.slots().values();
        let known = known.flat_map(|slot| [slot.earned, slot.posted, slot.computed, slot.paid]).flatten().count();
        prop_assert_eq!(known, first.len());
        let restored = EarningsHistory::restore(CHAIN, history.slots().clone(), history.dropped());
        prop_assert_eq!(restored, Ok(history));
    }

    #[test]
    fn regret_adds_up_over_stretches_of_slots(figures in figures(), cut in 0u64..13) {
        let history = recorded(&figures);
        for basis in [ImpliedBasis::Posted, ImpliedBasis::Computed] {
            let [all, before, after] = [(0, 12), (0, cut), (cut, 12)].map(|(from, to)| history.regret(basis, from, to));
            prop_assert_eq!(all.slots, before.slots + after.slots);
            prop_assert_eq!(all.unknown, before.unknown + after.unknown);
            prop_assert_eq!(all.regret, before.regret + after.regret);
            prop_assert_eq!(all.regret, I256::from_raw(all.own) - I256::from_raw(all.got));
        }
    }

    /// Nothing that happens from the opening of the auction on moves the reserve.
    #[test]
    fn a_reserve_does_not_move_once_the_auction_is_open(figures in figures(), before in 0u64..12, window in 1u64..12) {
        let earlier: Vec<(SlotNumber, Figure)> = figures.iter().copied().filter(|(slot, _)| *slot < before).collect();
        for measure in [ImpliedMeasure::Median, ImpliedMeasure::Mean] {
            let rule = implied(measure, window);
            prop_assert_eq!(check_reserve(CHAIN, &rule), Ok(()));
            let then = reserve_at(&rule, 11, before, &recorded(&earlier));
            prop_assert_eq!(reserve_at(&rule, 11, before, &recorded(&figures)), then);
        }
    }

    /// A schedule is looked up as by reading it from its beginning.
    #[test]
    fn a_schedule_holds_from_step_to_step(steps in prop::collection::btree_map(0u64..20, 0u64..9, 1..6), slot in 0u64..25) {
        let steps: Vec<(SlotNumber, U256)> = steps.into_iter().map(|(slot, reserve)| (slot, U256::from(reserve))).collect();
        let rule = ReserveRule::schedule(&steps).expect("the steps rise");
        let expected = steps.iter().rfind(|(from, _)| *from <= slot).map(|(_, reserve)| *reserve);
        prop_assert_eq!(reserve_at(&rule, slot, slot, &EarningsHistory::new(CHAIN)), expected);
    }

    /// What holds is the latest word of those that reach the slot, and what was fixed stays as it was.
    #[test]
    fn terms_are_the_latest_word_that_reaches_the_slot(
        updates in prop::collection::vec((0u64..16, 0u64..24, 0u64..16), 0..24),
    ) {
        let mut versions: Versions<usize> = Versions::new(CHAIN);
        let mut taken: Vec<(SlotNumber, u64, usize)> = Vec::new();
        let mut fixed: BTreeMap<SlotNumber, Option<usize>> = BTreeMap::new();
        for (index, (from_slot, nonce, earliest)) in updates.into_iter().enumerate() {
            let before = versions.clone();
            let answer = versions.update(from_slot, nonce, index, earliest);
            if answer.is_ok() {
                taken.push((from_slot, nonce, index));
            } else {
                prop_assert_eq!(&versions, &before);
            }
            for slot in 0..20 {
                let expected = taken.iter().filter(|(from, ..)| *from <= slot).max_by_key(|(_, nonce, _)| *nonce);
                prop_assert_eq!(versions.at_slot(slot).map(|version| version.value), expected.map(|(.., index)| *index));
            }
            for slot in 0..versions.fixed_before() {
                let now = versions.at_slot(slot).map(|version| version.value);
                prop_assert_eq!(*fixed.entry(slot).or_insert(now), now, "slot {} was fixed", slot);
            }
        }
        let kept = versions.iter().cloned().collect();
        let restored = Versions::restore(CHAIN, kept, versions.fixed_before(), versions.dropped());
        prop_assert_eq!(restored, Ok(versions));
    }
}

/// A rollup cannot have more in its window than is remembered, so the longest window always finds all of it.
#[test]
fn the_longest_window_is_remembered_as_a_whole() {
    let mut history = EarningsHistory::new(CHAIN);
    let last = 2 * MAX_HISTORY_SLOTS as u64;
    for slot in 0..last {
        history.record(slot, Figure::Posted(U256::from(slot)), slot).unwrap();
    }
    let window = MAX_HISTORY_SLOTS as u64;
    let rule = implied(ImpliedMeasure::Mean, window);
    // The mean of [last - window, last), rounded up.
    assert_eq!(reserve_at(&rule, last, last, &history), Some(U256::from((2 * last - window - 1).div_ceil(2))));
    assert_eq!(history.dropped(), last - window);
}
