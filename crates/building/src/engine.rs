//! The engine: keeps what is known of a slot's pending bundles, so that what did not change is not computed again.

mod binding;
mod entry;
mod fill;
mod ground;
mod groups;
mod kept;
mod late;
mod prepare;
mod rooms;
mod solve;
mod waiting;

use std::{collections::BTreeMap, sync::Arc};

use alloy_primitives::{B256, I256};
use lockstep_primitives::{ChainId, OrderingPolicy, RollupSet};
use lockstep_simulation::Lane;
use rayon::prelude::*;

use self::{
    binding::{Binding, Key},
    entry::{Entries, Entry},
    fill::Fill,
    groups::Groups,
    kept::Kept,
    prepare::{Ahead, prepare},
};
use crate::{
    BuildError, Candidate, Draft, LaneDraft, Lanes, Placed, Simulated, SlotView, build, open_lanes,
    parallel::for_each_index,
    proposals::{MAX_SETS, useful_sets_of},
    reuse::Taken,
    simulate::simulate_on,
};

/// How much is searched. Work is counted in placements, never in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SearchLimits {
    /// Conflict groups up to this many bundles are searched to the end, larger ones as far as the rounds go.
    pub exact_items: usize,
    /// Alternatives that are kept of a group.
    pub alternatives: usize,
    /// Placements of a round, shared among the groups' searches.
    pub round_work: u64,
    /// What random choices are drawn from.
    pub seed: u64,
}

impl Default for SearchLimits {
    fn default() -> Self {
        Self { exact_items: 8, alternatives: 32, round_work: 2_000, seed: 0 }
    }
}

/// What a set of rollups is worth as things stand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// To the proposer, in the numeraire's smallest unit.
    pub value: I256,
    /// No proposal for the same rollups is worth more, if no bundle is ever worth more than it was seen to be; `None` when no
    /// bound is known.
    pub bound: Option<I256>,
    /// How many bundles are in it.
    pub bundles: usize,
}

/// Keeps what is known of a slot's pending bundles: what each does alone and in other company, and how the open blocks of every
/// set of rollups that was asked for are filled. A bundle that comes, goes or is replaced touches what stands behind it in its
/// blocks only, and of that only what depends on it is run again.
///
/// Every result is a function of the view, the bundles and the calls, whatever the threads do.
#[derive(Debug)]
pub struct Engine {
    view: Arc<SlotView>,
    limits: SearchLimits,
    /// The slot's first blocks with nothing but what is forced in them.
    opened: Lanes,
    entries: Entries,
    /// The entries in the order in which they are tried.
    ranked: Vec<usize>,
    groups: Groups<Key>,
    binding: Binding,
    sets: BTreeMap<RollupSet, Kept>,
    /// Drafts of sets whose rollups sell an order, demand transactions or have several blocks in the slot.
    built: BTreeMap<RollupSet, Draft>,
}

impl Engine {
    /// An engine without bundles.
    ///
    /// # Errors
    /// When a rollup's blocks cannot be opened.
    pub fn open(view: Arc<SlotView>, limits: SearchLimits) -> Result<Self, BuildError> {
        let opened = open_lanes(&view, &view.rollups.keys().copied().collect())?;
        Ok(Self {
            view,
            limits,
            opened,
            entries: Entries::default(),
            ranked: Vec::new(),
            groups: Groups::new(),
            binding: Binding::default(),
            sets: BTreeMap::new(),
            built: BTreeMap::new(),
        })
    }

    /// The slot.
    pub const fn view(&self) -> &Arc<SlotView> {
        &self.view
    }

    /// How much is searched.
    pub const fn limits(&self) -> SearchLimits {
        self.limits
    }

    /// Takes candidates in: each is simulated alone, in parallel. In their order: what kept one from being simulated, most
    /// often a value that has to be fetched first; it is not taken in then, and may come again.
    ///
    /// # Errors
    /// When the engine itself fails.
    pub fn insert(&mut self, candidates: &[Candidate]) -> Result<Vec<Result<(), BuildError>>, BuildError> {
        let view = Arc::clone(&self.view);
        let simulated =
            for_each_index(candidates.len(), &self.opened, |lanes, index| simulate_on(&view, lanes, &candidates[index]));
        let mut answers = Vec::with_capacity(simulated.len());
        let mut taken = Vec::with_capacity(simulated.len());
        for simulated in simulated {
            let entry = simulated.and_then(|simulated| Entry::new(&self.view, simulated));
            answers.push(entry.map(|entry| {
                self.remove(entry.candidate().hash);
                taken.push(self.entries.insert(entry));
            }));
        }
        if !taken.is_empty() {
            self.built.clear();
        }
        taken.sort_unstable();
        taken.dedup();
        for index in &taken {
            if let Some(entry) = self.entries.get(*index) {
                self.groups.insert(*index, entry.parts(self.view.proposer));
            }
        }
        self.rank(&taken);
        self.binding.note(&taken);
        for (rollups, kept) in &mut self.sets {
            for index in &taken {
                if self.entries.get(*index).is_some_and(|entry| entry.rollups().is_subset(rollups)) {
                    kept.add(&self.entries, *index);
                }
            }
        }
        self.binding.settle(&self.view, &self.entries, &mut self.groups, &self.opened);
        Ok(answers)
    }

