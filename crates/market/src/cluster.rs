//! Rollups that are sold together or not at all: the members of a superchain, or any that must go together.
//!
//! A rollup joins by a signed [`Membership`] that lists all members, so that each consents to the very same cluster, and nobody
//! is drawn into one or gets a new neighbour without its word. It takes effect at a stated slot like any update of terms. A
//! rollup that named a cluster of which another member has not named the same (yet, or no longer) is not for sale: it asked to be
//! sold together or not at all. Naming itself as the only member it sells alone again.
//!
//! The reserve of a cluster is the sum of its members' reserves, and each member is paid at least its own.

mod error;
mod units;

pub use error::ClusterError;
pub use units::{Presence, Units};

use std::{
    collections::{BTreeMap, btree_map::Entry},
    fmt,
};

use alloy_primitives::{Address, B256, U256, keccak256};
use alloy_sol_types::sol;
use lockstep_primitives::{ChainId, RollupSet, SlotNumber, digest, recover};

use crate::{Version, Versions};

/// How many members a cluster has at the most: as many as a sale has rollups.
pub const MAX_CLUSTER_MEMBERS: usize = crate::MAX_SELLERS;

/// How many rollups' memberships are kept.
pub const MAX_MEMBERSHIPS: usize = 64;

mod eip712 {
    use super::sol;

    sol! {
        struct ClusterMembership {
            uint64 chainId;
            uint64[] members;
            address payout;
            uint64 fromSlot;
            uint64 nonce;
        }
    }
}

/// Names a cluster. It is a hash of the members, so whoever names it names them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ClusterId(pub B256);

impl ClusterId {
    /// The cluster of these members: the keccak of the text `lockstep cluster` and the members' chain ids, lowest first, 8 bytes
    /// big-endian each.
    pub fn of(members: &RollupSet) -> Self {
        let mut bytes = b"lockstep cluster".to_vec();
        for member in members {
            bytes.extend_from_slice(&member.to_be_bytes());
        }
        Self(keccak256(bytes))
    }
}

impl fmt::Display for ClusterId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, formatter)
    }
}

/// A rollup's word on whom it is sold together with, and who gets its part of the proceeds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Membership {
    /// The rollup.
    pub chain: ChainId,
    /// All members of the cluster, the rollup among them. The rollup by itself: it sells alone.
    pub members: RollupSet,
    /// Who receives what the rollup is paid.
    pub payout: Address,
    /// The first slot for which this holds.
    pub from_slot: SlotNumber,
    /// Rises with each membership of the rollup.
    pub nonce: u64,
}

impl Membership {
    /// The EIP-712 digest that the rollup's sequencer signs.
    pub fn digest(&self) -> B256 {
        digest(&eip712::ClusterMembership {
            chainId: self.chain,
            members: self.members.iter().copied().collect(),
            payout: self.payout,
            fromSlot: self.from_slot,
            nonce: self.nonce,
        })
    }

    /// Which cluster it names.
    pub fn cluster(&self) -> ClusterId {
        ClusterId::of(&self.members)
    }
}

/// What a membership says while it holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Consent {
    /// See [`Membership::members`].
    pub members: RollupSet,
    /// See [`Membership::payout`].
    pub payout: Address,
}

/// How a rollup is sold in a slot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// By itself.
    Alone,
    /// With all of these members, who all named the same cluster.
    Together(RollupSet),
    /// Not at all: it named a cluster of which these members have not named the same.
    Waiting(RollupSet),
}

/// The memberships of all rollups, at most [`MAX_MEMBERSHIPS`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Clusters {
    consents: BTreeMap<ChainId, Versions<Consent>>,
}

impl Clusters {
    /// Nobody has joined anything.
    pub fn new() -> Self {
        Self::default()
    }

    /// Memberships that were stored, see [`Clusters::versions`].
    ///
    /// # Errors
    /// When there are more than [`MAX_MEMBERSHIPS`], or two of one rollup.
    pub fn restore(versions: impl IntoIterator<Item = Versions<Consent>>) -> Result<Self, ClusterError> {
        let mut consents = BTreeMap::new();
        for versions in versions {
            let chain = versions.chain();
            if consents.len() >= MAX_MEMBERSHIPS {
                return Err(ClusterError::TooManyMemberships { limit: MAX_MEMBERSHIPS });
            }
            if consents.insert(chain, versions).is_some() {
                return Err(ClusterError::StoredTwice { chain });
            }
        }
        Ok(Self { consents })
    }

