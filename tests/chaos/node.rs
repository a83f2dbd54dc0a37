//! One gateway: the real program as a child process, on a folder that outlives it.

use crate::beside::Beside;
use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Resource, Rlimit, Signal, kill_process, prlimit};
use std::fs::File;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;
use tokio::time::Instant;

/// The account of every scenario.
pub(crate) const ACCOUNT: &str = "6f1f0f4e-2f6c-4d5e-9a51-0a4c5b0c9a01";
/// Its signing key.
pub(crate) const KEY: &str = "chaos-signing-key";
/// Another account, at LINE itself.
pub(crate) const LINE: &str = "6f1f0f4e-2f6c-4d5e-9a51-0a4c5b0c9a11";
/// Its channel secret.
pub(crate) const CHANNEL: &str = "00112233445566778899aabbccddeeff";
/// The secret of every subscriber.
pub(crate) const SECRET: &str = "whsec_Y2hhb3Mtc2VjcmV0LWNoYW9zLXNlY3JldC0xMjM0NTY=";

pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_birdwire");

/// A start on a large log takes a while on a slow disk; longer than this is a fault.
pub(crate) const START: Duration = Duration::from_secs(30);

/// How often a process is asked whether it is so far.
const LOOK: Duration = Duration::from_millis(10);

/// The gateway's own limit, when a scenario sets none.
pub(crate) const DEFAULT_CONCURRENCY: usize = 64;

/// What a scenario needs besides the defaults.
#[derive(Default)]
pub(crate) struct Setting {
    /// Lines of the section `[server]`.
    pub(crate) server: &'static str,
    /// Lines of the section `[store]`, after its URL.
    pub(crate) store: &'static str,
    /// Lines of the section `[delivery]`.
    pub(crate) delivery: &'static str,
    /// What `delivery.concurrency` is in those lines, if it is.
    pub(crate) concurrency: Option<usize>,
    /// Lines of the section `[retention]`.
    pub(crate) retention: &'static str,
}

/// What a node is started with.
pub(crate) struct Plan<'a> {
    /// Names its files.
    pub(crate) name: &'a str,
    /// Where its files are.
    pub(crate) folder: &'a Path,
    /// `store.url`; nodes may share one.
    pub(crate) store: String,
    /// What providers know it by, and sign, when that is not its own address.
    pub(crate) public_url: Option<&'a str>,
    /// Who is told: names and URLs.
    pub(crate) subscribers: Vec<(String, String)>,
    /// What else is not as usual.
    pub(crate) setting: &'a Setting,
}

/// A gateway that runs, or may run again.
pub(crate) struct Node {
    name: String,
    program: PathBuf,
    options: Vec<String>,
    config: PathBuf,
    stderr: PathBuf,
    port: u16,
    child: Option<Child>,
    client: reqwest::Client,
}

/// Memory of a process, in KiB.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Memory {
    /// The most it ever had.
    pub(crate) peak: u64,
    /// What it has.
    pub(crate) now: u64,
}

impl Node {
    /// Writes the configuration; nothing runs yet.
    pub(crate) fn new(plan: &Plan<'_>, client: reqwest::Client) -> Result<Self> {
        let port = free_port()?;
        let config = plan.folder.join(format!("{}.toml", plan.name));
        std::fs::write(&config, configuration(plan, port)).context("no configuration can be written")?;
        let stderr = plan.folder.join(format!("{}.stderr", plan.name));
        let (name, program) = (plan.name.to_owned(), PathBuf::from(PROGRAM));
        Ok(Self { name, program, options: Vec::new(), config, stderr, port, child: None, client })
    }

    /// The program that it is from its next start on.
    pub(crate) fn replace(&mut self, program: Option<&Path>) {
        self.program = program.map_or_else(|| PathBuf::from(PROGRAM), Path::to_owned);
    }

    /// What `serve` is told besides its configuration, from its next start on.
    pub(crate) fn options(&mut self, options: &[&str]) {
        self.options = options.iter().map(|&option| option.to_owned()).collect();
    }

    /// Its name in this scenario.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Whether it was started, and neither killed nor seen to end.
    pub(crate) fn runs(&self) -> bool {
        self.child.is_some()
    }

