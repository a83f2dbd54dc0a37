//! The records as VoIPBIN's code writes them today: Go structs, empty keys left out, RFC 3339 times.

use super::parts::{Id, MediaExtras, Metadata, ShortAddress, Verbatim};
use super::time::Current;
use crate::domain::account::Channel;
use crate::domain::conversation::Conversation as DomainConversation;
use crate::domain::event::ChannelEvent as DomainChannelEvent;
use crate::domain::message::{Direction, Media as DomainMedia, Message as DomainMessage, Status};
use crate::domain::sms::SmsMessage;
use crate::domain::time::Timestamp;
use serde::Serialize;
use uuid::Uuid;

/// A conversation message.
#[derive(Serialize)]
pub(super) struct Message<'a> {
    id: Id,
    customer_id: Id,
    conversation_id: Id,
    direction: &'static str,
    status: &'static str,
    reference_type: &'static str,
    reference_id: Id,
    source: ShortAddress<'a>,
    destination: ShortAddress<'a>,
    #[serde(skip_serializing_if = "str::is_empty")]
    text: &'a str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    medias: Vec<Media<'a>>,
    tm_create: Current,
    tm_update: Current,
    tm_delete: Current,
    #[serde(skip_serializing_if = "Option::is_none")]
    metadata: Option<Metadata<'a, ShortAddress<'a>>>,
}

impl<'a> Message<'a> {
    /// `created`: VoIPBIN's records have no time of change when they are new.
    pub(super) fn new(message: &'a DomainMessage, created: bool) -> Self {
        let updated = (!created).then_some(message.tm_update);
        Self {
            id: Id(message.id.0),
            customer_id: Id(message.customer_id.0),
            conversation_id: Id(message.conversation_id.0),
            direction: message.direction.as_str(),
            status: status(message),
            reference_type: message.reference_type,
            reference_id: Id(reference_id(message)),
            source: ShortAddress::from(&message.source),
            destination: ShortAddress::from(&message.destination),
            text: &message.text,
            medias: message.medias.iter().map(|media| Media::new(media, message, updated)).collect(),
            tm_create: Current(Some(message.tm_create)),
            tm_update: Current(updated),
            tm_delete: Current(message.tm_delete),
            metadata: Metadata::of(&message.metadata),
        }
    }
}

fn status(message: &DomainMessage) -> &'static str {
    match (message.direction, message.status) {
        (Direction::Incoming, _) | (_, Status::Received | Status::Sent | Status::Delivered) => "done",
        (_, Status::Sending) => "progressing",
        (_, Status::Failed) => "failed",
    }
}

/// A conversation message refers to its SMS record, which has the same id; nothing stands behind one of LINE.
fn reference_id(message: &DomainMessage) -> Uuid {
    if message.reference_type == Channel::Sms.reference_type() { message.id.0 } else { Uuid::nil() }
}

#[derive(Serialize)]
struct Media<'a> {
    id: Id,
    customer_id: Id,
    r#type: &'static str,
    #[serde(skip_serializing_if = "str::is_empty")]
    filename: &'a str,
    tm_create: Current,
    tm_update: Current,
    tm_delete: Current,
    #[serde(flatten)]
    extras: MediaExtras<'a>,
}

impl<'a> Media<'a> {
    fn new(media: &'a DomainMedia, message: &DomainMessage, updated: Option<Timestamp>) -> Self {
        Self {
            id: Id(media.id.0),
            customer_id: Id(message.customer_id.0),
            r#type: media.kind.as_str(),
            filename: media.filename.as_deref().unwrap_or_default(),
            tm_create: Current(Some(message.tm_create)),
            tm_update: Current(updated),
            tm_delete: Current(message.tm_delete),
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
    #[serde(skip_serializing_if = "str::is_empty")]
    name: String,
    #[serde(skip_serializing_if = "str::is_empty")]
    detail: String,
    r#type: &'static str,
    #[serde(skip_serializing_if = "str::is_empty")]
    dialog_id: &'a str,
    #[serde(rename = "self")]
    own: ShortAddress<'a>,
    peer: ShortAddress<'a>,
    tm_create: Current,
    tm_update: Current,
    tm_delete: Current,
}

impl<'a> From<&'a DomainConversation> for Conversation<'a> {
    fn from(conversation: &'a DomainConversation) -> Self {
        Self {
            id: Id(conversation.id.0),
            customer_id: Id(conversation.customer_id.0),
            owner_type: "",
            owner_id: Id(Uuid::nil()),
            account_id: Id(conversation.account_id.0),
            name: conversation.name(),
            detail: conversation.detail(),
            r#type: conversation.channel.reference_type(),
            dialog_id: &conversation.dialog_id,
            own: ShortAddress::from(&conversation.own),
            peer: ShortAddress::from(&conversation.peer),
            tm_create: Current(Some(conversation.tm_create)),
            tm_update: Current(conversation.tm_update),
            tm_delete: Current(conversation.tm_delete),
        }
    }
}

/// An SMS.
#[derive(Serialize)]
pub(super) struct Sms<'a> {
    id: Id,
    customer_id: Id,
    r#type: &'static str,
    source: ShortAddress<'a>,
    targets: [Target<'a>; 1],
    text: &'a str,
    direction: &'static str,
    tm_create: Current,
    tm_update: Current,
    tm_delete: Current,
}

#[derive(Serialize)]
struct Target<'a> {
    destination: ShortAddress<'a>,
    status: &'static str,
    parts: u32,
    tm_update: Current,
}

impl<'a> Sms<'a> {
    /// `created`: as for a conversation message.
    pub(super) fn new(sms: &'a SmsMessage, created: bool) -> Self {
        let updated = (!created).then_some(sms.tm_update);
        let target = Target {
            destination: ShortAddress::from(&sms.target.destination),
            status: sms.status_word(),
            parts: sms.target.parts,
            tm_update: Current(updated),
        };
        Self {
            id: Id(sms.id.0),
            customer_id: Id(sms.customer_id.0),
            r#type: "sms",
            source: ShortAddress::from(&sms.source),
            targets: [target],
            text: &sms.text,
            direction: sms.direction_word(),
            tm_create: Current(Some(sms.tm_create)),
            tm_update: Current(updated),
            tm_delete: Current(sms.tm_delete),
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
    source: ShortAddress<'a>,
    detail: Verbatim<'a>,
    tm_create: Current,
}

impl<'a> From<&'a DomainChannelEvent> for ChannelEvent<'a> {
    fn from(event: &'a DomainChannelEvent) -> Self {
        Self {
            id: Id(event.id),
            conversation_id: Id(event.conversation_id.0),
            account_id: Id(event.account_id.0),
            kind: &event.kind,
            source: ShortAddress::from(&event.source),
            detail: Verbatim(&event.detail),
            tm_create: Current(Some(event.tm_create)),
        }
    }
}
