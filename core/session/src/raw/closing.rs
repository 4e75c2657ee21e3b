//! The closing handshake of a raw session (RFC 6455 section 7.1.2).

use std::{
    collections::VecDeque,
    task::{Context, Poll, Waker, ready},
    time::Duration,
};

use bytes::Bytes;
use drivetrain_engine::{
    CloseCode, CloseReason, Error, ErrorKind, Instant, OpCode, Outcome, RawFrame, Result, Transport,
};

use crate::{budget::FAIR_SHARE, lifecycle::closing::LastWords};

/// The state of a raw session's closing handshake.
#[derive(Debug)]
pub(crate) struct RawClosing {
    timeout: Duration,
    deadline: Option<Instant>,
    /// The Close that the transport has accepted.
    sent: Option<CloseReason>,
    /// Everything accepted is written.
    flushed: bool,
    received: Option<CloseReason>,
    /// Reading has ended.
    ended: bool,
    error: Option<Error>,
    discarded: u64,
    /// Frames read after a failed write, to return from `receive`.
    unread: VecDeque<Result<RawFrame>>,
    /// The receiving task's waker: a read during a write replaces it.
    receiver: Option<Waker>,
    /// The time of the failed write.
    failed: Option<Instant>,
    last_words: LastWords,
    /// The stream has yielded its error.
    pub(crate) is_told: bool,
}

/// Maximum number of frames to read after a failed write.
const LAST_WORDS: usize = 64;

impl RawClosing {
    pub(crate) fn new(timeout: Duration) -> Self {
        Self {
            timeout,
            deadline: None,
            sent: None,
            flushed: false,
            received: None,
            ended: false,
            error: None,
            discarded: 0,
            unread: VecDeque::new(),
            receiver: None,
            failed: None,
            last_words: LastWords::default(),
            is_told: false,
        }
    }

    /// The next result; after the peer's Close no failure is an error (RFC 6455 section 1.4).
    pub(crate) fn poll_receive(
        &mut self,
        cx: &mut Context<'_>,
        transport: &mut dyn Transport,
        max_payload: usize,
    ) -> Poll<Result<Option<RawFrame>>> {
        let received = match self.unread.pop_front() {
            Some(unread) => unread.map(Some),
            None => match transport.poll_receive(cx, max_payload) {
                Poll::Ready(received) => received,
                Poll::Pending => {
                    self.receiver = Some(cx.waker().clone());
                    return Poll::Pending;
                }
            },
        };
        match received {
            Ok(frame) => {
                self.look_at(frame.as_ref());
                Poll::Ready(Ok(frame))
            }
            Err(_) if self.received.is_some() => Poll::Ready(Ok(None)),
            Err(error) => Poll::Ready(Err(error)),
        }
    }

