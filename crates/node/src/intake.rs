//! Intake: a bundle is checked, made durable, and only then acknowledged.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use alloy_primitives::{Address, B256};
use jsonrpsee::types::ErrorObjectOwned;
use lockstep_building::Candidate;
use lockstep_pool::{AccountView, Entry, Head, Heads, Kind, Pool, TxAccount, accounts_of, check, check_accounts};
use lockstep_primitives::{Bundle, BundleState, ChainId, Leg, Place, Reason, Rejection, Relay, SignedTx};
use lockstep_provider::RollupNode;
use lockstep_rpc::{
    from_rejection, unavailable,
    wire::{BundleParams, BundleStatus},
};
use lockstep_simulation::{ForkSchedule, ParentBlock, StateError};
use lockstep_store::{Op, Store, StoreError, Table};
use parking_lot::{Mutex, RwLock};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;

use crate::{
    arrivals::Arrivals,
    clock::now_ms,
    landed::{Finality, LandedBundle, LandedBundles},
    roles::sequencer::PublicTx,
    tracker::Tracker,
};

/// How often a state read may come back with something missing before the state counts as unreachable.
const MAX_FETCHES: usize = 64;
/// How many bundles may have their state fetched ahead at a time.
const MAX_PREFETCHES: usize = 64;
/// How many bundles are ended at a time: a part of what the store's queue takes.
const ENDS_AT_ONCE: usize = 512;

/// A rollup that the builder serves.
#[derive(Clone, Debug)]
pub struct ServedRollup {
    /// Its node.
    pub node: Arc<dyn RollupNode>,
    /// When which rules hold.
    pub forks: ForkSchedule,
    /// How many blocks deep a landed bundle is taken to be safe from reorgs; zero on a chain that has none.
    pub finality_blocks: u64,
}

/// The durable record of a pending bundle, or of one that landed and could still be reorged.
#[derive(Serialize, Deserialize)]
struct PendingRecord {
    bundle: BundleParams,
    kind: String,
    signer: Option<Address>,
    sequence: u64,
    received_s: u64,
    /// Absent in records of earlier versions.
    #[serde(default)]
    received_ms: Option<u64>,
    /// Whether it landed: then it is pending no more, and its status is among the finished ones.
    #[serde(default)]
    landed: bool,
}

/// The durable record of a finished bundle.
#[derive(Serialize, Deserialize)]
struct FinishedRecord {
    signer: Option<Address>,
    status: BundleStatus,
}

/// A pending bundle as it lies on disk. What cannot be read is told, and left where it is.
fn read_pending(key: &[u8], value: &[u8]) -> Option<(PendingRecord, Arc<Bundle>)> {
    let read = serde_json::from_slice::<PendingRecord>(value).map_err(|error| error.to_string()).and_then(|record| {
        let bundle = record.bundle.clone().into_bundle(record.signer).map_err(|error| error.to_string())?;
        Ok((record, Arc::new(bundle)))
    });
    match read {
        Ok(read) => Some(read),
        Err(error) => {
            tracing::error!(key = %alloy_primitives::hex::encode(key), %error, "a stored bundle cannot be read");
            None
        }
    }
}

/// The way into the pool.
#[derive(Debug)]
pub struct Intake {
    rollups: BTreeMap<ChainId, ServedRollup>,
    pool: RwLock<Pool>,
    tracker: Tracker,
    pub(crate) store: Store,
    pub(crate) sequence: AtomicU64,
    kinds: Mutex<BTreeMap<B256, String>>,
    arrivals: Mutex<Arrivals>,
    /// What landed and is not yet safe from reorgs.
    pub(crate) landed: Mutex<LandedBundles>,
    /// What is in the pool by public flow only: neither on disk nor tracked, because nobody was promised anything.
    pub(crate) by_flow: Mutex<BTreeSet<B256>>,
    prefetches: Arc<Semaphore>,
}

