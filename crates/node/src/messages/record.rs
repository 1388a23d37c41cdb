//! How messages lie on disk: keys by kind, values as JSON.

use alloy_primitives::{Address, B256, Bytes, Log, U256};
use lockstep_messaging::{Evidence, LogPlace, agglayer::Token};
use lockstep_primitives::{ChainId, LandedRef, SignatureBytes, TxId};
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
    /// What its attesters gave, once they did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) attestation: Option<AttestationRecord>,
}

impl MessageRecord {
    /// Where the log is.
    pub(crate) const fn place(&self) -> LogPlace {
        LogPlace { block: self.block, timestamp: self.timestamp, index: self.index }
    }
}

/// What attesters gave.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct AttestationRecord {
    /// What is attested.
    pub(crate) payload: Bytes,
    /// 65 bytes each.
    pub(crate) signatures: Vec<Bytes>,
    /// Who had to sign: where others have to by now, it is of no use.
    pub(crate) signers: Vec<Address>,
}

impl AttestationRecord {
    /// What is written down of evidence; `None` when nobody signed it.
    pub(crate) fn of(evidence: &Evidence, signers: Vec<Address>) -> Option<Self> {
        let Evidence::Attestation { payload, signatures } = evidence else { return None };
        let signatures = signatures.iter().map(|signature| Bytes::copy_from_slice(signature)).collect();
        Some(Self { payload: payload.clone(), signatures, signers })
    }

    /// The evidence again.
    pub(crate) fn evidence(self) -> Result<Evidence, String> {
        let read = |bytes: &Bytes| {
            SignatureBytes::try_from(&bytes[..]).map_err(|_| format!("a signature has 65 bytes, not {}", bytes.len()))
        };
        let signatures = self.signatures.iter().map(read).collect::<Result<_, _>>()?;
        Ok(Evidence::Attestation { payload: self.payload, signatures })
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
    /// The transaction; records of earlier versions have none.
    #[serde(default)]
    pub(crate) tx: Option<B256>,
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
    /// Tokens of which there may be more than what is noted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) unsure: Vec<TokenRecord>,
    /// The tokens whose balance is the one that is noted; absent when all are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) read: Option<Vec<TokenRecord>>,
}

/// A foreign token.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct TokenRecord {
    pub(crate) network: u32,
    pub(crate) token: Address,
}

impl From<&Token> for TokenRecord {
    fn from((network, token): &Token) -> Self {
        Self { network: *network, token: *token }
    }
}

impl From<TokenRecord> for Token {
    fn from(record: TokenRecord) -> Self {
        (record.network, record.token)
    }
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
        let keys =
            [Key::Message(LandedRef { chain: 901, tx: hash, message: 3 }), Key::Delivery(902, hash), Key::Block(u64::MAX, 12)];
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
    fn an_attestation_is_read_as_it_was_written() {
        let evidence = Evidence::Attestation { payload: Bytes::from_static(b"burn"), signatures: vec![[1; 65], [2; 65]] };
        let record = AttestationRecord::of(&evidence, vec![Address::repeat_byte(1)]).unwrap();
        let json = serde_json::to_string(&record).unwrap();
        let read: AttestationRecord = serde_json::from_str(&json).unwrap();
        assert_eq!(read, record);
        assert_eq!(read.evidence(), Ok(evidence));
        let short = AttestationRecord { signatures: vec![Bytes::from_static(&[1; 64])], ..record };
        assert!(short.evidence().unwrap_err().contains("65 bytes, not 64"));
        assert_eq!(AttestationRecord::of(&Evidence::Place, Vec::new()), None, "nobody signed that");
    }

    #[test]
    fn what_an_earlier_version_wrote_down_is_read() {
        let delivery: DeliveryRecord = serde_json::from_str(r#"{"block":5,"order":7}"#).unwrap();
        assert_eq!(delivery, DeliveryRecord { block: 5, order: 7, tx: None });
        let exits: ExitsRecord = serde_json::from_str(r#"{"frontier":[],"count":0,"balances":[]}"#).unwrap();
        assert!(exits.unsure.is_empty() && exits.read.is_none());
    }

    #[test]
    fn blocks_of_a_rollup_lie_in_their_order() {
        let numbers = [0, 1, 255, 256, 1 << 40];
        let keys: Vec<Vec<u8>> = numbers.iter().map(|number| Key::Block(5, *number).bytes()).collect();
        assert!(keys.is_sorted());
    }
}
