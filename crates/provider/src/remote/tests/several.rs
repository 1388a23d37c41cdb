//! Several endpoints of one rollup, each of which can fail in its own way.

use std::{net::SocketAddr, sync::Arc};

use alloy_primitives::{B256, U64};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::{
    io::AsyncWriteExt,
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

use super::{CHAIN, read_request};
use crate::{
    NodeError,
    remote::{
        RemoteLimits,
        errors::state_failure,
        wire::{AskedFrom, Call, Rpc},
    },
};

/// What an endpoint does when it is asked.
enum Reply {
    Json(Value),
    Http {
        status: u16,
        kind: &'static str,
        body: &'static str,
        /// Bytes that are promised and do not come.
        missing: usize,
    },
    /// Nothing, and the connection stays.
    Silence,
}

type Script = Box<dyn FnMut(&Value) -> Reply + Send>;

/// An endpoint, and every method that it was asked for.
struct Endpoint {
    url: String,
    address: SocketAddr,
    asked: Arc<Mutex<Vec<String>>>,
    script: Arc<Mutex<Script>>,
    serving: JoinHandle<()>,
}

impl Endpoint {
    async fn start(script: Script) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (asked, script) = (Arc::new(Mutex::new(Vec::new())), Arc::new(Mutex::new(script)));
        let serving = tokio::spawn(accept(listener, Arc::clone(&asked), Arc::clone(&script)));
        Self { url: format!("http://{address}/key"), address, asked, script, serving }
    }

    async fn stop(&mut self) {
        self.serving.abort();
        // Its listener is gone when the task is.
        assert!((&mut self.serving).await.unwrap_err().is_cancelled());
    }

    async fn start_again(&mut self) {
        let listener = TcpListener::bind(self.address).await.unwrap();
        self.serving = tokio::spawn(accept(listener, Arc::clone(&self.asked), Arc::clone(&self.script)));
    }

    fn set(&self, script: Script) {
        *self.script.lock() = script;
    }

    /// The methods that it was asked for since the last time.
    fn asked(&self) -> Vec<String> {
        std::mem::take(&mut *self.asked.lock())
    }
}

async fn accept(listener: TcpListener, asked: Arc<Mutex<Vec<String>>>, script: Arc<Mutex<Script>>) {
    while let Ok((stream, _)) = listener.accept().await {
        tokio::spawn(serve(stream, Arc::clone(&asked), Arc::clone(&script)));
    }
}

async fn serve(mut stream: TcpStream, asked: Arc<Mutex<Vec<String>>>, script: Arc<Mutex<Script>>) {
    let Some(request) = read_request(&mut stream).await else { return };
    asked.lock().push(request["method"].as_str().unwrap_or("batch").to_owned());
    let reply = (*script.lock())(&request);
    let (status, kind, body, missing) = match reply {
        Reply::Json(body) => (200, "application/json", body.to_string(), 0),
        Reply::Http { status, kind, body, missing } => (status, kind, body.to_owned(), missing),
        Reply::Silence => std::future::pending().await,
    };
    let length = body.len() + missing;
    let head = format!("HTTP/1.1 {status} X\r\ncontent-type: {kind}\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n");
    let _ = stream.write_all(format!("{head}{body}").as_bytes()).await;
}

fn result(request: &Value, result: Value) -> Value {
    json!({ "jsonrpc": "2.0", "id": request["id"], "result": result })
}

fn error(request: &Value, code: i64, message: &str) -> Reply {
    Reply::Json(json!({ "jsonrpc": "2.0", "id": request["id"], "error": { "code": code, "message": message } }))
}

fn text(body: &'static str) -> Reply {
    Reply::Http { status: 200, kind: "application/json", body, missing: 0 }
}

fn answered(request: &Value) -> Value {
    match request {
        Value::Array(calls) => Value::Array(calls.iter().map(answered).collect()),
        call if call["method"] == "eth_chainId" => result(call, json!(format!("{CHAIN:#x}"))),
        call if call["method"] == "eth_getBlockByHash" => result(call, json!({ "number": "0x7" })),
        call => result(call, json!("0x7")),
    }
}

