//! The transactions that a rollup's node knows of and no block holds yet.

use std::collections::{BTreeSet, VecDeque};

use alloy::eips::eip2718::Encodable2718;
use alloy_primitives::{B256, Bytes, keccak256};
use futures_util::FutureExt;
use jsonrpsee::core::client::{Error, Subscription, SubscriptionClientT};
use reqwest::Url;
use serde_json::{Value, json};
use tokio::{
    select,
    sync::mpsc::{self, error::TrySendError},
    time::{Instant, sleep},
};

use super::{
    endpoints::{backoff, millis, public_name},
    errors::RpcFailure,
    subscribe::announcer,
    wire::{AskedFrom, Call, Rpc},
};

/// Transactions that wait for their reader; what comes when all places are taken is dropped and counted.
pub(crate) const MAX_PENDING: usize = 4_096;
/// Hashes that are remembered, so that no transaction is passed on twice; the oldest goes first.
const MAX_SEEN: usize = 32_768;

/// Passes on, as EIP-2718 bytes, the public transactions that the node comes to know, until the receiver is dropped. They are
/// announced where the rollup has a `ws://` endpoint, and asked for every so often where not. To be called inside a tokio
/// runtime.
pub(crate) fn pending_transactions(rpc: &Rpc) -> mpsc::Receiver<Bytes> {
    let (sender, receiver) = mpsc::channel(MAX_PENDING);
    let flow = Flow {
        rpc: rpc.clone(),
        sender: sender.clone(),
        seen: Seen::default(),
        source: Source::Filter(None),
        bodies: "eth_getRawTransactionByHash",
        told: false,
    };
    tokio::spawn(async move {
        select! {
            () = sender.closed() => {}
            () = flow.run() => {}
        }
    });
    receiver
}

/// What is asked where nothing is announced.
#[derive(Clone, Debug)]
enum Source {
    /// A filter, which only the endpoint that opened it knows.
    Filter(Option<(usize, Value)>),
    /// The whole pool.
    Pool,
}

#[derive(Debug)]
struct Flow {
    rpc: Rpc,
    sender: mpsc::Sender<Bytes>,
    seen: Seen,
    source: Source,
    /// The method that gives a transaction of a hash.
    bodies: &'static str,
    /// Whether it was said that nothing can be had.
    told: bool,
}

impl Flow {
    /// Listens where there is somebody to listen to, and asks in between. Without end.
    async fn run(mut self) {
        let rpc = self.rpc.clone();
        if rpc.announcers().is_empty() {
            loop {
                self.look().await;
            }
        }
        let mut failures = 0;
        for (index, url) in rpc.announcers().iter().enumerate().cycle() {
            let cause = match self.listen(url, &mut failures).await {
                Ok(()) => "the subscription ended".to_owned(),
                Err(cause) => cause,
            };
            failures = u32::saturating_add(failures, 1);
            if failures == 1 {
                let endpoint = public_name(url);
                tracing::warn!(chain = rpc.chain(), endpoint, cause, "public transactions are not announced: asking instead");
            }
            let until = Instant::now() + backoff(rpc.limits(), failures, index);
            while Instant::now() < until {
                self.look().await;
            }
        }
    }

    async fn listen(&mut self, url: &Url, failures: &mut u32) -> Result<(), String> {
        let client = announcer(&self.rpc, url).await?;
        // With `true` nodes that can do so send transactions, not hashes. Some refuse a parameter that they do not know.
        let whole: Result<Subscription<Value>, Error> =
            client.subscribe("eth_subscribe", ("newPendingTransactions", true), "eth_unsubscribe").await;
        let subscription = match whole {
            Ok(subscription) => Ok(subscription),
            Err(Error::Call(_)) => client.subscribe("eth_subscribe", ("newPendingTransactions",), "eth_unsubscribe").await,
            Err(error) => Err(error),
        };
        let mut subscription: Subscription<Value> = subscription.map_err(|error| format!("eth_subscribe: {error}"))?;
        *failures = 0;
        while let Some(first) = subscription.next().await {
            let mut announced = vec![first];
            while announced.len() < self.rpc.limits().batch {
                let Some(Some(next)) = subscription.next().now_or_never() else { break };
                announced.push(next);
            }
            self.take(announced.into_iter().flatten().collect()).await;
        }
        Ok(())
    }

    /// Asks once, and waits for the next time.
    async fn look(&mut self) {
        let limits = *self.rpc.limits();
        let wait_ms = match self.ask().await {
            Ok(()) => {
                self.told = false;
                limits.poll_ms
            }
            Err(failure) => {
                if !self.told {
                    self.told = true;
                    tracing::warn!(chain = self.rpc.chain(), %failure, "the node tells of no public transactions");
                }
                limits.max_backoff_ms
            }
        };
        sleep(millis(wait_ms)).await;
    }

    async fn ask(&mut self) -> Result<(), RpcFailure> {
        if let Source::Filter(open) = &mut self.source {
            let open = open.take();
            match self.changes(open).await {
                Err(failure) if failure.is_no_method() => self.source = Source::Pool,
                asked => return asked,
            }
        }
        self.pool().await
    }

    /// What came since the last time. A filter that its node has forgotten is opened anew the next time.
    async fn changes(&mut self, open: Option<(usize, Value)>) -> Result<(), RpcFailure> {
        let (endpoint, filter) = match open {
            Some(open) => open,
            None => {
                let opened: AskedFrom<Value> = self.rpc.call_from("eth_newPendingTransactionFilter", json!([])).await?;
                (opened.endpoint, opened.value)
            }
        };
        let announced: Vec<Value> = self.rpc.call_at(endpoint, "eth_getFilterChanges", json!([filter])).await?;
        self.source = Source::Filter(Some((endpoint, filter)));
        self.take(announced).await;
        Ok(())
    }

