//! `dev --demo`: a stream of bundles of all kinds, sent over JSON-RPC like anybody's.

use std::collections::BTreeMap;

use alloy_primitives::{Address, B256, ChainId, U64, U256};
use alloy_sol_types::SolCall;
use jsonrpsee::{
    core::client::ClientT,
    http_client::{HttpClient, HttpClientBuilder},
    rpc_params,
};
use lockstep_rpc::{
    api::LockstepApiClient,
    wire::{BundleParams, EthSentBundle, RequirementParams, SlotReport},
};
use serde_json::{Value, json};

use super::{
    Dev, DevRollup,
    contracts::{Contracts, Draft, buyCall, encode, getAmountsOutCall, incrementCall, swapExactTokensForTokensCall, usdc},
    example::{TIP, burn_mint_buy, call, relay_leg, txs_leg},
    user,
};
use crate::{
    clock::{now_ms, sleep_until},
    keys::Key,
    process::Process,
};

/// How long a bundle that must fail is tried before it expires, in seconds.
const FAILING_SECONDS: u64 = 5;
/// How long the demo waits for the blocks after a slot at the most, and how often it looks.
const SETTLE_MS: u64 = 400;
const LOOK_MS: u64 = 10;
/// How long is waited before a bundle that could not be sent is made anew.
const RETRY_MS: u64 = 100;
/// What the arbitrageur trades, in wei of the native asset.
const ARBITRAGE_WEI: u128 = 500_000_000_000_000_000;

/// Sends bundles and waits for what becomes of them.
#[derive(Debug)]
pub struct Demo {
    client: HttpClient,
    rollup_clients: BTreeMap<ChainId, HttpClient>,
    contracts: Contracts,
    rollups: Vec<(ChainId, u32)>,
    token_id: u64,
    /// Bundles that must fail and have not ended yet, by kind: their senders' nonces are taken until then.
    failing: BTreeMap<&'static str, B256>,
}

/// The kinds that must fail.
const FAILING: [&str; 2] = ["too-little-burned", "unprofitable"];

/// Which account sends what; they do not share nonces.
fn sender(kind: &str) -> Key {
    user(match kind {
        "burn-mint-buy" => 0,
        "transfer" => 1,
        "arbitrage" => 2,
        "three-rollups" => 3,
        "bundle" => 4,
        "too-little-burned" => 5,
        _ => 6,
    })
}

impl Demo {
    /// A demo of a running `dev`.
    ///
    /// # Errors
    /// When no client can be made for its URL.
    pub fn new(dev: &Dev) -> Result<Self, String> {
        let build = |url: String| HttpClientBuilder::default().build(url).map_err(|error| error.to_string());
        let url = dev.process.url();
        let mut rollup_clients = BTreeMap::new();
        for DevRollup { chain, .. } in &dev.rollups {
            rollup_clients.insert(*chain, build(format!("{url}/rollup/{chain}"))?);
        }
        Ok(Self {
            client: build(url)?,
            rollup_clients,
            contracts: dev.contracts,
            rollups: dev.rollups.iter().map(|rollup| (rollup.chain, rollup.domain)).collect(),
            token_id: 1_000,
            failing: BTreeMap::new(),
        })
    }

    /// Sends one bundle of every kind; of those that must fail, once the last one has ended.
    pub async fn send(&mut self, process: &Process) {
        for kind in ["burn-mint-buy", "transfer", "arbitrage", "three-rollups", "bundle", "too-little-burned", "unprofitable"] {
            if self.failing.contains_key(kind) {
                continue;
            }
            let mut sent = self.send_one(kind).await;
            if sent.is_err() {
                // A block came between reading a nonce and using it: what was read is old, so it is read again.
                sleep_until(now_ms() + RETRY_MS).await;
                sent = self.send_one(kind).await;
            }
            match sent {
                Ok(Some(hash)) => {
                    process.label(hash, if kind == "bundle" { "single-rollup" } else { kind });
                    if FAILING.contains(&kind) {
                        self.failing.insert(kind, hash);
                    }
                }
                Ok(None) => {}
                Err(error) => tracing::warn!(kind, error, "the demo could not send a bundle"),
            }
        }
    }

