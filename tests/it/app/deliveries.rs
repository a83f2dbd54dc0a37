//! What a subscriber sees: each event once, signed twice, in order.

use super::subscriber::{FakeSubscriber, Reaction, Request};
use super::{SECRET, Setup, TestApp, block, payload};
use birdwire::domain::delivery::State;
use birdwire::domain::route::SubscriberId;
use birdwire::domain::secret::Secret;
use birdwire::domain::time::Timestamp;
use birdwire::store::listing::ReplayOf;
use birdwire::voipbin::sign::{verify_standard, verify_voipbin};
use std::collections::BTreeMap;
use std::path::Path;

/// The text of a message; empty for an event of a conversation.
fn text(request: &Request) -> String {
    let body: serde_json::Value = serde_json::from_slice(&request.body).unwrap();
    body["data"]["text"].as_str().unwrap_or_default().to_owned()
}

fn kind(request: &Request) -> String {
    let body: serde_json::Value = serde_json::from_slice(&request.body).unwrap();
    body["type"].as_str().unwrap().to_owned()
}

/// Both signatures, with either secret where several may sign.
fn check_signatures(request: &Request) {
    assert!(verify_voipbin(&Secret::new(SECRET), &request.body, request.header("x-voipbin-signature")));
    let time = request.header("webhook-timestamp");
    let now = (birdwire::app::system_clock())().seconds();
    for secret in [SECRET, "older secret"] {
        let (id, signature) = (request.header("webhook-id"), request.header("webhook-signature"));
        verify_standard(&[Secret::new(secret)], id, time, signature, &request.body, now, 60).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_arrives_as_it_was_promised() {
    let mut subscriber = FakeSubscriber::good().await;
    let app = TestApp::with(&subscriber).await;
    let case = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/bird/text");
    app.accept(&std::fs::read(case.join("request.json")).unwrap()).await;
    let expected = std::fs::read_to_string(case.join("expected.documented.jsonl")).unwrap();
    let mut ids = Vec::new();
    let mut lanes = Vec::new();
    for (sequence, body) in (1..).zip(expected.lines()) {
        let request = subscriber.next().await;
        assert_eq!(String::from_utf8(request.body.clone()).unwrap(), body);
        check_signatures(&request);
        assert_eq!(request.path, "/hook");
        assert_eq!(request.header("x-birdwire-sequence"), format!("{sequence}"));
        assert_eq!(request.header("content-type"), "application/json");
        assert!(request.header("user-agent").starts_with("birdwire/"));
        assert!(!request.has("x-birdwire-replay"));
        ids.push(request.header("webhook-id").to_owned());
        lanes.push(request.header("x-birdwire-lane").to_owned());
    }
    assert_eq!(ids.len(), 2);
    assert_ne!(ids[0], ids[1]);
    assert_eq!(lanes[0], lanes[1]);
    let message: serde_json::Value = serde_json::from_str(expected.lines().nth(1).unwrap()).unwrap();
    assert_eq!(message["data"]["conversation_id"], lanes[0]);
    let done = app.until(|all| all.iter().all(|d| d.row.state == State::Delivered)).await;
    assert_eq!(done.iter().map(|d| d.row.event_id.to_string()).collect::<Vec<_>>(), ids);
    let metrics = app.metrics().await;
    assert!((metrics["birdwire_attempts_total{outcome=\"delivered\",subscriber=\"crm\"}"] - 2.0).abs() < 0.1);
    assert!(metrics["birdwire_owed{subscriber=\"crm\"}"].abs() < 0.1);
    app.finish().await;
    assert!(subscriber.is_idle(), "and once");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_repeated_webhook_is_one_message() {
    let mut subscriber = FakeSubscriber::good().await;
    let app = TestApp::with(&subscriber).await;
    for _ in 0..3 {
        app.accept(&payload("m1", "U1", "once")).await;
    }
    app.accept(&payload("m2", "U1", "last")).await;
    let mut texts = Vec::new();
    for _ in 0..3 {
        texts.push(text(&subscriber.next().await));
    }
    assert_eq!(texts, ["", "once", "last"]);
    app.finish().await;
    assert!(subscriber.is_idle());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failing_subscriber_gets_everything_in_order_and_under_the_same_ids() {
    let script = [
        Reaction::Status(500),
        Reaction::Cut,
        Reaction::Status(404),
        Reaction::Status(200),
        Reaction::Status(429),
        Reaction::Status(204),
    ];
    let mut subscriber = FakeSubscriber::start(&script).await;
    let app = TestApp::with(&subscriber).await;
    for number in 1..=3 {
        app.accept(&payload(&format!("m{number}"), "U1", &format!("text {number}"))).await;
    }
    let mut requests = Vec::new();
    for _ in 0..7 {
        requests.push(subscriber.next().await);
    }
    let sequences: Vec<&str> = requests.iter().map(|request| request.header("x-birdwire-sequence")).collect();
    assert_eq!(sequences, ["1", "1", "1", "1", "2", "2", "3"]);
    for pair in requests.windows(2) {
        let same = pair[0].header("x-birdwire-sequence") == pair[1].header("x-birdwire-sequence");
        assert_eq!(pair[0].header("webhook-id") == pair[1].header("webhook-id"), same);
        assert_eq!(pair[0].body == pair[1].body, same);
    }
    requests.iter().for_each(check_signatures);
    assert_eq!(subscriber.next().await.header("x-birdwire-sequence"), "4");
    let done = app.until(|all| all.iter().all(|d| d.row.state == State::Delivered)).await;
    let reasons: Vec<&str> = done[0].attempts.iter().map(|a| &*a.reason).collect();
    assert_eq!(reasons, ["server error", "connection broken", "client error", "delivered"]);
    app.finish().await;
    assert!(subscriber.is_idle());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn subscribers_get_what_they_want_and_do_not_wait_for_each_other() {
    let mut all = FakeSubscriber::good().await;
    let mut some = FakeSubscriber::good().await;
    let mut other = FakeSubscriber::good().await;
    let stuck = FakeSubscriber::start(&[Reaction::Hang]).await;
    let subscribers = [
        block("all", &all.url("/"), ""),
        block("some", &some.url("/"), "events = [\"conversation_message_*\"]"),
        block("other", &other.url("/"), &format!("accounts = [\"{}\"]\norder = \"none\"", super::OTHER)),
        block("stuck", &stuck.url("/"), ""),
    ];
    let delivery = "attempt_timeout = \"1s\"\nlease = \"10s\"";
    let app = TestApp::start(Setup { subscribers: subscribers.concat(), delivery, ..Setup::default() }).await;
    app.accept(&payload("m1", "U1", "hello")).await;
    assert_eq!(kind(&all.next().await), "conversation_created");
    assert_eq!(kind(&all.next().await), "conversation_message_created");
    let request = some.next().await;
    assert_eq!((kind(&request), request.header("x-birdwire-sequence")), ("conversation_message_created".into(), "1"));
    // One account's events are not another one's.
    let body = payload("m1", "U1", "to the other");
    let url = &app.config.accounts[1].webhook_url;
    let headers = super::sign(&format!("other-{}", super::KEY), url, &body, 0);
    let path = format!("/v1.0/conversation/accounts/{}", super::OTHER);
    assert_eq!(super::exchange(app.addr, "POST", &path, &headers, &body).await.status, 200);
    let mut kinds = [kind(&other.next().await), kind(&other.next().await)];
    kinds.sort();
    assert_eq!(kinds, ["conversation_created", "conversation_message_created"]);
    app.finish().await;
    assert!(other.is_idle());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn gone_means_disabled_until_somebody_enables_it_again() {
    let mut subscriber = FakeSubscriber::start(&[Reaction::Status(410)]).await;
    let app = TestApp::with(&subscriber).await;
    app.accept(&payload("m1", "U1", "hello")).await;
    subscriber.next().await;
    app.until(|all| all[0].row.attempts == 1).await;
    app.accept(&payload("m2", "U2", "another conversation")).await;
    let store = app.beside().await;
    let backlog = store.backlog().await.unwrap().remove(0);
    assert_eq!(backlog.owed, 4, "what it is owed stays owed");
    assert!(backlog.subscriber.disabled.unwrap().1.contains("410"));
    assert!((app.metrics().await["birdwire_subscriber_disabled{subscriber=\"crm\"}"] - 1.0).abs() < 0.1);
    assert_eq!(subscriber.connections(), 1);
    // As the command does, beside the gateway.
    assert!(store.enable(&SubscriberId("crm".to_owned()), Timestamp::EPOCH).await.unwrap());
    store.close().await;
    for _ in 0..4 {
        subscriber.next().await;
    }
    app.until(|all| all.iter().all(|d| d.row.state == State::Delivered)).await;
    app.finish().await;
}

/// Whoever was removed on purpose wakes nobody; that something is kept for it is still to be seen.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_subscriber_that_is_not_configured_raises_no_alarm() {
    let subscriber = FakeSubscriber::start(&[Reaction::Status(410)]).await;
    let app = TestApp::with(&subscriber).await;
    app.accept(&payload("m1", "U1", "hello")).await;
    app.until(|all| all[0].row.attempts == 1).await;
    let series = ["disabled", "oldest_owed_seconds", "owed"].map(|name| match name {
        "disabled" => "birdwire_subscriber_disabled{subscriber=\"crm\"}".to_owned(),
        name => format!("birdwire_{name}{{subscriber=\"crm\"}}"),
    });
    let told = |metrics: &BTreeMap<String, f64>| series.each_ref().map(|name| metrics.contains_key(name));
    assert_eq!(told(&app.metrics().await), [true; 3]);
    let app = app.restart(Setup::default()).await;
    let metrics = app.metrics().await;
    assert_eq!(told(&metrics), [false, false, true]);
    assert!((metrics[&series[2]] - 2.0).abs() < 0.1);
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replay_is_sent_again_and_says_so() {
    let mut subscriber = FakeSubscriber::good().await;
    let app = TestApp::with(&subscriber).await;
    app.accept(&payload("m1", "U1", "hello")).await;
    let first = subscriber.next().await;
    subscriber.next().await;
    let done = app.until(|all| all.iter().all(|d| d.row.state == State::Delivered)).await;
    let store = app.beside().await;
    let now = (birdwire::app::system_clock())();
    store.replay(ReplayOf::Deliveries(vec![done[0].row.id]), now).await.unwrap();
    store.close().await;
    let again = subscriber.next().await;
    check_signatures(&again);
    assert_eq!(again.header("x-birdwire-replay"), "true");
    for header in ["webhook-id", "x-birdwire-sequence", "x-birdwire-lane", "x-voipbin-signature"] {
        assert_eq!(again.header(header), first.header(header), "{header}");
    }
    assert_eq!(again.body, first.body);
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_letter_does_not_stop_its_conversation() {
    let mut script = vec![Reaction::Status(500); 400];
    script[0] = Reaction::Status(200);
    let mut subscriber = FakeSubscriber::start(&script).await;
    let subscribers = block("crm", &subscriber.url("/"), "order = \"bounded\"\norder_timeout = \"300ms\"");
    let app = TestApp::start(Setup { subscribers, delivery: "max_retry = \"40ms\"", ..Setup::default() }).await;
    app.accept(&payload("m1", "U1", "one")).await;
    app.until(|all| all.len() == 2 && all[1].row.state == State::Dead).await;
    app.accept(&payload("m2", "U1", "two")).await;
    let all = app.until(|all| all.len() == 3 && all[2].row.state == State::Dead).await;
    assert!(all[1].row.attempts > 2 && all[2].row.attempts > 2);
    let mut sequences = Vec::new();
    for _ in 0..all.iter().map(|d| d.row.attempts).sum::<u32>() {
        sequences.push(subscriber.next().await.header("x-birdwire-sequence").to_owned());
    }
    assert!(sequences.is_sorted() && subscriber.is_idle(), "{sequences:?}");
    assert!((app.metrics().await["birdwire_dead_letters{subscriber=\"crm\"}"] - 2.0).abs() < 0.1);
    app.finish().await;
}
