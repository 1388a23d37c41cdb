//! How do times and memory grow with rollups, pending bundles, bundles over several rollups, and conflicts?
//!
//! A table of growth, one thing changed at a time. The floor is a bare revm loop over everything that is pending. With the
//! number of pending bundles grows everything that keeps the sizes of conflict groups as they are: pools, and room in the blocks.

use std::sync::Arc;

use lockstep_building::{Candidate, Engine, SearchLimits, SlotView, simulate_all};
use lockstep_primitives::RollupSet;
use rayon::ThreadPool;

use super::{
    filled::{filled, take},
    groups,
};
use crate::{
    Failed, Flag, Options, Progress, Report, Requirement, Row, WorldSpec,
    bare::Bare,
    machine::{memory_bytes, peak_memory_bytes},
    measure::{Paired, Samples, threads, timed},
    workload::{Kind, Mix, Workload, fitting},
};

/// Which options it takes. With `--rollups` and `--bundles` the table ends there.
pub(super) const TAKES: &[Flag] = &[Flag::Threads, Flag::Rollups, Flag::Bundles];

/// How many bundles are pending; the last few only when they are asked for.
const PENDING: [usize; 7] = [1_000, 4_000, 10_000, 25_000, 50_000, 100_000, 200_000];
const DEFAULT_MOST: usize = 50_000;
const MOST: usize = 200_000;
const ROLLUPS: [usize; 6] = [2, 4, 8, 16, 32, 64];
/// Shares of bundles over two rollups, and of those on a few hot pools, in thousandths.
const SHARES: [u64; 5] = [0, 250, 500, 750, 1_000];
/// How many bundles are pending where something else changes, and on how many rollups.
const SWEPT: usize = 4_000;
const SWEPT_ROLLUPS: usize = 4;
/// Runs of each size, of which the median counts.
const RUNS: usize = 3;
/// How many thousandths of the pending gas fit.
const ROOM: u64 = 300;
/// Growth is held against that of n log n from that many bundles on, and may be more by this factor.
const HELD_FROM: usize = 4_000;
const HELD: f64 = 1.5;
/// Where pools grow with what is pending: swaps in a thousand draws, and swaps a pool.
const SWAPS: u64 = 220;
const SWAPS_A_POOL: usize = 4;

/// Runs the scenario.
///
/// # Errors
/// When more is asked for than can be measured, or anything fails.
pub(super) fn run(options: &Options) -> Result<Report, Failed> {
    let most = options.bundles.unwrap_or(DEFAULT_MOST);
    let most_rollups = options.rollups.unwrap_or(ROLLUPS[ROLLUPS.len() - 1]);
    if most > MOST || most_rollups < 2 {
        return Err(format!(
            "the table goes up to {MOST} bundles and begins with 2 rollups; {most} and {most_rollups} are given"
        )
        .into());
    }
    let mut report = Report::new(options);
    let pool = threads(Some(options.threads.unwrap_or(2)))?;
    let swept = SWEPT.min(most);
    let few = SWEPT_ROLLUPS.min(most_rollups);
    let mut sizes: Vec<usize> = PENDING.iter().copied().filter(|size| *size < most).collect();
    sizes.push(most);

    let mut points: Vec<Point> = sizes.iter().map(|size| Point::growing(*size, few)).collect();
    let rollups = ROLLUPS.iter().copied().filter(|rollups| *rollups <= most_rollups);
    points.extend(rollups.map(|rollups| Point::new(format!("{rollups} rollups"), swept, rollups, Mix::independent())));
    points.extend(SHARES.iter().map(|share| {
        let shares = [(Kind::Cctp, *share), (Kind::Transfer, 1_000 - share)];
        Point::new(format!("{} % cross-rollup", share / 10), swept, few, Mix::new("cross-rollup", &shares))
    }));
    points.extend(SHARES.iter().map(|share| {
        let shares = [(Kind::HotSwap, *share), (Kind::Transfer, 1_000 - share)];
        Point::new(format!("{} % in conflict", share / 10), swept, few, Mix::new("conflicts", &shares))
    }));

    let progress = Progress::new("scale", points.len());
    let mut growth = Vec::new();
    for (index, point) in points.iter().enumerate() {
        let figures = point.measure(options.seed, &pool, &mut report)?;
        if index < sizes.len() {
            growth.push((point.pending, figures));
        }
        progress.step();
    }
    held(&growth, &mut report);
    let bytes = pool.install(|| bytes_a_bundle(&Point::growing(most, few), options.seed))?;
    match bytes.zip(peak_memory_bytes()) {
        Some((bytes, peak)) => {
            report.row(Row::value(format!("memory a pending bundle, {most} pending"), "bytes", bytes));
            report.row(Row::value("peak memory, workloads included", "MiB", peak as f64 / f64::from(1 << 20)));
        }
        None => report.note("The system does not say how much memory the process holds."),
    }
    report.note(
        "insert: `Engine::insert` of everything at once, simulation included; propose: the first `Engine::propose` for all \
         rollups after that; floor: a bare revm loop over everything, once. Medians of three runs, not paired. Blocks have room \
         for 30 % of the gas. Memory is what the process grows by while the second half of the bundles is taken in.",
    );
    report.note(format!(
        "growing: {}; a pool for every {SWAPS_A_POOL} swaps, so that the sizes of conflict groups stay as they are",
        growing_mix().description()
    ));
    Ok(report)
}

