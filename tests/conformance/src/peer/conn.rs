//! One connection: buffered input, buffered output, and the ways to end it.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

use super::server::Shared;
use super::stream::Stream;
use super::tls::TlsSession;
use super::wire::{WireFrame, opcode};

/// The smallest buffer, so that thousands of idle connections cost little.
const INITIAL_INPUT: usize = 4 * 1024;
/// A buffer that reads keep filling grows to this; a frame that needs more gets more.
const BULK_INPUT: usize = 64 * 1024;

/// The server's side of one connection, as the handler gets it. Blocking; half duplex, as one thread is.
///
/// Raw bytes, HTTP and frames share one input buffer, so a handler may change between them at any
/// point. What is fed is written by [`flush`](Self::flush), by the next write, and before the next
/// read that has to wait. A read that times out loses nothing.
pub struct Conn {
    stream: Stream,
    tls: Option<TlsSession>,
    shared: Arc<Shared>,
    id: usize,
    input: Vec<u8>,
    start: usize,
    end: usize,
    eof: bool,
    pub(super) output: Vec<u8>,
    /// Opcode and payload so far of the message `receive_message` is in the middle of.
    pub(super) partial: Option<(u8, Vec<u8>)>,
    /// Data messages and payload bytes not added to the server's counters yet.
    pub(super) uncounted: (u64, u64),
    /// Whether a Close was sent, and whether one was received as a frame.
    pub(super) closes: (bool, bool),
    /// Whether the last request was a HEAD, so that its response must not carry a body.
    pub(super) head_only: bool,
    /// Whether the last request asked for the connection's end.
    pub(super) last_request: bool,
}

impl Conn {
    pub(super) fn new(
        stream: Stream,
        tls: Option<TlsSession>,
        shared: Arc<Shared>,
        id: usize,
    ) -> Self {
        Self {
            stream,
            tls,
            shared,
            id,
            input: Vec::new(),
            start: 0,
            end: 0,
            eof: false,
            output: Vec::new(),
            partial: None,
            uncounted: (0, 0),
            closes: (false, false),
            head_only: false,
            last_request: false,
        }
    }

    /// The connection's number at its server, from 1 in the order of acceptance.
    pub fn id(&self) -> usize {
        self.id
    }

