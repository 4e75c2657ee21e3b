//! The keeper: the one small task of a session, and the only place that sleeps.
//!
//! While the application receives, it does everything itself, in its own polls, and the keeper sleeps.
//! The keeper wakes for what needs time or nobody else does: ping ticks, the end of closing, the tail of
//! a burst, a socket that was full, and reading on behalf of an application that does not, or not fast enough.

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    thread,
    time::Duration,
};

use drivetrain_engine::{Error, ErrorKind, Instant, Timer};

use super::{
    inbox::OVERHEAD,
    shared::Shared,
    state::{FAIR_SHARE, State},
};

/// How long the application may stay away from receiving, or be behind, until the keeper reads for it. Two of
/// these are the longest that a ping waits for its pong.
const GRACE: Duration = Duration::from_millis(400);

/// How often the keeper looks whether a burst goes on, at most, and for how long.
const LOOKS: usize = 32;
const LOOKING: Duration = Duration::from_micros(50);

/// What one turn of reading brings the inbox at least, if it is not the last.
const TURN: usize = FAIR_SHARE * OVERHEAD;

/// Keeps a session until it has ended.
pub(super) struct Driver {
    shared: Arc<Shared>,
    timer: Option<(Instant, Box<dyn Timer>)>,
    /// It sleeps until the timer's deadline at the latest.
    is_timed: bool,
    grace: Option<Grace>,
    /// How many turns of reading are left that an application gets which comes and is behind.
    turns: usize,
}

/// The keeper watches whether the application comes back.
#[derive(Clone, Copy)]
struct Grace {
    until: Instant,
    app_comes: u64,
}

enum Next {
    Ended,
    More,
    Sleep(Option<Instant>),
}

impl Driver {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared, timer: None, is_timed: false, grace: None, turns: 0 }
    }

    /// Lets a burst that another thread is sending grow, as it is to be written at once: until it pauses or that thread
    /// writes it, and for some microseconds at most. On the same thread nobody sends while the keeper runs.
    fn let_burst_grow(&self) {
        let burst = &self.shared.keeper.burst;
        if !burst.is_armed_elsewhere() {
            return;
        }
        let until = self.shared.runtime.now() + LOOKING;
        let mut seen = self.shared.accepted();
        for _ in 0..LOOKS {
            thread::yield_now();
            let accepted = self.shared.accepted();
            // The lock is asked last: to see that it is free is to take it.
            let goes_on = burst.is_armed() && (accepted != seen || self.shared.is_locked());
            if !goes_on || self.shared.runtime.now() > until {
                return;
            }
            seen = accepted;
        }
    }

    /// Whether there is anything to do. Not if it was woken for a burst that was written meanwhile, which is seen
    /// without the lock.
    fn has_to_come(&mut self, cx: &mut Context<'_>) -> bool {
        let keeper = &self.shared.keeper;
        let is_due = |(_, timer): &mut (Instant, Box<dyn Timer>)| timer.poll(cx).is_ready();
        keeper.take_looks()
            || keeper.burst.is_armed()
            || (self.is_timed && self.timer.as_mut().is_some_and(is_due))
    }

    fn step(&mut self) -> Next {
        let shared = Arc::clone(&self.shared);
        let now = shared.runtime.now();
        let next = shared.with(|state| {
            state.disarm_flush();
            state.pump(true);
            state.tick(now);
            let was_reading = state.keeper_reads;
            let grace = self.look_after(state, now);
            // Who has read until nothing was left is told when something comes.
            let is_told = was_reading && state.is_input_awaited();
            let more = !is_told && self.read(state);
            state.pump(true);
            let due = state.due();
            if state.end().is_some() {
                Next::Ended
            } else if more {
                Next::More
            } else {
                Next::Sleep(due.into_iter().chain(grace).min())
            }
        });
        // A poisoned session cannot be kept.
        next.unwrap_or(Next::Ended)
    }

    /// Reads if it is the keeper's turn. Returns whether it goes on.
    fn read(&mut self, state: &mut State) -> bool {
        let reads = state.keeper_reads || self.turns > 0;
        self.turns = self.turns.saturating_sub(1);
        if reads && state.read_ahead() {
            return state.keeper_reads || self.turns > 0;
        }
        self.turns = 0;
        false
    }

    /// Decides who reads. Returns when to look again.
    fn look_after(&mut self, state: &mut State, now: Instant) -> Option<Instant> {
        let receiving = &self.shared.receiving;
        let app_comes = self.shared.app_comes(state);
        if state.keeper_must_read() || (state.waits_for_pong() && !receiving.app_waits()) {
            state.keeper_reads = true;
        }
        if !state.keeper_reads && receiving.is_armed() {
            match self.grace {
                None => {
                    self.grace = Some(Grace { until: now + GRACE, app_comes });
                }
                Some(grace) if now >= grace.until => {
                    let comes = app_comes != grace.app_comes;
                    // In this order: what wakes the application in between arms again.
                    receiving.disarm();
                    if receiving.app_waits() {
                        self.grace = None;
                    } else {
                        receiving.rearm();
                        state.keeper_reads = !comes;
                        if comes {
                            // It may be slow: a ping does not wait until it has taken all that is before. In
                            // a flood it is as fast as they come: what an inbox holds is enough.
                            self.turns = self.shared.config.incoming_capacity.div_ceil(TURN);
                        }
                        self.grace = Some(Grace { until: now + GRACE, app_comes });
                    }
                }
                Some(_) => {}
            }
        }
        if state.keeper_reads || !receiving.is_armed() {
            self.grace = None;
        }
        receiving.set_keeper_reads(state.keeper_reads);
        self.grace.map(|grace| grace.until)
    }

    fn poll_timer(&mut self, deadline: Instant, cx: &mut Context<'_>) -> Poll<()> {
        let (due, timer) =
            self.timer.get_or_insert_with(|| (deadline, self.shared.runtime.timer(deadline)));
        if *due != deadline {
            *due = deadline;
            timer.reset(deadline);
        }
        timer.poll(cx)
    }
}

impl Future for Driver {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.shared.keeper.register(cx.waker());
        self.let_burst_grow();
        if !self.has_to_come(cx) {
            return Poll::Pending;
        }
        loop {
            let next = self.step();
            self.is_timed = matches!(next, Next::Sleep(Some(_)));
            match next {
                Next::Ended => return Poll::Ready(()),
                Next::More => {
                    self.shared.keeper.wake();
                    return Poll::Pending;
                }
                Next::Sleep(None) => return Poll::Pending,
                Next::Sleep(Some(deadline)) => {
                    if self.poll_timer(deadline, cx).is_pending() {
                        return Poll::Pending;
                    }
                    if self.shared.runtime.now() < deadline {
                        // A timer may be a little early on a coarse clock; it is asked again.
                        self.shared.keeper.wake();
                        return Poll::Pending;
                    }
                }
            }
        }
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        // Without its keeper a session would neither ping nor end: it ends now, if it has not yet.
        let _ = self.shared.with(|state| {
            if state.end().is_none() {
                state.abort(Error::new(
                    ErrorKind::Other,
                    "the runtime of the session has shut down",
                ));
            }
        });
    }
}
