//! Keeping anything at all: appending what came and what is to be said, to a file or to a table, with one sync for all
//! that wait. Nothing of it could be found again, so whatever a gateway keeps costs more.

use anyhow::{Context, Result};
use futures_util::future::join_all;
use rusqlite::{Connection, params};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::{Mutex, mpsc, oneshot};
use tokio_postgres::{Client, NoTls};

/// What is appended.
pub(super) struct Entry {
    /// The webhook as it came.
    pub(super) webhook: Vec<u8>,
    /// What subscribers get, or what became of it.
    pub(super) event: Vec<u8>,
}

/// An entry, and who waits for it.
type Waiting = (Entry, oneshot::Sender<()>);

/// The way to whoever appends.
#[derive(Clone)]
pub(super) struct Log(mpsc::Sender<Waiting>);

/// What a table of PostgreSQL keeps of an entry.
type Body = fn(&Entry) -> &[u8];

/// As many rows as the gateway has of a message, and about as long: raw webhook, event, record, event downstream, delivery.
const ROWS: [Body; 5] = [
    |entry| &entry.webhook,
    |_| &[0; 64],
    |entry| &entry.event[..entry.event.len() / 2],
    |entry| &entry.event,
    |_| &[0; 32],
];

/// Entries that share a sync; as many as in one of the gateway's commits.
const BATCH: usize = 256;

/// How long the file gets before it is written over, which needs no new blocks from the file system: what the gateway's own log
/// does.
const LENGTH: usize = 32 << 20;

/// Transactions beside each other, as many as of the gateway.
const CONNECTIONS: usize = 2;

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

    /// Makes tables of PostgreSQL, and starts tasks that append to them.
    pub(super) async fn of_postgres(url: &str) -> Result<Self> {
        let (sender, receiver) = mpsc::channel(4 * BATCH);
        let receiver = Arc::new(Mutex::new(receiver));
        for number in 0..CONNECTIONS {
            let (client, connection) = tokio_postgres::connect(url, NoTls).await.context("the database of --store")?;
            tokio::spawn(connection);
            if number == 0 {
                for table in 0..ROWS.len() {
                    let columns =
                        "id bigserial PRIMARY KEY, one bigint NOT NULL, two bigint NOT NULL, body bytea NOT NULL";
                    client.batch_execute(&format!("CREATE TABLE log{table} ({columns})")).await?;
                }
            }
            tokio::spawn(insert(client, receiver.clone()));
        }
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

async fn insert(client: Client, receiver: Arc<Mutex<mpsc::Receiver<Waiting>>>) -> Result<()> {
    let mut statements = Vec::new();
    for table in 0..ROWS.len() {
        let sql = format!(
            "INSERT INTO log{table} (one, two, body) SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::bytea[])"
        );
        statements.push(client.prepare(&sql).await?);
    }
    let mut waiting = Vec::with_capacity(BATCH);
    // Whoever has the receiver takes all that waits; the other's transaction is under way meanwhile.
    while receiver.lock().await.recv_many(&mut waiting, BATCH).await > 0 {
        {
            let numbers: Vec<i64> = (1..).take(waiting.len()).collect();
            let bodies: Vec<Vec<&[u8]>> =
                ROWS.iter().map(|body| waiting.iter().map(|(entry, _)| body(entry)).collect()).collect();
            let rows = statements.iter().zip(&bodies).map(|(statement, bodies)| {
                let (client, numbers) = (&client, &numbers);
                async move { client.execute(statement, &[numbers, numbers, bodies]).await }
            });
            let (begun, written, committed) =
                tokio::join!(biased; client.batch_execute("BEGIN"), join_all(rows), client.batch_execute("COMMIT"));
            begun?;
            written.into_iter().collect::<Result<Vec<u64>, _>>()?;
            committed?;
        }
        answer(&mut waiting);
    }
    Ok(())
}

fn answer(waiting: &mut Vec<Waiting>) {
    for (_, answer) in waiting.drain(..) {
        // Whoever went away needs no answer.
        answer.send(()).ok();
    }
}
