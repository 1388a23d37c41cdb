//! What does it cost that a bundle is on disk before it is acknowledged, and how long does it take until they are back?
//!
//! The production path: the store as the node opens it, with writes from as many senders as the intake has connections, each
//! waiting for its own; and a whole node that is started again on what it had acknowledged. The floors are the same store that
//! keeps everything in memory, the same store with a sync for every write, and a node that starts with nothing.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Instant,
};

use lockstep_store::{Limits, Store, Table};
use tempfile::TempDir;

use crate::{
    Failed, Flag, Options, Progress, Report, Requirement, Row,
    measure::Samples,
    scenario::intake::{
        load,
        requests::{Requests, users},
        server::{CHAIN, Node},
    },
};

/// Which options it takes.
pub(super) const TAKES: &[Flag] = &[Flag::Bundles, Flag::Pairs];

/// Bundles that are written in a run.
const BUNDLES: usize = 20_000;
/// Of them, those that are written with a sync each: it would take minutes with more.
const ALONE: usize = 10;
/// Pending bundles of the growth table.
const PENDING: &[usize] = &[1_000, 10_000, 100_000];
/// What has to be won over a sync for every write.
const WON: f64 = 5.0;
/// How long 100,000 bundles may take to be back, in seconds.
const BACK_S: f64 = 30.0;

/// Runs the scenario.
///
/// # Errors
/// When a write fails, a bundle is refused, or what was acknowledged is not back.
pub(super) fn run(options: &Options) -> Result<Report, Failed> {
    let mut report = Report::new(options);
    let count = options.bundles.unwrap_or(BUNDLES);
    let pending: Vec<usize> = options.bundles.map_or_else(|| PENDING.to_vec(), |bundles| vec![bundles]);
    let runs = options.pairs.max(1);
    let progress = Progress::new("durable", runs + pending.len());
    let most = pending.iter().copied().max().unwrap_or_default().max(count);
    let asked = Node::start(most, false)?;
    let nonces = asked.nonces(&users())?;
    asked.stop();
    let requests = Requests::draw(CHAIN, most, &nonces, options.seed);

    let (mut grouped, mut memory, mut alone) = (Written::default(), Written::default(), Written::default());
    for _ in 0..runs {
        let values = &requests.bytes[..count];
        grouped.add(write(&on_disk(Limits::default())?.1, values)?);
        memory.add(write(&Store::in_memory()?, values)?);
        alone.add(write(&on_disk(Limits { max_batch: 1, ..Limits::default() })?.1, &values[..count.div_ceil(ALONE)])?);
        progress.step();
    }
    let ratio = grouped.rate.by(&alone.rate).median();
    let speed = Row { ratio: Some(ratio), ..Row::samples("on disk, synced together", "bundles/s", &grouped.rate) };
    let speed = Row { floor: Some(alone.rate.median()), ..speed };
    report.row(speed.require_if(options, Requirement::AtLeast(WON)));
    report.row(Row::samples("a: in memory", "bundles/s", &memory.rate));
    report.row(Row::samples("b: on disk, a sync each", "bundles/s", &alone.rate));
    for (name, written) in [("synced together", &grouped), ("a: in memory", &memory), ("b: a sync each", &alone)] {
        for (label, share) in [("p50", 0.5), ("p99", 0.99)] {
            report.row(Row::value(format!("{label} until acknowledged, {name}"), "ms", written.seconds.percentile(share) * 1e3));
        }
    }
    let empty = started(None, 0, most)?.0;
    for pending in pending {
        let folder = fill(&requests, pending, most)?;
        let (seconds, _folder) = started(Some(folder), pending, most)?;
        let row = Row::value(format!("back after a restart: {pending} pending"), "s", seconds).beside(empty);
        // Of the time itself: the node that starts with nothing is there to be taken off.
        let row = Row { ratio: None, ..row };
        let is_most = pending == PENDING[PENDING.len() - 1];
        report.row(if is_most { row.require_if(options, Requirement::AtMost(BACK_S)) } else { row });
        progress.step();
    }
    report.note(format!(
        "{count} records as long as the requests of three signed transfers, by {} senders, each of which waits for its own before \
         the next; with a sync each {} of them, beside which the first row's ratio stands. Latencies are of the same runs, closed \
         loop.",
        load::CONNECTIONS,
        count.div_ceil(ALONE)
    ));
    report.note(
        "back after a restart: from the start of a whole node until it serves, with every signature recovered anew; floor: the \
         same without a bundle. What the whole way into a durable pool costs is told by the scenario `intake`. Files are in the \
         system's folder for temporary files (TMPDIR names another).",
    );
    Ok(report)
}

