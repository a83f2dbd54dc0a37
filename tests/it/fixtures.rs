//! Every case under `fixtures/<provider>/`: a request as the provider sends it, and the events that it causes on
//! an empty store in both record formats, byte for byte. The expected files are the contract: read them.
//!
//! `CASE=bird/text` runs one case, `UPDATE_FIXTURES=1` writes the expected files anew.

use crate::downstream::Downstream;
use crate::sample;
use birdwire::adapter::{PROVIDERS, Provider};
use birdwire::domain::account::{Account, Channel};
use birdwire::domain::event::{Content, InboundEvent};
use birdwire::domain::format::RecordFormat;
use birdwire::domain::settings::SettingValue;
use serde_json::Value;
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

/// Every row of what we promise about Bird's body types.
const BIRD_BODY_TYPES: &[&str] = &[
    "text",
    "html",
    "image",
    "file",
    "gif",
    "location",
    "carousel",
    "list",
    "section",
    "authentication",
    "template",
    "action",
    "(unknown)",
    "(none)",
];
/// Every kind of event of Bird's, and whether we have it from LINE or as SMS.
const BIRD_EVENTS: &[&str] = &[
    "line.inbound",
    "line.outbound",
    "line.interaction",
    "sms.inbound",
    "sms.outbound",
    "sms.interaction",
    "(unknown)",
    "(none)",
];
/// Every status of an outgoing message.
const BIRD_STATUSES: &[&str] = &[
    "accepted",
    "rejected",
    "processing",
    "scheduled",
    "sent",
    "sending_failed",
    "delivered",
    "delivery_failed",
    "deleted",
    "skipped",
    "(unknown)",
    "(none)",
];
/// Every type of event that LINE documents.
const LINE_EVENTS: &[&str] = &[
    "message",
    "messageEdited",
    "unsend",
    "postback",
    "follow",
    "unfollow",
    "join",
    "leave",
    "memberJoined",
    "memberLeft",
    "videoPlayComplete",
    "beacon",
    "accountLink",
    "membership",
    "module",
    "activated",
    "deactivated",
    "botSuspended",
    "botResumed",
    "delivery",
    "things",
    "(unknown)",
    "(none)",
];
/// Every type of message that LINE documents.
const LINE_MESSAGES: &[&str] =
    &["text", "image", "video", "audio", "file", "location", "sticker", "(unknown)", "(none)"];
/// Every place that LINE documents.
const LINE_SOURCES: &[&str] = &["user", "group", "room", "(unknown)", "(none)"];

fn folders(of: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(of).map(|dir| dir.map(|entry| entry.unwrap().path()).collect()).unwrap_or_default();
    let mut folders: Vec<PathBuf> = entries;
    folders.retain(|path| path.is_dir());
    folders.sort();
    folders
}

fn cases(provider: &Provider) -> Vec<PathBuf> {
    folders(&Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(provider.schema.provider))
}

fn name(path: &Path) -> &str {
    path.file_name().unwrap().to_str().unwrap()
}

/// The case's events, through the account that `account.json` changes if there is one.
fn events(provider: &Provider, case: &Path) -> (Account, Vec<InboundEvent>) {
    let mut account = sample::account(provider);
    let mut settings = sample::settings(provider);
    if let Ok(changes) = fs::read(case.join("account.json")) {
        let changes: Value = serde_json::from_slice(&changes).unwrap();
        account.address = changes["address"].as_str().map(str::to_owned);
        account.name = changes["name"].as_str().map_or(account.name, str::to_owned);
        account.channel = changes["type"].as_str().map_or(Channel::Line, |text| Channel::parse(text).unwrap());
        for (key, value) in changes["settings"].as_object().into_iter().flatten() {
            let key = provider.schema.keys.iter().find(|known| known.name == key).expect("a key of the provider");
            settings.0.insert(key.name, SettingValue::Text(value.as_str().unwrap().to_owned()));
        }
    }
    let adapter = (provider.build)(&account, &settings, sample::URL).unwrap_or_else(|wrong| panic!("{wrong:?}"));
    let body = fs::read(case.join("request.json")).unwrap();
    let events = sample::events(provider, &*adapter, &body);
    (account, events)
}

/// What the events cause on an empty store, one body a line.
fn downstream(account: &Account, events: &[InboundEvent], format: RecordFormat) -> String {
    let mut downstream = Downstream::new(account, format);
    for event in events {
        downstream.take(event);
    }
    downstream.told.into_iter().fold(String::new(), |mut lines, event| {
        writeln!(lines, "{}", String::from_utf8(event.body).unwrap()).unwrap();
        lines
    })
}

