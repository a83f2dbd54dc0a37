//! One round of one contender: start it, let it warm up, load it, wait for the sink, and look at what it took.

use crate::contender::{Plan, Running, Who};
use crate::load::{self, Outcome};
use crate::machine::{self, Usage};
use crate::payload::Talk;
use crate::rounds::{Figures, Measured, quantile};
use crate::sink::Sink;
use crate::store::Place;
use anyhow::{Result, ensure};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// Messages before the clock starts, beside the first of each conversation: caches, pools and compilers get warm.
const WARM: usize = 20_000;
const WARM_TIME: Duration = Duration::from_secs(1);

/// A sink that gets nothing for so long has got everything it will get.
const PATIENCE: Duration = Duration::from_secs(20);

/// More requests than this are not prepared at once: they take 1.4 KiB each.
const MOST: usize = 1_000_000;

/// What is done to a contender.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Task {
    /// Who.
    pub(crate) who: Who,
    /// What the subscribers do.
    pub(crate) sink: Told,
    /// How many of them there are.
    pub(crate) subscribers: usize,
    /// How many people write.
    pub(crate) conversations: u64,
    /// How the load comes.
    pub(crate) load: Load,
}

/// What becomes of what subscribers are owed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Told {
    /// There is nobody, or nothing is owed to them.
    Nobody,
    /// It is kept: they said that they want nothing now.
    Later,
    /// They take it, and the round ends when they have all of it.
    Now,
}

/// How a load comes.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Load {
    /// The next request when the answer is there, for a time, or until so many were sent.
    Closed(Duration, usize),
    /// So many a second, for a time.
    Open(f64, Duration),
}

/// One round. With a store that is `kept` it goes on with what that holds; otherwise it begins with nothing.
pub(crate) fn round(task: Task, place: &Place, kept: Option<&Path>) -> Result<Measured> {
    let fresh = place.fresh(task.who)?;
    let folder = kept.unwrap_or(fresh.folder());
    let people = Talk::new(task.conversations);
    let first = usize::try_from(task.conversations)?;
    let subscribers = if task.sink == Told::Nobody { 0 } else { task.subscribers };
    let messages = first + WARM + most(task.load);
    let sink = Sink::start(subscribers.max(1), messages, task.sink == Told::Later)?;
    let plan = Plan {
        who: task.who,
        before: place.before.as_deref(),
        folder,
        store: fresh.url(),
        subscribers,
        sink: sink.port,
    };
    let running = plan.start()?;
    let delivers = if task.sink == Told::Now { subscribers as u64 } else { 0 };

    let opening = load::closed(running.port, people.requests(0, first)?.into(), PATIENCE)?;
    let extra = if task.subscribers > 10 { WARM / 20 } else { WARM };
    let warmed = load::closed(running.port, people.requests(first as u64, extra)?.into(), WARM_TIME)?;
    ensure!(opening.refused + warmed.refused == 0, "the contender refuses webhooks while it warms up");
    let before = (opening.taken + warmed.taken) as u64 * delivers;
    sink.until(before, PATIENCE)?;

    let start = first + WARM;
    let expected = match task.load {
        Load::Closed(time, limit) => ((warmed.rate() * 2.5 * time.as_secs_f64()) as usize + 5_000).min(limit),
        Load::Open(rate, time) => (rate * time.as_secs_f64()) as usize,
    };
    let requests = Arc::new(people.requests(start as u64, expected.min(MOST))?);
    let mut figures = Figures::new();
    if matches!(task.load, Load::Open(..)) {
        let (median, high) = machine::disk(folder)?;
        figures.insert("disk_p50_ms", median);
        figures.insert("disk_p99_ms", high);
    }

    let ours = || task.who.helpers().into_iter().chain([running.process()]).collect::<Vec<_>>();
    let usage = Usage::now(&ours())?;
    let cpu = machine::of_process(running.process())?;
    let written = machine::written(running.process())?;
    let mut outcome = match task.load {
        Load::Closed(time, _) => load::closed(running.port, requests, time)?,
        Load::Open(rate, _) => load::open(running.port, &requests, rate)?,
    };
    let there = sink.taken().saturating_sub(before);
    let owed = outcome.taken as u64 * delivers;
    let lost = sink.until(before + owed, PATIENCE).is_err();
    let usage = (usage, Usage::now(&ours())?);
    sink.check()?;

    accepted(&mut figures, &mut outcome);
    figures.insert("cpu_us", (machine::of_process(running.process())? - cpu) * 1e6 / outcome.taken as f64);
    let written = machine::written(running.process())? - written;
    figures.insert("disk_kib", written / 1024.0 / outcome.taken as f64);
    figures.insert("peak_mib", machine::peak_memory(running.process())?);
    if delivers > 0 {
        // A contender that forwards before it answers has delivered everything with the last answer, or before.
        let took = sink.latest().duration_since(outcome.began).max(outcome.took);
        figures.insert("delivered_per_s", outcome.taken as f64 / took.as_secs_f64());
        figures.insert("deliveries_per_s", owed as f64 / took.as_secs_f64());
        figures.insert("backlog", (owed.saturating_sub(there)) as f64 / delivers as f64);
        figures.insert("lost", if lost { (before + owed).saturating_sub(sink.taken()) as f64 } else { 0.0 });
        figures.insert("doubled", sink.doubled() as f64);
    }
    if let Load::Open(rate, time) = task.load {
        figures.insert("kept_up", f64::from(u8::from(outcome.took < time + Duration::from_millis(500))));
        let mut late: Vec<u32> = (0..expected)
            .filter_map(|index| {
                let at = sink.arrival(start + index)?;
                Some(load::micros(at.saturating_duration_since(load::due(outcome.began, index, rate))))
            })
            .collect();
        for (name, q) in [("e2e_p50_ms", 0.5), ("e2e_p99_ms", 0.99), ("e2e_p999_ms", 0.999)] {
            figures.insert(name, quantile(&mut late, q));
        }
    }
    end(running, kept.is_some())?;
    Ok(Measured { figures, usage })
}

