//! Block lists: what a proposer asks a rollup to put into its blocks of one slot.

use std::collections::BTreeSet;

use alloy_primitives::{B256, Bytes, keccak256};

use crate::ChainId;

/// A set of rollups, ordered by chain id.
pub type RollupSet = BTreeSet<ChainId>;

/// One block of a [`BlockList`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ListBlock {
    /// Block number.
    pub number: u64,
    /// Block timestamp in seconds.
    pub timestamp: u64,
    /// EIP-2718 transactions in their order, after the rollup's forced prefix.
    pub transactions: Vec<Bytes>,
}

/// The ordered transactions of one rollup's blocks in a slot.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BlockList {
    /// The rollup.
    pub chain: ChainId,
    /// The rollup's blocks whose timestamps fall inside the slot, in order.
    pub blocks: Vec<ListBlock>,
}

impl BlockList {
    /// Canonical digest: keccak-256 over chain id, then per block number, timestamp, count and the transactions' hashes,
    /// every integer as eight big-endian bytes.
    pub fn digest(&self) -> B256 {
        let mut bytes = Vec::new();
        bytes.extend_from_slice(&self.chain.to_be_bytes());
        bytes.extend_from_slice(&(self.blocks.len() as u64).to_be_bytes());
        for block in &self.blocks {
            bytes.extend_from_slice(&block.number.to_be_bytes());
            bytes.extend_from_slice(&block.timestamp.to_be_bytes());
            bytes.extend_from_slice(&(block.transactions.len() as u64).to_be_bytes());
            for transaction in &block.transactions {
                bytes.extend_from_slice(keccak256(transaction).as_slice());
            }
        }
        keccak256(bytes)
    }
}
