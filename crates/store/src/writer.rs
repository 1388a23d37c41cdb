//! The writer thread: one transaction and one sync for everything that waits.

use std::iter;
use std::sync::mpsc::Receiver;
use std::thread;
use std::time::Instant;

use redb::{Database, Durability, ReadableTable, WriteTransaction};
use tokio::sync::oneshot;

use crate::pace::Pace;
use crate::shared::Shared;
use crate::{Op, PutOutcome, StoreError, Table, record};

/// What a waiter is told.
pub(crate) type Answer = Result<PutOutcome, StoreError>;

/// One write that waits for the disk. Values are framed records already: checksums are the callers' work, not the thread's.
pub(crate) struct Request {
    pub(crate) work: Work,
    pub(crate) bytes: usize,
    pub(crate) answer: oneshot::Sender<Answer>,
}

pub(crate) enum Work {
    /// All of them or none.
    Apply { first: Op, rest: Vec<Op> },
    /// Compare-and-set.
    PutIfAbsent { table: Table, key: Vec<u8>, framed: Vec<u8> },
}

/// What a step costs in the queue beside its key and value, so that steps without either are bounded too.
const STEP_BYTES: usize = 64;

impl Work {
    /// The table and key that errors name.
    pub(crate) fn place(&self) -> (Table, &[u8]) {
        match self {
            Self::Apply { first, .. } => first.place(),
            Self::PutIfAbsent { table, key, .. } => (*table, key.as_slice()),
        }
    }

    /// What it costs in the queue.
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Self::Apply { first, rest } => iter::once(first).chain(rest).map(|op| op.payload_bytes() + STEP_BYTES).sum(),
            Self::PutIfAbsent { key, framed, .. } => key.len() + framed.len() + STEP_BYTES,
        }
    }
}

/// Serves the queue until every sender is gone and nothing waits any more.
pub(crate) fn run(shared: &Shared, queue: &Receiver<Request>) {
    let _note = PanicNote(shared);
    let mut pace = Pace::new(&shared.limits, Instant::now());
    while let Ok(first) = queue.recv() {
        let mut batch = vec![first];
        fill(&mut batch, queue, shared.limits.max_batch);
        if let Some(linger) = pace.wait(Instant::now()).filter(|_| batch.len() < shared.limits.max_batch) {
            thread::sleep(linger);
            fill(&mut batch, queue, shared.limits.max_batch);
        }
        pace.count(batch.len());
        serve(shared, batch);
    }
}

/// Takes what waits, as far as it fits into a transaction.
fn fill(batch: &mut Vec<Request>, queue: &Receiver<Request>, max_batch: usize) {
    let room = max_batch.saturating_sub(batch.len());
    batch.extend(queue.try_iter().take(room));
}

/// A panic of the thread must not leave a store that looks healthy and never answers.
struct PanicNote<'a>(&'a Shared);

impl Drop for PanicNote<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.refuse_writes("the writer thread panicked".to_owned());
        }
    }
}

fn serve(shared: &Shared, batch: Vec<Request>) {
    let answers = answers(shared, &batch);
    for (request, answer) in batch.into_iter().zip(answers) {
        shared.release(request.bytes);
        // The caller may have stopped waiting. The write is done all the same.
        let _ = request.answer.send(answer);
    }
}

/// One answer for each request, in order.
fn answers(shared: &Shared, batch: &[Request]) -> Vec<Answer> {
    if let Some(cause) = shared.read_only() {
        return batch.iter().map(|_| Err(StoreError::ReadOnly { cause: cause.to_owned() })).collect();
    }
    let committed = commit(&shared.database(), batch);
    match committed {
        Ok(done) => {
            if done.records > 0 {
                shared.count_commit(done.records);
            }
            done.answers
        }
        Err(error) => {
            let cause = error.to_string();
            // Before the answers: whoever learns of the failure finds the store read-only and readable.
            shared.fail(cause.clone());
            batch.iter().map(|request| Err(StoreError::commit_failed(request.work.place(), &cause))).collect()
        }
    }
}

struct Done {
    answers: Vec<Answer>,
    /// Records written or removed.
    records: u64,
}

