//! The two halves of a session.

use std::{
    fmt,
    future::{Future, poll_fn},
    pin::Pin,
    sync::{Arc, atomic::Ordering},
    task::{Context, Poll},
};

use drivetrain_engine::{CloseReason, Error, ErrorKind, Frame, Outcome, Result};
use futures_core::Stream;
use futures_sink::Sink;
use serde::{Serialize, de::DeserializeOwned};

use super::{
    batch::Batch,
    converter,
    inbox::Arrival,
    kind::MessageKind,
    reader::MessageReader,
    shared::{Shared, Urgency},
    stats::SessionStats,
    writer::MessageWriter,
};

/// The sending half of a session: a cheap clone for each task that sends, and a [`Sink`].
///
/// Messages of several tasks interleave whole. The session ends when all its halves are gone.
///
/// # Example
/// ```no_run
/// # async fn example(session: drivetrain::Session) -> drivetrain::Result<()> {
/// let outgoing = session.outgoing();
/// for i in 0..100 {
///     outgoing.feed(i.to_string()).await?;
/// }
/// outgoing.flush().await?;
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Outgoing {
    live: Arc<Live>,
    /// What the `Sink` could not give on yet.
    pending: Option<Frame>,
}

/// The receiving half of a session: one owner, and a [`Stream`] that ends after a clean close and yields
/// the error of an unclean one.
///
/// Dropping it while the sending half lives discards what comes in; pings are answered all the same.
pub struct Incoming {
    live: Arc<Live>,
    /// What came with the message that was received last; before anything that is behind the lock.
    batch: Batch,
    /// How many were taken of batches.
    taken: u64,
}

/// Ends the session when the last half is gone.
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
    (Outgoing { live: Arc::clone(&live), pending: None }, Incoming { live, batch, taken: 0 })
}

impl Outgoing {
    /// Sends one message, or a Ping, Pong or Close.
    ///
    /// The first message after the session has waited for input, or has received a message that came by
    /// itself, is written at once; those after it are collected until 32 KiB have come together, the session
    /// waits, the task yields, or [`flush`](Self::flush) is called. Waits while the outgoing capacity is used
    /// up.
    ///
    /// # Errors
    /// [`ErrorKind::Closed`] with the outcome, or the error that ended the session;
    /// [`ErrorKind::InvalidInput`] and [`ErrorKind::TooBig`] for a frame that must not be sent: the
    /// session goes on. A write that fails later is the error of the next call.
    ///
    /// # Cancel safety
    /// Dropped while pending, nothing was sent. The poll that accepts the message completes.
    pub fn send(&self, frame: impl Into<Frame>) -> impl Future<Output = Result<()>> + Send + '_ {
        self.put(frame.into(), Urgency::Send)
    }

    /// Sends one message with those after it: like [`send`](Self::send), but nothing is written for it
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

    /// Begins a message that is sent as it is written, in fragments (RFC 6455 section 5.4), and never held as
    /// a whole: an `AsyncWrite`. See [`MessageWriter`].
    ///
    /// Messages accepted before go first. Until the writer has ended the message, or is dropped, every other
    /// message waits, whoever sends it, and so does the next call; Ping, Pong and Close do not.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] on an engine that sends no fragments, and those of [`send`](Self::send) but
    /// for what is wrong with a frame.
    ///
    /// # Cancel safety
    /// Dropped while pending, nothing was begun.
    pub async fn send_stream(&self, kind: MessageKind) -> Result<MessageWriter> {
        let shared = self.shared();
        shared.config.check_fragments(shared.facts.whole_messages)?;
        poll_fn(|cx| shared.poll_begin_stream(cx)).await?;
        Ok(MessageWriter::new(Arc::clone(&self.live), kind))
    }

    /// Waits until everything accepted is written to the socket.
    ///
    /// # Errors
    /// The error that kept it from being written.
    ///
    /// # Cancel safety
    /// Safe; writing goes on without it.
    pub async fn flush(&self) -> Result<()> {
        poll_fn(|cx| self.shared().poll_flush(cx)).await
    }

    /// Sends a value as the session's converter writes it.
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

    /// Closes: writes what was accepted, sends the Close, and waits for the peer's until the close
    /// timeout. A session that has ended already keeps its outcome.
    ///
    /// Messages that still come can be received, up to the incoming capacity.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] only if a panic has left the session unusable. How the session ended, an
    /// unclean end too, is the [`Outcome`].
    ///
    /// # Cancel safety
    /// Once polled, closing goes on without the future.
    pub async fn close(&self, reason: CloseReason) -> Result<Outcome> {
        self.shared().close(reason)?;
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
        poll_fn(|cx| self.shared().poll_closed(cx)).await
    }

    /// What the session has carried so far, in both directions. See
    /// [`Session::stats`](super::Session::stats).
    pub fn stats(&self) -> SessionStats {
        self.shared().stats()
    }

    pub(super) fn shared(&self) -> &Shared {
        &self.live.0
    }

    /// Begins to close; the session goes on with it.
    pub(crate) fn start_close(&self, reason: CloseReason) -> Result<()> {
        self.shared().close(reason)
    }

    /// Whether messages are accepted.
    pub(crate) fn is_open(&self) -> bool {
        self.shared().with(|state| state.check_open()).is_ok_and(|open| open.is_ok())
    }

    /// Ends the session at once, whoever else holds a half.
    pub(crate) fn abandon(&self) {
        self.shared().abandon();
    }

    /// The frame that a value is sent as.
    pub(crate) fn serialize<T: Serialize + ?Sized>(&self, value: &T) -> Result<Frame> {
        converter::serialize(self.shared().config.converter.as_deref(), &value)
    }

    /// No `async` block: it would keep the frame twice, and move it.
    fn put(&self, frame: Frame, urgency: Urgency) -> impl Future<Output = Result<()>> + Send + '_ {
        let shared = self.shared();
        let mut slot = Some(frame);
        poll_fn(move |cx| shared.poll_send(cx, &mut slot, urgency))
    }

    fn poll_pending(&mut self, cx: &mut Context<'_>) -> Poll<Result<()>> {
        if self.pending.is_none() {
            return Poll::Ready(Ok(()));
        }
        self.live.0.poll_send(cx, &mut self.pending, Urgency::Feed)
    }
}