    /// Waits until the blocks that follow a slot are there, so that nonces are read after them; not longer than a moment,
    /// because a rollup may have none.
    pub async fn settle(&self, dev: &Dev, end_ms: u64) {
        let deadline = now_ms() + SETTLE_MS;
        let behind =
            |rollup: &DevRollup| rollup.rollup.newest().is_none_or(|block| block.header.timestamp.saturating_mul(1_000) < end_ms);
        while dev.rollups.iter().any(behind) && now_ms() < deadline {
            sleep_until(now_ms() + LOOK_MS).await;
        }
    }

    /// Notes what has ended.
    pub fn note(&mut self, report: &SlotReport) {
        for bundle in &report.bundles {
            if bundle.state != "pending" {
                self.failing.retain(|_, hash| *hash != bundle.hash);
            }
        }
    }

    fn rollup(&self, index: usize) -> Option<(ChainId, u32)> {
        self.rollups.get(index).copied()
    }

    async fn nonce(&self, chain: ChainId, account: Address) -> Result<u64, String> {
        let client = self.rollup_clients.get(&chain).ok_or("no such rollup")?;
        let nonce: U64 = client
            .request("eth_getTransactionCount", rpc_params![account, "pending"])
            .await
            .map_err(|error| error.to_string())?;
        Ok(nonce.to())
    }

    async fn send_bundle(&self, bundle: BundleParams) -> Result<Option<B256>, String> {
        let bundle = serde_json::to_value(bundle).map_err(|error| error.to_string())?;
        let sent = self.client.send_bundle(bundle).await.map_err(|error| error.to_string())?;
        Ok(Some(sent.bundle_hash))
    }

    /// `None` when there are too few rollups for the kind.
    async fn send_one(&mut self, kind: &'static str) -> Result<Option<B256>, String> {
        let key = sender(kind);
        let Some((first, _)) = self.rollup(0) else { return Ok(None) };
        match kind {
            "transfer" => {
                let nonce = self.nonce(first, key.address()).await?;
                let tx = Draft {
                    chain: first,
                    nonce,
                    to: Some(user(6).address()),
                    value: U256::from(1_000_000_000_u64),
                    data: Default::default(),
                    gas: 21_000,
                    tip: TIP,
                };
                let tx = tx.sign(&key);
                let sent: B256 = self.rollup_request(first, "eth_sendRawTransaction", json!(tx.raw())).await?;
                let leg = txs_leg(first, &[]);
                // A raw transaction is a bundle of one that may revert: its Lockstep hash follows from that.
                let single = BundleParams {
                    legs: vec![lockstep_rpc::wire::LegParams {
                        txs: Some(vec![tx.raw().clone()]),
                        reverting_tx_hashes: vec![sent],
                        ..leg
                    }],
                    ..BundleParams::default()
                };
                single.into_bundle(None).map(|bundle| Some(bundle.hash())).map_err(|error| error.to_string())
            }
            "bundle" => {
                let nonce = self.nonce(first, key.address()).await?;
                let data = encode(&incrementCall { key: U256::from(1) });
                let txs: Vec<_> = (nonce..nonce + 2)
                    .map(|nonce| call(first, &key, nonce, self.contracts.probe, data.clone()).raw().clone())
                    .collect();
                let sent: EthSentBundle = self.rollup_request(first, "eth_sendBundle", json!({ "txs": txs })).await?;
                Ok(Some(sent.lockstep_hash))
            }
            "burn-mint-buy" => self.story(&key, NFT_BURN, None, false).await,
            // The purchase needs more than was burned and its buyer has nothing else there: it reverts, and with it the burn.
            "too-little-burned" => self.story(&key, NFT_BURN / 2, Some(FAILING_SECONDS), true).await,
            "arbitrage" => self.arbitrage(&key).await,
            "three-rollups" => self.three_rollups(&key).await,
            _ => self.unprofitable(&key).await,
        }
    }

