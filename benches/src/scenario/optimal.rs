//! Is what is built the best that there is?
//!
//! Random instances, so small that every subset of their bundles can be tried in every order: the [`Enumeration`] does that, by
//! running bundles on copies of open blocks, and knows nothing of conflict groups, alternatives or packing. Ours is the engine
//! as the builder has it: a first proposal, and numbered rounds of improvement.

mod enumeration;
mod instance;

use std::fmt;

use alloy_primitives::I256;
use rayon::prelude::*;

use crate::{Failed, Flag, Options, Progress, Report, Requirement, Row, measure::threads, rng::Rng};

use self::{
    enumeration::{Best, Enumeration},
    instance::Instance,
};
use super::{
    filled::{filled, searched},
    money::{beside, ratio},
};

/// Which options it takes.
pub(super) const TAKES: &[Flag] = &[Flag::Threads, Flag::Bundles];

/// Instances of few bundles, and how many bundles those have at the most.
const SMALL: (usize, usize) = (1_000, 6);
/// Instances of more bundles, and how many each has.
const LARGE: (usize, usize) = (20, 8);
/// Rounds of improvement, as long as one may still find something.
const ROUNDS: u32 = 64;
/// What more bundles have to be worth on average, beside the optimum.
const LARGE_SHARE: f64 = 0.995;

/// Runs the scenario.
///
/// # Errors
/// When anything fails.
pub(super) fn run(options: &Options) -> Result<Report, Failed> {
    let mut report = Report::new(options);
    let pool = threads(Some(options.threads.unwrap_or(2)))?;
    match options.bundles {
        Some(bundles) => pool.install(|| alone(options.seed, bundles, &mut report))?,
        None => pool.install(|| all(options.seed, SMALL.0, LARGE.0, &mut report))?,
    }
    report.note(format!(
        "the optimum is that of every subset in every order in which each bundle is worth at least nothing where it stands, and \
         one with relays what the policy asks of it. Ours is the first proposal and up to {ROUNDS} rounds of improvement. \
         `--seed S --bundles N` runs one instance alone and tells of it."
    ));
    Ok(report)
}

/// Many instances of both sizes.
fn all(seed: u64, small: usize, large: usize, report: &mut Report) -> Result<(), Failed> {
    let progress = Progress::new("optimal", small + large);
    let solve = |seed: u64, bundles: usize| -> Result<Solved, Failed> {
        let solved = Instance::draw(seed, bundles).and_then(|instance| Solved::of(&instance));
        progress.step();
        solved.map_err(|error| format!("seed {seed}, {bundles} bundles: {error}").into())
    };
    let (most, many) = (SMALL.1, LARGE.1);
    let few: Vec<Solved> = (0..small as u64)
        .into_par_iter()
        .map(|index| {
            let seed = seed.wrapping_add(index);
            solve(seed, bundles_of(seed, most))
        })
        .collect::<Result<_, Failed>>()?;
    let more: Vec<Solved> =
        (0..large as u64).into_par_iter().map(|index| solve(seed.wrapping_add(index), many)).collect::<Result<_, Failed>>()?;
    let equal = few.iter().filter(|solved| solved.ours == solved.optimum).count() as f64;
    report.row(
        Row::value(format!("up to {most} bundles: instances equal to the enumerated optimum"), "share", equal / few.len() as f64)
            .require(Requirement::AtLeast(1.0)),
    );
    report.row(average(&format!("up to {most} bundles: value by the optimum, average"), &few, Solved::share));
    report.row(average(&format!("up to {most} bundles: the first proposal by the optimum, average"), &few, Solved::first_share));
    report.row(
        average(&format!("{many} bundles: value by the optimum, average"), &more, Solved::share)
            .require(Requirement::AtLeast(LARGE_SHARE)),
    );
    report.row(average(&format!("{many} bundles: the first proposal by the optimum, average"), &more, Solved::first_share));
    let both: Vec<&Solved> = few.iter().chain(&more).collect();
    report.row(count("instances of which the printed bound is below the optimum", &both, Solved::is_bound_wrong));
    report.row(count("instances of which the proposal's bundles are not worth what it promises", &both, Solved::is_untrue));
    let several = both.iter().filter(|solved| solved.order.len() > 1).count();
    report.row(Row::value("instances in which two or more bundles belong into the optimum", "instances", several as f64));
    let tried = both.iter().map(|solved| solved.tried).sum::<u64>();
    report.row(Row::value("bundles that the enumeration ran", "bundles", tried as f64));
    for (name, solved) in [("few", &few), ("more", &more)] {
        let worst = solved.iter().min_by(|a, b| a.share().total_cmp(&b.share()));
        if let Some(worst) = worst.filter(|worst| worst.ours != worst.optimum) {
            report.note(format!("the worst instance of {name} bundles: {worst}"));
        }
    }
    // Not the worst by their value, but worse than that.
    for broken in both.iter().filter(|solved| solved.is_bound_wrong() || solved.is_untrue()).take(3) {
        report.note(format!("a bound or a promise that does not hold: {broken}"));
    }
    Ok(())
}

