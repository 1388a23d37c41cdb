//! Which slots are sold when: some ahead of time, an epoch at once, and each just before it starts.
//!
//! ```text
//!  opens_ms   closes_ms            opens_ms    closes_ms     start              end
//!     |--- ahead ---|--- between ---|-- just in time --|- closed -|--- running ---|--- over
//!     all slots of an epoch          this slot          close_before_ms
//! ```
//!
//! All times are arguments, in milliseconds since the Unix epoch. A phase is a function of the slot and the time, so whoever
//! drives a market gives it times that never fall ([`SteadyTime`]), and closes what closed between two of them
//! ([`Calendar::just_in_time_closed`], [`Calendar::ahead_closed`]): then each auction is closed once, whatever the clock did.

mod error;
mod steady;

pub use error::CalendarError;
pub use steady::{ClockJump, SteadyTime};

use std::ops::Range;

use lockstep_primitives::SlotNumber;

use crate::SlotClock;

/// How many slots an epoch that is sold at once has at the most.
pub const MAX_EPOCH_SLOTS: u64 = 4096;

/// How slots are sold ahead of time. Epoch 0 begins with slot 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AheadSale {
    /// How many slots are sold at once: 1 to [`MAX_EPOCH_SLOTS`]. With 1 each slot is sold by itself.
    pub epoch_slots: u64,
    /// How many slots before the first one of an epoch the auction for the epoch closes.
    pub slots_ahead: u64,
    /// How long the auction is open: at least 1, at the most as long as an epoch, so that one is open at a time.
    pub open_ms: u64,
}

/// A stretch of time: from `opens_ms` on, and no longer from `closes_ms` on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SaleWindow {
    /// The first millisecond of it.
    pub opens_ms: u64,
    /// The first millisecond after it.
    pub closes_ms: u64,
}

impl SaleWindow {
    /// Whether the time lies in it.
    pub const fn contains(&self, now_ms: u64) -> bool {
        self.opens_ms <= now_ms && now_ms < self.closes_ms
    }
}

/// When what happens to a slot. Each time is at or after the one before it, and no window is empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SlotTimes {
    /// When its epoch is sold; `None` when it is not sold ahead.
    pub ahead: Option<SaleWindow>,
    /// When it is sold just in time: by its sellers, or where it is sold already by the holder of the right.
    pub just_in_time: SaleWindow,
    /// When it runs.
    pub running: SaleWindow,
}

/// Where a slot stands. Later phases are greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum SlotPhase {
    /// Before its first auction.
    Early,
    /// Its epoch is being sold.
    Ahead,
    /// After the auction of its epoch, and before it is sold just in time. Rights may be resold.
    Between,
    /// It is being sold just in time.
    JustInTime,
    /// All is sold that will be.
    Closed,
    /// It runs.
    Running,
    /// It has passed.
    Over,
}

impl SlotPhase {
    /// What answers and metrics call it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Early => "early",
            Self::Ahead => "ahead",
            Self::Between => "between",
            Self::JustInTime => "just_in_time",
            Self::Closed => "closed",
            Self::Running => "running",
            Self::Over => "over",
        }
    }
}

/// The times of all slots.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Calendar {
    clock: SlotClock,
    just_in_time_ms: u64,
    ahead: Option<AheadSale>,
}

