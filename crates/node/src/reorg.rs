//! Reorgs: what had landed is looked for again, and comes back, moves on, or is told to be gone.

use std::sync::Arc;

use alloy_primitives::{B256, U64};
use lockstep_primitives::{BundleState, ChainId, Place, Reason, Rejection, Validity};
use lockstep_provider::{NodeError, Reorg, RollupNode};
use lockstep_rpc::wire::{LandedTx, LegStatus};
use lockstep_simulation::ParentBlock;
use lockstep_store::{Op, Table};
use tokio::{
    sync::{
        broadcast::{self, error::RecvError},
        watch,
    },
    task::JoinHandle,
};

use crate::{
    clock::now_ms,
    intake::{Intake, record},
    landed::{LandedBundle, Standing, compare},
};

/// One task a rollup: it looks for what landed, whenever its chain goes on or takes another way.
pub(crate) fn followers(intake: &Arc<Intake>) -> Vec<JoinHandle<()>> {
    let rollups = intake.rollups().iter();
    rollups
        .map(|(chain, served)| {
            let (reorgs, heads) = (served.node.reorgs(), served.node.heads());
            tokio::spawn(follow(Arc::clone(intake), *chain, reorgs, heads))
        })
        .collect()
}

async fn follow(
    intake: Arc<Intake>,
    chain: ChainId,
    mut reorgs: broadcast::Receiver<Reorg>,
    mut heads: watch::Receiver<ParentBlock>,
) {
    // What landed before a restart may have been reorged while nobody looked.
    intake.look_again(chain).await;
    loop {
        tokio::select! {
            biased;
            reorg = reorgs.recv() => match reorg {
                Ok(reorg) => intake.reorged(&reorg).await,
                Err(RecvError::Lagged(missed)) => {
                    tracing::warn!(chain, missed, "reorgs were missed: everything that landed lately is looked for");
                    intake.landed.lock().suspect_rollup(chain);
                    intake.look_again(chain).await;
                }
                Err(RecvError::Closed) => return,
            },
            changed = heads.changed() => {
                if changed.is_err() {
                    return;
                }
                intake.look_again(chain).await;
            }
        }
    }
}

/// Where every transaction of a bundle is now.
async fn find(node_of: impl Fn(ChainId) -> Option<Arc<dyn RollupNode>>, legs: &[LegStatus]) -> Result<Vec<LegStatus>, NodeError> {
    let mut found = Vec::with_capacity(legs.len());
    for leg in legs {
        let chain = leg.chain_id.to::<ChainId>();
        let node = node_of(chain).ok_or_else(|| NodeError::Unreachable { chain, cause: "it is not served".to_owned() })?;
        let mut transactions = Vec::with_capacity(leg.transactions.len());
        for tx in &leg.transactions {
            transactions.push(located(tx.transaction_hash, node.landed(tx.transaction_hash).await?));
        }
        found.push(LegStatus { chain_id: leg.chain_id, transactions });
    }
    Ok(found)
}

/// A transaction and where it is, as it is told.
pub(crate) fn located(hash: B256, landed: Option<lockstep_provider::Landed>) -> LandedTx {
    LandedTx {
        transaction_hash: hash,
        block_number: landed.map(|landed| U64::from(landed.number)),
        block_hash: landed.map(|landed| landed.hash),
        index: landed.map(|landed| U64::from(landed.index)),
        success: landed.map(|landed| landed.success),
    }
}

/// The blocks that a bundle is in, in words.
fn places(legs: &[LegStatus]) -> String {
    let places = legs.iter().filter_map(|leg| {
        let number = leg.transactions.iter().filter_map(|tx| tx.block_number).max()?;
        Some(format!("block {number} of rollup {}", leg.chain_id))
    });
    places.collect::<Vec<_>>().join(", ")
}

impl Intake {
    /// The chain of a rollup took another way: what was in a dropped block is looked for.
    pub(crate) async fn reorged(&self, reorg: &Reorg) {
        let label = reorg.chain.to_string();
        metrics::counter!("lockstep_reorged_blocks_total", "chain" => label).increment(reorg.dropped.len() as u64);
        self.landed.lock().note(reorg);
        self.look_again(reorg.chain).await;
    }

