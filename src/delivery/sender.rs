//! One attempt over HTTP.
//!
//! One deadline covers resolution, connection, handshake, request and answer; redirects are not followed; of the
//! answer's body only so much is read as keeps the connection usable.

use super::Subscriber;
use super::guard::{Forbidden, Guard, GuardedResolver, Unresolved};
use super::outcome::{Answer, Fault};
use crate::domain::ids::ConversationId;
use crate::domain::time::Timestamp;
use crate::store::lane::Owed;
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::header::{CONTENT_TYPE, HeaderValue, RETRY_AFTER, USER_AGENT};
use hyper::{Request, Response};
use hyper_rustls::{ConfigBuilderExt, HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use ipnet::IpNet;
use std::net::IpAddr;
use std::time::Duration;

/// More of an answer's body is not worth reading to keep a connection.
const BODY_CAP: usize = 64 * 1024;

/// Idle connections are given up before most receivers give them up themselves.
const IDLE: Duration = Duration::from_secs(20);

/// Sends deliveries; keeps connections alive per receiver.
pub struct Sender {
    plain: Client<HttpConnector<GuardedResolver>, Full<Bytes>>,
    plain_guard: Guard,
    secure: Client<HttpsConnector<HttpConnector<GuardedResolver>>, Full<Bytes>>,
    secure_guard: Guard,
    deadline: Duration,
}

impl Sender {
    /// Sends to public addresses and to `allowed` networks; an attempt takes `deadline` at most; up to `idle`
    /// connections per receiver are kept.
    pub fn new(allowed: &[IpNet], deadline: Duration, idle: usize) -> Result<Self, rustls::Error> {
        let (plain_guard, secure_guard) = (Guard::plain(allowed), Guard::secure(allowed));
        let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
        let tls = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .try_with_platform_verifier()?
            .with_no_client_auth();
        let https = HttpsConnectorBuilder::new()
            .with_tls_config(tls)
            .https_only()
            .enable_http1()
            .wrap_connector(connector(&secure_guard));
        Ok(Self {
            plain: client(connector(&plain_guard), idle),
            secure: client(https, idle),
            plain_guard,
            secure_guard,
            deadline,
        })
    }

    /// Tries `owed` once.
    pub async fn attempt(
        &self,
        subscriber: &Subscriber,
        conversation: ConversationId,
        owed: &Owed,
        now: Timestamp,
    ) -> Answer {
        let Some(request) = request(subscriber, conversation, owed, now) else { return Answer::Fault(Fault::Broken) };
        // The deadline covers everything up to the answer's head, and the reading of its body; but a body that is cut
        // off takes nothing back from what the head said.
        let end = tokio::time::Instant::now() + self.deadline;
        let attempt = async {
            let is_secure = subscriber.url.scheme_str() == Some("https");
            // The connector asks its resolver about names only, so literal addresses are checked here.
            let guard = if is_secure { &self.secure_guard } else { &self.plain_guard };
            if literal(&subscriber.url).is_some_and(|address| !guard.allows(address)) {
                return Err(Fault::Forbidden);
            }
            let answer = if is_secure { self.secure.request(request).await } else { self.plain.request(request).await };
            answer.map_err(|error| fault(&error))
        };
        match tokio::time::timeout_at(end, attempt).await {
            Ok(Ok(response)) => read(response, end).await,
            Ok(Err(fault)) => Answer::Fault(fault),
            Err(_) => Answer::Fault(Fault::Deadline),
        }
    }
}

fn connector(guard: &Guard) -> HttpConnector<GuardedResolver> {
    let mut connector = HttpConnector::new_with_resolver(GuardedResolver::new(guard.clone()));
    connector.enforce_http(false);
    connector.set_nodelay(true);
    connector
}

fn client<C>(connector: C, idle: usize) -> Client<C, Full<Bytes>>
where
    C: hyper_util::client::legacy::connect::Connect + Clone,
{
    Client::builder(TokioExecutor::new())
        .pool_max_idle_per_host(idle)
        .pool_idle_timeout(IDLE)
        .pool_timer(TokioTimer::new())
        .http1_max_buf_size(64 * 1024)
        .build(connector)
}

fn literal(url: &hyper::Uri) -> Option<IpAddr> {
    url.host()?.trim_start_matches('[').trim_end_matches(']').parse().ok()
}

fn request(
    subscriber: &Subscriber,
    conversation: ConversationId,
    owed: &Owed,
    now: Timestamp,
) -> Option<Request<Full<Bytes>>> {
    let id = owed.event_id.to_string();
    let seconds = now.seconds();
    let mut request = Request::post(subscriber.url.clone())
        .header(CONTENT_TYPE, HeaderValue::from_static("application/json"))
        .header(USER_AGENT, HeaderValue::from_static(concat!("birdwire/", env!("CARGO_PKG_VERSION"))))
        .header("x-voipbin-signature", subscriber.signer.voipbin(&owed.body))
        .header("webhook-signature", subscriber.signer.standard(&id, seconds, &owed.body))
        .header("webhook-id", id)
        .header("webhook-timestamp", seconds)
        .header("x-birdwire-lane", conversation.to_string())
        .header("x-birdwire-sequence", owed.sequence);
    if owed.replay {
        request = request.header("x-birdwire-replay", HeaderValue::from_static("true"));
    }
    request.body(Full::new(Bytes::copy_from_slice(&owed.body))).ok()
}

/// The status decides; the body is read only so that the connection can be used again, and only up to a cap.
async fn read(response: Response<hyper::body::Incoming>, end: tokio::time::Instant) -> Answer {
    let (head, mut body) = response.into_parts();
    let retry_after = head.headers.get(RETRY_AFTER).and_then(|v| v.to_str().ok()).map(str::to_owned);
    let answer = Answer::Status { status: head.status.as_u16(), retry_after };
    let mut read = 0;
    // A subscriber that has said what it has to say does not change it by dawdling over the body.
    let drain = async {
        while let Some(Ok(frame)) = body.frame().await {
            read += frame.data_ref().map_or(0, Bytes::len);
            if read > BODY_CAP {
                break;
            }
        }
    };
    let patience = tokio::time::Instant::now() + Duration::from_secs(1);
    tokio::time::timeout_at(end.min(patience), drain).await.ok();
    answer
}

fn fault(error: &hyper_util::client::legacy::Error) -> Fault {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = cause {
        if error.is::<Forbidden>() {
            return Fault::Forbidden;
        }
        if error.is::<Unresolved>() {
            return Fault::Unresolved;
        }
        let inner = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        if error.is::<rustls::Error>()
            || inner.is_some_and(
                <dyn std::error::Error + std::marker::Send + std::marker::Sync + 'static>::is::<rustls::Error>,
            )
        {
            return Fault::Tls;
        }
        cause = error.source();
    }
    if error.is_connect() { Fault::Connect } else { Fault::Broken }
}
