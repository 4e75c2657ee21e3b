//! What a scenario is given: one engine and one server.

use std::{
    error::Error as StdError,
    fmt::Debug,
    future::poll_fn,
    pin::{Pin, pin},
    sync::{
        Arc, LazyLock,
        atomic::{AtomicU32, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
    thread::{self, Thread},
    time::Duration,
};

use drivetrain::{
    Capability, CloseReason, CookieJar, Error, ErrorKind, Frame, HttpClient, HttpClientBuilder,
    Json, Outcome, Session, WebSockets,
    engine::{Engine, Runtime},
    http::Version,
};

use crate::{
    engines::{self, Options},
    routes::Asked,
    server::{Running, Server},
};

/// What went wrong, in words.
pub(crate) type Failure = Box<dyn StdError + Send + Sync>;
pub(crate) type Verdict<T = ()> = Result<T, Failure>;

/// A behaviour, and how it is checked.
#[derive(Clone, Copy)]
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    /// The routes that it asks for: a scenario that asks for another, or not for each, fails.
    pub(crate) routes: &'static [&'static str],
    pub(crate) check: for<'a> fn(&'a Site) -> Checking<'a>,
}
pub(crate) type Checking<'a> = Pin<Box<dyn Future<Output = Verdict> + Send + 'a>>;

impl Scenario {
    /// Whether it opens a WebSocket.
    pub(crate) fn needs_web_sockets(&self) -> bool {
        self.routes.iter().any(|route| route.starts_with(SOCKET))
    }
}

/// What stands before the route of a WebSocket.
pub(crate) const SOCKET: &str = "ws:";

/// A list of scenarios: the name of each, which is that of its function, and its routes.
macro_rules! scenarios {
    ($(#[$meta:meta])* $list:ident: $($name:ident [$($route:literal),+ $(,)?]),+ $(,)?) => {
        $(#[$meta])*
        pub(crate) const $list: &[crate::site::Scenario] = &[$(crate::site::Scenario {
            name: stringify!($name),
            routes: &[$($route),+],
            check: |site| Box::pin($name(site)),
        }),+];
    };
}
pub(crate) use scenarios;

/// Where a server is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// `http` and `ws`, in HTTP/1.1.
    Plain,
    /// The same port in HTTP/2 with prior knowledge; WebSockets by RFC 8441.
    ClearHttp2,
    /// net/http with TLS, in HTTP/2 where the engine has it.
    Tls,
    /// net/http's reverse proxy before its plain port.
    Reverse,
}

impl Place {
    /// What stands before the name of a scenario.
    pub(crate) fn prefix(self) -> &'static str {
        match self {
            Self::Plain => "",
            Self::ClearHttp2 => "h2c::",
            Self::Tls => "tls::",
            Self::Reverse => "reverse::",
        }
    }
}

/// No scenario takes longer, on a busy machine.
const LIMIT: Duration = Duration::from_secs(300);

pub(crate) struct Site {
    pub(crate) client: HttpClient,
    engine: Arc<dyn Engine>,
    runtime: Arc<dyn Runtime>,
    server: Arc<Server>,
    ports: Vec<u16>,
    place: Place,
    options: Options,
    asked: Asked,
}

/// How a scenario ended.
pub(crate) struct Ending {
    pub(crate) verdict: Verdict,
    /// The engine, as it says, cannot do all of it.
    pub(crate) is_lacking: bool,
}

/// Runs one scenario; once more, on the next process, if it fails while its server dies. A server that dies too often is
/// not started again, so this ends.
pub(crate) fn run(server: &Arc<Server>, engine: &str, place: Place, scenario: Scenario) -> Ending {
    let failed = |error| Ending { verdict: Err(error), is_lacking: false };
    loop {
        let Running { ports, deaths } = match server.running() {
            Ok(running) => running,
            Err(error) => return failed(error),
        };
        let ending = run_once(server, ports, engine, place, scenario).unwrap_or_else(failed);
        let Err(error) = &ending.verdict else { return ending };
        if server.deaths() == deaths {
            return ending;
        }
        println!("again: {server}::{engine}::{}: failed with its server: {error}", scenario.name);
    }
}

fn run_once(
    server: &Arc<Server>,
    ports: Vec<u16>,
    engine: &str,
    place: Place,
    scenario: Scenario,
) -> Verdict<Ending> {
    let checking = async {
        let site = Site::new(server, ports, engine, place).await?;
        let verdict = site.within(LIMIT, (scenario.check)(&site)).await.and_then(|verdict| verdict);
        let is_lacking = site.asked.is_excused();
        let verdict = verdict
            .and_then(|()| site.asked.compare(scenario.routes))
            .map_err(|error| chain(&*error).into());
        Ok(Ending { verdict, is_lacking })
    };
    match ["async-std", "smol"].iter().any(|runtime| engine.ends_with(runtime)) {
        // These need no tokio, so they get none.
        true => block_on(checking),
        false => TOKIO.block_on(checking),
    }
}

