//! With thousands of bundles pending, how long does one more, one replaced or one cancelled take to be in the proposal?
//!
//! Timed is what the builder does for it: a new bundle is simulated, and the engine proposes. What changes one place of a block
//! changes what stands behind it, so the floor is a bare revm loop over the transactions behind the first place that changed,
//! rollups in parallel on as many threads. Most changes touch no block at all: what is pending fits three times over.

use std::{collections::BTreeMap, sync::Arc};

use alloy_primitives::{B256, I256};
use lockstep_building::{Candidate, Draft, Engine, Simulated, SlotView, seal_all, simulate_all};
use lockstep_primitives::{ChainId, RollupSet};
use lockstep_testkit::evidence;
use rayon::ThreadPool;

use super::{
    build::{bare_lists, signed},
    filled::{filled, searched, take},
    money,
};
use crate::{
    Failed, Flag, Options, Progress, Report, Requirement, Row, WorldSpec,
    bare::{Bare, BareTx},
    measure::{Samples, threads, timed},
    rng::Rng,
    workload::{Mix, Workload, fitting, raised, shuffle},
};

/// Which options it takes.
pub(super) const TAKES: &[Flag] = &[Flag::Threads, Flag::Rollups, Flag::Bundles, Flag::Artifacts];

/// Pending bundles.
const BUNDLES: usize = 10_000;
/// Changes of each kind.
const CHANGES: usize = 120;
/// Fewer changes than that are for trying things out: then nothing is required.
const REQUIRED_CHANGES: usize = 300;
/// Pools of each rollup: four hot ones and the rest.
const POOLS: usize = 64;
/// How many thousandths of the pending gas fit.
const ROOM: u64 = 300;
/// How often a list is cut to see how long its beginnings take, and how often each takes its time.
const CUTS: usize = 32;
const REPEATS: usize = 5;
/// Rounds of improvement after all changes, to compare what they are worth then.
const ROUNDS: u32 = 8;
/// What a change may take: that many times bare execution of what it touches, and that many seconds more.
const TIMES: f64 = 1.2;
const MORE: f64 = 1e-3;

/// Runs the scenario.
///
/// # Errors
/// When a change is not in the proposal, or anything fails.
pub(super) fn run(options: &Options) -> Result<Report, Failed> {
    let mut report = Report::new(options);
    let many = options.threads.unwrap_or(2);
    let pool = threads(Some(many))?;
    let spec = WorldSpec {
        rollups: options.rollups.unwrap_or(4),
        pools: POOLS,
        artifacts: options.artifacts.clone(),
        ..WorldSpec::default()
    };
    let count = options.bundles.unwrap_or(BUNDLES);
    let each = CHANGES.min(count / 4).max(1);
    let workload = Workload::draw(&spec, &Mix::busy(), count + each, options.seed)?;
    let (pending, newcomers) = workload.candidates.split_at(count);
    let simulated = pool.install(|| simulate_all(&workload.view, pending))?;
    let view = Arc::new(fitting(&workload.view, &simulated, ROOM));
    let changes = changes(&simulated, newcomers, options.seed)?;
    let floor = Floor::measure(&view, pending, &pool, many)?;
    let done = pool.install(|| apply(&view, pending, &changes, &floor))?;
    let enough = report.machine.cpus >= many && changes.len() >= REQUIRED_CHANGES;
    rows(&done, enough, &mut report);
    report.note(format!("busy slot: {}, with room for {} % of the gas", workload.description, ROOM / 10));
    report.note(
        "A newcomer is drawn as the others were; of two that follow each other in value for gas one is replaced by a version \
         that tips more and one is cancelled, from the dearest to the cheapest, in an order that is drawn. `allowed` is 1.2 \
         times bare execution of the touched suffix and 1 ms. Bare times are the fastest of five over beginnings of the sealed \
         lists, taken once before the changes.",
    );
    if report.machine.cpus < many {
        report.note(format!("There are {} processors for {many} threads: nothing is required.", report.machine.cpus));
    }
    Ok(report)
}

/// Something that happens to the pending bundles.
#[derive(Clone, Debug)]
struct Change {
    goes: Option<B256>,
    comes: Option<Candidate>,
}