impl Calendar {
    /// A calendar over a clock. The just-in-time auction of a slot closes when the clock says so and is open for
    /// `just_in_time_ms` before. Without `ahead` nothing is sold ahead of time.
    ///
    /// # Errors
    /// When slots have no length, a window is empty or longer than what it is for, or an epoch's auction would close only after
    /// its first slot is being sold just in time.
    pub fn new(clock: SlotClock, just_in_time_ms: u64, ahead: Option<AheadSale>) -> Result<Self, CalendarError> {
        let slot_ms = clock.slot_ms;
        if slot_ms == 0 {
            return Err(CalendarError::NoSlots);
        }
        if just_in_time_ms == 0 || just_in_time_ms > slot_ms {
            return Err(CalendarError::JustInTime { just_in_time_ms, slot_ms });
        }
        if let Some(AheadSale { epoch_slots, slots_ahead, open_ms }) = ahead {
            if epoch_slots == 0 || epoch_slots > MAX_EPOCH_SLOTS {
                return Err(CalendarError::EpochSlots { epoch_slots, limit: MAX_EPOCH_SLOTS });
            }
            let too_long = CalendarError::TooLong { slot_ms, epoch_slots, slots_ahead };
            let epoch_ms = epoch_slots.checked_mul(slot_ms).ok_or(too_long)?;
            let lead_ms = slots_ahead.checked_mul(slot_ms).ok_or(too_long)?;
            if open_ms == 0 || open_ms > epoch_ms {
                return Err(CalendarError::AheadOpen { open_ms, epoch_ms });
            }
            let needed_ms = clock.close_before_ms.saturating_add(just_in_time_ms);
            if lead_ms < needed_ms {
                return Err(CalendarError::AheadTooLate { slots_ahead, lead_ms, needed_ms });
            }
        }
        Ok(Self { clock, just_in_time_ms, ahead })
    }

    /// The clock under the calendar.
    pub const fn clock(&self) -> &SlotClock {
        &self.clock
    }

    /// How slots are sold ahead of time, if they are.
    pub const fn ahead(&self) -> Option<&AheadSale> {
        self.ahead.as_ref()
    }

    /// When what happens to a slot. `None` for a slot that is never sold, because its times lie before 1970 or beyond what 64
    /// bits of milliseconds tell. A slot is not sold ahead where only its epoch's auction would have been before 1970.
    pub fn times(&self, slot: SlotNumber) -> Option<SlotTimes> {
        let start = self.start_ms(slot)?;
        let running = SaleWindow { opens_ms: start, closes_ms: start.checked_add(self.clock.slot_ms)? };
        let just_in_time = window_before(start, self.clock.close_before_ms, self.just_in_time_ms)?;
        let ahead = self.ahead.and_then(|ahead| {
            let first = slot - slot % ahead.epoch_slots;
            window_before(self.start_ms(first)?, self.lead_ms(&ahead), ahead.open_ms)
        });
        Some(SlotTimes { ahead, just_in_time, running })
    }

    /// Where a slot stands; `None` for one that is never sold.
    pub fn phase(&self, slot: SlotNumber, now_ms: u64) -> Option<SlotPhase> {
        let SlotTimes { ahead, just_in_time, running } = self.times(slot)?;
        let steps = [
            (running.closes_ms, SlotPhase::Over),
            (running.opens_ms, SlotPhase::Running),
            (just_in_time.closes_ms, SlotPhase::Closed),
            (just_in_time.opens_ms, SlotPhase::JustInTime),
        ];
        let ahead = ahead.map(|ahead| [(ahead.closes_ms, SlotPhase::Between), (ahead.opens_ms, SlotPhase::Ahead)]);
        let mut steps = steps.into_iter().chain(ahead.into_iter().flatten());
        Some(steps.find(|(from, _)| *from <= now_ms).map_or(SlotPhase::Early, |(_, phase)| phase))
    }

    /// The slot that is being sold just in time. There is at most one.
    pub fn just_in_time_open(&self, now_ms: u64) -> Option<SlotNumber> {
        let ahead_ms = self.clock.close_before_ms.checked_add(self.just_in_time_ms)?;
        // The last slot that starts no later than that; whether its window has closed already is left to look at.
        let slot = self.clock.slot_at(now_ms.checked_add(ahead_ms)?)?;
        self.times(slot).filter(|times| times.just_in_time.contains(now_ms)).map(|_| slot)
    }

    /// The epoch that is being sold ahead of time. There is at most one.
    pub fn ahead_open(&self, now_ms: u64) -> Option<u64> {
        let ahead = self.ahead?;
        let ahead_ms = self.lead_ms(&ahead).checked_add(ahead.open_ms)?;
        let slot = self.clock.slot_at(now_ms.checked_add(ahead_ms)?)?;
        self.times(slot)?.ahead.filter(|window| window.contains(now_ms)).map(|_| slot / ahead.epoch_slots)
    }

    /// How many slots before it starts a slot is sold when its epoch is sold: the later in the epoch, the more. `None` when
    /// nothing is sold ahead.
    pub fn distance(&self, slot: SlotNumber) -> Option<u64> {
        let ahead = self.ahead?;
        ahead.slots_ahead.checked_add(slot % ahead.epoch_slots)
    }

