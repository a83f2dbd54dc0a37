//! Leasing lanes, recording attempts, replaying.

pub(super) mod book;

use super::statements::Hot;
use super::writer::Tx;
use crate::domain::ids::{ConversationId, EventId};
use crate::domain::route::SubscriberId;
use crate::domain::time::Timestamp;
use crate::store::lane::{Advance, Attempt, Claim, Claimed, Lease, Leased, Owed, Verdict};
use crate::store::listing::{ReplayOf, Replayed};
use book::{Book, Head};
use rusqlite::{Connection, OptionalExtension, params};
use std::time::Duration;
use uuid::Uuid;

/// Deliveries looked at in one transaction when a subscriber is resumed: webhooks that come meanwhile do not notice.
const ROUNDS: usize = 1000;

/// Makes up for the process before: whoever opens the file to serve holds its lock, so everybody who was at work is gone.
/// What they were doing is not known, and says so. One transaction: thousands of leases cost one sync, not thousands,
/// and a crash in between counts no attempt twice.
pub(super) fn void_leases(connection: &Connection, now: Timestamp) -> rusqlite::Result<()> {
    let tx = connection.unchecked_transaction()?;
    let mut book = Book::new(true, now.micros()).read(&tx)?;
    for (lane, head) in book.at_work(&tx)? {
        if let Some(head) = head {
            cut_short(&tx, head.delivery, book.is_marked(lane, head.delivery), now)?;
        }
        book.unmark(&tx, lane)?;
    }
    tx.commit()
}

/// Accounts for the attempt that somebody who is gone may have been making: of a delivery that says so itself, or that is
/// marked. Says whether there was one.
fn cut_short(connection: &Connection, delivery: i64, is_marked: bool, now: Timestamp) -> rusqlite::Result<bool> {
    let changed = connection
        .prepare_cached(
            "UPDATE deliveries SET state = 0, attempts = attempts + 1, first_at = coalesce(first_at, ?2), last_at = ?2,
                 last_ms = NULL, last_status = NULL, last_reason = 'unknown outcome' WHERE id = ?1 AND state IN (1, ?3)",
        )?
        .execute(params![delivery, now.micros(), i32::from(!is_marked)])?;
    if changed > 0 {
        connection
            .prepare_cached(
                "INSERT INTO attempts (delivery, number, at, ms, status, reason)
                 SELECT id, attempts, ?2, NULL, NULL, 'unknown outcome' FROM deliveries WHERE id = ?1",
            )?
            .execute(params![delivery, now.micros()])?;
    }
    Ok(changed > 0)
}

pub(super) fn claim(tx: &mut Tx<'_>, claims: &[Claim], now: Timestamp, lease: Duration) -> rusqlite::Result<Claimed> {
    let mut leased = Vec::new();
    let mut next_due = None;
    for wish in claims.iter().filter(|wish| wish.lanes > 0) {
        let Some(known) = tx.memory.known_subscriber(tx.connection, &wish.subscriber.0)?.filter(|s| s.active) else {
            continue;
        };
        for lane in due(tx, known.row, now, wish.lanes)? {
            if let Some(owed) = take(tx, lane, now)? {
                leased.push(lease_of(tx, lane, &wish.subscriber, owed, now.plus(lease))?);
            }
        }
        next_due = next_due.into_iter().chain(due_after(tx, known.row, now)?).min();
    }
    Ok(Claimed { leased, next_due })
}

