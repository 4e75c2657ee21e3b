//! Medians, spreads and ratios, as a table and as JSON.

use std::{fmt, time::Duration};

use serde::{Deserialize, Serialize};

use crate::contender::Contender;

/// What one run came to; times are nanoseconds a message.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Sample {
    pub(crate) cpu: f64,
    pub(crate) wall: f64,
    /// The median round trip, where there are round trips.
    pub(crate) p50: Option<f64>,
    /// How much of the time the server worked.
    pub(crate) server_busy: f64,
}

impl Sample {
    /// Of so many messages in so much time. Sorts the round trips.
    pub(crate) fn new(messages: usize, cpu: Duration, wall: Duration, trips: &mut [u32]) -> Self {
        trips.sort_unstable();
        let each = |time: Duration| time.as_nanos() as f64 / messages as f64;
        Self {
            cpu: each(cpu),
            wall: each(wall),
            p50: trips.get(trips.len() / 2).map(|&trip| f64::from(trip)),
            server_busy: 0.0,
        }
    }
}

/// One contender at one work, over all rounds.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) work: String,
    engine: &'static str,
    name: String,
    label: String,
    is_ours: bool,
    /// How many a run takes.
    pub(crate) messages: usize,
    pub(crate) samples: Vec<Sample>,
}

impl Row {
    pub(crate) fn new(work: String, contender: &dyn Contender) -> Self {
        Self {
            work,
            engine: contender.engine(),
            name: contender.name().to_owned(),
            label: contender.label(),
            is_ours: contender.is_ours(),
            messages: 0,
            samples: Vec::new(),
        }
    }
}

/// The whole run.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    machine: Machine,
    rounds: usize,
    rows: Vec<Figures>,
}

#[derive(Debug, Serialize)]
struct Machine {
    cpu: String,
    cores: usize,
    os: &'static str,
}

#[derive(Debug, Serialize)]
struct Figures {
    work: String,
    engine: &'static str,
    contender: String,
    #[serde(skip)]
    label: String,
    is_engine: bool,
    messages_per_run: usize,
    cpu_ns: Spread,
    wall_ns: Spread,
    p50_ns: Option<Spread>,
    server_busy: Spread,
    /// Of a raw library: the engine beside it, divided by this, round by round.
    engine_to_raw: Option<Ratios>,
}

/// Below 1 the engine needs less than its raw library; the rate is messages a second, so above 1 it is
/// faster.
#[derive(Debug, Serialize)]
struct Ratios {
    cpu: Spread,
    p50: Option<Spread>,
    rate: Spread,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
struct Spread {
    median: f64,
    min: f64,
    max: f64,
}

impl Report {
    pub(crate) fn new(rounds: usize, rows: Vec<Row>) -> Self {
        let figures = rows.iter().map(|row| Figures::new(row, beside(&rows, row)));
        Self { machine: Machine::this(), rounds, rows: figures.collect() }
    }
}

/// The engine that a raw library stands beside.
fn beside<'a>(rows: &'a [Row], raw: &Row) -> Option<&'a Row> {
    rows.iter()
        .find(|row| !raw.is_ours && row.is_ours && row.work == raw.work && row.engine == raw.engine)
}

impl Figures {
    fn new(row: &Row, ours: Option<&Row>) -> Self {
        let of = |figure: fn(&Sample) -> f64| Spread::of(row.samples.iter().map(figure));
        let p50s: Vec<f64> = row.samples.iter().filter_map(|sample| sample.p50).collect();
        let engine_to_raw = ours.map(|ours| {
            let pairs = || ours.samples.iter().zip(&row.samples);
            let p50 = pairs().filter_map(|(ours, raw)| Some(ours.p50? / raw.p50?));
            Ratios {
                cpu: Spread::of(pairs().map(|(ours, raw)| ours.cpu / raw.cpu)),
                p50: (!p50s.is_empty()).then(|| Spread::of(p50)),
                rate: Spread::of(pairs().map(|(ours, raw)| raw.wall / ours.wall)),
            }
        });
        Self {
            work: row.work.clone(),
            engine: row.engine,
            contender: row.name.clone(),
            label: row.label.clone(),
            is_engine: row.is_ours,
            messages_per_run: row.messages,
            cpu_ns: of(|sample| sample.cpu),
            wall_ns: of(|sample| sample.wall),
            p50_ns: (!p50s.is_empty()).then(|| Spread::of(p50s.iter().copied())),
            server_busy: of(|sample| sample.server_busy),
            engine_to_raw,
        }
    }
}

