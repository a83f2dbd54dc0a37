//! Faults against the real program: each scenario starts it, breaks something, and judges by the ledgers of both
//! ends that nothing was lost, doubled or disordered.
//!
//! `scripts/chaos --list` shows them; names (or parts of names) choose, `--seed N` repeats, `--scale X` multiplies
//! loads and patience. Flags of Rust's own test runner are ignored, so `cargo test` can pass them on.

mod beside;
mod ends;
mod fleet;
mod ledger;
#[path = "../it/mutants.rs"]
#[allow(clippy::unwrap_used, reason = "its other home is the test binary, where a test fails by panicking")]
mod mutants;
mod node;
mod postgres;
mod proxy;
mod proxy_test;
mod scenarios;
mod self_test;
mod sender;
mod sink;
mod stage;
mod verdict;
mod wire;

use anyhow::{Context, Result};
use scenarios::{database, disk, load, mutations, network, nodes, process, subscriber};
use stage::{Arena, Report};
use std::collections::BTreeMap;
use std::path::Path;
use std::pin::Pin;
use std::process::ExitCode;
use verdict::{Invariant, Violation};

/// How many violations, and lines of a log, are worth reading at once.
const SHOWN: usize = 20;
const TAIL: usize = 40;

type Run = fn(Arena) -> Pin<Box<dyn Future<Output = Result<Report>>>>;

/// One scenario: its name, the faults of the catalogue it stands for and what it shows, and how it runs.
struct Scenario(&'static str, &'static str, Run);

/// Every scenario, in the order in which they run.
const SCENARIOS: &[Scenario] = &[
    Scenario("load", "I8: 2,500 webhooks, default configuration: nothing twice, less than 64 MiB", |a| {
        Box::pin(load::load(a))
    }),
    Scenario("same-webhook", "N1: one webhook 100 times at once is one message", |a| Box::pin(load::same_webhook(a))),
    Scenario("mutations", "N2: 10,000 mutated payloads of LINE and Bird, signed: all taken, all accounted for", |a| {
        Box::pin(mutations::mutations(a))
    }),
    Scenario("failing-subscriber", "R1: five failures at the head of every conversation, nothing overtakes", |a| {
        Box::pin(subscriber::failing(a))
    }),
    Scenario("hanging-subscriber", "R10: one subscriber hangs, the other does not notice", |a| {
        Box::pin(subscriber::hanging(a))
    }),
    Scenario("terminate", "C4, D6: SIGTERM under load; a second gateway on the same store", |a| {
        Box::pin(process::terminate(a))
    }),
    Scenario("terminate-hanging", "C4: SIGTERM while deliveries hang, and twice: the drain has an end", |a| {
        Box::pin(process::terminate_hanging(a))
    }),
    Scenario("disk-full", "D1: the disk is full for a while: 503, no loss, recovery without a restart", |a| {
        Box::pin(disk::full(a))
    }),
    Scenario("crash-loop", "C8: SIGKILL at every moment of a start, on an empty and on a used folder", |a| {
        Box::pin(process::crash_loop(a))
    }),
    Scenario("kills", "C1: SIGKILL ten times under load of 2,000 webhooks", |a| Box::pin(process::kills(a))),
    Scenario("cluster-kills", "M6, P1: three nodes, killed in turn, and PostgreSQL stopped twice: order holds", |a| {
        Box::pin(nodes::kills(a))
    }),
    Scenario("same-webhook-cluster", "N1: one webhook ten times at each of three nodes at once is one message", |a| {
        Box::pin(nodes::same_webhook(a))
    }),
    Scenario("claims", "M1: four nodes claim from a backlog of 20,000: each delivery is sent once", |a| {
        Box::pin(nodes::claims(a))
    }),
    Scenario(
        "rolling",
        "M4: every node replaced behind the sender, beginning with the previous version if there is one",
        |a| Box::pin(nodes::rolling(a)),
    ),
    Scenario("janitor", "M5: one node removes old rows; killed, another does", |a| Box::pin(nodes::janitor(a))),
    Scenario("suspended", "T3: a node stopped for longer than its leases: what it says afterwards is void", |a| {
        Box::pin(nodes::suspended(a))
    }),
    Scenario("clocks", "T2: clocks five minutes apart: leases hold, retries come when they are due", |a| {
        Box::pin(nodes::clocks(a))
    }),
    Scenario("database-late", "P1: PostgreSQL absent at the start, and away for a while: 503, no loss", |a| {
        Box::pin(database::late(a))
    }),
    Scenario("database-frozen", "P2: PostgreSQL frozen: every webhook is answered within a second", |a| {
        Box::pin(database::frozen(a))
    }),
    Scenario("commit-cut", "P3: connections cut between a commit and its reply: nothing twice", |a| {
        Box::pin(database::commit_cut(a))
    }),
    Scenario("backends-killed", "P4: every backend terminated again and again, two connections each", |a| {
        Box::pin(database::backends_killed(a))
    }),
    Scenario("contention", "P6: commands, locked tables and deadlocks under load", |a| {
        Box::pin(database::contention(a))
    }),
    Scenario("xmin-held", "P7: a forgotten transaction: a claim takes twice as long at most", |a| {
        Box::pin(database::xmin_held(a))
    }),
    Scenario("partitioned", "M2: a node without the database stops, another takes over when its leases end", |a| {
        Box::pin(network::partitioned(a))
    }),
    Scenario("slow-network", "M3: a node whose way to the database loses pieces and seconds", |a| {
        Box::pin(network::slow_network(a))
    }),
];

