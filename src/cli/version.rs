//! `birdwire version`

use super::{Done, output};
use crate::store;
use clap::Args;

#[derive(Args)]
pub(super) struct Options {
    /// As JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(options: &Options) -> Done {
    let (birdwire, sqlite) = (env!("CARGO_PKG_VERSION"), store::embedded_version());
    if options.json {
        output::line(&format!(r#"{{"birdwire":"{birdwire}","sqlite":"{sqlite}"}}"#))?;
    } else {
        output::line(&format!("birdwire {birdwire} (SQLite {sqlite})"))?;
    }
    Ok(())
}
