//! A rollup's node in another process, by JSON-RPC over HTTP and WebSocket.
//!
//! Reading works with every node: its blocks are executed here, so that the state moves on with them, and what is not known
//! yet is fetched in batches pinned to a block. Making exactly the block of a list needs a node that can be told to; over
//! public JSON-RPC that is anvil, started with `--no-mining --order fifo --disable-pool-balance-checks` (and
//! `--enable-tx-gas-limit` where Osaka's rules hold). The other ways of delivery are in [`DeliverySettings`].

mod ahead;
mod answers;
mod block;
mod bundle_relay;
mod cache;
mod chain;
mod delivery;
mod dev;
mod endpoints;
mod errors;
mod exchange;
mod execute;
mod follow;
mod heads;
mod limits;
mod listed;
mod logs;
mod pending;
mod prefetch;
mod proof;
mod publish;
mod raw;
mod state;
mod subscribe;
mod tail;
#[cfg(test)]
mod tests;
mod wire;

use std::{fmt, sync::Arc};

use alloy_primitives::{Address, B256, Bytes};
use async_trait::async_trait;
use lockstep_primitives::{BlockList, ChainId, Guarantee, SignedTx};
use lockstep_simulation::{BlockPlan, ForkSchedule, ParentBlock, SlotRollup, StateView};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::{
    sync::{broadcast, mpsc, watch},
    task::AbortHandle,
};

use self::{
    answers::{BlockAnswer, ReceiptAnswer},
    limits::MIN_CACHE_BYTES,
    pending::pending_transactions,
    prefetch::Prefetcher,
    state::{PinnedState, PinnedStates},
    subscribe::HeadSignal,
    wire::Rpc,
};
use crate::{BlockLog, DeliveryAdapter, Landed, NodeError, NodeHealth, PublishedBlock, Reorg, RollupNode};

pub(crate) use block::encode;
pub(crate) use chain::RemoteChain;

pub use cache::CacheStats;
pub use delivery::DeliverySettings;
pub use endpoints::EndpointStatus;
pub use errors::RpcFailure;
pub(crate) use errors::{excerpt, with_causes};
pub use exchange::http_client;
pub(crate) use exchange::{for_plain_http, read_body, retry_after};
pub use follow::FollowStats;
pub use limits::RemoteLimits;

/// What a remote node is connected by.
#[derive(Clone)]
pub struct RemoteSettings {
    /// The rollup.
    pub chain: ChainId,
    /// When which rules hold.
    pub forks: ForkSchedule,
    /// The addresses of its node, or of several nodes of the same rollup: `http://` and `https://` for calls, at least one;
    /// `ws://` and `wss://` to hear of new heads and public transactions.
    pub urls: Vec<String>,
    /// Bounds.
    pub limits: RemoteLimits,
    /// How lists get onto the chain.
    pub delivery: DeliverySettings,
}

impl fmt::Debug for RemoteSettings {
    /// Without the addresses, which may hold the account's key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RemoteSettings")
            .field("chain", &self.chain)
            .field("forks", &self.forks)
            .field("urls", &self.urls.len())
            .field("limits", &self.limits)
            .field("delivery", &self.delivery)
            .finish()
    }
}

/// A rollup's node, reached by JSON-RPC.
pub struct RemoteNode {
    chain: RemoteChain,
    /// How lists get onto its chain; `None` when it can only be read.
    adapter: Option<Box<dyn DeliveryAdapter>>,
    states: Mutex<PinnedStates>,
    prefetcher: Prefetcher,
    following: AbortHandle,
    opening: AbortHandle,
}

impl RemoteNode {
    /// As [`RemoteNode::open`], for a single address, with whatever delivery the node is capable of.
    ///
    /// # Errors
    /// As [`RemoteNode::open`].
    pub async fn connect(chain: ChainId, url: &str, forks: ForkSchedule, limits: RemoteLimits) -> Result<Self, NodeError> {
        let delivery = DeliverySettings::Auto;
        Self::open(RemoteSettings { chain, forks, urls: vec![url.to_owned()], limits, delivery }).await
    }

