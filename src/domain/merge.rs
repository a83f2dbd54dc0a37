//! What an event does to a message that may be known already: the same on every engine.
//!
//! Providers promise no order: an edit or the end of a message may arrive before the message, a status after a
//! later one, and anything twice. So a record is not overwritten but merged, in such a way that the events of one
//! message end in the same record whatever their order and however often each is repeated (an edit that claims to be
//! older than its original is one or the other, whichever came first). What subscribers are told follows from what has
//! changed for them.

use super::event::{Content, EventType, NewMessage, Unsent};
use super::message::{Message, Metadata};
use super::time::Timestamp;
use std::borrow::Cow;

/// A message as it is kept: the record, and what is not in the record but decides about later events.
#[derive(Clone, Debug, PartialEq)]
pub struct Known {
    /// The record.
    pub message: Message,
    /// Whether what it says comes from an edit.
    pub edited: bool,
}

/// What an event does to a message.
#[derive(Clone, Debug, PartialEq)]
pub struct Applied<'a> {
    /// The record from now on; `None` when it stays as it is.
    pub record: Option<Cow<'a, Message>>,
    /// What [`Known::edited`] is from now on.
    pub edited: bool,
    /// What subscribers are told of the record, if anything.
    pub emits: Option<EventType>,
    /// Whether the message was taken back: what it said must be erased wherever it is kept (the raw body of this
    /// event and of earlier ones, bodies already written out), and what is still owed of it must not be sent.
    pub erase: bool,
}

impl Applied<'_> {
    /// What is known once this is done to `known`.
    pub fn known(self, known: Option<&Known>) -> Option<Known> {
        match self.record {
            Some(record) => Some(Known { message: record.into_owned(), edited: self.edited }),
            None => known.cloned(),
        }
    }
}

/// Applies an event to the message that it is about, as far as that is known.
///
/// A message never moves: whatever later events say, its conversation, its direction and its status word stay
/// those of the first, and an event that goes the other way changes nothing.
pub fn apply<'a>(known: Option<&Known>, content: &'a Content) -> Applied<'a> {
    let (message, first) = match content {
        Content::Message(new) | Content::Outgoing(new) => (&new.message, EventType::ConversationMessageCreated),
        Content::Edited(new) => (&new.message, EventType::ConversationMessageUpdated),
        Content::Unsent(unsent) => (&unsent.stub, EventType::ConversationMessageDeleted),
        Content::Notice(_) | Content::Quarantined(_) => return nothing(false),
    };
    let Some(known) = known else {
        let record = match content {
            Content::Unsent(unsent) => Cow::Owned(tombstone(message.clone(), end(unsent))),
            _ => Cow::Borrowed(message),
        };
        let edited = matches!(content, Content::Edited(_));
        // What was taken back may have come, and not have been understood.
        let erase = matches!(content, Content::Unsent(_));
        return Applied { record: Some(record), edited, emits: Some(first), erase };
    };
    if known.message.direction != message.direction {
        return nothing(known.edited);
    }
    match content {
        Content::Unsent(unsent) => take_back(known, unsent),
        _ if known.message.tm_delete.is_some() => stay_deleted(known, message),
        Content::Edited(new) => write(known, new, true),
        Content::Message(new) => write(known, new, false),
        _ => advance(known, message),
    }
}

fn nothing(edited: bool) -> Applied<'static> {
    Applied { record: None, edited, emits: None, erase: false }
}

/// The outcome when `after` is what `known` becomes.
fn changed(known: &Known, after: Known, emits: Option<EventType>, erase: bool) -> Applied<'static> {
    let record = (after != *known).then_some(Cow::Owned(after.message));
    Applied { record, edited: after.edited, emits, erase }
}

/// A message or an edit of it. The newest edit stands, unless it claims to be older than what it edits; of two edits of
/// one time always the same one. A message that is known is known for good: what else carries its id is a repeat, or
/// the original of an edit that came first, and explains it only.
fn write(known: &Known, new: &NewMessage, edited: bool) -> Applied<'static> {
    let new = &new.message;
    let mut after = known.clone();
    fill(&mut after.message, new);
    let newer =
        edited && (new.tm_update, true, &new.text) > (known.message.tm_update, known.edited, &known.message.text);
    if newer {
        after.edited = true;
        take_body(&mut after.message, new);
        after.message.tm_update = new.tm_update;
    }
    changed(known, after, newer.then_some(EventType::ConversationMessageUpdated), false)
}

