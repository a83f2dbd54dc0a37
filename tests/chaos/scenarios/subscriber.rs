//! Subscribers that fail or hang.

use crate::ledger::{Delivery, Reply};
use crate::sender::Load;
use crate::sink::Act;
use crate::stage::{Arena, Report, Setting, Stage, willing};
use crate::verdict::Invariant;
use anyhow::Result;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Every conversation begins with five failures; nothing overtakes.
pub(crate) async fn failing(arena: Arena) -> Result<Report> {
    const FAILURES: usize = 5;
    let setting = Setting { delivery: "first_retry = \"20ms\"\nmax_retry = \"100ms\"", ..Setting::default() };
    let program = Box::new(|delivery: &Delivery, before: usize| {
        Act::Answer(if delivery.sequence == 1 && before < FAILURES { 500 } else { 200 })
    });
    let stage = Stage::set(&arena, vec![("crm", program)], setting).await?;
    let load = arena.load(50, 10);
    stage.sender.run(load).await?;
    let drained = stage.settle(arena.patience(30)).await?;
    let failures = stage.sink("crm")?.ledger().iter().filter(|d| d.reply == Reply::Status(500)).count();
    let mut report = stage.finish().await?;
    let wanted = usize::try_from(load.dialogs)? * FAILURES;
    report.expect(failures == wanted, Invariant::Expected, || format!("{failures} failures instead of {wanted}"));
    report.fact(format!("{failures} failures"));
    report.fact(format!("drained {drained:.0?} later"));
    Ok(report)
}

/// R10: one subscriber hangs, the other does not notice.
pub(crate) async fn hanging(arena: Arena) -> Result<Report> {
    const PLACES: usize = 8;
    let setting = Setting {
        delivery: "concurrency = 8\nattempt_timeout = \"2s\"\nfirst_retry = \"50ms\"\nmax_retry = \"200ms\"",
        concurrency: Some(PLACES),
        ..Setting::default()
    };
    let open = Arc::new(AtomicBool::new(false));
    let gate = open.clone();
    let program =
        Box::new(move |_: &Delivery, _: usize| if gate.load(Ordering::Acquire) { Act::Answer(200) } else { Act::Hang });
    let stage = Stage::set(&arena, vec![("healthy", willing()), ("hanging", program)], setting).await?;
    // At a steady pace, so that the healthy one has no backlog of its own to explain a delay with.
    let load = Load { rate: Some(300.0), ..arena.load(50, 20) };
    stage.sender.run(load).await?;
    let began = tokio::time::Instant::now();
    stage.sink("healthy")?.until(stage.owed(), arena.patience(30)).await?;
    let healthy = began.elapsed();

    let (hanging_took, hung) = {
        let hanging = stage.sink("hanging")?;
        (hanging.taken(), hanging.ledger().len())
    };
    open.store(true, Ordering::Release);
    let recovered = stage.settle(arena.patience(60)).await?;
    let mut report = stage.finish().await?;
    report.expect(hanging_took == 0, Invariant::Expected, || format!("the hanging one took {hanging_took}"));
    report.expect(hung >= PLACES, Invariant::Expected, || format!("only {hung} deliveries hung, not {PLACES}"));
    report.fact(format!("healthy one {healthy:.0?} behind"));
    report.fact(format!("the other {recovered:.0?} after it woke"));
    Ok(report)
}
