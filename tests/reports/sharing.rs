//! Tasks that share a session, and the memory it holds.
#![cfg(all(feature = "testing", feature = "deflate", feature = "json"))]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod flushing;
mod leaving;
mod locked;
mod memory;
mod panics;
mod transforming;
mod waiting;

use std::{
    future::Future,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
        mpsc,
    },
    task::{Context, Poll, Wake, Waker},
    thread,
    time::Duration,
};

use drivetrain::{
    Bytes, NegotiatedExtension, OpCode, Outgoing, RawFrame, Result, Session, WebSockets,
    extension::{Extension, MessagePart, Role, Transform},
    testing::{PipePeer, TestRuntime, pipe},
};
use drivetrain_engine::{Connection, Transport};

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(60);

fn open(plugin: WebSockets) -> (TestRuntime, Session, PipePeer) {
    let runtime = TestRuntime::new();
    let (connection, peer) = pipe();
    let session = runtime.session(connection, plugin);
    (runtime, session, peer)
}

fn open_with(plugin: WebSockets, extension: &str) -> (TestRuntime, Session, PipePeer) {
    let runtime = TestRuntime::new();
    let (connection, peer) = pipe();
    let agreed = vec![NegotiatedExtension::new(extension, [])];
    let session = runtime.session(connection.with_extensions(agreed), plugin);
    (runtime, session, peer)
}

/// Fails where `test` would hang for ever.
fn in_time(test: impl FnOnce() + Send + 'static) {
    let (done, is_done) = mpsc::channel();
    let running = thread::spawn(move || {
        test();
        let _ = done.send(());
    });
    match is_done.recv_timeout(PATIENCE) {
        Err(mpsc::RecvTimeoutError::Timeout) => panic!("it hangs"),
        _ => running.join().unwrap(),
    }
}

/// Whether it panics.
fn panics<T>(call: impl FnOnce() -> T) -> bool {
    catch_unwind(AssertUnwindSafe(call)).is_err()
}

/// Counts how often it is woken.
#[derive(Default)]
struct Counts(AtomicUsize);

impl Counts {
    fn new() -> (Arc<Self>, Waker) {
        let counts = Arc::new(Self::default());
        (Arc::clone(&counts), Waker::from(counts))
    }

    fn woken(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

impl Wake for Counts {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

/// Runs code when it is woken.
struct Runs<F>(F);

impl<F: Fn() + Send + Sync + 'static> Wake for Runs<F> {
    fn wake(self: Arc<Self>) {
        (self.0)();
    }
}

fn runs(code: impl Fn() + Send + Sync + 'static) -> Waker {
    Waker::from(Arc::new(Runs(code)))
}

fn poll<T>(future: Pin<&mut (impl Future<Output = T> + ?Sized)>, waker: &Waker) -> Poll<T> {
    future.poll(&mut Context::from_waker(waker))
}

/// A payload that runs code when it is dropped.
struct Payload<F: Fn()>(Vec<u8>, F);

impl<F: Fn()> AsRef<[u8]> for Payload<F> {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl<F: Fn()> Drop for Payload<F> {
    fn drop(&mut self) {
        (self.1)();
    }
}

fn payload(size: usize, dropped: impl Fn() + Send + 'static) -> Bytes {
    Bytes::from_owner(Payload(vec![b'x'; size], dropped))
}

/// A transport that takes a copy of what is sent, as those over sockets do, and reads nothing.
#[derive(Clone, Default)]
struct Copying(Arc<AtomicBool>);

impl Copying {
    /// A session on it; it is written to until the switch is set.
    fn open(plugin: WebSockets) -> (TestRuntime, Session, Arc<AtomicBool>) {
        let (runtime, blocked) = (TestRuntime::new(), Arc::default());
        let connection = Connection::new(Self(Arc::clone(&blocked)));
        let session = runtime.session(connection, plugin);
        (runtime, session, blocked)
    }

    fn poll(&self) -> Poll<Result<()>> {
        if self.0.load(Ordering::SeqCst) { Poll::Pending } else { Poll::Ready(Ok(())) }
    }
}

impl Transport for Copying {
    fn poll_receive(&mut self, _: &mut Context<'_>, _: usize) -> Poll<Result<Option<RawFrame>>> {
        Poll::Pending
    }

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<()>> {
        self.poll()
    }

    fn start_send(&mut self, _: RawFrame) -> Result<()> {
        Ok(())
    }

    fn try_send(&mut self, _: OpCode, payload: &[u8]) -> bool {
        payload.len() == 10 && self.poll().is_ready()
    }

    fn poll_flush(&mut self, _: &mut Context<'_>) -> Poll<Result<()>> {
        self.poll()
    }

    fn poll_close(&mut self, _: &mut Context<'_>) -> Poll<Result<()>> {
        self.poll()
    }
}

/// Panics, unless it did already: a second panic on the way would end the process.
fn panic_once() {
    assert!(thread::panicking(), "as it shall");
}

/// An extension that runs code on what passes.
struct Looks<F>(Arc<F>);

impl<F> std::fmt::Debug for Looks<F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Looks")
    }
}

impl<F: Fn(&[u8]) + Send + Sync + 'static> Looks<F> {
    fn new(look: F) -> Self {
        Self(Arc::new(look))
    }
}

impl<F: Fn(&[u8]) + Send + Sync + 'static> Extension for Looks<F> {
    fn name(&self) -> &str {
        "x-looks"
    }

    fn accept(&self, _: &NegotiatedExtension, _: Role) -> Result<Box<dyn Transform>> {
        Ok(Box::new(Self(Arc::clone(&self.0))))
    }
}

impl<F: Fn(&[u8]) + Send + Sync + 'static> Transform for Looks<F> {
    fn incoming(&mut self, part: &mut MessagePart, room: usize) -> Result<Bytes> {
        (self.0)(&part.payload);
        Ok(part.payload.split_to(part.payload.len().min(room)))
    }

    fn outgoing(&mut self, part: &mut MessagePart) -> Result<()> {
        (self.0)(&part.payload);
        Ok(())
    }
}

/// Has the session accept so much that the next message has to wait, whatever its size.
fn fill(runtime: &TestRuntime, outgoing: &Outgoing, peer: &mut PipePeer) {
    peer.set_writable(false);
    for size in [40_000, 1000, 10, 1] {
        loop {
            let mut sending = std::pin::pin!(outgoing.send(vec![0; size]));
            match runtime.poll_now(sending.as_mut()) {
                Some(sent) => sent.unwrap(),
                None => break,
            }
        }
    }
}
