//! The two halves of a session.

use std::{
    fmt,
    future::{Future, poll_fn},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use drivetrain_engine::{CloseReason, Error, ErrorKind, Frame, Outcome, Result};
use futures_core::Stream;
use futures_sink::Sink;
use serde::{Serialize, de::DeserializeOwned};

use super::{
    converter,
    handle::SessionHandle,
    inbound::batch::Batch,
    inbound::read_ahead::InboundItem,
    shared::{Shared, Urgency, Waits},
    stats::SessionStats,
    waiters::Place,
};

/// The sending half of a session: a cheap clone for each sending task, and a [`Sink`].
///
/// Messages of several tasks interleave as whole messages. The session ends when all its halves are dropped.
///
/// # Example
/// ```no_run
/// # async fn example(session: drivetrain_session::Session) -> drivetrain_engine::Result<()> {
/// let outgoing = session.outgoing();
/// for i in 0..100 {
///     outgoing.feed(i.to_string()).await?;
/// }
/// outgoing.flush().await?;
/// # Ok(()) }
/// ```
pub struct Outgoing {
    pub(crate) live: Arc<Live>,
    /// State of the `Sink`, once used.
    sink: Option<Box<Pending>>,
}

/// The state of a [`Sink`].
#[derive(Default)]
struct Pending {
    /// The frame that is not yet accepted.
    frame: Option<Frame>,
    /// Its place among the waiting tasks.
    place: Place,
}

/// The receiving half of a session: one owner, and a [`Stream`] that ends after the peer's Close, and after an error.
///
/// If dropped before the sending half, the session discards incoming messages and still answers pings.
pub struct Incoming {
    live: Arc<Live>,
    /// Messages that arrived with the last received one. They precede everything behind the lock.
    batch: Batch,
    /// The stream has yielded its error.
    is_told: bool,
}

/// Ends the session when the last half is dropped.
pub(super) struct Live(Arc<Shared>);

impl Live {
    pub(super) fn shared(&self) -> &Shared {
        &self.0
    }
}

/// The halves of a session.
pub(super) fn halves(shared: Arc<Shared>) -> (Outgoing, Incoming) {
    let live = Arc::new(Live(shared));
    let batch = Batch::new(live.0.config.incoming_capacity);
    let outgoing = Outgoing { live: Arc::clone(&live), sink: None };
    (outgoing, Incoming { live, batch, is_told: false })
}

impl Outgoing {
    /// The session for those who do not own it: see [`Session::handle`](super::Session::handle).
    pub fn handle(&self) -> SessionHandle {
        SessionHandle::new(&self.live.0)
    }

    /// Sends one message, or a Ping, Pong or Close.
    ///
    /// The first message after the session has waited for input, or has received a single message,
    /// is written at once. Later messages are written together: after 32 KiB, when the session
    /// waits or the task yields, or at [`flush`](Self::flush). `send` waits while the outgoing capacity is used
    /// up. Waiting senders are served in order. A sender whose future is kept without being polled
    /// delays the others by 100 ms.
    ///
    /// # Errors
    /// [`ErrorKind::Closed`] with the outcome once the peer's Close was read, or the error that ended the session;
    /// [`ErrorKind::InvalidInput`] and [`ErrorKind::TooBig`] for a frame that must not be sent: the
    /// session stays open. A later write error is the error of the next call.
    ///
    /// # Cancel safety
    /// Dropped while pending, nothing was sent. The poll that accepts the message completes.
    pub fn send(&self, frame: impl Into<Frame>) -> impl Future<Output = Result<()>> + Send + '_ {
        self.put(frame.into(), Urgency::Send)
    }

    /// Sends one message together with later ones: like [`send`](Self::send), but without a write for this message
    /// alone.
    ///
    /// # Errors
    /// As for [`send`](Self::send).
    ///
    /// # Cancel safety
    /// As for [`send`](Self::send).
    pub fn feed(&self, frame: impl Into<Frame>) -> impl Future<Output = Result<()>> + Send + '_ {
        self.put(frame.into(), Urgency::Feed)
    }

    /// Waits until everything accepted is written to the socket, including the accepted part of a streamed
    /// message.
    ///
    /// # Errors
    /// The error of the write.
    ///
    /// # Cancel safety
    /// Safe; writing continues without the future.
    pub async fn flush(&self) -> Result<()> {
        let mut waits = Waits::new(self.shared());
        poll_fn(|cx| waits.poll_flush(cx)).await
    }

    /// Sends a value through the session's converter.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] if no converter is installed, [`ErrorKind::Convert`] if it refuses
    /// the value, and those of [`send`](Self::send).
    ///
    /// # Cancel safety
    /// As for [`send`](Self::send).
    pub async fn send_serialized<T: Serialize + ?Sized>(&self, value: &T) -> Result<()> {
        self.send(self.serialize(value)?).await
    }

    /// Closes: writes accepted messages, sends the Close, and waits for the peer's Close until the close
    /// timeout. A session that has ended already keeps its outcome.
    ///
    /// Later messages can still be received, up to the incoming capacity.
    ///
    /// # Errors
    /// None: an unclean end is an [`Outcome`].
    ///
    /// # Cancel safety
    /// Once polled, closing continues without the future.
    pub async fn close(&self, reason: CloseReason) -> Result<Outcome> {
        self.shared().close(reason);
        self.closed().await
    }

    /// Waits for the end of the session.
    ///
    /// # Errors
    /// As for [`close`](Self::close).
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn closed(&self) -> Result<Outcome> {
        let mut waits = Waits::new(self.shared());
        Ok(poll_fn(|cx| waits.poll_closed(cx)).await)
    }

    /// The counters of the session, in both directions. See
    /// [`Session::stats`](super::Session::stats).
    pub fn stats(&self) -> SessionStats {
        self.shared().stats()
    }

    pub(super) fn shared(&self) -> &Shared {
        &self.live.0
    }

    /// Starts closing; the session task completes it.
    pub fn start_close(&self, reason: CloseReason) -> Result<()> {
        self.shared().close(reason);
        Ok(())
    }

    /// Whether the session accepts messages.
    pub fn is_open(&self) -> bool {
        self.shared().with(|state| state.is_open())
    }

    /// Ends the session at once, for all halves.
    pub fn abandon(&self) {
        self.shared().abandon();
    }

    /// The frame of a value.
    pub fn serialize<T: Serialize + ?Sized>(&self, value: &T) -> Result<Frame> {
        let shared = self.shared();
        shared.guard(|| converter::serialize(shared.config.converter.as_deref(), &value))
    }

    /// No `async` block, because it would store the frame twice and move it.
    fn put(&self, frame: Frame, urgency: Urgency) -> impl Future<Output = Result<()>> + Send + '_ {
        let mut waits = Waits::new(self.shared());
        let mut slot = Some(frame);
        poll_fn(move |cx| waits.poll_send(cx, &mut slot, urgency))
    }

    fn drop_pending(&mut self) {
        if let Some(mut sink) = self.sink.take() {
            self.live.0.leave(&mut sink.place);
        }
    }

    fn poll_pending(&mut self, cx: &mut Context<'_>) -> Poll<Result<()>> {
        match &mut self.sink {
            Some(sink) if sink.frame.is_some() => {
                let Pending { frame, place } = &mut **sink;
                self.live.0.poll_send(cx, frame, Urgency::Feed, place)
            }
            _ => Poll::Ready(Ok(())),
        }
    }
}

