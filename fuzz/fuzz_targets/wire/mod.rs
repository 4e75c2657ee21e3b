//! What the framers' targets share: the input's layout, the reading of a wire by the rules of RFC 6455
//! section 5.2 written down a second time, a stream in memory, and an allocator that counts.
#![allow(dead_code, reason = "each target uses its part")]

use std::{
    alloc::{GlobalAlloc, Layout, System},
    collections::VecDeque,
    io,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    task::{Context, Poll},
};

use drivetrain_engine::{OpCode, RawFrame, Rsv};

/// `role and flags, limit (2 bytes), filler, number of chunk sizes, chunk sizes…, wire…`
pub struct Input {
    /// The framer is the server's.
    pub server: bool,
    /// Take what is in memory before polling, as the session does not.
    pub buffered: bool,
    /// How much of the wire was read past the end of the handshake.
    pub leftover: usize,
    pub limit: usize,
    /// Sizes of the reads and writes, in turn; 0 is a read that has to wait.
    pub chunks: Vec<u8>,
    pub wire: Vec<u8>,
}

impl Input {
    pub fn new(data: &[u8]) -> Option<Self> {
        let (&[flags, low, high, filler, count], rest) = data.split_first_chunk()?;
        let (chunks, wire) = rest.split_at_checked(usize::from(count))?;
        let mut wire = wire.to_vec();
        let limit = usize::from(u16::from_le_bytes([low, high]));
        // So that a payload may be longer than an input.
        if read(&wire, flags & 1 != 0, usize::MAX).1 == End::InPayload {
            wire.resize(wire.len() + (usize::from(filler) << 9), 0);
            let (frames, end) = read(&wire, flags & 1 != 0, usize::MAX);
            if end != End::InPayload
                && let Some(last) = frames.iter().rposition(|frame| frame.payload.len() > 0)
            {
                // Nothing behind it: thousands of empty frames take time and find nothing.
                wire.truncate(wire.len() - 2 * (frames.len() - 1 - last));
            }
        }
        Some(Self {
            server: flags & 1 != 0,
            buffered: flags & 2 != 0,
            leftover: if flags & 4 != 0 { usize::from(flags >> 4) } else { 0 }.min(wire.len()),
            limit: if limit == 0xffff { usize::MAX } else { limit },
            chunks: if chunks.iter().all(|&size| size == 0) { vec![] } else { chunks.to_vec() },
            wire,
        })
    }
}

/// How a wire ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Between two frames.
    Clean,
    /// In a frame's head.
    InHead,
    /// In a frame's payload.
    InPayload,
    /// The next head breaks a rule.
    Violation,
    /// The next frame is above the limit.
    TooBig,
}

/// The frames of a wire, and how it ends.
pub fn read(mut wire: &[u8], server: bool, limit: usize) -> (Vec<RawFrame>, End) {
    let mut frames = vec![];
    loop {
        let end = match wire {
            [] => End::Clean,
            [_] => End::InHead,
            [first, second, rest @ ..] => match one(*first, *second, rest, server, limit) {
                Ok((frame, rest)) => {
                    frames.push(frame);
                    wire = rest;
                    continue;
                }
                Err(end) => end,
            },
        };
        return (frames, end);
    }
}

fn one(
    first: u8,
    second: u8,
    rest: &[u8],
    server: bool,
    limit: usize,
) -> Result<(RawFrame, &[u8]), End> {
    let (size, rest) = match second & 0x7f {
        126 => {
            let (size, rest) = rest.split_first_chunk().ok_or(End::InHead)?;
            (u64::from(u16::from_be_bytes(*size)), rest)
        }
        127 => {
            let (size, rest) = rest.split_first_chunk().ok_or(End::InHead)?;
            (u64::from_be_bytes(*size), rest)
        }
        size => (u64::from(size), rest),
    };
    let masked = second & 0x80 != 0;
    let (mask, rest) = match masked {
        true => rest.split_first_chunk().map(|(mask, rest)| (*mask, rest)).ok_or(End::InHead)?,
        false => ([0; 4], rest),
    };
    let shortest = match size {
        0..126 => second & 0x7f < 126,
        126..0x1_0000 => second & 0x7f == 126,
        _ => second & 0x7f == 127,
    };
    let fin = first & 0x80 != 0;
    let opcode = match first & 0xf {
        0 => OpCode::Continuation,
        1 => OpCode::Text,
        2 => OpCode::Binary,
        8 => OpCode::Close,
        9 => OpCode::Ping,
        10 => OpCode::Pong,
        _ => return Err(End::Violation),
    };
    let control = first & 8 != 0;
    if size >> 63 != 0 || !shortest || masked != server || (control && (!fin || size > 125)) {
        return Err(End::Violation);
    }
    if !control && size > limit as u64 {
        return Err(End::TooBig);
    }
    let size = usize::try_from(size).unwrap_or(usize::MAX);
    let (payload, rest) = rest.split_at_checked(size).ok_or(End::InPayload)?;
    let payload: Vec<u8> = payload.iter().zip(mask.iter().cycle()).map(|(b, m)| b ^ m).collect();
    let rsv = Rsv::new(first & 0x40 != 0, first & 0x20 != 0, first & 0x10 != 0);
    Ok((RawFrame { fin, rsv, opcode, payload: payload.into() }, rest))
}

