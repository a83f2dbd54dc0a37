//! Lanes that are handed over with the commit that gives them something.

use super::Engine;
use super::changes::{original, unsend};
use super::world::{LEASE, Note, World, account, at, attempt, key_of, messages, note};
use birdwire::domain::delivery::Order;
use birdwire::domain::event::End;
use birdwire::domain::route::SubscriberId;
use birdwire::store::Store;
use birdwire::store::lane::{Advance, Leased, Place, Taker, Verdict};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::Semaphore;

/// Takes what it is given, as far as it has places.
pub(crate) struct Hands {
    places: Arc<Semaphore>,
    taken: Mutex<Vec<(Leased, Place)>>,
    /// Places that were given and did not come back yet, in one way or the other.
    out: AtomicUsize,
}

impl Hands {
    fn new(world: &World, places: usize) -> Arc<Self> {
        Self::at(&*world.store, places)
    }

    /// Those of one of several nodes.
    pub(crate) fn at(store: &dyn Store, places: usize) -> Arc<Self> {
        let hands = Arc::new(Self {
            places: Arc::new(Semaphore::new(places)),
            taken: Mutex::default(),
            out: AtomicUsize::new(0),
        });
        store.hand_over_to(hands.clone());
        hands
    }

    /// What was handed over. Lanes are handed over before the answers or after them, but before the next commit.
    async fn taken(&self, world: &World) -> Vec<(Leased, Place)> {
        world.store.probe(at(0)).await.unwrap();
        self.so_far()
    }

    /// Every place that was given out has come back with a lane, or was given back.
    pub(crate) fn are_settled(&self) -> bool {
        self.out.load(Ordering::Acquire) == 0
    }

    /// What was handed over until now.
    pub(crate) fn so_far(&self) -> Vec<(Leased, Place)> {
        std::mem::take(&mut *self.taken.lock().unwrap())
    }
}

impl Taker for Hands {
    fn place(&self, _subscriber: &SubscriberId) -> Option<Place> {
        let permit = self.places.clone().try_acquire_owned().ok()?;
        self.out.fetch_add(1, Ordering::AcqRel);
        Some(Place { lease: LEASE, since: at(0), permit })
    }

    fn give_back(&self, _subscriber: &SubscriberId, place: Place) {
        drop(place);
        self.out.fetch_sub(1, Ordering::AcqRel);
    }

    fn take(&self, lane: Leased, place: Place) {
        self.out.fetch_sub(1, Ordering::AcqRel);
        self.taken.lock().unwrap().push((lane, place));
    }
}

pub(crate) async fn an_idle_lane_is_handed_over_and_no_other(engine: &dyn Engine) {
    let world = World::simple(engine).await;
    let hands = Hands::new(&world, 10);
    world.write("U1", &["a", "b"]).await;
    let mut taken = hands.taken(&world).await;
    assert_eq!(taken.len(), 1, "b waits behind a");
    let (leased, place) = taken.remove(0);
    assert_eq!((key_of(&leased.owed.body), leased.owed.sequence), ("a".to_owned(), 1));
    assert_eq!(leased.conversation, world.deliveries().await[0].conversation);
    let claimed = world.claim_all("crm", 10, at(59)).await;
    assert_eq!((claimed.leased, claimed.next_due), (vec![], Some(at(0).plus(LEASE))), "it is leased like any other");
    let mut done = attempt(&leased, Verdict::Delivered, at(1));
    done.extend = Some(LEASE);
    let Advance::Next(next) = world.store.record_attempt(done).await.unwrap() else { panic!("b is next") };
    assert_eq!(key_of(&next.body), "b");
    let second = Leased { owed: *next, ..leased };
    assert_eq!(world.record(&second, Verdict::Delivered, at(2)).await, Advance::Released);
    drop(place);
    world.write("U1", &["c"]).await;
    let (third, _place) = hands.taken(&world).await.remove(0);
    assert_eq!((key_of(&third.owed.body), third.owed.sequence), ("c".to_owned(), 3), "idle again");
    assert!(third.lease.token > second.lease.token);
    assert_eq!(world.record(&second, Verdict::Delivered, at(3)).await, Advance::Lost);
    assert!(hands.are_settled());
    world.end().await;
}