/// An endpoint that does everything as it should.
fn well() -> Script {
    Box::new(|request| Reply::Json(answered(request)))
}

/// An endpoint that is as it should be, but for one method.
fn but(method: &'static str, mut reply: impl FnMut(&Value) -> Reply + Send + 'static) -> Script {
    Box::new(move |request| {
        let is_it = request["method"] == method || (method == "batch" && request.is_array());
        if is_it { reply(request) } else { Reply::Json(answered(request)) }
    })
}

fn limits() -> RemoteLimits {
    RemoteLimits {
        timeout_ms: 20_000,
        attempts: 3,
        backoff_ms: 1,
        max_backoff_ms: 2,
        lie_backoff_ms: 60_000,
        max_answer_bytes: 1_000,
        ..RemoteLimits::default()
    }
}

fn rpc(endpoints: &[&Endpoint]) -> Rpc {
    let urls: Vec<String> = endpoints.iter().map(|endpoint| endpoint.url.clone()).collect();
    Rpc::new(CHAIN, &urls, limits()).unwrap()
}

async fn height(rpc: &Rpc) -> Result<AskedFrom<U64>, NodeError> {
    rpc.ask_from("eth_blockNumber", json!([])).await
}

fn from(endpoint: usize) -> Result<AskedFrom<U64>, NodeError> {
    Ok(AskedFrom { value: U64::from(7), endpoint })
}

#[tokio::test]
async fn what_an_endpoint_answers_instead_is_named_and_another_one_is_asked() {
    let long = "{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":\"".to_owned() + &"x".repeat(2_000) + "\"}";
    let long: &'static str = long.leak();
    let http = |status, kind, body| move |_: &Value| Reply::Http { status, kind, body, missing: 0 };
    let short = |_: &Value| Reply::Http { status: 200, kind: "application/json", body: "{\"jsonrpc\":", missing: 50 };
    let page = "<!DOCTYPE html><html>502 Bad Gateway</html>";
    for (script, code, cause) in [
        (but("eth_blockNumber", http(200, "text/plain", page)), "not_json_rpc", "a web page (HTTP status 200)"),
        (but("eth_blockNumber", http(502, "text/html; charset=utf-8", "oops")), "not_json_rpc", "a web page (HTTP status 502)"),
        (but("eth_blockNumber", http(200, "application/json", "{\"jsonrpc\":\"2.0\",\"resu")), "not_json_rpc", "cut short"),
        (but("eth_blockNumber", short), "not_json_rpc", "cut short"),
        (but("eth_blockNumber", http(200, "application/json", "")), "not_json_rpc", "an empty answer"),
        (but("eth_blockNumber", http(200, "application/json", "{}")), "not_json_rpc", "an answer to another call"),
        (but("eth_blockNumber", http(200, "application/json", long)), "not_json_rpc", "more than 1000 bytes"),
        (but("eth_blockNumber", http(200, "text/plain", "go away")), "not_json_rpc", "go away"),
        (but("eth_blockNumber", http(401, "text/plain", "no such key")), "node_unreachable", "HTTP status 401: no such key"),
        (but("eth_blockNumber", http(429, "text/plain", "slow down")), "node_unreachable", "HTTP status 429: slow down"),
        (but("eth_blockNumber", http(503, "application/json", "{}")), "node_unreachable", "HTTP status 503"),
        (but("eth_chainId", |_: &Value| text("[]")), "not_json_rpc", "no JSON-RPC answer"),
        (but("eth_chainId", |request: &Value| error(request, -32000, "not now")), "node_unreachable", "eth_chainId: not now"),
    ] {
        let (bad, good) = (Endpoint::start(script).await, Endpoint::start(well()).await);
        let alone = height(&rpc(&[&bad])).await.unwrap_err();
        assert_eq!(alone.code(), code, "{alone}");
        assert!(alone.to_string().contains(cause), "{alone}");
        assert!(!alone.to_string().contains("key") || cause.contains("key"), "an address may hold a key: {alone}");

        let both = rpc(&[&bad, &good]);
        assert_eq!(height(&both).await, from(1), "{cause}");
        let [first, second] = both.endpoints().try_into().unwrap();
        assert_eq!(first.degraded.unwrap().0, code);
        assert_eq!((first.failures, second.degraded, second.failures), (1, None, 0));
    }
}

