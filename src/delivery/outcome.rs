//! What an answer means: pure, and the only place that decides it.
//!
//! 2xx is success and nothing else is. Everything else is tried again, because a receiver that answers 404 during
//! its deploy must not lose its events; 410 says that the receiver is gone for good, so its subscriber is disabled
//! and what it is owed stays owed.

use crate::domain::backoff::Backoff;
use crate::domain::time::Timestamp;
use crate::store::lane::Verdict;
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

/// `Retry-After` in either form; nonsense, fractions and moments in the past ask for nothing.
fn retry_after(text: &str, now: Timestamp) -> Option<Duration> {
    let text = text.trim();
    if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
        // More digits than fit are still a number, and a long wait.
        return Some(Duration::from_secs(text.parse().unwrap_or(u64::MAX)));
    }
    let date = chrono::DateTime::parse_from_rfc2822(text).ok()?;
    Some(Timestamp::from_micros(date.timestamp_micros()).since(now))
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
