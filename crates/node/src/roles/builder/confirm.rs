//! Confirmation: what was delivered is watched until it is on its chains.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use alloy_primitives::{B256, I256};
use lockstep_building::{Placed, SealedList};
use lockstep_delivery::Verdict;
use lockstep_primitives::{Allocation, BundleState, ChainId, Place, Reason, Rejection, SlotNumber};
use lockstep_rpc::wire::{LandedTx, MarketSlot, SlotTiming};

use super::{BuilderRole, deliver::Delivered};
use crate::{
    clock::{now_ms, sleep_until},
    reorg::located,
};

/// How often a chain is looked at.
const POLL_MS: u64 = 40;
/// How often while a node does not answer.
const SILENT_POLL_MS: u64 = 250;
/// How long after its slot a list may still appear before its bundles are given up, in slots.
const GRACE_SLOTS: u64 = 2;

/// What was delivered for a slot, and the heads that it was built on.
pub(super) struct Watched {
    pub(super) delivered: Delivered,
    pub(super) parents: BTreeMap<ChainId, B256>,
}

/// What a look at a bundle's chains says.
enum Look {
    /// All of it is there.
    Landed,
    /// It is free again, or broken.
    GivenUp,
    /// Some of it is still to come.
    Waiting,
    /// The node of this rollup does not answer.
    Silent(ChainId),
}

impl BuilderRole {
    /// Watches a slot that this builder has no part in, for the report. `timing`: when it worked on it, if it did.
    pub(super) fn watch_foreign(self: &Arc<Self>, slot: SlotNumber, timing: Option<SlotTiming>) {
        let role = Arc::clone(self);
        tokio::spawn(async move {
            sleep_until(role.timings().clock.end_ms(slot)).await;
            let considered = role.considered(slot);
            role.tell(role.slot_report(slot, None, considered, I256::ZERO, timing).await);
        });
    }