/// A line of the table.
struct Point {
    label: String,
    pending: usize,
    spec: WorldSpec,
    mix: Mix,
}

/// Median seconds.
struct Figures {
    insert: f64,
    propose: f64,
}

impl Point {
    fn new(what: String, pending: usize, rollups: usize, mix: Mix) -> Self {
        let spec = WorldSpec { rollups, pools: mix.hot_pools * 2, ..WorldSpec::default() };
        Self { label: format!("{pending} pending, {what}"), pending, spec, mix }
    }

    /// With as many pools as keep the conflict groups small.
    fn growing(pending: usize, rollups: usize) -> Self {
        let mix = growing_mix();
        // A draw is one bundle, or a chain of five: a thousand draws are 1,120 bundles.
        let swaps = SWAPS as usize * pending / 1_120;
        let pools = mix.hot_pools + (swaps / (SWAPS_A_POOL * rollups)).max(2);
        let point = Self::new(format!("{rollups} rollups, growing"), pending, rollups, mix);
        Self { spec: WorldSpec { pools, ..point.spec }, ..point }
    }

    fn slot(&self, seed: u64) -> Result<(Arc<SlotView>, Vec<Candidate>), Failed> {
        let workload = Workload::draw(&self.spec, &self.mix, self.pending, seed)?;
        let simulated = simulate_all(&workload.view, &workload.candidates)?;
        Ok((Arc::new(fitting(&workload.view, &simulated, ROOM)), workload.candidates))
    }

    fn measure(&self, seed: u64, pool: &ThreadPool, report: &mut Report) -> Result<Figures, Failed> {
        let label = &self.label;
        let (view, candidates) = pool.install(|| self.slot(seed))?;
        let rollups: RollupSet = view.rollups.keys().copied().collect();
        let simulated = pool.install(|| simulate_all(&view, &candidates))?;
        let bare = Bare::new(&view, &simulated)?;
        drop(simulated);
        let (mut insert, mut propose, mut floor) = (Samples::default(), Samples::default(), Samples::default());
        for _ in 0..RUNS {
            let (inserting, proposing) = pool.install(|| -> Result<_, Failed> {
                let mut engine = Engine::open(Arc::clone(&view), SearchLimits::default())?;
                let ((), inserting) = timed(|| take(&mut engine, &candidates))?;
                let (_, proposing) = timed(|| Ok(engine.propose(&rollups)?))?;
                Ok((inserting, proposing))
            })?;
            insert.0.push(inserting);
            propose.0.push(proposing);
            floor.0.push(timed(|| bare.each(pool))?.1);
        }
        let sizes = pool.install(|| -> Result<_, Failed> { Ok(filled(&view, &candidates)?.group_sizes()?) })?;
        let figures = Figures { insert: insert.median(), propose: propose.median() };
        let row = |what: &str, ours: Samples| Row::time_ms(format!("{what}, {label}"), &Paired { ours, floor: floor.clone() });
        report.row(row("insert", insert));
        report.row(row("propose", propose));
        groups::rows(label, &sizes, report);
        Ok(figures)
    }
}

