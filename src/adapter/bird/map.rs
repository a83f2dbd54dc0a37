//! From a Bird webhook to the one event in it.

use super::body::{self, Body};
use super::wire::{Annotations, Envelope, Failure, Message as WireMessage, Part, Party, Receiver, ReplyTo, Sender};
use crate::adapter::hmac::sha256_hex;
use crate::adapter::lenient::{Document, Field, beginning, unreadable};
use crate::domain::account::{Account, Channel};
use crate::domain::address::{Address, normalize_tel};
use crate::domain::conversation::{Sighting, UNKNOWN_DIALOG};
use crate::domain::event::{
    ChannelEvent, Content, DedupeKey, InboundEvent, NewMessage, Notice, Oddity, Quarantine, QuarantineReason,
};
use crate::domain::ids::{AccountId, ConversationId, MessageId};
use crate::domain::message::{Direction, Message, ProviderStatus, Status};
use crate::domain::time::Timestamp;
use std::borrow::Cow;
use uuid::Uuid;

/// An event name comes from outside and ends up in listings.
const MAX_KIND_CHARS: usize = 64;

/// The event in `body`. Total: what cannot be understood is in quarantine.
pub(crate) fn event(account: &Account, channel_id: Option<Uuid>, body: &[u8]) -> InboundEvent {
    let mut kind = String::new();
    match understand(account, channel_id, body, &mut kind) {
        Ok(event) => InboundEvent { kind, ..event },
        Err(quarantine) => {
            let content = Content::Quarantined(quarantine);
            InboundEvent { kind, key: None, content, oddities: Vec::new() }
        }
    }
}

fn understand(
    account: &Account,
    channel_id: Option<Uuid>,
    body: &[u8],
    kind: &mut String,
) -> Result<InboundEvent, Quarantine> {
    let document = Document::parse(body).ok_or_else(|| unreadable("not JSON"))?;
    let document = document.root();
    let envelope: Envelope = document.object().ok_or_else(|| unreadable("not an object"))?;
    // Bird's flows post the message itself, without anything around it.
    let enveloped = [envelope.payload, envelope.event, envelope.service].iter().any(|field| !field.is_blank());
    let payload = if enveloped { envelope.payload } else { document };
    let message = payload.object::<WireMessage>();
    if !enveloped && message.is_none_or(|message| message.id.is_blank()) {
        return Err(unreadable("id")); // some object, of which nobody can say what it is
    }

    let event = name_of(account.channel, &envelope, message.as_ref())?;
    beginning(&event, MAX_KIND_CHARS).clone_into(kind);
    let wanted = meant_for_us(account.channel, &envelope, &event)?;
    let message = message.ok_or_else(|| unreadable("payload"))?;
    check_channel(channel_id, &message)?;
    match wanted {
        Wanted::Inbound => inbound(account, &message),
        Wanted::Outbound => outbound(account, &message),
        Wanted::Notice => notice(account, kind, payload, &message),
    }
}

/// The event's name; a message on its own is named by its direction.
fn name_of<'a>(
    channel: Channel,
    envelope: &Envelope<'a>,
    message: Option<&WireMessage<'_>>,
) -> Result<Cow<'a, str>, Quarantine> {
    if let Some(name) = envelope.event.filled("event")? {
        return Ok(name);
    }
    let direction = message.map_or(Ok(None), |m| m.direction.text("direction"))?;
    let kind = if direction.as_deref() == Some("outgoing") { "outbound" } else { "inbound" };
    Ok(Cow::Owned([channel.as_str(), ".", kind].concat()))
}

enum Wanted {
    /// Somebody wrote to us.
    Inbound,
    /// What became of a message of ours.
    Outbound,
    /// Anything else that happened on our channel.
    Notice,
}

fn meant_for_us(channel: Channel, envelope: &Envelope<'_>, event: &str) -> Result<Wanted, Quarantine> {
    if envelope.service.filled("service")?.is_some_and(|service| service != "channels") {
        return Err(Quarantine::new(QuarantineReason::Foreign, "service"));
    }
    match event.split_once('.') {
        Some((platform, kind)) if platform == channel.as_str() => Ok(match kind {
            "inbound" => Wanted::Inbound,
            "outbound" => Wanted::Outbound,
            _ => Wanted::Notice,
        }),
        _ => Err(Quarantine::new(QuarantineReason::Foreign, "event")),
    }
}

