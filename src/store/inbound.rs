//! What is committed for one webhook.

use crate::domain::account::Account;
use crate::domain::event::{Content, End, Erase, EventType, InboundEvent, OutboundEvent, Render};
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
    /// The row of the webhook, when it is kept already and read again.
    pub kept: Option<i64>,
    /// Removes what a message said from a kept webhook of this account.
    pub erase: Arc<dyn Erase>,
    /// Whatever must live until the commit, such as a share of bounded memory.
    pub hold: Box<dyn Send + Sync>,
}

/// An event with what can be rendered before anything is known about the store's state: rendering is the dear
/// part, and the store's writer is one thread.
pub struct Prepared {
    /// The event.
    pub event: InboundEvent,
    /// What a message owes if it is new, in order.
    pub created: Vec<OutboundEvent>,
    /// Its place in the webhook, from 0.
    pub place: usize,
    /// The row of the quarantined event whose end this is, when it is read again.
    pub replaces: Option<i64>,
}

impl Prepared {
    /// Renders what `event` will owe if it is new.
    pub fn new(event: InboundEvent, place: usize, account: &Account, render: &dyn Render) -> Self {
        let created = match &event.content {
            Content::Message(new) => {
                OutboundEvent::of_message(render, account.id, EventType::ConversationMessageCreated, &new.message, "")
            }
            _ => Vec::new(),
        };
        Self { event, created, place, replaces: None }
    }

    /// What tells this event's changes of a record from others.
    pub fn cause(&self) -> &str {
        self.event.key.as_ref().map_or("", |key| key.provider_key.as_str())
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
