//! How fast is there a proposal of a busy slot, and how good is it?
//!
//! All bundles are known and simulated when the clock starts: that was done when they arrived. The floor is a bare revm loop
//! over the same bundles on as many threads. What a proposal is worth is held against the engine's own bound, against building
//! greedily from nothing, and, on instances that were made around their best proposal, against that.

use std::{collections::BTreeMap, hint::black_box, sync::Arc};

use alloy_primitives::{B256, Signature};
use lockstep_building::{Candidate, EvidenceMap, SealedList, SlotView, build, seal_all, simulate_all};
use lockstep_primitives::{ChainId, RollupSet, SignedTx};
use lockstep_testkit::{builder, evidence, sign_digest};
use rayon::ThreadPool;

use super::{
    filled::{Stage, filled, searched},
    groups, money,
};
use crate::{
    Failed, Flag, Options, Progress, Report, Requirement, Row, WorldSpec,
    bare::{Bare, BareTx},
    measure::{Paired, Samples, rounds, threads, timed},
    workload::{Kind, Mix, Planted, Workload, fitting},
};

/// Which options it takes.
pub(super) const TAKES: &[Flag] = &[Flag::Threads, Flag::Rollups, Flag::Bundles, Flag::Pairs, Flag::Artifacts];

/// Pending bundles.
const BUNDLES: usize = 10_000;
/// Pools of each rollup: four hot ones and the rest.
const POOLS: usize = 64;
/// How many thousandths of the pending gas fit.
const ROOM: u64 = 300;
/// Rounds of improvement at the most.
const ROUNDS: u32 = 16;
/// The most of the time of executing everything that is pending that a first draft takes, and where nothing conflicts.
const FIRST: f64 = 0.40;
const FIRST_APART: f64 = 0.10;
/// The most of the time of executing what is included that it takes to seal and verify it.
const SEALED: f64 = 1.15;
/// What of a planted optimum is reached at the least.
const OF_PLANTED: f64 = 0.99;
/// Small instances with a planted optimum, and their bundles; bundles of the large one.
const PLANTED: u64 = 20;
const PLANTED_BUNDLES: usize = 200;
const PLANTED_LARGE: usize = 2_000;
/// Bundles of which none binds another, however many counters they share.
const APART: usize = 2_000;

/// Runs the scenario.
///
/// # Errors
/// When the two sides do not do the same, or anything fails.
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
    for (mix, required) in [(Mix::busy(), Some(FIRST)), (Mix::independent(), Some(FIRST_APART)), (Mix::crossing(), None)] {
        let workload = Workload::draw(&spec, &mix, options.bundles.unwrap_or(BUNDLES), options.seed)?;
        let slot = Slot::new(&workload, &pool)?;
        slot.measure_times(options, required, &mut report)?;
        slot.measure_values(&mut report)?;
        report.note(format!("{}: {}, with room for {} % of the gas", workload.name, workload.description, ROOM / 10));
    }
    pool.install(|| measure_planted(options, &mut report))?;
    pool.install(|| measure_groups(options, &mut report))?;
    notes(&mut report, many);
    Ok(report)
}

fn notes(report: &mut Report, many: usize) {
    report.note(
        "times: ours by the bare loop's, paired, below 1 we are faster. Nothing conflicts in `independent`; in `crossing` every \
         burn and mint moves counters that all of them move, so each is executed again where it stands. The first draft is `Engine::propose` for all rollups on \
         an engine that has simulated all bundles and filled nothing; sealing is `Engine::draft` and `seal_all`, which signs the \
         relays and executes all lists once more on fresh EVMs; attesters sign in between and are not timed, nor is the receipts root, which is worked out when a list is handed to its \
         sequencer. In `told` the bare \
         loop need not recover the attesters' signatures either.",
    );
    report.note(
        "values: greedy is `lockstep_building::build` from nothing; the bound is the engine's own; a planted optimum is what an \
         instance was made around, and nothing is worth more.",
    );
    let cpus = report.machine.cpus;
    if cpus < many {
        report.note(format!("There are {cpus} processors for {many} threads: nothing is required of the times."));
    }
}

