//! What is on sale in a slot.

use std::collections::BTreeMap;

use alloy_primitives::{Address, U256};
use lockstep_primitives::{Bid, ChainId, RollupSet, SlotNumber};

use crate::{MAX_SELLERS, MarketError, Units};

/// The most that a bid may offer: 2^248 - 1. Sums over all rollups of a slot then fit into 256 bits.
pub const MAX_AMOUNT: U256 = U256::from_limbs([u64::MAX, u64::MAX, u64::MAX, u64::MAX >> 8]);

/// On what terms one rollup is sold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Terms {
    /// The least that the seller must be paid, in the numeraire's smallest unit.
    pub reserve: U256,
    /// Who proposes when nobody buys.
    pub default_proposer: Address,
}

/// The rollups on sale in one slot, at most [`MAX_SELLERS`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sale {
    terms: BTreeMap<ChainId, Terms>,
    units: Units,
    not_sold: BTreeMap<ChainId, Address>,
}

impl Sale {
    /// Puts rollups on sale, each by itself.
    ///
    /// # Errors
    /// When there are more than [`MAX_SELLERS`].
    pub fn new(slot: SlotNumber, terms: BTreeMap<ChainId, Terms>) -> Result<Self, MarketError> {
        let units = Units::alone(slot, terms.keys().copied());
        Self::in_units(units, terms)
    }

    /// Puts rollups on sale in units that are sold as a whole. Terms of rollups that are in no unit do not count.
    ///
    /// # Errors
    /// When there are more than [`MAX_SELLERS`], or a rollup of a unit has no terms.
    pub fn in_units(units: Units, mut terms: BTreeMap<ChainId, Terms>) -> Result<Self, MarketError> {
        let on_sale = units.on_sale();
        terms.retain(|chain, _| on_sale.contains(chain));
        if let Some(chain) = on_sale.iter().find(|chain| !terms.contains_key(*chain)) {
            return Err(MarketError::NotOnSale { slot: units.slot(), chain: *chain });
        }
        if terms.len() > MAX_SELLERS {
            return Err(MarketError::TooManySellers { limit: MAX_SELLERS });
        }
        Ok(Self { terms, units, not_sold: BTreeMap::new() })
    }

    /// Notes rollups that have a block in the slot and are not for sale, with their default proposers. Those on sale stay as they
    /// are.
    #[must_use]
    pub fn with_not_sold(mut self, default_proposers: BTreeMap<ChainId, Address>) -> Self {
        self.not_sold = default_proposers.into_iter().filter(|(chain, _)| !self.terms.contains_key(chain)).collect();
        self
    }

    /// Takes a rollup off the sale, and leaves it to a proposer if one is named, or else to its default proposer. The rest of its
    /// cluster is sold without it.
    #[must_use]
    pub(crate) fn without(mut self, chain: ChainId, proposer: Option<Address>) -> Self {
        self.units = self.units.without(&[chain].into());
        let default = self.terms.remove(&chain).map(|terms| terms.default_proposer).or(self.not_sold.get(&chain).copied());
        // Where it has no block there is nothing to propose.
        self.not_sold.extend(default.map(|default| (chain, proposer.unwrap_or(default))));
        self
    }

    /// Takes account of rights that were sold before: on sale are only those that their holders offer, at what they want and with
    /// them as default proposers. `held` has of each rollup who holds the right, and for how much it is offered.
    #[must_use]
    pub(crate) fn with_held(mut self, held: &BTreeMap<ChainId, (Address, Option<U256>)>) -> Self {
        let mut kept = RollupSet::new();
        for (chain, (holder, offer)) in held {
            match (offer, self.terms.get_mut(chain)) {
                (Some(offer), Some(terms)) => *terms = Terms { reserve: *offer, default_proposer: *holder },
                (None, Some(_)) => {
                    kept.insert(*chain);
                }
                (_, None) => {}
            }
        }
        self.units = self.units.without(&kept);
        for chain in kept {
            let terms = self.terms.remove(&chain);
            self.not_sold.extend(terms.map(|terms| (chain, terms.default_proposer)));
        }
        self
    }

    /// The slot.
    pub const fn slot(&self) -> SlotNumber {
        self.units.slot()
    }

    /// What goes together.
    pub const fn units(&self) -> &Units {
        &self.units
    }

    /// The terms of each rollup on sale.
    pub const fn terms(&self) -> &BTreeMap<ChainId, Terms> {
        &self.terms
    }

    /// The reserves of a package's rollups that are on sale.
    pub fn reserves(&self, rollups: &RollupSet) -> Vec<(ChainId, U256)> {
        rollups.iter().filter_map(|chain| Some((*chain, self.terms.get(chain)?.reserve))).collect()
    }

    /// The sum of the reserves of a package's rollups that are on sale.
    pub fn reserve(&self, rollups: &RollupSet) -> U256 {
        self.reserves(rollups).into_iter().fold(U256::ZERO, |sum, (_, reserve)| sum.saturating_add(reserve))
    }

    /// Who proposes in each rollup that nobody bought: `sold` are the ones that somebody did, here or before.
    pub fn default_proposers(&self, sold: &RollupSet) -> BTreeMap<ChainId, Address> {
        let on_sale = self.terms.iter().map(|(chain, terms)| (*chain, terms.default_proposer));
        let all = on_sale.chain(self.not_sold.iter().map(|(chain, proposer)| (*chain, *proposer)));
        all.filter(|(chain, _)| !sold.contains(chain)).collect()
    }

    /// By how much a bid is above the reserves of its rollups.
    ///
    /// # Errors
    /// When the bid is no bid for this sale: another slot, an empty package, a rollup that is not on sale, a part of a unit, more
    /// than [`MAX_AMOUNT`], or less than the reserves.
    pub fn surplus(&self, bid: &Bid) -> Result<U256, MarketError> {
        let slot = self.slot();
        if bid.slot != slot {
            return Err(MarketError::WrongSlot { slot: bid.slot, open: slot });
        }
        if bid.rollups.is_empty() {
            return Err(MarketError::EmptyPackage { slot });
        }
        if bid.amount > MAX_AMOUNT {
            return Err(MarketError::AmountTooLarge { slot, amount: bid.amount });
        }
        self.units.fits(&bid.rollups)?;
        let reserve = self.reserve(&bid.rollups);
        bid.amount.checked_sub(reserve).ok_or_else(|| MarketError::BelowReserve {
            slot,
            rollups: bid.rollups.clone(),
            amount: bid.amount,
            reserve,
        })
    }
}
