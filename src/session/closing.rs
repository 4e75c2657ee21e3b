//! The closing handshake (RFC 6455 section 7.1): pure, with time as an argument.

use std::time::Duration;

use drivetrain_engine::{CloseCode, CloseReason, Error, ErrorKind, Instant, Outcome};

use super::keepalive::second_look;

/// Where a session is on its way to its end.
///
/// The session tells what happened; [`outcome`](Self::outcome) says when it is over and how it was.
#[derive(Debug)]
pub(super) struct Closing {
    timeout: Duration,
    deadline: Option<Instant>,
    /// What had come in was looked at shortly before the deadline.
    looked: bool,
    /// The Close that is queued or sent.
    sent: Option<CloseReason>,
    /// Whether that Close, and so everything before it, is written.
    flushed: bool,
    received: Option<CloseReason>,
    /// The peer broke a rule: what it sends from then on is nobody's.
    violated: bool,
    /// Nothing can be written any more.
    unwritable: bool,
    /// Nothing can be read any more.
    ended: bool,
    error: Option<Error>,
}

impl Closing {
    /// An open session.
    pub(super) fn new(timeout: Duration) -> Self {
        Self {
            timeout,
            deadline: None,
            looked: false,
            sent: None,
            flushed: false,
            received: None,
            violated: false,
            unwritable: false,
            ended: false,
            error: None,
        }
    }

    /// Whether messages may still be accepted for sending.
    pub(super) fn is_open(&self) -> bool {
        self.deadline.is_none()
    }

    /// Whether messages that come in are still the application's.
    pub(super) fn delivers(&self) -> bool {
        self.received.is_none() && !self.ended && !self.violated
    }

    /// Whether the peer's Close came in.
    pub(super) fn has_received(&self) -> bool {
        self.received.is_some()
    }

    /// Whether frames may still be written.
    pub(super) fn is_writable(&self) -> bool {
        !self.unwritable
    }

    /// Whether there may be more to read.
    pub(super) fn is_readable(&self) -> bool {
        !self.ended
    }

    /// When [`looked`](Self::looked) is to be called next.
    pub(super) fn look_due(&self) -> Option<Instant> {
        let deadline = self.deadline?.since_origin();
        let before = if self.looked { Duration::ZERO } else { second_look(self.timeout) };
        Some(Instant::from_origin(deadline.saturating_sub(before)))
    }

    /// What had come in by `now` was read.
    ///
    /// That nothing came is judged by the second look, as with a [ping](super::keepalive::Keepalive::step). The
    /// first one is on time, shortly before the deadline, unless everything stood still here: then the answer may
    /// lie in a socket of which the reactor does not know yet, and there is time for it after the first look.
    pub(super) fn looked(&mut self, now: Instant) {
        if !self.looked && self.look_due().is_some_and(|due| now >= due) {
            self.looked = true;
            self.deadline = self.deadline.max(Some(now + second_look(self.timeout)));
        }
    }

    /// The error that ends the session, if there is one already.
    pub(super) fn error(&self) -> Option<&Error> {
        self.error.as_ref()
    }

    /// The code of the Close that is queued or sent.
    pub(super) fn sent(&self) -> Option<CloseCode> {
        self.sent.as_ref().map(CloseReason::code)
    }

    /// This end wants to close. Returns whether its Close is to be sent.
    pub(super) fn close(&mut self, reason: &CloseReason, now: Instant) -> bool {
        self.begin(now);
        self.send_once(reason)
    }

    /// The peer's Close came in. Returns whether it is to be echoed.
    pub(super) fn peer_closed(&mut self, reason: Option<CloseReason>, now: Instant) -> bool {
        self.begin(now);
        let reason = reason.unwrap_or_else(no_status);
        let echo = self.send_once(&reason);
        self.received.get_or_insert(reason);
        echo
    }

    /// The session cannot go on, because the peer broke a rule or for another reason; `text` is for
    /// the peer. Returns the Close to send, if one is.
    pub(super) fn failed(&mut self, error: Error, text: &str, now: Instant) -> Option<CloseReason> {
        self.begin(now);
        self.violated = true;
        let code = error.close_code();
        self.error.get_or_insert(error);
        let reason = CloseReason::truncated(code?, text);
        self.send_once(&reason).then_some(reason)
    }

    /// The Close is written, and so is everything before it.
    pub(super) fn close_flushed(&mut self) {
        self.flushed = self.sent.is_some();
    }

    /// Writing failed: nothing more can be sent, but the peer's last words may still come in.
    pub(super) fn write_failed(&mut self, error: Error, now: Instant) {
        self.begin(now);
        self.unwritable = true;
        self.error.get_or_insert(error);
    }

    /// Reading came to its end, with an error or with the end of the stream.
    pub(super) fn read_ended(&mut self, error: Option<Error>, now: Instant) {
        self.begin(now);
        self.ended = true;
        if self.received.is_none() && self.error.is_none() {
            self.error = Some(error.unwrap_or_else(|| {
                Error::new(ErrorKind::Io, "the connection ended without a close")
            }));
        }
    }

    /// How it ended, once it has. Until then `None`.
    pub(super) fn outcome(&self, now: Instant) -> Option<Outcome> {
        let deadline = self.deadline?;
        let nothing_to_come = self.received.is_some() || self.ended;
        let nothing_to_send = self.flushed || self.unwritable || self.sent.is_none();
        if nothing_to_come && nothing_to_send {
            return Some(self.report(None));
        }
        if now < deadline || !self.looked {
            return None;
        }
        let what = if self.received.is_some() {
            "the peer did not take what was sent before the close"
        } else {
            "the peer did not answer the close"
        };
        Some(self.report(Some(Error::new(
            ErrorKind::Timeout,
            format!("{what} within {:?}", self.timeout),
        ))))
    }

