//! An execution client: an Engine API in this process over an embedded rollup, that can be told to misbehave.

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc};

use alloy_primitives::{B64, B256, Bytes};
use http_body_util::{BodyExt, Full};
use hyper::{Request, Response, StatusCode, body::Incoming, header};
use lockstep_provider::{EmbeddedRollup, JwtSecret, RollupNode};
use op_alloy::rpc_types_engine::OpPayloadAttributes;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::{net::TcpListener, task::AbortHandle};

use crate::{
    execution::{Built, build, check},
    http::{respond, serve},
};

/// What a call is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// The forkchoice call with a block that the pool adds nothing to.
    BeginList,
    /// The getPayload call for such a block.
    FetchList,
}

/// How the client misbehaves.
#[derive(Clone, Debug)]
pub(crate) enum Fault {
    /// A JSON-RPC error.
    Error(i64),
    /// This result.
    Result(Value),
    /// This result of getPayload, after a change.
    Changed(fn(&mut Value)),
    /// These bytes, with that status.
    Bytes(u16, &'static str),
    /// No answer at all.
    Silence,
}

#[derive(Default)]
struct State {
    pool: Vec<Bytes>,
    jobs: BTreeMap<B64, Built>,
    known: BTreeMap<B256, Built>,
    seen: Vec<Exchange>,
    fault: Option<(Step, Fault)>,
}

/// A call and its answer, to the byte.
#[derive(Clone, Debug)]
pub(crate) struct Exchange {
    pub(crate) call: Vec<u8>,
    pub(crate) answer: Vec<u8>,
}

struct Client {
    rollup: Arc<EmbeddedRollup>,
    secret: JwtSecret,
    version: &'static str,
    state: Mutex<State>,
}

/// The server.
pub(crate) struct EngineServer {
    client: Arc<Client>,
    address: SocketAddr,
    task: AbortHandle,
}

impl Drop for EngineServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl EngineServer {
    pub(crate) async fn start(rollup: Arc<EmbeddedRollup>, secret: JwtSecret, version: &'static str) -> Self {
        Self::start_on(TcpListener::bind("127.0.0.1:0").await.unwrap(), rollup, secret, version)
    }

    pub(crate) fn start_on(listener: TcpListener, rollup: Arc<EmbeddedRollup>, secret: JwtSecret, version: &'static str) -> Self {
        let address = listener.local_addr().unwrap();
        let client = Arc::new(Client { rollup, secret, version, state: Mutex::default() });
        let answering = Arc::clone(&client);
        let answering = serve(listener, move |request| Arc::clone(&answering).answer(request));
        Self { client, address, task: tokio::spawn(answering).abort_handle() }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Puts a transaction into the client's pool.
    pub(crate) fn add(&self, tx: &Bytes) {
        self.client.state.lock().pool.push(tx.clone());
    }

    /// Makes one step of every list go wrong from now on; `None` ends it.
    pub(crate) fn misbehave(&self, fault: Option<(Step, Fault)>) {
        self.client.state.lock().fault = fault;
    }

    /// The calls since the last time, with their answers.
    pub(crate) fn seen(&self) -> Vec<Exchange> {
        std::mem::take(&mut self.client.state.lock().seen)
    }
}

impl Client {
    async fn answer(self: Arc<Self>, request: Request<Incoming>) -> Response<Full<hyper::body::Bytes>> {
        let token = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        let token = token.and_then(|value| value.strip_prefix("Bearer ")).unwrap_or_default().to_owned();
        if self.secret.validate(&token).is_err() {
            return respond(StatusCode::UNAUTHORIZED, b"signature is invalid\n".to_vec());
        }
        let body = request.into_body().collect().await.unwrap().to_bytes().to_vec();
        let (status, answer) = match serde_json::from_slice::<Value>(&body) {
            Ok(Value::Array(calls)) => {
                let mut answers = Vec::new();
                for call in &calls {
                    answers.push(self.single(call).await.1);
                }
                (StatusCode::OK, format!("[{}]\n", answers.join(" , ")).into_bytes())
            }
            Ok(call) => {
                let (status, answer) = self.single(&call).await;
                (status, answer.into_bytes())
            }
            Err(error) => (StatusCode::BAD_REQUEST, format!("no JSON: {error}").into_bytes()),
        };
        self.state.lock().seen.push(Exchange { call: body, answer: answer.clone() });
        respond(status, answer)
    }

