//! What the operator wants, read once at the start: defaults, the file over them, the environment over both.
//!
//! Everything that is wrong is reported at once, each mistake with its line or variable, before anything is opened;
//! that is why the reading is written by hand. Knows no provider: each declares its keys as data. What only another part
//! of the program understands, that part is asked about while its place is at hand ([`Judges`]).

mod accounts;
mod environment;
mod mistakes;
mod nearest;
mod read;
mod secrets;
mod sections;
mod subscribers;
#[cfg(test)]
mod tests;
mod tree;
mod url;

pub use mistakes::{Mistake, Mistakes};
pub use read::duration;
pub use secrets::{secret, subscriber_secret};
pub use url::check_url;

use crate::domain::account::Account;
use crate::domain::delivery::Order;
use crate::domain::format::RecordFormat;
use crate::domain::route::Interest;
use crate::domain::secret::Secret;
use crate::domain::settings::{ProviderSchema, Settings};
use ipnet::IpNet;
use mistakes::{Noted, Notes, Origin};
use read::Section;
use secrets::Vault;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;
use tree::{Node, Table, Value};

/// The commented reference of every key and its default.
pub const DEFAULTS: &str = include_str!("../../config/default.toml");

/// Everything that is configured, checked.
#[derive(Clone, Debug)]
pub struct Config {
    /// How webhooks are received.
    pub server: Server,
    /// Where everything is kept.
    pub store: StoreConfig,
    /// The records that subscribers get.
    pub record_format: RecordFormat,
    /// How events are delivered.
    pub delivery: Delivery,
    /// How long things are kept.
    pub retention: Retention,
    /// What is logged.
    pub log: Log,
    /// The channels to receive from, in the order in which they are written; maybe none.
    pub accounts: Vec<AccountConfig>,
    /// The receivers of events, in the order in which they are written; maybe none.
    pub subscribers: Vec<SubscriberConfig>,
}

/// How webhooks are received.
#[derive(Clone, Debug)]
pub struct Server {
    /// Where to listen.
    pub listen: SocketAddr,
    /// The address under which providers reach the gateway, without a trailing slash.
    pub public_url: String,
    /// The largest webhook.
    pub max_body_bytes: usize,
    /// How long a client may take to send a request's head.
    pub header_timeout: Duration,
    /// How long a client may take to send a request's body.
    pub body_timeout: Duration,
    /// Connections open at once.
    pub max_connections: usize,
    /// Webhooks waiting for their commit, in bytes.
    pub queue_bytes: usize,
    /// How long a webhook may wait for its commit.
    pub commit_timeout: Duration,
    /// How long requests and deliveries under way may take to finish at shutdown.
    pub drain_timeout: Duration,
    /// From the first signal, when readiness fails, to the moment when no connection is accepted any more.
    pub drain_delay: Duration,
}

/// Where everything is kept.
#[derive(Clone)]
pub struct StoreConfig {
    /// `sqlite:` and a path, or `postgres://` and so on, with a password in it.
    pub url: String,
    /// Connections to a database server, at most.
    pub connections: usize,
}

impl std::fmt::Debug for StoreConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let engine = self.url.split(':').next().unwrap_or_default();
        f.debug_struct("StoreConfig").field("url", &format_args!("{engine}:***")).finish_non_exhaustive()
    }
}

/// How events are delivered.
#[derive(Clone, Debug)]
pub struct Delivery {
    /// The delay after the first failed attempt.
    pub first_retry: Duration,
    /// The longest delay between two attempts.
    pub max_retry: Duration,
    /// After this time a delivery becomes a dead letter.
    pub give_up_after: Duration,
    /// The deadline of one whole attempt.
    pub attempt_timeout: Duration,
    /// How long an attempt under way is protected from being tried again.
    pub lease: Duration,
    /// Lanes in flight for one subscriber.
    pub concurrency: usize,
    /// Private networks where subscribers may live.
    pub allow_networks: Vec<IpNet>,
}

/// How long things are kept.
#[derive(Clone, Debug)]
pub struct Retention {
    /// Providers' requests.
    pub raw: Duration,
    /// Delivered deliveries; dead letters stay.
    pub finished: Duration,
}

/// What is logged.
#[derive(Clone, Debug)]
pub struct Log {
    /// For whom.
    pub format: LogFormat,
    /// A level, or directives.
    pub filter: String,
}

/// For whom the log is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// For machines.
    Json,
}

impl LogFormat {
    /// Both formats.
    pub const ALL: [Self; 2] = [Self::Text, Self::Json];

    /// Its word in configuration.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Json => "json",
        }
    }
}

/// A channel to receive from.
#[derive(Clone, Debug)]
pub struct AccountConfig {
    /// What every account has.
    pub account: Account,
    /// The provider that carries it, by the name in its schema.
    pub provider: &'static str,
    /// What its provider wanted to be told.
    pub settings: Settings,
    /// Where its webhooks arrive, as seen from outside: the public URL and the webhook path.
    pub webhook_url: String,
}

impl AccountConfig {
    /// The URL under which the provider has the account registered: the one that was configured, else the default.
    pub fn registered_url(&self) -> &str {
        self.settings.text("webhook_url").unwrap_or(&self.webhook_url)
    }
}

/// What is needed to find a gateway and its store, however wrong the rest may be.
#[derive(Clone, Debug)]
pub struct Basics {
    /// How webhooks are received.
    pub server: Server,
    /// Where everything is kept.
    pub store: StoreConfig,
}

/// A receiver of events.
#[derive(Clone, Debug)]
pub struct SubscriberConfig {
    /// Who wants what.
    pub interest: Interest,
    /// Where its events go.
    pub url: String,
    /// What signs them; at least one, newest first.
    pub secrets: Vec<Secret>,
    /// How it wants the events of one conversation.
    pub order: Order,
    /// How long the oldest event of a conversation may hold up the others; exactly when `order` is bounded.
    pub order_timeout: Option<Duration>,
}

