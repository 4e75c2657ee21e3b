//! The configuration of a reconnecting session.

use std::{fmt, future::Future, pin::Pin, sync::Arc, time::Duration};

use drivetrain_engine::{Error, ErrorKind, Result};
use drivetrain_session::Session;

use super::{
    Attempt, Backoff, Event, ReconnectingSession,
    attempt::Recipe,
    backoff::Tries,
    plan::{Decides, Plan},
};
use crate::web_socket::WebSocketRequest;

/// A [`ReconnectingSession`] that is not yet open.
///
/// Made by [`WebSocketRequest::reconnect`]. Nothing happens until [`connect`](Self::connect) is awaited.
///
/// # Example
/// ```no_run
/// # async fn token(_renew: bool) -> drivetrain::Result<String> { Ok(String::new()) }
/// # async fn example(client: drivetrain::HttpClient) -> drivetrain::Result<()> {
/// use drivetrain::{Error, reconnect::Backoff};
///
/// let is_401 = |error: &Error| error.response().is_some_and(|response| response.status() == 401);
/// let session = client
///     .web_socket("wss://example.com/feed")
///     .reconnect(Backoff::new().max_tries(None))
///     .reconnect_if(move |error| error.is_transient() || is_401(error))
///     .on_connect(move |attempt, request| async move {
///         let renew = attempt.error.as_ref().is_some_and(is_401);
///         Ok(request.bearer_auth(token(renew).await?))
///     })
///     .on_open(|session| Box::pin(async move { session.send("subscribe: news").await }))
///     .connect()
///     .await?;
/// # Ok(()) }
/// ```
#[must_use = "nothing happens until it is connected"]
pub struct ReconnectRequest {
    recipe: Recipe,
    backoff: Backoff,
    reconnect_if: Option<Box<Decides>>,
    retry_first: bool,
    waits: bool,
}

impl WebSocketRequest {
    /// Makes the session reconnect when its connection is lost: see [`reconnect`](crate::reconnect).
    pub fn reconnect(self, backoff: Backoff) -> ReconnectRequest {
        ReconnectRequest::new(self, backoff)
    }
}

impl ReconnectRequest {
    pub(crate) fn new(request: WebSocketRequest, backoff: Backoff) -> Self {
        let recipe = Recipe {
            request,
            prepare: None,
            opened: None,
            timeout: Duration::from_secs(60),
            unacknowledged_capacity: 256 << 10,
        };
        Self { recipe, backoff, reconnect_if: None, retry_first: false, waits: false }
    }

    /// Calls the hook before each handshake, including the first, with the original request. Use it to add a fresh
    /// token, a header or a query. The session connects with the returned request. An error fails the attempt: see
    /// [`ReconnectingSession`].
    pub fn on_connect<F, Fut>(mut self, hook: F) -> Self
    where
        F: Fn(Attempt, WebSocketRequest) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<WebSocketRequest>> + Send + 'static,
    {
        self.recipe.prepare =
            Some(Box::new(move |attempt, request| Box::pin(hook(attempt, request))));
        self
    }

    /// Calls the hook on each connection, including the first, before any other message. Use it to authenticate and to
    /// subscribe. An error drops the connection and fails the attempt: see [`ReconnectingSession`]. Messages that the
    /// hook does not receive stay in the session.
    ///
    /// The report of lost messages leaves out the hook's messages, because the hook sends them on each connection.
    pub fn on_open<F>(mut self, hook: F) -> Self
    where
        F: for<'a> Fn(&'a mut Session) -> Pin<Box<dyn Future<Output = Result<()>> + Send + 'a>>
            + Send
            + Sync
            + 'static,
    {
        self.recipe.opened = Some(Box::new(hook));
        self
    }

    /// Decides whether the end of a connection, or a failed attempt, deserves another attempt. The peer's Close is
    /// [`Error::close_reason`], a refusal is [`Error::response`]. Not called after this end has closed. Default:
    /// [`Error::is_transient`]; for errors of a hook see [`ReconnectingSession`].
    pub fn reconnect_if(
        mut self,
        decides: impl Fn(&Error) -> bool + Send + Sync + 'static,
    ) -> Self {
        self.reconnect_if = Some(Box::new(decides));
        self
    }

    /// Whether to retry the first connection too. Default: no, because its failure is usually a wrong URL;
    /// [`connect`](Self::connect) returns the error.
    pub fn retry_first(mut self, retry: bool) -> Self {
        self.retry_first = retry;
        self
    }

    /// Whether `send` and `feed` wait for a connection instead of failing. Use it for tasks that only send: a task that
    /// also receives would wait for itself. Default: no.
    pub fn wait_while_disconnected(mut self, wait: bool) -> Self {
        self.waits = wait;
        self
    }

    /// Time limit of one attempt, including hooks. Default: 60 s.
    pub fn try_timeout(mut self, timeout: Duration) -> Self {
        self.recipe.timeout = timeout;
        self
    }

    /// Capacity of the send log, in bytes. The session reports logged messages as frames, and older ones as a number.
    /// Zero keeps none. A message costs some bytes more than its payload. Unsent messages are always kept;
    /// [`outgoing_capacity`](WebSocketRequest::outgoing_capacity) limits them. Default: 256 KiB.
    pub fn unacknowledged_capacity(mut self, bytes: usize) -> Self {
        self.recipe.unacknowledged_capacity = bytes;
        self
    }

    /// Opens the session.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] for an impossible [`Backoff`] or timeout, before any I/O. Errors of
    /// [`WebSocketRequest::connect`] and of the hooks; with [`retry_first`](Self::retry_first), after the last attempt.
    ///
    /// # Cancel safety
    /// Dropped while pending, the attempt ends and everything is freed.
    pub async fn connect(self) -> Result<ReconnectingSession> {
        let Self { recipe, backoff, reconnect_if, retry_first, waits } = self;
        backoff.check()?;
        if recipe.timeout.is_zero() {
            let message = "a try_timeout of zero is not possible: Duration::MAX is none";
            return Err(Error::new(ErrorKind::InvalidInput, message));
        }
        let client = recipe.request.client();
        let (engine, runtime) = (client.engine_name().to_owned(), client.engine().runtime()?);
        let (recipe, tries) = (Arc::new(recipe), Tries::new(backoff));
        let plan = Plan { recipe, runtime, engine, reconnect_if, retry_first, tries };
        let mut session = ReconnectingSession::new(plan, waits);
        loop {
            match session.receive().await? {
                Some(Event::Connected(_)) => return Ok(session),
                // State and `tracing` report this event.
                Some(_) => {}
                None => {
                    let message = "the session was closed before it was open";
                    return Err(Error::new(ErrorKind::Closed, message));
                }
            }
        }
    }
}

impl fmt::Debug for ReconnectRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReconnectRequest")
            .field("request", &self.recipe.request)
            .field("backoff", &self.backoff)
            .field("retry_first", &self.retry_first)
            .field("wait_while_disconnected", &self.waits)
            .finish_non_exhaustive()
    }
}
