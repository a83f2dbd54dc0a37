//! Several nodes as one gateway: killed, replaced, in each other's way, and of different opinions about the time.

use super::database::{recovered, sending, steady};
use crate::ends::slow;
use crate::fleet::{Fleet, LEASE, READY, SHORT_LEASES};
use crate::ledger::{Answer, Delivery};
use crate::node::{Setting, total};
use crate::sender::Load;
use crate::sink::{Act, Program};
use crate::stage::{Arena, END, Report, moody, rate, willing};
use crate::verdict::{Invariant, one_at_a_time, punctual};
use anyhow::{Context, Result};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

/// M6 and P1: three nodes, of which one after the other is killed, and a database that falls twice; order holds.
pub(crate) async fn kills(arena: Arena) -> Result<Report> {
    const NODES: usize = 3;
    const KILLS: usize = 6;
    /// Before which kills the database falls too.
    const FALLS: [usize; 2] = [2, 4];
    let mut random = fastrand::Rng::with_seed(arena.seed);
    let setting = Setting { delivery: SHORT_LEASES, ..Setting::default() };
    let mut fleet = Fleet::set(&arena, vec![("crm", willing()), ("moody", moody(arena.seed))], &setting, NODES).await?;
    let load = steady(&arena, 150, 10);
    let sending = sending(&fleet, load);
    let part = load.webhooks() / (KILLS + 1);
    let (mut slowest, mut recovery) = (Duration::ZERO, Duration::ZERO);
    for kill in 0..KILLS {
        let at = part * (kill + 1) - random.usize(0..part.max(1));
        fleet.sender.until(arena.patience(60), |progress| progress.taken >= at).await?;
        if FALLS.contains(&kill) {
            fleet.note_fault();
            fleet.database.stop().await?;
            fleet.database.start().await?;
            recovery = recovery.max(fleet.ready(READY).await.context("I7: no recovery after the database's")?);
        }
        let victim = random.usize(..NODES);
        fleet.kill(victim)?;
        sleep(Duration::from_millis(random.u64(100..600))).await;
        let began = Instant::now();
        fleet.node(victim).start().await?;
        slowest = slowest.max(began.elapsed());
    }
    let (mut report, _) = recovered(&arena, fleet, sending).await?;
    report.expect(slowest <= arena.patience(5), Invariant::Recovery, || format!("a restart took {slowest:?}"));
    report.fact(format!("{KILLS} kills, slowest restart {slowest:.0?}"));
    report.fact(format!("database down {} times, nodes ready after it in {recovery:.0?}", FALLS.len()));
    Ok(report)
}

/// N1: the same webhooks at every node at once, many times each.
pub(crate) async fn same_webhook(arena: Arena) -> Result<Report> {
    const NODES: usize = 3;
    const TIMES: usize = 10;
    let fleet = Fleet::set(&arena, vec![("crm", willing()), ("audit", willing())], &Setting::default(), NODES).await?;
    let rounds = usize::try_from(arena.count(20))?;
    let mut odd = Vec::new();
    for round in 1..=rounds {
        // A new dialog each time: it too must become one conversation, not three.
        let webhook = fleet.sender.webhook(u64::try_from(round)?, 1)?;
        let mut posts = JoinSet::new();
        for post in 0..NODES * TIMES {
            let (sender, webhook) = (fleet.sender.clone(), webhook.clone());
            posts.spawn(async move { sender.post_to(post % NODES, &webhook).await });
        }
        while let Some(answer) = posts.join_next().await {
            let answer = answer.context("the provider broke")?;
            if answer != Answer::Status(200, None) {
                odd.push(answer);
            }
        }
    }
    fleet.settle(arena.patience(10)).await?;
    let mut report = fleet.finish().await?;
    let count = |state: &str| report.events.iter().filter(|event| event.state == state).count();
    let (stored, repeats) = (count("stored"), count("duplicate"));
    report.expect(odd.is_empty(), Invariant::Expected, || {
        format!("{} answers are not 200: {:?}", odd.len(), odd.first())
    });
    report.expect((stored, repeats) == (rounds, rounds * (NODES * TIMES - 1)), Invariant::Honest, || {
        format!("{stored} stored and {repeats} duplicate events are listed")
    });
    report.fact(format!("{stored} stored, {repeats} repeats"));
    Ok(report)
}

