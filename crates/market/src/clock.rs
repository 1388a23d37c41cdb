//! Slots and the blocks that fall into them.

use lockstep_primitives::SlotNumber;

/// How many blocks of one rollup a slot may own. A slot that is longer than this many blocks sells only its first ones.
pub const MAX_BLOCKS_PER_SLOT: usize = 4096;

const MS_PER_S: u64 = 1000;

/// Cuts time into slots. Slot 0 starts at genesis; times are milliseconds since the Unix epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SlotClock {
    /// When slot 0 starts.
    pub genesis_ms: u64,
    /// How long a slot is. With zero there are no slots.
    pub slot_ms: u64,
    /// How long before the start of a slot its bidding ends.
    pub close_before_ms: u64,
}

impl SlotClock {
    /// The slot that `now_ms` is in; `None` before genesis.
    pub fn slot_at(&self, now_ms: u64) -> Option<SlotNumber> {
        now_ms.checked_sub(self.genesis_ms)?.checked_div(self.slot_ms)
    }

    /// When a slot starts.
    pub const fn start_ms(&self, slot: SlotNumber) -> u64 {
        self.genesis_ms.saturating_add(slot.saturating_mul(self.slot_ms))
    }

    /// When a slot ends, which is when the next one starts.
    pub const fn end_ms(&self, slot: SlotNumber) -> u64 {
        self.start_ms(slot.saturating_add(1))
    }

    /// From when on bids for a slot come too late.
    pub const fn close_ms(&self, slot: SlotNumber) -> u64 {
        self.start_ms(slot).saturating_sub(self.close_before_ms)
    }

