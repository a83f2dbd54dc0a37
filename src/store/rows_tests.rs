//! What is stored comes back as it was.

use super::*;
use crate::domain::ids::{AccountId, ConversationId, CustomerId, MessageId};
use crate::domain::message::{Direction, Status};
use crate::domain::time::Timestamp;

#[test]
fn addresses_come_back() {
    for a in [
        Address::new(AddressKind::Line, "U1", "Mei \"x\""),
        Address::new(AddressKind::Tel, "+31612345678", ""),
        Address::new(AddressKind::Line, "", ""),
    ] {
        assert_eq!(parse_address(&address(&a)), Some(a));
    }
    assert_eq!(parse_address("{}"), None);
    assert_eq!(parse_address(r#"{"kind":"fax","target":"1"}"#), None);
}

macro_rules! some {
    ($text:literal) => {
        Some($text.to_owned())
    };
}

fn full() -> Message {
    let id = MessageId(Uuid::from_u128(7));
    let mut media = Media::new(id, 0, MediaKind::Location);
    media.filename = some!("a\"b");
    media.url = some!("https://x/1");
    media.content_type = some!("image/png");
    media.size = Some(u64::MAX);
    media.duration_ms = Some(5);
    media.preview_url = some!("https://x/2");
    media.provider_id = some!("600");
    media.location = Some(Location {
        latitude: Decimal::parse("35.00000000000000000010"),
        longitude: Decimal::parse("-1e2"),
        title: some!("t"),
        address: None,
    });
    media.sticker = Some(Sticker {
        package_id: some!("1"),
        sticker_id: None,
        resource_type: some!("STATIC"),
        keywords: vec!["hi".to_owned()],
    });
    Message {
        id,
        account_id: AccountId(Uuid::from_u128(1)),
        customer_id: CustomerId(Uuid::from_u128(2)),
        conversation_id: ConversationId(Uuid::from_u128(3)),
        direction: Direction::Incoming,
        status: Status::Received,
        reference_type: "line",
        dialog_id: "U1".to_owned(),
        source: Address::new(AddressKind::Line, "U1", "Mei"),
        destination: Address::new(AddressKind::Line, "2005", ""),
        text: String::new(),
        medias: vec![media, Media::new(id, 1, MediaKind::Flex)],
        metadata: Metadata {
            emojis: vec![Emoji {
                index: Some(-1),
                length: None,
                product_id: some!("p"),
                emoji_id: None,
                alt: some!(""),
            }],
            mentions: vec![Mention {
                index: Some(1),
                length: Some(2),
                kind: some!("user"),
                user_id: some!("U2"),
                is_self: Some(true),
            }],
            postback: Some(Postback {
                payload: some!("p"),
                text: None,
                params: vec![("date".to_owned(), "2026-01-02".to_owned())],
            }),
            reply_to: some!("r"),
            quoted_message_id: some!("q"),
            image_set: Some(ImageSet { id: some!("s"), index: Some(1), total: None }),
            sender: Some(Address::new(AddressKind::Line, "U3", "Bo")),
            standby: true,
            provider: Some(ProviderStatus { status: some!("sent"), reason: None, failure: some!("15005") }),
            unmapped: vec!["body.carousel".to_owned()],
        },
        parts: Some(2),
        tm_create: Timestamp::EPOCH,
        tm_update: Timestamp::EPOCH,
        tm_delete: None,
    }
}

#[test]
fn contents_come_back() {
    let mut bare = full();
    bare.medias.clear();
    bare.metadata = Metadata::default();
    for message in [full(), bare] {
        let back = parse_content(&content(&message)).unwrap();
        assert_eq!(back.reference_type, message.reference_type);
        assert_eq!(back.source, message.source);
        assert_eq!(back.destination, message.destination);
        assert_eq!(back.medias, message.medias);
        assert_eq!(back.metadata, message.metadata);
        assert_eq!(back.parts, message.parts);
    }
    assert_eq!(parse_content("{}"), None);
}

#[test]
fn what_its_conversation_says_of_a_message_is_not_said_again() {
    let own = Address::new(AddressKind::Line, "2005", "Shop");
    let peer = Address::new(AddressKind::Line, "U1", "Mei");
    for direction in [Direction::Incoming, Direction::Outgoing] {
        for name in ["Mei", "May", "", "=", "{\"a\":1}"] {
            let theirs = Address { target_name: name.to_owned(), ..peer.clone() };
            let (source, destination) = sides(direction, theirs, own.clone());
            let plain = Message {
                direction,
                source,
                destination,
                medias: Vec::new(),
                metadata: Metadata::default(),
                parts: None,
                ..full()
            };
            let text = short_content(&plain, &own, &peer);
            assert_eq!(text, format!("={name}"));
            let back = parse_short_content(&text, direction, Channel::Line, own.clone(), peer.clone()).unwrap();
            assert_eq!(back, parse_content(&content(&plain)).unwrap());
            assert_eq!(back.written(), content(&plain));
            assert_eq!(parse_content(&text), None);
        }
    }
}

#[test]
fn what_its_conversation_does_not_say_is_said() {
    let own = Address::new(AddressKind::Line, "2005", "Shop");
    let peer = Address::new(AddressKind::Line, "U1", "Mei");
    let plain = Message {
        source: peer.clone(),
        destination: own.clone(),
        medias: Vec::new(),
        metadata: Metadata::default(),
        parts: None,
        ..full()
    };
    let others = [
        Message { source: Address { target: "U2".to_owned(), ..peer.clone() }, ..plain.clone() },
        Message { source: Address { kind: AddressKind::Tel, ..peer.clone() }, ..plain.clone() },
        Message { destination: Address { target_name: String::new(), ..own.clone() }, ..plain.clone() },
        Message { medias: full().medias, ..plain.clone() },
        Message { metadata: full().metadata, ..plain.clone() },
        Message { parts: Some(1), ..plain.clone() },
        Message { direction: Direction::Outgoing, ..plain.clone() },
    ];
    for other in others {
        let text = short_content(&other, &own, &peer);
        assert_eq!(text, content(&other));
        assert_eq!(parse_short_content(&text, other.direction, Channel::Line, own.clone(), peer.clone()), None);
    }
}
