//! When to ping, and when a peer is dead: pure, with time as an argument.

use std::{collections::VecDeque, time::Duration};

use bytes::Bytes;
use drivetrain_engine::{Instant, Progress, Runtime};

/// Finds a dead peer within interval + timeout of its last sign of life.
///
/// No clock is read per message: a received frame calls [`saw_life`](Self::saw_life), and the
/// next [`step`](Self::step) takes it into account.
#[derive(Debug)]
pub(crate) struct Keepalive {
    interval: Option<Duration>,
    timeout: Option<Duration>,
    jitter: Jitter,
    next_ping: Instant,
    answer_due: Option<Instant>,
    /// The grace check was done: input was read shortly before an answer is due.
    checked: bool,
    life: bool,
    /// Data was pending at the last [`note`](Self::note).
    was_held_up: bool,
    /// Bytes received and written then, wrapping.
    received: u32,
    written: u32,
}

/// Jitter: how much earlier than one interval the first ping goes out, so that sessions which opened
/// together do not ping in step. Default: none, for tests.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Jitter(u16);

impl Jitter {
    /// Up to seven eighths of the interval, by the runtime's random number.
    pub(crate) fn random(runtime: &dyn Runtime) -> Self {
        Self((runtime.random() >> 16) as u16)
    }

    fn first(self, interval: Duration) -> Duration {
        interval - interval / (8 << 16) * (7 * u32::from(self.0))
    }

    /// The time of the first ping. Sessions of one runtime share wake-ups, about
    /// 256 per interval, because a wake-up costs more than a ping.
    fn first_at(self, interval: Duration, now: Instant) -> Instant {
        let first = now + self.first(interval);
        let slot = (interval / 256).min(LONGEST_SLOT).as_nanos();
        if self.0 == 0 || slot == 0 {
            return first;
        }
        let since = first.since_origin();
        let over = u64::try_from(since.as_nanos() % slot).unwrap_or_default();
        Instant::from_origin(since - Duration::from_nanos(over))
    }
}

/// The maximum time that a ping goes out early to share a wake-up.
const LONGEST_SLOT: Duration = Duration::from_millis(100);

/// The longest time between the grace check and the verdict; at most a quarter of the timeout.
const LONGEST_GRACE_CHECK: Duration = Duration::from_secs(1);

/// The next action.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Nothing.
    Wait,
    /// Send a ping.
    Ping,
    /// The peer gave no sign of life in time.
    Dead,
}

impl Keepalive {
    /// `interval` of `None` is off; `timeout` of `None` is twice the interval.
    pub(crate) fn new(
        interval: Option<Duration>,
        timeout: Option<Duration>,
        jitter: Jitter,
        now: Instant,
    ) -> Self {
        let mut keepalive = Self {
            interval: None,
            timeout,
            jitter,
            next_ping: now,
            answer_due: None,
            checked: false,
            life: false,
            was_held_up: false,
            received: 0,
            written: 0,
        };
        keepalive.set_interval(interval, now);
        keepalive
    }

    /// Changes the interval. The next ping goes out one interval from now, less the session's [`Jitter`].
    pub(crate) fn set_interval(&mut self, interval: Option<Duration>, now: Instant) {
        self.interval = interval;
        self.answer_due = None;
        self.checked = false;
        self.next_ping = self.jitter.first_at(interval.unwrap_or_default(), now);
    }

    /// Records a sign of life: any frame is one, and [progress](Self::saw_progress).
    pub(crate) fn saw_life(&mut self) {
        self.life = true;
    }

    /// Records progress since [`note`](Self::note), before a [`step`](Self::step).
    ///
    /// A peer in the middle of a frame cannot answer (RFC 6455 section 5.4), so bytes of a frame are a sign of
    /// life. A peer with much to read answers when it reaches the ping, so progress in writing is another sign, but only
    /// if data is or was `held_up`: bytes accepted by a socket with room prove nothing about its peer.
    pub(crate) fn saw_progress(&mut self, progress: Progress, held_up: bool) {
        let came_in = progress.received as u32 != self.received;
        let went_out = progress.written as u32 != self.written;
        self.life |= came_in || (went_out && (held_up || self.was_held_up));
    }