/// M1: a backlog becomes due at once, and several nodes claim from it.
pub(crate) async fn claims(arena: Arena) -> Result<Report> {
    const NODES: usize = 4;
    /// Two nodes alone would need three seconds with this, and every node looks for work once a second.
    const ANSWER: Duration = Duration::from_millis(100);
    const NAMES: [&str; 10] = ["s0", "s1", "s2", "s3", "s4", "s5", "s6", "s7", "s8", "s9"];
    // 410 disables a subscriber, whose backlog then grows until somebody enables it.
    let open = Arc::new(AtomicBool::new(false));
    let sink = |name: &'static str| -> (&str, Program) {
        let gate = open.clone();
        let answer = move || if gate.load(Ordering::Acquire) { Act::Delay(ANSWER, 200) } else { Act::Answer(410) };
        (name, Box::new(move |_, _| answer()))
    };
    let setting = Setting { delivery: "concurrency = 32", concurrency: Some(32), ..Setting::default() };
    let mut fleet = Fleet::prepare(&arena, NAMES.map(sink).into(), &setting, NODES, false).await?;
    fleet.node(0).start().await?;
    fleet.sender.run(Load { dialogs: 1, messages: (1, 1), ..arena.load(1, 1) }).await?;
    for sink in &fleet.sinks {
        sink.until_seen(1, arena.patience(10)).await?;
    }
    // Ten times as many deliveries as webhooks and conversations.
    fleet.sender.run(arena.load(400, 4)).await?;
    for member in 1..NODES {
        fleet.node(member).spawn()?;
    }
    fleet.ready(READY).await?;
    let backlog = fleet.owed() * NAMES.len();

    open.store(true, Ordering::Release);
    let began = Instant::now();
    let mut commands = JoinSet::new();
    for name in NAMES {
        let beside = fleet.beside();
        commands.spawn_blocking(move || beside.run(&["subscribers", "enable", name]));
    }
    while let Some(done) = commands.join_next().await {
        done.context("a command broke")??;
    }
    fleet.settle(arena.patience(60)).await?;
    let took = began.elapsed();
    let lost = fleet.total("birdwire_leases_lost_total").await?;
    let mut shares = Vec::with_capacity(NODES);
    for member in &fleet.members {
        shares.push(total(&member.node.metrics().await?, "birdwire_attempts_total"));
    }
    let mut report = fleet.finish().await?;
    let duplicates = report.duplicates;
    report.expect(duplicates == 0, Invariant::BoundedDuplicates, || format!("{duplicates} claimed twice"));
    report.expect(lost == 0.0, Invariant::Expected, || format!("{lost} leases were lost, and nobody died"));
    report.expect(shares.iter().all(|share| *share > 0.0), Invariant::Expected, || {
        format!("a node took no part: {shares:?}")
    });
    report.fact(format!("a backlog of {backlog}, {shares:?} attempts"));
    report.fact(rate(backlog, took).replace("webhooks", "deliveries"));
    Ok(report)
}

/// M4: every node is replaced, one after the other, and the sender does not notice.
pub(crate) async fn rolling(arena: Arena) -> Result<Report> {
    const NODES: usize = 3;
    let previous = std::env::var_os("BIRDWIRE_PREVIOUS").map(PathBuf::from);
    let mut fleet = Fleet::prepare(&arena, vec![("crm", willing())], &Setting::default(), NODES, false).await?;
    for member in &mut fleet.members {
        member.node.replace(previous.as_deref());
    }
    fleet.start().await?;
    let load = steady(&arena, 120, 9);
    let sending = sending(&fleet, load);
    let mut slowest = Duration::ZERO;
    for member in 0..NODES {
        let at = load.webhooks() * (member + 1) / (NODES + 1);
        fleet.sender.until(arena.patience(60), |progress| progress.taken >= at).await?;
        fleet.note_memory()?;
        let began = Instant::now();
        fleet.node(member).terminate()?;
        let status = fleet.node(member).ended(END).await?;
        anyhow::ensure!(status.success(), "SIGTERM ended {} with {status}", fleet.node(member).name());
        fleet.node(member).replace(None);
        fleet.node(member).start().await?;
        slowest = slowest.max(began.elapsed());
    }
    let turned_away = fleet.sender.clone();
    let (mut report, _) = recovered(&arena, fleet, sending).await?;
    let turned_away = turned_away.progress().turned_away;
    report.expect(turned_away == 0, Invariant::Expected, || format!("{turned_away} webhooks found no node"));
    report.fact(match &previous {
        Some(program) => format!("from {} to this version", program.display()),
        None => "no previous version was given: from this version to itself".to_owned(),
    });
    report.fact(format!("slowest replacement {slowest:.1?}"));
    Ok(report)
}

