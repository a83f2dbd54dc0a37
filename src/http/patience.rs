//! How long a connection may take to say what it wants, and we to answer.
//!
//! hyper has one timer for the head of a request and for the silence before it. But the two need different times: a
//! head that trickles in must be cut off soon, while an idle connection must outlive the load balancer's own idle
//! time, or requests meet a closing connection, and a provider that does not repeat them loses them.
//!
//! A timer that is set up and taken down for every request takes the runtime's lock each time. So each connection has
//! two that stay, and are only moved: one for its peer ([`Watch`]) and one for us ([`Timer`]).

use std::io;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep, sleep_until};

/// The head of a request is awaited or arriving; its time runs.
const HEAD: u32 = 0;
/// A request is being answered.
const BUSY: u32 = 1;
/// Between two requests: the next byte begins a head.
const IDLE: u32 = 2;
/// The bits of the above; the others count how often it has changed.
const WHICH: u32 = 3;

/// What a connection is about, shared between its bytes, its service and its [`Watch`].
#[derive(Clone, Debug, Default)]
pub(super) struct Phase(Arc<AtomicU32>);

impl Phase {
    /// A head is complete: its request is being answered.
    pub(super) fn busy(&self) {
        self.set(BUSY);
    }

    /// The request was answered.
    pub(super) fn idle(&self) {
        self.set(IDLE);
    }

    /// Only one task works on a connection, so that nothing comes between reading and writing.
    fn set(&self, phase: u32) {
        let changes = (self.get() & !WHICH).wrapping_add(WHICH + 1);
        self.0.store(changes | phase, Ordering::Release);
    }

    fn get(&self) -> u32 {
        self.0.load(Ordering::Acquire)
    }
}

/// How many idle connections are in the way of others, shared between whoever accepts and every [`Watch`].
#[derive(Clone, Debug, Default)]
pub(super) struct Crowd(Arc<AtomicUsize>);

impl Crowd {
    /// That many idle connections are to go; zero, when there is room again.
    pub(super) fn send_away(&self, count: usize) {
        self.0.store(count, Ordering::Relaxed);
    }

    /// Whether whoever asks is one of those that are to go.
    fn is_my_turn(&self) -> bool {
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |count| count.checked_sub(1)).is_ok()
    }
}

/// How long a connection's peer may take.
#[derive(Clone, Copy, Debug)]
pub(super) struct Times {
    /// For a request's head.
    pub(super) head: Duration,
    /// Between two requests.
    pub(super) idle: Duration,
    /// Between two requests, when others wait for its place; that often it looks whether they do.
    pub(super) look: Duration,
}

/// Sees to it that the heads of a connection are complete within a time, the first one counted from the connection's
/// beginning, further ones from their first byte; that no silence between them is longer than another; and that a
/// silent connection goes when others wait for its place.
pub(super) struct Watch {
    phase: Phase,
    seen: u32,
    times: Times,
    deadline: Instant,
    /// Of an idle connection: when it looks whether it is in the way.
    look: Instant,
    crowd: Crowd,
    sleep: Pin<Box<Sleep>>,
}

impl Watch {
    /// `phase` is what the connection's bytes and service tell of it.
    pub(super) fn new(phase: Phase, times: Times, crowd: Crowd) -> Self {
        let deadline = Instant::now() + times.head;
        let sleep = Box::pin(sleep_until(deadline));
        Self { seen: phase.get(), phase, times, deadline, look: deadline, crowd, sleep }
    }

    /// Until the connection is done, or its peer has taken too long.
    pub(super) async fn over<F: Future>(mut self, connection: F) {
        let mut connection = pin!(connection);
        std::future::poll_fn(|cx| {
            if connection.as_mut().poll(cx).is_ready() { Poll::Ready(()) } else { self.poll_late(cx) }
        })
        .await;
    }

    fn poll_late(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let now = self.phase.get();
        if now != self.seen {
            self.seen = now;
            match now & WHICH {
                HEAD => self.deadline = Instant::now() + self.times.head,
                IDLE => {
                    let began = Instant::now();
                    self.deadline = began + self.times.idle;
                    self.look = began + self.times.look;
                }
                _ => {}
            }
        }
        match now & WHICH {
            BUSY => Poll::Pending,
            HEAD => poll_until(&mut self.sleep, self.deadline, cx),
            _ => self.poll_idle(cx),
        }
    }

    fn poll_idle(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            let next = self.deadline.min(self.look);
            ready!(poll_until(&mut self.sleep, next, cx));
            if next == self.deadline || self.crowd.is_my_turn() {
                return Poll::Ready(());
            }
            self.look = Instant::now() + self.times.look;
        }
    }
}

/// Ready when it is `deadline`. `sleep` may have been set for another time: an earlier one is only moved when it comes,
/// because most deadlines are given up long before they are reached.
fn poll_until(sleep: &mut Pin<Box<Sleep>>, deadline: Instant, cx: &mut Context<'_>) -> Poll<()> {
    if sleep.deadline() > deadline {
        sleep.as_mut().reset(deadline);
    }
    loop {
        ready!(sleep.as_mut().poll(cx));
        if sleep.deadline() >= deadline {
            return Poll::Ready(());
        }
        sleep.as_mut().reset(deadline);
    }
}

/// A connection's timer for what we do ourselves.
#[derive(Clone, Default)]
pub(super) struct Timer(Arc<Mutex<Option<Pin<Box<Sleep>>>>>);

impl Timer {
    /// The outcome of `work`; `None` when there was none within `limit`. Work that is done at once costs no timer.
    pub(super) fn within<F: Future + Unpin>(&self, limit: Duration, work: F) -> Within<'_, F> {
        Within { timer: self, limit, work, running: None }
    }

    fn kept(&self) -> MutexGuard<'_, Option<Pin<Box<Sleep>>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// See [`Timer::within`].
