//! Keepalive and closing against small reference models, over every order of events up to a length.

use std::time::Duration;

use drivetrain_engine::{
    CloseCode, CloseReason, Error, ErrorKind, Instant, Progress, Protocol, Role,
};

use crate::{
    lifecycle::closing::{Closing, VIOLATION_DRAIN},
    lifecycle::keepalive::{Jitter, Keepalive, Step},
};

const fn at(seconds: u64) -> Instant {
    Instant::from_origin(Duration::from_secs(seconds))
}

/// Events that matter for the end of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Event {
    WeClose,
    TheyClose,
    TheyBreakARule,
    EverythingIsWritten,
    WritingFails,
    TheStreamEnds,
    TimePasses(u64),
}

const EVENTS: [Event; 8] = [
    Event::WeClose,
    Event::TheyClose,
    Event::TheyBreakARule,
    Event::EverythingIsWritten,
    Event::WritingFails,
    Event::TheStreamEnds,
    Event::TimePasses(2),
    Event::TimePasses(5),
];

const CLOSE_TIMEOUT: u64 = 5;

/// The end as it follows from the whole history: facts, and when they became true.
#[derive(Debug, Default)]
struct Facts {
    now: u64,
    began: Option<u64>,
    sent: Option<CloseCode>,
    written: bool,
    received: bool,
    unwritable: bool,
    ended: bool,
    violated: Option<u64>,
    error: Option<ErrorKind>,
}

impl Facts {
    fn take(&mut self, event: Event) {
        if !matches!(event, Event::TimePasses(_) | Event::EverythingIsWritten) {
            self.began.get_or_insert(self.now);
        }
        let send = |facts: &mut Self, code| {
            if facts.sent.is_none() && !facts.unwritable {
                facts.sent = Some(code);
            }
        };
        match event {
            Event::TimePasses(seconds) => self.now += seconds,
            Event::WeClose => send(self, CloseCode::NORMAL),
            Event::TheyClose => {
                send(self, CloseCode::GOING_AWAY);
                self.received = true;
            }
            Event::TheyBreakARule => {
                send(self, CloseCode::PROTOCOL_ERROR);
                self.violated.get_or_insert(self.now);
                self.error.get_or_insert(ErrorKind::Protocol);
            }
            Event::EverythingIsWritten => self.written = self.sent.is_some(),
            Event::WritingFails => {
                self.unwritable = true;
                self.error.get_or_insert(ErrorKind::Io);
            }
            Event::TheStreamEnds => {
                self.ended = true;
                if !self.received {
                    self.error.get_or_insert(ErrorKind::Io);
                }
            }
        }
    }

    /// Whether it is over for this role, and if so whether cleanly and with which error.
    fn end(&self, role: Role) -> Option<(bool, Option<ErrorKind>)> {
        let began = self.began?;
        let nothing_to_come = self.received || self.ended;
        let nothing_to_send = self.written || self.unwritable || self.sent.is_none();
        if nothing_to_come && nothing_to_send {
            let clean = self.written && self.received && self.error.is_none();
            return Some((clean, self.error));
        }
        let drained = self.violated.filter(|_| role == Role::Server);
        let due = drained.map_or(u64::MAX, |since| since + VIOLATION_DRAIN.as_secs());
        (self.now >= due.min(began + CLOSE_TIMEOUT))
            .then_some((false, self.error.or(Some(ErrorKind::Timeout))))
    }

    /// Until when the transport is kept after the end.
    fn stream_end_due(&self, role: Role) -> Option<Instant> {
        let both = self.written && self.received && !self.unwritable;
        let waits = both && self.violated.is_none() && !self.ended && role == Role::Client;
        self.began.filter(|_| waits).map(|began| at(began + CLOSE_TIMEOUT))
    }
}

