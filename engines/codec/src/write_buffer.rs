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

    /// Takes exactly so many bytes behind those that wait, to be filled, if they are there already.
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

    /// Exactly so many bytes behind those that wait.
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
        self.start += count.min(self.len());
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
            self.used = true;
            if self.buffer.len() > KEPT {
                self.buffer = Vec::new();
            }
        }
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
    fn a_count_that_is_not_true_does_no_harm() {
        let mut buffer = WriteBuffer::default();
        buffer.make_room(4);
        buffer.filled(4);
        buffer.written(1000);
        assert!(buffer.waiting().is_empty());
        assert!(buffer.take_room(usize::MAX).is_none());
        assert!(buffer.take_room(buffer.capacity() + 1).is_none());
    }
}
