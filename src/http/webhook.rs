//! A provider's webhook: read within bounds, hand over, answer with a bare status.
//!
//! 200 only after the commit, and for repeats. Our own trouble is 503 with `Retry-After`, never a 4xx: a provider
//! may take a 4xx for final.

use super::Gateway;
use super::request_id::RequestId;
use crate::domain::event::End;
use crate::domain::ids::AccountId;
use crate::domain::webhook::RawWebhook;
use crate::ingest::{Refusal, Report};
use crate::metrics::Metrics;
use crate::store::StoreError;
use axum::Extension;
use axum::body::Body;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures_util::FutureExt;
use http_body_util::BodyExt;
use std::borrow::Cow;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// How much of a body that is too large is read and thrown away, so that its sender gets to read the answer.
const DISCARD: usize = 8 * 1024 * 1024;

/// Bytes of bodies that may be between arrival and commit; what does not fit is told to come back.
#[derive(Clone)]
pub struct Budget(Arc<Semaphore>);

impl Budget {
    /// A budget of `bytes`.
    pub fn new(bytes: usize) -> Self {
        Self(Arc::new(Semaphore::new(bytes.min(Semaphore::MAX_PERMITS))))
    }

    fn take(&self, bytes: usize) -> Option<OwnedSemaphorePermit> {
        self.0.clone().try_acquire_many_owned(u32::try_from(bytes).ok()?).ok()
    }
}

/// How a webhook request ended.
enum Outcome {
    Committed,
    UnknownAccount,
    Unverified,
    TooLarge,
    Slow,
    Broken,
    Overloaded,
    Unavailable,
}

impl Outcome {
    const fn word(&self) -> &'static str {
        match self {
            Self::Committed => "committed",
            Self::UnknownAccount => "unknown_account",
            Self::Unverified => "unverified",
            Self::TooLarge => "too_large",
            Self::Slow => "slow",
            Self::Broken => "broken",
            Self::Overloaded => "overloaded",
            Self::Unavailable => "unavailable",
        }
    }

    fn answer(&self) -> Response {
        match self {
            Self::Committed => StatusCode::OK.into_response(),
            Self::UnknownAccount => StatusCode::NOT_FOUND.into_response(),
            Self::Unverified => StatusCode::UNAUTHORIZED.into_response(),
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE.into_response(),
            Self::Slow => StatusCode::REQUEST_TIMEOUT.into_response(),
            Self::Broken => StatusCode::BAD_REQUEST.into_response(),
            Self::Overloaded | Self::Unavailable => {
                (StatusCode::SERVICE_UNAVAILABLE, [(header::RETRY_AFTER, "1")]).into_response()
            }
        }
    }
}

pub(super) async fn receive(
    State(gateway): State<Arc<Gateway>>,
    account: Result<Path<String>, PathRejection>,
    Extension(request_id): Extension<RequestId>,
    request: Request,
) -> Response {
    let timer = gateway.metrics.webhook_seconds.start_timer();
    // A path that is no text names no account, like any other that names none.
    let account = account.map(|Path(account)| account).unwrap_or_default();
    let outcome = handle(&gateway, &account, request_id, request).await;
    gateway.metrics.webhooks.with_label_values(&[outcome.word()]).inc();
    timer.observe_duration();
    outcome.answer()
}

async fn handle(gateway: &Arc<Gateway>, account: &str, request_id: RequestId, request: Request) -> Outcome {
    let account_id = uuid::Uuid::try_parse(account).ok().map(AccountId);
    let Some((account_id, desk)) = account_id.and_then(|id| Some((id, gateway.ingest.desk(id)?))) else {
        // Something was sent that will never be read: reading it first lets the sender read the answer.
        discard(request.into_body(), gateway).await;
        return Outcome::UnknownAccount;
    };
    let (head, body) = request.into_parts();
    let (body, hold) = match tokio::time::timeout(gateway.body_timeout, read(body, &head.headers, gateway)).await {
        Ok(Ok(read)) => read,
        Ok(Err(outcome)) => return outcome,
        Err(_) => return Outcome::Slow,
    };
    let headers = text_headers(&head.headers, desk.headers());
    let webhook = RawWebhook { headers, body, received_at: (gateway.clock)() };
    // A commit goes on when its sender hangs up or our patience ends, and must be counted.
    let (mine, id) = (gateway.clone(), request_id.0.clone());
    let accept = async move {
        let desk = mine.ingest.desk(account_id)?;
        let accepted = mine.ingest.accept(desk, webhook, id, Box::new(hold)).await;
        if let Ok(report) = &accepted {
            count(&mine.metrics, report);
        }
        Some(accepted)
    };
    let accepted = Unstoppable::new(AssertUnwindSafe(accept).catch_unwind());
    match tokio::time::timeout(gateway.commit_timeout, accepted).await {
        Ok(Ok(Some(Ok(_)))) => Outcome::Committed,
        Ok(Ok(Some(Err(Refusal::Unverified(error))))) => {
            gateway.metrics.unverified.with_label_values(&[error.as_str()]).inc();
            tracing::warn!(account.id = account, request.id = request_id.0, reason = %error, "a webhook was refused");
            Outcome::Unverified
        }
        Ok(Ok(Some(Err(Refusal::Store(error))))) => {
            if gateway.trouble.note((gateway.clock)(), &error.to_string()) {
                tracing::error!(
                    account.id = account,
                    request.id = request_id.0,
                    error = &error as &dyn std::error::Error,
                    "webhooks cannot be kept"
                );
            }
            if matches!(error, StoreError::Overloaded) { Outcome::Overloaded } else { Outcome::Unavailable }
        }
        // Its panic was printed where it happened.
        Ok(Ok(None) | Err(_)) => Outcome::Unavailable,
        Err(_) => {
            if gateway.trouble.note((gateway.clock)(), "a commit took too long") {
                tracing::error!(account.id = account, request.id = request_id.0, "commits take too long");
            }
            Outcome::Unavailable
        }
    }
}

