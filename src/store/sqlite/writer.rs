//! The one thread that writes.
//!
//! Group commit: while one commit runs the next batch gathers; a batch is whatever is queued, one transaction, one
//! sync, and each caller is answered after its own commit. A batch with a bad row is done again, with a savepoint for
//! each item, so that the row fails alone. There is no waiting to make batches bigger: measured, it gains nothing.

use super::checkpoint::Opened;
use super::error::{Blame, blame, explain, unavailable};
use super::memory::Memory;
use super::statements::{Hot, Run, Statements};
use crate::metrics::Metrics;
use crate::store::StoreError;
use crate::store::lane::{Leased, Place, Taker};
use rusqlite::{Connection, ToSql};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, Semaphore, mpsc, oneshot, watch};

/// Operations in one transaction; more only makes the first of them wait longer.
const BATCH: usize = 256;

/// Operations that can wait have one of so many parts of the queue.
const SHARE: usize = 8;

/// How long a restart of the log waits for readers.
const RESTART_PATIENCE: Duration = Duration::from_millis(50);

/// What an operation sees of the transaction it is part of.
pub(super) struct Tx<'c> {
    pub(super) connection: &'c Connection,
    pub(super) memory: &'c mut Memory,
    /// The statements of every message.
    pub(super) statements: &'c mut dyn Run,
    /// Set when lanes became due.
    pub(super) work: bool,
    /// Lanes to be handed over after the commit.
    pub(super) handed: Vec<Handed>,
    /// Who takes them.
    pub(super) taker: Option<&'c Arc<dyn Taker>>,
    /// Whether the operation can be undone without the others of its batch.
    pub(super) is_careful: bool,
}

impl Tx<'_> {
    /// Runs a statement of every message.
    pub(super) fn run(&mut self, statement: Hot, params: &[&dyn ToSql]) -> rusqlite::Result<()> {
        self.statements.run(statement, params)
    }

    /// Undoes what this operation wrote, so that it can write something else instead.
    pub(super) fn undo(&mut self) -> rusqlite::Result<()> {
        self.work = false;
        self.handed.clear();
        self.connection.prepare_cached("ROLLBACK TO item")?.execute([])?;
        self.memory.forget_item(self.connection)
    }
}

/// A lane on lease, for somebody who has a place for it. What becomes nothing is given back.
pub(super) struct Handed {
    what: Option<(Leased, Place)>,
    /// The lane.
    pub(super) lane: i64,
    /// The event downstream that is at its head.
    pub(super) outbox: i64,
    taker: Arc<dyn Taker>,
}

impl Handed {
    pub(super) fn new(taker: Arc<dyn Taker>, leased: Leased, place: Place, outbox: i64) -> Self {
        Self { lane: leased.lease.lane, what: Some((leased, place)), outbox, taker }
    }

    /// Its lease is committed.
    fn over(mut self) {
        if let Some((leased, place)) = self.what.take() {
            self.taker.take(leased, place);
        }
    }
}

impl Drop for Handed {
    fn drop(&mut self) {
        if let Some((leased, place)) = self.what.take() {
            self.taker.give_back(&leased.subscriber, place);
        }
    }
}