/// `start_send` keeps one frame; it is accepted by the next `poll_ready`, `poll_flush` or `poll_close`.
impl<F: Into<Frame>> Sink<F> for Outgoing {
    type Error = Error;

    fn poll_ready(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        self.poll_pending(cx)
    }

    fn start_send(mut self: Pin<&mut Self>, frame: F) -> Result<()> {
        let frame = frame.into();
        self.shared().config.check_frame(&frame)?;
        if self.pending.is_some() {
            return Err(Error::new(
                ErrorKind::InvalidInput,
                "start_send was called before poll_ready was ready",
            ));
        }
        self.pending = Some(frame);
        Ok(())
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        std::task::ready!(self.poll_pending(cx))?;
        self.shared().poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        // A session that has closed meanwhile refuses what is pending, and is closed.
        if std::task::ready!(self.poll_pending(cx)).is_err() {
            self.pending = None;
        }
        self.shared().close(CloseReason::normal())?;
        let outcome = std::task::ready!(self.shared().poll_closed(cx))?;
        Poll::Ready(outcome.error.map_or(Ok(()), Err))
    }
}

impl Incoming {
    /// The next message, Text or Binary; `None` after a clean close, and again on later calls.
    ///
    /// Control frames are not shown: pings are answered, pongs are seen by
    /// [`ping`](super::Session::ping) and the keepalive, the Close is echoed and ends the stream.
    ///
    /// # Errors
    /// The error of an unclean end, with its outcome, and again on later calls:
    /// [`ErrorKind::Io`] for a connection that ended without a Close,
    /// [`ErrorKind::Timeout`] for a dead peer, [`ErrorKind::Protocol`] and [`ErrorKind::TooBig`] for one
    /// that broke a rule.
    ///
    /// # Cancel safety
    /// Safe: a dropped future loses nothing.
    pub fn receive(&mut self) -> impl Future<Output = Result<Option<Frame>>> + Send + '_ {
        poll_fn(|cx| self.poll_receive(cx))
    }

    /// The next message, Text or Binary, to be read as it comes and never held as a whole: an `AsyncRead`;
    /// `None` after a clean close, and again on later calls. See [`MessageReader`].
    ///
    /// Of a message in several frames each is read when it is asked for; what waits is bounded by the incoming
    /// capacity, and a peer that sends more has to wait. A frame is held as a whole: the limits for frames and
    /// for messages hold for each, and for the message only
    /// [`max_stream_size`](crate::WebSockets::max_stream_size).
    ///
    /// # Errors
    /// As for [`receive`](Self::receive).
    ///
    /// # Cancel safety
    /// Safe: a dropped future loses nothing, and neither does a [`receive`](Self::receive) that was dropped
    /// before.
    pub async fn receive_stream(&mut self) -> Result<Option<MessageReader<'_>>> {
        MessageReader::open(self).await
    }

    /// The next message as a value, read by the session's converter. The message is consumed even if it
    /// cannot be read; the session goes on.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] if no converter is installed, [`ErrorKind::Closed`] after a clean
    /// close, [`ErrorKind::Convert`] with a [`ConvertError`](super::ConvertError) as its source, and
    /// those of [`receive`](Self::receive).
    ///
    /// # Cancel safety
    /// Safe: a dropped future loses nothing.
    pub async fn receive_deserialized<T: DeserializeOwned>(&mut self) -> Result<T> {
        let Self { live, batch, taken } = self;
        let shared = live.shared();
        let converter = converter::installed(shared.config.converter.as_deref())?;
        if let Some(frame) = poll_fn(|cx| poll_receive(shared, batch, taken, cx)).await? {
            return converter::deserialize(converter, frame);
        }
        let outcome = shared.with(|state| state.outcome())?;
        Err(Error::new(ErrorKind::Closed, format!("the session is closed: {outcome}"))
            .with_outcome(outcome))
    }

    /// What the session has carried so far, in both directions. See
    /// [`Session::stats`](super::Session::stats).
    pub fn stats(&self) -> SessionStats {
        self.live.0.stats()
    }

    #[inline]
    fn poll_receive(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Frame>>> {
        poll_receive(&self.live.0, &mut self.batch, &mut self.taken, cx)
    }

    /// The next message or fragment, for a reader; `None` after a clean end.
    pub(super) fn poll_part(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Arrival>>> {
        match take(&self.live.0, &mut self.batch, &mut self.taken) {
            Some(message) => Poll::Ready(Ok(Some(Arrival::Message(message)))),
            None => self.live.0.poll_part(cx),
        }
    }

    /// What was received is refused, and nothing behind it counts.
    pub(super) fn refuse(&mut self, error: Error) {
        let behind = self.batch.clear();
        // It is the error of the session, which the next call waits for. A poisoned one has another.
        let _ = self.live.0.with(|state| state.refuse(error, behind));
    }

    pub(super) fn shared(&self) -> &Shared {
        &self.live.0
    }
}

#[inline]
fn poll_receive(
    shared: &Shared,
    batch: &mut Batch,
    taken: &mut u64,
    cx: &mut Context<'_>,
) -> Poll<Result<Option<Frame>>> {
    if let Some(message) = take(shared, batch, taken) {
        return Poll::Ready(Ok(Some(message)));
    }
    let polled = shared.poll_receive(cx, batch);
    if polled.is_pending() {
        batch.release();
    }
    polled
}

#[inline]
fn take(shared: &Shared, batch: &mut Batch, taken: &mut u64) -> Option<Frame> {
    let message = batch.pop()?;
    // For the keeper, which reads when nobody comes.
    *taken = taken.wrapping_add(1);
    shared.taken.store(*taken, Ordering::Relaxed);
    Some(message)
}

impl Stream for Incoming {
    type Item = Result<Frame>;

    /// The error of an unclean end is yielded again on each call, as [`receive`](Incoming::receive)
    /// repeats it.
    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.poll_receive(cx).map(Result::transpose)
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
