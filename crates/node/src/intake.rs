//! Intake: a bundle is checked, made durable, and only then acknowledged.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use alloy_primitives::{Address, B256};
use jsonrpsee::types::ErrorObjectOwned;
use lockstep_pool::{AccountView, Entry, Head, Heads, Kind, Pool, TxAccount, accounts_of, check, check_accounts};
use lockstep_primitives::{Bundle, BundleState, ChainId, Place, Reason, Rejection};
use lockstep_provider::RollupNode;
use lockstep_rpc::{
    from_rejection, unavailable,
    wire::{BundleParams, BundleStatus},
};
use lockstep_simulation::{ForkSchedule, ParentBlock, StateError};
use lockstep_store::{Op, Store, StoreError, Table};
use parking_lot::{Mutex, RwLock};
use serde::{Deserialize, Serialize};

use crate::{clock::now_ms, tracker::Tracker};

/// How often a state read may come back with something missing before the state counts as unreachable.
const MAX_FETCHES: usize = 64;

/// A rollup that the builder serves.
#[derive(Clone, Debug)]
pub struct ServedRollup {
    /// Its node.
    pub node: Arc<dyn RollupNode>,
    /// When which rules hold.
    pub forks: ForkSchedule,
}

/// The durable record of a pending bundle.
#[derive(Serialize, Deserialize)]
struct PendingRecord {
    bundle: BundleParams,
    kind: String,
    signer: Option<Address>,
    sequence: u64,
    received_s: u64,
}

/// The durable record of a finished bundle.
#[derive(Serialize, Deserialize)]
struct FinishedRecord {
    signer: Option<Address>,
    status: BundleStatus,
}

/// The way into the pool.
#[derive(Debug)]
pub struct Intake {
    rollups: BTreeMap<ChainId, ServedRollup>,
    pool: RwLock<Pool>,
    tracker: Tracker,
    store: Store,
    sequence: AtomicU64,
    kinds: Mutex<BTreeMap<B256, String>>,
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

    /// Puts back what was acknowledged before a restart. Returns how many bundles are pending.
    ///
    /// # Errors
    /// When the store cannot be read: nothing is skipped silently.
    pub fn restore(&self) -> Result<usize, StoreError> {
        let mut records: Vec<PendingRecord> = Vec::new();
        for (key, value) in self.store.scan(Table::Bundles)? {
            match serde_json::from_slice(&value) {
                Ok(record) => records.push(record),
                Err(error) => {
                    tracing::error!(key = %alloy_primitives::hex::encode(key), %error, "a stored bundle cannot be read")
                }
            }
        }
        for (_, value) in self.store.scan(Table::Events)? {
            match serde_json::from_slice::<FinishedRecord>(&value) {
                Ok(record) => self.tracker.restore(record.signer, record.status),
                Err(error) => tracing::error!(%error, "the fate of a bundle from before cannot be read"),
            }
        }
        records.sort_by_key(|record| record.sequence);
        let mut restored = 0;
        for record in records {
            self.sequence.fetch_max(record.sequence + 1, Ordering::Relaxed);
            let kind = kind_of(&record.kind);
            match record.bundle.into_bundle(record.signer) {
                Ok(bundle) => {
                    let bundle = Arc::new(bundle);
                    let inserted = self.pool.write().insert(Arc::clone(&bundle), kind, record.sequence, record.received_s);
                    if let Err(error) = &inserted {
                        tracing::error!(hash = %bundle.hash(), %error, "a stored bundle does not go back into the pool");
                    }
                    if let Ok(inserted) = inserted {
                        // Nothing is forgotten here: the store never holds more than is tracked.
                        let _ = self.tracker.begin(inserted.hash, &bundle, now_ms());
                        restored += 1;
                    }
                }
                Err(error) => tracing::error!(%error, "a stored bundle is no bundle any more"),
            }
        }
        Ok(restored)
    }

    /// The newest block of every rollup.
    pub fn heads(&self) -> Heads {
        self.rollups.iter().map(|(chain, rollup)| (*chain, head_of(rollup, &rollup.node.heads().borrow()))).collect()
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
        let limits = self.pool.read().limits().clone();
        check(&bundle, &self.heads(), now_ms() / 1000, &limits).map_err(refused)?;
        let accounts = self.accounts(&bundle).await?;
        let (admission, sequence) = {
            let pool = self.pool.read();
            check_accounts(&bundle, &accounts, &pool).map_err(refused)?;
            (pool.admit(&bundle, kind).map_err(refused)?, self.sequence.fetch_add(1, Ordering::Relaxed))
        };
        let hash = admission.hash;
        if admission.known {
            return Ok(hash);
        }
        let received_s = now_ms() / 1000;
        let record = PendingRecord {
            bundle: BundleParams::from(&bundle),
            kind: kind_name(kind).to_owned(),
            signer: bundle.signer,
            sequence,
            received_s,
        };
        let value = serde_json::to_vec(&record).map_err(|error| unavailable("store", error.to_string()))?;
        self.store.put(Table::Bundles, hash.to_vec(), value).await.map_err(|error| store_error(&error))?;
        let bundle = Arc::new(bundle);
        // Another bundle may have come in meanwhile: the pool judges again, and what it refuses is taken off the disk.
        let inserted = self.pool.write().insert(Arc::clone(&bundle), kind, sequence, received_s);
        let inserted = match inserted {
            Ok(inserted) => inserted,
            Err(rejection) => {
                self.store.delete(Table::Bundles, hash.to_vec()).await.map_err(|error| store_error(&error))?;
                return Err(refused(rejection));
            }
        };
        if inserted.known {
            return Ok(hash);
        }
        let now = now_ms();
        self.forget(self.tracker.begin(hash, &bundle, now)).await;
        for replaced in inserted.replaced {
            let why = Rejection::new(Place::BUNDLE, Reason::Replaced(hash));
            self.finish(replaced, BundleState::Replaced, None, Some(&why)).await;
        }
        Ok(hash)
    }

