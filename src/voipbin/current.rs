//! The records as VoIPBIN's code writes them today: Go structs, empty keys left out, RFC 3339 times.

use super::json::{ELEMENT, Json, key};
use super::parts::{media_extras, metadata, short_address};
use crate::domain::account::Channel;
use crate::domain::conversation::Conversation;
use crate::domain::event::ChannelEvent;
use crate::domain::message::{Direction, Media, Message, Status};
use crate::domain::sms::SmsMessage;
use crate::domain::time::Timestamp;
use uuid::Uuid;

/// A conversation message. `created`: VoIPBIN's records have no time of change when they are new.
pub(super) fn message(json: &mut Json, message: &Message, created: bool) {
    let updated = (!created).then_some(message.tm_update);
    json.id(key!("id"), message.id.0);
    json.id(key!("customer_id"), message.customer_id.0);
    json.id(key!("conversation_id"), message.conversation_id.0);
    json.word(key!("direction"), message.direction.as_str());
    json.word(key!("status"), status(message));
    json.word(key!("reference_type"), message.reference_type);
    json.id(key!("reference_id"), reference_id(message));
    short_address(json, key!("source"), &message.source);
    short_address(json, key!("destination"), &message.destination);
    json.filled(key!("text"), Some(&message.text));
    if !message.medias.is_empty() {
        json.list(key!("medias"), &message.medias, |json, one| media(json, one, message, updated));
    }
    times(json, message.tm_create, updated, message.tm_delete);
    metadata(json, &message.metadata, short_address);
}

fn status(message: &Message) -> &'static str {
    match (message.direction, message.status) {
        (Direction::Incoming, _) | (_, Status::Received | Status::Sent | Status::Delivered) => "done",
        (_, Status::Sending) => "progressing",
        (_, Status::Failed) => "failed",
    }
}

/// A conversation message refers to its SMS record, which has the same id; nothing stands behind one of LINE.
fn reference_id(message: &Message) -> Uuid {
    if message.reference_type == Channel::Sms.reference_type() { message.id.0 } else { Uuid::nil() }
}

fn media(json: &mut Json, media: &Media, message: &Message, updated: Option<Timestamp>) {
    json.object(ELEMENT, |json| {
        json.id(key!("id"), media.id.0);
        json.id(key!("customer_id"), message.customer_id.0);
        json.word(key!("type"), media.kind.as_str());
        json.filled(key!("filename"), media.filename.as_deref());
        times(json, message.tm_create, updated, message.tm_delete);
        media_extras(json, media);
    });
}

fn times(json: &mut Json, create: Timestamp, update: Option<Timestamp>, delete: Option<Timestamp>) {
    json.current(key!("tm_create"), Some(create));
    json.current(key!("tm_update"), update);
    json.current(key!("tm_delete"), delete);
}

/// A conversation.
pub(super) fn conversation(json: &mut Json, conversation: &Conversation) {
    json.id(key!("id"), conversation.id.0);
    json.id(key!("customer_id"), conversation.customer_id.0);
    json.word(key!("owner_type"), "");
    json.id(key!("owner_id"), Uuid::nil());
    json.id(key!("account_id"), conversation.account_id.0);
    json.filled(key!("name"), Some(&conversation.name()));
    json.filled(key!("detail"), Some(&conversation.detail()));
    json.word(key!("type"), conversation.channel.reference_type());
    json.filled(key!("dialog_id"), Some(&conversation.dialog_id));
    short_address(json, key!("self"), &conversation.own);
    short_address(json, key!("peer"), &conversation.peer);
    times(json, conversation.tm_create, conversation.tm_update, conversation.tm_delete);
}

/// An SMS. `created`: as for a conversation message.
pub(super) fn sms(json: &mut Json, sms: &SmsMessage, created: bool) {
    let updated = (!created).then_some(sms.tm_update);
    json.id(key!("id"), sms.id.0);
    json.id(key!("customer_id"), sms.customer_id.0);
    json.word(key!("type"), "sms");
    short_address(json, key!("source"), &sms.source);
    json.list(key!("targets"), [&sms.target], |json, target| {
        json.object(ELEMENT, |json| {
            short_address(json, key!("destination"), &target.destination);
            json.word(key!("status"), sms.status_word());
            json.value(key!("parts"), target.parts);
            json.current(key!("tm_update"), updated);
        });
    });
    json.text(key!("text"), &sms.text);
    json.word(key!("direction"), sms.direction_word());
    times(json, sms.tm_create, updated, sms.tm_delete);
}

/// Something that happened without a message.
pub(super) fn channel_event(json: &mut Json, event: &ChannelEvent) {
    json.id(key!("id"), event.id);
    json.id(key!("conversation_id"), event.conversation_id.0);
    json.id(key!("account_id"), event.account_id.0);
    json.text(key!("kind"), &event.kind);
    short_address(json, key!("source"), &event.source);
    json.verbatim(key!("detail"), &event.detail);
    json.current(key!("tm_create"), Some(event.tm_create));
}
