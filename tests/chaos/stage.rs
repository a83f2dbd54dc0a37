//! What every scenario has: a folder, a gateway, subscribers, a provider; and the same end, in which everything is
//! stopped in good order, counted, and judged.

use crate::ends::{self, Ends, Excuses};
pub(crate) use crate::ends::{moody, slow, willing};
pub(crate) use crate::node::Setting;
use crate::node::{Node, Plan};
use crate::sender::{Load, Sender};
use crate::sink::{Program, Sink};
use crate::verdict::{Invariant, ListedEvent, Violation};
use anyhow::{Result, ensure};
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::time::Instant;

/// Longer than any drain.
pub(crate) const END: Duration = Duration::from_secs(30);

/// Where and how a scenario runs.
#[derive(Clone, Debug)]
pub(crate) struct Arena {
    /// For every file of the scenario.
    pub(crate) folder: PathBuf,
    /// Of its random numbers.
    pub(crate) seed: u64,
    /// Multiplies loads and patience.
    pub(crate) scale: f64,
}

impl Arena {
    /// How many, at this scale; at least one.
    pub(crate) fn count(&self, normally: u32) -> u64 {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a small positive number")]
        let scaled = (f64::from(normally) * self.scale).round() as u64;
        scaled.max(1)
    }

    /// How long to wait for what should take far less; a small scale does not make the machine faster.
    pub(crate) fn patience(&self, seconds: u64) -> Duration {
        Duration::from_secs(seconds).mul_f64(self.scale.max(1.0))
    }

    /// As many dialogs, with so many messages each, as fast as they are taken.
    pub(crate) fn load(&self, dialogs: u64, messages: u32) -> Load {
        let messages = (1, self.count(messages));
        Load { dialogs, messages, connections: 32, rate: None, within: self.patience(90) }
    }
}

/// Everything in its place, the gateway running.
pub(crate) struct Stage {
    /// The gateway.
    pub(crate) node: Node,
    ends: Ends,
    setting: Setting,
    folder: PathBuf,
    client: reqwest::Client,
    peak: u64,
}

/// What came out.
#[derive(Debug, Default)]
pub(crate) struct Report {
    /// What was measured.
    pub(crate) facts: Vec<String>,
    /// What is wrong.
    pub(crate) violations: Vec<Violation>,
    /// The gateway's list of events.
    pub(crate) events: Vec<ListedEvent>,
    /// Deliveries that came again.
    pub(crate) duplicates: usize,
    /// The most memory that the gateway had, in KiB.
    pub(crate) peak: u64,
}

impl Report {
    /// Of a scenario that did not come to its end.
    pub(crate) fn broken(error: &anyhow::Error) -> Self {
        let violations = vec![Violation { invariant: Invariant::Expected, what: format!("{error:#}") }];
        Self { violations, ..Self::default() }
    }

    /// Adds a fact.
    pub(crate) fn fact(&mut self, fact: String) {
        self.facts.push(fact);
    }

    /// Adds a violation, unless `holds`.
    pub(crate) fn expect(&mut self, holds: bool, invariant: Invariant, what: impl FnOnce() -> String) {
        if !holds {
            self.violations.push(Violation { invariant, what: what() });
        }
    }
}

/// A stage is its ends, and what is between them.
impl Deref for Stage {
    type Target = Ends;

    fn deref(&self) -> &Ends {
        &self.ends
    }
}

impl Stage {
    /// Starts subscribers and gateway.
    pub(crate) async fn set(arena: &Arena, sinks: Vec<(&str, Program)>, setting: Setting) -> Result<Self> {
        let mut stage = Self::prepare(arena, sinks, setting).await?;
        stage.node.start().await?;
        Ok(stage)
    }

    /// Starts subscribers; the gateway does not run yet.
    pub(crate) async fn prepare(arena: &Arena, sinks: Vec<(&str, Program)>, setting: Setting) -> Result<Self> {
        let began = Instant::now();
        let client = reqwest::Client::builder().no_proxy().build()?;
        let sinks = ends::sinks(sinks, began).await?;
        let node = node("node", &arena.folder, &sinks, &setting, client.clone())?;
        let sender = Sender::new(client.clone(), node.webhook_url(), vec![node.webhook_url()], began);
        let folder = arena.folder.clone();
        let ends = Ends { sender, sinks, excuses: Excuses::new(&setting) };
        Ok(Self { node, ends, setting, folder, client, peak: 0 })
    }

