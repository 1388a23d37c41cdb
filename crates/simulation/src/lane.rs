//! A rollup's blocks of one slot.

use std::sync::Arc;

use alloy_primitives::{B256, Bytes, ChainId, keccak256};
use lockstep_primitives::{BlockList, Reason, TxDecodeError};
use rayon::prelude::*;

use crate::{
    BlockContext, BlockSummary, BlockTx, Executed, ForkSchedule, NextBlock, ParentBlock, PendingBlock, RulesError,
    SimulationError, StateView,
};

/// A block that the sequencer is about to make: its environment and the transactions that have to come first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BlockPlan {
    /// What the sequencer fixes.
    pub next: NextBlock,
    /// The forced prefix: L1 attributes, deposits. Empty under Ethereum rules.
    pub forced: Vec<BlockTx>,
}

/// A rollup as a slot finds it.
#[derive(Clone, Debug)]
pub struct SlotRollup {
    /// The rollup.
    pub chain: ChainId,
    /// When which rules hold.
    pub forks: ForkSchedule,
    /// The head that the slot builds on.
    pub parent: ParentBlock,
    /// The state after the head.
    pub state: Arc<dyn StateView>,
    /// The blocks whose timestamps fall inside the slot; at least one.
    pub blocks: Vec<BlockPlan>,
}

impl SlotRollup {
    /// Canonical digest of the forced prefixes: keccak-256 over the hashes of every block's forced transactions, each
    /// block's preceded by their count as eight big-endian bytes.
    pub fn forced_prefix(&self) -> B256 {
        let mut bytes = Vec::new();
        for plan in &self.blocks {
            bytes.extend_from_slice(&(plan.forced.len() as u64).to_be_bytes());
            for tx in &plan.forced {
                bytes.extend_from_slice(tx.hash().as_slice());
            }
        }
        keccak256(bytes)
    }
}

