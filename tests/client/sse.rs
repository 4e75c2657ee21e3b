//! Event streams in virtual time: what is read, when they connect again, and when they end.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    collections::VecDeque,
    pin::{Pin, pin},
    sync::{Arc, Mutex},
    task::{Context, Poll},
    time::Duration,
};

use drivetrain::{
    Body, Bytes, Capability, Error, ErrorKind, HttpClient, HttpTimeout, Result, Support,
    engine::{Answer, Engine, Handshake, Runtime, async_trait},
    http::{HeaderMap, Request, Response},
    sse::{EventStream, Reconnect, ServerSentEvent, SseRequest},
    testing::TestRuntime,
};
use futures_core::Stream;

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn fields_are_read_as_the_standard_says() {
    let text = "\u{feff}: a comment\r\n\
        event: add\r\ndata: one\r\ndata\r\ndata:  two\r\nid: 7\r\nretry: 2000\r\nnonsense: x\r\n\r\n\
        data:second\rid\r\r\
        id: 8\n\n\
        event: without data\n\n\
        data: 8\n\n\
        id: 9\0\nretry: 1x\ndata: third\n\n\
        data: incomplete\n";
    for size in [1, 2, 3, 7, text.len()] {
        let chunks = text.as_bytes().chunks(size).map(Bytes::copy_from_slice).collect();
        let server = Server::new([Reply::events(chunks, End::Clean)]);
        let mut events = server.open(|request| request.reconnect(None));
        let first = server.next(&mut events).unwrap().unwrap();
        assert_eq!((&*first.event, &*first.data), ("add", "one\n\n two"), "chunks of {size}");
        assert_eq!((first.id.as_deref(), first.retry), (Some("7"), Some(2 * SECOND)));
        for (data, id) in [("second", None), ("8", Some("8")), ("third", Some("8"))] {
            let event = server.next(&mut events).unwrap().unwrap();
            assert_eq!((&*event.event, &*event.data), ("message", data), "chunks of {size}");
            assert_eq!((event.id.as_deref(), event.retry), (id, None));
        }
        assert_eq!(server.next(&mut events).unwrap(), None, "an incomplete event is none");
        assert_eq!(events.last_event_id(), Some("8"));
    }
}

#[test]
fn an_event_is_there_when_its_last_line_is_there() {
    for end in ["\n\n", "\r\r", "\r\n\r\n"] {
        let event = format!("data: now{end}");
        let server = Server::new([Reply::text(&event, End::Never)]);
        let mut events = server.open(|request| request);
        assert_eq!(server.next(&mut events).unwrap().unwrap().data, "now", "{end:?}");
        assert!(server.waits(&mut events));
    }
}

#[test]
fn bytes_that_are_not_utf8_are_replaced() {
    let chunks = vec![Bytes::from_static(b"data: Zo\xeb \xc3"), Bytes::from_static(b"\xab\n\n")];
    let server = Server::new([Reply::events(chunks, End::Never)]);
    let mut events = server.open(|request| request);
    assert_eq!(server.next(&mut events).unwrap().unwrap().data, "Zo\u{fffd} \u{eb}");
}

#[test]
fn the_stream_goes_on_after_its_connection() {
    for end in [End::Clean, End::Error(ErrorKind::Io), End::Error(ErrorKind::Timeout)] {
        let server = Server::new([
            Reply::text("id: 1\ndata: one\n\ndata: half", end),
            Reply::text("data: two\n\n", End::Never),
        ]);
        let mut events = server.open(|request| request);
        assert_eq!(server.next(&mut events).unwrap().unwrap().data, "one");
        assert!(server.waits(&mut events));
        server.runtime.advance(SECOND * 299 / 100);
        assert!(server.waits(&mut events));
        assert_eq!(server.requests(), 1, "not before the delay");
        server.runtime.advance(SECOND);
        let event = server.next(&mut events).unwrap().unwrap();
        assert_eq!((&*event.data, event.id.as_deref()), ("two", Some("1")));
        assert_eq!(server.header(0, "last-event-id"), None);
        assert_eq!(server.header(1, "last-event-id").as_deref(), Some("1"));
        assert_eq!(server.header(1, "accept").as_deref(), Some("text/event-stream"));
    }
}

