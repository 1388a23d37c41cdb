//! Bundle hashes.

use std::sync::LazyLock;

use alloy_primitives::{Address, B256, Keccak256, U256, keccak256};

use crate::{Asset, Bundle, Leg, Relay, RevertMode};

/// The same structs as a library encodes them.
#[cfg(test)]
mod eip712 {
    use alloy_sol_types::sol;

    sol! {
        struct LegTransaction {
            bytes32 hash;
            uint8 mode;
        }

        struct Leg {
            uint256 chainId;
            LegTransaction[] txs;
            bool relay;
            uint64 relayLeg;
            uint64 relayMessage;
            uint256 relayChainId;
            bytes32 relayTx;
        }

        struct BlockBound {
            uint256 chainId;
            uint64 min;
            uint64 max;
        }

        struct Requirement {
            uint256 chainId;
            address account;
            address asset;
            uint256 minIncrease;
        }

        struct Bundle {
            Leg[] legs;
            BlockBound[] blocks;
            uint64 minTimestamp;
            uint64 maxTimestamp;
            Requirement[] requirements;
            string replacementUuid;
            uint64 replacementNonce;
            address signer;
        }
    }
}

/// The EIP-712 type string behind [`Bundle::hash`].
///
/// `relay` says whether the leg is one; of a message that landed before, `relayChainId` and `relayTx` name the transaction and
/// `relayLeg` is zero, and else they are zero. `mode` is 0 fail, 1 allow, 2 drop; `asset` zero is the native asset; unset timestamps, uuid and nonce are zero or
/// empty; `signer` is zero for an unsigned request; block bounds are sorted by chain id.
pub const BUNDLE_TYPE: &str = "Bundle(Leg[] legs,BlockBound[] blocks,uint64 minTimestamp,uint64 maxTimestamp,Requirement[] requirements,string replacementUuid,uint64 replacementNonce,address signer)\
BlockBound(uint256 chainId,uint64 min,uint64 max)\
Leg(uint256 chainId,LegTransaction[] txs,bool relay,uint64 relayLeg,uint64 relayMessage,uint256 relayChainId,bytes32 relayTx)\
LegTransaction(bytes32 hash,uint8 mode)\
Requirement(uint256 chainId,address account,address asset,uint256 minIncrease)";

const LEG_TYPE: &str = "Leg(uint256 chainId,LegTransaction[] txs,bool relay,uint64 relayLeg,uint64 relayMessage,uint256 relayChainId,bytes32 relayTx)\
LegTransaction(bytes32 hash,uint8 mode)";
const LEG_TRANSACTION_TYPE: &str = "LegTransaction(bytes32 hash,uint8 mode)";
const BLOCK_BOUND_TYPE: &str = "BlockBound(uint256 chainId,uint64 min,uint64 max)";
const REQUIREMENT_TYPE: &str = "Requirement(uint256 chainId,address account,address asset,uint256 minIncrease)";

/// The type hashes. Their strings are longer than most of what is hashed with them, so they are hashed once.
struct TypeHashes {
    bundle: B256,
    leg: B256,
    leg_transaction: B256,
    block_bound: B256,
    requirement: B256,
}

static TYPES: LazyLock<TypeHashes> = LazyLock::new(|| TypeHashes {
    bundle: keccak256(BUNDLE_TYPE),
    leg: keccak256(LEG_TYPE),
    leg_transaction: keccak256(LEG_TRANSACTION_TYPE),
    block_bound: keccak256(BLOCK_BOUND_TYPE),
    requirement: keccak256(REQUIREMENT_TYPE),
});

/// A struct while it is hashed: its type hash, then its fields, a word each.
struct Struct(Keccak256);

impl Struct {
    fn of(type_hash: B256) -> Self {
        let mut hasher = Keccak256::new();
        hasher.update(type_hash);
        Self(hasher)
    }

    fn word(mut self, word: B256) -> Self {
        self.0.update(word);
        self
    }

    fn number(self, number: u64) -> Self {
        self.word(U256::from(number).into())
    }

    fn address(self, address: Address) -> Self {
        self.word(address.into_word())
    }

    /// An array of structs counts as the hash of their hashes, one after the other.
    fn array(self, hashes: impl Iterator<Item = B256>) -> Self {
        let mut hasher = Keccak256::new();
        for hash in hashes {
            hasher.update(hash);
        }
        self.word(hasher.finalize())
    }

    fn hash(self) -> B256 {
        self.0.finalize()
    }
}

