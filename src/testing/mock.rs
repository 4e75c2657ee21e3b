//! An engine without a network, for tests of programs.

mod describe;
mod engine;
mod log;
mod offers;
mod peer;
mod reply;
mod request;
mod route;
mod route_builder;
mod script;

use std::{
    borrow::Cow,
    collections::VecDeque,
    fmt,
    future::{Future, poll_fn},
    sync::{Arc, Mutex},
    task::{Context, Poll, Waker},
    time::Duration,
};

use drivetrain_engine::{Capability, Error, ErrorKind, Requirement, Result, Support};
use drivetrain_session::wake_all;

pub use peer::MockPeer;
pub use reply::Reply;
pub use request::MockRequest;
pub use route_builder::{MockRoute, MockWebSocket};
pub use script::Script;

use super::{Clock, worker::lock};
use log::Log;
use offers::offers;
use route::{Route, RouteAnswer, RoutePattern};

/// An engine in memory, for tests of programs that use this crate. It plays the test's responses, with any
/// network fault, on a clock that the test moves.
///
/// Everything above the engine is real: client, redirects, cookies, sessions, keepalive, limits. A
/// clone is the same mock: pass one to [`HttpClient::new`](crate::HttpClient::new) and keep one.
///
/// ```
/// use drivetrain::{HttpClient, http::Method, testing::{MockEngine, Script}};
///
/// let mock = MockEngine::new();
/// mock.on(Method::GET, "/users").respond(r#"["ann", "bob"]"#);
/// mock.web_socket("/chat").script(Script::new().expect("hi").send("ho").expect_close());
///
/// let client = HttpClient::new(mock.clone());
/// mock.clock().block_on(async { // or any executor: #[tokio::test], smol::block_on, ..
///     let users = client.get("https://example.com/users").send().await?.text().await?;
///     assert_eq!(users, r#"["ann", "bob"]"#);
///     client.web_socket("wss://example.com/chat").run(async |session| {
///         session.send("hi").await?;
///         assert_eq!(session.receive().await?.unwrap().read_text(), Some("ho"));
///         Ok(())
///     }).await
/// })?;
/// assert_eq!(mock.requests()[0].path(), "/users");
/// mock.assert_done(); // all expected calls have happened, and no others
/// # Ok::<(), drivetrain::Error>(())
/// ```
///
/// | to | use |
/// |---|---|
/// | answer requests | [`on`](Self::on), [`with_http`](Self::with_http), with a [`Reply`] |
/// | open WebSockets, refuse them | [`web_socket`](Self::web_socket), with a [`Script`], a handler, or by hand: [`accept`](Self::accept) |
/// | move time | [`clock`](Self::clock): [`Clock::advance`] |
/// | see what was sent | [`requests`](Self::requests) |
/// | check that all expected calls have happened | [`assert_done`](Self::assert_done), [`verify`](Self::verify) |
/// | test without a capability | [`missing`](Self::missing) |
///
/// **Routes** are tried in the order of their creation. The first matching route with remaining uses answers. A
/// request without a matching route fails with an error that names the request, and fails `assert_done`.
///
/// **Time stands still.** Every wait for time (close timeout, handshake timeout, backoff, read-ahead of a session
/// without a receiver) lasts until the test moves the clock. [`Clock`] describes
/// the polling of tasks.
///
/// **In memory** there is no TLS and no proxy: `https` and `wss` work like `http` and `ws`. Options that need
/// a socket are [refused by name](crate::Capability), as on every engine. Responses are HTTP/1.1.
pub struct MockEngine {
    shared: Arc<MockShared>,
    /// Counts the handles of the mock.
    handle: Option<Arc<()>>,
}

struct MockShared {
    clock: Clock,
    log: Log,
    state: Mutex<MockState>,
}

#[derive(Default)]
struct MockState {
    routes: Vec<Route>,
    requests: Vec<MockRequest>,
    /// Open WebSockets that the test has not accepted yet.
    waiting: VecDeque<MockPeer>,
    acceptors: Vec<Waker>,
    ping_interval: Option<Duration>,
    missing: Vec<(Capability, Cow<'static, str>)>,
    problem: Option<Error>,
}

impl MockEngine {
    /// A mock without routes, on its own clock.
    pub fn new() -> Self {
        Self::with_clock(Clock::new())
    }

    /// A mock on this clock, which several mocks may share.
    pub fn with_clock(clock: Clock) -> Self {
        let shared = MockShared { clock, log: Log::default(), state: Mutex::default() };
        Self { shared: Arc::new(shared), handle: Some(Arc::new(())) }
    }

    /// A mock that answers every HTTP request with the closure's reply. Later routes come
    /// after it; WebSockets need routes.
    ///
    /// ```
    /// use drivetrain::{HttpClient, http::StatusCode, testing::{MockEngine, Reply}};
    ///
    /// let mock = MockEngine::with_http(|request| async move {
    ///     match request.path() {
    ///         "/" => Reply::from("hello"),
    ///         _ => Reply::new(StatusCode::NOT_FOUND),
    ///     }
    /// });
    /// let client = HttpClient::new(mock);
    /// ```
    pub fn with_http<F, Fut>(handler: F) -> Self
    where
        F: Fn(MockRequest) -> Fut + Send + Sync + 'static,
        Fut: Future<Output: Into<Reply>> + Send + 'static,
    {
        let mock = Self::new();
        mock.add(RoutePattern::everything(), RouteAnswer::Respond(route::erased(handler)));
        mock
    }

