//! Confirmation: what was delivered is watched until it is on its chains.

use std::{collections::BTreeMap, sync::Arc};

use alloy_primitives::{B256, I256};
use lockstep_building::{Placed, SealedList};
use lockstep_delivery::Verdict;
use lockstep_primitives::{Allocation, BundleState, ChainId, Place, Reason, Rejection, SlotNumber};
use lockstep_rpc::wire::{LandedTx, MarketSlot};

use super::{BuilderRole, deliver::Delivered};
use crate::{
    clock::{now_ms, sleep_until},
    reorg::located,
};

/// How often a chain is looked at.
const POLL_MS: u64 = 40;
/// How long after its slot a list may still appear before its bundles are given up, in slots.
const GRACE_SLOTS: u64 = 2;

/// What was delivered for a slot, and the heads that it was built on.
pub(super) struct Watched {
    pub(super) delivered: Delivered,
    pub(super) parents: BTreeMap<ChainId, B256>,
}

impl BuilderRole {
    /// Watches a slot that this builder has no part in, for the report.
    pub(super) fn watch_foreign(self: &Arc<Self>, slot: SlotNumber) {
        let role = Arc::clone(self);
        tokio::spawn(async move {
            sleep_until(role.timings().clock.end_ms(slot)).await;
            let considered = role.considered(slot);
            role.tell(role.slot_report(slot, None, considered, I256::ZERO).await);
        });
    }

    /// Watches what was delivered, in the background, and reports the slot when it is over.
    pub(super) fn finish_slot(self: &Arc<Self>, market: MarketSlot, allocation: Allocation, watched: Option<Watched>) {
        let role = Arc::clone(self);
        tokio::spawn(async move {
            let watching = watched.map(|watched| {
                let (role, market) = (Arc::clone(&role), market.clone());
                tokio::spawn(async move { role.confirm(&market, &watched).await })
            });
            // Reports come in the order of slots: what has not landed by the end of its slot is reported as it stands.
            sleep_until(market.end_ms).await;
            let value = match watching {
                Some(watching) if watching.is_finished() => watching.await.unwrap_or_default(),
                _ => I256::ZERO,
            };
            metrics::gauge!("lockstep_value").set(value.to_string().parse::<f64>().unwrap_or_default());
            let considered = role.considered(market.slot);
            let report = role.slot_report(market.slot, Some(&allocation), considered, value).await;
            role.tell(report);
        });
    }

    async fn confirm(&self, market: &MarketSlot, watched: &Watched) -> I256 {
        let (slot, delivered) = (market.slot, &watched.delivered);
        let commit = delivered.decision.verdict == Verdict::Commit;
        let mut value = I256::ZERO;
        let placed: Vec<(&Placed, &BTreeMap<ChainId, SealedList>)> = if commit {
            delivered.draft.placed.iter().map(|placed| (placed, &delivered.sealed)).collect()
        } else {
            delivered.without.values().flat_map(|draft| &draft.placed).map(|placed| (placed, &delivered.without_sealed)).collect()
        };
        let deadline = market.end_ms + GRACE_SLOTS * (market.end_ms - market.start_ms);
        let mut settled: Vec<B256> = Vec::new();
        for (placed, sealed) in placed {
            settled.push(placed.hash);
            if self.confirm_bundle(placed, sealed, &watched.parents, slot, deadline).await {
                value = value.checked_add(placed.run.value).unwrap_or(I256::MAX);
            }
        }
        // What was frozen and did not end is free for the next slot.
        let rest = delivered.draft.placed.iter().chain(delivered.without.values().flat_map(|draft| &draft.placed));
        let free: Vec<B256> = rest.map(|placed| placed.hash).collect();
        self.intake.pool().write().set_frozen(free, false);
        value
    }

