//! The log of accepted messages that the peer has not acknowledged. Pure. Only reconnecting sessions keep one.

use std::{collections::VecDeque, fmt, mem};

use drivetrain_engine::Frame;

use crate::deferred::DeferredWork;

/// The memory of a logged message beside its payload, so that empty messages count.
const ENTRY: usize = mem::size_of::<Frame>();

/// The messages that a lost connection had accepted and the peer had not acknowledged. The session does not
/// resend them.
///
/// Each message is in one of these groups:
///
/// | | the message was | did it arrive? |
/// |---|---|---|
/// | [`unsent`](Self::unsent) | not, or not completely, passed to the engine | no |
/// | [`unknown`](Self::unknown) | passed to the engine, and perhaps written to the socket | unknown |
/// | [`forgotten`](Self::forgotten) | the same, but beyond the capacity of the log, streamed or not | unknown |
/// | [`streamed`](Self::streamed) | sent by a [`MessageWriter`](crate::MessageWriter), and not kept | unknown |
/// | none | sent before an answered ping; a ping precedes this end's Close | yes |
///
/// A WebSocket keeps the order: all messages of the last group have arrived, and then, if any, the
/// first ones of the others.
///
/// `Debug` prints numbers, not messages.
#[derive(Clone, Default)]
#[non_exhaustive]
#[must_use = "these messages may be lost"]
pub struct Unacknowledged {
    /// The messages that may have arrived, in the order of acceptance: the last
    /// of them, up to `unacknowledged_capacity`.
    pub unknown: Vec<Frame>,
    /// The messages that have not arrived, in the order of acceptance, after all others.
    pub unsent: Vec<Frame>,
    /// Number of messages before [`unknown`](Self::unknown) that may have arrived, and are not kept.
    pub forgotten: u64,
    /// Number of streamed messages, in between, that may have arrived. An unfinished one has not arrived: its
    /// writer has failed.
    pub streamed: u64,
}

impl Unacknowledged {
    /// Whether all accepted messages have arrived.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Number of all these messages.
    pub fn len(&self) -> u64 {
        let kept = self.unknown.len() + self.unsent.len();
        self.forgotten + self.streamed + kept as u64
    }

    /// All kept messages, in the order of acceptance. Sending them again may send some
    /// for the second time, unless the peer reports its messages.
    pub fn into_frames(self) -> impl Iterator<Item = Frame> {
        self.unknown.into_iter().chain(self.unsent)
    }
}

impl fmt::Debug for Unacknowledged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Unacknowledged")
            .field("forgotten", &self.forgotten)
            .field("unknown", &self.unknown.len())
            .field("unsent", &self.unsent.len())
            .field("streamed", &self.streamed)
            .finish()
    }
}

/// The log of accepted messages. Messages are numbered in the order in which they go out.
#[derive(Debug)]
pub(crate) struct SendLog {
    /// The most bytes of logged messages that the engine was given.
    capacity: usize,
    /// The number of the first message in the log.
    first: u64,
    /// Messages before this number are acknowledged.
    confirmed: u64,
    /// `None` stands for a streamed message.
    kept: VecDeque<Option<Frame>>,
    bytes: usize,
}

impl SendLog {
    /// A log that starts after this many messages.
    pub(crate) fn new(capacity: usize, accepted: u64) -> Self {
        Self { capacity, first: accepted, confirmed: accepted, kept: VecDeque::new(), bytes: 0 }
    }

    /// Logs an accepted frame; the engine has `given` messages.
    pub(crate) fn accept(&mut self, frame: &Frame, given: u64, deferred: &mut DeferredWork) {
        if !matches!(frame, Frame::Text(_) | Frame::Binary(_)) {
            return;
        }
        self.bytes = self.bytes.saturating_add(cost(Some(frame)));
        self.kept.push_back(Some(frame.clone()));
        self.keep_within(given, deferred);
    }

    /// Logs the end of a streamed message.
    pub(crate) fn accept_streamed(&mut self, given: u64, deferred: &mut DeferredWork) {
        self.bytes = self.bytes.saturating_add(cost(None));
        self.kept.push_back(None);
        self.keep_within(given, deferred);
    }

    /// Drops the oldest messages that the engine was given, beyond the capacity.
    fn keep_within(&mut self, given: u64, deferred: &mut DeferredWork) {
        while self.bytes > self.capacity && self.first < given {
            self.drop_first(deferred);
        }
    }

    /// Messages before this number are acknowledged.
    pub(crate) fn confirm(&mut self, before: u64, deferred: &mut DeferredWork) {
        self.confirmed = self.confirmed.max(before);
        while self.first < before && !self.kept.is_empty() {
            self.drop_first(deferred);
        }
    }