    /// Records the byte counts after a step, for [`saw_progress`](Self::saw_progress): the ping itself is no progress.
    pub(crate) fn note(&mut self, progress: Progress, held_up: bool) {
        (self.received, self.written) = (progress.received as u32, progress.written as u32);
        self.was_held_up = held_up;
    }

    /// Whether the next step may declare the peer dead.
    pub(crate) fn awaits_answer(&self) -> bool {
        self.answer_due.is_some() && !self.life
    }

    /// The next time to call [`step`](Self::step).
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let interval = self.interval?;
        let Some(due) = self.answer_due.filter(|_| !self.life) else { return Some(self.next_ping) };
        let answer = if self.checked { due } else { earlier(due, self.look(interval)) };
        Some(answer.min(self.next_ping))
    }

    /// The action at `now`.
    ///
    /// A grace check comes shortly before an answer is due, and the verdict after it. If the process was suspended, the
    /// check is late, and the answer may be in a socket that the reactor has not polled yet: the verdict then waits for
    /// as long after the check.
    pub(crate) fn step(&mut self, now: Instant) -> Step {
        let Some(interval) = self.interval else { return Step::Wait };
        if std::mem::take(&mut self.life) {
            self.answer_due = None;
            self.checked = false;
        }
        if let Some(due) = self.answer_due {
            let look = self.look(interval);
            if self.checked && now >= due {
                return Step::Dead;
            }
            if !self.checked && now >= earlier(due, look) {
                self.checked = true;
                self.answer_due = Some(due.max(now + look));
            }
        }
        if now < self.next_ping {
            return Step::Wait;
        }
        // From the due time, so that sessions that share a wake-up stay together.
        let next = self.next_ping + interval;
        self.next_ping = if next > now { next } else { now + interval };
        self.answer_due.get_or_insert(now + self.timeout(interval));
        Step::Ping
    }

    fn timeout(&self, interval: Duration) -> Duration {
        self.timeout.unwrap_or(interval.saturating_mul(2))
    }

    fn look(&self, interval: Duration) -> Duration {
        grace_check(self.timeout(interval))
    }
}

/// The time between the grace check and the verdict on a peer that has `timeout` to answer.
pub(crate) fn grace_check(timeout: Duration) -> Duration {
    (timeout / 4).min(LONGEST_GRACE_CHECK)
}

fn earlier(at: Instant, by: Duration) -> Instant {
    Instant::from_origin(at.since_origin().saturating_sub(by))
}

/// The unanswered pings, and the latest round trip.
#[derive(Debug, Default)]
pub(crate) struct Pings {
    next: u64,
    pending: VecDeque<Pending>,
    answered: u64,
    confirmed: u64,
    latency: Option<Duration>,
    smoothed: Option<Duration>,
    /// Number of tasks that wait for a pong.
    awaited: usize,
}

/// A ping without a pong.
#[derive(Debug)]
struct Pending {
    number: u64,
    sent: Instant,
    /// Number of messages sent before the ping.
    after: u64,
}

/// Maximum number of remembered unanswered pings: the oldest is forgotten.
const MOST_PENDING: usize = 64;

impl Pings {
    /// The number and payload of a new ping, sent at `now` after this many messages.
    pub(crate) fn start(&mut self, now: Instant, after: u64) -> (u64, Bytes) {
        self.next += 1;
        if self.pending.len() == MOST_PENDING {
            self.pending.pop_front();
        }
        self.pending.push_back(Pending { number: self.next, sent: now, after });
        (self.next, Bytes::copy_from_slice(&self.next.to_be_bytes()))
    }

    /// Whether a pong is expected.
    pub(crate) fn is_waiting(&self) -> bool {
        !self.pending.is_empty()
    }

