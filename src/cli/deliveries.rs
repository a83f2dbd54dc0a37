//! `birdwire deliveries list|show|replay`

use super::output::{Columns, Form, PAGE, line, time};
use super::{ConfigArgs, Done, Failure, output};
use crate::app;
use crate::domain::delivery::State;
use crate::domain::route::SubscriberId;
use crate::store::Access;
use crate::store::listing::{AttemptRow, DeliveryDetail, DeliveryQuery, DeliveryRow, ReplayOf};
use clap::{Args, Subcommand};
use serde::Serialize;
use serde_json::value::RawValue;

#[derive(Args)]
pub(super) struct Options {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// List deliveries, oldest first
    List(ListOptions),
    /// Show one delivery: its way, its attempts, its body
    Show(ShowOptions),
    /// Owe deliveries again: out of order, under the same webhook-id and sequence, marked X-Birdwire-Replay
    Replay(ReplayOptions),
}

#[derive(Args)]
struct ListOptions {
    #[command(flatten)]
    config: ConfigArgs,
    /// Only deliveries in this state
    #[arg(long, value_parser = State::ALL.map(State::as_str))]
    state: Option<String>,
    /// Only deliveries to this subscriber
    #[arg(long)]
    subscriber: Option<String>,
    /// Only the newest N
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    /// As JSON lines
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
struct ShowOptions {
    #[command(flatten)]
    config: ConfigArgs,
    /// The delivery's id
    id: i64,
    /// As JSON
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
struct ReplayOptions {
    #[command(flatten)]
    config: ConfigArgs,
    /// Deliveries by id
    #[arg(required_unless_present = "dead", conflicts_with = "dead")]
    ids: Vec<i64>,
    /// Every dead letter
    #[arg(long)]
    dead: bool,
    /// Only dead letters given up since then (RFC 3339)
    #[arg(long, requires = "dead", value_name = "TIME")]
    since: Option<String>,
    /// As JSON
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(options: Options) -> Done {
    match options.command {
        Command::List(options) => list(options).await,
        Command::Show(options) => show(options).await,
        Command::Replay(options) => replay(options).await,
    }
}

async fn list(options: ListOptions) -> Done {
    let store = app::open_store(&options.config.load_basics()?.store, Access::Read, &app::system_clock()).await?;
    if let Some(id) = &options.subscriber
        && !store.subscribers().await?.iter().any(|subscriber| subscriber.id.0 == *id)
    {
        return Err(super::subscribers::unknown(id));
    }
    let query = DeliveryQuery {
        state: options.state.as_deref().and_then(State::parse),
        subscriber: options.subscriber.map(SubscriberId),
        after: 0,
        newest: options.limit.is_some(),
        limit: options.limit.unwrap_or(PAGE),
    };
    let fetch = async |after| store.deliveries(DeliveryQuery { after, ..query.clone() }).await;
    let form = Form::choose(options.json);
    output::list(form, options.limit, fetch, |row| row.id, |row| Row::from(row)).await.map_err(Failure::from)
}

async fn show(options: ShowOptions) -> Done {
    let store = app::open_store(&options.config.load_basics()?.store, Access::Read, &app::system_clock()).await?;
    let Some(detail) = store.delivery(options.id).await? else {
        return Err(Failure::Failed(anyhow::anyhow!("there is no delivery {}", options.id)));
    };
    if options.json {
        line(&serde_json::to_string(&Detail::from(&detail))?)?;
        return Ok(());
    }
    let row = Row::from(&detail.row);
    for (name, value) in Row::HEAD.iter().zip(row.cells()) {
        line(&format!("{:<13} {value}", name.to_lowercase()))?;
    }
    for attempt in &detail.attempts {
        let status = attempt.status.map_or_else(|| "-".to_owned(), |s| s.to_string());
        let took = attempt.duration_ms.map_or_else(|| "-".to_owned(), |ms| format!("{ms} ms"));
        line(&format!(
            "{:<13} {} {status} {took} {}",
            format!("attempt {}", attempt.number),
            time(attempt.at),
            attempt.reason
        ))?;
    }
    line(&format!("{:<13} {}", "body", String::from_utf8_lossy(&detail.body)))?;
    Ok(())
}

async fn replay(options: ReplayOptions) -> Done {
    let since = super::replay::moment("--since", options.since.as_deref())?;
    let clock = app::system_clock();
    let store = app::open_store(&options.config.load_basics()?.store, Access::Write, &clock).await?;
    let of = if options.dead { ReplayOf::Dead { since } } else { ReplayOf::Deliveries(options.ids) };
    let done = store.replay(of, clock()).await;
    store.close().await;
    let done = done?;
    if options.json {
        line(&serde_json::to_string(&ReplayedRow {
            replayed: &done.replayed,
            still_owed: &done.still_owed,
            erased: &done.erased,
            unknown: &done.unknown,
        })?)?;
    } else {
        line(&format!("{} owed again", done.replayed.len()))?;
        for id in &done.still_owed {
            line(&format!("{id} was owed anyway, and is due now"))?;
        }
    }
    for id in &done.erased {
        anstream::eprintln!("birdwire: {id} cannot be sent again: its message was taken back");
    }
    for id in &done.unknown {
        anstream::eprintln!("birdwire: there is no delivery {id}");
    }
    if done.unknown.is_empty() && done.erased.is_empty() { Ok(()) } else { Err(Failure::NotGood) }
}

#[derive(Serialize)]
struct ReplayedRow<'a> {
    replayed: &'a [i64],
    still_owed: &'a [i64],
    erased: &'a [i64],
    unknown: &'a [i64],
}

#[derive(Serialize)]
struct Row {
    id: i64,
    subscriber: String,
    state: &'static str,
    event: String,
    webhook_id: String,
    /// None of an event that is no conversation's.
    conversation: Option<String>,
    sequence: i64,
    attempts: u32,
    replay: bool,
    created_at: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    due_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last: Option<Attempt>,
}

#[derive(Serialize)]
struct Attempt {
    number: u32,
    at: String,
    duration_ms: Option<i64>,
    status: Option<u16>,
    reason: String,
}

#[derive(Serialize)]
struct Detail<'a> {
    #[serde(flatten)]
    row: Row,
    attempts_made: Vec<Attempt>,
    body: &'a RawValue,
}

impl From<&AttemptRow> for Attempt {
    fn from(row: &AttemptRow) -> Self {
        Self {
            number: row.number,
            at: time(row.at),
            duration_ms: row.duration_ms,
            status: row.status,
            reason: row.reason.clone(),
        }
    }
}

impl From<&DeliveryRow> for Row {
    fn from(row: &DeliveryRow) -> Self {
        let is_owed = matches!(row.state, State::Pending | State::Leased);
        Self {
            id: row.id,
            subscriber: row.subscriber.0.clone(),
            state: row.state.as_str(),
            event: row.event_type.clone(),
            webhook_id: row.event_id.to_string(),
            conversation: (!row.conversation.0.is_nil()).then(|| row.conversation.to_string()),
            sequence: row.sequence,
            attempts: row.attempts,
            replay: row.replay,
            created_at: time(row.created_at),
            due_at: is_owed.then(|| time(row.due_at)),
            last: row.last.as_ref().map(Attempt::from),
        }
    }
}

impl<'a> From<&'a DeliveryDetail> for Detail<'a> {
    fn from(detail: &'a DeliveryDetail) -> Self {
        Self {
            row: Row::from(&detail.row),
            attempts_made: detail.attempts.iter().map(Attempt::from).collect(),
            // Bodies are rendered by us; one that is no JSON would be shown as null rather than not at all.
            body: serde_json::from_slice(&detail.body).unwrap_or(RawValue::NULL),
        }
    }
}

impl Columns for Row {
    const HEAD: &'static [&'static str] = &[
        "ID",
        "SUBSCRIBER",
        "STATE",
        "EVENT",
        "WEBHOOK-ID",
        "CONVERSATION",
        "SEQUENCE",
        "ATTEMPTS",
        "CREATED",
        "DUE",
        "LAST",
    ];

    fn cells(&self) -> Vec<String> {
        let last = self.last.as_ref().map(|last| match last.status {
            Some(status) => format!("{status} {}", last.reason),
            None => last.reason.clone(),
        });
        vec![
            self.id.to_string(),
            self.subscriber.clone(),
            self.state.to_owned(),
            self.event.clone(),
            self.webhook_id.clone(),
            self.conversation.clone().unwrap_or_default(),
            if self.replay { format!("{} replay", self.sequence) } else { self.sequence.to_string() },
            self.attempts.to_string(),
            self.created_at.clone(),
            self.due_at.clone().unwrap_or_default(),
            last.unwrap_or_default(),
        ]
    }
}
