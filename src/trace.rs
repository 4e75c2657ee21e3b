//! The spans of requests, handshakes and sessions, with the names of OpenTelemetry's semantic conventions
//! where they have one. `docs/reference/observability.md` has the table.
//!
//! No header and no body is ever recorded, and URLs are redacted.

use std::{fmt::Display, future::Future, time::Duration};

use drivetrain_engine::{Connection, Error, HandshakePhases, Result};
use http::{Method, StatusCode, Uri, Version};
use tracing::{Instrument as _, Span, field, field::Empty};
use url::Url;

use crate::{response::Response, target};

/// A call in progress: its span and its server.
pub(crate) struct Call {
    span: Span,
    engine: String,
    server: Server,
}

/// The server of a call, as far as it is known.
#[derive(Default)]
pub(crate) struct Server {
    address: Option<String>,
    port: Option<u16>,
}

impl Server {
    fn of(url: Option<&Url>) -> Self {
        Self {
            address: url.and_then(Url::host_str).map(str::to_owned),
            port: url.and_then(Url::port_or_known_default),
        }
    }
}

impl Call {
    /// A request begins; its span is a child of the caller's.
    pub(crate) fn request(engine: &str, method: &Method, url: Option<&Url>) -> Self {
        let server = Server::of(url);
        let known = known(method);
        let span = tracing::info_span!(
            target: "drivetrain::http",
            "http.request",
            "otel.kind" = "client",
            "otel.name" = known.unwrap_or("HTTP"),
            "otel.status_code" = Empty,
            "http.request.method" = known.unwrap_or("_OTHER"),
            "http.request.method_original" = known.is_none().then(|| method.as_str()),
            "url.full" = url.map(redacted),
            "server.address" = server.address,
            "server.port" = server.port,
            "network.protocol.name" = "http",
            "network.protocol.version" = Empty,
            "http.response.status_code" = Empty,
            "error.type" = Empty,
            "drivetrain.engine" = engine,
        );
        Self { span, engine: engine.to_owned(), server }
    }

    /// A handshake begins; its span is a child of the caller's.
    pub(crate) fn handshake(engine: &str, url: Option<&Url>) -> Self {
        let server = Server::of(url);
        let span = tracing::info_span!(
            target: "drivetrain::http",
            "websocket.handshake",
            "otel.kind" = "client",
            "otel.name" = "GET",
            "otel.status_code" = Empty,
            "http.request.method" = "GET",
            "url.full" = url.map(redacted),
            "server.address" = server.address,
            "server.port" = server.port,
            "network.protocol.name" = "http",
            "network.protocol.version" = Empty,
            "http.response.status_code" = Empty,
            "error.type" = Empty,
            "drivetrain.engine" = engine,
        );
        Self { span, engine: engine.to_owned(), server }
    }

    /// Runs the call in its span, which has the head of the response in the end, or why there is none.
    pub(crate) async fn run<T: Answered>(
        &self,
        call: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        let result = call.instrument(self.span.clone()).await;
        match &result {
            Ok(answer) => {
                if let Some((status, version)) = answer.head() {
                    self.record_version(version);
                    self.record_status(status);
                }
            }
            Err(error) => self.record_error(error),
        }
        result
    }

    /// Tells, in the span of a handshake, how long its phases took, where the engine says so.
    pub(crate) fn phases(&self, extensions: &http::Extensions) {
        let Some(&HandshakePhases { dns, tcp, proxy, tls, upgrade, .. }) = extensions.get() else {
            return;
        };
        let seconds = |phase: Option<Duration>| phase.map(|phase| phase.as_secs_f64());
        tracing::debug!(
            target: "drivetrain::http",
            parent: &self.span,
            {
                "handshake.dns" = seconds(dns),
                "handshake.tcp" = seconds(tcp),
                "handshake.proxy" = seconds(proxy),
                "handshake.tls" = seconds(tls),
                "handshake.upgrade" = seconds(upgrade),
            },
            "handshake phases"
        );
    }

    /// The span of the session after a handshake: a child of the caller's span. It follows from the handshake's span and
    /// outlives it.
    pub(crate) fn session(&self, connection: &Connection) -> Span {
        let span = session(&self.engine, &self.server, connection);
        span.follows_from(&self.span);
        span
    }

    fn record_status(&self, status: StatusCode) {
        self.span.record("http.response.status_code", status.as_u16());
        if status.is_client_error() || status.is_server_error() {
            self.record_failure(status.as_str());
        }
    }

