//! Messages that had come with the one that was received: pure.

use std::collections::VecDeque;

use drivetrain_engine::Frame;

/// How many are taken under the lock at once.
const MOST: usize = 64;

/// How many bytes, however much may wait otherwise.
const MOST_BYTES: usize = 64 << 10;

/// What the receiving half took while it had the lock, for its next calls: they cost no lock.
#[derive(Debug)]
pub(super) struct Batch {
    messages: VecDeque<Frame>,
    /// Of those that came since it was empty.
    bytes: usize,
    capacity: usize,
}

impl Batch {
    /// A batch that is full from `capacity` bytes on, or earlier.
    pub(super) fn new(capacity: usize) -> Self {
        Self { messages: VecDeque::new(), bytes: 0, capacity: capacity.min(MOST_BYTES) }
    }

    #[inline]
    pub(super) fn pop(&mut self) -> Option<Frame> {
        self.messages.pop_front()
    }

    #[inline]
    pub(super) fn len(&self) -> usize {
        self.messages.len()
    }

    /// Throws everything away. Returns how many there were.
    pub(super) fn clear(&mut self) -> usize {
        std::mem::take(&mut self.messages).len()
    }

    /// Begins to fill it anew.
    pub(super) fn begin(&mut self) {
        self.bytes = 0;
        self.messages.reserve(MOST);
    }

    #[inline]
    pub(super) fn is_full(&self) -> bool {
        self.messages.len() >= MOST || self.bytes >= self.capacity
    }

    /// Takes a message of this size.
    #[inline]
    pub(super) fn push(&mut self, message: Frame, size: usize) {
        self.bytes += size;
        self.messages.push_back(message);
    }

    /// It is used while messages come faster than they are taken; the memory need not stay.
    pub(super) fn release(&mut self) {
        if self.messages.capacity() > 0 && self.messages.is_empty() {
            self.messages = VecDeque::new();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_full_by_bytes_and_by_number() {
        let mut batch = Batch::new(1000);
        batch.begin();
        batch.push(Frame::from(vec![0; 999]), 999);
        assert!(!batch.is_full());
        batch.push(Frame::from("x"), 1);
        assert!(batch.is_full());
        assert_eq!(batch.pop().map(|frame| frame.payload().len()), Some(999));
        assert_eq!(batch.pop(), Some(Frame::from("x")));
        batch.begin();
        while !batch.is_full() {
            batch.push(Frame::from(""), 0);
        }
        assert_eq!(batch.len(), MOST);
    }

    #[test]
    fn memory_goes_when_it_is_empty_and_not_before() {
        let mut batch = Batch::new(1000);
        batch.begin();
        batch.push(Frame::from("x"), 1);
        batch.release();
        assert_eq!(batch.pop(), Some(Frame::from("x")));
        batch.release();
        assert_eq!(batch.messages.capacity(), 0);
    }
}