impl Change {
    const KINDS: [&'static str; 3] = ["one more", "one replaced", "one cancelled"];

    const fn kind(&self) -> &'static str {
        match (&self.goes, &self.comes) {
            (None, _) => Self::KINDS[0],
            (Some(_), Some(_)) => Self::KINDS[1],
            (Some(_), None) => Self::KINDS[2],
        }
    }
}

/// As many of each kind as there are newcomers. What is replaced or cancelled is spread evenly over the pending bundles in the
/// order of their value for gas.
fn changes(simulated: &[Simulated], newcomers: &[Candidate], seed: u64) -> Result<Vec<Change>, Failed> {
    let mut by_density: Vec<&Simulated> = simulated.iter().collect();
    by_density.sort_by(|a, b| density(b).total_cmp(&density(a)));
    let places = newcomers.len() * 2;
    let spread = (0..places).filter_map(|place| by_density.get(place * by_density.len() / places));
    let (mut replaced, mut cancelled) = (Vec::new(), Vec::new());
    for (index, entry) in spread.enumerate() {
        let kind = if index % 2 == 0 { &mut replaced } else { &mut cancelled };
        kind.push(entry.candidate.clone());
    }
    let count = simulated.len() + newcomers.len();
    let newer = raised(&replaced, count, count as u64, seed)?;
    let added = newcomers.iter().map(|newcomer| Change { goes: None, comes: Some(newcomer.clone()) });
    let replacing = replaced.iter().zip(newer).map(|(older, newer)| Change { goes: Some(older.hash), comes: Some(newer) });
    let cancelling = cancelled.iter().map(|cancelled| Change { goes: Some(cancelled.hash), comes: None });
    let mut changes: Vec<Change> = added.chain(replacing).chain(cancelling).collect();
    shuffle(&mut changes, &mut Rng::new(seed));
    Ok(changes)
}

/// Value for gas, as the order in which bundles are tried has it; what is blocked alone is worth nothing.
fn density(entry: &Simulated) -> f64 {
    let gas: u64 = entry.attempt.run.gas.values().sum();
    let value = if entry.attempt.blocked.is_some() { I256::ZERO } else { entry.attempt.run.value };
    i128::try_from(value).map_or(f64::NAN, |value| value as f64) / gas.max(1) as f64
}

/// How long bare execution takes, by rollup: of the beginnings of its list, from none of it to all of it.
struct Floor {
    curves: BTreeMap<ChainId, Vec<(usize, f64)>>,
    threads: usize,
}

impl Floor {
    /// Of the lists of a proposal.
    fn measure(view: &Arc<SlotView>, pending: &[Candidate], pool: &ThreadPool, many: usize) -> Result<Self, Failed> {
        let (simulated, sealed) = pool.install(|| -> Result<_, Failed> {
            let mut engine = filled(view, pending)?;
            let draft = engine.draft(&view.rollups.keys().copied().collect())?;
            Ok((engine.simulated(), seal_all(view, &draft, &evidence(&draft), &signed)?))
        })?;
        let bare = Bare::new(view, &simulated)?;
        let lists = bare_lists(&sealed)?;
        let single = threads(Some(1))?;
        let progress = Progress::new("bare execution", lists.len());
        let mut curves = BTreeMap::new();
        for (chain, list) in sealed.keys().zip(&lists) {
            curves.insert(*chain, curve(&bare, &single, list)?);
            progress.step();
        }
        Ok(Self { curves, threads: many })
    }

    /// Seconds for everything behind the places, rollup by rollup.
    fn behind(&self, places: &BTreeMap<ChainId, usize>) -> f64 {
        let suffixes = places.iter().filter_map(|(chain, place)| {
            let curve = self.curves.get(chain)?;
            Some((curve.last()?.1 - at(curve, *place)).max(0.0))
        });
        together(suffixes, self.threads)
    }

    /// Seconds for everything.
    fn all(&self) -> f64 {
        self.behind(&self.curves.keys().map(|chain| (*chain, 0)).collect())
    }
}

