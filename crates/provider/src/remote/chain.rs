//! What everything that has to do with one remote node shares.

use std::{fmt, sync::Arc};

use lockstep_primitives::ChainId;
use lockstep_simulation::{ForkSchedule, ParentBlock};
use tokio::sync::watch;

use super::{RemoteLimits, heads::Heads, wire::Rpc};
use crate::NodeError;

/// A remote chain: its rules, the way to its node, and its head.
#[derive(Clone)]
pub(crate) struct RemoteChain {
    /// The rollup.
    pub(crate) chain: ChainId,
    /// When which rules hold.
    pub(crate) forks: ForkSchedule,
    /// Bounds.
    pub(crate) limits: RemoteLimits,
    /// JSON-RPC to its node.
    pub(crate) rpc: Rpc,
    /// What the node calls itself.
    pub(crate) client: String,
    /// The head.
    pub(super) heads: Arc<Heads>,
}

impl RemoteChain {
    /// Looks at the head now.
    ///
    /// # Errors
    /// When the node cannot be reached.
    pub(crate) async fn refresh(&self) -> Result<ParentBlock, NodeError> {
        self.heads.refresh().await
    }

    /// The newest head that was seen.
    pub(crate) fn seen(&self) -> ParentBlock {
        self.heads.seen()
    }

    /// Changes whenever the head does.
    pub(crate) fn watch(&self) -> watch::Receiver<ParentBlock> {
        self.heads.watch()
    }
}

impl fmt::Debug for RemoteChain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RemoteChain")
            .field("chain", &self.chain)
            .field("client", &self.client)
            .field("limits", &self.limits)
            .field("head", &self.seen().number)
            .finish_non_exhaustive()
    }
}
