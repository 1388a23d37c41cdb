//! The public flow: transactions that a rollup's own node comes to know fill what bundles leave free.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, atomic::Ordering},
};

use alloy_primitives::{Address, B256, Bytes};
use jsonrpsee::types::ErrorObjectOwned;
use lockstep_pool::{AccountView, Kind, TxAccount, check, check_accounts};
use lockstep_primitives::{Bundle, BundleState, ChainId, Leg, LegTx, Place, Reason, Rejection, RevertMode, SignedTx};
use lockstep_rpc::wire::decode_tx;
use tokio::sync::mpsc;

use crate::{
    clock::now_ms,
    intake::{Intake, ServedRollup, views_at},
};

/// Transactions that are checked together.
const MAX_BATCH: usize = 256;
/// The part of the pool, as a divisor, that may hold public transactions when one comes by the public flow: the rest is for
/// bundles, whatever the mempool does.
const MAX_PUBLIC_SHARE: usize = 2;

/// What became of transactions, by a stable name.
type Outcomes = BTreeMap<&'static str, u64>;

/// Takes a rollup's public transactions in, for ever.
pub(crate) async fn follow(intake: Arc<Intake>, chain: ChainId, mut incoming: mpsc::Receiver<Bytes>) {
    let mut batch = Vec::with_capacity(MAX_BATCH);
    while incoming.recv_many(&mut batch, MAX_BATCH).await > 0 {
        let raw = std::mem::take(&mut batch);
        // Recovering signers takes its time.
        let (txs, mut outcomes) = match tokio::task::spawn_blocking(move || decode(raw)).await {
            Ok(decoded) => decoded,
            Err(error) => {
                tracing::error!(chain, %error, "public transactions could not be decoded");
                continue;
            }
        };
        for (outcome, count) in intake.admit_public(chain, txs).await {
            *outcomes.entry(outcome).or_default() += count;
        }
        for (outcome, count) in outcomes {
            metrics::counter!("lockstep_public_flow_total", "chain" => chain.to_string(), "outcome" => outcome).increment(count);
        }
    }
    tracing::warn!(chain, "the public flow has ended");
}

fn decode(raw: Vec<Bytes>) -> (Vec<Arc<SignedTx>>, Outcomes) {
    let mut outcomes = Outcomes::new();
    let mut txs = Vec::with_capacity(raw.len());
    for raw in raw {
        match decode_tx(raw) {
            Ok(tx) => txs.push(Arc::new(tx)),
            Err(reason) => *outcomes.entry(reason.code()).or_default() += 1,
        }
    }
    (txs, outcomes)
}

/// A public transaction as a bundle: the same as when a user sends it here, so that the one is known when the other comes.
pub(crate) fn public_bundle(chain: ChainId, tx: Arc<SignedTx>) -> Bundle {
    let txs = vec![LegTx { tx, mode: RevertMode::Allow }];
    Bundle { legs: vec![Leg::Txs { chain, txs }], ..Bundle::default() }
}

impl Intake {
    /// Puts public transactions into the pool that the rollup's node told of. They are checked like any other, but neither
    /// made durable nor tracked: nobody was promised anything, and the node tells of them again. Returns what became of how
    /// many.
    pub(crate) async fn admit_public(&self, chain: ChainId, txs: Vec<Arc<SignedTx>>) -> Outcomes {
        let mut outcomes = Outcomes::new();
        let Some(rollup) = self.rollups().get(&chain) else { return outcomes };
        let (limits, heads) = (self.pool().read().limits().clone(), self.heads());
        let mut bundles: Vec<Bundle> = Vec::with_capacity(txs.len());
        for tx in txs {
            let bundle = public_bundle(chain, tx);
            match check(&bundle, &heads, now_ms() / 1000, &limits) {
                Ok(()) => bundles.push(bundle),
                Err(rejection) => *outcomes.entry(rejection.reason.code()).or_default() += 1,
            }
        }
        let Ok(accounts) = public_accounts(chain, rollup, &bundles).await else {
            *outcomes.entry("node_unavailable").or_default() += bundles.len() as u64;
            return outcomes;
        };
        let mut taken = Vec::new();
        let mut replaced: Vec<(B256, B256)> = Vec::new();
        // Transactions of one sender may come in any order, so a gap is looked at once more when the others are in.
        for last in [false, true] {
            if last {
                bundles.sort_by_key(|bundle| bundle.txs().next().map(|tx| tx.tx.nonce()));
            }
            for bundle in std::mem::take(&mut bundles) {
                let outcome = match self.insert_public(&bundle, &accounts, &mut replaced) {
                    Ok(true) => {
                        taken.extend(bundle.txs().map(|tx| Arc::clone(&tx.tx)));
                        "admitted"
                    }
                    Ok(false) => "known",
                    Err("nonce_too_high") if !last => {
                        bundles.push(bundle);
                        continue;
                    }
                    Err(code) => code,
                };
                *outcomes.entry(outcome).or_default() += 1;
            }
        }
        for (old, new) in replaced {
            let why = Rejection::new(Place::BUNDLE, Reason::Replaced(new));
            self.finish(old, BundleState::Replaced, None, Some(&why)).await;
        }
        self.prefetch([(chain, taken)]);
        outcomes
    }

