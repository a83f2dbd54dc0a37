//! Removing what nobody needs any more: whole days at a time, by dropping their partitions.
//!
//! A day goes when all of it is old enough, so rows live up to a day longer than configured. What still needs a day's
//! events downstream - dead letters, what is still owed, what was delivered on a later day - keeps its bodies: they
//! move to the partition for the rest before the day is dropped.

use super::connect::Session;
use super::error::Failure;
use super::schema::{DAILY, partition};
use super::sql::{database_now, day, number};
use crate::domain::time::Timestamp;
use crate::store::listing::Retained;

/// Transactions older than this have come to an end, whatever became of their connections: in microseconds.
const FLUSHED: i64 = 3_600_000_000;

pub(super) async fn retain(
    session: &Session,
    raw_before: Timestamp,
    finished_before: Timestamp,
    limit: usize,
) -> Result<Retained, Failure> {
    let mut retained = Retained::default();
    let (raw, finished) = (day(raw_before), day(finished_before));
    for day in days(session, "webhooks").await?.into_iter().filter(|day| *day < raw) {
        retained.raw += drop_day(session, "webhooks", day).await?;
    }
    retained.raw += rest(session, "webhooks", raw, limit).await?;
    for day in days(session, "finished").await?.into_iter().filter(|day| *day < finished) {
        let name = partition("finished", day);
        let logged = format!("DELETE FROM attempts a USING {name} f WHERE a.delivery = f.id AND f.attempts > 1");
        session.execute(&logged, &[]).await?;
        retained.finished += drop_day(session, "finished", day).await?;
    }
    retained.finished += rest(session, "finished", finished, limit).await?;
    retained.finished += cancelled(session, finished_before, limit).await?;
    for day in days(session, "outbox").await?.into_iter().filter(|day| *day < finished) {
        outbox(session, day).await?;
    }
    leftovers(session, finished, limit).await?;
    let old = database_now(session).await?.micros() - FLUSHED;
    let forgotten = "DELETE FROM flushes WHERE id IN (SELECT id FROM flushes WHERE at < $1 LIMIT 10000)";
    session.execute(forgotten, &[&old]).await?;
    super::nodes::forget(session).await?;
    Ok(retained)
}

/// The days that a table has partitions for.
async fn days(session: &Session, table: &str) -> Result<Vec<i32>, Failure> {
    let names = session
        .query(
            "SELECT c.relname::text FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
             WHERE i.inhparent = to_regclass($1::text) ORDER BY c.relname",
            &[&table],
        )
        .await?;
    let day = |name: &str| name.strip_prefix(table)?.strip_prefix('_')?.parse().ok();
    Ok(names.iter().filter_map(|row| day(row.get(0))).collect())
}

/// Drops a day's partition and says about how many rows that were: counting millions one by one would cost more than
/// dropping them.
async fn drop_day(session: &Session, table: &str, day: i32) -> Result<usize, Failure> {
    let name = partition(table, day);
    let rows = rows_in(session, &name).await?;
    gone(session, &name, "").await?;
    Ok(rows)
}

async fn rows_in(session: &Session, name: &str) -> Result<usize, Failure> {
    let guess: f32 =
        session.query_one("SELECT reltuples FROM pg_class WHERE oid = to_regclass($1::text)", &[&name]).await?.get(0);
    if guess > 10_000.0 {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a positive estimate")]
        return Ok(guess as usize);
    }
    let counted: i64 = session.query_one(&format!("SELECT count(*) FROM {name}"), &[]).await?.get(0);
    Ok(usize::try_from(counted).unwrap_or_default())
}

/// A drop needs the table for itself; whoever works with it must not wait long for that.
async fn gone(session: &Session, name: &str, first: &str) -> Result<(), Failure> {
    let sql = format!("BEGIN; SET LOCAL lock_timeout = '300ms'; {first} DROP TABLE {name}; COMMIT");
    match session.batch_execute(&sql).await {
        Ok(()) => Ok(()),
        Err(error) => {
            session.batch_execute("ROLLBACK").await?;
            Err(error.into())
        }
    }
}

/// Rows of old days that had no partition.
async fn rest(session: &Session, table: &'static str, before: i32, limit: usize) -> Result<usize, Failure> {
    debug_assert!(DAILY.contains(&table), "only tables with partitions have a rest");
    let limit = number(limit);
    let logged = if table == "finished" {
        ", logged AS (DELETE FROM attempts a USING old WHERE a.delivery = old.id)"
    } else {
        ""
    };
    let sql = format!(
        "WITH old AS (SELECT id FROM {table}_rest WHERE day < $1 ORDER BY id LIMIT $2){logged}
         DELETE FROM {table}_rest t USING old WHERE t.id = old.id"
    );
    let removed = session.execute(&sql, &[&before, &limit]).await?;
    Ok(usize::try_from(removed).unwrap_or_default())
}

/// What was cancelled stays where it was owed. It may never have been attempted; then the time at which it was due is
/// its time.
async fn cancelled(session: &Session, before: Timestamp, limit: usize) -> Result<usize, Failure> {
    let removed = session
        .execute(
            "WITH old AS (
                 SELECT id FROM deliveries WHERE state <> 0 AND state = 4 AND coalesce(last_at, due_at) < $1
                 ORDER BY id LIMIT $2
             ), logged AS (DELETE FROM attempts a USING old WHERE a.delivery = old.id)
             DELETE FROM deliveries d USING old WHERE d.id = old.id",
            &[&before.micros(), &number(limit)],
        )
        .await?;
    Ok(usize::try_from(removed).unwrap_or_default())
}

/// Drops a day of events downstream, all but those that are still needed.
async fn outbox(session: &Session, day: i32) -> Result<(), Failure> {
    let name = partition("outbox", day);
    // Rows of a day without a partition go to the rest.
    let needed = format!(
        "CREATE TEMPORARY TABLE needed ON COMMIT DROP AS
             SELECT o.* FROM {name} o
             WHERE EXISTS (SELECT 1 FROM deliveries d WHERE d.event = o.id)
                 OR o.id IN (SELECT f.event FROM finished f WHERE f.event_day = {day} AND f.event_day <> f.day);"
    );
    let sql = format!(
        "BEGIN; SET LOCAL lock_timeout = '300ms'; SET LOCAL statement_timeout = '60s'; {needed} DROP TABLE {name}; INSERT INTO outbox SELECT * FROM needed;
         COMMIT"
    );
    match session.batch_execute(&sql).await {
        Ok(()) => Ok(()),
        Err(error) => {
            session.batch_execute("ROLLBACK").await?;
            Err(error.into())
        }
    }
}

/// Events downstream of old days that had no partition, or were needed longer than their day.
async fn leftovers(session: &Session, before: i32, limit: usize) -> Result<(), Failure> {
    session
        .execute(
            "DELETE FROM outbox_rest WHERE id IN (
                 SELECT o.id FROM outbox_rest o
                 WHERE o.day < $1 AND NOT EXISTS (SELECT 1 FROM deliveries d WHERE d.event = o.id)
                     AND NOT EXISTS (SELECT 1 FROM finished f WHERE f.event = o.id)
                 ORDER BY o.id LIMIT $2)",
            &[&before, &number(limit)],
        )
        .await?;
    Ok(())
}
