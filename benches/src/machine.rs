//! The machine of the figures, without anything that identifies it.

use std::process::Command;

use serde::Serialize;

#[derive(Debug, Serialize)]
pub(crate) struct Machine {
    cpu: String,
    cores: usize,
    kernel: String,
    rustc: String,
}

impl Machine {
    pub(crate) fn this() -> Self {
        let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let cpu = info.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
        Self {
            cpu: cpu.map_or_else(|| "unknown".into(), |(_, cpu)| cpu.to_owned()),
            cores: std::thread::available_parallelism().map_or(0, usize::from),
            kernel: kernel(),
            rustc: rustc(),
        }
    }
}

impl std::fmt::Display for Machine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { cpu, cores, kernel, rustc } = self;
        write!(f, "{cpu}, {cores} cores, {kernel}, {rustc}")
    }
}

/// Name and version numbers of the kernel. The rest may name a machine.
fn kernel() -> String {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let end = release.find(|part: char| part != '.' && !part.is_ascii_digit());
    format!("Linux {}", &release[..end.unwrap_or(release.len())])
}

/// The compiler that is in use here, which is the one that built this.
pub(crate) fn rustc() -> String {
    let output = Command::new("rustc").arg("-V").output();
    let version = output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    version.unwrap_or_else(|_| "an unknown rustc".into())
}
