//! What is told of messages that are on their chains.

use alloy_primitives::{B256, U64};
use serde::{Deserialize, Serialize};

use super::Obstacle;

/// The parameter of `lockstep_getMessages`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct MessagesParams {
    /// From or to this rollup.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chain_id: Option<U64>,
    /// In this state.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
    /// At most so many.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
}

/// The answer of `lockstep_getMessages`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MessageList {
    /// The one that was found last first.
    pub messages: Vec<MessageStatus>,
    /// Whether older ones were not looked at.
    pub more: bool,
}

/// Where a message stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MessageStatus {
    /// The protocol.
    pub protocol: String,
    /// Its id.
    pub id: B256,
    /// What sent it.
    pub origin: MessageOrigin,
    /// The receiving rollup.
    pub destination: Option<U64>,
    /// The destination in the protocol's words.
    pub text: String,
    /// `sent`, `pending`, `ready`, `delivered` or `expired`.
    pub state: String,
    /// Whether nobody delivered it while the time for that was its sender's.
    pub orphan: bool,
    /// What keeps it from being delivered, while something does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blocked: Option<Obstacle>,
    /// Its delivery, once that was seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delivered: Option<DeliveryStatus>,
}

/// Where a message is: what a relay names, and the block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MessageOrigin {
    /// The rollup.
    pub chain_id: U64,
    /// The transaction.
    pub tx_hash: B256,
    /// Index among the messages of the transaction.
    pub message: usize,
    /// Number of the block.
    pub block_number: U64,
}

/// Where a message was delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DeliveryStatus {
    /// The rollup.
    pub chain_id: U64,
    /// Number of the block.
    pub block_number: U64,
    /// The transaction, where it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tx_hash: Option<B256>,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_message_is_told_in_this_shape() {
        let status = MessageStatus {
            protocol: "mailbox".to_owned(),
            id: B256::repeat_byte(1),
            origin: MessageOrigin {
                chain_id: U64::from(901),
                tx_hash: B256::repeat_byte(2),
                message: 0,
                block_number: U64::from(16),
            },
            destination: Some(U64::from(902)),
            text: "chain 902".to_owned(),
            state: "delivered".to_owned(),
            orphan: false,
            blocked: None,
            delivered: Some(DeliveryStatus { chain_id: U64::from(902), block_number: U64::from(17), tx_hash: None }),
        };
        let golden = json!({
            "protocol": "mailbox",
            "id": B256::repeat_byte(1),
            "origin": { "chainId": "0x385", "txHash": B256::repeat_byte(2), "message": 0, "blockNumber": "0x10" },
            "destination": "0x386",
            "text": "chain 902",
            "state": "delivered",
            "orphan": false,
            "delivered": { "chainId": "0x386", "blockNumber": "0x11" },
        });
        assert_eq!(serde_json::to_value(&status).unwrap(), golden);
        assert_eq!(serde_json::from_value::<MessageStatus>(golden).unwrap(), status);
    }

    #[test]
    fn a_filter_that_is_not_known_is_refused() {
        assert!(serde_json::from_value::<MessagesParams>(json!({})).is_ok());
        assert!(serde_json::from_value::<MessagesParams>(json!({ "chainId": "0x385", "state": "ready", "limit": 5 })).is_ok());
        let error = serde_json::from_value::<MessagesParams>(json!({ "chain": 901 })).unwrap_err();
        assert!(error.to_string().starts_with("unknown field"), "{error}");
    }
}
