//! One attempt over HTTP.
//!
//! One deadline covers resolution, connection, handshake, request and answer; redirects are not followed; of the
//! answer's body only so much is read as keeps the connection usable.

use super::Subscriber;
use super::connection::{Connection, Failed, Post};
use super::guard::Guard;
use super::outcome::{Answer, Fault};
use super::receiver::{NoHost, Receiver};
use crate::domain::ids::ConversationId;
use crate::domain::time::Timestamp;
use crate::store::lane::Owed;
use hyper::body::Incoming;
use hyper::header::{HeaderName, HeaderValue, RETRY_AFTER};
use hyper::{Response, Uri};
use ipnet::IpNet;
use rustls_platform_verifier::BuilderVerifierExt as _;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use tokio_rustls::TlsConnector;

const VOIPBIN_SIGNATURE: HeaderName = HeaderName::from_static("x-voipbin-signature");
const SIGNATURE: HeaderName = HeaderName::from_static("webhook-signature");
const ID: HeaderName = HeaderName::from_static("webhook-id");
const TIMESTAMP: HeaderName = HeaderName::from_static("webhook-timestamp");
const LANE: HeaderName = HeaderName::from_static("x-birdwire-lane");
const SEQUENCE: HeaderName = HeaderName::from_static("x-birdwire-sequence");
const REPLAY: HeaderName = HeaderName::from_static("x-birdwire-replay");

/// Sends deliveries; keeps connections alive per receiver.
pub struct Sender {
    plain: Guard,
    secure: Guard,
    tls: TlsConnector,
    deadline: Duration,
    idle: usize,
}

impl Sender {
    /// Sends to public addresses and to `allowed` networks; an attempt takes `deadline` at most; up to `idle`
    /// connections per receiver are kept.
    pub fn new(allowed: &[IpNet], deadline: Duration, idle: usize) -> Result<Self, rustls::Error> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_platform_verifier()?
            .with_no_client_auth();
        Ok(Self {
            plain: Guard::plain(allowed),
            secure: Guard::secure(allowed),
            tls: TlsConnector::from(Arc::new(tls)),
            deadline,
            idle,
        })
    }

    /// Prepares what is the same for every attempt to send to `url`.
    pub fn receiver(&self, url: &Uri) -> Result<Receiver, NoHost> {
        if url.scheme_str() == Some("https") {
            Receiver::new(url, self.secure.clone(), Some(self.tls.clone()), self.idle)
        } else {
            Receiver::new(url, self.plain.clone(), None, self.idle)
        }
    }

    /// Tries `owed` once, and uses up its body. Said twice when it began: what it is signed with, and what its deadline counts
    /// from.
    pub async fn attempt(
        &self,
        subscriber: &Subscriber,
        conversation: ConversationId,
        owed: &mut Owed,
        began: (Timestamp, Instant),
    ) -> Answer {
        let answer = self.attempt_unless(subscriber, conversation, owed, began, std::future::pending()).await;
        answer.unwrap_or(Answer::Fault(Fault::Broken))
    }

    /// The same, unless `cut` comes before there is an answer. The connection is closed then, so nothing more is written.
    pub(super) async fn attempt_unless(
        &self,
        subscriber: &Subscriber,
        conversation: ConversationId,
        owed: &mut Owed,
        (now, began): (Timestamp, Instant),
        cut: impl Future<Output = ()>,
    ) -> Option<Answer> {
        let Some(request) = request(subscriber, conversation, owed, now) else {
            return Some(Answer::Fault(Fault::Broken));
        };
        // The deadline covers everything up to the answer's head, and the reading of its body; but a body that is cut
        // off takes nothing back from what the head said.
        let end = began + self.deadline;
        let exchanged = tokio::select! {
            // An answer that is there counts.
            biased;
            exchanged = exchange(&subscriber.receiver, request, end) => exchanged,
            () = cut => return None,
        };
        Some(match exchanged {
            Ok((connection, response)) => read(&subscriber.receiver, connection, response, end).await,
            Err(fault) => Answer::Fault(fault),
        })
    }
}

/// Sends a request on a connection that is there, or else on a new one. One that ended before anything was written costs
/// nothing; a request of which anything was written is never sent again.
async fn exchange(
    receiver: &Receiver,
    mut request: Post,
    end: Instant,
) -> Result<(Connection, Response<Incoming>), Fault> {
    while let Some(mut connection) = receiver.idle.take() {
        match connection.send(request, end).await {
            Ok(response) => return Ok((connection, response)),
            Err(Failed::Unsent(unsent)) => request = *unsent,
            Err(Failed::Fault(fault)) => return Err(fault),
        }
    }
    // Boxed, because it is long and seldom needed.
    let connected = Box::pin(tokio::time::timeout_at(end, receiver.connect())).await;
    let mut connection = connected.map_err(|_| Fault::Deadline)??;
    match connection.send(request, end).await {
        Ok(response) => Ok((connection, response)),
        Err(Failed::Unsent(_)) => Err(Fault::Broken),
        Err(Failed::Fault(fault)) => Err(fault),
    }
}

fn request(subscriber: &Subscriber, conversation: ConversationId, owed: &mut Owed, now: Timestamp) -> Option<Post> {
    let id = owed.event_id.to_string();
    let seconds = now.seconds();
    let voipbin = HeaderValue::try_from(subscriber.signer.voipbin(&owed.body)).ok()?;
    let standard = HeaderValue::try_from(subscriber.signer.standard(&id, seconds, &owed.body)).ok()?;
    let mut request = subscriber.receiver.post(std::mem::take(&mut owed.body).into());
    let headers = request.headers_mut();
    headers.insert(VOIPBIN_SIGNATURE, voipbin);
    headers.insert(SIGNATURE, standard);
    headers.insert(ID, HeaderValue::try_from(id).ok()?);
    headers.insert(TIMESTAMP, HeaderValue::from(seconds));
    headers.insert(LANE, HeaderValue::try_from(conversation.to_string()).ok()?);
    headers.insert(SEQUENCE, HeaderValue::from(owed.sequence));
    if owed.replay {
        headers.insert(REPLAY, HeaderValue::from_static("true"));
    }
    Some(request)
}

/// The status decides; the body is read only so that the connection can be used again.
async fn read(receiver: &Receiver, mut connection: Connection, response: Response<Incoming>, end: Instant) -> Answer {
    let (head, body) = response.into_parts();
    let retry_after = head.headers.get(RETRY_AFTER).and_then(|v| v.to_str().ok()).map(str::to_owned);
    if connection.drain(body, end).await {
        receiver.idle.give(connection);
    }
    Answer::Status { status: head.status.as_u16(), retry_after }
}
