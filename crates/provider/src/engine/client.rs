//! The other side of the control port.

use std::time::Duration;

use alloy_primitives::{B256, U64};
use alloy_rpc_types_engine::JwtSecret;
use hyper::StatusCode;
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, json};

use super::{
    EngineError, Refusal,
    control::{COMMIT_LIST, GET_OUTCOME, LAST_ATTRIBUTES},
    upstream::Upstream,
    wire::{CommitList, LastAttributes, Outcome},
};

/// How long one call may take: longer than the proxy waits for its execution client by default, because a list that comes
/// late is begun within the call.
const CALL_TIMEOUT: Duration = Duration::from_secs(5);

/// Why a call to an engine proxy was not answered as hoped.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ControlError {
    /// The proxy cannot be reached, does not take the call, or its answer cannot be read.
    #[error("the engine proxy cannot be used: {0}")]
    Unusable(String),
    /// The proxy refuses.
    #[error("the engine proxy refuses ({reason}): {message}")]
    Refused {
        /// The stable code of the reason: [`Refusal::code`], or one of JSON-RPC's.
        reason: String,
        /// The same in words.
        message: String,
    },
}

/// A client of an engine proxy's control port.
#[derive(Clone, Debug)]
pub struct EngineControl {
    proxy: Upstream,
}

#[derive(Deserialize)]
struct Reply<T> {
    result: Option<T>,
    error: Option<ReplyError>,
}

#[derive(Deserialize)]
struct ReplyError {
    message: String,
    data: Option<ReplyData>,
}

#[derive(Deserialize)]
struct ReplyData {
    reason: Option<String>,
}

impl EngineControl {
    /// A client of the control port at an `http://` address. Nothing is connected yet.
    ///
    /// # Errors
    /// When the address is refused, or no HTTP client can be made.
    pub fn new(url: &str, secret: JwtSecret) -> Result<Self, EngineError> {
        Ok(Self { proxy: Upstream::new(url, secret)? })
    }

    /// Hands a list over.
    ///
    /// # Errors
    /// When the proxy cannot be used, or refuses the list.
    pub async fn commit_list(&self, list: &CommitList) -> Result<Outcome, ControlError> {
        self.some(COMMIT_LIST, json!([list])).await
    }

    /// What became of the list for the block after `parent` with that timestamp in seconds.
    ///
    /// # Errors
    /// When the proxy cannot be used, or does not know of a list.
    pub async fn outcome(&self, parent: B256, timestamp: u64) -> Result<Outcome, ControlError> {
        self.some(GET_OUTCOME, json!([parent, U64::from(timestamp)])).await
    }

    /// The newest payload that the driver asked for; `None` before the first.
    ///
    /// # Errors
    /// When the proxy cannot be used.
    pub async fn last_attributes(&self) -> Result<Option<LastAttributes>, ControlError> {
        self.call(LAST_ATTRIBUTES, json!([])).await
    }

    async fn some<T: DeserializeOwned>(&self, method: &str, params: Value) -> Result<T, ControlError> {
        let answer: Option<T> = self.call(method, params).await?;
        answer.ok_or_else(|| ControlError::Unusable(format!("{method} answered nothing")))
    }

    async fn call<T: DeserializeOwned>(&self, method: &str, params: Value) -> Result<Option<T>, ControlError> {
        let body = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params }).to_string();
        let answer = self.proxy.send(body.into(), CALL_TIMEOUT).await.map_err(|refusal| match refusal {
            Refusal::Late(limit_ms) => ControlError::Unusable(format!("no answer within {limit_ms} ms")),
            Refusal::Unreachable(cause) | Refusal::Unreadable(cause) => ControlError::Unusable(cause),
            other => ControlError::Unusable(other.to_string()),
        })?;
        let reply: Reply<T> = serde_json::from_slice(&answer.body).map_err(|error| {
            ControlError::Unusable(if answer.status == StatusCode::OK {
                format!("its answer cannot be read: {error}")
            } else {
                format!("HTTP status {}", answer.status)
            })
        })?;
        match reply.error {
            None => Ok(reply.result),
            // Whoever judges lists answers by HTTP 200: the call did not get that far. A wrong token, as a rule.
            Some(error) if answer.status != StatusCode::OK => Err(ControlError::Unusable(error.message)),
            Some(error) => {
                let reason = error.data.and_then(|data| data.reason).unwrap_or_else(|| "unnamed".to_owned());
                Err(ControlError::Refused { reason, message: error.message })
            }
        }
    }
}
