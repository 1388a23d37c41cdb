//! The trait behind which every rollup's node stands.

use std::{fmt, sync::Arc};

use alloy_primitives::{Address, B256, Log};
use async_trait::async_trait;
use lockstep_primitives::{BlockList, ChainId, Guarantee, SignedTx, TxId};
use lockstep_simulation::{BlockPlan, LaneError, ParentBlock, SlotRollup, StateView};
use tokio::sync::{broadcast, watch};

/// A block that was made from a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublishedBlock {
    /// Block number.
    pub number: u64,
    /// Block hash.
    pub hash: B256,
    /// In seconds.
    pub timestamp: u64,
    /// Hashes of all its transactions, forced prefix included.
    pub transactions: Vec<B256>,
    /// Gas used.
    pub gas_used: u64,
    /// Root of its receipts.
    pub receipts_root: B256,
}

/// Where a transaction is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Landed {
    /// Block number.
    pub number: u64,
    /// Block hash.
    pub hash: B256,
    /// Index in the block.
    pub index: u64,
    /// Whether it succeeded.
    pub success: bool,
}

/// A log of a block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlockLog {
    /// Hash of its transaction.
    pub tx_hash: B256,
    /// What its transaction is called whether it is signed already or not.
    pub tx: TxId,
    /// Index among the logs of its transaction.
    pub in_tx: usize,
    /// Index among all logs of the block.
    pub index: u64,
    /// Emitter, topics and data.
    pub log: Log,
}

/// A block that is no longer on the chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DroppedBlock {
    /// Block number.
    pub number: u64,
    /// Block hash.
    pub hash: B256,
    /// Hashes of its transactions.
    pub transactions: Vec<B256>,
}

/// The chain took another way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reorg {
    /// The rollup.
    pub chain: ChainId,
    /// Number of the last block that both ways share; `None` when it lies deeper than is followed back.
    pub common: Option<u64>,
    /// What was dropped, newest first; of a reorg deeper than is followed back, all that was known.
    pub dropped: Vec<DroppedBlock>,
}

/// How a rollup's node is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeHealth {
    /// Why it is degraded, as a stable code and in words; `None` when it is not.
    pub degraded: Option<(&'static str, String)>,
}

/// Why a node did not do what it was asked for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NodeError {
    /// It cannot be reached, or answers nonsense.
    #[error("the node of rollup {chain} cannot be used: {cause}")]
    Unreachable {
        /// The rollup.
        chain: ChainId,
        /// Why.
        cause: String,
    },
    /// It does not know the block.
    #[error("the node of rollup {chain} does not have block {hash}")]
    UnknownBlock {
        /// The rollup.
        chain: ChainId,
        /// The block.
        hash: B256,
    },
    /// It serves another chain.
    #[error("the node of rollup {chain} serves chain {served}: name the node of rollup {chain}")]
    WrongChain {
        /// The rollup.
        chain: ChainId,
        /// The chain that it serves.
        served: ChainId,
    },
    /// Its head is too old, or behind that of another node of the rollup.
    #[error("the node of rollup {chain} is behind: {cause}")]
    Behind {
        /// The rollup.
        chain: ChainId,
        /// By how much.
        cause: String,
    },
    /// It has thrown away the state of the block.
    #[error("the node of rollup {chain} does not have the state of block {hash} any more: {cause}")]
    Pruned {
        /// The rollup.
        chain: ChainId,
        /// The block.
        hash: B256,
        /// What it says.
        cause: String,
    },
    /// What it answers is no JSON-RPC: a web page, an answer cut short.
    #[error("the node of rollup {chain} does not answer in JSON-RPC: {cause}")]
    NotJsonRpc {
        /// The rollup.
        chain: ChainId,
        /// What came instead.
        cause: String,
    },
    /// A block is not the one that was asked for, or contradicts itself.
    #[error("the node of rollup {chain} answers another block than was asked for: {cause}")]
    WrongBlock {
        /// The rollup.
        chain: ChainId,
        /// What differs.
        cause: String,
    },
    /// A list does not fit its head any more.
    #[error("the head of rollup {chain} is {head}, the list was made for {parent}")]
    OtherParent {
        /// The rollup.
        chain: ChainId,
        /// The head.
        head: B256,
        /// The list's parent.
        parent: B256,
    },
    /// A list cannot be executed.
    #[error("rollup {chain}: {cause}")]
    List {
        /// The rollup.
        chain: ChainId,
        /// Why.
        cause: LaneError,
    },
    /// The node made another block than the list asked for.
    #[error("the node of rollup {chain} made another block than the list asked for: {cause}")]
    OtherBlock {
        /// The rollup.
        chain: ChainId,
        /// What differs.
        cause: String,
    },
}

