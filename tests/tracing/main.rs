//! What a subscriber of `tracing` sees: spans with standard names, the events of a session's life, no secret,
//! and nothing per message. On every engine that has WebSockets.
#![cfg(feature = "tungstenite")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod collector;

use std::{
    future::Future,
    net::{TcpListener, TcpStream},
    time::{Duration, Instant},
};

use collector::{Fields, Seen, SeenEvent, SeenSpan, seen};
use drivetrain::{
    Capability, CloseReason, ErrorKind, HttpClient, OpCode, RawFrame, WebSockets, engine,
    reconnect::{Backoff, Event},
    testing::{TestRuntime, pipe},
};
use drivetrain_conformance::peer::{EchoServer, Server, WireFrame};
use tracing::{Instrument as _, Level, Span};

/// In the query, in userinfo, in headers and in messages; never in what is told.
const SECRET: &str = "s3cr3t";

fn engines() -> Vec<HttpClient> {
    collector::install();
    let engines: Vec<_> = engine::all()
        .into_iter()
        .filter(|engine| engine.support(Capability::WebSockets).is_offered())
        .map(|engine| {
            // A busy machine does not meet the default time limits.
            let long = Duration::from_secs(60);
            let plugin = WebSockets::new().handshake_timeout(long).close_timeout(long);
            HttpClient::builder(engine).install(plugin).build().unwrap()
        })
        .collect();
    assert!(!engines.is_empty());
    engines
}

/// The tokio engines need their runtime, the others do not mind.
fn block_on<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(future)
}

/// The span of a test, in which it finds what it caused.
fn caller() -> Span {
    tracing::info_span!(target: "test", "caller")
}

/// The one span of this name below the caller's, once it is closed.
fn closed_span(caller: &Span, name: &str) -> SeenSpan {
    until(|seen| match seen.spans_in(caller, name).as_slice() {
        [span] if span.is_closed() => Some(span.clone()),
        [] | [_] => None,
        more => panic!("more than one {name}: {more:?}"),
    })
}

/// What `look` finds, once it is there: the session task tells on a thread of its own.
fn until<T>(look: impl Fn(&Seen) -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        if let Some(found) = look(&seen()) {
            return found;
        }
        assert!(Instant::now() < deadline, "it was not told: {:#?}", seen());
        std::thread::yield_now();
    }
}

#[track_caller]
fn assert_fields(fields: &Fields, expected: &[(&str, &str)]) {
    for (name, value) in expected {
        assert_eq!(fields.get(name).map(String::as_str), Some(*value), "{name} in {fields:#?}");
    }
}

fn messages(events: &[SeenEvent]) -> Vec<&str> {
    events.iter().map(SeenEvent::message).collect()
}

/// Whether nothing that was told, by whichever test, has the secret in it.
fn assert_no_secret() {
    let all = format!("{:?}", seen());
    for secret in [SECRET, "Bearer", "Basic", "cookie"] {
        assert!(!all.contains(secret), "{secret} was told");
    }
}

#[test]
fn a_request_has_a_span_in_its_callers() {
    for client in engines() {
        let server = EchoServer::start();
        let url = server.http_url(&format!("/status/404?token={SECRET}&flag"));
        let caller = caller();
        let response = block_on(
            client
                .post(url.replace("://", &format!("://me:{SECRET}@")))
                .header("cookie", format!("session={SECRET}"))
                .body(SECRET)
                .send()
                .instrument(caller.clone()),
        );
        assert_eq!(response.unwrap().status(), 404);
        let span = closed_span(&caller, "http.request");
        assert_eq!(span.level, Level::INFO);
        let port = server.addr().port().to_string();
        let shown = server.http_url("/status/404?token=REDACTED&REDACTED");
        assert_fields(
            &span.fields,
            &[
                ("otel.kind", "client"),
                ("otel.name", "POST"),
                ("otel.status_code", "ERROR"),
                ("http.request.method", "POST"),
                ("url.full", &shown.replace("://", "://REDACTED:REDACTED@")),
                ("server.address", "127.0.0.1"),
                ("server.port", &port),
                ("network.protocol.name", "http"),
                ("network.protocol.version", "1.1"),
                ("http.response.status_code", "404"),
                ("error.type", "404"),
                ("drivetrain.engine", client.engine_name()),
            ],
        );
        assert!(!span.fields.contains_key("http.request.method_original"));
    }
    assert_no_secret();
}

