//! Who sells, and on what terms.

use std::collections::{BTreeMap, btree_map::Entry};

use lockstep_primitives::{ChainId, MAX_INCLUSION, Registration, RollupSet, SlotNumber, recover};

use crate::{MAX_CLUSTER_MEMBERS, MAX_EPOCH_SLOTS, MarketError, Version, Versions, check_reserve};

/// How many rollups may be registered, and be on sale in one slot.
pub const MAX_SELLERS: usize = 64;

/// How long the URL of a sequencer may be.
pub const MAX_URL_BYTES: usize = 2048;

/// How many slots ahead a rollup may sell: an epoch of the longest kind, and as much again before it begins.
pub const MAX_SLOTS_AHEAD: u64 = 2 * MAX_EPOCH_SLOTS;

/// All of a rollup's protocol fees, in basis points.
const WHOLE_SHARE_BPS: u64 = 10_000;

/// The registered rollups, with their terms over time.
///
/// The first registration of a rollup decides which key speaks for it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Registry {
    sellers: BTreeMap<ChainId, Versions<Registration>>,
}

impl Registry {
    /// An empty registry.
    pub fn new() -> Self {
        Self::default()
    }

    /// Terms that were stored, see [`Registry::versions`].
    ///
    /// # Errors
    /// When there are more rollups than there may be.
    pub fn restore(versions: impl IntoIterator<Item = Versions<Registration>>) -> Result<Self, MarketError> {
        let sellers: BTreeMap<ChainId, Versions<Registration>> =
            versions.into_iter().map(|versions| (versions.chain(), versions)).collect();
        if sellers.len() > MAX_SELLERS {
            return Err(MarketError::TooManySellers { limit: MAX_SELLERS });
        }
        Ok(Self { sellers })
    }

    /// Registers a rollup, or changes its terms from the slot on that the registration names. Returns what waited for its slot
    /// and is replaced by it.
    ///
    /// `earliest` is the first slot whose terms may still change. A rollup's first registration for an earlier slot holds from
    /// there on: nobody bid for it before.
    ///
    /// # Errors
    /// When the terms make no sense, the signature is not the named sequencer's, the rollup is registered under another
    /// key, the nonce does not rise, the slot is too early, or the registry is full. The registry is then unchanged.
    pub fn register(
        &mut self,
        registration: Registration,
        signature: &[u8],
        earliest: SlotNumber,
    ) -> Result<Vec<Version<Registration>>, MarketError> {
        check_terms(&registration)?;
        check_signature(&registration, signature)?;
        let Registration { chain, sequencer, from_slot, nonce, .. } = registration;
        let full = self.sellers.len() >= MAX_SELLERS;
        match self.sellers.entry(chain) {
            Entry::Occupied(mut known) => {
                let registered = known.get().iter().next_back().map_or(sequencer, |version| version.value.sequencer);
                if registered != sequencer {
                    return Err(MarketError::SequencerChanged { chain, registered, sequencer });
                }
                Ok(known.get_mut().update(from_slot, nonce, registration, earliest)?)
            }
            Entry::Vacant(_) if full => Err(MarketError::TooManySellers { limit: MAX_SELLERS }),
            Entry::Vacant(free) => {
                let mut versions = Versions::new(chain);
                let replaced = versions.update(from_slot.max(earliest), nonce, registration, earliest)?;
                free.insert(versions);
                Ok(replaced)
            }
        }
    }

    /// The terms of a rollup in a slot; `None` for a rollup that is not registered, or whose terms begin later.
    pub fn at(&self, chain: ChainId, slot: SlotNumber) -> Option<&Registration> {
        Some(&self.sellers.get(&chain)?.at_slot(slot)?.value)
    }

    /// The terms of all rollups in a slot, by chain id.
    pub fn all_at(&self, slot: SlotNumber) -> impl Iterator<Item = &Registration> {
        self.sellers.values().filter_map(move |versions| Some(&versions.at_slot(slot)?.value))
    }

    /// What cluster each rollup names in a slot.
    pub fn clusters_at(&self, slot: SlotNumber) -> BTreeMap<ChainId, RollupSet> {
        self.all_at(slot).map(|registration| (registration.chain, registration.cluster.clone())).collect()
    }

    /// All terms of a rollup that are remembered.
    pub fn of(&self, chain: ChainId) -> Option<&Versions<Registration>> {
        self.sellers.get(&chain)
    }

    /// All terms that are remembered, by chain id.
    pub fn versions(&self) -> impl Iterator<Item = &Versions<Registration>> {
        self.sellers.values()
    }

    /// How many rollups are registered.
    pub fn len(&self) -> usize {
        self.sellers.len()
    }

    /// Whether no rollup is registered.
    pub fn is_empty(&self) -> bool {
        self.sellers.is_empty()
    }
}

/// Whether the sequencer that a registration names signed it.
fn check_signature(registration: &Registration, signature: &[u8]) -> Result<(), MarketError> {
    let Registration { chain, sequencer, .. } = *registration;
    let signer = recover(registration.digest(), signature).map_err(|_| MarketError::InvalidRegistrationSignature { chain })?;
    if signer != sequencer {
        return Err(MarketError::WrongSigner { chain, sequencer, signer });
    }
    Ok(())
}

fn check_terms(registration: &Registration) -> Result<(), MarketError> {
    let Registration { chain, inclusion, slots_ahead, .. } = *registration;
    if registration.block_time == 0 {
        return Err(MarketError::ZeroBlockTime { chain });
    }
    if registration.fee_share_bps > WHOLE_SHARE_BPS {
        return Err(MarketError::FeeShareTooLarge { chain, bps: registration.fee_share_bps });
    }
    let bytes = registration.sequencer_url.len();
    if bytes > MAX_URL_BYTES {
        return Err(MarketError::UrlTooLong { chain, bytes, limit: MAX_URL_BYTES });
    }
    for (field, address) in [("payout", registration.payout), ("defaultProposer", registration.default_proposer)] {
        if address.is_zero() {
            return Err(MarketError::ZeroAddress { chain, field });
        }
    }
    let members = &registration.cluster;
    if !members.contains(&chain) {
        return Err(MarketError::NotInCluster { chain, members: members.clone() });
    }
    if members.len() > MAX_CLUSTER_MEMBERS {
        return Err(MarketError::TooManyMembers { chain, members: members.len(), limit: MAX_CLUSTER_MEMBERS });
    }
    let limit = MAX_INCLUSION as u64;
    if inclusion > limit {
        return Err(MarketError::InclusionTooLarge { chain, inclusion, limit });
    }
    if slots_ahead > MAX_SLOTS_AHEAD {
        return Err(MarketError::TooFarAhead { chain, slots_ahead, limit: MAX_SLOTS_AHEAD });
    }
    Ok(check_reserve(chain, &registration.reserve)?)
}
