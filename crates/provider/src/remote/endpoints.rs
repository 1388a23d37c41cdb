//! The endpoints of one rollup: which is asked next, and how each of them is.

use std::{
    fmt,
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use lockstep_primitives::ChainId;
use parking_lot::Mutex;
use reqwest::{Client, Url};
use tokio::time::Instant;

use super::{
    RemoteLimits,
    exchange::{Fault, client},
};
use crate::NodeError;

/// The part of a call's time that connecting may take: a machine that is gone answers nothing at all.
const CONNECT_SHARE: u64 = 4;
/// No wait is longer, whatever is configured: a day.
const MAX_WAIT_MS: u64 = 24 * 60 * 60 * 1_000;
/// Doublings of a backoff that are counted.
const MAX_DOUBLINGS: u32 = 20;

/// A configured time.
pub(crate) fn millis(ms: u64) -> Duration {
    Duration::from_millis(ms.clamp(1, MAX_WAIT_MS))
}

/// How long to leave something alone that failed `failures` times in a row. Up to a quarter less than the doubling backoff,
/// by a rule instead of a die: whoever failed together does not come back together.
pub(crate) fn backoff(limits: &RemoteLimits, failures: u32, whose: usize) -> Duration {
    let doublings = failures.saturating_sub(1).min(MAX_DOUBLINGS);
    let full = limits.backoff_ms.saturating_mul(1 << doublings).min(limits.max_backoff_ms).min(MAX_WAIT_MS);
    let spread = (u64::from(failures) * 37 + (whose as u64 % 64) * 23) % 64;
    millis(full - full / 4 * spread / 64)
}

/// An address without its path and credentials, which may hold a key.
pub(crate) fn public_name(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    match url.port() {
        Some(port) => format!("{}://{host}:{port}", url.scheme()),
        None => format!("{}://{host}", url.scheme()),
    }
}

/// How one endpoint of a rollup is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointStatus {
    /// Its scheme, host and port.
    pub name: String,
    /// Why it is left alone until it answers again, as a stable code and in words; `None` while it is used.
    pub degraded: Option<(&'static str, String)>,
    /// How often it failed since the start.
    pub failures: u64,
}

#[derive(Debug, Default)]
struct State {
    /// Whether it has said since its last failure that it serves the rollup.
    checked: bool,
    /// Changes with every failure, so that what began before it neither counts again nor counts as an improvement.
    epoch: u64,
    /// In a row.
    failures: u32,
    total: u64,
    /// Until when it is left alone, and why.
    resting: Option<(Instant, Box<NodeError>)>,
}

/// One endpoint.
pub(super) struct Endpoint {
    pub(super) name: String,
    pub(super) url: Url,
    pub(super) client: Client,
    state: Mutex<State>,
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Endpoint").field("name", &self.name).field("state", &self.state).finish_non_exhaustive()
    }
}

/// An endpoint's turn.
#[derive(Clone, Copy, Debug)]
pub(super) struct Turn {
    pub(super) index: usize,
    /// When it may be asked; `None` is now.
    pub(super) at: Option<Instant>,
    /// Its epoch, for what comes of the turn.
    pub(super) epoch: u64,
    /// Endpoints that could be asked now, this one among them.
    pub(super) usable: usize,
}

/// The endpoints of one rollup.
#[derive(Debug)]
pub(super) struct Endpoints {
    chain: ChainId,
    limits: RemoteLimits,
    list: Vec<Endpoint>,
    /// The one that answered last is asked first: two that are not equally far would make the head go to and fro.
    current: AtomicUsize,
}

