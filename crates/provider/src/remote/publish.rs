//! Making a block of a list on a node that can be told which block to make.
//!
//! All or nothing: a block that is not exactly the list's is taken back, and a list of which the node refuses a transaction
//! leaves nothing in its pool.

use std::{fmt, sync::Arc, time::Duration};

use alloy_primitives::{Address, B256, Bytes};
use async_trait::async_trait;
use lockstep_primitives::{BlockList, Guarantee, Reason};
use lockstep_simulation::{BlockContext, BlockPlan, LaneError, NextBlock, ParentBlock, Receipt, SlotRollup, receipts_root};
use serde_json::{Value, json};

use super::{
    answers::{BlockAnswer, PoolAnswer, ReceiptAnswer},
    chain::RemoteChain,
    dev::{self, DevNode},
    errors::{METHOD_NOT_FOUND, RpcFailure},
    listed::Listed,
    wire::quantity,
};
use crate::{DeliveryAdapter, NodeError, PublishedBlock};

/// Delivery to a node that makes exactly the block it is told to.
#[derive(Debug)]
pub(super) struct DevNodeAdapter {
    chain: RemoteChain,
    dev: DevNode,
    /// Held while a block is made: the node has one pool and one next block.
    publishing: tokio::sync::Mutex<()>,
}

/// A block as it shall be.
#[derive(Debug)]
struct Wanted<'a> {
    /// The head it stands on.
    parent: ParentBlock,
    context: BlockContext,
    /// Its index in the slot.
    index: usize,
    transactions: &'a [Bytes],
    hashes: Vec<B256>,
}

#[async_trait]
impl DeliveryAdapter for DevNodeAdapter {
    fn name(&self) -> &'static str {
        "dev-node"
    }

    fn carries(&self) -> Guarantee {
        Guarantee::G3
    }

    /// What anvil will do after `parent`, which [`DeliveryAdapter::publish`] then tells it or holds it to:
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
        self.dev.check_order(&self.chain.rpc)?;
        let mut plans = Vec::with_capacity(timestamps.len());
        for (number, timestamp) in (parent.number + 1..).zip(timestamps) {
            let rules = self
                .chain
                .forks
                .rules_at(*timestamp)
                .map_err(|error| NodeError::List { chain: self.chain.chain, cause: LaneError::Rules(error) })?;
            let next = NextBlock {
                timestamp: *timestamp,
                gas_limit: parent.gas_limit,
                beneficiary: if rules.is_op_stack() { dev::SEQUENCER_FEE_VAULT } else { proposer },
                prev_randao: dev::prev_randao(parent.hash, number),
                parent_beacon_block_root: rules.has_beacon_root().then_some(B256::ZERO),
                extra_data: dev::extra_data(rules),
                ..NextBlock::default()
            };
            plans.push(BlockPlan { next, forced: Vec::new() });
        }
        Ok(plans)
    }

    /// Makes one block of a list. One at a time: callers wait for each other.
    async fn publish(&self, rollup: &Arc<SlotRollup>, list: &BlockList, index: usize) -> Result<PublishedBlock, NodeError> {
        self.dev.check_order(&self.chain.rpc)?;
        let _turn = self.publishing.lock().await;
        let wanted = self.wanted(rollup, list, index).await?;
        let limit_ms = self.chain.limits.publish_timeout_ms;
        let made = match tokio::time::timeout(Duration::from_millis(limit_ms), self.make(&wanted)).await {
            Ok(made) => made,
            Err(_) => Err(self.chain.rpc.unusable(format!(
                "block {} was not made within {limit_ms} ms; look at the head before trying again",
                wanted.context.number
            ))),
        };
        if made.is_err()
            && let Err(error) = self.tell("anvil_dropAllTransactions", json!([])).await
        {
            tracing::warn!(%error, "transactions of a list that failed may still be in the pool");
        }
        // Whoever follows the head learns of the block, or that it is gone, now rather than at the next look.
        if let Err(error) = self.chain.refresh().await {
            tracing::warn!(%error, "the head cannot be read after publishing");
        }
        made
    }
}

impl DevNodeAdapter {
    pub(super) fn new(chain: RemoteChain, dev: DevNode) -> Self {
        Self { chain, dev, publishing: tokio::sync::Mutex::new(()) }
    }