impl Spread {
    fn of(figures: impl Iterator<Item = f64>) -> Self {
        let mut sorted: Vec<f64> = figures.collect();
        sorted.sort_unstable_by(f64::total_cmp);
        let at = |index: usize| sorted.get(index).copied().unwrap_or(f64::NAN);
        let middle = sorted.len() / 2;
        let median = if sorted.len() % 2 == 1 {
            at(middle)
        } else {
            f64::midpoint(at(middle - 1), at(middle))
        };
        Self { median, min: at(0), max: at(sorted.len() - 1) }
    }
}

impl Machine {
    fn this() -> Self {
        let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let cpu = info.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
        Self {
            cpu: cpu.map_or_else(|| "unknown".into(), |(_, cpu)| cpu.to_owned()),
            cores: std::thread::available_parallelism().map_or(0, usize::from),
            os: std::env::consts::OS,
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { machine, rounds, rows } = self;
        writeln!(f, "{}, {} cores, {}; {rounds} rounds", machine.cpu, machine.cores, machine.os)?;
        writeln!(f, "median (min–max); e/r: engine / raw library, round by round")?;
        for (at, row) in rows.iter().enumerate() {
            if at == 0 || rows[at - 1].work != row.work {
                writeln!(
                    f,
                    "\n{:<33}{:<24}{:<14}{:<8}{:<19}{:<19}server",
                    row.work,
                    "CPU ns/message",
                    if row.p50_ns.is_some() { "p50 µs" } else { "M messages/s" },
                    "",
                    "CPU e/r",
                    if row.p50_ns.is_some() { "p50 e/r" } else { "rate e/r" },
                )?;
            }
            row.line(f)?;
        }
        Ok(())
    }
}

impl Figures {
    fn line(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let speed = match &self.p50_ns {
            Some(p50) => p50.map(|ns| ns / 1e3).show(1),
            None => self.wall_ns.map(|ns| 1e3 / ns).show(2),
        };
        let (cpu, other) = match &self.engine_to_raw {
            Some(Ratios { cpu, p50, rate }) => (cpu.show(2), p50.as_ref().unwrap_or(rate).show(2)),
            None => Default::default(),
        };
        writeln!(
            f,
            "{:<33}{:<24}{speed:<22}{cpu:<19}{other:<19}{:>3.0} %",
            self.label,
            self.cpu_ns.show(0),
            self.server_busy.median * 100.0
        )
    }
}

impl Spread {
    /// A falling `figure` swaps the ends.
    fn map(self, figure: impl Fn(f64) -> f64) -> Self {
        let (a, b) = (figure(self.min), figure(self.max));
        Self { median: figure(self.median), min: a.min(b), max: a.max(b) }
    }

    fn show(&self, digits: usize) -> String {
        let Self { median, min, max } = self;
        format!("{median:.digits$} ({min:.digits$}–{max:.digits$})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_of_odd_and_even_numbers() {
        let spread = Spread::of([3.0, 1.0, 2.0].into_iter());
        assert_eq!(spread, Spread { median: 2.0, min: 1.0, max: 3.0 });
        assert_eq!(Spread::of([4.0, 1.0, 2.0, 3.0].into_iter()).median, 2.5);
        assert_eq!(spread.map(|figure| 6.0 / figure), Spread { median: 3.0, min: 2.0, max: 6.0 });
    }

    #[test]
    fn ratios_are_taken_round_by_round() {
        let row = |is_ours, cpus: [f64; 3]| Row {
            work: "send 32 B".into(),
            engine: "tungstenite",
            name: String::new(),
            label: String::new(),
            is_ours,
            messages: 1,
            samples: cpus
                .map(|cpu| Sample { cpu, wall: cpu, p50: None, server_busy: 0.0 })
                .to_vec(),
        };
        let report = Report::new(3, vec![row(true, [1.0, 2.0, 9.0]), row(false, [2.0, 2.0, 3.0])]);
        let ratios = report.rows[1].engine_to_raw.as_ref().expect("there is an engine");
        assert_eq!(ratios.cpu, Spread { median: 1.0, min: 0.5, max: 3.0 });
        assert!(report.rows[0].engine_to_raw.is_none());
    }
}
