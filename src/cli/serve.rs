//! `birdwire serve`

use super::{ConfigArgs, Done};
use crate::app;
use crate::config::duration;
use crate::domain::time::Clock;
use crate::lifecycle::{self, Shutdown};
use anyhow::{Context, anyhow};
use clap::Args;
use std::time::Duration;
use tokio::net::TcpListener;

#[derive(Args)]
pub(super) struct Options {
    #[command(flatten)]
    config: ConfigArgs,
    /// For tests: how wrong this node's clock is, such as "5m" or "-5m"
    #[arg(long, hide = true, allow_hyphen_values = true, value_name = "DURATION", value_parser = offset)]
    clock_offset: Option<Offset>,
    /// For tests: how often to look for old rows
    #[arg(long, hide = true, value_name = "DURATION", value_parser = positive)]
    janitor_every: Option<Duration>,
}

/// How far a clock is off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Offset {
    by: Duration,
    back: bool,
}

impl Offset {
    fn clock(self) -> Clock {
        app::shifted_clock(self.by, self.back)
    }
}

fn positive(text: &str) -> Result<Duration, String> {
    let every = duration(text).filter(|every| !every.is_zero());
    every.ok_or_else(|| r#"no duration; write a number and a unit, such as "1s""#.to_owned())
}

fn offset(text: &str) -> Result<Offset, String> {
    let (back, length) = match text.strip_prefix('-') {
        Some(length) => (true, length),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let by = duration(length).ok_or(r#"no duration; write a number and a unit, such as "5m" or "-5m""#)?;
    Ok(Offset { by, back })
}

pub(super) async fn run(options: Options) -> Done {
    let config = options.config.load_written()?;
    app::log(&config).map_err(|e| anyhow!(e)).context("log.filter")?;
    lifecycle::survive_file_size_limit()?;
    let shutdown = Shutdown::on_signals()?;
    let listener = TcpListener::bind(config.server.listen)
        .await
        .with_context(|| format!("server.listen: cannot listen on {}", config.server.listen))?;
    let clock = options.clock_offset.map_or_else(app::system_clock, Offset::clock);
    if let Some(Offset { by, back }) = options.clock_offset {
        tracing::warn!(by = ?by, back, "the clock is wrong on purpose: this is a test");
    }
    let every = options.janitor_every.unwrap_or(app::JANITOR_EVERY);
    Ok(app::serve_and_clean(&config, listener, clock, every, shutdown).await?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_offset_goes_both_ways() {
        let minutes = |back| Offset { by: Duration::from_mins(5), back };
        assert_eq!(offset("5m"), Ok(minutes(false)));
        assert_eq!(offset("+5m"), Ok(minutes(false)));
        assert_eq!(offset("-5m"), Ok(minutes(true)));
        for wrong in ["", "-", "5", "--5m", "-5 minutes"] {
            assert!(offset(wrong).is_err(), "{wrong:?} was taken");
        }
    }
}
