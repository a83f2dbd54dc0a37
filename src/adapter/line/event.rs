//! What every LINE event has, whatever it is about: when, where, who, and how a repeat of it is recognised.

use super::wire::{DeliveryContext, Event, Message, Source, Unsend};
use crate::adapter::hmac::sha256_hex;
use crate::adapter::lenient::{Entries, Field};
use crate::domain::account::Account;
use crate::domain::address::{Address, AddressKind};
use crate::domain::conversation::{Sighting, UNKNOWN_DIALOG};
use crate::domain::event::{DedupeKey, Oddity, Quarantine};
use crate::domain::ids::ConversationId;
use crate::domain::time::Timestamp;
use std::borrow::Cow;

/// The account and the webhook that an event is part of.
pub(crate) struct Around<'r> {
    /// The account.
    pub(crate) account: &'r Account,
    /// Our side.
    pub(crate) own: Address,
}

/// When, where and who.
pub(crate) struct Scene {
    /// When it happened; the epoch when LINE does not say.
    pub(crate) at: Timestamp,
    /// The user, group or room that it happened in.
    pub(crate) dialog_id: Option<String>,
    /// The dialog as an address; an empty target when it is not known.
    pub(crate) peer: Address,
    /// Who caused it: the member of a group or room when LINE says who, else the dialog.
    pub(crate) source: Address,
    /// The member of a group or room, when LINE says who.
    pub(crate) sender: Option<Address>,
    /// Whether another channel holds the conversation.
    pub(crate) standby: bool,
    /// Oddities that were passed over.
    pub(crate) oddities: Vec<Oddity>,
}

impl Scene {
    /// Reads what all events have.
    pub(crate) fn read(event: &Event<'_>) -> Result<Self, Quarantine> {
        let mut oddities = Vec::new();
        let at = event.timestamp.integer().map(Timestamp::from_millis);
        if at.is_none() && !event.timestamp.is_blank() {
            oddities.push(Oddity::Time);
        }
        let context: DeliveryContext = event.delivery_context.object().unwrap_or_default();
        if context.is_redelivery.boolean() == Some(true) {
            oddities.push(Oddity::Redelivered);
        }

        let source: Source = event.source.object().unwrap_or_default();
        let kind = source.kind.filled("source.type")?.unwrap_or_default();
        let user = source.user_id.filled("source.userId")?;
        let group = source.group_id.filled("source.groupId")?;
        let room = source.room_id.filled("source.roomId")?;
        // In a group or room the person is only the speaker, even if the place itself is not named or not known: what
        // was said among many does not belong into the dialog with one.
        let (dialog, sender) = match &*kind {
            "user" => (user, None),
            "group" => (group, user),
            "room" => (room, user),
            "" if group.is_none() && room.is_none() => (user, None),
            _ => (group.or(room), user),
        };
        let line = |id: Option<&Cow<'_, str>>| Address::new(AddressKind::Line, id.map_or("", |id| &**id), "");
        let peer = line(dialog.as_ref());
        let sender = sender.as_ref().map(|sender| line(Some(sender)));
        Ok(Self {
            at: at.unwrap_or(Timestamp::EPOCH),
            dialog_id: dialog.map(Cow::into_owned),
            source: sender.clone().unwrap_or_else(|| peer.clone()),
            peer,
            sender,
            standby: event.mode.text("mode")?.as_deref() == Some("standby"),
            oddities,
        })
    }

    /// What it says about its dialog.
    pub(crate) fn sighting(&self, around: &Around<'_>) -> Sighting {
        Sighting {
            dialog_id: self.dialog_id.clone().unwrap_or_else(|| UNKNOWN_DIALOG.to_owned()),
            own: around.own.clone(),
            peer: self.peer.clone(),
            at: self.at,
        }
    }

    /// The conversation of its dialog; nil when no dialog is named.
    pub(crate) fn conversation_id(&self, around: &Around<'_>) -> ConversationId {
        match self.dialog_id {
            Some(_) => self.sighting(around).conversation_id(around.account),
            None => ConversationId(uuid::Uuid::nil()),
        }
    }
}

/// How a repeat is recognised: LINE's own name for the event, or a text that stands for it where LINE gives none
/// (old consoles' test events). Then everything counts but how the event was sent, which differs in a repeat.
pub(crate) fn key(field: Field<'_>, event: &Event<'_>, kind: &str, scene: &Scene) -> Result<DedupeKey, Quarantine> {
    let at = scene.at;
    if let Some(id) = event.webhook_event_id.filled("webhookEventId")? {
        return Ok(DedupeKey { at, provider_key: id.into_owned() });
    }
    let source = &scene.peer.target;
    let message: Message = event.message.object().unwrap_or_default();
    let unsend: Unsend = event.unsend.object().unwrap_or_default();
    let message = match message.id.filled("message.id")? {
        Some(id) => Some(id),
        None => unsend.message_id.filled("unsend.messageId")?,
    };
    let message = message.unwrap_or_default();
    let time = at.micros().div_euclid(1000);
    let hash = sha256_hex(&without_delivery_context(field));
    Ok(DedupeKey { at, provider_key: format!("{kind}{source}{message}{time}{hash}") })
}

