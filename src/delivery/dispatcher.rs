//! Claims lanes and sees to it that they are worked on, one task per lane, so many per subscriber.
//!
//! A subscriber that hangs fills its own places and nobody else's. Lanes that are handed over do not pass through the
//! loop that claims: a task at the door begins with each at once.

use super::Subscriber;
use super::desk::Desk;
use super::sender::Sender;
use crate::domain::time::{Clock, Timestamp};
use crate::metrics::Metrics;
use crate::store::lane::{Claim, Leased, Place, Taker as _};
use crate::store::{Store, StoreError};
use std::collections::HashMap;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio::task::{JoinError, JoinSet};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Lanes that are begun with together.
const TOGETHER: usize = 64;

/// How long to sleep when nothing is known to become due: changes by other processes give no hint.
pub(super) const POLL: Duration = Duration::from_secs(1);

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
    /// Set when what is under way is waited for no longer: attempts are broken off and their lanes given back.
    pub cut: CancellationToken,
    /// Attempts whose recording fails at the moment. While there are any, nothing is claimed: their leases may run
    /// out, and claiming those lanes again would send again what was sent.
    pub unrecorded: Arc<AtomicUsize>,
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

impl Dispatcher {
    /// Claims what is due once and works on it until it is done; for stepping through the work by hand.
    pub async fn run_once(self: &Arc<Self>) -> Result<Vec<Worked>, StoreError> {
        let wish = |s: &Arc<Subscriber>| Claim { subscriber: s.id.clone(), lanes: self.concurrency };
        let claims = self.subscribers.values().map(wish).collect();
        let since = (self.clock)();
        let claimed = self.store.claim_lanes(claims, since, self.lease).await?;
        let mut tasks = JoinSet::new();
        for leased in claimed.leased {
            tasks.spawn(self.clone().work_alone(leased, since));
        }
        Ok(tasks.join_all().await)
    }

    async fn work_alone(self: Arc<Self>, leased: Leased, since: Timestamp) -> Worked {
        self.work(leased, since, None).await
    }

    /// Works until `stop`, then lets the attempts under way finish.
    pub async fn run(self: Arc<Self>) {
        let terms = (self.lease, self.clock.clone());
        let (desk, handed) =
            Desk::new(self.subscribers.keys(), self.concurrency, terms, self.stop.clone(), self.unrecorded.clone());
        self.store.hand_over_to(desk.clone());
        // Whoever drops this future drops what is under way.
        let mut door = JoinSet::new();
        door.spawn(self.clone().attend(desk.clone(), handed));
        let mut healthy = true;
        let mut look = true;
        let mut wake = (self.clock)().plus(POLL);
        let mut tended = Instant::now();
        while !self.stop.is_cancelled() {
            let now = (self.clock)();
            if tended.elapsed() >= POLL {
                tended = Instant::now();
                self.subscribers.values().for_each(|subscriber| subscriber.receiver.tend());
            }
            if look {
                wake = now.plus(POLL);
                if self.unrecorded.load(Ordering::Acquire) == 0 {
                    match self.claim(&desk, now).await {
                        Ok(next_due) => {
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
                () = desk.bell.notified() => {
                    let (is_free, due) = desk.answer();
                    wake = due.unwrap_or(wake).min(wake);
                    is_free
                }
                // A worker that panicked takes the process down: its place and its lease would never come back.
                Some(Err(error)) = door.join_next() => panicked(error),
            };
        }
        desk.close();
        if let Some(Err(error)) = door.join_next().await {
            panicked(error);
        }
    }

    /// Begins with the lanes that come until none is claimed any more, then waits for those at work.
    async fn attend(self: Arc<Self>, desk: Arc<Desk>, mut handed: mpsc::UnboundedReceiver<(Leased, Place)>) {
        let mut tasks: JoinSet<()> = JoinSet::new();
        let mut lanes = Vec::with_capacity(TOGETHER);
        let (mut closed, mut alarm) = (pin!(desk.closed.cancelled()), pin!(desk.alarm.cancelled()));
        loop {
            tokio::select! {
                biased;
                () = &mut closed => break,
                () = &mut alarm => break,
                _ = handed.recv_many(&mut lanes, TOGETHER) => {}
            }
            for (leased, place) in lanes.drain(..) {
                tasks.spawn(self.clone().hold(desk.clone(), leased, place));
            }
            while let Some(done) = tasks.try_join_next() {
                if let Err(error) = done {
                    panicked(error);
                }
            }
        }
        // What was handed over just now is given back.
        handed.close();
        while let Some((leased, place)) = handed.recv().await {
            tasks.spawn(self.clone().hold(desk.clone(), leased, place));
        }
        while let Some(done) = tasks.join_next().await {
            if let Err(error) = done {
                panicked(error);
            }
        }
    }

    /// Looks for due lanes and begins to work on them. Says when the next is due.
    async fn claim(self: &Arc<Self>, desk: &Desk, now: Timestamp) -> Result<Option<Timestamp>, StoreError> {
        // The places are taken first: nobody else may fill them meanwhile.
        let mut taken: HashMap<&str, Vec<OwnedSemaphorePermit>> = HashMap::new();
        let mut claims = Vec::with_capacity(self.subscribers.len());
        for (name, subscriber) in &self.subscribers {
            let Some(places) = desk.places(name) else { continue };
            let some = Desk::some_of(places);
            if some.is_empty() {
                desk.set_short(places, true);
            } else {
                claims.push(Claim { subscriber: subscriber.id.clone(), lanes: some.len() });
                taken.insert(name, some);
            }
        }
        if claims.is_empty() {
            return Ok(None);
        }
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
            // Nobody is given more lanes than there were places.
            let Some(permit) = taken.get_mut(leased.subscriber.0.as_str()).and_then(Vec::pop) else { continue };
            desk.take(leased, Place { lease: self.lease, since: now, permit });
        }
        for (name, left) in taken {
            let is_short = left.is_empty();
            drop(left);
            desk.places(name).inspect(|places| desk.set_short(places, is_short));
        }
        Ok(claimed.next_due)
    }

    /// Works on a lane in its place.
    async fn hold(self: Arc<Self>, desk: Arc<Desk>, leased: Leased, place: Place) {
        let Some(places) = desk.places(&leased.subscriber.0) else { return };
        let open = desk.open(places);
        let worked = self.work(leased, place.since, Some((&open, place.permit))).await;
        if let Some(due) = worked.retry_at {
            desk.is_due(due);
        }
    }
}

fn panicked(error: JoinError) -> ! {
    match error.try_into_panic() {
        Ok(panic) => std::panic::resume_unwind(panic),
        // Nobody else cancels these tasks.
        Err(error) => std::panic::resume_unwind(Box::new(error.to_string())),
    }
}