/// Seconds for beginnings of a list, by their length.
fn curve(bare: &Bare, single: &ThreadPool, list: &[BareTx]) -> Result<Vec<(usize, f64)>, Failed> {
    let mut curve = Vec::with_capacity(CUTS + 1);
    let mut most = 0.0_f64;
    for cut in 0..=CUTS {
        let length = list.len() * cut / CUTS;
        let beginning = [list[..length].to_vec()];
        let mut samples = Samples::default();
        for _ in 0..REPEATS {
            samples.0.push(timed(|| bare.lists(single, &beginning))?.1);
        }
        // The fastest was disturbed least; and more of a list takes no less time, whatever the clock says.
        most = most.max(samples.percentile(0.0));
        curve.push((length, most));
    }
    Ok(curve)
}

/// The seconds for a beginning of that length, between the two that were measured.
fn at(curve: &[(usize, f64)], length: usize) -> f64 {
    let next = curve.partition_point(|(measured, _)| *measured <= length);
    let Some((below, seconds)) = next.checked_sub(1).and_then(|before| curve.get(before)).copied() else { return 0.0 };
    match curve.get(next) {
        Some((above, more)) => seconds + (more - seconds) * (length - below) as f64 / (above - below) as f64,
        None => seconds,
    }
}

/// How long pieces of work take on so many threads, each taken by whoever is free first, as the bare loop does.
fn together(pieces: impl Iterator<Item = f64>, threads: usize) -> f64 {
    let mut busy = vec![0.0_f64; threads.max(1)];
    for piece in pieces {
        busy.sort_by(f64::total_cmp);
        if let Some(first) = busy.first_mut() {
            *first += piece;
        }
    }
    busy.into_iter().fold(0.0, f64::max)
}

/// A change and what it took.
struct Done {
    kind: &'static str,
    seconds: f64,
    /// Bare execution of what it touched; none where no block changed.
    touched: Option<f64>,
}

/// All changes, and what is pending at the end by the engine that went through them and by one that begins anew.
struct Course {
    done: Vec<Done>,
    /// Bare execution of everything in the blocks, before.
    all: f64,
    kept: Later,
    anew: Later,
}

/// What is pending at the end is worth that much at once, and that much after some rounds of improvement.
#[derive(Clone, Copy, Debug)]
struct Later {
    at_once: I256,
    improved: I256,
}

impl Later {
    fn of(engine: &mut Engine, rollups: &RollupSet) -> Result<Self, Failed> {
        let stages = searched(engine, rollups, ROUNDS)?;
        match (stages.first(), stages.last()) {
            (Some(first), Some(last)) => Ok(Self { at_once: first.standing.value, improved: last.standing.value }),
            _ => Err("the search has no first proposal".into()),
        }
    }
}

fn apply(view: &Arc<SlotView>, pending: &[Candidate], changes: &[Change], floor: &Floor) -> Result<Course, Failed> {
    let rollups: RollupSet = view.rollups.keys().copied().collect();
    let mut engine = filled(view, pending)?;
    engine.propose(&rollups)?;
    let mut now: BTreeMap<B256, &Candidate> = pending.iter().map(|candidate| (candidate.hash, candidate)).collect();
    let mut before = lists(&engine.draft(&rollups)?);
    let mut done = Vec::with_capacity(changes.len());
    let progress = Progress::new("changes", changes.len());
    for change in changes {
        let (standing, seconds) = timed(|| {
            if let Some(hash) = change.goes
                && !engine.remove(hash)
            {
                return Err(format!("bundle {hash} is not there to be taken out").into());
            }
            if let Some(candidate) = &change.comes {
                take(&mut engine, std::slice::from_ref(candidate))?;
            }
            Ok(engine.propose(&rollups)?)
        })?;
        if let Some(hash) = &change.goes {
            now.remove(hash);
        }
        if let Some(candidate) = &change.comes {
            now.insert(candidate.hash, candidate);
        }
        let draft = engine.draft(&rollups)?;
        if draft.value != standing.value {
            return Err(format!("the draft is worth {}, the proposal was worth {}", draft.value, standing.value).into());
        }
        taken_into_account(change, &draft)?;
        let after = lists(&draft);
        let places = first_changes(&before, &after);
        let touched = (!places.is_empty()).then(|| floor.behind(&places));
        done.push(Done { kind: change.kind(), seconds, touched });
        before = after;
        progress.step();
    }
    let mut left: Vec<Candidate> = now.into_values().cloned().collect();
    left.sort_by_key(|candidate| candidate.sequence);
    let anew = Later::of(&mut filled(view, &left)?, &rollups)?;
    Ok(Course { done, all: floor.all(), kept: Later::of(&mut engine, &rollups)?, anew })
}

