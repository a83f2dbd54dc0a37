//! What a load balancer, an operator and Prometheus ask.

use super::Gateway;
use crate::domain::time::Timestamp;
use crate::store::listing::Backlog;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// A store that does not commit within that time is not ready.
const PROBE_TIMEOUT: Duration = Duration::from_secs(2);

/// How long a webhook that could not be kept counts against readiness; short, because a gateway that is well again
/// should be seen to be.
const TROUBLE: Duration = Duration::from_secs(3);

/// The latest webhook that could not be kept, and why: a nearly full disk may still take a probe's small commit.
#[derive(Default)]
pub struct Trouble(Mutex<Option<(Timestamp, String)>>);

impl Trouble {
    /// A webhook could not be kept at `now`. Says whether that is news: one line in the log is enough for a full disk.
    pub(super) fn note(&self, now: Timestamp, why: &str) -> bool {
        let mut latest = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_news = latest.as_ref().is_none_or(|(at, before)| now.since(*at) >= TROUBLE || before != why);
        *latest = Some((now, why.to_owned()));
        is_news
    }

    fn recent(&self, now: Timestamp) -> Option<String> {
        let latest = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        latest.as_ref().filter(|(at, _)| now.since(*at) < TROUBLE).map(|(_, why)| why.clone())
    }
}

pub(super) async fn live() -> &'static str {
    "alive\n"
}

/// 200 `ready`, or 503 with a line for everything that is wrong.
pub(super) async fn ready(State(gateway): State<Arc<Gateway>>) -> Response {
    let mut problems = Vec::new();
    if gateway.draining.is_cancelled() {
        problems.push("draining: the process is about to end".to_owned());
    }
    // A commit is the proof: a store that was broken a minute ago may be well again, and nothing else would show it
    // while a load balancer keeps all webhooks away.
    match tokio::time::timeout(PROBE_TIMEOUT, gateway.store.probe((gateway.clock)())).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => problems.push(format!("store: {error}")),
        Err(_) => problems.push(format!("store: no commit within {} s", PROBE_TIMEOUT.as_secs())),
    }
    if let Some(why) = gateway.trouble.recent((gateway.clock)()) {
        problems.push(format!("webhooks: one could not be kept less than {} s ago: {why}", TROUBLE.as_secs()));
    }
    if problems.is_empty() {
        return "ready\n".into_response();
    }
    let mut text = problems.join("\n");
    text.push('\n');
    (StatusCode::SERVICE_UNAVAILABLE, text).into_response()
}

pub(super) async fn metrics(State(gateway): State<Arc<Gateway>>) -> Response {
    match gateway.store.backlog().await {
        Ok(backlog) => backlog.iter().for_each(|b| gauge(&gateway, b)),
        Err(error) => {
            tracing::warn!(error = &error as &dyn std::error::Error, "the backlog cannot be measured");
        }
    }
    match gateway.metrics.text() {
        Ok(text) => ([(header::CONTENT_TYPE, prometheus::TEXT_FORMAT)], text).into_response(),
        Err(error) => {
            tracing::error!(error = &error as &dyn std::error::Error, "metrics cannot be written");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

fn gauge(gateway: &Gateway, backlog: &Backlog) {
    let metrics = &gateway.metrics;
    let name = [backlog.subscriber.id.0.as_str()];
    let whole = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
    let age = backlog.oldest.map_or(Duration::ZERO, |oldest| (gateway.clock)().since(oldest));
    metrics.owed.with_label_values(&name).set(whole(backlog.owed));
    metrics.dead.with_label_values(&name).set(whole(backlog.dead));
    if backlog.subscriber.configured {
        metrics.oldest_owed.with_label_values(&name).set(whole(age.as_secs()));
        metrics.disabled.with_label_values(&name).set(i64::from(backlog.subscriber.disabled.is_some()));
    } else {
        // Nothing is sent to it on purpose, and nobody wants to be woken for that. There may be no series to remove.
        metrics.oldest_owed.remove_label_values(&name).ok();
        metrics.disabled.remove_label_values(&name).ok();
    }
}