pub(crate) async fn without_a_place_it_is_due_as_ever(engine: &dyn Engine) {
    let world = World::simple(engine).await;
    let hands = Hands::new(&world, 1);
    world.write("U1", &["a"]).await;
    world.write("U2", &["b"]).await;
    let taken = hands.taken(&world).await;
    assert_eq!(taken.len(), 1);
    tokio::time::timeout(Duration::from_secs(10), world.store.work_hint()).await.expect("somebody should look for it");
    assert_eq!(key_of(&world.claim_one(at(1)).await.owed.body), "b");
    assert_eq!(hands.places.available_permits(), 0);
    drop(taken);
    assert_eq!(hands.places.available_permits(), 1);
    assert!(hands.are_settled());
    world.end().await;
}

pub(crate) async fn nobody_is_called_to_a_lane_at_work(engine: &dyn Engine) {
    let world = World::simple(engine).await;
    let hands = Hands::new(&world, 10);
    world.write("U1", &["a"]).await;
    let (leased, _place) = hands.taken(&world).await.remove(0);
    let later = world.inbound(account(1), at(5), vec![note("U1", "b").event()]);
    assert_eq!(world.store.commit_inbound(later).await.unwrap().ends, [End::Stored]);
    let called = tokio::time::timeout(Duration::from_millis(200), world.store.work_hint()).await;
    assert!(called.is_err(), "whoever works on the lane goes on with it");
    assert_eq!(world.record(&leased, Verdict::Delivered, at(6)).await, Advance::Released);
    tokio::time::timeout(Duration::from_secs(10), world.store.work_hint())
        .await
        .expect("it was given back with b in it");
    assert_eq!(key_of(&world.claim_one(at(6)).await.owed.body), "b");
    assert!(hands.are_settled());
    world.end().await;
}

pub(crate) async fn what_fails_takes_no_place(engine: &dyn Engine) {
    let world = World::simple(engine).await;
    let hands = Hands::new(&world, 10);
    engine.forbid(&world.place, "text of bad");
    let ends = world.commit(&[note("U1", "bad")]).await;
    assert_eq!(ends[0].state(), "quarantined");
    assert!(hands.taken(&world).await.is_empty());
    assert_eq!(hands.places.available_permits(), 10);
    world.write("U1", &["good"]).await;
    assert_eq!(hands.taken(&world).await.len(), 1);
    assert!(hands.are_settled());
    world.end().await;
}

pub(crate) async fn what_is_taken_back_at_once_is_not_handed_over(engine: &dyn Engine) {
    let world = World::simple(engine).await;
    let hands = Hands::new(&world, 10);
    let said = original(&note("U1", "a"));
    let unsend = unsend(&Note { at: at(1), ..note("U1", "a") });
    let next = note("U1", "b").event();
    let inbound = world.inbound(account(1), at(0), vec![said, unsend, next]);
    assert_eq!(world.store.commit_inbound(inbound).await.unwrap().ends, [End::Stored, End::Stored, End::Stored]);
    let taken = hands.taken(&world).await;
    if taken.is_empty() {
        tokio::time::timeout(Duration::from_secs(10), world.store.work_hint()).await.expect("somebody should look");
    }
    assert!(taken.iter().all(|(lane, _)| key_of(&lane.owed.body) == "b"), "{taken:?}");
    let due = world.claim(at(1)).await;
    let all: Vec<String> = taken.iter().map(|(lane, _)| lane).chain(&due).map(|lane| key_of(&lane.owed.body)).collect();
    assert_eq!(all, ["b"], "what was said next is delivered, by whoever has the lane");
    assert!(hands.are_settled());
    world.end().await;
}

pub(crate) async fn who_is_disabled_is_handed_nothing(engine: &dyn Engine) {
    let world = World::new(engine, &[messages("crm", Order::Strict)]).await;
    let hands = Hands::new(&world, 10);
    let crm = SubscriberId("crm".to_owned());
    world.store.disable(&crm, "by hand".to_owned(), at(0)).await.unwrap();
    world.write("U1", &["a"]).await;
    assert!(hands.taken(&world).await.is_empty());
    assert_eq!(hands.places.available_permits(), 10);
    world.store.enable(&crm, at(1)).await.unwrap();
    world.write("U2", &["b"]).await;
    assert_eq!(hands.taken(&world).await.len(), 1);
    assert!(hands.are_settled());
    world.end().await;
}
