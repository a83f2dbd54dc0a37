//! Owing events downstream, and taking back what must not be said any more.

use super::index;
use super::lanes::book::Head;
use super::statements::Hot;
use super::writer::{Handed, Tx};
use crate::domain::event::OutboundEvent;
use crate::domain::ids::{AccountId, ConversationId, MessageId};
use crate::domain::route::{Routes, SubscriberId};
use crate::domain::time::Timestamp;
use crate::store::columns;
use crate::store::inbound::Inbound;
use crate::store::lane::{Leased, Owed};
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
    let count = occasion.routes.owed(outbound.event_type, occasion.account).count();
    if count == 0 {
        return Ok(());
    }
    let outbox = tx.memory.next_outbox(about.event);
    let mut first = None;
    for subscriber in occasion.routes.owed(outbound.event_type, occasion.account) {
        let delivery = owe_to(tx, occasion, outbound, about, (outbox, subscriber))?;
        first = first.or(Some(delivery));
    }
    tx.run(
        Hot::Outbox,
        params![
            outbox,
            outbound.id.0.as_bytes(),
            outbound.event_type.as_str(),
            about.event,
            about.message,
            about.conversation,
            now,
            outbound.body,
            first,
            i64::try_from(count).unwrap_or(i64::MAX)
        ],
    )?;
    tx.memory.index.id(connection, about.event, outbound.id.0.as_bytes())
}

/// Writes a delivery to one subscriber, on lease when its lane was idle and somebody has a place for it.
fn owe_to(
    tx: &mut Tx<'_>,
    occasion: &Occasion<'_>,
    outbound: &OutboundEvent,
    about: About,
    (outbox, subscriber): (i64, &SubscriberId),
) -> rusqlite::Result<i64> {
    let (connection, now) = (tx.connection, occasion.now);
    let known = tx.memory.subscriber(connection, &subscriber.0)?;
    let (mut lane, seq) = tx.memory.lanes.number(connection, known.row, about.conversation)?;
    let delivery = tx.memory.lanes.next_delivery();
    let mut place = None;
    if !known.ordered {
        lane = tx.memory.lanes.single(connection, known.row, about.conversation, delivery)?;
    } else if known.active && tx.memory.lanes.is_idle(lane) {
        place = tx.taker.and_then(|taker| Some((taker.clone(), taker.place(subscriber)?)));
    }
    let head = Head { seq, delivery, due: now.micros() };
    tx.memory.lanes.owe(lane, head);
    tx.run(Hot::Delivery, params![delivery, outbox, known.row, lane, seq, place.is_some(), head.due])?;
    let Some((taker, place)) = place else {
        // Whoever is at work on the lane goes on with it, or says so when he gives it back; for a subscriber that is
        // disabled nobody may look.
        tx.work |= known.active && !tx.memory.lanes.is_leased(lane);
        return Ok(delivery);
    };
    let lease = tx.memory.lanes.lease(connection, lane, head, now.plus(place.lease).micros())?;
    let owed = Owed::first(delivery, seq, outbound, now);
    let leased = Leased { lease, subscriber: subscriber.clone(), conversation: about.lane, owed };
    tx.handed.push(Handed::new(taker, leased, place, outbox));
    Ok(delivery)
}

/// The events downstream of an event, oldest first.
pub(super) fn of_event(connection: &Connection, event: i64) -> rusqlite::Result<Vec<i64>> {
    connection
        .prepare_cached(
            "SELECT id FROM outbox WHERE id BETWEEN ?1 << 3 AND (?1 << 3) + 7 AND event = ?1
             UNION ALL SELECT id FROM outbox WHERE event = ?1 AND id >> 3 <> event ORDER BY 1",
        )?
        .query_map([event], |r| r.get(0))?
        .collect()
}

/// The deliveries of an event downstream, oldest first.
pub(super) fn deliveries_of(connection: &Connection, outbox: i64) -> rusqlite::Result<Vec<i64>> {
    connection
        .prepare_cached(
            "SELECT d.id FROM outbox o JOIN deliveries d ON d.id BETWEEN o.first AND o.first + o.deliveries - 1
             WHERE o.id = ?1 ORDER BY d.id",
        )?
        .query_map([outbox], |r| r.get(0))?
        .collect()
}

/// Erases what a message said, wherever it is kept, and cancels what is still owed of it. What tells of its end
/// stays.
pub(super) fn erase(tx: &mut Tx<'_>, inbound: &Inbound, message: i64, id: MessageId) -> rusqlite::Result<()> {
    let connection = tx.connection;
    for event in events_of(connection, message)? {
        for outbox in of_event(connection, event)? {
            let erased = connection
                .prepare_cached(
                    "UPDATE outbox SET body = x'' WHERE id = ?1 AND message = ?2
                         AND type <> 'conversation_message_deleted' AND length(body) > 0",
                )?
                .execute([outbox, message])?;
            if erased > 0 {
                cancel(tx, outbox)?;
            }
        }
    }
    for webhook in webhooks_of(connection, message, id)? {
        erase_raw(connection, inbound, webhook, id)?;
    }
    Ok(())
}

/// Cancels what is still owed of an event downstream.
fn cancel(tx: &mut Tx<'_>, outbox: i64) -> rusqlite::Result<()> {
    let connection = tx.connection;
    for delivery in deliveries_of(connection, outbox)? {
        let cancelled: Option<(i64, i64)> = connection
            .prepare_cached("UPDATE deliveries SET state = 4 WHERE id = ?1 AND state IN (0, 1) RETURNING lane, seq")?
            .query_row([delivery], |r| Ok((r.get(0)?, r.get(1)?)))
            .optional()?;
        if let Some((lane, seq)) = cancelled {
            super::lanes::cancel(tx, lane, seq)?;
        }
    }
    // What was to be handed over with this commit is not.
    for handed in tx.handed.extract_if(.., |handed| handed.outbox == outbox) {
        // Whatever was said in that lane since then counted on whoever would have it.
        tx.work |= tx.memory.lanes.settle(connection, handed.lane)?.is_some();
    }
    Ok(())
}

/// The events that created or changed a message, oldest first.
pub(super) fn events_of(connection: &Connection, message: i64) -> rusqlite::Result<Vec<i64>> {
    connection
        .prepare_cached(
            "SELECT id FROM events WHERE id = ?1 AND message = ?1
             UNION ALL SELECT id FROM events WHERE message = ?1 AND message <> id ORDER BY 1",
        )?
        .query_map([message], |r| r.get(0))?
        .collect()
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

/// The kept webhooks with events of a message: those that told of it first, those in which one of them came again
/// beside something new, and those whose event of it is in quarantine.
fn webhooks_of(connection: &Connection, message: i64, id: MessageId) -> rusqlite::Result<BTreeSet<i64>> {
    let mut told = Vec::new();
    let mut event = connection.prepare_cached("SELECT webhook, account, provider_key FROM events WHERE id = ?1")?;
    for row in events_of(connection, message)? {
        told.push(event.query_row([row], |r| {
            Ok((r.get::<_, Option<i64>>(0)?, r.get::<_, i64>(1)?, r.get::<_, Option<String>>(2)?))
        })?);
    }
    let mut webhooks = BTreeSet::new();
    for row in index::events(connection, &columns::about_message(id))? {
        webhooks.extend(event.query_row([row], |r| r.get::<_, Option<i64>>(0))?);
    }
    for (webhook, account, key) in told {
        webhooks.extend(webhook);
        for row in key.map_or(Ok(Vec::new()), |key| index::events(connection, &key))? {
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
