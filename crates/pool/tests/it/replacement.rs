//! What takes the place of what: by signer and uuid, and by nonce and fee.

use std::sync::Arc;

use alloy_consensus::{SignableTransaction, TxEnvelope, TxLegacy};
use alloy_primitives::{Address, Bytes, TxKind};
use lockstep_pool::{Kind, Limits, Pool};
use lockstep_primitives::{Bundle, Place, Reason, SignedTx};
use lockstep_testkit::{GWEI, bundle, gwei, sign_digest, user};

use crate::support::{
    ETH, OP, PAYEE, address, assert_refused, hold, hold_as, insert, pay_to, pending, pool, priced, replace, replacing, signed_by,
    single,
};

const UUID: &str = "00000000-0000-4000-8000-000000000001";
const OTHER: &str = "00000000-0000-4000-8000-000000000002";

/// A version of user 0's bundle.
fn version(nonce: u64) -> Bundle {
    version_of(0, UUID, nonce)
}

/// Somebody's bundle under a uuid. What is in it differs from version to version.
fn version_of(sender: usize, uuid: &str, nonce: u64) -> Bundle {
    replacing(signed_by(single(ETH, sender, nonce), address(sender)), uuid, nonce)
}

#[test]
fn a_higher_nonce_replaces_under_the_same_signer_and_uuid() {
    let mut pool = pool();
    let first = hold(&mut pool, &version(1));
    let second = replace(&mut pool, &version(2), Kind::Bundle, vec![first]);
    let last = replace(&mut pool, &version(9), Kind::Bundle, vec![second]);
    assert_eq!(pending(&pool), [last]);
    assert_eq!(pool.cancellable(address(0), UUID), Ok(Some(last)));
}

#[test]
fn a_nonce_that_does_not_rise_is_refused() {
    let mut pool = pool();
    let current = hold(&mut pool, &version(5));
    let mut same_nonce = version(5);
    same_nonce.max_timestamp = Some(u64::MAX);
    let reason = Reason::ReplacementNonceTooLow { nonce: 5, current: 5 };
    let result = insert(&mut pool, &same_nonce, Kind::Bundle);
    assert_refused(result, "replacement_nonce_too_low", Place::BUNDLE, reason);
    let reason = Reason::ReplacementNonceTooLow { nonce: 4, current: 5 };
    let result = insert(&mut pool, &version(4), Kind::Bundle);
    assert_refused(result, "replacement_nonce_too_low", Place::BUNDLE, reason);
    assert_eq!(pending(&pool), [current]);
}

#[test]
fn the_very_same_bundle_is_known_and_changes_nothing() {
    let mut pool = pool();
    let hash = hold(&mut pool, &version(5));
    let again = insert(&mut pool, &version(5), Kind::Bundle).expect("it is known");
    assert!(again.known && again.replaced.is_empty());
    assert_eq!((again.hash, pending(&pool)), (hash, vec![hash]));
    assert_eq!(pool.get(hash).map(|entry| entry.sequence), Some(0), "it keeps its place");
}

#[test]
fn the_same_uuid_of_another_signer_is_another_identity() {
    let mut pool = pool();
    let mine = hold(&mut pool, &version_of(0, UUID, 5));
    let yours = hold(&mut pool, &version_of(1, UUID, 1));
    assert_eq!(pending(&pool), [mine, yours]);
    assert_eq!(pool.cancellable(address(0), UUID), Ok(Some(mine)));
    assert_eq!(pool.cancellable(address(1), UUID), Ok(Some(yours)));
    assert_eq!(pool.cancellable(address(2), UUID), Ok(None));
}

#[test]
fn another_uuid_of_the_same_signer_is_another_identity() {
    let mut pool = pool();
    let one = hold(&mut pool, &version_of(0, UUID, 5));
    let other = hold(&mut pool, &version_of(0, OTHER, 1));
    assert_eq!(pending(&pool), [one, other]);
    assert_eq!(pool.cancellable(address(0), OTHER), Ok(Some(other)));
    assert_eq!(pool.cancellable(address(0), "no such uuid"), Ok(None));
}

