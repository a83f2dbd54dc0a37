//! Group commit: while one transaction runs, the next batch gathers.
//!
//! A batch is whatever is queued: what a transaction costs is mostly what each of its statements costs, however many
//! rows they have. So there is a second transaction beside the first only when that is worth it (`queue.rs`). What cannot
//! be written alone is found by halving the batch, so that it fails nobody else; what was in others' way is tried again;
//! and what a cut connection left in doubt is tried again under the same id, which the database takes only once.

use super::connect::{Database, PATIENCE, Session, settle};
use super::error::{Failure, explain};
use super::queue::Queue;
use super::sql::Params;
use crate::metrics::Metrics;
use crate::store::StoreError;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};
use uuid::Uuid;

/// Operations in one transaction.
pub(super) const BATCH: usize = 256;

/// How often a batch is tried before its callers are told.
const TRIES: u32 = 6;

/// How long a batch in doubt is tried.
const DOUBT: Duration = Duration::from_secs(15);

/// A transaction for many callers.
pub(super) trait Flush: Send + Sync + 'static {
    type Item: Send + Sync + 'static;
    type Answer: Clone + Send + Sync + 'static;

    /// Items with the same way stay in the order in which they came: they are never in two transactions at once.
    fn way(&self, _item: &Self::Item) -> Option<u64> {
        None
    }

    /// Does everything in one transaction with the given id. Puts into `promised` what the callers are told once
    /// it is known that the commit took place, before it is sent.
    fn flush(
        &self,
        session: &Session,
        id: Uuid,
        items: &[Self::Item],
        promised: &mut Option<Vec<Self::Answer>>,
    ) -> impl Future<Output = Result<(), Failure>> + Send;

    /// What to do with one item that cannot be written, if anything.
    fn rescue(&self, _item: &mut Self::Item, _why: &str) -> bool {
        false
    }

    /// Called after a commit.
    fn committed(&self, answers: &[Self::Answer]);
}

/// Starts flushers that share a queue. They end when it is closed and empty.
pub(super) fn start<F: Flush>(
    flush: F,
    database: &Arc<Database>,
    metrics: &Metrics,
    length: usize,
    flushers: usize,
) -> (Queue<F>, Vec<JoinHandle<()>>) {
    let queue = Queue::new(Arc::new(flush), length);
    let tasks = (0..flushers.max(1)).map(|_| {
        let (database, metrics, line) = (database.clone(), metrics.clone(), queue.line());
        tokio::spawn(async move {
            while let Some(mut batch) = line.next().await {
                let answers = attend(&*line.flush, &database, &metrics, &mut batch.items).await;
                batch.answer(answers);
            }
        })
    });
    let tasks = tasks.collect();
    (queue, tasks)
}

/// One answer for each item.
async fn attend<F: Flush>(
    flush: &F,
    database: &Database,
    metrics: &Metrics,
    items: &mut [F::Item],
) -> Vec<Result<F::Answer, StoreError>> {
    match transact(flush, database, metrics, items).await {
        Ok(answers) => answers.into_iter().map(Ok).collect(),
        Err(Failure::Item(error)) if items.len() > 1 => {
            let (first, second) = items.split_at_mut(items.len() / 2);
            tracing::debug!(reason = explain(&error), "a batch is halved");
            let mut answers = Box::pin(attend(flush, database, metrics, first)).await;
            answers.extend(Box::pin(attend(flush, database, metrics, second)).await);
            answers
        }
        Err(Failure::Item(error)) => {
            let why = explain(&error);
            if items.first_mut().is_some_and(|item| flush.rescue(item, &why)) {
                return Box::pin(attend(flush, database, metrics, items)).await;
            }
            vec![Err(Failure::Item(error).into())]
        }
        Err(failure) => {
            let error = StoreError::from(failure);
            let detail = error.to_string();
            let detail = detail.strip_prefix("the store is unavailable: ").unwrap_or(&detail);
            let same = |_| Err(StoreError::Unavailable { detail: detail.to_owned(), source: None });
            items.iter().map(same).collect()
        }
    }
}

/// Tries until it is done, until nobody can do it, or until it has taken too long.
async fn transact<F: Flush>(
    flush: &F,
    database: &Database,
    metrics: &Metrics,
    items: &[F::Item],
) -> Result<Vec<F::Answer>, Failure> {
    let id = Uuid::from_u128((database.chance)());
    let began = Instant::now();
    let mut promised = None;
    let mut in_doubt = false;
    for round in 1.. {
        let timer = metrics.commit_seconds.start_timer();
        let outcome = once(flush, database, id, items, &mut promised).await;
        let failure = match outcome {
            Ok(()) | Err(Failure::Done) => {
                timer.observe_duration();
                metrics.batch_size.observe(f64::from(u32::try_from(items.len()).unwrap_or(u32::MAX)));
                metrics.commits.with_label_values(&["ok"]).inc();
                let answers = promised.unwrap_or_default();
                flush.committed(&answers);
                return Ok(answers);
            }
            Err(failure) => failure,
        };
        timer.stop_and_discard();
        metrics.commits.with_label_values(&["failed"]).inc();
        // Only what was promised may have been committed: the commit is sent after that.
        in_doubt |= promised.is_some() && matches!(failure, Failure::Away { .. });
        let give_up = match &failure {
            Failure::Item(_) => true,
            _ if in_doubt => began.elapsed() > DOUBT,
            _ => round >= TRIES || database.is_away().is_some(),
        };
        if give_up {
            return Err(failure);
        }
        let jitter = u64::try_from((database.chance)() % 1000).unwrap_or(0);
        sleep(Duration::from_micros(jitter * 5 * u64::from(round.min(20))).saturating_add(pause(&failure))).await;
    }
    Err(Failure::silent())
}

/// A connection is better waited for a moment; others' locks are gone soon.
fn pause(failure: &Failure) -> Duration {
    match failure {
        Failure::Away { .. } => Duration::from_millis(30),
        _ => Duration::from_millis(1),
    }
}

async fn once<F: Flush>(
    flush: &F,
    database: &Database,
    id: Uuid,
    items: &[F::Item],
    promised: &mut Option<Vec<F::Answer>>,
) -> Result<(), Failure> {
    let session = database.session().await?;
    let outcome = timeout(PATIENCE, flush.flush(&session, id, items, promised)).await;
    settle(database, session, outcome).await
}

/// Begins a transaction that takes place once: `Done` when it has.
pub(super) async fn begin(session: &Session, id: Uuid, now: Option<i64>) -> Result<(), Failure> {
    let mark = session
        .prepare_cached(
            "INSERT INTO flushes (id, at)
             VALUES ($2, coalesce($1::bigint, (extract(epoch FROM statement_timestamp()) * 1000000)::bigint))
             ON CONFLICT DO NOTHING",
        )
        .await?;
    let params: Params<'_> = &[&now, &id];
    let (begun, marked) = tokio::join!(biased; session.batch_execute("BEGIN"), session.execute(&mark, params));
    begun?;
    if marked? == 0 { Err(Failure::Done) } else { Ok(()) }
}
