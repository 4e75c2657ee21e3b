//! The command line.

use std::path::PathBuf;

use crate::Result;

pub(crate) const USAGE: &str = "\
cargo bench -p drivetrain-benches -- [MODE] [OPTION]...

modes
  (none)          work, sessions, fairness and memory
  all             all of these, after one another
  work            ping-pong, echoes, floods, handshakes: every engine beside its raw library
  sessions        ping-pongs over 1 to 1000 sessions at once
  fairness        for how long a flood keeps another task waiting
  memory          resident bytes per session
  idle            10 000 idle sessions with keepalive: CPU, memory, how pings spread
  server          our server beside those of axum and fastwebsockets: memory, CPU per message, shutdown
  instructions    instructions per message, by callgrind (needs valgrind)
  size            dependencies, clean build time and size of a program, with this and without it

options
  --rounds N      rounds to report, after one that is not (default 10)
  --millis N      what one run of one subject should take (default 60)
  --filter TEXT   only rows whose work, engine or subject contains TEXT; may be repeated, then all count
  --json FILE     writes the figures to FILE as well
  --page          writes tables, plots and figures to target/benchmarks
  --docs          writes the summary and two plots into docs/reference/benchmarks.md
  --sessions N    sessions to open (memory: default 5000; idle: default 10000; server: 2000 and 10000)
  --raw           the raw libraries too (instructions)
  --baseline FILE compares with FILE and fails when a figure has grown by more than 5 % (instructions)
  --update        writes FILE instead (instructions)
  --top N         the N costliest functions as well (instructions)
  --profiles DIR  keeps callgrind's profiles in DIR, for KCachegrind (instructions)";

/// What is asked for.
#[derive(Debug)]
pub(crate) struct Arguments {
    pub(crate) mode: Mode,
    pub(crate) rounds: usize,
    pub(crate) millis: u64,
    pub(crate) filters: Vec<String>,
    pub(crate) json: Option<PathBuf>,
    pub(crate) page: bool,
    pub(crate) docs: bool,
    pub(crate) sessions: Option<usize>,
    pub(crate) raw: bool,
    pub(crate) baseline: Option<PathBuf>,
    pub(crate) update: bool,
    pub(crate) top: usize,
    pub(crate) profiles: Option<PathBuf>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    Help,
    Central,
    All,
    Work,
    Sessions,
    Fairness,
    Memory,
    Idle,
    Server,
    Instructions,
    Size,
    /// Inside valgrind.
    Count {
        subject: String,
    },
    /// A subject, for the process that starts it.
    Worker {
        subject: String,
        port: u16,
    },
    /// The other side, for the process that starts it.
    Serve,
    /// A measured server, for the process that starts it.
    Host {
        server: String,
    },
}

impl Mode {
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Help => "help",
            Self::Central => "central",
            Self::All => "all",
            Self::Work => "work",
            Self::Sessions => "sessions",
            Self::Fairness => "fairness",
            Self::Memory => "memory",
            Self::Idle => "idle",
            Self::Server => "server",
            Self::Instructions => "instructions",
            Self::Size => "size",
            Self::Count { .. } => "count",
            Self::Worker { .. } => "worker",
            Self::Serve => "serve",
            Self::Host { .. } => "host",
        }
    }

    /// Whether a part belongs to the mode.
    pub(crate) fn has(&self, part: &Self) -> bool {
        match self {
            Self::All => true,
            Self::Central => {
                matches!(part, Self::Work | Self::Sessions | Self::Fairness | Self::Memory)
            }
            one => one == part,
        }
    }
}

