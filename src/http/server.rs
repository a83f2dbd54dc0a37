//! The accept loop.
//!
//! axum's own sets no timer, so a head that arrives one byte a second would hold a connection for ever. This one
//! bounds the time of a head, the number of connections, and the time of a drain. When all connections are taken, idle
//! ones make room: whoever only holds them must not keep everybody else out.

use super::patience::{Bytes, Crowd, Phase, Times, Watch};
use super::routes::Routes;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use hyper_util::server::graceful::GracefulShutdown;
use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// The bounds of a server.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Longest time for a request's head to arrive.
    pub header_timeout: Duration,
    /// Most connections at once; more wait to be accepted.
    pub max_connections: usize,
    /// Longest time for requests under way to finish after `drain`.
    pub drain_timeout: Duration,
}

/// How long a connection may be silent between requests: longer than the minute after which load balancers give an
/// idle connection up, so that it is they who close it.
const IDLE: Duration = Duration::from_secs(75);

/// How long it may be silent when no place is left for others: long enough for whoever goes on at once.
const LOOK: Duration = Duration::from_secs(2);

/// Of all places, one in so many is made free at once when there is none left: not every client that meant to use its
/// idle connection again has to go because somebody else comes.
const SHARE: usize = 16;

/// When the connections were used up, and are again within that time, nothing new has happened.
const SPELL: Duration = Duration::from_mins(1);

/// Largest request head, in bytes.
const HEAD: usize = 64 * 1024;

/// After an error that is not one connection's, accepting rests: out of file descriptors, most likely.
const REST: Duration = Duration::from_millis(100);

/// Serves `routes` until `drain`, then finishes what is under way.
pub async fn serve(listener: TcpListener, routes: impl Into<Routes>, limits: Limits, drain: CancellationToken) {
    let routes = routes.into();
    let mut http = hyper::server::conn::http1::Builder::new();
    http.header_read_timeout(None).max_buf_size(HEAD); // the time of a head is watched below
    let mut places = Places::new(limits.max_connections);
    let times = Times { head: limits.header_timeout, idle: IDLE.max(limits.header_timeout), look: LOOK };
    let open = GracefulShutdown::new();
    loop {
        let accepted = tokio::select! {
            () = drain.cancelled() => break,
            accepted = accept(&listener, &mut places) => accepted,
        };
        let (stream, place) = match accepted {
            Ok(accepted) => accepted,
            Err(error) if is_one_connections(&error) => continue,
            Err(error) => {
                tracing::error!(error = &error as &dyn std::error::Error, "connections cannot be accepted");
                tokio::time::sleep(REST).await;
                continue;
            }
        };
        // Answers are small; waiting to fill a packet only makes them late. A socket that refuses is about to close.
        stream.set_nodelay(true).ok();
        let phase = Phase::default();
        let io = TokioIo::new(Bytes::new(stream, phase.clone()));
        let watch = Watch::new(phase.clone(), times, places.crowd.clone());
        let answering = Arc::new(routes.connection());
        let service = service_fn(move |request| {
            phase.busy();
            let (answering, phase) = (answering.clone(), phase.clone());
            async move {
                let answer = answering.answer(request).await;
                phase.idle();
                Ok::<_, Infallible>(answer)
            }
        });
        let connection = open.watch(http.serve_connection(io, service));
        tokio::spawn(async move {
            // Whatever goes wrong on a connection is the peer's: it went away, was too slow, or spoke no HTTP.
            watch.over(connection).await;
            drop(place);
        });
    }
    drop(listener);
    if tokio::time::timeout(limits.drain_timeout, open.shutdown()).await.is_err() {
        tracing::warn!("connections were still busy at the end of the drain");
    }
}

async fn accept(listener: &TcpListener, places: &mut Places) -> io::Result<(TcpStream, OwnedSemaphorePermit)> {
    let place = places.take().await?;
    let (stream, _) = listener.accept().await?;
    Ok((stream, place))
}

/// The places for connections.
struct Places {
    free: Arc<Semaphore>,
    limit: usize,
    crowd: Crowd,
    /// When there was none left last.
    used_up: Option<Instant>,
}

impl Places {
    fn new(limit: usize) -> Self {
        Self { free: Arc::new(Semaphore::new(limit)), limit, crowd: Crowd::default(), used_up: None }
    }

    /// A place, as soon as there is one.
    async fn take(&mut self) -> io::Result<OwnedSemaphorePermit> {
        if let Ok(place) = self.free.clone().try_acquire_owned() {
            self.crowd.send_away(0);
            return Ok(place);
        }
        self.crowd.send_away(self.limit.div_ceil(SHARE));
        if self.used_up.is_none_or(|last| last.elapsed() >= SPELL) {
            tracing::warn!(
                max_connections = self.limit,
                "all connections are taken: idle ones are closed for new ones"
            );
        }
        let place = self.free.clone().acquire_owned().await;
        self.used_up = Some(Instant::now());
        place.map_err(io::Error::other)
    }
}

fn is_one_connections(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}
