//! Claiming lanes and giving them back.
//!
//! A claim looks only at what has become due lately, and at everything every now and then: while a long transaction
//! somewhere keeps dead rows from being removed, a look from the beginning of time would wade through all of them.

use super::connect::{Database, Session};
use super::error::Failure;
use super::sql::{now, number};
use crate::domain::ids::{ConversationId, EventId};
use crate::domain::route::SubscriberId;
use crate::domain::time::{Timestamp, micros_of};
use crate::store::lane::{Claim, Claimed, Lease, Leased, Owed};
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;
use tokio_postgres::Row;
use uuid::Uuid;

/// How far back a look for what is due reaches behind the last one that found everything: longer than a transaction
/// takes from its first statement to its commit.
const SLACK: i64 = 1_000_000;

/// How often everything is looked at.
const SWEEP: Duration = Duration::from_secs(10);

/// Takes due lanes. Rows that somebody else is busy with are left to them.
const CLAIM: &str = concat!(
    "WITH due AS (
         SELECT l.id, l.leased, s.name
         FROM unnest($2::text[], $3::bigint[], $4::bigint[]) AS w(name, most, since)
         JOIN subscribers s ON s.name = w.name AND s.configured AND s.disabled_at IS NULL
         CROSS JOIN LATERAL (
             SELECT id, leased FROM lanes
             WHERE subscriber = s.id AND due_at > w.since AND due_at <= ",
    now!(),
    "
             ORDER BY due_at LIMIT w.most FOR UPDATE SKIP LOCKED) l
     )
     UPDATE lanes l SET token = l.token + 1, leased = true, due_at = ",
    now!(),
    " + $5::bigint, holder = $6
     FROM due WHERE l.id = due.id
     RETURNING l.id, l.token, due.name, due.leased AS expired, ",
    now!(),
    " AS now"
);

/// The next delivery of every lane of a claim.
const HEADS: &str = "
    SELECT l.id AS lane, CASE WHEN l.conversation < 0 THEN a.uuid ELSE c.uuid END AS conversation,
        h.id, h.seq, o.uuid, o.type, o.body, h.attempts - h.round_start AS failures, h.first_at, o.created_at, h.replay
    FROM unnest($1::bigint[]) AS t(lane)
    JOIN lanes l ON l.id = t.lane AND l.holder = $2
    LEFT JOIN conversations c ON c.id = l.conversation
    LEFT JOIN accounts a ON a.id = -l.conversation
    CROSS JOIN LATERAL (
        SELECT * FROM deliveries d WHERE d.lane = l.id AND d.state = 0 AND d.seq >= l.head ORDER BY d.seq LIMIT 1) h
    JOIN outbox o ON o.id = h.event AND o.day = h.event_day";

/// The attempts that former owners may have been making are accounted for when their leases have run out.
const TAKE_OVER: &str = "
    WITH head AS (
        SELECT h.id FROM unnest($1::bigint[]) AS t(lane)
        JOIN lanes l ON l.id = t.lane AND l.holder = $2
        CROSS JOIN LATERAL (
            SELECT d.id FROM deliveries d WHERE d.lane = l.id AND d.state = 0 AND d.seq >= l.head
            ORDER BY d.seq LIMIT 1) h
    ), cut AS (
        UPDATE deliveries d SET attempts = d.attempts + 1, first_at = coalesce(d.first_at, $3), last_at = $3,
            last_ms = NULL, last_status = NULL, last_reason = 'unknown outcome'
        FROM head WHERE d.id = head.id RETURNING d.id, d.attempts
    )
    INSERT INTO attempts (delivery, number, at, ms, status, reason)
    SELECT id, attempts, $3, NULL, NULL, 'unknown outcome' FROM cut ON CONFLICT DO NOTHING";

