//! Every case under `fixtures/<provider>/`: a request as the provider sends it, and the events that it causes on
//! an empty store in both record formats, byte for byte. The expected files are the contract: read them.
//!
//! `CASE=bird/text` runs one case, `UPDATE_FIXTURES=1` writes the expected files anew.

use crate::sample;
use birdwire::adapter::{PROVIDERS, Provider};
use birdwire::domain::account::Channel;
use birdwire::domain::conversation::{Change, Conversation, observe};
use birdwire::domain::event::{Content, EventType, InboundEvent, OutboundEvent, Record};
use birdwire::domain::format::RecordFormat;
use birdwire::domain::settings::SettingValue;
use birdwire::voipbin::Renderer;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

/// Every row of what we promise about Bird's body types.
const BIRD_BODY_TYPES: [&str; 14] = [
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
fn events(provider: &Provider, case: &Path) -> (birdwire::domain::account::Account, Vec<InboundEvent>) {
    let mut account = sample::account();
    let mut settings = sample::settings(provider);
    if let Ok(changes) = fs::read(case.join("account.json")) {
        let changes: Value = serde_json::from_slice(&changes).unwrap();
        account.address = changes["address"].as_str().map(str::to_owned);
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
fn downstream(account: &birdwire::domain::account::Account, events: &[InboundEvent], format: RecordFormat) -> String {
    let render = Renderer::new(format);
    let mut known: BTreeMap<String, Conversation> = BTreeMap::new();
    let mut lines = String::new();
    let mut line = |event_type, record: Record<'_>, cause: &str| {
        let event = OutboundEvent::new(&render, account.id, event_type, record, cause);
        writeln!(lines, "{}", String::from_utf8(event.body).unwrap()).unwrap();
    };
    for event in events {
        let Content::Message(new) = &event.content else { continue };
        let key = &event.key.as_ref().expect("a message is recognised when it is repeated").provider_key;
        let sighting = &new.sighting;
        match observe(known.get(&sighting.dialog_id), sighting, account) {
            Change::Created(made) => {
                line(EventType::ConversationCreated, Record::Conversation(&made), "");
                known.insert(sighting.dialog_id.clone(), made);
            }
            Change::Updated(changed) => {
                line(EventType::ConversationUpdated, Record::Conversation(&changed), key);
                known.insert(sighting.dialog_id.clone(), changed);
            }
            Change::None => {}
        }
        line(EventType::ConversationMessageCreated, Record::Message(&new.message), "");
    }
    lines
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

#[test]
fn every_body_type_of_bird_has_a_case() {
    let provider = birdwire::adapter::provider("bird").unwrap();
    let mut seen = BTreeSet::new();
    for case in cases(provider) {
        let Ok(request) = serde_json::from_slice::<Value>(&fs::read(case.join("request.json")).unwrap()) else {
            continue;
        };
        let message = request.get("payload").unwrap_or(&request);
        let kind = match message["body"]["type"].as_str() {
            None => "(none)",
            Some(kind) => BIRD_BODY_TYPES.into_iter().find(|known| *known == kind).unwrap_or("(unknown)"),
        };
        seen.insert(kind);
    }
    let missing: Vec<_> = BIRD_BODY_TYPES.into_iter().filter(|kind| !seen.contains(kind)).collect();
    assert!(missing.is_empty(), "no case for {missing:?}");
}
