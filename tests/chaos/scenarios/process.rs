//! The process: killed at any moment, or asked to end.

use crate::sink::Act;
use crate::stage::{Arena, Report, Setting, Stage, rate, willing};
use crate::verdict::Invariant;
use anyhow::{Context, Result};
use std::time::Duration;

const KILLS: usize = 10;

/// C1: power switch, ten times, under load.
pub(crate) async fn kills(arena: Arena) -> Result<Report> {
    let mut random = fastrand::Rng::with_seed(arena.seed);
    let mut stage = Stage::set(&arena, vec![("crm", willing()), ("audit", willing())], Setting::default()).await?;
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
