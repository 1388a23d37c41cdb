//! A list does what the lane did that it was made of, and nothing else can be in a list.

use std::sync::Arc;

use alloy_primitives::{Address, B256, Bytes, TxKind, U256};
use lockstep_primitives::{BlockList, ChainId, ListBlock, Reason};
use lockstep_simulation::{BlockTx, Deposit, Lane, LaneBlock, LaneError, PendingBlock, SlotRollup, execute_list};
use lockstep_testkit::{BLOCK_TIME, Call, GENESIS_TIME, ISTHMUS, JOVIAN, OSAKA, PRAGUE, Wallet, World, calls, gwei};
use op_alloy::consensus::TxDeposit;
use proptest::prelude::*;

use crate::{
    plans::{Step, play, steps},
    support::{Checked, address, config, first_block, print, rollup, run, world},
};

fn list_of(chain: ChainId, blocks: &[LaneBlock]) -> BlockList {
    let blocks = blocks.iter().map(|block| ListBlock {
        number: block.block.context().number,
        timestamp: block.block.context().timestamp,
        transactions: block.listed().iter().map(|executed| executed.tx.raw().clone()).collect(),
    });
    BlockList { chain, blocks: blocks.collect() }
}

/// Builds two blocks, rollbacks and all, and executes the list of what stayed.
fn a_list_does_what_the_lane_did(chain: ChainId, first: &[Step], second: &[Step]) -> Checked {
    let world = world(chain).with_blocks(chain, 2);
    let rollup = rollup(&world, chain);
    let mut lane = Lane::open(Arc::clone(&rollup)).expect("the lane opens");
    let mut stayed = vec![play(&world, lane.block_mut(), first, false)?];
    prop_assert!(lane.advance().expect("the first block ends"));
    stayed.push(play(&world, lane.block_mut(), second, false)?);
    let built = lane.finish().expect("the second block ends");
    for (block, stayed) in built.iter().zip(&stayed) {
        let listed: Vec<B256> = block.listed().iter().map(|executed| executed.tx.hash()).collect();
        prop_assert_eq!(listed, stayed.iter().map(|(tx, _)| tx.hash()).collect::<Vec<_>>());
    }

    let executed = execute_list(&rollup, &list_of(chain, &built)).expect("what was built is valid");
    prop_assert_eq!(executed.len(), built.len());
    for (executed, built) in executed.iter().zip(&built) {
        prop_assert_eq!(executed.block.context(), built.block.context());
        prop_assert_eq!(print(&executed.block), print(&built.block));
        prop_assert_eq!(executed.summary(), built.summary());
        prop_assert_eq!(executed.forced, built.forced);
    }
    Ok(())
}

proptest! {
    #![proptest_config(config(100))]

    #[test]
    fn a_list_does_what_the_lane_did_under_prague_rules(first in steps(12), second in steps(12)) {
        a_list_does_what_the_lane_did(PRAGUE, &first, &second)?;
    }

    #[test]
    fn a_list_does_what_the_lane_did_under_osaka_rules(first in steps(12), second in steps(12)) {
        a_list_does_what_the_lane_did(OSAKA, &first, &second)?;
    }

    #[test]
    fn a_list_does_what_the_lane_did_behind_a_forced_prefix(first in steps(12), second in steps(12)) {
        a_list_does_what_the_lane_did(ISTHMUS, &first, &second)?;
    }

    #[test]
    fn a_list_does_what_the_lane_did_under_jovian_rules(first in steps(12), second in steps(12)) {
        a_list_does_what_the_lane_did(JOVIAN, &first, &second)?;
    }
}

/// A list of one block for a rollup of a world.
fn list(world: &World, chain: ChainId, transactions: Vec<Bytes>) -> (Arc<SlotRollup>, BlockList) {
    let block = ListBlock { number: world.head(chain) + 1, timestamp: GENESIS_TIME + BLOCK_TIME, transactions };
    (rollup(world, chain), BlockList { chain, blocks: vec![block] })
}

fn refused((rollup, list): (Arc<SlotRollup>, BlockList)) -> LaneError {
    execute_list(&rollup, &list).expect_err("the list is refused")
}

fn deposit(to: Address, mint: u128) -> BlockTx {
    BlockTx::Deposit(Arc::new(Deposit::new(TxDeposit {
        source_hash: B256::repeat_byte(0x50),
        from: address(0),
        to: TxKind::Call(to),
        mint,
        value: U256::ZERO,
        gas_limit: 100_000,
        is_system_transaction: false,
        input: Bytes::new(),
    })))
}

fn payment(chain: ChainId, nonce: u64) -> Bytes {
    Wallet::user(0).send_at(chain, nonce, Call::pay(address(1), gwei(1))).raw().clone()
}

#[test]
fn deposits_are_refused_in_a_list() {
    for chain in [PRAGUE, ISTHMUS, JOVIAN] {
        let world = world(chain);
        let minting = deposit(address(0), 1).raw().clone();
        let refusal = refused(list(&world, chain, vec![payment(chain, 0), minting]));
        assert_eq!(refusal, LaneError::Invalid { block: 0, index: 1, reason: Reason::DepositTransaction });
    }
}

