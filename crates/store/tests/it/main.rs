//! The store as its callers meet it: nothing acknowledged is lost, nothing damaged is hidden, nothing waits without bound.

mod media;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::pin::Pin;
use std::task::{Context, Waker};

use lockstep_store::{Damage, Limits, Op, PutOutcome, Store, StoreError, Table};
use media::TestMedium;
use redb::{Database, ReadableDatabase, TableDefinition};

const RAW_BUNDLES: TableDefinition<'static, &'static [u8], &'static [u8]> = TableDefinition::new("bundles");

/// Sends a write, and leaves it waiting.
fn start<F: Future>(write: Pin<&mut F>) {
    let mut context = Context::from_waker(Waker::noop());
    assert!(write.poll(&mut context).is_pending(), "the writer is held back, so no write can be answered");
}

/// Puts bytes into the table of bundles behind the store's back.
fn write_raw(path: &Path, key: &[u8], record: &[u8]) {
    let database = Database::create(path).expect("the store is closed");
    let transaction = database.begin_write().expect("a transaction");
    transaction.open_table(RAW_BUNDLES).expect("the table").insert(key, record).expect("an insert");
    transaction.commit().expect("a commit");
}

/// Reads the bytes of a bundle's record behind the store's back.
fn read_raw(path: &Path, key: &[u8]) -> Vec<u8> {
    let database = Database::create(path).expect("the store is closed");
    let transaction = database.begin_read().expect("a transaction");
    let table = transaction.open_table(RAW_BUNDLES).expect("the table");
    let record = table.get(key).expect("a read").expect("a record");
    record.value().to_vec()
}

/// Keys of one test, in their order.
fn key(n: u32) -> Vec<u8> {
    n.to_be_bytes().to_vec()
}

#[tokio::test]
async fn what_was_put_is_there_after_closing_and_opening() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.redb");
    let store = Store::open(&path).unwrap();
    assert!(store.is_durable());
    store.put(Table::Bundles, b"b".to_vec(), b"two".to_vec()).await.unwrap();
    store.put(Table::Bundles, b"a".to_vec(), b"one".to_vec()).await.unwrap();
    store.put(Table::Bundles, b"c".to_vec(), b"old".to_vec()).await.unwrap();
    store.put(Table::Bundles, b"c".to_vec(), b"".to_vec()).await.unwrap();
    store.put(Table::Events, b"d".to_vec(), b"gone".to_vec()).await.unwrap();
    store.delete(Table::Events, b"d".to_vec()).await.unwrap();
    store.delete(Table::Events, b"never there".to_vec()).await.unwrap();
    drop(store);

    let store = Store::open(&path).unwrap();
    assert_eq!(store.get(Table::Bundles, b"a").unwrap(), Some(b"one".to_vec()));
    assert_eq!(store.get(Table::Bundles, b"nothing").unwrap(), None);
    assert_eq!(store.get(Table::Votes, b"a").unwrap(), None, "tables do not share keys");
    let rows = vec![(b"a".to_vec(), b"one".to_vec()), (b"b".to_vec(), b"two".to_vec()), (b"c".to_vec(), Vec::new())];
    assert_eq!(store.scan(Table::Bundles).unwrap(), rows, "in the order of the keys");
    assert_eq!(store.len(Table::Bundles).unwrap(), 3);
    assert_eq!(store.len(Table::Events).unwrap(), 0);
}

#[tokio::test]
async fn a_store_in_memory_says_that_it_forgets() {
    let store = Store::in_memory().unwrap();
    assert!(!store.is_durable());
    store.put(Table::Meta, b"k".to_vec(), b"v".to_vec()).await.unwrap();
    assert_eq!(store.get(Table::Meta, b"k").unwrap(), Some(b"v".to_vec()));
    for table in Table::ALL {
        store.scan(table).unwrap();
    }
}

#[tokio::test]
async fn a_file_belongs_to_one_store_at_a_time() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.redb");
    let store = Store::open(&path).unwrap();
    let error = Store::open(&path).unwrap_err();
    assert_eq!(error.code(), "store_open");
    assert!(error.to_string().contains("store.redb"), "{error}");
    drop(store);
    Store::open(&path).unwrap();
    assert_eq!(Store::open(&folder.path().join("missing/store.redb")).unwrap_err().code(), "store_open");
}

