//! JSON-RPC: calls and batches to whichever endpoint of a rollup can answer them.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use alloy_primitives::U64;
use lockstep_primitives::ChainId;
use reqwest::Url;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep_until, timeout};

use super::{
    RemoteLimits,
    endpoints::{EndpointStatus, Endpoints, Turn, millis},
    errors::RpcFailure,
    exchange::{CallRef, Fault, Outcome, Request, exchange},
};
use crate::NodeError;

/// What can be read out of an answer.
pub(crate) trait Answer: DeserializeOwned + fmt::Debug + Send + Sync + Unpin + 'static {}

impl<T: DeserializeOwned + fmt::Debug + Send + Sync + Unpin + 'static> Answer for T {}

/// A method and its parameters.
pub(crate) type Call = (&'static str, Value);

/// An answer, and which endpoint gave it: for [`Rpc::blame`], should it turn out to be untrue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct AskedFrom<T> {
    pub(crate) value: T,
    pub(crate) endpoint: usize,
}

/// A number as JSON-RPC wants it.
pub(crate) fn quantity(number: u64) -> Value {
    Value::String(format!("{number:#x}"))
}

/// The endpoints of one rollup's node, as one.
///
/// A call goes to the endpoint that answered last. One that cannot be reached, answers something else than JSON-RPC, or is
/// overloaded is left alone for a while and the next one is asked at once; one that does not have a block is passed over. All
/// of it ends when the call's time is over. An error that is the request's own fault is returned as it is.
#[derive(Clone)]
pub(crate) struct Rpc {
    shared: Arc<Shared>,
}

struct Shared {
    chain: ChainId,
    limits: RemoteLimits,
    endpoints: Endpoints,
    announcers: Vec<Url>,
    next_id: AtomicU64,
}

impl fmt::Debug for Rpc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rpc")
            .field("chain", &self.shared.chain)
            .field("endpoints", &self.shared.endpoints)
            .finish_non_exhaustive()
    }
}

/// What is asked, and of whom.
#[derive(Clone, Copy, Debug)]
struct Question<'a> {
    calls: &'a [CallRef<'a>],
    batch: bool,
    /// The only endpoint that may answer.
    only: Option<usize>,
}

impl Question<'_> {
    fn may_answer(&self, endpoint: usize) -> bool {
        self.only.is_none_or(|only| only == endpoint)
    }
}

/// What the endpoints' answers come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Usable,
    /// Another endpoint may have what this one does not.
    Elsewhere,
    /// Asked too often.
    Limited,
}

impl Rpc {
    /// The endpoints at `urls`: `http://` and `https://` for calls, `ws://` and `wss://` for announcements only. Nothing is
    /// connected yet.
    ///
    /// # Errors
    /// When an address is none of these, or none is for calls.
    pub(crate) fn new(chain: ChainId, urls: &[String], limits: RemoteLimits) -> Result<Self, NodeError> {
        let (endpoints, announcers) = Endpoints::open(chain, urls, limits)?;
        Ok(Self { shared: Arc::new(Shared { chain, limits, endpoints, announcers, next_id: AtomicU64::new(0) }) })
    }

    pub(crate) fn chain(&self) -> ChainId {
        self.shared.chain
    }

    pub(crate) fn limits(&self) -> &RemoteLimits {
        &self.shared.limits
    }

    /// Where heads and transactions are announced, over WebSocket.
    pub(super) fn announcers(&self) -> &[Url] {
        &self.shared.announcers
    }

    /// How every endpoint is, in the order in which they were named.
    pub(crate) fn endpoints(&self) -> Vec<EndpointStatus> {
        self.shared.endpoints.status()
    }

    /// Whether an endpoint is left alone at this moment.
    pub(crate) fn is_resting(&self, endpoint: usize) -> bool {
        self.shared.endpoints.is_resting(endpoint)
    }