#[test]
fn an_unsigned_request_replaces_nothing() {
    let mut pool = pool();
    let unsigned = replacing(single(ETH, 0, 0), UUID, 1);
    let result = insert(&mut pool, &unsigned, Kind::Bundle);
    assert_refused(result, "replacement_needs_signer", Place::BUNDLE, Reason::ReplacementNeedsSigner);
    assert!(pool.is_empty());
}

#[test]
fn what_was_taken_out_is_neither_replaced_nor_cancelled() {
    let mut pool = pool();
    let first = hold(&mut pool, &version(1));
    assert_eq!(pool.remove(first).map(|entry| entry.hash), Some(first));
    assert_eq!(pool.cancellable(address(0), UUID), Ok(None));
    assert!(pool.remove(first).is_none());
    hold(&mut pool, &version(2));
}

#[test]
fn a_late_request_does_not_bring_back_what_was_taken_out() {
    let mut pool = pool();
    let hash = hold(&mut pool, &version(5));
    pool.remove(hash);
    for nonce in [4, 5] {
        let reason = Reason::ReplacementNonceTooLow { nonce, current: 5 };
        let result = insert(&mut pool, &version(nonce), Kind::Bundle);
        assert_refused(result, "replacement_nonce_too_low", Place::BUNDLE, reason);
    }
    hold(&mut pool, &version(6));
    // Nobody else's nonces are used up.
    hold(&mut pool, &version_of(0, OTHER, 1));
    hold(&mut pool, &version_of(1, UUID, 1));
}

#[test]
fn remembering_what_was_taken_out_forgets_nothing_that_is_pending() {
    for pending in [1, 99] {
        // Whether it comes first or last in the order of addresses.
        let mut pool = Pool::new(Limits { bundles: 2, ..Limits::default() });
        let signed = |signer: u8, number| {
            let bundle = single(ETH, number, u64::from(signer));
            replacing(signed_by(bundle, Address::repeat_byte(signer)), UUID, 1)
        };
        let hash = hold(&mut pool, &signed(pending, 0));
        for passing in 2..60 {
            let hash = hold(&mut pool, &signed(passing, 1));
            pool.remove(hash);
        }
        assert_eq!(pool.cancellable(Address::repeat_byte(pending), UUID), Ok(Some(hash)));
    }
}

#[test]
fn taking_out_what_was_replaced_leaves_the_replacement_alone() {
    let mut pool = pool();
    let first = hold(&mut pool, &version(1));
    let second = replace(&mut pool, &version(2), Kind::Bundle, vec![first]);
    assert!(pool.remove(first).is_none());
    assert_eq!(pool.cancellable(address(0), UUID), Ok(Some(second)));
}

#[test]
fn a_frozen_bundle_is_neither_replaced_nor_cancelled() {
    let mut pool = pool();
    let first = hold(&mut pool, &version(1));
    pool.set_frozen([first], true);
    assert_eq!(pool.cancellable(address(0), UUID), Err(Reason::TooLate("proposed")));
    let result = insert(&mut pool, &version(2), Kind::Bundle);
    assert_refused(result, "too_late", Place::BUNDLE, Reason::TooLate("proposed"));
    assert_eq!(pending(&pool), [first]);

    pool.set_frozen([first], false);
    assert_eq!(pool.cancellable(address(0), UUID), Ok(Some(first)));
    replace(&mut pool, &version(2), Kind::Bundle, vec![first]);
}

