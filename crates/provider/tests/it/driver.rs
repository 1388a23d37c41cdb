//! A consensus driver that asks for blocks as op-node does.

use std::{net::SocketAddr, sync::Arc};

use alloy_primitives::{Address, B64, B256, Bytes};
use lockstep_provider::{EmbeddedRollup, JwtSecret, RollupNode};
use lockstep_simulation::BlockPlan;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// Seconds between blocks.
pub(crate) const BLOCK_TIME: u64 = 2;

/// Sends a body by HTTP and returns status and body of the answer.
pub(crate) async fn post(address: SocketAddr, token: Option<&str>, body: &[u8]) -> (u16, Vec<u8>) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let authorization = token.map(|token| format!("Authorization: Bearer {token}\r\n")).unwrap_or_default();
    let head = format!(
        "POST / HTTP/1.1\r\nHost: {address}\r\n{authorization}Content-Type: application/json\r\nConnection: close\r\n\
         Content-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(&[head.as_bytes(), body].concat()).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    let end = answer.windows(4).position(|window| window == b"\r\n\r\n").unwrap();
    let head = String::from_utf8(answer[..end].to_vec()).unwrap();
    assert!(!head.to_lowercase().contains("transfer-encoding"), "{head}");
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, answer[end + 4..].to_vec())
}

/// A token of now.
pub(crate) fn token(secret: JwtSecret) -> String {
    secret.encode(&Default::default()).unwrap()
}

/// The driver.
pub(crate) struct Driver {
    pub(crate) proxy: SocketAddr,
    pub(crate) secret: JwtSecret,
    pub(crate) rollup: Arc<EmbeddedRollup>,
    /// What it has sent since the last look, with the answers.
    pub(crate) sent: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Driver {
    /// The block that comes next.
    pub(crate) async fn plan(&self) -> BlockPlan {
        let head = self.rollup.head().await.unwrap();
        let mut plans = self.rollup.plan(&head, &[head.timestamp + BLOCK_TIME], Address::ZERO).await.unwrap();
        plans.remove(0)
    }

    /// A deposit that some later block will hold.
    pub(crate) async fn other_deposit(&self) -> Bytes {
        let head = self.rollup.head().await.unwrap();
        let plans = self.rollup.plan(&head, &[head.timestamp + 2, head.timestamp + 4], Address::ZERO).await.unwrap();
        plans[1].forced[0].raw().clone()
    }

    /// The attributes of a plan.
    pub(crate) fn attributes(plan: &BlockPlan) -> Value {
        let next = &plan.next;
        let forced: Vec<&Bytes> = plan.forced.iter().map(|tx| tx.raw()).collect();
        json!({
            "timestamp": format!("{:#x}", next.timestamp),
            "prevRandao": next.prev_randao,
            "suggestedFeeRecipient": next.beneficiary,
            "withdrawals": [],
            "parentBeaconBlockRoot": next.parent_beacon_block_root,
            "transactions": forced,
            "noTxPool": false,
            "gasLimit": format!("{:#x}", next.gas_limit),
            "eip1559Params": B64::from_slice(&next.extra_data[1..9]),
            "minBaseFee": u64::from_be_bytes(next.extra_data[9..17].try_into().unwrap()),
        })
    }

    /// Sends bytes as they are.
    pub(crate) async fn send(&mut self, body: &[u8]) -> (u16, Vec<u8>) {
        let (status, answer) = post(self.proxy, Some(&token(self.secret)), body).await;
        self.sent.push((body.to_vec(), answer.clone()));
        (status, answer)
    }

    pub(crate) async fn call(&mut self, method: &str, params: Value) -> Value {
        // Spaces as no serializer writes them.
        let id = self.sent.len();
        let body = format!("{{\"method\" :\"{method}\", \"jsonrpc\":\"2.0\",\"params\":  {params},\"id\": {id}}}");
        let (_, answer) = self.send(body.as_bytes()).await;
        let answer: Value = serde_json::from_slice(&answer).unwrap();
        assert_eq!(answer["id"], id);
        answer
    }

    pub(crate) async fn forkchoice(&mut self, head: B256, attributes: Value) -> Value {
        let state = json!({ "headBlockHash": head, "safeBlockHash": B256::ZERO, "finalizedBlockHash": B256::ZERO });
        self.call("engine_forkchoiceUpdatedV3", json!([state, attributes])).await
    }

    /// Asks for a block. Returns the id of its payload.
    pub(crate) async fn begin(&mut self, attributes: Value) -> B64 {
        let head = self.rollup.head().await.unwrap().hash;
        let answer = self.forkchoice(head, attributes).await;
        assert_eq!(answer["result"]["payloadStatus"]["status"], "VALID", "{answer}");
        serde_json::from_value(answer["result"]["payloadId"].clone()).unwrap()
    }

    /// Fetches a payload, hands it to the client, and makes its block the head. Returns hash and transactions.
    pub(crate) async fn seal(&mut self, id: B64) -> (B256, Vec<Bytes>) {
        let answer = self.call("engine_getPayloadV4", json!([id])).await;
        let envelope = &answer["result"];
        let payload = envelope["executionPayload"].clone();
        let hash: B256 = serde_json::from_value(payload["blockHash"].clone()).unwrap_or_else(|error| panic!("{error}: {answer}"));
        let transactions = serde_json::from_value(payload["transactions"].clone()).unwrap();
        let root = envelope["parentBeaconBlockRoot"].clone();
        let status = self.call("engine_newPayloadV4", json!([payload, [], root, []])).await;
        assert_eq!(status["result"]["status"], "VALID", "{status}");
        let head = self.forkchoice(hash, Value::Null).await;
        assert_eq!(head["result"]["payloadStatus"]["status"], "VALID", "{head}");
        assert_eq!(self.rollup.head().await.unwrap().hash, hash, "the chain goes on");
        (hash, transactions)
    }

    /// Makes the next block. Returns hash and transactions.
    pub(crate) async fn block(&mut self) -> (B256, Vec<Bytes>) {
        let plan = self.plan().await;
        let id = self.begin(Self::attributes(&plan)).await;
        self.seal(id).await
    }
}
