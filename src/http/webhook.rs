//! A provider's webhook: read within bounds, hand over, answer with a bare status.
//!
//! 200 only after the commit, and for repeats. Our own trouble is 503 with `Retry-After`, never a 4xx: a provider
//! may take a 4xx for final.

use super::Gateway;
use super::brake::Brake;
use super::patience::Timer;
use super::request_id::RequestId;
use crate::domain::event::End;
use crate::domain::ids::AccountId;
use crate::domain::webhook::RawWebhook;
use crate::ingest::{Hold, Refusal, Report, VerifyError};
use crate::metrics::WEBHOOK_OUTCOMES;
use crate::store::StoreError;
use axum::Extension;
use axum::body::{Bytes, HttpBody};
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures_util::FutureExt;
use http_body_util::BodyExt;
use prometheus::IntCounter;
use std::borrow::Cow;
use std::panic::AssertUnwindSafe;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// How much of a body that is still arriving is free: longer than nearly every webhook, so that no unfinished request,
/// which anybody can send, keeps another's webhook away.
const FREE: usize = 16 * 1024;

/// How much of a body that is too large is read and thrown away, so that its sender gets to read the answer.
const DISCARD: usize = 8 * 1024 * 1024;

/// Bytes of bodies that may be in memory; what does not fit is told to come back.
///
/// Those that are still arriving have room of their own: whoever sends them has proved nothing yet.
#[derive(Clone)]
pub struct Budget {
    /// What is beyond [`FREE`] of each body that is still arriving.
    arriving: Arc<Semaphore>,
    /// Bodies of the provider's own webhooks, between verification and commit.
    waiting: Arc<Semaphore>,
}

impl Budget {
    /// A budget of `bytes` for what waits for its commit, and of as many for what is beyond the beginning of a body that
    /// is still arriving.
    pub fn new(bytes: usize) -> Self {
        let room = || Arc::new(Semaphore::new(bytes.min(Semaphore::MAX_PERMITS)));
        Self { arriving: room(), waiting: room() }
    }
}

fn take(room: &Arc<Semaphore>, bytes: usize) -> Option<OwnedSemaphorePermit> {
    room.clone().try_acquire_many_owned(u32::try_from(bytes).ok()?).ok()
}

