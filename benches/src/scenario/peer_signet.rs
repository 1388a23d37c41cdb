//! What does signet-sim take and earn on the same transactions and bundles?
//!
//! signet-sim 0.19 builds blocks of one rollup with bundles that reach its host chain. It needs another alloy and another revm,
//! so it is a program of its own (`benches/peer-signet`), which is built for this scenario alone and asked run by run while
//! Lockstep takes turns with it. Both sides begin with what is pending after admission, with signers known and nothing simulated,
//! and end with a block. Both have the same number of threads, the same allocator and the same optimization.
//!
//! Transfers only: signet-sim loses contract storage between rounds, so that nothing that it says of contracts can be compared.

use std::{collections::BTreeSet, fs, hint::black_box, path::Path, process::Command};

use alloy_primitives::{B256, ChainId, I256};
use lockstep_building::{Draft, EvidenceMap, SealedList, seal_all};
use rayon::ThreadPool;

use crate::{
    Failed, Flag, Options, Progress, Report, Requirement, Row,
    measure::{Paired, Samples, repeats, rounds, threads, time},
};

use self::{
    order_flow::{HOST, OrderFlow, ROLLUP, Shape},
    process::{Library, Peer, build, command},
    wire::Answer,
};
use super::{build::signed, filled::filled, money::beside};

mod order_flow;
mod process;
#[path = "../../peer-signet/src/wire.rs"]
mod wire;

/// Which options it takes.
pub(super) const TAKES: &[Flag] = &[Flag::Threads, Flag::Bundles, Flag::Pairs];

/// How many items are pending.
const SIZES: [usize; 3] = [10, 100, 1_000];
/// Threads of ours, and simulations at a time of theirs.
const THREADS: usize = 2;
/// Room in thousandths of the gas that everything pending takes: enough for all of it, and for half.
const AMPLE: u64 = 2_000;
const HALF: u64 = 500;
/// How many times as fast ours has to be.
const TRANSFERS: f64 = 100.0;
const HOST_AND_ROLLUP: f64 = 12.0;

/// Runs the scenario.
///
/// # Errors
/// When the peer cannot be built or run, when the two sides do not do the same, or anything else fails.
pub(super) fn run(options: &Options) -> Result<Report, Failed> {
    let binary = build()?;
    let start = |workload: &Path, library| command(&binary, workload, library);
    let mut report = Report::new(options);
    let threads = options.threads.unwrap_or(THREADS);
    let comparison = Comparison::new(options, threads, &start)?;
    let sizes = options.bundles.map_or_else(|| SIZES.to_vec(), |items| vec![items]);
    for shape in Shape::ALL {
        for items in &sizes {
            comparison.run(&Subject { shape, items: *items, room: AMPLE }, &mut report)?;
        }
    }
    // Where not everything fits, values are the same only if the same is chosen.
    let items = sizes.into_iter().max().unwrap_or_default();
    comparison.run(&Subject { shape: Shape::Transfers, items, room: HALF }, &mut report)?;
    notes(&mut report, threads);
    Ok(report)
}

fn notes(report: &mut Report, threads: usize) {
    report.note(format!(
        "value: ours in items a second; floor: signet-sim 0.19.0, {threads} simulations at a time, ours on {threads} \
         threads; ratio: median over the pairs, how many times as fast we are. `stock` is signet-sim as published; in \
         `C library` its signatures are recovered by the library that Lockstep uses, with which it could be built."
    ));
    report.note(
        "timed, theirs: rounds of `SharedSimEnv::sim_round` until nothing is left, as `BlockBuild::run_build` makes \
         them, but without its sleep until a deadline; state in memory. Timed, ours: `Engine::open`, `insert`, which \
         simulates every bundle, and `draft`; in the rows `sealed and verified` also `seal_all`, which executes all \
         lists once more on fresh EVMs. Theirs executes nothing once more.",
    );
    report.note(
        "what signet-sim does and we do not: it checks fills on the host against orders on the rollup; a wall-clock \
         deadline stops it wherever it is, within a simulation, too; it recovers the signer of a single transaction at \
         every simulation.",
    );
    report.note(
        "what we do and signet-sim does not: blocks of any number of rollups (it builds one rollup's and lists \
         transactions for the host, host legs always before rollup legs); messages between them; a bundle is simulated \
         once and its result kept (it simulates the few that offer the highest fees, takes the best of them and \
         simulates the others again); a bound on what could be earned; bundles that pay the rollup's beneficiary \
         nothing may stay; what host legs pay counts. It does not count that, so it is added to its value of bundles \
         over both chains.",
    );
    report.note(
        "values are compared on transfers: signet-sim replaces whole accounts by what one simulation touched of them, \
         and so loses contract storage between rounds.",
    );
    let cpus = report.machine.cpus;
    if cpus < threads {
        report.note(format!("There are {cpus} processors for {threads} threads: nothing is required of the times."));
    }
}

