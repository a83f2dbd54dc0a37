//! Several nodes on one PostgreSQL: one gateway to both ends, and judged as one.

use crate::beside::Beside;
use crate::ends::{self, Ends, Excuses};
use crate::node::{ACCOUNT, Node, Plan, Setting};
use crate::postgres::{self, Postgres, ROLE};
use crate::proxy::Proxy;
use crate::sender::Sender;
use crate::sink::{Program, Sink};
use crate::stage::{Arena, END, Report};
use crate::verdict::Invariant;
use anyhow::{Context, Result};
use std::ops::{Deref, DerefMut};
use std::path::Path;
use std::time::Duration;
use tokio::time::Instant;

/// What providers know the nodes by, and sign.
const PUBLIC: &str = "http://gateway.test";

/// I8: the memory that a node may take, in KiB.
const MEMORY: u64 = 96 * 1024;

/// I7: how soon after a fault a node has to be ready.
pub(crate) const READY: Duration = Duration::from_secs(5);

/// Leases as short as they may be, for scenarios in which somebody dies with one.
pub(crate) const SHORT_LEASES: &str =
    "attempt_timeout = \"1s\"\nlease = \"7s\"\nfirst_retry = \"50ms\"\nmax_retry = \"400ms\"";

/// How long such a lease is.
pub(crate) const LEASE: Duration = Duration::from_secs(7);

/// A node, and what is between it and the database.
pub(crate) struct Member {
    /// The node.
    pub(crate) node: Node,
    /// On its way to the database, if it has one of its own.
    proxy: Option<Proxy>,
}

/// Everything in its place.
pub(crate) struct Fleet {
    /// The nodes.
    pub(crate) members: Vec<Member>,
    /// What they share.
    pub(crate) database: Postgres,
    ends: Ends,
    /// Never runs: a configuration for commands, past every proxy.
    books: Node,
    peak: u64,
}

/// A fleet is its ends, and what is between them.
impl Deref for Fleet {
    type Target = Ends;

    fn deref(&self) -> &Ends {
        &self.ends
    }
}

impl DerefMut for Fleet {
    fn deref_mut(&mut self) -> &mut Ends {
        &mut self.ends
    }
}

impl Fleet {
    /// Starts subscribers, database and so many nodes.
    pub(crate) async fn set(
        arena: &Arena,
        sinks: Vec<(&str, Program)>,
        setting: &Setting,
        nodes: usize,
    ) -> Result<Self> {
        let mut fleet = Self::prepare(arena, sinks, setting, nodes, false).await?;
        fleet.start().await?;
        Ok(fleet)
    }

    /// The same, each node with a proxy of its own before the database.
    pub(crate) async fn proxied(
        arena: &Arena,
        sinks: Vec<(&str, Program)>,
        setting: &Setting,
        nodes: usize,
    ) -> Result<Self> {
        let mut fleet = Self::prepare(arena, sinks, setting, nodes, true).await?;
        fleet.start().await?;
        Ok(fleet)
    }

    /// Starts subscribers and database; the nodes do not run yet.
    pub(crate) async fn prepare(
        arena: &Arena,
        sinks: Vec<(&str, Program)>,
        setting: &Setting,
        nodes: usize,
        proxied: bool,
    ) -> Result<Self> {
        let began = Instant::now();
        let client = reqwest::Client::builder().no_proxy().build()?;
        let sinks = ends::sinks(sinks, began).await?;
        let database = Postgres::new(&arena.folder).await?;
        let node =
            |name: &str, role: &str, port| node(name, role, &arena.folder, port, &sinks, setting, client.clone());
        let mut members = Vec::with_capacity(nodes);
        for number in 1..=nodes {
            let proxy = if proxied { Some(Proxy::start(database.port())?) } else { None };
            let port = proxy.as_ref().map_or(database.port(), Proxy::port);
            // A role for each: so the database can tell who did something.
            let name = format!("node-{number}");
            database.run(&format!("CREATE ROLE \"{name}\" SUPERUSER LOGIN")).await?;
            members.push(Member { node: node(&name, &name, port)?, proxy });
        }
        let books = node("books", ROLE, database.port())?;
        let targets = members.iter().map(|member| member.node.webhook_url()).collect();
        let signed = format!("{PUBLIC}/v1.0/conversation/accounts/{ACCOUNT}");
        let sender = Sender::new(client.clone(), signed, targets, began);
        let ends = Ends { sender, sinks, excuses: Excuses::new(setting) };
        Ok(Self { members, database, ends, books, peak: 0 })
    }