    /// Whether a transaction came into the pool; false when it was there. Notes (old, new) of what it takes the place of.
    fn insert_public(
        &self,
        bundle: &Bundle,
        accounts: &BTreeMap<TxAccount, AccountView>,
        replaced: &mut Vec<(B256, B256)>,
    ) -> Result<bool, &'static str> {
        let hash = bundle.hash();
        // Our own transactions come back by this way, and for a moment after they landed, too.
        if self.landed.lock().contains(hash) {
            return Ok(false);
        }
        let mut pool = self.pool().write();
        if pool.get(hash).is_some() {
            return Ok(false);
        }
        check_accounts(bundle, accounts, &pool).map_err(|rejection| rejection.reason.code())?;
        let admission = pool.admit(bundle, Kind::Transaction).map_err(|rejection| rejection.reason.code())?;
        // What takes another's place takes no room.
        if admission.replaced.is_empty() && pool.transactions() >= pool.limits().bundles / MAX_PUBLIC_SHARE {
            return Err("public_share_full");
        }
        let sequence = self.sequence.fetch_add(1, Ordering::Relaxed);
        let at_ms = now_ms();
        let inserted = pool
            .insert(Arc::new(bundle.clone()), Kind::Transaction, sequence, at_ms / 1000)
            .map_err(|rejection| rejection.reason.code())?;
        self.by_flow.lock().insert(hash);
        drop(pool);
        self.note_arrival(bundle, Kind::Transaction, at_ms);
        replaced.extend(inserted.replaced.into_iter().map(|old| (old, hash)));
        Ok(true)
    }
}

/// Nonces and balances of the bundles' signers after the newest head that was seen: one look at the head and a few rounds of
/// fetching for all of them.
async fn public_accounts(
    chain: ChainId,
    rollup: &ServedRollup,
    bundles: &[Bundle],
) -> Result<BTreeMap<TxAccount, AccountView>, ErrorObjectOwned> {
    let signers: BTreeSet<Address> = bundles.iter().flat_map(|bundle| bundle.txs()).map(|tx| tx.tx.signer()).collect();
    if signers.is_empty() {
        return Ok(BTreeMap::new());
    }
    let head = rollup.node.heads().borrow().hash;
    let views = views_at(rollup.node.as_ref(), head, &signers).await?;
    Ok(views.into_iter().map(|(account, view)| ((chain, account), view)).collect())
}

#[cfg(test)]
mod tests {
    use lockstep_pool::Limits;
    use lockstep_store::Table;

    use super::*;
    use crate::fake_node::{A, Rig, pay};

    fn outcomes<const N: usize>(expected: [(&'static str, u64); N]) -> Outcomes {
        expected.into()
    }

    #[test]
    fn what_is_no_transaction_is_counted_by_its_reason() {
        let (txs, counted) = decode(vec![pay(A, 0, 0).raw().clone(), Bytes::from_static(b"\x02nonsense")]);
        assert_eq!(txs.iter().map(|tx| tx.hash()).collect::<Vec<_>>(), [pay(A, 0, 0).hash()]);
        assert_eq!(counted, outcomes([("undecodable_transaction", 1)]));
    }

    #[tokio::test]
    async fn the_public_flow_leaves_half_of_the_pool_to_bundles() {
        let rig = Rig::new(Limits { bundles: 4, ..Limits::default() });
        let txs = (0..3).map(|number| pay(A, number, 0)).collect();
        let counted = rig.intake.admit_public(A, txs).await;
        assert_eq!(counted, outcomes([("admitted", 2), ("public_share_full", 1)]));
        // Somebody who sends one here is not bound by that.
        rig.intake.admit(public_bundle(A, pay(A, 4, 0)), Kind::Transaction).await.unwrap();
        assert_eq!(rig.intake.pool().read().transactions(), 3);
    }

    #[tokio::test]
    async fn a_gap_that_the_same_batch_fills_is_none() {
        let rig = Rig::new(Limits::default());
        let txs = [2, 1, 0, 7].map(|nonce| pay(A, 0, nonce)).to_vec();
        let counted = rig.intake.admit_public(A, txs).await;
        assert_eq!(counted, outcomes([("admitted", 3), ("nonce_too_high", 1)]));
        let again = rig.intake.admit_public(A, vec![pay(A, 0, 3), pay(A, 0, 0)]).await;
        assert_eq!(again, outcomes([("admitted", 1), ("known", 1)]));
    }

    #[tokio::test]
    async fn what_the_flow_brought_is_promised_to_nobody_until_somebody_sends_it() {
        let rig = Rig::new(Limits::default());
        let tx = pay(A, 0, 0);
        let hash = public_bundle(A, Arc::clone(&tx)).hash();
        rig.intake.admit_public(A, vec![Arc::clone(&tx)]).await;
        assert!(rig.intake.is_by_flow(hash) && rig.intake.tracker().own(hash).is_none());
        assert_eq!(rig.store.get(Table::Bundles, hash.as_slice()).unwrap(), None);

        rig.intake.admit(public_bundle(A, Arc::clone(&tx)), Kind::Transaction).await.unwrap();
        assert!(!rig.intake.is_by_flow(hash) && rig.intake.tracker().own(hash).is_some());
        assert!(rig.store.get(Table::Bundles, hash.as_slice()).unwrap().is_some());
        assert_eq!(rig.intake.admit_public(A, vec![tx]).await, outcomes([("known", 1)]));
        assert_eq!(rig.intake.pool().read().len(), 1);
    }

    #[tokio::test]
    async fn a_node_that_does_not_answer_brings_nothing_in() {
        let rig = Rig::new(Limits::default());
        rig.a.set_down(true);
        assert_eq!(rig.intake.admit_public(A, vec![pay(A, 0, 0)]).await, outcomes([("node_unavailable", 1)]));
        assert!(rig.intake.pool().read().is_empty());
    }
}
