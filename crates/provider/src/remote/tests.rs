//! Against a node of a few lines: what goes over the wire. The round trip with a real node is an integration test.

mod announced;
mod follow;
mod logs;
mod several;

use std::sync::Arc;

use alloy_eips::{eip2935::HISTORY_STORAGE_ADDRESS, eip4788::BEACON_ROOTS_ADDRESS};
use alloy_primitives::{Address, B256, U256, address, keccak256};
use lockstep_simulation::{EthereumFork, ForkSchedule, Rules, StateError, StateKey};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use super::{RemoteLimits, RemoteNode, RpcFailure};
use crate::{NodeError, RollupNode};

const CHAIN: u64 = 901;
const HEAD: B256 = B256::repeat_byte(0xaa);
const PARENT: B256 = B256::repeat_byte(0xbb);
const GRANDPARENT: B256 = B256::repeat_byte(0xcc);
const RICH: Address = address!("0000000000000000000000000000000000000001");
const NOBODY: Address = address!("0000000000000000000000000000000000000002");
const CODE: [u8; 3] = [0x60, 0x01, 0x00];

type Handler = fn(&str, &Value) -> Result<Value, i64>;

/// A node, and every request body that it got.
struct Stub {
    url: String,
    seen: Arc<Mutex<Vec<Value>>>,
}

impl Stub {
    async fn start(handler: Handler) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let seen = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&seen);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, handler, Arc::clone(&log)));
            }
        });
        Self { url, seen }
    }

    async fn connect(&self) -> Result<RemoteNode, NodeError> {
        let forks = ForkSchedule::always(Rules::Ethereum(EthereumFork::Osaka));
        RemoteNode::connect(CHAIN, &self.url, forks, RemoteLimits { batch: 2, ..RemoteLimits::default() }).await
    }

    /// The batches that readers of the state caused.
    fn batches(&self) -> Vec<Vec<Value>> {
        let seen = self.seen.lock();
        seen.iter().filter_map(Value::as_array).filter(|batch| !opens_a_block(batch)).cloned().collect()
    }
}

/// Whether a batch asks for what opening the next block reads, which comes by itself.
fn opens_a_block(batch: &[Value]) -> bool {
    let system = [HISTORY_STORAGE_ADDRESS, BEACON_ROOTS_ADDRESS].map(|address| json!(address));
    batch.iter().any(|call| system.contains(&call["params"][0]))
}

async fn serve(mut stream: TcpStream, handler: Handler, log: Arc<Mutex<Vec<Value>>>) {
    let Some(request) = read_request(&mut stream).await else { return };
    let answer = match &request {
        Value::Array(calls) => Value::Array(calls.iter().map(|call| answer(call, handler)).collect()),
        call => answer(call, handler),
    };
    log.lock().push(request);
    let answer = answer.to_string();
    let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\ncontent-length:";
    let _ = stream.write_all(format!("{head} {}\r\n\r\n{answer}", answer.len()).as_bytes()).await;
}

/// The JSON of one HTTP request.
async fn read_request(stream: &mut TcpStream) -> Option<Value> {
    let mut bytes = Vec::new();
    let mut chunk = [0; 4096];
    loop {
        match stream.read(&mut chunk).await {
            Ok(read) if read > 0 => bytes.extend_from_slice(&chunk[..read]),
            _ => return None,
        }
        if let Some(request) = body(&bytes) {
            return Some(request);
        }
    }
}

fn body(bytes: &[u8]) -> Option<Value> {
    let (head, body) = std::str::from_utf8(bytes).ok()?.split_once("\r\n\r\n")?;
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok()).flatten()
    })?;
    if body.len() == length { serde_json::from_str(body).ok() } else { None }
}

fn answer(call: &Value, handler: Handler) -> Value {
    let method = call["method"].as_str().unwrap_or_default();
    match handler(method, &call["params"]) {
        Ok(result) => json!({ "jsonrpc": "2.0", "id": call["id"], "result": result }),
        Err(code) => json!({
            "jsonrpc": "2.0", "id": call["id"],
            "error": { "code": code, "message": format!("no {method}"), "data": "0x08c379a0" },
        }),
    }
}

fn block(number: u64, hash: B256, parent: B256) -> Value {
    json!({
        "hash": hash, "parentHash": parent, "number": format!("{number:#x}"), "timestamp": format!("{:#x}", number * 10),
        "gasLimit": "0x1c9c380", "gasUsed": "0x5208", "baseFeePerGas": "0x3b9aca00", "miner": RICH, "extraData": "0x",
        "receiptsRoot": HEAD, "transactions": [],
    })
}

