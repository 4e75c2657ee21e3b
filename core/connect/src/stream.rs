//! A connection: TCP, TLS over it, or a custom stream.

use std::{
    fmt, io,
    net::SocketAddr,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
};

use drivetrain_engine::{BoxStream, ByteStream, HandshakePhases};
use futures_io::{AsyncRead, AsyncWrite};

/// A connection that [`HttpConnector::dial`](crate::HttpConnector::dial) has opened, or a custom stream.
///
/// Closing it ends its writing direction, the socket's too; reading continues.
pub struct ConnectedStream {
    inner: BoxStream,
    is_socket: bool,
    is_http2: bool,
    ends: Option<(SocketAddr, SocketAddr)>,
    phases: HandshakePhases,
}

impl ConnectedStream {
    #[cfg_attr(
        not(any(feature = "tokio", feature = "async-std", feature = "smol")),
        allow(dead_code, reason = "there is no runtime to dial on")
    )]
    /// A socket, and its own and the peer's address if it has some. Its close must end its writing direction.
    pub(crate) fn socket(
        socket: impl ByteStream + 'static,
        ends: Option<(SocketAddr, SocketAddr)>,
    ) -> Self {
        let phases = HandshakePhases::default();
        Self { inner: Box::new(socket), is_socket: true, is_http2: false, ends, phases }
    }

    /// The same connection with another layer above; `is_http2` says whether HTTP/2 was agreed on.
    #[cfg(any(feature = "rustls", feature = "native-tls"))]
    pub(crate) fn layered(
        connection: &ConnectionFacts,
        layer: impl ByteStream + 'static,
        is_http2: bool,
    ) -> Self {
        let ConnectionFacts { is_socket, ends, phases } = *connection;
        Self { inner: Box::new(layer), is_socket, is_http2, ends, phases }
    }

    /// The stream, to put a layer on it, and the facts that remain.
    #[cfg(any(feature = "rustls", feature = "native-tls"))]
    pub(crate) fn into_parts(self) -> (BoxStream, ConnectionFacts) {
        let Self { inner, is_socket, ends, phases, .. } = self;
        (inner, ConnectionFacts { is_socket, ends, phases })
    }

    /// The bytes alone.
    pub fn into_bytes(self) -> BoxStream {
        self.inner
    }

    /// Whether both ends agreed on HTTP/2 (ALPN).
    pub fn is_http2(&self) -> bool {
        self.is_http2
    }

    /// The addresses of this end and of the peer, which may be a proxy; `None` for what is no TCP connection of ours.
    pub fn ends(&self) -> Option<(SocketAddr, SocketAddr)> {
        self.ends
    }

    /// How long opening it took; the upgrade comes later.
    pub fn phases(&self) -> HandshakePhases {
        self.phases
    }

    pub(crate) fn with_phases(self, phases: HandshakePhases) -> Self {
        Self { phases, ..self }
    }

    /// Whether it ends in a socket of ours, so that several buffers go out in one write.
    pub(crate) fn is_socket(&self) -> bool {
        self.is_socket
    }
}

/// What is known of a connection, whatever layers are above.
#[cfg(any(feature = "rustls", feature = "native-tls"))]
pub(crate) struct ConnectionFacts {
    is_socket: bool,
    ends: Option<(SocketAddr, SocketAddr)>,
    phases: HandshakePhases,
}

/// A custom stream, for the first handshake that takes it.
#[derive(Clone)]
pub(crate) struct Once(Arc<Mutex<Option<BoxStream>>>);

impl Once {
    const DESCRIPTION: &'static str = "a custom stream";

    pub(crate) fn new(stream: impl ByteStream + 'static) -> Self {
        Self(Arc::new(Mutex::new(Some(Box::new(stream)))))
    }

    pub(crate) fn take(&self) -> Option<ConnectedStream> {
        // Nothing runs under the lock that could panic.
        let inner = self.0.lock().unwrap_or_else(PoisonError::into_inner).take()?;
        let phases = HandshakePhases::default();
        Some(ConnectedStream { inner, is_socket: false, is_http2: false, ends: None, phases })
    }
}

impl fmt::Debug for Once {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(Self::DESCRIPTION)
    }
}

impl fmt::Debug for ConnectedStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConnectedStream")
            .field("is_socket", &self.is_socket)
            .field("is_http2", &self.is_http2)
            .field("ends", &self.ends)
            .finish_non_exhaustive()
    }
}

impl AsyncRead for ConnectedStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_read(cx, buf)
    }
}

impl AsyncWrite for ConnectedStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write_vectored(cx, bufs)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_close(cx)
    }
}
