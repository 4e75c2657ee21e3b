//! A server's process: found, started by the first trial that asks, started again if it dies, and stopped with the
//! last trial.

use std::{
    env, fmt,
    fs::{self, File},
    io::{BufRead as _, BufReader},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use crate::site::Failure;

/// No server outlives this number of seconds, though the tests may be killed.
const LIFETIME: &str = "3600";

/// A server that dies more often than this is not started again.
const MAX_DEATHS: u32 = 3;

/// The lines of a dead server's standard error that are printed.
const LAST_LINES: usize = 20;

/// What serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Program {
    Ktor,
    Go,
    GoHttp,
    Java,
}

impl Program {
    pub(crate) fn file(self) -> &'static str {
        match self {
            Self::Ktor => "ktor/ktor-peer.jar",
            Self::Go | Self::GoHttp => "go/go-peer",
            Self::Java => "java/java-peer.jar",
        }
    }
}

/// One server, which may be missing.
pub(crate) struct Server {
    program: Program,
    library: &'static str,
    name: String,
    /// Why there is none.
    missing: Option<String>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    plain: Option<Result<Process, String>>,
    pinging: Option<Result<Process, String>>,
    /// Processes that died so far.
    deaths: u32,
}

/// A process that is running, as far as anybody knows.
pub(crate) struct Running {
    pub(crate) ports: Vec<u16>,
    /// Deaths before this process was started.
    pub(crate) deaths: u32,
}

struct Process {
    child: Child,
    ports: Vec<u16>,
    /// The file that its standard error goes to.
    log: PathBuf,
}

impl Server {
    pub(crate) fn new(program: Program, library: &'static str) -> Self {
        let name = match program {
            Program::Ktor => format!("ktor-{library}"),
            Program::Go | Program::GoHttp => format!("go-{library}"),
            Program::Java => library.to_owned(),
        };
        Self { program, library, name, missing: missing(program), state: Mutex::default() }
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn program(&self) -> Program {
        self.program
    }

    pub(crate) fn missing(&self) -> Option<String> {
        self.missing.clone()
    }

    /// The server's process; it is started if it does not run yet.
    pub(crate) fn running(&self) -> Result<Running, Failure> {
        let mut state = self.lock();
        let deaths = state.deaths;
        let process = state.plain.get_or_insert_with(|| self.start(&[]));
        let ports = process.as_ref().map_err(Clone::clone)?.ports.clone();
        Ok(Running { ports, deaths })
    }

    /// The port of a second process, which pings every 200 ms and drops a peer that is silent for 2 s.
    pub(crate) fn pinging_port(&self) -> Result<u16, Failure> {
        let mut state = self.lock();
        let process = state.pinging.get_or_insert_with(|| self.start(&["200", "2000"]));
        Ok(process.as_ref().map_err(Clone::clone)?.ports[0])
    }

    /// The number of processes that died so far. One that is found dead now is printed with the end of its standard
    /// error, and the next trial that asks for it starts another.
    pub(crate) fn deaths(&self) -> u32 {
        let mut state = self.lock();
        let State { plain, pinging, deaths } = &mut *state;
        for (seat, what) in [(plain, ""), (pinging, " (pinging)")] {
            let Some(Ok(process)) = seat else { continue };
            let Some(why) = process.death() else { continue };
            *deaths += 1;
            let last_words = last_lines(&process.log);
            println!(
                "died {deaths} of {MAX_DEATHS}: {self}{what}: {why}; its last words: {last_words}"
            );
            process.stop();
            // Seen too often, it is a fault that somebody has to look at.
            let is_last = *deaths >= MAX_DEATHS;
            *seat =
                is_last.then(|| Err(format!("{self} died {deaths} times: {why}: {last_words}")));
        }
        *deaths
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Twice, since a port that was free may be taken by somebody else.
    fn start(&self, pings: &[&str]) -> Result<Process, String> {
        self.try_start(pings)
            .or_else(|_| self.try_start(pings))
            .map_err(|error| format!("{} does not start: {error}", self.name))
    }

    fn try_start(&self, pings: &[&str]) -> std::io::Result<Process> {
        let ports = free_ports(if self.program == Program::GoHttp { 3 } else { 1 })?;
        let log = self.log(pings);
        let mut command = Command::new("timeout");
        // A process that ignores SIGTERM is killed.
        command.args(["--kill-after=5", LIFETIME]);
        start(&mut command, self.program);
        match self.program {
            // As it would set it for itself, starting itself again.
            Program::GoHttp => command.arg("http").env("GODEBUG", "http2xconnect=1"),
            _ => command.args(["server", self.library]),
        };
        command.args(ports.iter().map(u16::to_string)).args(pings);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(File::create(&log)?);
        let mut process = Process { child: command.spawn()?, ports, log };
        match wait_until_ready(&mut process.child) {
            Ok(()) => Ok(process),
            Err(error) => {
                // It has ended, or will not be of use.
                process.stop();
                let last_words = last_lines(&process.log);
                Err(std::io::Error::new(error.kind(), format!("{error}: {last_words}")))
            }
        }
    }

    /// Where the standard error of a process goes: one file for each, that of this run.
    fn log(&self, pings: &[&str]) -> PathBuf {
        let kind = if pings.is_empty() { "plain" } else { "pinging" };
        Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{}-{kind}.stderr", self.name))
    }
}

/// With the last of its trials: on a small machine there is no room for all servers at once.
impl Drop for Server {
    fn drop(&mut self) {
        let State { plain, pinging, .. } = std::mem::take(&mut *self.lock());
        for mut process in [plain, pinging].into_iter().flatten().flatten() {
            process.stop();
        }
    }
}

impl Process {
    /// Why it is of no use any more: it has exited, or accepts no connection.
    fn death(&mut self) -> Option<String> {
        match self.child.try_wait() {
            Ok(None) => {}
            Ok(Some(status)) => return Some(status.to_string()),
            Err(error) => return Some(error.to_string()),
        }
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, self.ports[0]));
        let connected = TcpStream::connect_timeout(&address, Duration::from_secs(30));
        connected.err().map(|error| format!("it accepts no connection: {error}"))
    }

