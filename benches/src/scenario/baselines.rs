//! What do other ways to build take and earn on the same bundles?
//!
//! The bundles are those of a busy slot with room for three tenths of them. All ways begin with empty blocks and end with
//! finished ones; what is known from simulating every bundle alone at its arrival is known to all that use it, and not timed.
//! The rows `from nothing` time that, too.

use std::{collections::BTreeMap, hint::black_box, sync::Arc};

use alloy_primitives::I256;
use lockstep_building::{Candidate, Draft, Engine, LegRun, Placed, SearchLimits, SlotView, simulate_all};
use lockstep_primitives::{ChainId, Leg, RollupSet};

use crate::{
    Failed, Flag, Options, Progress, Report, Requirement, Row, WorldSpec,
    baseline::{Built, Independent, Legs, greedy, legs, sequential},
    measure::{Paired, Samples, rounds, threads, timed},
    workload::{Mix, Workload, fitting},
};

/// Which options it takes.
pub(super) const TAKES: &[Flag] = &[Flag::Threads, Flag::Rollups, Flag::Bundles, Flag::Pairs, Flag::Artifacts];

/// Bundles of the slot.
const BUNDLES: usize = 2_000;
/// Pools of each rollup: four hot ones and the rest.
const POOLS: usize = 64;
/// How many thousandths of the pending gas fit.
const ROOM: u64 = 300;

/// Runs the scenario.
///
/// # Errors
/// When anything fails.
pub(super) fn run(options: &Options) -> Result<Report, Failed> {
    let mut report = Report::new(options);
    let spec = WorldSpec {
        rollups: options.rollups.unwrap_or(4),
        pools: POOLS,
        artifacts: options.artifacts.clone(),
        ..WorldSpec::default()
    };
    let workload = Workload::draw(&spec, &Mix::busy(), options.bundles.unwrap_or(BUNDLES), options.seed)?;
    let pool = threads(Some(options.threads.unwrap_or(2)))?;
    pool.install(|| compare(options, &workload, &mut report))?;
    report.note(format!("busy slot: {}, with room for {} % of the gas", workload.description, ROOM / 10));
    report.note(
        "time: ours by theirs, paired; below 1 we are faster. value: ours by theirs; above 1 we earn more. `greedy re-execution` \
         is our own re-implementation of rbuilder's published ordering algorithm over all rollups at once; `independent builders` \
         are one such builder a rollup, which sees its own rollup's transactions only; the `sequential loop` takes bundles as \
         they came.",
    );
    Ok(report)
}

fn compare(options: &Options, workload: &Workload, report: &mut Report) -> Result<(), Failed> {
    let candidates = &workload.candidates;
    let rollups: RollupSet = workload.view.rollups.keys().copied().collect();
    let view = {
        let simulated = simulate_all(&workload.view, candidates)?;
        Arc::new(fitting(&workload.view, &simulated, ROOM))
    };
    let simulated = simulate_all(&view, candidates)?;
    let independent = Independent::new(&view, candidates)?;

    let draft = filled(&view, candidates)?.draft(&rollups)?;
    let theirs = greedy(&view, &simulated, &rollups)?;
    let blocks = independent.build(&view)?;
    let apart = legs(candidates, &blocks)?;
    let looped = sequential(&view, candidates, &rollups)?;

    let plan = options.plan();
    let mut ours = || -> Result<f64, Failed> {
        let mut engine = filled(&view, candidates)?;
        let (draft, seconds) = timed(|| Ok(engine.draft(&rollups)?))?;
        black_box(draft);
        Ok(seconds)
    };
    let mut from_nothing = || -> Result<f64, Failed> {
        let (draft, seconds) = timed(|| Ok(filled(&view, candidates)?.draft(&rollups)?))?;
        black_box(draft);
        Ok(seconds)
    };
    let mut greedily = || seconds(|| greedy(&view, &simulated, &rollups));
    let mut greedily_from_nothing = || seconds(|| greedy(&view, &simulate_all(&view, candidates)?, &rollups));
    let mut apart_from_each_other = || seconds(|| independent.build(&view));
    let mut in_a_loop = || seconds(|| sequential(&view, candidates, &rollups));
    let progress = Progress::new("baselines", plan.pairs);
    let measured = rounds(
        &plan,
        &progress,
        &mut [
            &mut ours,
            &mut greedily,
            &mut apart_from_each_other,
            &mut in_a_loop,
            &mut from_nothing,
            &mut greedily_from_nothing,
        ],
    )?;
    let mut measured = measured.into_iter();
    let mut next = || measured.next().unwrap_or_default();
    let (ours, greedily, apart_time, loop_time, nothing, greedily_nothing) = (next(), next(), next(), next(), next(), next());
    let time = |name: &str, ours: &Samples, theirs: &Samples| {
        Row::time_ms(format!("time, beside {name}"), &Paired { ours: ours.clone(), floor: theirs.clone() })
    };
    report.row(time("greedy re-execution", &ours, &greedily));
    report.row(time("independent builders", &ours, &apart_time));
    report.row(time("a sequential loop", &ours, &loop_time));
    report.row(time("greedy re-execution, from nothing", &nothing, &greedily_nothing));
    report.row(time("a sequential loop, from nothing", &nothing, &loop_time));
    values(&draft, &theirs, &blocks, apart, &looped, report);
    let broken = torn(&draft);
    report.row(
        Row::value("bundles over several rollups that landed in part, ours", "bundles", broken as f64)
            .require(Requirement::AtMost(0.0)),
    );
    report.row(Row::value(
        "bundles over several rollups that landed in part, independent builders",
        "bundles",
        apart.part as f64,
    ));
    report.row(Row::value("bundles over several rollups that landed whole, independent builders", "bundles", apart.whole as f64));
    let spanning = draft.placed.iter().filter(|placed| placed.bundle.is_cross_rollup()).count();
    report.row(Row::value("bundles over several rollups that landed whole, ours", "bundles", spanning as f64));
    Ok(())
}

