//! Encrypted transactions, as JSON.

use alloy_primitives::{B256, Bytes, U64};
use lockstep_primitives::{EncryptedOrder, EncryptedReceipt, EncryptedTail};
use serde::{Deserialize, Serialize};

/// The answer of `sequencer_getEncryption`: how a rollup takes encrypted transactions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct EncryptionView {
    /// The rollup.
    pub chain_id: U64,
    /// The key to encrypt for: a compressed point of BLS12-381's first group.
    pub public_key: Bytes,
    /// What the committee's shares are checked by: 48 bytes for each member that is needed.
    pub committee: Bytes,
    /// How many members open a ciphertext together.
    pub needed: usize,
    /// Gas of each slot that is kept for encrypted transactions.
    pub gas: u64,
    /// The longest ciphertext that is taken.
    pub max_bytes: usize,
    /// How many ciphertexts are opened in a slot at the most.
    pub max_transactions: usize,
}

/// The parameter of `sequencer_sendEncryptedTransaction`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct EncryptedTxParams {
    /// The rollup.
    pub chain_id: U64,
    /// Its EIP-2718 bytes, encrypted.
    pub ciphertext: Bytes,
    /// The gas limit of the transaction, or more: so much of the slot is set aside for it.
    pub gas: U64,
}

/// The answer: the sequencer's word, which it signs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct EncryptedReceiptWire {
    /// The rollup.
    pub chain_id: U64,
    /// Keccak-256 of the ciphertext.
    pub ciphertext: B256,
    /// The gas that is set aside.
    pub gas: U64,
    /// Its place in the order: of two that wait the one with the lower number comes first.
    pub sequence: u64,
    /// When it came in, in Unix milliseconds.
    pub received_ms: u64,
    /// 65 bytes r || s || v.
    pub signature: Bytes,
}

impl EncryptedReceiptWire {
    /// A signed receipt.
    pub fn new(receipt: &EncryptedReceipt, signature: Bytes) -> Self {
        Self {
            chain_id: U64::from(receipt.chain),
            ciphertext: receipt.ciphertext,
            gas: U64::from(receipt.gas),
            sequence: receipt.sequence,
            received_ms: receipt.received_ms,
            signature,
        }
    }

    /// What is signed.
    pub fn receipt(&self) -> EncryptedReceipt {
        EncryptedReceipt {
            chain: self.chain_id.to(),
            ciphertext: self.ciphertext,
            gas: self.gas.to(),
            sequence: self.sequence,
            received_ms: self.received_ms,
        }
    }
}

/// The answer of `sequencer_getEncryptedTransaction`: where a ciphertext stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct EncryptedTxStatus {
    /// The rollup.
    pub chain_id: U64,
    /// Keccak-256 of the ciphertext.
    pub ciphertext: B256,
    /// Where it stands.
    pub status: EncryptedState,
    /// The slot that it is ordered in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slot: Option<u64>,
    /// What became of it, once its slot is published.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<EncryptedOutcome>,
}

/// Where a ciphertext, or the encrypted part of a slot, stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum EncryptedState {
    /// It waits for a slot.
    Pending,
    /// Its order is signed; it may be opened.
    Ordered,
    /// The slot is published with what was in it.
    Published,
    /// The slot was published without it. It may have been opened, so it is in no later slot.
    Lapsed,
    /// The sequencer was restarted before it noted what became of it: the chain tells.
    Unknown,
}

/// What became of a ciphertext that was opened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct EncryptedOutcome {
    /// Keccak-256 of the ciphertext.
    pub ciphertext: B256,
    /// The transaction that was in it, where one was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transaction_hash: Option<B256>,
    /// Its index in the slot's last block; absent when it is not there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub index: Option<u64>,
    /// Why it is not there: a stable reason, and words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// In words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
}

/// The answer of `sequencer_getEncryptedTail`: the encrypted part of a slot, with the order that the sequencer signed for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct EncryptedTailView {
    /// The rollup.
    pub chain_id: U64,
    /// The slot.
    pub slot: u64,
    /// The digest of the list that comes before.
    pub list: B256,
    /// Keccak-256 of each ciphertext, first come first.
    pub ciphertexts: Vec<B256>,
    /// The sequencer's EIP-712 signature over the order: 65 bytes r || s || v.
    pub signature: Bytes,
    /// Where it stands.
    pub status: EncryptedState,
    /// The block that it is in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub block_hash: Option<B256>,
    /// What became of each ciphertext, in the order.
    pub outcomes: Vec<EncryptedOutcome>,
}

impl EncryptedTailView {
    /// What is signed.
    pub fn order(&self) -> EncryptedOrder {
        let (chain, slot) = (self.chain_id.to(), self.slot);
        EncryptedOrder { chain, slot, list: self.list, ciphertexts: self.ciphertexts.clone() }
    }

    /// Which transactions of the slot they are; `None` when there are none.
    pub fn tail(&self) -> Option<EncryptedTail> {
        let placed = || self.outcomes.iter().filter_map(|outcome| outcome.index);
        let first = placed().min().filter(|_| self.status == EncryptedState::Published)?;
        Some(EncryptedTail { order: self.order().digest(), first, count: placed().count() as u64 })
    }
}

/// The parameter of `committee_open`: ciphertexts in the order that a sequencer signed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct OpenParams {
    /// Which member of the committee is asked, from 0.
    pub member: u32,
    /// The rollup.
    pub chain_id: U64,
    /// The slot.
    pub slot: u64,
    /// The digest of the list that comes before.
    pub list: B256,
    /// The ciphertexts. Their hashes, in this order, are what is signed.
    pub ciphertexts: Vec<Bytes>,
    /// The sequencer's EIP-712 signature over the order.
    pub signature: Bytes,
}

/// The answer: a member's shares.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SharesWire {
    /// The member.
    pub member: u32,
    /// A compressed point of BLS12-381's first group for each ciphertext.
    pub shares: Vec<Bytes>,
}

/// Which transactions of a slot were encrypted, in a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct EncryptedTailWire {
    /// The digest of the order that they were opened for.
    pub order: B256,
    /// The index of the first of them in the slot's last block, forced transactions counted.
    pub first: u64,
    /// How many there are, until the block's end.
    pub count: u64,
}

impl From<EncryptedTail> for EncryptedTailWire {
    fn from(tail: EncryptedTail) -> Self {
        Self { order: tail.order, first: tail.first, count: tail.count }
    }
}

impl From<EncryptedTailWire> for EncryptedTail {
    fn from(wire: EncryptedTailWire) -> Self {
        Self { order: wire.order, first: wire.first, count: wire.count }
    }
}