static TOKIO: LazyLock<tokio::runtime::Runtime> =
    LazyLock::new(|| tokio::runtime::Runtime::new().expect("a runtime"));

impl Site {
    async fn new(server: &Arc<Server>, ports: Vec<u16>, name: &str, place: Place) -> Verdict<Self> {
        let options = match place {
            Place::Plain | Place::Reverse => Options::default(),
            Place::ClearHttp2 => Options::default().prior_knowledge(),
            Place::Tls => {
                let client = HttpClient::new(configured(name, &Options::default())?);
                let url = format!("http://127.0.0.1:{}/root", ports[0]);
                let root = client.get(url).send().await?.error_for_status().await?.bytes().await?;
                Options::trusting_pem(root.into())
            }
        };
        let engine = configured(name, &options)?;
        Ok(Self {
            client: builder(Arc::clone(&engine)).build()?,
            runtime: engine.runtime()?,
            engine,
            server: Arc::clone(server),
            ports,
            place,
            options,
            asked: Asked::default(),
        })
    }

    /// A client of the same engine, to be configured further.
    pub(crate) fn builder(&self) -> HttpClientBuilder {
        builder(Arc::clone(&self.engine))
    }

    /// A client of an engine that trusts the system's authorities alone.
    pub(crate) fn untrusting(&self) -> Verdict<HttpClient> {
        Ok(builder(configured(self.engine.name(), &Options::default())?).build()?)
    }

    /// A client that opens WebSockets over HTTP/2 where its engine can.
    pub(crate) fn over_http2(&self) -> Verdict<HttpClient> {
        let options = self.options.clone().over_http2();
        Ok(builder(configured(self.engine.name(), &options)?).build()?)
    }

    /// Whether the engine lacks this, as it says; a fault that the server shows with it is not seen then.
    pub(crate) fn lacks(&self, capability: Capability) -> bool {
        let lacks = !self.client.support(capability).is_offered();
        if lacks {
            self.leave_out();
        }
        lacks
    }

    /// Some routes of the scenario are not asked for, since the engine has no use for them.
    pub(crate) fn leave_out(&self) {
        self.asked.excuse();
    }

    /// The client, with the plugin's options given.
    pub(crate) fn with(&self, plugin: WebSockets) -> Verdict<HttpClient> {
        Ok(self.builder().install(plugin).build()?)
    }

    /// A client that keeps cookies.
    pub(crate) fn with_cookies(&self) -> Verdict<HttpClient> {
        Ok(self.builder().cookie_jar(CookieJar::new()).build()?)
    }

    pub(crate) fn server(&self) -> &Server {
        &self.server
    }

    pub(crate) fn place(&self) -> Place {
        self.place
    }

    /// The version of HTTP that is spoken here.
    pub(crate) fn version(&self) -> Version {
        let is_http2 = match self.place {
            Place::Plain | Place::Reverse => false,
            Place::ClearHttp2 => true,
            Place::Tls => self.client.support(Capability::Http2).is_offered(),
        };
        if is_http2 { Version::HTTP_2 } else { Version::HTTP_11 }
    }

    pub(crate) fn ws(&self, path: &str) -> String {
        self.ws_at(self.place, path)
    }

    pub(crate) fn http(&self, path: &str) -> String {
        self.http_at(self.place, path)
    }

    pub(crate) fn ws_at(&self, place: Place, path: &str) -> String {
        self.asked.note(true, path);
        self.url(place, path).replacen("http", "ws", 1)
    }

    pub(crate) fn http_at(&self, place: Place, path: &str) -> String {
        self.asked.note(false, path);
        self.url(place, path)
    }

    /// A WebSocket of the process that pings.
    pub(crate) fn pinging(&self, path: &str) -> Verdict<String> {
        self.asked.note(true, path);
        Ok(format!("ws://127.0.0.1:{}{path}", self.server.pinging_port()?))
    }

    fn url(&self, place: Place, path: &str) -> String {
        match place {
            Place::Plain | Place::ClearHttp2 => format!("http://127.0.0.1:{}{path}", self.ports[0]),
            Place::Tls => format!("https://localhost:{}{path}", self.ports[1]),
            Place::Reverse => format!("http://127.0.0.1:{}{path}", self.ports[2]),
        }
    }

    /// The proxy, with these credentials.
    pub(crate) fn proxy(&self, credentials: &str) -> String {
        format!("http://{credentials}@127.0.0.1:{}", self.ports[2])
    }

    pub(crate) async fn open(&self, path: &str) -> Verdict<Session> {
        Ok(self.client.web_socket(self.ws(path)).connect().await?)
    }

    /// The body of a page.
    pub(crate) async fn get(&self, path: &str) -> Verdict<String> {
        let response = self.client.get(self.http(path)).send().await?;
        Ok(response.error_for_status().await?.text().await?)
    }

    pub(crate) async fn sleep(&self, duration: Duration) {
        let mut timer = self.runtime.timer(self.runtime.now() + duration);
        poll_fn(|cx| timer.poll(cx)).await;
    }