    /// Where the provider posts to, which is also what it signs.
    pub(crate) fn webhook_url(&self) -> String {
        format!("http://127.0.0.1:{}/v1.0/conversation/accounts/{ACCOUNT}", self.port)
    }

    /// The same for the account at LINE itself.
    pub(crate) fn line_url(&self) -> String {
        format!("http://127.0.0.1:{}/v1.0/conversation/accounts/{LINE}", self.port)
    }

    /// What `/metrics` says.
    pub(crate) async fn metrics(&self) -> Result<String> {
        let url = format!("http://127.0.0.1:{}/metrics", self.port);
        Ok(self.client.get(url).timeout(Duration::from_secs(5)).send().await?.error_for_status()?.text().await?)
    }

    /// Starts and waits until it is ready.
    pub(crate) async fn start(&mut self) -> Result<()> {
        self.spawn()?;
        self.started(START).await
    }

    /// Waits until it is ready, or ended.
    pub(crate) async fn started(&mut self, within: Duration) -> Result<()> {
        let deadline = Instant::now() + within;
        loop {
            if let Some(status) = self.child()?.try_wait()? {
                bail!("{} ended instead of getting ready: {status}", self.name);
            }
            match self.ready().await {
                Ok((200, _)) => return Ok(()),
                _ if Instant::now() < deadline => tokio::time::sleep(LOOK).await,
                Ok(last) => bail!("{} is not ready after {within:?}: {last:?}", self.name),
                Err(error) => bail!("{} is not ready after {within:?}: {error:#}", self.name),
            }
        }
    }

    /// Starts and does not wait.
    pub(crate) fn spawn(&mut self) -> Result<()> {
        ensure!(self.child.is_none(), "{} runs already", self.name);
        let log = File::options().create(true).append(true).open(&self.stderr)?;
        let child = Command::new(&self.program)
            .args(["serve", "--config"])
            .arg(&self.config)
            .args(&self.options)
            .env_clear()
            .env("RUST_BACKTRACE", "1")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .with_context(|| format!("{} cannot be started", self.program.display()))?;
        self.child = Some(child);
        Ok(())
    }

    /// Status and text of `/readyz`.
    pub(crate) async fn ready(&self) -> Result<(u16, String)> {
        let url = format!("http://127.0.0.1:{}/readyz", self.port);
        let response = self.client.get(url).timeout(Duration::from_secs(5)).send().await?;
        Ok((response.status().as_u16(), response.text().await?))
    }

    /// Asks `/readyz` until `wanted` likes the answer.
    pub(crate) async fn until_ready(
        &self,
        within: Duration,
        wanted: impl Fn(u16, &str) -> bool,
    ) -> Result<(u16, String)> {
        let deadline = Instant::now() + within;
        loop {
            let answer = self.ready().await;
            match answer {
                Ok((status, text)) if wanted(status, &text) => return Ok((status, text)),
                _ if Instant::now() < deadline => tokio::time::sleep(LOOK).await,
                Ok(last) => bail!("{}: /readyz did not change within {within:?}: {last:?}", self.name),
                Err(error) => bail!("{}: /readyz did not change within {within:?}: {error:#}", self.name),
            }
        }
    }

    /// Ends it at once, as a power switch does.
    pub(crate) fn kill(&mut self) -> Result<()> {
        let mut child = self.child.take().context("nothing runs that could be killed")?;
        child.kill()?;
        child.wait()?;
        Ok(())
    }

    /// Asks it to end.
    pub(crate) fn terminate(&mut self) -> Result<()> {
        Ok(kill_process(self.pid()?, Signal::TERM)?)
    }

    /// Stops it where it is, as a suspended machine does.
    pub(crate) fn freeze(&self) -> Result<()> {
        Ok(kill_process(self.pid()?, Signal::STOP)?)
    }

    /// Lets it go on.
    pub(crate) fn thaw(&self) -> Result<()> {
        Ok(kill_process(self.pid()?, Signal::CONT)?)
    }