fn apply(closing: &mut Closing, event: Event, now: Instant) {
    let reason = |code: u16| CloseReason::new(code, "").unwrap();
    match event {
        Event::WeClose => {
            closing.close(&reason(1000), now);
        }
        Event::TheyClose => {
            closing.peer_closed(Some(reason(1001)), now);
        }
        Event::TheyBreakARule => {
            closing.violated(Error::new(ErrorKind::Protocol, "broken"), "broken", now);
        }
        Event::EverythingIsWritten => closing.close_flushed(),
        Event::WritingFails => closing.write_failed(Error::new(ErrorKind::Io, "broken pipe"), now),
        Event::TheStreamEnds => closing.read_ended(None, now),
        // The session task looks when it is due: before the end, and at it.
        Event::TimePasses(seconds) => {
            let now = now + Duration::from_secs(seconds);
            for _ in 0..2 {
                if let Some(due) = closing.check_due().filter(|&due| due <= now) {
                    closing.checked(due);
                }
            }
        }
    }
}

/// All sequences of this length for each role: 8^6 are a quarter of a million.
#[test]
#[allow(clippy::print_stdout, reason = "a figure of docs/reference/testing.md")]
fn closing_follows_its_model_in_every_order_of_events() {
    const LENGTH: u32 = 6;
    let sequences = EVENTS.len().pow(LENGTH);
    println!("closing: {sequences} sequences of {LENGTH} events for each role");
    for number in 0..sequences {
        for role in [Role::Client, Role::Server] {
            closing_follows_its_model(role, number, LENGTH);
        }
    }
}

fn closing_follows_its_model(role: Role, mut number: usize, length: u32) {
    let timeout = Duration::from_secs(CLOSE_TIMEOUT);
    let mut closing = Closing::new(timeout, role, Protocol::H1);
    let mut facts = Facts::default();
    let mut history = Vec::new();
    for _ in 0..length {
        let event = EVENTS[number % EVENTS.len()];
        number /= EVENTS.len();
        history.push(event);
        // The session stops at its end.
        if facts.end(role).is_some() {
            break;
        }
        apply(&mut closing, event, at(facts.now));
        facts.take(event);
        let outcome = closing.outcome(at(facts.now));
        let seen = outcome.as_ref().map(|end| (end.clean, end.error.as_ref().map(Error::kind)));
        assert_eq!(seen, facts.end(role), "{role:?} {history:?}");
        if let Some(outcome) = outcome {
            let sent = facts.sent.filter(|_| facts.written);
            assert_eq!(outcome.sent.map(|reason| reason.code()), sent, "{role:?} {history:?}");
            let by_peer = facts.received && facts.violated.is_none();
            assert_eq!(closing.ended_by_peer(), by_peer, "{role:?} {history:?}");
            assert_eq!(outcome.received.is_some(), facts.received, "{role:?} {history:?}");
            assert_eq!(
                closing.stream_end_due(),
                facts.stream_end_due(role),
                "{role:?} {history:?}"
            );
        }
        assert_eq!(closing.is_open(), facts.began.is_none(), "{role:?} {history:?}");
    }
}

/// Every pattern of signs of life over fourteen seconds, for some intervals and timeouts, stepping at each
/// quarter of a second and, besides, only at the deadlines: both must find the same.
#[test]
#[allow(clippy::print_stdout, reason = "a figure of docs/reference/testing.md")]
fn keepalive_follows_its_model_for_every_pattern_of_life() {
    const SECONDS: u64 = 14;
    println!("keepalive: {} patterns of life", SETTINGS.len() << SECONDS);
    for pattern in 0..1_u32 << SECONDS {
        let happens = |second: u64| match pattern >> second & 1 {
            1 => Happens::Frame,
            _ => Happens::Nothing,
        };
        both_find_the_same(SECONDS, happens, false, &format!("{pattern:b}"));
    }
}

/// The same for bytes of incomplete frames, while the socket accepts everything and while it is full: received bytes
/// are life, written bytes only if they had to wait.
#[test]
#[allow(clippy::print_stdout, reason = "a figure of docs/reference/testing.md")]
fn keepalive_follows_its_model_for_every_pattern_of_bytes() {
    const SECONDS: u32 = 9;
    let choices = [Happens::Nothing, Happens::BytesIn, Happens::BytesOut];
    let patterns = choices.len().pow(SECONDS);
    println!("keepalive: {} patterns of bytes", SETTINGS.len() * patterns * 2);
    for pattern in 0..patterns {
        let happens = |second: u64| choices[pattern / 3_usize.pow(second as u32) % 3];
        for held_up in [false, true] {
            both_find_the_same(SECONDS.into(), happens, held_up, &format!("{pattern} {held_up}"));
        }
    }
}

