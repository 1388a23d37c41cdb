//! The alternatives found so far of which none is beaten by another.

use std::cmp::Reverse;

use super::{Alternative, Gain, within};

/// While it searches it keeps this many times what it lists. What is left out for want of space here is not missed as long as
/// enough others are beaten later.
const SPARE: usize = 4;

/// A use of all room that anything known uses, in one dimension.
const WHOLE: u128 = 1_000_000;

/// Alternatives of which none is worth at most as much as another that needs at most as much room. Taking nothing counts as
/// one, so that all others are worth more than nothing.
#[derive(Clone, Debug)]
pub(super) struct Front {
    /// By value, the greatest first.
    entries: Vec<Alternative>,
    limit: usize,
    /// Some were left out because there were too many.
    thinned: bool,
    /// Some were left out because the numbers do not hold what they are worth or need.
    beyond: bool,
    /// Something came since it was last listed.
    changed: bool,
}

impl Front {
    /// An empty one that will list up to `listed` alternatives.
    pub(super) fn new(listed: usize) -> Self {
        let limit = listed.max(1).saturating_mul(SPARE);
        Self { entries: Vec::new(), limit, thinned: false, beyond: false, changed: false }
    }

    /// Takes an alternative in unless it is beaten, and drops those that it beats.
    pub(super) fn offer(&mut self, total: &Gain, order: impl Iterator<Item = usize>) {
        if self.beats(total.value, &total.usage) {
            return;
        }
        self.entries.retain(|entry| entry.value > total.value || !within(&total.usage, &entry.usage));
        let position = self.entries.partition_point(|entry| entry.value >= total.value);
        let entry = Alternative { order: order.collect(), value: total.value, usage: total.usage.clone() };
        self.entries.insert(position, entry);
        self.changed = true;
        if self.entries.len() > self.limit {
            thin(&mut self.entries, self.limit / 2);
            self.thinned = true;
        }
    }

    /// Whether something known is worth at least `value` and needs at most `usage`.
    pub(super) fn beats(&self, value: i128, usage: &[(usize, u64)]) -> bool {
        value <= 0 || self.entries.iter().take_while(|entry| entry.value >= value).any(|entry| within(&entry.usage, usage))
    }

    /// Notes that there was something that the numbers do not hold.
    pub(super) const fn leave_out(&mut self) {
        self.beyond = true;
    }

    /// Forgets everything.
    pub(super) fn clear(&mut self) {
        self.entries.clear();
        (self.thinned, self.beyond, self.changed) = (false, false, true);
    }

    /// What the best is worth, zero when there is none.
    #[cfg(test)]
    pub(super) fn best(&self) -> i128 {
        self.entries.first().map_or(0, |entry| entry.value)
    }

    pub(super) const fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether nothing was left out that it was offered.
    pub(super) const fn is_whole(&self) -> bool {
        !self.thinned && !self.beyond
    }

    /// Whether something was left out that the numbers do not hold.
    #[cfg(test)]
    pub(super) const fn is_beyond(&self) -> bool {
        self.beyond
    }

    /// Up to `most` of them, one at least where there is one: the best, and others of all sizes. `None` when nothing changed
    /// since the last time.
    pub(super) fn list(&mut self, most: usize) -> Option<Vec<Alternative>> {
        if !std::mem::take(&mut self.changed) {
            return None;
        }
        let mut listed = self.entries.clone();
        thin(&mut listed, most);
        listed.sort_by(|a, b| (Reverse(a.value), &a.usage, &a.order).cmp(&(Reverse(b.value), &b.usage, &b.order)));
        Some(listed)
    }
}

/// Leaves `most` entries, or one: the first, and others spread over the use of room. Who has the nearest neighbours goes first.
fn thin(entries: &mut Vec<Alternative>, most: usize) {
    let most = most.max(1);
    if entries.len() <= most {
        return;
    }
    let sizes = sizes(entries);
    let mut by_size: Vec<usize> = (0..entries.len()).collect();
    by_size.sort_by_key(|index| sizes[*index]);
    while by_size.len() > most {
        let size = |position: usize| by_size.get(position).map(|index| sizes[*index]);
        let gap = |position: usize| match (position.checked_sub(1).and_then(size), size(position + 1)) {
            (Some(below), Some(above)) => above - below,
            // The smallest and the largest stay as long as any between them.
            _ => u128::MAX,
        };
        let others = (0..by_size.len()).filter(|position| by_size[*position] != 0);
        let Some(crowded) = others.min_by_key(|position| gap(*position)) else { break };
        by_size.remove(crowded);
    }
    by_size.sort_unstable();
    let mut index = 0;
    entries.retain(|_| {
        index += 1;
        by_size.binary_search(&(index - 1)).is_ok()
    });
}

/// How much room each uses: all dimensions together, each in parts of the most that any of them uses.
fn sizes(entries: &[Alternative]) -> Vec<u128> {
    let most = |dimension: usize| {
        let amounts = entries.iter().flat_map(|entry| &entry.usage).filter(|(of, _)| *of == dimension).map(|(_, amount)| *amount);
        u128::from(amounts.max().unwrap_or(0).max(1))
    };
    let mut dimensions: Vec<usize> = entries.iter().flat_map(|entry| &entry.usage).map(|(dimension, _)| *dimension).collect();
    dimensions.sort_unstable();
    dimensions.dedup();
    let mosts: Vec<u128> = dimensions.iter().map(|dimension| most(*dimension)).collect();
    let share = |(dimension, amount): &(usize, u64)| {
        let most = dimensions.binary_search(dimension).ok().and_then(|at| mosts.get(at)).copied().unwrap_or(1);
        u128::from(*amount) * WHOLE / most
    };
    entries.iter().map(|entry| entry.usage.iter().map(share).sum()).collect()
}
