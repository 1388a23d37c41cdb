//! What is told of a remote chain: its head, its reorgs, and how its node is.

use std::time::{SystemTime, UNIX_EPOCH};

use lockstep_primitives::ChainId;
use lockstep_simulation::ParentBlock;
use parking_lot::Mutex;
use tokio::sync::{broadcast, watch};

use crate::{NodeError, NodeHealth, Reorg};

/// Reorgs that a slow listener may lag behind.
const MAX_REORGS: usize = 64;

/// Tells whoever watches.
#[derive(Debug)]
pub(super) struct Heads {
    chain: ChainId,
    /// Seconds that the head may lag behind the wall clock.
    max_lag_s: u64,
    seen: watch::Sender<ParentBlock>,
    reorgs: broadcast::Sender<Reorg>,
    health: Mutex<NodeHealth>,
}

impl Heads {
    pub(super) fn new(chain: ChainId, max_lag_s: u64, head: ParentBlock) -> Self {
        let heads = Self {
            chain,
            max_lag_s,
            seen: watch::Sender::new(head.clone()),
            reorgs: broadcast::Sender::new(MAX_REORGS),
            health: Mutex::default(),
        };
        heads.judge(&Ok(head));
        heads
    }

    /// The newest head that was told.
    pub(super) fn seen(&self) -> ParentBlock {
        self.seen.borrow().clone()
    }

    pub(super) fn watch(&self) -> watch::Receiver<ParentBlock> {
        self.seen.subscribe()
    }

    pub(super) fn reorgs(&self) -> broadcast::Receiver<Reorg> {
        self.reorgs.subscribe()
    }

    pub(super) fn health(&self) -> NodeHealth {
        self.health.lock().clone()
    }

    /// The head is this one.
    pub(super) fn tell(&self, head: &ParentBlock) {
        self.seen.send_if_modified(|seen| {
            let moved = seen != head;
            if moved {
                seen.clone_from(head);
            }
            moved
        });
    }

    /// Blocks are gone.
    pub(super) fn tell_reorg(&self, reorg: Reorg) {
        tracing::warn!(chain = reorg.chain, common = ?reorg.common, dropped = reorg.dropped.len(), "the chain took another way");
        metrics::counter!("lockstep_reorgs_total", "chain" => reorg.chain.to_string()).increment(1);
        // An error means that nobody listens.
        let _ = self.reorgs.send(reorg);
    }

    /// Tells from the last look how the node is. One line when it goes and one when it comes back, not one a look.
    pub(super) fn judge(&self, look: &Result<ParentBlock, NodeError>) {
        let degraded = match look {
            Ok(head) => self.lag(head).map(|error| (error.code(), error.to_string())),
            Err(error) => Some((error.code(), error.to_string())),
        };
        let mut health = self.health.lock();
        let (before, now) = (health.degraded.as_ref().map(|(code, _)| *code), degraded.as_ref().map(|(code, _)| *code));
        health.degraded = degraded;
        if before == now {
            return;
        }
        match &health.degraded {
            Some((code, cause)) => tracing::warn!(chain = self.chain, code, cause, "the rollup's node is degraded"),
            None => tracing::info!(chain = self.chain, "the rollup's node is well again"),
        }
    }

    /// How far a head lags behind the wall clock, when that is too far.
    fn lag(&self, head: &ParentBlock) -> Option<NodeError> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let lag = now.saturating_sub(head.timestamp);
        (lag > self.max_lag_s).then(|| NodeError::Behind {
            chain: self.chain,
            cause: format!("its head {} is {lag} s old, more than {} s", head.number, self.max_lag_s),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_that_is_too_old_degrades_the_node_and_a_new_one_mends_it() {
        let head = |timestamp| ParentBlock { number: 7, timestamp, ..ParentBlock::default() };
        let heads = Heads::new(901, 60, head(1));
        assert_eq!(heads.health().degraded.map(|(code, _)| code), Some("node_behind"));
        heads.judge(&Ok(head(u64::MAX)));
        assert_eq!(heads.health(), NodeHealth::default());
        heads.judge(&Err(NodeError::Unreachable { chain: 901, cause: "gone".into() }));
        assert_eq!(heads.health().degraded.map(|(code, _)| code), Some("node_unreachable"));
        assert_eq!(Heads::new(901, u64::MAX, head(1)).health(), NodeHealth::default(), "no limit, no lag");
    }
}
