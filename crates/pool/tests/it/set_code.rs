//! Authorizations of EIP-7702: they use up nonces of whoever signed them, in transactions that anybody sends.

use std::collections::BTreeMap;

use alloy_consensus::{SignableTransaction, TxEip7702, TxEnvelope};
use alloy_primitives::{Bytes, U256};
use lockstep_pool::{AccountView, Kind, Limits, Pool, check, check_accounts};
use lockstep_primitives::{Bundle, Place, Reason, Rejection, RevertMode, SignedTx};
use lockstep_testkit::{GWEI, bundle, ether, sign_digest, user};

use crate::support::{ETH, NOW, OP, PAYEE, address, assert_refused, authorizing, heads, hold, hold_as, pay, pool, single};

/// Checks a bundle on accounts that are all rich and at nonce 4.
fn checked(bundle: &Bundle, pool: &Pool) -> Result<(), Rejection> {
    let account = AccountView { nonce: 4, balance: ether(1) };
    let accounts: BTreeMap<_, _> =
        [ETH, OP].into_iter().flat_map(|chain| (0..4).map(move |number| ((chain, address(number)), account))).collect();
    check_accounts(bundle, &accounts, pool)
}

fn too_high(number: usize, nonce: u64) -> Reason {
    Reason::NonceTooHigh { signer: address(number), nonce, account: 4 }
}

#[test]
fn authorities_are_those_whose_authorizations_can_count_on_the_rollup() {
    let tx = authorizing(ETH, (0, 4), &[(1, 7, ETH), (2, 8, 0), (3, 9, OP), (1, u64::MAX, ETH)]);
    assert_eq!(tx.authorities(ETH).collect::<Vec<_>>(), [(address(1), 7), (address(2), 8)]);
    assert_eq!(tx.authorities(OP).collect::<Vec<_>>(), [(address(2), 8), (address(3), 9)]);
    assert_eq!(tx.authorizations().len(), 4);
    assert!(pay(ETH, 0, 4).authorizations().is_empty());
    // What was asked of a transaction does not make it another one.
    let decoded = SignedTx::decode(tx.raw().clone()).expect("it is a transaction");
    assert_eq!(decoded, *tx);
    assert_eq!(decoded.authorities(ETH).collect::<Vec<_>>(), tx.authorities(ETH).collect::<Vec<_>>());
}

#[test]
fn a_pending_authorization_fills_a_gap_of_whoever_signed_it() {
    let mut pool = pool();
    let filler = hold(&mut pool, &bundle().tx(ETH, authorizing(ETH, (0, 4), &[(1, 4, ETH)])).build());
    assert_eq!(checked(&single(ETH, 1, 5), &pool), Ok(()));
    let place = Place::tx(ETH, 0, 0);
    assert_refused(checked(&single(ETH, 2, 5), &pool), "nonce_too_high", place, too_high(2, 5));
    assert_refused(checked(&single(ETH, 1, 6), &pool), "nonce_too_high", place, too_high(1, 6));
    assert_refused(checked(&single(OP, 1, 5), &pool), "nonce_too_high", Place::tx(OP, 0, 0), too_high(1, 5));
    pool.remove(filler);
    assert_refused(checked(&single(ETH, 1, 5), &pool), "nonce_too_high", place, too_high(1, 5));
}

#[test]
fn an_authorization_for_any_chain_fills_gaps_where_its_transaction_is() {
    let mut pool = pool();
    hold(&mut pool, &bundle().tx(ETH, authorizing(ETH, (0, 4), &[(1, 4, 0)])).build());
    assert_eq!(checked(&single(ETH, 1, 5), &pool), Ok(()));
    assert_refused(checked(&single(OP, 1, 5), &pool), "nonce_too_high", Place::tx(OP, 0, 0), too_high(1, 5));
}

