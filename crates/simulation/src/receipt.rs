//! Receipts and their trie root.

use alloy_consensus::{Eip658Value, Receipt as ConsensusReceipt, ReceiptEnvelope, ReceiptWithBloom};
use alloy_eips::eip2718::Encodable2718;
use alloy_primitives::{B256, Bloom, Log, logs_bloom};
use op_alloy::consensus::{OpDepositReceipt, OpReceiptEnvelope};

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
    pub logs: Vec<Log>,
    /// Of a deposit: the sender's nonce before it (Regolith and later). Its receipt version is 1 (Canyon and later).
    pub deposit_nonce: Option<u64>,
}

impl Receipt {
    /// The bloom filter over the logs.
    pub fn bloom(&self) -> Bloom {
        logs_bloom(&self.logs)
    }

    /// Appends the EIP-2718 encoding.
    pub fn encode_2718(&self, out: &mut Vec<u8>) {
        let receipt = ConsensusReceipt {
            status: Eip658Value::Eip658(self.success),
            cumulative_gas_used: self.cumulative_gas_used,
            logs: self.logs.clone(),
        };
        let logs_bloom = self.bloom();
        let with_bloom = |receipt| ReceiptWithBloom { receipt, logs_bloom };
        match self.tx_type {
            0x7e => OpReceiptEnvelope::Deposit(ReceiptWithBloom {
                receipt: OpDepositReceipt {
                    inner: receipt,
                    deposit_nonce: self.deposit_nonce,
                    deposit_receipt_version: self.deposit_nonce.map(|_| 1),
                },
                logs_bloom,
            })
            .encode_2718(out),
            1 => ReceiptEnvelope::Eip2930(with_bloom(receipt)).encode_2718(out),
            2 => ReceiptEnvelope::Eip1559(with_bloom(receipt)).encode_2718(out),
            3 => ReceiptEnvelope::Eip4844(with_bloom(receipt)).encode_2718(out),
            4 => ReceiptEnvelope::Eip7702(with_bloom(receipt)).encode_2718(out),
            _ => ReceiptEnvelope::Legacy(with_bloom(receipt)).encode_2718(out),
        }
    }
}

/// The root of the trie over a block's receipts.
pub fn receipts_root(receipts: &[Receipt]) -> B256 {
    alloy_trie::root::ordered_trie_root_with_encoder(receipts, |receipt, out| receipt.encode_2718(out))
}
