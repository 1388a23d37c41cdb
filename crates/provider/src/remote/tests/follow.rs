//! A node is followed: its blocks are real ones, made by an embedded rollup, and only its tongue is ours.

use std::sync::Arc;

use alloy::signers::{SignerSync, local::PrivateKeySigner};
use alloy_consensus::{Header, SignableTransaction, TxEip1559, TxEnvelope};
use alloy_primitives::{Address, B256, Bytes, TxKind, U64, U256, keccak256};
use lockstep_primitives::{BlockList, ListBlock, SignedTx};
use lockstep_simulation::{
    Account, EthereumFork, ForkSchedule, MemoryState, ParentBlock, Rules, SlotRollup, StateError, StateView,
};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::{
    io::AsyncWriteExt,
    net::{TcpListener, TcpStream},
};

use super::{CHAIN, read_request};
use crate::{
    DeliverySettings, EmbeddedBlock, EmbeddedGenesis, EmbeddedRollup, NodeError, RemoteLimits, RemoteNode, RemoteSettings,
    RollupNode, remote::proof::tests::answer as proof_answer,
};

const MAX_REORG: usize = 4;
const MAX_CATCH_UP: u64 = 6;
const SHOP: Address = Address::repeat_byte(0x55);
const PROPOSER: Address = Address::repeat_byte(0x77);
/// Stores the first word of its input at slot 0.
const SHOP_CODE: [u8; 7] = [0x60, 0x00, 0x35, 0x60, 0x00, 0x55, 0x00];

fn payer() -> PrivateKeySigner {
    PrivateKeySigner::from_bytes(&keccak256("payer")).unwrap()
}

fn forks() -> ForkSchedule {
    ForkSchedule::always(Rules::Ethereum(EthereumFork::Osaka))
}

/// One way that the chain could go. Two of them that got the same blocks are the same chain.
fn chain() -> Arc<EmbeddedRollup> {
    let mut state = MemoryState::new();
    state.set_account(payer().address(), U256::from(10).pow(U256::from(21)), 0, Bytes::new());
    state.set_account(SHOP, U256::ZERO, 1, Bytes::from_static(&SHOP_CODE));
    state.set_storage(SHOP, U256::ZERO, U256::from(1_000_000));
    let genesis =
        EmbeddedGenesis { chain: CHAIN, forks: forks(), timestamp: 1_000, gas_limit: 30_000_000, base_fee: 1_000_000, state };
    Arc::new(EmbeddedRollup::new(genesis).unwrap())
}

fn sign(tx: TxEip1559) -> SignedTx {
    let signature = payer().sign_hash_sync(&tx.signature_hash()).unwrap();
    SignedTx::from_parts(TxEnvelope::Eip1559(tx.into_signed(signature)), payer().address())
}

/// Makes a block that pays somebody, and stores `mark` in the shop.
async fn make(chain: &EmbeddedRollup, mark: u64) -> B256 {
    let parent = chain.head().await.unwrap();
    let state = chain.state_at(parent.hash).await.unwrap();
    let nonce = state.account(payer().address()).unwrap().unwrap().nonce;
    let base = TxEip1559 {
        chain_id: CHAIN,
        nonce,
        gas_limit: 100_000,
        max_fee_per_gas: 1_000_000_000,
        max_priority_fee_per_gas: 1,
        ..TxEip1559::default()
    };
    let paid = Address::from_word(keccak256(mark.to_be_bytes()));
    let payment = TxEip1559 { to: TxKind::Call(paid), value: U256::from(mark), ..base.clone() };
    let purchase =
        TxEip1559 { to: TxKind::Call(SHOP), nonce: nonce + 1, input: U256::from(mark).to_be_bytes::<32>().into(), ..base };
    let txs = [sign(payment), sign(purchase)];
    let timestamp = parent.timestamp + 12;
    let blocks = chain.plan(&parent, &[timestamp], PROPOSER).await.unwrap();
    let list = ListBlock { number: parent.number + 1, timestamp, transactions: txs.iter().map(|tx| tx.raw().clone()).collect() };
    let list = BlockList { chain: CHAIN, blocks: vec![list] };
    let rollup = SlotRollup { chain: CHAIN, forks: forks(), parent, state, blocks };
    chain.publish(&Arc::new(rollup), &list, 0).await.unwrap().hash
}

