//! Sessions: everything that is the same on every engine.
//!
//! A session is one lock around the engine's frames. The application polls the engine in its own
//! `receive` and `send`, and one small keeper task does what needs time. This layer knows engines only
//! through `drivetrain-engine` and takes its role from the connection, so that a server can use it too.
//!
//! | file | what it is |
//! |---|---|
//! | `halves`, `reader`, `writer`, `raw`, this one | what users hold |
//! | `shared`, `state`, `after` | the lock, what is behind it, and what waits until it is free |
//! | `driver` | the keeper task: the only place that sleeps |
//! | `extensions`, `assembler`, `batch`, `gathered`, `outbox`, `cork`, `inbox`, `journal`, `keepalive`, `closing`, `fairness`, `stats` | pure: frames, time and events in, decisions out |
//! | `waiting` | who is woken |
//! | `trace` | what `tracing` is told |

mod after;
mod assembler;
mod batch;
mod burst;
mod closing;
mod config;
mod converter;
mod cork;
mod driver;
mod extensions;
mod fairness;
mod gathered;
mod halves;
mod inbox;
mod journal;
mod keepalive;
mod kind;
#[cfg(test)]
mod model;
mod outbox;
mod raw;
mod raw_closing;
mod reader;
mod settings;
mod shared;
mod state;
mod stats;
mod trace;
mod waiting;
mod writer;

use std::{
    fmt,
    future::{Future, poll_fn},
    sync::Arc,
    time::Duration,
};

use drivetrain_engine::{
    CloseReason, Connection, Error, ErrorKind, Frame, NegotiatedExtension, Outcome, Protocol,
    Result, Runtime,
};
use serde::{Serialize, de::DeserializeOwned};
use tracing::{Instrument as _, Span};

pub(crate) use config::SessionConfig;
pub use converter::{ConvertError, Converter, erased_serde};
pub(crate) use extensions::Extensions;
pub use halves::{Incoming, Outgoing};
pub use journal::Unconfirmed;
pub(crate) use keepalive::Stagger;
pub use kind::MessageKind;
pub use raw::RawSession;
pub use reader::MessageReader;
pub use settings::{AppliedBy, SetBy, Setting, Settings};
pub use stats::{SessionStats, Traffic};
pub use writer::MessageWriter;

use driver::Driver;
use shared::Shared;

/// An open WebSocket.
///
/// Made by [`connect`](crate::WebSocketRequest::connect) or lent to the block of
/// [`run`](crate::WebSocketRequest::run). Sending takes `&self`, so that several tasks may send;
/// receiving takes `&mut self`. [`split`](Self::split) gives the two to different owners.
///
/// Dropping it makes one attempt to write what is pending and a Close 1001, without waiting, and frees
/// the socket. Nothing survives it.
///
/// # Example
/// ```no_run
/// # async fn example(client: drivetrain::HttpClient) -> drivetrain::Result<()> {
/// use drivetrain::CloseReason;
///
/// let mut session = client.web_socket("ws://127.0.0.1:8080/echo").connect().await?;
/// session.send("hello").await?;
/// if let Some(frame) = session.receive().await? {
///     println!("{:?}", frame.read_text());
/// }
/// let outcome = session.close(CloseReason::normal()).await?;
/// assert!(outcome.clean);
/// # Ok(()) }
/// ```
pub struct Session {
    outgoing: Outgoing,
    incoming: Incoming,
}

impl Session {
    /// Opens a session on a connection and starts its keeper on the runtime. Messages pass through the
    /// extensions. The span is closed when the session has ended.
    pub(crate) fn open(
        connection: Connection,
        extensions: Option<Extensions>,
        runtime: Arc<dyn Runtime>,
        config: Arc<SessionConfig>,
        stagger: Stagger,
        span: Span,
    ) -> Self {
        let shared =
            Shared::new(connection, extensions, Arc::clone(&runtime), config, stagger, &span);
        trace::opened(&span, &shared.facts);
        runtime.spawn(Box::pin(Driver::new(Arc::clone(&shared)).instrument(span)));
        let (outgoing, incoming) = halves::halves(shared);
        Self { outgoing, incoming }
    }

