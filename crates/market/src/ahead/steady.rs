//! A time that never goes back, from a clock that may.

/// How a clock moved when it did not just go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClockJump {
    /// It went back. Until it has caught up, time stands still, so that what has closed stays closed.
    Back {
        /// By how many milliseconds it is behind the latest time.
        by_ms: u64,
    },
    /// It went ahead by more than usual. The time goes with it: the slots between have passed.
    Ahead {
        /// By how many milliseconds it moved.
        by_ms: u64,
    },
}

/// The latest time that a clock has shown, in milliseconds since the Unix epoch.
///
/// A clock that shows a wrong time far ahead and is then put right makes the time stand still for that long. That nothing is sold
/// meanwhile, and default proposers build, is the safe side; only an operator who starts the market anew can decide otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SteadyTime {
    latest_ms: Option<u64>,
    usual_step_ms: u64,
}

impl SteadyTime {
    /// A time that has not been seen yet. Steps of up to `usual_step_ms` are no jumps.
    pub const fn new(usual_step_ms: u64) -> Self {
        Self { latest_ms: None, usual_step_ms }
    }

    /// Goes on from a time that was stored, so that a restart does not reopen what had closed.
    pub const fn restore(usual_step_ms: u64, latest_ms: u64) -> Self {
        Self { latest_ms: Some(latest_ms), usual_step_ms }
    }

    /// Takes what the clock shows and returns the time that counts, and the jump if there was one. The time that is returned
    /// never falls from call to call.
    pub const fn observe(&mut self, clock_ms: u64) -> (u64, Option<ClockJump>) {
        let Some(latest_ms) = self.latest_ms else {
            self.latest_ms = Some(clock_ms);
            return (clock_ms, None);
        };
        if clock_ms < latest_ms {
            return (latest_ms, Some(ClockJump::Back { by_ms: latest_ms - clock_ms }));
        }
        self.latest_ms = Some(clock_ms);
        let by_ms = clock_ms - latest_ms;
        (clock_ms, if by_ms > self.usual_step_ms { Some(ClockJump::Ahead { by_ms }) } else { None })
    }

    /// The latest time; `None` before the first one.
    pub const fn latest_ms(&self) -> Option<u64> {
        self.latest_ms
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_stands_still_while_the_clock_is_behind() {
        let mut time = SteadyTime::new(100);
        assert_eq!(time.observe(1000), (1000, None));
        assert_eq!(time.observe(1100), (1100, None));
        assert_eq!(time.observe(1050), (1100, Some(ClockJump::Back { by_ms: 50 })));
        assert_eq!(time.observe(1100), (1100, None));
        assert_eq!(time.observe(1201), (1201, Some(ClockJump::Ahead { by_ms: 101 })));
        assert_eq!(time.latest_ms(), Some(1201));
    }

    #[test]
    fn a_restart_goes_on_from_the_latest_time() {
        let mut time = SteadyTime::restore(100, 5000);
        assert_eq!(time.observe(4000), (5000, Some(ClockJump::Back { by_ms: 1000 })));
    }
}