/// What is compared.
struct Subject {
    shape: Shape,
    items: usize,
    /// In thousandths of the gas that everything pending takes.
    room: u64,
}

impl Subject {
    fn name(&self) -> String {
        let Self { shape, items, room } = self;
        let room = if *room == AMPLE { String::new() } else { format!(", room for {} %", room / 10) };
        format!("{items} {}{room}", shape.name())
    }

    /// How many times as fast ours has to be.
    const fn required(&self) -> Option<f64> {
        match self.shape {
            _ if self.room != AMPLE => None,
            Shape::Transfers => Some(TRANSFERS),
            Shape::Bundles => None,
            Shape::HostAndRollup => Some(HOST_AND_ROLLUP),
        }
    }
}

/// How subjects are compared.
struct Comparison<'a> {
    options: &'a Options,
    threads: usize,
    pool: ThreadPool,
    /// How the peer is run on the workload in a file.
    start: &'a dyn Fn(&Path, Library) -> Command,
}

impl<'a> Comparison<'a> {
    fn new(options: &'a Options, count: usize, start: &'a dyn Fn(&Path, Library) -> Command) -> Result<Self, Failed> {
        Ok(Self { options, threads: count, pool: threads(Some(count))?, start })
    }

    fn run(&self, subject: &Subject, report: &mut Report) -> Result<(), Failed> {
        let name = subject.name();
        let flow = OrderFlow::draw(subject.shape, subject.items, subject.room, self.options.seed)?;
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("workload.json");
        fs::write(&path, serde_json::to_vec(&flow.for_peer(self.threads)?)?)?;
        let mut stock = Peer::start(&mut (self.start)(&path, Library::Stock))?;
        let mut in_c = Peer::start(&mut (self.start)(&path, Library::C))?;

        let draft = self.pool.install(|| drafted(&flow))?;
        let answers = [stock.ask(1)?, in_c.ask(1)?];
        for answer in &answers {
            check(subject, &flow, &draft, answer).map_err(|error| format!("{name}: {error}"))?;
        }

        let plan = self.options.plan();
        let mut draw_up = || -> Result<(), Failed> {
            black_box(self.pool.install(|| drafted(&flow))?);
            Ok(())
        };
        let mut seal_up = || -> Result<(), Failed> {
            black_box(self.pool.install(|| sealed(&flow))?);
            Ok(())
        };
        let times = repeats(&plan, time(1, &mut draw_up)?);
        let (stock_runs, c_runs) = (repeats(&plan, stock.seconds(1)?), repeats(&plan, in_c.seconds(1)?));
        let mut ours = || time(times, &mut draw_up);
        let mut ours_sealed = || time(times, &mut seal_up);
        let mut theirs = || stock.seconds(stock_runs);
        let mut theirs_in_c = || in_c.seconds(c_runs);
        let progress = Progress::new(&name, plan.pairs);
        let measured = rounds(&plan, &progress, &mut [&mut ours, &mut theirs, &mut theirs_in_c, &mut ours_sealed])?;
        let mut measured = measured.into_iter();
        let mut next = || measured.next().unwrap_or_default();
        let (ours, theirs, theirs_in_c, ours_sealed) = (next(), next(), next(), next());

        let row = |label: &str, ours: &Samples, floor: &Samples| {
            let paired = Paired { ours: ours.clone(), floor: floor.clone() };
            Row::speed(format!("{name}: {label}"), "items/s", subject.items, &paired)
        };
        let required = subject.required().filter(|_| report.machine.cpus >= self.threads);
        let first = row("beside stock", &ours, &theirs);
        report.row(match required {
            Some(least) => first.require_if(self.options, Requirement::AtLeast(least)),
            None => first,
        });
        report.row(row("beside stock, ours sealed and verified", &ours_sealed, &theirs));
        report.row(row("beside C library", &ours, &theirs_in_c));
        values(subject, &draft, &answers, report)
    }
}

