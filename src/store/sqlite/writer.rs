//! The one thread that writes.
//!
//! Group commit: while one commit runs the next batch gathers; a batch is whatever is queued, one transaction, one
//! sync, and each caller is answered after its own commit. A savepoint per item keeps a bad row from failing its
//! batch. There is no waiting to make batches bigger: measured, it gains nothing.

use super::error::{Blame, blame, explain, unavailable};
use crate::metrics::Metrics;
use crate::store::StoreError;
use rusqlite::Connection;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::{Notify, mpsc, oneshot, watch};
use uuid::Uuid;

/// Operations in one transaction; more only makes the first of them wait longer.
const BATCH: usize = 256;

/// Repeats whose time differs from the first are recognised among that many of the newest events.
const RECENT: usize = 16_384;

/// How long a restart of the log waits for readers.
const RESTART_PATIENCE: Duration = Duration::from_millis(50);

/// What an operation sees of the transaction it is part of.
pub(super) struct Tx<'c> {
    pub(super) connection: &'c Connection,
    pub(super) memory: &'c mut Memory,
    /// Set when lanes became due.
    pub(super) work: bool,
}

impl Tx<'_> {
    /// Undoes what this operation wrote, so that it can write something else instead.
    pub(super) fn undo(&mut self) -> rusqlite::Result<()> {
        self.memory.forget_item();
        self.connection.prepare_cached("ROLLBACK TO item")?.execute([]).map(drop)
    }
}

/// What the writer knows by heart. Everything in it can be read again from the database.
#[derive(Default)]
pub(super) struct Memory {
    accounts: HashMap<Uuid, i64>,
    subscribers: HashMap<String, (i64, bool)>,
    next_event: Option<i64>,
    recent: HashMap<RecentKey, i64>,
    recent_order: VecDeque<RecentKey>,
    fresh: Vec<RecentKey>,
    fresh_of_item: usize,
}

/// Account row and first half of the key's SHA-256.
pub(super) type RecentKey = (i64, [u8; 16]);

impl Memory {
    pub(super) fn account(&mut self, connection: &Connection, id: Uuid) -> rusqlite::Result<i64> {
        if let Some(&row) = self.accounts.get(&id) {
            return Ok(row);
        }
        let row = connection
            .prepare_cached(
                "INSERT INTO accounts (uuid) VALUES (?1) ON CONFLICT DO UPDATE SET uuid = uuid RETURNING id",
            )?
            .query_row([id.as_bytes()], |r| r.get(0))?;
        self.accounts.insert(id, row);
        Ok(row)
    }

    /// Row and orderedness of a subscriber.
    pub(super) fn subscriber(&mut self, connection: &Connection, name: &str) -> rusqlite::Result<(i64, bool)> {
        if let Some(&known) = self.subscribers.get(name) {
            return Ok(known);
        }
        let known = connection
            .prepare_cached(
                "INSERT INTO subscribers (name, configured, ordered) VALUES (?1, 1, 1)
                 ON CONFLICT DO UPDATE SET name = name RETURNING id, ordered",
            )?
            .query_row([name], |r| Ok((r.get(0)?, r.get(1)?)))?;
        self.subscribers.insert(name.to_owned(), known);
        Ok(known)
    }

    /// Registration may have changed what is known of subscribers.
    pub(super) fn forget_subscribers(&mut self) {
        self.subscribers.clear();
    }

    pub(super) fn next_event(&mut self, connection: &Connection) -> rusqlite::Result<i64> {
        let next = match self.next_event {
            Some(next) => next,
            None => connection.query_row("SELECT coalesce(max(id), 0) + 1 FROM events", [], |r| r.get(0))?,
        };
        self.next_event = Some(next + 1);
        Ok(next)
    }

    /// The time with which `key` was seen lately.
    pub(super) fn recent(&self, key: &RecentKey) -> Option<i64> {
        self.recent.get(key).copied()
    }

    pub(super) fn remember(&mut self, key: RecentKey, at: i64) {
        self.recent.insert(key, at);
        self.fresh.push(key);
    }

    /// Forgets what only the current item claimed, and whatever else its rollback may have taken back.
    fn forget_item(&mut self) {
        for key in self.fresh.drain(self.fresh_of_item..) {
            self.recent.remove(&key);
        }
        self.accounts.clear();
        self.subscribers.clear();
        self.next_event = None;
    }

    fn forget_batch(&mut self) {
        self.fresh_of_item = 0;
        self.forget_item();
    }

    fn keep_batch(&mut self) {
        self.fresh_of_item = 0;
        self.recent_order.extend(self.fresh.drain(..));
        while self.recent_order.len() > RECENT {
            if let Some(key) = self.recent_order.pop_front() {
                self.recent.remove(&key);
            }
        }
    }

    /// Fills the recent window from the newest events.
    pub(super) fn load(connection: &Connection, key_of: fn(&str) -> [u8; 16]) -> rusqlite::Result<Self> {
        let mut memory = Self::default();
        let mut newest = connection.prepare(
            "SELECT account, provider_key, event_time FROM events
             WHERE state = 0 AND provider_key IS NOT NULL ORDER BY id DESC LIMIT ?1",
        )?;
        let rows = newest.query_map([i64::try_from(RECENT).unwrap_or(i64::MAX)], |r| {
            let key: String = r.get(1)?;
            Ok(((r.get(0)?, key_of(&key)), r.get::<_, i64>(2)?))
        })?;
        for row in rows {
            let (key, at) = row?;
            memory.recent.insert(key, at);
            memory.recent_order.push_front(key);
        }
        Ok(memory)
    }
}

