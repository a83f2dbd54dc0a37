//! What the writer knows by heart. All of it follows from the database, and is read again when somebody else has
//! written, or when what it was changed for was rolled back.

use super::index::{self, Index, Key, KeyHash};
use super::lanes::book::Book;
use super::recent::Recent;
use crate::domain::conversation::Conversation;
use crate::store::columns::key_hash;
use foldhash::{HashMap, HashMapExt};
use rusqlite::{Connection, OptionalExtension};
use uuid::Uuid;

/// Repeats whose time differs from the first are recognised among that many of the newest events; so are messages
/// that come again under another key. More than are waiting to be written to the index.
const RECENT: usize = 32_768;

/// Conversations known by heart, in each of two generations.
const CONVERSATIONS: usize = 4096;

/// Events downstream that are committed with one event, at most, as a power of two.
const OUTBOX_BITS: u32 = 3;

/// Account row and key.
type RecentKey = (i64, KeyHash);

/// A subscriber.
#[derive(Clone, Copy)]
pub(super) struct Known {
    pub(super) row: i64,
    /// Whether its deliveries wait for each other.
    pub(super) ordered: bool,
    /// Whether it is configured and not disabled.
    pub(super) active: bool,
}

/// What the writer knows by heart.
pub(super) struct Memory {
    accounts: HashMap<Uuid, i64>,
    subscribers: HashMap<String, Known>,
    /// Whether the subscriber of a row is disabled.
    disabled: HashMap<i64, bool>,
    next_event: i64,
    /// The newest event, and how many events downstream it has.
    newest: (i64, i64),
    /// The first event that nothing was settled for yet.
    settled_for: i64,
    keys: Recent<RecentKey>,
    /// Per account: keys with later times that are not among the newest were never seen.
    horizons: HashMap<i64, i64>,
    messages: Recent<[u8; 16]>,
    early: HashMap<[u8; 16], i64>,
    conversations: [HashMap<Uuid, (i64, Conversation)>; 2],
    pub(super) index: Index,
    pub(super) lanes: Book,
    /// Deliveries before this one were looked at lately by whoever removes them.
    pub(super) unlooked: i64,
    /// The database's count of others' changes.
    version: i64,
    /// Whether the database does not say what is here.
    is_stale: bool,
}

