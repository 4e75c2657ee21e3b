//! A server that follows a script, and what the tests say again and again.

use std::{
    collections::VecDeque,
    future::{Future, pending},
    pin::pin,
    sync::{Arc, Mutex},
    time::Duration,
};

use drivetrain::{
    Body, Bytes, Capability, CloseReason, Error, ErrorKind, Frame, HttpClient, NegotiatedExtension,
    OpCode, RawFrame, Result, Support,
    engine::{Answer, Engine, Handshake, Instant, Runtime, async_trait},
    extension::Extension,
    http::{HeaderMap, Request, Response, Uri},
    reconnect::{Backoff, Disconnected, Event, ReconnectRequest, ReconnectingSession, Retrying},
    testing::{PipePeer, TestRuntime, pipe},
};

pub(crate) const SECOND: Duration = Duration::from_secs(1);

/// What the server does with a handshake.
#[derive(Clone, Debug)]
pub(crate) enum Reply {
    Opens,
    Refuses(u16, &'static [(&'static str, &'static str)]),
    Fails(ErrorKind),
    Hangs,
}

/// A handshake.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) at: Instant,
    pub(crate) uri: Uri,
    pub(crate) headers: HeaderMap,
}

impl Seen {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Server {
    pub(crate) runtime: TestRuntime,
    replies: Arc<Mutex<VecDeque<Reply>>>,
    log: Arc<Mutex<Vec<Seen>>>,
    peers: Arc<Mutex<Vec<PipePeer>>>,
    /// Handshakes that are not answered and not given up.
    hanging: Arc<()>,
}

impl Server {
    /// Opens as often as it is asked to after these.
    pub(crate) fn new(replies: impl Into<VecDeque<Reply>>) -> Self {
        let replies = Arc::new(Mutex::new(replies.into()));
        let (log, peers, hanging) = Default::default();
        Self { runtime: TestRuntime::new(), replies, log, peers, hanging }
    }

    pub(crate) fn request(&self, backoff: Backoff) -> ReconnectRequest {
        HttpClient::new(self.clone()).web_socket("ws://a.example/feed").reconnect(backoff)
    }

    pub(crate) fn request_with(&self, backoff: Backoff, with: impl Extension) -> ReconnectRequest {
        let request = HttpClient::new(self.clone()).web_socket("ws://a.example/feed");
        request.extension(with).reconnect(backoff)
    }

    pub(crate) fn open(&self, backoff: Backoff) -> ReconnectingSession {
        self.runtime.block_on(self.request(backoff).connect()).unwrap()
    }

    /// The other end of the latest connection, which the test has from now on.
    pub(crate) fn peer(&self) -> PipePeer {
        self.peers.lock().unwrap().pop().expect("a connection")
    }

    pub(crate) fn log(&self) -> Vec<Seen> {
        self.log.lock().unwrap().clone()
    }

    pub(crate) fn hanging(&self) -> usize {
        Arc::strong_count(&self.hanging) - 1 - self.engines()
    }

    /// What the session tells next, however long it takes.
    pub(crate) fn next(&self, session: &mut ReconnectingSession) -> Result<Option<Event>> {
        self.patiently(session.receive())
    }

    /// What a future gives, however long it takes.
    pub(crate) fn patiently<T>(&self, future: impl Future<Output = T>) -> T {
        let mut future = pin!(future);
        for _ in 0..10_000 {
            if let Some(value) = self.runtime.poll_now(future.as_mut()) {
                return value;
            }
            self.runtime.advance(SECOND);
        }
        panic!("it takes more than three hours");
    }

    pub(crate) fn waits(&self, session: &mut ReconnectingSession) -> bool {
        self.runtime.poll_now(pin!(session.receive())).is_none()
    }

    pub(crate) fn disconnected(&self, session: &mut ReconnectingSession) -> Disconnected {
        match self.next(session) {
            Ok(Some(Event::Disconnected(lost))) => *lost,
            other => panic!("a loss was expected: {other:?}"),
        }
    }

