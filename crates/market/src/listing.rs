//! What is on sale in a slot, by the terms of all rollups.

use std::collections::BTreeMap;

use lockstep_primitives::{ChainId, Registration, SlotNumber};

use crate::{EarningsHistory, MarketError, Presence, Registry, Sale, SlotClock, Terms, Units, reserve_at};

impl Registry {
    /// Puts on sale what is sold in a slot: the rollups that have a block in it, are active and have a reserve, in units of those
    /// that are sold together. All others with a block are their default proposers'.
    ///
    /// `before` is the first slot whose earnings do not count for implied reserves, see [`reserve_at`]. A rollup without a
    /// history has earned nothing yet.
    ///
    /// # Errors
    /// When more rollups would be on sale than a sale holds.
    pub fn sale(
        &self,
        clock: &SlotClock,
        slot: SlotNumber,
        before: SlotNumber,
        histories: &BTreeMap<ChainId, EarningsHistory>,
    ) -> Result<Sale, MarketError> {
        let (mut presence, mut terms, mut default_proposers) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        for registration in self.all_at(slot) {
            let chain = registration.chain;
            if !has_block(clock, slot, registration) {
                presence.insert(chain, Presence::NoBlock);
                continue;
            }
            default_proposers.insert(chain, registration.default_proposer);
            let unknown = EarningsHistory::new(chain);
            let history = histories.get(&chain).unwrap_or(&unknown);
            let reserve = reserve_at(&registration.reserve, slot, before, history).filter(|_| registration.active);
            let state = if reserve.is_some() { Presence::OnSale } else { Presence::NotSelling };
            presence.insert(chain, state);
            if let Some(reserve) = reserve {
                terms.insert(chain, Terms { reserve, default_proposer: registration.default_proposer });
            }
        }
        let sale = Sale::in_units(Units::of(slot, &self.clusters_at(slot), &presence), terms)?;
        Ok(sale.with_not_sold(default_proposers))
    }
}

/// Whether a rollup has a block in a slot. The market follows no chain: blocks are taken to lie where the terms say, which the
/// sequencer's own answer corrects.
fn has_block(clock: &SlotClock, slot: SlotNumber, registration: &Registration) -> bool {
    !clock.block_timestamps(slot, registration.block_time, registration.block_anchor).is_empty()
}
