//! The dispatcher, one step at a time, with a clock that is moved by hand: when it tries again, what it makes of
//! every misbehaviour, when it gives up.

use super::subscriber::{FakeSubscriber, Reaction};
use super::{PATIENCE, SECRET};
use crate::conformance::engines::Sqlite;
use crate::conformance::world::{World, at, messages, open};
use birdwire::delivery::Subscriber;
use birdwire::delivery::dispatcher::{Dispatcher, Worked};
use birdwire::delivery::sender::Sender;
use birdwire::domain::backoff::Backoff;
use birdwire::domain::delivery::{Order, State};
use birdwire::domain::route::SubscriberId;
use birdwire::domain::secret::Secret;
use birdwire::domain::time::Timestamp;
use birdwire::metrics::Metrics;
use birdwire::store::Access;
use birdwire::store::listing::{AttemptRow, ReplayOf};
use birdwire::voipbin::sign::Signer;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// A store, a dispatcher and a clock.
struct Bench {
    world: World,
    dispatcher: Arc<Dispatcher>,
    now: Arc<AtomicI64>,
}

/// How one subscriber is dispatched to.
struct Terms<'a> {
    url: String,
    order: Order,
    give_up_after: Duration,
    deadline: Duration,
    allowed: &'a str,
}

impl Terms<'_> {
    fn new(url: String) -> Self {
        let (give_up_after, deadline) = (Duration::from_hours(72), Duration::from_secs(5));
        Self { url, order: Order::Strict, give_up_after, deadline, allowed: "127.0.0.0/8" }
    }
}

impl Bench {
    async fn new(terms: Terms<'_>) -> Self {
        let world = World::new(&Sqlite, &[messages("crm", terms.order)]).await;
        let sender = Sender::new(&[terms.allowed.parse().unwrap()], terms.deadline, 4).unwrap();
        let subscriber = Subscriber {
            id: SubscriberId("crm".to_owned()),
            receiver: sender.receiver(&terms.url.parse().unwrap()).unwrap(),
            signer: Signer::new(&[Secret::new(SECRET)]).unwrap(),
            order: terms.order,
            backoff: Backoff {
                first: Duration::from_secs(1),
                max: Duration::from_hours(1),
                give_up_after: terms.give_up_after,
            },
            counted: Metrics::new().unwrap().subscriber("crm"),
        };
        let now = Arc::new(AtomicI64::new(at(0).micros()));
        let hand = now.clone();
        let dispatcher = Arc::new(Dispatcher {
            store: world.store.clone(),
            sender,
            subscribers: HashMap::from([("crm".to_owned(), Arc::new(subscriber))]),
            concurrency: 64,
            lease: Duration::from_mins(1),
            fresh: Duration::from_secs(40),
            clock: Arc::new(move || Timestamp::from_micros(hand.load(Ordering::SeqCst))),
            jitter: Box::new(|| 0.0),
            metrics: Metrics::new().unwrap(),
            stop: CancellationToken::new(),
            cut: CancellationToken::new(),
            unrecorded: Arc::default(),
        });
        Self { world, dispatcher, now }
    }

    /// One step, so many seconds into the case.
    async fn step(&self, seconds: u64) -> Vec<Worked> {
        self.now.store(at(seconds).micros(), Ordering::SeqCst);
        tokio::time::timeout(PATIENCE, self.dispatcher.run_once()).await.expect("a step ends").unwrap()
    }

    /// One step that works on one lane.
    async fn one(&self, seconds: u64) -> Worked {
        let mut worked = self.step(seconds).await;
        assert_eq!(worked.len(), 1, "{worked:?}");
        worked.remove(0)
    }

    async fn attempts(&self, delivery: usize) -> Vec<AttemptRow> {
        let id = self.world.deliveries().await[delivery].id;
        self.world.store.delivery(id).await.unwrap().unwrap().attempts
    }

    /// What the first attempt of the first delivery came to.
    async fn reason(&self) -> (Option<u16>, String) {
        let first = self.attempts(0).await.remove(0);
        (first.status, first.reason)
    }

    async fn end(self) {
        self.world.end().await;
    }
}

