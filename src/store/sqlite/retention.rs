//! Removing what nobody needs any more, in small batches.

use super::writer::Tx;
use crate::domain::time::Timestamp;
use crate::store::listing::Retained;
use rusqlite::params;

/// Removes old raw webhooks and old finished deliveries; dead letters and what is owed stay.
pub(super) fn retain(
    tx: &mut Tx<'_>,
    raw_before: Timestamp,
    finished_before: Timestamp,
    limit: usize,
) -> rusqlite::Result<Retained> {
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    // Rows were inserted in the order of their times, so the oldest are the first.
    let raw = tx
        .connection
        .prepare_cached(
            "DELETE FROM webhooks WHERE id IN (SELECT id FROM webhooks ORDER BY id LIMIT ?2) AND received_at < ?1",
        )?
        .execute(params![raw_before.micros(), limit])?;
    // What was cancelled may never have been attempted; then the time at which it was due is its time.
    let finished: Vec<(i64, i64)> = tx
        .connection
        .prepare_cached(
            "DELETE FROM deliveries WHERE id IN (
                 SELECT id FROM deliveries WHERE state IN (2, 4) ORDER BY id LIMIT ?2) AND coalesce(last_at, due_at) < ?1
             RETURNING id, event",
        )?
        .query_map(params![finished_before.micros(), limit], |r| Ok((r.get(0)?, r.get(1)?)))?
        .collect::<rusqlite::Result<_>>()?;
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
