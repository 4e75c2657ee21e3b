//! The cases, by topic. In each file the list comes first.

mod closing;
mod connections;
mod deflate;
mod handshake;
mod hostile;
mod http2;
mod keepalive;
mod messages;
mod raw;
mod shutdown;

use std::{any, fmt, time::Duration};

use super::context::ServerContext;
use crate::failure::Verdict;

/// Time after which a case counts as hanging.
const LIMIT: Duration = Duration::from_secs(120);

/// One behaviour of a server and its check.
pub(super) struct ServerCase {
    pub(super) name: String,
    /// Time limit of the watchdog.
    pub(super) limit: Duration,
    run: Box<dyn Fn(&ServerContext) -> Verdict + Send + Sync>,
}

/// A case that a function checks, named `topic::function`. A closure needs a [name](ServerCase::named).
fn case(run: impl Fn(&ServerContext) -> Verdict + Send + Sync + 'static) -> ServerCase {
    let path = any::type_name_of_val(&run);
    ServerCase {
        name: path.rsplit("cases::").next().unwrap_or(path).to_owned(),
        limit: LIMIT,
        run: Box::new(run),
    }
}

impl ServerCase {
    /// Renames the case.
    fn named(mut self, topic: &str, name: impl fmt::Display) -> Self {
        self.name = format!("{topic}::{name}");
        self
    }

    pub(super) fn run(&self, cx: &ServerContext) -> Verdict {
        (self.run)(cx)
    }
}

impl fmt::Debug for ServerCase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerCase").field("name", &self.name).finish_non_exhaustive()
    }
}

/// Every case.
pub(super) fn all() -> Vec<ServerCase> {
    [
        handshake::cases(),
        deflate::cases(),
        messages::cases(),
        closing::cases(),
        keepalive::cases(),
        connections::cases(),
        raw::cases(),
        shutdown::cases(),
        http2::cases(),
        hostile::cases(),
    ]
    .into_iter()
    .flatten()
    .collect()
}