#[tokio::test]
async fn wrong_types_are_named_and_another_endpoint_is_asked() {
    let wrong = || but("eth_blockNumber", |request| Reply::Json(result(request, json!({ "a": 1 }))));
    let (bad, good) = (Endpoint::start(wrong()).await, Endpoint::start(well()).await);
    let alone = height(&rpc(&[&bad])).await.unwrap_err();
    assert_eq!(alone.code(), "node_unreachable");
    assert!(alone.to_string().contains("eth_blockNumber: the answer cannot be read"), "{alone}");
    assert_eq!(height(&rpc(&[&bad, &good])).await, from(1));
}

#[tokio::test]
async fn an_endpoint_of_another_chain_is_asked_for_nothing_but_its_chain() {
    let other = || but("eth_chainId", |request| Reply::Json(result(request, json!("0x1"))));
    let (bad, good) = (Endpoint::start(other()).await, Endpoint::start(well()).await);
    assert_eq!(height(&rpc(&[&bad])).await, Err(NodeError::WrongChain { chain: CHAIN, served: 1 }));
    assert_eq!(bad.asked(), ["eth_chainId"]);
    let both = rpc(&[&bad, &good]);
    for _ in 0..3 {
        assert_eq!(height(&both).await, from(1));
    }
    assert_eq!(bad.asked(), ["eth_chainId"]);
    assert_eq!(good.asked(), ["eth_chainId", "eth_blockNumber", "eth_blockNumber", "eth_blockNumber"]);
}

#[tokio::test]
async fn an_endpoint_that_dies_is_replaced_and_checked_again_when_it_is_back() {
    let (mut first, mut second) = (Endpoint::start(well()).await, Endpoint::start(well()).await);
    let rpc = rpc(&[&first, &second]);
    assert_eq!(height(&rpc).await, from(0));
    first.stop().await;
    assert_eq!(height(&rpc).await, from(1));
    assert_eq!(rpc.endpoints()[0].degraded.as_ref().map(|(code, _)| *code), Some("node_unreachable"));
    first.start_again().await;
    assert_eq!(height(&rpc).await, from(1), "what works is kept");
    second.stop().await;
    first.asked();
    assert_eq!(height(&rpc).await, from(0));
    assert_eq!(first.asked(), ["eth_chainId", "eth_blockNumber"]);
    assert_eq!(rpc.endpoints()[0].degraded, None);
    first.stop().await;
    let error = height(&rpc).await.unwrap_err();
    assert_eq!(error.code(), "node_unreachable");
    assert!(!error.to_string().contains("key"), "an address may hold a key: {error}");
}

#[tokio::test]
async fn an_endpoint_that_never_answers_leaves_time_for_another() {
    let (silent, good) = (Endpoint::start(Box::new(|_| Reply::Silence)).await, Endpoint::start(well()).await);
    let limits = RemoteLimits { timeout_ms: 2_000, ..limits() };
    let both = Rpc::new(CHAIN, &[silent.url.clone(), good.url.clone()], limits).unwrap();
    assert_eq!(height(&both).await, from(1));
    let alone = Rpc::new(CHAIN, std::slice::from_ref(&silent.url), RemoteLimits { timeout_ms: 100, ..limits }).unwrap();
    let error = height(&alone).await.unwrap_err();
    assert!(error.to_string().contains("no answer within"), "{error}");
}

