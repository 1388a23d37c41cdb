//! A port that takes JSON-RPC by HTTP from whoever holds its secret.

use std::{convert::Infallible, fmt, net::SocketAddr, sync::Arc, time::Duration};

use alloy_rpc_types_engine::JwtSecret;
use async_trait::async_trait;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::{
    Method, Request, Response, StatusCode,
    body::{Bytes, Incoming},
    header::{self, HeaderMap, HeaderValue},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::json;
use tokio::{net::TcpListener, task::JoinSet};

use super::{EngineError, config::MAX_CONNECTIONS};

/// How long nothing is accepted after the system refused to.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How long a request's body may take to come.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a connection may be idle, as with execution clients.
const IDLE_TIMEOUT: Duration = Duration::from_secs(120);

/// JSON-RPC's "invalid request".
const INVALID_REQUEST: i32 = -32600;

/// An HTTP answer.
#[derive(Clone, Debug)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) content_type: Option<HeaderValue>,
    pub(super) body: Bytes,
}

impl Answer {
    /// A JSON body.
    pub(super) fn json(status: StatusCode, body: String) -> Self {
        Self { status, content_type: Some(HeaderValue::from_static("application/json")), body: body.into() }
    }

    /// A JSON-RPC error. `id` is JSON.
    pub(super) fn error(status: StatusCode, id: &str, code: i32, reason: &str, message: &str, hint: &str) -> Self {
        let error = json!({ "code": code, "message": message, "data": { "reason": reason, "hint": hint } });
        Self::json(status, format!("{{\"jsonrpc\":\"2.0\",\"id\":{id},\"error\":{error}}}"))
    }
}

impl From<Answer> for Response<Full<Bytes>> {
    fn from(answer: Answer) -> Self {
        let mut response = Self::new(Full::new(answer.body));
        *response.status_mut() = answer.status;
        if let Some(content_type) = answer.content_type {
            response.headers_mut().insert(header::CONTENT_TYPE, content_type);
        }
        response
    }
}

/// What answers the calls of a port.
#[async_trait]
pub(super) trait Answers: Send + Sync + 'static {
    /// Answers the body of a call that holds a good token.
    async fn answer(&self, body: Bytes) -> Answer;
}

/// Listens; port 0 takes a free one.
pub(super) async fn bind(address: SocketAddr) -> Result<(TcpListener, SocketAddr), EngineError> {
    let failed = |cause| EngineError::Listen { address, cause };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    Ok((listener, address))
}

/// A port: who may speak, how much, and who answers.
pub(super) struct Port {
    /// What the port is called in logs and metrics.
    pub(super) name: &'static str,
    pub(super) secret: JwtSecret,
    pub(super) max_body_bytes: usize,
    pub(super) answers: Arc<dyn Answers>,
}

impl fmt::Debug for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Port").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Port {
    /// Serves until it is dropped, and all connections with it.
    pub(super) async fn serve(self, listener: TcpListener) {
        let port = Arc::new(self);
        let mut connections = JoinSet::new();
        loop {
            let stream = tokio::select! {
                accepted = listener.accept() => match accepted {
                    Ok((stream, _)) => stream,
                    Err(error) => {
                        // Out of file descriptors, as a rule: trying again at once would only burn the processor.
                        tracing::warn!(%error, port = port.name, "a connection could not be accepted");
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                        continue;
                    }
                },
                Some(_) = connections.join_next() => continue,
            };
            if connections.len() >= MAX_CONNECTIONS {
                metrics::counter!("lockstep_engine_refused_total", "port" => port.name, "reason" => "connections").increment(1);
                continue;
            }
            // Latency of single calls is what counts here; without the option they are only slower.
            let _ = stream.set_nodelay(true);
            let port = Arc::clone(&port);
            connections.spawn(async move {
                let name = port.name;
                let service = service_fn(move |request: Request<Incoming>| {
                    let port = Arc::clone(&port);
                    async move { Ok::<_, Infallible>(Response::<Full<Bytes>>::from(port.answer(request).await)) }
                });
                let mut server = http1::Builder::new();
                server.timer(TokioTimer::new()).header_read_timeout(IDLE_TIMEOUT);
                if let Err(error) = server.serve_connection(TokioIo::new(stream), service).await {
                    tracing::debug!(%error, port = name, "a connection ended");
                }
            });
        }
    }

    async fn answer(&self, request: Request<Incoming>) -> Answer {
        if let Err(problem) = self.authorize(request.headers()) {
            let hint = "send Authorization: Bearer with an HS256 token of the port's secret, issued within 60 s";
            return self.refuse(StatusCode::UNAUTHORIZED, "unauthorized", &problem, hint);
        }
        if request.headers().contains_key(header::UPGRADE) {
            let text = "WebSockets are not served here";
            return self.refuse(StatusCode::BAD_REQUEST, "websocket", text, "give the driver an http:// address");
        }
        if request.method() != Method::POST {
            let hint = "JSON-RPC calls are sent by POST";
            return self.refuse(StatusCode::METHOD_NOT_ALLOWED, "method", "only POST is served here", hint);
        }
        let limit = self.max_body_bytes;
        let body = Limited::new(request.into_body(), limit).collect();
        let problem = match tokio::time::timeout(BODY_TIMEOUT, body).await {
            Ok(Ok(body)) => return self.answers.answer(body.to_bytes()).await,
            Ok(Err(error)) if error.is::<LengthLimitError>() => {
                let text = format!("the call has more than {limit} bytes");
                return self.refuse(StatusCode::PAYLOAD_TOO_LARGE, "too_large", &text, "send less at a time");
            }
            Ok(Err(error)) => error.to_string(),
            Err(_) => "it took too long".to_owned(),
        };
        let text = format!("the call cannot be read: {problem}");
        self.refuse(StatusCode::BAD_REQUEST, "unreadable_call", &text, "send the whole body at once")
    }

    fn authorize(&self, headers: &HeaderMap) -> Result<(), String> {
        let sent = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        let token = sent.and_then(|value| value.strip_prefix("Bearer ")).ok_or("the call holds no bearer token")?;
        self.secret.validate(token.trim()).map_err(|error| format!("the token is refused: {error}"))
    }

    fn refuse(&self, status: StatusCode, reason: &'static str, message: &str, hint: &str) -> Answer {
        metrics::counter!("lockstep_engine_refused_total", "port" => self.name, "reason" => reason).increment(1);
        Answer::error(status, "null", INVALID_REQUEST, reason, message, hint)
    }
}
