//! The records as VoIPBIN's published documents show them: every key always there, times without a zone.

use super::json::{ELEMENT, Json, key};
use super::parts::{full_address, media_extras, metadata};
use crate::domain::conversation::Conversation;
use crate::domain::event::ChannelEvent;
use crate::domain::message::{Direction, Media, Message, Status};
use crate::domain::sms::SmsMessage;
use crate::domain::time::Timestamp;
use uuid::Uuid;

/// A conversation message.
pub(super) fn message(json: &mut Json, message: &Message) {
    json.id(key!("id"), message.id.0);
    json.id(key!("conversation_id"), message.conversation_id.0);
    json.word(key!("direction"), message.direction.as_str());
    json.word(key!("status"), status(message));
    json.word(key!("reference_type"), message.reference_type);
    json.text(key!("reference_id"), &message.dialog_id);
    full_address(json, key!("source"), &message.source);
    json.text(key!("text"), &message.text);
    json.list(key!("medias"), &message.medias, |json, one| media(json, one, message));
    times(json, message.tm_create, message.tm_update, message.tm_delete);
    metadata(json, &message.metadata, full_address);
}

fn status(message: &Message) -> &'static str {
    match (message.direction, message.status) {
        (Direction::Incoming, _) | (_, Status::Received) => "received",
        (_, Status::Sending) => "sending",
        (_, Status::Sent | Status::Delivered) => "sent",
        (_, Status::Failed) => "failed",
    }
}

fn media(json: &mut Json, media: &Media, message: &Message) {
    json.object(ELEMENT, |json| {
        json.id(key!("id"), media.id.0);
        json.word(key!("type"), media.kind.as_str());
        json.text(key!("filename"), media.filename.as_deref().unwrap_or_default());
        times(json, message.tm_create, message.tm_update, message.tm_delete);
        media_extras(json, media);
    });
}

fn times(json: &mut Json, create: Timestamp, update: Timestamp, delete: Option<Timestamp>) {
    json.documented(key!("tm_create"), Some(create));
    json.documented(key!("tm_update"), Some(update));
    json.documented(key!("tm_delete"), delete);
}

/// A conversation.
pub(super) fn conversation(json: &mut Json, conversation: &Conversation) {
    let kind = conversation.channel.reference_type();
    let (own, peer) = (&conversation.own, &conversation.peer);
    json.id(key!("id"), conversation.id.0);
    json.id(key!("customer_id"), conversation.customer_id.0);
    json.word(key!("owner_type"), "");
    json.id(key!("owner_id"), Uuid::nil());
    json.id(key!("account_id"), conversation.account_id.0);
    json.text(key!("name"), &conversation.name());
    json.text(key!("detail"), &conversation.detail());
    json.word(key!("reference_type"), kind);
    json.text(key!("reference_id"), &conversation.dialog_id);
    full_address(json, key!("source"), peer);
    json.list(key!("participants"), [own, peer], |json, address| full_address(json, ELEMENT, address));
    json.word(key!("type"), kind);
    json.text(key!("dialog_id"), &conversation.dialog_id);
    full_address(json, key!("self"), own);
    full_address(json, key!("peer"), peer);
    let created = conversation.tm_create;
    times(json, created, conversation.tm_update.unwrap_or(created), conversation.tm_delete);
}

/// An SMS.
pub(super) fn sms(json: &mut Json, sms: &SmsMessage) {
    json.id(key!("id"), sms.id.0);
    json.word(key!("type"), "sms");
    full_address(json, key!("source"), &sms.source);
    json.list(key!("targets"), [&sms.target], |json, target| {
        json.object(ELEMENT, |json| {
            full_address(json, key!("destination"), &target.destination);
            json.word(key!("status"), sms.status_word());
            json.value(key!("parts"), target.parts);
            json.documented(key!("tm_update"), Some(sms.tm_update));
        });
    });
    json.text(key!("text"), &sms.text);
    json.word(key!("direction"), sms.direction_word());
    times(json, sms.tm_create, sms.tm_update, sms.tm_delete);
}

/// Something that happened without a message.
pub(super) fn channel_event(json: &mut Json, event: &ChannelEvent) {
    json.id(key!("id"), event.id);
    json.id(key!("conversation_id"), event.conversation_id.0);
    json.id(key!("account_id"), event.account_id.0);
    json.text(key!("kind"), &event.kind);
    full_address(json, key!("source"), &event.source);
    json.verbatim(key!("detail"), &event.detail);
    json.documented(key!("tm_create"), Some(event.tm_create));
}
