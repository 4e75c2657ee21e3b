//! Messages that came with a received one. Pure.

use std::vec;

use drivetrain_engine::Frame;

/// The most messages of a batch.
const MOST: usize = 64;

/// The most bytes of a batch.
const MOST_BYTES: usize = 64 << 10;

/// Messages that the receiving half took with one lock, for its next calls.
///
/// A batch is filled once and then emptied. So its messages are an iterator: a queue that does both at once takes 14
/// instructions more for each message.
#[derive(Debug)]
pub(crate) struct Batch {
    messages: vec::IntoIter<Frame>,
    capacity: usize,
}

/// A batch that is being filled.
#[derive(Debug)]
pub(crate) struct Filling {
    messages: Vec<Frame>,
    bytes: usize,
    capacity: usize,
}

impl Batch {
    /// A batch of at most `capacity` bytes.
    pub(crate) fn new(capacity: usize) -> Self {
        Self { messages: Vec::new().into_iter(), capacity: capacity.min(MOST_BYTES) }
    }

    #[inline]
    pub(crate) fn pop(&mut self) -> Option<Frame> {
        self.messages.next()
    }

    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.messages.len()
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.messages.as_slice().is_empty()
    }

    /// Empties the batch. Returns how many messages it had.
    pub(crate) fn clear(&mut self) -> usize {
        let messages = self.len();
        self.messages = Vec::new().into_iter();
        messages
    }

    /// Begins to fill the batch, which is empty.
    pub(crate) fn begin(&self) -> Filling {
        Filling { messages: Vec::with_capacity(MOST), bytes: 0, capacity: self.capacity }
    }

    /// Takes the messages of a filled batch.
    pub(crate) fn put(&mut self, filled: Filling) {
        self.messages = filled.messages.into_iter();
    }

    /// Frees the memory of an empty batch, which is used only while messages come faster than they are taken.
    pub(crate) fn release(&mut self) {
        if self.is_empty() {
            self.clear();
        }
    }
}

impl Filling {
    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.messages.len()
    }

    #[inline]
    pub(crate) fn is_full(&self) -> bool {
        self.messages.len() >= MOST || self.bytes >= self.capacity
    }

    /// Adds a message of this size.
    #[inline]
    pub(crate) fn push(&mut self, message: Frame, size: usize) {
        self.bytes += size;
        self.messages.push(message);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_full_by_bytes_and_by_number() {
        let mut batch = Batch::new(1000);
        let mut filling = batch.begin();
        filling.push(Frame::from(vec![0; 999]), 999);
        assert!(!filling.is_full());
        filling.push(Frame::from("x"), 1);
        assert!(filling.is_full());
        batch.put(filling);
        assert_eq!(batch.pop().map(|frame| frame.payload().len()), Some(999));
        assert_eq!(batch.pop(), Some(Frame::from("x")));
        let mut filling = batch.begin();
        while !filling.is_full() {
            filling.push(Frame::from(""), 0);
        }
        assert_eq!(filling.len(), MOST);
    }

    #[test]
    fn memory_goes_when_it_is_empty_and_not_before() {
        let mut batch = Batch::new(1000);
        let mut filling = batch.begin();
        filling.push(Frame::from("x"), 1);
        batch.put(filling);
        batch.release();
        assert_eq!(batch.pop(), Some(Frame::from("x")));
        batch.release();
        let memory: Vec<_> = batch.messages.collect();
        assert_eq!(memory.capacity(), 0);
    }
}