    /// Sets bundles free that were handed out for a slot whose delivery failed: nobody watches their lists, and should one of
    /// them land all the same, the next simulation finds it on its chain.
    pub(super) fn thaw(&self, hashes: impl IntoIterator<Item = B256>, slot: SlotNumber, cause: &str) {
        let hashes: Vec<B256> = hashes.into_iter().collect();
        self.intake.pool().write().set_frozen(hashes.iter().copied(), false);
        let why = Rejection::new(Place::BUNDLE, Reason::DecisionAbort(cause.to_owned()));
        for hash in hashes {
            let tracker = self.intake.tracker();
            if tracker.own(hash).is_some_and(|(state, ..)| state == BundleState::Proposed) {
                tracker.step(hash, BundleState::Pending, Some(slot), Some(&why), now_ms());
            }
        }
    }

    /// Waits until every transaction of a bundle is on its chain. Whether all of them are. Once the heads that its lists build
    /// on have all been reorged there is nothing to wait for: it is free at once.
    async fn confirm_bundle(
        &self,
        placed: &Placed,
        sealed: &BTreeMap<ChainId, SealedList>,
        parents: &BTreeMap<ChainId, B256>,
        slot: SlotNumber,
        deadline: u64,
    ) -> bool {
        let legs = legs_of(placed, sealed);
        // A rollup without a known head counts as one that can still publish.
        let heads: Vec<B256> = legs.iter().map(|(_, chain, _)| parents.get(chain).copied().unwrap_or_default()).collect();
        let expected: usize = legs.iter().map(|(_, _, hashes)| hashes.len()).sum();
        loop {
            let mut landed = 0;
            for (leg, chain, hashes) in &legs {
                let found = self.look(*chain, hashes).await;
                landed += found.iter().filter(|tx| tx.block_number.is_some()).count();
                self.intake.tracker().set_leg(placed.hash, *leg, found);
            }
            let tracker = self.intake.tracker();
            if landed > 0 {
                if tracker.own(placed.hash).is_some_and(|(state, ..)| state == BundleState::Pending) {
                    // After an abort: the bundle is in the list without cross-rollup bundles.
                    tracker.step(placed.hash, BundleState::Proposed, Some(slot), None, now_ms());
                }
                tracker.step(placed.hash, BundleState::Published, Some(slot), None, now_ms());
            }
            if landed == expected {
                self.intake.finish(placed.hash, BundleState::Landed, Some(slot), None).await;
                return true;
            }
            let impossible = landed == 0 && self.intake.all_dropped(heads.iter().copied());
            if now_ms() > deadline || impossible {
                if landed > 0 {
                    let why = Rejection::new(Place::BUNDLE, Reason::Partial);
                    tracing::error!(hash = %placed.hash, slot, landed, expected, "a bundle landed in part");
                    self.intake.finish(placed.hash, BundleState::Breached, Some(slot), Some(&why)).await;
                } else {
                    let cause = if impossible {
                        "a reorg took the blocks that the lists build on"
                    } else {
                        "the lists were not published"
                    };
                    let why = Rejection::new(Place::BUNDLE, Reason::DecisionAbort(cause.to_owned()));
                    if impossible {
                        self.intake.pool().write().set_frozen([placed.hash], false);
                    }
                    tracker.step(placed.hash, BundleState::Pending, Some(slot), Some(&why), now_ms());
                }
                return false;
            }
            sleep_until(now_ms() + POLL_MS).await;
        }
    }

    async fn look(&self, chain: ChainId, hashes: &[B256]) -> Vec<LandedTx> {
        let mut found = Vec::with_capacity(hashes.len());
        for hash in hashes {
            let landed = match self.intake.rollups().get(&chain) {
                Some(served) => served.node.landed(*hash).await.unwrap_or_else(|error| {
                    tracing::warn!(chain, %error, "a receipt cannot be read");
                    None
                }),
                None => None,
            };
            found.push(located(*hash, landed));
        }
        found
    }
}

/// The legs of a bundle that have transactions in the sealed lists.
fn legs_of(placed: &Placed, sealed: &BTreeMap<ChainId, SealedList>) -> Vec<(usize, ChainId, Vec<B256>)> {
    (0..placed.run.legs.len())
        .filter_map(|leg| {
            let chain = placed.run.legs.get(leg)?.chain;
            let places = sealed.get(&chain)?.legs.get(&(placed.hash, leg))?;
            Some((leg, chain, places.iter().map(|listed| listed.hash).collect()))
        })
        .collect()
}
