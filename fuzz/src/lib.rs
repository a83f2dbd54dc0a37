//! What strangers send, put to the places that read it: the same checks for the fuzzer and for the ordinary tests,
//! which run them over the fixtures and over pieces of them.

use birdwire::adapter::verified::kept;
use birdwire::adapter::{Adapter, provider};
use birdwire::config::{self, Judges, Sources};
use birdwire::domain::account::{Account, Channel};
use birdwire::domain::event::{Content, InboundEvent};
use birdwire::domain::ids::{AccountId, CustomerId};
use birdwire::domain::secret::Secret;
use birdwire::domain::settings::{SettingKind, SettingValue, Settings};
use birdwire::domain::time::Timestamp;
use birdwire::domain::webhook::RawWebhook;
use std::io::Write;
use uuid::Uuid;

const KEY: &str = "fuzz";
const URL: &str = "https://gateway.example.com/v1.0/conversation/accounts/1";
const NOW: Timestamp = Timestamp::from_micros(1_767_225_600_000_000);

fn adapter(name: &str, channel: Channel) -> Box<dyn Adapter> {
    let provider = provider(name).expect("a provider");
    let mut settings = Settings::default();
    for key in provider.schema.keys.iter().filter(|key| key.kind == SettingKind::Secrets) {
        settings.0.insert(key.name, SettingValue::Secrets(vec![Secret::new(KEY)]));
    }
    let account = Account {
        id: AccountId(Uuid::from_u128(1)),
        customer_id: CustomerId(Uuid::from_u128(2)),
        name: "Shop".to_owned(),
        channel,
        address: None,
    };
    (provider.build)(&account, &settings, URL).expect("an adapter")
}

/// A body from a stranger who has the key: whatever it is, every event of it has one meaning, the same every time,
/// and no message is blank.
pub fn parse(name: &str, channel: Channel, body: &[u8]) {
    let adapter = adapter(name, channel);
    let webhook = RawWebhook { headers: Vec::new(), body: body.to_vec(), received_at: NOW };
    let events = adapter.events(&kept(&webhook));
    assert_eq!(events, adapter.events(&kept(&webhook)), "the same bytes mean the same");
    for InboundEvent { content, .. } in &events {
        if let Content::Message(new) | Content::Edited(new) = content {
            assert!(!new.message.is_bare(), "a blank message tells nobody anything");
        }
        if let Some(message) = content.message_id() {
            // Erasing is for every webhook that is kept, so it must take whatever was kept.
            adapter.erase(body, message);
        }
    }
}

/// A request from a stranger who has no key: refused, without a panic. The first line is a signature, the second a
/// time, the rest the body. A signature that is right by construction is accepted.
pub fn verify(name: &str, data: &[u8]) {
    let adapter = adapter(name, Channel::Line);
    let mut parts = data.splitn(3, |b| *b == b'\n');
    let mut text = || String::from_utf8_lossy(parts.next().unwrap_or_default()).into_owned();
    let (signature, time) = (text(), text());
    let body = parts.next().unwrap_or_default().to_vec();
    let headers = ["messagebird-signature", "x-line-signature"]
        .map(|name| (name.into(), signature.clone()))
        .into_iter()
        .chain([("messagebird-request-timestamp".into(), time)])
        .collect();
    let guessed = RawWebhook { headers, body: body.clone(), received_at: NOW };
    assert!(adapter.verify(&guessed).is_err(), "nobody guesses a signature");
    let sign = provider(name).expect("a provider").sign;
    let headers = sign(&Secret::new(KEY), URL, &body, NOW).into_iter().map(|(n, v)| (n.into(), v)).collect();
    let genuine = RawWebhook { headers, body, received_at: NOW };
    assert_eq!(adapter.verify(&genuine), Ok(()), "the provider's own signature is good");
}

/// A configuration file with whatever in it: read or refused with a place for every mistake, without a panic.
pub fn configure(text: &[u8]) {
    let mut file = tempfile::NamedTempFile::new().expect("a file");
    file.write_all(text).expect("room");
    let schemas: Vec<_> = birdwire::adapter::PROVIDERS.iter().map(|provider| provider.schema).collect();
    let sources = Sources { file: Some(file.path()), env: Vec::new() };
    // A URL may name a file of certificates: nothing outside is read here.
    if let Err(mistakes) = config::load(&sources, &schemas, &Judges::SILENT) {
        assert!(!mistakes.0.is_empty(), "whoever refuses says why");
        for mistake in mistakes.0 {
            assert!(!mistake.to_string().contains('\n'), "one line for each");
        }
    }
}
