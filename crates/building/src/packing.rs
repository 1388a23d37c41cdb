//! Which alternatives to take: at most one of each conflict group, under the limits of every rollup.
//!
//! This is a multiple-choice knapsack of several dimensions. Room gets prices first (the multipliers of the Lagrangian dual):
//! with any prices that are not negative, what all the room costs plus what every group is worth beyond the room it buys is
//! never less than the optimum. Good prices make this bound tight and say what to take. What they leave open is filled by
//! value, improved by numbered kicks, and settled by branch and bound where that ends.
//!
//! Floating point only guides the search. Values, room and the bound are integers, so what is promised does not hang on
//! rounding. Nothing here depends on time: work is counted in rounds and nodes.

mod exact;
mod instance;
mod local;
mod prices;
mod solution;
#[cfg(test)]
mod tests;

use instance::Instance;
use prices::Bound;
use solution::Solution;

/// Kicks of the local search for each round.
const KICKS_A_ROUND: u32 = 12;

/// One alternative of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Choice {
    /// What it is worth, in the numeraire's smallest unit. Below zero it is never taken; above 2^100 it counts as 2^100, and
    /// then no bound is known.
    pub(crate) value: i128,
    /// Its use of room, ascending by dimension, each dimension once. A dimension that there is no capacity for has none.
    pub(crate) usage: Vec<(usize, u64)>,
}

/// The alternatives of a group, of which at most one is taken. Taking none is worth zero and needs no entry.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct GroupChoices {
    /// What can be taken.
    pub(crate) choices: Vec<Choice>,
    /// Whatever room the group is given, it is worth at most this much more than its best listed choice, or none, that fits
    /// into that room. Zero when its choices are exact.
    pub(crate) slack: i128,
}

/// What a unit of room is worth: `scaled / 2^shift` in the numeraire's smallest unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Price {
    /// The price times two to the power of `shift`.
    pub(crate) scaled: u128,
    /// At most 64.
    pub(crate) shift: u32,
}

/// What was taken, and how good it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Packed {
    /// For every group the index of the choice taken.
    pub(crate) chosen: Vec<Option<usize>>,
    /// What the chosen are worth together.
    pub(crate) value: i128,
    /// No packing is worth more. The value itself where that is proven and no group has slack; `i128::MAX` when none is known.
    pub(crate) bound: i128,
    /// For every dimension the price of the bound.
    pub(crate) prices: Vec<Price>,
}

/// How much is searched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Settings {
    /// Rounds of the search for prices, each of which looks at every choice once, and of kicks, twelve a round.
    pub(crate) rounds: u32,
    /// Nodes of the branch and bound. One that looks at more than 256 choices counts as several. A sixteenth of them when more
    /// than twelve groups are open.
    pub(crate) exact_nodes: u64,
    /// What the kicks are drawn from.
    pub(crate) seed: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self { rounds: 40, exact_nodes: 20_000, seed: 0 }
    }
}

/// Packs once.
///
/// Choices that do not fit alone are never taken. Deterministic in its arguments. The exact value and bound do not depend on the
/// order of the groups; where they are not proven, the value is never below greedy by density.
#[cfg(test)]
pub(crate) fn pack(capacities: &[u64], groups: &[GroupChoices], settings: &Settings) -> Packed {
    Packing::new(capacities, groups, settings).packed()
}

/// A packing that is kept while its groups change.
#[derive(Clone, Debug)]
pub(crate) struct Packing {
    instance: Instance,
    solution: Solution,
    /// Per dimension the price of all its room, as the search found it.
    shares: Vec<f64>,
    bound: Bound,
    /// The solution is optimal among the listed choices.
    proven: bool,
}

impl Packing {
    /// Packs `groups`, whose indices name them from here on.
    pub(crate) fn new(capacities: &[u64], groups: &[GroupChoices], settings: &Settings) -> Self {
        let mut instance = Instance::new(capacities);
        for (group, choices) in groups.iter().enumerate() {
            instance.set(group, choices);
        }
        let solution = Solution::empty(&instance);
        let shares = vec![0.0; capacities.len()];
        let bound = Bound::new(&instance, &shares);
        let mut packing = Self { instance, solution, shares, bound, proven: false };
        packing.improve(settings);
        packing
    }

