//! What the auction of an epoch sells: rollups for all of its slots at once.

mod error;

pub use error::EpochError;

use std::collections::BTreeMap;

use alloy_primitives::{U256, U512};
use lockstep_primitives::{ChainId, RollupSet, SlotNumber};

use crate::{MarketError, Sale, Terms, Units, Win, payment::share_out};

/// What is on sale in an epoch.
///
/// Of each slot that is sold at all, the units that sell so far ahead. Units of different slots that share a rollup are sold as
/// one, so a rollup is sold for all of its slots in the epoch or for none; its reserve is the sum of theirs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EpochSale {
    epoch: u64,
    sale: Sale,
    lots: BTreeMap<SlotNumber, BTreeMap<ChainId, Terms>>,
}

impl EpochSale {
    /// Puts an epoch on sale that begins with slot `first`: of each slot what is sold in it, and the rollups that sell it so far
    /// ahead.
    ///
    /// # Errors
    /// When more rollups would be on sale than a sale holds.
    pub fn new(epoch: u64, first: SlotNumber, slots: impl IntoIterator<Item = (Sale, RollupSet)>) -> Result<Self, MarketError> {
        let (mut lots, mut units) = (BTreeMap::new(), Vec::new());
        let mut terms: BTreeMap<ChainId, Terms> = BTreeMap::new();
        for (sale, reaching) in slots {
            let mut lot = BTreeMap::new();
            for unit in sale.units().iter().filter(|unit| unit.is_subset(&reaching)) {
                units.push(unit.clone());
                lot.extend(unit.iter().filter_map(|chain| Some((*chain, sale.terms().get(chain)?.clone()))));
            }
            for (chain, Terms { reserve, default_proposer }) in &lot {
                let sum = terms.entry(*chain).or_insert(Terms { reserve: U256::ZERO, default_proposer: *default_proposer });
                sum.reserve = sum.reserve.saturating_add(*reserve);
            }
            if !lot.is_empty() {
                lots.insert(sale.slot(), lot);
            }
        }
        Ok(Self { epoch, sale: Sale::in_units(Units::merged(first, units), terms)?, lots })
    }

    /// The epoch.
    pub const fn epoch(&self) -> u64 {
        self.epoch
    }

    /// All of it as one sale, under the number of the epoch's first slot.
    pub const fn sale(&self) -> &Sale {
        &self.sale
    }

    /// What is sold of each slot, and on what terms.
    pub const fn lots(&self) -> &BTreeMap<SlotNumber, BTreeMap<ChainId, Terms>> {
        &self.lots
    }

    /// What a winner owes for each of a rollup's slots: its share of the price in proportion to their reserves, and so at least the
    /// reserve of each.
    pub fn parts(&self, win: &Win, chain: ChainId) -> Vec<(SlotNumber, U256)> {
        let slots = self.lots.iter().filter_map(|(slot, lot)| Some((*slot, U512::from(lot.get(&chain)?.reserve))));
        let (slots, reserves): (Vec<SlotNumber>, Vec<U512>) = slots.unzip();
        if slots.is_empty() {
            return Vec::new();
        }
        slots.into_iter().zip(share_out(win.shares.get(&chain).copied().unwrap_or_default(), &reserves)).collect()
    }
}
