//! Logs: one line per thing that happened, fields with dotted names, to standard error.
//!
//! Never a body, a secret, or a person's identifier.

use std::io::IsTerminal;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::EnvFilter;

/// The form of log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// For people; coloured on a terminal.
    Text,
    /// One JSON object a line.
    Json,
}

/// What a filter may consist of.
const LEVELS: &str = "error, warn, info, debug, trace or off";

/// Whether `filter` is one, or what is wrong with it.
///
/// A word that is no level is a target to the parser, and lets nothing through that anybody would miss: a level with a
/// typing error in it would silence everything.
pub fn check(filter: &str) -> Result<(), String> {
    let is_level = |word: &str| word.parse::<LevelFilter>().is_ok();
    let is_more = |directive: &str| directive.contains(['=', '[']) || directive.contains("::");
    let words = filter.split(',').filter(|directive| !directive.is_empty() && !is_more(directive));
    for word in words {
        if !is_level(word) && word != env!("CARGO_CRATE_NAME") {
            let quoted: String = word.chars().take(80).collect();
            return Err(format!(
                "{quoted:?} is no level; write {LEVELS}, or a target with one, such as \"birdwire::delivery=debug\""
            ));
        }
    }
    let parsed = EnvFilter::builder().parse(filter).map(drop);
    // It names the levels itself.
    parsed.map_err(|error| format!("{error}; write a level, or directives such as \"info,birdwire::delivery=debug\""))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_with_a_typing_error_is_no_target() {
        for good in [
            "info",
            "WARN",
            "off",
            "birdwire",
            "birdwire=debug",
            "info,birdwire::delivery=debug",
            "warn,birdwire::store",
            "info,[span{field=x}]=trace",
            "hyper=trace,error",
        ] {
            assert_eq!(check(good), Ok(()), "{good}");
        }
        for (wrong, what) in [
            ("inof", "\"inof\" is no level; write error, warn, info, debug, trace or off"),
            ("info,debgu", "\"debgu\" is no level"),
            ("info, debug", "\" debug\" is no level"),
            ("bridwire", "\"bridwire\" is no level"),
            ("birdwire=debgu", "expected one of \"off\", \"error\""),
            ("info, birdwire=debug", "directives such as"),
        ] {
            let said = check(wrong).unwrap_err();
            assert!(said.contains(what), "{wrong}: {said}");
        }
    }
}
