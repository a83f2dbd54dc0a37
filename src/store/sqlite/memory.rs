//! What the writer knows by heart. Everything in it can be read again from the database, and is when somebody else
//! has written.

use super::ids::{Entry, Kind, bucket};
use crate::domain::conversation::Conversation;
use crate::store::columns::key_hash;
use rusqlite::{Connection, OptionalExtension};
use std::collections::{HashMap, VecDeque};
use uuid::Uuid;

/// Repeats whose time differs from the first are recognised among that many of the newest events; so are messages
/// that come again under another key.
const RECENT: usize = 16_384;

/// Events whose ids are written to their places together.
const TOGETHER: i64 = 4096;

/// Conversations known by heart, in each of two generations.
const CONVERSATIONS: usize = 4096;

/// Account row and first half of the key's SHA-256.
pub(super) type RecentKey = (i64, [u8; 16]);

/// A subscriber.
#[derive(Clone, Copy)]
pub(super) struct Known {
    pub(super) row: i64,
    /// Whether its deliveries wait for each other.
    pub(super) ordered: bool,
    /// Whether it gets anything at the moment.
    pub(super) active: bool,
}

/// What the writer knows by heart.
#[derive(Default)]
pub(super) struct Memory {
    accounts: HashMap<Uuid, i64>,
    subscribers: HashMap<String, Known>,
    next_event: i64,
    next_outbox: i64,
    keys: Recent<RecentKey>,
    messages: Recent<[u8; 16]>,
    early: HashMap<[u8; 16], i64>,
    conversations: [HashMap<Uuid, (i64, Conversation)>; 2],
    tail: Tail,
    /// What this batch has added, in order.
    added: Vec<Added>,
    /// How much of it is not the current item's.
    before_item: usize,
    /// The database's count of others' changes.
    version: i64,
}

/// Something that a batch added.
enum Added {
    Key(RecentKey),
    Message([u8; 16]),
    Early([u8; 16]),
    Entry,
}

impl Memory {
    /// Reads everything from the database.
    pub(super) fn load(connection: &Connection) -> rusqlite::Result<Self> {
        let mut memory = Self { version: data_version(connection)?, ..Self::default() };
        memory.next_event = connection.query_row("SELECT coalesce(max(id), 0) + 1 FROM events", [], |r| r.get(0))?;
        let newest = i64::try_from(RECENT).unwrap_or(i64::MAX);
        let mut keys = connection.prepare(
            "SELECT account, provider_key, event_time FROM events
             WHERE state = 0 AND provider_key IS NOT NULL ORDER BY id DESC LIMIT ?1",
        )?;
        let rows = keys.query_map([newest], |r| Ok((r.get(0)?, r.get::<_, String>(1)?, r.get(2)?)))?;
        for row in rows {
            let (account, key, at): (i64, String, i64) = row?;
            memory.keys.push_older((account, key_hash(&key)), at);
        }
        let mut messages = connection.prepare("SELECT uuid, id FROM messages ORDER BY id DESC LIMIT ?1")?;
        for row in messages.query_map([newest], |r| Ok((r.get(0)?, r.get(1)?)))? {
            let (id, row) = row?;
            memory.messages.push_older(id, row);
        }
        let mut early = connection.prepare("SELECT uuid, row FROM early_messages")?;
        memory.early = early.query_map([], |r| Ok((r.get(0)?, r.get(1)?)))?.collect::<rusqlite::Result<_>>()?;
        memory.tail = Tail::load(connection)?;
        // Also when retention has removed all of them: an id is never given twice.
        let outbox = "SELECT max(1 + coalesce((SELECT max(id) FROM outbox), 0), (SELECT outbox FROM tail))";
        memory.next_outbox = connection.query_row(outbox, [], |r| r.get(0))?;
        Ok(memory)
    }

    /// Reads everything again if another process has written since.
    pub(super) fn catch_up(&mut self, connection: &Connection) -> rusqlite::Result<()> {
        if data_version(connection)? != self.version {
            *self = Self::load(connection)?;
        }
        Ok(())
    }

    pub(super) fn account(&mut self, connection: &Connection, id: Uuid) -> rusqlite::Result<i64> {
        if let Some(&row) = self.accounts.get(&id) {
            return Ok(row);
        }
        let row = connection
            .prepare_cached(
                "INSERT INTO accounts (uuid) VALUES (?1) ON CONFLICT DO UPDATE SET uuid = uuid RETURNING id",
            )?
            .query_row([id.as_bytes()], |r| r.get(0))?;
        self.accounts.insert(id, row);
        Ok(row)
    }

