//! Events on both sides: what an adapter finds in a webhook, and what subscribers are owed for it.

use super::account::Account;
use super::address::Address;
use super::conversation::{Conversation, Sighting};
use super::ids::{AccountId, ConversationId, EventId, MessageId, v5};
use super::message::Message;
use super::sms::SmsMessage;
use super::time::Timestamp;
use std::fmt;
use uuid::Uuid;

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
    /// The same message with a new text: the whole record as the edit knows it, changed at the edit's time.
    Edited(Box<NewMessage>),
    /// A message was taken back.
    Unsent(Box<Unsent>),
    /// A status of an outgoing message: the whole record as this event knows it, which may lack its body. Creates
    /// the message when it is not known: people also write in the provider's own inbox.
    Outgoing(Box<NewMessage>),
    /// Something that happened without a message.
    Notice(Box<Notice>),
    /// Authentic, but not to be understood or not for this account: kept raw, replayable.
    Quarantined(Quarantine),
}

impl Content {
    /// The message that it is about.
    pub fn message_id(&self) -> Option<MessageId> {
        match self {
            Self::Message(new) | Self::Edited(new) | Self::Outgoing(new) => Some(new.message.id),
            Self::Unsent(unsent) => Some(unsent.message),
            Self::Notice(_) | Self::Quarantined(_) => None,
        }
    }

    /// The message that it says something of, whether or not that can be understood.
    pub fn speaks_of(&self) -> Option<MessageId> {
        match self {
            Self::Quarantined(quarantine) => quarantine.message,
            understood => understood.message_id(),
        }
    }

    /// What it says about its dialog. Not to be taken up when the message is known to be in another one: a later
    /// event that names no source must not open a dialog with nobody.
    pub fn sighting(&self) -> Option<&Sighting> {
        match self {
            Self::Message(new) | Self::Edited(new) | Self::Outgoing(new) => Some(&new.sighting),
            Self::Unsent(unsent) => Some(&unsent.sighting),
            Self::Notice(notice) => notice.sighting.as_ref(),
            Self::Quarantined(_) => None,
        }
    }

    /// The conversation of its sighting; the account's own id when it has none. A message says it already.
    pub fn conversation_id(&self, account: &Account) -> ConversationId {
        match self {
            Self::Message(new) | Self::Edited(new) | Self::Outgoing(new) => new.message.conversation_id,
            Self::Unsent(unsent) => unsent.stub.conversation_id,
            Self::Notice(_) | Self::Quarantined(_) => match self.sighting() {
                Some(sighting) => sighting.conversation_id(account),
                None => ConversationId(account.id.0),
            },
        }
    }

    /// Whether it creates the conversation of its sighting, when that is new.
    pub fn opens(&self) -> bool {
        match self {
            Self::Message(_) | Self::Edited(_) | Self::Unsent(_) | Self::Outgoing(_) => true,
            Self::Notice(notice) => notice.opens,
            Self::Quarantined(_) => false,
        }
    }
}

/// A message with the dialog it was written in.
#[derive(Clone, Debug, PartialEq)]
pub struct NewMessage {
    /// The dialog.
    pub sighting: Sighting,
    /// The message.
    pub message: Message,
}

/// The end of a message: whoever wrote it does not want it to be seen.
#[derive(Clone, Debug, PartialEq)]
pub struct Unsent {
    /// The dialog.
    pub sighting: Sighting,
    /// Which message.
    pub message: MessageId,
    /// What this event knows of it: no text, no media, created, changed and deleted at the event's time.
    pub stub: Message,
}

/// Something that happened without a message.
#[derive(Clone, Debug, PartialEq)]
pub struct Notice {
    /// The dialog, when the event names one.
    pub sighting: Option<Sighting>,
    /// Whether it opens the dialog: then the conversation is created if it is new. Other notices never create one.
    pub opens: bool,
    /// What is told downstream.
    pub record: ChannelEvent,
}

/// The record of a [`Notice`]. VoIPBIN has none, so only subscribers that ask for it get it.
#[derive(Clone, Debug, PartialEq)]
pub struct ChannelEvent {
    /// Its id; see [`ChannelEvent::id_of`].
    pub id: Uuid,
    /// The dialog's conversation, whether or not it exists yet; nil when the event names no dialog.
    pub conversation_id: ConversationId,
    /// The account it came through.
    pub account_id: AccountId,
    /// The provider's event type.
    pub kind: String,
    /// Who caused it; an empty target when nobody is named.
    pub source: Address,
    /// The event's own JSON object, as its sender wrote it.
    pub detail: String,
    /// The provider's time of the event.
    pub tm_create: Timestamp,
}

impl ChannelEvent {
    /// UUIDv5(account, `"channel_event:<provider key>"`).
    pub fn id_of(account: AccountId, provider_key: &str) -> Uuid {
        v5(account.0, &["channel_event:", provider_key])
    }
}

/// Why an authentic event is kept aside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quarantine {
    /// The reason, from a closed set.
    pub reason: QuarantineReason,
    /// Which place of the payload is meant; never its content.
    pub detail: String,
    /// The message that it is about, as far as that can be read: when that is taken back, nothing of it may stay here.
    pub message: Option<MessageId>,
}

