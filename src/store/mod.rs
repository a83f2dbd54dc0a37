//! What the gateway remembers, behind one trait.
//!
//! Methods are whole transactions of the domain; no transaction handle crosses the trait, and no engine knows
//! another. An engine is one folder, one line in [`open`] and one line in the conformance suite.

mod columns;
pub mod copy;
pub mod inbound;
pub mod lane;
pub mod listing;
mod plan;
mod postgres;
pub mod replay;
mod rows;
mod sqlite;
pub mod tables;
pub mod trace;

use crate::domain::account::Account;
use crate::domain::delivery::Order;
use crate::domain::ids::{AccountId, MessageId};
use crate::domain::route::SubscriberId;
use crate::domain::time::Timestamp;
use inbound::{Inbound, Receipt};
use lane::{Advance, Attempt, Claim, Claimed, Lease, Taker};
use listing::{
    Backlog, DeliveryDetail, DeliveryQuery, DeliveryRow, EventQuery, EventRow, Migrated, NodeRow, ReplayOf, Replayed,
    Retained, SubscriberRow,
};
use replay::{History, Kept, KeptQuery, Repair};
use std::sync::Arc;
use std::time::Duration;
use trace::{Trace, TraceQuery};

/// The gateway's memory.
#[async_trait::async_trait]
pub trait Store: Send + Sync {
    /// Keeps one webhook: raw bytes, the end of every event, conversations, messages, and what subscribers are
    /// owed, in one durable transaction, each event at most once. Returns after the commit.
    async fn commit_inbound(&self, inbound: Inbound) -> Result<Receipt, StoreError>;

    /// Makes the configured subscribers known. Others keep what they are owed, but get nothing.
    async fn register_subscribers(&self, subscribers: &[(SubscriberId, Order)]) -> Result<(), StoreError>;

    /// Leases due lanes, at most as many per subscriber as its claim says, each with its next delivery.
    async fn claim_lanes(&self, claims: Vec<Claim>, now: Timestamp, lease: Duration) -> Result<Claimed, StoreError>;

    /// Hands lanes that were idle to `taker` as soon as something is committed for them, as far as it has places.
    fn hand_over_to(&self, taker: Arc<dyn Taker>);

    /// Records one attempt and moves the lane on. A lease that was lost changes nothing and says so.
    async fn record_attempt(&self, attempt: Attempt) -> Result<Advance, StoreError>;

    /// Gives leases back unused; the lanes are due at once.
    async fn release_lanes(&self, leases: Vec<Lease>) -> Result<(), StoreError>;

    /// Stops delivering to a subscriber; what it is owed stays owed. Says whether there is such a subscriber.
    async fn disable(&self, subscriber: &SubscriberId, why: String, now: Timestamp) -> Result<bool, StoreError>;

    /// Resumes delivering to a subscriber, and makes everything that waits for another try due at once, with all the time
    /// that a first attempt has. Says whether there is such a subscriber.
    async fn enable(&self, subscriber: &SubscriberId, now: Timestamp) -> Result<bool, StoreError>;

    /// Owes deliveries again, out of order and marked. Those that are still owed become due at once instead.
    async fn replay(&self, of: ReplayOf, now: Timestamp) -> Result<Replayed, StoreError>;

    /// Received events, oldest first.
    async fn events(&self, query: EventQuery) -> Result<Vec<EventRow>, StoreError>;

    /// Deliveries, oldest first.
    async fn deliveries(&self, query: DeliveryQuery) -> Result<Vec<DeliveryRow>, StoreError>;

    /// One delivery with its attempts and its body.
    async fn delivery(&self, id: i64) -> Result<Option<DeliveryDetail>, StoreError>;

    /// Events whose webhook is still kept, oldest first.
    async fn kept(&self, query: KeptQuery) -> Result<Vec<Kept>, StoreError>;

    /// Everything that is kept of one message.
    async fn history(&self, account: Arc<Account>, message: MessageId) -> Result<Option<History>, StoreError>;

    /// Replaces a message by what it should be, and owes what follows; `false` when it has changed meanwhile.
    async fn repair(&self, repair: Repair) -> Result<bool, StoreError>;

    /// The way of everything that the asked ids stand for.
    async fn trace(&self, query: TraceQuery) -> Result<Vec<Trace>, StoreError>;

    /// Every account that ever received something.
    async fn accounts(&self) -> Result<Vec<AccountId>, StoreError>;

    /// Every subscriber ever registered.
    async fn subscribers(&self) -> Result<Vec<SubscriberRow>, StoreError>;

    /// What every subscriber is owed.
    async fn backlog(&self) -> Result<Vec<Backlog>, StoreError>;

