//! Raw delivery and bundle relays against a node and relays of a few lines.

use std::{sync::Arc, time::Duration};

use alloy::signers::local::PrivateKeySigner;
use alloy_primitives::{Address, B256, Bytes, eip191_hash_message, hex, keccak256};
use lockstep_primitives::{BlockList, Guarantee, ListBlock, recover};
use lockstep_simulation::{
    BlockPlan, EthereumFork, ForkSchedule, LaneError, MemoryState, NextBlock, OpFork, ParentBlock, Rules, SlotRollup,
};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
};

use super::super::{
    RemoteLimits,
    bundle_relay::{BundleRelayAdapter, RelayLimits},
    raw::RawAdapter,
    tail::Tail,
    wire::Rpc,
};
use crate::{DeliveryAdapter, NodeError, PublishedBlock};

const CHAIN: u64 = 901;
/// The block that the slot builds on.
const HEAD: u64 = 10;
const OTHER: B256 = B256::repeat_byte(0xee);
const MINER: Address = Address::repeat_byte(0x11);
const RANDAO: B256 = B256::repeat_byte(0x22);
const LIMIT: Duration = Duration::from_secs(20);

/// A request as a server gets it.
struct Request {
    head: String,
    body: String,
}

impl Request {
    fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (found, value) = line.split_once(':')?;
            found.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }

    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }
}

/// Serves every request with `answer`, which gives status and body. Returns the address.
async fn serve(answer: impl Fn(&Request) -> (u16, String) + Send + Sync + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let answer = Arc::new(answer);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let answer = Arc::clone(&answer);
            tokio::spawn(async move {
                let Some(request) = read(&mut stream).await else { return };
                let (status, body) = answer(&request);
                let head = format!("HTTP/1.1 {status} X\r\ncontent-type: application/json\r\nconnection: close\r\n");
                let _ = stream.write_all(format!("{head}content-length: {}\r\n\r\n{body}", body.len()).as_bytes()).await;
            });
        }
    });
    url
}

async fn read(stream: &mut TcpStream) -> Option<Request> {
    let mut bytes = Vec::new();
    let mut chunk = [0; 4096];
    loop {
        let read = stream.read(&mut chunk).await.ok().filter(|read| *read > 0)?;
        bytes.extend_from_slice(&chunk[..read]);
        let Some((head, body)) = std::str::from_utf8(&bytes).ok()?.split_once("\r\n\r\n") else { continue };
        let request = Request { head: head.to_owned(), body: body.to_owned() };
        if request.header("content-length").and_then(|length| length.parse().ok()) == Some(body.len()) {
            return Some(request);
        }
    }
}

