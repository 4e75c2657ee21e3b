//! Opening a WebSocket.

use std::{fmt, sync::Arc, time::Duration};

use bytes::Bytes;
use drivetrain_engine::{
    Body, Capability, CloseCode, CloseReason, Connection, Engine, Error, ErrorKind, Extension,
    Handshake, Result,
};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header};
use http_body_util::BodyExt as _;
use url::Url;

use crate::{
    HttpClient, RawSession, Session, deadline,
    extensions::Extensions,
    options::{Effective, SessionOptions, require},
    reconnect::{Backoff, ReconnectRequest},
    session::Stagger,
    target::{self, Target},
    trace::Call,
};

/// More of a refused handshake's body than this is not read.
const MOST_OF_A_REFUSAL: usize = 64 << 10;

/// A WebSocket to open: headers, subprotocols, and the options of this one session.
///
/// Made by [`HttpClient::web_socket`]. Nothing happens until [`connect`](Self::connect),
/// [`run`](Self::run) or [`connect_raw`](Self::connect_raw) is awaited; what was given wrongly before is
/// their error, before any I/O.
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
    /// `None` leaves the plugin's.
    extensions: Option<Extensions>,
    /// For raw sessions, as they stand in the header.
    offers: Vec<String>,
    options: SessionOptions,
}

impl WebSocketRequest {
    pub(crate) fn new(client: HttpClient, url: &str) -> Self {
        Self {
            client,
            url: url.to_owned(),
            headers: Ok(HeaderMap::new()),
            subprotocols: Vec::new(),
            extensions: None,
            offers: Vec::new(),
            options: SessionOptions::default(),
        }
    }

    /// Adds a header to the handshake. The handshake's own (`Upgrade`, `Connection`, `Sec-WebSocket-*`)
    /// are refused.
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

    /// Offers a subprotocol; the first offered is the preferred one. The one that the server chose is
    /// [`Session::subprotocol`]; a server may choose none.
    pub fn subprotocol(mut self, name: impl Into<String>) -> Self {
        self.subprotocols.push(name.into());
        self
    }

    /// Adds an extension to offer, such as
    /// [`PermessageDeflate`](crate::extension::PermessageDeflate). The request's extensions are offered in place of
    /// the plugin's. What the server agreed to is [`Session::extensions`].
    pub fn extension(mut self, extension: impl Extension) -> Self {
        self.extensions.get_or_insert_default().push(extension);
        self
    }

    /// Overrides [`WebSockets::extensions`](crate::WebSockets::extensions); with an empty list, none is offered.
    pub fn extensions(mut self, extensions: impl IntoIterator<Item = Arc<dyn Extension>>) -> Self {
        self.extensions = Some(extensions.into_iter().collect());
        self
    }

    /// Offers an extension as it stands in `Sec-WebSocket-Extensions`. For [`connect_raw`](Self::connect_raw) only:
    /// whoever offers an extension like this has to check what the server answered, and to apply it.
    pub fn offer_extension(mut self, offer: impl Into<String>) -> Self {
        self.offers.push(offer.into());
        self
    }

    /// Overrides [`WebSockets::ping_interval`](crate::WebSockets::ping_interval); `None` switches pings
    /// off.
    pub fn ping_interval(mut self, interval: impl Into<Option<Duration>>) -> Self {
        self.options.ping_interval = Some(interval.into());
        self
    }

    /// Overrides [`WebSockets::ping_timeout`](crate::WebSockets::ping_timeout).
    pub fn ping_timeout(mut self, timeout: Duration) -> Self {
        self.options.ping_timeout = Some(timeout);
        self
    }

    /// Lowers [`WebSockets::max_frame_size`](crate::WebSockets::max_frame_size): the smallest limit set
    /// anywhere wins.
    pub fn max_frame_size(mut self, bytes: usize) -> Self {
        self.options.max_frame_size = Some(bytes);
        self
    }

    /// Lowers [`WebSockets::max_message_size`](crate::WebSockets::max_message_size): the smallest limit
    /// set anywhere wins.
    pub fn max_message_size(mut self, bytes: usize) -> Self {
        self.options.max_message_size = Some(bytes);
        self
    }

