// src/connector.rs: HTTP/1.1 over plain TCP, on tokio.

use std::{
    fmt,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use drivetrain_connect::http1::{During, ReadFirst, builder, failed, spelled};
use drivetrain_engine::{
    Body, BoxStream, ByteStream, Bytes, Capability, ConnectTimeout, Connector, Error, ErrorKind,
    Handshake, HeadLimits, Instant, NativeSetting, Protocol, Result, Runtime, Support, Timer,
    UpgradeResult,
};
use http::{HeaderValue, Request, Response, StatusCode, Uri, header, uri::Scheme};
use hyper::{
    body::Incoming,
    rt::{Read, Write},
};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpStream, runtime::Handle, time};
use tokio_util::compat::{FuturesAsyncReadCompatExt as _, TokioAsyncReadCompatExt as _};

// 1. The connector: its options, its capabilities, one exchange of each kind.

const NO_TLS: &str = "it speaks plain TCP only: use Native for https and wss";
const NO_POOL: &str = "it opens a connection for each request: use Native to keep them";
const ONE_STREAM: &str = "it runs over one custom stream: it opens one WebSocket";

/// The value is the configuration: making it does nothing.
#[derive(Clone, Default)]
pub struct Plain {
    custom: Option<Arc<Mutex<Option<BoxStream>>>>,
}

impl Plain {
    /// A connector without any option set.
    pub fn new() -> Self {
        Self::default()
    }

    /// The connector over a stream that is connected already, for one WebSocket.
    pub fn over(stream: impl ByteStream + 'static) -> Self {
        Self { custom: Some(Arc::new(Mutex::new(Some(Box::new(stream))))) }
    }
}

impl Connector for Plain {
    fn support(&self, capability: Capability) -> Support {
        match capability {
            Capability::Http1 | Capability::ConnectTimeout if self.custom.is_some() => {
                Support::missing(ONE_STREAM)
            }
            Capability::Http1 | Capability::ConnectTimeout => Support::Offered,
            Capability::Tls | Capability::ClientCertificates => Support::missing(NO_TLS),
            Capability::ConnectionReuse => Support::missing(NO_POOL),
            // A capability that is not known yet is missing, too.
            _ => Support::missing("it does HTTP/1.1 over TCP, and nothing else"),
        }
    }

    fn settings(&self) -> Vec<NativeSetting> {
        Vec::new()
    }

    fn check(&self) -> Result<()> {
        Ok(())
    }

    fn runtime(&self) -> Result<Arc<dyn Runtime>> {
        Ok(Arc::new(Tokio::current()?))
    }

    async fn execute(&self, request: Request<Body>) -> Result<Response<Body>> {
        if self.custom.is_some() {
            return Err(Error::not_offered(Capability::Http1, ONE_STREAM));
        }
        let socket = dial(request.uri(), request.extensions().get()).await?;
        // On a socket an early answer may have a reset behind it.
        let response = exchange(ReadFirst::new(TokioIo::new(socket)), During::Request, request);
        Ok(response.await?.map(Body::streaming))
    }

    async fn upgrade(&self, handshake: &Handshake) -> Result<UpgradeResult> {
        let request = handshake.request().map(|()| Body::empty());
        let stream: BoxStream = match &self.custom {
            None => Box::new(dial(request.uri(), request.extensions().get()).await?.compat()),
            Some(custom) => {
                let stream = custom.lock().unwrap_or_else(PoisonError::into_inner).take();
                let used = "the custom stream has been used: make an engine over another one";
                stream.ok_or_else(|| Error::new(ErrorKind::Connect, used))?
            }
        };
        let stream = TokioIo::new(stream.compat());
        let mut response = exchange(stream, During::Handshake, request).await?;
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            return Ok(UpgradeResult::Refused(response.map(Body::streaming)));
        }
        let upgrade = hyper::upgrade::on(&mut response);
        let response = response.map(drop);
        let accepted = handshake.verify(&response)?;
        let upgraded = upgrade.await.map_err(|error| broken(During::Handshake, error))?;
        let stream = Box::new(TokioIo::new(upgraded).compat());
        let read_ahead = Bytes::new(); // hyper's stream yields it
        Ok(UpgradeResult::upgraded(stream, read_ahead, Protocol::H1, response, accepted))
    }
}