    /// The timestamps, in seconds, of a rollup's blocks in a slot: they go on from the rollup's last block in steps of its
    /// block time and lie in [start, end) of the slot.
    ///
    /// A rollup that lags behind skips by whole block times to the first timestamp inside the slot. A rollup without a
    /// timestamp inside the slot is not for sale in it.
    pub fn block_timestamps(&self, slot: SlotNumber, block_time_s: u64, last_block_timestamp_s: u64) -> Vec<u64> {
        if block_time_s == 0 {
            return Vec::new();
        }
        // Of whole seconds, exactly those from the rounded-up start on and before the rounded-up end are inside.
        let start_s = self.start_ms(slot).div_ceil(MS_PER_S);
        let end_s = self.end_ms(slot).div_ceil(MS_PER_S);
        let first = last_block_timestamp_s.checked_add(block_time_s).and_then(|next| {
            let skipped = start_s.saturating_sub(next).div_ceil(block_time_s);
            next.checked_add(skipped.checked_mul(block_time_s)?)
        });
        std::iter::successors(first, |timestamp| timestamp.checked_add(block_time_s))
            .take_while(|timestamp| *timestamp < end_s)
            .take(MAX_BLOCKS_PER_SLOT)
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLOCK: SlotClock = SlotClock { genesis_ms: 100_000, slot_ms: 2000, close_before_ms: 300 };

    #[test]
    fn slots_are_half_open_and_count_from_genesis() {
        assert_eq!(CLOCK.slot_at(99_999), None);
        assert_eq!(CLOCK.slot_at(100_000), Some(0));
        assert_eq!(CLOCK.slot_at(101_999), Some(0));
        assert_eq!(CLOCK.slot_at(102_000), Some(1));
        assert_eq!((CLOCK.start_ms(3), CLOCK.end_ms(3), CLOCK.close_ms(3)), (106_000, 108_000, 105_700));
    }

    #[test]
    fn the_extremes_do_not_overflow() {
        assert_eq!(CLOCK.end_ms(u64::MAX), u64::MAX);
        assert!(CLOCK.block_timestamps(u64::MAX, 1, 0).is_empty());
        assert!(CLOCK.block_timestamps(0, 1, u64::MAX).is_empty());
        assert!(CLOCK.block_timestamps(0, u64::MAX, 1).is_empty());
        assert!(CLOCK.block_timestamps(0, 0, 100).is_empty());
        assert_eq!(SlotClock { slot_ms: 0, ..CLOCK }.slot_at(100_000), None);
        assert_eq!(SlotClock { close_before_ms: u64::MAX, ..CLOCK }.close_ms(5), 0);
        let endless = SlotClock { slot_ms: u64::MAX, ..CLOCK };
        assert_eq!(endless.block_timestamps(0, 1, 0).len(), MAX_BLOCKS_PER_SLOT);
    }

    #[test]
    fn a_block_time_of_one_slot_gives_one_block_a_slot() {
        assert_eq!(CLOCK.block_timestamps(0, 2, 98), [100]);
        assert_eq!(CLOCK.block_timestamps(1, 2, 100), [102]);
        // The rollup's blocks need not be on the slots' grid.
        assert_eq!(CLOCK.block_timestamps(1, 2, 101), [103]);
    }

    #[test]
    fn one_second_blocks_come_two_a_slot() {
        assert_eq!(CLOCK.block_timestamps(1, 1, 101), [102, 103]);
        // One of them is built already.
        assert_eq!(CLOCK.block_timestamps(1, 1, 102), [103]);
        assert!(CLOCK.block_timestamps(1, 1, 103).is_empty());
    }

    #[test]
    fn twelve_second_blocks_fall_into_every_sixth_slot() {
        let last = 100;
        let sold: Vec<u64> = (0..12).filter(|slot| !CLOCK.block_timestamps(*slot, 12, last).is_empty()).collect();
        assert_eq!(sold, [6]);
        assert_eq!(CLOCK.block_timestamps(6, 12, last), [112]);
    }

    #[test]
    fn a_lagging_rollup_skips_by_whole_block_times() {
        assert_eq!(CLOCK.block_timestamps(5, 1, 50), [110, 111]);
        // 53 + 3k: 110 is the first at or after 110.
        assert_eq!(CLOCK.block_timestamps(5, 3, 50), [110]);
        // 64 + 12k: 112 is in slot 6, and slot 5 has none.
        assert!(CLOCK.block_timestamps(5, 12, 52).is_empty());
        assert_eq!(CLOCK.block_timestamps(6, 12, 52), [112]);
    }

    #[test]
    fn slots_that_are_no_multiple_of_a_second_own_each_second_once() {
        let clock = SlotClock { genesis_ms: 100_250, slot_ms: 1500, close_before_ms: 0 };
        // [100.25, 101.75), [101.75, 103.25), [103.25, 104.75), [104.75, 106.25)
        assert_eq!(clock.block_timestamps(0, 1, 100), [101]);
        assert_eq!(clock.block_timestamps(1, 1, 101), [102, 103]);
        assert_eq!(clock.block_timestamps(2, 1, 103), [104]);
        assert_eq!(clock.block_timestamps(3, 1, 104), [105, 106]);
        let short = SlotClock { genesis_ms: 100_000, slot_ms: 250, close_before_ms: 0 };
        let owners: Vec<u64> = (0..12).filter(|slot| !short.block_timestamps(*slot, 1, 99).is_empty()).collect();
        assert_eq!(owners, [0, 4, 8]);
    }

    #[test]
    fn following_the_slots_yields_every_block_once() {
        let clock = SlotClock { genesis_ms: 1_000_333, slot_ms: 1700, close_before_ms: 0 };
        for block_time in [1, 2, 3, 5, 12] {
            let mut last = 1000;
            let mut seen = Vec::new();
            for slot in 0..60 {
                let blocks = clock.block_timestamps(slot, block_time, last);
                for timestamp in &blocks {
                    assert!(timestamp * 1000 >= clock.start_ms(slot) && timestamp * 1000 < clock.end_ms(slot));
                }
                last = blocks.last().copied().unwrap_or(last);
                seen.extend(blocks);
            }
            let expected: Vec<u64> = (1..=seen.len() as u64).map(|block| 1000 + block * block_time).collect();
            assert_eq!(seen, expected);
            assert!(!seen.is_empty());
        }
    }
}
