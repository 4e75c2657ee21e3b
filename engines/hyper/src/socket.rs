//! The socket, of async-std and of smol alike: both wrap async-io's, as this one does.

use std::{
    io::{self, IoSlice},
    net::TcpStream,
    pin::Pin,
    task::{Context, Poll, ready},
};

use async_io::Async;
use futures_io::{AsyncRead, AsyncWrite};

/// A TCP connection that is not read in vain.
///
/// async-io's own reads first and asks the reactor then, which tells what it has noticed since it was asked last: that
/// is two system calls for nothing each time something has come.
#[derive(Debug)]
pub(crate) struct Tcp {
    socket: Async<TcpStream>,
    /// A read was pending: until the reactor notices something, another one is, too.
    awaits_input: bool,
}

impl Tcp {
    pub(crate) fn get_ref(&self) -> &TcpStream {
        self.socket.get_ref()
    }
}

impl From<Async<TcpStream>> for Tcp {
    fn from(socket: Async<TcpStream>) -> Self {
        Self { socket, awaits_input: false }
    }
}

impl AsyncRead for Tcp {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        if self.awaits_input {
            ready!(self.socket.poll_readable(cx))?;
        }
        let read = Pin::new(&mut self.socket).poll_read(cx, buf);
        self.awaits_input = read.is_pending();
        read
    }
}

impl AsyncWrite for Tcp {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write_vectored(cx, bufs)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_close(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::{
        future::poll_fn,
        io::Write as _,
        net::{Shutdown, TcpListener},
        sync::{Arc, mpsc},
        task::{Wake, Waker},
        time::Duration,
    };

    use super::*;

    struct Tells(mpsc::Sender<()>);

    impl Wake for Tells {
        fn wake(self: Arc<Self>) {
            let _ = self.0.send(());
        }
    }

    #[test]
    fn each_read_that_waits_is_woken_and_finds_what_came() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("bound");
        let connected = async_io::block_on(Async::<TcpStream>::connect(address)).expect("there");
        let mut socket = Tcp::from(connected);
        let (mut peer, _) = listener.accept().expect("connected");
        let (tell, told) = mpsc::channel();
        let waker = Waker::from(Arc::new(Tells(tell)));
        let mut read = |waker: &Waker| {
            let mut buf = [0; 3];
            let read = Pin::new(&mut socket).poll_read(&mut Context::from_waker(waker), &mut buf);
            read.map(|count| buf[..count.expect("no error")].to_vec())
        };
        let long = Duration::from_secs(60);
        for text in ["ab", "c", "defgh"] {
            assert!(read(Waker::noop()).is_pending());
            assert!(read(&waker).is_pending(), "asked again before anything came");
            peer.write_all(text.as_bytes()).expect("open");
            assert_eq!(told.recv_timeout(long), Ok(()), "{text}");
            let mut got = Vec::new();
            while got.len() < text.len() {
                match read(&waker) {
                    Poll::Ready(part) => got.extend(part),
                    Poll::Pending => assert_eq!(told.recv_timeout(long), Ok(()), "{text}"),
                }
            }
            assert_eq!(got, text.as_bytes());
            while told.try_recv().is_ok() {} // a replaced waker is woken, too
        }
        assert!(read(&waker).is_pending());
        peer.shutdown(Shutdown::Write).expect("open");
        let mut buf = [0; 3];
        let end = poll_fn(|cx| Pin::new(&mut socket).poll_read(cx, &mut buf));
        assert_eq!(async_io::block_on(end).expect("no error"), 0);
    }
}
