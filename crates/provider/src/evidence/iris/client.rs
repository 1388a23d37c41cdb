//! HTTP to the service: bounded, and no more often than it allows.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use parking_lot::Mutex;
use reqwest::{Client, Method, Response, StatusCode, Url};
use tokio::time::timeout;

use super::gate::Gate;
use crate::{
    EvidenceError,
    remote::{excerpt, http_client, read_body, retry_after, with_causes},
};

/// What the service allows, in requests a second (Circle, "CCTP API, rate limits").
const SERVICE_LIMIT: u64 = 35;

/// Tells the time, in milliseconds since 1970.
pub type Clock = Arc<dyn Fn() -> u64 + Send + Sync>;

/// How often the service is asked, and how long it may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IrisLimits {
    /// Requests a second, for longer than a moment.
    pub requests_per_second: u64,
    /// Requests at once. With the ones of a second they stay below what the service allows, which is 35.
    pub burst: u64,
    /// Milliseconds without any request after the service said that there were too many.
    pub silence_ms: u64,
    /// Milliseconds that one request may take.
    pub timeout_ms: u64,
    /// Milliseconds without any request after a first failure. Doubles with every further one in a row.
    pub backoff_ms: u64,
    /// The most milliseconds without any request after failures.
    pub max_backoff_ms: u64,
    /// Bytes of one answer.
    pub max_answer_bytes: usize,
}

impl Default for IrisLimits {
    fn default() -> Self {
        Self {
            requests_per_second: 20,
            burst: 10,
            silence_ms: 5 * 60 * 1_000,
            timeout_ms: 5_000,
            backoff_ms: 1_000,
            max_backoff_ms: 60_000,
            max_answer_bytes: 1024 * 1024,
        }
    }
}

/// The way to Circle's attestation service. One for all that ask it: its limit is one, too.
pub struct IrisClient {
    base: String,
    client: Client,
    limits: IrisLimits,
    gate: Mutex<Gate>,
    clock: Clock,
}

/// What came of a request.
enum Heard {
    Body(Vec<u8>),
    NotFound,
    /// With how long it wants to be left alone.
    TooMany(Option<Duration>),
    Refused(String),
}

impl IrisClient {
    /// The service at an `http://` or `https://` address; Circle's is `https://iris-api.circle.com`, and
    /// `https://iris-api-sandbox.circle.com` for test networks.
    ///
    /// # Errors
    /// When the address is none, or the limits exceed the service's, in words.
    pub fn new(url: &str, limits: IrisLimits) -> Result<Self, String> {
        Self::with_clock(url, limits, Arc::new(now_ms))
    }

    /// The same by another clock.
    ///
    /// # Errors
    /// As [`IrisClient::new`].
    pub fn with_clock(url: &str, limits: IrisLimits, clock: Clock) -> Result<Self, String> {
        let parsed = Url::parse(url).map_err(|error| format!("the address of the attestation service is no URL: {error}"))?;
        if !matches!(parsed.scheme(), "http" | "https") || parsed.query().is_some() || parsed.fragment().is_some() {
            return Err("the address of the attestation service has to be http:// or https://, without a query".to_owned());
        }
        let IrisLimits { requests_per_second, burst, .. } = limits;
        if requests_per_second == 0 || burst == 0 || requests_per_second.saturating_add(burst) >= SERVICE_LIMIT {
            return Err(format!(
                "{requests_per_second} requests a second and {burst} at once: at least 1 each, less than {SERVICE_LIMIT} in all"
            ));
        }
        let client = http_client(url, Duration::from_millis(limits.timeout_ms))?;
        let base = url.trim_end_matches('/').to_owned();
        Ok(Self { base, client, limits, gate: Mutex::new(Gate::new(limits)), clock })
    }