fn plain(method: &str, params: &Value) -> Result<Value, i64> {
    let rich = params[0] == json!(RICH);
    Ok(match method {
        "eth_chainId" => json!("0x385"),
        "web3_clientVersion" => json!("stub/1"),
        "eth_getBlockByNumber" if params[0] == "0x5" => block(5, B256::repeat_byte(5), B256::repeat_byte(4)),
        "eth_getBlockByNumber" => block(10, HEAD, PARENT),
        "eth_getBlockByHash" if params[0] == json!(HEAD) => block(10, HEAD, PARENT),
        "eth_getBlockByHash" if params[0] == json!(PARENT) => block(9, PARENT, GRANDPARENT),
        "eth_getBlockByHash" if params[0] == json!(GRANDPARENT) => block(8, GRANDPARENT, B256::repeat_byte(0xdd)),
        "eth_getBlockByHash" => Value::Null,
        "eth_getBalance" => json!(if rich { "0x5" } else { "0x0" }),
        "eth_getTransactionCount" => json!(if rich { "0x2" } else { "0x0" }),
        "eth_getCode" => json!(if rich { "0x600100" } else { "0x" }),
        "eth_getStorageAt" => json!(B256::with_last_byte(7)),
        "eth_getTransactionReceipt" => Value::Null,
        _ => return Err(-32601),
    })
}

#[tokio::test]
async fn state_comes_in_batches_pinned_to_the_block() {
    let stub = Stub::start(plain).await;
    let node = stub.connect().await.unwrap();
    let head = node.head().await.unwrap();
    assert_eq!((head.hash, head.number, head.base_fee, head.blob_gas_used), (HEAD, 10, 1_000_000_000, None));
    assert_eq!(*node.heads().borrow(), head);

    let state = node.state_at(HEAD).await.unwrap();
    assert_eq!(state.account(RICH), Err(StateError::Missing(StateKey::Account(RICH))));
    assert!(state.account(NOBODY).is_err());
    assert!(state.storage(RICH, U256::from(3)).is_err());
    assert!(state.block_hash(5).is_err());
    assert_eq!(node.fetch_missing(HEAD).await, Ok(4));
    assert_eq!(node.fetch_missing(HEAD).await, Ok(0), "nothing was missed since");

    let rich = state.account(RICH).unwrap().unwrap();
    assert_eq!((rich.balance, rich.nonce, rich.code_hash), (U256::from(5), 2, keccak256(CODE)));
    assert_eq!(state.code(rich.code_hash).unwrap().original_bytes().as_ref(), CODE.as_slice());
    assert_eq!(state.account(NOBODY), Ok(None), "without balance, nonce and code it does not exist");
    assert_eq!(state.storage(RICH, U256::from(3)), Ok(U256::from(7)));
    assert_eq!(state.block_hash(5), Ok(B256::repeat_byte(5)));
    assert_eq!((state.block_hash(10), state.block_hash(9), state.block_hash(11)), (Ok(HEAD), Ok(PARENT), Ok(B256::ZERO)));

    let batches = stub.batches();
    let calls: Vec<&Value> = batches.iter().flatten().collect();
    assert_eq!((batches.len(), calls.len()), (5, 9), "at most two calls in a batch");
    let pinned = json!({ "blockHash": HEAD });
    for call in calls.into_iter().filter(|call| call["method"] != "eth_getBlockByNumber") {
        assert_eq!(call["params"].as_array().and_then(|params| params.last()), Some(&pinned), "{call}");
    }
}

#[tokio::test]
async fn every_batch_of_block_hashes_begins_with_a_look_at_the_block_itself() {
    let stub = Stub::start(plain).await;
    let node = stub.connect().await.unwrap();
    let state = node.state_at(HEAD).await.unwrap();
    for number in 3..6 {
        assert!(state.block_hash(number).is_err());
    }
    assert_eq!(node.fetch_missing(HEAD).await, Ok(3));
    assert_eq!(state.block_hash(5), Ok(B256::repeat_byte(5)));
    let asked: Vec<Vec<Value>> =
        stub.batches().into_iter().map(|batch| batch.into_iter().map(|call| call["params"][0].clone()).collect()).collect();
    for batch in &asked {
        assert_eq!((batch.len(), &batch[0]), (2, &json!("0xa")), "{asked:?}");
    }
    assert_eq!(asked.len(), 3, "{asked:?}");
}

