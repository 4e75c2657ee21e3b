//! The closing handshake (RFC 6455 section 7.1): pure, with time as an argument.

use std::time::Duration;

use drivetrain_engine::{
    CloseCode, CloseReason, Error, ErrorKind, Instant, Outcome, Protocol, Role,
};

use crate::lifecycle::keepalive::grace_check;

/// Bounds the wait for the peer's Close after a failed write, before the failure is reported. The Close may be in the
/// socket already, but a runtime polls its sockets only now and then: tokio after 61 polls of its tasks, or on another
/// thread.
#[derive(Debug, Default)]
pub(crate) struct LastWords {
    turns: u16,
}

impl LastWords {
    const FEWEST_TURNS: u16 = 256;
    const MOST_TURNS: u16 = 20_000;
    const TIME: Duration = Duration::from_millis(50);

    /// Whether to wait longer; writing failed at `since`. Each call counts.
    pub(crate) fn may_come(&mut self, since: Instant, now: Instant) -> bool {
        self.turns = self.turns.saturating_add(1);
        self.turns <= Self::FEWEST_TURNS
            || (self.turns <= Self::MOST_TURNS && now.saturating_since(since) < Self::TIME)
    }
}

/// How long a server reads after a client's violation, if the close timeout is not shorter.
///
/// A socket that is closed with unread input is reset, and a reset can overtake the Close that names the violation. The
/// client gets the Close, and the end of the stream behind it, within a round trip, or within two if a packet is lost
/// (the first retransmission comes after a second at most, RFC 6298 section 2). A hostile client gets no more than that.
pub(crate) const VIOLATION_DRAIN: Duration = Duration::from_secs(1);

/// The state of the closing handshake.
///
/// The session reports events; [`outcome`](Self::outcome) says when the session is over, and how it ended.
#[derive(Debug)]
pub(crate) struct Closing {
    role: Role,
    /// The session owns its TCP connection.
    owns_tcp: bool,
    timeout: Duration,
    deadline: Option<Instant>,
    /// The grace check was done: input was read shortly before the deadline.
    checked: bool,
    /// The Close that is queued or sent.
    sent: Option<CloseReason>,
    /// Whether that Close, and everything before it, is written.
    flushed: bool,
    received: Option<CloseReason>,
    /// The session failed, mostly by a violation of the peer: further data is discarded.
    violated: bool,
    /// Writing has failed.
    unwritable: bool,
    /// Reading has ended.
    ended: bool,
    last_words: LastWords,
    error: Option<Error>,
}

impl Closing {
    /// An open session.
    pub(crate) fn new(timeout: Duration, role: Role, protocol: Protocol) -> Self {
        Self {
            role,
            owns_tcp: protocol == Protocol::H1,
            timeout,
            deadline: None,
            checked: false,
            sent: None,
            flushed: false,
            received: None,
            violated: false,
            unwritable: false,
            ended: false,
            last_words: LastWords::default(),
            error: None,
        }
    }

    /// Whether the session accepts messages.
    pub(crate) fn is_open(&self) -> bool {
        self.deadline.is_none()
    }

    /// Whether incoming messages are still delivered.
    pub(crate) fn delivers(&self) -> bool {
        self.received.is_none() && !self.ended && !self.violated
    }

    /// Whether the peer's Close was received.
    pub(crate) fn has_received(&self) -> bool {
        self.received.is_some()
    }

    /// Whether the peer's Close ended the session (RFC 6455 section 7.1.5), whatever failed besides.
    pub(crate) fn ended_by_peer(&self) -> bool {
        self.has_received() && !self.violated
    }

    /// A message is refused after the end. Returns whether the end was [the peer's](Self::ended_by_peer).
    pub(crate) fn refused(&mut self) -> bool {
        let was = self.ended_by_peer();
        self.violated = true;
        was
    }

    /// Whether the report of a failed write waits for the peer's Close, which may be in the socket. Each call counts.
    pub(crate) fn awaits_last_words(&mut self, now: Instant) -> bool {
        let Some(deadline) = self.deadline else { return false };
        let began = deadline.since_origin().saturating_sub(self.timeout);
        let is_open = self.unwritable && !self.ended && !self.has_received();
        is_open && self.last_words.may_come(Instant::from_origin(began), now)
    }

