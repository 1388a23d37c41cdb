//! What is said on the control port.

use alloy_primitives::{Address, B64, B256, Bytes, U64};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// `lockstepEngine_commitList`: what shall be in one block.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CommitList {
    /// The block that it stands on.
    pub parent_hash: B256,
    /// The block's timestamp in seconds. With the parent it names the block.
    pub timestamp: U64,
    /// The block's number.
    pub number: U64,
    /// The forced transactions that the list was built on, as EIP-2718 bytes.
    pub forced_prefix: Vec<Bytes>,
    /// The attributes that the list was built on.
    pub attributes: PlannedAttributes,
    /// The list: EIP-2718 bytes, after the forced prefix.
    pub transactions: Vec<Bytes>,
    /// Until when the list may be used, in milliseconds of the Unix epoch.
    pub expires_ms: u64,
}

/// What the driver fixes of a block, its forced transactions aside.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PlannedAttributes {
    /// Gas limit.
    pub gas_limit: U64,
    /// The randomness of the block.
    pub prev_randao: B256,
    /// Who receives priority fees.
    pub suggested_fee_recipient: Address,
    /// EIP-4788.
    pub parent_beacon_block_root: Option<B256>,
    /// Denominator and elasticity, four bytes each (Holocene). Eight zero bytes stand for the chain's constants.
    #[serde(rename = "eip1559Params")]
    pub eip_1559_params: Option<B64>,
    /// The minimum base fee in wei (Jovian).
    pub min_base_fee: Option<U64>,
}

/// Where a list stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum OutcomeState {
    /// The driver has not asked for the block yet.
    Waiting,
    /// The execution client has begun its payload.
    Building,
    /// The driver has its payload.
    Delivered,
    /// The driver has the operator's own payload, or will get it.
    FellBack,
}

/// `lockstepEngine_getOutcome`, and the answer to a list that was accepted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Outcome {
    /// Where the list stands.
    pub state: OutcomeState,
    /// Why it fell back: a stable code.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The same in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// The id of its payload.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payload_id: Option<B64>,
    /// The hash of its block.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub block_hash: Option<B256>,
}

/// `lockstepEngine_lastAttributes`: the newest payload that the driver asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LastAttributes {
    /// The block that it stands on.
    pub parent_hash: B256,
    /// Its timestamp in seconds.
    pub timestamp: U64,
    /// The operator's own payload.
    pub payload_id: B64,
    /// The attributes as the driver sent them.
    pub attributes: Value,
}