    /// The error that this node cannot be used.
    pub(crate) fn unusable(&self, cause: String) -> NodeError {
        NodeError::Unreachable { chain: self.shared.chain, cause }
    }

    /// Leaves an endpoint alone for long, because what it answered is not true.
    pub(crate) fn blame(&self, endpoint: usize, error: &NodeError) {
        self.shared.endpoints.blame(endpoint, error);
    }

    /// Calls a method; a failure is the caller's to judge.
    pub(crate) async fn call<R: Answer>(&self, method: &'static str, params: Value) -> Result<R, RpcFailure> {
        self.call_from(method, params).await.map(|answer| answer.value)
    }

    /// The same, with the endpoint that answered.
    pub(crate) async fn call_from<R: Answer>(&self, method: &'static str, params: Value) -> Result<AskedFrom<R>, RpcFailure> {
        self.one(method, &params, None).await
    }

    /// Calls a method of one endpoint only: what it is about, a filter for example, is known to no other.
    pub(crate) async fn call_at<R: Answer>(&self, endpoint: usize, method: &'static str, params: Value) -> Result<R, RpcFailure> {
        self.one(method, &params, Some(endpoint)).await.map(|answer| answer.value)
    }

    /// Calls a method that has no business to fail.
    pub(crate) async fn ask<R: Answer>(&self, method: &'static str, params: Value) -> Result<R, NodeError> {
        self.ask_from(method, params).await.map(|answer| answer.value)
    }

    /// The same, with the endpoint that answered.
    pub(crate) async fn ask_from<R: Answer>(&self, method: &'static str, params: Value) -> Result<AskedFrom<R>, NodeError> {
        self.call_from(method, params).await.map_err(|failure| failure.into_error(self.chain(), method))
    }

    /// Calls whatever method somebody else wants.
    pub(crate) async fn forward(&self, method: String, params: Value) -> Result<Value, RpcFailure> {
        // `params: null` is what an absent field becomes on its way here, and is refused by nodes.
        let params = if params.is_null() { json!([]) } else { params };
        self.one(&method, &params, None).await.map(|answer| answer.value)
    }

    /// Makes several calls in one request; the answers are in the order of the calls, and all of one endpoint.
    pub(crate) async fn batch(&self, calls: &[Call]) -> Result<Vec<Result<Value, RpcFailure>>, RpcFailure> {
        self.batch_from(calls).await.map(|answers| answers.value)
    }

    /// The same, with the endpoint that answered.
    pub(crate) async fn batch_from(&self, calls: &[Call]) -> Result<AskedFrom<Vec<Result<Value, RpcFailure>>>, RpcFailure> {
        if calls.is_empty() {
            return Ok(AskedFrom { value: Vec::new(), endpoint: 0 });
        }
        let calls: Vec<CallRef<'_>> = calls.iter().map(|(method, params)| (*method, params)).collect();
        self.answer(Question { calls: &calls, batch: true, only: None }, values).await
    }

    async fn one<R: Answer>(&self, method: &str, params: &Value, only: Option<usize>) -> Result<AskedFrom<R>, RpcFailure> {
        let calls = [(method, params)];
        let AskedFrom { value, endpoint } = self.answer(Question { calls: &calls, batch: false, only }, first::<R>).await?;
        Ok(AskedFrom { value: value?, endpoint })
    }

