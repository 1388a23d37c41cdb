//! The trait behind which every rollup's node stands.

use std::{fmt, sync::Arc};

use alloy_primitives::{Address, B256};
use async_trait::async_trait;
use lockstep_primitives::{BlockList, ChainId};
use lockstep_simulation::{BlockPlan, LaneError, ParentBlock, SlotRollup, StateView};
use tokio::sync::watch;

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
}
