//! What scenarios stand on: the peer's address, clients, processes to kill, time.

use std::{
    cell::RefCell,
    error::Error as StdError,
    fmt::Debug,
    fs,
    future::poll_fn,
    net::TcpStream,
    path::{Path, PathBuf},
    pin::pin,
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
    thread::{self, Thread},
    time::{Duration, Instant},
};

use drivetrain::{
    CloseReason, Error, ErrorKind, Frame, HttpClient, HttpClientBuilder, Json, Outcome, Session,
    WebSockets,
    engine::{Engine, Runtime},
};
use drivetrain_conformance::peer::Server;
use serde_json::Value;

use crate::engines::{self, Options};

/// What went wrong in a scenario, in words.
pub(crate) type Failure = Box<dyn StdError>;

/// No scenario takes longer.
const LIMIT: Duration = Duration::from_secs(60);

/// A port of loopback where nobody listens (tcpmux, RFC 1078): one that was free a moment ago may be taken.
pub(crate) const CLOSED_PORT: u16 = 1;

/// What became of a peer.
pub(crate) enum State {
    Port(u16),
    Skipped,
    Missing(String),
}

impl State {
    /// As `run` wrote it.
    pub(crate) fn read(text: &str) -> Result<Self, Failure> {
        Ok(match text.split_once(' ').unwrap_or((text, "")) {
            ("skipped", _) => Self::Skipped,
            ("missing", why) => Self::Missing(why.to_owned()),
            (port, _) => Self::Port(port.parse()?),
        })
    }
}

/// One engine and one peer.
pub(crate) struct Lab {
    pub(crate) peer: String,
    pub(crate) state: State,
    engine: String,
    /// Trusts the peer's certificate, and has what else the peer is there for.
    pub(crate) client: HttpClient,
    /// Has the system's certificates only.
    pub(crate) stranger: HttpClient,
    runtime: Arc<dyn Runtime>,
    start: PathBuf,
    dir: PathBuf,
    /// What `start` started for the running scenario.
    victims: RefCell<Vec<String>>,
}

impl Lab {
    pub(crate) fn new(
        peer: &str,
        state: State,
        engine: &str,
        start: &Path,
        dir: &Path,
    ) -> Result<Self, Failure> {
        let trusting = Options::trusting(dir)?;
        let options = match (peer, &state) {
            ("nginx-mutual", State::Port(_)) => trusting.with_certificate(dir, "client")?,
            ("haproxy", _) => trusting.over_http2(),
            _ => trusting,
        };
        let configured = made(engine, &options)?;
        let stranger = made(engine, &Options::default())?;
        Ok(Self {
            peer: peer.to_owned(),
            state,
            engine: engine.to_owned(),
            runtime: configured.runtime()?,
            client: builder(configured).build()?,
            stranger: builder(stranger).build()?,
            start: start.to_owned(),
            dir: dir.to_owned(),
            victims: RefCell::default(),
        })
    }

    /// The peer's URL of this path for a WebSocket.
    pub(crate) fn url(&self, path: &str) -> String {
        let has_tls = matches!(&*self.peer, "nginx" | "nginx-mutual" | "haproxy");
        let scheme = if has_tls { "wss" } else { "ws" };
        format!("{scheme}://localhost:{}{path}", self.port())
    }

    /// The peer's URL of this path for plain HTTP.
    pub(crate) fn http_url(&self, path: &str) -> String {
        self.url(path).replacen("ws", "http", 1)
    }

    pub(crate) fn port(&self) -> u16 {
        match self.state {
            State::Port(port) => port,
            _ => unreachable!("scenarios run with peers that have started"),
        }
    }

    /// A client that trusts the certificates of `run`, on an engine of its own, to be configured further.
    pub(crate) fn trusting(&self) -> Result<HttpClientBuilder, Failure> {
        Ok(builder(made(&self.engine, &Options::trusting(&self.dir)?)?))
    }