/// Lanes of a subscriber that are due, the first first: those known by heart, and those of which the rows tell.
fn due(tx: &mut Tx<'_>, subscriber: i64, now: Timestamp, most: usize) -> rusqlite::Result<Vec<i64>> {
    let book = &mut tx.memory.lanes;
    let mut due = book.due(subscriber, i64::MIN, now.micros(), most);
    let mut select = tx
        .connection
        .prepare_cached("SELECT due_at, id FROM lanes WHERE subscriber = ?1 AND due_at <= ?2 ORDER BY due_at")?;
    let mut rows = select.query([subscriber, now.micros()])?;
    let mut read = 0;
    while read < most
        && let Some(row) = rows.next()?
    {
        let lane: (i64, i64) = (row.get(0)?, row.get(1)?);
        if !book.knows(lane.1) {
            due.push(lane);
            read += 1;
        }
    }
    due.sort_unstable();
    due.truncate(most);
    for (_, lane) in &due {
        book.lane(tx.connection, *lane)?;
    }
    Ok(due.into_iter().map(|(_, lane)| lane).collect())
}

fn due_after(tx: &Tx<'_>, subscriber: i64, now: Timestamp) -> rusqlite::Result<Option<Timestamp>> {
    let next = now.micros().saturating_add(1);
    let known = tx.memory.lanes.due(subscriber, next, i64::MAX, 1);
    let row: Option<i64> = tx
        .connection
        .prepare_cached("SELECT min(due_at) FROM lanes WHERE subscriber = ?1 AND due_at >= ?2")?
        .query_row([subscriber, next], |r| r.get(0))?;
    Ok(known.into_iter().map(|(due, _)| due).chain(row).min().map(Timestamp::from_micros))
}

/// The next delivery of a lane that is due, marked as being attempted; a lane without one becomes idle.
fn take(tx: &mut Tx<'_>, lane: i64, now: Timestamp) -> rusqlite::Result<Option<(Head, Owed)>> {
    let Some(head) = tx.memory.lanes.head(tx.connection, lane)? else {
        tx.memory.lanes.settle(tx.connection, lane)?;
        return Ok(None);
    };
    if tx.memory.lanes.is_leased(lane) {
        // The lease ran out; what became of the attempt, nobody knows.
        cut_short(tx.connection, head.delivery, tx.memory.lanes.is_marked(lane, head.delivery), now)?;
    }
    tx.memory.lanes.begin(tx.connection, lane, head)?;
    Ok(Some((head, owed(tx.connection, head.delivery)?)))
}

