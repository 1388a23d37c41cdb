//! Receipts and their trie root.

use alloy_consensus::{Eip658Value, Receipt as ConsensusReceipt, RlpEncodableReceipt};
use alloy_primitives::{B256, Bloom, Log, logs_bloom};
use op_alloy::consensus::{DEPOSIT_TX_TYPE_ID, OpDepositReceipt};

use crate::Logs;

/// The receipt of a transaction in a block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// EIP-2718 type byte of the transaction.
    pub tx_type: u8,
    /// Whether it succeeded.
    pub success: bool,
    /// Gas used by the block up to and including this transaction.
    pub cumulative_gas_used: u64,
    /// Logs.
    pub logs: Logs,
    /// Of a deposit: the sender's nonce before it (Regolith and later). Its receipt version is 1 (Canyon and later).
    pub deposit_nonce: Option<u64>,
}

impl Receipt {
    /// The bloom filter over the logs.
    pub fn bloom(&self) -> Bloom {
        logs_bloom(self.logs.iter())
    }

    /// Appends the EIP-2718 encoding.
    pub fn encode_2718(&self, out: &mut Vec<u8>) {
        self.encode_with(&self.bloom(), out);
    }

    /// As [`Receipt::encode_2718`], with the bloom filter that is known already. Logs are encoded where they are.
    fn encode_with(&self, bloom: &Bloom, out: &mut Vec<u8>) {
        let receipt = ConsensusReceipt {
            status: Eip658Value::Eip658(self.success),
            cumulative_gas_used: self.cumulative_gas_used,
            logs: self.logs.iter().collect::<Vec<&Log>>(),
        };
        // The legacy type has no byte of its own.
        if self.tx_type != 0 {
            out.push(self.tx_type);
        }
        if self.tx_type == DEPOSIT_TX_TYPE_ID {
            let deposit_receipt_version = self.deposit_nonce.map(|_| 1);
            OpDepositReceipt { inner: receipt, deposit_nonce: self.deposit_nonce, deposit_receipt_version }
                .rlp_encode_with_bloom(bloom, out);
        } else {
            receipt.rlp_encode_with_bloom(bloom, out);
        }
    }
}

/// The root of the trie over a block's receipts.
pub fn receipts_root(receipts: &[Receipt]) -> B256 {
    root_and_bloom(receipts.iter()).0
}

/// The root of the trie over a block's receipts, and the union of their bloom filters.
pub(crate) fn root_and_bloom<'a>(receipts: impl Iterator<Item = &'a Receipt>) -> (B256, Bloom) {
    let with_blooms: Vec<(&Receipt, Bloom)> = receipts.map(|receipt| (receipt, receipt.bloom())).collect();
    let mut union = Bloom::ZERO;
    for (_, bloom) in &with_blooms {
        union.accrue_bloom(bloom);
    }
    let root =
        alloy_trie::root::ordered_trie_root_with_encoder(&with_blooms, |(receipt, bloom), out| receipt.encode_with(bloom, out));
    (root, union)
}