fn check_channel(wanted: Option<Uuid>, message: &WireMessage<'_>) -> Result<(), Quarantine> {
    let given = message.channel_id.filled("channelId")?;
    match (wanted, given) {
        (Some(wanted), Some(given)) if Uuid::try_parse(&given) != Ok(wanted) => {
            Err(Quarantine::new(QuarantineReason::OtherChannel, "channelId"))
        }
        _ => Ok(()),
    }
}

fn inbound(account: &Account, message: &WireMessage<'_>) -> Result<InboundEvent, Quarantine> {
    let id = message.id.filled("id")?.ok_or_else(|| unreadable("id"))?;
    let (id, provider_key) = identify(account.id, &id);
    let times = Times::read(message)?;
    let sender: Sender = message.sender.object().unwrap_or_default();
    let receiver: Receiver = message.receiver.object().unwrap_or_default();
    let peer = Person::read(account.channel, sender.contact, "sender.contact")?;
    let own = own(account, receiver.connector, "receiver.connector")?;
    let sighting = sighting(peer, own, times.at);
    let reference = part_reference(message)?;
    let body = body::read(message.body, id, reference.as_deref())?;
    let (message, oddities) =
        record(account, message, Record { id, direction: Direction::Incoming, sighting: &sighting, times, body })?;
    Ok(InboundEvent {
        kind: String::new(),
        key: Some(DedupeKey { at: message.tm_create, provider_key }),
        content: Content::Message(Box::new(NewMessage { sighting, message })),
        oddities,
    })
}

/// What became of a message of ours, or of one that somebody wrote in Bird's own inbox.
fn outbound(account: &Account, message: &WireMessage<'_>) -> Result<InboundEvent, Quarantine> {
    let id = message.id.filled("id")?.ok_or_else(|| unreadable("id"))?;
    let (id, provider_key) = identify(account.id, &id);
    let word = message.status.filled("status")?;
    let times = Times::read_status(message)?;
    let sender: Sender = message.sender.object().unwrap_or_default();
    let peer = recipient(account.channel, message)?;
    let own = own(account, sender.connector, "sender.connector")?;
    let sighting = sighting(peer, own, times.at);
    let reference = part_reference(message)?;
    let body = body::read_sent(message.body, message.template, id, reference.as_deref())?;
    let known = Record { id, direction: Direction::Outgoing, sighting: &sighting, times, body };
    let (mut record, oddities) = record(account, message, known)?;
    record.status = status(word.as_deref());
    let failure: Failure = message.failure.object().unwrap_or_default();
    let provider = ProviderStatus {
        status: word.as_deref().map(str::to_owned),
        reason: message.reason.filled("reason")?.map(Cow::into_owned),
        failure: failure.code.filled("failure.code")?.map(Cow::into_owned),
    };
    record.metadata.provider = Some(provider).filter(|provider| *provider != ProviderStatus::default());
    Ok(InboundEvent {
        kind: String::new(),
        key: Some(DedupeKey {
            at: record.tm_create,
            provider_key: format!("{provider_key}{}", word.unwrap_or_default()),
        }),
        content: Content::Outgoing(Box::new(NewMessage { sighting, message: record })),
        oddities,
    })
}

/// Bird's words. For LINE `sent` is the last one: LINE tells nobody what was delivered or read.
fn status(word: Option<&str>) -> Status {
    match word {
        None | Some("accepted" | "processing" | "scheduled") => Status::Sending,
        Some("delivered") => Status::Delivered,
        Some("rejected" | "sending_failed" | "delivery_failed" | "skipped" | "deleted") => Status::Failed,
        Some(_) => Status::Sent,
    }
}

