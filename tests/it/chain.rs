//! One rollup's JSON-RPC, as any client sees it.

use alloy_primitives::{Address, B256, Bytes, ChainId, U64, U256};
use alloy_sol_types::{SolCall, sol};
use jsonrpsee::{
    core::{ClientError, client::ClientT, traits::ToRpcParams},
    http_client::{HttpClient, HttpClientBuilder},
};
use lockstep_primitives::SignedTx;
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::json;

use crate::wait::until;

sol! {
    function balanceOf(address account) external view returns (uint256);
    function ownerOf(uint256 tokenId) external view returns (address);
}

/// The parameters of a method that takes none.
pub(crate) const NONE: [(); 0] = [];

/// A rollup behind its URL.
#[derive(Debug)]
pub(crate) struct Chain {
    pub(crate) id: ChainId,
    client: HttpClient,
}

/// A block with the hashes of its transactions.
#[derive(Debug, Deserialize)]
pub(crate) struct Block {
    pub(crate) hash: B256,
    timestamp: U64,
    pub(crate) miner: Address,
    pub(crate) transactions: Vec<B256>,
}

impl Block {
    /// In seconds.
    pub(crate) fn timestamp(&self) -> u64 {
        self.timestamp.to()
    }
}

/// A receipt.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Receipt {
    block_number: U64,
    status: U64,
}

impl Receipt {
    /// The number of its block.
    pub(crate) fn block(&self) -> u64 {
        self.block_number.to()
    }

    /// Whether the transaction succeeded.
    pub(crate) fn success(&self) -> bool {
        self.status == U64::from(1)
    }
}

/// What of an account could change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Holdings {
    pub(crate) nonce: u64,
    pub(crate) native: U256,
    pub(crate) usdc: U256,
}

impl Chain {
    pub(crate) fn at(id: ChainId, url: &str) -> Self {
        Self { id, client: HttpClientBuilder::default().build(url).expect("a client of an HTTP URL") }
    }

    /// Asks; a refusal is the caller's to judge.
    pub(crate) async fn try_ask<T: DeserializeOwned>(
        &self,
        method: &str,
        params: impl ToRpcParams + Send,
    ) -> Result<T, ClientError> {
        self.client.request(method, params).await
    }

    /// Asks what has no business to be refused.
    pub(crate) async fn ask<T: DeserializeOwned>(&self, method: &str, params: impl ToRpcParams + Send) -> T {
        match self.try_ask(method, params).await {
            Ok(answer) => answer,
            Err(error) => panic!("{method} on rollup {}: {error}", self.id),
        }
    }

    /// The code with which a method refuses to be called without parameters.
    pub(crate) async fn refusal_code(&self, method: &str) -> i32 {
        match self.try_ask::<serde_json::Value>(method, NONE).await {
            Err(ClientError::Call(error)) => error.code(),
            other => panic!("{method} without parameters: {other:?}"),
        }
    }

    /// Sends a transaction on its own.
    pub(crate) async fn send(&self, tx: &SignedTx) {
        let hash: B256 = self.ask("eth_sendRawTransaction", (tx.raw(),)).await;
        assert_eq!(hash, tx.hash());
    }

    pub(crate) async fn receipt(&self, hash: B256) -> Option<Receipt> {
        self.ask("eth_getTransactionReceipt", (hash,)).await
    }

    /// Waits until a transaction is in a block.
    pub(crate) async fn mined(&self, hash: B256) -> Receipt {
        until(&format!("transaction {hash} is in a block of rollup {}", self.id), async || self.receipt(hash).await).await
    }

    pub(crate) async fn height(&self) -> u64 {
        self.ask::<U64>("eth_blockNumber", NONE).await.to()
    }

    pub(crate) async fn block(&self, number: u64) -> Block {
        self.ask("eth_getBlockByNumber", (U64::from(number), false)).await
    }

    pub(crate) async fn nonce(&self, account: Address) -> u64 {
        self.ask::<U64>("eth_getTransactionCount", (account, "latest")).await.to()
    }

    pub(crate) async fn balance(&self, account: Address) -> U256 {
        self.ask("eth_getBalance", (account, "latest")).await
    }

    pub(crate) async fn holdings(&self, account: Address, usdc: Address) -> Holdings {
        Holdings {
            nonce: self.nonce(account).await,
            native: self.balance(account).await,
            usdc: self.call(usdc, &balanceOfCall { account }).await,
        }
    }

    pub(crate) async fn owner_of(&self, shop: Address, token: u64) -> Address {
        self.call(shop, &ownerOfCall { tokenId: U256::from(token) }).await
    }

    /// Reads a contract on the newest state.
    pub(crate) async fn call<C: SolCall>(&self, to: Address, call: &C) -> C::Return {
        let data = Bytes::from(call.abi_encode());
        let answer: Bytes = self.ask("eth_call", (json!({ "to": to, "data": data }), "latest")).await;
        C::abi_decode_returns(&answer).expect("the contract answers as it is declared")
    }
}
