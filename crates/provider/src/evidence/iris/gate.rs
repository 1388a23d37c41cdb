//! When the service may be asked: within its limit, not while it blocks us, and not right after it failed.

use super::IrisLimits;
use crate::EvidenceError;

/// What one request takes from the bucket, which is counted in thousandths of a request: at n requests a second n of them come
/// back every millisecond.
const REQUEST: u64 = 1_000;
/// Nothing makes the service be left alone for longer than an hour, whatever it asks for.
const MAX_SILENCE_MS: u64 = 60 * 60 * 1_000;
/// Doublings of a backoff that are counted.
const MAX_DOUBLINGS: u32 = 20;

/// Who may pass, by the time.
#[derive(Debug)]
pub(super) struct Gate {
    limits: IrisLimits,
    /// Requests that may be made at once, in thousandths.
    tokens: u64,
    refilled_ms: u64,
    /// Nothing is asked before, because too much was.
    silent_until_ms: u64,
    /// Until when the service is left alone after a failure, and which.
    resting: Option<(u64, String)>,
    /// In a row.
    failures: u32,
}

impl Gate {
    pub(super) const fn new(limits: IrisLimits) -> Self {
        let tokens = limits.burst.saturating_mul(REQUEST);
        Self { limits, tokens, refilled_ms: 0, silent_until_ms: 0, resting: None, failures: 0 }
    }

    /// Lets one request pass.
    ///
    /// # Errors
    /// When there must be none now; says from when on.
    pub(super) fn take(&mut self, now_ms: u64) -> Result<(), EvidenceError> {
        if now_ms < self.silent_until_ms {
            return Err(EvidenceError::RateLimited { until_ms: self.silent_until_ms });
        }
        if let Some((until_ms, cause)) = self.resting.as_ref().filter(|(until_ms, _)| now_ms < *until_ms) {
            let left_ms = until_ms.saturating_sub(now_ms);
            return Err(EvidenceError::Unavailable(format!("{cause}; it is asked again in {left_ms} ms")));
        }
        let rate = self.limits.requests_per_second.max(1);
        let back = now_ms.saturating_sub(self.refilled_ms).saturating_mul(rate);
        self.tokens = self.tokens.saturating_add(back).min(self.limits.burst.saturating_mul(REQUEST));
        // Also when the clock was put back: otherwise nothing would come until it has caught up.
        self.refilled_ms = now_ms;
        if let Some(left) = self.tokens.checked_sub(REQUEST) {
            self.tokens = left;
            return Ok(());
        }
        let wait_ms = REQUEST.saturating_sub(self.tokens).div_ceil(rate);
        Err(EvidenceError::RateLimited { until_ms: now_ms.saturating_add(wait_ms) })
    }

    /// The service answered.
    pub(super) fn answered(&mut self) {
        self.failures = 0;
        self.resting = None;
    }

    /// The service said that it was asked too often. It blocks whoever exceeds its limit for five minutes, and every request in
    /// that time prolongs them.
    pub(super) fn limited(&mut self, now_ms: u64, retry_after_ms: Option<u64>) -> EvidenceError {
        let silence_ms = self.limits.silence_ms.max(retry_after_ms.unwrap_or_default()).min(MAX_SILENCE_MS);
        self.silent_until_ms = self.silent_until_ms.max(now_ms.saturating_add(silence_ms));
        EvidenceError::RateLimited { until_ms: self.silent_until_ms }
    }

    /// The service could not be used. Of requests that were on their way together one counts.
    pub(super) fn failed(&mut self, now_ms: u64, cause: &str) {
        if self.resting.as_ref().is_some_and(|(until_ms, _)| now_ms < *until_ms) {
            return;
        }
        let doubled_ms = self.limits.backoff_ms.saturating_mul(1 << self.failures.min(MAX_DOUBLINGS));
        let rest_ms = doubled_ms.min(self.limits.max_backoff_ms);
        self.failures = self.failures.saturating_add(1);
        self.resting = Some((now_ms.saturating_add(rest_ms), cause.to_owned()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_700_000_000_000;

    fn gate() -> Gate {
        Gate::new(IrisLimits { requests_per_second: 20, burst: 10, ..IrisLimits::default() })
    }

    #[test]
    fn no_second_has_more_requests_than_the_burst_and_the_rate() {
        let mut gate = gate();
        let passed: Vec<u64> = (NOW..NOW + 5_000).filter(|now| gate.take(*now).is_ok()).collect();
        for start in &passed {
            let within = passed.iter().filter(|at| (*start..*start + 1_000).contains(*at)).count();
            assert!(within <= 30, "{within} requests in the second from {start}");
        }
        assert_eq!(passed.len(), 10 + 5 * 20 - 1, "what is allowed is used: the last token of the fifth second is not whole");
    }

    #[test]
    fn who_is_held_back_is_told_from_when_on_it_goes() {
        let mut gate = gate();
        while gate.take(NOW).is_ok() {}
        let Err(EvidenceError::RateLimited { until_ms }) = gate.take(NOW) else { panic!("the burst has no end") };
        assert_eq!(until_ms, NOW + 50);
        assert!(gate.take(until_ms - 1).is_err());
        assert_eq!(gate.take(until_ms), Ok(()));
    }

    #[test]
    fn after_too_many_requests_there_are_none_for_five_minutes() {
        let mut gate = gate();
        let until_ms = NOW + 5 * 60 * 1_000;
        let limited = EvidenceError::RateLimited { until_ms };
        assert_eq!(gate.limited(NOW, Some(1_000)), limited);
        // An answer that was on its way does not end it.
        gate.answered();
        assert_eq!(gate.take(until_ms - 1), Err(limited));
        assert_eq!(gate.take(until_ms), Ok(()));
        let day_ms = 24 * 60 * 60 * 1_000;
        assert_eq!(gate.limited(NOW, Some(day_ms)), EvidenceError::RateLimited { until_ms: NOW + MAX_SILENCE_MS });
    }

    #[test]
    fn failures_double_the_rest_up_to_its_bound_and_an_answer_ends_it() {
        let limits = IrisLimits { backoff_ms: 1_000, max_backoff_ms: 5_000, ..IrisLimits::default() };
        let (mut gate, mut now) = (Gate::new(limits), NOW);
        for rest_ms in [1_000, 2_000, 4_000, 5_000, 5_000] {
            gate.failed(now, "down");
            gate.failed(now, "down as well");
            let Err(EvidenceError::Unavailable(cause)) = gate.take(now + rest_ms - 1) else { panic!("no rest of {rest_ms} ms") };
            assert!(cause.starts_with("down;"), "{cause}");
            now += rest_ms;
            assert_eq!(gate.take(now), Ok(()));
        }
        gate.answered();
        gate.failed(now, "down");
        assert_eq!(gate.take(now + 1_000), Ok(()));
    }

    #[test]
    fn a_clock_that_is_put_back_does_not_close_the_gate() {
        let mut gate = gate();
        while gate.take(NOW).is_ok() {}
        assert!(gate.take(NOW - 1_000_000).is_err());
        assert_eq!(gate.take(NOW - 1_000_000 + 50), Ok(()));
    }
}
