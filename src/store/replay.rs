//! Going through kept webhooks again, and repairing what today's mapping makes of them.

use super::inbound::Outlet;
use crate::domain::event::OutboundEvent;
use crate::domain::ids::{AccountId, MessageId};
use crate::domain::merge::Known;
use crate::domain::time::Timestamp;
use crate::domain::webhook::RawWebhook;
use std::sync::Arc;

/// Which kept events.
#[derive(Clone, Debug, Default)]
pub struct KeptQuery {
    /// Of this account.
    pub account: Option<AccountId>,
    /// Received at or after this moment.
    pub since: Option<Timestamp>,
    /// Received before this moment.
    pub until: Option<Timestamp>,
    /// Only those in quarantine.
    pub quarantined: bool,
    /// With a greater row id.
    pub after: i64,
    /// How many.
    pub limit: usize,
}

/// An event whose webhook is still kept.
#[derive(Clone, Debug)]
pub struct Kept {
    /// Its row.
    pub row: i64,
    /// Its account.
    pub account: AccountId,
    /// Its place in the webhook, from 0.
    pub place: usize,
    /// The request it came with.
    pub request_id: String,
    /// Whether it is in quarantine.
    pub quarantined: bool,
    /// The message it became or changed.
    pub message: Option<MessageId>,
    /// The webhook's row.
    pub webhook_row: i64,
    /// How many events of the webhook are accounted for under it; repeats are not.
    pub siblings: usize,
    /// The webhook.
    pub webhook: RawWebhook,
}

/// Everything that is kept of one message.
#[derive(Clone, Debug)]
pub struct History {
    /// The message as it is stored.
    pub known: Known,
    /// Its events in the order in which they were stored: place in its webhook, and the webhook if it is still kept.
    pub events: Vec<(usize, Option<RawWebhook>)>,
}

/// A message to be replaced by what today's mapping makes of it.
pub struct Repair {
    /// The account.
    pub account: Arc<crate::domain::account::Account>,
    /// The message as it was when the repair was worked out; if it is no longer, nothing happens.
    pub before: Known,
    /// The message as it should be.
    pub after: Known,
    /// What is owed for that.
    pub outbound: Vec<OutboundEvent>,
    /// Who is owed it.
    pub outlet: Arc<Outlet>,
    /// When.
    pub now: Timestamp,
}