/// A tenth over two rollups, a fifth swaps, and nonce chains.
fn growing_mix() -> Mix {
    Mix::new(
        "growing",
        &[(Kind::Transfer, 370), (Kind::Erc20, 270), (Kind::ColdSwap, SWAPS), (Kind::Cctp, 110), (Kind::NonceChain, 30)],
    )
}

/// Whether times grow no faster than n log n, between the smallest and the largest size that count.
fn held(growth: &[(usize, Figures)], report: &mut Report) {
    let mut counted = growth.iter().filter(|(pending, _)| *pending >= HELD_FROM);
    let (Some((few, before)), Some((many, after))) = (counted.next(), counted.next_back()) else {
        report.note(format!("There are no two sizes of at least {HELD_FROM} bundles: nothing is required of the growth."));
        return;
    };
    for (what, before, after) in [("insert", before.insert, after.insert), ("propose", before.propose, after.propose)] {
        let name = format!("{what}: time by n log n, {many} pending beside {few}");
        let (before, after) = (by_n_log_n(before, *few), by_n_log_n(after, *many));
        report.row(Row::value(name, "times", after / before).require(Requirement::AtMost(HELD)));
    }
}

fn by_n_log_n(seconds: f64, count: usize) -> f64 {
    let count = count as f64;
    seconds / (count * count.ln())
}

/// By how much an engine grows for a bundle. The first half of the bundles takes what was given back before.
fn bytes_a_bundle(point: &Point, seed: u64) -> Result<Option<f64>, Failed> {
    let (view, candidates) = point.slot(seed)?;
    let (first, rest) = candidates.split_at(candidates.len() / 2);
    let mut engine = filled(&view, first)?;
    let before = memory_bytes();
    take(&mut engine, rest)?;
    let after = memory_bytes();
    let grown = before.zip(after).map(|(before, after)| after.saturating_sub(before) as f64);
    Ok(grown.map(|grown| grown / rest.len().max(1) as f64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scenario_runs_on_a_few_bundles() {
        let options = Options { bundles: Some(24), rollups: Some(2), ..Options::of("scale") };
        let report = run(&options).unwrap();
        // One size, one number of rollups, and the shares, five rows each.
        let rows = report.rows.iter().filter(|row| row.name.contains("24 pending,")).count();
        assert_eq!(rows, 5 * (1 + 1 + 2 * SHARES.len()));
        let times: Vec<&Row> = report.rows.iter().filter(|row| row.unit == "ms").collect();
        assert!(times.iter().all(|row| row.value > 0.0 && row.ratio.is_some_and(|ratio| ratio > 0.0)));
        assert!(report.rows.iter().all(|row| row.required.is_none()), "too few bundles to require anything");
    }

    #[test]
    fn growth_is_held_between_the_smallest_and_the_largest_size_that_count() {
        let figures = |insert, propose| Figures { insert, propose };
        let mut report = Report::new(&Options::of("scale"));
        // Linear is less than n log n, quadratic is more.
        held(
            &[(1_000, figures(9.0, 9.0)), (4_000, figures(1.0, 1.0)), (8_000, figures(2.0, 4.0)), (16_000, figures(4.0, 16.0))],
            &mut report,
        );
        assert_eq!(report.rows.iter().map(|row| row.holds).collect::<Vec<_>>(), [Some(true), Some(false)]);
        let mut report = Report::new(&Options::of("scale"));
        held(&[(1_000, figures(1.0, 1.0)), (4_000, figures(1.0, 1.0))], &mut report);
        assert!(report.rows.is_empty() && report.notes.len() == 1);
    }

    #[test]
    fn a_table_beyond_its_bounds_is_refused() {
        for options in
            [Options { bundles: Some(MOST + 1), ..Options::of("scale") }, Options { rollups: Some(1), ..Options::of("scale") }]
        {
            assert!(run(&options).unwrap_err().to_string().contains("the table"));
        }
    }
}
