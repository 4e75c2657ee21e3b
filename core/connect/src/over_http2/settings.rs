//! Whether a server's SETTINGS allow WebSockets, which the library does not tell: before they have come it
//! says "no" too.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::oneshot,
};

const HEADER: usize = 9;
const SETTINGS: u8 = 4;
/// SETTINGS_ENABLE_CONNECT_PROTOCOL, set to 1 (RFC 8441 section 3).
const ALLOWED: [u8; 6] = [0, 8, 0, 0, 0, 1];
/// As much as HTTP/2's smallest limit for a frame allows (RFC 9113 section 6.5.2).
const LONGEST: usize = 16 << 10;

/// A stream that reads along up to the end of the server's first frame (RFC 9113 section 3.4).
pub(super) struct Watched<S> {
    stream: S,
    first: Vec<u8>,
    saw: Option<oneshot::Sender<bool>>,
}

impl<S> Watched<S> {
    pub(super) fn new(stream: S, saw: oneshot::Sender<bool>) -> Self {
        Self { stream, first: Vec::new(), saw: Some(saw) }
    }

    fn see(&mut self, bytes: &[u8]) {
        let room = HEADER + LONGEST - self.first.len();
        self.first.extend_from_slice(&bytes[..bytes.len().min(room)]);
        let Some(allows) = allows(&self.first) else { return };
        self.first = Vec::new();
        if let Some(saw) = self.saw.take() {
            // The caller that waited has given up.
            let _ = saw.send(allows);
        }
    }
}

/// What the first frame says, when it is there.
fn allows(first: &[u8]) -> Option<bool> {
    let (head, payload) = first.split_at_checked(HEADER)?;
    let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
    if head[3] != SETTINGS || length > LONGEST {
        return Some(false);
    }
    let payload = payload.get(..length)?;
    Some(payload.chunks(ALLOWED.len()).any(|setting| setting == ALLOWED))
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let before = buf.filled().len();
        ready!(Pin::new(&mut this.stream).poll_read(cx, buf))?;
        if this.saw.is_some() {
            this.see(&buf.filled()[before..]);
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }
}

#[cfg(test)]
mod tests {
    use super::allows;

    #[test]
    fn the_first_frame_is_read_whole() {
        let yes = [0, 0, 12, 4, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 100, 0, 8, 0, 0, 0, 1];
        for most in 0..yes.len() {
            assert_eq!(allows(&yes[..most]), None, "{most}");
        }
        assert_eq!(allows(&yes), Some(true));
        assert_eq!(allows(&[&yes[..], b"more"].concat()), Some(true));
        let mut no = yes;
        no[20] = 0;
        assert_eq!(allows(&no), Some(false));
        assert_eq!(allows(&[0, 0, 0, 4, 0, 0, 0, 0, 0]), Some(false));
        assert_eq!(allows(b"HTTP/1.1 400"), Some(false));
    }
}
