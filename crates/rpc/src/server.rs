//! One port for everything: JSON-RPC over HTTP and WebSocket by path, and the plain pages.

use std::{collections::BTreeMap, convert::Infallible, fmt, net::SocketAddr, sync::Arc, time::Duration};

use http_body_util::{BodyExt, Full, Limited};
use hyper::{Method, StatusCode, header};
use jsonrpsee::{
    Methods,
    core::middleware::RpcServiceBuilder,
    server::{
        BatchRequestConfig, HttpBody, HttpRequest, HttpResponse, RandomStringIdProvider, ServerConfig, ServerHandle, StopHandle,
        TowerServiceBuilder, serve_with_graceful_shutdown, stop_channel,
    },
    types::ErrorObjectOwned,
};
use lockstep_primitives::ChainId;
use tokio::{net::TcpListener, sync::Semaphore};
use tower::{
    Service,
    layer::util::{Identity, Stack},
};

use crate::{
    IdentityError, Recovery, Rest, RestRequest, SIGNATURE_HEADER, codes, error::plain, reasoned::ReasonedLayer, verify_header,
};

/// How long nothing is accepted after the system refused to.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How long a request's body may take to come.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// The server's bounds.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Bytes of a request.
    pub request_bytes: u32,
    /// Bytes of an answer.
    pub response_bytes: u32,
    /// Connections at a time.
    pub connections: u32,
    /// Calls in a batch.
    pub batch: u32,
    /// Subscriptions of a connection.
    pub subscriptions: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            request_bytes: 2 * 1024 * 1024,
            response_bytes: 64 * 1024 * 1024,
            connections: 1_024,
            batch: 100,
            subscriptions: 64,
        }
    }
}

/// Pages that are not JSON-RPC.
pub trait Pages: Send + Sync + 'static {
    /// Status, content type and body of a path; `None` when there is no such page.
    fn page(&self, path: &str) -> Option<(u16, &'static str, String)>;
}

/// What is served where.
#[derive(Clone, Default)]
pub struct Routes {
    /// `POST /`.
    pub root: Methods,
    /// `POST /rollup/<chainId>`, the id in decimal or as 0x-prefixed hex.
    pub rollups: BTreeMap<ChainId, Methods>,
    /// An interface that is not JSON-RPC, under its prefix.
    pub rest: Option<Arc<dyn Rest>>,
}

impl fmt::Debug for Routes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Routes").field("rollups", &self.rollups.keys()).finish_non_exhaustive()
    }
}

/// Why the server did not start.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}: {cause}")]
pub struct ServerError {
    /// Where.
    pub address: SocketAddr,
    /// Why.
    pub cause: std::io::Error,
}

/// A running server. Stops when it is dropped.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    handle: ServerHandle,
}

impl Server {
    /// Where it listens.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Stops taking requests; those under way are answered.
    pub async fn stop(self) {
        // An error only says that it has stopped already.
        let _ = self.handle.stop();
        self.handle.stopped().await;
    }
}

struct Shared {
    routes: Routes,
    pages: Arc<dyn Pages>,
    limits: Limits,
    service: TowerServiceBuilder<Stack<ReasonedLayer, Identity>, Identity>,
    recovery: Recovery,
    stop: StopHandle,
}

/// An address that is listened on, with nothing served yet: requests wait.
#[derive(Debug)]
pub struct Bound {
    listener: TcpListener,
    address: SocketAddr,
}

/// Listens on an address; port 0 takes a free one.
///
/// # Errors
/// When it cannot be listened on.
pub async fn bind(address: SocketAddr) -> Result<Bound, ServerError> {
    let failed = |cause| ServerError { address, cause };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    Ok(Bound { listener, address })
}

impl Bound {
    /// Where it listens.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }
}

/// Serves routes and pages. Signatures of requests are recovered by threads of the server's own.
pub fn serve(bound: Bound, routes: Routes, pages: Arc<dyn Pages>, limits: Limits) -> Server {
    serve_with(bound, routes, pages, limits, Recovery::default())
}

