//! Finding rows by ids that fall anywhere, and recognising what comes again.
//!
//! Such ids are looked up rarely and come with every event, so each is kept as eight bytes: a hash, and which event it
//! has to do with, whose rows then tell. Entries are gathered by heart, sorted, and written a bucket of events at a
//! time, so that a write touches the newest pages only, however long the history is; a look-up probes bucket after
//! bucket. Keys of repeats are written beside them, in the order of their times. What is not written yet is found in
//! the rows themselves: `tail.event` says from which event on.

use super::statements::{Cell, Rows};
use crate::store::columns::key_hash;
use rusqlite::{Connection, OptionalExtension, params};
use std::collections::BTreeSet;
use uuid::Uuid;

/// Events in a bucket, as a power of two.
const BUCKET_BITS: u32 = 13;
/// Slices of a bucket, as a power of two.
const SLICE_BITS: u32 = 7;
/// Bits of a hash.
const HASH_BITS: u32 = 48;

/// The first half of a key's SHA-256.
pub(super) type KeyHash = [u8; 16];

/// What a repeat carries again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key {
    pub(super) account: i64,
    /// The event's time, in microseconds.
    pub(super) at: i64,
    pub(super) hash: KeyHash,
    pub(super) event: i64,
}

/// What is not written yet.
#[derive(Debug, Default)]
pub(super) struct Index {
    /// Everything of earlier events is written, or about to be.
    first: i64,
    /// Event and hash.
    entries: Vec<(i64, u64)>,
    keys: Vec<Key>,
    settling: Option<Settling>,
}

/// What is being written, a little with every commit.
#[derive(Debug)]
struct Settling {
    upto: i64,
    slices: std::vec::IntoIter<(i64, Vec<u8>)>,
    keys: std::vec::IntoIter<Key>,
}

impl Index {
    /// What follows from the rows from `tail.event` on.
    pub(super) fn load(connection: &Connection) -> rusqlite::Result<Self> {
        let first = tail(connection)?;
        let mut index = Self { first, ..Self::default() };
        let mut events = connection.prepare(
            "SELECT e.id, e.account, e.event_time, e.provider_key, e.state = 1, m.uuid
             FROM events e LEFT JOIN messages m ON m.id = e.message AND m.event = e.id WHERE e.id >= ?1",
        )?;
        let mut rows = events.query([first])?;
        while let Some(row) = rows.next()? {
            let event = row.get(0)?;
            if let Some(key) = row.get::<_, Option<String>>(3)? {
                let hash = key_hash(&key);
                index.entries.push((event, hash_of_key(&key, &hash)));
                // Of a repeat there is a key already.
                if let (Some(at), false) = (row.get(2)?, row.get(4)?) {
                    index.keys.push(Key { account: row.get(1)?, at, hash, event });
                }
            }
            if let Some(uuid) = row.get::<_, Option<[u8; 16]>>(5)? {
                index.entries.push((event, hash_of(&uuid)));
            }
        }
        let mut outbox = connection.prepare("SELECT event, uuid FROM outbox WHERE id >= ?1 << 3 AND event >= ?1")?;
        let mut rows = outbox.query([first])?;
        while let Some(row) = rows.next()? {
            index.entries.push((row.get(0)?, hash_of(&row.get(1)?)));
        }
        Ok(index)
    }

    /// Makes `event` be found by `id`.
    pub(super) fn id(&mut self, connection: &Connection, event: i64, id: &[u8; 16]) -> rusqlite::Result<()> {
        self.entry(connection, event, hash_of(id))
    }

    /// Makes `event` be found by a provider's key, of which `hash` is the hash.
    pub(super) fn key(
        &mut self,
        connection: &Connection,
        event: i64,
        key: &str,
        hash: &KeyHash,
    ) -> rusqlite::Result<()> {
        self.entry(connection, event, hash_of_key(key, hash))
    }

    /// Makes repeats of `key` be recognised, when it is no longer known by heart.
    pub(super) fn repeats(&mut self, connection: &Connection, key: Key) -> rusqlite::Result<()> {
        if self.is_late(key.event) {
            return write_keys(connection, &[key]);
        }
        self.keys.push(key);
        Ok(())
    }