/// The event's members as they were written, in their order, but for the one that differs in a repeat.
fn without_delivery_context(field: Field<'_>) -> Vec<u8> {
    let Entries(members) = field.object().unwrap_or_default();
    let mut text = vec![b'{'];
    for (key, value) in members.iter().filter(|(key, _)| **key != *b"deliveryContext") {
        if text.len() > 1 {
            text.push(b',');
        }
        text.push(b'"');
        text.extend_from_slice(key);
        text.extend_from_slice(b"\":");
        text.extend_from_slice(value.raw().unwrap_or_default().as_bytes());
    }
    text.push(b'}');
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::adapter::lenient::root_of;

    fn scene(event: &str) -> Scene {
        Scene::read(&root_of(event).object().unwrap()).unwrap()
    }

    #[test]
    fn the_dialog_is_the_group_and_the_source_its_member() {
        for (source, dialog, who, sender) in [
            (r#"{"type":"user","userId":"U1"}"#, Some("U1"), "U1", None),
            (r#"{"type":"user"}"#, None, "", None),
            (r#"{"type":"group","groupId":"C1","userId":"U1"}"#, Some("C1"), "U1", Some("U1")),
            (r#"{"type":"group","groupId":"C1"}"#, Some("C1"), "C1", None),
            (r#"{"type":"group","userId":"U1"}"#, None, "U1", Some("U1")),
            (r#"{"type":"room","roomId":"R1","userId":"U1"}"#, Some("R1"), "U1", Some("U1")),
            (r#"{"type":"room","roomId":"R1"}"#, Some("R1"), "R1", None),
            (r#"{"userId":"U1"}"#, Some("U1"), "U1", None),
            (r#"{"roomId":"R1","userId":"U1"}"#, Some("R1"), "U1", Some("U1")),
            (r#"{"type":"square","roomId":"R1","userId":"U1"}"#, Some("R1"), "U1", Some("U1")),
            (r#"{"type":"square","squareId":"S1","userId":"U1"}"#, None, "U1", Some("U1")),
            (r#"{"type":"user","userId":17}"#, Some("17"), "17", None),
            ("{}", None, "", None),
            ("null", None, "", None),
            ("7", None, "", None),
        ] {
            let scene = scene(&format!(r#"{{"source":{source}}}"#));
            let found = (scene.dialog_id.as_deref(), &*scene.source.target, scene.sender.as_ref().map(|s| &*s.target));
            assert_eq!(found, (dialog, who, sender), "{source}");
        }
    }

    #[test]
    fn times_modes_and_redeliveries() {
        for (event, at, standby, oddities) in [
            (r#"{"timestamp":1625665242211,"mode":"active"}"#, 1_625_665_242_211_000, false, vec![]),
            (r#"{"timestamp":"1625665242211","mode":"standby"}"#, 1_625_665_242_211_000, true, vec![]),
            (r#"{"timestamp":"soon","mode":7}"#, 0, false, vec![Oddity::Time]),
            (r#"{"timestamp":9223372036854775807}"#, i64::MAX, false, vec![]),
            (r#"{"timestamp":null,"deliveryContext":{"isRedelivery":true}}"#, 0, false, vec![Oddity::Redelivered]),
            (r#"{"deliveryContext":{"isRedelivery":false}}"#, 0, false, vec![]),
        ] {
            let scene = scene(event);
            assert_eq!((scene.at.micros(), scene.standby, scene.oddities), (at, standby, oddities), "{event}");
        }
    }

    fn key_of(event: &str) -> String {
        let field = root_of(event);
        let wire: Event = field.object().unwrap();
        let kind = wire.kind.text("type").unwrap().unwrap();
        key(field, &wire, &kind, &Scene::read(&wire).unwrap()).unwrap().provider_key
    }

    #[test]
    fn where_line_gives_no_name_everything_but_the_delivery_context_counts() {
        assert_eq!(key_of(r#"{"type":"follow","webhookEventId":"01ARZ3","deliveryContext":{}}"#), "01ARZ3");
        let plain = r#"{"type":"message","timestamp":1625665242211,"source":{"type":"user","userId":"U1"},"message":{"id":"7","text":"😀"}}"#;
        let hash = sha256_hex(plain.as_bytes());
        assert_eq!(key_of(plain), format!("messageU171625665242211{hash}"));
        for context in ["{\"isRedelivery\":false}", "{\"isRedelivery\":true}", "null", "{\"a\":[\"},\",\"\\\"\"]}"] {
            let first = format!("{{\"deliveryContext\":{context},{}", &plain[1..]);
            let last = format!("{},\"deliveryContext\" : {context}}}", &plain[..plain.len() - 1]);
            let inside = plain.replace("\"source\"", &format!("\"deliveryContext\":{context},\"source\""));
            for event in [first, last, inside] {
                assert_eq!(key_of(&event), key_of(plain), "{event}");
            }
        }
        // The message's own members are no less part of it than others.
        assert_ne!(key_of(&plain.replace("\"id\":\"7\"", "\"id\":\"7\",\"deliveryContext\":1")), key_of(plain));
        assert_ne!(key_of(&plain.replace('😀', "x")), key_of(plain));
        let unsend = key_of(
            r#"{"type":"unsend","source":{"type":"group","groupId":"C1","userId":"U1"},"unsend":{"messageId":"9"}}"#,
        );
        assert!(unsend.starts_with("unsendC190"), "{unsend}");
        assert_eq!(key_of(r#"{"type":"x"}"#), format!("x0{}", sha256_hex(br#"{"type":"x"}"#)));
    }
}