#[test]
fn the_forced_prefix_itself_is_refused_in_a_list() {
    let world = world(ISTHMUS);
    let forced = world.view.rollups[&ISTHMUS].slot.blocks[0].forced[0].raw().clone();
    let refusal = refused(list(&world, ISTHMUS, vec![forced]));
    assert_eq!(refusal, LaneError::Invalid { block: 0, index: 0, reason: Reason::DepositTransaction });
}

#[test]
fn a_deposit_is_no_transaction_under_ethereum_rules() {
    let world = world(PRAGUE);
    let mut block = first_block(&rollup(&world, PRAGUE));
    let before = print(&block);
    let refusal = block.execute(&deposit(address(1), 5)).expect("the engine works").map(|_| ());
    assert_eq!(refusal, Err(Reason::DepositTransaction));
    assert_eq!(print(&block), before);
}

#[test]
fn bytes_that_are_no_transaction_are_refused_in_a_list() {
    let world = world(PRAGUE);
    let mut longer = payment(PRAGUE, 0).to_vec();
    longer.push(0);
    for bytes in [Bytes::new(), Bytes::from_static(&[0x02, 0xc0]), longer.into()] {
        let refusal = refused(list(&world, PRAGUE, vec![bytes]));
        let LaneError::Invalid { block: 0, index: 0, reason } = refusal else { panic!("it is refused otherwise") };
        assert_eq!(reason.code(), "undecodable_transaction");
    }
}

#[test]
fn an_invalid_transaction_is_refused_in_a_list_and_a_reverted_one_is_not() {
    let world = world(PRAGUE);
    let mut who = Wallet::user(0);
    let fails = who.send(PRAGUE, world.probe(calls::fail("as planned")));
    let (rollup, good) = list(&world, PRAGUE, vec![fails.raw().clone(), payment(PRAGUE, 1)]);
    let blocks = execute_list(&rollup, &good).expect("a list may hold what reverts");
    let succeeded: Vec<bool> = blocks[0].listed().iter().map(|executed| executed.outcome.succeeded()).collect();
    assert_eq!(succeeded, [false, true]);

    let refusal = refused(list(&world, PRAGUE, vec![payment(PRAGUE, 0), payment(PRAGUE, 0)]));
    let reason = Reason::NonceTooLow { signer: address(0), nonce: 0, account: 1 };
    assert_eq!(refusal, LaneError::Invalid { block: 0, index: 1, reason });
}

#[test]
fn a_list_has_exactly_the_blocks_of_the_slot() {
    let world = world(PRAGUE).with_blocks(PRAGUE, 2);
    let rollup = rollup(&world, PRAGUE);
    let mut lane = Lane::open(Arc::clone(&rollup)).expect("the lane opens");
    run(lane.block_mut(), &Wallet::user(0).send_at(PRAGUE, 0, Call::pay(address(1), gwei(1))));
    let good = list_of(PRAGUE, &lane.finish().expect("both blocks end"));
    assert_eq!(good.blocks.iter().map(|block| block.transactions.len()).collect::<Vec<_>>(), [1, 0]);
    assert_eq!(execute_list(&rollup, &good).expect("it is good").len(), 2);

    let head = world.head(PRAGUE);
    let planned = [(head + 1, GENESIS_TIME + BLOCK_TIME), (head + 2, GENESIS_TIME + 2 * BLOCK_TIME)];
    let other = |change: &dyn Fn(&mut BlockList)| {
        let mut list = good.clone();
        change(&mut list);
        execute_list(&rollup, &list).expect_err("the list is refused")
    };
    let refusal = other(&|list| list.blocks.truncate(1));
    assert_eq!(refusal, LaneError::OtherBlocks { listed: None, planned: Some(planned[1]) });
    let refusal = other(&|list| list.blocks.clear());
    assert_eq!(refusal, LaneError::OtherBlocks { listed: None, planned: Some(planned[0]) });
    let refusal = other(&|list| list.blocks.push(ListBlock { number: head + 3, timestamp: 7, transactions: Vec::new() }));
    assert_eq!(refusal, LaneError::OtherBlocks { listed: Some((head + 3, 7)), planned: None });
    let refusal = other(&|list| list.blocks[1].timestamp += 1);
    let listed = Some((planned[1].0, planned[1].1 + 1));
    assert_eq!(refusal, LaneError::OtherBlocks { listed, planned: Some(planned[1]) });
    let refusal = other(&|list| list.blocks[0].number = 0);
    assert_eq!(refusal, LaneError::OtherBlocks { listed: Some((0, planned[0].1)), planned: Some(planned[0]) });
}

#[test]
fn the_block_after_a_block_begins_where_it_ended() {
    let world = world(OSAKA).with_blocks(OSAKA, 2);
    let mut lane = Lane::open(rollup(&world, OSAKA)).expect("the lane opens");
    let mut who = Wallet::user(0);
    run(lane.block_mut(), &who.send(OSAKA, world.probe(calls::increment(1))));
    let before = lane.block().state().changes().expect("the state can be read");
    assert!(lane.advance().expect("the first block ends") && !lane.has_next());
    assert_eq!(lane.block().state().changes().expect("the state can be read"), before, "its changes are those of both");
    let fresh = |block: &PendingBlock| (block.gas_used(), block.executed().len());
    assert_eq!(fresh(lane.block()), (0, 0));
    let outcome = run(lane.block_mut(), &who.send(OSAKA, world.probe(calls::expect(1, 1))));
    assert!(outcome.succeeded());
    assert!(!lane.advance().expect("there is no third block"));
}
