//! The one representation of a moment in domain and store.

use chrono::{DateTime, FixedOffset, NaiveDateTime, Utc};
use std::time::Duration;

/// Where the edges get the time from: the system's clock in the program, a hand-moved one in tests.
pub type Clock = std::sync::Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// A moment in UTC, in microseconds since the Unix epoch; finer fractions are truncated, never rounded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

impl Timestamp {
    /// 1970-01-01T00:00:00Z, which also stands for an event time that the provider did not give.
    pub const EPOCH: Self = Self(0);

    /// From microseconds since the Unix epoch.
    pub const fn from_micros(micros: i64) -> Self {
        Self(micros)
    }

    /// From milliseconds since the Unix epoch, saturating at the ends of the range.
    pub const fn from_millis(millis: i64) -> Self {
        Self(millis.saturating_mul(1000))
    }

    /// Microseconds since the Unix epoch.
    pub const fn micros(self) -> i64 {
        self.0
    }

    /// Whole seconds since the Unix epoch, rounded down.
    pub const fn seconds(self) -> i64 {
        self.0.div_euclid(1_000_000)
    }

    /// This moment plus `d`, saturating.
    #[must_use]
    pub fn plus(self, d: Duration) -> Self {
        Self(self.0.saturating_add(micros_of(d)))
    }

    /// This moment minus `d`, saturating.
    #[must_use]
    pub fn minus(self, d: Duration) -> Self {
        Self(self.0.saturating_sub(micros_of(d)))
    }

    /// How long after `earlier` this is; zero when it is not after.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }

    /// As a calendar time; `None` outside the years that `chrono` can hold.
    pub fn utc(self) -> Option<DateTime<Utc>> {
        DateTime::from_timestamp_micros(self.0)
    }

    /// Reads RFC 3339 with a fraction of any length and any offset, and the near misses that real senders
    /// produce: a space instead of `T`, an offset without a colon, no offset at all (taken as UTC).
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let moment: DateTime<FixedOffset> = DateTime::parse_from_rfc3339(text)
            .or_else(|_| DateTime::parse_from_str(text, "%Y-%m-%dT%H:%M:%S%.f%#z"))
            .or_else(|_| DateTime::parse_from_str(text, "%Y-%m-%d %H:%M:%S%.f%#z"))
            .or_else(|_| {
                NaiveDateTime::parse_from_str(text, "%Y-%m-%dT%H:%M:%S%.f")
                    .or_else(|_| NaiveDateTime::parse_from_str(text, "%Y-%m-%d %H:%M:%S%.f"))
                    .map(|naive| naive.and_utc().fixed_offset())
            })
            .ok()?;
        Some(Self(moment.timestamp_micros()))
    }
}

/// A duration in microseconds, saturating.
pub fn micros_of(d: Duration) -> i64 {
    i64::try_from(d.as_micros()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fractions_of_any_length_are_truncated_and_offsets_applied() {
        let whole = 1_721_980_147_000_000;
        for (text, micros) in [
            ("2024-07-26T07:49:07Z", whole),
            ("2024-07-26T07:49:07.5Z", whole + 500_000),
            ("2024-07-26T07:49:07.588Z", whole + 588_000),
            ("2024-07-26T07:49:07.5889999Z", whole + 588_999),
            ("2024-07-26T07:49:07.588999999999999Z", whole + 588_999),
            ("2024-07-26T09:49:07.588+02:00", whole + 588_000),
            ("2024-07-26T02:19:07.588-05:30", whole + 588_000),
            ("2024-07-26T09:49:07.588+0200", whole + 588_000),
            ("2024-07-26 07:49:07.588Z", whole + 588_000),
            ("2024-07-26T07:49:07.588", whole + 588_000),
            ("2024-07-26t07:49:07z", whole),
        ] {
            assert_eq!(Timestamp::parse(text).map(Timestamp::micros), Some(micros), "{text}");
        }
        for text in ["", "yesterday", "1721980147", "2024-13-01T00:00:00Z", "2024-07-26"] {
            assert_eq!(Timestamp::parse(text), None, "{text}");
        }
    }

    #[test]
    fn seconds_round_down_before_the_epoch_too() {
        assert_eq!(Timestamp::from_micros(-1).seconds(), -1);
        assert_eq!(Timestamp::from_micros(1_999_999).seconds(), 1);
    }
}
