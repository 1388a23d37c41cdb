//! The control port: lists in, outcomes out.

use std::sync::Arc;

use alloy_primitives::{B256, U64};
use async_trait::async_trait;
use hyper::{StatusCode, body::Bytes};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

use super::{
    Refusal,
    http::{Answer, Answers},
    relay::Relay,
    wire::CommitList,
};

pub(super) const COMMIT_LIST: &str = "lockstepEngine_commitList";
pub(super) const GET_OUTCOME: &str = "lockstepEngine_getOutcome";
pub(super) const LAST_ATTRIBUTES: &str = "lockstepEngine_lastAttributes";

/// JSON-RPC's own codes.
const PARSE_ERROR: i32 = -32700;
const INVALID_REQUEST: i32 = -32600;
const METHOD_NOT_FOUND: i32 = -32601;
const INVALID_PARAMS: i32 = -32602;
/// A list is refused; `data.reason` says why.
const REFUSED: i32 = -32000;

/// Answers the control port.
#[derive(Debug)]
pub(super) struct Control(pub(super) Arc<Relay>);

/// Why a call was not done.
enum Problem {
    Params(String),
    Method(String),
    Refused(Refusal),
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

#[async_trait]
impl Answers for Control {
    async fn answer(&self, body: Bytes) -> Answer {
        let failed = |id: &Value, code, reason, message: &str, hint| {
            Answer::error(StatusCode::OK, &id.to_string(), code, reason, message, hint)
        };
        let null = Value::Null;
        let mut call = match serde_json::from_slice::<Value>(&body) {
            Ok(Value::Object(call)) => call,
            Ok(_) => {
                let text = "a call is one JSON object";
                return failed(&null, INVALID_REQUEST, "invalid_request", text, "batches are not served here");
            }
            Err(error) => return failed(&null, PARSE_ERROR, "parse_error", &error.to_string(), "send JSON"),
        };
        let id = call.remove("id").unwrap_or_default();
        let Some(Value::String(method)) = call.remove("method") else {
            return failed(&id, INVALID_REQUEST, "invalid_request", "a call has a method", "send JSON-RPC 2.0");
        };
        let params = call.remove("params").unwrap_or_else(|| json!([]));
        match self.call(&method, params).await {
            Ok(result) => Answer::json(StatusCode::OK, json!({ "jsonrpc": "2.0", "id": id, "result": result }).to_string()),
            Err(Problem::Refused(refusal)) => {
                metrics::counter!("lockstep_engine_lists_refused_total", "reason" => refusal.code()).increment(1);
                failed(&id, REFUSED, refusal.code(), &refusal.to_string(), refusal.hint())
            }
            Err(Problem::Params(text)) => {
                let text = format!("{method}: {text}");
                failed(&id, INVALID_PARAMS, "invalid_params", &text, "see docs/engine.md for the parameters")
            }
            Err(Problem::Method(text)) => {
                failed(&id, METHOD_NOT_FOUND, "method_not_found", &text, "calls of the driver go to the other port")
            }
        }
    }
}

impl Control {
    async fn call(&self, method: &str, params: Value) -> Result<Value, Problem> {
        match method {
            COMMIT_LIST => {
                let (list,): (CommitList,) = read(params)?;
                let outcome = self.0.commit(list).await?;
                metrics::counter!("lockstep_engine_lists_total").increment(1);
                write(&outcome)
            }
            GET_OUTCOME => {
                let (parent, timestamp): (B256, U64) = read(params)?;
                write(&self.0.outcome(parent, timestamp.to())?)
            }
            LAST_ATTRIBUTES => {
                let _: [Value; 0] = read(params)?;
                write(&self.0.last())
            }
            other => Err(Problem::Method(format!(
                "there is no {other} here; served are {COMMIT_LIST}, {GET_OUTCOME} and {LAST_ATTRIBUTES}"
            ))),
        }
    }
}

fn read<T: DeserializeOwned>(params: Value) -> Result<T, Problem> {
    serde_json::from_value(params).map_err(|error| Problem::Params(error.to_string()))
}

fn write<T: Serialize>(answer: &T) -> Result<Value, Problem> {
    serde_json::to_value(answer).map_err(|error| Problem::Params(format!("the answer cannot be written: {error}")))
}
