//! Making files that only their owner may read: what people write to each other is in them. What is there already keeps the
//! rights that somebody gave it.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::path::Path;

/// Makes an empty file where there is none. SQLite gives the log and the index beside it the same rights.
pub(super) fn make(path: &Path) -> io::Result<()> {
    match open(File::options().write(true).create_new(true), path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}

/// Opens a file, and if that makes it, for its owner only.
pub(super) fn open(options: &mut OpenOptions, path: &Path) -> io::Result<File> {
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(options, 0o600);
    options.open(path)
}

/// Makes a folder and those above it that are not there, for their owner only.
pub(super) fn folder(path: &Path) -> io::Result<()> {
    let mut builder = DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.recursive(true).create(path)
}