/// What a node can get wrong, or not do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    None,
    /// Headers name another receipts root than the block has.
    Receipts,
    /// Blocks lack their last transaction.
    Transactions,
    /// Headers leave a field out.
    Header,
    /// Everybody is said to have nothing.
    Balances,
    /// Whoever receives the fees is said to have one wei more.
    Fees,
    NoProofs,
    /// Its state root is that of nodes which no trie has, and so are its proofs.
    Proofs,
    /// Whole blocks are no blocks.
    Unreadable,
    /// It does not answer at all.
    Silent,
}

struct Served {
    chain: Arc<EmbeddedRollup>,
    fault: Fault,
    /// Methods that were asked for.
    asked: Vec<String>,
}

/// A node in front of an embedded rollup.
#[derive(Clone)]
struct Tongue(Arc<Mutex<Served>>);

impl Tongue {
    async fn start(chain: &Arc<EmbeddedRollup>) -> (Self, String) {
        let served = Served { chain: Arc::clone(chain), fault: Fault::None, asked: Vec::new() };
        let tongue = Self(Arc::new(Mutex::new(served)));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let speaking = tongue.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(speaking.clone().serve(stream));
            }
        });
        (tongue, url)
    }

    async fn serve(self, mut stream: TcpStream) {
        let Some(request) = read_request(&mut stream).await else { return };
        let silent = self.0.lock().fault == Fault::Silent;
        if silent {
            return;
        }
        let answer = match &request {
            Value::Array(calls) => Value::Array(calls.iter().map(|call| self.answer(call)).collect()),
            call => self.answer(call),
        };
        let answer = answer.to_string();
        let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\ncontent-length:";
        let _ = stream.write_all(format!("{head} {}\r\n\r\n{answer}", answer.len()).as_bytes()).await;
    }

    fn answer(&self, call: &Value) -> Value {
        let method = call["method"].as_str().unwrap_or_default();
        let (chain, fault) = {
            let mut served = self.0.lock();
            served.asked.push(method.to_owned());
            (Arc::clone(&served.chain), served.fault)
        };
        match say(&chain, fault, method, &call["params"]) {
            Some(result) => json!({ "jsonrpc": "2.0", "id": call["id"], "result": result }),
            None => {
                let error = json!({ "code": -32601, "message": format!("method not found: {method}") });
                json!({ "jsonrpc": "2.0", "id": call["id"], "error": error })
            }
        }
    }

    fn set(&self, fault: Fault) {
        self.0.lock().fault = fault;
    }

    /// The chain goes another way from now on.
    fn turn_to(&self, chain: &Arc<EmbeddedRollup>) {
        self.0.lock().chain = Arc::clone(chain);
    }

    fn asked(&self, method: &str) -> usize {
        self.0.lock().asked.iter().filter(|asked| *asked == method).count()
    }
}