impl Bundle {
    /// The Lockstep hash: the EIP-712 struct hash (`hashStruct`, no domain) over every leg, mode and condition.
    ///
    /// Unlike the dialect's `bundleHash` it differs whenever anything that decides the bundle's fate differs.
    pub fn hash(&self) -> B256 {
        let blocks = self
            .blocks
            .iter()
            .map(|(chain, range)| Struct::of(TYPES.block_bound).number(*chain).number(range.min).number(range.max).hash());
        let requirements = self.require.iter().map(|requirement| {
            let asset = match requirement.asset {
                Asset::Native => Address::ZERO,
                Asset::Token(token) => token,
            };
            Struct::of(TYPES.requirement)
                .number(requirement.chain)
                .address(requirement.account)
                .address(asset)
                .word(requirement.min_increase.into())
                .hash()
        });
        let replacement = self.replacement.as_ref();
        Struct::of(TYPES.bundle)
            .array(self.legs.iter().map(leg_hash))
            .array(blocks)
            .number(self.min_timestamp.unwrap_or_default())
            .number(self.max_timestamp.unwrap_or_default())
            .array(requirements)
            .word(keccak256(replacement.map_or("", |replacement| replacement.uuid.as_str())))
            .number(replacement.map_or(0, |replacement| replacement.nonce))
            .address(self.signer.unwrap_or_default())
            .hash()
    }
}

fn leg_hash(leg: &Leg) -> B256 {
    let (relay, from) = match leg {
        Leg::Relay { relay: Relay::Emitted { leg, message }, .. } => (Some((*leg, *message)), None),
        Leg::Relay { relay: Relay::Landed(landed), .. } => (Some((0, landed.message)), Some(landed)),
        Leg::Txs { .. } => (None, None),
    };
    let txs = leg.txs().iter().map(|tx| {
        let transaction = Struct::of(TYPES.leg_transaction).word(tx.tx.hash());
        transaction.number(u64::from(mode_number(tx.mode))).hash()
    });
    Struct::of(TYPES.leg)
        .number(leg.chain())
        .array(txs)
        .number(u64::from(relay.is_some()))
        .number(relay.map_or(0, |(leg, _)| leg as u64))
        .number(relay.map_or(0, |(_, message)| message as u64))
        .number(from.map_or(0, |landed| landed.chain))
        .word(from.map(|landed| landed.tx).unwrap_or_default())
        .hash()
}

const fn mode_number(mode: RevertMode) -> u8 {
    match mode {
        RevertMode::Fail => 0,
        RevertMode::Allow => 1,
        RevertMode::Drop => 2,
    }
}