trait Work: Send {
    fn run(&mut self, tx: &mut Tx<'_>) -> rusqlite::Result<()>;
    fn finish(self: Box<Self>, outcome: Result<(), StoreError>);
}

struct Job<T, F> {
    run: F,
    result: Option<T>,
    reply: oneshot::Sender<(Result<T, StoreError>, F)>,
}

impl<T: Send, F: FnMut(&mut Tx<'_>) -> rusqlite::Result<T> + Send> Work for Job<T, F> {
    fn run(&mut self, tx: &mut Tx<'_>) -> rusqlite::Result<()> {
        self.result = Some((self.run)(tx)?);
        Ok(())
    }

    fn finish(self: Box<Self>, outcome: Result<(), StoreError>) {
        let Job { run, result, reply } = *self;
        let answer = outcome.and_then(|()| result.ok_or_else(stopped));
        // A caller that went away does not need the answer. The operation goes back to be freed where it was made: it is
        // a hundred pieces of memory, and there is only one writer.
        drop(reply.send((answer, run)));
    }
}

fn stopped() -> StoreError {
    StoreError::Stopped { detail: "its writer is gone".to_owned() }
}

/// The handle to the writing thread.
pub(super) struct Writer {
    queue: mpsc::Sender<Box<dyn Work>>,
    /// What operations that can wait may take of the queue: however many there are, webhooks find room in it.
    share: Semaphore,
    pub(super) taker: Arc<Mutex<Option<Arc<dyn Taker>>>>,
    pub(super) hint: Arc<Notify>,
    pub(super) failure: watch::Receiver<Option<String>>,
}

/// What the thread tells others while it works.
pub(super) struct Signals {
    /// Set by the checkpointer: the log should start again.
    pub(super) restart_log: Arc<AtomicBool>,
    /// Called after every commit.
    pub(super) committed: Box<dyn Fn() + Send>,
    pub(super) metrics: Metrics,
}

impl Writer {
    /// Starts the thread. It ends when every handle is gone and the queue is empty.
    pub(super) fn start(
        (connection, file): (Connection, Opened),
        memory: Memory,
        queue: usize,
        signals: Signals,
    ) -> std::io::Result<(Self, std::thread::JoinHandle<()>)> {
        let (sender, receiver) = mpsc::channel(queue);
        let (failure_sender, failure) = watch::channel(None);
        let hint = Arc::new(Notify::new());
        let thread_hint = hint.clone();
        let taker = Arc::new(Mutex::new(None));
        let thread_taker = taker.clone();
        let thread = std::thread::Builder::new().name("store-writer".to_owned()).spawn(move || {
            let end = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                run(&connection, memory, receiver, &signals, &thread_taker, &thread_hint)
            }));
            let detail = match end {
                Ok(Ok(())) => None,
                Ok(Err(error)) => Some(explain(&error)),
                Err(_) => Some("its writer panicked".to_owned()),
            };
            failure_sender.send_replace(detail);
            drop(connection);
            drop(file);
        })?;
        Ok((Self { queue: sender, share: Semaphore::new((queue / SHARE).max(1)), taker, hint, failure }, thread))
    }

    /// Queues `run` and waits for its commit. `patient` waits for room in its share of the queue; otherwise a full queue
    /// is an error at once.
    pub(super) async fn submit<T: Send + 'static>(
        &self,
        patient: bool,
        run: impl FnMut(&mut Tx<'_>) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (reply, answer) = oneshot::channel();
        let job = Box::new(Job { run, result: None, reply });
        // Held until the answer.
        let _share = if patient {
            let share = self.share.acquire().await.map_err(|_| stopped())?;
            self.queue.send(job).await.map_err(|_| stopped())?;
            Some(share)
        } else {
            self.queue.try_send(job).map_err(|e| match e {
                mpsc::error::TrySendError::Full(_) => StoreError::Overloaded,
                mpsc::error::TrySendError::Closed(_) => stopped(),
            })?;
            None
        };
        let (answer, run) = answer.await.map_err(|_| stopped())?;
        // With the share of memory that it holds, before anybody is answered: the next webhook may be on its way.
        drop(run);
        answer
    }
}

