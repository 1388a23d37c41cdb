//! A rollup in this process: the default of `lockstep dev`, behind the same trait as a real node.
//!
//! It executes lists by the same code as everything else, seals real headers (state, transactions and receipts roots) and
//! keeps the blocks of its whole life, with the states of the newest [`HISTORY_BLOCKS`].

mod header;
mod l1;

use std::{
    collections::{BTreeMap, VecDeque},
    fmt,
    sync::Arc,
};

use alloy_consensus::Header;
use alloy_primitives::{Address, B256};
use async_trait::async_trait;
use lockstep_primitives::{BlockList, ChainId, Guarantee, SignedTx};
use lockstep_simulation::{
    BlockContext, BlockPlan, Executed, ForkSchedule, LaneBlock, MemoryState, NextBlock, ParentBlock, SlotRollup, StateView,
    execute_list,
};
use parking_lot::RwLock;
use tokio::sync::{broadcast, watch};

use crate::{BlockLog, Landed, NodeError, NodeHealth, PublishedBlock, Reorg, RollupNode};

/// How many blocks are kept; older ones are forgotten.
pub const MAX_BLOCKS: usize = 100_000;
/// Of how many blocks the state is kept.
pub const HISTORY_BLOCKS: usize = 256;

/// How an embedded rollup begins.
#[derive(Clone, Debug)]
pub struct EmbeddedGenesis {
    /// The chain id.
    pub chain: ChainId,
    /// Its rules.
    pub forks: ForkSchedule,
    /// Timestamp of block 0, in seconds.
    pub timestamp: u64,
    /// Gas limit of every block.
    pub gas_limit: u64,
    /// Base fee of block 0, in wei.
    pub base_fee: u64,
    /// The state of block 0.
    pub state: MemoryState,
}

/// A transaction in a block of an embedded rollup.
#[derive(Clone, Debug)]
pub struct EmbeddedTx {
    /// The transaction, what it did, and its receipt.
    pub executed: Executed,
    /// How many logs the block has before it.
    pub first_log: u64,
}

/// A block of an embedded rollup.
#[derive(Clone, Debug)]
pub struct EmbeddedBlock {
    /// Its header.
    pub header: Header,
    /// Keccak-256 of the header.
    pub hash: B256,
    /// The environment it was made in.
    pub context: BlockContext,
    /// Its transactions.
    pub txs: Vec<EmbeddedTx>,
}

impl EmbeddedBlock {
    /// What a next block needs to know of it.
    pub fn as_parent(&self) -> ParentBlock {
        header::as_parent(&self.header, self.hash)
    }
}

struct Inner {
    blocks: VecDeque<Arc<EmbeddedBlock>>,
    by_hash: BTreeMap<B256, u64>,
    txs: BTreeMap<B256, (u64, usize)>,
    states: VecDeque<(u64, Arc<MemoryState>)>,
}

/// A rollup in this process.
pub struct EmbeddedRollup {
    chain: ChainId,
    forks: ForkSchedule,
    inner: RwLock<Inner>,
    heads: watch::Sender<ParentBlock>,
    /// Never sends: this chain goes one way.
    reorgs: broadcast::Sender<Reorg>,
}

impl fmt::Debug for EmbeddedRollup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EmbeddedRollup").field("chain", &self.chain).field("head", &*self.heads.borrow()).finish()
    }
}

impl EmbeddedRollup {
    /// Makes block 0.
    ///
    /// # Errors
    /// When no rules hold at the genesis timestamp.
    pub fn new(genesis: EmbeddedGenesis) -> Result<Self, NodeError> {
        let EmbeddedGenesis { chain, forks, timestamp, gas_limit, base_fee, mut state } = genesis;
        let rules = forks.rules_at(timestamp).map_err(|error| NodeError::List { chain, cause: error.into() })?;
        let context = BlockContext {
            chain,
            rules,
            parent_hash: B256::ZERO,
            number: 0,
            timestamp,
            gas_limit,
            base_fee,
            beneficiary: Address::ZERO,
            prev_randao: B256::ZERO,
            parent_beacon_block_root: rules.has_beacon_root().then_some(B256::ZERO),
            excess_blob_gas: rules.blobs().map(|_| 0),
            extra_data: header::extra_data(rules),
            data: Default::default(),
            encrypted_gas: 0,
            deposits_only: false,
        };
        let header = header::genesis(&context, state.root());
        let hash = header.hash_slow();
        state.set_block_hash(0, hash);
        let head = header::as_parent(&header, hash);
        let block = Arc::new(EmbeddedBlock { header, hash, context, txs: Vec::new() });
        let inner = Inner {
            blocks: [block].into(),
            by_hash: [(hash, 0)].into(),
            txs: BTreeMap::new(),
            states: [(0, Arc::new(state))].into(),
        };
        Ok(Self { chain, forks, inner: RwLock::new(inner), heads: watch::channel(head).0, reorgs: broadcast::channel(1).0 })
    }