    /// The fault of this call, if it is to go wrong.
    fn fault(&self, method: &str, params: &Value) -> Option<Fault> {
        let state = self.state.lock();
        let (step, fault) = state.fault.as_ref()?;
        let now = if method.starts_with("engine_forkchoiceUpdated") && params[1]["noTxPool"] == true {
            Step::BeginList
        } else if method.starts_with("engine_getPayload") {
            let id: B64 = serde_json::from_value(params[0].clone()).ok()?;
            if !state.jobs.get(&id).is_some_and(|built| built.no_pool) {
                return None;
            }
            Step::FetchList
        } else {
            return None;
        };
        (now == *step).then(|| fault.clone())
    }

    async fn single(&self, call: &Value) -> (StatusCode, String) {
        let method = call["method"].as_str().unwrap_or_default();
        let fault = self.fault(method, &call["params"]);
        let result = match fault {
            Some(Fault::Bytes(status, body)) => return (StatusCode::from_u16(status).unwrap(), body.to_owned()),
            Some(Fault::Silence) => std::future::pending().await,
            Some(Fault::Error(code)) => Err((code, "told to".to_owned())),
            Some(Fault::Result(result)) => Ok(result),
            Some(Fault::Changed(change)) => self.call(method, &call["params"]).await.map(|mut result| {
                change(&mut result);
                result
            }),
            None => self.call(method, &call["params"]).await,
        };
        // Spaces as no serializer writes them: whoever passes an answer on must not write it anew.
        let text = match result {
            Ok(result) => format!("{{ \"id\" : {}, \"jsonrpc\":\"2.0\",  \"result\": {result} }}\n", call["id"]),
            Err((code, message)) => {
                let error = json!({ "code": code, "message": message });
                format!("{{ \"id\" : {}, \"jsonrpc\":\"2.0\",  \"error\": {error} }}\n", call["id"])
            }
        };
        (StatusCode::OK, text)
    }

    async fn call(&self, method: &str, params: &Value) -> Result<Value, (i64, String)> {
        match method {
            "engine_forkchoiceUpdatedV3" => self.forkchoice(params).await,
            "engine_getPayloadV4" => {
                let id: B64 = serde_json::from_value(params[0].clone()).map_err(|error| (-32602, error.to_string()))?;
                let state = self.state.lock();
                state.jobs.get(&id).map(Built::envelope).ok_or((-38001, "Unknown payload".to_owned()))
            }
            "engine_newPayloadV4" => {
                let root: B256 = serde_json::from_value(params[2].clone()).map_err(|error| (-32602, error.to_string()))?;
                Ok(match check(&self.rollup, &params[0], root) {
                    Ok(built) => {
                        let hash = built.hash;
                        self.state.lock().known.insert(hash, built);
                        json!({ "status": "VALID", "latestValidHash": hash, "validationError": null })
                    }
                    Err(error) => json!({ "status": "INVALID", "latestValidHash": null, "validationError": error }),
                })
            }
            "web3_clientVersion" => Ok(json!(self.version)),
            "eth_blockNumber" => Ok(json!(format!("{:#x}", self.rollup.newest().unwrap().header.number))),
            other => Err((-32601, format!("the method {other} does not exist/is not available"))),
        }
    }

    async fn forkchoice(&self, params: &Value) -> Result<Value, (i64, String)> {
        let invalid = |error: serde_json::Error| (-38002, error.to_string());
        let status = |status: &str, error: Option<String>| json!({ "payloadStatus": { "status": status, "latestValidHash": null, "validationError": error }, "payloadId": null });
        let head: B256 = serde_json::from_value(params[0]["headBlockHash"].clone()).map_err(invalid)?;
        if self.rollup.block_by_hash(head).is_none() {
            let known = self.state.lock().known.remove(&head);
            let Some(built) = known else { return Ok(status("SYNCING", None)) };
            let made = self.rollup.publish(&built.slot, &built.list, 0).await;
            assert_eq!(made.map(|block| block.hash), Ok(head), "two ways of executing a block agree");
        }
        let newest = self.rollup.newest().unwrap();
        let mut answer = json!({
            "payloadStatus": { "status": "VALID", "latestValidHash": head, "validationError": null },
            "payloadId": null,
        });
        if params[1].is_null() {
            return Ok(answer);
        }
        let attributes: OpPayloadAttributes =
            serde_json::from_value(params[1].clone()).map_err(|error| (-38003, error.to_string()))?;
        if newest.hash != head || attributes.payload_attributes.timestamp <= newest.header.timestamp {
            return Err((-38003, "Invalid payload attributes".to_owned()));
        }
        let pool = self.state.lock().pool.clone();
        match build(&self.rollup, &attributes, &pool) {
            Ok(built) => {
                let id = attributes.payload_id(&head, 3).0;
                self.state.lock().jobs.insert(id, built);
                answer["payloadId"] = json!(id);
                Ok(answer)
            }
            Err(error) => Ok(status("INVALID", Some(error))),
        }
    }
}