/// The `bundleHash` of the `eth_sendBundle` dialects: keccak-256 of the transaction hashes in order.
///
/// It ignores block, timestamps and modes, so different bundles can share it.
pub fn dialect_bundle_hash(tx_hashes: impl IntoIterator<Item = B256>) -> B256 {
    let mut bytes = Vec::new();
    for hash in tx_hashes {
        bytes.extend_from_slice(hash.as_slice());
    }
    keccak256(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{BlockRange, LandedRef, LegTx, Replacement, Requirement, SignedTx};
    use alloy_primitives::{b256, bytes};
    use alloy_sol_types::SolStruct;
    use std::sync::Arc;

    /// The hash as a library computes it, which hashes the type strings anew every time.
    fn by_the_library(bundle: &Bundle) -> B256 {
        let legs = bundle
            .legs
            .iter()
            .map(|leg| {
                let (relay, from) = match leg {
                    Leg::Relay { relay: Relay::Emitted { leg, message }, .. } => (Some((*leg, *message)), None),
                    Leg::Relay { relay: Relay::Landed(landed), .. } => (Some((0, landed.message)), Some(landed)),
                    Leg::Txs { .. } => (None, None),
                };
                eip712::Leg {
                    chainId: U256::from(leg.chain()),
                    txs: leg
                        .txs()
                        .iter()
                        .map(|tx| eip712::LegTransaction { hash: tx.tx.hash(), mode: mode_number(tx.mode) })
                        .collect(),
                    relay: relay.is_some(),
                    relayLeg: relay.map_or(0, |(leg, _)| leg as u64),
                    relayMessage: relay.map_or(0, |(_, message)| message as u64),
                    relayChainId: U256::from(from.map_or(0, |landed| landed.chain)),
                    relayTx: from.map(|landed| landed.tx).unwrap_or_default(),
                }
            })
            .collect();
        let blocks = bundle
            .blocks
            .iter()
            .map(|(chain, range)| eip712::BlockBound { chainId: U256::from(*chain), min: range.min, max: range.max })
            .collect();
        let requirements = bundle
            .require
            .iter()
            .map(|requirement| eip712::Requirement {
                chainId: U256::from(requirement.chain),
                account: requirement.account,
                asset: match requirement.asset {
                    Asset::Native => Address::ZERO,
                    Asset::Token(token) => token,
                },
                minIncrease: requirement.min_increase,
            })
            .collect();
        eip712::Bundle {
            legs,
            blocks,
            minTimestamp: bundle.min_timestamp.unwrap_or_default(),
            maxTimestamp: bundle.max_timestamp.unwrap_or_default(),
            requirements,
            replacementUuid: bundle.replacement.as_ref().map(|replacement| replacement.uuid.clone()).unwrap_or_default(),
            replacementNonce: bundle.replacement.as_ref().map(|replacement| replacement.nonce).unwrap_or_default(),
            signer: bundle.signer.unwrap_or_default(),
        }
        .eip712_hash_struct()
    }

    #[test]
    fn the_published_type_string_is_the_one_that_is_hashed() {
        assert_eq!(eip712::Bundle::eip712_encode_type(), BUNDLE_TYPE);
        assert_eq!(eip712::Leg::eip712_encode_type(), LEG_TYPE);
        assert_eq!(eip712::LegTransaction::eip712_encode_type(), LEG_TRANSACTION_TYPE);
        assert_eq!(eip712::BlockBound::eip712_encode_type(), BLOCK_BOUND_TYPE);
        assert_eq!(eip712::Requirement::eip712_encode_type(), REQUIREMENT_TYPE);
    }

    #[test]
    fn dialect_hash_matches_the_published_vector() {
        let hashes = [B256::repeat_byte(0x11), B256::repeat_byte(0x22)];
        assert_eq!(dialect_bundle_hash(hashes), b256!("3e92e0db88d6afea9edc4eedf62fffa4d92bcdfc310dccbe943747fe8302e871"));
    }

    #[test]
    fn every_condition_changes_the_hash() {
        let plain =
            Bundle { legs: vec![Leg::Relay { chain: 7, relay: Relay::Emitted { leg: 0, message: 0 } }], ..Bundle::default() };
        let landed = |chain, tx, message| {
            let relay = Relay::Landed(LandedRef { chain, tx: B256::repeat_byte(tx), message });
            Bundle { legs: vec![Leg::Relay { chain: 7, relay }], ..Bundle::default() }
        };
        let variants = [
            Bundle { legs: vec![Leg::Relay { chain: 8, relay: Relay::Emitted { leg: 0, message: 0 } }], ..Bundle::default() },
            Bundle { legs: vec![Leg::Relay { chain: 7, relay: Relay::Emitted { leg: 0, message: 1 } }], ..Bundle::default() },
            landed(1, 0, 0),
            landed(1, 1, 0),
            landed(1, 0, 1),
            Bundle { blocks: [(7, BlockRange { min: 1, max: 2 })].into(), ..plain.clone() },
            Bundle { min_timestamp: Some(1), ..plain.clone() },
            Bundle { max_timestamp: Some(1), ..plain.clone() },
            Bundle {
                require: vec![Requirement { chain: 7, account: Address::ZERO, asset: Asset::Native, min_increase: U256::ONE }],
                ..plain.clone()
            },
            Bundle { replacement: Some(Replacement { uuid: "a".into(), nonce: 1 }), ..plain.clone() },
            Bundle { signer: Some(Address::repeat_byte(1)), ..plain.clone() },
        ];
        for bundle in variants.iter().chain([&plain]) {
            assert_eq!(bundle.hash(), by_the_library(bundle), "{bundle:?}");
        }
        let mut hashes: Vec<B256> = variants.iter().map(Bundle::hash).collect();
        hashes.push(plain.hash());
        hashes.sort();
        hashes.dedup();
        assert_eq!(hashes.len(), variants.len() + 1);
    }

    #[test]
    fn the_hash_is_the_one_that_a_library_computes() {
        // The EIP-155 example transaction.
        let raw = bytes!(
            "f86c098504a817c800825208943535353535353535353535353535353535353535880de0b6b3a76400008025a028ef61340bd939bc2195fe537567866003e1a15d3c71ff63e1590620aa636276a067cbe9d8997f761aecb703304b3800ccf555c9f3dc64214b297fb1966a3b6d83"
        );
        let tx = Arc::new(SignedTx::decode(raw).unwrap());
        let txs = |modes: &[RevertMode]| modes.iter().map(|mode| LegTx { tx: Arc::clone(&tx), mode: *mode }).collect();
        let bundle = Bundle {
            legs: vec![
                Leg::Txs { chain: 1, txs: txs(&[RevertMode::Fail, RevertMode::Allow, RevertMode::Drop]) },
                Leg::Relay { chain: u64::MAX, relay: Relay::Emitted { leg: 3, message: 4 } },
                Leg::Txs { chain: 2, txs: txs(&[]) },
                Leg::Relay { chain: 5, relay: Relay::Landed(LandedRef { chain: 6, tx: B256::repeat_byte(7), message: 8 }) },
            ],
            blocks: [(1, BlockRange { min: 9, max: 10 }), (2, BlockRange::ANY)].into(),
            min_timestamp: Some(11),
            max_timestamp: Some(12),
            require: vec![Requirement {
                chain: 13,
                account: Address::repeat_byte(14),
                asset: Asset::Token(Address::repeat_byte(15)),
                min_increase: U256::MAX,
            }],
            replacement: Some(Replacement { uuid: "sixteen".to_owned(), nonce: 17 }),
            signer: Some(Address::repeat_byte(18)),
        };
        assert_eq!(bundle.hash(), by_the_library(&bundle));
        assert_eq!(Bundle::default().hash(), by_the_library(&Bundle::default()));
    }
}
