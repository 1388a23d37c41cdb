//! The sequencer's machine, event by event.

use alloy_primitives::B256;
use lockstep_delivery::{
    Decision, DecisionKey, Prepare, Report, SequencerEffect as Effect, SequencerEvent as Event, SequencerPhase, SequencerSlot,
    SequencerTerms, Verdict, Vote, VoteRefusal, Which,
};

use crate::fixtures::{T_DECIDE, T_PUBLISH, prepare};

const TERMS: SequencerTerms = SequencerTerms { chain: 1, slot: 7, holds: true, t_publish_ms: T_PUBLISH };
const KEY: DecisionKey = DecisionKey { slot: 7, attempt: 0 };

fn first() -> Prepare {
    prepare(1, &[1, 2], 0)
}

fn received(prepare: &Prepare) -> Event {
    Event::PrepareReceived(Box::new(prepare.clone()))
}

fn ran(prepare: &Prepare) -> Event {
    Event::Executed { digest: prepare.digest(), result: Ok(()) }
}

fn yes(prepare: &Prepare) -> Vote {
    Vote { chain: 1, slot: 7, attempt: prepare.attempt, digest: prepare.digest(), yes: true, reason: None }
}

fn no(prepare: &Prepare) -> Vote {
    Vote { yes: false, reason: Some(refused(prepare)), ..yes(prepare) }
}

fn refused(prepare: &Prepare) -> VoteRefusal {
    VoteRefusal { code: "reverted".into(), block: Some(0), position: Some(0), text: format!("on rollup {}", prepare.chain) }
}

fn commit(prepare: &Prepare) -> Decision {
    let prepares = [(1, prepare.digest()), (2, B256::repeat_byte(2))].into();
    Decision { verdict: Verdict::Commit, prepares, ..Decision::timed_out(KEY) }
}

fn voted_yes(holds: bool) -> SequencerSlot {
    let prepare = Prepare { holds, ..first() };
    let mut slot = SequencerSlot::new(SequencerTerms { holds, ..TERMS });
    slot.apply(received(&prepare), 1);
    slot.apply(ran(&prepare), 2);
    slot.apply(Event::VoteStored { digest: prepare.digest() }, 3);
    assert_eq!(slot.phase(), SequencerPhase::Voted { yes: true });
    slot
}

fn code_of_refusal(effects: &[Effect]) -> &str {
    match effects {
        [Effect::Report(Report::PrepareRefused { refusal, .. }), Effect::SendVote(vote)] => {
            assert_eq!((vote.yes, vote.reason.as_ref()), (false, Some(refusal)));
            &refusal.code
        }
        other => panic!("expected a refusal, got {other:?}"),
    }
}

#[test]
fn a_yes_is_executed_then_stored_then_sent_and_follows_the_commit() {
    let prepare = first();
    let mut slot = SequencerSlot::new(TERMS);
    assert_eq!(slot.apply(received(&prepare), 1), [Effect::Execute(Box::new(prepare.clone()))]);
    assert_eq!(slot.apply(received(&prepare), 1), []);
    assert_eq!(slot.apply(Event::Executed { digest: B256::ZERO, result: Ok(()) }, 1), []);
    assert_eq!(slot.apply(ran(&prepare), 2), [Effect::StoreVote(yes(&prepare))]);
    assert_eq!(slot.apply(ran(&prepare), 2), []);
    assert_eq!(slot.apply(Event::VoteStored { digest: prepare.digest() }, 3), [Effect::SendVote(yes(&prepare))]);
    assert_eq!(slot.apply(Event::VoteStored { digest: prepare.digest() }, 3), []);
    assert_eq!(slot.apply(received(&prepare), 4), [Effect::SendVote(yes(&prepare))]);
    assert_eq!(slot.apply(Event::Tick, 5), []);
    assert_eq!(slot.apply(Event::DecisionRead(None), 5), []);
    let decision = Event::DecisionRead(Some(commit(&prepare)));
    assert_eq!(slot.apply(decision.clone(), 6), [Effect::Publish(Which::WithCross)]);
    assert_eq!(slot.apply(decision, 6), []);
    assert_eq!(slot.apply(Event::PublishDone { which: Which::WithCross }, 7), []);
    assert_eq!(slot.phase(), SequencerPhase::Published(Which::WithCross));
    assert_eq!(slot.apply(Event::Tick, T_PUBLISH), []);
}

