//! Fills the open blocks of a set of rollups in a given order, and goes back to any point of it.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque, btree_map::Entry as Counted},
    sync::Arc,
};

use alloy_primitives::{B256, I256};
use lockstep_primitives::{ChainId, Place, Reason, Rejection};

use super::{
    entry::{Entries, Entry},
    waiting::{Waiting, waits},
};
use crate::{
    Attempt, BuildError, BundleRun, Lanes, SlotView,
    greedy::closes_untrusted_cycle,
    reuse::{self, Marks, Taken, Variant},
    run::run_remembering,
};

/// Something that was placed.
#[derive(Clone, Debug)]
pub(super) struct Step {
    /// Whether it came in after the first pass.
    late: bool,
    /// What it was refused for when it was its turn.
    before: Option<Box<Rejection>>,
    marks: Marks,
    pub(super) entry: usize,
    taken: Taken,
}

impl Step {
    pub(super) fn run(&self) -> &BundleRun {
        &self.taken.attempt.run
    }

    /// The rollups whose blocks it stands in or depends on.
    pub(super) fn rollups(&self) -> impl Iterator<Item = ChainId> {
        let origins = self.run().edges.iter().map(|(origin, _)| *origin);
        self.marks.iter().map(|(chain, _)| *chain).chain(origins)
    }
}

/// Open blocks that are filled with entries in an order: each goes in if it is valid and has room where it is its turn. What
/// was refused and may have been cured meanwhile is tried again afterwards.
#[derive(Clone, Debug)]
pub(super) struct Fill {
    pub(super) lanes: Lanes,
    pub(super) steps: Vec<Step>,
    /// Why what is in no block is not, by entry.
    refused: Vec<Option<Box<Rejection>>>,
    /// What the first pass said of the entries that were tried later, too.
    first: BTreeMap<usize, Option<Box<Rejection>>>,
    pub(super) waiting: Waiting,
    /// What became of each entry that had to be run, as long as that holds.
    tried: Vec<Option<Arc<Variant>>>,
    pub(super) value: I256,
    /// Messages that were delivered, and between which rollups how often.
    delivered: BTreeSet<B256>,
    edges: BTreeMap<(ChainId, ChainId), usize>,
    /// Entries that came and were not looked at yet.
    pub(super) news: Vec<usize>,
    /// What is still to be placed: what stood behind something that went, in the order in which it stood, and what came.
    pub(super) again: VecDeque<usize>,
    /// Entries that came and have no room, if others do not make way for them.
    pub(super) cramped: VecDeque<usize>,
}

impl Fill {
    /// Nothing placed yet.
    pub(super) fn new(lanes: Lanes) -> Self {
        Self {
            lanes,
            steps: Vec::new(),
            refused: Vec::new(),
            first: BTreeMap::new(),
            waiting: Waiting::default(),
            tried: Vec::new(),
            value: I256::ZERO,
            delivered: BTreeSet::new(),
            edges: BTreeMap::new(),
            news: Vec::new(),
            again: VecDeque::new(),
            cramped: VecDeque::new(),
        }
    }

    pub(super) const fn value(&self) -> I256 {
        self.value
    }

    pub(super) const fn lanes(&self) -> &Lanes {
        &self.lanes
    }

    /// What is in the blocks, in the order in which it was placed.
    pub(super) fn placed(&self) -> impl ExactSizeIterator<Item = (usize, &Taken)> {
        self.steps.iter().map(|step| (step.entry, &step.taken))
    }

    pub(super) fn refusal(&self, entry: usize) -> Option<&Rejection> {
        self.refused.get(entry).and_then(Option::as_deref)
    }

    /// Takes note of what entries will likely do.
    pub(super) fn foresee(&mut self, found: Vec<(usize, Arc<Variant>)>) {
        for (index, variant) in found {
            if self.tried.len() <= index {
                self.tried.resize(index + 1, None);
            }
            self.tried[index] = Some(variant);
        }
    }

    /// What entries did where they are in the blocks, if that was more than what is known of them.
    pub(super) fn found(&self) -> impl Iterator<Item = (usize, &Arc<Variant>)> {
        self.steps.iter().filter_map(|step| Some((step.entry, self.tried.get(step.entry)?.as_ref()?)))
    }

    /// Makes room for so many entries, so that those before them need not be moved while they come in.
    pub(super) fn expect(&mut self, entries: usize) {
        self.steps.reserve(entries);
        let each = entries / self.lanes.len().max(1);
        self.lanes.values_mut().for_each(|lane| lane.block_mut().expect_transactions(each));
    }