    /// Lowers [`WebSockets::max_stream_size`](crate::WebSockets::max_stream_size): the smallest limit set
    /// anywhere wins.
    pub fn max_stream_size(mut self, bytes: u64) -> Self {
        self.options.max_stream_size = Some(bytes);
        self
    }

    /// Overrides [`WebSockets::close_timeout`](crate::WebSockets::close_timeout).
    pub fn close_timeout(mut self, timeout: Duration) -> Self {
        self.options.close_timeout = Some(timeout);
        self
    }

    /// Overrides [`WebSockets::handshake_timeout`](crate::WebSockets::handshake_timeout).
    pub fn handshake_timeout(mut self, timeout: Duration) -> Self {
        self.options.handshake_timeout = Some(timeout);
        self
    }

    /// Overrides [`WebSockets::incoming_capacity`](crate::WebSockets::incoming_capacity).
    pub fn incoming_capacity(mut self, bytes: usize) -> Self {
        self.options.incoming_capacity = Some(bytes);
        self
    }

    /// Overrides [`WebSockets::outgoing_capacity`](crate::WebSockets::outgoing_capacity).
    pub fn outgoing_capacity(mut self, bytes: usize) -> Self {
        self.options.outgoing_capacity = Some(bytes);
        self
    }

    /// Opens the session: Ktor's `webSocketSession`. Whoever writes a generic helper takes this and an
    /// `FnOnce(Session) -> Fut`, since stable Rust cannot bound the future of an async closure.
    ///
    /// # Errors
    /// Before any I/O: [`ErrorKind::InvalidInput`] for what can never work, [`ErrorKind::Unsupported`]
    /// for what the engine does not offer. Then [`ErrorKind::Connect`], [`ErrorKind::Tls`],
    /// [`ErrorKind::Rejected`] with the response if the server answered something else than 101, or did not agree to
    /// an extension that is required; [`ErrorKind::Protocol`] if its 101 is wrong, [`ErrorKind::Timeout`].
    ///
    /// # Cancel safety
    /// Dropped while pending, the attempt ends and the socket is freed.
    pub async fn connect(self) -> Result<Session> {
        if !self.offers.is_empty() {
            return Err(Error::new(
                ErrorKind::InvalidInput,
                "a session applies no extension that is offered as text: use extension(..), or connect_raw",
            ));
        }
        let client = self.client.clone();
        let runtime = client.engine().runtime();
        let (connection, effective, call) = self.open().await?;
        let (runtime, span) = (runtime?, call.session(&connection));
        let response = connection.response().cloned();
        let (extensions, failure) = match effective.extensions.negotiated(&connection) {
            Ok(extensions) => (extensions, None),
            Err(error) => (None, Some(error)),
        };
        let stagger = Stagger::random(&*runtime);
        let session =
            Session::open(connection, extensions, runtime, effective.session, stagger, span);
        let Some(mut error) = failure else { return Ok(session) };
        let code = error.close_code().unwrap_or(CloseCode::PROTOCOL_ERROR);
        // How the closing went changes nothing for the caller.
        let _ = session.close(CloseReason::truncated(code, &error.to_string())).await;
        if let Some(response) = response {
            error = error.with_response(response.map(|()| Bytes::new()));
        }
        Err(client.named(error))
    }

    /// Makes it a session that connects again when its connection is lost: see
    /// [`reconnect`](crate::reconnect).
    pub fn reconnect(self, backoff: Backoff) -> ReconnectRequest {
        ReconnectRequest::new(self, backoff)
    }

    pub(crate) fn client(&self) -> &HttpClient {
        &self.client
    }

