//! Which conflicts decide over anything.
//!
//! Every burn of a bridge moves one counter, every mint a total supply: by what they read and write all of them conflict, but
//! in whatever order they stand each does the same and is worth the same. That is found out by evidence: a bundle is run once
//! more on a state where somebody else's writes are there already. If it does the same and what it adds to the shared values is
//! the same, its use of them does not bind it. What one run cannot show, a threshold say, shows when lists are filled: then
//! the bundle is bound after all.

use std::collections::{BTreeMap, BTreeSet};

use alloy_primitives::U256;
use lockstep_primitives::ChainId;
use lockstep_simulation::{AccountWrite, BalanceWrite, Footprint, StatePart};

use super::{
    entry::{Entries, Entry},
    fill::Fill,
    groups::Groups,
    solve::Solver,
};
use crate::{BuildError, Lanes, SlotView, parallel::for_each_index, reuse::Variant, run::run_remembering};

/// A part of a rollup's state.
pub(super) type Key = (ChainId, StatePart);

/// How often a key has to be found not to bind, and never to bind, before it is believed of the bundles that follow; and how
/// often to bind.
const ENOUGH: u32 = 8;

/// Which uses of shared parts bind bundles to each other, as far as it was found out.
#[derive(Clone, Debug, Default)]
pub(super) struct Binding {
    /// Entries that were not looked at yet.
    open: BTreeSet<usize>,
    /// The keys that each entry was released from.
    released: BTreeMap<usize, BTreeSet<Key>>,
    /// By key, how often it was found not to bind, and to bind.
    verdicts: BTreeMap<Key, (u32, u32)>,
}

impl Binding {
    /// Has entries looked at when it is next asked.
    pub(super) fn note(&mut self, entries: &[usize]) {
        self.open.extend(entries);
    }

    pub(super) fn forget(&mut self, entry: usize) {
        self.open.remove(&entry);
        self.released.remove(&entry);
    }

    /// Looks at what was not looked at yet, in parallel, and releases what does not bind.
    pub(super) fn settle(
        &mut self,
        view: &SlotView,
        entries: &Entries,
        groups: &mut Groups<Key>,
        opened: &Lanes,
    ) -> Result<(), BuildError> {
        let mut open: Vec<usize> = std::mem::take(&mut self.open).into_iter().collect();
        while !open.is_empty() {
            // Few at first: what they show of a key need not be shown by all.
            let rest = open.split_off(open.len().min(self.step()));
            let asked: Vec<(usize, Vec<Key>, usize)> = open.iter().flat_map(|index| self.questions(groups, *index)).collect();
            let answers = for_each_index(asked.len(), opened, |lanes, at| {
                let (index, shared, other) = &asked[at];
                match (entries.get(*index), entries.get(*other)) {
                    (Some(entry), Some(other)) => released_by(view, lanes, entry, other, shared),
                    _ => Ok(BTreeSet::new()),
                }
            });
            for ((index, shared, _), released) in asked.iter().zip(answers) {
                let released = released?;
                for key in shared {
                    let verdict = self.verdicts.entry(*key).or_default();
                    if released.contains(key) {
                        verdict.0 = verdict.0.saturating_add(1);
                        groups.release(*index, *key);
                        self.released.entry(*index).or_default().insert(*key);
                    } else {
                        verdict.1 = verdict.1.saturating_add(1);
                    }
                }
            }
            open = rest;
        }
        Ok(())
    }

    /// How many entries are looked at together.
    fn step(&self) -> usize {
        if self.verdicts.is_empty() { 16 } else { 256 }
    }

    /// What has to be found out of an entry: of which keys, against whom. What is known of a key by enough others is taken over.
    fn questions(&mut self, groups: &mut Groups<Key>, index: usize) -> Vec<(usize, Vec<Key>, usize)> {
        let mut against: BTreeMap<usize, Vec<Key>> = BTreeMap::new();
        for (key, other) in groups.conflicts_of(index) {
            match self.verdicts.get(&key).copied().unwrap_or_default() {
                (_, binds) if binds >= ENOUGH => {}
                (free, 0) if free >= ENOUGH => {
                    groups.release(index, key);
                    self.released.entry(index).or_default().insert(key);
                }
                _ => against.entry(other).or_default().push(key),
            }
        }
        against.into_iter().map(|(other, keys)| (index, keys, other)).collect()
    }

    /// Binds again what did not do in a filled block what its group's search said. Whether anything was bound.
    pub(super) fn unmet(&mut self, entries: &Entries, groups: &mut Groups<Key>, solver: &Solver, fill: &Fill) -> bool {
        let mut bound = false;
        for index in &solver.order {
            let missing = fill.refusal(*index).is_some_and(|rejection| !rejection.reason.is_room());
            if !missing || entries.get(*index).is_none() {
                continue;
            }
            for key in self.released.remove(index).into_iter().flatten() {
                groups.bind(*index, key);
                let verdict = self.verdicts.entry(key).or_default();
                verdict.1 = verdict.1.saturating_add(1);
                bound = true;
            }
        }
        bound
    }
}

