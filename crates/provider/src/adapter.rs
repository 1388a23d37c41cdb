//! How a decided list gets onto a chain whose node is elsewhere.

use std::{fmt, sync::Arc};

use alloy_primitives::Address;
use async_trait::async_trait;
use lockstep_primitives::{BlockList, Guarantee};
use lockstep_simulation::{BlockPlan, ParentBlock, SlotRollup};

use crate::{NodeError, PublishedBlock};

/// One way of delivering lists to a rollup.
#[async_trait]
pub trait DeliveryAdapter: Send + Sync + fmt::Debug {
    /// Its name, as the configuration spells it.
    fn name(&self) -> &'static str;

    /// The highest level of guarantee that a list delivered this way can carry.
    fn carries(&self) -> Guarantee;

    /// Whether its node decides on a block before the block's timestamp, so that a list has to be handed in as soon as it is
    /// decided instead of at that time.
    fn hands_in_early(&self) -> bool {
        false
    }

    /// What the blocks after `parent` with those timestamps will be, for a proposer.
    ///
    /// # Errors
    /// When the node cannot be reached, or cannot say.
    async fn plan(&self, parent: &ParentBlock, timestamps: &[u64], proposer: Address) -> Result<Vec<BlockPlan>, NodeError>;

    /// Puts one block of a list on the chain. `index` is the block's index in the slot.
    ///
    /// # Errors
    /// When the head is another one, or the block differs from the list.
    async fn publish(&self, rollup: &Arc<SlotRollup>, list: &BlockList, index: usize) -> Result<PublishedBlock, NodeError>;
}
