//! A WebSocket's stream of an HTTP/2 connection.

use std::{
    future::poll_fn,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf},
    runtime::Handle,
    time::timeout,
};

use super::Link;
use crate::Upgrade;

/// How long the peer may take to end a stream that was ended here.
const LINGER: Duration = Duration::from_secs(2);

/// The stream, with its connection.
///
/// One that is dropped before the peer has ended it is reset, and a reset overtakes what a proxy has not passed on
/// yet: the Close would be lost. So after a shutdown the peer's end is awaited, as a client awaits that of
/// a TCP connection (RFC 6455 section 7.1.1).
pub(crate) struct Socket {
    /// Until it is dropped.
    stream: Option<Upgrade>,
    link: Arc<Link>,
    handle: Handle,
    is_shut: bool,
}

impl Socket {
    pub(super) fn new(stream: Upgrade, link: Arc<Link>, handle: &Handle) -> Self {
        Self { stream: Some(stream), link, handle: handle.clone(), is_shut: false }
    }

    fn stream(&mut self) -> io::Result<Pin<&mut Upgrade>> {
        self.stream.as_mut().map(Pin::new).ok_or_else(|| io::ErrorKind::NotConnected.into())
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        let Some(mut stream) = self.stream.take() else { return };
        if !self.is_shut {
            return;
        }
        let link = Arc::clone(&self.link);
        self.handle.spawn(async move {
            let ending = async {
                poll_fn(|cx| Pin::new(&mut stream).poll_shutdown(cx)).await?;
                let mut rest = [0; 512];
                while stream.read(&mut rest).await? > 0 {}
                io::Result::Ok(())
            };
            // However it went, there is nobody left to be told.
            let _ = timeout(LINGER, ending).await;
            drop(link);
        });
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.stream()?.poll_read(cx, buf)
    }
}

/// What fails where nothing is handed over is that the peer has left, perhaps with all that it wanted, as haproxy does
/// after a Close: as with TCP that is for who reads or writes next.
impl AsyncWrite for Socket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.stream()?.poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream()?.poll_flush(cx).map(|_| Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.is_shut = true;
        self.stream()?.poll_shutdown(cx).map(|_| Ok(()))
    }
}
