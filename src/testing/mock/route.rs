//! Routes: which requests get which answers.

use std::{fmt, future::Future, pin::Pin, sync::Arc, time::Duration};

use drivetrain_engine::{Error, ErrorKind, Result};
use http::{HeaderMap, Method};

use super::{MockPeer, MockRequest, Reply, Script};

/// The matching requests, and their number.
#[derive(Debug)]
pub(super) struct RoutePattern {
    kind: Kind,
    pattern: String,
    pub(super) times: Option<usize>,
    pub(super) is_optional: bool,
}

#[derive(Debug)]
pub(super) enum Kind {
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
    pub(super) place: RoutePattern,
    pub(super) hits: usize,
    pub(super) answer: RouteAnswer,
}

#[derive(Clone)]
pub(super) enum RouteAnswer {
    Respond(Handler),
    Open(Opening, RoutePeer),
}

/// The peer of a route.
#[derive(Clone)]
pub(super) enum RoutePeer {
    Script(Script),
    Test,
    Handler(PeerHandler),
}

type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;
pub(super) type Handler = Arc<dyn Fn(MockRequest) -> BoxFuture<Reply> + Send + Sync>;
pub(super) type PeerHandler = Arc<dyn Fn(MockPeer) -> BoxFuture<Result<()>> + Send + Sync>;

impl RoutePattern {
    pub(super) fn new(kind: Kind, pattern: &str) -> Self {
        let pattern = match pattern.split_once("://") {
            Some(("ws", rest)) => format!("http://{rest}"),
            Some(("wss", rest)) => format!("https://{rest}"),
            _ => pattern.to_owned(),
        };
        Self { kind, pattern, times: None, is_optional: false }
    }

    /// Every request except handshakes.
    pub(super) fn everything() -> Self {
        Self { is_optional: true, ..Self::new(Kind::AnyRequest, "*") }
    }

    pub(super) fn check(&self) -> Result<()> {
        let Self { pattern, .. } = self;
        let why = match pattern.strip_suffix('*') {
            Some("") => return Ok(()),
            Some(prefix) => never_begins(prefix),
            None => never_is(pattern),
        };
        let Some(why) = why else { return Ok(()) };
        Err(Error::new(ErrorKind::InvalidInput, format!("`{pattern}` matches nothing: {why}")))
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

/// The reason why no URL matches this pattern.
fn never_is(place: &str) -> Option<String> {
    let url = match place.starts_with('/') {
        true => format!("http://host{place}"),
        false => place.to_owned(),
    };
    let parsed = match url::Url::parse(&url) {
        Ok(parsed) if matches!(parsed.scheme(), "http" | "https") => parsed,
        _ => {
            let how = "begin with `/` or `https://`, or write `*` for everything";
            return Some(how.into());
        }
    };
    if parsed.fragment().is_some() || !parsed.username().is_empty() || parsed.password().is_some() {
        return Some("a request's URL has no fragment and no userinfo".into());
    }
    let as_sent = parsed.as_str().strip_prefix("http://host").filter(|_| place.starts_with('/'));
    let as_sent = as_sent.unwrap_or(parsed.as_str());
    (as_sent != place).then(|| format!("a request's URL is written `{as_sent}`"))
}

/// The reason why no URL starts with this pattern.
fn never_begins(prefix: &str) -> Option<String> {
    match prefix.split_once("://") {
        // The end of an incomplete authority is unknown.
        Some(("http" | "https", place)) if !place.contains(['/', '?', '#', '@', '\\']) => {
            let is_lower = !place.chars().any(|c| c.is_uppercase() || c.is_whitespace());
            (!is_lower || !place.is_ascii())
                .then(|| "a request's host is in lower case, and encoded as ASCII".into())
        }
        // One more letter, so that a prefix that ends in `.` or `..` is the prefix of a name.
        _ => never_is(&format!("{prefix}x")).map(|why| why.replace("x`", "*`")),
    }
}

impl Route {
    /// Whether the route matches this request and has remaining uses.
    pub(super) fn takes(&self, request: &MockRequest) -> bool {
        self.place.matches(request) && !self.is_used_up()
    }

    pub(super) fn is_used_up(&self) -> bool {
        self.place.times.is_some_and(|times| self.hits >= times)
    }

    /// The missing calls.
    pub(super) fn missing(&self) -> Option<String> {
        let RoutePattern { times, is_optional, .. } = self.place;
        let expected = times.unwrap_or(1);
        if is_optional || self.hits >= expected {
            return None;
        }
        Some(format!("{self} was asked for {} times, and {expected} were expected", self.hits))
    }
}

impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let RoutePattern { kind, pattern, .. } = &self.place;
        match kind {
            Kind::Request(method) => write!(f, "{method} {pattern}"),
            Kind::AnyRequest => f.write_str("any request"),
            Kind::Handshake => write!(f, "WebSocket {pattern}"),
        }
    }
}

/// A boxed handler.
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

pub(super) fn always(reply: Reply) -> Handler {
    Arc::new(move |_| {
        let reply = reply.clone();
        Box::pin(async move { reply })
    })
}
