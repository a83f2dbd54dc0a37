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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::adapter::bird::verify::sign;
    use crate::domain::account::Channel;
    use crate::domain::ids::{AccountId, CustomerId};
    use crate::domain::secret::Secret;
    use crate::domain::settings::SettingValue;
    use crate::domain::time::Timestamp;
    use crate::domain::webhook::RawWebhook;

    const PUBLIC: &str = "https://gw.example.com/v1.0/conversation/accounts/1";

    fn built(values: Vec<(&'static str, SettingValue)>) -> Result<BirdAccount, Vec<String>> {
        let account = Account {
            id: AccountId(Uuid::from_u128(1)),
            customer_id: CustomerId(Uuid::from_u128(2)),
            name: "Shop".into(),
            channel: Channel::Line,
            address: None,
        };
        BirdAccount::new(&account, &Settings(values.into_iter().collect()), PUBLIC)
    }

    fn keys(texts: &[&str]) -> (&'static str, SettingValue) {
        ("signing_keys", SettingValue::Secrets(texts.iter().map(|text| Secret::new(*text)).collect()))
    }

    fn text(key: &'static str, text: &str) -> (&'static str, SettingValue) {
        (key, SettingValue::Text(text.into()))
    }

    #[test]
    fn everything_that_is_wrong_is_named_and_no_secret_is() {
        let wrong = built(vec![keys(&["good-key", ""]), text("channel_id", "abc")]).err().unwrap();
        assert_eq!(wrong, ["signing_keys: an empty key signs nothing", "channel_id: not a UUID"]);
        assert_eq!(built(vec![]).err().unwrap(), ["signing_keys: at least one is needed"]);
        assert!(built(vec![keys(&["k"]), text("channel_id", "")]).unwrap().channel_id.is_none());
    }

    #[test]
    fn the_registered_url_is_the_one_that_is_signed() {
        let takes = |account: &BirdAccount, url: &str| {
            let now = Timestamp::from_millis(1_800_000_000_000);
            let headers = sign(&Secret::new("k"), url, b"{}", now).into_iter().map(|(n, v)| (n.into(), v)).collect();
            account.verifier.verify(&RawWebhook { headers, body: b"{}".to_vec(), received_at: now }).is_ok()
        };
        let registered = "https://hooks.example.com/bird?tenant=42";
        let by_default = built(vec![keys(&["k"])]).unwrap();
        assert!(takes(&by_default, PUBLIC) && !takes(&by_default, registered));
        let named = built(vec![keys(&["k"]), text("webhook_url", registered)]).unwrap();
        assert!(takes(&named, registered) && !takes(&named, PUBLIC));
    }
}