#[test]
fn a_plain_transaction_is_replaced_only_when_both_fees_rise_by_a_tenth() {
    // (fee cap, tip) of the pending one, of the new one, and whether it is enough.
    let cases = [
        ((100, 10), (110, 11), true),
        ((100, 10), (109, 11), false),
        ((100, 10), (110, 10), false),
        ((100, 10), (1_000, 10), false),
        ((100, 10), (100, 100), false),
        // A tenth of what cannot be divided is rounded up.
        ((101, 10), (111, 11), false),
        ((101, 10), (112, 11), true),
        ((100, 11), (110, 12), false),
        ((100, 11), (110, 13), true),
        // A tenth of nothing is nothing.
        ((100, 0), (110, 0), true),
        ((u128::MAX, 10), (u128::MAX, 11), true),
    ];
    for ((old_cap, old_tip), (cap, tip), enough) in cases {
        let mut pool = pool();
        let old = hold_as(&mut pool, &priced(0, 0, old_cap, old_tip), Kind::Transaction);
        let new = priced(0, 0, cap, tip);
        if enough {
            let new = replace(&mut pool, &new, Kind::Transaction, vec![old]);
            assert_eq!(pending(&pool), [new], "{old_cap} {old_tip} -> {cap} {tip}");
        } else {
            let result = insert(&mut pool, &new, Kind::Transaction);
            assert_refused(result, "replacement_underpriced", Place::BUNDLE, Reason::ReplacementUnderpriced(10));
            assert_eq!(pending(&pool), [old], "{old_cap} {old_tip} -> {cap} {tip}");
        }
    }
}

/// A legacy transaction, which bids its gas price as both fees.
fn legacy(gas_price: u128) -> Bundle {
    let tx = TxLegacy {
        chain_id: Some(ETH),
        nonce: 0,
        gas_price,
        gas_limit: 21_000,
        to: TxKind::Call(PAYEE),
        value: gwei(1),
        input: Bytes::new(),
    };
    let signature = sign_digest(user(0), tx.signature_hash());
    let tx = SignedTx::from_parts(TxEnvelope::from(tx.into_signed(signature)), address(0));
    bundle().tx(ETH, Arc::new(tx)).build()
}

#[test]
fn a_legacy_transaction_bids_its_gas_price_as_both_fees() {
    let underpriced = |pool: &mut Pool, bundle: &Bundle| {
        let result = insert(pool, bundle, Kind::Transaction);
        assert_refused(result, "replacement_underpriced", Place::BUNDLE, Reason::ReplacementUnderpriced(10));
    };
    let mut pool = pool();
    let first = hold_as(&mut pool, &legacy(100 * GWEI), Kind::Transaction);
    underpriced(&mut pool, &legacy(110 * GWEI - 1));
    underpriced(&mut pool, &priced(0, 0, 200 * GWEI, 110 * GWEI - 1));
    let second = replace(&mut pool, &priced(0, 0, 200 * GWEI, 110 * GWEI), Kind::Transaction, vec![first]);
    underpriced(&mut pool, &legacy(219 * GWEI));
    replace(&mut pool, &legacy(220 * GWEI), Kind::Transaction, vec![second]);
}

#[test]
fn a_plain_transaction_competes_only_for_its_own_nonce_on_its_own_rollup() {
    let mut pool = pool();
    let bundles = [single(ETH, 0, 0), single(ETH, 0, 1), single(ETH, 1, 0), single(OP, 0, 0)];
    let hashes: Vec<_> = bundles.iter().map(|bundle| hold_as(&mut pool, bundle, Kind::Transaction)).collect();
    assert_eq!(pending(&pool), hashes);
}

#[test]
fn a_plain_transaction_leaves_bundles_and_private_transactions_alone() {
    let mut pool = pool();
    let in_a_bundle = hold_as(&mut pool, &priced(0, 0, 100, 10), Kind::Bundle);
    let private = hold_as(&mut pool, &priced(0, 0, 101, 10), Kind::PrivateTransaction);
    let plain = hold_as(&mut pool, &priced(0, 0, 102, 10), Kind::Transaction);
    assert_eq!(pending(&pool), [in_a_bundle, private, plain]);
    // And they leave it alone.
    let second = hold_as(&mut pool, &priced(0, 0, 10_000, 1_000), Kind::PrivateTransaction);
    let third = hold_as(&mut pool, &priced(0, 0, 20_000, 2_000), Kind::Bundle);
    assert_eq!(pending(&pool), [in_a_bundle, private, plain, second, third]);
}

