//! The pending bundles of an engine, and what is remembered of each.

use std::{
    cmp::Ordering,
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
};

use alloy_consensus::Transaction;
use alloy_primitives::{Address, B256, I256, U256};
use lockstep_primitives::{ChainId, Leg, Place, RevertMode, RollupSet, to_signed};

use lockstep_simulation::{PartUse, StatePart};
use smallvec::SmallVec;

use super::{binding::Key, rooms::Rooms};
use crate::{
    BuildError, Candidate, Lanes, Simulated, SlotView,
    order::by_density,
    reuse::{LaneStretch, Taken, Variant},
    search::Gain,
};

/// How many results of a bundle are remembered beside the one that it had alone. The oldest goes first.
const MAX_VARIANTS: usize = 4;

/// The most gas that one transaction of a bundle asks for, by rollup.
type Needs = SmallVec<[(ChainId, Place, u64); 1]>;

/// A pending bundle.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    simulated: Simulated,
    rollups: RollupSet,
    /// The most gas that one transaction asks for, by rollup.
    needs: Needs,
    variants: VecDeque<Arc<Variant>>,
    /// What it was worth at the most, in any state that it was seen in.
    most: i128,
    /// By how much what its last transactions ask for exceeds what they use.
    headroom: u64,
}

impl Entry {
    /// # Errors
    /// When its value is beyond all reason.
    pub(super) fn new(view: &SlotView, simulated: Simulated) -> Result<Self, BuildError> {
        let rollups = simulated.candidate.bundle.rollups();
        let needs = needs(&simulated);
        let worth = match &simulated.attempt.blocked {
            None => simulated.attempt.run.value,
            Some(_) => claimed(view, &simulated.candidate)?,
        };
        let most = i128::try_from(worth).map_err(|_| BuildError::Overflow)?.max(0);
        let headroom = headroom(&simulated);
        Ok(Self { simulated, rollups, needs, variants: VecDeque::new(), most, headroom })
    }

    /// What it does alone; `None` when it is blocked alone or costs more than it brings.
    pub(super) fn worthwhile(&self) -> Option<&[LaneStretch]> {
        let attempt = &self.simulated.attempt;
        let worthwhile = attempt.blocked.is_none() && !attempt.run.value.is_negative();
        self.simulated.variant.as_ref().filter(|_| worthwhile).map(|variant| variant.stretches.as_slice())
    }

    /// Everything that is known of what it does, the newest first, but what it does alone before that.
    pub(super) fn known(&self) -> impl Iterator<Item = &Arc<Variant>> {
        self.simulated.variant.iter().chain(self.variants.iter().rev())
    }

    /// What it is worth and takes alone; `None` when it is blocked alone or costs more than it brings.
    pub(super) fn gain(&self, rooms: &Rooms) -> Option<Gain> {
        let usage = rooms.taken(self.worthwhile()?);
        Some(Gain { value: i128::try_from(self.simulated.attempt.run.value).ok()?, usage })
    }

    /// The parts of the states that what it does alone depends on or changes. What the proposer has, and how many relays it sent,
    /// decides over no relay: they are written when it is known how many there are.
    pub(super) fn parts(&self, proposer: Address) -> Vec<(Key, PartUse)> {
        let own = |part: &StatePart| matches!(part, StatePart::Balance(of) | StatePart::Nonce(of) if *of == proposer);
        let stretches = self.simulated.variant.iter().flat_map(|variant| &variant.stretches);
        let parts = stretches.flat_map(|part| part.stretch.footprint.parts().map(|(of, kind)| ((part.chain, of), kind)));
        let parts = parts.filter_map(|(key, kind)| match kind {
            PartUse::Read if own(&key.1) => None,
            PartUse::Write if own(&key.1) => Some((key, PartUse::Add)),
            kind => Some((key, kind)),
        });
        parts.collect()
    }

