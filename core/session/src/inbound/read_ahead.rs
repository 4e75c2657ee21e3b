//! The buffer of messages that the session task read while the application did not receive, or not fast enough. Pure.

use std::collections::VecDeque;

use drivetrain_engine::Frame;

use crate::inbound::validation::Fragment;

/// The memory of an item beside its payload, so that empty ones are bounded, too.
pub(crate) const OVERHEAD: usize = 64;

/// A message or a fragment for the application.
#[derive(Debug)]
pub(crate) enum InboundItem {
    /// A message in one frame.
    Message(Frame),
    /// A fragment of a message in several.
    Fragment(Fragment),
}

/// The items that the application has not taken yet. Fragments are kept apart, because the application decides later
/// whether it takes the message whole.
#[derive(Debug)]
pub(crate) struct ReadAhead {
    items: VecDeque<InboundItem>,
    bytes: usize,
    capacity: usize,
}

impl InboundItem {
    /// The size of the payload.
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Message(frame) => frame.payload().len(),
            Self::Fragment(part) => part.payload.len(),
        }
    }

    /// Whether a message ends with it.
    pub(crate) fn is_last(&self) -> bool {
        match self {
            Self::Message(_) => true,
            Self::Fragment(part) => part.last,
        }
    }
}

impl ReadAhead {
    /// A buffer that is full from `capacity` bytes on.
    pub(crate) fn new(capacity: usize) -> Self {
        Self { items: VecDeque::new(), bytes: 0, capacity }
    }

    /// Whether the peer has to wait. One message or fragment always fits into an empty buffer.
    pub(crate) fn is_full(&self) -> bool {
        self.bytes >= self.capacity
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    pub(crate) fn len(&self) -> usize {
        self.items.len()
    }

    pub(crate) fn push(&mut self, item: InboundItem) {
        self.bytes += item.len() + OVERHEAD;
        self.items.push_back(item);
    }

    pub(crate) fn pop(&mut self) -> Option<InboundItem> {
        let item = self.items.pop_front()?;
        self.bytes -= item.len() + OVERHEAD;
        if self.items.is_empty() {
            // The buffer is used while the application is away: free its memory.
            self.items = VecDeque::new();
        }
        Some(item)
    }

    /// Takes the last fragment of an unfinished message at the end of the buffer.
    pub(crate) fn pop_unfinished(&mut self) -> Option<InboundItem> {
        if self.items.back()?.is_last() {
            return None;
        }
        let dropped = self.items.pop_back()?;
        self.bytes -= dropped.len() + OVERHEAD;
        Some(dropped)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kind::MessageKind;

    fn message(size: usize) -> InboundItem {
        InboundItem::Message(Frame::from(vec![0; size]))
    }

    fn part(start: bool, last: bool) -> InboundItem {
        let start = start.then_some(MessageKind::Text);
        InboundItem::Fragment(Fragment { start, payload: "part".into(), last })
    }

    #[test]
    fn it_is_full_by_bytes_and_by_number() {
        let mut read_ahead = ReadAhead::new(1000);
        read_ahead.push(message(5000));
        assert!(read_ahead.is_full());
        assert_eq!(read_ahead.pop().map(|item| item.len()), Some(5000));
        assert!(!read_ahead.is_full());
        while !read_ahead.is_full() {
            read_ahead.push(if read_ahead.len() % 2 == 0 { message(0) } else { part(true, true) });
        }
        assert!(read_ahead.len() < 20, "empty messages are bounded too");
    }

    #[test]
    fn of_an_unfinished_message_all_fragments_go_and_nothing_else() {
        let mut read_ahead = ReadAhead::new(1000);
        for item in [part(true, false), part(false, true), part(true, false), part(false, false)] {
            read_ahead.push(item);
        }
        assert!(read_ahead.pop_unfinished().is_some() && read_ahead.pop_unfinished().is_some());
        assert!(read_ahead.pop_unfinished().is_none());
        assert_eq!(read_ahead.len(), 2);
        while read_ahead.pop().is_some() {}
        assert_eq!(read_ahead.bytes, 0);
    }
}
