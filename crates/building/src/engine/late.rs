//! Takes late changes into filled blocks at once: what came goes in where it has room, what stood behind something that went
//! comes back in its order, and everything else stays where it is. Filling anew, in the order of value for gas, can wait.

use std::{
    collections::{BTreeSet, VecDeque},
    mem::take,
};

use lockstep_primitives::ChainId;

use super::{
    entry::{Entries, Entry},
    fill::{Fill, Step},
};
use crate::{BuildError, SlotView};

/// How many of the last bundles may be moved to make way for one that is worth more for its gas.
const MAX_MOVED: usize = 64;

impl Fill {
    /// Notes that an entry came.
    pub(super) fn come(&mut self, entry: usize) {
        self.news.push(entry);
    }

    /// Takes an entry out, and with it what stands behind it in its blocks, until the blocks are brought up to date. Whether it
    /// stood in any.
    pub(super) fn leave(&mut self, entry: usize) -> bool {
        let others = |other: &usize| *other != entry;
        self.news.retain(others);
        self.again.retain(others);
        self.cramped.retain(others);
        let placed = self.refusal(entry).is_none();
        let at = placed.then(|| self.steps.iter().position(|step| step.entry == entry)).flatten();
        if let Some(at) = at {
            let behind = self.take_from(at);
            let behind = behind.iter().map(|step| step.entry).filter(others);
            self.again = behind.chain(take(&mut self.again)).collect();
        }
        self.forget(entry);
        at.is_some()
    }

    /// Brings the blocks up to date with what came and went.
    ///
    /// # Errors
    /// When the engine fails. Asked again it goes on from there, as if it had not.
    pub(super) fn catch_up(&mut self, view: &SlotView, entries: &Entries) -> Result<(), BuildError> {
        self.make_places(entries);
        self.line_up(entries);
        while let Some(index) = self.again.front().copied() {
            self.put(view, entries, index)?;
            self.again.pop_front();
        }
        while let Some(index) = self.cramped.front().copied() {
            if self.refusal(index).is_some_and(|rejection| rejection.reason.is_room()) {
                self.make_way(view, entries, index)?;
            }
            self.cramped.pop_front();
        }
        Ok(())
    }

    /// Puts what came in front of what is still to be placed and worth less for its gas.
    fn line_up(&mut self, entries: &Entries) {
        let mut news = take(&mut self.news);
        if news.is_empty() {
            return;
        }
        news.sort_by(|a, b| entries.by_density(*a, *b));
        self.cramped.extend(&news);
        let mut coming = news.into_iter().peekable();
        let mut line = VecDeque::with_capacity(coming.len() + self.again.len());
        for index in take(&mut self.again) {
            while let Some(newcomer) = coming.next_if(|newcomer| entries.by_density(*newcomer, index).is_lt()) {
                line.push_back(newcomer);
            }
            line.push_back(index);
        }
        line.extend(coming);
        self.again = line;
    }

    fn put(&mut self, view: &SlotView, entries: &Entries, index: usize) -> Result<bool, BuildError> {
        entries.get(index).map_or(Ok(false), |entry| self.place_with_followers(view, entries, (index, entry), true))
    }

    /// Takes a step out with all steps behind it that stand in the same blocks, depend on them, or on what is taken out so.
    fn take_from(&mut self, at: usize) -> Vec<Step> {
        let mut touched: BTreeSet<ChainId> = BTreeSet::new();
        let (mut stay, mut out) = (Vec::new(), Vec::new());
        for step in self.steps.split_off(at) {
            if out.is_empty() || step.rollups().any(|chain| touched.contains(&chain)) {
                touched.extend(step.rollups());
                out.push(step);
            } else {
                stay.push(step);
            }
        }
        self.steps.extend(stay);
        self.undo(&out);
        out
    }

    /// Places an entry that has no room before some of the last ones, which are worth less for their gas, if that pays.
    fn make_way(&mut self, view: &SlotView, entries: &Entries, index: usize) -> Result<(), BuildError> {
        let Some(at) = entries.get(index).and_then(|entry| self.way_for(entries, index, entry)) else { return Ok(()) };
        let (refused, before) = (self.refusal(index).cloned(), self.value);
        let moved = self.take_last(at);
        let placed = std::iter::once(&index).chain(&moved).try_for_each(|entry| self.put(view, entries, *entry).map(drop));
        if placed.is_err() || self.value < before {
            self.take_last(at);
            moved.iter().try_for_each(|other| self.put(view, entries, *other).map(drop))?;
            self.note(index, refused, true);
        }
        placed
    }

    /// Takes out everything from a step on.
    fn take_last(&mut self, at: usize) -> Vec<usize> {
        let out = self.steps.split_off(at);
        self.undo(&out);
        out.iter().map(|step| step.entry).collect()
    }

    /// From which step on everything has to move so that an entry gets the gas that it takes alone; `None` when what stands
    /// there is worth more for its gas, or it lacks something else.
    fn way_for(&self, entries: &Entries, index: usize, entry: &Entry) -> Option<usize> {
        entry.worthwhile()?;
        let left = |of: ChainId| self.lanes.get(&of).map_or(0, |lane| lane.block().gas_left());
        let asked = entry.simulated().attempt.run.gas.iter();
        let mut lacking: Vec<(ChainId, u64)> = asked
            .map(|(chain, gas)| (*chain, gas.saturating_add(entry.headroom()).saturating_sub(left(*chain))))
            .filter(|(_, gas)| *gas > 0)
            .collect();
        if lacking.is_empty() {
            return None;
        }
        for (at, step) in self.steps.iter().enumerate().rev().take(MAX_MOVED) {
            let mut in_the_way = false;
            for (chain, gas) in &mut lacking {
                let freed = step.run().gas.get(chain).copied().unwrap_or_default();
                in_the_way |= freed > 0 && *gas > 0;
                *gas = gas.saturating_sub(freed);
            }
            if in_the_way && entries.by_density(step.entry, index).is_lt() {
                return None;
            }
            if lacking.iter().all(|(_, gas)| *gas == 0) {
                return Some(at);
            }
        }
        None
    }
}