    fn entry(&mut self, connection: &Connection, event: i64, hash: u64) -> rusqlite::Result<()> {
        if self.is_late(event) {
            let sql = "INSERT INTO id_late (hash, event) VALUES (?1, ?2) ON CONFLICT DO NOTHING";
            return connection.prepare_cached(sql)?.execute([hash.cast_signed(), event]).map(drop);
        }
        self.entries.push((event, hash));
        Ok(())
    }

    /// Whether the event's bucket is closed.
    fn is_late(&self, event: i64) -> bool {
        event < self.settling.as_ref().map_or(self.first, |settling| settling.upto)
    }

    /// After a commit: what belongs to a full bucket is to be written.
    pub(super) fn gather(&mut self, next_event: i64) {
        let upto = ((self.first >> BUCKET_BITS) + 1) << BUCKET_BITS;
        if self.settling.is_some() || next_event < upto {
            return;
        }
        let entries: Vec<_> = self.entries.extract_if(.., |(event, _)| *event < upto).collect();
        let mut keys: Vec<_> = self.keys.extract_if(.., |key| key.event < upto).collect();
        keys.sort_unstable();
        self.settling = Some(Settling { upto, slices: slices(&entries).into_iter(), keys: keys.into_iter() });
    }

    /// Writes some of it: as much as keeps what waits bounded while `items` are committed at a time.
    pub(super) fn settle(&mut self, connection: &Connection, items: usize) -> rusqlite::Result<()> {
        let Some(settling) = &mut self.settling else { return Ok(()) };
        let keys: Vec<Key> = settling.keys.by_ref().take(items.saturating_mul(4).max(64)).collect();
        write_keys(connection, &keys)?;
        let mut insert = connection.prepare_cached(
            "INSERT INTO id_slices (id, entries) VALUES (?1, ?2) ON CONFLICT DO UPDATE SET entries = excluded.entries",
        )?;
        for (id, entries) in settling.slices.by_ref().take(items.div_ceil(16).max(2)) {
            insert.execute(params![id, entries])?;
        }
        if settling.keys.len() == 0 && settling.slices.len() == 0 {
            self.first = settling.upto;
            connection.prepare_cached("UPDATE tail SET event = ?1")?.execute([self.first])?;
            self.settling = None;
        }
        Ok(())
    }

    /// Writes every key, for whoever looks at nothing but the tables.
    pub(super) fn settle_keys(&mut self, connection: &Connection) -> rusqlite::Result<()> {
        if let Some(settling) = &mut self.settling {
            self.keys.extend(settling.keys.by_ref());
        }
        self.keys.sort_unstable();
        write_keys(connection, &std::mem::take(&mut self.keys))
    }
}

fn write_keys(connection: &Connection, keys: &[Key]) -> rusqlite::Result<()> {
    let row = |key: &Key| [Cell::Int(key.account), Cell::Int(key.at), Cell::Half(key.hash), Cell::Int(key.event)];
    let rows: Vec<_> = keys.iter().map(row).collect();
    Rows::new(connection, "dedupe (account, event_time, key, event)", 4)?.insert(&rows)
}

/// Whether a key with this time is written already.
pub(super) fn is_repeat(connection: &Connection, account: i64, at: i64, hash: &KeyHash) -> rusqlite::Result<bool> {
    connection
        .prepare_cached("SELECT 1 FROM dedupe WHERE account = ?1 AND event_time = ?2 AND key = ?3")?
        .exists(params![account, at, hash])
}

/// The latest time with which a key of the account is written.
pub(super) fn latest_key(connection: &Connection, account: i64) -> rusqlite::Result<Option<i64>> {
    connection
        .prepare_cached("SELECT max(event_time) FROM dedupe WHERE account = ?1")?
        .query_row([account], |r| r.get(0))
}

