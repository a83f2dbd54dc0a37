//! From a LINE webhook to the events in it.

use super::body::{self, Body};
use super::event::{Around, Scene, key};
use super::wire::{Event, Message as WireMessage, Unsend, Webhook};
use crate::adapter::lenient::{Document, Elements, Entries, Field, beginning, unreadable};
use crate::domain::account::Account;
use crate::domain::event::{
    ChannelEvent, Content, DedupeKey, InboundEvent, NewMessage, Notice, Oddity, Quarantine, Unsent,
};
use crate::domain::ids::{AccountId, MessageId};
use crate::domain::message::{Direction, Message, Metadata, Status};
use std::borrow::Cow;

/// An event name comes from outside and ends up in listings and records.
const MAX_KIND_CHARS: usize = 64;

/// More events than fit into a webhook, unless they are hardly any: each costs a row, however short it is.
const MANY: usize = 5_000;

/// The events in `body`. Total: what cannot be understood is in quarantine.
pub(crate) fn events(account: &Account, bot_user_id: Option<&str>, body: &[u8]) -> Vec<InboundEvent> {
    let document = Document::parse(body);
    let (webhook, events) = match split(document.as_ref()) {
        Ok(found) => found,
        Err(quarantine) => return vec![aside(String::new(), quarantine)],
    };
    let destination = webhook.destination.filled("destination").ok().flatten();
    let own = account.own_address(destination.as_deref().or(bot_user_id));
    let around = Around { account, own };
    // The signature says whose channel this is; another name in it means that the configuration is mixed up.
    let stray = bot_user_id.is_some_and(|bot| destination.is_some_and(|given| given != bot));
    events
        .enumerate()
        .map(|(place, field)| {
            let mut event = one(&around, place, field);
            event.oddities.extend(stray.then_some(Oddity::Destination));
            event
        })
        .collect()
}

/// The events stay raw text: one that cannot be read must not spoil the others.
fn split<'a>(document: Option<&'a Document<'_>>) -> Result<(Webhook<'a>, Elements<'a>), Quarantine> {
    let document = document.ok_or_else(|| unreadable("not JSON"))?;
    let webhook: Webhook = document.root().object().ok_or_else(|| unreadable("not an object"))?;
    let events = webhook.events.list().ok_or_else(|| unreadable("events"))?;
    if events.clone().nth(MANY).is_some() {
        return Err(unreadable(format_args!("events: more than {MANY}")));
    }
    Ok((webhook, events))
}

/// Our id of the message that LINE knows as `message`.
pub(crate) fn message_id(account: AccountId, message: &str) -> MessageId {
    MessageId::derive_of(account, "line:message", message)
}

