//! What must hold: ratios of rows of one run, and a few plain limits. Absolute speeds are other machines' business.

use crate::rounds::RowResult;
use serde::Serialize;
use std::fmt;

/// What is looked at.
#[derive(Clone, Copy)]
enum What {
    /// A figure of a row over one of another row, round by round.
    Ratio((&'static str, &'static str), (&'static str, &'static str)),
    /// A figure of a row, the median of the rounds.
    Median(&'static str, &'static str),
    /// The largest of all rounds.
    Largest(&'static str, &'static str),
}

use What::{Largest, Median, Ratio};

#[derive(Clone, Copy)]
enum Limit {
    AtLeast(f64),
    AtMost(f64),
}

use Limit::{AtLeast, AtMost};

struct Goal(&'static str, What, Limit);

const RAW: (&str, &str) = ("raw", "accepted_per_s");
const DELIVER: (&str, &str) = ("deliver", "delivered_per_s");
const ACCEPT: (&str, &str) = ("accept", "accepted_per_s");

const GOALS: &[Goal] = &[
    Goal("verify, parse, map against raw axum", Ratio(("map", "accepted_per_s"), RAW), AtLeast(0.75)),
    Goal("durable accept against raw axum", Ratio(ACCEPT, RAW), AtLeast(0.48)),
    Goal("accept and deliver against raw axum", Ratio(DELIVER, RAW), AtLeast(0.26)),
    Goal(
        "accept and deliver against Node.js that keeps nothing",
        Ratio(DELIVER, ("node", "delivered_per_s")),
        AtLeast(2.0),
    ),
    Goal(
        "accept and deliver against durable Node.js",
        Ratio(DELIVER, ("node-durable", "delivered_per_s")),
        AtLeast(10.0),
    ),
    Goal(
        "durable accept on PostgreSQL against SQLite",
        Ratio(("accept-postgres", "accepted_per_s"), ACCEPT),
        AtLeast(0.60),
    ),
    Goal("peak memory, MiB", Largest("deliver", "peak_mib"), AtMost(64.0)),
    Goal("peak memory with PostgreSQL, MiB", Largest("deliver-postgres", "peak_mib"), AtMost(96.0)),
    Goal(
        "answer at 1,000/s, median, in syncs",
        Ratio(("gateway-1000", "ack_p50_ms"), ("gateway-1000", "disk_p50_ms")),
        AtMost(3.0),
    ),
    Goal(
        "answer at 3,000/s, median, in syncs",
        Ratio(("gateway-3000", "ack_p50_ms"), ("gateway-3000", "disk_p50_ms")),
        AtMost(3.0),
    ),
    Goal(
        "end to end at 1,000/s against the answer, medians",
        Ratio(("gateway-1000", "e2e_p50_ms"), ("gateway-1000", "ack_p50_ms")),
        AtMost(1.3),
    ),
    Goal(
        "end to end at 3,000/s against the answer, medians",
        Ratio(("gateway-3000", "e2e_p50_ms"), ("gateway-3000", "ack_p50_ms")),
        AtMost(1.3),
    ),
    Goal("10,000/s are kept up with", Median("gateway-10000", "kept_up"), AtLeast(1.0)),
    Goal("10,000/s: lost", Largest("gateway-10000", "lost"), AtMost(0.0)),
    Goal("10,000/s: doubled", Largest("gateway-10000", "doubled"), AtMost(0.0)),
    Goal("10,000/s: answer, 99th percentile, ms", Median("gateway-10000", "ack_p99_ms"), AtMost(25.0)),
    Goal(
        "100,000 conversations against 10",
        Ratio(("conversations-100000", "delivered_per_s"), ("conversations-10", "delivered_per_s")),
        AtLeast(0.85),
    ),
    Goal(
        "deliveries to 100 subscribers against one",
        Ratio(("subscribers-100", "deliveries_per_s"), ("subscribers-1", "deliveries_per_s")),
        AtLeast(0.85),
    ),
    Goal(
        "durable accept with 10 million stored against none",
        Ratio(("stored-10M", "accepted_per_s"), ("stored-0", "accepted_per_s")),
        AtLeast(0.95),
    ),
    Goal(
        "the same, 99th percentile of the answer",
        Ratio(("stored-10M", "ack_p99_ms"), ("stored-0", "ack_p99_ms")),
        AtMost(1.3),
    ),
    Goal(
        "durable accept with a million owed against none",
        Ratio(("owed-1M", "accepted_per_s"), ("stored-0", "accepted_per_s")),
        AtLeast(0.90),
    ),
    Goal("the same, peak memory", Ratio(("owed-1M", "peak_mib"), ("stored-0", "peak_mib")), AtMost(1.2)),
    Goal(
        "working off a million owed against little",
        Ratio(("drain-1M", "deliveries_per_s"), ("drain-little", "deliveries_per_s")),
        AtLeast(0.90),
    ),
];

/// Rows that show how far a row can get: with the same parts they do the least of what it does.
const BOUNDS: &[(&str, &str)] = &[
    ("map", "typed"),
    ("accept", "append-sqlite"),
    ("deliver", "append-deliver"),
    ("accept-postgres", "least-postgres"),
];

/// A goal and what was found.
#[derive(Serialize)]
pub(crate) struct Judged {
    pub(crate) goal: &'static str,
    pub(crate) limit: String,
    pub(crate) found: Option<f64>,
    /// `None`: it was not measured.
    pub(crate) met: Option<bool>,
    /// The row that shows how far this can be reached, and what was found of it.
    pub(crate) bound: Option<(&'static str, f64)>,
}

/// Holds every goal of the rows that were asked for against what was found. A row that was asked for and could not be
/// measured is a goal that was not met.
pub(crate) fn judge(rows: &[RowResult]) -> Vec<Judged> {
    let row = |name: &str| rows.iter().find(|row| row.name == name);
    let asked = |Goal(_, what, _): &&Goal| match what {
        Ratio((name, _), (other, _)) => row(name).is_some() && row(other).is_some(),
        Median(name, _) | Largest(name, _) => row(name).is_some(),
    };
    // A row that failed in its third round has figures of two, but they are not to be trusted.
    let measured = |name: &str| row(name).filter(|row| row.not_measured.is_none());
    let judge = |Goal(goal, what, limit): &Goal| {
        let found = match what {
            Ratio((name, figure), (other, others)) => {
                measured(name).zip(measured(other)).and_then(|(mine, its)| mine.ratio(figure, its, others))
            }
            Median(name, figure) => measured(name).and_then(|row| row.median(figure)),
            Largest(name, figure) => measured(name).and_then(|row| row.largest(figure)),
        };
        let met = found.map(|found| match limit {
            AtLeast(limit) => found >= *limit,
            AtMost(limit) => found <= *limit,
        });
        let limit = match limit {
            AtLeast(limit) => format!("at least {limit}"),
            AtMost(limit) => format!("at most {limit}"),
        };
        let bound = match what {
            Ratio((name, figure), (other, others)) => {
                BOUNDS.iter().find(|(bounded, _)| bounded == name).and_then(|bound| {
                    let its = measured(other)?;
                    Some((bound.1, measured(bound.1)?.ratio(figure, its, others)?))
                })
            }
            Median(..) | Largest(..) => None,
        };
        Judged { goal, limit, found, met, bound }
    };
    GOALS.iter().filter(asked).map(judge).collect()
}

impl fmt::Display for Judged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let found = self.found.map_or_else(|| "not measured".to_owned(), |found| format!("{found:.2}"));
        let word = match self.met {
            Some(true) => "met   ",
            Some(false) => "MISSED",
            None => "-     ",
        };
        write!(f, "{word}  {}: {found} ({}", self.goal, self.limit)?;
        if let (Some((row, bound)), Some(found)) = (self.bound, self.found) {
            write!(f, "; {row} {bound:.2}, of which this is {:.2}", found / bound)?;
        }
        write!(f, ")")
    }
}
