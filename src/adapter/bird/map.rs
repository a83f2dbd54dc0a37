//! From a Bird webhook to the one event in it.

use super::body::{self, Body};
use super::wire::{Annotations, Envelope, Message as WireMessage, Part, Party, Receiver, ReplyTo, Sender};
use crate::adapter::lenient::{Field, unreadable};
use crate::domain::account::{Account, Channel};
use crate::domain::address::{Address, normalize_tel};
use crate::domain::conversation::{Sighting, UNKNOWN_DIALOG};
use crate::domain::event::{Content, DedupeKey, InboundEvent, NewMessage, Oddity, Quarantine, QuarantineReason};
use crate::domain::ids::MessageId;
use crate::domain::message::{Direction, Message, Status};
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
    let document = Field::document(body).ok_or_else(|| unreadable("not JSON"))?;
    let envelope: Envelope = document.object().ok_or_else(|| unreadable("not an object"))?;
    // Bird's flows post the message itself, without anything around it.
    let enveloped = envelope.payload.is_given() || envelope.event.is_given() || envelope.service.is_given();
    let payload = if enveloped { envelope.payload } else { document };
    let message = payload.object::<WireMessage>();
    if !enveloped && message.is_none_or(|message| message.id.is_blank()) {
        return Err(unreadable("id")); // some object, of which nobody can say what it is
    }

    let event = name_of(account.channel, &envelope, message.as_ref())?;
    *kind = event.chars().take(MAX_KIND_CHARS).collect();
    let wanted = meant_for_us(account.channel, &envelope, &event)?;
    let message = message.ok_or_else(|| unreadable("payload"))?;
    check_channel(channel_id, &message)?;
    if wanted == Wanted::Later {
        return Err(Quarantine::new(QuarantineReason::Unsupported, "event"));
    }
    inbound(account, &message)
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
    Ok(Cow::Owned(format!("{}.{kind}", channel.as_str())))
}

#[derive(PartialEq, Eq)]
enum Wanted {
    Now,
    Later,
}

fn meant_for_us(channel: Channel, envelope: &Envelope<'_>, event: &str) -> Result<Wanted, Quarantine> {
    if envelope.service.filled("service")?.is_some_and(|service| service != "channels") {
        return Err(Quarantine::new(QuarantineReason::Foreign, "service"));
    }
    match event.split_once('.') {
        Some((platform, "inbound")) if platform == channel.as_str() => Ok(Wanted::Now),
        Some((platform, _)) if platform == channel.as_str() => Ok(Wanted::Later),
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
    let (id, provider_key) = identify(account, &id);
    let times = Times::read(message)?;
    let sighting = sighting(account, message, times.at)?;

    let reference = part_reference(message)?;
    let Body { text, medias, mut metadata, mut oddities } = body::read(message.body, id, reference.as_deref())?;
    let reply_to: ReplyTo = message.reply_to.object().unwrap_or_default();
    metadata.reply_to = reply_to.id.filled("replyTo.id")?.map(Cow::into_owned);
    oddities.extend(times.oddities);

    let message = Message {
        id,
        account_id: account.id,
        customer_id: account.customer_id,
        conversation_id: sighting.conversation_id(account),
        direction: Direction::Incoming,
        status: Status::Received,
        reference_type: account.channel.reference_type(),
        dialog_id: sighting.dialog_id.clone(),
        source: sighting.peer.clone(),
        destination: sighting.own.clone(),
        text,
        medias,
        metadata,
        parts: None,
        tm_create: times.at,
        tm_update: times.updated,
        tm_delete: None,
    };
    Ok(InboundEvent {
        kind: String::new(),
        key: Some(DedupeKey { at: times.at, provider_key }),
        content: Content::Message(Box::new(NewMessage { sighting, message })),
        oddities,
    })
}

/// The record's id and the key of repeats. Bird's own id is kept when it is the UUID it is documented to be:
/// subscribers can then look the message up at Bird.
pub(super) fn identify(account: &Account, id: &str) -> (MessageId, String) {
    // `try_parse` alone also takes braces, URNs and bare digits.
    match Uuid::try_parse(id).ok().filter(|_| id.len() == 36) {
        Some(uuid) => (MessageId(uuid), id.to_ascii_lowercase()),
        None => (MessageId::derive(account.id, &format!("bird:message:{id}")), id.to_owned()),
    }
}

struct Times {
    at: Timestamp,
    updated: Timestamp,
    oddities: Vec<Oddity>,
}

impl Times {
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

fn sighting(account: &Account, message: &WireMessage<'_>, at: Timestamp) -> Result<Sighting, Quarantine> {
    let sender: Sender = message.sender.object().unwrap_or_default();
    let contact: Party = sender.contact.object().unwrap_or_default();
    let annotations: Annotations = contact.annotations.object().unwrap_or_default();
    let receiver: Receiver = message.receiver.object().unwrap_or_default();
    let connector: Party = receiver.connector.object().unwrap_or_default();

    let who = contact.identifier_value.text("sender.contact.identifierValue")?.unwrap_or_default();
    let name = annotations.name.text("sender.contact.annotations.name")?.unwrap_or_default();
    let us = connector.identifier_value.text("receiver.connector.identifierValue")?;

    let target = target(account.channel, &who);
    let dialog_id = if target.is_empty() { UNKNOWN_DIALOG.to_owned() } else { target.clone() };
    Ok(Sighting {
        dialog_id,
        own: account.own_address(us.map(|us| self::target(account.channel, &us)).as_deref()),
        peer: Address::new(account.channel.address_kind(), target, name),
        at,
    })
}

/// Numbers are compared and replied to as digits; LINE's ids are taken as they are.
fn target(channel: Channel, id: &str) -> String {
    match channel {
        Channel::Line => id.to_owned(),
        Channel::Sms => normalize_tel(id),
    }
}

/// The platform's own id of the message.
fn part_reference<'a>(message: &WireMessage<'a>) -> Result<Option<Cow<'a, str>>, Quarantine> {
    let parts = message.parts.list().unwrap_or_default();
    let first: Part = parts.first().and_then(|part| part.object()).unwrap_or_default();
    first.platform_reference.filled("parts.0.platformReference")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::ids::{AccountId, CustomerId};
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
        assert_eq!((&*outbound.kind, &*quarantine(&outbound)), ("line.outbound", "unsupported: event"));
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
        assert_eq!(of_channel("line.outbound", &ours.to_string()), "unsupported: event");
        assert_eq!(of_channel("line.inbound", &ours.to_string().to_uppercase()), "unreadable: id");
        assert_eq!(of_channel("line.inbound", ""), "unreadable: id");
        assert_eq!(of_channel("line.something", ""), "unsupported: event");
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
}
