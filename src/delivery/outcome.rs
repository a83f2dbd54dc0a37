//! What an answer means: pure, and the only place that decides it.
//!
//! 2xx is success and nothing else is. Everything else is tried again, because a receiver that answers 404 during
//! its deploy must not lose its events; 410 says that the receiver is gone for good, so its subscriber is disabled
//! and what it is owed stays owed.

use crate::domain::backoff::Backoff;
use crate::domain::time::Timestamp;
use crate::store::lane::Verdict;
use chrono::{DateTime, Datelike as _, Months, NaiveDateTime, Utc, Weekday};
use std::time::Duration;

/// What came back from an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// An HTTP answer.
    Status {
        /// Its status.
        status: u16,
        /// Its `Retry-After`, as sent.
        retry_after: Option<String>,
    },
    /// None.
    Fault(Fault),
}

/// Why no answer came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The whole attempt took longer than it may.
    Deadline,
    /// The receiver's address is not one we may speak to.
    Forbidden,
    /// The name has no address.
    Unresolved,
    /// No connection.
    Connect,
    /// No secure connection.
    Tls,
    /// The connection broke, or what came was no HTTP.
    Broken,
}

impl Fault {
    /// The words under which it is recorded.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Deadline => "deadline exceeded",
            Self::Forbidden => "address not allowed",
            Self::Unresolved => "name not resolved",
            Self::Connect => "connection failed",
            Self::Tls => "tls failed",
            Self::Broken => "connection broken",
        }
    }
}

/// What follows from an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// For the delivery.
    pub verdict: Verdict,
    /// The status, if one came.
    pub status: Option<u16>,
    /// In a few words.
    pub reason: &'static str,
    /// Whether the subscriber wants nothing ever again.
    pub gone: bool,
}

/// What is known of the delivery when its attempt ends.
#[derive(Clone, Copy, Debug)]
pub struct Situation {
    /// Failures before this attempt.
    pub failures: u32,
    /// The first attempt, this one included.
    pub first_attempt: Timestamp,
    /// The end of this attempt.
    pub now: Timestamp,
    /// A number in 0..1.
    pub jitter: f64,
}

/// Judges `answer`.
pub fn judge(answer: &Answer, situation: Situation, backoff: &Backoff) -> Outcome {
    let (status, reason) = match answer {
        Answer::Status { status, .. } => (Some(*status), class(*status)),
        Answer::Fault(fault) => (None, fault.as_str()),
    };
    if matches!(status, Some(200..=299)) {
        return Outcome { verdict: Verdict::Delivered, status, reason, gone: false };
    }
    let floor = match answer {
        Answer::Status { retry_after: Some(text), .. } => retry_after(text, situation.now),
        _ => None,
    };
    let next = backoff.next(
        situation.failures.saturating_add(1),
        situation.first_attempt,
        situation.now,
        floor,
        situation.jitter,
    );
    let verdict = next.map_or(Verdict::Dead, |due| Verdict::Retry { due });
    Outcome { verdict, status, reason, gone: status == Some(410) }
}

const fn class(status: u16) -> &'static str {
    match status {
        200..=299 => "delivered",
        300..=399 => "redirect refused",
        408 => "request timeout",
        410 => "gone",
        425 => "too early",
        429 => "too many requests",
        400..=499 => "client error",
        500..=599 => "server error",
        _ => "odd status",
    }
}

/// `Retry-After` in every form that HTTP has; nonsense, fractions and moments in the past ask for nothing.
fn retry_after(text: &str, now: Timestamp) -> Option<Duration> {
    let text = text.trim();
    if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
        // More digits than fit are still a number, and a long wait.
        return Some(Duration::from_secs(text.parse().unwrap_or(u64::MAX)));
    }
    let usual = DateTime::parse_from_rfc2822(text).ok().map(|date| date.to_utc());
    let date = usual.or_else(|| of_rfc850(text, now)).or_else(|| of_asctime(text))?;
    Some(Timestamp::from_micros(date.timestamp_micros()).since(now))
}

