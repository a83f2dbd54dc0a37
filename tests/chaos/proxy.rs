//! What is between a node and its database: a proxy that can be slow, lossy, silent, closed, or cut a connection at the
//! worst moment there is, when the server has committed and nobody was told.
//!
//! One fault at a time, for all connections, changed while they are open.

use crate::node::free_port;
use crate::wire::Commits;
use anyhow::{Context, Result};
use std::io;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::Instant;

/// Pieces on their way in one direction of a connection; more have to wait at their sender.
const WINDOW: usize = 64;

/// Bytes in a piece.
const PIECE: usize = 16 * 1024;

/// What is wrong with the network.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Fault {
    /// Nothing, or what makes a link slow.
    Link(Link),
    /// Bytes vanish both ways, connections stay open, new ones hang. Connections that lost any are reset when it ends:
    /// no stream has holes.
    BlackHole,
    /// The same for a while in which nobody gives up: when it ends, what was held arrives.
    Stall,
    /// Nobody listens. Connections that are open stay.
    Refuse,
    /// Every connection is reset, new ones at once.
    Reset,
    /// Of so many commits of the server one is not told: the connection is reset instead.
    CutCommits(usize),
}

/// What bytes go through. In order, always: it stands for TCP over a bad line, not for the line.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Link {
    /// How long each piece takes, and how much longer it may.
    pub(crate) latency: Duration,
    pub(crate) jitter: Duration,
    /// Of 1, how many pieces are lost, each time they are sent; each loss costs a retransmission's delay, which doubles.
    pub(crate) loss: f64,
    /// Of 1, how many pieces are held up for this long.
    pub(crate) spikes: (f64, Duration),
    /// Bytes a second; 0 is any number.
    pub(crate) bandwidth: u32,
}

/// The shortest delay after which TCP on Linux sends again.
const AGAIN: Duration = Duration::from_millis(200);

impl Link {
    /// When a piece arrives that is sent now, behind one that arrives at `before`.
    pub(crate) fn arrival(&self, now: Instant, before: Instant, bytes: usize, random: &mut fastrand::Rng) -> Instant {
        let mut delay = self.latency + self.jitter.mul_f64(random.f64());
        let mut again = AGAIN;
        while again < AGAIN * 16 && random.f64() < self.loss {
            delay += again;
            again *= 2;
        }
        if random.f64() < self.spikes.0 {
            delay += self.spikes.1;
        }
        let from = (now + delay).max(before);
        let bytes = f64::from(u32::try_from(bytes).unwrap_or(u32::MAX));
        let takes = if self.bandwidth == 0 { 0.0 } else { bytes / f64::from(self.bandwidth) };
        from + Duration::from_secs_f64(takes)
    }
}

/// What is wrong, and the number of times that all connections were cut.
#[derive(Clone, Copy, Debug)]
struct State {
    fault: Fault,
    cuts: usize,
}

struct Shared {
    target: u16,
    state: watch::Sender<State>,
    /// Bytes to clients until the connection that carries the last of them is reset; `u64::MAX` is never.
    allowance: AtomicU64,
    /// Commits that the server told of, and those that no client heard of.
    commits: AtomicUsize,
    untold: AtomicUsize,
}

/// A proxy, listening until it is dropped.
pub(crate) struct Proxy {
    port: u16,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

impl Proxy {
    /// Before the server that listens there, or will.
    pub(crate) fn start(target: u16) -> Result<Self> {
        let port = free_port()?;
        let shared = Arc::new(Shared {
            target,
            state: watch::Sender::new(State { fault: Fault::Link(Link::default()), cuts: 0 }),
            allowance: AtomicU64::new(u64::MAX),
            commits: AtomicUsize::new(0),
            untold: AtomicUsize::new(0),
        });
        let listener = listen(port).context("the proxy cannot listen")?;
        let task = tokio::spawn(accept(listener, port, shared.clone()));
        Ok(Self { port, shared, task })
    }

    /// Where it listens.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// What is wrong from now on.
    pub(crate) fn set(&self, fault: Fault) {
        self.shared.state.send_modify(|state| state.fault = fault);
    }

    /// Nothing is wrong any more.
    pub(crate) fn heal(&self) {
        self.set(Fault::Link(Link::default()));
    }

    /// Resets every connection that is open.
    pub(crate) fn cut(&self) {
        self.shared.state.send_modify(|state| state.cuts += 1);
    }

    /// Resets, once, the connection that carries this byte to a client, counted from now.
    pub(crate) fn cut_after(&self, bytes: u64) {
        self.shared.allowance.store(bytes, Ordering::Release);
    }

