//! The command line.

use std::path::PathBuf;

use crate::Result;

pub(crate) const USAGE: &str = "\
cargo bench -p drivetrain-benches -- [MODE] [OPTION]...

modes
  (none)          ping-pong and floods over loopback, every engine beside its raw library
  instructions    instructions per message, by callgrind (needs valgrind)
  memory          resident bytes per session

options
  --rounds N      rounds to report, after one that is not (default 10)
  --millis N      what one run of one contender should take (default 60)
  --filter TEXT   only rows whose work, engine or contender contains TEXT; may be repeated, then all count
  --json FILE     writes the figures to FILE as well
  --sessions N    sessions to open (memory; default 1000)
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
    pub(crate) sessions: usize,
    pub(crate) raw: bool,
    pub(crate) baseline: Option<PathBuf>,
    pub(crate) update: bool,
    pub(crate) top: usize,
    pub(crate) profiles: Option<PathBuf>,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    Help,
    Compare,
    Instructions,
    /// Inside valgrind.
    Count {
        contender: String,
    },
    Memory,
    /// A contender, for the process that starts it.
    Work {
        contender: String,
        port: u16,
    },
    /// The other side, for the process that starts it.
    Serve,
}

impl Arguments {
    pub(crate) fn parse(mut from: impl Iterator<Item = String>) -> Result<Self> {
        let mut arguments = Self {
            mode: Mode::Compare,
            rounds: 10,
            millis: 60,
            filters: Vec::new(),
            json: None,
            sessions: 1000,
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
                "instructions" => arguments.mode = Mode::Instructions,
                "count" => arguments.mode = Mode::Count { contender: value()? },
                "memory" => arguments.mode = Mode::Memory,
                "work" => {
                    arguments.mode = Mode::Work { contender: value()?, port: value()?.parse()? };
                }
                "serve" => arguments.mode = Mode::Serve,
                "--rounds" => arguments.rounds = at_least_one(&argument, &value()?)?,
                "--millis" => arguments.millis = value()?.parse()?,
                "--filter" => arguments.filters.push(value()?.to_lowercase()),
                "--json" => arguments.json = Some(value()?.into()),
                "--sessions" => arguments.sessions = at_least_one(&argument, &value()?)?,
                "--raw" => arguments.raw = true,
                "--baseline" => arguments.baseline = Some(value()?.into()),
                "--update" => arguments.update = true,
                "--top" => arguments.top = value()?.parse()?,
                "--profiles" => arguments.profiles = Some(value()?.into()),
                _ => return Err(format!("unknown argument {argument}").into()),
            }
        }
        Ok(arguments)
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
        assert_eq!(arguments.mode, Mode::Compare);
        assert!(arguments.selects(&["send 32 B", "smol"]));
        assert!(!arguments.selects(&["send 1 KiB", "smol"]));
    }

    #[test]
    fn what_is_not_known_or_lacks_a_value_is_refused() {
        assert!(parse("--round 3").is_err());
        assert!(parse("--rounds").is_err());
        assert!(parse("--rounds 0").is_err());
    }
}