#[test]
fn the_server_sets_the_delay() {
    let server = Server::new([
        Reply::text("retry: 60000\n\n", End::Clean),
        Reply::text("data: back\n\n", End::Never),
    ]);
    let mut events = server.open(|request| request);
    assert!(server.waits(&mut events));
    server.runtime.advance(SECOND * 59);
    assert!(server.waits(&mut events));
    assert_eq!(server.requests(), 1);
    server.runtime.advance(SECOND * 16);
    let event = server.next(&mut events).unwrap().unwrap();
    assert_eq!((&*event.data, event.retry), ("back", Some(60 * SECOND)));
}

#[test]
fn tries_in_vain_are_counted_and_the_last_error_is_the_streams() {
    let refused = || Reply::Fails(ErrorKind::Connect);
    let server = Server::new([
        Reply::text("data: one\n\n", End::Clean),
        refused(),
        Reply::text("", End::Error(ErrorKind::Io)),
        refused(),
    ]);
    let mut events = server.open(|request| request.reconnect(Reconnect::new().max_tries(3)));
    server.next(&mut events).unwrap().unwrap();
    for (tries, pause) in [(1, 3), (2, 6), (3, 12)] {
        assert!(server.waits(&mut events));
        assert_eq!(server.requests(), tries);
        server.runtime.advance(SECOND * pause * 3 / 4);
        assert!(server.waits(&mut events));
        assert_eq!(server.requests(), tries, "the delay doubles");
        server.runtime.advance(SECOND * pause / 2 + SECOND);
    }
    for _ in 0..2 {
        assert_eq!(server.next(&mut events).unwrap_err().kind(), ErrorKind::Connect);
    }
    assert_eq!(server.requests(), 4);
}

#[test]
fn an_event_ends_the_tries_in_vain_and_nothing_else_does() {
    let server = Server::new([
        Reply::text("data: one\n\n", End::Clean),
        Reply::Fails(ErrorKind::Connect),
        Reply::Fails(ErrorKind::Timeout),
        Reply::text("data: two\n\n", End::Clean),
        Reply::text(": only a comment\n\n", End::Clean),
        Reply::text("id: 7\n\n", End::Error(ErrorKind::Io)),
        Reply::text("", End::Clean),
    ]);
    let mut events = server.open(|request| request.reconnect(Reconnect::new().max_tries(3)));
    assert_eq!(server.next(&mut events).unwrap().unwrap().data, "one");
    for pause in [4, 8, 15] {
        assert!(server.waits(&mut events));
        server.runtime.advance(SECOND * pause);
    }
    assert_eq!(server.next(&mut events).unwrap().unwrap().data, "two");
    for pause in [4, 8, 15] {
        assert!(server.waits(&mut events), "counted anew");
        server.runtime.advance(SECOND * pause);
    }
    assert_eq!(server.next(&mut events).unwrap(), None);
    assert_eq!(server.requests(), 7);
}

#[test]
fn without_reconnecting_the_end_is_the_end() {
    for (end, error) in [(End::Clean, None), (End::Error(ErrorKind::Io), Some(ErrorKind::Io))] {
        let server = Server::new([Reply::text("data: one\n\n", end)]);
        let mut events = server.open(|request| request.reconnect(None));
        server.next(&mut events).unwrap().unwrap();
        let result = server.next(&mut events);
        assert_eq!(result.as_ref().err().map(Error::kind), error);
        assert!(result.is_err() || result.unwrap().is_none());
        assert_eq!(server.requests(), 1);
    }
}

