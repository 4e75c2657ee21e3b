//! How cost grows with the number of sessions: ping-pongs spread over 1 to 1000 of them at once.

use serde::Serialize;

use crate::{
    Result,
    arguments::Arguments,
    compare::{Who, show},
    libraries,
    sample::{Latency, Sample},
    server::Server,
    spread::Spread,
    table::Table,
    worker::Worker,
};

/// Numbers of sessions at once.
pub(crate) const NUMBERS: [usize; 4] = [1, 10, 100, 1000];

/// Messages in all, whatever the number of sessions.
const MESSAGES: usize = 20_000;

#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) sessions: usize,
    pub(crate) who: Who,
    pub(crate) samples: Vec<Sample>,
}

#[derive(Debug)]
pub(crate) struct Sessions {
    rounds: usize,
    pub(crate) rows: Vec<Row>,
}

#[derive(Debug, Serialize)]
struct Figures<'a> {
    sessions: usize,
    #[serde(flatten)]
    who: &'a Who,
    cpu_ns: Option<Spread>,
    wall_ns: Option<Spread>,
    p50_ns: Option<Spread>,
    p99_ns: Option<Spread>,
    server_busy: Option<Spread>,
}

pub(crate) fn run(arguments: &Arguments) -> Result<Sessions> {
    let mut server = Server::start()?;
    let mut workers = Vec::new();
    for subject in libraries::all()? {
        let who = Who::new(&*subject);
        let asked = arguments.selects(&["sessions", who.engine, &who.subject]);
        if asked && subject.opens_many() {
            workers.push((Worker::start(&who.subject, server.port()?)?, who));
        }
    }
    let rounds = arguments.rounds.min(5);
    let mut rows = Vec::new();
    for sessions in NUMBERS {
        let row = |who: &Who| Row { sessions, who: who.clone(), samples: Vec::new() };
        let from = rows.len();
        rows.extend(workers.iter().map(|(_, who)| row(who)));
        for round in 1..=rounds {
            eprint!("\r{sessions} sessions, round {round} of {rounds}  ");
            for ((worker, _), row) in workers.iter_mut().zip(&mut rows[from..]) {
                let then = server.busy()?;
                let sample = worker.spread(sessions, MESSAGES)?;
                row.samples.push(Sample { server_busy: server.busy_since(&then)?, ..sample });
            }
        }
    }
    eprintln!();
    Ok(Sessions { rounds, rows })
}

impl Row {
    pub(crate) fn spread(&self, figure: impl Fn(&Sample) -> f64) -> Option<Spread> {
        Spread::of(self.samples.iter().map(figure))
    }

    pub(crate) fn latency(&self, figure: impl Fn(&Latency) -> f64) -> Option<Spread> {
        Spread::of(self.samples.iter().filter_map(|sample| Some(figure(&sample.latency?))))
    }
}

impl Sessions {
    /// The p99 of one subject divided by that of another, with this many sessions, round by round.
    pub(crate) fn p99_by(&self, sessions: usize, one: &str, other: &str) -> Option<Spread> {
        let row = |name: &str| {
            self.rows.iter().find(|row| row.sessions == sessions && row.who.subject == name)
        };
        let (one, other) = (row(one)?, row(other)?);
        let p99 = |sample: &Sample| Some(sample.latency?.p99);
        let pairs = one.samples.iter().zip(&other.samples);
        Spread::of(pairs.filter_map(|(one, other)| Some(p99(one)? / p99(other)?)))
    }

    pub(crate) fn json(&self) -> Result<serde_json::Value> {
        let figures = |row: &Row| {
            serde_json::json!(Figures {
                sessions: row.sessions,
                who: &row.who,
                cpu_ns: row.spread(|sample| sample.cpu),
                wall_ns: row.spread(|sample| sample.wall),
                p50_ns: row.latency(|latency| latency.p50),
                p99_ns: row.latency(|latency| latency.p99),
                server_busy: row.spread(|sample| sample.server_busy),
            })
        };
        let rows: Vec<_> = self.rows.iter().map(figures).collect();
        Ok(serde_json::json!({ "rounds": self.rounds, "messages": MESSAGES, "rows": rows }))
    }

    /// One table for each number of sessions.
    pub(crate) fn tables(&self) -> Vec<Table> {
        let numbers = NUMBERS.into_iter().map(|sessions| {
            let name =
                if sessions == 1 { "1 session".into() } else { format!("{sessions} sessions") };
            let mut table =
                Table::new([&name, "CPU ns/message", "k messages/s", "p50 µs", "p99 µs", "server"]);
            for row in self.rows.iter().filter(|row| row.sessions == sessions) {
                let micros =
                    |spread: Option<Spread>| spread.map(|spread| spread.map(|ns| ns / 1e3));
                let rate = row.spread(|sample| 1e6 / sample.wall);
                let busy = row.spread(|sample| sample.server_busy * 100.0);
                table.row([
                    row.who.label(),
                    show(row.spread(|sample| sample.cpu), 0),
                    show(rate, 1),
                    show(micros(row.latency(|latency| latency.p50)), 1),
                    show(micros(row.latency(|latency| latency.p99)), 1),
                    busy.map_or_else(String::new, |busy| format!("{:.0} %", busy.median)),
                ]);
            }
            table
        });
        numbers.filter(|table| !table.rows.is_empty()).collect()
    }
}
