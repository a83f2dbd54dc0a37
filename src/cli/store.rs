//! `birdwire store copy`

use super::output::{Columns, Form, Listing, line, time};
use super::{ConfigArgs, Done, Failure};
use crate::app;
use crate::domain::time::{Clock, Timestamp};
use crate::store::StoreError;
use crate::store::copy::{self, Compared, Outcome, Step};
use anyhow::anyhow;
use clap::{Args, Subcommand};
use serde::Serialize;
use serde_json::json;
use std::time::Duration;

/// How often it is said how far the copy is.
const TELL_EVERY: Duration = Duration::from_secs(5);

#[derive(Args)]
pub(super) struct Options {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Copy a store from SQLite into PostgreSQL and compare both; started again, it goes on where it was
    Copy(CopyOptions),
}

#[derive(Args)]
struct CopyOptions {
    #[command(flatten)]
    config: ConfigArgs,
    /// What to copy, sqlite:PATH [default: the configured store.url, if it is that]
    #[arg(long, value_name = "URL", conflicts_with = "abandon")]
    from: Option<String>,
    /// Where to, postgres://...; an empty database or schema [default: the configured store.url, if it is that]
    #[arg(long, value_name = "URL")]
    to: Option<String>,
    /// Remove an unfinished copy, so that the database is empty again
    #[arg(long)]
    abandon: bool,
    /// The outcome as JSON
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(options: Options) -> Done {
    let Command::Copy(options) = options.command;
    let clock = app::system_clock();
    if options.abandon {
        let to = options.to()?;
        return abandon(&to, &clock).await;
    }
    let (from, to) = (options.from()?, options.to()?);
    // The source first: whether it is served is what is most often wrong.
    let source = app::copy_source(&from, &clock)?;
    let target = match app::copy_target(&to, &clock).await {
        Ok(target) => target,
        Err(error) => {
            source.close().await;
            return Err(error.into());
        }
    };
    let began = clock();
    let mut teller = Teller { clock: clock.clone(), told: began, phase: None };
    let outcome = copy::run(&*source, &*target, began, &mut |step| teller.watch(step)).await;
    source.close().await;
    target.close().await;
    let outcome = outcome.map_err(|error| match error {
        StoreError::Unusable { .. } => Failure::from(error),
        error => Failure::Failed(anyhow!(error).context("the copy was cut short; the same command goes on with it")),
    })?;
    conclude(&outcome, clock().since(began), options.json)
}

impl CopyOptions {
    fn from(&self) -> Result<String, Failure> {
        let url = self.url(self.from.as_ref())?;
        if url.starts_with("sqlite:") {
            return Ok(url);
        }
        Err(Failure::Usage("--from: a store is copied from sqlite:PATH to postgres://..., no other way".to_owned()))
    }

    fn to(&self) -> Result<String, Failure> {
        let url = self.url(self.to.as_ref())?;
        if copy::is_offered("sqlite:", &url) {
            return Ok(url);
        }
        Err(Failure::Usage("--to: a store is copied from sqlite:PATH to postgres://..., no other way".to_owned()))
    }

    /// The one that is given, or else the configured one.
    fn url(&self, given: Option<&String>) -> Result<String, Failure> {
        given.map_or_else(|| Ok(self.config.load_basics()?.store.url), |url| Ok(url.clone()))
    }
}

async fn abandon(to: &str, clock: &Clock) -> Done {
    let target = app::copy_target(to, clock).await?;
    let removed = target.abandon().await;
    target.close().await;
    if removed? {
        line("the unfinished copy is removed, the database is empty").map_err(Failure::from)
    } else {
        Err(Failure::Failed(anyhow!("there is no unfinished copy in the database")))
    }
}

/// Says now and then how far it is.
struct Teller {
    clock: Clock,
    told: Timestamp,
    /// Whether rows are compared, since when, and how many were done then.
    phase: Option<(bool, Timestamp, u64)>,
}

impl Teller {
    fn watch(&mut self, step: Step) {
        let Step { compares, table, rows, of } = step;
        let now = (self.clock)();
        let (was, since, before) = *self.phase.get_or_insert((compares, now, rows));
        if was != compares {
            self.phase = Some((compares, now, rows));
        } else if now.since(self.told) >= TELL_EVERY {
            let millis = u64::try_from(now.since(since).as_millis()).unwrap_or(u64::MAX).max(1);
            let rate = rows.saturating_sub(before).saturating_mul(1000) / millis;
            let what = if compares { "compared" } else { "copied" };
            anstream::eprintln!("birdwire: {what} {rows} of {of} rows, {rate} a second, at {table}");
            self.told = now;
        }
    }
}

fn conclude(outcome: &Outcome, took: Duration, as_json: bool) -> Done {
    let tables = match outcome {
        Outcome::Finished(at) if as_json => {
            return Ok(line(&json!({"verified": true, "verified_at": time(*at), "before": true}).to_string())?);
        }
        Outcome::Finished(at) => {
            anstream::eprintln!(
                "birdwire: the database holds a finished copy of this store, verified at {}",
                time(*at)
            );
            return Ok(());
        }
        Outcome::Compared(tables) => tables,
    };
    let verified = tables.iter().all(Compared::is_equal);
    let lines: Vec<Line> = tables.iter().map(Line::from).collect();
    if as_json {
        let rows: u64 = tables.iter().map(|table| table.source.rows).sum();
        let seconds = took.as_secs();
        line(&json!({"verified": verified, "rows": rows, "seconds": seconds, "tables": lines}).to_string())?;
    } else {
        let mut listing = Listing::new::<Line>(Form::choose(false));
        for line in &lines {
            listing.print(line)?;
        }
        listing.finish()?;
    }
    if verified {
        anstream::eprintln!("birdwire: both stores are equal: let store.url name the copy and start `birdwire serve`");
        return Ok(());
    }
    for line in lines.iter().filter(|line| !line.equal) {
        let what = line.difference.as_deref().unwrap_or("the sums differ");
        anstream::eprintln!("birdwire: {}: {what}", line.table);
    }
    anstream::eprintln!(
        "birdwire: nobody can serve from this copy: `birdwire store copy --abandon` removes it, then copy again"
    );
    Err(Failure::NotGood)
}

#[derive(Serialize)]
struct Line {
    table: &'static str,
    equal: bool,
    rows: u64,
    sha256: String,
    target_rows: u64,
    target_sha256: String,
    difference: Option<String>,
}

impl From<&Compared> for Line {
    fn from(compared: &Compared) -> Self {
        Self {
            table: compared.table,
            equal: compared.is_equal(),
            rows: compared.source.rows,
            sha256: compared.source.sha256.clone(),
            target_rows: compared.target.rows,
            target_sha256: compared.target.sha256.clone(),
            difference: compared.difference.as_ref().map(ToString::to_string),
        }
    }
}

impl Columns for Line {
    const HEAD: &'static [&'static str] = &["TABLE", "STATE", "ROWS", "SHA-256"];

    fn cells(&self) -> Vec<String> {
        let state = if self.equal { "equal" } else { "DIFFERS" };
        vec![self.table.to_owned(), state.to_owned(), self.rows.to_string(), self.sha256.clone()]
    }
}
