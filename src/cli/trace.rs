//! `birdwire trace`

use super::output::{line, time};
use super::{ConfigArgs, Done, Failure};
use crate::adapter::PROVIDERS;
use crate::app;
use crate::domain::delivery::State;
use crate::domain::event::End;
use crate::store::Access;
use crate::store::listing::{AttemptRow, DeliveryDetail, EventRow};
use crate::store::trace::{Trace, TraceQuery, TracedEvent};
use clap::Args;
use serde::Serialize;
use uuid::Uuid;

#[derive(Args)]
pub(super) struct Options {
    #[command(flatten)]
    config: ConfigArgs,
    /// A message's id, ours or the provider's, a provider's event id, or a webhook-id
    id: String,
    /// As JSON lines
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(options: Options) -> Done {
    let store = app::open_store(&options.config.load_basics()?.store, Access::Read, &app::system_clock()).await?;
    let id = options.id.trim();
    let mut query = TraceQuery { ids: Vec::new(), keys: vec![id.to_owned()] };
    query.ids.extend(Uuid::try_parse(id).ok());
    // Under every account and provider: a provider's id names another message in each.
    for account in store.accounts().await? {
        query.ids.extend(PROVIDERS.iter().map(|provider| (provider.message_id)(account, id).0));
    }
    query.ids.sort_unstable();
    query.ids.dedup();
    if id.bytes().any(|b| b.is_ascii_uppercase()) {
        query.keys.push(id.to_ascii_lowercase());
    }
    let found = store.trace(query).await?;
    if found.is_empty() {
        return Err(Failure::Failed(anyhow::anyhow!("nothing is known of {id}")));
    }
    for trace in &found {
        let steps = steps(trace);
        if options.json {
            line(&serde_json::to_string(&Traced {
                message: trace.message.as_ref().map(|m| m.id.to_string()),
                steps,
            })?)?;
        } else {
            line(&head(trace))?;
            for step in &steps {
                line(&step.plain())?;
            }
        }
    }
    Ok(())
}

#[derive(Serialize)]
struct Traced {
    message: Option<String>,
    steps: Vec<Step>,
}

/// One step of the way.
#[derive(Serialize, Default)]
struct Step {
    at: Option<String>,
    what: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    event: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    webhook_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    subscriber: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    delivery: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    attempt: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    duration_ms: Option<i64>,
    detail: String,
}

impl Step {
    fn plain(&self) -> String {
        let mut words: Vec<String> = vec![format!("  {:<27} {:<10}", self.at.as_deref().unwrap_or("-"), self.what)];
        words.extend(self.subscriber.clone());
        words.extend(self.event.clone());
        words.extend(self.attempt.map(|n| format!("attempt {n}")));
        words.extend(self.status.map(|status| status.to_string()));
        words.extend(Some(self.detail.clone()).filter(|detail| !detail.is_empty()));
        words.extend(self.duration_ms.map(|ms| format!("{ms} ms")));
        words.extend(self.webhook_id.as_ref().map(|id| format!("webhook-id {id}")));
        words.extend(self.delivery.map(|id| format!("delivery {id}")));
        words.join(" ")
    }
}

fn head(trace: &Trace) -> String {
    match &trace.message {
        Some(m) => format!(
            "message {} ({}, {}) of conversation {} of account {}{}",
            m.id,
            m.direction.as_str(),
            m.status,
            m.conversation,
            m.account,
            m.tm_delete.map_or_else(String::new, |at| format!(", taken back at {}", time(at)))
        ),
        // What was asked for is an event downstream of its own, such as a new conversation; a message came with it.
        None => match trace.received.iter().find_map(|row| row.message) {
            Some(message) => format!("an event about no message, which came with message {message}"),
            None => "an event that became no message".to_owned(),
        },
    }
}

fn steps(trace: &Trace) -> Vec<Step> {
    let mut steps: Vec<Step> = trace.received.iter().flat_map(received).collect();
    for event in &trace.owed {
        steps.push(Step {
            at: Some(time(event.created_at)),
            what: "owed",
            event: Some(event.event_type.clone()),
            webhook_id: Some(event.id.to_string()),
            detail: match (event.erased, event.deliveries.len()) {
                (true, n) => format!("to {n} subscribers, erased since"),
                (false, n) => format!("to {n} subscribers"),
            },
            ..Step::default()
        });
        for delivery in &event.deliveries {
            steps.extend(delivered(event, delivery));
        }
    }
    steps
}

/// What happened to one received event: a repeat is only received, everything else is verified before it is kept.
fn received(row: &EventRow) -> Vec<Step> {
    let at = Some(time(row.received_at));
    let step = |what, detail: String| Step { at: at.clone(), what, detail, ..Step::default() };
    let key = row.provider_key.as_ref().map_or_else(String::new, |key| format!(" {key}"));
    let mut steps = vec![
        step("received", format!("{}{key} in request {}", row.kind, row.request_id)),
        step("verified", "the signature is genuine".to_owned()),
    ];
    steps.extend(match &row.end {
        End::Stored => {
            let became = row.message.map_or_else(|| "a channel event".to_owned(), |id| format!("message {id}"));
            vec![step("mapped", became), step("stored", format!("event {}", row.id))]
        }
        End::Duplicate { conflict: false } => vec![step("duplicate", "seen before".to_owned())],
        End::Duplicate { conflict: true } => {
            vec![step("duplicate", "seen before, with another time; the first stands".to_owned())]
        }
        End::Quarantined(quarantine) => vec![step("quarantined", quarantine.to_string())],
        End::Ignored => vec![step("ignored", "a webhook without events".to_owned())],
    });
    steps
}

fn delivered(event: &TracedEvent, delivery: &DeliveryDetail) -> Vec<Step> {
    let row = &delivery.row;
    let base = || Step {
        subscriber: Some(row.subscriber.0.clone()),
        event: Some(event.event_type.clone()),
        delivery: Some(row.id),
        ..Step::default()
    };
    let mut steps: Vec<Step> = delivery
        .attempts
        .iter()
        .map(|AttemptRow { number, at, duration_ms, status, reason }| Step {
            at: Some(time(*at)),
            what: "attempt",
            attempt: Some(*number),
            status: *status,
            duration_ms: *duration_ms,
            detail: reason.clone(),
            ..base()
        })
        .collect();
    let (at, detail) = match row.state {
        State::Pending => (Some(row.due_at), "waits for this time and its turn".to_owned()),
        State::Leased => (None, "is being attempted".to_owned()),
        State::Delivered => (row.last.as_ref().map(|last| last.at), format!("sequence {}", row.sequence)),
        State::Dead => (row.last.as_ref().map(|last| last.at), "given up; replayable".to_owned()),
        State::Cancelled => (None, "the message was taken back before".to_owned()),
    };
    steps.push(Step { at: at.map(time), what: row.state.as_str(), detail, ..base() });
    steps
}