fn retry(seconds: u64) -> Worked {
    Worked { subscriber: "crm".to_owned(), retry_at: Some(at(seconds)), ..Worked::default() }
}

fn delivered(count: u32) -> Worked {
    Worked { subscriber: "crm".to_owned(), delivered: count, ..Worked::default() }
}

/// One message to a subscriber that reacts so: what follows, and what is recorded.
async fn once(reaction: Reaction, deadline: Duration) -> (Worked, (Option<u16>, String), Duration) {
    let subscriber = FakeSubscriber::start(&[reaction]).await;
    let bench = Bench::new(Terms { deadline, ..Terms::new(subscriber.url("/hook")) }).await;
    bench.world.write("U1", &["a"]).await;
    let began = Instant::now();
    let worked = bench.one(0).await;
    let (took, reason) = (began.elapsed(), bench.reason().await);
    assert_eq!(subscriber.connections(), 1);
    bench.end().await;
    (worked, reason, took)
}

#[tokio::test]
async fn delays_double_and_the_lane_waits() {
    let mut subscriber = FakeSubscriber::start(&vec![Reaction::Status(500); 4]).await;
    let bench = Bench::new(Terms::new(subscriber.url("/"))).await;
    bench.world.write("U1", &["a", "b"]).await;
    for (now, next) in [(0, 1), (1, 3), (3, 7), (7, 15)] {
        assert_eq!(bench.one(now).await, retry(next));
        assert_eq!(bench.step(next - 1).await, [], "not before its time");
    }
    assert_eq!(bench.one(15).await, delivered(2));
    let mut sequences = Vec::new();
    for _ in 0..6 {
        sequences.push(subscriber.next().await.header("x-birdwire-sequence").to_owned());
    }
    assert_eq!(sequences, ["1", "1", "1", "1", "1", "2"]);
    bench.end().await;
}

#[tokio::test]
async fn retry_after_is_obeyed() {
    let with = |status, value: &str| Reaction::With(status, format!("Retry-After: {value}\r\n"));
    let script = [with(503, "600"), with(429, "Thu, 01 Jan 2026 00:30:00 GMT"), with(500, "soon")];
    let subscriber = FakeSubscriber::start(&script).await;
    let bench = Bench::new(Terms::new(subscriber.url("/"))).await;
    bench.world.write("U1", &["a"]).await;
    assert_eq!(bench.one(0).await, retry(600));
    assert_eq!(bench.step(599).await, []);
    assert_eq!(bench.one(600).await, retry(1800), "a date is a time too");
    assert_eq!(bench.step(1799).await, []);
    assert_eq!(bench.one(1800).await, retry(1804), "nonsense asks for nothing");
    assert_eq!(bench.one(1804).await, delivered(1));
    bench.end().await;
}

#[tokio::test]
async fn bounded_order_gives_up_in_time_and_goes_on() {
    let mut subscriber = FakeSubscriber::start(&vec![Reaction::Status(500); 8]).await;
    let give_up_after = Duration::from_secs(100);
    let terms = Terms { order: Order::Bounded, give_up_after, ..Terms::new(subscriber.url("/")) };
    let bench = Bench::new(terms).await;
    bench.world.write("U1", &["a", "b"]).await;
    // 0, 1, 3, 7, 15, 31, 63, and the last one when the time is up.
    let mut now = 0;
    let mut attempts = 0;
    loop {
        let worked = bench.one(now).await;
        attempts += 1;
        let Some(due) = worked.retry_at else {
            assert_eq!(worked, Worked { dead: 1, ..delivered(1) }, "given up, and the next one delivered");
            break;
        };
        now = due.since(at(0)).as_secs();
    }
    assert_eq!((now, attempts), (100, 8));
    let states: Vec<State> = bench.world.deliveries().await.iter().map(|row| row.state).collect();
    assert_eq!(states, [State::Dead, State::Delivered]);
    for _ in 0..8 {
        assert_eq!(subscriber.next().await.header("x-birdwire-sequence"), "1");
    }
    assert_eq!(subscriber.next().await.header("x-birdwire-sequence"), "2", "the gap is to be seen");
    bench.end().await;
}

