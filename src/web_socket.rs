//! Opening a WebSocket.

use std::{fmt, sync::Arc};

use bytes::Bytes;
use drivetrain_engine::{
    Body, Capability, CloseCode, CloseReason, Connection, Engine, Error, ErrorKind, Handshake,
    Instant, Result, Runtime,
};
use drivetrain_session::{
    RawSession, Session, SessionConfig, WebSockets, override_methods, session_options,
};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header};
use url::Url;

use crate::{
    capability::require,
    client::HttpClient,
    deadline, error_body, options,
    target::{self, Target},
    trace::Call,
};

/// A WebSocket to open: headers, subprotocols, and the options of this one session.
///
/// Made by [`HttpClient::web_socket`]. Nothing happens until [`connect`](Self::connect), [`run`](Self::run) or
/// [`connect_raw`](Self::connect_raw) is awaited, which fails before any I/O if an argument was invalid.
///
/// # Example
/// ```no_run
/// # async fn example(client: drivetrain::HttpClient) -> drivetrain::Result<()> {
/// use std::time::Duration;
///
/// let session = client
///     .web_socket("wss://example.com/chat")
///     .header("origin", "https://example.com")
///     .subprotocol("chat.v2")
///     .subprotocol("chat.v1")
///     .ping_interval(Duration::from_secs(30))
///     .connect()
///     .await?;
/// println!("{:?}", session.subprotocol());
/// # Ok(()) }
/// ```
#[derive(Clone)]
#[must_use = "nothing happens until it is connected"]
pub struct WebSocketRequest {
    client: HttpClient,
    url: String,
    headers: Result<HeaderMap>,
    subprotocols: Vec<String>,
    /// Extensions for raw sessions, in the syntax of the header.
    offers: Vec<String>,
    /// The options of this one session.
    options: WebSockets,
}

impl HttpClient {
    /// Begins a WebSocket. `http` means `ws` here, and `https` means `wss`; any other scheme, a missing
    /// host and a fragment are errors of [`connect`](WebSocketRequest::connect).
    ///
    /// The request owns a clone of the client, so that it may be moved into a task.
    pub fn web_socket(&self, url: impl AsRef<str>) -> WebSocketRequest {
        WebSocketRequest::new(self.clone(), url.as_ref())
    }
}

impl WebSocketRequest {
    pub(crate) fn new(client: HttpClient, url: &str) -> Self {
        Self {
            client,
            url: url.to_owned(),
            headers: Ok(HeaderMap::new()),
            subprotocols: Vec::new(),
            offers: Vec::new(),
            options: WebSockets::new(),
        }
    }

    /// Adds a header to the handshake. Refused are the handshake's own headers (`Upgrade`, `Connection`,
    /// `Sec-WebSocket-*`) and `Proxy-Authorization`: give it to the [proxy](crate::Proxy::basic_auth).
    pub fn header(
        mut self,
        name: impl TryInto<HeaderName, Error: Into<http::Error>>,
        value: impl TryInto<HeaderValue, Error: Into<http::Error>>,
    ) -> Self {
        self.headers = self.headers.and_then(|mut headers| {
            let (name, value) = target::header(name, value)?;
            headers.append(name, value);
            Ok(headers)
        });
        self
    }

    /// Sends basic auth (RFC 7617). A URL's userinfo does the same.
    pub fn basic_auth(self, user: impl AsRef<str>, password: Option<&str>) -> Self {
        self.authorization(target::basic_auth(user.as_ref(), password))
    }

    /// Sends a bearer token (RFC 6750).
    pub fn bearer_auth(self, token: impl AsRef<str>) -> Self {
        self.authorization(target::bearer_auth(token.as_ref()))
    }

    /// Offers a subprotocol, in the order of preference. [`Session::subprotocol`] is the one that the server chose, if
    /// any. None is offered after a redirect to another origin: see
    /// [`Redirects`](crate::Redirects). Subprotocols are never printed, as they often carry tokens.
    pub fn subprotocol(mut self, name: impl Into<String>) -> Self {
        self.subprotocols.push(name.into());
        self
    }