    /// When which rules hold.
    pub const fn forks(&self) -> &ForkSchedule {
        &self.forks
    }

    /// The newest block.
    pub fn newest(&self) -> Option<Arc<EmbeddedBlock>> {
        self.inner.read().blocks.back().cloned()
    }

    /// A block by its number.
    pub fn block(&self, number: u64) -> Option<Arc<EmbeddedBlock>> {
        let inner = self.inner.read();
        let first = inner.blocks.front()?.header.number;
        inner.blocks.get(usize::try_from(number.checked_sub(first)?).ok()?).cloned()
    }

    /// A block by its hash.
    pub fn block_by_hash(&self, hash: B256) -> Option<Arc<EmbeddedBlock>> {
        let number = self.inner.read().by_hash.get(&hash).copied()?;
        self.block(number)
    }

    /// A transaction's block and its index in it.
    pub fn transaction(&self, hash: B256) -> Option<(Arc<EmbeddedBlock>, usize)> {
        let (number, index) = self.inner.read().txs.get(&hash).copied()?;
        Some((self.block(number)?, index))
    }

    /// The state after a block; `None` when it is older than [`HISTORY_BLOCKS`].
    pub fn state(&self, number: u64) -> Option<Arc<MemoryState>> {
        self.inner.read().states.iter().find(|(at, _)| *at == number).map(|(_, state)| Arc::clone(state))
    }

    fn append(&self, done: &LaneBlock) -> Result<Arc<EmbeddedBlock>, NodeError> {
        let unreadable = |cause: String| NodeError::Unreachable { chain: self.chain, cause };
        let changes = done.block.state().changes().map_err(|error| unreadable(error.to_string()))?;
        let mut inner = self.inner.write();
        let (_, current) = inner.states.back().ok_or_else(|| unreadable("no state".into()))?;
        let mut state = MemoryState::clone(current);
        state.apply(&changes);
        let header = header::seal(done, &state);
        let hash = header.hash_slow();
        state.set_block_hash(header.number, hash);
        let mut first_log = 0;
        let mut txs = Vec::with_capacity(done.block.executed().len());
        for (index, executed) in done.block.executed().iter().enumerate() {
            inner.txs.insert(executed.tx.hash(), (header.number, index));
            txs.push(EmbeddedTx { executed: executed.clone(), first_log });
            first_log += executed.outcome.logs.len() as u64;
        }
        let block = Arc::new(EmbeddedBlock { hash, context: done.block.context().clone(), txs, header });
        inner.by_hash.insert(hash, block.header.number);
        inner.states.push_back((block.header.number, Arc::new(state)));
        if inner.states.len() > HISTORY_BLOCKS {
            inner.states.pop_front();
        }
        inner.blocks.push_back(Arc::clone(&block));
        if inner.blocks.len() > MAX_BLOCKS
            && let Some(oldest) = inner.blocks.pop_front()
        {
            inner.by_hash.remove(&oldest.hash);
            for tx in &oldest.txs {
                inner.txs.remove(&tx.executed.tx.hash());
            }
        }
        drop(inner);
        self.heads.send_replace(block.as_parent());
        Ok(block)
    }
}

#[async_trait]
impl RollupNode for EmbeddedRollup {
    fn chain(&self) -> ChainId {
        self.chain
    }

    async fn head(&self) -> Result<ParentBlock, NodeError> {
        Ok(self.heads.borrow().clone())
    }

    fn heads(&self) -> watch::Receiver<ParentBlock> {
        self.heads.subscribe()
    }

    fn reorgs(&self) -> broadcast::Receiver<Reorg> {
        self.reorgs.subscribe()
    }

    fn health(&self) -> NodeHealth {
        NodeHealth::default()
    }

    async fn prefetch(&self, _txs: &[Arc<SignedTx>]) -> usize {
        // The whole state is in memory.
        0
    }

    fn carries(&self) -> Guarantee {
        Guarantee::G3
    }