pub(super) struct Within<'t, F> {
    timer: &'t Timer,
    limit: Duration,
    work: F,
    running: Option<(Instant, Pin<Box<Sleep>>)>,
}

impl<F: Future + Unpin> Future for Within<'_, F> {
    type Output = Option<F::Output>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<F::Output>> {
        let Self { timer, limit, work, running } = &mut *self;
        if let Poll::Ready(done) = Pin::new(work).poll(cx) {
            return Poll::Ready(Some(done));
        }
        let (deadline, sleep) = running.get_or_insert_with(|| {
            let deadline = Instant::now() + *limit;
            (deadline, timer.kept().take().unwrap_or_else(|| Box::pin(sleep_until(deadline))))
        });
        poll_until(sleep, *deadline, cx).map(|()| None)
    }
}

impl<F> Drop for Within<'_, F> {
    fn drop(&mut self) {
        if let Some((_, sleep)) = self.running.take() {
            *self.timer.kept() = Some(sleep);
        }
    }
}

/// The bytes of a connection, which tell when a head begins.
pub(super) struct Bytes {
    stream: TcpStream,
    phase: Phase,
}

impl Bytes {
    /// `phase` is what the connection's service tells of it.
    pub(super) fn new(stream: TcpStream, phase: Phase) -> Self {
        Self { stream, phase }
    }
}

impl AsyncRead for Bytes {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buf);
        if buf.filled().len() > before && self.phase.get() & WHICH == IDLE {
            self.phase.set(HEAD);
        }
        read
    }
}

impl AsyncWrite for Bytes {
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

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::sleep;

    const SHORT: Duration = Duration::from_millis(40);
    const LONG: Duration = Duration::from_mins(10);

    #[tokio::test]
    async fn work_has_its_time_whatever_the_timer_was_set_for_before() {
        let timer = Timer::default();
        for (limit, work) in [(LONG, SHORT), (SHORT, LONG), (SHORT, LONG), (LONG, SHORT * 2), (SHORT, LONG)] {
            let began = Instant::now();
            let done = timer.within(limit, pin!(sleep(work))).await;
            assert_eq!(done.is_some(), work < limit, "{work:?} within {limit:?}");
            assert!(began.elapsed() >= limit.min(work) && began.elapsed() < LONG, "{:?}", began.elapsed());
        }
        assert_eq!(timer.within(Duration::ZERO, pin!(async { 7 })).await, Some(7), "what is done at once has no limit");
    }

    type Set = fn(&Phase);

    /// Whether a connection is ended that has these phases, each for some time.
    async fn is_ended(head: Duration, idle: Duration, phases: &[(Set, Duration)]) -> bool {
        let phase = Phase::default();
        let mut is_done = false;
        let connection = async {
            for (set, time) in phases {
                set(&phase);
                sleep(*time).await;
            }
            is_done = true;
        };
        Watch::new(phase.clone(), Times { head, idle, look: SHORT }, Crowd::default()).over(connection).await;
        !is_done
    }

    #[tokio::test]
    async fn heads_and_silences_have_times_of_their_own_and_answers_have_none() {
        let (new, head): (Set, Set) = (|_| {}, |phase| phase.set(HEAD));
        let (busy, idle): (Set, Set) = (Phase::busy, Phase::idle);
        assert!(is_ended(SHORT, LONG, &[(new, LONG)]).await);
        assert!(is_ended(SHORT, LONG, &[(busy, SHORT), (idle, SHORT * 2), (head, LONG)]).await);
        assert!(is_ended(LONG, SHORT, &[(new, SHORT * 2), (busy, SHORT * 2), (idle, LONG)]).await);
        assert!(!is_ended(SHORT, SHORT, &[(busy, SHORT * 4)]).await);
        assert!(!is_ended(LONG, SHORT, &[(new, SHORT * 2), (busy, SHORT * 2), (head, SHORT * 2)]).await);
        assert!(!is_ended(SHORT, LONG, &[(busy, SHORT * 2), (idle, SHORT * 2), (busy, SHORT * 2)]).await);
    }

    #[tokio::test]
    async fn only_idle_connections_make_room_and_no_more_than_are_wanted() {
        let (times, crowd) = (Times { head: LONG, idle: LONG, look: SHORT }, Crowd::default());
        let mut watched = tokio::task::JoinSet::new();
        let sets: [Set; 6] = [|_| {}, Phase::busy, Phase::idle, Phase::idle, Phase::idle, Phase::idle];
        for (number, set) in sets.into_iter().enumerate() {
            let phase = Phase::default();
            let watch = Watch::new(phase.clone(), times, crowd.clone());
            set(&phase);
            watched.spawn(async move {
                watch.over(std::future::pending::<()>()).await;
                number
            });
        }
        sleep(SHORT * 3).await;
        assert!(watched.try_join_next().is_none(), "nobody is in the way");
        crowd.send_away(2);
        for _ in 0..2 {
            assert!(watched.join_next().await.unwrap().unwrap() >= 2);
        }
        sleep(SHORT * 3).await;
        assert!(watched.try_join_next().is_none(), "two were enough");
        crowd.send_away(100);
        for _ in 0..2 {
            assert!(watched.join_next().await.unwrap().unwrap() >= 2);
        }
        sleep(SHORT * 3).await;
        assert!(watched.try_join_next().is_none(), "nobody is sent away before the answer");
        crowd.send_away(0);
        assert!(!crowd.is_my_turn());
    }
}