/// Of 64 callers that race for a key exactly one writes, and all learn the value that is there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_of_many_racing_callers_writes() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(&folder.path().join("store.redb")).unwrap();
    let callers: Vec<_> = (0..64u32)
        .map(|n| {
            let store = store.clone();
            tokio::spawn(async move { (n, store.put_if_absent(Table::Decisions, b"slot".to_vec(), key(n)).await.unwrap()) })
        })
        .collect();
    let mut writers = Vec::new();
    let mut seen = Vec::new();
    for caller in callers {
        match caller.await.unwrap() {
            (n, PutOutcome::Written) => writers.push(key(n)),
            (_, PutOutcome::Exists(value)) => seen.push(value),
        }
    }
    assert_eq!(writers.len(), 1);
    assert_eq!(seen.len(), 63);
    assert!(seen.iter().all(|value| *value == writers[0]));
    assert_eq!(store.get(Table::Decisions, b"slot").unwrap().as_ref(), Some(&writers[0]));
}

/// The same race inside one transaction: the first in the queue wins.
#[tokio::test]
async fn the_first_of_a_batch_wins() {
    let medium = TestMedium::default();
    let store = Store::open_with_backend(medium.clone(), Limits::default()).unwrap();
    medium.gate.close();
    let mut holder = Box::pin(store.put(Table::Meta, b"hold".to_vec(), Vec::new()));
    start(holder.as_mut());
    medium.gate.wait_for_writer();
    let mut first = Box::pin(store.put_if_absent(Table::Decisions, b"slot".to_vec(), b"commit".to_vec()));
    let mut second = Box::pin(store.put_if_absent(Table::Decisions, b"slot".to_vec(), b"abort".to_vec()));
    start(first.as_mut());
    start(second.as_mut());
    medium.gate.open();
    holder.await.unwrap();
    assert_eq!(first.await.unwrap(), PutOutcome::Written);
    assert_eq!(second.await.unwrap(), PutOutcome::Exists(b"commit".to_vec()));
    let commits = store.status().commits;
    assert_eq!(commits, 2, "the two shared a transaction");
    store.put_if_absent(Table::Decisions, b"slot".to_vec(), b"again".to_vec()).await.unwrap();
    assert_eq!(store.status().commits, commits, "a lost race has nothing to sync");
}

/// 500 concurrent writes: the first occupies the disk, the other 499 share the next sync.
#[tokio::test]
async fn writes_that_wait_share_a_commit() {
    let medium = TestMedium::default();
    let store = Store::open_with_backend(medium.clone(), Limits::default()).unwrap();
    medium.gate.close();
    let mut writes: Vec<_> = (0..500).map(|n| Box::pin(store.put(Table::Bundles, key(n), key(n)))).collect();
    for (n, write) in writes.iter_mut().enumerate() {
        start(write.as_mut());
        if n == 0 {
            medium.gate.wait_for_writer();
        }
    }
    assert_eq!(store.status().queued, 500);
    assert_eq!(store.status().commits, 0);
    medium.gate.open();
    for write in writes {
        write.await.unwrap();
    }
    let status = store.status();
    assert_eq!((status.queued, status.commits, status.committed_records), (0, 2, 500));
    drop(store);

    let store = Store::open_with_backend(medium, Limits::default()).unwrap();
    assert_eq!(store.scan(Table::Bundles).unwrap(), (0..500).map(|n| (key(n), key(n))).collect::<Vec<_>>());
}

/// The same on a disk, at whatever pace it has.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn concurrent_writes_cost_fewer_syncs_than_writes() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.redb");
    let store = Store::open(&path).unwrap();
    let callers: Vec<_> = (0..500)
        .map(|n| {
            let store = store.clone();
            tokio::spawn(async move { store.put(Table::Bundles, key(n), key(n)).await })
        })
        .collect();
    for caller in callers {
        caller.await.unwrap().unwrap();
    }
    let status = store.status();
    assert!(status.commits < 500, "{} commits", status.commits);
    assert_eq!(status.committed_records, 500);
    drop(store);
    assert_eq!(Store::open(&path).unwrap().len(Table::Bundles).unwrap(), 500);
}

#[tokio::test]
async fn several_steps_are_done_together_and_in_order() {
    let store = Store::in_memory().unwrap();
    store.put(Table::Bundles, key(1), b"old".to_vec()).await.unwrap();
    let commits = store.status().commits;
    let steps = vec![
        Op::delete(Table::Bundles, key(1)),
        Op::put(Table::Bundles, key(2), b"first"),
        Op::put(Table::Bundles, key(2), b"second"),
        Op::put(Table::Events, key(2), b"event"),
    ];
    store.write(steps).await.unwrap();
    assert_eq!(store.status().commits, commits + 1);
    assert_eq!(store.scan(Table::Bundles).unwrap(), vec![(key(2), b"second".to_vec())]);
    assert_eq!(store.get(Table::Events, &key(2)).unwrap(), Some(b"event".to_vec()));

    let too_large = vec![0; Limits::default().max_value_bytes + 1];
    let error = store.write(vec![Op::put(Table::Events, key(3), b"x"), Op::put(Table::Events, key(4), too_large)]).await;
    assert_eq!(error.unwrap_err().code(), "store_value_too_large");
    assert_eq!(store.get(Table::Events, &key(3)).unwrap(), None, "a step that is refused takes the others with it");
    store.write(Vec::new()).await.unwrap();
}