#[test]
fn what_fails_without_an_answer_says_how() {
    for client in engines() {
        // The port of a client: nobody else gets it, and nobody listens on it.
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let taken = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let url = format!("http://{}/", taken.local_addr().unwrap());
        let caller = caller();
        let method = http::Method::from_bytes(b"PURGE").unwrap();
        let sending = client.request(method, url).send().instrument(caller.clone());
        assert_eq!(block_on(sending).unwrap_err().kind(), ErrorKind::Connect);
        let span = closed_span(&caller, "http.request");
        assert_fields(
            &span.fields,
            &[
                ("error.type", "Connect"),
                ("otel.status_code", "ERROR"),
                ("otel.name", "HTTP"),
                ("http.request.method", "_OTHER"),
                ("http.request.method_original", "PURGE"),
            ],
        );
        assert!(!span.fields.contains_key("http.response.status_code"));
    }
}

#[test]
fn a_handshake_and_its_session_have_spans_side_by_side() {
    for client in engines() {
        let server = EchoServer::start();
        let url = server.ws_url(&format!("/subprotocol?select=chat&token={SECRET}"));
        let caller = caller();
        let talk = async {
            let request = client.web_socket(&url).subprotocol("chat").bearer_auth(SECRET);
            let request = request.header("cookie", format!("session={SECRET}"));
            let mut session = request.ping_interval(None).connect().await.unwrap();
            for _ in 0..3 {
                session.send(SECRET).await.unwrap();
                session.receive().await.unwrap().unwrap();
            }
            let outcome = session.close(CloseReason::new(4000, SECRET).unwrap()).await.unwrap();
            assert!(outcome.clean);
            session
        };
        let session = block_on(talk.instrument(caller.clone()));
        let handshake = closed_span(&caller, "websocket.handshake");
        assert_fields(
            &handshake.fields,
            &[
                ("otel.kind", "client"),
                ("http.request.method", "GET"),
                ("url.full", &server.ws_url("/subprotocol?select=REDACTED&token=REDACTED")),
                ("server.address", "127.0.0.1"),
                ("http.response.status_code", "101"),
                ("network.protocol.version", "1.1"),
                ("drivetrain.engine", client.engine_name()),
            ],
        );
        assert!(!handshake.fields.contains_key("error.type"));
        let events = seen().events_in(handshake.id);
        assert_eq!(messages(&events), ["handshake phases"]);
        let phases = &events[0].fields;
        assert!(phases.contains_key("handshake.tcp") && phases.contains_key("handshake.upgrade"));
        assert!(!phases.contains_key("handshake.dns") && !phases.contains_key("handshake.tls"));
        // It is closed although the session is still held.
        let span = closed_span(&caller, "websocket.session");
        assert_eq!(span.follows, [handshake.id]);
        assert!(span.entered > 0, "the session task is in it");
        assert_fields(
            &span.fields,
            &[
                ("network.protocol.name", "websocket"),
                ("server.address", "127.0.0.1"),
                ("websocket.subprotocol", "redacted"),
                ("websocket.close.sent", "4000"),
                ("websocket.close.received", "4000"),
            ],
        );
        assert!(!span.fields.contains_key("error.type"));
        let events = seen().events_in(span.id);
        let told = messages(&events);
        assert_eq!(told.first(), Some(&"session opened"), "{told:?}");
        for message in ["close sent", "close received", "session ended"] {
            assert_eq!(told.iter().filter(|&&told| told == message).count(), 1, "{told:?}");
        }
        assert_eq!(told.len(), 4, "{told:?}");
        assert!(events.iter().all(|event| event.level == Level::DEBUG));
        let ended = events.iter().find(|event| event.message() == "session ended").unwrap();
        assert_fields(
            &ended.fields,
            &[
                ("websocket.clean", "true"),
                ("websocket.sent.messages", "3"),
                ("websocket.received.messages", "3"),
                ("websocket.sent.frames", "4"),
                ("websocket.sent.bytes", &session.stats().sent.bytes.to_string()),
            ],
        );
    }
    assert_no_secret();
}

#[test]
fn a_refused_handshake_has_the_status_and_no_session() {
    for client in engines() {
        let server = EchoServer::start();
        let connect = client.web_socket(server.ws_url("/refuse?status=401")).connect();
        let caller = caller();
        let refused = block_on(connect.instrument(caller.clone())).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Rejected);
        assert_fields(
            &closed_span(&caller, "websocket.handshake").fields,
            &[
                ("http.response.status_code", "401"),
                ("error.type", "401"),
                ("otel.status_code", "ERROR"),
            ],
        );
        assert!(seen().spans_in(&caller, "websocket.session").is_empty());
    }
}

