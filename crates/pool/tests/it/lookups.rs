//! What the pool is asked: by hash, by dialect hash, by nonce, by payee.

use alloy_primitives::{B256, U256};
use lockstep_pool::{Kind, Pool};
use lockstep_primitives::{Bundle, RevertMode, dialect_bundle_hash};
use lockstep_testkit::{Call, GWEI, bundle, user};

use crate::support::{ETH, NOW, OP, PAYEE, address, hold, hold_as, insert, pay, pay_to, pending, pool, signed_by, single};

fn dialect(bundle: &Bundle) -> B256 {
    dialect_bundle_hash(bundle.txs().map(|tx| tx.tx.hash()))
}

fn sorted<const N: usize>(mut hashes: [B256; N]) -> Vec<B256> {
    hashes.sort_unstable();
    hashes.to_vec()
}

#[test]
fn bundles_of_the_same_transactions_share_a_dialect_hash() {
    let mut pool = pool();
    let plain = single(ETH, 0, 0);
    let bounded = bundle().tx(ETH, pay(ETH, 0, 0)).blocks(ETH, 0, 900).build();
    let droppable = bundle().txs(ETH, [(pay(ETH, 0, 0), RevertMode::Drop)]).build();
    let other = single(ETH, 0, 1);
    let shared = dialect(&plain);
    assert_eq!((dialect(&bounded), dialect(&droppable)), (shared, shared));

    let [one, two, three, four] = [&plain, &bounded, &droppable, &other].map(|bundle| hold(&mut pool, bundle));
    assert_eq!(pool.by_dialect_hash(shared), sorted([one, two, three]));
    assert_eq!(pool.by_dialect_hash(dialect(&other)), [four]);
    pool.remove(two);
    assert_eq!(pool.by_dialect_hash(shared), sorted([one, three]));
    pool.remove(one);
    pool.remove(three);
    assert!(pool.by_dialect_hash(shared).is_empty() && pool.by_dialect_hash(B256::ZERO).is_empty());
}

#[test]
fn the_revision_rises_with_every_change_and_with_nothing_else() {
    let mut pool = pool();
    let mut seen = pool.revision();
    let mut rose = |pool: &Pool| std::mem::replace(&mut seen, pool.revision()) < pool.revision();
    let bundle = single(ETH, 0, 0);
    let hash = hold(&mut pool, &bundle);
    assert!(rose(&pool), "it came in");
    assert!(insert(&mut pool, &bundle, Kind::Bundle).unwrap().known);
    assert!(!rose(&pool), "it was there");
    pool.set_frozen([hash], true);
    assert!(rose(&pool), "it was handed out");
    pool.set_frozen([hash], true);
    assert!(!rose(&pool), "it was handed out before");
    pool.set_frozen([hash], false);
    assert!(rose(&pool), "it is free again");
    pool.remove(hash);
    assert!(rose(&pool), "it is gone");
    pool.remove(hash);
    assert!(!rose(&pool), "it was gone");
}

#[test]
fn the_dialect_hash_goes_over_all_legs_in_order() {
    let mut pool = pool();
    let there = bundle().tx(ETH, pay(ETH, 0, 0)).tx(OP, pay(OP, 0, 0)).build();
    let back = bundle().tx(OP, pay(OP, 0, 0)).tx(ETH, pay(ETH, 0, 0)).build();
    let (first, second) = (hold(&mut pool, &there), hold(&mut pool, &back));
    assert_eq!(pool.by_dialect_hash(dialect(&there)), [first]);
    assert_eq!(pool.by_dialect_hash(dialect(&back)), [second]);
}

