//! What carries the bytes: TCP, TLS over it, or a stream the caller brings.

use std::{
    fmt, io,
    net::{Shutdown, TcpStream},
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll, ready},
};

use async_io::Async;
use futures_io::{AsyncRead, AsyncWrite};
#[cfg(feature = "rustls")]
use futures_rustls::client::TlsStream;

/// The socket of async-std and of smol alike: both wrap this one.
pub(crate) type Tcp = Async<TcpStream>;

pub(crate) enum Stream {
    Plain(Tcp),
    #[cfg(feature = "rustls")]
    Tls(Box<TlsStream<Tcp>>),
    Caller(Box<dyn Duplex>),
}

/// Any stream, as a caller may bring it.
pub(crate) trait Duplex: AsyncRead + AsyncWrite + Unpin + Send {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Duplex for S {}

/// A stream of the caller's, for the first who takes it.
#[derive(Clone)]
pub(crate) struct Once(Arc<Mutex<Option<Box<dyn Duplex>>>>);

impl Once {
    pub(crate) fn new(stream: impl Duplex + 'static) -> Self {
        Self(Arc::new(Mutex::new(Some(Box::new(stream)))))
    }

    pub(crate) fn take(&self) -> Option<Stream> {
        // Nothing runs under the lock that could panic.
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take().map(Stream::Caller)
    }
}

impl fmt::Debug for Once {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a stream the caller brought")
    }
}

impl Stream {
    /// Whether several buffers go out in one write, which futures-io has no way to ask.
    pub(crate) fn is_vectored(&self) -> bool {
        match self {
            Self::Plain(_) => true,
            #[cfg(feature = "rustls")]
            Self::Tls(_) => true,
            Self::Caller(_) => false,
        }
    }

    fn inner(&mut self) -> Pin<&mut dyn Duplex> {
        match self {
            Self::Plain(stream) => Pin::new(stream),
            #[cfg(feature = "rustls")]
            Self::Tls(stream) => Pin::new(&mut **stream),
            Self::Caller(stream) => Pin::new(&mut **stream),
        }
    }

    fn socket(&self) -> Option<&TcpStream> {
        match self {
            Self::Plain(stream) => Some(stream.get_ref()),
            #[cfg(feature = "rustls")]
            Self::Tls(stream) => Some(stream.get_ref().0.get_ref()),
            Self::Caller(_) => None,
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        self.inner().poll_read(cx, buf)
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.inner().poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.inner().poll_write_vectored(cx, bufs)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.inner().poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // TLS sends its close_notify; the socket itself only flushes, so that its writing side is ended
        // here. What the caller brought ends itself.
        ready!(self.inner().poll_close(cx))?;
        Poll::Ready(match self.socket().map(|socket| socket.shutdown(Shutdown::Write)) {
            // The peer was faster.
            Some(Err(error)) if error.kind() == io::ErrorKind::NotConnected => Ok(()),
            Some(result) => result,
            None => Ok(()),
        })
    }
}
