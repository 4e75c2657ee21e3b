//! A connection in memory, so that the same work costs the same instructions each time.

use std::{
    future::{Future, poll_fn},
    io,
    pin::{Pin, pin},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

use tokio::io::ReadBuf;

use crate::service::Service;

/// The end that is measured, a client's unless it [says otherwise](Self::become_client); the service at the other one
/// runs inside the writes.
///
/// An echo arrives as it does from a network: not before the client has gone to sleep. See
/// [`drive`](Self::drive).
#[derive(Clone, Debug)]
pub(crate) struct Wire(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    service: Service,
    /// What is pending of an echo may be read.
    arrived: bool,
    reader: Option<Waker>,
}

impl Wire {
    pub(crate) fn new() -> Self {
        let state = State { service: Service::new(), arrived: false, reader: None };
        Self(Arc::new(Mutex::new(state)))
    }

    /// From now on the other end is a client that has sent its handshake, for this path, and got its answer.
    pub(crate) fn become_client(&self, path: &str) {
        self.lock().service = Service::client(path);
    }

    /// Runs a client; whenever it waits, what it waits for arrives.
    pub(crate) async fn drive<T>(self, client: impl Future<Output = T>) -> T {
        let mut client = pin!(client);
        poll_fn(|cx| {
            let polled = client.as_mut().poll(cx);
            if polled.is_pending() {
                self.arrive();
            }
            polled
        })
        .await
    }

    fn arrive(&self) {
        let mut state = self.lock();
        if state.arrived || state.service.pending().is_empty() {
            return;
        }
        state.arrived = true;
        let reader = state.reader.take();
        drop(state);
        if let Some(reader) = reader {
            reader.wake();
        }
    }

    /// Has `take` take from what may be read; it says how much it took. Like [`write`](Self::write) a function of its
    /// own, so that it can be told apart from what the client does.
    #[inline(never)]
    fn read(
        &self,
        cx: &mut Context<'_>,
        take: impl FnOnce(&[u8]) -> usize,
    ) -> Poll<io::Result<usize>> {
        let mut state = self.lock();
        let pending = state.service.pending();
        if pending.is_empty() || (state.service.is_echo() && !state.arrived) {
            if state.service.is_closed() {
                return Poll::Ready(Ok(0));
            }
            state.reader = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let count = take(pending);
        state.service.consume(count);
        state.arrived &= !state.service.pending().is_empty();
        Poll::Ready(Ok(count))
    }

    #[inline(never)]
    fn write(&self, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let mut state = self.lock();
        let is_open = state.service.is_echo();
        state.service.receive(bytes);
        // The answer to the handshake does not wait for the client to sleep: a task of its own may read.
        state.arrived |= !is_open;
        let reader = if state.arrived { state.reader.take() } else { None };
        drop(state);
        if let Some(reader) = reader {
            reader.wake();
        }
        Poll::Ready(Ok(bytes.len()))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl tokio::io::AsyncRead for Wire {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let take = |pending: &[u8]| {
            let count = pending.len().min(buffer.remaining());
            buffer.put_slice(&pending[..count]);
            count
        };
        self.read(cx, take).map_ok(drop)
    }
}

impl tokio::io::AsyncWrite for Wire {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.write(bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

impl futures_io::AsyncRead for Wire {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        self.read(cx, |pending| {
            let count = pending.len().min(buffer.len());
            buffer[..count].copy_from_slice(&pending[..count]);
            count
        })
    }
}

impl futures_io::AsyncWrite for Wire {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.write(bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