/// Why a rollup's blocks cannot be built or executed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LaneError {
    /// The slot has no block of the rollup.
    #[error("the slot has no block of rollup {0}")]
    NoBlocks(ChainId),
    /// No rules, or no environment.
    #[error(transparent)]
    Rules(#[from] RulesError),
    /// The state or the EVM.
    #[error(transparent)]
    Simulation(#[from] SimulationError),
    /// A forced transaction is invalid: the plan does not belong to this parent.
    #[error("forced transaction {index} of block {block} is invalid: {reason}")]
    Forced {
        /// Index of the block in the slot.
        block: usize,
        /// Index of the transaction in the block.
        index: usize,
        /// Why.
        reason: Reason,
    },
    /// A list with other blocks than the slot has.
    #[error("the list has block {listed:?} where the slot has block {planned:?} (number, timestamp)")]
    OtherBlocks {
        /// In the list.
        listed: Option<(u64, u64)>,
        /// In the slot.
        planned: Option<(u64, u64)>,
    },
    /// A listed transaction that is no transaction, or invalid in its place.
    #[error("transaction {index} of block {block} is invalid: {reason}")]
    Invalid {
        /// Index of the block in the slot.
        block: usize,
        /// Index of the transaction in the list's block.
        index: usize,
        /// Why.
        reason: Reason,
    },
}

/// A finished block of a slot.
#[derive(Clone, Debug)]
pub struct LaneBlock {
    /// The block.
    pub block: PendingBlock,
    /// How many of its transactions are the forced prefix.
    pub forced: usize,
    /// The execution requests that end it (EIP-7685).
    pub requests: Vec<Bytes>,
}

impl LaneBlock {
    /// What it says of itself. Works out the receipts root, which takes longer than a plain transfer does to execute, for each
    /// transaction.
    pub fn summary(&self) -> BlockSummary {
        self.block.summary(self.requests.clone())
    }

    /// The transactions after the forced prefix.
    pub fn listed(&self) -> &[Executed] {
        self.block.executed().get(self.forced..).unwrap_or_default()
    }
}

/// A rollup's blocks of one slot while they are built, one after the other.
#[derive(Clone, Debug)]
pub struct Lane {
    rollup: Arc<SlotRollup>,
    closed: Vec<LaneBlock>,
    open: PendingBlock,
    forced: usize,
}

impl Lane {
    /// Opens the slot's first block.
    ///
    /// # Errors
    /// When there is none, or its forced prefix cannot be executed.
    pub fn open(rollup: Arc<SlotRollup>) -> Result<Self, LaneError> {
        let plan = rollup.blocks.first().ok_or(LaneError::NoBlocks(rollup.chain))?;
        let context = BlockContext::next(rollup.chain, &rollup.forks, &rollup.parent, &plan.next)?;
        let mut open = PendingBlock::open(context, Arc::clone(&rollup.state))?;
        let forced = execute_forced(&mut open, plan, 0)?;
        Ok(Self { rollup, closed: Vec::new(), open, forced })
    }

    /// The rollup.
    pub fn rollup(&self) -> &Arc<SlotRollup> {
        &self.rollup
    }

    /// The block that is being built.
    pub const fn block(&self) -> &PendingBlock {
        &self.open
    }

    /// The block that is being built.
    pub const fn block_mut(&mut self) -> &mut PendingBlock {
        &mut self.open
    }

    /// The blocks of the slot that are finished.
    pub fn closed(&self) -> &[LaneBlock] {
        &self.closed
    }

    /// The index in the slot of the block that is being built.
    pub const fn index(&self) -> usize {
        self.closed.len()
    }

    /// How many of the open block's transactions are the forced prefix.
    pub const fn forced(&self) -> usize {
        self.forced
    }

    /// Whether the slot has a block after this one.
    pub fn has_next(&self) -> bool {
        self.index() + 1 < self.rollup.blocks.len()
    }

    /// Closes the block and opens the slot's next one. Returns whether there was one.
    ///
    /// The parent hash of a block whose parent is not made yet is unknown: it is zero until the sequencer executes the list.
    ///
    /// # Errors
    /// When the next block cannot be opened.
    pub fn advance(&mut self) -> Result<bool, LaneError> {
        let Some(plan) = self.rollup.blocks.get(self.index() + 1) else { return Ok(false) };
        let requests = self.open.end()?;
        let parent = parent_of(&self.open);
        let context = BlockContext::next(self.rollup.chain, &self.rollup.forks, &parent, &plan.next)?;
        let mut next = PendingBlock::open_after(context, &self.open)?;
        let forced = execute_forced(&mut next, plan, self.index() + 1)?;
        let block = std::mem::replace(&mut self.open, next);
        self.closed.push(LaneBlock { block, forced: self.forced, requests });
        self.forced = forced;
        Ok(true)
    }

    /// Closes the last block. Blocks that were never opened are made with nothing but their forced prefix.
    ///
    /// # Errors
    /// When a block cannot be opened or ended.
    pub fn finish(mut self) -> Result<Vec<LaneBlock>, LaneError> {
        while self.advance()? {}
        let requests = self.open.end()?;
        self.closed.push(LaneBlock { block: self.open, forced: self.forced, requests });
        Ok(self.closed)
    }

    /// The blocks as [`Lane::finish`] would close them, while the lane stays as it is. Nothing is left to undo in them.
    ///
    /// # Errors
    /// As [`Lane::finish`].
    pub fn finished(&self) -> Result<Vec<LaneBlock>, LaneError> {
        let (rollup, closed) = (Arc::clone(&self.rollup), self.closed.clone());
        Self { rollup, closed, open: self.open.settled(), forced: self.forced }.finish()
    }
}

/// What the next block needs to know of one that is not sealed yet: everything but its hash.
fn parent_of(block: &PendingBlock) -> ParentBlock {
    let context = block.context();
    ParentBlock {
        hash: B256::ZERO,
        number: context.number,
        timestamp: context.timestamp,
        gas_limit: context.gas_limit,
        gas_used: block.gas_used(),
        base_fee: context.base_fee,
        blob_gas_used: block.blob_gas_used(),
        excess_blob_gas: context.excess_blob_gas,
        extra_data: context.extra_data.clone(),
    }
}

fn execute_forced(block: &mut PendingBlock, plan: &BlockPlan, number: usize) -> Result<usize, LaneError> {
    for (index, tx) in plan.forced.iter().enumerate() {
        if let Err(reason) = block.execute(tx)? {
            return Err(LaneError::Forced { block: number, index, reason });
        }
    }
    Ok(plan.forced.len())
}

/// A block of a list whose transactions are decoded and whose signers are known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DecodedBlock {
    /// Block number.
    pub number: u64,
    /// In seconds.
    pub timestamp: u64,
    /// The transactions after the forced prefix.
    pub transactions: Vec<BlockTx>,
}

