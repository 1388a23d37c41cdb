//! How many bundles a second are simulated, beside a bare revm loop over the same bundles?
//!
//! Ours is `lockstep_building::simulate_all`, as the builder calls it: every bundle over all its rollups, messages recognised
//! and relays written, value measured, reads and writes traced. The other side is [`Bare`]. Both run every bundle alone on the
//! same read-only state.

use std::hint::black_box;

use lockstep_building::{Simulated, simulate_all};
use rayon::ThreadPool;

use crate::{
    Failed, Flag, Options, Progress, Report, Requirement, Row, WorldSpec,
    bare::Bare,
    measure::{Paired, Samples, repeats, rounds, threads, time, time_kept},
    workload::{Kind, Mix, Workload, recorded_blocks},
};

/// Which options it takes.
pub(super) const TAKES: &[Flag] = &[Flag::Threads, Flag::Rollups, Flag::Bundles, Flag::Pairs, Flag::Blocks, Flag::Artifacts];

/// Bundles of each kind.
const BUNDLES: usize = 1_000;
/// Pools of each rollup: four hot ones and the rest.
const POOLS: usize = 24;
/// What 2 threads have to keep of the bare loop's own scaling.
const SCALING: f64 = 0.95;

/// The kinds of bundles, and what is required beside the bare loop.
const KINDS: [(Kind, Option<f64>); 5] = [
    (Kind::Transfer, Some(0.75)),
    (Kind::Erc20, None),
    (Kind::ColdSwap, Some(0.90)),
    (Kind::HotSwap, Some(0.90)),
    (Kind::Cctp, Some(0.90)),
];

/// Runs the scenario.
///
/// # Errors
/// When the two sides do not do the same, or anything fails.
pub(super) fn run(options: &Options) -> Result<Report, Failed> {
    let mut report = Report::new(options);
    let many = options.threads.unwrap_or(2);
    let spec = WorldSpec {
        rollups: options.rollups.unwrap_or(4),
        pools: POOLS,
        artifacts: options.artifacts.clone(),
        ..WorldSpec::default()
    };
    for (kind, required) in KINDS {
        let workload = Workload::draw(&spec, &Mix::only(kind), options.bundles.unwrap_or(BUNDLES), options.seed)?;
        let required = required.filter(|_| report.machine.cpus >= many);
        Subject { workload: &workload, unit: "bundles/s", required, relays: kind == Kind::Cctp }.measure(
            options,
            many,
            &mut report,
        )?;
    }
    if let Some(folder) = &options.blocks {
        for workload in recorded_blocks(folder)? {
            Subject { workload: &workload, unit: "blocks/s", required: None, relays: false }.measure(
                options,
                many,
                &mut report,
            )?;
        }
    }
    notes(&mut report, many);
    Ok(report)
}

fn notes(report: &mut Report, many: usize) {
    report.note(
        "value: ours; floor: a bare revm loop (one EVM a thread and rollup, reused; a shared read-only state; the journal as \
         overlay); ratio: median over the pairs of ours by the floor's, above 1 we are faster. Our results are kept, as the \
         builder keeps them, and freed when the clock has stopped; the bare loop keeps none.",
    );
    report.note(
        "CCTP: the bare loop executes the relays with real attestations and recovers their signatures; ours answers for them \
         while they are not there. The row `told` takes that difference away.",
    );
    let cpus = report.machine.cpus;
    if cpus < many {
        report.note(format!("There are {cpus} processors for {many} threads: nothing is required of these figures."));
    }
}

/// A workload while it is measured.
struct Subject<'a> {
    workload: &'a Workload,
    unit: &'a str,
    required: Option<f64>,
    /// Whether it holds relays.
    relays: bool,
}

