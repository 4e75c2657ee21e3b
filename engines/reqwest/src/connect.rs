//! The hop: HTTP requests and WebSocket handshakes for engines on tokio.

use std::{fmt, sync::Arc, time::Duration};

use bytes::Bytes;
use drivetrain_engine::{
    Accepted, Answer, Body, Capability, Duties, Engine as _, Error, ErrorKind, Handshake,
    NativeSetting, Proxy, Result, Runtime, Support, Transport,
};
use http::{HeaderValue, Request, Response, StatusCode, header};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};

#[cfg(feature = "rustls")]
use crate::over_http2;
use crate::{
    Reqwest,
    brought::{BoxStream, Brought, Stream},
    clients::Purpose,
    driver::{Driven, Driver},
    map::{self, During},
    opened::{Opened, Upgrade},
    proxied,
    request::{self, is_http, is_secure, timeout},
    runtime::{self, Tokio, Within},
};

/// For engines on tokio: everything they do before the first frame.
///
/// An engine keeps one as its HTTP side, hands [`execute`](Self::execute), [`runtime`](Self::runtime)
/// and the HTTP rows of [`support`](Self::support) on to it, and frames what [`open`](Self::open)
/// opens. Errors name the engine that the hop was made for.
///
/// ```
/// # use drivetrain_engine::{Body, Result, Runtime};
/// # use drivetrain_reqwest::{Hop, Reqwest};
/// # use std::sync::Arc;
/// #[derive(Clone, Debug)]
/// pub struct MyEngine {
///     hop: Hop,
/// }
///
/// impl MyEngine {
///     pub fn new() -> Self {
///         Self { hop: Hop::new("mine", Reqwest::new()) }
///     }
///
///     /// Sets the options of HTTP requests, and of the connection that a handshake is sent on.
///     pub fn http(mut self, http: Reqwest) -> Self {
///         self.hop = self.hop.with_http(http);
///         self
///     }
/// }
/// ```
#[derive(Clone)]
pub struct Hop {
    engine: &'static str,
    http: Reqwest,
    brought: Option<Brought>,
}

impl Hop {
    /// The hop of the engine of this name, with these options.
    pub fn new(engine: &'static str, http: Reqwest) -> Self {
        Self { engine, http, brought: None }
    }

    /// The hop of the engine of this name over a stream that is connected already: for one handshake,
    /// once, by whichever clone comes first. It has no HTTP.
    pub fn over(engine: &'static str, stream: impl Stream + 'static) -> Self {
        Self { brought: Some(Brought::new(stream)), ..Self::new(engine, Reqwest::new()) }
    }

    /// The same hop with these options.
    #[must_use]
    pub fn with_http(self, http: Reqwest) -> Self {
        Self { http, ..self }
    }

    /// The options.
    pub fn http(&self) -> &Reqwest {
        &self.http
    }

    /// Whether it offers one of [`Http1`](Capability::Http1), [`Http2`](Capability::Http2),
    /// [`Tls`](Capability::Tls), [`ClientCertificates`](Capability::ClientCertificates),
    /// [`ConnectTimeout`](Capability::ConnectTimeout), [`Proxies`](Capability::Proxies),
    /// [`SocksProxies`](Capability::SocksProxies) and
    /// [`WebSocketOverHttp2`](Capability::WebSocketOverHttp2). All others are missing: they are the engine's
    /// to answer.
    pub fn support(&self, capability: Capability) -> Support {
        match &self.brought {
            Some(_) => Brought::support(capability),
            None if capability == Capability::WebSocketOverHttp2 => self.http.over_http2(),
            None => self.http.support(capability),
        }
    }

    /// The options that were set, for [`EngineSettings::native`](drivetrain_engine::EngineSettings).
    pub fn settings(&self) -> Vec<NativeSetting> {
        match &self.brought {
            Some(_) => vec![NativeSetting::new("over", "a stream of the caller's")],
            None => self.http.native_settings(true),
        }
    }

    /// Refuses options that can never work, for [`Engine::check`](drivetrain_engine::Engine::check).
    /// No I/O. Options of the connection and of TLS are fine beside a preconfigured client, as they
    /// apply to handshakes.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`], saying which option and what would be right.
    pub fn check(&self) -> Result<()> {
        if let (Some(_), Some(set)) = (&self.brought, self.http.native_settings(true).first()) {
            let message = format!("{} has no effect on a stream that the caller brings", set.name);
            return Err(Error::new(ErrorKind::InvalidInput, message).with_engine(self.engine));
        }
        self.http.check_options(self.engine, true)
    }

    /// The runtime for the sessions on the engine.
    ///
    /// # Errors
    /// [`ErrorKind::Other`] outside a tokio runtime.
    pub fn runtime(&self) -> Result<Arc<dyn Runtime>> {
        Tokio::current(self.engine)
    }