    /// The error of a write, or the peer's Close, which decides. Available input is read first, and the search
    /// is repeated briefly, because the reactor may not have polled the socket yet.
    pub(crate) fn poll_write_failed(
        &mut self,
        error: Error,
        cx: &mut Context<'_>,
        transport: &mut dyn Transport,
        max_payload: usize,
        now: Instant,
    ) -> Poll<Error> {
        if error.kind() != ErrorKind::Io {
            return Poll::Ready(error); // it was not sent
        }
        let mut may_come = false;
        while self.received.is_none() && self.unread.len() < LAST_WORDS {
            match transport.poll_receive(cx, max_payload) {
                Poll::Ready(Ok(Some(frame))) => {
                    self.look_at(Some(&frame));
                    self.unread.push_back(Ok(frame));
                }
                Poll::Ready(Err(error)) => {
                    self.unread.push_back(Err(error));
                    break;
                }
                Poll::Ready(Ok(None)) => break,
                Poll::Pending => {
                    let since = *self.failed.get_or_insert(now);
                    may_come = self.last_words.may_come(since, now);
                    break;
                }
            }
        }
        if let Some(receiver) = self.receiver.take() {
            receiver.wake();
        }
        if may_come {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        if self.received.is_none() {
            return Poll::Ready(error);
        }
        self.error.get_or_insert(error);
        let outcome = self.outcome();
        let closed = Error::new(ErrorKind::Closed, format!("the session is closed: {outcome}"));
        Poll::Ready(closed.with_outcome(outcome))
    }

    fn look_at(&mut self, frame: Option<&RawFrame>) {
        if let Some(frame) = frame.filter(|frame| frame.opcode == OpCode::Close) {
            self.received(&frame.payload);
        }
    }

    /// Starts closing, once. Returns the deadline.
    pub(crate) fn begin(&mut self, now: Instant) -> Instant {
        *self.deadline.get_or_insert(now + self.timeout)
    }

    /// The transport has accepted a Close.
    pub(crate) fn sent(&mut self, payload: &Bytes) {
        self.sent.get_or_insert_with(|| reason(payload));
    }

    /// Everything accepted is written.
    pub(crate) fn flushed(&mut self) {
        self.flushed = self.sent.is_some();
    }

    /// A Close was received.
    fn received(&mut self, payload: &Bytes) {
        self.received.get_or_insert_with(|| reason(payload));
    }

    /// Ready when closing is complete, without the deadline.
    pub(crate) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        transport: &mut dyn Transport,
        max_payload: usize,
        reason: &CloseReason,
    ) -> Poll<Outcome> {
        let written = self.poll_write(cx, transport, reason);
        if let Poll::Ready(Err(error)) = &written {
            self.error.get_or_insert_with(|| error.clone());
        }
        ready!(self.poll_read(cx, transport, max_payload));
        // The error is known; there is nothing to wait for.
        let _ = ready!(written);
        Poll::Ready(self.outcome())
    }

    /// The outcome at the deadline.
    pub(crate) fn timed_out(&mut self) -> Outcome {
        let what = if self.received.is_some() || self.ended {
            "the peer did not take what was sent before the close"
        } else {
            "the peer did not answer the close"
        };
        let message = format!("{what} within {:?}", self.timeout);
        self.error.get_or_insert_with(|| Error::new(ErrorKind::Timeout, message));
        self.outcome()
    }

    /// Sends a Close unless one was sent. Ready when everything accepted is written.
    pub(crate) fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        transport: &mut dyn Transport,
        reason: &CloseReason,
    ) -> Poll<Result<(), Error>> {
        if self.sent.is_none() {
            ready!(transport.poll_ready(cx))?;
            transport.start_send(RawFrame::new(OpCode::Close, reason.to_payload()))?;
            self.sent = Some(reason.clone());
        }
        let flushed = transport.poll_flush(cx);
        self.flushed |= matches!(flushed, Poll::Ready(Ok(())));
        flushed
    }

    /// Ready when the input has ended.
    fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        transport: &mut dyn Transport,
        max_payload: usize,
    ) -> Poll<()> {
        for _ in 0..FAIR_SHARE {
            if (self.received.is_some() && self.unread.is_empty()) || self.ended {
                return Poll::Ready(());
            }
            match ready!(self.poll_receive(cx, transport, max_payload)) {
                Ok(Some(frame)) => {
                    self.discarded += u64::from(frame.fin && !frame.opcode.is_control());
                }
                Ok(None) => self.ended = true,
                Err(error) => {
                    // After a violation a transport continues and discards input.
                    self.ended = error.close_code().is_none();
                    self.error.get_or_insert(error);
                }
            }
        }
        // A flood must not prevent the deadline.
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn outcome(&mut self) -> Outcome {
        if self.received.is_none() {
            self.error.get_or_insert_with(|| {
                Error::new(ErrorKind::Io, "the connection ended without a Close")
            });
        }
        let mut outcome = Outcome::default();
        outcome.sent = self.sent.clone().filter(|_| self.flushed);
        outcome.received.clone_from(&self.received);
        outcome.error.clone_from(&self.error);
        outcome.discarded = self.discarded;
        outcome.clean = outcome.sent.is_some() && outcome.error.is_none();
        outcome
    }
}

/// The reason in a Close's payload; a raw session does not validate it.
fn reason(payload: &Bytes) -> CloseReason {
    let said = CloseReason::from_payload(payload).ok().flatten();
    said.unwrap_or_else(|| CloseReason::truncated(CloseCode::NO_STATUS, ""))
}