#[test]
fn what_is_no_event_stream_is_an_error_and_no_reason_to_try_again() {
    let html = || Reply::Answers(200, "text/html", vec![], End::Clean);
    let status = |status| move || Reply::Answers(status, "text/event-stream", vec![], End::Clean);
    let cases: [(&dyn Fn() -> Reply, _); 4] = [
        (&html, ErrorKind::Protocol),
        (&status(500), ErrorKind::Status),
        (&status(301), ErrorKind::Status),
        (&|| Reply::Fails(ErrorKind::Tls), ErrorKind::Tls),
    ];
    for (reply, kind) in cases {
        let server = Server::new([reply()]);
        let error = server.connect(|request| request).unwrap_err();
        assert_eq!(error.kind(), kind);
        assert_eq!(error.engine(), Some("scripted"));
        assert_eq!(error.response().is_some(), kind != ErrorKind::Tls, "{error:?}");

        let server = Server::new([Reply::text("data: one\n\n", End::Clean), reply()]);
        let mut events = server.open(|request| request);
        server.next(&mut events).unwrap().unwrap();
        assert!(server.waits(&mut events));
        server.runtime.advance(SECOND * 5);
        assert_eq!(server.next(&mut events).unwrap_err().kind(), kind);
        server.runtime.advance(SECOND * 500);
        assert_eq!(server.next(&mut events).unwrap_err().kind(), kind);
        assert_eq!(server.requests(), 2);
    }
}

/// A header cannot have it, so that the server would send everything again.
#[test]
fn an_id_that_cannot_be_sent_back_is_the_servers_mistake() {
    let server = Server::new([Reply::text("id: a\u{1}b\ndata: one\n\n", End::Clean)]);
    let mut events = server.open(|request| request);
    assert_eq!(server.next(&mut events).unwrap().unwrap().id.as_deref(), Some("a\u{1}b"));
    assert!(server.waits(&mut events));
    server.runtime.advance(SECOND * 5);
    assert_eq!(server.next(&mut events).unwrap_err().kind(), ErrorKind::Protocol);
    assert_eq!(server.requests(), 1);
    // One that is no id to the standard is passed over.
    let server = Server::new([Reply::text("id: a\0b\ndata: one\n\n", End::Clean)]);
    let mut events = server.open(|request| request);
    assert_eq!(server.next(&mut events).unwrap().unwrap().id, None);
}

#[test]
fn no_content_is_the_end() {
    let nothing = || Reply::Answers(204, "", vec![], End::Clean);
    let server = Server::new([nothing()]);
    let mut events = server.open(|request| request);
    assert_eq!(server.next(&mut events).unwrap(), None);

    let server = Server::new([Reply::text("data: one\n\n", End::Clean), nothing()]);
    let mut events = server.open(|request| request);
    server.next(&mut events).unwrap().unwrap();
    assert!(server.waits(&mut events));
    server.runtime.advance(SECOND * 5);
    for _ in 0..2 {
        assert_eq!(server.next(&mut events).unwrap(), None);
    }
    assert_eq!(server.requests(), 2);
}

#[test]
fn the_first_try_is_one() {
    let server = Server::new([Reply::Fails(ErrorKind::Connect)]);
    assert_eq!(server.connect(|request| request).unwrap_err().kind(), ErrorKind::Connect);
    assert_eq!(server.requests(), 1);
}

#[test]
fn an_event_has_a_limit() {
    let endless = || (0..).map(|_| Bytes::from_static(b"data: 0123456789\n"));
    for chunks in [
        endless().take(1000).collect(),
        vec![Bytes::from("x".repeat(5) + ": ignored\ndata: " + &"y".repeat(200))],
        vec![Bytes::from("id: ".to_owned() + &"y".repeat(200) + "\n")],
    ] {
        let server = Server::new([Reply::events(chunks, End::Never)]);
        let mut events = server.open(|request| request.max_event_size(100));
        assert_eq!(server.next(&mut events).unwrap_err().kind(), ErrorKind::TooBig);
        assert_eq!(server.bodies(), 0, "the connection is freed");
    }
    // The limit itself is allowed, and it is one event's: a client's for responses does not hold.
    let event = format!("data: {}\n\n", "y".repeat(100));
    let server = Server::new([Reply::text(&event.repeat(50), End::Never)]);
    let client = HttpClient::builder(server.clone()).max_response_size(10).build().unwrap();
    let opening = client.sse("http://a.example/").max_event_size(100).connect();
    let mut events = server.runtime.block_on(opening).unwrap();
    for _ in 0..50 {
        assert_eq!(server.next(&mut events).unwrap().unwrap().data.len(), 100);
    }
}