    /// What the future gives, if it does so in time.
    pub(crate) async fn within<T>(
        &self,
        limit: Duration,
        future: impl Future<Output = T>,
    ) -> Verdict<T> {
        let mut future = pin!(future);
        let mut timer = self.runtime.timer(self.runtime.now() + limit);
        poll_fn(|cx| match future.as_mut().poll(cx) {
            Poll::Pending => timer.poll(cx).map(|()| Err(format!("not over in {limit:?}").into())),
            Poll::Ready(output) => Poll::Ready(Ok(output)),
        })
        .await
    }
}

/// The engine of this name.
fn configured(name: &str, options: &Options) -> Verdict<Arc<dyn Engine>> {
    Ok(engines::engine(name, options).ok_or("it is not in this build")?)
}

fn builder(engine: Arc<dyn Engine>) -> HttpClientBuilder {
    let has_web_sockets = engine.support(Capability::WebSockets).is_offered();
    let builder = HttpClient::builder(engine);
    match has_web_sockets {
        true => {
            // A busy machine does not meet the default time limits.
            let plugin = WebSockets::new().handshake_timeout(LIMIT / 5).close_timeout(LIMIT / 5);
            builder.install(plugin.converter(Json))
        }
        false => builder,
    }
}

/// A text that no other trial of this run has.
pub(crate) fn unique() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// # Errors
/// The message, if it does not hold.
pub(crate) fn ensure(holds: bool, otherwise: impl Into<String>) -> Verdict {
    if holds { Ok(()) } else { Err(otherwise.into().into()) }
}

/// # Errors
/// Both, if they differ.
pub(crate) fn same<T: PartialEq<U> + Debug, U: Debug>(what: &str, is: T, should_be: U) -> Verdict {
    ensure(is == should_be, format!("{what} is {is:?} and should be {should_be:?}"))
}

/// The next message, which has to come.
pub(crate) async fn next(session: &mut Session) -> Verdict<Frame> {
    Ok(session.receive().await?.ok_or("the session was closed")?)
}

/// The text of the next message.
pub(crate) async fn text(session: &mut Session) -> Verdict<String> {
    let frame = next(session).await?;
    Ok(frame.read_text().ok_or_else(|| format!("{frame:?} came instead of a text"))?.to_owned())
}

/// Sends it, and expects its echo.
pub(crate) async fn echo(session: &mut Session, message: impl Into<Frame>) -> Verdict {
    let message = message.into();
    session.send(message.clone()).await?;
    let back = next(session).await?;
    ensure(back == message, format!("{message:?} was echoed as {back:?}, or changed"))
}

/// Closes the session, which has to end cleanly, unless its server is one that leaves Closes unanswered.
pub(crate) async fn close(site: &Site, session: &mut Session) -> Verdict<Outcome> {
    let closed = session.close(CloseReason::normal()).await;
    if crate::faults::leaves_closes_unanswered(site.server().name()) {
        return Ok(closed.unwrap_or_else(|_| session.outcome()));
    }
    let outcome = closed?;
    ensure(outcome.clean, format!("the end is not clean: {outcome}"))?;
    ensure(
        matches!(session.receive().await, Ok(None)),
        "receive() is not None after a clean close",
    )?;
    Ok(outcome)
}

/// The session ends, or has ended, cleanly, with the peer's code.
pub(crate) async fn ends_with_code(session: &mut Session, code: u16) -> Verdict<Outcome> {
    let end = session.receive().await?;
    ensure(end.is_none(), format!("{end:?} came after the Close"))?;
    let outcome = session.outcome();
    let received = outcome.received.as_ref().map(|reason| u16::from(reason.code()));
    same("the code that came", received, Some(code))?;
    Ok(outcome)
}

/// # Errors
/// What came, if it is not an error of this kind.
pub(crate) fn fails<T: Debug>(result: Result<T, Error>, kind: ErrorKind) -> Verdict<Error> {
    match result {
        Err(error) if error.kind() == kind => Ok(error),
        Err(error) => Err(format!("{kind:?} was expected: {}", chain(&error)).into()),
        Ok(value) => Err(format!("{kind:?} was expected, not {value:?}").into()),
    }
}

/// The error with its causes, and with what the server said if it refused, in one line.
pub(crate) fn chain(error: &(dyn StdError + 'static)) -> String {
    let mut text = error.to_string();
    if let Some(response) = error.downcast_ref::<Error>().and_then(Error::response) {
        text.push_str(&format!(": {}", String::from_utf8_lossy(response.body())));
    }
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(&format!(": {error}"));
        cause = error.source();
    }
    text.replace('\n', " ")
}

/// Polls on this thread, without any runtime.
fn block_on<T>(future: impl Future<Output = T>) -> T {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut cx = Context::from_waker(&waker);
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut cx) {
            Poll::Ready(value) => return value,
            Poll::Pending => thread::park(),
        }
    }
}