fn run(
    connection: &Connection,
    mut memory: Memory,
    mut queue: mpsc::Receiver<Box<dyn Work>>,
    signals: &Signals,
    taker: &Mutex<Option<Arc<dyn Taker>>>,
    hint: &Notify,
) -> Result<(), rusqlite::Error> {
    let mut statements = Statements::new(connection)?;
    let mut batch: Vec<Box<dyn Work>> = Vec::with_capacity(BATCH);
    let mut failed: Vec<Option<rusqlite::Error>> = Vec::with_capacity(BATCH);
    while let Some(first) = queue.blocking_recv() {
        batch.push(first);
        while batch.len() < BATCH {
            match queue.try_recv() {
                Ok(next) => batch.push(next),
                Err(_) => break,
            }
        }
        let timer = signals.metrics.commit_seconds.start_timer();
        let size = f64::from(u32::try_from(batch.len()).unwrap_or(u32::MAX));
        let before = connection.total_changes();
        let taker = taker.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut desk = Desk { connection, memory: &mut memory, statements: &mut statements, taker: taker.as_ref() };
        match transact(&mut desk, &mut batch, &mut failed) {
            Ok((work, handed)) => {
                // Looking for work that is not there is no commit.
                let changed = connection.total_changes() != before;
                if changed {
                    timer.observe_duration();
                    signals.metrics.batch_size.observe(size);
                    signals.metrics.commits.with_label_values(&["ok"]).inc();
                } else {
                    timer.stop_and_discard();
                }
                memory.keep_batch();
                for (item, error) in batch.drain(..).zip(failed.drain(..)) {
                    item.finish(error.map_or(Ok(()), |e| Err(unavailable(e))));
                }
                if changed {
                    (signals.committed)();
                }
                handed.into_iter().for_each(Handed::over);
                if work {
                    hint.notify_one();
                }
            }
            Err(error) => {
                timer.stop_and_discard();
                signals.metrics.commits.with_label_values(&["failed"]).inc();
                memory.forget_batch();
                failed.clear();
                let detail = explain(&error);
                for item in batch.drain(..) {
                    item.finish(Err(StoreError::Unavailable { detail: detail.clone(), source: None }));
                }
                if blame(&error) == Blame::Engine {
                    return Err(error);
                }
            }
        }
        if signals.restart_log.swap(false, Ordering::AcqRel) {
            // Busy readers only postpone it to the next round; they must not hold up webhooks meanwhile.
            connection.busy_timeout(RESTART_PATIENCE)?;
            connection.query_row("PRAGMA wal_checkpoint(RESTART)", [], |_| Ok(())).ok();
            connection.busy_timeout(super::schema::BUSY_TIMEOUT)?;
        }
    }
    // A store that was closed is one file in which everything is where it belongs: easier to copy, quicker to open. What
    // cannot be written now follows from the rows at the next start, and what cannot be copied back stays in the log.
    finish(connection, &mut memory).ok();
    connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).ok();
    Ok(())
}

fn finish(connection: &Connection, memory: &mut Memory) -> rusqlite::Result<()> {
    let tx = connection.unchecked_transaction()?;
    memory.catch_up(&tx)?;
    memory.settle_all(&tx)?;
    tx.commit()
}

/// What the thread works with.
struct Desk<'d> {
    connection: &'d Connection,
    memory: &'d mut Memory,
    statements: &'d mut dyn Run,
    taker: Option<&'d Arc<dyn Taker>>,
}

impl Desk<'_> {
    fn tx(&mut self, is_careful: bool) -> Tx<'_> {
        Tx {
            connection: self.connection,
            memory: self.memory,
            statements: self.statements,
            work: false,
            handed: Vec::new(),
            taker: self.taker,
            is_careful,
        }
    }
}

/// Runs the batch in one transaction. On success, `failed` holds an error for each item that failed alone.
fn transact(
    desk: &mut Desk<'_>,
    batch: &mut [Box<dyn Work>],
    failed: &mut Vec<Option<rusqlite::Error>>,
) -> rusqlite::Result<Written> {
    let connection = desk.connection;
    connection.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
    let written = desk
        .memory
        .catch_up(connection)
        .and_then(|()| write(desk, batch, failed))
        .and_then(|work| connection.prepare_cached("COMMIT")?.execute([]).map(|_| work));
    if written.is_err() && !connection.is_autocommit() {
        connection.execute_batch("ROLLBACK").ok();
    }
    written
}

