//! The session that an application holds.

use std::{
    fmt,
    future::{Future, poll_fn},
    time::Duration,
};

use drivetrain_engine::{
    CloseReason, Error, ErrorKind, Frame, NegotiatedExtension, Outcome, Protocol, Result,
};
use serde::{Serialize, de::DeserializeOwned};

use crate::{
    facts::Head,
    halves::{Incoming, Outgoing},
    handle::SessionHandle,
    kind::MessageKind,
    outbound::send_log::Unacknowledged,
    settings::Settings,
    shared::{Shared, Waits},
    stats::SessionStats,
    streaming::{MessageReader, MessageWriter},
};

/// An open WebSocket.
///
/// Made by `connect` or lent to the block of
/// `run`. Sending takes `&self`, so that several tasks may send;
/// receiving takes `&mut self`. [`split`](Self::split) gives the two to different owners.
///
/// Dropping it makes one attempt to write pending data and a Close 1001, without waiting, and frees
/// the socket. The drop writes at most 1 MiB of pending data, and with extensions transforms at most
/// 128 KiB; the rest is lost. [`close`](Self::close) writes everything.
///
/// After both Closes a server closes TCP at once, and a client waits for this (RFC 6455 section 7.1.1). The session
/// task waits: [`close`](Self::close) does not, and dropping the session then does not free the socket before the
/// server has ended the stream or the rest of `close_timeout` has passed.
///
/// A panic in user code that the session calls (an extension, a predicate, a converter, a waker, the drop of a
/// payload) ends the session for all its halves: the socket is closed, and later calls fail with
/// [`ErrorKind::Io`].
///
/// # Example
/// ```no_run
/// # use drivetrain_engine::Result;
/// use drivetrain_engine::CloseReason;
/// use drivetrain_session::Session;
///
/// # async fn example(mut session: Session) -> Result<()> {
/// session.send("hello").await?;
/// if let Some(frame) = session.receive().await? {
///     println!("{:?}", frame.read_text());
/// }
/// let outcome = session.close(CloseReason::normal()).await?;
/// assert!(outcome.clean);
/// # Ok(()) }
/// ```
pub struct Session {
    pub(crate) outgoing: Outgoing,
    pub(crate) incoming: Incoming,
}

impl Session {
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
    /// The error of the write.
    ///
    /// # Cancel safety
    /// Safe; writing continues without the future.
    pub async fn flush(&self) -> Result<()> {
        self.outgoing.flush().await
    }

    /// The next message; `None` after the peer's Close. See [`Incoming::receive`].
    ///
    /// # Errors
    /// The error of any other end, also on later calls. See [`Incoming::receive`].
    ///
    /// # Cancel safety
    /// Safe: a dropped future loses nothing.
    pub fn receive(&mut self) -> impl Future<Output = Result<Option<Frame>>> + Send + '_ {
        self.incoming.receive()
    }

    /// The next message, to be read as it comes; `None` after the peer's Close. See
    /// [`Incoming::receive_stream`].
    ///
    /// # Errors
    /// The error of any other end, also on later calls. See [`Incoming::receive`].
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

    /// The session for those who do not own it: it does not keep the session alive.
    pub fn handle(&self) -> SessionHandle {
        self.outgoing.handle()
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
    /// Works also without a receiver: messages before the pong are kept for [`receive`](Self::receive), up to the
    /// incoming capacity. Beyond it, the session reads the pong only when there is room again.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] on an engine that sends no pings,
    /// [`ErrorKind::Closed`] or the error that ended the session. The ping has no timeout of its own: a
    /// ping interval finds a dead peer.
    ///
    /// # Cancel safety
    /// Safe; the pong, when it comes, is ignored.
    pub async fn ping(&self) -> Result<Duration> {
        let shared = self.shared();
        shared.config.check_pings()?;
        let number = poll_fn(|cx| shared.poll_start_ping(cx)).await?;
        let _awaited = Awaited(shared);
        let mut waits = Waits::new(shared);
        poll_fn(|cx| waits.poll_pong(cx, number)).await
    }

    /// The latest round trip of a ping, the keepalive's or [`ping`](Self::ping)'s; `None` before the
    /// first one.
    pub fn latency(&self) -> Option<Duration> {
        self.shared().with(|state| state.lifecycle.pings.latency())
    }

    /// The counters so far: frames, bytes and messages in each direction, pings, pongs, round trips. Takes the session's
    /// lock once.
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
        self.shared().with(|state| state.set_ping_interval(interval));
        Ok(())
    }

    /// Closes the session. See [`Outgoing::close`].
    ///
    /// # Errors
    /// As for [`Outgoing::close`]: an unclean end is an [`Outcome`], not an error.
    ///
    /// # Cancel safety
    /// Once polled, closing continues without the future.
    pub async fn close(&self, reason: CloseReason) -> Result<Outcome> {
        self.outgoing.close(reason).await
    }

    /// How the session ended; as it stands if it has not yet.
    pub fn outcome(&self) -> Outcome {
        self.shared().with(|state| state.outcome())
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

    /// The response that accepted the handshake; `None` where the engine cannot show it, and on a server.
    pub fn response(&self) -> Option<&http::Response<()>> {
        match &self.shared().facts.head {
            Some(Head::Response(response)) => Some(response),
            _ => None,
        }
    }

    /// The handshake request, on a server: its target and headers. `None` on a client, and if the server did not keep
    /// it.
    pub fn request(&self) -> Option<&http::Request<()>> {
        match &self.shared().facts.head {
            Some(Head::Request(request)) => Some(request),
            _ => None,
        }
    }

    /// The negotiated subprotocol.
    pub fn subprotocol(&self) -> Option<&str> {
        self.shared().facts.subprotocol.as_deref()
    }

    /// The negotiated extensions with their parameters, in the order for outgoing messages. [`settings`](Self::settings)
    /// has the offers and the required extensions.
    pub fn extensions(&self) -> &[NegotiatedExtension] {
        &self.shared().facts.extensions
    }

    /// The protocol below the frames.
    pub fn protocol(&self) -> Protocol {
        self.shared().facts.protocol
    }

    /// Every option of this session: its value, its origin, and the party that applies it.
    pub fn settings(&self) -> &Settings {
        &self.shared().config.settings
    }

    /// Keeps what is accepted from now on until it is known to have arrived: of what was given to the
    /// engine up to `capacity` bytes.
    pub fn keep_send_log(&self, capacity: usize) {
        self.shared().with(|state| state.keep_send_log(capacity));
    }

    /// What was accepted since [`keep_send_log`](Self::keep_send_log) and is not known to have arrived. Only
    /// after the end, and once.
    pub fn take_unacknowledged(&self) -> Unacknowledged {
        self.shared().take_unacknowledged()
    }

    /// Whether this end closed before it received the peer's Close.
    pub fn closed_here(&self) -> bool {
        self.shared().with(|state| state.closed_here())
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

/// While it lives, the session task looks out for a pong.
struct Awaited<'a>(&'a Shared);

impl Drop for Awaited<'_> {
    fn drop(&mut self) {
        self.0.stop_ping();
    }
}