    /// The same with this client certificate.
    pub(crate) fn with_certificate(&self, name: &str) -> Result<HttpClient, Failure> {
        let options = Options::trusting(&self.dir)?.with_certificate(&self.dir, name)?;
        Ok(builder(made(&self.engine, &options)?).build()?)
    }

    /// The port of a peer that this one leads to.
    pub(crate) fn port_of(&self, peer: &str) -> Result<u16, Failure> {
        let ports = fs::read_to_string(self.dir.join("run/ports"))?;
        let mut ports = ports.lines().filter_map(|line| line.split_once(' '));
        let (_, port) = ports.find(|(name, _)| *name == peer).ok_or("run/ports lacks a peer")?;
        Ok(port.parse()?)
    }

    /// Something that passes connections on to this port and counts them.
    pub(crate) fn counting(&self, port: u16) -> Server {
        Server::start(move |conn| conn.relay(&TcpStream::connect(("127.0.0.1", port))?))
    }

    /// Whether the peer says this in its log.
    pub(crate) fn logged(&self, text: &str) -> Result<bool, Failure> {
        for entry in fs::read_dir(self.dir.join("run"))? {
            let entry = entry?;
            let is_peers =
                entry.file_name().to_string_lossy().starts_with(&format!("{}.", self.peer));
            if is_peers && fs::read_to_string(entry.path().join("log"))?.contains(text) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// A session at this path of the peer.
    pub(crate) async fn open(&self, path: &str) -> Result<Session, Error> {
        self.client.web_socket(self.url(path)).connect().await
    }

    /// What plain HTTP says at this path of the peer, which is JSON.
    pub(crate) async fn get(&self, path: &str) -> Result<Value, Error> {
        self.client.get(self.http_url(path)).send().await?.error_for_status().await?.json().await
    }

    /// Starts another peer of this kind, for this scenario only, and gives its port.
    pub(crate) fn victim(&self, peer: &str) -> Result<u16, Failure> {
        // Its log goes elsewhere; what it says here is one line.
        let started = Command::new(&self.start)
            .args([peer.as_ref(), self.dir.as_os_str()])
            .stdin(Stdio::null())
            .stderr(Stdio::inherit())
            .output()?;
        let line = String::from_utf8(started.stdout)?;
        let (group, port) = line.trim().split_once(' ').ok_or("the victim did not start")?;
        self.victims.borrow_mut().push(group.to_owned());
        Ok(port.parse()?)
    }

    /// Sends SIGKILL to the victims, with their children.
    pub(crate) fn kill(&self) -> Result<(), Failure> {
        for group in self.victims.take() {
            let sent = Command::new("kill").args(["-KILL", "--", &format!("-{group}")]).status()?;
            ensure(sent.success(), "the victim had ended before it was killed")?;
            // So that `run` does not kill another process that has this number later.
            let list = self.dir.join("run/groups");
            let others = fs::read_to_string(&list)?;
            let others = others.lines().filter(|other| *other != group);
            fs::write(list, others.map(|other| format!("{other}\n")).collect::<String>())?;
        }
        Ok(())
    }

    pub(crate) async fn sleep(&self, duration: Duration) {
        let mut timer = self.runtime.timer(self.runtime.now() + duration);
        poll_fn(|cx| timer.poll(cx)).await;
    }

    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.runtime.spawn(Box::pin(task));
    }

    /// The scenario's result, or that it took too long. Victims that live still are killed.
    pub(crate) async fn within(
        &self,
        scenario: impl Future<Output = Result<(), Failure>>,
    ) -> Result<(), Failure> {
        let mut scenario = pin!(scenario);
        let mut timer = self.runtime.timer(self.runtime.now() + LIMIT);
        let result = poll_fn(|cx| match scenario.as_mut().poll(cx) {
            Poll::Pending => timer.poll(cx).map(|()| Err(format!("not over in {LIMIT:?}").into())),
            ready => ready,
        })
        .await;
        result.and(self.kill())
    }
}

fn made(name: &str, options: &Options) -> Result<Arc<dyn Engine>, Failure> {
    Ok(engines::engine(name, options).ok_or("it is not in this build")?)
}

fn builder(engine: Arc<dyn Engine>) -> HttpClientBuilder {
    HttpClient::builder(engine).install(WebSockets::new().converter(Json))
}

/// A query parameter that no other session of this run has.
pub(crate) fn id() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// # Errors
/// The message, if it does not hold.
pub(crate) fn ensure(holds: bool, otherwise: impl Into<String>) -> Result<(), Failure> {
    if holds { Ok(()) } else { Err(otherwise.into().into()) }
}

/// # Errors
/// Both, if they differ.
pub(crate) fn same<T: PartialEq<U> + Debug, U: Debug>(
    what: &str,
    is: T,
    should_be: U,
) -> Result<(), Failure> {
    ensure(is == should_be, format!("{what} is {is:?} and should be {should_be:?}"))
}

/// The next message, which has to come.
pub(crate) async fn next(session: &mut Session) -> Result<Frame, Failure> {
    Ok(session.receive().await?.ok_or("the session was closed")?)
}

/// The next message, which has to be this.
pub(crate) async fn expect(
    session: &mut Session,
    should_be: impl Into<Frame>,
) -> Result<(), Failure> {
    let (is, should_be) = (next(session).await?, should_be.into());
    ensure(is == should_be, format!("{is:?} came, not the {should_be:?} that was sent"))
}

/// The text of the next message.
pub(crate) async fn text(session: &mut Session) -> Result<String, Failure> {
    let frame = next(session).await?;
    Ok(frame.read_text().ok_or_else(|| format!("{frame:?} came instead of a text"))?.to_owned())
}

/// Closes the session, which has to end cleanly, and to be closed then.
pub(crate) async fn close(session: &mut Session, reason: CloseReason) -> Result<Outcome, Failure> {
    let outcome = session.close(reason.clone()).await?;
    ensure(outcome.clean, format!("the end is not clean: {outcome}"))?;
    same("the Close that was sent", outcome.sent.as_ref(), Some(&reason))?;
    ensure(
        matches!(session.receive().await, Ok(None)),
        "receive() is not None after a clean close",
    )?;
    let error = session.send("too late").await.err().ok_or("send() works after a close")?;
    same("the error of sending then", error.kind(), ErrorKind::Closed)?;
    Ok(outcome)
}

/// Sees the session end because the connection did, soon, and say so on each call.
pub(crate) async fn expect_cut(session: &mut Session) -> Result<(), Failure> {
    let begin = Instant::now();
    for _ in 0..2 {
        match session.receive().await {
            Err(error) => {
                let said = format!("the error ({})", chain(&error));
                same(&said, error.kind(), ErrorKind::Io)?;
                let outcome = error.outcome().ok_or("the error has no outcome")?;
                ensure(!outcome.clean, "the outcome of the error is clean")?;
                ensure(outcome.received.is_none(), format!("a Close came: {outcome}"))?;
            }
            other => return Err(format!("{other:?} instead of an error").into()),
        }
    }
    ensure(session.send("x").await.is_err(), "send() works after the end")?;
    ensure(!session.closed().await?.clean, "the outcome is clean")?;
    ensure(begin.elapsed() < Duration::from_secs(30), format!("it took {:?}", begin.elapsed()))
}

/// The error with its causes, and with what the server said if it refused, in one line.
pub(crate) fn chain(error: &(dyn StdError + 'static)) -> String {
    let mut text = error.to_string();
    let refused = error.downcast_ref::<Error>().and_then(Error::response);
    if let Some(response) = refused {
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
pub(crate) fn block_on<T>(future: impl Future<Output = T>) -> T {
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
