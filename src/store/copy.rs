//! Copying a whole store into another engine's, and proving that it is the same.
//!
//! The source stands still meanwhile. What is copied is put into the target chunk by chunk, each in one transaction
//! with the mark of how far it is, so a copy that was cut short goes on where it was. Then both are read again, in
//! the same order, and compared row by row; only a copy that is equal is finished, and until then nobody may serve
//! from it.

use super::tables::{Row, TABLES, Table, Value, encode};
use super::{Opening, StoreError, postgres, sqlite};
use crate::domain::time::Timestamp;
use sha2::{Digest, Sha256};
use std::fmt;
use std::sync::Arc;

/// Reads a store, table by table.
#[async_trait::async_trait]
pub trait Read: Send + Sync {
    /// The next rows after a key, about [`super::tables::PAGE_ROWS`] or [`super::tables::PAGE_BYTES`]; none at the end.
    async fn page(&self, table: &'static Table, after: Option<&[Value]>) -> Result<Vec<Row>, StoreError>;

    /// Lets go of it.
    async fn close(&self);
}

/// A store that stands still to be copied.
#[async_trait::async_trait]
pub trait Source: Read {
    /// What it looks like.
    async fn portrait(&self) -> Result<Portrait, StoreError>;
}

/// A store that becomes a copy.
#[async_trait::async_trait]
pub trait Target: Read {
    /// Begins a copy where nothing is, or goes on with one of the same source.
    async fn begin(&self, source: &Portrait, now: Timestamp) -> Result<Begun, StoreError>;

    /// Puts the next rows of a table in, and says how far it is then. Nothing is changed unless it was so far before.
    async fn put(&self, before: &Progress, table: &'static Table, rows: &[Row]) -> Result<Progress, StoreError>;

    /// Marks the copy as finished: from now on it may be served.
    async fn finish(&self, now: Timestamp) -> Result<(), StoreError>;

    /// Removes an unfinished copy and its mark; `false` when there is none.
    async fn abandon(&self) -> Result<bool, StoreError>;
}

/// By what a source is known again, and what a target has to know of it before its rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Portrait {
    /// Changes whenever anything is received, delivered, replayed or removed.
    pub print: Vec<u8>,
    /// How many rows each of [`TABLES`] has.
    pub counts: Vec<u64>,
    /// The newest event's id.
    pub newest_event: i64,
    /// A number above every id.
    pub next_row: i64,
}

/// How far a copy is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// The table under way, of [`TABLES`].
    pub table: usize,
    /// The key of its row that was copied last.
    pub after: Option<Vec<Value>>,
    /// Rows copied, of all tables.
    pub rows: u64,
}

/// What was found where a copy is to begin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Begun {
    /// It is so far.
    Goes(Progress),
    /// It was finished before.
    Finished(Timestamp),
}

/// What is done at the moment, to be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// Whether rows are compared; otherwise they are copied.
    pub compares: bool,
    /// The table under way.
    pub table: &'static str,
    /// Rows done, of all tables.
    pub rows: u64,
    /// Rows that there are, of all tables.
    pub of: u64,
}

/// What became of a copy.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// All is copied; it is finished when every table is equal.
    Compared(Vec<Compared>),
    /// It was finished before.
    Finished(Timestamp),
}

/// A table on both sides.
#[derive(Clone, Debug)]
pub struct Compared {
    /// Its name.
    pub table: &'static str,
    /// In the source.
    pub source: Sum,
    /// In the target.
    pub target: Sum,
    /// The first row that is not the same.
    pub difference: Option<Difference>,
}

impl Compared {
    /// Whether both hold the same.
    pub fn is_equal(&self) -> bool {
        self.difference.is_none() && self.source == self.target
    }
}

/// How many rows, and the SHA-256 over all of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sum {
    /// How many.
    pub rows: u64,
    /// In hexadecimal.
    pub sha256: String,
}

/// A row that is not the same on both sides. Says which, and never what is in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// The key of the row.
    pub key: String,
    /// In what it differs.
    pub what: What,
}

/// In what a row differs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// It is not in the target.
    Missing,
    /// It is only in the target.
    Extra,
    /// These columns are not the same.
    Columns(Vec<&'static str>),
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = &self.key;
        match &self.what {
            What::Missing => write!(f, "row {key} is missing in the target"),
            What::Extra => write!(f, "row {key} is only in the target"),
            What::Columns(columns) => write!(f, "row {key} differs in {}", columns.join(", ")),
        }
    }
}

/// Whether a store is copied from the one URL's engine to the other's.
pub fn is_offered(from: &str, to: &str) -> bool {
    from.starts_with("sqlite:") && ["postgres:", "postgresql:"].iter().any(|scheme| to.starts_with(scheme))
}

fn not_offered() -> StoreError {
    StoreError::Unusable {
        detail: "a store is copied from sqlite: to postgres:, no other way".to_owned(),
        source: None,
    }
}

/// Opens what is to be copied, as whoever serves it would: nobody else may, and nobody writes meanwhile.
pub fn source(url: &str, opening: &Opening<'_>) -> Result<Arc<dyn Source>, StoreError> {
    let path = url.strip_prefix("sqlite:").ok_or_else(not_offered)?;
    sqlite::source(std::path::Path::new(path), opening)
}

/// Opens where the copy is to be; its schema is made.
pub async fn target(url: &str, opening: &Opening<'_>) -> Result<Arc<dyn Target>, StoreError> {
    if url.starts_with("postgres:") || url.starts_with("postgresql:") {
        return postgres::target(url, opening).await;
    }
    Err(not_offered())
}

