//! When to ping, and when a peer is dead: pure, with time as an argument.

use std::{collections::VecDeque, time::Duration};

use bytes::Bytes;
use drivetrain_engine::{Instant, Runtime};

/// Finds a dead peer within interval + timeout of its last sign of life.
///
/// No clock is read per message: whoever receives a frame says [`saw_life`](Self::saw_life), and the
/// next [`step`](Self::step) takes it into account.
#[derive(Debug)]
pub(super) struct Keepalive {
    interval: Option<Duration>,
    timeout: Option<Duration>,
    stagger: Stagger,
    next_ping: Instant,
    answer_due: Option<Instant>,
    /// The reading was looked at shortly before an answer is due.
    looked: bool,
    life: bool,
}

/// How much less than an interval a session waits before its first ping, so that those which were opened
/// together do not ping in step. Default: nothing, as a test's clock wants it.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Stagger(u16);

impl Stagger {
    /// Up to seven eighths of the interval, as far as the runtime's random number goes.
    pub(crate) fn random(runtime: &dyn Runtime) -> Self {
        Self((runtime.random() >> 16) as u16)
    }

    fn first(self, interval: Duration) -> Duration {
        interval - interval / (8 << 16) * (7 * u32::from(self.0))
    }

    /// When that is, counted from `now`. Sessions of one runtime share the moments at which they wake up, some
    /// 256 of them per interval: a wake-up costs more than a ping.
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

/// The longest that a ping goes out early to share a wake-up with others.
const LONGEST_SLOT: Duration = Duration::from_millis(100);

/// For how long at least the reading is looked at again before a peer is dead, at most a quarter of the timeout.
const LONGEST_LOOK: Duration = Duration::from_secs(1);

/// What is to be done now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Nothing.
    Wait,
    /// Send a ping.
    Ping,
    /// The peer gave no sign of life in time.
    Dead,
}

impl Keepalive {
    /// `interval` of `None` is off; `timeout` of `None` is twice the interval.
    pub(super) fn new(
        interval: Option<Duration>,
        timeout: Option<Duration>,
        stagger: Stagger,
        now: Instant,
    ) -> Self {
        let mut keepalive = Self {
            interval: None,
            timeout,
            stagger,
            next_ping: now,
            answer_due: None,
            looked: false,
            life: false,
        };
        keepalive.set_interval(interval, now);
        keepalive
    }

    /// Changes the interval; the next ping goes out one interval from now, less what the session's
    /// [`Stagger`] takes off.
    pub(super) fn set_interval(&mut self, interval: Option<Duration>, now: Instant) {
        self.interval = interval;
        self.answer_due = None;
        self.looked = false;
        self.next_ping = self.stagger.first_at(interval.unwrap_or_default(), now);
    }

    /// The peer gave a sign of life since the last step: any frame is one.
    pub(super) fn saw_life(&mut self) {
        self.life = true;
    }

    /// Whether the next step may judge the peer by what came in.
    pub(super) fn awaits_answer(&self) -> bool {
        self.answer_due.is_some() && !self.life
    }

    /// When [`step`](Self::step) is to be called next.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let interval = self.interval?;
        let Some(due) = self.answer_due.filter(|_| !self.life) else { return Some(self.next_ping) };
        let answer = if self.looked { due } else { earlier(due, self.look(interval)) };
        Some(answer.min(self.next_ping))
    }

    /// What is to be done at `now`.
    ///
    /// A peer is judged only by the second look at what came in. The first one is on time, shortly before the
    /// answer is due, unless everything stood still here: then the answer may lie in a socket of which the
    /// reactor does not know yet, and there is time for it after the first look.
    pub(super) fn step(&mut self, now: Instant) -> Step {
        let Some(interval) = self.interval else { return Step::Wait };
        if std::mem::take(&mut self.life) {
            self.answer_due = None;
            self.looked = false;
        }
        if let Some(due) = self.answer_due {
            let look = self.look(interval);
            if self.looked && now >= due {
                return Step::Dead;
            }
            if !self.looked && now >= earlier(due, look) {
                self.looked = true;
                self.answer_due = Some(due.max(now + look));
            }
        }
        if now < self.next_ping {
            return Step::Wait;
        }
        // From when it was due, so that those that go out together stay together.
        let next = self.next_ping + interval;
        self.next_ping = if next > now { next } else { now + interval };
        self.answer_due.get_or_insert(now + self.timeout(interval));
        Step::Ping
    }

    fn timeout(&self, interval: Duration) -> Duration {
        self.timeout.unwrap_or(interval.saturating_mul(2))
    }

    fn look(&self, interval: Duration) -> Duration {
        second_look(self.timeout(interval))
    }
}