fn commit(database: &Database, batch: &[Request]) -> Result<Done, redb::Error> {
    let mut transaction = database.begin_write()?;
    transaction.set_durability(Durability::Immediate)?;
    let mut done = Done { answers: Vec::with_capacity(batch.len()), records: 0 };
    {
        let mut tables = Tables::new(&transaction);
        for request in batch {
            let answer = tables.carry_out(&request.work, &mut done.records)?;
            done.answers.push(answer);
        }
    }
    if done.records > 0 {
        transaction.commit()?;
    } else {
        // A batch of lost races and of deletes that found nothing has nothing to sync.
        transaction.abort()?;
    }
    Ok(done)
}

type Rows<'txn> = redb::Table<'txn, &'static [u8], &'static [u8]>;

/// The tables that a transaction has touched. redb lets a transaction open each of them once at a time.
struct Tables<'txn> {
    transaction: &'txn WriteTransaction,
    open: [Option<Rows<'txn>>; Table::COUNT],
}

impl<'txn> Tables<'txn> {
    fn new(transaction: &'txn WriteTransaction) -> Self {
        Self { transaction, open: std::array::from_fn(|_| None) }
    }

    fn rows(&mut self, table: Table) -> Result<&mut Rows<'txn>, redb::Error> {
        let slot = &mut self.open[table as usize];
        let rows = match slot.take() {
            Some(rows) => rows,
            None => self.transaction.open_table(table.definition())?,
        };
        Ok(slot.insert(rows))
    }

    /// The outer error breaks the batch, the inner one is this request's own.
    fn carry_out(&mut self, work: &Work, records: &mut u64) -> Result<Answer, redb::Error> {
        match work {
            Work::Apply { first, rest } => {
                for op in iter::once(first).chain(rest) {
                    *records += u64::from(self.apply(op)?);
                }
                Ok(Ok(PutOutcome::Written))
            }
            Work::PutIfAbsent { table, key, framed } => {
                let rows = self.rows(*table)?;
                let found = rows.get(key.as_slice())?.map(|found| record::payload(found.value()).map(<[u8]>::to_vec));
                match found {
                    Some(Ok(value)) => Ok(Ok(PutOutcome::Exists(value))),
                    // What cannot be read is not overwritten: it may be the decision that the others saw.
                    Some(Err(reason)) => Ok(Err(StoreError::damaged(*table, key, reason))),
                    None => {
                        rows.insert(key.as_slice(), framed.as_slice())?;
                        *records += 1;
                        Ok(Ok(PutOutcome::Written))
                    }
                }
            }
        }
    }

    /// Whether it changed anything.
    fn apply(&mut self, op: &Op) -> Result<bool, redb::Error> {
        match op {
            Op::Put { table, key, value } => {
                self.rows(*table)?.insert(key.as_slice(), value.as_slice())?;
                Ok(true)
            }
            Op::Delete { table, key } => {
                let removed = self.rows(*table)?.remove(key.as_slice())?.is_some();
                Ok(removed)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::sync_channel;

    use super::*;

    fn request(key: u8) -> Request {
        let work = Work::Apply { first: Op::delete(Table::Meta, [key]), rest: Vec::new() };
        Request { bytes: work.bytes(), work, answer: oneshot::channel().0 }
    }

    #[test]
    fn a_transaction_takes_what_waits_in_its_order_and_no_more_than_its_bound() {
        let (sender, queue) = sync_channel(16);
        for key in 1..=6 {
            sender.send(request(key)).unwrap();
        }
        let mut batch = vec![request(0)];
        let keys = |batch: &[Request]| batch.iter().map(|request| request.work.place().1[0]).collect::<Vec<_>>();
        fill(&mut batch, &queue, 4);
        assert_eq!(keys(&batch), [0, 1, 2, 3]);
        fill(&mut batch, &queue, 4);
        assert_eq!(batch.len(), 4, "it is full");
        fill(&mut batch, &queue, 16);
        assert_eq!(keys(&batch), [0, 1, 2, 3, 4, 5, 6]);
    }
}