/// A click, a read receipt, a change of the channel: passed on as it is.
fn notice(
    account: &Account,
    kind: &str,
    payload: Field<'_>,
    message: &WireMessage<'_>,
) -> Result<InboundEvent, Quarantine> {
    let detail = payload.shallow("payload")?.raw().unwrap_or("{}");
    let interaction = kind.ends_with(".interaction");
    let provider_key = match message.id.filled("id")?.filter(|_| interaction) {
        Some(id) => identify(account.id, &id).1,
        // What the id of an event that we do not know stands for is not known either: it may come again and again.
        None => format!("{kind}:{}", sha256_hex(detail.as_bytes())),
    };
    let times = Times::read(message)?;
    let peer = recipient(account.channel, message)?;
    let known = !peer.target.is_empty();
    let sighting = sighting(peer, account.own_address(None), times.at);
    let conversation_id = if known { sighting.conversation_id(account) } else { ConversationId(Uuid::nil()) };
    let record = ChannelEvent {
        id: ChannelEvent::id_of(account.id, &provider_key),
        conversation_id,
        account_id: account.id,
        kind: kind.to_owned(),
        source: sighting.peer.clone(),
        detail: detail.to_owned(),
        tm_create: times.at,
    };
    Ok(InboundEvent {
        kind: String::new(),
        key: Some(DedupeKey { at: times.at, provider_key }),
        content: Content::Notice(Box::new(Notice { sighting: known.then_some(sighting), opens: false, record })),
        oddities: times.oddities,
    })
}

/// What is known of a message when its record is made.
struct Record<'r> {
    id: MessageId,
    direction: Direction,
    sighting: &'r Sighting,
    times: Times,
    body: Body,
}

fn record(
    account: &Account,
    message: &WireMessage<'_>,
    known: Record<'_>,
) -> Result<(Message, Vec<Oddity>), Quarantine> {
    let Record { id, direction, sighting, times, body } = known;
    let Body { text, medias, mut metadata, mut oddities } = body;
    let reply_to: ReplyTo = message.reply_to.object().unwrap_or_default();
    metadata.reply_to = reply_to.id.filled("replyTo.id")?.map(Cow::into_owned);
    oddities.extend(times.oddities);
    let units = message.chargeable_units.integer().and_then(|units| u32::try_from(units).ok());
    let (source, destination, status) = match direction {
        Direction::Incoming => (&sighting.peer, &sighting.own, Status::Received),
        Direction::Outgoing => (&sighting.own, &sighting.peer, Status::Sending),
    };
    let message = Message {
        id,
        account_id: account.id,
        customer_id: account.customer_id,
        conversation_id: sighting.conversation_id(account),
        direction,
        status,
        reference_type: account.channel.reference_type(),
        dialog_id: sighting.dialog_id.clone(),
        source: source.clone(),
        destination: destination.clone(),
        text,
        medias,
        metadata,
        parts: units.filter(|units| *units >= 1 && account.channel == Channel::Sms),
        tm_create: times.at,
        tm_update: times.updated,
        tm_delete: None,
    };
    Ok((message, oddities))
}

/// The record's id and the key of repeats. Bird's own id is kept when it is the UUID it is documented to be:
/// subscribers can then look the message up at Bird.
pub(super) fn identify(account: AccountId, id: &str) -> (MessageId, String) {
    // `try_parse` alone also takes braces, URNs and bare digits.
    match Uuid::try_parse(id).ok().filter(|_| id.len() == 36) {
        Some(uuid) => (MessageId(uuid), id.to_ascii_lowercase()),
        None => (MessageId::derive_of(account, "bird:message", id), id.to_owned()),
    }
}

struct Times {
    at: Timestamp,
    updated: Timestamp,
    oddities: Vec<Oddity>,
}

impl Times {
    /// Of a status: it changed the message, whether or not Bird says when the message itself was changed.
    fn read_status(message: &WireMessage<'_>) -> Result<Self, Quarantine> {
        let mut times = Self::read(message)?;
        if message.updated_at.is_blank() {
            let changed = message.last_status_at.text("lastStatusAt")?.and_then(|text| Timestamp::parse(&text));
            times.updated = changed.unwrap_or(times.updated);
        }
        Ok(times)
    }

    fn read(message: &WireMessage<'_>) -> Result<Self, Quarantine> {
        let mut oddities = Vec::new();
        let mut time = |field: Field<'_>, place| -> Result<Option<Timestamp>, Quarantine> {
            let time = field.text(place)?.and_then(|text| Timestamp::parse(&text));
            if time.is_none() && !field.is_blank() {
                oddities.push(Oddity::Time);
            }
            Ok(time)
        };
        let created = time(message.created_at, "createdAt")?;
        let changed = if created.is_none() { time(message.last_status_at, "lastStatusAt")? } else { None };
        let updated = time(message.updated_at, "updatedAt")?;
        let at = created.or(changed).or(updated).unwrap_or(Timestamp::EPOCH);
        Ok(Self { at, updated: updated.unwrap_or(at), oddities })
    }
}

/// The other side of a dialog.
struct Person {
    target: String,
    name: String,
    channel: Channel,
}