    /// Opens the session, runs a block on it, and closes it: Ktor's `webSocket { }`. Closes with 1000 if
    /// the block returned `Ok`, with 1011 if it returned `Err`.
    ///
    /// The block's value is returned even if the peer ends badly after it.
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
        // How the closing went is in the outcome, for blocks that close by themselves; the value of the
        // block is what its caller came for.
        let _ = session.close(reason).await;
        result
    }

    /// Opens a session of raw frames, nothing automatic: Ktor's `webSocketRaw`. Of the plugin's options
    /// the handshake timeout, the limit for frames and the close timeout hold; the others are for sessions. So the
    /// plugin's extensions are not offered; [`offer_extension`](Self::offer_extension) is for those that the caller
    /// applies.
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
        let SessionOptions { max_frame_size, handshake_timeout, close_timeout, .. } = self.options;
        let of_raw = SessionOptions {
            max_frame_size,
            handshake_timeout,
            close_timeout,
            ..Default::default()
        };
        if self.options != of_raw || self.extensions.is_some() {
            return Err(Error::new(
                ErrorKind::InvalidInput,
                "a raw session does nothing by itself: of a request's options only max_frame_size, \
                 handshake_timeout and close_timeout are for connect_raw, and of extensions those offered as \
                 text",
            ));
        }
        self.extensions = Some(Extensions::default());
        let runtime = self.client.engine().runtime();
        let (connection, effective, _) = self.open().await?;
        Ok(RawSession::new(connection, runtime?, &effective.session))
    }

    async fn open(self) -> Result<(Connection, Effective, Call)> {
        let client = self.client.clone();
        let call = Call::handshake(client.engine_name(), self.parsed().ok().as_ref());
        let opened = call.run(self.open_on(&client)).await;
        let (connection, effective) = opened.map_err(|error| client.named(error))?;
        Ok((connection, effective, call))
    }

    async fn open_on(self, client: &HttpClient) -> Result<(Connection, Effective)> {
        let engine = client.engine();
        client.check_web_sockets()?;
        self.options.check(engine)?;
        if let Some(extensions) = &self.extensions {
            extensions.check(engine)?;
        }
        let effective = client.effective(&self.options, self.extensions.clone());
        let (handshake, secure) = self.handshake(engine, &effective)?;
        let runtime = client.ready(secure)?;
        let answer = async {
            let mut response = client.call(http::Request::from(handshake).map(Body::from)).await?;
            let Some(connection) = Connection::take(&mut response) else {
                return Err(rejected(response).await);
            };
            Ok(match connection.response() {
                // As the layers left it.
                Some(_) => connection.with_response(response.map(drop)),
                None => connection,
            })
        };
        let limit = Some(effective.handshake_timeout);
        let connection = deadline::within(&*runtime, limit, "the handshake", answer).await?;
        Ok((connection, effective))
    }

    fn handshake(self, engine: &dyn Engine, effective: &Effective) -> Result<(Handshake, bool)> {
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
        let mut handshake = Handshake::new(uri)?.with_limits(effective.session.limits);
        for (name, value) in &headers {
            handshake = handshake.header(name.clone(), value.clone())?;
        }
        for name in self.subprotocols {
            handshake = handshake.subprotocol(name)?;
        }
        for offer in self.offers {
            handshake = handshake.extension(offer)?;
        }
        Ok((effective.extensions.offer(handshake)?, secure))
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
            .field("subprotocols", &self.subprotocols)
            .field("extensions", &self.extensions)
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}

/// The error for a server that answered, but not with a WebSocket.
async fn rejected(response: Response<Body>) -> Error {
    let (parts, mut body) = response.into_parts();
    if parts.status == StatusCode::SWITCHING_PROTOCOLS {
        let message =
            "a layer of the client replaced the response that carried the open connection";
        return Error::new(ErrorKind::Other, message);
    }
    let mut seen = Vec::new();
    // What of the body could be read is attached; that the rest failed is not what went wrong here.
    while let Some(Ok(frame)) = body.frame().await {
        if let Ok(data) = frame.into_data() {
            let room = MOST_OF_A_REFUSAL - seen.len();
            seen.extend_from_slice(&data[..data.len().min(room)]);
            if seen.len() == MOST_OF_A_REFUSAL {
                break;
            }
        }
    }
    let message = format!("the server refused the WebSocket with {}", parts.status);
    Error::new(ErrorKind::Rejected, message).with_response(Response::from_parts(parts, seen.into()))
}
