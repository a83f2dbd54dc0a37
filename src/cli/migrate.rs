//! `birdwire migrate`

use super::output::line;
use super::{ConfigArgs, Done, Failure};
use crate::app;
use clap::Args;

#[derive(Args)]
pub(super) struct Options {
    #[command(flatten)]
    config: ConfigArgs,
}

pub(super) async fn run(options: Options) -> Done {
    let config = options.config.load_basics()?.store;
    let migrated = app::migrate_store(&config, &app::system_clock()).await?;
    let what = match migrated.applied.as_slice() {
        [] => "nothing to do".to_owned(),
        applied => {
            let numbers: Vec<String> = applied.iter().map(ToString::to_string).collect();
            format!("applied {}", numbers.join(", "))
        }
    };
    line(&format!("the schema is version {}: {what}", migrated.version)).map_err(Failure::from)
}
