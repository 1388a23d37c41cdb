//! How times are taken: in pairs, one run of each side right after the other, and medians over the pairs.
//!
//! Machines change their speed while one looks at them. What is compared is therefore run side by side, the order of the two
//! alternates from pair to pair (ABBA), and the ratio is the median of the pairs' own ratios: whatever slows both runs of a
//! pair does not show in it. A run is repeated until it takes long enough to be told from noise.

use std::{
    hint::black_box,
    time::{Duration, Instant},
};

use crate::{Failed, Progress};

/// How pairs are measured.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Pairs that count.
    pub pairs: usize,
    /// Pairs before those.
    pub warm_up: usize,
    /// How long one run of a pair takes at least.
    pub run: Duration,
}

impl Default for Plan {
    fn default() -> Self {
        Self { pairs: 15, warm_up: 3, run: Duration::from_millis(20) }
    }
}

/// Numbers that were measured, in the order of measuring. In seconds where they are times.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Samples(pub Vec<f64>);

impl Samples {
    /// The median; of an even count the mean of the two in the middle. Not a number when there are none.
    pub fn median(&self) -> f64 {
        let sorted = self.sorted();
        let middle = sorted.len() / 2;
        let upper = sorted.get(middle).copied().unwrap_or(f64::NAN);
        if sorted.len() % 2 == 1 {
            return upper;
        }
        let lower = middle.checked_sub(1).and_then(|below| sorted.get(below)).copied().unwrap_or(f64::NAN);
        lower.midpoint(upper)
    }

    /// The least sample of which at least that share of all is not greater (nearest rank); `share` is between 0 and 1.
    pub fn percentile(&self, share: f64) -> f64 {
        let sorted = self.sorted();
        let rank = (share * sorted.len() as f64).ceil().max(1.0) as usize;
        sorted.get(rank - 1).or(sorted.last()).copied().unwrap_or(f64::NAN)
    }

    /// The least and the greatest.
    pub fn spread(&self) -> [f64; 2] {
        let sorted = self.sorted();
        let at = |sample: Option<&f64>| sample.copied().unwrap_or(f64::NAN);
        [at(sorted.first()), at(sorted.last())]
    }

    /// Every sample changed by the same function.
    pub fn map(&self, change: impl Fn(f64) -> f64) -> Self {
        Self(self.0.iter().map(|sample| change(*sample)).collect())
    }

    /// Every sample by the one of the other side in the same place.
    pub fn by(&self, other: &Self) -> Self {
        Self(self.0.iter().zip(&other.0).map(|(ours, other)| ours / other).collect())
    }

    fn sorted(&self) -> Vec<f64> {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        sorted
    }
}

/// Seconds of every pair, for one run of each side.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Paired {
    /// Our side.
    pub ours: Samples,
    /// What it is compared with.
    pub floor: Samples,
}

impl Paired {
    /// How fast we are beside the floor: the median over the pairs of the floor's time by ours. Above 1 we are faster.
    pub fn speed_ratio(&self) -> f64 {
        self.floor.by(&self.ours).median()
    }

    /// How much time we take beside the floor: the median over the pairs of our time by the floor's. Below 1 we are faster.
    pub fn time_ratio(&self) -> f64 {
        self.ours.by(&self.floor).median()
    }
}

/// Measures two sides in alternating pairs. Each run is repeated until it takes as long as the plan wants.
///
/// # Errors
/// Those of a run.
pub fn pairs(
    plan: &Plan,
    progress: &Progress,
    mut ours: impl FnMut() -> Result<(), Failed>,
    mut floor: impl FnMut() -> Result<(), Failed>,
) -> Result<Paired, Failed> {
    // Each side once for nothing, then once to see how often it has to be repeated.
    ours()?;
    floor()?;
    let times = repeats(plan, time(1, &mut ours)?.min(time(1, &mut floor)?));
    let mut our_side = || time(times, &mut ours);
    let mut floor_side = || time(times, &mut floor);
    let mut measured = rounds(plan, progress, &mut [&mut our_side, &mut floor_side])?.into_iter();
    Ok(Paired { ours: measured.next().unwrap_or_default(), floor: measured.next().unwrap_or_default() })
}

/// A side of a comparison that times itself: seconds of one run. What has to be made ready for a run is not in them.
pub type Side<'a> = &'a mut dyn FnMut() -> Result<f64, Failed>;

