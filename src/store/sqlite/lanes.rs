//! Leasing lanes, recording attempts, replaying.

use super::writer::Tx;
use crate::domain::ids::{ConversationId, EventId};
use crate::domain::route::SubscriberId;
use crate::domain::time::Timestamp;
use crate::store::lane::{Advance, Attempt, Claim, Claimed, Lease, Leased, Owed, Verdict};
use crate::store::listing::{ReplayOf, Replayed};
use rusqlite::{Connection, OptionalExtension, params};
use std::time::Duration;
use uuid::Uuid;

/// A lane for one delivery only, due at `due`: a replay, or a delivery to a subscriber that wants no order.
pub(super) fn single(connection: &Connection, subscriber: i64, conversation: i64, due: i64) -> rusqlite::Result<i64> {
    connection
        .prepare_cached(
            "INSERT INTO lanes (subscriber, conversation, single, last_seq, due_at, leased, token)
             VALUES (?1, ?2, 1, 0, ?3, 0, 0)",
        )?
        .execute(params![subscriber, conversation, due])?;
    Ok(connection.last_insert_rowid())
}

/// Voids every lease: whoever opens the file to serve holds its lock, so every former owner is gone. What those
/// owners were doing is not known, and says so. One transaction: thousands of leases cost one sync, not thousands,
/// and a crash in between counts no attempt twice.
pub(super) fn void_leases(connection: &Connection, now: Timestamp) -> rusqlite::Result<usize> {
    let tx = connection.unchecked_transaction()?;
    let lanes: Vec<i64> = tx
        .prepare("SELECT id FROM lanes WHERE leased = 1")?
        .query_map([], |r| r.get(0))?
        .collect::<rusqlite::Result<_>>()?;
    for &lane in &lanes {
        cut_short(&tx, lane, now)?;
        settle(&tx, lane)?;
    }
    tx.commit()?;
    Ok(lanes.len())
}

/// Accounts for the attempt that a lane's former owner may have been making.
fn cut_short(connection: &Connection, lane: i64, now: Timestamp) -> rusqlite::Result<()> {
    let Some(head) = head(connection, lane)? else { return Ok(()) };
    connection
        .prepare_cached(
            "INSERT INTO attempts (delivery, number, at, ms, status, reason)
             SELECT id, attempts + 1, ?2, NULL, NULL, 'unknown outcome' FROM deliveries WHERE id = ?1",
        )?
        .execute(params![head.delivery, now.micros()])?;
    connection
        .prepare_cached(
            "UPDATE deliveries SET attempts = attempts + 1, first_at = coalesce(first_at, ?2), last_at = ?2,
                 last_ms = NULL, last_status = NULL, last_reason = 'unknown outcome' WHERE id = ?1",
        )?
        .execute(params![head.delivery, now.micros()])
        .map(drop)
}

pub(super) fn claim(tx: &Tx<'_>, claims: &[Claim], now: Timestamp, lease: Duration) -> rusqlite::Result<Claimed> {
    let mut leased = Vec::new();
    let mut next_due = None;
    for wish in claims.iter().filter(|wish| wish.lanes > 0) {
        let due: Vec<(i64, bool)> = tx
            .connection
            .prepare_cached(
                "SELECT l.id, l.leased FROM lanes l JOIN subscribers s ON s.id = l.subscriber
                 WHERE s.name = ?1 AND s.configured = 1 AND s.disabled_at IS NULL AND l.due_at <= ?2
                 ORDER BY l.due_at LIMIT ?3",
            )?
            .query_map(params![wish.subscriber.0, now.micros(), i64::try_from(wish.lanes).unwrap_or(i64::MAX)], |r| {
                Ok((r.get(0)?, r.get(1)?))
            })?
            .collect::<rusqlite::Result<_>>()?;
        for (lane, has_expired) in due {
            let (token, conversation) = tx
                .connection
                .prepare_cached(
                    "UPDATE lanes SET token = token + 1, leased = 1, due_at = ?2 WHERE id = ?1
                     RETURNING token, conversation",
                )?
                .query_row(params![lane, now.plus(lease).micros()], |r| Ok((r.get(0)?, r.get(1)?)))?;
            if has_expired {
                cut_short(tx.connection, lane, now)?;
            }
            let lease = Lease { lane, token };
            let Some(owed) = head(tx.connection, lease.lane)? else {
                settle(tx.connection, lease.lane)?;
                continue;
            };
            leased.push(Leased {
                lease,
                subscriber: wish.subscriber.clone(),
                conversation: conversation_id(tx.connection, conversation)?,
                owed,
            });
        }
        let due: Option<i64> = tx
            .connection
            .prepare_cached(
                "SELECT min(l.due_at) FROM lanes l JOIN subscribers s ON s.id = l.subscriber
                 WHERE s.name = ?1 AND s.configured = 1 AND s.disabled_at IS NULL AND l.due_at > ?2",
            )?
            .query_row(params![wish.subscriber.0, now.micros()], |r| r.get(0))?;
        next_due = next_due.into_iter().chain(due.map(Timestamp::from_micros)).min();
    }
    Ok(Claimed { leased, next_due })
}

