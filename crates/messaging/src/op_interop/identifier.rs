//! What names a message of OP interop: where its log is.

use alloy_primitives::{Address, B256, Bytes, Log, U256, keccak256};

use crate::LogPlace;

/// Where a log is, as `CrossL2Inbox` takes it (OP specs, interop/messaging, "Message Identifier").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identifier {
    /// Who emitted the log.
    pub origin: Address,
    /// Number of its block.
    pub block_number: u64,
    /// Index among all logs of the block.
    pub log_index: u32,
    /// Timestamp of its block, in seconds.
    pub timestamp: u64,
    /// The chain.
    pub chain_id: U256,
}

impl Identifier {
    /// The identifier of a log at a place; `None` when its index does not fit 32 bits.
    pub fn new(origin: Address, chain_id: U256, place: LogPlace) -> Option<Self> {
        let log_index = u32::try_from(place.index).ok()?;
        Some(Self { origin, block_number: place.block, log_index, timestamp: place.timestamp, chain_id })
    }

    /// Where the log is on its chain.
    pub fn place(&self) -> LogPlace {
        LogPlace { block: self.block_number, timestamp: self.timestamp, index: u64::from(self.log_index) }
    }

    /// What a transaction has to declare to execute the message: the storage slot whose warmth the inbox looks for (OP specs,
    /// interop/predeploys, "calculateChecksum").
    pub fn checksum(&self, payload_hash: B256) -> B256 {
        let log_hash = keccak256([self.origin.as_slice(), payload_hash.as_slice()].concat());
        let mut packed = [0; 32];
        packed[12..20].copy_from_slice(&self.block_number.to_be_bytes());
        packed[20..28].copy_from_slice(&self.timestamp.to_be_bytes());
        packed[28..].copy_from_slice(&self.log_index.to_be_bytes());
        let located = keccak256([log_hash.as_slice(), &packed].concat());
        let mut checksum = keccak256([located.as_slice(), &self.chain_id.to_be_bytes::<32>()].concat());
        checksum[0] = super::access_list::CHECKSUM;
        checksum
    }
}

/// A log's topics and data, one after the other.
pub fn payload(log: &Log) -> Bytes {
    let mut bytes = Vec::with_capacity(32 * log.topics().len() + log.data.data.len());
    for topic in log.topics() {
        bytes.extend_from_slice(topic.as_slice());
    }
    bytes.extend_from_slice(&log.data.data);
    bytes.into()
}

/// keccak-256 of [`payload`].
pub fn payload_hash(log: &Log) -> B256 {
    keccak256(payload(log))
}
