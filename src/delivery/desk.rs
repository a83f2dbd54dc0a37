//! The places of each subscriber: for how many of its lanes something may be sent at a time, and how many may wait for
//! their recording.
//!
//! Sending and recording are counted apart, because they take turns: what waits for a commit keeps no receiver busy.
//! Whoever makes a place free says so only when somebody looks for one.

use crate::domain::route::SubscriberId;
use crate::domain::time::{Clock, Timestamp};
use crate::store::lane::{Leased, Place, Taker};
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering, fence};
use std::time::Duration;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_util::sync::CancellationToken;

/// Lanes at work for each that may be sent to: the others wait for their commit, and hold no more than memory.
const OPEN: usize = 4;

/// Places for lanes, and the way on which lanes are handed over.
pub(super) struct Desk {
    places: HashMap<String, Places>,
    lease: Duration,
    clock: Clock,
    stop: CancellationToken,
    /// Attempts that cannot be recorded at the moment: while there are any, nothing is taken.
    unrecorded: Arc<AtomicUsize>,
    handed: mpsc::UnboundedSender<(Leased, Place)>,
    /// Rung when a place is free that somebody looks for, or something is due earlier than was known.
    pub(super) bell: Notify,
    /// The earliest of what became due since somebody looked.
    due: AtomicI64,
    /// Whether a place became free that somebody looks for.
    is_free: AtomicBool,
    /// Set when a lane's work panicked.
    pub(super) alarm: CancellationToken,
    /// Set when nothing is claimed any more.
    pub(super) closed: CancellationToken,
}

/// The places of one subscriber.
pub(super) struct Places {
    sending: Arc<Semaphore>,
    /// Lanes at work, those included that wait for their recording.
    open: AtomicUsize,
    most_open: usize,
    /// Whether more may be due than there were places for.
    is_short: AtomicBool,
}

/// A lane at work, counted for as long as this lives.
pub(super) struct Open<'d> {
    desk: &'d Desk,
    pub(super) places: &'d Places,
}

impl Desk {
    /// So many places for each subscriber. Also the end at which handed lanes come out.
    pub(super) fn new<'s>(
        subscribers: impl Iterator<Item = &'s String>,
        concurrency: usize,
        (lease, clock): (Duration, Clock),
        stop: CancellationToken,
        unrecorded: Arc<AtomicUsize>,
    ) -> (Arc<Self>, mpsc::UnboundedReceiver<(Leased, Place)>) {
        let places = |name: &String| {
            let places = Places {
                sending: Arc::new(Semaphore::new(concurrency)),
                open: AtomicUsize::new(0),
                most_open: concurrency.saturating_mul(OPEN),
                is_short: AtomicBool::new(false),
            };
            (name.clone(), places)
        };
        let (handed, taken) = mpsc::unbounded_channel();
        let desk = Self {
            places: subscribers.map(places).collect(),
            lease,
            clock,
            stop,
            unrecorded,
            handed,
            bell: Notify::new(),
            due: AtomicI64::new(i64::MAX),
            is_free: AtomicBool::new(false),
            alarm: CancellationToken::new(),
            closed: CancellationToken::new(),
        };
        (Arc::new(desk), taken)
    }

    /// The places of a subscriber.
    pub(super) fn places(&self, subscriber: &str) -> Option<&Places> {
        self.places.get(subscriber)
    }

    /// Takes places that are free, to claim lanes for them: all, when the last claim filled what it had. Otherwise half
    /// of them stay free meanwhile, so that what is committed beside the claim can be handed over.
    pub(super) fn some_of(places: &Places) -> Vec<OwnedSemaphorePermit> {
        let open = places.open.load(Ordering::Acquire);
        let free = places.sending.available_permits().min(places.most_open.saturating_sub(open));
        let most = if places.is_short.load(Ordering::Acquire) { free } else { free.div_ceil(2) };
        std::iter::from_fn(|| places.sending.clone().try_acquire_owned().ok()).take(most).collect()
    }

    /// Says of a subscriber's places whether more lanes may be due than there were places for.
    pub(super) fn set_short(&self, places: &Places, is_short: bool) {
        places.is_short.store(is_short, Ordering::SeqCst);
        fence(Ordering::SeqCst);
        // One that became free just before was not announced.
        if is_short && places.has_free() {
            self.announce();
        }
    }

    /// A place has become free.
    pub(super) fn freed(&self, places: &Places) {
        fence(Ordering::SeqCst);
        if places.is_short.load(Ordering::SeqCst) && !self.is_free.load(Ordering::Acquire) {
            self.announce();
        }
    }

    fn announce(&self) {
        if !self.is_free.swap(true, Ordering::AcqRel) {
            self.bell.notify_one();
        }
    }

    /// Something is due then that nobody knew of.
    pub(super) fn is_due(&self, due: Timestamp) {
        if self.due.fetch_min(due.micros(), Ordering::AcqRel) > due.micros() {
            self.bell.notify_one();
        }
    }

    /// What the bell was rung for: whether there are places that somebody looked for, and what is due.
    pub(super) fn answer(&self) -> (bool, Option<Timestamp>) {
        let due = self.due.swap(i64::MAX, Ordering::AcqRel);
        (self.is_free.swap(false, Ordering::AcqRel), (due < i64::MAX).then(|| Timestamp::from_micros(due)))
    }

    /// Counts a lane at work.
    pub(super) fn open<'d>(&'d self, places: &'d Places) -> Open<'d> {
        Open { desk: self, places }
    }

    /// No place is given any more, and nobody gets one for whom he waits.
    pub(super) fn close(&self) {
        for places in self.places.values() {
            places.sending.close();
        }
        self.closed.cancel();
    }
}

