//! Heads and transactions that are announced over WebSocket, or asked for where they are not.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use alloy::signers::{SignerSync, local::PrivateKeySigner};
use alloy_consensus::{SignableTransaction, TxEip1559, TxEnvelope};
use alloy_eips::eip2718::Encodable2718;
use alloy_primitives::{Address, B256, Bytes, TxKind, U256, keccak256};
use jsonrpsee::{
    core::SubscriptionError,
    server::{RpcModule, Server, ServerHandle, SubscriptionMessage},
    types::ErrorObjectOwned,
};
use parking_lot::Mutex;
use serde_json::{Value, json, value::to_raw_value};
use tokio::{
    sync::{mpsc, watch},
    time::timeout,
};

use super::CHAIN;
use crate::remote::{RemoteLimits, pending::pending_transactions, subscribe::HeadSignal, wire::Rpc};

/// Far above what anything here takes, so that only what never comes fails.
const BOUND: Duration = Duration::from_secs(30);

/// What a node announces and answers.
struct Node {
    heads: watch::Sender<u64>,
    /// Announced to whoever subscribes.
    transactions: Vec<Value>,
    /// By hash.
    bodies: BTreeMap<B256, Bytes>,
    /// What its pool answers, one after the other; the last one again and again.
    pool: Mutex<Vec<Value>>,
}

async fn serve(node: Arc<Node>) -> (ServerHandle, String) {
    let mut module = RpcModule::from_arc(node);
    module.register_method("eth_chainId", |_, _, _| Ok::<_, ErrorObjectOwned>(json!(format!("{CHAIN:#x}")))).unwrap();
    module
        .register_method("eth_getRawTransactionByHash", |params, node, _| {
            let hash: B256 = params.one()?;
            Ok::<_, ErrorObjectOwned>(json!(node.bodies.get(&hash)))
        })
        .unwrap();
    module
        .register_method("txpool_content", |_, node, _| {
            let mut pool = node.pool.lock();
            let content = if pool.len() > 1 { pool.remove(0) } else { pool[0].clone() };
            Ok::<_, ErrorObjectOwned>(content)
        })
        .unwrap();
    module
        .register_subscription("eth_subscribe", "eth_subscription", "eth_unsubscribe", |params, pending, node, _| async move {
            let wanted: Vec<Value> = params.parse()?;
            // From before the subscription stands, so that no head goes by.
            let mut heads = node.heads.subscribe();
            let sink = pending.accept().await?;
            if wanted[0] == "newPendingTransactions" {
                for transaction in &node.transactions {
                    sink.send(SubscriptionMessage::from(to_raw_value(transaction)?)).await?;
                }
                sink.closed().await;
                return Ok::<(), SubscriptionError>(());
            }
            while heads.changed().await.is_ok() {
                let head = json!({ "number": *heads.borrow_and_update() });
                sink.send(SubscriptionMessage::from(to_raw_value(&head)?)).await?;
            }
            Ok(())
        })
        .unwrap();
    let server = Server::builder().build("127.0.0.1:0").await.unwrap();
    let address = server.local_addr().unwrap();
    (server.start(module), address.to_string())
}

fn node() -> Node {
    Node { heads: watch::Sender::new(0), transactions: Vec::new(), bodies: BTreeMap::new(), pool: Mutex::default() }
}

fn rpc(urls: &[String]) -> Rpc {
    let limits = RemoteLimits { backoff_ms: 1, max_backoff_ms: 2, poll_ms: 1, ..RemoteLimits::default() };
    Rpc::new(CHAIN, urls, limits).unwrap()
}

/// A signed transaction as bytes, and as nodes tell it.
fn transaction(nonce: u64) -> (Bytes, Value) {
    let key = PrivateKeySigner::from_bytes(&B256::repeat_byte(1)).unwrap();
    let tx = TxEip1559 {
        chain_id: CHAIN,
        nonce,
        gas_limit: 21_000,
        max_fee_per_gas: 10,
        max_priority_fee_per_gas: 1,
        to: TxKind::Call(Address::repeat_byte(2)),
        value: U256::from(3),
        ..TxEip1559::default()
    };
    let signature = key.sign_hash_sync(&tx.signature_hash()).unwrap();
    let tx = TxEnvelope::from(tx.into_signed(signature));
    let mut told = serde_json::to_value(&tx).unwrap();
    told["from"] = json!(key.address());
    (tx.encoded_2718().into(), told)
}