/// Measures any number of sides, each once a round, one right after the other; every other round goes in reverse, so that with
/// two sides the order is ABBA. Answers with the samples of each side, in the order of the sides.
///
/// # Errors
/// Those of a run.
pub fn rounds(plan: &Plan, progress: &Progress, sides: &mut [Side<'_>]) -> Result<Vec<Samples>, Failed> {
    let mut measured = vec![Samples::default(); sides.len()];
    for round in 0..plan.warm_up + plan.pairs {
        for place in 0..sides.len() {
            let index = if round % 2 == 0 { place } else { sides.len() - 1 - place };
            let seconds = sides[index]()?;
            if round >= plan.warm_up {
                measured[index].0.push(seconds);
            }
        }
        if round >= plan.warm_up {
            progress.step();
        }
    }
    Ok(measured)
}

/// How often a run of that many seconds has to be repeated to take as long as the plan wants.
pub fn repeats(plan: &Plan, seconds: f64) -> u32 {
    (plan.run.as_secs_f64() / seconds.max(1e-9)).ceil().clamp(1.0, 1e6) as u32
}

/// Seconds for one of `times` runs.
///
/// # Errors
/// Those of a run.
pub fn time(times: u32, run: &mut impl FnMut() -> Result<(), Failed>) -> Result<f64, Failed> {
    let started = Instant::now();
    for _ in 0..times {
        run()?;
    }
    Ok(started.elapsed().as_secs_f64() / f64::from(times))
}

/// The same of work that yields something which is kept: what it takes to free it is not timed.
///
/// # Errors
/// Those of the work.
pub fn time_kept<T>(times: u32, run: &mut impl FnMut() -> Result<T, Failed>) -> Result<f64, Failed> {
    let mut kept = Vec::with_capacity(times as usize);
    let started = Instant::now();
    for _ in 0..times {
        kept.push(run()?);
    }
    let seconds = started.elapsed().as_secs_f64() / f64::from(times);
    drop(black_box(kept));
    Ok(seconds)
}

/// What a piece of work gives, and the seconds that it takes.
///
/// # Errors
/// Those of the work.
pub fn timed<T>(work: impl FnOnce() -> Result<T, Failed>) -> Result<(T, f64), Failed> {
    let started = Instant::now();
    let done = work()?;
    Ok((done, started.elapsed().as_secs_f64()))
}

/// A pool of that many threads for what runs in parallel; `None` takes one a processor.
///
/// # Errors
/// When threads cannot be started.
pub fn threads(count: Option<usize>) -> Result<rayon::ThreadPool, Failed> {
    Ok(rayon::ThreadPoolBuilder::new().num_threads(count.unwrap_or(0)).build()?)
}

#[cfg(test)]
mod tests {
    use std::cell::{Cell, RefCell};

    use super::*;

    fn samples(values: &[f64]) -> Samples {
        Samples(values.to_vec())
    }

    #[test]
    fn medians_percentiles_and_spreads_are_those_of_the_sorted_samples() {
        assert_eq!(samples(&[3.0, 1.0, 2.0]).median(), 2.0);
        assert_eq!(samples(&[4.0, 1.0, 2.0, 3.0]).median(), 2.5);
        assert_eq!(samples(&[2.0, 3.0, 1.0]).spread(), [1.0, 3.0]);
        let hundred = Samples((1..=100).map(f64::from).collect());
        assert_eq!((hundred.percentile(0.5), hundred.percentile(0.99), hundred.percentile(1.0)), (50.0, 99.0, 100.0));
        assert_eq!(samples(&[7.0]).percentile(0.99), 7.0);
        assert!(samples(&[]).median().is_nan() && samples(&[]).percentile(0.5).is_nan());
    }

    #[test]
    fn a_ratio_is_the_median_of_the_pairs_and_not_the_ratio_of_the_medians() {
        let paired = Paired { ours: samples(&[1.0, 10.0, 4.0]), floor: samples(&[2.0, 5.0, 4.0]) };
        assert_eq!((paired.speed_ratio(), paired.time_ratio()), (1.0, 1.0));
        let paired = Paired { ours: samples(&[1.0, 2.0, 8.0]), floor: samples(&[2.0, 4.0, 2.0]) };
        assert_eq!((paired.speed_ratio(), paired.time_ratio()), (2.0, 0.5));
    }

    #[test]
    fn the_order_of_the_two_sides_alternates() {
        let order = RefCell::new(String::new());
        let plan = Plan { pairs: 4, warm_up: 0, run: Duration::ZERO };
        let side = |name: char| -> Result<(), Failed> {
            order.borrow_mut().push(name);
            Ok(())
        };
        let paired = pairs(&plan, &Progress::new("test", 4), || side('a'), || side('b')).unwrap();
        // Twice each before anything counts.
        assert_eq!(&order.borrow()[4..], "abbaabba");
        assert_eq!((paired.ours.0.len(), paired.floor.0.len()), (4, 4));
    }

    #[test]
    fn several_sides_are_measured_to_and_fro() {
        let order = RefCell::new(String::new());
        let plan = Plan { pairs: 2, warm_up: 1, run: Duration::ZERO };
        let side = |name: char, seconds: f64| -> Result<f64, Failed> {
            order.borrow_mut().push(name);
            Ok(seconds)
        };
        let (mut a, mut b, mut c) = (|| side('a', 1.0), || side('b', 2.0), || side('c', 3.0));
        let measured = rounds(&plan, &Progress::new("test", 2), &mut [&mut a, &mut b, &mut c]).unwrap();
        assert_eq!(*order.borrow(), "abccbaabc");
        assert_eq!(measured, [samples(&[1.0, 1.0]), samples(&[2.0, 2.0]), samples(&[3.0, 3.0])]);
    }

    #[test]
    fn short_runs_are_repeated_until_they_can_be_told_from_noise() {
        let plan = Plan { run: Duration::from_millis(20), ..Plan::default() };
        assert_eq!((repeats(&plan, 0.001), repeats(&plan, 0.003), repeats(&plan, 1.0)), (20, 7, 1));
    }

    #[test]
    fn what_fails_in_a_run_ends_the_measurement() {
        let runs = Cell::new(0);
        let fails = || -> Result<(), Failed> {
            runs.set(runs.get() + 1);
            if runs.get() > 3 { Err("broken".into()) } else { Ok(()) }
        };
        let error = pairs(&Plan::default(), &Progress::new("test", 15), fails, || Ok(())).unwrap_err();
        assert_eq!(error.to_string(), "broken");
    }
}
