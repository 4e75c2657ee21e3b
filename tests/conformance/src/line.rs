//! A transport without a session: the case polls it, with counting wakers.

use std::{
    future::poll_fn,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context as TaskContext, Poll, Wake, Waker},
};

use drivetrain::{Error, OpCode, RawFrame};
use drivetrain_engine::{Answer, Connection, Duties, Engine as _, Handshake, Transport};
use futures_util::task::AtomicWaker;

use crate::{
    CountedStream,
    context::{Context, PATIENCE},
    failure::{Failure, Verdict},
};

/// A frame limit above every frame of the suite.
pub(crate) const NO_LIMIT: usize = 256 << 20;

/// One open connection, without a session above it.
pub(crate) struct Line {
    cx: Context,
    transport: Box<dyn Transport>,
    pub(crate) duties: Duties,
}

impl Line {
    /// Opens a WebSocket with the engine's defaults.
    pub(crate) async fn open(cx: &Context, url: &str) -> Verdict<Self> {
        Self::with(cx, cx.engine().connect(Handshake::new(url.parse()?)?).await?)
    }

    /// Opens a WebSocket with an offered extension.
    pub(crate) async fn offering(cx: &Context, url: &str, offer: &str) -> Verdict<Self> {
        let handshake = Handshake::new(url.parse()?)?.extension(offer)?;
        Self::with(cx, cx.engine().connect(handshake).await?)
    }

    /// Opens a WebSocket over a connected stream; `None` if the engine accepts none.
    pub(crate) async fn over(
        cx: &Context,
        stream: CountedStream,
        url: &str,
    ) -> Verdict<Option<Self>> {
        let Some(engine) = cx.engine_over(stream) else { return Ok(None) };
        Self::with(cx, engine.connect(Handshake::new(url.parse()?)?).await?).map(Some)
    }

    fn with(cx: &Context, answer: Answer) -> Verdict<Self> {
        match answer {
            Answer::Open(connection) => Ok(Self::of(cx, connection)),
            Answer::Refused(response) => {
                Err(Failure::new(format_args!("it was refused: {}", response.status())))
            }
        }
    }

    fn of(cx: &Context, connection: Connection) -> Self {
        let duties = connection.duties();
        Self { cx: cx.clone(), transport: connection.into_transport(), duties }
    }

    pub(crate) fn poll_receive(
        &mut self,
        counter: &WakeCounter,
        max_payload: usize,
    ) -> Poll<Result<Option<RawFrame>, Error>> {
        self.transport.poll_receive(&mut TaskContext::from_waker(&counter.waker()), max_payload)
    }

    pub(crate) fn poll_ready(&mut self, counter: &WakeCounter) -> Poll<Result<(), Error>> {
        self.transport.poll_ready(&mut TaskContext::from_waker(&counter.waker()))
    }

    pub(crate) fn start_send(&mut self, frame: RawFrame) -> Verdict {
        Ok(self.transport.start_send(frame)?)
    }

    /// Sends a short message through `try_send`, if the transport accepts it.
    pub(crate) fn try_send(&mut self, payload: &[u8]) -> bool {
        self.transport.try_send(OpCode::Binary, payload)
    }

    /// Sends a whole frame.
    pub(crate) async fn send(&mut self, frame: RawFrame) -> Verdict {
        let transport = &mut self.transport;
        let ready = poll_fn(|task| transport.poll_ready(task));
        self.cx.within(PATIENCE, "the transport is ready to send", ready).await??;
        self.start_send(frame)?;
        self.flush().await
    }

    pub(crate) async fn flush(&mut self) -> Verdict {
        let transport = &mut self.transport;
        let flushed = poll_fn(|task| transport.poll_flush(task));
        Ok(self.cx.within(PATIENCE, "the frame is written", flushed).await??)
    }

    /// The next frame.
    pub(crate) async fn receive(
        &mut self,
        max_payload: usize,
    ) -> Verdict<Result<Option<RawFrame>, Error>> {
        let transport = &mut self.transport;
        let received = poll_fn(|task| transport.poll_receive(task, max_payload));
        self.cx.within(PATIENCE, "something is received", received).await
    }

    /// Polls until receiving is pending with this waker; fails if a frame arrives.
    pub(crate) fn awaits_input(&mut self, counter: &WakeCounter) -> Verdict {
        match self.poll_receive(counter, NO_LIMIT) {
            Poll::Pending => Ok(()),
            Poll::Ready(other) => {
                Err(Failure::new(format_args!("nothing was sent, and this came: {other:?}")))
            }
        }
    }

    /// Sends to a peer that does not read, until sending is pending with this waker.
    pub(crate) async fn fill(&mut self, counter: &WakeCounter) -> Verdict {
        const MOST: usize = 64 << 20;
        const FRAME: usize = 16 << 10;
        let mut sent = 0;
        while sent < MOST {
            match self.poll_ready(counter) {
                Poll::Ready(ready) => {
                    ready?;
                    self.start_send(RawFrame::new(OpCode::Binary, vec![b'x'; FRAME]))?;
                    sent += FRAME;
                }
                // The system may have moved bytes meanwhile.
                Poll::Pending => {
                    self.cx.sleep(std::time::Duration::from_millis(20)).await;
                    if self.poll_ready(counter).is_pending() {
                        return Ok(());
                    }
                }
            }
        }
        Err(Failure::new("a peer reads nothing, and sending is never pending"))
    }
}

/// A waker that counts.
#[derive(Clone, Default)]
pub(crate) struct WakeCounter(Arc<Wakes>);

#[derive(Default)]
struct Wakes {
    count: AtomicUsize,
    waits: AtomicWaker,
}

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.count.fetch_add(1, Ordering::SeqCst);
        self.waits.wake();
    }
}

impl WakeCounter {
    fn waker(&self) -> Waker {
        Waker::from(Arc::clone(&self.0))
    }

    /// Number of wake-ups.
    pub(crate) fn count(&self) -> usize {
        self.0.count.load(Ordering::SeqCst)
    }

    /// Ready after more wake-ups than this.
    pub(crate) async fn woken_after(&self, count: usize) {
        poll_fn(|task| {
            self.0.waits.register(task.waker());
            if self.count() > count { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }
}