/// How long after a first look at what came in a peer is judged that has so much time to answer.
pub(super) fn second_look(timeout: Duration) -> Duration {
    (timeout / 4).min(LONGEST_LOOK)
}

fn earlier(at: Instant, by: Duration) -> Instant {
    Instant::from_origin(at.since_origin().saturating_sub(by))
}

/// The pings that wait for their pongs, and the latest round trip.
#[derive(Debug, Default)]
pub(super) struct Pings {
    next: u64,
    pending: VecDeque<Pending>,
    answered: u64,
    confirmed: u64,
    latency: Option<Duration>,
    smoothed: Option<Duration>,
    /// How many of the pending ones somebody waits for.
    awaited: usize,
}

/// A ping without a pong.
#[derive(Debug)]
struct Pending {
    number: u64,
    sent: Instant,
    /// How many messages went out before it.
    after: u64,
}

/// More unanswered pings than this are not remembered: the oldest is forgotten.
const MOST_PENDING: usize = 64;

impl Pings {
    /// The number and payload of a new ping, sent at `now` after so many messages.
    pub(super) fn start(&mut self, now: Instant, after: u64) -> (u64, Bytes) {
        self.next += 1;
        if self.pending.len() == MOST_PENDING {
            self.pending.pop_front();
        }
        self.pending.push_back(Pending { number: self.next, sent: now, after });
        (self.next, Bytes::copy_from_slice(&self.next.to_be_bytes()))
    }

    /// Whether a pong would be news.
    pub(super) fn is_waiting(&self) -> bool {
        !self.pending.is_empty()
    }

    /// Takes a pong that came in at `now`: it answers its ping and all before it, which the peer may
    /// skip (RFC 6455 section 5.5.3). Returns whether it answered one.
    pub(super) fn answer(&mut self, payload: &[u8], now: Instant) -> bool {
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
    pub(super) fn is_answered(&self, number: u64) -> bool {
        self.answered >= number
    }

    /// How many messages the peer has read for certain: those that went out before the latest ping that it
    /// has answered, as it answers in order.
    pub(super) fn confirmed(&self) -> u64 {
        self.confirmed
    }

    /// The latest round trip.
    pub(super) fn latency(&self) -> Option<Duration> {
        self.latency
    }

    /// The round trips so far, smoothed as RFC 6298 section 2 does.
    pub(super) fn smoothed_latency(&self) -> Option<Duration> {
        self.smoothed
    }

    /// Somebody begins to wait for a pong.
    pub(super) fn await_one(&mut self) {
        self.awaited += 1;
    }

    /// Somebody no longer waits for a pong.
    pub(super) fn awaited_one(&mut self) {
        self.awaited = self.awaited.saturating_sub(1);
    }

    /// Whether somebody waits for a pong.
    pub(super) fn is_awaited(&self) -> bool {
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
        Keepalive::new(Some(seconds(interval)), Some(seconds(timeout)), Stagger::default(), at(0))
    }

    #[test]
    fn off_means_no_deadline_and_no_ping() {
        let mut keepalive = Keepalive::new(None, None, Stagger::default(), at(0));
        assert_eq!(keepalive.deadline(), None);
        assert_eq!(keepalive.step(at(1000)), Step::Wait);
    }

    #[test]
    fn only_the_first_ping_comes_early_and_not_at_once() {
        for interval in [Duration::from_nanos(1), Duration::from_secs(20), Duration::MAX] {
            for part in [0, 1, 1 << 15, u16::MAX] {
                let first = Stagger(part).first(interval);
                assert!(first <= interval && first > interval / 8, "{part} of {interval:?}");
            }
        }
        let (interval, stagger) = (Duration::from_secs(20), Stagger(1 << 15));
        let mut keepalive = Keepalive::new(Some(interval), None, stagger, at(0));
        let first = stagger.first_at(interval, at(0));
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
            |now: Instant| (1..=u16::MAX).map(move |part| Stagger(part).first_at(interval, now));
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