    /// Ends it, if it has not ended.
    fn stop(&mut self) {
        if let Ok(None) = self.child.try_wait() {
            // `timeout` passes SIGTERM on.
            let _ = Command::new("kill").arg(self.child.id().to_string()).status();
            let _ = self.child.wait();
        }
    }
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

/// The arguments that run a program.
pub(crate) fn start(command: &mut Command, program: Program) {
    if matches!(program, Program::Ktor | Program::Java) {
        // Of two cores each takes its share. Without memory the whole process ends: one that has merely lost some of its
        // threads would answer some trials and hang in others.
        command.args(["java", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xmx512m"]);
        command.args(["-XX:+ExitOnOutOfMemoryError", "-jar"]);
    }
    command.arg(path(program));
}

/// Why there is no such program; `None` if there is.
pub(crate) fn missing(program: Program) -> Option<String> {
    let path = path(program);
    if env::var_os("DRIVETRAIN_PEERS").is_none() {
        Some("DRIVETRAIN_PEERS names no folder".to_owned())
    } else if path.exists() {
        starts(program, &path).err()
    } else {
        Some(format!("{} is not there", program.file()))
    }
}

fn path(program: Program) -> PathBuf {
    let folder = env::var_os("DRIVETRAIN_PEERS").map(PathBuf::from);
    folder.unwrap_or_default().join(program.file())
}

/// Whether this machine runs such a program.
fn starts(program: Program, path: &Path) -> Result<(), String> {
    let (what, mut command) = match program {
        Program::Ktor | Program::Java => ("java", Command::new("java")),
        Program::Go | Program::GoHttp => (program.file(), Command::new(path)),
    };
    let tried = command
        .arg("-version")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    tried.map(drop).map_err(|error| format!("{what} does not run here: {error}"))
}

/// The end of a file, in one line.
fn last_lines(file: &Path) -> String {
    let text = fs::read(file).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<_> = text.lines().collect();
    let last = lines[lines.len().saturating_sub(LAST_LINES)..].join(" | ");
    if last.is_empty() { "none".to_owned() } else { last }
}

fn free_ports(count: usize) -> std::io::Result<Vec<u16>> {
    let listeners: Vec<_> =
        (0..count).map(|_| TcpListener::bind(("127.0.0.1", 0))).collect::<std::io::Result<_>>()?;
    listeners.iter().map(|listener| Ok(listener.local_addr()?.port())).collect()
}

/// Reads up to `ready PORT`; what comes later is read and thrown away, so that nobody waits for a full pipe.
fn wait_until_ready(child: &mut Child) -> std::io::Result<()> {
    let output = child.stdout.take().ok_or(std::io::ErrorKind::BrokenPipe)?;
    let mut lines = BufReader::new(output).lines();
    let found = lines.by_ref().find_map(|line| match line {
        Ok(line) => line.starts_with("ready").then_some(Ok(())),
        Err(error) => Some(Err(error)),
    });
    found.unwrap_or(Err(std::io::ErrorKind::UnexpectedEof.into()))?;
    std::thread::Builder::new().spawn(move || lines.for_each(drop))?;
    Ok(())
}