    /// Offers an extension in the syntax of `Sec-WebSocket-Extensions`, for [`connect_raw`](Self::connect_raw) only. The
    /// caller checks the server's answer and applies the extension.
    pub fn offer_extension(mut self, offer: impl Into<String>) -> Self {
        self.offers.push(offer.into());
        self
    }

    session_options!(override_methods; options);

    /// Opens the session: Ktor's `webSocketSession`. A generic helper takes this and an `FnOnce(Session) -> Fut`, since
    /// stable Rust cannot bound the future of an async closure.
    ///
    /// # Errors
    /// Before any I/O: [`ErrorKind::InvalidInput`] for an invalid argument or option, [`ErrorKind::Unsupported`] for one
    /// that the engine does not offer. Then [`ErrorKind::Connect`], [`ErrorKind::Tls`],
    /// [`ErrorKind::Rejected`] with the response if the server answered something else than 101, or did not agree to
    /// an extension that is required; [`ErrorKind::Protocol`] if its 101 is wrong, [`ErrorKind::Timeout`].
    ///
    /// # Cancel safety
    /// Dropped while pending, the attempt ends and the socket is freed.
    pub async fn connect(self) -> Result<Session> {
        if !self.offers.is_empty() {
            return Err(Error::new(
                ErrorKind::InvalidInput,
                "offer_extension(..) is for connect_raw: a session cannot apply an extension given as text, use extension(..)",
            ));
        }
        let client = self.client.clone();
        let runtime = client.engine().runtime();
        let (connection, config, call) = self.open().await?;
        let (runtime, span) = (runtime?, call.session(&connection));
        let response = connection.response().cloned();
        let (extensions, failure) = match config.extensions.negotiated(&connection) {
            Ok(extensions) => (extensions, None),
            Err(error) => (None, Some(error)),
        };
        let session =
            Session::builder(connection, runtime, config).extensions(extensions).span(span).open();
        let Some(mut error) = failure else { return Ok(session) };
        let code = error.close_code().unwrap_or(CloseCode::PROTOCOL_ERROR);
        // The failed negotiation is the caller's error, however closing goes.
        let _ = session.close(CloseReason::truncated(code, &error.to_string())).await;
        if let Some(response) = response {
            error = error.with_response(response.map(|()| Bytes::new()));
        }
        Err(client.named(error))
    }

    pub(crate) fn client(&self) -> &HttpClient {
        &self.client
    }

    /// Opens the session, runs a block on it, and closes it: Ktor's `webSocket { }`. Closes with 1000 if
    /// the block returned `Ok`, with 1011 if it returned `Err`.
    ///
    /// The block's value is returned even if closing fails.
    ///
    /// # Errors
    /// Those of [`connect`](Self::connect), and the block's own: see [`Error::other`].
    ///
    /// # Cancel safety
    /// Dropped while pending, the session is dropped: see [`Session`].
    pub async fn run<T>(self, block: impl AsyncFnOnce(&mut Session) -> Result<T>) -> Result<T> {
        let mut session = self.connect().await?;
        let result = block(&mut session).await;
        let reason = match &result {
            Ok(_) => CloseReason::normal(),
            Err(_) => CloseReason::truncated(CloseCode::INTERNAL_ERROR, ""),
        };
        // The caller gets the block's result, however closing goes; a block that wants the outcome closes itself.
        let _ = session.close(reason).await;
        result
    }

    /// Opens a session of raw frames, nothing automatic: Ktor's `webSocketRaw`. Of the plugin's options, the handshake
    /// timeout, the frame limit and the close timeout apply. The plugin's extensions are not offered: use
    /// [`offer_extension`](Self::offer_extension) for those that the caller applies.
    ///
    /// # Errors
    /// Those of [`connect`](Self::connect); [`ErrorKind::InvalidInput`] also for options of this request
    /// that only a session applies, such as a ping interval.
    ///
    /// # Cancel safety
    /// As for [`connect`](Self::connect).
    pub async fn connect_raw(mut self) -> Result<RawSession> {
        require(self.client.engine(), Capability::RawSessions)?;
        if !self.offers.is_empty() {
            require(self.client.engine(), Capability::RsvBits)?;
        }
        self.options.check_raw()?;
        self.options = self.options.extensions([]);
        let runtime = self.client.engine().runtime();
        let (connection, config, _) = self.open().await?;
        Ok(RawSession::new(connection, runtime?, &config))
    }

