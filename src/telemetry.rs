//! Logs: one line per thing that happened, fields with dotted names, to standard error.
//!
//! Never a body, a secret, or a person's identifier.

use std::io::IsTerminal;
use tracing_subscriber::EnvFilter;

/// The form of log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// For people; coloured on a terminal.
    Text,
    /// One JSON object a line.
    Json,
}

/// Whether `filter` is one, or what is wrong with it.
pub fn check(filter: &str) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    EnvFilter::builder().parse(filter).map(drop).map_err(Into::into)
}

/// Starts logging what `filter` (`info`, `birdwire=debug`...) lets through. Once per process.
pub fn start(form: Form, filter: &str) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let filter = EnvFilter::builder().parse(filter)?;
    // log_internal_errors: a log that cannot be written (disk full) must not take the process with it.
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false)
        .log_internal_errors(false);
    match form {
        Form::Text => builder.try_init(),
        Form::Json => builder.json().flatten_event(true).try_init(),
    }
}