/// `body` without what the message said, in whichever events it carries it. Only LINE's ids of the message are left
/// of it; everything else keeps its bytes.
pub(crate) fn erase(account: &Account, body: &[u8], message: MessageId) -> Vec<u8> {
    let Some(document) = Document::parse(body) else { return body.to_vec() };
    let is_it = |said: &Field<'_>| named(account.id, *said) == Some(message);
    let mut erased = Vec::with_capacity(body.len());
    let mut copied = 0;
    for event in members(document.root(), "events").iter().flat_map(|events| events.list().unwrap_or_default()) {
        let said = members(event, "message");
        if !said.iter().any(is_it) {
            continue;
        }
        for said in said {
            let Some(text) = said.raw() else { continue };
            // The field is a part of the body: where it begins is a matter of addresses.
            let start = (text.as_ptr() as usize).saturating_sub(body.as_ptr() as usize);
            erased.extend_from_slice(&body[copied..start]);
            let id = said.object::<WireMessage>().unwrap_or_default().id.raw();
            erased.extend_from_slice(id.map_or("{}".to_owned(), |id| format!(r#"{{"id":{id}}}"#)).as_bytes());
            copied = start + text.len();
        }
    }
    erased.extend_from_slice(&body[copied..]);
    erased
}

/// Every value of `key` in an object: one that is repeated counts once, but says as much each time.
fn members<'a>(object: Field<'a>, key: &str) -> Vec<Field<'a>> {
    let Entries(members) = object.object().unwrap_or_default();
    members.into_iter().filter(|(name, _)| **name == *key.as_bytes()).map(|(_, value)| value).collect()
}

fn aside(kind: String, quarantine: Quarantine) -> InboundEvent {
    InboundEvent { kind, key: None, content: Content::Quarantined(quarantine), oddities: Vec::new() }
}

fn one(around: &Around<'_>, place: usize, field: Field<'_>) -> InboundEvent {
    let mut kind = String::new();
    match understand(around, field, &mut kind) {
        Ok(event) => InboundEvent { kind, ..event },
        Err(quarantine) => {
            let dot = if quarantine.detail.is_empty() { "" } else { "." };
            let detail = format!("events.{place}{dot}{}", quarantine.detail);
            aside(kind, Quarantine { detail, ..quarantine }.about(carried(around.account.id, field)))
        }
    }
}

/// The message that an event carries, if its id can be read.
fn carried(account: AccountId, event: Field<'_>) -> Option<MessageId> {
    named(account, event.object::<Event>()?.message)
}

/// The message that `said` is or was, if its id can be read.
fn named(account: AccountId, said: Field<'_>) -> Option<MessageId> {
    let message: WireMessage = said.object()?;
    message.id.filled("").ok().flatten().map(|id| message_id(account, &id))
}

fn understand(around: &Around<'_>, field: Field<'_>, kind: &mut String) -> Result<InboundEvent, Quarantine> {
    let event: Event = field.object().ok_or_else(|| unreadable(""))?;
    beginning(&event.kind.filled("type")?.unwrap_or_default(), MAX_KIND_CHARS).clone_into(kind);
    let mut scene = Scene::read(&event)?;
    let key = key(field, &event, kind, &scene)?;
    let mut oddities = std::mem::take(&mut scene.oddities);

    let reading = Reading { around, event: &event, scene: &scene, key: &key };
    let content = match kind.as_str() {
        "message" => Some(Content::Message(reading.message(&mut oddities)?)),
        "postback" => Some(Content::Message(reading.postback(&mut oddities)?)),
        "messageEdited" => reading.edited(&mut oddities)?.map(Content::Edited),
        "unsend" => reading.unsent()?.map(Content::Unsent),
        _ => None,
    };
    // Whatever else there is, or does not say which message it is about, is passed on as it is.
    let content = match content {
        Some(content) => content,
        None => Content::Notice(reading.notice(kind, field.shallow("detail")?)),
    };
    Ok(InboundEvent { kind: String::new(), key: Some(key), content, oddities })
}

/// One event on its way to its content.
struct Reading<'r> {
    around: &'r Around<'r>,
    event: &'r Event<'r>,
    scene: &'r Scene,
    key: &'r DedupeKey,
}

