//! What was received and is not yet decoded.

use std::fmt;

use bytes::{Buf, Bytes, BytesMut};

/// What the first read is offered; the offer doubles whenever a read fills it.
pub(crate) const FIRST_READ: usize = 2 << 10;

/// How much memory is prepared for a large frame beyond what has arrived of it.
const STEP: usize = 64 << 10;

/// A quiet buffer keeps at most this beyond what it has received.
const KEPT: usize = 4 << 10;

/// The buffer between a stream and a decoder: what it holds follows what was received, whatever a frame announces,
/// and goes back when nothing comes.
///
/// A stream reads into [`room`](Self::room); the decoder looks at [`bytes`](Self::bytes), and takes them in front.
pub(crate) struct ReadBuffer {
    /// Initialised over its whole length, so that reading is safe code and yet zero-fills only when the
    /// buffer is new or moves. `buffer[start..end]` was received and not yet taken; behind it is room.
    buffer: BytesMut,
    start: usize,
    end: usize,
    /// How much was taken before what is at the front of `buffer`, wrapping.
    gone: usize,
    /// What an empty buffer offers to a read.
    size: usize,
    max_size: usize,
    /// What was received since it was last quiet.
    since_quiet: usize,
    /// Bytes in front of `buffer` that were split off, in the same allocation.
    offset: usize,
    /// The most that was ever initialised in this allocation, hence is resident.
    held: usize,
}

impl ReadBuffer {
    /// Nothing is received, and nothing allocated; `max_read` is the most that [`room`](Self::room) offers to one
    /// read, and zero counts as one.
    pub(crate) fn new(max_read: usize) -> Self {
        let max_size = max_read.max(1);
        Self {
            buffer: BytesMut::new(),
            start: 0,
            end: 0,
            gone: 0,
            size: FIRST_READ.min(max_size),
            max_size,
            since_quiet: 0,
            offset: 0,
            held: 0,
        }
    }