#[tokio::test]
async fn an_endpoint_that_lags_is_passed_over() {
    let hash = B256::repeat_byte(5);
    let get = async |rpc: &Rpc| rpc.call_from::<Value>("eth_getBlockByHash", json!([hash, false])).await;
    let null = || but("eth_getBlockByHash", |request| Reply::Json(result(request, Value::Null)));
    let lacks = || but("eth_getBlockByHash", |request| error(request, -32000, "header for hash not found"));
    let good = Endpoint::start(well()).await;
    for script in [null as fn() -> Script, lacks] {
        let bad = Endpoint::start(script()).await;
        let both = rpc(&[&bad, &good]);
        assert_eq!(get(&both).await.unwrap().endpoint, 1);
        assert_eq!(both.endpoints()[0].degraded, None, "lagging is no failure");
        assert_eq!(height(&both).await, from(1), "the one that knows more is asked first from now on");
    }
    // What nobody has is said as they say it.
    let (nulls, lacking) = (Endpoint::start(null()).await, Endpoint::start(lacks()).await);
    assert_eq!(get(&rpc(&[&nulls, &lacking])).await.unwrap(), AskedFrom { value: Value::Null, endpoint: 0 });
    let rpc = rpc(&[&lacking]);
    let failure = get(&rpc).await.unwrap_err();
    assert_eq!(state_failure(&rpc, hash, failure), NodeError::UnknownBlock { chain: CHAIN, hash });
}

#[tokio::test]
async fn a_state_that_is_pruned_is_asked_of_others_and_named() {
    let hash = B256::repeat_byte(5);
    let pruned = |request: &Value| error(request, -32000, "missing trie node 5c01");
    let (bad, good) = (Endpoint::start(but("eth_getBalance", pruned)).await, Endpoint::start(well()).await);
    let get = async |rpc: &Rpc| rpc.call_from::<U64>("eth_getBalance", json!([hash])).await;
    assert_eq!(get(&rpc(&[&bad, &good])).await.unwrap().endpoint, 1);
    let rpc = rpc(&[&bad]);
    let cause = "missing trie node 5c01".into();
    let failure = get(&rpc).await.unwrap_err();
    assert_eq!(state_failure(&rpc, hash, failure), NodeError::Pruned { chain: CHAIN, hash, cause });
}

#[tokio::test]
async fn an_overloaded_endpoint_is_left_alone_and_asked_again() {
    let http = |_: &Value| Reply::Http { status: 429, kind: "text/plain", body: "slow down", missing: 0 };
    let json = |request: &Value| error(request, -32005, "limit exceeded");
    for overload in [http as fn(&Value) -> Reply, json] {
        let mut left = 2;
        let endpoint = Endpoint::start(but("eth_blockNumber", move |request| {
            left -= 1;
            if left >= 0 { overload(request) } else { Reply::Json(answered(request)) }
        }));
        let endpoint = endpoint.await;
        let rpc = rpc(&[&endpoint]);
        assert_eq!(height(&rpc).await, from(0));
        let asked = endpoint.asked().into_iter().filter(|method| method == "eth_blockNumber").count();
        assert_eq!((asked, rpc.endpoints()[0].failures), (3, 2));
    }
    // One that does not recover says so itself.
    let endpoint = Endpoint::start(but("eth_blockNumber", json)).await;
    let failure = rpc(&[&endpoint]).call::<U64>("eth_blockNumber", json!([])).await.unwrap_err();
    assert_eq!((failure.code, failure.message.as_str()), (-32005, "limit exceeded"));
}