    /// Connects to a rollup's node, checks that it serves that chain, and follows its head until it is dropped. Of several
    /// addresses one that works is enough. To be called inside a tokio runtime.
    ///
    /// # Errors
    /// When no address works, the node serves another chain, it does not fit the way of delivery, or the cache is too small for
    /// code.
    pub async fn open(settings: RemoteSettings) -> Result<Self, NodeError> {
        let RemoteSettings { chain, forks, urls, limits, delivery } = settings;
        if limits.max_cache_bytes < MIN_CACHE_BYTES {
            let told = limits.max_cache_bytes;
            let cause = format!("max_cache_bytes is {told}, which holds no code: it is at least {MIN_CACHE_BYTES}");
            return Err(NodeError::Unreachable { chain, cause });
        }
        let chain = RemoteChain::open(Rpc::new(chain, &urls, limits)?, forks).await?;
        let adapter = delivery.open(chain.clone()).await?;
        let signal = HeadSignal::start(&chain.rpc);
        let following = tokio::spawn(Arc::clone(&chain.follower).follow(signal)).abort_handle();
        let opening = tokio::spawn(Arc::clone(&chain.follower).open_ahead()).abort_handle();
        let (states, prefetcher) = (Mutex::new(PinnedStates::new(limits.max_states)), Prefetcher::new(&limits));
        Ok(Self { chain, adapter, states, prefetcher, following, opening })
    }

    /// How the cached state serves its readers.
    pub fn stats(&self) -> CacheStats {
        self.chain.follower.cache().stats()
    }

    /// What following the head came to.
    pub fn follow_stats(&self) -> FollowStats {
        self.chain.follower.stats()
    }

    /// How every `http://` and `https://` address is, in the order in which they were named.
    pub fn endpoints(&self) -> Vec<EndpointStatus> {
        self.chain.rpc.endpoints()
    }

    /// The public transactions that the node comes to know from now on, as EIP-2718 bytes. What a slow reader does not take in
    /// time is dropped and counted.
    pub fn public_flow(&self) -> mpsc::Receiver<Bytes> {
        pending_transactions(&self.chain.rpc)
    }

    /// What the node calls itself, as `web3_clientVersion` answers.
    pub fn client(&self) -> &str {
        &self.chain.client
    }

    /// Passes a request on to the node as it is, and its answer back.
    ///
    /// # Errors
    /// The node's own error, or code -32603 when it gave no answer.
    pub async fn request(&self, method: String, params: Value) -> Result<Value, RpcFailure> {
        self.chain.rpc.forward(method, params).await
    }

    fn adapter(&self) -> Result<&dyn DeliveryAdapter, NodeError> {
        self.adapter.as_deref().ok_or_else(|| {
            let client = &self.chain.client;
            self.chain.rpc.unusable(format!("{client} cannot be told which block to make, and no delivery is configured"))
        })
    }

    /// A block by its hash.
    async fn block(&self, hash: B256) -> Result<BlockAnswer, NodeError> {
        let chain = self.chain.chain;
        let block: Option<BlockAnswer> = self.chain.rpc.ask("eth_getBlockByHash", json!([hash, false])).await?;
        let block = block.ok_or(NodeError::UnknownBlock { chain, hash })?;
        if block.hash != hash {
            let cause = format!("asked for block {hash}, it answers {}", block.hash);
            return Err(NodeError::WrongBlock { chain, cause });
        }
        Ok(block)
    }

    async fn pin(&self, block: B256) -> Result<Arc<PinnedState>, NodeError> {
        let known = self.states.lock().get(block);
        if let Some(state) = known {
            return Ok(state);
        }
        let cache = self.chain.follower.cache();
        let (number, parent) = match cache.find(block) {
            Some(followed) => (followed.head.number, followed.parent),
            None => {
                let header = self.block(block).await?;
                (header.number(), header.parent_hash)
            }
        };
        let state = PinnedState::new(block, number, parent, Arc::clone(cache), &self.chain.limits);
        Ok(self.states.lock().keep(Arc::new(state)))
    }
}

