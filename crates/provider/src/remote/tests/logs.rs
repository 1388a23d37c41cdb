//! The logs of blocks that an embedded OP-stack rollup made, by a node that may not tell them as they are.

use std::sync::Arc;

use alloy::signers::{SignerSync, local::PrivateKeySigner};
use alloy_consensus::{SignableTransaction, TxEip1559, TxEnvelope};
use alloy_primitives::{Address, B256, Bytes, Log, TxKind, U64, U256, address, keccak256};
use lockstep_primitives::{BlockList, ListBlock, SignedTx, TxId};
use lockstep_simulation::{BlockTx, ForkSchedule, MemoryState, OpFork, Rules, SlotRollup};
use serde_json::{Value, json};
use tokio::{io::AsyncWriteExt, net::TcpListener};

use super::{CHAIN, NOBODY, read_request};
use crate::{
    BlockLog, EmbeddedBlock, EmbeddedGenesis, EmbeddedRollup, NodeError, RollupNode,
    remote::{RemoteLimits, logs::logs, wire::Rpc},
};

const L1_BLOCK: Address = address!("4200000000000000000000000000000000000015");
const SHOP: Address = Address::repeat_byte(0x55);
const TOPIC: u8 = 7;
/// Logs a word of zeros under the topic.
const TELLS_ONCE: [u8; 8] = [0x60, TOPIC, 0x60, 0x20, 0x60, 0x00, 0xa1, 0x00];
/// Logs nothing without a topic, then the same.
const TELLS_TWICE: [u8; 13] = [0x60, 0x00, 0x60, 0x00, 0xa0, 0x60, TOPIC, 0x60, 0x20, 0x60, 0x00, 0xa1, 0x00];

/// What is changed in an answer, by the method.
type Change = fn(&str, &mut Value);

fn payer() -> PrivateKeySigner {
    PrivateKeySigner::from_bytes(&keccak256("payer")).unwrap()
}

fn sign(nonce: u64, to: Address) -> SignedTx {
    let tx = TxEip1559 {
        chain_id: CHAIN,
        nonce,
        gas_limit: 100_000,
        max_fee_per_gas: 1_000_000_000,
        max_priority_fee_per_gas: 1,
        to: TxKind::Call(to),
        ..TxEip1559::default()
    };
    let signature = payer().sign_hash_sync(&tx.signature_hash()).unwrap();
    SignedTx::from_parts(TxEnvelope::Eip1559(tx.into_signed(signature)), payer().address())
}

/// A rollup with one block: the deposit of its L1 attributes, which logs once, two visits of the shop, and a call of nobody
/// between them.
async fn rollup() -> (Arc<EmbeddedRollup>, B256) {
    let mut state = MemoryState::new();
    state.set_account(payer().address(), U256::from(10).pow(U256::from(21)), 0, Bytes::new());
    state.set_account(L1_BLOCK, U256::ZERO, 1, Bytes::from_static(&TELLS_ONCE));
    state.set_account(SHOP, U256::ZERO, 1, Bytes::from_static(&TELLS_TWICE));
    let forks = ForkSchedule::always(Rules::OpStack(OpFork::Jovian));
    let (timestamp, base_fee) = (1_800_000_000, 1_000_000);
    let genesis = EmbeddedGenesis { chain: CHAIN, forks: forks.clone(), timestamp, gas_limit: 30_000_000, base_fee, state };
    let chain = Arc::new(EmbeddedRollup::new(genesis).unwrap());
    let parent = chain.head().await.unwrap();
    let state = chain.state_at(parent.hash).await.unwrap();
    let blocks = chain.plan(&parent, &[timestamp + 2], NOBODY).await.unwrap();
    let txs = [sign(0, SHOP), sign(1, NOBODY), sign(2, SHOP)];
    let transactions = txs.iter().map(|tx| tx.raw().clone()).collect();
    let list = ListBlock { number: 1, timestamp: timestamp + 2, transactions };
    let list = BlockList { chain: CHAIN, blocks: vec![list] };
    let slot = Arc::new(SlotRollup { chain: CHAIN, forks, parent, state, blocks });
    let made = chain.publish(&slot, &list, 0).await.unwrap();
    (chain, made.hash)
}

