//! What waits for a transaction, and which flusher takes it when.
//!
//! One flusher is enough while the database answers quickly: whatever gathers meanwhile goes together, and large batches
//! cost far less than small ones. Another one helps when much waits, so that a bigger database is used, or when the
//! transactions under way take long, so that a lock or a slow disk holds up nobody else for long.

use super::flush::{BATCH, Flush};
use crate::store::StoreError;
use std::collections::{HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, Semaphore, oneshot};
use tokio::time::{Instant, timeout_at};

/// So many items are worth a transaction beside those under way: half of what 64 busy connections have in hand, so that
/// one half is taken in while the database works on the other.
const WORTH: usize = 32;

/// How many items that cannot go yet are passed in looking for others.
const LOOKS: usize = 1024;

/// A transaction that takes longer than that is waited for by nobody who need not.
const SLOW: Duration = Duration::from_millis(15);

type Reply<A> = oneshot::Sender<Result<A, StoreError>>;

/// The way into the queue; it is closed when this is gone.
pub(super) struct Queue<F: Flush>(Arc<Line<F>>);

/// What flushers share.
pub(super) struct Line<F: Flush> {
    pub(super) flush: Arc<F>,
    waiting: Mutex<Waiting<F>>,
    /// Something has come that an idle flusher should look at.
    came: Notify,
    /// Places for items that wait.
    room: Semaphore,
}

/// An item that waits.
struct Place<F: Flush> {
    item: F::Item,
    way: Option<u64>,
    reply: Reply<F::Answer>,
}

struct Waiting<F: Flush> {
    items: VecDeque<Place<F>>,
    /// Ways of the items in the transactions under way.
    ways: HashSet<u64>,
    busy: usize,
    /// When the latest transaction was begun.
    begun: Instant,
    is_closed: bool,
}

/// Items for one transaction. Their ways are free again when this is gone.
pub(super) struct Batch<F: Flush> {
    pub(super) items: Vec<F::Item>,
    replies: Vec<Reply<F::Answer>>,
    ways: Vec<u64>,
    line: Arc<Line<F>>,
}

pub(super) fn stopped() -> StoreError {
    StoreError::Stopped { detail: "it is closed or read-only".to_owned() }
}

impl<F: Flush> Queue<F> {
    pub(super) fn new(flush: Arc<F>, length: usize) -> Self {
        let (items, ways) = (VecDeque::new(), HashSet::new());
        let waiting = Waiting { items, ways, busy: 0, begun: Instant::now(), is_closed: false };
        let (came, room) = (Notify::new(), Semaphore::new(length));
        Self(Arc::new(Line { flush, waiting: Mutex::new(waiting), came, room }))
    }

    pub(super) fn line(&self) -> Arc<Line<F>> {
        self.0.clone()
    }

    /// Queues an item at once or not at all; the answer comes after its commit.
    pub(super) fn offer(&self, item: F::Item) -> Result<oneshot::Receiver<Result<F::Answer, StoreError>>, StoreError> {
        self.0.room.try_acquire().map_err(|_| StoreError::Overloaded)?.forget();
        self.0.put(item)
    }

    /// Queues an item, waiting for room, and waits for its commit.
    pub(super) async fn submit(&self, item: F::Item) -> Result<F::Answer, StoreError> {
        self.0.room.acquire().await.map_err(|_| stopped())?.forget();
        self.0.put(item)?.await.map_err(|_| stopped())?
    }
}

impl<F: Flush> Drop for Queue<F> {
    fn drop(&mut self) {
        self.0.waiting().is_closed = true;
        self.0.came.notify_waiters();
        // For a flusher that is about to wait.
        self.0.came.notify_one();
    }
}

impl<F: Flush> Line<F> {
    fn waiting(&self) -> MutexGuard<'_, Waiting<F>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn put(&self, item: F::Item) -> Result<oneshot::Receiver<Result<F::Answer, StoreError>>, StoreError> {
        let (reply, answer) = oneshot::channel();
        let way = self.flush.way(&item);
        let count = {
            let mut waiting = self.waiting();
            if waiting.is_closed {
                return Err(stopped());
            }
            waiting.items.push_back(Place { item, way, reply });
            waiting.items.len()
        };
        // In between there is somebody who looks for more by himself: whoever is busy, or waits for those who are.
        if count == 1 || count.is_multiple_of(WORTH) {
            self.came.notify_one();
        }
        Ok(answer)
    }

    /// What goes into the next transaction; `None` when there will be nothing more.
    pub(super) async fn next(self: &Arc<Self>) -> Option<Batch<F>> {
        loop {
            let came = self.came.notified();
            let look_again = {
                let mut waiting = self.waiting();
                if let Some(taken) = waiting.take() {
                    self.room.add_permits(taken.len());
                    let ways = taken.iter().filter_map(|place| place.way).collect();
                    let (items, replies) = taken.into_iter().map(|place| (place.item, place.reply)).unzip();
                    return Some(Batch { items, replies, ways, line: self.clone() });
                }
                // What is left is for those who are busy.
                if waiting.is_closed {
                    self.came.notify_one();
                    return None;
                }
                let now = Instant::now();
                let slow = Some(waiting.begun + SLOW).filter(|at| *at > now);
                (!waiting.items.is_empty()).then(|| slow.unwrap_or(now + SLOW))
            };
            match look_again {
                Some(at) => drop(timeout_at(at, came).await),
                None => came.await,
            }
        }
    }
}

impl<F: Flush> Waiting<F> {
    /// Takes what may go now, if that is worth it.
    fn take(&mut self) -> Option<Vec<Place<F>>> {
        let is_worth = self.busy == 0 || self.items.len() >= WORTH || self.begun.elapsed() >= SLOW || self.is_closed;
        if self.items.is_empty() || !is_worth {
            return None;
        }
        let mut taken = Vec::with_capacity(self.items.len().min(BATCH));
        let mut left = Vec::new();
        while taken.len() < BATCH && left.len() < LOOKS {
            let Some(place) = self.items.pop_front() else { break };
            let is_taken = place.way.is_some_and(|way| self.ways.contains(&way));
            if is_taken { left.push(place) } else { taken.push(place) }
        }
        // They keep their places before all that was not looked at.
        left.into_iter().rev().for_each(|place| self.items.push_front(place));
        if taken.is_empty() {
            return None;
        }
        self.ways.extend(taken.iter().filter_map(|place| place.way));
        self.busy += 1;
        self.begun = Instant::now();
        Some(taken)
    }
}

impl<F: Flush> Batch<F> {
    /// Tells everybody what became of their items.
    pub(super) fn answer(mut self, answers: Vec<Result<F::Answer, StoreError>>) {
        // First the share of memory that they hold, then the answers: the next webhooks may be on their way.
        self.items.clear();
        for (reply, answer) in self.replies.drain(..).zip(answers) {
            // A caller that went away does not need the answer.
            drop(reply.send(answer));
        }
    }
}

impl<F: Flush> Drop for Batch<F> {
    fn drop(&mut self) {
        let mut waiting = self.line.waiting();
        for way in &self.ways {
            waiting.ways.remove(way);
        }
        waiting.busy -= 1;
    }
}

#[cfg(test)]
#[path = "queue_tests.rs"]
mod tests;