    /// Whether frames can be written.
    pub(crate) fn is_writable(&self) -> bool {
        !self.unwritable
    }

    /// Whether more input may arrive.
    pub(crate) fn is_readable(&self) -> bool {
        !self.ended
    }

    /// When [`checked`](Self::checked) is to be called next.
    pub(crate) fn check_due(&self) -> Option<Instant> {
        let deadline = self.deadline?.since_origin();
        let before = if self.checked { Duration::ZERO } else { grace_check(self.timeout) };
        Some(Instant::from_origin(deadline.saturating_sub(before)))
    }

    /// All input up to `now` was read.
    ///
    /// As with a [ping](crate::lifecycle::keepalive::Keepalive::step), a grace check comes shortly before the deadline, and
    /// the verdict after it. If the process was suspended, the check is late, and the answer may be in a socket that the
    /// reactor has not polled yet: the deadline then moves behind the check.
    pub(crate) fn checked(&mut self, now: Instant) {
        if !self.checked && self.check_due().is_some_and(|due| now >= due) {
            self.checked = true;
            self.deadline = self.deadline.max(Some(now + grace_check(self.timeout)));
        }
    }

    /// The error that ends the session, if any.
    pub(crate) fn error(&self) -> Option<&Error> {
        self.error.as_ref()
    }

    /// The code of the Close that is queued or sent.
    pub(crate) fn sent(&self) -> Option<CloseCode> {
        self.sent.as_ref().map(CloseReason::code)
    }

    /// This end closes. Returns whether to send its Close.
    pub(crate) fn close(&mut self, reason: &CloseReason, now: Instant) -> bool {
        self.begin(now);
        self.send_once(reason)
    }

    /// The peer's Close was received. Returns whether to echo it.
    pub(crate) fn peer_closed(&mut self, reason: Option<CloseReason>, now: Instant) -> bool {
        self.begin(now);
        let reason = reason.unwrap_or_else(no_status);
        let echo = self.send_once(&reason);
        self.received.get_or_insert(reason);
        echo
    }

    /// The session fails, because of a violation or another reason; `text` is for
    /// the peer. Returns the Close to send, if any.
    pub(crate) fn failed(&mut self, error: Error, text: &str, now: Instant) -> Option<CloseReason> {
        self.begin(now);
        self.violated = true;
        let code = error.close_code();
        self.error.get_or_insert(error);
        let reason = CloseReason::truncated(code?, text);
        self.send_once(&reason).then_some(reason)
    }

    /// The peer broke a rule: [`failed`](Self::failed), and a server reads only briefly.
    pub(crate) fn violated(
        &mut self,
        error: Error,
        text: &str,
        now: Instant,
    ) -> Option<CloseReason> {
        let close = self.failed(error, text, now);
        if self.role == Role::Server {
            self.timeout = self.timeout.min(VIOLATION_DRAIN);
            let soon = now + self.timeout;
            self.deadline = self.deadline.map(|deadline| deadline.min(soon));
        }
        close
    }

    /// Whether this end shuts down its direction of the stream and reads on: a server that has written the Close for a
    /// violation. The client sees the end of the stream and need not answer.
    pub(crate) fn ends_writing(&self) -> bool {
        self.role == Role::Server && self.violated && self.flushed
    }

    /// Until when the transport outlives the session, if it does: after both Closes a client waits for the server to close
    /// TCP (RFC 6455 section 7.1.1), for the rest of the close timeout.
    pub(crate) fn stream_end_due(&self) -> Option<Instant> {
        let waits = self.role == Role::Client && self.owns_tcp;
        let both = self.flushed && self.ended_by_peer();
        self.deadline.filter(|_| waits && both && !self.ended && !self.unwritable)
    }

    /// The transport has sent this Close before the queued one.
    pub(crate) fn overtaken(&mut self, reason: CloseReason) {
        self.sent = Some(reason);
    }

    /// The Close and everything before it are written.
    pub(crate) fn close_flushed(&mut self) {
        self.flushed = self.sent.is_some();
    }

    /// Writing failed. The peer's last data may still arrive.
    pub(crate) fn write_failed(&mut self, error: Error, now: Instant) {
        self.begin(now);
        self.unwritable = true;
        self.error.get_or_insert(error);
    }

