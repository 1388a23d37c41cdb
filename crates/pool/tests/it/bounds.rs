//! How much the pool holds: in all, and of one sender.

use alloy_primitives::B256;
use lockstep_pool::{Inserted, Kind, Limits, Pool};
use lockstep_primitives::{Bundle, LandedRef, Leg, Place, Reason, Rejection, Relay};

use crate::support::{
    ETH, OP, address, assert_refused, hold, hold_as, insert, pending, priced, replace, replacing, signed_by, single,
};

fn pool_of(bundles: usize, bundles_per_sender: usize) -> Pool {
    Pool::new(Limits { bundles, bundles_per_sender, ..Limits::default() })
}

fn assert_full(result: Result<Inserted, Rejection>, limit: usize) {
    assert_refused(result, "pool_full", Place::BUNDLE, Reason::PoolFull { limit });
}

fn assert_sender_full(result: Result<Inserted, Rejection>, limit: usize) {
    assert_refused(result, "sender_full", Place::BUNDLE, Reason::SenderFull { limit });
}

#[test]
fn a_full_pool_takes_nothing_new() {
    let mut pool = pool_of(2, 2);
    let first = hold(&mut pool, &single(ETH, 0, 0));
    let second = hold(&mut pool, &single(ETH, 1, 0));
    assert_full(insert(&mut pool, &single(ETH, 2, 0), Kind::Bundle), 2);
    assert_eq!((pending(&pool), pool.len()), (vec![first, second], 2));
    let again = insert(&mut pool, &single(ETH, 0, 0), Kind::Bundle).expect("it is there already");
    assert!(again.known);

    pool.remove(first);
    let third = hold(&mut pool, &single(ETH, 2, 0));
    assert_eq!(pending(&pool), [second, third]);
}

#[test]
fn a_full_pool_still_takes_replacements() {
    let mut pool = pool_of(2, 2);
    let named = |nonce| replacing(signed_by(single(ETH, 0, nonce), address(0)), "u", nonce);
    let first = hold(&mut pool, &named(1));
    let plain = hold_as(&mut pool, &priced(1, 0, 100, 10), Kind::Transaction);
    let second = replace(&mut pool, &named(2), Kind::Bundle, vec![first]);
    let bumped = replace(&mut pool, &priced(1, 0, 110, 11), Kind::Transaction, vec![plain]);
    assert_eq!(pending(&pool), [second, bumped]);
    assert_full(insert(&mut pool, &single(OP, 2, 0), Kind::Bundle), 2);
}

#[test]
fn one_sender_has_no_more_than_its_share() {
    let mut pool = pool_of(10, 2);
    let first = hold(&mut pool, &single(ETH, 0, 0));
    hold(&mut pool, &single(OP, 0, 0));
    assert_sender_full(insert(&mut pool, &single(ETH, 0, 1), Kind::Bundle), 2);
    hold(&mut pool, &single(ETH, 1, 0));
    assert!(insert(&mut pool, &single(OP, 0, 0), Kind::Bundle).expect("it is there already").known);

    pool.remove(first);
    hold(&mut pool, &single(ETH, 0, 1));
    assert_sender_full(insert(&mut pool, &single(ETH, 0, 2), Kind::Bundle), 2);
}

#[test]
fn the_pending_bundles_of_one_sender_ask_for_no_more_gas_than_its_share() {
    let gas = |bundle: &Bundle| bundle.txs().map(|tx| tx.tx.gas_limit()).sum::<u64>();
    let of_one = gas(&single(ETH, 0, 0));
    let mut pool = Pool::new(Limits { gas_per_sender: 2 * of_one, ..Limits::default() });
    let refused = |pool: &mut Pool, bundle: &Bundle| {
        let reason = Reason::SenderGas { gas: 2 * of_one, limit: 2 * of_one };
        assert_refused(insert(pool, bundle, Kind::Bundle), "sender_gas", Place::BUNDLE, reason);
    };
    let first = hold(&mut pool, &single(ETH, 0, 0));
    let named = |nonce| replacing(signed_by(single(OP, 0, 0), address(0)), "u", nonce);
    let second = hold(&mut pool, &named(1));
    refused(&mut pool, &single(ETH, 0, 1));
    hold(&mut pool, &single(ETH, 1, 0));
    // What makes way asks for nothing more.
    replace(&mut pool, &named(2), Kind::Bundle, vec![second]);
    refused(&mut pool, &single(ETH, 0, 1));
    pool.remove(first);
    hold(&mut pool, &single(ETH, 0, 1));
    refused(&mut pool, &single(ETH, 0, 2));
}