    /// The unacknowledged messages at the end of the session; the engine has this many. The peer's Close acknowledges
    /// nothing: a Close that crossed ours looks like the answer.
    pub(crate) fn report(mut self, given: u64) -> Unacknowledged {
        let unknown = usize::try_from(given.saturating_sub(self.first)).unwrap_or(usize::MAX);
        let forgotten = self.first.saturating_sub(self.confirmed);
        let kept = self.kept.len();
        let unsent: Vec<_> = self.kept.split_off(unknown.min(kept)).into_iter().flatten().collect();
        let unknown: Vec<_> = self.kept.into_iter().flatten().collect();
        let streamed = (kept - unsent.len() - unknown.len()) as u64;
        Unacknowledged { unknown, unsent, forgotten, streamed }
    }

    fn drop_first(&mut self, deferred: &mut DeferredWork) {
        if let Some(frame) = self.kept.pop_front() {
            self.bytes -= cost(frame.as_ref());
            self.first += 1;
            if let Some(frame) = frame {
                deferred.drop_frame(frame);
            }
        }
    }
}

fn cost(frame: Option<&Frame>) -> usize {
    ENTRY + frame.map_or(0, |frame| frame.read_bytes().len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn send_log(accepted: &[&str], given: u64) -> SendLog {
        let mut send_log = SendLog::new(usize::MAX, 0);
        for &text in accepted {
            send_log.accept(&text.into(), given, &mut DeferredWork::default());
        }
        send_log
    }

    fn texts(frames: &[Frame]) -> Vec<&str> {
        frames.iter().filter_map(Frame::read_text).collect()
    }

    #[test]
    fn what_was_given_to_the_engine_is_unknown_and_the_rest_was_not_sent() {
        let mut send_log = send_log(&["a", "b", "c", "d"], 0);
        send_log.confirm(1, &mut DeferredWork::default());
        let report = send_log.report(3);
        assert_eq!(texts(&report.unknown), ["b", "c"]);
        assert_eq!(texts(&report.unsent), ["d"]);
        assert_eq!((report.forgotten, report.len()), (0, 3));
        let all: Vec<_> = report.into_frames().collect();
        assert_eq!(texts(&all), ["b", "c", "d"]);
    }

    #[test]
    fn what_came_before_the_send_log_is_not_in_it() {
        let mut send_log = SendLog::new(usize::MAX, 10);
        send_log.confirm(7, &mut DeferredWork::default());
        send_log.accept(&"a".into(), 10, &mut DeferredWork::default());
        send_log.accept(&Frame::Ping("no message".into()), 10, &mut DeferredWork::default());
        let report = send_log.report(11);
        assert_eq!((texts(&report.unknown), report.len()), (vec!["a"], 1));
    }

    #[test]
    fn beyond_the_capacity_the_oldest_that_may_have_arrived_are_counted_only() {
        let mut send_log = SendLog::new(2 * (ENTRY + 1), 0);
        for (given, text) in ["a", "b", "c", "d", "e"].into_iter().enumerate() {
            send_log.accept(&text.into(), given.min(2) as u64, &mut DeferredWork::default());
        }
        let report = send_log.report(3);
        assert_eq!(report.forgotten, 2, "what was not sent is never forgotten");
        assert_eq!(texts(&report.unknown), ["c"]);
        assert_eq!(texts(&report.unsent), ["d", "e"]);
    }

    #[test]
    fn streamed_messages_are_counted_among_the_others() {
        let mut send_log = send_log(&["a"], 0);
        send_log.accept_streamed(0, &mut DeferredWork::default());
        send_log.accept(&"b".into(), 0, &mut DeferredWork::default());
        send_log.accept_streamed(0, &mut DeferredWork::default());
        let report = send_log.report(2);
        assert_eq!((texts(&report.unknown), texts(&report.unsent)), (vec!["a"], vec!["b"]));
        assert_eq!((report.streamed, report.len()), (2, 4));
    }

    #[test]
    fn streamed_messages_are_forgotten_as_others_are() {
        for (capacity, most) in [(0, 1), (10 * ENTRY, 10)] {
            let mut send_log = SendLog::new(capacity, 0);
            for given in 0..1000 {
                send_log.accept_streamed(given, &mut DeferredWork::default());
                assert!(send_log.kept.len() <= most + 1, "{} are kept", send_log.kept.len());
            }
            let report = send_log.report(1000);
            assert_eq!((report.len(), report.forgotten), (1000, 1000 - report.streamed));
        }
    }

    #[test]
    fn what_was_forgotten_can_still_be_confirmed() {
        let mut send_log = SendLog::new(0, 0);
        for given in 0..5 {
            send_log.accept(&"x".into(), given, &mut DeferredWork::default());
        }
        send_log.confirm(3, &mut DeferredWork::default());
        let report = send_log.report(5);
        assert_eq!((report.forgotten, report.unknown.len(), report.unsent.len()), (1, 1, 0));
    }
}
