//! Claims lanes and works on them, one task per lane, so many per subscriber.
//!
//! A subscriber that hangs fills its own places and nobody else's.

use super::Subscriber;
use super::outcome::{Situation, judge};
use super::sender::Sender;
use crate::domain::delivery::Order;
use crate::domain::ids::ConversationId;
use crate::domain::route::SubscriberId;
use crate::domain::time::{Clock, Timestamp};
use crate::metrics::Metrics;
use crate::store::lane::{Advance, Attempt, Claim, Lease, Leased, Owed, Place, Taker, Verdict};
use crate::store::{Store, StoreError};
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// Deliveries of one lane in a row before other lanes get their turn.
const TURN: u32 = 32;

/// How long to sleep when nothing is known to become due: changes by other processes give no hint.
const POLL: Duration = Duration::from_secs(1);

/// What the dispatcher works with.
pub struct Dispatcher {
    /// Where deliveries are.
    pub store: Arc<dyn Store>,
    /// How they are sent.
    pub sender: Sender,
    /// Who gets them, by name.
    pub subscribers: HashMap<String, Arc<Subscriber>>,
    /// Lanes in flight per subscriber.
    pub concurrency: usize,
    /// How long a lane is leased.
    pub lease: Duration,
    /// For how long of its lease a lane may be begun with: an attempt that takes as long as it may must end in it.
    pub fresh: Duration,
    /// What time it is.
    pub clock: Clock,
    /// A number in 0..1 for each retry.
    pub jitter: Box<dyn Fn() -> f64 + Send + Sync>,
    /// What is counted.
    pub metrics: Metrics,
    /// Set when no new work should be begun.
    pub stop: CancellationToken,
    /// Attempts whose recording fails at the moment. While there are any, nothing is claimed: their leases may run
    /// out, and claiming those lanes again would send again what was sent.
    pub unrecorded: AtomicUsize,
}

/// What a worker did with its lane.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Worked {
    /// Whose lane.
    pub subscriber: String,
    /// Deliveries that ended well.
    pub delivered: u32,
    /// When the lane's head is to be tried again.
    pub retry_at: Option<Timestamp>,
    /// Deliveries given up.
    pub dead: u32,
    /// Whether the lease was lost.
    pub lost: bool,
}

/// Places for lanes, so many per subscriber, and the way on which lanes are handed over.
struct Desk {
    places: HashMap<String, Arc<Semaphore>>,
    lease: Duration,
    clock: Clock,
    stop: CancellationToken,
    handed: mpsc::UnboundedSender<(Leased, Place)>,
}

impl Taker for Desk {
    fn place(&self, subscriber: &SubscriberId) -> Option<Place> {
        if self.stop.is_cancelled() {
            return None;
        }
        let permit = self.places.get(&subscriber.0)?.clone().try_acquire_owned().ok()?;
        Some(Place { lease: self.lease, since: (self.clock)(), permit })
    }

    fn take(&self, lane: Leased, place: Place) {
        // Nobody listens any more when the process ends: the lease runs out, or is void at the next start.
        self.handed.send((lane, place)).ok();
    }
}

impl Dispatcher {
    /// Claims what is due once and works on it until it is done; for stepping through the work by hand.
    pub async fn run_once(self: &Arc<Self>) -> Result<Vec<Worked>, StoreError> {
        let wish = |s: &Arc<Subscriber>| Claim { subscriber: s.id.clone(), lanes: self.concurrency };
        let claims = self.subscribers.values().map(wish).collect();
        let since = (self.clock)();
        let claimed = self.store.claim_lanes(claims, since, self.lease).await?;
        let mut tasks = JoinSet::new();
        for leased in claimed.leased {
            tasks.spawn(self.clone().work(leased, since));
        }
        Ok(tasks.join_all().await)
    }

    /// Works until `stop`, then lets the attempts under way finish.
    pub async fn run(self: Arc<Self>) {
        let (sender, mut handed) = mpsc::unbounded_channel();
        let desk = Arc::new(Desk {
            places: self.subscribers.keys().map(|s| (s.clone(), Arc::new(Semaphore::new(self.concurrency)))).collect(),
            lease: self.lease,
            clock: self.clock.clone(),
            stop: self.stop.clone(),
            handed: sender,
        });
        self.store.hand_over_to(desk.clone());
        let mut tasks: JoinSet<Worked> = JoinSet::new();
        let mut healthy = true;
        let mut look = true;
        // Whether a subscriber may have more due lanes than there were places for.
        let mut more = false;
        let mut wake = (self.clock)().plus(POLL);
        while !self.stop.is_cancelled() {
            if look {
                let now = (self.clock)();
                wake = now.plus(POLL);
                for subscriber in self.subscribers.values() {
                    subscriber.receiver.tend();
                }
                if self.unrecorded.load(Ordering::Acquire) == 0 {
                    match self.claim(&desk, now, &mut tasks).await {
                        Ok((is_more, next_due)) => {
                            more = is_more;
                            wake = next_due.unwrap_or(wake).min(wake);
                            healthy = true;
                        }
                        Err(error) => {
                            if healthy {
                                tracing::error!(error = &error as &dyn std::error::Error, "no lanes can be claimed");
                            }
                            healthy = false;
                        }
                    }
                }
            }
            look = tokio::select! {
                () = self.stop.cancelled() => false,
                () = self.store.work_hint() => true,
                () = tokio::time::sleep(wake.since((self.clock)()).min(POLL)) => true,
                Some((leased, place)) = handed.recv() => {
                    tasks.spawn(self.clone().hold(leased, place));
                    false
                }
                Some(done) = tasks.join_next(), if !tasks.is_empty() => {
                    free(done, &mut wake);
                    while let Some(done) = tasks.try_join_next() {
                        free(done, &mut wake);
                    }
                    more
                }
            };
        }
        // What was handed over just now is given back.
        handed.close();
        while let Some((leased, place)) = handed.recv().await {
            tasks.spawn(self.clone().hold(leased, place));
        }
        while tasks.join_next().await.is_some() {}
    }