impl Intake {
    /// An empty intake over its store.
    pub fn new(rollups: BTreeMap<ChainId, ServedRollup>, limits: lockstep_pool::Limits, store: Store) -> Self {
        Self {
            rollups,
            pool: RwLock::new(Pool::new(limits)),
            tracker: Tracker::default(),
            store,
            sequence: AtomicU64::new(0),
            kinds: Mutex::default(),
            arrivals: Mutex::default(),
            landed: Mutex::default(),
            by_flow: Mutex::default(),
            prefetches: Arc::new(Semaphore::new(MAX_PREFETCHES)),
        }
    }

    /// The rollups that are served.
    pub const fn rollups(&self) -> &BTreeMap<ChainId, ServedRollup> {
        &self.rollups
    }

    /// The pool.
    pub const fn pool(&self) -> &RwLock<Pool> {
        &self.pool
    }

    /// The fate of bundles.
    pub const fn tracker(&self) -> &Tracker {
        &self.tracker
    }

    /// Puts back what was acknowledged before a restart, and what landed and could have been reorged meanwhile. Returns how many
    /// bundles are pending.
    ///
    /// # Errors
    /// When the store cannot be read: nothing is skipped silently.
    pub fn restore(&self) -> Result<usize, StoreError> {
        let stored = self.store.scan(Table::Bundles)?;
        // Recovering who signed takes nearly all of the time.
        let mut records: Vec<(PendingRecord, Arc<Bundle>)> =
            stored.into_par_iter().filter_map(|(key, value)| read_pending(&key, &value)).collect();
        for (_, value) in self.store.scan(Table::Events)? {
            match serde_json::from_slice::<FinishedRecord>(&value) {
                Ok(record) => self.tracker.restore(record.signer, record.status),
                Err(error) => tracing::error!(%error, "the fate of a bundle from before cannot be read"),
            }
        }
        records.sort_by_key(|(record, _)| record.sequence);
        let mut restored = 0;
        for (record, bundle) in records {
            self.sequence.fetch_max(record.sequence + 1, Ordering::Relaxed);
            let kind = kind_of(&record.kind);
            let received_ms = record.received_ms.unwrap_or_else(|| record.received_s.saturating_mul(1000));
            // One that landed before is looked for on its chains. Without a status nobody knows where it was: then it is pending
            // like any other, and found there when it is built.
            let status = if record.landed { self.tracker.own(bundle.hash()) } else { None };
            if let Some((.., status)) = status {
                let landed = LandedBundle {
                    bundle,
                    kind,
                    sequence: record.sequence,
                    received_s: record.received_s,
                    received_ms: record.received_ms,
                    legs: status.legs,
                };
                let mut book = self.landed.lock();
                // Nothing is forgotten here: the store never holds more than are looked after.
                let _ = book.insert(status.bundle_hash, landed, status.state != BundleState::Landed.as_str());
                book.suspect(status.bundle_hash);
                continue;
            }
            match self.pool.write().insert(Arc::clone(&bundle), kind, record.sequence, record.received_s) {
                Ok(inserted) => {
                    self.note_arrival(&bundle, kind, received_ms);
                    // Nothing is forgotten here: the store never holds more than is tracked.
                    let _ = self.tracker.begin(inserted.hash, &bundle, now_ms());
                    restored += 1;
                }
                Err(error) => {
                    tracing::error!(hash = %bundle.hash(), %error, "a stored bundle does not go back into the pool");
                }
            }
        }
        Ok(restored)
    }

    /// The newest block of every rollup.
    pub fn heads(&self) -> Heads {
        let head = |rollup: &ServedRollup| head_of(rollup, &rollup.node.heads().borrow());
        self.rollups.iter().filter_map(|(chain, rollup)| Some((*chain, head(rollup)?))).collect()
    }

