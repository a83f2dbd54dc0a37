//! LINE without anybody between, over HTTP: what is posted, repeated and mixed, and how its way is found again.

use super::client::exchange;
use super::subscriber::{FakeSubscriber, Reaction};
use super::{Setup, TestApp, block};
use crate::cli;
use birdwire::app::system_clock;
use birdwire::domain::delivery::State;
use birdwire::domain::event::End;
use birdwire::domain::secret::Secret;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::path::Path;
use tokio::task::JoinSet;

/// Two accounts on one channel.
const SHOP: &str = "6f1f0f4e-2f6c-4d5e-9a51-0a4c5b0c9a11";
const BRANCH: &str = "6f1f0f4e-2f6c-4d5e-9a51-0a4c5b0c9a12";
const CHANNEL: &str = "00112233445566778899aabbccddeeff";

pub(super) fn accounts(ids: &[&str]) -> String {
    let block = |id: &&str| {
        format!(
            "[[accounts]]\nid = \"{id}\"\ncustomer_id = \"5e4a0680-804e-11ec-8477-2fea5968d85b\"\nname = \"Shop\"\n\
             provider = \"line\"\ntype = \"line\"\nchannel_secrets = [\"{CHANNEL}\"]\n"
        )
    };
    ids.iter().map(block).collect()
}

async fn start(ids: &[&str], subscriber: &FakeSubscriber) -> TestApp {
    let subscribers = accounts(ids) + &block("crm", &subscriber.url("/hook"), "events = [\"*\"]");
    TestApp::start(Setup { subscribers, ..Setup::default() }).await
}

