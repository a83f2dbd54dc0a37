//! Removing what nobody needs any more, in small batches.

use super::writer::Tx;
use crate::domain::time::Timestamp;
use crate::store::listing::Retained;
use rusqlite::{Connection, OptionalExtension, params};

/// Deliveries that are looked at for each that may be removed.
const LOOKED_AT: i64 = 16;

/// Removes old raw webhooks and old finished deliveries; dead letters and what is owed stay.
pub(super) fn retain(
    tx: &mut Tx<'_>,
    raw_before: Timestamp,
    finished_before: Timestamp,
    limit: usize,
) -> rusqlite::Result<Retained> {
    let limit = count(limit);
    // Rows were inserted in the order of their times, so the oldest are the first.
    let raw = tx
        .connection
        .prepare_cached(
            "DELETE FROM webhooks WHERE id IN (SELECT id FROM webhooks ORDER BY id LIMIT ?2) AND received_at < ?1",
        )?
        .execute(params![raw_before.micros(), limit])?;
    let finished = remove_ended(tx, finished_before, limit)?;
    // What follows from rows that are gone must be written, the last numbers of their lanes above all.
    if finished.iter().any(|(delivery, _)| !tx.memory.lanes.is_written(*delivery)) {
        tx.memory.lanes.settle_all(tx.connection)?;
    }
    // By name and not by age: older dead letters keep theirs for ever and must not hide the others.
    for (delivery, event) in &finished {
        tx.connection.prepare_cached("DELETE FROM attempts WHERE delivery = ?1")?.execute([delivery])?;
        tx.connection
            .prepare_cached(
                "DELETE FROM outbox WHERE id = ?1 AND NOT EXISTS (
                     SELECT 1 FROM deliveries d WHERE d.id BETWEEN outbox.first AND outbox.first + outbox.deliveries - 1)",
            )?
            .execute([event])?;
    }
    Ok(Retained { raw, finished: finished.len() })
}

/// Removes deliveries that ended before then, at most so many. Those that are owed, or were given up, may be a million, and all
/// webhooks wait meanwhile: so only some are looked at, from where the last look ended, until they are too young.
fn remove_ended(tx: &mut Tx<'_>, before: Timestamp, limit: i64) -> rusqlite::Result<Vec<(i64, i64)>> {
    let connection = tx.connection;
    // What was cancelled may never have been attempted; then the time at which it was due is its time.
    let mut look = connection.prepare_cached(
        "SELECT id, event, state IN (2, 4) AND coalesce(last_at, due_at) < ?2 FROM deliveries
         WHERE id >= ?1 ORDER BY id LIMIT ?3",
    )?;
    let most = limit.saturating_mul(LOOKED_AT);
    let mut rows = look.query(params![tx.memory.unlooked, before.micros(), most])?;
    let (mut ended, mut last, mut looked_at) = (Vec::new(), None, 0);
    while count(ended.len()) < limit
        && let Some(row) = rows.next()?
    {
        let (delivery, event, is_old): (i64, i64, bool) = (row.get(0)?, row.get(1)?, row.get(2)?);
        if is_old {
            ended.push((delivery, event));
        }
        last = Some((delivery, event));
        looked_at += 1;
    }
    let is_last = count(ended.len()) < limit && looked_at < most;
    tx.memory.unlooked = match last {
        Some((delivery, event)) if !is_last && !is_young(connection, event, before)? => delivery + 1,
        _ => 0,
    };
    let mut remove = connection.prepare_cached("DELETE FROM deliveries WHERE id = ?1")?;
    for (delivery, _) in &ended {
        remove.execute([delivery])?;
    }
    Ok(ended)
}

/// Whether an event downstream was committed at that time or later: those behind it were too.
fn is_young(connection: &Connection, event: i64, before: Timestamp) -> rusqlite::Result<bool> {
    let created = connection
        .prepare_cached("SELECT created_at FROM outbox WHERE id = ?1")?
        .query_row([event], |r| r.get::<_, i64>(0))
        .optional()?;
    Ok(created.is_some_and(|created| created >= before.micros()))
}

fn count(length: usize) -> i64 {
    i64::try_from(length).unwrap_or(i64::MAX)
}
