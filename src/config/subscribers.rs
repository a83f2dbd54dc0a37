//! `[[subscribers]]`: who is told, where, what of it, and in which order.

use super::mistakes::{Noted, Notes};
use super::read::{Leaf, Section, quoted, shown};
use super::secrets::Vault;
use super::url::{self, Host};
use super::{Delivery, SubscriberConfig};
use crate::domain::delivery::Order;
use crate::domain::event::EventType;
use crate::domain::ids::AccountId;
use crate::domain::network::may_reach;
use crate::domain::route::{Interest, SubscriberId, matches};
use crate::domain::secret::Secret;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ipnet::IpNet;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;
use uuid::Uuid;

/// Any shorter wait for order would be none.
const LEAST_ORDER_TIMEOUT: Duration = Duration::from_millis(10);

/// What the subscribers depend on.
pub(super) struct Around<'a> {
    /// `None` when it is wrong itself: what follows from it is not judged then.
    pub(super) delivery: Option<&'a Delivery>,
    pub(super) account_ids: Vec<AccountId>,
    pub(super) vault: &'a Vault<'a>,
    pub(super) paths: &'a [String],
}

/// Every subscriber without mistakes.
pub(super) fn read(root: &mut Section, around: &Around<'_>, notes: &mut Notes) -> Vec<SubscriberConfig> {
    let mut subscribers = Vec::new();
    let mut names: BTreeMap<SubscriberId, String> = BTreeMap::new();
    for mut keys in root.tables("subscribers", notes) {
        let at = keys.at("id");
        let id = keys
            .required("id", "a name of your own, such as \"crm\"", notes)
            .and_then(|leaf| leaf.read(notes, subscriber_id));
        if let Ok(id) = &id {
            let path = keys.place.path.clone();
            if let Some(first) = names.get(id) {
                notes.add(&at, format_args!("the same id as {first}; every subscriber needs its own"));
            } else {
                names.insert(id.clone(), path);
            }
        }
        if let Ok(subscriber) = subscriber(keys, id, around, notes) {
            subscribers.push(subscriber);
        }
    }
    subscribers
}

