//! What a PostgreSQL error means for the caller.

use crate::store::StoreError;
use tokio_postgres::Error;
use tokio_postgres::error::SqlState;

/// Why something was not done.
#[derive(Debug)]
pub(super) enum Failure {
    /// This one item: its row cannot be written, others can.
    Item(Error),
    /// Others were in the way: the same again may succeed.
    Again(Error),
    /// The database is away or does not answer. What was sent may have been done.
    Away { detail: String, source: Option<Box<dyn std::error::Error + Send + Sync>> },
    /// The transaction had taken place already, on a connection that was cut.
    Done,
}

impl Failure {
    /// The database did not answer in time.
    pub(super) fn silent() -> Self {
        Self::Away { detail: "the database does not answer".to_owned(), source: None }
    }

    pub(super) fn away(detail: impl Into<String>) -> Self {
        Self::Away { detail: detail.into(), source: None }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let Some(code) = error.code() else {
            // No answer of the server's: the connection, or a value that cannot be sent.
            let is_local = std::error::Error::source(&error).is_some_and(|s| !s.is::<std::io::Error>());
            return if is_local && !error.is_closed() { Self::Item(error) } else { gone(error) };
        };
        match code.code() {
            // Data that no row can hold, constraints, limits, and triggers of somebody's own.
            state if ["22", "23", "54", "P0"].iter().any(|class| state.starts_with(class)) => {
                // Another node was quicker; the next look will find what it wrote.
                if *code == SqlState::UNIQUE_VIOLATION { Self::Again(error) } else { Self::Item(error) }
            }
            // Serialization failures, deadlocks, locks that others held too long.
            state if state.starts_with("40") => Self::Again(error),
            _ if *code == SqlState::LOCK_NOT_AVAILABLE || *code == SqlState::QUERY_CANCELED => Self::Again(error),
            _ => gone(error),
        }
    }
}

fn gone(error: Error) -> Failure {
    Failure::Away { detail: explain(&error), source: Some(Box::new(error)) }
}

/// A sentence for an operator; never a value of a row.
pub(super) fn explain(error: &Error) -> String {
    if let Some(db) = error.as_db_error() {
        return match *db.code() {
            SqlState::DISK_FULL => "the database's disk is full".to_owned(),
            SqlState::READ_ONLY_SQL_TRANSACTION => "the database takes no changes: it is a standby".to_owned(),
            SqlState::CANNOT_CONNECT_NOW => "the database is starting or stopping".to_owned(),
            SqlState::TOO_MANY_CONNECTIONS => "the database has no connection left".to_owned(),
            // What strangers wrote stands in details, never in these.
            _ => format!("{} ({})", db.message(), db.code().code()),
        };
    }
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

impl From<Failure> for StoreError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Item(error) | Failure::Again(error) => {
                Self::Unavailable { detail: explain(&error), source: Some(Box::new(error)) }
            }
            Failure::Away { detail, source } => Self::Unavailable { detail, source },
            Failure::Done => Self::Unavailable { detail: "it was done before".to_owned(), source: None },
        }
    }
}

pub(super) fn unusable(what: &str, error: Error) -> StoreError {
    StoreError::Unusable { detail: format!("{what}: {}", explain(&error)), source: Some(Box::new(error)) }
}
