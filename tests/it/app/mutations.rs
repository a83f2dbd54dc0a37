//! What strangers and versions do to payloads, over HTTP and signed: nothing is refused, nothing breaks, and the
//! account of events adds up.

use super::client::exchange;
use super::{ACCOUNT, KEY, Setup, TestApp, line, sign};
use crate::cli;
use crate::mutants::{mutated, seeds};
use std::collections::BTreeMap;
use tokio::task::JoinSet;

const LINE: &str = "6f1f0f4e-2f6c-4d5e-9a51-0a4c5b0c9a11";
const SECRET: &str = "00112233445566778899aabbccddeeff";
const CASES: usize = 1500;
const AT_ONCE: usize = 50;

/// How many events are in each state, as the metrics say.
async fn counted(app: &TestApp) -> BTreeMap<String, usize> {
    let mut counted = BTreeMap::new();
    for (name, value) in app.metrics().await {
        if let Some((_, state)) = name.strip_prefix("birdwire_events_total{").and_then(|l| l.split_once("state=\"")) {
            let count: usize = format!("{value}").parse().unwrap();
            *counted.entry(state.split('"').next().unwrap().to_owned()).or_default() += count;
        }
    }
    counted.retain(|_, count| *count > 0);
    counted
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mutated_payloads_are_all_taken_and_add_up() {
    let app = TestApp::start(Setup { subscribers: line::accounts(&[LINE]), ..Setup::default() }).await;
    let mut random = fastrand::Rng::with_seed(20_260_102);
    let (of_line, of_bird) = (seeds("line"), seeds("bird"));
    assert!(counted(&app).await.is_empty());
    let mut requests = Vec::new();
    for case in 0..CASES / AT_ONCE {
        let mut posts = JoinSet::new();
        for number in 0..AT_ONCE {
            let is_line = random.bool();
            let seeds = if is_line { &of_line } else { &of_bird };
            let body = mutated(&seeds[random.usize(..seeds.len())], &mut random);
            let (account, mut headers) = if is_line {
                (LINE, line::signed(SECRET, &body))
            } else {
                (ACCOUNT, sign(KEY, &app.config.accounts[0].webhook_url, &body, 0))
            };
            let id = format!("case-{case}-{number}");
            headers.push(("x-request-id".to_owned(), id.clone()));
            requests.push(id);
            let (addr, path) = (app.addr, format!("/v1.0/conversation/accounts/{account}"));
            posts.spawn(async move { (exchange(addr, "POST", &path, &headers, &body).await.status, body) });
        }
        for (status, body) in posts.join_all().await {
            assert_eq!(status, 200, "{}", String::from_utf8_lossy(&body));
        }
    }
    let config = app.config_file();
    let rows = cli::say(&["events", "--json", "--limit", "1000000", "--config", config.to_str().unwrap()]).json();
    let mut listed: BTreeMap<String, usize> = BTreeMap::new();
    let mut of_request: BTreeMap<&str, usize> = BTreeMap::new();
    for row in &rows {
        *listed.entry(row["state"].as_str().unwrap().to_owned()).or_default() += 1;
        *of_request.entry(row["request_id"].as_str().unwrap()).or_default() += 1;
    }
    assert_eq!(counted(&app).await, listed);
    for request in &requests {
        assert!(of_request.contains_key(&**request), "{request} has no row");
    }
    assert_eq!(of_request.len(), CASES);
    for state in ["stored", "quarantined", "ignored", "duplicate"] {
        assert!(listed.contains_key(state), "nothing is {state}: the cases are too tame");
    }
    app.finish().await;
}
