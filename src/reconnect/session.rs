//! The reconnecting session itself: what happens from one connection to the next.

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
    attempt::{Failure, Progress},
    backoff::Next,
    link::{Link, Phase},
    plan::{Plan, gave_up, why},
    retry_after::retry_after,
    trace,
};
use crate::Session;

/// A WebSocket session that connects again when its connection is lost.
///
/// Made by [`ReconnectRequest::connect`](super::ReconnectRequest::connect). What happens to messages in
/// flight is [the contract](super#the-contract-for-messages-in-flight) of the module.
///
/// | the connection | what comes of it |
/// |---|---|
/// | is lost, or times out; is closed by the peer with 1001, 1011, 1012, 1013 or 1014 | tries to connect again |
/// | is closed by the peer with another code, 1000 and 4000 to 4999 among them | the end |
/// | breaks a rule or a limit | the end |
/// | is closed by this end | the end |
///
/// | a try | what comes of it |
/// |---|---|
/// | does not get through or is not answered in time | the next try |
/// | is refused with 408, 425, 429 or 5xx (but 501 and 505) | the next try, after `Retry-After` if it says so |
/// | is refused otherwise; TLS fails | the end |
/// | fails in a hook | the next try, unless the error of the hook carries a refusal or an end of those above |
///
/// [`reconnect_if`](super::ReconnectRequest::reconnect_if) decides otherwise. Both lists are
/// [`Error::is_transient`].
///
/// Sending takes `&self`, and [`sender`](Self::sender) gives a half to other tasks; receiving takes
/// `&mut self`, and does the work. Dropping it ends the session at once, as dropping a
/// [`Session`](crate::Session) does, also in the middle of a try; nothing survives it.
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
///         // A line may come twice here, but none is missing.
///         Event::Disconnected(lost) => {
///             again = lost.unconfirmed.into_frames().chain(again).collect();
///         }
///         Event::Connected(_) => {
///             // It may be lost again meanwhile: what it does not accept stays here.
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
    stage: Stage,
    plan: Plan,
}

enum Stage {
    Open {
        session: Box<Session>,
        since: Instant,
    },
    /// The loss was told; what is next was not.
    Lost(Error),
    /// The link has the try.
    Trying {
        first: bool,
    },
    Ended {
        error: Option<Error>,
        told: bool,
    },
}

impl ReconnectingSession {
    /// Begins with the first try; it is made as soon as the session is received from.
    pub(super) fn new(plan: Plan, waits: bool) -> Self {
        let link = Arc::new(Link::new());
        let attempt = Attempt { number: 0, error: None };
        trace::connecting(&plan.engine, 0);
        let progress = Progress::begin(&plan.recipe, &plan.runtime, attempt);
        link.advance(Phase::Down(Some(progress)), State::Connecting { attempt: 0 }, None);
        Self { sender: Sender::new(link, waits), stage: Stage::Trying { first: true }, plan }
    }

