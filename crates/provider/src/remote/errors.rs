//! What fails on the way to a node, and what a node's own errors mean.

use std::error::Error;

use alloy_primitives::B256;
use lockstep_primitives::ChainId;
use serde_json::Value;

use super::wire::Rpc;
use crate::NodeError;

/// JSON-RPC's "internal error": here, that no answer came.
const NO_ANSWER: i32 = -32603;
/// JSON-RPC's "method not found".
pub(crate) const METHOD_NOT_FOUND: i32 = -32601;
/// EIP-1474's "method not supported", which some nodes answer instead.
const METHOD_NOT_SUPPORTED: i32 = -32004;
/// EIP-1474's "resource not found": a block that the node does not have.
const RESOURCE_NOT_FOUND: i32 = -32001;
/// EIP-1474's "limit exceeded": the endpoint wants fewer calls.
const LIMIT_EXCEEDED: i32 = -32005;
/// What hosted nodes answer in its place: HTTP's "too many requests".
const TOO_MANY_REQUESTS: i32 = 429;
/// EIP-4444's "pruned history unavailable", as clients answer it.
const PRUNED_HISTORY: i32 = 4444;
/// How much of an answer that makes no sense an error quotes.
const EXCERPT_CHARS: usize = 200;

/// How geth, reth, Erigon, Nethermind, Besu and anvil say that they have thrown a state away, in lower case.
const PRUNED: [&str; 10] = [
    "missing trie node",
    "historical state",
    "state not available",
    "is not available",
    "state unavailable",
    "no state available",
    "no state found",
    "pruned",
    "pruning",
    "history unavailable",
];

/// How they say that they do not have a block, in lower case.
const UNKNOWN_BLOCK: [&str; 6] = [
    "header not found",
    "unknown block",
    "block not found",
    "header for hash not found",
    "block could not be found",
    "cannot find hash",
];

/// How they say that there is no such method, in lower case.
const NO_METHOD: [&str; 4] =
    ["method not found", "does not exist/is not available", "unsupported method", "method is not supported"];

/// A JSON-RPC request that failed.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{message} (code {code})")]
pub struct RpcFailure {
    /// The node's code; -32603 when it gave no answer.
    pub code: i32,
    /// The node's message, or why there was no answer.
    pub message: String,
    /// What else the node says: the revert data of a call, for example.
    pub data: Option<Value>,
    /// Why there was no answer; `None` when the failure is the node's own answer.
    pub cause: Option<Box<NodeError>>,
}

impl RpcFailure {
    pub(super) fn no_answer(cause: Box<NodeError>) -> Self {
        Self { code: NO_ANSWER, message: cause.to_string(), data: None, cause: Some(cause) }
    }

    /// What a node answered. Codes that are no 32-bit numbers are none that anybody knows.
    pub(super) fn answered(code: i64, message: String, data: Option<Value>) -> Self {
        Self { code: i32::try_from(code).unwrap_or(NO_ANSWER), message, data, cause: None }
    }

    /// Whether the node answered that it has no such method.
    pub(crate) fn is_no_method(&self) -> bool {
        self.cause.is_none() && (matches!(self.code, METHOD_NOT_FOUND | METHOD_NOT_SUPPORTED) || self.says(&NO_METHOD))
    }

    /// Whether the node answered that it does not have a block.
    pub(crate) fn is_unknown_block(&self) -> bool {
        self.cause.is_none() && (self.code == RESOURCE_NOT_FOUND || self.says(&UNKNOWN_BLOCK))
    }

    /// Whether the node answered that it does not have a block's state any more.
    pub(crate) fn is_pruned(&self) -> bool {
        // "The method … is not available" is about something else.
        self.cause.is_none() && !self.is_no_method() && (self.code == PRUNED_HISTORY || self.says(&PRUNED))
    }

    /// Whether the endpoint answered that it was asked too often.
    pub(super) fn is_limit(&self) -> bool {
        self.cause.is_none() && matches!(self.code, LIMIT_EXCEEDED | TOO_MANY_REQUESTS)
    }

    /// The failure of a call that has no business to fail.
    pub(crate) fn into_error(mut self, chain: ChainId, what: &str) -> NodeError {
        match self.cause.take() {
            Some(cause) => *cause,
            None => NodeError::Unreachable { chain, cause: format!("{what}: {self}") },
        }
    }

    fn says(&self, texts: &[&str]) -> bool {
        let message = self.message.to_lowercase();
        texts.iter().any(|text| message.contains(text))
    }
}

/// Why the state after `block` could not be read.
pub(crate) fn state_failure(rpc: &Rpc, block: B256, failure: RpcFailure) -> NodeError {
    // Pruned first: some clients say both, and mean this.
    if failure.is_pruned() {
        return NodeError::Pruned { chain: rpc.chain(), hash: block, cause: excerpt(&failure.message) };
    }
    if failure.is_unknown_block() {
        return NodeError::UnknownBlock { chain: rpc.chain(), hash: block };
    }
    failure.into_error(rpc.chain(), "reading state")
}

/// An error with its causes.
pub(crate) fn with_causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

/// The beginning of a text.
pub(crate) fn excerpt(text: &str) -> String {
    text.chars().take(EXCERPT_CHARS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failure(code: i64, message: &str) -> RpcFailure {
        RpcFailure::answered(code, message.into(), None)
    }

    #[test]
    fn what_clients_say_of_pruned_states_is_understood() {
        for (code, message) in [
            (-32000, "missing trie node 5c01 (path ) state 0x5c01 is not available, not found"),
            (-32000, "required historical state unavailable (reexec=128)"),
            (-32000, "historical state 5c01 is not available"),
            (-32603, "state at block #17 is pruned"),
            (-32000, "old data not available due to pruning"),
            (-32002, "No state available for block 17 (0x5c01)"),
            (-32000, "World state unavailable"),
            (4444, "not here"),
        ] {
            let failure = failure(code, message);
            assert!(failure.is_pruned(), "{message}");
            assert!(!failure.is_no_method() && !failure.is_limit(), "{message}");
        }
    }

    #[test]
    fn what_clients_say_of_blocks_and_methods_that_they_lack_is_understood() {
        for (code, message) in [
            (-32001, "no"),
            (-32000, "header not found"),
            (-32000, "header for hash not found"),
            (-32000, "Block not found: 0x5c01"),
        ] {
            let failure = failure(code, message);
            assert!(failure.is_unknown_block() && !failure.is_pruned(), "{message}");
        }
        for (code, message) in [
            (-32601, "no"),
            (-32004, "no"),
            (-32000, "Unsupported method: eth_getProof"),
            (-32000, "the method debug_traceBlockByHash does not exist/is not available"),
        ] {
            let failure = failure(code, message);
            assert!(failure.is_no_method() && !failure.is_pruned() && !failure.is_unknown_block(), "{message}");
        }
        let reverted = failure(3, "execution reverted");
        assert!(!reverted.is_pruned() && !reverted.is_unknown_block() && !reverted.is_no_method() && !reverted.is_limit());
    }

    #[test]
    fn a_failure_keeps_why_no_answer_came() {
        let cause = NodeError::WrongChain { chain: 1, served: 2 };
        assert_eq!(RpcFailure::no_answer(Box::new(cause.clone())).into_error(1, "x"), cause);
        let answered = failure(i64::from(i32::MAX) + 1, "odd");
        let error = answered.into_error(1, "eth_call");
        assert_eq!(error, NodeError::Unreachable { chain: 1, cause: "eth_call: odd (code -32603)".into() });
    }
}