/// T2: two nodes whose clocks are five minutes apart. Leases hold, and what is to be tried again is when it is due.
pub(crate) async fn clocks(arena: Arena) -> Result<Report> {
    const RETRY: Duration = Duration::from_secs(1);
    /// A quarter of it is added by chance; the rest is for a busy machine.
    const LATEST: Duration = Duration::from_secs(3);
    let setting = Setting { delivery: "first_retry = \"1s\"\nmax_retry = \"4s\"", ..Setting::default() };
    let refuses = |d: &Delivery, before| Act::Answer(if d.sequence % 3 == 1 && before == 0 { 503 } else { 200 });
    let mut fleet = Fleet::prepare(&arena, vec![("crm", Box::new(refuses))], &setting, 2, false).await?;
    // Five minutes apart, but neither so wrong that subscribers take its signatures for old ones.
    fleet.node(0).options(&["--clock-offset", "150s"]);
    fleet.node(1).options(&["--clock-offset", "-150s"]);
    fleet.start().await?;
    let load = steady(&arena, 100, 6);
    fleet.sender.run(load).await?;
    let drained = fleet.settle(arena.patience(30)).await?;
    let late = punctual(&fleet.sink("crm")?.ledger(), RETRY, LATEST);
    let lost = fleet.total("birdwire_leases_lost_total").await?;
    let mut report = fleet.finish().await?;
    let duplicates = report.duplicates;
    report.violations.extend(late);
    report.expect(lost == 0.0, Invariant::Expected, || format!("{lost} leases were lost, and nobody died"));
    report.expect(duplicates == 0, Invariant::BoundedDuplicates, || format!("{duplicates} without any fault"));
    report.fact(format!("drained {drained:.0?} later"));
    Ok(report)
}

/// T3: a node is suspended for longer than its leases, with attempts in its hands; what it says when it wakes is void.
pub(crate) async fn suspended(arena: Arena) -> Result<Report> {
    const PLACES: usize = 8;
    /// Until the other looks again after the leases, and has sent what was behind them.
    const LATER: Duration = Duration::from_secs(4);
    let setting = Setting {
        delivery: "concurrency = 8\nattempt_timeout = \"1s\"\nlease = \"7s\"\nfirst_retry = \"50ms\"\nmax_retry = \"400ms\"",
        concurrency: Some(PLACES),
        ..Setting::default()
    };
    let mut fleet = Fleet::set(&arena, vec![("crm", slow(Duration::from_millis(60)))], &setting, 2).await?;
    fleet.sender.run(arena.load(50, 10)).await?;
    let owed = fleet.owed();
    fleet.sink("crm")?.until(owed / 3, arena.patience(20)).await?;
    fleet.node(0).freeze()?;
    let began = Instant::now();
    fleet.lose_leases();
    fleet.settle(LEASE + LATER).await?;
    let over = began.elapsed();
    let taken = fleet.sink("crm")?.taken();
    sleep((LEASE + Duration::from_secs(1)).saturating_sub(began.elapsed())).await;
    fleet.node(0).thaw()?;
    let ready = fleet.ready(READY).await.context("I7: no recovery")?;
    sleep(Duration::from_secs(1)).await;
    let lost = total(&fleet.node(0).metrics().await?, "birdwire_leases_lost_total");
    let mut report = fleet.finish().await?;
    report.expect(taken == owed, Invariant::Recovery, || {
        format!("{over:.0?} after its suspension the other has taken over {taken} of {owed} only")
    });
    report.expect(lost > 0.0, Invariant::Expected, || "it was believed after its leases had ended".to_owned());
    report.fact(format!("taken over {over:.1?} after the suspension, ready again in {ready:.0?}, {lost} leases lost"));
    Ok(report)
}