impl Subject<'_> {
    fn measure(&self, options: &Options, many: usize, report: &mut Report) -> Result<(), Failed> {
        let Workload { name, view, candidates, description, .. } = self.workload;
        let count = candidates.len();
        let (single, several) = (threads(Some(1))?, threads(Some(many))?);
        let simulated = single.install(|| simulate_all(view, candidates))?;
        let bare = Bare::new(view, &simulated)?;
        self.check(&bare, &simulated, &single)?;
        let ours = |pool: &ThreadPool| -> Result<Vec<Simulated>, Failed> { Ok(pool.install(|| simulate_all(view, candidates))?) };
        let plain = |pool: &ThreadPool| -> Result<(), Failed> {
            black_box(bare.each(pool)?);
            Ok(())
        };
        let told = self.relays.then(|| bare.told());
        let plan = options.plan();
        let times = repeats(&plan, time(1, &mut || plain(&several))?.min(time_kept(1, &mut || ours(&several))?));
        let mut ours_single = || time_kept(times, &mut || ours(&single));
        let mut plain_single = || time(times, &mut || plain(&single));
        let mut plain_several = || time(times, &mut || plain(&several));
        let mut ours_several = || time_kept(times, &mut || ours(&several));
        let mut told_single = || match &told {
            Some(told) => time(times, &mut || {
                black_box(told.each(&single)?);
                Ok(())
            }),
            None => Ok(f64::NAN),
        };
        let progress = Progress::new(name, plan.pairs);
        let measured = rounds(
            &plan,
            &progress,
            &mut [&mut ours_single, &mut plain_single, &mut plain_several, &mut ours_several, &mut told_single],
        )?;
        let mut measured = measured.into_iter();
        let mut next = || measured.next().unwrap_or_default();
        let (ours_1, plain_1, plain_n, ours_n, told_1) = (next(), next(), next(), next(), next());
        let row = |label: String, ours: &Samples, floor: &Samples| {
            let paired = Paired { ours: ours.clone(), floor: floor.clone() };
            Row::speed(format!("{name}, {label}"), self.unit, count, &paired)
        };
        let require = |row: Row, least: Option<f64>| match least {
            Some(least) => row.require_if(options, Requirement::AtLeast(least)),
            None => row,
        };
        report.row(require(row("1 thread".to_owned(), &ours_1, &plain_1), self.required));
        if many > 1 {
            report.row(require(row(format!("{many} threads"), &ours_n, &plain_n), self.required));
            let (ours_scale, plain_scale) = (ours_1.by(&ours_n), plain_1.by(&plain_n));
            let scaling = Row::paired(format!("{name}, {many} threads by 1"), "times as fast", &ours_scale, &plain_scale);
            report.row(require(scaling, self.required.map(|_| SCALING)));
        }
        if self.relays {
            report.row(row("1 thread, told".to_owned(), &ours_1, &told_1));
        }
        report.note(format!("{name}: {description}"));
        Ok(())
    }

    /// Both sides do the same, or nothing is compared.
    fn check(&self, bare: &Bare, simulated: &[Simulated], pool: &ThreadPool) -> Result<(), Failed> {
        let name = &self.workload.name;
        if let Some(blocked) = simulated.iter().find_map(|entry| entry.attempt.blocked.as_ref()) {
            return Err(format!("{name}: a bundle is blocked: {blocked}").into());
        }
        let sides = if self.relays { vec![bare.each(pool)?, bare.told().each(pool)?] } else { vec![bare.each(pool)?] };
        let gas: u64 = simulated.iter().flat_map(|entry| entry.attempt.run.gas.values()).sum();
        for ran in sides {
            if ran.succeeded != simulated.len() {
                return Err(format!("{name}: {} of {} bundles succeed in the bare loop", ran.succeeded, simulated.len()).into());
            }
            // The bytes of stand-ins cost other gas than those of signatures.
            if !self.relays && ran.gas != gas {
                return Err(format!("{name}: the bare loop uses {} gas, the simulation {gas}", ran.gas).into());
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scenario_runs_on_a_few_bundles_and_both_sides_do_the_same() {
        let blocks = Some(concat!(env!("CARGO_MANIFEST_DIR"), "/../fixtures/blocks").into());
        let options = Options { bundles: Some(3), rollups: Some(2), pairs: 1, blocks, ..Options::of("simulate") };
        let report = run(&options).unwrap();
        // Three rows a kind, one more for relays, three a recorded block.
        assert!(report.rows.len() >= KINDS.len() * 3 + 1 + 3, "{}", report.rows.len());
        assert!(report.rows.iter().all(|row| row.value > 0.0 && row.ratio.is_some_and(|ratio| ratio > 0.0)));
        assert!(report.rows.iter().all(|row| row.required.is_none()), "one pair is too few to require anything");
    }
}
