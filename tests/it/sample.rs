//! The account and the adapter that tests speak through.

use birdwire::adapter::verified::verify;
use birdwire::adapter::{Adapter, Provider};
use birdwire::domain::account::{Account, Channel};
use birdwire::domain::event::InboundEvent;
use birdwire::domain::ids::{AccountId, CustomerId};
use birdwire::domain::secret::Secret;
use birdwire::domain::settings::{SettingKind, SettingValue, Settings};
use birdwire::domain::time::Timestamp;
use birdwire::domain::webhook::RawWebhook;
use uuid::Uuid;

/// Where the account's webhooks arrive.
pub(crate) const URL: &str = "https://gw.example.com/v1.0/conversation/accounts/6f1f0f4e-2f6c-4d5e-9a51-0a4c5b0c9a01";
const KEY: &str = "fixture-key";

/// The account of every fixture of the provider.
pub(crate) fn account(provider: &Provider) -> Account {
    let name = match provider.schema.provider {
        "bird" => "LINE through Bird",
        _ => "LINE, direct",
    };
    Account {
        id: AccountId(Uuid::parse_str("6f1f0f4e-2f6c-4d5e-9a51-0a4c5b0c9a01").unwrap()),
        customer_id: CustomerId(Uuid::parse_str("5e4a0680-804e-11ec-8477-2fea5968d85b").unwrap()),
        name: name.into(),
        channel: Channel::Line,
        address: None,
    }
}

/// What the provider must be told: a key for everything that needs one.
pub(crate) fn settings(provider: &Provider) -> Settings {
    let mut settings = Settings::default();
    for key in provider.schema.keys.iter().filter(|key| key.required && key.kind == SettingKind::Secrets) {
        settings.0.insert(key.name, SettingValue::Secrets(vec![Secret::new(KEY)]));
    }
    settings
}

/// The events of `body`, signed, sent and verified as the provider does it.
pub(crate) fn events(provider: &Provider, adapter: &dyn Adapter, body: &[u8]) -> Vec<InboundEvent> {
    let now = Timestamp::from_micros(1_800_000_000_000_000);
    let signed = (provider.sign)(&Secret::new(KEY), URL, body, now);
    let headers = signed.into_iter().map(|(name, value)| (name.into(), value)).collect();
    let webhook = RawWebhook { headers, body: body.to_vec(), received_at: now };
    adapter.events(&verify(adapter, &webhook).expect("what the provider signs is taken"))
}