/// A slot with everything that is pending.
struct Slot<'a> {
    name: &'a str,
    view: Arc<SlotView>,
    candidates: &'a [Candidate],
    rollups: RollupSet,
    pool: &'a ThreadPool,
}

/// Seconds of one run of ours.
struct Took {
    first: f64,
    drafted: f64,
    sealed: f64,
}

impl<'a> Slot<'a> {
    fn new(workload: &'a Workload, pool: &'a ThreadPool) -> Result<Self, Failed> {
        let Workload { name, view, candidates, .. } = workload;
        let simulated = pool.install(|| simulate_all(view, candidates))?;
        let view = Arc::new(fitting(view, &simulated, ROOM));
        let rollups = view.rollups.keys().copied().collect();
        Ok(Self { name, view, candidates, rollups, pool })
    }

    fn measure_times(&self, options: &Options, required: Option<f64>, report: &mut Report) -> Result<(), Failed> {
        let Self { name, pool, .. } = *self;
        let simulated = pool.install(|| simulate_all(&self.view, self.candidates))?;
        let bare = Bare::new(&self.view, &simulated)?;
        let told = bare.told();
        let (lists, placed) = self.included(&bare)?;
        let plan = options.plan();
        let mut took = Vec::with_capacity(plan.warm_up + plan.pairs);
        let mut ours = || -> Result<f64, Failed> {
            let once = pool.install(|| self.once())?;
            let first = once.first;
            took.push(once);
            Ok(first)
        };
        let mut all = || seconds(|| bare.each(pool));
        let mut all_told = || seconds(|| told.each(pool));
        let mut listed = || seconds(|| bare.lists(pool, &lists));
        let progress = Progress::new(name, plan.pairs);
        let measured = rounds(&plan, &progress, &mut [&mut ours, &mut all, &mut all_told, &mut listed])?;
        let mut measured = measured.into_iter();
        let mut next = || measured.next().unwrap_or_default();
        let (first, all, all_told, listed) = (next(), next(), next(), next());
        let counted = || took.iter().skip(took.len() - first.0.len());
        let drafted = Samples(counted().map(|took| took.drafted).collect());
        let sealed = Samples(counted().map(|took| took.drafted + took.sealed).collect());

        let enough = report.machine.cpus >= options.threads.unwrap_or(2);
        let require = |row: Row, most: f64| {
            if enough { row.require_if(options, Requirement::AtMost(most)) } else { row }
        };
        let require_some = |row: Row, most: Option<f64>| match most {
            Some(most) => require(row, most),
            None => row,
        };
        let time = |label: &str, ours: &Samples, floor: &Samples| {
            Row::time_ms(format!("{name}: {label}"), &Paired { ours: ours.clone(), floor: floor.clone() })
        };
        let count = |label: &str, count: usize| Row::value(format!("{name}: {label}"), "bundles", count as f64);
        report.row(count("pending", self.candidates.len()));
        report.row(count("in the first draft", placed));
        report.row(require_some(time("first draft, beside bare execution of all pending", &first, &all), required));
        report.row(time("first draft, beside bare execution of all pending, told", &first, &all_told));
        report.row(require_some(
            time("sealed and verified after that, beside bare execution of what is in it", &sealed, &listed),
            required.map(|_| SEALED),
        ));
        report.row(time("of that: the draft's blocks finished", &drafted, &listed));
        Ok(())
    }

    /// From everything known to everything sealed, once.
    fn once(&self) -> Result<Took, Failed> {
        let mut engine = filled(&self.view, self.candidates)?;
        let (standing, first) = timed(|| Ok(engine.propose(&self.rollups)?))?;
        black_box(standing);
        let (draft, drafted) = timed(|| Ok(engine.draft(&self.rollups)?))?;
        let evidence = evidence(&draft);
        let (lists, sealed) = timed(|| Ok(seal_all(&self.view, &draft, &evidence, &signed)?))?;
        black_box(lists);
        Ok(Took { first, drafted, sealed })
    }

