//! The handle: what callers see of the store.

use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;

use redb::StorageBackend;
use redb::backends::{FileBackend, InMemoryBackend};
use tokio::sync::oneshot;

use crate::shared::{self, Shared};
use crate::writer::{self, Answer, Request, Work};
use crate::{Limits, Op, PutOutcome, StoreError, Table, record};

/// A key and its value.
pub type KeyValue = (Vec<u8>, Vec<u8>);

/// What a store has done and whether it still writes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StoreStatus {
    /// Writes that were accepted and not answered yet.
    pub queued: usize,
    /// Writes that were answered [`StoreError::Busy`], since the store was opened.
    pub refused: u64,
    /// Records written or removed by commits, since the store was opened.
    pub committed_records: u64,
    /// Transactions committed, since the store was opened. With group commit this is less than the number of writes.
    pub commits: u64,
    /// Why nothing is written any more, if so.
    pub read_only: Option<String>,
}

/// A handle to a store. Clones share it; dropping the last one waits until everything accepted has been written.
///
/// A write that was accepted is carried out even when its caller stops waiting: dropping the future undoes nothing.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

struct Inner {
    shared: Arc<Shared>,
    durable: bool,
    /// A std channel: bounded, its senders never block, and the writer is a plain thread, so that the store needs no
    /// runtime and no further dependency. `None` only while the store is being dropped.
    queue: Option<SyncSender<Request>>,
    writer: Option<JoinHandle<()>>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        // Without senders the writer drains the queue and ends.
        drop(self.queue.take());
        if let Some(writer) = self.writer.take()
            && writer.join().is_err()
        {
            tracing::error!("the writer thread of the store panicked");
        }
    }
}

/// Steps that wait to be written.
#[derive(Debug)]
#[must_use = "whether the steps were written is known only when they are waited for"]
pub struct Queued(Option<oneshot::Receiver<Answer>>);

impl Queued {
    /// Returns when the steps are on disk.
    ///
    /// # Errors
    /// When they could not be written.
    pub async fn written(self) -> Result<(), StoreError> {
        let Some(answer) = self.0 else { return Ok(()) };
        answer.await.unwrap_or(Err(StoreError::WriterGone)).map(|_| ())
    }
}

