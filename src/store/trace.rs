//! The way of a message, asked by any id that somebody may hold in their hand at 3 a.m.

use super::listing::{DeliveryDetail, EventRow};
use crate::domain::ids::{AccountId, ConversationId, EventId, MessageId};
use crate::domain::message::Direction;
use crate::domain::time::Timestamp;
use uuid::Uuid;

/// Everything that the asked id may stand for.
#[derive(Clone, Debug, Default)]
pub struct TraceQuery {
    /// Ids of messages or of events downstream.
    pub ids: Vec<Uuid>,
    /// Providers' keys of events.
    pub keys: Vec<String>,
}

/// One thing that was found, and its way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trace {
    /// The message, when it is one.
    pub message: Option<TracedMessage>,
    /// The received events that told of it, repeats included, in order.
    pub received: Vec<EventRow>,
    /// What was owed for it, in order.
    pub owed: Vec<TracedEvent>,
}

/// Where a message stands; never what it says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TracedMessage {
    /// Its id.
    pub id: MessageId,
    /// Its account.
    pub account: AccountId,
    /// Its conversation.
    pub conversation: ConversationId,
    /// Which way it went.
    pub direction: Direction,
    /// Where it stands.
    pub status: &'static str,
    /// The provider's time of it.
    pub tm_create: Timestamp,
    /// The provider's time of its last change.
    pub tm_update: Timestamp,
    /// When it was taken back, if it was.
    pub tm_delete: Option<Timestamp>,
}

/// An event downstream with its deliveries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TracedEvent {
    /// Its id, which is its `webhook-id`.
    pub id: EventId,
    /// Its name.
    pub event_type: String,
    /// When it was committed.
    pub created_at: Timestamp,
    /// Whether what it said was erased.
    pub erased: bool,
    /// Every subscriber's delivery, with every attempt and without the body.
    pub deliveries: Vec<DeliveryDetail>,
}