    /// Takes in the choices of one group as they are now, from what was packed before: the group decides anew, what is worth
    /// less makes room for it if that pays, and room that became free is filled. The prices stay, so the bound is only brought
    /// up to date. A group that goes away has no choices; a new one has the next index or any beyond it.
    pub(crate) fn update(&mut self, group: usize, choices: &GroupChoices) {
        self.proven = false;
        let before = self.solution.room().to_vec();
        self.solution.grow(group + 1);
        self.solution.set(&self.instance, group, None);
        self.instance.set(group, choices);
        self.instance.compact(self.solution.chosen_mut());
        self.bound.update(&self.instance, &self.shares, group);

        let mut evicting = self.solution.clone();
        self.solution.upgrade(&self.instance, group);
        self.fill_from(&before);
        if evicting.evict_for(&self.instance, &self.shares, group, self.solution.chosen(group)) {
            evicting.fill(&self.instance, &self.shares);
            if evicting.value() > self.solution.value() {
                self.solution = evicting;
            }
        }
    }

    /// Searches on from what is known. Neither the value nor the bound gets worse.
    pub(crate) fn improve(&mut self, settings: &Settings) {
        let even = vec![1.0; self.shares.len()];
        let (mut plain, thresholds) = Solution::greedy(&self.instance, &even);
        plain.fill(&self.instance, &self.shares);
        self.adopt(plain);
        let start = if self.shares.iter().any(|share| *share > 0.0) { self.shares.clone() } else { thresholds };
        let shares = prices::search(&self.instance, start, self.solution.value() as f64, settings.rounds);
        let bound = Bound::new(&self.instance, &shares);
        if bound.listed() < self.bound.listed() {
            self.bound = bound;
            self.shares = shares;
        }
        if !self.settled() {
            let (mut priced, _) = Solution::greedy(&self.instance, &self.shares);
            priced.fill(&self.instance, &self.shares);
            self.adopt(priced);
            let mut preferred = Solution::preferred(&self.instance, &self.shares);
            preferred.fill(&self.instance, &self.shares);
            self.adopt(preferred);
        }
        if !self.settled() {
            let kicks = settings.rounds.saturating_mul(KICKS_A_ROUND);
            local::improve(&self.instance, &mut self.solution, &self.shares, kicks, settings.seed);
        }
        self.solution.fill(&self.instance, &self.shares);
        if !self.settled() {
            let nodes = settings.exact_nodes;
            self.proven = exact::prove(&self.instance, &self.bound, &self.shares, &mut self.solution, nodes);
            // What is worth nothing is still taken where there is room.
            self.solution.fill(&self.instance, &self.shares);
        }
    }

    /// What is packed now.
    pub(crate) fn packed(&self) -> Packed {
        let groups = 0..self.solution.len();
        let chosen = groups.map(|group| self.solution.chosen(group).map(|item| self.instance.item(item).place)).collect();
        let value = self.solution.value();
        let listed = if self.proven { value } else { self.listed().max(value) };
        let bound = if self.instance.is_beyond() { i128::MAX } else { listed.saturating_add(self.instance.slack()) };
        Packed { chosen, value, bound, prices: self.bound.prices() }
    }

    /// Whether nothing that is listed can be packed better. Then there is nothing to search for.
    fn settled(&mut self) -> bool {
        self.proven = self.proven || self.listed() <= self.solution.value();
        self.proven
    }

    /// No packing of listed choices is worth more. Prices that are out of date may say less than no prices at all.
    fn listed(&self) -> i128 {
        self.bound.listed().min(self.instance.total())
    }

    fn adopt(&mut self, candidate: Solution) {
        if candidate.value() > self.solution.value() {
            self.solution = candidate;
        }
    }

    /// Fills, unless there is no more room than when nothing fitted any more.
    fn fill_from(&mut self, before: &[u64]) {
        let more = self.solution.room().iter().zip(before).any(|(now, before)| now > before);
        if more || !self.solution.is_full() {
            self.solution.fill(&self.instance, &self.shares);
        }
    }
}
