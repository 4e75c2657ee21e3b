//! A subject in its own process, so that none shares an allocator, a reactor or threads with
//! another.

use std::time::Duration;

use serde::{Serialize, de::DeserializeOwned};

use crate::{
    Error, Result, clock, libraries,
    many::{Delay, Idle, Rest},
    sample::Sample,
    server::address,
    work::Work,
    worker_process::{self, WorkerProcess},
};

/// The main loop of the child process.
pub(crate) fn work(subject: &str, port: u16) -> Result<()> {
    let mut subject = libraries::named(subject)?;
    let server = address(port);
    worker_process::answer(|line| match *line.split(' ').collect::<Vec<_>>() {
        ["measure", work, messages] => {
            json(subject.measure(server, indexed(work)?, messages.parse()?)?)
        }
        ["spread", sessions, messages] => {
            json(subject.spread(server, allowed(sessions)?, messages.parse()?)?)
        }
        ["delay", work, messages] => {
            json(subject.delay(server, indexed(work)?, messages.parse()?)?)
        }
        ["memory", sessions] => json(subject.memory(server, allowed(sessions)?)?),
        ["bare", sessions] => json(subject.bare_memory(server, allowed(sessions)?)?),
        ["idle", sessions, interval, measured] => {
            let seconds = |text: &str| Ok::<_, Error>(Duration::from_secs(text.parse()?));
            let sessions = allowed(sessions)?;
            let (interval, measured) = (seconds(interval)?, seconds(measured)?);
            json(subject.idle(server, Idle { sessions, interval, measured })?)
        }
        _ => Err(format!("a worker does not know {line:?}").into()),
    })
}

fn json(answer: impl Serialize) -> Result<serde_json::Value> {
    Ok(serde_json::to_value(answer)?)
}

fn indexed(work: &str) -> Result<Work> {
    Ok(*Work::ALL.get(work.parse::<usize>()?).ok_or("no such work")?)
}

fn allowed(sessions: &str) -> Result<usize> {
    let sessions = sessions.parse()?;
    clock::allow_files(sessions)?;
    Ok(sessions)
}

/// A subject's process; it ends with this value.
#[derive(Debug)]
pub(crate) struct Worker {
    subject: String,
    process: WorkerProcess,
}

impl Worker {
    pub(crate) fn start(subject: &str, port: u16) -> Result<Self> {
        let process = WorkerProcess::start(&["worker", subject, &port.to_string()])?;
        Ok(Self { subject: subject.to_owned(), process })
    }

    /// The process id.
    pub(crate) fn process(&self) -> u32 {
        self.process.process()
    }

    /// The same with all tasks on one thread, whatever the runtime.
    pub(crate) fn start_on_one_thread(subject: &str, port: u16) -> Result<Self> {
        let variables = [("ASYNC_STD_THREAD_COUNT", "1"), ("SMOL_THREADS", "1")];
        let process =
            WorkerProcess::start_with(&["worker", subject, &port.to_string()], variables)?;
        Ok(Self { subject: subject.to_owned(), process })
    }

    /// Does the work over a connection to the server, which is kept for the next time.
    pub(crate) fn measure(&mut self, work: Work, messages: usize) -> Result<Sample> {
        self.ask(&format!("measure {} {messages}", index(work)?))
    }

    /// Does this many ping-pongs over this many concurrent sessions.
    pub(crate) fn spread(&mut self, sessions: usize, messages: usize) -> Result<Sample> {
        self.ask(&format!("spread {sessions} {messages}"))
    }

    /// For how long a flood kept another task waiting at worst.
    pub(crate) fn delay(&mut self, work: Work, messages: usize) -> Result<Delay> {
        self.ask(&format!("delay {} {messages}", index(work)?))
    }

    /// Opens sessions. Returns the resident bytes that each costs: open, and after one message each way.
    pub(crate) fn memory(&mut self, sessions: usize) -> Result<[usize; 2]> {
        self.ask(&format!("memory {sessions}"))
    }

    /// Opens connections without a session, if there is such a thing. Returns the resident bytes of one
    /// after a message each way.
    pub(crate) fn bare_memory(&mut self, connections: usize) -> Result<Option<usize>> {
        self.ask(&format!("bare {connections}"))
    }

    /// Opens sessions that ping, and does nothing else.
    pub(crate) fn idle(&mut self, Idle { sessions, interval, measured }: Idle) -> Result<Rest> {
        let (interval, measured) = (interval.as_secs(), measured.as_secs());
        self.ask(&format!("idle {sessions} {interval} {measured}"))
    }

    fn ask<T: DeserializeOwned>(&mut self, line: &str) -> Result<T> {
        self.process.ask(line).map_err(|error| format!("{}: {line}: {error}", self.subject).into())
    }
}

fn index(work: Work) -> Result<usize> {
    let found = Work::ALL.iter().position(|known| *known == work);
    found.ok_or_else(|| format!("{work} is no work of the bench").into())
}