fn say(chain: &EmbeddedRollup, fault: Fault, method: &str, params: &Value) -> Option<Value> {
    let read = |value: &Value| serde_json::from_value::<B256>(value.clone()).unwrap();
    let whole = params[1] == json!(true);
    let number = |value: &Value| serde_json::from_value::<U64>(value.clone()).unwrap().to::<u64>();
    // Of calls pinned to a block.
    let at = |position: usize| {
        let block = chain.block_by_hash(read(&params[position]["blockHash"]))?;
        chain.state(block.header.number)
    };
    let address = || serde_json::from_value::<Address>(params[0].clone()).unwrap();
    let account = || at(1).map(|state| state.account(address()).unwrap().unwrap_or_default());
    Some(match method {
        "eth_chainId" => json!(U64::from(CHAIN)),
        "web3_clientVersion" => json!("tongue/1"),
        "eth_getBlockByNumber" if params[0] == "latest" => tell(&*chain.newest()?, whole, fault),
        "eth_getBlockByNumber" => chain.block(number(&params[0])).map_or(Value::Null, |block| tell(&block, whole, fault)),
        // Its own hash is another one than that of the block that was made.
        "eth_getBlockByHash" if fault == Fault::Proofs => tell(&*chain.newest()?, whole, fault),
        "eth_getBlockByHash" => chain.block_by_hash(read(&params[0])).map_or(Value::Null, |block| tell(&block, whole, fault)),
        "eth_getBalance" if fault == Fault::Balances => json!("0x0"),
        "eth_getBalance" if fault == Fault::Fees && address() == PROPOSER => json!(account()?.balance + U256::from(1)),
        "eth_getBalance" => json!(account()?.balance),
        "eth_getTransactionCount" => json!(U64::from(account()?.nonce)),
        "eth_getCode" => json!(at(1)?.code_of(address()).map(|code| code.original_bytes()).unwrap_or_default()),
        "eth_getStorageAt" => {
            let slot = U256::from_be_bytes(read(&params[1]).0);
            json!(B256::from(at(2)?.storage(address(), slot).unwrap()))
        }
        "eth_getProof" if fault == Fault::Proofs => {
            json!({ "storageHash": B256::ZERO, "accountProof": too_long_a_path(), "storageProof": [] })
        }
        "eth_getProof" if fault != Fault::NoProofs => {
            let slots: Vec<U256> = serde_json::from_value(params[1].clone()).unwrap();
            proof_answer(&*at(2)?, address(), &slots)
        }
        _ => return None,
    })
}

/// Two nodes of a trie, root first, that are further apart than any key is long.
fn too_long_a_path() -> [Bytes; 2] {
    let node = |path: &[u8], rest: &[u8]| alloy_rlp::encode(vec![Bytes::copy_from_slice(path), Bytes::copy_from_slice(rest)]);
    let leaf = node(&[0x3a], &[1; 40]);
    let extension = node(&[0; 33], keccak256(&leaf).as_slice());
    [extension.into(), leaf.into()]
}

fn tell(block: &EmbeddedBlock, whole: bool, fault: Fault) -> Value {
    let mut told = serde_json::to_value(&block.header).unwrap();
    told["hash"] = json!(block.hash);
    let txs = block.txs.iter().map(|tx| match (&tx.executed.tx, whole) {
        (lockstep_simulation::BlockTx::Signed(tx), true) => serde_json::to_value(tx.envelope()).unwrap(),
        (tx, _) => json!(tx.hash()),
    });
    let mut txs: Vec<Value> = txs.collect();
    match fault {
        Fault::Receipts => told["receiptsRoot"] = json!(B256::repeat_byte(9)),
        Fault::Transactions => drop(txs.pop()),
        Fault::Header => drop(told.as_object_mut().unwrap().remove("stateRoot")),
        Fault::Proofs => {
            let [root, _] = too_long_a_path();
            let header = Header { state_root: keccak256(&root), ..block.header.clone() };
            told = serde_json::to_value(&header).unwrap();
            told["hash"] = json!(header.hash_slow());
        }
        Fault::Unreadable if whole => told["withdrawals"] = json!("none"),
        Fault::None | Fault::Balances | Fault::Fees | Fault::NoProofs | Fault::Unreadable | Fault::Silent => {}
    }
    told["transactions"] = Value::Array(txs);
    told
}

fn limits() -> RemoteLimits {
    RemoteLimits {
        // Looks only when it is asked to.
        poll_ms: 3_600_000,
        backoff_ms: 1,
        max_backoff_ms: 1,
        lie_backoff_ms: 1,
        max_reorg: MAX_REORG,
        max_catch_up: MAX_CATCH_UP,
        max_lag_s: u64::MAX,
        ..RemoteLimits::default()
    }
}

async fn follow(chain: &Arc<EmbeddedRollup>) -> (Tongue, RemoteNode) {
    let (tongue, url) = Tongue::start(chain).await;
    let node = RemoteNode::connect(CHAIN, &url, forks(), limits()).await.unwrap();
    (tongue, node)
}