const NEXT_DUE: &str = concat!(
    "SELECT min(l.due_at) - ",
    now!(),
    "
     FROM unnest($2::text[]) AS w(name)
     JOIN subscribers s ON s.name = w.name AND s.configured AND s.disabled_at IS NULL
     CROSS JOIN LATERAL (
         SELECT due_at FROM lanes WHERE subscriber = s.id AND due_at > ",
    now!(),
    " ORDER BY due_at LIMIT 1) l"
);

/// Ends leases: a lane is due when its head is, idle without one.
pub(super) const SETTLE: &str = "
    WITH t AS (
        SELECT l.id, l.single, l.last_seq, h.id AS delivery, h.seq, h.due_at
        FROM unnest($1::bigint[], $2::bigint[]) AS t(lane, token)
        JOIN lanes l ON l.id = t.lane AND (CASE WHEN t.token IS NULL THEN NOT l.leased ELSE l.leased AND l.token = t.token END)
        LEFT JOIN LATERAL (
            SELECT * FROM deliveries d WHERE d.lane = l.id AND d.state = 0 AND d.seq >= l.head ORDER BY d.seq LIMIT 1) h
            ON true
    ), gone AS (
        DELETE FROM lanes l USING t WHERE l.id = t.id AND t.single AND t.delivery IS NULL
    )
    UPDATE lanes l SET leased = false, due_at = t.due_at, head = coalesce(t.seq, t.last_seq + 1)
    FROM t WHERE l.id = t.id AND NOT (t.single AND t.delivery IS NULL)";

/// Locks lanes in the one order in which everybody does.
pub(super) const LOCK: &str = "
    SELECT l.id FROM lanes l WHERE l.id = ANY($1) ORDER BY l.conversation, l.subscriber, l.id FOR UPDATE";

/// What claims remember of each other.
#[derive(Default)]
pub(super) struct Claims {
    /// Up to when, by the database's clock, everything due was found, per subscriber; and when that was last looked at whole.
    seen: Mutex<HashMap<String, (i64, Instant)>>,
    /// Claims of which nobody knows whether they took place.
    doubtful: Mutex<Vec<Uuid>>,
}

impl Claims {
    /// What was due before may be due again: look at everything next.
    pub(super) fn forget(&self) {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    fn since(&self, subscriber: &str) -> i64 {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.get(subscriber).filter(|(_, swept)| swept.elapsed() < SWEEP).map_or(i64::MIN, |(at, _)| at - SLACK)
    }

    fn found(&self, subscriber: &str, all: bool, now: Option<i64>) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        match (all, now) {
            // More is due than was asked for.
            (false, _) => drop(seen.remove(subscriber)),
            (true, Some(now)) => {
                let swept = Instant::now();
                let entry = seen.entry(subscriber.to_owned()).or_insert((now, swept));
                if swept.duration_since(entry.1) >= SWEEP {
                    entry.1 = swept;
                }
                entry.0 = now;
            }
            (true, None) => {}
        }
    }

    /// Leases due lanes, each with its next delivery.
    pub(super) async fn claim(
        &self,
        database: &Database,
        session: &Session,
        claims: &[Claim],
        now: Timestamp,
        lease: Duration,
    ) -> Result<Claimed, Failure> {
        self.resolve(session).await?;
        let clock = database.clock(now);
        let wishes: Vec<&Claim> = claims.iter().filter(|wish| wish.lanes > 0).collect();
        let names: Vec<&str> = wishes.iter().map(|wish| wish.subscriber.0.as_str()).collect();
        let most: Vec<i64> = wishes.iter().map(|wish| number(wish.lanes)).collect();
        // In tests the clock goes back and forth.
        let since: Vec<i64> =
            names.iter().map(|name| if clock.is_some() { i64::MIN } else { self.since(name) }).collect();
        let holder = Uuid::from_u128((database.chance)());
        let claim = session.prepare_cached(CLAIM).await?;
        // Whether it took place is not known until the answer is here, and not at all if it never comes.
        let doubt = Doubt::of(self, holder);
        let rows = session.query(&claim, &[&clock, &names, &most, &since, &micros_of(lease), &holder]).await?;

        let mut found: HashMap<&str, usize> = HashMap::new();
        let mut database_now = None;
        for row in &rows {
            *found.entry(row.get("name")).or_default() += 1;
            database_now = Some(row.get::<_, i64>("now"));
        }
        for wish in &wishes {
            let count = found.get(wish.subscriber.0.as_str()).copied().unwrap_or_default();
            self.found(&wish.subscriber.0, count < wish.lanes, database_now);
        }
        if rows.is_empty() {
            doubt.settle();
            let next_due = session.prepare_cached(NEXT_DUE).await?;
            let wait: Option<i64> = session.query_one(&next_due, &[&clock, &names]).await?.get(0);
            let next_due = wait.map(|wait| now.plus(Duration::from_micros(wait.unsigned_abs())));
            return Ok(Claimed { leased: Vec::new(), next_due });
        }
        let leased = heads(session, &rows, holder, now).await?;
        // A lane whose next delivery nobody learned is worked on by nobody: until here it may have to be given back.
        doubt.settle();
        Ok(Claimed { leased, next_due: None })
    }

    /// Gives back what claims in doubt took, if they took anything.
    async fn resolve(&self, session: &Session) -> Result<(), Failure> {
        let doubtful = self.doubtful.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if doubtful.is_empty() {
            return Ok(());
        }
        let taken = session
            .query("SELECT id, token FROM lanes WHERE due_at IS NOT NULL AND leased AND holder = ANY($1)", &[&doubtful])
            .await?;
        let lanes: Vec<i64> = taken.iter().map(|row| row.get(0)).collect();
        let tokens: Vec<i64> = taken.iter().map(|row| row.get(1)).collect();
        settle(session, &lanes, &tokens).await?;
        self.doubtful.lock().unwrap_or_else(PoisonError::into_inner).retain(|id| !doubtful.contains(id));
        Ok(())
    }
}

/// A claim in doubt until it is settled, also when whoever waits for it goes away.
pub(super) struct Doubt<'a> {
    claims: &'a Claims,
    holder: Option<Uuid>,
}