    /// Everything that can be executed now, every sender's in the order of nonces.
    async fn pool(&mut self) -> Result<(), RpcFailure> {
        let mut content: Value = self.rpc.call("txpool_content", json!([])).await?;
        let Some(Value::Object(senders)) = content.get_mut("pending").map(Value::take) else { return Ok(()) };
        let mut transactions = Vec::new();
        for (_, nonces) in senders {
            let Value::Object(nonces) = nonces else { continue };
            let mut nonces: Vec<(u64, Value)> =
                nonces.into_iter().map(|(nonce, tx)| (nonce.parse().unwrap_or(u64::MAX), tx)).collect();
            nonces.sort_by_key(|(nonce, _)| *nonce);
            transactions.extend(nonces.into_iter().map(|(_, tx)| tx));
        }
        self.take(transactions).await;
        Ok(())
    }

    /// Passes on transactions, and fetches those that came as hashes.
    async fn take(&mut self, announced: Vec<Value>) {
        let mut hashes = Vec::new();
        for value in announced {
            if value.is_string() {
                match serde_json::from_value::<B256>(value) {
                    Ok(hash) if self.seen.holds(hash) => {}
                    Ok(hash) => hashes.push(hash),
                    Err(_) => self.dropped("unreadable"),
                }
            } else {
                self.take_whole(value);
            }
        }
        for hashes in hashes.chunks(self.rpc.limits().batch.max(1)) {
            self.fetch(hashes).await;
        }
    }

    fn take_whole(&mut self, value: Value) {
        let hash = value.get("hash").cloned().and_then(|hash| serde_json::from_value::<B256>(hash).ok());
        if hash.is_some_and(|hash| self.seen.holds(hash)) {
            return;
        }
        match encode(value) {
            // Fields that this version does not know would change the hash.
            Some(raw) if hash == Some(keccak256(&raw)) => self.pass(raw),
            Some(_) | None => self.dropped("unreadable"),
        }
    }

    async fn fetch(&mut self, hashes: &[B256]) {
        let mut answers = self.ask_bodies(hashes).await;
        let lacks = |answer: &Result<Value, RpcFailure>| answer.as_ref().is_err_and(RpcFailure::is_no_method);
        if self.bodies == "eth_getRawTransactionByHash" && answers.as_ref().is_ok_and(|answers| answers.iter().any(lacks)) {
            self.bodies = "eth_getTransactionByHash";
            answers = self.ask_bodies(hashes).await;
        }
        let Ok(answers) = answers else {
            hashes.iter().for_each(|_| self.dropped("unreachable"));
            return;
        };
        for (hash, answer) in hashes.iter().zip(answers) {
            match answer {
                // In a block already, or gone.
                Ok(Value::Null) => {}
                Ok(value @ Value::String(_)) => match serde_json::from_value::<Bytes>(value) {
                    Ok(raw) => {
                        // Of one with blobs the hash is not that of all its bytes.
                        let (own, announced) = (keccak256(&raw), *hash);
                        self.pass(raw);
                        if own != announced {
                            self.seen.note(announced);
                        }
                    }
                    Err(_) => self.dropped("unreadable"),
                },
                Ok(value) => self.take_whole(value),
                Err(_) => self.dropped("unreachable"),
            }
        }
    }

    async fn ask_bodies(&self, hashes: &[B256]) -> Result<Vec<Result<Value, RpcFailure>>, RpcFailure> {
        let calls: Vec<Call> = hashes.iter().map(|hash| (self.bodies, json!([hash]))).collect();
        self.rpc.batch(&calls).await
    }

    fn pass(&mut self, raw: Bytes) {
        if !self.seen.note(keccak256(&raw)) {
            return;
        }
        match self.sender.try_send(raw) {
            Ok(()) => {}
            Err(TrySendError::Full(_)) => self.dropped("full"),
            // Nobody listens any more: this ends with it.
            Err(TrySendError::Closed(_)) => {}
        }
    }

    fn dropped(&self, cause: &'static str) {
        let chain = self.rpc.chain().to_string();
        metrics::counter!("lockstep_public_flow_dropped_total", "chain" => chain, "cause" => cause).increment(1);
    }
}

/// The bytes of a transaction that came in JSON; `None` when it is of a kind that is not known.
fn encode(value: Value) -> Option<Bytes> {
    let tx: alloy::rpc::types::Transaction = serde_json::from_value(value).ok()?;
    Some(tx.inner.into_inner().encoded_2718().into())
}

/// The newest hashes.
#[derive(Debug, Default)]
struct Seen {
    order: VecDeque<B256>,
    hashes: BTreeSet<B256>,
}

impl Seen {
    fn holds(&self, hash: B256) -> bool {
        self.hashes.contains(&hash)
    }

    /// Returns whether the hash is new.
    fn note(&mut self, hash: B256) -> bool {
        if !self.hashes.insert(hash) {
            return false;
        }
        self.order.push_back(hash);
        if self.order.len() > MAX_SEEN
            && let Some(oldest) = self.order.pop_front()
        {
            self.hashes.remove(&oldest);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_hashes_are_remembered_and_no_more() {
        let mut seen = Seen::default();
        let hash = |index: usize| keccak256(index.to_be_bytes());
        for index in 0..=MAX_SEEN {
            assert!(seen.note(hash(index)));
        }
        assert!(!seen.note(hash(MAX_SEEN)), "a hash is new once");
        assert!(!seen.holds(hash(0)) && seen.holds(hash(1)), "the oldest goes first");
        assert_eq!((seen.order.len(), seen.hashes.len()), (MAX_SEEN, MAX_SEEN));
    }
}