/// Reads everything that changes, fetching what is missing.
async fn read(node: &RemoteNode, head: &ParentBlock) -> (Account, U256) {
    let state = node.state_at(head.hash).await.unwrap();
    for _ in 0..8 {
        match (state.account(payer().address()), state.account(SHOP), state.storage(SHOP, U256::ZERO)) {
            (Ok(payer), Ok(_), Ok(stored)) => return (payer.unwrap_or_default(), stored),
            (Err(StateError::Broken(cause)), ..) => panic!("{cause}"),
            _ => assert!(node.fetch_missing(head.hash).await.unwrap() > 0),
        }
    }
    panic!("the state never comes");
}

/// What is true at a block.
fn truth(chain: &EmbeddedRollup, block: B256) -> (Account, U256) {
    let state = chain.state(chain.block_by_hash(block).unwrap().header.number).unwrap();
    (state.account(payer().address()).unwrap().unwrap(), state.storage(SHOP, U256::ZERO).unwrap())
}

#[tokio::test]
async fn blocks_are_executed_instead_of_fetching_state_again() {
    let chain = chain();
    let (tongue, node) = follow(&chain).await;
    let first = node.head().await.unwrap();
    assert_eq!(read(&node, &first).await, truth(&chain, first.hash));
    let fetched = tongue.asked("eth_getStorageAt");
    let mut heads = node.heads();
    for mark in 1..=MAX_REORG as u64 {
        let made = make(&chain, mark).await;
        assert_eq!(node.head().await.unwrap().hash, made);
        assert!(heads.has_changed().unwrap());
        assert_eq!(heads.borrow_and_update().hash, made);
    }
    let head = node.head().await.unwrap();
    let state = node.state_at(head.hash).await.unwrap();
    assert_eq!(state.storage(SHOP, U256::ZERO), Ok(U256::from(MAX_REORG as u64)), "nothing has to be fetched");
    assert_eq!(read(&node, &head).await, truth(&chain, head.hash));
    assert_eq!(read(&node, &first).await, truth(&chain, first.hash), "earlier blocks stay what they were");
    assert_eq!(tongue.asked("eth_getStorageAt"), fetched);
    let stats = node.follow_stats();
    assert_eq!((stats.blocks, stats.mismatches, stats.fallbacks, stats.resets, stats.reorgs), (4, 0, 0, 0, 0), "{stats:?}");
    assert!(stats.proofs >= 4 && stats.unproven == 0, "{stats:?}");
    assert_eq!(node.health().degraded, None);
    assert!(node.stats().hits > 0 && node.stats().rounds > 0);
}

#[tokio::test]
async fn reorgs_within_the_bound_are_undone_and_told() {
    for depth in [1_u64, 3] {
        let (one, other) = (chain(), chain());
        let (tongue, node) = follow(&one).await;
        let mut reorgs = node.reorgs();
        assert_eq!(make(&one, 1).await, make(&other, 1).await, "both ways share the first block");
        let common = node.head().await.unwrap();
        assert_eq!(read(&node, &common).await, truth(&one, common.hash));
        let mut dropped = Vec::new();
        for mark in 0..depth {
            dropped.push(make(&one, 10 + mark).await);
            node.head().await.unwrap();
        }
        for mark in 0..=depth {
            make(&other, 20 + mark).await;
        }
        tongue.turn_to(&other);
        let head = node.head().await.unwrap();
        assert_eq!(Some(head.hash), other.newest().map(|block| block.hash));
        assert_eq!(read(&node, &head).await, truth(&other, head.hash));
        assert_eq!(read(&node, &common).await, truth(&other, common.hash));

        let reorg = reorgs.try_recv().unwrap();
        assert_eq!((reorg.chain, reorg.common), (CHAIN, Some(common.number)));
        dropped.reverse();
        assert_eq!(reorg.dropped.iter().map(|block| block.hash).collect::<Vec<_>>(), dropped, "newest first");
        assert!(reorg.dropped.iter().all(|block| block.transactions.len() == 2));
        assert!(reorgs.try_recv().is_err(), "it is told once");
        let stats = node.follow_stats();
        assert_eq!((stats.reorgs, stats.fallbacks, stats.resets), (1, 0, 0), "{stats:?}");
    }
}

