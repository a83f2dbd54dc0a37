//! What operators ask, answered on a connection of its own.

use crate::domain::delivery::State;
use crate::domain::ids::{AccountId, ConversationId, EventId, MessageId};
use crate::domain::route::SubscriberId;
use crate::domain::time::Timestamp;
use crate::store::columns;
use crate::store::listing::{
    AttemptRow, Backlog, DeliveryDetail, DeliveryQuery, DeliveryRow, EventQuery, EventRow, SubscriberRow,
};
use rusqlite::{Connection, OptionalExtension, Row, params};
use std::collections::HashMap;
use uuid::Uuid;

const EVENT: &str = "
    SELECT e.id, e.received_at, a.uuid, e.request_id, e.kind, e.state, e.conflict, e.reason, e.detail,
        e.event_time, e.provider_key, m.uuid
    FROM events e JOIN accounts a ON a.id = e.account LEFT JOIN messages m ON m.id = e.message";

fn event_row(r: &Row<'_>) -> rusqlite::Result<EventRow> {
    Ok(EventRow {
        id: r.get(0)?,
        received_at: Timestamp::from_micros(r.get(1)?),
        account: AccountId(Uuid::from_bytes(r.get(2)?)),
        request_id: r.get(3)?,
        kind: r.get(4)?,
        end: columns::parse_end(r.get(5)?, r.get(6)?, r.get::<_, Option<String>>(7)?.as_deref(), r.get(8)?),
        event_time: r.get::<_, Option<i64>>(9)?.map(Timestamp::from_micros),
        provider_key: r.get(10)?,
        message: r.get::<_, Option<[u8; 16]>>(11)?.map(|b| MessageId(Uuid::from_bytes(b))),
    })
}

pub(super) fn events(connection: &Connection, query: &EventQuery) -> rusqlite::Result<Vec<EventRow>> {
    let state = query.state.as_deref().map(columns::end_state);
    let direction = if query.newest { "DESC" } else { "ASC" };
    let mut rows: Vec<EventRow> = connection
        .prepare_cached(&format!(
            "{EVENT} WHERE e.id > ?1 AND (?2 IS NULL OR e.state = ?2) AND (?3 IS NULL OR a.uuid = ?3)
             ORDER BY e.id {direction} LIMIT ?4"
        ))?
        .query_map(params![query.after, state, query.account.map(|a| *a.0.as_bytes()), limit(query.limit)], event_row)?
        .collect::<rusqlite::Result<_>>()?;
    if query.newest {
        rows.reverse();
    }
    Ok(rows)
}

pub(super) fn event(connection: &Connection, id: i64) -> rusqlite::Result<Option<EventRow>> {
    connection.prepare_cached(&format!("{EVENT} WHERE e.id = ?1"))?.query_row([id], event_row).optional()
}

fn limit(wanted: usize) -> i64 {
    i64::try_from(wanted).unwrap_or(i64::MAX)
}

const DELIVERY: &str = "
    SELECT d.id, s.name, CASE WHEN w.lane IS NULL OR d.state <> 0 THEN d.state ELSE 1 END, o.uuid, o.type, coalesce(c.uuid, zeroblob(16)), d.seq, d.attempts, d.replay, o.created_at, d.due_at,
        d.last_at, d.last_ms, d.last_status, d.last_reason
    FROM deliveries d
    JOIN outbox o ON o.id = d.event
    LEFT JOIN conversations c ON c.id = o.conversation
    JOIN subscribers s ON s.id = d.subscriber
    LEFT JOIN at_work w ON w.lane = d.lane AND w.delivery = d.id";

fn delivery_row(r: &Row<'_>) -> rusqlite::Result<DeliveryRow> {
    let attempts: u32 = r.get(7)?;
    Ok(DeliveryRow {
        id: r.get(0)?,
        subscriber: SubscriberId(r.get(1)?),
        state: columns::delivery_state(r.get(2)?, false),
        event_id: EventId(Uuid::from_bytes(r.get(3)?)),
        event_type: r.get(4)?,
        conversation: ConversationId(Uuid::from_bytes(r.get(5)?)),
        sequence: r.get(6)?,
        attempts,
        replay: r.get(8)?,
        created_at: Timestamp::from_micros(r.get(9)?),
        due_at: Timestamp::from_micros(r.get(10)?),
        last: match r.get::<_, Option<i64>>(11)? {
            None => None,
            Some(at) => Some(AttemptRow {
                number: attempts,
                at: Timestamp::from_micros(at),
                duration_ms: r.get(12)?,
                status: r.get(13)?,
                reason: r.get(14)?,
            }),
        },
    })
}