/// What a configuration is read from.
#[derive(Clone, Debug)]
pub struct Sources<'a> {
    /// The user's file; without one, defaults and environment are all.
    pub file: Option<&'a Path>,
    /// All environment variables, for overrides and for `env:` secrets.
    pub env: Vec<(String, String)>,
}

/// What other parts of the program say of values that only they understand: what is wrong, if anything, and never the
/// value, which may hold a secret.
#[derive(Clone, Copy)]
pub struct Judges {
    /// Of `store.url`.
    pub store_url: fn(&str) -> Result<(), String>,
    /// Of `log.filter`, which may be quoted.
    pub log_filter: fn(&str) -> Result<(), String>,
    /// Of what an account's provider is told: everything that is wrong, each as the key, a colon and what would be right.
    pub account: fn(&AccountConfig) -> Vec<String>,
}

impl Judges {
    /// They have nothing to say.
    pub const SILENT: Self = Self { store_url: |_| Ok(()), log_filter: |_| Ok(()), account: |_| Vec::new() };
}

/// Reads the configuration, or says everything that is wrong with it. `schemas` are the providers there are.
pub fn load(sources: &Sources<'_>, schemas: &[ProviderSchema], judges: &Judges) -> Result<Config, Mistakes> {
    let file = sources.file.map_or_else(|| "birdwire.toml".to_owned(), |path| path.display().to_string());
    let mut notes = Notes::new(file);
    let config =
        merge(sources, &mut notes).and_then(|merged| read_config(merged, sources, schemas, judges, &mut notes));
    match config {
        Ok(config) if notes.is_empty() => Ok(config),
        _ => Err(notes.into_mistakes()),
    }
}

/// Reads only what is needed to look at a store or to ask a gateway how it is. Accounts, subscribers and their secrets
/// are passed over: whoever looks may well not have them.
pub fn load_basics(sources: &Sources<'_>, judges: &Judges) -> Result<Basics, Mistakes> {
    let file = sources.file.map_or_else(|| "birdwire.toml".to_owned(), |path| path.display().to_string());
    let mut notes = Notes::new(file);
    let basics = merge(sources, &mut notes).and_then(|Merged { root, paths }| {
        let mut root = Section::root(root);
        let server = sections::server(&mut root, &paths, &mut notes);
        let store = sections::store(&mut root, &paths, judges, &mut notes);
        Ok(Basics { server: server?, store: store? })
    });
    match basics {
        Ok(basics) if notes.is_empty() => Ok(basics),
        _ => Err(notes.into_mistakes()),
    }
}

/// The keys that hold one table for each of something.
const LISTS: [&str; 2] = ["accounts", "subscribers"];

/// What was written, from all sources, and the path of every setting there is.
struct Merged {
    root: Table,
    paths: Vec<String>,
}

fn merge(sources: &Sources<'_>, notes: &mut Notes) -> Result<Merged, Noted> {
    let mut root = tree::parse(DEFAULTS, |_| Origin::Default)
        .map_err(|error| notes.add_syntax(error.line, error.column, &error.what))?;
    let paths = paths(&root);
    for key in LISTS {
        root.insert(key.to_owned(), Node { origin: Origin::Default, value: Value::List(Vec::new()) });
    }
    if let Some(path) = sources.file {
        let bytes = std::fs::read(path).map_err(|cause| notes.add_file(format_args!("cannot be read: {cause}")))?;
        let text = String::from_utf8(bytes).map_err(|_| notes.add_file("is not UTF-8 text"))?;
        let over = tree::parse(&text, Origin::Line)
            .map_err(|error| notes.add_syntax(error.line, error.column, &error.what))?;
        tree::overlay(&mut root, over);
    }
    environment::overlay(&mut root, &sources.env, &paths, notes);
    Ok(Merged { root, paths })
}

fn paths(root: &Table) -> Vec<String> {
    let keys = |(section, node): (&String, &Node)| match &node.value {
        Value::Table(table) => table.keys().map(|key| format!("{section}.{key}")).collect(),
        _ => vec![section.clone()],
    };
    root.iter().flat_map(keys).collect()
}

fn read_config(
    Merged { root, paths }: Merged,
    sources: &Sources<'_>,
    schemas: &[ProviderSchema],
    judges: &Judges,
    notes: &mut Notes,
) -> Result<Config, Noted> {
    let folder = sources.file.and_then(Path::parent).unwrap_or(Path::new("")).to_owned();
    let vault = Vault { variables: &sources.env, folder };
    let mut root = Section::root(root);
    let server = sections::server(&mut root, &paths, notes);
    let store = sections::store(&mut root, &paths, judges, notes);
    let record_format = sections::record_format(&mut root, &paths, notes);
    let delivery = sections::delivery(&mut root, &paths, notes);
    let retention = sections::retention(&mut root, &paths, notes);
    let log = sections::log(&mut root, &paths, judges, notes);
    let public_url = server.as_ref().map(|server| server.public_url.as_str()).unwrap_or_default();
    let around = accounts::Around { public_url, schemas, judges, vault: &vault, paths: &paths };
    let (accounts, account_ids) = accounts::read(&mut root, &around, notes);
    let around = subscribers::Around { delivery: delivery.as_ref().ok(), account_ids, vault: &vault, paths: &paths };
    let subscribers = subscribers::read(&mut root, &around, notes);
    root.finish(&paths, notes);
    Ok(Config {
        server: server?,
        store: store?,
        record_format: record_format?,
        delivery: delivery?,
        retention: retention?,
        log: log?,
        accounts,
        subscribers,
    })
}