    async fn rollup_request<T: serde::de::DeserializeOwned>(
        &self,
        chain: ChainId,
        method: &str,
        param: Value,
    ) -> Result<T, String> {
        let client = self.rollup_clients.get(&chain).ok_or("no such rollup")?;
        client.request(method, rpc_params![param]).await.map_err(|error| error.to_string())
    }

    async fn story(&mut self, key: &Key, burned: u64, seconds: Option<u64>, poor: bool) -> Result<Option<B256>, String> {
        let (Some((from, _)), Some((to, domain))) = (self.rollup(0), self.rollup(1)) else { return Ok(None) };
        self.token_id += 1;
        let from_nonce = self.nonce(from, key.address()).await?;
        if poor {
            // A buyer without USDC of its own on the destination: a new account that the burn pays.
            return self.poor_story(key, (from, from_nonce), (to, domain), burned, seconds).await;
        }
        let to_nonce = self.nonce(to, key.address()).await?;
        let bundle = burn_mint_buy(
            &self.contracts,
            key,
            (from, from_nonce),
            (to, domain, to_nonce),
            U256::from(burned),
            U256::from(self.token_id),
        );
        self.send_bundle(bounded(bundle, seconds)).await
    }

    async fn poor_story(
        &self,
        key: &Key,
        (from, from_nonce): (ChainId, u64),
        (to, domain): (ChainId, u32),
        burned: u64,
        seconds: Option<u64>,
    ) -> Result<Option<B256>, String> {
        // The token is bought by the same key, but everything it has on the destination is given away first.
        let to_nonce = self.nonce(to, key.address()).await?;
        let contracts = &self.contracts;
        let burn =
            call(from, key, from_nonce, contracts.token_messenger, contracts.burn(U256::from(burned), domain, key.address()));
        let give = super::contracts::transferCall { to: user(7).address(), amount: usdc(100_000) };
        let away = call(to, key, to_nonce, contracts.usdc, encode(&give));
        let buy = call(to, key, to_nonce + 1, contracts.nft_shop, encode(&buyCall { tokenId: U256::from(self.token_id) }));
        let legs = vec![txs_leg(from, &[burn]), txs_leg(to, &[away]), relay_leg(to, 0, 0), txs_leg(to, &[buy])];
        self.send_bundle(bounded(BundleParams { legs, ..BundleParams::default() }, seconds)).await
    }

    /// Buys where the native asset is cheap and sells where it is dear, from inventory on both rollups.
    async fn arbitrage(&self, key: &Key) -> Result<Option<B256>, String> {
        let (Some((a, _)), Some((b, _))) = (self.rollup(0), self.rollup(1)) else { return Ok(None) };
        let amount = U256::from(ARBITRAGE_WEI);
        let (on_a, on_b) = (self.quote(a, amount).await?, self.quote(b, amount).await?);
        let (cheap, dear, proceeds, cost) = if on_a < on_b { (a, b, on_b, on_a) } else { (b, a, on_a, on_b) };
        let deadline = U256::MAX;
        let contracts = &self.contracts;
        // One per mille above what the pool pays for the same amount covers fee and slippage of buying it.
        let spend = cost + cost / U256::from(100);
        let buy = encode(&swapExactTokensForTokensCall {
            amountIn: spend,
            amountOutMin: amount,
            path: vec![contracts.usdc, contracts.weth],
            to: key.address(),
            deadline,
        });
        let sell = encode(&swapExactTokensForTokensCall {
            amountIn: amount,
            amountOutMin: spend,
            path: vec![contracts.weth, contracts.usdc],
            to: key.address(),
            deadline,
        });
        if proceeds <= spend {
            return Ok(None);
        }
        let cheap_tx = call(cheap, key, self.nonce(cheap, key.address()).await?, contracts.router, buy);
        let dear_tx = call(dear, key, self.nonce(dear, key.address()).await?, contracts.router, sell);
        let require = vec![RequirementParams {
            chain_id: U64::from(dear),
            account: key.address(),
            asset: contracts.usdc.to_string(),
            min_increase: spend,
        }];
        let bundle = BundleParams {
            legs: vec![txs_leg(cheap, &[cheap_tx]), txs_leg(dear, &[dear_tx])],
            require,
            ..BundleParams::default()
        };
        self.send_bundle(bounded(bundle, Some(20))).await
    }

