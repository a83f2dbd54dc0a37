//! What is measured: the rows, in four suites.

use crate::contender::Who;
use crate::measure::{self, Load, Task, Told};
use crate::options::Options;
use crate::rounds::{self, Row, RowResult};
use crate::store::Place;
use std::time::Duration;

const NODE: Who = Who::Node { durable: false };
const NODE_DURABLE: Who = Who::Node { durable: true };

/// Conversations, where nothing else is said.
const CONVERSATIONS: u64 = 1_000;

/// Every suite, in the order in which they run.
pub(crate) const SUITES: &[&str] = &["throughput", "latency", "shape", "growth"];

/// Runs the rows of a suite that are wanted.
pub(crate) fn run(suite: &'static str, options: &Options, place: &Place) -> anyhow::Result<Vec<RowResult>> {
    let (count, tasks) = match suite {
        "throughput" => (5, throughput(options)),
        "latency" => (3, latency(options)),
        "shape" => (3, shape(options)),
        _ => return crate::growth::run(options, place),
    };
    let mut rows = Vec::new();
    for (name, task) in tasks {
        if options.wants(suite, &name) {
            rows.push(Row {
                name,
                missing: task.who.missing(options),
                run: Box::new(move || measure::round(task, place, None)),
            });
        }
    }
    Ok(rounds::run(suite, options.rounds(count), options.noise(), rows))
}

/// The names of a suite's rows.
pub(crate) fn names(suite: &str, options: &Options) -> Vec<String> {
    let tasks = match suite {
        "throughput" => throughput(options),
        "latency" => latency(options),
        "shape" => shape(options),
        _ => return crate::growth::names(options),
    };
    tasks.into_iter().map(|(name, _)| name).collect()
}

fn seconds(options: &Options, full: u64) -> Duration {
    Duration::from_secs(if options.quick { full.div_ceil(3) } else { full })
}

fn throughput(options: &Options) -> Vec<(String, Task)> {
    let load = Load::Closed(seconds(options, 5), usize::MAX);
    let task = |who, sink| Task { who, sink, subscribers: 1, conversations: CONVERSATIONS, load };
    let mut rows = vec![
        ("raw", task(Who::Baseline("raw"), Told::Nobody)),
        ("typed", task(Who::Baseline("typed"), Told::Nobody)),
        ("map", task(Who::Baseline("map"), Told::Nobody)),
        ("render", task(Who::Baseline("render"), Told::Nobody)),
        ("append", task(Who::Baseline("append"), Told::Nobody)),
        ("append-sqlite", task(Who::Baseline("append-sqlite"), Told::Nobody)),
        ("least-postgres", task(Who::Baseline("least-postgres"), Told::Nobody)),
        ("forward", task(Who::Baseline("forward"), Told::Now)),
        ("append-deliver", task(Who::Baseline("append-deliver"), Told::Now)),
        ("accept-nobody", task(Who::Gateway, Told::Nobody)),
        ("accept", task(Who::Gateway, Told::Later)),
        ("deliver", task(Who::Gateway, Told::Now)),
        ("accept-postgres", task(Who::Postgres, Told::Later)),
        ("deliver-postgres", task(Who::Postgres, Told::Now)),
        ("node", task(NODE, Told::Now)),
        ("node-durable", task(NODE_DURABLE, Told::Now)),
    ];
    if options.against.is_some() {
        rows.push(("accept-before", task(Who::Before, Told::Later)));
        rows.push(("deliver-before", task(Who::Before, Told::Now)));
    }
    rows.into_iter().map(|(name, task)| (name.to_owned(), task)).collect()
}

fn latency(options: &Options) -> Vec<(String, Task)> {
    let mut rows = Vec::new();
    for (name, who) in [("gateway", Who::Gateway), ("postgres", Who::Postgres), ("node", NODE)] {
        for rate in [1_000, 3_000, 10_000] {
            // Whoever keeps nothing is measured where the gateway's latency is, not where its limit is.
            if who == NODE && rate == 10_000 {
                continue;
            }
            let time = match (options.quick, rate) {
                (true, _) => 4,
                (false, 10_000) if who == Who::Gateway => 60,
                (false, _) => 10,
            };
            let load = Load::Open(f64::from(rate), Duration::from_secs(time));
            let task = Task { who, sink: Told::Now, subscribers: 1, conversations: CONVERSATIONS, load };
            rows.push((format!("{name}-{rate}"), task));
        }
    }
    rows
}

fn shape(options: &Options) -> Vec<(String, Task)> {
    let mut rows = Vec::new();
    let share = if options.quick { 4 } else { 1 };
    // A limit to the messages: what is owed to one conversation is worked off one by one.
    for (conversations, limit) in [(1, 4_000), (10, 20_000), (CONVERSATIONS, 60_000), (100_000, 60_000)] {
        let load = Load::Closed(seconds(options, 10), limit / share);
        let conversations = if options.quick { conversations.min(20_000) } else { conversations };
        let task = Task { who: Who::Gateway, sink: Told::Now, subscribers: 1, conversations, load };
        rows.push((format!("conversations-{conversations}"), task));
    }
    for (subscribers, limit) in [(1, 60_000), (10, 20_000), (100, 3_000)] {
        let load = Load::Closed(seconds(options, 10), limit / share);
        let task = Task { who: Who::Gateway, sink: Told::Now, subscribers, conversations: CONVERSATIONS, load };
        rows.push((format!("subscribers-{subscribers}"), task));
    }
    rows
}
