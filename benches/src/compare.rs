//! The bench: all contenders do the same work in turn, round after round.

use std::time::Duration;

use crate::{
    Result,
    arguments::Arguments,
    libraries,
    report::{Report, Row, Sample},
    server::Server,
    work::Work,
    worker::Worker,
};

/// With so many messages the time of one is measured, to find out how many a run takes.
const TRIAL: usize = 2_000;

/// Fewer are not worth measuring; more do not say more.
const MESSAGES: std::ops::RangeInclusive<usize> = 1_000..=2_000_000;

/// One contender at one work.
struct Run {
    work: usize,
    worker: usize,
    row: Row,
}

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let mut server = Server::start()?;
    let mut workers = Vec::new();
    let mut runs = Vec::new();
    for contender in libraries::all()? {
        let mut is_used = false;
        for (work, done) in Work::ALL.into_iter().enumerate() {
            let row = Row::new(done.to_string(), &*contender);
            if contender.can(done)
                && arguments.selects(&[&row.work, contender.engine(), contender.name()])
            {
                runs.push(Run { work, worker: workers.len(), row });
                is_used = true;
            }
        }
        if is_used {
            workers.push(Worker::start(contender.name(), server.port()?)?);
        }
    }
    if runs.is_empty() {
        return Err("the filters leave nothing to run".into());
    }
    // One work after the other, and in each one contender after the other.
    runs.sort_by_key(|run| run.work);
    let duration = Duration::from_millis(arguments.millis);
    for Run { work, worker, row } in &mut runs {
        let trial = workers[*worker].measure(*work, TRIAL)?;
        let messages = duration.as_nanos() as f64 / trial.wall;
        row.messages = (messages as usize).clamp(*MESSAGES.start(), *MESSAGES.end());
        // Warms up as long as a run takes.
        workers[*worker].measure(*work, row.messages)?;
    }
    for round in 1..=arguments.rounds {
        eprint!("\rround {round} of {}", arguments.rounds);
        for Run { work, worker, row } in &mut runs {
            let then = server.busy()?;
            let sample = workers[*worker].measure(*work, row.messages)?;
            let server_busy = server.busy_since(&then)?;
            row.samples.push(Sample { server_busy, ..sample });
        }
    }
    eprintln!();
    let report = Report::new(arguments.rounds, runs.into_iter().map(|run| run.row).collect());
    print!("{report}");
    if let Some(path) = &arguments.json {
        std::fs::write(path, serde_json::to_string_pretty(&report)? + "\n")?;
    }
    Ok(())
}
