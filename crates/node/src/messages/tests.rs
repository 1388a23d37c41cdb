//! The keeper over chains that go on, go back and are away, and over attesters that take their time.

mod bridge;
mod list;

use std::{collections::BTreeSet, sync::Arc};

use alloy_primitives::{Address, Bytes, Log, U256};
use alloy_sol_types::{SolEvent, sol};
use lockstep_building::SlotView;
use lockstep_messaging::{AggLayer, BridgeDeployment, Evidence, Protocol, Protocols};
use lockstep_primitives::{LandedRef, Reason, RollupSet};
use lockstep_provider::EvidenceError;

use super::{
    book::Attested,
    fixture::{A, B, BRIDGE, BUILDER, Office, Post, attested, only, received, relay, sent, torn, tx_hash},
};

sol! {
    event BridgeEvent(
        uint8 leafType, uint32 originNetwork, address originAddress, uint32 destinationNetwork,
        address destinationAddress, uint256 amount, bytes metadata, uint32 depositCount
    );
}

fn letter(number: u64) -> LandedRef {
    only(A, sent(B, number))
}

/// What a slot on both heads is told of a letter that a bundle names.
async fn told(office: &Office, at: LandedRef) -> Option<Result<Evidence, Reason>> {
    let facts = office.messages.facts(&office.view(), &[relay(at)], &RollupSet::new()).await;
    facts.landed.get(&at).cloned().map(|standing| standing.map(|landed| landed.evidence))
}

async fn code(office: &Office, at: LandedRef) -> Option<&'static str> {
    told(office, at).await?.err().map(|reason| reason.code())
}

async fn orphans(office: &Office) -> Vec<LandedRef> {
    office.messages.facts(&office.view(), &[], &RollupSet::new()).await.orphans.clone()
}

#[tokio::test]
async fn a_letter_is_known_until_it_is_delivered_whichever_of_both_is_read_first() {
    let office = Office::new("mailbox");
    office.a.push(&[vec![sent(B, 1)], vec![sent(B, 2), sent(B, 3)]]);
    office.b.push(&[vec![received(A, 3)]]);
    office.messages.read(B).await.unwrap();
    office.messages.read(A).await.unwrap();
    assert!(office.knows(&letter(1)));
    let two = tx_hash(A, &[sent(B, 2), sent(B, 3)]);
    let (second, third) = (LandedRef { chain: A, tx: two, message: 0 }, LandedRef { chain: A, tx: two, message: 1 });
    assert_eq!((office.delivered_in(&second), office.delivered_in(&third)), (None, Some(1)));
    assert_eq!(told(&office, letter(1)).await, Some(Ok(Evidence::Place)));
    assert_eq!(code(&office, third).await, Some("message_delivered"));
    assert_eq!(told(&office, letter(9)).await, None, "nothing is known of it, so it may still come");
}

#[tokio::test]
async fn a_malformed_letter_keeps_its_index_and_is_not_known() {
    let office = Office::new("mailbox");
    let logs = vec![torn(B), sent(B, 1)];
    let tx = tx_hash(A, &logs);
    office.a.push(&[logs]);
    office.read().await;
    let at = |message| LandedRef { chain: A, tx, message };
    assert!(!office.knows(&at(0)) && office.knows(&at(1)));
    assert_eq!(code(&office, at(0)).await, Some("unknown_message"));
    assert_eq!(code(&office, at(2)).await, Some("unknown_message"));
}

#[tokio::test]
async fn letters_to_rollups_that_are_not_served_and_large_ones_are_not_kept() {
    let office = Office::with("mailbox", |settings| settings.limits.message_bytes = 100);
    let mut large = sent(B, 1);
    large.data.data = Bytes::from(vec![7; 100]);
    let elsewhere = sent(903, 1);
    office.a.push(&[vec![large.clone()], vec![elsewhere.clone()], vec![sent(B, 2)]]);
    office.read().await;
    assert!(!office.knows(&only(A, large)) && !office.knows(&only(A, elsewhere)) && office.knows(&letter(2)));
}

#[tokio::test]
async fn every_block_is_read_once_and_a_restart_goes_on_from_there() {
    let mut office = Office::new("mailbox");
    office.a.push(&[vec![sent(B, 1)]]);
    office.read().await;
    office.read().await;
    office.restart();
    office.a.push(&[vec![sent(B, 2)]]);
    office.b.push(&[vec![received(A, 2)]]);
    office.read().await;
    assert_eq!(*office.a.asked.lock(), [0, 1, 2]);
    assert!(office.knows(&letter(1)) && office.delivered_in(&letter(2)) == Some(1));
    office.restart();
    assert!(office.knows(&letter(1)) && office.delivered_in(&letter(2)) == Some(1), "nothing was read since");
}