impl Person {
    fn read(channel: Channel, contact: Field<'_>, place: &str) -> Result<Self, Quarantine> {
        let contact: Party = contact.object().unwrap_or_default();
        let annotations: Annotations = contact.annotations.object().unwrap_or_default();
        let who = contact.identifier_value.text(format_args!("{place}.identifierValue"))?.unwrap_or_default();
        let name = annotations.name.text(format_args!("{place}.annotations.name"))?.unwrap_or_default();
        Ok(Self { target: target(channel, who).into_owned(), name: name.into_owned(), channel })
    }
}

/// Whom a message was sent to: the contact, or what some senders put in the connector's place.
fn recipient(channel: Channel, message: &WireMessage<'_>) -> Result<Person, Quarantine> {
    let receiver: Receiver = message.receiver.object().unwrap_or_default();
    match receiver.contacts.list().unwrap_or_default().next() {
        Some(contact) => Person::read(channel, contact, "receiver.contacts.0"),
        None => Person::read(channel, receiver.connector, "receiver.connector"),
    }
}

/// Our own side, as the connector names it. A sender's name (`MyShop24`) is no number.
fn own(account: &Account, connector: Field<'_>, place: &str) -> Result<Address, Quarantine> {
    let connector: Party = connector.object().unwrap_or_default();
    let us = connector.identifier_value.text(format_args!("{place}.identifierValue"))?;
    let is_name = |us: &str| us.contains(char::is_alphabetic);
    let us = us.map(|us| if is_name(&us) { us } else { target(account.channel, us) });
    Ok(account.own_address(us.as_deref()))
}

fn sighting(peer: Person, own: Address, at: Timestamp) -> Sighting {
    let Person { target, name, channel } = peer;
    let dialog_id = if target.is_empty() { UNKNOWN_DIALOG.to_owned() } else { target.clone() };
    Sighting { dialog_id, own, peer: Address::new(channel.address_kind(), target, name), at }
}