    /// Looks for everything on a rollup that is due.
    pub(crate) async fn look_again(&self, chain: ChainId) {
        let finality = self.finality();
        let due = self.landed.lock().due(chain, &finality);
        for hash in due {
            self.look_for(hash).await;
        }
    }

    async fn look_for(&self, hash: B256) {
        let Some(landed) = self.landed.lock().get(hash).cloned() else { return };
        let node_of = |chain: ChainId| self.rollups().get(&chain).map(|served| Arc::clone(&served.node));
        let found = match find(node_of, &landed.legs).await {
            Ok(found) => found,
            // Not knowing is not being gone.
            Err(error) => return self.put_off(hash, &error.to_string()),
        };
        if self.landed.lock().doubts(hash, &found) {
            return self.put_off(hash, "a node answers with a block that was dropped");
        }
        let succeeded = self.landed.lock().succeeded(hash);
        match compare(&landed.legs, &found, &succeeded) {
            Standing::Same => {}
            Standing::Moved => self.moved(hash, &found).await,
            Standing::Part(lost) => self.lost_in_part(hash, &landed.legs, &found, lost).await,
            Standing::Gone => return self.bring_back(hash, landed, found).await,
        }
        self.settle(hash).await;
    }

    fn put_off(&self, hash: B256, cause: &str) {
        metrics::counter!("lockstep_reorg_looks_put_off_total").increment(1);
        tracing::debug!(%hash, cause, "a landed bundle is looked for again at the next head");
        self.landed.lock().retry(hash);
    }

    /// Every transaction is on its chain, though not where it was.
    async fn moved(&self, hash: B256, found: &[LegStatus]) {
        // Of what was broken before, the history tells already that it was.
        let why = Rejection::new(Place::BUNDLE, Reason::Reorged);
        self.tracker().step(hash, BundleState::Reorged, None, Some(&why), now_ms());
        self.tracker().set_legs(hash, found);
        self.tracker().landed_again(hash, format!("landed again: {}", places(found)), now_ms());
        self.landed.lock().release(hash, found.to_vec(), false);
        metrics::counter!("lockstep_reorged_bundles_total", "outcome" => "landed_again").increment(1);
        self.write_fate(hash).await;
    }

    /// Some rollups dropped it and others did not: the chains broke what was delivered whole.
    async fn lost_in_part(&self, hash: B256, before: &[LegStatus], found: &[LegStatus], lost: Vec<ChainId>) {
        let known = self.landed.lock().is_broken(hash) && before == found;
        self.landed.lock().release(hash, found.to_vec(), true);
        if known {
            return;
        }
        tracing::error!(%hash, ?lost, "a reorg took a part of a bundle that had landed");
        metrics::counter!("lockstep_reorged_bundles_total", "outcome" => "in_part").increment(1);
        let place = lost.first().map_or(Place::BUNDLE, |chain| Place::rollup(*chain));
        let why = Rejection::new(place, Reason::ReorgedInPart { lost });
        self.tracker().step(hash, BundleState::Reorged, None, Some(&why), now_ms());
        self.tracker().set_obstacle(hash, Some(&why));
        self.tracker().set_legs(hash, found);
        self.write_fate(hash).await;
    }

