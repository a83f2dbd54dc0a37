//! A store that only takes webhooks, and does with them what it is told: so that what a webhook takes on its way there
//! can be measured by itself, and beside other ways to keep it.

use async_trait::async_trait;
use birdwire::domain::account::Account;
use birdwire::domain::delivery::Order;
use birdwire::domain::ids::{AccountId, MessageId};
use birdwire::domain::route::SubscriberId;
use birdwire::domain::time::Timestamp;
use birdwire::store::inbound::{Inbound, Receipt};
use birdwire::store::lane::{Advance, Attempt, Claim, Claimed, Lease, Taker};
use birdwire::store::listing::{
    Backlog, DeliveryDetail, DeliveryQuery, DeliveryRow, EventQuery, EventRow, NodeRow, ReplayOf, Replayed, Retained,
    SubscriberRow,
};
use birdwire::store::replay::{History, Kept, KeptQuery, Repair};
use birdwire::store::trace::{Trace, TraceQuery};
use birdwire::store::{Store, StoreError};
use std::sync::Arc;
use std::time::Duration;

/// Takes webhooks.
pub(crate) struct Only<F>(pub(crate) F);

pub(crate) type Done<T> = Result<T, StoreError>;

/// Only webhooks come here.
fn nobody_asks<T>() -> Done<T> {
    Err(StoreError::Stopped { detail: "there is nothing here".to_owned() })
}

#[async_trait]
impl<F, T> Store for Only<F>
where
    F: Fn(Inbound) -> T + Send + Sync,
    T: Future<Output = Done<Receipt>> + Send,
{
    async fn commit_inbound(&self, inbound: Inbound) -> Done<Receipt> {
        (self.0)(inbound).await
    }

    async fn register_subscribers(&self, _: &[(SubscriberId, Order)]) -> Done<()> {
        nobody_asks()
    }

    async fn claim_lanes(&self, _: Vec<Claim>, _: Timestamp, _: Duration) -> Done<Claimed> {
        nobody_asks()
    }

    fn hand_over_to(&self, _: Arc<dyn Taker>) {}

    async fn record_attempt(&self, _: Attempt) -> Done<Advance> {
        nobody_asks()
    }

    async fn release_lanes(&self, _: Vec<Lease>) -> Done<()> {
        nobody_asks()
    }

    async fn disable(&self, _: &SubscriberId, _: String, _: Timestamp) -> Done<bool> {
        nobody_asks()
    }

    async fn enable(&self, _: &SubscriberId, _: Timestamp) -> Done<bool> {
        nobody_asks()
    }

    async fn replay(&self, _: ReplayOf, _: Timestamp) -> Done<Replayed> {
        nobody_asks()
    }

    async fn events(&self, _: EventQuery) -> Done<Vec<EventRow>> {
        nobody_asks()
    }

    async fn deliveries(&self, _: DeliveryQuery) -> Done<Vec<DeliveryRow>> {
        nobody_asks()
    }

    async fn delivery(&self, _: i64) -> Done<Option<DeliveryDetail>> {
        nobody_asks()
    }

    async fn kept(&self, _: KeptQuery) -> Done<Vec<Kept>> {
        nobody_asks()
    }

    async fn history(&self, _: Arc<Account>, _: MessageId) -> Done<Option<History>> {
        nobody_asks()
    }

    async fn repair(&self, _: Repair) -> Done<bool> {
        nobody_asks()
    }

    async fn trace(&self, _: TraceQuery) -> Done<Vec<Trace>> {
        nobody_asks()
    }

    async fn accounts(&self) -> Done<Vec<AccountId>> {
        nobody_asks()
    }

    async fn subscribers(&self) -> Done<Vec<SubscriberRow>> {
        nobody_asks()
    }

    async fn backlog(&self) -> Done<Vec<Backlog>> {
        nobody_asks()
    }

    async fn nodes(&self) -> Done<Vec<NodeRow>> {
        nobody_asks()
    }

    async fn retain(&self, _: Timestamp, _: Timestamp, _: usize) -> Done<Retained> {
        nobody_asks()
    }

    async fn probe(&self, _: Timestamp) -> Done<()> {
        nobody_asks()
    }

    async fn work_hint(&self) {}

    async fn failed(&self) -> StoreError {
        std::future::pending().await
    }

    async fn close(&self) {}
}