    /// Asks one endpoint after the other until one gives an answer that `read` can read.
    async fn answer<T: Send>(
        &self,
        question: Question<'_>,
        read: fn(Vec<Outcome>) -> Result<T, String>,
    ) -> Result<AskedFrom<T>, RpcFailure> {
        let Shared { chain, limits, endpoints, .. } = &*self.shared;
        let deadline = Instant::now() + millis(limits.timeout_ms);
        let repeatable = question.calls.iter().all(|(method, _)| is_repeatable(method));
        // How often each was tried; `None` for those that have said what they have to say.
        let mut tries: Vec<Option<usize>> = (0..endpoints.len()).map(|index| question.may_answer(index).then_some(0)).collect();
        let mut kept: Option<AskedFrom<T>> = None;
        let mut failed: Option<Box<NodeError>> = None;
        for _ in 0..limits.attempts.max(endpoints.len()) {
            let Some(turn) = endpoints.turn(|index| tries.get(index).copied().flatten()) else { break };
            tries[turn.index] = tries[turn.index].map(|tries| tries.saturating_add(1));
            if let Some(at) = turn.at {
                // When somebody has answered, an endpoint that is left alone is not worth a wait, unless it is that one.
                if at >= deadline || kept.as_ref().is_some_and(|kept| kept.endpoint != turn.index) {
                    failed = failed.or_else(|| endpoints.cause(turn.index));
                    break;
                }
                sleep_until(at).await;
            }
            let fault = match self.ask_endpoint(turn, question, deadline).await {
                Ok(outcomes) => {
                    let verdict = verdict(question.calls, &outcomes);
                    if verdict == Verdict::Limited {
                        let limited =
                            outcomes.iter().find_map(|outcome| outcome.as_ref().err().filter(|failure| failure.is_limit()));
                        let cause = limited.map(ToString::to_string).unwrap_or_default();
                        endpoints.failed(turn, &Fault::unreachable(*chain, cause));
                    } else {
                        tries[turn.index] = None;
                        endpoints.answered(turn);
                    }
                    match read(outcomes) {
                        Ok(value) if verdict == Verdict::Usable => return Ok(AskedFrom { value, endpoint: turn.index }),
                        Ok(value) => {
                            kept.get_or_insert(AskedFrom { value, endpoint: turn.index });
                            continue;
                        }
                        // It may be the only one that is wrong, or we are: it is not left alone for it.
                        Err(cause) => Fault::unreachable(*chain, format!("{}: {cause}", named(question.calls))),
                    }
                }
                Err(fault) => {
                    endpoints.failed(turn, &fault);
                    fault
                }
            };
            let done = fault.sent && !repeatable;
            failed = Some(fault.error);
            if done || Instant::now() >= deadline {
                break;
            }
        }
        if let Some(kept) = kept {
            return Ok(kept);
        }
        let failed = failed.unwrap_or_else(|| Box::new(self.unusable("it has no such endpoint".into())));
        Err(RpcFailure::no_answer(failed))
    }

    /// One request to one endpoint, which has its share of the time that is left.
    async fn ask_endpoint(&self, turn: Turn, question: Question<'_>, deadline: Instant) -> Result<Vec<Outcome>, Fault> {
        let left = deadline.saturating_duration_since(Instant::now());
        let share = left / u32::try_from(turn.usable).unwrap_or(u32::MAX).max(1);
        let asked = async {
            if !self.shared.endpoints.is_checked(turn.index) {
                self.check(turn).await.map_err(Fault::not_sent)?;
            }
            self.exchange(turn, question.calls, question.batch).await
        };
        match timeout(share, asked).await {
            Ok(answer) => answer,
            Err(_) => Err(Fault::unreachable(self.shared.chain, format!("no answer within {} ms", share.as_millis()))),
        }
    }

    /// Asks an endpoint which chain it serves.
    async fn check(&self, turn: Turn) -> Result<(), Fault> {
        let chain = self.shared.chain;
        let outcomes = self.exchange(turn, &[("eth_chainId", &json!([]))], false).await?;
        let served: Result<U64, String> = match first(outcomes) {
            Ok(Ok(served)) => Ok(served),
            Ok(Err(failure)) => Err(failure.to_string()),
            Err(cause) => Err(cause),
        };
        let served = served.map_err(|cause| Fault::unreachable(chain, format!("eth_chainId: {cause}")))?.to::<u64>();
        if served != chain {
            return Err(Fault::new(NodeError::WrongChain { chain, served }));
        }
        self.shared.endpoints.checked(turn);
        Ok(())
    }