    /// How many commits no client was told of.
    pub(crate) fn untold(&self) -> usize {
        self.shared.untold.load(Ordering::Acquire)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn listen(port: u16) -> io::Result<TcpListener> {
    let socket = TcpSocket::new_v4()?;
    // It comes back to its port while old connections of it are still on their way out.
    socket.set_reuseaddr(true)?;
    socket.bind((Ipv4Addr::LOCALHOST, port).into())?;
    socket.listen(128)
}

async fn accept(listener: TcpListener, port: u16, shared: Arc<Shared>) {
    let mut state = shared.state.subscribe();
    let mut listener = Some(listener);
    let mut connections = JoinSet::new();
    loop {
        if matches!(state.borrow_and_update().fault, Fault::Refuse) {
            listener = None;
        } else if listener.is_none() {
            // Its port stays its own: outgoing connections do not get one from there.
            listener = listen(port).ok();
        }
        tokio::select! {
            changed = state.changed() => if changed.is_err() { return },
            Some(_) = connections.join_next(), if !connections.is_empty() => {}
            accepted = accepted(listener.as_ref()) => if let Ok(client) = accepted {
                connections.spawn(carry(client, shared.clone()));
            },
        }
    }
}

async fn accepted(listener: Option<&TcpListener>) -> io::Result<TcpStream> {
    match listener {
        Some(listener) => listener.accept().await.map(|(client, _)| client),
        None => std::future::pending().await,
    }
}

/// One connection, until an end of it closes or the proxy cuts it.
async fn carry(client: TcpStream, shared: Arc<Shared>) {
    let mut state = shared.state.subscribe();
    let opened = *state.borrow_and_update();
    if opened.fault == Fault::BlackHole {
        // Whoever still waits when it ends learns that nobody knows of him.
        state.wait_for(|now| now.fault != Fault::BlackHole).await.ok();
        client.set_zero_linger().ok();
        return;
    }
    let Ok(server) = TcpStream::connect((Ipv4Addr::LOCALHOST, shared.target)).await else {
        client.set_zero_linger().ok();
        return;
    };
    // Latency is made here, and nowhere else.
    client.set_nodelay(true).ok();
    server.set_nodelay(true).ok();
    let lost = AtomicBool::new(false);
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let (mut up, mut down) = (to_server, to_client);
    let is_reset = {
        let forth = pump(from_client, &mut up, &shared, &lost, None);
        let back = pump(from_server, &mut down, &shared, &lost, Some(Commits::default()));
        let cut = async {
            let over = |now: &State| {
                let silent = now.fault == Fault::BlackHole;
                now.cuts > opened.cuts || now.fault == Fault::Reset || (lost.load(Ordering::Acquire) && !silent)
            };
            state.wait_for(over).await.ok();
        };
        tokio::select! {
            () = cut => true,
            ended = async { tokio::try_join!(forth, back) } => ended.is_err(),
        }
    };
    if is_reset {
        for half in [down, up] {
            half.as_ref().set_zero_linger().ok();
            // Dropped, it would end its stream in good order first.
            half.forget();
        }
    }
}

/// One direction: what is read now is written when it arrives. An error of either side, or a cut, ends the connection.
async fn pump(
    mut from: OwnedReadHalf,
    to: &mut OwnedWriteHalf,
    shared: &Shared,
    lost: &AtomicBool,
    mut commits: Option<Commits>,
) -> io::Result<()> {
    let (sent, mut arriving) = mpsc::channel::<(Instant, Vec<u8>)>(WINDOW);
    let reading = async {
        let sent = sent;
        let mut random = fastrand::Rng::new();
        let mut before = Instant::now();
        let mut piece = vec![0; PIECE];
        loop {
            let read = from.read(&mut piece).await?;
            if read == 0 {
                return io::Result::Ok(());
            }
            if let Fault::Link(link) = shared.state.borrow().fault {
                before = link.arrival(Instant::now(), before, read, &mut random);
            }
            if sent.send((before, piece[..read].to_vec())).await.is_err() {
                return Ok(());
            }
        }
    };
    let writing = async {
        let mut state = shared.state.subscribe();
        while let Some((at, piece)) = arriving.recv().await {
            tokio::time::sleep_until(at).await;
            let fault = state.wait_for(|now| now.fault != Fault::Stall).await.map_err(io::Error::other)?.fault;
            if fault == Fault::BlackHole {
                lost.store(true, Ordering::Release);
                continue;
            }
            if let Some(commits) = &mut commits {
                if is_cut(commits.count(&piece), fault, shared) {
                    return Err(io::ErrorKind::ConnectionReset.into());
                }
                if let Some(rest) = overdrawn(&shared.allowance, piece.len()) {
                    to.write_all(&piece[..rest]).await?;
                    return Err(io::ErrorKind::ConnectionReset.into());
                }
            }
            to.write_all(&piece).await?;
        }
        // The end of a stream goes the same way.
        state.wait_for(|now| !matches!(now.fault, Fault::Stall | Fault::BlackHole)).await.map_err(io::Error::other)?;
        to.shutdown().await
    };
    tokio::try_join!(reading, writing).map(|_| ())
}

/// Whether the piece that tells of these commits is the one that is not told.
fn is_cut(commits: usize, fault: Fault, shared: &Shared) -> bool {
    if commits == 0 {
        return false;
    }
    let before = shared.commits.fetch_add(commits, Ordering::AcqRel);
    let Fault::CutCommits(every) = fault else { return false };
    let cut = (before + commits) / every > before / every;
    if cut {
        shared.untold.fetch_add(commits, Ordering::AcqRel);
    }
    cut
}

/// When the allowance ends within so many bytes: after how many. It then begins anew, without an end.
fn overdrawn(allowance: &AtomicU64, bytes: usize) -> Option<usize> {
    let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
    let spend = |left: u64| match left {
        u64::MAX => None,
        left if left > bytes => Some(left - bytes),
        _ => Some(u64::MAX),
    };
    let before = allowance.fetch_update(Ordering::AcqRel, Ordering::Acquire, spend).ok()?;
    usize::try_from(before).ok().filter(|_| before <= bytes)
}