#[tokio::test]
async fn blocks_that_are_taken_back_are_a_reorg_too() {
    let (longer, shorter) = (chain(), chain());
    let (tongue, node) = follow(&longer).await;
    let mut reorgs = node.reorgs();
    let kept = make(&shorter, 1).await;
    make(&longer, 1).await;
    node.head().await.unwrap();
    let gone = make(&longer, 2).await;
    node.head().await.unwrap();
    tongue.turn_to(&shorter);
    let head = node.head().await.unwrap();
    assert_eq!(head.hash, kept);
    assert_eq!(read(&node, &head).await, truth(&shorter, kept));
    let reorg = reorgs.try_recv().unwrap();
    assert_eq!((reorg.common, reorg.dropped.len(), reorg.dropped[0].hash), (Some(1), 1, gone));
}

#[tokio::test]
async fn a_reorg_beyond_the_bound_begins_anew() {
    let (one, other) = (chain(), chain());
    let (tongue, node) = follow(&one).await;
    let mut reorgs = node.reorgs();
    let depth = MAX_REORG as u64 + 1;
    for mark in 0..depth {
        make(&one, 10 + mark).await;
        let head = node.head().await.unwrap();
        read(&node, &head).await;
        make(&other, 20 + mark).await;
    }
    make(&other, 30).await;
    tongue.turn_to(&other);
    let head = node.head().await.unwrap();
    assert_eq!(read(&node, &head).await, truth(&other, head.hash));
    let reorg = reorgs.try_recv().unwrap();
    assert_eq!(reorg.common, None);
    assert_eq!(reorg.dropped.len(), MAX_REORG + 1, "all that was known");
    let stats = node.follow_stats();
    assert_eq!((stats.reorgs, stats.resets, stats.mismatches), (1, 1, 0), "{stats:?}");
}

#[tokio::test]
async fn too_many_blocks_at_once_are_not_executed() {
    let chain = chain();
    let (_tongue, node) = follow(&chain).await;
    let mut reorgs = node.reorgs();
    let first = node.head().await.unwrap();
    read(&node, &first).await;
    for mark in 0..=MAX_CATCH_UP {
        make(&chain, mark).await;
    }
    let head = node.head().await.unwrap();
    assert_eq!(read(&node, &head).await, truth(&chain, head.hash));
    let stats = node.follow_stats();
    assert_eq!((stats.blocks, stats.resets, stats.reorgs), (0, 1, 0), "{stats:?}");
    assert!(reorgs.try_recv().is_err(), "nothing was dropped");
}

#[tokio::test]
async fn a_block_that_contradicts_itself_is_refused_and_the_head_stays() {
    for fault in [Fault::Receipts, Fault::Transactions] {
        let chain = chain();
        let (tongue, node) = follow(&chain).await;
        let before = node.head().await.unwrap();
        make(&chain, 1).await;
        tongue.set(fault);
        let error = node.head().await.unwrap_err();
        assert!(matches!(error, NodeError::WrongBlock { .. }), "{fault:?}: {error}");
        assert_eq!(*node.heads().borrow(), before);
        assert_eq!(node.health().degraded.map(|(code, _)| code), Some("wrong_block"));
        tongue.set(Fault::None);
        let head = node.head().await.unwrap();
        assert_eq!(read(&node, &head).await, truth(&chain, head.hash), "{fault:?}");
        assert_eq!(node.health().degraded, None);
        assert_eq!(node.follow_stats().fallbacks, 0);
    }
}

#[tokio::test]
async fn state_that_is_not_true_is_found_out_and_forgotten() {
    // With a sender that has nothing the block is invalid; what the proposer has only a proof tells.
    for fault in [Fault::Balances, Fault::Fees] {
        let chain = chain();
        let (tongue, node) = follow(&chain).await;
        tongue.set(fault);
        make(&chain, 1).await;
        let head = node.head().await.unwrap();
        tongue.set(Fault::None);
        let stats = node.follow_stats();
        assert_eq!((stats.blocks, stats.mismatches, stats.fallbacks), (0, 1, 1), "{fault:?}: {stats:?}");
        assert_eq!(read(&node, &head).await, truth(&chain, head.hash), "{fault:?}");
        make(&chain, 2).await;
        let head = node.head().await.unwrap();
        assert_eq!(read(&node, &head).await, truth(&chain, head.hash), "{fault:?}");
        let stats = node.follow_stats();
        assert_eq!((stats.blocks, stats.mismatches), (1, 1), "{fault:?}: {stats:?}");
    }
}