    /// Whether it has to do with messages.
    pub(super) fn crosses(&self) -> bool {
        let run = &self.simulated.attempt.run;
        !run.relays.is_empty() || run.legs.iter().any(|leg| !leg.messages.is_empty())
    }

    /// Whether it is blocked alone.
    pub(super) fn is_blocked(&self) -> bool {
        self.simulated.attempt.blocked.is_some()
    }

    /// What it was worth at the most. What was never seen to land counts with what its transactions offer.
    pub(super) const fn most(&self) -> i128 {
        self.most
    }

    /// What it takes at the least, as far as that was seen.
    pub(super) fn least(&self, rooms: &Rooms) -> Vec<(usize, u64)> {
        let seen = self.simulated.variant.iter().chain(&self.variants).filter(|variant| variant.attempt.blocked.is_none());
        let mut least: Option<Vec<(usize, u64)>> = None;
        for variant in seen {
            let taken = rooms.taken(&variant.stretches);
            least = Some(match least {
                None => taken,
                Some(before) => before
                    .into_iter()
                    .filter_map(|(dimension, used)| {
                        let now = taken.iter().find(|(other, _)| *other == dimension)?;
                        Some((dimension, used.min(now.1)))
                    })
                    .collect(),
            });
        }
        least.unwrap_or_default()
    }

    pub(super) const fn headroom(&self) -> u64 {
        self.headroom
    }

    pub(super) const fn simulated(&self) -> &Simulated {
        &self.simulated
    }

    pub(super) const fn candidate(&self) -> &Candidate {
        &self.simulated.candidate
    }

    pub(super) const fn rollups(&self) -> &RollupSet {
        &self.rollups
    }

    pub(super) fn needs(&self) -> &[(ChainId, Place, u64)] {
        &self.needs
    }

    pub(super) fn remember(&mut self, variant: Arc<Variant>) {
        if self.known().any(|known| Arc::ptr_eq(known, &variant)) {
            return;
        }
        if variant.attempt.blocked.is_none() {
            self.most = self.most.max(i128::try_from(variant.attempt.run.value).unwrap_or(i128::MAX));
        }
        if self.variants.len() >= MAX_VARIANTS {
            self.variants.pop_front();
        }
        self.variants.push_back(variant);
    }

    /// Takes over a result that holds on these blocks. `None` when there is none.
    pub(super) fn recall(&self, lanes: &mut Lanes, delivered: &BTreeSet<B256>) -> Result<Option<Taken>, BuildError> {
        for variant in self.known() {
            if let Some(attempt) = variant.recall(lanes, self.candidate(), delivered)? {
                return Ok(Some(attempt));
            }
        }
        Ok(None)
    }
}

/// What the transactions of a bundle offer by their own words, in the numeraire: their priority fees for all the gas that they
/// ask for, and what they send to the proposer.
fn claimed(view: &SlotView, candidate: &Candidate) -> Result<I256, BuildError> {
    let mut total = I256::ZERO;
    for leg in &candidate.bundle.legs {
        let Some(rollup) = view.rollups.get(&leg.chain()) else { continue };
        for tx in leg.txs() {
            let envelope = tx.tx.envelope();
            let fees = U256::from(tx.tx.gas_limit()).saturating_mul(U256::from(envelope.effective_gas_price(None)));
            let sent = if envelope.to() == Some(view.proposer) { envelope.value() } else { U256::ZERO };
            let offered = to_signed(fees.saturating_add(sent)).ok_or(BuildError::Overflow)?;
            let weighed = rollup.price.weigh(offered).ok_or(BuildError::Overflow)?;
            total = total.checked_add(weighed).ok_or(BuildError::Overflow)?;
        }
    }
    Ok(total)
}

/// By how much the gas that the last transaction on a rollup asks for exceeds what it uses, the most of all rollups.
fn headroom(simulated: &Simulated) -> u64 {
    let bundle = &simulated.candidate.bundle;
    let of = |chain: ChainId| {
        let mut legs = bundle.legs.iter().zip(&simulated.attempt.run.legs).filter(|(leg, _)| leg.chain() == chain);
        let (leg, run) = legs.next_back()?;
        let used = run.txs.last()?.outcome.as_ref()?.gas_used;
        Some(leg.txs().last()?.tx.gas_limit().saturating_sub(used))
    };
    bundle.rollups().into_iter().filter_map(of).max().unwrap_or_default()
}