/// `start_send` keeps one frame; the next `poll_ready`, `poll_flush` or `poll_close` passes it on.
impl<F: Into<Frame>> Sink<F> for Outgoing {
    type Error = Error;

    fn poll_ready(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        self.poll_pending(cx)
    }

    fn start_send(mut self: Pin<&mut Self>, frame: F) -> Result<()> {
        let frame = frame.into();
        self.shared().config.check_frame(&frame)?;
        let sink = self.sink.get_or_insert_default();
        if sink.frame.is_some() {
            return Err(Error::new(
                ErrorKind::InvalidInput,
                "start_send was called before poll_ready was ready",
            ));
        }
        sink.frame = Some(frame);
        Ok(())
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        std::task::ready!(self.poll_pending(cx))?;
        let Self { live, sink } = &mut *self;
        live.0.poll_flush(cx, &mut sink.get_or_insert_default().place)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        // A session that has closed meanwhile refuses the pending frame.
        if std::task::ready!(self.poll_pending(cx)).is_err() {
            self.drop_pending();
        }
        self.shared().close(CloseReason::normal());
        let Self { live, sink } = &mut *self;
        let place = &mut sink.get_or_insert_default().place;
        std::task::ready!(live.0.poll_closed(cx, place));
        Poll::Ready(live.0.with(|state| state.lifecycle.end_error()).map_or(Ok(()), Err))
    }
}

