//! What the mock answers to what.

use std::{fmt, future::Future, pin::Pin, sync::Arc, time::Duration};

use drivetrain_engine::{Error, ErrorKind, Result};
use http::{HeaderMap, HeaderName, HeaderValue, Method, header};

use super::{MockEngine, MockPeer, MockRequest, Reply, Script};
use crate::target;

/// An answer to some requests, to be said with [`respond`](Self::respond) or
/// [`respond_with`](Self::respond_with). Made by [`MockEngine::on`].
#[must_use = "say what is answered: respond(..) or respond_with(..)"]
pub struct MockRoute<'a> {
    mock: &'a MockEngine,
    place: Place,
}

/// A WebSocket to open or to refuse, to be said with [`script`](Self::script), [`open`](Self::open),
/// [`serve`](Self::serve) or [`respond`](Self::respond). Made by [`MockEngine::web_socket`].
#[must_use = "say what happens: script(..), open(), serve(..) or respond(..)"]
pub struct MockWebSocket<'a> {
    mock: &'a MockEngine,
    place: Place,
    opening: Opening,
}

/// Which requests are meant, and how many.
#[derive(Debug)]
pub(super) struct Place {
    kind: Kind,
    pattern: String,
    times: Option<usize>,
    is_optional: bool,
}

#[derive(Debug)]
enum Kind {
    Request(Method),
    AnyRequest,
    Handshake,
}

/// The head of the 101.
#[derive(Clone, Debug)]
pub(super) struct Opening {
    pub(super) headers: HeaderMap,
    pub(super) after: Duration,
    pub(super) automatic: bool,
    pub(super) problem: Option<Error>,
}

pub(super) struct Route {
    pub(super) place: Place,
    pub(super) hits: usize,
    pub(super) answer: Answer,
}

#[derive(Clone)]
pub(super) enum Answer {
    Respond(Handler),
    Open(Opening, End),
}

/// Who is at the other end.
#[derive(Clone)]
pub(super) enum End {
    Script(Script),
    Test,
    Handler(PeerHandler),
}

type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;
pub(super) type Handler = Arc<dyn Fn(MockRequest) -> BoxFuture<Reply> + Send + Sync>;
pub(super) type PeerHandler = Arc<dyn Fn(MockPeer) -> BoxFuture<Result<()>> + Send + Sync>;

impl<'a> MockRoute<'a> {
    pub(super) fn new(mock: &'a MockEngine, method: Method, pattern: &str) -> Self {
        Self { mock, place: Place::new(Kind::Request(method), pattern) }
    }

    /// How many requests are answered, and have to come; those after it go to the next route. Default: any number,
    /// but one has to come.
    pub fn times(mut self, times: usize) -> Self {
        self.place.times = Some(times);
        self
    }

    /// None has to come.
    pub fn optional(mut self) -> Self {
        self.place.is_optional = true;
        self
    }

    /// Answers each with this reply.
    pub fn respond(self, reply: impl Into<Reply>) {
        self.mock.add(self.place, Answer::Respond(always(reply.into())));
    }

    /// Answers each with what the closure makes of it. A panic in there is the request's own.
    pub fn respond_with<F, Fut>(self, handler: F)
    where
        F: Fn(MockRequest) -> Fut + Send + Sync + 'static,
        Fut: Future<Output: Into<Reply>> + Send + 'static,
    {
        self.mock.add(self.place, Answer::Respond(erased(handler)));
    }
}

impl<'a> MockWebSocket<'a> {
    pub(super) fn new(mock: &'a MockEngine, pattern: &str) -> Self {
        let headers = HeaderMap::new();
        let opening = Opening { headers, after: Duration::ZERO, automatic: true, problem: None };
        Self { mock, place: Place::new(Kind::Handshake, pattern), opening }
    }

    /// How many handshakes are answered, and have to come; those after it go to the next route. Default: any number,
    /// but one has to come.
    pub fn times(mut self, times: usize) -> Self {
        self.place.times = Some(times);
        self
    }

    /// None has to come.
    pub fn optional(mut self) -> Self {
        self.place.is_optional = true;
        self
    }

    /// Chooses a subprotocol. One that the client has not offered fails its handshake, as on every engine.
    /// Default: none is chosen.
    pub fn subprotocol(self, name: &str) -> Self {
        self.header(header::SEC_WEBSOCKET_PROTOCOL, name)
    }

    /// Chooses an extension, with its parameters as they stand in the header. One that the client has not offered
    /// fails its handshake, as on every engine. Default: none is chosen.
    pub fn extension(self, chosen: &str) -> Self {
        self.header(header::SEC_WEBSOCKET_EXTENSIONS, chosen)
    }

    /// Adds a header to the 101, or replaces one of its own, such as `Sec-WebSocket-Accept` by a wrong one. One
    /// that is not valid makes the handshake fail with [`ErrorKind::InvalidInput`].
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

