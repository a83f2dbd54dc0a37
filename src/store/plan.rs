//! What one new message does to the records and owes downstream: the same on every engine.

use super::inbound::{Outlet, Prepared};
use crate::domain::account::Account;
use crate::domain::conversation::{Change, Conversation, observe};
use crate::domain::event::{EventType, NewMessage, OutboundEvent, Record};

/// What has to be written for one new message.
pub(super) struct Plan<'a> {
    /// The conversation's row.
    pub(super) conversation: Change,
    /// What subscribers are owed, in order.
    pub(super) outbound: Vec<std::borrow::Cow<'a, OutboundEvent>>,
}

/// Plans for `new`, given the conversation as the store knows it.
pub(super) fn message<'a>(
    known: Option<&Conversation>,
    new: &NewMessage,
    prepared: &'a Prepared,
    account: &Account,
    outlet: &Outlet,
) -> Plan<'a> {
    let change = observe(known, &new.sighting, account);
    let mut outbound = Vec::with_capacity(3);
    let cause = prepared.event.key.as_ref().map_or("", |key| key.provider_key.as_str());
    let about = match &change {
        Change::Created(conversation) => Some((EventType::ConversationCreated, conversation, "")),
        Change::Updated(conversation) => Some((EventType::ConversationUpdated, conversation, cause)),
        Change::None => None,
    };
    if let Some((event_type, conversation, cause)) = about {
        let record = Record::Conversation(conversation);
        outbound.push(std::borrow::Cow::Owned(OutboundEvent::new(
            &*outlet.render,
            account.id,
            event_type,
            record,
            cause,
        )));
    }
    outbound.extend(prepared.created.iter().map(std::borrow::Cow::Borrowed));
    Plan { conversation: change, outbound }
}
