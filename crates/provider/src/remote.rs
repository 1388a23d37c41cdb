//! A rollup's node in another process, by JSON-RPC over HTTP.
//!
//! Reading works with every node: heads are polled, state is fetched in batches pinned to a block. Making a block from a list
//! needs a node that can be told exactly which block to make; over public JSON-RPC that is anvil, started with
//! `--no-mining --order fifo --disable-pool-balance-checks` (and `--enable-tx-gas-limit` where Osaka's rules hold).

mod chain;
mod dev;
mod heads;
mod limits;
mod publish;
mod state;
#[cfg(test)]
mod tests;
mod wire;

use std::{fmt, sync::Arc, time::Duration};

use alloy_primitives::{Address, B256, U64};
use async_trait::async_trait;
use lockstep_primitives::{BlockList, ChainId, Guarantee, SignedTx};
use lockstep_simulation::{BlockPlan, ForkSchedule, ParentBlock, SlotRollup, StateView};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::{
    sync::{broadcast, watch},
    task::AbortHandle,
};

use self::{
    chain::RemoteChain,
    dev::DevNode,
    heads::Heads,
    publish::DevNodeAdapter,
    state::{PinnedState, PinnedStates},
    wire::{BlockAnswer, ReceiptAnswer, Rpc},
};
use crate::{DeliveryAdapter, Landed, NodeError, NodeHealth, PublishedBlock, Reorg, RollupNode};

pub use limits::RemoteLimits;
pub use wire::RpcFailure;

/// Reorgs that a slow listener may lag behind.
const MAX_REORGS: usize = 64;

/// A rollup's node, reached by JSON-RPC.
pub struct RemoteNode {
    chain: RemoteChain,
    /// How lists get onto its chain; `None` when it can only be read.
    adapter: Option<Box<dyn DeliveryAdapter>>,
    states: Mutex<PinnedStates>,
    reorgs: broadcast::Sender<Reorg>,
    polling: AbortHandle,
}

impl RemoteNode {
    /// Connects to the node at `url`, checks that it serves `chain` under the rules of `forks`, and follows its head until
    /// it is dropped. To be called inside a tokio runtime.
    ///
    /// # Errors
    /// When the node cannot be reached, serves another chain, or is a dev node that executes other rules.
    pub async fn connect(chain: ChainId, url: &str, forks: ForkSchedule, limits: RemoteLimits) -> Result<Self, NodeError> {
        let rpc = Rpc::new(chain, url, Duration::from_millis(limits.timeout_ms))?;
        let served = rpc.ask::<U64>("eth_chainId", json!([])).await?.to::<u64>();
        if served != chain {
            return Err(NodeError::WrongChain { chain, served });
        }
        // Some gateways do not forward it; everything that reads works all the same.
        let client = rpc.call::<String>("web3_clientVersion", json!([])).await;
        let client = client.unwrap_or_else(|_| "a node that does not say what it is".into());
        let heads = Heads::open(rpc.clone(), forks.clone()).await?;
        let polling = tokio::spawn(Arc::clone(&heads).follow(Duration::from_millis(limits.poll_ms))).abort_handle();
        tracing::info!(chain, client, "connected to the rollup's node");
        let chain = RemoteChain { chain, forks, limits, rpc, client, heads };
        let adapter: Option<Box<dyn DeliveryAdapter>> = if DevNode::is_one(&chain.client) {
            let dev = DevNode::ask(&chain.rpc, &chain.forks, chain.seen().timestamp).await?;
            Some(Box::new(DevNodeAdapter::new(chain.clone(), dev)))
        } else {
            None
        };
        let states = Mutex::new(PinnedStates::new(limits.max_states));
        Ok(Self { chain, adapter, states, reorgs: broadcast::channel(MAX_REORGS).0, polling })
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

    async fn pin(&self, block: B256) -> Result<Arc<PinnedState>, NodeError> {
        let known = self.states.lock().get(block);
        if let Some(state) = known {
            return Ok(state);
        }
        let answer: Option<BlockAnswer> = self.chain.rpc.ask("eth_getBlockByHash", json!([block, false])).await?;
        let header = answer.ok_or(NodeError::UnknownBlock { chain: self.chain.chain, hash: block })?;
        let state = PinnedState::new(block, header.number(), header.parent_hash, self.chain.limits.max_values);
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
        self.polling.abort();
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
        self.reorgs.subscribe()
    }

    fn health(&self) -> NodeHealth {
        NodeHealth::default()
    }

    async fn prefetch(&self, _txs: &[Arc<SignedTx>]) -> usize {
        0
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
        state.fetch(&self.chain.rpc, self.chain.limits.batch).await
    }

    async fn plan(&self, parent: &ParentBlock, timestamps: &[u64], proposer: Address) -> Result<Vec<BlockPlan>, NodeError> {
        self.adapter()?.plan(parent, timestamps, proposer).await
    }

    async fn publish(&self, rollup: &Arc<SlotRollup>, list: &BlockList, index: usize) -> Result<PublishedBlock, NodeError> {
        self.adapter()?.publish(rollup, list, index).await
    }

    async fn blocks_between(&self, from: u64, until: u64) -> Result<Vec<PublishedBlock>, NodeError> {
        let mut blocks = Vec::new();
        let mut next: Option<BlockAnswer> = self.chain.rpc.ask("eth_getBlockByNumber", json!(["latest", false])).await?;
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
            next = if number == 0 { None } else { self.chain.rpc.ask("eth_getBlockByHash", json!([parent, false])).await? };
        }
        Err(self.chain.rpc.unusable(format!("blocks since {from} s begin more than {} blocks before its head", self.chain.limits.max_blocks)))
    }

    async fn landed(&self, tx: B256) -> Result<Option<Landed>, NodeError> {
        let receipt: Option<ReceiptAnswer> = self.chain.rpc.ask("eth_getTransactionReceipt", json!([tx])).await?;
        Ok(receipt.and_then(|receipt| receipt.landed()))
    }
}
