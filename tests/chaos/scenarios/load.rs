//! No fault but the load itself.

use crate::ledger::Answer;
use crate::stage::{Arena, Report, Setting, Stage, rate, willing};
use crate::verdict::Invariant;
use anyhow::{Context, Result};
use tokio::task::JoinSet;

/// I8: the memory that the gateway may take under load, in KiB.
const MEMORY: u64 = 64 * 1024;

/// The default configuration under load: bounded memory, nothing twice.
pub(crate) async fn load(arena: Arena) -> Result<Report> {
    let stage = Stage::set(&arena, vec![("crm", willing())], Setting::default()).await?;
    let load = arena.load(50, 50);
    let sender = stage.sender.clone();
    let sending = tokio::spawn(async move { sender.run(load).await });
    stage.sender.until(arena.patience(60), |progress| progress.taken >= load.webhooks() / 2).await?;
    // An operator may look while it works.
    let seen = stage.node.beside().events()?.len();
    let took = sending.await.context("the provider broke")??;
    let drained = stage.settle(arena.patience(60)).await?;
    let mut report = stage.finish().await?;
    let (peak, duplicates) = (report.peak, report.duplicates);
    report.expect(seen >= load.webhooks() / 2, Invariant::Honest, || format!("under load only {seen} events are seen"));
    report.expect(peak < MEMORY, Invariant::Bounds, || format!("the gateway took {peak} KiB"));
    report.expect(duplicates == 0, Invariant::BoundedDuplicates, || format!("{duplicates} without any fault"));
    report.fact(rate(load.webhooks(), took));
    report.fact(format!("drained {drained:.0?} later"));
    Ok(report)
}

/// N1: the same webhook a hundred times at once.
pub(crate) async fn same_webhook(arena: Arena) -> Result<Report> {
    const TIMES: usize = 100;
    let stage = Stage::set(&arena, vec![("crm", willing()), ("audit", willing())], Setting::default()).await?;
    let webhook = stage.sender.webhook(1, 1)?;
    let mut posts = JoinSet::new();
    for _ in 0..TIMES {
        let (sender, webhook) = (stage.sender.clone(), webhook.clone());
        posts.spawn(async move { sender.post(&webhook).await });
    }
    let mut odd = Vec::new();
    while let Some(answer) = posts.join_next().await {
        let answer = answer.context("the provider broke")?;
        if answer != Answer::Status(200, None) {
            odd.push(answer);
        }
    }
    stage.settle(arena.patience(10)).await?;
    let mut report = stage.finish().await?;
    let count = |state: &str| report.events.iter().filter(|event| event.state == state).count();
    let (stored, repeats) = (count("stored"), count("duplicate"));
    report.expect(odd.is_empty(), Invariant::Expected, || format!("{} answers are not 200: {odd:?}", odd.len()));
    report.expect((stored, repeats) == (1, TIMES - 1), Invariant::Honest, || {
        format!("{stored} stored and {repeats} duplicate events are listed")
    });
    report.fact(format!("{stored} stored, {repeats} repeats"));
    Ok(report)
}