    /// Checks that the list fits the slot and the head, and says what its block shall be.
    async fn wanted<'a>(&self, rollup: &'a SlotRollup, list: &'a BlockList, index: usize) -> Result<Wanted<'a>, NodeError> {
        let chain = self.chain.chain;
        let listed = Listed::new(&self.chain.rpc, rollup, list, index)?;
        let parent = self.chain.refresh().await?;
        let fits = match index.checked_sub(1).and_then(|before| rollup.blocks.get(before)) {
            None => parent.hash == listed.parent,
            Some(before) => parent.number.checked_add(1) == Some(listed.number) && parent.timestamp == before.next.timestamp,
        };
        if !fits {
            return Err(NodeError::OtherParent { chain, head: parent.hash, parent: listed.parent });
        }
        let context = BlockContext::next(chain, &rollup.forks, &parent, &listed.plan.next)
            .map_err(|error| NodeError::List { chain, cause: LaneError::Rules(error) })?;
        Ok(Wanted { parent, context, index, transactions: listed.transactions, hashes: listed.hashes })
    }

    async fn make(&self, wanted: &Wanted<'_>) -> Result<PublishedBlock, NodeError> {
        let randao_holds = self.prepare(wanted).await?;
        self.send(wanted).await?;
        self.tell("evm_mine", json!([])).await?;
        let number = quantity(wanted.context.number);
        let block: Option<BlockAnswer> = self.chain.rpc.ask("eth_getBlockByNumber", json!([number, false])).await?;
        let block = block.ok_or_else(|| self.other_block(format!("it has no block {}", wanted.context.number)))?;
        let receipts: Vec<ReceiptAnswer> = self.chain.rpc.ask("eth_getBlockReceipts", json!([number])).await?;
        let receipts: Vec<Receipt> = receipts.into_iter().map(ReceiptAnswer::into_receipt).collect();

        let mut differences = wanted.differences(&block, randao_holds);
        differences.compare("receipts root", receipts_root(&receipts), block.receipts_root);
        if differences.0.is_empty() {
            return Ok(block.into_published());
        }
        let undone: String = match self.take_back(wanted, &block).await {
            Ok(true) => "it was taken back".into(),
            Ok(false) => "it was left, because it is not the head on the list's parent".into(),
            Err(error) => format!("it could not be taken back: {error}"),
        };
        Err(self.other_block(format!("{}; {undone}", differences.0.join("; "))))
    }

    /// Tells the node everything about the block but its transactions. Returns whether it will have the planned prevRandao.
    async fn prepare(&self, wanted: &Wanted<'_>) -> Result<bool, NodeError> {
        let automine: bool = self.chain.rpc.ask("anvil_getAutomine", json!([])).await?;
        let interval: Value = self.chain.rpc.ask("anvil_getIntervalMining", json!([])).await?;
        if automine || !interval.is_null() {
            return Err(self.chain.rpc.unusable("it makes blocks on its own: start anvil with --no-mining --order fifo".into()));
        }
        let context = &wanted.context;
        // A block is exactly its list: what others put into the node's pool is not on it.
        self.tell("anvil_dropAllTransactions", json!([])).await?;
        self.tell("anvil_setCoinbase", json!([context.beneficiary])).await?;
        self.tell("evm_setBlockGasLimit", json!([quantity(context.gas_limit)])).await?;
        self.tell("evm_setNextBlockTimestamp", json!([quantity(context.timestamp)])).await?;
        // anvil's own base fee is the rules' one, but not after the genesis, which it repeats, nor after a rollback, which
        // leaves it where it was.
        self.tell("anvil_setNextBlockBaseFeePerGas", json!([quantity(context.base_fee)])).await?;
        if context.prev_randao == dev::prev_randao(context.parent_hash, context.number) {
            return Ok(true);
        }
        match self.chain.rpc.call::<Value>("anvil_setNextBlockPrevRandao", json!([context.prev_randao])).await {
            Ok(_) => Ok(true),
            // Up to anvil 1.7. Only a later block of a slot can be planned without its parent's hash.
            Err(failure) if failure.code == METHOD_NOT_FOUND && wanted.index > 0 => {
                tracing::debug!(
                    chain = self.chain.chain,
                    block = context.number,
                    "the node cannot be told the block's prevRandao"
                );
                Ok(false)
            }
            Err(failure) => Err(self.chain.rpc.unusable(format!("anvil_setNextBlockPrevRandao: {failure}"))),
        }
    }