    /// What happens next; `None` after the end, if it was a clean one, and again on later calls.
    ///
    /// # Errors
    /// The error of an end that was not clean, or of the last try, and again on later calls. Given up, it is
    /// of the kind of the last failure, which is its source.
    ///
    /// # Cancel safety
    /// Safe: a dropped future loses nothing, and a try goes on with the next one.
    pub fn receive(&mut self) -> impl Future<Output = Result<Option<Event>>> + Send + '_ {
        poll_fn(|cx| self.poll_event(cx))
    }

    /// Sends one message on the connection of the moment. See [`Sender::send`].
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
    /// Safe; writing goes on without it.
    pub async fn flush(&self) -> Result<()> {
        self.sender.flush().await
    }

    /// Ends the session for good. See [`Sender::close`].
    ///
    /// # Errors
    /// As for [`Sender::close`].
    ///
    /// # Cancel safety
    /// Once polled, closing goes on without the future.
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
            Stage::Open { session, .. } => Some(session),
            Stage::Lost(_) | Stage::Trying { .. } | Stage::Ended { .. } => None,
        }
    }

    /// How the latest connection ended; as it stands if it has not yet.
    pub fn outcome(&self) -> Outcome {
        self.connection().map_or_else(|| self.sender.link().outcome(), Session::outcome)
    }

    fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Event>>> {
        loop {
            let event = match &mut self.stage {
                Stage::Open { session, .. } => {
                    match ready!(Pin::new(session.incoming()).poll_next(cx)) {
                        Some(Ok(frame)) => Some(Event::Message(frame)),
                        Some(Err(error)) => self.disconnected(Some(error)),
                        None => self.disconnected(None),
                    }
                }
                Stage::Lost(error) => {
                    let error = error.clone();
                    self.retry(error, false)
                }
                Stage::Trying { .. } => ready!(self.poll_try(cx)),
                Stage::Ended { error, told } => {
                    *told = true;
                    return Poll::Ready(error.clone().map_or(Ok(None), Err));
                }
            };
            if event.is_some() {
                return Poll::Ready(Ok(event));
            }
        }
    }

    /// The connection has ended, with an error or not: what it leaves.
    fn disconnected(&mut self, error: Option<Error>) -> Option<Event> {
        let stage = mem::replace(&mut self.stage, Stage::Ended { error: None, told: false });
        let Stage::Open { session, since } = stage else { return None };
        let mut outcome = session.outcome();
        if outcome.error.is_none() {
            outcome.error = error; // a panic has left the session without an outcome
        }
        let lost = Disconnected {
            outcome,
            unconfirmed: session.take_unconfirmed(),
            stats: session.stats(),
        };
        self.plan.tries.lived(self.plan.runtime.now().saturating_since(since));
        trace::disconnected(&self.plan.engine, &lost.outcome, lost.unconfirmed.len());
        let (outcome, link) = (lost.outcome.clone(), self.sender.link());
        let error = why(&outcome);
        let is_wanted = !link.is_closing() && !session.closed_here();
        if is_wanted && self.plan.is_worth_a_try(&error) {
            link.advance(Phase::Down(None), State::Disconnected, Some(outcome));
            self.stage = Stage::Lost(error);
        } else {
            let error = outcome.error.clone().map(|error| error.with_outcome(outcome.clone()));
            link.advance(Phase::Down(None), State::Disconnected, Some(outcome));
            self.end(error);
        }
        Some(Event::Disconnected(Box::new(lost)))
    }

    /// Plans the next try, or gives up.
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
            Next::Try { attempt, delay } => (attempt, delay),
            Next::Enough(tries) => {
                self.end(Some(gave_up(format!("gave up after {tries} tries: {error}"), error)));
                return None;
            }
            Next::TooLong(delay) => {
                let message = format!("the server asks for a pause of {delay:?}: {error}");
                self.end(Some(gave_up(message, error)));
                return None;
            }
        };
        let of = self.plan.tries.most();
        let retrying = Retrying { attempt, of, delay, error: error.clone() };
        trace::retrying(&self.plan.engine, &retrying);
        let timer = self.plan.runtime.timer(self.plan.runtime.now() + delay);
        let next = Progress::Waiting(timer, Attempt { number: attempt, error: Some(error) });
        let state = State::Waiting { attempt, of, delay };
        // If the session has ended meanwhile, the next step sees it.
        self.sender.link().advance(Phase::Down(Some(next)), state, None);
        self.stage = Stage::Trying { first: is_first };
        Some(Event::Retrying(Box::new(retrying)))
    }

    /// Goes on with the try.
    fn poll_try(&mut self, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        let link = Arc::clone(self.sender.link());
        // It is taken out while it is polled: the hooks are the application's code.
        let Some(mut progress) = link.take_attempt() else {
            let lost = || Error::new(ErrorKind::Other, "a panic in a hook has ended the session");
            self.end((!link.is_ended()).then(lost));
            return Poll::Ready(None);
        };
        if progress.poll_delay(cx).is_ready() {
            progress = match progress {
                Progress::Waiting(timer, attempt) => {
                    drop(timer);
                    self.begin(attempt)
                }
                running @ Progress::Running(..) => running,
            };
        }
        let mut opened = None;
        if let Progress::Running(future, attempt) = &mut progress {
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

    fn begin(&self, attempt: Attempt) -> Progress {
        let number = attempt.number;
        trace::connecting(&self.plan.engine, number);
        // If the session has ended meanwhile, the try is dropped when it is put back.
        self.sender.link().advance(Phase::Down(None), State::Connecting { attempt: number }, None);
        Progress::begin(&self.plan.recipe, &self.plan.runtime, attempt)
    }

    fn opened(&mut self, session: Session, attempt: u32) -> Option<Event> {
        let phase = Phase::Open(session.outgoing());
        if !self.sender.link().advance(phase, State::Connected, None) {
            self.end(None);
            return None;
        }
        trace::connected(&self.plan.engine, attempt);
        let since = self.plan.runtime.now();
        self.stage = Stage::Open { session: Box::new(session), since };
        Some(Event::Connected(Connected { attempt }))
    }

    fn failed(&mut self, failure: Failure) -> Option<Event> {
        let is_worth_a_try = self.plan.may_be_repaired(&failure);
        let error = failure.error().clone();
        if is_worth_a_try {
            let is_first = matches!(self.stage, Stage::Trying { first: true });
            return self.retry(error, is_first);
        }
        self.end(Some(error));
        None
    }

    fn end(&mut self, error: Option<Error>) {
        // A session that was closed between two connections has ended already, untold.
        trace::ended(&self.plan.engine, error.as_ref());
        drop(self.sender.link().end());
        self.stage = Stage::Ended { error, told: false };
    }
}

impl Stream for ReconnectingSession {
    type Item = Result<Event>;

    /// As [`receive`](ReconnectingSession::receive), but an error comes once and is the end.
    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if let Stage::Ended { told: true, .. } = self.stage {
            return Poll::Ready(None);
        }
        self.poll_event(cx).map(Result::transpose)
    }
}

impl Drop for ReconnectingSession {
    fn drop(&mut self) {
        // A sender that waits in `send` holds a half: without this the connection would live on in it.
        if let Some(outgoing) = self.sender.link().end() {
            outgoing.abandon();
        }
        if !matches!(self.stage, Stage::Ended { .. }) {
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
