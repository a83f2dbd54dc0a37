//! What the configuration says about a LINE account.

use super::verify::Verifier;
use crate::domain::account::Account;
use crate::domain::settings::{SettingKey, SettingKind, Settings};

/// The keys of a LINE account.
pub(crate) const KEYS: &[SettingKey] = &[
    SettingKey {
        name: "channel_secrets",
        kind: SettingKind::Secrets,
        required: true,
        help: "the channel secret, as text; several while it is being reissued",
    },
    SettingKey {
        name: "channel_access_token",
        kind: SettingKind::Secret,
        required: false,
        help: "a channel access token, needed to send and to fetch media",
    },
    SettingKey {
        name: "bot_user_id",
        kind: SettingKind::Text,
        required: false,
        help: "the bot's user id, U and 32 hex digits; webhooks that name another one are counted",
    },
];

/// A LINE account, checked and ready for use.
pub(crate) struct LineAccount {
    /// The account.
    pub(crate) account: Account,
    /// Checks its webhooks.
    pub(crate) verifier: Verifier,
    /// Whom webhooks should be meant for, when it is known.
    pub(crate) bot_user_id: Option<String>,
}

impl LineAccount {
    /// Reads the settings; `Err` names everything that is wrong with them.
    pub(crate) fn new(account: &Account, settings: &Settings) -> Result<Self, Vec<String>> {
        let mut wrong = Vec::new();
        let secrets = settings.secrets("channel_secrets");
        if secrets.is_empty() {
            wrong.push("channel_secrets: at least one is needed".to_owned());
        }
        if secrets.iter().any(|secret| secret.expose().is_empty()) {
            // Everybody knows the empty key.
            wrong.push("channel_secrets: an empty secret signs nothing".to_owned());
        }
        let bot_user_id = settings.text("bot_user_id").map(str::trim).filter(|id| !id.is_empty());
        if !wrong.is_empty() {
            return Err(wrong);
        }
        Ok(Self {
            account: account.clone(),
            verifier: Verifier::new(secrets),
            bot_user_id: bot_user_id.map(str::to_owned),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::account::Channel;
    use crate::domain::ids::{AccountId, CustomerId};
    use crate::domain::secret::Secret;
    use crate::domain::settings::SettingValue;
    use uuid::Uuid;

    fn built(values: Vec<(&'static str, SettingValue)>) -> Result<LineAccount, Vec<String>> {
        let account = Account {
            id: AccountId(Uuid::from_u128(1)),
            customer_id: CustomerId(Uuid::from_u128(2)),
            name: "Shop".into(),
            channel: Channel::Line,
            address: None,
        };
        LineAccount::new(&account, &Settings(values.into_iter().collect()))
    }

    #[test]
    fn everything_that_is_wrong_is_named_and_no_secret_is() {
        let secrets = |texts: &[&str]| {
            ("channel_secrets", SettingValue::Secrets(texts.iter().map(|text| Secret::new(*text)).collect()))
        };
        let id = |text: &str| ("bot_user_id", SettingValue::Text(text.into()));
        assert_eq!(built(vec![]).err().unwrap(), ["channel_secrets: at least one is needed"]);
        let wrong = built(vec![secrets(&["good", ""])]).err().unwrap();
        assert_eq!(wrong, ["channel_secrets: an empty secret signs nothing"]);
        assert_eq!(built(vec![secrets(&["s"]), id(" ")]).unwrap().bot_user_id, None);
        assert_eq!(built(vec![secrets(&["s"]), id(" U1 ")]).unwrap().bot_user_id.as_deref(), Some("U1"));
    }
}
