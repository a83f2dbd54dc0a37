//! What an SQLite error means for the caller.

use crate::store::StoreError;
use rusqlite::{Error, ErrorCode, ffi};

/// Who has to suffer for an error inside a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Blame {
    /// This one item: its row cannot be written, others can.
    Item,
    /// The whole batch: the disk, the lock, the memory. Later it may work.
    Batch,
    /// The engine: what was promised may be gone, so nothing more may be promised before a restart. A failed
    /// fsync is never retried as if nothing had happened: the kernel may have dropped the pages it could not write.
    Engine,
}

pub(super) fn blame(error: &Error) -> Blame {
    let Error::SqliteFailure(failure, _) = error else { return Blame::Item };
    if matches!(failure.extended_code, ffi::SQLITE_IOERR_FSYNC | ffi::SQLITE_IOERR_DIR_FSYNC) {
        return Blame::Engine;
    }
    match failure.code {
        ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase => Blame::Engine,
        ErrorCode::ConstraintViolation
        | ErrorCode::TooBig
        | ErrorCode::TypeMismatch
        | ErrorCode::ParameterOutOfRange => Blame::Item,
        _ => Blame::Batch,
    }
}

/// A sentence for an operator.
pub(super) fn explain(error: &Error) -> String {
    match error {
        Error::SqliteFailure(failure, _) => match failure.code {
            ErrorCode::DiskFull => "the disk is full".to_owned(),
            ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked => "another process holds the database".to_owned(),
            ErrorCode::ReadOnly => "the database cannot be written".to_owned(),
            ErrorCode::CannotOpen => "the database cannot be opened".to_owned(),
            ErrorCode::SystemIoFailure => format!("the disk fails ({})", ffi::code_to_str(failure.extended_code)),
            _ => error.to_string(),
        },
        _ => error.to_string(),
    }
}

pub(super) fn unavailable(error: Error) -> StoreError {
    StoreError::Unavailable { detail: explain(&error), source: Some(cause(error)) }
}

pub(super) fn unusable(what: &str, error: Error) -> StoreError {
    StoreError::Unusable { detail: format!("{what}: {}", explain(&error)), source: Some(cause(error)) }
}

/// What a sentence leaves out: of SQLite's own errors, whose texts say twice over what was said, only the number.
fn cause(error: Error) -> Box<dyn std::error::Error + Send + Sync> {
    match error {
        Error::SqliteFailure(failure, _) => Box::new(Code(failure.extended_code)),
        other => Box::new(other),
    }
}

/// One of the numbers that SQLite documents.
#[derive(Debug, thiserror::Error)]
#[error("SQLite's code {0}")]
struct Code(i32);