    /// The epoch of a slot; `None` when nothing is sold ahead.
    pub fn epoch_of(&self, slot: SlotNumber) -> Option<u64> {
        Some(slot / self.ahead?.epoch_slots)
    }

    /// The slots of an epoch; `None` when nothing is sold ahead, or there are no such slots.
    pub fn slots_of(&self, epoch: u64) -> Option<Range<SlotNumber>> {
        let epoch_slots = self.ahead?.epoch_slots;
        let first = epoch.checked_mul(epoch_slots)?;
        Some(first..first.checked_add(epoch_slots)?)
    }

    /// The slots whose just-in-time auction closes in (after, until]. Going on from one `until` to the next, each slot comes
    /// once. After a long pause they are many: those that ran meanwhile went to their default proposers.
    pub fn just_in_time_closed(&self, after_ms: u64, until_ms: u64) -> Range<SlotNumber> {
        let closed = |now_ms| self.started(now_ms, self.clock.close_before_ms);
        closed(after_ms)..closed(until_ms.max(after_ms))
    }

    /// The epochs whose auction closes in (after, until]. Going on from one `until` to the next, each epoch comes once.
    pub fn ahead_closed(&self, after_ms: u64, until_ms: u64) -> Range<u64> {
        let Some(ahead) = self.ahead else { return 0..0 };
        let closed = |now_ms| self.started(now_ms, self.lead_ms(&ahead)).div_ceil(ahead.epoch_slots);
        closed(after_ms)..closed(until_ms.max(after_ms))
    }

    /// How many slots start no later than `early_ms` after a time.
    fn started(&self, now_ms: u64, early_ms: u64) -> u64 {
        self.clock.slot_at(now_ms.saturating_add(early_ms)).map_or(0, |slot| slot.saturating_add(1))
    }

    /// When a slot starts; unlike the clock's answer it is none where the clock's would be cut off.
    fn start_ms(&self, slot: SlotNumber) -> Option<u64> {
        self.clock.genesis_ms.checked_add(slot.checked_mul(self.clock.slot_ms)?)
    }

    /// How long before its first slot an epoch's auction closes. That it fits was seen to when the calendar was made.
    const fn lead_ms(&self, ahead: &AheadSale) -> u64 {
        ahead.slots_ahead.saturating_mul(self.clock.slot_ms)
    }
}

