//! `dev --contest`: who gets a slot when several want it, and what becomes of it. Everything is sent over JSON-RPC, and every rival
//! is a builder like any other, with order flow of its own.

use std::net::SocketAddr;

use alloy_primitives::{B256, ChainId, U64, U256};
use jsonrpsee::{
    core::client::ClientT,
    http_client::{HttpClient, HttpClientBuilder},
    rpc_params,
};
use lockstep_primitives::{Bid, BundleState, RollupSet};
use lockstep_rpc::{
    api::{LockstepApiClient, MarketApiClient},
    wire::{BidWire, BundleParams},
};

use super::{
    Dev, DevOptions,
    contracts::{Draft, encode, incrementCall},
    example::{TIP, burn_mint_buy, txs_leg},
    user,
};
use crate::{
    keys::Key,
    process::{BuilderSetup, MarketSetup, Process, RollupSetup, Setup},
};

/// What a contest shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Contest {
    /// Two rivals have something small for one rollup each. The builder, with a bundle over both, outbids them together.
    Crossing,
    /// What the two rivals have is worth more than the bundle over both: each gets its rollup.
    Singles,
    /// The reserves are above all that anybody has: nothing is sold, and the default proposers build.
    Reserves,
    /// Somebody outbids everybody, stays silent, and pays.
    Silent,
}

/// What the silent bidder, and each rival, deposits, and what the silent bidder bids; in wei.
const DEPOSIT: u64 = 10_000_000_000_000_000_000;
const SILENT_BID: u64 = 20_000_000_000_000_000;
/// A reserve that nothing here is worth, in wei.
const HIGH_RESERVE: u64 = 1_000_000_000_000_000_000;
/// By how much more rivals tip in a contest that they win.
const RICH: u128 = 20;
/// What is burned for an NFT.
const BURN: u64 = super::contracts::NFT_PRICE;
/// The accounts whose orders rivals have.
const FIRST_SENDER: usize = 5;

/// The key of a rival, by the index of its rollup.
pub fn rival(index: usize) -> Key {
    Key::of_name(&format!("rival {index}"))
}

/// The key of the silent bidder.
pub fn silent() -> Key {
    Key::of_name("a silent bidder")
}

impl Contest {
    /// The options that the contest needs.
    #[must_use]
    pub fn options(self, options: DevOptions) -> DevOptions {
        match self {
            Self::Reserves => DevOptions { reserve: U256::from(HIGH_RESERVE), ..options },
            Self::Crossing | Self::Singles | Self::Silent => options,
        }
    }
}

/// A builder with a rollup of its own, and what it was sent last.
#[derive(Debug)]
struct Rival {
    process: Process,
    client: HttpClient,
    chain: ChainId,
    index: usize,
    last: Option<B256>,
}

/// A contest under way. Its rivals end when it is dropped.
#[derive(Debug)]
pub struct Running {
    contest: Contest,
    client: HttpClient,
    rivals: Vec<Rival>,
    rollups: Vec<(ChainId, u32)>,
    contracts: super::Contracts,
    last: Option<B256>,
    tokens: u64,
}

impl Running {
    /// Starts the rivals of a contest in a running `dev` of at least two rollups.
    ///
    /// # Errors
    /// In words, when one does not start or cannot deposit.
    pub async fn start(contest: Contest, dev: &Dev) -> Result<Self, String> {
        let mut rivals = Vec::new();
        if matches!(contest, Contest::Crossing | Contest::Singles) {
            for (index, rollup) in dev.setup.rollups.iter().take(2).enumerate() {
                dev.process.credit(rival(index).address(), U256::from(DEPOSIT)).await?;
                let process = Process::start(rival_setup(dev, index, rollup)?).await.map_err(|error| error.to_string())?;
                let client = client(&process.url())?;
                rivals.push(Rival { process, client, chain: rollup.chain, index, last: None });
            }
        }
        if contest == Contest::Silent {
            dev.process.credit(silent().address(), U256::from(DEPOSIT)).await?;
        }
        Ok(Self {
            contest,
            client: client(&dev.process.url())?,
            rivals,
            rollups: dev.rollups.iter().map(|rollup| (rollup.chain, rollup.domain)).collect(),
            contracts: dev.contracts,
            last: None,
            tokens: 5_000,
        })
    }

    /// Sends what everybody has for the next slots: anew what has ended, and the silent bidder's bid.
    pub async fn play(&mut self, dev: &Dev) {
        let sent = match self.contest {
            Contest::Silent => self.bid_silently().await,
            Contest::Crossing | Contest::Singles | Contest::Reserves => Ok(()),
        };
        let sent = sent.and(self.send_crossing(dev).await).and(self.send_singles().await);
        if let Err(error) = sent {
            tracing::warn!(contest = ?self.contest, error, "the contest could not send something");
        }
    }

