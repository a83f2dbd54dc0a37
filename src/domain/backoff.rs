//! When to try again.

use super::time::Timestamp;
use std::time::Duration;

/// `Retry-After` is obeyed up to here: a receiver may slow us down, not park an event for ever.
pub const LONGEST_RETRY_AFTER: Duration = Duration::from_hours(24);

/// Delays doubling from `first` to `max`, for `give_up_after` from the first attempt on.
#[derive(Clone, Copy, Debug)]
pub struct Backoff {
    /// Delay after the first failure.
    pub first: Duration,
    /// Longest delay.
    pub max: Duration,
    /// How long an event is tried at all.
    pub give_up_after: Duration,
}

impl Backoff {
    /// When to try again after the `failures`-th failure (from 1) at `now`; `None` means give up.
    ///
    /// `jitter` in 0..1 stretches the delay by up to a quarter, never shortens it. `retry_after` is a floor. The
    /// last attempt is made when the time is up, not before: a delay that would pass the end is cut to it.
    pub fn next(
        &self,
        failures: u32,
        first_attempt: Timestamp,
        now: Timestamp,
        retry_after: Option<Duration>,
        jitter: f64,
    ) -> Option<Timestamp> {
        let end = first_attempt.plus(self.give_up_after);
        if now >= end {
            return None;
        }
        let doubled = self.first.saturating_mul(2u32.saturating_pow(failures.saturating_sub(1).min(31)));
        let delay = doubled.min(self.max).mul_f64(1.0 + 0.25 * jitter.clamp(0.0, 1.0));
        let floor = retry_after.unwrap_or_default().min(LONGEST_RETRY_AFTER);
        Some(now.plus(delay.max(floor)).min(end.max(now.plus(floor))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BACKOFF: Backoff = Backoff {
        first: Duration::from_secs(1),
        max: Duration::from_hours(1),
        give_up_after: Duration::from_hours(72),
    };
    const T0: Timestamp = Timestamp::EPOCH;

    fn delay(failures: u32, retry_after: Option<u64>, jitter: f64) -> f64 {
        let due = BACKOFF.next(failures, T0, T0, retry_after.map(Duration::from_secs), jitter);
        due.map_or(-1.0, |due| due.since(T0).as_secs_f64())
    }

    #[test]
    fn delays_double_to_the_longest_and_jitter_only_stretches() {
        for (failures, seconds) in [(1, 1.0), (2, 2.0), (3, 4.0), (12, 2048.0), (13, 3600.0), (4_000_000, 3600.0)] {
            assert!((delay(failures, None, 0.0) - seconds).abs() < 1e-6);
            assert!((delay(failures, None, 1.0) - seconds * 1.25).abs() < 1e-6);
        }
    }

    #[test]
    fn retry_after_is_a_floor_with_a_ceiling() {
        assert!((delay(1, Some(600), 0.0) - 600.0).abs() < 1e-6);
        assert!((delay(13, Some(600), 0.0) - 3600.0).abs() < 1e-6);
        assert!((delay(1, Some(u64::MAX), 0.0) - 86400.0).abs() < 1e-6);
    }

    #[test]
    fn the_last_attempt_is_at_the_end_and_then_it_is_over() {
        let end = T0.plus(BACKOFF.give_up_after);
        let late = end.minus(Duration::from_secs(5));
        assert_eq!(BACKOFF.next(90, T0, late, None, 0.5), Some(end));
        assert_eq!(BACKOFF.next(91, T0, end, None, 0.5), None);
    }

    #[test]
    fn the_whole_schedule_lasts_three_days() {
        let (mut now, mut failures) = (T0, 0);
        while let Some(due) = BACKOFF.next(failures + 1, T0, now, None, 0.0) {
            failures += 1;
            now = due;
        }
        assert_eq!(now.since(T0), BACKOFF.give_up_after);
        assert!((80..95).contains(&failures), "{failures} attempts");
    }
}
