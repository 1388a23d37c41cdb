//! JSON-RPC: calls, batches, and what a node answers.

use std::{error::Error, fmt, time::Duration};

use alloy::{
    rpc::client::{RpcCall, RpcClient, Waiter},
    transports::{RpcError, TransportError, TransportErrorKind, TransportResult, http::reqwest},
};
use alloy_primitives::{Address, B256, Bytes, Log, U64};
use lockstep_primitives::ChainId;
use lockstep_simulation::{ForkSchedule, ParentBlock, Receipt};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, json};

use super::dev;
use crate::{Landed, NodeError, PublishedBlock};

/// JSON-RPC's "internal error": here, that no answer came.
const NO_ANSWER: i32 = -32603;
/// JSON-RPC's "method not found".
pub(super) const METHOD_NOT_FOUND: i32 = -32601;
/// EIP-1474's "resource not found": a block that the node does not have.
pub(super) const RESOURCE_NOT_FOUND: i32 = -32001;
/// How much of an answer that makes no sense an error quotes.
const EXCERPT_CHARS: usize = 200;

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
}

impl RpcFailure {
    const fn no_answer(message: String) -> Self {
        Self { code: NO_ANSWER, message, data: None }
    }
}

impl From<TransportError> for RpcFailure {
    fn from(error: TransportError) -> Self {
        match error {
            RpcError::ErrorResp(answer) => Self {
                code: i32::try_from(answer.code).unwrap_or(NO_ANSWER),
                message: answer.message.into_owned(),
                data: answer.data.and_then(|data| serde_json::from_str(data.get()).ok()),
            },
            error => Self::no_answer(describe(error)),
        }
    }
}

/// An error with its causes, without the node's address: addresses of hosted nodes hold the account's key.
fn describe(error: TransportError) -> String {
    let error: Box<dyn Error + Send + Sync> = match error {
        RpcError::Transport(TransportErrorKind::Custom(cause)) => match cause.downcast::<reqwest::Error>() {
            Ok(error) => Box::new((*error).without_url()),
            Err(cause) => cause,
        },
        RpcError::Transport(TransportErrorKind::HttpError(error)) => {
            return format!("HTTP status {}: {}", error.status, excerpt(&error.body));
        }
        RpcError::DeserError { err, text } => return format!("the answer cannot be read ({err}): {}", excerpt(&text)),
        other => return other.to_string(),
    };
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

fn excerpt(text: &str) -> String {
    text.chars().take(EXCERPT_CHARS).collect()
}

/// What can be read out of an answer.
pub(super) trait Answer: DeserializeOwned + fmt::Debug + Send + Sync + Unpin + 'static {}

impl<T: DeserializeOwned + fmt::Debug + Send + Sync + Unpin + 'static> Answer for T {}

/// A method and its parameters.
pub(super) type Call = (&'static str, Value);

/// A number as JSON-RPC wants it.
pub(super) fn quantity(number: u64) -> Value {
    Value::String(format!("{number:#x}"))
}

/// The connection to one node.
#[derive(Clone)]
pub(super) struct Rpc {
    chain: ChainId,
    client: RpcClient,
    timeout: Duration,
}

impl fmt::Debug for Rpc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rpc").field("chain", &self.chain).field("timeout", &self.timeout).finish_non_exhaustive()
    }
}

impl Rpc {
    pub(super) fn new(chain: ChainId, url: &str, timeout: Duration) -> Result<Self, NodeError> {
        let url = reqwest::Url::parse(url)
            .map_err(|error| NodeError::Unreachable { chain, cause: format!("its address is no URL: {error}") })?;
        Ok(Self { chain, client: RpcClient::new_http(url), timeout })
    }

    pub(super) const fn chain(&self) -> ChainId {
        self.chain
    }

    /// The error that this node cannot be used.
    pub(super) fn unusable(&self, cause: String) -> NodeError {
        NodeError::Unreachable { chain: self.chain, cause }
    }

    /// Calls a method; a failure is the caller's to judge.
    pub(super) async fn call<R: Answer>(&self, method: &'static str, params: Value) -> Result<R, RpcFailure> {
        let call: RpcCall<Value, R> = self.client.request(method, params);
        self.in_time(call).await
    }

    /// Calls a method that has no business to fail.
    pub(super) async fn ask<R: Answer>(&self, method: &'static str, params: Value) -> Result<R, NodeError> {
        self.call(method, params).await.map_err(|failure| self.unusable(format!("{method}: {failure}")))
    }

    /// Calls whatever method somebody else wants.
    pub(super) async fn forward(&self, method: String, params: Value) -> Result<Value, RpcFailure> {
        // `params: null` is what an absent field becomes on its way here, and is refused by nodes.
        let params = if params.is_null() { json!([]) } else { params };
        let call: RpcCall<Value, Value> = self.client.request(method, params);
        self.in_time(call).await
    }