    /// Another gateway on the same store, which does not run yet.
    pub(crate) fn another(&self, name: &str) -> Result<Node> {
        node(name, &self.folder, &self.sinks, &self.setting, self.client.clone())
    }

    /// Kills the gateway.
    pub(crate) fn kill(&mut self) -> Result<()> {
        self.note_memory()?;
        self.ends.lose_leases();
        self.node.kill()
    }

    /// Starts the gateway and kills it before it can be ready, so often.
    pub(crate) async fn crash_while_starting(&mut self, times: usize, random: &mut fastrand::Rng) -> Result<()> {
        for _ in 0..times {
            self.node.spawn()?;
            tokio::time::sleep(Duration::from_micros(random.u64(1_000..60_000))).await;
            self.kill()?;
        }
        Ok(())
    }

    /// Kills the gateway and starts it again on the same folder; says how long it took to be ready.
    pub(crate) async fn kill_and_restart(&mut self) -> Result<Duration> {
        self.kill()?;
        let began = Instant::now();
        self.node.start().await?;
        Ok(began.elapsed())
    }

    /// Remembers the most memory that any process had.
    pub(crate) fn note_memory(&mut self) -> Result<()> {
        self.peak = self.peak.max(self.node.memory()?.peak);
        Ok(())
    }

    /// Ends everything in good order and judges it.
    pub(crate) async fn finish(mut self) -> Result<Report> {
        self.note_memory()?;
        let rest = self.node.memory()?.now;
        self.node.terminate()?;
        let status = self.node.ended(END).await?;
        let mut report = Report { peak: self.peak, ..Report::default() };
        report.expect(status.success(), Invariant::Expected, || format!("the gateway ended with {status}"));
        let said = self.node.said()?;
        report.expect(!said.contains("panicked"), Invariant::Expected, || "the gateway panicked".to_owned());

        self.ends.judge(&self.node.beside(), &mut report)?;
        let intact = integrity(&database(&self.folder))?;
        report.expect(intact == ["ok"], Invariant::Intact, || format!("integrity_check says {intact:?}"));

        report.fact(format!("memory {} MiB, at most {}", rest.div_ceil(1024), report.peak.div_ceil(1024)));
        Ok(report)
    }

    /// The size of the store's largest file.
    pub(crate) fn largest_file(&self) -> Result<u64> {
        let mut largest = 0;
        for name in ["birdwire.db", "birdwire.db-wal"] {
            largest = largest.max(std::fs::metadata(self.folder.join(name))?.len());
        }
        Ok(largest)
    }
}

/// The node's configuration names every subscriber.
fn node(name: &str, folder: &Path, sinks: &[Sink], setting: &Setting, client: reqwest::Client) -> Result<Node> {
    let plan = Plan {
        name,
        folder,
        store: format!("sqlite:{}", database(folder).display()),
        public_url: None,
        subscribers: sinks.iter().map(|sink| (sink.name().to_owned(), sink.url().to_owned())).collect(),
        setting,
    };
    Node::new(&plan, client)
}

fn database(folder: &Path) -> PathBuf {
    folder.join("birdwire.db")
}

fn integrity(path: &Path) -> Result<Vec<String>> {
    ensure!(path.exists(), "the store is gone");
    let connection = rusqlite::Connection::open(path)?;
    let mut check = connection.prepare("PRAGMA integrity_check")?;
    let lines = check.query_map([], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?;
    Ok(lines)
}

/// Webhooks per second.
pub(crate) fn rate(webhooks: usize, took: Duration) -> String {
    let per_second = f64::from(u32::try_from(webhooks).unwrap_or(u32::MAX)) / took.as_secs_f64().max(1e-9);
    format!("{per_second:.0} webhooks/s")
}
