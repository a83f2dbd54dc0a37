//! Removing what nobody needs any more, in small batches.

use super::writer::Tx;
use crate::domain::time::Timestamp;
use crate::store::listing::Retained;
use rusqlite::params;

/// Removes old raw webhooks and old finished deliveries; dead letters and what is owed stay.
pub(super) fn retain(
    tx: &Tx<'_>,
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
    let finished = tx
        .connection
        .prepare_cached(
            "DELETE FROM deliveries WHERE id IN (
                 SELECT id FROM deliveries WHERE state = 2 ORDER BY id LIMIT ?2) AND last_at < ?1",
        )?
        .execute(params![finished_before.micros(), limit])?;
    if finished > 0 {
        tx.connection
            .prepare_cached(
                "DELETE FROM attempts WHERE id IN (SELECT id FROM attempts ORDER BY id LIMIT ?1)
                 AND NOT EXISTS (SELECT 1 FROM deliveries d WHERE d.id = attempts.delivery)",
            )?
            .execute([limit])?;
    }
    // An event that nobody was owed, or whose deliveries are gone.
    tx.connection
        .prepare_cached(
            "DELETE FROM outbox WHERE id IN (SELECT id FROM outbox ORDER BY id LIMIT ?2) AND created_at < ?1
             AND NOT EXISTS (SELECT 1 FROM deliveries d WHERE d.event = outbox.id)",
        )?
        .execute(params![finished_before.micros(), limit])?;
    Ok(Retained { raw, finished })
}
