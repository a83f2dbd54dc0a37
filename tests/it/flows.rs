//! What several webhooks of one message cause together: the statuses of an SMS, in the order in which networks
//! really deliver them, which is none.

use crate::downstream::Downstream;
use crate::sample;
use birdwire::domain::account::Channel;
use birdwire::domain::event::EventType;
use birdwire::domain::format::RecordFormat;
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// Sends these statuses (word, seconds, whether with a body) of one SMS and returns what was told.
fn told(statuses: &[(&str, u32, bool)]) -> Vec<(EventType, Value)> {
    let provider = birdwire::adapter::provider("bird").unwrap();
    let mut account = sample::account(provider);
    account.channel = Channel::Sms;
    account.address = Some("+3197010255".into());
    let adapter = (provider.build)(&account, &sample::settings(provider), sample::URL).unwrap();
    let mut downstream = Downstream::new(&account, RecordFormat::Documented);
    for (word, seconds, with_body) in statuses {
        let mut payload = json!({
            "id": "0b7f2b0e-6a1c-4a53-9d0b-2f6f4f9b2001",
            "receiver": {"contacts": [{"identifierKey": "phonenumber", "identifierValue": "+31612345678"}]},
            "status": word,
            "direction": "outgoing",
            "createdAt": "2026-01-02T03:04:05Z",
            "updatedAt": format!("2026-01-02T03:04:{seconds:02}Z"),
        });
        if *with_body {
            payload["body"] = json!({"type": "text", "text": {"text": "We are open."}});
        }
        let body = json!({"service": "channels", "event": "sms.outbound", "payload": payload}).to_string();
        for event in sample::events(provider, &*adapter, body.as_bytes()) {
            downstream.take(&event);
        }
    }
    let ids: BTreeSet<_> = downstream.told.iter().map(|event| event.id).collect();
    assert_eq!(ids.len(), downstream.told.len(), "every event has an id of its own");
    let data = |body: &[u8]| serde_json::from_slice::<Value>(body).unwrap()["data"].take();
    downstream.told.iter().map(|event| (event.event_type, data(&event.body))).collect()
}

/// The statuses and texts of SMS and conversation message, told in pairs after the conversation.
fn pairs(told: &[(EventType, Value)]) -> Vec<[String; 4]> {
    assert_eq!(told[0].0, EventType::ConversationCreated);
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let pair = |pair: &[(EventType, Value)]| {
        let [(sms_type, sms), (message_type, message)] = pair else { panic!("half a pair") };
        assert_eq!(sms["id"], message["id"]);
        assert_eq!((&sms["text"], &sms["tm_update"]), (&message["text"], &message["tm_update"]));
        let prefix = format!("conversation_{}", sms_type.as_str());
        assert_eq!(prefix, message_type.as_str());
        [
            sms_type.as_str().to_owned(),
            text(&sms["targets"][0]["status"]),
            text(&message["metadata"]["provider"]["status"]),
            text(&sms["text"]),
        ]
    };
    told[1..].chunks(2).map(pair).collect()
}

#[test]
fn a_status_is_told_once_and_only_when_it_says_something_new() {
    let told = told(&[
        ("accepted", 5, true),
        ("processing", 6, true),
        ("accepted", 5, true), // the same event once more
        ("delivered", 9, true),
        ("sent", 8, true), // overtaken by what it led to
        ("delivery_failed", 9, true),
    ]);
    let text = "We are open.";
    assert_eq!(
        pairs(&told),
        [
            ["message_created", "queued", "accepted", text],
            ["message_updated", "queued", "processing", text],
            ["message_updated", "delivered", "delivered", text],
        ]
    );
}

#[test]
fn a_text_that_comes_late_is_told_when_it_comes() {
    let told = told(&[("sent", 7, false), ("accepted", 5, true), ("delivered", 9, false)]);
    assert_eq!(
        pairs(&told),
        [
            ["message_created", "sent", "sent", ""],
            ["message_updated", "sent", "sent", "We are open."],
            ["message_updated", "delivered", "delivered", "We are open."],
        ]
    );
}
