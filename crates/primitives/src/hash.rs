//! Bundle hashes.

use alloy_primitives::{Address, B256, U256, keccak256};
use alloy_sol_types::{SolStruct, sol};

use crate::{Asset, Bundle, Leg, Relay, RevertMode};

mod eip712 {
    use super::sol;

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

impl Bundle {
    /// The Lockstep hash: the EIP-712 struct hash (`hashStruct`, no domain) over every leg, mode and condition.
    ///
    /// Unlike the dialect's `bundleHash` it differs whenever anything that decides the bundle's fate differs.
    pub fn hash(&self) -> B256 {
        let legs = self
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
        let blocks = self
            .blocks
            .iter()
            .map(|(chain, range)| eip712::BlockBound { chainId: U256::from(*chain), min: range.min, max: range.max })
            .collect();
        let requirements = self
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
            minTimestamp: self.min_timestamp.unwrap_or_default(),
            maxTimestamp: self.max_timestamp.unwrap_or_default(),
            requirements,
            replacementUuid: self.replacement.as_ref().map(|replacement| replacement.uuid.clone()).unwrap_or_default(),
            replacementNonce: self.replacement.as_ref().map(|replacement| replacement.nonce).unwrap_or_default(),
            signer: self.signer.unwrap_or_default(),
        }
        .eip712_hash_struct()
    }
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
    use crate::{BlockRange, LandedRef, Replacement, Requirement};
    use alloy_primitives::b256;

    #[test]
    fn the_published_type_string_is_the_one_that_is_hashed() {
        assert_eq!(eip712::Bundle::eip712_encode_type(), BUNDLE_TYPE);
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
        let mut hashes: Vec<B256> = variants.iter().map(Bundle::hash).collect();
        hashes.push(plain.hash());
        hashes.sort();
        hashes.dedup();
        assert_eq!(hashes.len(), variants.len() + 1);
    }
}
