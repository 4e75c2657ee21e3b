//! The byte stream of an upgraded connection.

use std::{
    io::IoSlice,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use drivetrain_connect::FromTokio;
use drivetrain_engine::BoxStream;
use futures_io::{AsyncRead, AsyncWrite};
use hyper::{
    rt::{Read as _, ReadBuf, Write as _},
    upgrade::Upgraded,
};
use hyper_util::{
    rt::TokioIo,
    server::conn::auto::upgrade::{Parts, downcast},
};
use tokio::{io, net::TcpStream};

use crate::listener::SecureStream;

/// The stream without what hyper has around it where its type is known, and what hyper has read of it already.
///
/// A socket of a known type costs no dynamic adapter and no read buffer, and gets `TCP_NODELAY`, which some servers do not
/// set: small frames would wait for the acknowledgement of those before.
pub(crate) fn of(upgraded: Upgraded) -> (BoxStream, Bytes) {
    let upgraded = match known::<TcpStream>(upgraded) {
        Ok((socket, read_ahead)) => {
            // Without it the session is slower, and works.
            let _ = socket.set_nodelay(true);
            return (Box::new(FromTokio(socket)), read_ahead);
        }
        Err(upgraded) => upgraded,
    };
    #[cfg(unix)]
    let upgraded = match known::<tokio::net::UnixStream>(upgraded) {
        Ok((socket, read_ahead)) => return (Box::new(FromTokio(socket)), read_ahead),
        Err(upgraded) => upgraded,
    };
    match known::<SecureStream>(upgraded) {
        Ok((stream, read_ahead)) => (Box::new(FromTokio(stream)), read_ahead),
        Err(upgraded) => (Box::new(OverHyper(upgraded)), Bytes::new()),
    }
}

/// The stream of this type, under hyper's connection or hyper-util's.
fn known<S>(upgraded: Upgraded) -> Result<(S, Bytes), Upgraded>
where
    S: io::AsyncRead + io::AsyncWrite + Send + Unpin + 'static,
{
    let upgraded = match upgraded.downcast::<TokioIo<S>>() {
        Ok(parts) => return Ok((parts.io.into_inner(), parts.read_buf)),
        Err(upgraded) => upgraded,
    };
    downcast::<TokioIo<S>>(upgraded).map(|Parts { io, read_buf, .. }| (io.into_inner(), read_buf))
}

/// futures-io over hyper's own traits, for a stream of any type.
struct OverHyper(Upgraded);

impl AsyncRead for OverHyper {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let mut buffer = ReadBuf::new(buffer);
        ready!(Pin::new(&mut self.0).poll_read(cx, buffer.unfilled()))?;
        Poll::Ready(Ok(buffer.filled().len()))
    }
}

impl AsyncWrite for OverHyper {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write_vectored(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}
