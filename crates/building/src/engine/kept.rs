//! What is kept of a set of rollups: its bundles in the order in which they are tried, and its blocks as they are filled.

use std::collections::BTreeSet;

use super::{entry::Entries, fill::Fill, solve::Solver};
use crate::{BuildError, SlotView};

/// What is kept of a set of rollups.
#[derive(Clone, Debug)]
pub(super) struct Kept {
    /// The entries whose rollups lie in the set, in the order in which they are tried.
    order: Vec<usize>,
    /// Filled in that order.
    greedy: Fill,
    /// From where on it is not: what changed since was taken in where it could be.
    changed: Option<usize>,
    /// Filled in another way, where that is worth more.
    found: Option<Fill>,
    pub(super) solver: Solver,
}

impl Kept {
    /// Blocks that are filled in the order.
    pub(super) fn new(order: Vec<usize>, greedy: Fill) -> Self {
        Self { order, greedy, changed: None, found: None, solver: Solver::default() }
    }

    /// The entries in the order in which they are tried.
    pub(super) fn order(&self) -> &[usize] {
        &self.order
    }

    /// The blocks that are proposed.
    pub(super) fn best(&self) -> &Fill {
        self.found.as_ref().unwrap_or(&self.greedy)
    }

    /// What the solver chose, and then the rest in the order in which they are tried.
    pub(super) fn order_with(&self) -> Vec<usize> {
        let chosen: BTreeSet<usize> = self.solver.order.iter().copied().collect();
        let rest = self.order.iter().copied().filter(|index| !chosen.contains(index));
        self.solver.order.iter().copied().chain(rest).collect()
    }

    /// Notes that an entry came.
    pub(super) fn add(&mut self, entries: &Entries, index: usize) {
        self.solver.bound = None;
        let position = self.order.partition_point(|other| entries.by_density(*other, index).is_lt());
        self.order.insert(position, index);
        self.changed = Some(self.changed.map_or(position, |before| before.min(position)));
        self.greedy.come(index);
        if let Some(found) = &mut self.found {
            found.come(index);
        }
    }

    /// Takes an entry out that is still there.
    pub(super) fn remove(&mut self, entries: &Entries, index: usize) {
        self.solver.forget(index);
        if let Some(found) = &mut self.found {
            found.leave(index);
        }
        let Ok(position) = self.order.binary_search_by(|other| entries.by_density(*other, index)) else { return };
        self.order.remove(position);
        let stood = self.greedy.leave(index);
        // What is not filled in yet moves with the order.
        self.changed = match self.changed {
            Some(from) if from <= position => Some(from),
            _ if stood => Some(position),
            from => from.map(|from| from - 1),
        };
    }

    /// Takes what came and went into the blocks that are proposed, and leaves the rest as it is.
    ///
    /// # Errors
    /// When the engine fails. Asked again it goes on from there, as if it had not.
    pub(super) fn catch_up(&mut self, view: &SlotView, entries: &Entries) -> Result<(), BuildError> {
        self.found.as_mut().unwrap_or(&mut self.greedy).catch_up(view, entries)
    }

    /// Fills anew what is not filled in its order. What is proposed stays if it is worth more, and takes in what it can.
    ///
    /// # Errors
    /// When the engine fails; what is kept is of no use then.
    pub(super) fn settle(&mut self, view: &SlotView, entries: &Entries) -> Result<(), BuildError> {
        let Some(from) = self.changed.take() else { return Ok(()) };
        let mut proposed = self.found.take().unwrap_or_else(|| self.greedy.clone());
        let first = self.order.get(from).copied();
        let steps = self.greedy.standing(|entry| first.is_none_or(|first| entries.by_density(entry, first).is_lt()));
        self.greedy.fill(view, entries, &self.order, (from, steps))?;
        proposed.catch_up(view, entries)?;
        proposed.retry(view, entries, &self.order, true)?;
        self.offer(proposed);
        Ok(())
    }

    /// Keeps blocks that are filled in another way, if they are worth more than what is proposed.
    pub(super) fn offer(&mut self, fill: Fill) {
        if fill.value() > self.best().value() {
            self.found = Some(fill);
        }
        // What a fixed order could not show of a value is no bound on it.
        let value = self.best().value();
        self.solver.bound = self.solver.bound.map(|bound| bound.max(value));
    }
}