#[tokio::test]
async fn without_proofs_or_whole_headers_the_node_is_followed_all_the_same() {
    let chain = chain();
    let (tongue, node) = follow(&chain).await;
    tongue.set(Fault::NoProofs);
    for mark in 1..3 {
        make(&chain, mark).await;
        let head = node.head().await.unwrap();
        assert_eq!(read(&node, &head).await, truth(&chain, head.hash));
    }
    let stats = node.follow_stats();
    assert_eq!((stats.blocks, stats.unproven, stats.proofs, stats.fallbacks), (2, 2, 0, 0), "{stats:?}");
    assert_eq!(tongue.asked("debug_traceBlockByHash"), 0);

    tongue.set(Fault::Header);
    make(&chain, 9).await;
    let head = node.head().await.unwrap();
    let stats = node.follow_stats();
    assert_eq!((stats.blocks, stats.fallbacks, stats.mismatches), (2, 1, 0), "{stats:?}");
    tongue.set(Fault::None);
    assert_eq!(read(&node, &head).await, truth(&chain, head.hash), "nothing of the parent was taken for the head");
}

#[tokio::test]
async fn what_calls_touched_before_is_fetched_ahead() {
    let chain = chain();
    let (tongue, node) = follow(&chain).await;
    let call = |nonce| {
        let input = [&[1_u8, 2, 3, 4][..], &[0; 28]].concat();
        let base =
            TxEip1559 { chain_id: CHAIN, nonce, gas_limit: 100_000, max_fee_per_gas: 1_000_000_000, ..TxEip1559::default() };
        Arc::new(sign(TxEip1559 { to: TxKind::Call(SHOP), input: input.into(), ..base }))
    };
    assert!(node.prefetch(&[call(0)]).await > 0);
    let head = node.head().await.unwrap();
    let state = node.state_at(head.hash).await.unwrap();
    assert!(state.account(payer().address()).is_ok() && state.storage(SHOP, U256::ZERO).is_ok(), "found by running it");
    assert_eq!(node.prefetch(&[call(0)]).await, 0, "all of it is here");
    assert!(tongue.asked("eth_createAccessList") <= 1, "a node without access lists is asked once");

    // At a block of which nothing is known, what the function touched is fetched without running anything.
    for mark in 0..=MAX_CATCH_UP {
        make(&chain, mark).await;
    }
    let head = node.head().await.unwrap();
    assert!(node.prefetch(&[call(0)]).await > 0);
    let state = node.state_at(head.hash).await.unwrap();
    assert!(state.storage(SHOP, U256::ZERO).is_ok());
}

#[tokio::test]
async fn callers_that_miss_the_same_value_fetch_it_once() {
    let chain = chain();
    let (tongue, node) = follow(&chain).await;
    let head = node.head().await.unwrap();
    let state = node.state_at(head.hash).await.unwrap();
    assert!(state.storage(SHOP, U256::ZERO).is_err());
    let (first, second) = tokio::join!(node.fetch_missing(head.hash), async {
        // By now the first is on its way.
        assert!(state.storage(SHOP, U256::ZERO).is_err());
        node.fetch_missing(head.hash).await
    });
    assert_eq!((first, second), (Ok(1), Ok(1)), "both are told that it came");
    assert_eq!(tongue.asked("eth_getStorageAt"), 1);
    assert_eq!(state.storage(SHOP, U256::ZERO), Ok(U256::from(1_000_000)));
}

#[tokio::test]
async fn a_proof_that_no_trie_has_proves_nothing_and_stops_nobody() {
    let chain = chain();
    let (tongue, node) = follow(&chain).await;
    make(&chain, 1).await;
    tongue.set(Fault::Proofs);
    let head = node.head().await.unwrap();
    assert_eq!(head.number, 1);
    let stats = node.follow_stats();
    assert_eq!((stats.blocks, stats.mismatches, stats.proofs), (0, 1, 0), "{stats:?}");
}

