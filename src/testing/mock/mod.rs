//! An engine without a network, for the tests of programs.

mod describe;
mod engine;
mod log;
mod peer;
mod reply;
mod request;
mod route;
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
use http::Method;

pub use peer::MockPeer;
pub use reply::Reply;
pub use request::MockRequest;
pub use route::{MockRoute, MockWebSocket};
pub use script::Script;

use super::{Clock, worker::lock};
use log::Log;
use route::{Answer, Place, Route};

/// An engine in memory, for the tests of programs that use this crate: it answers what the test says, with any
/// fault that a network has, on a clock that the test moves.
///
/// Everything above the engine is the real thing: the client, redirects, cookies, sessions, keepalive, limits. A
/// clone is the same mock: give one to [`HttpClient::new`](crate::HttpClient::new) and keep one.
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
/// mock.assert_done(); // everything that was expected has happened, and nothing else
/// # Ok::<(), drivetrain::Error>(())
/// ```
///
/// | to | use |
/// |---|---|
/// | answer requests | [`on`](Self::on), [`with_http`](Self::with_http), with a [`Reply`] |
/// | open WebSockets, refuse them | [`web_socket`](Self::web_socket), with a [`Script`], a handler, or by hand: [`accept`](Self::accept) |
/// | move time | [`clock`](Self::clock): [`Clock::advance`] |
/// | see what was sent | [`requests`](Self::requests) |
/// | know that all has happened | [`assert_done`](Self::assert_done), [`verify`](Self::verify) |
/// | test without a capability | [`missing`](Self::missing) |
///
/// **Routes** are asked in the order in which they were made; the first that matches and is not used up answers. A
/// request that nothing matches fails with an error that names it, and fails `assert_done`.
///
/// **Time stands still.** Whatever waits for time (a close timeout, a handshake timeout, a back-off, a session that
/// nobody receives from while somebody waits for its end) waits until the test moves the clock; see [`Clock`] for
/// who polls what.
///
/// **In memory** there is no TLS and no proxy: `https` and `wss` are answered as `http` and `ws` are, and what needs
/// a socket is [refused by name](crate::Capability), as by every engine. Responses are HTTP/1.1.
pub struct MockEngine {
    shared: Arc<Shared>,
    /// Counts the values that can be asked for something; gone when this one is dropped.
    handle: Option<Arc<()>>,
}

struct Shared {
    clock: Clock,
    log: Log,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    routes: Vec<Route>,
    requests: Vec<MockRequest>,
    /// Open, and not accepted by the test yet.
    waiting: VecDeque<MockPeer>,
    acceptors: Vec<Waker>,
    ping_interval: Option<Duration>,
    missing: Vec<(Capability, Cow<'static, str>)>,
    problem: Option<Error>,
}

impl MockEngine {
    /// A mock that answers nothing yet, on a clock of its own.
    pub fn new() -> Self {
        Self::with_clock(Clock::new())
    }

    /// The same on this clock, which several mocks may share.
    pub fn with_clock(clock: Clock) -> Self {
        let shared = Shared { clock, log: Log::default(), state: Mutex::default() };
        Self { shared: Arc::new(shared), handle: Some(Arc::new(())) }
    }

    /// A mock that answers every HTTP request with what the closure makes of it. Routes that are made later come
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
        mock.add(Place::everything(), Answer::Respond(route::erased(handler)));
        mock
    }

    /// Sets the engine-level ping interval, which wins over that of the `WebSockets` plugin. Default: not set. Zero
    /// is refused when the client is built.
    #[must_use]
    pub fn ping_interval(self, interval: Duration) -> Self {
        self.state(|state| state.ping_interval = Some(interval));
        self
    }

    /// Pretends that a capability is missing, for this reason, to test what a program does without it.
    ///
    /// *Send fragments* and *batched writes* cannot be pretended away: that is refused when the client is built.
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
        let is_offered = engine::offers(capability).is_offered();
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

    /// Begins an answer to requests with this method at this place.
    ///
    /// The place is a path (`/users`; the query may be any), a path with a query (`/users?page=2`), or either with
    /// scheme and host before it (`https://example.com/users`); a `*` at the end stands for anything, and `*`
    /// alone for every place. One that can match nothing is refused when the client is built.
    pub fn on(&self, method: Method, place: &str) -> MockRoute<'_> {
        MockRoute::new(self, method, place)
    }

    /// Begins an answer to handshakes at this place, which is written as for [`on`](Self::on); `ws` and `wss` mean
    /// `http` and `https`.
    pub fn web_socket(&self, place: &str) -> MockWebSocket<'_> {
        MockWebSocket::new(self, place)
    }

    /// The clock of everything that the client and its sessions do.
    pub fn clock(&self) -> &Clock {
        &self.shared.clock
    }

    /// All requests and handshakes so far, in the order of their coming, also those that nothing matched.
    pub fn requests(&self) -> Vec<MockRequest> {
        self.state(|state| state.requests.clone())
    }

    /// The other end of the next WebSocket that was opened by a route with [`open`](MockWebSocket::open).
    ///
    /// # Errors
    /// [`ErrorKind::Closed`] if none can come any more: all clients of this mock are gone, and so are its other
    /// clones.
    ///
    /// # Cancel safety
    /// Safe: a dropped future loses nothing.
    pub async fn accept(&self) -> Result<MockPeer> {
        poll_fn(|cx| self.poll_accept(cx)).await
    }

    /// Whether everything that was expected has happened, and nothing else: each route was asked for as often as
    /// it said, nothing came that no route matched, and no script or handler has failed or is waiting for more.
    ///
    /// # Errors
    /// [`ErrorKind::Other`], with one line for each thing that is wrong.
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
    /// If something is wrong, saying what.
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
            state.acceptors.push(cx.waker().clone());
            Poll::Pending
        })
    }

    fn add(&self, place: Place, answer: Answer) {
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
        missing.map_or_else(|| engine::offers(capability), Support::Missing)
    }

    fn state<T>(&self, f: impl FnOnce(&mut State) -> T) -> T {
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
        // Who accepts may be waiting in vain now.
        let acceptors = self.state(|state| std::mem::take(&mut state.acceptors));
        acceptors.into_iter().for_each(Waker::wake);
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
