//! Providers: how each signs its webhooks and what their events mean.
//!
//! Every provider is one folder with the same files: `settings` (what it wants to be told), `verify` (its
//! signature), `wire` (its JSON as types) and `map` (wire to domain). All of it is plain functions: no I/O, no
//! clock, no async. A new provider is one folder and the two lines marked below.

mod bird; // a new provider: its folder here...
mod hmac;
mod lenient;
mod line;
pub mod verified;

use crate::domain::account::Account;
use crate::domain::event::{Erase, InboundEvent};
use crate::domain::ids::{AccountId, MessageId};
use crate::domain::secret::Secret;
use crate::domain::settings::{ProviderSchema, Settings};
use crate::domain::time::Timestamp;
use crate::domain::webhook::RawWebhook;
use verified::Verified;

/// Every provider there is.
pub const PROVIDERS: &[Provider] = &[bird::PROVIDER, line::PROVIDER]; // ...and its entry here

/// See [`Provider::build`].
pub type Build = fn(account: &Account, settings: &Settings, webhook_url: &str) -> Result<Box<dyn Adapter>, Vec<String>>;

/// See [`Provider::sign`].
pub type Sign = fn(key: &Secret, url: &str, body: &[u8], now: Timestamp) -> Vec<(&'static str, String)>;

/// What the rest of the gateway knows of a provider.
#[derive(Clone, Copy)]
pub struct Provider {
    /// Its name and the keys it understands.
    pub schema: ProviderSchema,
    /// Makes the adapter of one account. `webhook_url` is the URL under which the account's webhooks arrive from
    /// outside. `Err` names what is wrong with the settings, one line each.
    pub build: Build,
    /// The headers with which the provider would send `body` to `url` at `now`, signed with `key`.
    pub sign: Sign,
    /// The id, under an account, of the message that the provider knows by an id of its own.
    pub message_id: fn(AccountId, provider_id: &str) -> MessageId,
}

/// The provider of that name.
pub fn provider(name: &str) -> Option<&'static Provider> {
    PROVIDERS.iter().find(|p| p.schema.provider == name)
}

/// One account's way of understanding its provider.
pub trait Adapter: Erase + Send + Sync {
    /// Checks that the webhook is the provider's own and fresh at `webhook.received_at`.
    fn verify(&self, webhook: &RawWebhook) -> Result<(), VerifyError>;

    /// Everything in the webhook, in order. Total: what cannot be understood is an event in quarantine, and one
    /// bad event never spoils its siblings. Empty only for a webhook that really holds no events.
    fn events(&self, webhook: &Verified<'_>) -> Vec<InboundEvent>;

    /// The headers worth keeping beside the raw body, in lower case: all that `verify` looks at, and no other reaches it.
    fn kept_headers(&self) -> &'static [&'static str];
}

/// Why a webhook is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VerifyError {
    /// A header that the signature needs is absent or given more than once.
    #[error("header {0} is missing or repeated")]
    Header(&'static str),
    /// A header that the signature needs is not what it should be.
    #[error("header {0} is malformed")]
    Malformed(&'static str),
    /// No configured key made this signature.
    #[error("the signature does not match")]
    Mismatch,
    /// The signature is good, but older or newer than allowed.
    #[error("the signed time is {skew_seconds} s away, more than allowed")]
    Stale {
        /// Distance from now, in seconds.
        skew_seconds: u64,
    },
}

impl VerifyError {
    /// Its word in metrics.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Header(_) => "missing_header",
            Self::Malformed(_) => "malformed_header",
            Self::Mismatch => "bad_signature",
            Self::Stale { .. } => "stale",
        }
    }

    /// Every word, for declaring metrics.
    pub const WORDS: [&'static str; 4] = ["missing_header", "malformed_header", "bad_signature", "stale"];
}