/// One instance, told in full.
fn alone(seed: u64, bundles: usize, report: &mut Report) -> Result<(), Failed> {
    if bundles > LARGE.1 {
        return Err(format!("--bundles {bundles}: no more than {} are enumerated", LARGE.1).into());
    }
    let instance = Instance::draw(seed, bundles)?;
    let solved = Solved::of(&instance)?;
    let least = if bundles <= SMALL.1 { 1.0 } else { LARGE_SHARE };
    report.row(beside("value, beside the enumerated optimum", solved.ours, solved.optimum).require(Requirement::AtLeast(least)));
    report.row(beside("the first proposal, beside the enumerated optimum", solved.first, solved.optimum));
    if let Some(bound) = solved.bound {
        report.row(beside("the printed bound, beside the enumerated optimum", bound, solved.optimum));
    }
    report.row(count("the printed bound is below the optimum", &[&solved], Solved::is_bound_wrong));
    report.row(count("the proposal's bundles are not worth what it promises", &[&solved], Solved::is_untrue));
    report.row(Row::value("rounds of improvement", "rounds", f64::from(solved.rounds)));
    report.note(solved.to_string());
    report.note(instance.story);
    let hashes = instance.candidates.iter().enumerate().map(|(index, candidate)| format!("{index} is {}", candidate.hash));
    report.note(hashes.collect::<Vec<_>>().join("\n"));
    Ok(())
}

/// How many bundles the small instance of a seed has.
fn bundles_of(seed: u64, most: usize) -> usize {
    // Another draw than the instance's own, which a seed and a size have to give again.
    1 + Rng::new(seed ^ 0x5173_0f5e_ed00_0000).index(most)
}

/// An instance, what we made of it, and what can be made of it.
#[derive(Clone, Debug)]
struct Solved {
    seed: u64,
    bundles: usize,
    optimum: I256,
    /// The bundles of the optimum in their order.
    order: Vec<usize>,
    first: I256,
    ours: I256,
    /// The bundles of our proposal in their order.
    placed: Vec<usize>,
    /// What they are worth in that order, by the enumeration; `None` when one of them does not hold there.
    worth: Option<I256>,
    bound: Option<I256>,
    rounds: u32,
    tried: u64,
}

impl Solved {
    fn of(instance: &Instance) -> Result<Self, Failed> {
        let Instance { view, rollups, candidates, .. } = instance;
        let mut enumeration = if candidates.len() <= SMALL.1 {
            Enumeration::plain(view, candidates, rollups)
        } else {
            Enumeration::merging(view, candidates, rollups)
        };
        let Best { value: optimum, order } = enumeration.optimum()?;

        let mut engine = filled(view, candidates)?;
        let stages = searched(&mut engine, rollups, ROUNDS)?;
        let (Some(first), Some(last)) = (stages.first(), stages.last()) else {
            return Err("a search has a first proposal".into());
        };
        let draft = engine.draft(rollups)?;
        let index_of = |hash| candidates.iter().position(|candidate| candidate.hash == hash);
        let placed: Vec<usize> = draft.placed.iter().filter_map(|placed| index_of(placed.hash)).collect();
        let worth = enumeration.worth(&placed)?.filter(|_| draft.value == last.standing.value);
        Ok(Self {
            seed: instance.seed,
            bundles: instance.bundles,
            optimum,
            order,
            first: first.standing.value,
            ours: last.standing.value,
            placed,
            worth,
            bound: last.standing.bound,
            rounds: u32::try_from(stages.len() - 1)?,
            tried: enumeration.tried(),
        })
    }