/// `Sunday, 06-Nov-94 08:49:37 GMT`. A year of two digits is the latest of its kind that is not more than fifty years
/// ahead.
fn of_rfc850(text: &str, now: Timestamp) -> Option<DateTime<Utc>> {
    let (weekday, date) = text.split_once(", ")?;
    weekday.parse::<Weekday>().ok()?;
    let date = NaiveDateTime::parse_from_str(date, "%d-%b-%y %H:%M:%S GMT").ok()?;
    let now = now.utc()?.naive_utc();
    let century = now.year() - now.year().rem_euclid(100);
    let years = [100, 0, -100].map(|away| century + away + date.year().rem_euclid(100));
    let dates = years.into_iter().filter_map(|year| date.with_year(year));
    let near = |date: &NaiveDateTime| date.checked_sub_months(Months::new(50 * 12)).is_some_and(|back| back <= now);
    dates.filter(near).max().map(|date| date.and_utc())
}

/// `Sun Nov  6 08:49:37 1994`.
fn of_asctime(text: &str) -> Option<DateTime<Utc>> {
    NaiveDateTime::parse_from_str(text, "%a %b %e %H:%M:%S %Y").ok().map(|date| date.and_utc())
}

#[cfg(test)]
mod tests {
    use super::*;

    const BACKOFF: Backoff = Backoff {
        first: Duration::from_secs(1),
        max: Duration::from_hours(1),
        give_up_after: Duration::from_hours(72),
    };
    const NOW: Timestamp = Timestamp::from_micros(1_767_225_600_000_000); // 2026-01-01T00:00:00Z

    fn answered(status: u16, retry_after: Option<&str>) -> Outcome {
        let answer = Answer::Status { status, retry_after: retry_after.map(str::to_owned) };
        judge(&answer, Situation { failures: 0, first_attempt: NOW, now: NOW, jitter: 0.0 }, &BACKOFF)
    }

    fn wait(outcome: &Outcome) -> Option<u64> {
        match outcome.verdict {
            Verdict::Retry { due } => Some(due.since(NOW).as_secs()),
            _ => None,
        }
    }

    #[test]
    fn only_2xx_is_success_and_only_410_disables() {
        for status in 100..=599 {
            let outcome = answered(status, None);
            assert_eq!(outcome.verdict == Verdict::Delivered, (200..300).contains(&status), "{status}");
            assert_eq!(outcome.gone, status == 410, "{status}");
            assert_eq!(outcome.status, Some(status));
        }
    }

    #[test]
    fn every_form_of_retry_after() {
        for (text, seconds) in [
            ("0", 1),
            ("600", 600),
            (" 600 ", 600),
            ("1000000000000", 86400),
            ("99999999999999999999999999", 86400),
            ("-5", 1),
            ("1.5", 1),
            ("soon", 1),
            ("", 1),
            ("Thu, 01 Jan 2026 00:10:00 GMT", 600),
            ("Wed, 31 Dec 2025 23:00:00 GMT", 1),
            ("Thursday, 01-Jan-26 00:10:00 GMT", 600),
            ("Wednesday, 31-Dec-25 23:00:00 GMT", 1),
            ("Thu Jan  1 00:10:00 2026", 600),
            ("Wed Dec 31 23:00:00 2025", 1),
            // Half a century ahead is still ahead, and a day more is a century ago.
            ("Wednesday, 01-Jan-76 00:00:00 GMT", 86400),
            ("Thursday, 02-Jan-76 00:00:00 GMT", 1),
            ("Friday, 01-Jan-99 00:00:00 GMT", 1),
            ("Someday, 01-Jan-26 00:10:00 GMT", 1),
            ("Thursday, 29-Feb-27 00:10:00 GMT", 1),
            ("Thu Jan  1 00:10:00", 1),
        ] {
            for status in [429, 503, 500] {
                assert_eq!(wait(&answered(status, Some(text))), Some(seconds), "{text:?} on {status}");
            }
        }
        assert_eq!(answered(200, Some("600")).verdict, Verdict::Delivered);
    }

    #[test]
    fn faults_are_tried_again_until_the_time_is_up() {
        let end = NOW.plus(BACKOFF.give_up_after);
        for fault in [Fault::Deadline, Fault::Forbidden, Fault::Unresolved, Fault::Connect, Fault::Tls, Fault::Broken] {
            let judge_at = |now| {
                let situation = Situation { failures: 3, first_attempt: NOW, now, jitter: 0.0 };
                judge(&Answer::Fault(fault), situation, &BACKOFF)
            };
            assert_eq!(wait(&judge_at(NOW)), Some(8));
            assert_eq!(judge_at(end).verdict, Verdict::Dead);
            assert_eq!(judge_at(end).reason, fault.as_str());
        }
    }
}
