//! How much data the rollup's batcher takes for now, and what a slot was offered with.

use std::collections::BTreeMap;

use lockstep_primitives::SlotNumber;
use lockstep_simulation::DataLimits;

use super::{MAX_SLOTS, SequencerRole};
use crate::clock::now_ms;

/// The limits as they were set last, and those of the slots that are built for.
#[derive(Debug)]
pub(super) struct DataThrottle {
    newest: DataLimits,
    fixed: BTreeMap<SlotNumber, DataLimits>,
}

impl DataThrottle {
    /// With the limits that count until others are set.
    pub(super) const fn new(newest: DataLimits) -> Self {
        Self { newest, fixed: BTreeMap::new() }
    }

    /// The limits of a slot. Once they are `fixed` they stay, whatever is set later: a list is judged by what its builder was
    /// told.
    fn of(&mut self, slot: SlotNumber, fixed: bool) -> DataLimits {
        if !fixed {
            return self.fixed.get(&slot).copied().unwrap_or(self.newest);
        }
        let limits = *self.fixed.entry(slot).or_insert(self.newest);
        while self.fixed.len() > MAX_SLOTS {
            self.fixed.pop_first();
        }
        limits
    }
}

impl SequencerRole {
    /// The limits of a slot, fixed from the time at which building for it begins.
    pub(super) fn data_limits(&self, slot: SlotNumber) -> DataLimits {
        let fixed = now_ms() >= self.settings.timings.build_ms(slot);
        self.data.lock().of(slot, fixed)
    }

    /// Whether the rollup's batcher may set limits here.
    pub(crate) const fn takes_data_limits(&self) -> bool {
        self.settings.batcher_api
    }

    /// Sets the limits of the slots that are not built for yet.
    pub(crate) fn set_data_limits(&self, limits: DataLimits) {
        let mut data = self.data.lock();
        if data.newest != limits {
            tracing::info!(chain = self.chain(), tx = ?limits.tx, block = ?limits.block, "the batcher sets how much data it takes");
        }
        data.newest = limits;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_keeps_the_limits_that_it_was_offered_with() {
        let (wide, tight) = (DataLimits::from_wire(0, 130_000), DataLimits::from_wire(300, 21_000));
        let mut data = DataThrottle::new(wide);
        assert_eq!(data.of(7, false), wide);
        assert_eq!(data.of(7, true), wide);
        data.newest = tight;
        assert_eq!((data.of(7, true), data.of(7, false)), (wide, wide));
        assert_eq!((data.of(8, false), data.of(8, true)), (tight, tight));
        for slot in 9..=8 + MAX_SLOTS as SlotNumber {
            let _ = data.of(slot, true);
        }
        assert_eq!(data.fixed.len(), MAX_SLOTS);
    }
}
