//! Room on the disk. Webhooks are turned away before there is none left, and not only then: what is owed can be delivered as
//! long as it can be written that it was.

use crate::domain::time::Timestamp;
use crate::store::StoreError;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

/// Bytes that are kept for deliveries: twice what the log grows to before it starts over.
const KEPT: u64 = 64 << 20;

/// Of a small disk, one part in so many.
const SHARE: u64 = 20;

/// How often the disk is asked, in microseconds.
const EVERY: u64 = 100_000;

/// What is left of a disk.
pub(super) struct Space {
    /// Bytes that we may still write.
    pub(super) left: u64,
    /// All of it.
    pub(super) size: u64,
}

/// Looks at the disk that a file is on.
pub(super) type Look = fn(&Path) -> io::Result<Space>;

/// Whether there is room for webhooks.
pub(super) struct Room {
    file: PathBuf,
    look: Look,
    looked_at: AtomicI64,
    is_short: AtomicBool,
}

impl Room {
    /// On the disk of `file`.
    pub(super) fn new(file: &Path, look: Look) -> Self {
        let (looked_at, is_short) = (AtomicI64::new(i64::MIN), AtomicBool::new(false));
        Self { file: file.to_owned(), look, looked_at, is_short }
    }

    /// An error when there is none at `now`.
    pub(super) fn check(&self, now: Timestamp) -> Result<(), StoreError> {
        let (now, before) = (now.micros(), self.looked_at.load(Ordering::Relaxed));
        if now.abs_diff(before) >= EVERY
            && self.looked_at.compare_exchange(before, now, Ordering::Relaxed, Ordering::Relaxed).is_ok()
        {
            self.is_short.store(self.look(), Ordering::Relaxed);
        }
        if self.is_short.load(Ordering::Relaxed) {
            return Err(StoreError::Unavailable { detail: "the disk is nearly full".to_owned(), source: None });
        }
        Ok(())
    }

    fn look(&self) -> bool {
        // A disk that cannot be asked is full when it says so.
        (self.look)(&self.file).is_ok_and(|Space { left, size }| {
            let kept = KEPT.min(size / SHARE);
            // A little more before they are taken again: not one, and then none.
            let wanted = if self.is_short.load(Ordering::Relaxed) { kept + kept / 4 } else { kept };
            left < wanted
        })
    }
}

/// Asks the system.
pub(super) fn space(file: &Path) -> io::Result<Space> {
    let disk = rustix::fs::statvfs(file)?;
    let bytes = |blocks: u64| blocks.saturating_mul(disk.f_frsize);
    Ok(Space { left: bytes(disk.f_bavail), size: bytes(disk.f_blocks) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    thread_local! {
        static DISK: Cell<Option<(u64, u64)>> = const { Cell::new(None) };
    }

    /// What a test has put there.
    fn disk(_: &Path) -> io::Result<Space> {
        let disk = DISK.get().map(|(left, size)| Space { left, size });
        disk.ok_or_else(|| io::Error::other("it cannot be asked"))
    }

    #[test]
    fn webhooks_are_turned_away_before_the_disk_is_full_and_taken_again_when_there_is_room() {
        const LARGE: u64 = 100 << 30;
        const SMALL: u64 = 100 << 20;
        let room = Room::new(Path::new("birdwire.db"), disk);
        let mut now = 0;
        for (left, size, is_room) in [
            (KEPT, LARGE, true),
            (KEPT - 1, LARGE, false),
            (KEPT, LARGE, false),
            (KEPT * 5 / 4, LARGE, true),
            (SMALL / SHARE, SMALL, true),
            (SMALL / SHARE - 1, SMALL, false),
            (0, SMALL, false),
            (SMALL, SMALL, true),
            (0, 0, true), // some file systems say so
        ] {
            DISK.set(Some((left, size)));
            now += 100_000;
            assert_eq!(room.check(Timestamp::from_micros(now)).is_ok(), is_room, "{left} of {size}");
        }
        DISK.set(Some((0, SMALL)));
        assert!(room.check(Timestamp::from_micros(now + 99_999)).is_ok(), "it was asked just before");
        let error = room.check(Timestamp::from_micros(now - 100_000)).unwrap_err();
        assert_eq!(error.to_string(), "the store is unavailable: the disk is nearly full", "a clock set back");
        DISK.set(None);
        assert!(room.check(Timestamp::from_micros(now)).is_ok());
    }

    #[test]
    fn the_system_knows_its_disks() {
        let folder = tempfile::tempdir().unwrap();
        let Space { left, size } = space(folder.path()).unwrap();
        assert!(left > 0 && left <= size, "{left} of {size}");
        assert!(space(&folder.path().join("nothing")).is_err());
    }
}