    /// Fills anew behind so many steps, with what comes from a position of the order on. What stands before it stays as it is.
    ///
    /// # Errors
    /// When the engine fails.
    pub(super) fn fill(
        &mut self,
        view: &SlotView,
        entries: &Entries,
        order: &[usize],
        (from, steps): (usize, usize),
    ) -> Result<(), BuildError> {
        self.go_back(steps);
        self.make_places(entries);
        order.iter().skip(from).for_each(|index| self.refused[*index] = None);
        self.wait_anew();
        let mut rooms: Vec<(ChainId, u64)> = self.rooms().collect();
        for index in order.iter().skip(from) {
            let Some(entry) = entries.get(*index) else { continue };
            if let Some(rejection) = certainly_roomless(entry, &rooms) {
                self.refused[*index] = Some(Box::new(rejection));
                continue;
            }
            if self.place_with_followers(view, entries, (*index, entry), false)? {
                rooms.clear();
                rooms.extend(self.rooms());
            }
        }
        // Room does not come back in a block.
        self.retry(view, entries, order, false)
    }

    /// Takes the passes over what was refused, as long as they place something. `roomless`: over what had no room, too.
    pub(super) fn retry(
        &mut self,
        view: &SlotView,
        entries: &Entries,
        order: &[usize],
        roomless: bool,
    ) -> Result<(), BuildError> {
        for _ in 1..view.policy.max_passes {
            let before = self.steps.len();
            let mut rooms: Vec<(ChainId, u64)> = self.rooms().collect();
            for index in order {
                let may_be = |rejection: &Rejection| !waits(rejection) && (roomless || !rejection.reason.is_room());
                let curable = self.refusal(*index).is_some_and(may_be);
                let Some(entry) = entries.get(*index).filter(|_| curable) else { continue };
                let roomy = certainly_roomless(entry, &rooms).is_none();
                if roomy && self.place_with_followers(view, entries, (*index, entry), true)? {
                    rooms.clear();
                    rooms.extend(self.rooms());
                }
            }
            if self.steps.len() == before {
                break;
            }
        }
        Ok(())
    }

    /// Forgets what is known of an entry that goes and is not placed: another one may come to have its index.
    pub(super) fn forget(&mut self, entry: usize) {
        self.first.remove(&entry);
        if let Some(refused) = self.refused.get_mut(entry) {
            *refused = None;
        }
        if let Some(tried) = self.tried.get_mut(entry) {
            *tried = None;
        }
    }

    /// Has a place for what is known of each entry.
    pub(super) fn make_places(&mut self, entries: &Entries) {
        self.refused.resize(entries.capacity(), None);
        self.tried.resize(entries.capacity(), None);
    }

    pub(super) fn rooms(&self) -> impl Iterator<Item = (ChainId, u64)> {
        self.lanes.iter().map(|(chain, lane)| (*chain, lane.block().gas_left()))
    }

    /// How many of what was placed in the first pass stand before all that is not `before`.
    pub(super) fn standing(&self, before: impl Fn(usize) -> bool) -> usize {
        self.steps.iter().take_while(|step| !step.late && before(step.entry)).count()
    }

    /// Undoes everything but the first steps, and all that came in later.
    fn go_back(&mut self, steps: usize) {
        for (entry, before) in std::mem::take(&mut self.first) {
            self.refused[entry] = before;
        }
        self.news.clear();
        self.again.clear();
        self.cramped.clear();
        let mut undone = self.steps.split_off(steps.min(self.steps.len()));
        self.undo(&undone);
        // Whose turn was before stays refused for what it was.
        for step in undone.iter_mut().filter(|step| !step.late) {
            self.refused[step.entry] = step.before.take();
        }
    }

    /// Takes down again who waits for a nonce.
    fn wait_anew(&mut self) {
        let refused = self.refused.iter().enumerate().filter_map(|(entry, rejection)| Some((entry, rejection.as_deref()?)));
        self.waiting = Waiting::of(refused);
    }

    /// Takes back steps that nothing stands behind in their blocks.
    pub(super) fn undo(&mut self, undone: &[Step]) {
        for step in undone.iter().rev() {
            reuse::roll_back(&mut self.lanes, &step.marks);
            self.value = self.value.saturating_sub(step.run().value);
            for message in &step.run().delivered {
                self.delivered.remove(message);
            }
            for edge in &step.run().edges {
                if let Counted::Occupied(mut count) = self.edges.entry(*edge) {
                    *count.get_mut() -= 1;
                    if *count.get() == 0 {
                        count.remove();
                    }
                }
            }
        }
    }

