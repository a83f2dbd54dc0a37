//! Who is measured, each as a process of its own: the gateway itself, the baselines of this program, and Node.js.

use crate::machine;
use crate::options::Options;
use crate::payload::{ACCOUNT, KEY, SECRET, URL};
use anyhow::{Context, Result, bail};
use std::fs::File;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

const PROGRAM: &str = env!("CARGO_BIN_EXE_birdwire");
const NODE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/baseline-node");

/// A start on a store with millions of rows takes a while.
const START: Duration = Duration::from_mins(1);

/// A contender.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Who {
    /// A mode of this program, see `baseline`.
    Baseline(&'static str),
    /// The gateway with its embedded store.
    Gateway,
    /// The same, as another build of it does it.
    Before,
    /// The gateway with the PostgreSQL of `--store`.
    Postgres,
    /// The receiver written by hand in Node.js, that keeps nothing, or all.
    Node {
        /// Whether it keeps everything in SQLite.
        durable: bool,
    },
}

impl Who {
    /// Why it cannot be measured here, if so.
    pub(crate) fn missing(self, options: &Options) -> Option<String> {
        match self {
            Self::Node { .. } => {
                let version = Command::new("node").arg("--version").output();
                if version.is_err() {
                    return Some("Node.js is not installed".to_owned());
                }
                let there = Path::new(NODE).join("node_modules/fastify").exists();
                (!there).then(|| "its packages are not installed (npm ci in benches/baseline-node)".to_owned())
            }
            _ if self.needs_postgres() && options.store.is_none() => {
                Some("no --store postgres://... was given".to_owned())
            }
            _ => None,
        }
    }

    /// Whether what it keeps is in the PostgreSQL of `--store`.
    pub(crate) fn needs_postgres(self) -> bool {
        matches!(self, Self::Postgres | Self::Baseline("least-postgres"))
    }

    /// The processes that work for it beside its own.
    pub(crate) fn helpers(self) -> Vec<u32> {
        if self.needs_postgres() { machine::processes_called("postgres") } else { Vec::new() }
    }
}

/// What a contender is started with.
pub(crate) struct Plan<'a> {
    /// Who.
    pub(crate) who: Who,
    /// The program of [`Who::Before`].
    pub(crate) before: Option<&'a Path>,
    /// Where its files are, the store too.
    pub(crate) folder: &'a Path,
    /// `store.url`, when it is not the embedded one in the folder.
    pub(crate) store: Option<&'a str>,
    /// How many are told.
    pub(crate) subscribers: usize,
    /// Where they listen.
    pub(crate) sink: u16,
}

/// A contender that runs; it is killed when this goes.
pub(crate) struct Running {
    /// Where it listens.
    pub(crate) port: u16,
    child: Child,
}

impl Running {
    /// Its process.
    pub(crate) fn process(&self) -> u32 {
        self.child.id()
    }

    /// Ends it in order, so that its store can be used again.
    pub(crate) fn end(mut self) -> Result<()> {
        machine::terminate(self.process())?;
        machine::wait("the end of a contender", START, || Ok(self.child.try_wait()?.is_some()))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself; there is nobody left to tell.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

impl Plan<'_> {
    /// Starts it and waits until it listens.
    pub(crate) fn start(&self) -> Result<Running> {
        let port = free_port()?;
        let config = self.folder.join("birdwire.toml");
        std::fs::write(&config, self.configuration(port))?;
        let mut command = match self.who {
            Who::Baseline(mode) => {
                let mut command = Command::new(std::env::current_exe()?);
                command.args(["--baseline", mode]).arg(&config);
                command
            }
            Who::Gateway | Who::Before | Who::Postgres => {
                let other = self.before.filter(|_| self.who == Who::Before);
                let mut command = Command::new(other.unwrap_or(Path::new(PROGRAM)));
                command.args(["serve", "--config"]).arg(&config);
                command
            }
            Who::Node { durable } => {
                let mut command = Command::new("node");
                command.arg("server.js").current_dir(NODE).env("PORT", port.to_string());
                command.env("NODE_ENV", "production").env("SINK", format!("http://127.0.0.1:{}", self.sink));
                command.env("SIGNING_KEY", KEY).env("SIGNED_URL", URL).env("SUBSCRIBER_SECRET", SECRET);
                command.env("ACCOUNT", ACCOUNT);
                if durable {
                    command.env("STORE", self.folder.join("node.db"));
                }
                command
            }
        };
        let said = self.folder.join("stderr");
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(&said)?)
            .spawn()
            .with_context(|| format!("{:?} cannot be started", self.who))?;
        let mut running = Running { port, child };
        machine::wait("the start of a contender", START, || {
            if let Some(status) = running.child.try_wait()? {
                bail!("{:?} ended: {status}\n{}", self.who, std::fs::read_to_string(&said)?);
            }
            Ok(TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok())
        })?;
        Ok(running)
    }

    fn configuration(&self, port: u16) -> String {
        let store = self.store.map_or_else(|| format!("sqlite:{}", store_file(self.folder).display()), str::to_owned);
        let subscriber = |n| {
            let url = format!("http://127.0.0.1:{}/{n}", self.sink);
            format!("\n[[subscribers]]\nid = \"s{n}\"\nurl = \"{url}\"\nsecrets = [\"{SECRET}\"]\n")
        };
        format!(
            r#"[server]
listen = "127.0.0.1:{port}"

[store]
url = "{store}"

[delivery]
allow_networks = ["127.0.0.0/8"]

[[accounts]]
id = "{ACCOUNT}"
customer_id = "5e4a0680-804e-11ec-8477-2fea5968d85b"
name = "LINE through Bird"
provider = "bird"
type = "line"
signing_keys = ["{KEY}"]
webhook_url = "{URL}"
{}"#,
            (0..self.subscribers).map(subscriber).collect::<String>(),
        )
    }
}

/// The embedded store's file in a contender's folder.
pub(crate) fn store_file(folder: &Path) -> PathBuf {
    folder.join("birdwire.db")
}

/// A port below those that the system gives to outgoing connections, one of which could otherwise be there first.
fn free_port() -> Result<u16> {
    for _ in 0..100 {
        let port = fastrand::u16(10_000..32_000);
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return Ok(port);
        }
    }
    bail!("no free port was found")
}
