//! The parameter of `lockstep_sendBundle`.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use alloy_primitives::{Address, B256, Bytes, U64, U256};
use lockstep_primitives::{
    Asset, BlockRange, Bundle, ChainId, LandedRef, Leg, LegTx, Place, Reason, Rejection, Relay, Replacement, Requirement,
    RevertMode, SignedTx, TxDecodeError,
};
use serde::{Deserialize, Serialize};

/// The one parameter object.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BundleParams {
    /// The steps, in order.
    pub legs: Vec<LegParams>,
    /// Inclusive block bounds by chain id.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub blocks: BTreeMap<U64, RangeParams>,
    /// In seconds; 0 is unset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_timestamp: Option<u64>,
    /// In seconds; 0 is unset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_timestamp: Option<u64>,
    /// Balance conditions.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub require: Vec<RequirementParams>,
    /// Replacement identity; needs a signed request and `replacementNonce`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replacement_uuid: Option<String>,
    /// Rises with each replacement.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replacement_nonce: Option<u64>,
}

/// A leg: either transactions or a relay.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LegParams {
    /// The rollup.
    pub chain_id: U64,
    /// Signed EIP-2718 transactions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub txs: Option<Vec<Bytes>>,
    /// Hashes of those that may revert and stay.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reverting_tx_hashes: Vec<B256>,
    /// Hashes of those that may be left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dropping_tx_hashes: Vec<B256>,
    /// A message to deliver.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub relay: Option<RelayParams>,
}

/// Which message a relay delivers: of an earlier leg, or of a transaction that is on its chain already.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RelayParams {
    /// Index of the leg that emits it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leg: Option<usize>,
    /// Index among the messages of that leg or transaction.
    pub message: usize,
    /// The rollup of the transaction that emitted it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chain_id: Option<U64>,
    /// The transaction that emitted it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tx_hash: Option<B256>,
}

impl RelayParams {
    fn into_relay(self) -> Result<Relay, Reason> {
        match (self.leg, self.chain_id, self.tx_hash) {
            (Some(leg), None, None) => Ok(Relay::Emitted { leg, message: self.message }),
            (None, Some(chain), Some(tx)) => Ok(Relay::Landed(LandedRef { chain: chain.to(), tx, message: self.message })),
            _ => Err(Reason::AmbiguousRelay),
        }
    }
}

impl From<Relay> for RelayParams {
    fn from(relay: Relay) -> Self {
        match relay {
            Relay::Emitted { leg, message } => Self { leg: Some(leg), message, ..Self::default() },
            Relay::Landed(landed) => {
                Self { leg: None, message: landed.message, chain_id: Some(U64::from(landed.chain)), tx_hash: Some(landed.tx) }
            }
        }
    }
}

/// Inclusive block bounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RangeParams {
    /// First block; none for any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min: Option<U64>,
    /// Last block; none for any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max: Option<U64>,
}

/// A balance condition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RequirementParams {
    /// The rollup.
    pub chain_id: U64,
    /// Whose balance.
    pub account: Address,
    /// `"native"` or the token's address.
    pub asset: String,
    /// By at least how much it rises, in the smallest unit.
    pub min_increase: U256,
}

/// The answer of `lockstep_sendBundle`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SentBundle {
    /// The Lockstep hash.
    pub bundle_hash: B256,
}

/// The second parameter of `lockstep_subscribe` for `"bundles"`: an unsigned bundle by its hash, or all bundles of a signer
/// by its signature.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SubscribeParams {
    /// The Lockstep hash.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bundle_hash: Option<B256>,
    /// Until when the signature counts, in Unix seconds; at most a day ahead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<u64>,
    /// EIP-712 signature over `Subscription(string kind,uint64 expiresAt)` in the domain of Lockstep.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signature: Option<Bytes>,
}

/// The parameter of `lockstep_cancelBundle`: one of the two.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CancelParams {
    /// The Lockstep hash.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bundle_hash: Option<B256>,
    /// The replacement identity.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replacement_uuid: Option<String>,
}

