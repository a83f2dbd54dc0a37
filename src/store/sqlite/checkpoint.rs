//! Copying the log back into the database, off the commit path.
//!
//! SQLite's own checkpoint runs inside a commit and doubles its worst latencies. Here a second connection copies
//! pages back while commits go on; only when the log has grown past its bound is the writer asked to start it again.
//! While commits go on SQLite does not sync what is copied, and would leave all of it to whoever starts the log again, so
//! it is synced here.

use super::writer::CHECKPOINT_EVERY;
use rusqlite::Connection;
use std::fs::File;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};

/// Bytes after which the log starts again.
const LOG_BYTES: i64 = 32 * 1024 * 1024;

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Need {
    #[default]
    Nothing,
    Copy,
    Stop,
}

/// Wakes the checkpointing thread.
#[derive(Default)]
pub(super) struct Bell {
    need: Mutex<Need>,
    rung: Condvar,
}

impl Bell {
    /// Something was committed.
    pub(super) fn ring(&self) {
        self.set(Need::Copy);
    }

    /// There will be no more commits.
    pub(super) fn stop(&self) {
        self.set(Need::Stop);
    }

    fn set(&self, need: Need) {
        let mut now = self.need.lock().unwrap_or_else(PoisonError::into_inner);
        if *now == Need::Nothing || need == Need::Stop {
            *now = need;
            self.rung.notify_one();
        }
    }

    /// Waits until there is something to copy; `false` when it is over.
    fn wait(&self) -> bool {
        let mut now = self.need.lock().unwrap_or_else(PoisonError::into_inner);
        while *now == Need::Nothing {
            now = self.rung.wait(now).unwrap_or_else(PoisonError::into_inner);
        }
        if *now == Need::Stop {
            return false;
        }
        *now = Need::Nothing;
        true
    }
}

/// The database's file, opened once more. Closing it anywhere takes away the locks that SQLite holds on it in this
/// process, so whoever has a connection has this too, and lets go of it last.
pub(super) type Opened = Arc<File>;

/// Starts the thread on a connection of its own.
pub(super) fn start(
    connection: Connection,
    file: Opened,
    bell: Arc<Bell>,
    restart_log: Arc<AtomicBool>,
) -> std::io::Result<std::thread::JoinHandle<()>> {
    std::thread::Builder::new().name("store-checkpoint".to_owned()).spawn(move || {
        let page: i64 = connection.query_row("PRAGMA page_size", [], |r| r.get(0)).unwrap_or(4096);
        while bell.wait() {
            // Commits of the next moments are copied together.
            std::thread::sleep(CHECKPOINT_EVERY);
            // An error (disk full, say) leaves the pages in the log, where they are safe; the next round tries again.
            let frames: i64 =
                connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |r| r.get(1)).unwrap_or_default();
            // What cannot be synced now is synced before the log starts again, and if not, it does not.
            file.sync_data().ok();
            if frames.saturating_mul(page) > LOG_BYTES {
                restart_log.store(true, Ordering::Release);
            }
        }
        drop(connection);
        drop(file);
    })
}