    /// The newest blocks of the rollups that a bundle names: what is checked of it without state asks for no other.
    fn heads_of(&self, bundle: &Bundle) -> Heads {
        let mut heads = Heads::new();
        for leg in &bundle.legs {
            let origin = match leg {
                Leg::Relay { relay: Relay::Landed(landed), .. } => Some(landed.chain),
                Leg::Relay { .. } | Leg::Txs { .. } => None,
            };
            for chain in origin.into_iter().chain([leg.chain()]) {
                let unknown = self.rollups.get(&chain).filter(|_| !heads.contains_key(&chain));
                if let Some(head) = unknown.and_then(|rollup| head_of(rollup, &rollup.node.heads().borrow())) {
                    heads.insert(chain, head);
                }
            }
        }
        heads
    }

    /// Checks a bundle, makes it durable, and puts it into the pool. Returns its Lockstep hash.
    ///
    /// # Errors
    /// With the reason and its place; or that the store does not take it, and then it is not in the pool either.
    pub async fn admit(&self, bundle: Bundle, kind: Kind) -> Result<B256, ErrorObjectOwned> {
        let refused = |rejection: Rejection| {
            metrics::counter!("lockstep_bundles_refused_total", "reason" => rejection.reason.code()).increment(1);
            from_rejection(&rejection)
        };
        self.admissible(&bundle).await?.map_err(refused)?;
        let admission = self.pool.read().admit(&bundle, kind).map_err(refused)?;
        let sequence = self.sequence.fetch_add(1, Ordering::Relaxed);
        let hash = admission.hash;
        // What is there by public flow is on no disk yet; whoever sends it here is promised that it is.
        let by_flow = admission.known && self.is_by_flow(hash);
        if (admission.known && !by_flow) || self.landed.lock().contains(hash) {
            return Ok(hash);
        }
        let received_ms = now_ms();
        let received_s = received_ms / 1000;
        let record = PendingRecord {
            bundle: BundleParams::from(&bundle),
            kind: kind_name(kind).to_owned(),
            signer: bundle.signer,
            sequence,
            received_s,
            received_ms: Some(received_ms),
            landed: false,
        };
        let value = serde_json::to_vec(&record).map_err(|error| unavailable("store", error.to_string()))?;
        self.store.put(Table::Bundles, hash.to_vec(), value).await.map_err(|error| store_error(&error))?;
        let bundle = Arc::new(bundle);
        // Another bundle may have come in meanwhile: the pool judges again, and what it refuses is taken off the disk.
        let inserted = self.pool.write().insert_as(hash, Arc::clone(&bundle), kind, sequence, received_s);
        let inserted = match inserted {
            Ok(inserted) => inserted,
            Err(rejection) => {
                self.store.delete(Table::Bundles, hash.to_vec()).await.map_err(|error| store_error(&error))?;
                return Err(refused(rejection));
            }
        };
        if inserted.known && !by_flow {
            return Ok(hash);
        }
        self.by_flow.lock().remove(&hash);
        if !inserted.known {
            self.note_arrival(&bundle, kind, received_ms);
        }
        let now = now_ms();
        self.forget(self.tracker.begin(hash, &bundle, now)).await;
        for replaced in inserted.replaced {
            let why = Rejection::new(Place::BUNDLE, Reason::Replaced(hash));
            self.finish(replaced, BundleState::Replaced, None, Some(&why)).await;
        }
        self.prefetch(bundle.legs.iter().map(|leg| (leg.chain(), leg.txs().iter().map(|tx| Arc::clone(&tx.tx)).collect())));
        Ok(hash)
    }

    /// Whether a bundle may come in as the chains are now; the outer error says that they cannot be asked.
    ///
    /// # Errors
    /// When a node cannot be reached.
    pub(crate) async fn admissible(&self, bundle: &Bundle) -> Result<Result<(), Rejection>, ErrorObjectOwned> {
        let limits = self.pool.read().limits().clone();
        if let Err(rejection) = check(bundle, &self.heads_of(bundle), now_ms() / 1000, &limits) {
            return Ok(Err(rejection));
        }
        let accounts = self.accounts(bundle).await?;
        let checked = check_accounts(bundle, &accounts, &self.pool.read());
        Ok(checked)
    }

