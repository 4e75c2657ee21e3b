//! The stream that the library reads from.

use std::{
    fmt, io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    task::{Context, Poll},
};

use bytes::Bytes;
use drivetrain_engine::{Role, frame_rules};
use futures_io::AsyncRead as _;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{limits::LARGEST_CONTROL, shared_stream::SharedStream};
use crate::map::{LONG_CONTROL, Stop};

/// The bounds of what is offered to one read. The space is zero-filled for each read, and the library offers all that it
/// has reserved; and bytes that are read ahead are memory that no capacity of the session counts. So a connection starts
/// with the smaller bound, doubles the offer when a read fills half of it, and halves it when a read fills less than an
/// eighth. Without the larger bound a flood of large frames takes a tenth less CPU.
const READ_AT_LEAST: usize = 512;
const READ_AT_MOST: usize = 64 << 10;

/// A read buffer of the library's that grew above this is given back when there is nothing to read. It
/// grows with large frames, and doubles in a burst of small ones; it never shrinks.
pub(super) const KEEP_READ_BUFFER: usize = 64 << 10;

/// The stream of the socket that a hook of
/// [`preconfigured`](crate::FastWebSockets::preconfigured) gets.
///
/// It only yields what the peer sent, to the engine. It cannot be made or taken, and writing to it is
/// an error: the engine writes frames by itself.
pub struct Gate {
    early: Bytes,
    stream: SharedStream,
    /// Bytes that the next read is offered.
    offer: usize,
    scanner: Scanner,
    /// Found behind bytes that had to be passed on first.
    stopped: Option<Stop>,
    progress: Arc<ReadProgress>,
}

/// What the reader and a gate that the library has taken in must know of each other. Relaxed throughout:
/// both sides run under the one `&mut Framer`.
#[derive(Default)]
pub(super) struct ReadProgress {
    whole: AtomicUsize,
    inside: AtomicBool,
    announced: AtomicU64,
    limit: AtomicUsize,
    total: AtomicU32,
    give_back: AtomicBool,
}

impl ReadProgress {
    /// Frames that went into the library's buffer with their last byte, wrapping.
    pub(super) fn whole(&self) -> usize {
        self.whole.load(Relaxed)
    }

    /// Bytes that were read, wrapping.
    pub(super) fn total(&self) -> usize {
        self.total.load(Relaxed) as usize
    }

    /// The last frame is not whole yet.
    pub(super) fn inside(&self) -> bool {
        self.inside.load(Relaxed)
    }

    /// The length of that frame if it is a data frame with a complete head; else 0.
    pub(super) fn announced(&self) -> u64 {
        self.announced.load(Relaxed)
    }

    /// Sets the limit for the data frame that is read now.
    pub(super) fn set_limit(&self, limit: usize) {
        self.limit.store(limit, Relaxed);
    }

    /// Asks for [`Stop::Idle`] instead of waiting for the next frame.
    pub(super) fn set_give_back(&self, give_back: bool) {
        self.give_back.store(give_back, Relaxed);
    }
}

impl Gate {
    pub(super) fn new(
        stream: SharedStream,
        early: Bytes,
        role: Role,
        progress: Arc<ReadProgress>,
    ) -> Self {
        let (offer, scanner) = (READ_AT_LEAST, Scanner::new(role));
        // A slice, even an empty one, would keep the buffer that the answer was read into.
        let early = Bytes::copy_from_slice(&early);
        Self { early, stream, offer, scanner, stopped: None, progress }
    }

    /// The stream itself, to be drained.
    pub(super) fn into_stream(self) -> SharedStream {
        self.stream
    }

    /// Follows what was just read and says what has to be kept from the library: the reason and how many
    /// bytes in front of it are sound.
    fn follow(&mut self, read: &[u8]) -> Option<(Stop, usize)> {
        let (whole, violation) = self.scanner.scan(read);
        let progress = &self.progress;
        progress.whole.store(progress.whole().wrapping_add(whole), Relaxed);
        progress.total.store(progress.total.load(Relaxed).wrapping_add(read.len() as u32), Relaxed);
        progress.inside.store(self.scanner.inside(), Relaxed);
        let announced = self.scanner.announced();
        progress.announced.store(announced, Relaxed);
        // With none whole the last frame is the one that the library waits for. A later one is checked
        // against the limit of its own, when the library is about to continue with it.
        if whole == 0 && announced > progress.limit.load(Relaxed) as u64 {
            return Some((Stop::TooBig(announced), 0));
        }
        violation.map(|(violation, sound)| (Stop::Violation(violation), sound))
    }
}

