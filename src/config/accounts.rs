//! `[[accounts]]`: the keys that every account has, and those that its provider declares.

use super::mistakes::{Noted, Notes, Place};
use super::read::{Leaf, SOME, Section, quoted};
use super::secrets::Vault;
use super::{AccountConfig, Judges, url};
use crate::domain::account::{Account, Channel};
use crate::domain::ids::{AccountId, CustomerId};
use crate::domain::settings::{ProviderSchema, SettingKey, SettingKind, SettingValue, Settings};
use std::collections::BTreeMap;
use uuid::Uuid;

/// Below the public URL, before the account's id.
const WEBHOOK_PATH: &str = "/v1.0/conversation/accounts/";

/// What the accounts depend on.
pub(super) struct Around<'a> {
    pub(super) public_url: &'a str,
    pub(super) schemas: &'a [ProviderSchema],
    pub(super) judges: &'a Judges,
    pub(super) vault: &'a Vault<'a>,
    pub(super) paths: &'a [String],
}

/// Every account without mistakes, and the ids of all of them: what refers to an account with a mistake of its own
/// is not wrong.
pub(super) fn read(root: &mut Section, around: &Around<'_>, notes: &mut Notes) -> (Vec<AccountConfig>, Vec<AccountId>) {
    let mut accounts = Vec::new();
    let mut ids: BTreeMap<AccountId, String> = BTreeMap::new();
    for mut keys in root.tables("accounts", notes) {
        let at = keys.at("id");
        let id = keys
            .required("id", "a UUID of your own making, which names the webhook URL", notes)
            .and_then(|leaf| leaf.read(notes, uuid))
            .map(AccountId);
        if let Ok(id) = id {
            let path = keys.place.path.clone();
            if let Some(first) = ids.get(&id) {
                notes.add(&at, format_args!("the same id as {first}; every account needs its own"));
            } else {
                ids.insert(id, path);
            }
        }
        if let Ok(account) = account(keys, id, around, notes) {
            accounts.push(account);
        }
    }
    (accounts, ids.into_keys().collect())
}

fn account(
    mut keys: Section,
    id: Result<AccountId, Noted>,
    around: &Around<'_>,
    notes: &mut Notes,
) -> Result<AccountConfig, Noted> {
    let customer_id = keys
        .required("customer_id", "the UUID of the VoIPBIN customer that owns the records", notes)
        .and_then(|leaf| leaf.read(notes, uuid))
        .map(CustomerId);
    let name_help = "the display name of our own side of a conversation";
    let name = keys.required("name", name_help, notes).and_then(|leaf| leaf.filled(name_help, notes));
    let schema = keys
        .required("provider", &one_of("", &providers(around.schemas)), notes)
        .and_then(|leaf| leaf.read(notes, |text| provider(text, around.schemas)));
    let type_help = schema.map_or_else(|_| "what people use, such as \"line\"".to_owned(), |s| one_of("", &types(s)));
    let channel =
        keys.required("type", &type_help, notes).and_then(|leaf| leaf.read(notes, |text| channel(text, schema.ok())));
    let address_at = keys.at("address");
    let address = match keys.optional("address") {
        Some(leaf) => leaf.text(notes).map(|text| Some(text).filter(|text| !text.is_empty())),
        None => Ok(None),
    };
    if let (Ok(Channel::Sms), Ok(None)) = (channel, &address) {
        notes.add(&address_at, "missing; accounts of type \"sms\" need our own number");
    }
    let own = schema.map_or(&[][..], |schema| schema.keys);
    let places: BTreeMap<&str, Place> = own.iter().map(|key| (key.name, keys.at(key.name))).collect();
    let settings = match schema {
        Ok(schema) => settings(&mut keys, schema, around, notes),
        Err(proof) => {
            // Whose keys they are is not known: those of any provider may be right.
            for key in around.schemas.iter().flat_map(|schema| schema.keys) {
                keys.discard(key.name);
            }
            Err(proof)
        }
    };
    let at = keys.place.clone();
    keys.finish(around.paths, notes);
    let id = id?;
    let config = AccountConfig {
        account: Account { id, customer_id: customer_id?, name: name?, channel: channel?, address: address? },
        provider: schema?.provider,
        settings: settings?,
        webhook_url: format!("{}{WEBHOOK_PATH}{id}", around.public_url),
    };
    let mut verdict = Ok(());
    for mistake in (around.judges.account)(&config) {
        let key = mistake.split_once(": ").and_then(|(key, what)| Some((places.get(key)?, what)));
        let (place, what) = key.unwrap_or((&at, &mistake));
        verdict = Err(notes.add(place, what));
    }
    verdict.map(|()| config)
}

