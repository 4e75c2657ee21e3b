//! Resident memory per session.

use serde::Serialize;

use crate::{
    Result, arguments::Arguments, compare::Who, libraries, server::Server, table::Table,
    worker::Worker,
};

/// Bytes a session.
#[derive(Debug, Serialize)]
pub(crate) struct Row {
    #[serde(flatten)]
    pub(crate) who: Who,
    pub(crate) open: usize,
    pub(crate) after_a_message: usize,
    /// The cost of our engines' connections without a session, after a message each way.
    pub(crate) without_session: Option<usize>,
}

#[derive(Debug, Serialize)]
pub(crate) struct Memory {
    sessions: usize,
    pub(crate) rows: Vec<Row>,
}

pub(crate) fn run(arguments: &Arguments) -> Result<Memory> {
    let sessions = arguments.sessions.unwrap_or(5_000);
    let mut rows = Vec::new();
    for subject in libraries::all()? {
        let who = Who::new(&*subject);
        let asked = arguments.selects(&["memory", who.engine, &who.subject]);
        // A runtime's threads are not part of a session's cost.
        if !asked || !subject.opens_many() || who.engine.contains("threads") {
            continue;
        }
        eprint!("\rmemory: {:<40}", who.subject);
        // Each time in a process that has not done anything else.
        let mut server = Server::start()?;
        let port = server.port()?;
        let [open, after_a_message] = Worker::start(&who.subject, port)?.memory(sessions)?;
        let without_session = if who.is_ours {
            Worker::start(&who.subject, port)?.bare_memory(sessions)?
        } else {
            None
        };
        rows.push(Row { who, open, after_a_message, without_session });
    }
    eprintln!();
    Ok(Memory { sessions, rows })
}

impl Memory {
    #[cfg(test)]
    pub(crate) fn new(sessions: usize, rows: Vec<Row>) -> Self {
        Self { sessions, rows }
    }

    pub(crate) fn table(&self) -> Table {
        let name = format!("bytes a session, of {}", self.sessions);
        let mut table =
            Table::new([&name, "open", "after a message each way", "the same without a session"]);
        for row in &self.rows {
            table.row([
                row.who.label(),
                row.open.to_string(),
                row.after_a_message.to_string(),
                row.without_session.map_or_else(String::new, |bytes| bytes.to_string()),
            ]);
        }
        table
    }
}
