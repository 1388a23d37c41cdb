//! What a block does before its transactions: it remembers the beacon root and the parent's hash.

use std::collections::BTreeMap;

use alloy_eips::{
    eip2935::{HISTORY_SERVE_WINDOW, HISTORY_STORAGE_ADDRESS, HISTORY_STORAGE_CODE},
    eip4788::{BEACON_ROOTS_ADDRESS, BEACON_ROOTS_CODE},
};
use alloy_primitives::{Address, B256, Bytes, U256};
use lockstep_simulation::{
    AccountChange, BlockContext, CallRequest, EthereumFork, MemoryState, OpFork, PendingBlock, Rules, call,
};
use lockstep_testkit::{Call, GWEI, gwei, user};

use crate::support::{CHAIN, address, context, funded, open, run, word};

const PRAGUE: Rules = Rules::Ethereum(EthereumFork::Prague);
/// How many beacon roots are remembered.
const ROOTS: u64 = 8_191;

/// A state with both contracts.
fn genesis() -> MemoryState {
    let mut state = funded(1);
    state.set_account(BEACON_ROOTS_ADDRESS, U256::ZERO, 1, BEACON_ROOTS_CODE.clone());
    state.set_account(HISTORY_STORAGE_ADDRESS, U256::ZERO, 1, HISTORY_STORAGE_CODE.clone());
    state
}

fn written(slots: impl IntoIterator<Item = (u64, U256)>) -> AccountChange {
    let storage = slots.into_iter().map(|(slot, value)| (U256::from(slot), value)).collect();
    AccountChange { account: None, storage_cleared: false, storage }
}

fn beacon_root(context: &BlockContext) -> (Address, AccountChange) {
    let root = context.parent_beacon_block_root.expect("the rules demand it");
    let slot = context.timestamp % ROOTS;
    let slots = [(slot, U256::from(context.timestamp)), (slot + ROOTS, U256::from_be_bytes(root.0))];
    (BEACON_ROOTS_ADDRESS, written(slots))
}

fn parent_hash(context: &BlockContext) -> (Address, AccountChange) {
    let slot = (context.number - 1) % HISTORY_SERVE_WINDOW as u64;
    (HISTORY_STORAGE_ADDRESS, written([(slot, U256::from_be_bytes(context.parent_hash.0))]))
}

fn changes(block: &PendingBlock) -> BTreeMap<Address, AccountChange> {
    block.state().changes().expect("the state can be read").accounts
}

#[test]
fn both_contracts_are_written_and_nothing_else_is() {
    let rules = [
        PRAGUE,
        Rules::Ethereum(EthereumFork::Osaka),
        Rules::Ethereum(EthereumFork::Bpo2),
        Rules::OpStack(OpFork::Isthmus),
        Rules::OpStack(OpFork::Jovian),
        Rules::OpStack(OpFork::Karst),
    ];
    for rules in rules {
        let block = open(rules, &genesis());
        let context = context(rules);
        assert_eq!(changes(&block), BTreeMap::from([beacon_root(&context), parent_hash(&context)]), "{rules:?}");
        assert_eq!((block.gas_used(), block.gas_left()), (0, context.gas_limit), "it costs no gas of the block");
        assert!(block.executed().is_empty());
    }
}

#[test]
fn cancun_remembers_the_beacon_root_only_and_shanghai_nothing() {
    let cancun = Rules::Ethereum(EthereumFork::Cancun);
    assert_eq!(changes(&open(cancun, &genesis())), BTreeMap::from([beacon_root(&context(cancun))]));
    for fork in [OpFork::Ecotone, OpFork::Fjord, OpFork::Granite, OpFork::Holocene] {
        let rules = Rules::OpStack(fork);
        assert_eq!(changes(&open(rules, &genesis())), BTreeMap::from([beacon_root(&context(rules))]), "{fork:?}");
    }
    let shanghai = Rules::Ethereum(EthereumFork::Shanghai);
    assert_eq!(changes(&open(shanghai, &genesis())), BTreeMap::new());
}

#[test]
fn where_the_contracts_are_absent_nothing_happens() {
    let mut block = open(PRAGUE, &funded(1));
    assert_eq!(changes(&block), BTreeMap::new());
    let summary = block.finish().expect("the block ends");
    assert_eq!((summary.gas_used, summary.requests), (0, Vec::new()));
    assert_eq!(changes(&block), BTreeMap::new());
}

#[test]
fn the_first_block_of_all_has_no_parent_to_remember() {
    let context = BlockContext { number: 0, ..context(PRAGUE) };
    let block = PendingBlock::open(context.clone(), std::sync::Arc::new(genesis())).expect("the block opens");
    assert_eq!(changes(&block), BTreeMap::from([beacon_root(&context)]));
}

#[test]
fn the_next_block_remembers_beside_the_one_before() {
    let first = open(PRAGUE, &genesis());
    let context = BlockContext {
        parent_hash: B256::repeat_byte(0x99),
        parent_beacon_block_root: Some(B256::repeat_byte(0x98)),
        number: first.context().number + 1,
        timestamp: first.context().timestamp + 12,
        ..first.context().clone()
    };
    let second = PendingBlock::open_after(context.clone(), &first).expect("the block opens");
    let mut expected = changes(&first);
    for (address, change) in [beacon_root(&context), parent_hash(&context)] {
        expected.entry(address).or_default().storage.extend(change.storage);
    }
    assert_eq!(changes(&second), expected);
}

#[test]
fn transactions_read_what_was_remembered() {
    let context = context(PRAGUE);
    let mut block = open(PRAGUE, &genesis());
    let read = |block: &PendingBlock, contract, key| {
        let request = CallRequest::read(contract, word(key).into(), 1_000_000);
        let outcome = call(&context, block.state(), &request).expect("the engine works").expect("a read is valid");
        outcome.succeeded().then_some(outcome.output)
    };
    let root: Bytes = B256::repeat_byte(0xbe).into();
    assert_eq!(read(&block, BEACON_ROOTS_ADDRESS, context.timestamp), Some(root));
    assert_eq!(read(&block, BEACON_ROOTS_ADDRESS, context.timestamp - 1), None, "there was no block then");
    assert_eq!(read(&block, HISTORY_STORAGE_ADDRESS, context.number - 1), Some(context.parent_hash.into()));
    assert_eq!(read(&block, HISTORY_STORAGE_ADDRESS, context.number), None, "it is not made yet");

    // Who is not the system writes nothing.
    let before = changes(&block);
    let writing = Call::contract(BEACON_ROOTS_ADDRESS, word(7).into(), 100_000).sign(CHAIN, user(0), 0, GWEI);
    assert!(!run(&mut block, &writing).succeeded());
    let paying = Call::pay(address(0), gwei(1)).sign(CHAIN, user(0), 1, GWEI);
    assert!(run(&mut block, &paying).succeeded());
    for contract in [BEACON_ROOTS_ADDRESS, HISTORY_STORAGE_ADDRESS] {
        assert_eq!(changes(&block)[&contract], before[&contract]);
    }
}

#[test]
fn what_was_remembered_outlives_a_rollback_to_the_beginning() {
    let mut block = open(PRAGUE, &genesis());
    let before = changes(&block);
    let start = block.checkpoint();
    run(&mut block, &Call::pay(Address::repeat_byte(0x77), gwei(1)).sign(CHAIN, user(0), 0, GWEI));
    assert_ne!(changes(&block), before);
    block.rollback(start);
    assert_eq!(changes(&block), before);
}
