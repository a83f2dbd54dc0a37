//! The embedded store as logical tables, for copying it elsewhere.
//!
//! It is opened as whoever serves it opens it, so its lock keeps others out and leases left over are void; then it
//! holds the one write lock of the file, so nothing changes while it is read.

use super::error::{unavailable, unusable};
use super::lanes::book::Book;
use super::memory::Memory;
use super::messages::content_of;
use super::{lanes, lock, schema};
use crate::domain::account::Channel;
use crate::domain::time::Timestamp;
use crate::store::copy::{Portrait, Read, Source};
use crate::store::rows;
use crate::store::tables::{PAGE_BYTES, PAGE_ROWS, Row, TABLES, Table, Value, encode, size};
use crate::store::{Access, Opening, StoreError};
use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{Connection, OptionalExtension, ToSql, params};
use sha2::{Digest, Sha256};
use std::fs::File;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

struct Export {
    connection: Arc<Mutex<Connection>>,
    /// Held as while serving.
    lock: Mutex<Option<File>>,
}

pub(in crate::store) fn source(path: &Path, opening: &Opening<'_>) -> Result<Arc<dyn Source>, StoreError> {
    if !path.exists() {
        let detail = format!("there is no store at {}", path.display());
        return Err(StoreError::Unusable { detail, source: None });
    }
    let lock = lock(path).map_err(|error| match error {
        StoreError::Unusable { detail, source: None } => {
            StoreError::Unusable { detail: format!("{detail}: stop it before the copy"), source: None }
        }
        other => other,
    })?;
    let connection = schema::connect(path, Access::Serve, opening.now)?;
    whole(&connection, opening.now).map_err(|e| unusable("cannot write what follows from the newest rows", e))?;
    let what = format!("cannot keep {} from being changed", path.display());
    connection.execute_batch("BEGIN IMMEDIATE").map_err(|e| unusable(&what, e))?;
    Ok(Arc::new(Export { connection: Arc::new(Mutex::new(connection)), lock: Mutex::new(Some(lock)) }))
}

/// Nobody is at work, and the tables say everything.
fn whole(connection: &Connection, now: Timestamp) -> rusqlite::Result<()> {
    lanes::void_leases(connection, now)?;
    let tx = connection.unchecked_transaction()?;
    Memory::load(&tx, Book::new(true, 1))?.settle_all(&tx)?;
    tx.commit()
}

impl Export {
    async fn read<T: Send + 'static>(
        &self,
        run: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        let connection = self.connection.clone();
        let result = tokio::task::spawn_blocking(move || {
            let connection = connection.lock().unwrap_or_else(PoisonError::into_inner);
            run(&connection).map_err(unavailable)
        });
        result.await.unwrap_or_else(|e| Err(StoreError::Stopped { detail: format!("a read failed: {e}") }))
    }
}

#[async_trait::async_trait]
impl Read for Export {
    async fn page(&self, table: &'static Table, after: Option<&[Value]>) -> Result<Vec<Row>, StoreError> {
        let after = after.map(<[Value]>::to_vec);
        self.read(move |connection| page(connection, table, after.as_deref())).await
    }

    async fn close(&self) {
        self.read(|connection| connection.execute_batch("ROLLBACK")).await.ok();
        if let Some(lock) = self.lock.lock().unwrap_or_else(PoisonError::into_inner).take() {
            lock.unlock().ok();
        }
    }
}

#[async_trait::async_trait]
impl Source for Export {
    async fn portrait(&self) -> Result<Portrait, StoreError> {
        self.read(portrait).await
    }
}

/// Where the rows of a logical table are.
fn place(table: &Table) -> (&'static str, &'static str) {
    match table.name {
        "finished" => ("deliveries", "state = 2"),
        "deliveries" => ("deliveries", "state <> 2"),
        name => (name, "true"),
    }
}