    /// What is in the first draft, as the bare loop takes it, and how many bundles that are.
    fn included(&self, bare: &Bare) -> Result<(Vec<Vec<BareTx>>, usize), Failed> {
        let (sealed, placed) = self.pool.install(|| -> Result<_, Failed> {
            let mut engine = filled(&self.view, self.candidates)?;
            let draft = engine.draft(&self.rollups)?;
            let evidence: EvidenceMap = evidence(&draft);
            Ok((seal_all(&self.view, &draft, &evidence, &signed)?, draft.placed.len()))
        })?;
        let lists = bare_lists(&sealed)?;
        // Both sides do the same, or nothing is compared.
        let count: usize = lists.iter().map(Vec::len).sum();
        let gas: u64 = sealed.values().flat_map(|list| &list.blocks).map(|block| block.gas_used).sum();
        let ran = bare.lists(self.pool, &lists)?;
        if (ran.succeeded, ran.gas) != (count, gas) {
            return Err(format!(
                "{}: in the bare loop {} of {count} listed transactions succeed and use {} gas; sealed lists use {gas}",
                self.name, ran.succeeded, ran.gas
            )
            .into());
        }
        Ok((lists, placed))
    }

    /// What the proposal is worth, from the first one on.
    fn measure_values(&self, report: &mut Report) -> Result<(), Failed> {
        let name = self.name;
        let (greedy, stages, sizes) = self.pool.install(|| -> Result<_, Failed> {
            let mut engine = filled(&self.view, self.candidates)?;
            let greedy = build(&self.view, &engine.simulated(), &self.rollups)?.value;
            let stages = searched(&mut engine, &self.rollups, ROUNDS)?;
            Ok((greedy, stages, engine.group_sizes()?))
        })?;
        let (Some(first), Some(last)) = (stages.first(), stages.last()) else { return Err("a search without a course".into()) };
        let best = stages.iter().map(|stage| stage.standing.value).max().unwrap_or(first.standing.value);
        let values = [("first draft", first), ("last draft", last)];
        for (label, stage) in values {
            let row = money::beside(format!("{name}: value of the {label}, beside greedy"), stage.standing.value, greedy);
            report.row(row.require(Requirement::AtLeast(1.0)));
        }
        report.row(money::beside(
            format!("{name}: value of the last draft, beside the first"),
            last.standing.value,
            first.standing.value,
        ));
        report.row(match last.standing.bound {
            Some(bound) => {
                money::beside(format!("{name}: value of the last draft, beside the bound"), last.standing.value, bound)
            }
            None => money::alone(format!("{name}: value of the last draft, no bound known"), last.standing.value),
        });
        let close = |stage: &&Stage| money::ratio(stage.standing.value, best) >= 0.99;
        if let Some((round, stage)) = stages.iter().enumerate().find(|(_, stage)| close(stage)) {
            report.row(Row::value(format!("{name}: until within 1 % of the best seen"), "rounds", round as f64));
            report.row(Row::value(format!("{name}: until within 1 % of the best seen"), "ms", stage.seconds * 1e3));
        }
        report.row(Row::value(format!("{name}: searched"), "rounds", (stages.len() - 1) as f64));
        report.row(Row::value(format!("{name}: searched"), "ms", last.seconds * 1e3));
        groups::rows(name, &sizes, report);
        Ok(())
    }
}

