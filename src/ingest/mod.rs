//! The way in, on one screen: verify, read, render, commit.
//!
//! Before verification nothing is kept. After it nothing is refused: what cannot be understood is kept aside raw,
//! because a provider's retry cannot repair our parser.

pub mod replay;

pub use crate::adapter::VerifyError;

use crate::adapter::Adapter;
use crate::adapter::verified::verify;
use crate::domain::account::Account;
use crate::domain::event::{End, InboundEvent, Oddity};
use crate::domain::ids::AccountId;
use crate::domain::webhook::RawWebhook;
use crate::store::inbound::{Inbound, Outlet, Prepared};
use crate::store::{Store, StoreError};
use foldhash::HashMap;
use std::sync::Arc;

/// Accepts the webhooks of every configured account.
pub struct Ingest {
    store: Arc<dyn Store>,
    outlet: Arc<Outlet>,
    desks: HashMap<AccountId, Arc<Desk>>,
}

/// Where the webhooks of one account are understood.
pub struct Desk {
    account: Arc<Account>,
    adapter: Arc<dyn Adapter>,
}

impl Desk {
    /// The headers, in lower case, that matter to whoever reads a webhook of this account.
    pub fn headers(&self) -> &'static [&'static str] {
        self.adapter.kept_headers()
    }
}

/// What is held until the store is done with a webhook's body.
pub type Hold = Box<dyn Send + Sync>;

/// What became of a webhook, for counting; one end per event, or one for a webhook without events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// The ends.
    pub ends: Vec<End>,
    /// Oddities that did not stop an event.
    pub oddities: Vec<Oddity>,
}

/// Why a webhook was not accepted.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// It is not the provider's, or not fresh.
    #[error(transparent)]
    Unverified(#[from] VerifyError),
    /// It could not be kept; the provider should send it again.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Ingest {
    /// Accepts for these accounts, into this store.
    pub fn new(
        store: Arc<dyn Store>,
        outlet: Arc<Outlet>,
        accounts: impl IntoIterator<Item = (Account, Box<dyn Adapter>)>,
    ) -> Self {
        let desks = accounts
            .into_iter()
            .map(|(account, adapter)| {
                let (account, adapter) = (Arc::new(account), Arc::from(adapter));
                (account.id, Arc::new(Desk { account, adapter }))
            })
            .collect();
        Self { store, outlet, desks }
    }

    /// The desk of an account; `None` for an account that is not configured.
    pub fn desk(&self, account: AccountId) -> Option<&Arc<Desk>> {
        self.desks.get(&account)
    }

    fn prepare(&self, desk: &Desk, events: Vec<InboundEvent>) -> Vec<Prepared> {
        let prepare = |(place, event)| Prepared::new(event, place, &desk.account, &*self.outlet.render);
        events.into_iter().enumerate().map(prepare).collect()
    }

    /// What is in a webhook, without keeping anything.
    pub fn read(&self, desk: &Desk, webhook: &RawWebhook) -> Result<Vec<InboundEvent>, VerifyError> {
        Ok(desk.adapter.events(&verify(&*desk.adapter, webhook)?))
    }

    /// Keeps one event of a webhook, as if nothing else were in it.
    pub async fn accept_event(
        &self,
        desk: &Desk,
        webhook: &RawWebhook,
        event: InboundEvent,
    ) -> Result<Vec<End>, StoreError> {
        let inbound = self.inbound(desk, webhook.clone(), String::new(), vec![event], Box::new(()));
        Ok(self.store.commit_inbound(inbound).await?.ends)
    }

    fn inbound(
        &self,
        desk: &Desk,
        mut webhook: RawWebhook,
        request_id: String,
        events: Vec<InboundEvent>,
        hold: Hold,
    ) -> Inbound {
        let kept = desk.adapter.kept_headers().iter();
        let headers = kept.filter_map(|&name| Some((name, webhook.take_sole_header(name)?))).collect();
        Inbound {
            account: desk.account.clone(),
            received_at: webhook.received_at,
            request_id,
            headers,
            body: webhook.body,
            events: self.prepare(desk, events),
            outlet: self.outlet.clone(),
            kept: None,
            erase: desk.adapter.clone(),
            hold,
        }
    }

    /// Keeps one webhook. `Ok` means that everything it causes is durable, or was before. `hold` is asked for room when the
    /// webhook is known to be the provider's; what it gives is dropped when the store is done with the body.
    pub async fn accept(
        &self,
        desk: &Desk,
        webhook: RawWebhook,
        request_id: String,
        hold: impl FnOnce() -> Option<Hold>,
    ) -> Result<Report, Refusal> {
        let events = self.read(desk, &webhook)?;
        let hold = hold().ok_or(StoreError::Overloaded)?;
        let oddities = events.iter().flat_map(|event| event.oddities.iter().copied()).collect();
        let inbound = self.inbound(desk, webhook, request_id, events, hold);
        let receipt = self.store.commit_inbound(inbound).await?;
        Ok(Report { ends: receipt.ends, oddities })
    }
}