impl Endpoints {
    /// Sorts addresses into endpoints for calls and announcers of heads. Nothing is connected yet.
    pub(super) fn open(chain: ChainId, urls: &[String], limits: RemoteLimits) -> Result<(Self, Vec<Url>), NodeError> {
        let refused = |cause| NodeError::Unreachable { chain, cause };
        let (mut list, mut announcers) = (Vec::new(), Vec::new());
        for (position, url) in urls.iter().enumerate() {
            let url = Url::parse(url).map_err(|error| refused(format!("address {position} is no URL: {error}")))?;
            match url.scheme() {
                "http" | "https" => {
                    let made = client(&url, millis(limits.timeout_ms / CONNECT_SHARE));
                    let client = made.map_err(|cause| refused(format!("no client for {}: {cause}", public_name(&url))))?;
                    list.push(Endpoint { name: public_name(&url), url, client, state: Mutex::default() });
                }
                "ws" | "wss" => announcers.push(url),
                other => {
                    let known = "http://, https://, ws:// or wss://";
                    return Err(refused(format!("address {position} begins with {other}://, which is none of {known}")));
                }
            }
        }
        if list.is_empty() {
            return Err(refused("name an http:// or https:// address too: ws:// only announces heads and transactions".into()));
        }
        Ok((Self { chain, limits, list, current: AtomicUsize::new(0) }, announcers))
    }

    pub(super) fn len(&self) -> usize {
        self.list.len()
    }

    pub(super) fn get(&self, index: usize) -> Option<&Endpoint> {
        self.list.get(index)
    }

    /// Whose turn it is: of those that may be asked now the one that was tried the least, from the one that answered last on;
    /// when there is none, the one that may be asked the soonest. `tries` says how often each was tried; those that it says
    /// nothing of are not wanted.
    pub(super) fn turn(&self, tries: impl Fn(usize) -> Option<usize>) -> Option<Turn> {
        let (now, count) = (Instant::now(), self.list.len());
        let first = self.current.load(Ordering::Relaxed);
        let mut best: Option<(usize, Turn)> = None;
        let mut usable = 0;
        for index in (0..count).map(|offset| (first + offset) % count) {
            let (Some(tried), Some(endpoint)) = (tries(index), self.list.get(index)) else { continue };
            let state = endpoint.state.lock();
            let at = state.resting.as_ref().map(|(until, _)| *until).filter(|until| *until > now);
            usable += usize::from(at.is_none());
            // `None`, which is now, is the least.
            if best.is_none_or(|(least, best)| (at, tried) < (best.at, least)) {
                best = Some((tried, Turn { index, at, epoch: state.epoch, usable: 0 }));
            }
        }
        best.map(|(_, turn)| Turn { usable: usable.max(1), ..turn })
    }

    /// Whether an endpoint has to say first which chain it serves.
    pub(super) fn is_checked(&self, index: usize) -> bool {
        self.get(index).is_some_and(|endpoint| endpoint.state.lock().checked)
    }

    /// It serves the rollup.
    pub(super) fn checked(&self, turn: Turn) {
        if let Some(endpoint) = self.get(turn.index) {
            let mut state = endpoint.state.lock();
            if state.epoch == turn.epoch {
                state.checked = true;
            }
        }
    }

    /// It gave an answer that can be used.
    pub(super) fn answered(&self, turn: Turn) {
        let Some(endpoint) = self.get(turn.index) else { return };
        let back = {
            let mut state = endpoint.state.lock();
            if state.epoch != turn.epoch {
                return;
            }
            state.failures = 0;
            state.resting.take().is_some()
        };
        self.current.store(turn.index, Ordering::Relaxed);
        if back {
            tracing::info!(chain = self.chain, endpoint = endpoint.name, "the endpoint is used again");
        }
    }

    /// It gave none. Of calls that were on their way together one counts.
    pub(super) fn failed(&self, turn: Turn, fault: &Fault) {
        let Some(endpoint) = self.get(turn.index) else { return };
        let mut state = endpoint.state.lock();
        if state.epoch != turn.epoch {
            return;
        }
        let failures = state.failures.saturating_add(1);
        let own = match *fault.error {
            NodeError::WrongChain { .. } | NodeError::WrongBlock { .. } => millis(self.limits.lie_backoff_ms),
            _ => backoff(&self.limits, failures, turn.index),
        };
        let wanted = fault.retry_after.unwrap_or_default().min(millis(self.limits.max_backoff_ms));
        state.failures = failures;
        self.rest(endpoint, &mut state, own.max(wanted), &fault.error);
    }

