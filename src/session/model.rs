//! Keepalive and closing against small reference models, over every order of events up to a length.

use std::time::Duration;

use drivetrain_engine::{CloseCode, CloseReason, Error, ErrorKind, Instant};

use super::{
    closing::Closing,
    keepalive::{Keepalive, Stagger, Step},
};

const fn at(seconds: u64) -> Instant {
    Instant::from_origin(Duration::from_secs(seconds))
}

/// What can happen to a session that matters for its end.
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

    /// Whether it is over, and if so whether cleanly and with which error.
    fn end(&self) -> Option<(bool, Option<ErrorKind>)> {
        let began = self.began?;
        let nothing_to_come = self.received || self.ended;
        let nothing_to_send = self.written || self.unwritable || self.sent.is_none();
        if nothing_to_come && nothing_to_send {
            let clean = self.written && self.received && self.error.is_none();
            return Some((clean, self.error));
        }
        (self.now >= began + CLOSE_TIMEOUT)
            .then_some((false, self.error.or(Some(ErrorKind::Timeout))))
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
            closing.failed(Error::new(ErrorKind::Protocol, "broken"), "broken", now);
        }
        Event::EverythingIsWritten => closing.close_flushed(),
        Event::WritingFails => closing.write_failed(Error::new(ErrorKind::Io, "broken pipe"), now),
        Event::TheStreamEnds => closing.read_ended(None, now),
        // The keeper looks when it is due: before the end, and at it.
        Event::TimePasses(seconds) => {
            let now = now + Duration::from_secs(seconds);
            for _ in 0..2 {
                if let Some(due) = closing.look_due().filter(|&due| due <= now) {
                    closing.looked(due);
                }
            }
        }
    }
}

/// All sequences of this length: 8^6 are a quarter of a million.
#[test]
#[allow(clippy::print_stdout, reason = "a figure of docs/testing.md")]
fn closing_follows_its_model_in_every_order_of_events() {
    const LENGTH: u32 = 6;
    let choices = EVENTS.len();
    println!("closing: {} sequences of {LENGTH} events", choices.pow(LENGTH));
    for mut number in 0..choices.pow(LENGTH) {
        let mut closing = Closing::new(Duration::from_secs(CLOSE_TIMEOUT));
        let mut facts = Facts::default();
        let mut history = Vec::new();
        for _ in 0..LENGTH {
            let event = EVENTS[number % choices];
            number /= choices;
            history.push(event);
            // The session stops at its end.
            if facts.end().is_some() {
                break;
            }
            apply(&mut closing, event, at(facts.now));
            facts.take(event);
            let outcome = closing.outcome(at(facts.now));
            let seen = outcome.as_ref().map(|end| (end.clean, end.error.as_ref().map(Error::kind)));
            assert_eq!(seen, facts.end(), "{history:?}");
            if let Some(outcome) = outcome {
                assert_eq!(outcome.sent.map(|reason| reason.code()), facts.sent, "{history:?}");
                assert_eq!(outcome.received.is_some(), facts.received, "{history:?}");
            }
            assert_eq!(closing.is_open(), facts.began.is_none(), "{history:?}");
        }
    }
}

/// Every pattern of signs of life over fourteen seconds, for some intervals and timeouts, stepping at each
/// quarter of a second and, besides, only at the deadlines: both must find the same.
#[test]
#[allow(clippy::print_stdout, reason = "a figure of docs/testing.md")]
fn keepalive_follows_its_model_for_every_pattern_of_life() {
    const SECONDS: u64 = 14;
    let settings = [(3, 2), (2, 5), (4, 4), (1, 1), (5, 1)];
    println!("keepalive: {} patterns of life", settings.len() << SECONDS);
    for (interval, timeout) in settings {
        for pattern in 0..1_u32 << SECONDS {
            let lives = |second: u64| pattern >> second & 1 == 1;
            let expected = model(interval, timeout, SECONDS, lives);
            let every_quarter = simulate(interval, timeout, SECONDS, lives, false);
            assert_eq!(every_quarter, expected, "{interval} {timeout} {pattern:b}");
            let at_deadlines = simulate(interval, timeout, SECONDS, lives, true);
            assert_eq!(at_deadlines, expected, "{interval} {timeout} {pattern:b}");
        }
    }
}

/// What was sent and when the peer was found dead.
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
    lives: impl Fn(u64) -> bool,
    only_at_deadlines: bool,
) -> Seen {
    let duration = Duration::from_secs;
    let (interval, timeout) = (Some(duration(interval)), Some(duration(timeout)));
    let mut keepalive = Keepalive::new(interval, timeout, Stagger::default(), at(0));
    let mut seen = Seen::default();
    if lives(0) {
        keepalive.saw_life();
    }
    // In quarters, as a peer is looked at that long before it is dead.
    for quarter in 1..=4 * seconds {
        let (now, moment) = (quarter / 4, at(0) + duration(quarter) / 4);
        let due = keepalive.deadline().is_some_and(|due| moment >= due);
        if due || !only_at_deadlines {
            match keepalive.step(moment) {
                Step::Wait => {}
                Step::Ping => seen.pings.push(now),
                Step::Dead => {
                    seen.dead = Some(now);
                    break;
                }
            }
        }
        if quarter % 4 == 0 && lives(now) {
            keepalive.saw_life();
        }
    }
    seen
}
