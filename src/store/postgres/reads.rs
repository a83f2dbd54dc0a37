//! What operators ask.

use super::connect::Session;
use super::error::Failure;
use super::replay::words;
use super::sql::number;
use crate::domain::delivery::State;
use crate::domain::ids::{AccountId, ConversationId, EventId, MessageId};
use crate::domain::route::SubscriberId;
use crate::domain::time::Timestamp;
use crate::store::columns;
use crate::store::listing::{
    AttemptRow, Backlog, DeliveryDetail, DeliveryQuery, DeliveryRow, EventQuery, EventRow, SubscriberRow,
};
use std::collections::HashMap;
use tokio_postgres::Row;
use uuid::Uuid;

const EVENT: &str = "
    SELECT e.id, e.received_at, a.uuid, e.request_id, e.kind, e.state, e.conflict, e.reason, e.detail,
        e.event_time, e.provider_key, m.uuid
    FROM events e JOIN accounts a ON a.id = e.account LEFT JOIN messages m ON m.id = e.message";

fn event_row(r: &Row) -> EventRow {
    EventRow {
        id: r.get(0),
        received_at: Timestamp::from_micros(r.get(1)),
        account: AccountId(r.get(2)),
        request_id: r.get(3),
        kind: words(r.get(4)).unwrap_or_default(),
        end: columns::parse_end(r.get(5), r.get(6), r.get(7), words(r.get(8))),
        event_time: r.get::<_, Option<i64>>(9).map(Timestamp::from_micros),
        provider_key: words(r.get(10)),
        message: r.get::<_, Option<Uuid>>(11).map(MessageId),
    }
}

pub(super) async fn events(session: &Session, query: &EventQuery) -> Result<Vec<EventRow>, Failure> {
    let state = query.state.as_deref().map(columns::end_state);
    let direction = if query.newest { "DESC" } else { "ASC" };
    let sql = format!(
        "{EVENT} WHERE e.id > $1 AND ($2::smallint IS NULL OR e.state = $2) AND ($3::uuid IS NULL OR a.uuid = $3)
         ORDER BY e.id {direction} LIMIT $4"
    );
    let account = query.account.map(|a| a.0);
    let rows = session.query(&sql, &[&query.after, &state, &account, &number(query.limit)]).await?;
    let mut rows: Vec<EventRow> = rows.iter().map(event_row).collect();
    if query.newest {
        rows.reverse();
    }
    Ok(rows)
}

/// These events, in order.
pub(super) async fn events_by_row(session: &Session, rows: &[i64]) -> Result<Vec<EventRow>, Failure> {
    let sql = format!("{EVENT} WHERE e.id = ANY($1) ORDER BY e.id");
    Ok(session.query(&sql, &[&rows]).await?.iter().map(event_row).collect())
}

/// What is owed and what was delivered, as one table.
const DELIVERY: &str = "
    SELECT d.id, s.name, d.state, o.uuid, o.type, coalesce(c.uuid, '00000000-0000-0000-0000-000000000000'::uuid), d.seq,
        d.attempts, d.replay, o.created_at, d.due_at, d.last_at, d.last_ms, d.last_status, d.last_reason, d.leased
    FROM (%) d
    JOIN outbox o ON o.id = d.event AND o.day = d.event_day
    LEFT JOIN conversations c ON c.id = o.conversation
    JOIN subscribers s ON s.id = d.subscriber";

const OWED: &str = "
    SELECT d.id, d.event, d.event_day, d.subscriber, d.seq, d.state, d.replay, d.attempts, d.due_at, d.last_at, d.last_ms,
        d.last_status, d.last_reason, d.state = 0 AND coalesce(l.leased, false) AND d.seq = (
            SELECT h.seq FROM deliveries h WHERE h.lane = d.lane AND h.state = 0 ORDER BY h.seq LIMIT 1) AS leased
    FROM deliveries d LEFT JOIN lanes l ON l.id = d.lane AND d.state = 0";

const FINISHED: &str = "
    SELECT d.id, d.event, d.event_day, d.subscriber, d.seq, 2::smallint AS state, d.replay, d.attempts, d.due_at, d.last_at,
        d.last_ms, d.last_status, d.last_reason, false AS leased
    FROM finished d";

fn delivery_row(r: &Row) -> DeliveryRow {
    let attempts = u32::try_from(r.get::<_, i32>(7)).unwrap_or_default();
    DeliveryRow {
        id: r.get(0),
        subscriber: SubscriberId(r.get(1)),
        state: columns::delivery_state(r.get(2), r.get(15)),
        event_id: EventId(r.get(3)),
        event_type: r.get(4),
        conversation: ConversationId(r.get(5)),
        sequence: r.get(6),
        attempts,
        replay: r.get(8),
        created_at: Timestamp::from_micros(r.get(9)),
        due_at: Timestamp::from_micros(r.get(10)),
        last: r.get::<_, Option<i64>>(11).map(|at| AttemptRow {
            number: attempts,
            at: Timestamp::from_micros(at),
            duration_ms: r.get(12),
            status: status(r.get(13)),
            reason: r.get::<_, Option<String>>(14).unwrap_or_default(),
        }),
    }
}

fn status(column: Option<i32>) -> Option<u16> {
    column.and_then(|status| u16::try_from(status).ok())
}

