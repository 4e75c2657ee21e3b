//! Servers in tests without sockets.
//!
//! | | |
//! |---|---|
//! | [`InMemory`] | the connector of an engine whose server is a service in the same process; `drivetrain::testing::loopback` makes a client of it |
//! | [`handshake`] | the request of a handshake, for a service that is called by hand, such as with `Router::oneshot` |

use std::{fmt, future::Future, pin::Pin, sync::Arc};

use bytes::Bytes;
use drivetrain_connect::{
    FromTokio,
    http1::{self, During},
};
use drivetrain_engine::{
    Body, Capability, Connector, Error, ErrorKind, Handshake, HeadLimits, NativeSetting, Protocol,
    Result, Runtime, Support, UpgradeResult,
};
use http::{HeaderValue, Request, Response, StatusCode, Uri, header};
use http_body_util::BodyExt as _;
#[doc(no_inline)]
pub use hyper::body::Incoming;
use hyper::{client::conn::http1::SendRequest, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::io::DuplexStream;
use tower_service::Service;

use crate::{
    serve::{BoxError, call},
    upgrader::OnRuntime,
};

/// The bytes that one end of a connection in memory may be ahead of the other.
const AHEAD: usize = 64 << 10;

/// A connector whose server is a service in the same process: each request, and each handshake, has a connection in memory
/// to an HTTP/1.1 server with the service. Both ends run on one runtime, the service's sessions included.
///
/// The URL's host is the request's `Host`; neither it nor the scheme is looked at otherwise, and there is no TLS.
#[derive(Clone)]
pub struct InMemory {
    serve: Arc<dyn Fn(DuplexStream, Arc<dyn Runtime>) -> Task + Send + Sync>,
    runtime: Arc<dyn Runtime>,
}

type Task = Pin<Box<dyn Future<Output = ()> + Send>>;

impl InMemory {
    /// A connector to this service, which is one for [`serve`](crate::serve()), on this runtime.
    pub fn new<S, B>(service: S, runtime: Arc<dyn Runtime>) -> Self
    where
        S: Service<Request<Incoming>, Response = Response<B>> + Clone + Send + Sync + 'static,
        S::Future: Send,
        S::Error: Into<BoxError>,
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let serve = move |stream: DuplexStream, runtime: Arc<dyn Runtime>| -> Task {
            let (service, runtime) = (service.clone(), OnRuntime(runtime));
            let service = service_fn(move |mut request: Request<Incoming>| {
                request.extensions_mut().insert(runtime.clone());
                call(service.clone(), request)
            });
            let connection = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service)
                .with_upgrades();
            Box::pin(async {
                if let Err(error) = connection.await {
                    tracing::debug!(target: "drivetrain::server", %error, "a connection failed");
                }
            })
        };
        Self { serve: Arc::new(serve), runtime }
    }

    /// A connection, and a task for each of its ends.
    async fn open(&self, during: During) -> Result<SendRequest<Body>> {
        let (ours, theirs) = tokio::io::duplex(AHEAD);
        self.runtime.spawn((self.serve)(theirs, Arc::clone(&self.runtime)));
        let (sender, connection) = http1::builder(HeadLimits::default())
            .handshake(TokioIo::new(ours))
            .await
            .map_err(failed(during))?;
        self.runtime.spawn(Box::pin(async {
            // A failure is the request's.
            let _ = connection.with_upgrades().await;
        }));
        Ok(sender)
    }
}

impl Connector for InMemory {
    fn support(&self, capability: Capability) -> Support {
        match capability {
            Capability::Http1 | Capability::Tls | Capability::ConnectTimeout => Support::Offered,
            _ => Support::missing("the server is a service in the same process"),
        }
    }

    fn settings(&self) -> Vec<NativeSetting> {
        Vec::new()
    }

    fn check(&self) -> Result<()> {
        Ok(())
    }