/// What is reached of optima that are known.
fn measure_planted(options: &Options, report: &mut Report) -> Result<(), Failed> {
    let rollups = options.rollups.unwrap_or(4);
    let most = options.bundles.unwrap_or(BUNDLES);
    let small = (0..PLANTED).map(|index| (options.seed.wrapping_add(index), PLANTED_BUNDLES.min(most)));
    let instances: Vec<(u64, usize)> = small.chain([(options.seed, PLANTED_LARGE.min(most))]).collect();
    let progress = Progress::new("planted optima", instances.len());
    let (mut reached, mut greedily, mut bounds) = (Samples::default(), Samples::default(), Samples::default());
    for (seed, bundles) in instances {
        let Planted { workload, optimum, .. } = Planted::draw(rollups, bundles, seed)?;
        let all: RollupSet = workload.view.rollups.keys().copied().collect();
        let mut engine = filled(&workload.view, &workload.candidates)?;
        let greedy = build(&workload.view, &engine.simulated(), &all)?;
        let stages = searched(&mut engine, &all, ROUNDS)?;
        let last = stages.last().ok_or("a search without a course")?;
        if last.standing.value > optimum {
            return Err(format!("seed {seed}: {} is more than the planted {optimum}", last.standing.value).into());
        }
        reached.0.push(money::ratio(last.standing.value, optimum));
        greedily.0.push(money::ratio(greedy.value, optimum));
        bounds.0.extend(last.standing.bound.map(|bound| money::ratio(bound, optimum)));
        progress.step();
    }
    let count = reached.0.len();
    let least = reached.spread()[0];
    let row = Row::value(format!("the least of {count} planted optima that is reached"), "of the optimum", least);
    report.row(row.require(Requirement::AtLeast(OF_PLANTED)));
    report.row(Row::samples(format!("{count} planted optima: reached"), "of the optimum", &reached));
    report.row(Row::samples(format!("{count} planted optima: reached by greedy"), "of the optimum", &greedily));
    if bounds.0.is_empty() {
        report.note("Of planted optima no bound is known.");
    } else {
        // A bound below what is possible is none.
        let row =
            Row::value(format!("the least of {} bounds on planted optima", bounds.0.len()), "of the optimum", bounds.spread()[0]);
        report.row(row.require(Requirement::AtLeast(1.0)));
        report.row(Row::samples("bounds on planted optima", "of the optimum", &bounds));
    }
    Ok(())
}

/// Counters that everybody moves do not glue groups together.
fn measure_groups(options: &Options, report: &mut Report) -> Result<(), Failed> {
    let count = options.bundles.map_or(APART, |bundles| bundles.min(APART));
    let spec = WorldSpec { rollups: 2, pools: 0, ..WorldSpec::default() };
    let workload = Workload::draw(&spec, &Mix::only(Kind::Cctp), count, options.seed)?;
    let sizes = filled(&workload.view, &workload.candidates)?.group_sizes()?;
    let name = format!("groups of {count} independent CCTP pairs over the same two rollups");
    report.row(Row::value(name, "groups", sizes.len() as f64).beside(count as f64).require(Requirement::AtLeast(1.0)));
    Ok(())
}

/// Sealed lists as the bare loop takes them, one a rollup.
pub(super) fn bare_lists(sealed: &BTreeMap<ChainId, SealedList>) -> Result<Vec<Vec<BareTx>>, Failed> {
    let mut lists = Vec::with_capacity(sealed.len());
    for (chain, sealed) in sealed {
        let mut list = Vec::new();
        for raw in sealed.list.blocks.iter().flat_map(|block| &block.transactions) {
            list.push(BareTx::new(*chain, &SignedTx::decode(raw.clone())?));
        }
        lists.push(list);
    }
    Ok(lists)
}

/// The builder's signature, as the node makes it.
pub(super) fn signed(digest: B256) -> Signature {
    sign_digest(builder(), digest)
}

fn seconds<T>(work: impl FnOnce() -> Result<T, Failed>) -> Result<f64, Failed> {
    let (done, seconds) = timed(work)?;
    black_box(done);
    Ok(seconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scenario_runs_on_a_few_bundles_and_is_never_below_greedy() {
        let options = Options { bundles: Some(40), pairs: 1, ..Options::of("build") };
        let report = run(&options).unwrap();
        let beside_greedy: Vec<&Row> = report.rows.iter().filter(|row| row.name.contains("beside greedy")).collect();
        assert_eq!(beside_greedy.len(), 6);
        assert!(beside_greedy.iter().all(|row| row.holds == Some(true)), "{beside_greedy:?}");
        let ratio = |name: &str| report.rows.iter().find(|row| row.name.contains(name)).unwrap().ratio.unwrap();
        assert!(ratio("beside bare execution of all pending") > 0.0 && ratio("beside bare execution of what is in it") > 0.0);
        assert!(report.rows.iter().any(|row| row.name.contains("planted optima that is reached")));
        assert!(report.rows.iter().filter(|row| row.unit == "ms").all(|row| row.required.is_none()), "one pair requires nothing");
    }

    #[test]
    fn independent_pairs_are_groups_of_their_own() {
        let options = Options { bundles: Some(12), ..Options::of("build") };
        let mut report = Report::new(&options);
        measure_groups(&options, &mut report).unwrap();
        assert_eq!(report.rows[0].holds, Some(true), "{}", report.rows[0]);
    }
}