type OnSend = fn(&mut Chain, B256) -> Result<(), (i64, &'static str)>;

/// A chain whose node makes blocks by itself.
struct Chain {
    /// The transactions of every block after [`HEAD`].
    blocks: Vec<Vec<B256>>,
    /// What was sent to its pool.
    sent: Vec<B256>,
    on_send: OnSend,
    /// A block that comes once it was asked for in vain.
    awaited: Option<Vec<B256>>,
    heads: watch::Sender<ParentBlock>,
}

impl Chain {
    fn head(&self) -> u64 {
        HEAD + self.blocks.len() as u64
    }

    fn block(&mut self, number: u64) -> Value {
        if number > self.head() {
            if let Some(block) = self.awaited.take() {
                self.blocks.push(block);
                self.heads.send_replace(ParentBlock { number: self.head(), ..ParentBlock::default() });
            }
            return Value::Null;
        }
        let transactions = number.checked_sub(HEAD + 1).and_then(|index| self.blocks.get(index as usize));
        json!({
            "hash": hash_of(number), "parentHash": hash_of(number - 1), "number": format!("{number:#x}"),
            "timestamp": format!("{:#x}", number * 12), "gasLimit": "0x1c9c380", "gasUsed": "0x5208",
            "baseFeePerGas": "0x3b9aca00", "miner": MINER, "mixHash": RANDAO, "extraData": "0x", "receiptsRoot": OTHER,
            "transactions": transactions.cloned().unwrap_or_default(),
        })
    }

    fn is_mined(&self, tx: &Value) -> bool {
        self.blocks.iter().flatten().any(|mined| json!(mined) == *tx)
    }

    fn answer(&mut self, method: &str, params: &Value) -> Result<Value, (i64, &'static str)> {
        Ok(match method {
            "eth_chainId" => json!(format!("{CHAIN:#x}")),
            "eth_getBlockByNumber" if params[0] == "latest" => self.block(self.head()),
            "eth_getBlockByNumber" => {
                let number = params[0].as_str().and_then(|number| u64::from_str_radix(number.trim_start_matches("0x"), 16).ok());
                self.block(number.unwrap())
            }
            "eth_getBlockByHash" if params[0] == json!(hash_of(HEAD)) => self.block(HEAD),
            "eth_getBlockByHash" => Value::Null,
            "eth_sendRawTransaction" => {
                let raw: Bytes = serde_json::from_value(params[0].clone()).unwrap();
                let hash = keccak256(&raw);
                self.sent.push(hash);
                let on_send = self.on_send;
                on_send(self, hash)?;
                json!(hash)
            }
            "eth_getTransactionReceipt" if self.is_mined(&params[0]) => json!({
                "status": "0x1", "cumulativeGasUsed": "0x5208", "logs": [], "blockNumber": "0xb", "blockHash": hash_of(11),
                "transactionIndex": "0x0",
            }),
            "eth_getTransactionReceipt" => Value::Null,
            _ => return Err((-32601, "the method does not exist")),
        })
    }
}

/// A node, and the way to it.
struct Rig {
    chain: Arc<Mutex<Chain>>,
    tail: Tail,
}

impl Rig {
    async fn new(on_send: OnSend) -> Self {
        let (heads, watched) = watch::channel(ParentBlock::default());
        let chain = Chain { blocks: Vec::new(), sent: Vec::new(), on_send, awaited: None, heads };
        let chain = Arc::new(Mutex::new(chain));
        let served = Arc::clone(&chain);
        let url = serve(move |request| (200, each(&request.json(), |call| answer(&mut served.lock(), call)).to_string())).await;
        let limits = RemoteLimits { backoff_ms: 1, max_backoff_ms: 1, ..RemoteLimits::default() };
        let rpc = Rpc::new(CHAIN, &[url], limits).unwrap();
        let tail = Tail { rpc, forks: forks(), poll: Duration::from_millis(5), heads: watched };
        Self { chain, tail }
    }

    async fn raw(&self, list: &BlockList) -> Result<PublishedBlock, NodeError> {
        RawAdapter::on(self.tail.clone(), LIMIT).publish(&rollup(), list, 0).await
    }

    async fn relay(&self, urls: &[String], list: &BlockList) -> Result<PublishedBlock, NodeError> {
        relay(&self.tail, urls).unwrap().publish(&rollup(), list, 0).await
    }
}

fn each(request: &Value, mut answer: impl FnMut(&Value) -> Value) -> Value {
    match request {
        Value::Array(calls) => Value::Array(calls.iter().map(answer).collect()),
        call => answer(call),
    }
}

fn answer(chain: &mut Chain, call: &Value) -> Value {
    match chain.answer(call["method"].as_str().unwrap(), &call["params"]) {
        Ok(result) => json!({ "jsonrpc": "2.0", "id": call["id"], "result": result }),
        Err((code, message)) => {
            json!({ "jsonrpc": "2.0", "id": call["id"], "error": { "code": code, "message": message } })
        }
    }
}

fn hash_of(number: u64) -> B256 {
    keccak256(number.to_be_bytes())
}

fn forks() -> ForkSchedule {
    ForkSchedule::always(Rules::Ethereum(EthereumFork::Osaka))
}

fn rollup() -> Arc<SlotRollup> {
    let parent = ParentBlock { hash: hash_of(HEAD), number: HEAD, timestamp: HEAD * 12, ..ParentBlock::default() };
    let next = NextBlock { timestamp: (HEAD + 1) * 12, ..NextBlock::default() };
    let blocks = vec![BlockPlan { next, forced: Vec::new() }];
    Arc::new(SlotRollup { chain: CHAIN, forks: forks(), parent, state: Arc::new(MemoryState::new()), blocks })
}

fn raw(index: u8) -> Bytes {
    Bytes::copy_from_slice(&[2, index])
}

fn tx(index: u8) -> B256 {
    keccak256(raw(index))
}

/// A list of that many transactions.
fn list(transactions: u8) -> BlockList {
    let block = ListBlock { number: HEAD + 1, timestamp: (HEAD + 1) * 12, transactions: (0..transactions).map(raw).collect() };
    BlockList { chain: CHAIN, blocks: vec![block] }
}

/// Makes a block of what was sent once the third transaction is there, with others around them.
fn mine_all(chain: &mut Chain, hash: B256) -> Result<(), (i64, &'static str)> {
    if hash == tx(2) {
        chain.blocks.push(vec![OTHER, tx(0), OTHER, tx(1), tx(2)]);
    }
    Ok(())
}

fn cause(error: &NodeError) -> String {
    error.to_string()
}

#[tokio::test]
async fn a_raw_list_is_sent_in_order_and_found_in_its_block() {
    let rig = Rig::new(mine_all).await;
    let block = rig.raw(&list(3)).await.unwrap();
    assert_eq!((block.number, block.hash, block.transactions.len()), (11, hash_of(11), 5));
    assert_eq!(rig.chain.lock().sent, [tx(0), tx(1), tx(2)]);

    // What is there already is not sent again.
    assert_eq!(rig.raw(&list(3)).await, Ok(block));
    assert_eq!(rig.chain.lock().sent.len(), 3);
}

#[tokio::test]
async fn a_raw_list_promises_no_more_than_it_can_keep() {
    let rig = Rig::new(mine_all).await;
    let adapter = RawAdapter::on(rig.tail.clone(), LIMIT);
    assert_eq!((adapter.name(), adapter.carries()), ("raw", Guarantee::G1));
    let parent = rollup().parent.clone();
    let plans = adapter.plan(&ParentBlock { gas_limit: 7, ..parent }, &[132, 144], Address::ZERO).await.unwrap();
    assert_eq!(plans.iter().map(|plan| plan.next.timestamp).collect::<Vec<_>>(), [132, 144]);
    for plan in &plans {
        assert!(plan.forced.is_empty());
        assert_eq!((plan.next.gas_limit, plan.next.beneficiary, plan.next.prev_randao), (7, MINER, RANDAO));
        assert_eq!(plan.next.parent_beacon_block_root, Some(B256::ZERO));
    }
    let elsewhere = ParentBlock { hash: OTHER, ..ParentBlock::default() };
    let error = adapter.plan(&elsewhere, &[132], Address::ZERO).await.unwrap_err();
    assert_eq!(error, NodeError::UnknownBlock { chain: CHAIN, hash: OTHER });
}

#[tokio::test]
async fn what_the_node_has_already_is_no_failure() {
    let rig = Rig::new(|chain, hash| {
        if hash != tx(0) {
            return Err((-32000, "nonce too low: next nonce 2, tx nonce 1"));
        }
        chain.blocks.push(vec![tx(0), tx(1)]);
        Err((-32000, "already known"))
    })
    .await;
    assert_eq!(rig.raw(&list(2)).await.map(|block| block.number), Ok(11));
    assert_eq!(rig.chain.lock().sent, [tx(0), tx(1)]);
}

#[tokio::test]
async fn a_refused_transaction_is_named_with_what_was_sent_before_it() {
    for message in ["insufficient funds for gas * price + value", "nonce too low"] {
        let on_send: OnSend = match message {
            "nonce too low" => |_, hash| if hash == tx(1) { Err((-32000, "nonce too low")) } else { Ok(()) },
            _ => |_, hash| {
                if hash == tx(1) { Err((-32000, "insufficient funds for gas * price + value")) } else { Ok(()) }
            },
        };
        let rig = Rig::new(on_send).await;
        let error = rig.raw(&list(3)).await.unwrap_err();
        let NodeError::List { cause: LaneError::Invalid { block: 0, index: 1, .. }, .. } = &error else { panic!("{error}") };
        let text = cause(&error);
        assert!(text.contains(&tx(1).to_string()) && text.contains(message) && text.contains("1 before it are sent"), "{text}");
        assert_eq!(rig.chain.lock().sent.len(), 2, "nothing is sent after it");
    }
}

#[tokio::test]
async fn a_node_that_takes_nothing_now_does_not_make_the_list_impossible() {
    let rig = Rig::new(|_, _| Err((-32000, "txpool is full"))).await;
    let error = rig.raw(&list(1)).await.unwrap_err();
    assert_eq!(error.code(), "node_unreachable");
    assert!(cause(&error).contains("nothing was sent"), "{error}");
}

#[tokio::test]
async fn a_block_with_a_part_of_the_list_is_another_block() {
    let rig = Rig::new(|chain, hash| {
        if hash == tx(2) {
            chain.blocks.push(vec![tx(0), tx(2)]);
        }
        Ok(())
    })
    .await;
    let error = rig.raw(&list(3)).await.unwrap_err();
    assert_eq!(error.code(), "other_block");
    assert!(cause(&error).contains(&format!("block 11: transaction 1 ({}) is missing", tx(1))), "{error}");
    // Trying again cannot help: the chain has gone on.
    assert_eq!(rig.raw(&list(3)).await.unwrap_err().code(), "other_parent");
    assert_eq!(rig.chain.lock().sent.len(), 3);
}

#[tokio::test]
async fn a_list_in_another_order_is_another_block() {
    let rig = Rig::new(|chain, hash| {
        if hash == tx(2) {
            chain.blocks.push(vec![tx(0), tx(2), tx(1)]);
        }
        Ok(())
    })
    .await;
    let error = rig.raw(&list(3)).await.unwrap_err();
    assert!(cause(&error).contains(&format!("transaction 2 ({}) stands before", tx(2))), "{error}");
}

#[tokio::test]
async fn a_list_may_land_a_block_late_but_not_for_ever() {
    let late = Rig::new(|chain, hash| {
        if hash == tx(1) {
            chain.blocks.extend([vec![OTHER], vec![tx(0), tx(1)]]);
        }
        Ok(())
    })
    .await;
    assert_eq!(late.raw(&list(2)).await.map(|block| block.number), Ok(12));

    let never = Rig::new(|chain, _| {
        chain.blocks.extend([vec![], vec![OTHER], vec![]]);
        Ok(())
    })
    .await;
    let error = never.raw(&list(1)).await.unwrap_err();
    assert!(cause(&error).contains("block 13: it holds none of the list's 1 transactions"), "{error}");
    assert_eq!(never.raw(&list(1)).await.unwrap_err().code(), "other_parent");
}

#[tokio::test]
async fn a_block_on_another_parent_is_not_waited_for() {
    let rig = Rig::new(mine_all).await;
    let mut moved = SlotRollup::clone(&rollup());
    moved.parent.hash = OTHER;
    let adapter = RawAdapter::on(rig.tail.clone(), LIMIT);
    let expected = NodeError::OtherParent { chain: CHAIN, head: hash_of(HEAD), parent: OTHER };
    assert_eq!(adapter.publish(&Arc::new(moved), &list(3), 0).await, Err(expected));
    assert!(rig.chain.lock().sent.is_empty());

    let other_number = BlockList { chain: CHAIN, blocks: vec![ListBlock { number: 12, ..list(1).blocks[0].clone() }] };
    assert_eq!(rig.raw(&other_number).await.unwrap_err().code(), "list_impossible");
}

#[tokio::test]
async fn the_head_watch_ends_the_wait() {
    let mut rig = Rig::new(|_, _| Ok(())).await;
    // Nobody would look again within the limit.
    rig.tail.poll = Duration::from_secs(3_600);
    rig.chain.lock().awaited = Some(vec![tx(0)]);
    assert_eq!(rig.raw(&list(1)).await.map(|block| block.number), Ok(11));
}

#[tokio::test]
async fn a_chain_that_stands_still_is_said_to() {
    let rig = Rig::new(|_, _| Ok(())).await;
    let adapter = RawAdapter::on(rig.tail.clone(), Duration::from_millis(50));
    let error = adapter.publish(&rollup(), &list(1), 0).await.unwrap_err();
    assert!(cause(&error).contains("no block from 11 on holds the list after 50 ms"), "{error}");
}

fn relay(tail: &Tail, urls: &[String]) -> Result<BundleRelayAdapter, NodeError> {
    let limits = RelayLimits { answer: Duration::from_secs(10), publish: LIMIT };
    BundleRelayAdapter::on(tail.clone(), urls, signer(), limits)
}

fn signer() -> PrivateKeySigner {
    PrivateKeySigner::from_bytes(&B256::repeat_byte(7)).unwrap()
}

/// An address where nobody listens.
async fn nobody() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    format!("http://{}/an-account-key", listener.local_addr().unwrap())
}

