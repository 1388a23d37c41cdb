//! Rollups that are sold together or not at all: the members of a superchain, or any that must always go together.
//!
//! A rollup names its cluster in its terms of sale, by listing all members, so that each consents to the very same cluster, and
//! nobody is drawn into one or gets a new neighbour without its word. A rollup that named a cluster of which another member has
//! not named the same (yet, or no longer) is not for sale: it asked to be sold together or not at all. Naming itself as the only
//! member it sells alone again.
//!
//! The reserve of a cluster is the sum of its members' reserves, and each member is paid at least its own.

use std::collections::BTreeMap;

use lockstep_primitives::{ChainId, RollupSet, SlotNumber};

use crate::MarketError;

/// How many members a cluster has at the most: as many as a sale has rollups.
pub const MAX_CLUSTER_MEMBERS: usize = crate::MAX_SELLERS;

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

/// How a rollup is sold, given what each rollup named. One that named nothing sells alone.
pub fn standing(chain: ChainId, named: &BTreeMap<ChainId, RollupSet>) -> Standing {
    let Some(members) = named.get(&chain) else { return Standing::Alone };
    let missing: RollupSet = members.iter().copied().filter(|member| named.get(member) != Some(members)).collect();
    if !missing.is_empty() {
        Standing::Waiting(missing)
    } else if members.len() == 1 {
        Standing::Alone
    } else {
        Standing::Together(members.clone())
    }
}

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

impl Units {
    /// What goes together in a slot, given what each rollup named and what it has to sell. Rollups without a presence sell
    /// nothing.
    pub fn of(slot: SlotNumber, named: &BTreeMap<ChainId, RollupSet>, presence: &BTreeMap<ChainId, Presence>) -> Self {
        let is = |member: &ChainId, expected: Presence| presence.get(member) == Some(&expected);
        let mut units = BTreeMap::new();
        let mut withheld = BTreeMap::new();
        for chain in presence.keys().filter(|chain| is(chain, Presence::OnSale)) {
            let members = match standing(*chain, named) {
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
        Self { slot, units, withheld }
    }

    /// Rollups that are each sold by themselves.
    pub fn alone(slot: SlotNumber, rollups: impl IntoIterator<Item = ChainId>) -> Self {
        let units = rollups.into_iter().map(|chain| (chain, RollupSet::from([chain]))).collect();
        Self { slot, units, withheld: BTreeMap::new() }
    }

    /// What goes together when several slots are sold at once: units that share a rollup become one.
    pub(crate) fn merged(slot: SlotNumber, units: impl IntoIterator<Item = RollupSet>) -> Self {
        let mut merged: Vec<RollupSet> = Vec::new();
        for mut unit in units {
            merged.retain(|known| {
                let apart = known.is_disjoint(&unit);
                if !apart {
                    unit.extend(known);
                }
                apart
            });
            merged.push(unit);
        }
        let units = merged.into_iter().flat_map(|unit| unit.clone().into_iter().map(move |chain| (chain, unit.clone())));
        Self { slot, units: units.collect(), withheld: BTreeMap::new() }
    }

    /// Takes rollups off the sale. Units that lose a part are sold without it.
    pub(crate) fn without(mut self, rollups: &RollupSet) -> Self {
        self.units.retain(|chain, _| !rollups.contains(chain));
        self.units.values_mut().for_each(|unit| unit.retain(|chain| !rollups.contains(chain)));
        self
    }

    /// Whether a package holds each unit that it touches as a whole. The empty package does.
    ///
    /// # Errors
    /// Names the first rollup of the package that is not on sale, that is withheld, or whose unit is not all there.
    pub fn fits(&self, rollups: &RollupSet) -> Result<(), MarketError> {
        let slot = self.slot;
        for chain in rollups {
            if let Some(because_of) = self.withheld.get(chain) {
                return Err(MarketError::Withheld { slot, chain: *chain, because_of: because_of.clone() });
            }
            let unit = self.units.get(chain).ok_or(MarketError::NotOnSale { slot, chain: *chain })?;
            if !unit.is_subset(rollups) {
                return Err(MarketError::SplitsCluster { slot, chain: *chain, missing: unit - rollups });
            }
        }
        Ok(())
    }

    /// Whether a package is one unit and nothing else: what is sold by itself.
    pub fn is_unit(&self, rollups: &RollupSet) -> bool {
        rollups.first().and_then(|chain| self.units.get(chain)).is_some_and(|unit| unit == rollups)
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
