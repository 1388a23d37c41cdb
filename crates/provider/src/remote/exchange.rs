//! One JSON-RPC request to one endpoint, and what may come back.

use std::{sync::Arc, time::Duration};

use lockstep_primitives::ChainId;
use reqwest::{
    Client, ClientBuilder, StatusCode, Url,
    header::{CONTENT_TYPE, HeaderMap, RETRY_AFTER},
    redirect::Policy,
};
use rustls::{ClientConfig, RootCertStore, crypto::ring};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Value, value::RawValue};

use super::errors::{RpcFailure, excerpt, with_causes};
use crate::NodeError;

/// A method and its parameters.
pub(super) type CallRef<'a> = (&'a str, &'a Value);
/// What a node answered to one call.
pub(super) type Outcome = Result<Box<RawValue>, RpcFailure>;

/// Why an endpoint gave no answer that can be used.
#[derive(Debug)]
pub(super) struct Fault {
    pub(super) error: Box<NodeError>,
    /// Whether the node may have got the request.
    pub(super) sent: bool,
    /// How long the endpoint wants to be left alone.
    pub(super) retry_after: Option<Duration>,
}

impl Fault {
    pub(super) fn new(error: NodeError) -> Self {
        Self { error: Box::new(error), sent: true, retry_after: None }
    }

    pub(super) fn unreachable(chain: ChainId, cause: String) -> Self {
        Self::new(NodeError::Unreachable { chain, cause })
    }

    fn not_json_rpc(chain: ChainId, cause: String) -> Self {
        Self::new(NodeError::NotJsonRpc { chain, cause })
    }

    /// The same, where the node certainly did not get the request.
    pub(super) fn not_sent(mut self) -> Self {
        self.sent = false;
        self
    }
}

/// An HTTP client for an address: `https://` by ring and the platform's certificates. Every client of this program is made
/// here or beside it, because the library's own default has no TLS provider and panics.
///
/// # Errors
/// When the address is none, or TLS cannot be set up, in words.
pub fn http_client(url: &str, connect: Duration) -> Result<Client, String> {
    client(&Url::parse(url).map_err(|error| format!("{url}: {error}"))?, connect)
}

/// An HTTP client for `url`, which is an `http://` or `https://` address.
pub(super) fn client(url: &Url, connect: Duration) -> Result<Client, String> {
    let builder = Client::builder().connect_timeout(connect).redirect(Policy::none());
    let builder = if url.scheme() == "https" {
        // The platform's certificates, checked by ring. Whoever installed a provider before may keep theirs.
        let _ = ring::default_provider().install_default();
        builder
    } else {
        for_plain_http(builder)?
    };
    builder.build().map_err(|error| with_causes(&error.without_url()))
}

/// Makes a client that only calls `http://`: no certificate is ever looked at, so none has to be on the machine.
pub(crate) fn for_plain_http(builder: ClientBuilder) -> Result<ClientBuilder, String> {
    let tls = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth();
    Ok(builder.tls_backend_preconfigured(tls))
}

/// What goes to the node: calls with consecutive ids.
#[derive(Debug, Serialize)]
struct Sent<'a> {
    jsonrpc: &'static str,
    id: u64,
    method: &'a str,
    params: &'a Value,
}

/// What comes back to one call.
#[derive(Debug, Deserialize)]
struct Answered {
    #[serde(default)]
    id: Value,
    #[serde(default, deserialize_with = "present")]
    result: Option<Box<RawValue>>,
    error: Option<ErrorAnswered>,
}

#[derive(Debug, Deserialize)]
struct ErrorAnswered {
    code: i64,
    #[serde(default)]
    message: String,
    data: Option<Value>,
}

/// Tells `"result": null` from no result.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Box<RawValue>>, D::Error> {
    Box::<RawValue>::deserialize(deserializer).map(Some)
}

impl ErrorAnswered {
    fn into_failure(self) -> RpcFailure {
        RpcFailure::answered(self.code, self.message, self.data)
    }
}

impl Answered {
    /// Some nodes answer a number as a text.
    fn id(&self) -> Option<u64> {
        self.id.as_u64().or_else(|| self.id.as_str()?.parse().ok())
    }

    fn into_outcome(self) -> Result<Outcome, String> {
        match (self.error, self.result) {
            (Some(error), _) => Ok(Err(error.into_failure())),
            (None, Some(result)) => Ok(Ok(result)),
            (None, None) => Err("an answer without a result and without an error".into()),
        }
    }
}

