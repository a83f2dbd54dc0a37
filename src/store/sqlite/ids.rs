//! Finding rows by ids that fall anywhere.
//!
//! Such ids are looked up rarely and written always, so they are kept in buckets by age: a write touches the pages of
//! the newest bucket only, however long the history is; a look-up probes bucket after bucket, the newest first. Those
//! of the newest rows are not in their buckets yet (`memory.rs`): they are found in the rows themselves.

use crate::store::columns::key_hash;
use rusqlite::{Connection, params};

/// Events in a bucket, as a power of two.
const BUCKET_BITS: u32 = 12;

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

/// Bucket, id, kind, row.
pub(super) type Entry = (i64, [u8; 16], i64, i64);

/// The bucket of what belongs to an event.
pub(super) const fn bucket(event: i64) -> i64 {
    event >> BUCKET_BITS
}

/// Writes entries to their places.
pub(super) fn write(connection: &Connection, entries: &[Entry]) -> rusqlite::Result<()> {
    let mut insert = connection
        .prepare_cached("INSERT INTO ids (bucket, id, kind, row) VALUES (?1, ?2, ?3, ?4) ON CONFLICT DO NOTHING")?;
    for (bucket, id, kind, row) in entries {
        insert.execute(params![bucket, id, kind, row])?;
    }
    Ok(())
}

/// The newest message that `id` stands for.
pub(super) fn find_message(connection: &Connection, id: &[u8; 16]) -> rusqlite::Result<Option<i64>> {
    let newest: Option<i64> = connection
        .prepare_cached("SELECT max(id) FROM messages WHERE id >= (SELECT message FROM tail) AND uuid = ?1")?
        .query_row([id], |r| r.get(0))?;
    if newest.is_some() {
        return Ok(newest);
    }
    let mut probe =
        connection.prepare_cached("SELECT max(row) FROM ids WHERE bucket = ?1 AND id = ?2 AND kind = ?3")?;
    for bucket in (0..buckets(connection)?).rev() {
        if let Some(row) = probe.query_row(params![bucket, id, Kind::Message as i64], |r| r.get(0))? {
            return Ok(Some(row));
        }
    }
    Ok(None)
}

/// Every message that `id` stands for, oldest first.
pub(super) fn messages(connection: &Connection, id: &[u8; 16]) -> rusqlite::Result<Vec<i64>> {
    let tail = "SELECT id FROM messages WHERE id >= (SELECT message FROM tail) AND uuid = ?1";
    every(connection, Kind::Message, id, tail, params![id])
}

/// Every event downstream that `id` stands for, oldest first.
pub(super) fn outbound(connection: &Connection, id: &[u8; 16]) -> rusqlite::Result<Vec<i64>> {
    let tail = "SELECT id FROM outbox WHERE id >= (SELECT outbox FROM tail) AND uuid = ?1";
    every(connection, Kind::Outbound, id, tail, params![id])
}

/// Every event with this key, oldest first.
pub(super) fn events(connection: &Connection, provider_key: &str) -> rusqlite::Result<Vec<i64>> {
    let tail = "SELECT id FROM events WHERE id >= (SELECT event FROM tail) AND provider_key = ?1";
    every(connection, Kind::Event, &key_hash(provider_key), tail, params![provider_key])
}

fn every(
    connection: &Connection,
    kind: Kind,
    id: &[u8; 16],
    tail: &str,
    of: &[&dyn rusqlite::ToSql],
) -> rusqlite::Result<Vec<i64>> {
    let mut probe = connection.prepare_cached("SELECT row FROM ids WHERE bucket = ?1 AND id = ?2 AND kind = ?3")?;
    let mut rows = std::collections::BTreeSet::new();
    for bucket in 0..buckets(connection)? {
        for row in probe.query_map(params![bucket, id, kind as i64], |r| r.get::<_, i64>(0))? {
            rows.insert(row?);
        }
    }
    for row in connection.prepare_cached(tail)?.query_map(of, |r| r.get::<_, i64>(0))? {
        rows.insert(row?);
    }
    Ok(rows.into_iter().collect())
}

fn buckets(connection: &Connection) -> rusqlite::Result<i64> {
    let newest: Option<i64> = connection.prepare_cached("SELECT max(bucket) FROM ids")?.query_row([], |r| r.get(0))?;
    Ok(newest.map_or(0, |newest| newest + 1))
}