/// A node in front of it.
async fn endpoint(chain: &Arc<EmbeddedRollup>, change: Change) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let chain = Arc::clone(chain);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let chain = Arc::clone(&chain);
            tokio::spawn(async move {
                let Some(request) = read_request(&mut stream).await else { return };
                let method = request["method"].as_str().unwrap_or_default();
                let mut result = say(&chain, method, &request["params"]);
                change(method, &mut result);
                let answer = json!({ "jsonrpc": "2.0", "id": request["id"], "result": result }).to_string();
                let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\ncontent-length:";
                let _ = stream.write_all(format!("{head} {}\r\n\r\n{answer}", answer.len()).as_bytes()).await;
            });
        }
    });
    url
}

fn rpc(urls: &[String]) -> Rpc {
    let limits = RemoteLimits { timeout_ms: 30_000, lie_backoff_ms: 60_000, ..RemoteLimits::default() };
    Rpc::new(CHAIN, urls, limits).unwrap()
}

fn say(chain: &EmbeddedRollup, method: &str, params: &Value) -> Value {
    let block = || serde_json::from_value(params[0].clone()).ok().and_then(|hash: B256| chain.block_by_hash(hash));
    match method {
        "eth_chainId" => json!(U64::from(CHAIN)),
        "eth_getBlockByHash" => block().map_or(Value::Null, |block| tell(&block)),
        "eth_getBlockReceipts" => block().map_or(Value::Null, |block| receipts(&block)),
        other => panic!("{other} is not needed"),
    }
}

fn tell(block: &EmbeddedBlock) -> Value {
    let mut told = serde_json::to_value(&block.header).unwrap();
    let txs = block.txs.iter().map(|tx| {
        let mut told = match &tx.executed.tx {
            BlockTx::Signed(tx) => serde_json::to_value(tx.envelope()).unwrap(),
            BlockTx::Deposit(deposit) => {
                let tx = deposit.tx();
                json!({
                    "type": "0x7e", "sourceHash": tx.source_hash, "from": tx.from, "to": tx.to.to(), "mint": U256::from(tx.mint),
                    "value": tx.value, "gas": U64::from(tx.gas_limit), "input": tx.input,
                })
            }
        };
        told["hash"] = json!(tx.executed.tx.hash());
        // A lie that nobody has to notice: signers are recovered.
        told["from"] = if tx.executed.tx.is_deposit() { told["from"].clone() } else { json!(NOBODY) };
        told
    });
    told["transactions"] = Value::Array(txs.collect());
    told["hash"] = json!(block.hash);
    told
}

fn receipts(block: &EmbeddedBlock) -> Value {
    let told = block.txs.iter().map(|tx| {
        let receipt = tx.executed.receipt();
        let logs = receipt.logs.iter().map(|log| {
            // A lie, too: places are counted.
            json!({ "address": log.address, "topics": log.topics(), "data": log.data.data, "logIndex": "0x63" })
        });
        json!({
            "type": U64::from(receipt.tx_type), "status": if receipt.success { "0x1" } else { "0x0" },
            "cumulativeGasUsed": U64::from(receipt.cumulative_gas_used), "logs": logs.collect::<Vec<Value>>(),
            "depositNonce": receipt.deposit_nonce.map(U64::from), "blockHash": block.hash,
        })
    });
    Value::Array(told.collect())
}

/// What the block logs.
fn expected(chain: &EmbeddedRollup, block: B256) -> Vec<BlockLog> {
    let txs = chain.block_by_hash(block).unwrap().txs.iter().map(|tx| tx.executed.tx.hash()).collect::<Vec<B256>>();
    let topic = || vec![B256::with_last_byte(TOPIC)];
    let word = || Bytes::from([0; 32]);
    let visit = |nonce| TxId::Signed { signer: payer().address(), nonce };
    [
        (txs[0], TxId::Deposit(txs[0]), 0, Log::new_unchecked(L1_BLOCK, topic(), word())),
        (txs[1], visit(0), 0, Log::new_unchecked(SHOP, Vec::new(), Bytes::new())),
        (txs[1], visit(0), 1, Log::new_unchecked(SHOP, topic(), word())),
        (txs[3], visit(2), 0, Log::new_unchecked(SHOP, Vec::new(), Bytes::new())),
        (txs[3], visit(2), 1, Log::new_unchecked(SHOP, topic(), word())),
    ]
    .into_iter()
    .zip(0..)
    .map(|((tx_hash, tx, in_tx, log), index)| BlockLog { tx_hash, tx, in_tx, index, log })
    .collect()
}

