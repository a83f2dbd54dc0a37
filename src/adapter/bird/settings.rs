//! What the configuration says about a Bird account.

use super::verify::Verifier;
use crate::domain::account::Account;
use crate::domain::settings::{SettingKey, SettingKind, Settings};
use std::time::Duration;
use uuid::Uuid;

/// Bird repeats a webhook for many hours with its first timestamp, so a narrow window would refuse the repeats.
const MAX_AGE: Duration = Duration::from_hours(48);

/// The keys of a Bird account.
pub(crate) const KEYS: &[SettingKey] = &[
    SettingKey {
        name: "signing_keys",
        kind: SettingKind::Secrets,
        required: true,
        help: "the signingKey of the webhook subscription, as text; several while rotating",
    },
    SettingKey {
        name: "webhook_url",
        kind: SettingKind::Url,
        required: false,
        help: "the URL registered at Bird, letter for letter, when it is not the public URL and the webhook path",
    },
    SettingKey {
        name: "max_age",
        kind: SettingKind::Duration,
        required: false,
        help: "how far the signed time may be away, 48h unless given; Bird's repeats keep their first time",
    },
    SettingKey {
        name: "channel_id",
        kind: SettingKind::Text,
        required: false,
        help: "the UUID of the Bird channel; events of any other are kept aside",
    },
    SettingKey {
        name: "workspace_id",
        kind: SettingKind::Text,
        required: false,
        help: "the UUID of the Bird workspace, needed to send and to fetch media",
    },
    SettingKey {
        name: "access_key",
        kind: SettingKind::Secret,
        required: false,
        help: "an access key of the workspace, needed to send and to fetch media",
    },
];

/// A Bird account, checked and ready for use.
pub(crate) struct BirdAccount {
    /// The account.
    pub(crate) account: Account,
    /// Checks its webhooks.
    pub(crate) verifier: Verifier,
    /// The only channel whose events are taken, when one is named.
    pub(crate) channel_id: Option<Uuid>,
}

impl BirdAccount {
    /// Reads the settings; `Err` names everything that is wrong with them.
    pub(crate) fn new(account: &Account, settings: &Settings, webhook_url: &str) -> Result<Self, Vec<String>> {
        let mut wrong = Vec::new();
        let keys = settings.secrets("signing_keys");
        if keys.is_empty() {
            wrong.push("signing_keys: at least one is needed".to_owned());
        }
        if keys.iter().any(|key| key.expose().is_empty()) {
            // Everybody knows the empty key.
            wrong.push("signing_keys: an empty key signs nothing".to_owned());
        }
        let channel_id = settings.text("channel_id").filter(|text| !text.is_empty()).and_then(|text| {
            let id = Uuid::try_parse(text.trim()).ok();
            if id.is_none() {
                wrong.push("channel_id: not a UUID".to_owned());
            }
            id
        });
        if !wrong.is_empty() {
            return Err(wrong);
        }
        let url = settings.text("webhook_url").filter(|text| !text.is_empty()).unwrap_or(webhook_url);
        let max_age = settings.duration("max_age").unwrap_or(MAX_AGE);
        Ok(Self { account: account.clone(), verifier: Verifier::new(keys, url, max_age), channel_id })
    }
}
