//! How long a connection may take to say what it wants.
//!
//! hyper has one timer for the head of a request and for the silence before it. But the two need different times: a
//! head that trickles in must be cut off soon, while an idle connection must outlive the load balancer's own idle
//! time, or requests meet a closing connection, and a provider that does not repeat them loses them.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep};

/// The head of a request is awaited or arriving; its time runs.
const HEAD: u8 = 0;
/// A request is being answered.
const BUSY: u8 = 1;
/// Between two requests: the next byte begins a head.
const IDLE: u8 = 2;

/// What a connection is about, shared between its bytes and its service.
#[derive(Clone, Debug, Default)]
pub(super) struct Phase(Arc<AtomicU8>);

impl Phase {
    /// A head is complete: its request is being answered.
    pub(super) fn busy(&self) {
        self.0.store(BUSY, Ordering::Release);
    }

    /// The request was answered.
    pub(super) fn idle(&self) {
        self.0.store(IDLE, Ordering::Release);
    }
}

/// A connection whose heads must be complete within a time: the first one counted from the connection's beginning,
/// further ones from their first byte.
pub(super) struct Patient {
    stream: TcpStream,
    phase: Phase,
    head: Duration,
    timer: Pin<Box<Sleep>>,
}

impl Patient {
    /// `phase` is what the connection's service tells of it.
    pub(super) fn new(stream: TcpStream, head: Duration, phase: Phase) -> Self {
        Self { stream, phase, head, timer: Box::pin(tokio::time::sleep(head)) }
    }
}

impl AsyncRead for Patient {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let phase = self.phase.0.load(Ordering::Acquire);
        let before = buf.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buf);
        if phase == IDLE && buf.filled().len() > before {
            let deadline = Instant::now() + self.head;
            self.timer.as_mut().reset(deadline);
            self.phase.0.store(HEAD, Ordering::Release);
        }
        if phase == HEAD && read.is_pending() && self.timer.as_mut().poll(cx).is_ready() {
            let late = "the head of a request took too long";
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, late)));
        }
        read
    }
}

impl AsyncWrite for Patient {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