/// What was measured of writes.
#[derive(Default)]
struct Written {
    rate: Samples,
    seconds: Samples,
}

impl Written {
    fn add(&mut self, (rate, seconds): (f64, Vec<f64>)) {
        self.rate.0.push(rate);
        self.seconds.0.extend(seconds);
    }
}

fn on_disk(limits: Limits) -> Result<(TempDir, Store), Failed> {
    let folder = tempfile::tempdir()?;
    let store = Store::open_with(&folder.path().join("store.redb"), limits)?;
    Ok((folder, store))
}

/// Writes every value once. How many a second, and how long each took.
fn write(store: &Store, values: &[Vec<u8>]) -> Result<(f64, Vec<f64>), Failed> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let (next, values) = (Arc::new(AtomicUsize::new(0)), Arc::new(values.to_vec()));
    let began = Instant::now();
    let seconds = runtime.block_on(async {
        let senders: Vec<_> = (0..load::CONNECTIONS)
            .map(|_| {
                let (store, next, values) = (store.clone(), Arc::clone(&next), Arc::clone(&values));
                tokio::spawn(async move {
                    let mut seconds = Vec::new();
                    loop {
                        let index = next.fetch_add(1, Ordering::Relaxed);
                        let Some(value) = values.get(index).cloned() else { return Ok(seconds) };
                        let began = Instant::now();
                        store.put(Table::Bundles, (index as u64).to_be_bytes().to_vec(), value).await?;
                        seconds.push(began.elapsed().as_secs_f64());
                    }
                })
            })
            .collect();
        let mut seconds = Vec::with_capacity(values.len());
        for sender in senders {
            let done: Result<Vec<f64>, lockstep_store::StoreError> = sender.await?;
            seconds.extend(done?);
        }
        Ok::<_, Failed>(seconds)
    })?;
    let rate = values.len() as f64 / began.elapsed().as_secs_f64();
    if store.len(Table::Bundles)? != values.len() as u64 {
        return Err("not everything that was acknowledged is there".into());
    }
    Ok((rate, seconds))
}

/// A folder in which so many bundles are pending.
fn fill(requests: &Requests, pending: usize, room: usize) -> Result<TempDir, Failed> {
    let node = Node::start(room, true)?;
    let part = Arc::new(requests.bytes[..pending].to_vec());
    load::closed(node.address(), &part)?;
    node.check_kept(pending)?;
    node.stop_keeping().ok_or_else(|| "the node has no folder".into())
}

/// How long a node takes until it serves, with so many bundles pending.
fn started(folder: Option<TempDir>, pending: usize, room: usize) -> Result<(f64, Option<TempDir>), Failed> {
    let folder = match folder {
        Some(folder) => folder,
        None => tempfile::tempdir()?,
    };
    let began = Instant::now();
    let node = Node::start_in(Some(folder), room)?;
    let seconds = began.elapsed().as_secs_f64();
    let back = node.pending()?;
    if back != pending as u64 {
        return Err(format!("{pending} bundles were acknowledged and {back} are back").into());
    }
    Ok((seconds, node.stop_keeping()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_acknowledged_is_there_and_comes_back() {
        let report = run(&Options { bundles: Some(12), pairs: 1, ..Options::of("durable") }).unwrap();
        assert_eq!(report.rows.len(), 10);
        assert!(report.rows.iter().all(|row| row.value > 0.0));
    }
}