    /// Takes a bundle out: cancelled, replaced, expired or handed out. Whether it was there.
    pub fn remove(&mut self, hash: B256) -> bool {
        let Some(index) = self.entries.index_of(hash) else { return false };
        let within = self.entries.get(index).map(|entry| entry.rollups().clone()).unwrap_or_default();
        for (_, kept) in self.sets.iter_mut().filter(|(rollups, _)| within.is_subset(rollups)) {
            kept.remove(&self.entries, index);
        }
        if let Ok(position) = self.ranked.binary_search_by(|other| self.entries.by_density(*other, index)) {
            self.ranked.remove(position);
        }
        self.groups.remove(index);
        self.binding.forget(index);
        self.built.clear();
        self.entries.remove(hash).is_some()
    }

    /// Goes over to another view: a new head, or the next slot. What a bundle did alone stays where everything that it depended
    /// on is the same; the others are simulated again, in parallel. Names the bundles that could not be, which are out.
    ///
    /// # Errors
    /// When a rollup's blocks cannot be opened; then nothing changes.
    pub fn rebase(&mut self, view: Arc<SlotView>) -> Result<Vec<(B256, BuildError)>, BuildError> {
        let opened = open_lanes(&view, &view.rollups.keys().copied().collect())?;
        let entries = std::mem::take(&mut self.entries).into_entries();
        let worth_the_same = same_worth(&self.view, &view);
        let moved = for_each_index(entries.len(), &opened, |lanes, index| {
            let simulated = entries[index].simulated();
            let candidate = &simulated.candidate;
            let bound = !candidate.bundle.blocks.is_empty()
                || candidate.bundle.min_timestamp.is_some()
                || candidate.bundle.max_timestamp.is_some();
            let kept = simulated.variant.as_ref().filter(|variant| worth_the_same && !bound && variant.recallable);
            if let Some(variant) = kept
                && let Some(moved) = variant.moved_to(lanes, candidate)?
            {
                let attempt = Arc::clone(&moved.attempt);
                return Ok(Simulated::new(candidate.clone(), attempt, Some(Arc::new(moved))));
            }
            simulate_on(&view, lanes, candidate)
        });
        let mut failed = Vec::new();
        for (entry, moved) in entries.iter().zip(moved) {
            match moved.and_then(|simulated| Entry::new(&view, simulated)) {
                Ok(entry) => drop(self.entries.insert(entry)),
                Err(error) => failed.push((entry.candidate().hash, error)),
            }
        }
        (self.view, self.opened) = (view, opened);
        (self.groups, self.binding) = (Groups::new(), Binding::default());
        let all: Vec<usize> = self.entries.iter().map(|(index, _)| index).collect();
        self.ranked.clear();
        self.rank(&all);
        for (index, entry) in self.entries.iter() {
            self.groups.insert(index, entry.parts(self.view.proposer));
        }
        self.binding.note(&all);
        self.sets.clear();
        self.built.clear();
        // As taking them all in at once does: what is found out of conflicts depends on when it is asked.
        self.binding.settle(&self.view, &self.entries, &mut self.groups, &self.opened);
        Ok(failed)
    }

    /// The bundles that it knows, in the order in which it holds them: an engine that is opened on the same view and takes them in
    /// in this order answers as this one does after [`Engine::rebase`].
    pub fn order(&self) -> Vec<B256> {
        self.entries.iter().map(|(_, entry)| entry.candidate().hash).collect()
    }

    /// How many bundles it knows.
    pub fn len(&self) -> usize {
        self.entries.iter().count()
    }

    /// Whether it knows none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What every bundle does alone, in the order of admission.
    pub fn simulated(&self) -> Vec<Simulated> {
        let mut all: Vec<Simulated> = self.entries.iter().map(|(_, entry)| entry.simulated().clone()).collect();
        all.sort_by_key(|simulated| (simulated.candidate.sequence, simulated.candidate.hash));
        all
    }