#[test]
fn an_earlier_authorization_of_the_bundle_fills_a_gap_and_a_later_one_does_not() {
    let authorization = || authorizing(ETH, (0, 4), &[(1, 4, ETH)]);
    let after = bundle().tx(ETH, authorization()).tx(ETH, pay(ETH, 1, 5)).build();
    assert_eq!(checked(&after, &pool()), Ok(()));
    let before = bundle().tx(ETH, pay(ETH, 1, 5)).tx(ETH, authorization()).build();
    assert_refused(checked(&before, &pool()), "nonce_too_high", Place::tx(ETH, 0, 0), too_high(1, 5));
}

#[test]
fn an_authorization_of_the_sender_itself_comes_after_its_transaction() {
    let own = authorizing(ETH, (0, 4), &[(0, 5, ETH)]);
    let next = |nonce| bundle().txs(ETH, [(own.clone(), RevertMode::Fail), (pay(ETH, 0, nonce), RevertMode::Fail)]).build();
    assert_eq!(checked(&next(6), &pool()), Ok(()));
    assert_refused(checked(&next(7), &pool()), "nonce_too_high", Place::tx(ETH, 0, 1), too_high(0, 7));
}

#[test]
fn the_next_nonce_counts_authorizations_in_public_transactions() {
    let mut pool = pool();
    let public = bundle().tx(ETH, authorizing(ETH, (0, 4), &[(1, 4, ETH), (0, 5, ETH)])).build();
    let hash = hold_as(&mut pool, &public, Kind::Transaction);
    hold(&mut pool, &bundle().tx(ETH, authorizing(ETH, (2, 4), &[(1, 5, ETH)])).build());
    assert_eq!(pool.next_nonce(ETH, address(0), 4), 6);
    assert_eq!(pool.next_nonce(ETH, address(1), 4), 5, "a bundle's is nobody's to know");
    assert!(pool.has_authorization(ETH, address(1), 5));
    pool.remove(hash);
    assert_eq!((pool.next_nonce(ETH, address(0), 4), pool.next_nonce(ETH, address(1), 4)), (4, 4));
}

#[test]
fn too_many_authorizations_are_refused_however_they_are_spread() {
    let limits = Limits { authorizations: 3, ..Limits::default() };
    let with = |count: u64| {
        let first: Vec<_> = (0..2).map(|nonce| (1, nonce, ETH)).collect();
        let second: Vec<_> = (2..count).map(|nonce| (1, nonce, OP)).collect();
        bundle().tx(ETH, authorizing(ETH, (0, 0), &first)).tx(OP, authorizing(OP, (0, 0), &second)).build()
    };
    let reason = Reason::TooManyAuthorizations { count: 4, limit: 3 };
    assert_refused(check(&with(4), &heads(), NOW, &limits), "too_many_authorizations", Place::BUNDLE, reason);
    assert_eq!(check(&with(3), &heads(), NOW, &limits), Ok(()));
}

#[test]
fn set_code_transactions_are_refused_where_the_rules_do_not_know_them_and_without_authorizations() {
    let some = bundle().tx(ETH, authorizing(ETH, (0, 0), &[(1, 0, ETH)])).build();
    let place = Place::tx(ETH, 0, 0);
    let mut old = heads();
    old.get_mut(&ETH).expect("it is served").rules.set_code = false;
    let limits = Limits::default();
    assert_refused(check(&some, &old, NOW, &limits), "set_code_transaction", place, Reason::SetCodeTransaction);
    assert_eq!(check(&some, &heads(), NOW, &limits), Ok(()));
    let none = TxEip7702 {
        chain_id: ETH,
        gas_limit: 100_000,
        max_fee_per_gas: 20 * GWEI,
        to: PAYEE,
        value: U256::ZERO,
        input: Bytes::new(),
        ..TxEip7702::default()
    };
    let signature = sign_digest(user(0), none.signature_hash());
    let none = SignedTx::from_parts(TxEnvelope::from(none.into_signed(signature)), address(0));
    let refusal = check(&bundle().tx(ETH, none.into()).build(), &heads(), NOW, &limits);
    assert_eq!(refusal.expect_err("it is invalid").reason.code(), "invalid_transaction");
}
