//! Receipts and their trie root.

use alloy_consensus::{Eip658Value, Receipt as ConsensusReceipt, RlpEncodableReceipt};
use alloy_primitives::{Address, B256, Bloom, Log, keccak256, logs_bloom, map::HashMap};
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
    root_and_bloom(receipts.iter().cloned()).0
}

/// What was hashed for bloom filters. The logs of a block name the same few contracts and events again and again. It holds no
/// more than the block's own logs name.
#[derive(Default)]
struct Hashes {
    addresses: HashMap<Address, B256>,
    topics: HashMap<B256, B256>,
}

impl Hashes {
    /// The bloom filter over logs.
    fn bloom(&mut self, logs: &[Log]) -> Bloom {
        let mut bloom = Bloom::ZERO;
        for log in logs {
            bloom.m3_2048_hashed(self.addresses.entry(log.address).or_insert_with(|| keccak256(log.address)));
            for topic in log.topics() {
                bloom.m3_2048_hashed(self.topics.entry(*topic).or_insert_with(|| keccak256(topic)));
            }
        }
        bloom
    }
}

/// The root of the trie over a block's receipts, and the union of their bloom filters.
pub(crate) fn root_and_bloom(receipts: impl Iterator<Item = Receipt>) -> (B256, Bloom) {
    let mut hashes = Hashes::default();
    let bloomed = |receipt: Receipt| {
        let bloom = hashes.bloom(&receipt.logs);
        (receipt, bloom)
    };
    let with_blooms: Vec<(Receipt, Bloom)> = receipts.map(bloomed).collect();
    let mut union = Bloom::ZERO;
    for (_, bloom) in &with_blooms {
        union.accrue_bloom(bloom);
    }
    let root =
        alloy_trie::root::ordered_trie_root_with_encoder(&with_blooms, |(receipt, bloom), out| receipt.encode_with(bloom, out));
    (root, union)
}

#[cfg(test)]
mod tests {
    use alloy_primitives::Bytes;

    use super::*;

    #[test]
    fn the_bloom_of_a_block_is_that_of_all_its_logs_whatever_was_hashed_before() {
        let [contract, other] = [1, 2].map(Address::repeat_byte);
        // One topic is the word of an address that logs, too.
        let log = |address: Address, number: u8| {
            let topics = vec![B256::repeat_byte(number), contract.into_word()];
            Log::new_unchecked(address, topics, Bytes::new())
        };
        let logs = [vec![log(contract, 7), log(contract, 7)], Vec::new(), vec![log(other, 8), log(contract, 9)]];
        let receipts: Vec<Receipt> = (1..)
            .zip(&logs)
            .map(|(gas, logs)| Receipt {
                tx_type: 2,
                success: true,
                cumulative_gas_used: gas,
                logs: logs.clone().into(),
                deposit_nonce: None,
            })
            .collect();
        let (root, union) = root_and_bloom(receipts.iter().cloned());
        assert_eq!(union, logs_bloom(logs.iter().flatten()));
        let encode = |receipt: &Receipt, out: &mut Vec<u8>| receipt.encode_2718(out);
        assert_eq!(root, alloy_trie::root::ordered_trie_root_with_encoder(&receipts, encode));
    }
}
