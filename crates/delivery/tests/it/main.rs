//! The machines one by one, and all of them together in a world of loss, delay, repetition, reordering, crashes, skewed
//! clocks and a record that cannot always be read.

mod coordinator;
mod fixtures;
mod messages;
mod sequencer;
mod world;

use lockstep_delivery::Which;
use proptest::prelude::*;

use crate::world::{Flaw, Scenario, Violation, run};

/// Nothing goes wrong and there is plenty of time.
const CALM: Scenario = Scenario {
    seed: 0,
    rollups: 3,
    lost: 0,
    repeated: 0,
    refused: 0,
    unreadable: 0,
    cut_off: 0,
    crashed: 0,
    fallback: 0,
    max_delay_ms: 20,
    decide_after_ms: 2000,
    flaw: Flaw::None,
};

fn scenarios() -> impl Strategy<Value = Scenario> {
    let faults = (0..40_u64, 0..40_u64, 0..30_u64, 0..60_u64, 0..60_u64, 0..50_u64, 0..50_u64);
    (any::<u64>(), 2..=4_u64, faults, 1..100_u64, 20..900_u64).prop_map(
        |(seed, rollups, faults, max_delay_ms, decide_after_ms)| {
            let (lost, repeated, refused, unreadable, cut_off, crashed, fallback) = faults;
            Scenario {
                seed,
                rollups,
                lost,
                repeated,
                refused,
                unreadable,
                cut_off,
                crashed,
                fallback,
                max_delay_ms,
                decide_after_ms,
                flaw: Flaw::None,
            }
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    /// Whatever goes wrong, rollups that hold publish together or not at all, nothing is committed late, nobody votes
    /// for what it did not execute, and nobody publishes what is not decided.
    #[test]
    fn every_promise_is_kept_in_every_world(scenario in scenarios()) {
        let outcome = run(scenario);
        prop_assert!(outcome.violations.is_empty(), "{:?}", outcome);
    }

    /// A run is a function of its scenario.
    #[test]
    fn a_seed_run_twice_gives_one_outcome(scenario in scenarios()) {
        prop_assert_eq!(run(scenario), run(scenario));
    }
}

/// The properties above are not kept by doing nothing.
#[test]
fn in_a_calm_world_every_rollup_publishes_the_cross_rollup_list() {
    for seed in 0..100 {
        let outcome = run(Scenario { seed, rollups: 2 + seed % 3, ..CALM });
        assert!(outcome.violations.is_empty(), "seed {seed}: {outcome:?}");
        assert!(outcome.published.values().all(|lists| *lists == [Which::WithCross]), "seed {seed}: {outcome:?}");
    }
}

/// A record that is out of reach for some costs time, not atomicity: they hold, and publish once they can read it.
#[test]
fn cut_off_rollups_that_hold_still_publish_what_was_decided() {
    for seed in 0..100 {
        let outcome = run(Scenario { seed, cut_off: 50, ..CALM });
        assert!(outcome.violations.is_empty(), "seed {seed}: {outcome:?}");
        assert!(outcome.published.values().all(|lists| *lists == [Which::WithCross]), "seed {seed}: {outcome:?}");
    }
}

/// A sequencer that takes silence for an abort is caught by the same checks.
#[test]
fn treating_silence_as_an_abort_is_caught() {
    let caught = |seed: u64| {
        let outcome = run(Scenario { seed, cut_off: 50, flaw: Flaw::SilenceIsAbort, ..CALM });
        outcome.violations.contains(&Violation::NotTogether)
    };
    assert!((0..100).any(caught));
}

/// A record that accepts commits after `t_decide` is caught by the same checks.
#[test]
fn a_record_without_a_deadline_is_caught() {
    let caught = |seed: u64| {
        let decide_after_ms = 50 + 5 * seed % 1000;
        let outcome = run(Scenario { seed, max_delay_ms: 60, decide_after_ms, flaw: Flaw::RecordWithoutDeadline, ..CALM });
        outcome.violations.contains(&Violation::CommittedLate)
    };
    assert!((0..1000).any(caught));
}

/// A sequencer that sends votes which it would forget in a crash is caught by the same checks.
#[test]
fn a_vote_that_is_not_durable_is_caught() {
    let caught = |seed: u64| {
        let outcome = run(Scenario { seed, flaw: Flaw::VoteNotStored, ..CALM });
        outcome.violations.contains(&Violation::VotedBeforeDurable)
    };
    assert!((0..10).any(caught));
}