    async fn state_at(&self, block: B256) -> Result<Arc<dyn StateView>, NodeError> {
        let number = self.inner.read().by_hash.get(&block).copied();
        number
            .and_then(|number| self.state(number))
            .map(|state| state as Arc<dyn StateView>)
            .ok_or(NodeError::UnknownBlock { chain: self.chain, hash: block })
    }

    async fn fetch_missing(&self, _block: B256) -> Result<usize, NodeError> {
        // The whole state is in memory: nothing is ever missing.
        Ok(0)
    }

    async fn plan(&self, parent: &ParentBlock, timestamps: &[u64], proposer: Address) -> Result<Vec<BlockPlan>, NodeError> {
        let mut plans = Vec::with_capacity(timestamps.len());
        for (number, timestamp) in (parent.number + 1..).zip(timestamps) {
            let rules =
                self.forks.rules_at(*timestamp).map_err(|error| NodeError::List { chain: self.chain, cause: error.into() })?;
            let next = NextBlock {
                timestamp: *timestamp,
                gas_limit: parent.gas_limit,
                beneficiary: if rules.is_op_stack() { l1::SEQUENCER_FEE_VAULT } else { proposer },
                prev_randao: header::randao(self.chain, *timestamp),
                parent_beacon_block_root: rules.has_beacon_root().then(|| header::beacon_root(*timestamp)),
                extra_data: header::extra_data(rules),
                ..NextBlock::default()
            };
            let forced = l1::attributes(rules, number, *timestamp).into_iter().collect();
            plans.push(BlockPlan { next, forced });
        }
        Ok(plans)
    }

    async fn publish(&self, rollup: &Arc<SlotRollup>, list: &BlockList, index: usize) -> Result<PublishedBlock, NodeError> {
        let head = self.heads.borrow().clone();
        let listed = list.blocks.get(index).cloned();
        let follows = if index == 0 {
            head.hash == rollup.parent.hash
        } else {
            listed.as_ref().is_some_and(|block| block.number == head.number + 1)
        };
        if !follows {
            return Err(NodeError::OtherParent { chain: self.chain, head: head.hash, parent: rollup.parent.hash });
        }
        let single = SlotRollup {
            chain: self.chain,
            forks: self.forks.clone(),
            state: self.state_at(head.hash).await?,
            parent: head,
            blocks: rollup.blocks.get(index).cloned().into_iter().collect(),
        };
        let list = BlockList { chain: self.chain, blocks: listed.into_iter().collect() };
        let done = execute_list(&Arc::new(single), &list).map_err(|cause| NodeError::List { chain: self.chain, cause })?;
        let done = done.first().ok_or(NodeError::OtherBlock { chain: self.chain, cause: "no block was made".into() })?;
        Ok(published(&*self.append(done)?))
    }

    async fn blocks_between(&self, from: u64, until: u64) -> Result<Vec<PublishedBlock>, NodeError> {
        let inner = self.inner.read();
        let recent = inner.blocks.iter().rev().skip_while(|block| block.header.timestamp >= until);
        let mut blocks: Vec<PublishedBlock> =
            recent.take_while(|block| block.header.timestamp >= from).map(|block| published(block)).collect();
        blocks.reverse();
        Ok(blocks)
    }

    async fn landed(&self, tx: B256) -> Result<Option<Landed>, NodeError> {
        Ok(self.transaction(tx).and_then(|(block, index)| {
            Some(Landed {
                number: block.header.number,
                hash: block.hash,
                index: index as u64,
                success: block.txs.get(index)?.executed.outcome.succeeded(),
            })
        }))
    }

    async fn logs(&self, block: B256) -> Result<Vec<BlockLog>, NodeError> {
        let block = self.block_by_hash(block).ok_or(NodeError::UnknownBlock { chain: self.chain, hash: block })?;
        Ok(block.txs.iter().flat_map(logs_of).collect())
    }
}

fn logs_of(tx: &EmbeddedTx) -> impl Iterator<Item = BlockLog> {
    let (tx_hash, id) = (tx.executed.tx.hash(), tx.executed.tx.id());
    let places = (tx.first_log..).zip(tx.executed.outcome.logs.iter()).enumerate();
    places.map(move |(in_tx, (index, log))| BlockLog { tx_hash, tx: id, in_tx, index, log: log.clone() })
}

fn published(block: &EmbeddedBlock) -> PublishedBlock {
    PublishedBlock {
        number: block.header.number,
        hash: block.hash,
        timestamp: block.header.timestamp,
        transactions: block.txs.iter().map(|tx| tx.executed.tx.hash()).collect(),
        gas_used: block.header.gas_used,
        receipts_root: block.header.receipts_root,
    }
}
