//! Whether so much is written that it pays to wait for more before a transaction begins.
//!
//! A transaction costs about the same whether it carries one record or twenty. Where writes come in faster than transactions
//! are worth, a short wait makes fewer of them; where they do not, nobody waits.

use std::time::{Duration, Instant};

use crate::Limits;

/// How many writes came in of late.
#[derive(Debug)]
pub(crate) struct Pace {
    linger: Duration,
    linger_from: usize,
    since: Instant,
    writes: usize,
    busy: bool,
}

impl Pace {
    pub(crate) const fn new(limits: &Limits, now: Instant) -> Self {
        Self { linger: limits.linger, linger_from: limits.linger_from, since: now, writes: 0, busy: false }
    }

    /// How long to wait for more, now that the first write of a transaction is there. It goes by the writes since the last time
    /// that it was judged, and it is judged anew once that is as long ago as the wait takes.
    pub(crate) fn wait(&mut self, now: Instant) -> Option<Duration> {
        let elapsed = now.saturating_duration_since(self.since);
        if elapsed >= self.linger {
            let came = self.linger.as_nanos().saturating_mul(self.writes as u128);
            self.busy = came >= elapsed.as_nanos().saturating_mul(self.linger_from as u128);
            self.since = now;
            self.writes = 0;
        }
        (self.busy && !self.linger.is_zero()).then_some(self.linger)
    }

    /// So many writes go into a transaction.
    pub(crate) const fn count(&mut self, writes: usize) {
        self.writes = self.writes.saturating_add(writes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn pace(now: Instant) -> Pace {
        Pace::new(&Limits { linger: MS, linger_from: 4, ..Limits::default() }, now)
    }

    #[test]
    fn who_writes_one_after_the_other_never_waits() {
        let mut now = Instant::now();
        let mut pace = pace(now);
        for _ in 0..100 {
            assert_eq!(pace.wait(now), None);
            pace.count(1);
            now += MS / 3;
        }
    }

    #[test]
    fn many_writes_in_a_short_time_share_transactions_until_they_become_fewer() {
        let start = Instant::now();
        let mut pace = pace(start);
        assert_eq!(pace.wait(start), None, "nothing is known yet");
        pace.count(8);
        assert_eq!(pace.wait(start + MS), Some(MS), "eight in a millisecond");
        pace.count(8);
        assert_eq!(pace.wait(start + 2 * MS), Some(MS));
        pace.count(8);
        // Eight in four milliseconds are too few.
        assert_eq!(pace.wait(start + 6 * MS), None);
    }

    #[test]
    fn after_a_pause_the_first_write_waits_for_nobody() {
        let start = Instant::now();
        let mut pace = pace(start);
        pace.count(1_000);
        assert_eq!(pace.wait(start + MS), Some(MS));
        pace.count(1_000);
        assert_eq!(pace.wait(start + 10_000 * MS), None);
    }

    #[test]
    fn a_store_that_is_told_not_to_wait_does_not() {
        let now = Instant::now();
        let mut pace = Pace::new(&Limits { linger: Duration::ZERO, ..Limits::default() }, now);
        pace.count(1_000_000);
        assert_eq!(pace.wait(now), None);
    }
}
