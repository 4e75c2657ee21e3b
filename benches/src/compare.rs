//! The main part: all subjects do the same work in turn, round after round.

use std::time::Duration;

use serde::Serialize;

use crate::{
    Result,
    arguments::Arguments,
    cores::Placed,
    libraries::{self, LIMIT},
    sample::{Latency, Sample},
    server::Server,
    spread::Spread,
    subject::Subject,
    table::Table,
    work::Work,
    worker::Worker,
};

/// One subject at one work, over all rounds.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) work: Work,
    pub(crate) who: Who,
    /// How many a run takes.
    messages: usize,
    pub(crate) samples: Vec<Sample>,
}

/// The identity of a subject.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Who {
    pub(crate) subject: String,
    /// The engine that a raw library stands beside.
    pub(crate) engine: &'static str,
    pub(crate) is_ours: bool,
}

impl Who {
    pub(crate) fn new(subject: &dyn Subject) -> Self {
        Self {
            subject: subject.name().to_owned(),
            engine: subject.engine(),
            is_ours: subject.is_ours(),
        }
    }

    /// The label in tables.
    pub(crate) fn label(&self) -> String {
        let Self { subject, is_ours, .. } = self;
        if *is_ours { format!("drivetrain {subject}") } else { format!("  {subject}") }
    }

    /// Whether it is an engine and that one a raw library beside it.
    pub(crate) fn is_beside(&self, raw: &Self) -> bool {
        self.is_ours && !raw.is_ours && self.engine == raw.engine
    }
}

/// All rows.
#[derive(Debug)]
pub(crate) struct Compared {
    pub(crate) rounds: usize,
    pub(crate) rows: Vec<Row>,
}

/// The figures of a row, for programs.
#[derive(Debug, Serialize)]
struct Figures {
    work: String,
    #[serde(flatten)]
    who: Who,
    messages_per_run: usize,
    cpu_ns: Option<Spread>,
    wall_ns: Option<Spread>,
    p50_ns: Option<Spread>,
    p99_ns: Option<Spread>,
    p999_ns: Option<Spread>,
    server_busy: Option<Spread>,
    /// This divided by the limit.
    cpu_to_limit: Option<Spread>,
    /// The engine's figure divided by this one. Below 1 the engine needs less.
    engine_to_this: Option<Ratios>,
}

#[derive(Debug, Serialize)]
struct Ratios {
    cpu: Option<Spread>,
    wall: Option<Spread>,
    p50: Option<Spread>,
}

pub(crate) fn run(arguments: &Arguments) -> Result<Compared> {
    let mut server = Server::start()?;
    let mut workers = Vec::new();
    let mut runs: Vec<(usize, Row)> = Vec::new();
    for subject in libraries::all()? {
        let who = Who::new(&*subject);
        let rows = Work::ALL.into_iter().filter(|&work| {
            subject.can(work) && arguments.selects(&[&work.to_string(), who.engine, &who.subject])
        });
        let worker = workers.len();
        let before = runs.len();
        let row = |work| Row { work, who: who.clone(), messages: 0, samples: Vec::new() };
        runs.extend(rows.map(|work| (worker, row(work))));
        if runs.len() > before {
            workers.push(Worker::start(&who.subject, server.port()?)?);
        }
    }
    // One work after the other, and in each one subject after the other.
    runs.sort_by_key(|(_, row)| Work::ALL.iter().position(|work| *work == row.work));
    let duration = Duration::from_millis(arguments.millis);
    for (worker, row) in &mut runs {
        let worker = &mut workers[*worker];
        let _placed = Placed::on(row.work.cores, [server.process(), worker.process()])?;
        let trial = worker.measure(row.work, row.work.trial())?;
        row.messages = row.work.messages(duration, trial.wall);
        // Warms up as long as a run takes.
        worker.measure(row.work, row.messages)?;
    }
    for round in 1..=arguments.rounds {
        eprint!("\rround {round} of {}", arguments.rounds);
        for (worker, row) in &mut runs {
            let worker = &mut workers[*worker];
            let _placed = Placed::on(row.work.cores, [server.process(), worker.process()])?;
            let then = server.busy()?;
            let sample = worker.measure(row.work, row.messages)?;
            let server_busy = server.busy_since(&then)?;
            row.samples.push(Sample { server_busy, ..sample });
        }
    }
    eprintln!();
    let rows = runs.into_iter().map(|(_, row)| row).collect();
    Ok(Compared { rounds: arguments.rounds, rows })
}

impl Row {
    #[cfg(test)]
    pub(crate) fn new(work: Work, who: Who, samples: Vec<Sample>) -> Self {
        Self { work, who, messages: 1, samples }
    }

    pub(crate) fn spread(&self, figure: impl Fn(&Sample) -> f64) -> Option<Spread> {
        Spread::of(self.samples.iter().map(figure))
    }

    pub(crate) fn latency(&self, figure: impl Fn(&Latency) -> f64) -> Option<Spread> {
        Spread::of(self.samples.iter().filter_map(|sample| Some(figure(&sample.latency?))))
    }

    /// This divided by another, round by round.
    pub(crate) fn by(
        &self,
        other: &Self,
        figure: impl Fn(&Sample) -> Option<f64>,
    ) -> Option<Spread> {
        let pairs = self.samples.iter().zip(&other.samples);
        Spread::of(pairs.filter_map(|(one, other)| Some(figure(one)? / figure(other)?)))
    }
}

impl Compared {
    /// The row of this subject at this work.
    pub(crate) fn row(&self, work: Work, subject: &str) -> Option<&Row> {
        self.rows.iter().find(|row| row.work == work && row.who.subject == subject)
    }

