//! Recording attempts: many in one transaction, each only under a lease that still holds.

use super::connect::{Database, Session};
use super::error::Failure;
use super::flush::{Flush, begin};
use super::lanes::{LOCK, owed};
use super::sql::{Params, now};
use crate::domain::time::{Timestamp, micros_of};
use crate::store::lane::{Advance, Attempt, Verdict};
use std::collections::HashMap;
use std::sync::Arc;
use tokio::sync::Notify;
use uuid::Uuid;

/// What was delivered moves to `finished`, the rest stays with its new state. A delivery that was cancelled while it
/// was attempted stays cancelled, but was attempted.
const RECORD: &str = concat!(
    "WITH t AS (
         SELECT t.*, coalesce(t.at, ",
    now!(),
    ") AS now
         FROM unnest($2::bigint[], $3::bigint[], $4::bigint[], $5::smallint[], $6::bigint[], $7::bigint[], $8::bigint[],
                     $9::bigint[], $10::integer[], $11::text[], $12::integer[])
              AS t(lane, token, delivery, verdict, delay, at, started, took, status, reason, day)
         JOIN lanes l ON l.id = t.lane AND l.token = t.token AND l.leased
     ), gone AS (
         DELETE FROM deliveries d USING t WHERE d.id = t.delivery AND d.lane = t.lane AND t.verdict = 0 AND d.state = 0
         RETURNING d.*, t.day, t.started, t.took, t.status, t.reason
     ), kept AS (
         UPDATE deliveries d
         SET state = CASE WHEN d.state = 4 THEN 4 WHEN t.verdict = 2 THEN 3 ELSE d.state END,
             due_at = CASE t.verdict WHEN 1 THEN t.now + t.delay ELSE d.due_at END,
             attempts = d.attempts + 1, first_at = coalesce(d.first_at, t.started), last_at = t.started,
             last_ms = t.took, last_status = t.status, last_reason = t.reason
         FROM t WHERE d.id = t.delivery AND d.lane = t.lane AND (t.verdict <> 0 OR d.state <> 0)
         RETURNING d.id, d.attempts, t.verdict, t.started, t.took, t.status, t.reason
     ), done AS (
         INSERT INTO finished (id, day, event, event_day, subscriber, lane, seq, replay, attempts, due_at, first_at,
             last_at, last_ms, last_status, last_reason)
         SELECT id, day, event, event_day, subscriber, lane, seq, replay, attempts + 1, due_at,
             coalesce(first_at, started), started, took, status, reason
         FROM gone
     )
     INSERT INTO attempts (delivery, number, at, ms, status, reason)
     SELECT id, attempts, started, took, status, reason FROM kept WHERE verdict <> 0"
);

/// Moves every lane on: to its next delivery when it is wanted further and there is one that may be sent, else back.
/// A single lane without a delivery has done its work.
const ADVANCE: &str = concat!(
    "WITH t AS (
         SELECT l.id, l.last_seq, l.single, coalesce(t.at, ",
    now!(),
    ") AS now, t.extend, h.id AS delivery,
             h.seq, h.due_at, h.event, h.event_day, h.attempts - h.round_start AS failures, h.first_at, h.replay,
             t.extend IS NOT NULL AND h.id IS NOT NULL AND s.disabled_at IS NULL AS keep
         FROM unnest($2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[]) AS t(lane, token, extend, at)
         JOIN lanes l ON l.id = t.lane AND l.token = t.token AND l.leased
         JOIN subscribers s ON s.id = l.subscriber
         LEFT JOIN LATERAL (
             SELECT * FROM deliveries d WHERE d.lane = l.id AND d.state = 0 AND d.seq >= l.head
             ORDER BY d.seq LIMIT 1) h ON true
     ), moved AS (
         UPDATE lanes l
         SET leased = t.keep, due_at = CASE WHEN t.keep THEN t.now + t.extend ELSE t.due_at END,
             head = coalesce(t.seq, t.last_seq + 1)
         FROM t WHERE l.id = t.id AND NOT (t.single AND t.delivery IS NULL)
     ), gone AS (
         DELETE FROM lanes l USING t WHERE l.id = t.id AND t.single AND t.delivery IS NULL
     )
     SELECT t.id AS lane, t.keep, t.due_at <= t.now AS due, t.delivery AS id, t.seq, o.uuid, o.type, o.body, t.failures,
         t.first_at, o.created_at, t.replay
     FROM t LEFT JOIN outbox o ON t.keep AND o.id = t.event AND o.day = t.event_day"
);

