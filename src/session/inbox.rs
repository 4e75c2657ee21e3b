//! What the keeper read while the application did not receive, or not fast enough: pure.

use std::collections::VecDeque;

use drivetrain_engine::Frame;

use super::assembler::Part;

/// What a message or a fragment counts beside its payload, so that empty ones are bounded too.
pub(super) const OVERHEAD: usize = 64;

/// What came in for the application.
#[derive(Debug)]
pub(super) enum Arrival {
    /// A message in one frame.
    Message(Frame),
    /// A fragment of a message in several.
    Part(Part),
}

/// What the application has not taken yet. Messages in fragments are kept as fragments: whether they are
/// wanted whole is said by whoever receives.
#[derive(Debug)]
pub(super) struct Inbox {
    arrivals: VecDeque<Arrival>,
    bytes: usize,
    capacity: usize,
}

impl Arrival {
    /// The bytes of its payload.
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Message(frame) => frame.payload().len(),
            Self::Part(part) => part.payload.len(),
        }
    }

    /// Whether a message ends with it.
    pub(super) fn is_last(&self) -> bool {
        match self {
            Self::Message(_) => true,
            Self::Part(part) => part.last,
        }
    }
}

impl Inbox {
    /// An inbox that is full from `capacity` bytes on.
    pub(super) fn new(capacity: usize) -> Self {
        Self { arrivals: VecDeque::new(), bytes: 0, capacity }
    }

    /// Whether the peer has to wait. One message or fragment always fits into an empty inbox.
    pub(super) fn is_full(&self) -> bool {
        self.bytes >= self.capacity
    }

    pub(super) fn is_empty(&self) -> bool {
        self.arrivals.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.arrivals.len()
    }

    pub(super) fn push(&mut self, arrival: Arrival) {
        self.bytes += arrival.len() + OVERHEAD;
        self.arrivals.push_back(arrival);
    }

    pub(super) fn pop(&mut self) -> Option<Arrival> {
        let arrival = self.arrivals.pop_front()?;
        self.bytes -= arrival.len() + OVERHEAD;
        if self.arrivals.is_empty() {
            // It is used while the application is away; the memory need not stay.
            self.arrivals = VecDeque::new();
        }
        Some(arrival)
    }

    /// Throws away the fragments of the message at the end, of which more is to come.
    pub(super) fn drop_unfinished(&mut self) {
        while self.arrivals.back().is_some_and(|arrival| !arrival.is_last()) {
            let dropped = self.arrivals.pop_back();
            self.bytes -= dropped.map_or(0, |arrival| arrival.len() + OVERHEAD);
        }
    }

    /// Throws everything away. Returns how many messages ended in it.
    pub(super) fn clear(&mut self) -> u64 {
        let ended = self.arrivals.iter().filter(|arrival| arrival.is_last()).count();
        self.arrivals = VecDeque::new();
        self.bytes = 0;
        ended as u64
    }
}

#[cfg(test)]
mod tests {
    use super::{super::kind::MessageKind, *};

    fn message(size: usize) -> Arrival {
        Arrival::Message(Frame::from(vec![0; size]))
    }

    fn part(start: bool, last: bool) -> Arrival {
        let start = start.then_some(MessageKind::Text);
        Arrival::Part(Part { start, payload: "part".into(), last })
    }

    #[test]
    fn it_is_full_by_bytes_and_by_number() {
        let mut inbox = Inbox::new(1000);
        inbox.push(message(5000));
        assert!(inbox.is_full());
        assert_eq!(inbox.pop().map(|arrival| arrival.len()), Some(5000));
        assert!(!inbox.is_full());
        while !inbox.is_full() {
            inbox.push(if inbox.len() % 2 == 0 { message(0) } else { part(true, true) });
        }
        assert!(inbox.len() < 20, "empty messages are bounded too");
    }

    #[test]
    fn of_an_unfinished_message_all_fragments_go_and_nothing_else() {
        let mut inbox = Inbox::new(1000);
        for arrival in [part(true, false), part(false, true), part(true, false), part(false, false)]
        {
            inbox.push(arrival);
        }
        inbox.drop_unfinished();
        assert_eq!(inbox.len(), 2);
        inbox.drop_unfinished();
        assert_eq!(inbox.len(), 2);
        assert_eq!(inbox.clear(), 1, "one message ended in it");
        assert_eq!(inbox.bytes, 0);
    }
}