/// Calls in one request: several of them, or a single one even, as a batch.
#[derive(Clone, Copy, Debug)]
pub(super) struct Request<'a> {
    pub(super) calls: &'a [CallRef<'a>],
    pub(super) batch: bool,
    /// The id of the first call.
    pub(super) first_id: u64,
}

impl Request<'_> {
    fn write(&self) -> Result<Vec<u8>, serde_json::Error> {
        let sent = (self.first_id..).zip(self.calls);
        let sent: Vec<Sent<'_>> = sent.map(|(id, &(method, params))| Sent { jsonrpc: "2.0", id, method, params }).collect();
        match sent.as_slice() {
            [one] if !self.batch => serde_json::to_vec(one),
            all => serde_json::to_vec(all),
        }
    }

    /// The answers in the order of the calls.
    fn read(&self, body: &[u8]) -> Result<Vec<Outcome>, String> {
        match body.trim_ascii_start().first() {
            Some(b'{') => {
                let answered: Answered = parse(body)?;
                // A node that could not read the id, or a batch as a whole, answers with none.
                let refused = answered.error.is_some() && (answered.id.is_null() || self.batch);
                if !refused && (self.batch || answered.id() != Some(self.first_id)) {
                    return Err("an answer to another call".into());
                }
                let outcome = answered.into_outcome()?;
                Ok(vec![outcome; self.calls.len()])
            }
            Some(b'[') if self.batch => self.sort(parse(body)?),
            Some(_) => Err(format!("no JSON-RPC answer: {}", excerpt(&String::from_utf8_lossy(body)))),
            None => Err("an empty answer".into()),
        }
    }

    fn sort(&self, answers: Vec<Answered>) -> Result<Vec<Outcome>, String> {
        let mut outcomes: Vec<Option<Outcome>> = vec![None; self.calls.len()];
        for answer in answers {
            let place = answer.id().and_then(|id| id.checked_sub(self.first_id)).and_then(|place| usize::try_from(place).ok());
            if let Some(slot) = place.and_then(|place| outcomes.get_mut(place)) {
                *slot = Some(answer.into_outcome()?);
            }
        }
        let missing = outcomes.iter().filter(|outcome| outcome.is_none()).count();
        if missing > 0 {
            return Err(format!("answers to {missing} of the {} calls of a batch are missing", self.calls.len()));
        }
        Ok(outcomes.into_iter().flatten().collect())
    }
}

fn parse<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, String> {
    serde_json::from_slice(body).map_err(|error| {
        if error.is_eof() {
            return "an answer that is cut short".into();
        }
        format!("no JSON-RPC answer ({error}): {}", excerpt(&String::from_utf8_lossy(body)))
    })
}

/// Sends a request to one endpoint and reads what it answers. Takes as long as the endpoint does.
pub(super) async fn exchange(
    chain: ChainId,
    client: &Client,
    url: &Url,
    request: Request<'_>,
    max_answer_bytes: usize,
) -> Result<Vec<Outcome>, Fault> {
    let body =
        request.write().map_err(|error| Fault::unreachable(chain, format!("a request cannot be written: {error}")).not_sent())?;
    let sent = client.post(url.clone()).header(CONTENT_TYPE, "application/json").body(body).send().await;
    let response = sent.map_err(|error| {
        let reached = !error.is_connect() && !error.is_builder();
        // Addresses of hosted nodes hold the account's key.
        let fault = Fault::unreachable(chain, with_causes(&error.without_url()));
        if reached { fault } else { fault.not_sent() }
    })?;
    let (status, retry_after) = (response.status(), retry_after(response.headers()));
    let web_page = is_web_page(response.headers());
    let refused = |mut fault: Fault| {
        fault.retry_after = retry_after;
        fault
    };
    let body = match read_body(response, max_answer_bytes).await {
        Ok(body) => body,
        Err(cause) if status.is_success() => return Err(Fault::not_json_rpc(chain, cause)),
        Err(_) => return Err(refused(Fault::unreachable(chain, format!("HTTP status {}", status.as_u16())))),
    };
    if web_page || body.trim_ascii_start().starts_with(b"<") {
        return Err(refused(Fault::not_json_rpc(chain, format!("a web page (HTTP status {})", status.as_u16()))));
    }
    let failed = |cause: &str| refused(Fault::unreachable(chain, format!("HTTP status {}: {cause}", status.as_u16())));
    if is_overload(status) {
        return Err(failed(&excerpt(&String::from_utf8_lossy(&body))));
    }
    match request.read(&body) {
        Ok(outcomes) => Ok(outcomes),
        Err(cause) if status.is_success() => Err(Fault::not_json_rpc(chain, cause)),
        // Some nodes answer errors with another status than 200; this is none.
        Err(_) => Err(failed(&excerpt(&String::from_utf8_lossy(&body)))),
    }
}

