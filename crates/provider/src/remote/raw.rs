//! Delivery through the node's own transaction pool, for chains that nobody can tell which block to make.
//!
//! The transactions are sent in list order; then the blocks that come tell whether they landed together. Nothing can be taken
//! back: what was sent may still land after the list has been given up.

use std::{sync::Arc, time::Duration};

use alloy_primitives::{Address, B256};
use async_trait::async_trait;
use lockstep_primitives::{BlockList, Guarantee, Reason};
use lockstep_simulation::{BlockPlan, LaneError, ParentBlock, SlotRollup};
use serde_json::{Value, json};

use super::{
    answers::ReceiptAnswer,
    chain::RemoteChain,
    errors::RpcFailure,
    listed::{Between, Listed, Standing},
    tail::Tail,
};
use crate::{DeliveryAdapter, NodeError, PublishedBlock};

/// Blocks after the list's own in which it may still land: a node that makes a block just when the list is sent puts it into
/// the next one.
const LATE_BLOCKS: u64 = 2;
/// JSON-RPC's "internal error" (also: no answer came), EIP-1474's "resource unavailable" and "limit exceeded". They say nothing
/// about the transaction.
const NOT_NOW: [i32; 3] = [-32603, -32002, -32005];
/// How nodes say that a pool has no room, in lower case: geth, reth, erigon.
const POOL_FULL: &str = "txpool is full";
/// How nodes say that they have a transaction already, in lower case: geth, reth and erigon; nethermind; besu; anvil; erigon.
const ALREADY_KNOWN: [&str; 5] =
    ["already known", "alreadyknown", "known transaction", "already imported", "existing tx with same hash"];
/// How nodes say that a nonce is used up, in lower case: geth, reth, erigon, besu, anvil; nethermind.
const NONCE_TOO_LOW: [&str; 3] = ["nonce too low", "nonce is too low", "oldnonce"];

/// Delivery by `eth_sendRawTransaction`.
#[derive(Debug)]
pub(super) struct RawAdapter {
    tail: Tail,
    /// For one block, from the first request to the last.
    limit: Duration,
    /// Held while a list is sent: two lists that are sent at once would mix.
    publishing: tokio::sync::Mutex<()>,
}

#[async_trait]
impl DeliveryAdapter for RawAdapter {
    fn name(&self) -> &'static str {
        "raw"
    }

    /// G1, built all or nothing: whoever makes the block neither executes the list nor refuses it, may put others between its
    /// transactions, and may leave some of them out.
    fn carries(&self) -> Guarantee {
        Guarantee::G1
    }

    fn hands_in_early(&self) -> bool {
        true
    }

    async fn plan(&self, parent: &ParentBlock, timestamps: &[u64], _proposer: Address) -> Result<Vec<BlockPlan>, NodeError> {
        self.tail.plans(parent, timestamps).await
    }

    /// Sends one block of a list and waits for it. It is published when all its transactions are in one block, in their order;
    /// others may stand between them.
    async fn publish(&self, rollup: &Arc<SlotRollup>, list: &BlockList, index: usize) -> Result<PublishedBlock, NodeError> {
        let listed = Listed::new(&self.tail.rpc, rollup, list, index)?;
        let _turn = self.publishing.lock().await;
        tokio::time::timeout(self.limit, self.deliver(&listed)).await.unwrap_or_else(|_| {
            let (number, limit_ms) = (listed.number, self.limit.as_millis());
            Err(self.tail.rpc.unusable(format!("no block from {number} on holds the list after {limit_ms} ms")))
        })
    }
}

impl RawAdapter {
    pub(super) fn new(chain: &RemoteChain) -> Self {
        Self::on(Tail::new(chain), Duration::from_millis(chain.limits.publish_timeout_ms))
    }

    pub(super) fn on(tail: Tail, limit: Duration) -> Self {
        Self { tail, limit, publishing: tokio::sync::Mutex::new(()) }
    }

    async fn deliver(&self, listed: &Listed<'_>) -> Result<PublishedBlock, NodeError> {
        let head = self.tail.head_for(listed).await?;
        let last = listed.number.saturating_add(LATE_BLOCKS);
        // It may have been sent before: by a call that ran out of time, or by a process that is no more.
        for number in listed.number..=last.min(head.number()) {
            let block = self.tail.block_for(listed, number).await?;
            match listed.standing(&block.transactions, Between::Others) {
                Standing::Whole => return Ok(block.into_published()),
                Standing::Absent => {}
                Standing::Differs(_) => return Err(self.tail.other_parent(listed, head.hash)),
            }
        }
        if head.number() >= last {
            return Err(self.tail.other_parent(listed, head.hash));
        }
        self.send(listed).await?;
        for number in listed.number.max(head.number().saturating_add(1))..=last {
            let block = self.tail.block_for(listed, number).await?;
            match listed.standing(&block.transactions, Between::Others) {
                Standing::Whole => return Ok(block.into_published()),
                Standing::Absent => {}
                Standing::Differs(cause) => return Err(self.tail.other_block(number, &cause)),
            }
        }
        Err(self.tail.other_block(last, &listed.nothing_came()))
    }

    /// Fills the pool. One request after the other: the node takes those of a batch in any order.
    async fn send(&self, listed: &Listed<'_>) -> Result<(), NodeError> {
        let rpc = &self.tail.rpc;
        for (position, (raw, hash)) in listed.transactions.iter().zip(&listed.hashes).enumerate() {
            let sent: Result<Value, RpcFailure> = rpc.call("eth_sendRawTransaction", json!([raw])).await;
            let Err(failure) = sent else { continue };
            if says(&failure, &ALREADY_KNOWN) || (says(&failure, &NONCE_TOO_LOW) && self.is_mined(*hash).await?) {
                continue;
            }
            let sent: String =
                if position == 0 { "nothing was sent".into() } else { format!("{position} before it are sent already") };
            if NOT_NOW.contains(&failure.code) || says(&failure, &[POOL_FULL]) {
                return Err(rpc.unusable(format!("it does not take transaction {position} ({hash}) now: {failure}; {sent}")));
            }
            let reason = Reason::InvalidTransaction(format!("the node refused {hash}: {failure}; {sent}"));
            let cause = LaneError::Invalid { block: listed.index, index: position, reason };
            return Err(NodeError::List { chain: rpc.chain(), cause });
        }
        Ok(())
    }

    async fn is_mined(&self, tx: B256) -> Result<bool, NodeError> {
        let receipt: Option<ReceiptAnswer> = self.tail.rpc.ask("eth_getTransactionReceipt", json!([tx])).await?;
        Ok(receipt.is_some_and(|receipt| receipt.landed().is_some()))
    }
}

/// Whether a node's message holds one of the texts.
fn says(failure: &RpcFailure, texts: &[&str]) -> bool {
    let message = failure.message.to_lowercase();
    texts.iter().any(|text| message.contains(text))
}
