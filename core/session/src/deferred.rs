//! Work deferred until the lock is released: everything that is, or may be, user code.

use std::task::Waker;

use bytes::Bytes;
use drivetrain_engine::{Frame, Transport};

use super::{
    extensions::{Done, Extensions},
    panics::Panics,
    trace::TraceEvents,
    waiters::PollWaker,
    waiting::{READER, Receiving, TaskHandle, WRITER},
};

/// The work to do when the lock is released.
#[derive(Default)]
pub(super) struct DeferredWork {
    /// [`READER`] and [`WRITER`] to wake the application and the session task, and [`WORK`]. One number, because it is
    /// checked after each message.
    pending: u8,
    /// The first waker. Mostly it is the only work, and here it costs no allocation.
    first: Option<Waker>,
    rest: Vec<Deferred>,
    events: Option<Box<TraceEvents>>,
}

/// `first`, `rest` or `events` is not empty, or transforms are due.
const WORK: u8 = 1;

/// A waker to wake, or a value to drop.
enum Deferred {
    Wake(Waker),
    Forget(#[expect(dead_code, reason = "it is dropped")] Waker),
    Payload(#[expect(dead_code, reason = "it is dropped")] Bytes),
    Frame(#[expect(dead_code, reason = "it is dropped")] Frame),
    /// Dropping it closes the socket.
    Transport(#[expect(dead_code, reason = "it is dropped")] Box<dyn Transport>),
    Extensions(#[expect(dead_code, reason = "it is dropped")] Box<Extensions>),
    Transforms(#[expect(dead_code, reason = "it is dropped")] Box<Done>),
}

impl DeferredWork {
    /// Whether there is no work, as after most messages.
    pub(super) fn is_empty(&self) -> bool {
        self.pending == 0
    }

    /// Wakes the [`READER`] and the [`WRITER`] that the transport woke during a poll.
    #[inline]
    pub(super) fn note_woken(&mut self, woken: u8) {
        self.pending |= woken;
    }

    /// Wakes the application if it waits for input, and the session task if it reads.
    pub(super) fn wake_reader(&mut self) {
        self.pending |= READER;
    }

    /// Wakes the session task.
    #[inline]
    pub(super) fn wake_task(&mut self) {
        self.pending |= WRITER;
    }

    /// Trace events to emit.
    pub(super) fn events(&mut self) -> &mut Option<Box<TraceEvents>> {
        self.pending |= WORK;
        &mut self.events
    }

    fn push(&mut self, work: Deferred) {
        self.pending |= WORK;
        self.rest.push(work);
    }

    /// Wakes the task of a poll that has to be repeated.
    pub(super) fn repeat(&mut self, waker: &mut PollWaker) {
        if let Some(waker) = waker.take() {
            self.wake(waker);
        }
    }

    pub(super) fn wake(&mut self, waker: Waker) {
        self.pending |= WORK;
        if self.first.is_none() {
            self.first = Some(waker);
        } else {
            self.rest.push(Deferred::Wake(waker));
        }
    }

    pub(super) fn forget(&mut self, waker: Option<Waker>) {
        if let Some(waker) = waker {
            self.push(Deferred::Forget(waker));
        }
    }

    /// Drops a payload: at once if it is unique, since a `Bytes` that runs user code on its drop never is.
    pub(super) fn drop_payload(&mut self, payload: Bytes) {
        if !payload.is_unique() && !payload.is_empty() {
            self.push(Deferred::Payload(payload));
        }
    }

    /// Keeps a shared payload alive that the transport drops under the lock.
    pub(super) fn keep_payload(&mut self, payload: &Bytes) {
        if !payload.is_unique() {
            self.push(Deferred::Payload(payload.clone()));
        }
    }

    pub(super) fn drop_payloads(&mut self, payloads: impl IntoIterator<Item = Bytes>) {
        payloads.into_iter().for_each(|payload| self.drop_payload(payload));
    }

    pub(super) fn drop_frame(&mut self, frame: Frame) {
        self.push(Deferred::Frame(frame));
    }

    /// Drops the transport and the extensions at the end of the session.
    pub(super) fn drop_session(
        &mut self,
        transport: Option<Box<dyn Transport>>,
        extensions: Option<Box<Extensions>>,
    ) {
        self.pending |= WORK;
        self.rest.extend(transport.map(Deferred::Transport));
        self.rest.extend(extensions.map(Deferred::Extensions));
    }

    /// Drops transforms that are returned after the end of the session.
    pub(super) fn drop_transforms(&mut self, done: Done) {
        self.push(Deferred::Transforms(Box::new(done)));
    }

    /// Has the extensions' transforms run after this work.
    pub(super) fn transform(&mut self) {
        self.pending |= WORK;
    }

    /// Does all work, also after a panic. Returns the panics.
    pub(super) fn run(self, task: &TaskHandle, receiving: &Receiving) -> Panics {
        let Self { pending, first, rest, events } = self;
        let mut panics = Panics::default();
        if let Some(events) = events {
            events.emit();
        }
        if pending & WRITER != 0 {
            panics.catch(|| task.wake_task());
        }
        if pending & READER != 0 {
            panics.catch(|| receiving.tell());
        }
        if let Some(first) = first {
            panics.catch(|| first.wake());
        }
        for work in rest {
            panics.catch(|| match work {
                Deferred::Wake(waker) => waker.wake(),
                other => drop(other),
            });
        }
        panics
    }
}