    /// Records a pong received at `now`: it answers its ping and all earlier ones, which the peer may
    /// skip (RFC 6455 section 5.5.3). Returns whether it answered one.
    pub(crate) fn answer(&mut self, payload: &[u8], now: Instant) -> bool {
        let Ok(number) = <[u8; 8]>::try_from(payload).map(u64::from_be_bytes) else { return false };
        let Some(place) = self.pending.iter().position(|ping| ping.number == number) else {
            return false;
        };
        if let Some(ping) = self.pending.drain(..=place).next_back() {
            let latency = now.saturating_since(ping.sent);
            self.latency = Some(latency);
            self.smoothed =
                Some(self.smoothed.map_or(latency, |before| (before * 7 + latency) / 8));
            self.answered = number;
            self.confirmed = ping.after;
        }
        true
    }

    /// Whether the ping of this number, or a later one, was answered.
    pub(crate) fn is_answered(&self, number: u64) -> bool {
        self.answered >= number
    }

    /// Number of acknowledged messages: those sent before the latest ping that the peer
    /// has answered, because it answers in order.
    pub(crate) fn confirmed(&self) -> u64 {
        self.confirmed
    }

    /// The latest round trip.
    pub(crate) fn latency(&self) -> Option<Duration> {
        self.latency
    }

    /// The round trips so far, smoothed as RFC 6298 section 2 does.
    pub(crate) fn smoothed_latency(&self) -> Option<Duration> {
        self.smoothed
    }

    /// A task starts to wait for a pong.
    pub(crate) fn await_one(&mut self) {
        self.awaited += 1;
    }

    /// A task stops waiting for a pong.
    pub(crate) fn awaited_one(&mut self) {
        self.awaited = self.awaited.saturating_sub(1);
    }