async fn next(flow: &mut mpsc::Receiver<Bytes>) -> Bytes {
    timeout(BOUND, flow.recv()).await.expect("a transaction comes").expect("the flow goes on")
}

#[tokio::test]
async fn a_head_that_is_announced_is_looked_at_at_once() {
    let node = Arc::new(node());
    let (server, address) = serve(Arc::clone(&node)).await;
    let hour = 3_600_000;
    let limits = RemoteLimits { poll_ms: hour, poll_idle_ms: hour, ..RemoteLimits::default() };
    let urls = [format!("http://{address}"), format!("ws://{address}")];
    let mut signal = HeadSignal::start(&Rpc::new(CHAIN, &urls, limits).unwrap());
    let mut looks = async || timeout(BOUND, signal.next()).await.expect("it is time to look");
    // The subscription stands: a head may have gone by before.
    looks().await;
    for head in 1..4 {
        node.heads.send_replace(head);
        looks().await;
    }
    // It ends: nobody announces the next one.
    server.stop().unwrap();
    looks().await;
    assert!(!signal.is_live());
}

#[tokio::test]
async fn without_an_announcer_or_with_one_of_another_chain_heads_are_looked_for() {
    let (_server, address) = serve(Arc::new(node())).await;
    let limits = RemoteLimits { poll_ms: 1, poll_idle_ms: 3_600_000, ..RemoteLimits::default() };
    let plain = Rpc::new(CHAIN, &[format!("http://{address}")], limits).unwrap();
    let other = Rpc::new(CHAIN + 1, &[format!("http://{address}"), format!("ws://{address}")], limits).unwrap();
    for rpc in [plain, other] {
        let mut signal = HeadSignal::start(&rpc);
        for _ in 0..3 {
            timeout(BOUND, signal.next()).await.expect("it is time to look");
        }
        assert!(!signal.is_live());
    }
}

#[tokio::test]
async fn announced_transactions_are_passed_on_once_whether_whole_or_as_hashes() {
    let [(first, whole), (second, _), (third, _)] = [transaction(0), transaction(1), transaction(2)];
    let mut untrue = whole.clone();
    untrue["value"] = json!("0x4");
    untrue["hash"] = json!(B256::repeat_byte(9));
    let transactions = vec![
        untrue,
        whole,
        json!(keccak256(&second)),
        json!(keccak256(&first)),
        json!(keccak256(b"gone")),
        json!({ "type": "0x77" }),
        json!(7),
        json!("0x07"),
        json!(keccak256(&third)),
    ];
    let bodies = [&first, &second, &third].map(|raw| (keccak256(raw), raw.clone())).into();
    let (_server, address) = serve(Arc::new(Node { transactions, bodies, ..node() })).await;
    let mut flow = pending_transactions(&rpc(&[format!("http://{address}"), format!("ws://{address}")]));
    assert_eq!([next(&mut flow).await, next(&mut flow).await, next(&mut flow).await], [first, second, third]);
}

#[tokio::test]
async fn without_an_announcer_and_without_filters_the_pool_is_asked() {
    let [(first, one), (second, two), (third, three)] = [transaction(9), transaction(10), transaction(11)];
    let sender = one["from"].as_str().unwrap();
    let pool = Mutex::new(vec![
        json!("nonsense"),
        json!({ "pending": { sender: { "10": two, "9": one } }, "queued": { sender: { "12": 1 } } }),
        json!({ "pending": { sender: { "9": one, "10": two, "11": three }, "0x0": [] } }),
    ]);
    let (_server, address) = serve(Arc::new(Node { pool, ..node() })).await;
    let mut flow = pending_transactions(&rpc(&[format!("http://{address}")]));
    assert_eq!([next(&mut flow).await, next(&mut flow).await, next(&mut flow).await], [first, second, third]);
}
