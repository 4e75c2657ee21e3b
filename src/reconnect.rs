//! A session that outlives its connection: it reconnects, and reports the messages that may be lost.
//!
//! ```no_run
//! # async fn example(client: drivetrain::HttpClient) -> drivetrain::Result<()> {
//! use drivetrain::reconnect::{Backoff, Event};
//!
//! let mut session = client
//!     .web_socket("wss://example.com/feed")
//!     .reconnect(Backoff::new())
//!     .on_open(|session| Box::pin(async move { session.send("subscribe").await }))
//!     .connect()
//!     .await?;
//! while let Some(event) = session.receive().await? {
//!     match event {
//!         Event::Message(frame) => println!("{:?}", frame.read_text()),
//!         Event::Disconnected(lost) => println!("{}: {:?}", lost.outcome, lost.unacknowledged),
//!         Event::Retrying(retry) => println!("try {} in {:?}", retry.attempt, retry.delay),
//!         Event::Connected(_) => println!("connected again"),
//!     }
//! }
//! # Ok(()) }
//! ```
//!
//! # The contract for messages in flight
//!
//! 1. A `send` that returns `Ok` was accepted by the current connection. A `send` that returns an error, or is
//!    dropped while pending, was not accepted: no part of the message is or will be sent.
//! 2. For each connection that ends, [`receive`](ReconnectingSession::receive) returns one
//!    [`Event::Disconnected`], after the connection's messages. Its [`Unacknowledged`] has each accepted message
//!    that the peer has not acknowledged, once: an unsent message as a frame; a message that may have arrived as a
//!    frame, up to a [capacity](ReconnectRequest::unacknowledged_capacity); older and streamed messages as a number.
//!    No message is lost silently.
//! 3. A message is sent only on the connection that accepted it. No message is sent twice, unless the application
//!    sends it again: only the application knows whether this is harmless.
//! 4. Between the end of a connection and [`Event::Connected`] no message is accepted: `send` fails, or waits if
//!    [`wait_while_disconnected`](ReconnectRequest::wait_while_disconnected) is set. A message that is sent after a
//!    loss therefore cannot overtake the report of the loss.
//!
//! The answer to a ping acknowledges the messages before the ping. The session sends a ping before its own Close.
//! The endpoint of the WebSocket answers, and reads in order; the endpoint may be a proxy. The peer's Close
//! acknowledges nothing, because both ends may close at the same time. On an engine that sends no Ping, no message is
//! acknowledged. Only an answer of the peer's application proves that the application has seen a message. With a
//! [ping interval](crate::WebSocketRequest::ping_interval), messages stay unacknowledged for at most the interval and
//! a round trip. `flush` followed by [`ping`](crate::Session::ping) acknowledges at once.
//!
//! The report leaves out Ping and Pong, and messages of the hook [`on_open`](ReconnectRequest::on_open), which sends
//! them on each connection.
//!
//! # Execution
//!
//! There is no task: delays and connecting run while [`receive`](ReconnectingSession::receive) is awaited. A lost
//! connection stays lost until the program receives.

mod attempt;
pub(crate) mod backoff;
mod event;
mod link;
mod plan;
mod request;
mod retry_after;
mod sender;
mod session;
mod state;
mod states;
mod trace;

pub use attempt::Attempt;
pub use backoff::Backoff;
pub use drivetrain_session::Unacknowledged;
pub use event::{Connected, Disconnected, Event, Retrying};
pub use request::ReconnectRequest;
pub use sender::Sender;
pub use session::ReconnectingSession;
pub use state::State;
pub use states::States;
