//! Stories of slots: several blocks on one rollup, bounds, room, and proposals for sets of rollups.

use alloy_primitives::I256;
use lockstep_building::{Draft, proposals, simulate_all};
use lockstep_primitives::{BlockRange, Bundle, ChainId, Place, Reason, Rejection, RollupSet};
use lockstep_testkit::{BLOCK_TIME, GENESIS_TIME, ISTHMUS, PRAGUE, Wallet, World, bundle, calls, candidates, gwei};

use crate::support::{build_all, lists, placed, reason, seal_on};

const ETH: ChainId = PRAGUE;
const OP: ChainId = ISTHMUS;

/// One block on ETH, two on OP.
fn two_blocks_on_op() -> World {
    World::pair().with_blocks(OP, 2)
}

/// A user pays the proposer on both rollups.
fn on_both(world: &World, user: usize) -> Bundle {
    let mut payer = Wallet::user(user);
    let on_eth = payer.send(ETH, world.pay_proposer(gwei(1)));
    let on_op = payer.send(OP, world.pay_proposer(gwei(1)));
    bundle().tx(ETH, on_eth).tx(OP, on_op).build()
}

fn on_one(world: &World, chain: ChainId, user: usize) -> Bundle {
    bundle().tx(chain, Wallet::user(user).send(chain, world.pay_proposer(gwei(1)))).build()
}

/// How many transactions each block of a rollup has after its forced prefix.
fn counts(draft: &Draft, chain: ChainId) -> Vec<usize> {
    lists(draft)[&chain].iter().map(Vec::len).collect()
}

#[test]
fn a_slot_has_two_blocks_on_one_rollup_and_one_on_the_other() {
    let world = two_blocks_on_op();
    let head = world.head(OP);
    let mut waits = on_both(&world, 0);
    waits.blocks.insert(OP, BlockRange { min: head + 2, max: head + 2 });
    let candidates = candidates([waits, on_both(&world, 1)]);
    let draft = build_all(&world, &candidates);

    assert_eq!(placed(&draft), [candidates[1].hash, candidates[0].hash], "left out: {:?}", draft.left_out);
    assert_eq!(counts(&draft, ETH), [2]);
    assert_eq!(counts(&draft, OP), [1, 1]);
    let sealed = seal_on(&world, &draft, OP).expect("it seals");
    let numbers: Vec<(u64, u64)> = sealed.list.blocks.iter().map(|block| (block.number, block.timestamp)).collect();
    let times = [GENESIS_TIME + BLOCK_TIME, GENESIS_TIME + 2 * BLOCK_TIME];
    assert_eq!(numbers, [(head + 1, times[0]), (head + 2, times[1])]);
    assert_eq!(sealed.legs[&(candidates[0].hash, 1)].first().map(|listed| (listed.block, listed.position)), Some((1, 0)));
    // Each of OP's blocks begins with its forced deposit.
    assert!(draft.lanes[&OP].blocks.iter().all(|block| block.forced == 1));
}

#[test]
fn timestamps_choose_the_block_as_well() {
    let world = two_blocks_on_op();
    let late = GENESIS_TIME + 2 * BLOCK_TIME;
    let pay = |user: usize| Wallet::user(user).send(OP, world.pay_proposer(gwei(1)));
    let bundles = candidates([
        bundle().tx(OP, pay(0)).timestamps(Some(late), None).build(),
        bundle().tx(OP, pay(1)).timestamps(None, Some(late - 1)).build(),
        bundle().tx(OP, pay(2)).timestamps(Some(late + 1), None).build(),
        bundle().tx(OP, pay(3)).timestamps(None, Some(GENESIS_TIME)).build(),
    ]);
    let draft = build_all(&world, &bundles);
    assert_eq!(placed(&draft), [bundles[1].hash, bundles[0].hash]);
    assert_eq!(counts(&draft, OP), [1, 1]);
    assert_eq!(reason(&draft, bundles[2].hash).reason.code(), "not_yet");
    let expected = Reason::PastTimestamp { max: GENESIS_TIME, now: late };
    assert_eq!(*reason(&draft, bundles[3].hash), Rejection::new(Place::rollup(OP), expected));
}

