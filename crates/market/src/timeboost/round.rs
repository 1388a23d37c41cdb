//! The rounds of a Timeboost auction.

use super::RoundTimingError;

const MS_PER_S: i128 = 1000;

/// When rounds begin, and when in a round the bidding for the next one ends. As the auction contract's `RoundTimingInfo`.
///
/// While round r runs, round r + 1 is sold. Times are milliseconds since the Unix epoch where a name ends in `_ms`, else seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RoundTiming {
    offset_s: i64,
    round_s: u64,
    closing_s: u64,
    reserve_submission_s: u64,
}

impl RoundTiming {
    /// Round 0 begins at `offset_s`, which may lie before the Unix epoch; a round lasts `round_s`, its last `closing_s` are
    /// closed to bids, and in the `reserve_submission_s` before those the reserve no longer changes.
    ///
    /// # Errors
    /// Outside what the contract (at most a day) and the clients (10 s, 5 s and 1 s at least, and time left for bidding) accept.
    pub fn new(offset_s: i64, round_s: u64, closing_s: u64, reserve_submission_s: u64) -> Result<Self, RoundTimingError> {
        if round_s < 10 {
            return Err(RoundTimingError::RoundTooShort { round_s });
        }
        if round_s > 86_400 {
            return Err(RoundTimingError::RoundTooLong { round_s });
        }
        if closing_s < 5 {
            return Err(RoundTimingError::ClosingTooShort { closing_s });
        }
        if reserve_submission_s == 0 {
            return Err(RoundTimingError::NoReserveSubmission);
        }
        if closing_s.saturating_add(reserve_submission_s) >= round_s {
            return Err(RoundTimingError::NoTimeToBid { round_s, closing_s, reserve_submission_s });
        }
        Ok(Self { offset_s, round_s, closing_s, reserve_submission_s })
    }

    /// When round 0 begins.
    pub const fn offset_s(&self) -> i64 {
        self.offset_s
    }

    /// How long a round is.
    pub const fn round_s(&self) -> u64 {
        self.round_s
    }

    /// How long before the end of a round the bidding for the next one ends.
    pub const fn closing_s(&self) -> u64 {
        self.closing_s
    }

    /// How long before the end of the bidding the reserve is fixed.
    pub const fn reserve_submission_s(&self) -> u64 {
        self.reserve_submission_s
    }

    /// The round that runs. Before the offset it is round 0, as the contract has it.
    pub fn round_at(&self, now_ms: u64) -> u64 {
        self.progress(now_ms).map_or(0, |(round, _)| round)
    }

    /// The round that is sold: the next one.
    pub fn sold_at(&self, now_ms: u64) -> u64 {
        self.round_at(now_ms).saturating_add(1)
    }

    /// Whether the bidding in the running round has ended. Before the offset it has not.
    pub fn is_closed_at(&self, now_ms: u64) -> bool {
        self.progress(now_ms).is_some_and(|(_, into_s)| into_s >= self.round_s - self.closing_s)
    }

    /// Whether the reserve may not change: from the reserve submission on until the auction is resolved. `resolved` is the last
    /// round whose auction was.
    pub fn is_reserve_fixed_at(&self, now_ms: u64, resolved: Option<u64>) -> bool {
        let Some((round, into_s)) = self.progress(now_ms) else { return false };
        let is_resolved = resolved.is_some_and(|resolved| resolved > round);
        !is_resolved && into_s >= self.round_s - self.closing_s - self.reserve_submission_s
    }

    /// When the bidding for a round ends; `None` where that is before the Unix epoch or does not fit into 64 bits.
    pub fn close_ms(&self, round: u64) -> Option<u64> {
        let close_s = self.start_s(round) - i128::from(self.closing_s);
        u64::try_from(close_s * MS_PER_S).ok()
    }

    /// The first and the last second of a round, as events name them; `None` where one is before the Unix epoch or does not fit.
    pub fn span_s(&self, round: u64) -> Option<(u64, u64)> {
        let start = self.start_s(round);
        let last = start + i128::from(self.round_s) - 1;
        Some((u64::try_from(start).ok()?, u64::try_from(last).ok()?))
    }

    fn start_s(&self, round: u64) -> i128 {
        // 2^64 rounds of at most a day are less than 2^81 seconds.
        i128::from(self.offset_s) + i128::from(round) * i128::from(self.round_s)
    }

