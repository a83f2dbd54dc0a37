//! `birdwire check`

use super::{ConfigArgs, Done, output};
use crate::app;
use crate::store::Access;
use clap::Args;

#[derive(Args)]
pub(super) struct Options {
    #[command(flatten)]
    config: ConfigArgs,
}

pub(super) async fn run(options: Options) -> Done {
    let config = options.config.load_written()?;
    let place = options.config.file().map_or_else(|| "environment".to_owned(), |file| file.display().to_string());
    if config.accounts.is_empty() {
        output::line(&format!("{place}: warning: accounts: there are none, so every webhook is answered 404"))?;
    }
    if config.subscribers.is_empty() {
        output::line(&format!("{place}: warning: subscribers: there are none, so events are only stored"))?;
    }
    for account in &config.accounts {
        let (name, url) = (&account.account.name, account.registered_url());
        output::line(&format!("{place}: account {name} expects webhooks at {url}"))?;
        if !url.starts_with("https://") {
            output::line(&format!("{place}: warning: account {name}: providers call https URLs only"))?;
        }
    }
    // A store that does not exist yet is made by `serve`; one that does must be usable.
    let clock = app::system_clock();
    let path = config.store.url.split_once(':').map(|(_, path)| std::path::PathBuf::from(path));
    if path.is_some_and(|path| path.exists()) {
        let store = app::open_store(&config.store, Access::Read, &clock).await?;
        for backlog in store.backlog().await? {
            let name = &backlog.subscriber.id;
            if !backlog.subscriber.configured && backlog.owed > 0 {
                output::line(&format!(
                    "{place}: warning: subscribers: {name} is no longer configured, but is owed {} events",
                    backlog.owed
                ))?;
            }
            if let Some((_, why)) = backlog.subscriber.disabled {
                output::line(&format!("{place}: warning: subscribers: {name} is disabled: {why}"))?;
            }
        }
    }
    output::line(&format!(
        "{place}: good: {} accounts, {} subscribers",
        config.accounts.len(),
        config.subscribers.len()
    ))?;
    Ok(())
}
