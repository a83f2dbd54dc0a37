//! The bytes of both record formats, key by key.

use super::Renderer;
use super::sign::{Signer, verify_voipbin};
use crate::domain::account::Channel;
use crate::domain::address::{Address, AddressKind};
use crate::domain::conversation::Conversation;
use crate::domain::event::{ChannelEvent, EventType, OutboundEvent, Record, Render as _};
use crate::domain::format::RecordFormat;
use crate::domain::ids::{AccountId, ConversationId, CustomerId, MessageId};
use crate::domain::message::{
    Decimal, Direction, Emoji, ImageSet, Location, Media, MediaKind, Mention, Message, Metadata, Postback,
    ProviderStatus, Status, Sticker,
};
use crate::domain::secret::Secret;
use crate::domain::sms::SmsMessage;
use crate::domain::time::Timestamp;
use uuid::Uuid;

const ID: &str = "cc46341b-f00a-452f-b527-19c85d030eaf";
const CUSTOMER: &str = "5e4a0680-804e-11ec-8477-2fea5968d85b";
const CONVERSATION: &str = "64558b45-40a8-43db-b814-9c0dbf6d47b5";

fn uuid(text: &str) -> Uuid {
    Uuid::parse_str(text).unwrap()
}

fn at(text: &str) -> Timestamp {
    Timestamp::parse(text).unwrap()
}

fn line(target: &str, name: &str) -> Address {
    Address::new(AddressKind::Line, target, name)
}

fn message() -> Message {
    Message {
        id: MessageId(uuid(ID)),
        account_id: AccountId(Uuid::from_u128(7)),
        customer_id: CustomerId(uuid(CUSTOMER)),
        conversation_id: ConversationId(uuid(CONVERSATION)),
        direction: Direction::Incoming,
        status: Status::Received,
        reference_type: "line",
        dialog_id: "U1".into(),
        source: line("U1", "Test user"),
        destination: line("", "Me"),
        text: "안녕 <b> & \u{2028} \"q\"/".into(),
        medias: Vec::new(),
        metadata: Metadata::default(),
        parts: None,
        tm_create: at("2026-07-26T07:49:07.588Z"),
        tm_update: at("2026-07-26T07:49:07.923Z"),
        tm_delete: None,
    }
}

fn conversation() -> Conversation {
    Conversation {
        id: ConversationId(uuid(CONVERSATION)),
        account_id: AccountId(Uuid::from_u128(7)),
        customer_id: CustomerId(uuid(CUSTOMER)),
        channel: Channel::Line,
        dialog_id: "U1".into(),
        own: line("", "Me"),
        peer: line("U1", "Test user"),
        tm_create: at("2026-07-26T07:49:07.588Z"),
        tm_update: None,
        tm_delete: None,
        named_at: at("2026-07-26T07:49:07.588Z"),
    }
}

fn render(format: RecordFormat, event_type: EventType, record: Record<'_>) -> String {
    String::from_utf8(Renderer::new(format).body(event_type, record)).unwrap()
}

fn created(format: RecordFormat, message: &Message) -> String {
    render(format, EventType::ConversationMessageCreated, Record::Message(message))
}

#[test]
fn a_current_message_is_what_voipbin_s_own_code_writes_and_signs() {
    let want = r#"{"type":"conversation_message_created","data":{"id":"cc46341b-f00a-452f-b527-19c85d030eaf","customer_id":"5e4a0680-804e-11ec-8477-2fea5968d85b","conversation_id":"64558b45-40a8-43db-b814-9c0dbf6d47b5","direction":"incoming","status":"done","reference_type":"line","reference_id":"00000000-0000-0000-0000-000000000000","source":{"type":"line","target":"U1","target_name":"Test user"},"destination":{"type":"line","target_name":"Me"},"text":"안녕 \u003cb\u003e \u0026 \u2028 \"q\"/","tm_create":"2026-07-26T07:49:07.588Z","tm_update":null,"tm_delete":null}}"#;
    let body = created(RecordFormat::Current, &message());
    assert_eq!(body, want);
    let secret = Secret::new("secret");
    let signature = "sha256=e19d8a254636c5cd99161e3aada4394ab75092ca8c083799de0049471fd2e23d";
    assert_eq!(Signer::new(std::slice::from_ref(&secret)).unwrap().voipbin(body.as_bytes()), signature);
    assert!(verify_voipbin(&secret, body.as_bytes(), signature));
}