#[tokio::test]
async fn a_state_that_is_still_read_is_fetched_for_whatever_was_asked_for_since() {
    let chain = chain();
    let (_tongue, url) = Tongue::start(&chain).await;
    let node = RemoteNode::connect(CHAIN, &url, forks(), RemoteLimits { max_states: 1, ..limits() }).await.unwrap();
    let first = node.head().await.unwrap();
    let state = node.state_at(first.hash).await.unwrap();
    for mark in 1..4 {
        make(&chain, mark).await;
        let head = node.head().await.unwrap();
        drop(node.state_at(head.hash).await.unwrap());
    }
    let slot = U256::from(77);
    assert!(state.storage(SHOP, slot).is_err());
    assert_eq!(node.fetch_missing(first.hash).await, Ok(1));
    assert_eq!(state.storage(SHOP, slot), Ok(U256::ZERO));
}

#[tokio::test]
async fn a_cache_that_holds_no_code_is_refused() {
    let limits = RemoteLimits { max_cache_bytes: 1_000_000, ..limits() };
    let error = RemoteNode::connect(CHAIN, "http://127.0.0.1:1", forks(), limits).await.unwrap_err().to_string();
    assert!(error.contains("max_cache_bytes is 1000000"), "{error}");
}

/// A node of two endpoints, the first of which is asked first.
async fn follow_two(first: &Arc<EmbeddedRollup>, second: &Arc<EmbeddedRollup>) -> ([Tongue; 2], RemoteNode) {
    let (first, first_url) = Tongue::start(first).await;
    let (second, second_url) = Tongue::start(second).await;
    let urls = vec![first_url, second_url];
    let limits = RemoteLimits { lie_backoff_ms: 60_000, ..limits() };
    let settings = RemoteSettings { chain: CHAIN, forks: forks(), urls, limits, delivery: DeliverySettings::default() };
    ([first, second], RemoteNode::open(settings).await.unwrap())
}

#[tokio::test]
async fn an_endpoint_that_is_behind_is_no_reorg_and_does_not_keep_the_other_one_out() {
    let (longer, shorter) = (chain(), chain());
    assert_eq!(make(&longer, 1).await, make(&shorter, 1).await);
    make(&longer, 2).await;
    let ([first, _second], node) = follow_two(&longer, &shorter).await;
    let mut reorgs = node.reorgs();
    let head = node.head().await.unwrap();
    assert_eq!(head.number, 2, "the only block that is known");

    first.set(Fault::Silent);
    assert_eq!(node.head().await.unwrap_err().code(), "node_behind");
    assert_eq!(*node.heads().borrow(), head);
    assert!(reorgs.try_recv().is_err(), "nothing is gone");

    first.set(Fault::None);
    let made = make(&longer, 3).await;
    let mut looks = 0;
    while node.head().await.map(|head| head.hash) != Ok(made) {
        looks += 1;
        assert!(looks < 1_000, "the first endpoint is never asked again");
    }
    let stats = node.follow_stats();
    assert_eq!((stats.resets, stats.reorgs), (0, 0), "{stats:?}");
}

#[tokio::test]
async fn an_endpoint_whose_blocks_cannot_be_read_is_left_for_another() {
    let chain = chain();
    let ([first, _second], node) = follow_two(&chain, &chain).await;
    first.set(Fault::Unreadable);
    let made = make(&chain, 1).await;
    assert_eq!(node.head().await.map(|head| head.hash), Ok(made));
    assert_eq!(node.endpoints()[0].degraded.as_ref().map(|(code, _)| *code), Some("wrong_block"));
}

#[tokio::test]
async fn a_look_that_ends_halfway_tells_the_head_that_it_came_to() {
    let (longer, other) = (chain(), chain());
    assert_eq!(make(&longer, 1).await, make(&other, 1).await);
    let (tongue, node) = follow(&longer).await;
    let common = node.head().await.unwrap();
    make(&longer, 2).await;
    node.head().await.unwrap();
    make(&other, 20).await;
    make(&other, 21).await;
    tongue.turn_to(&other);
    tongue.set(Fault::Transactions);
    assert_eq!(node.head().await.unwrap_err().code(), "wrong_block");
    assert_eq!(*node.heads().borrow(), common, "the block after it is gone, and none in its place is believed");
}
