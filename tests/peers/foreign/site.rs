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
    CloseReason, CookieJar, Error, ErrorKind, Frame, HttpClient, HttpClientBuilder, Json, Outcome,
    Session, WebSockets,
    engine::{self, Engine, Runtime},
};

use crate::{
    engines::{self, Options},
    server::{Running, Server},
};

/// What went wrong, in words.
pub(crate) type Failure = Box<dyn StdError + Send + Sync>;
pub(crate) type Verdict<T = ()> = Result<T, Failure>;

/// A behaviour: its name, and how it is checked.
pub(crate) type Scenario = (&'static str, for<'a> fn(&'a Site) -> Checking<'a>);
pub(crate) type Checking<'a> = Pin<Box<dyn Future<Output = Verdict> + Send + 'a>>;

/// A row of a list of scenarios.
macro_rules! scenarios {
    ($(#[$meta:meta])* $list:ident: $($name:ident),+ $(,)?) => {
        $(#[$meta])*
        pub(crate) const $list: &[crate::site::Scenario] =
            &[$((stringify!($name), |site| Box::pin($name(site)))),+];
    };
}
pub(crate) use scenarios;

/// No scenario takes longer, on a busy machine.
const LIMIT: Duration = Duration::from_secs(300);

pub(crate) struct Site {
    pub(crate) client: HttpClient,
    engine: Arc<dyn Engine>,
    runtime: Arc<dyn Runtime>,
    server: Arc<Server>,
    ports: Vec<u16>,
}

/// Runs one scenario; once more, on the next process, if it fails while its server dies. A server that dies too often is
/// not started again, so this ends.
pub(crate) fn run(server: &Arc<Server>, engine: &str, scenario: Scenario) -> Verdict {
    loop {
        let Running { ports, deaths } = server.running()?;
        let Err(error) = run_once(server, ports, engine, scenario) else { return Ok(()) };
        if server.deaths() == deaths {
            return Err(error);
        }
        println!("again: {server}::{engine}::{}: failed with its server: {error}", scenario.0);
    }
}

fn run_once(server: &Arc<Server>, ports: Vec<u16>, engine: &str, scenario: Scenario) -> Verdict {
    let checking = async {
        let site = Site::new(server, ports, engine)?;
        site.within(LIMIT, (scenario.1)(&site)).await?
    };
    let result = match ["async-std", "smol"].iter().any(|runtime| engine.ends_with(runtime)) {
        // These need no tokio, so they get none.
        true => block_on(checking),
        false => TOKIO.block_on(checking),
    };
    result.map_err(|error| chain(&*error).into())
}

static TOKIO: LazyLock<tokio::runtime::Runtime> =
    LazyLock::new(|| tokio::runtime::Runtime::new().expect("a runtime"));

impl Site {
    fn new(server: &Arc<Server>, ports: Vec<u16>, name: &str) -> Verdict<Self> {
        let engine = engine::all().into_iter().find(|engine| engine.name() == name);
        let engine = engine.ok_or("it is not in this build")?;
        Ok(Self {
            client: builder(Arc::clone(&engine)).build()?,
            runtime: engine.runtime()?,
            engine,
            server: Arc::clone(server),
            ports,
        })
    }

    /// A client of the same engine, to be configured further.
    pub(crate) fn builder(&self) -> HttpClientBuilder {
        builder(Arc::clone(&self.engine))
    }

    pub(crate) fn engine_name(&self) -> &str {
        self.engine.name()
    }

    /// A client whose engine is told these options.
    pub(crate) fn configured(&self, options: &Options) -> Verdict<HttpClientBuilder> {
        let engine =
            engines::engine(self.engine_name(), options).ok_or("it is not in this build")?;
        Ok(builder(engine))
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

    pub(crate) fn port(&self, number: usize) -> u16 {
        self.ports[number]
    }

    pub(crate) fn ws(&self, path: &str) -> String {
        format!("ws://127.0.0.1:{}{path}", self.ports[0])
    }

    pub(crate) fn http(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.ports[0])
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

fn builder(engine: Arc<dyn Engine>) -> HttpClientBuilder {
    // A busy machine does not meet the default time limits.
    let plugin = WebSockets::new().handshake_timeout(LIMIT / 5).close_timeout(LIMIT / 5);
    HttpClient::builder(engine).install(plugin.converter(Json))
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
