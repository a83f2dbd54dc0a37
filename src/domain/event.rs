//! Events on both sides: what an adapter finds in a webhook, and what subscribers are owed for it.

use super::conversation::{Conversation, Sighting};
use super::ids::{AccountId, EventId};
use super::message::Message;
use super::time::Timestamp;
use std::fmt;

/// One thing in a webhook, as its adapter understood it.
#[derive(Clone, Debug, PartialEq)]
pub struct InboundEvent {
    /// The provider's word for it (`line.inbound`, `message`); empty when not even that could be read.
    pub kind: String,
    /// What a repeat of it carries again; `None` when there is nothing to recognise a repeat by.
    pub key: Option<DedupeKey>,
    /// What it is.
    pub content: Content,
    /// Oddities that were passed over, for counting.
    pub oddities: Vec<Oddity>,
}

/// What a repeat of an event carries again. Ordered by time, so that storing keys appends.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DedupeKey {
    /// The event's time, from the payload; the epoch when it has none.
    pub at: Timestamp,
    /// The provider's key, unique per account.
    pub provider_key: String,
}

/// What an event is.
#[derive(Clone, Debug, PartialEq)]
pub enum Content {
    /// A message that somebody wrote.
    Message(Box<NewMessage>),
    /// Authentic, but not to be understood or not for this account: kept raw, replayable.
    Quarantined(Quarantine),
}

/// A message with the dialog it was written in.
#[derive(Clone, Debug, PartialEq)]
pub struct NewMessage {
    /// The dialog.
    pub sighting: Sighting,
    /// The message.
    pub message: Message,
}

/// Why an authentic event is kept aside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quarantine {
    /// The reason, from a closed set.
    pub reason: QuarantineReason,
    /// Which place of the payload is meant; never its content.
    pub detail: String,
}

impl Quarantine {
    /// Kept aside for `reason`, at the place that `detail` names.
    pub fn new(reason: QuarantineReason, detail: impl Into<String>) -> Self {
        Self { reason, detail: detail.into() }
    }
}

/// The closed set of reasons.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QuarantineReason {
    /// Not the provider's JSON.
    Unreadable,
    /// Another service's or channel type's event.
    Foreign,
    /// An event for another channel than the account's.
    OtherChannel,
    /// A known event that this version does not map yet.
    Unsupported,
    /// The store could not take its row.
    Unstorable,
}

impl QuarantineReason {
    /// Every reason, for declaring metrics.
    pub const ALL: [Self; 5] =
        [Self::Unreadable, Self::Foreign, Self::OtherChannel, Self::Unsupported, Self::Unstorable];

    /// Its word in metrics, listings and the store.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unreadable => "unreadable",
            Self::Foreign => "foreign",
            Self::OtherChannel => "other_channel",
            Self::Unsupported => "unsupported",
            Self::Unstorable => "unstorable",
        }
    }
}

impl fmt::Display for Quarantine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.reason.as_str())?;
        if self.detail.is_empty() { Ok(()) } else { write!(f, ": {}", self.detail) }
    }
}

/// Something odd that did not stop an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Oddity {
    /// An emoji or mention span that is not one.
    Span,
    /// A time that is none.
    Time,
    /// Content without a home in the record.
    Unmapped,
}

impl Oddity {
    /// Every oddity, for declaring metrics.
    pub const ALL: [Self; 3] = [Self::Span, Self::Time, Self::Unmapped];

    /// Its word in metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Span => "span",
            Self::Time => "time",
            Self::Unmapped => "unmapped",
        }
    }
}

/// The one end that every event of an authentic webhook has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// Its records are in the store.
    Stored,
    /// Seen before. `conflict` when the repeat carried another time than the first.
    Duplicate {
        /// Whether the repeat's time differs from the first one's.
        conflict: bool,
    },
    /// Kept aside.
    Quarantined(Quarantine),
    /// A webhook without events.
    Ignored,
}

impl End {
    /// The states, for declaring metrics and for `--state`.
    pub const STATES: [&'static str; 4] = ["stored", "duplicate", "quarantined", "ignored"];

    /// Its word in metrics, listings and the store.
    pub const fn state(&self) -> &'static str {
        match self {
            Self::Stored => "stored",
            Self::Duplicate { .. } => "duplicate",
            Self::Quarantined(_) => "quarantined",
            Self::Ignored => "ignored",
        }
    }
}

/// What subscribers can be owed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum EventType {
    /// The first event of a dialog.
    ConversationCreated,
    /// A display name or owner changed.
    ConversationUpdated,
    /// A message.
    ConversationMessageCreated,
}

impl EventType {
    /// Every type, in the order in which one provider event causes them.
    pub const ALL: [Self; 3] = [Self::ConversationCreated, Self::ConversationUpdated, Self::ConversationMessageCreated];

    /// VoIPBIN's name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ConversationCreated => "conversation_created",
            Self::ConversationUpdated => "conversation_updated",
            Self::ConversationMessageCreated => "conversation_message_created",
        }
    }

    /// The type of that name.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|t| t.as_str() == text)
    }
}

/// The record that an event downstream is about.
#[derive(Clone, Copy, Debug)]
pub enum Record<'a> {
    /// For `conversation_*`.
    Conversation(&'a Conversation),
    /// For `conversation_message_*`.
    Message(&'a Message),
}

/// Writes an event downstream as the bytes that subscribers get.
///
/// A trait because the store decides, inside its transaction, which events a change causes, but must not know
/// VoIPBIN's JSON. Implementations are pure.
pub trait Render: Send + Sync {
    /// The body `{"type":...,"data":...}` of one event.
    fn body(&self, event_type: EventType, record: Record<'_>) -> Vec<u8>;
}

/// An event that subscribers are owed, written out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutboundEvent {
    /// Its id for ever.
    pub id: EventId,
    /// Its type.
    pub event_type: EventType,
    /// Its body, byte for byte what every attempt sends.
    pub body: Vec<u8>,
}

impl OutboundEvent {
    /// Writes out `record` as an event of `event_type`. `cause` is the provider's key of what changed the record,
    /// and empty for a `_created` event.
    pub fn new(
        render: &dyn Render,
        account: AccountId,
        event_type: EventType,
        record: Record<'_>,
        cause: &str,
    ) -> Self {
        let id = match record {
            Record::Conversation(conversation) => conversation.id.0,
            Record::Message(message) => message.id.0,
        };
        Self {
            id: EventId::derive(account, event_type.as_str(), id, cause),
            event_type,
            body: render.body(event_type, record),
        }
    }
}