    async fn exchange(&self, turn: Turn, calls: &[CallRef<'_>], batch: bool) -> Result<Vec<Outcome>, Fault> {
        let Shared { chain, limits, endpoints, next_id, .. } = &*self.shared;
        let Some(endpoint) = endpoints.get(turn.index) else {
            return Err(Fault::unreachable(*chain, "it has no such endpoint".into()).not_sent());
        };
        let first_id = next_id.fetch_add(calls.len() as u64, Ordering::Relaxed);
        let request = Request { calls, batch, first_id };
        exchange(*chain, &endpoint.client, &endpoint.url, request, limits.max_answer_bytes).await
    }
}

/// Whether a call may be made twice: not when it makes a block, sends a transaction, or opens or empties a filter.
fn is_repeatable(method: &str) -> bool {
    const DOES_SOMETHING: [&str; 7] =
        ["eth_send", "eth_sign", "eth_submit", "eth_new", "eth_getFilterChanges", "eth_uninstallFilter", "eth_subscribe"];
    const READS: [&str; 5] = ["eth_", "net_", "web3_", "txpool_", "debug_trace"];
    READS.iter().any(|start| method.starts_with(start)) && !DOES_SOMETHING.iter().any(|start| method.starts_with(start))
}

fn verdict(calls: &[CallRef<'_>], outcomes: &[Outcome]) -> Verdict {
    let mut verdict = Verdict::Usable;
    for ((method, _), outcome) in calls.iter().zip(outcomes) {
        match outcome {
            Err(failure) if failure.is_limit() => return Verdict::Limited,
            Err(failure) if failure.is_unknown_block() || failure.is_pruned() => verdict = Verdict::Elsewhere,
            // A block that is asked for by its hash was seen somewhere.
            Ok(answer) if is_of_a_block(method) && answer.get() == "null" => verdict = Verdict::Elsewhere,
            Ok(_) | Err(_) => {}
        }
    }
    verdict
}

/// Whether a call is about a block that exists.
fn is_of_a_block(method: &str) -> bool {
    matches!(method, "eth_getBlockByHash" | "eth_getBlockReceipts")
}

fn named(calls: &[CallRef<'_>]) -> String {
    match calls {
        [(method, _)] => (*method).to_owned(),
        _ => format!("a batch of {} calls", calls.len()),
    }
}

/// The one answer to the one call.
fn first<R: DeserializeOwned>(outcomes: Vec<Outcome>) -> Result<Result<R, RpcFailure>, String> {
    match outcomes.into_iter().next() {
        Some(Ok(answer)) => match serde_json::from_str(answer.get()) {
            Ok(value) => Ok(Ok(value)),
            Err(error) => Err(format!("the answer cannot be read: {error}")),
        },
        Some(Err(failure)) => Ok(Err(failure)),
        None => Err("no answer".into()),
    }
}

fn values(outcomes: Vec<Outcome>) -> Result<Vec<Result<Value, RpcFailure>>, String> {
    let mut values = Vec::with_capacity(outcomes.len());
    for outcome in outcomes {
        values.push(match outcome {
            Ok(answer) => Ok(serde_json::from_str(answer.get()).map_err(|error| format!("the answer cannot be read: {error}"))?),
            Err(failure) => Err(failure),
        });
    }
    Ok(values)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_reads_is_asked_twice() {
        for method in
            ["eth_chainId", "eth_getBlockByHash", "eth_getFilterLogs", "txpool_content", "debug_traceBlockByHash", "net_version"]
        {
            assert!(is_repeatable(method), "{method}");
        }
        for method in [
            "eth_sendRawTransaction",
            "eth_sendRawTransactionConditional",
            "eth_signTransaction",
            "eth_newPendingTransactionFilter",
            "eth_getFilterChanges",
            "evm_mine",
            "anvil_rollback",
            "debug_setHead",
            "rollup_whatever",
        ] {
            assert!(!is_repeatable(method), "{method}");
        }
    }
}