/// The hash of an id. Ids are random nearly everywhere, but not in the same places.
fn hash_of(id: &[u8; 16]) -> u64 {
    let (high, low) = Uuid::from_bytes(*id).as_u64_pair();
    let mixed = (high ^ low.rotate_left(29)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed ^ (mixed >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9) >> (64 - HASH_BITS)
}

/// A key that is an id is found as one: the message that has it is found by it anyway.
fn hash_of_key(key: &str, hash: &KeyHash) -> u64 {
    match as_id(key) {
        Some(id) => hash_of(id.as_bytes()),
        None => hash_of(hash),
    }
}

/// An id as a message's is written; no other spelling of it.
fn as_id(key: &str) -> Option<Uuid> {
    let is_plain = key.len() == 36 && !key.bytes().any(|byte| byte.is_ascii_uppercase());
    if is_plain { Uuid::try_parse(key).ok() } else { None }
}

/// The rows of one bucket.
fn slices(entries: &[(i64, u64)]) -> Vec<(i64, Vec<u8>)> {
    const PLACES: i64 = (1 << BUCKET_BITS) - 1;
    let Some(bucket) = entries.first().map(|(event, _)| event >> BUCKET_BITS) else { return Vec::new() };
    let entry = |&(event, hash): &(i64, u64)| hash << BUCKET_BITS | (event & PLACES).cast_unsigned();
    let mut entries: Vec<u64> = entries.iter().map(entry).collect();
    entries.sort_unstable();
    entries.dedup();
    let slice = |entry: &u64| row(bucket, entry >> BUCKET_BITS);
    let slices = entries.chunk_by(|one, other| slice(one) == slice(other));
    slices.map(|entries| (slice(&entries[0]), entries.iter().flat_map(|entry| entry.to_be_bytes()).collect())).collect()
}

fn row(bucket: i64, hash: u64) -> i64 {
    bucket << SLICE_BITS | (hash >> (HASH_BITS - SLICE_BITS)).cast_signed()
}

/// Looks for what is written, bucket by bucket, the newest first.
struct Probe<'c> {
    connection: &'c Connection,
    hash: u64,
    late: std::vec::IntoIter<i64>,
    next_bucket: i64,
    found: std::vec::IntoIter<i64>,
}

impl<'c> Probe<'c> {
    fn new(connection: &'c Connection, hash: u64) -> rusqlite::Result<Self> {
        let late: Vec<i64> = connection
            .prepare_cached("SELECT event FROM id_late WHERE hash = ?1 ORDER BY event DESC")?
            .query_map([hash.cast_signed()], |r| r.get(0))?
            .collect::<rusqlite::Result<_>>()?;
        let newest: Option<i64> =
            connection.prepare_cached("SELECT max(id) FROM id_slices")?.query_row([], |r| r.get(0))?;
        Ok(Self {
            connection,
            hash,
            late: late.into_iter(),
            next_bucket: newest.map_or(-1, |row| row >> SLICE_BITS),
            found: Vec::new().into_iter(),
        })
    }

    /// The next event that the id may have to do with.
    fn next(&mut self) -> rusqlite::Result<Option<i64>> {
        if let Some(event) = self.late.next() {
            return Ok(Some(event));
        }
        loop {
            if let Some(event) = self.found.next() {
                return Ok(Some(event));
            }
            if self.next_bucket < 0 {
                return Ok(None);
            }
            let bucket = self.next_bucket;
            self.next_bucket -= 1;
            let entries = self
                .connection
                .prepare_cached("SELECT entries FROM id_slices WHERE id = ?1")?
                .query_row([row(bucket, self.hash)], |r| Ok(events_in(r.get_ref(0)?.as_blob()?, bucket, self.hash)))
                .optional()?;
            self.found = entries.unwrap_or_default().into_iter();
        }
    }
}

/// The events of a slice whose entries have this hash, the newest first.
fn events_in(slice: &[u8], bucket: i64, hash: u64) -> Vec<i64> {
    let (entries, _) = slice.as_chunks::<8>();
    let first = entries.partition_point(|entry| u64::from_be_bytes(*entry) >> BUCKET_BITS < hash);
    let same = entries[first..].iter().map(|entry| u64::from_be_bytes(*entry));
    let places = same.take_while(|entry| entry >> BUCKET_BITS == hash).map(|entry| entry & ((1 << BUCKET_BITS) - 1));
    let mut events: Vec<i64> = places.map(|place| bucket << BUCKET_BITS | place.cast_signed()).collect();
    events.reverse();
    events
}