#[test]
fn a_current_conversation_is_what_voipbin_s_own_code_writes() {
    let want = r#"{"type":"conversation_created","data":{"id":"64558b45-40a8-43db-b814-9c0dbf6d47b5","customer_id":"5e4a0680-804e-11ec-8477-2fea5968d85b","owner_type":"","owner_id":"00000000-0000-0000-0000-000000000000","account_id":"00000000-0000-0000-0000-000000000007","name":"LINE · Test user","detail":"LINE conversation","type":"line","dialog_id":"U1","self":{"type":"line","target_name":"Me"},"peer":{"type":"line","target":"U1","target_name":"Test user"},"tm_create":"2026-07-26T07:49:07.588Z","tm_update":null,"tm_delete":null}}"#;
    let record = conversation();
    let body = render(RecordFormat::Current, EventType::ConversationCreated, Record::Conversation(&record));
    assert_eq!(body, want);
}

#[test]
fn a_documented_message_is_the_documents_example() {
    let source = line("Ud871bcaf7c3ad13d2a0b0d78a42a287f", "");
    let message = Message {
        dialog_id: source.target.clone(),
        source,
        text: "안녕".into(),
        tm_create: at("2022-06-24T04:28:51.558082Z"),
        tm_update: at("2022-06-24T04:28:51.558090Z"),
        ..message()
    };
    let want = r#"{"type":"conversation_message_created","data":{"id":"cc46341b-f00a-452f-b527-19c85d030eaf","conversation_id":"64558b45-40a8-43db-b814-9c0dbf6d47b5","direction":"incoming","status":"received","reference_type":"line","reference_id":"Ud871bcaf7c3ad13d2a0b0d78a42a287f","source":{"type":"line","target":"Ud871bcaf7c3ad13d2a0b0d78a42a287f","target_name":"","name":"","detail":""},"text":"안녕","medias":[],"tm_create":"2022-06-24 04:28:51.558082","tm_update":"2022-06-24 04:28:51.558090","tm_delete":"9999-01-01 00:00:00.000000"}}"#;
    assert_eq!(created(RecordFormat::Documented, &message), want);
}

