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
        let message = event.content.message_id();
        let known = message.and_then(|id| self.messages.remove(&id));
        if let Some(sighting) = event.content.sighting() {
            let id = sighting.conversation_id(self.account);
            let here = known.as_ref().is_none_or(|known| known.message.conversation_id == id);
            if here && (event.content.opens() || self.conversations.contains_key(&id)) {
                self.sighting(sighting, cause);
            }
        }
        let applied = apply(known.as_ref(), &event.content);
        let emits = applied.emits;
        if let (Some(id), Some(after)) = (message, applied.known(known.as_ref())) {
            if let Some(event_type) = emits {
                let render = &self.render;
                self.told.extend(OutboundEvent::of_message(render, self.account.id, event_type, &after.message, cause));
            }
            self.messages.insert(id, after);
        }
        if let Content::Notice(notice) = &event.content {
            self.tell(EventType::ChannelEvent, Record::ChannelEvent(&notice.record), cause);
        }
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