#[tokio::test]
async fn a_batch_with_a_missing_answer_is_asked_of_another_endpoint() {
    let calls: Vec<Call> = vec![("eth_blockNumber", json!([])), ("eth_gasPrice", json!([]))];
    let one = |request: &Value| Reply::Json(json!([answered(&request[0])]));
    let (bad, good) = (Endpoint::start(but("batch", one)).await, Endpoint::start(well()).await);
    let answers = rpc(&[&bad, &good]).batch_from(&calls).await.unwrap();
    assert_eq!(answers, AskedFrom { value: vec![Ok(json!("0x7")), Ok(json!("0x7"))], endpoint: 1 });
    let alone = rpc(&[&bad]).batch(&calls).await.unwrap_err().into_error(CHAIN, "batch");
    assert_eq!(alone.code(), "not_json_rpc");
    assert!(alone.to_string().contains("answers to 1 of the 2 calls of a batch are missing"), "{alone}");
    assert!(rpc(&[&bad]).batch(&[]).await.unwrap().is_empty());
    // A batch that is refused as a whole is refused call by call.
    bad.set(but("batch", |_| text("{\"jsonrpc\":\"2.0\",\"id\":null,\"error\":{\"code\":-32600,\"message\":\"too long\"}}")));
    let codes = rpc(&[&bad, &good]).batch(&calls).await.unwrap().into_iter().map(|answer| answer.unwrap_err().code);
    assert_eq!(codes.collect::<Vec<_>>(), [-32600, -32600]);
}

#[tokio::test]
async fn a_request_that_is_wrong_itself_is_asked_once() {
    let (first, second) =
        (Endpoint::start(but("eth_call", |request| error(request, 3, "reverted"))).await, Endpoint::start(well()).await);
    let rpc = rpc(&[&first, &second]);
    let failure = rpc.forward("eth_call".into(), Value::Null).await.unwrap_err();
    assert_eq!((failure.code, failure.cause), (3, None));
    assert_eq!(first.asked(), ["eth_chainId", "eth_call"]);
    assert!(second.asked().is_empty());
    assert_eq!(rpc.endpoints()[0].failures, 0);
}

#[tokio::test]
async fn what_makes_a_block_is_asked_once_unless_nobody_got_it() {
    let lost = but("evm_mine", |_| text("{\"jsonrpc\":\"2.0\",\"resu"));
    let (mut first, second) = (Endpoint::start(lost).await, Endpoint::start(well()).await);
    let rpc = rpc(&[&first, &second]);
    let error = rpc.ask::<Value>("evm_mine", json!([])).await.unwrap_err();
    assert_eq!(error.code(), "not_json_rpc");
    assert_eq!(first.asked(), ["eth_chainId", "evm_mine"]);
    assert!(second.asked().is_empty(), "the first may have made the block");
    first.stop().await;
    assert_eq!(rpc.ask_from::<U64>("evm_mine", json!([])).await, from(1));
}

#[tokio::test]
async fn an_endpoint_that_lied_is_left_alone_for_long() {
    let (first, second) = (Endpoint::start(well()).await, Endpoint::start(well()).await);
    let lie = NodeError::WrongBlock { chain: CHAIN, cause: "its hash is another".into() };
    let both = rpc(&[&first, &second]);
    let AskedFrom { endpoint, .. } = height(&both).await.unwrap();
    both.blame(endpoint, &lie);
    for _ in 0..3 {
        assert_eq!(height(&both).await, from(1));
    }
    let alone = rpc(&[&first]);
    alone.blame(0, &lie);
    assert_eq!(height(&alone).await, Err(lie.clone()), "nobody is left to be believed");
    assert_eq!(alone.endpoints()[0].degraded, Some(("wrong_block", lie.to_string())));
}

#[tokio::test]
async fn a_filter_is_asked_of_the_endpoint_that_opened_it() {
    let (first, second) = (Endpoint::start(well()).await, Endpoint::start(well()).await);
    let rpc = rpc(&[&first, &second]);
    assert_eq!(rpc.call_at::<U64>(1, "eth_getFilterChanges", json!(["0x1"])).await, Ok(U64::from(7)));
    assert!(first.asked().is_empty());
    assert_eq!(second.asked(), ["eth_chainId", "eth_getFilterChanges"]);
    let failure = rpc.call_at::<U64>(2, "eth_getFilterChanges", json!(["0x1"])).await.unwrap_err();
    assert!(failure.message.contains("no such endpoint"), "{failure}");
}
