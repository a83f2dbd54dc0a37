//! The subscriber: answers every delivery at once, and notes which message came when, and whether it came twice. One
//! thread with next to no HTTP in it, so that it takes little of the machine that is measured. Of every 64th delivery
//! it checks both signatures.

use crate::payload::{SECRET, number};
use crate::wire::{self, Frame};
use anyhow::{Context, Result, bail};
use birdwire::app::system_clock;
use birdwire::domain::secret::Secret;
use birdwire::voipbin::sign::{verify_standard, verify_voipbin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio::task::LocalSet;
use tokio::time::Instant;

/// What Standard Webhooks libraries allow.
const TOLERANCE_SECONDS: i64 = 300;

const TAKEN: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
const GONE: &[u8] = b"HTTP/1.1 410 Gone\r\ncontent-length: 0\r\n\r\n";

/// One server for all subscribers; each has a path of its own: `/0`, `/1`, ...
pub(crate) struct Sink {
    /// Where it listens.
    pub(crate) port: u16,
    book: Arc<Book>,
    end: Arc<Notify>,
    thread: Option<std::thread::JoinHandle<()>>,
}

struct Book {
    began: Instant,
    messages: usize,
    /// For each subscriber and message the microsecond of its first arrival; 0 before that.
    arrivals: Vec<AtomicU32>,
    /// Different messages, over all subscribers.
    messages_taken: AtomicU64,
    /// Everything else that is told, such as new conversations.
    others: AtomicU64,
    doubled: AtomicU64,
    wrong: AtomicU64,
    /// The microsecond of the latest arrival of a message.
    latest: AtomicU32,
    /// Answer that nothing more is wanted.
    gone: AtomicBool,
    secret: Secret,
}

impl Sink {
    /// For so many subscribers and messages. When it is `gone` it wants nothing, and the gateway keeps what it owes.
    pub(crate) fn start(subscribers: usize, messages: usize, gone: bool) -> Result<Self> {
        let book = Arc::new(Book {
            began: Instant::now(),
            messages,
            arrivals: (0..subscribers * messages).map(|_| AtomicU32::new(0)).collect(),
            messages_taken: AtomicU64::new(0),
            others: AtomicU64::new(0),
            doubled: AtomicU64::new(0),
            wrong: AtomicU64::new(0),
            latest: AtomicU32::new(0),
            gone: AtomicBool::new(gone),
            secret: Secret::new(SECRET),
        });
        let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
        listener.set_nonblocking(true)?;
        let port = listener.local_addr()?.port();
        let end = Arc::new(Notify::new());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (its_book, its_end) = (book.clone(), end.clone());
        let thread = std::thread::spawn(move || {
            LocalSet::new().block_on(&runtime, async move {
                tokio::select! {
                    // A sink that breaks takes nothing more, which the round will see.
                    _ = accept(listener, its_book) => {}
                    () = its_end.notified() => {}
                }
            });
        });
        Ok(Self { port, book, end, thread: Some(thread) })
    }

    /// Different messages that came, counted for each subscriber.
    pub(crate) fn taken(&self) -> u64 {
        self.book.messages_taken.load(Ordering::Relaxed)
    }

    /// Deliveries that came, messages or not.
    pub(crate) fn deliveries(&self) -> u64 {
        self.taken() + self.book.others.load(Ordering::Relaxed) + self.doubled()
    }

    /// Deliveries of messages that had come before.
    pub(crate) fn doubled(&self) -> u64 {
        self.book.doubled.load(Ordering::Relaxed)
    }

    /// When the latest message came.
    pub(crate) fn latest(&self) -> Instant {
        self.book.began + Duration::from_micros(self.book.latest.load(Ordering::Relaxed).into())
    }

    /// When the first subscriber got a message.
    pub(crate) fn arrival(&self, message: usize) -> Option<Instant> {
        let at = self.book.arrivals.get(message)?.load(Ordering::Relaxed);
        (at > 0).then(|| self.book.began + Duration::from_micros(at.into()))
    }

    /// Waits until so many different messages came, or nothing comes any more; then something is lost.
    pub(crate) fn until(&self, messages: u64, patience: Duration) -> Result<()> {
        let (mut seen, mut since) = (self.taken(), Instant::now());
        while self.taken() < messages {
            std::thread::sleep(Duration::from_millis(2));
            if self.taken() != seen {
                (seen, since) = (self.taken(), Instant::now());
            }
            if since.elapsed() > patience {
                bail!("{} of {messages} messages came, then nothing for {patience:?}", self.taken());
            }
        }
        Ok(())
    }

    /// Fails when a signature was wrong.
    pub(crate) fn check(&self) -> Result<()> {
        match self.book.wrong.load(Ordering::Relaxed) {
            0 => Ok(()),
            wrong => bail!("{wrong} deliveries were signed wrongly"),
        }
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        self.end.notify_one();
        if let Some(thread) = self.thread.take() {
            thread.join().ok();
        }
    }
}

async fn accept(listener: std::net::TcpListener, book: Arc<Book>) -> Result<()> {
    let listener = TcpListener::from_std(listener)?;
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        tokio::task::spawn_local(serve(stream, book.clone()));
    }
}

