//! Setting a genesis state up by executing real transactions.

use std::sync::Arc;

use alloy::signers::local::PrivateKeySigner;
use alloy_consensus::TxEip1559;
use alloy_primitives::{Address, B256, Bytes, TxKind, U256};
use lockstep_primitives::ChainId;
use lockstep_simulation::{BlockContext, BlockTx, MemoryState, PendingBlock, Rules, StateChanges, StateView, TxOutcome};

use crate::accounts::{GWEI, sign};

/// Enough for the largest fixture contract, below the cap that Osaka puts on one transaction.
const CREATION_GAS: u64 = 8_000_000;
const CALL_GAS: u64 = 500_000;

/// Runs signed transactions in a block of its own. What they change can be applied to the state that it was opened on, which
/// is the way to genesis contracts whose constructors do something.
#[derive(Debug)]
pub struct Deployer {
    chain: ChainId,
    block: PendingBlock,
}

impl Deployer {
    /// Opens the block, which has room for anything.
    ///
    /// # Panics
    /// When the engine is broken.
    pub fn open(chain: ChainId, rules: Rules, state: &MemoryState) -> Self {
        let context = BlockContext {
            chain,
            rules,
            parent_hash: B256::ZERO,
            number: 1,
            timestamp: 1,
            gas_limit: 1_000_000_000,
            base_fee: 1,
            beneficiary: Address::repeat_byte(0xfe),
            prev_randao: B256::ZERO,
            parent_beacon_block_root: None,
            excess_blob_gas: Some(0),
            extra_data: Bytes::new(),
            data: Default::default(),
            encrypted_gas: 0,
            deposits_only: false,
        };
        let block = PendingBlock::open(context, Arc::new(state.clone())).expect("a setup block opens");
        Self { chain, block }
    }

    /// Creates a contract and returns its address.
    ///
    /// # Panics
    /// When it cannot be created.
    pub fn create(&mut self, key: &PrivateKeySigner, init_code: Bytes) -> Address {
        self.run(key, TxKind::Create, init_code, CREATION_GAS).created.expect("a creation creates")
    }

    /// Calls a contract.
    ///
    /// # Panics
    /// When the call does not succeed.
    pub fn call(&mut self, key: &PrivateKeySigner, to: Address, data: Bytes) {
        self.run(key, TxKind::Call(to), data, CALL_GAS);
    }

    /// What all the transactions changed.
    ///
    /// # Panics
    /// When the engine is broken.
    pub fn finish(self) -> StateChanges {
        self.block.state().changes().expect("a state in memory can be read")
    }

    fn run(&mut self, key: &PrivateKeySigner, to: TxKind, input: Bytes, gas_limit: u64) -> TxOutcome {
        let account = self.block.state().account(key.address()).expect("a state in memory can be read");
        let tx = TxEip1559 {
            chain_id: self.chain,
            nonce: account.map_or(0, |account| account.nonce),
            gas_limit,
            max_fee_per_gas: GWEI,
            max_priority_fee_per_gas: 0,
            to,
            value: U256::ZERO,
            access_list: Default::default(),
            input,
        };
        let executed = self.block.execute(&BlockTx::Signed(sign(key, tx))).expect("the engine works");
        let outcome = executed.expect("a setup transaction is valid").outcome.as_ref().clone();
        assert!(outcome.succeeded(), "a setup transaction failed: {:?} {}", outcome.status, outcome.output);
        outcome
    }
}
