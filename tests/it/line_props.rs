//! LINE's adapter is total: whatever is done to a payload, every event of it is one event, the same one every time,
//! whatever is done to its neighbours, and never a message with nothing to show.

use crate::downstream::Downstream;
use crate::mutation::{mutate, places, replacement};
use crate::sample;
use birdwire::adapter::{Adapter, Provider};
use birdwire::domain::event::{Content, InboundEvent};
use birdwire::domain::format::RecordFormat;
use proptest::prelude::*;
use serde_json::{Value, json};

const SEEDS: [&str; 12] = [
    include_str!("../../fixtures/line/text/request.json"),
    include_str!("../../fixtures/line/text-emoji/request.json"),
    include_str!("../../fixtures/line/image-set/request.json"),
    include_str!("../../fixtures/line/video-external/request.json"),
    include_str!("../../fixtures/line/file/request.json"),
    include_str!("../../fixtures/line/location/request.json"),
    include_str!("../../fixtures/line/sticker-keywords/request.json"),
    include_str!("../../fixtures/line/postback-params/request.json"),
    include_str!("../../fixtures/line/edited/request.json"),
    include_str!("../../fixtures/line/unsend/request.json"),
    include_str!("../../fixtures/line/follow/request.json"),
    include_str!("../../fixtures/line/group-member/request.json"),
];

fn line() -> (&'static Provider, Box<dyn Adapter>) {
    let provider = birdwire::adapter::provider("line").unwrap();
    let adapter = (provider.build)(&sample::account(provider), &sample::settings(provider), sample::URL).unwrap();
    (provider, adapter)
}

/// Takes `body` twice and checks what must hold for everything.
fn check(body: &[u8]) -> Vec<InboundEvent> {
    let (provider, adapter) = line();
    let events = sample::events(provider, &*adapter, body);
    assert_eq!(events, sample::events(provider, &*adapter, body));
    let count = serde_json::from_slice::<Value>(body).ok().and_then(|body| Some(body["events"].as_array()?.len()));
    if let Some(count) = count {
        assert_eq!(events.len(), count);
    }
    let account = sample::account(provider);
    for event in &events {
        assert_eq!(event.key.is_none(), matches!(event.content, Content::Quarantined(_)));
        if let Content::Message(new) | Content::Edited(new) = &event.content {
            assert!(!new.message.is_bare());
        }
    }
    for format in RecordFormat::ALL {
        let mut downstream = Downstream::new(&account, format);
        events.iter().chain(&events).for_each(|event| downstream.take(event));
        for told in &downstream.told {
            // Half a surrogate pair in an event that is passed on as it is cannot be made whole by us.
            let text = std::str::from_utf8(&told.body).unwrap().replace("\\ud", "\\u0");
            let body: Value = serde_json::from_str(&text).unwrap();
            assert!(body["data"]["id"].is_string());
        }
    }
    events
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 768, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn fields_removed_and_types_changed(
        seed in 0..SEEDS.len(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), replacement(&[
            "image", "file", "sticker", "location", "unsend", "messageEdited", "postback", "join", "new", "group",
        ])), 1..6),
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
    fn a_hostile_neighbour_spoils_nothing(
        seed in 0..SEEDS.len(),
        hostile in prop::sample::select(vec![
            "null", "7", "[]", "{}", "\"x\"", "{\"type\":null}", "{\"type\":\"\\ud83d\"}", "{\"\\udc00\":1}",
            "{\"type\":\"message\",\"message\":{\"type\":\"text\",\"id\":\"1\",\"text\":\"\\ud83d\"}}",
            "{\"type\":\"message\",\"source\":7,\"timestamp\":1e999,\"message\":[]}",
        ]),
        first in any::<bool>(),
    ) {
        let alone = check(SEEDS[seed].as_bytes());
        let document: Value = serde_json::from_str(SEEDS[seed]).unwrap();
        let mut events: Vec<String> = document["events"].as_array().unwrap().iter().map(Value::to_string).collect();
        let place = if first { 0 } else { events.len() };
        events.insert(place, hostile.to_owned());
        let body = format!("{{\"destination\":{},\"events\":[{}]}}", document["destination"], events.join(","));
        let mut together = check(body.as_bytes());
        together.remove(place);
        // What was passed on verbatim was written anew here.
        let ids = |events: &[InboundEvent]| -> Vec<_> { events.iter().map(|e| (e.kind.clone(), e.key.clone())).collect() };
        prop_assert_eq!(ids(&alone), ids(&together));
        for (alone, together) in alone.iter().zip(&together) {
            if !matches!(alone.content, Content::Notice(_)) {
                prop_assert_eq!(alone, together);
            }
        }
    }

    #[test]
    fn a_redelivery_is_a_repeat(seed in 0..SEEDS.len(), named in any::<bool>()) {
        let mut document: Value = serde_json::from_str(SEEDS[seed]).unwrap();
        for event in document["events"].as_array_mut().unwrap() {
            if !named {
                event.as_object_mut().unwrap().remove("webhookEventId");
            }
        }
        let first = check(document.to_string().as_bytes());
        for event in document["events"].as_array_mut().unwrap() {
            event["deliveryContext"] = json!({"isRedelivery": true});
        }
        let second = check(document.to_string().as_bytes());
        for (first, second) in first.iter().zip(&second) {
            prop_assert_eq!(&first.key, &second.key);
            if !matches!(first.content, Content::Notice(_)) {
                prop_assert_eq!(&first.content, &second.content);
            }
        }
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
