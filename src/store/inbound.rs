//! What is committed for one webhook.

use crate::domain::account::Account;
use crate::domain::event::{
    Content, End, EventType, InboundEvent, NewMessage, OutboundEvent, Quarantine, QuarantineReason, Render,
};
use crate::domain::route::Routes;
use crate::domain::time::Timestamp;
use std::sync::Arc;

/// One authentic webhook, ready to be kept.
pub struct Inbound {
    /// The account it came for.
    pub account: Arc<Account>,
    /// When it came.
    pub received_at: Timestamp,
    /// The id of the request, as answered.
    pub request_id: String,
    /// The headers worth keeping.
    pub headers: Vec<(&'static str, String)>,
    /// The body, byte for byte.
    pub body: Vec<u8>,
    /// Its events, in order; none means that the webhook itself is the one thing to account for.
    pub events: Vec<Prepared>,
    /// How events downstream are written and who is owed them.
    pub outlet: Arc<Outlet>,
    /// Whatever must live until the commit, such as a share of bounded memory.
    pub hold: Box<dyn Send>,
}

/// An event with what can be rendered before anything is known about the store's state: rendering is the dear
/// part, and the store's writer is one thread.
pub struct Prepared {
    /// The event.
    pub event: InboundEvent,
    /// What a new message owes, in order.
    pub created: Vec<OutboundEvent>,
}

/// What an engine does with an event.
pub(super) enum Kept<'a> {
    /// Its records are written.
    Message(&'a NewMessage),
    /// It is kept raw.
    Aside(std::borrow::Cow<'a, Quarantine>),
}

impl Prepared {
    /// Renders what `event` will owe if it is new.
    pub fn new(event: InboundEvent, account: &Account, render: &dyn Render) -> Self {
        let created = match &event.content {
            Content::Message(new) => {
                let created = EventType::ConversationMessageCreated;
                OutboundEvent::of_message(render, account.id, created, &new.message, "")
            }
            _ => Vec::new(),
        };
        let mut prepared = Self { event, created };
        if let Kept::Aside(_) = prepared.kept() {
            prepared.event.key = None; // it is not done with: when it is replayed, it must not look like a repeat
        }
        prepared
    }

    /// The engines write new messages only; what else there is they keep raw, so that it can be replayed.
    pub(super) fn kept(&self) -> Kept<'_> {
        use std::borrow::Cow::{Borrowed, Owned};
        match &self.event.content {
            Content::Message(new) => Kept::Message(new),
            Content::Quarantined(quarantine) => Kept::Aside(Borrowed(quarantine)),
            Content::Edited(_) | Content::Unsent(_) | Content::Outgoing(_) | Content::Notice(_) => {
                Kept::Aside(Owned(Quarantine::new(QuarantineReason::Unsupported, "event")))
            }
        }
    }
}

/// How and to whom.
pub struct Outlet {
    /// Writes records as VoIPBIN does.
    pub render: Box<dyn Render>,
    /// Who is owed what.
    pub routes: Routes,
}

/// What became of a webhook: one end per event, or the one end of a webhook without events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// The ends, in the order of the events.
    pub ends: Vec<End>,
}