    /// Reading has ended, with an error or the end of the stream.
    pub(crate) fn read_ended(&mut self, error: Option<Error>, now: Instant) {
        self.begin(now);
        self.ended = true;
        if self.received.is_none() && self.error.is_none() {
            self.error = Some(error.unwrap_or_else(|| {
                Error::new(ErrorKind::Io, "the connection ended without a close")
            }));
        }
    }

    /// The outcome, once the session is over.
    pub(crate) fn outcome(&self, now: Instant) -> Option<Outcome> {
        let deadline = self.deadline?;
        let nothing_to_come = self.received.is_some() || self.ended;
        let nothing_to_send = self.flushed || self.unwritable || self.sent.is_none();
        if nothing_to_come && nothing_to_send {
            return Some(self.report(None));
        }
        if now < deadline || !self.checked {
            return None;
        }
        let what = if self.sent.is_some() && !self.flushed {
            "the peer did not take what was sent before the close"
        } else {
            "the peer did not answer the close"
        };
        Some(self.report(Some(Error::new(
            ErrorKind::Timeout,
            format!("{what} within {:?}", self.timeout),
        ))))
    }

    /// The outcome if the session ended now.
    pub(crate) fn report(&self, late: Option<Error>) -> Outcome {
        let mut outcome = Outcome::default();
        outcome.sent = self.sent.clone().filter(|_| self.flushed);
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

    fn closing(role: Role) -> Closing {
        Closing::new(TIMEOUT, role, Protocol::H1)
    }

    fn client() -> Closing {
        closing(Role::Client)
    }

    fn at(seconds: u64) -> Instant {
        Instant::from_origin(Duration::from_secs(seconds))
    }

    fn reason(code: u16) -> CloseReason {
        CloseReason::new(code, "").expect("may travel")
    }

    #[test]
    fn both_closes_make_a_clean_end_in_either_order() {
        let mut ours_first = client();
        assert!(ours_first.close(&reason(1000), at(0)));
        ours_first.close_flushed();
        assert!(ours_first.outcome(at(1)).is_none());
        assert!(!ours_first.peer_closed(Some(reason(1000)), at(1)), "no second Close");
        assert!(ours_first.outcome(at(1)).expect("over").clean);

        let mut theirs_first = client();
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
        let mut closing = client();
        closing.close(&reason(1000), at(10));
        closing.close_flushed();
        assert_eq!(closing.check_due(), Some(at(14)), "a first look");
        closing.checked(at(14));
        assert_eq!(closing.check_due(), Some(at(15)));
        assert!(closing.outcome(at(14)).is_none());
        let outcome = closing.outcome(at(15)).expect("over");
        assert!(!outcome.clean);
        assert_eq!(outcome.error.expect("an error").kind(), ErrorKind::Timeout);
    }

    #[test]
    fn who_stood_still_looks_twice_before_it_is_over() {
        let mut closing = client();
        closing.close(&reason(1000), at(10));
        closing.close_flushed();
        assert!(closing.outcome(at(17)).is_none(), "the answer may lie there unread");
        closing.checked(at(17));
        assert!(closing.outcome(at(17)).is_none());
        assert_eq!(closing.check_due(), Some(at(18)));
        closing.checked(at(18));
        assert!(closing.outcome(at(18)).is_some_and(|end| !end.clean), "but not a third time");
    }

    #[test]
    fn the_end_of_the_stream_without_a_close_is_never_clean() {
        let mut open = client();
        open.read_ended(None, at(0));
        let outcome = open.outcome(at(0)).expect("over");
        assert_eq!(outcome.error.expect("an error").kind(), ErrorKind::Io);

        let mut after_ours = client();
        after_ours.close(&reason(1000), at(0));
        after_ours.close_flushed();
        after_ours.read_ended(None, at(1));
        assert!(!after_ours.outcome(at(1)).expect("over").clean);
    }

    #[test]
    fn the_end_of_the_stream_after_their_close_waits_for_the_echo() {
        let mut closing = client();
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
        let mut closing = client();
        let sent = closing.failed(Error::new(ErrorKind::TooBig, "too big"), "too big", at(0));
        assert_eq!(sent.expect("a Close").code(), CloseCode::TOO_BIG);
        closing.close_flushed();
        closing.read_ended(Some(Error::new(ErrorKind::Io, "reset")), at(1));
        let outcome = closing.outcome(at(1)).expect("over");
        assert!(!outcome.clean);
        assert_eq!(outcome.error.expect("an error").kind(), ErrorKind::TooBig);
    }

    #[test]
    fn after_both_closes_a_client_waits_for_the_end_of_tcp_and_a_server_does_not() {
        let both_closed = |mut closing: Closing| {
            closing.close(&reason(1000), at(0));
            closing.close_flushed();
            closing.peer_closed(Some(reason(1000)), at(1));
            assert!(closing.outcome(at(1)).expect("over").clean);
            closing.stream_end_due()
        };
        assert_eq!(both_closed(client()), Some(at(5)), "for what is left of the close timeout");
        assert_eq!(both_closed(closing(Role::Server)), None);
        let over_http2 = Closing::new(TIMEOUT, Role::Client, Protocol::H2);
        assert_eq!(both_closed(over_http2), None, "the stream ends with END_STREAM");
    }

    #[test]
    fn a_client_that_has_seen_the_end_of_tcp_or_no_close_waits_for_nothing() {
        let mut ended = client();
        ended.peer_closed(Some(reason(1000)), at(0));
        ended.read_ended(None, at(0));
        ended.close_flushed();
        assert_eq!((ended.outcome(at(0)).is_some(), ended.stream_end_due()), (true, None));

        let mut unwritable = client();
        unwritable.peer_closed(Some(reason(1000)), at(0));
        unwritable.write_failed(Error::new(ErrorKind::Io, "broken pipe"), at(0));
        assert_eq!(
            (unwritable.outcome(at(0)).is_some(), unwritable.stream_end_due()),
            (true, None)
        );

        let mut unanswered = client();
        unanswered.close(&reason(1000), at(0));
        unanswered.close_flushed();
        unanswered.checked(at(4));
        assert_eq!(
            (unanswered.outcome(at(5)).is_some(), unanswered.stream_end_due()),
            (true, None)
        );
    }

    #[test]
    fn a_violation_ends_a_server_within_a_second_and_a_client_within_the_close_timeout() {
        let broken =
            || Error::new(ErrorKind::Protocol, "broken").with_close_code(CloseCode::PROTOCOL_ERROR);
        for (role, seconds) in [(Role::Server, 1), (Role::Client, 5)] {
            let mut closing = closing(role);
            assert!(closing.violated(broken(), "broken", at(0)).is_some());
            assert!(!closing.ends_writing(), "the Close is not written yet");
            closing.close_flushed();
            assert_eq!(closing.ends_writing(), role == Role::Server);
            while let Some(due) = closing.check_due().filter(|&due| due < at(seconds)) {
                assert!(closing.outcome(due).is_none(), "{role:?}");
                closing.checked(due);
            }
            assert!(closing.outcome(at(seconds)).is_some(), "{role:?}");
        }
    }

    #[test]
    fn a_violation_does_not_prolong_a_close_timeout_that_is_short_or_almost_over() {
        let broken =
            || Error::new(ErrorKind::Protocol, "broken").with_close_code(CloseCode::PROTOCOL_ERROR);
        let short = Duration::from_millis(100);
        let mut closing = Closing::new(short, Role::Server, Protocol::H1);
        closing.violated(broken(), "broken", at(0));
        closing.checked(at(0) + short * 3 / 4);
        assert!(closing.outcome(at(0) + short).is_some());

        let mut late = self::closing(Role::Server);
        late.close(&reason(1000), at(0));
        late.checked(at(4));
        late.violated(broken(), "broken", at(4) + short * 9);
        assert!(late.outcome(at(5)).is_some());
    }

    #[test]
    fn a_failed_write_leaves_time_to_read_the_last_words() {
        let mut closing = client();
        closing.write_failed(Error::new(ErrorKind::Io, "broken pipe"), at(0));
        assert!(closing.outcome(at(1)).is_none());
        assert!(!closing.peer_closed(Some(reason(1001)), at(1)), "nothing can be echoed");
        let outcome = closing.outcome(at(1)).expect("over");
        assert!(!outcome.clean);
        assert_eq!(outcome.received.expect("one").code(), CloseCode::GOING_AWAY);
    }
}