#[test]
fn dropping_the_wait_loses_nothing() {
    let chunks = ["data: o", "ne\n", "\n"].map(Bytes::from).to_vec();
    let server = Server::new([Reply::events(chunks, End::Slow(SECOND))]);
    let mut events = server.open(|request| request);
    for _ in 0..2 {
        assert!(server.waits(&mut events));
        assert!(server.waits(&mut events));
        server.runtime.advance(SECOND);
    }
    assert!(server.waits(&mut events));
    server.runtime.advance(SECOND);
    assert_eq!(server.next(&mut events).unwrap().unwrap().data, "one");
}

#[test]
fn silence_is_a_lost_connection_if_there_is_a_limit_for_it() {
    let server = Server::new([
        Reply::text(": alive\n\n", End::Never),
        Reply::text("data: back\n\n", End::Never),
    ]);
    let client =
        HttpClient::builder(server.clone()).install(HttpTimeout::new().socket(SECOND * 20));
    let opening = client.build().unwrap().sse("http://a.example/").connect();
    let mut events = server.runtime.block_on(opening).unwrap();
    assert!(server.waits(&mut events));
    server.runtime.advance(SECOND * 19);
    assert!(server.waits(&mut events));
    assert_eq!(server.bodies(), 1);
    server.runtime.advance(SECOND * 2);
    assert!(server.waits(&mut events));
    assert_eq!(server.bodies(), 0, "the lost connection is freed before the delay");
    server.runtime.advance(SECOND * 4);
    assert_eq!(server.next(&mut events).unwrap().unwrap().data, "back");
}

#[test]
fn a_known_id_is_sent_and_kept() {
    let reply = || Reply::text("data: x\n\n", End::Never);
    let open: [fn(SseRequest) -> SseRequest; 2] =
        [|request| request.last_event_id("Zoë"), |request| request.header("Last-Event-ID", "41")];
    for (open, id) in open.into_iter().zip(["Zoë", "41"]) {
        let server = Server::new([reply()]);
        let mut events = server.open(open);
        assert_eq!(server.header(0, "last-event-id").as_deref(), Some(id));
        assert_eq!(server.next(&mut events).unwrap().unwrap().id.as_deref(), Some(id));
        assert_eq!(events.last_event_id(), Some(id));
    }
}

#[test]
fn what_can_never_work_is_refused_before_anything_is_sent() {
    let wrong: [fn(SseRequest) -> SseRequest; 3] = [
        |request| request.last_event_id("a\nb"),
        |request| request.max_event_size(0),
        |request| request.header("no name", ""),
    ];
    for wrong in wrong {
        let server = Server::new([]);
        assert_eq!(server.connect(wrong).unwrap_err().kind(), ErrorKind::InvalidInput);
        assert_eq!(server.requests(), 0);
    }
}

#[test]
fn a_request_with_a_body_is_sent_again_with_it_if_asked_for() {
    let reply = |data: &str| Reply::text(&format!("data: {data}\n\n"), End::Clean);
    let server = Server::new([reply("one"), reply("two")]);
    let client = HttpClient::new(server.clone());
    let request = client.post("http://a.example/").body("question").sse();
    let opening = request.reconnect(Reconnect::new()).connect();
    let mut events = server.runtime.block_on(opening).unwrap();
    server.next(&mut events).unwrap().unwrap();
    assert!(server.waits(&mut events));
    server.runtime.advance(SECOND * 5);
    server.next(&mut events).unwrap().unwrap();
    let bodies: Vec<_> = server.log().into_iter().map(|seen| seen.body).collect();
    assert_eq!(bodies, ["question", "question"]);

    let stream = || Body::streaming(Body::from("once"));
    let server = Server::new([reply("one")]);
    let client = HttpClient::new(server.clone());
    let request = || client.post("http://a.example/").body(stream()).sse();
    let again = request().reconnect(Reconnect::new()).connect();
    assert_eq!(server.runtime.block_on(again).unwrap_err().kind(), ErrorKind::InvalidInput);
    assert_eq!(server.requests(), 0);
    let mut events = server.runtime.block_on(request().connect()).unwrap();
    assert_eq!(server.next(&mut events).unwrap().unwrap().data, "one");
}