#[test]
fn a_violation_is_a_warning_and_the_sessions_error() {
    for client in engines() {
        let server = Server::start(|conn| {
            conn.accept_web_socket()?;
            conn.send(&WireFrame::continuation(SECRET, true))?;
            conn.receive().map(|_| ())
        });
        let caller = caller();
        let talk = async {
            let mut session = client.web_socket(server.ws_url("/")).connect().await.unwrap();
            let failed = session.receive().await.unwrap_err();
            session.closed().await.unwrap();
            failed
        };
        let failed = block_on(talk.instrument(caller.clone()));
        assert_eq!(failed.kind(), ErrorKind::Protocol);
        let span = closed_span(&caller, "websocket.session");
        assert_fields(
            &span.fields,
            &[
                ("error.type", "Protocol"),
                ("otel.status_code", "ERROR"),
                ("websocket.close.sent", "1002"),
            ],
        );
        let events = seen().events_in(span.id);
        let violation = events.iter().find(|event| event.message() == "violation").unwrap();
        assert_eq!(violation.level, Level::WARN);
        assert_fields(&violation.fields, &[("error.type", "Protocol")]);
    }
    assert_no_secret();
}

#[test]
fn a_dead_peer_is_a_warning() {
    collector::install();
    let runtime = TestRuntime::new();
    let (connection, _peer) = pipe();
    let plugin = WebSockets::new()
        .ping_interval(Duration::from_secs(20))
        .ping_timeout(Duration::from_secs(10));
    let caller = caller();
    let session = caller.in_scope(|| runtime.session(connection, plugin));
    runtime.advance(Duration::from_secs(20));
    runtime.advance(Duration::from_secs(10));
    assert_eq!(session.outcome().error.unwrap().kind(), ErrorKind::Timeout);
    let span = closed_span(&caller, "websocket.session");
    assert_fields(&span.fields, &[("error.type", "Timeout"), ("websocket.close.sent", "1011")]);
    let events = seen().events_in(span.id);
    let expected = ["session opened", "ping timeout", "close sent", "session ended"];
    assert_eq!(messages(&events), expected);
    assert_eq!(events[1].level, Level::WARN);
}

/// At any level: the collector takes them all.
/// And not the text of a Close.
#[test]
fn a_session_that_reconnects_tells_each_change_of_its_state() {
    for client in engines() {
        let server = Server::start(|conn| {
            let Some(request) = conn.read_request()? else { return Ok(()) };
            match conn.id() {
                2 => return conn.respond(503, &[], ""),
                4 => return conn.respond(404, &[], ""),
                _ => conn.accept(&request, &[])?,
            }
            conn.receive_message()?;
            conn.send_close(if conn.id() == 1 { 1012 } else { 1013 }, SECRET)
        });
        let backoff = Backoff::new().first_delay(Duration::from_millis(1));
        let caller = caller();
        let request = client.web_socket(server.ws_url("/")).reconnect(backoff);
        let going = async {
            let mut session = request.connect().await.unwrap();
            session.send(SECRET).await.unwrap();
            loop {
                match session.receive().await {
                    Ok(Some(Event::Connected(_))) => session.send(SECRET).await.unwrap(),
                    Ok(Some(_)) => {}
                    end => return end.unwrap_err(),
                }
            }
        };
        assert_eq!(block_on(going.instrument(caller.clone())).response().unwrap().status(), 404);
        let events = seen().events_in(caller.id().unwrap().into_u64());
        let expected = [
            "connecting",
            "connected",
            "disconnected",
            "retrying",
            "connecting",
            "retrying",
            "connecting",
            "connected",
            "disconnected",
            "retrying",
            "connecting",
            "gave up",
        ];
        assert_eq!(messages(&events), expected, "{}", client.engine_name());
        let lost = [("websocket.close.received", "1012"), ("websocket.unacknowledged", "1")];
        assert_fields(&events[2].fields, &lost);
        assert_fields(&events[3].fields, &[("reconnect.attempt", "1"), ("error.type", "Closed")]);
        assert_fields(&events[5].fields, &[("reconnect.max_tries", "10"), ("error.type", "503")]);
        assert_fields(&events[7].fields, &[("reconnect.attempt", "2")]);
        assert_fields(&events[11].fields, &[("error.type", "404")]);
        assert_eq!(events[11].level, Level::WARN);
    }
    assert_no_secret();
}

#[test]
fn nothing_is_told_per_message() {
    collector::install();
    let runtime = TestRuntime::new();
    let (connection, mut peer) = pipe();
    let caller = caller();
    let mut session =
        caller.in_scope(|| runtime.session(connection, WebSockets::new().ping_interval(None)));
    for _ in 0..1000 {
        peer.send(RawFrame::new(OpCode::Text, SECRET));
        peer.send(RawFrame::new(OpCode::Ping, SECRET));
        let received = runtime.block_on(session.receive()).unwrap().unwrap();
        runtime.block_on(session.send(received)).unwrap();
    }
    assert_eq!(session.stats().sent.messages, 1000);
    let seen = seen();
    let [span] = &seen.spans_in(&caller, "websocket.session")[..] else { panic!("{seen:#?}") };
    assert_eq!(messages(&seen.events_in(span.id)), ["session opened"]);
    assert!(seen.spans.iter().all(|other| other.parent != Some(span.id)));
    assert_no_secret();
}