#[test]
fn a_frozen_plain_transaction_is_not_replaced() {
    let mut pool = pool();
    let old = hold_as(&mut pool, &priced(0, 0, 100, 10), Kind::Transaction);
    pool.set_frozen([old], true);
    let result = insert(&mut pool, &priced(0, 0, 1_000, 100), Kind::Transaction);
    assert_refused(result, "too_late", Place::BUNDLE, Reason::TooLate("proposed"));
    assert_eq!(pending(&pool), [old]);
    pool.set_frozen([old], false);
    replace(&mut pool, &priced(0, 0, 1_000, 100), Kind::Transaction, vec![old]);
}

#[test]
fn one_insertion_can_replace_both_by_identity_and_by_nonce() {
    let mut pool = pool();
    let plain = hold_as(&mut pool, &priced(0, 0, 100, 10), Kind::Transaction);
    let named = hold(&mut pool, &replacing(signed_by(single(ETH, 0, 7), address(0)), UUID, 1));
    let both = replacing(signed_by(priced(0, 0, 200, 20), address(0)), UUID, 2);
    let hash = replace(&mut pool, &both, Kind::Transaction, vec![plain, named]);
    assert_eq!(pending(&pool), [hash]);
}

#[test]
fn asking_whether_a_bundle_could_come_in_changes_nothing() {
    let mut pool = pool();
    let first = hold(&mut pool, &version(1));
    let admitted = pool.admit(&version(2), Kind::Bundle).expect("it could");
    assert_eq!((admitted.known, admitted.replaced), (false, vec![first]));
    assert_eq!(pending(&pool), [first]);
    assert_eq!(pool.cancellable(address(0), UUID), Ok(Some(first)));
    let tx = pay_to(ETH, 0, 2, address(3));
    assert!(pool.admit(&bundle().tx(ETH, tx).build(), Kind::Bundle).is_ok());
    assert!(!pool.pays(ETH, address(3)) && !pool.has_nonce(ETH, address(0), 2));
}

#[test]
fn a_landed_bundle_comes_back_past_its_own_nonce_but_not_past_a_later_one() {
    let mut pool = pool();
    let landed = hold(&mut pool, &version(5));
    let entry = pool.remove(landed).expect("it was there");
    let refused = insert(&mut pool, &version(5), Kind::Bundle);
    let reason = Reason::ReplacementNonceTooLow { nonce: 5, current: 5 };
    assert_refused(refused, "replacement_nonce_too_low", Place::BUNDLE, reason);
    let back = pool.bring_back(entry.bundle, entry.kind, entry.sequence, entry.received_s).expect("its own nonce is no obstacle");
    assert_eq!((back.hash, pending(&pool)), (landed, vec![landed]));

    let entry = pool.remove(landed).expect("it was there");
    let later = hold(&mut pool, &version(6));
    let refused = pool.bring_back(entry.bundle, entry.kind, entry.sequence, entry.received_s);
    let reason = Reason::ReplacementNonceTooLow { nonce: 5, current: 6 };
    assert_refused(refused, "replacement_nonce_too_low", Place::BUNDLE, reason);
    assert_eq!(pending(&pool), [later]);
}

#[test]
fn public_transactions_are_counted_while_they_are_pending() {
    let mut pool = pool();
    let public = hold_as(&mut pool, &single(ETH, 0, 0), Kind::Transaction);
    hold_as(&mut pool, &single(ETH, 1, 0), Kind::PrivateTransaction);
    hold(&mut pool, &single(OP, 0, 0));
    assert_eq!(pool.transactions(), 1);
    pool.remove(public);
    assert_eq!(pool.transactions(), 0);
}
