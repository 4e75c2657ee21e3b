//! What a reconnecting session is to be like.

use std::{fmt, future::Future, pin::Pin, sync::Arc, time::Duration};

use drivetrain_engine::{Error, ErrorKind, Result};

use super::{
    Attempt, Backoff, Event, ReconnectingSession,
    attempt::Recipe,
    backoff::Tries,
    plan::{Decides, Plan},
};
use crate::{Session, WebSocketRequest};

/// A [`ReconnectingSession`] to open.
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

impl ReconnectRequest {
    pub(crate) fn new(request: WebSocketRequest, backoff: Backoff) -> Self {
        let recipe = Recipe {
            request,
            prepare: None,
            opened: None,
            timeout: Duration::from_secs(60),
            unconfirmed_capacity: 256 << 10,
        };
        Self { recipe, backoff, reconnect_if: None, retry_first: false, waits: false }
    }

    /// Called before each handshake, the first among them, with the request as it was given: the place for
    /// a fresh token, a header or a query. What it returns is connected: the same request with more, or
    /// another one. If it fails, the try has failed: see [`ReconnectingSession`].
    pub fn on_connect<F, Fut>(mut self, hook: F) -> Self
    where
        F: Fn(Attempt, WebSocketRequest) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<WebSocketRequest>> + Send + 'static,
    {
        self.recipe.prepare =
            Some(Box::new(move |attempt, request| Box::pin(hook(attempt, request))));
        self
    }

    /// Called on each connection, the first among them, before any other message passes: the place to
    /// authenticate and to subscribe. If it fails, the connection is dropped and the try has failed: see
    /// [`ReconnectingSession`]. What it does not receive is received after it.
    ///
    /// What it sends it sends on each connection, and so it is not reported if it is lost.
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

    /// Decides whether the end of a connection, or the failure of a try, is worth another try. The peer's
    /// Close is [`Error::close_reason`], a refusal [`Error::response`]. Not asked after this end has closed.
    /// Default: [`Error::is_transient`], and for what a hook fails with see [`ReconnectingSession`].
    pub fn reconnect_if(
        mut self,
        decides: impl Fn(&Error) -> bool + Send + Sync + 'static,
    ) -> Self {
        self.reconnect_if = Some(Box::new(decides));
        self
    }

    /// Whether the first connection of all is tried again too. Default: no, its failure is that of
    /// [`connect`](Self::connect), so that a wrong URL is seen at once.
    pub fn retry_first(mut self, retry: bool) -> Self {
        self.retry_first = retry;
        self
    }

    /// Whether `send` and `feed` wait while there is no connection, instead of failing. For tasks that do
    /// nothing but send: one that also receives would wait for itself. Default: no.
    pub fn wait_while_disconnected(mut self, wait: bool) -> Self {
        self.waits = wait;
        self
    }

    /// How long one try may take, its hooks included. Default: 60 s.
    pub fn try_timeout(mut self, timeout: Duration) -> Self {
        self.recipe.timeout = timeout;
        self
    }

    /// How many bytes of messages that may have arrived are kept, to be reported as frames if they are not
    /// confirmed; of older ones only the number is reported. Zero keeps none. A message costs some bytes more
    /// than its payload. What was not sent is always kept, which
    /// [`outgoing_capacity`](WebSocketRequest::outgoing_capacity) limits. Default: 256 KiB.
    pub fn unconfirmed_capacity(mut self, bytes: usize) -> Self {
        self.recipe.unconfirmed_capacity = bytes;
        self
    }

    /// Opens the session.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] for a [`Backoff`] or a timeout that cannot work, before any I/O. Those of
    /// [`WebSocketRequest::connect`], and of the hooks; if [`retry_first`](Self::retry_first) is set, when the
    /// last try has failed.
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
                // It is known by the state, and by `tracing`.
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
