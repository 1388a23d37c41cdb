//! The choices side by side in memory, the way the search reads them.

use std::ops::Range;

use super::{Choice, GroupChoices};

/// The most that a choice or a slack counts for. Sums over 2^24 groups stay far inside 127 bits.
const MAX_VALUE: i128 = 1 << 100;

/// Leftovers of replaced groups that are kept before memory is tidied, beside as many items as are in use.
const SPARE_ITEMS: usize = 1_024;

/// An item's use of one dimension.
#[derive(Clone, Copy, Debug)]
pub(super) struct Use {
    pub(super) dimension: usize,
    pub(super) amount: u64,
    /// The amount as a share of the capacity.
    pub(super) share: f64,
}

/// A choice that is worth at least nothing and fits alone.
#[derive(Clone, Copy, Debug)]
pub(super) struct Item {
    pub(super) value: i128,
    /// The value as a float.
    pub(super) worth: f64,
    /// Its index among its group's choices as they were given.
    pub(super) place: usize,
    first_use: usize,
    last_use: usize,
}

#[derive(Clone, Copy, Debug, Default)]
struct Group {
    first: usize,
    last: usize,
    /// The greatest value of its items.
    most: i128,
    slack: i128,
    /// How many of its amounts are above [`MAX_VALUE`].
    beyond: usize,
}

/// All groups with their items.
#[derive(Clone, Debug)]
pub(super) struct Instance {
    capacities: Vec<u64>,
    groups: Vec<Group>,
    /// Those of a group stand together. Those of groups that were replaced stay until memory is tidied.
    items: Vec<Item>,
    uses: Vec<Use>,
    /// How many items are in use.
    live: usize,
    /// The sum of every group's greatest value.
    total: i128,
    slack: i128,
    beyond: usize,
}

impl Instance {
    pub(super) fn new(capacities: &[u64]) -> Self {
        Self {
            capacities: capacities.to_vec(),
            groups: Vec::new(),
            items: Vec::new(),
            uses: Vec::new(),
            live: 0,
            total: 0,
            slack: 0,
            beyond: 0,
        }
    }

    /// Gives a group its choices, in place of those it had.
    pub(super) fn set(&mut self, group: usize, given: &GroupChoices) {
        if self.groups.len() <= group {
            self.groups.resize(group + 1, Group::default());
        }
        let first = self.items.len();
        let slack = given.slack.clamp(0, MAX_VALUE);
        let mut new = Group { first, last: first, most: 0, slack, beyond: usize::from(given.slack > MAX_VALUE) };
        for (place, choice) in given.choices.iter().enumerate() {
            if choice.value < 0 || !self.fits_alone(choice) {
                continue;
            }
            debug_assert!(choice.usage.windows(2).all(|pair| pair[0].0 < pair[1].0), "usage ascends by dimension");
            let first_use = self.uses.len();
            for (dimension, amount) in choice.usage.iter().filter(|(_, amount)| *amount > 0) {
                let share = *amount as f64 / self.capacities[*dimension] as f64;
                self.uses.push(Use { dimension: *dimension, amount: *amount, share });
            }
            let value = choice.value.min(MAX_VALUE);
            new.beyond += usize::from(choice.value > MAX_VALUE);
            new.most = new.most.max(value);
            self.items.push(Item { value, worth: value as f64, place, first_use, last_use: self.uses.len() });
        }
        new.last = self.items.len();
        let old = std::mem::replace(&mut self.groups[group], new);
        self.live = self.live + (new.last - new.first) - (old.last - old.first);
        self.total += new.most - old.most;
        self.slack += new.slack - old.slack;
        self.beyond = self.beyond + new.beyond - old.beyond;
    }

    fn fits_alone(&self, choice: &Choice) -> bool {
        choice.usage.iter().all(|(dimension, amount)| self.capacities.get(*dimension).map_or(*amount == 0, |most| amount <= most))
    }

    /// Tidies memory once leftovers outnumber what is in use. `chosen` has an entry for every group and follows its item.
    pub(super) fn compact(&mut self, chosen: &mut [Option<usize>]) {
        if self.items.len() <= 2 * self.live + SPARE_ITEMS {
            return;
        }
        let mut items = Vec::with_capacity(self.live);
        let mut uses = Vec::new();
        for (group, chosen) in self.groups.iter_mut().zip(chosen) {
            let first = items.len();
            for item in &self.items[group.first..group.last] {
                let first_use = uses.len();
                uses.extend_from_slice(&self.uses[item.first_use..item.last_use]);
                items.push(Item { first_use, last_use: uses.len(), ..*item });
            }
            *chosen = chosen.map(|item| item - group.first + first);
            group.first = first;
            group.last = items.len();
        }
        self.items = items;
        self.uses = uses;
    }

    pub(super) fn capacities(&self) -> &[u64] {
        &self.capacities
    }

    /// How many groups there are.
    pub(super) fn len(&self) -> usize {
        self.groups.len()
    }

    pub(super) fn items_of(&self, group: usize) -> Range<usize> {
        let group = &self.groups[group];
        group.first..group.last
    }

    pub(super) fn item(&self, item: usize) -> &Item {
        &self.items[item]
    }

    pub(super) fn uses_of(&self, item: usize) -> &[Use] {
        let item = &self.items[item];
        &self.uses[item.first_use..item.last_use]
    }

    /// No packing is worth more than this: every group's greatest value.
    pub(super) fn total(&self) -> i128 {
        self.total
    }

    /// The sum of the groups' slack.
    pub(super) fn slack(&self) -> i128 {
        self.slack
    }

    /// Whether something is worth more than is counted.
    pub(super) fn is_beyond(&self) -> bool {
        self.beyond > 0
    }

    /// What an item is worth beyond the room it buys, at these prices of whole capacities.
    pub(super) fn reduced(&self, item: usize, shares: &[f64]) -> f64 {
        let worth = self.items[item].worth;
        self.uses_of(item).iter().fold(worth, |left, used| left - shares[used.dimension] * used.share)
    }

    /// What is best for a group at these prices of whole capacities, and what that is worth beyond the room it buys.
    pub(super) fn best_of(&self, group: usize, shares: &[f64]) -> (Option<usize>, f64) {
        let (mut best, mut most) = (None, 0.0);
        for item in self.items_of(group) {
            let reduced = self.reduced(item, shares);
            if reduced > most {
                (best, most) = (Some(item), reduced);
            }
        }
        (best, most)
    }

    /// What an item's room costs, at these prices of whole capacities.
    pub(super) fn cost(&self, item: usize, shares: &[f64]) -> f64 {
        self.uses_of(item).iter().fold(0.0, |sum, used| sum + shares[used.dimension] * used.share)
    }
}