    /// Has fetched, in the background, what transactions are likely to touch. When too much of that is under way it is left
    /// out: it only saves time.
    pub(crate) fn prefetch(&self, txs: impl IntoIterator<Item = (ChainId, Vec<Arc<SignedTx>>)>) {
        for (chain, txs) in txs {
            let Some(rollup) = self.rollups.get(&chain).filter(|_| !txs.is_empty()) else { continue };
            let Ok(permit) = Arc::clone(&self.prefetches).try_acquire_owned() else {
                metrics::counter!("lockstep_prefetches_skipped_total", "chain" => chain.to_string()).increment(1);
                continue;
            };
            let node = Arc::clone(&rollup.node);
            tokio::spawn(async move {
                let values = node.prefetch(&txs).await;
                metrics::counter!("lockstep_prefetched_values_total", "chain" => chain.to_string()).increment(values as u64);
                drop(permit);
            });
        }
    }

    /// Whether a bundle is in the pool by public flow only.
    pub(crate) fn is_by_flow(&self, hash: B256) -> bool {
        self.by_flow.lock().contains(&hash)
    }

    pub(crate) fn note_arrival(&self, bundle: &Bundle, kind: Kind, at_ms: u64) {
        if kind == Kind::Transaction
            && let Some(tx) = bundle.txs().next()
        {
            self.arrivals.lock().note(tx.tx.hash(), at_ms);
        }
    }

    /// The pending public transactions of a rollup, in the order of admission.
    pub(crate) fn public(&self, chain: ChainId) -> Vec<PublicTx> {
        let pool = self.pool.read();
        let arrivals = self.arrivals.lock();
        let public = pool.pending().into_iter().filter(|entry| entry.kind == Kind::Transaction);
        public
            .filter_map(|entry| {
                let leg = entry.bundle.legs.first().filter(|leg| leg.chain() == chain)?;
                let tx = Arc::clone(&leg.txs().first()?.tx);
                let arrival_ms = arrivals.of(tx.hash()).unwrap_or_else(|| entry.received_s.saturating_mul(1000));
                let candidate = Candidate { hash: entry.hash, bundle: Arc::clone(&entry.bundle), sequence: entry.sequence };
                Some(PublicTx { candidate, tx, arrival_ms, free: !entry.frozen })
            })
            .collect()
    }

    /// Takes a bundle of `signer` back. Whether there was one.
    ///
    /// # Errors
    /// When it is already handed out.
    pub async fn cancel(&self, signer: Address, hash: Option<B256>, uuid: Option<&str>) -> Result<bool, ErrorObjectOwned> {
        let refused = |reason| from_rejection(&Rejection::new(Place::BUNDLE, reason));
        let found = {
            // Looked at and taken out in one go: it may be about to be handed out.
            let mut pool = self.pool.write();
            let found = match (hash, uuid) {
                (_, Some(uuid)) => pool.cancellable(signer, &uuid.to_ascii_lowercase()).map_err(refused)?,
                (Some(hash), None) => match pool.get(hash).filter(|entry| entry.bundle.signer == Some(signer)) {
                    Some(entry) if entry.frozen => return Err(refused(Reason::TooLate("proposed"))),
                    entry => entry.map(|entry| entry.hash),
                },
                (None, None) => None,
            };
            found.and_then(|hash| pool.remove(hash)).map(|entry| entry.hash)
        };
        let Some(hash) = found else { return Ok(false) };
        let why = Rejection::new(Place::BUNDLE, Reason::Cancelled);
        self.finish(hash, BundleState::Cancelled, None, Some(&why)).await;
        Ok(true)
    }