    /// Places an entry, or notes why not and leaves no trace of it.
    pub(super) fn place(&mut self, view: &SlotView, index: usize, entry: &Entry, late: bool) -> Result<bool, BuildError> {
        let bundle = &entry.candidate().bundle;
        let marks = reuse::marks(&self.lanes, bundle);
        let (taken, tried) = match recall(&mut self.lanes, self.tried[index].as_deref(), entry, &self.delivered)? {
            Some(recalled) => recalled,
            None => {
                let (attempt, variant) = run_remembering(view, &mut self.lanes, bundle, &self.delivered)?;
                self.tried[index] = variant.filter(|variant| variant.recallable).map(Arc::new);
                (Taken::as_told(attempt), true)
            }
        };
        let run = &taken.attempt.run;
        let mutual = || !run.edges.is_empty() && self.closes_cycle(view, &run.edges);
        let mutual = || mutual().then(|| Rejection::new(Place::BUNDLE, Reason::MutualMessages));
        if let Some(rejection) = refusal_of(view, &taken.attempt).or_else(mutual) {
            reuse::roll_back(&mut self.lanes, &marks);
            if !tried {
                self.tried[index] = None;
            }
            // What went meanwhile is not taken out of who waits; it must not pile up.
            if self.waiting.len() > self.refused.len() {
                self.wait_anew();
            }
            self.waiting.note(index, &rejection);
            self.note(index, Some(rejection), late);
            return Ok(false);
        }
        self.stands(index, Step { late, before: None, marks, entry: index, taken }, tried)?;
        Ok(true)
    }

    /// Takes note of an entry that stands in its blocks. `tried`: whether what it did is what was tried here before.
    fn stands(&mut self, index: usize, mut step: Step, tried: bool) -> Result<(), BuildError> {
        if !tried {
            self.tried[index] = None;
        }
        step.before = self.refused[index].clone();
        self.note(index, None, step.late);
        let run = &step.taken.attempt.run;
        self.value = self.value.checked_add(run.value).ok_or(BuildError::Overflow)?;
        self.delivered.extend(run.delivered.iter().copied());
        for edge in &run.edges {
            *self.edges.entry(*edge).or_default() += 1;
        }
        self.steps.push(step);
        Ok(())
    }

    /// Notes why an entry is refused, or that it is not.
    pub(super) fn note(&mut self, index: usize, refusal: Option<Rejection>, late: bool) {
        let before = std::mem::replace(&mut self.refused[index], refusal.map(Box::new));
        if late {
            self.first.entry(index).or_insert(before);
        }
    }

    fn closes_cycle(&self, view: &SlotView, new: &BTreeSet<(ChainId, ChainId)>) -> bool {
        let edges = self.edges.keys().chain(new).copied().collect();
        closes_untrusted_cycle(view, &edges)
    }
}

/// What is known of an entry and holds on these blocks, and whether that is what was tried there.
fn recall(
    lanes: &mut Lanes,
    tried: Option<&Variant>,
    entry: &Entry,
    delivered: &BTreeSet<B256>,
) -> Result<Option<(Taken, bool)>, BuildError> {
    if let Some(variant) = tried
        && let Some(taken) = variant.recall(lanes, entry.candidate(), delivered)?
    {
        return Ok(Some((taken, true)));
    }
    Ok(entry.recall(lanes, delivered)?.map(|taken| (taken, false)))
}

/// What speaks against something that ran, whatever else is in the blocks.
fn refusal_of(view: &SlotView, attempt: &Attempt) -> Option<Rejection> {
    let Attempt { run, blocked } = attempt;
    let floor = if run.relays.is_empty() { I256::ZERO } else { view.policy.min_relay_value };
    let unprofitable = || (run.value < floor).then(|| Rejection::new(Place::BUNDLE, Reason::Unprofitable { value: run.value }));
    blocked.clone().or_else(unprofitable)
}

/// That a transaction of the entry has no room whatever stands before it in the bundle.
fn certainly_roomless(entry: &Entry, rooms: &[(ChainId, u64)]) -> Option<Rejection> {
    entry.needs().iter().find_map(|(chain, place, gas)| {
        let (_, left) = rooms.iter().find(|(of, _)| of == chain)?;
        (gas > left).then(|| Rejection::new(*place, Reason::NoRoom { gas: *gas, left: *left }))
    })
}
