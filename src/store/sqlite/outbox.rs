//! Owing events downstream, and taking back what must not be said any more.

use super::ids::{self, Kind};
use super::memory::Known;
use super::writer::{Handed, Tx};
use crate::domain::event::OutboundEvent;
use crate::domain::ids::{AccountId, ConversationId, MessageId};
use crate::domain::route::{Routes, SubscriberId};
use crate::domain::time::Timestamp;
use crate::store::inbound::Inbound;
use crate::store::lane::{Lease, Leased, Owed, Place};
use rusqlite::{Connection, OptionalExtension, params};
use std::collections::BTreeSet;

/// What an event downstream is about.
#[derive(Clone, Copy, Debug)]
pub(super) struct About {
    /// The received event that caused it.
    pub(super) event: i64,
    /// The message, if it is about one.
    pub(super) message: Option<i64>,
    /// The conversation whose lane it takes; negative for the account's own lane.
    pub(super) conversation: i64,
    /// The lane's name downstream.
    pub(super) lane: ConversationId,
}

/// When and for whom something is owed.
pub(super) struct Occasion<'a> {
    pub(super) account: AccountId,
    pub(super) routes: &'a Routes,
    pub(super) now: Timestamp,
}

impl<'a> From<&'a Inbound> for Occasion<'a> {
    fn from(inbound: &'a Inbound) -> Self {
        Self { account: inbound.account.id, routes: &inbound.outlet.routes, now: inbound.received_at }
    }
}