/// Serves routes and pages. Signatures of requests are recovered by threads that the methods may share.
pub fn serve_with(bound: Bound, routes: Routes, pages: Arc<dyn Pages>, limits: Limits, recovery: Recovery) -> Server {
    let Bound { listener, address } = bound;
    let config = ServerConfig::builder()
        .max_request_body_size(limits.request_bytes)
        .max_response_body_size(limits.response_bytes)
        .max_connections(limits.connections)
        .max_subscriptions_per_connection(limits.subscriptions)
        .set_batch_request_config(BatchRequestConfig::Limit(limits.batch))
        .set_tcp_no_delay(true)
        // Clients take a subscription's id for a string, as Ethereum nodes give it.
        .set_id_provider(RandomStringIdProvider::new(16))
        .build();
    let (stop, handle) = stop_channel();
    let service = jsonrpsee::server::Server::builder()
        .set_config(config)
        .set_rpc_middleware(RpcServiceBuilder::new().layer(ReasonedLayer))
        .to_service_builder();
    let shared = Arc::new(Shared { routes, pages, limits, service, recovery, stop: stop.clone() });
    tokio::spawn(accept(listener, shared, stop));
    Server { address, handle }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>, stop: StopHandle) {
    let places = Arc::new(Semaphore::new(shared.limits.connections as usize));
    loop {
        let stream = tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    // Out of file descriptors, as a rule: trying again at once would only burn the processor.
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            },
            () = stop.clone().shutdown() => return,
        };
        // Whoever comes when all places are taken is turned away at once, before it costs anything.
        let Ok(permit) = Arc::clone(&places).try_acquire_owned() else { continue };
        let shared = Arc::clone(&shared);
        let shutdown = stop.clone().shutdown();
        tokio::spawn(async move {
            // Latency of single small requests is what counts here.
            let _ = stream.set_nodelay(true);
            let service = tower::service_fn(move |request| {
                let shared = Arc::clone(&shared);
                async move { Ok::<_, Infallible>(answer(&shared, request).await) }
            });
            if let Err(error) = serve_with_graceful_shutdown(stream, service, shutdown).await {
                tracing::debug!(%error, "a connection ended");
            }
            drop(permit);
        });
    }
}

async fn answer(shared: &Shared, request: HttpRequest<hyper::body::Incoming>) -> HttpResponse {
    let path = request.uri().path().to_owned();
    if request.method() == Method::OPTIONS {
        return with_cors(respond(StatusCode::NO_CONTENT, "text/plain", String::new()));
    }
    if let Some((rest, path)) = shared.routes.rest.as_ref().and_then(|rest| Some((rest, path.strip_prefix(rest.prefix())?))) {
        return with_cors(plain_http(rest.as_ref(), path, request, shared).await);
    }
    let upgrade = request.headers().contains_key(header::UPGRADE);
    if (request.method() == Method::GET || request.method() == Method::HEAD) && !upgrade {
        // hyper leaves the body of an answer to HEAD out.
        return match shared.pages.page(&path) {
            Some((status, kind, body)) => {
                respond(StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR), kind, body)
            }
            None => respond(StatusCode::NOT_FOUND, "text/plain", format!("there is no page {path}\n")),
        };
    }
    let Some(methods) = route(&shared.routes, &path) else {
        return with_cors(refuse(StatusCode::NOT_FOUND, &unknown_path(&path, &shared.routes)));
    };
    let mut service = shared.service.clone().build(methods, shared.stop.clone());
    let request = if upgrade {
        if request.headers().contains_key(SIGNATURE_HEADER) {
            let text = "a WebSocket has no body that X-Flashbots-Signature could sign: send signed requests by HTTP";
            return refuse(StatusCode::BAD_REQUEST, &unauthorized(text));
        }
        request.map(HttpBody::new)
    } else {
        match with_signer(request, shared).await {
            Ok(request) => request,
            Err(response) => return with_cors(response),
        }
    };
    match service.call(request).await {
        Ok(response) => with_cors(response),
        Err(error) => respond(StatusCode::INTERNAL_SERVER_ERROR, "text/plain", error.to_string()),
    }
}

