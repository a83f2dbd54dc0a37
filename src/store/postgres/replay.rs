//! Reading kept webhooks, repairing messages, owing deliveries again.

use super::connect::{Database, Session};
use super::error::Failure;
use super::inbound::work::{Ids, Occasion, Owed};
use super::inbound::write::{Batch, update};
use super::lanes::{LOCK, SETTLE};
use super::names::Names;
use super::sql::{now, number, text};
use super::{messages, outbox};
use crate::domain::account::Account;
use crate::domain::ids::{AccountId, MessageId};
use crate::domain::time::Timestamp;
use crate::store::columns::{count, webhook};
use crate::store::listing::{ReplayOf, Replayed};
use crate::store::replay::{History, Kept, KeptQuery, Repair};
use std::borrow::Cow;
use std::collections::HashMap;
use uuid::Uuid;

/// Dead letters owed again in one transaction.
const CHUNK: i64 = 1000;

pub(super) async fn kept(session: &Session, query: &KeptQuery) -> Result<Vec<Kept>, Failure> {
    let rows = session
        .query(
            "SELECT e.id, a.uuid, e.place, e.request_id, e.state, m.uuid, w.id, w.headers, w.body, w.received_at,
                 (SELECT count(*) FROM events s WHERE s.id BETWEEN greatest(w.id, e.id - 10000) AND e.id + 10000 AND s.webhook = w.id)
             FROM events e
             JOIN accounts a ON a.id = e.account
             JOIN webhooks w ON w.id = e.webhook AND w.day = e.received_at / 86400000000
             LEFT JOIN messages m ON m.id = e.message
             WHERE e.id > $1 AND ($2::uuid IS NULL OR a.uuid = $2) AND e.received_at >= $3 AND e.received_at < $4
                 AND (NOT $5 OR e.state = 2)
             ORDER BY e.id LIMIT $6",
            &[
                &query.after,
                &query.account.map(|id| id.0),
                &query.since.map_or(i64::MIN, Timestamp::micros),
                &query.until.map_or(i64::MAX, Timestamp::micros),
                &query.quarantined,
                &number(query.limit),
            ],
        )
        .await?;
    let kept = |r: &tokio_postgres::Row| Kept {
        row: r.get(0),
        account: AccountId(r.get(1)),
        place: count(r.get(2)),
        request_id: r.get(3),
        quarantined: r.get::<_, i16>(4) == 2,
        message: r.get::<_, Option<Uuid>>(5).map(MessageId),
        webhook_row: r.get(6),
        webhook: webhook(r.get(7), r.get(8), r.get(9)),
        siblings: count(r.get(10)),
    };
    Ok(rows.iter().map(kept).collect())
}

pub(super) async fn history(
    session: &Session,
    account: &Account,
    message: MessageId,
) -> Result<Option<History>, Failure> {
    let row = session.query_opt("SELECT id FROM accounts WHERE uuid = $1", &[&account.id.0]).await?;
    let Some(account_row) = row.map(|row| row.get(0)) else { return Ok(None) };
    let Some(found) = messages::find(session, account, account_row, message).await? else { return Ok(None) };
    let events = session
        .query(
            "SELECT e.place, w.headers, w.body, w.received_at
             FROM events e LEFT JOIN webhooks w ON w.id = e.webhook AND w.day = e.received_at / 86400000000
             WHERE e.message = $1 ORDER BY e.id",
            &[&found.row],
        )
        .await?;
    let event = |r: &tokio_postgres::Row| {
        let kept = r.get::<_, Option<&str>>(1).map(|headers| webhook(headers, r.get(2), r.get(3)));
        (count(r.get(0)), kept)
    };
    Ok(Some(History { known: found.known, events: events.iter().map(event).collect() }))
}

/// Whether it was done; `false` when the message has changed meanwhile.
pub(super) async fn repair(
    database: &Database,
    session: &Session,
    names: &Names,
    repair: &Repair,
) -> Result<bool, Failure> {
    let account = repair.account.id.0;
    let accounts = names.accounts(session, [account].into_iter()).await?;
    let subscribers = names.subscribers(session, repair.outlet.routes.subscribers()).await?;
    session.batch_execute("BEGIN").await?;
    // Whoever holds the conversation knows everything about its messages.
    session
        .query("SELECT id FROM conversations WHERE uuid = $1 FOR UPDATE", &[&repair.before.message.conversation_id.0])
        .await?;
    let found = messages::find(session, &repair.account, accounts[&account], repair.before.message.id).await?;
    let Some(found) = found.filter(|found| found.known == repair.before) else {
        session.batch_execute("ROLLBACK").await?;
        return Ok(false);
    };
    let event: i64 = session.query_one("SELECT event FROM messages WHERE id = $1", &[&found.row]).await?.get(0);
    let occasion = Occasion {
        account: repair.account.id,
        routes: &repair.outlet.routes,
        subscribers: &subscribers,
        now: repair.now,
        clock: database.clock(repair.now),
    };
    let mut owed = Owed::default();
    let lane = (found.conversation, repair.before.message.conversation_id);
    for outbound in &repair.outbound {
        owed.owe(&occasion, Cow::Borrowed(outbound), event, Some(found.row), lane);
    }
    owed.number(&mut Ids::default(), session).await?;
    let mut batch = Batch::default();
    update(&mut batch, &[(found.row, &repair.after)]);
    outbox::remember(&mut batch, &owed);
    outbox::write(&mut batch, &owed);
    batch.send(session, true).await?;
    Ok(true)
}