    /// What was received and not yet taken.
    #[inline]
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.buffer[self.start..self.end]
    }

    /// The same, to unmask it.
    #[inline]
    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.buffer[self.start..self.end]
    }

    /// How much was received and not yet taken.
    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.end - self.start
    }

    /// Whether everything that was received has been taken.
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// How much was taken so far, wrapping.
    #[inline]
    pub(crate) fn position(&self) -> usize {
        self.gone.wrapping_add(self.start)
    }

    /// How much was received so far, wrapping.
    pub(crate) fn total(&self) -> usize {
        self.gone.wrapping_add(self.end)
    }

    /// Takes `count` bytes, at most all there are, and returns those behind the first `head`, borrowed from the buffer.
    #[inline]
    pub(crate) fn take(&mut self, head: usize, count: usize) -> &[u8] {
        let from = self.start;
        self.skip(count);
        self.buffer.get(from + head..self.start).unwrap_or_default()
    }

    /// Takes exactly this many bytes, if they are here, borrowed from the buffer.
    #[inline]
    pub(crate) fn take_mut(&mut self, count: usize) -> Option<&mut [u8]> {
        let taken = self.buffer[self.start..self.end].get_mut(..count)?;
        self.start += count;
        Some(taken)
    }

    /// Takes this many bytes, at most all there are.
    #[inline]
    pub(crate) fn skip(&mut self, count: usize) {
        self.start += count.min(self.len());
    }

    /// Takes this many bytes, at most all there are, and gives away those behind the first `head`: without
    /// a copy, unless it is less than a quarter of this buffer, all of which it would keep.
    pub(crate) fn split(&mut self, head: usize, count: usize) -> Bytes {
        if count.saturating_sub(head).saturating_mul(4) < self.held {
            return Bytes::copy_from_slice(self.take(head, count));
        }
        let to = self.start + count.min(self.len());
        let mut taken = self.buffer.split_to(to).freeze();
        taken.advance((self.start + head).min(to));
        self.gone = self.gone.wrapping_add(to);
        self.offset += to;
        self.start = 0;
        self.end -= to;
        taken
    }

    /// Throws away what was received and not yet taken.
    pub(crate) fn clear(&mut self) {
        self.gone = self.gone.wrapping_add(self.end);
        (self.start, self.end) = (0, 0);
    }

    /// Takes bytes that were read elsewhere; `needed` is what [`room`](Self::room) is told.
    pub(crate) fn feed(&mut self, mut bytes: &[u8], needed: usize) {
        while !bytes.is_empty() {
            let room = self.room(needed);
            let (taken, rest) = bytes.split_at(bytes.len().min(room.len()));
            room[..taken.len()].copy_from_slice(taken);
            self.received(taken.len());
            bytes = rest;
        }
    }

    /// Room for the next read; never empty. The next frame takes `needed` bytes as a whole; 0 if that is not
    /// known. Say how much came with [`received`](Self::received).
    pub(crate) fn room(&mut self, needed: usize) -> &mut [u8] {
        let mut least = self.size;
        if self.is_empty() {
            self.clear();
        }
        if self.end > 0 || self.offset > 0 {
            // A quarter: less would make reads short, more would move and zero-fill more often.
            least = self.missing(needed).max(self.size / 4);
        }
        if self.buffer.len() - self.end < least {
            self.make_room(least);
        }
        &mut self.buffer[self.end..]
    }

    /// What is prepared for a frame of which this much is needed.
    fn missing(&self, needed: usize) -> usize {
        needed.saturating_sub(self.len()).min(STEP)
    }

    fn make_room(&mut self, least: usize) {
        let pending = self.len();
        if self.start > 0 {
            self.buffer.copy_within(self.start..self.end, 0);
            self.gone = self.gone.wrapping_add(self.start);
            (self.start, self.end) = (0, pending);
        }
        // Whole again, it grows once, and from then on reads are as long as they may be.
        let grows = self.offset == 0 && self.buffer.len() < self.size;
        if grows || self.buffer.len() - self.end < least {
            let len = self.size.max(self.end + least);
            if len > self.buffer.capacity() {
                // It moves: to the front of its allocation if no slice of that is alive, or to another.
                self.offset = 0;
            }
            self.buffer.resize(len, 0);
            self.held = self.held.max(self.offset + len);
        }
    }

    /// Notes that a read put `count` bytes into the [`room`](Self::room).
    pub(crate) fn received(&mut self, count: usize) {
        let room = self.buffer.len() - self.end;
        if count >= room {
            self.size = self.size.saturating_mul(2).min(self.max_size);
        }
        // A stream that lies about its count gets no panic out of us.
        let count = count.min(room);
        self.end += count;
        self.since_quiet = self.since_quiet.saturating_add(count);
    }

    /// Gives back memory that is not needed while nothing comes: call it when a read has to wait, with what
    /// [`room`](Self::room) is told. 4 KiB are kept at most, and what was received of a frame.
    pub(crate) fn quiet(&mut self, needed: usize) {
        if self.since_quiet < self.size / 4 {
            self.size = (self.size / 2).max(FIRST_READ.min(self.max_size));
        }
        self.since_quiet = 0;
        let pending = self.len();
        let allowed = if pending == 0 { KEPT } else { pending + self.missing(needed) + KEPT };
        if self.held > allowed {
            self.buffer = BytesMut::from(self.bytes());
            self.gone = self.gone.wrapping_add(self.start);
            (self.start, self.end) = (0, pending);
            (self.offset, self.held) = (0, pending);
        }
    }

    /// The bytes that are initialised, and those that are allocated.
    #[cfg(test)]
    pub(crate) fn sizes(&self) -> (usize, usize) {
        (self.buffer.len(), self.buffer.capacity())
    }
}

