//! The network between a node and its database: gone in one place only, or so bad that it might as well be.

use super::database::{recovered, sending, steady};
use crate::ends::slow;
use crate::fleet::{Fleet, READY};
use crate::node::{Setting, total};
use crate::proxy::{Fault, Link};
use crate::stage::{Arena, Report, willing};
use crate::verdict::Invariant;
use anyhow::{Context, Result};
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// M2: a node still reaches its subscribers, but not the database: it has to stop, and another takes its work over.
pub(crate) async fn partitioned(arena: Arena) -> Result<Report> {
    const PLACES: usize = 8;
    const LEASE: Duration = Duration::from_secs(8);
    /// Until the other looks again after the lease, and has sent what was behind it.
    const LATER: Duration = Duration::from_secs(4);
    const ATTEMPTS: &str = "birdwire_attempts_total";
    let setting = Setting {
        delivery: "concurrency = 8\nattempt_timeout = \"2s\"\nlease = \"8s\"\nfirst_retry = \"50ms\"\nmax_retry = \"400ms\"",
        concurrency: Some(PLACES),
        ..Setting::default()
    };
    let crm = slow(Duration::from_millis(60));
    let mut fleet = Fleet::proxied(&arena, vec![("crm", crm)], &setting, 2).await?;
    let load = steady(&arena, 100, 5);
    let sending = sending(&fleet, load);
    fleet.sender.until(arena.patience(60), |progress| progress.taken >= load.webhooks() / 3).await?;

    fleet.proxy(0)?.set(Fault::BlackHole);
    let began = Instant::now();
    fleet.lose_leases();
    // What it had in its hands it may finish; after that it has nothing that is its to send.
    sleep(Duration::from_secs(2)).await;
    let finished = total(&fleet.node(0).metrics().await?, ATTEMPTS);
    let seen = fleet.node(0).until_ready(Duration::from_secs(10), |status, _| status == 503).await;
    seen.context("a node without its database is ready")?;
    sending.await.context("the provider broke")??;
    let rest = (LEASE + LATER).saturating_sub(began.elapsed());
    fleet.settle(rest.max(LATER)).await?;
    let over = began.elapsed();
    let owed = fleet.owed();
    let taken = fleet.sink("crm")?.taken();
    let more = total(&fleet.node(0).metrics().await?, ATTEMPTS) - finished;

    fleet.proxy(0)?.heal();
    let ready = fleet.ready(READY).await.context("I7: no recovery")?;
    // Whatever it still has in its hands it may try to record now, and must not be believed.
    sleep(Duration::from_secs(2)).await;
    let lost = fleet.total("birdwire_leases_lost_total").await?;
    let mut report = fleet.finish().await?;
    report.expect(taken == owed, Invariant::Recovery, || {
        format!("{over:.0?} after the partition the other has taken over {taken} of {owed} only")
    });
    report.expect(more == 0.0, Invariant::Expected, || format!("it went on with {more} attempts"));
    report.fact(format!("taken over {over:.1?} after the partition"));
    report.fact(format!("ready again in {ready:.0?}"));
    report.fact(format!("{lost} leases lost"));
    Ok(report)
}

/// M3: one node's way to the database loses three pieces of ten, and now and then two seconds.
pub(crate) async fn slow_network(arena: Arena) -> Result<Report> {
    const SPIKE: Duration = Duration::from_secs(2);
    let setting = Setting {
        delivery: "attempt_timeout = \"1s\"\nlease = \"10s\"\nfirst_retry = \"50ms\"\nmax_retry = \"400ms\"",
        ..Setting::default()
    };
    let mut fleet = Fleet::proxied(&arena, vec![("crm", willing())], &setting, 2).await?;
    let load = steady(&arena, 80, 8);
    let sending = sending(&fleet, load);
    fleet.sender.until(arena.patience(60), |progress| progress.taken >= load.webhooks() / 8).await?;
    let bad = Link {
        latency: Duration::from_millis(5),
        jitter: Duration::from_millis(20),
        loss: 0.3,
        spikes: (0.02, SPIKE),
        ..Link::default()
    };
    fleet.proxy(1)?.set(Fault::Link(bad));
    fleet.sender.until(arena.patience(60), |progress| progress.taken >= load.webhooks() * 7 / 8).await?;
    fleet.proxy(1)?.heal();
    // What was on its way is late still, sent once again if need be: the fault ends when it has arrived.
    sleep(SPIKE + Duration::from_millis(500)).await;
    // A transaction that was given up may have been committed after all: a claim, or an attempt's record.
    fleet.lose_claims(1);
    let (mut report, requests) = recovered(&arena, fleet, sending).await?;
    let slowest = requests.iter().map(|r| r.took).max().unwrap_or_default();
    report.fact(format!("slowest answer {slowest:.0?}"));
    Ok(report)
}