async fn serve(mut stream: tokio::net::TcpStream, book: Arc<Book>) -> Result<()> {
    let mut buffer = Vec::with_capacity(8192);
    loop {
        while let Some(frame) = wire::frame(&buffer) {
            let answer = if book.gone.load(Ordering::Relaxed) {
                GONE
            } else {
                book.enter(&buffer, frame);
                TAKEN
            };
            buffer.drain(..frame.whole);
            stream.write_all(answer).await?;
        }
        if stream.read_buf(&mut buffer).await? == 0 {
            return Ok(());
        }
    }
}

impl Book {
    fn enter(&self, bytes: &[u8], frame: Frame) {
        let (head, body) = (&bytes[..frame.head], &bytes[frame.head..frame.whole]);
        let at = crate::load::micros(self.began.elapsed()).max(1);
        let Some(place) = self.place(head, body) else {
            self.others.fetch_add(1, Ordering::Relaxed);
            return;
        };
        if place.swap(at, Ordering::Relaxed) == 0 {
            let before = self.messages_taken.fetch_add(1, Ordering::Relaxed);
            self.latest.store(at, Ordering::Relaxed);
            if before.is_multiple_of(64) && self.verify(head, body).is_none() {
                self.wrong.fetch_add(1, Ordering::Relaxed);
            }
        } else {
            self.doubled.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Where the arrival of this message at this subscriber is noted; `None` when it is no message of this round.
    fn place(&self, head: &[u8], body: &[u8]) -> Option<&AtomicU32> {
        let message = body.strip_prefix(b"{\"type\":\"conversation_message_created\",\"data\":{\"id\":\"")?;
        let message = usize::try_from(number(message)?).ok().filter(|message| *message < self.messages)?;
        let path = head.strip_prefix(b"POST /")?.split(|byte| *byte == b' ').next()?;
        let subscriber: usize = std::str::from_utf8(path).ok()?.parse().ok()?;
        self.arrivals.get(subscriber * self.messages + message)
    }

    fn verify(&self, head: &[u8], body: &[u8]) -> Option<()> {
        let text = |name| std::str::from_utf8(wire::header(head, name)?).ok();
        verify_standard(
            std::slice::from_ref(&self.secret),
            text("webhook-id")?,
            text("webhook-timestamp")?,
            text("webhook-signature")?,
            body,
            (system_clock())().seconds(),
            TOLERANCE_SECONDS,
        )
        .ok()?;
        verify_voipbin(&self.secret, body, text("x-voipbin-signature")?).then_some(())
    }
}

/// Checks that ids tell their numbers, before anything is measured with them.
pub(crate) fn self_test() -> Result<()> {
    let talk = crate::payload::Talk::new(10);
    for message in [0, 9, 10, 123_456] {
        let requests = talk.requests(message, 1)?;
        let bytes = requests.get(0).context("no request")?;
        let frame = wire::frame(bytes).context("a request is no message")?;
        let body = &bytes[frame.head..];
        let found = body.strip_prefix(b"{\"id\":\"").and_then(number);
        anyhow::ensure!(found == Some(message), "message {message} says that it is {found:?}");
        anyhow::ensure!((900..1_200).contains(&body.len()), "a message has {} bytes", body.len());
    }
    Ok(())
}