#[tokio::test]
async fn redirects_are_not_followed() {
    let mut elsewhere = FakeSubscriber::good().await;
    for status in [301, 302, 303, 307, 308] {
        let location = format!("location: {}\r\n", elsewhere.url("/stolen"));
        let (worked, reason, _) = once(Reaction::With(status, location), PATIENCE).await;
        assert_eq!((worked, reason), (retry(1), (Some(status), "redirect refused".to_owned())));
    }
    assert!(elsewhere.is_idle() && elsewhere.connections() == 0);
}

#[tokio::test]
async fn gone_disables_and_enabling_resumes() {
    let subscriber = FakeSubscriber::start(&[Reaction::Status(410)]).await;
    let bench = Bench::new(Terms::new(subscriber.url("/"))).await;
    bench.world.write("U1", &["a"]).await;
    bench.one(0).await;
    assert_eq!(bench.reason().await, (Some(410), "gone".to_owned()));
    assert_eq!(bench.step(1000).await, []);
    assert_eq!(bench.world.backlog("crm").await.owed, 1);
    bench.world.store.enable(&SubscriberId("crm".to_owned()), at(0)).await.unwrap();
    // It does not wait for the delay of the attempt that was its last.
    assert_eq!(bench.one(0).await, delivered(1));
    bench.end().await;
}

/// What waits for a disabled subscriber loses none of its time, and nothing of its order.
#[tokio::test]
async fn time_spent_disabled_gives_nothing_up() {
    let mut subscriber =
        FakeSubscriber::start(&[Reaction::Status(500), Reaction::Status(410), Reaction::Status(503)]).await;
    let give_up_after = Duration::from_secs(10);
    let bench = Bench::new(Terms { give_up_after, ..Terms::new(subscriber.url("/")) }).await;
    bench.world.write("U1", &["a", "b"]).await;
    assert_eq!(bench.one(0).await, retry(1));
    bench.one(1).await;
    assert_eq!(bench.step(1000).await, [], "it is disabled");
    bench.world.store.enable(&SubscriberId("crm".to_owned()), at(1000)).await.unwrap();
    assert_eq!(bench.one(1000).await, retry(1001), "and waits as long as after a first failure");
    assert_eq!(bench.one(1001).await, delivered(2));
    let mut sequences = Vec::new();
    for _ in 0..5 {
        sequences.push(subscriber.next().await.header("x-birdwire-sequence").to_owned());
    }
    assert_eq!(sequences, ["1", "1", "1", "1", "2"]);
    bench.end().await;
}

#[tokio::test]
async fn whoever_says_nothing_is_given_up_at_the_deadline() {
    let deadline = Duration::from_millis(300);
    for reaction in [Reaction::Hang, Reaction::DripHead] {
        let (worked, reason, took) = once(reaction, deadline).await;
        assert_eq!((worked, reason), (retry(1), (None, "deadline exceeded".to_owned())));
        assert!(took >= deadline && took < Duration::from_secs(5), "{took:?}");
    }
}

#[tokio::test]
async fn an_answer_counts_however_its_body_behaves() {
    for reaction in [Reaction::DripBody, Reaction::Endless] {
        // Neither a body that outlasts the deadline nor one that outlasts patience changes what was said.
        for deadline in [Duration::from_millis(300), PATIENCE] {
            let (worked, reason, took) = once(reaction.clone(), deadline).await;
            assert_eq!((worked, reason), (delivered(1), (Some(200), "delivered".to_owned())), "{deadline:?}");
            assert!(took < Duration::from_secs(5), "{took:?}");
        }
    }
}

#[tokio::test]
async fn broken_and_refused_connections_are_told_apart() {
    let (worked, reason, _) = once(Reaction::Cut, PATIENCE).await;
    assert_eq!((worked, reason), (retry(1), (None, "connection broken".to_owned())));

    let gone = FakeSubscriber::good().await;
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    drop((gone, listener));
    let bench = Bench::new(Terms::new(url)).await;
    bench.world.write("U1", &["a"]).await;
    assert_eq!(bench.one(0).await, retry(1));
    assert_eq!(bench.reason().await, (None, "connection failed".to_owned()));
    bench.end().await;

    let bench = Bench::new(Terms::new("http://nobody.invalid/".to_owned())).await;
    bench.world.write("U1", &["a"]).await;
    assert_eq!(bench.one(0).await, retry(1));
    assert_eq!(bench.reason().await, (None, "name not resolved".to_owned()));
    bench.end().await;
}

