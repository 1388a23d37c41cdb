//! The newest blocks of a chain whose node makes them by itself, as raw and relayed delivery see them.

use std::time::Duration;

use alloy_primitives::{Address, B256};
use lockstep_simulation::{BlockPlan, ForkSchedule, LaneError, NextBlock, ParentBlock};
use serde::Deserialize;
use serde_json::json;
use tokio::{
    sync::watch,
    time::{sleep, timeout},
};

use super::{
    answers::BlockAnswer,
    chain::RemoteChain,
    listed::Listed,
    wire::{Rpc, quantity},
};
use crate::NodeError;

/// The end of a chain.
#[derive(Clone, Debug)]
pub(super) struct Tail {
    /// JSON-RPC to its node.
    pub(super) rpc: Rpc,
    /// When which rules hold.
    pub(super) forks: ForkSchedule,
    /// Between two looks for a block of which nobody has told.
    pub(super) poll: Duration,
    /// Changes whenever the head does.
    pub(super) heads: watch::Receiver<ParentBlock>,
}

/// What the last block tells of the next one.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct LastBlock {
    miner: Address,
    #[serde(default)]
    mix_hash: B256,
    parent_beacon_block_root: Option<B256>,
}

impl Tail {
    pub(super) fn new(chain: &RemoteChain) -> Self {
        let poll = Duration::from_millis(chain.limits.poll_ms.max(1));
        Self { rpc: chain.rpc.clone(), forks: chain.forks.clone(), poll, heads: chain.watch() }
    }

    /// What the blocks after `parent` are taken to be. Their maker does not tell before, so each field is the parent's:
    ///
    /// - base fee and blob base fee follow from the parent by the rules, so they are exact; the gas limit moves by at most
    ///   1/1024 a block.
    /// - beneficiary, prevRandao and parent beacon block root are stand-ins. On most rollups they rarely change; on Ethereum
    ///   they always do, and a transaction that depends on them may end differently than it was executed. They are not zero,
    ///   because a transaction could tell from that that it is only simulated.
    /// - no forced transactions: on the OP stack the block begins with deposits that the plan does not know.
    pub(super) async fn plans(&self, parent: &ParentBlock, timestamps: &[u64]) -> Result<Vec<BlockPlan>, NodeError> {
        let chain = self.rpc.chain();
        let last: Option<LastBlock> = self.rpc.ask("eth_getBlockByHash", json!([parent.hash, false])).await?;
        let last = last.ok_or(NodeError::UnknownBlock { chain, hash: parent.hash })?;
        let mut plans = Vec::with_capacity(timestamps.len());
        for timestamp in timestamps {
            let rules =
                self.forks.rules_at(*timestamp).map_err(|error| NodeError::List { chain, cause: LaneError::Rules(error) })?;
            let next = NextBlock {
                timestamp: *timestamp,
                gas_limit: parent.gas_limit,
                beneficiary: last.miner,
                prev_randao: last.mix_hash,
                parent_beacon_block_root: rules.has_beacon_root().then(|| last.parent_beacon_block_root.unwrap_or_default()),
                extra_data: parent.extra_data.clone(),
                ..NextBlock::default()
            };
            plans.push(BlockPlan { next, forced: Vec::new() });
        }
        Ok(plans)
    }

    /// The newest block, if `listed` can still be on it or on one before it.
    pub(super) async fn head_for(&self, listed: &Listed<'_>) -> Result<BlockAnswer, NodeError> {
        let head: Option<BlockAnswer> = self.rpc.ask("eth_getBlockByNumber", json!(["latest", false])).await?;
        let head = head.ok_or_else(|| self.rpc.unusable("it has no block at all".into()))?;
        if head.number().saturating_add(1) < listed.number {
            let cause = format!("its head is block {}, the list is for block {}", head.number(), listed.number);
            return Err(NodeError::Behind { chain: self.rpc.chain(), cause });
        }
        // The parent of a slot's later blocks is not known by its hash.
        if listed.index == 0 && head.number().saturating_add(1) == listed.number && head.hash != listed.parent {
            return Err(self.other_parent(listed, head.hash));
        }
        Ok(head)
    }

    /// A block by its number, waited for until it is there: the caller sets the time limit. The block with the list's own
    /// number has to stand on the list's parent.
    pub(super) async fn block_for(&self, listed: &Listed<'_>, number: u64) -> Result<BlockAnswer, NodeError> {
        let mut heads = self.heads.clone();
        loop {
            // Marked before asking, so that a head that comes meanwhile ends the wait below.
            heads.mark_unchanged();
            let block: Option<BlockAnswer> = self.rpc.ask("eth_getBlockByNumber", json!([quantity(number), false])).await?;
            if let Some(block) = block {
                let first = listed.index == 0 && number == listed.number;
                return if first && block.parent_hash != listed.parent {
                    Err(self.other_parent(listed, block.hash))
                } else {
                    Ok(block)
                };
            }
            // Whoever follows the head may be behind, or gone: the block is looked for all the same.
            if let Ok(Err(_)) = timeout(self.poll, heads.changed()).await {
                sleep(self.poll).await;
            }
        }
    }

    /// That the chain has gone on without the list.
    pub(super) fn other_parent(&self, listed: &Listed<'_>, head: B256) -> NodeError {
        NodeError::OtherParent { chain: self.rpc.chain(), head, parent: listed.parent }
    }

    /// That a block is not as the list has it.
    pub(super) fn other_block(&self, number: u64, cause: &str) -> NodeError {
        NodeError::OtherBlock { chain: self.rpc.chain(), cause: format!("block {number}: {cause}") }
    }
}
