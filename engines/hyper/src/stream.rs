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

/// What a WebSocket runs over when [`Hop::connect`](crate::Hop::connect) has opened it: TCP, TLS, or the
/// stream that the caller brought.
///
/// Closing it ends its writing direction, the socket's too; reading goes on.
pub struct Stream(Kind);

enum Kind {
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
    pub(crate) const DESCRIPTION: &'static str = "a stream the caller brought";

    pub(crate) fn new(stream: impl Duplex + 'static) -> Self {
        Self(Arc::new(Mutex::new(Some(Box::new(stream)))))
    }

    pub(crate) fn take(&self) -> Option<Stream> {
        // Nothing runs under the lock that could panic.
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
            .map(|stream| Stream(Kind::Caller(stream)))
    }
}

impl fmt::Debug for Once {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(Self::DESCRIPTION)
    }
}

impl Stream {
    pub(crate) fn plain(socket: Tcp) -> Self {
        Self(Kind::Plain(socket))
    }

    #[cfg(feature = "rustls")]
    pub(crate) fn tls(stream: TlsStream<Tcp>) -> Self {
        Self(Kind::Tls(Box::new(stream)))
    }

    /// The socket, if there is nothing above it.
    pub(crate) fn into_plain(self) -> Option<Tcp> {
        match self.0 {
            Kind::Plain(socket) => Some(socket),
            #[cfg(feature = "rustls")]
            Kind::Tls(_) => None,
            Kind::Caller(_) => None,
        }
    }

    /// Whether several buffers go out in one write, which futures-io has no way to ask.
    pub(crate) fn is_vectored(&self) -> bool {
        match &self.0 {
            Kind::Plain(_) => true,
            #[cfg(feature = "rustls")]
            Kind::Tls(_) => true,
            Kind::Caller(_) => false,
        }
    }

    fn inner(&mut self) -> Pin<&mut dyn Duplex> {
        match &mut self.0 {
            Kind::Plain(stream) => Pin::new(stream),
            #[cfg(feature = "rustls")]
            Kind::Tls(stream) => Pin::new(&mut **stream),
            Kind::Caller(stream) => Pin::new(&mut **stream),
        }
    }

    fn socket(&self) -> Option<&TcpStream> {
        match &self.0 {
            Kind::Plain(stream) => Some(stream.get_ref()),
            #[cfg(feature = "rustls")]
            Kind::Tls(stream) => Some(stream.get_ref().0.get_ref()),
            Kind::Caller(_) => None,
        }
    }
}

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match &self.0 {
            Kind::Plain(_) => "TCP",
            #[cfg(feature = "rustls")]
            Kind::Tls(_) => "TLS over TCP",
            Kind::Caller(_) => Once::DESCRIPTION,
        })
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
