//! A client whose server is a service in the same process.

use bytes::Bytes;
use drivetrain_engine::combination;
use drivetrain_native::NativeFraming;
use drivetrain_server::testing::{InMemory, Incoming};
use http_body::Body;
use tower::Service;

use super::Clock;
use crate::client::HttpClient;

/// A client whose engine is this service: client and server are tested in one process, without a socket and without waiting.
///
/// The service is one for [`serve`](crate::server::serve()), such as an axum `Router`, a `tower::service_fn`, or
/// [`Upgrader::service`](crate::server::Upgrader::service). It answers the client's requests, and sessions go over frames in
/// memory; the host and the scheme of a URL do not matter beyond the request's `Host`. For a clock that the test moves, and
/// for options of the client, use [`Loopback`].
///
/// ```
/// use drivetrain::{
///     Result, Session,
///     engine::native::NativeFraming,
///     server::Upgrader,
///     testing::loopback,
/// };
///
/// async fn greet(mut session: Session) -> Result<()> {
///     while let Some(frame) = session.receive().await? {
///         session.send(format!("hello {}", frame.read_text().unwrap_or_default())).await?;
///     }
///     Ok(())
/// }
///
/// let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
/// runtime.block_on(async {
///     let client = loopback(Upgrader::new(NativeFraming::new()).service(greet));
///     let mut session = client.web_socket("ws://app.test/greet").connect().await.unwrap();
///     session.send("world").await.unwrap();
///     let answer = session.receive().await.unwrap().unwrap();
///     assert_eq!(answer.read_text(), Some("hello world"));
/// });
/// ```
pub fn loopback<S, B>(service: S) -> HttpClient
where
    S: Service<
            http::Request<Incoming>,
            Response = http::Response<B>,
            Error: Into<BoxError>,
            Future: Send,
        > + Clone
        + Send
        + Sync
        + 'static,
    B: Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
{
    HttpClient::new(Loopback::new(service, &Clock::new()))
}

type BoxError = Box<dyn std::error::Error + Send + Sync>;

combination! {
    /// The engine of a client whose server is a service in the same process: see [`loopback`]. Its frames are the native
    /// codec's.
    ///
    /// Client and server are on one [`Clock`]: pings, timeouts, the shutdown of
    /// [`Sessions`](crate::server::Sessions) and the heartbeats of event streams happen when the test moves it. Only an
    /// `Upgrader` with a [`runtime`](crate::server::Upgrader::runtime) of its own stays there. Handlers run in tasks of the
    /// clock: for tokio's own timers and sockets in them, set that runtime.
    ///
    /// ```
    /// use std::time::Duration;
    /// use drivetrain::{
    ///     CloseCode, HttpClient, OpCode, Result, Session,
    ///     engine::native::NativeFraming,
    ///     server::Upgrader,
    ///     testing::{Clock, Loopback},
    /// };
    ///
    /// async fn wait(mut session: Session) -> Result<()> {
    ///     while session.receive().await?.is_some() {}
    ///     Ok(())
    /// }
    ///
    /// let clock = Clock::new();
    /// let service = Upgrader::new(NativeFraming::new()).service(wait);
    /// let client = HttpClient::new(Loopback::new(service, &clock));
    /// clock.block_on(async {
    ///     // A raw session does not answer pings.
    ///     let mut silent = client.web_socket("ws://app.test/").connect_raw().await.unwrap();
    ///     clock.advance(Duration::from_secs(20)).await;
    ///     assert_eq!(silent.receive().await.unwrap().unwrap().opcode, OpCode::Ping);
    ///     clock.advance(Duration::from_secs(20)).await;
    ///     let close = silent.receive().await.unwrap().unwrap();
    ///     assert_eq!(close.opcode, OpCode::Close);
    ///     assert_eq!(close.payload[..2], u16::from(CloseCode::INTERNAL_ERROR).to_be_bytes());
    /// });
    /// ```
    pub struct Loopback(InMemory, NativeFraming) = "loopback";
}

impl Loopback {
    /// An engine for this service, on this clock.
    pub fn new<S, B>(service: S, clock: &Clock) -> Self
    where
        S: Service<
                http::Request<Incoming>,
                Response = http::Response<B>,
                Error: Into<BoxError>,
                Future: Send,
            > + Clone
            + Send
            + Sync
            + 'static,
        B: Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
    {
        Self::of(InMemory::new(service, clock.runtime()))
    }
}