impl Incoming {
    /// The next message, Text or Binary; `None` after the peer's Close, also on later calls. The outcome says whether closing
    /// was completed: a failure behind the peer's Close is no error here.
    ///
    /// Control frames are not returned: the session answers pings, passes pongs to
    /// [`ping`](super::Session::ping) and the keepalive, and echoes the Close, which ends the stream.
    ///
    /// # Errors
    /// The error of an end without the peer's Close, or of a violation, with the outcome, also on later
    /// calls:
    /// [`ErrorKind::Io`] for a connection that ended without a Close,
    /// [`ErrorKind::Timeout`] for a dead peer, [`ErrorKind::Protocol`] and [`ErrorKind::TooBig`] for a peer
    /// that broke a rule.
    ///
    /// # Cancel safety
    /// Safe: a dropped future loses nothing.
    pub fn receive(&mut self) -> impl Future<Output = Result<Option<Frame>>> + Send + '_ {
        poll_fn(|cx| self.poll_receive(cx))
    }

    /// The next message as a value, read by the session's converter. The message is consumed even if it
    /// cannot be converted; the session stays open.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] if no converter is installed, [`ErrorKind::Closed`] after a clean
    /// close, [`ErrorKind::Convert`] with a [`ConvertError`](super::ConvertError) as its source, and
    /// those of [`receive`](Self::receive).
    ///
    /// # Cancel safety
    /// Safe: a dropped future loses nothing.
    pub async fn receive_deserialized<T: DeserializeOwned>(&mut self) -> Result<T> {
        let Self { live, batch, .. } = self;
        let shared = live.shared();
        let converter = converter::installed(shared.config.converter.as_deref())?;
        if let Some(frame) = poll_fn(|cx| poll_receive(shared, batch, cx)).await? {
            return shared.guard(|| converter::deserialize(converter, frame));
        }
        let outcome = shared.with(|state| state.outcome());
        Err(Error::new(ErrorKind::Closed, format!("the session is closed: {outcome}"))
            .with_outcome(outcome))
    }

    /// The counters of the session, in both directions. See
    /// [`Session::stats`](super::Session::stats).
    pub fn stats(&self) -> SessionStats {
        self.live.0.stats()
    }

    #[inline]
    fn poll_receive(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Frame>>> {
        poll_receive(&self.live.0, &mut self.batch, cx)
    }

    /// The next message or fragment, for a reader; `None` after a clean end.
    pub(super) fn poll_fragment(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Option<InboundItem>>> {
        match take(&self.live.0, &mut self.batch) {
            Some(message) => Poll::Ready(Ok(Some(InboundItem::Message(message)))),
            None => self.live.0.poll_fragment(cx),
        }
    }

    /// Refuses a received message; later messages are discarded.
    pub(super) fn refuse(&mut self, error: Error) {
        let behind = self.batch.clear();
        // The session's error; the next call returns it.
        self.live.0.with(|state| state.refuse(error, behind));
    }

    pub(super) fn shared(&self) -> &Shared {
        &self.live.0
    }
}

#[inline]
fn poll_receive(
    shared: &Shared,
    batch: &mut Batch,
    cx: &mut Context<'_>,
) -> Poll<Result<Option<Frame>>> {
    if let Some(message) = take(shared, batch) {
        return Poll::Ready(Ok(Some(message)));
    }
    let polled = shared.poll_receive(cx, batch);
    if polled.is_pending() {
        batch.release();
    }
    polled
}

#[inline]
fn take(shared: &Shared, batch: &mut Batch) -> Option<Frame> {
    if !batch.is_empty() {
        shared.count_taken(); // before the message is taken: else it is copied once more
    }
    batch.pop()
}

impl Stream for Incoming {
    type Item = Result<Frame>;

    /// Like [`receive`](Incoming::receive), but an error occurs once and ends the stream.
    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.is_told {
            return Poll::Ready(None);
        }
        let received = std::task::ready!(self.poll_receive(cx));
        self.is_told = received.is_err();
        Poll::Ready(received.transpose())
    }
}

/// Another half, without the `Sink`'s pending frame.
impl Clone for Outgoing {
    fn clone(&self) -> Self {
        Self { live: Arc::clone(&self.live), sink: None }
    }
}

impl Drop for Outgoing {
    fn drop(&mut self) {
        self.drop_pending();
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        if Arc::strong_count(&self.live) > 1 {
            self.live.0.discard_incoming(&self.batch);
        }
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        self.0.abandon();
    }
}

impl fmt::Debug for Outgoing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outgoing")
            .field("engine", &self.shared().config.engine)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Incoming {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Incoming")
            .field("engine", &self.live.0.config.engine)
            .finish_non_exhaustive()
    }
}