    /// Watches what was delivered, in the background, and reports the slot when it is over.
    pub(super) fn finish_slot(
        self: &Arc<Self>,
        market: MarketSlot,
        allocation: Allocation,
        watched: Option<Watched>,
        timing: Option<SlotTiming>,
    ) {
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
            let report = role.slot_report(market.slot, Some(&allocation), considered, value, timing).await;
            role.tell(report);
        });
    }

    pub(super) async fn confirm(&self, market: &MarketSlot, watched: &Watched) -> I256 {
        let (slot, delivered) = (market.slot, &watched.delivered);
        let commit = delivered.decision.verdict == Verdict::Commit;
        let mut value = I256::ZERO;
        let mut placed: Vec<(&Placed, &BTreeMap<ChainId, SealedList>)> = if commit {
            delivered.draft.placed.iter().map(|placed| (placed, &delivered.sealed)).collect()
        } else {
            delivered.without.values().flat_map(|draft| &draft.placed).map(|placed| (placed, &delivered.without_sealed)).collect()
        };
        placed.retain(|(placed, sealed)| was_handed_out(placed, sealed));
        // What is in no list that may still be published is free at once. What is watched is set free when that ends: a later
        // slot may have frozen it anew by the time that the last one of this slot ends.
        let watching: BTreeSet<B256> = placed.iter().map(|(placed, _)| placed.hash).collect();
        let all = delivered.draft.placed.iter().chain(delivered.without.values().flat_map(|draft| &draft.placed));
        let free: Vec<B256> = all.map(|placed| placed.hash).filter(|hash| !watching.contains(hash)).collect();
        self.intake.pool().write().set_frozen(free, false);
        let deadline = market.end_ms + GRACE_SLOTS * (market.end_ms - market.start_ms);
        let mut open = placed;
        while !open.is_empty() {
            // One rollup whose node does not answer holds up none but its own bundles.
            let mut silent: BTreeSet<ChainId> = BTreeSet::new();
            let mut rest = Vec::new();
            let mut looked_for = open.into_iter();
            for (placed, sealed) in looked_for.by_ref() {
                if placed.bundle.rollups().iter().any(|chain| silent.contains(chain)) {
                    rest.push((placed, sealed));
                    continue;
                }
                match self.confirm_bundle(placed, sealed, &watched.parents, slot, deadline).await {
                    Look::Landed => value = value.checked_add(placed.run.value).unwrap_or(I256::MAX),
                    Look::GivenUp => {}
                    Look::Silent(chain) => {
                        silent.insert(chain);
                        rest.push((placed, sealed));
                    }
                    // While one is still to come there is no need to ask for the others.
                    Look::Waiting => {
                        rest.push((placed, sealed));
                        break;
                    }
                }
            }
            rest.extend(looked_for);
            open = rest;
            if !open.is_empty() {
                sleep_until(now_ms() + if silent.is_empty() { POLL_MS } else { SILENT_POLL_MS }).await;
            }
        }
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

    /// Looks whether every transaction of a bundle is on its chain. Once the heads that its lists build on have all been reorged
    /// there is nothing to wait for: it is free at once. While a node does not answer nothing is given up: not knowing is not
    /// being absent.
    async fn confirm_bundle(
        &self,
        placed: &Placed,
        sealed: &BTreeMap<ChainId, SealedList>,
        parents: &BTreeMap<ChainId, B256>,
        slot: SlotNumber,
        deadline: u64,
    ) -> Look {
        let legs = legs_of(placed, sealed);
        let expected: usize = legs.iter().map(|(_, _, hashes)| hashes.len()).sum();
        let (mut landed, mut silent) = (0, None);
        for (leg, chain, hashes) in &legs {
            let Some(found) = self.look(*chain, hashes).await else {
                silent = Some(*chain);
                continue;
            };
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
            return Look::Landed;
        }
        if let Some(chain) = silent {
            return Look::Silent(chain);
        }
        // A rollup without a known head counts as one that can still publish.
        let heads = legs.iter().map(|(_, chain, _)| parents.get(chain).copied().unwrap_or_default());
        let impossible = landed == 0 && self.intake.all_dropped(heads);
        if now_ms() <= deadline && !impossible {
            return Look::Waiting;
        }
        if landed > 0 {
            let why = Rejection::new(Place::BUNDLE, Reason::Partial);
            tracing::error!(hash = %placed.hash, slot, landed, expected, "a bundle landed in part");
            self.intake.finish(placed.hash, BundleState::Breached, Some(slot), Some(&why)).await;
        } else {
            let cause =
                if impossible { "a reorg took the blocks that the lists build on" } else { "the lists were not published" };
            let why = Rejection::new(Place::BUNDLE, Reason::DecisionAbort(cause.to_owned()));
            self.intake.pool().write().set_frozen([placed.hash], false);
            tracker.step(placed.hash, BundleState::Pending, Some(slot), Some(&why), now_ms());
        }
        Look::GivenUp
    }

    /// Where transactions are; `None` when the node does not say.
    async fn look(&self, chain: ChainId, hashes: &[B256]) -> Option<Vec<LandedTx>> {
        let Some(served) = self.intake.rollups().get(&chain) else {
            return Some(hashes.iter().map(|hash| located(*hash, None)).collect());
        };
        let mut found = Vec::with_capacity(hashes.len());
        for hash in hashes {
            match served.node.landed(*hash).await {
                Ok(landed) => found.push(located(*hash, landed)),
                Err(error) => {
                    tracing::warn!(chain, %error, "a receipt cannot be read");
                    return None;
                }
            }
        }
        Some(found)
    }
}

/// Whether any of a bundle's transactions is in a sealed list. Where sealing failed, or its turn never came, the bundle was
/// handed to nobody, and finding none of its no transactions missing would not mean that it landed.
fn was_handed_out(placed: &Placed, sealed: &BTreeMap<ChainId, SealedList>) -> bool {
    legs_of(placed, sealed).iter().any(|(.., hashes)| !hashes.is_empty())
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

#[cfg(test)]
mod tests {
    use lockstep_building::{BundleRun, LegRun, ListedTx};
    use lockstep_primitives::BlockList;

    use super::*;

    const CHAIN: ChainId = 901;
    const HASH: B256 = B256::repeat_byte(1);

    fn sealed(places: Vec<ListedTx>) -> BTreeMap<ChainId, SealedList> {
        let list = BlockList { chain: CHAIN, blocks: Vec::new() };
        let legs = [((HASH, 0), places)].into();
        [(CHAIN, SealedList { list, blocks: Vec::new(), requirements: Vec::new(), legs })].into()
    }

    #[test]
    fn a_bundle_whose_list_was_never_sealed_was_handed_to_nobody() {
        let leg = LegRun { chain: CHAIN, block: 0, number: 1, relay: false, txs: Vec::new(), messages: Vec::new() };
        let run = BundleRun { legs: vec![leg], ..BundleRun::default() };
        let placed = Placed { hash: HASH, bundle: Arc::default(), run };
        assert!(was_handed_out(&placed, &sealed(vec![ListedTx { block: 0, position: 0, hash: HASH }])));
        assert!(!was_handed_out(&placed, &sealed(Vec::new())), "all of it was left out");
        assert!(!was_handed_out(&placed, &BTreeMap::new()), "a list that could not be sealed");
    }
}
