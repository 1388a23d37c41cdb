//! When a bundle has to go.

use alloy_primitives::B256;
use lockstep_pool::{Heads, Kind, Limits, Pool};
use lockstep_testkit::bundle;

use crate::support::{ETH, ETH_HEAD, NOW, OP, OP_HEAD, heads, heads_at, hold, insert, pay, pending, pool, single};

const NOTHING: [B256; 0] = [];

fn expire(pool: &mut Pool, heads: &Heads, now_s: u64) -> Vec<B256> {
    pool.expire(heads, now_s).into_iter().map(|entry| entry.hash).collect()
}

#[test]
fn a_bundle_expires_with_its_last_block_on_any_of_its_rollups() {
    let mut pool = pool();
    let both = |nonce| bundle().tx(ETH, pay(ETH, 0, nonce)).tx(OP, pay(OP, 0, nonce));
    let early_on_eth = hold(&mut pool, &both(0).blocks(ETH, 0, ETH_HEAD + 1).blocks(OP, 0, OP_HEAD + 9).build());
    let early_on_op = hold(&mut pool, &both(1).blocks(OP, 0, OP_HEAD + 2).build());
    let endless = hold(&mut pool, &both(2).build());

    assert_eq!(expire(&mut pool, &heads(), NOW), NOTHING);
    assert_eq!(expire(&mut pool, &heads_at(ETH_HEAD + 1, OP_HEAD + 1), NOW), [early_on_eth]);
    assert_eq!(pending(&pool), [early_on_op, endless]);
    assert_eq!(expire(&mut pool, &heads_at(ETH_HEAD + 1, OP_HEAD + 2), NOW), [early_on_op]);
    assert_eq!(expire(&mut pool, &heads_at(u64::MAX, u64::MAX), NOW), NOTHING);
    assert_eq!(pending(&pool), [endless]);
}

#[test]
fn a_bundle_expires_after_its_last_second() {
    let mut pool = pool();
    let until = |nonce, max| bundle().tx(ETH, pay(ETH, 0, nonce)).timestamps(None, Some(max)).build();
    let early = hold(&mut pool, &until(0, NOW + 5));
    let late = hold(&mut pool, &until(1, NOW + 6));
    assert_eq!(expire(&mut pool, &heads(), NOW + 5), NOTHING);
    assert_eq!(expire(&mut pool, &heads(), NOW + 6), [early]);
    assert_eq!(expire(&mut pool, &heads(), NOW + 7), [late]);
    assert!(pool.is_empty());
}

#[test]
fn a_bundle_expires_after_the_lifetime_that_the_pool_gives() {
    let mut pool = Pool::new(Limits { lifetime_s: 30, ..Limits::default() });
    let bounded = bundle().tx(ETH, pay(ETH, 0, 0)).timestamps(None, Some(NOW + 1_000)).blocks(ETH, 0, u64::MAX).build();
    let hash = hold(&mut pool, &bounded);
    assert_eq!(expire(&mut pool, &heads(), NOW + 30), NOTHING);
    // Sending it again does not keep it alive.
    assert!(insert(&mut pool, &bounded, Kind::Bundle).expect("it is known").known);
    assert_eq!(expire(&mut pool, &heads(), NOW + 31), [hash]);
}

#[test]
fn what_is_handed_out_does_not_expire() {
    let mut pool = Pool::new(Limits { lifetime_s: 30, ..Limits::default() });
    let frozen = hold(&mut pool, &bundle().tx(ETH, pay(ETH, 0, 0)).blocks(ETH, 0, ETH_HEAD + 1).build());
    let free = hold(&mut pool, &single(ETH, 1, 0));
    pool.set_frozen([frozen], true);
    let later = heads_at(ETH_HEAD + 1, OP_HEAD);
    assert_eq!(expire(&mut pool, &later, NOW + 31), [free]);
    assert_eq!(pool.get(frozen).map(|entry| entry.frozen), Some(true));
    pool.set_frozen([frozen], false);
    assert_eq!(expire(&mut pool, &later, NOW + 31), [frozen]);
    assert!(pool.is_empty());
}

#[test]
fn a_rollup_whose_head_is_unknown_ends_nothing() {
    let mut pool = pool();
    let hash = hold(&mut pool, &bundle().tx(ETH, pay(ETH, 0, 0)).blocks(ETH, 0, 1).build());
    assert_eq!(expire(&mut pool, &Heads::new(), NOW), NOTHING);
    assert_eq!(expire(&mut pool, &heads(), NOW), [hash]);
}
