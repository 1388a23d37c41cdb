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

use super::entry::Entry;
use crate::{BuildError, Lanes, SlotView, reuse::Variant, run::run_remembering};

/// A part of a rollup's state.
pub(super) type Key = (ChainId, StatePart);

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