/// Decodes a list's transactions and recovers their signers, in parallel.
///
/// # Errors
/// When the list has other blocks than the slot, or holds bytes that are no transaction: the first of them is named.
pub fn decode_list(rollup: &SlotRollup, list: &BlockList) -> Result<Vec<DecodedBlock>, LaneError> {
    check_blocks(rollup, list.blocks.iter().map(|block| (block.number, block.timestamp)))?;
    let mut blocks = Vec::with_capacity(list.blocks.len());
    for (block, listed) in list.blocks.iter().enumerate() {
        // All answers are kept until the last is there, so that which error comes first does not depend on the threads.
        let decoded: Vec<_> = listed.transactions.par_iter().map(|raw| BlockTx::decode(raw.clone())).collect();
        let mut transactions = Vec::with_capacity(decoded.len());
        for (index, tx) in decoded.into_iter().enumerate() {
            let undecodable = |error: TxDecodeError| Reason::UndecodableTransaction(error.to_string());
            transactions.push(tx.map_err(|error| LaneError::Invalid { block, index, reason: undecodable(error) })?);
        }
        blocks.push(DecodedBlock { number: listed.number, timestamp: listed.timestamp, transactions });
    }
    Ok(blocks)
}

/// Executes a list from the parent state on a fresh EVM, as the rollup's sequencer will.
///
/// # Errors
/// When the list has other blocks than the slot, or any of its transactions is invalid in its place. A transaction that
/// reverts is no error here: what may revert is the caller's matter.
pub fn execute_list(rollup: &Arc<SlotRollup>, list: &BlockList) -> Result<Vec<LaneBlock>, LaneError> {
    execute_decoded(rollup, &decode_list(rollup, list)?, |_, _, _| Ok(()))
}

/// As [`execute_list`], with transactions that are decoded already. `look` sees the open block between its listed
/// transactions: with the index of the block and the position of the transaction that comes next, and once more after the
/// last, with the count of them.
///
/// # Errors
/// As [`execute_list`], and what `look` answers.
pub fn execute_decoded(
    rollup: &Arc<SlotRollup>,
    blocks: &[DecodedBlock],
    mut look: impl FnMut(usize, usize, &PendingBlock) -> Result<(), SimulationError>,
) -> Result<Vec<LaneBlock>, LaneError> {
    check_blocks(rollup, blocks.iter().map(|block| (block.number, block.timestamp)))?;
    let mut lane = Lane::open(Arc::clone(rollup))?;
    lane.open.run_by_evm_alone();
    for (index, listed) in blocks.iter().enumerate() {
        if index > 0 {
            lane.advance()?;
        }
        lane.open.expect_transactions(listed.transactions.len());
        for (position, tx) in listed.transactions.iter().enumerate() {
            let invalid = |reason| LaneError::Invalid { block: index, index: position, reason };
            if tx.is_deposit() {
                return Err(invalid(Reason::DepositTransaction));
            }
            look(index, position, &lane.open)?;
            lane.open.execute(tx)?.map_err(invalid)?;
        }
        look(index, listed.transactions.len(), &lane.open)?;
    }
    lane.finish()
}

/// A list has exactly the blocks of the slot, given as (number, timestamp).
fn check_blocks(rollup: &SlotRollup, mut listed: impl Iterator<Item = (u64, u64)>) -> Result<(), LaneError> {
    let timestamps = rollup.blocks.iter().map(|plan| plan.next.timestamp);
    let mut planned = (rollup.parent.number.saturating_add(1)..).zip(timestamps);
    loop {
        let (listed, planned) = (listed.next(), planned.next());
        if listed != planned {
            return Err(LaneError::OtherBlocks { listed, planned });
        }
        if planned.is_none() {
            return Ok(());
        }
    }
}
