//! Which conflicts decide over anything.
//!
//! Every burn of a bridge moves one counter, every mint a total supply: by what they read and write all of them conflict, but
//! in whatever order they stand each does the same and is worth the same. That is found out by evidence: a bundle is run once
//! more on a state where somebody else's writes are there already. If it does the same and what it adds to the shared values is
//! the same, its use of them does not bind it. What one run cannot show, a threshold say, shows when lists are filled: then
//! the bundle is bound after all.

use std::collections::{BTreeMap, BTreeSet};

use alloy_primitives::{U256, uint};
use lockstep_primitives::ChainId;
use lockstep_simulation::{AccountWrite, BalanceWrite, Footprint, StatePart, TxOutcome};

use super::{
    entry::{Entries, Entry},
    fill::Fill,
    groups::Groups,
    solve::Solver,
};
use crate::{
    BuildError, Lanes, SlotView, TxRun,
    parallel::for_each_index,
    reuse::{Variant, roll_back},
    run::run_remembering,
};

/// A part of a rollup's state.
pub(super) type Key = (ChainId, StatePart);

/// How often a key has to be found not to bind, and never to bind, before it is believed of the bundles that follow; and how
/// often to bind.
const ENOUGH: u32 = 8;

/// By how much gas two relays of like messages may differ: 65 bytes of a signature and some of the message, 36 gas each at the
/// most under the calldata floor (EIP-7623).
const MAX_RELAY_GAS: u64 = 8_000;
/// The part of what relays pay that this may come to, as a divisor.
const RELAY_NOISE: U256 = uint!(10_U256);

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
    pub(super) fn settle(&mut self, view: &SlotView, entries: &Entries, groups: &mut Groups<Key>, opened: &Lanes) {
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
                // What cannot be found out binds.
                let released = released.unwrap_or_default();
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
    }

    /// How many entries are looked at together.
    fn step(&self) -> usize {
        if self.verdicts.is_empty() { 16 } else { 256 }
    }

    /// What has to be found out of an entry: of which keys, against whom. What is known of a key by enough others is taken over.
    fn questions(&mut self, groups: &mut Groups<Key>, index: usize) -> Vec<(usize, Vec<Key>, usize)> {
        let mut against: BTreeMap<usize, Vec<Key>> = BTreeMap::new();
        for (key, other) in groups.conflicts_of(index).into_iter().filter(|(key, _)| may_not_bind(key)) {
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

/// Whether a key may turn out not to bind. Nonces do, and so does what an account is.
const fn may_not_bind((_, part): &Key) -> bool {
    matches!(part, StatePart::Slot(..) | StatePart::Balance(_))
}

/// The keys among `shared` that by evidence do not bind the entry to `other`. It is run where the other's changes were made once,
/// and where they were made twice: the first of all to touch a counter pays more gas for it than whoever follows.
fn released_by(
    view: &SlotView,
    lanes: &mut Lanes,
    entry: &Entry,
    other: &Entry,
    shared: &[Key],
) -> Result<BTreeSet<Key>, BuildError> {
    let Some(before) = other.simulated().variant.as_ref().filter(|_| !entry.is_blocked() && !other.is_blocked()) else {
        return Ok(BTreeSet::new());
    };
    let Some(first) = after(view, lanes, entry, before, 1)? else { return Ok(BTreeSet::new()) };
    let Some(second) = after(view, lanes, entry, before, 2)? else { return Ok(BTreeSet::new()) };
    if !same_shape(&first, &second) {
        return Ok(BTreeSet::new());
    }
    let noise = relay_fees(&first).max(relay_fees(&second)) / RELAY_NOISE;
    let (first, second) = (changes(&first), changes(&second));
    // Where both changed the same, they changed it by as much. Who pays and gets fees does so for the bytes of relays, too.
    let steady = |(key, change): (&Key, &U256)| {
        let noise = if matches!(key, (_, StatePart::Balance(_))) { noise } else { U256::ZERO };
        second.get(key).is_none_or(|again| again.wrapping_sub(*change).min(change.wrapping_sub(*again)) <= noise)
    };
    let all = first.iter().all(steady);
    // What was only read may be what made another change differ.
    let free = |key: &&Key| first.get_key_value(key).map_or(all, steady);
    Ok(shared.iter().filter(free).copied().collect())
}

/// What the entry does where somebody else's changes were made so many times; `None` when it is blocked there. The blocks are
/// as they were.
fn after(
    view: &SlotView,
    lanes: &mut Lanes,
    entry: &Entry,
    before: &Variant,
    times: usize,
) -> Result<Option<Variant>, BuildError> {
    let mut marks: Vec<_> = lanes
        .iter()
        .filter(|(chain, _)| entry.rollups().contains(chain))
        .map(|(chain, lane)| (*chain, lane.block().checkpoint()))
        .collect();
    for part in before.stretches.iter().filter(|part| part.stretch.footprint.complete) {
        let Some(lane) = lanes.get_mut(&part.chain) else { continue };
        if !entry.rollups().contains(&part.chain) {
            marks.push((part.chain, lane.block().checkpoint()));
        }
        for _ in 0..times {
            if let Err(error) = lane.block_mut().impose(&part.stretch.footprint) {
                roll_back(lanes, &marks);
                return Err(BuildError::simulation(part.chain, error));
            }
        }
    }
    let ran = run_remembering(view, lanes, &entry.candidate().bundle, &BTreeSet::new());
    roll_back(lanes, &marks);
    Ok(ran?.1.filter(|variant| variant.attempt.blocked.is_none()))
}

/// Whether two runs of a bundle are worth the same, take the same gas and log the same events in the same order. A relay's bytes
/// are other ones for another message, and some gas hangs on how many of them are zero.
fn same_shape(a: &Variant, b: &Variant) -> bool {
    let sizes = |variant: &Variant| {
        let footprints = variant.stretches.iter().map(|part| &part.stretch.footprint);
        footprints.map(|footprint| (footprint.accounts_written.len(), footprint.slots_written.len())).collect::<Vec<_>>()
    };
    let legs = a.attempt.run.legs.iter().zip(&b.attempt.run.legs);
    let same = sizes(a) == sizes(b)
        && legs.clone().all(|(a, b)| {
            a.txs.len() == b.txs.len() && a.txs.iter().zip(&b.txs).all(|(first, second)| same_outcome(a.relay, first, second))
        });
    // What relays cost shows in the balance of who pays for them.
    let relayed = legs.into_iter().any(|(leg, _)| leg.relay);
    same && (relayed || a.attempt.run.value == b.attempt.run.value)
}

/// What a bundle's relays paid for gas and data, in wei.
fn relay_fees(variant: &Variant) -> U256 {
    let relays = variant.attempt.run.legs.iter().filter(|leg| leg.relay).flat_map(|leg| &leg.txs);
    relays.filter_map(|tx| tx.outcome.as_ref()).fold(U256::ZERO, |sum, outcome| {
        let fees = outcome.fees;
        [fees.priority, fees.base, fees.l1_data, fees.operator].into_iter().fold(sum, U256::saturating_add)
    })
}

fn same_outcome(relay: bool, a: &TxRun, b: &TxRun) -> bool {
    let (Some(a), Some(b)) = (&a.outcome, &b.outcome) else { return a.outcome.is_some() == b.outcome.is_some() };
    let events =
        |outcome: &TxOutcome| outcome.logs.iter().map(|log| (log.address, log.topics().first().copied())).collect::<Vec<_>>();
    let slack = if relay { MAX_RELAY_GAS } else { 0 };
    a.status == b.status && a.gas_used.abs_diff(b.gas_used) <= slack && events(a) == events(b)
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
