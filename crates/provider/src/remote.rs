//! A rollup's node in another process, by JSON-RPC over HTTP.
//!
//! Reading works with every node: heads are polled, state is fetched in batches pinned to a block. Making a block from a list
//! needs a node that can be told exactly which block to make; over public JSON-RPC that is anvil, started with
//! `--no-mining --order fifo --disable-pool-balance-checks` (and `--enable-tx-gas-limit` where Osaka's rules hold).

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
use lockstep_primitives::{BlockList, ChainId};
use lockstep_simulation::{BlockPlan, ForkSchedule, LaneError, NextBlock, ParentBlock, SlotRollup, StateView};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::{sync::watch, task::AbortHandle};

use self::{
    dev::DevNode,
    heads::Heads,
    state::{PinnedState, PinnedStates},
    wire::{BlockAnswer, ReceiptAnswer, Rpc},
};
use crate::{Landed, NodeError, PublishedBlock, RollupNode};

pub use limits::RemoteLimits;
pub use wire::RpcFailure;

/// A rollup's node, reached by JSON-RPC.
pub struct RemoteNode {
    chain: ChainId,
    forks: ForkSchedule,
    limits: RemoteLimits,
    rpc: Rpc,
    client: String,
    /// What the node says of itself when it is one that can be told which block to make.
    dev: Option<DevNode>,
    heads: Arc<Heads>,
    states: Mutex<PinnedStates>,
    /// Held while a block is made: the node has one pool and one next block.
    publishing: tokio::sync::Mutex<()>,
    polling: AbortHandle,
}

impl RemoteNode {
    /// Connects to the node at `url`, checks that it serves `chain` under the rules of `forks`, and follows its head until
    /// it is dropped. To be called inside a tokio runtime. Only `http` addresses: the build has no TLS.
    ///
    /// # Errors
    /// When the node cannot be reached, serves another chain, or is a dev node that executes other rules.
    pub async fn connect(chain: ChainId, url: &str, forks: ForkSchedule, limits: RemoteLimits) -> Result<Self, NodeError> {
        let rpc = Rpc::new(chain, url, Duration::from_millis(limits.timeout_ms))?;
        let served = rpc.ask::<U64>("eth_chainId", json!([])).await?.to::<u64>();
        if served != chain {
            return Err(rpc.unusable(format!("it serves chain {served}")));
        }
        // Some gateways do not forward it; everything that reads works all the same.
        let client = rpc.call::<String>("web3_clientVersion", json!([])).await;
        let client = client.unwrap_or_else(|_| "a node that does not say what it is".into());
        let heads = Heads::open(rpc.clone(), forks.clone()).await?;
        let dev = if DevNode::is_one(&client) { Some(DevNode::ask(&rpc, &forks, heads.seen().timestamp).await?) } else { None };
        let polling = tokio::spawn(Arc::clone(&heads).follow(Duration::from_millis(limits.poll_ms))).abort_handle();
        tracing::info!(chain, client, "connected to the rollup's node");
        Ok(Self {
            chain,
            forks,
            limits,
            rpc,
            client,
            dev,
            heads,
            states: Mutex::new(PinnedStates::new(limits.max_states)),
            publishing: tokio::sync::Mutex::new(()),
            polling,
        })
    }

    /// What the node calls itself, as `web3_clientVersion` answers.
    pub fn client(&self) -> &str {
        &self.client
    }

    /// Passes a request on to the node as it is, and its answer back.
    ///
    /// # Errors
    /// The node's own error, or code -32603 when it gave no answer.
    pub async fn request(&self, method: String, params: Value) -> Result<Value, RpcFailure> {
        self.rpc.forward(method, params).await
    }

    /// The node, if it can be told which block to make.
    fn dev_node(&self) -> Result<&DevNode, NodeError> {
        let dev = self.dev.as_ref().ok_or_else(|| {
            self.rpc.unusable(format!("{} cannot be told which block to make: planning and publishing need anvil", self.client))
        })?;
        dev.check_order(&self.rpc)?;
        Ok(dev)
    }

    async fn pin(&self, block: B256) -> Result<Arc<PinnedState>, NodeError> {
        let known = self.states.lock().get(block);
        if let Some(state) = known {
            return Ok(state);
        }
        let answer: Option<BlockAnswer> = self.rpc.ask("eth_getBlockByHash", json!([block, false])).await?;
        let header = answer.ok_or(NodeError::UnknownBlock { chain: self.chain, hash: block })?;
        let state = PinnedState::new(block, header.number(), header.parent_hash, self.limits.max_values);
        Ok(self.states.lock().keep(Arc::new(state)))
    }
}