#[tokio::test]
async fn the_logs_of_a_block_have_their_places_and_transactions_wherever_the_rollup_is() {
    let (chain, block) = rollup().await;
    let expected = expected(&chain, block);
    assert_eq!(chain.logs(block).await, Ok(expected.clone()));
    let rpc = rpc(&[endpoint(&chain, |_, _| {}).await]);
    assert_eq!(logs(&rpc, block).await, Ok(expected));

    let nowhere = B256::repeat_byte(9);
    let unknown = Err(NodeError::UnknownBlock { chain: CHAIN, hash: nowhere });
    assert_eq!(chain.logs(nowhere).await, unknown);
    assert_eq!(logs(&rpc, nowhere).await, unknown);
    let genesis = chain.block(0).unwrap().hash;
    assert_eq!((chain.logs(genesis).await, logs(&rpc, genesis).await), (Ok(Vec::new()), Ok(Vec::new())));
}

#[tokio::test]
async fn what_the_header_does_not_commit_to_is_not_believed_and_blamed() {
    let lies: [(Change, &str); 7] = [
        (
            |method, answer| {
                if method == "eth_getBlockReceipts" {
                    drop(answer[1]["logs"].as_array_mut().unwrap().pop());
                }
            },
            "the receipts of block 1 have the root",
        ),
        (
            |method, answer| {
                if method == "eth_getBlockReceipts" {
                    answer[3]["logs"][0]["address"] = json!(NOBODY);
                }
            },
            "the receipts of block 1 have the root",
        ),
        (
            |method, answer| {
                if method == "eth_getBlockReceipts" {
                    answer.as_array_mut().unwrap().swap(1, 3);
                }
            },
            "the receipts of block 1 have the root",
        ),
        (
            |method, answer| {
                if method == "eth_getBlockReceipts" {
                    drop(answer.as_array_mut().unwrap().pop());
                }
            },
            "block 1 has 4 transactions, and 3 receipts are said to be its",
        ),
        (
            |method, answer| {
                if method == "eth_getBlockReceipts" {
                    answer[2]["blockHash"] = json!(B256::repeat_byte(1));
                }
            },
            "receipt 2 of block 1",
        ),
        (
            |method, answer| {
                if method == "eth_getBlockByHash" {
                    answer["receiptsRoot"] = json!(B256::repeat_byte(1));
                }
            },
            "is said to have",
        ),
        (
            |method, answer| {
                if method == "eth_getBlockByHash" {
                    answer["transactions"].as_array_mut().unwrap().swap(1, 3);
                }
            },
            "the transactions of block 1 have another root",
        ),
    ];
    let (chain, block) = rollup().await;
    for (lie, words) in lies {
        let rpc = rpc(&[endpoint(&chain, lie).await]);
        match logs(&rpc, block).await {
            Err(NodeError::WrongBlock { cause, .. }) => assert!(cause.contains(words), "{words}: {cause}"),
            other => panic!("{words}: {other:?}"),
        }
        assert_eq!(rpc.endpoints()[0].degraded.as_ref().map(|(code, _)| *code), Some("wrong_block"), "{words}");
    }
}

#[tokio::test]
async fn what_is_not_known_here_is_no_lie_but_its_logs_are_not_believed_either() {
    let (chain, block) = rollup().await;
    let strange: Change = |method, answer| {
        if method == "eth_getBlockByHash" {
            answer["transactions"][1]["type"] = json!("0x64");
        }
    };
    let rpc = rpc(&[endpoint(&chain, strange).await]);
    let error = logs(&rpc, block).await.unwrap_err();
    assert!(error.to_string().contains("cannot be checked: transaction 1"), "{error}");
    assert_eq!(rpc.endpoints()[0].degraded, None);
}

#[tokio::test]
async fn receipts_that_one_node_does_not_have_are_asked_of_another() {
    let (chain, block) = rollup().await;
    let behind: Change = |method, answer| {
        if method == "eth_getBlockReceipts" {
            *answer = Value::Null;
        }
    };
    let [behind, well] = [endpoint(&chain, behind).await, endpoint(&chain, |_, _| {}).await];
    let alone = rpc(std::slice::from_ref(&behind));
    assert_eq!(logs(&alone, block).await, Err(NodeError::UnknownBlock { chain: CHAIN, hash: block }));
    assert_eq!(logs(&rpc(&[behind, well]), block).await, Ok(expected(&chain, block)));
}
