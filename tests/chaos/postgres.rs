//! A PostgreSQL cluster of a scenario's own: made for it, broken by it, gone with it.
//!
//! The real server, since what it does to connections and transactions when it falls is what the scenarios are about.
//! It refuses to run as root, so it then runs as another user, in a folder which that user can reach.

use crate::node::free_port;
use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use std::ffi::OsStr;
use std::fs::File;
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use tempfile::TempDir;
use tokio::time::Instant;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, NoTls, Row};

/// The role that owns everything, and that scenarios use themselves.
pub(crate) const ROLE: &str = "birdwire";

/// Recovery after an immediate stop takes a while on a slow disk; longer than this is a fault of the machine.
const START: Duration = Duration::from_secs(30);

const LOOK: Duration = Duration::from_millis(60);

/// Who a server runs as when we are root: the first of these that the machine knows.
const USERS: [&str; 2] = ["postgres", "nobody"];

/// A cluster, running or not.
pub(crate) struct Postgres {
    programs: PathBuf,
    user: Option<(u32, u32)>,
    folder: TempDir,
    log: PathBuf,
    port: u16,
    child: Option<Child>,
}

impl Postgres {
    /// Makes a cluster and starts it; its log is in the scenario's folder.
    pub(crate) async fn new(scenario: &Path) -> Result<Self> {
        let mut postgres = Self::prepare(scenario)?;
        postgres.start().await?;
        Ok(postgres)
    }

    /// Makes a cluster, which does not run yet.
    pub(crate) fn prepare(scenario: &Path) -> Result<Self> {
        let programs = programs()?;
        let user = if rustix::process::geteuid().is_root() { Some(unprivileged()?) } else { None };
        // Neither the scenario's folder nor those above it need to be open to other users. This one is on every system,
        // and on a disk.
        let folder = tempfile::Builder::new().prefix("birdwire-pg").tempdir_in("/var/tmp")?;
        if let Some((user, group)) = user {
            chown(folder.path(), Some(user), Some(group))?;
        }
        let log = scenario.join("postgres.stderr");
        let postgres = Self { programs, user, folder, log, port: free_port()?, child: None };
        // The server itself syncs as always; only what is there before it starts need not survive anything.
        let made = postgres
            .command("initdb", [OsStr::new("-D"), postgres.data().as_os_str()])
            .args(["-U", ROLE, "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync"])
            .output()?;
        ensure!(made.status.success(), "initdb failed: {}", String::from_utf8_lossy(&made.stderr));
        Ok(postgres)
    }

    /// `store.url`, in the database that is always there.
    pub(crate) fn url(&self) -> String {
        url(ROLE, self.port)
    }

    /// Where it listens.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    fn command<S: AsRef<OsStr>>(&self, program: &str, arguments: impl IntoIterator<Item = S>) -> Command {
        let mut command = Command::new(self.programs.join(program));
        command.args(arguments).env_clear().env("LC_ALL", "C").current_dir(self.folder.path()).stdin(Stdio::null());
        if let Some((user, group)) = self.user {
            command.uid(user).gid(group);
        }
        command
    }

    /// Starts it and waits until it takes queries.
    pub(crate) async fn start(&mut self) -> Result<()> {
        self.spawn()?;
        let deadline = Instant::now() + START;
        loop {
            if let Some(status) = self.child()?.try_wait()? {
                bail!("PostgreSQL ended instead of getting ready: {status}");
            }
            match self.connect().await {
                Ok(_) => return Ok(()),
                Err(_) if Instant::now() < deadline => tokio::time::sleep(LOOK).await,
                Err(error) => return Err(error.context("PostgreSQL does not get ready")),
            }
        }
    }

    fn spawn(&mut self) -> Result<()> {
        ensure!(self.child.is_none(), "PostgreSQL runs already");
        let log = File::options().create(true).append(true).open(&self.log)?;
        let port = format!("port={}", self.port);
        let settings = [
            "listen_addresses=127.0.0.1",
            &port,
            "unix_socket_directories=",
            "max_connections=200",
            "shared_buffers=64MB",
            "log_min_messages=warning",
            "log_line_prefix=%m [%p] ",
            // A server that keeps its promises: what one does that lies is not the gateway's to survive.
            "fsync=on",
            "synchronous_commit=on",
        ];
        let mut command = self.command("postgres", [OsStr::new("-D"), self.data().as_os_str()]);
        for setting in settings {
            command.args(["-c", setting]);
        }
        self.child = Some(command.stdout(Stdio::null()).stderr(log).spawn().context("PostgreSQL cannot be started")?);
        Ok(())
    }

    /// Ends it at once: `pg_ctl stop -m immediate`, after which it has to recover.
    pub(crate) async fn stop(&mut self) -> Result<()> {
        self.end(Signal::QUIT).await
    }

    async fn end(&mut self, signal: Signal) -> Result<()> {
        kill_process(self.pid()?, signal)?;
        let deadline = Instant::now() + START;
        while self.child()?.try_wait()?.is_none() {
            ensure!(Instant::now() < deadline, "PostgreSQL does not end");
            tokio::time::sleep(LOOK).await;
        }
        self.child = None;
        Ok(())
    }

    /// Stops every process of it where it is; connections stay open and say nothing.
    pub(crate) fn freeze(&self) -> Result<()> {
        let postmaster = self.pid()?;
        // The postmaster first, so that none is born that is not seen.
        kill_process(postmaster, Signal::STOP)?;
        for child in children(postmaster)? {
            // One that has just ended is as silent as the others.
            kill_process(child, Signal::STOP).ok();
        }
        Ok(())
    }

    /// Lets it go on.
    pub(crate) fn thaw(&self) -> Result<()> {
        let postmaster = self.pid()?;
        for child in children(postmaster)? {
            kill_process(child, Signal::CONT).ok();
        }
        Ok(kill_process(postmaster, Signal::CONT)?)
    }

    /// A connection of the scenario's own, past every proxy.
    pub(crate) async fn connect(&self) -> Result<Client> {
        let (client, connection) = tokio_postgres::connect(&self.url(), NoTls).await?;
        // Its end is seen by whoever asks the client something.
        tokio::spawn(async move { drop(connection.await) });
        Ok(client)
    }

    /// Runs statements, once.
    pub(crate) async fn run(&self, statements: &str) -> Result<()> {
        Ok(self.connect().await?.batch_execute(statements).await?)
    }

    /// Asks, once.
    pub(crate) async fn rows(&self, query: &str, values: &[&(dyn ToSql + Sync)]) -> Result<Vec<Row>> {
        Ok(self.connect().await?.query(query, values).await?)
    }

    /// One number.
    pub(crate) async fn number(&self, query: &str) -> Result<i64> {
        let rows = self.rows(query, &[]).await?;
        rows.first().with_context(|| format!("no row of {query}"))?.try_get(0).with_context(|| query.to_owned())
    }

    /// Ends every other session's backend; says how many those were.
    pub(crate) async fn terminate_backends(&self) -> Result<i64> {
        self.number(
            "SELECT count(*) FILTER (WHERE pg_terminate_backend(pid)) FROM pg_stat_activity
             WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()",
        )
        .await
    }

    /// What `pg_amcheck` has to say against it; nothing is good.
    pub(crate) fn check(&self) -> Result<Vec<String>> {
        let port = self.port.to_string();
        let arguments = ["-h", "127.0.0.1", "-p", &port, "-U", ROLE, "--install-missing", "--heapallindexed"];
        let mut command = self.command("pg_amcheck", arguments);
        let output = command.args(["--parent-check", "-d", "postgres"]).output().context("pg_amcheck cannot be run")?;
        let mut said: Vec<String> =
            [output.stdout, output.stderr].iter().flat_map(|o| lines(&String::from_utf8_lossy(o))).collect();
        if said.is_empty() && !output.status.success() {
            said.push(format!("pg_amcheck ended with {}", output.status));
        }
        Ok(said)
    }

    fn child(&mut self) -> Result<&mut Child> {
        self.child.as_mut().context("PostgreSQL does not run")
    }

    fn pid(&self) -> Result<Pid> {
        let child = self.child.as_ref().context("PostgreSQL does not run")?;
        Pid::from_raw(i32::try_from(child.id())?).context("no process has the number 0")
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        // Frozen processes hear no other signal; there is nobody left to tell of one that ended by itself.
        self.thaw().ok();
        if let Ok(pid) = self.pid() {
            kill_process(pid, Signal::QUIT).ok();
        }
        if let Some(mut child) = self.child.take() {
            child.wait().ok();
        }
    }
}

