//! The command line: one file per command.
//!
//! Data goes to standard output, everything else to standard error. Exit codes: 0 good, 1 failed, 64 usage or
//! configuration.

mod check;
mod convert;
mod deliveries;
mod demo;
mod events;
mod health;
mod listen;
mod migrate;
mod nodes;
mod output;
mod replay;
mod send;
mod serve;
mod store;
mod subscribers;
mod trace;
mod version;

use crate::app;
use crate::config::{self, Basics, Config, Mistakes};
use crate::domain::secret::Secret;
use clap::{Args, Parser, Subcommand};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Channel-adapter gateway: provider webhooks in, VoIPBIN conversation messages out.
#[derive(Parser)]
#[command(name = "birdwire", version, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Accept webhooks and deliver events
    Serve(serve::Options),
    /// Show the whole way on real input: gateway, subscriber and signed webhooks, no configuration
    Demo(demo::Options),
    /// Print what a payload becomes; no server, no signature
    Convert(convert::Options),
    /// Sign a payload and post it as the provider would
    Send(send::Options),
    /// Be a subscriber that verifies and prints what it receives
    Listen(listen::Options),
    /// Say everything that is wrong with the configuration, and where
    Check(check::Options),
    /// Ask a running gateway whether it is ready
    Health(health::Options),
    /// List every received event with what became of it
    Events(events::Options),
    /// List, show and replay deliveries
    Deliveries(deliveries::Options),
    /// Print the way of a message: received, mapped, stored, and every attempt at every subscriber
    Trace(trace::Options),
    /// Run kept webhooks through today's mapping again and repair what differs
    Replay(replay::Options),
    /// List and show subscribers, and resume one that was disabled
    Subscribers(subscribers::Options),
    /// List the processes that serve a store in a database
    Nodes(nodes::Options),
    /// Make the store's schema, or bring it up to date
    Migrate(migrate::Options),
    /// Move a whole store to another engine
    Store(store::Options),
    /// Print the version
    Version(version::Options),
}

/// Which configuration.
#[derive(Args)]
struct ConfigArgs {
    /// The configuration file [default: ./birdwire.toml]
    #[arg(long, value_name = "FILE", env = "BIRDWIRE_CONFIG")]
    config: Option<PathBuf>,
}

const DEFAULT_FILE: &str = "birdwire.toml";

impl ConfigArgs {
    /// The file to read: the one named, else the default one if it is there.
    fn file(&self) -> Option<PathBuf> {
        self.config.clone().or_else(|| Some(PathBuf::from(DEFAULT_FILE)).filter(|path| path.exists()))
    }

    /// The configuration, with defaults where nothing is configured.
    fn load(&self) -> Result<Config, Failure> {
        app::configure(self.file().as_deref()).map_err(Failure::Config)
    }

    /// Where the store and the gateway are; secrets may be missing.
    fn load_basics(&self) -> Result<Basics, Failure> {
        app::configure_basics(self.file().as_deref()).map_err(Failure::Config)
    }

    /// The configuration; without a file and without any variable there is none.
    fn load_written(&self) -> Result<Config, Failure> {
        if self.file().is_none() && !std::env::vars_os().any(|(n, _)| n.to_string_lossy().starts_with("BIRDWIRE_")) {
            return Err(Failure::Usage(format!(
                "there is no {DEFAULT_FILE} here: name one with --config FILE, start from config/example.toml, or try `birdwire demo`"
            )));
        }
        self.load()
    }
}

/// Why a command did not succeed.
enum Failure {
    /// It was called wrongly: 64.
    Usage(String),
    /// The configuration is wrong: 64.
    Config(Mistakes),
    /// It could not be done: 1.
    Failed(anyhow::Error),
    /// It was done, said what is wrong, and found that not good: 1.
    NotGood,
}

impl<E: Into<anyhow::Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        match error.into().downcast::<app::AppError>() {
            Ok(app::AppError::Config(mistakes)) => Self::Config(mistakes),
            Ok(error) => Self::Failed(error.into()),
            Err(error) => Self::Failed(error),
        }
    }
}

type Done = Result<(), Failure>;

/// Runs the program.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // A closed pipe is no reason to fail differently.
            error.print().ok();
            return if error.use_stderr() { ExitCode::from(64) } else { ExitCode::SUCCESS };
        }
    };
    let done = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(Failure::from)
        .and_then(|runtime| runtime.block_on(run(cli.command)));
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Usage(message)) => {
            anstream::eprintln!("birdwire: {message}");
            ExitCode::from(64)
        }
        Err(Failure::Config(mistakes)) => {
            anstream::eprintln!("{mistakes}");
            ExitCode::from(64)
        }
        Err(Failure::Failed(error)) if output::is_closed_pipe(&error) => ExitCode::SUCCESS,
        Err(Failure::Failed(error)) => {
            anstream::eprintln!("birdwire: {}", explain(&error));
            ExitCode::FAILURE
        }
        Err(Failure::NotGood) => ExitCode::FAILURE,
    }
}

async fn run(command: Command) -> Done {
    match command {
        Command::Serve(options) => serve::run(options).await,
        Command::Demo(options) => demo::run(options).await,
        Command::Convert(options) => convert::run(options).await,
        Command::Send(options) => send::run(options).await,
        Command::Listen(options) => listen::run(options).await,
        Command::Check(options) => check::run(options).await,
        Command::Health(options) => health::run(options).await,
        Command::Events(options) => events::run(options).await,
        Command::Deliveries(options) => deliveries::run(options).await,
        Command::Trace(options) => trace::run(options).await,
        Command::Replay(options) => replay::run(options).await,
        Command::Subscribers(options) => subscribers::run(options).await,
        Command::Nodes(options) => nodes::run(options).await,
        Command::Migrate(options) => migrate::run(options).await,
        Command::Store(options) => store::run(options).await,
        Command::Version(options) => version::run(&options),
    }
}

/// A URL of the command line.
fn check_url(flag: &str, url: &str) -> Result<(), Failure> {
    config::check_url(url).map_err(|what| Failure::Usage(format!("{flag}: the URL {what}")))
}

/// A secret of the command line, by the rules of those in the file.
fn secret(
    flag: &str,
    text: &str,
    read: impl Fn(&str, &[(String, String)]) -> Result<Secret, String>,
) -> Result<Secret, Failure> {
    read(text, &app::variables()).map_err(|what| Failure::Usage(format!("{flag}: {what}")))
}

/// What went wrong and why, each once: a cause often says again what the sentence about it has said.
fn explain(error: &anyhow::Error) -> String {
    let mut said = error.to_string();
    for cause in error.chain().skip(1).map(ToString::to_string) {
        if !said.contains(&cause) {
            said.push_str(": ");
            said.push_str(&cause);
        }
    }
    said
}

/// A document from a file, or from standard input for `-`.
fn read_document(file: &Path) -> Result<Vec<u8>, Failure> {
    use anyhow::Context;
    use std::io::Read;
    let mut bytes = Vec::new();
    if file == Path::new("-") {
        std::io::stdin().read_to_end(&mut bytes).context("standard input cannot be read")?;
    } else {
        bytes = std::fs::read(file).with_context(|| format!("{} cannot be read", file.display()))?;
    }
    Ok(bytes)
}