/// The conversation whose lane it is; of the lane of an account's events without a conversation, the account's id.
fn conversation_id(connection: &Connection, row: i64) -> rusqlite::Result<ConversationId> {
    let sql = if row < 0 {
        "SELECT uuid FROM accounts WHERE id = -?1"
    } else {
        "SELECT uuid FROM conversations WHERE id = ?1"
    };
    connection.prepare_cached(sql)?.query_row([row], |r| Ok(ConversationId(Uuid::from_bytes(r.get(0)?))))
}

/// The next delivery of a lane.
fn head(connection: &Connection, lane: i64) -> rusqlite::Result<Option<Owed>> {
    connection
        .prepare_cached(
            "SELECT d.id, d.seq, o.uuid, o.type, o.body, d.attempts - d.round_start, d.first_at, o.created_at, d.replay
             FROM deliveries d JOIN outbox o ON o.id = d.event
             WHERE d.lane = ?1 AND d.state = 0 ORDER BY d.seq LIMIT 1",
        )?
        .query_row([lane], |r| {
            Ok(Owed {
                delivery: r.get(0)?,
                sequence: r.get(1)?,
                event_id: EventId(Uuid::from_bytes(r.get(2)?)),
                event_type: r.get(3)?,
                body: r.get(4)?,
                failures: r.get(5)?,
                first_attempt: r.get::<_, Option<i64>>(6)?.map(Timestamp::from_micros),
                created_at: Timestamp::from_micros(r.get(7)?),
                replay: r.get(8)?,
            })
        })
        .optional()
}

/// Ends a lane's lease: due when its head is, idle without one. A single lane without a delivery has done its work.
/// Says when it is due.
fn settle(connection: &Connection, lane: i64) -> rusqlite::Result<Option<Timestamp>> {
    let due: Option<Option<i64>> = connection
        .prepare_cached(
            "UPDATE lanes SET leased = 0, due_at = (
                 SELECT due_at FROM deliveries WHERE lane = ?1 AND state = 0 ORDER BY seq LIMIT 1)
             WHERE id = ?1 RETURNING due_at",
        )?
        .query_row([lane], |r| r.get(0))
        .optional()?;
    let due = due.flatten().map(Timestamp::from_micros);
    if due.is_none() {
        connection.prepare_cached("DELETE FROM lanes WHERE id = ?1 AND single = 1")?.execute([lane])?;
    }
    Ok(due)
}

/// Sets a lane's time anew after its deliveries changed, unless somebody works on it and will do so.
pub(super) fn settle_unless_leased(connection: &Connection, lane: i64) -> rusqlite::Result<()> {
    let leased: Option<bool> = connection
        .prepare_cached("SELECT leased FROM lanes WHERE id = ?1")?
        .query_row([lane], |r| r.get(0))
        .optional()?;
    if leased == Some(false) { settle(connection, lane).map(drop) } else { Ok(()) }
}

fn holds(connection: &Connection, lease: Lease) -> rusqlite::Result<bool> {
    let token: Option<i64> = connection
        .prepare_cached("SELECT token FROM lanes WHERE id = ?1 AND leased = 1")?
        .query_row([lease.lane], |r| r.get(0))
        .optional()?;
    Ok(token == Some(lease.token))
}

