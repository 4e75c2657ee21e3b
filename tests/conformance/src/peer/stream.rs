//! A connection's bytes, over TCP or TLS.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::ops::Deref;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::{ServerConnection, StreamOwned};

/// How long the end of a connection waits for the client's. A client that stands still must find what was written last.
const LINGER: Duration = Duration::from_secs(20);

/// How long a relay waits for one side before it looks at the other.
const TURN: Duration = Duration::from_millis(2);

/// A connection's bytes.
pub(super) enum Stream {
    Plain(Socket),
    Tls(Box<StreamOwned<ServerConnection, Socket>>),
    /// Closed by the handler.
    Closed,
}

impl Stream {
    pub(super) fn socket(&self) -> io::Result<&Socket> {
        match self {
            Self::Plain(socket) => Ok(socket),
            Self::Tls(stream) => Ok(&stream.sock),
            Self::Closed => Err(closed()),
        }
    }

    /// Ends the writing side: TLS's `close_notify`, then FIN.
    pub(super) fn shutdown_write(&mut self) -> io::Result<()> {
        if let Self::Tls(stream) = self {
            stream.conn.send_close_notify();
            stream.flush()?;
        }
        self.socket()?.shutdown(Shutdown::Write)
    }

    /// Carries bytes both ways, each way up to its end, on one thread: the two directions of TLS share their state.
    pub(super) fn relay_in_turns(&mut self, mut upstream: &TcpStream) -> io::Result<()> {
        self.socket()?.set_read_timeout(Some(TURN))?;
        upstream.set_read_timeout(Some(TURN))?;
        let (mut is_there, mut is_back) = (true, true);
        let mut chunk = [0; 16 * 1024];
        while is_there || is_back {
            match if is_there { arrived(self.read(&mut chunk))? } else { None } {
                Some(0) => {
                    is_there = false;
                    upstream.shutdown(Shutdown::Write)?;
                }
                Some(length) => upstream.write_all(&chunk[..length])?,
                None => {}
            }
            match if is_back { arrived(upstream.read(&mut chunk))? } else { None } {
                Some(0) => {
                    is_back = false;
                    self.shutdown_write()?;
                }
                Some(length) => {
                    self.write_all(&chunk[..length])?;
                    self.flush()?;
                }
                None => {}
            }
        }
        Ok(())
    }
}

/// The number of bytes read; `None` if none came in time.
fn arrived(read: io::Result<usize>) -> io::Result<Option<usize>> {
    match read {
        Ok(length) => Ok(Some(length)),
        Err(error)
            if [io::ErrorKind::WouldBlock, io::ErrorKind::TimedOut].contains(&error.kind()) =>
        {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(socket) => socket.read(buffer),
            Self::Tls(stream) => match stream.read(buffer) {
                // A client that leaves without `close_notify`: an end like any other here.
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(0),
                result => result,
            },
            Self::Closed => Err(closed()),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(socket) => socket.write(bytes),
            Self::Tls(stream) => stream.write(bytes),
            Self::Closed => Err(closed()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(_) => Ok(()),
            Self::Tls(stream) => stream.flush(),
            Self::Closed => Err(closed()),
        }
    }
}

fn closed() -> io::Error {
    io::Error::new(io::ErrorKind::NotConnected, "the handler has closed the connection")
}

/// A socket that the server shares with its connection, so that one descriptor serves both.
#[derive(Clone)]
pub(super) struct Socket(pub(super) Arc<TcpStream>);

impl Socket {
    /// Ends the writing side and discards what still arrives, up to the client's end. A socket closed
    /// with unread input would send RST, and the client could lose what was written last.
    pub(super) fn linger(&self) {
        let deadline = Instant::now() + LINGER;
        let mut discarded = [0; 4096];
        // Fails if the client or the handler has ended it, which is what this is for.
        let _ = self.0.shutdown(Shutdown::Write);
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() || self.0.set_read_timeout(Some(left)).is_err() {
                return;
            }
            match (&*self.0).read(&mut discarded) {
                Ok(1..) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(0) | Err(_) => return,
            }
        }
    }
}

impl Deref for Socket {
    type Target = TcpStream;

    fn deref(&self) -> &TcpStream {
        &self.0
    }
}

impl Read for Socket {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        (&*self.0).read(buffer)
    }
}

impl Write for Socket {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        (&*self.0).write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
