//! Many idle sessions with keepalive in one process: their cost, and the spread of their pings.

use std::time::Duration;

use serde::Serialize;

use crate::{
    Result, arguments::Arguments, compare::Who, libraries, many, server::Server, table::Table,
    worker::Worker,
};

/// Between two pings of a session.
const INTERVAL: Duration = Duration::from_secs(20);

#[derive(Debug, Serialize)]
pub(crate) struct Row {
    #[serde(flatten)]
    pub(crate) who: Who,
    /// Of one core.
    pub(crate) cpu: f64,
    bytes: usize,
    pings: Pings,
}

/// As the server saw them.
#[derive(Debug, PartialEq, Serialize)]
struct Pings {
    per_second: f64,
    /// Those of the busiest second by the mean.
    busiest_second: f64,
    /// Those of the busiest tenth of a second by the mean.
    busiest_tenth: f64,
}

#[derive(Debug, Serialize)]
pub(crate) struct Idle {
    pub(crate) sessions: usize,
    interval_seconds: u64,
    pub(crate) rows: Vec<Row>,
}

pub(crate) fn run(arguments: &Arguments) -> Result<Idle> {
    let sessions = arguments.sessions.unwrap_or(10_000);
    let idle = many::Idle { sessions, interval: INTERVAL, measured: INTERVAL };
    let mut rows = Vec::new();
    for subject in libraries::all()? {
        let who = Who::new(&*subject);
        let asked = arguments.selects(&["idle", who.engine, &who.subject]);
        if !asked || !who.is_ours || who.engine.contains("threads") {
            continue;
        }
        eprint!("\ridle: {:<40}", who.subject);
        let mut server = Server::start()?;
        let rest = Worker::start(&who.subject, server.port()?)?.idle(idle)?;
        let mut pings = server.pings()?;
        pings.retain(|at| (rest.from..rest.to).contains(at));
        let pings = Pings::of(&pings, rest.from, rest.to);
        rows.push(Row { who, cpu: rest.cpu, bytes: rest.bytes, pings });
    }
    eprintln!();
    Ok(Idle { sessions, interval_seconds: INTERVAL.as_secs(), rows })
}

impl Pings {
    /// Of the times, in milliseconds.
    fn of(pings: &[u64], from: u64, to: u64) -> Self {
        let seconds = (to - from) as f64 / 1e3;
        let per_second = pings.len() as f64 / seconds;
        let busiest = |length: u64| {
            // Whole parts only.
            let mut parts = vec![0_usize; ((to - from) / length) as usize];
            for at in pings {
                if let Some(part) = parts.get_mut(((at - from) / length) as usize) {
                    *part += 1;
                }
            }
            let most = parts.into_iter().max().unwrap_or(0);
            most as f64 / (per_second * length as f64 / 1e3)
        };
        Self { per_second, busiest_second: busiest(1_000), busiest_tenth: busiest(100) }
    }
}

impl Idle {
    pub(crate) fn table(&self) -> Table {
        let Self { sessions, interval_seconds, rows } = self;
        let name = format!("{sessions} idle sessions, a ping each {interval_seconds} s");
        let mut table = Table::new([
            &name,
            "CPU of a core",
            "bytes a session",
            "pings/s",
            "busiest second",
            "busiest 0.1 s",
        ]);
        for Row { who, cpu, bytes, pings } in rows {
            table.row([
                who.label(),
                format!("{:.2} %", cpu * 100.0),
                bytes.to_string(),
                format!("{:.0}", pings.per_second),
                format!("{:.2} × mean", pings.busiest_second),
                format!("{:.2} × mean", pings.busiest_tenth),
            ]);
        }
        table
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pings_in_step_show() {
        let even: Vec<u64> = (0..2_000).map(|at| 5_000 + at).collect();
        let even = Pings::of(&even, 5_000, 7_000);
        assert_eq!(even, Pings { per_second: 1000.0, busiest_second: 1.0, busiest_tenth: 1.0 });
        let in_step = Pings::of(&[5_000; 2_000], 5_000, 7_000);
        assert_eq!((in_step.busiest_second, in_step.busiest_tenth), (2.0, 20.0));
    }
}