/// What a column is here.
fn column(table: &str, name: &str) -> String {
    match (table, name) {
        // Whatever has an id or a key is found by it.
        ("events", "known") => "t.provider_key IS NOT NULL".to_owned(),
        (_, "known") => "1".to_owned(),
        // Worked out from the rows around it.
        ("events", "beside") => "NULL".to_owned(),
        (_, "event_at") => "(SELECT o.created_at FROM outbox o WHERE o.id = t.event)".to_owned(),
        ("lanes", "head") => {
            "coalesce((SELECT min(o.seq) FROM owed o WHERE o.subscriber = t.subscriber AND o.lane = t.id), t.last_seq + 1)"
                .to_owned()
        }
        // Nobody has a lease while a store is copied.
        ("lanes", "leased" | "token") => "0".to_owned(),
        _ => format!("t.\"{name}\""),
    }
}

fn names(table: &Table) -> String {
    let names: Vec<String> = table.columns[..table.key].iter().map(|column| format!("t.\"{}\"", column.name)).collect();
    names.join(", ")
}

fn page(connection: &Connection, table: &'static Table, after: Option<&[Value]>) -> rusqlite::Result<Vec<Row>> {
    let (from, which) = place(table);
    let columns: Vec<String> = table.columns.iter().map(|c| column(table.name, c.name)).collect();
    let keys = names(table);
    let marks = vec!["?"; table.key].join(", ");
    let beyond = if after.is_some() { format!("({keys}) > ({marks})") } else { "true".to_owned() };
    let sql = format!(
        "SELECT {} FROM {from} t WHERE {beyond} AND {which} ORDER BY {keys} LIMIT {PAGE_ROWS}",
        columns.join(", ")
    );
    let mut select = connection.prepare_cached(&sql)?;
    let mut found = select.query(rusqlite::params_from_iter(after.unwrap_or_default()))?;
    let (mut rows, mut bytes) = (Vec::new(), 0);
    while bytes < PAGE_BYTES {
        let Some(row) = found.next()? else { break };
        let row: Row = (0..table.columns.len()).map(|at| value(row.get_ref(at)?, at)).collect::<Result<_, _>>()?;
        bytes += size(&row);
        rows.push(row);
    }
    for row in &mut rows {
        match table.name {
            "events" => tell_beside(connection, table, row)?,
            "messages" => tell_content(connection, table, row)?,
            _ => {}
        }
    }
    Ok(rows)
}

fn value(found: ValueRef<'_>, at: usize) -> rusqlite::Result<Value> {
    match found {
        ValueRef::Null => Ok(Value::Null),
        ValueRef::Integer(number) => Ok(Value::Int(number)),
        ValueRef::Text(bytes) | ValueRef::Blob(bytes) => Ok(Value::Bytes(bytes.to_vec())),
        ValueRef::Real(_) => {
            Err(rusqlite::Error::InvalidColumnType(at, "real".to_owned(), rusqlite::types::Type::Real))
        }
    }
}

impl ToSql for Value {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match self {
            Value::Null => ValueRef::Null,
            Value::Int(number) => ValueRef::Integer(*number),
            Value::Bytes(bytes) => ValueRef::Blob(bytes),
        }))
    }
}

/// What a message has besides its columns, in full.
fn tell_content(connection: &Connection, table: &Table, row: &mut Row) -> rusqlite::Result<()> {
    let at = |name: &str| table.column(name).unwrap_or_default();
    let text = |name: &str| row[at(name)].bytes().and_then(|bytes| std::str::from_utf8(bytes).ok());
    let (Some(content), Some(direction)) = (text("content"), text("direction")) else { return Ok(()) };
    let conversation: Option<(String, String, String)> = connection
        .prepare_cached("SELECT channel, own, peer FROM conversations WHERE id = ?1")?
        .query_row([row[at("conversation")].int()], |r| Ok((r.get(0)?, r.get(1)?, r.get(2)?)))
        .optional()?;
    let Some((channel, own, peer)) = conversation else { return Ok(()) };
    let Some(channel) = Channel::parse(&channel) else { return Ok(()) };
    // What is said in full stays as it is, to the byte.
    if rows::parse_content(content).is_none()
        && let Some(content) = content_of(content, rows::parse_direction(direction), channel, &own, &peer)
    {
        row[at("content")] = Value::Bytes(content.written().into_bytes());
    }
    Ok(())
}