impl Store {
    /// Opens the store in this file, or makes it. The folder has to exist.
    ///
    /// After a crash redb repairs the file first, which reads all of it.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        Self::open_with(path, Limits::default())
    }

    /// The same with other limits.
    pub fn open_with(path: &Path, limits: Limits) -> Result<Self, StoreError> {
        let at = path.display().to_string();
        let file = open_file(path).map_err(|error| StoreError::open(&at, error))?;
        let backend = FileBackend::new(file).map_err(|error| StoreError::open(&at, error))?;
        Self::start(Box::new(backend), limits, &at, true)
    }

    /// A store that forgets everything when it is dropped, for tests and for `dev` without a data folder.
    pub fn in_memory() -> Result<Self, StoreError> {
        Self::start(Box::new(InMemoryBackend::new()), Limits::default(), "memory", false)
    }

    /// A store on storage of the caller's own, such as one that fails or waits on purpose. It counts as durable: whether
    /// its `sync_data` keeps its promise is the caller's affair.
    pub fn open_with_backend(backend: impl StorageBackend, limits: Limits) -> Result<Self, StoreError> {
        Self::start(Box::new(backend), limits, "a backend", true)
    }

    fn start(backend: Box<dyn StorageBackend>, limits: Limits, at: &str, durable: bool) -> Result<Self, StoreError> {
        let limits = limits.usable();
        let shared = Arc::new(Shared::open(backend, limits).map_err(|error| StoreError::open(at, error))?);
        let (queue, requests) = sync_channel(limits.queue);
        let writer = std::thread::Builder::new()
            .name("lockstep-store".to_owned())
            .spawn({
                let shared = Arc::clone(&shared);
                move || writer::run(&shared, &requests)
            })
            .map_err(|error| StoreError::open(at, error))?;
        Ok(Self { inner: Arc::new(Inner { shared, durable, queue: Some(queue), writer: Some(writer) }) })
    }

    /// Whether what is acknowledged survives the process.
    pub fn is_durable(&self) -> bool {
        self.inner.durable
    }

    /// Writes a record, over an older one if there is one. Returns when it is on disk.
    pub async fn put(&self, table: Table, key: Vec<u8>, value: Vec<u8>) -> Result<(), StoreError> {
        self.submit(Work::Apply { first: self.prepare(Op::Put { table, key, value })?, rest: Vec::new() }).await?;
        Ok(())
    }

    /// Writes a record unless there is one. Of callers that race, whichever comes first writes, and the others learn its
    /// value; it is on disk when they do.
    pub async fn put_if_absent(&self, table: Table, key: Vec<u8>, value: Vec<u8>) -> Result<PutOutcome, StoreError> {
        let limits = &self.inner.shared.limits;
        limits.check_key(table, &key)?;
        limits.check_value(table, &key, &value)?;
        self.submit(Work::PutIfAbsent { table, key, framed: record::frame(&value) }).await
    }

    /// Removes a record. Returns when that is on disk; that there was none is no error.
    pub async fn delete(&self, table: Table, key: Vec<u8>) -> Result<(), StoreError> {
        self.submit(Work::Apply { first: self.prepare(Op::Delete { table, key })?, rest: Vec::new() }).await?;
        Ok(())
    }

    /// Several steps in order, all of them or none. Returns when they are on disk.
    pub async fn write(&self, batch: Vec<Op>) -> Result<(), StoreError> {
        self.queue(batch)?.written().await
    }

    /// The same, in two parts: what is queued is written in the order in which it was queued, and [`Queued::written`] waits for
    /// it. So a caller that changes a state and queues the change under one lock has its changes on disk in their order, without
    /// holding the lock while it waits.
    ///
    /// # Errors
    /// When a step is too large, the queue is full or the store writes no more. Nothing is queued then.
    pub fn queue(&self, batch: Vec<Op>) -> Result<Queued, StoreError> {
        let mut steps = batch.into_iter().map(|op| self.prepare(op)).collect::<Result<Vec<_>, _>>()?.into_iter();
        let Some(first) = steps.next() else {
            return Ok(Queued(None));
        };
        Ok(Queued(Some(self.enqueue(Work::Apply { first, rest: steps.collect() })?)))
    }

    /// Whether there is room to queue more. Half of the queue is left for others: a caller that changes its state before it
    /// queues the change asks first.
    ///
    /// # Errors
    /// When there is not, or the store writes no more.
    pub fn has_room(&self) -> Result<(), StoreError> {
        let shared = &self.inner.shared;
        let status = shared.status();
        match status.read_only {
            Some(cause) => Err(StoreError::ReadOnly { cause }),
            None if status.queued >= shared.limits.queue / 2 => Err(StoreError::busy((Table::Meta, &[]), shared.count_refusal())),
            None => Ok(()),
        }
    }

    /// The value of a key. Reads see what has been committed and wait for no writer; they block on the disk for what
    /// redb does not hold in memory.
    pub fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        shared::lookup(&self.inner.shared.database(), table, key)
            .map_err(|error| StoreError::read_failed(table, Some(key), error))?
            .transpose()
            .map_err(|reason| StoreError::damaged(table, key, reason))
    }

    /// Every record of a table in the order of the keys, as of one moment. All of it is held in memory: this is for
    /// starting up and for tables that their owner keeps small. A damaged record is an error that names its key.
    pub fn scan(&self, table: Table) -> Result<Vec<KeyValue>, StoreError> {
        shared::rows(&self.inner.shared.database(), table)
            .map_err(|error| StoreError::read_failed(table, None, error))?
            .into_iter()
            .map(|(key, value)| match value {
                Ok(value) => Ok((key, value)),
                Err(reason) => Err(StoreError::damaged(table, &key, reason)),
            })
            .collect()
    }

    /// How many records a table holds, damaged ones included.
    pub fn len(&self, table: Table) -> Result<u64, StoreError> {
        shared::count(&self.inner.shared.database(), table).map_err(|error| StoreError::read_failed(table, None, error))
    }

    /// Counters and state, for metrics.
    pub fn status(&self) -> StoreStatus {
        self.inner.shared.status()
    }

    /// Checks a step and frames its value.
    fn prepare(&self, op: Op) -> Result<Op, StoreError> {
        let limits = &self.inner.shared.limits;
        let (table, key) = op.place();
        limits.check_key(table, key)?;
        match op {
            Op::Put { table, key, value } => {
                limits.check_value(table, &key, &value)?;
                Ok(Op::Put { table, key, value: record::frame(&value) })
            }
            delete @ Op::Delete { .. } => Ok(delete),
        }
    }

    async fn submit(&self, work: Work) -> Answer {
        let answer = self.enqueue(work)?;
        answer.await.unwrap_or(Err(StoreError::WriterGone))
    }

    fn enqueue(&self, work: Work) -> Result<oneshot::Receiver<Answer>, StoreError> {
        let shared = &self.inner.shared;
        if let Some(cause) = shared.read_only() {
            return Err(StoreError::ReadOnly { cause: cause.to_owned() });
        }
        let bytes = work.bytes();
        let limit = shared.limits.max_queued_bytes;
        if bytes > limit {
            return Err(StoreError::batch_too_large(work.place(), bytes, limit));
        }
        if !shared.reserve(bytes) {
            return Err(StoreError::busy(work.place(), shared.count_refusal()));
        }
        let Some(queue) = &self.inner.queue else {
            shared.release(bytes);
            return Err(StoreError::WriterGone);
        };
        let (answer, receiver) = oneshot::channel();
        match queue.try_send(Request { work, bytes, answer }) {
            Ok(()) => Ok(receiver),
            Err(TrySendError::Full(request)) => {
                shared.release(bytes);
                Err(StoreError::busy(request.work.place(), shared.count_refusal()))
            }
            Err(TrySendError::Disconnected(_)) => {
                shared.release(bytes);
                let cause = shared.read_only().unwrap_or("the writer thread has ended").to_owned();
                Err(StoreError::ReadOnly { cause })
            }
        }
    }
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").field("durable", &self.inner.durable).field("status", &self.status()).finish_non_exhaustive()
    }
}

fn open_file(path: &Path) -> io::Result<File> {
    let file = File::options().read(true).write(true).create(true).truncate(false).open(path)?;
    sync_folder(path)?;
    Ok(file)
}

/// Syncing a new file does not sync its name: after a power failure a file that its folder does not list is lost.
#[cfg(unix)]
fn sync_folder(path: &Path) -> io::Result<()> {
    let folder = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    File::open(folder)?.sync_all()
}

#[cfg(not(unix))]
fn sync_folder(_path: &Path) -> io::Result<()> {
    Ok(())
}
