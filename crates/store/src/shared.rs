//! What the handles and the writer thread have in common: the database, the counters, the mark of failure.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock, PoisonError, RwLock};

use redb::{Database, DatabaseError, ReadableDatabase, ReadableTable, ReadableTableMetadata, RepairSession, StorageBackend};

use crate::medium::{Live, Medium, Overlay};
use crate::{Damage, Limits, StoreStatus, Table, record};

/// A row of a table: its key, and its value or what is wrong with it.
pub(crate) type Row = (Vec<u8>, Result<Vec<u8>, Damage>);

pub(crate) struct Shared {
    pub(crate) limits: Limits,
    medium: Arc<Medium>,
    /// Replaced once, when a commit has failed.
    database: RwLock<Arc<Database>>,
    queued: AtomicUsize,
    queued_bytes: AtomicUsize,
    refused: AtomicU64,
    committed_records: AtomicU64,
    commits: AtomicU64,
    read_only: OnceLock<String>,
}

impl Shared {
    /// Opens the database and makes its tables, so that a reader never meets one that is missing. The commit that this
    /// takes also shows that the medium can be written before anything is promised.
    pub(crate) fn open(backend: Box<dyn StorageBackend>, limits: Limits) -> Result<Self, redb::Error> {
        let medium = Arc::new(Medium::new(backend));
        let database = database(Live(Arc::clone(&medium)), limits.cache_bytes)?;
        let transaction = database.begin_write()?;
        for table in Table::ALL {
            transaction.open_table(table.definition())?;
        }
        transaction.commit()?;
        Ok(Self {
            limits,
            medium,
            database: RwLock::new(Arc::new(database)),
            queued: AtomicUsize::new(0),
            queued_bytes: AtomicUsize::new(0),
            refused: AtomicU64::new(0),
            committed_records: AtomicU64::new(0),
            commits: AtomicU64::new(0),
            read_only: OnceLock::new(),
        })
    }

    /// The database to read. The handle keeps it open while a read is under way.
    pub(crate) fn database(&self) -> Arc<Database> {
        Arc::clone(&self.database.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Makes room for one more write of so many bytes, or says no.
    pub(crate) fn reserve(&self, bytes: usize) -> bool {
        let limit = self.limits.max_queued_bytes;
        let room = self
            .queued_bytes
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |used| used.checked_add(bytes).filter(|total| *total <= limit))
            .is_ok();
        if room {
            self.queued.fetch_add(1, Ordering::AcqRel);
        }
        room
    }

    /// Gives back what [`Shared::reserve`] took.
    pub(crate) fn release(&self, bytes: usize) {
        self.queued_bytes.fetch_sub(bytes, Ordering::AcqRel);
        self.queued.fetch_sub(1, Ordering::AcqRel);
    }

    /// Counts a write that found no room, and says how many wait.
    pub(crate) fn count_refusal(&self) -> usize {
        self.refused.fetch_add(1, Ordering::Relaxed);
        self.queued.load(Ordering::Acquire)
    }

    pub(crate) fn count_commit(&self, records: u64) {
        self.commits.fetch_add(1, Ordering::Relaxed);
        self.committed_records.fetch_add(records, Ordering::Relaxed);
    }

    /// Why nothing is written any more, if so.
    pub(crate) fn read_only(&self) -> Option<&str> {
        self.read_only.get().map(String::as_str)
    }

    /// Refuses every later write. The first cause stays.
    pub(crate) fn refuse_writes(&self, cause: String) {
        tracing::error!(%cause, "the store is read-only from now on");
        let _ = self.read_only.set(cause);
    }

    /// After a failed commit: refuses writes and opens the medium again for reading. Where even that fails, reads are
    /// served from what the failed database holds in its cache, and answer an error beyond it.
    pub(crate) fn fail(&self, cause: String) {
        self.refuse_writes(cause);
        self.medium.freeze();
        let reopened = Overlay::new(Arc::clone(&self.medium))
            .map_err(redb::Error::from)
            .and_then(|overlay| database(overlay, self.limits.cache_bytes).map_err(redb::Error::from));
        match reopened {
            Ok(reopened) => {
                let mut current = self.database.write().unwrap_or_else(PoisonError::into_inner);
                let failed = std::mem::replace(&mut *current, Arc::new(reopened));
                drop(current);
                // Closing it may take a moment, and no reader has to wait for that.
                drop(failed);
            }
            Err(error) => tracing::error!(%error, "the store cannot be opened again for reading"),
        }
    }

    pub(crate) fn status(&self) -> StoreStatus {
        StoreStatus {
            queued: self.queued.load(Ordering::Acquire),
            refused: self.refused.load(Ordering::Relaxed),
            committed_records: self.committed_records.load(Ordering::Relaxed),
            commits: self.commits.load(Ordering::Relaxed),
            read_only: self.read_only().map(str::to_owned),
        }
    }
}

fn database(backend: impl StorageBackend, cache_bytes: usize) -> Result<Database, DatabaseError> {
    Database::builder()
        .set_cache_size(cache_bytes)
        .set_repair_callback(|session: &mut RepairSession| {
            if session.progress() <= 0.0 {
                tracing::warn!("the store was not closed cleanly and is being repaired");
            }
        })
        .create_with_backend(backend)
}

/// The value of a key. The outer error is the table's, the inner one the record's.
pub(crate) fn lookup(database: &Database, table: Table, key: &[u8]) -> Result<Option<Result<Vec<u8>, Damage>>, redb::Error> {
    let rows = database.begin_read()?.open_table(table.definition())?;
    let found = rows.get(key)?;
    Ok(found.map(|value| record::payload(value.value()).map(<[u8]>::to_vec)))
}

/// Every row of a table, in the order of the keys.
pub(crate) fn rows(database: &Database, table: Table) -> Result<Vec<Row>, redb::Error> {
    let rows = database.begin_read()?.open_table(table.definition())?;
    let mut found = Vec::new();
    for row in rows.iter()? {
        let (key, value) = row?;
        found.push((key.value().to_vec(), record::payload(value.value()).map(<[u8]>::to_vec)));
    }
    Ok(found)
}

/// How many rows a table has.
pub(crate) fn count(database: &Database, table: Table) -> Result<u64, redb::Error> {
    Ok(database.begin_read()?.open_table(table.definition())?.len()?)
}