    /// Our value by the optimum.
    fn share(&self) -> f64 {
        ratio(self.ours, self.optimum)
    }

    /// The first proposal's value by the optimum.
    fn first_share(&self) -> f64 {
        ratio(self.first, self.optimum)
    }

    fn is_bound_wrong(&self) -> bool {
        self.bound.is_some_and(|bound| bound < self.optimum)
    }

    fn is_untrue(&self) -> bool {
        self.worth != Some(self.ours)
    }
}

impl fmt::Display for Solved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { seed, bundles, optimum, order, ours, placed, rounds, .. } = self;
        write!(f, "seed {seed}, {bundles} bundles: {ours} wei by the order {placed:?} after {rounds} rounds, ")?;
        write!(f, "the optimum is {optimum} wei by the order {order:?}")?;
        if let Some(bound) = self.bound {
            write!(f, ", the printed bound {bound} wei")?;
        }
        if self.is_untrue() {
            match self.worth {
                Some(worth) => write!(f, "; that order is worth {worth} wei")?,
                None => f.write_str("; that order does not hold")?,
            }
        }
        Ok(())
    }
}

fn average(name: &str, solved: &[Solved], share: impl Fn(&Solved) -> f64) -> Row {
    let shares: Vec<f64> = solved.iter().map(share).collect();
    let spread = [shares.iter().copied().fold(f64::NAN, f64::min), shares.iter().copied().fold(f64::NAN, f64::max)];
    Row { spread, ..Row::value(name, "ratio", shares.iter().sum::<f64>() / shares.len() as f64) }
}

/// How many have a fault that none may have.
fn count(name: &str, solved: &[&Solved], fault: impl Fn(&Solved) -> bool) -> Row {
    let faulty = solved.iter().filter(|solved| fault(solved)).count();
    Row::value(name, "instances", faulty as f64).require(Requirement::AtMost(0.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found<'a>(report: &'a Report, name: &str) -> &'a Row {
        report.rows.iter().find(|row| row.name.contains(name)).unwrap()
    }

    #[test]
    fn the_scenario_runs_on_a_few_instances() {
        let mut report = Report::new(&Options::of("optimal"));
        all(1, 30, 0, &mut report).unwrap();
        let equal = found(&report, "equal to the enumerated optimum");
        assert_eq!((equal.value, equal.holds), (1.0, Some(true)), "{:?}", report.notes);
        assert_eq!(found(&report, "not worth what it promises").value, 0.0, "{:?}", report.notes);
        assert!(found(&report, "bundles that the enumeration ran").value > 100.0);
    }

    #[test]
    fn one_instance_runs_alone_and_is_the_one_that_ran_among_all() {
        let bundles = bundles_of(7, SMALL.1);
        let among = Solved::of(&Instance::draw(7, bundles).unwrap()).unwrap();
        let options = Options { seed: 7, bundles: Some(bundles), ..Options::of("optimal") };
        let report = run(&options).unwrap();
        assert!(report.notes.iter().any(|note| *note == among.to_string()), "{:?}", report.notes);
        let error = run(&Options { bundles: Some(9), ..options }).unwrap_err().to_string();
        assert!(error.contains('9'), "{error}");
    }

    #[test]
    fn a_proposal_that_is_worth_less_than_the_optimum_or_than_it_says_is_counted() {
        let wei = |amount: u64| I256::try_from(amount).unwrap();
        let mut solved = Solved::of(&Instance::draw(3, 2).unwrap()).unwrap();
        (solved.optimum, solved.ours, solved.worth, solved.bound) = (wei(100), wei(90), Some(wei(80)), Some(wei(99)));
        assert!(solved.is_untrue() && solved.is_bound_wrong() && solved.share() < 1.0);
        let told = solved.to_string();
        assert!(told.contains("seed 3") && told.contains("80 wei") && told.contains("99 wei"), "{told}");
        (solved.worth, solved.bound) = (Some(wei(90)), None);
        assert!(!solved.is_untrue() && !solved.is_bound_wrong());
    }
}