#[test]
fn a_documented_conversation_leaves_nothing_out() {
    let want = r#"{"type":"conversation_created","data":{"id":"64558b45-40a8-43db-b814-9c0dbf6d47b5","customer_id":"5e4a0680-804e-11ec-8477-2fea5968d85b","owner_type":"","owner_id":"00000000-0000-0000-0000-000000000000","account_id":"00000000-0000-0000-0000-000000000007","name":"LINE · Test user","detail":"LINE conversation","reference_type":"line","reference_id":"U1","source":{"type":"line","target":"U1","target_name":"Test user","name":"","detail":""},"participants":[{"type":"line","target":"","target_name":"Me","name":"","detail":""},{"type":"line","target":"U1","target_name":"Test user","name":"","detail":""}],"type":"line","dialog_id":"U1","self":{"type":"line","target":"","target_name":"Me","name":"","detail":""},"peer":{"type":"line","target":"U1","target_name":"Test user","name":"","detail":""},"tm_create":"2026-07-26 07:49:07.588000","tm_update":"2026-07-26 07:49:07.588000","tm_delete":"9999-01-01 00:00:00.000000"}}"#;
    let record = conversation();
    let body = render(RecordFormat::Documented, EventType::ConversationCreated, Record::Conversation(&record));
    assert_eq!(body, want);
    let updated = Conversation { tm_update: Some(at("2026-07-27T00:00:00Z")), ..record };
    for (format, want) in [
        (RecordFormat::Documented, r#""tm_update":"2026-07-27 00:00:00.000000""#),
        (RecordFormat::Current, r#""tm_update":"2026-07-27T00:00:00Z""#),
    ] {
        let body = render(format, EventType::ConversationUpdated, Record::Conversation(&updated));
        assert!(body.starts_with(r#"{"type":"conversation_updated","data":{"#) && body.contains(want), "{body}");
    }
}

#[test]
fn status_words_of_both_formats() {
    for (direction, status, documented, current) in [
        (Direction::Incoming, Status::Received, "received", "done"),
        (Direction::Outgoing, Status::Sending, "sending", "progressing"),
        (Direction::Outgoing, Status::Sent, "sent", "done"),
        (Direction::Outgoing, Status::Delivered, "sent", "done"),
        (Direction::Outgoing, Status::Failed, "failed", "failed"),
    ] {
        let message = Message { direction, status, ..message() };
        assert!(created(RecordFormat::Documented, &message).contains(&format!(r#""status":"{documented}""#)));
        assert!(created(RecordFormat::Current, &message).contains(&format!(r#""status":"{current}""#)));
    }
}

#[test]
fn an_sms_refers_to_its_own_record_in_the_current_format() {
    let message = Message { reference_type: "message", dialog_id: "+31612345678".into(), ..message() };
    assert!(created(RecordFormat::Documented, &message).contains(r#""reference_id":"+31612345678""#));
    assert!(created(RecordFormat::Current, &message).contains(&format!(r#""reference_id":"{ID}""#)));
}

#[test]
fn every_addition_comes_in_its_order_after_voipbin_s_keys() {
    let text = |text: &str| Some(text.to_owned());
    let mut media = Media::new(MessageId(uuid(ID)), 0, MediaKind::Sticker);
    media.filename = text("f");
    media.url = text("u");
    media.content_type = text("c");
    media.size = Some(1);
    media.duration_ms = Some(2);
    media.preview_url = text("p");
    media.provider_id = text("i");
    media.location = Some(Location {
        latitude: Decimal::parse("35.65910807942215000"),
        longitude: Decimal::parse("1E+2"),
        title: text("t"),
        address: text("a"),
    });
    media.sticker = Some(Sticker {
        package_id: text("446"),
        sticker_id: text("1988"),
        resource_type: text("STATIC"),
        keywords: vec!["k".into()],
    });
    let message = Message {
        text: String::new(),
        medias: vec![media],
        metadata: Metadata {
            emojis: vec![Emoji {
                index: Some(0),
                length: Some(1),
                product_id: text("p"),
                emoji_id: text("e"),
                alt: None,
            }],
            mentions: vec![Mention {
                index: Some(0),
                length: Some(1),
                kind: text("user"),
                user_id: text("U2"),
                is_self: Some(false),
            }],
            postback: Some(Postback { payload: text("p"), text: text("t"), params: vec![("date".into(), "d".into())] }),
            reply_to: text("r"),
            quoted_message_id: text("q"),
            image_set: Some(ImageSet { id: text("s"), index: Some(1), total: Some(2) }),
            sender: Some(line("U2", "")),
            standby: true,
            provider: Some(ProviderStatus { status: text("s"), reason: text("r"), failure: text("f") }),
            unmapped: vec!["body.x".into()],
        },
        tm_delete: Some(at("2026-07-26T07:49:08Z")),
        ..message()
    };
    let metadata = r#""metadata":{"emojis":[{"index":0,"length":1,"product_id":"p","emoji_id":"e","alt":null}],"mentions":[{"index":0,"length":1,"type":"user","user_id":"U2","is_self":false}],"postback":{"payload":"p","text":"t","params":{"date":"d"}},"reply_to":"r","quoted_message_id":"q","image_set":{"id":"s","index":1,"total":2},"sender":SENDER,"standby":true,"provider":{"status":"s","reason":"r","failure":"f"},"unmapped":["body.x"]}}}"#;
    let extras = r#""url":"u","content_type":"c","size":1,"duration_ms":2,"preview_url":"p","provider_id":"i","location":{"latitude":35.65910807942215000,"longitude":1E+2,"title":"t","address":"a"},"sticker":{"package_id":"446","sticker_id":"1988","resource_type":"STATIC","keywords":["k"]}}]"#;
    let id = message.medias[0].id;

    let full = r#"{"type":"line","target":"U2","target_name":"","name":"","detail":""}"#;
    let times = r#""tm_create":"2026-07-26 07:49:07.588000","tm_update":"2026-07-26 07:49:07.923000","tm_delete":"2026-07-26 07:49:08.000000""#;
    let want = format!(
        r#""text":"","medias":[{{"id":"{id}","type":"sticker","filename":"f",{times},{extras},{times},{}"#,
        metadata.replace("SENDER", full)
    );
    let body = created(RecordFormat::Documented, &message);
    assert!(body.ends_with(&want), "{body}\n{want}");

    let times = r#""tm_create":"2026-07-26T07:49:07.588Z","tm_update":null,"tm_delete":"2026-07-26T07:49:08Z""#;
    let want = format!(
        r#""destination":{{"type":"line","target_name":"Me"}},"medias":[{{"id":"{id}","customer_id":"{CUSTOMER}","type":"sticker","filename":"f",{times},{extras},{times},{}"#,
        metadata.replace("SENDER", r#"{"type":"line","target":"U2"}"#)
    );
    let body = created(RecordFormat::Current, &message);
    assert!(body.ends_with(&want), "{body}\n{want}");
}

/// The example of VoIPBIN's documents; the ninth digit of their targets' times is not kept.
fn sms() -> Message {
    Message {
        direction: Direction::Outgoing,
        status: Status::Sent,
        reference_type: "message",
        dialog_id: "+15559876543".into(),
        source: Address::new(AddressKind::Tel, "+15551234567", ""),
        destination: Address::new(AddressKind::Tel, "+15559876543", ""),
        text: "Hello, this is test message.".into(),
        tm_create: at("2022-03-13T15:11:05.235717Z"),
        tm_update: at("2022-03-13T15:11:06.497278Z"),
        ..message()
    }
}

#[test]
fn a_documented_sms_is_the_documents_example() {
    let sms = SmsMessage::of(&sms()).unwrap();
    let want = r#"{"type":"message_updated","data":{"id":"cc46341b-f00a-452f-b527-19c85d030eaf","type":"sms","source":{"type":"tel","target":"+15551234567","target_name":"","name":"","detail":""},"targets":[{"destination":{"type":"tel","target":"+15559876543","target_name":"","name":"","detail":""},"status":"sent","parts":1,"tm_update":"2022-03-13 15:11:06.497278"}],"text":"Hello, this is test message.","direction":"outbound","tm_create":"2022-03-13 15:11:05.235717","tm_update":"2022-03-13 15:11:06.497278","tm_delete":"9999-01-01 00:00:00.000000"}}"#;
    assert_eq!(render(RecordFormat::Documented, EventType::MessageUpdated, Record::Sms(&sms)), want);
}

#[test]
fn a_current_sms_belongs_to_its_customer() {
    let sms = SmsMessage::of(&sms()).unwrap();
    let want = r#"{"type":"message_updated","data":{"id":"cc46341b-f00a-452f-b527-19c85d030eaf","customer_id":"5e4a0680-804e-11ec-8477-2fea5968d85b","type":"sms","source":{"type":"tel","target":"+15551234567"},"targets":[{"destination":{"type":"tel","target":"+15559876543"},"status":"sent","parts":1,"tm_update":"2022-03-13T15:11:06.497278Z"}],"text":"Hello, this is test message.","direction":"outbound","tm_create":"2022-03-13T15:11:05.235717Z","tm_update":"2022-03-13T15:11:06.497278Z","tm_delete":null}}"#;
    assert_eq!(render(RecordFormat::Current, EventType::MessageUpdated, Record::Sms(&sms)), want);
    let created = render(RecordFormat::Current, EventType::MessageCreated, Record::Sms(&sms));
    assert_eq!(created.matches(r#""tm_update":null"#).count(), 2, "{created}");
}

#[test]
fn an_sms_has_words_and_parts_of_its_own() {
    for (direction, status, want) in [
        (Direction::Incoming, Status::Received, r#""status":"received","parts":1"#),
        (Direction::Outgoing, Status::Sending, r#""status":"queued","parts":1"#),
        (Direction::Outgoing, Status::Sent, r#""status":"sent","parts":1"#),
        (Direction::Outgoing, Status::Delivered, r#""status":"delivered","parts":1"#),
        (Direction::Outgoing, Status::Failed, r#""status":"failed","parts":1"#),
    ] {
        let sms = SmsMessage::of(&Message { direction, status, ..sms() }).unwrap();
        let body = render(RecordFormat::Documented, EventType::MessageCreated, Record::Sms(&sms));
        assert!(body.contains(want), "{body}");
    }
    let parts =
        |parts, text: &str| SmsMessage::of(&Message { parts, text: text.into(), ..sms() }).unwrap().target.parts;
    let long = "x".repeat(161);
    assert_eq!((parts(Some(3), "x"), parts(Some(0), &long), parts(None, &long)), (3, 2, 2));
    assert_eq!(SmsMessage::of(&message()), None);
}

#[test]
fn an_sms_is_told_before_its_conversation_message_and_under_an_id_of_its_own() {
    let render = Renderer::new(RecordFormat::Documented);
    let account = AccountId(Uuid::from_u128(7));
    let told = |event_type, message: &Message, cause: &str| {
        let events = OutboundEvent::of_message(&render, account, event_type, message, cause);
        events.into_iter().map(|event| (event.event_type, event.id)).collect::<Vec<_>>()
    };
    let types = |told: &[(EventType, _)]| told.iter().map(|(t, _)| *t).collect::<Vec<_>>();
    let created = told(EventType::ConversationMessageCreated, &sms(), "");
    assert_eq!(types(&created), [EventType::MessageCreated, EventType::ConversationMessageCreated]);
    assert_ne!(created[0].1, created[1].1);
    // A record is created once, whatever created it; every change has an id of its own.
    assert_eq!(told(EventType::ConversationMessageCreated, &sms(), "k"), created);
    let updated = told(EventType::ConversationMessageUpdated, &sms(), "k");
    assert_eq!(types(&updated), [EventType::MessageUpdated, EventType::ConversationMessageUpdated]);
    assert_ne!(told(EventType::ConversationMessageUpdated, &sms(), "l"), updated);
    for event_type in [EventType::ConversationMessageCreated, EventType::ConversationMessageDeleted] {
        assert_eq!(types(&told(event_type, &message(), "k")), [event_type]);
    }
}

#[test]
fn a_message_that_was_taken_back_is_empty_and_has_an_end() {
    let end = at("2026-07-26T08:00:00Z");
    let message = Message { text: String::new(), tm_update: end, tm_delete: Some(end), ..message() };
    for (format, want) in [
        (
            RecordFormat::Documented,
            r#""text":"","medias":[],"tm_create":"2026-07-26 07:49:07.588000","tm_update":"2026-07-26 08:00:00.000000","tm_delete":"2026-07-26 08:00:00.000000"}}"#,
        ),
        (
            RecordFormat::Current,
            r#""destination":{"type":"line","target_name":"Me"},"tm_create":"2026-07-26T07:49:07.588Z","tm_update":"2026-07-26T08:00:00Z","tm_delete":"2026-07-26T08:00:00Z"}}"#,
        ),
    ] {
        let body = render(format, EventType::ConversationMessageDeleted, Record::Message(&message));
        assert!(body.starts_with(r#"{"type":"conversation_message_deleted","#) && body.ends_with(want), "{body}");
    }
}

#[test]
fn a_channel_event_tells_what_the_provider_told() {
    let event = ChannelEvent {
        id: uuid(ID),
        conversation_id: ConversationId(uuid(CONVERSATION)),
        account_id: AccountId(Uuid::from_u128(7)),
        kind: "follow".into(),
        source: line("U1", ""),
        detail: "{\"type\": \"follow\",\n \"n\": 1.50, \"x\": \"<\\ud83d\"}".into(),
        tm_create: at("2026-07-26T07:49:07.588Z"),
    };
    let documented = r#"{"type":"channel_event","data":{"id":"cc46341b-f00a-452f-b527-19c85d030eaf","conversation_id":"64558b45-40a8-43db-b814-9c0dbf6d47b5","account_id":"00000000-0000-0000-0000-000000000007","kind":"follow","source":{"type":"line","target":"U1","target_name":"","name":"","detail":""},"detail":{"type":"follow","n":1.50,"x":"<\ud83d"},"tm_create":"2026-07-26 07:49:07.588000"}}"#;
    let current = r#"{"type":"channel_event","data":{"id":"cc46341b-f00a-452f-b527-19c85d030eaf","conversation_id":"64558b45-40a8-43db-b814-9c0dbf6d47b5","account_id":"00000000-0000-0000-0000-000000000007","kind":"follow","source":{"type":"line","target":"U1"},"detail":{"type":"follow","n":1.50,"x":"\u003c\ud83d"},"tm_create":"2026-07-26T07:49:07.588Z"}}"#;
    for (format, want) in [(RecordFormat::Documented, documented), (RecordFormat::Current, current)] {
        assert_eq!(render(format, EventType::ChannelEvent, Record::ChannelEvent(&event)), want);
    }
}
