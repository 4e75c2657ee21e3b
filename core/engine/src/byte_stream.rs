//! The bytes below a framing.

use futures_io::{AsyncRead, AsyncWrite};

/// A duplex byte stream over any carrier: TCP, TLS, a Unix socket, an HTTP/2 stream, a pipe in memory.
///
/// The traits are those of futures-io, which belong to no runtime. Adapt a tokio stream with the `compat`
/// module of `tokio-util`.
pub trait ByteStream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> ByteStream for S {}

/// A type-erased [`ByteStream`].
pub type BoxStream = Box<dyn ByteStream>;
