//! What was encoded and is not yet written.

use std::fmt;

/// An empty buffer that has grown beyond this is given back.
const KEPT: usize = 256 << 10;

/// A buffer beyond this is given back when its owner is quiet.
const KEPT_QUIET: usize = 4 << 10;

/// The buffer between an encoder and a stream. It stays as small as what waits.
#[derive(Default)]
pub(crate) struct WriteBuffer {
    /// Initialised over its whole length, so that a frame that fits is not zero-filled first.
    /// `buffer[start..end]` waits to be written.
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    /// How much was written so far, wrapping.
    total: u32,
    /// Something was written since it was last quiet.
    used: bool,
}

impl WriteBuffer {
    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.end - self.start
    }

    #[inline]
    pub(crate) fn waiting(&self) -> &[u8] {
        &self.buffer[self.start..self.end]
    }

    /// Takes exactly this many bytes behind those that wait, to be filled, if they are there already.
    #[inline]
    pub(crate) fn take_room(&mut self, size: usize) -> Option<&mut [u8]> {
        let (from, until) = (self.end, self.end.checked_add(size)?);
        let room = self.buffer.get_mut(from..until)?;
        self.end = until;
        Some(room)
    }

    /// Notes that so much of what [`make_room`](Self::make_room) gave was filled.
    #[inline]
    pub(crate) fn filled(&mut self, size: usize) {
        self.end += size;
    }

    /// Exactly this many bytes behind those that wait.
    pub(crate) fn make_room(&mut self, size: usize) -> &mut [u8] {
        if self.buffer.len() - self.end < size {
            self.grow(size);
        }
        &mut self.buffer[self.end..self.end + size]
    }

    fn grow(&mut self, size: usize) {
        let waiting = self.len();
        if self.start > waiting {
            // Moves no more than was written since the last time, so it is paid for.
            self.buffer.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, waiting);
        }
        let until = self.end + size;
        if self.buffer.len() < until {
            // All that is allocated is initialised at once, not again for each frame.
            self.buffer.reserve(until - self.buffer.len());
            self.buffer.resize(self.buffer.capacity(), 0);
        }
    }

    /// Notes that `count` of the [waiting](Self::waiting) bytes were written.
    #[inline]
    pub(crate) fn written(&mut self, count: usize) {
        // A stream that lies about its count gets no panic out of us.
        let count = count.min(self.len());
        self.start += count;
        self.total = self.total.wrapping_add(count as u32);
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
            self.used = true;
            if self.buffer.len() > KEPT {
                self.buffer = Vec::new();
            }
        }
    }

    /// How much was written so far, wrapping at 32 bits.
    pub(crate) fn total(&self) -> usize {
        self.total as usize
    }

    /// Gives back memory if nothing was written since the last call.
    pub(crate) fn quiet(&mut self) {
        let was_used = std::mem::take(&mut self.used);
        if !was_used && self.start == self.end && self.buffer.len() > KEPT_QUIET {
            self.buffer = Vec::new();
        }
    }

    /// The bytes that are allocated.
    pub(crate) fn capacity(&self) -> usize {
        self.buffer.capacity()
    }
}

impl fmt::Debug for WriteBuffer {
    /// Lengths only: payloads do not belong into logs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes to write", self.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(buffer: &mut WriteBuffer, size: usize) {
        buffer.make_room(size);
        buffer.filled(size);
        buffer.written(size);
    }

    #[test]
    fn an_empty_one_gives_memory_back() {
        let mut buffer = WriteBuffer::default();
        buffer.make_room(KEPT + 1);
        buffer.filled(KEPT + 1);
        buffer.quiet();
        assert!(buffer.len() > KEPT, "what waits is not given back");
        buffer.written(buffer.len());
        assert_eq!(buffer.capacity(), 0);
        write(&mut buffer, KEPT_QUIET + 1);
        buffer.quiet();
        assert!(buffer.capacity() > KEPT_QUIET, "it was in use until now");
        buffer.quiet();
        assert_eq!(buffer.capacity(), 0);
    }

    #[test]
    fn memory_is_kept_up_to_its_bounds() {
        let mut buffer = WriteBuffer::default();
        write(&mut buffer, KEPT);
        assert_eq!(buffer.capacity(), KEPT);
        let mut buffer = WriteBuffer::default();
        write(&mut buffer, KEPT_QUIET);
        buffer.quiet();
        buffer.quiet();
        assert_eq!(buffer.capacity(), KEPT_QUIET);
    }

    #[test]
    fn room_is_made_by_moving_where_less_waits_than_was_written() {
        for (written, is_moved) in [(50, false), (51, true)] {
            let mut buffer = WriteBuffer::default();
            buffer.make_room(100).copy_from_slice(&[7; 100]);
            buffer.filled(100);
            assert_eq!(buffer.capacity(), 100);
            buffer.written(written);
            buffer.make_room(40).copy_from_slice(&[9; 40]);
            buffer.filled(40);
            let waiting = [&[7; 100][written..], &[9; 40]].concat();
            assert_eq!(buffer.waiting(), waiting);
            assert_eq!(buffer.capacity() == 100, is_moved, "{written}");
        }
    }

    #[test]
    fn no_more_is_allocated_than_twice_or_what_is_needed() {
        let mut buffer = WriteBuffer::default();
        for (size, capacity) in [(100, 100), (140, 240), (1, 480)] {
            buffer.make_room(size);
            buffer.filled(size);
            assert_eq!(buffer.capacity(), capacity, "{size}");
        }
    }

    #[test]
    fn room_that_is_there_is_taken_exactly() {
        let mut buffer = WriteBuffer::default();
        buffer.make_room(10);
        assert_eq!(buffer.take_room(4).map(|room| room.len()), Some(4));
        assert_eq!((buffer.len(), buffer.take_room(7)), (4, None));
        assert_eq!(buffer.take_room(6).map(|room| room.len()), Some(6));
        assert_eq!((buffer.len(), buffer.waiting().len()), (10, 10));
    }

    #[test]
    fn a_count_that_is_not_true_does_no_harm() {
        let mut buffer = WriteBuffer::default();
        buffer.make_room(4);
        buffer.filled(4);
        buffer.written(1000);
        assert!(buffer.waiting().is_empty());
        assert_eq!(buffer.total(), 4);
        assert!(buffer.take_room(usize::MAX).is_none());
        assert!(buffer.take_room(buffer.capacity() + 1).is_none());
    }
}