impl Memory {
    /// Reads everything from the database, to go on with lanes of which the leases are in `book`.
    pub(super) fn load(connection: &Connection, book: Book) -> rusqlite::Result<Self> {
        let mut memory = Self {
            accounts: HashMap::new(),
            subscribers: HashMap::new(),
            disabled: HashMap::new(),
            next_event: connection.query_row(
                "SELECT max(1 + coalesce((SELECT max(id) FROM events), 0), (SELECT event FROM tail),
                     1 + coalesce((SELECT max(id) >> ?1 FROM outbox), 0))",
                [OUTBOX_BITS],
                |r| r.get(0),
            )?,
            newest: (0, 0),
            settled_for: 0,
            keys: Recent::new(RECENT),
            horizons: HashMap::new(),
            messages: Recent::new(RECENT),
            early: HashMap::new(),
            conversations: Default::default(),
            index: Index::load(connection)?,
            lanes: book.read(connection)?,
            unlooked: 0,
            version: data_version(connection)?,
            is_stale: false,
        };
        memory.settled_for = memory.next_event;
        let newest = i64::try_from(RECENT).unwrap_or(i64::MAX);
        let mut keys = connection.prepare(
            "SELECT account, provider_key, event_time FROM events
             WHERE state = 0 AND provider_key IS NOT NULL ORDER BY id DESC LIMIT ?1",
        )?;
        let rows = keys.query_map([newest], |r| Ok((r.get(0)?, r.get::<_, String>(1)?, r.get(2)?)))?;
        for row in rows {
            let (account, key, at): (i64, String, i64) = row?;
            memory.keys.add_older((account, key_hash(&key)), at);
        }
        let mut messages = connection.prepare("SELECT uuid, id FROM messages ORDER BY id DESC LIMIT ?1")?;
        for row in messages.query_map([newest], |r| Ok((r.get(0)?, r.get(1)?)))? {
            let (id, row) = row?;
            memory.messages.add_older(id, row);
        }
        let mut early = connection.prepare("SELECT uuid, row FROM early_messages")?;
        memory.early = early.query_map([], |r| Ok((r.get(0)?, r.get(1)?)))?.collect::<rusqlite::Result<_>>()?;
        Ok(memory)
    }

    /// Reads everything again if it may not be so any more.
    pub(super) fn catch_up(&mut self, connection: &Connection) -> rusqlite::Result<()> {
        if self.is_stale || data_version(connection)? != self.version {
            self.reload(connection)?;
        }
        Ok(())
    }

    /// Reads everything again but the leases, which only this process knows.
    pub(super) fn reload(&mut self, connection: &Connection) -> rusqlite::Result<()> {
        self.is_stale = true;
        let book = self.lanes.to_read_again();
        *self = Self::load(connection, book)?;
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
        if let Some(known) = self.known_subscriber(connection, name)? {
            return Ok(known);
        }
        connection
            .prepare_cached("INSERT INTO subscribers (name, configured, ordered) VALUES (?1, 1, 1)")?
            .execute([name])?;
        let known = Known { row: connection.last_insert_rowid(), ordered: true, active: true };
        self.subscribers.insert(name.to_owned(), known);
        Ok(known)
    }

    /// A subscriber, if there is one of that name.
    pub(super) fn known_subscriber(&mut self, connection: &Connection, name: &str) -> rusqlite::Result<Option<Known>> {
        if let Some(&known) = self.subscribers.get(name) {
            return Ok(Some(known));
        }
        let known = connection
            .prepare_cached(
                "SELECT id, ordered, configured = 1 AND disabled_at IS NULL FROM subscribers WHERE name = ?1",
            )?
            .query_row([name], |r| Ok(Known { row: r.get(0)?, ordered: r.get(1)?, active: r.get(2)? }))
            .optional()?;
        if let Some(known) = known {
            self.subscribers.insert(name.to_owned(), known);
        }
        Ok(known)
    }

    /// Registration may have changed what is known of subscribers.
    pub(super) fn forget_subscribers(&mut self) {
        self.subscribers.clear();
        self.disabled.clear();
    }

    /// Whether a subscriber takes nothing at the moment.
    pub(super) fn is_disabled(&mut self, connection: &Connection, subscriber: i64) -> rusqlite::Result<bool> {
        if let Some(&disabled) = self.disabled.get(&subscriber) {
            return Ok(disabled);
        }
        let disabled = connection
            .prepare_cached("SELECT disabled_at IS NOT NULL FROM subscribers WHERE id = ?1")?
            .query_row([subscriber], |r| r.get(0))?;
        self.disabled.insert(subscriber, disabled);
        Ok(disabled)
    }

    pub(super) fn next_event(&mut self) -> i64 {
        self.newest = (self.next_event, 0);
        self.next_event += 1;
        self.newest.0
    }

    /// A row for an event downstream of `event`: one of the event's own when that is the newest, else of a number that
    /// no event will have.
    pub(super) fn next_outbox(&mut self, event: i64) -> i64 {
        let (newest, used) = &mut self.newest;
        if *newest == event && *used < 1 << OUTBOX_BITS {
            *used += 1;
            return (event << OUTBOX_BITS) + *used - 1;
        }
        self.next_event() << OUTBOX_BITS
    }

    /// The time with which a key of the account was seen, if it was; exact as far as the newest are concerned.
    pub(super) fn seen(
        &mut self,
        connection: &Connection,
        account: i64,
        at: i64,
        hash: &KeyHash,
    ) -> rusqlite::Result<Option<i64>> {
        if let Some(seen) = self.keys.get(&(account, *hash)) {
            return Ok(Some(seen));
        }
        let horizon = if let Some(&horizon) = self.horizons.get(&account) {
            horizon
        } else {
            let horizon = index::latest_key(connection, account)?.unwrap_or(i64::MIN);
            self.horizons.insert(account, horizon);
            horizon
        };
        let is_repeat = at <= horizon && index::is_repeat(connection, account, at, hash)?;
        Ok(is_repeat.then_some(at))
    }

    pub(super) fn remember_key(&mut self, connection: &Connection, key: Key) -> rusqlite::Result<()> {
        self.keys.add((key.account, key.hash), key.at);
        self.index.repeats(connection, key)
    }

    /// The row of a message that is among the newest, or was changed before it arrived.
    pub(super) fn new_message(&self, id: &[u8; 16]) -> Option<i64> {
        self.messages.get(id).or_else(|| self.early.get(id).copied())
    }

    pub(super) fn remember_message(&mut self, id: [u8; 16], row: i64, is_early: bool) {
        self.messages.add(id, row);
        if is_early {
            self.early.insert(id, row);
        }
    }

    /// A conversation with its row.
    pub(super) fn conversation(&mut self, id: &Uuid) -> Option<&(i64, Conversation)> {
        if !self.conversations[0].contains_key(id) {
            let (row, known) = self.conversations[1].remove(id)?;
            self.remember_conversation(*id, row, known);
        }
        self.conversations[0].get(id)
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
        self.lanes.begin_item();
    }

    /// The current item was rolled back.
    pub(super) fn forget_item(&mut self, connection: &Connection) -> rusqlite::Result<()> {
        self.lanes.forget_item();
        self.reload(connection)
    }

    /// The batch was rolled back: what is here is read again when it is needed.
    pub(super) fn forget_batch(&mut self) {
        self.lanes.forget_batch();
        self.is_stale = true;
    }

    /// The batch is committed.
    pub(super) fn keep_batch(&mut self) {
        let horizons = &mut self.horizons;
        self.keys.trim(|(account, _), at| {
            if let Some(horizon) = horizons.get_mut(account) {
                *horizon = (*horizon).max(at);
            }
        });
        self.messages.trim(|_, _| {});
        self.index.gather(self.next_event);
        self.lanes.keep_batch();
    }

    /// Writes some of what follows from the newest rows to its places: as much as keeps what waits bounded.
    pub(super) fn settle(&mut self, connection: &Connection, items: usize) -> rusqlite::Result<()> {
        let events = usize::try_from(self.next_event - self.settled_for).unwrap_or_default();
        self.settled_for = self.next_event;
        self.index.settle(connection, items.max(events))?;
        self.lanes.settle_some(connection, items)
    }

    /// Writes all of it that whoever looks at the tables alone would miss.
    pub(super) fn settle_all(&mut self, connection: &Connection) -> rusqlite::Result<()> {
        self.index.settle_keys(connection)?;
        self.lanes.settle_all(connection)
    }
}

fn data_version(connection: &Connection) -> rusqlite::Result<i64> {
    connection.prepare_cached("PRAGMA data_version")?.query_row([], |r| r.get(0))
}