impl Reading<'_> {
    fn message(&self, oddities: &mut Vec<Oddity>) -> Result<Box<NewMessage>, Quarantine> {
        let id = self.message_id()?.unwrap_or_else(|| self.event_id());
        let body = body::message(self.event.message, id)?;
        Ok(self.new_message(id, body, oddities))
    }

    fn postback(&self, oddities: &mut Vec<Oddity>) -> Result<Box<NewMessage>, Quarantine> {
        let id = self.event_id();
        let body = body::postback(self.event.postback, id)?;
        Ok(self.new_message(id, body, oddities))
    }

    /// `None` when it does not say which message was edited.
    fn edited(&self, oddities: &mut Vec<Oddity>) -> Result<Option<Box<NewMessage>>, Quarantine> {
        let Some(id) = self.message_id()? else { return Ok(None) };
        let body = body::message(self.event.message, id)?;
        Ok(Some(self.new_message(id, body, oddities)))
    }

    /// `None` when it does not say which message was taken back.
    fn unsent(&self) -> Result<Option<Box<Unsent>>, Quarantine> {
        let unsend: Unsend = self.event.unsend.object().unwrap_or_default();
        let Some(id) = unsend.message_id.filled("unsend.messageId")? else { return Ok(None) };
        let message = self.id_of(&id);
        let stub = Message {
            tm_delete: Some(self.scene.at),
            ..self.record(message, String::new(), Vec::new(), Metadata::default())
        };
        Ok(Some(Box::new(Unsent { sighting: self.scene.sighting(self.around), message, stub })))
    }

    fn notice(&self, kind: &str, field: Field<'_>) -> Box<Notice> {
        let account = self.around.account;
        let sighting = self.scene.dialog_id.is_some().then(|| self.scene.sighting(self.around));
        let record = ChannelEvent {
            id: ChannelEvent::id_of(account.id, &self.key.provider_key),
            conversation_id: self.scene.conversation_id(self.around),
            account_id: account.id,
            kind: if kind.is_empty() { "unknown" } else { kind }.to_owned(),
            source: self.scene.source.clone(),
            detail: field.raw().unwrap_or("{}").to_owned(),
            tm_create: self.scene.at,
        };
        Box::new(Notice { sighting, opens: matches!(kind, "follow" | "join"), record })
    }

    /// The id of the message that the event carries.
    fn message_id(&self) -> Result<Option<MessageId>, Quarantine> {
        let message: WireMessage = self.event.message.object().unwrap_or_default();
        Ok(message.id.filled("message.id")?.map(|id: Cow<'_, str>| self.id_of(&id)))
    }

    fn id_of(&self, message: &str) -> MessageId {
        message_id(self.around.account.id, message)
    }

    /// The id of a message that has none of its own at LINE.
    fn event_id(&self) -> MessageId {
        MessageId::derive_of(self.around.account.id, "line:event", &self.key.provider_key)
    }

    fn new_message(&self, id: MessageId, body: Body, oddities: &mut Vec<Oddity>) -> Box<NewMessage> {
        oddities.extend(body.oddities);
        let message = self.record(id, body.text, body.medias, body.metadata);
        Box::new(NewMessage { sighting: self.scene.sighting(self.around), message })
    }

    fn record(
        &self,
        id: MessageId,
        text: String,
        medias: Vec<crate::domain::message::Media>,
        metadata: Metadata,
    ) -> Message {
        let (account, scene) = (self.around.account, self.scene);
        let sighting = scene.sighting(self.around);
        Message {
            id,
            account_id: account.id,
            customer_id: account.customer_id,
            conversation_id: sighting.conversation_id(account),
            direction: Direction::Incoming,
            status: Status::Received,
            reference_type: account.channel.reference_type(),
            dialog_id: sighting.dialog_id,
            source: scene.source.clone(),
            destination: sighting.own,
            text,
            medias,
            metadata: Metadata { sender: scene.sender.clone(), standby: scene.standby, ..metadata },
            parts: None,
            tm_create: scene.at,
            tm_update: scene.at,
            tm_delete: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::account::Channel;
    use crate::domain::ids::{AccountId, CustomerId};
    use uuid::Uuid;

    const ID: AccountId = AccountId(Uuid::from_u128(1));

    fn taken(bot_user_id: Option<&str>, body: &str) -> Vec<InboundEvent> {
        let account = Account {
            id: ID,
            customer_id: CustomerId(Uuid::from_u128(2)),
            name: "Shop".into(),
            channel: Channel::Line,
            address: Some("configured".into()),
        };
        events(&account, bot_user_id, body.as_bytes())
    }

    #[test]
    fn records_are_named_after_line_s_own_ids() {
        let body = r#"{"events":[
            {"type":"message","webhookEventId":"E1","message":{"id":"7","type":"text","text":"a"}},
            {"type":"messageEdited","webhookEventId":"E2","message":{"id":"7","type":"text","text":"b"}},
            {"type":"unsend","webhookEventId":"E3","unsend":{"messageId":7}},
            {"type":"postback","webhookEventId":"E4","postback":{"data":"d"}},
            {"type":"message","webhookEventId":"E5"},
            {"type":"beacon","webhookEventId":"E6"}]}"#;
        let named = |name: &str| Uuid::new_v5(&ID.0, name.as_bytes());
        let message = named("line:message:7");
        let want =
            [message, message, message, named("line:event:E4"), named("line:event:E5"), named("channel_event:E6")];
        for (place, (event, want)) in taken(None, body).into_iter().zip(want).enumerate() {
            let id = match event.content {
                Content::Message(new) | Content::Edited(new) | Content::Outgoing(new) => new.message.id.0,
                Content::Unsent(unsent) => {
                    assert_eq!(unsent.message, unsent.stub.id);
                    unsent.message.0
                }
                Content::Notice(notice) => notice.record.id,
                Content::Quarantined(why) => panic!("{why}"),
            };
            assert_eq!(id, want, "{place}");
            assert_eq!(event.key.unwrap().provider_key, format!("E{}", place + 1));
        }
    }

    #[test]
    fn only_follow_and_join_open_a_dialog() {
        for (kind, opens) in
            [("follow", true), ("join", true), ("unfollow", false), ("memberJoined", false), ("", false)]
        {
            let body = format!(r#"{{"events":[{{"type":"{kind}","source":{{"type":"group","groupId":"C1"}}}}]}}"#);
            let event = taken(None, &body).remove(0);
            assert_eq!(event.kind, kind);
            let Content::Notice(notice) = event.content else { panic!("no notice") };
            assert_eq!(notice.opens, opens, "{kind}");
            assert_eq!(notice.record.kind, if kind.is_empty() { "unknown" } else { kind });
            assert_eq!(notice.sighting.unwrap().dialog_id, "C1");
        }
    }

    #[test]
    fn what_is_not_understood_is_known_by_its_message() {
        let events = taken(
            None,
            r#"{"events":[{"type":"message","message":{"id":"7","text":"\ud83d","type":"text"}},
                {"type":"messageEdited","source":{"type":"\ud83d"},"message":{"id":"7"}},
                {"type":"message","message":{"id":"\ud83d"}},{"type":"\ud83d"},7]}"#,
        );
        let seven = Some(message_id(ID, "7"));
        assert_eq!(events.iter().map(|e| e.content.speaks_of()).collect::<Vec<_>>(), [seven, seven, None, None, None]);
        assert!(events.iter().all(|event| event.content.message_id().is_none()), "it becomes none");
    }

    #[test]
    fn what_was_said_is_erased_however_often_its_key_is_repeated() {
        let account = Account {
            id: ID,
            customer_id: CustomerId(Uuid::from_u128(2)),
            name: "Shop".into(),
            channel: Channel::Line,
            address: None,
        };
        let erased = |body: &str| String::from_utf8(erase(&account, body.as_bytes(), message_id(ID, "7"))).unwrap();
        for (body, want) in [
            (
                r#"{"events":[{"message" : {"id":"7","text":"s"},"a":1},{"message":{"id":"8","text":"t"}}] }"#,
                r#"{"events":[{"message" : {"id":"7"},"a":1},{"message":{"id":"8","text":"t"}}] }"#,
            ),
            (
                r#"{"events":[{"message":"s","message":{"text":"s"},"m\u0065ssage":{"id":7}}]}"#,
                r#"{"events":[{"message":{},"message":{},"m\u0065ssage":{"id":7}}]}"#,
            ),
            (
                r#"{"events":[{"message":{"id":"7","text":"s"}}],"events":[{"message":{"id":"7","text":"\ud83d"}}]}"#,
                r#"{"events":[{"message":{"id":"7"}}],"events":[{"message":{"id":"7"}}]}"#,
            ),
            ("not JSON", "not JSON"),
            (r#"{"events":7}"#, r#"{"events":7}"#),
        ] {
            assert_eq!(erased(body), want);
            assert_eq!(erased(want), want, "a second time nothing is left to erase");
        }
    }

    #[test]
    fn what_would_cost_more_than_it_can_be_worth_is_kept_aside() {
        let body = |count: usize| format!(r#"{{"events":[{}]}}"#, vec!["null"; count].join(","));
        assert_eq!(taken(None, &body(MANY)).len(), MANY);
        let many = taken(None, &body(MANY + 1));
        let why = |event: &InboundEvent| match &event.content {
            Content::Quarantined(why) => why.to_string(),
            other => panic!("{other:?}"),
        };
        assert_eq!(many.iter().map(why).collect::<Vec<_>>(), ["unreadable: events: more than 5000"]);
        let nested = |depth: usize| {
            let body = format!(r#"{{"events":[{{"type":"x","y":{}{}}}]}}"#, "[".repeat(depth), "]".repeat(depth));
            taken(None, &body).remove(0)
        };
        assert!(matches!(nested(99).content, Content::Notice(_)));
        assert_eq!(why(&nested(100)), "unreadable: events.0.detail: more than 100 values in one another");
    }

    #[test]
    fn oddities_are_counted_and_stop_nothing() {
        let event = r#"{"type":"message","timestamp":"soon","deliveryContext":{"isRedelivery":true},"message":{"id":"7","type":"text",
            "text":"ab","emojis":[{"index":0,"length":1},{"index":9,"length":1}],"mention":{"mentionees":[{"index":1,"length":5}]}}}"#;
        let body = |destination: &str| format!(r#"{{{destination}"events":[{event},{{"type":"follow"}}]}}"#);
        let odd = |bot, destination: &str| -> Vec<Vec<Oddity>> {
            taken(bot, &body(destination)).into_iter().map(|event| event.oddities).collect()
        };
        let own = vec![Oddity::Time, Oddity::Redelivered, Oddity::Span, Oddity::Span];
        assert_eq!(odd(None, r#""destination":"U9","#), [own.clone(), vec![]]);
        assert_eq!(odd(Some("U9"), r#""destination":"U9","#), [own.clone(), vec![]]);
        assert_eq!(odd(Some("U9"), ""), [own.clone(), vec![]], "nobody is named");
        let stray = [own, vec![]].map(|oddities| [oddities, vec![Oddity::Destination]].concat());
        assert_eq!(odd(Some("U9"), r#""destination":"U8","#), stray);
    }

    #[test]
    fn our_own_side_is_whom_the_webhook_names() {
        for (bot, destination, want) in [
            (None, r#""destination":"U9","#, "U9"),
            (Some("U8"), r#""destination":"U9","#, "U9"),
            (Some("U8"), "", "U8"),
            (None, r#""destination":"","#, "configured"),
            (None, r#""destination":"\ud83d","#, "configured"),
        ] {
            let event = taken(bot, &format!(r#"{{{destination}"events":[{{"type":"message"}}]}}"#)).remove(0);
            let Content::Message(new) = event.content else { panic!("no message") };
            assert_eq!((&*new.message.destination.target, &*new.sighting.own.target), (want, want));
        }
    }
}