    /// Whether a task waits for a pong.
    pub(crate) fn is_awaited(&self) -> bool {
        self.awaited > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Instant {
        Instant::from_origin(Duration::from_secs(seconds))
    }

    fn every(interval: u64, timeout: u64) -> Keepalive {
        let seconds = Duration::from_secs;
        Keepalive::new(Some(seconds(interval)), Some(seconds(timeout)), Jitter::default(), at(0))
    }

    #[test]
    fn off_means_no_deadline_and_no_ping() {
        let mut keepalive = Keepalive::new(None, None, Jitter::default(), at(0));
        assert_eq!(keepalive.deadline(), None);
        assert_eq!(keepalive.step(at(1000)), Step::Wait);
    }

    #[test]
    fn only_the_first_ping_comes_early_and_not_at_once() {
        for interval in [Duration::from_nanos(1), Duration::from_secs(20), Duration::MAX] {
            for part in [0, 1, 1 << 15, u16::MAX] {
                let first = Jitter(part).first(interval);
                assert!(first <= interval && first > interval / 8, "{part} of {interval:?}");
            }
        }
        let (interval, jitter) = (Duration::from_secs(20), Jitter(1 << 15));
        let mut keepalive = Keepalive::new(Some(interval), None, jitter, at(0));
        let first = jitter.first_at(interval, at(0));
        assert_eq!(first.since_origin().as_millis(), 11_250);
        assert_eq!(keepalive.deadline(), Some(first));
        assert_eq!(keepalive.step(first), Step::Ping);
        keepalive.saw_life();
        assert_eq!(keepalive.step(at(31)), Step::Wait);
        assert_eq!(keepalive.step(first + interval), Step::Ping);
    }

    #[test]
    fn first_pings_share_their_wake_ups_and_are_never_late() {
        let interval = Duration::from_secs(20);
        let firsts =
            |now: Instant| (1..=u16::MAX).map(move |part| Jitter(part).first_at(interval, now));
        let moments: std::collections::BTreeSet<_> = firsts(at(0)).chain(firsts(at(1))).collect();
        assert!(moments.len() < 256 + 20, "{}", moments.len());
        assert!(firsts(at(7)).all(|first| first > at(9) && first <= at(27)));
    }

    #[test]
    fn who_stood_still_looks_twice_before_a_peer_is_dead() {
        let mut keepalive = every(20, 10);
        assert_eq!(keepalive.step(at(20)), Step::Ping);
        assert_eq!(keepalive.step(at(35)), Step::Wait, "the answer may lie there unread");
        assert_eq!(keepalive.deadline(), Some(at(36)));
        keepalive.saw_life();
        assert_eq!(keepalive.deadline(), Some(at(40)));
        assert_eq!(keepalive.step(at(40)), Step::Ping);
        assert_eq!(keepalive.step(at(55)), Step::Wait);
        assert_eq!(keepalive.step(at(56)), Step::Dead, "but not a third time");
    }

    #[test]
    fn a_silent_peer_is_dead_after_interval_and_timeout() {
        let mut keepalive = every(20, 10);
        assert_eq!(keepalive.deadline(), Some(at(20)));
        assert_eq!(keepalive.step(at(19)), Step::Wait);
        assert_eq!(keepalive.step(at(20)), Step::Ping);
        assert_eq!(keepalive.deadline(), Some(at(29)), "a first look");
        assert_eq!(keepalive.step(at(29)), Step::Wait);
        assert_eq!(keepalive.deadline(), Some(at(30)));
        assert_eq!(keepalive.step(at(30)), Step::Dead);
    }

    #[test]
    fn any_frame_in_time_is_life() {
        let mut keepalive = every(20, 10);
        for tick in [20, 40, 60] {
            assert_eq!(keepalive.step(at(tick)), Step::Ping);
            keepalive.saw_life();
            assert_eq!(keepalive.step(at(tick + 10)), Step::Wait);
        }
    }

    #[test]
    fn with_a_timeout_above_the_interval_the_first_unanswered_ping_counts() {
        let mut keepalive = every(10, 25);
        for tick in [10, 20, 30] {
            assert_eq!(keepalive.step(at(tick)), Step::Ping);
        }
        assert_eq!(keepalive.deadline(), Some(at(34)), "a first look");
        assert_eq!(keepalive.step(at(34)), Step::Wait);
        assert_eq!(keepalive.deadline(), Some(at(35)));
        assert_eq!(keepalive.step(at(35)), Step::Dead);
    }

    #[test]
    fn what_a_socket_with_room_takes_says_nothing_about_its_peer() {
        let progress = |written| Progress { written, ..Progress::default() };
        for (before, after, lives) in
            [(false, false, false), (true, false, true), (false, true, true), (true, true, true)]
        {
            let mut keepalive = every(20, 10);
            assert_eq!(keepalive.step(at(20)), Step::Ping);
            keepalive.note(progress(100), before);
            keepalive.saw_progress(progress(101), after);
            assert_eq!(keepalive.awaits_answer(), !lives, "{before} {after}");
        }
        let mut stuck = every(20, 10);
        assert_eq!(stuck.step(at(20)), Step::Ping);
        stuck.note(progress(100), true);
        stuck.saw_progress(progress(100), true);
        assert!(stuck.awaits_answer(), "nothing moves");
    }

    #[test]
    fn a_changed_interval_starts_anew() {
        let mut keepalive = every(10, 5);
        assert_eq!(keepalive.step(at(10)), Step::Ping);
        keepalive.set_interval(Some(Duration::from_secs(60)), at(12));
        assert_eq!(keepalive.step(at(15)), Step::Wait);
        assert_eq!(keepalive.deadline(), Some(at(72)));
        keepalive.set_interval(None, at(20));
        assert_eq!(keepalive.deadline(), None);
    }

    #[test]
    fn a_pong_answers_its_ping_and_those_before_it() {
        let mut pings = Pings::default();
        let (first, _) = pings.start(at(1), 0);
        let (second, payload) = pings.start(at(2), 7);
        assert!(!pings.answer(b"not ours", at(3)));
        assert!(pings.answer(&payload, at(5)));
        assert!(pings.is_answered(first) && pings.is_answered(second));
        assert_eq!(pings.latency(), Some(Duration::from_secs(3)));
        assert!(!pings.answer(&payload, at(6)), "a pong counts once");
        assert_eq!(pings.smoothed_latency(), Some(Duration::from_secs(3)));
        let (_, payload) = pings.start(at(10), 7);
        assert!(pings.answer(&payload, at(21)));
        assert_eq!(pings.latency(), Some(Duration::from_secs(11)));
        assert_eq!(pings.smoothed_latency(), Some(Duration::from_secs(4)), "3 + (11 - 3) / 8");
    }
}
