//! A session that outlives its connection: it connects again, and says what that may have cost.
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
//!         Event::Disconnected(lost) => println!("{}: {:?}", lost.outcome, lost.unconfirmed),
//!         Event::Retrying(retry) => println!("try {} in {:?}", retry.attempt, retry.delay),
//!         Event::Connected(_) => println!("and on"),
//!     }
//! }
//! # Ok(()) }
//! ```
//!
//! # The contract for messages in flight
//!
//! 1. A `send` that returns `Ok` was accepted by the connection of that moment. One that returns an error, or
//!    is dropped while pending, was not: nothing of it was sent, and nothing of it will be.
//! 2. When a connection ends, however it ends, [`receive`](ReconnectingSession::receive) gives one
//!    [`Event::Disconnected`] for it, after the messages that it had brought. Each message that the connection
//!    had accepted and that is not known to have arrived is in its [`Unconfirmed`], once: as a frame if it
//!    was not sent; as a frame too if it may have arrived, up to a
//!    [capacity](ReconnectRequest::unconfirmed_capacity); older and streamed ones as a number. So nothing is lost silently.
//! 3. No message goes out on another connection than the one that accepted it. So nothing is sent twice,
//!    unless the application does it: it alone knows whether that is harmless.
//! 4. Between the end of a connection and [`Event::Connected`] no message is accepted: `send` fails, or
//!    waits if [`wait_while_disconnected`](ReconnectRequest::wait_while_disconnected) is set. So a message that
//!    was sent after a loss cannot overtake the news of it.
//!
//! That a message *has arrived* is known from the answer to a ping that was sent after it; one goes out before this
//! end's Close. It is made by whatever ends the WebSocket at the other side, which reads in order. The peer's Close
//! tells nothing: both ends may have closed at the same time. On an engine that sends no Ping nothing is known to have
//! arrived. It is not known whether the peer's application has seen it; only an answer of its own can tell. With a
//! [ping interval](crate::WebSocketRequest::ping_interval) the doubt is never older than the interval
//! and a round trip, and `flush` followed by [`ping`](crate::Session::ping) settles it at once.
//!
//! Not messages, and so not in it: Ping and Pong, and what the hook [`on_open`](ReconnectRequest::on_open)
//! sends, which it sends again on each connection.
//!
//! # Who does the work
//!
//! There is no task for it: waiting and connecting happen while
//! [`receive`](ReconnectingSession::receive) is awaited. As long as nobody receives, a lost connection stays
//! lost.

mod attempt;
pub(crate) mod backoff;
mod event;
mod link;
mod plan;
mod request;
mod retry_after;
mod sender;
mod session;
mod states;
mod trace;

pub use crate::session::Unconfirmed;
pub use attempt::Attempt;
pub use backoff::Backoff;
pub use event::{Connected, Disconnected, Event, Retrying};
pub use request::ReconnectRequest;
pub use sender::Sender;
pub use session::ReconnectingSession;
pub use states::{State, States};
