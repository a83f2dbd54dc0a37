//! What one event does to the records and owes downstream: the same on every engine.

use super::inbound::{Outlet, Prepared};
use crate::domain::account::Account;
use crate::domain::conversation::Change;
use crate::domain::event::{Content, EventType, OutboundEvent, Record};
use crate::domain::merge::Applied;
use std::borrow::Cow;

/// What is owed for a change of a conversation.
pub(super) fn of_conversation(
    change: &Change,
    prepared: &Prepared,
    account: &Account,
    outlet: &Outlet,
) -> Option<OutboundEvent> {
    let (event_type, conversation) = match change {
        Change::Created(conversation) => (EventType::ConversationCreated, conversation),
        Change::Updated(conversation) => (EventType::ConversationUpdated, conversation),
        Change::None => return None,
    };
    let record = Record::Conversation(conversation);
    Some(OutboundEvent::new(&*outlet.render, account.id, event_type, record, prepared.cause()))
}

/// What is owed for a change of a message, in order.
pub(super) fn of_message<'a>(
    applied: &Applied<'_>,
    prepared: &'a Prepared,
    account: &Account,
    outlet: &Outlet,
) -> Cow<'a, [OutboundEvent]> {
    match (&applied.record, applied.emits, &prepared.event.content) {
        // A message as it came is rendered already.
        (Some(Cow::Borrowed(_)), Some(EventType::ConversationMessageCreated), Content::Message(_)) => {
            Cow::Borrowed(&prepared.created)
        }
        (Some(record), Some(event_type), _) => {
            Cow::Owned(OutboundEvent::of_message(&*outlet.render, account.id, event_type, record, prepared.cause()))
        }
        _ => Cow::Borrowed(&[]),
    }
}