    /// Waits for its end.
    pub(crate) async fn ended(&mut self, within: Duration) -> Result<ExitStatus> {
        let deadline = Instant::now() + within;
        loop {
            if let Some(status) = self.child()?.try_wait()? {
                self.child = None;
                return Ok(status);
            }
            ensure!(Instant::now() < deadline, "{} still runs after {within:?}", self.name);
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Limits the size of its files; `None` lifts the limit.
    pub(crate) fn limit_files(&self, bytes: Option<u64>) -> Result<()> {
        let pid = self.pid()?;
        let ceiling = rustix::process::getrlimit(Resource::Fsize).maximum;
        let current = bytes.or(ceiling);
        prlimit(Some(pid), Resource::Fsize, Rlimit { current, maximum: ceiling })?;
        Ok(())
    }

    /// How much memory it takes.
    pub(crate) fn memory(&self) -> Result<Memory> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid()?.as_raw_nonzero()))?;
        let kib = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name))?;
            line.trim_start_matches(':').trim().strip_suffix(" kB")?.parse().ok()
        };
        let (peak, now) = kib("VmHWM").zip(kib("VmRSS")).context("the kernel says nothing of its memory")?;
        Ok(Memory { peak, now })
    }

    /// Commands that are run beside it, with its configuration.
    pub(crate) fn beside(&self) -> Beside {
        Beside::new(&self.config)
    }

    /// What it wrote to standard error.
    pub(crate) fn said(&self) -> Result<String> {
        Ok(std::fs::read_to_string(&self.stderr)?)
    }

    /// Waits until it has said this so often.
    pub(crate) async fn until_said(&self, what: &str, times: usize, within: Duration) -> Result<()> {
        let deadline = Instant::now() + within;
        while self.said()?.matches(what).count() < times {
            ensure!(Instant::now() < deadline, "{} does not say {what:?} within {within:?}", self.name);
            tokio::time::sleep(LOOK).await;
        }
        Ok(())
    }

    fn child(&mut self) -> Result<&mut Child> {
        self.child.as_mut().with_context(|| format!("{} does not run", self.name))
    }

    fn pid(&self) -> Result<Pid> {
        let child = self.child.as_ref().with_context(|| format!("{} does not run", self.name))?;
        Pid::from_raw(i32::try_from(child.id())?).context("no process has the number 0")
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            // It may have ended by itself; there is nobody left to tell.
            child.kill().ok();
            child.wait().ok();
        }
    }
}

/// The sum of a metric's samples.
pub(crate) fn total(metrics: &str, name: &str) -> f64 {
    let is_it = |line: &&str| line.strip_prefix(name).is_some_and(|rest| rest.starts_with([' ', '{']));
    metrics.lines().filter(is_it).filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
}

fn configuration(plan: &Plan<'_>, port: u16) -> String {
    let subscriber = |(id, url): &(String, String)| {
        format!("\n[[subscribers]]\nid = \"{id}\"\nurl = \"{url}\"\nsecrets = [\"{SECRET}\"]\n")
    };
    let own_url = format!("http://127.0.0.1:{port}");
    format!(
        r#"[server]
listen = "127.0.0.1:{port}"
public_url = "{}"
{}

[store]
url = "{}"
{}

[retention]
{}

[delivery]
allow_networks = ["127.0.0.0/8"]
{}

[[accounts]]
id = "{ACCOUNT}"
customer_id = "5e4a0680-804e-11ec-8477-2fea5968d85b"
name = "LINE through Bird"
provider = "bird"
type = "line"
signing_keys = ["{KEY}"]

[[accounts]]
id = "{LINE}"
customer_id = "5e4a0680-804e-11ec-8477-2fea5968d85b"
name = "LINE, direct"
provider = "line"
type = "line"
channel_secrets = ["{CHANNEL}"]
{}"#,
        plan.public_url.unwrap_or(&own_url),
        plan.setting.server,
        plan.store,
        plan.setting.store,
        plan.setting.retention,
        plan.setting.delivery,
        plan.subscribers.iter().map(subscriber).collect::<String>(),
    )
}

/// A port that stays free while the node that listens on it is down: below those that the system gives to outgoing
/// connections, one of which could otherwise take its place, or even connect to itself.
pub(crate) fn free_port() -> Result<u16> {
    for _ in 0..100 {
        let port = fastrand::u16(10_000..32_000);
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return Ok(port);
        }
    }
    bail!("no free port was found")
}
