//! LINE's Messaging API, without anybody in between.

mod body;
mod event;
mod map;
mod settings;
mod verify;
mod wire;

use super::verified::Verified;
use super::{Adapter, Provider, VerifyError};
use crate::domain::account::{Account, Channel};
use crate::domain::event::{Erase, InboundEvent};
use crate::domain::ids::MessageId;
use crate::domain::settings::{ProviderSchema, Settings};
use crate::domain::webhook::RawWebhook;
use settings::LineAccount;

/// LINE.
pub(crate) const PROVIDER: Provider = Provider {
    schema: ProviderSchema { provider: "line", channels: &[Channel::Line], keys: settings::KEYS },
    build,
    sign: verify::sign,
    message_id: map::message_id,
};

/// LINE signs no URL.
fn build(account: &Account, settings: &Settings, _webhook_url: &str) -> Result<Box<dyn Adapter>, Vec<String>> {
    Ok(Box::new(LineAccount::new(account, settings)?))
}

impl Erase for LineAccount {
    fn erase(&self, raw: &[u8], message: MessageId) -> Vec<u8> {
        map::erase(&self.account, raw, message)
    }
}

impl Adapter for LineAccount {
    fn verify(&self, webhook: &RawWebhook) -> Result<(), VerifyError> {
        self.verifier.verify(webhook)
    }

    fn events(&self, webhook: &Verified<'_>) -> Vec<InboundEvent> {
        map::events(&self.account, self.bot_user_id.as_deref(), webhook.body())
    }

    fn kept_headers(&self) -> &'static [&'static str] {
        &[verify::SIGNATURE]
    }
}