#[test]
fn a_server_that_never_pauses_does_not_hold_up_the_task() {
    let comments = (0..10_000).map(|_| Bytes::from_static(b": nothing\n\n")).collect();
    let server = Server::new([Reply::events(comments, End::Never)]);
    let mut events = server.open(|request| request);
    let mut cx = Context::from_waker(std::task::Waker::noop());
    assert!(pin!(events.next()).poll(&mut cx).is_pending());
    assert!(server.log()[0].left() > 9_000, "it was read in one go");
}

#[test]
fn as_a_stream_it_ends_after_its_error() {
    let server = Server::new([Reply::text("data: one\n\n", End::Error(ErrorKind::Io))]);
    let mut events = server.open(|request| request.reconnect(None));
    let mut cx = Context::from_waker(std::task::Waker::noop());
    let mut poll = || match Pin::new(&mut events).poll_next(&mut cx) {
        Poll::Ready(item) => item.map(|item| item.map(|event: ServerSentEvent| event.data)),
        Poll::Pending => panic!("there is something to give"),
    };
    assert_eq!(poll().unwrap().unwrap(), "one");
    assert_eq!(poll().unwrap().unwrap_err().kind(), ErrorKind::Io);
    assert!(poll().is_none() && poll().is_none());
}

#[test]
fn a_task_can_have_all_of_it() {
    fn is_send<T: Send>(value: T) -> T {
        value
    }
    let server = Server::new([Reply::text("data: one\n\n", End::Never)]);
    let client = HttpClient::new(server.clone());
    let opening = is_send(is_send(client.sse("http://a.example/")).connect());
    let mut events = is_send(server.runtime.block_on(opening).unwrap());
    assert!(server.runtime.block_on(is_send(events.next())).is_ok());
}

#[test]
fn debug_does_not_print_the_data() {
    let server = Server::new([Reply::text("data: secret\n\n", End::Never)]);
    let mut events = server.open(|request| request);
    let event = server.next(&mut events).unwrap().unwrap();
    let debug = format!("{event:?} {events:?}");
    assert!(debug.contains("6 bytes") && !debug.contains("secret"), "{debug}");
}

/// An engine whose server has its answers beforehand.
#[derive(Clone, Debug)]
struct Server {
    runtime: TestRuntime,
    replies: Arc<Mutex<VecDeque<Reply>>>,
    log: Arc<Mutex<Vec<Seen>>>,
}

#[derive(Clone, Debug)]
enum Reply {
    Fails(ErrorKind),
    Answers(u16, &'static str, Vec<Bytes>, End),
}

/// What comes after the chunks of a body.
#[derive(Clone, Copy, Debug)]
enum End {
    Clean,
    Never,
    Error(ErrorKind),
    /// This long before each chunk, and then as `Never`.
    Slow(Duration),
}

/// A request.
#[derive(Clone, Debug)]
struct Seen {
    headers: HeaderMap,
    body: Bytes,
    /// What of the answer was not read.
    chunks: Arc<Mutex<VecDeque<Bytes>>>,
}

impl Seen {
    fn left(&self) -> usize {
        self.chunks.lock().unwrap().len()
    }
}

impl Reply {
    fn text(text: &str, end: End) -> Self {
        Self::events(vec![Bytes::copy_from_slice(text.as_bytes())], end)
    }

    fn events(mut chunks: Vec<Bytes>, end: End) -> Self {
        chunks.retain(|chunk| !chunk.is_empty());
        Self::Answers(200, "Text/Event-Stream; charset=utf-8", chunks, end)
    }
}

impl Server {
    fn new<const N: usize>(replies: [Reply; N]) -> Self {
        let replies = Arc::new(Mutex::new(replies.into()));
        Self { runtime: TestRuntime::new(), replies, log: Arc::default() }
    }