/// Writes an event downstream and a delivery for everybody who is owed it; nothing when that is nobody.
pub(super) fn owe(
    tx: &mut Tx<'_>,
    occasion: &Occasion<'_>,
    outbound: &OutboundEvent,
    about: About,
) -> rusqlite::Result<()> {
    let connection = tx.connection;
    let now = occasion.now.micros();
    let mut subscribers = occasion.routes.owed(outbound.event_type, occasion.account).peekable();
    if subscribers.peek().is_none() {
        return Ok(());
    }
    let outbox = tx.memory.next_outbox();
    connection
        .prepare_cached(
            "INSERT INTO outbox (id, uuid, type, event, message, conversation, created_at, body)
             VALUES (?8, ?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        )?
        .execute(params![
            outbound.id.0.as_bytes(),
            outbound.event_type.as_str(),
            about.event,
            about.message,
            about.conversation,
            now,
            outbound.body,
            outbox
        ])?;
    tx.memory.remember_id(about.event, Kind::Outbound, *outbound.id.0.as_bytes(), outbox);
    for subscriber in subscribers {
        let known = tx.memory.subscriber(connection, &subscriber.0)?;
        let (lane, sequence, token) = number(tx, subscriber, known, about.conversation, now)?;
        let due = if known.ordered { None } else { Some(now) };
        let lane = match due {
            Some(now) => super::lanes::single(connection, known.row, about.conversation, now)?,
            None => lane,
        };
        connection
            .prepare_cached(
                "INSERT INTO deliveries (event, subscriber, lane, seq, state, replay, attempts, round_start, due_at)
                 VALUES (?1, ?2, ?3, ?4, 0, 0, 0, 0, ?5)",
            )?
            .execute(params![outbox, known.row, lane, sequence, now])?;
        let Some((token, place)) = token else {
            tx.work = true;
            continue;
        };
        let owed = Owed {
            delivery: connection.last_insert_rowid(),
            sequence,
            event_id: outbound.id,
            event_type: outbound.event_type.as_str().to_owned(),
            body: outbound.body.clone(),
            failures: 0,
            first_attempt: None,
            created_at: occasion.now,
            replay: false,
        };
        let (subscriber, conversation) = (subscriber.clone(), about.lane);
        let leased = Leased { lease: Lease { lane, token }, subscriber, conversation, owed };
        tx.handed.push(Handed { leased, place, outbox });
    }
    Ok(())
}

/// A lane, a number in it, and the token of the lease that came with it.
type Numbered = (i64, i64, Option<(i64, Place)>);

/// Takes the next number of a lane, and the lane itself on lease when it was idle and somebody has a place for it.
fn number(
    tx: &Tx<'_>,
    subscriber: &SubscriberId,
    known: Known,
    conversation: i64,
    now: i64,
) -> rusqlite::Result<Numbered> {
    let place = || tx.taker.filter(|_| known.ordered && known.active)?.place(subscriber);
    let end = |place: &Place| Timestamp::from_micros(now).plus(place.lease).micros();
    let lane: Option<(i64, i64, i64, bool)> = tx
        .connection
        .prepare_cached(
            "SELECT id, last_seq, token, due_at IS NULL FROM lanes WHERE subscriber = ?1 AND conversation = ?2 AND single = 0",
        )?
        .query_row(params![known.row, conversation], |r| Ok((r.get(0)?, r.get(1)?, r.get(2)?, r.get(3)?)))
        .optional()?;
    let Some((lane, last, token, is_idle)) = lane else {
        let place = place();
        let due = place.as_ref().map(end).or(known.ordered.then_some(now));
        tx.connection
            .prepare_cached(
                "INSERT INTO lanes (subscriber, conversation, single, last_seq, due_at, leased, token)
                 VALUES (?1, ?2, 0, 1, ?3, ?4, ?4)",
            )?
            .execute(params![known.row, conversation, due, i64::from(place.is_some())])?;
        return Ok((tx.connection.last_insert_rowid(), 1, place.map(|place| (1, place))));
    };
    let place = if is_idle { place() } else { None };
    if let Some(place) = place {
        tx.connection
            .prepare_cached("UPDATE lanes SET last_seq = ?2, due_at = ?3, leased = 1, token = ?4 WHERE id = ?1")?
            .execute(params![lane, last + 1, end(&place), token + 1])?;
        return Ok((lane, last + 1, Some((token + 1, place))));
    }
    if is_idle && known.ordered {
        tx.connection.prepare_cached("UPDATE lanes SET last_seq = ?2, due_at = ?3 WHERE id = ?1")?.execute(params![
            lane,
            last + 1,
            now
        ])?;
    } else {
        tx.connection
            .prepare_cached("UPDATE lanes SET last_seq = ?2 WHERE id = ?1")?
            .execute(params![lane, last + 1])?;
    }
    Ok((lane, last + 1, None))
}

/// Erases what a message said, wherever it is kept, and cancels what is still owed of it. What tells of its end
/// stays.
pub(super) fn erase(tx: &mut Tx<'_>, inbound: &Inbound, message: i64, id: MessageId) -> rusqlite::Result<()> {
    let connection = tx.connection;
    let said: Vec<i64> = ids_of(
        connection,
        "SELECT o.id FROM events e JOIN outbox o ON o.event = e.id
         WHERE e.message = ?1 AND o.message = ?1 AND o.type <> 'conversation_message_deleted' AND length(o.body) > 0",
        message,
    )?;
    for outbox in said {
        connection.prepare_cached("UPDATE outbox SET body = x'' WHERE id = ?1")?.execute([outbox])?;
        let lanes: Vec<i64> = ids_of(
            connection,
            "UPDATE deliveries SET state = 4 WHERE event = ?1 AND state = 0 RETURNING lane",
            outbox,
        )?;
        for lane in lanes {
            super::lanes::settle_unless_leased(connection, lane)?;
        }
        // What was to be handed over with this commit is not.
        for handed in tx.handed.extract_if(.., |handed| handed.outbox == outbox) {
            super::lanes::settle(connection, handed.leased.lease.lane)?;
        }
    }
    for webhook in webhooks_of(connection, message)? {
        erase_raw(connection, inbound, webhook, id)?;
    }
    Ok(())
}

/// Erases what a message said from one kept webhook.
pub(super) fn erase_raw(
    connection: &Connection,
    inbound: &Inbound,
    webhook: i64,
    message: MessageId,
) -> rusqlite::Result<()> {
    let raw: Option<Vec<u8>> = connection
        .prepare_cached("SELECT body FROM webhooks WHERE id = ?1")?
        .query_row([webhook], |r| r.get(0))
        .optional()?;
    // Retention may have been here before.
    let Some(raw) = raw else { return Ok(()) };
    let erased = inbound.erase.erase(&raw, message);
    if erased != raw {
        connection.prepare_cached("UPDATE webhooks SET body = ?2 WHERE id = ?1")?.execute(params![webhook, erased])?;
    }
    Ok(())
}

/// The kept webhooks with events of a message: those that told of it first, and those in which one of them came
/// again beside something new.
fn webhooks_of(connection: &Connection, message: i64) -> rusqlite::Result<BTreeSet<i64>> {
    let told: Vec<(Option<i64>, i64, Option<String>)> = connection
        .prepare_cached("SELECT webhook, account, provider_key FROM events WHERE message = ?1")?
        .query_map([message], |r| Ok((r.get(0)?, r.get(1)?, r.get(2)?)))?
        .collect::<rusqlite::Result<_>>()?;
    let mut webhooks = BTreeSet::new();
    for (webhook, account, key) in told {
        webhooks.extend(webhook);
        for row in key.map_or(Ok(Vec::new()), |key| ids::events(connection, &key))? {
            webhooks.extend(webhook_around(connection, account, row)?);
        }
    }
    Ok(webhooks)
}

/// The kept webhook that the repeat `event` came with. A repeat is a receipt without a body and names none, but the
/// events of a webhook are in a row.
fn webhook_around(connection: &Connection, account: i64, event: i64) -> rusqlite::Result<Option<i64>> {
    let first: Option<i64> = connection
        .prepare_cached("SELECT id - place FROM events WHERE id = ?1 AND account = ?2 AND webhook IS NULL")?
        .query_row(params![event, account], |r| r.get(0))
        .optional()?;
    let Some(first) = first else { return Ok(None) };
    let mut row = connection
        .prepare_cached("SELECT webhook, id - place FROM events WHERE id >= ?1 AND account = ?2 ORDER BY id")?;
    let mut row = row.query(params![first, account])?;
    while let Some(event) = row.next()? {
        if event.get::<_, i64>(1)? != first {
            break;
        }
        if let Some(webhook) = event.get(0)? {
            return Ok(Some(webhook));
        }
    }
    Ok(None)
}

fn ids_of(connection: &Connection, sql: &str, of: i64) -> rusqlite::Result<Vec<i64>> {
    connection.prepare_cached(sql)?.query_map([of], |r| r.get(0))?.collect()
}
