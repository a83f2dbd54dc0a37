//! The one representation of a moment in domain and store.

use chrono::{DateTime, Datelike as _, FixedOffset, NaiveDate, NaiveDateTime, Timelike as _, Utc};
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
        Self::parse_usual(text).or_else(|| Self::parse_any(text.trim()))
    }

    /// `2026-01-02T03:04:05Z`, with or without a fraction, which is how nearly every time comes; several times as fast
    /// as a parser for all forms. Whatever it does not take may still be a time.
    fn parse_usual(text: &str) -> Option<Self> {
        let (head, zone) = text.as_bytes().split_first_chunk::<19>()?;
        let [y1, y2, y3, y4, b'-', mo1, mo2, b'-', d1, d2, b'T', h1, h2, b':', mi1, mi2, b':', s1, s2] = *head else {
            return None;
        };
        let (year, month, day) = (number(&[y1, y2, y3, y4])?, number(&[mo1, mo2])?, number(&[d1, d2])?);
        let (hour, minute, second) = (number(&[h1, h2])?, number(&[mi1, mi2])?, number(&[s1, s2])?);
        let micros = match zone {
            [b'Z'] => 0,
            [b'.', fraction @ .., b'Z'] if !fraction.is_empty() => {
                let (micros, finer) = fraction.split_at(fraction.len().min(6));
                if !finer.iter().all(u8::is_ascii_digit) {
                    return None;
                }
                (micros.len()..6).fold(number(micros)?, |micros, _| micros * 10)
            }
            _ => return None,
        };
        let date = NaiveDate::from_ymd_opt(i32::try_from(year).ok()?, month, day)?;
        // A leap second is left to whoever knows more about it.
        Some(Self(date.and_hms_micro_opt(hour, minute, second, micros)?.and_utc().timestamp_micros()))
    }

    fn parse_any(text: &str) -> Option<Self> {
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

/// A moment as people write it, in UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Civil {
    /// From 0 to 9999.
    pub year: u64,
    /// From 1.
    pub month: u64,
    /// From 1.
    pub day: u64,
    /// From 0, like all that follows.
    pub hour: u64,
    /// Of the hour.
    pub minute: u64,
    /// Of the minute.
    pub second: u64,
    /// Of the second.
    pub micros: u64,
}

/// 0000-01-01T00:00:00Z and 9999-12-31T23:59:59.999999Z: years with four digits, which is all that receivers read.
const FIRST: i64 = -62_167_219_200_000_000;
const LAST: i64 = 253_402_300_799_999_999;

impl From<Timestamp> for Civil {
    /// A moment outside of the years that have four digits becomes the nearest one inside.
    fn from(moment: Timestamp) -> Self {
        let utc = Timestamp(moment.0.clamp(FIRST, LAST)).utc().unwrap_or_default(); // far inside of chrono's years
        Self {
            year: u64::try_from(utc.year()).unwrap_or_default(),
            month: utc.month().into(),
            day: utc.day().into(),
            hour: utc.hour().into(),
            minute: utc.minute().into(),
            second: utc.second().into(),
            micros: utc.timestamp_subsec_micros().into(),
        }
    }
}

/// The value of a few digits; `None` when one of them is none.
fn number(digits: &[u8]) -> Option<u32> {
    digits.iter().try_fold(0, |value, digit| digit.is_ascii_digit().then(|| value * 10 + u32::from(digit - b'0')))
}

/// A duration in microseconds, saturating.
pub fn micros_of(d: Duration) -> i64 {
    i64::try_from(d.as_micros()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

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

    proptest! {
        /// The short way takes nothing that the long way does not, and both find the same.
        #[test]
        fn usual_times_are_read_as_any_other(
            text in r"[0-9]{4}-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-6][0-9]:[0-6][0-9](\.[0-9]{0,12})?Z",
        ) {
            let usual = Timestamp::parse_usual(&text);
            if usual.is_some() {
                prop_assert_eq!(usual, Timestamp::parse_any(&text));
            } else if !text.contains(":60") && !text.contains(".Z") {
                prop_assert_eq!(Timestamp::parse_any(&text), None);
            }
        }

        #[test]
        fn near_misses_are_not_read_otherwise(
            at in FIRST..=LAST, place in 0_usize..27, other in proptest::char::range(' ', '~'),
        ) {
            let mut text: Vec<char> = written(at).chars().collect();
            text[place] = other;
            let text: String = text.into_iter().collect();
            prop_assert_eq!(Timestamp::parse(&text), Timestamp::parse_any(text.trim()), "{}", text);
        }

        #[test]
        fn calendars_agree(at in FIRST..=LAST) {
            let ours = written(at);
            let theirs = Timestamp(at).utc().unwrap().format("%Y-%m-%dT%H:%M:%S%.6fZ").to_string();
            prop_assert_eq!(&ours, &theirs);
            prop_assert_eq!(Timestamp::parse_usual(&ours), Some(Timestamp(at)));
        }
    }

    fn written(at: i64) -> String {
        let Civil { year, month, day, hour, minute, second, micros } = Timestamp(at).into();
        format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{micros:06}Z")
    }

    #[test]
    fn every_day_has_its_date() {
        for day in (FIRST..=LAST).step_by(86_400_000_000) {
            assert_eq!(Timestamp::parse_usual(&written(day)), Some(Timestamp(day)));
        }
        assert_eq!(written(i64::MIN), "0000-01-01T00:00:00.000000Z");
        assert_eq!(written(i64::MAX), "9999-12-31T23:59:59.999999Z");
        assert_eq!(written(0), "1970-01-01T00:00:00.000000Z");
    }

    #[test]
    fn seconds_round_down_before_the_epoch_too() {
        assert_eq!(Timestamp::from_micros(-1).seconds(), -1);
        assert_eq!(Timestamp::from_micros(1_999_999).seconds(), 1);
    }
}