    /// Nothing of it is on any chain: it is pending again under its old place in the order while it is valid, and ends
    /// otherwise.
    async fn bring_back(&self, hash: B256, landed: LandedBundle, gone: Vec<LegStatus>) {
        let valid = match self.admissible(&landed.bundle).await {
            Ok(valid) => valid,
            Err(error) => return self.put_off(hash, error.message()),
        };
        let why = Rejection::new(Place::BUNDLE, Reason::Reorged);
        self.tracker().step(hash, BundleState::Reorged, None, Some(&why), now_ms());
        self.tracker().set_legs(hash, &gone);
        // What it waits for may come back as well: until the loss is final it is tried again.
        if let Err(rejection) = &valid
            && rejection.reason.validity() == Validity::Later
            && !self.landed.lock().is_safe(hash, &self.finality())
        {
            self.tracker().set_obstacle(hash, Some(rejection));
            return self.put_off(hash, &rejection.to_string());
        }
        let back = match valid {
            Ok(()) => self.pend_again(hash, &landed).await,
            Err(rejection) => Err(rejection),
        };
        self.landed.lock().remove(hash);
        match back {
            Ok(replaced) => {
                metrics::counter!("lockstep_reorged_bundles_total", "outcome" => "pending").increment(1);
                self.tracker().set_obstacle(hash, None);
                self.tracker().step(hash, BundleState::Pending, None, None, now_ms());
                for replaced in replaced {
                    let why = Rejection::new(Place::BUNDLE, Reason::Replaced(hash));
                    self.finish(replaced, BundleState::Replaced, None, Some(&why)).await;
                }
            }
            Err(rejection) => {
                metrics::counter!("lockstep_reorged_bundles_total", "outcome" => "ended").increment(1);
                self.tracker().set_obstacle(hash, Some(&rejection));
                self.finish(hash, BundleState::Reorged, None, Some(&why)).await;
            }
        }
    }

    /// Puts a bundle on disk as pending, then into the pool. Returns what it takes the place of.
    async fn pend_again(&self, hash: B256, landed: &LandedBundle) -> Result<Vec<B256>, Rejection> {
        if let Some(value) = record(landed, false) {
            let batch = vec![Op::put(Table::Bundles, hash.to_vec(), value), Op::delete(Table::Events, hash.to_vec())];
            // When this fails the disk still calls it landed: then a restart looks for it, and brings it back like now.
            if let Err(error) = self.store.write(batch).await {
                tracing::error!(%hash, %error, "that a bundle is pending again is not on disk");
            }
        }
        let inserted =
            self.pool().write().bring_back(Arc::clone(&landed.bundle), landed.kind, landed.sequence, landed.received_s)?;
        let received_ms = landed.received_ms.unwrap_or_else(|| landed.received_s.saturating_mul(1000));
        self.note_arrival(&landed.bundle, landed.kind, received_ms);
        Ok(inserted.replaced)
    }

    /// Looks after a bundle no more once every block that it is in, or was, is safe. What is gone by then stays gone.
    async fn settle(&self, hash: B256) {
        let finality = self.finality();
        let (safe, broken) = {
            let mut landed = self.landed.lock();
            let (safe, broken) = (landed.is_safe(hash, &finality), landed.is_broken(hash));
            match landed.get(hash).map(|bundle| bundle.legs.clone()) {
                Some(legs) if !safe => landed.release(hash, legs, broken),
                _ => drop(landed.remove(hash)),
            }
            (safe, broken)
        };
        if !safe {
            return;
        }
        if broken {
            self.tracker().end(hash);
        }
        if let Err(error) = self.store.delete(Table::Bundles, hash.to_vec()).await {
            tracing::warn!(%hash, %error, "a bundle that is safe stays on disk");
        }
    }

    /// Writes down where a bundle stands that is still looked after.
    async fn write_fate(&self, hash: B256) {
        let Some((.., status)) = self.tracker().own(hash) else { return };
        let Some(fate) = self.fate(hash, status) else { return };
        if let Err(error) = self.store.write(vec![fate]).await {
            tracing::error!(%hash, %error, "what a reorg did to a bundle is not on disk");
        }
    }

    /// Whether lists for these parents can no longer be published anywhere: all of them were dropped.
    pub(crate) fn all_dropped(&self, parents: impl IntoIterator<Item = B256>) -> bool {
        let landed = self.landed.lock();
        let mut parents = parents.into_iter().peekable();
        parents.peek().is_some() && parents.all(|parent| landed.was_dropped(parent))
    }
}

#[cfg(test)]
mod tests {
    use lockstep_pool::{Kind, Limits};
    use lockstep_primitives::{Bundle, SignedTx};

    use super::*;
    use crate::fake_node::{A, B, FINALITY, FakeNode, HEAD, Rig, block_hash, bundle_of, pay};

    /// The block that everything lands in.
    const BLOCK: u64 = HEAD + 1;

