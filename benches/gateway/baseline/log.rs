//! Keeping anything at all: appending what came and what is to be said, to a file or to a table, with one sync for all
//! that wait. Nothing of it could be found again, so whatever a gateway keeps costs more. Only in PostgreSQL (`least.rs`) it
//! could.

use super::least;
use anyhow::Result;
use rusqlite::{Connection, params};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use uuid::Uuid;

/// What is appended.
pub(super) struct Entry {
    /// The webhook as it came.
    pub(super) webhook: Vec<u8>,
    /// What subscribers get, or what became of it.
    pub(super) event: Vec<u8>,
    /// What it is known by, to whoever asks.
    pub(super) name: Name,
}

/// What a message is known by.
#[derive(Clone, Copy, Default)]
pub(super) struct Name {
    /// When it was written, in microseconds; a repeat says the same.
    pub(super) at: i64,
    /// Its id; a repeat says the same.
    pub(super) id: Uuid,
    /// What it is numbered in.
    pub(super) conversation: Uuid,
}

/// An entry, and who waits for it.
pub(super) type Waiting = (Entry, oneshot::Sender<()>);

/// The way to whoever appends.
#[derive(Clone)]
pub(super) struct Log(mpsc::Sender<Waiting>);

/// Entries that share a sync; as many as in one of the gateway's commits.
pub(super) const BATCH: usize = 256;

/// How long the file gets before it is written over, which needs no new blocks from the file system: what the gateway's own log
/// does.
const LENGTH: usize = 32 << 20;

impl Log {
    /// Starts a thread that appends to a file.
    pub(super) fn of_file(path: &Path) -> Result<Self> {
        std::fs::write(path, vec![0; LENGTH])?;
        let file = File::options().write(true).open(path)?;
        file.sync_all()?;
        let (sender, receiver) = mpsc::channel(4 * BATCH);
        std::thread::Builder::new().name("append".to_owned()).spawn(move || append(&file, receiver))?;
        Ok(Self(sender))
    }

    /// Makes a SQLite file with one table, and starts threads that append to it and copy its log back.
    pub(super) fn of_sqlite(path: &Path) -> Result<Self> {
        let connection = connect(path)?;
        connection.execute_batch(
            "CREATE TABLE log (id INTEGER PRIMARY KEY, webhook BLOB NOT NULL, event BLOB NOT NULL) STRICT",
        )?;
        let is_long = Arc::new(AtomicBool::new(false));
        let (checkpoints, says_long) = (connect(path)?, is_long.clone());
        std::thread::Builder::new().name("checkpoint".to_owned()).spawn(move || copy_back(&checkpoints, &says_long))?;
        let (sender, receiver) = mpsc::channel(4 * BATCH);
        std::thread::Builder::new()
            .name("append".to_owned())
            .spawn(move || append_rows(&connection, receiver, &is_long))?;
        Ok(Self(sender))
    }

    /// Makes tables of PostgreSQL, and starts tasks that write to them.
    pub(super) async fn of_postgres(url: &str) -> Result<Self> {
        let (sender, receiver) = mpsc::channel(4 * BATCH);
        least::start(url, receiver).await?;
        Ok(Self(sender))
    }

    /// Whether the entry is kept.
    pub(super) async fn keep(&self, entry: Entry) -> bool {
        let (answer, kept) = oneshot::channel();
        self.0.send((entry, answer)).await.is_ok() && kept.await.is_ok()
    }
}

fn append(file: &File, mut receiver: mpsc::Receiver<Waiting>) -> std::io::Result<()> {
    let (mut buffer, mut waiting, mut at) = (Vec::new(), Vec::with_capacity(BATCH), 0);
    while receiver.blocking_recv_many(&mut waiting, BATCH) > 0 {
        buffer.clear();
        for (entry, _) in &waiting {
            buffer.extend_from_slice(&entry.webhook);
            buffer.extend_from_slice(&entry.event);
        }
        if at + buffer.len() > LENGTH {
            at = 0;
        }
        file.write_all_at(&buffer, u64::try_from(at).unwrap_or_default())?;
        file.sync_data()?;
        at += buffer.len();
        answer(&mut waiting);
    }
    Ok(())
}

/// Opens the file as the gateway's store does, with its page size and its log.
fn connect(path: &Path) -> rusqlite::Result<Connection> {
    let connection = Connection::open(path)?;
    connection.execute_batch(
        "PRAGMA page_size = 8192; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA wal_autocheckpoint = 0;",
    )?;
    Ok(connection)
}

fn append_rows(
    connection: &Connection,
    mut receiver: mpsc::Receiver<Waiting>,
    is_long: &AtomicBool,
) -> rusqlite::Result<()> {
    let mut insert = connection.prepare("INSERT INTO log (webhook, event) VALUES (?1, ?2)")?;
    let mut waiting = Vec::with_capacity(BATCH);
    while receiver.blocking_recv_many(&mut waiting, BATCH) > 0 {
        let transaction = connection.unchecked_transaction()?;
        for (entry, _) in &waiting {
            insert.execute(params![entry.webhook, entry.event])?;
        }
        transaction.commit()?;
        answer(&mut waiting);
        if is_long.swap(false, Ordering::AcqRel) {
            connection.query_row("PRAGMA wal_checkpoint(RESTART)", [], |_| Ok(()))?;
        }
    }
    Ok(())
}

fn copy_back(connection: &Connection, is_long: &AtomicBool) -> rusqlite::Result<()> {
    loop {
        std::thread::sleep(Duration::from_millis(50));
        let pages: u32 = connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |row| row.get(1))?;
        if pages as usize * 8192 > LENGTH {
            is_long.store(true, Ordering::Release);
        }
    }
}

/// Tells everybody that it is done.
pub(super) fn answer(waiting: &mut Vec<Waiting>) {
    for (_, answer) in waiting.drain(..) {
        // Whoever went away needs no answer.
        answer.send(()).ok();
    }
}