fn quarantine(events: &[InboundEvent]) -> String {
    let mut lines = String::new();
    for event in events {
        if let Content::Quarantined(why) = &event.content {
            assert_eq!(event.key, None, "nobody can say what a repeat of it is");
            writeln!(lines, "{why}").unwrap();
        }
    }
    lines
}

/// Compares, or writes when asked to. An empty text stands for no file where `optional`.
fn settle(file: &Path, found: &str, optional: bool, failures: &mut Vec<String>) {
    if std::env::var_os("UPDATE_FIXTURES").is_some() {
        if optional && found.is_empty() {
            drop(fs::remove_file(file));
        } else {
            fs::write(file, found).unwrap();
        }
        return;
    }
    let wanted = fs::read_to_string(file).ok();
    if wanted.as_deref().or(optional.then_some("")) != Some(found) {
        failures.push(format!("{}\n  wanted {wanted:?}\n  found  {found:?}", file.display()));
    }
}

#[test]
fn every_request_causes_exactly_what_is_written_beside_it() {
    let only = std::env::var("CASE").ok();
    let mut failures = Vec::new();
    let mut run = 0;
    for provider in PROVIDERS {
        for case in cases(provider) {
            let path = format!("{}/{}", provider.schema.provider, name(&case));
            if only.as_ref().is_some_and(|only| *only != path) {
                continue;
            }
            run += 1;
            let (account, events) = events(provider, &case);
            for format in RecordFormat::ALL {
                let file = case.join(format!("expected.{}.jsonl", format.as_str()));
                settle(&file, &downstream(&account, &events, format), false, &mut failures);
            }
            settle(&case.join("expected.quarantine.txt"), &quarantine(&events), true, &mut failures);
        }
    }
    assert!(run > 0, "there is no such case");
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

/// The requests of a provider that are JSON.
fn requests(provider: &str) -> Vec<Value> {
    let read = |case: PathBuf| serde_json::from_slice(&fs::read(case.join("request.json")).unwrap()).ok();
    cases(birdwire::adapter::provider(provider).unwrap()).into_iter().filter_map(read).collect()
}

/// Fails when one of `rows` is in none of what was `seen`.
fn all_seen(rows: &'static [&'static str], seen: impl Iterator<Item = Option<String>>) {
    let seen: BTreeSet<&str> = seen
        .map(|name| match name {
            None => "(none)",
            Some(name) => rows.iter().copied().find(|known| *known == name).unwrap_or("(unknown)"),
        })
        .collect();
    let missing: Vec<_> = rows.iter().filter(|row| !seen.contains(*row)).collect();
    assert!(missing.is_empty(), "no case for {missing:?}");
}

fn text(value: &Value) -> Option<String> {
    value.as_str().map(str::to_owned)
}

#[test]
fn every_row_of_bird_has_a_case() {
    let requests = requests("bird");
    let messages: Vec<&Value> = requests.iter().map(|request| request.get("payload").unwrap_or(request)).collect();
    all_seen(BIRD_EVENTS, requests.iter().map(|request| text(&request["event"])));
    all_seen(BIRD_BODY_TYPES, messages.iter().map(|message| text(&message["body"]["type"])));
    let outgoing = messages.iter().filter(|message| message["direction"] == "outgoing");
    all_seen(BIRD_STATUSES, outgoing.map(|message| text(&message["status"])));
}

#[test]
fn every_row_of_line_has_a_case() {
    let requests = requests("line");
    let events: Vec<&Value> = requests.iter().filter_map(|request| request["events"].as_array()).flatten().collect();
    all_seen(LINE_EVENTS, events.iter().map(|event| text(&event["type"])));
    all_seen(LINE_SOURCES, events.iter().map(|event| text(&event["source"]["type"])));
    for kind in ["message", "messageEdited"] {
        let mut of_kind = events.iter().filter(|event| event["type"] == kind);
        assert!(of_kind.any(|event| event["source"]["type"] == "group"), "no {kind} in a group");
    }
    let messages = events.iter().filter(|event| event["type"] == "message");
    all_seen(LINE_MESSAGES, messages.map(|event| text(&event["message"]["type"])));
    assert!(requests.iter().any(|request| request["events"].as_array().is_some_and(Vec::is_empty)), "no empty webhook");
}