impl fmt::Debug for RemoteNode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RemoteNode").field("chain", &self.chain).field("adapter", &self.adapter).finish_non_exhaustive()
    }
}

impl Drop for RemoteNode {
    fn drop(&mut self) {
        self.following.abort();
        self.opening.abort();
    }
}

#[async_trait]
impl RollupNode for RemoteNode {
    fn chain(&self) -> ChainId {
        self.chain.chain
    }

    async fn head(&self) -> Result<ParentBlock, NodeError> {
        self.chain.refresh().await
    }

    fn heads(&self) -> watch::Receiver<ParentBlock> {
        self.chain.watch()
    }

    fn reorgs(&self) -> broadcast::Receiver<Reorg> {
        self.chain.follower.heads().reorgs()
    }

    fn health(&self) -> NodeHealth {
        self.chain.follower.heads().health()
    }

    async fn prefetch(&self, txs: &[Arc<SignedTx>]) -> usize {
        let head = self.chain.seen();
        // Without the state there is nothing to fetch, and whoever needs it will hear why.
        let Ok(state) = self.pin(head.hash).await else { return 0 };
        self.prefetcher.fetch(&self.chain, &head, &state, txs).await
    }

    fn hands_in_early(&self) -> bool {
        self.adapter.as_ref().is_some_and(|adapter| adapter.hands_in_early())
    }

    fn carries(&self) -> Guarantee {
        self.adapter.as_ref().map_or(Guarantee::G1, |adapter| adapter.carries())
    }

    async fn state_at(&self, block: B256) -> Result<Arc<dyn StateView>, NodeError> {
        let state = self.pin(block).await?;
        Ok(state)
    }

    async fn fetch_missing(&self, block: B256) -> Result<usize, NodeError> {
        let state = self.states.lock().get(block);
        let state = state.ok_or(NodeError::UnknownBlock { chain: self.chain.chain, hash: block })?;
        state.fetch_missed(&self.chain.rpc, &self.chain.limits).await
    }

    async fn plan(&self, parent: &ParentBlock, timestamps: &[u64], proposer: Address) -> Result<Vec<BlockPlan>, NodeError> {
        self.adapter()?.plan(parent, timestamps, proposer).await
    }

    async fn publish(&self, rollup: &Arc<SlotRollup>, list: &BlockList, index: usize) -> Result<PublishedBlock, NodeError> {
        self.adapter()?.publish(rollup, list, index).await
    }

    async fn blocks_between(&self, from: u64, until: u64) -> Result<Vec<PublishedBlock>, NodeError> {
        let mut blocks = Vec::new();
        let head: Option<BlockAnswer> = self.chain.rpc.ask("eth_getBlockByNumber", json!(["latest", false])).await?;
        let mut next = Some(head.ok_or_else(|| self.chain.rpc.unusable("it has no block at all".into()))?);
        // From parent to parent, so that a reorg in between cannot mix two chains.
        for _ in 0..self.chain.limits.max_blocks {
            let Some(block) = next.filter(|block| block.timestamp() >= from) else {
                blocks.reverse();
                return Ok(blocks);
            };
            let (number, parent) = (block.number(), block.parent_hash);
            if block.timestamp() < until {
                blocks.push(block.into_published());
            }
            // A parent that is gone is an error: the slot may have had more blocks.
            next = if number == 0 { None } else { Some(self.block(parent).await?) };
        }
        Err(self
            .chain
            .rpc
            .unusable(format!("blocks since {from} s begin more than {} blocks before its head", self.chain.limits.max_blocks)))
    }

    async fn landed(&self, tx: B256) -> Result<Option<Landed>, NodeError> {
        let receipt: Option<ReceiptAnswer> = self.chain.rpc.ask("eth_getTransactionReceipt", json!([tx])).await?;
        Ok(receipt.and_then(|receipt| receipt.landed()))
    }

    async fn logs(&self, block: B256) -> Result<Vec<BlockLog>, NodeError> {
        logs::logs(&self.chain.rpc, block).await
    }
}