/// A future that goes on in a task of its own when whoever waits for it goes away. A task for each webhook from the
/// beginning would cost every one of them two changes of thread.
struct Unstoppable<T: Send + 'static>(Option<Pin<Box<dyn Future<Output = T> + Send>>>);

impl<T: Send + 'static> Unstoppable<T> {
    fn new(work: impl Future<Output = T> + Send + 'static) -> Self {
        Self(Some(Box::pin(work)))
    }
}

impl<T: Send + 'static> Future for Unstoppable<T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        let Some(work) = &mut self.0 else { return Poll::Pending };
        let done = work.as_mut().poll(cx);
        if done.is_ready() {
            self.0 = None;
        }
        done
    }
}

impl<T: Send + 'static> Drop for Unstoppable<T> {
    fn drop(&mut self) {
        if let Some(work) = self.0.take() {
            tokio::spawn(work);
        }
    }
}

/// The whole body with its share of the budget.
async fn read(
    mut body: Body,
    headers: &HeaderMap,
    gateway: &Gateway,
) -> Result<(Vec<u8>, Vec<OwnedSemaphorePermit>), Outcome> {
    let announced = headers.get(header::CONTENT_LENGTH).and_then(|v| v.to_str().ok()?.parse::<usize>().ok());
    if announced.is_some_and(|bytes| bytes > gateway.max_body_bytes) {
        discard(body, gateway).await;
        return Err(Outcome::TooLarge);
    }
    let mut bytes = Vec::with_capacity(announced.unwrap_or(0).min(16 * 1024));
    let mut hold = Vec::with_capacity(1);
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| Outcome::Broken)?;
        let Some(data) = frame.data_ref() else { continue };
        if bytes.len() + data.len() > gateway.max_body_bytes {
            drop(bytes);
            discard(body, gateway).await;
            return Err(Outcome::TooLarge);
        }
        hold.push(gateway.budget.take(data.len()).ok_or(Outcome::Overloaded)?);
        bytes.extend_from_slice(data);
    }
    Ok((bytes, hold))
}

async fn discard(mut body: Body, gateway: &Gateway) {
    let all = async {
        let mut seen = 0;
        while let Some(Ok(frame)) = body.frame().await {
            seen += frame.data_ref().map_or(0, bytes::Bytes::len);
            if seen > DISCARD {
                break;
            }
        }
    };
    // Whether it ended in time or not, the answer is the same.
    tokio::time::timeout(gateway.body_timeout, all).await.ok();
}

/// Those of the wanted headers, their names in lower case, whose value is text: anything else cannot be a signature.
fn text_headers(headers: &HeaderMap, wanted: &[&'static str]) -> Vec<(Cow<'static, str>, String)> {
    let mut found = Vec::with_capacity(wanted.len());
    for &name in wanted {
        let texts = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
        found.extend(texts.map(|text| (Cow::Borrowed(name), text.to_owned())));
    }
    found
}

fn count(metrics: &Metrics, report: &Report) {
    for end in &report.ends {
        let reason = match end {
            End::Quarantined(quarantine) => quarantine.reason.as_str(),
            End::Ignored => "empty",
            End::Stored | End::Duplicate { .. } => "",
        };
        metrics.events.with_label_values(&[end.state(), reason]).inc();
        if matches!(end, End::Duplicate { conflict: true }) {
            metrics.conflicts.inc();
        }
    }
    for oddity in &report.oddities {
        metrics.oddities.with_label_values(&[oddity.as_str()]).inc();
    }
}
