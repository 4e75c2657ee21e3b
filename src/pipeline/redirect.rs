//! Following redirects, with tower-http's service and a policy of our own.

use std::fmt;

use drivetrain_engine::{Body, Error, ErrorKind, Handshake};
use http::{Extensions, HeaderName, Request, Uri, header, uri::Scheme};
use tower_http::follow_redirect::{
    FollowRedirectLayer,
    policy::{Action, Attempt, Policy},
};

use crate::trace;

/// What is not sent to another origin than the one it was meant for, besides what is marked sensitive.
const FOR_ONE_ORIGIN: [HeaderName; 4] =
    [header::AUTHORIZATION, header::COOKIE, header::PROXY_AUTHORIZATION, header::HOST];

/// Which redirects are followed, for requests and for handshakes: 301, 302, 303, 307 and 308.
///
/// A POST becomes a GET after 301 and 302, everything but HEAD after 303 (RFC 9110 section 15.4); after 307
/// and 308 it is sent again as it was, and a body that streams cannot be: then the redirect is the response.
/// `Authorization`, `Cookie` and `Host` headers of the request, and those whose value is marked
/// [sensitive](http::HeaderValue::set_sensitive), are not sent to another origin, nor to any after it; all
/// others are, those of [`DefaultRequest`](crate::DefaultRequest) among them. Cookies of the client's jar
/// follow their own rules. A redirect to what is neither `http` nor `https` is an error, but for a handshake
/// to `ws` and `wss`.
///
/// ```
/// use drivetrain::Redirects;
///
/// let few = Redirects::new().limit(3);
/// let none = Redirects::none();
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Redirects {
    limit: Option<usize>,
    downgrade: bool,
}

impl Default for Redirects {
    fn default() -> Self {
        Self { limit: Some(10), downgrade: false }
    }
}

impl Redirects {
    /// Redirects are followed, up to ten of them, not from `https` to `http`.
    pub fn new() -> Self {
        Self::default()
    }

    /// None is followed: a redirect is a response like any other, and refuses a handshake.
    pub fn none() -> Self {
        Self { limit: None, ..Self::default() }
    }

    /// How many are followed for one call; one more is an error. Default: 10.
    #[must_use]
    pub fn limit(mut self, redirects: usize) -> Self {
        self.limit = Some(redirects);
        self
    }

    /// Follows from `https` to `http` and from `wss` to `ws` as well, which gives up the encryption that was
    /// asked for. Default: such a redirect is an error.
    #[must_use]
    pub fn allow_https_downgrade(mut self, allow: bool) -> Self {
        self.downgrade = allow;
        self
    }

    pub(super) fn layer(self) -> Option<FollowRedirectLayer<Follow>> {
        let left = self.limit?;
        let carried = Extensions::new();
        Some(FollowRedirectLayer::with_policy(Follow {
            left,
            redirects: self,
            carried,
            is_first: true,
            is_handshake: false,
            is_elsewhere: false,
        }))
    }
}

impl fmt::Display for Redirects {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.limit {
            None => f.write_str("none"),
            Some(limit) if self.downgrade => write!(f, "at most {limit}, to http too"),
            Some(limit) => write!(f, "at most {limit}"),
        }
    }
}

/// The policy of one call.
#[derive(Clone)]
pub(super) struct Follow {
    redirects: Redirects,
    left: usize,
    /// What the first request carried, for those that follow: a handshake is in there.
    carried: Extensions,
    is_first: bool,
    is_handshake: bool,
    /// Some redirect led to another origin. It stays so: tower-http's own filter forgets it at the next hop.
    is_elsewhere: bool,
}

impl Policy<Body, Error> for Follow {
    fn redirect(&mut self, attempt: &Attempt<'_>) -> Result<Action, Error> {
        let from = Origin::of(attempt.previous());
        let to = Origin::of(attempt.location());
        let is_followed = match attempt.location().scheme_str() {
            Some("http" | "https") => true,
            Some("ws" | "wss") => self.is_handshake,
            _ => false,
        };
        if !is_followed {
            return Err(protocol(
                "the server redirected to what is no place for this request".into(),
            ));
        }
        if self.left == 0 {
            let limit = self.redirects.limit.unwrap_or_default();
            return Err(protocol(format!("the server redirected more than {limit} times")));
        }
        if from.is_secure && !to.is_secure && !self.redirects.downgrade {
            return Err(protocol(format!(
                "the server redirected from {} to {} without TLS, which is followed only with \
                 Redirects::allow_https_downgrade",
                attempt.previous().scheme_str().unwrap_or_default(),
                attempt.location().scheme_str().unwrap_or_default(),
            )));
        }
        self.left -= 1;
        trace::redirected(attempt.status(), attempt.location());
        self.is_elsewhere |= from != to;
        Ok(Action::Follow)
    }

    fn on_request(&mut self, request: &mut Request<Body>) {
        if std::mem::take(&mut self.is_first) {
            self.is_handshake = Handshake::is_in(request);
            self.carried = request.extensions().clone();
            return;
        }
        request.extensions_mut().extend(self.carried.clone());
        if self.is_elsewhere {
            let headers = request.headers_mut();
            let is_sensitive = |name: &&HeaderName| {
                headers.get_all(*name).iter().any(http::HeaderValue::is_sensitive)
            };
            let sensitive: Vec<_> = headers.keys().filter(is_sensitive).cloned().collect();
            for name in sensitive.into_iter().chain(FOR_ONE_ORIGIN) {
                headers.remove(name);
            }
        }
    }

    fn clone_body(&self, body: &Body) -> Option<Body> {
        body.try_clone()
    }
}

/// Scheme, host and port; `ws` is `http` here.
#[derive(PartialEq, Eq)]
struct Origin {
    is_secure: bool,
    host: String,
    port: u16,
}

impl Origin {
    fn of(uri: &Uri) -> Self {
        let is_secure = match uri.scheme() {
            Some(scheme) => *scheme == Scheme::HTTPS || scheme.as_str() == "wss",
            None => false,
        };
        Self {
            is_secure,
            host: uri.host().unwrap_or_default().to_ascii_lowercase(),
            port: uri.port_u16().unwrap_or(if is_secure { 443 } else { 80 }),
        }
    }
}

fn protocol(message: String) -> Error {
    Error::new(ErrorKind::Protocol, message)
}
