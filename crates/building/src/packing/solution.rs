//! A packing: what every group takes, and the room that is left.

use super::instance::Instance;

/// Passes of a fill. Every pass that changes something raises the value; more than a few are not seen.
const FILL_PASSES: usize = 8;

/// Choices of a changed group for which others are made to give way.
const EVICTING_CHOICES: usize = 4;

/// What every group takes. It always fits.
#[derive(Clone, Debug)]
pub(super) struct Solution {
    /// Per group the item taken.
    chosen: Vec<Option<usize>>,
    /// Per dimension what is left of its capacity.
    room: Vec<u64>,
    value: i128,
    /// When the last fill ended, nothing more fitted.
    full: bool,
}

impl Solution {
    pub(super) fn empty(instance: &Instance) -> Self {
        Self { chosen: vec![None; instance.len()], room: instance.capacities().to_vec(), value: 0, full: false }
    }

    /// Takes items by value for the cost of their room at `weights` (prices of whole capacities), as they fit. Also tells for
    /// every dimension how dense the first item was that found no room in it, zero when all did.
    pub(super) fn greedy(instance: &Instance, weights: &[f64]) -> (Self, Vec<f64>) {
        let mut order: Vec<(f64, usize, usize)> = Vec::new();
        for group in 0..instance.len() {
            order.extend(instance.items_of(group).map(|item| {
                let cost = instance.cost(item, weights).max(f64::MIN_POSITIVE);
                (instance.item(item).worth / cost, group, item)
            }));
        }
        order.sort_unstable_by(|a, b| b.0.total_cmp(&a.0).then_with(|| (a.1, a.2).cmp(&(b.1, b.2))));
        let mut solution = Self::empty(instance);
        let mut thresholds = vec![0.0; weights.len()];
        for (density, group, item) in order {
            if solution.chosen[group].is_some() {
                continue;
            }
            if solution.fits(instance, item) {
                solution.set(instance, group, Some(item));
                continue;
            }
            for used in instance.uses_of(item) {
                if used.amount > solution.room[used.dimension] && thresholds[used.dimension] == 0.0 && density.is_finite() {
                    thresholds[used.dimension] = density;
                }
            }
        }
        (solution, thresholds)
    }

    /// Gives every group what is best for it at these prices of whole capacities, those first that are worth most for their
    /// cost, as they fit.
    pub(super) fn preferred(instance: &Instance, shares: &[f64]) -> Self {
        let mut order: Vec<(f64, usize, usize)> = Vec::new();
        for group in 0..instance.len() {
            let (best, most) = instance.best_of(group, shares);
            if let Some(item) = best {
                order.push((most / instance.cost(item, shares).max(f64::MIN_POSITIVE), group, item));
            }
        }
        order.sort_unstable_by(|a, b| b.0.total_cmp(&a.0).then_with(|| a.1.cmp(&b.1)));
        let mut solution = Self::empty(instance);
        for (_, group, item) in order {
            if solution.fits(instance, item) {
                solution.set(instance, group, Some(item));
            }
        }
        solution
    }

    /// How many groups there are.
    pub(super) fn len(&self) -> usize {
        self.chosen.len()
    }

    /// Makes place for as many groups.
    pub(super) fn grow(&mut self, groups: usize) {
        if self.chosen.len() < groups {
            self.chosen.resize(groups, None);
        }
    }

    pub(super) fn chosen(&self, group: usize) -> Option<usize> {
        self.chosen[group]
    }

    /// For renaming items only.
    pub(super) fn chosen_mut(&mut self) -> &mut [Option<usize>] {
        &mut self.chosen
    }

    pub(super) fn room(&self) -> &[u64] {
        &self.room
    }

    pub(super) fn value(&self) -> i128 {
        self.value
    }

    pub(super) fn is_full(&self) -> bool {
        self.full
    }

    /// Lets a group take an item that fits, or none, instead of what it has.
    pub(super) fn set(&mut self, instance: &Instance, group: usize, item: Option<usize>) {
        if let Some(old) = self.chosen[group] {
            self.value -= instance.item(old).value;
            for used in instance.uses_of(old) {
                self.room[used.dimension] += used.amount;
            }
        }
        if let Some(new) = item {
            self.value += instance.item(new).value;
            for used in instance.uses_of(new) {
                self.room[used.dimension] -= used.amount;
            }
        }
        self.chosen[group] = item;
    }

    /// Whether an item fits beside everything that is taken.
    pub(super) fn fits(&self, instance: &Instance, item: usize) -> bool {
        instance.uses_of(item).iter().all(|used| used.amount <= self.room[used.dimension])
    }

    /// Whether an item fits instead of what its group has.
    pub(super) fn fits_instead(&self, instance: &Instance, group: usize, item: usize) -> bool {
        let own = self.chosen[group].map_or(&[][..], |item| instance.uses_of(item));
        instance.uses_of(item).iter().all(|used| {
            let back = own.iter().find(|own| own.dimension == used.dimension).map_or(0, |own| own.amount);
            used.amount <= self.room[used.dimension] + back
        })
    }

    /// Whether an item is worth more than what its group has. Anything is better than nothing.
    pub(super) fn is_better(&self, instance: &Instance, group: usize, item: usize) -> bool {
        self.chosen[group].is_none_or(|own| instance.item(item).value > instance.item(own).value)
    }

    /// Lets a group take the most valuable item that fits.
    pub(super) fn upgrade(&mut self, instance: &Instance, group: usize) {
        let fitting = instance
            .items_of(group)
            .filter(|item| self.is_better(instance, group, *item) && self.fits_instead(instance, group, *item));
        // The first of equals, as everywhere.
        if let Some(item) = fitting.rev().max_by_key(|item| instance.item(*item).value) {
            self.set(instance, group, Some(item));
        }
    }