#[test]
fn silence_is_not_an_abort_but_anyone_may_record_one() {
    let mut slot = voted_yes(true);
    assert_eq!(slot.apply(Event::Tick, T_DECIDE), [Effect::ReadDecision(KEY)]);
    let effects = slot.apply(Event::DecisionRead(None), T_DECIDE);
    assert_eq!(effects, [Effect::RecordAbort(KEY), Effect::ReadDecision(KEY)]);
    assert_eq!(slot.apply(Event::DecisionRead(None), T_DECIDE), []);
    assert_eq!(slot.apply(Event::Tick, T_PUBLISH), [Effect::ReadDecision(KEY)]);
    assert_eq!(slot.apply(Event::DecisionRead(None), T_PUBLISH).len(), 2);
    let abort = Event::DecisionRead(Some(Decision::timed_out(KEY)));
    assert_eq!(slot.apply(abort, T_PUBLISH), [Effect::Publish(Which::WithoutCross)]);
}

#[test]
fn an_unreadable_record_holds_or_falls_back_as_the_terms_say() {
    let mut holds = voted_yes(true);
    assert_eq!(holds.apply(Event::DecisionUnreadable, T_PUBLISH - 1), []);
    let effects = holds.apply(Event::DecisionUnreadable, T_PUBLISH);
    assert_eq!(effects, [Effect::Hold { since_ms: T_PUBLISH }, Effect::Report(Report::RecordUnreadable { key: KEY })]);
    assert_eq!(holds.apply(Event::DecisionUnreadable, T_PUBLISH + 1), []);
    assert_eq!(holds.apply(Event::Tick, T_PUBLISH + 2), [Effect::ReadDecision(KEY)]);
    let effects = holds.apply(Event::DecisionRead(Some(commit(&first()))), T_PUBLISH + 3);
    assert_eq!(effects, [Effect::Publish(Which::WithCross)]);

    let mut falls_back = voted_yes(false);
    let effects = falls_back.apply(Event::DecisionUnreadable, T_PUBLISH);
    let report = Report::PossibleBreach { chain: 1, key: KEY };
    assert!(report.is_breach());
    assert_eq!(effects, [Effect::Publish(Which::WithoutCross), Effect::Report(report)]);
}

#[test]
fn a_commit_over_something_else_is_an_abort_and_reported() {
    let other = commit(&prepare(1, &[1, 2], 9));
    let partial = Decision { prepares: [(1, first().digest())].into(), ..commit(&first()) };
    for decision in [other, partial] {
        let effects = voted_yes(true).apply(Event::DecisionRead(Some(decision)), 10);
        assert!(matches!(effects[..], [Effect::Report(Report::CommitDoesNotFit { .. }), Effect::Publish(Which::WithoutCross)]));
    }
    let elsewhere = Decision { attempt: 1, ..commit(&first()) };
    let effects = voted_yes(true).apply(Event::DecisionRead(Some(elsewhere)), 10);
    assert!(matches!(effects[..], [Effect::Report(Report::WrongRecord { .. })]));
    let effects = SequencerSlot::new(TERMS).apply(Event::DecisionRead(Some(commit(&first()))), 10);
    assert!(matches!(effects[..], [Effect::Report(Report::CommitWithoutVote { .. })]));
}

