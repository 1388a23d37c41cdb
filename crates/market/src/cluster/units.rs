//! What can be bought in a slot: which rollups go together in it.

use std::collections::BTreeMap;

use alloy_primitives::U256;
use lockstep_primitives::{ChainId, RollupSet, SlotNumber};

use super::{ClusterError, Clusters, Standing};

/// Whether a rollup has something to sell in a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presence {
    /// It has a block in the slot and sells it.
    OnSale,
    /// None of its blocks falls into the slot. The rest of its cluster is sold without it: there is nothing to go together with.
    NoBlock,
    /// It has a block and does not sell it: it is not active, or without a reserve. Then none of its cluster is sold.
    NotSelling,
}

/// What goes together in one slot. Each rollup on sale is in exactly one unit, and a unit is sold as a whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Units {
    slot: SlotNumber,
    /// By rollup: all that its unit holds.
    units: BTreeMap<ChainId, RollupSet>,
    /// Rollups that would sell, and because of whom they do not.
    withheld: BTreeMap<ChainId, RollupSet>,
}

impl Clusters {
    /// What goes together in a slot, given what each rollup has to sell. Rollups that are not listed sell nothing.
    pub fn units(&self, slot: SlotNumber, presence: &BTreeMap<ChainId, Presence>) -> Units {
        let is = |member: &ChainId, expected: Presence| presence.get(member) == Some(&expected);
        let mut units = BTreeMap::new();
        let mut withheld = BTreeMap::new();
        for chain in presence.keys().filter(|chain| is(chain, Presence::OnSale)) {
            let members = match self.standing(*chain, slot) {
                Standing::Alone => RollupSet::from([*chain]),
                Standing::Together(members) => members,
                Standing::Waiting(missing) => {
                    withheld.insert(*chain, missing);
                    continue;
                }
            };
            let (unit, without): (RollupSet, RollupSet) = members.into_iter().partition(|member| is(member, Presence::OnSale));
            let holding_up: RollupSet = without.into_iter().filter(|member| !is(member, Presence::NoBlock)).collect();
            if holding_up.is_empty() {
                units.insert(*chain, unit);
            } else {
                withheld.insert(*chain, holding_up);
            }
        }
        Units { slot, units, withheld }
    }
}

impl Units {
    /// Whether a package holds each unit that it touches as a whole. The empty package does.
    ///
    /// # Errors
    /// Names the first rollup of the package that is not on sale, that is withheld, or whose unit is not all there.
    pub fn fits(&self, rollups: &RollupSet) -> Result<(), ClusterError> {
        let slot = self.slot;
        for chain in rollups {
            if let Some(because_of) = self.withheld.get(chain) {
                return Err(ClusterError::Withheld { slot, chain: *chain, because_of: because_of.clone() });
            }
            let unit = self.units.get(chain).ok_or(ClusterError::NotOnSale { slot, chain: *chain })?;
            if !unit.is_subset(rollups) {
                return Err(ClusterError::Split { slot, chain: *chain, missing: unit - rollups });
            }
        }
        Ok(())
    }

    /// What a package costs at least: the sum of what each of its rollups asks for, in the numeraire's smallest unit.
    ///
    /// # Errors
    /// When the package does not fit, a rollup has no reserve, or the sum is above 2^256 - 1.
    pub fn reserve(&self, rollups: &RollupSet, reserves: &BTreeMap<ChainId, U256>) -> Result<U256, ClusterError> {
        self.fits(rollups)?;
        let slot = self.slot;
        rollups.iter().try_fold(U256::ZERO, |sum, chain| {
            let reserve = reserves.get(chain).ok_or(ClusterError::NotOnSale { slot, chain: *chain })?;
            sum.checked_add(*reserve).ok_or(ClusterError::SumTooLarge { slot })
        })
    }

    /// The slot.
    pub const fn slot(&self) -> SlotNumber {
        self.slot
    }

    /// All rollups that can be bought.
    pub fn on_sale(&self) -> RollupSet {
        self.units.keys().copied().collect()
    }

    /// The units, each once, by their lowest rollup.
    pub fn iter(&self) -> impl Iterator<Item = &RollupSet> {
        self.units.iter().filter(|(chain, unit)| unit.first() == Some(*chain)).map(|(_, unit)| unit)
    }

    /// Rollups that would sell and cannot, and the members of their cluster because of whom.
    pub const fn withheld(&self) -> &BTreeMap<ChainId, RollupSet> {
        &self.withheld
    }
}
