//! What the keeper read while the application did not receive: pure.

use std::collections::VecDeque;

use drivetrain_engine::Frame;

/// What a message counts beside its payload, so that empty ones are bounded too.
const OVERHEAD: usize = 96;

/// The messages that the application has not taken yet.
#[derive(Debug)]
pub(super) struct Inbox {
    messages: VecDeque<Frame>,
    bytes: usize,
    capacity: usize,
}

impl Inbox {
    /// An inbox that is full from `capacity` bytes on.
    pub(super) fn new(capacity: usize) -> Self {
        Self { messages: VecDeque::new(), bytes: 0, capacity }
    }

    /// Whether the peer has to wait. One message always fits into an empty inbox.
    pub(super) fn is_full(&self) -> bool {
        self.bytes >= self.capacity
    }

    pub(super) fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.messages.len()
    }

    pub(super) fn push(&mut self, frame: Frame) {
        self.bytes += frame.payload().len() + OVERHEAD;
        self.messages.push_back(frame);
    }

    /// Throws all messages away. Returns how many there were.
    pub(super) fn clear(&mut self) -> usize {
        self.bytes = 0;
        std::mem::take(&mut self.messages).len()
    }

    pub(super) fn pop(&mut self) -> Option<Frame> {
        let frame = self.messages.pop_front()?;
        self.bytes -= frame.payload().len() + OVERHEAD;
        if self.messages.is_empty() {
            // It is used while the application is away; the memory need not stay.
            self.messages = VecDeque::new();
        }
        Some(frame)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_full_by_bytes_and_by_number() {
        let mut inbox = Inbox::new(1000);
        inbox.push(Frame::from(vec![0; 5000]));
        assert!(inbox.is_full());
        assert_eq!(inbox.pop().map(|frame| frame.read_bytes().len()), Some(5000));
        assert!(!inbox.is_full());
        while !inbox.is_full() {
            inbox.push(Frame::from(""));
        }
        assert!(inbox.len() < 20, "empty messages are bounded too");
    }
}