/// The newest message that `id` stands for, among those of which the ids are written.
pub(super) fn older_message(connection: &Connection, id: &[u8; 16]) -> rusqlite::Result<Option<i64>> {
    let mut probe = Probe::new(connection, hash_of(id))?;
    while let Some(event) = probe.next()? {
        if let Some(row) = message_of(connection, event, id)? {
            return Ok(Some(row));
        }
    }
    Ok(None)
}

fn message_of(connection: &Connection, event: i64, id: &[u8; 16]) -> rusqlite::Result<Option<i64>> {
    connection
        .prepare_cached(
            "SELECT m.id FROM events e JOIN messages m ON m.id = e.message WHERE e.id = ?1 AND m.uuid = ?2",
        )?
        .query_row(params![event, id], |r| r.get(0))
        .optional()
}

/// The newest message that `id` stands for.
pub(super) fn find_message(connection: &Connection, id: &[u8; 16]) -> rusqlite::Result<Option<i64>> {
    let newest: Option<i64> = connection
        .prepare_cached("SELECT max(id) FROM messages WHERE id >= (SELECT event FROM tail) AND uuid = ?1")?
        .query_row([id], |r| r.get(0))?;
    match newest {
        None => older_message(connection, id),
        row => Ok(row),
    }
}

/// Every message that `id` stands for, oldest first.
pub(super) fn messages(connection: &Connection, id: &[u8; 16]) -> rusqlite::Result<Vec<i64>> {
    let newest = "SELECT id FROM messages WHERE id >= (SELECT event FROM tail) AND uuid = ?1";
    every(connection, hash_of(id), newest, params![id], |event| {
        Ok(message_of(connection, event, id)?.into_iter().collect())
    })
}

/// Every event downstream that `id` stands for, oldest first.
pub(super) fn outbound(connection: &Connection, id: &[u8; 16]) -> rusqlite::Result<Vec<i64>> {
    let newest = "SELECT id FROM outbox WHERE id >= (SELECT event << 3 FROM tail) AND uuid = ?1";
    let mut uuid = connection.prepare_cached("SELECT uuid FROM outbox WHERE id = ?1")?;
    every(connection, hash_of(id), newest, params![id], |event| {
        let mut rows = super::outbox::of_event(connection, event)?;
        let mut failure = Ok(());
        rows.retain(|row| match uuid.query_row([row], |r| r.get::<_, [u8; 16]>(0)) {
            Ok(found) => found == *id,
            Err(error) => {
                failure = Err(error);
                false
            }
        });
        failure.map(|()| rows)
    })
}

/// Every event with this key, oldest first.
pub(super) fn events(connection: &Connection, provider_key: &str) -> rusqlite::Result<Vec<i64>> {
    let newest = "SELECT id FROM events WHERE id >= (SELECT event FROM tail) AND provider_key = ?1";
    let mut key = connection.prepare_cached("SELECT 1 FROM events WHERE id = ?1 AND provider_key = ?2")?;
    let hash = hash_of_key(provider_key, &key_hash(provider_key));
    every(connection, hash, newest, params![provider_key], |event| {
        Ok(if key.exists(params![event, provider_key])? { vec![event] } else { Vec::new() })
    })
}

/// The rows that `of_event` makes of events that the id has to do with, and the `newest`.
fn every(
    connection: &Connection,
    hash: u64,
    newest: &str,
    with: &[&dyn rusqlite::ToSql],
    mut of_event: impl FnMut(i64) -> rusqlite::Result<Vec<i64>>,
) -> rusqlite::Result<Vec<i64>> {
    let mut rows = BTreeSet::new();
    let mut probe = Probe::new(connection, hash)?;
    while let Some(event) = probe.next()? {
        rows.extend(of_event(event)?);
    }
    for row in connection.prepare_cached(newest)?.query_map(with, |r| r.get::<_, i64>(0))? {
        rows.insert(row?);
    }
    Ok(rows.into_iter().collect())
}

fn tail(connection: &Connection) -> rusqlite::Result<i64> {
    connection.query_row("SELECT event FROM tail", [], |r| r.get(0))
}