#[test]
fn block_bounds_that_the_slot_does_not_meet_keep_a_bundle_out_on_all_rollups() {
    let world = World::pair();
    let head = world.head(OP);
    let mut early = on_both(&world, 0);
    early.blocks.insert(OP, BlockRange { min: 0, max: head });
    let mut late = on_both(&world, 1);
    late.blocks.insert(OP, BlockRange { min: head + 2, max: head + 9 });
    let bundles = candidates([early, late]);
    let draft = build_all(&world, &bundles);
    assert_eq!(draft.placed.len(), 0);
    let expected = Reason::PastBlock { max: head, head };
    assert_eq!(*reason(&draft, bundles[0].hash), Rejection::new(Place::rollup(OP), expected));
    let late = reason(&draft, bundles[1].hash);
    assert_eq!((late.place, late.reason.code()), (Place::rollup(OP), "not_yet"));
    assert_eq!((counts(&draft, ETH), counts(&draft, OP)), (vec![0], vec![0]));
}

#[test]
fn what_has_no_room_in_the_first_block_goes_into_the_second() {
    // After the deposit a block has room for the gas limit of one call, and not for that of a second.
    let world = two_blocks_on_op().with_gas_limit(150_000);
    let store = |user: usize| {
        let store = Wallet::user(user).send(OP, world.probe(calls::store(user as u64, 1)));
        bundle().tx(OP, store).build()
    };
    let bundles = candidates([store(0), store(1), store(2)]);
    let draft = build_all(&world, &bundles);
    assert_eq!(placed(&draft), [bundles[0].hash, bundles[1].hash], "among equals the earlier goes first");
    assert_eq!(counts(&draft, OP), [1, 1]);
    assert_eq!(reason(&draft, bundles[2].hash).reason.code(), "no_room");
}

#[test]
fn gas_that_is_kept_for_encrypted_transactions_is_for_no_bundle() {
    // Each block has room for one call; in the last one all of it is kept.
    let world = two_blocks_on_op().with_gas_limit(150_000).with_encrypted_gas(150_000);
    let store = |user: usize| {
        let store = Wallet::user(user).send(OP, world.probe(calls::store(user as u64, 1)));
        bundle().tx(OP, store).build()
    };
    let bundles = candidates([store(0), store(1)]);
    let draft = build_all(&world, &bundles);
    assert_eq!(counts(&draft, OP), [1, 0]);
    assert_eq!(reason(&draft, bundles[1].hash).reason.code(), "no_room");
    assert_eq!(counts(&build_all(&world.with_encrypted_gas(0), &bundles), OP), [1, 1]);
}

#[test]
fn a_proposal_for_one_rollup_never_holds_a_bundle_that_needs_another() {
    let world = World::pair();
    let bundles = candidates([on_both(&world, 0), on_one(&world, ETH, 1), on_one(&world, OP, 2)]);
    let simulated = simulate_all(&world.view, &bundles).expect("the engine works");
    let drafts = proposals(&world.view, &simulated).expect("the engine works");
    let sets: Vec<RollupSet> = drafts.iter().map(|draft| draft.rollups.clone()).collect();
    assert_eq!(sets, [RollupSet::from([ETH]), RollupSet::from([OP]), RollupSet::from([ETH, OP])]);
    assert_eq!(placed(&drafts[0]), [bundles[1].hash]);
    assert_eq!(placed(&drafts[1]), [bundles[2].hash]);
    assert_eq!(drafts[2].placed.len(), 3);
    let apart = drafts[0].value + drafts[1].value;
    assert!(drafts[2].value > apart && apart > I256::ZERO, "together they are worth more");
    assert!(!drafts[0].has_cross_rollup() && drafts[2].has_cross_rollup());
}

#[test]
fn rollups_that_no_bundle_holds_together_are_proposed_for_one_by_one() {
    let world = World::quartet();
    let simulated = simulate_all(&world.view, &[]).expect("the engine works");
    let drafts = proposals(&world.view, &simulated).expect("the engine works");
    assert_eq!(drafts.len(), 4);
    assert!(drafts.iter().all(|draft| draft.rollups.len() == 1 && draft.placed.is_empty()));
}