    pub(crate) fn retrying(&self, session: &mut ReconnectingSession) -> Retrying {
        match self.next(session) {
            Ok(Some(Event::Retrying(retry))) => *retry,
            other => panic!("a try was expected: {other:?}"),
        }
    }

    /// Returns the number of the try.
    pub(crate) fn connected(&self, session: &mut ReconnectingSession) -> u32 {
        match self.next(session) {
            Ok(Some(Event::Connected(connected))) => connected.attempt,
            other => panic!("a connection was expected: {other:?}"),
        }
    }

    pub(crate) fn text(&self, session: &mut ReconnectingSession) -> String {
        match self.next(session) {
            Ok(Some(Event::Message(frame))) => frame.read_text().unwrap().to_owned(),
            other => panic!("a message was expected: {other:?}"),
        }
    }

    /// The session ends, cleanly or with this kind of error, and says so again and again.
    pub(crate) fn ends(&self, session: &mut ReconnectingSession, kind: Option<ErrorKind>) {
        for _ in 0..3 {
            match (self.next(session), kind) {
                (Ok(None), None) => {}
                (Err(error), Some(kind)) if error.kind() == kind => {}
                other => panic!("another end was expected: {other:?}"),
            }
        }
        assert_eq!(session.state(), drivetrain::reconnect::State::Ended);
        let error = self.runtime.block_on(session.send("late")).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Closed);
    }

    fn engines(&self) -> usize {
        Arc::strong_count(&self.log) - 1
    }
}

#[async_trait]
impl Engine for Server {
    fn name(&self) -> &str {
        "scripted"
    }

    fn support(&self, _: Capability) -> Support {
        Support::Offered
    }

    fn runtime(&self) -> Result<Arc<dyn Runtime>> {
        Ok(Arc::new(self.runtime.clone()))
    }

    async fn execute(&self, _: Request<Body>) -> Result<Response<Body>> {
        Err(Error::new(ErrorKind::Connect, "it is a script"))
    }

    async fn connect(&self, handshake: Handshake) -> Result<Answer> {
        let seen = Seen {
            at: self.runtime.now(),
            uri: handshake.uri().clone(),
            headers: handshake.headers().clone(),
        };
        self.log.lock().unwrap().push(seen);
        let reply = self.replies.lock().unwrap().pop_front();
        match reply.unwrap_or(Reply::Opens) {
            Reply::Opens => {
                let (connection, peer) = pipe();
                self.peers.lock().unwrap().push(peer);
                // What is offered is agreed to, as it stands.
                let offers = handshake.offered_extensions().iter();
                let agreed = offers.map(|offer| NegotiatedExtension::new(offer, [])).collect();
                Ok(Answer::Open(connection.with_extensions(agreed)))
            }
            Reply::Refuses(status, headers) => {
                let mut response = Response::builder().status(status);
                for (name, value) in headers {
                    response = response.header(*name, *value);
                }
                Ok(Answer::Refused(response.body(Body::from(Bytes::new())).unwrap()))
            }
            Reply::Fails(kind) => Err(Error::new(kind, "scripted")),
            Reply::Hangs => {
                let _hanging = Arc::clone(&self.hanging);
                pending().await
            }
        }
    }
}

/// Everything that has arrived at the server.
pub(crate) fn arrived(peer: &mut PipePeer) -> Vec<String> {
    let frames = std::iter::from_fn(|| peer.receive());
    let messages = frames.filter(|frame| frame.opcode == OpCode::Text);
    messages.map(|frame| String::from_utf8(frame.payload.to_vec()).unwrap()).collect()
}

pub(crate) fn texts(frames: &[Frame]) -> Vec<&str> {
    frames.iter().map(|frame| frame.read_text().unwrap()).collect()
}

pub(crate) fn close_frame(code: u16) -> RawFrame {
    RawFrame::new(OpCode::Close, CloseReason::new(code, "").unwrap().to_payload())
}
