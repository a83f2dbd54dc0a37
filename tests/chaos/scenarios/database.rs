//! The database that nodes share: away, frozen, restarted, locked, or silent about what it committed.

use crate::fleet::{Fleet, READY, SHORT_LEASES};
use crate::ledger::{Answer, Delivery, Request};
use crate::node::Setting;
use crate::proxy::Fault;
use crate::sender::Load;
use crate::sink::{Act, Program};
use crate::stage::{Arena, Report, slow, willing};
use crate::verdict::{Invariant, prompt};
use anyhow::{Context, Result};
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

/// Within a second every webhook is answered, whatever the database does; the rest is for a busy machine.
const ANSWERED: Duration = Duration::from_millis(1_250);

/// I7: within this after a fault everything that was held up has to be delivered.
const DRAINED: Duration = Duration::from_secs(30);

/// At a pace that leaves the machine room, for so many seconds.
pub(super) fn steady(arena: &Arena, per_second: u32, seconds: u32) -> Load {
    let dialogs = 50;
    let messages = u32::try_from(u64::from(per_second * seconds) / dialogs).unwrap_or(1).max(1);
    let load = arena.load(dialogs, messages);
    Load { rate: Some(f64::from(per_second)), ..load }
}

/// Sends in the background.
pub(super) fn sending(fleet: &Fleet, load: Load) -> tokio::task::JoinHandle<Result<Duration>> {
    let sender = fleet.sender.clone();
    tokio::spawn(async move { sender.run(load).await })
}

/// The end of most scenarios: what comes after the fault.
pub(super) async fn recovered(
    arena: &Arena,
    mut fleet: Fleet,
    sending: tokio::task::JoinHandle<Result<Duration>>,
) -> Result<(Report, Vec<Request>)> {
    let ready = fleet.ready(READY).await.context("I7: no recovery")?;
    sending.await.context("the provider broke")??;
    let drained = fleet.settle(arena.patience(60)).await?;
    let silence = fleet.longest_silence();
    let requests = fleet.sender.ledger();
    let lost = fleet.total("birdwire_leases_lost_total").await?;
    let mut report = fleet.finish().await?;
    report.expect(drained <= DRAINED, Invariant::Recovery, || format!("the backlog took {drained:.0?}"));
    report.fact(format!("ready again in {ready:.0?}"));
    report.fact(format!("longest silence {silence:.0?}"));
    report.fact(format!("drained {drained:.0?} later"));
    report.fact(format!("{lost} leases lost"));
    Ok((report, requests))
}

/// P1: the database is not there when the nodes start, comes, and goes away for a while under load.
pub(crate) async fn late(arena: Arena) -> Result<Report> {
    const AWAY: Duration = Duration::from_secs(4);
    let mut fleet = Fleet::prepare(&arena, vec![("crm", willing())], &Setting::default(), 2, false).await?;
    fleet.database.stop().await?;
    for member in &mut fleet.members {
        member.node.spawn()?;
    }
    for member in &fleet.members {
        let seen = member.node.until_ready(arena.patience(10), |status, _| status == 503).await;
        seen.with_context(|| format!("{} does not serve without a database", member.node.name()))?;
    }
    let first = fleet.sender.post(&fleet.sender.webhook(1, 1)?).await;
    fleet.database.start().await?;
    let ready = fleet.ready(READY).await.context("I7: no start once the database is there")?;

    let load = steady(&arena, 150, 8);
    let sending = sending(&fleet, load);
    fleet.sender.until(arena.patience(60), |progress| progress.taken >= load.webhooks() / 4).await?;
    fleet.database.stop().await?;
    let away = Instant::now();
    for member in &fleet.members {
        // I9: visible within ten seconds.
        let seen = member.node.until_ready(Duration::from_secs(10), |status, _| status == 503).await;
        seen.with_context(|| format!("{} does not see that the database is away", member.node.name()))?;
    }
    let visible = away.elapsed();
    sleep(AWAY.mul_f64(arena.scale).saturating_sub(away.elapsed())).await;
    fleet.database.start().await?;
    let (mut report, requests) = recovered(&arena, fleet, sending).await?;
    let refused = requests.iter().filter(|r| matches!(r.answer, Answer::Status(503, Some(_)))).count();
    report.violations.extend(prompt(&requests, ANSWERED));
    report.expect(matches!(first, Answer::Status(503, Some(_))), Invariant::Expected, || {
        format!("the first webhook, without a database, was answered {first:?}")
    });
    report.expect(refused > 0, Invariant::Expected, || "nothing was refused while the database was away".to_owned());
    report.fact(format!("ready {ready:.0?} after the database"));
    report.fact(format!("{refused} refused"));
    report.fact(format!("visible in {visible:.0?}"));
    Ok(report)
}

