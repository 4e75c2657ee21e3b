//! Routes as a test writes them.

use std::{fmt, future::Future, sync::Arc, time::Duration};

use drivetrain_engine::Result;
use http::{HeaderMap, HeaderName, HeaderValue, Method, header};

use super::{
    MockEngine, MockPeer, MockRequest, Reply, Script,
    route::{Kind, Opening, RouteAnswer, RoutePattern, RoutePeer, always, erased},
};
use crate::target;

impl MockEngine {
    /// Starts a route for requests with this method at this place.
    ///
    /// The place is a path (`/users`, with any query), a path with a query (`/users?page=2`), or either with
    /// scheme and host (`https://example.com/users`). A `*` at the end matches anything, and `*`
    /// alone matches every place. `build()` refuses a place that can match no URL.
    pub fn on(&self, method: Method, place: &str) -> MockRoute<'_> {
        MockRoute::new(self, method, place)
    }

    /// Starts a route for handshakes at this place. Places are written as for [`on`](Self::on); `ws` and `wss` mean
    /// `http` and `https`.
    pub fn web_socket(&self, place: &str) -> MockWebSocket<'_> {
        MockWebSocket::new(self, place)
    }
}

/// A route for requests. Complete it with [`respond`](Self::respond) or
/// [`respond_with`](Self::respond_with). Made by [`MockEngine::on`].
#[must_use = "say what is answered: respond(..) or respond_with(..)"]
pub struct MockRoute<'a> {
    mock: &'a MockEngine,
    place: RoutePattern,
}

/// A route for handshakes. Complete it with [`script`](Self::script), [`open`](Self::open),
/// [`serve`](Self::serve) or [`respond`](Self::respond). Made by [`MockEngine::web_socket`].
#[must_use = "say what happens: script(..), open(), serve(..) or respond(..)"]
pub struct MockWebSocket<'a> {
    mock: &'a MockEngine,
    place: RoutePattern,
    opening: Opening,
}

impl<'a> MockRoute<'a> {
    fn new(mock: &'a MockEngine, method: Method, pattern: &str) -> Self {
        Self { mock, place: RoutePattern::new(Kind::Request(method), pattern) }
    }

    /// The expected number of requests. Later requests go to the next route. Default: any number,
    /// at least one.
    pub fn times(mut self, times: usize) -> Self {
        self.place.times = Some(times);
        self
    }

    /// Makes the route optional: no call is required.
    pub fn optional(mut self) -> Self {
        self.place.is_optional = true;
        self
    }

    /// Answers each request with this reply.
    pub fn respond(self, reply: impl Into<Reply>) {
        self.mock.add(self.place, RouteAnswer::Respond(always(reply.into())));
    }

    /// Answers each request with the closure's reply. A panic in the closure belongs to the request.
    pub fn respond_with<F, Fut>(self, handler: F)
    where
        F: Fn(MockRequest) -> Fut + Send + Sync + 'static,
        Fut: Future<Output: Into<Reply>> + Send + 'static,
    {
        self.mock.add(self.place, RouteAnswer::Respond(erased(handler)));
    }
}

impl<'a> MockWebSocket<'a> {
    fn new(mock: &'a MockEngine, pattern: &str) -> Self {
        let headers = HeaderMap::new();
        let opening = Opening { headers, after: Duration::ZERO, automatic: true, problem: None };
        Self { mock, place: RoutePattern::new(Kind::Handshake, pattern), opening }
    }

    /// The expected number of handshakes. Later handshakes go to the next route. Default: any number,
    /// at least one.
    pub fn times(mut self, times: usize) -> Self {
        self.place.times = Some(times);
        self
    }

    /// Makes the route optional: no call is required.
    pub fn optional(mut self) -> Self {
        self.place.is_optional = true;
        self
    }

    /// Selects a subprotocol. One that the client has not offered fails the handshake, as on every engine.
    /// Default: none.
    pub fn subprotocol(self, name: &str) -> Self {
        self.header(header::SEC_WEBSOCKET_PROTOCOL, name)
    }

    /// Selects an extension, with its parameters as in the header. One that the client has not offered
    /// fails the handshake, as on every engine. Default: none.
    pub fn extension(self, chosen: &str) -> Self {
        self.header(header::SEC_WEBSOCKET_EXTENSIONS, chosen)
    }

    /// Adds a header to the 101, or replaces one, for example `Sec-WebSocket-Accept` by a wrong value. An
    /// invalid header fails the handshake with [`ErrorKind::InvalidInput`](drivetrain_engine::ErrorKind::InvalidInput).
    pub fn header(
        mut self,
        name: impl TryInto<HeaderName, Error: Into<http::Error>>,
        value: impl TryInto<HeaderValue, Error: Into<http::Error>>,
    ) -> Self {
        match target::header(name, value) {
            Ok((name, value)) => {
                self.opening.headers.append(name, value);
            }
            Err(error) => self.opening.problem = Some(error),
        }
        self
    }

    /// Delays the 101 by this time on the mock's clock.
    pub fn after(mut self, delay: Duration) -> Self {
        self.opening.after = delay;
        self
    }

    /// Switches off the peer's automatic answers: see [`MockPeer::set_automatic`].
    pub fn silent(mut self) -> Self {
        self.opening.automatic = false;
        self
    }

    /// Opens each WebSocket with a scripted peer.
    pub fn script(self, script: Script) {
        self.opens(RoutePeer::Script(script));
    }

    /// Opens each WebSocket. [`MockEngine::accept`] returns the peer.
    pub fn open(self) {
        self.opens(RoutePeer::Test);
    }

    /// Opens each WebSocket with a handler as its peer. The handler's error or panic fails the client's session and
    /// [`assert_done`](MockEngine::assert_done).
    pub fn serve<F, Fut>(self, handler: F)
    where
        F: Fn(MockPeer) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<()>> + Send + 'static,
    {
        self.opens(RoutePeer::Handler(Arc::new(move |peer| Box::pin(handler(peer)))));
    }

    /// Refuses each handshake with this reply: a 401, a redirect, a 503, or a failure. A reply with status 101 opens
    /// nothing and fails with [`ErrorKind::InvalidInput`](drivetrain_engine::ErrorKind::InvalidInput).
    pub fn respond(self, reply: impl Into<Reply>) {
        self.mock.add(self.place, RouteAnswer::Respond(always(reply.into())));
    }

    fn opens(self, end: RoutePeer) {
        self.mock.add(self.place, RouteAnswer::Open(self.opening, end));
    }
}

impl fmt::Debug for MockRoute<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MockRoute").field("place", &self.place).finish_non_exhaustive()
    }
}

impl fmt::Debug for MockWebSocket<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MockWebSocket").field("place", &self.place).finish_non_exhaustive()
    }
}