impl<'a> Doubt<'a> {
    pub(super) fn of(claims: &'a Claims, holder: Uuid) -> Self {
        Self { claims, holder: Some(holder) }
    }

    /// It is known what became of it.
    pub(super) fn settle(mut self) {
        self.holder = None;
    }
}

impl Drop for Doubt<'_> {
    fn drop(&mut self) {
        if let Some(holder) = self.holder {
            self.claims.doubtful.lock().unwrap_or_else(PoisonError::into_inner).push(holder);
        }
    }
}

async fn heads(session: &Session, rows: &[Row], holder: Uuid, now: Timestamp) -> Result<Vec<Leased>, Failure> {
    let lanes: Vec<i64> = rows.iter().map(|row| row.get("id")).collect();
    let expired: Vec<i64> = rows.iter().filter(|row| row.get("expired")).map(|row| row.get("id")).collect();
    if !expired.is_empty() {
        tracing::warn!(lanes = expired.len(), "leases of others had run out and were taken over");
        let take_over = session.prepare_cached(TAKE_OVER).await?;
        session.execute(&take_over, &[&expired, &holder, &now.micros()]).await?;
    }
    let heads = session.prepare_cached(HEADS).await?;
    let mut owed_of: HashMap<i64, (ConversationId, Owed)> = HashMap::with_capacity(lanes.len());
    for row in session.query(&heads, &[&lanes, &holder]).await? {
        let conversation = row.get::<_, Option<Uuid>>("conversation").unwrap_or_default();
        owed_of.insert(row.get("lane"), (ConversationId(conversation), owed(&row)));
    }
    let mut leased = Vec::with_capacity(rows.len());
    let mut idle = (Vec::new(), Vec::new());
    for row in rows {
        let lease = Lease { lane: row.get("id"), token: row.get("token") };
        if let Some((conversation, owed)) = owed_of.remove(&lease.lane) {
            leased.push(Leased { lease, subscriber: SubscriberId(row.get("name")), conversation, owed });
        } else {
            idle.0.push(lease.lane);
            idle.1.push(lease.token);
        }
    }
    if !idle.0.is_empty() {
        settle(session, &idle.0, &idle.1).await?;
    }
    Ok(leased)
}

/// A delivery to be attempted, from a row with the columns that every such row has.
pub(super) fn owed(row: &Row) -> Owed {
    Owed {
        delivery: row.get("id"),
        sequence: row.get("seq"),
        event_id: EventId(row.get("uuid")),
        event_type: row.get("type"),
        body: row.get("body"),
        failures: u32::try_from(row.get::<_, i32>("failures")).unwrap_or_default(),
        first_attempt: row.get::<_, Option<i64>>("first_at").map(Timestamp::from_micros),
        created_at: Timestamp::from_micros(row.get("created_at")),
        replay: row.get("replay"),
    }
}

/// Gives leases back unused.
pub(super) async fn release(session: &Session, leases: &[Lease]) -> Result<(), Failure> {
    let lanes: Vec<i64> = leases.iter().map(|lease| lease.lane).collect();
    let tokens: Vec<i64> = leases.iter().map(|lease| lease.token).collect();
    settle(session, &lanes, &tokens).await
}

/// The lock comes first: what is committed while a lane is waited for must be seen, or nobody would look for it.
async fn settle(session: &Session, lanes: &[i64], tokens: &[i64]) -> Result<(), Failure> {
    let (lock, settle) = (session.prepare_cached(LOCK).await?, session.prepare_cached(SETTLE).await?);
    session.batch_execute("BEGIN").await?;
    session.execute(&lock, &[&lanes]).await?;
    session.execute(&settle, &[&lanes, &tokens]).await?;
    Ok(session.batch_execute("COMMIT").await?)
}