    /// Starts every node at once and waits until all are ready.
    pub(crate) async fn start(&mut self) -> Result<()> {
        for member in &mut self.members {
            member.node.spawn()?;
        }
        self.ready(crate::node::START).await?;
        Ok(())
    }

    /// Waits until every node that runs is ready; says how long it took.
    pub(crate) async fn ready(&mut self, within: Duration) -> Result<Duration> {
        let began = Instant::now();
        for member in self.members.iter_mut().filter(|member| member.node.runs()) {
            member.node.started(within.saturating_sub(began.elapsed())).await?;
        }
        Ok(began.elapsed())
    }

    /// A node.
    pub(crate) fn node(&mut self, index: usize) -> &mut Node {
        &mut self.members[index].node
    }

    /// What is between a node and the database.
    pub(crate) fn proxy(&self, index: usize) -> Result<&Proxy> {
        self.members[index].proxy.as_ref().context("this node has no proxy")
    }

    /// For commands beside the nodes.
    pub(crate) fn beside(&self) -> Beside {
        self.books.beside()
    }

    /// Kills a node.
    pub(crate) fn kill(&mut self, index: usize) -> Result<()> {
        self.note_memory()?;
        self.lose_leases();
        self.node(index).kill()
    }

    /// So often a lane may have been taken by a node that never learned of it.
    pub(crate) fn lose_claims(&mut self, times: usize) {
        self.ends.excuses.unseen += times;
    }

    /// Remembers the most memory that any node had.
    pub(crate) fn note_memory(&mut self) -> Result<()> {
        for member in self.members.iter().filter(|member| member.node.runs()) {
            self.peak = self.peak.max(member.node.memory()?.peak);
        }
        Ok(())
    }

    /// A metric, summed over the nodes that run.
    pub(crate) async fn total(&self, metric: &str) -> Result<f64> {
        let mut total = 0.0;
        for member in self.members.iter().filter(|member| member.node.runs()) {
            total += crate::node::total(&member.node.metrics().await?, metric);
        }
        Ok(total)
    }

    /// Ends everything in good order and judges it.
    pub(crate) async fn finish(mut self) -> Result<Report> {
        self.note_memory()?;
        let mut report = Report { peak: self.peak, ..Report::default() };
        for member in self.members.iter_mut().filter(|member| member.node.runs()) {
            member.node.terminate()?;
        }
        for member in &mut self.members {
            let name = member.node.name().to_owned();
            if member.node.runs() {
                let status = member.node.ended(END).await?;
                report.expect(status.success(), Invariant::Expected, || format!("{name} ended with {status}"));
            }
            let said = member.node.said().unwrap_or_default();
            report.expect(!said.contains("panicked"), Invariant::Expected, || format!("{name} panicked"));
        }
        self.ends.judge(&self.books.beside(), &mut report)?;
        let complaints = self.database.check()?;
        report.expect(complaints.is_empty(), Invariant::Intact, || format!("pg_amcheck says {complaints:?}"));
        let peak = self.peak;
        report.expect(peak < MEMORY, Invariant::Bounds, || format!("a node took {peak} KiB"));
        report.fact(format!("memory at most {} MiB", peak.div_ceil(1024)));
        Ok(report)
    }
}

/// The node's configuration names every subscriber.
fn node(
    name: &str,
    role: &str,
    folder: &Path,
    database: u16,
    sinks: &[Sink],
    setting: &Setting,
    client: reqwest::Client,
) -> Result<Node> {
    let plan = Plan {
        name,
        folder,
        store: postgres::url(role, database),
        public_url: Some(PUBLIC),
        subscribers: sinks.iter().map(|sink| (sink.name().to_owned(), sink.url().to_owned())).collect(),
        setting,
    };
    Node::new(&plan, client)
}
