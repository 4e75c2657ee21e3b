//! The result of the handshake.

use drivetrain_engine::{Connection, NegotiatedExtension, Protocol, Role, Unit};

/// The result of the handshake.
#[derive(Debug)]
pub(super) struct Facts {
    pub(super) role: Role,
    pub(super) protocol: Protocol,
    pub(super) subprotocol: Option<String>,
    pub(super) extensions: Vec<NegotiatedExtension>,
    pub(super) head: Option<Head>,
    /// The connection takes whole messages only.
    pub(super) whole_messages: bool,
}

/// The peer's half of the handshake.
#[derive(Debug)]
pub(super) enum Head {
    /// On a client.
    Response(http::Response<()>),
    /// On a server.
    Request(Box<http::Request<()>>),
}

impl Facts {
    pub(super) fn of(connection: &Connection) -> Self {
        Self {
            role: connection.role(),
            protocol: connection.protocol(),
            subprotocol: connection.subprotocol().map(str::to_owned),
            extensions: connection.extensions().to_vec(),
            head: match connection.role() {
                Role::Server => connection.request().cloned().map(Box::new).map(Head::Request),
                _ => connection.response().cloned().map(Head::Response),
            },
            whole_messages: connection.duties().unit == Unit::Messages,
        }
    }
}
