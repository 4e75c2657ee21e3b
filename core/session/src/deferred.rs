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

#[cfg(test)]
mod tests {
    use std::{
        sync::{
            Arc,
            atomic::{AtomicUsize, Ordering::Relaxed},
        },
        task::Wake,
    };

    use super::*;

    #[derive(Default)]
    struct Wakes(AtomicUsize);

    impl Wake for Wakes {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Relaxed);
        }
    }

    /// How often the session task and the application are woken by this work, while the task watches the application.
    fn woken(work: impl FnOnce(&mut DeferredWork)) -> (usize, usize) {
        let (task_wakes, app_wakes) = (Arc::new(Wakes::default()), Arc::new(Wakes::default()));
        let task = Arc::new(TaskHandle::default());
        task.register(&Waker::from(Arc::clone(&task_wakes)));
        let receiving = Receiving::new(Arc::clone(&task));
        receiving.watch_again();
        let wakes = receiving.wakes();
        assert!(receiving.wait(&Waker::from(Arc::clone(&app_wakes)), wakes).is_ok());
        let mut deferred = DeferredWork::default();
        work(&mut deferred);
        assert!(deferred.run(&task, &receiving).is_empty());
        (task_wakes.0.load(Relaxed), app_wakes.0.load(Relaxed))
    }

    #[test]
    fn each_is_woken_for_its_own_reason() {
        assert_eq!(woken(|_| ()), (0, 0));
        assert_eq!(woken(DeferredWork::transform), (0, 0));
        assert_eq!(woken(DeferredWork::wake_task), (1, 0));
        assert_eq!(woken(DeferredWork::wake_reader), (0, 1));
        assert_eq!(woken(|deferred| deferred.note_woken(READER)), (0, 1));
        assert_eq!(woken(|deferred| deferred.note_woken(READER | WRITER)), (1, 1));
    }

    #[test]
    fn nothing_is_deferred_until_something_is() {
        type Work = fn(&mut DeferredWork, Bytes);
        assert!(DeferredWork::default().is_empty());
        let shared = Bytes::from(vec![1, 2, 3]);
        let unique = || Bytes::from(vec![1]);
        let works: [(Work, Bytes, bool); 5] = [
            (DeferredWork::drop_payload, shared.clone(), true),
            (DeferredWork::drop_payload, unique(), false),
            (DeferredWork::drop_payload, Bytes::from_static(b""), false),
            (|deferred, bytes| deferred.keep_payload(&bytes), shared.clone(), true),
            (|deferred, bytes| deferred.keep_payload(&bytes), unique(), false),
        ];
        for (at, (defer, payload, is_deferred)) in works.into_iter().enumerate() {
            let mut deferred = DeferredWork::default();
            defer(&mut deferred, payload);
            assert_eq!(!deferred.is_empty(), is_deferred, "{at}");
        }
        let mut deferred = DeferredWork::default();
        deferred.forget(None);
        assert!(deferred.is_empty());
        deferred.forget(Some(Waker::noop().clone()));
        assert!(!deferred.is_empty());
    }
}