/// What both sides earn.
fn values(subject: &Subject, draft: &Draft, answers: &[Answer; 2], report: &mut Report) -> Result<(), Failed> {
    let name = subject.name();
    let [stock, _] = answers;
    let theirs = worth(stock)?;
    report.row(beside(format!("{name}: value"), draft.value, theirs));
    if subject.shape == Shape::Transfers {
        for (answer, library) in answers.iter().zip(["stock", "C library"]) {
            let apart = apart(draft.value, worth(answer)?);
            let row = Row::value(format!("{name}: by how much the values differ, {library}"), "wei", apart);
            report.row(row.require(Requirement::AtMost(0.0)));
        }
    }
    Ok(())
}

/// Everything that the answer's block pays, on both chains.
fn worth(answer: &Answer) -> Result<I256, Failed> {
    let worth = answer.value.checked_add(answer.host_value).ok_or("the peer's values are too large")?;
    Ok(I256::try_from(worth)?)
}

/// The difference, which is zero only where both are the same.
fn apart(ours: I256, theirs: I256) -> f64 {
    let apart = ours.checked_sub(theirs).and_then(|apart| u128::try_from(apart.unsigned_abs()).ok());
    apart.map_or(f64::INFINITY, |apart| apart as f64)
}

/// Both sides do the same, or nothing is compared.
fn check(subject: &Subject, flow: &OrderFlow, draft: &Draft, answer: &Answer) -> Result<(), Failed> {
    for (chain, theirs) in [(HOST, &answer.host_included), (ROLLUP, &answer.included)] {
        let ours = listed(draft, chain);
        let distinct: BTreeSet<B256> = theirs.iter().copied().collect();
        if distinct.len() != theirs.len() {
            return Err(format!("the peer lists a transaction of chain {chain} twice").into());
        }
        let pending = flow.transactions(chain);
        if subject.room == AMPLE && (ours.len() != pending || distinct != ours) {
            let theirs = theirs.len();
            return Err(format!("of {pending} transactions on chain {chain} ours has {} and theirs {theirs}", ours.len()).into());
        }
        if ours.len() != distinct.len() {
            return Err(format!("on chain {chain} ours has {} transactions and theirs {}", ours.len(), distinct.len()).into());
        }
    }
    Ok(())
}

/// The transactions of a draft on a chain.
fn listed(draft: &Draft, chain: ChainId) -> BTreeSet<B256> {
    let blocks = draft.lanes.get(&chain).map(|lane| lane.blocks.as_slice()).unwrap_or_default();
    blocks.iter().flat_map(|block| block.listed()).map(|executed| executed.tx.hash()).collect()
}

/// A block of each chain, from nothing but what is pending.
fn drafted(flow: &OrderFlow) -> Result<Draft, Failed> {
    Ok(filled(&flow.view, &flow.candidates)?.draft(&flow.rollups())?)
}

/// As [`drafted`], and then what production does before it lets a list out.
fn sealed(flow: &OrderFlow) -> Result<Vec<SealedList>, Failed> {
    let draft = drafted(flow)?;
    // There are no relays, so nothing needs evidence.
    Ok(seal_all(&flow.view, &draft, &EvidenceMap::new(), &signed)?.into_values().collect())
}

#[cfg(all(test, unix))]
mod tests {
    use alloy_primitives::U256;