/// A relay that takes everything: the block that comes then holds `made`.
async fn taking(rig: &Rig, made: Vec<B256>) -> (String, Arc<Mutex<Vec<Request>>>) {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let (log, chain) = (Arc::clone(&seen), Arc::clone(&rig.chain));
    let url = serve(move |request| {
        log.lock().push(Request { head: request.head.clone(), body: request.body.clone() });
        chain.lock().blocks.push(made.clone());
        let hash = keccak256([tx(0), tx(1)].iter().flat_map(|hash| hash.0).collect::<Vec<u8>>());
        (200, json!({ "jsonrpc": "2.0", "id": 1, "result": { "bundleHash": hash } }).to_string())
    })
    .await;
    (url, seen)
}

#[tokio::test]
async fn a_relay_gets_the_list_as_one_signed_bundle() {
    let rig = Rig::new(|_, _| Err((-32000, "not by this way"))).await;
    let (url, seen) = taking(&rig, vec![OTHER, tx(0), tx(1), OTHER]).await;
    let block = rig.relay(&[url], &list(2)).await.unwrap();
    assert_eq!((block.number, block.hash), (11, hash_of(11)));
    assert!(rig.chain.lock().sent.is_empty(), "the public pool gets nothing");

    let seen = seen.lock();
    let [request] = seen.as_slice() else { panic!("{} requests", seen.len()) };
    let body = request.json();
    assert_eq!((&body["jsonrpc"], &body["method"]), (&json!("2.0"), &json!("eth_sendBundle")));
    let bundle = &body["params"][0];
    assert_eq!(bundle["txs"], json!([raw(0), raw(1)]));
    assert_eq!(
        (&bundle["blockNumber"], &bundle["minTimestamp"], &bundle["maxTimestamp"]),
        (&json!("0xb"), &json!(132), &json!(132))
    );
    assert_eq!(bundle["revertingTxHashes"], json!([]));

    let (address, signature) = request.header("X-Flashbots-Signature").unwrap().split_once(':').unwrap();
    assert_eq!(address.parse::<Address>().unwrap(), signer().address());
    let digest = eip191_hash_message(hex::encode_prefixed(keccak256(&request.body)));
    assert_eq!(recover(digest, &hex::decode(signature).unwrap()).unwrap(), signer().address());
}

