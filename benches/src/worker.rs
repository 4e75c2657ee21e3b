//! A contender in a process of its own, so that none shares an allocator, a reactor or threads with
//! another.

use serde::{Deserialize, Serialize};

use crate::{
    Error, Result, clock, libraries, partner, partner::Partner, report::Sample, server::address,
    work::Work,
};

/// What a worker answers.
#[derive(Debug, Serialize, Deserialize)]
enum Answer {
    Sample(Sample),
    /// Resident bytes a session: open, and after one message each way.
    Memory([usize; 2]),
}

/// In the other process.
pub(crate) fn work(contender: &str, port: u16) -> Result<()> {
    let mut contender = libraries::named(contender)?;
    partner::answer(|line| match *line.split(' ').collect::<Vec<_>>() {
        ["measure", work, messages] => {
            let work = *Work::ALL.get(work.parse::<usize>()?).ok_or("no such work")?;
            contender.measure(address(port), work, messages.parse()?).map(Answer::Sample)
        }
        ["memory", sessions] => {
            let sessions = sessions.parse()?;
            clock::allow_files(sessions)?;
            contender.memory(address(port), sessions).map(Answer::Memory)
        }
        _ => Err(format!("a worker does not know {line:?}").into()),
    })
}

/// A contender's process; it ends with this value.
#[derive(Debug)]
pub(crate) struct Worker {
    contender: String,
    partner: Partner,
}

impl Worker {
    pub(crate) fn start(contender: &str, port: u16) -> Result<Self> {
        let partner = Partner::start(&["work", contender, &port.to_string()])?;
        Ok(Self { contender: contender.to_owned(), partner })
    }

    /// Does the work of this index over a connection to the server, which is kept for the next time.
    pub(crate) fn measure(&mut self, work: usize, messages: usize) -> Result<Sample> {
        match self.ask(&format!("measure {work} {messages}"))? {
            Answer::Sample(sample) => Ok(sample),
            answer @ Answer::Memory(_) => Err(self.error(&format!("answered {answer:?}"))),
        }
    }

    /// Opens sessions. Returns the resident bytes that each costs: open, and after one message each way.
    pub(crate) fn memory(&mut self, sessions: usize) -> Result<[usize; 2]> {
        match self.ask(&format!("memory {sessions}"))? {
            Answer::Memory(bytes) => Ok(bytes),
            answer @ Answer::Sample(_) => Err(self.error(&format!("answered {answer:?}"))),
        }
    }

    fn ask(&mut self, line: &str) -> Result<Answer> {
        self.partner.ask(line).map_err(|error| self.error(&format!("{line}: {error}")))
    }

    fn error(&self, message: &str) -> Error {
        format!("{}: {message}", self.contender).into()
    }
}
