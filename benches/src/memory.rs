//! Resident memory per session.

use serde::Serialize;

use crate::{Result, arguments::Arguments, libraries, server::Server, worker::Worker};

/// Bytes a session.
#[derive(Debug, Serialize)]
struct Figures {
    contender: String,
    is_engine: bool,
    open: usize,
    after_a_message: usize,
}

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let sessions = arguments.sessions;
    let mut rows = Vec::new();
    println!("resident bytes a session, of {sessions}");
    println!("{:<33}{:>10}{:>18}", "", "open", "after a message");
    for contender in libraries::all()? {
        if !arguments.selects(&[contender.engine(), contender.name()]) {
            continue;
        }
        let mut server = Server::start()?;
        let mut worker = Worker::start(contender.name(), server.port()?)?;
        let [open, after_a_message] = worker.memory(sessions)?;
        println!("{:<33}{open:>10}{after_a_message:>18}", contender.label());
        rows.push(Figures {
            contender: contender.name().to_owned(),
            is_engine: contender.is_ours(),
            open,
            after_a_message,
        });
    }
    if rows.is_empty() {
        return Err("the filters leave nothing to run".into());
    }
    if let Some(path) = &arguments.json {
        std::fs::write(path, serde_json::to_string_pretty(&rows)? + "\n")?;
    }
    Ok(())
}