impl BundleParams {
    /// The bundle that the parameters describe, sent by `signer`.
    ///
    /// # Errors
    /// When a transaction cannot be decoded, modes contradict each other, or a leg is both or neither of the two kinds.
    pub fn into_bundle(self, signer: Option<Address>) -> Result<Bundle, Rejection> {
        let legs = self.legs.into_iter().enumerate().map(|(index, leg)| leg.into_leg(index)).collect::<Result<Vec<_>, _>>()?;
        let blocks = self
            .blocks
            .into_iter()
            .map(|(chain, range)| {
                let bound = |bound: Option<U64>, open: u64| bound.map_or(open, |bound| bound.to());
                (chain.to(), BlockRange { min: bound(range.min, 0), max: bound(range.max, u64::MAX) })
            })
            .collect();
        let require = self.require.into_iter().map(RequirementParams::into_requirement).collect::<Result<Vec<_>, _>>()?;
        Ok(Bundle {
            legs,
            blocks,
            min_timestamp: self.min_timestamp.filter(|timestamp| *timestamp > 0),
            max_timestamp: self.max_timestamp.filter(|timestamp| *timestamp > 0),
            require,
            replacement: replacement(self.replacement_uuid, self.replacement_nonce)?,
            signer,
        })
    }
}

impl LegParams {
    fn into_leg(self, index: usize) -> Result<Leg, Rejection> {
        let chain: ChainId = self.chain_id.to();
        let at = |reason| Rejection::new(Place::leg(chain, index), reason);
        match (self.txs, self.relay) {
            (Some(txs), None) => {
                let txs =
                    leg_txs(txs, &self.reverting_tx_hashes, &self.dropping_tx_hashes).map_err(|(index_in_leg, reason)| {
                        let place = Place { chain: Some(chain), leg: Some(index), index: index_in_leg };
                        Rejection::new(place, reason)
                    })?;
                Ok(Leg::Txs { chain, txs })
            }
            (None, Some(relay)) if self.reverting_tx_hashes.is_empty() && self.dropping_tx_hashes.is_empty() => {
                Ok(Leg::Relay { chain, relay: relay.into_relay().map_err(at)? })
            }
            (None, Some(_)) => {
                let hash = self.reverting_tx_hashes.first().or(self.dropping_tx_hashes.first()).copied().unwrap_or_default();
                Err(at(Reason::UnknownTxHash(hash)))
            }
            (Some(_), Some(_)) => Err(at(Reason::AmbiguousLeg)),
            (None, None) => Err(at(Reason::EmptyLeg)),
        }
    }
}

impl RequirementParams {
    fn into_requirement(self) -> Result<Requirement, Rejection> {
        let chain = self.chain_id.to();
        let asset = if self.asset == "native" {
            Asset::Native
        } else {
            Asset::Token(
                self.asset.parse().map_err(|_| Rejection::new(Place::rollup(chain), Reason::InvalidAsset(self.asset.clone())))?,
            )
        };
        Ok(Requirement { chain, account: self.account, asset, min_increase: self.min_increase })
    }
}

/// A replacement identity is a uuid with a nonce; either alone is none.
pub(crate) fn replacement(uuid: Option<String>, nonce: Option<u64>) -> Result<Option<Replacement>, Rejection> {
    let incomplete = |text: &str| Rejection::new(Place::BUNDLE, Reason::InvalidReplacement(text.to_owned()));
    match (uuid, nonce) {
        (None, None) => Ok(None),
        (Some(uuid), _) if uuid::Uuid::parse_str(&uuid).is_err() => Err(incomplete("replacementUuid is not a UUID")),
        (Some(uuid), Some(nonce)) => Ok(Some(Replacement { uuid: uuid.to_ascii_lowercase(), nonce })),
        (Some(_), None) => Err(incomplete("replacementUuid needs replacementNonce")),
        (None, Some(_)) => Err(incomplete("replacementNonce needs replacementUuid")),
    }
}