/// P2: connections stay open, and nothing answers.
pub(crate) async fn frozen(arena: Arena) -> Result<Report> {
    const FROZEN: Duration = Duration::from_secs(6);
    let mut fleet = Fleet::set(&arena, vec![("crm", willing())], &Setting::default(), 2).await?;
    let load = steady(&arena, 150, 8);
    let sending = sending(&fleet, load);
    fleet.sender.until(arena.patience(60), |progress| progress.taken >= load.webhooks() / 4).await?;
    fleet.database.freeze()?;
    let frozen = Instant::now();
    for member in &fleet.members {
        let seen = member.node.until_ready(Duration::from_secs(10), |status, _| status == 503).await;
        seen.with_context(|| format!("{} does not see that the database is frozen", member.node.name()))?;
    }
    let visible = frozen.elapsed();
    sleep(FROZEN.mul_f64(arena.scale).saturating_sub(frozen.elapsed())).await;
    fleet.database.thaw()?;
    fleet.note_memory()?;
    let (mut report, requests) = recovered(&arena, fleet, sending).await?;
    report.violations.extend(prompt(&requests, ANSWERED));
    let slowest = requests.iter().map(|r| r.took).max().unwrap_or_default();
    report.fact(format!("slowest answer {slowest:.0?}"));
    report.fact(format!("visible in {visible:.0?}"));
    Ok(report)
}

/// P3: the server commits, and the connection is cut before anybody is told, again and again, on every node.
pub(crate) async fn commit_cut(arena: Arena) -> Result<Report> {
    const EVERY: usize = 7;
    let setting = Setting { delivery: SHORT_LEASES, ..Setting::default() };
    let mut fleet = Fleet::proxied(&arena, vec![("crm", willing()), ("audit", willing())], &setting, 2).await?;
    for member in 0..2 {
        fleet.proxy(member)?.set(Fault::CutCommits(EVERY));
    }
    let load = arena.load(50, 20);
    let sending = sending(&fleet, load);
    fleet.sender.until(arena.patience(80), |progress| progress.taken >= load.webhooks()).await?;
    let mut untold = 0;
    for member in 0..2 {
        fleet.proxy(member)?.heal();
        untold += fleet.proxy(member)?.untold();
    }
    // Any of them may have been a claim.
    fleet.lose_claims(untold);
    let owed = i64::try_from(fleet.owed())?;
    let database_says = "SELECT (SELECT count(*) FROM events WHERE state = 0) + (SELECT count(*) FROM conversations),
         (SELECT count(*) FROM outbox)";
    let row = fleet.database.rows(database_says, &[]).await?;
    let (stored, outbox): (i64, i64) = (row[0].try_get(0)?, row[0].try_get(1)?);
    let (mut report, _) = recovered(&arena, fleet, sending).await?;
    report.expect(untold >= 10, Invariant::Expected, || format!("only {untold} commits were not told of"));
    report.expect((stored, outbox) == (owed, owed), Invariant::NoInvention, || {
        format!(
            "{owed} are owed, but {stored} stored messages and conversations and {outbox} rows of the outbox are there"
        )
    });
    report.fact(format!("{untold} commits were not told of"));
    Ok(report)
}

/// P4: every backend is terminated, again and again, and there are only two connections each.
pub(crate) async fn backends_killed(arena: Arena) -> Result<Report> {
    const PAUSE: Duration = Duration::from_millis(300);
    let setting = Setting { store: "connections = 2", delivery: SHORT_LEASES, ..Setting::default() };
    let mut fleet = Fleet::set(&arena, vec![("crm", willing())], &setting, 2).await?;
    let load = steady(&arena, 150, 8);
    let sending = sending(&fleet, load);
    let (mut rounds, mut terminated) = (0, 0);
    while fleet.sender.progress().taken < load.webhooks() * 3 / 4 {
        sleep(PAUSE).await;
        terminated += fleet.database.terminate_backends().await?;
        rounds += 1;
        anyhow::ensure!(!sending.is_finished(), "the provider ended early");
    }
    // A claim may have been committed without anybody being told.
    fleet.lose_claims(rounds);
    let (mut report, _) = recovered(&arena, fleet, sending).await?;
    report.expect(terminated >= 20, Invariant::Expected, || format!("only {terminated} backends were terminated"));
    report.fact(format!("{terminated} backends terminated"));
    Ok(report)
}

/// What outside sessions do that is in the way: rows locked in an order that is nobody else's, and held for a while.
const TANGLE: &str = "BEGIN;
    SELECT count(*) FROM (SELECT id FROM lanes ORDER BY md5(id::text || clock_timestamp()::text) LIMIT 5 FOR UPDATE) l;
    SELECT pg_sleep(0.05);
    SELECT count(*) FROM (
        SELECT id FROM conversations ORDER BY md5(id::text || clock_timestamp()::text) LIMIT 5 FOR UPDATE) c;
    COMMIT;";

/// Tables that an outside session locks whole, one at a time.
const TABLES: [&str; 5] = ["lanes", "deliveries", "events", "outbox", "subscribers"];

