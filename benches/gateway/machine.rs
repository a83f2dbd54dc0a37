//! What the kernel and the disk say: processor time of ours and of others, memory, and how long a sync takes.

use anyhow::{Context, Result};
use rustix::process::Pid;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::time::Duration;
use tokio::time::Instant;

/// The kernel counts processor time in hundredths of a second, on every machine that Linux runs on.
const TICKS: f64 = 100.0;

/// Seconds of processor time, at one moment.
#[derive(Clone, Debug)]
pub(crate) struct Usage {
    at: Instant,
    everybody: f64,
    ours: BTreeMap<u32, f64>,
}

impl Usage {
    /// Of the whole machine; and of this process and those that work for it, which may come and go.
    pub(crate) fn now(workers: &[u32]) -> Result<Self> {
        let stat = std::fs::read_to_string("/proc/stat").context("the kernel says nothing of its time")?;
        let line = stat.lines().next().unwrap_or_default();
        let fields: Vec<f64> = line.split_whitespace().skip(1).filter_map(|field| field.parse().ok()).collect();
        // user, nice, system, steal. Interrupts are left out: those of our own packets are among them, and belong to
        // no process.
        let everybody = [0, 1, 2, 7].iter().filter_map(|i| fields.get(*i)).sum::<f64>() / TICKS;
        let own = std::process::id();
        let ours = workers.iter().chain([&own]).filter_map(|id| Some((*id, of_process(*id).ok()?))).collect();
        Ok(Self { at: Instant::now(), everybody, ours })
    }

    /// How many cores others used since `earlier`.
    pub(crate) fn foreign_since(&self, earlier: &Self) -> f64 {
        let time = self.at.duration_since(earlier.at).as_secs_f64().max(0.01);
        // One that has ended meanwhile counts for others: it is seldom, and small.
        let ours: f64 =
            self.ours.iter().map(|(id, used)| used - earlier.ours.get(id).copied().unwrap_or_default()).sum();
        ((self.everybody - earlier.everybody) - ours).max(0.0) / time
    }
}

/// Seconds of processor time that a process has used.
pub(crate) fn of_process(process: u32) -> Result<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).context("the process is gone")?;
    // The name, in parentheses, may hold anything.
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |index: usize| fields.get(index).and_then(|field| field.parse::<f64>().ok()).unwrap_or(0.0);
    Ok((ticks(11) + ticks(12)) / TICKS)
}

/// Bytes that a process has had written to disks.
pub(crate) fn written(process: u32) -> Result<f64> {
    let io = std::fs::read_to_string(format!("/proc/{process}/io")).context("the process is gone")?;
    let line = io.lines().find_map(|line| line.strip_prefix("write_bytes:"));
    line.and_then(|line| line.trim().parse().ok()).context("no write_bytes")
}

/// The servers of a database that runs on this machine work for us.
pub(crate) fn processes_called(name: &str) -> Vec<u32> {
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    let is_it = |pid: &u32| std::fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|comm| comm.trim() == name);
    entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).filter(is_it).collect()
}

/// The most memory that a process ever had, in MiB.
pub(crate) fn peak_memory(process: u32) -> Result<f64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib: f64 = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse().ok()).context("no VmHWM")?;
    Ok(kib / 1024.0)
}

/// Asks a process to end.
pub(crate) fn terminate(process: u32) -> Result<()> {
    let pid = Pid::from_raw(i32::try_from(process)?).context("no process has the number 0")?;
    Ok(rustix::process::kill_process(pid, rustix::process::Signal::TERM)?)
}

/// The time of appending 4 KiB to a file and syncing it, in milliseconds: median and 99th percentile of 200.
pub(crate) fn disk(folder: &Path) -> Result<(f64, f64)> {
    let path = folder.join("disk");
    let mut file = File::create(&path)?;
    let mut times = Vec::new();
    for _ in 0..200 {
        let began = Instant::now();
        file.write_all(&[7; 4096])?;
        file.sync_data()?;
        times.push(crate::load::micros(began.elapsed()));
    }
    std::fs::remove_file(&path)?;
    Ok((crate::rounds::quantile(&mut times, 0.5), crate::rounds::quantile(&mut times, 0.99)))
}

/// Bytes that may still be written where `folder` is.
pub(crate) fn room(folder: &Path) -> Result<u64> {
    let stat = rustix::fs::statvfs(folder)?;
    Ok(stat.f_bavail * stat.f_frsize)
}

/// Waits until `ready`, looking often.
pub(crate) fn wait(what: &str, patience: Duration, mut ready: impl FnMut() -> Result<bool>) -> Result<()> {
    let began = Instant::now();
    while !ready()? {
        anyhow::ensure!(began.elapsed() < patience, "{what}: not within {patience:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}
