//! The accept loop.
//!
//! axum's own sets no timer, so a head that arrives one byte a second would hold a connection for ever. This one
//! bounds the time of a head, the number of connections, and the time of a drain.

use super::patience::{Bytes, Phase, Watch};
use super::routes::Routes;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use hyper_util::server::graceful::GracefulShutdown;
use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
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

/// Largest request head, in bytes.
const HEAD: usize = 64 * 1024;

/// After an error that is not one connection's, accepting rests: out of file descriptors, most likely.
const REST: Duration = Duration::from_millis(100);

/// Serves `routes` until `drain`, then finishes what is under way.
pub async fn serve(listener: TcpListener, routes: impl Into<Routes>, limits: Limits, drain: CancellationToken) {
    let routes = routes.into();
    let mut http = hyper::server::conn::http1::Builder::new();
    http.header_read_timeout(None).max_buf_size(HEAD); // the time of a head is watched below
    let places = Arc::new(Semaphore::new(limits.max_connections));
    let open = GracefulShutdown::new();
    loop {
        let accepted = tokio::select! {
            () = drain.cancelled() => break,
            accepted = accept(&listener, &places) => accepted,
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
        let watch = Watch::new(phase.clone(), limits.header_timeout, IDLE.max(limits.header_timeout));
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

async fn accept(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
) -> io::Result<(tokio::net::TcpStream, tokio::sync::OwnedSemaphorePermit)> {
    let place = places.clone().acquire_owned().await.map_err(io::Error::other)?;
    let (stream, _) = listener.accept().await?;
    Ok((stream, place))
}

fn is_one_connections(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}
