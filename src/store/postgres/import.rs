//! A copy of another store, put into this database chunk by chunk and read again as the same logical tables.
//!
//! What is derived here from a copied row - its partition, what look-ups find it by - is read back as part of the
//! row, so that the comparison proves it too.

use super::connect::{Database, Session, settle};
use super::error::Failure;
use super::inbound::write::IDS;
use super::schema::{self, Trouble};
use super::sql::{bucket, day, key_hash, text};
use super::{LEISURE, address, nodes, prepare_copy, unreachable_now};
use crate::domain::time::Timestamp;
use crate::store::copy::{Begun, Portrait, Progress, Read, Target};
use crate::store::tables::{Kind, PAGE_BYTES, PAGE_ROWS, Row, TABLES, Table, Value, decode, encode};
use crate::store::{Opening, StoreError};
use std::collections::{BTreeSet, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::time::timeout;
use tokio_postgres::types::ToSql;
use uuid::Uuid;

/// Events that count as recent for look-ups: about a bucket of them. Copied rows of them go into the bucket of the
/// next new row, because ids go on above every copied one, which may be many buckets further.
const RECENT: i64 = 40_000;

/// Days before today for which partitions are made. What is older goes to the rest: there is not much of it, and a table
/// of a thousand partitions is no good to anybody.
const DAYS: i32 = 100;

/// What a store's rows are in. Heartbeats and probes are none.
const OURS: [&str; 14] = [
    "accounts",
    "webhooks",
    "events",
    "ids",
    "dedupe",
    "conversations",
    "messages",
    "early_messages",
    "outbox",
    "subscribers",
    "lanes",
    "deliveries",
    "finished",
    "attempts",
];

struct Import {
    database: Arc<Database>,
    now: Timestamp,
    /// Partitions that are known to be there.
    made: Mutex<HashSet<(&'static str, i32)>>,
    /// The source's newest event and the next new row, once they are known.
    ends: Mutex<(i64, i64)>,
}

pub(in crate::store) async fn target(url: &str, opening: &Opening<'_>) -> Result<Arc<dyn Target>, StoreError> {
    let Opening { now, connections, chance, clock, .. } = *opening;
    let database = Arc::new(Database::new(address::parse(url)?, connections, clock, chance));
    match prepare_copy(&database, now).await {
        Ok(()) => {}
        Err(Trouble::Unusable(error)) => return Err(error),
        Err(Trouble::Failure(failure)) => return Err(unreachable_now(failure)),
    }
    Ok(Arc::new(Import { database, now, made: Mutex::default(), ends: Mutex::default() }))
}

fn refused(detail: impl Into<String>) -> StoreError {
    StoreError::Unusable { detail: detail.into(), source: None }
}

/// Why nobody may use the store: it is a copy that is not finished.
pub(super) async fn unfinished(session: &Session) -> Result<Option<StoreError>, Failure> {
    let select = session.prepare_cached("SELECT rows FROM copies WHERE verified_at IS NULL").await?;
    let unfinished = session.query_opt(&select, &[]).await?;
    Ok(unfinished.map(|row| {
        let rows: i64 = row.get(0);
        refused(format!(
            "the database holds an unfinished copy of another store ({rows} rows): run the same `birdwire store copy` \
             again, which goes on with it, or `birdwire store copy --abandon` to empty the database"
        ))
    }))
}

/// The same for a store that is opened.
pub(super) async fn refuse_unfinished(session: &Session) -> Result<(), Trouble> {
    unfinished(session).await?.map_or(Ok(()), |error| Err(Trouble::Unusable(error)))
}

/// Does something on a connection of its own; a refusal is no failure of the database's.
macro_rules! on {
    ($import:expr, |$session:ident| $work:expr) => {{
        let owned = $import.database.session().await?;
        let outcome = {
            let $session = &owned;
            timeout(LEISURE, $work).await
        };
        settle(&$import.database, owned, outcome).await
    }};
}

/// How far a copy is, as its row says.
fn progress(row: &tokio_postgres::Row) -> Result<Progress, StoreError> {
    let odd = || refused("the mark of the copy in the database cannot be read: it was made by another birdwire");
    let part: &str = row.get("part");
    let after = row.get::<_, Option<&[u8]>>("after").map(|bytes| decode(bytes).ok_or_else(odd)).transpose()?;
    Ok(Progress {
        table: TABLES.iter().position(|table| table.name == part).ok_or_else(odd)?,
        after,
        rows: row.get::<_, i64>("rows").unsigned_abs(),
    })
}

const MARK: &str = "SELECT source, part, after, rows, verified_at FROM copies WHERE id = 1 FOR UPDATE";

async fn begin(session: &Session, source: &Portrait, now: Timestamp) -> Result<Result<Begun, StoreError>, Failure> {
    session.batch_execute("BEGIN").await?;
    // One at a time.
    session.query_one("SELECT id FROM schema_lock WHERE id = 1 FOR UPDATE", &[]).await?;
    let begun = begun(session, source, now).await?;
    session.batch_execute(if begun.is_ok() { "COMMIT" } else { "ROLLBACK" }).await?;
    if let Ok(Begun::Goes(progress)) = &begun
        && let Some(node) = nodes::list(session).await?.into_iter().find(nodes::is_alive)
    {
        // Looked for when the mark is there: a node looks for that after its first heartbeat.
        if progress.rows == 0 {
            session.execute("DELETE FROM copies WHERE verified_at IS NULL", &[]).await?;
        }
        return Ok(Err(refused(format!("{} serves from the database: stop it before the copy", node.name))));
    }
    Ok(begun)
}

async fn begun(session: &Session, source: &Portrait, now: Timestamp) -> Result<Result<Begun, StoreError>, Failure> {
    if let Some(mark) = session.query_opt(MARK, &[]).await? {
        let is_same = mark.get::<_, &[u8]>("source") == source.print;
        match mark.get::<_, Option<i64>>("verified_at") {
            Some(at) if is_same => return Ok(Ok(Begun::Finished(Timestamp::from_micros(at)))),
            Some(_) => {}
            None if is_same => return Ok(progress(&mark).map(Begun::Goes)),
            None => {
                return Ok(Err(refused(
                    "the database holds an unfinished copy of another store, or of this one before it changed: \
                     `birdwire store copy --abandon` empties the database, then copy again",
                )));
            }
        }
    }
    for table in OURS {
        if session.query_opt(&format!("SELECT 1 FROM {table} LIMIT 1"), &[]).await?.is_some() {
            return Ok(Err(refused(format!(
                "the database holds a store already: there are rows in {table}; copy into an empty database or schema"
            ))));
        }
    }
    session
        .execute(
            "INSERT INTO copies (id, source, begun_at, newest_event, next_row, part, rows) VALUES (1, $1, $2, $3, $4, $5, 0)
             ON CONFLICT (id) DO UPDATE SET source = excluded.source, begun_at = excluded.begun_at,
                 newest_event = excluded.newest_event, next_row = excluded.next_row, part = excluded.part, after = NULL,
                 rows = 0, verified_at = NULL",
            &[&source.print, &now.micros(), &source.newest_event, &source.next_row, &TABLES[0].name],
        )
        .await?;
    Ok(Ok(Begun::Goes(Progress::default())))
}

impl Import {
    fn ends(&self) -> (i64, i64) {
        *self.ends.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The bucket in which a copied row is found that is known since `event`.
    fn bucket(&self, event: i64) -> i64 {
        let (newest, next) = self.ends();
        if event > newest - RECENT { bucket(next) } else { bucket(event) }
    }

    /// The same as SQL.
    fn bucket_sql(&self, event: &str) -> String {
        let (newest, next) = self.ends();
        let bits = super::sql::BUCKET_BITS;
        format!("CASE WHEN {event} > {} THEN {} ELSE {event} >> {bits} END", newest - RECENT, bucket(next))
    }

    /// Makes the partitions that rows belong into.
    async fn partitions(&self, session: &Session, table: &'static Table, rows: &[Row]) -> Result<(), Failure> {
        if !schema::DAILY.contains(&table.name) {
            return Ok(());
        }
        let today = day(self.now);
        let days: BTreeSet<i32> = rows.iter().map(|row| day(day_of(table, row))).collect();
        for day in days.into_iter().filter(|day| (today - DAYS..=today + schema::AHEAD).contains(day)) {
            let is_made = self.made.lock().unwrap_or_else(PoisonError::into_inner).contains(&(table.name, day));
            if !is_made {
                schema::make_partition(session, table.name, day).await?;
                self.made.lock().unwrap_or_else(PoisonError::into_inner).insert((table.name, day));
            }
        }
        Ok(())
    }

    async fn write(
        &self,
        session: &Session,
        before: &Progress,
        table: &'static Table,
        rows: &[Row],
    ) -> Result<Result<Progress, StoreError>, Failure> {
        let columns = match columns(table, rows) {
            Ok(columns) => columns,
            Err(error) => return Ok(Err(error)),
        };
        self.partitions(session, table, rows).await?;
        // What a crash takes with it is a chunk together with its mark. The last commit is a synchronous one.
        session.batch_execute("BEGIN; SET LOCAL synchronous_commit = off; SET LOCAL statement_timeout = '60s'").await?;
        let mark = session.query_opt(MARK, &[]).await?.filter(|row| row.get::<_, Option<i64>>("verified_at").is_none());
        let found = mark.map(|row| progress(&row)).transpose();
        if !matches!(&found, Ok(Some(found)) if found == before) {
            session.batch_execute("ROLLBACK").await?;
            let other = || refused("the copy in the database is not where it was: another birdwire copies into it");
            return Ok(Err(found.err().unwrap_or_else(other)));
        }
        let insert = session.prepare_cached(&insert(table)).await?;
        let params: Vec<&(dyn ToSql + Sync)> = columns.iter().map(|c| &**c as &(dyn ToSql + Sync)).collect();
        session.execute(&insert, &params).await?;
        self.remember(session, table, rows).await?;
        let after: Option<Vec<Value>> = rows.last().map(|row| row[..table.key].to_vec());
        let after = after.or_else(|| before.after.clone());
        let reached = Progress {
            table: TABLES.iter().position(|other| other.name == table.name).unwrap_or(before.table),
            rows: before.rows + u64::try_from(rows.len()).unwrap_or_default(),
            after,
        };
        let key = reached.after.as_deref().map(|values| {
            let mut bytes = Vec::new();
            encode(values, &mut bytes);
            bytes
        });
        let count = i64::try_from(reached.rows).unwrap_or(i64::MAX);
        session
            .execute("UPDATE copies SET part = $1, after = $2, rows = $3 WHERE id = 1", &[&table.name, &key, &count])
            .await?;
        session.batch_execute("COMMIT").await?;
        Ok(Ok(reached))
    }

    /// Makes rows known by what look-ups look for.
    async fn remember(&self, session: &Session, table: &Table, rows: &[Row]) -> Result<(), Failure> {
        let at = |row: &Row, name: &str| table.column(name).and_then(|at| row.get(at)).cloned().unwrap_or(Value::Null);
        let id = |value: &Value| value.bytes().and_then(|bytes| Uuid::from_slice(bytes).ok());
        let known = |row: &Row| {
            let own = at(row, "id").int()?;
            let (event, id, kind) = match table.name {
                "messages" => (at(row, "event").int()?, id(&at(row, "uuid"))?, 0i16),
                "outbox" => (at(row, "event").int()?, id(&at(row, "uuid"))?, 1),
                "events" => (own, key_hash(&text(at(row, "provider_key").bytes()?.to_vec())), 2),
                _ => return None,
            };
            Some((self.bucket(event), id, kind, own))
        };
        let mut known: Vec<(i64, Uuid, i16, i64)> = rows.iter().filter_map(known).collect();
        if known.is_empty() {
            return Ok(());
        }
        known.sort_unstable();
        let buckets: Vec<i64> = known.iter().map(|k| k.0).collect();
        let ids: Vec<Uuid> = known.iter().map(|k| k.1).collect();
        let kinds: Vec<i16> = known.iter().map(|k| k.2).collect();
        let rows: Vec<i64> = known.iter().map(|k| k.3).collect();
        let insert = session.prepare_cached(IDS).await?;
        session.execute(&insert, &[&buckets, &ids, &kinds, &rows]).await?;
        Ok(())
    }

    async fn read(&self, session: &Session, table: &Table, after: Option<&[Value]>) -> Result<Vec<Row>, Failure> {
        let after = after.map(|values| keys(table, values)).unwrap_or_default();
        let params: Vec<&(dyn ToSql + Sync)> = after.iter().map(|c| &**c as &(dyn ToSql + Sync)).collect();
        let names: Vec<String> = table.columns[..table.key].iter().map(|c| format!("t.\"{}\"", c.name)).collect();
        let names = names.join(", ");
        let marks: Vec<String> = (after.iter().zip(table.columns).enumerate())
            .map(|(n, (_, column))| format!("${}::{}", n + 1, sql_type(column.kind)))
            .collect();
        let beyond = if after.is_empty() { String::new() } else { format!("WHERE ({names}) > ({})", marks.join(", ")) };
        let mut limit = i64::try_from(PAGE_ROWS).unwrap_or(i64::MAX);
        let long: Vec<String> = table
            .columns
            .iter()
            .filter(|column| matches!((column.kind, table.name), (Kind::Words, _) | (Kind::Text, "messages")))
            .map(|column| format!("coalesce(octet_length(t.\"{}\"), 0)", column.name))
            .collect();
        if !long.is_empty() {
            // Bodies are as long as strangers make them: as many rows as fit, and one at least.
            let sql = format!(
                "SELECT count(*) FROM (
                     SELECT sum(s.size) OVER (ORDER BY s.nth) - s.size AS before FROM (
                         SELECT {} AS size, row_number() OVER (ORDER BY {names}) AS nth FROM {} t {beyond}
                         ORDER BY {names} LIMIT {PAGE_ROWS}) s) b
                 WHERE before < {PAGE_BYTES}",
                long.join(" + "),
                table.name
            );
            let fits = session.prepare_cached(&sql).await?;
            limit = session.query_one(&fits, &params).await?.get(0);
        }
        let columns: Vec<String> = table.columns.iter().map(|c| self.column(table, c.name, c.kind)).collect();
        let sql = format!(
            "SELECT {} FROM {} t {beyond} ORDER BY {names} LIMIT ${}",
            columns.join(", "),
            table.name,
            after.len() + 1
        );
        let select = session.prepare_cached(&sql).await?;
        let params: Vec<&(dyn ToSql + Sync)> = params.into_iter().chain([&limit as &(dyn ToSql + Sync)]).collect();
        let value = |row: &tokio_postgres::Row, at: usize, kind: Kind| {
            let found = match kind {
                Kind::Int | Kind::Flag => row.get::<_, Option<i64>>(at).map(Value::Int),
                Kind::Text | Kind::Words | Kind::Id => row.get::<_, Option<Vec<u8>>>(at).map(Value::Bytes),
            };
            found.unwrap_or(Value::Null)
        };
        let row = |row: &tokio_postgres::Row| {
            table.columns.iter().enumerate().map(|(at, column)| value(row, at, column.kind)).collect()
        };
        Ok(session.query(&select, &params).await?.iter().map(row).collect())
    }

    /// What a column is here. One that is in the wrong partition, or not found by what look-ups look for, is another.
    fn column(&self, table: &Table, name: &str, kind: Kind) -> String {
        let known = |id: &str, kind: i16, event: &str| {
            let bucket = self.bucket_sql(event);
            // As a look-up: EXISTS may be worked out for all rows of the table at once, for every page.
            format!(
                "((SELECT i.row FROM ids i WHERE i.bucket = {bucket} AND i.id = {id} AND i.kind = {kind} AND i.row = t.id)\
                 IS NOT NULL)::integer::bigint"
            )
        };
        let in_place = |column: &str, day: &str| format!("CASE WHEN t.day = {day} THEN t.{column} END");
        match (table.name, name) {
            ("messages", "known") => known("t.uuid", 0, "t.event"),
            ("outbox", "known") => known("t.uuid", 1, "t.event"),
            ("events", "known") => format!(
                "CASE WHEN t.provider_key IS NULL THEN 0 ELSE {} END",
                known("encode(substring(sha256(t.provider_key) FROM 1 FOR 16), 'hex')::uuid", 2, "t.id")
            ),
            (_, "event_at") => {
                "(SELECT o.created_at FROM outbox o WHERE o.id = t.event AND o.day = t.event_day)".to_owned()
            }
            ("webhooks", "received_at") => in_place("received_at", "t.received_at / 86400000000"),
            ("outbox", "created_at") => in_place("created_at", "t.created_at / 86400000000"),
            ("finished", "due_at") => in_place("due_at", FINISHED_DAY),
            _ => match kind {
                Kind::Int => format!("t.\"{name}\"::bigint"),
                Kind::Flag => format!("t.\"{name}\"::integer::bigint"),
                Kind::Text => format!("convert_to(t.\"{name}\", 'UTF8')"),
                Kind::Words => format!("t.\"{name}\""),
                Kind::Id => format!("uuid_send(t.\"{name}\")"),
            },
        }
    }
}

#[async_trait::async_trait]
impl Read for Import {
    async fn page(&self, table: &'static Table, after: Option<&[Value]>) -> Result<Vec<Row>, StoreError> {
        Ok(on!(self, |session| self.read(session, table, after))?)
    }

    async fn close(&self) {
        self.database.close();
    }
}

#[async_trait::async_trait]
impl Target for Import {
    async fn begin(&self, source: &Portrait, now: Timestamp) -> Result<Begun, StoreError> {
        let begun = on!(self, |session| begin(session, source, now))??;
        *self.ends.lock().unwrap_or_else(PoisonError::into_inner) = (source.newest_event, source.next_row);
        Ok(begun)
    }

    async fn put(&self, before: &Progress, table: &'static Table, rows: &[Row]) -> Result<Progress, StoreError> {
        on!(self, |session| self.write(session, before, table, rows)).map_err(|failure| {
            match StoreError::from(failure) {
                StoreError::Unavailable { detail, source } => {
                    StoreError::Unavailable { detail: format!("{}: {detail}", table.name), source }
                }
                other => other,
            }
        })?
    }

    async fn finish(&self, now: Timestamp) -> Result<(), StoreError> {
        let (_, next) = self.ends();
        if on!(self, |session| finish(session, next, now))? {
            return Ok(());
        }
        Err(refused("the copy was abandoned meanwhile by another birdwire"))
    }

    async fn abandon(&self) -> Result<bool, StoreError> {
        Ok(on!(self, |session| abandon(session))?)
    }
}

/// New rows are above every copied one before anybody may serve.
async fn finish(session: &Session, next: i64, now: Timestamp) -> Result<bool, Failure> {
    session.execute("SELECT setval('row_ids', greatest($1, last_value), false) FROM row_ids", &[&next]).await?;
    let sql = "UPDATE copies SET after = NULL, verified_at = $1 WHERE id = 1 AND verified_at IS NULL";
    Ok(session.execute(sql, &[&now.micros()]).await? > 0)
}

async fn abandon(session: &Session) -> Result<bool, Failure> {
    session.batch_execute("BEGIN; SET LOCAL statement_timeout = '60s'").await?;
    session.query_one("SELECT id FROM schema_lock WHERE id = 1 FOR UPDATE", &[]).await?;
    let unfinished = session.execute("DELETE FROM copies WHERE verified_at IS NULL", &[]).await?;
    if unfinished > 0 {
        session.batch_execute(&format!("TRUNCATE {}", OURS.join(", "))).await?;
    }
    session.batch_execute("COMMIT").await?;
    Ok(unfinished > 0)
}

/// When something was delivered, which is what its partition goes by.
const FINISHED_DAY: &str = "(coalesce(t.last_at, t.due_at) + coalesce(t.last_ms, 0) * 1000) / 86400000000";

/// The moment that a row's partition goes by.
fn day_of(table: &Table, row: &Row) -> Timestamp {
    let number = |name: &str| table.column(name).and_then(|at| row.get(at)).and_then(Value::int);
    let at = match table.name {
        "webhooks" => number("received_at"),
        "outbox" => number("created_at"),
        _ => number("last_at")
            .or_else(|| number("due_at"))
            .map(|at| at.saturating_add(number("last_ms").unwrap_or_default().saturating_mul(1000))),
    };
    Timestamp::from_micros(at.unwrap_or_default())
}

/// The statement that puts rows in: a parameter for each column, with an element for each row.
fn insert(table: &Table) -> String {
    let derived: &[(&str, &str)] = match table.name {
        "webhooks" => &[("day", "t.received_at / 86400000000")],
        "outbox" => &[("day", "t.created_at / 86400000000")],
        "finished" => &[("day", FINISHED_DAY), ("event_day", "coalesce(t.event_at, 0) / 86400000000")],
        "deliveries" => &[("event_day", "coalesce(t.event_at, 0) / 86400000000")],
        _ => &[],
    };
    let kept = table.columns.iter().filter(|column| !matches!(column.name, "known" | "event_at"));
    let (mut names, mut values): (Vec<String>, Vec<String>) =
        kept.map(|column| (format!("\"{}\"", column.name), format!("t.\"{}\"", column.name))).unzip();
    names.extend(derived.iter().map(|(name, _)| (*name).to_owned()));
    values.extend(derived.iter().map(|(_, value)| (*value).to_owned()));
    let (given, arrays): (Vec<String>, Vec<String>) = table
        .columns
        .iter()
        .enumerate()
        .map(|(at, column)| (format!("\"{}\"", column.name), format!("${}::{}[]", at + 1, sql_type(column.kind))))
        .unzip();
    format!(
        "INSERT INTO {} ({}) SELECT {} FROM unnest({}) AS t({})",
        table.name,
        names.join(", "),
        values.join(", "),
        arrays.join(", "),
        given.join(", ")
    )
}

fn sql_type(kind: Kind) -> &'static str {
    match kind {
        Kind::Int => "bigint",
        Kind::Flag => "boolean",
        Kind::Text => "text",
        Kind::Words => "bytea",
        Kind::Id => "uuid",
    }
}

type Parameter<'a> = Box<dyn ToSql + Send + Sync + 'a>;

/// Rows as arrays, column by column.
fn columns<'a>(table: &Table, rows: &'a [Row]) -> Result<Vec<Parameter<'a>>, StoreError> {
    let column = |(at, column): (usize, &crate::store::tables::Column)| {
        let odd = || refused(format!("{}: a value of {} cannot be kept in the database", table.name, column.name));
        let values = rows.iter().map(|row| row.get(at).unwrap_or(&Value::Null));
        array(column.kind, values).ok_or_else(odd)
    };
    table.columns.iter().enumerate().map(column).collect()
}