    /// Asks for something; `None` when the service does not have it.
    ///
    /// # Errors
    /// When it may not be asked now, cannot be used, refuses, or `read` cannot read the answer.
    pub(super) async fn get<T>(&self, path: &str, read: fn(&[u8]) -> Result<T, String>) -> Result<Option<T>, EvidenceError> {
        self.ask(Method::GET, path, read).await
    }

    /// Asks the service to do something; `None` when it does not know what this is about. What it answers does not matter.
    ///
    /// # Errors
    /// When it may not be asked now, cannot be used, or refuses.
    pub(super) async fn post(&self, path: &str) -> Result<Option<()>, EvidenceError> {
        self.ask(Method::POST, path, |_| Ok(())).await
    }

    async fn ask<T>(&self, method: Method, path: &str, read: fn(&[u8]) -> Result<T, String>) -> Result<Option<T>, EvidenceError> {
        let passed = self.gate.lock().take((self.clock)());
        if let Err(held_back) = passed {
            count("held_back");
            return Err(held_back);
        }
        let limit = Duration::from_millis(self.limits.timeout_ms);
        let heard = match timeout(limit, self.exchange(method, path)).await {
            Ok(heard) => heard,
            Err(_) => Err(format!("no answer within {} ms", self.limits.timeout_ms)),
        };
        let now_ms = (self.clock)();
        let mut gate = self.gate.lock();
        match heard {
            Err(cause) => {
                count("failed");
                gate.failed(now_ms, &cause);
                Err(EvidenceError::Unavailable(cause))
            }
            Ok(Heard::TooMany(retry_after)) => {
                count("limited");
                let wanted_ms = retry_after.map(|wanted| u64::try_from(wanted.as_millis()).unwrap_or(u64::MAX));
                let error = gate.limited(now_ms, wanted_ms);
                tracing::warn!(%error, "the attestation service was asked too often");
                Err(error)
            }
            Ok(Heard::NotFound) => {
                count("not_found");
                gate.answered();
                Ok(None)
            }
            Ok(Heard::Refused(cause)) => {
                count("refused");
                gate.answered();
                Err(EvidenceError::Refused(cause))
            }
            Ok(Heard::Body(body)) => match read(&body) {
                Ok(value) => {
                    count("answered");
                    gate.answered();
                    Ok(Some(value))
                }
                Err(cause) => {
                    count("unreadable");
                    gate.failed(now_ms, &cause);
                    Err(EvidenceError::Malformed(cause))
                }
            },
        }
    }

    async fn exchange(&self, method: Method, path: &str) -> Result<Heard, String> {
        let sent = self.client.request(method, format!("{}{path}", self.base)).send().await;
        let response: Response = sent.map_err(|error| with_causes(&error.without_url()))?;
        let status = response.status();
        if status == StatusCode::TOO_MANY_REQUESTS {
            return Ok(Heard::TooMany(retry_after(response.headers())));
        }
        if status == StatusCode::NOT_FOUND {
            return Ok(Heard::NotFound);
        }
        let code = status.as_u16();
        let body = read_body(response, self.limits.max_answer_bytes).await;
        let body = body.map_err(|cause| format!("HTTP status {code}: {cause}"))?;
        if status.is_success() {
            return Ok(Heard::Body(body));
        }
        let cause = format!("HTTP status {code}: {}", excerpt(&String::from_utf8_lossy(&body)));
        // Of the others, only these are about the request.
        if status.is_client_error() && status != StatusCode::REQUEST_TIMEOUT { Ok(Heard::Refused(cause)) } else { Err(cause) }
    }
}

impl fmt::Debug for IrisClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IrisClient")
            .field("base", &self.base)
            .field("limits", &self.limits)
            .field("gate", &self.gate)
            .finish_non_exhaustive()
    }
}

fn count(outcome: &'static str) {
    metrics::counter!("lockstep_attestation_requests_total", "outcome" => outcome).increment(1);
}

fn now_ms() -> u64 {
    // A clock before 1970 counts as being there.
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}