/// P6: locks and deadlocks by commands and outside sessions, under load.
pub(crate) async fn contention(arena: Arena) -> Result<Report> {
    const TANGLES: usize = 4;
    let setting = Setting { delivery: "first_retry = \"50ms\"\nmax_retry = \"400ms\"", ..Setting::default() };
    let moody: Program = Box::new(|d: &Delivery, before| {
        Act::Answer(if d.sequence.is_multiple_of(5) && before == 0 { 503 } else { 200 })
    });
    let fleet = Fleet::set(&arena, vec![("crm", willing()), ("moody", moody)], &setting, 2).await?;
    let load = steady(&arena, 120, 10);
    let sending = sending(&fleet, load);
    let (mut replayed, mut tangles, mut deadlocks) = (0, 0, 0);
    for (round, table) in TABLES.iter().enumerate() {
        let at = load.webhooks() * (round + 1) / (TABLES.len() + 2);
        fleet.sender.until(arena.patience(60), |progress| progress.taken >= at).await?;
        let outside = async {
            fleet.database.run(&format!("BEGIN; LOCK TABLE {table}; SELECT pg_sleep(0.6); COMMIT")).await?;
            let mut sessions = JoinSet::new();
            for _ in 0..TANGLES {
                let client = fleet.database.connect().await?;
                sessions.spawn(async move { client.batch_execute(TANGLE).await });
            }
            while let Some(ended) = sessions.join_next().await {
                tangles += 1;
                // One of those that block each other has to go, and it may be this one.
                deadlocks += usize::from(ended.context("an outside session broke")?.is_err());
            }
            anyhow::Ok(())
        };
        let beside = fleet.beside();
        let commands = tokio::task::spawn_blocking(move || {
            beside.run(&["subscribers", "enable", "crm"])?;
            let done = beside.delivered(5)?;
            let replay: Vec<&str> =
                ["deliveries", "replay"].into_iter().chain(done.iter().map(String::as_str)).collect();
            beside.run(&replay)?;
            anyhow::Ok(done.len())
        });
        let (outside, commands) = tokio::join!(outside, commands);
        outside.context("an outside session")?;
        replayed += commands.context("a command broke")?.context("beside the nodes")?;
    }
    let (mut report, _) = recovered(&arena, fleet, sending).await?;
    report.expect(replayed > 0, Invariant::Expected, || "nothing was replayed".to_owned());
    report.fact(format!("{} tables locked, {tangles} sessions in the way, {deadlocks} of them gave up", TABLES.len()));
    report.fact(format!("{replayed} replayed"));
    Ok(report)
}

/// P7: a transaction that somebody forgot keeps dead rows from being removed; claims must not pay for it.
pub(crate) async fn xmin_held(arena: Arena) -> Result<Report> {
    const PHASE: u32 = 7;
    /// How much slower a claim may be, and what is noise on a busy machine.
    const SLOWER: f64 = 2.0;
    const NOISE: f64 = 0.002;
    // Enough lanes in motion that their dead rows would show, and few enough places that many of them have to be claimed.
    let sinks = ["crm", "audit"].map(|name| (name, slow(Duration::from_millis(10)))).into();
    let setting = Setting { delivery: "concurrency = 2", concurrency: Some(2), ..Setting::default() };
    let fleet = Fleet::set(&arena, sinks, &setting, 2).await?;
    let load = steady(&arena, 250, PHASE);
    let claims = async || {
        let (sum, count) = ("birdwire_claim_seconds_sum", "birdwire_claim_seconds_count");
        anyhow::Ok((fleet.total(sum).await?, fleet.total(count).await?))
    };
    let mean = |from: (f64, f64), to: (f64, f64)| (to.0 - from.0) / (to.1 - from.1).max(1.0);

    let start = claims().await?;
    fleet.sender.run(load).await?;
    fleet.settle(arena.patience(30)).await?;
    let before = claims().await?;
    let holder = fleet.database.connect().await?;
    holder.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT txid_current(), count(*) FROM lanes").await?;
    let (first, last) = load.messages;
    fleet.sender.run(Load { messages: (last + 1, 2 * last + 1 - first), ..load }).await?;
    fleet.settle(arena.patience(30)).await?;
    let after = claims().await?;
    let dead = fleet.database.number("SELECT n_dead_tup FROM pg_stat_user_tables WHERE relname = 'lanes'").await?;
    holder.batch_execute("COMMIT").await?;

    let (normal, held) = (mean(start, before), mean(before, after));
    let mut report = fleet.finish().await?;
    report.expect(before.1 > start.1 && after.1 > before.1, Invariant::Expected, || "no claims were timed".to_owned());
    report.expect(held <= SLOWER * normal + NOISE, Invariant::Expected, || {
        format!("a claim took {:.1} ms before, {:.1} ms while xmin was held", normal * 1e3, held * 1e3)
    });
    report.fact(format!("a claim {:.1} ms, then {:.1} ms with {dead} dead lanes", normal * 1e3, held * 1e3));
    Ok(report)
}