/// `store.url` of a server, or of a proxy before it.
pub(crate) fn url(role: &str, port: u16) -> String {
    format!("postgres://{role}@127.0.0.1:{port}/postgres")
}

fn lines(text: &str) -> Vec<String> {
    text.lines().filter(|line| !line.trim().is_empty()).map(str::to_owned).collect()
}

/// Where the server's programs are. There is no scenario without them, so it fails.
fn programs() -> Result<PathBuf> {
    if let Some(folder) = std::env::var_os("BIRDWIRE_TEST_PG_BIN") {
        let folder = PathBuf::from(folder);
        ensure!(folder.join("initdb").exists(), "BIRDWIRE_TEST_PG_BIN: there is no initdb in {}", folder.display());
        return Ok(folder);
    }
    let mut packaged: Vec<PathBuf> = Vec::new();
    if let Ok(versions) = std::fs::read_dir("/usr/lib/postgresql") {
        packaged.extend(versions.filter_map(|version| Some(version.ok()?.path().join("bin"))));
    }
    let number = |path: &Path| path.parent()?.file_name()?.to_str()?.parse::<u32>().ok();
    packaged.sort_by_key(|path| std::cmp::Reverse(number(path)));
    let path = std::env::var_os("PATH").unwrap_or_default();
    packaged.into_iter().chain(std::env::split_paths(&path)).find(|folder| folder.join("initdb").exists()).context(
        "PostgreSQL's server programs (initdb, postgres, pg_amcheck) are not here: install them, or name their folder in \
         BIRDWIRE_TEST_PG_BIN",
    )
}

/// User and group of somebody who may run a server.
fn unprivileged() -> Result<(u32, u32)> {
    let known = std::fs::read_to_string("/etc/passwd")?;
    let find = |name: &str| {
        let mut fields =
            known.lines().map(|line| line.split(':')).find_map(|mut f| (f.next() == Some(name)).then_some(f))?;
        fields.next()?;
        Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
    };
    USERS.iter().find_map(|name| find(name)).with_context(|| format!("we are root, and there is none of {USERS:?}"))
}

/// The processes whose parent this is.
fn children(parent: Pid) -> Result<Vec<Pid>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc")? {
        let Some(number) = entry?.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else { continue };
        // Many processes end between the listing and this.
        let Ok(stat) = std::fs::read_to_string(format!("/proc/{number}/stat")) else { continue };
        // The name, in parentheses, may hold anything; after it come the state and the parent.
        let of = stat.rsplit_once(") ").and_then(|(_, rest)| rest.split(' ').nth(1)?.parse::<i32>().ok());
        if of == Some(parent.as_raw_nonzero().get()) {
            found.extend(Pid::from_raw(number));
        }
    }
    Ok(found)
}