    /// The sets of rollups that are worth bidding for, see [`useful_sets`](crate::useful_sets).
    pub fn useful_sets(&self) -> Vec<RollupSet> {
        useful_sets_of(&self.view, self.entries.iter().map(|(_, entry)| entry.simulated()))
    }

    /// What the set is worth with everything that is known by now. A set that was not asked for before is filled by value for
    /// gas. After that what comes is taken in where it has room, or in the place of what is worth less for its gas; what stands
    /// behind something that goes moves up. Filling anew is left to [`Engine::improve`].
    ///
    /// # Errors
    /// When the engine fails.
    pub fn propose(&mut self, rollups: &RollupSet) -> Result<Standing, BuildError> {
        if !is_plain(&self.view, rollups) {
            let draft = self.built(rollups)?;
            return Ok(Standing { value: draft.value, bound: None, bundles: draft.placed.len() });
        }
        let kept = self.kept(rollups)?;
        let fill = kept.best();
        Ok(Standing { value: fill.value(), bound: kept.solver.bound, bundles: fill.placed().len() })
    }

    /// One numbered round of improvement of what is held for a set: what came and went since the last one is given its place in
    /// the order of value for gas, its conflict groups are searched on, and what they yield is packed and filled in anew; the
    /// best stays. Whether another round could find more.
    ///
    /// # Errors
    /// When the engine fails.
    pub fn improve(&mut self, rollups: &RollupSet, round: u32) -> Result<bool, BuildError> {
        if !is_plain(&self.view, rollups) {
            return Ok(false);
        }
        self.kept(rollups)?;
        self.binding.settle(&self.view, &self.entries, &mut self.groups, &self.opened);
        let Some(mut kept) = self.sets.remove(rollups) else { return Ok(false) };
        // What fails on the way is not kept: the set is filled anew when it is next asked for.
        kept.settle(&self.view, &self.entries)?;
        let on = (&self.opened, rollups);
        let open = kept.solver.round(&self.view, &mut self.entries, &mut self.groups, on, (&self.limits, round))?;
        let mut fill = Fill::new(self.opened_of(rollups));
        fill.fill(&self.view, &self.entries, &kept.order_with(), (0, 0))?;
        let bound = self.binding.unmet(&self.entries, &mut self.groups, &kept.solver, &fill);
        kept.offer(fill);
        self.sets.insert(rollups.clone(), kept);
        Ok(open || bound)
    }

    /// How many bundles each conflict group holds, the largest first.
    ///
    /// # Errors
    /// When the engine fails.
    pub fn group_sizes(&mut self) -> Result<Vec<usize>, BuildError> {
        self.binding.settle(&self.view, &self.entries, &mut self.groups, &self.opened);
        let mut sizes: Vec<usize> = self.groups.all().into_iter().map(<[usize]>::len).collect();
        sizes.sort_unstable_by(|a, b| b.cmp(a));
        Ok(sizes)
    }

    /// A draft for the set, as [`Engine::propose`] values it.
    ///
    /// Rollups that sell an order, demand transactions or have several blocks in the slot are filled by [`build`](crate::build())
    /// instead, which knows how.
    ///
    /// # Errors
    /// When the engine fails.
    pub fn draft(&mut self, rollups: &RollupSet) -> Result<Draft, BuildError> {
        if !is_plain(&self.view, rollups) {
            return self.built(rollups).cloned();
        }
        self.kept(rollups)?;
        let (slot, entries) = (self.view.slot, &self.entries);
        let kept = self.sets.get(rollups).ok_or(BuildError::Overflow)?;
        let (fill, order) = (kept.best(), kept.order());
        let finished = |(chain, lane): (&ChainId, &Lane)| {
            let (chain, blocks) = (*chain, lane.finished());
            (chain, blocks.map(|blocks| LaneDraft { chain, blocks }).map_err(|cause| BuildError::Lane { chain, cause }))
        };
        let placed = |(index, taken): (usize, &Taken)| {
            let Candidate { hash, bundle, .. } = entries.get(index)?.candidate();
            Some(Placed { hash: *hash, bundle: Arc::clone(bundle), run: Arc::unwrap_or_clone(taken.told()).run })
        };
        let refused = |index: &usize| Some((entries.get(*index)?.candidate().hash, fill.refusal(*index)?.clone()));
        let all_refused = || {
            // Nearly all that is not placed was refused: room is made once.
            let mut refusals = Vec::with_capacity(order.len().saturating_sub(fill.placed().count()));
            refusals.extend(order.iter().filter_map(refused));
            refusals
        };
        let (lanes, (placed, left_out)) = rayon::join(
            || fill.lanes().par_iter().map(finished).collect::<Vec<_>>(),
            || {
                rayon::join(
                    || fill.placed().collect::<Vec<_>>().into_par_iter().filter_map(placed).collect::<Vec<Placed>>(),
                    all_refused,
                )
            },
        );
        // All blocks are there before the first error is looked for, so that which comes first does not depend on the threads.
        let lanes = lanes.into_iter().map(|(chain, lane)| Ok((chain, lane?))).collect::<Result<BTreeMap<_, _>, BuildError>>()?;
        Ok(Draft { slot, rollups: rollups.clone(), lanes, placed, left_out, value: fill.value() })
    }

