//! A client's transport after the end of its session: it waits for the server to close TCP (RFC 6455 section 7.1.1).

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use drivetrain_engine::{Instant, Runtime, Timer, Transport};

/// A transport whose session has ended with both Closes. It is dropped when the peer ends the stream, sends anything
/// more, or has done neither in time.
///
/// The end that closes TCP first keeps the connection's ports in TIME_WAIT: on a client they are few, on a server they
/// cost nothing.
pub(crate) struct Lingering {
    transport: Box<dyn Transport>,
    until: Instant,
}

impl Lingering {
    pub(crate) fn new(transport: Box<dyn Transport>, until: Instant) -> Self {
        Self { transport, until }
    }

    /// The future that waits for the end.
    pub(crate) fn on(self, runtime: Arc<dyn Runtime>) -> Linger {
        let timer = runtime.timer(self.until);
        Linger { lingering: self, runtime, timer }
    }
}

impl Drop for Lingering {
    fn drop(&mut self) {
        // Ends the stream cleanly if this needs no waiting; dropping it ends it anyway.
        let _ = self.transport.poll_close(&mut Context::from_waker(Waker::noop()));
    }
}

/// Waits for the end of a [`Lingering`] transport's stream.
pub(crate) struct Linger {
    lingering: Lingering,
    runtime: Arc<dyn Runtime>,
    timer: Box<dyn Timer>,
}

impl Future for Linger {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let Self { lingering: Lingering { transport, until }, runtime, timer } = self.get_mut();
        // Nothing may follow the peer's Close: a frame is as good a reason to go as the end.
        if transport.poll_receive(cx, 0).is_ready() {
            return Poll::Ready(());
        }
        while timer.poll(cx).is_ready() {
            if runtime.now() >= *until {
                return Poll::Ready(());
            }
            // A timer may be a little early on a coarse clock.
            timer.reset(*until);
        }
        Poll::Pending
    }
}
