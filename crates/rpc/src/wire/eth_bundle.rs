//! The `eth_sendBundle` dialect of a rollup. Every field of the known dialects is supported or refused by name.

use alloy_primitives::{Address, B256, Bytes, U64};
use lockstep_primitives::{BlockRange, Bundle, ChainId, Leg, Place, Rejection};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::bundle::{leg_txs, replacement};
use super::{Decimal, SignedDecimal};

/// The parameter of `eth_sendBundle`.
///
/// `blockNumber` (0 or absent: the next block that the builder wins), or op-rbuilder's `minBlockNumber`/`maxBlockNumber`.
/// Fields that other builders know and this one does not carry out are refused with `unsupported_field`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct EthBundleParams {
    /// Signed EIP-2718 transactions; none with a uuid cancels.
    #[serde(default)]
    pub txs: Option<Vec<Bytes>>,
    /// Valid for exactly this block.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub block_number: Option<U64>,
    /// First block.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_block_number: Option<U64>,
    /// Last block.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_block_number: Option<U64>,
    /// In seconds; 0 is unset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_timestamp: Option<u64>,
    /// In seconds; 0 is unset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_timestamp: Option<u64>,
    /// May revert and stay.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reverting_tx_hashes: Option<Vec<B256>>,
    /// May be left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dropping_tx_hashes: Option<Vec<B256>>,
    /// Replacement identity.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replacement_uuid: Option<String>,
    /// Another name of `replacementUuid`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uuid: Option<String>,
    /// Rises with each replacement.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replacement_nonce: Option<u64>,
    /// Another name of `replacementNonce`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replacement_seq_number: Option<u64>,
    /// Refused unless 0: this builder refunds nobody yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refund_percent: Option<u64>,
    /// Refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refund_recipient: Option<Value>,
    /// Refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refund_tx_hashes: Option<Value>,
    /// Refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refund_index: Option<Value>,
    /// Refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delayed_refund: Option<Value>,
    /// Refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refund_identity: Option<Value>,
    /// Refused: the signer is whoever signed the request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signing_address: Option<Value>,
    /// Refused: there is one version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<Value>,
    /// Refused: it is computed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bundle_hash: Option<Value>,
    /// Refused: bundles are not passed on to others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub builders: Option<Value>,
    /// Refused: there are no flashblocks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_flashblock_number: Option<Value>,
    /// Refused: there are no flashblocks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_flashblock_number: Option<Value>,
}

impl EthBundleParams {
    /// The name of a field that is given and not carried out.
    pub fn unsupported(&self) -> Option<&'static str> {
        [
            ("refundPercent", self.refund_percent.is_some_and(|percent| percent != 0)),
            ("refundRecipient", self.refund_recipient.is_some()),
            ("refundTxHashes", self.refund_tx_hashes.is_some()),
            ("refundIndex", self.refund_index.is_some()),
            ("delayedRefund", self.delayed_refund.is_some()),
            ("refundIdentity", self.refund_identity.is_some()),
            ("signingAddress", self.signing_address.is_some()),
            ("version", self.version.is_some()),
            ("bundleHash", self.bundle_hash.is_some()),
            ("builders", self.builders.is_some()),
            ("minFlashblockNumber", self.min_flashblock_number.is_some()),
            ("maxFlashblockNumber", self.max_flashblock_number.is_some()),
        ]
        .into_iter()
        .find(|(_, given)| *given)
        .map(|(name, _)| name)
    }

    /// Two fields that say the same thing twice, and which of them would count is nobody's to guess.
    pub fn contradiction(&self) -> Option<&'static str> {
        let ranged = self.min_block_number.is_some() || self.max_block_number.is_some();
        if self.block_number.is_some_and(|number| !number.is_zero()) && ranged {
            return Some("blockNumber and minBlockNumber or maxBlockNumber are both given");
        }
        if self.uuid.is_some() && self.replacement_uuid.is_some() && self.uuid != self.replacement_uuid {
            return Some("uuid and replacementUuid differ");
        }
        let nonces = (self.replacement_nonce, self.replacement_seq_number);
        matches!(nonces, (Some(nonce), Some(number)) if nonce != number)
            .then_some("replacementNonce and replacementSeqNumber differ")
    }

    /// The uuid that an empty bundle cancels.
    pub fn cancels(&self) -> Option<&str> {
        if self.txs.as_ref().is_some_and(|txs| !txs.is_empty()) {
            return None;
        }
        self.uuid.as_deref().or(self.replacement_uuid.as_deref())
    }

    /// The bundle that the parameters describe.
    ///
    /// # Errors
    /// As [`BundleParams::into_bundle`](super::BundleParams::into_bundle).
    pub fn into_bundle(self, chain: ChainId, signer: Option<Address>) -> Result<Bundle, Rejection> {
        let txs = leg_txs(
            self.txs.unwrap_or_default(),
            &self.reverting_tx_hashes.unwrap_or_default(),
            &self.dropping_tx_hashes.unwrap_or_default(),
        )
        .map_err(|(index, reason)| Rejection::new(Place { chain: Some(chain), leg: Some(0), index }, reason))?;
        let number = |number: Option<U64>| number.map(|number| number.to::<u64>()).filter(|number| *number > 0);
        let exact = number(self.block_number);
        let min = number(self.min_block_number).or(exact);
        let max = number(self.max_block_number).or(exact);
        let blocks = (min.is_some() || max.is_some())
            .then(|| (chain, BlockRange { min: min.unwrap_or(0), max: max.unwrap_or(u64::MAX) }))
            .into_iter()
            .collect();
        Ok(Bundle {
            legs: vec![Leg::Txs { chain, txs }],
            blocks,
            min_timestamp: self.min_timestamp.filter(|timestamp| *timestamp > 0),
            max_timestamp: self.max_timestamp.filter(|timestamp| *timestamp > 0),
            require: Vec::new(),
            replacement: replacement(
                self.uuid.or(self.replacement_uuid),
                self.replacement_nonce.or(self.replacement_seq_number),
            )?,
            signer,
        })
    }
}