    /// Ends a bundle: out of the pool, its fate on disk. One that landed is looked after, on disk too, until no reorg can take it
    /// off its chains any more.
    pub async fn finish(&self, hash: B256, state: BundleState, slot: Option<u64>, why: Option<&Rejection>) {
        let entry = self.pool.write().remove(hash);
        self.by_flow.lock().remove(&hash);
        self.tracker.step(hash, state, slot, why, now_ms());
        if state == BundleState::Reorged {
            self.tracker.end(hash);
        }
        if state == BundleState::Landed && entry.is_none() && self.landed.lock().contains(hash) {
            return;
        }
        let Some((.., status)) = self.tracker.own(hash) else { return };
        let landed = entry.filter(|_| state == BundleState::Landed && status.state == state.as_str());
        let kept = landed.map(|entry| self.look_after(entry, status.clone())).unwrap_or_default();
        let Some(fate) = self.fate(hash, status) else { return };
        let mut batch = vec![kept.record.unwrap_or_else(|| Op::delete(Table::Bundles, hash.to_vec())), fate];
        batch.extend(kept.forgotten.into_iter().map(|hash| Op::delete(Table::Bundles, hash.to_vec())));
        if let Err(error) = self.store.write(batch).await {
            tracing::error!(%hash, %error, "the end of a bundle is not on disk");
        }
    }

    /// Ends bundles in a slot, many at a time: each end waits for the disk, and together they wait but once.
    pub(crate) async fn finish_all(&self, ends: Vec<(B256, BundleState, Option<Rejection>)>, slot: u64) {
        for some in ends.chunks(ENDS_AT_ONCE) {
            let mut ending = Vec::with_capacity(some.len());
            for (hash, state, why) in some {
                ending.push(self.finish(*hash, *state, Some(slot), why.as_ref()));
            }
            futures_util::future::join_all(ending).await;
        }
    }

    /// Writes down where a bundle stands, that ended or landed.
    pub(crate) fn fate(&self, hash: B256, status: BundleStatus) -> Option<Op> {
        let record = FinishedRecord { signer: self.tracker.signer(hash), status };
        serde_json::to_vec(&record).ok().map(|value| Op::put(Table::Events, hash.to_vec(), value))
    }

    /// Takes a bundle that landed under watch, unless it is safe already.
    fn look_after(&self, entry: Entry, status: BundleStatus) -> Kept {
        let received_ms = entry.bundle.txs().next().and_then(|tx| self.arrivals.lock().of(tx.tx.hash()));
        let landed = LandedBundle {
            bundle: entry.bundle,
            kind: entry.kind,
            sequence: entry.sequence,
            received_s: entry.received_s,
            received_ms,
            legs: status.legs,
        };
        if self.finality().covers(&landed.legs) {
            return Kept::default();
        }
        let Some(record) = record(&landed, true) else { return Kept::default() };
        let forgotten = self.landed.lock().insert(entry.hash, landed, false);
        metrics::counter!("lockstep_landed_forgotten_total").increment(forgotten.len() as u64);
        Kept { record: Some(Op::put(Table::Bundles, entry.hash.to_vec(), record)), forgotten }
    }

    /// How deep every rollup's blocks are.
    pub(crate) fn finality(&self) -> Finality {
        let depth = |rollup: &ServedRollup| rollup.node.heads().borrow().number.checked_sub(rollup.finality_blocks);
        Finality(self.rollups.iter().map(|(chain, rollup)| (*chain, depth(rollup))).collect())
    }

    /// Takes off the disk what is not tracked any more.
    async fn forget(&self, hashes: Vec<B256>) {
        if hashes.is_empty() {
            return;
        }
        let mut batch: Vec<Op> = hashes.iter().map(|hash| Op::delete(Table::Events, hash.to_vec())).collect();
        {
            let mut landed = self.landed.lock();
            let looked_after = hashes.iter().filter(|hash| landed.remove(**hash).is_some());
            batch.extend(looked_after.map(|hash| Op::delete(Table::Bundles, hash.to_vec())));
        }
        if let Err(error) = self.store.write(batch).await {
            tracing::warn!(%error, "finished bundles stay on disk longer than they are tracked");
        }
    }

    /// Ends every bundle whose bounds have passed when a slot is about to be built.
    pub async fn expire(&self, slot: u64) {
        let expired: Vec<Entry> = self.pool.write().expire(&self.heads(), now_ms() / 1000);
        let why = || Some(Rejection::new(Place::BUNDLE, Reason::Expired));
        let ends = expired.iter().map(|entry| (entry.hash, BundleState::Expired, why())).collect();
        self.finish_all(ends, slot).await;
    }