/// Writes the entries of everything there is, for a store that was made before there were any.
pub(super) fn fill(connection: &Connection) -> rusqlite::Result<()> {
    let newest: i64 = connection.query_row("SELECT coalesce(max(id), -1) FROM events", [], |r| r.get(0))?;
    let mut events = connection.prepare(
        "SELECT e.id, e.provider_key, m.uuid
         FROM events e LEFT JOIN messages m ON m.id = e.message AND m.event = e.id WHERE e.id BETWEEN ?1 AND ?2",
    )?;
    let mut outbox = connection.prepare("SELECT event, uuid FROM outbox WHERE event BETWEEN ?1 AND ?2")?;
    let mut insert = connection.prepare("INSERT INTO id_slices (id, entries) VALUES (?1, ?2)")?;
    let mut late = connection.prepare("INSERT INTO id_late (hash, event) VALUES (?1, ?2) ON CONFLICT DO NOTHING")?;
    for bucket in 0..=newest >> BUCKET_BITS {
        let (first, last) = (bucket << BUCKET_BITS, ((bucket + 1) << BUCKET_BITS) - 1);
        let mut entries = Vec::new();
        let mut rows = events.query([first, last])?;
        while let Some(row) = rows.next()? {
            let event = row.get(0)?;
            if let Some(key) = row.get::<_, Option<String>>(1)? {
                entries.push((event, hash_of_key(&key, &key_hash(&key))));
            }
            if let Some(uuid) = row.get::<_, Option<[u8; 16]>>(2)? {
                entries.push((event, hash_of(&uuid)));
            }
        }
        let mut rows = outbox.query([first, last])?;
        while let Some(row) = rows.next()? {
            entries.push((row.get(0)?, hash_of(&row.get(1)?)));
        }
        if last <= newest {
            for (id, entries) in slices(&entries) {
                insert.execute(params![id, entries])?;
            }
        } else {
            // This bucket will be written when it is full, with what is in it by then.
            for (event, hash) in entries {
                late.execute([hash.cast_signed(), event])?;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slice_is_found_by_its_hash_and_gives_its_events_back() {
        let id = |n: u64| *Uuid::from_u128(u128::from(n) << 77 | u128::from(n)).as_bytes();
        let first = 5 << BUCKET_BITS;
        let entries: Vec<(i64, u64)> =
            (0..20_000i64).map(|n| (first + n % 8192, hash_of(&id(n.cast_unsigned())))).collect();
        let slices = slices(&entries);
        assert!(slices.len() > 100, "they fall into all slices: {}", slices.len());
        let largest = slices.iter().map(|(_, entries)| entries.len()).max();
        assert!(largest < Some(3_000), "evenly: {largest:?}");
        for n in [0u64, 1, 8191, 8192, 19_999] {
            let hash = hash_of(&id(n));
            let (_, entries) = slices.iter().find(|(id, _)| *id == row(5, hash)).unwrap();
            assert_eq!(events_in(entries, 5, hash), [first + n.cast_signed() % 8192]);
        }
        let other = |slice: i64| (slice & 127).cast_unsigned() << 41 | 0x1_2345_6789;
        assert!(slices.iter().all(|(id, entries)| events_in(entries, 5, other(*id)).is_empty()));
    }

    #[test]
    fn two_events_of_one_id_are_two_and_the_same_one_is_one() {
        let slices = slices(&[(7, 42), (9, 42), (7, 42)]);
        assert_eq!(slices.len(), 1);
        assert_eq!(events_in(&slices[0].1, 0, 42), [9, 7]);
    }

    #[test]
    fn a_key_that_is_spelled_like_a_message_s_id_is_found_as_one() {
        let id = Uuid::from_u128(0x0b7f_2b0e_6a1c_4a53_9d0b_2f6f_4f9b_1a01);
        let of = |key: &str| hash_of_key(key, &key_hash(key));
        assert_eq!(of(&id.to_string()), hash_of(id.as_bytes()));
        for other in [id.to_string().to_uppercase(), id.simple().to_string(), format!("{{{id}}}"), "m".repeat(36)] {
            assert_ne!(of(&other), hash_of(id.as_bytes()), "{other}");
        }
    }
}