impl NodeError {
    /// A stable name of the error.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Unreachable { .. } => "node_unreachable",
            Self::UnknownBlock { .. } => "unknown_block",
            Self::WrongChain { .. } => "wrong_chain",
            Self::Behind { .. } => "node_behind",
            Self::Pruned { .. } => "pruned_state",
            Self::NotJsonRpc { .. } => "not_json_rpc",
            Self::WrongBlock { .. } => "wrong_block",
            Self::OtherParent { .. } => "other_parent",
            Self::List { .. } => "list_impossible",
            Self::OtherBlock { .. } => "other_block",
        }
    }
}

/// One rollup's node.
#[async_trait]
pub trait RollupNode: Send + Sync + fmt::Debug {
    /// The rollup.
    fn chain(&self) -> ChainId;

    /// The newest block.
    ///
    /// # Errors
    /// When the node cannot be reached.
    async fn head(&self) -> Result<ParentBlock, NodeError>;

    /// Changes whenever the head does. Holds the newest head that was seen.
    fn heads(&self) -> watch::Receiver<ParentBlock>;

    /// Every reorg from now on. A receiver that lags behind is told that it missed some.
    fn reorgs(&self) -> broadcast::Receiver<Reorg>;

    /// How the node is.
    fn health(&self) -> NodeHealth;

    /// Fetches, before anybody waits for it, what transactions are likely to touch on the newest head. Returns how many
    /// values came; what cannot be fetched is fetched when it is missed.
    async fn prefetch(&self, txs: &[Arc<SignedTx>]) -> usize;

    /// The highest level of guarantee that a list can carry which this node publishes.
    fn carries(&self) -> Guarantee;

    /// Whether the node decides on a block before the block's timestamp, so that a list has to be published as soon as it is
    /// decided instead of at that time.
    fn hands_in_early(&self) -> bool {
        false
    }

    /// The state after a block.
    ///
    /// # Errors
    /// When the node does not have it.
    async fn state_at(&self, block: B256) -> Result<Arc<dyn StateView>, NodeError>;

    /// Fetches everything that readers of the state after `block` missed since the last call. Returns how many values came;
    /// zero when nothing was missed.
    ///
    /// # Errors
    /// When the node cannot be reached.
    async fn fetch_missing(&self, block: B256) -> Result<usize, NodeError>;

    /// What the blocks after `parent` with those timestamps will be, for a proposer. Asked of the sequencer's own node.
    ///
    /// # Errors
    /// When the node cannot be reached.
    async fn plan(&self, parent: &ParentBlock, timestamps: &[u64], proposer: Address) -> Result<Vec<BlockPlan>, NodeError>;

    /// Puts one block of a list on the chain: exactly its transactions, in their order, after the forced prefix.
    /// `index` is the block's index in the slot; its predecessors are on the chain already.
    ///
    /// # Errors
    /// When the head is another one, or the block differs from the list.
    async fn publish(&self, rollup: &Arc<SlotRollup>, list: &BlockList, index: usize) -> Result<PublishedBlock, NodeError>;

    /// The newest blocks whose timestamps, in seconds, lie in [`from`, `until`), oldest first.
    ///
    /// # Errors
    /// When the node cannot be reached.
    async fn blocks_between(&self, from: u64, until: u64) -> Result<Vec<PublishedBlock>, NodeError>;

    /// Where a transaction is; `None` when it is in no block.
    ///
    /// # Errors
    /// When the node cannot be reached.
    async fn landed(&self, tx: B256) -> Result<Option<Landed>, NodeError>;

    /// All logs of a block, in order, those of forced transactions included.
    ///
    /// # Errors
    /// When the node does not have the block, cannot be reached, or its answer is not what the block's header commits to.
    async fn logs(&self, block: B256) -> Result<Vec<BlockLog>, NodeError>;
}
