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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::delivery::connection::Stream;
    use tokio::io::AsyncReadExt;
    use tokio::net::{TcpListener, TcpStream};

    async fn connection(listener: &TcpListener) -> (Connection, TcpStream) {
        let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let Ok(connection) = Connection::new(Stream::Left(stream)).await else { panic!("no connection") };
        (connection, listener.accept().await.unwrap().0)
    }

    /// Whether our side has closed it.
    async fn is_closed(mut other: TcpStream) -> bool {
        let read = tokio::time::timeout(Duration::from_millis(200), other.read_u8()).await;
        read.is_ok()
    }

    #[tokio::test]
    async fn as_many_are_kept_as_may_be_and_only_while_they_are_good() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let idle = Idle::new(3);
        let (first, left) = connection(&listener).await;
        let (second, kept) = connection(&listener).await;
        let (third, old) = connection(&listener).await;
        let (fourth, refused) = connection(&listener).await;
        idle.lock().push((third, Instant::now().checked_sub(IDLE).unwrap()));
        idle.give(first);
        idle.give(second);
        idle.give(fourth);
        assert!(is_closed(refused).await, "three are enough");
        drop(left);
        // Its end takes a moment to arrive.
        let tended = async {
            while idle.lock().len() > 1 {
                tokio::task::yield_now().await;
                idle.tend();
            }
        };
        tokio::time::timeout(Duration::from_secs(10), tended).await.ok();
        assert_eq!(idle.lock().len(), 1, "one was ended by the other side, one is old");
        assert!(is_closed(old).await);
        assert!(idle.take().is_some());
        assert!(idle.take().is_none());
        assert!(is_closed(kept).await, "it was not given back");
    }

    #[tokio::test]
    async fn an_old_one_is_not_used() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let idle = Idle::new(1);
        let (connection, other) = connection(&listener).await;
        idle.lock().push((connection, Instant::now().checked_sub(IDLE).unwrap()));
        assert!(idle.take().is_none());
        assert!(is_closed(other).await);
    }
}