/// Decodes transactions and gives each its revert mode. The error names the transaction's index.
pub(crate) fn leg_txs(txs: Vec<Bytes>, reverting: &[B256], dropping: &[B256]) -> Result<Vec<LegTx>, (Option<usize>, Reason)> {
    if let Some(hash) = reverting.iter().find(|hash| dropping.contains(hash)) {
        return Err((None, Reason::ConflictingModes(*hash)));
    }
    let decoded = txs
        .into_iter()
        .enumerate()
        .map(|(index, raw)| {
            let tx = decode_tx(raw).map_err(|reason| (Some(index), reason))?;
            let mode = if reverting.contains(&tx.hash()) {
                RevertMode::Allow
            } else if dropping.contains(&tx.hash()) {
                RevertMode::Drop
            } else {
                RevertMode::Fail
            };
            Ok(LegTx { tx: Arc::new(tx), mode })
        })
        .collect::<Result<Vec<_>, (Option<usize>, Reason)>>()?;
    let hashes: BTreeSet<B256> = decoded.iter().map(|tx| tx.tx.hash()).collect();
    match reverting.iter().chain(dropping).find(|hash| !hashes.contains(*hash)) {
        Some(hash) => Err((None, Reason::UnknownTxHash(*hash))),
        None => Ok(decoded),
    }
}

/// Decodes a transaction that a user sent.
///
/// # Errors
/// The reason in the words of bundles.
pub fn decode_tx(raw: Bytes) -> Result<SignedTx, Reason> {
    SignedTx::decode(raw).map_err(|error| match error {
        TxDecodeError::Undecodable(cause) => Reason::UndecodableTransaction(cause),
        TxDecodeError::Deposit => Reason::DepositTransaction,
        TxDecodeError::Blob => Reason::BlobTransaction,
        TxDecodeError::Signature => Reason::InvalidSignature,
    })
}

impl From<&Bundle> for BundleParams {
    fn from(bundle: &Bundle) -> Self {
        let hashes = |leg: &Leg, mode: RevertMode| {
            leg.txs().iter().filter(|tx| tx.mode == mode).map(|tx| tx.tx.hash()).collect::<Vec<B256>>()
        };
        let legs = bundle
            .legs
            .iter()
            .map(|leg| LegParams {
                chain_id: U64::from(leg.chain()),
                txs: match leg {
                    Leg::Txs { txs, .. } => Some(txs.iter().map(|tx| tx.tx.raw().clone()).collect()),
                    Leg::Relay { .. } => None,
                },
                reverting_tx_hashes: hashes(leg, RevertMode::Allow),
                dropping_tx_hashes: hashes(leg, RevertMode::Drop),
                relay: match leg {
                    Leg::Relay { relay, .. } => Some(RelayParams::from(*relay)),
                    Leg::Txs { .. } => None,
                },
            })
            .collect();
        let blocks = bundle
            .blocks
            .iter()
            .map(|(chain, range)| {
                let bounds = RangeParams {
                    min: (range.min > 0).then(|| U64::from(range.min)),
                    max: (range.max < u64::MAX).then(|| U64::from(range.max)),
                };
                (U64::from(*chain), bounds)
            })
            .collect();
        let require = bundle
            .require
            .iter()
            .map(|requirement| RequirementParams {
                chain_id: U64::from(requirement.chain),
                account: requirement.account,
                asset: match requirement.asset {
                    Asset::Native => "native".into(),
                    Asset::Token(token) => token.to_string(),
                },
                min_increase: requirement.min_increase,
            })
            .collect();
        Self {
            legs,
            blocks,
            min_timestamp: bundle.min_timestamp,
            max_timestamp: bundle.max_timestamp,
            require,
            replacement_uuid: bundle.replacement.as_ref().map(|replacement| replacement.uuid.clone()),
            replacement_nonce: bundle.replacement.as_ref().map(|replacement| replacement.nonce),
        }
    }
}