fn lease_of(
    tx: &mut Tx<'_>,
    lane: i64,
    subscriber: &SubscriberId,
    (head, owed): (Head, Owed),
    until: Timestamp,
) -> rusqlite::Result<Leased> {
    let lease = tx.memory.lanes.lease(tx.connection, lane, head, until.micros())?;
    let conversation = tx.memory.lanes.owner(lane).map_or(0, |(_, conversation)| conversation);
    let conversation = conversation_id(tx.connection, conversation)?;
    Ok(Leased { lease, subscriber: subscriber.clone(), conversation, owed })
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

/// What is to be attempted.
fn owed(connection: &Connection, delivery: i64) -> rusqlite::Result<Owed> {
    connection
        .prepare_cached(
            "SELECT d.id, d.seq, o.uuid, o.type, o.body, d.attempts - d.round_start, d.first_at, o.created_at, d.replay
             FROM deliveries d JOIN outbox o ON o.id = d.event WHERE d.id = ?1",
        )?
        .query_row([delivery], |r| {
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
}

pub(super) fn record(tx: &mut Tx<'_>, attempt: &Attempt) -> rusqlite::Result<Advance> {
    let (connection, lease) = (tx.connection, attempt.lease);
    let Some(head) = tx.memory.lanes.held(lease) else { return Ok(Advance::Lost) };
    let (state, due) = match attempt.verdict {
        Verdict::Delivered => (2, None),
        Verdict::Retry { due } => (0, Some(due.micros())),
        Verdict::Dead => (3, None),
    };
    let took = i64::try_from(attempt.ended_at.since(attempt.started_at).as_millis()).unwrap_or(i64::MAX);
    tx.run(
        Hot::Attempted,
        params![attempt.delivery, state, due, attempt.started_at.micros(), took, attempt.status, attempt.reason],
    )?;
    if attempt.verdict != Verdict::Delivered {
        connection
            .prepare_cached(
                "INSERT INTO attempts (delivery, number, at, ms, status, reason)
                 SELECT id, attempts, ?2, ?3, ?4, ?5 FROM deliveries WHERE id = ?1",
            )?
            .execute(params![attempt.delivery, attempt.started_at.micros(), took, attempt.status, attempt.reason])?;
    }
    match due {
        Some(due) => tx.memory.lanes.postpone(lease.lane, attempt.delivery, due),
        None => tx.memory.lanes.finish(connection, lease.lane, head.seq)?,
    }
    if let Some(extend) = attempt.extend.filter(|_| due.is_none())
        && is_wanted(tx, lease.lane)?
        && let Some(next) = tx.memory.lanes.head(connection, lease.lane)?
    {
        tx.memory.lanes.begin(connection, lease.lane, next)?;
        tx.memory.lanes.extend(lease, next, attempt.ended_at.plus(extend).micros());
        return Ok(Advance::Next(Box::new(owed(connection, next.delivery)?)));
    }
    // Given back with more to do: somebody should take it up at once. What came after the attempt is due later than that
    // ended, and called nobody.
    let left = tx.memory.lanes.settle(connection, lease.lane)?;
    tx.work |= left.is_some_and(|left| due.is_none() || left <= attempt.ended_at.micros());
    Ok(Advance::Released)
}

/// Whether the lane's subscriber still takes anything.
fn is_wanted(tx: &mut Tx<'_>, lane: i64) -> rusqlite::Result<bool> {
    match tx.memory.lanes.owner(lane) {
        Some((subscriber, _)) => Ok(!tx.memory.is_disabled(tx.connection, subscriber)?),
        None => Ok(false),
    }
}

pub(super) fn release(tx: &mut Tx<'_>, leases: &[Lease]) -> rusqlite::Result<()> {
    for &lease in leases {
        let Some(head) = tx.memory.lanes.held(lease) else { continue };
        // It was not attempted after all.
        tx.connection
            .prepare_cached("UPDATE deliveries SET state = 0 WHERE id = ?1 AND state = 1")?
            .execute([head.delivery])?;
        tx.memory.lanes.settle(tx.connection, lease.lane)?;
        tx.work = true;
    }
    Ok(())
}

/// Takes a delivery that was cancelled out of its lane. Whoever works on the lane goes on with the next when it is done.
pub(super) fn cancel(tx: &mut Tx<'_>, lane: i64, seq: i64) -> rusqlite::Result<()> {
    let book = &mut tx.memory.lanes;
    book.lane(tx.connection, lane)?;
    book.remove(tx.connection, lane, seq)?;
    if book.is_leased(lane) { Ok(()) } else { book.settle(tx.connection, lane).map(drop) }
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
            Some((0 | 1, ..)) => {
                hurry(tx, id, now)?;
                replayed.still_owed.push(id);
                tx.work = true;
            }
            Some((.., true)) => replayed.erased.push(id),
            Some((_, subscriber, conversation, false)) => {
                let lane = tx.memory.lanes.single(tx.connection, subscriber, conversation, id)?;
                let seq = tx
                    .connection
                    .prepare_cached(
                        "UPDATE deliveries SET lane = ?2, state = 0, replay = 1, round_start = attempts, first_at = NULL,
                             due_at = ?3 WHERE id = ?1 RETURNING seq",
                    )?
                    .query_row(params![id, lane, now.micros()], |r| r.get(0))?;
                tx.memory.lanes.owe(lane, Head { seq, delivery: id, due: now.micros() });
                // Nothing else would tell of it after a crash.
                tx.memory.lanes.write(tx.connection, lane)?;
                replayed.replayed.push(id);
                tx.work = true;
            }
        }
    }
    Ok(replayed)
}

/// Makes a delivery due at once. One that waits for its turn still does.
fn hurry(tx: &mut Tx<'_>, delivery: i64, now: Timestamp) -> rusqlite::Result<()> {
    let (lane, due): (i64, i64) = tx
        .connection
        .prepare_cached("UPDATE deliveries SET due_at = min(due_at, ?2) WHERE id = ?1 RETURNING lane, due_at")?
        .query_row(params![delivery, now.micros()], |r| Ok((r.get(0)?, r.get(1)?)))?;
    let book = &mut tx.memory.lanes;
    book.lane(tx.connection, lane)?;
    book.postpone(lane, delivery, due);
    if !book.is_leased(lane) {
        book.settle(tx.connection, lane)?;
    }
    Ok(())
}

pub(super) fn disable(tx: &Tx<'_>, subscriber: &SubscriberId, why: &str, now: Timestamp) -> rusqlite::Result<bool> {
    tx.connection
        .prepare_cached("UPDATE subscribers SET disabled_at = ?2, disabled_reason = ?3 WHERE name = ?1")?
        .execute(params![subscriber.0, now.micros(), why])
        .map(|changed| changed > 0)
}

/// Begins a new round of attempts for what is pending of a subscriber and was attempted, some at a time: of deliveries
/// behind this one. Says how far it came, unless it saw all. Only heads were ever attempted, and each has a failed attempt
/// that is logged: going through those never wades through what merely waits.
pub(super) fn begin_rounds(tx: &Tx<'_>, subscriber: &SubscriberId, after: i64) -> rusqlite::Result<Option<i64>> {
    let failed: Vec<i64> = tx
        .connection
        .prepare_cached(
            "WITH RECURSIVE failed (delivery) AS (
                 SELECT min(delivery) FROM attempts WHERE delivery > ?1
                 UNION ALL
                 SELECT (SELECT min(delivery) FROM attempts WHERE delivery > failed.delivery) FROM failed
                 WHERE failed.delivery IS NOT NULL
             )
             SELECT delivery FROM failed WHERE delivery IS NOT NULL",
        )?
        .query_map([after], |r| r.get(0))?
        .take(ROUNDS)
        .collect::<rusqlite::Result<_>>()?;
    let mut begin = tx.connection.prepare_cached(
        "UPDATE deliveries SET round_start = attempts, first_at = NULL
         WHERE id = ?1 AND state IN (0, 1) AND first_at IS NOT NULL
             AND subscriber = (SELECT id FROM subscribers WHERE name = ?2)",
    )?;
    for delivery in &failed {
        begin.execute(params![delivery, subscriber.0])?;
    }
    Ok(failed.last().copied().filter(|_| failed.len() == ROUNDS))
}

