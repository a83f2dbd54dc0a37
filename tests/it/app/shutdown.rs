//! How the gateway ends: nothing new, what is under way finishes, what cannot is taken up again.

use super::client::answer;
use super::subscriber::{FakeSubscriber, Reaction};
use super::{PATIENCE, Setup, TestApp, block, payload};
use crate::conformance::Engine;
use crate::conformance::servers::Postgres;
use birdwire::domain::delivery::State;
use std::sync::Arc;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_under_way_finishes_and_nothing_new_begins() {
    let gate = Arc::new(Semaphore::new(0));
    let mut subscriber = FakeSubscriber::start(&[Reaction::Gate(gate.clone())]).await;
    let app = TestApp::with(&subscriber).await;
    app.accept(&payload("m1", "U1", "hello")).await;
    subscriber.next().await;
    // A request whose head has begun is under way too.
    let mut asking = TcpStream::connect(app.addr).await.unwrap();
    asking.write_all(b"GET /readyz HTTP/1.1\r\n").await.unwrap();
    app.get("/livez").await;

    app.shutdown.drain.cancel();
    let refused = async { while TcpStream::connect(app.addr).await.is_ok() {} };
    tokio::time::timeout(PATIENCE, refused).await.expect("new connections are still taken");
    asking.write_all(b"host: gw\r\n\r\n").await.unwrap();
    let readiness = answer(&mut asking).await.expect("an answer");
    assert_eq!(readiness.status, 503);
    assert!(readiness.text().contains("draining"), "{}", readiness.text());

    gate.add_permits(1);
    let url = subscriber.url("/");
    let app = app.restart(Setup { subscribers: block("crm", &url, ""), ..Setup::default() }).await;
    let first = &app.deliveries().await[0];
    assert_eq!((first.row.state, first.row.attempts), (State::Delivered, 1), "recorded, and not cut off");
    // The next one was not begun then, and is now.
    assert_eq!(subscriber.next().await.header("x-birdwire-sequence"), "2");
    app.until(|all| all.iter().all(|d| d.row.state == State::Delivered && d.row.attempts == 1)).await;
    app.finish().await;
    assert!(subscriber.is_idle());
}

/// A load balancer hears of the end before anybody is turned away.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readiness_fails_before_the_door_closes() {
    let subscriber = FakeSubscriber::start(&[]).await;
    let subscribers = block("crm", &subscriber.url("/"), "");
    let app = TestApp::start(Setup { server: "drain_delay = \"1500ms\"", subscribers, ..Setup::default() }).await;
    app.shutdown.drain.cancel();
    let began = tokio::time::Instant::now();
    let readiness = app.get("/readyz").await;
    assert_eq!(readiness.status, 503);
    assert!(readiness.text().contains("draining"), "{}", readiness.text());
    app.accept(&payload("m1", "U1", "still taken")).await;
    let refused = async { while TcpStream::connect(app.addr).await.is_ok() {} };
    tokio::time::timeout(PATIENCE, refused).await.expect("new connections are still taken");
    assert!(began.elapsed() >= std::time::Duration::from_millis(1400), "{:?}", began.elapsed());
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_finish_is_cut_off_and_taken_up_again() {
    let mut subscriber = FakeSubscriber::start(&[Reaction::Hang]).await;
    let subscribers = block("crm", &subscriber.url("/"), "");
    let app = TestApp::start(Setup {
        server: "drain_timeout = \"200ms\"",
        subscribers: subscribers.clone(),
        ..Setup::default()
    })
    .await;
    app.accept(&payload("m1", "U1", "hello")).await;
    let cut = subscriber.next().await;
    let mut app = app;
    app.end().await;
    let left = &app.deliveries().await[0];
    assert_eq!((left.row.state, left.row.attempts), (State::Pending, 1), "its lane was given back");
    let app = app.again(Setup { subscribers, ..Setup::default() }).await;
    let again = subscriber.next().await;
    assert_eq!(again.header("webhook-id"), cut.header("webhook-id"), "so that the subscriber can tell");
    let done = app.until(|all| all.iter().all(|d| d.row.state == State::Delivered)).await;
    let reasons: Vec<&str> = done[0].attempts.iter().map(|a| &*a.reason).collect();
    assert_eq!(reasons, ["unknown outcome", "delivered"]);
    app.finish().await;
}

/// Whoever goes on does not wait for the end of a lease of somebody who ended in good order.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_finish_is_taken_up_by_another_node_at_once() {
    let place = Postgres.place();
    let mut subscriber = FakeSubscriber::start(&[Reaction::Hang]).await;
    let setup = |server| Setup {
        server,
        // Longer than anybody here is patient.
        delivery: "lease = \"10m\"",
        subscribers: block("crm", &subscriber.url("/"), ""),
        store: &place.url,
    };
    let first = TestApp::start(setup("drain_timeout = \"200ms\"")).await;
    first.accept(&payload("m1", "U1", "hello")).await;
    let second = TestApp::start(setup("")).await;
    let cut = subscriber.next().await;
    first.finish().await;
    let again = subscriber.next().await;
    assert_eq!(again.header("webhook-id"), cut.header("webhook-id"), "the same one, before the next of its lane");
    let done = second.until(|all| all.iter().all(|d| d.row.state == State::Delivered)).await;
    let reasons: Vec<&str> = done[0].attempts.iter().map(|a| &*a.reason).collect();
    assert_eq!(reasons, ["unknown outcome", "delivered"]);
    second.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_signal_waits_for_nobody() {
    let mut subscriber = FakeSubscriber::start(&[Reaction::Hang]).await;
    let app = TestApp::with(&subscriber).await;
    app.accept(&payload("m1", "U1", "hello")).await;
    subscriber.next().await;
    app.shutdown.drain.cancel();
    app.shutdown.halt.cancel();
    let began = tokio::time::Instant::now();
    app.finish().await;
    assert!(began.elapsed().as_secs() < 10, "half of what the drain may take");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_gateway_on_the_store_is_refused_and_the_first_goes_on() {
    let app = TestApp::bare().await;
    app.get("/livez").await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let clock = birdwire::app::system_clock();
    let second = birdwire::app::serve(&app.config, listener, clock, birdwire::lifecycle::Shutdown::default()).await;
    assert!(second.unwrap_err().to_string().contains("another birdwire serves"));
    app.accept(&payload("m1", "U1", "hello")).await;
    app.finish().await;
}