    /// Sets the engine-level ping interval, which wins over that of the `WebSockets` plugin. Default: not set. Zero
    /// is refused when the client is built.
    #[must_use]
    pub fn ping_interval(self, interval: Duration) -> Self {
        self.state(|state| state.ping_interval = Some(interval));
        self
    }

    /// Removes a capability, with this reason, to test a program without it.
    ///
    /// *Send fragments* and *batched writes* cannot be removed: `build()` refuses this.
    ///
    /// ```
    /// use drivetrain::{Capability, ErrorKind, HttpClient, testing::MockEngine};
    ///
    /// let mock = MockEngine::new().missing(Capability::RawSessions, "as on the engine of our product");
    /// mock.web_socket("/").optional().open();
    /// let client = HttpClient::new(mock.clone());
    /// let refused = mock.clock().block_on(client.web_socket("ws://example.com/").connect_raw());
    /// assert_eq!(refused.unwrap_err().capability(), Some(Capability::RawSessions));
    /// ```
    #[must_use]
    pub fn missing(self, capability: Capability, reason: impl Into<Cow<'static, str>>) -> Self {
        let is_offered = offers(capability).is_offered();
        let is_behaviour = capability.requirement() == Requirement::Behaviour;
        self.state(|state| {
            if is_offered && is_behaviour && capability != Capability::HandshakeResponse {
                let message = format!("a mock cannot pretend that {capability} is missing");
                state.problem = Some(Error::new(ErrorKind::InvalidInput, message));
            }
            state.missing.push((capability, reason.into()));
        });
        self
    }

    /// The clock of the client and its sessions.
    pub fn clock(&self) -> &Clock {
        &self.shared.clock
    }

    /// All requests and handshakes so far, in order, also those without a matching route.
    pub fn requests(&self) -> Vec<MockRequest> {
        self.state(|state| state.requests.clone())
    }

    /// The peer of the next WebSocket that a route with [`open`](MockWebSocket::open) has opened.
    ///
    /// # Errors
    /// [`ErrorKind::Closed`] if no further WebSocket can open: all clients of this mock are gone, and so are its other
    /// clones.
    ///
    /// # Cancel safety
    /// Safe: a dropped future loses nothing.
    pub async fn accept(&self) -> Result<MockPeer> {
        poll_fn(|cx| self.poll_accept(cx)).await
    }

    /// Checks that all expected calls have happened, and no others: each route has answered as often as
    /// configured, every request had a route, and no script or handler has failed or is unfinished.
    ///
    /// # Errors
    /// [`ErrorKind::Other`], with one line per problem.
    pub fn verify(&self) -> Result<()> {
        self.clock().settle_tasks();
        let mut problems = self.shared.log.problems();
        problems.extend(
            self.state(|state| state.routes.iter().filter_map(Route::missing).collect::<Vec<_>>()),
        );
        if problems.is_empty() {
            return Ok(());
        }
        Err(Error::new(ErrorKind::Other, problems.join("\n")))
    }

    /// [`verify`](Self::verify), as an assertion.
    ///
    /// # Panics
    /// If a check fails, with the list of problems.
    #[track_caller]
    pub fn assert_done(&self) {
        if let Err(error) = self.verify() {
            panic!("the mock was not used as expected:\n{error}");
        }
    }

    fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<Result<MockPeer>> {
        self.state(|state| {
            if let Some(peer) = state.waiting.pop_front() {
                return Poll::Ready(Ok(peer));
            }
            if self.handle.as_ref().is_none_or(|handle| Arc::strong_count(handle) < 2) {
                let message = "no WebSocket can be opened any more: no client has this mock";
                return Poll::Ready(Err(Error::new(ErrorKind::Closed, message)));
            }
            if !state.acceptors.iter().any(|known| known.will_wake(cx.waker())) {
                state.acceptors.push(cx.waker().clone());
            }
            Poll::Pending
        })
    }

    fn add(&self, place: RoutePattern, answer: RouteAnswer) {
        self.state(|state| {
            if let Err(error) = place.check() {
                state.problem = Some(error);
            }
            state.routes.push(Route { place, hits: 0, answer });
        });
    }

    fn support_of(&self, capability: Capability) -> Support {
        let missing = self.state(|state| {
            let mut missing = state.missing.iter();
            missing.find(|(which, _)| *which == capability).map(|(_, reason)| reason.clone())
        });
        missing.map_or_else(|| offers(capability), Support::Missing)
    }

    fn state<T>(&self, f: impl FnOnce(&mut MockState) -> T) -> T {
        f(&mut lock(&self.shared.state))
    }
}

impl Default for MockEngine {
    fn default() -> Self {
        Self::new()
    }
}

impl Clone for MockEngine {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared), handle: self.handle.clone() }
    }
}

impl Drop for MockEngine {
    fn drop(&mut self) {
        self.handle = None;
        // A pending `accept` may have to fail now.
        let acceptors = self.state(|state| std::mem::take(&mut state.acceptors));
        wake_all(acceptors);
    }
}

impl fmt::Debug for MockEngine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let routes: Vec<_> = self.state(|state| {
            state.routes.iter().map(|route| format!("{route} ({} hits)", route.hits)).collect()
        });
        f.debug_struct("MockEngine")
            .field("clock", &self.shared.clock)
            .field("routes", &routes)
            .finish_non_exhaustive()
    }
}