/// Runs the batch without a thought of failure; if an item fails alone, again with the means to undo each.
fn write(
    desk: &mut Desk<'_>,
    batch: &mut [Box<dyn Work>],
    failed: &mut Vec<Option<rusqlite::Error>>,
) -> rusqlite::Result<Written> {
    match write_all(desk, batch) {
        Err(error) if blame(&error) == Blame::Item => {
            desk.connection.execute_batch("ROLLBACK; BEGIN IMMEDIATE")?;
            desk.memory.forget_batch();
            desk.memory.catch_up(desk.connection)?;
            write_each(desk, batch, failed)
        }
        Ok(written) => {
            failed.resize_with(batch.len(), || None);
            Ok(written)
        }
        Err(error) => Err(error),
    }
}

/// Whether lanes became due, and those to be handed over.
type Written = (bool, Vec<Handed>);

fn write_all(desk: &mut Desk<'_>, batch: &mut [Box<dyn Work>]) -> rusqlite::Result<Written> {
    let mut tx = desk.tx(false);
    for item in &mut *batch {
        item.run(&mut tx)?;
    }
    let written = (tx.work, tx.handed);
    desk.memory.settle(desk.connection, batch.len())?;
    Ok(written)
}

fn write_each(
    desk: &mut Desk<'_>,
    batch: &mut [Box<dyn Work>],
    failed: &mut Vec<Option<rusqlite::Error>>,
) -> rusqlite::Result<Written> {
    let (mut work, mut handed) = (false, Vec::new());
    let connection = desk.connection;
    for item in batch {
        connection.prepare_cached("SAVEPOINT item")?.execute([])?;
        desk.memory.begin_item();
        let mut tx = desk.tx(true);
        let outcome = match item.run(&mut tx) {
            Ok(()) => None,
            Err(error) if blame(&error) == Blame::Item => {
                tx.undo()?;
                Some(error)
            }
            Err(error) => return Err(error),
        };
        work |= tx.work;
        handed.append(&mut tx.handed);
        failed.push(outcome);
        connection.prepare_cached("RELEASE item")?.execute([])?;
    }
    Ok((work, handed))
}

/// How long the checkpointer rests between two looks at a log that is being written.
pub(super) const CHECKPOINT_EVERY: Duration = Duration::from_millis(50);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::time::Timestamp;
    use crate::store::Access;
    use crate::store::sqlite::lanes::book::Book;
    use crate::store::sqlite::schema;
    use futures_util::future::{FutureExt as _, join_all};
    use std::fs::File;

    #[tokio::test]
    async fn what_can_wait_leaves_room_for_webhooks() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("store.db");
        let connection = schema::connect(&path, Access::Serve, Timestamp::from_micros(1)).unwrap();
        let memory = Memory::load(&connection, Book::new(true, 1)).unwrap();
        let signals = Signals {
            restart_log: Arc::new(AtomicBool::new(false)),
            committed: Box::new(|| {}),
            metrics: Metrics::new().unwrap(),
        };
        let file = Arc::new(File::open(&path).unwrap());
        let (writer, thread) = Writer::start((connection, file), memory, 16, signals).unwrap();
        // The writer is at work on something that does not end, and more can wait than the queue has places.
        let (end, ended) = std::sync::mpsc::channel::<()>();
        let (reached, working) = std::sync::mpsc::channel();
        let mut long = Box::pin(writer.submit(false, move |_| {
            reached.send(()).ok();
            Ok(ended.recv().ok())
        }));
        assert!(long.as_mut().now_or_never().is_none());
        working.recv().unwrap();
        let mut patient = Box::pin(join_all((0..20).map(|_| writer.submit(true, |_| Ok(())))));
        assert!(patient.as_mut().now_or_never().is_none());
        let mut webhook = Box::pin(writer.submit(false, |_| Ok(())));
        assert!(webhook.as_mut().now_or_never().is_none(), "refused");
        end.send(()).unwrap();
        webhook.await.unwrap();
        assert!(patient.await.iter().all(Result::is_ok));
        long.await.unwrap();
        drop(writer);
        thread.join().unwrap();
    }
}
