//! What was accepted and is not known to have arrived: pure. Kept only where somebody asks for it.

use std::{collections::VecDeque, fmt, mem};

use drivetrain_engine::Frame;

/// What keeping a message costs besides its payload, so that empty messages are not free.
const ENTRY: usize = mem::size_of::<Frame>();

/// The messages that a lost connection had accepted and that are not known to have arrived. None of them is
/// sent again unless the application does.
///
/// What is known of a message is how far it got:
///
/// | | it was | did it arrive? |
/// |---|---|---|
/// | [`unsent`](Self::unsent) | not, or not wholly, given to the engine | no |
/// | [`doubtful`](Self::doubtful) | given to the engine, and so perhaps written to the socket | unknown |
/// | [`forgotten`](Self::forgotten) | the same, but too long ago to be kept | unknown |
/// | [`streamed`](Self::streamed) | sent by a [`MessageWriter`](crate::MessageWriter), which nobody keeps | unknown |
/// | in none of them | before a ping that was answered; one goes out before this end's Close | yes |
///
/// A WebSocket keeps the order: what arrived is all of what is in none of them, and then, if anything, the
/// first of the others.
///
/// `Debug` prints numbers, not the messages.
#[derive(Clone, Default)]
#[non_exhaustive]
#[must_use = "these messages may be lost"]
pub struct Unconfirmed {
    /// The messages that may or may not have arrived, in the order in which they were accepted: the last
    /// of them, up to [`unconfirmed_capacity`](crate::reconnect::ReconnectRequest::unconfirmed_capacity).
    pub doubtful: Vec<Frame>,
    /// The messages that did not arrive, in the order in which they were accepted after all the others.
    pub unsent: Vec<Frame>,
    /// How many messages before [`doubtful`](Self::doubtful) may or may not have arrived, and are not kept.
    pub forgotten: u64,
    /// How many streamed messages, in between, may or may not have arrived. One that was not ended has not: its
    /// writer has failed.
    pub streamed: u64,
}

impl Unconfirmed {
    /// Whether everything that was accepted has arrived.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many messages they are.
    pub fn len(&self) -> u64 {
        let kept = self.doubtful.len() + self.unsent.len();
        self.forgotten + self.streamed + kept as u64
    }

    /// All that are kept, in the order in which they were accepted. Who sends them again sends some of them
    /// for the second time, unless the peer tells which it has.
    pub fn into_frames(self) -> impl Iterator<Item = Frame> {
        self.doubtful.into_iter().chain(self.unsent)
    }
}

impl fmt::Debug for Unconfirmed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Unconfirmed")
            .field("forgotten", &self.forgotten)
            .field("doubtful", &self.doubtful.len())
            .field("unsent", &self.unsent.len())
            .field("streamed", &self.streamed)
            .finish()
    }
}

/// Takes down what is accepted. Messages are numbered as they are counted, in the order in which they go
/// out.
#[derive(Debug)]
pub(super) struct Journal {
    /// The most bytes of messages that may have gone out.
    capacity: usize,
    /// The number of the first that is kept.
    first: u64,
    /// The messages before this number have arrived.
    confirmed: u64,
    /// `None` is a streamed one.
    kept: VecDeque<Option<Frame>>,
    bytes: usize,
}

impl Journal {
    /// Begins after so many messages.
    pub(super) fn new(capacity: usize, accepted: u64) -> Self {
        Self { capacity, first: accepted, confirmed: accepted, kept: VecDeque::new(), bytes: 0 }
    }

    /// A frame is accepted, when the engine has been given so many messages.
    pub(super) fn accept(&mut self, frame: &Frame, given: u64) {
        if !matches!(frame, Frame::Text(_) | Frame::Binary(_)) {
            return;
        }
        self.bytes = self.bytes.saturating_add(cost(Some(frame)));
        self.kept.push_back(Some(frame.clone()));
        while self.bytes > self.capacity && self.first < given {
            self.drop_first();
        }
    }

    /// The end of a streamed message is accepted.
    pub(super) fn accept_streamed(&mut self) {
        self.bytes = self.bytes.saturating_add(cost(None));
        self.kept.push_back(None);
    }