/// Makes deliveries that are still owed due at once.
const HURRY: &str =
    concat!("UPDATE deliveries SET due_at = least(due_at, ", now!(), ") WHERE id = ANY($2) AND state = 0");

/// Owes dead letters again, each in a lane of its own.
const DEAD: &str = concat!(
    "WITH again AS (
         SELECT d.id, d.subscriber, o.conversation, nextval('row_ids') AS lane
         FROM deliveries d JOIN outbox o ON o.id = d.event AND o.day = d.event_day
         WHERE d.id = ANY($2) AND d.state = 3 AND length(o.body) > 0 ORDER BY d.id FOR UPDATE OF d
     ), lane AS (
         INSERT INTO lanes (id, subscriber, conversation, single, last_seq, head, due_at, leased, token)
         SELECT lane, subscriber, conversation, true, 0, 0, ",
    now!(),
    ", false, 0 FROM again
     )
     UPDATE deliveries d SET lane = again.lane, state = 0, replay = true, round_start = attempts, first_at = NULL,
         due_at = ",
    now!(),
    "
     FROM again WHERE d.id = again.id RETURNING d.id"
);

/// Owes what was delivered again, each in a lane of its own.
const DELIVERED: &str = concat!(
    "WITH again AS (
         SELECT f.id, f.day, f.subscriber, o.conversation, nextval('row_ids') AS new_lane
         FROM finished f JOIN outbox o ON o.id = f.event AND o.day = f.event_day
         WHERE f.id = ANY($2) AND length(o.body) > 0
     ), lane AS (
         INSERT INTO lanes (id, subscriber, conversation, single, last_seq, head, due_at, leased, token)
         SELECT new_lane, subscriber, conversation, true, 0, 0, ",
    now!(),
    ", false, 0 FROM again
     ), gone AS (
         DELETE FROM finished f USING again WHERE f.id = again.id AND f.day = again.day
         RETURNING f.*, again.new_lane
     )
     INSERT INTO deliveries (id, event, event_day, subscriber, lane, seq, state, replay, attempts, round_start, due_at,
         first_at, last_at, last_ms, last_status, last_reason)
     SELECT id, event, event_day, subscriber, new_lane, seq, 0, true, attempts, attempts, ",
    now!(),
    ", NULL, last_at,
         last_ms, last_status, last_reason
     FROM gone RETURNING id"
);

const STATES: &str = "
    SELECT d.id, d.state, length(o.body) = 0 FROM deliveries d JOIN outbox o ON o.id = d.event AND o.day = d.event_day
    WHERE d.id = ANY($1)
    UNION ALL
    SELECT f.id, 2::smallint, length(o.body) = 0
    FROM finished f JOIN outbox o ON o.id = f.event AND o.day = f.event_day WHERE f.id = ANY($1)";

pub(super) async fn replay(
    database: &Database,
    session: &Session,
    of: &ReplayOf,
    at: Timestamp,
) -> Result<Replayed, Failure> {
    let mut replayed = Replayed::default();
    match of {
        ReplayOf::Deliveries(ids) => {
            for chunk in ids.chunks(usize::try_from(CHUNK).unwrap_or(usize::MAX)) {
                some(database, session, chunk, at, &mut replayed).await?;
            }
        }
        ReplayOf::Dead { since } => {
            let mut after = i64::MIN;
            loop {
                let rows = session
                    .query(
                        "SELECT id FROM deliveries WHERE state <> 0 AND state = 3 AND id > $1 AND last_at >= $2
                         ORDER BY id LIMIT $3",
                        &[&after, &since.map_or(i64::MIN, Timestamp::micros), &CHUNK],
                    )
                    .await?;
                let ids: Vec<i64> = rows.iter().map(|row| row.get(0)).collect();
                let Some(&last) = ids.last() else { break };
                after = last;
                some(database, session, &ids, at, &mut replayed).await?;
            }
        }
    }
    Ok(replayed)
}