    /// Takes a bundle of `signer` back. Whether there was one.
    ///
    /// # Errors
    /// When it is already handed out.
    pub async fn cancel(&self, signer: Address, hash: Option<B256>, uuid: Option<&str>) -> Result<bool, ErrorObjectOwned> {
        let refused = |reason| from_rejection(&Rejection::new(Place::BUNDLE, reason));
        let found = {
            let pool = self.pool.read();
            match (hash, uuid) {
                (_, Some(uuid)) => pool.cancellable(signer, &uuid.to_ascii_lowercase()).map_err(refused)?,
                (Some(hash), None) => match pool.get(hash).filter(|entry| entry.bundle.signer == Some(signer)) {
                    Some(entry) if entry.frozen => return Err(refused(Reason::TooLate("proposed"))),
                    entry => entry.map(|entry| entry.hash),
                },
                (None, None) => None,
            }
        };
        let Some(hash) = found else { return Ok(false) };
        let why = Rejection::new(Place::BUNDLE, Reason::Cancelled);
        self.pool.write().remove(hash);
        self.finish(hash, BundleState::Cancelled, None, Some(&why)).await;
        Ok(true)
    }

    /// Ends a bundle: out of the pool, its fate on disk.
    pub async fn finish(&self, hash: B256, state: BundleState, slot: Option<u64>, why: Option<&Rejection>) {
        self.pool.write().remove(hash);
        let signer = self.tracker.signer(hash);
        self.tracker.step(hash, state, slot, why, now_ms());
        let Some((_, _, status)) = self.tracker.own(hash) else { return };
        let record = FinishedRecord { signer, status };
        let Ok(value) = serde_json::to_vec(&record) else { return };
        let batch = vec![Op::delete(Table::Bundles, hash.to_vec()), Op::put(Table::Events, hash.to_vec(), value)];
        if let Err(error) = self.store.write(batch).await {
            tracing::error!(%hash, %error, "the end of a bundle is not on disk");
        }
    }

    /// Takes off the disk what is not tracked any more.
    async fn forget(&self, hashes: Vec<B256>) {
        if hashes.is_empty() {
            return;
        }
        let batch = hashes.iter().map(|hash| Op::delete(Table::Events, hash.to_vec())).collect();
        if let Err(error) = self.store.write(batch).await {
            tracing::warn!(%error, "finished bundles stay on disk longer than they are tracked");
        }
    }

    /// Ends every bundle whose bounds have passed when a slot is about to be built.
    pub async fn expire(&self, slot: u64) {
        let expired: Vec<Entry> = self.pool.write().expire(&self.heads(), now_ms() / 1000);
        for entry in expired {
            let why = Rejection::new(Place::BUNDLE, Reason::Expired);
            self.finish(entry.hash, BundleState::Expired, Some(slot), Some(&why)).await;
        }
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

    /// Nonces and balances of a bundle's signers in the newest state.
    async fn accounts(&self, bundle: &Bundle) -> Result<BTreeMap<TxAccount, AccountView>, ErrorObjectOwned> {
        let mut views = BTreeMap::new();
        for (chain, account) in accounts_of(bundle) {
            let Some(rollup) = self.rollups.get(&chain) else { continue };
            views.insert((chain, account), account_view(rollup.node.as_ref(), account).await?);
        }
        Ok(views)
    }
}

/// Nonce and balance of an account in a rollup's newest state.
pub(crate) async fn account_view(node: &dyn RollupNode, account: Address) -> Result<AccountView, ErrorObjectOwned> {
    let failed = |error: &dyn std::fmt::Display| unavailable("node_unavailable", error.to_string());
    let head = node.head().await.map_err(|error| failed(&error))?;
    let state = node.state_at(head.hash).await.map_err(|error| failed(&error))?;
    for _ in 0..MAX_FETCHES {
        match state.account(account) {
            Ok(found) => {
                let found = found.unwrap_or_default();
                return Ok(AccountView { nonce: found.nonce, balance: found.balance });
            }
            Err(StateError::Missing(_)) => {
                node.fetch_missing(head.hash).await.map_err(|error| failed(&error))?;
            }
            Err(error) => return Err(failed(&error)),
        }
    }
    Err(unavailable("node_unavailable", "the state does not come"))
}

fn head_of(rollup: &ServedRollup, parent: &ParentBlock) -> Head {
    let cap = rollup.forks.rules_at(parent.timestamp).ok().and_then(lockstep_simulation::Rules::tx_gas_cap);
    Head {
        number: parent.number,
        timestamp: parent.timestamp,
        tx_gas_limit: cap.map_or(parent.gas_limit, |cap| cap.min(parent.gas_limit)),
        base_fee: parent.base_fee,
    }
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
