//! Whatever happens in whatever order: nothing is lost, nothing is delivered twice, each lane is in order.

use super::Engine;
use super::world::{LEASE, World, at, attempt, key_of, messages, note};
use birdwire::domain::delivery::Order;
use birdwire::domain::event::End;
use birdwire::domain::ids::ConversationId;
use birdwire::store::lane::{Advance, Leased, Verdict};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

#[derive(Clone, Debug)]
enum Step {
    /// Somebody writes in one of three dialogs; a repeat of the latest message where `again`.
    Write { dialog: u8, again: bool },
    /// A worker takes up to so many lanes of a subscriber.
    Claim { ordered: bool, lanes: usize },
    /// The worker that holds one of the leases is done.
    Record { which: prop::sample::Index, how: How, extend: bool },
    /// The worker that holds one of the leases gives it back.
    Release { which: prop::sample::Index },
    /// Time goes by.
    Wait { seconds: u64 },
    /// The process ends and another one starts.
    Restart,
}

#[derive(Clone, Copy, Debug)]
enum How {
    Delivered,
    Retry,
    Dead,
}

fn step() -> impl Strategy<Value = Step> {
    let how = prop_oneof![4 => Just(How::Delivered), 2 => Just(How::Retry), 1 => Just(How::Dead)];
    prop_oneof![
        6 => (0..3u8, prop::bool::weighted(0.2)).prop_map(|(dialog, again)| Step::Write { dialog, again }),
        6 => (any::<bool>(), 1..4usize).prop_map(|(ordered, lanes)| Step::Claim { ordered, lanes }),
        8 => (any::<prop::sample::Index>(), how, any::<bool>())
            .prop_map(|(which, how, extend)| Step::Record { which, how, extend }),
        1 => any::<prop::sample::Index>().prop_map(|which| Step::Release { which }),
        3 => (1..90u64).prop_map(|seconds| Step::Wait { seconds }),
        1 => Just(Step::Restart),
    ]
}

/// What the world should look like.
struct Model {
    /// Whether leases outlive a process.
    is_shared: bool,
    now: u64,
    written: Vec<(u8, String)>,
    held: Vec<(Leased, u64)>,
    /// Per lane, the token of its one lease that counts.
    tokens: BTreeMap<i64, i64>,
    /// Per subscriber and conversation: the number of the next message, as long as there is order.
    next: BTreeMap<(String, ConversationId), i64>,
    ended: BTreeSet<(String, i64)>,
}

const SUBSCRIBERS: [(&str, Order); 2] = [("ordered", Order::Strict), ("free", Order::None)];

impl Model {
    fn new(engine: &dyn Engine) -> Self {
        Self {
            is_shared: engine.is_shared(),
            now: 1,
            written: Vec::new(),
            held: Vec::new(),
            tokens: BTreeMap::new(),
            next: BTreeMap::new(),
            ended: BTreeSet::new(),
        }
    }

    async fn claim(&mut self, world: &World, subscriber: &str, lanes: usize) -> usize {
        let claimed = world.claim_all(subscriber, lanes, at(self.now)).await;
        assert!(claimed.leased.len() <= lanes);
        let count = claimed.leased.len();
        for lane in claimed.leased {
            self.hold(lane);
        }
        count
    }

    fn hold(&mut self, lane: Leased) {
        let name = lane.subscriber.0.clone();
        assert!(!self.ended.contains(&(name.clone(), lane.owed.delivery)), "what has ended is never claimed");
        let rival = |(held, until): &&(Leased, u64)| held.owed.delivery == lane.owed.delivery && *until > self.now;
        assert!(!self.held.iter().any(|held| rival(&held)), "one lease at a time");
        if name == "ordered" {
            let next = self.next.entry((name, lane.conversation)).or_insert(1);
            assert_eq!(lane.owed.sequence, *next, "the head and nothing else");
        }
        self.tokens.insert(lane.lease.lane, lane.lease.token);
        self.held.push((lane, self.now + LEASE.as_secs()));
    }

    /// Whether the lease was still the one that counts.
    fn give_back(&mut self, lane: &Leased) -> bool {
        let counts = self.tokens.get(&lane.lease.lane) == Some(&lane.lease.token);
        if counts {
            self.tokens.remove(&lane.lease.lane);
        }
        counts
    }

