//! What is kept for encrypted transactions is used by nothing that is listed, and they come after all of it.

use std::sync::Arc;

use lockstep_primitives::{BlockList, ListBlock, Reason, SignedTx};
use lockstep_simulation::{BlockTx, ForkSchedule, Lane, LaneError, OpFork, SlotRollup, execute_list, extend_list};
use lockstep_testkit::{BLOCK_TIME, Call, GENESIS_TIME, GWEI, ISTHMUS, PRAGUE, gwei, user};

use crate::support::{address, rollup, world};

const PAYMENT: u64 = 21_000;

/// A rollup with two blocks in the slot, whose last one has room for so many listed payments behind what is forced.
fn with_room_for(chain: u64, payments: u64) -> SlotRollup {
    let world = world(chain).with_blocks(chain, 2);
    let mut rollup = SlotRollup::clone(&rollup(&world, chain));
    let forced = execute_list(&Arc::new(rollup.clone()), &list(&rollup, &[])).expect("empty blocks are made")[1].block.gas_used();
    let last = &mut rollup.blocks[1].next;
    last.encrypted_gas = last.gas_limit - forced - payments * PAYMENT;
    rollup
}

fn pay(chain: u64, from: usize, nonce: u64) -> Arc<SignedTx> {
    Call::pay(address(1), gwei(1)).sign(chain, user(from), nonce, GWEI)
}

fn list(rollup: &SlotRollup, last: &[Arc<SignedTx>]) -> BlockList {
    let block = |index: u64, txs: &[Arc<SignedTx>]| ListBlock {
        number: rollup.parent.number + 1 + index,
        timestamp: GENESIS_TIME + BLOCK_TIME * (index + 1),
        transactions: txs.iter().map(|tx| tx.raw().clone()).collect(),
    };
    BlockList { chain: rollup.chain, blocks: vec![block(0, &[]), block(1, last)] }
}

#[test]
fn what_is_kept_is_for_no_listed_transaction_and_for_every_forced_one() {
    for chain in [PRAGUE, ISTHMUS] {
        let tight = Arc::new(with_room_for(chain, 1));
        let txs = [pay(chain, 2, 0), pay(chain, 3, 0)];
        assert!(execute_list(&tight, &list(&tight, &txs[..1])).is_ok());
        let refused = execute_list(&tight, &list(&tight, &txs)).map(|_| ());
        assert!(matches!(refused, Err(LaneError::Invalid { block: 1, index: 1, reason: Reason::NoRoom { .. } })), "{refused:?}");
        // All of it is kept: what is forced comes in all the same.
        let mut none = SlotRollup::clone(&tight);
        none.blocks[1].next.encrypted_gas = none.blocks[1].next.gas_limit;
        let blocks = execute_list(&Arc::new(none), &list(&tight, &[])).expect("the blocks are made");
        assert_eq!(blocks[1].forced, tight.blocks[1].forced.len());
    }
}

#[test]
fn what_is_valid_comes_after_the_list_in_its_order_and_the_rest_is_named() {
    for chain in [PRAGUE, ISTHMUS] {
        let tight = with_room_for(chain, 1);
        let decided = list(&tight, &[pay(chain, 2, 0)]);
        let forced = tight.blocks[1].forced.len() as u64;
        let more = [pay(chain, 3, 0), pay(chain, 4, 1), pay(chain, 3, 1), pay(chain, 2, 0), pay(chain, 4, 0)];
        let more: Vec<BlockTx> = more.into_iter().map(BlockTx::Signed).collect();
        let extended = extend_list(&tight, &decided, &more).expect("the list is valid");
        let codes: Vec<Result<u64, &str>> =
            extended.outcomes.iter().map(|outcome| outcome.as_ref().map(|at| *at).map_err(Reason::code)).collect();
        let expected = [Ok(forced + 1), Err("nonce_too_high"), Ok(forced + 2), Err("nonce_too_low"), Ok(forced + 3)];
        assert_eq!(codes, expected);

        let raw = |index: usize| more[index].raw().clone();
        let mut whole = decided.clone();
        whole.blocks[1].transactions.extend([raw(0), raw(2), raw(4)]);
        assert_eq!(extended.list, whole);
        assert!(execute_list(&Arc::new(tight.opened()), &whole).is_ok(), "it is the list that is published");
        assert!(execute_list(&Arc::new(tight.clone()), &whole).is_err(), "and none that a proposer could have prepared");
    }
}

#[test]
fn a_deposit_never_comes_after_a_list() {
    let rollup = with_room_for(ISTHMUS, 1);
    let deposit = rollup.blocks[1].forced[0].clone();
    let extended = extend_list(&rollup, &list(&rollup, &[]), &[deposit]).expect("the list is valid");
    assert_eq!(extended.outcomes, [Err(Reason::DepositTransaction)]);
}

#[test]
fn a_block_that_activates_a_fork_ends_with_what_is_forced() {
    let rollup = with_room_for(ISTHMUS, 1);
    assert!(rollup.ends_open());
    let last = rollup.blocks[1].next.timestamp;
    let forks = ForkSchedule::OpStack(vec![(0, OpFork::Holocene), (last, OpFork::Isthmus)]);
    assert!(!SlotRollup { forks: forks.clone(), ..rollup.clone() }.ends_open());
    let mut longer = SlotRollup { forks, ..rollup };
    let mut after = longer.blocks[1].clone();
    after.next.timestamp += BLOCK_TIME;
    longer.blocks.push(after);
    assert!(longer.ends_open(), "the block after it may hold anything");
    longer.blocks.clear();
    assert!(!longer.ends_open());
    assert!(Lane::open(Arc::new(longer)).is_err());
}
