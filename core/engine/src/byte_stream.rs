//! The bytes below a framing.

use futures_io::{AsyncRead, AsyncWrite};

/// A duplex byte stream over any carrier: TCP, TLS, a Unix socket, an HTTP/2 stream, a pipe in memory.
///
/// The traits are those of futures-io, which belong to no runtime. Adapt a tokio stream with the `compat`
/// module of `tokio-util`.
///
/// A session polls its stream under its lock: a poll must not block, nor use that session, and a call such as
/// `Session::stats` from it would wait for ever. A stream may wake its wakers at any time, also in a poll. A panic in a poll
/// ends the session.
pub trait ByteStream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> ByteStream for S {}

/// A type-erased [`ByteStream`].
pub type BoxStream = Box<dyn ByteStream>;