    /// Names what a bundle is, for reports.
    pub fn label(&self, hash: B256, kind: &str) {
        let mut kinds = self.kinds.lock();
        kinds.insert(hash, kind.to_owned());
        while kinds.len() > crate::tracker::MAX_TRACKED {
            kinds.pop_first();
        }
    }

    /// What a bundle is: the name that was given to it, or its shape by how many rollups and legs it has.
    pub fn kind(&self, hash: B256, rollups: usize, legs: usize) -> String {
        if let Some(kind) = self.kinds.lock().get(&hash) {
            return kind.clone();
        }
        match (rollups, legs) {
            (1, 1) => "single-rollup".into(),
            (rollups, _) => format!("{rollups}-rollups"),
        }
    }

    /// Nonces and balances of a bundle's signers in the newest state: on each rollup all of them in one block's.
    async fn accounts(&self, bundle: &Bundle) -> Result<BTreeMap<TxAccount, AccountView>, ErrorObjectOwned> {
        let mut signers: BTreeMap<ChainId, BTreeSet<Address>> = BTreeMap::new();
        for (chain, signer) in accounts_of(bundle) {
            signers.entry(chain).or_default().insert(signer);
        }
        let mut accounts = BTreeMap::new();
        for (chain, signers) in signers {
            let Some(rollup) = self.rollups.get(&chain) else { continue };
            let head = rollup.node.head().await.map_err(|error| unavailable("node_unavailable", error.to_string()))?;
            let views = views_at(rollup.node.as_ref(), head.hash, &signers).await?;
            accounts.extend(views.into_iter().map(|(signer, view)| ((chain, signer), view)));
        }
        Ok(accounts)
    }
}

/// Nonces and balances of accounts after a block. What is missing of any of them is fetched together.
pub(crate) async fn views_at(
    node: &dyn RollupNode,
    block: B256,
    accounts: &BTreeSet<Address>,
) -> Result<BTreeMap<Address, AccountView>, ErrorObjectOwned> {
    let failed = |error: &dyn std::fmt::Display| unavailable("node_unavailable", error.to_string());
    let state = node.state_at(block).await.map_err(|error| failed(&error))?;
    let mut views = BTreeMap::new();
    for _ in 0..MAX_FETCHES {
        for account in accounts {
            if views.contains_key(account) {
                continue;
            }
            match state.account(*account) {
                Ok(found) => {
                    let found = found.unwrap_or_default();
                    views.insert(*account, AccountView { nonce: found.nonce, balance: found.balance });
                }
                Err(StateError::Missing(_)) => {}
                Err(error) => return Err(failed(&error)),
            }
        }
        if views.len() == accounts.len() {
            return Ok(views);
        }
        node.fetch_missing(block).await.map_err(|error| failed(&error))?;
    }
    Err(unavailable("node_unavailable", "the state does not come"))
}

/// What admission knows of a rollup; `None` before the first fork that is supported, when nothing can be built on it.
/// What is kept of a bundle that landed.
#[derive(Default)]
struct Kept {
    /// Its record, when it is looked after.
    record: Option<Op>,
    /// The bundles that are looked after no more to make room for it.
    forgotten: Vec<B256>,
}

/// The durable record of a bundle that had landed: looked after, or pending again.
pub(crate) fn record(bundle: &LandedBundle, landed: bool) -> Option<Vec<u8>> {
    let record = PendingRecord {
        bundle: BundleParams::from(bundle.bundle.as_ref()),
        kind: kind_name(bundle.kind).to_owned(),
        signer: bundle.bundle.signer,
        sequence: bundle.sequence,
        received_s: bundle.received_s,
        received_ms: bundle.received_ms,
        landed,
    };
    serde_json::to_vec(&record).ok()
}

