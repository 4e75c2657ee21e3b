//! A session of the server's role on the native frames: what a message costs at the other end.

use std::{net::SocketAddr, sync::Arc};

use drivetrain::{
    Session, Support,
    engine::{Connection, Duties, Role, reqwest::Tokio},
};
use drivetrain_codec::{Buffers, Framer};
use drivetrain_session::{SessionConfig, SetBy, WebSockets};

use super::{executor::Executor, facade::PING};
use crate::{Result, subject::Library, wire::Wire};

/// It takes part where nobody has to accept a socket: over an in-memory connection.
pub(crate) struct Serving(Executor);

impl Serving {
    pub(crate) fn new() -> Result<Self> {
        Executor::tokio().map(Self)
    }
}

impl Library for Serving {
    type Socket = Session;
    type InMemory = Session;

    fn name(&self) -> &str {
        "native, server"
    }

    fn engine(&self) -> &'static str {
        "native, server"
    }

    fn is_ours(&self) -> bool {
        true
    }

    fn executor(&self) -> &Executor {
        &self.0
    }

    async fn connect(&self, _: SocketAddr, _: &str) -> Result<Session> {
        Err("a server connects to nobody".into())
    }

    async fn connect_over(&self, wire: Wire, path: &str) -> Result<Session> {
        wire.become_client(path);
        let framer = Framer::new(wire, b"", Role::Server, &Buffers::default());
        let connection =
            Connection::new(framer).with_role(Role::Server).with_duties(Duties::frames());
        let options = WebSockets::new().ping_interval(PING);
        let support = |_| Support::Offered;
        let config =
            SessionConfig::resolve(Role::Server, "native", &support, &[(SetBy::Plugin, &options)]);
        Ok(Session::builder(connection, Tokio::current("native")?, Arc::new(config)).open())
    }
}