    async fn open(self) -> Result<(Connection, Arc<SessionConfig>, Call)> {
        let client = self.client.clone();
        let call = Call::handshake(client.engine_name(), self.parsed().ok().as_ref());
        let opened = call.run(self.open_on(&client)).await;
        let extensions = match &opened {
            Ok((connection, _)) => connection.response().map(Response::extensions),
            Err(error) => error.response().map(Response::extensions),
        };
        if let Some(extensions) = extensions {
            call.phases(extensions);
        }
        let (connection, config) = opened.map_err(|error| client.named(error))?;
        Ok((connection, config, call))
    }

    async fn open_on(self, client: &HttpClient) -> Result<(Connection, Arc<SessionConfig>)> {
        let engine = client.engine();
        client.check_web_sockets()?;
        options::check(&self.options, engine)?;
        let config = client.session_config(&self.options);
        let (handshake, secure) = self.handshake(engine, &config)?;
        let runtime = client.ready(secure)?;
        let limit = config.handshake_timeout;
        let deadline = runtime.now() + limit;
        let answer = client.call(http::Request::from(handshake).map(Body::from));
        let mut response =
            deadline::within(&*runtime, Some(limit), "the handshake", answer).await?;
        let Some(connection) = Connection::take(&mut response) else {
            return Err(rejected(response, &*runtime, deadline).await);
        };
        let connection = match connection.response() {
            // The layers may have changed the response.
            Some(_) => connection.with_response(response.map(drop)),
            None => connection,
        };
        Ok((connection, config))
    }

    fn handshake(self, engine: &dyn Engine, config: &SessionConfig) -> Result<(Handshake, bool)> {
        let Target { uri, secure, authorization } = Target::for_web_socket(self.parsed()?)?;
        let mut headers = self.headers?;
        Target::authorize(authorization, &mut headers);
        self.client.installed().defaults.add_to(&mut headers)?;
        if !headers.is_empty() {
            require(engine, Capability::HandshakeHeaders)?;
        }
        if !self.subprotocols.is_empty() {
            require(engine, Capability::Subprotocols)?;
        }
        let mut handshake = Handshake::new(uri)?.with_limits(config.limits());
        for (name, value) in &headers {
            handshake = handshake.header(name.clone(), value.clone())?;
        }
        for name in self.subprotocols {
            handshake = handshake.subprotocol(name)?;
        }
        for offer in self.offers {
            handshake = handshake.extension(offer)?;
        }
        Ok((config.extensions.offer(handshake)?, secure))
    }

    fn parsed(&self) -> Result<Url> {
        target::parse(&self.url, self.client.installed().defaults.url()?)
    }

    fn authorization(mut self, value: Result<HeaderValue>) -> Self {
        self.headers = self.headers.and_then(|mut headers| {
            headers.insert(header::AUTHORIZATION, value?);
            Ok(headers)
        });
        self
    }
}

impl fmt::Debug for WebSocketRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WebSocketRequest")
            .field("engine", &self.client.engine_name())
            .field("url", &self.parsed().as_ref().map(target::display))
            .field("headers", &self.headers.as_ref().map(drivetrain_engine::redacted))
            .field("subprotocols", &self.subprotocols.len())
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}

/// The error for a response that is no WebSocket. No failure while reading its body hides the status.
async fn rejected(response: Response<Body>, runtime: &dyn Runtime, deadline: Instant) -> Error {
    let (parts, body) = response.into_parts();
    if parts.status == StatusCode::SWITCHING_PROTOCOLS {
        let message =
            "a layer of the client replaced the response that carried the open connection";
        return Error::new(ErrorKind::Other, message);
    }
    let seen = error_body::start(body, runtime, deadline).await;
    let message = format!("the server refused the WebSocket with {}", parts.status);
    Error::new(ErrorKind::Rejected, message).with_response(Response::from_parts(parts, seen))
}