    /// Sends one message. See [`Outgoing::send`].
    ///
    /// # Errors
    /// As for [`Outgoing::send`].
    ///
    /// # Cancel safety
    /// Dropped while pending, nothing was sent. The poll that accepts the message completes.
    pub fn send(&self, frame: impl Into<Frame>) -> impl Future<Output = Result<()>> + Send + '_ {
        self.outgoing.send(frame)
    }

    /// Sends one message with those after it. See [`Outgoing::feed`].
    ///
    /// # Errors
    /// As for [`Outgoing::send`].
    ///
    /// # Cancel safety
    /// As for [`send`](Self::send).
    pub fn feed(&self, frame: impl Into<Frame>) -> impl Future<Output = Result<()>> + Send + '_ {
        self.outgoing.feed(frame)
    }

    /// Begins a message that is sent as it is written. See [`Outgoing::send_stream`].
    ///
    /// # Errors
    /// As for [`Outgoing::send_stream`].
    ///
    /// # Cancel safety
    /// Dropped while pending, nothing was begun.
    pub async fn send_stream(&self, kind: MessageKind) -> Result<MessageWriter> {
        self.outgoing.send_stream(kind).await
    }

    /// Waits until everything accepted is written to the socket.
    ///
    /// # Errors
    /// The error that kept it from being written.
    ///
    /// # Cancel safety
    /// Safe; writing goes on without it.
    pub async fn flush(&self) -> Result<()> {
        self.outgoing.flush().await
    }

    /// The next message; `None` after a clean close. See [`Incoming::receive`].
    ///
    /// # Errors
    /// The error of an unclean end, also on later calls. See [`Incoming::receive`].
    ///
    /// # Cancel safety
    /// Safe: a dropped future loses nothing.
    pub fn receive(&mut self) -> impl Future<Output = Result<Option<Frame>>> + Send + '_ {
        self.incoming.receive()
    }

    /// The next message, to be read as it comes; `None` after a clean close. See
    /// [`Incoming::receive_stream`].
    ///
    /// # Errors
    /// The error of an unclean end, also on later calls. See [`Incoming::receive`].
    ///
    /// # Cancel safety
    /// Safe: a dropped future loses nothing.
    pub async fn receive_stream(&mut self) -> Result<Option<MessageReader<'_>>> {
        self.incoming.receive_stream().await
    }

    /// Sends a value as the converter writes it. See [`Outgoing::send_serialized`].
    ///
    /// # Errors
    /// As for [`Outgoing::send_serialized`].
    ///
    /// # Cancel safety
    /// As for [`send`](Self::send).
    pub async fn send_serialized<T: Serialize + ?Sized>(&self, value: &T) -> Result<()> {
        self.outgoing.send_serialized(value).await
    }

    /// The next message as a value. See [`Incoming::receive_deserialized`].
    ///
    /// # Errors
    /// As for [`Incoming::receive_deserialized`].
    ///
    /// # Cancel safety
    /// Safe: a dropped future loses nothing.
    pub async fn receive_deserialized<T: DeserializeOwned>(&mut self) -> Result<T> {
        self.incoming.receive_deserialized().await
    }

    /// A sending half for another task. The session lives as long as any of its halves.
    pub fn outgoing(&self) -> Outgoing {
        self.outgoing.clone()
    }

    /// The receiving half, to use as a stream.
    pub fn incoming(&mut self) -> &mut Incoming {
        &mut self.incoming
    }

    /// Both halves, for different owners. The session ends when all halves are gone.
    pub fn split(self) -> (Outgoing, Incoming) {
        (self.outgoing, self.incoming)
    }

    /// Sends a ping and waits for its pong. Returns the round trip.
    ///
    /// Works also while nobody receives: what comes before the pong is kept for
    /// [`receive`](Self::receive), up to the incoming capacity; beyond it, the pong is seen only when
    /// there is room again.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] on an engine that sends no pings,
    /// [`ErrorKind::Closed`] or the error that ended the session. There is no timeout of its own: a ping
    /// interval finds a dead peer.
    ///
    /// # Cancel safety
    /// Safe; the pong, when it comes, is ignored.
    pub async fn ping(&self) -> Result<Duration> {
        let shared = self.shared();
        shared.config.check_pings()?;
        let (number, _) = shared.start_ping()?;
        let _awaited = Awaited(shared);
        poll_fn(|cx| shared.poll_pong(cx, number)).await
    }

    /// The latest round trip of a ping, the keepalive's or [`ping`](Self::ping)'s; `None` before the
    /// first.
    pub fn latency(&self) -> Option<Duration> {
        self.shared().with(|state| state.pings.latency()).ok().flatten()
    }

    /// What was carried so far: frames, bytes and messages each way, pings and pongs, round trips. It costs
    /// the session's lock, once.
    pub fn stats(&self) -> SessionStats {
        self.shared().stats()
    }

    /// Changes the ping interval of this session, or switches pings off.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] for an interval of zero.
    pub fn set_ping_interval(&self, interval: impl Into<Option<Duration>>) -> Result<()> {
        let interval = interval.into();
        if interval == Some(Duration::ZERO) {
            return Err(Error::new(
                ErrorKind::InvalidInput,
                "a ping interval of zero is not possible: use None to switch pings off",
            ));
        }
        self.shared().with(|state| state.set_ping_interval(interval))
    }

    /// Closes the session. See [`Outgoing::close`].
    ///
    /// # Errors
    /// As for [`Outgoing::close`]: an unclean end is an [`Outcome`], not an error.
    ///
    /// # Cancel safety
    /// Once polled, closing goes on without the future.
    pub async fn close(&self, reason: CloseReason) -> Result<Outcome> {
        self.outgoing.close(reason).await
    }

    /// How the session ended; as it stands if it has not yet.
    pub fn outcome(&self) -> Outcome {
        self.shared().with(|state| state.outcome()).unwrap_or_default()
    }

    /// Waits for the end of the session.
    ///
    /// # Errors
    /// As for [`Outgoing::close`].
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn closed(&self) -> Result<Outcome> {
        self.outgoing.closed().await
    }

    /// The response that accepted the handshake; `None` where the engine cannot show it.
    pub fn response(&self) -> Option<&http::Response<()>> {
        self.shared().facts.response.as_ref()
    }

    /// The subprotocol that was agreed on.
    pub fn subprotocol(&self) -> Option<&str> {
        self.shared().facts.subprotocol.as_deref()
    }

    /// The extensions that were agreed on, with their parameters, in the order in which they are applied to what
    /// goes out. What was offered and what is required is in [`settings`](Self::settings).
    pub fn extensions(&self) -> &[NegotiatedExtension] {
        &self.shared().facts.extensions
    }

    /// What carries the frames.
    pub fn protocol(&self) -> Protocol {
        self.shared().facts.protocol
    }

    /// Every option of this session: its value, who set it, who applies it.
    pub fn settings(&self) -> &Settings {
        &self.shared().config.settings
    }

    /// Keeps what is accepted from now on until it is known to have arrived: of what was given to the
    /// engine up to `capacity` bytes.
    pub(crate) fn keep_journal(&self, capacity: usize) {
        // A poisoned session accepts nothing.
        let _ = self.shared().with(|state| state.keep_journal(capacity));
    }

    /// What was accepted since [`keep_journal`](Self::keep_journal) and is not known to have arrived. Only
    /// after the end, and once.
    pub(crate) fn take_unconfirmed(&self) -> Unconfirmed {
        self.shared().take_unconfirmed()
    }

    /// Whether this end closed, and before a Close of the peer's came in.
    pub(crate) fn closed_here(&self) -> bool {
        self.shared().with(|state| state.closed_here()).unwrap_or_default()
    }

    fn shared(&self) -> &Shared {
        self.outgoing.shared()
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("engine", &self.shared().config.engine)
            .field("outcome", &self.outcome())
            .finish_non_exhaustive()
    }
}

/// While it lives, the keeper looks out for a pong.
struct Awaited<'a>(&'a Shared);

impl Drop for Awaited<'_> {
    fn drop(&mut self) {
        self.0.stop_ping();
    }
}

const _: () = {
    const fn send_sync<T: Send + Sync>() {}
    send_sync::<Session>();
    send_sync::<Outgoing>();
    send_sync::<Incoming>();
    send_sync::<MessageWriter>();
    send_sync::<MessageReader<'_>>();
};
