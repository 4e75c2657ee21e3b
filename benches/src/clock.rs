//! Time, CPU time and memory of this process.

use std::time::{Duration, Instant};

use rustix::{
    process::{Resource, getrlimit, setrlimit},
    time::{ClockId, clock_gettime},
};

use crate::{Result, sample::Sample};

/// When a run began.
#[derive(Debug)]
pub(crate) struct Start {
    at: Instant,
    cpu: Duration,
}

impl Start {
    pub(crate) fn now() -> Self {
        Self { at: Instant::now(), cpu: cpu_time() }
    }

    /// The sample of this many messages since then. Sorts the latencies.
    pub(crate) fn sample(&self, messages: usize, trips: &mut [u32]) -> Sample {
        Sample::new(messages, cpu_time() - self.cpu, self.at.elapsed(), trips)
    }
}

/// The CPU time of this thread so far.
pub(crate) fn thread_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    // As above.
    Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec.unsigned_abs() as u32)
}

/// Milliseconds of a clock that all processes share.
pub(crate) fn monotonic() -> u64 {
    let time = clock_gettime(ClockId::Monotonic);
    time.tv_sec.unsigned_abs() * 1000 + time.tv_nsec.unsigned_abs() / 1_000_000
}

/// The CPU time, user and system, of all threads of this process so far.
pub(crate) fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    // A clock of CPU time counts from 0 upwards.
    Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec.unsigned_abs() as u32)
}

/// The resident memory of this process, in bytes.
pub(crate) fn resident() -> Result<usize> {
    let statm = std::fs::read_to_string("/proc/self/statm")?;
    let pages = statm.split(' ').nth(1).ok_or("no second field in /proc/self/statm")?;
    Ok(pages.parse::<usize>()? * rustix::param::page_size())
}

/// The anonymous memory of this process, in bytes: without the program and what else is mapped from files.
#[cfg(feature = "server")]
pub(crate) fn anonymous() -> Result<usize> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB")).ok_or("no RssAnon")?;
    Ok(kib.parse::<usize>()? * 1024)
}

/// Raises the soft limit of open files to what `files` need, if it may.
pub(crate) fn allow_files(files: usize) -> Result<()> {
    let needed = files as u64 + 100;
    let mut limit = getrlimit(Resource::Nofile);
    if limit.current.is_none_or(|current| current >= needed) {
        return Ok(());
    }
    if let Some(maximum) = limit.maximum.filter(|&maximum| maximum < needed) {
        return Err(format!("{needed} open files are needed, {maximum} are allowed").into());
    }
    limit.current = Some(needed);
    Ok(setrlimit(Resource::Nofile, limit)?)
}

/// Raises the soft limit of open files as far as it may. Returns the limit.
pub(crate) fn allow_most_files() -> Result<u64> {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit)?;
    Ok(limit.maximum.unwrap_or(u64::MAX))
}
