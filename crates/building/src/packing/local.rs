//! Kicks: some groups near the margin lose what they have, and what is left is filled in another order.
//!
//! Only groups count for which two decisions are nearly as good as each other at the prices found. For all others the prices
//! have decided.

use super::{instance::Instance, solution::Solution};

/// Groups that kicks look at.
const CORE_GROUPS: usize = 64;

/// Choices of these groups that kicks look at.
const CORE_CHOICES: usize = 256;

/// Draws for a group that has something to lose.
const DRAWS: usize = 16;

/// Kicks a solution `kicks` times and keeps what is better.
pub(super) fn improve(instance: &Instance, solution: &mut Solution, shares: &[f64], kicks: u32, seed: u64) {
    let (groups, choices) = core(instance, shares);
    if choices.is_empty() {
        return;
    }
    let mut mix = Mix::new(seed);
    let mut undo: Vec<(usize, Option<usize>)> = Vec::new();
    for _ in 0..kicks {
        undo.clear();
        let before = solution.value();
        kick(instance, solution, &groups, &choices, &mut mix, &mut undo);
        if solution.value() <= before {
            // Last change first, so that every step back fits.
            for (group, item) in undo.drain(..).rev() {
                solution.set(instance, group, item);
            }
        }
    }
}

/// The groups for which the second-best decision is nearly as good as the best, and their choices, nearest to the best first.
fn core(instance: &Instance, shares: &[f64]) -> (Vec<usize>, Vec<(usize, usize)>) {
    let mut near: Vec<(f64, usize)> = Vec::new();
    for group in (0..instance.len()).filter(|group| !instance.items_of(*group).is_empty()) {
        // Taking nothing is a decision too.
        let (mut first, mut second) = (0.0, f64::NEG_INFINITY);
        for item in instance.items_of(group) {
            let reduced = instance.reduced(item, shares);
            if reduced > first {
                (first, second) = (reduced, first);
            } else if reduced > second {
                second = reduced;
            }
        }
        near.push((first - second, group));
    }
    let by_regret = |a: &(f64, usize), b: &(f64, usize)| a.0.total_cmp(&b.0).then_with(|| a.1.cmp(&b.1));
    if near.len() > CORE_GROUPS {
        near.select_nth_unstable_by(CORE_GROUPS, by_regret);
        near.truncate(CORE_GROUPS);
    }
    near.sort_unstable_by(by_regret);
    let groups: Vec<usize> = near.into_iter().map(|(_, group)| group).collect();
    let mut rated: Vec<(f64, usize, usize)> = Vec::new();
    for group in &groups {
        let (_, best) = instance.best_of(*group, shares);
        rated.extend(instance.items_of(*group).map(|item| (best - instance.reduced(item, shares), *group, item)));
    }
    rated.sort_unstable_by(|a, b| a.0.total_cmp(&b.0).then_with(|| (a.1, a.2).cmp(&(b.1, b.2))));
    rated.truncate(CORE_CHOICES);
    (groups, rated.into_iter().map(|(_, group, item)| (group, item)).collect())
}

fn kick(
    instance: &Instance,
    solution: &mut Solution,
    groups: &[usize],
    choices: &[(usize, usize)],
    mix: &mut Mix,
    undo: &mut Vec<(usize, Option<usize>)>,
) {
    let mut losses = 1 + mix.below(3);
    for _ in 0..DRAWS {
        let group = groups[mix.below(groups.len())];
        if losses > 0 && solution.chosen(group).is_some() {
            undo.push((group, solution.chosen(group)));
            solution.set(instance, group, None);
            losses -= 1;
        }
    }
    // One goes first whatever it is worth, then about one in eight is passed over, then all the others.
    let (group, item) = choices[mix.below(choices.len())];
    if solution.chosen(group) != Some(item) && solution.fits_instead(instance, group, item) {
        undo.push((group, solution.chosen(group)));
        solution.set(instance, group, Some(item));
    }
    for passes in [true, false] {
        let (mut draws, mut left) = (0, 0);
        for (group, item) in choices.iter().copied() {
            if passes {
                if left == 0 {
                    (draws, left) = (mix.draw(), 21);
                }
                let passed_over = draws & 7 == 0;
                draws >>= 3;
                left -= 1;
                if passed_over {
                    continue;
                }
            }
            if solution.is_better(instance, group, item) && solution.fits_instead(instance, group, item) {
                undo.push((group, solution.chosen(group)));
                solution.set(instance, group, Some(item));
            }
        }
    }
}

/// Numbers drawn from a seed: SplitMix64 (Steele, Lea and Flood, 2014).
#[derive(Clone, Debug)]
pub(super) struct Mix {
    state: u64,
}

impl Mix {
    pub(super) fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    pub(super) fn draw(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.state ^ (self.state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `end`, which is not zero. Its slight preference for small numbers does not matter here.
    pub(super) fn below(&mut self, end: usize) -> usize {
        (self.draw() % end as u64) as usize
    }
}