#[tokio::test]
async fn one_relay_is_enough() {
    let rig = Rig::new(mine_all).await;
    let (url, seen) = taking(&rig, vec![tx(0), tx(1)]).await;
    let odd = serve(|_| (200, r#"{"jsonrpc":"2.0","id":1,"result":"nil"}"#.into())).await;
    assert_eq!(rig.relay(&[nobody().await, odd, url], &list(2)).await.map(|block| block.number), Ok(11));
    assert_eq!(seen.lock().len(), 1);
}

#[tokio::test]
async fn when_no_relay_takes_the_list_each_says_why() {
    let rig = Rig::new(mine_all).await;
    let dead = nobody().await;
    let refusing =
        serve(|_| (200, r#"{"jsonrpc":"2.0","id":1,"error":{"code":-32602,"message":"too many transactions"}}"#.into()));
    let page = serve(|_| (503, "<html>come back later</html>".into()));
    let silent = serve(|_| (200, r#"{"jsonrpc":"2.0","id":1}"#.into()));
    let urls = [dead.clone(), refusing.await, page.await, silent.await];
    let error = rig.relay(&urls, &list(2)).await.unwrap_err();
    assert_eq!(error.code(), "node_unreachable");
    let text = cause(&error);
    for words in ["too many transactions (code -32602)", "HTTP status 503", "come back later", "HTTP status 200"] {
        assert!(text.contains(words), "{words:?} is not in {text}");
    }
    for url in &urls {
        let name = url.trim_start_matches("http://").split('/').next().unwrap();
        assert!(text.contains(&format!("{name}: ")), "{name} is not in {text}");
    }
    assert!(!text.contains("an-account-key"), "{text}");
    assert!(rig.chain.lock().blocks.is_empty());
}

#[tokio::test]
async fn a_bundle_that_is_not_whole_in_its_block_is_another_block() {
    for (made, words) in [
        (vec![tx(0), OTHER, tx(1)], format!("transaction 1 ({}) has 1 of others before it", tx(1))),
        (vec![tx(0)], format!("transaction 1 ({}) is missing", tx(1))),
        (vec![OTHER], "it holds none of the list's 2 transactions".into()),
    ] {
        let rig = Rig::new(mine_all).await;
        let (url, _) = taking(&rig, made).await;
        let urls = [url];
        let error = rig.relay(&urls, &list(2)).await.unwrap_err();
        assert_eq!(error.code(), "other_block");
        assert!(cause(&error).contains(&words), "{error}");
        // A bundle is for one block number: it is not sent again.
        assert_eq!(rig.relay(&urls, &list(2)).await.unwrap_err().code(), "other_parent");
        assert_eq!(rig.chain.lock().blocks.len(), 1);
    }
}

#[tokio::test]
async fn a_list_sent_again_replaces_the_one_before() {
    let rig = Rig::new(mine_all).await;
    let seen = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&seen);
    let url = serve(move |request| {
        log.lock().push(request.json()["params"][0].clone());
        (500, String::new())
    })
    .await;
    let adapter = relay(&rig.tail, &[url]).unwrap();
    for transactions in [1, 2] {
        assert!(adapter.publish(&rollup(), &list(transactions), 0).await.is_err());
    }
    let seen = seen.lock();
    assert_eq!(seen[0]["replacementUuid"], seen[1]["replacementUuid"]);
    assert!(seen[0]["replacementUuid"].is_string());
    assert!(seen[0]["replacementNonce"].as_u64().unwrap() < seen[1]["replacementNonce"].as_u64().unwrap());
}

#[tokio::test]
async fn an_empty_list_is_not_sent_to_anybody() {
    let rig = Rig::new(mine_all).await;
    rig.chain.lock().awaited = Some(vec![OTHER]);
    assert_eq!(rig.relay(&[nobody().await], &list(0)).await.map(|block| block.transactions), Ok(vec![OTHER]));
    let rig = Rig::new(mine_all).await;
    rig.chain.lock().awaited = Some(vec![OTHER]);
    assert_eq!(rig.raw(&list(0)).await.map(|block| block.number), Ok(11));
}

#[tokio::test]
async fn relays_that_cannot_be_meant_are_refused() {
    let rig = Rig::new(mine_all).await;
    for (urls, words) in [
        (vec![], "name 1 to 16 bundle relays, not 0"),
        (vec!["http://127.0.0.1:1".to_owned(); 17], "not 17"),
        (vec!["http://127.0.0.1:1".to_owned(), "ftp://relay".to_owned()], "bundle relay 1: ftp:// is neither"),
        (vec!["relay".to_owned()], "bundle relay 0: its address is no URL"),
    ] {
        let error = relay(&rig.tail, &urls).unwrap_err();
        assert!(cause(&error).contains(words), "{error}");
    }
    let op = Tail { forks: ForkSchedule::always(Rules::OpStack(OpFork::Jovian)), ..rig.tail };
    let error = relay(&op, &["http://127.0.0.1:1".to_owned()]).unwrap_err();
    assert!(cause(&error).contains("not to an OP-stack rollup"), "{error}");
}