impl fmt::Debug for ReadBuffer {
    /// Lengths only: payloads do not belong into logs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes received", self.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_read_is_small_and_memory_goes_when_nothing_comes() {
        let mut buffer = ReadBuffer::new(64 << 10);
        assert_eq!(buffer.room(0).len(), FIRST_READ);
        for _ in 0..10 {
            let count = buffer.room(0).len();
            buffer.received(count);
            buffer.skip(count);
        }
        assert_eq!(buffer.room(0).len(), 64 << 10);
        buffer.quiet(0);
        assert_eq!(buffer.sizes(), (0, 0));
        assert_eq!(ReadBuffer::new(0).room(0).len(), 1, "a read needs room");
    }

    #[test]
    fn reads_grow_to_the_most_though_frames_lie_across_them() {
        let mut buffer = ReadBuffer::new(64 << 10);
        for _ in 0..20 {
            let count = buffer.room(0).len();
            buffer.received(count);
            buffer.skip(buffer.len() - 20);
        }
        assert_eq!(buffer.room(0).len(), (64 << 10) - 20);
    }

    #[test]
    fn the_position_is_what_was_taken_whatever_moves() {
        let mut buffer = ReadBuffer::new(8 << 10);
        let mut taken = 0;
        for turn in 0..500_usize {
            buffer.feed(&vec![7; turn % 300], 0);
            let count = buffer.len() / 2;
            match turn % 4 {
                0 => drop(buffer.split(count.min(1), count)),
                1 => assert_eq!(buffer.take(0, count).len(), count),
                2 => buffer.quiet(0),
                _ => buffer.skip(count),
            }
            taken += if turn % 4 == 2 { 0 } else { count };
            assert_eq!(buffer.position(), taken, "{turn}");
            assert_eq!(buffer.total(), taken + buffer.len(), "{turn}");
        }
        taken += buffer.len();
        buffer.clear();
        assert_eq!(buffer.position(), taken);
    }

    #[test]
    fn exactly_what_is_asked_for_is_taken_or_nothing() {
        let mut buffer = ReadBuffer::new(64 << 10);
        buffer.feed(b"abc", 0);
        assert!(buffer.take_mut(4).is_none());
        assert_eq!(buffer.take_mut(2).map(|taken| taken.to_vec()), Some(b"ab".to_vec()));
        assert!(buffer.take_mut(2).is_none());
        assert_eq!((buffer.position(), buffer.bytes()), (2, &b"c"[..]));
    }

    #[test]
    fn a_small_part_does_not_keep_the_whole() {
        let mut buffer = ReadBuffer::new(64 << 10);
        buffer.feed(&[7; 64 << 10], 64 << 10);
        let whole = buffer.bytes().as_ptr_range();
        let (small, large) = (buffer.split(2, 1027), buffer.split(2, 32 << 10));
        assert_eq!((small.len(), large.len()), (1025, (32 << 10) - 2));
        assert!(!whole.contains(&small.as_ptr()) && whole.contains(&large.as_ptr()));
    }

    /// An empty buffer whose reads were filled this many times.
    fn filled(times: usize, max_read: usize) -> ReadBuffer {
        let mut buffer = ReadBuffer::new(max_read);
        for _ in 0..times {
            read_all_of(&mut buffer, usize::MAX);
        }
        buffer
    }

    /// Reads this many bytes, or as many as there is room for, and takes them.
    fn read_all_of(buffer: &mut ReadBuffer, most: usize) {
        let count = buffer.room(0).len().min(most);
        buffer.received(count);
        buffer.skip(count);
    }

    #[test]
    fn the_offer_doubles_when_a_read_fills_it() {
        let mut buffer = filled(0, 64 << 10);
        read_all_of(&mut buffer, FIRST_READ - 1);
        assert_eq!(buffer.room(0).len(), FIRST_READ);
        read_all_of(&mut buffer, FIRST_READ);
        assert_eq!(buffer.room(0).len(), 2 * FIRST_READ);
        assert_eq!(filled(100, 5000).room(0).len(), 5000);
    }

    #[test]
    fn the_offer_is_halved_when_less_than_a_quarter_of_it_came() {
        for (count, offer) in [((16 << 10) - 1, 32 << 10), (16 << 10, 64 << 10)] {
            let mut buffer = filled(5, 64 << 10);
            buffer.quiet(0);
            read_all_of(&mut buffer, count);
            buffer.quiet(0);
            assert_eq!(buffer.room(0).len(), offer, "{count}");
        }
        let mut buffer = filled(5, 64 << 10);
        for _ in 0..20 {
            buffer.quiet(0);
        }
        assert_eq!(buffer.room(0).len(), FIRST_READ);
        let mut small = filled(5, 100);
        small.quiet(0);
        small.quiet(0);
        assert_eq!(small.room(0).len(), 100, "it was never offered more");
    }

    #[test]
    fn a_quiet_buffer_keeps_what_it_may() {
        let mut buffer = filled(1, 64 << 10);
        buffer.room(0);
        buffer.quiet(0);
        assert_eq!(buffer.sizes().0, KEPT, "as much as it may keep");
        let mut buffer = filled(2, 64 << 10);
        buffer.room(0);
        assert_eq!(buffer.sizes().0, 2 * KEPT);
        buffer.quiet(0);
        assert_eq!(buffer.sizes(), (0, 0));
        // What came of a frame is kept, and what is prepared for the rest of it.
        for (needed, kept) in [(0, 100), (4000, 100), (5000, 2 * KEPT)] {
            let mut buffer = filled(2, 64 << 10);
            buffer.room(0)[..100].fill(7);
            buffer.received(100);
            buffer.quiet(needed);
            assert_eq!(buffer.sizes().0, kept, "{needed}");
            assert_eq!(buffer.bytes(), [7; 100]);
        }
    }

    #[test]
    fn there_is_room_for_a_quarter_of_a_read_or_what_a_frame_needs() {
        let received = |count, taken| {
            let mut buffer = ReadBuffer::new(FIRST_READ);
            buffer.room(0);
            buffer.received(count);
            buffer.skip(taken);
            buffer
        };
        let quarter = FIRST_READ / 4;
        let mut buffer = received(FIRST_READ - quarter, 0);
        assert_eq!((buffer.room(0).len(), buffer.sizes().0), (quarter, FIRST_READ));
        let mut buffer = received(FIRST_READ - quarter + 1, 0);
        assert_eq!((buffer.room(0).len(), buffer.sizes().0), (quarter, FIRST_READ + 1));
        let mut buffer = received(FIRST_READ - quarter + 1, 1000);
        assert_eq!(buffer.room(0).len(), 1000 + quarter - 1, "the rest was moved to the front");
        assert_eq!((buffer.position(), buffer.sizes().0), (1000, FIRST_READ));
        let mut buffer = received(FIRST_READ - quarter + 1, 0);
        assert_eq!((buffer.room(5000).len(), buffer.sizes().0), (5000 - buffer.len(), 5000));
        let mut buffer = received(FIRST_READ, 0);
        assert_eq!(buffer.room(1 << 40).len(), STEP, "no more is prepared at once");
    }

    #[test]
    fn a_slice_is_given_away_from_a_quarter_of_the_buffer_on() {
        for (count, is_slice) in [(KEPT / 4, true), (KEPT / 4 - 1, false)] {
            let mut buffer = filled(1, 64 << 10);
            buffer.room(0);
            buffer.received(KEPT / 2);
            let place = buffer.bytes().as_ptr_range();
            let taken = buffer.split(2, count + 2);
            assert_eq!((taken.len(), place.contains(&taken.as_ptr())), (count, is_slice));
            assert_eq!(buffer.len(), KEPT / 2 - count - 2);
        }
    }

    #[test]
    fn behind_a_slice_the_rest_of_the_buffer_is_read_into_and_then_another() {
        const KIB: usize = 1 << 10;
        let mut buffer = filled(5, 64 * KIB);
        buffer.room(0);
        buffer.received(48 * KIB);
        assert_eq!(buffer.split(0, 48 * KIB).len(), 48 * KIB);
        assert_eq!(buffer.room(0).len(), 16 * KIB, "a quarter is left, which is enough");
        buffer.received(16 * KIB);
        assert_eq!(buffer.room(0).len(), 48 * KIB, "none was left");
        buffer.received(8 * KIB);
        let place = buffer.bytes().as_ptr_range();
        let taken = buffer.split(0, 20 * KIB);
        assert!(place.contains(&taken.as_ptr()), "more than a quarter of what is held now");
    }

    #[test]
    fn no_more_is_taken_than_there_is() {
        let mut buffer = ReadBuffer::new(100);
        buffer.feed(b"abc", 0);
        assert_eq!(buffer.take(5, 10), b"");
        buffer.feed(b"abc", 0);
        assert_eq!(buffer.split(5, 10), "");
        buffer.received(usize::MAX);
        buffer.skip(usize::MAX);
        assert!(buffer.is_empty());
    }
}