/// Copies, or goes on copying, and compares. Calls `watch` after every page.
pub async fn run(
    source: &dyn Source,
    target: &dyn Target,
    now: Timestamp,
    watch: &mut (dyn FnMut(Step) + Send),
) -> Result<Outcome, StoreError> {
    let portrait = source.portrait().await?;
    let of = portrait.counts.iter().sum();
    let progress = match target.begin(&portrait, now).await? {
        Begun::Finished(at) => return Ok(Outcome::Finished(at)),
        Begun::Goes(progress) => progress,
    };
    copy(source, target, progress, &mut |table, rows| watch(Step { compares: false, table, rows, of })).await?;
    let mut tables = Vec::with_capacity(TABLES.len());
    let mut before = 0;
    for (table, count) in TABLES.iter().zip(&portrait.counts) {
        let mut told = |rows| watch(Step { compares: true, table: table.name, rows: before + rows, of });
        tables.push(compare(source, target, table, &mut told).await?);
        before += count;
    }
    if tables.iter().all(Compared::is_equal) {
        target.finish(now).await?;
    }
    Ok(Outcome::Compared(tables))
}

async fn copy(
    source: &dyn Source,
    target: &dyn Target,
    mut progress: Progress,
    watch: &mut (dyn FnMut(&'static str, u64) + Send),
) -> Result<(), StoreError> {
    let first = progress.table;
    for (index, table) in TABLES.iter().enumerate().skip(first) {
        let mut after = progress.after.clone().filter(|_| index == progress.table);
        let mut rows = source.page(table, after.as_deref()).await?;
        while let Some(last) = rows.last() {
            after = Some(last[..table.key].to_vec());
            // While one chunk is written the next is read.
            let (put, next) = tokio::join!(target.put(&progress, table, &rows), source.page(table, after.as_deref()));
            progress = put?;
            watch(table.name, progress.rows);
            rows = next?;
        }
    }
    Ok(())
}

/// Reads one table of one side, row by row.
struct Tape<'a, R: Read + ?Sized> {
    reader: &'a R,
    table: &'static Table,
    page: std::vec::IntoIter<Row>,
    after: Option<Vec<Value>>,
    has_ended: bool,
    hash: Sha256,
    rows: u64,
}

impl<'a, R: Read + ?Sized> Tape<'a, R> {
    fn new(reader: &'a R, table: &'static Table) -> Self {
        let (page, hash) = (Vec::new().into_iter(), Sha256::new());
        Self { reader, table, page, after: None, has_ended: false, hash, rows: 0 }
    }

    /// Whether rows had to be fetched.
    async fn fill(&mut self) -> Result<bool, StoreError> {
        if self.has_ended || !self.page.as_slice().is_empty() {
            return Ok(false);
        }
        let rows = self.reader.page(self.table, self.after.as_deref()).await?;
        match rows.last() {
            Some(last) => self.after = Some(last[..self.table.key].to_vec()),
            None => self.has_ended = true,
        }
        self.page = rows.into_iter();
        Ok(true)
    }

    fn peek(&self) -> Option<&Row> {
        self.page.as_slice().first()
    }

    /// Takes the next row into the sum.
    fn pass(&mut self, scratch: &mut Vec<u8>) {
        if let Some(row) = self.page.next() {
            scratch.clear();
            encode(&row, scratch);
            self.hash.update(&*scratch);
            self.rows += 1;
        }
    }

    fn sum(self) -> Sum {
        Sum { rows: self.rows, sha256: hex(&self.hash.finalize()) }
    }
}

async fn compare(
    source: &dyn Source,
    target: &dyn Target,
    table: &'static Table,
    watch: &mut (dyn FnMut(u64) + Send),
) -> Result<Compared, StoreError> {
    let (mut ours, mut theirs) = (Tape::new(source, table), Tape::new(target, table));
    let (mut difference, mut scratch) = (None, Vec::new());
    loop {
        let (fetched, other) = tokio::join!(ours.fill(), theirs.fill());
        other?;
        if fetched? {
            watch(ours.rows);
        }
        let (found, pass) = match (ours.peek(), theirs.peek()) {
            (None, None) => break,
            (Some(left), Some(right)) if left == right => (None, (true, true)),
            (left, right) => differs(table, left, right),
        };
        difference = difference.or(found);
        if pass.0 {
            ours.pass(&mut scratch);
        }
        if pass.1 {
            theirs.pass(&mut scratch);
        }
    }
    Ok(Compared { table: table.name, source: ours.sum(), target: theirs.sum(), difference })
}

/// What two rows that are not the same differ in, and which of them is done with.
fn differs(table: &Table, left: Option<&Row>, right: Option<&Row>) -> (Option<Difference>, (bool, bool)) {
    let key = |row: &Row| row[..table.key].to_vec();
    let (what, row, pass) = match (left, right) {
        (Some(left), Some(right)) if key(left) == key(right) => {
            let columns = table.columns.iter().zip(left.iter().zip(right));
            let columns = columns.filter(|(_, (a, b))| a != b).map(|(column, _)| column.name);
            (What::Columns(columns.collect()), left, (true, true))
        }
        (Some(left), right) if right.is_none_or(|right| key(left) < key(right)) => (What::Missing, left, (true, false)),
        (_, Some(right)) => (What::Extra, right, (false, true)),
        // There is nothing to compare.
        (_, None) => return (None, (true, true)),
    };
    let shown = row[..table.key].iter().map(|value| match value {
        Value::Null => "nothing".to_owned(),
        Value::Int(number) => number.to_string(),
        Value::Bytes(bytes) => hex(bytes),
    });
    let key = shown.collect::<Vec<_>>().join("/");
    (Some(Difference { key, what }), pass)
}

fn hex(bytes: &[u8]) -> String {
    use fmt::Write;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        write!(text, "{byte:02x}").ok();
        text
    })
}