#[tokio::test]
async fn what_exceeds_a_limit_is_refused_by_name() {
    let limits = Limits { max_key_bytes: 4, max_value_bytes: 8, max_queued_bytes: 200, ..Limits::default() };
    let store = Store::open_with_backend(TestMedium::default(), limits).unwrap();
    store.put(Table::Bids, vec![1; 4], vec![2; 8]).await.unwrap();

    let error = store.put(Table::Bids, vec![0xab; 2], vec![2; 9]).await.unwrap_err();
    let expected = StoreError::ValueTooLarge { table: Table::Bids, key: "0xabab".to_owned(), bytes: 9, limit: 8 };
    assert_eq!(error, expected);
    assert_eq!(error.to_string(), "the value of bids/0xabab has 9 bytes, the limit is 8");
    assert_eq!(store.put_if_absent(Table::Bids, key(1), vec![2; 9]).await.unwrap_err().code(), "store_value_too_large");

    let error = store.delete(Table::Bids, vec![1; 5]).await.unwrap_err();
    assert_eq!(error, StoreError::KeyTooLarge { table: Table::Bids, key: "0x0101010101".to_owned(), bytes: 5, limit: 4 });

    let steps: Vec<_> = (0..10).map(|n| Op::delete(Table::Bids, key(n))).collect();
    assert_eq!(store.write(steps).await.unwrap_err().code(), "store_batch_too_large");
    assert_eq!(store.len(Table::Bids).unwrap(), 1);
}

/// The bytes on disk: version 1, CRC-32 (check value cbf43926 of "123456789") big-endian, payload.
#[tokio::test]
async fn the_record_format_stays() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.redb");
    let store = Store::open(&path).unwrap();
    store.put(Table::Bundles, b"k".to_vec(), b"123456789".to_vec()).await.unwrap();
    drop(store);
    assert_eq!(read_raw(&path, b"k"), b"\x01\xcb\xf4\x39\x26123456789");

    let names: Vec<_> = Table::ALL.iter().map(|table| table.name()).collect();
    let trade = ["bundles", "events", "decisions", "votes", "registrations", "bids", "sealed", "tickets", "allocations"];
    let money = ["ledger", "accounts", "escrow", "holds", "withdrawals", "rights", "earnings"];
    let encrypted = ["encrypted", "encrypted_tails", "opened"];
    assert_eq!(names, [trade.as_slice(), &money, &encrypted, &["messages", "meta"]].concat());
}

/// A record that is not what was written is an error with its name: not its bytes, not its absence, not a new record.
#[tokio::test]
async fn damage_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.redb");
    let store = Store::open(&path).unwrap();
    store.put(Table::Bundles, b"\x01".to_vec(), b"whole".to_vec()).await.unwrap();
    drop(store);

    let damaged: [(&[u8], Damage); 3] = [
        (b"\x01\x00", Damage::Truncated { bytes: 2 }),
        (b"\x02\xcb\xf4\x39\x26123456789", Damage::UnknownVersion { found: 2 }),
        (b"\x01\xcb\xf4\x39\x27123456789", Damage::Checksum { stored: 0xcbf4_3927, computed: 0xcbf4_3926 }),
    ];
    for (record, reason) in damaged {
        write_raw(&path, b"\xbe\xef", record);
        let store = Store::open(&path).unwrap();
        let error = StoreError::Damaged { table: Table::Bundles, key: "0xbeef".to_owned(), reason };
        assert!(error.to_string().starts_with("the record bundles/0xbeef is damaged: "), "{error}");
        assert_eq!(store.get(Table::Bundles, b"\xbe\xef").unwrap_err(), error);
        assert_eq!(store.scan(Table::Bundles).unwrap_err(), error);
        let put = store.put_if_absent(Table::Bundles, b"\xbe\xef".to_vec(), b"new".to_vec()).await;
        assert_eq!(put.unwrap_err(), error);
        assert_eq!(store.get(Table::Bundles, b"\x01").unwrap(), Some(b"whole".to_vec()), "the others can be read");
        store.put(Table::Bundles, b"\x02".to_vec(), b"more".to_vec()).await.unwrap();
    }

    let store = Store::open(&path).unwrap();
    store.delete(Table::Bundles, b"\xbe\xef".to_vec()).await.unwrap();
    assert_eq!(store.len(Table::Bundles).unwrap(), 2);
    store.scan(Table::Bundles).unwrap();
}

