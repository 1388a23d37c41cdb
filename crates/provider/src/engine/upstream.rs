//! Calls to somebody else's port, with a token of its secret.

use std::{fmt, time::Duration};

use alloy_rpc_types_engine::{Claims, JwtSecret};
use hyper::{body::Bytes, header};

use super::{EngineError, Refusal, config::MAX_ANSWER_BYTES, http::Answer};
use crate::remote::{for_plain_http, with_causes};

/// How long connecting may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// A port to call.
#[derive(Clone)]
pub(super) struct Upstream {
    client: reqwest::Client,
    url: reqwest::Url,
    secret: JwtSecret,
}

impl fmt::Debug for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Upstream").field("host", &self.url.host_str()).field("port", &self.url.port()).finish_non_exhaustive()
    }
}

impl Upstream {
    /// A port at an `http://` address. Nothing is connected yet.
    pub(super) fn new(url: &str, secret: JwtSecret) -> Result<Self, EngineError> {
        let url = reqwest::Url::parse(url).map_err(|error| EngineError::Address(error.to_string()))?;
        if url.scheme() != "http" {
            return Err(EngineError::Address(format!("{}:// is not served by engine ports", url.scheme())));
        }
        let client = for_plain_http(reqwest::Client::builder())
            .map_err(EngineError::Client)?
            // Tokens go to the port itself, never to whom the environment or an answer names.
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            // Answers are passed on as they come.
            .no_gzip()
            .no_brotli()
            .no_zstd()
            .no_deflate()
            .tcp_nodelay(true)
            .connect_timeout(CONNECT_TIMEOUT)
            .build()
            .map_err(|error| EngineError::Client(error.to_string()))?;
        Ok(Self { client, url, secret })
    }

    /// Sends a body and returns whatever comes back, whole.
    pub(super) async fn send(&self, body: Bytes, limit: Duration) -> Result<Answer, Refusal> {
        match tokio::time::timeout(limit, self.exchange(body)).await {
            Ok(answer) => answer,
            Err(_) => Err(Refusal::Late(u64::try_from(limit.as_millis()).unwrap_or(u64::MAX))),
        }
    }

    async fn exchange(&self, body: Bytes) -> Result<Answer, Refusal> {
        let token = self.secret.encode(&Claims::with_current_timestamp());
        let token = token.map_err(|error| Refusal::Unreachable(format!("no token can be made: {error}")))?;
        let request = self.client.post(self.url.clone()).header(header::CONTENT_TYPE, "application/json").bearer_auth(token);
        let mut response = request.body(body).send().await.map_err(unreachable)?;
        let (status, content_type) = (response.status(), response.headers().get(header::CONTENT_TYPE).cloned());
        let mut bytes = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(unreachable)? {
            if bytes.len() + chunk.len() > MAX_ANSWER_BYTES {
                return Err(Refusal::Unreadable(format!("it has more than {MAX_ANSWER_BYTES} bytes")));
            }
            bytes.extend_from_slice(&chunk);
        }
        Ok(Answer { status, content_type, body: bytes.into() })
    }
}

/// An error with its causes, without the address, which may hold secrets.
fn unreachable(error: reqwest::Error) -> Refusal {
    Refusal::Unreachable(with_causes(&error.without_url()))
}