/// Of a repeat, the webhook that it came in when that is kept for another event: the events of a webhook are in a row,
/// each at its place.
fn tell_beside(connection: &Connection, table: &Table, row: &mut Row) -> rusqlite::Result<()> {
    const REPEAT: i64 = 1;
    let number = |name: &str| table.column(name).and_then(|at| row[at].int());
    if number("state") != Some(REPEAT) || number("webhook").is_some() {
        return Ok(());
    }
    let (Some(id), Some(place), Some(account)) = (number("id"), number("place"), number("account")) else {
        return Ok(());
    };
    let mut around =
        connection.prepare_cached("SELECT id - place, webhook, account FROM events WHERE id >= ?1 ORDER BY id")?;
    let mut around = around.query([id - place])?;
    while let Some(other) = around.next()? {
        if other.get::<_, i64>(0)? != id - place || other.get::<_, i64>(2)? != account {
            break;
        }
        if let (Some(webhook), Some(at)) = (other.get::<_, Option<i64>>(1)?, table.column("beside")) {
            row[at] = Value::Int(webhook);
            break;
        }
    }
    Ok(())
}

/// What changes when anything happens. Rows that only change in other columns are found by the comparison.
const TRAITS: [&str; 11] = [
    "SELECT version, checksum, applied_at FROM migrations ORDER BY version",
    "SELECT id, uuid FROM accounts ORDER BY id",
    "SELECT id, name, configured, ordered, disabled_at, disabled_reason FROM subscribers ORDER BY id",
    "SELECT count(*), min(id), max(id) FROM webhooks",
    "SELECT count(*), max(id), max(received_at), sum(state) FROM events",
    "SELECT count(*), max(id), max(tm_update), count(tm_delete) FROM messages",
    "SELECT count(*), max(id), sum(last_seq), count(due_at) FROM lanes",
    "SELECT count(*), max(id), sum(state), sum(attempts), max(last_at) FROM deliveries",
    "SELECT count(*), max(id) FROM attempts",
    "SELECT id, received_at, request_id, provider_key FROM events ORDER BY id LIMIT 100",
    "SELECT id, received_at, request_id, provider_key FROM events ORDER BY id DESC LIMIT 100",
];

/// The columns with ids that no new row may have.
const IDS: [(&str, &str); 11] = [
    ("accounts", "id"),
    ("webhooks", "id"),
    ("events", "id"),
    ("conversations", "id"),
    ("messages", "id"),
    ("outbox", "id"),
    ("subscribers", "id"),
    ("lanes", "id"),
    ("deliveries", "id"),
    ("deliveries", "lane"),
    ("tail", "delivery"),
];

fn portrait(connection: &Connection) -> rusqlite::Result<Portrait> {
    let mut print = Sha256::new();
    for sql in TRAITS {
        let mut select = connection.prepare(sql)?;
        let columns = select.column_count();
        let mut rows = select.query([])?;
        while let Some(row) = rows.next()? {
            let row: Row = (0..columns).map(|at| value(row.get_ref(at)?, at)).collect::<Result<_, _>>()?;
            let mut bytes = Vec::new();
            encode(&row, &mut bytes);
            print.update(bytes);
        }
        print.update([255]);
    }
    let mut counts = Vec::with_capacity(TABLES.len());
    for table in TABLES {
        let (from, which) = place(table);
        let sql = format!("SELECT count(*) FROM {from} WHERE {which}");
        let count: i64 = connection.query_row(&sql, [], |r| r.get(0))?;
        counts.push(count.unsigned_abs());
    }
    let mut highest = 0;
    for (table, column) in IDS {
        let sql = format!("SELECT coalesce(max({column}), 0) FROM {table}");
        highest = highest.max(connection.query_row(&sql, params![], |r| r.get::<_, i64>(0))?);
    }
    let newest_event = connection.query_row("SELECT coalesce(max(id), 0) FROM events", [], |r| r.get(0))?;
    Ok(Portrait { print: print.finalize().to_vec(), counts, newest_event, next_row: highest.saturating_add(1) })
}