    /// Makes several calls in one request; the answers are in the order of the calls.
    pub(super) async fn batch(&self, calls: &[Call]) -> Result<Vec<Result<Value, RpcFailure>>, RpcFailure> {
        if calls.is_empty() {
            return Ok(Vec::new());
        }
        let mut waiters: Vec<Waiter<Value>> = Vec::with_capacity(calls.len());
        let sent = {
            let mut batch = self.client.new_batch();
            for (method, params) in calls {
                waiters.push(batch.add_call(*method, params)?);
            }
            batch.send()
        };
        self.in_time(sent).await?;
        let mut answers = Vec::with_capacity(waiters.len());
        for waiter in waiters {
            answers.push(waiter.await.map_err(RpcFailure::from));
        }
        Ok(answers)
    }

    async fn in_time<T>(&self, answer: impl Future<Output = TransportResult<T>>) -> Result<T, RpcFailure> {
        match tokio::time::timeout(self.timeout, answer).await {
            Ok(answer) => answer.map_err(RpcFailure::from),
            Err(_) => Err(RpcFailure::no_answer(format!("no answer within {} ms", self.timeout.as_millis()))),
        }
    }
}

/// A block with the hashes of its transactions.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct BlockAnswer {
    pub(super) hash: B256,
    pub(super) parent_hash: B256,
    number: U64,
    timestamp: U64,
    gas_limit: U64,
    gas_used: U64,
    base_fee_per_gas: Option<U64>,
    blob_gas_used: Option<U64>,
    excess_blob_gas: Option<U64>,
    pub(super) miner: Address,
    #[serde(default)]
    pub(super) mix_hash: B256,
    pub(super) extra_data: Bytes,
    pub(super) receipts_root: B256,
    pub(super) transactions: Vec<B256>,
}

impl BlockAnswer {
    pub(super) fn number(&self) -> u64 {
        self.number.to()
    }

    pub(super) fn timestamp(&self) -> u64 {
        self.timestamp.to()
    }

    pub(super) fn gas_limit(&self) -> u64 {
        self.gas_limit.to()
    }

    pub(super) fn gas_used(&self) -> u64 {
        self.gas_used.to()
    }

    pub(super) fn base_fee(&self) -> u64 {
        self.base_fee_per_gas.unwrap_or_default().to()
    }

    /// What the next block needs to know of this one. anvil's OP-stack headers lack the EIP-1559 parameters: they are put
    /// in, so that the rules can be followed.
    pub(super) fn as_parent(&self, forks: &ForkSchedule) -> ParentBlock {
        let extra_data = match forks.rules_at(self.timestamp()) {
            Ok(rules) if self.extra_data.is_empty() => dev::extra_data(rules),
            Ok(_) | Err(_) => self.extra_data.clone(),
        };
        ParentBlock {
            hash: self.hash,
            number: self.number(),
            timestamp: self.timestamp(),
            gas_limit: self.gas_limit(),
            gas_used: self.gas_used(),
            base_fee: self.base_fee(),
            blob_gas_used: self.blob_gas_used.map(|gas| gas.to()),
            excess_blob_gas: self.excess_blob_gas.map(|gas| gas.to()),
            extra_data,
        }
    }

    pub(super) fn into_published(self) -> PublishedBlock {
        PublishedBlock {
            number: self.number(),
            hash: self.hash,
            timestamp: self.timestamp(),
            gas_used: self.gas_used(),
            receipts_root: self.receipts_root,
            transactions: self.transactions,
        }
    }
}

/// A receipt.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ReceiptAnswer {
    #[serde(rename = "type", default)]
    tx_type: U64,
    status: U64,
    cumulative_gas_used: U64,
    logs: Vec<LogAnswer>,
    deposit_nonce: Option<U64>,
    block_number: Option<U64>,
    block_hash: Option<B256>,
    transaction_index: Option<U64>,
}

#[derive(Clone, Debug, Deserialize)]
struct LogAnswer {
    address: Address,
    topics: Vec<B256>,
    data: Bytes,
}

impl ReceiptAnswer {
    fn success(&self) -> bool {
        !self.status.is_zero()
    }

    /// Where the transaction is; `None` while it is in no block.
    pub(super) fn landed(&self) -> Option<Landed> {
        Some(Landed {
            number: self.block_number?.to(),
            hash: self.block_hash?,
            index: self.transaction_index?.to(),
            success: self.success(),
        })
    }

    /// The receipt as the receipts trie holds it.
    pub(super) fn into_receipt(self) -> Receipt {
        let success = self.success();
        Receipt {
            // Types end at 0x7f (EIP-2718), so nothing is lost.
            tx_type: self.tx_type.to::<u64>().to_le_bytes()[0],
            success,
            cumulative_gas_used: self.cumulative_gas_used.to(),
            logs: self.logs.into_iter().map(|log| Log::new_unchecked(log.address, log.topics, log.data)).collect(),
            deposit_nonce: self.deposit_nonce.map(|nonce| nonce.to()),
        }
    }
}

/// How many transactions wait in the node's pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub(super) struct PoolAnswer {
    pending: U64,
    queued: U64,
}

impl PoolAnswer {
    /// Those that can be executed.
    pub(super) fn pending(&self) -> u64 {
        self.pending.to()
    }

    /// Those that wait for an earlier nonce.
    pub(super) fn queued(&self) -> u64 {
        self.queued.to()
    }
}