pub(super) fn deliveries(connection: &Connection, query: &DeliveryQuery) -> rusqlite::Result<Vec<DeliveryRow>> {
    let state = match query.state {
        None => "",
        Some(State::Pending) => " AND d.state = 0 AND w.lane IS NULL",
        Some(State::Leased) => " AND (d.state = 1 OR d.state = 0 AND w.lane IS NOT NULL)",
        Some(State::Delivered) => " AND d.state = 2",
        Some(State::Dead) => " AND d.state = 3",
        Some(State::Cancelled) => " AND d.state = 4",
    };
    let direction = if query.newest { "DESC" } else { "ASC" };
    let mut rows: Vec<DeliveryRow> = connection
        .prepare_cached(&format!(
            "{DELIVERY} WHERE d.id > ?1 AND (?2 IS NULL OR s.name = ?2){state} ORDER BY d.id {direction} LIMIT ?3"
        ))?
        .query_map(params![query.after, query.subscriber.as_ref().map(|s| &s.0), limit(query.limit)], delivery_row)?
        .collect::<rusqlite::Result<_>>()?;
    if query.newest {
        rows.reverse();
    }
    Ok(rows)
}

pub(super) fn delivery(connection: &Connection, id: i64) -> rusqlite::Result<Option<DeliveryDetail>> {
    let Some(row) =
        connection.prepare_cached(&format!("{DELIVERY} WHERE d.id = ?1"))?.query_row([id], delivery_row).optional()?
    else {
        return Ok(None);
    };
    let logged: Vec<AttemptRow> = connection
        .prepare_cached("SELECT number, at, ms, status, reason FROM attempts WHERE delivery = ?1 ORDER BY id")?
        .query_map([id], |r| {
            Ok(AttemptRow {
                number: r.get(0)?,
                at: Timestamp::from_micros(r.get(1)?),
                duration_ms: r.get(2)?,
                status: r.get(3)?,
                reason: r.get(4)?,
            })
        })?
        .collect::<rusqlite::Result<_>>()?;
    let body = connection
        .prepare_cached("SELECT o.body FROM outbox o JOIN deliveries d ON d.event = o.id WHERE d.id = ?1")?
        .query_row([id], |r| r.get(0))?;
    Ok(Some(DeliveryDetail::new(row, logged, body)))
}

pub(super) fn accounts(connection: &Connection) -> rusqlite::Result<Vec<AccountId>> {
    connection
        .prepare_cached("SELECT uuid FROM accounts ORDER BY id")?
        .query_map([], |r| Ok(AccountId(Uuid::from_bytes(r.get(0)?))))?
        .collect()
}

pub(super) fn subscribers(connection: &Connection) -> rusqlite::Result<Vec<SubscriberRow>> {
    connection
        .prepare_cached("SELECT name, configured, disabled_at, disabled_reason FROM subscribers ORDER BY name")?
        .query_map([], |r| {
            let at: Option<i64> = r.get(2)?;
            let why: Option<String> = r.get(3)?;
            Ok(SubscriberRow {
                id: SubscriberId(r.get(0)?),
                configured: r.get(1)?,
                disabled: at.map(|at| (Timestamp::from_micros(at), why.unwrap_or_default())),
            })
        })?
        .collect()
}

pub(super) fn backlog(connection: &Connection) -> rusqlite::Result<Vec<Backlog>> {
    // What is owed is in `owed` up to where it was written, from there on in the rows themselves. Lanes at work take what is
    // done out of it when they are given back.
    let mut found: HashMap<i64, (i64, Option<i64>)> = HashMap::new();
    let mut owed = connection.prepare_cached(
        "SELECT o.subscriber, count(*), min(o.delivery) FROM owed o LEFT JOIN at_work w ON w.lane = o.lane
         WHERE o.delivery < (SELECT delivery FROM tail) AND (w.lane IS NULL OR o.seq >= w.seq) GROUP BY o.subscriber
         UNION ALL
         SELECT subscriber, count(*), min(id) FROM deliveries
         WHERE id >= (SELECT delivery FROM tail) AND state IN (0, 1) GROUP BY subscriber",
    )?;
    let mut rows = owed.query([])?;
    while let Some(row) = rows.next()? {
        let (count, oldest) = found.entry(row.get(0)?).or_default();
        *count += row.get::<_, i64>(1)?;
        *oldest = oldest.iter().copied().chain(row.get::<_, Option<i64>>(2)?).min();
    }
    let mut row_of = connection.prepare_cached("SELECT id FROM subscribers WHERE name = ?1")?;
    let mut dead = connection.prepare_cached("SELECT count(*) FROM deliveries WHERE state = 3 AND subscriber = ?1")?;
    let mut created = connection
        .prepare_cached("SELECT o.created_at FROM deliveries d JOIN outbox o ON o.id = d.event WHERE d.id = ?1")?;
    subscribers(connection)?
        .into_iter()
        .map(|subscriber| {
            let row: i64 = row_of.query_row([&subscriber.id.0], |r| r.get(0))?;
            let (count, oldest) = found.get(&row).copied().unwrap_or_default();
            let oldest = match oldest {
                Some(id) => created.query_row([id], |r| r.get(0)).optional()?.map(Timestamp::from_micros),
                None => None,
            };
            let dead: i64 = dead.query_row([row], |r| r.get(0))?;
            Ok(Backlog { owed: count.unsigned_abs(), oldest, dead: dead.unsigned_abs(), subscriber })
        })
        .collect()
}