/// How a webhook request ended, in the order of [`WEBHOOK_OUTCOMES`].
#[derive(Clone, Copy, Debug)]
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
    fn answer(self) -> Response {
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

/// The route of one account's webhooks, for requests that come through the router.
pub(super) async fn receive(
    State(intake): State<Arc<Intake>>,
    account: Result<Path<String>, PathRejection>,
    Extension(request_id): Extension<RequestId>,
    request: Request,
) -> Response {
    // A path that is no text names no account, like any other that names none.
    let account = account.map(|Path(account)| account).unwrap_or_default();
    let (head, body) = request.into_parts();
    intake.receive(&account, &request_id, &head.headers, body, &Timer::default()).await
}

/// Where webhooks are taken in, with the counters at hand that every one of them needs: looking one up by its labels
/// takes as long as reading a short webhook.
pub(super) struct Intake {
    gateway: Arc<Gateway>,
    /// By [`Outcome`].
    outcomes: [IntCounter; WEBHOOK_OUTCOMES.len()],
    stored: IntCounter,
    duplicate: IntCounter,
    /// On the lines that strangers can cause: those of each [`VerifyError`], and those of [`Intake::warn_of_crowd`].
    refused: [Brake; VerifyError::WORDS.len()],
    crowded: Brake,
}

impl Intake {
    pub(super) fn new(gateway: Arc<Gateway>) -> Self {
        let metrics = &gateway.metrics;
        Self {
            outcomes: WEBHOOK_OUTCOMES.map(|outcome| metrics.webhooks.with_label_values(&[outcome])),
            stored: metrics.events.with_label_values(&["stored", ""]),
            duplicate: metrics.events.with_label_values(&["duplicate", ""]),
            refused: Default::default(),
            crowded: Brake::default(),
            gateway,
        }
    }

    /// Takes in one request.
    pub(super) async fn receive<B>(
        self: &Arc<Self>,
        account: &str,
        request_id: &RequestId,
        headers: &HeaderMap,
        body: B,
        timer: &Timer,
    ) -> Response
    where
        B: HttpBody<Data = Bytes> + Unpin,
    {
        let time = self.gateway.metrics.webhook_seconds.start_timer();
        let outcome = self.handle(account, request_id, headers, body, timer).await;
        self.outcomes[outcome as usize].inc();
        time.observe_duration();
        outcome.answer()
    }

    async fn handle<B>(
        self: &Arc<Self>,
        account: &str,
        request_id: &RequestId,
        headers: &HeaderMap,
        body: B,
        timer: &Timer,
    ) -> Outcome
    where
        B: HttpBody<Data = Bytes> + Unpin,
    {
        let gateway = &self.gateway;
        let account_id = uuid::Uuid::try_parse(account).ok().map(AccountId);
        let Some(desk) = account_id.and_then(|id| gateway.ingest.desk(id)).cloned() else {
            decline(body, headers, gateway).await;
            return Outcome::UnknownAccount;
        };
        let body = match timer.within(gateway.body_timeout, pin!(read(body, headers, gateway))).await {
            Some(Ok(body)) => body,
            Some(Err(outcome)) => {
                if matches!(outcome, Outcome::Overloaded) {
                    self.warn_of_crowd(account, request_id);
                }
                return outcome;
            }
            None => return Outcome::Slow,
        };
        let headers = text_headers(headers, desk.headers());
        let webhook = RawWebhook { headers, body, received_at: (gateway.clock)() };
        // A commit goes on when its sender hangs up or our patience ends, and must be counted.
        let (mine, id) = (self.clone(), request_id.as_str().to_owned());
        let accept = async move {
            let Gateway { ingest, budget, .. } = &*mine.gateway;
            let size = webhook.body.len();
            let hold = || Some(Box::new(take(&budget.waiting, size)?) as Hold);
            let accepted = ingest.accept(&desk, webhook, id, hold).await;
            if let Ok(report) = &accepted {
                mine.count(report);
            }
            accepted
        };
        let accepted = Unstoppable::new(AssertUnwindSafe(accept).catch_unwind());
        match timer.within(gateway.commit_timeout, accepted).await {
            Some(Ok(Ok(_))) => Outcome::Committed,
            Some(Ok(Err(Refusal::Unverified(error)))) => {
                gateway.metrics.unverified.with_label_values(&[error.as_str()]).inc();
                self.warn_of_refused(account, request_id, &error);
                Outcome::Unverified
            }
            Some(Ok(Err(Refusal::Store(error)))) => {
                if gateway.trouble.note((gateway.clock)(), &error.to_string()) {
                    tracing::error!(
                        account.id = account,
                        request.id = request_id.as_str(),
                        error = &error as &dyn std::error::Error,
                        "webhooks cannot be kept"
                    );
                }
                if matches!(error, StoreError::Overloaded) { Outcome::Overloaded } else { Outcome::Unavailable }
            }
            // Its panic was printed where it happened.
            Some(Err(_)) => Outcome::Unavailable,
            None => {
                if gateway.trouble.note((gateway.clock)(), "a commit took too long") {
                    tracing::error!(account.id = account, request.id = request_id.as_str(), "commits take too long");
                }
                Outcome::Unavailable
            }
        }
    }

    fn warn_of_refused(&self, account: &str, request_id: &RequestId, error: &VerifyError) {
        let brake = VerifyError::WORDS.iter().zip(&self.refused).find(|(word, _)| **word == error.as_str());
        if let Some(unlogged) = brake.and_then(|(_, brake)| brake.pass((self.gateway.clock)())) {
            tracing::warn!(
                account.id = account,
                request.id = request_id.as_str(),
                reason = %error,
                refused.unlogged = unlogged,
                "a webhook was refused"
            );
        }
    }

    /// No trouble that readiness tells of: it would let anybody turn the gateway out of a load balancer.
    fn warn_of_crowd(&self, account: &str, request_id: &RequestId) {
        if let Some(unlogged) = self.crowded.pass((self.gateway.clock)()) {
            tracing::warn!(
                account.id = account,
                request.id = request_id.as_str(),
                refused.unlogged = unlogged,
                "a large webhook was turned away: those still arriving fill server.queue_bytes"
            );
        }
    }

    fn count(&self, report: &Report) {
        let metrics = &self.gateway.metrics;
        for end in &report.ends {
            match end {
                End::Stored => self.stored.inc(),
                End::Duplicate { conflict } => {
                    self.duplicate.inc();
                    if *conflict {
                        metrics.conflicts.inc();
                    }
                }
                End::Quarantined(why) => {
                    metrics.events.with_label_values(&[end.state(), why.reason.as_str()]).inc();
                }
                End::Ignored => metrics.events.with_label_values(&[end.state(), "empty"]).inc(),
            }
        }
        for oddity in &report.oddities {
            metrics.oddities.with_label_values(&[oddity.as_str()]).inc();
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

/// The whole body.
async fn read<B>(mut body: B, headers: &HeaderMap, gateway: &Gateway) -> Result<Vec<u8>, Outcome>
where
    B: HttpBody<Data = Bytes> + Unpin,
{
    let announced = headers.get(header::CONTENT_LENGTH).and_then(|v| v.to_str().ok()?.parse::<usize>().ok());
    if announced.is_some_and(|bytes| bytes > gateway.max_body_bytes) {
        decline(body, headers, gateway).await;
        return Err(Outcome::TooLarge);
    }
    let mut bytes = Vec::with_capacity(announced.unwrap_or(0).min(FREE));
    let mut held: Option<OwnedSemaphorePermit> = None;
    // Asking a body that says that it is at its end would mean waiting for the connection to notice.
    while !body.is_end_stream() {
        let Some(frame) = body.frame().await else { break };
        let frame = frame.map_err(|_| Outcome::Broken)?;
        let Some(data) = frame.data_ref() else { continue };
        let length = bytes.len() + data.len();
        if length > gateway.max_body_bytes {
            drop((bytes, held));
            discard(body, gateway).await;
            return Err(Outcome::TooLarge);
        }
        if length > FREE {
            let share = take(&gateway.budget.arriving, length - FREE.max(bytes.len())).ok_or(Outcome::Overloaded)?;
            match &mut held {
                Some(held) => held.merge(share),
                None => held = Some(share),
            }
        }
        bytes.extend_from_slice(data);
    }
    Ok(bytes)
}

/// Something was sent that nobody wants: reading it first lets the sender read the answer. But a sender that asks before
/// it sends would take that for leave to go on.
async fn decline<B>(body: B, headers: &HeaderMap, gateway: &Gateway)
where
    B: HttpBody<Data = Bytes> + Unpin,
{
    let is_asking = |value: &HeaderValue| value.as_bytes().eq_ignore_ascii_case(b"100-continue");
    if !headers.get(header::EXPECT).is_some_and(is_asking) {
        discard(body, gateway).await;
    }
}

async fn discard<B>(mut body: B, gateway: &Gateway)
where
    B: HttpBody<Data = Bytes> + Unpin,
{
    let all = async {
        let mut seen = 0;
        while let Some(Ok(frame)) = body.frame().await {
            seen += frame.data_ref().map_or(0, Bytes::len);
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
    // Every name compared with those few takes less than looking them up, which hashes them.
    for (name, value) in headers {
        let name = wanted.iter().find(|wanted| **wanted == name.as_str());
        if let (Some(name), Ok(text)) = (name, value.to_str()) {
            found.push((Cow::Borrowed(*name), text.to_owned()));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_wanted_headers_are_kept_and_all_that_were_sent() {
        let mut headers = HeaderMap::new();
        headers.append("X-Signature", "1".parse().unwrap());
        headers.append("host", "h".parse().unwrap());
        headers.append("x-time", header::HeaderValue::from_bytes(b"\xff").unwrap());
        headers.append("x-signature", "2".parse().unwrap());
        let found = text_headers(&headers, &["x-time", "x-signature", "x-other"]);
        let found: Vec<_> = found.iter().map(|(name, text)| (&**name, &**text)).collect();
        assert_eq!(found, [("x-signature", "1"), ("x-signature", "2")]);
    }

    #[test]
    fn every_outcome_is_counted_under_its_word() {
        use Outcome::{Broken, Committed, Overloaded, Slow, TooLarge, Unavailable, UnknownAccount, Unverified};
        for (outcome, status, word) in [
            (Committed, 200, "committed"),
            (UnknownAccount, 404, "unknown_account"),
            (Unverified, 401, "unverified"),
            (TooLarge, 413, "too_large"),
            (Slow, 408, "slow"),
            (Broken, 400, "broken"),
            (Overloaded, 503, "overloaded"),
            (Unavailable, 503, "unavailable"),
        ] {
            assert_eq!(WEBHOOK_OUTCOMES[outcome as usize], word);
            let answer = outcome.answer();
            assert_eq!(
                (answer.status().as_u16(), answer.headers().contains_key("retry-after")),
                (status, status == 503)
            );
        }
    }
}