fn needs(simulated: &Simulated) -> Needs {
    let mut needs: BTreeMap<ChainId, (Place, u64)> = BTreeMap::new();
    for (index, leg) in simulated.candidate.bundle.legs.iter().enumerate() {
        let chain = leg.chain();
        // What may be dropped needs no room.
        let txs = leg.txs().iter().enumerate().filter(|(_, tx)| tx.mode != RevertMode::Drop);
        let signed = txs.map(|(position, tx)| (Place::tx(chain, index, position), tx.tx.gas_limit()));
        let relayed = simulated.attempt.run.relays.iter().filter(|relay| relay.leg == index && matches!(leg, Leg::Relay { .. }));
        let relayed = relayed.map(|relay| (Place::leg(chain, index), relay.tx.gas_limit));
        for (place, gas) in signed.chain(relayed) {
            let most = needs.entry(chain).or_insert((place, gas));
            if gas > most.1 {
                *most = (place, gas);
            }
        }
    }
    needs.into_iter().map(|(chain, (place, gas))| (chain, place, gas)).collect()
}

/// All pending bundles, by an index that each keeps.
#[derive(Clone, Debug, Default)]
pub(super) struct Entries {
    slots: Vec<Option<Entry>>,
    by_hash: BTreeMap<B256, usize>,
    free: Vec<usize>,
    /// How many have to do with messages.
    crossing: usize,
}

impl Entries {
    /// One more than the highest index.
    pub(super) const fn capacity(&self) -> usize {
        self.slots.len()
    }

    pub(super) fn index_of(&self, hash: B256) -> Option<usize> {
        self.by_hash.get(&hash).copied()
    }

    pub(super) fn get(&self, index: usize) -> Option<&Entry> {
        self.slots.get(index).and_then(Option::as_ref)
    }

    pub(super) fn get_mut(&mut self, index: usize) -> Option<&mut Entry> {
        self.slots.get_mut(index).and_then(Option::as_mut)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (usize, &Entry)> {
        self.slots.iter().enumerate().filter_map(|(index, entry)| Some((index, entry.as_ref()?)))
    }

    pub(super) fn insert(&mut self, entry: Entry) -> usize {
        let hash = entry.candidate().hash;
        let index = self.by_hash.get(&hash).copied().or_else(|| self.free.pop()).unwrap_or(self.slots.len());
        self.by_hash.insert(hash, index);
        self.crossing += usize::from(entry.crosses());
        if index == self.slots.len() {
            self.slots.push(Some(entry));
        } else if let Some(before) = self.slots[index].replace(entry) {
            self.crossing -= usize::from(before.crosses());
        }
        index
    }

    pub(super) fn remove(&mut self, hash: B256) -> Option<usize> {
        let index = self.by_hash.remove(&hash)?;
        let gone = self.slots[index].take();
        self.crossing -= usize::from(gone.is_some_and(|gone| gone.crosses()));
        self.free.push(index);
        Some(index)
    }

    /// Whether any has to do with messages.
    pub(super) const fn cross(&self) -> bool {
        self.crossing > 0
    }

    /// All of them, in the order of their indices.
    pub(super) fn into_entries(self) -> Vec<Entry> {
        self.slots.into_iter().flatten().collect()
    }

    /// Which of two goes first: the greater value for its gas, then the one admitted earlier.
    pub(super) fn by_density(&self, a: usize, b: usize) -> Ordering {
        match (self.get(a), self.get(b)) {
            (Some(a), Some(b)) => by_density(a.simulated(), b.simulated()),
            (a, b) => a.is_none().cmp(&b.is_none()),
        }
    }
}
