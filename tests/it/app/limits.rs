//! What strangers cannot do: send too much, too slowly, or from too many connections.

use super::client::answer;
use super::{ACCOUNT, PATIENCE, Setup, TestApp, payload};
use std::fmt::Write as _;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::Instant;

async fn limited(server: &str) -> TestApp {
    TestApp::start(Setup { server, ..Setup::default() }).await
}

fn head(headers: &[(String, String)], more: &str) -> String {
    let mut head = format!("POST /v1.0/conversation/accounts/{ACCOUNT} HTTP/1.1\r\nhost: gw\r\nconnection: close\r\n");
    for (name, value) in headers {
        write!(head, "{name}: {value}\r\n").unwrap();
    }
    head + more + "\r\n"
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_that_is_too_large_is_refused_so_that_its_sender_hears_it() {
    let app = TestApp::bare().await;
    let body = vec![b'x'; 2 * 1024 * 1024];
    let answer = app.post(&app.signed(&body), &body).await;
    assert_eq!((answer.status, &*answer.body), (413, &b""[..]));
    // The largest one that may be sent is taken.
    let mut body = payload("m1", "U1", "hello");
    body.resize(1024 * 1024, b' ');
    app.accept(&body).await;
    body.push(b' ');
    assert_eq!(app.post(&app.signed(&body), &body).await.status, 413);
    assert_eq!(app.events().await.len(), 1);
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_without_a_length_is_cut_off_too() {
    let app = limited("max_body_bytes = \"64KiB\"").await;
    let mut stream = TcpStream::connect(app.addr).await.unwrap();
    let body = vec![b'x'; 96 * 1024];
    let headers = app.signed(&body);
    stream.write_all(head(&headers, "transfer-encoding: chunked\r\n").as_bytes()).await.unwrap();
    for chunk in body.chunks(1024) {
        stream.write_all(format!("{:x}\r\n", chunk.len()).as_bytes()).await.unwrap();
        stream.write_all(chunk).await.unwrap();
        stream.write_all(b"\r\n").await.unwrap();
    }
    stream.write_all(b"0\r\n\r\n").await.unwrap();
    assert_eq!(answer(&mut stream).await.unwrap().status, 413);

    // And one that fits is taken, in whatever pieces it comes.
    let body = payload("m1", "U1", "hello");
    let mut stream = TcpStream::connect(app.addr).await.unwrap();
    stream.write_all(head(&app.signed(&body), "transfer-encoding: chunked\r\n").as_bytes()).await.unwrap();
    for byte in &body {
        stream.write_all(&[b'1', b'\r', b'\n', *byte, b'\r', b'\n']).await.unwrap();
    }
    stream.write_all(b"0\r\n\r\n").await.unwrap();
    assert_eq!(answer(&mut stream).await.unwrap().status, 200);
    assert_eq!(app.events().await.len(), 1);
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_head_that_never_ends_ends() {
    let app = limited("header_timeout = \"400ms\"").await;
    let mut stream = TcpStream::connect(app.addr).await.unwrap();
    let began = Instant::now();
    let (mut reader, mut writer) = stream.split();
    let drip = async {
        for byte in "POST / HTTP/1.1\r\nx-slow: ".bytes().chain(std::iter::repeat(b'x')) {
            if writer.write_all(&[byte]).await.is_err() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let mut rest = Vec::new();
    tokio::select! {
        () = drip => {}
        _ = reader.read_to_end(&mut rest) => {}
        () = tokio::time::sleep(PATIENCE) => panic!("the connection is still open"),
    }
    assert!(began.elapsed() >= Duration::from_millis(350), "it has its time");
    assert!(began.elapsed() < Duration::from_secs(10), "and no more");
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_never_says_anything_is_closed() {
    let app = limited("header_timeout = \"200ms\"").await;
    let mut stream = TcpStream::connect(app.addr).await.unwrap();
    assert!(answer(&mut stream).await.is_none());
    app.finish().await;
}

/// Idle between requests is no fault: a load balancer that reuses the connection later must find it open. A second
/// head that trickles in is cut off like a first one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idle_connection_outlives_the_time_of_a_head() {
    let app = limited("header_timeout = \"200ms\"").await;
    let mut stream = TcpStream::connect(app.addr).await.unwrap();
    let mut said = [0; 1024];
    for _ in 0..2 {
        stream.write_all(b"GET /livez HTTP/1.1\r\nhost: gw\r\n\r\n").await.unwrap();
        let read = stream.read(&mut said).await.unwrap();
        assert!(String::from_utf8_lossy(&said[..read]).starts_with("HTTP/1.1 200"));
        // Longer than a head may take; nothing must happen meanwhile.
        let silence = tokio::time::timeout(Duration::from_millis(400), stream.read(&mut said)).await;
        assert!(silence.is_err(), "closed while idle: {silence:?}");
    }
    stream.write_all(b"GET /li").await.unwrap();
    let closed = tokio::time::timeout(PATIENCE, stream.read(&mut said)).await.expect("a late head is cut off");
    assert!(matches!(closed, Ok(0) | Err(_)), "{closed:?}");
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_that_never_comes_is_answered() {
    let app = limited("body_timeout = \"200ms\"").await;
    let mut stream = TcpStream::connect(app.addr).await.unwrap();
    let body = payload("m1", "U1", "hello");
    stream
        .write_all(head(&app.signed(&body), &format!("content-length: {}\r\n", body.len())).as_bytes())
        .await
        .unwrap();
    stream.write_all(&body[..10]).await.unwrap();
    assert_eq!(answer(&mut stream).await.unwrap().status, 408);
    // The sender that goes away in the middle is nobody's problem.
    let mut stream = TcpStream::connect(app.addr).await.unwrap();
    stream.write_all(head(&app.signed(&body), "content-length: 1000\r\n").as_bytes()).await.unwrap();
    drop(stream);
    assert_eq!(app.events().await, []);
    app.accept(&body).await;
    app.finish().await;
}

/// The beginning of a large body, signed as a whole, but for its last byte.
async fn unfinished(app: &TestApp, body: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(app.addr).await.unwrap();
    let length = format!("content-length: {}\r\n", body.len());
    stream.write_all(head(&app.signed(body), &length).as_bytes()).await.unwrap();
    stream.write_all(&body[..body.len() - 1]).await.unwrap();
    stream
}

/// The status of an answer, whatever becomes of the connection then.
async fn status(stream: &mut TcpStream) -> String {
    let mut line = [0; 12];
    let read = tokio::time::timeout(PATIENCE, stream.read_exact(&mut line)).await.expect("no answer");
    read.expect("a status");
    String::from_utf8(line[9..].to_vec()).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unfinished_bodies_keep_no_usual_webhook_away() {
    let app = limited("max_body_bytes = \"64KiB\"\nqueue_bytes = \"64KiB\"").await;
    let mut large = payload("large", "U1", "hello");
    large.resize(64 * 1024, b' ');
    // Two of them are more than may be arriving: one is turned away, whichever is later.
    let (mut one, mut two) = (unfinished(&app, &large).await, unfinished(&app, &large).await);
    let (refused, is_one) = tokio::select! {
        refused = status(&mut one) => (refused, true),
        refused = status(&mut two) => (refused, false),
    };
    let mut kept = if is_one { two } else { one };
    assert_eq!(refused, "503");
    assert!((app.metrics().await["birdwire_webhooks_total{outcome=\"overloaded\"}"] - 1.0).abs() < 0.1);
    // Who is not known to be anybody must not turn the gateway out of a load balancer either.
    assert_eq!(app.get("/readyz").await.text(), "ready\n");
    app.accept(&payload("m1", "U1", "hello")).await;
    let mut usual = payload("m2", "U1", "hello");
    usual.resize(16 * 1024, b' ');
    app.accept(&usual).await;
    kept.write_all(&large[large.len() - 1..]).await.unwrap();
    assert_eq!(answer(&mut kept).await.unwrap().status, 200, "what has its place keeps it");
    app.accept(&large).await;
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_does_not_fit_is_told_to_come_back() {
    let app = limited("max_body_bytes = \"8KiB\"\nqueue_bytes = \"8KiB\"\ncommit_timeout = \"20s\"").await;
    let padded = |id: &str| {
        let mut body = payload(id, "U1", "hello");
        body.resize(5 * 1024, b' ');
        body
    };
    app.accept(&payload("m0", "U1", "hello")).await;
    // From now on nothing can be committed: what comes waits.
    let path = app.config.store.url.strip_prefix("sqlite:").unwrap();
    let holder = rusqlite::Connection::open(path).unwrap();
    holder.busy_timeout(PATIENCE).unwrap();
    holder.execute_batch("BEGIN IMMEDIATE").unwrap();
    let (one, two) = (padded("m1"), padded("m2"));
    let (one_signed, two_signed) = (app.signed(&one), app.signed(&two));
    let post = |headers, body| Box::pin(app.post(headers, body));
    let (mut one, mut two) = (post(&one_signed, &one), post(&two_signed, &two));
    let (refused, is_one) = tokio::select! {
        refused = &mut one => (refused, true),
        refused = &mut two => (refused, false),
    };
    let (done, waiting) = if is_one { (one, two) } else { (two, one) };
    drop(done);
    assert_eq!((refused.status, refused.header("retry-after")), (503, Some("1")));
    // Only who is known to be the provider takes room, or is told that there is none.
    assert_eq!(app.post(&[], &padded("m3")).await.status, 401);
    holder.execute_batch("ROLLBACK").unwrap();
    assert_eq!(waiting.await.status, 200, "what has its place keeps it");
    let readiness = app.get("/readyz").await;
    assert_eq!(readiness.status, 503);
    assert!(
        readiness.text().contains("could not be kept") && readiness.text().contains("full"),
        "{}",
        readiness.text()
    );
    app.accept(&payload("again", "U1", "hello")).await;
    assert!(app.metrics().await["birdwire_webhooks_total{outcome=\"overloaded\"}"] >= 1.0);
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn further_connections_wait() {
    let app = limited("max_connections = 2").await;
    let mut held = Vec::new();
    for _ in 0..2 {
        let mut stream = TcpStream::connect(app.addr).await.unwrap();
        stream.write_all(b"GET /livez HTTP/1.1\r\nhost: gw\r\n\r\n").await.unwrap();
        let mut byte = [0];
        stream.read_exact(&mut byte).await.unwrap();
        held.push(stream);
    }
    let mut third = TcpStream::connect(app.addr).await.unwrap();
    third.write_all(b"GET /livez HTTP/1.1\r\nhost: gw\r\nconnection: close\r\n\r\n").await.unwrap();
    let waits = tokio::time::timeout(Duration::from_millis(300), third.readable()).await;
    assert!(waits.is_err(), "it was served beside the two");
    held.pop();
    assert_eq!(answer(&mut third).await.unwrap().status, 200);
    drop(held);
    app.finish().await;
}

/// A connection that was answered and stays open.
async fn answered(app: &TestApp) -> TcpStream {
    let mut stream = TcpStream::connect(app.addr).await.unwrap();
    ask(&mut stream).await;
    stream
}

/// Asks on a connection that is open.
async fn ask(stream: &mut TcpStream) {
    stream.write_all(b"GET /livez HTTP/1.1\r\nhost: gw\r\n\r\n").await.unwrap();
    let mut said = Vec::new();
    while !said.ends_with(b"alive\n") {
        let mut some = [0; 1024];
        let count = tokio::time::timeout(PATIENCE, stream.read(&mut some)).await.expect("an answer").unwrap();
        assert_ne!(count, 0, "it was closed");
        said.extend_from_slice(&some[..count]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn idle_connections_make_room_and_those_at_work_do_not() {
    let app = limited("max_connections = 4\nheader_timeout = \"60s\"\nbody_timeout = \"60s\"").await;
    let body = payload("m1", "U1", "hello");
    let mut arriving = unfinished(&app, &body).await;
    let mut beginning = answered(&app).await;
    beginning.write_all(b"GET /livez HTTP/1.1\r\n").await.unwrap();
    let _idle = (answered(&app).await, answered(&app).await);
    let mut open = Vec::new();
    for _ in 0..3 {
        // They stay open as well, and make room in their turn.
        let began = Instant::now();
        open.push(answered(&app).await);
        assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    }
    arriving.write_all(&body[body.len() - 1..]).await.unwrap();
    assert_eq!(answer(&mut arriving).await.unwrap().status, 200);
    beginning.write_all(b"host: gw\r\nconnection: close\r\n\r\n").await.unwrap();
    assert_eq!(answer(&mut beginning).await.unwrap().status, 200);
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_asks_before_sending_is_answered_at_once() {
    let app = TestApp::bare().await;
    let body = payload("m1", "U1", "hello");
    let expecting = |length: usize| format!("content-length: {length}\r\nexpect: 100-continue\r\n");
    let too_large = head(&app.signed(&body), &expecting(2 * 1024 * 1024));
    let unknown = head(&app.signed(&body), &expecting(body.len())).replace(ACCOUNT, &ACCOUNT.replace('6', "7"));
    for (head, status) in [(too_large, 413), (unknown, 404)] {
        let mut stream = TcpStream::connect(app.addr).await.unwrap();
        stream.write_all(head.as_bytes()).await.unwrap();
        assert_eq!(answer(&mut stream).await.unwrap().status, status);
    }
    // What is wanted is asked for.
    let mut stream = TcpStream::connect(app.addr).await.unwrap();
    stream.write_all(head(&app.signed(&body), &expecting(body.len())).as_bytes()).await.unwrap();
    let mut go_on = [0; 25];
    stream.read_exact(&mut go_on).await.unwrap();
    assert_eq!(&go_on, b"HTTP/1.1 100 Continue\r\n\r\n");
    stream.write_all(&body).await.unwrap();
    assert_eq!(answer(&mut stream).await.unwrap().status, 200);
    app.finish().await;
}