/// What comes is in the proposal, or why it is not is said; what goes is neither.
fn taken_into_account(change: &Change, draft: &Draft) -> Result<(), Failed> {
    let knows = |hash: B256| {
        draft.placed.iter().any(|placed| placed.hash == hash) || draft.left_out.iter().any(|(left_out, _)| *left_out == hash)
    };
    if let Some(hash) = change.goes.filter(|hash| knows(*hash)) {
        return Err(format!("bundle {hash} was taken out and is still there").into());
    }
    match &change.comes {
        Some(candidate) if !knows(candidate.hash) => Err(format!("the proposal does not know bundle {}", candidate.hash).into()),
        _ => Ok(()),
    }
}

type Lists = BTreeMap<ChainId, Vec<B256>>;

/// The listed transactions of every rollup.
fn lists(draft: &Draft) -> Lists {
    let hashes = draft.lanes.iter().map(|(chain, lane)| {
        let listed = lane.blocks.iter().flat_map(|block| block.listed());
        (*chain, listed.map(|executed| executed.tx.hash()).collect::<Vec<B256>>())
    });
    hashes.collect()
}

/// The first place at which each rollup's list is not what it was; rollups whose list is the same are left out.
fn first_changes(before: &Lists, after: &Lists) -> BTreeMap<ChainId, usize> {
    let changed = after.iter().filter_map(|(chain, after)| {
        let before = before.get(chain).map(Vec::as_slice).unwrap_or_default();
        let same = before.iter().zip(after).take_while(|(before, after)| before == after).count();
        (same < before.len().max(after.len())).then_some((*chain, same))
    });
    changed.collect()
}

