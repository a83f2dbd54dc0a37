//! `birdwire subscribers list|enable`

use super::output::{Columns, Form, Listing, line, time};
use super::{ConfigArgs, Done, Failure};
use crate::app;
use crate::domain::route::SubscriberId;
use crate::store::Access;
use crate::store::listing::Backlog;
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
struct EnableOptions {
    #[command(flatten)]
    config: ConfigArgs,
    /// The subscriber's id
    id: String,
}

pub(super) async fn run(options: Options) -> Done {
    let clock = app::system_clock();
    match options.command {
        Command::List(options) => {
            let store = app::open_store(&options.config.load_basics()?.store, Access::Read, &clock).await?;
            let mut listing = Listing::new::<Row>(Form::choose(options.json));
            for backlog in store.backlog().await? {
                listing.print(&Row::from(&backlog))?;
            }
            listing.finish().map_err(Failure::from)
        }
        Command::Enable(options) => {
            let store = app::open_store(&options.config.load_basics()?.store, Access::Write, &clock).await?;
            let known = store.enable(&SubscriberId(options.id.clone()), clock()).await;
            store.close().await;
            if known? {
                line(&format!("{} is enabled", options.id)).map_err(Failure::from)
            } else {
                Err(Failure::Failed(anyhow::anyhow!("there is no subscriber {}", options.id)))
            }
        }
    }
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