    fn rig() -> Rig {
        Rig::new(Limits::default())
    }

    fn node(rig: &Rig, chain: ChainId) -> &FakeNode {
        if chain == A { &rig.a } else { &rig.b }
    }

    /// Admits a bundle and has it land in [`BLOCK`] of each of its rollups.
    async fn land(rig: &Rig, bundle: &Bundle) -> B256 {
        let hash = rig.intake.admit(bundle.clone(), Kind::Bundle).await.unwrap();
        let mut legs = Vec::new();
        for leg in &bundle.legs {
            let node = node(rig, leg.chain());
            node.advance_to(BLOCK);
            let mut transactions = Vec::new();
            for tx in leg.txs() {
                node.put(tx.tx.hash(), BLOCK, 0);
                transactions.push(located(tx.tx.hash(), node.landed(tx.tx.hash()).await.unwrap()));
            }
            legs.push(LegStatus { chain_id: U64::from(leg.chain()), transactions });
        }
        rig.intake.tracker().set_legs(hash, &legs);
        rig.intake.finish(hash, BundleState::Landed, Some(1), None).await;
        assert_eq!(state(&rig.intake, hash), BundleState::Landed);
        assert!(rig.intake.pool().read().get(hash).is_none());
        hash
    }

    fn state(intake: &Intake, hash: B256) -> BundleState {
        intake.tracker().own(hash).unwrap().0
    }

    fn history(intake: &Intake, hash: B256) -> Vec<String> {
        intake.tracker().own(hash).unwrap().2.history.into_iter().map(|event| event.state).collect()
    }

    /// The block of each transaction, leg after leg.
    fn blocks(intake: &Intake, hash: B256) -> Vec<Option<u64>> {
        let legs = intake.tracker().own(hash).unwrap().2.legs;
        legs.iter().flat_map(|leg| &leg.transactions).map(|tx| tx.block_number.map(|number| number.to())).collect()
    }

    fn on_disk(rig: &Rig, table: Table, hash: B256) -> bool {
        rig.store.get(table, hash.as_slice()).unwrap().is_some()
    }

    /// The rollup loses the block that everything landed in, and with it the transaction.
    async fn lose(rig: &Rig, chain: ChainId, tx: &SignedTx) {
        node(rig, chain).take(tx.hash());
        let reorg = node(rig, chain).reorg(BLOCK, vec![tx.hash()]);
        rig.intake.reorged(&reorg).await;
    }

    #[tokio::test]
    async fn what_no_chain_holds_any_more_is_pending_again_in_its_old_place() {
        let rig = rig();
        let tx = pay(A, 0, 0);
        let first = land(&rig, &bundle_of(&[(A, Arc::clone(&tx))])).await;
        assert!(on_disk(&rig, Table::Bundles, first), "it can be brought back after a crash, too");
        let later = rig.intake.admit(bundle_of(&[(A, pay(A, 1, 0))]), Kind::Bundle).await.unwrap();

        lose(&rig, A, &tx).await;
        let pending: Vec<B256> = rig.intake.pool().read().pending().iter().map(|entry| entry.hash).collect();
        assert_eq!(pending, [first, later]);
        assert_eq!(history(&rig.intake, first), ["received", "landed", "reorged", "pending"]);
        assert_eq!(blocks(&rig.intake, first), [None]);
        assert!(on_disk(&rig, Table::Bundles, first) && !on_disk(&rig, Table::Events, first));
        assert!(!rig.intake.landed.lock().contains(first));
        // After a restart it is pending like any other.
        let restarted = rig.restarted();
        assert_eq!(restarted.restore().unwrap(), 2);
        assert_eq!(state(&restarted, first), BundleState::Received);
    }