fn rows(course: &Course, enough: bool, report: &mut Report) {
    let Course { done, all, kept, anew } = course;
    let of = |kind: Option<&str>| {
        Samples(done.iter().filter(|one| kind.is_none_or(|kind| one.kind == kind)).map(|one| one.seconds).collect())
    };
    let micros = |name: String, samples: &Samples, share: f64| {
        let samples = samples.map(|seconds| seconds * 1e6);
        Row { value: samples.percentile(share), ..Row::samples(name, "us", &samples) }
    };
    for kind in Change::KINDS {
        let samples = of(Some(kind));
        report.row(micros(format!("{kind}, p50"), &samples, 0.5));
        report.row(micros(format!("{kind}, p99"), &samples, 0.99));
    }
    let samples = of(None);
    report.row(micros("all changes, p50".to_owned(), &samples, 0.5));
    report.row(micros("all changes, p99".to_owned(), &samples, 0.99));
    let touched: Vec<(f64, f64)> = done.iter().filter_map(|one| Some((one.seconds, one.touched?))).collect();
    report.row(Row::value("changes", "changes", done.len() as f64));
    report.row(Row::value("changes that touch a block", "changes", touched.len() as f64));
    let seconds = Samples(touched.iter().map(|(seconds, _)| *seconds).collect());
    let floors = Samples(touched.iter().map(|(_, floor)| *floor).collect());
    report.row(Row::value("bare execution of everything in the blocks", "us", all * 1e6));
    if !touched.is_empty() {
        let floors = floors.map(|seconds| seconds * 1e6);
        report.row(Row::samples("bare execution of a touched suffix", "us", &floors));
        report.row(Row::paired(
            "changes that touch a block, beside bare execution of the suffix",
            "us",
            &seconds.map(|seconds| seconds * 1e6),
            &floors,
        ));
    }
    let allowed = Samples(done.iter().map(|one| one.seconds / (TIMES * one.touched.unwrap_or_default() + MORE)).collect());
    let row = Row { value: allowed.percentile(0.99), ..Row::samples("p99 of time by what is allowed", "times", &allowed) };
    report.row(if enough { row.require(Requirement::AtMost(1.0)) } else { row });
    let begins = "beside an engine that begins anew";
    report.row(money::beside(format!("value after all changes, {begins}"), kept.at_once, anew.at_once));
    report.row(money::beside(format!("value after all changes and {ROUNDS} rounds, {begins}"), kept.improved, anew.improved));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scenario_runs_on_a_few_bundles_and_ends_where_an_engine_that_begins_anew_does() {
        let options = Options { bundles: Some(40), ..Options::of("increment") };
        let report = run(&options).unwrap();
        let found = |name: &str| report.rows.iter().find(|row| row.name.contains(name)).unwrap();
        let counted = report.rows.iter().find(|row| row.name == "changes").unwrap();
        // Ten of each kind.
        assert_eq!(counted.value, 30.0);
        assert!(Change::KINDS.iter().all(|kind| found(kind).value > 0.0));
        assert!(found("by what is allowed").required.is_none(), "too few changes to require anything");
        // What was put into filled blocks at once is not what would have been chosen, until improving has been at it.
        assert!(found("after all changes, ").ratio.is_some_and(|ratio| ratio > 0.9));
        assert!(found("changes and 8 rounds").ratio.is_some_and(|ratio| ratio > 0.99));
    }

    #[test]
    fn changes_of_each_kind_are_spread_and_no_bundle_changes_twice() {
        let spec = WorldSpec { rollups: 2, pools: 0, ..WorldSpec::default() };
        let workload = Workload::draw(&spec, &Mix::independent(), 50, 1).unwrap();
        let (pending, newcomers) = workload.candidates.split_at(40);
        let simulated = simulate_all(&workload.view, pending).unwrap();
        let changes = changes(&simulated, newcomers, 1).unwrap();
        let count = |kind: &str| changes.iter().filter(|change| change.kind() == kind).count();
        assert_eq!(Change::KINDS.map(count), [10, 10, 10]);
        let gone: std::collections::BTreeSet<B256> = changes.iter().filter_map(|change| change.goes).collect();
        assert_eq!(gone.len(), 20);
        let mut ranks: Vec<f64> = simulated.iter().map(density).collect();
        ranks.sort_by(|a, b| b.total_cmp(a));
        let dearest_half = simulated.iter().filter(|entry| gone.contains(&entry.candidate.hash) && density(entry) >= ranks[20]);
        assert!((8..=12).contains(&dearest_half.count()));
    }

    #[test]
    fn what_changed_is_what_stands_behind_the_first_difference() {
        let hash = B256::repeat_byte;
        let lists = |first: &[u8], second: &[u8]| -> Lists {
            let list = |bytes: &[u8]| -> Vec<B256> { bytes.iter().copied().map(hash).collect() };
            Lists::from([(1, list(first)), (2, list(second))])
        };
        let before = lists(&[1, 2, 3], &[4, 5]);
        assert_eq!(first_changes(&before, &before), BTreeMap::new());
        assert_eq!(first_changes(&before, &lists(&[1, 9, 2, 3], &[4, 5, 6])), BTreeMap::from([(1, 1), (2, 2)]));
        assert_eq!(first_changes(&before, &lists(&[1, 2, 3], &[4])), BTreeMap::from([(2, 1)]));
    }

    #[test]
    fn bare_times_lie_between_those_that_were_measured_and_threads_share_them() {
        let curve = [(0, 1.0), (10, 3.0), (20, 3.0), (30, 9.0)];
        assert_eq!([0, 5, 10, 15, 25, 30, 40].map(|length| at(&curve, length)), [1.0, 2.0, 3.0, 3.0, 6.0, 9.0, 9.0]);
        let floor = Floor { curves: [(1, curve.to_vec()), (2, curve.to_vec()), (3, curve.to_vec())].into(), threads: 2 };
        // Eight seconds each, on two threads.
        assert_eq!(floor.all(), 16.0);
        assert_eq!(floor.behind(&[(1, 25), (2, 30)].into()), 3.0);
        // A list that was shorter when it was measured, or cut into nothing.
        assert_eq!((at(&[], 4), at(&[(0, 2.0), (0, 2.0)], 0)), (0.0, 2.0));
    }
}