/// The window of a length that closes some time before a start.
fn window_before(start_ms: u64, close_before_ms: u64, open_ms: u64) -> Option<SaleWindow> {
    let closes_ms = start_ms.checked_sub(close_before_ms)?;
    Some(SaleWindow { opens_ms: closes_ms.checked_sub(open_ms)?, closes_ms })
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLOCK: SlotClock = SlotClock { genesis_ms: 100_000, slot_ms: 2000, close_before_ms: 300 };
    const EPOCHS: AheadSale = AheadSale { epoch_slots: 4, slots_ahead: 2, open_ms: 5000 };

    fn calendar() -> Calendar {
        Calendar::new(CLOCK, 1000, Some(EPOCHS)).unwrap()
    }

    #[test]
    fn a_slot_goes_through_its_phases() {
        // Slot 9 is in epoch 2, which begins with slot 8 at 116 s and is sold until 4 s before.
        let phase = |now_ms| calendar().phase(9, now_ms).unwrap();
        let expected = [
            (106_999, SlotPhase::Early),
            (107_000, SlotPhase::Ahead),
            (111_999, SlotPhase::Ahead),
            (112_000, SlotPhase::Between),
            (116_699, SlotPhase::Between),
            (116_700, SlotPhase::JustInTime),
            (117_699, SlotPhase::JustInTime),
            (117_700, SlotPhase::Closed),
            (118_000, SlotPhase::Running),
            (120_000, SlotPhase::Over),
        ];
        for (now_ms, phase_then) in expected {
            assert_eq!(phase(now_ms), phase_then, "{now_ms}");
        }
    }

    #[test]
    fn without_a_sale_ahead_a_slot_is_early_until_just_in_time() {
        let calendar = Calendar::new(CLOCK, 1000, None).unwrap();
        assert_eq!(calendar.phase(9, 116_699), Some(SlotPhase::Early));
        assert_eq!(calendar.phase(9, 116_700), Some(SlotPhase::JustInTime));
        assert_eq!((calendar.ahead_open(110_000), calendar.epoch_of(9)), (None, None));
        assert_eq!(calendar.ahead_closed(0, u64::MAX), 0..0);
    }

    #[test]
    fn what_is_open_and_what_has_closed_is_found_by_the_time() {
        let calendar = calendar();
        assert_eq!([106_999, 107_000, 111_999, 112_000].map(|now| calendar.ahead_open(now)), [None, Some(2), Some(2), None]);
        let open = [116_699, 116_700, 117_699, 117_700].map(|now| calendar.just_in_time_open(now));
        assert_eq!(open, [None, Some(9), Some(9), None]);
        assert_eq!(calendar.slots_of(2), Some(8..12));
        assert_eq!([8, 9, 11].map(|slot| calendar.distance(slot)), [Some(2), Some(3), Some(5)]);
        assert_eq!((calendar.ahead_closed(111_999, 112_000), calendar.ahead_closed(112_000, 119_999)), (2..3, 3..3));
        assert_eq!(calendar.just_in_time_closed(117_699, 117_700), 9..10);
        assert_eq!(calendar.just_in_time_closed(117_700, 117_700), 10..10);
        // Slot 0 closes at 99.7 s.
        assert_eq!(calendar.just_in_time_closed(0, 103_700), 0..3);
        // Back in time nothing closes.
        assert!(calendar.just_in_time_closed(117_700, 100_000).is_empty());
    }

    #[test]
    fn the_extremes_do_not_overflow() {
        let calendar = calendar();
        for now_ms in [0, 1, u64::MAX - 1, u64::MAX] {
            assert_eq!((calendar.ahead_open(now_ms), calendar.just_in_time_open(now_ms)), (None, None));
        }
        assert_eq!((calendar.times(u64::MAX), calendar.slots_of(u64::MAX)), (None, None));
        let all = calendar.just_in_time_closed(0, u64::MAX);
        assert!(all.start == 0 && all.end > u64::MAX / 2001);
        // A clock that began in 1970: what would have been sold before is not sold.
        let early = Calendar::new(SlotClock { genesis_ms: 0, ..CLOCK }, 1000, Some(EPOCHS)).unwrap();
        assert_eq!(early.times(0), None);
        assert_eq!(early.times(1).unwrap().ahead, None);
        assert_eq!(early.times(8).unwrap().ahead, Some(SaleWindow { opens_ms: 7000, closes_ms: 12_000 }));
    }

    #[test]
    fn calendars_that_cannot_be_kept_are_refused() {
        let code = |clock, just_in_time_ms, ahead| Calendar::new(clock, just_in_time_ms, Some(ahead)).unwrap_err().code();
        assert_eq!(code(SlotClock { slot_ms: 0, ..CLOCK }, 1000, EPOCHS), "no_slots");
        assert_eq!(code(CLOCK, 0, EPOCHS), "just_in_time_window");
        assert_eq!(code(CLOCK, 2001, EPOCHS), "just_in_time_window");
        assert_eq!(code(CLOCK, 1000, AheadSale { epoch_slots: 0, ..EPOCHS }), "epoch_slots");
        assert_eq!(code(CLOCK, 1000, AheadSale { epoch_slots: MAX_EPOCH_SLOTS + 1, ..EPOCHS }), "epoch_slots");
        assert_eq!(code(CLOCK, 1000, AheadSale { open_ms: 0, ..EPOCHS }), "ahead_window");
        assert_eq!(code(CLOCK, 1000, AheadSale { open_ms: 8001, ..EPOCHS }), "ahead_window");
        assert_eq!(code(CLOCK, 1000, AheadSale { slots_ahead: 0, ..EPOCHS }), "ahead_too_late");
        assert_eq!(code(SlotClock { close_before_ms: 3001, ..CLOCK }, 1000, EPOCHS), "ahead_too_late");
        assert_eq!(code(CLOCK, 1000, AheadSale { slots_ahead: u64::MAX, ..EPOCHS }), "epoch_too_long");
    }
}
