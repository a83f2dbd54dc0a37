//! Bird's adapter is total: whatever is done to a payload, there is one event, the same one every time, and never
//! a message with nothing to show.

use crate::sample;
use birdwire::adapter::{Adapter, Provider};
use birdwire::domain::event::{Content, EventType, InboundEvent, Record, Render as _};
use birdwire::domain::format::RecordFormat;
use birdwire::voipbin::Renderer;
use proptest::prelude::*;
use serde_json::{Value, json};

const SEEDS: [&str; 7] = [
    include_str!("../../fixtures/bird/text-envelope/request.json"),
    include_str!("../../fixtures/bird/text-emoji/request.json"),
    include_str!("../../fixtures/bird/image/request.json"),
    include_str!("../../fixtures/bird/file-named/request.json"),
    include_str!("../../fixtures/bird/location/request.json"),
    include_str!("../../fixtures/bird/postback/request.json"),
    include_str!("../../fixtures/bird/carousel/request.json"),
];

fn bird() -> (&'static Provider, Box<dyn Adapter>) {
    let provider = birdwire::adapter::provider("bird").unwrap();
    let adapter = (provider.build)(&sample::account(), &sample::settings(provider), sample::URL).unwrap();
    (provider, adapter)
}

/// Takes `body` twice and checks what must hold for everything.
fn check(body: &[u8]) -> InboundEvent {
    let (provider, adapter) = bird();
    let mut events = sample::events(provider, &*adapter, body);
    assert_eq!(events, sample::events(provider, &*adapter, body));
    assert_eq!(events.len(), 1);
    let event = events.remove(0);
    match &event.content {
        Content::Message(new) => {
            assert!(event.key.is_some());
            assert!(!new.message.text.is_empty() || !new.message.medias.is_empty());
            for format in RecordFormat::ALL {
                let record = Record::Message(&new.message);
                let body = Renderer::new(format).body(EventType::ConversationMessageCreated, record);
                let record: Value = serde_json::from_slice(&body).unwrap();
                assert!(record["data"]["id"].is_string());
            }
        }
        Content::Quarantined(_) => assert_eq!(event.key, None),
    }
    event
}

/// Every place in a JSON value, as pointers.
fn places(value: &Value, at: &str, found: &mut Vec<String>) {
    found.push(at.to_owned());
    match value {
        Value::Object(map) => map.iter().for_each(|(key, inner)| places(inner, &format!("{at}/{key}"), found)),
        Value::Array(list) => {
            list.iter().enumerate().for_each(|(i, inner)| places(inner, &format!("{at}/{i}"), found));
        }
        _ => {}
    }
}

/// Removes the value at `place`, or puts another one there.
fn mutate(document: &mut Value, place: &str, with: Option<&Value>) {
    if let (Some(with), Some(slot)) = (with, document.pointer_mut(place)) {
        *slot = with.clone();
    } else if let Some((parent, key)) = place.rsplit_once('/') {
        match document.pointer_mut(parent) {
            Some(Value::Object(map)) => drop(map.remove(key)),
            Some(Value::Array(list)) => list.clear(),
            _ => {}
        }
    }
}

fn replacement() -> impl Strategy<Value = Option<Value>> {
    prop_oneof![
        3 => Just(None),
        1 => Just(Some(Value::Null)),
        1 => any::<bool>().prop_map(|b| Some(json!(b))),
        1 => any::<i64>().prop_map(|n| Some(json!(n))),
        1 => any::<f64>().prop_map(|n| Some(json!(n))),
        2 => any::<String>().prop_map(|s| Some(json!(s))),
        1 => Just(Some(json!(""))),
        1 => Just(Some(json!({}))),
        1 => Just(Some(json!([]))),
        1 => Just(Some(json!([null, {}, [], "x", {"mediaUrl": "u"}, {"text": "t"}]))),
        1 => Just(Some(json!({"type": "sticker", "text": {"text": "t"}, "images": [{"mediaUrl": "u"}]}))),
        1 => prop::sample::select(vec!["image", "file", "gif", "location", "list", "html", "new"]).prop_map(|s| Some(json!(s))),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 768, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn fields_removed_and_types_changed(
        seed in 0..SEEDS.len(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), replacement()), 1..6),
    ) {
        let mut document: Value = serde_json::from_str(SEEDS[seed]).unwrap();
        for (place, with) in changes {
            let mut found = Vec::new();
            places(&document, "", &mut found);
            mutate(&mut document, &found[place.index(found.len())], with.as_ref());
        }
        check(document.to_string().as_bytes());
    }

    #[test]
    fn bytes_changed_and_cut_off(
        seed in 0..SEEDS.len(),
        flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        end in prop::option::weighted(0.2, any::<prop::sample::Index>()),
    ) {
        let mut body = SEEDS[seed].as_bytes().to_vec();
        for (place, byte) in flips {
            let place = place.index(body.len());
            body[place] = byte;
        }
        if let Some(end) = end {
            body.truncate(end.index(body.len()));
        }
        check(&body);
    }

    #[test]
    fn anything_at_all(body in prop::collection::vec(any::<u8>(), 0..64)) {
        check(&body);
    }
}
