//! Bird's Channels API (what was MessageBird), which carries LINE and SMS.
//!
//! Not Bird's newer developer platform, whose webhooks are signed differently and know no LINE, and not the
//! legacy MessageBird API.

mod body;
mod map;
mod search;
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
use settings::BirdAccount;

/// Bird.
pub(crate) const PROVIDER: Provider = Provider {
    schema: ProviderSchema { provider: "bird", channels: &[Channel::Line, Channel::Sms], keys: settings::KEYS },
    build,
    sign: verify::sign,
    message_id: |account, id| map::identify(account, id).0,
};

fn build(account: &Account, settings: &Settings, webhook_url: &str) -> Result<Box<dyn Adapter>, Vec<String>> {
    Ok(Box::new(BirdAccount::new(account, settings, webhook_url)?))
}

impl Erase for BirdAccount {
    /// Bird tells of no message that was taken back.
    fn erase(&self, raw: &[u8], _message: MessageId) -> Vec<u8> {
        raw.to_vec()
    }
}

impl Adapter for BirdAccount {
    fn verify(&self, webhook: &RawWebhook) -> Result<(), VerifyError> {
        self.verifier.verify(webhook)
    }

    /// A Bird webhook always holds exactly one event.
    fn events(&self, webhook: &Verified<'_>) -> Vec<InboundEvent> {
        vec![map::event(&self.account, self.channel_id, webhook.body())]
    }

    fn kept_headers(&self) -> &'static [&'static str] {
        &[verify::REQUEST_ID, verify::TIMESTAMP, verify::SIGNATURE]
    }
}