/// Records attempts.
pub(super) struct Attempts {
    pub(super) database: Arc<Database>,
    pub(super) hint: Arc<Notify>,
}

/// What became of an attempt, and whether its lane was given back with more to do.
pub(super) type Recorded = (Advance, bool);

impl Flush for Attempts {
    type Item = Attempt;
    type Answer = Recorded;

    async fn flush(
        &self,
        session: &Session,
        id: Uuid,
        items: &[Attempt],
        promised: &mut Option<Vec<Recorded>>,
    ) -> Result<(), Failure> {
        begin(session, id, self.database.clock(Timestamp::EPOCH)).await?;
        let lanes: Vec<i64> = items.iter().map(|a| a.lease.lane).collect();
        let tokens: Vec<i64> = items.iter().map(|a| a.lease.token).collect();
        let at: Vec<Option<i64>> = items.iter().map(|a| self.database.clock(a.ended_at)).collect();
        let rows = Columns::of(items);
        let (lock, record, advance) = (
            session.prepare_cached(LOCK).await?,
            session.prepare_cached(RECORD).await?,
            session.prepare_cached(ADVANCE).await?,
        );
        let none: Option<i64> = None;
        let lock_params: Params<'_> = &[&lanes];
        let record_params: Params<'_> = &[
            &none,
            &lanes,
            &tokens,
            &rows.deliveries,
            &rows.verdicts,
            &rows.delays,
            &at,
            &rows.started,
            &rows.took,
            &rows.statuses,
            &rows.reasons,
            &rows.days,
        ];
        let advance_params: Params<'_> = &[&none, &lanes, &tokens, &rows.extends, &at];
        let (locked, recorded, advanced) = tokio::join!(biased;
            session.execute(&lock, lock_params),
            session.execute(&record, record_params),
            session.query(&advance, advance_params),
        );
        locked?;
        recorded?;
        let mut found = HashMap::with_capacity(items.len());
        for row in advanced? {
            let keep: bool = row.get("keep");
            let due: Option<bool> = row.get("due");
            let advance = if keep { Advance::Next(Box::new(owed(&row))) } else { Advance::Released };
            found.insert(row.get::<_, i64>("lane"), (advance, !keep && due == Some(true)));
        }
        let answer = |a: &Attempt| found.remove(&a.lease.lane).unwrap_or((Advance::Lost, false));
        *promised = Some(items.iter().map(answer).collect());
        Ok(session.batch_execute("COMMIT").await?)
    }

    fn committed(&self, answers: &[Recorded]) {
        // Given back with more to do: somebody should take it up at once.
        if answers.iter().any(|(_, due)| *due) {
            self.hint.notify_one();
        }
    }
}

/// The attempts of a batch, column by column.
#[derive(Default)]
struct Columns {
    deliveries: Vec<i64>,
    verdicts: Vec<i16>,
    delays: Vec<i64>,
    started: Vec<i64>,
    took: Vec<i64>,
    statuses: Vec<Option<i32>>,
    reasons: Vec<&'static str>,
    days: Vec<i32>,
    extends: Vec<Option<i64>>,
}

impl Columns {
    fn of(items: &[Attempt]) -> Self {
        let mut columns = Self::default();
        for a in items {
            let (verdict, delay) = match a.verdict {
                Verdict::Delivered => (0, 0),
                // How long to wait is the caller's to say; from when on, the database's.
                Verdict::Retry { due } => (1, due.micros().saturating_sub(a.ended_at.micros())),
                Verdict::Dead => (2, 0),
            };
            columns.deliveries.push(a.delivery);
            columns.verdicts.push(verdict);
            columns.delays.push(delay);
            columns.started.push(a.started_at.micros());
            columns.took.push(i64::try_from(a.ended_at.since(a.started_at).as_millis()).unwrap_or(i64::MAX));
            columns.statuses.push(a.status.map(i32::from));
            columns.reasons.push(a.reason);
            columns.days.push(super::sql::day(a.ended_at));
            let waits = matches!(a.verdict, Verdict::Retry { .. });
            columns.extends.push(a.extend.filter(|_| !waits).map(micros_of));
        }
        columns
    }
}