fn settings(
    keys: &mut Section,
    schema: &ProviderSchema,
    around: &Around<'_>,
    notes: &mut Notes,
) -> Result<Settings, Noted> {
    let mut settings = Settings::default();
    let mut outcome = Ok(());
    for key in schema.keys {
        let absent = keys.at(key.name);
        let value = match keys.optional(key.name) {
            Some(leaf) => setting(leaf, key.kind, around.vault, notes),
            None => Ok(None),
        };
        match value {
            Ok(Some(value)) => {
                settings.0.insert(key.name, value);
            }
            Ok(None) if key.required => outcome = Err(missing(&absent, schema, key, notes)),
            Ok(None) => {}
            Err(proof) => outcome = Err(proof),
        }
    }
    for other in around.schemas.iter().filter(|other| other.provider != schema.provider) {
        for key in other.keys.iter().filter(|key| schema.keys.iter().all(|own| own.name != key.name)) {
            let what = format!("is a key of provider {}, not of {}", other.provider, schema.provider);
            keys.refuse(key.name, what, notes);
        }
    }
    outcome.map(|()| settings)
}

fn missing(at: &Place, schema: &ProviderSchema, key: &SettingKey, notes: &mut Notes) -> Noted {
    notes.add(at, format_args!("missing; provider {} needs {}", schema.provider, key.help))
}

/// The value of a provider's key; `None` when it counts as absent.
fn setting(leaf: Leaf, kind: SettingKind, vault: &Vault<'_>, notes: &mut Notes) -> Result<Option<SettingValue>, Noted> {
    match kind {
        SettingKind::Text => {
            let text = leaf.text(notes)?;
            Ok((!text.is_empty()).then_some(SettingValue::Text(text)))
        }
        SettingKind::Url => leaf.read(notes, |text| {
            if text.is_empty() {
                return Ok(None);
            }
            url::parse(text).map(|_| Some(SettingValue::Text(text.to_owned())))
        }),
        SettingKind::Secret if leaf.is_empty() => Ok(None),
        SettingKind::Secret => vault.one(leaf, notes).map(|secret| Some(SettingValue::Secrets(vec![secret]))),
        SettingKind::Secrets => {
            let secrets = vault.list(leaf, notes)?;
            Ok((!secrets.is_empty()).then_some(SettingValue::Secrets(secrets)))
        }
        SettingKind::Duration => leaf.duration(SOME, notes).map(|duration| Some(SettingValue::Duration(duration))),
    }
}

fn uuid(text: &str) -> Result<Uuid, String> {
    // Braces and URNs are UUIDs to the parser, but not in a URL.
    let hyphenated = |id: &Uuid| id.as_hyphenated().to_string().eq_ignore_ascii_case(text);
    Uuid::try_parse(text).ok().filter(hyphenated).ok_or_else(|| {
        format!("{} is no UUID; write one such as \"6f1f0f4e-2f6c-4d5e-9a51-0a4c5b0c9a01\"", quoted(text))
    })
}

fn provider<'a>(text: &str, schemas: &'a [ProviderSchema]) -> Result<&'a ProviderSchema, String> {
    schemas
        .iter()
        .find(|schema| schema.provider == text)
        .ok_or_else(|| format!("{} is no provider; known: {}", quoted(text), providers(schemas).join(", ")))
}

fn channel(text: &str, schema: Option<&ProviderSchema>) -> Result<Channel, String> {
    let known = Channel::parse(text);
    match (known, schema) {
        (Some(channel), Some(schema)) if !schema.channels.contains(&channel) => Err(format!(
            "type {} is not supported by provider {} yet; {}",
            quoted(text),
            schema.provider,
            one_of("use ", &types(schema))
        )),
        (Some(channel), _) => Ok(channel),
        (None, Some(schema)) => Err(format!("{} is no type; {}", quoted(text), one_of("use ", &types(schema)))),
        (None, None) => {
            Err(format!("{} is no type; {}", quoted(text), one_of("use ", &Channel::ALL.map(Channel::as_str))))
        }
    }
}

fn providers(schemas: &[ProviderSchema]) -> Vec<&'static str> {
    schemas.iter().map(|schema| schema.provider).collect()
}

fn types(schema: &ProviderSchema) -> Vec<&'static str> {
    schema.channels.iter().map(|channel| channel.as_str()).collect()
}

fn one_of(verb: &str, words: &[&str]) -> String {
    format!("{verb}{}", words.join(" or "))
}