#[tokio::test]
async fn what_the_node_does_not_have_is_said() {
    let node = Stub::start(plain).await.connect().await.unwrap();
    let nowhere = B256::repeat_byte(9);
    let unknown = NodeError::UnknownBlock { chain: CHAIN, hash: nowhere };
    assert_eq!(node.state_at(nowhere).await.map(|_| ()), Err(unknown.clone()));
    assert_eq!(node.fetch_missing(nowhere).await, Err(unknown));
    assert_eq!(node.landed(nowhere).await, Ok(None));
    let failure = node.request("eth_secret".into(), Value::Null).await.unwrap_err();
    assert_eq!(
        failure,
        RpcFailure { code: -32601, message: "no eth_secret".into(), data: Some(json!("0x08c379a0")), cause: None },
        "code, message and data are the node's"
    );
    assert_eq!(node.request("eth_chainId".into(), json!([])).await, Ok(json!("0x385")));
    let head = node.head().await.unwrap();
    let error = node.plan(&head, &[102], RICH).await.unwrap_err().to_string();
    assert!(error.contains("stub/1 cannot be told which block to make"), "{error}");
}

#[tokio::test]
async fn the_blocks_of_a_slot_are_found_from_the_head_back() {
    let node = Stub::start(plain).await.connect().await.unwrap();
    let numbers = async |from, until| {
        let blocks = node.blocks_between(from, until).await.unwrap();
        blocks.iter().map(|block| block.number).collect::<Vec<_>>()
    };
    assert_eq!(numbers(90, 101).await, [9, 10]);
    assert_eq!(numbers(90, 100).await, [9], "the end is not part of a slot");
    assert_eq!(numbers(91, 101).await, [10]);
    assert!(numbers(101, 200).await.is_empty());
    let gone = NodeError::UnknownBlock { chain: CHAIN, hash: B256::repeat_byte(0xdd) };
    assert_eq!(node.blocks_between(80, 101).await, Err(gone), "what came before is not known, so it is not nothing");
}

#[tokio::test]
async fn a_node_of_another_chain_or_of_other_rules_is_refused() {
    let other_chain: Handler = |method, params| if method == "eth_chainId" { Ok(json!("0x1")) } else { plain(method, params) };
    let error = Stub::start(other_chain).await.connect().await.unwrap_err().to_string();
    assert!(error.contains("serves chain 1:"), "{error}");

    let other_rules: Handler = |method, params| match method {
        "web3_clientVersion" => Ok(json!("anvil/v1.7.1")),
        "anvil_nodeInfo" => Ok(json!({ "hardFork": "Prague", "transactionOrder": "fees" })),
        _ => plain(method, params),
    };
    let error = Stub::start(other_rules).await.connect().await.unwrap_err().to_string();
    assert!(error.contains("--hardfork osaka"), "{error}");

    let unreachable =
        RemoteNode::connect(CHAIN, "http://127.0.0.1:1/key", ForkSchedule::Ethereum(Vec::new()), RemoteLimits::default());
    let error = unreachable.await.unwrap_err().to_string();
    assert!(!error.contains("key"), "an address may hold a key: {error}");
}

#[tokio::test]
async fn a_plan_is_what_anvil_will_do() {
    let anvil: Handler = |method, params| match method {
        "web3_clientVersion" => Ok(json!("anvil/v1.7.1")),
        "anvil_nodeInfo" => Ok(json!({ "hardFork": "Osaka", "transactionOrder": "fifo" })),
        _ => plain(method, params),
    };
    let node = Stub::start(anvil).await.connect().await.unwrap();
    let head = node.head().await.unwrap();
    let plans = node.plan(&head, &[102, 104], NOBODY).await.unwrap();
    assert_eq!(plans.iter().map(|plan| plan.next.timestamp).collect::<Vec<_>>(), [102, 104]);
    for (number, plan) in (11..).zip(&plans) {
        assert!(plan.forced.is_empty());
        assert_eq!(plan.next.prev_randao, super::dev::prev_randao(HEAD, number));
        assert_eq!((plan.next.beneficiary, plan.next.gas_limit), (NOBODY, 30_000_000));
        assert_eq!(plan.next.parent_beacon_block_root, Some(B256::ZERO));
    }
}