/// Whether the incomplete head behind these frames breaks a rule, whatever comes next.
pub fn cannot_be_mended(input: &Input, frames: &[RawFrame]) -> bool {
    let mut head = input.wire[length_of(frames, input.server)..].to_vec();
    let length: &[u8] = match head.get(1).map(|second| second & 0x7f) {
        Some(126) => &[1, 0],
        Some(127) => &[0, 0, 0, 0, 0, 1, 0, 0],
        Some(_) => &[],
        None => return false,
    };
    // A length that has begun is left as it is: whether it is the shortest is known at its end.
    if head.len() < 2 + length.len() {
        head.truncate(2);
        head.extend_from_slice(length);
    }
    let mask = if head[1] & 0x80 != 0 { 4 } else { 0 };
    head.resize(2 + length.len() + mask, 0);
    read(&head, input.server, usize::MAX).1 == End::Violation
}

/// How many bytes these frames take on a wire that is sound.
pub fn length_of(frames: &[RawFrame], masked: bool) -> usize {
    let head = |size| match size {
        0..126 => 2,
        126..0x1_0000 => 4,
        _ => 10,
    };
    let mask = if masked { 4 } else { 0 };
    frames.iter().map(|frame| head(frame.payload.len()) + mask + frame.payload.len()).sum()
}

/// Whether the head at the beginning of this has a length that is not in its shortest encoding.
pub fn is_not_minimal(wire: &[u8]) -> bool {
    match wire {
        [_, second, rest @ ..] if second & 0x7f == 126 => {
            rest.first_chunk().is_some_and(|&size| u16::from_be_bytes(size) < 126)
        }
        [_, second, rest @ ..] if second & 0x7f == 127 => {
            rest.first_chunk().is_some_and(|&size| u64::from_be_bytes(size) < 1 << 16)
        }
        _ => false,
    }
}

/// A stream in memory. What it reads comes in the chunks of the input and then ends; what is written to
/// it is kept, in such chunks too.
pub struct Memory {
    pub unread: VecDeque<u8>,
    pub written: Arc<Mutex<Vec<u8>>>,
    chunks: Vec<u8>,
    next: usize,
    pub shut: bool,
}

impl Memory {
    pub fn new(unread: &[u8], chunks: &[u8]) -> Self {
        let unread = unread.iter().copied().collect();
        Self { unread, written: Arc::default(), chunks: chunks.to_vec(), next: 0, shut: false }
    }

    /// The size of the next chunk; `None` is to wait.
    fn step(&mut self, cx: &Context<'_>) -> Option<usize> {
        if self.chunks.is_empty() {
            return Some(usize::MAX);
        }
        let size = self.chunks[self.next % self.chunks.len()];
        self.next += 1;
        if self.next > 500 {
            return Some(usize::MAX); // enough of it
        }
        // Sizes above 250 are large ones.
        match size {
            0 => {
                cx.waker().wake_by_ref();
                None
            }
            251.. => Some(usize::from(size - 250) << 13),
            size => Some(usize::from(size)),
        }
    }

    pub fn read(&mut self, cx: &Context<'_>, buffer: &mut [u8]) -> Poll<usize> {
        assert!(!buffer.is_empty(), "a read without room looks like the end");
        if self.unread.is_empty() {
            return Poll::Ready(0);
        }
        let Some(size) = self.step(cx) else { return Poll::Pending };
        let size = size.min(buffer.len()).min(self.unread.len());
        for (to, from) in buffer.iter_mut().zip(self.unread.drain(..size)) {
            *to = from;
        }
        Poll::Ready(size)
    }

    pub fn write(&mut self, cx: &Context<'_>, buffer: &[u8]) -> Poll<usize> {
        assert!(!self.shut, "written to after its end");
        let Some(size) = self.step(cx) else { return Poll::Pending };
        let size = size.min(buffer.len());
        self.written.lock().unwrap().extend_from_slice(&buffer[..size]);
        Poll::Ready(size)
    }
}

impl futures_io::AsyncRead for Memory {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        self.get_mut().read(cx, buffer).map(Ok)
    }
}

impl futures_io::AsyncWrite for Memory {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.get_mut().write(cx, buffer).map(Ok)
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().shut = true;
        Poll::Ready(Ok(()))
    }
}

/// Counts the bytes that are allocated.
pub struct Counting;

static NOW: AtomicUsize = AtomicUsize::new(0);
static MOST: AtomicUsize = AtomicUsize::new(0);

// SAFETY: everything is passed on to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let now = NOW.fetch_add(layout.size(), Relaxed) + layout.size();
        MOST.fetch_max(now, Relaxed);
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        NOW.fetch_sub(layout.size(), Relaxed);
        unsafe { System.dealloc(pointer, layout) }
    }
}

/// The most that was allocated while `f` ran, beyond what was before.
pub fn most_allocated<T>(f: impl FnOnce() -> T) -> (T, usize) {
    let before = NOW.load(Relaxed);
    MOST.store(before, Relaxed);
    let result = f();
    (result, MOST.load(Relaxed) - before)
}