fn head_of(rollup: &ServedRollup, parent: &ParentBlock) -> Option<Head> {
    let rules = rollup.forks.rules_at(parent.timestamp).ok()?.tx_rules();
    Some(Head {
        number: parent.number,
        timestamp: parent.timestamp,
        tx_gas_limit: rules.gas_cap.map_or(parent.gas_limit, |cap| cap.min(parent.gas_limit)),
        base_fee: parent.base_fee,
        rules,
    })
}

fn store_error(error: &StoreError) -> ErrorObjectOwned {
    metrics::counter!("lockstep_store_errors_total", "code" => error.code()).increment(1);
    unavailable(error.code(), error.to_string())
}

const fn kind_name(kind: Kind) -> &'static str {
    match kind {
        Kind::Bundle => "bundle",
        Kind::Transaction => "transaction",
        Kind::PrivateTransaction => "private-transaction",
    }
}

fn kind_of(name: &str) -> Kind {
    match name {
        "transaction" => Kind::Transaction,
        "private-transaction" => Kind::PrivateTransaction,
        _ => Kind::Bundle,
    }
}

#[cfg(test)]
mod tests {
    use lockstep_pool::Limits;
    use lockstep_primitives::{LandedRef, Replacement};

    use super::*;
    use crate::fake_node::{A, B, Rig, bundle_of, pay};

    #[tokio::test]
    async fn what_is_acknowledged_is_on_disk_and_what_came_in_together_is_all_there() {
        let rig = Rig::new(Limits::default());
        let bundles = (0..8).map(|user| bundle_of(&[(A, pay(A, user, 0)), (B, pay(B, user, 0))]));
        let admitted = futures_util::future::join_all(bundles.map(|bundle| rig.intake.admit(bundle, Kind::Bundle))).await;
        for hash in admitted {
            let hash = hash.unwrap();
            assert!(rig.store.get(Table::Bundles, hash.as_slice()).unwrap().is_some());
            assert!(rig.intake.pool().read().get(hash).is_some() && rig.intake.tracker().own(hash).is_some());
        }
        assert_eq!(rig.restarted().restore().unwrap(), 8);
    }

    #[tokio::test]
    async fn what_the_disk_does_not_take_is_refused_by_name_and_not_in_the_pool() {
        let rig = Rig::new(Limits::default());
        let uuid = "x".repeat(lockstep_store::Limits::default().max_value_bytes);
        let bundle = Bundle {
            replacement: Some(Replacement { uuid, nonce: 1 }),
            signer: Some(Address::repeat_byte(1)),
            ..bundle_of(&[(A, pay(A, 0, 0))])
        };
        let hash = bundle.hash();
        let error = rig.intake.admit(bundle, Kind::Bundle).await.unwrap_err();
        assert!(error.data().unwrap().get().contains("store_value_too_large"), "{error}");
        assert!(rig.intake.pool().read().is_empty() && rig.intake.tracker().own(hash).is_none());
        assert_eq!(rig.restarted().restore().unwrap(), 0);
    }

    #[tokio::test]
    async fn only_the_heads_of_the_rollups_that_a_bundle_names_are_looked_at() {
        let rig = Rig::new(Limits::default());
        let chains = |bundle: &Bundle| rig.intake.heads_of(bundle).into_keys().collect::<Vec<_>>();
        let mut bundle = bundle_of(&[(B, pay(B, 0, 0))]);
        assert_eq!(chains(&bundle), [B]);
        let landed = LandedRef { chain: A, tx: B256::ZERO, message: 0 };
        bundle.legs.push(Leg::Relay { chain: B, relay: Relay::Landed(landed) });
        assert_eq!(chains(&bundle), [A, B], "the rollup of a message that landed is named, too");
        let heads = rig.intake.heads();
        assert!(rig.intake.heads_of(&bundle).iter().all(|(chain, head)| heads.get(chain) == Some(head)));
        let elsewhere = bundle_of(&[(77, pay(77, 0, 0))]);
        let error = rig.intake.admit(elsewhere, Kind::Bundle).await.unwrap_err();
        assert!(error.data().unwrap().get().contains("unknown_rollup"), "{error}");
    }
}
