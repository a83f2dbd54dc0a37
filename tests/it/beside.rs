//! What commands say beside a gateway: of subscribers and accounts that it knows or does not, of arguments that are
//! wrong, of a store that is none.

use crate::app::subscriber::{FakeSubscriber, Reaction};
use crate::app::{ACCOUNT, KEY, OTHER, SECRET, Setup, TestApp, payload};
use crate::cli::say;
use crate::conformance::engines::Sqlite;
use crate::conformance::notices::{notice, wants};
use crate::conformance::world::{World, account, note};
use birdwire::domain::delivery::State;
use std::fs;
use std::net::TcpListener;

const NOBODY: &str = "6f1f0f4e-2f6c-4d5e-9a51-0a4c5b0c9aff";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_subscriber_is_shown_with_all_that_is_known_of_it() {
    let subscriber = FakeSubscriber::start(&[Reaction::Status(410)]).await;
    let app = TestApp::with(&subscriber).await;
    app.accept(&payload("m1", "U1", "hello")).await;
    app.until(|all| all[0].row.attempts == 1).await;
    let file = app.config_file();
    let config = ["--config", file.to_str().unwrap()];
    let with = |words: &[&str]| say(&[words, &config].concat());

    let shown = &with(&["subscribers", "show", "crm", "--json"]).json()[0];
    assert_eq!(shown, &with(&["subscribers", "list", "--json"]).json()[0], "as in the list");
    for (name, value) in [("id", "crm"), ("state", "disabled"), ("disabled_reason", "answered 410 Gone")] {
        assert_eq!(shown[name], value);
    }
    assert_eq!((&shown["configured"], &shown["owed"], &shown["dead"]), (&true.into(), &2.into(), &0.into()));
    assert!(shown["oldest_owed"].is_string() && shown["disabled_at"].is_string(), "{shown}");
    let plain = with(&["subscribers", "show", "crm"]);
    assert_eq!((plain.code, plain.out.lines().count()), (0, 8), "{}", plain.out);
    assert!(plain.out.contains("answered 410 Gone"), "{}", plain.out);
    let unknown = with(&["subscribers", "show", "nosuch"]);
    assert_eq!((unknown.code, &*unknown.out, &*unknown.err), (1, "", "birdwire: there is no subscriber nosuch\n"));

    // Whoever is not configured can be seen and enabled, and gets nothing all the same.
    let app = app.restart(Setup::default()).await;
    app.get("/livez").await;
    let shown = &with(&["subscribers", "show", "crm", "--json"]).json()[0];
    assert_eq!((&shown["configured"], &shown["owed"]), (&false.into(), &2.into()));
    let enabled = with(&["subscribers", "enable", "crm"]);
    assert_eq!(enabled.code, 0);
    assert!(enabled.out.contains("not configured") && !enabled.out.contains("is enabled"), "{}", enabled.out);
    assert_eq!(with(&["subscribers", "show", "crm", "--json"]).json()[0]["state"], "unconfigured");
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_unknown_is_named() {
    let subscriber = FakeSubscriber::good().await;
    let app = TestApp::with(&subscriber).await;
    app.accept(&payload("m1", "U1", "hello")).await;
    let app = app.restart(Setup::default()).await;
    app.get("/livez").await;
    let file = app.config_file();
    let other = file.with_file_name("fewer.toml");
    // The first account is gone from it.
    let text = fs::read_to_string(&file).unwrap();
    let (head, accounts) = text.split_once("[[accounts]]").unwrap();
    let (_, second) = accounts.split_once("[[accounts]]").unwrap();
    fs::write(&other, format!("{head}[[accounts]]{second}")).unwrap();
    let other = other.to_str().unwrap();
    let file = file.to_str().unwrap();

    for (words, code) in [
        (["deliveries", "list", "--subscriber", "nosuch", "--config", file], 1),
        (["replay", "--dry-run", "--account", NOBODY, "--config", file], 1),
        // No longer configured, but known.
        (["deliveries", "list", "--subscriber", "crm", "--config", file], 0),
        (["replay", "--dry-run", "--account", ACCOUNT, "--config", other], 0),
        // Configured, and nothing ever came.
        (["replay", "--dry-run", "--account", OTHER, "--config", file], 0),
    ] {
        let said = say(&words);
        assert_eq!((said.code, said.out.is_empty()), (code, code == 1), "{words:?}: {}", said.err);
        assert_eq!(said.err.contains(words[3]), code == 1, "{words:?}: {}", said.err);
    }
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_about_no_message_is_traced_as_what_it_is() {
    let subscriber = FakeSubscriber::good().await;
    let app = TestApp::with(&subscriber).await;
    app.accept(&payload("m1", "U1", "hello")).await;
    let all = app.until(|all| all.iter().all(|d| d.row.state == State::Delivered)).await;
    let created = all.iter().find(|d| d.row.event_type == "conversation_created").unwrap();
    let id = created.row.event_id.to_string();
    let traced = say(&["trace", &id, "--config", app.config_file().to_str().unwrap()]);
    assert_eq!(traced.code, 0, "{}", traced.err);
    let mapped = traced.out.lines().find(|line| line.contains(" mapped ")).unwrap();
    let message = mapped.rsplit(' ').next().unwrap();
    let head = traced.out.lines().next().unwrap();
    assert_eq!(head, format!("an event about no message, which came with message {message}"));
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_of_no_conversation_is_listed_without_one() {
    let world = World::new(&Sqlite, &[wants("crm", &["*"])]).await;
    world.say(account(1), vec![notice(&note("", "a"), "module")]).await;
    world.write("U1", &["a"]).await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("birdwire.toml");
    fs::write(&file, format!("[store]\nurl = \"{}\"\n", world.place.url)).unwrap();
    let config = ["--config", file.to_str().unwrap()];
    let listed = say(&[&["deliveries", "list", "--json"][..], &config].concat()).json();
    assert_eq!(listed.iter().map(|row| row["conversation"].is_null()).collect::<Vec<_>>(), [true, false, false]);
    let id = listed[0]["id"].to_string();
    for words in [&["deliveries", "list"][..], &["deliveries", "show", &id]] {
        let said = say(&[words, &config].concat());
        assert_eq!(said.code, 0, "{}", said.err);
        let told: Vec<&str> = said.out.lines().filter(|line| !line.starts_with("body")).collect();
        assert!(!told.join("\n").contains("00000000-0000-0000-0000-000000000000"), "{}", said.out);
    }
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn secrets_of_the_command_line_are_those_of_the_file() {
    let app = TestApp::bare().await;
    let folder = tempfile::tempdir().unwrap();
    let key = folder.path().join("key");
    fs::write(&key, format!("{KEY}\n")).unwrap();
    let body = folder.path().join("body.json");
    fs::write(&body, payload("m1", "U1", "hello")).unwrap();
    let url = format!("http://{}/v1.0/conversation/accounts/{ACCOUNT}", app.addr);
    let send = |key: &str| {
        let signed = &app.config.accounts[0].webhook_url;
        say(&["send", "--provider", "bird", "--url", &url, "--sign-url", signed, "--key", key, body.to_str().unwrap()])
    };
    let taken = send(&format!("file:{}", key.display()));
    assert_eq!((taken.code, &*taken.out), (0, "200\n"), "{}", taken.err);
    for wrong in ["file:/nowhere/at/all", "env:BIRD WIRE", "env:NOT_SET_ANYWHERE", "", " "] {
        let said = send(wrong);
        assert_eq!((said.code, &*said.out), (64, ""), "{wrong:?}");
        assert!(said.err.starts_with("birdwire: --key: "), "{}", said.err);
    }
    // The secret is looked at before the door is opened: this one is taken.
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = taken.local_addr().unwrap().to_string();
    for (secret, code) in [("whsec_bad", 64), ("", 64), ("env:NOT_SET_ANYWHERE", 64), (SECRET, 1), ("any text", 1)] {
        let said = say(&["listen", "--addr", &addr, "--secret", secret]);
        assert_eq!(said.code, code, "{secret:?}: {}", said.err);
        assert_eq!(said.err.starts_with("birdwire: --secret: "), code == 64, "{}", said.err);
        assert!(secret.is_empty() || !said.err.contains("whsec_bad"), "{}", said.err);
    }
    app.finish().await;
}

#[test]
fn a_wrong_url_is_wrong_usage() {
    for url in ["x", "ftp://x/", "http://", "http://a b/"] {
        for words in [
            &["send", "--provider", "bird", "--key", "k", "--url", url][..],
            &["send", "--provider", "bird", "--key", "k", "--url", "http://127.0.0.1:1/", "--sign-url", url],
            &["health", "--url", url],
        ] {
            let said = say(words);
            assert_eq!((said.code, &*said.out), (64, ""), "{words:?}: {}", said.err);
            assert!(said.err.contains("url: the URL "), "{}", said.err);
        }
    }
}

#[test]
fn a_gateway_that_does_not_serve_does_not_say_so() {
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("store.db");
    fs::write(&store, "this is a text and no database at all, however long it may be".repeat(100)).unwrap();
    let file = folder.path().join("birdwire.toml");
    let text = format!(
        "[server]\nlisten = \"127.0.0.1:0\"\npublic_url = \"https://gw.example.com\"\n[store]\nurl = \"sqlite:{}\"\n",
        store.display()
    );
    fs::write(&file, text).unwrap();
    let said = say(&["serve", "--config", file.to_str().unwrap()]);
    assert_eq!(said.code, 1);
    assert!(!said.err.contains("birdwire serves"), "{}", said.err);
    assert_eq!(said.err.matches("file is not a database").count(), 1, "{}", said.err);
    assert!(said.err.contains("store.db") && said.err.contains("SQLite's code 26"), "{}", said.err);
}