pub(super) fn signed(secret: &str, body: &[u8]) -> Vec<(String, String)> {
    let provider = birdwire::adapter::provider("line").unwrap();
    let headers = (provider.sign)(&Secret::new(secret), "", body, (system_clock())());
    headers.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

async fn post(app: &TestApp, account: &str, secret: &str, body: &[u8]) -> u16 {
    let path = format!("/v1.0/conversation/accounts/{account}");
    exchange(app.addr, "POST", &path, &signed(secret, body), body).await.status
}

async fn accept(app: &TestApp, account: &str, body: &Value) {
    assert_eq!(post(app, account, CHANNEL, body.to_string().as_bytes()).await, 200);
}

fn webhook(events: &[Value]) -> Value {
    json!({"destination": "U8e742f61d673b39c7fff3cecb7536ef0", "events": events})
}

fn text(event: &str, message: &str, user: &str, text: &str) -> Value {
    json!({
        "type": "message", "mode": "active", "timestamp": 1_760_000_000_000_i64, "webhookEventId": event,
        "deliveryContext": {"isRedelivery": false}, "source": {"type": "user", "userId": user},
        "message": {"id": message, "type": "text", "text": text},
    })
}

async fn states(app: &TestApp) -> Vec<&'static str> {
    app.events().await.iter().map(|event| event.end.state()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_line_fixture_is_taken_over_http() {
    let subscriber = FakeSubscriber::good().await;
    let app = start(&[SHOP], &subscriber).await;
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/line");
    let mut wanted = 0;
    for case in std::fs::read_dir(folder).unwrap() {
        let body = std::fs::read(case.unwrap().path().join("request.json")).unwrap();
        assert_eq!(post(&app, SHOP, CHANNEL, &body).await, 200);
        // Half a surrogate pair is none for this reader, but an event nevertheless.
        let readable = String::from_utf8_lossy(&body).to_lowercase().replace("\\ud", "\\u0");
        let events = serde_json::from_str::<Value>(&readable).ok().and_then(|b| Some(b["events"].as_array()?.len()));
        wanted += events.unwrap_or(1).max(1);
    }
    assert_eq!(app.events().await.len(), wanted, "every event has an end");
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_the_channel_s_own_signature_opens() {
    let subscriber = FakeSubscriber::good().await;
    let app = start(&[SHOP], &subscriber).await;
    let empty = webhook(&[]).to_string();
    for (secret, status) in [(CHANNEL, 200), ("00112233445566778899aabbccddeefe", 401)] {
        assert_eq!(post(&app, SHOP, secret, empty.as_bytes()).await, status);
        let path = format!("/v1.0/conversation/accounts/{SHOP}");
        let other = signed(secret, b"another body");
        assert_eq!(exchange(app.addr, "POST", &path, &other, empty.as_bytes()).await.status, 401);
        assert_eq!(exchange(app.addr, "POST", &path, &[], empty.as_bytes()).await.status, 401);
    }
    assert_eq!(states(&app).await, ["ignored"], "the console's test of the address is one");
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_event_is_one_message_however_it_comes() {
    let mut subscriber = FakeSubscriber::good().await;
    let app = start(&[SHOP], &subscriber).await;
    let first = text("E1", "1", "U1", "hello");
    accept(&app, SHOP, &webhook(&[first.clone(), text("E2", "2", "U2", "mixed in")])).await;
    let mut again = first.clone();
    again["deliveryContext"]["isRedelivery"] = true.into();
    accept(&app, SHOP, &webhook(&[again])).await;
    accept(&app, SHOP, &webhook(&[text("E3", "3", "U1", "new"), first])).await;
    assert_eq!(states(&app).await, ["stored", "stored", "duplicate", "stored", "duplicate"]);

    let body = webhook(&[text("E4", "4", "U3", "at once")]).to_string().into_bytes();
    let (addr, headers) = (app.addr, signed(CHANNEL, &body));
    let mut posts = JoinSet::new();
    for _ in 0..100 {
        let (headers, body, path) = (headers.clone(), body.clone(), format!("/v1.0/conversation/accounts/{SHOP}"));
        posts.spawn(async move { exchange(addr, "POST", &path, &headers, &body).await.status });
    }
    assert!(posts.join_all().await.iter().all(|status| *status == 200));
    let ends: Vec<End> = app.events().await.into_iter().skip(5).map(|event| event.end).collect();
    assert_eq!((ends.len(), ends.iter().filter(|end| **end == End::Stored).count()), (100, 1));

    let found = app.until(|found| found.len() == 7 && found.iter().all(|d| d.row.state == State::Delivered)).await;
    assert_eq!(found.iter().map(|d| d.row.conversation).collect::<BTreeSet<_>>().len(), 3);
    let mut texts = BTreeSet::new();
    for _ in 0..7 {
        let body: Value = serde_json::from_slice(&subscriber.next().await.body).unwrap();
        texts.extend(body["data"]["text"].as_str().map(str::to_owned));
    }
    assert_eq!(texts, BTreeSet::from(["hello", "mixed in", "new", "at once"].map(str::to_owned)));
    assert!(subscriber.is_idle());
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn accounts_on_one_channel_share_nothing() {
    let subscriber = FakeSubscriber::good().await;
    let app = start(&[SHOP, BRANCH], &subscriber).await;
    let hello = webhook(&[text("E1", "1", "U1", "hello")]);
    for account in [SHOP, BRANCH] {
        accept(&app, account, &hello).await;
    }
    let unsend = json!({"type": "unsend", "timestamp": 1_760_000_001_000_i64, "webhookEventId": "E2",
        "source": {"type": "user", "userId": "U1"}, "unsend": {"messageId": "1"}});
    accept(&app, SHOP, &webhook(&[unsend])).await;
    assert_eq!(states(&app).await, ["stored"; 3]);
    let found = app.until(|found| found.len() == 5).await;
    let conversations: BTreeSet<_> = found.iter().map(|d| d.row.conversation).collect();
    let ids: BTreeSet<_> = found.iter().map(|d| d.row.event_id).collect();
    assert_eq!((conversations.len(), ids.len()), (2, 5));
    let of = |d: &&birdwire::store::listing::DeliveryDetail| d.row.event_type == "conversation_message_created";
    let created: Vec<_> = found.iter().filter(of).collect();
    assert!(created[0].body.is_empty(), "taken back from one");
    let other: Value = serde_json::from_slice(&created[1].body).unwrap();
    assert_eq!(other["data"]["text"], "hello", "and not from the other");
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn the_way_of_a_message_is_found_by_every_id() {
    // The conversation goes through; the message fails twice.
    let script = [200, 500, 503].map(Reaction::Status);
    let mut subscriber = FakeSubscriber::start(&script).await;
    let app = start(&[SHOP], &subscriber).await;
    accept(&app, SHOP, &webhook(&[text("01EVENT", "600000000000000001", "U1", "hello")])).await;
    accept(&app, SHOP, &webhook(&[text("01EVENT", "600000000000000001", "U1", "hello")])).await;
    app.until(|found| found.len() == 2 && found.iter().all(|d| d.row.state == State::Delivered)).await;
    let bird = super::payload("0B7F2B0E-6a1c-4a53-9d0b-2f6f4f9b2001", "U1", "through Bird");
    app.accept(&bird).await;
    app.until(|found| found.len() == 4 && found.iter().all(|d| d.row.state == State::Delivered)).await;
    let (mut id, mut webhook_id) = (String::new(), String::new());
    for _ in 0..6 {
        let request = subscriber.next().await;
        let body: Value = serde_json::from_slice(&request.body).unwrap();
        if body["data"]["text"] == "hello" {
            body["data"]["id"].as_str().unwrap().clone_into(&mut id);
            request.header("webhook-id").clone_into(&mut webhook_id);
        }
    }
    // Whoever looks needs no secrets.
    let config = app.config_file();
    let written = std::fs::read_to_string(&config).unwrap();
    let looking = config.with_file_name("looking.toml");
    std::fs::write(&looking, written.replace(CHANNEL, "env:BIRDWIRE_TEST_NOT_SET")).unwrap();
    let trace = |id: &str| cli::say(&["trace", id, "--json", "--config", looking.to_str().unwrap()]);
    let found = trace(&id).json();
    assert_eq!((found.len(), found[0]["message"].as_str()), (1, Some(&*id)));
    let steps = found[0]["steps"].as_array().unwrap();
    let whats: Vec<&str> = steps.iter().map(|step| step["what"].as_str().unwrap()).collect();
    let stored = ["received", "verified", "mapped", "stored", "received", "verified", "duplicate", "owed"];
    assert_eq!(whats, [&stored[..], &["attempt", "attempt", "attempt", "delivered"]].concat());
    let statuses: Vec<i64> = steps.iter().filter_map(|step| step["status"].as_i64()).collect();
    assert_eq!(statuses, [500, 503, 200]);
    assert!(steps.iter().filter(|step| step["what"] == "attempt").all(|s| s["detail"] != "" && s["at"].is_string()));
    for other in [&*webhook_id, "600000000000000001", "01EVENT", &id.to_uppercase()] {
        assert_eq!(trace(other).json(), found, "{other}");
    }
    let through_bird = trace("0b7f2b0e-6a1c-4a53-9d0b-2f6f4f9b2001").json();
    assert_eq!(through_bird.len(), 1);
    assert_eq!(trace("0B7F2B0E-6A1C-4A53-9D0B-2F6F4F9B2001").json(), through_bird);
    let unknown = trace("600000000000000002");
    assert_eq!((unknown.code, &*unknown.out), (1, ""));
    let plain = cli::say(&["trace", "01EVENT", "--config", config.to_str().unwrap()]);
    assert_eq!((plain.code, plain.out.contains("hello")), (0, false), "never what it says: {}", plain.out);
    app.finish().await;
}