fn subscriber(
    mut keys: Section,
    id: Result<SubscriberId, Noted>,
    around: &Around<'_>,
    notes: &mut Notes,
) -> Result<SubscriberConfig, Noted> {
    let networks = around.delivery.map(|delivery| delivery.allow_networks.as_slice());
    let url = keys
        .required("url", "where its events go", notes)
        .and_then(|leaf| leaf.read(notes, |text| target(text, networks)));
    let secrets_help = "at least one secret, which signs its events";
    let secrets_at = keys.at("secrets");
    let secrets = keys
        .required("secrets", secrets_help, notes)
        .and_then(|leaf| secrets(leaf, around.vault, notes))
        .and_then(|secrets| {
            if secrets.is_empty() {
                Err(notes.add(&secrets_at, format_args!("empty; {secrets_help}")))
            } else {
                Ok(secrets)
            }
        });
    let events = list(keys.optional("events"), notes, pattern);
    let accounts = list(keys.optional("accounts"), notes, |text| account(text, &around.account_ids));
    let order = match keys.optional("order") {
        Some(leaf) => leaf.word(Order::ALL, Order::as_str, notes),
        None => Ok(Order::Strict),
    };
    let timeout_at = keys.at("order_timeout");
    let order_timeout = match keys.optional("order_timeout") {
        Some(leaf) => leaf.duration(LEAST_ORDER_TIMEOUT, notes).map(Some),
        None => Ok(None),
    };
    match (order, order_timeout) {
        (Ok(Order::Bounded), Ok(None)) => {
            notes.add(&timeout_at, r#"missing; order = "bounded" needs it, such as "15m""#);
        }
        (Ok(Order::Strict | Order::None), Ok(Some(_))) => {
            notes.add(&timeout_at, r#"only for order = "bounded""#);
        }
        (Ok(Order::Bounded), Ok(Some(timeout))) => {
            if let Some(delivery) = around.delivery.filter(|delivery| timeout > delivery.give_up_after) {
                let most = shown(delivery.give_up_after);
                notes.add(&timeout_at, format_args!("must not exceed delivery.give_up_after ({most})"));
            }
        }
        _ => {}
    }
    keys.finish(around.paths, notes);
    Ok(SubscriberConfig {
        interest: Interest { subscriber: id?, events: events?, accounts: accounts? },
        url: url?,
        secrets: secrets?,
        order: order?,
        order_timeout: order_timeout?,
    })
}

fn subscriber_id(text: &str) -> Result<SubscriberId, String> {
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '_' | '-');
    if (1..=64).contains(&text.len()) && text.chars().all(fits) {
        return Ok(SubscriberId(text.to_owned()));
    }
    Err(format!("{} is no id; write 1 to 64 of a-z, 0-9, _ and -", quoted(text)))
}

/// Where events go: nowhere that a delivery would not be let. What a name stands for is known at delivery only, and
/// checked there.
fn target(text: &str, networks: Option<&[IpNet]>) -> Result<String, String> {
    let url = url::parse(text)?;
    if url.userinfo {
        return Err("must not hold a user name or password; deliveries are signed instead".to_owned());
    }
    if url.has_fragment() {
        return Err("must not have a fragment (#...), which is never sent".to_owned());
    }
    let Some(networks) = networks else { return Ok(text.to_owned()) };
    if !url.https && networks.is_empty() {
        return Err(
            "plain http is for private networks only; write https, or name the network in delivery.allow_networks"
                .to_owned(),
        );
    }
    let is_named = |address: &IpAddr| networks.iter().any(|network| network.contains(address));
    match url.host {
        Host::Ip(ip) if !may_reach(ip, !url.https, is_named) => {
            let ip = ip.to_canonical();
            Err(if may_reach(ip, false, is_named) {
                format!(
                    "plain http to {ip}, which is in no network of delivery.allow_networks; write https, or add its network"
                )
            } else {
                format!(
                    "{ip} is not public and in no network of delivery.allow_networks, so nothing would be sent there"
                )
            })
        }
        _ => Ok(text.to_owned()),
    }
}

fn secrets(leaf: Leaf, vault: &Vault<'_>, notes: &mut Notes) -> Result<Vec<Secret>, Noted> {
    let mut read = Vec::new();
    for leaf in leaf.list(notes)? {
        let place = leaf.place.clone();
        read.push(vault.one(leaf, notes).and_then(|secret| match webhook_key(&secret) {
            Ok(()) => Ok(secret),
            Err(what) => Err(notes.add(&place, what)),
        }));
    }
    read.into_iter().collect()
}

/// Standard Webhooks' form, where it is used, must be that form: receivers decode it.
pub(super) fn webhook_key(secret: &Secret) -> Result<(), &'static str> {
    match secret.expose().strip_prefix("whsec_").map(|encoded| STANDARD.decode(encoded)) {
        None => Ok(()),
        Some(Ok(key)) if (24..=64).contains(&key.len()) => Ok(()),
        Some(_) => Err("a whsec_ secret must be standard base64 of 24 to 64 bytes after the prefix"),
    }
}

fn pattern(text: &str) -> Result<String, String> {
    let mut names = EventType::ALL.map(EventType::as_str).into_iter();
    if text.contains('*') || names.clone().any(|name| matches(text, name)) {
        return Ok(text.to_owned());
    }
    let close = super::nearest::nearest(text, names.by_ref());
    let help = close.map_or_else(
        || r#"write a name, or a pattern such as "conversation_*""#.to_owned(),
        |name| format!("did you mean {name:?}?"),
    );
    Err(format!("{} is no event; {help}", quoted(text)))
}

fn account(text: &str, known: &[AccountId]) -> Result<AccountId, String> {
    let id = Uuid::try_parse(text).ok().map(AccountId);
    id.filter(|id| known.contains(id))
        .ok_or_else(|| format!("{} is no configured account; write the id of one of [[accounts]]", quoted(text)))
}

/// An optional list of texts that `read` understands.
fn list<T>(leaf: Option<Leaf>, notes: &mut Notes, read: impl Fn(&str) -> Result<T, String>) -> Result<Vec<T>, Noted> {
    let Some(leaf) = leaf else { return Ok(Vec::new()) };
    let found: Vec<_> = leaf.list(notes)?.into_iter().map(|leaf| leaf.read(notes, &read)).collect();
    found.into_iter().collect()
}