impl Quarantine {
    /// Kept aside for `reason`, at the place that `detail` names.
    pub fn new(reason: QuarantineReason, detail: impl Into<String>) -> Self {
        Self { reason, detail: detail.into(), message: None }
    }

    /// The same, about that message.
    #[must_use]
    pub fn about(self, message: Option<MessageId>) -> Self {
        Self { message, ..self }
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
    /// The provider says that it sent the event before. Only its key tells whether we have seen it.
    Redelivered,
    /// The webhook names another receiver than the account's.
    Destination,
}

impl Oddity {
    /// Every oddity, for declaring metrics.
    pub const ALL: [Self; 5] = [Self::Span, Self::Time, Self::Unmapped, Self::Redelivered, Self::Destination];

    /// Its word in metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Span => "span",
            Self::Time => "time",
            Self::Unmapped => "unmapped",
            Self::Redelivered => "redelivered",
            Self::Destination => "destination",
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

/// What subscribers can be owed, in the order in which one provider event causes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum EventType {
    /// The first event of a dialog.
    ConversationCreated,
    /// A display name or owner changed.
    ConversationUpdated,
    /// An SMS, told as VoIPBIN's SMS record before its conversation message.
    MessageCreated,
    /// A status of an outgoing SMS.
    MessageUpdated,
    /// A message.
    ConversationMessageCreated,
    /// A new text or status of a message.
    ConversationMessageUpdated,
    /// A message was taken back.
    ConversationMessageDeleted,
    /// Something that happened without a message. Not one of VoIPBIN's.
    ChannelEvent,
}

impl EventType {
    /// Every type, in the order in which one provider event causes them.
    pub const ALL: [Self; 8] = [
        Self::ConversationCreated,
        Self::ConversationUpdated,
        Self::MessageCreated,
        Self::MessageUpdated,
        Self::ConversationMessageCreated,
        Self::ConversationMessageUpdated,
        Self::ConversationMessageDeleted,
        Self::ChannelEvent,
    ];

    /// Its name; VoIPBIN's where VoIPBIN has one.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ConversationCreated => "conversation_created",
            Self::ConversationUpdated => "conversation_updated",
            Self::MessageCreated => "message_created",
            Self::MessageUpdated => "message_updated",
            Self::ConversationMessageCreated => "conversation_message_created",
            Self::ConversationMessageUpdated => "conversation_message_updated",
            Self::ConversationMessageDeleted => "conversation_message_deleted",
            Self::ChannelEvent => "channel_event",
        }
    }

    /// Whether it says that its record is new, so that the record has not been changed yet.
    pub const fn is_creation(self) -> bool {
        matches!(self, Self::ConversationCreated | Self::MessageCreated | Self::ConversationMessageCreated)
    }

    /// What an SMS account's subscribers are told of the SMS itself when this is told of its conversation message.
    const fn of_sms(self) -> Option<Self> {
        match self {
            Self::ConversationMessageCreated => Some(Self::MessageCreated),
            Self::ConversationMessageUpdated => Some(Self::MessageUpdated),
            _ => None,
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
    /// For `message_*`.
    Sms(&'a SmsMessage),
    /// For `channel_event`.
    ChannelEvent(&'a ChannelEvent),
}

/// Writes an event downstream as the bytes that subscribers get.
///
/// A trait because the store decides, inside its transaction, which events a change causes, but must not know
/// VoIPBIN's JSON. Implementations are pure.
pub trait Render: Send + Sync {
    /// The body `{"type":...,"data":...}` of one event.
    fn body(&self, event_type: EventType, record: Record<'_>) -> Vec<u8>;
}

/// Removes from a kept webhook what a message said, because whoever wrote it took it back.
///
/// A trait because the store keeps raw webhooks but must not know any provider's JSON. Implementations are pure.
pub trait Erase: Send + Sync {
    /// `raw` without what `message` said; everything else byte for byte as it was.
    fn erase(&self, raw: &[u8], message: MessageId) -> Vec<u8>;
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
    /// not used for a `_created` event: a record is created once, whatever created it.
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
            Record::Sms(sms) => sms.id.0,
            Record::ChannelEvent(event) => event.id,
        };
        let cause = if event_type.is_creation() { "" } else { cause };
        Self {
            id: EventId::derive(account, event_type.as_str(), id, cause),
            event_type,
            body: render.body(event_type, record),
        }
    }

    /// Writes out everything that a `conversation_message_*` event of `message` stands for, in order: of an SMS
    /// account, VoIPBIN's record of the SMS comes first.
    pub fn of_message(
        render: &dyn Render,
        account: AccountId,
        event_type: EventType,
        message: &Message,
        cause: &str,
    ) -> Vec<Self> {
        let sms = event_type.of_sms().zip(SmsMessage::of(message));
        let sms = sms.map(|(event_type, sms)| Self::new(render, account, event_type, Record::Sms(&sms), cause));
        let message = Self::new(render, account, event_type, Record::Message(message), cause);
        sms.into_iter().chain([message]).collect()
    }
}
