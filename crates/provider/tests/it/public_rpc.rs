//! The execution client's public port: the blocks and states of an embedded rollup, told as op-geth tells them.

use std::{net::SocketAddr, sync::Arc};

use alloy_primitives::{Address, B256, U64, U256};
use http_body_util::{BodyExt, Full};
use hyper::{
    Request, Response, StatusCode,
    body::{Bytes, Incoming},
};
use lockstep_provider::{EmbeddedBlock, EmbeddedRollup, RollupNode};
use lockstep_simulation::{BlockTx, MemoryState, StateView};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::{net::TcpListener, task::AbortHandle};

use crate::http::{respond, serve};

/// Code and message of an error.
type Failure = (i64, String);

/// The server.
pub(crate) struct PublicRpc {
    address: SocketAddr,
    task: AbortHandle,
}

impl Drop for PublicRpc {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl PublicRpc {
    pub(crate) async fn start(rollup: Arc<EmbeddedRollup>, version: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let answering = serve(listener, move |request| answer(Arc::clone(&rollup), version, request));
        Self { address, task: tokio::spawn(answering).abort_handle() }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

async fn answer(rollup: Arc<EmbeddedRollup>, version: &'static str, request: Request<Incoming>) -> Response<Full<Bytes>> {
    let body = request.into_body().collect().await.unwrap().to_bytes();
    let single = |call: &Value| {
        let method = call["method"].as_str().unwrap_or_default();
        match result(&rollup, version, method, &call["params"]) {
            Ok(result) => json!({ "jsonrpc": "2.0", "id": call["id"], "result": result }),
            Err((code, message)) => {
                json!({ "jsonrpc": "2.0", "id": call["id"], "error": { "code": code, "message": message } })
            }
        }
    };
    let answer = match serde_json::from_slice::<Value>(&body).unwrap() {
        Value::Array(calls) => Value::Array(calls.iter().map(single).collect()),
        call => single(&call),
    };
    respond(StatusCode::OK, answer.to_string().into_bytes())
}

fn read<T: DeserializeOwned>(params: &Value, position: usize) -> Result<T, Failure> {
    serde_json::from_value(params[position].clone()).map_err(|error| (-32602, error.to_string()))
}

/// The state after the block that a parameter names by its hash (EIP-1898).
fn state(rollup: &EmbeddedRollup, params: &Value, position: usize) -> Result<Arc<MemoryState>, Failure> {
    let hash: B256 =
        serde_json::from_value(params[position]["blockHash"].clone()).map_err(|error| (-32602, error.to_string()))?;
    let block = rollup.block_by_hash(hash).ok_or((-32000, "header not found".to_owned()))?;
    rollup.state(block.header.number).ok_or((-32000, "missing trie node".to_owned()))
}

fn result(rollup: &EmbeddedRollup, version: &str, method: &str, params: &Value) -> Result<Value, Failure> {
    let account = || -> Result<_, Failure> {
        let account = state(rollup, params, 1)?.account(read(params, 0)?);
        Ok(account.unwrap().unwrap_or_default())
    };
    let whole = params[1] == true;
    let told = |block: Option<Arc<EmbeddedBlock>>| block.map_or(Value::Null, |block| tell(&block, whole));
    Ok(match method {
        "eth_chainId" => json!(U64::from(rollup.chain())),
        "web3_clientVersion" => json!(version),
        "eth_getBlockByNumber" if params[0] == "latest" => told(rollup.newest()),
        "eth_getBlockByNumber" => told(rollup.block(read::<U64>(params, 0)?.to())),
        "eth_getBlockByHash" => told(rollup.block_by_hash(read(params, 0)?)),
        "eth_getTransactionByBlockHashAndIndex" => {
            let index = read::<U64>(params, 1)?.to::<usize>();
            let block = rollup.block_by_hash(read(params, 0)?).filter(|block| index < block.txs.len());
            block.map_or(Value::Null, |block| transaction(&block, index))
        }
        "eth_getBalance" => json!(account()?.balance),
        "eth_getTransactionCount" => json!(U64::from(account()?.nonce)),
        "eth_getCode" => {
            let address: Address = read(params, 0)?;
            json!(state(rollup, params, 1)?.code_of(address).map(|code| code.original_bytes()).unwrap_or_default())
        }
        "eth_getStorageAt" => {
            let slot = U256::from_be_bytes(read::<B256>(params, 1)?.0);
            json!(B256::from(state(rollup, params, 2)?.storage(read(params, 0)?, slot).unwrap()))
        }
        other => return Err((-32601, format!("the method {other} does not exist/is not available"))),
    })
}

fn tell(block: &EmbeddedBlock, whole: bool) -> Value {
    let mut told = serde_json::to_value(&block.header).unwrap();
    let txs = block.txs.iter().enumerate();
    let txs = txs.map(|(index, tx)| if whole { transaction(block, index) } else { json!(tx.executed.tx.hash()) });
    told["transactions"] = Value::Array(txs.collect());
    told["hash"] = json!(block.hash);
    told["uncles"] = json!([]);
    told["withdrawals"] = json!([]);
    told
}

fn transaction(block: &EmbeddedBlock, index: usize) -> Value {
    let tx = &block.txs[index].executed.tx;
    let mut told = match tx {
        BlockTx::Signed(tx) => serde_json::to_value(tx.envelope()).unwrap(),
        BlockTx::Deposit(deposit) => {
            let deposit = deposit.tx();
            let mut told = json!({
                "type": "0x7e",
                "sourceHash": deposit.source_hash,
                "to": deposit.to.to(),
                "value": deposit.value,
                "gas": U64::from(deposit.gas_limit),
                "gasPrice": "0x0",
                "input": deposit.input,
                "depositReceiptVersion": "0x1",
                "v": "0x0",
                "r": "0x0",
                "s": "0x0",
            });
            // Left out when there is none, as `isSystemTx` is when it is false.
            if deposit.mint > 0 {
                told["mint"] = json!(U256::from(deposit.mint));
            }
            told
        }
    };
    told["hash"] = json!(tx.hash());
    told["from"] = json!(tx.sender());
    told["blockHash"] = json!(block.hash);
    told["blockNumber"] = json!(U64::from(block.header.number));
    told["transactionIndex"] = json!(U64::from(index));
    told
}
