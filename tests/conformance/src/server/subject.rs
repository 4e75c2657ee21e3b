//! The description of a server under test.

use std::{fmt, future::Future, net::SocketAddr, pin::Pin, sync::Arc, time::Duration};

use drivetrain::http;
use drivetrain_server::{Upgrader, WebSocketUpgrade};
use http_body_util::Full;

use crate::Deviation;

/// The body of an answer.
type Body = Full<drivetrain::Bytes>;

/// A server under test: a framing, a runtime, and an HTTP server.
pub trait ServerSubject: Send + Sync + 'static {
    /// The first part of the names of the trials.
    fn name(&self) -> &str;

    /// An upgrader with the framing under test, its default options and a registry of its own. The suite configures it.
    fn upgrader(&self) -> Upgrader;

    /// Serves the site on a free port of 127.0.0.1.
    fn start(&self, site: Site) -> Running;

    /// Runs a future to completion on a runtime of the server, with timers. The suite calls it from many threads at once.
    fn block_on(&self, future: Pin<Box<dyn Future<Output = ()> + Send>>);

    /// Whether [`Site::header_read_timeout`] is applied. Default: yes.
    fn limits_heads(&self) -> bool {
        true
    }

    /// Whether the server also speaks HTTP/2 on its port, without TLS (RFC 8441). Default: no.
    fn speaks_http2(&self) -> bool {
        false
    }

    /// The framing's deviations from the suite's rules. Default: none.
    fn deviations(&self) -> &[Deviation] {
        &[]
    }
}

impl ServerSubject for Box<dyn ServerSubject> {
    fn name(&self) -> &str {
        (**self).name()
    }

    fn upgrader(&self) -> Upgrader {
        (**self).upgrader()
    }

    fn start(&self, site: Site) -> Running {
        (**self).start(site)
    }

    fn block_on(&self, future: Pin<Box<dyn Future<Output = ()> + Send>>) {
        (**self).block_on(future);
    }

    fn limits_heads(&self) -> bool {
        (**self).limits_heads()
    }

    fn speaks_http2(&self) -> bool {
        (**self).speaks_http2()
    }

    fn deviations(&self) -> &[Deviation] {
        (**self).deviations()
    }
}

/// How the suite runs an accepted handshake.
pub(super) type Open = Arc<dyn Fn(WebSocketUpgrade) -> http::Response<Body> + Send + Sync>;

/// One application of the suite: each request is a handshake. A clone is the same application.
#[derive(Clone)]
pub struct Site {
    pub(super) upgrader: Upgrader,
    pub(super) open: Open,
    pub(super) header_read_timeout: Option<Duration>,
}

impl Site {
    /// The upgrader, for a server that checks requests by itself, such as an extractor.
    pub fn upgrader(&self) -> &Upgrader {
        &self.upgrader
    }

    /// How long the head of a request may take; `None` for the server's default.
    pub fn header_read_timeout(&self) -> Option<Duration> {
        self.header_read_timeout
    }

    /// Answers a request.
    pub fn answer<B>(&self, request: &mut http::Request<B>) -> http::Response<Body> {
        match self.upgrader.upgrade(request) {
            Ok(upgrade) => self.open(upgrade),
            Err(refusal) => refusal.response(),
        }
    }

    /// Answers a request that the [`upgrader`](Self::upgrader) has accepted.
    pub fn open(&self, upgrade: WebSocketUpgrade) -> http::Response<Body> {
        (self.open)(upgrade)
    }
}

impl fmt::Debug for Site {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Site").field("upgrader", &self.upgrader).finish_non_exhaustive()
    }
}

/// A running server. Dropped, it stops.
pub struct Running {
    address: SocketAddr,
    stop: Option<Box<dyn FnOnce() + Send>>,
}

impl Running {
    /// A server at this address, and how to stop it.
    pub fn new(address: SocketAddr, stop: impl FnOnce() + Send + 'static) -> Self {
        Self { address, stop: Some(Box::new(stop)) }
    }

    /// The address.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(stop) = self.stop.take() {
            stop();
        }
    }
}

impl fmt::Debug for Running {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Running").field("address", &self.address).finish_non_exhaustive()
    }
}