    /// The client's address.
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.stream.socket()?.peer_addr()
    }

    /// What the client showed in its TLS handshake; `None` on a plain connection.
    pub fn tls(&self) -> Option<&TlsSession> {
        self.tls.as_ref()
    }

    /// Writes fed bytes, then `bytes`, in one write if the socket accepts it.
    pub fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.output.extend_from_slice(bytes);
        self.flush()
    }

    /// Encodes `frame` behind earlier fed bytes, without writing.
    pub fn feed(&mut self, frame: &WireFrame) {
        self.closes.0 |= frame.opcode == opcode::CLOSE;
        frame.encode_into(None, &mut self.output);
    }

    /// Writes fed bytes, in one write if the socket accepts it.
    pub fn flush(&mut self) -> io::Result<()> {
        self.publish(); // Before the client can see an answer and ask.
        if self.output.is_empty() {
            return Ok(());
        }
        let result = self.stream.write_all(&self.output).and_then(|()| self.stream.flush());
        self.output.clear();
        result
    }

    /// Reads what has arrived, at least one byte; 0 at the end of the stream.
    pub fn read_some(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        if self.buffered().is_empty() && !self.fill()? {
            return Ok(0);
        }
        let len = self.buffered().len().min(bytes.len());
        bytes[..len].copy_from_slice(&self.buffered()[..len]);
        self.consume(len);
        Ok(len)
    }

    /// Fills `bytes`, or fails with `UnexpectedEof`.
    pub fn read_exact(&mut self, bytes: &mut [u8]) -> io::Result<()> {
        while self.buffered().len() < bytes.len() {
            self.fill_some()?;
        }
        bytes.copy_from_slice(&self.buffered()[..bytes.len()]);
        self.consume(bytes.len());
        Ok(())
    }

    /// How long a read may wait; it then fails with `WouldBlock` or `TimedOut`. `None` is forever.
    pub fn set_read_timeout(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        self.stream.socket()?.set_read_timeout(timeout)
    }

    /// Neither reads nor writes for `time`. An error if the server is dropped meanwhile.
    pub fn pause(&mut self, time: Duration) -> io::Result<()> {
        self.flush()?;
        self.shared.hold(Some(time))
    }

    /// Neither reads nor writes until [`Server::release`](super::Server::release) is called. An error
    /// if the server is dropped before. The client's end of the connection is not noticed here.
    pub fn hold(&mut self) -> io::Result<()> {
        self.flush()?;
        self.shared.hold(None)
    }

    /// Sends FIN (under TLS `close_notify` first); reading continues.
    pub fn shutdown_write(&mut self) -> io::Result<()> {
        self.flush()?;
        self.stream.shutdown_write()
    }

    /// Closes the socket at once: FIN if everything that arrived was read, else RST.
    /// What was fed is dropped, and later reads and writes fail.
    pub fn close(&mut self) {
        self.output.clear();
        self.shared.forget(self.id);
        self.stream = Stream::Closed;
    }

    /// Closes the socket at once with RST; what the client has not read yet is lost.
    pub fn reset(&mut self) -> io::Result<()> {
        socket2::SockRef::from(&*self.stream.socket()?.0).set_linger(Some(Duration::ZERO))?;
        self.close();
        Ok(())
    }

    /// Whether both Closes are through: then it is the server that ends the connection (RFC 6455 section 7.1.1).
    pub(crate) fn is_closed(&self) -> bool {
        self.closes == (true, true)
    }

    /// Reads up to the client's Close, for a handler that has sent its own. When the handler returns, the stream ends.
    pub fn await_close(&mut self) -> io::Result<()> {
        while self.receive()?.is_some_and(|frame| frame.opcode != opcode::CLOSE) {}
        Ok(())
    }

    /// Reads and discards everything until the client's end of the stream.
    pub fn drain(&mut self) -> io::Result<()> {
        loop {
            self.consume(self.buffered().len());
            if !self.fill()? {
                return Ok(());
            }
        }
    }

    /// Carries bytes both ways between the client and `upstream`, each way up to its end; if one fails,
    /// both are over.
    pub fn relay(&mut self, upstream: &TcpStream) -> io::Result<()> {
        self.flush()?;
        upstream.set_nodelay(true)?;
        let mut way_in = upstream;
        way_in.write_all(self.buffered())?;
        self.consume(self.buffered().len());
        if let Stream::Tls(_) = &self.stream {
            return self.stream.relay_in_turns(upstream);
        }
        let client = &*self.stream.socket()?.0;
        thread::scope(|scope| {
            let back = scope.spawn(|| carry(upstream, client));
            let there = carry(client, upstream);
            there.and(back.join().unwrap_or_else(|_| Err(io::Error::other("a relay panicked"))))
        })
    }

    /// What has been read from the socket and not been taken yet.
    pub(super) fn buffered(&self) -> &[u8] {
        &self.input[self.start..self.end]
    }

    pub(super) fn consume(&mut self, len: usize) {
        self.start += len;
        debug_assert!(self.start <= self.end, "consumed more than there is");
    }

    /// Moves `len` buffered bytes from `from` on, unmasked, to the end of the fed bytes.
    pub(super) fn feed_buffered(&mut self, from: usize, len: usize, masking: Option<[u8; 4]>) {
        let payload = &self.input[self.start + from..self.start + from + len];
        super::wire::push_masked(&mut self.output, masking, payload);
    }

    /// Flushes, then reads once; `false` at the end of the stream.
    pub(super) fn fill(&mut self) -> io::Result<bool> {
        self.flush()?;
        if self.eof {
            return Ok(false);
        }
        self.make_room();
        let read = loop {
            match self.stream.read(&mut self.input[self.end..]) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => break result?,
            }
        };
        self.end += read;
        self.eof = read == 0;
        Ok(read > 0)
    }

    /// As [`fill`](Self::fill), but the end of the stream is an error.
    pub(super) fn fill_some(&mut self) -> io::Result<()> {
        if self.fill()? {
            Ok(())
        } else {
            Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the client ended the stream"))
        }
    }

    /// Keeps half of the buffer free, so that no read is a small one.
    fn make_room(&mut self) {
        let half = self.input.len() / 2;
        let was_filled = self.end == self.input.len();
        if self.start > 0 && (self.start == self.end || self.input.len() - self.end < half) {
            self.input.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        if self.end > half || (was_filled && self.input.len() < BULK_INPUT) {
            self.input.resize((self.input.len() * 2).max(INITIAL_INPUT), 0);
        }
    }

    pub(super) fn count_request(&self) {
        self.shared.requests.fetch_add(1, Ordering::SeqCst);
    }

    fn publish(&mut self) {
        let (messages, bytes) = std::mem::take(&mut self.uncounted);
        if messages > 0 || bytes > 0 {
            self.shared.messages.fetch_add(messages, Ordering::SeqCst);
            self.shared.bytes.fetch_add(bytes, Ordering::SeqCst);
        }
    }

    /// The graceful end.
    pub(super) fn finish(&mut self) {
        // It fails where the client is gone, which is what the end is waited for.
        let _ = self.shutdown_write();
        if let Ok(socket) = self.stream.socket() {
            socket.linger();
        }
    }
}

fn carry(mut from: &TcpStream, mut to: &TcpStream) -> io::Result<()> {
    let result = io::copy(&mut from, &mut to).map(drop);
    let how = if result.is_ok() { Shutdown::Write } else { Shutdown::Both };
    for socket in [to, from].iter().take(if result.is_ok() { 1 } else { 2 }) {
        // It fails if the socket is gone, which is its purpose.
        let _ = socket.shutdown(how);
    }
    result
}

impl Drop for Conn {
    fn drop(&mut self) {
        self.publish();
    }
}

impl fmt::Debug for Conn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Conn")
            .field("id", &self.id)
            .field("tls", &self.tls)
            .field("buffered", &self.buffered().len())
            .finish_non_exhaustive()
    }
}