    /// What the pool pays in USDC for an amount of the native asset.
    async fn quote(&self, chain: ChainId, amount: U256) -> Result<U256, String> {
        let data = encode(&getAmountsOutCall { amountIn: amount, path: vec![self.contracts.weth, self.contracts.usdc] });
        let client = self.rollup_clients.get(&chain).ok_or("no such rollup")?;
        let answer: alloy_primitives::Bytes = client
            .request("eth_call", rpc_params![json!({ "to": self.contracts.router, "data": data }), "latest"])
            .await
            .map_err(|error| error.to_string())?;
        let amounts = getAmountsOutCall::abi_decode_returns(&answer).map_err(|error| error.to_string())?;
        amounts.last().copied().ok_or_else(|| "the router answers nothing".to_owned())
    }

    /// Two burns on one rollup, each delivered and spent on another.
    async fn three_rollups(&mut self, key: &Key) -> Result<Option<B256>, String> {
        let (Some((a, _)), Some((b, b_domain)), Some((c, c_domain))) = (self.rollup(0), self.rollup(1), self.rollup(2)) else {
            return Ok(None);
        };
        self.token_id += 1;
        let (contracts, id) = (self.contracts, U256::from(self.token_id));
        let nonce = self.nonce(a, key.address()).await?;
        let burn = |nonce, domain| {
            call(a, key, nonce, contracts.token_messenger, contracts.burn(U256::from(NFT_BURN), domain, key.address()))
        };
        let buy = |chain, nonce| call(chain, key, nonce, contracts.nft_shop, encode(&buyCall { tokenId: id }));
        let legs = vec![
            txs_leg(a, &[burn(nonce, b_domain), burn(nonce + 1, c_domain)]),
            relay_leg(b, 0, 0),
            relay_leg(c, 0, 1),
            txs_leg(b, &[buy(b, self.nonce(b, key.address()).await?)]),
            txs_leg(c, &[buy(c, self.nonce(c, key.address()).await?)]),
        ];
        self.send_bundle(BundleParams { legs, ..BundleParams::default() }).await
    }

    /// A burn and its relay without a tip: the builder would pay for the relay and get nothing.
    async fn unprofitable(&self, key: &Key) -> Result<Option<B256>, String> {
        let (Some((from, _)), Some((to, domain))) = (self.rollup(0), self.rollup(1)) else { return Ok(None) };
        let nonce = self.nonce(from, key.address()).await?;
        let burn = Draft {
            chain: from,
            nonce,
            to: Some(self.contracts.token_messenger),
            value: U256::ZERO,
            data: self.contracts.burn(U256::from(NFT_BURN), domain, key.address()),
            gas: 400_000,
            tip: 0,
        };
        let legs = vec![txs_leg(from, &[burn.sign(key)]), relay_leg(to, 0, 0)];
        self.send_bundle(bounded(BundleParams { legs, ..BundleParams::default() }, Some(FAILING_SECONDS))).await
    }
}

/// What is burned for an NFT.
const NFT_BURN: u64 = super::contracts::NFT_PRICE;

fn bounded(bundle: BundleParams, seconds: Option<u64>) -> BundleParams {
    BundleParams { max_timestamp: seconds.map(|seconds| now_ms() / 1000 + seconds), ..bundle }
}