/// Prints what was set, and nothing secret.
impl fmt::Debug for Plain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Plain").field("is_custom", &self.custom.is_some()).finish()
    }
}

// 2. One request on a connection of its own, and errors as drivetrain's.

async fn dial(uri: &Uri, timeout: Option<&ConnectTimeout>) -> Result<TcpStream> {
    if uri.scheme() != Some(&Scheme::HTTP) {
        return Err(Error::not_offered(Capability::Tls, NO_TLS));
    }
    Tokio::current()?;
    let host = uri.host().unwrap_or_default().trim_matches(['[', ']']);
    let port = uri.port_u16().unwrap_or(80);
    let connect = TcpStream::connect((host, port));
    let connected = match timeout {
        None => connect.await,
        Some(&ConnectTimeout(limit)) => time::timeout(limit, connect).await.map_err(|_| {
            let message = format!("connecting to {host}:{port} took longer than {limit:?}");
            Error::new(ErrorKind::Timeout, message)
        })?,
    };
    let stream = connected.map_err(|error| {
        let message = format!("cannot connect to {host}:{port}");
        Error::new(ErrorKind::Connect, message).with_source(error)
    })?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

async fn exchange<S>(
    stream: S,
    during: During,
    mut request: Request<Body>,
) -> Result<Response<Incoming>>
where
    S: Read + Write + Unpin + Send + 'static,
{
    let runtime = Tokio::current()?;
    let limits = HeadLimits::default();
    let failed = |error| broken(during, error);
    let (mut sender, connection) = builder(limits).handshake(stream).await.map_err(failed)?;
    // The task ends with the response's body, or with the future that waits for the response. Its error
    // is also that of the exchange.
    runtime.0.spawn(connection.with_upgrades());

    // On the wire there is a path, and a `Host`.
    let uri = request.uri().clone();
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    *request.uri_mut() = path.parse().map_err(|error: http::uri::InvalidUri| {
        Error::new(ErrorKind::InvalidInput, "the URL has no valid path").with_source(error)
    })?;
    let host = uri.authority().map_or("", |authority| authority.as_str());
    if let Ok(host) = HeaderValue::try_from(host) {
        request.headers_mut().entry(header::HOST).or_insert(host);
    }
    let response = sender.send_request(spelled(request).await).await.map_err(failed)?;
    limits.allow(response.headers())?;
    Ok(response)
}

fn broken(during: During, error: hyper::Error) -> Error {
    failed(during, HeadLimits::default(), None, error)
}

// 3. Tasks and time for the sessions.

#[derive(Debug)]
struct Tokio(Handle);

impl Tokio {
    fn current() -> Result<Self> {
        Handle::try_current().map(Self).map_err(|error| {
            let message = "needs a tokio runtime: call it from within one";
            Error::of_engine(ErrorKind::Other, message).with_source(error)
        })
    }
}

impl Runtime for Tokio {
    fn spawn(&self, future: Pin<Box<dyn Future<Output = ()> + Send>>) {
        self.0.spawn(future);
    }

    fn now(&self) -> Instant {
        Instant::from_origin(time::Instant::now().duration_since(origin()))
    }

    fn timer(&self, deadline: Instant) -> Box<dyn Timer> {
        // Sessions make timers wherever they are polled, also outside of the runtime.
        let _entered = self.0.enter();
        Box::new(Sleep(Box::pin(time::sleep_until(moment(deadline)))))
    }
}

struct Sleep(Pin<Box<time::Sleep>>);

impl Timer for Sleep {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.0.as_mut().poll(cx)
    }

    fn reset(&mut self, deadline: Instant) {
        self.0.as_mut().reset(moment(deadline));
    }
}

/// One origin for the process, so that moments of different sessions compare.
fn origin() -> time::Instant {
    static ORIGIN: std::sync::OnceLock<time::Instant> = std::sync::OnceLock::new();
    *ORIGIN.get_or_init(time::Instant::now)
}

fn moment(instant: Instant) -> time::Instant {
    const NEVER: Duration = Duration::from_secs(30 * 365 * 86_400);
    origin() + instant.since_origin().min(NEVER)
}
