//! The records as VoIPBIN's published documents show them: every key always there, times without a zone.

use super::parts::{FullAddress, Id, MediaExtras, Metadata, Verbatim};
use super::time::Documented;
use crate::domain::conversation::Conversation as DomainConversation;
use crate::domain::event::ChannelEvent as DomainChannelEvent;
use crate::domain::message::{Direction, Media as DomainMedia, Message as DomainMessage, Status};
use crate::domain::sms::SmsMessage;
use serde::Serialize;
use uuid::Uuid;

/// A conversation message.
#[derive(Serialize)]
pub(super) struct Message<'a> {
    id: Id,
    conversation_id: Id,
    direction: &'static str,
    status: &'static str,
    reference_type: &'static str,
    reference_id: &'a str,
    source: FullAddress<'a>,
    text: &'a str,
    medias: Vec<Media<'a>>,
    tm_create: Documented,
    tm_update: Documented,
    tm_delete: Documented,
    #[serde(skip_serializing_if = "Option::is_none")]
    metadata: Option<Metadata<'a, FullAddress<'a>>>,
}

impl<'a> From<&'a DomainMessage> for Message<'a> {
    fn from(message: &'a DomainMessage) -> Self {
        Self {
            id: Id(message.id.0),
            conversation_id: Id(message.conversation_id.0),
            direction: message.direction.as_str(),
            status: status(message),
            reference_type: message.reference_type,
            reference_id: &message.dialog_id,
            source: FullAddress::from(&message.source),
            text: &message.text,
            medias: message.medias.iter().map(|media| Media::new(media, message)).collect(),
            tm_create: Documented(Some(message.tm_create)),
            tm_update: Documented(Some(message.tm_update)),
            tm_delete: Documented(message.tm_delete),
            metadata: Metadata::of(&message.metadata),
        }
    }
}

fn status(message: &DomainMessage) -> &'static str {
    match (message.direction, message.status) {
        (Direction::Incoming, _) | (_, Status::Received) => "received",
        (_, Status::Sending) => "sending",
        (_, Status::Sent | Status::Delivered) => "sent",
        (_, Status::Failed) => "failed",
    }
}

#[derive(Serialize)]
struct Media<'a> {
    id: Id,
    r#type: &'static str,
    filename: &'a str,
    tm_create: Documented,
    tm_update: Documented,
    tm_delete: Documented,
    #[serde(flatten)]
    extras: MediaExtras<'a>,
}

impl<'a> Media<'a> {
    fn new(media: &'a DomainMedia, message: &DomainMessage) -> Self {
        Self {
            id: Id(media.id.0),
            r#type: media.kind.as_str(),
            filename: media.filename.as_deref().unwrap_or_default(),
            tm_create: Documented(Some(message.tm_create)),
            tm_update: Documented(Some(message.tm_update)),
            tm_delete: Documented(message.tm_delete),
            extras: MediaExtras::from(media),
        }
    }
}

/// A conversation.
#[derive(Serialize)]
pub(super) struct Conversation<'a> {
    id: Id,
    customer_id: Id,
    owner_type: &'static str,
    owner_id: Id,
    account_id: Id,
    name: String,
    detail: String,
    reference_type: &'static str,
    reference_id: &'a str,
    source: FullAddress<'a>,
    participants: [FullAddress<'a>; 2],
    r#type: &'static str,
    dialog_id: &'a str,
    #[serde(rename = "self")]
    own: FullAddress<'a>,
    peer: FullAddress<'a>,
    tm_create: Documented,
    tm_update: Documented,
    tm_delete: Documented,
}

impl<'a> From<&'a DomainConversation> for Conversation<'a> {
    fn from(conversation: &'a DomainConversation) -> Self {
        let own = || FullAddress::from(&conversation.own);
        let peer = || FullAddress::from(&conversation.peer);
        let kind = conversation.channel.reference_type();
        Self {
            id: Id(conversation.id.0),
            customer_id: Id(conversation.customer_id.0),
            owner_type: "",
            owner_id: Id(Uuid::nil()),
            account_id: Id(conversation.account_id.0),
            name: conversation.name(),
            detail: conversation.detail(),
            reference_type: kind,
            reference_id: &conversation.dialog_id,
            source: peer(),
            participants: [own(), peer()],
            r#type: kind,
            dialog_id: &conversation.dialog_id,
            own: own(),
            peer: peer(),
            tm_create: Documented(Some(conversation.tm_create)),
            tm_update: Documented(Some(conversation.tm_update.unwrap_or(conversation.tm_create))),
            tm_delete: Documented(conversation.tm_delete),
        }
    }
}

/// An SMS.
#[derive(Serialize)]
pub(super) struct Sms<'a> {
    id: Id,
    r#type: &'static str,
    source: FullAddress<'a>,
    targets: [Target<'a>; 1],
    text: &'a str,
    direction: &'static str,
    tm_create: Documented,
    tm_update: Documented,
    tm_delete: Documented,
}

#[derive(Serialize)]
struct Target<'a> {
    destination: FullAddress<'a>,
    status: &'static str,
    parts: u32,
    tm_update: Documented,
}

impl<'a> From<&'a SmsMessage> for Sms<'a> {
    fn from(sms: &'a SmsMessage) -> Self {
        let target = Target {
            destination: FullAddress::from(&sms.target.destination),
            status: sms.status_word(),
            parts: sms.target.parts,
            tm_update: Documented(Some(sms.tm_update)),
        };
        Self {
            id: Id(sms.id.0),
            r#type: "sms",
            source: FullAddress::from(&sms.source),
            targets: [target],
            text: &sms.text,
            direction: sms.direction_word(),
            tm_create: Documented(Some(sms.tm_create)),
            tm_update: Documented(Some(sms.tm_update)),
            tm_delete: Documented(sms.tm_delete),
        }
    }
}

/// Something that happened without a message.
#[derive(Serialize)]
pub(super) struct ChannelEvent<'a> {
    id: Id,
    conversation_id: Id,
    account_id: Id,
    kind: &'a str,
    source: FullAddress<'a>,
    detail: Verbatim<'a>,
    tm_create: Documented,
}

impl<'a> From<&'a DomainChannelEvent> for ChannelEvent<'a> {
    fn from(event: &'a DomainChannelEvent) -> Self {
        Self {
            id: Id(event.id),
            conversation_id: Id(event.conversation_id.0),
            account_id: Id(event.account_id.0),
            kind: &event.kind,
            source: FullAddress::from(&event.source),
            detail: Verbatim(&event.detail),
            tm_create: Documented(Some(event.tm_create)),
        }
    }
}