    /// The processes that serve a shared store; none of a store that only one process can serve.
    async fn nodes(&self) -> Result<Vec<NodeRow>, StoreError>;

    /// Removes up to `limit` raw webhooks received before `raw_before` and up to `limit` deliveries finished before
    /// `finished_before`, with what only they needed.
    async fn retain(
        &self,
        raw_before: Timestamp,
        finished_before: Timestamp,
        limit: usize,
    ) -> Result<Retained, StoreError>;

    /// Proves that a commit is possible by making one.
    async fn probe(&self, now: Timestamp) -> Result<(), StoreError>;

    /// Resolves when lanes may have become due; a hint, never a promise: look again after a while anyway.
    async fn work_hint(&self);

    /// Resolves when the engine cannot go on, with the reason; a process that served with it must end.
    async fn failed(&self) -> StoreError;

    /// Finishes what is queued and lets go of the files.
    async fn close(&self);
}

/// What a process wants to do with the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Accept and deliver: on the embedded engine by one process only, which voids every lease found.
    Serve,
    /// Look, beside whoever serves.
    Read,
    /// Make short changes, beside whoever serves.
    Write,
}

/// Why the store did not do it.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// More waits to be committed than may; try again soon.
    #[error("the store's queue is full")]
    Overloaded,
    /// It cannot be done now, but may be later: disk full, database away.
    #[error("the store is unavailable: {detail}")]
    Unavailable {
        /// What is wrong, for an operator.
        detail: String,
        /// The engine's error.
        #[source]
        source: Option<Box<dyn std::error::Error + Send + Sync>>,
    },
    /// It cannot be used at all: wrong URL, locked, newer schema, too old an engine.
    #[error("{detail}")]
    Unusable {
        /// What is wrong, for an operator.
        detail: String,
        /// The engine's error.
        #[source]
        source: Option<Box<dyn std::error::Error + Send + Sync>>,
    },
    /// The engine broke and has stopped.
    #[error("the store has stopped: {detail}")]
    Stopped {
        /// What happened.
        detail: String,
    },
}

/// Where a store takes numbers from that nobody can foresee: ids of nodes and of transactions, jitter.
pub type Chance = fn() -> u128;

/// Whose clock leases go by, on an engine that several nodes share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeaseClock {
    /// The database's: nodes need not agree on the time.
    Store,
    /// The caller's, for tests that move it by hand.
    Caller,
}

/// How a store is opened.
#[derive(Clone)]
pub struct Opening<'a> {
    /// For what.
    pub access: Access,
    /// When.
    pub now: Timestamp,
    /// What is counted.
    pub metrics: &'a crate::metrics::Metrics,
    /// Connections to a database server, at most.
    pub connections: usize,
    /// What this process is called among others that serve the same store.
    pub node: &'a str,
    /// Numbers that nobody can foresee.
    pub chance: Chance,
    /// Whose clock leases go by. The embedded engine has one process, and takes the caller's anyway.
    pub clock: LeaseClock,
}

/// Opens the store that `url` names. A database server that is away does not keep it from being opened to serve:
/// everything is unavailable until it is there.
pub async fn open(url: &str, opening: Opening<'_>) -> Result<Arc<dyn Store>, StoreError> {
    match url.split_once(':') {
        Some(("sqlite", path)) => Ok(sqlite::open(std::path::Path::new(path), &opening)?),
        Some(("postgres" | "postgresql", _)) => Ok(postgres::open(url, &opening).await?),
        _ => Err(unknown(url)),
    }
}

/// Makes the schema of the store that `url` names, or brings it up to date, and does nothing else.
pub async fn migrate(url: &str, opening: Opening<'_>) -> Result<Migrated, StoreError> {
    match url.split_once(':') {
        Some(("sqlite", path)) => sqlite::migrate(std::path::Path::new(path), &opening),
        Some(("postgres" | "postgresql", _)) => postgres::migrate(url, &opening).await,
        _ => Err(unknown(url)),
    }
}

/// Whether `url` is one that an engine understands, or what is wrong with it; the URL is never quoted, because it may
/// hold a password. Nothing is opened but the file of certificates that a URL may name.
pub fn check_url(url: &str) -> Result<(), String> {
    match url.split_once(':') {
        Some(("postgres" | "postgresql", _)) => postgres::check_url(url),
        _ => Ok(()),
    }
}

fn unknown(url: &str) -> StoreError {
    let engine = url.split(':').next().unwrap_or_default();
    StoreError::Unusable { detail: format!("store.url names no known engine: {engine}"), source: None }
}

/// The version of the embedded engine.
pub fn embedded_version() -> &'static str {
    sqlite::version()
}
