//! How the process is told to end, and how it ends.
//!
//! The first signal drains: readiness fails, no new work is begun, what is under way finishes. A second signal, or
//! the end of the drain's time, drops the rest; nothing acknowledged is lost by that.

use std::io;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// The two stages of ending.
#[derive(Clone, Debug, Default)]
pub struct Shutdown {
    /// No new work.
    pub drain: CancellationToken,
    /// No work at all.
    pub halt: CancellationToken,
}

impl Shutdown {
    /// Follows SIGTERM and SIGINT: the first drains, the second halts.
    pub fn on_signals() -> io::Result<Self> {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let shutdown = Self::default();
        let follow = shutdown.clone();
        tokio::spawn(async move {
            for stage in [&follow.drain, &follow.halt] {
                tokio::select! {
                    _ = terminate.recv() => {}
                    _ = interrupt.recv() => {}
                }
                stage.cancel();
            }
        });
        Ok(shutdown)
    }
}

/// Makes a write past a file-size limit an error instead of the end of the process, so that it can be answered and
/// survived like a full disk.
pub fn survive_file_size_limit() -> io::Result<()> {
    // Installing any handler is enough; nobody has to listen. 25 is SIGXFSZ on every Linux and BSD.
    signal(SignalKind::from_raw(25)).map(drop)
}
