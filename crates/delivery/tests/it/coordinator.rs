//! The proposer's machine, event by event.

use alloy_primitives::{Address, B256};
use lockstep_delivery::{
    Coordinator, CoordinatorEffect, CoordinatorEvent, CoordinatorPlan, Decision, DecisionKey, Report, Verdict, Vote, VoteRefusal,
};
use lockstep_primitives::ChainId;

use crate::fixtures::T_DECIDE;

const KEY: DecisionKey = DecisionKey { slot: 7, attempt: 0 };

fn coordinator(stages: &[&[ChainId]], trusted: &[ChainId]) -> Coordinator {
    Coordinator::new(CoordinatorPlan {
        key: KEY,
        proposer: Address::repeat_byte(1),
        t_decide_ms: T_DECIDE,
        stages: stages.iter().map(|stage| stage.iter().copied().collect()).collect(),
        trusted: trusted.iter().copied().collect(),
    })
}

fn seal(chain: ChainId, from: &[ChainId]) -> CoordinatorEffect {
    CoordinatorEffect::Seal { chain, release_evidence_from: from.iter().copied().collect() }
}

fn sealed(chain: ChainId) -> CoordinatorEvent {
    CoordinatorEvent::Sealed { chain, digest: B256::with_last_byte(chain as u8) }
}

fn vote(chain: ChainId) -> Vote {
    Vote { chain, slot: 7, attempt: 0, digest: B256::with_last_byte(chain as u8), yes: true, reason: None }
}

fn asked(effects: &[CoordinatorEffect]) -> &Decision {
    match effects {
        [CoordinatorEffect::RecordDecision(decision)] => decision,
        other => panic!("expected one RecordDecision, got {other:?}"),
    }
}

#[test]
fn a_destination_is_sealed_after_its_origin_voted_and_all_yes_commits() {
    let mut machine = coordinator(&[&[2], &[1, 3]], &[]);
    assert_eq!(machine.apply(CoordinatorEvent::Start, 0), [seal(2, &[])]);
    assert_eq!(machine.apply(CoordinatorEvent::Start, 0), []);
    machine.apply(sealed(2), 1);
    assert_eq!(machine.apply(CoordinatorEvent::VoteReceived(vote(2)), 2), [seal(1, &[2]), seal(3, &[2])]);
    assert_eq!(machine.apply(CoordinatorEvent::VoteReceived(vote(2)), 2), []);
    machine.apply(sealed(1), 3);
    machine.apply(sealed(3), 3);
    assert_eq!(machine.apply(CoordinatorEvent::VoteReceived(vote(3)), 4), []);
    let effects = machine.apply(CoordinatorEvent::VoteReceived(vote(1)), 5);
    let commit = asked(&effects).clone();
    assert_eq!((commit.verdict, commit.prepares.len()), (Verdict::Commit, 3));
    assert_eq!(
        machine.apply(CoordinatorEvent::DecisionRecorded(commit.clone()), 6),
        [CoordinatorEffect::Announce(commit.clone())]
    );
    assert_eq!(machine.apply(CoordinatorEvent::DecisionRecorded(commit.clone()), 6), []);
    assert_eq!(machine.apply(CoordinatorEvent::Tick, T_DECIDE), []);
    assert_eq!(machine.decision(), Some(&commit));
}

#[test]
fn within_a_stage_evidence_comes_only_from_trusted_rollups() {
    let mut machine = coordinator(&[&[1, 2, 3]], &[1, 2]);
    assert_eq!(machine.apply(CoordinatorEvent::Start, 0), [seal(1, &[2]), seal(2, &[1]), seal(3, &[1, 2])]);
}

#[test]
fn a_vote_that_does_not_fit_is_reported_and_not_counted() {
    let mut machine = coordinator(&[&[1]], &[]);
    machine.apply(CoordinatorEvent::Start, 0);
    let early = machine.apply(CoordinatorEvent::VoteReceived(vote(1)), 1);
    assert!(matches!(early[..], [CoordinatorEffect::Report(Report::Ignored { chain: 1, .. })]));
    machine.apply(sealed(1), 1);
    for wrong in [
        Vote { slot: 8, ..vote(1) },
        Vote { attempt: 1, ..vote(1) },
        Vote { digest: B256::ZERO, ..vote(1) },
        Vote { chain: 2, ..vote(1) },
    ] {
        let effects = machine.apply(CoordinatorEvent::VoteReceived(wrong), 2);
        assert!(matches!(effects[..], [CoordinatorEffect::Report(Report::Ignored { .. })]));
    }
    assert!(machine.yes().is_empty());
}

#[test]
fn anything_but_a_yes_of_all_in_time_aborts_and_names_the_rollup() {
    let reason = VoteRefusal { code: "reverted".into(), block: Some(0), position: Some(3), text: "it reverts".into() };
    let no = CoordinatorEvent::VoteReceived(Vote { yes: false, reason: Some(reason), ..vote(1) });
    for (event, now_ms, words) in [
        (no, 2, "rollup 1 voted no: reverted: it reverts, block 0 of the list, transaction 3"),
        (CoordinatorEvent::Unreachable { chain: 1, reason: "refused".into() }, 2, "rollup 1 is unreachable: refused"),
        (CoordinatorEvent::SealFailed { chain: 1, reason: "no nonce".into() }, 2, "rollup 1 cannot be sealed: no nonce"),
        (CoordinatorEvent::Tick, T_DECIDE, "t_decide has passed without a yes from rollup 1"),
        (CoordinatorEvent::VoteReceived(vote(1)), T_DECIDE, "t_decide has passed without a yes from rollup 1"),
    ] {
        let mut machine = coordinator(&[&[1]], &[]);
        machine.apply(CoordinatorEvent::Start, 0);
        machine.apply(sealed(1), 1);
        let effects = machine.apply(event, now_ms);
        assert_eq!((asked(&effects).verdict, asked(&effects).reason.as_str()), (Verdict::Abort, words));
    }
    let effects = coordinator(&[], &[]).apply(CoordinatorEvent::Start, 0);
    assert_eq!(asked(&effects).verdict, Verdict::Abort);
}

#[test]
fn an_unknown_write_is_repeated_and_becomes_an_abort_at_t_decide() {
    let mut machine = coordinator(&[&[1]], &[]);
    machine.apply(CoordinatorEvent::Start, 0);
    machine.apply(sealed(1), 1);
    let effects = machine.apply(CoordinatorEvent::VoteReceived(vote(1)), 2);
    let commit = asked(&effects).clone();
    let report = CoordinatorEffect::Report(Report::RecordUnreadable { key: KEY });
    assert_eq!(machine.apply(CoordinatorEvent::DecisionUnreadable, 3), [report]);
    assert_eq!(machine.apply(CoordinatorEvent::Tick, 4), [CoordinatorEffect::RecordDecision(commit.clone())]);
    let effects = machine.apply(CoordinatorEvent::Tick, T_DECIDE);
    assert_eq!(asked(&effects).verdict, Verdict::Abort);
    // The first write had reached the record after all.
    let effects = machine.apply(CoordinatorEvent::DecisionRecorded(commit.clone()), T_DECIDE + 1);
    assert!(matches!(effects[0], CoordinatorEffect::Report(Report::DecidedOtherwise { .. })));
    assert_eq!(effects[1], CoordinatorEffect::Announce(commit));
}
