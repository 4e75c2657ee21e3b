//! For how long a flood in one task keeps another task on the same thread waiting.

use serde::Serialize;

use crate::{
    Result,
    arguments::Arguments,
    compare::{Who, show},
    libraries,
    many::Delay,
    server::Server,
    spread::Spread,
    table::Table,
    work::{Shape, Work},
    worker::Worker,
};

/// Those that do not wait for anything.
const FLOODS: [Work; 3] =
    [Work::new(Shape::Receive, 32), Work::new(Shape::Send, 32), Work::new(Shape::Feed, 32)];

/// What a plain send per write does in about 100 ms.
const PLAIN: usize = 50_000;

/// What everything else does in about 100 ms.
const MESSAGES: usize = 1_000_000;

#[derive(Debug, Serialize)]
pub(crate) struct Row {
    pub(crate) work: String,
    #[serde(flatten)]
    pub(crate) who: Who,
    /// The worst delay of each round in milliseconds, by the thread's CPU time.
    pub(crate) thread_ms: Option<Spread>,
    /// The same by wall-clock time.
    wall_ms: Option<Spread>,
}

#[derive(Debug)]
pub(crate) struct Fairness {
    pub(crate) rows: Vec<Row>,
}

pub(crate) fn run(arguments: &Arguments) -> Result<Fairness> {
    let mut server = Server::start()?;
    let mut runs = Vec::new();
    for subject in libraries::all()? {
        let who = Who::new(&*subject);
        let asked = arguments.selects(&["fairness", who.engine, &who.subject]);
        // On several threads nothing is on the same thread.
        if asked && subject.can(Work::PING_PONG) && !who.engine.contains("threads") {
            let works = FLOODS.into_iter().filter(|&work| subject.can(work));
            let floods: Vec<_> = works.map(|work| (work, Vec::new())).collect();
            runs.push((Worker::start_on_one_thread(&who.subject, server.port()?)?, who, floods));
        }
    }
    let rounds = arguments.rounds.min(5);
    for round in 1..=rounds {
        eprint!("\rfairness, round {round} of {rounds}");
        for (worker, who, floods) in &mut runs {
            for (work, worst) in floods {
                let is_plain = work.shape == Shape::Send && !who.is_ours;
                let messages = if is_plain { PLAIN } else { MESSAGES };
                worst.push(worker.delay(*work, messages)?);
            }
        }
    }
    eprintln!();
    let mut rows = Vec::new();
    for (_, who, floods) in runs {
        for (work, worst) in floods {
            let of = |clock: fn(&Delay) -> f64| Spread::of(worst.iter().map(|d| clock(d) / 1e6));
            let (thread_ms, wall_ms) = (of(|delay| delay.thread), of(|delay| delay.wall));
            rows.push(Row { work: work.to_string(), who: who.clone(), thread_ms, wall_ms });
        }
    }
    Ok(Fairness { rows })
}

impl Fairness {
    /// One for each flood.
    pub(crate) fn tables(&self) -> Vec<Table> {
        let table = |work: Work| {
            let name = format!("worst delay by {work}");
            let mut table = Table::new([&name, "ms of the thread", "ms on the wall"]);
            for row in self.rows.iter().filter(|row| row.work == work.to_string()) {
                table.row([row.who.label(), show(row.thread_ms, 2), show(row.wall_ms, 2)]);
            }
            table
        };
        FLOODS.into_iter().map(table).filter(|table| !table.rows.is_empty()).collect()
    }
}