/// Intervals and timeouts.
const SETTINGS: [(u64, u64); 5] = [(3, 2), (2, 5), (4, 4), (1, 1), (5, 1)];

/// The event of one second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Happens {
    Nothing,
    Frame,
    /// Of a frame that is not complete.
    BytesIn,
    /// The socket takes some.
    BytesOut,
}

fn both_find_the_same(
    seconds: u64,
    happens: impl Fn(u64) -> Happens + Copy,
    held_up: bool,
    pattern: &str,
) {
    let lives = |second| match happens(second) {
        Happens::Nothing => false,
        Happens::Frame | Happens::BytesIn => true,
        Happens::BytesOut => held_up,
    };
    for (interval, timeout) in SETTINGS {
        // Events after the last second change nothing.
        let happens = |second| if second < seconds { happens(second) } else { Happens::Nothing };
        let expected = model(interval, timeout, seconds, lives);
        for only_at_deadlines in [false, true] {
            let seen = simulate(interval, timeout, seconds, happens, held_up, only_at_deadlines);
            assert_eq!(seen, expected, "{interval} {timeout} {pattern} {only_at_deadlines}");
        }
    }
}

/// The sent pings, and the time at which the peer was declared dead.
#[derive(Debug, Default, PartialEq, Eq)]
struct Seen {
    pings: Vec<u64>,
    dead: Option<u64>,
}

/// A ping each interval; dead as soon as a ping has had no sign of life for the timeout. Life in second
/// `s` comes after what is due at `s` and before what is due at `s + 1`.
fn model(interval: u64, timeout: u64, seconds: u64, lives: impl Fn(u64) -> bool) -> Seen {
    let mut seen = Seen::default();
    for now in 1..=seconds {
        let silent_since = |ping: u64| !(ping..now).any(&lives);
        if seen.pings.iter().any(|&ping| now >= ping + timeout && silent_since(ping)) {
            seen.dead = Some(now);
            break;
        }
        if now % interval == 0 {
            seen.pings.push(now);
        }
    }
    seen
}

fn simulate(
    interval: u64,
    timeout: u64,
    seconds: u64,
    happens: impl Fn(u64) -> Happens,
    held_up: bool,
    only_at_deadlines: bool,
) -> Seen {
    let duration = Duration::from_secs;
    let (interval, timeout) = (Some(duration(interval)), Some(duration(timeout)));
    let mut keepalive = Keepalive::new(interval, timeout, Jitter::default(), at(0));
    let (mut seen, mut progress) = (Seen::default(), Progress::default());
    let come = |keepalive: &mut Keepalive, progress: &mut Progress, second| match happens(second) {
        Happens::Nothing => {}
        Happens::Frame => keepalive.saw_life(),
        Happens::BytesIn => progress.received += 1,
        Happens::BytesOut => progress.written += 1,
    };
    come(&mut keepalive, &mut progress, 0);
    // In quarters, as a peer is looked at that long before it is dead.
    for quarter in 1..=4 * seconds {
        let (now, moment) = (quarter / 4, at(0) + duration(quarter) / 4);
        let due = keepalive.deadline().is_some_and(|due| moment >= due);
        if due || !only_at_deadlines {
            keepalive.saw_progress(progress, held_up);
            match keepalive.step(moment) {
                Step::Wait => {}
                Step::Ping => {
                    seen.pings.push(now);
                    progress.written += usize::from(!held_up); // the ping itself is no sign of life
                }
                Step::Dead => {
                    seen.dead = Some(now);
                    break;
                }
            }
            keepalive.note(progress, held_up);
        }
        if quarter % 4 == 0 {
            come(&mut keepalive, &mut progress, now);
        }
    }
    seen
}