trait Work: Send {
    fn run(&mut self, tx: &mut Tx<'_>) -> rusqlite::Result<()>;
    fn finish(self: Box<Self>, outcome: Result<(), StoreError>);
}

struct Job<T, F> {
    run: Option<F>,
    result: Option<T>,
    reply: oneshot::Sender<Result<T, StoreError>>,
}

impl<T: Send, F: FnOnce(&mut Tx<'_>) -> rusqlite::Result<T> + Send> Work for Job<T, F> {
    fn run(&mut self, tx: &mut Tx<'_>) -> rusqlite::Result<()> {
        if let Some(run) = self.run.take() {
            self.result = Some(run(tx)?);
        }
        Ok(())
    }

    fn finish(self: Box<Self>, outcome: Result<(), StoreError>) {
        let Job { result, reply, .. } = *self;
        let answer = outcome.and_then(|()| result.ok_or_else(stopped));
        // A caller that went away does not need the answer.
        drop(reply.send(answer));
    }
}

fn stopped() -> StoreError {
    StoreError::Stopped { detail: "its writer is gone".to_owned() }
}

/// The handle to the writing thread.
pub(super) struct Writer {
    queue: mpsc::Sender<Box<dyn Work>>,
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
        connection: Connection,
        memory: Memory,
        queue: usize,
        signals: Signals,
    ) -> std::io::Result<(Self, std::thread::JoinHandle<()>)> {
        let (sender, receiver) = mpsc::channel(queue);
        let (failure_sender, failure) = watch::channel(None);
        let hint = Arc::new(Notify::new());
        let thread_hint = hint.clone();
        let thread = std::thread::Builder::new().name("store-writer".to_owned()).spawn(move || {
            let end = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                run(&connection, memory, receiver, &signals, &thread_hint)
            }));
            let detail = match end {
                Ok(Ok(())) => None,
                Ok(Err(error)) => Some(explain(&error)),
                Err(_) => Some("its writer panicked".to_owned()),
            };
            failure_sender.send_replace(detail);
        })?;
        Ok((Self { queue: sender, hint, failure }, thread))
    }

    /// Queues `run` and waits for its commit. `patient` waits for room in the queue; otherwise a full queue is an
    /// error at once.
    pub(super) async fn submit<T: Send + 'static>(
        &self,
        patient: bool,
        run: impl FnOnce(&mut Tx<'_>) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (reply, answer) = oneshot::channel();
        let job = Box::new(Job { run: Some(run), result: None, reply });
        if patient {
            self.queue.send(job).await.map_err(|_| stopped())?;
        } else {
            self.queue.try_send(job).map_err(|e| match e {
                mpsc::error::TrySendError::Full(_) => StoreError::Overloaded,
                mpsc::error::TrySendError::Closed(_) => stopped(),
            })?;
        }
        answer.await.map_err(|_| stopped())?
    }
}

fn run(
    connection: &Connection,
    mut memory: Memory,
    mut queue: mpsc::Receiver<Box<dyn Work>>,
    signals: &Signals,
    hint: &Notify,
) -> Result<(), rusqlite::Error> {
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
        match transact(connection, &mut memory, &mut batch, &mut failed) {
            Ok(work) => {
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
    // A store that was closed is one file: easier to copy, quicker to open. What cannot be copied back stays in the log.
    connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).ok();
    Ok(())
}

/// Runs the batch in one transaction. On success, `failed` holds an error for each item that failed alone.
fn transact(
    connection: &Connection,
    memory: &mut Memory,
    batch: &mut [Box<dyn Work>],
    failed: &mut Vec<Option<rusqlite::Error>>,
) -> rusqlite::Result<bool> {
    connection.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
    let written = write(connection, memory, batch, failed)
        .and_then(|work| connection.prepare_cached("COMMIT")?.execute([]).map(|_| work));
    if written.is_err() && !connection.is_autocommit() {
        connection.execute_batch("ROLLBACK").ok();
    }
    written
}

fn write(
    connection: &Connection,
    memory: &mut Memory,
    batch: &mut [Box<dyn Work>],
    failed: &mut Vec<Option<rusqlite::Error>>,
) -> rusqlite::Result<bool> {
    let mut work = false;
    for item in batch {
        connection.prepare_cached("SAVEPOINT item")?.execute([])?;
        memory.fresh_of_item = memory.fresh.len();
        let mut tx = Tx { connection, memory, work: false };
        let outcome = match item.run(&mut tx) {
            Ok(()) => None,
            Err(error) if blame(&error) == Blame::Item => {
                tx.undo()?;
                tx.work = false;
                Some(error)
            }
            Err(error) => return Err(error),
        };
        work |= tx.work;
        failed.push(outcome);
        connection.prepare_cached("RELEASE item")?.execute([])?;
    }
    Ok(work)
}

/// How long the checkpointer rests between two looks at a log that is being written.
pub(super) const CHECKPOINT_EVERY: Duration = Duration::from_millis(50);