    #[tokio::test]
    async fn what_another_block_holds_is_landed_again_there() {
        let rig = rig();
        let tx = pay(A, 0, 0);
        let hash = land(&rig, &bundle_of(&[(A, Arc::clone(&tx))])).await;
        rig.a.put(tx.hash(), BLOCK + 1, 1);
        rig.intake.reorged(&rig.a.reorg(BLOCK, vec![tx.hash()])).await;
        assert_eq!(history(&rig.intake, hash), ["received", "landed", "reorged", "landed"]);
        assert_eq!(blocks(&rig.intake, hash), [Some(BLOCK + 1)]);
        let told = rig.intake.tracker().own(hash).unwrap().2.history.pop().unwrap();
        assert_eq!(told.text.as_deref(), Some("landed again: block 12 of rollup 901"));
        // It is looked after in its new block.
        rig.a.take(tx.hash());
        let dropped = Reorg { chain: A, common: Some(BLOCK), dropped: rig.a.reorg(BLOCK + 1, vec![tx.hash()]).dropped };
        rig.intake.reorged(&dropped).await;
        assert_eq!(state(&rig.intake, hash), BundleState::Pending);
    }

    #[tokio::test]
    async fn what_is_not_valid_any_more_ends_as_reorged_and_says_why() {
        let rig = rig();
        let tx = pay(A, 0, 0);
        let hash = land(&rig, &bundle_of(&[(A, Arc::clone(&tx))])).await;
        // The new way of the chain holds another transaction of the sender.
        rig.a.set_nonce(0, 1);
        lose(&rig, A, &tx).await;
        assert_eq!(history(&rig.intake, hash), ["received", "landed", "reorged"]);
        let (_, level, status) = rig.intake.tracker().own(hash).unwrap();
        assert_eq!(status.history.last().unwrap().reason.as_deref(), Some("reorged"));
        assert_eq!(status.blocked.unwrap().reason, "nonce_too_low");
        assert_eq!(level.as_str(), "G0", "nothing is promised any more");
        assert!(rig.intake.pool().read().is_empty());
        assert!(!on_disk(&rig, Table::Bundles, hash) && on_disk(&rig, Table::Events, hash));
        let restarted = rig.restarted();
        assert_eq!(restarted.restore().unwrap(), 0);
        assert_eq!(state(&restarted, hash), BundleState::Reorged);
    }

    #[tokio::test]
    async fn what_one_rollup_lost_and_another_kept_is_told_by_name_and_may_heal() {
        let rig = rig();
        let (kept, lost) = (pay(A, 0, 0), pay(B, 0, 0));
        let hash = land(&rig, &bundle_of(&[(A, Arc::clone(&kept)), (B, Arc::clone(&lost))])).await;
        lose(&rig, B, &lost).await;
        let status = rig.intake.tracker().own(hash).unwrap().2;
        let blocked = status.blocked.unwrap();
        assert_eq!((blocked.reason.as_str(), blocked.rollup), ("reorged_in_part", Some(U64::from(B))));
        assert_eq!((state(&rig.intake, hash), blocks(&rig.intake, hash)), (BundleState::Reorged, vec![Some(BLOCK), None]));
        assert!(rig.intake.pool().read().is_empty(), "what is on a chain is not listed again");

        // The rollup's mempool puts it into a later block. A restart in between forgets nothing.
        let restarted = rig.restarted();
        assert_eq!(restarted.restore().unwrap(), 0);
        rig.b.put(lost.hash(), BLOCK + 2, 1);
        restarted.look_again(B).await;
        assert_eq!(blocks(&restarted, hash), [Some(BLOCK), Some(BLOCK + 2)]);
        assert_eq!(history(&restarted, hash), ["received", "landed", "reorged", "landed"]);
        assert!(restarted.tracker().own(hash).unwrap().2.blocked.is_none());
    }

    #[tokio::test]
    async fn what_stays_lost_on_one_rollup_is_given_up_when_the_rest_is_final() {
        let rig = rig();
        let (kept, lost) = (pay(A, 0, 0), pay(B, 0, 0));
        let hash = land(&rig, &bundle_of(&[(A, kept), (B, Arc::clone(&lost))])).await;
        lose(&rig, B, &lost).await;
        rig.a.advance_to(BLOCK + FINALITY);
        rig.intake.look_again(A).await;
        assert!(rig.intake.landed.lock().contains(hash), "it may still come back on the other rollup");
        rig.b.advance_to(BLOCK + FINALITY);
        rig.intake.look_again(B).await;
        assert!(!rig.intake.landed.lock().contains(hash) && !on_disk(&rig, Table::Bundles, hash));
        assert_eq!(state(&rig.intake, hash), BundleState::Reorged);
    }