    /// Fills the pool. One request after the other: the node answers those of a batch in any order.
    async fn send(&self, wanted: &Wanted<'_>) -> Result<(), NodeError> {
        for (position, (raw, hash)) in wanted.transactions.iter().zip(&wanted.hashes).enumerate() {
            let sent: Result<Value, RpcFailure> = self.chain.rpc.call("eth_sendRawTransaction", json!([raw])).await;
            sent.map_err(|failure| NodeError::List {
                chain: self.chain.chain,
                cause: LaneError::Invalid {
                    block: wanted.index,
                    index: position,
                    reason: Reason::InvalidTransaction(format!("the node refused {hash}: {failure}")),
                },
            })?;
        }
        let pool: PoolAnswer = self.chain.rpc.ask("txpool_status", json!([])).await?;
        let sent = wanted.transactions.len() as u64;
        if (pool.pending(), pool.queued()) != (sent, 0) {
            let (pending, queued) = (pool.pending(), pool.queued());
            return Err(self.chain.rpc.unusable(format!(
                "of the {sent} transactions of block {} its pool would execute {pending}, and {queued} wait for an earlier nonce",
                wanted.context.number
            )));
        }
        Ok(())
    }

    /// Removes a block that is not the list's, if it is the head and stands where the list's block should. Returns whether
    /// it did.
    async fn take_back(&self, wanted: &Wanted<'_>, block: &BlockAnswer) -> Result<bool, NodeError> {
        // Asked, not followed: nobody shall hear of a head that goes at once, nor does this depend on executing it.
        let head: Option<BlockAnswer> = self.chain.rpc.ask("eth_getBlockByNumber", json!(["latest", false])).await?;
        if head.is_none_or(|head| head.hash != block.hash) || block.parent_hash != wanted.parent.hash {
            return Ok(false);
        }
        self.tell("anvil_rollback", json!([1])).await?;
        Ok(true)
    }

    /// A call whose answer says nothing.
    async fn tell(&self, method: &'static str, params: Value) -> Result<(), NodeError> {
        self.chain.rpc.ask::<Value>(method, params).await.map(drop)
    }

    fn other_block(&self, cause: String) -> NodeError {
        NodeError::OtherBlock { chain: self.chain.chain, cause }
    }
}

impl Wanted<'_> {
    fn differences(&self, block: &BlockAnswer, randao_holds: bool) -> Differences {
        let context = &self.context;
        let mut differences = Differences(Vec::new());
        differences.compare("parent", self.parent.hash, block.parent_hash);
        differences.compare("number", context.number, block.number());
        differences.compare("timestamp", context.timestamp, block.timestamp());
        differences.compare("base fee", context.base_fee, block.base_fee());
        differences.compare("gas limit", context.gas_limit, block.gas_limit());
        differences.compare("beneficiary", context.beneficiary, block.miner);
        if randao_holds {
            differences.compare("prevRandao", context.prev_randao, block.mix_hash);
        }
        // On the OP stack the plan's extra data is a stand-in for what anvil leaves empty.
        if !context.rules.is_op_stack() {
            differences.compare("extra data", &context.extra_data, &block.extra_data);
        }
        differences.compare("transactions", self.hashes.len(), block.transactions.len());
        let mut pairs = self.hashes.iter().zip(&block.transactions).enumerate();
        if let Some((index, (listed, made))) = pairs.find(|(_, (listed, made))| listed != made) {
            differences.compare(&format!("transaction {index}"), listed, made);
        } else if let Some(absent) = self.hashes.get(block.transactions.len()) {
            differences.0.push(format!("transaction {}: listed {absent}, made none", block.transactions.len()));
        }
        differences
    }
}

/// In what a block differs from the list's, in words.
#[derive(Debug)]
struct Differences(Vec<String>);

impl Differences {
    fn compare<T: PartialEq + fmt::Display>(&mut self, name: &str, listed: T, made: T) {
        if listed != made {
            self.0.push(format!("{name}: listed {listed}, made {made}"));
        }
    }
}
