//! What a group's search runs on: open blocks, and the group's entries.

use std::{collections::BTreeSet, sync::Arc};

use alloy_primitives::{B256, I256};
use lockstep_primitives::ChainId;

use super::{entry::Entry, rooms::Rooms};
use crate::{
    Attempt, BuildError, Lanes, SlotView,
    greedy::closes_untrusted_cycle,
    reuse::{self, Marks, Variant},
    run::run_remembering,
    search::{Gain, Ground},
};

/// Open blocks with nothing in them, on which the entries of a group are placed and undone.
pub(super) struct GroupGround<'a> {
    view: &'a SlotView,
    rooms: &'a Rooms,
    lanes: &'a mut Lanes,
    members: Vec<&'a Entry>,
    placed: Vec<Step>,
    /// What was found out of each member beyond what is remembered of it.
    found: Vec<Vec<Arc<Variant>>>,
}

struct Step {
    marks: Marks,
    attempt: Arc<Attempt>,
}

/// How many results of a member are kept during a search.
const MAX_FOUND: usize = 16;

impl<'a> GroupGround<'a> {
    pub(super) fn new(view: &'a SlotView, rooms: &'a Rooms, lanes: &'a mut Lanes, members: Vec<&'a Entry>) -> Self {
        let found = vec![Vec::new(); members.len()];
        Self { view, rooms, lanes, members, placed: Vec::new(), found }
    }

    /// What was found out, by member. The blocks are as they were.
    pub(super) fn finish(mut self) -> Vec<Vec<Arc<Variant>>> {
        self.undo(0);
        self.found
    }

    fn closes_cycle(&self, new: &BTreeSet<(ChainId, ChainId)>) -> bool {
        let edges = || self.placed.iter().flat_map(|step| step.attempt.run.edges.iter()).chain(new).copied().collect();
        !new.is_empty() && closes_untrusted_cycle(self.view, &edges())
    }

    fn attempt(&mut self, item: usize) -> Result<Arc<Attempt>, BuildError> {
        let entry = self.members[item];
        let delivered: BTreeSet<B256> = self.placed.iter().flat_map(|step| step.attempt.run.delivered.iter().copied()).collect();
        if let Some(taken) = entry.recall(self.lanes, &delivered)? {
            return Ok(taken.attempt);
        }
        for variant in self.found[item].iter().rev() {
            if let Some(taken) = variant.recall(self.lanes, entry.candidate(), &delivered)? {
                return Ok(taken.attempt);
            }
        }
        let (attempt, variant) = run_remembering(self.view, self.lanes, &entry.candidate().bundle, &delivered)?;
        if let Some(variant) = variant.filter(|variant| variant.recallable) {
            let found = &mut self.found[item];
            if found.len() >= MAX_FOUND {
                found.remove(0);
            }
            found.push(Arc::new(variant));
        }
        Ok(attempt)
    }
}

impl Ground for GroupGround<'_> {
    type Mark = usize;
    type Error = BuildError;

    fn mark(&self) -> usize {
        self.placed.len()
    }

    fn place(&mut self, item: usize) -> Result<Option<Gain>, BuildError> {
        let entry = self.members[item];
        let before = self.rooms.used(self.lanes, entry.rollups());
        let marks = reuse::marks(self.lanes, &entry.candidate().bundle);
        let attempt = self.attempt(item)?;
        if attempt.blocked.is_some() {
            return Ok(None);
        }
        let floor = if attempt.run.relays.is_empty() { I256::ZERO } else { self.view.policy.min_relay_value };
        if attempt.run.value < floor || self.closes_cycle(&attempt.run.edges) {
            reuse::roll_back(self.lanes, &marks);
            return Ok(None);
        }
        let Ok(value) = i128::try_from(attempt.run.value) else {
            reuse::roll_back(self.lanes, &marks);
            return Err(BuildError::Overflow);
        };
        let usage = self.rooms.used_since(self.lanes, entry.rollups(), &before);
        self.placed.push(Step { marks, attempt });
        Ok(Some(Gain { value, usage }))
    }

    fn undo(&mut self, mark: usize) {
        while self.placed.len() > mark {
            if let Some(step) = self.placed.pop() {
                reuse::roll_back(self.lanes, &step.marks);
            }
        }
    }
}