pub(super) fn record(tx: &mut Tx<'_>, attempt: &Attempt) -> rusqlite::Result<Advance> {
    let connection = tx.connection;
    if !holds(connection, attempt.lease)? {
        return Ok(Advance::Lost);
    }
    let (state, due) = match attempt.verdict {
        Verdict::Delivered => (2, None),
        Verdict::Retry { due } => (0, Some(due.micros())),
        Verdict::Dead => (3, None),
    };
    let took = i64::try_from(attempt.ended_at.since(attempt.started_at).as_millis()).unwrap_or(i64::MAX);
    // A delivery that was cancelled while it was attempted stays cancelled, but was attempted.
    let number: i64 = connection
        .prepare_cached(
            "UPDATE deliveries SET state = iif(state = 4, 4, ?2), due_at = coalesce(?3, due_at), attempts = attempts + 1,
                 first_at = coalesce(first_at, ?4), last_at = ?4, last_ms = ?5, last_status = ?6, last_reason = ?7
             WHERE id = ?1 RETURNING attempts",
        )?
        .query_row(
            params![attempt.delivery, state, due, attempt.started_at.micros(), took, attempt.status, attempt.reason],
            |r| r.get(0),
        )?;
    if attempt.verdict != Verdict::Delivered {
        connection
            .prepare_cached(
                "INSERT INTO attempts (delivery, number, at, ms, status, reason) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            )?
            .execute(params![
                attempt.delivery,
                number,
                attempt.started_at.micros(),
                took,
                attempt.status,
                attempt.reason
            ])?;
    }
    if let Some(extend) = attempt.extend
        && !matches!(attempt.verdict, Verdict::Retry { .. })
        && is_wanted(connection, attempt.lease.lane)?
        && let Some(owed) = head(connection, attempt.lease.lane)?
    {
        connection
            .prepare_cached("UPDATE lanes SET due_at = ?2 WHERE id = ?1")?
            .execute(params![attempt.lease.lane, attempt.ended_at.plus(extend).micros()])?;
        return Ok(Advance::Next(Box::new(owed)));
    }
    // Given back with more to do: somebody should take it up at once.
    let due = settle(connection, attempt.lease.lane)?;
    tx.work |= due.is_some_and(|due| due <= attempt.ended_at);
    Ok(Advance::Released)
}

/// Whether the lane's subscriber still takes anything.
fn is_wanted(connection: &Connection, lane: i64) -> rusqlite::Result<bool> {
    connection
        .prepare_cached(
            "SELECT s.disabled_at IS NULL FROM lanes l JOIN subscribers s ON s.id = l.subscriber WHERE l.id = ?1",
        )?
        .query_row([lane], |r| r.get(0))
}

pub(super) fn release(tx: &mut Tx<'_>, leases: &[Lease]) -> rusqlite::Result<()> {
    for &lease in leases {
        if holds(tx.connection, lease)? {
            settle(tx.connection, lease.lane)?;
            tx.work = true;
        }
    }
    Ok(())
}

pub(super) fn replay(tx: &mut Tx<'_>, of: &ReplayOf, now: Timestamp) -> rusqlite::Result<Replayed> {
    let ids = match of {
        ReplayOf::Deliveries(ids) => ids.clone(),
        ReplayOf::Dead { since } => tx
            .connection
            .prepare_cached("SELECT id FROM deliveries WHERE state = 3 AND last_at >= ?1 ORDER BY id")?
            .query_map([since.map_or(i64::MIN, Timestamp::micros)], |r| r.get(0))?
            .collect::<rusqlite::Result<Vec<i64>>>()?,
    };
    let mut replayed = Replayed::default();
    for id in ids {
        let found: Option<(i64, i64, i64, bool)> = tx
            .connection
            .prepare_cached(
                "SELECT d.state, d.subscriber, o.conversation, length(o.body) = 0 FROM deliveries d JOIN outbox o ON o.id = d.event
                 WHERE d.id = ?1",
            )?
            .query_row([id], |r| Ok((r.get(0)?, r.get(1)?, r.get(2)?, r.get(3)?)))
            .optional()?;
        match found {
            None => replayed.unknown.push(id),
            Some((0, ..)) => {
                hurry(tx.connection, id, now)?;
                replayed.still_owed.push(id);
                tx.work = true;
            }
            Some((.., true)) => replayed.erased.push(id),
            Some((_, subscriber, conversation, false)) => {
                let lane = single(tx.connection, subscriber, conversation, now.micros())?;
                tx.connection
                    .prepare_cached(
                        "UPDATE deliveries SET lane = ?2, state = 0, replay = 1, round_start = attempts, first_at = NULL,
                             due_at = ?3 WHERE id = ?1",
                    )?
                    .execute(params![id, lane, now.micros()])?;
                replayed.replayed.push(id);
                tx.work = true;
            }
        }
    }
    Ok(replayed)
}

/// Makes a delivery due at once. One that waits for its turn still does.
fn hurry(connection: &Connection, delivery: i64, now: Timestamp) -> rusqlite::Result<()> {
    let lane: i64 = connection
        .prepare_cached("UPDATE deliveries SET due_at = min(due_at, ?2) WHERE id = ?1 RETURNING lane")?
        .query_row(params![delivery, now.micros()], |r| r.get(0))?;
    settle_unless_leased(connection, lane)
}

pub(super) fn disable(tx: &Tx<'_>, subscriber: &SubscriberId, why: &str, now: Timestamp) -> rusqlite::Result<bool> {
    tx.connection
        .prepare_cached("UPDATE subscribers SET disabled_at = ?2, disabled_reason = ?3 WHERE name = ?1")?
        .execute(params![subscriber.0, now.micros(), why])
        .map(|changed| changed > 0)
}

/// Whoever resumes a subscriber has seen to it that it is well, so nothing waits for its old delays.
pub(super) fn enable(tx: &mut Tx<'_>, subscriber: &SubscriberId, now: Timestamp) -> rusqlite::Result<bool> {
    let changed = tx
        .connection
        .prepare_cached("UPDATE subscribers SET disabled_at = NULL, disabled_reason = NULL WHERE name = ?1")?
        .execute([&subscriber.0])?;
    let waiting: Vec<i64> = tx
        .connection
        .prepare_cached(
            "SELECT (SELECT d.id FROM deliveries d WHERE d.lane = l.id AND d.state = 0 ORDER BY d.seq LIMIT 1)
             FROM lanes l JOIN subscribers s ON s.id = l.subscriber
             WHERE s.name = ?1 AND l.due_at > ?2 AND l.leased = 0",
        )?
        .query_map(params![subscriber.0, now.micros()], |r| r.get::<_, Option<i64>>(0))?
        .filter_map(Result::transpose)
        .collect::<rusqlite::Result<_>>()?;
    for head in waiting {
        hurry(tx.connection, head, now)?;
    }
    tx.work = true;
    Ok(changed > 0)
}
