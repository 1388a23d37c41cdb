//! How messages lie on disk: keys by kind, values as JSON.

use alloy_primitives::{Address, B256, Log, U256};
use lockstep_messaging::LogPlace;
use lockstep_primitives::{ChainId, LandedRef, TxId};
use serde::{Deserialize, Serialize};

const MESSAGE: u8 = b'm';
const DELIVERY: u8 = b'd';
const BLOCK: u8 = b'b';

/// What a key of the table names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Key {
    /// A message.
    Message(LandedRef),
    /// The delivery on a rollup that leaves this receipt.
    Delivery(ChainId, B256),
    /// A block of a rollup, by its number.
    Block(ChainId, u64),
}

impl Key {
    /// One byte for the kind, eight for the rollup, then what names it there; numbers are big-endian.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        match self {
            Self::Message(at) => {
                let message = at.message as u64;
                [&[MESSAGE][..], &at.chain.to_be_bytes(), at.tx.as_slice(), &message.to_be_bytes()].concat()
            }
            Self::Delivery(chain, receipt) => [&[DELIVERY][..], &chain.to_be_bytes(), receipt.as_slice()].concat(),
            Self::Block(chain, number) => [&[BLOCK][..], &chain.to_be_bytes(), &number.to_be_bytes()].concat(),
        }
    }

    /// Reads a key; `None` when it is none of this version's.
    pub(crate) fn read(bytes: &[u8]) -> Option<Self> {
        let (kind, rest) = bytes.split_first()?;
        let (chain, rest) = rest.split_first_chunk::<8>()?;
        let chain = ChainId::from_be_bytes(*chain);
        match *kind {
            MESSAGE => {
                let (tx, message) = rest.split_first_chunk::<32>()?;
                let message = usize::try_from(u64::from_be_bytes(message.try_into().ok()?)).ok()?;
                Some(Self::Message(LandedRef { chain, tx: B256::from(*tx), message }))
            }
            DELIVERY => Some(Self::Delivery(chain, B256::from(<[u8; 32]>::try_from(rest).ok()?))),
            BLOCK => Some(Self::Block(chain, u64::from_be_bytes(rest.try_into().ok()?))),
            _ => None,
        }
    }
}

/// A message as it was emitted: what it says is read from its log again, so that a record never contradicts the protocol.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct MessageRecord {
    pub(crate) log: Log,
    pub(crate) block: u64,
    pub(crate) timestamp: u64,
    pub(crate) index: u64,
    pub(crate) tx: TxRecord,
    pub(crate) in_tx: usize,
    /// How many messages of the same bytes its transaction sent before it, and in all.
    pub(crate) twin: usize,
    pub(crate) twins: usize,
    pub(crate) order: u64,
    pub(crate) found_ms: u64,
    /// Its place in the exit tree (AggLayer), where that is known.
    #[serde(default)]
    pub(crate) exit: Option<ExitRecord>,
}

impl MessageRecord {
    /// Where the log is.
    pub(crate) const fn place(&self) -> LogPlace {
        LogPlace { block: self.block, timestamp: self.timestamp, index: self.index }
    }
}

/// What a transaction is called.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum TxRecord {
    Signed { signer: Address, nonce: u64 },
    Deposit { hash: B256 },
}

impl From<TxId> for TxRecord {
    fn from(tx: TxId) -> Self {
        match tx {
            TxId::Signed { signer, nonce } => Self::Signed { signer, nonce },
            TxId::Deposit(hash) => Self::Deposit { hash },
        }
    }
}

impl From<TxRecord> for TxId {
    fn from(tx: TxRecord) -> Self {
        match tx {
            TxRecord::Signed { signer, nonce } => Self::Signed { signer, nonce },
            TxRecord::Deposit { hash } => Self::Deposit(hash),
        }
    }
}

/// A delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct DeliveryRecord {
    /// Number of the block.
    pub(crate) block: u64,
    /// Where it stands in the order in which things were found.
    pub(crate) order: u64,
}

/// A block that was read.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct BlockRecord {
    pub(crate) hash: B256,
    pub(crate) timestamp: u64,
    /// AggLayer after it, where that is known.
    #[serde(default)]
    pub(crate) exits: Option<ExitsRecord>,
}

/// A rollup's exit tree and balances.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ExitsRecord {
    /// A node for each of 32 levels.
    pub(crate) frontier: Vec<B256>,
    /// Leaves.
    pub(crate) count: u32,
    pub(crate) balances: Vec<BalanceRecord>,
}

/// How much of a foreign token a rollup has.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct BalanceRecord {
    pub(crate) network: u32,
    pub(crate) token: Address,
    pub(crate) amount: U256,
}

/// An exit and its proof.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ExitRecord {
    pub(crate) network: u32,
    pub(crate) leaf_index: u32,
    pub(crate) leaf: B256,
    /// A node for each of 32 levels.
    pub(crate) siblings: Vec<B256>,
    pub(crate) root: B256,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_is_read_as_what_it_was_written_for() {
        let hash = B256::repeat_byte(7);
        let keys = [
            Key::Message(LandedRef { chain: 901, tx: hash, message: 3 }),
            Key::Delivery(902, hash),
            Key::Block(u64::MAX, 12),
        ];
        for key in keys {
            let bytes = key.bytes();
            assert_eq!(Key::read(&bytes), Some(key));
            assert_eq!(Key::read(&bytes[..bytes.len() - 1]), None, "a key that is cut short is none");
            assert_eq!(Key::read(&[&bytes[..], &[0]].concat()), None, "nor is a longer one");
        }
        assert_eq!(Key::read(b""), None);
        assert_eq!(Key::read(&[b'z'; 9]), None);
    }

    #[test]
    fn blocks_of_a_rollup_lie_in_their_order() {
        let numbers = [0, 1, 255, 256, 1 << 40];
        let keys: Vec<Vec<u8>> = numbers.iter().map(|number| Key::Block(5, *number).bytes()).collect();
        assert!(keys.is_sorted());
    }
}