/// What each way earns, in millionths of the native asset, and what of that comes from bundles that landed whole.
fn values(draft: &Draft, theirs: &Built, blocks: &BTreeMap<ChainId, Built>, apart: Legs, looped: &Built, report: &mut Report) {
    let ours = millionths(draft.value);
    let value = |name: &str, theirs: I256| {
        Row::value(format!("value, beside {name}"), "millionths of an ether", ours).beside(millionths(theirs))
    };
    let together = blocks.values().fold(I256::ZERO, |sum, built| sum.saturating_add(built.value));
    report.row(value("greedy re-execution", theirs.value));
    report.row(value("independent builders, one-legged bundles counted", together));
    report.row(value("independent builders, whole bundles only", apart.sound_value));
    report.row(value("a sequential loop", looped.value));
    let count = |name: &str, count: usize| Row::value(format!("bundles in the blocks, {name}"), "bundles", count as f64);
    report.row(count("ours", draft.placed.len()));
    report.row(count("greedy re-execution", theirs.placed.len()));
    report.row(count("a sequential loop", looped.placed.len()));
}

/// An engine that has taken all bundles in.
fn filled(view: &Arc<SlotView>, candidates: &[Candidate]) -> Result<Engine, Failed> {
    let mut engine = Engine::open(Arc::clone(view), SearchLimits::default())?;
    for taken in engine.insert(candidates)? {
        taken?;
    }
    Ok(engine)
}

/// Bundles of a draft of which a transaction that has to land is not where it should be, by the blocks themselves.
fn torn(draft: &Draft) -> usize {
    draft.placed.iter().filter(|placed| !is_whole(draft, placed)).count()
}

fn is_whole(draft: &Draft, placed: &Placed) -> bool {
    let mut legs = placed.bundle.legs.iter().zip(&placed.run.legs);
    placed.run.legs.len() == placed.bundle.legs.len() && legs.all(|(leg, run)| has_landed(draft, leg, run))
}

fn has_landed(draft: &Draft, leg: &Leg, run: &LegRun) -> bool {
    let block = draft.lanes.get(&run.chain).and_then(|lane| lane.blocks.get(run.block));
    let hash_at = |position: usize| Some(block?.block.executed().get(position)?.tx.hash());
    match leg {
        Leg::Relay { .. } => run.txs.iter().all(|tx| tx.position.and_then(hash_at).is_some()),
        Leg::Txs { txs, .. } => {
            txs.len() == run.txs.len()
                && txs.iter().zip(&run.txs).all(|(signed, tx)| {
                    !tx.must_succeed || tx.position.and_then(hash_at).is_some_and(|hash| hash == signed.tx.hash())
                })
        }
    }
}

fn seconds<T>(work: impl FnOnce() -> Result<T, Failed>) -> Result<f64, Failed> {
    let (done, seconds) = timed(work)?;
    black_box(done);
    Ok(seconds)
}

/// Wei as millionths of a whole, for reading: money is compared as the integers that it is, elsewhere.
fn millionths(wei: I256) -> f64 {
    // Below 2^127 wei is more than there is of anything.
    i128::try_from(wei).map_or(f64::NAN, |wei| wei as f64 / 1e12)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scenario_runs_on_a_few_bundles_and_counts_no_torn_bundle_of_ours() {
        let options = Options { bundles: Some(40), pairs: 1, ..Options::of("baselines") };
        let report = run(&options).unwrap();
        assert_eq!(report.rows.iter().filter(|row| row.holds == Some(false)).count(), 0);
        let found = |name: &str| report.rows.iter().find(|row| row.name.contains(name)).unwrap().value;
        assert!(found("landed in part, independent builders") > 0.0);
        assert!(found("value, beside greedy re-execution") > 0.0);
    }
}
