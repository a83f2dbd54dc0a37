//! The process: killed at any moment, or asked to end.

use crate::ledger::Delivery;
use crate::sink::Act;
use crate::stage::{Arena, Report, Setting, Stage, moody, rate, willing};
use crate::verdict::Invariant;
use anyhow::{Context, Result};
use std::time::Duration;

const KILLS: usize = 10;

/// C1: power switch, ten times, under load; one subscriber takes everything at once, the other is moody.
pub(crate) async fn kills(arena: Arena) -> Result<Report> {
    let mut random = fastrand::Rng::with_seed(arena.seed);
    let setting = Setting { delivery: "first_retry = \"20ms\"\nmax_retry = \"100ms\"", ..Setting::default() };
    let mut stage = Stage::set(&arena, vec![("crm", willing()), ("moody", moody(arena.seed))], setting).await?;
    let load = arena.load(50, 40);
    let sender = stage.sender.clone();
    let sending = tokio::spawn(async move { sender.run(load).await });

    // One kill in each of ten equal parts of the run, somewhere, a few milliseconds off any request's end.
    let mut slowest = Duration::ZERO;
    let part = load.webhooks() / (KILLS + 1);
    for kill in 0..KILLS {
        let at = part * (kill + 1) - random.usize(0..part.max(1));
        stage.sender.until(arena.patience(60), |progress| progress.taken >= at).await?;
        tokio::time::sleep(Duration::from_micros(random.u64(0..30_000))).await;
        slowest = slowest.max(stage.kill_and_restart().await?);
    }

    let took = sending.await.context("the provider broke")??;
    let drained = stage.settle(arena.patience(60)).await?;
    let silence = stage.longest_silence();
    let mut report = stage.finish().await?;
    report.expect(slowest <= arena.patience(5), Invariant::Expected, || format!("a restart took {slowest:?}"));
    report.fact(format!("{KILLS} kills"));
    report.fact(format!("slowest restart {slowest:.0?}"));
    report.fact(format!("longest silence {silence:.0?}"));
    report.fact(rate(load.webhooks(), took));
    report.fact(format!("drained {drained:.0?} later"));
    Ok(report)
}

/// C8: killed while it starts, again and again, first on an empty folder, then on one with leases to void.
pub(crate) async fn crash_loop(arena: Arena) -> Result<Report> {
    const STARTS: usize = 15;
    let mut random = fastrand::Rng::with_seed(arena.seed);
    let mut stage = Stage::prepare(&arena, vec![("crm", willing())], Setting::default()).await?;
    stage.crash_while_starting(STARTS, &mut random).await?;
    stage.node.start().await?;

    let load = arena.load(50, 10);
    let sender = stage.sender.clone();
    let sending = tokio::spawn(async move { sender.run(load).await });
    stage.sender.until(arena.patience(60), |progress| progress.taken >= load.webhooks() / 2).await?;
    stage.kill()?;
    stage.crash_while_starting(STARTS, &mut random).await?;
    stage.node.start().await?;
    sending.await.context("the provider broke")??;
    stage.settle(arena.patience(60)).await?;
    let mut report = stage.finish().await?;
    report.fact(format!("{} starts killed", 2 * STARTS));
    Ok(report)
}

/// C4: SIGTERM while every delivery hangs: the drain has an end, and what was dropped is delivered later.
pub(crate) async fn terminate_hanging(arena: Arena) -> Result<Report> {
    const DRAIN: Duration = Duration::from_secs(1);
    let setting = Setting {
        server: r#"drain_timeout = "1s""#,
        delivery: "first_retry = \"20ms\"\nmax_retry = \"100ms\"",
        ..Setting::default()
    };
    let hang = Box::new(|_: &Delivery, before: usize| if before == 0 { Act::Hang } else { Act::Answer(200) });
    let mut stage = Stage::set(&arena, vec![("crm", hang)], setting).await?;
    let load = arena.load(30, 1);
    stage.sender.run(load).await?;
    let dialogs = usize::try_from(load.dialogs)?;
    stage.sink("crm")?.until_seen(dialogs, arena.patience(20)).await?;

    let began = tokio::time::Instant::now();
    stage.node.terminate()?;
    let status = stage.node.ended(DRAIN + Duration::from_secs(5)).await?;
    let ended = began.elapsed();
    stage.node.start().await?;
    // The messages behind the conversations hang once too; the second SIGTERM is the one that cannot wait.
    stage.sink("crm")?.until_seen(3 * dialogs, arena.patience(20)).await?;
    let began = tokio::time::Instant::now();
    stage.node.terminate()?;
    // Two signals that come before the first is seen are one.
    stage.node.until_said("draining", 2, DRAIN).await?;
    stage.node.terminate()?;
    let halted = stage.node.ended(DRAIN + Duration::from_secs(5)).await?;
    let halt = began.elapsed();
    stage.node.start().await?;
    stage.settle(arena.patience(30)).await?;
    let mut report = stage.finish().await?;
    report.expect(status.success() && halted.success(), Invariant::Expected, || {
        format!("SIGTERM ended it with {status}, and twice with {halted}")
    });
    let late = DRAIN + Duration::from_millis(500);
    report.expect(ended <= late, Invariant::Expected, || format!("SIGTERM took {ended:?}"));
    report.expect(halt < DRAIN / 2, Invariant::Expected, || format!("SIGTERM, twice, took {halt:?}"));
    report.fact(format!("{} hung, ended in {ended:.0?}, halted in {halt:.0?}", 2 * dialogs));
    Ok(report)
}

/// C4 and D6: a second gateway is refused; SIGTERM under load ends the first in good order.
pub(crate) async fn terminate(arena: Arena) -> Result<Report> {
    const DRAIN: Duration = Duration::from_secs(5);
    let slow = || Act::Delay(Duration::from_millis(5), 200);
    let setting = Setting { server: r#"drain_timeout = "5s""#, ..Setting::default() };
    let mut stage = Stage::set(&arena, vec![("crm", Box::new(move |_, _| slow()))], setting).await?;
    let load = arena.load(50, 20);
    let sender = stage.sender.clone();
    let sending = tokio::spawn(async move { sender.run(load).await });
    let half = load.webhooks() / 2;
    stage.sender.until(arena.patience(60), |progress| progress.taken >= half / 2).await?;

    let mut second = stage.another("second")?;
    second.spawn()?;
    let refused = second.ended(arena.patience(10)).await?;
    let said = second.said()?;

    stage.sender.until(arena.patience(60), |progress| progress.taken >= half).await?;
    stage.note_memory()?;
    let began = tokio::time::Instant::now();
    stage.node.terminate()?;
    let status = stage.node.ended(DRAIN + Duration::from_secs(2)).await?;
    let ended = began.elapsed();
    let owed = stage.owed().saturating_sub(stage.sink("crm")?.taken());
    stage.node.start().await?;

    sending.await.context("the provider broke")??;
    stage.settle(arena.patience(60)).await?;
    let mut report = stage.finish().await?;
    report.expect(!refused.success() && said.contains("another birdwire serves"), Invariant::Expected, || {
        format!("a second gateway on the store ended with {refused} and said {said:?}")
    });
    report.expect(status.success(), Invariant::Expected, || format!("SIGTERM ended it with {status}"));
    report.expect(ended <= DRAIN, Invariant::Expected, || format!("SIGTERM took {ended:?}"));
    report.fact(format!("ended in {ended:.0?}, {owed} owed"));
    Ok(report)
}
