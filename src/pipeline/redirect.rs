//! Following redirects: the policy for tower-http's service.

use std::fmt;

use drivetrain_engine::{Body, Error, ErrorKind, Handshake, is_secret};
use http::{Extensions, HeaderName, Request, Uri, header, uri::Scheme};
use tower_http::follow_redirect::{
    FollowRedirectLayer,
    policy::{Action, Attempt, Policy},
};

use super::unauthorized::Elsewhere;
use crate::{target::UrlFragment, trace};

/// Which redirects are followed, for requests and for handshakes: 301, 302, 303, 307 and 308.
///
/// A POST becomes a GET after 301 and 302, everything but HEAD after 303 (RFC 9110 section 15.4). After 307 and
/// 308 the request is sent again unchanged; if its body is a stream, the redirect is the response. A redirect to any
/// scheme but `http` and `https` is an error, except `ws` and `wss` for a handshake.
///
/// Credentials stay with their origin (scheme, host and port). From the first redirect to another origin to the end of
/// the call,
///
/// - `Host` and all [secret](drivetrain_engine::is_secret) headers of the request and of
///   [`DefaultRequest`](crate::DefaultRequest) are left out: `Authorization`, `Cookie`, `X-Api-Key` and its
///   relatives, and headers whose value is marked [sensitive](http::HeaderValue::set_sensitive); cookies of the client's
///   jar follow their own rules;
/// - [`on_unauthorized`](crate::HttpClientBuilder::on_unauthorized) is not asked, unless
///   [`ask_unauthorized_across_origins`](Self::ask_unauthorized_across_origins) says so;
/// - a handshake offers no subprotocol, unless
///   [`offer_subprotocols_across_origins`](Self::offer_subprotocols_across_origins) says so. The session has none
///   then, and a server that chooses one all the same is refused with
///   [`ErrorKind::Protocol`](crate::ErrorKind::Protocol).
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
    asks_unauthorized: bool,
    offers_subprotocols: bool,
}

impl Default for Redirects {
    fn default() -> Self {
        Self {
            limit: Some(Self::LIMIT),
            downgrade: false,
            asks_unauthorized: false,
            offers_subprotocols: false,
        }
    }
}

impl Redirects {
    const LIMIT: usize = 10;

    /// Redirects are followed, up to ten of them, not from `https` to `http`.
    pub fn new() -> Self {
        Self::default()
    }

    /// No redirect is followed: it is a response like any other, and refuses a handshake.
    pub fn none() -> Self {
        Self { limit: None, ..Self::default() }
    }

    /// The most redirects of one call; one more is an error. Default: 10.
    #[must_use]
    pub fn limit(mut self, redirects: usize) -> Self {
        self.limit = Some(redirects);
        self
    }

    /// Follows redirects from `https` to `http` and from `wss` to `ws`, which gives up encryption. Default: such a
    /// redirect is an error.
    #[must_use]
    pub fn allow_https_downgrade(mut self, allow: bool) -> Self {
        self.downgrade = allow;
        self
    }

    /// Asks [`on_unauthorized`](crate::HttpClientBuilder::on_unauthorized) also about a 401 that comes after a
    /// redirect to another origin, and sends the hook's credentials to that origin. Check
    /// [`Unauthorized::uri`](crate::Unauthorized::uri) in the hook: any server that redirects chooses who receives
    /// the credentials. Default: such a 401 is the response, and the hook is not asked.
    #[must_use]
    pub fn ask_unauthorized_across_origins(mut self, ask: bool) -> Self {
        self.asks_unauthorized = ask;
        self
    }

    /// Offers a handshake's subprotocols also after a redirect to another origin. Default: they are left out of
    /// such a handshake, because subprotocols often carry tokens.
    #[must_use]
    pub fn offer_subprotocols_across_origins(mut self, offer: bool) -> Self {
        self.offers_subprotocols = offer;
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
            None => return f.write_str("none"),
            Some(limit) => write!(f, "at most {limit}")?,
        }
        for (is_set, what) in [
            (self.downgrade, "to http too"),
            (self.asks_unauthorized, "on_unauthorized across origins"),
            (self.offers_subprotocols, "subprotocols across origins"),
        ] {
            if is_set {
                write!(f, ", {what}")?;
            }
        }
        Ok(())
    }
}

/// The policy of one call.
#[derive(Clone)]
pub(super) struct Follow {
    redirects: Redirects,
    left: usize,
    /// The extensions of the first request, for the requests that follow. They hold the handshake.
    carried: Extensions,
    is_first: bool,
    is_handshake: bool,
    /// Whether some redirect of this call led to another origin. tower-http's own filter looks at the last one only.
    is_elsewhere: bool,
}

impl Policy<Body, Error> for Follow {
    fn redirect(&mut self, attempt: &Attempt<'_>) -> Result<Action, Error> {
        let from = UrlOrigin::of(attempt.previous());
        let to = UrlOrigin::of(attempt.location());
        let is_followed = match attempt.location().scheme_str() {
            Some("http" | "https") => true,
            Some("ws" | "wss") => self.is_handshake,
            _ => false,
        };
        if !is_followed {
            return Err(protocol(
                "the server redirected to a scheme that this request cannot follow".into(),
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
            request.extensions_mut().insert(UrlFragment::default());
            self.carried = request.extensions().clone();
            return;
        }
        request.extensions_mut().extend(self.carried.clone());
        if self.is_elsewhere {
            self.strip_credentials(request);
        }
    }

    fn clone_body(&self, body: &Body) -> Option<Body> {
        body.try_clone()
    }
}

impl Follow {
    /// Removes headers and subprotocols that are not for this origin.
    fn strip_credentials(&self, request: &mut Request<Body>) {
        let asks_hook = self.redirects.asks_unauthorized;
        request.extensions_mut().insert(Elsewhere { asks_hook });
        if !self.redirects.offers_subprotocols {
            Handshake::withhold_subprotocols(request);
        }
        let headers = request.headers_mut();
        let is_secret =
            |name: &&HeaderName| headers.get_all(*name).iter().any(|value| is_secret(name, value));
        let secret: Vec<_> = headers.keys().filter(is_secret).cloned().collect();
        for name in secret.into_iter().chain([header::HOST]) {
            headers.remove(name);
        }
    }
}

/// Scheme, host and port; `ws` is `http` here.
#[derive(PartialEq, Eq)]
struct UrlOrigin {
    is_secure: bool,
    host: String,
    port: u16,
}

impl UrlOrigin {
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