/// What is acknowledged is in the file, not in the process: a copy of the file taken while the store is open, which is
/// what a killed process leaves, has it.
#[tokio::test]
async fn what_is_acknowledged_needs_no_clean_end() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.redb");
    let store = Store::open(&path).unwrap();
    for n in 0..20 {
        store.put(Table::Bundles, key(n), key(n)).await.unwrap();
        let copy = folder.path().join(format!("copy-{n}.redb"));
        fs::copy(&path, &copy).unwrap();
        let survivor = Store::open(&copy).unwrap();
        assert_eq!(survivor.scan(Table::Bundles).unwrap(), (0..=n).map(|n| (key(n), key(n))).collect::<Vec<_>>());
    }
}

/// A caller that goes away does not take its write along, and the last handle waits for the queue.
#[tokio::test]
async fn dropping_the_last_handle_writes_what_was_accepted() {
    let medium = TestMedium::default();
    let store = Store::open_with_backend(medium.clone(), Limits::default()).unwrap();
    medium.gate.close();
    for n in 0..3 {
        let mut write = Box::pin(store.put(Table::Bundles, key(n), key(n)));
        start(write.as_mut());
    }
    medium.gate.open();
    drop(store);
    let store = Store::open_with_backend(medium, Limits::default()).unwrap();
    assert_eq!(store.len(Table::Bundles).unwrap(), 3);
}

/// One write is on its way to the disk, one waits in a queue of one: the third is refused at once, not kept waiting.
#[tokio::test]
async fn a_full_queue_says_so_at_once() {
    let medium = TestMedium::default();
    let store = Store::open_with_backend(medium.clone(), Limits { queue: 1, ..Limits::default() }).unwrap();
    medium.gate.close();
    let mut first = Box::pin(store.put(Table::Bundles, key(1), key(1)));
    start(first.as_mut());
    medium.gate.wait_for_writer();
    let mut second = Box::pin(store.put(Table::Bundles, key(2), key(2)));
    start(second.as_mut());
    let error = store.put(Table::Bundles, key(3), key(3)).await.unwrap_err();
    assert_eq!(error, StoreError::Busy { table: Table::Bundles, key: "0x00000003".to_owned(), queued: 2 });
    assert_eq!(store.status().refused, 1);
    medium.gate.open();
    first.await.unwrap();
    second.await.unwrap();
    store.put(Table::Bundles, key(3), key(3)).await.unwrap();
    assert_eq!(store.len(Table::Bundles).unwrap(), 3);
}

/// The queue is bounded in bytes too.
#[tokio::test]
async fn a_queue_full_of_large_values_says_so() {
    let medium = TestMedium::default();
    let limits = Limits { max_queued_bytes: 10_000, ..Limits::default() };
    let store = Store::open_with_backend(medium.clone(), limits).unwrap();
    medium.gate.close();
    let mut first = Box::pin(store.put(Table::Bundles, key(1), vec![0; 6_000]));
    start(first.as_mut());
    assert_eq!(store.put(Table::Bundles, key(2), vec![0; 6_000]).await.unwrap_err().code(), "store_busy");
    medium.gate.open();
    first.await.unwrap();
    store.put(Table::Bundles, key(2), vec![0; 6_000]).await.unwrap();
}