/// Writes down whose look for old webhooks it was: every node has a role of its own.
const SWEEPS: &str = "
    CREATE TABLE sweeps (id bigserial, who text NOT NULL DEFAULT current_user);
    CREATE FUNCTION swept() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN INSERT INTO sweeps DEFAULT VALUES; RETURN NULL; END $$;
    CREATE TRIGGER swept AFTER DELETE ON webhooks_rest FOR EACH STATEMENT EXECUTE FUNCTION swept();";

/// M5: one node at a time removes old rows; when it dies another does, once its lease on the duty has ended.
pub(crate) async fn janitor(arena: Arena) -> Result<Report> {
    const NODES: usize = 3;
    const DUTY: &str = "retention";
    /// Enough for each node to have looked.
    const ROUNDS: Duration = Duration::from_secs(3);
    let mut fleet = Fleet::prepare(&arena, vec![("crm", willing())], &Setting::default(), NODES, false).await?;
    for node in 0..NODES {
        fleet.node(node).options(&["--janitor-every", "500ms"]);
    }
    fleet.start().await?;
    fleet.database.run(SWEEPS).await?;
    fleet.database.run("INSERT INTO webhooks SELECT -i, 1, 1, 1, '[]', '' FROM generate_series(1, 2000) i").await?;
    fleet.sender.run(arena.load(20, 5)).await?;
    sleep(ROUNDS).await;
    let holders = |fleet: &Fleet| -> Result<usize> {
        let nodes = fleet.beside().nodes()?;
        Ok(nodes.iter().filter(|node| node.duties.iter().any(|duty| duty == DUTY)).count())
    };
    let before = holders(&fleet)?;
    let rest = fleet.database.number("SELECT count(*) FROM webhooks WHERE id < 0").await?;
    let first = who(&fleet).await?.last().cloned().context("nobody looked for old rows")?;
    let victim = fleet.members.iter().position(|m| m.node.name() == first).context("nobody's role")?;
    fleet.kill(victim)?;
    // It died with the duty, which nobody else has before its lease ends.
    let died_at = who(&fleet).await?.len();
    sleep(ROUNDS).await;
    let meanwhile = who(&fleet).await?.len() - died_at;
    // A minute and a half later. This is the only clock that counts, so it need not be waited for.
    fleet.database.run("UPDATE duties SET until = until - 90 * 1000000").await?;
    let ended = Instant::now();
    while who(&fleet).await?.last() == Some(&first) {
        anyhow::ensure!(ended.elapsed() < ROUNDS, "nobody takes the duty of {first} over");
        sleep(Duration::from_millis(50)).await;
    }
    let over = ended.elapsed();
    sleep(ROUNDS).await;
    fleet.node(victim).start().await?;
    sleep(ROUNDS).await;
    let (work, after) = (who(&fleet).await?, holders(&fleet)?);
    let alive = fleet.beside().nodes()?.iter().filter(|node| node.state == "alive").count();
    fleet.settle(arena.patience(20)).await?;
    let mut report = fleet.finish().await?;
    report.violations.extend(one_at_a_time(&work, 1));
    report.expect((before, after) == (1, 1), Invariant::Expected, || {
        format!("{before} nodes were listed with the duty, and {after} after the death of one")
    });
    report.expect(rest == 0, Invariant::Expected, || format!("{rest} old rows are left"));
    report
        .expect(meanwhile == 0, Invariant::Expected, || format!("{meanwhile} rounds while the dead one had the duty"));
    report.expect(alive >= NODES, Invariant::Expected, || format!("{alive} nodes are listed as alive"));
    report.fact(format!("{} rounds, taken over {over:.0?} after the lease's end", work.len()));
    Ok(report)
}

/// Who looked for old rows, in order.
async fn who(fleet: &Fleet) -> Result<Vec<String>> {
    let rows = fleet.database.rows("SELECT who FROM sweeps ORDER BY id", &[]).await?;
    rows.iter().map(|row| Ok(row.try_get(0)?)).collect()
}