    /// The messages before this number have arrived.
    pub(super) fn confirm(&mut self, before: u64) {
        self.confirmed = self.confirmed.max(before);
        while self.first < before && !self.kept.is_empty() {
            self.drop_first();
        }
    }

    /// What is left when the engine has been given so many messages and the session has ended. The peer's Close
    /// says nothing: one that was on its way when this end closed looks like the answer.
    pub(super) fn report(mut self, given: u64) -> Unconfirmed {
        let doubtful = usize::try_from(given.saturating_sub(self.first)).unwrap_or(usize::MAX);
        let forgotten = self.first.saturating_sub(self.confirmed);
        let kept = self.kept.len();
        let unsent: Vec<_> =
            self.kept.split_off(doubtful.min(kept)).into_iter().flatten().collect();
        let doubtful: Vec<_> = self.kept.into_iter().flatten().collect();
        let streamed = (kept - unsent.len() - doubtful.len()) as u64;
        Unconfirmed { doubtful, unsent, forgotten, streamed }
    }

    fn drop_first(&mut self) {
        if let Some(frame) = self.kept.pop_front() {
            self.bytes -= cost(frame.as_ref());
            self.first += 1;
        }
    }
}

fn cost(frame: Option<&Frame>) -> usize {
    ENTRY + frame.map_or(0, |frame| frame.read_bytes().len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn journal(accepted: &[&str], given: u64) -> Journal {
        let mut journal = Journal::new(usize::MAX, 0);
        for &text in accepted {
            journal.accept(&text.into(), given);
        }
        journal
    }

    fn texts(frames: &[Frame]) -> Vec<&str> {
        frames.iter().filter_map(Frame::read_text).collect()
    }

    #[test]
    fn what_was_given_to_the_engine_is_doubtful_and_the_rest_was_not_sent() {
        let mut journal = journal(&["a", "b", "c", "d"], 0);
        journal.confirm(1);
        let report = journal.report(3);
        assert_eq!(texts(&report.doubtful), ["b", "c"]);
        assert_eq!(texts(&report.unsent), ["d"]);
        assert_eq!((report.forgotten, report.len()), (0, 3));
        let all: Vec<_> = report.into_frames().collect();
        assert_eq!(texts(&all), ["b", "c", "d"]);
    }

    #[test]
    fn what_came_before_the_journal_is_not_in_it() {
        let mut journal = Journal::new(usize::MAX, 10);
        journal.confirm(7);
        journal.accept(&"a".into(), 10);
        journal.accept(&Frame::Ping("no message".into()), 10);
        let report = journal.report(11);
        assert_eq!((texts(&report.doubtful), report.len()), (vec!["a"], 1));
    }

    #[test]
    fn beyond_the_capacity_the_oldest_that_may_have_arrived_are_counted_only() {
        let mut journal = Journal::new(2 * (ENTRY + 1), 0);
        for (given, text) in ["a", "b", "c", "d", "e"].into_iter().enumerate() {
            journal.accept(&text.into(), given.min(2) as u64);
        }
        let report = journal.report(3);
        assert_eq!(report.forgotten, 2, "what was not sent is never forgotten");
        assert_eq!(texts(&report.doubtful), ["c"]);
        assert_eq!(texts(&report.unsent), ["d", "e"]);
    }

    #[test]
    fn streamed_messages_are_counted_among_the_others() {
        let mut journal = journal(&["a"], 0);
        journal.accept_streamed();
        journal.accept(&"b".into(), 0);
        journal.accept_streamed();
        let report = journal.report(2);
        assert_eq!((texts(&report.doubtful), texts(&report.unsent)), (vec!["a"], vec!["b"]));
        assert_eq!((report.streamed, report.len()), (2, 4));
    }

    #[test]
    fn what_was_forgotten_can_still_be_confirmed() {
        let mut journal = Journal::new(0, 0);
        for given in 0..5 {
            journal.accept(&"x".into(), given);
        }
        journal.confirm(3);
        let report = journal.report(5);
        assert_eq!((report.forgotten, report.doubtful.len(), report.unsent.len()), (1, 1, 0));
    }
}