    fn runtime(&self) -> Result<Arc<dyn Runtime>> {
        Ok(Arc::clone(&self.runtime))
    }

    async fn execute(&self, request: Request<Body>) -> Result<Response<Body>> {
        let mut sender = self.open(During::Request).await?;
        let response = sender.send_request(on_the_wire(request)).await;
        response.map(answered).map_err(failed(During::Request))
    }

    async fn upgrade(&self, handshake: &Handshake) -> Result<UpgradeResult> {
        let mut sender = self.open(During::Handshake).await?;
        let request = on_the_wire(handshake.request().map(|()| Body::empty()));
        let response = sender.send_request(http1::spelled(request).await).await;
        let mut response = response.map_err(failed(During::Handshake))?;
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            return Ok(UpgradeResult::Refused(answered(response)));
        }
        let upgraded =
            hyper::upgrade::on(&mut response).await.map_err(failed(During::Handshake))?;
        let response = response.map(drop);
        let accepted = handshake.verify(&response)?;
        let parts = upgraded.downcast::<TokioIo<DuplexStream>>().map_err(|_| {
            Error::new(ErrorKind::Other, "the connection is another one than it was")
        })?;
        let (stream, read_ahead) = (FromTokio(parts.io.into_inner()), parts.read_buf);
        let (stream, protocol) = (Box::new(stream), Protocol::H1);
        Ok(UpgradeResult::upgraded(stream, read_ahead, protocol, response, accepted))
    }
}

impl fmt::Debug for InMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InMemory").field("runtime", &self.runtime).finish_non_exhaustive()
    }
}

fn failed(during: During) -> impl Fn(hyper::Error) -> Error {
    move |error| http1::failed(during, HeadLimits::default(), None, error)
}

fn answered(response: Response<Incoming>) -> Response<Body> {
    response.map(|incoming| Body::streaming(incoming.map_err(failed(During::Body))))
}

/// The request as hyper writes it: a path for a target, and a `Host`.
fn on_the_wire(mut request: Request<Body>) -> Request<Body> {
    *request.version_mut() = http::Version::HTTP_11;
    let host = request.uri().authority().and_then(|host| HeaderValue::try_from(host.as_str()).ok());
    if let Some(host) = host {
        request.headers_mut().entry(header::HOST).or_insert(host);
    }
    let target = request.uri().path_and_query().map_or("/", |target| target.as_str());
    if let Ok(target) = target.parse() {
        *request.uri_mut() = target;
    }
    request
}

/// The request of a valid handshake for this URL, for a service that is called by hand, such as with axum's
/// `Router::oneshot`. Its connection cannot be upgraded: the answer is the refusal, or the 101 and nothing after it. The
/// session's handler is then not called. For sessions, use `drivetrain::testing::loopback`.
///
/// ```
/// # use drivetrain_engine::IntoFraming;
/// use drivetrain_server::{Upgrader, testing};
/// use http::StatusCode;
/// use http_body_util::Empty;
/// use tower::ServiceExt as _;
///
/// # async fn example(native: impl IntoFraming) {
/// let service = Upgrader::new(native).service(async |_session| Ok(()));
/// let mut request = testing::handshake::<Empty<&[u8]>>("ws://app.test/chat");
/// request.headers_mut().insert("origin", "https://evil.test".parse().unwrap());
/// let response = service.oneshot(request).await.unwrap();
/// assert_eq!(response.status(), StatusCode::FORBIDDEN);
/// # }
/// ```
///
/// # Panics
/// If the URL is none, or none for WebSockets.
pub fn handshake<B: Default>(url: &str) -> Request<B> {
    let uri: Uri = url.parse().expect("a URL");
    let request = Handshake::new(uri).expect("a URL of a WebSocket").request();
    let mut request = on_the_wire(request.map(|()| Body::empty())).map(|_| B::default());
    let nothing = hyper::upgrade::on(Request::new(()));
    request.extensions_mut().insert(nothing);
    request
}
