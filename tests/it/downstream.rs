//! What events cause on an empty store, without a store: the pure rules that every engine follows.

use birdwire::domain::account::Account;
use birdwire::domain::conversation::{Change, Conversation, Sighting, observe};
use birdwire::domain::event::{Content, DedupeKey, EventType, InboundEvent, OutboundEvent, Record};
use birdwire::domain::format::RecordFormat;
use birdwire::domain::ids::{ConversationId, MessageId};
use birdwire::domain::merge::{Known, apply};
use birdwire::voipbin::Renderer;
use std::collections::{BTreeMap, BTreeSet};

/// A store's worth of records, and what subscribers of everything were told.
pub(crate) struct Downstream<'a> {
    account: &'a Account,
    render: Renderer,
    seen: BTreeSet<DedupeKey>,
    conversations: BTreeMap<ConversationId, Conversation>,
    messages: BTreeMap<MessageId, Known>,
    /// What was told, in order.
    pub(crate) told: Vec<OutboundEvent>,
}

impl<'a> Downstream<'a> {
    pub(crate) fn new(account: &'a Account, format: RecordFormat) -> Self {
        Self {
            account,
            render: Renderer::new(format),
            seen: BTreeSet::new(),
            conversations: BTreeMap::new(),
            messages: BTreeMap::new(),
            told: Vec::new(),
        }
    }

    pub(crate) fn take(&mut self, event: &InboundEvent) {
        let Some(key) = &event.key else { return };
        if !self.seen.insert(key.clone()) {
            return;
        }
        let cause = &key.provider_key;
        match &event.content {
            Content::Message(new) | Content::Edited(new) | Content::Outgoing(new) => {
                self.message(&event.content, &new.sighting, new.message.id, cause);
            }
            Content::Unsent(unsent) => self.message(&event.content, &unsent.sighting, unsent.message, cause),
            Content::Notice(notice) => {
                if let Some(sighting) = &notice.sighting {
                    let known = self.conversations.contains_key(&sighting.conversation_id(self.account));
                    if notice.opens || known {
                        self.sighting(sighting, cause);
                    }
                }
                self.tell(EventType::ChannelEvent, Record::ChannelEvent(&notice.record), cause);
            }
            Content::Quarantined(_) => {}
        }
    }

    fn message(&mut self, content: &Content, sighting: &Sighting, id: MessageId, cause: &str) {
        let known = self.messages.get(&id);
        // A message stays in its conversation, wherever a later event of it seems to be.
        let elsewhere = |known: &Known| known.message.conversation_id != sighting.conversation_id(self.account);
        if !known.is_some_and(elsewhere) {
            self.sighting(sighting, cause);
        }
        let known = self.messages.remove(&id);
        let applied = apply(known.as_ref(), content);
        let emits = applied.emits;
        let Some(after) = applied.known(known.as_ref()) else { return };
        if let Some(event_type) = emits {
            let render = &self.render;
            self.told.extend(OutboundEvent::of_message(render, self.account.id, event_type, &after.message, cause));
        }
        self.messages.insert(id, after);
    }

    fn sighting(&mut self, sighting: &Sighting, cause: &str) {
        let id = sighting.conversation_id(self.account);
        let (event_type, conversation) = match observe(self.conversations.get(&id), sighting, self.account) {
            Change::Created(made) => (EventType::ConversationCreated, made),
            Change::Updated(changed) => (EventType::ConversationUpdated, changed),
            Change::None => return,
        };
        self.tell(event_type, Record::Conversation(&conversation), cause);
        self.conversations.insert(id, conversation);
    }

    fn tell(&mut self, event_type: EventType, record: Record<'_>, cause: &str) {
        self.told.push(OutboundEvent::new(&self.render, self.account.id, event_type, record, cause));
    }
}
