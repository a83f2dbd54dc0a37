//! What a provider wants to be told, described as data.
//!
//! An adapter declares the keys it understands; the configuration reads and checks them without knowing any
//! provider; the adapter gets back typed values. So a new provider changes neither the configuration nor this file.

use super::account::Channel;
use super::secret::Secret;
use std::collections::BTreeMap;
use std::time::Duration;

/// What an adapter understands under `[[accounts]]`, besides the keys that every account has.
#[derive(Clone, Copy, Debug)]
pub struct ProviderSchema {
    /// The word in `provider = "..."`.
    pub provider: &'static str,
    /// The account types it can carry.
    pub channels: &'static [Channel],
    /// Its own keys.
    pub keys: &'static [SettingKey],
}

/// One key of a provider.
#[derive(Clone, Copy, Debug)]
pub struct SettingKey {
    /// The key as written.
    pub name: &'static str,
    /// The form of its value.
    pub kind: SettingKind,
    /// Whether an account of this provider is refused without it.
    pub required: bool,
    /// What would be right, for the error message.
    pub help: &'static str,
}

/// The form of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SettingKind {
    /// Plain text; an empty one counts as absent.
    Text,
    /// An absolute http(s) URL, kept byte for byte.
    Url,
    /// One secret: literal, `env:NAME` or `file:PATH`; an empty one counts as absent.
    Secret,
    /// A list of secrets; required means at least one.
    Secrets,
    /// A duration such as "48h".
    Duration,
}

/// A typed value of a key.
#[derive(Clone, Debug)]
pub enum SettingValue {
    /// Of [`SettingKind::Text`] and [`SettingKind::Url`].
    Text(String),
    /// Of [`SettingKind::Secret`] (one) and [`SettingKind::Secrets`].
    Secrets(Vec<Secret>),
    /// Of [`SettingKind::Duration`].
    Duration(Duration),
}

/// The values of one account, by key.
#[derive(Clone, Debug, Default)]
pub struct Settings(pub BTreeMap<&'static str, SettingValue>);

impl Settings {
    /// The text of `key`, when it was given.
    pub fn text(&self, key: &str) -> Option<&str> {
        match self.0.get(key) {
            Some(SettingValue::Text(text)) => Some(text),
            _ => None,
        }
    }

    /// The secrets of `key`; empty when none was given.
    pub fn secrets(&self, key: &str) -> &[Secret] {
        match self.0.get(key) {
            Some(SettingValue::Secrets(secrets)) => secrets,
            _ => &[],
        }
    }

    /// The duration of `key`, when it was given.
    pub fn duration(&self, key: &str) -> Option<Duration> {
        match self.0.get(key) {
            Some(SettingValue::Duration(duration)) => Some(*duration),
            _ => None,
        }
    }
}
