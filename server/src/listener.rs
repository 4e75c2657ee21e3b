//! Where connections come from.

use std::{future::Future, io, net::SocketAddr};

use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
};

/// A source of connections for [`serve`](crate::serve()): a [`TcpListener`], a `UnixListener`, or one of your own.
pub trait Listener: Send + 'static {
    /// One connection.
    type Stream: AsyncRead + AsyncWrite + Send + Unpin + 'static;

    /// Waits for the next connection: its stream, and its peer's address if it has one.
    ///
    /// # Errors
    /// Those of the system. [`serve`](crate::serve()) logs an error, and tries again after a pause.
    ///
    /// # Cancel safety
    /// Dropped while pending, no connection may be lost.
    fn accept(
        &mut self,
    ) -> impl Future<Output = io::Result<(Self::Stream, Option<SocketAddr>)>> + Send;
}

impl Listener for TcpListener {
    type Stream = TcpStream;

    async fn accept(&mut self) -> io::Result<(TcpStream, Option<SocketAddr>)> {
        let (socket, peer) = TcpListener::accept(self).await?;
        // Without it responses are later, and right.
        let _ = socket.set_nodelay(true);
        Ok((socket, Some(peer)))
    }
}

#[cfg(unix)]
impl Listener for tokio::net::UnixListener {
    type Stream = tokio::net::UnixStream;

    async fn accept(&mut self) -> io::Result<(tokio::net::UnixStream, Option<SocketAddr>)> {
        let (socket, _) = tokio::net::UnixListener::accept(self).await?;
        Ok((socket, None))
    }
}

/// A connection behind a TLS handshake, whatever the library.
pub(crate) type SecureStream = Box<dyn Stream>;

/// A stream of tokio's.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}