#[test]
fn without_a_yes_the_default_list_is_published() {
    assert_eq!(SequencerSlot::new(TERMS).apply(Event::Tick, T_PUBLISH - 1), []);
    assert_eq!(SequencerSlot::new(TERMS).apply(Event::Tick, T_PUBLISH), [Effect::Publish(Which::Own)]);
    let prepare = first();
    let mut slot = SequencerSlot::new(TERMS);
    slot.apply(received(&prepare), 1);
    let result = Err(refused(&prepare));
    assert_eq!(slot.apply(Event::Executed { digest: prepare.digest(), result }, 2), [Effect::StoreVote(no(&prepare))]);
    assert_eq!(slot.apply(Event::VoteStored { digest: prepare.digest() }, 3), [Effect::SendVote(no(&prepare))]);
    assert_eq!(slot.apply(Event::Tick, T_DECIDE), []);
    assert_eq!(slot.apply(Event::Tick, T_PUBLISH), [Effect::Publish(Which::Own)]);
}

#[test]
fn a_result_after_t_decide_is_not_a_yes() {
    let mut slot = SequencerSlot::new(TERMS);
    slot.apply(received(&first()), 1);
    let effects = slot.apply(ran(&first()), T_DECIDE);
    assert!(matches!(&effects[..], [Effect::StoreVote(vote)] if !vote.yes));
}

#[test]
fn prepares_that_may_not_be_voted_for_are_refused_by_name() {
    let fresh = |prepare: &Prepare, now_ms| SequencerSlot::new(TERMS).apply(received(prepare), now_ms);
    assert_eq!(code_of_refusal(&fresh(&first(), T_DECIDE)), "after-decide");
    assert_eq!(code_of_refusal(&fresh(&Prepare { holds: false, ..first() }, 1)), "hold-differs");
    let late = Prepare { t_publish_ms: T_PUBLISH + 1, ..first() };
    assert_eq!(code_of_refusal(&fresh(&late, 1)), "publish-too-late");
    let elsewhere = fresh(&prepare(2, &[1, 2], 0), 1);
    assert!(matches!(elsewhere[..], [Effect::Report(Report::PrepareRefused { .. })]));

    let mut slot = voted_yes(true);
    assert_eq!(code_of_refusal(&slot.apply(received(&prepare(1, &[1, 2], 9)), 5)), "another-prepare");
    assert_eq!(code_of_refusal(&slot.apply(received(&Prepare { attempt: 1, ..first() }), 5)), "bound");
    slot.apply(Event::DecisionRead(Some(Decision::timed_out(KEY))), 6);
    assert_eq!(code_of_refusal(&slot.apply(received(&Prepare { attempt: 1, ..first() }), 7)), "already-published");
}

#[test]
fn a_later_attempt_replaces_one_without_a_yes_and_its_late_results_do_not_count() {
    let second = Prepare { attempt: 1, ..first() };
    let mut slot = SequencerSlot::new(TERMS);
    slot.apply(received(&first()), 1);
    assert_eq!(slot.apply(received(&second), 2), [Effect::Execute(Box::new(second.clone()))]);
    assert_eq!(slot.apply(ran(&first()), 3), []);
    assert_eq!(code_of_refusal(&slot.apply(received(&first()), 4)), "stale-attempt");
    assert_eq!(slot.apply(ran(&second), 5), [Effect::StoreVote(yes(&second))]);
    assert_eq!(slot.apply(Event::VoteStored { digest: first().digest() }, 6), []);
}

#[test]
fn a_restart_continues_from_the_stored_vote() {
    let vote = yes(&first());
    let mut slot = SequencerSlot::restore(TERMS, first(), vote.clone(), None).unwrap();
    assert_eq!(slot.apply(Event::Tick, 5), [Effect::SendVote(vote.clone())]);
    assert_eq!(slot.apply(Event::Tick, T_PUBLISH), [Effect::ReadDecision(KEY)]);
    let mut done = SequencerSlot::restore(TERMS, first(), vote.clone(), Some(Which::WithoutCross)).unwrap();
    assert_eq!(done.apply(Event::DecisionRead(Some(commit(&first()))), T_PUBLISH), []);
    let error = SequencerSlot::restore(TERMS, prepare(1, &[1, 2], 9), vote, None).unwrap_err();
    assert_eq!(error.code(), "mismatched-vote");
}