/// Values of one kind as a parameter; `None` when one of them is of another.
fn array<'a>(kind: Kind, values: impl Iterator<Item = &'a Value>) -> Option<Parameter<'a>> {
    fn each<'a, T>(
        values: impl Iterator<Item = &'a Value>,
        of: impl Fn(&'a Value) -> Option<T>,
    ) -> Option<Vec<Option<T>>> {
        values.map(|value| if *value == Value::Null { Some(None) } else { of(value).map(Some) }).collect()
    }
    Some(match kind {
        Kind::Int => Box::new(each(values, Value::int)?),
        Kind::Flag => Box::new(each(values, |value| Some(value.int()? != 0))?),
        Kind::Text => Box::new(each(values, |value| {
            std::str::from_utf8(value.bytes()?).ok().filter(|text| !text.contains('\0'))
        })?),
        Kind::Words => Box::new(each(values, Value::bytes)?),
        Kind::Id => Box::new(each(values, |value| Uuid::from_slice(value.bytes()?).ok())?),
    })
}

/// A key as parameters.
fn keys<'a>(table: &Table, values: &'a [Value]) -> Vec<Parameter<'a>> {
    let one = |(column, value): (&crate::store::tables::Column, &'a Value)| -> Parameter<'a> {
        match column.kind {
            Kind::Id => Box::new(value.bytes().and_then(|bytes| Uuid::from_slice(bytes).ok())),
            _ => Box::new(value.int()),
        }
    };
    table.columns.iter().zip(values).map(one).collect()
}