    fn beside(&self, raw: &Row) -> Option<&Row> {
        self.rows.iter().find(|row| row.work == raw.work && row.who.is_beside(&raw.who))
    }

    fn figures(&self, row: &Row) -> Figures {
        let limit = self.row(row.work, LIMIT).filter(|limit| limit.who != row.who);
        let ratios = |ours: &Row| Ratios {
            cpu: ours.by(row, |sample| Some(sample.cpu)),
            wall: ours.by(row, |sample| Some(sample.wall)),
            p50: ours.by(row, |sample| Some(sample.latency?.p50)),
        };
        Figures {
            work: row.work.to_string(),
            who: row.who.clone(),
            messages_per_run: row.messages,
            cpu_ns: row.spread(|sample| sample.cpu),
            wall_ns: row.spread(|sample| sample.wall),
            p50_ns: row.latency(|latency| latency.p50),
            p99_ns: row.latency(|latency| latency.p99),
            p999_ns: row.latency(|latency| latency.p999),
            server_busy: row.spread(|sample| sample.server_busy),
            cpu_to_limit: limit.and_then(|limit| row.by(limit, |sample| Some(sample.cpu))),
            engine_to_this: self.beside(row).map(ratios),
        }
    }

    pub(crate) fn json(&self) -> Result<serde_json::Value> {
        let rows: Vec<_> = self.rows.iter().map(|row| self.figures(row)).collect();
        Ok(serde_json::json!({ "rounds": self.rounds, "rows": rows }))
    }

    /// One table for each work.
    pub(crate) fn tables(&self) -> Vec<Table> {
        let works = Work::ALL.into_iter().map(|work| self.table(work));
        works.filter(|table| !table.rows.is_empty()).collect()
    }

    fn table(&self, work: Work) -> Table {
        let name = work.to_string();
        let mut table = if work.has_latency() {
            Table::new([&name, CPU, LIMITS, "p50 µs", "p99", "p99.9", "CPU e/t", "p50 e/t", SERVER])
        } else {
            let rate = if work.is_large() { "GB/s" } else { "M messages/s" };
            Table::new([&name, CPU, LIMITS, rate, "CPU e/t", "rate e/t", SERVER])
        };
        for row in self.rows.iter().filter(|row| row.work == work) {
            let figures = self.figures(row);
            let micros = |spread: Option<Spread>| spread.map(|spread| spread.map(|ns| ns / 1e3));
            let mut cells = vec![
                row.who.label(),
                show(figures.cpu_ns, 0),
                figures.cpu_to_limit.map_or_else(String::new, |by| format!("{:.2}", by.median)),
            ];
            let ratios = figures.engine_to_this;
            let (cpu, wall, p50) = match ratios {
                Some(Ratios { cpu, wall, p50 }) => (cpu, wall, p50),
                None => (None, None, None),
            };
            if work.has_latency() {
                cells.push(show(micros(figures.p50_ns), 1));
                let median = |spread| micros(spread).map_or_else(String::new, one_digit);
                cells.extend([median(figures.p99_ns), median(figures.p999_ns)]);
                cells.extend([show(cpu, 2), show(p50, 2)]);
            } else {
                let each = if work.is_large() { work.size as f64 } else { 1e3 };
                cells.push(show(figures.wall_ns.map(|ns| ns.map(|ns| each / ns)), 2));
                cells.extend([show(cpu, 2), show(wall.map(|wall| wall.map(|by| 1.0 / by)), 2)]);
            }
            let busy = figures.server_busy.map_or(f64::NAN, |busy| busy.median * 100.0);
            cells.push(format!("{busy:.0} %"));
            table.rows.push(cells);
        }
        table
    }
}

const CPU: &str = "CPU ns/message";
const LIMITS: &str = "by limit";
const SERVER: &str = "server";

pub(crate) fn show(spread: Option<Spread>, digits: usize) -> String {
    spread.map_or_else(String::new, |spread| spread.show(digits))
}

fn one_digit(spread: Spread) -> String {
    format!("{:.1}", spread.median)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::work::Shape;

    const SEND: Work = Work::new(Shape::Send, 32);

    fn row(subject: &str, is_ours: bool, cpus: [f64; 3]) -> Row {
        let sample = |cpu| Sample { cpu, wall: cpu, latency: None, server_busy: 0.5 };
        let who = Who { subject: subject.into(), engine: "tungstenite", is_ours };
        Row::new(SEND, who, cpus.map(sample).to_vec())
    }

    fn compared() -> Compared {
        let rows = vec![
            row("tungstenite", true, [1.0, 2.0, 9.0]),
            row("tokio-tungstenite", false, [2.0, 2.0, 3.0]),
        ];
        Compared { rounds: 3, rows }
    }

    #[test]
    fn ratios_are_taken_round_by_round() {
        let compared = compared();
        let raw = compared.figures(&compared.rows[1]);
        let cpu = raw.engine_to_this.expect("there is an engine").cpu;
        assert_eq!(cpu, Some(Spread { median: 1.0, min: 0.5, max: 3.0 }));
        assert!(compared.figures(&compared.rows[0]).engine_to_this.is_none());
    }

    #[test]
    fn a_work_that_nobody_did_has_no_table() {
        let tables = compared().tables();
        assert_eq!(tables.len(), 1);
        assert_eq!(tables[0].rows.len(), 2);
        assert!(tables[0].rows.iter().all(|row| row.len() == tables[0].columns.len()));
    }
}
