//! Leasing lanes and recording attempts.
//!
//! A lane is one subscriber's share of one conversation. Whoever holds its lease may attempt its next delivery and
//! nobody else may, so order per conversation is a property of the store. Every change carries the lease's token;
//! a token that is no longer the lane's changes nothing.

use crate::domain::event::OutboundEvent;
use crate::domain::ids::{ConversationId, EventId};
use crate::domain::route::SubscriberId;
use crate::domain::time::Timestamp;
use std::time::Duration;

/// A wish for lanes of one subscriber.
#[derive(Clone, Debug)]
pub struct Claim {
    /// Whose.
    pub subscriber: SubscriberId,
    /// How many at most.
    pub lanes: usize,
}

/// The right to work on a lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Lease {
    /// The lane's row.
    pub lane: i64,
    /// Grows with every claim of the lane.
    pub token: i64,
}

/// A lane on lease, with the delivery at its head.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leased {
    /// The lease.
    pub lease: Lease,
    /// Whose lane.
    pub subscriber: SubscriberId,
    /// Which conversation's.
    pub conversation: ConversationId,
    /// The next delivery.
    pub owed: Owed,
}

/// Somebody who works on lanes as soon as there is something for them: a lane that was idle is committed on lease and
/// handed over, so that nobody has to look for it.
pub trait Taker: Send + Sync {
    /// A place for a lane of the subscriber, if there is one free.
    fn place(&self, subscriber: &SubscriberId) -> Option<Place>;

    /// Takes a place back that was not needed.
    fn give_back(&self, subscriber: &SubscriberId, place: Place);

    /// Takes over a lane whose lease is committed.
    fn take(&self, lane: Leased, place: Place);
}

/// A place for a lane; free again when it is dropped.
#[derive(Debug)]
pub struct Place {
    /// For how long to lease the lane.
    pub lease: Duration,
    /// When the place was given, which is before the lease begins.
    pub since: Timestamp,
    /// What makes it free again.
    pub permit: tokio::sync::OwnedSemaphorePermit,
}

/// What a round of claims found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Claimed {
    /// The lanes.
    pub leased: Vec<Leased>,
    /// When the next lane of the subscribers asked for becomes due, if one will.
    pub next_due: Option<Timestamp>,
}

/// A delivery to be attempted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owed {
    /// The delivery's row.
    pub delivery: i64,
    /// Its place in the lane, from 1.
    pub sequence: i64,
    /// The event's id, which is its `webhook-id`.
    pub event_id: EventId,
    /// The event's name.
    pub event_type: String,
    /// The bytes to send.
    pub body: Vec<u8>,
    /// Failed attempts since it was first owed or last replayed.
    pub failures: u32,
    /// The first of those attempts.
    pub first_attempt: Option<Timestamp>,
    /// When the event was committed.
    pub created_at: Timestamp,
    /// Whether it is sent out of order, again.
    pub replay: bool,
}

impl Owed {
    /// The delivery with this row and number of an event that was never attempted.
    pub fn first(delivery: i64, sequence: i64, event: &OutboundEvent, created_at: Timestamp) -> Self {
        Self {
            delivery,
            sequence,
            event_id: event.id,
            event_type: event.event_type.as_str().to_owned(),
            body: event.body.clone(),
            failures: 0,
            first_attempt: None,
            created_at,
            replay: false,
        }
    }
}

/// One try, finished.
#[derive(Clone, Debug)]
pub struct Attempt {
    /// Under which lease.
    pub lease: Lease,
    /// Which delivery.
    pub delivery: i64,
    /// When it began.
    pub started_at: Timestamp,
    /// When it ended.
    pub ended_at: Timestamp,
    /// The HTTP status, if one came.
    pub status: Option<u16>,
    /// What happened, in a few words from a closed set.
    pub reason: &'static str,
    /// What follows.
    pub verdict: Verdict,
    /// For how long after `ended_at` the lane is wanted further, when its next delivery is due; `None` gives it back.
    pub extend: Option<Duration>,
}

/// What follows from an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is done.
    Delivered,
    /// Again, not before `due`.
    Retry {
        /// When.
        due: Timestamp,
    },
    /// Given up.
    Dead,
}

/// What an attempt's recording found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Advance {
    /// The lease is extended and this is next.
    Next(Box<Owed>),
    /// The lane was given back.
    Released,
    /// The lease was lost before; nothing was recorded.
    Lost,
}
