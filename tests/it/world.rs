//! A running `dev`: rollups, market, sequencers and builder, all of it spoken to over HTTP.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use alloy_primitives::{Address, ChainId, U256};
use lockstep_node::{
    dev::{Contracts, Dev, DevOptions, burn_mint_buy},
    keys::Key,
    process::Setup,
    telemetry::init_logs,
};
use lockstep_rpc::wire::BundleParams;

use crate::{chain::Chain, lockstep::Lockstep, wait::until};

/// What an NFT costs, in the smallest unit of the token.
pub(crate) const NFT_PRICE: U256 = U256::from_limbs([100_000_000, 0, 0, 0]);

/// A free port of this machine.
pub(crate) const LOCAL: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// Two rollups, a slot and a block a second.
pub(crate) fn options() -> DevOptions {
    DevOptions { listen: LOCAL, slot_ms: 1_000, block_times: vec![1], ..DevOptions::default() }
}

/// Logs of the processes, when they are asked for.
pub(crate) fn logs() {
    if std::env::var_os("LOCKSTEP_LOG").is_some() {
        init_logs(false);
    }
}

/// A running `dev`. Ends when it is dropped.
#[derive(Debug)]
pub(crate) struct World {
    dev: Dev,
    pub(crate) lockstep: Lockstep,
    chains: Vec<Chain>,
}

impl World {
    pub(crate) async fn start(options: DevOptions) -> Self {
        logs();
        Self::of(Dev::start(options).await.expect("dev starts"))
    }

    /// Starts a `dev` that is set up otherwise in something.
    pub(crate) async fn start_with(options: DevOptions, change: impl FnOnce(&mut Setup)) -> Self {
        Self::try_start_with(options, change).await.expect("dev starts")
    }

    /// The same; `None` when it cannot start, as while another process has its folder.
    pub(crate) async fn try_start_with(options: DevOptions, change: impl FnOnce(&mut Setup)) -> Option<Self> {
        logs();
        let mut prepared = Dev::prepare(options).expect("dev is prepared");
        change(&mut prepared.setup);
        prepared.start().await.ok().map(Self::of)
    }

    /// The rollup at an index, as AggLayer calls it.
    pub(crate) fn network(&self, index: usize) -> u32 {
        self.dev.rollups[index].network
    }

    /// `None` when it cannot start, as while another process has its folder.
    pub(crate) async fn try_start(options: DevOptions) -> Option<Self> {
        Dev::start(options).await.ok().map(Self::of)
    }

    fn of(dev: Dev) -> Self {
        let url = dev.process.url();
        let chains =
            dev.rollups.iter().map(|rollup| Chain::at(rollup.chain, &format!("{url}/rollup/{}", rollup.chain))).collect();
        Self { dev, lockstep: Lockstep::at(&url), chains }
    }

    pub(crate) const fn dev(&self) -> &Dev {
        &self.dev
    }

    /// Credits an account of the market.
    pub(crate) async fn credit(&self, account: Address, amount: U256) {
        self.dev.process.credit(account, amount).await.expect("dev plays the market");
    }

    pub(crate) fn url(&self) -> String {
        self.dev.process.url()
    }

    /// The methods of `POST /`.
    pub(crate) fn methods(&self) -> &[&'static str] {
        self.dev.process.methods()
    }

    pub(crate) const fn contracts(&self) -> &Contracts {
        &self.dev.contracts
    }

    pub(crate) fn chains(&self) -> &[Chain] {
        &self.chains
    }

    pub(crate) fn chain(&self, index: usize) -> &Chain {
        &self.chains[index]
    }

    pub(crate) fn chain_of(&self, id: ChainId) -> &Chain {
        self.chains.iter().find(|chain| chain.id == id).expect("a rollup of this world")
    }

    /// The CCTP domain of the rollup at an index.
    pub(crate) fn domain(&self, index: usize) -> u32 {
        self.dev.rollups[index].domain
    }

    /// The slot that owns a block.
    pub(crate) async fn slot_of(&self, chain: ChainId, block: u64) -> u64 {
        let block = self.chain_of(chain).block(block).await;
        self.dev.process.timings().clock.slot_at(block.timestamp() * 1_000).expect("blocks are made after genesis")
    }

    /// Burn on the first rollup what an NFT costs; mint it and buy that NFT on the second.
    pub(crate) async fn story(&self, buyer: &Key, token: u64) -> BundleParams {
        let (origin, destination) = (self.chain(0), self.chain(1));
        let from = (origin.id, origin.nonce(buyer.address()).await);
        let to = (destination.id, self.domain(1), destination.nonce(buyer.address()).await);
        burn_mint_buy(self.contracts(), buyer, from, to, NFT_PRICE, U256::from(token))
    }

    /// Waits until every rollup has made that many blocks more.
    pub(crate) async fn pass(&self, blocks: u64) {
        for chain in &self.chains {
            let height = chain.height().await + blocks;
            until("blocks are made", async || (chain.height().await >= height).then_some(())).await;
        }
    }
}
