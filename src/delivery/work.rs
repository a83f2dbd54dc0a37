//! What is done with a lane on lease: attempt its head, judge, record, and so on with the next.
//!
//! The place for sending is free as soon as there is an answer. The lane stays leased until the answer is recorded, so
//! its order holds; only other lanes of the subscriber go on meanwhile.

use super::Subscriber;
use super::desk::Open;
use super::dispatcher::{Dispatcher, POLL, Worked};
use super::outcome::{Situation, judge};
use crate::domain::delivery::Order;
use crate::domain::ids::ConversationId;
use crate::domain::time::Timestamp;
use crate::store::StoreError;
use crate::store::lane::{Advance, Attempt, Lease, Leased, Owed, Verdict};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;

/// Deliveries of one lane in a row before other lanes get their turn. What was committed together lies together, so that short
/// turns of many lanes find it in memory; every turn costs a claim.
const TURN: u32 = 16;

/// What is recorded of an attempt that was broken off: as when the process ends in it.
const CUT_SHORT: &str = "unknown outcome";

impl Dispatcher {
    /// Works on one lane until it has to wait, is empty, is lost, or has had its turn.
    pub(super) async fn work(
        &self,
        leased: Leased,
        mut since: Timestamp,
        place: Option<(&Open<'_>, OwnedSemaphorePermit)>,
    ) -> Worked {
        let Leased { lease, subscriber, conversation, mut owed } = leased;
        let mut worked = Worked { subscriber: subscriber.0, ..Worked::default() };
        let Some(subscriber) = self.subscribers.get(&worked.subscriber) else { return worked };
        let (open, mut place) = place.unzip();
        for turn in 1.. {
            if place.is_none()
                && let Some(open) = open
            {
                place = open.places.wait().await;
            }
            // Whoever was stopped in between, or had to wait for the store too long, may not be the owner any more. The
            // attempt's deadline counts from before the question, so that whoever is stopped behind it writes nothing either.
            let began = Instant::now();
            let is_stale = (self.clock)().since(since) > self.fresh;
            if is_stale || self.stop.is_cancelled() {
                // Nothing was sent under this lease yet: give it back instead of letting it run out.
                if let Err(error) = self.store.release_lanes(vec![lease]).await {
                    tracing::warn!(error = &error as &dyn std::error::Error, "a lane could not be given back");
                }
                worked.lost = is_stale;
                return worked;
            }
            let of = (lease, conversation, began);
            let (mut attempt, is_gone) = self.attempt(subscriber, of, &mut owed, &mut worked).await;
            if is_gone {
                self.disable(subscriber, attempt.ended_at).await;
            }
            if let Some(open) = open {
                open.leave(place.take());
            }
            attempt.extend = (turn < TURN && subscriber.order != Order::None).then_some(self.lease);
            match self.record(attempt).await {
                Some((Advance::Next(next), renewed)) => {
                    owed = *next;
                    since = renewed;
                }
                Some((Advance::Released, _)) | None => return worked,
                Some((Advance::Lost, _)) => {
                    self.metrics.leases_lost.inc();
                    worked.lost = true;
                    return worked;
                }
            }
        }
        worked
    }

    /// Sends what is owed. Says also whether the subscriber wants nothing ever again.
    async fn attempt(
        &self,
        subscriber: &Subscriber,
        (lease, conversation, began): (Lease, ConversationId, Instant),
        owed: &mut Owed,
        worked: &mut Worked,
    ) -> (Attempt, bool) {
        let name = &subscriber.id.0;
        let started_at = (self.clock)();
        let began = (started_at, began);
        let answer = self.sender.attempt_unless(subscriber, conversation, owed, began, self.cut.cancelled()).await;
        let ended_at = (self.clock)();
        let counted = &subscriber.counted;
        counted.seconds.observe(ended_at.since(started_at).as_secs_f64());
        let Some(answer) = answer else {
            counted.retried.inc();
            // Whoever goes on with the lane makes the attempt again at once, and judges it.
            let (status, verdict) = (None, Verdict::Retry { due: ended_at });
            let delivery = owed.delivery;
            let attempt =
                Attempt { lease, delivery, started_at, ended_at, status, reason: CUT_SHORT, verdict, extend: None };
            return (attempt, false);
        };
        let situation = Situation {
            failures: owed.failures,
            first_attempt: owed.first_attempt.unwrap_or(started_at),
            now: ended_at,
            jitter: (self.jitter)(),
        };
        let outcome = judge(&answer, situation, &subscriber.backoff);
        match outcome.verdict {
            Verdict::Delivered => {
                worked.delivered += 1;
                counted.delivered.inc();
                counted.delivery_seconds.observe(ended_at.since(owed.created_at).as_secs_f64());
            }
            Verdict::Retry { due } => {
                worked.retry_at = Some(due);
                counted.retried.inc();
                if owed.failures == 0 {
                    tracing::warn!(
                        subscriber = name,
                        delivery.id = owed.delivery,
                        http.status = outcome.status,
                        reason = outcome.reason,
                        "a delivery failed and will be tried again"
                    );
                }
            }
            Verdict::Dead => {
                worked.dead += 1;
                counted.dead.inc();
                tracing::error!(
                    subscriber = name,
                    delivery.id = owed.delivery,
                    http.status = outcome.status,
                    reason = outcome.reason,
                    attempts = owed.failures + 1,
                    "a delivery was given up"
                );
            }
        }
        let attempt = Attempt {
            lease,
            delivery: owed.delivery,
            started_at,
            ended_at,
            status: outcome.status,
            reason: outcome.reason,
            verdict: outcome.verdict,
            extend: None,
        };
        (attempt, outcome.gone)
    }

    /// Records until it succeeds: a result that is not recorded is an attempt made twice. Says also since when the
    /// lane is held anew.
    async fn record(&self, attempt: Attempt) -> Option<(Advance, Timestamp)> {
        let mut pause = Duration::from_millis(50);
        let lease: Lease = attempt.lease;
        let mut held = None;
        loop {
            // The lane is wanted from now on: counted from the attempt alone, an extension that is recorded late
            // would be over before it begins, and the lane would be claimed beside us.
            let asked = (self.clock)();
            let late = asked.since(attempt.ended_at);
            let extend = attempt.extend.map(|lease| lease.saturating_add(late));
            match self.store.record_attempt(Attempt { extend, ..attempt.clone() }).await {
                Ok(advance) => return Some((advance, asked)),
                Err(error @ StoreError::Stopped { .. }) => {
                    tracing::error!(
                        lane.id = lease.lane,
                        error = &error as &dyn std::error::Error,
                        "an attempt is lost"
                    );
                    return None;
                }
                Err(error) => {
                    if held.is_none() {
                        held = Some(Unrecorded::count(&self.unrecorded));
                        tracing::warn!(
                            lane.id = lease.lane,
                            error = &error as &dyn std::error::Error,
                            "an attempt cannot be recorded yet"
                        );
                    }
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(POLL);
                }
            }
        }
    }

    async fn disable(&self, subscriber: &Subscriber, now: Timestamp) {
        match self.store.disable(&subscriber.id, "answered 410 Gone".to_owned(), now).await {
            Ok(_) => tracing::error!(subscriber = subscriber.id.0, "the subscriber answered 410 and is disabled"),
            Err(error) => tracing::error!(
                subscriber = subscriber.id.0,
                error = &error as &dyn std::error::Error,
                "the subscriber answered 410 but cannot be disabled"
            ),
        }
    }
}

/// Counts one unrecorded attempt for as long as it lives.
struct Unrecorded<'a>(&'a AtomicUsize);

impl<'a> Unrecorded<'a> {
    fn count(counter: &'a AtomicUsize) -> Self {
        counter.fetch_add(1, Ordering::AcqRel);
        Self(counter)
    }
}

impl Drop for Unrecorded<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}
