//! Where the system lets processes run.

use std::{fs, io};

use rustix::{
    process::Pid,
    thread::{CpuSet, sched_getaffinity, sched_setaffinity},
};

use crate::{Result, work::Cores};

/// These processes run where their work wants them, until this is dropped.
///
/// Two that wait for each other in turn otherwise run on two cores or on one as chance will have it; and an idle
/// core that has to be woken costs more than the work, on a virtual machine the more so.
#[derive(Debug)]
pub(crate) struct Placed {
    processes: [u32; 2],
    all: CpuSet,
}

impl Placed {
    /// Moves all threads of these processes: to the last cores that this one may use.
    pub(crate) fn on(cores: Cores, processes: [u32; 2]) -> Result<Option<Self>> {
        let all = sched_getaffinity(None)?;
        let mut from_the_last = (0..CpuSet::MAX_CPU).rev().filter(|&core| all.is_set(core));
        let last = from_the_last.next().ok_or("no core")?;
        let second = match cores {
            Cores::Any => return Ok(None),
            Cores::One => last,
            Cores::Two => from_the_last.next().ok_or("two cores are needed")?,
        };
        let placed = Self { processes, all };
        for (process, core) in processes.into_iter().zip([last, second]) {
            let mut one = CpuSet::new();
            one.set(core);
            place(process, &one)?;
        }
        Ok(Some(placed))
    }
}

/// This process runs on one core and measured ones on another, until this is dropped.
#[cfg(feature = "server")]
#[derive(Debug)]
pub(crate) struct Apart {
    all: CpuSet,
}

#[cfg(feature = "server")]
impl Apart {
    /// Moves the processes to the last core that this one may use, and this one to the last but one.
    pub(crate) fn place(processes: &[u32]) -> Result<Self> {
        let all = sched_getaffinity(None)?;
        let mut from_the_last = (0..CpuSet::MAX_CPU).rev().filter(|&core| all.is_set(core));
        let mut next = || {
            let mut one = CpuSet::new();
            one.set(from_the_last.next().ok_or("two cores are needed")?);
            Ok::<_, crate::Error>(one)
        };
        let (theirs, own) = (next()?, next()?);
        let apart = Self { all };
        for process in processes {
            place(*process, &theirs)?;
        }
        place(std::process::id(), &own)?;
        Ok(apart)
    }
}

#[cfg(feature = "server")]
impl Drop for Apart {
    fn drop(&mut self) {
        if let Err(error) = place(std::process::id(), &self.all) {
            eprintln!("this process stays on its core: {error}");
        }
    }
}

fn place(process: u32, cores: &CpuSet) -> io::Result<()> {
    for thread in fs::read_dir(format!("/proc/{process}/task"))? {
        let id = thread?.file_name().to_string_lossy().parse().ok().and_then(Pid::from_raw);
        match sched_setaffinity(id, cores) {
            // A thread may end meanwhile.
            Err(rustix::io::Errno::SRCH) => {}
            other => other?,
        }
    }
    Ok(())
}

impl Drop for Placed {
    fn drop(&mut self) {
        for process in self.processes {
            if let Err(error) = place(process, &self.all) {
                eprintln!("a process stays on its core: {error}");
            }
        }
    }
}
