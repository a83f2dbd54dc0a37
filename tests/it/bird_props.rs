//! Bird's adapter is total: whatever is done to a payload, there is one event, the same one every time, and never
//! a message with nothing to show.

use crate::downstream::Downstream;
use crate::mutation::{mutate, places, replacement};
use crate::sample;
use birdwire::adapter::{Adapter, Provider};
use birdwire::domain::event::{Content, InboundEvent};
use birdwire::domain::format::RecordFormat;
use proptest::prelude::*;
use serde_json::Value;

const SEEDS: [&str; 10] = [
    include_str!("../../fixtures/bird/text-envelope/request.json"),
    include_str!("../../fixtures/bird/text-emoji/request.json"),
    include_str!("../../fixtures/bird/image/request.json"),
    include_str!("../../fixtures/bird/file-named/request.json"),
    include_str!("../../fixtures/bird/location/request.json"),
    include_str!("../../fixtures/bird/postback/request.json"),
    include_str!("../../fixtures/bird/carousel/request.json"),
    include_str!("../../fixtures/bird/outbound-delivery-failed/request.json"),
    include_str!("../../fixtures/bird/outbound-template/request.json"),
    include_str!("../../fixtures/bird/interaction/request.json"),
];

fn bird() -> (&'static Provider, Box<dyn Adapter>) {
    let provider = birdwire::adapter::provider("bird").unwrap();
    let adapter = (provider.build)(&sample::account(provider), &sample::settings(provider), sample::URL).unwrap();
    (provider, adapter)
}

/// Takes `body` twice and checks what must hold for everything.
fn check(body: &[u8]) -> InboundEvent {
    let (provider, adapter) = bird();
    let mut events = sample::events(provider, &*adapter, body);
    assert_eq!(events, sample::events(provider, &*adapter, body));
    assert_eq!(events.len(), 1);
    let event = events.remove(0);
    assert_eq!(event.key.is_none(), matches!(event.content, Content::Quarantined(_)));
    if let Content::Message(new) = &event.content {
        assert!(!new.message.text.is_empty() || !new.message.medias.is_empty());
    }
    let account = sample::account(provider);
    for format in RecordFormat::ALL {
        let mut downstream = Downstream::new(&account, format);
        downstream.take(&event);
        downstream.take(&event);
        assert_eq!(downstream.told.is_empty(), event.key.is_none());
        for told in downstream.told {
            let body: Value = serde_json::from_slice(&told.body).unwrap();
            assert!(body["data"]["id"].is_string());
        }
    }
    event
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 768, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn fields_removed_and_types_changed(
        seed in 0..SEEDS.len(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), replacement(&["image", "file", "gif", "location", "list", "html", "new", "line.outbound", "outgoing", "sent"])), 1..6),
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