impl Places {
    /// Waits for a place to send; there are none any more when the gateway ends.
    pub(super) async fn wait(&self) -> Option<OwnedSemaphorePermit> {
        self.sending.clone().acquire_owned().await.ok()
    }

    fn has_free(&self) -> bool {
        self.sending.available_permits() > 0 && self.open.load(Ordering::Acquire) < self.most_open
    }
}

impl Open<'_> {
    /// Makes the place for sending free: what comes now keeps the receiver no longer busy.
    pub(super) fn leave(&self, place: Option<OwnedSemaphorePermit>) {
        drop(place);
        self.desk.freed(self.places);
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.places.open.fetch_sub(1, Ordering::AcqRel);
        self.desk.freed(self.places);
        if std::thread::panicking() {
            self.desk.alarm.cancel();
        }
    }
}

impl Taker for Desk {
    fn place(&self, subscriber: &SubscriberId) -> Option<Place> {
        let places = self.places.get(&subscriber.0)?;
        if self.stop.is_cancelled() || self.unrecorded.load(Ordering::Acquire) > 0 || !places.has_free() {
            return None;
        }
        let permit = places.sending.clone().try_acquire_owned().ok()?;
        Some(Place { lease: self.lease, since: (self.clock)(), permit })
    }

    fn give_back(&self, subscriber: &SubscriberId, place: Place) {
        drop(place);
        self.places.get(&subscriber.0).inspect(|places| self.freed(places));
    }

    fn take(&self, lane: Leased, place: Place) {
        if let Some(places) = self.places.get(&lane.subscriber.0) {
            places.open.fetch_add(1, Ordering::AcqRel);
        }
        // Nobody listens any more when the process ends: the lease runs out, or is void at the next start.
        self.handed.send((lane, place)).ok();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::ids::{ConversationId, EventId};
    use crate::store::lane::{Lease, Owed};

    fn desk(concurrency: usize) -> (Arc<Desk>, mpsc::UnboundedReceiver<(Leased, Place)>) {
        let clock: Clock = Arc::new(|| Timestamp::EPOCH);
        let names = ["crm".to_owned()];
        let (stop, unrecorded) = (CancellationToken::new(), Arc::new(AtomicUsize::new(0)));
        Desk::new(names.iter(), concurrency, (Duration::from_mins(1), clock), stop, unrecorded)
    }

    fn crm() -> SubscriberId {
        SubscriberId("crm".to_owned())
    }

    fn lane() -> Leased {
        let owed = Owed {
            delivery: 1,
            sequence: 1,
            event_id: EventId(uuid::Uuid::nil()),
            event_type: String::new(),
            body: Vec::new(),
            failures: 0,
            first_attempt: None,
            created_at: Timestamp::EPOCH,
            replay: false,
        };
        let lease = Lease { lane: 1, token: 1 };
        Leased { lease, subscriber: crm(), conversation: ConversationId(uuid::Uuid::nil()), owed }
    }

    #[test]
    fn lanes_that_wait_for_their_recording_hold_no_place_but_are_bounded() {
        let (desk, mut taken) = desk(2);
        let mut recording = Vec::new();
        for _ in 0..2 * OPEN {
            desk.take(lane(), desk.place(&crm()).expect("a place for sending is free"));
            let (_, place) = taken.try_recv().unwrap();
            let open = desk.open(desk.places("crm").unwrap());
            open.leave(Some(place.permit));
            recording.push(open);
        }
        assert!(desk.place(&crm()).is_none(), "as many as may wait");
        assert!(Desk::some_of(desk.places("crm").unwrap()).is_empty(), "and none is claimed");
        recording.pop();
        assert!(desk.place(&crm()).is_some());
    }

    #[test]
    fn nothing_is_taken_while_attempts_cannot_be_recorded() {
        let (desk, _taken) = desk(2);
        desk.unrecorded.store(1, Ordering::Release);
        assert!(desk.place(&crm()).is_none());
        desk.unrecorded.store(0, Ordering::Release);
        assert!(desk.place(&crm()).is_some());
    }

    #[tokio::test]
    async fn a_free_place_is_announced_to_whom_it_was_missing() {
        let (desk, _taken) = desk(1);
        let places = desk.places("crm").unwrap();
        let place = desk.place(&crm()).unwrap();
        let open = desk.open(places);
        places.open.fetch_add(1, Ordering::AcqRel);
        desk.set_short(places, false);
        open.leave(Some(place.permit));
        assert_eq!(desk.answer(), (false, None), "nobody looks for one");
        let place = desk.place(&crm()).unwrap();
        desk.set_short(places, true);
        assert_eq!(desk.answer(), (false, None), "there is none");
        open.leave(Some(place.permit));
        tokio::time::timeout(Duration::from_secs(10), desk.bell.notified()).await.expect("the bell");
        assert_eq!(desk.answer(), (true, None));
        // One that was taken for a lane that turned out to have somebody already.
        let place = desk.place(&crm()).unwrap();
        desk.set_short(places, true);
        desk.give_back(&crm(), place);
        assert_eq!(desk.answer(), (true, None));
        // One that became free before somebody looked for it.
        desk.set_short(places, true);
        assert_eq!(desk.answer(), (true, None));
    }

    #[test]
    fn half_of_the_places_stay_free_beside_a_claim_unless_there_is_a_backlog() {
        let (desk, _taken) = desk(8);
        let places = desk.places("crm").unwrap();
        assert_eq!(Desk::some_of(places).len(), 4);
        desk.set_short(places, true);
        assert_eq!(Desk::some_of(places).len(), 8);
    }
}