    fn connect(&self, set: impl Fn(SseRequest) -> SseRequest) -> Result<EventStream> {
        let client = HttpClient::new(self.clone());
        self.runtime.block_on(set(client.sse("http://a.example/")).connect())
    }

    fn open(&self, set: impl Fn(SseRequest) -> SseRequest) -> EventStream {
        self.connect(set).unwrap()
    }

    fn next(&self, events: &mut EventStream) -> Result<Option<ServerSentEvent>> {
        self.runtime.block_on(events.next())
    }

    /// Whether there is no next event yet; the wait for it is dropped.
    fn waits(&self, events: &mut EventStream) -> bool {
        self.runtime.poll_now(pin!(events.next())).is_none()
    }

    fn requests(&self) -> usize {
        self.log().len()
    }

    /// How many answers have not been dropped.
    fn bodies(&self) -> usize {
        let log = self.log.lock().unwrap();
        log.iter().filter(|seen| Arc::strong_count(&seen.chunks) > 1).count()
    }

    fn log(&self) -> Vec<Seen> {
        self.log.lock().unwrap().clone()
    }

    fn header(&self, request: usize, name: &str) -> Option<String> {
        let value = self.log()[request].headers.get(name)?.as_bytes().to_vec();
        Some(String::from_utf8(value).unwrap())
    }
}

#[async_trait]
impl Engine for Server {
    fn name(&self) -> &str {
        "scripted"
    }

    fn support(&self, capability: Capability) -> Support {
        match capability {
            Capability::Http1 | Capability::WebSockets => Support::Offered,
            _ => Support::missing("it is a script"),
        }
    }

    fn runtime(&self) -> Result<Arc<dyn Runtime>> {
        Ok(Arc::new(self.runtime.clone()))
    }

    async fn execute(&self, request: Request<Body>) -> Result<Response<Body>> {
        let (parts, mut body) = request.into_parts();
        let mut sent = Vec::new();
        while let Some(frame) =
            std::future::poll_fn(|cx| http_body::Body::poll_frame(Pin::new(&mut body), cx)).await
        {
            sent.extend_from_slice(frame?.data_ref().unwrap());
        }
        let reply = self.replies.lock().unwrap().pop_front();
        let chunks = Arc::default();
        let seen = Seen { headers: parts.headers, body: sent.into(), chunks: Arc::clone(&chunks) };
        self.log.lock().unwrap().push(seen);
        match reply.expect("an answer for each request") {
            Reply::Fails(kind) => Err(Error::new(kind, "scripted")),
            Reply::Answers(status, content_type, answer, end) => {
                *chunks.lock().unwrap() = answer.into();
                let body = Body::from_stream(Chunks {
                    chunks,
                    end,
                    runtime: self.runtime.clone(),
                    timer: None,
                });
                let head = Response::builder().status(status).header("content-type", content_type);
                Ok(head.body(body).unwrap())
            }
        }
    }

    async fn connect(&self, _: Handshake) -> Result<Answer> {
        Err(Error::new(ErrorKind::Connect, "it is a script"))
    }
}

struct Chunks {
    chunks: Arc<Mutex<VecDeque<Bytes>>>,
    end: End,
    runtime: TestRuntime,
    timer: Option<Box<dyn drivetrain::engine::Timer>>,
}

impl Stream for Chunks {
    type Item = Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        if let End::Slow(pause) = this.end {
            let runtime = &this.runtime;
            let timer = this.timer.get_or_insert_with(|| runtime.timer(runtime.now() + pause));
            std::task::ready!(timer.poll(cx));
            this.timer = None;
        }
        if let Some(chunk) = this.chunks.lock().unwrap().pop_front() {
            return Poll::Ready(Some(Ok(chunk)));
        }
        match this.end {
            End::Clean => Poll::Ready(None),
            End::Never | End::Slow(_) => Poll::Pending,
            End::Error(kind) => Poll::Ready(Some(Err(Error::new(kind, "scripted")))),
        }
    }
}
