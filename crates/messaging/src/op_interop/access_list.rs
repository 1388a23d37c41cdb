//! What a transaction declares of the messages that it executes: storage keys under the inbox's address (OP specs,
//! interop/access-list).

use alloy_eips::eip2930::AccessList;
use alloy_primitives::{B256, U256};

use super::{INBOX, Identifier};
use crate::LogPlace;

/// First byte of a key that says where a log is.
const LOOKUP: u8 = 1;
/// First byte of a key with the upper 24 bytes of a chain id that does not fit 64 bits.
const CHAIN_ID: u8 = 2;
/// First byte of a checksum.
pub(super) const CHECKSUM: u8 = 3;

/// One declared message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Access {
    /// The chain of the log.
    pub chain_id: U256,
    /// Where the log is on it.
    pub place: LogPlace,
    /// What [`Identifier::checksum`] has to be.
    pub checksum: B256,
}

/// The keys that declare a message, in their order.
pub fn encode(id: &Identifier, payload_hash: B256) -> Vec<B256> {
    let chain_id = id.chain_id.to_be_bytes::<32>();
    let mut lookup = B256::ZERO;
    lookup[0] = LOOKUP;
    lookup[4..12].copy_from_slice(&chain_id[24..]);
    lookup[12..20].copy_from_slice(&id.block_number.to_be_bytes());
    lookup[20..28].copy_from_slice(&id.timestamp.to_be_bytes());
    lookup[28..].copy_from_slice(&id.log_index.to_be_bytes());
    let mut keys = vec![lookup];
    if chain_id[..24] != [0; 24] {
        let mut extension = B256::ZERO;
        extension[0] = CHAIN_ID;
        extension[8..].copy_from_slice(&chain_id[..24]);
        keys.push(extension);
    }
    keys.push(id.checksum(payload_hash));
    keys
}

/// The messages that an access list declares, in their order.
///
/// # Errors
/// Names the key, counted over all of the inbox's, that is malformed or out of order.
pub fn decode(list: &AccessList) -> Result<Vec<Access>, String> {
    let mut declared = Vec::new();
    let mut open: Option<(LogPlace, [u8; 32], bool)> = None;
    let keys = list.iter().filter(|item| item.address == INBOX).flat_map(|item| &item.storage_keys);
    for (index, key) in keys.enumerate() {
        let wrong = |problem: &str| format!("key {index} of the inbox, {key}, {problem}");
        open = match (key[0], open) {
            (LOOKUP, None) if key[1..4] == [0; 3] => {
                let mut chain_id = [0; 32];
                chain_id[24..].copy_from_slice(&key[4..12]);
                let place = LogPlace { block: number(&key[12..20]), timestamp: number(&key[20..28]), index: number(&key[28..]) };
                Some((place, chain_id, false))
            }
            (CHAIN_ID, Some((place, mut chain_id, false))) if key[1..8] == [0; 7] => {
                chain_id[..24].copy_from_slice(&key[8..]);
                Some((place, chain_id, true))
            }
            (CHECKSUM, Some((place, chain_id, _))) => {
                declared.push(Access { chain_id: U256::from_be_bytes(chain_id), place, checksum: *key });
                None
            }
            (LOOKUP, None) | (CHAIN_ID, Some((_, _, false))) => return Err(wrong("has bytes where zeros belong")),
            (LOOKUP | CHAIN_ID | CHECKSUM, _) => return Err(wrong("is out of order")),
            _ => return Err(wrong("is of no known kind")),
        };
    }
    match open {
        Some(_) => Err("the last key of the inbox says where a log is, and no checksum follows".to_owned()),
        None => Ok(declared),
    }
}

/// Whether an access list declares anything to the inbox: whether its transaction may execute a message.
pub fn declares(list: &AccessList) -> bool {
    list.iter().any(|item| item.address == INBOX && !item.storage_keys.is_empty())
}

fn number(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0, |value, byte| (value << 8) | u64::from(*byte))
}
