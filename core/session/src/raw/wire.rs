//! The connection of a raw session.

use std::{
    future::poll_fn,
    sync::Arc,
    task::{Context, Poll, ready},
};

use drivetrain_engine::{CloseReason, OpCode, Outcome, RawFrame, Result, Runtime, Transport};

use super::closing::RawClosing;

/// The connection of a raw session and the state of its closing handshake.
pub(super) struct RawWire {
    pub(super) transport: Box<dyn Transport>,
    pub(super) runtime: Arc<dyn Runtime>,
    pub(super) closing: RawClosing,
    pub(super) max_frame_size: usize,
}

impl RawWire {
    pub(super) fn poll_receive(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<RawFrame>>> {
        self.closing.poll_receive(cx, &mut *self.transport, self.max_frame_size)
    }

    pub(super) fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<()>> {
        let written = self.transport.poll_ready(cx);
        self.written(cx, written, false)
    }

    pub(super) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<()>> {
        let written = self.transport.poll_flush(cx);
        self.written(cx, written, true)
    }

    pub(super) fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<Result<()>> {
        let written = self.transport.poll_close(cx);
        self.written(cx, written, true)
    }

    pub(super) fn take(&mut self, frame: RawFrame) -> Result<()> {
        let close = (frame.opcode == OpCode::Close).then(|| frame.payload.clone());
        self.transport.start_send(frame)?;
        if let Some(payload) = close {
            self.closing.sent(&payload);
        }
        Ok(())
    }

    /// The result of a write, which also records whether everything is `flushed`.
    fn written(
        &mut self,
        cx: &mut Context<'_>,
        written: Poll<Result<()>>,
        flushed: bool,
    ) -> Poll<Result<()>> {
        let Self { closing, transport, runtime, max_frame_size } = self;
        match ready!(written) {
            Ok(()) if flushed => closing.flushed(),
            Ok(()) => {}
            Err(error) => {
                let (max, now) = (*max_frame_size, runtime.now());
                return closing.poll_write_failed(error, cx, &mut **transport, max, now).map(Err);
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Writes a Close unless one is written. A failure shows when the session is read.
    pub(super) fn poll_write_close(
        &mut self,
        cx: &mut Context<'_>,
        reason: &CloseReason,
    ) -> Poll<()> {
        self.closing.poll_write(cx, &mut *self.transport, reason).map(drop)
    }

    /// The whole closing handshake, within its timeout.
    pub(super) async fn close(&mut self, reason: &CloseReason) -> Outcome {
        let deadline = self.closing.begin(self.runtime.now());
        let mut timer = self.runtime.timer(deadline);
        poll_fn(|cx| {
            let Self { closing, transport, runtime, max_frame_size } = self;
            let mut over = closing.poll(cx, &mut **transport, *max_frame_size, reason);
            while over.is_pending() && timer.poll(cx).is_ready() {
                let now = runtime.now();
                if now >= deadline {
                    over = Poll::Ready(closing.timed_out());
                } else {
                    // A timer may fire early on a coarse clock; poll it again.
                    cx.waker().wake_by_ref();
                    break;
                }
            }
            let outcome = ready!(over);
            // Ends the stream cleanly if this needs no waiting; dropping the session ends it anyway.
            let _ = transport.poll_close(cx);
            Poll::Ready(outcome)
        })
        .await
    }
}