    /// A subscriber; an unknown one is made.
    pub(super) fn subscriber(&mut self, connection: &Connection, name: &str) -> rusqlite::Result<Known> {
        if let Some(&known) = self.subscribers.get(name) {
            return Ok(known);
        }
        let known = connection
            .prepare_cached(
                "INSERT INTO subscribers (name, configured, ordered) VALUES (?1, 1, 1)
                 ON CONFLICT DO UPDATE SET name = name RETURNING id, ordered, configured = 1 AND disabled_at IS NULL",
            )?
            .query_row([name], |r| Ok(Known { row: r.get(0)?, ordered: r.get(1)?, active: r.get(2)? }))?;
        self.subscribers.insert(name.to_owned(), known);
        Ok(known)
    }

    /// Registration may have changed what is known of subscribers.
    pub(super) fn forget_subscribers(&mut self) {
        self.subscribers.clear();
    }

    pub(super) fn next_event(&mut self) -> i64 {
        self.next_event += 1;
        self.next_event - 1
    }

    pub(super) fn next_outbox(&mut self) -> i64 {
        self.next_outbox += 1;
        self.next_outbox - 1
    }

    /// The time with which `key` was seen lately.
    pub(super) fn recent_key(&self, key: &RecentKey) -> Option<i64> {
        self.keys.get(key)
    }

    pub(super) fn remember_key(&mut self, key: RecentKey, at: i64) {
        self.keys.add(key, at);
        self.added.push(Added::Key(key));
    }

    /// The row of a message that is among the newest, or was changed before it arrived.
    pub(super) fn new_message(&self, id: &[u8; 16]) -> Option<i64> {
        self.messages.get(id).or_else(|| self.early.get(id).copied())
    }

    pub(super) fn remember_message(&mut self, id: [u8; 16], row: i64, is_early: bool) {
        self.messages.add(id, row);
        self.added.push(Added::Message(id));
        if is_early {
            self.early.insert(id, row);
            self.added.push(Added::Early(id));
        }
    }

    /// Makes `row` known by `id`, as of the event with the row `event`.
    pub(super) fn remember_id(&mut self, event: i64, kind: Kind, id: [u8; 16], row: i64) {
        self.tail.fresh.push((bucket(event), id, kind as i64, row));
        self.added.push(Added::Entry);
    }

    /// A conversation with its row.
    pub(super) fn conversation(&mut self, id: &Uuid) -> Option<(i64, Conversation)> {
        if let Some(known) = self.conversations[0].get(id) {
            return Some(known.clone());
        }
        let known = self.conversations[1].remove(id)?;
        self.remember_conversation(*id, known.0, known.1.clone());
        Some(known)
    }

    pub(super) fn remember_conversation(&mut self, id: Uuid, row: i64, conversation: Conversation) {
        if self.conversations[0].len() >= CONVERSATIONS {
            self.conversations.swap(0, 1);
            self.conversations[0].clear();
        }
        self.conversations[0].insert(id, (row, conversation));
    }

    /// The next item begins.
    pub(super) fn begin_item(&mut self) {
        self.before_item = self.added.len();
    }

    /// Forgets what only the current item added, and whatever else its rollback may have taken back.
    pub(super) fn forget_item(&mut self) {
        for added in self.added.drain(self.before_item..).rev() {
            match added {
                Added::Key(key) => self.keys.remove(&key),
                Added::Message(id) => self.messages.remove(&id),
                Added::Early(id) => drop(self.early.remove(&id)),
                Added::Entry => drop(self.tail.fresh.pop()),
            }
        }
        self.accounts.clear();
        self.subscribers.clear();
        self.conversations.iter_mut().for_each(HashMap::clear);
    }

    /// Forgets everything that the batch added. Rows' numbers that it took are not used again: nobody minds gaps.
    pub(super) fn forget_batch(&mut self) {
        self.before_item = 0;
        self.forget_item();
        self.tail.written = self.tail.kept;
    }

    /// The batch is committed.
    pub(super) fn keep_batch(&mut self) {
        self.before_item = 0;
        self.added.clear();
        self.keys.trim();
        self.messages.trim();
        self.tail.keep(self.next_event, self.next_outbox);
    }

    /// Writes some of the ids that wait to their places: as many as keeps the number that waits bounded.
    pub(super) fn write_ids(&mut self, connection: &Connection, items: usize) -> rusqlite::Result<()> {
        self.tail.write(connection, items.saturating_mul(12).max(64))
    }
}

