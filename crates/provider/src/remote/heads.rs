//! The head of a remote chain.

use std::{sync::Arc, time::Duration};

use lockstep_simulation::{ForkSchedule, ParentBlock};
use serde_json::json;
use tokio::{
    sync::{Mutex, watch},
    time::{MissedTickBehavior, interval},
};

use super::wire::{BlockAnswer, Rpc};
use crate::NodeError;

/// Looks at the head and tells whoever watches.
#[derive(Debug)]
pub(super) struct Heads {
    rpc: Rpc,
    forks: ForkSchedule,
    seen: watch::Sender<ParentBlock>,
    /// Held for every look, so that an answer that took long never replaces one that was asked for later.
    turn: Mutex<()>,
}

impl Heads {
    /// Takes a first look.
    pub(super) async fn open(rpc: Rpc, forks: ForkSchedule) -> Result<Arc<Self>, NodeError> {
        let heads = Arc::new(Self { rpc, forks, seen: watch::Sender::new(ParentBlock::default()), turn: Mutex::new(()) });
        heads.refresh().await?;
        Ok(heads)
    }

    /// The newest head that was seen.
    pub(super) fn seen(&self) -> ParentBlock {
        self.seen.borrow().clone()
    }

    pub(super) fn watch(&self) -> watch::Receiver<ParentBlock> {
        self.seen.subscribe()
    }

    /// Looks now.
    pub(super) async fn refresh(&self) -> Result<ParentBlock, NodeError> {
        let _turn = self.turn.lock().await;
        let block: Option<BlockAnswer> = self.rpc.ask("eth_getBlockByNumber", json!(["latest", false])).await?;
        let block = block.ok_or_else(|| self.rpc.unusable("it has no block at all".into()))?;
        let head = block.as_parent(&self.forks);
        self.seen.send_if_modified(|seen| {
            let moved = *seen != head;
            if moved {
                seen.clone_from(&head);
            }
            moved
        });
        Ok(head)
    }

    /// Looks every `period`, for ever.
    pub(super) async fn follow(self: Arc<Self>, period: Duration) {
        let mut ticks = interval(period.max(Duration::from_millis(1)));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut reachable = true;
        loop {
            ticks.tick().await;
            // One line when it goes and one when it comes back, not one a look.
            match self.refresh().await {
                Ok(head) if !reachable => {
                    reachable = true;
                    tracing::info!(chain = self.rpc.chain(), head = head.number, "the rollup's node is back");
                }
                Err(error) if reachable => {
                    reachable = false;
                    tracing::warn!(%error, "the rollup's head cannot be followed");
                }
                Ok(_) | Err(_) => {}
            }
        }
    }
}