/// Whoever resumes a subscriber has seen to it that it is well, so nothing waits for its old delays.
pub(super) fn enable(tx: &mut Tx<'_>, subscriber: &SubscriberId, now: Timestamp) -> rusqlite::Result<bool> {
    let changed = tx
        .connection
        .prepare_cached("UPDATE subscribers SET disabled_at = NULL, disabled_reason = NULL WHERE name = ?1")?
        .execute([&subscriber.0])?;
    let Some(known) = tx.memory.known_subscriber(tx.connection, &subscriber.0)? else { return Ok(false) };
    let later = now.micros().saturating_add(1);
    let mut waiting: Vec<i64> = tx
        .connection
        .prepare_cached("SELECT id FROM lanes WHERE subscriber = ?1 AND due_at >= ?2")?
        .query_map([known.row, later], |r| r.get(0))?
        .collect::<rusqlite::Result<_>>()?;
    let by_heart = tx.memory.lanes.due(known.row, later, i64::MAX, usize::MAX);
    waiting.extend(by_heart.into_iter().map(|(_, lane)| lane));
    for lane in waiting {
        let book = &mut tx.memory.lanes;
        book.lane(tx.connection, lane)?;
        if !book.is_leased(lane)
            && let Some(head) = book.head(tx.connection, lane)?
        {
            hurry(tx, head.delivery, now)?;
        }
    }
    tx.work = true;
    Ok(changed > 0)
}