impl Arguments {
    pub(crate) fn parse(mut from: impl Iterator<Item = String>) -> Result<Self> {
        let mut arguments = Self {
            mode: Mode::Central,
            rounds: 10,
            millis: 60,
            filters: Vec::new(),
            json: None,
            page: false,
            docs: false,
            sessions: None,
            raw: false,
            baseline: None,
            update: false,
            top: 0,
            profiles: None,
        };
        while let Some(argument) = from.next() {
            let mut value = || from.next().ok_or_else(|| format!("{argument} needs a value"));
            match argument.as_str() {
                // Cargo's own.
                "--bench" => {}
                "--help" | "-h" => arguments.mode = Mode::Help,
                "all" => arguments.mode = Mode::All,
                "work" => arguments.mode = Mode::Work,
                "sessions" => arguments.mode = Mode::Sessions,
                "fairness" => arguments.mode = Mode::Fairness,
                "memory" => arguments.mode = Mode::Memory,
                "idle" => arguments.mode = Mode::Idle,
                "server" => arguments.mode = Mode::Server,
                "instructions" => arguments.mode = Mode::Instructions,
                "size" => arguments.mode = Mode::Size,
                "count" => arguments.mode = Mode::Count { subject: value()? },
                "worker" => {
                    arguments.mode = Mode::Worker { subject: value()?, port: value()?.parse()? };
                }
                "serve" => arguments.mode = Mode::Serve,
                "host" => arguments.mode = Mode::Host { server: value()? },
                "--rounds" => arguments.rounds = at_least_one(&argument, &value()?)?,
                "--millis" => arguments.millis = value()?.parse()?,
                "--filter" => arguments.filters.push(value()?.to_lowercase()),
                "--json" => arguments.json = Some(value()?.into()),
                "--page" => arguments.page = true,
                "--docs" => arguments.docs = true,
                "--sessions" => {
                    arguments.sessions = Some(at_least_one(&argument, &value()?)?);
                }
                "--raw" => arguments.raw = true,
                "--baseline" => arguments.baseline = Some(value()?.into()),
                "--update" => arguments.update = true,
                "--top" => arguments.top = value()?.parse()?,
                "--profiles" => arguments.profiles = Some(value()?.into()),
                _ => return Err(format!("unknown argument {argument}").into()),
            }
        }
        // All of them is with the raw libraries.
        arguments.raw |= arguments.mode == Mode::All;
        Ok(arguments)
    }

    /// The command that measures the same; without the files that it writes.
    pub(crate) fn command(&self) -> String {
        let Self { mode, rounds, millis, filters, sessions, raw, .. } = self;
        let mut command = "cargo bench -p drivetrain-benches --".to_owned();
        if *mode != Mode::Central {
            command += &format!(" {}", mode.name());
        }
        if mode.has(&Mode::Work) {
            command += &format!(" --rounds {rounds} --millis {millis}");
        } else if mode.has(&Mode::Server) {
            command += &format!(" --rounds {rounds}");
        }
        for filter in filters {
            command += &format!(" --filter '{filter}'");
        }
        if let Some(sessions) = sessions {
            command += &format!(" --sessions {sessions}");
        }
        if *raw && *mode == Mode::Instructions {
            command += " --raw";
        }
        command
    }

    /// Whether a row with these names is asked for.
    pub(crate) fn selects(&self, names: &[&str]) -> bool {
        self.filters
            .iter()
            .all(|filter| names.iter().any(|name| name.to_lowercase().contains(filter.as_str())))
    }
}

fn at_least_one(name: &str, value: &str) -> Result<usize> {
    match value.parse()? {
        0 => Err(format!("{name} must not be 0").into()),
        number => Ok(number),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Arguments> {
        Arguments::parse(line.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn filters_all_have_to_match_some_name() {
        let arguments = parse("--filter smol --filter 32 --bench").expect("valid");
        assert_eq!(arguments.mode, Mode::Central);
        assert!(arguments.selects(&["send 32 B", "smol"]));
        assert!(!arguments.selects(&["send 1 KiB", "smol"]));
    }

    #[test]
    fn what_is_not_known_or_lacks_a_value_is_refused() {
        assert!(parse("--round 3").is_err());
        assert!(parse("--rounds").is_err());
        assert!(parse("--rounds 0").is_err());
    }

    #[test]
    fn the_command_is_said_without_files() {
        let arguments = parse("memory --sessions 7 --json /tmp/x --page --docs").expect("valid");
        assert_eq!(arguments.command(), "cargo bench -p drivetrain-benches -- memory --sessions 7");
        let arguments = parse("--rounds 3").expect("valid");
        let command = "cargo bench -p drivetrain-benches -- --rounds 3 --millis 60";
        assert_eq!(arguments.command(), command);
    }

    #[test]
    fn a_mode_has_its_parts() {
        assert!(Mode::All.has(&Mode::Server) && !Mode::Central.has(&Mode::Server));
        assert!(Mode::All.has(&Mode::Idle) && Mode::All.has(&Mode::Size));
        assert!(Mode::Central.has(&Mode::Memory) && !Mode::Central.has(&Mode::Idle));
        assert!(Mode::Idle.has(&Mode::Idle) && !Mode::Idle.has(&Mode::Work));
    }
}