/// A disk that fails at any point of a commit: the callers of that commit learn it, later writes are refused, reads go on
/// without a cache to help them, and after opening again everything acknowledged is there and no write is there by half.
#[tokio::test]
async fn a_failed_commit_ends_writing_and_not_reading() {
    let limits = Limits { cache_bytes: 0, ..Limits::default() };
    for calls in 0..40 {
        let medium = TestMedium::default();
        let store = Store::open_with_backend(medium.clone(), limits).unwrap();
        let mut acknowledged = Vec::new();
        let mut failed = None;
        for n in 0..100 {
            if n == 3 {
                medium.faults.fail_after(calls);
            }
            match store.write(vec![Op::put(Table::Bundles, key(n), key(n)), Op::put(Table::Events, key(n), key(n))]).await {
                Ok(()) => acknowledged.push((key(n), key(n))),
                Err(error) => {
                    failed = Some((n, error));
                    break;
                }
            }
        }
        let (n, error) = failed.expect("a hundred commits take more than forty calls");
        assert!(acknowledged.len() >= 3);
        let StoreError::CommitFailed { table, key: named, cause } = error else {
            panic!("after {calls} calls: {error}");
        };
        assert_eq!((table, named), (Table::Bundles, format!("0x{n:08x}")));

        let status = store.status();
        assert_eq!(status.read_only.as_deref(), Some(cause.as_str()));
        assert_eq!(status.commits, acknowledged.len() as u64);
        let refused = store.put(Table::Meta, key(0), key(0)).await.unwrap_err();
        assert_eq!(refused, StoreError::ReadOnly { cause: cause.clone() });
        for (key, value) in &acknowledged {
            assert_eq!(store.get(Table::Bundles, key).unwrap().as_ref(), Some(value), "after {calls} calls");
        }
        assert!(store.scan(Table::Events).unwrap().starts_with(&acknowledged), "after {calls} calls");
        drop(store);

        medium.faults.heal();
        let store = Store::open_with_backend(medium, limits).unwrap();
        let bundles = store.scan(Table::Bundles).unwrap();
        assert!(bundles.starts_with(&acknowledged), "after {calls} calls");
        assert!(bundles.len() <= acknowledged.len() + 1, "after {calls} calls");
        assert_eq!(store.scan(Table::Events).unwrap(), bundles, "after {calls} calls");
        store.put(Table::Meta, key(0), key(0)).await.unwrap();
    }
}

/// All that wait in a batch learn of its failure; those that wait behind it learn that nothing of theirs was written.
#[tokio::test]
async fn every_waiter_of_a_failed_commit_learns_of_it() {
    let batches = [0..1, 1..6, 6..11];
    let mut failed_batches = BTreeSet::new();
    for calls in 0..60 {
        let medium = TestMedium::default();
        let store = Store::open_with_backend(medium.clone(), Limits { max_batch: 5, ..Limits::default() }).unwrap();
        medium.gate.close();
        let mut writes: Vec<_> = (0..11).map(|n| Box::pin(store.put(Table::Bundles, key(n), key(n)))).collect();
        for (n, write) in writes.iter_mut().enumerate() {
            start(write.as_mut());
            if n == 0 {
                medium.gate.wait_for_writer();
            }
        }
        medium.faults.fail_after(calls);
        medium.gate.open();
        let mut codes = Vec::new();
        for write in writes {
            codes.push(write.await.err().map(|error| error.code()));
        }
        assert_eq!(store.status().queued, 0);
        let Some(first) = codes.iter().position(Option::is_some) else {
            continue;
        };
        let batch = batches.iter().find(|batch| batch.start == first).expect("a batch fails from its first write on");
        assert!(codes[batch.clone()].iter().all(|code| *code == Some("store_commit_failed")), "{codes:?}");
        assert!(codes[batch.end..].iter().all(|code| *code == Some("store_read_only")), "{codes:?}");
        failed_batches.insert(first);
    }
    assert!(failed_batches.contains(&0) && failed_batches.contains(&1), "{failed_batches:?}");
}

/// Order flow is private: what is logged shows keys and sizes.
#[test]
fn debug_output_shows_no_value() {
    let op = Op::put(Table::Bundles, b"\xab", b"secret");
    assert_eq!(format!("{op:?}"), "Put(bundles/0xab, 6 bytes)");
    assert_eq!(format!("{:?}", Op::delete(Table::Bids, b"\x01")), "Delete(bids/0x01)");
    assert_eq!(format!("{:?}", PutOutcome::Exists(b"secret".to_vec())), "Exists(6 bytes)");
}

#[tokio::test]
async fn what_is_queued_is_written_in_its_order_whoever_waits_first() {
    let store = Store::in_memory().unwrap();
    let put = |value: &[u8]| vec![Op::put(Table::Meta, b"key".to_vec(), value.to_vec())];
    let first = store.queue(put(b"first")).unwrap();
    let second = store.queue(put(b"second")).unwrap();
    second.written().await.unwrap();
    first.written().await.unwrap();
    assert_eq!(store.get(Table::Meta, b"key").unwrap(), Some(b"second".to_vec()));
    store.queue(Vec::new()).unwrap().written().await.unwrap();
    // What nobody waits for is written as well.
    drop(store.queue(put(b"third")).unwrap());
    store.queue(put(b"fourth")).unwrap().written().await.unwrap();
    assert_eq!(store.get(Table::Meta, b"key").unwrap(), Some(b"fourth".to_vec()));
}
