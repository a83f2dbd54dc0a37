//! HTTP in: axum stops here.

mod brake;
pub mod error;
pub mod health;
mod patience;
pub mod receiver;
pub mod request_id;
pub mod routes;
pub mod server;
pub mod webhook;

use crate::domain::time::Clock;
use crate::ingest::Ingest;
use crate::metrics::Metrics;
use crate::store::Store;
use health::Trouble;
pub use routes::router;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use webhook::Budget;

/// What the gateway's routes work with.
pub struct Gateway {
    /// Where webhooks go.
    pub ingest: Ingest,
    /// What readiness and metrics ask.
    pub store: Arc<dyn Store>,
    /// What is counted.
    pub metrics: Metrics,
    /// What time it is.
    pub clock: Clock,
    /// Largest body accepted, in bytes.
    pub max_body_bytes: usize,
    /// Longest time for a body to arrive.
    pub body_timeout: Duration,
    /// Longest time for a commit.
    pub commit_timeout: Duration,
    /// Bytes of bodies in memory.
    pub budget: Budget,
    /// The latest webhook that could not be kept.
    pub trouble: Trouble,
    /// Set when the process is about to end.
    pub draining: CancellationToken,
}