/// The answer of `eth_sendBundle`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EthSentBundle {
    /// Keccak-256 of the transaction hashes: the dialect's hash, which different bundles can share.
    pub bundle_hash: B256,
    /// The Lockstep hash.
    pub lockstep_hash: B256,
}

/// The parameter of `eth_cancelBundle`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct EthCancelParams {
    /// The replacement identity.
    pub replacement_uuid: String,
}

/// The parameter of `eth_sendPrivateTransaction`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PrivateTxParams {
    /// The signed transaction.
    pub tx: Bytes,
    /// The last block it may land in; 25 blocks ahead when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_block_number: Option<U64>,
    /// Refused: nothing of a transaction is shared with anyone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preferences: Option<Value>,
}

/// The parameter of `eth_callBundle`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CallBundleParams {
    /// Signed transactions.
    pub txs: Vec<Bytes>,
    /// The block it is simulated in: the next one, or refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub block_number: Option<U64>,
    /// The state it is simulated on: `"latest"` or the head's number, or refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state_block_number: Option<Value>,
    /// The block's timestamp, in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timestamp: Option<u64>,
}

/// The answer of `eth_callBundle`. Wei are decimal strings, gas and block numbers plain numbers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CallBundleResult {
    /// coinbaseDiff / totalGasUsed.
    pub bundle_gas_price: SignedDecimal,
    /// The dialect's hash.
    pub bundle_hash: B256,
    /// Tips and payments to the block's beneficiary.
    pub coinbase_diff: SignedDecimal,
    /// Payments to the block's beneficiary.
    pub eth_sent_to_coinbase: SignedDecimal,
    /// Tips.
    pub gas_fees: Decimal,
    /// One a transaction.
    pub results: Vec<CallTxResult>,
    /// The block whose state it ran on.
    pub state_block_number: u64,
    /// Gas used by all.
    pub total_gas_used: u64,
}

/// One transaction of an `eth_callBundle`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CallTxResult {
    /// Tips and payments to the block's beneficiary.
    pub coinbase_diff: SignedDecimal,
    /// Payments to the block's beneficiary.
    pub eth_sent_to_coinbase: SignedDecimal,
    /// The signer.
    pub from_address: Address,
    /// Tips.
    pub gas_fees: Decimal,
    /// coinbaseDiff / gasUsed.
    pub gas_price: SignedDecimal,
    /// Gas used.
    pub gas_used: u64,
    /// The callee; none for a creation.
    pub to_address: Option<Address>,
    /// The hash.
    pub tx_hash: B256,
    /// Return data, when it succeeded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<Bytes>,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Revert data as text, when it reverted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revert: Option<String>,
}