    /// Takes a membership and returns what waited for its slot and is replaced by it. `sequencer` is the key that speaks for the
    /// rollup; `earliest` the first slot whose terms may still change, see [`Versions::update`].
    ///
    /// # Errors
    /// When the rollup is not among the members or they are too many, nobody would be paid, the signature is not the sequencer's,
    /// or the update comes too late. Nothing is then changed.
    pub fn join(
        &mut self,
        membership: Membership,
        signature: &[u8],
        sequencer: Address,
        earliest: SlotNumber,
    ) -> Result<Vec<Version<Consent>>, ClusterError> {
        let chain = membership.chain;
        check(&membership)?;
        let signer = recover(membership.digest(), signature).map_err(|_| ClusterError::InvalidSignature { chain })?;
        if signer != sequencer {
            return Err(ClusterError::WrongSigner { chain, sequencer, signer });
        }
        let Membership { members, payout, from_slot, nonce, .. } = membership;
        let consent = Consent { members, payout };
        let full = self.consents.len() >= MAX_MEMBERSHIPS;
        match self.consents.entry(chain) {
            Entry::Occupied(mut known) => Ok(known.get_mut().update(from_slot, nonce, consent, earliest)?),
            Entry::Vacant(_) if full => Err(ClusterError::TooManyMemberships { limit: MAX_MEMBERSHIPS }),
            Entry::Vacant(free) => {
                let mut versions = Versions::new(chain);
                let replaced = versions.update(from_slot, nonce, consent, earliest)?;
                free.insert(versions);
                Ok(replaced)
            }
        }
    }

    /// How a rollup is sold in a slot. One that never said anything sells alone.
    pub fn standing(&self, chain: ChainId, slot: SlotNumber) -> Standing {
        let Some(members) = self.members_at(chain, slot) else { return Standing::Alone };
        let missing: RollupSet =
            members.iter().copied().filter(|member| self.members_at(*member, slot) != Some(members)).collect();
        if !missing.is_empty() {
            Standing::Waiting(missing)
        } else if members.len() == 1 {
            Standing::Alone
        } else {
            Standing::Together(members.clone())
        }
    }

    /// Who receives what a rollup is paid for a slot; `None` when it has not named anybody.
    pub fn payout(&self, chain: ChainId, slot: SlotNumber) -> Option<Address> {
        Some(self.consents.get(&chain)?.at_slot(slot)?.value.payout)
    }

    /// What each address receives of what the rollups are paid for a slot, in the numeraire's smallest unit; it sums up to what
    /// they are paid. For a rollup that has not named anybody, `registered` says who receives it: the key it registered with.
    ///
    /// # Errors
    /// When nobody is named for a rollup, or a sum is above 2^256 - 1.
    pub fn payouts(
        &self,
        slot: SlotNumber,
        shares: &BTreeMap<ChainId, U256>,
        registered: &BTreeMap<ChainId, Address>,
    ) -> Result<BTreeMap<Address, U256>, ClusterError> {
        let mut payouts: BTreeMap<Address, U256> = BTreeMap::new();
        for (chain, share) in shares {
            let named = self.payout(*chain, slot).or_else(|| registered.get(chain).copied());
            let receiver = named.ok_or(ClusterError::NoPayout { slot, chain: *chain })?;
            let sum = payouts.entry(receiver).or_default();
            *sum = sum.checked_add(*share).ok_or(ClusterError::SumTooLarge { slot })?;
        }
        Ok(payouts)
    }

    /// All that was said, by rollup.
    pub fn versions(&self) -> impl Iterator<Item = &Versions<Consent>> {
        self.consents.values()
    }

    fn members_at(&self, chain: ChainId, slot: SlotNumber) -> Option<&RollupSet> {
        Some(&self.consents.get(&chain)?.at_slot(slot)?.value.members)
    }
}

fn check(membership: &Membership) -> Result<(), ClusterError> {
    let Membership { chain, members, payout, .. } = membership;
    let chain = *chain;
    if !members.contains(&chain) {
        return Err(ClusterError::NotAMember { chain, members: members.clone() });
    }
    if members.len() > MAX_CLUSTER_MEMBERS {
        return Err(ClusterError::TooManyMembers { chain, members: members.len(), limit: MAX_CLUSTER_MEMBERS });
    }
    if payout.is_zero() {
        return Err(ClusterError::ZeroPayout { chain });
    }
    Ok(())
}
