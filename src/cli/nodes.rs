//! `birdwire nodes`

use super::output::{Columns, Form, Listing, time};
use super::{ConfigArgs, Done, Failure};
use crate::app;
use crate::store::Access;
use crate::store::listing::NodeRow;
use clap::Args;
use serde::Serialize;

#[derive(Args)]
pub(super) struct Options {
    #[command(flatten)]
    config: ConfigArgs,
    /// As JSON lines
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(options: Options) -> Done {
    let config = options.config.load_basics()?.store;
    if config.url.starts_with("sqlite:") {
        anstream::eprintln!(
            "birdwire: a store in a file is served by one process; `birdwire health` asks whether it is ready"
        );
        return Ok(());
    }
    let store = app::open_store(&config, Access::Read, &app::system_clock()).await?;
    let mut listing = Listing::new::<Row>(Form::choose(options.json));
    for node in store.nodes().await? {
        listing.print(&Row::from(&node))?;
    }
    listing.finish().map_err(Failure::from)
}

#[derive(Serialize)]
struct Row {
    id: String,
    name: String,
    state: &'static str,
    version: String,
    started_at: String,
    seen_at: String,
    duties: Vec<String>,
}

impl From<&NodeRow> for Row {
    fn from(node: &NodeRow) -> Self {
        Self {
            id: node.id.to_string(),
            name: node.name.clone(),
            state: node.state.as_str(),
            version: node.version.clone(),
            started_at: time(node.started_at),
            seen_at: time(node.seen_at),
            duties: node.duties.clone(),
        }
    }
}

impl Columns for Row {
    const HEAD: &'static [&'static str] = &["NAME", "STATE", "VERSION", "STARTED", "SEEN", "DUTIES", "ID"];

    fn cells(&self) -> Vec<String> {
        vec![
            self.name.clone(),
            self.state.to_owned(),
            self.version.clone(),
            self.started_at.clone(),
            self.seen_at.clone(),
            self.duties.join(", "),
            self.id.clone(),
        ]
    }
}