    #[tokio::test]
    async fn a_node_that_does_not_answer_loses_nothing() {
        let rig = rig();
        let tx = pay(A, 0, 0);
        let hash = land(&rig, &bundle_of(&[(A, Arc::clone(&tx))])).await;
        rig.a.set_down(true);
        lose(&rig, A, &tx).await;
        assert_eq!(state(&rig.intake, hash), BundleState::Landed, "not knowing is not being gone");
        rig.a.set_down(false);
        rig.intake.look_again(A).await;
        assert_eq!(state(&rig.intake, hash), BundleState::Pending);
    }

    #[tokio::test]
    async fn an_answer_from_a_dropped_block_is_not_believed_at_once() {
        let rig = rig();
        let tx = pay(A, 0, 0);
        let hash = land(&rig, &bundle_of(&[(A, Arc::clone(&tx))])).await;
        // A node behind the others still knows the block that was dropped.
        rig.intake.reorged(&rig.a.reorg(BLOCK, vec![tx.hash()])).await;
        assert_eq!(history(&rig.intake, hash), ["received", "landed"]);
        rig.a.take(tx.hash());
        rig.intake.look_again(A).await;
        assert_eq!(state(&rig.intake, hash), BundleState::Pending);
        assert!(rig.intake.all_dropped([block_hash(A, BLOCK, 0)]));
        assert!(
            !rig.intake.all_dropped([block_hash(A, BLOCK, 0), block_hash(A, HEAD, 0)])
                && !rig.intake.all_dropped(std::iter::empty())
        );
    }

    #[tokio::test]
    async fn a_restart_finds_what_was_reorged_meanwhile() {
        let rig = rig();
        let tx = pay(A, 0, 0);
        let hash = land(&rig, &bundle_of(&[(A, Arc::clone(&tx))])).await;
        rig.a.take(tx.hash());
        let restarted = rig.restarted();
        assert_eq!(restarted.restore().unwrap(), 0, "it had landed");
        assert_eq!(state(&restarted, hash), BundleState::Landed);
        restarted.look_again(A).await;
        assert_eq!(state(&restarted, hash), BundleState::Pending);
        assert!(restarted.pool().read().get(hash).is_some());
    }

    #[tokio::test]
    async fn what_is_final_is_looked_after_no_more() {
        let rig = rig();
        let tx = pay(A, 0, 0);
        let hash = land(&rig, &bundle_of(&[(A, Arc::clone(&tx))])).await;
        rig.a.advance_to(BLOCK + FINALITY - 1);
        rig.intake.look_again(A).await;
        assert!(rig.intake.landed.lock().contains(hash));
        rig.a.advance_to(BLOCK + FINALITY);
        rig.intake.look_again(A).await;
        assert!(!rig.intake.landed.lock().contains(hash));
        assert!(!on_disk(&rig, Table::Bundles, hash) && on_disk(&rig, Table::Events, hash));
        assert_eq!(history(&rig.intake, hash), ["received", "landed"]);
    }

    #[tokio::test]
    async fn reorgs_that_were_missed_are_made_up_for() {
        let rig = rig();
        let tx = pay(A, 0, 0);
        let hash = land(&rig, &bundle_of(&[(A, Arc::clone(&tx))])).await;
        let mut steps = rig.intake.tracker().subscribe();
        let tasks = followers(&rig.intake);
        rig.a.take(tx.hash());
        // The channel holds one: of these two the follower hears of the second only, which does not name the transaction.
        for number in [BLOCK, BLOCK + 1] {
            let transactions = if number == BLOCK { vec![tx.hash()] } else { Vec::new() };
            rig.a.reorgs.send(rig.a.reorg(number, transactions)).unwrap();
        }
        while steps.recv().await.unwrap().state != BundleState::Pending {}
        assert_eq!(state(&rig.intake, hash), BundleState::Pending);
        for task in tasks {
            task.abort();
        }
    }
}