pub(super) async fn deliveries(session: &Session, query: &DeliveryQuery) -> Result<Vec<DeliveryRow>, Failure> {
    let direction = if query.newest { "DESC" } else { "ASC" };
    let page = format!("ORDER BY d.id {direction} LIMIT $3");
    let of = "d.id > $1 AND ($2::bigint IS NULL OR d.subscriber = $2)";
    let owed = format!("(SELECT * FROM ({OWED}) d WHERE {of}");
    let finished = format!("({FINISHED} WHERE {of} {page})");
    let rows = match query.state {
        None => format!("{owed} {page}) UNION ALL {finished}"),
        Some(State::Delivered) => finished,
        Some(State::Pending) => format!("{owed} AND d.state = 0 AND NOT d.leased {page})"),
        Some(State::Leased) => format!("{owed} AND d.state = 0 AND d.leased {page})"),
        Some(State::Dead) => format!("{owed} AND d.state = 3 {page})"),
        Some(State::Cancelled) => format!("{owed} AND d.state = 4 {page})"),
    };
    let subscriber = match &query.subscriber {
        None => None,
        // A subscriber that does not exist has no deliveries.
        Some(SubscriberId(name)) => {
            let row = session.query_opt("SELECT id FROM subscribers WHERE name = $1", &[name]).await?;
            Some(row.map_or(-1, |row| row.get::<_, i64>(0)))
        }
    };
    let sql = format!("{} {page}", DELIVERY.replace('%', &rows));
    let rows = session.query(&sql, &[&query.after, &subscriber, &number(query.limit)]).await?;
    let mut rows: Vec<DeliveryRow> = rows.iter().map(delivery_row).collect();
    if query.newest {
        rows.reverse();
    }
    Ok(rows)
}

/// These deliveries with their attempts and bodies, in order.
pub(super) async fn details(session: &Session, ids: &[i64]) -> Result<Vec<DeliveryDetail>, Failure> {
    let rows = format!("{OWED} WHERE d.id = ANY($1) UNION ALL {FINISHED} WHERE d.id = ANY($1)");
    let sql = format!("{} ORDER BY d.id", DELIVERY.replace('%', &rows).replacen("d.leased", "d.leased, o.body", 1));
    let rows = session.query(&sql, &[&ids]).await?;
    let mut logged: HashMap<i64, Vec<AttemptRow>> = HashMap::new();
    let attempts = "SELECT delivery, number, at, ms, status, reason FROM attempts WHERE delivery = ANY($1)
                    ORDER BY delivery, number";
    for r in session.query(attempts, &[&ids]).await? {
        logged.entry(r.get(0)).or_default().push(AttemptRow {
            number: u32::try_from(r.get::<_, i32>(1)).unwrap_or_default(),
            at: Timestamp::from_micros(r.get(2)),
            duration_ms: r.get(3),
            status: status(r.get(4)),
            reason: r.get(5),
        });
    }
    let detail = |r: &Row| {
        let row = delivery_row(r);
        let logged = logged.remove(&row.id).unwrap_or_default();
        DeliveryDetail::new(row, logged, r.get(16))
    };
    Ok(rows.iter().map(detail).collect())
}

pub(super) async fn accounts(session: &Session) -> Result<Vec<AccountId>, Failure> {
    let rows = session.query("SELECT uuid FROM accounts ORDER BY id", &[]).await?;
    Ok(rows.iter().map(|r| AccountId(r.get(0))).collect())
}

pub(super) async fn subscribers(session: &Session) -> Result<Vec<SubscriberRow>, Failure> {
    let rows = session
        .query(
            "SELECT name, configured, disabled_at, disabled_reason FROM subscribers ORDER BY name COLLATE \"C\"",
            &[],
        )
        .await?;
    let subscriber = |r: &Row| SubscriberRow {
        id: SubscriberId(r.get(0)),
        configured: r.get(1),
        disabled: r
            .get::<_, Option<i64>>(2)
            .map(|at| (Timestamp::from_micros(at), r.get::<_, Option<String>>(3).unwrap_or_default())),
    };
    Ok(rows.iter().map(subscriber).collect())
}

pub(super) async fn backlog(session: &Session) -> Result<Vec<Backlog>, Failure> {
    let counts = session
        .query(
            "SELECT s.name, d.owed, d.dead, (
                 SELECT o.created_at FROM deliveries f JOIN outbox o ON o.id = f.event AND o.day = f.event_day
                 WHERE f.id = d.oldest)
             FROM (
                 SELECT subscriber, count(*) FILTER (WHERE state = 0) AS owed, count(*) FILTER (WHERE state = 3) AS dead,
                     min(id) FILTER (WHERE state = 0) AS oldest
                 FROM deliveries GROUP BY subscriber) d
             JOIN subscribers s ON s.id = d.subscriber",
            &[],
        )
        .await?;
    let counts: HashMap<String, (i64, i64, Option<i64>)> =
        counts.iter().map(|r| (r.get(0), (r.get(1), r.get(2), r.get(3)))).collect();
    let backlog = |subscriber: SubscriberRow| {
        let (owed, dead, oldest) = counts.get(&subscriber.id.0).copied().unwrap_or_default();
        let oldest = oldest.map(Timestamp::from_micros);
        Backlog { owed: owed.unsigned_abs(), oldest, dead: dead.unsigned_abs(), subscriber }
    };
    Ok(subscribers(session).await?.into_iter().map(backlog).collect())
}
