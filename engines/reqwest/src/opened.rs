//! What a handshake came to.

use bytes::Bytes;
use drivetrain_engine::{Accepted, Answer, Body, Connection, Duties, Protocol, Transport};
use http::{Response, Version};

/// The stream of a WebSocket that [`Hop::open`](crate::Hop::open) opened. What the server sent right behind its answer is
/// read from it first.
pub type Upgrade = reqwest::Upgraded;

/// What a server says to a handshake, where it accepts with the stream to put frames on.
#[derive(Debug)]
pub enum Opened<S = Upgrade> {
    /// The server accepted, and its answer was verified.
    Upgraded {
        /// The stream, in the state after the answer.
        stream: S,
        /// What the server sent right behind its answer and is not in `stream` any more: it comes
        /// first. Empty where the stream yields it by itself.
        read_ahead: Bytes,
        /// The head of the answer.
        response: Response<()>,
        /// What was agreed on.
        accepted: Accepted,
    },
    /// The server answered something else than 101; the body is still streaming.
    Refused(Response<Body>),
}

impl<S> Opened<S> {
    /// The answer for the session: `frame` makes the transport of the stream, of what was read ahead,
    /// and of what was agreed on; `duties` are what that transport does by itself.
    pub fn into_answer<T: Transport + 'static>(
        self,
        duties: Duties,
        frame: impl FnOnce(S, Bytes, &Accepted) -> T,
    ) -> Answer {
        match self {
            Self::Refused(response) => Answer::Refused(response),
            Self::Upgraded { stream, read_ahead, response, accepted } => {
                let transport = frame(stream, read_ahead, &accepted);
                let Accepted { subprotocol, extensions } = accepted;
                Answer::Open(
                    Connection::new(transport)
                        .with_subprotocol(subprotocol)
                        .with_extensions(extensions)
                        .with_protocol(match response.version() {
                            Version::HTTP_2 => Protocol::H2,
                            _ => Protocol::H1,
                        })
                        .with_response(response)
                        .with_duties(duties),
                )
            }
        }
    }
}
