//! What everything that has to do with one remote node shares.

use std::{fmt, sync::Arc};

use lockstep_primitives::ChainId;
use lockstep_simulation::{ForkSchedule, ParentBlock};
use serde_json::json;
use tokio::sync::watch;

use super::{RemoteLimits, follow::Follower, wire::Rpc};
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
    /// Follows the head.
    pub(super) follower: Arc<Follower>,
}

impl RemoteChain {
    /// Asks the node what it is and takes a first look at its head.
    ///
    /// # Errors
    /// When none of its endpoints can be used, or it serves another chain.
    pub(crate) async fn open(rpc: Rpc, forks: ForkSchedule) -> Result<Self, NodeError> {
        let follower = Arc::new(Follower::open(rpc.clone(), forks.clone()).await?);
        // Some gateways do not forward it; everything that reads works all the same.
        let client = rpc.call::<String>("web3_clientVersion", json!([])).await;
        let client = client.unwrap_or_else(|_| "a node that does not say what it is".into());
        tracing::info!(chain = rpc.chain(), client, "connected to the rollup's node");
        Ok(Self { chain: rpc.chain(), forks, limits: *rpc.limits(), rpc, client, follower })
    }

    /// Looks at the head now, and follows it.
    ///
    /// # Errors
    /// When the node cannot be reached, or lies.
    pub(crate) async fn refresh(&self) -> Result<ParentBlock, NodeError> {
        self.follower.advance().await
    }

    /// The newest head that was seen.
    pub(crate) fn seen(&self) -> ParentBlock {
        self.follower.heads().seen()
    }

    /// Changes whenever the head does.
    pub(crate) fn watch(&self) -> watch::Receiver<ParentBlock> {
        self.follower.heads().watch()
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
