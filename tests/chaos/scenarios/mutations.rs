//! No fault but what is said.

use crate::mutants::{mutated, seeds};
use crate::node::{CHANNEL, KEY, Node, Plan, Setting};
use crate::stage::{Arena, Report, rate};
use crate::verdict::Invariant;
use anyhow::{Context, Result};
use birdwire::adapter;
use birdwire::app::system_clock;
use birdwire::domain::secret::Secret;
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::Instant;

/// Requests at once.
const CONNECTIONS: usize = 32;

/// Longer than any drain, and than any answer.
const END: Duration = Duration::from_secs(30);

/// Mutated payloads with valid signatures: each is taken, and each event has one end that is counted and listed.
pub(crate) async fn mutations(arena: Arena) -> Result<Report> {
    let store = format!("sqlite:{}", arena.folder.join("birdwire.db").display());
    let client = reqwest::Client::builder().no_proxy().build()?;
    let setting = Setting::default();
    let (name, folder, subscribers) = ("node", arena.folder.as_path(), Vec::new());
    let plan = Plan { name, folder, store, public_url: None, subscribers, setting: &setting };
    let mut node = Node::new(&plan, client.clone())?;
    node.start().await?;
    let roads = [("bird", KEY, node.webhook_url(), seeds("bird")), ("line", CHANNEL, node.line_url(), seeds("line"))];

    let cases = usize::try_from(arena.count(10_000))?;
    let mut random = fastrand::Rng::with_seed(arena.seed);
    let (began, mut posts, mut report) = (Instant::now(), JoinSet::new(), Report::default());
    for sent in 0..cases + CONNECTIONS {
        if sent >= CONNECTIONS
            && let Some(done) = posts.join_next().await
        {
            let (status, body): (Result<u16, String>, Vec<u8>) = done.context("the provider broke")?;
            report.expect(status == Ok(200), Invariant::Expected, || {
                format!("{status:?} to {}", String::from_utf8_lossy(&body))
            });
        }
        if sent < cases {
            let (provider, key, url, seeds) = &roads[random.usize(..roads.len())];
            let body = mutated(&seeds[random.usize(..seeds.len())], &mut random);
            let provider = adapter::provider(provider).context("a provider is gone")?;
            let mut request = client.post(url).timeout(END).body(body.clone());
            for (name, value) in (provider.sign)(&Secret::new(*key), url, &body, (system_clock())()) {
                request = request.header(name, value);
            }
            posts.spawn(async move {
                let answer = request.send().await;
                (answer.map(|answer| answer.status().as_u16()).map_err(|error| format!("{error:#}")), body)
            });
        }
    }
    report.fact(rate(cases, began.elapsed()));

    let counted = counted(&node.metrics().await?);
    node.terminate()?;
    let status = node.ended(END).await?;
    report.expect(status.success(), Invariant::Expected, || format!("the gateway ended with {status}"));
    let said = node.said()?;
    report.expect(!said.contains("panicked"), Invariant::Expected, || "the gateway panicked".to_owned());
    let mut listed: BTreeMap<String, u64> = BTreeMap::new();
    for event in node.beside().events()? {
        *listed.entry(event.state).or_default() += 1;
    }
    let events: u64 = listed.values().sum();
    report.expect(counted == listed, Invariant::Honest, || format!("{counted:?} were counted, {listed:?} are listed"));
    report.expect(events >= arena.count(10_000), Invariant::Honest, || {
        format!("{cases} webhooks, but only {events} events have an end")
    });
    report.fact(format!("{cases} webhooks: {listed:?}"));
    Ok(report)
}

/// How many events ended in each state, from the text that Prometheus scrapes.
fn counted(metrics: &str) -> BTreeMap<String, u64> {
    let mut counted: BTreeMap<String, u64> = BTreeMap::new();
    for line in metrics.lines().filter(|line| line.starts_with("birdwire_events_total{")) {
        let state = line.split_once("state=\"").and_then(|(_, rest)| rest.split('"').next());
        let count = line.rsplit(' ').next().and_then(|count| count.parse().ok());
        if let (Some(state), Some(count @ 1..)) = (state, count) {
            *counted.entry(state.to_owned()).or_default() += count;
        }
    }
    counted
}
