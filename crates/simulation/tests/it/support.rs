//! What the tests of simulation share: blocks on worlds, blocks on small states of their own, and what two equal blocks have
//! in common.

use std::{collections::BTreeMap, sync::Arc};

use alloy_consensus::{SignableTransaction, TxEip1559, TxEip7702, TxEnvelope};
use alloy_eips::eip7702::Authorization;
use alloy_primitives::{Address, B256, Bytes, TxKind, U256};
use lockstep_primitives::{ChainId, SignedTx};
use lockstep_simulation::{
    AccountChange, BlockContext, BlockSummary, BlockTx, DataLimits, MemoryState, PendingBlock, Receipt, Rules, SlotRollup,
    StateView, TxOutcome,
};
use lockstep_testkit::{CANCUN, FEE_CAP, GENESIS_TIME, GWEI, ISTHMUS, JOVIAN, PRAGUE, World, ether, sign, sign_digest, user};
use proptest::{prelude::*, test_runner::RngSeed};

pub(crate) type Checked = Result<(), TestCaseError>;

const SEED: u64 = 20_261_122;

/// The rollup of states that are made by hand.
pub(crate) const CHAIN: ChainId = 9_001;
/// Its base fee.
pub(crate) const BASE_FEE: u64 = 1_000_000_000;
/// Who gets its priority fees.
pub(crate) const BENEFICIARY: Address = Address::repeat_byte(0xfe);

/// A failing case is reproduced by its seed, so that no file has to keep it.
pub(crate) fn config(cases: u32) -> ProptestConfig {
    ProptestConfig {
        cases,
        rng_seed: RngSeed::Fixed(SEED),
        failure_persistence: None,
        max_shrink_iters: 256,
        ..ProptestConfig::default()
    }
}

/// The world that has this rollup.
pub(crate) fn world(chain: ChainId) -> World {
    match chain {
        PRAGUE | ISTHMUS => World::pair(),
        CANCUN | JOVIAN => World::trio(),
        _ => World::quartet(),
    }
}

/// A rollup of a world, as the slot finds it.
pub(crate) fn rollup(world: &World, chain: ChainId) -> Arc<SlotRollup> {
    Arc::clone(&world.view.rollups[&chain].slot)
}

/// The environment of the first block of the slot.
pub(crate) fn first_context(rollup: &SlotRollup) -> BlockContext {
    BlockContext::next(rollup.chain, &rollup.forks, &rollup.parent, &rollup.blocks[0].next).expect("the world has rules")
}

/// The first block of the slot, with nothing in it.
pub(crate) fn first_block(rollup: &SlotRollup) -> PendingBlock {
    PendingBlock::open(first_context(rollup), Arc::clone(&rollup.state)).expect("the block opens")
}

/// The environment of a block on a state that is made by hand.
pub(crate) fn context(rules: Rules) -> BlockContext {
    BlockContext {
        chain: CHAIN,
        rules,
        parent_hash: B256::repeat_byte(0xaa),
        number: 1_000,
        timestamp: GENESIS_TIME,
        gas_limit: 60_000_000,
        base_fee: BASE_FEE,
        beneficiary: BENEFICIARY,
        prev_randao: B256::repeat_byte(0xcd),
        parent_beacon_block_root: rules.has_beacon_root().then_some(B256::repeat_byte(0xbe)),
        excess_blob_gas: rules.blobs().map(|_| 0),
        extra_data: Bytes::new(),
        data: DataLimits::default(),
        encrypted_gas: 0,
        deposits_only: false,
    }
}

/// A block on a state that is made by hand.
pub(crate) fn open(rules: Rules, state: &MemoryState) -> PendingBlock {
    PendingBlock::open(context(rules), Arc::new(state.clone())).expect("the block opens")
}

/// A state where the first users have ten ether each.
pub(crate) fn funded(users: usize) -> MemoryState {
    let mut state = MemoryState::new();
    for number in 0..users {
        state.set_account(address(number), ether(10), 0, Bytes::new());
    }
    state
}

/// A user, by number.
pub(crate) fn address(number: usize) -> Address {
    user(number).address()
}

/// The nonce of an account after the transactions so far.
pub(crate) fn nonce_of(block: &PendingBlock, address: Address) -> u64 {
    let account = block.state().account(address).expect("the state can be read");
    account.map_or(0, |account| account.nonce)
}

/// A word of calldata or storage.
pub(crate) fn word(value: u64) -> [u8; 32] {
    U256::from(value).to_be_bytes()
}

/// A signed creation of a contract.
pub(crate) fn create(chain: ChainId, number: usize, nonce: u64, tip: u128, init_code: Bytes) -> Arc<SignedTx> {
    let tx = TxEip1559 {
        chain_id: chain,
        nonce,
        gas_limit: 200_000,
        max_fee_per_gas: FEE_CAP + tip,
        max_priority_fee_per_gas: tip,
        to: TxKind::Create,
        value: U256::from(GWEI),
        access_list: Default::default(),
        input: init_code,
    };
    sign(user(number), tx)
}

/// A signed transaction that gives a user the code of a contract (EIP-7702), or takes it away with the zero address.
pub(crate) fn delegate(
    chain: ChainId,
    (number, nonce): (usize, u64),
    (authority, authority_nonce): (usize, u64),
    code: Address,
) -> Arc<SignedTx> {
    let authorization = Authorization { chain_id: U256::from(chain), address: code, nonce: authority_nonce };
    let signature = sign_digest(user(authority), authorization.signature_hash());
    let tx = TxEip7702 {
        chain_id: chain,
        nonce,
        gas_limit: 200_000,
        max_fee_per_gas: FEE_CAP,
        max_priority_fee_per_gas: GWEI,
        to: Address::repeat_byte(0x77),
        value: U256::ZERO,
        access_list: Default::default(),
        authorization_list: vec![authorization.into_signed(signature)],
        input: Bytes::new(),
    };
    let signature = sign_digest(user(number), tx.signature_hash());
    Arc::new(SignedTx::from_parts(TxEnvelope::from(tx.into_signed(signature)), address(number)))
}

/// Executes a transaction that is valid.
pub(crate) fn run(block: &mut PendingBlock, tx: &Arc<SignedTx>) -> TxOutcome {
    let executed = block.execute(&BlockTx::Signed(Arc::clone(tx))).expect("the engine works");
    executed.expect("the transaction is valid").outcome.as_ref().clone()
}

/// Everything that two equal blocks have in common.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Print {
    digest: B256,
    accounts: BTreeMap<Address, AccountChange>,
    code: Vec<B256>,
    gas_used: u64,
    gas_left: u64,
    footprint: u64,
    executed: Vec<(B256, TxOutcome, Receipt)>,
    summary: BlockSummary,
}

/// Everything that two equal blocks have in common.
pub(crate) fn print(block: &PendingBlock) -> Print {
    let changes = block.state().changes().expect("what was written can be read");
    let executed = block.executed().iter();
    Print {
        digest: changes.digest(),
        accounts: changes.accounts,
        code: changes.code.into_keys().collect(),
        gas_used: block.gas_used(),
        gas_left: block.gas_left(),
        footprint: block.footprint(),
        executed: executed.map(|entry| (entry.tx.hash(), entry.outcome.as_ref().clone(), entry.receipt())).collect(),
        summary: block.summary(Vec::new()),
    }
}