    /// Ends the rivals.
    pub async fn stop(self) {
        for rival in self.rivals {
            rival.process.stop().await;
        }
    }

    /// A bundle over the first two rollups, for the builder of `dev`.
    async fn send_crossing(&mut self, dev: &Dev) -> Result<(), String> {
        if is_pending(&self.client, self.last).await {
            return Ok(());
        }
        let [(from, _), (to, domain), ..] = *self.rollups else { return Err("a contest needs two rollups".to_owned()) };
        self.tokens += 1;
        let key = user(0);
        let nonces = (nonce(dev.process.url(), from, &key).await?, nonce(dev.process.url(), to, &key).await?);
        let (burned, token) = (U256::from(BURN), U256::from(self.tokens));
        let bundle = burn_mint_buy(&self.contracts, &key, (from, nonces.0), (to, domain, nonces.1), burned, token);
        let hash = send(&self.client, &bundle).await?;
        dev.process.label(hash, "crossing");
        self.last = Some(hash);
        Ok(())
    }

    /// A transaction for each rival's rollup.
    async fn send_singles(&mut self) -> Result<(), String> {
        let tip = if self.contest == Contest::Singles { TIP * RICH } else { TIP };
        for rival in &mut self.rivals {
            if is_pending(&rival.client, rival.last).await {
                continue;
            }
            let (chain, key) = (rival.chain, user(FIRST_SENDER + rival.index));
            let nonce = nonce(rival.process.url(), chain, &key).await?;
            let data = encode(&incrementCall { key: U256::from(rival.index) });
            let draft = Draft { chain, nonce, to: Some(self.contracts.probe), value: U256::ZERO, data, gas: 400_000, tip };
            let bundle = BundleParams { legs: vec![txs_leg(chain, &[draft.sign(&key)])], ..BundleParams::default() };
            rival.last = Some(send(&rival.client, &bundle).await?);
        }
        Ok(())
    }

    /// Bids for all rollups in the slots that can be bid for, and does nothing more.
    async fn bid_silently(&self) -> Result<(), String> {
        let market = self.client.get_market_slot(None).await.map_err(|error| error.to_string())?;
        let rollups: RollupSet = self.rollups.iter().map(|(chain, _)| *chain).collect();
        for slot in market.slot..=market.slot + 1 {
            let bid = Bid { slot, rollups: rollups.clone(), amount: U256::from(SILENT_BID), exclusive: None, nonce: 1 };
            // It may have been taken before, or the slot be closed by now.
            let _taken = self.client.submit_bid(BidWire::new(&bid, silent().sign_bytes(bid.digest()))).await;
        }
        Ok(())
    }
}

/// A builder that knows one rollup.
fn rival_setup(dev: &Dev, index: usize, rollup: &RollupSetup) -> Result<Setup, String> {
    let template = dev.setup.builder.clone().ok_or("dev has no builder")?;
    let market = match &dev.setup.market {
        MarketSetup::Own(plan) => MarketSetup::At(dev.process.url(), plan.key.address()),
        elsewhere @ MarketSetup::At(..) => elsewhere.clone(),
    };
    Ok(Setup {
        listen: SocketAddr::from(([127, 0, 0, 1], 0)),
        public_url: None,
        data: None,
        rollups: vec![RollupSetup { sequencer: None, ..rollup.clone() }],
        builder: Some(BuilderSetup { key: rival(index), record: None, ..template }),
        committee: None,
        market,
        ..dev.setup.clone()
    })
}

fn client(url: &str) -> Result<HttpClient, String> {
    HttpClientBuilder::default().build(url).map_err(|error| error.to_string())
}

async fn nonce(url: String, chain: ChainId, key: &Key) -> Result<u64, String> {
    let rollup = client(&format!("{url}/rollup/{chain}"))?;
    let nonce: U64 = rollup
        .request("eth_getTransactionCount", rpc_params![key.address(), "latest"])
        .await
        .map_err(|error| error.to_string())?;
    Ok(nonce.to())
}

async fn send(client: &HttpClient, bundle: &BundleParams) -> Result<B256, String> {
    let bundle = serde_json::to_value(bundle).map_err(|error| error.to_string())?;
    client.send_bundle(bundle).await.map(|sent| sent.bundle_hash).map_err(|error| error.to_string())
}

/// Whether a bundle has not ended yet.
async fn is_pending(client: &HttpClient, hash: Option<B256>) -> bool {
    let Some(hash) = hash else { return false };
    let Ok(status) = client.get_bundle(hash).await else { return false };
    !BundleState::ALL.into_iter().any(|state| state.is_final() && state.as_str() == status.state)
}
