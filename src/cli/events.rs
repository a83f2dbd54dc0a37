//! `birdwire events`

use super::output::{Columns, Form, PAGE, list, time};
use super::{ConfigArgs, Done, Failure};
use crate::app;
use crate::domain::event::End;
use crate::domain::ids::AccountId;
use crate::store::Access;
use crate::store::listing::{EventQuery, EventRow};
use clap::Args;
use serde::Serialize;
use uuid::Uuid;

#[derive(Args)]
pub(super) struct Options {
    #[command(flatten)]
    config: ConfigArgs,
    /// Only events that ended so
    #[arg(long, value_parser = End::STATES)]
    state: Option<String>,
    /// Only events of this account
    #[arg(long, value_name = "UUID")]
    account: Option<Uuid>,
    /// Only the newest N
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    /// As JSON lines
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(options: Options) -> Done {
    let store = app::open_store(&options.config.load_basics()?.store, Access::Read, &app::system_clock()).await?;
    let query = EventQuery {
        state: options.state,
        account: options.account.map(AccountId),
        after: 0,
        newest: options.limit.is_some(),
        limit: options.limit.unwrap_or(PAGE),
    };
    let fetch = async |after| store.events(EventQuery { after, ..query.clone() }).await;
    let form = Form::choose(options.json);
    list(form, options.limit, fetch, |row| row.id, |row| Row::from(row)).await.map_err(Failure::from)
}

#[derive(Serialize)]
struct Row {
    id: i64,
    received_at: String,
    account: String,
    kind: String,
    state: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    conflict: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    event_time: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    provider_key: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<String>,
    request_id: String,
}

impl From<&EventRow> for Row {
    fn from(row: &EventRow) -> Self {
        Self {
            id: row.id,
            received_at: time(row.received_at),
            account: row.account.to_string(),
            kind: row.kind.clone(),
            state: row.end.state(),
            reason: match &row.end {
                End::Quarantined(quarantine) => Some(quarantine.to_string()),
                End::Stored | End::Duplicate { .. } | End::Ignored => None,
            },
            conflict: row.end == End::Duplicate { conflict: true },
            event_time: row.event_time.map(time),
            provider_key: row.provider_key.clone(),
            message: row.message.map(|id| id.to_string()),
            request_id: row.request_id.clone(),
        }
    }
}

impl Columns for Row {
    const HEAD: &'static [&'static str] =
        &["ID", "RECEIVED", "ACCOUNT", "KIND", "STATE", "REASON", "MESSAGE", "REQUEST"];

    fn cells(&self) -> Vec<String> {
        let reason = match (&self.reason, self.conflict) {
            (Some(reason), _) => reason.clone(),
            (None, true) => "another time than the first".to_owned(),
            (None, false) => String::new(),
        };
        vec![
            self.id.to_string(),
            self.received_at.clone(),
            self.account.clone(),
            self.kind.clone(),
            self.state.to_owned(),
            reason,
            self.message.clone().unwrap_or_default(),
            self.request_id.clone(),
        ]
    }
}