    /// The running round, and how many whole seconds of it have passed; `None` before the offset.
    fn progress(&self, now_ms: u64) -> Option<(u64, u64)> {
        let since_ms = i128::from(now_ms) - i128::from(self.offset_s) * MS_PER_S;
        let since_s = u128::try_from(since_ms).ok()? / MS_PER_S.unsigned_abs();
        let round_s = u128::from(self.round_s);
        // Less than 2^64 seconds have passed, so both fit.
        Some((u64::try_from(since_s / round_s).ok()?, u64::try_from(since_s % round_s).ok()?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As on Arbitrum One, but for the offset.
    const TIMING: RoundTiming = RoundTiming { offset_s: 1_000, round_s: 60, closing_s: 15, reserve_submission_s: 15 };

    #[test]
    fn rounds_count_from_the_offset_and_the_next_one_is_sold() {
        assert_eq!([0, 999_999, 1_000_000, 1_059_999, 1_060_000].map(|now| TIMING.round_at(now)), [0, 0, 0, 0, 1]);
        assert_eq!(TIMING.sold_at(1_060_000), 2);
        assert_eq!(TIMING.sold_at(0), 1);
    }

    #[test]
    fn the_bidding_ends_before_the_round_does() {
        let closed = [0, 1_000_000, 1_044_999, 1_045_000, 1_059_999, 1_060_000].map(|now| TIMING.is_closed_at(now));
        assert_eq!(closed, [false, false, false, true, true, false]);
        assert_eq!(TIMING.close_ms(1), Some(1_045_000));
        assert_eq!(TIMING.span_s(1), Some((1_060, 1_119)));
    }

    #[test]
    fn the_reserve_is_fixed_before_the_bidding_ends_and_until_the_auction_is_resolved() {
        let fixed = |now, resolved| TIMING.is_reserve_fixed_at(now, resolved);
        assert!(!fixed(999_000, None) && !fixed(1_029_999, None));
        assert!(fixed(1_030_000, None) && fixed(1_059_999, Some(0)));
        assert!(!fixed(1_050_000, Some(1)));
        assert!(!fixed(1_060_000, None) && fixed(1_090_000, Some(1)));
    }

    #[test]
    fn an_offset_before_the_epoch_counts_rounds_from_there() {
        let timing = RoundTiming { offset_s: -90, ..TIMING };
        assert_eq!((timing.round_at(0), timing.round_at(29_999), timing.round_at(30_000)), (1, 1, 2));
        assert_eq!((timing.span_s(1), timing.span_s(2)), (None, Some((30, 89))));
        assert_eq!((timing.close_ms(1), timing.close_ms(2)), (None, Some(15_000)));
    }

    #[test]
    fn the_extremes_do_not_overflow() {
        for offset_s in [i64::MIN, i64::MAX] {
            let timing = RoundTiming { offset_s, round_s: 86_400, ..TIMING };
            for number in [0, u64::MAX] {
                let _ = (timing.round_at(number), timing.is_closed_at(number), timing.is_reserve_fixed_at(number, Some(number)));
                let _ = (timing.span_s(number), timing.close_ms(number));
            }
            assert_eq!(timing.span_s(u64::MAX), None);
        }
        assert_eq!(RoundTiming { offset_s: i64::MIN, round_s: 10, ..TIMING }.round_at(u64::MAX), 924_181_878_092_848_535);
    }

    #[test]
    fn timings_that_nobody_accepts_are_refused() {
        assert_eq!(RoundTiming::new(1_000, 60, 15, 15), Ok(TIMING));
        let refused = |round, closing, reserve| RoundTiming::new(0, round, closing, reserve).unwrap_err().code();
        assert_eq!(refused(9, 5, 1), "round_too_short");
        assert_eq!(refused(86_401, 5, 1), "round_too_long");
        assert_eq!(refused(60, 4, 1), "closing_too_short");
        assert_eq!(refused(60, 15, 0), "no_reserve_submission");
        assert_eq!(refused(60, 45, 15), "no_time_to_bid");
        assert_eq!(refused(60, u64::MAX, u64::MAX), "no_time_to_bid");
        assert!(RoundTiming::new(0, 60, 45, 14).is_ok());
    }
}