    async fn record(&mut self, world: &World, position: usize, how: How, extend: bool) {
        let (lane, _) = self.held.remove(position);
        let verdict = match how {
            How::Delivered => Verdict::Delivered,
            How::Retry => Verdict::Retry { due: at(self.now + 20) },
            How::Dead => Verdict::Dead,
        };
        let mut attempt = attempt(&lane, verdict, at(self.now));
        attempt.ended_at = attempt.started_at;
        attempt.extend = extend.then_some(LEASE);
        let advance = world.store.record_attempt(attempt).await.unwrap();
        let is_lost = !self.give_back(&lane);
        assert_eq!(advance == Advance::Lost, is_lost, "lost exactly when somebody else has claimed it since");
        if is_lost {
            return;
        }
        let name = lane.subscriber.0.clone();
        if !matches!(how, How::Retry) {
            assert!(self.ended.insert((name.clone(), lane.owed.delivery)), "ended twice");
            self.next.entry((name, lane.conversation)).and_modify(|next| *next += 1);
        }
        if let Advance::Next(owed) = advance {
            assert!(extend);
            self.hold(Leased { owed: *owed, ..lane });
        }
    }

    async fn step(&mut self, world: World, step: &Step) -> World {
        match step {
            Step::Write { dialog, again } => {
                let fresh = (*dialog, format!("m{}", self.written.len()));
                let (dialog, key) = self.written.last().filter(|_| *again).unwrap_or(&fresh).clone();
                let end = if self.written.contains(&fresh) || (dialog, &key) != (fresh.0, &fresh.1) {
                    End::Duplicate { conflict: false }
                } else {
                    self.written.push(fresh);
                    End::Stored
                };
                let mut note = note(&format!("U{dialog}"), &key);
                // A lane's time is when it was received, so that it is due at once.
                note.name = String::new();
                assert_eq!(world.commit(&[note]).await, [end]);
            }
            Step::Claim { ordered, lanes } => {
                self.claim(&world, SUBSCRIBERS[usize::from(!ordered)].0, *lanes).await;
            }
            Step::Record { which, how, extend } if !self.held.is_empty() => {
                self.record(&world, which.index(self.held.len()), *how, *extend).await;
            }
            Step::Release { which } if !self.held.is_empty() => {
                let (lane, _) = self.held.remove(which.index(self.held.len()));
                world.store.release_lanes(vec![lane.lease]).await.unwrap();
                self.give_back(&lane);
            }
            Step::Record { .. } | Step::Release { .. } => {}
            Step::Wait { seconds } => self.now += seconds,
            Step::Restart => {
                let world = world.reopen().await;
                if self.is_shared {
                    return world;
                }
                self.tokens.clear();
                for (lane, _) in std::mem::take(&mut self.held) {
                    let lost = world.record(&lane, Verdict::Delivered, at(self.now)).await;
                    assert_eq!(lost, Advance::Lost);
                }
                return world;
            }
        }
        world
    }

    /// In the end everything arrives, in order.
    async fn finish(mut self, world: World) {
        for _ in 0..2000 {
            while let Some(last) = self.held.len().checked_sub(1) {
                self.record(&world, last, How::Delivered, false).await;
            }
            self.now += 100;
            let mut found = 0;
            for (name, _) in SUBSCRIBERS {
                found += self.claim(&world, name, 1000).await;
            }
            if found == 0 {
                break;
            }
        }
        assert!(self.held.is_empty());
        let rows = world.deliveries().await;
        assert_eq!(rows.len(), self.written.len() * SUBSCRIBERS.len(), "everybody is owed everything once");
        let [pending, leased, delivered, dead, _] = world.states().await;
        assert_eq!((pending, leased, delivered + dead), (0, 0, self.ended.len()));
        assert_eq!(rows.len(), self.ended.len());
        // What was owed first is what was written first, and is that message and no other.
        for (name, _) in SUBSCRIBERS {
            let mut keys = Vec::new();
            for row in rows.iter().filter(|row| row.subscriber.0 == name) {
                keys.push(key_of(&world.store.delivery(row.id).await.unwrap().unwrap().body));
            }
            let written: Vec<String> = self.written.iter().map(|(_, key)| key.clone()).collect();
            assert_eq!(keys, written);
        }
        world.end().await;
    }
}

pub(crate) async fn any_order_of_events_delivers_each_once_and_in_order(engine: &dyn Engine) {
    let config = ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() };
    let runtime = tokio::runtime::Handle::current();
    tokio::task::block_in_place(|| {
        TestRunner::new(config)
            .run(&prop::collection::vec(step(), 1..60), |steps| {
                runtime.block_on(async {
                    let subscribers = SUBSCRIBERS.map(|(name, order)| messages(name, order));
                    let mut world = World::new(engine, &subscribers).await;
                    let mut model = Model::new(engine);
                    for step in &steps {
                        world = model.step(world, step).await;
                    }
                    tokio::time::timeout(Duration::from_mins(1), model.finish(world)).await.expect("an end");
                });
                Ok(())
            })
            .unwrap();
    });
}
