//! Which rollups have something to sell in a slot, with block times that differ.

use std::collections::BTreeMap;

use lockstep_primitives::{ChainId, RollupSet, SlotNumber};

use super::Calendar;

/// Where a rollup's blocks are in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockTimes {
    /// Seconds between blocks.
    pub block_time_s: u64,
    /// The timestamp of its last block, in Unix seconds. Its next ones are that and whole block times.
    pub last_block_timestamp_s: u64,
}

/// A rollup that may sell ahead of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AheadSeller {
    /// Where its blocks are.
    pub blocks: BlockTimes,
    /// How many slots ahead it sells at the most; with 0 it sells just in time only.
    pub slots_ahead: u64,
}

impl Calendar {
    /// The rollups that have a block in a slot, as far as can be told from their last blocks: a rollup that will skip blocks
    /// until then may have none, and whoever bought it is then not charged.
    pub fn with_blocks(&self, slot: SlotNumber, rollups: &BTreeMap<ChainId, BlockTimes>) -> RollupSet {
        rollups.iter().filter(|(_, blocks)| self.has_block(slot, blocks)).map(|(chain, _)| *chain).collect()
    }

    /// How many slots before it starts a slot is sold when its epoch is sold: the later in the epoch, the more. `None` when
    /// nothing is sold ahead.
    pub fn distance(&self, slot: SlotNumber) -> Option<u64> {
        let ahead = self.ahead()?;
        ahead.slots_ahead.checked_add(slot % ahead.epoch_slots)
    }

    /// What the auction of an epoch sells: for each slot the rollups that have a block in it and sell that far ahead. Slots in
    /// which nobody sells are not listed.
    pub fn lots(&self, epoch: u64, sellers: &BTreeMap<ChainId, AheadSeller>) -> BTreeMap<SlotNumber, RollupSet> {
        let mut lots = BTreeMap::new();
        for slot in self.slots_of(epoch).into_iter().flatten() {
            let Some(distance) = self.distance(slot) else { continue };
            let sells = |seller: &AheadSeller| distance <= seller.slots_ahead && self.has_block(slot, &seller.blocks);
            let rollups: RollupSet = sellers.iter().filter(|(_, seller)| sells(seller)).map(|(chain, _)| *chain).collect();
            if !rollups.is_empty() {
                lots.insert(slot, rollups);
            }
        }
        lots
    }

    fn has_block(&self, slot: SlotNumber, blocks: &BlockTimes) -> bool {
        // A slot that is never sold has no times, and the clock's answer for it would be cut off.
        self.times(slot).is_some()
            && !self.clock().block_timestamps(slot, blocks.block_time_s, blocks.last_block_timestamp_s).is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{AheadSale, SlotClock};

    fn calendar() -> Calendar {
        let clock = SlotClock { genesis_ms: 100_000, slot_ms: 2000, close_before_ms: 300 };
        Calendar::new(clock, 1000, Some(AheadSale { epoch_slots: 4, slots_ahead: 2, open_ms: 8000 })).unwrap()
    }

    fn seller(block_time_s: u64, slots_ahead: u64) -> AheadSeller {
        AheadSeller { blocks: BlockTimes { block_time_s, last_block_timestamp_s: 100 }, slots_ahead }
    }

    #[test]
    fn an_epoch_sells_what_has_blocks_and_is_sold_that_far_ahead() {
        // Of slots 8 to 11, at 116, 118, 120 and 122 s, a block time of 4 s gives those at 116 and 120.
        let [every, fourth] = [seller(2, 9), seller(4, 9)];
        let sellers = BTreeMap::from([(1, every), (2, fourth), (3, seller(1, 3)), (4, seller(2, 1)), (5, seller(2, 0))]);
        let expected: [(SlotNumber, &[ChainId]); 4] = [(8, &[1, 2, 3]), (9, &[1, 3]), (10, &[1, 2]), (11, &[1])];
        let expected = expected.map(|(slot, rollups)| (slot, rollups.iter().copied().collect::<RollupSet>()));
        assert_eq!(calendar().lots(2, &sellers), BTreeMap::from(expected));
        assert_eq!([8, 9, 11].map(|slot| calendar().distance(slot)), [Some(2), Some(3), Some(5)]);
        assert!(calendar().lots(u64::MAX, &sellers).is_empty());
    }

    #[test]
    fn a_rollup_without_a_block_in_the_slot_has_nothing_to_sell() {
        let rollups = BTreeMap::from([(1, seller(2, 0).blocks), (2, seller(12, 0).blocks), (3, seller(0, 0).blocks)]);
        assert_eq!(calendar().with_blocks(5, &rollups), RollupSet::from([1]));
        assert_eq!(calendar().with_blocks(6, &rollups), RollupSet::from([1, 2]));
        assert!(calendar().with_blocks(u64::MAX, &rollups).is_empty());
    }
}
