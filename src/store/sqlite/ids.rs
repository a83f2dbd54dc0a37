//! Finding rows by ids that fall anywhere.
//!
//! Such ids are looked up rarely and written always, so they are kept in buckets by age: a write touches the pages of
//! the newest bucket only, however long the history is; a look-up probes bucket after bucket, the newest first.

use rusqlite::{Connection, params};

/// Events in a bucket, as a power of two.
const BUCKET_BITS: u32 = 12;

/// Buckets that count as recent.
const RECENT: i64 = 2;

/// What an id stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A message's id; the row is its.
    Message = 0,
    /// A `webhook-id`; the row is the outbox's.
    Outbound = 1,
    /// The hash of a provider's event key; the row is the event's.
    Event = 2,
}

/// Makes `row` known by `id`, as of the event with the row `event`.
pub(super) fn remember(
    connection: &Connection,
    event: i64,
    kind: Kind,
    id: &[u8; 16],
    row: i64,
) -> rusqlite::Result<()> {
    connection
        .prepare_cached("INSERT INTO ids (bucket, id, kind, row) VALUES (?1, ?2, ?3, ?4) ON CONFLICT DO NOTHING")?
        .execute(params![event >> BUCKET_BITS, id, kind as i64, row])
        .map(drop)
}

/// The newest row that `id` stands for.
pub(super) fn find(connection: &Connection, kind: Kind, id: &[u8; 16]) -> rusqlite::Result<Option<i64>> {
    probe(connection, kind, id, i64::MAX)
}

/// The same, among the newest events only.
pub(super) fn find_recent(connection: &Connection, kind: Kind, id: &[u8; 16]) -> rusqlite::Result<Option<i64>> {
    probe(connection, kind, id, RECENT)
}

fn probe(connection: &Connection, kind: Kind, id: &[u8; 16], buckets: i64) -> rusqlite::Result<Option<i64>> {
    let newest: Option<i64> = connection.prepare_cached("SELECT max(bucket) FROM ids")?.query_row([], |r| r.get(0))?;
    let Some(newest) = newest else { return Ok(None) };
    let mut probe =
        connection.prepare_cached("SELECT max(row) FROM ids WHERE bucket = ?1 AND id = ?2 AND kind = ?3")?;
    for bucket in (newest.saturating_sub(buckets - 1).max(0)..=newest).rev() {
        if let Some(row) = probe.query_row(params![bucket, id, kind as i64], |r| r.get(0))? {
            return Ok(Some(row));
        }
    }
    Ok(None)
}

/// Every row that `id` stands for, oldest first.
pub(super) fn find_all(connection: &Connection, kind: Kind, id: &[u8; 16]) -> rusqlite::Result<Vec<i64>> {
    let newest: Option<i64> = connection.prepare_cached("SELECT max(bucket) FROM ids")?.query_row([], |r| r.get(0))?;
    let mut probe = connection.prepare_cached("SELECT row FROM ids WHERE bucket = ?1 AND id = ?2 AND kind = ?3")?;
    let mut rows = Vec::new();
    for bucket in 0..newest.map_or(0, |newest| newest + 1) {
        for row in probe.query_map(params![bucket, id, kind as i64], |r| r.get(0))? {
            rows.push(row?);
        }
    }
    Ok(rows)
}