    /// It answered what is not true.
    pub(super) fn blame(&self, index: usize, error: &NodeError) {
        let Some(endpoint) = self.get(index) else { return };
        let mut state = endpoint.state.lock();
        state.failures = state.failures.saturating_add(1);
        self.rest(endpoint, &mut state, millis(self.limits.lie_backoff_ms), error);
    }

    fn rest(&self, endpoint: &Endpoint, state: &mut State, time: Duration, error: &NodeError) {
        state.checked = false;
        state.epoch = state.epoch.wrapping_add(1);
        state.total = state.total.saturating_add(1);
        let before = state.resting.replace((Instant::now() + time, Box::new(error.clone())));
        let (chain, code) = (self.chain.to_string(), error.code());
        metrics::counter!("lockstep_endpoint_failures_total", "chain" => chain, "endpoint" => endpoint.name.clone(), "cause" => code)
            .increment(1);
        // One line when it goes, and one when it fails in another way.
        if before.is_none_or(|(_, before)| before.code() != code) {
            tracing::warn!(chain = self.chain, endpoint = endpoint.name, %error, "the endpoint is left alone");
        }
    }

    /// Whether an endpoint is left alone at this moment. One whose time is over may be asked, though it is degraded until it
    /// answers.
    pub(super) fn is_resting(&self, index: usize) -> bool {
        let now = Instant::now();
        self.get(index).is_some_and(|endpoint| endpoint.state.lock().resting.as_ref().is_some_and(|(until, _)| *until > now))
    }

    /// Why an endpoint is left alone.
    pub(super) fn cause(&self, index: usize) -> Option<Box<NodeError>> {
        self.get(index)?.state.lock().resting.as_ref().map(|(_, cause)| cause.clone())
    }

    pub(super) fn status(&self) -> Vec<EndpointStatus> {
        let status = |endpoint: &Endpoint| {
            let state = endpoint.state.lock();
            let degraded = state.resting.as_ref().map(|(_, cause)| (cause.code(), cause.to_string()));
            EndpointStatus { name: endpoint.name.clone(), degraded, failures: state.total }
        };
        self.list.iter().map(status).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backoffs_double_up_to_their_bound_and_differ_by_endpoint() {
        let limits = RemoteLimits { backoff_ms: 100, max_backoff_ms: 1_000, ..RemoteLimits::default() };
        let of = |failures, whose| backoff(&limits, failures, whose).as_millis();
        for (failures, full) in [(1, 100), (2, 200), (3, 400), (4, 800), (5, 1_000), (u32::MAX, 1_000)] {
            for whose in 0..8 {
                let waited = of(failures, whose);
                assert!((full * 3 / 4..=full).contains(&waited), "{failures} failures: {waited} ms of {full}");
            }
        }
        assert_ne!(of(4, 0), of(4, 1), "two endpoints that failed together come back apart");
        assert_eq!(of(4, 1), of(4, 1), "nothing is left to chance");
    }

    #[test]
    fn an_address_is_named_without_what_may_be_a_key() {
        let url = Url::parse("https://user:secret@node.example:8443/v2/secret?key=secret").unwrap();
        assert_eq!(public_name(&url), "https://node.example:8443");
        assert_eq!(public_name(&Url::parse("ws://[::1]/secret").unwrap()), "ws://[::1]");
    }

    #[test]
    fn addresses_that_are_of_no_use_are_refused_by_name() {
        let open = |urls: &[&str]| {
            let urls: Vec<String> = urls.iter().map(|url| (*url).to_owned()).collect();
            Endpoints::open(901, &urls, RemoteLimits::default())
                .map(|(endpoints, announcers)| (endpoints.len(), announcers.len()))
        };
        assert_eq!(open(&["http://localhost:1", "ws://localhost:2", "http://localhost:3/key"]), Ok((2, 1)));
        for (urls, cause) in [
            (vec!["ws://localhost:1"], "name an http:// or https:// address too"),
            (vec![], "name an http:// or https:// address too"),
            (vec!["http://localhost:1", "ipc://key"], "address 1 begins with ipc://"),
            (vec!["key"], "address 0 is no URL"),
        ] {
            let error = open(&urls).unwrap_err().to_string();
            assert!(error.contains(cause), "{error}");
        }
    }
}
