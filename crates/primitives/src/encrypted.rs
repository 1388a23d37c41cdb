//! What a sequencer signs about transactions that it takes encrypted.

use alloy_primitives::B256;
use alloy_sol_types::sol;

use crate::{BlockList, ChainId, SlotNumber, digest};

mod eip712 {
    use super::sol;

    sol! {
        struct EncryptedReceipt {
            uint64 chainId;
            bytes32 ciphertext;
            uint64 gas;
            uint64 sequence;
            uint64 receivedMs;
        }

        struct EncryptedOrder {
            uint64 chainId;
            uint64 slot;
            bytes32 list;
            bytes32[] ciphertexts;
        }
    }
}

/// A sequencer's word that it has taken a ciphertext, and which place it has in the order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EncryptedReceipt {
    /// The rollup.
    pub chain: ChainId,
    /// Keccak-256 of the ciphertext.
    pub ciphertext: B256,
    /// Gas that its transaction may ask for at the most.
    pub gas: u64,
    /// Rises with every ciphertext that the sequencer takes: of two that wait the one with the lower number comes first.
    pub sequence: u64,
    /// In Unix milliseconds.
    pub received_ms: u64,
}

impl EncryptedReceipt {
    /// The EIP-712 digest that the sequencer signs.
    pub fn digest(&self) -> B256 {
        digest(&eip712::EncryptedReceipt {
            chainId: self.chain,
            ciphertext: self.ciphertext,
            gas: self.gas,
            sequence: self.sequence,
            receivedMs: self.received_ms,
        })
    }
}

/// A sequencer's word on what it publishes in a slot, given before anybody can read the encrypted part of it: a list, and after it
/// the transactions of these ciphertexts in this order. The committee opens ciphertexts for nothing else, and for one order a
/// rollup and slot; so a block with another list before them proves by itself that its sequencer broke its word.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EncryptedOrder {
    /// The rollup.
    pub chain: ChainId,
    /// The slot.
    pub slot: SlotNumber,
    /// The digest of the list that comes before ([`BlockList::digest`]).
    pub list: B256,
    /// Keccak-256 of each ciphertext, first come first.
    pub ciphertexts: Vec<B256>,
}

impl EncryptedOrder {
    /// The EIP-712 digest that the sequencer signs.
    pub fn digest(&self) -> B256 {
        digest(&eip712::EncryptedOrder {
            chainId: self.chain,
            slot: self.slot,
            list: self.list,
            ciphertexts: self.ciphertexts.clone(),
        })
    }

    /// Whether what was published, forced prefixes apart, is the list that it was signed for and after it, in the last block, at
    /// most one transaction for each ciphertext. `encrypted` is how many there are.
    pub fn covers(&self, published: &BlockList, encrypted: usize) -> bool {
        if encrypted > self.ciphertexts.len() || published.chain != self.chain {
            return false;
        }
        let mut before = published.clone();
        let Some(last) = before.blocks.last_mut() else { return false };
        let Some(first) = last.transactions.len().checked_sub(encrypted) else { return false };
        last.transactions.truncate(first);
        before.digest() == self.list
    }
}

/// Which transactions of a slot were encrypted: all from one place on until the end of the slot's last block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EncryptedTail {
    /// The digest of the [`EncryptedOrder`] that they were opened for.
    pub order: B256,
    /// The index in the slot's last block, forced transactions counted, of the first of them.
    pub first: u64,
    /// How many there are.
    pub count: u64,
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use alloy_primitives::Bytes;

    use super::*;
    use crate::ListBlock;

    #[test]
    fn receipts_and_orders_are_signed_over_all_that_they_say() {
        let receipt = EncryptedReceipt { chain: 1, ciphertext: B256::ZERO, gas: 2, sequence: 3, received_ms: 4 };
        let order = EncryptedOrder { chain: 1, slot: 2, list: B256::ZERO, ciphertexts: vec![B256::ZERO] };
        let one = B256::with_last_byte(1);
        let digests = [
            receipt.digest(),
            EncryptedReceipt { chain: 2, ..receipt }.digest(),
            EncryptedReceipt { ciphertext: one, ..receipt }.digest(),
            EncryptedReceipt { gas: 1, ..receipt }.digest(),
            EncryptedReceipt { sequence: 1, ..receipt }.digest(),
            EncryptedReceipt { received_ms: 1, ..receipt }.digest(),
            order.digest(),
            EncryptedOrder { chain: 2, ..order.clone() }.digest(),
            EncryptedOrder { slot: 1, ..order.clone() }.digest(),
            EncryptedOrder { list: one, ..order.clone() }.digest(),
            EncryptedOrder { ciphertexts: vec![one], ..order.clone() }.digest(),
            EncryptedOrder { ciphertexts: Vec::new(), ..order }.digest(),
        ];
        assert_eq!(digests.iter().collect::<BTreeSet<_>>().len(), digests.len());
    }

    #[test]
    fn an_order_covers_its_own_list_with_something_after_it_and_no_other() {
        let tx = |byte: u8| Bytes::from(vec![byte]);
        let block = |transactions: Vec<Bytes>| ListBlock { number: 1, timestamp: 2, transactions };
        let list = |transactions| BlockList { chain: 1, blocks: vec![block(vec![tx(9)]), block(transactions)] };
        let order = EncryptedOrder {
            chain: 1,
            slot: 2,
            list: list(vec![tx(1)]).digest(),
            ciphertexts: vec![B256::ZERO, B256::with_last_byte(1)],
        };
        assert!(order.covers(&list(vec![tx(1)]), 0));
        assert!(order.covers(&list(vec![tx(1), tx(7), tx(8)]), 2));
        assert!(!order.covers(&list(vec![tx(1), tx(7), tx(8), tx(9)]), 3), "more than there were ciphertexts");
        assert!(!order.covers(&list(vec![tx(2), tx(7)]), 1), "another transaction came before");
        assert!(!order.covers(&list(vec![tx(1), tx(2), tx(7)]), 1), "one was put in between");
        assert!(!order.covers(&BlockList { chain: 2, ..list(vec![tx(1)]) }, 0));
        assert!(!order.covers(&BlockList { chain: 1, blocks: Vec::new() }, 0));
    }
}
