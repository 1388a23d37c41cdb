//! The pending bundles of an engine, and what is remembered of each.

use std::{
    cmp::Ordering,
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use alloy_primitives::{B256, I256};
use lockstep_primitives::{ChainId, Leg, Place, RevertMode, RollupSet};

use crate::{Attempt, BuildError, Candidate, Lanes, Simulated, order::by_density, reuse::Variant};

/// How many results of a bundle are remembered beside the one that it had alone. The oldest goes first.
const MAX_VARIANTS: usize = 4;

/// A pending bundle.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    simulated: Simulated,
    rollups: RollupSet,
    /// The most gas that one transaction asks for, by rollup.
    needs: Vec<(ChainId, Place, u64)>,
    variants: VecDeque<Arc<Variant>>,
}

impl Entry {
    pub(super) fn new(simulated: Simulated) -> Self {
        let rollups = simulated.candidate.bundle.rollups();
        let needs = needs(&simulated);
        Self { simulated, rollups, needs, variants: VecDeque::new() }
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

    /// What it is worth alone; `None` when it is blocked alone.
    pub(super) fn alone(&self) -> Option<I256> {
        self.simulated.attempt.blocked.is_none().then_some(self.simulated.attempt.run.value)
    }

    pub(super) fn remember(&mut self, variant: Arc<Variant>) {
        if self.variants.len() >= MAX_VARIANTS {
            self.variants.pop_front();
        }
        self.variants.push_back(variant);
    }

    /// Takes over a result that holds on these blocks. `None` when there is none.
    pub(super) fn recall(&self, lanes: &mut Lanes) -> Result<Option<Attempt>, BuildError> {
        for variant in self.simulated.variant.iter().chain(self.variants.iter().rev()) {
            if let Some(attempt) = variant.recall(lanes, self.candidate())? {
                return Ok(Some(attempt));
            }
        }
        Ok(None)
    }
}

fn needs(simulated: &Simulated) -> Vec<(ChainId, Place, u64)> {
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
        if index == self.slots.len() {
            self.slots.push(Some(entry));
        } else {
            self.slots[index] = Some(entry);
        }
        index
    }

    pub(super) fn remove(&mut self, hash: B256) -> Option<usize> {
        let index = self.by_hash.remove(&hash)?;
        self.slots[index] = None;
        self.free.push(index);
        Some(index)
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