/// Hands a request over to an interface that is not JSON-RPC.
async fn plain_http(rest: &dyn Rest, path: &str, request: HttpRequest<hyper::body::Incoming>, shared: &Shared) -> HttpResponse {
    let post = request.method() == Method::POST;
    if !post && request.method() != Method::GET {
        return respond(StatusCode::METHOD_NOT_ALLOWED, "text/plain", "GET or POST\n".to_owned());
    }
    let path = path.to_owned();
    match read_body(request.into_body(), shared.limits.request_bytes as usize).await {
        Ok(body) => {
            let (status, body) = rest.answer(RestRequest { post, path, body: body.to_vec() }).await;
            respond(StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR), "application/json", body)
        }
        Err(error) => refuse(StatusCode::PAYLOAD_TOO_LARGE, &error),
    }
}

/// Reads a body that is not larger than the limit, and comes in time.
async fn read_body(body: hyper::body::Incoming, limit: usize) -> Result<hyper::body::Bytes, ErrorObjectOwned> {
    let read = tokio::time::timeout(BODY_TIMEOUT, Limited::new(body, limit).collect()).await;
    read.map_err(|_| "it took too long".into()).and_then(|read| read).map(|body| body.to_bytes()).map_err(|error| {
        let text = format!("the request cannot be read, or is larger than {limit} bytes: {error}");
        plain(codes::LIMIT, "too_large", text, "split the request")
    })
}

fn route(routes: &Routes, path: &str) -> Option<Methods> {
    let path = path.trim_end_matches('/');
    if path.is_empty() {
        return Some(routes.root.clone());
    }
    let id = path.strip_prefix("/rollup/")?;
    let chain = match id.strip_prefix("0x") {
        Some(hex) => ChainId::from_str_radix(hex, 16).ok()?,
        None => id.parse().ok()?,
    };
    routes.rollups.get(&chain).cloned()
}

/// Reads the body and verifies the signature over it, before anything is parsed.
async fn with_signer(
    request: HttpRequest<hyper::body::Incoming>,
    shared: &Shared,
) -> Result<HttpRequest<HttpBody>, HttpResponse> {
    let (mut parts, body) = request.into_parts();
    let bytes = read_body(body, shared.limits.request_bytes as usize)
        .await
        .map_err(|error| refuse(StatusCode::PAYLOAD_TOO_LARGE, &error))?;
    if let Some(value) = parts.headers.get(SIGNATURE_HEADER) {
        let value = value.clone();
        let body = bytes.clone();
        let verified = shared.recovery.run(move || {
            let text = value.to_str().map_err(|_| IdentityError::Malformed)?;
            verify_header(text, &body)
        });
        match verified.await {
            Ok(Ok(signer)) => {
                parts.extensions.insert(signer);
            }
            Ok(Err(error)) => return Err(refuse(StatusCode::OK, &unauthorized(&error.to_string()))),
            Err(error) => return Err(refuse(StatusCode::OK, &ErrorObjectOwned::from(error))),
        }
    }
    Ok(HttpRequest::from_parts(parts, HttpBody::new(Full::new(bytes))))
}

fn unauthorized(text: &str) -> ErrorObjectOwned {
    let hint = "sign keccak-256 of the exact body as a 0x-prefixed hex text, by EIP-191";
    plain(codes::UNAUTHORIZED, "invalid_request_signature", text, hint)
}

fn unknown_path(path: &str, routes: &Routes) -> ErrorObjectOwned {
    let served: Vec<String> = routes.rollups.keys().map(|chain| format!("/rollup/{chain}")).collect();
    let hint = format!("served are / and {}", served.join(", "));
    plain(codes::NOT_FOUND, "unknown_rollup", format!("nothing is served at {path}"), &hint)
}

fn refuse(status: StatusCode, error: &ErrorObjectOwned) -> HttpResponse {
    let body = serde_json::json!({ "jsonrpc": "2.0", "id": null, "error": error });
    respond(status, "application/json", body.to_string())
}

fn respond(status: StatusCode, kind: &'static str, body: String) -> HttpResponse {
    let mut response = HttpResponse::new(HttpBody::from(body));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static(kind));
    response
}

/// Wallets and dashboards call from browsers.
fn with_cors(mut response: HttpResponse) -> HttpResponse {
    let headers = response.headers_mut();
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, header::HeaderValue::from_static("*"));
    headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, header::HeaderValue::from_static("content-type, x-flashbots-signature"));
    response
}