#[tokio::test]
async fn a_reorg_takes_a_letter_away_and_makes_a_delivery_undone() {
    let mut office = Office::new("mailbox");
    office.a.idle(1);
    office.a.push(&[vec![sent(B, 1)]]);
    office.b.push(&[vec![received(A, 1)]]);
    office.read().await;
    assert_eq!(office.delivered_in(&letter(1)), Some(1));

    office.b.back_to(0);
    office.b.idle(2);
    office.read().await;
    assert!(office.knows(&letter(1)) && office.delivered_in(&letter(1)).is_none());
    office.b.push(&[vec![received(A, 1)]]);
    office.read().await;
    assert_eq!(office.delivered_in(&letter(1)), Some(3));

    office.a.back_to(1);
    office.a.idle(2);
    office.read().await;
    assert!(!office.knows(&letter(1)));
    // The transaction comes again in a later block: its delivery was seen already.
    office.a.push(&[vec![sent(B, 1)]]);
    office.read().await;
    assert_eq!(office.delivered_in(&letter(1)), Some(3));
    office.restart();
    assert_eq!(office.delivered_in(&letter(1)), Some(3));
}

#[tokio::test]
async fn a_chain_that_shares_nothing_with_what_was_read_is_begun_anew() {
    let office = Office::with("mailbox", |settings| settings.limits.window = 2);
    office.a.push(&[vec![sent(B, 1)]]);
    office.a.idle(4);
    office.read().await;
    assert!(office.knows(&letter(1)));
    office.a.back_to(2);
    office.a.idle(5);
    office.read().await;
    // It lies below the reorg, but all that is known was forgotten and read again from the beginning.
    assert!(office.knows(&letter(1)));
    assert_eq!(*office.a.asked.lock(), [0, 1, 2, 3, 4, 5, 0, 1, 2, 3, 4, 5, 6, 7]);
}

#[tokio::test]
async fn a_gap_that_is_too_long_is_left_out_and_reading_goes_on_behind_it() {
    let office = Office::with("mailbox", |settings| settings.limits.catch_up = 3);
    office.a.push(&[vec![sent(B, 1)]]);
    office.read().await;
    office.a.push(&[vec![sent(B, 2)]]);
    office.a.idle(4);
    office.read().await;
    assert_eq!(office.newest(A).unwrap().number, 6);
    assert!(office.knows(&letter(1)) && !office.knows(&letter(2)));
    assert_eq!(code(&office, letter(2)).await, Some("unknown_message"));
    office.a.push(&[vec![sent(B, 3)]]);
    office.read().await;
    assert!(office.knows(&letter(3)));
}

#[tokio::test]
async fn without_a_block_to_begin_with_reading_begins_at_the_head() {
    let office = Office::with("mailbox", |settings| settings.start.clear());
    office.a.push(&[vec![sent(B, 1)]]);
    office.read().await;
    office.a.push(&[vec![sent(B, 2)]]);
    office.read().await;
    assert!(!office.knows(&letter(1)) && office.knows(&letter(2)));
    assert_eq!(*office.a.asked.lock(), [2]);
}

#[tokio::test]
async fn what_nobody_delivers_is_an_orphan_after_its_grace_and_until_it_is_delivered() {
    let office = Office::with("mailbox", |settings| settings.grace_blocks = 2);
    office.a.push(&[vec![sent(B, 2)], vec![sent(B, 1)]]);
    office.read().await;
    assert!(orphans(&office).await.is_empty());
    office.b.idle(1);
    assert!(orphans(&office).await.is_empty());
    office.b.idle(1);
    assert_eq!(orphans(&office).await, [letter(2), letter(1)], "in the order in which they were sent");
    office.b.push(&[vec![received(A, 2)]]);
    assert_eq!(orphans(&office).await, [letter(1)]);
    // A reorg of the delivery's block makes it an orphan again, once its grace is over.
    office.b.back_to(2);
    office.b.idle(3);
    assert_eq!(orphans(&office).await, [letter(2), letter(1)]);
}