async fn some(
    database: &Database,
    session: &Session,
    ids: &[i64],
    at: Timestamp,
    replayed: &mut Replayed,
) -> Result<(), Failure> {
    let clock = database.clock(at);
    session.batch_execute("BEGIN").await?;
    let states: HashMap<i64, (i16, bool)> =
        session.query(STATES, &[&ids]).await?.iter().map(|r| (r.get(0), (r.get(1), r.get(2)))).collect();
    let (mut owed, mut again) = (Vec::new(), Vec::new());
    for &id in ids {
        match states.get(&id) {
            None => replayed.unknown.push(id),
            // Asked for twice, owed once.
            Some(_) if again.contains(&id) => replayed.still_owed.push(id),
            Some((0, _)) => owed.push(id),
            Some((_, true)) => replayed.erased.push(id),
            Some(_) => again.push(id),
        }
    }
    if !owed.is_empty() {
        hurry(session, clock, &owed).await?;
        replayed.still_owed.splice(0..0, owed);
    }
    if !again.is_empty() {
        let mut done: Vec<i64> = session.query(DEAD, &[&clock, &again]).await?.iter().map(|r| r.get(0)).collect();
        done.extend(session.query(DELIVERED, &[&clock, &again]).await?.iter().map(|r| r.get::<_, i64>(0)));
        // In the order in which they were asked for.
        replayed.replayed.extend(again.iter().filter(|id| done.contains(id)));
    }
    Ok(session.batch_execute("COMMIT").await?)
}

/// One that waits for its turn still does.
async fn hurry(session: &Session, clock: Option<i64>, deliveries: &[i64]) -> Result<(), Failure> {
    let lanes = session.query("SELECT lane FROM deliveries WHERE id = ANY($1)", &[&deliveries]).await?;
    let lanes: Vec<i64> = lanes.iter().map(|row| row.get(0)).collect();
    session.execute(LOCK, &[&lanes]).await?;
    session.execute(HURRY, &[&clock, &deliveries]).await?;
    let nobody: Vec<Option<i64>> = vec![None; lanes.len()];
    session.execute(SETTLE, &[&lanes, &nobody]).await?;
    Ok(())
}

/// What is pending of a subscriber and was attempted, with its lane: heads only, one in each lane at most. What is owed has
/// a table of its own, which is gone through once; an index on this would make every retry dearer.
const ATTEMPTED: &str = "
    SELECT d.id, d.lane FROM deliveries d JOIN subscribers s ON s.id = d.subscriber
    WHERE s.name = $1 AND d.state = 0 AND d.first_at IS NOT NULL";

/// Begins a new round of attempts for what is pending of a subscriber and was attempted, some at a time.
async fn begin_rounds(session: &Session, subscriber: &str) -> Result<(), Failure> {
    let attempted: Vec<(i64, i64)> =
        session.query(ATTEMPTED, &[&subscriber]).await?.iter().map(|row| (row.get(0), row.get(1))).collect();
    for some in attempted.chunks(usize::try_from(CHUNK).unwrap_or(usize::MAX)) {
        let (deliveries, lanes): (Vec<i64>, Vec<i64>) = some.iter().copied().unzip();
        session.batch_execute("BEGIN").await?;
        session.execute(LOCK, &[&lanes]).await?;
        session
            .execute(
                "UPDATE deliveries SET round_start = attempts, first_at = NULL WHERE id = ANY($1) AND state = 0",
                &[&deliveries],
            )
            .await?;
        session.batch_execute("COMMIT").await?;
    }
    Ok(())
}

/// Resumes a subscriber; what waits for another try is due at once. Says whether there is such a subscriber.
pub(super) async fn enable(
    database: &Database,
    session: &Session,
    subscriber: &str,
    at: Timestamp,
) -> Result<bool, Failure> {
    let clock = database.clock(at);
    // Before anything of it can be claimed again: an old round would count the time for which it was disabled.
    begin_rounds(session, subscriber).await?;
    let changed = session
        .execute("UPDATE subscribers SET disabled_at = NULL, disabled_reason = NULL WHERE name = $1", &[&subscriber])
        .await?;
    // Some at a time: a subscriber that was away for long has a lane for everybody who wrote meanwhile.
    let mut after = i64::MIN;
    loop {
        let rows = session
            .query(
                concat!(
                    "SELECT l.id, h.id FROM lanes l JOIN subscribers s ON s.id = l.subscriber AND s.name = $2
                     CROSS JOIN LATERAL (
                         SELECT d.id FROM deliveries d WHERE d.lane = l.id AND d.state = 0 AND d.seq >= l.head
                         ORDER BY d.seq LIMIT 1) h
                     WHERE l.due_at > ",
                    now!(),
                    " AND NOT l.leased AND l.id > $3 ORDER BY l.id LIMIT $4"
                ),
                &[&clock, &subscriber, &after, &CHUNK],
            )
            .await?;
        let Some(last) = rows.last() else { return Ok(changed > 0) };
        after = last.get(0);
        let waiting: Vec<i64> = rows.iter().map(|row| row.get(1)).collect();
        session.batch_execute("BEGIN").await?;
        hurry(session, clock, &waiting).await?;
        session.batch_execute("COMMIT").await?;
    }
}

/// Says whether there is such a subscriber.
pub(super) async fn disable(session: &Session, subscriber: &str, why: &str, at: Timestamp) -> Result<bool, Failure> {
    let changed = session
        .execute(
            "UPDATE subscribers SET disabled_at = $2, disabled_reason = $3 WHERE name = $1",
            &[&subscriber, &at.micros(), &why],
        )
        .await?;
    Ok(changed > 0)
}

/// The words of a stranger, for a listing.
pub(super) fn words(bytes: Option<Vec<u8>>) -> Option<String> {
    bytes.map(text)
}
