//! The one place where a raw webhook becomes a verified one.

use super::{Adapter, VerifyError};
use crate::domain::webhook::RawWebhook;

/// A webhook whose signature was checked. Only [`verify`] makes one, so nothing unverified can be parsed.
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