#[tokio::test]
async fn a_slot_is_offered_so_many_orphans_and_every_slot_begins_elsewhere() {
    let office = Office::with("mailbox", |settings| {
        settings.grace_blocks = 0;
        settings.limits.orphans = 2;
    });
    office.a.push(&[vec![sent(B, 1)], vec![sent(B, 2)], vec![sent(B, 3)]]);
    let mut offered = BTreeSet::new();
    for slot in 0..3 {
        let view = SlotView { slot, ..office.view() };
        let facts = office.messages.facts(&view, &[], &RollupSet::new()).await;
        assert_eq!(facts.orphans.len(), 2);
        offered.extend(facts.orphans.iter().copied());
    }
    assert_eq!(offered, BTreeSet::from([letter(1), letter(2), letter(3)]), "none is hidden for ever");
}

#[tokio::test]
async fn what_a_slot_is_told_is_as_of_the_blocks_that_it_builds_on() {
    let office = Office::with("mailbox", |settings| settings.grace_blocks = 0);
    office.a.push(&[vec![sent(B, 1)]]);
    let view = office.view();
    let facts = office.messages.facts(&view, &[relay(letter(1))], &RollupSet::new()).await;
    assert_eq!(facts.orphans, [letter(1)]);
    let place = facts.landed[&letter(1)].as_ref().unwrap().message.place;
    assert!(facts.logs.contains_key(&(A, place.block, place.index)), "the log that its delivery refers to is certain");
    // The chain went on after the view was made: of another block nothing is said.
    office.b.idle(1);
    let facts = office.messages.facts(&view, &[relay(letter(1))], &RollupSet::new()).await;
    assert_eq!(facts.landed[&letter(1)].as_ref().unwrap_err().code(), "no_evidence");
    assert!(facts.orphans.is_empty() && facts.logs.is_empty());
    // Nor when the node is away.
    office.b.idle(1);
    *office.b.down.lock() = true;
    assert_eq!(code(&office, letter(1)).await, Some("no_evidence"));
    *office.b.down.lock() = false;
    assert_eq!(told(&office, letter(1)).await, Some(Ok(Evidence::Place)));
}

#[tokio::test]
async fn what_has_expired_is_told_and_is_no_orphan() {
    let post: Arc<dyn Protocol> = Arc::new(Post { name: "mailbox", until: 1_004, signers: Vec::new() });
    let office = Office::over(vec![post], None, |settings| settings.grace_blocks = 0);
    office.a.push(&[vec![sent(B, 1)]]);
    assert_eq!(orphans(&office).await, [letter(1)]);
    office.b.idle(2);
    assert_eq!(code(&office, letter(1)).await, Some("message_expired"));
    assert!(orphans(&office).await.is_empty());
}

#[tokio::test]
async fn attesters_are_asked_until_they_answer_and_then_the_next_slot_knows() {
    let office = Office::with("post", |settings| {
        settings.limits.retry_ms = 1;
        settings.limits.max_retry_ms = 1;
    });
    office.a.push(&[vec![sent(B, 1)]]);
    office.read().await;
    assert_eq!(code(&office, letter(1)).await, Some("evidence_pending"));
    let pending = EvidenceError::Pending { status: "soon".to_owned(), delay_reason: None };
    office.clerk.answers.lock().extend([Err(pending), Ok(attested(&1_u64.to_be_bytes()))]);
    let tasks = office.messages.tasks();
    while code(&office, letter(1)).await.is_some() {
        tokio::task::yield_now().await;
    }
    assert_eq!(told(&office, letter(1)).await, Some(Ok(attested(&1_u64.to_be_bytes()))));
    for task in tasks {
        task.abort();
    }
}

#[tokio::test]
async fn evidence_that_does_not_hold_any_more_is_renewed() {
    let office = Office::with("post", |settings| {
        settings.limits.retry_ms = 1;
        settings.limits.max_retry_ms = 1;
    });
    office.a.push(&[vec![sent(B, 1)]]);
    office.read().await;
    office.messages.book.lock().answered(&letter(1), Ok(attested(b"lapsed")), 0);
    assert_eq!(code(&office, letter(1)).await, Some("evidence_pending"));
    assert!(matches!(office.messages.book.lock().get(&letter(1)).unwrap().attested, Attested::Pending(_)));
    // The first answer is still the old one.
    office.clerk.answers.lock().extend([Ok(attested(b"lapsed")), Ok(attested(&1_u64.to_be_bytes()))]);
    let tasks = office.messages.tasks();
    while code(&office, letter(1)).await.is_some() {
        tokio::task::yield_now().await;
    }
    assert!(*office.clerk.renewed.lock() >= 2);
    for task in tasks {
        task.abort();
    }
}