#[test]
fn a_sender_with_its_share_can_still_replace() {
    let mut pool = pool_of(10, 1);
    let named = |nonce| replacing(signed_by(single(ETH, 0, nonce), address(0)), "u", nonce);
    let first = hold(&mut pool, &named(1));
    assert_sender_full(insert(&mut pool, &signed_by(single(OP, 0, 0), address(0)), Kind::Bundle), 1);
    replace(&mut pool, &named(2), Kind::Bundle, vec![first]);
    let plain = hold_as(&mut pool, &priced(1, 0, 100, 10), Kind::Transaction);
    assert_sender_full(insert(&mut pool, &priced(1, 1, 100, 10), Kind::Transaction), 1);
    replace(&mut pool, &priced(1, 0, 110, 11), Kind::Transaction, vec![plain]);
    assert_sender_full(insert(&mut pool, &signed_by(single(OP, 0, 0), address(0)), Kind::Bundle), 1);
}

#[test]
fn the_sender_is_who_signed_the_first_transaction_whoever_signed_the_request() {
    let mut pool = pool_of(10, 1);
    hold(&mut pool, &signed_by(single(ETH, 0, 0), address(1)));
    // Keys that sign requests are free: another of them is no other sender.
    assert_sender_full(insert(&mut pool, &single(ETH, 0, 1), Kind::Bundle), 1);
    assert_sender_full(insert(&mut pool, &signed_by(single(ETH, 0, 2), address(2)), Kind::Bundle), 1);
    hold(&mut pool, &single(ETH, 1, 0));
}

#[test]
fn who_takes_the_place_of_somebody_else_has_no_more_than_its_share() {
    let mut pool = pool_of(10, 1);
    // The request is signed by user 2, whoever signs the transactions.
    let named = |sender, nonce| replacing(signed_by(single(ETH, sender, nonce), address(2)), "u", nonce);
    let first = hold(&mut pool, &named(0, 1));
    let second = hold(&mut pool, &single(ETH, 1, 0));
    assert_sender_full(insert(&mut pool, &named(1, 2), Kind::Bundle), 1);
    assert_eq!(pending(&pool), [first, second]);
}

#[test]
fn a_refusal_counts_for_nothing() {
    let mut pool = pool_of(10, 1);
    let first = hold(&mut pool, &single(ETH, 0, 0));
    for nonce in 1..4 {
        assert_sender_full(insert(&mut pool, &single(ETH, 0, nonce), Kind::Bundle), 1);
        assert!(!pool.has_nonce(ETH, address(0), nonce));
    }
    pool.remove(first);
    hold(&mut pool, &single(ETH, 0, 1));
}

#[test]
fn bundles_of_relays_alone_share_one_senders_share() {
    let mut pool = pool_of(10, 2);
    let delivery = |message| {
        let landed = LandedRef { chain: ETH, tx: B256::repeat_byte(7), message };
        Bundle { legs: vec![Leg::Relay { chain: OP, relay: Relay::Landed(landed) }], ..Bundle::default() }
    };
    hold(&mut pool, &delivery(0));
    hold(&mut pool, &delivery(1));
    assert_sender_full(insert(&mut pool, &delivery(2), Kind::Bundle), 2);
    hold(&mut pool, &single(ETH, 0, 0));
}
