//! The one place where a raw webhook becomes a verified one.

use super::{Adapter, VerifyError};
use crate::domain::webhook::RawWebhook;

/// A webhook whose signature was checked. Only this file makes one, so nothing unverified can be parsed.
#[derive(Debug)]
pub struct Verified<'a>(&'a RawWebhook);

impl<'a> Verified<'a> {
    /// The body, byte for byte.
    pub fn body(&self) -> &'a [u8] {
        &self.0.body
    }

    /// The webhook.
    pub fn webhook(&self) -> &'a RawWebhook {
        self.0
    }
}

/// Checks `webhook` with the account's adapter.
pub fn verify<'a>(adapter: &dyn Adapter, webhook: &'a RawWebhook) -> Result<Verified<'a>, VerifyError> {
    adapter.verify(webhook)?;
    Ok(Verified(webhook))
}

/// A webhook from the store, which keeps only what was verified when it arrived. Its signature cannot be checked
/// again: keys are rotated, the signed time is long past, and what was taken back is erased from the body.
pub fn kept(webhook: &RawWebhook) -> Verified<'_> {
    Verified(webhook)
}