/// What readers are told of the scenarios.
const DOCUMENTED: &str = include_str!("../../docs/FAULTS.md");

/// Fails with a scenario that the documentation does not know, or a row of it that is no scenario.
fn documented() -> Result<()> {
    let rows: Vec<&str> = DOCUMENTED.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next()).collect();
    let names: Vec<&str> = SCENARIOS.iter().map(|scenario| scenario.0).collect();
    anyhow::ensure!(rows == names, "docs/FAULTS.md has {rows:?}, in that order, but there are {names:?}");
    Ok(())
}

/// What was asked for.
struct Options {
    list: bool,
    names: Vec<String>,
    seed: u64,
    scale: f64,
}

impl Options {
    fn read(mut arguments: impl Iterator<Item = String>) -> Result<Self> {
        let mut options = Self { list: false, names: Vec::new(), seed: fastrand::u64(..1_000_000), scale: 1.0 };
        while let Some(argument) = arguments.next() {
            match argument.as_str() {
                "--list" => options.list = true,
                "--seed" => options.seed = value(&mut arguments).context("--seed needs a number")?,
                "--scale" => options.scale = value(&mut arguments).context("--scale needs a number")?,
                // Flags of Rust's own test runner that have a value.
                "--test-threads" | "--skip" | "--format" | "--color" | "--logfile" | "-Z" => drop(arguments.next()),
                flag if flag.starts_with('-') => {}
                name => options.names.push(name.to_owned()),
            }
        }
        anyhow::ensure!(options.scale > 0.0, "--scale needs a number above 0");
        Ok(options)
    }

    /// Parts of names choose, as with Rust's own test runner.
    fn wants(&self, scenario: &Scenario) -> bool {
        self.names.is_empty() || self.names.iter().any(|name| scenario.0.contains(name.as_str()))
    }
}

fn value<T: std::str::FromStr>(arguments: &mut impl Iterator<Item = String>) -> Option<T> {
    arguments.next()?.parse().ok()
}

fn main() -> ExitCode {
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            anstream::eprintln!("chaos: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<bool> {
    let options = Options::read(std::env::args().skip(1))?;
    if options.list {
        for Scenario(name, about, _) in SCENARIOS {
            anstream::println!("{name:<20} {about}");
        }
        return Ok(true);
    }
    documented()?;
    let cases = self_test::run().context("the verdict itself is wrong")?;
    rustls::crypto::ring::default_provider().install_default().ok().context("TLS is set up already")?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let faults = runtime.block_on(proxy_test::run()).context("the proxy itself is wrong")?;
    let (seed, scale) = (options.seed, options.scale);
    anstream::println!("seed {seed}, scale {scale}; the verdict knows {cases} stories, the proxy {faults} faults");
    let (mut passed, mut failed) = (0, 0);
    for scenario in SCENARIOS.iter().filter(|scenario| options.wants(scenario)) {
        if one(scenario, &options, &runtime)? {
            passed += 1;
        } else {
            failed += 1;
        }
    }
    anstream::println!("{passed} passed, {failed} failed");
    Ok(failed == 0)
}

/// Runs one scenario and says how it went.
fn one(scenario: &Scenario, options: &Options, runtime: &tokio::runtime::Runtime) -> Result<bool> {
    let Scenario(name, _, run) = scenario;
    // Not the system's folder for temporary files: that may be in memory, where no write is ever slow.
    let folder = tempfile::Builder::new().prefix(name).tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    let arena = Arena { folder: folder.path().to_owned(), seed: options.seed, scale: options.scale };
    let began = tokio::time::Instant::now();
    let result = runtime.block_on(run(arena));
    let took = began.elapsed().as_secs_f64();
    let report = result.unwrap_or_else(|error| Report::broken(&error));
    let good = report.violations.is_empty();
    let facts = report.facts.join(", ");
    anstream::println!("{} {name:<20} {took:>5.1} s  {facts}", if good { "ok    " } else { "FAILED" });
    show(&report.violations);
    if !good {
        show_logs(folder.path())?;
    }
    Ok(good)
}

/// Some of every kind: a thousand of one must not hide the one of another.
fn show(violations: &[Violation]) {
    let mut kinds: BTreeMap<Invariant, Vec<&Violation>> = BTreeMap::new();
    for violation in violations {
        kinds.entry(violation.invariant).or_default().push(violation);
    }
    let each = (SHOWN / kinds.len().max(1)).max(1);
    for kind in kinds.values() {
        for violation in kind.iter().take(each) {
            anstream::println!("    {violation}");
        }
        if let Some(violation) = kind.get(each) {
            anstream::println!("    {:?}: and {} more", violation.invariant, kind.len() - each);
        }
    }
}

fn show_logs(folder: &Path) -> Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "stderr") {
            let text = std::fs::read_to_string(&path)?;
            let lines: Vec<&str> = text.lines().collect();
            anstream::println!("    the end of {}:", path.file_name().unwrap_or_default().display());
            for line in &lines[lines.len().saturating_sub(TAIL)..] {
                anstream::println!("      {line}");
            }
        }
    }
    Ok(())
}