/// Reads an answer's body, of at most `max` bytes.
pub(crate) async fn read_body(mut response: reqwest::Response, max: usize) -> Result<Vec<u8>, String> {
    let too_long = || format!("an answer of more than {max} bytes");
    if response.content_length().is_some_and(|length| usize::try_from(length).is_ok_and(|length| length > max)) {
        return Err(too_long());
    }
    let mut body = Vec::new();
    loop {
        match response.chunk().await {
            Ok(Some(chunk)) if body.len().saturating_add(chunk.len()) > max => return Err(too_long()),
            Ok(Some(chunk)) => body.extend_from_slice(&chunk),
            Ok(None) => return Ok(body),
            Err(error) => return Err(format!("an answer that is cut short: {}", with_causes(&error.without_url()))),
        }
    }
}

fn is_web_page(headers: &HeaderMap) -> bool {
    headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).is_some_and(|kind| kind.starts_with("text/html"))
}

/// How long an answer asks to be left alone, in seconds; dates are not read.
pub(crate) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    headers.get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok().map(Duration::from_secs)
}

fn is_overload(status: StatusCode) -> bool {
    matches!(
        status,
        StatusCode::TOO_MANY_REQUESTS | StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT
    )
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(calls: usize, batch: bool, body: &str) -> Result<Vec<Result<Value, i32>>, String> {
        let params = json!([]);
        let calls = vec![("eth_call", &params); calls];
        let outcomes = Request { calls: &calls, batch, first_id: 7 }.read(body.as_bytes())?;
        let value = |raw: Box<RawValue>| serde_json::from_str(raw.get()).unwrap();
        Ok(outcomes.into_iter().map(|outcome| outcome.map(value).map_err(|failure| failure.code)).collect())
    }

    #[test]
    fn what_is_sent_is_json_rpc() {
        let params = json!([1]);
        let write = |batch, calls: &[CallRef<'_>]| {
            let bytes = Request { calls, batch, first_id: 7 }.write().unwrap();
            serde_json::from_slice::<Value>(&bytes).unwrap()
        };
        let sent = |id: u64| json!({ "jsonrpc": "2.0", "id": id, "method": "a", "params": [1] });
        assert_eq!(write(false, &[("a", &params)]), sent(7));
        assert_eq!(write(true, &[("a", &params)]), json!([sent(7)]));
        assert_eq!(write(true, &[("a", &params), ("a", &params)]), json!([sent(7), sent(8)]));
    }

    #[test]
    fn answers_are_put_in_the_order_of_their_calls() {
        let body = r#"[{"id":8,"result":null},{"id":"7","error":{"code":3,"message":"no"}},{"id":99,"result":1}]"#;
        assert_eq!(read(2, true, body), Ok(vec![Err(3), Ok(Value::Null)]));
        assert_eq!(read(1, false, r#"{"id":7,"result":{"a":[1]},"error":null}"#), Ok(vec![Ok(json!({ "a": [1] }))]));
        assert_eq!(read(2, true, r#"{"id":null,"error":{"code":-32600}}"#), Ok(vec![Err(-32600), Err(-32600)]));
        assert_eq!(read(1, false, r#"{"id":null,"error":{"code":-32700,"message":"?"}}"#), Ok(vec![Err(-32700)]));
    }

    #[test]
    fn what_is_no_answer_is_said() {
        let cut = |body: &str| read(1, false, body).unwrap_err();
        assert_eq!(cut(r#"{"id":7,"resu"#), "an answer that is cut short");
        assert_eq!(cut(""), "an empty answer");
        assert_eq!(cut(r#"{"id":8,"result":1}"#), "an answer to another call");
        assert_eq!(cut(r#"{"id":7}"#), "an answer without a result and without an error");
        assert!(cut(r#"[{"id":7,"result":1}]"#).starts_with("no JSON-RPC answer"));
        assert!(cut(r#"{"id":7,"error":"no"}"#).starts_with("no JSON-RPC answer"));
        let missing = read(3, true, r#"[{"id":7,"result":1},{"id":7,"result":1}]"#);
        assert_eq!(missing, Err("answers to 2 of the 3 calls of a batch are missing".into()));
        assert_eq!(read(2, true, r#"{"id":7,"result":1}"#), Err("an answer to another call".into()));
    }
}
