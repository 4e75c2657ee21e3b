//! How a raw session closes, when it is told to (RFC 6455 section 7.1.2).

use std::{
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use drivetrain_engine::{
    CloseCode, CloseReason, Error, ErrorKind, Instant, OpCode, Outcome, RawFrame, Transport,
};

/// What is known of the closing handshake of a raw session.
#[derive(Debug)]
pub(super) struct RawClosing {
    timeout: Duration,
    deadline: Option<Instant>,
    sent: Option<CloseReason>,
    received: Option<CloseReason>,
    /// Nothing more comes.
    ended: bool,
    error: Option<Error>,
    discarded: u64,
}

impl RawClosing {
    pub(super) fn new(timeout: Duration) -> Self {
        Self {
            timeout,
            deadline: None,
            sent: None,
            received: None,
            ended: false,
            error: None,
            discarded: 0,
        }
    }

    /// Begins to close, if that has not begun. Returns when it is over at the latest.
    pub(super) fn begin(&mut self, now: Instant) -> Instant {
        *self.deadline.get_or_insert(now + self.timeout)
    }

    /// A Close was given to the transport.
    pub(super) fn sent(&mut self, payload: &Bytes) {
        self.sent.get_or_insert_with(|| reason(payload));
    }

    /// A Close came in.
    pub(super) fn received(&mut self, payload: &Bytes) {
        self.received.get_or_insert_with(|| reason(payload));
    }

    /// Ready when it is over, but for the time.
    pub(super) fn poll(
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
        // Its error is known; there is nothing to wait for.
        let _ = ready!(written);
        Poll::Ready(self.outcome())
    }

    /// The outcome when time is up.
    pub(super) fn timed_out(&mut self) -> Outcome {
        let what = if self.received.is_some() || self.ended {
            "the peer did not take what was sent before the close"
        } else {
            "the peer did not answer the close"
        };
        let message = format!("{what} within {:?}", self.timeout);
        self.error.get_or_insert_with(|| Error::new(ErrorKind::Timeout, message));
        self.outcome()
    }

    fn poll_write(
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
        transport.poll_flush(cx)
    }

    /// Ready when nothing more is to come.
    fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        transport: &mut dyn Transport,
        max_payload: usize,
    ) -> Poll<()> {
        const FAIR_SHARE: usize = 64;
        for _ in 0..FAIR_SHARE {
            if self.received.is_some() || self.ended {
                return Poll::Ready(());
            }
            match ready!(transport.poll_receive(cx, max_payload)) {
                Ok(Some(frame)) if frame.opcode == OpCode::Close => self.received(&frame.payload),
                Ok(Some(frame)) => {
                    self.discarded += u64::from(frame.fin && !frame.opcode.is_control());
                }
                Ok(None) => self.ended = true,
                Err(error) => {
                    // After a violation a transport goes on, discarding.
                    self.ended = error.close_code().is_none();
                    self.error.get_or_insert(error);
                }
            }
        }
        // A peer that floods must not keep the time from passing.
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
        outcome.sent.clone_from(&self.sent);
        outcome.received.clone_from(&self.received);
        outcome.error.clone_from(&self.error);
        outcome.discarded = self.discarded;
        outcome.clean = self.sent.is_some() && outcome.error.is_none();
        outcome
    }
}

/// What a Close's payload says; a raw session does not judge it.
fn reason(payload: &Bytes) -> CloseReason {
    let said = CloseReason::from_payload(payload).ok().flatten();
    said.unwrap_or_else(|| CloseReason::truncated(CloseCode::NO_STATUS, ""))
}