    /// Sends one HTTP request, as [`Engine::execute`](drivetrain_engine::Engine::execute) asks for.
    ///
    /// # Errors
    /// [`ErrorKind::Other`] outside a tokio runtime, [`ErrorKind::Unsupported`] for what the build or
    /// the preconfigured client cannot do, [`ErrorKind::Connect`], [`ErrorKind::Tls`],
    /// [`ErrorKind::Timeout`], [`ErrorKind::Protocol`] or [`ErrorKind::Io`] where the exchange failed,
    /// [`ErrorKind::InvalidInput`] for a request that cannot be sent. An error that the request's own
    /// body gave is returned as it is.
    ///
    /// # Cancel safety
    /// Dropping the future ends the request.
    pub async fn execute(&self, request: Request<Body>) -> Result<Response<Body>> {
        if self.brought.is_some() {
            let reason = Brought::ONE_STREAM;
            return Err(Error::unsupported(self.engine, Capability::Http1, reason));
        }
        request::execute(self.engine, &self.http, request).await
    }

    /// Sends a handshake, over the stream that was brought or over a connection of its own, and frames
    /// the stream: all of [`Engine::connect`](drivetrain_engine::Engine::connect). `frame` gets what
    /// [`Opened::into_answer`] gives it.
    ///
    /// # Errors
    /// Those of [`open`](Self::open) and [`open_over`](Self::open_over); [`ErrorKind::Connect`] if the
    /// stream that was brought has been used.
    ///
    /// # Cancel safety
    /// Dropping the future ends the attempt and frees the socket.
    pub async fn connect<T: Transport + 'static>(
        &self,
        handshake: &Handshake,
        duties: Duties,
        frame: impl FnOnce(BoxStream, Bytes, &Accepted) -> T + Send,
    ) -> Result<Answer> {
        match &self.brought {
            Some(brought) => {
                if let Some(proxy) = handshake.extensions().get::<Proxy>() {
                    let reason = Brought::NOTHING_TO_DIAL;
                    return Err(Error::unsupported(self.engine, proxy.capability(), reason));
                }
                let opened = self.open_over(brought.take(self.engine)?, handshake).await?;
                Ok(opened.into_answer(duties, frame))
            }
            None => {
                #[cfg(feature = "rustls")]
                if let Some(opened) = self.open_over_http2(handshake).await? {
                    return Ok(opened.into_answer(duties, |stream, read_ahead, accepted| {
                        frame(Box::new(stream), read_ahead, accepted)
                    }));
                }
                let opened = self.open(handshake).await?;
                Ok(opened.into_answer(duties, |stream, read_ahead, accepted| {
                    frame(Box::new(stream), read_ahead, accepted)
                }))
            }
        }
    }

    /// Sends a handshake over a connection of its own (HTTP/1.1 only, nothing reused, `TCP_NODELAY`)
    /// and verifies the answer.
    ///
    /// # Errors
    /// As for [`execute`](Self::execute), and [`ErrorKind::Protocol`] for a 101 that is not a valid
    /// answer; the connection is then closed. Any other status is [`Opened::Refused`].
    ///
    /// # Cancel safety
    /// Dropping the future ends the attempt and frees the socket.
    pub async fn open(&self, handshake: &Handshake) -> Result<Opened> {
        let handle = runtime::current(self.engine)?;
        let exchange = async {
            let request = handshake.request();
            let secure = is_secure(self.engine, &self.http, request.uri())?;
            let connect_timeout = timeout(request.extensions());
            let proxy = request.extensions().get::<Proxy>().cloned();
            if let Some(proxy) = proxy.as_ref().filter(|proxy| !secure && is_http(proxy)) {
                return self.open_through(proxy, handshake, connect_timeout).await;
            }
            let during = During::Handshake;
            let uri = Some(handshake.uri());
            let by = proxy.as_ref();
            let failed = |error| map::failed(self.engine, during, uri, by, error);
            let purpose =
                Purpose { handshake: true, secure, connect_timeout, proxy: proxy.clone() };
            let client = self.http.client(self.engine, purpose)?;
            let request = reqwest::Request::try_from(request.map(|()| reqwest::Body::default()))
                .map_err(failed)?;
            let mut response = Response::from(client.execute(request).await.map_err(failed)?);
            if response.status() != StatusCode::SWITCHING_PROTOCOLS {
                return Ok(Opened::Refused(map::response(self.engine, &handle, response)));
            }
            let upgrade = hyper::upgrade::on(&mut response);
            let response = response.map(drop);
            // If this fails, `upgrade` is dropped, and the socket with it.
            let accepted = self.verify(handshake, &response)?;
            let upgraded = upgrade.await.map_err(|error| map::failed_over(self.engine, error))?;
            Ok(Opened::Upgraded {
                stream: Upgrade::from(upgraded),
                read_ahead: Bytes::new(),
                response,
                accepted,
            })
        };
        Within::new(handle.clone(), exchange).await
    }

    /// Opens the socket over HTTP/2, if that is wanted and the server allows it.
    #[cfg(feature = "rustls")]
    async fn open_over_http2(
        &self,
        handshake: &Handshake,
    ) -> Result<Option<Opened<over_http2::Socket>>> {
        let Some(links) = self.http.http2_links() else { return Ok(None) };
        let is_secure = is_secure(self.engine, &self.http, handshake.uri())?;
        if !is_secure || handshake.extensions().get::<Proxy>().is_some() {
            return Ok(None);
        }
        let handle = runtime::current(self.engine)?;
        let limit = timeout(handshake.extensions());
        let opening = links.open(self.engine, self.http.options(), handshake, limit, &handle);
        Within::new(handle.clone(), opening).await.map_err(|error| error.with_engine(self.engine))
    }

    /// Sends a handshake for `ws` through a tunnel of an HTTP proxy's.
    async fn open_through(
        &self,
        proxy: &Proxy,
        handshake: &Handshake,
        limit: Option<Duration>,
    ) -> Result<Opened> {
        if let Some(reason) = self.http.no_tunnel() {
            return Err(Error::unsupported(self.engine, Capability::Proxies, reason));
        }
        let options = self.http.options();
        let tunnel = proxied::tunnel(self.engine, options, proxy, handshake.uri(), limit).await?;
        self.open_over(tunnel, handshake).await
    }

    /// Sends a handshake over a stream that the caller brings and verifies the answer. The stream is
    /// used as it is: for a URI with `https` it already is the TLS stream.
    ///
    /// # Errors
    /// [`ErrorKind::Other`] outside a tokio runtime, before the stream is touched;
    /// [`ErrorKind::Io`] if the stream fails, [`ErrorKind::Protocol`] if the answer is not HTTP or is a
    /// 101 that is not a valid answer; the stream is then dropped. Any other status is
    /// [`Opened::Refused`], whose body holds the stream until it is read or dropped.
    ///
    /// # Cancel safety
    /// Dropping the future drops the stream.
    pub async fn open_over<S>(&self, stream: S, handshake: &Handshake) -> Result<Opened<S>>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let handle = runtime::current(self.engine)?;
        let failed = |error| map::failed_over(self.engine, error);
        let (mut sender, connection) =
            http1::handshake::<_, Body>(TokioIo::new(stream)).await.map_err(failed)?;
        let mut driver = Driver::Running(Box::pin(connection.with_upgrades()));

        let answer = driver.until(sender.send_request(by_hand(handshake))).await;
        let mut response = answer.map_err(|error| {
            // If the stream failed first, this one only says that the request was not sent.
            failed(driver.take_error().unwrap_or(error))
        })?;
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            let response = response.map(|body| Driven { driver, body });
            return Ok(Opened::Refused(map::response(self.engine, &handle, response)));
        }
        let upgrade = hyper::upgrade::on(&mut response);
        let response = response.map(drop);
        let accepted = self.verify(handshake, &response)?;
        let upgraded = driver.until(upgrade).await.map_err(failed)?;
        // It is the type that was given to hyper above, so that the error cannot happen.
        let parts = upgraded.downcast::<TokioIo<S>>().map_err(|_| {
            Error::new(ErrorKind::Other, "the stream did not come back from the handshake")
                .with_engine(self.engine)
        })?;
        Ok(Opened::Upgraded {
            stream: parts.io.into_inner(),
            read_ahead: parts.read_buf,
            response,
            accepted,
        })
    }

    fn verify(&self, handshake: &Handshake, response: &Response<()>) -> Result<Accepted> {
        handshake.verify(response).map_err(|error| error.with_engine(self.engine))
    }
}

impl fmt::Debug for Hop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hop")
            .field("engine", &self.engine)
            .field("http", &self.http)
            .field("over", &self.brought.as_ref().map(|_| "a stream of the caller's"))
            .finish()
    }
}

/// The request as it stands on the wire: a path for a target, and a `Host`.
fn by_hand(handshake: &Handshake) -> Request<Body> {
    let mut request = handshake.request().map(|()| Body::empty());
    let uri = request.uri().clone();
    let target = uri.path_and_query().map_or("/", |target| target.as_str());
    if let Ok(target) = target.parse() {
        *request.uri_mut() = target;
    }
    if !request.headers().contains_key(header::HOST) {
        let host = uri.host().unwrap_or_default();
        let default = if uri.scheme_str() == Some("https") { 443 } else { 80 };
        let host = match uri.port_u16().filter(|port| *port != default) {
            Some(port) => format!("{host}:{port}"),
            None => host.to_owned(),
        };
        // A URI's host has no character that a header may not have.
        if let Ok(host) = HeaderValue::try_from(host) {
            request.headers_mut().insert(header::HOST, host);
        }
    }
    request
}