/// Numbers are compared and replied to as digits; LINE's ids are taken as they are.
fn target(channel: Channel, id: Cow<'_, str>) -> Cow<'_, str> {
    match channel {
        Channel::Line => id,
        Channel::Sms => Cow::Owned(normalize_tel(&id)),
    }
}

/// The platform's own id of the message.
fn part_reference<'a>(message: &WireMessage<'a>) -> Result<Option<Cow<'a, str>>, Quarantine> {
    let first = message.parts.list().and_then(|mut parts| parts.next());
    let first: Part = first.and_then(Field::object).unwrap_or_default();
    first.platform_reference.filled("parts.0.platformReference")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::ids::CustomerId;
    use crate::domain::message::MediaKind;

    fn account(channel: Channel, address: Option<&str>) -> Account {
        Account {
            id: AccountId(Uuid::from_u128(1)),
            customer_id: CustomerId(Uuid::from_u128(2)),
            name: "Shop".into(),
            channel,
            address: address.map(str::to_owned),
        }
    }

    fn line(body: &str) -> InboundEvent {
        event(&account(Channel::Line, None), None, body.as_bytes())
    }

    fn message(event: InboundEvent) -> NewMessage {
        match event.content {
            Content::Message(new) => *new,
            other => panic!("{other:?}"),
        }
    }

    fn quarantine(event: &InboundEvent) -> String {
        match &event.content {
            Content::Quarantined(why) => why.to_string(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_repeat_has_the_same_key_whatever_the_case_of_its_id() {
        let id = "0B7F2B0E-6A1C-4A53-9D0B-2F6F4F9B1A01";
        let at = "2026-01-02T03:04:05.588Z";
        let upper = line(&format!(r#"{{"id":"{id}","createdAt":"{at}"}}"#));
        let lower = line(&format!(r#"{{"id":"{}","createdAt":"{at}","status":"x"}}"#, id.to_lowercase()));
        let key = upper.key.clone().unwrap();
        assert_eq!((key.at, &*key.provider_key), (Timestamp::parse(at).unwrap(), &*id.to_lowercase()));
        assert_eq!(upper.key, lower.key);
        assert_eq!(message(upper).message.id, message(lower).message.id);
        // Anything but a UUID is kept as it is.
        assert_eq!(line(r#"{"id":"Msg-1"}"#).key.unwrap().provider_key, "Msg-1");
        assert_eq!(line(r#"{"id":"Msg-1"}"#).key.unwrap().at, Timestamp::EPOCH);
    }

    #[test]
    fn nothing_around_a_message_is_no_envelope() {
        let bare = line(r#"{"service":null,"event":null,"payload":null,"id":"Msg-1","body":{"type":"text"}}"#);
        assert_eq!((&*bare.kind, bare.key.unwrap().provider_key.as_str()), ("line.inbound", "Msg-1"));
        assert_eq!(quarantine(&line(r#"{"event":"line.inbound","payload":null}"#)), "unreadable: payload");
    }

    #[test]
    fn a_sender_s_name_is_no_number() {
        let sms = account(Channel::Sms, None);
        for (us, want) in [("MyShop24", "MyShop24"), (" +31 (0)6-12 ", "+310612"), ("24 365", "24365")] {
            let body = format!(
                r#"{{"id":"Msg-1","sender":{{"contact":{{"identifierValue":"Bank24"}}}},
                    "receiver":{{"connector":{{"identifierValue":"{us}"}}}}}}"#
            );
            let message = message(event(&sms, None, body.as_bytes())).message;
            assert_eq!((&*message.destination.target, &*message.source.target), (want, "24"), "{us}");
        }
    }

    #[test]
    fn kinds_and_oddities_are_reported() {
        let odd = line(
            r#"{"id":"1","createdAt":"soon","lastStatusAt":7,"updatedAt":"2026-01-02T03:04:05Z","body":{"type":"text",
            "text":{"text":"ab","metadata":{"line":{"emoji":{"items":[{"index":1,"length":2},{"index":0,"length":1}]}}},
            "actions":[{"type":"link"}]}}}"#,
        );
        assert_eq!(odd.kind, "line.inbound");
        assert_eq!(odd.oddities, [Oddity::Span, Oddity::Unmapped, Oddity::Time, Oddity::Time]);
        assert_eq!(odd.key.unwrap().at, Timestamp::parse("2026-01-02T03:04:05Z").unwrap());

        let outbound = line(r#"{"id":"1","direction":"outgoing"}"#);
        assert_eq!((&*outbound.kind, &*outbound.key.unwrap().provider_key), ("line.outbound", "1"));
        let long = line(&format!(r#"{{"event":"{}","payload":{{}}}}"#, "e".repeat(100)));
        assert_eq!((long.kind.len(), &*quarantine(&long)), (64, "foreign: event"));
        for nothing in ["{}", "[]", "{\"id\":\"\"}", "{\"body\":{}}"] {
            let event = line(nothing);
            assert_eq!((&*event.kind, event.key.is_none()), ("", true), "{nothing}");
            assert!(quarantine(&event).starts_with("unreadable"), "{nothing}");
        }
    }

    #[test]
    fn every_reason_has_its_order() {
        let ours = Uuid::from_u128(9);
        let of_channel = |event: &str, channel: &str| {
            let body = format!(r#"{{"event":"{event}","payload":{{"channelId":"{channel}"}}}}"#);
            quarantine(&super::event(&account(Channel::Line, None), Some(ours), body.as_bytes()))
        };
        assert_eq!(of_channel("whatsapp.inbound", "other"), "foreign: event");
        assert_eq!(of_channel("line.outbound", "other"), "other_channel: channelId");
        assert_eq!(of_channel("line.outbound", &ours.to_string()), "unreadable: id");
        assert_eq!(of_channel("line.interaction", "other"), "other_channel: channelId");
        assert_eq!(of_channel("line.inbound", &ours.to_string().to_uppercase()), "unreadable: id");
        assert_eq!(of_channel("line.inbound", ""), "unreadable: id");
        assert_eq!(of_channel("line", ""), "foreign: event");
        assert_eq!(quarantine(&line(r#"{"event":"line.inbound","payload":[1]}"#)), "unreadable: payload");
        assert_eq!(quarantine(&line(r#"{"event":"line.inbound","id":"1"}"#)), "unreadable: payload");
    }

    #[test]
    fn a_number_s_dialog_is_its_digits() {
        let body = r#"{"service":"channels","event":"sms.inbound","payload":{"id":"1","sender":{"contact":{
            "identifierKey":"phonenumber","identifierValue":"+31 6 1234-5678"}},"receiver":{"connector":{"id":"x"}},
            "body":{"type":"image","image":{"images":[{"mediaUrl":"https://x.example/1"}]}}}}"#;
        let account = account(Channel::Sms, Some("+3197010"));
        let NewMessage { sighting, message } = message(event(&account, None, body.as_bytes()));
        assert_eq!(sighting.dialog_id, "+31612345678");
        assert_eq!((message.reference_type, &*message.source.target), ("message", "+31612345678"));
        assert_eq!((&*message.destination.target, &*message.destination.target_name), ("+3197010", "Shop"));
        assert_eq!(message.medias[0].kind, MediaKind::Image);
        let line = event(&account, None, br#"{"event":"line.inbound","payload":{"id":"1"}}"#);
        assert_eq!(quarantine(&line), "foreign: event");
    }

    fn outgoing(payload: &str) -> (String, Message) {
        let body = format!(r#"{{"service":"channels","event":"line.outbound","payload":{payload}}}"#);
        let event = line(&body);
        match event.content {
            Content::Outgoing(new) => (event.key.unwrap().provider_key, new.message),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn every_status_word_has_its_rank() {
        for (words, want) in [
            (&["accepted", "processing", "scheduled"][..], Status::Sending),
            (&["sent", "read", "queued", "DELIVERED"], Status::Sent),
            (&["delivered"], Status::Delivered),
            (&["rejected", "sending_failed", "delivery_failed", "skipped", "deleted"], Status::Failed),
        ] {
            for word in words {
                let (key, message) = outgoing(&format!(r#"{{"id":"m","status":"{word}"}}"#));
                assert_eq!((&*key, message.status), (&*format!("m{word}"), want));
            }
        }
        let (key, message) = outgoing(r#"{"id":"m"}"#);
        assert_eq!((&*key, message.status, message.metadata.provider), ("m", Status::Sending, None));
    }

    #[test]
    fn an_outgoing_message_is_from_us_to_its_first_contact() {
        let contact = |id| format!(r#"{{"identifierValue":"{id}","annotations":{{"name":"Mei"}}}}"#);
        let sender = r#""sender":{"connector":{"identifierValue":"2005"}}"#;
        let (_, message) = outgoing(&format!(
            r#"{{"id":"m",{sender},"receiver":{{"contacts":[{},{}],"connector":{{"identifierValue":"x"}}}}}}"#,
            contact("U1"),
            contact("U2")
        ));
        assert_eq!((&*message.source.target, &*message.source.target_name), ("2005", "Shop"));
        assert_eq!((&*message.destination.target, &*message.destination.target_name), ("U1", "Mei"));
        assert_eq!((&*message.dialog_id, message.is_bare()), ("U1", true));
        let (_, message) = outgoing(&format!(r#"{{"id":"m","receiver":{{"connector":{}}}}}"#, contact("U3")));
        assert_eq!((&*message.dialog_id, &*message.source.target), ("U3", ""));
        assert_eq!(outgoing(r#"{"id":"m","receiver":{"contacts":[]}}"#).1.dialog_id, "unknown");
    }

    #[test]
    fn notices_are_known_again_by_their_id_or_by_all_they_say() {
        let key = |event: &str, payload: &str| {
            let event = line(&format!(r#"{{"service":"channels","event":"{event}","payload":{payload}}}"#));
            assert!(matches!(&event.content, Content::Notice(notice) if notice.record.detail == payload));
            event.key.unwrap().provider_key
        };
        assert_eq!(key("line.interaction", r#"{"id":"I1","type":"clicked"}"#), "I1");
        let updated = key("line.updated", r#"{"id":"channel","status":"active"}"#);
        assert_eq!(updated, key("line.updated", r#"{"id":"channel","status":"active"}"#));
        assert_ne!(updated, key("line.updated", r#"{"id":"channel","status":"inactive"}"#));
        assert!(key("line.interaction", "{}").starts_with("line.interaction:"));
    }

    #[test]
    fn only_an_sms_is_counted_in_units() {
        let units = |channel, units: &str| {
            let body = format!(r#"{{"id":"1","chargeableUnits":{units}}}"#);
            message(event(&account(channel, None), None, body.as_bytes())).message.parts
        };
        assert_eq!(units(Channel::Sms, "3"), Some(3));
        for none in ["0", "-1", "null", "1.5", "99999999999"] {
            assert_eq!(units(Channel::Sms, none), None, "{none}");
        }
        assert_eq!(units(Channel::Line, "3"), None);
    }
}