/// The keys among `shared` that bind the entry by no evidence, when `other` came before it.
pub(super) fn released_by(
    view: &SlotView,
    lanes: &mut Lanes,
    entry: &Entry,
    other: &Entry,
    shared: &[Key],
) -> Result<BTreeSet<Key>, BuildError> {
    let (Some(alone), Some(before)) = (&entry.simulated().variant, &other.simulated().variant) else {
        return Ok(BTreeSet::new());
    };
    if alone.attempt.blocked.is_some() || before.attempt.blocked.is_some() {
        return Ok(BTreeSet::new());
    }
    let mut marks = Vec::new();
    for part in &before.stretches {
        let Some(lane) = lanes.get_mut(&part.chain) else { continue };
        marks.push((part.chain, lane.block().checkpoint()));
        let imposed = lane.block_mut().impose(&part.stretch.footprint);
        if let Err(error) = imposed {
            crate::reuse::roll_back(lanes, &marks);
            return Err(BuildError::simulation(part.chain, error));
        }
    }
    // Where the other has no part the entry's own changes have to be undone, too.
    for chain in entry.rollups() {
        if let Some(lane) = lanes.get(chain).filter(|_| !marks.iter().any(|(marked, _)| marked == chain)) {
            marks.push((*chain, lane.block().checkpoint()));
        }
    }
    let again = run_remembering(view, lanes, &entry.candidate().bundle, &BTreeSet::new());
    crate::reuse::roll_back(lanes, &marks);
    let Some(again) = again?.1.filter(|again| again.attempt.blocked.is_none()) else { return Ok(BTreeSet::new()) };
    if !same_shape(alone, &again) {
        return Ok(BTreeSet::new());
    }
    let (first, second) = (changes(alone), changes(&again));
    // What is in both has to be the same, or the same difference.
    let steady = |key: &Key| match (first.get(key), second.get(key)) {
        (Some(first), Some(second)) => first == second,
        _ => true,
    };
    if !first.keys().all(steady) {
        return Ok(BTreeSet::new());
    }
    Ok(shared.iter().copied().collect())
}

/// Whether two runs of a bundle are worth the same, take the same gas and log the same events in the same order.
fn same_shape(a: &Variant, b: &Variant) -> bool {
    let events = |variant: &Variant| {
        let outcomes = variant.attempt.run.legs.iter().flat_map(|leg| &leg.txs).map(|tx| tx.outcome.as_ref());
        let logs = outcomes.map(|outcome| {
            outcome.map(|outcome| outcome.logs.iter().map(|log| (log.address, log.topics().first().copied())).collect::<Vec<_>>())
        });
        logs.collect::<Vec<_>>()
    };
    let sizes = |variant: &Variant| {
        let footprints = variant.stretches.iter().map(|part| &part.stretch.footprint);
        footprints.map(|footprint| (footprint.accounts_written.len(), footprint.slots_written.len())).collect::<Vec<_>>()
    };
    a.attempt.run.value == b.attempt.run.value
        && a.attempt.run.gas == b.attempt.run.gas
        && sizes(a) == sizes(b)
        && events(a) == events(b)
}

/// By how much everything changed that a bundle wrote.
fn changes(variant: &Variant) -> BTreeMap<Key, U256> {
    let mut changes = BTreeMap::new();
    for part in &variant.stretches {
        let footprint = &part.stretch.footprint;
        for (address, slot, value) in &footprint.slots_written {
            let found = footprint.slots_read.binary_search_by_key(&(*address, *slot), |(address, slot, _)| (*address, *slot));
            let before = found.ok().and_then(|index| footprint.slots_read.get(index)).map_or(U256::ZERO, |(.., before)| *before);
            changes.insert((part.chain, StatePart::Slot(*address, *slot)), value.wrapping_sub(before));
        }
        for written in &footprint.accounts_written {
            for (of, change) in account_changes(footprint, written) {
                changes.insert((part.chain, of), change);
            }
        }
    }
    changes
}

fn account_changes(footprint: &Footprint, written: &AccountWrite) -> Vec<(StatePart, U256)> {
    let address = written.address;
    let found = footprint.accounts_read.binary_search_by_key(&address, |read| read.address).ok();
    let before = found.and_then(|index| footprint.accounts_read.get(index));
    let balance = written.balance.map(|balance| match balance {
        BalanceWrite::Add(rise) => rise,
        BalanceWrite::Set(after) => after.wrapping_sub(before.and_then(|read| read.balance).unwrap_or_default()),
    });
    let nonce = written.nonce.map(|nonce| U256::from(nonce.wrapping_sub(before.and_then(|read| read.nonce).unwrap_or_default())));
    let balance = balance.map(|change| (StatePart::Balance(address), change));
    let nonce = nonce.map(|change| (StatePart::Nonce(address), change));
    balance.into_iter().chain(nonce).collect()
}
