//! One connection to a receiver, driven by whoever sends on it.
//!
//! hyper's connection is a future that somebody has to poll. Here that is the task that waits for the answer: no
//! second task per connection, no waking from one to the other, and an idle connection costs nothing but its socket.

use super::outcome::Fault;
use bytes::Bytes;
use http_body_util::Full;
use hyper::body::{Body as _, Incoming};
use hyper::client::conn::http1;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep};
use tokio_rustls::client::TlsStream;
use tokio_util::either::Either;

/// More of an answer's body is not worth reading to keep a connection.
const BODY_CAP: usize = 64 * 1024;

/// For how long an answer's body is waited for to keep a connection.
const BODY_PATIENCE: Duration = Duration::from_secs(1);

/// What hyper may read ahead: the longest head that is understood.
const BUFFER: usize = 64 * 1024;

/// What bytes go through: as they are, or encrypted.
pub(super) type Stream = Either<TcpStream, Box<TlsStream<TcpStream>>>;

/// A request as it is sent.
pub(super) type Post = Request<Full<Bytes>>;

/// A connection on which one request at a time may be sent.
pub(super) struct Connection {
    requests: http1::SendRequest<Full<Bytes>>,
    /// What has to be polled for anything to happen; none when it is over.
    driver: Option<http1::Connection<TokioIo<Stream>, Full<Bytes>>>,
    /// The deadline of the attempt. One for all of them, because moving a timer on is cheaper than making one.
    timer: Pin<Box<Sleep>>,
}

/// Why there is no answer.
pub(super) enum Failed {
    /// The connection ended before anything of the request was written: it may be sent on another.
    Unsent(Box<Post>),
    /// Nobody knows what became of the request.
    Fault(Fault),
}

impl Connection {
    /// Speaks HTTP/1 on `stream`.
    pub(super) async fn new(stream: Stream) -> Result<Self, Fault> {
        let handshake = http1::Builder::new().max_buf_size(BUFFER).handshake(TokioIo::new(stream));
        let (requests, driver) = handshake.await.map_err(|_| Fault::Connect)?;
        Ok(Self { requests, driver: Some(driver), timer: Box::pin(tokio::time::sleep_until(Instant::now())) })
    }

    /// Sends a request and waits for the head of its answer, until `end`.
    pub(super) async fn send(&mut self, request: Post, end: Instant) -> Result<Response<Incoming>, Failed> {
        // Whoever was stopped on the way here, process and all, may find that the lane has become somebody else's.
        if Instant::now() >= end {
            return Err(Failed::Fault(Fault::Deadline));
        }
        self.timer.as_mut().reset(end);
        let Self { requests, driver, timer } = self;
        // The answer comes out of the driver, which is polled here: nothing else could wake us for it, and a waker
        // would only have this task run again for what it has just seen. For the same reason it must not be put off by
        // the runtime's budget, which wakes whom it puts off.
        let mut answer = pin!(tokio::task::unconstrained(requests.try_send_request(request)));
        let answer = std::future::poll_fn(|cx| {
            drive(driver, cx);
            match answer.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
                Poll::Ready(answer) => Poll::Ready(Some(answer)),
                Poll::Pending => timer.as_mut().poll(cx).map(|()| None),
            }
        });
        match answer.await {
            Some(Ok(answer)) => Ok(answer),
            Some(Err(mut error)) => Err(match error.take_message() {
                Some(request) => Failed::Unsent(Box::new(request)),
                None => Failed::Fault(fault(&error.into_error())),
            }),
            None => Err(Failed::Fault(Fault::Deadline)),
        }
    }

    /// Reads an answer's body, so that the connection can be used again, until `end` at most. Says whether it can.
    pub(super) async fn drain(&mut self, mut body: Incoming, end: Instant) -> bool {
        if !body.is_end_stream() {
            // A subscriber that has said what it has to say does not change it by dawdling over the body.
            self.timer.as_mut().reset(end.min(Instant::now() + BODY_PATIENCE));
            let Self { driver, timer, .. } = self;
            let mut read = 0;
            let is_read = std::future::poll_fn(|cx| {
                let mut is_driven = false;
                loop {
                    match Pin::new(&mut body).poll_frame(cx) {
                        Poll::Ready(Some(Ok(frame))) => {
                            read += frame.data_ref().map_or(0, Bytes::len);
                            if read > BODY_CAP {
                                return Poll::Ready(false);
                            }
                            is_driven = false;
                        }
                        Poll::Ready(end) => return Poll::Ready(end.is_none()),
                        Poll::Pending if is_driven => return timer.as_mut().poll(cx).map(|()| false),
                        Poll::Pending => {
                            drive(driver, cx);
                            is_driven = true;
                        }
                    }
                }
            });
            if !is_read.await {
                return false;
            }
        }
        !self.is_over() && self.requests.is_ready()
    }

    /// Whether the connection is of no more use, as far as is known. Whoever drove it last is not woken by it any more.
    pub(super) fn is_over(&mut self) -> bool {
        drive(&mut self.driver, &mut Context::from_waker(Waker::noop()));
        self.driver.is_none()
    }
}

/// Moves a connection on as far as it goes. One that has ended is dropped, which answers its request.
fn drive(driver: &mut Option<http1::Connection<TokioIo<Stream>, Full<Bytes>>>, cx: &mut Context<'_>) {
    if let Some(connection) = driver
        && Pin::new(connection).poll(cx).is_ready()
    {
        *driver = None;
    }
}

fn fault(error: &hyper::Error) -> Fault {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = cause {
        if is_tls(error) {
            return Fault::Tls;
        }
        cause = error.source();
    }
    Fault::Broken
}

/// Whether the TLS library said so, alone or inside of an error of the stream.
pub(super) fn is_tls(error: &(dyn std::error::Error + 'static)) -> bool {
    let inner = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
    match inner {
        Some(inner) => inner.is::<rustls::Error>(),
        None => error.is::<rustls::Error>(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncReadExt as _;
    use tokio::net::TcpListener;

    #[tokio::test]
    async fn nothing_is_written_after_the_deadline() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (mut peer, _) = listener.accept().await.unwrap();
        let mut connection = Connection::new(Stream::Left(stream)).await.unwrap();
        let request = Request::post("/").body(Full::from("late")).unwrap();
        let Err(failed) = connection.send(request, Instant::now()).await else { panic!("it was answered") };
        assert!(matches!(failed, Failed::Fault(Fault::Deadline)));
        drop(connection);
        let mut seen = Vec::new();
        peer.read_to_end(&mut seen).await.unwrap();
        assert!(seen.is_empty(), "{}", String::from_utf8_lossy(&seen));
    }
}