    use super::*;

    const PLAIN: Subject = Subject { shape: Shape::HostAndRollup, items: 3, room: AMPLE };

    fn options() -> Options {
        Options { pairs: 1, ..Options::of("peer-signet") }
    }

    /// What a peer answers that does as we do, and takes a second for it.
    fn as_ours(subject: &Subject) -> Answer {
        let flow = OrderFlow::draw(subject.shape, subject.items, subject.room, options().seed).expect("a test can do this");
        let draft = drafted(&flow).expect("a test can do this");
        Answer {
            times_ns: vec![1_000_000_000],
            value: U256::try_from(draft.value).expect("a test can do this"),
            host_value: U256::ZERO,
            included: listed(&draft, ROLLUP).into_iter().collect(),
            host_included: listed(&draft, HOST).into_iter().collect(),
        }
    }

    /// Compares with a peer that always answers the same, without building it.
    fn compare(subject: &Subject, answer: &Answer) -> Result<Report, Failed> {
        let folder = tempfile::tempdir().expect("a test can do this");
        let path = folder.path().join("answer.json");
        fs::write(&path, format!("{}\n", serde_json::to_string(answer).expect("a test can do this")))
            .expect("a test can do this");
        let start = |_: &Path, _: Library| {
            let mut command = Command::new("sh");
            command.args(["-c", "while read -r question; do cat \"$0\"; done"]).arg(&path);
            command
        };
        let options = options();
        let mut report = Report::new(&options);
        Comparison::new(&options, 1, &start).expect("a test can do this").run(subject, &mut report)?;
        Ok(report)
    }

    #[test]
    fn the_scenario_runs_on_a_few_items_beside_a_peer_that_does_the_same() {
        for shape in Shape::ALL {
            let subject = Subject { shape, ..PLAIN };
            let report = compare(&subject, &as_ours(&subject)).unwrap();
            let compared = report.rows.iter().filter(|row| row.unit == "items/s");
            assert!(compared.clone().all(|row| row.floor == Some(3.0)), "{shape:?}: the peer's own clock counts");
            assert_eq!(compared.count(), 3, "{shape:?}");
            assert!(report.rows[0].required.is_none(), "one pair is too few to require anything of times");
            assert!(report.failed().is_empty(), "{shape:?}");
            let value = report.rows.iter().find(|row| row.name.ends_with(": value")).unwrap();
            assert!(value.value > 0.0 && value.ratio == Some(1.0), "{shape:?}");
        }
    }

    #[test]
    fn a_wei_of_difference_on_transfers_does_not_hold() {
        let subject = Subject { shape: Shape::Transfers, ..PLAIN };
        let mut answer = as_ours(&subject);
        answer.value += U256::from(1);
        let report = compare(&subject, &answer).unwrap();
        let failed = report.failed();
        assert_eq!(failed.iter().map(|row| row.value).collect::<Vec<_>>(), [1.0, 1.0]);
    }

    #[test]
    fn where_half_fits_both_sides_may_choose_but_not_take_more() {
        let subject = Subject { shape: Shape::Transfers, items: 200, room: HALF };
        let answer = as_ours(&subject);
        assert_eq!(answer.included.len(), 100);
        let report = compare(&subject, &answer).unwrap();
        assert!(report.failed().is_empty());
        let short = Answer { included: answer.included[1..].to_vec(), ..answer };
        let error = compare(&subject, &short).unwrap_err().to_string();
        assert!(error.contains("100") && error.contains("99"), "{error}");
    }

    #[test]
    fn what_is_not_the_same_is_not_compared() {
        let mut answer = as_ours(&PLAIN);
        answer.host_included.pop();
        let error = compare(&PLAIN, &answer).unwrap_err().to_string();
        assert!(error.contains("of 3 transactions") && error.contains(&HOST.to_string()), "{error}");
        let mut answer = as_ours(&PLAIN);
        answer.included.push(answer.included[0]);
        let error = compare(&PLAIN, &answer).unwrap_err().to_string();
        assert!(error.contains("twice"), "{error}");
    }
}
