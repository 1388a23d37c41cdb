//! What users are told of messages.

use std::sync::Arc;

use alloy_primitives::U64;
use lockstep_messaging::Protocol;
use lockstep_primitives::LandedRef;
use lockstep_rpc::wire::{DeliveryStatus, MessageList, MessageStatus};
use serde_json::{Value, json};

use super::{letter, orphans};
use crate::messages::fixture::{A, B, Office, Post, attested, only, received, sent, tx_hash};

fn list(office: &Office, params: Value) -> MessageList {
    let filter = office.messages.filter(&serde_json::from_value(params).unwrap()).unwrap();
    office.messages.list(&filter, 0)
}

fn place(message: &MessageStatus) -> LandedRef {
    let origin = message.origin;
    LandedRef { chain: origin.chain_id.to(), tx: origin.tx_hash, message: origin.message }
}

/// What the only message is said to be, and why.
fn standing(office: &Office) -> (String, Option<String>) {
    let list = list(office, json!({}));
    let [message] = list.messages.as_slice() else { panic!("one message: {list:?}") };
    (message.state.clone(), message.blocked.as_ref().map(|blocked| blocked.reason.clone()))
}

fn is(state: &str, reason: Option<&str>) -> (String, Option<String>) {
    (state.to_owned(), reason.map(str::to_owned))
}

#[tokio::test]
async fn the_newest_message_comes_first_and_each_says_where_it_stands() {
    let mut office = Office::new("mailbox");
    office.a.push(&[vec![sent(B, 1)], vec![sent(B, 2)]]);
    office.b.push(&[vec![sent(A, 3)], vec![received(A, 1)]]);
    office.read().await;
    let all = list(&office, json!({}));
    assert!(!all.more);
    let places: Vec<LandedRef> = all.messages.iter().map(place).collect();
    assert_eq!(places, [only(B, sent(A, 3)), letter(2), letter(1)]);
    let states: Vec<&str> = all.messages.iter().map(|message| message.state.as_str()).collect();
    assert_eq!(states, ["ready", "ready", "delivered"]);
    let tx = tx_hash(B, &[received(A, 1)]);
    let delivered = DeliveryStatus { chain_id: U64::from(B), block_number: U64::from(1), tx_hash: Some(tx) };
    assert_eq!(all.messages[2].delivered, Some(delivered));
    assert!(all.messages.iter().all(|message| message.blocked.is_none() && !message.orphan));

    let one = list(&office, json!({ "limit": 1 }));
    assert_eq!((one.messages.as_slice(), one.more), (&all.messages[..1], true));
    let three = list(&office, json!({ "limit": 3, "chainId": "0x386" }));
    assert_eq!((three.messages.as_slice(), three.more), (&all.messages[..], false));
    let delivered = list(&office, json!({ "state": "delivered" }));
    assert_eq!((delivered.messages.as_slice(), delivered.more), (&all.messages[2..], false));
    office.restart();
    assert_eq!(list(&office, json!({})), all);
}

#[tokio::test]
async fn what_nobody_delivers_is_an_orphan_until_it_is_delivered() {
    let office = Office::with("mailbox", |settings| settings.grace_blocks = 0);
    office.a.push(&[vec![sent(B, 1)]]);
    assert_eq!(orphans(&office).await, [letter(1)]);
    let orphan = |office: &Office| list(office, json!({})).messages[0].orphan;
    assert!(orphan(&office));
    office.b.push(&[vec![received(A, 1)]]);
    office.read().await;
    assert!(!orphan(&office));
}

#[tokio::test]
async fn a_message_waits_for_its_attesters_and_is_too_old_in_the_end() {
    let post: Arc<dyn Protocol> = Arc::new(Post { name: "post", until: 1_004, signers: Vec::new() });
    let office = Office::over(vec![post], None, |_| {});
    office.a.push(&[vec![sent(B, 1)]]);
    office.read().await;
    assert_eq!(standing(&office), is("pending", Some("evidence_pending")));
    office.messages.book.lock().answered(&letter(1), Ok(attested(&1_u64.to_be_bytes())), 0);
    assert_eq!(standing(&office), is("ready", None));
    office.b.idle(2);
    office.read().await;
    assert_eq!(standing(&office), is("expired", Some("message_expired")));
}

#[tokio::test]
async fn what_keeps_a_message_for_another_reason_leaves_it_sent() {
    let office = Office::new("mailbox");
    office.a.push(&[vec![sent(B, 1)]]);
    office.messages.read(A).await.unwrap();
    assert_eq!(standing(&office), is("sent", Some("no_evidence")), "nothing is known of where it goes");
}

#[tokio::test]
async fn a_request_for_what_there_is_not_is_refused_by_name() {
    let office = Office::new("mailbox");
    for (params, reason) in [
        (json!({ "chainId": "0x1" }), "unknown_rollup"),
        (json!({ "state": "lost" }), "invalid_params"),
        (json!({ "limit": 0 }), "invalid_params"),
        (json!({ "limit": 1_001 }), "invalid_params"),
    ] {
        let error = office.messages.filter(&serde_json::from_value(params.clone()).unwrap()).unwrap_err();
        let data: Value = serde_json::from_str(error.data().unwrap().get()).unwrap();
        assert_eq!(data["reason"], reason, "{params}");
    }
}