fn data_version(connection: &Connection) -> rusqlite::Result<i64> {
    connection.prepare_cached("PRAGMA data_version")?.query_row([], |r| r.get(0))
}

/// The newest of something, with a number each.
struct Recent<K> {
    numbers: HashMap<K, i64>,
    order: VecDeque<K>,
}

impl<K> Default for Recent<K> {
    fn default() -> Self {
        Self { numbers: HashMap::new(), order: VecDeque::new() }
    }
}

impl<K: Copy + Eq + std::hash::Hash> Recent<K> {
    fn get(&self, key: &K) -> Option<i64> {
        self.numbers.get(key).copied()
    }

    fn add(&mut self, key: K, number: i64) {
        if self.numbers.insert(key, number).is_none() {
            self.order.push_back(key);
        }
    }

    fn push_older(&mut self, key: K, number: i64) {
        if let std::collections::hash_map::Entry::Vacant(place) = self.numbers.entry(key) {
            place.insert(number);
            self.order.push_front(key);
        }
    }

    /// Of what was added last.
    fn remove(&mut self, key: &K) {
        if self.numbers.remove(key).is_some() && self.order.back() == Some(key) {
            self.order.pop_back();
        }
    }

    fn trim(&mut self) {
        while self.order.len() > RECENT {
            if let Some(key) = self.order.pop_front() {
                self.numbers.remove(&key);
            }
        }
    }
}

/// Ids of the newest rows, on their way to their places.
#[derive(Default)]
struct Tail {
    /// Those that are gathered.
    fresh: Vec<Entry>,
    /// The first event among them.
    first: i64,
    /// Those that are being written, in order.
    settling: Vec<Entry>,
    /// How many of them are written, and committed.
    written: usize,
    kept: usize,
    /// From where on rows are not in `ids` when all of them are: event, message, outbox.
    then: [i64; 3],
}

impl Tail {
    fn load(connection: &Connection) -> rusqlite::Result<Self> {
        let marks: Option<[i64; 3]> = connection
            .query_row("SELECT event, message, outbox FROM tail", [], |r| Ok([r.get(0)?, r.get(1)?, r.get(2)?]))
            .optional()?;
        let [event, message, outbox] = marks.unwrap_or([1; 3]);
        let mut tail = Self { first: event, ..Self::default() };
        let mut keys =
            connection.prepare("SELECT id, provider_key FROM events WHERE id >= ?1 AND provider_key IS NOT NULL")?;
        for row in keys.query_map([event], |r| Ok((r.get(0)?, r.get::<_, String>(1)?)))? {
            let (row, key): (i64, String) = row?;
            tail.fresh.push((bucket(row), key_hash(&key), Kind::Event as i64, row));
        }
        for (table, from, kind) in [("messages", message, Kind::Message), ("outbox", outbox, Kind::Outbound)] {
            let mut rows = connection.prepare(&format!("SELECT event, uuid, id FROM {table} WHERE id >= ?1"))?;
            for row in rows.query_map([from], |r| Ok((r.get(0)?, r.get(1)?, r.get(2)?)))? {
                let (event, id, row): (i64, [u8; 16], i64) = row?;
                tail.fresh.push((bucket(event), id, kind as i64, row));
            }
        }
        Ok(tail)
    }

    /// After a commit: enough are gathered, or all are written.
    fn keep(&mut self, next_event: i64, next_outbox: i64) {
        self.kept = self.written;
        if self.kept == self.settling.len() {
            self.settling.clear();
            (self.written, self.kept) = (0, 0);
        }
        if self.settling.is_empty() && next_event - self.first >= TOGETHER {
            self.settling = std::mem::take(&mut self.fresh);
            self.settling.sort_unstable();
            self.first = next_event;
            let of_message = |(.., kind, row): &Entry| (*kind == Kind::Message as i64).then_some(row + 1);
            let next_message = self.settling.iter().filter_map(of_message).max().unwrap_or_default();
            self.then = [next_event, next_message, next_outbox];
        }
    }

    fn write(&mut self, connection: &Connection, most: usize) -> rusqlite::Result<()> {
        if self.settling.is_empty() {
            return Ok(());
        }
        let upto = self.settling.len().min(self.written + most);
        super::ids::write(connection, &self.settling[self.written..upto])?;
        self.written = upto;
        if upto == self.settling.len() {
            let [event, message, outbox] = self.then;
            connection
                .prepare_cached(
                    "UPDATE tail SET event = max(event, ?1), message = max(message, ?2), outbox = max(outbox, ?3)",
                )?
                .execute([event, message, outbox])?;
        }
        Ok(())
    }
}
