//! Connections to one receiver that wait to be used again.

use super::connection::Connection;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// Idle connections are given up before most receivers give them up themselves.
const IDLE: Duration = Duration::from_secs(20);

/// Idle connections, the one that was used last at the end.
pub(super) struct Idle {
    waiting: Mutex<Vec<(Connection, Instant)>>,
    /// More are not kept.
    most: usize,
}

impl Idle {
    /// Keeps so many at most.
    pub(super) fn new(most: usize) -> Self {
        Self { waiting: Mutex::default(), most }
    }

    /// The connection that was used last: the others may become old enough to be closed.
    pub(super) fn take(&self) -> Option<Connection> {
        let (connection, since) = self.lock().pop()?;
        (since.elapsed() < IDLE).then_some(connection)
    }

    /// Keeps a connection for the next request.
    pub(super) fn give(&self, connection: Connection) {
        let now = Instant::now();
        let mut waiting = self.lock();
        if waiting.len() < self.most {
            waiting.push((connection, now));
        }
    }

    /// Closes connections that nobody has used for long, or that the other side has ended.
    pub(super) fn tend(&self) {
        let now = Instant::now();
        self.lock().retain_mut(|(connection, since)| now.duration_since(*since) < IDLE && !connection.is_over());
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<(Connection, Instant)>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