    /// Gives entries their place in the order in which they are tried.
    fn rank(&mut self, taken: &[usize]) {
        if let [one] = taken {
            let position = self.ranked.partition_point(|other| self.entries.by_density(*other, *one).is_lt());
            self.ranked.insert(position, *one);
            return;
        }
        self.ranked.extend(taken);
        self.ranked.sort_by(|a, b| self.entries.by_density(*a, *b));
    }

    /// A draft that is built at once, from what every bundle does alone.
    fn built(&mut self, rollups: &RollupSet) -> Result<&Draft, BuildError> {
        if !self.built.contains_key(rollups) {
            let draft = build(&self.view, &self.simulated(), rollups)?;
            self.built.insert(rollups.clone(), draft);
        }
        self.built.get(rollups).ok_or(BuildError::Overflow)
    }

    /// The slot's first blocks, of a set of rollups.
    fn opened_of(&self, rollups: &RollupSet) -> Lanes {
        self.opened.iter().filter(|(chain, _)| rollups.contains(chain)).map(|(chain, lane)| (*chain, lane.clone())).collect()
    }

    /// What is kept of a set, brought up to date.
    fn kept(&mut self, rollups: &RollupSet) -> Result<&Kept, BuildError> {
        if !self.sets.contains_key(rollups) {
            let filled = self.fill(rollups)?;
            self.sets.insert(rollups.clone(), filled);
        }
        let kept = self.sets.get_mut(rollups).ok_or(BuildError::Overflow)?;
        kept.catch_up(&self.view, &self.entries)?;
        Ok(kept)
    }

    /// Fills the blocks of a set for the first time.
    fn fill(&mut self, rollups: &RollupSet) -> Result<Kept, BuildError> {
        let lanes = self.opened_of(rollups);
        if let Some(absent) = rollups.iter().find(|chain| !lanes.contains_key(chain)) {
            return Err(BuildError::UnknownRollup(*absent));
        }
        while self.sets.len() >= MAX_SETS {
            self.sets.pop_last();
        }
        let all = rollups.len() == self.view.rollups.len();
        let within = |index: &usize| all || self.entries.get(*index).is_some_and(|entry| entry.rollups().is_subset(rollups));
        let order: Vec<usize> = self.ranked.iter().copied().filter(within).collect();
        let Ahead { likely, found } = prepare(&self.view, &self.entries, &mut self.groups, &lanes, &order);
        let mut fill = Fill::new(lanes);
        fill.expect(likely);
        fill.foresee(found);
        fill.fill(&self.view, &self.entries, &order, (0, 0))?;
        for (index, found) in fill.found() {
            if let Some(entry) = self.entries.get_mut(index) {
                entry.remember(Arc::clone(found));
            }
        }
        Ok(Kept::new(order, fill))
    }
}

/// Whether what a bundle does is worth the same in both views.
fn same_worth(a: &SlotView, b: &SlotView) -> bool {
    let worth = |view: &SlotView| {
        let rollups = view.rollups.iter().map(|(chain, rollup)| (*chain, rollup.price, rollup.fee_share_bps, rollup.ordering));
        let relays = (view.policy.relay_gas_limit, view.policy.attesters.clone());
        (view.proposer, relays, rollups.collect::<Vec<_>>())
    };
    worth(a) == worth(b)
}

/// Whether the set's blocks may hold anything in any order, one block a rollup.
fn is_plain(view: &SlotView, rollups: &RollupSet) -> bool {
    rollups
        .iter()
        .filter_map(|chain| view.rollups.get(chain))
        .all(|rollup| rollup.ordering == OrderingPolicy::Free && rollup.inclusion.is_empty() && rollup.slot.blocks.len() == 1)
}