    /// The end as it is now, for whatever reason.
    pub(super) fn report(&self, late: Option<Error>) -> Outcome {
        let mut outcome = Outcome::default();
        outcome.sent.clone_from(&self.sent);
        outcome.received.clone_from(&self.received);
        outcome.error = self.error.clone().or(late);
        outcome.clean = self.flushed && self.received.is_some() && outcome.error.is_none();
        outcome
    }

    fn begin(&mut self, now: Instant) {
        self.deadline.get_or_insert(now + self.timeout);
    }

    fn send_once(&mut self, reason: &CloseReason) -> bool {
        let first = self.sent.is_none() && !self.unwritable;
        if first {
            self.sent = Some(reason.clone());
        }
        first
    }
}

fn no_status() -> CloseReason {
    CloseReason::truncated(CloseCode::NO_STATUS, "")
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(5);

    fn at(seconds: u64) -> Instant {
        Instant::from_origin(Duration::from_secs(seconds))
    }

    fn reason(code: u16) -> CloseReason {
        CloseReason::new(code, "").expect("may travel")
    }

    #[test]
    fn both_closes_make_a_clean_end_in_either_order() {
        let mut ours_first = Closing::new(TIMEOUT);
        assert!(ours_first.close(&reason(1000), at(0)));
        ours_first.close_flushed();
        assert!(ours_first.outcome(at(1)).is_none());
        assert!(!ours_first.peer_closed(Some(reason(1000)), at(1)), "no second Close");
        assert!(ours_first.outcome(at(1)).expect("over").clean);

        let mut theirs_first = Closing::new(TIMEOUT);
        assert!(theirs_first.peer_closed(Some(reason(4000)), at(0)));
        assert!(theirs_first.outcome(at(1)).is_none(), "the echo is not written yet");
        theirs_first.close_flushed();
        let outcome = theirs_first.outcome(at(1)).expect("over");
        assert!(outcome.clean);
        assert_eq!(outcome.sent, Some(reason(4000)));
        assert_eq!(outcome.received, outcome.sent);
    }

    #[test]
    fn a_close_that_is_not_answered_times_out() {
        let mut closing = Closing::new(TIMEOUT);
        closing.close(&reason(1000), at(10));
        closing.close_flushed();
        assert_eq!(closing.look_due(), Some(at(14)), "a first look");
        closing.looked(at(14));
        assert_eq!(closing.look_due(), Some(at(15)));
        assert!(closing.outcome(at(14)).is_none());
        let outcome = closing.outcome(at(15)).expect("over");
        assert!(!outcome.clean);
        assert_eq!(outcome.error.expect("an error").kind(), ErrorKind::Timeout);
    }

    #[test]
    fn who_stood_still_looks_twice_before_it_is_over() {
        let mut closing = Closing::new(TIMEOUT);
        closing.close(&reason(1000), at(10));
        closing.close_flushed();
        assert!(closing.outcome(at(17)).is_none(), "the answer may lie there unread");
        closing.looked(at(17));
        assert!(closing.outcome(at(17)).is_none());
        assert_eq!(closing.look_due(), Some(at(18)));
        closing.looked(at(18));
        assert!(closing.outcome(at(18)).is_some_and(|end| !end.clean), "but not a third time");
    }

    #[test]
    fn the_end_of_the_stream_without_a_close_is_never_clean() {
        let mut open = Closing::new(TIMEOUT);
        open.read_ended(None, at(0));
        let outcome = open.outcome(at(0)).expect("over");
        assert_eq!(outcome.error.expect("an error").kind(), ErrorKind::Io);

        let mut after_ours = Closing::new(TIMEOUT);
        after_ours.close(&reason(1000), at(0));
        after_ours.close_flushed();
        after_ours.read_ended(None, at(1));
        assert!(!after_ours.outcome(at(1)).expect("over").clean);
    }

    #[test]
    fn the_end_of_the_stream_after_their_close_waits_for_the_echo() {
        let mut closing = Closing::new(TIMEOUT);
        assert!(closing.peer_closed(None, at(0)));
        closing.read_ended(None, at(0));
        assert!(closing.outcome(at(1)).is_none());
        closing.close_flushed();
        let outcome = closing.outcome(at(1)).expect("over");
        assert!(outcome.clean);
        assert_eq!(outcome.received.expect("one").code(), CloseCode::NO_STATUS);
    }

    #[test]
    fn a_violation_sends_its_code_and_the_error_stays_the_first() {
        let mut closing = Closing::new(TIMEOUT);
        let sent = closing.failed(Error::new(ErrorKind::TooBig, "too big"), "too big", at(0));
        assert_eq!(sent.expect("a Close").code(), CloseCode::TOO_BIG);
        closing.close_flushed();
        closing.read_ended(Some(Error::new(ErrorKind::Io, "reset")), at(1));
        let outcome = closing.outcome(at(1)).expect("over");
        assert!(!outcome.clean);
        assert_eq!(outcome.error.expect("an error").kind(), ErrorKind::TooBig);
    }

    #[test]
    fn a_failed_write_leaves_time_to_read_the_last_words() {
        let mut closing = Closing::new(TIMEOUT);
        closing.write_failed(Error::new(ErrorKind::Io, "broken pipe"), at(0));
        assert!(closing.outcome(at(1)).is_none());
        assert!(!closing.peer_closed(Some(reason(1001)), at(1)), "nothing can be echoed");
        let outcome = closing.outcome(at(1)).expect("over");
        assert!(!outcome.clean);
        assert_eq!(outcome.received.expect("one").code(), CloseCode::GOING_AWAY);
    }
}
