//! What operators ask the store.

use crate::domain::delivery::State;
use crate::domain::event::End;
use crate::domain::ids::{AccountId, ConversationId, EventId, MessageId};
use crate::domain::route::SubscriberId;
use crate::domain::time::Timestamp;

/// Which received events.
#[derive(Clone, Debug, Default)]
pub struct EventQuery {
    /// In this state (`stored`, `duplicate`, `quarantined`, `ignored`).
    pub state: Option<String>,
    /// Of this account.
    pub account: Option<AccountId>,
    /// With a greater row id.
    pub after: i64,
    /// The newest that many (still oldest first) instead of the first.
    pub newest: bool,
    /// How many.
    pub limit: usize,
}

/// One received event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventRow {
    /// Its row.
    pub id: i64,
    /// When it came.
    pub received_at: Timestamp,
    /// For which account.
    pub account: AccountId,
    /// With which request.
    pub request_id: String,
    /// The provider's word for it.
    pub kind: String,
    /// Its end.
    pub end: End,
    /// The provider's time of it.
    pub event_time: Option<Timestamp>,
    /// The provider's key of it.
    pub provider_key: Option<String>,
    /// The message it became.
    pub message: Option<MessageId>,
}

/// Which deliveries.
#[derive(Clone, Debug, Default)]
pub struct DeliveryQuery {
    /// In this state.
    pub state: Option<State>,
    /// To this subscriber.
    pub subscriber: Option<SubscriberId>,
    /// With a greater row id.
    pub after: i64,
    /// The newest that many (still oldest first) instead of the first.
    pub newest: bool,
    /// How many.
    pub limit: usize,
}

/// One delivery.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeliveryRow {
    /// Its row.
    pub id: i64,
    /// To whom.
    pub subscriber: SubscriberId,
    /// Where it stands.
    pub state: State,
    /// The event's id, which is its `webhook-id`.
    pub event_id: EventId,
    /// The event's name.
    pub event_type: String,
    /// The lane's conversation.
    pub conversation: ConversationId,
    /// Its place in the lane.
    pub sequence: i64,
    /// Attempts so far.
    pub attempts: u32,
    /// Whether it was replayed.
    pub replay: bool,
    /// When the event was committed.
    pub created_at: Timestamp,
    /// When it is due (meaningful while pending).
    pub due_at: Timestamp,
    /// The latest attempt.
    pub last: Option<AttemptRow>,
}

/// One attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttemptRow {
    /// Its number, from 1.
    pub number: u32,
    /// When it began.
    pub at: Timestamp,
    /// How long it took, in milliseconds; unknown when the process ended in it.
    pub duration_ms: Option<i64>,
    /// The HTTP status, if one came.
    pub status: Option<u16>,
    /// What happened.
    pub reason: String,
}

/// One delivery in full.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeliveryDetail {
    /// The delivery.
    pub row: DeliveryRow,
    /// Its attempts, in order.
    pub attempts: Vec<AttemptRow>,
    /// The bytes that are sent.
    pub body: Vec<u8>,
}

impl DeliveryDetail {
    /// From the attempts that were logged one by one: only those that did not succeed are; the latest, whatever came of
    /// it, stands in the delivery itself.
    pub fn new(row: DeliveryRow, logged: Vec<AttemptRow>, body: Vec<u8>) -> Self {
        let mut attempts = logged;
        if let Some(last) = &row.last
            && attempts.last().is_none_or(|logged| logged.number < last.number)
        {
            attempts.push(last.clone());
        }
        Self { row, attempts, body }
    }
}

/// What to replay.
#[derive(Clone, Debug)]
pub enum ReplayOf {
    /// These deliveries, delivered or dead.
    Deliveries(Vec<i64>),
    /// Every dead letter whose last attempt is not older than this.
    Dead {
        /// From when on; `None` is for ever.
        since: Option<Timestamp>,
    },
}

/// What a replay did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Replayed {
    /// Deliveries that are owed again.
    pub replayed: Vec<i64>,
    /// Deliveries that were still owed anyway.
    pub still_owed: Vec<i64>,
    /// Deliveries whose message was taken back: there is nothing left to send.
    pub erased: Vec<i64>,
    /// Ids that name nothing.
    pub unknown: Vec<i64>,
}

/// One subscriber as the store knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubscriberRow {
    /// Who.
    pub id: SubscriberId,
    /// Whether the process that served last had it configured.
    pub configured: bool,
    /// Since when and why nothing is delivered to it.
    pub disabled: Option<(Timestamp, String)>,
}

/// What one subscriber is owed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backlog {
    /// Who, and how it stands.
    pub subscriber: SubscriberRow,
    /// How many deliveries are owed.
    pub owed: u64,
    /// When the oldest of them was committed.
    pub oldest: Option<Timestamp>,
    /// How many dead letters there are.
    pub dead: u64,
}

/// A process that serves a shared store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeRow {
    /// Its id, new at every start.
    pub id: uuid::Uuid,
    /// Where it runs.
    pub name: String,
    /// Its version.
    pub version: String,
    /// When it started.
    pub started_at: Timestamp,
    /// When it last said that it is there, or that it ends.
    pub seen_at: Timestamp,
    /// How it stands.
    pub state: NodeState,
    /// What it does for all nodes.
    pub duties: Vec<String>,
}

/// How a node stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NodeState {
    /// It was seen just now.
    Alive,
    /// It should have been seen.
    Late,
    /// It has said that it ends.
    Stopped,
}

impl NodeState {
    /// Its word in listings.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Alive => "alive",
            Self::Late => "late",
            Self::Stopped => "stopped",
        }
    }
}

/// What bringing a schema up to date did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Migrated {
    /// The version that it is now.
    pub version: i64,
    /// The versions that were missing.
    pub applied: Vec<i64>,
}

/// What retention removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Retained {
    /// Raw webhooks removed.
    pub raw: usize,
    /// Deliveries removed.
    pub finished: usize,
}
