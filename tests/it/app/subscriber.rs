//! A subscriber that reacts as it is told: well, badly, slowly, or not at all.

use super::PATIENCE;
use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::AbortHandle;

/// What it does with one request.
#[derive(Clone)]
pub(crate) enum Reaction {
    /// Answers with this status and nothing else.
    Status(u16),
    /// Answers with this status and these header lines.
    With(u16, String),
    /// Answers 200 and says something.
    Says(&'static str),
    /// Answers 200, and closes the connection without having said so.
    Leave,
    /// Says nothing, and keeps the connection.
    Hang,
    /// Answers 200, one byte of the head at a time, for ever.
    DripHead,
    /// Answers 200 at once, and then sends its body one byte at a time.
    DripBody,
    /// Answers 200 at once, and then a body as fast as it can, for ever.
    Endless,
    /// Closes the connection in the middle of the head.
    Cut,
    /// Answers 200 as soon as there is a permit.
    Gate(Arc<Semaphore>),
}

/// A request as it came.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) path: String,
    headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Request {
    /// The value of a header (lower case) that was sent exactly once.
    pub(crate) fn header(&self, name: &str) -> &str {
        let found: Vec<_> = self.headers.iter().filter(|(n, _)| n == name).collect();
        assert_eq!(found.len(), 1, "{name} in {:?}", self.headers);
        &found[0].1
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.headers.iter().any(|(n, _)| n == name)
    }
}

/// A listening subscriber; it ends with its value.
pub(crate) struct FakeSubscriber {
    addr: SocketAddr,
    received: mpsc::UnboundedReceiver<Request>,
    connections: Arc<AtomicUsize>,
    task: AbortHandle,
}

impl FakeSubscriber {
    /// Reacts to its requests in this order, and to all further ones with 200.
    pub(crate) async fn start(script: &[Reaction]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let script = Arc::new(Mutex::new(VecDeque::from(script.to_vec())));
        let (sender, received) = mpsc::unbounded_channel();
        let connections = Arc::new(AtomicUsize::new(0));
        let counter = connections.clone();
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                counter.fetch_add(1, Ordering::SeqCst);
                let (script, sender) = (script.clone(), sender.clone());
                tokio::spawn(async move { converse(stream, &script, &sender).await });
            }
        });
        Self { addr, received, connections, task: task.abort_handle() }
    }

    pub(crate) async fn good() -> Self {
        Self::start(&[]).await
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.addr)
    }

    pub(crate) fn port(&self) -> u16 {
        self.addr.port()
    }

    /// The next request, in the order in which they came.
    pub(crate) async fn next(&mut self) -> Request {
        tokio::time::timeout(PATIENCE, self.received.recv()).await.expect("no delivery came").expect("it listens")
    }

    /// Whether nothing came that was not taken.
    pub(crate) fn is_idle(&mut self) -> bool {
        self.received.try_recv().is_err()
    }

    /// How often anybody connected.
    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

impl Drop for FakeSubscriber {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn converse(mut stream: TcpStream, script: &Mutex<VecDeque<Reaction>>, sender: &mpsc::UnboundedSender<Request>) {
    let mut buffer = Vec::new();
    while let Ok(Some(request)) = read(&mut stream, &mut buffer).await {
        let reaction = script.lock().unwrap().pop_front().unwrap_or(Reaction::Status(200));
        if sender.send(request).is_err() || react(&mut stream, reaction).await.is_err() {
            return;
        }
    }
}

async fn read(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> io::Result<Option<Request>> {
    loop {
        if let Some(end) = buffer.windows(4).position(|four| four == b"\r\n\r\n") {
            let head = String::from_utf8(buffer[..end].to_vec()).map_err(io::Error::other)?;
            let mut lines = head.lines();
            let path = lines.next().and_then(|line| line.split(' ').nth(1)).unwrap_or_default().to_owned();
            let headers: Vec<(String, String)> = lines
                .filter_map(|line| line.split_once(':'))
                .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
                .collect();
            let length = headers.iter().find(|(n, _)| n == "content-length").map_or(0, |(_, v)| v.parse().unwrap());
            if buffer.len() >= end + 4 + length {
                let rest = buffer.split_off(end + 4 + length);
                let body = std::mem::replace(buffer, rest).split_off(end + 4);
                return Ok(Some(Request { path, headers, body }));
            }
        }
        if stream.read_buf(buffer).await? == 0 {
            return Ok(None);
        }
    }
}

async fn react(stream: &mut TcpStream, reaction: Reaction) -> io::Result<()> {
    const LONG: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 1000000000000\r\n\r\n";
    match reaction {
        Reaction::Status(status) => plain(stream, status, "").await,
        Reaction::With(status, lines) => plain(stream, status, &lines).await,
        Reaction::Says(text) => {
            let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", text.len());
            stream.write_all(head.as_bytes()).await?;
            // Later than the head, as a body may come.
            tokio::time::sleep(Duration::from_millis(20)).await;
            stream.write_all(text.as_bytes()).await
        }
        Reaction::Leave => {
            plain(stream, 200, "").await?;
            Err(io::Error::other("left"))
        }
        Reaction::Hang => std::future::pending().await,
        Reaction::DripHead => {
            stream.write_all(b"HTTP/1.1 200 OK\r\nx-drip: ").await?;
            drip(stream).await
        }
        Reaction::DripBody => {
            stream.write_all(LONG).await?;
            drip(stream).await
        }
        Reaction::Endless => {
            stream.write_all(LONG).await?;
            loop {
                stream.write_all(&[b'x'; 16 * 1024]).await?;
            }
        }
        Reaction::Cut => {
            stream.write_all(b"HTTP/1.1 20").await?;
            Err(io::Error::other("cut"))
        }
        Reaction::Gate(gate) => {
            gate.acquire().await.map_err(io::Error::other)?.forget();
            plain(stream, 200, "").await
        }
    }
}

async fn plain(stream: &mut TcpStream, status: u16, lines: &str) -> io::Result<()> {
    stream.write_all(format!("HTTP/1.1 {status} Whatever\r\n{lines}content-length: 0\r\n\r\n").as_bytes()).await
}

async fn drip(stream: &mut TcpStream) -> io::Result<()> {
    loop {
        stream.write_all(b"x").await?;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