#[tokio::test]
async fn what_is_not_allowed_is_never_connected_to() {
    let subscriber = FakeSubscriber::good().await;
    let port = subscriber.port();
    for (url, allowed) in [
        (format!("http://127.0.0.1:{port}/"), "10.0.0.0/8"),
        (format!("http://localhost:{port}/"), "10.0.0.0/8"),
        (format!("http://[::ffff:127.0.0.1]:{port}/"), "10.0.0.0/8"),
        (format!("https://127.0.0.1:{port}/"), "10.0.0.0/8"),
        (format!("https://localhost:{port}/"), "10.0.0.0/8"),
        ("http://169.254.169.254/latest/meta-data/".to_owned(), "127.0.0.0/8"),
        // Plain http is for the networks that are named, not for the internet.
        ("http://93.184.215.14/".to_owned(), "127.0.0.0/8"),
    ] {
        let bench = Bench::new(Terms { allowed, ..Terms::new(url.clone()) }).await;
        bench.world.write("U1", &["a"]).await;
        assert_eq!(bench.one(0).await, retry(1), "{url}");
        assert_eq!(bench.reason().await, (None, "address not allowed".to_owned()), "{url}");
        bench.end().await;
    }
    assert_eq!(subscriber.connections(), 0);
}

#[tokio::test]
async fn connections_are_used_again() {
    let mut subscriber = FakeSubscriber::good().await;
    let bench = Bench::new(Terms::new(subscriber.url("/"))).await;
    bench.world.write("U1", &["a", "b", "c", "d"]).await;
    assert_eq!(bench.one(0).await, delivered(4));
    for _ in 0..4 {
        subscriber.next().await;
    }
    assert_eq!(subscriber.connections(), 1);
    bench.end().await;
}

#[tokio::test]
async fn a_lane_has_its_turn_and_then_others_have_theirs() {
    let subscriber = FakeSubscriber::good().await;
    let bench = Bench::new(Terms::new(subscriber.url("/"))).await;
    let keys: Vec<String> = (0..40).map(|number| format!("m{number}")).collect();
    bench.world.write("U1", &keys.iter().map(String::as_str).collect::<Vec<_>>()).await;
    assert_eq!(bench.one(0).await, delivered(16));
    assert_eq!(bench.one(0).await, delivered(16));
    assert_eq!(bench.one(0).await, delivered(8));
    assert_eq!(bench.step(0).await, []);
    bench.end().await;
}

#[tokio::test]
async fn a_dispatcher_that_stops_gives_its_lanes_back() {
    let subscriber = FakeSubscriber::good().await;
    let bench = Bench::new(Terms::new(subscriber.url("/"))).await;
    bench.world.write("U1", &["a"]).await;
    bench.dispatcher.stop.cancel();
    assert_eq!(bench.one(0).await, delivered(0));
    assert_eq!(subscriber.connections(), 0);
    assert_eq!(bench.world.claim_one(at(0)).await.owed.failures, 0);
    bench.end().await;
}

/// A dispatcher of its own that goes on by itself, on the clock that `now` says.
fn running(bench: &Bench, unrecorded: usize, now: impl Fn() -> Timestamp + Send + Sync + 'static) -> Arc<Dispatcher> {
    Arc::new(Dispatcher {
        store: bench.dispatcher.store.clone(),
        sender: Sender::new(&["127.0.0.0/8".parse().unwrap()], PATIENCE, 4).unwrap(),
        subscribers: bench.dispatcher.subscribers.clone(),
        concurrency: 64,
        lease: Duration::from_mins(1),
        fresh: Duration::from_secs(40),
        clock: Arc::new(now),
        jitter: Box::new(|| 0.0),
        metrics: Metrics::new().unwrap(),
        stop: CancellationToken::new(),
        cut: CancellationToken::new(),
        unrecorded: Arc::new(AtomicUsize::new(unrecorded)),
    })
}