#[test]
fn the_next_nonce_comes_after_all_consecutive_public_ones() {
    let mut pool = pool();
    let next = |pool: &Pool, from| pool.next_nonce(ETH, address(0), from);
    assert_eq!(next(&pool, 3), 3);
    let third = hold_as(&mut pool, &single(ETH, 0, 3), Kind::Transaction);
    hold_as(&mut pool, &single(ETH, 0, 4), Kind::Transaction);
    hold_as(&mut pool, &single(ETH, 0, 6), Kind::Transaction);
    assert_eq!([3, 4, 5, 6, 7].map(|from| next(&pool, from)), [5, 5, 5, 7, 7]);
    // Bundles and private transactions may never land, and are nobody else's to know.
    let many = bundle().txs(ETH, [(pay(ETH, 0, 5), RevertMode::Fail), (pay(ETH, 0, 7), RevertMode::Drop)]).build();
    hold(&mut pool, &many);
    hold_as(&mut pool, &single(ETH, 0, 8), Kind::PrivateTransaction);
    assert_eq!([3, 5, 7].map(|from| next(&pool, from)), [5, 5, 7]);
    pool.remove(third);
    assert_eq!([3, 4].map(|from| next(&pool, from)), [3, 5]);
    // Others, and other rollups, have nonces of their own.
    assert_eq!(pool.next_nonce(ETH, address(1), 4), 4);
    assert_eq!(pool.next_nonce(OP, address(0), 4), 4);
}

#[test]
fn a_nonce_stays_taken_while_one_of_several_bundles_has_it() {
    let mut pool = pool();
    let first = hold(&mut pool, &single(ETH, 0, 0));
    let second = hold(&mut pool, &bundle().tx(ETH, pay_to(ETH, 0, 0, address(3))).build());
    let third = hold(&mut pool, &signed_by(single(ETH, 0, 0), address(2)));
    for hash in [first, second, third] {
        assert!(pool.has_nonce(ETH, address(0), 0));
        pool.remove(hash);
    }
    assert!(!pool.has_nonce(ETH, address(0), 0));
}

#[test]
fn payments_are_found_by_rollup_and_payee() {
    let mut pool = pool();
    let payment = hold(&mut pool, &single(ETH, 0, 0));
    let call = Call::contract(address(4), Default::default(), 50_000).sign(ETH, user(1), 0, GWEI);
    hold(&mut pool, &bundle().tx(ETH, call).build());
    let call = Call::contract(address(5), Default::default(), 50_000).with_value(U256::from(1)).sign(ETH, user(1), 1, GWEI);
    hold(&mut pool, &bundle().tx(ETH, call).build());
    assert!(pool.pays(ETH, PAYEE) && !pool.pays(OP, PAYEE));
    assert!(!pool.pays(ETH, address(4)), "a call without value pays nothing");
    assert!(pool.pays(ETH, address(5)), "a call with value pays the contract");
    pool.remove(payment);
    assert!(!pool.pays(ETH, PAYEE));
}

#[test]
fn bundles_are_listed_in_the_order_of_their_admission() {
    let mut pool = pool();
    let bundles: Vec<Bundle> = (0..6).map(|number| single(ETH, number, 0)).collect();
    for (bundle, sequence) in bundles.iter().zip([30, 10, 50, 0, 40, 20]) {
        pool.insert(bundle.clone().into(), Kind::Bundle, sequence, NOW).expect("the pool takes it");
    }
    let expected: Vec<B256> = [3, 1, 5, 0, 4, 2].iter().map(|index: &usize| bundles[*index].hash()).collect();
    assert_eq!(pending(&pool), expected);
}

#[test]
fn an_entry_says_how_and_when_its_bundle_came_in() {
    let mut pool = pool();
    let bundle = single(ETH, 0, 0);
    let inserted = pool.insert(bundle.clone().into(), Kind::PrivateTransaction, 7, NOW + 1).expect("the pool takes it");
    let entry = pool.get(inserted.hash).expect("it is there");
    assert_eq!((entry.hash, entry.kind, entry.sequence), (bundle.hash(), Kind::PrivateTransaction, 7));
    assert_eq!((entry.received_s, entry.frozen), (NOW + 1, false));
    assert_eq!(*entry.bundle, bundle);
}