#[tokio::test]
async fn an_attestation_is_not_asked_for_again_after_a_restart_unless_others_have_to_sign_by_then() {
    let mut office = Office::new("post");
    office.a.push(&[vec![sent(B, 1)]]);
    office.read().await;
    let given = attested(&1_u64.to_be_bytes());
    office.messages.book.lock().answered(&letter(1), Ok(given.clone()), 0);
    office.read().await;
    office.restart();
    assert_eq!(told(&office, letter(1)).await, Some(Ok(given)));
    let none = BTreeSet::new();
    assert!(office.messages.book.lock().due(u64::MAX, &none, 8).is_empty());

    let post: Arc<dyn Protocol> = Arc::new(Post { name: "post", until: u64::MAX, signers: vec![BUILDER] });
    office.bridging.protocols = Protocols::new(vec![post]);
    office.restart();
    assert_eq!(code(&office, letter(1)).await, Some("evidence_pending"));
    assert_eq!(office.messages.book.lock().due(u64::MAX, &none, 8), [letter(1)]);
}

#[tokio::test]
async fn who_was_asked_in_vain_is_asked_later_each_time_and_what_bundles_wait_for_first() {
    let office = Office::with("post", |settings| {
        settings.limits.retry_ms = 100;
        settings.limits.max_retry_ms = 300;
    });
    office.a.push(&[vec![sent(B, 1)], vec![sent(B, 2)], vec![sent(B, 3)]]);
    office.b.push(&[vec![received(A, 1)]]);
    office.read().await;
    let mut book = office.messages.book.lock();
    let none = BTreeSet::new();
    assert_eq!(book.due(0, &BTreeSet::from([letter(3)]), 1), [letter(3)]);
    assert_eq!(book.due(0, &none, 8), [letter(2)], "the first is delivered, the third is being asked for");
    assert!(book.due(0, &none, 8).is_empty());
    let refused = || Err(Reason::EvidencePending("not yet".to_owned()));
    for (asked, again) in [(0, 100), (100, 300), (300, 600), (600, 900)] {
        book.answered(&letter(2), refused(), asked);
        assert!(book.due(again - 1, &none, 8).is_empty(), "asked at {asked}");
        assert_eq!(book.due(again, &none, 8), [letter(2)], "asked at {asked}");
    }
    book.answered(&letter(2), Ok(attested(b"")), 900);
    assert!(book.due(10_000, &none, 8).is_empty());
}

#[tokio::test]
async fn confirmations_are_waited_for() {
    let office = Office::with("post", |settings| settings.confirmations = 2);
    office.a.push(&[vec![sent(B, 1)]]);
    office.a.idle(1);
    office.read().await;
    assert!(office.messages.book.lock().due(0, &BTreeSet::new(), 8).is_empty());
    office.a.idle(1);
    office.read().await;
    assert_eq!(office.messages.book.lock().due(0, &BTreeSet::new(), 8), [letter(1)]);
}

#[tokio::test]
async fn beyond_the_bound_delivered_letters_go_first_and_none_comes_back_from_disk() {
    let mut office = Office::with("mailbox", |settings| settings.limits.messages = 4);
    for number in 0..4 {
        office.a.push(&[vec![sent(B, number)]]);
    }
    office.b.push(&[vec![received(A, 2)]]);
    office.read().await;
    office.a.push(&[vec![sent(B, 4)]]);
    office.read().await;
    let known = |office: &Office| (0..5).filter(|number| office.knows(&letter(*number))).collect::<Vec<u64>>();
    assert_eq!(known(&office), [0, 1, 3, 4]);
    office.a.push(&[vec![sent(B, 5)]]);
    office.read().await;
    assert_eq!(known(&office), [1, 3, 4], "then the oldest of the others");
    office.restart();
    assert_eq!(known(&office), [1, 3, 4]);
}

#[tokio::test]
async fn deliveries_of_unknown_letters_are_forgotten_first() {
    let office = Office::with("mailbox", |settings| settings.limits.deliveries = 2);
    office.a.push(&[vec![sent(B, 1)]]);
    office.b.push(&[vec![received(A, 1)], vec![received(A, 7)], vec![received(A, 8)]]);
    office.read().await;
    assert_eq!(office.delivered_in(&letter(1)), Some(1));
    office.a.push(&[vec![sent(B, 7)], vec![sent(B, 8)]]);
    office.read().await;
    assert_eq!(office.delivered_in(&letter(7)), None, "of the two that were not known it was the older one");
    assert_eq!(office.delivered_in(&letter(8)), Some(1));
}