/// The end. It is told once; of several the earliest counts.
fn take_back(known: &Known, unsent: &Unsent) -> Applied<'static> {
    let first = known.message.tm_delete.is_none();
    let at = known.message.tm_delete.map_or(end(unsent), |before| earliest(before, end(unsent)));
    let mut message = known.message.clone();
    fill(&mut message, &unsent.stub);
    let after = Known { message: tombstone(message, at), edited: false };
    changed(known, after, first.then_some(EventType::ConversationMessageDeleted), first)
}

/// Whatever else comes of a message that was taken back says nothing, but its raw body holds what it said.
fn stay_deleted(known: &Known, new: &Message) -> Applied<'static> {
    let mut message = known.message.clone();
    fill(&mut message, new);
    let at = known.message.tm_delete.unwrap_or(known.message.tm_update);
    changed(known, Known { message: tombstone(message, at), edited: false }, None, true)
}

fn end(unsent: &Unsent) -> Timestamp {
    unsent.stub.tm_delete.unwrap_or(unsent.stub.tm_update)
}

/// What is left of a message: that there was one, when, and who wrote it.
fn tombstone(message: Message, at: Timestamp) -> Message {
    let Metadata { sender, standby, .. } = message.metadata;
    Message {
        text: String::new(),
        medias: Vec::new(),
        metadata: Metadata { sender, standby, ..Metadata::default() },
        parts: None,
        tm_update: at,
        tm_delete: Some(at),
        ..message
    }
}

/// A status of an outgoing message. Only a higher rank changes the status; within a rank the provider's newest
/// words stand, so long as they do not say something else: what was delivered has not failed. What is missing is
/// filled from any event, and told: the status of a message of LINE's may never change again.
fn advance(known: &Known, new: &Message) -> Applied<'static> {
    let mut after = known.clone();
    let message = &mut after.message;
    fill(message, new);
    let mut told = *message != known.message;
    if message.is_bare() && !new.is_bare() {
        take_body(message, new);
        told = true;
    }
    let before = &known.message;
    let higher = new.status.rank() > before.status.rank();
    let newer = (new.tm_update, &new.metadata.provider) > (before.tm_update, &before.metadata.provider);
    if higher || (newer && new.status == before.status && new.metadata.provider != before.metadata.provider) {
        message.status = new.status;
        message.metadata.provider.clone_from(&new.metadata.provider);
        told = true;
    }
    if told {
        message.parts = new.parts.or(message.parts);
        message.tm_update = before.tm_update.max(new.tm_update);
    }
    changed(known, after, told.then_some(EventType::ConversationMessageUpdated), false)
}

/// Takes over what `new` says.
fn take_body(message: &mut Message, new: &Message) {
    message.text.clone_from(&new.text);
    message.medias.clone_from(&new.medias);
    let Metadata { emojis, mentions, postback, unmapped, .. } = &new.metadata;
    message.metadata.emojis.clone_from(emojis);
    message.metadata.mentions.clone_from(mentions);
    message.metadata.postback.clone_from(postback);
    message.metadata.unmapped.clone_from(unmapped);
}

/// Fills what is missing around the text: it explains the message but does not change it.
fn fill(message: &mut Message, new: &Message) {
    message.tm_create = earliest(message.tm_create, new.tm_create);
    for (mine, theirs) in [(&mut message.source, &new.source), (&mut message.destination, &new.destination)] {
        if mine.target.is_empty() {
            mine.target.clone_from(&theirs.target);
        }
        if mine.target_name.is_empty() && mine.target == theirs.target {
            mine.target_name.clone_from(&theirs.target_name);
        }
    }
    // Destructured, so that a new field is decided upon.
    let Metadata {
        emojis: _,
        mentions: _,
        postback: _,
        reply_to,
        quoted_message_id,
        image_set,
        sender,
        standby,
        provider: _,
        unmapped: _,
    } = &new.metadata;
    let mine = &mut message.metadata;
    absent(&mut mine.reply_to, reply_to.as_ref());
    absent(&mut mine.quoted_message_id, quoted_message_id.as_ref());
    absent(&mut mine.image_set, image_set.as_ref());
    mine.standby |= standby;
    // Not every event in a group names its speaker; until one does, the group stands for them.
    if mine.sender.is_none() && sender.is_some() {
        mine.sender.clone_from(sender);
        message.source.clone_from(&new.source);
    }
}

/// The earlier of two times, of which the epoch is none.
fn earliest(one: Timestamp, other: Timestamp) -> Timestamp {
    if one == Timestamp::EPOCH || other == Timestamp::EPOCH { one.max(other) } else { one.min(other) }
}

fn absent<T: Clone>(mine: &mut Option<T>, theirs: Option<&T>) {
    if mine.is_none() {
        *mine = theirs.cloned();
    }
}

#[cfg(test)]
mod tests;
