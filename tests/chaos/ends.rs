//! Both ends of a scenario, whatever is between them: the provider, the subscribers, and what their ledgers say together.

use crate::beside::Beside;
use crate::node::{DEFAULT_CONCURRENCY, Setting};
use crate::sender::Sender;
use crate::sink::{Act, Program, Sink};
use crate::stage::Report;
use crate::verdict::{self, Allowed};
use anyhow::{Context, Result};
use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;
use tokio::time::Instant;

/// The provider and the subscribers.
pub(crate) struct Ends {
    /// The provider.
    pub(crate) sender: Sender,
    /// The subscribers.
    pub(crate) sinks: Vec<Sink>,
    /// What may show in their ledgers.
    pub(crate) excuses: Excuses,
}

/// Lanes at work for each that may be sent to: the others have their answer, and wait for its record.
const OPEN: usize = 4;

/// What a scenario did that may show, see [`Allowed`].
#[derive(Clone, Debug, Default)]
pub(crate) struct Excuses {
    pub(crate) kills: usize,
    pub(crate) faults: Vec<Duration>,
    pub(crate) at_work: usize,
    pub(crate) unseen: usize,
}

impl Excuses {
    /// None but what a setting brings with it.
    pub(crate) fn new(setting: &Setting) -> Self {
        let concurrency = setting.concurrency.unwrap_or(DEFAULT_CONCURRENCY);
        Self { at_work: concurrency * OPEN, ..Self::default() }
    }
}

/// A subscriber that takes everything at once.
pub(crate) fn willing() -> Program {
    Box::new(|_, _| Act::Answer(200))
}

/// A subscriber that takes everything after a while, so that something is always under way.
pub(crate) fn slow(time: Duration) -> Program {
    Box::new(move |_, _| Act::Delay(time, 200))
}

/// A subscriber that refuses now and then, and takes its time: each answer is chance, but the same in every run.
pub(crate) fn moody(seed: u64) -> Program {
    Box::new(move |delivery, before| {
        let mut hash = DefaultHasher::new();
        (seed, &delivery.id, before).hash(&mut hash);
        let mut random = fastrand::Rng::with_seed(hash.finish());
        match random.u32(..10) {
            0 => Act::Answer(503),
            1..5 => Act::Delay(Duration::from_millis(random.u64(1..20)), 200),
            _ => Act::Answer(200),
        }
    })
}

/// Starts subscribers.
pub(crate) async fn sinks(programs: Vec<(&str, Program)>, began: Instant) -> Result<Vec<Sink>> {
    let mut running = Vec::with_capacity(programs.len());
    for (name, program) in programs {
        running.push(Sink::start(name, began, program).await?);
    }
    Ok(running)
}

impl Ends {
    /// A subscriber.
    pub(crate) fn sink(&self, name: &str) -> Result<&Sink> {
        self.sinks.iter().find(|sink| sink.name() == name).with_context(|| format!("there is no subscriber {name}"))
    }

    /// How many events every subscriber is owed by now: a message each, and a conversation per dialog.
    pub(crate) fn owed(&self) -> usize {
        let requests = self.sender.ledger();
        let taken = || requests.iter().filter(|r| r.answer.is_taken());
        let messages: HashSet<&str> = taken().map(|r| r.payload.as_str()).collect();
        let dialogs: HashSet<&str> = taken().map(|r| r.dialog.as_str()).collect();
        messages.len() + dialogs.len()
    }

    /// The longest time in which nothing was taken from the provider.
    pub(crate) fn longest_silence(&self) -> Duration {
        let mut taken: Vec<Duration> =
            self.sender.ledger().iter().filter(|r| r.answer.is_taken()).map(|r| r.at).collect();
        taken.sort_unstable();
        taken.array_windows().map(|[one, next]| next.saturating_sub(*one)).max().unwrap_or_default()
    }

    /// Waits until every subscriber took everything; says how long it took.
    pub(crate) async fn settle(&self, within: Duration) -> Result<Duration> {
        let began = Instant::now();
        let owed = self.owed();
        for sink in &self.sinks {
            // What does not come is a loss, which the verdict tells in full.
            if let Err(late) = sink.until(owed, within.saturating_sub(began.elapsed())).await {
                anstream::eprintln!("    {late}");
            }
        }
        Ok(began.elapsed())
    }

    /// Something breaks now.
    pub(crate) fn note_fault(&mut self) {
        self.excuses.faults.push(self.sender.elapsed());
    }

    /// A process is killed now, or cannot keep its leases: what it has under way may be sent again.
    pub(crate) fn lose_leases(&mut self) {
        self.excuses.kills += 1;
        self.note_fault();
    }

    /// Compares the ledgers with each other, and with the gateway's own books.
    pub(crate) fn judge(&self, books: &Beside, report: &mut Report) -> Result<()> {
        let requests = self.sender.ledger();
        let deliveries: Vec<_> = self.sinks.iter().flat_map(Sink::ledger).collect();
        let subscribers = self.sinks.iter().map(|sink| sink.name().to_owned()).collect();
        let Excuses { kills, faults, at_work, unseen } = self.excuses.clone();
        let allowed = Allowed { subscribers, kills, faults, at_work, unseen };
        let verdict = verdict::judge(&requests, &deliveries, &allowed);
        report.violations.extend(verdict.violations);
        report.duplicates = verdict.duplicates;
        report.events = books.events()?;
        let listed = books.deliveries()?;
        report.violations.extend(verdict::audit(&requests, &deliveries, &allowed, &listed, &report.events));
        report.fact(format!("{} requests", requests.len()));
        report.fact(format!("{} deliveries", deliveries.len()));
        report.fact(format!("{} duplicates", report.duplicates));
        Ok(())
    }
}