    /// Looks for due lanes and begins to work on them. Says whether there may be more, and when the next is due.
    async fn claim(
        self: &Arc<Self>,
        desk: &Desk,
        now: Timestamp,
        tasks: &mut JoinSet<Worked>,
    ) -> Result<(bool, Option<Timestamp>), StoreError> {
        // The places are taken first: nobody else may fill them meanwhile.
        let mut places: HashMap<&str, Vec<OwnedSemaphorePermit>> = HashMap::new();
        let mut claims = Vec::with_capacity(self.subscribers.len());
        for (name, subscriber) in &self.subscribers {
            let Some(all) = desk.places.get(name) else { continue };
            let mut taken = Vec::new();
            while let Ok(permit) = all.clone().try_acquire_owned() {
                taken.push(permit);
            }
            if !taken.is_empty() {
                claims.push(Claim { subscriber: subscriber.id.clone(), lanes: taken.len() });
                places.insert(name, taken);
            }
        }
        if claims.is_empty() {
            return Ok((true, None));
        }
        let is_full = claims.len() < self.subscribers.len();
        let timer = self.metrics.claim_seconds.start_timer();
        let claimed = match self.store.claim_lanes(claims, now, self.lease).await {
            Ok(claimed) => claimed,
            Err(error) => {
                timer.stop_and_discard();
                return Err(error);
            }
        };
        if claimed.leased.is_empty() {
            timer.stop_and_discard();
        } else {
            timer.observe_duration();
        }
        for leased in claimed.leased {
            let permit = places.get_mut(leased.subscriber.0.as_str()).and_then(Vec::pop);
            match permit {
                Some(permit) => {
                    let place = Place { lease: self.lease, since: now, permit };
                    tasks.spawn(self.clone().hold(leased, place));
                }
                // Nobody is given more lanes than there were places; if it were so, they would be worked on too.
                None => drop(tasks.spawn(self.clone().work(leased, now))),
            }
        }
        Ok((is_full || places.values().any(Vec::is_empty), claimed.next_due))
    }

    /// Works on a lane and gives its place free.
    async fn hold(self: Arc<Self>, leased: Leased, place: Place) -> Worked {
        let worked = self.work(leased, place.since).await;
        drop(place);
        worked
    }

    /// Works on one lane until it has to wait, is empty, is lost, or has had its turn.
    async fn work(self: Arc<Self>, leased: Leased, mut since: Timestamp) -> Worked {
        let mut worked = Worked { subscriber: leased.subscriber.0.clone(), ..Worked::default() };
        let Some(subscriber) = self.subscribers.get(&leased.subscriber.0) else { return worked };
        let mut owed = leased.owed;
        for turn in 1.. {
            // Whoever was stopped in between, or had to wait for the store too long, may not be the owner any more.
            let is_stale = (self.clock)().since(since) > self.fresh;
            if is_stale || self.stop.is_cancelled() {
                // Nothing was sent under this lease yet: give it back instead of letting it run out.
                if let Err(error) = self.store.release_lanes(vec![leased.lease]).await {
                    tracing::warn!(error = &error as &dyn std::error::Error, "a lane could not be given back");
                }
                worked.lost = is_stale;
                return worked;
            }
            let extend = (turn < TURN && subscriber.order != Order::None).then_some(self.lease);
            match self.attempt(subscriber, (leased.lease, leased.conversation), &mut owed, extend, &mut worked).await {
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

    async fn attempt(
        &self,
        subscriber: &Subscriber,
        (lease, conversation): (Lease, ConversationId),
        owed: &mut Owed,
        extend: Option<Duration>,
        worked: &mut Worked,
    ) -> Option<(Advance, Timestamp)> {
        let name = &subscriber.id.0;
        let started_at = (self.clock)();
        let answer = self.sender.attempt(subscriber, conversation, owed, started_at).await;
        let ended_at = (self.clock)();
        let situation = Situation {
            failures: owed.failures,
            first_attempt: owed.first_attempt.unwrap_or(started_at),
            now: ended_at,
            jitter: (self.jitter)(),
        };
        let outcome = judge(&answer, situation, &subscriber.backoff);
        let word = match outcome.verdict {
            Verdict::Delivered => "delivered",
            Verdict::Retry { .. } => "retried",
            Verdict::Dead => "dead",
        };
        self.metrics.attempted(name, word, ended_at.since(started_at));
        match outcome.verdict {
            Verdict::Delivered => {
                worked.delivered += 1;
                let took = ended_at.since(owed.created_at).as_secs_f64();
                self.metrics.delivery_seconds.with_label_values(&[name]).observe(took);
            }
            Verdict::Retry { due } => {
                worked.retry_at = Some(due);
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
        if outcome.gone {
            self.disable(subscriber, ended_at).await;
        }
        self.record(Attempt {
            lease,
            delivery: owed.delivery,
            started_at,
            ended_at,
            status: outcome.status,
            reason: outcome.reason,
            verdict: outcome.verdict,
            extend,
        })
        .await
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

/// What a worker that is done leaves to be known.
fn free(done: Result<Worked, tokio::task::JoinError>, wake: &mut Timestamp) {
    match done {
        Ok(worked) => {
            if let Some(due) = worked.retry_at {
                *wake = due.min(*wake);
            }
        }
        // A worker that panicked takes the process down: its place and its lease would never come back.
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        Err(_) => {}
    }
}