#[tokio::test]
async fn a_forgotten_delivery_takes_its_letter_along() {
    let office = Office::with("mailbox", |settings| {
        settings.limits.deliveries = 1;
        settings.grace_blocks = 0;
    });
    office.a.push(&[vec![sent(B, 1)], vec![sent(B, 2)]]);
    office.b.push(&[vec![received(A, 1)], vec![received(A, 2)]]);
    office.read().await;
    assert!(!office.knows(&letter(1)));
    assert_eq!(office.delivered_in(&letter(2)), Some(1));
    assert!(orphans(&office).await.is_empty(), "what was delivered never looks as if it were not");
}

fn exit(count: u32) -> Log {
    let event = BridgeEvent {
        leafType: 0,
        originNetwork: 0,
        originAddress: Address::ZERO,
        destinationNetwork: 2,
        destinationAddress: BUILDER,
        amount: U256::from(1_000 + count),
        metadata: Bytes::new(),
        depositCount: count,
    };
    Log::new_unchecked(BRIDGE, vec![BridgeEvent::SIGNATURE_HASH], event.encode_data().into())
}

fn bridges() -> AggLayer {
    let bridge =
        |network| BridgeDeployment { network, bridge: BRIDGE, exit_root_manager: Address::repeat_byte(0xb2), updater: None };
    AggLayer::new([(A, bridge(1)), (B, bridge(2))].into())
}

#[tokio::test]
async fn an_exit_that_landed_is_proven_before_and_after_a_restart() {
    let agglayer: Arc<dyn Protocol> = Arc::new(bridges());
    let mut office = Office::over(vec![agglayer], Some(bridges()), |settings| settings.grace_blocks = 0);
    office.a.push(&[vec![exit(0)]]);
    office.a.push(&[vec![exit(1)]]);
    office.read().await;
    let first = only(A, exit(0));
    let proof = told(&office, first).await;
    assert!(matches!(&proof, Some(Ok(Evidence::Exit(_)))), "{proof:?}");
    office.restart();
    assert_eq!(told(&office, first).await, proof);
    // Trees are as of the parents, and none is known of a rollup that went another way than was read.
    let facts = office.messages.facts(&office.view(), &[], &RollupSet::from([B])).await;
    assert_eq!((facts.exits.trees[&A].count(), facts.exits.trees[&B].count()), (2, 0));
    assert_eq!(facts.exits.same_slot_claims, RollupSet::from([B]));
    office.a.back_to(1);
    office.a.idle(2);
    office.read().await;
    let facts = office.messages.facts(&office.view(), &[], &RollupSet::new()).await;
    assert_eq!(facts.exits.trees[&A].count(), 1);
    assert!(!office.knows(&only(A, exit(1))) && office.knows(&first));
}

#[tokio::test]
async fn a_tree_that_was_not_read_from_its_first_leaf_is_not_known() {
    let agglayer: Arc<dyn Protocol> = Arc::new(bridges());
    let office = Office::over(vec![agglayer], Some(bridges()), |settings| {
        settings.start.remove(&A);
        settings.grace_blocks = 0;
    });
    office.read().await;
    office.a.push(&[vec![exit(0)]]);
    let at = only(A, exit(0));
    assert_eq!(code(&office, at).await, Some("no_evidence"));
    let facts = office.messages.facts(&office.view(), &[], &RollupSet::new()).await;
    assert!(!facts.exits.trees.contains_key(&A) && facts.exits.trees.contains_key(&B) && facts.orphans.is_empty());
}

#[tokio::test]
async fn exits_out_of_step_with_the_tree_are_not_proven_again_after_a_restart_either() {
    let agglayer: Arc<dyn Protocol> = Arc::new(bridges());
    let mut office = Office::over(vec![agglayer], Some(bridges()), |_| {});
    office.a.push(&[vec![exit(0)]]);
    office.a.push(&[vec![exit(5)]]);
    office.read().await;
    office.restart();
    office.a.push(&[vec![exit(1)]]);
    office.read().await;
    let facts = office.messages.facts(&office.view(), &[], &RollupSet::new()).await;
    assert!(!facts.exits.trees.contains_key(&A));
}
