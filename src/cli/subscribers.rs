//! `birdwire subscribers list|show|enable`

use super::output::{Columns, Form, Listing, line, time};
use super::{ConfigArgs, Done, Failure};
use crate::app;
use crate::domain::route::SubscriberId;
use crate::domain::time::Timestamp;
use crate::store::listing::Backlog;
use crate::store::{Access, Store, StoreError};
use clap::{Args, Subcommand};
use serde::Serialize;

#[derive(Args)]
pub(super) struct Options {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// List subscribers with what they are owed
    List(ListOptions),
    /// Show one subscriber: whether it is configured, why it is disabled, what it is owed
    Show(ShowOptions),
    /// Resume a subscriber that was disabled; what it is owed is delivered
    Enable(EnableOptions),
}

#[derive(Args)]
struct ListOptions {
    #[command(flatten)]
    config: ConfigArgs,
    /// As JSON lines
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
struct ShowOptions {
    #[command(flatten)]
    config: ConfigArgs,
    /// The subscriber's id
    id: String,
    /// As JSON
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
struct EnableOptions {
    #[command(flatten)]
    config: ConfigArgs,
    /// The subscriber's id
    id: String,
}

pub(super) async fn run(options: Options) -> Done {
    match options.command {
        Command::List(options) => list(options).await,
        Command::Show(options) => show(options).await,
        Command::Enable(options) => enable(options).await,
    }
}

async fn list(options: ListOptions) -> Done {
    let store = app::open_store(&options.config.load_basics()?.store, Access::Read, &app::system_clock()).await?;
    let mut listing = Listing::new::<Row>(Form::choose(options.json));
    for backlog in store.backlog().await? {
        listing.print(&Row::from(&backlog))?;
    }
    listing.finish().map_err(Failure::from)
}

async fn show(options: ShowOptions) -> Done {
    let store = app::open_store(&options.config.load_basics()?.store, Access::Read, &app::system_clock()).await?;
    let found = store.backlog().await?.into_iter().find(|backlog| backlog.subscriber.id.0 == options.id);
    let row = Row::from(&found.ok_or_else(|| unknown(&options.id))?);
    if options.json {
        line(&serde_json::to_string(&row)?)?;
        return Ok(());
    }
    for (name, value) in row.lines() {
        line(&format!("{name:<13} {value}"))?;
    }
    Ok(())
}

async fn enable(options: EnableOptions) -> Done {
    let clock = app::system_clock();
    let store = app::open_store(&options.config.load_basics()?.store, Access::Write, &clock).await?;
    let id = SubscriberId(options.id);
    let done = resume(&*store, &id, clock()).await;
    store.close().await;
    match done? {
        None => Err(unknown(&id.0)),
        Some(true) => line(&format!("{} is enabled", id.0)).map_err(Failure::from),
        Some(false) => {
            line(&format!("{} is not disabled any more, but it is not configured: it gets nothing until it is", id.0))
                .map_err(Failure::from)
        }
    }
}

/// Whether it is configured, if there is such a subscriber.
async fn resume(store: &dyn Store, id: &SubscriberId, now: Timestamp) -> Result<Option<bool>, StoreError> {
    if !store.enable(id, now).await? {
        return Ok(None);
    }
    let subscribers = store.subscribers().await?;
    Ok(subscribers.into_iter().find(|subscriber| subscriber.id == *id).map(|subscriber| subscriber.configured))
}

pub(super) fn unknown(id: &str) -> Failure {
    Failure::Failed(anyhow::anyhow!("there is no subscriber {id}"))
}

#[derive(Serialize)]
struct Row {
    id: String,
    state: &'static str,
    configured: bool,
    owed: u64,
    oldest_owed: Option<String>,
    dead: u64,
    disabled_at: Option<String>,
    disabled_reason: Option<String>,
}

impl From<&Backlog> for Row {
    fn from(backlog: &Backlog) -> Self {
        let subscriber = &backlog.subscriber;
        Self {
            id: subscriber.id.0.clone(),
            state: match (&subscriber.disabled, subscriber.configured) {
                (Some(_), _) => "disabled",
                (None, true) => "enabled",
                (None, false) => "unconfigured",
            },
            configured: subscriber.configured,
            owed: backlog.owed,
            oldest_owed: backlog.oldest.map(time),
            dead: backlog.dead,
            disabled_at: subscriber.disabled.as_ref().map(|(at, _)| time(*at)),
            disabled_reason: subscriber.disabled.as_ref().map(|(_, why)| why.clone()),
        }
    }
}

impl Row {
    /// Everything that is known of it, by name.
    fn lines(&self) -> [(&'static str, String); 8] {
        [
            ("id", self.id.clone()),
            ("state", self.state.to_owned()),
            ("configured", if self.configured { "yes" } else { "no" }.to_owned()),
            ("owed", self.owed.to_string()),
            ("oldest owed", self.oldest_owed.clone().unwrap_or_default()),
            ("dead", self.dead.to_string()),
            ("disabled", self.disabled_at.clone().unwrap_or_default()),
            ("why", self.disabled_reason.clone().unwrap_or_default()),
        ]
    }
}

impl Columns for Row {
    const HEAD: &'static [&'static str] = &["ID", "STATE", "OWED", "OLDEST OWED", "DEAD", "WHY"];

    fn cells(&self) -> Vec<String> {
        vec![
            self.id.clone(),
            self.state.to_owned(),
            self.owed.to_string(),
            self.oldest_owed.clone().unwrap_or_default(),
            self.dead.to_string(),
            self.disabled_reason.clone().unwrap_or_default(),
        ]
    }
}
