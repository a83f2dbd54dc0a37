//! The load generator: 64 keep-alive connections, closed loop (the next request when the answer is there) or open loop
//! (requests are due at fixed times, whatever the answers do, and latency counts from the time a request was due).

use crate::payload::Requests;
use crate::wire;
use anyhow::{Context, Result, ensure};
use std::cell::{Cell, RefCell};
use std::io::{Read as _, Write as _};
use std::num::NonZeroU64;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::task::LocalSet;
use tokio::time::Instant;

/// Connections at once.
pub(crate) const CONNECTIONS: usize = 64;

/// An answer that takes longer is none.
const PATIENCE: Duration = Duration::from_secs(30);

/// What became of a load.
pub(crate) struct Outcome {
    /// When it began.
    pub(crate) began: Instant,
    /// How long it took until the last answer.
    pub(crate) took: Duration,
    /// Answers 200.
    pub(crate) taken: usize,
    /// Other answers.
    pub(crate) refused: usize,
    /// Of those that were taken, in microseconds.
    pub(crate) latencies: Vec<u32>,
}

impl Outcome {
    /// Requests answered 200 in a second.
    pub(crate) fn rate(&self) -> f64 {
        self.taken as f64 / self.took.as_secs_f64()
    }
}

/// What the connections of a closed loop share.
struct Closed {
    port: u16,
    requests: Arc<Requests>,
    next: Cell<usize>,
    end: Cell<Instant>,
    refused: Cell<usize>,
    latencies: RefCell<Vec<u32>>,
}

/// As many requests as are answered within `time`, or all there are.
pub(crate) fn closed(port: u16, requests: Arc<Requests>, time: Duration) -> Result<Outcome> {
    let thread = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let latencies = RefCell::new(Vec::with_capacity(requests.len()));
        let closed = Closed {
            port,
            requests,
            next: Cell::new(0),
            end: Cell::new(Instant::now()),
            refused: Cell::new(0),
            latencies,
        };
        LocalSet::new().block_on(&runtime, run_closed(Rc::new(closed), time))
    });
    thread.join().map_err(|_| anyhow::anyhow!("the load generator broke"))?
}

async fn run_closed(closed: Rc<Closed>, time: Duration) -> Result<Outcome> {
    let mut streams = Vec::with_capacity(CONNECTIONS);
    for _ in 0..CONNECTIONS {
        let stream = tokio::net::TcpStream::connect(("127.0.0.1", closed.port)).await.context("cannot connect")?;
        stream.set_nodelay(true)?;
        streams.push(stream);
    }
    let began = Instant::now();
    closed.end.set(began + time);
    let tasks: Vec<_> = streams.into_iter().map(|s| tokio::task::spawn_local(one_closed(closed.clone(), s))).collect();
    for task in tasks {
        tokio::time::timeout(time + PATIENCE, task).await.context("no answer came")???;
    }
    let took = began.elapsed();
    let latencies = closed.latencies.take();
    Ok(Outcome { began, took, taken: latencies.len(), refused: closed.refused.get(), latencies })
}

async fn one_closed(closed: Rc<Closed>, mut stream: tokio::net::TcpStream) -> Result<()> {
    let mut buffer = Vec::with_capacity(4096);
    loop {
        let sent = Instant::now();
        let index = closed.next.get();
        let Some(request) = closed.requests.get(index).filter(|_| sent < closed.end.get()) else { return Ok(()) };
        closed.next.set(index + 1);
        stream.write_all(request).await?;
        buffer.clear();
        while wire::frame(&buffer).is_none() {
            ensure!(stream.read_buf(&mut buffer).await? > 0, "the connection was closed");
        }
        if wire::status(&buffer) == 200 {
            closed.latencies.borrow_mut().push(micros(sent.elapsed()));
        } else {
            closed.refused.set(closed.refused.get() + 1);
        }
    }
}

/// Every request at its time, `rate` of them a second. A thread for each connection, because the system wakes threads
/// far more exactly than an event loop's timer does.
pub(crate) fn open(port: u16, requests: &Arc<Requests>, rate: f64) -> Result<Outcome> {
    let next = Arc::new(AtomicUsize::new(0));
    let mut streams = Vec::with_capacity(CONNECTIONS);
    for _ in 0..CONNECTIONS {
        let stream = std::net::TcpStream::connect(("127.0.0.1", port)).context("cannot connect")?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        streams.push(stream);
    }
    let began = Instant::now() + Duration::from_millis(20);
    let threads: Vec<_> = streams
        .into_iter()
        .map(|stream| {
            let (next, requests) = (next.clone(), requests.clone());
            std::thread::spawn(move || one_open(stream, &requests, &next, began, rate))
        })
        .collect();
    let (mut refused, mut latencies) = (0, Vec::with_capacity(requests.len()));
    for thread in threads {
        let (not, its) = thread.join().map_err(|_| anyhow::anyhow!("the load generator broke"))??;
        refused += not;
        latencies.extend(its);
    }
    Ok(Outcome { began, took: began.elapsed(), taken: latencies.len(), refused, latencies })
}

/// When the request `index` is due.
pub(crate) fn due(began: Instant, index: usize, rate: f64) -> Instant {
    began + Duration::from_secs_f64(index as f64 / rate)
}

fn one_open(
    mut stream: std::net::TcpStream,
    requests: &Requests,
    next: &AtomicUsize,
    began: Instant,
    rate: f64,
) -> Result<(usize, Vec<u32>)> {
    // The system lets sleepers oversleep by 50 µs, to wake several at once.
    rustix::thread::set_current_timer_slack(NonZeroU64::new(1_000)).ok();
    let mut buffer = vec![0; 4096];
    let (mut refused, mut latencies) = (0, Vec::new());
    loop {
        let index = next.fetch_add(1, Ordering::Relaxed);
        let Some(request) = requests.get(index) else { return Ok((refused, latencies)) };
        let due = due(began, index, rate);
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        stream.write_all(request)?;
        let mut filled = 0;
        while wire::frame(&buffer[..filled]).is_none() {
            let read = stream.read(&mut buffer[filled..]).context("no answer came")?;
            ensure!(read > 0, "the connection was closed");
            filled += read;
        }
        if wire::status(&buffer) == 200 {
            latencies.push(micros(due.elapsed()));
        } else {
            refused += 1;
        }
    }
}

/// Microseconds, as a number that holds an hour of them.
pub(crate) fn micros(duration: Duration) -> u32 {
    u32::try_from(duration.as_micros()).unwrap_or(u32::MAX)
}
