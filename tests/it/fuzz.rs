//! The entry points for fuzzing on bytes of proptest's: arbitrary ones, and ones near to what is valid.

mod bundle_json;

use alloy_primitives::{Address, U256};
use bundle_json::bundle_json;
use lockstep_testkit::{fuzz, transfer, user};
use proptest::{prelude::*, sample::Index};
use serde_json::{Value, json};

/// Choices: any at all, or nearly all the first of what there is to choose from, which is valid.
fn choices() -> impl Strategy<Value = Vec<u8>> {
    let near = prop_oneof![4 => Just(0_u8), 1 => any::<u8>()];
    prop_oneof![prop::collection::vec(any::<u8>(), 0..900), prop::collection::vec(near, 0..900)]
}

/// A bundle with something in every field.
fn bundle() -> Value {
    let tx = transfer(1, user(0), 0, Address::repeat_byte(0x33), U256::from(1), 1);
    json!({
        "legs": [
            { "chainId": "0x1", "txs": [tx.raw()], "revertingTxHashes": [tx.hash()] },
            { "chainId": "0xa", "relay": { "leg": 0, "message": 2 } },
            { "chainId": "0xb", "relay": { "chainId": "0x1", "txHash": tx.hash(), "message": 0 } },
        ],
        "blocks": { "0x1": { "min": "0x5", "max": "0x9" } },
        "minTimestamp": 1_700_000_000,
        "maxTimestamp": 1_700_000_600,
        "require": [{
            "chainId": "0xa",
            "account": "0x1111111111111111111111111111111111111111",
            "asset": "native",
            "minIncrease": "0xf4240",
        }],
        "replacementUuid": "3f2b8c1e-5d4a-4e7b-9c60-0a1b2c3d4e5f",
        "replacementNonce": 7,
    })
}

/// What stands in a bundle, to be replaced or removed.
const PLACES: [&str; 16] = [
    "/legs",
    "/legs/0",
    "/legs/0/chainId",
    "/legs/0/txs",
    "/legs/0/txs/0",
    "/legs/0/revertingTxHashes/0",
    "/legs/1/relay",
    "/legs/1/relay/leg",
    "/legs/2/relay/txHash",
    "/blocks",
    "/blocks/0x1/max",
    "/maxTimestamp",
    "/require/0/asset",
    "/require/0/minIncrease",
    "/replacementUuid",
    "/replacementNonce",
];

/// JSON of any kind, some of it of the right one for some place.
fn any_json() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "\\PC{0,40}".prop_map(Value::from),
        any::<u64>().prop_map(|number| Value::from(format!("{number:#x}"))),
        prop::collection::vec(any::<u8>(), 0..80).prop_map(|bytes| Value::from(alloy_primitives::hex::encode_prefixed(bytes))),
        Just(json!([])),
        Just(json!({})),
        Just(json!({ "legs": [] })),
        Just(json!({ "leg": 0, "message": 0, "chainId": "0x1" })),
    ]
}

#[test]
fn a_message_of_every_protocol_is_recognised_delivered_and_known_by_its_receipt() {
    let reached: Vec<_> = (0..6).map(|kind| fuzz::message(&[kind])).collect();
    let protocols = ["cctp-v1", "cctp-v2", "agglayer", "op-interop", "mailbox"];
    assert_eq!(reached[0], None, "a log of nobody's is no message");
    assert_eq!(reached[1..], protocols.map(Some));
}

#[test]
fn a_bundle_with_something_in_every_field_is_read() {
    assert!(bundle_json(bundle().to_string().as_bytes()));
    let whole = bundle();
    for place in PLACES {
        assert!(whole.pointer(place).is_some(), "{place} is there to be replaced");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn no_log_is_anything_but_a_message_that_is_delivered_or_refused_by_name(data in choices(), kind in 0_u8..6) {
        fuzz::message(&data);
        fuzz::message(&[vec![kind], data].concat());
    }

    #[test]
    fn no_identifier_is_executed_outside_its_window_or_without_its_log(data in choices()) {
        fuzz::identifier(&data);
    }

    #[test]
    fn no_access_list_is_read_as_another_than_was_written(data in choices()) {
        fuzz::access_list(&data);
    }

    #[test]
    fn no_proof_holds_for_another_exit(data in choices()) {
        fuzz::exit_proof(&data);
    }

    #[test]
    fn no_attestation_is_accepted_without_as_many_enabled_attesters_as_it_takes(data in choices()) {
        fuzz::attestation(&data);
    }

    #[test]
    fn attesters_fill_in_what_is_theirs_and_nothing_else(data in choices()) {
        fuzz::cctp_v2_fill(&data);
    }

    #[test]
    fn a_mailbox_delivers_what_was_written_and_nothing_else(data in choices()) {
        fuzz::mailbox(&data);
    }

    #[test]
    fn no_bytes_are_half_a_bundle(data in prop::collection::vec(any::<u8>(), 0..400)) {
        bundle_json(&data);
    }

    #[test]
    fn a_bundle_with_other_bytes_is_read_or_refused_with_a_reason(
        changes in prop::collection::vec((any::<Index>(), any::<u8>()), 1..4),
        cut in any::<Option<Index>>(),
    ) {
        let mut bytes = bundle().to_string().into_bytes();
        for (index, byte) in changes {
            let at = index.index(bytes.len());
            bytes[at] = byte;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        bundle_json(&bytes);
    }

    #[test]
    fn a_bundle_with_other_values_is_read_or_refused_with_a_reason(
        changes in prop::collection::vec((prop::sample::select(PLACES.to_vec()), any_json()), 1..4),
    ) {
        let mut bundle = bundle();
        for (place, value) in changes {
            // Gone with what stood above it.
            if let Some(there) = bundle.pointer_mut(place) {
                *there = value;
            }
        }
        bundle_json(bundle.to_string().as_bytes());
    }
}
