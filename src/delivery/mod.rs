//! The way out: claim lanes, attempt, judge, record.
//!
//! A lane's worker records each attempt durably before it sends the next event of that lane, so a crash can repeat
//! at most the one attempt per lane that it cut.

mod connection;
mod desk;
pub mod dispatcher;
pub mod guard;
mod idle;
pub mod outcome;
pub mod receiver;
pub mod sender;
mod work;

use crate::domain::backoff::Backoff;
use crate::domain::delivery::Order;
use crate::domain::route::SubscriberId;
use crate::metrics::Attempts;
use crate::voipbin::sign::Signer;
use receiver::Receiver;

/// One subscriber as the dispatcher needs it.
pub struct Subscriber {
    /// Who.
    pub id: SubscriberId,
    /// Where.
    pub receiver: Receiver,
    /// Signs with the subscriber's secrets.
    pub signer: Signer,
    /// In which order.
    pub order: Order,
    /// When to try again, and for how long.
    pub backoff: Backoff,
    /// What is counted of its attempts.
    pub counted: Attempts,
}