impl fmt::Debug for RemoteNode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RemoteNode")
            .field("chain", &self.chain)
            .field("client", &self.client)
            .field("limits", &self.limits)
            .field("head", &self.heads.seen().number)
            .finish_non_exhaustive()
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
        self.chain
    }

    async fn head(&self) -> Result<ParentBlock, NodeError> {
        self.heads.refresh().await
    }

    fn heads(&self) -> watch::Receiver<ParentBlock> {
        self.heads.watch()
    }

    async fn state_at(&self, block: B256) -> Result<Arc<dyn StateView>, NodeError> {
        let state = self.pin(block).await?;
        Ok(state)
    }

    async fn fetch_missing(&self, block: B256) -> Result<usize, NodeError> {
        let state = self.states.lock().get(block);
        let state = state.ok_or(NodeError::UnknownBlock { chain: self.chain, hash: block })?;
        state.fetch(&self.rpc, self.limits.batch).await
    }

    /// What anvil will do after `parent`, which [`RollupNode::publish`] then tells it or holds it to:
    ///
    /// - gas limit: the parent's. Beneficiary: the proposer; on the OP stack the sequencer fee vault.
    /// - prevRandao: anvil derives it from parent hash and number, and up to 1.7 it cannot be set. So it is exact for the
    ///   first block of a slot; the parents of later ones are not made yet, and theirs is set where the node knows how
    ///   (`anvil_setNextBlockPrevRandao`), else it is a guess that only a transaction which reads it can tell.
    /// - parent beacon block root: zero. anvil writes it into the header and does not make the EIP-4788 call; there is no
    ///   contract at that address unless somebody puts one there.
    /// - extra data: anvil writes none; on the OP stack the plan holds the parameters that anvil computes base fees with.
    /// - no forced transactions.
    async fn plan(&self, parent: &ParentBlock, timestamps: &[u64], proposer: Address) -> Result<Vec<BlockPlan>, NodeError> {
        self.dev_node()?;
        let mut plans = Vec::with_capacity(timestamps.len());
        for (number, timestamp) in (parent.number + 1..).zip(timestamps) {
            let rules = self
                .forks
                .rules_at(*timestamp)
                .map_err(|error| NodeError::List { chain: self.chain, cause: LaneError::Rules(error) })?;
            let next = NextBlock {
                timestamp: *timestamp,
                gas_limit: parent.gas_limit,
                beneficiary: if rules.is_op_stack() { dev::SEQUENCER_FEE_VAULT } else { proposer },
                prev_randao: dev::prev_randao(parent.hash, number),
                parent_beacon_block_root: rules.has_beacon_root().then_some(B256::ZERO),
                extra_data: dev::extra_data(rules),
            };
            plans.push(BlockPlan { next, forced: Vec::new() });
        }
        Ok(plans)
    }

    async fn publish(&self, rollup: &Arc<SlotRollup>, list: &BlockList, index: usize) -> Result<PublishedBlock, NodeError> {
        self.publish_block(rollup, list, index).await
    }

    async fn blocks_between(&self, from: u64, until: u64) -> Result<Vec<PublishedBlock>, NodeError> {
        let mut blocks = Vec::new();
        let mut next: Option<BlockAnswer> = self.rpc.ask("eth_getBlockByNumber", json!(["latest", false])).await?;
        // From parent to parent, so that a reorg in between cannot mix two chains.
        for _ in 0..self.limits.max_blocks {
            let Some(block) = next.filter(|block| block.timestamp() >= from) else {
                blocks.reverse();
                return Ok(blocks);
            };
            let (number, parent) = (block.number(), block.parent_hash);
            if block.timestamp() < until {
                blocks.push(block.into_published());
            }
            next = if number == 0 { None } else { self.rpc.ask("eth_getBlockByHash", json!([parent, false])).await? };
        }
        Err(self.rpc.unusable(format!("blocks since {from} s begin more than {} blocks before its head", self.limits.max_blocks)))
    }

    async fn landed(&self, tx: B256) -> Result<Option<Landed>, NodeError> {
        let receipt: Option<ReceiptAnswer> = self.rpc.ask("eth_getTransactionReceipt", json!([tx])).await?;
        Ok(receipt.and_then(|receipt| receipt.landed()))
    }
}
