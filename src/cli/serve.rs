//! `birdwire serve`

use super::{ConfigArgs, Done};
use crate::app;
use crate::lifecycle::{self, Shutdown};
use anyhow::{Context, anyhow};
use clap::Args;
use tokio::net::TcpListener;

#[derive(Args)]
pub(super) struct Options {
    #[command(flatten)]
    config: ConfigArgs,
}

pub(super) async fn run(options: Options) -> Done {
    let config = options.config.load_written()?;
    app::log(&config).map_err(|e| anyhow!(e)).context("log.filter")?;
    lifecycle::survive_file_size_limit()?;
    let shutdown = Shutdown::on_signals()?;
    let listener = TcpListener::bind(config.server.listen)
        .await
        .with_context(|| format!("server.listen: cannot listen on {}", config.server.listen))?;
    tracing::info!(
        listen = %listener.local_addr()?,
        accounts = config.accounts.len(),
        subscribers = config.subscribers.len(),
        version = env!("CARGO_PKG_VERSION"),
        "birdwire serves"
    );
    for account in &config.accounts {
        tracing::info!(account.id = %account.account.id, provider = account.provider, url = account.registered_url(), "webhooks are expected");
    }
    Ok(app::serve(&config, listener, app::system_clock(), shutdown).await?)
}