    /// Lets some time pass on the mock's clock before the 101.
    pub fn after(mut self, delay: Duration) -> Self {
        self.opening.after = delay;
        self
    }

    /// The peer does nothing by itself: see [`MockPeer::set_automatic`].
    pub fn silent(mut self) -> Self {
        self.opening.automatic = false;
        self
    }

    /// Opens each, and plays a script at its other end.
    pub fn script(self, script: Script) {
        self.opens(End::Script(script));
    }

    /// Opens each at once, and leaves its other end to [`MockEngine::accept`].
    pub fn open(self) {
        self.opens(End::Test);
    }

    /// Opens each, and runs a handler at its other end. Its error fails the client's session, and
    /// [`assert_done`](MockEngine::assert_done); so does a panic.
    pub fn serve<F, Fut>(self, handler: F)
    where
        F: Fn(MockPeer) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<()>> + Send + 'static,
    {
        self.opens(End::Handler(Arc::new(move |peer| Box::pin(handler(peer)))));
    }

    /// Refuses each with this reply: a 401, a redirect, a 503, or none at all. A reply with status 101 opens
    /// nothing and fails with [`ErrorKind::InvalidInput`].
    pub fn respond(self, reply: impl Into<Reply>) {
        self.mock.add(self.place, Answer::Respond(always(reply.into())));
    }

    fn opens(self, end: End) {
        self.mock.add(self.place, Answer::Open(self.opening, end));
    }
}

impl Place {
    fn new(kind: Kind, pattern: &str) -> Self {
        let pattern = match pattern.split_once("://") {
            Some(("ws", rest)) => format!("http://{rest}"),
            Some(("wss", rest)) => format!("https://{rest}"),
            _ => pattern.to_owned(),
        };
        Self { kind, pattern, times: None, is_optional: false }
    }

    /// Every request but handshakes, if there are any.
    pub(super) fn everything() -> Self {
        Self { is_optional: true, ..Self::new(Kind::AnyRequest, "*") }
    }

    pub(super) fn check(&self) -> Result<()> {
        let Self { pattern, .. } = self;
        if pattern.starts_with('/') || pattern == "*" || pattern.contains("://") {
            return Ok(());
        }
        let message = format!(
            "`{pattern}` matches nothing: begin with `/` or `https://`, or write `*` for everything"
        );
        Err(Error::new(ErrorKind::InvalidInput, message))
    }

    fn matches(&self, request: &MockRequest) -> bool {
        let is_meant = match &self.kind {
            Kind::Request(method) => !request.is_handshake() && method == request.method(),
            Kind::AnyRequest => !request.is_handshake(),
            Kind::Handshake => request.is_handshake(),
        };
        if !is_meant || self.pattern == "*" {
            return is_meant;
        }
        let uri = request.uri();
        let origin = match self.pattern.contains("://") {
            true => {
                let authority = uri.authority().map_or("", |authority| authority.as_str());
                format!("{}://{authority}", uri.scheme_str().unwrap_or_default())
            }
            false => String::new(),
        };
        let path = match uri.path_and_query() {
            Some(target) if self.pattern.contains('?') => target.as_str(),
            _ => uri.path(),
        };
        let target = format!("{origin}{path}");
        match self.pattern.strip_suffix('*') {
            Some(prefix) => target.starts_with(prefix),
            None => target == self.pattern,
        }
    }
}

impl Route {
    /// Whether it answers this request; not if it has answered all that it was to answer.
    pub(super) fn takes(&self, request: &MockRequest) -> bool {
        self.place.matches(request) && !self.is_used_up()
    }

    pub(super) fn is_used_up(&self) -> bool {
        self.place.times.is_some_and(|times| self.hits >= times)
    }

    /// What has not come that had to.
    pub(super) fn missing(&self) -> Option<String> {
        let Place { times, is_optional, .. } = self.place;
        let expected = times.unwrap_or(1);
        if is_optional || self.hits >= expected {
            return None;
        }
        Some(format!("{self} was asked for {} times, and {expected} were expected", self.hits))
    }
}

impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Place { kind, pattern, .. } = &self.place;
        match kind {
            Kind::Request(method) => write!(f, "{method} {pattern}"),
            Kind::AnyRequest => f.write_str("any request"),
            Kind::Handshake => write!(f, "WebSocket {pattern}"),
        }
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

/// A handler of any type as the one type of them.
pub(super) fn erased<F, Fut>(handler: F) -> Handler
where
    F: Fn(MockRequest) -> Fut + Send + Sync + 'static,
    Fut: Future<Output: Into<Reply>> + Send + 'static,
{
    Arc::new(move |request| {
        let reply = handler(request);
        Box::pin(async move { reply.await.into() })
    })
}

fn always(reply: Reply) -> Handler {
    Arc::new(move |_| {
        let reply = reply.clone();
        Box::pin(async move { reply })
    })
}