/// While a result cannot be recorded nothing is claimed, and nothing is burnt by looking again and again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_claimed_while_a_result_is_not_recorded() {
    let mut subscriber = FakeSubscriber::good().await;
    let bench = Bench::new(Terms::new(subscriber.url("/"))).await;
    bench.world.write("U1", &["a"]).await;
    let asked = Arc::new(AtomicUsize::new(0));
    let (counter, started) = (asked.clone(), Instant::now());
    let dispatcher = running(&bench, 1, move || {
        counter.fetch_add(1, Ordering::SeqCst);
        at(10).plus(started.elapsed())
    });
    let task = tokio::spawn(dispatcher.clone().run());
    tokio::time::sleep(Duration::from_millis(1500)).await;
    assert!(subscriber.is_idle());
    assert!(asked.load(Ordering::SeqCst) < 50, "it looked {} times", asked.load(Ordering::SeqCst));
    dispatcher.unrecorded.store(0, Ordering::SeqCst);
    subscriber.next().await;
    dispatcher.stop.cancel();
    task.await.unwrap();
    bench.end().await;
}

/// Clocks are set right while programs run.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clock_that_is_set_back_stops_nothing() {
    let gate = Arc::new(Semaphore::new(0));
    let mut subscriber = FakeSubscriber::start(&[Reaction::Gate(gate.clone())]).await;
    let bench = Bench::new(Terms::new(subscriber.url("/"))).await;
    bench.now.store(at(100_000).micros(), Ordering::SeqCst);
    bench.world.write("U1", &["a"]).await;
    let hand = bench.now.clone();
    let dispatcher = running(&bench, 0, move || Timestamp::from_micros(hand.load(Ordering::SeqCst)));
    let task = tokio::spawn(dispatcher.clone().run());
    subscriber.next().await;
    bench.now.store(at(1).micros(), Ordering::SeqCst);
    gate.add_permits(1);
    let delivered = async { while bench.world.states().await != [0, 0, 1, 0, 0] {} };
    tokio::time::timeout(PATIENCE, delivered).await.expect("it is recorded");
    // What another process changes gives no hint: only looking again finds it.
    let beside = open(&bench.world.place, Access::Write).await.unwrap();
    beside.replay(ReplayOf::Deliveries(vec![bench.world.deliveries().await[0].id]), at(1)).await.unwrap();
    beside.close().await;
    assert_eq!(subscriber.next().await.header("x-birdwire-replay"), "true");
    dispatcher.stop.cancel();
    task.await.unwrap();
    bench.end().await;
}

#[tokio::test]
async fn a_connection_is_used_again_after_a_body_that_comes_late() {
    let subscriber = FakeSubscriber::start(&[Reaction::Says("thanks"), Reaction::Status(204)]).await;
    let bench = Bench::new(Terms::new(subscriber.url("/"))).await;
    bench.world.write("U1", &["a", "b", "c"]).await;
    assert_eq!(bench.one(0).await, delivered(3));
    assert_eq!(subscriber.connections(), 1);
    bench.end().await;
}

#[tokio::test]
async fn a_connection_that_ended_while_it_was_idle_costs_no_attempt() {
    let subscriber = FakeSubscriber::start(&[Reaction::Leave, Reaction::Status(200)]).await;
    let bench = Bench::new(Terms::new(subscriber.url("/"))).await;
    bench.world.write("U1", &["a"]).await;
    assert_eq!(bench.one(0).await, delivered(1));
    // Its end has to arrive.
    tokio::time::sleep(Duration::from_millis(100)).await;
    bench.world.write("U1", &["b"]).await;
    assert_eq!(bench.one(1).await, delivered(1));
    assert_eq!(subscriber.connections(), 2);
    bench.end().await;
}

#[tokio::test]
async fn what_may_have_arrived_is_not_sent_again_by_itself() {
    let mut subscriber = FakeSubscriber::start(&[Reaction::Status(200), Reaction::Cut]).await;
    let bench = Bench::new(Terms::new(subscriber.url("/"))).await;
    bench.world.write("U1", &["a", "b"]).await;
    assert_eq!(bench.one(0).await, Worked { delivered: 1, ..retry(1) });
    assert_eq!(subscriber.connections(), 1);
    subscriber.next().await;
    subscriber.next().await;
    assert!(subscriber.is_idle(), "one attempt is one request");
    bench.end().await;
}
