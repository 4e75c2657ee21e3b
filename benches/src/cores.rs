//! Where the system lets processes run.

use std::{fs, io};

use rustix::{
    process::Pid,
    thread::{CpuSet, sched_getaffinity, sched_setaffinity},
};

use crate::Result;

/// These processes share one core, until this is dropped.
///
/// Two that wait for each other in turn otherwise run on two cores or on one as chance will have it; and an idle
/// core that has to be woken costs more than the work, on a virtual machine the more so.
#[derive(Debug)]
pub(crate) struct Shared {
    processes: Vec<u32>,
    all: CpuSet,
}

impl Shared {
    /// Moves all threads of these processes to the last core that this one may use.
    pub(crate) fn by(processes: &[u32]) -> Result<Self> {
        let all = sched_getaffinity(None)?;
        let shared = Self { processes: processes.to_vec(), all };
        let last = (0..CpuSet::MAX_CPU).rfind(|&core| all.is_set(core)).ok_or("no core")?;
        let mut one = CpuSet::new();
        one.set(last);
        shared.place(&one)?;
        Ok(shared)
    }

    fn place(&self, cores: &CpuSet) -> io::Result<()> {
        for process in &self.processes {
            for thread in fs::read_dir(format!("/proc/{process}/task"))? {
                let id = thread?.file_name().to_string_lossy().parse().ok().and_then(Pid::from_raw);
                match sched_setaffinity(id, cores) {
                    // A thread may end meanwhile.
                    Err(rustix::io::Errno::SRCH) => {}
                    other => other?,
                }
            }
        }
        Ok(())
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        if let Err(error) = self.place(&self.all) {
            eprintln!("processes stay on one core: {error}");
        }
    }
}
