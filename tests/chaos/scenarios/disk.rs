//! The disk: full while webhooks come in.

use crate::ledger::Answer;
use crate::stage::{Arena, Report, Setting, Stage, willing};
use crate::verdict::Invariant;
use anyhow::{Context, Result};
use std::time::Duration;

const LONGER_THAN_LEASES: Duration = Duration::from_secs(8);

/// What the store's files may still grow when the limit comes.
const ROOM: u64 = 256 * 1024;

/// D1: a limit on the size of files stands in for a full disk: the same failed writes, on any machine, as any user.
pub(crate) async fn full(arena: Arena) -> Result<Report> {
    let setting = Setting { delivery: "attempt_timeout = \"1s\"\nlease = \"7s\"", ..Setting::default() };
    let stage = Stage::set(&arena, vec![("crm", willing())], setting).await?;
    let before = arena.load(50, 6);
    stage.sender.run(before).await?;

    stage.node.limit_files(Some(stage.largest_file()? + ROOM))?;
    let first = before.messages.1 + 1;
    let mut during = arena.load(50, 30);
    during.messages = (first, first + during.messages.1);
    let sender = stage.sender.clone();
    let sending = tokio::spawn(async move { sender.run(during).await });
    stage.sender.until(arena.patience(60), |progress| progress.refused >= 20).await?;
    // I9: visible within ten seconds, and says why.
    let seen = stage.node.until_ready(Duration::from_secs(10), |status, text| status == 503 && text.contains("disk"));
    let (_, why) = seen.await.context("the full disk is not visible")?;
    // Leases run out meanwhile; what was taken but cannot be recorded must not be sent again for that.
    tokio::time::sleep(LONGER_THAN_LEASES).await;

    stage.node.limit_files(None)?;
    let began = tokio::time::Instant::now();
    stage.node.until_ready(Duration::from_secs(5), |status, _| status == 200).await.context("no recovery")?;
    let recovered = began.elapsed();
    sending.await.context("the provider broke")??;
    stage.settle(arena.patience(60)).await?;

    let requests = stage.sender.ledger();
    let refused = requests.iter().filter(|r| matches!(r.answer, Answer::Status(503, Some(_)))).count();
    let odd: Vec<&Answer> = requests
        .iter()
        .map(|r| &r.answer)
        .filter(|a| !a.is_taken() && !matches!(a, Answer::Status(503, Some(_))))
        .collect();
    let mut report = stage.finish().await?;
    report.expect(odd.is_empty(), Invariant::Expected, || {
        format!("{} answers are neither 200 nor 503 with Retry-After: {:?}", odd.len(), odd.first())
    });
    report.fact(format!("{refused} refused"));
    report.fact(format!("ready again in {recovered:.0?}"));
    report.fact(format!("/readyz said {:?}", why.trim()));
    Ok(report)
}
