//! What a provider sees: what is taken, what is refused, and with which bare status.

use super::client::exchange;
use super::{ACCOUNT, KEY, OTHER, TestApp, payload, sign};
use birdwire::domain::event::End;
use std::path::Path;

const PATH: &str = "/v1.0/conversation/accounts/";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_the_providers_is_refused_and_leaves_nothing() {
    let app = TestApp::bare().await;
    let body = payload("m1", "U1", "hello");
    let url = app.config.accounts[0].webhook_url.clone();
    let good = app.signed(&body);
    let mut twice = good.clone();
    twice.push(good[0].clone());
    let refused = [
        ("no header", Vec::new(), body.clone()),
        ("one header", good[..1].to_vec(), body.clone()),
        ("a header twice", twice, body.clone()),
        ("another key", sign("other", &url, &body, 0), body.clone()),
        ("another account's url", sign(KEY, &app.config.accounts[1].webhook_url, &body, 0), body.clone()),
        ("another body", good, payload("m2", "U1", "hello")),
        ("too old", sign(KEY, &url, &body, -49 * 3600), body.clone()),
        ("too new", sign(KEY, &url, &body, 49 * 3600), body.clone()),
    ];
    for (what, headers, body) in &refused {
        let answer = app.post(headers, body).await;
        assert_eq!((answer.status, &*answer.body), (401, &b""[..]), "{what}");
    }
    assert_eq!(app.events().await, []);
    let metrics = app.metrics().await;
    assert!((metrics["birdwire_webhooks_total{outcome=\"unverified\"}"] - 8.0).abs() < 0.1);
    for (reason, count) in [("missing_header", 3.0), ("bad_signature", 3.0), ("stale", 2.0)] {
        let found = metrics[&format!("birdwire_webhooks_unverified_total{{reason=\"{reason}\"}}")];
        assert!((found - count).abs() < 0.1, "{reason}: {found}");
    }
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn old_webhooks_are_taken_within_two_days() {
    let app = TestApp::bare().await;
    let url = app.config.accounts[0].webhook_url.clone();
    let body = payload("m1", "U1", "hello");
    assert_eq!(app.post(&sign(KEY, &url, &body, -47 * 3600), &body).await.status, 200);
    assert_eq!(app.events().await.len(), 1);
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_else_has_an_address_here() {
    let app = TestApp::bare().await;
    let body = payload("m1", "U1", "hello");
    let headers = app.signed(&body);
    for account in ["00000000-0000-0000-0000-000000000000", "no-uuid", "%ff", &ACCOUNT[1..]] {
        let answer = exchange(app.addr, "POST", &format!("{PATH}{account}"), &headers, &body).await;
        assert_eq!((answer.status, &*answer.body), (404, &b""[..]), "{account}");
    }
    // A signature is good for its own account only.
    let answer = exchange(app.addr, "POST", &format!("{PATH}{OTHER}"), &headers, &body).await;
    assert_eq!(answer.status, 401);
    assert_eq!(exchange(app.addr, "POST", &format!("{PATH}{ACCOUNT}/more"), &headers, &body).await.status, 404);
    for method in ["GET", "PUT", "DELETE"] {
        let answer = exchange(app.addr, method, &format!("{PATH}{ACCOUNT}"), &headers, &body).await;
        assert_eq!(answer.status, 405, "{method}");
        assert!(answer.text().contains("METHOD_NOT_ALLOWED") && answer.header("allow").is_some());
    }
    let answer = app.get("/nowhere").await;
    let error: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
    assert_eq!((answer.status, &error["error"]["status"]), (404, &"NOT_FOUND".into()));
    assert_eq!(error["error"]["request_id"].as_str(), answer.header("x-request-id"));
    assert_eq!(app.events().await, []);
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_authentic_is_never_refused() {
    let app = TestApp::bare().await;
    let garbage: [&[u8]; 6] =
        [b"", b"{", b"\xff\xfe\x00", b"[]", b"null", br#"{"event":"whatsapp.inbound","payload":{}}"#];
    for body in garbage {
        app.accept(body).await;
    }
    let events = app.events().await;
    assert_eq!(events.len(), garbage.len());
    assert!(events.iter().all(|event| matches!(event.end, End::Quarantined(_))), "{events:?}");
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_account_of_events_adds_up() {
    let app = TestApp::bare().await;
    let first = payload("m1", "U1", "hello");
    app.accept(&first).await;
    app.accept(&first).await;
    app.accept(&payload("m2", "U1", "hello")).await;
    let conflicting = String::from_utf8(first).unwrap().replace("05.678Z", "06.678Z").into_bytes();
    app.accept(&conflicting).await;
    app.accept(b"garbage").await;
    let metrics = app.metrics().await;
    let count = |name: &str| metrics.get(name).copied().unwrap_or_default();
    let of_state =
        |state: &str, reason: &str| count(&format!("birdwire_events_total{{reason=\"{reason}\",state=\"{state}\"}}"));
    let counts = [of_state("stored", ""), of_state("duplicate", ""), of_state("quarantined", "unreadable")];
    assert_eq!(counts.map(|n| format!("{n}")), ["2", "2", "1"]);
    assert!((count("birdwire_event_conflicts_total") - 1.0).abs() < 0.1);
    assert!((count("birdwire_webhooks_total{outcome=\"committed\"}") - 5.0).abs() < 0.1);
    assert!((count("birdwire_webhook_seconds_count") - 5.0).abs() < 0.1);
    assert_eq!(app.events().await.len(), 5);
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_at_once_are_all_taken_once() {
    let app = TestApp::bare().await;
    let mut posts = tokio::task::JoinSet::new();
    for number in 0..100 {
        let body = payload(&format!("m{}", number % 50), &format!("U{}", number % 7), "hello");
        let (addr, headers) = (app.addr, app.signed(&body));
        posts.spawn(async move { exchange(addr, "POST", &format!("{PATH}{ACCOUNT}"), &headers, &body).await.status });
    }
    assert!(posts.join_all().await.iter().all(|status| *status == 200));
    let events = app.events().await;
    assert_eq!(events.len(), 100);
    assert_eq!(events.iter().filter(|event| event.end == End::Stored).count(), 50);
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_fixture_is_taken_over_http() {
    let app = TestApp::bare().await;
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/bird");
    let mut count = 0;
    for case in std::fs::read_dir(folder).unwrap() {
        app.accept(&std::fs::read(case.unwrap().path().join("request.json")).unwrap()).await;
        count += 1;
    }
    assert_eq!(app.events().await.len(), count);
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_has_one_id_everywhere() {
    let app = TestApp::bare().await;
    let body = payload("m1", "U1", "hello");
    let with = |id: &str| {
        let mut headers = app.signed(&body);
        headers.push(("X-Request-Id".to_owned(), id.to_owned()));
        headers
    };
    let answer = app.post(&with("their-own_id-1"), &body).await;
    assert_eq!((answer.status, answer.header("x-request-id")), (200, Some("their-own_id-1")));
    let answer = app.post(&with("not / usable"), &body).await;
    let ours = answer.header("x-request-id").unwrap().to_owned();
    assert!(ours.starts_with("req_") && ours.len() == 30, "{ours}");
    let ids: Vec<String> = app.events().await.into_iter().map(|event| event.request_id).collect();
    assert_eq!(ids, ["their-own_id-1", &ours]);
    assert_ne!(app.get("/livez").await.header("x-request-id"), app.get("/livez").await.header("x-request-id"));
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_is_alive_and_ready() {
    let app = TestApp::bare().await;
    for (path, text) in [("/livez", "alive\n"), ("/readyz", "ready\n")] {
        let answer = app.get(path).await;
        assert_eq!((answer.status, answer.text()), (200, text));
    }
    assert!(app.get("/metrics").await.header("content-type").unwrap().starts_with("text/plain"));
    app.finish().await;
}
