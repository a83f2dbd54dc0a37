//! Rows of messages.

use super::index;
use super::memory::Memory;
use super::statements::Hot;
use super::writer::Tx;
use crate::domain::account::{Account, Channel};
use crate::domain::ids::{ConversationId, MessageId};
use crate::domain::merge::Known;
use crate::domain::message::{Direction, Message};
use crate::domain::time::Timestamp;
use crate::store::rows;
use rusqlite::{Connection, OptionalExtension, params};
use uuid::Uuid;

/// Where a message may be known from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Search {
    /// It is most likely new: look among the newest, and among those that were changed before they arrived.
    New,
    /// Events about it carry this time, the first one included.
    At(Timestamp),
    /// It is most likely known, maybe for long.
    Known,
}

/// A message as found.
pub(super) struct Found {
    pub(super) row: i64,
    pub(super) conversation: i64,
    pub(super) known: Known,
}

/// Finds a message of the account.
pub(super) fn find(
    connection: &Connection,
    memory: &Memory,
    account: &Account,
    account_row: i64,
    id: MessageId,
    search: Search,
) -> rusqlite::Result<Option<Found>> {
    let bytes = id.0.as_bytes();
    let row = match search {
        Search::New => memory.new_message(bytes),
        Search::Known => match memory.new_message(bytes) {
            None => index::older_message(connection, bytes)?,
            row => row,
        },
        Search::At(at) => match memory.new_message(bytes) {
            None => at_time(connection, account_row, id, at)?,
            row => row,
        },
    };
    match row {
        Some(row) => read(connection, account, account_row, row),
        None => Ok(None),
    }
}

fn at_time(connection: &Connection, account: i64, id: MessageId, at: Timestamp) -> rusqlite::Result<Option<i64>> {
    connection
        .prepare_cached(
            "SELECT m.id FROM dedupe d JOIN events e ON e.id = d.event JOIN messages m ON m.id = e.message
             WHERE d.account = ?1 AND d.event_time = ?2 AND m.uuid = ?3 LIMIT 1",
        )?
        .query_row(params![account, at.micros(), id.0.as_bytes()], |r| r.get(0))
        .optional()
}

/// Reads a message of the account; `None` when the row is another account's or cannot be understood.
pub(super) fn read(
    connection: &Connection,
    account: &Account,
    account_row: i64,
    row: i64,
) -> rusqlite::Result<Option<Found>> {
    connection
        .prepare_cached(
            "SELECT m.uuid, c.uuid, c.dialog_id, m.direction, m.status, m.text, m.content, m.tm_create, m.tm_update,
                 m.tm_delete, m.edited, m.conversation, c.own, c.peer
             FROM messages m JOIN conversations c ON c.id = m.conversation
             WHERE m.id = ?1 AND m.account = ?2",
        )?
        .query_row(params![row, account_row], |r| {
            let (direction, status, content): (String, String, String) = (r.get(3)?, r.get(4)?, r.get(6)?);
            let direction = rows::parse_direction(&direction);
            let (own, peer): (String, String) = (r.get(12)?, r.get(13)?);
            let Some(content) = content_of(&content, direction, account.channel, &own, &peer) else { return Ok(None) };
            let message = Message {
                id: MessageId(Uuid::from_bytes(r.get(0)?)),
                account_id: account.id,
                customer_id: account.customer_id,
                conversation_id: ConversationId(Uuid::from_bytes(r.get(1)?)),
                direction,
                status: rows::parse_status(&status),
                reference_type: content.reference_type,
                dialog_id: r.get(2)?,
                source: content.source,
                destination: content.destination,
                text: r.get(5)?,
                medias: content.medias,
                metadata: content.metadata,
                parts: content.parts,
                tm_create: Timestamp::from_micros(r.get(7)?),
                tm_update: Timestamp::from_micros(r.get(8)?),
                tm_delete: r.get::<_, Option<i64>>(9)?.map(Timestamp::from_micros),
            };
            Ok(Some(Found { row, conversation: r.get(11)?, known: Known { message, edited: r.get(10)? } }))
        })
        .optional()
        .map(Option::flatten)
}

/// What a message has besides its columns, in full or as short as can be.
pub(super) fn content_of(
    content: &str,
    direction: Direction,
    channel: Channel,
    own: &str,
    peer: &str,
) -> Option<rows::Content> {
    match (rows::parse_content(content), rows::parse_address(own), rows::parse_address(peer)) {
        (Some(content), ..) => Some(content),
        (None, Some(own), Some(peer)) => rows::parse_short_content(content, direction, channel, own, peer),
        _ => None,
    }
}

/// Writes a new message that `event` told of, whose row it shares. `early` when it was changed before it arrived.
pub(super) fn insert(
    tx: &mut Tx<'_>,
    message: &Message,
    edited: bool,
    early: bool,
    account: i64,
    conversation: i64,
    event: i64,
) -> rusqlite::Result<()> {
    let content = match tx.memory.conversation(&message.conversation_id.0) {
        Some((_, talk)) => rows::short_content(message, &talk.own, &talk.peer),
        None => rows::content(message),
    };
    tx.run(
        Hot::Message,
        params![
            event,
            message.id.0.as_bytes(),
            account,
            conversation,
            message.direction.as_str(),
            rows::status(message.status),
            message.text,
            content,
            message.tm_create.micros(),
            message.tm_update.micros(),
            message.tm_delete.map(Timestamp::micros),
            edited,
        ],
    )?;
    tx.memory.remember_message(*message.id.0.as_bytes(), event, early);
    tx.memory.index.id(tx.connection, event, message.id.0.as_bytes())?;
    if early {
        tx.connection
            .prepare_cached("INSERT INTO early_messages (uuid, row) VALUES (?1, ?2) ON CONFLICT DO NOTHING")?
            .execute(params![message.id.0.as_bytes(), event])?;
    }
    Ok(())
}

/// Writes what a known message has become. Its direction and its conversation never change.
pub(super) fn update(connection: &Connection, row: i64, message: &Message, edited: bool) -> rusqlite::Result<()> {
    connection
        .prepare_cached(
            "UPDATE messages SET status = ?2, text = ?3, content = ?4, tm_create = ?5, tm_update = ?6, tm_delete = ?7,
                 edited = ?8
             WHERE id = ?1",
        )?
        .execute(params![
            row,
            rows::status(message.status),
            message.text,
            rows::content(message),
            message.tm_create.micros(),
            message.tm_update.micros(),
            message.tm_delete.map(Timestamp::micros),
            edited,
        ])
        .map(drop)
}