    /// Takes more, or something better, until nothing fits any more; first what gains most beyond the room it buys.
    pub(super) fn fill(&mut self, instance: &Instance, shares: &[f64]) {
        self.full = false;
        for _ in 0..FILL_PASSES {
            let mut order: Vec<(f64, usize, usize)> = Vec::new();
            for group in 0..instance.len() {
                for item in instance.items_of(group) {
                    if self.is_better(instance, group, item) && self.fits_instead(instance, group, item) {
                        let own = self.chosen[group].map_or(0.0, |own| instance.reduced(own, shares));
                        order.push((instance.reduced(item, shares) - own, group, item));
                    }
                }
            }
            if order.is_empty() {
                self.full = true;
                return;
            }
            order.sort_unstable_by(|a, b| b.0.total_cmp(&a.0).then_with(|| (a.1, a.2).cmp(&(b.1, b.2))));
            for (_, group, item) in order {
                if self.is_better(instance, group, item) && self.fits_instead(instance, group, item) {
                    self.set(instance, group, Some(item));
                }
            }
        }
    }

    /// Makes others give way to a choice of a group that has none here, when it is worth more than they are. Only choices that
    /// are better for the group at these prices than `otherwise`, what it takes when nobody gives way. Whether any was placed.
    pub(super) fn evict_for(&mut self, instance: &Instance, shares: &[f64], group: usize, otherwise: Option<usize>) -> bool {
        let floor = otherwise.map_or(0.0, |item| instance.reduced(item, shares));
        let mut wanted: Vec<(f64, usize)> = instance
            .items_of(group)
            .map(|item| (instance.reduced(item, shares), item))
            .filter(|(reduced, item)| *reduced > floor && !self.fits(instance, *item))
            .collect();
        wanted.sort_unstable_by(|a, b| b.0.total_cmp(&a.0).then_with(|| a.1.cmp(&b.1)));
        wanted.truncate(EVICTING_CHOICES);
        let gained = |item: Option<usize>| item.map_or(0, |item| instance.item(item).value);
        let mut best: Option<(i128, usize, Vec<usize>)> = None;
        for (_, item) in wanted {
            let least = best.as_ref().map_or(gained(otherwise), |(gain, ..)| *gain);
            let Some((lost, victims)) = self.victims(instance, item, gained(Some(item)) - least) else { continue };
            best = Some((gained(Some(item)) - lost, item, victims));
        }
        let Some((_, item, victims)) = best else { return false };
        for victim in victims {
            self.set(instance, victim, None);
        }
        self.set(instance, group, Some(item));
        true
    }

    /// Groups that together hold the room that an item lacks, and what they are worth: less than `most`. Those first that lose
    /// least for the room that is lacking, or a single one if that is cheaper.
    fn victims(&self, instance: &Instance, item: usize, most: i128) -> Option<(i128, Vec<usize>)> {
        let mut lacking = vec![0_u64; self.room.len()];
        for used in instance.uses_of(item) {
            lacking[used.dimension] = used.amount.saturating_sub(self.room[used.dimension]);
        }
        let mut order: Vec<(f64, usize, usize)> = Vec::new();
        let mut single: Option<(i128, usize)> = None;
        for (group, own) in self.chosen.iter().enumerate() {
            let Some(own) = *own else { continue };
            let Some(relief) = relief(instance, own, &lacking) else { continue };
            let value = instance.item(own).value;
            let enough = lacking.iter().enumerate().all(|(dimension, lacking)| {
                *lacking == 0 || instance.uses_of(own).iter().any(|used| used.dimension == dimension && used.amount >= *lacking)
            });
            if enough && value < single.map_or(most, |(least, _)| least) {
                single = Some((value, group));
            }
            if value < most {
                order.push((instance.item(own).worth / relief, group, own));
            }
        }
        order.sort_unstable_by(|a, b| a.0.total_cmp(&b.0).then_with(|| a.1.cmp(&b.1)));
        let cap = single.map_or(most, |(least, _)| least);
        let several = gather(instance, &order, lacking, cap);
        several.or_else(|| single.map(|(value, group)| (value, vec![group])))
    }
}

/// How much of what is lacking an item holds: the sum over dimensions of the share of the lack that it covers. `None` if it
/// holds nothing of it.
fn relief(instance: &Instance, own: usize, lacking: &[u64]) -> Option<f64> {
    let held = instance.uses_of(own).iter().filter(|used| lacking[used.dimension] > 0);
    let relief: f64 = held.map(|used| (used.amount as f64 / lacking[used.dimension] as f64).min(1.0)).sum();
    (relief > 0.0).then_some(relief)
}

/// Gathers groups in this order until nothing is lacking, if they are worth less than `most` together.
fn gather(instance: &Instance, order: &[(f64, usize, usize)], mut lacking: Vec<u64>, most: i128) -> Option<(i128, Vec<usize>)> {
    let mut lost = 0;
    let mut victims = Vec::new();
    for (_, group, own) in order {
        if relief(instance, *own, &lacking).is_none() {
            continue;
        }
        lost += instance.item(*own).value;
        if lost >= most {
            return None;
        }
        for used in instance.uses_of(*own) {
            lacking[used.dimension] = lacking[used.dimension].saturating_sub(used.amount);
        }
        victims.push(*group);
        if lacking.iter().all(|lacking| *lacking == 0) {
            return Some((lost, victims));
        }
    }
    None
}