impl AsyncRead for Gate {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let gate = self.get_mut();
        if let Some(stop) = gate.stopped {
            return Poll::Ready(Err(stop.into()));
        }
        let before = buf.filled().len();
        if buf.remaining() > KEEP_READ_BUFFER {
            gate.progress.set_give_back(true);
        }
        if gate.early.is_empty() {
            let room = buf.initialize_unfilled_to(gate.offer.min(buf.remaining()));
            match gate.stream.with(|stream| stream.poll_read(cx, room))? {
                Poll::Ready(read) => {
                    buf.advance(read);
                    if 2 * read > gate.offer {
                        gate.offer = (2 * gate.offer).min(READ_AT_MOST);
                    } else if 8 * read < gate.offer {
                        gate.offer = (gate.offer / 2).max(READ_AT_LEAST);
                    }
                }
                Poll::Pending
                    if gate.progress.give_back.load(Relaxed) && !gate.scanner.inside() =>
                {
                    return Poll::Ready(Err(Stop::Idle.into()));
                }
                Poll::Pending => return Poll::Pending,
            }
        } else {
            let length = gate.early.len().min(buf.remaining());
            buf.put_slice(&gate.early.split_to(length));
            if gate.early.is_empty() {
                gate.early = Bytes::new(); // an empty slice would keep its memory
            }
        }
        let read = &buf.filled()[before..];
        if read.is_empty() && gate.scanner.inside() {
            return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
        }
        if let Some((stop, sound)) = gate.follow(read) {
            gate.stopped = Some(stop);
            buf.set_filled(before + sound);
            if sound == 0 {
                return Poll::Ready(Err(stop.into()));
            }
        }
        Poll::Ready(Ok(()))
    }
}

/// The library asks for a stream that can be written to; nothing is.
impl AsyncWrite for Gate {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, _: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(Err(io::ErrorKind::Unsupported.into()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

impl fmt::Debug for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gate").finish_non_exhaustive()
    }
}

/// Follows frames through a byte stream; it looks at heads only.
struct Scanner {
    /// The end that receives.
    role: Role,
    /// A head that is not complete yet: `head[..have]`.
    head: [u8; 14],
    have: usize,
    /// Payload bytes of the current frame still to come.
    payload: u64,
    /// The length of the latest data frame; 0 if the latest frame is a control frame.
    data: u64,
}

impl Scanner {
    fn new(role: Role) -> Self {
        Self { role, head: [0; 14], have: 0, payload: 0, data: 0 }
    }

    fn inside(&self) -> bool {
        self.have > 0 || self.payload > 0
    }

    /// The length of the current frame, if it is a data frame and its head is complete; else 0.
    fn announced(&self) -> u64 {
        if self.payload > 0 { self.data } else { 0 }
    }

    /// How many frames end in `bytes`, and the first violation with the number of bytes before it.
    fn scan(&mut self, bytes: &[u8]) -> (usize, Option<(&'static str, usize)>) {
        let (mut at, mut whole) = (0, 0);
        let is_client = self.role == Role::Client;
        while let Some(rest) = bytes.get(at..).filter(|rest| !rest.is_empty()) {
            if self.payload > 0 {
                let passed = self.payload.min(rest.len() as u64);
                self.payload -= passed;
                at += passed as usize; // at most rest.len()
                whole += usize::from(self.payload == 0);
                continue;
            }
            if let (&[first, length @ 0..=125, ..], 0) = (rest, self.have) {
                // What most are: a short data frame, all of it here.
                let length = usize::from(length);
                if is_client && first & 0x08 == 0 && rest.len() >= 2 + length {
                    self.data = length as u64;
                    at += 2 + length;
                    whole += 1;
                    continue;
                }
            }
            let start = at;
            let payload = match rest {
                // The common case, a short data frame, without the detour through `self.head`.
                &[first, length @ 0..=125, ..]
                    if is_client && self.have == 0 && first & 0x08 == 0 =>
                {
                    at += 2;
                    self.data = u64::from(length);
                    self.data
                }
                _ => {
                    while self.have < self.head_length() && at < bytes.len() {
                        self.head[self.have] = bytes[at];
                        self.have += 1;
                        at += 1;
                    }
                    if self.have < self.head_length() {
                        break;
                    }
                    self.have = 0;
                    match announced(&self.head, self.role) {
                        Ok(payload) => {
                            self.data = if self.head[0] & 0x08 == 0 { payload } else { 0 };
                            payload
                        }
                        Err(violation) => return (whole, Some((violation, start))),
                    }
                }
            };
            self.payload = payload;
            whole += usize::from(payload == 0);
        }
        (whole, None)
    }

    /// As far as it is known from the bytes at hand.
    fn head_length(&self) -> usize {
        let mask = if self.head[1] & 0x80 != 0 { 4 } else { 0 };
        match self.head[1] & 0x7f {
            _ if self.have < 2 => 2,
            126 => 4 + mask,
            127 => 10 + mask,
            _ => 2 + mask,
        }
    }
}

/// The payload that a head announces, or a violation that the library overlooks: a mask from a server and none from a
/// client, Close and Pong above 125 bytes, a length in more bytes than it needs (RFC 6455 sections 5.1, 5.5 and 5.2).
fn announced(head: &[u8; 14], role: Role) -> Result<u64, &'static str> {
    let [first, second, a, b, c, d, e, f, g, h, ..] = *head;
    frame_rules::check_mask(role, second & 0x80 != 0)?;
    let code = second & 0x7f;
    let payload = match code {
        126 => u64::from(u16::from_be_bytes([a, b])),
        127 => u64::from_be_bytes([a, b, c, d, e, f, g, h]),
        short => u64::from(short),
    };
    frame_rules::check_length(payload, code)?;
    if first & 0x08 != 0 && payload > LARGEST_CONTROL as u64 {
        return Err(LONG_CONTROL);
    }
    Ok(payload)
}
