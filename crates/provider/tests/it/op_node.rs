//! A driver that derives from L1 what it asks for, as op-node does: the L1 attributes deposit comes first in every block and
//! tells the L1 origin and how many blocks that origin has had; whatever L1 decides changes with the origin only.
//!
//! Source: OP-stack specification, "Deposits" and "Derivation" (building individual payload attributes), and the L1 attributes
//! of Jovian; written anew here, so that a mistake of the crate is not repeated.

use std::sync::Arc;

use alloy_primitives::{Address, B64, B256, Bytes, TxKind, U256, address, keccak256};
use lockstep_provider::RollupNode;
use lockstep_simulation::{BlockPlan, BlockTx, Deposit, NextBlock};
use op_alloy::consensus::{TxDeposit, UserDepositSource};
use serde_json::{Value, json};

use crate::{
    driver::{BLOCK_TIME, Driver},
    execution::CHAIN_PARAMS,
};

const DEPOSITOR: Address = address!("deaddeaddeaddeaddeaddeaddeaddeaddead0001");
const L1_BLOCK: Address = address!("4200000000000000000000000000000000000015");
const SEQUENCER_FEE_VAULT: Address = address!("4200000000000000000000000000000000000011");
/// `setL1BlockValuesJovian()`.
const SELECTOR: [u8; 4] = [0x3d, 0xb6, 0xbe, 0x2b];

/// A block of L1, and what the rollup's contracts on it say after it.
#[derive(Clone, Debug)]
pub(crate) struct Origin {
    number: u64,
    hash: B256,
    pub(crate) prev_randao: B256,
    pub(crate) beacon_root: B256,
    pub(crate) gas_limit: u64,
    /// In wei.
    pub(crate) min_base_fee: u64,
    deposits: Vec<BlockTx>,
}

impl Origin {
    pub(crate) fn new(number: u64) -> Self {
        let word = |name: &str| keccak256(format!("{name} of L1 block {number}"));
        Self {
            number,
            hash: word("hash"),
            prev_randao: word("prevRandao"),
            beacon_root: word("beacon root"),
            gas_limit: 30_000_000,
            min_base_fee: 1_000,
            deposits: Vec::new(),
        }
    }

    /// The same with one more deposit of a user, in wei.
    pub(crate) fn with_deposit(mut self, to: Address, amount: u64) -> Self {
        let deposit = TxDeposit {
            source_hash: UserDepositSource::new(self.hash, self.deposits.len() as u64).source_hash(),
            from: Address::repeat_byte(0x11),
            to: TxKind::Call(to),
            mint: u128::from(amount),
            value: U256::from(amount),
            gas_limit: 100_000,
            is_system_transaction: false,
            input: Bytes::new(),
        };
        self.deposits.push(BlockTx::Deposit(Arc::new(Deposit::new(deposit))));
        self
    }

    /// The L1 attributes deposit of the block with that sequence number.
    fn attributes(&self, sequence: u64) -> BlockTx {
        let mut data = SELECTOR.to_vec();
        // Base fee scalar, blob base fee scalar.
        data.extend_from_slice(&5_227_u32.to_be_bytes());
        data.extend_from_slice(&1_014_213_u32.to_be_bytes());
        data.extend_from_slice(&sequence.to_be_bytes());
        // Timestamp and number.
        data.extend_from_slice(&(self.number * 12).to_be_bytes());
        data.extend_from_slice(&self.number.to_be_bytes());
        // Base fee, blob base fee.
        data.extend_from_slice(&U256::from(1_000_000_000_u64 + self.number).to_be_bytes::<32>());
        data.extend_from_slice(&U256::from(1).to_be_bytes::<32>());
        data.extend_from_slice(self.hash.as_slice());
        // The batcher.
        data.extend_from_slice(Address::repeat_byte(0xba).into_word().as_slice());
        // Operator fee scalar and constant, DA footprint scalar.
        data.extend_from_slice(&0_u32.to_be_bytes());
        data.extend_from_slice(&0_u64.to_be_bytes());
        data.extend_from_slice(&400_u16.to_be_bytes());
        let inner = keccak256([self.hash.as_slice(), &U256::from(sequence).to_be_bytes::<32>()].concat());
        let source_hash = keccak256([&U256::from(1).to_be_bytes::<32>()[..], inner.as_slice()].concat());
        BlockTx::Deposit(Arc::new(Deposit::new(TxDeposit {
            source_hash,
            from: DEPOSITOR,
            to: TxKind::Call(L1_BLOCK),
            mint: 0,
            value: U256::ZERO,
            gas_limit: 1_000_000,
            is_system_transaction: false,
            input: data.into(),
        })))
    }
}

/// The driver.
pub(crate) struct OpNode {
    driver: Driver,
    origin: Origin,
    /// How many blocks the origin has had.
    sequence: u64,
}

impl OpNode {
    pub(crate) fn new(driver: Driver, origin: Origin) -> Self {
        Self { driver, origin, sequence: 0 }
    }

    /// From the next block on the L1 origin is another one.
    pub(crate) fn turn_to(&mut self, origin: Origin) {
        self.origin = origin;
        self.sequence = 0;
    }

    /// The block that comes next.
    pub(crate) async fn derive(&self) -> BlockPlan {
        let head = self.driver.rollup.head().await.unwrap();
        let Origin { prev_randao, beacon_root, gas_limit, min_base_fee, .. } = self.origin;
        let mut forced = vec![self.origin.attributes(self.sequence)];
        if self.sequence == 0 {
            forced.extend(self.origin.deposits.iter().cloned());
        }
        let next = NextBlock {
            timestamp: head.timestamp + BLOCK_TIME,
            gas_limit,
            beneficiary: SEQUENCER_FEE_VAULT,
            prev_randao,
            parent_beacon_block_root: Some(beacon_root),
            extra_data: [&[1][..], CHAIN_PARAMS.as_slice(), &min_base_fee.to_be_bytes()].concat().into(),
            ..NextBlock::default()
        };
        BlockPlan { next, forced }
    }

    /// The attributes of the block that comes next.
    async fn attributes(&self) -> Value {
        let mut attributes = Driver::attributes(&self.derive().await);
        // The rollup has never set parameters of its own, so the execution client takes the chain's constants.
        attributes["eip1559Params"] = json!(B64::ZERO);
        attributes
    }

    /// Asks for the block that comes next. Returns the id of its payload.
    pub(crate) async fn begin(&mut self) -> B64 {
        let attributes = self.attributes().await;
        self.driver.begin(attributes).await
    }

    /// Fetches a payload and makes its block the head. Returns hash and transactions.
    pub(crate) async fn seal(&mut self, id: B64) -> (B256, Vec<Bytes>) {
        let made = self.driver.seal(id).await;
        self.sequence += 1;
        made
    }

    /// Makes the next block. Returns hash and transactions.
    pub(crate) async fn block(&mut self) -> (B256, Vec<Bytes>) {
        let id = self.begin().await;
        self.seal(id).await
    }
}
