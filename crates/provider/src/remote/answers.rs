//! What a node answers, of which only what is used is read.

use alloy_primitives::{Address, B256, Bytes, Log, U64};
use lockstep_simulation::{ForkSchedule, ParentBlock, Receipt};
use serde::Deserialize;

use super::dev;
use crate::{Landed, PublishedBlock};

/// A block with the hashes of its transactions.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct BlockAnswer {
    pub(crate) hash: B256,
    pub(crate) parent_hash: B256,
    number: U64,
    timestamp: U64,
    gas_limit: U64,
    gas_used: U64,
    base_fee_per_gas: Option<U64>,
    blob_gas_used: Option<U64>,
    excess_blob_gas: Option<U64>,
    pub(crate) miner: Address,
    #[serde(default)]
    pub(crate) mix_hash: B256,
    pub(crate) extra_data: Bytes,
    pub(crate) receipts_root: B256,
    pub(crate) transactions: Vec<B256>,
}

impl BlockAnswer {
    pub(crate) fn number(&self) -> u64 {
        self.number.to()
    }

    pub(crate) fn timestamp(&self) -> u64 {
        self.timestamp.to()
    }

    pub(crate) fn gas_limit(&self) -> u64 {
        self.gas_limit.to()
    }

    pub(crate) fn gas_used(&self) -> u64 {
        self.gas_used.to()
    }

    pub(crate) fn base_fee(&self) -> u64 {
        self.base_fee_per_gas.unwrap_or_default().to()
    }

    /// What the next block needs to know of this one. anvil's OP-stack headers lack the EIP-1559 parameters: they are put
    /// in, so that the rules can be followed.
    pub(crate) fn as_parent(&self, forks: &ForkSchedule) -> ParentBlock {
        let extra_data = match forks.rules_at(self.timestamp()) {
            Ok(rules) if self.extra_data.is_empty() => dev::extra_data(rules),
            Ok(_) | Err(_) => self.extra_data.clone(),
        };
        ParentBlock {
            hash: self.hash,
            number: self.number(),
            timestamp: self.timestamp(),
            gas_limit: self.gas_limit(),
            gas_used: self.gas_used(),
            base_fee: self.base_fee(),
            blob_gas_used: self.blob_gas_used.map(|gas| gas.to()),
            excess_blob_gas: self.excess_blob_gas.map(|gas| gas.to()),
            extra_data,
        }
    }

    pub(crate) fn into_published(self) -> PublishedBlock {
        PublishedBlock {
            number: self.number(),
            hash: self.hash,
            timestamp: self.timestamp(),
            gas_used: self.gas_used(),
            receipts_root: self.receipts_root,
            transactions: self.transactions,
        }
    }
}

/// A receipt.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ReceiptAnswer {
    #[serde(rename = "type", default)]
    tx_type: U64,
    status: U64,
    cumulative_gas_used: U64,
    logs: Vec<LogAnswer>,
    deposit_nonce: Option<U64>,
    block_number: Option<U64>,
    block_hash: Option<B256>,
    transaction_index: Option<U64>,
}

#[derive(Clone, Debug, Deserialize)]
struct LogAnswer {
    address: Address,
    topics: Vec<B256>,
    data: Bytes,
}

impl ReceiptAnswer {
    fn success(&self) -> bool {
        !self.status.is_zero()
    }

    /// Where the transaction is; `None` while it is in no block.
    pub(crate) fn landed(&self) -> Option<Landed> {
        Some(Landed {
            number: self.block_number?.to(),
            hash: self.block_hash?,
            index: self.transaction_index?.to(),
            success: self.success(),
        })
    }

    /// The block that it is said to be of.
    pub(crate) const fn block_hash(&self) -> Option<B256> {
        self.block_hash
    }

    /// The receipt as the receipts trie holds it.
    pub(crate) fn into_receipt(self) -> Receipt {
        let success = self.success();
        Receipt {
            // Types end at 0x7f (EIP-2718), so nothing is lost.
            tx_type: self.tx_type.to::<u64>().to_le_bytes()[0],
            success,
            cumulative_gas_used: self.cumulative_gas_used.to(),
            logs: self.logs.into_iter().map(|log| Log::new_unchecked(log.address, log.topics, log.data)).collect(),
            deposit_nonce: self.deposit_nonce.map(|nonce| nonce.to()),
        }
    }
}

/// How many transactions wait in the node's pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub(crate) struct PoolAnswer {
    pending: U64,
    queued: U64,
}

impl PoolAnswer {
    /// Those that can be executed.
    pub(crate) fn pending(&self) -> u64 {
        self.pending.to()
    }

    /// Those that wait for an earlier nonce.
    pub(crate) fn queued(&self) -> u64 {
        self.queued.to()
    }
}
