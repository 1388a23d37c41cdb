//! Receipts of bundles, as JSON.

use alloy_primitives::{B256, Bytes, U64};
use lockstep_primitives::{BundleReceipt, Guarantee, LandedTransaction, Outcome};
use serde::{Deserialize, Serialize};

/// The answer of `lockstep_getReceipt`: how a bundle ended, and the builder's EIP-712 signature.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BundleReceiptWire {
    /// The Lockstep hash.
    pub bundle_hash: B256,
    /// `landed`, `not_landed`, `partial` or `reorged`.
    pub outcome: String,
    /// The slot of its last step that belongs to one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slot: Option<u64>,
    /// How far the promise about it reached: G0 to G3.
    pub level: String,
    /// What of it is in blocks.
    pub transactions: Vec<LandedTransactionWire>,
    /// Stable code of the reason why it did not land, or not whole; empty where there is none.
    pub reason: String,
    /// When that was so, in Unix milliseconds.
    pub at_ms: u64,
    /// 65 bytes r || s || v.
    pub signature: Bytes,
}

/// A transaction of a bundle in a block.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LandedTransactionWire {
    /// The rollup.
    pub chain_id: U64,
    /// The leg, from 0.
    pub leg: u64,
    /// Its hash.
    pub transaction_hash: B256,
    /// The block's hash.
    pub block_hash: B256,
    /// The block's number.
    pub block_number: U64,
    /// Its index in the block.
    pub index: U64,
    /// Whether it succeeded.
    pub success: bool,
}

impl BundleReceiptWire {
    /// A signed receipt.
    pub fn new(receipt: &BundleReceipt, signature: Bytes) -> Self {
        Self {
            bundle_hash: receipt.bundle,
            outcome: receipt.outcome.to_string(),
            slot: receipt.slot,
            level: receipt.level.to_string(),
            transactions: receipt.transactions.iter().map(LandedTransactionWire::from).collect(),
            reason: receipt.reason.clone(),
            at_ms: receipt.at_ms,
            signature,
        }
    }

    /// What is signed; `None` when it names an outcome or a level that is none.
    pub fn receipt(&self) -> Option<BundleReceipt> {
        Some(BundleReceipt {
            bundle: self.bundle_hash,
            outcome: Outcome::ALL.into_iter().find(|outcome| outcome.as_str() == self.outcome)?,
            slot: self.slot,
            level: Guarantee::ALL.into_iter().find(|level| level.as_str() == self.level)?,
            transactions: self.transactions.iter().map(LandedTransaction::from).collect(),
            reason: self.reason.clone(),
            at_ms: self.at_ms,
        })
    }
}

impl From<&LandedTransactionWire> for LandedTransaction {
    fn from(wire: &LandedTransactionWire) -> Self {
        Self {
            chain: wire.chain_id.to(),
            leg: wire.leg,
            hash: wire.transaction_hash,
            block_hash: wire.block_hash,
            block_number: wire.block_number.to(),
            index: wire.index.to(),
            success: wire.success,
        }
    }
}

impl From<&LandedTransaction> for LandedTransactionWire {
    fn from(tx: &LandedTransaction) -> Self {
        Self {
            chain_id: U64::from(tx.chain),
            leg: tx.leg,
            transaction_hash: tx.hash,
            block_hash: tx.block_hash,
            block_number: U64::from(tx.block_number),
            index: U64::from(tx.index),
            success: tx.success,
        }
    }
}
