//! `birdwire replay`

use super::output::line;
use super::{ConfigArgs, Done, Failure};
use crate::app;
use crate::domain::ids::AccountId;
use crate::domain::time::Timestamp;
use crate::ingest::replay::{Finding, Order, Summary};
use crate::store::Access;
use clap::Args;
use serde_json::json;
use uuid::Uuid;

#[derive(Args)]
pub(super) struct Options {
    #[command(flatten)]
    config: ConfigArgs,
    /// Only webhooks of this account
    #[arg(long, value_name = "UUID")]
    account: Option<Uuid>,
    /// Only webhooks received at or after this time (RFC 3339)
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Only webhooks received before this time (RFC 3339)
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
    /// Only what is in quarantine
    #[arg(long)]
    quarantined: bool,
    /// Only print what would change
    #[arg(long)]
    dry_run: bool,
    /// As JSON lines
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(options: Options) -> Done {
    let config = options.config.load_written()?;
    let order = Order {
        account: options.account.map(AccountId),
        since: moment("--since", options.since.as_deref())?,
        until: moment("--until", options.until.as_deref())?,
        quarantined: options.quarantined,
        dry_run: options.dry_run,
    };
    let clock = app::system_clock();
    let access = if options.dry_run { Access::Read } else { Access::Write };
    let store = app::open_store(&config.store, access, &clock).await?;
    if let Some(account) = order.account
        && !config.accounts.iter().any(|known| known.account.id == account)
        // One that is no longer configured may have left webhooks behind.
        && !store.accounts().await?.contains(&account)
    {
        return Err(Failure::Failed(anyhow::anyhow!("there is no account {account}")));
    }
    let interests = config.subscribers.iter().map(|s| s.interest.clone()).collect();
    let ingest = app::ingest(store.clone(), config.record_format, interests, app::accounts(&config)?);
    let mut printed = Ok(());
    let summary = ingest
        .replay(&order, clock(), &mut |finding| {
            if printed.is_ok() {
                printed = print(&finding, options.json);
            }
        })
        .await;
    store.close().await;
    let summary = summary?;
    printed?;
    conclude(&summary, &options).map_err(Failure::from)
}

/// A time of the command line.
pub(super) fn moment(flag: &str, text: Option<&str>) -> Result<Option<Timestamp>, Failure> {
    let Some(text) = text else { return Ok(None) };
    Timestamp::parse(text)
        .map(Some)
        .ok_or_else(|| Failure::Usage(format!("{flag}: {text:?} is no RFC 3339 time such as 2026-01-02T03:04:05Z")))
}

fn print(finding: &Finding, as_json: bool) -> anyhow::Result<()> {
    match finding {
        Finding::Differs { message, before, after } if as_json => {
            line(&json!({"message": message.to_string(), "before": before, "after": after}).to_string())
        }
        Finding::Differs { message, before, after } => line(&format!("message {message}\n- {before}\n+ {after}")),
        Finding::Understood { event, kind, record } if as_json => {
            line(&json!({"event": event, "kind": kind, "record": record}).to_string())
        }
        Finding::Understood { event, kind, record } => {
            let record = record.as_ref().map_or_else(String::new, |record| format!("\n+ {record}"));
            line(&format!("event {event} {kind}{record}"))
        }
        Finding::Skipped { event, why } if as_json => line(&json!({"event": event, "skipped": why}).to_string()),
        Finding::Skipped { event, why } => line(&format!("event {event} skipped: {why}")),
    }
}

fn conclude(summary: &Summary, options: &Options) -> anyhow::Result<()> {
    let Summary { events, messages, repaired, understood, still_quarantined, skipped } = summary;
    if options.json {
        return line(
            &json!({
                "dry_run": options.dry_run, "events": events, "messages": messages, "repaired": repaired,
                "understood": understood, "still_quarantined": still_quarantined, "skipped": skipped,
            })
            .to_string(),
        );
    }
    let mood = if options.dry_run { "would be" } else { "were" };
    line(&format!(
        "{events} events of {messages} messages: {repaired} messages {mood} repaired, {understood} {mood} taken out of quarantine, \
         {still_quarantined} stay there, {skipped} skipped"
    ))
}