    fn record_version(&self, version: Version) {
        let version = match version {
            Version::HTTP_09 => "0.9",
            Version::HTTP_10 => "1.0",
            Version::HTTP_11 => "1.1",
            Version::HTTP_2 => "2",
            Version::HTTP_3 => "3",
            _ => return,
        };
        self.span.record("network.protocol.version", version);
    }

    fn record_error(&self, error: &Error) {
        if let Some(response) = error.response() {
            self.record_version(response.version());
            self.span.record("http.response.status_code", response.status().as_u16());
        }
        match error.response().map(http::Response::status) {
            Some(status) if status.as_u16() >= 400 => self.record_failure(status.as_str()),
            _ => self.record_failure(format_args!("{:?}", error.kind())),
        }
    }

    fn record_failure(&self, what: impl Display) {
        self.span.record("error.type", field::display(what)).record("otel.status_code", "ERROR");
    }
}

/// A redirect of the call in progress is followed.
pub(crate) fn redirected(status: StatusCode, location: &Uri) {
    let location = Url::parse(&location.to_string()).ok();
    tracing::debug!(
        target: "drivetrain::http",
        {
            "http.response.status_code" = status.as_u16(),
            "url.full" = location.as_ref().map(redacted),
        },
        "redirected"
    );
}

/// The span of a session, a child of the caller's.
pub(crate) fn session(engine: &str, server: &Server, connection: &Connection) -> Span {
    tracing::info_span!(
        target: "drivetrain::session",
        "websocket.session",
        "otel.kind" = "client",
        "otel.status_code" = Empty,
        "server.address" = server.address,
        "server.port" = server.port,
        "network.protocol.name" = "websocket",
        "websocket.subprotocol" = connection.subprotocol().map(|_| "redacted"),
        "websocket.close.sent" = Empty,
        "websocket.close.received" = Empty,
        "error.type" = Empty,
        "drivetrain.engine" = engine,
    )
}

/// The result of a call.
pub(crate) trait Answered {
    /// Status and version of the answer, where they are known.
    fn head(&self) -> Option<(StatusCode, Version)>;
}

impl Answered for Response {
    fn head(&self) -> Option<(StatusCode, Version)> {
        Some((self.status(), self.version()))
    }
}

impl<T> Answered for (Connection, T) {
    fn head(&self) -> Option<(StatusCode, Version)> {
        self.0.response().map(|response| (response.status(), response.version()))
    }
}

/// The name of a method that the conventions know (RFC 9110 section 9 and RFC 5789).
fn known(method: &Method) -> Option<&str> {
    let known = [
        Method::GET,
        Method::HEAD,
        Method::POST,
        Method::PUT,
        Method::DELETE,
        Method::CONNECT,
        Method::OPTIONS,
        Method::TRACE,
        Method::PATCH,
    ];
    known.contains(method).then(|| method.as_str())
}

/// The URL without its secrets: userinfo, every value of the query, and the fragment.
fn redacted(url: &Url) -> String {
    const REDACTED: &str = "REDACTED";
    let mut url = url.clone();
    // These fail only for URLs without a host.
    if !url.username().is_empty() {
        let _ = url.set_username(REDACTED);
    }
    if url.password().is_some() {
        let _ = url.set_password(Some(REDACTED));
    }
    let query = target::without_values(&url);
    url.set_query(query.as_deref());
    url.set_fragment(None);
    url.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_keeps_its_shape_and_loses_its_secrets() {
        for (url, shown) in [
            ("wss://a.example/chat", "wss://a.example/chat"),
            (
                "wss://me:pass@a.example:8443/x?token=abc&room=1&flag",
                "wss://REDACTED:REDACTED@a.example:8443/x?token=REDACTED&room=REDACTED&REDACTED",
            ),
            ("https://me@a.example/#access_token=abc", "https://REDACTED@a.example/"),
            ("https://a.example/?a=b=c", "https://a.example/?a=REDACTED"),
            ("https://a.example/?", "https://a.example/"),
        ] {
            assert_eq!(redacted(&Url::parse(url).expect(url)), shown);
        }
    }

    #[test]
    fn only_known_methods_are_named() {
        assert_eq!(known(&Method::PATCH), Some("PATCH"));
        assert_eq!(known(&Method::from_bytes(b"PURGE").expect("valid")), None);
    }
}