fn most(load: Load) -> usize {
    match load {
        Load::Closed(_, limit) => limit.min(MOST),
        Load::Open(rate, time) => (rate * time.as_secs_f64()) as usize,
    }
}

fn accepted(figures: &mut Figures, outcome: &mut Outcome) {
    figures.insert("accepted_per_s", outcome.rate());
    figures.insert("refused", outcome.refused as f64);
    for (name, q) in [("ack_p50_ms", 0.5), ("ack_p99_ms", 0.99), ("ack_p999_ms", 0.999)] {
        figures.insert(name, quantile(&mut outcome.latencies, q));
    }
}

/// Deliveries after which a round of working off is over.
const DRAINED: u64 = 40_000;

/// How fast the gateway works off what a store owes to a subscriber that is back: claims, attempts, records.
pub(crate) fn drain(place: &Place, kept: &Path, time: Duration) -> Result<Measured> {
    let sink = Sink::start(1, 1, false)?;
    let fresh = place.fresh(Who::Gateway)?;
    let plan =
        Plan { who: Who::Gateway, before: None, folder: kept, store: fresh.url(), subscribers: 1, sink: sink.port };
    let running = plan.start()?;
    machine::wait("the first delivery", PATIENCE, || Ok(sink.deliveries() > 500))?;
    let usage = Usage::now(&[running.process()])?;
    let (began, there) = (Instant::now(), sink.deliveries());
    // By number, not by time: a round must leave something for the next ones.
    machine::wait("the deliveries of a round", PATIENCE, || {
        Ok(sink.deliveries() - there >= DRAINED || began.elapsed() >= time)
    })?;
    let (took, more) = (began.elapsed(), sink.deliveries() - there);
    let usage = (usage, Usage::now(&[running.process()])?);
    let mut figures = Figures::new();
    figures.insert("deliveries_per_s", more as f64 / took.as_secs_f64());
    figures.insert("peak_mib", machine::peak_memory(running.process())?);
    end(running, true)?;
    Ok(Measured { figures, usage })
}

fn end(running: Running, in_order: bool) -> Result<()> {
    if in_order {
        running.end()?;
    }
    Ok(())
}
