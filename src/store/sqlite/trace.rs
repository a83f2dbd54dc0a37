//! Finding the way of a message.

use super::{index, outbox, reads};
use crate::domain::ids::{AccountId, ConversationId, EventId, MessageId};
use crate::domain::time::Timestamp;
use crate::store::listing::EventRow;
use crate::store::rows;
use crate::store::trace::{Trace, TraceQuery, TracedEvent, TracedMessage};
use rusqlite::{Connection, OptionalExtension};
use std::collections::BTreeSet;
use uuid::Uuid;

/// What the asked id leads to: a message, or an event that became none.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Lead {
    Message(i64),
    Event(i64),
}

pub(super) fn trace(connection: &Connection, query: &TraceQuery) -> rusqlite::Result<Vec<Trace>> {
    let mut leads = BTreeSet::new();
    for id in &query.ids {
        for row in index::messages(connection, id.as_bytes())? {
            leads.insert(Lead::Message(row));
        }
        for row in index::outbound(connection, id.as_bytes())? {
            leads.extend(of_outbox(connection, row)?);
        }
    }
    for key in &query.keys {
        for row in index::events(connection, key)? {
            leads.extend(of_event(connection, row)?);
        }
    }
    leads.into_iter().map(|lead| follow(connection, lead)).collect()
}

/// Retention may have removed what an id once stood for.
fn of_outbox(connection: &Connection, row: i64) -> rusqlite::Result<Option<Lead>> {
    let found: Option<(Option<i64>, i64)> = connection
        .prepare_cached("SELECT message, event FROM outbox WHERE id = ?1")?
        .query_row([row], |r| Ok((r.get(0)?, r.get(1)?)))
        .optional()?;
    Ok(found.map(|(message, event)| message.map_or(Lead::Event(event), Lead::Message)))
}

/// A repeat leads to what its first time became.
fn of_event(connection: &Connection, row: i64) -> rusqlite::Result<Option<Lead>> {
    let found: Option<(Option<i64>, i64)> = connection
        .prepare_cached("SELECT message, state FROM events WHERE id = ?1")?
        .query_row([row], |r| Ok((r.get(0)?, r.get(1)?)))
        .optional()?;
    Ok(found.and_then(|(message, state)| match (message, state) {
        (Some(message), _) => Some(Lead::Message(message)),
        (None, REPEAT) => None,
        (None, _) => Some(Lead::Event(row)),
    }))
}

const REPEAT: i64 = 1;

fn follow(connection: &Connection, lead: Lead) -> rusqlite::Result<Trace> {
    let (message, firsts) = match lead {
        Lead::Message(row) => (message(connection, row)?, outbox::events_of(connection, row)?),
        Lead::Event(row) => (None, vec![row]),
    };
    let mut received = BTreeSet::new();
    for &first in &firsts {
        received.insert(first);
        received.extend(repeats(connection, first)?);
    }
    let received: Vec<EventRow> = received
        .into_iter()
        .filter_map(|row| reads::event(connection, row).transpose())
        .collect::<rusqlite::Result<_>>()?;
    let mut owed = Vec::new();
    for first in firsts {
        let about = match lead {
            Lead::Message(row) => Some(row),
            Lead::Event(_) => None,
        };
        owed.extend(owed_for(connection, first, about)?);
    }
    Ok(Trace { message, received, owed })
}

/// Later events of the same account under the same key.
fn repeats(connection: &Connection, first: i64) -> rusqlite::Result<Vec<i64>> {
    let key: Option<(i64, String)> = connection
        .prepare_cached("SELECT account, provider_key FROM events WHERE id = ?1 AND provider_key IS NOT NULL")?
        .query_row([first], |r| Ok((r.get(0)?, r.get(1)?)))
        .optional()?;
    let Some((account, key)) = key else { return Ok(Vec::new()) };
    let mut same = connection.prepare_cached("SELECT account FROM events WHERE id = ?1")?;
    let mut found = Vec::new();
    for row in index::events(connection, &key)? {
        if same.query_row([row], |r| r.get::<_, i64>(0)).optional()? == Some(account) {
            found.push(row);
        }
    }
    Ok(found)
}

fn message(connection: &Connection, row: i64) -> rusqlite::Result<Option<TracedMessage>> {
    connection
        .prepare_cached(
            "SELECT m.uuid, a.uuid, c.uuid, m.direction, m.status, m.tm_create, m.tm_update, m.tm_delete
             FROM messages m JOIN accounts a ON a.id = m.account JOIN conversations c ON c.id = m.conversation
             WHERE m.id = ?1",
        )?
        .query_row([row], |r| {
            let (direction, status): (String, String) = (r.get(3)?, r.get(4)?);
            Ok(TracedMessage {
                id: MessageId(Uuid::from_bytes(r.get(0)?)),
                account: AccountId(Uuid::from_bytes(r.get(1)?)),
                conversation: ConversationId(Uuid::from_bytes(r.get(2)?)),
                direction: rows::parse_direction(&direction),
                status: rows::status(rows::parse_status(&status)),
                tm_create: Timestamp::from_micros(r.get(5)?),
                tm_update: Timestamp::from_micros(r.get(6)?),
                tm_delete: r.get::<_, Option<i64>>(7)?.map(Timestamp::from_micros),
            })
        })
        .optional()
}

/// What `event` owed; of a message only what is about the message.
fn owed_for(connection: &Connection, event: i64, message: Option<i64>) -> rusqlite::Result<Vec<TracedEvent>> {
    let mut select = connection.prepare_cached(
        "SELECT uuid, type, created_at, length(body) = 0 FROM outbox WHERE id = ?1 AND (?2 IS NULL OR message = ?2)",
    )?;
    let mut events = Vec::new();
    for row in outbox::of_event(connection, event)? {
        let found: Option<([u8; 16], String, i64, bool)> = select
            .query_row(rusqlite::params![row, message], |r| Ok((r.get(0)?, r.get(1)?, r.get(2)?, r.get(3)?)))
            .optional()?;
        let Some((id, event_type, created_at, erased)) = found else { continue };
        let deliveries = outbox::deliveries_of(connection, row)?;
        let deliveries = deliveries
            .into_iter()
            .filter_map(|delivery| reads::delivery(connection, delivery).transpose())
            .collect::<rusqlite::Result<_>>()?;
        events.push(TracedEvent {
            id: EventId(Uuid::from_bytes(id)),
            event_type,
            created_at: Timestamp::from_micros(created_at),
            erased,
            deliveries,
        });
    }
    Ok(events)
}
