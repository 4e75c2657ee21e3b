//! The reconnecting session: its state machine from one connection to the next.

use std::{
    fmt,
    future::{Future, poll_fn},
    mem,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use drivetrain_engine::{CloseReason, Error, ErrorKind, Frame, Instant, Outcome, Result};
use futures_core::Stream;
use serde::Serialize;

use super::{
    Attempt, Connected, Disconnected, Event, Retrying, Sender, State, States,
    attempt::{Failure, RunningAttempt},
    backoff::NextTry,
    link::{Link, LinkPhase},
    plan::{Plan, closed, gave_up},
    retry_after::retry_after,
    trace,
};
use drivetrain_session::Session;

/// A WebSocket session that reconnects after a lost connection.
///
/// Made by [`ReconnectRequest::connect`](super::ReconnectRequest::connect). The module has
/// [the contract](super#the-contract-for-messages-in-flight) for messages in flight.
///
/// | the connection | result |
/// |---|---|
/// | is lost, or times out; is closed by the peer with 1001, 1011, 1012, 1013 or 1014 | an attempt to reconnect |
/// | is closed by the peer with another code, including 1000 and 4000 to 4999 | the end |
/// | breaks a rule or a limit | the end |
/// | is closed by this end | the end |
///
/// | an attempt | result |
/// |---|---|
/// | finds no connection or no answer in time | the next attempt |
/// | is refused with 408, 425, 429 or 5xx (except 501 and 505) | the next attempt, after `Retry-After` if present |
/// | is refused otherwise; TLS fails | the end |
/// | fails in a hook | the next attempt, unless the hook's error has a refusal or an end from above |
///
/// [`Error::is_transient`] has both lists. [`reconnect_if`](super::ReconnectRequest::reconnect_if) replaces them.
///
/// Sending takes `&self`, and [`sender`](Self::sender) returns a half for other tasks. Receiving takes `&mut self` and
/// drives the session. Dropping the session ends it at once, as for a [`Session`](crate::Session), also during an
/// attempt.
///
/// # Example
/// ```no_run
/// # async fn example(client: drivetrain::HttpClient) -> drivetrain::Result<()> {
/// use std::collections::VecDeque;
/// use drivetrain::reconnect::{Backoff, Event};
///
/// let mut session =
///     client.web_socket("wss://example.com/log").reconnect(Backoff::new()).connect().await?;
/// session.send("a line").await?;
/// let mut again = VecDeque::new();
/// while let Some(event) = session.receive().await? {
///     match event {
///         Event::Message(frame) => println!("{:?}", frame.read_text()),
///         Event::Retrying(retry) => println!("{}: trying again in {:?}", retry.error, retry.delay),
///         // A line may arrive twice, but no line is lost.
///         Event::Disconnected(lost) => {
///             again = lost.unacknowledged.into_frames().chain(again).collect();
///         }
///         Event::Connected(_) => {
///             // The connection may be lost again: unaccepted frames stay in the queue.
///             while let Some(frame) = again.front() {
///                 if session.send(frame.clone()).await.is_err() {
///                     break;
///                 }
///                 again.pop_front();
///             }
///         }
///     }
/// }
/// # Ok(()) }
/// ```
pub struct ReconnectingSession {
    sender: Sender,
    stage: ReconnectStage,
    plan: Plan,
}

enum ReconnectStage {
    Open {
        session: Box<Session>,
        since: Instant,
    },
    /// The loss was reported, the next step was not.
    Lost(Error),
    /// The link holds the attempt.
    Trying {
        first: bool,
    },
    Ended {
        error: Option<Error>,
        told: bool,
    },
}

impl ReconnectingSession {
    /// Starts with the first attempt. `receive` drives it.
    pub(super) fn new(plan: Plan, waits: bool) -> Self {
        let link = Arc::new(Link::new());
        let attempt = Attempt { number: 0, error: None };
        trace::connecting(&plan.engine, 0);
        let progress = RunningAttempt::begin(&plan.recipe, &plan.runtime, attempt);
        link.advance(LinkPhase::Down(Some(progress)), State::Connecting { attempt: 0 }, None);
        Self {
            sender: Sender::new(link, waits),
            stage: ReconnectStage::Trying { first: true },
            plan,
        }
    }

    /// The next event; `None` after a clean end, also on later calls.
    ///
    /// # Errors
    /// The error of an unclean end or of the last attempt, also on later calls. After the last attempt the error has the
    /// kind of the last failure, and the last failure as its source.
    ///
    /// # Cancel safety
    /// Safe: a dropped future loses nothing, and the next call continues the attempt.
    pub fn receive(&mut self) -> impl Future<Output = Result<Option<Event>>> + Send + '_ {
        poll_fn(|cx| self.poll_event(cx))
    }

    /// Sends one message on the current connection. See [`Sender::send`].
    ///
    /// # Errors
    /// As for [`Sender::send`].
    ///
    /// # Cancel safety
    /// Dropped while pending, nothing was sent. The poll that accepts the message completes.
    pub fn send(&self, frame: impl Into<Frame>) -> impl Future<Output = Result<()>> + Send + '_ {
        self.sender.send(frame)
    }

    /// Sends one message with those after it. See [`Sender::feed`].
    ///
    /// # Errors
    /// As for [`Sender::send`].
    ///
    /// # Cancel safety
    /// As for [`send`](Self::send).
    pub fn feed(&self, frame: impl Into<Frame>) -> impl Future<Output = Result<()>> + Send + '_ {
        self.sender.feed(frame)
    }

    /// Sends a value as the client's converter writes it. See [`Sender::send_serialized`].
    ///
    /// # Errors
    /// As for [`Sender::send_serialized`].
    ///
    /// # Cancel safety
    /// As for [`send`](Self::send).
    pub async fn send_serialized<T: Serialize + ?Sized>(&self, value: &T) -> Result<()> {
        self.sender.send_serialized(value).await
    }

    /// Waits until everything that this connection has accepted is written. See [`Sender::flush`].
    ///
    /// # Errors
    /// As for [`Sender::flush`].
    ///
    /// # Cancel safety
    /// Safe; writing continues without the future.
    pub async fn flush(&self) -> Result<()> {
        self.sender.flush().await
    }

    /// Ends the session for good. See [`Sender::close`].
    ///
    /// # Errors
    /// As for [`Sender::close`].
    ///
    /// # Cancel safety
    /// Once polled, closing continues without the future.
    pub async fn close(&self, reason: CloseReason) -> Result<Outcome> {
        self.sender.close(reason).await
    }

    /// A sending half for another task.
    pub fn sender(&self) -> Sender {
        self.sender.clone()
    }

    /// The state of the moment.
    pub fn state(&self) -> State {
        self.sender.state()
    }

    /// The states from now on, for those who only watch.
    pub fn states(&self) -> States {
        self.sender.states()
    }

    /// The connection of the moment: its `ping`, `stats`, `settings`, `response`, `subprotocol`. What is sent
    /// on it is under the contract too, and to close it ends the reconnecting session. What is set on it, such
    /// as a ping interval, holds for this connection only; `None` while there is none.
    pub fn connection(&self) -> Option<&Session> {
        match &self.stage {
            ReconnectStage::Open { session, .. } => Some(session),
            ReconnectStage::Lost(_)
            | ReconnectStage::Trying { .. }
            | ReconnectStage::Ended { .. } => None,
        }
    }

    /// The outcome of the latest connection; preliminary while the connection is open.
    pub fn outcome(&self) -> Outcome {
        self.connection().map_or_else(|| self.sender.link().outcome(), Session::outcome)
    }

    fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Event>>> {
        loop {
            let event = match &mut self.stage {
                ReconnectStage::Open { session, .. } => {
                    match ready!(Pin::new(session.incoming()).poll_next(cx)) {
                        Some(Ok(frame)) => Some(Event::Message(frame)),
                        Some(Err(error)) => self.disconnected(Some(error)),
                        None => self.disconnected(None),
                    }
                }
                ReconnectStage::Lost(error) => {
                    let error = error.clone();
                    self.retry(error, false)
                }
                ReconnectStage::Trying { .. } => ready!(self.poll_try(cx)),
                ReconnectStage::Ended { error, told } => {
                    *told = true;
                    return Poll::Ready(error.clone().map_or(Ok(None), Err));
                }
            };
            if event.is_some() {
                return Poll::Ready(Ok(event));
            }
        }
    }

    /// Reports the end of the connection, with or without an error.
    fn disconnected(&mut self, error: Option<Error>) -> Option<Event> {
        let stage =
            mem::replace(&mut self.stage, ReconnectStage::Ended { error: None, told: false });
        let ReconnectStage::Open { session, since } = stage else { return None };
        let mut outcome = session.outcome();
        if outcome.error.is_none() {
            outcome.error.clone_from(&error); // after a panic the session has no outcome
        }
        let lost = Disconnected {
            outcome,
            unacknowledged: session.take_unacknowledged(),
            stats: session.stats(),
        };
        self.plan.tries.lived(self.plan.runtime.now().saturating_since(since));
        trace::disconnected(&self.plan.engine, &lost.outcome, lost.unacknowledged.len());
        let (outcome, link) = (lost.outcome.clone(), self.sender.link());
        let error = error.map(|error| error.with_outcome(outcome.clone()));
        let why = error.clone().unwrap_or_else(|| closed(&outcome));
        let is_wanted = !link.is_closing() && !session.closed_here();
        if is_wanted && self.plan.should_retry(&why) {
            link.advance(LinkPhase::Down(None), State::Disconnected, Some(outcome));
            self.stage = ReconnectStage::Lost(why);
        } else {
            link.advance(LinkPhase::Down(None), State::Disconnected, Some(outcome));
            self.end(error);
        }
        Some(Event::Disconnected(Box::new(lost)))
    }

    /// Plans the next attempt, or gives up.
    fn retry(&mut self, error: Error, is_first: bool) -> Option<Event> {
        if self.sender.link().is_ended() {
            self.end(None);
            return None;
        }
        if is_first && !self.plan.retry_first {
            self.end(Some(error));
            return None;
        }
        let wanted = error.response().and_then(|response| retry_after(response.headers()));
        let (attempt, delay) = match self.plan.tries.next(wanted, self.plan.runtime.random()) {
            NextTry::Try { attempt, delay } => (attempt, delay),
            NextTry::Enough(tries) => {
                self.end(Some(gave_up(format!("gave up after {tries} tries: {error}"), error)));
                return None;
            }
            NextTry::TooLong(delay) => {
                let message = format!("the server asks for a pause of {delay:?}: {error}");
                self.end(Some(gave_up(message, error)));
                return None;
            }
        };
        let of = self.plan.tries.most();
        let retrying = Retrying { attempt, of, delay, error: error.clone() };
        trace::retrying(&self.plan.engine, &retrying);
        let timer = self.plan.runtime.timer(self.plan.runtime.now() + delay);
        let next = RunningAttempt::Waiting(timer, Attempt { number: attempt, error: Some(error) });
        let state = State::Waiting { attempt, of, delay };
        // If the session has ended meanwhile, the next step notices.
        self.sender.link().advance(LinkPhase::Down(Some(next)), state, None);
        self.stage = ReconnectStage::Trying { first: is_first };
        Some(Event::Retrying(Box::new(retrying)))
    }

    /// Continues the attempt.
    fn poll_try(&mut self, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        let link = Arc::clone(self.sender.link());
        // Hooks are user code, so the attempt is polled outside the lock.
        let Some(mut progress) = link.take_attempt() else {
            let lost = || Error::new(ErrorKind::Other, "a panic in a hook has ended the session");
            self.end((!link.is_ended()).then(lost));
            return Poll::Ready(None);
        };
        if progress.poll_delay(cx).is_ready() {
            progress = match progress {
                RunningAttempt::Waiting(timer, attempt) => {
                    drop(timer);
                    self.begin(attempt)
                }
                running @ RunningAttempt::Running(..) => running,
            };
        }
        let mut opened = None;
        if let RunningAttempt::Running(future, attempt) = &mut progress {
            if let Poll::Ready(result) = future.as_mut().poll(cx) {
                opened = Some((result, *attempt));
            }
        }
        match opened {
            None if link.put_attempt(progress, cx) => Poll::Pending,
            None => {
                self.end(None);
                Poll::Ready(None)
            }
            Some((Ok(session), attempt)) => Poll::Ready(self.opened(session, attempt)),
            Some((Err(failure), _)) => Poll::Ready(self.failed(failure)),
        }
    }

    fn begin(&self, attempt: Attempt) -> RunningAttempt {
        let number = attempt.number;
        trace::connecting(&self.plan.engine, number);
        // If the session has ended meanwhile, `put_attempt` drops the attempt.
        self.sender.link().advance(
            LinkPhase::Down(None),
            State::Connecting { attempt: number },
            None,
        );
        RunningAttempt::begin(&self.plan.recipe, &self.plan.runtime, attempt)
    }

    fn opened(&mut self, session: Session, attempt: u32) -> Option<Event> {
        let phase = LinkPhase::Open(session.outgoing());
        if !self.sender.link().advance(phase, State::Connected, None) {
            self.end(None);
            return None;
        }
        trace::connected(&self.plan.engine, attempt);
        let since = self.plan.runtime.now();
        self.stage = ReconnectStage::Open { session: Box::new(session), since };
        Some(Event::Connected(Connected { attempt }))
    }

    fn failed(&mut self, failure: Failure) -> Option<Event> {
        let should_retry = self.plan.should_retry_attempt(&failure);
        let error = failure.error().clone();
        if should_retry {
            let is_first = matches!(self.stage, ReconnectStage::Trying { first: true });
            return self.retry(error, is_first);
        }
        self.end(Some(error));
        None
    }

    fn end(&mut self, error: Option<Error>) {
        // A session that was closed between two connections has ended already without a report.
        trace::ended(&self.plan.engine, error.as_ref());
        drop(self.sender.link().end());
        self.stage = ReconnectStage::Ended { error, told: false };
    }
}

impl Stream for ReconnectingSession {
    type Item = Result<Event>;

    /// Like [`receive`](ReconnectingSession::receive), but an error occurs once and ends the stream.
    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if let ReconnectStage::Ended { told: true, .. } = self.stage {
            return Poll::Ready(None);
        }
        self.poll_event(cx).map(Result::transpose)
    }
}

impl Drop for ReconnectingSession {
    fn drop(&mut self) {
        // A sender that waits in `send` holds a half, which would keep the connection open.
        if let Some(outgoing) = self.sender.link().end() {
            outgoing.abandon();
        }
        if !matches!(self.stage, ReconnectStage::Ended { .. }) {
            trace::ended(&self.plan.engine, None);
        }
    }
}

impl fmt::Debug for ReconnectingSession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReconnectingSession")
            .field("engine", &self.plan.engine)
            .field("state", &self.state())
            .field("outcome", &self.outcome())
            .finish_non_exhaustive()
    }
}

const _: () = {
    const fn send_sync<T: Send + Sync>() {}
    send_sync::<Sender>();
    send_sync::<States>();
    send_sync::<ReconnectingSession>();
};
