//! Server-sent events: over each engine's HTTP, connecting again by themselves. When exactly they do is
//! tested in virtual time, by `tests/client/sse.rs` of the client.

use std::{
    collections::VecDeque,
    io,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use drivetrain::{
    DefaultRequest, ErrorKind,
    sse::{EventStream, Reconnect, ServerSentEvent},
};
use drivetrain_engine::Capability;
use futures_util::StreamExt;

use crate::{
    case::{Case, case},
    context::{Context, PATIENCE, builder_for},
    expect::fails,
    failure::{Failure, Verdict},
    peer::{Conn, Request, Server},
};

pub(super) fn cases() -> Vec<Case> {
    let cases = [
        case(events_come_as_they_are_sent),
        case(the_request_asks_for_an_event_stream),
        case(a_lost_connection_is_made_again_after_the_last_event),
        case(a_response_that_ends_is_asked_for_again),
        case(no_content_ends_the_stream),
        case(a_status_or_another_content_type_is_an_error),
        case(a_server_that_is_gone_is_given_up_after_the_last_try),
        case(a_cut_stream_without_reconnecting_is_an_error),
        case(a_post_may_be_answered_by_events),
        case(defaults_hold_for_event_streams),
        case(giving_up_the_wait_loses_no_event),
        case(a_dropped_stream_frees_its_connection),
    ];
    cases.into_iter().map(|case| case.needs(&[Capability::Http1])).collect()
}

/// An event is there before the next one is sent.
async fn events_come_as_they_are_sent(cx: Context) -> Verdict {
    let server = cx.server(|conn| {
        conn.read_request()?;
        begin(conn)?;
        conn.send_chunk(b": hello\n\nid: 1\nevent: add\ndata: fir")?;
        conn.send_chunk(b"st\r")?;
        conn.send_chunk(b"\n\r")?;
        conn.hold()?;
        conn.send_chunk(b"\ndata: second\n\n")?;
        conn.drain()
    });
    let mut events = cx.client().sse(server.http_url("/")).connect().await?;
    let first = next(&cx, &mut events).await?;
    assert_eq!((&*first.event, &*first.data, first.id.as_deref()), ("add", "first", Some("1")));
    server.release();
    let second = cx.within(PATIENCE, "the second comes", StreamExt::next(&mut events)).await?;
    let second = second.transpose()?.ok_or_else(|| Failure::new("the stream has ended"))?;
    assert_eq!(
        (&*second.event, &*second.data, second.id.as_deref()),
        ("message", "second", Some("1"))
    );
    Ok(())
}

/// With the headers of the standard, of which the caller may set others.
async fn the_request_asks_for_an_event_stream(cx: Context) -> Verdict {
    let (server, seen) =
        serving(&cx, [Answer::Events("data: x\n\n"), Answer::Events("data: x\n\n")]);
    let client = cx.client();
    let request = client.sse(server.http_url("/path?a=1")).query(&[("b", "2")]);
    next(&cx, &mut request.bearer_auth("t0ken").connect().await?).await?;
    let request = client.sse(server.http_url("/")).header("accept", "application/json");
    next(&cx, &mut request.last_event_id("41").connect().await?).await?;
    let seen = seen.all();
    let header = |at: usize, name| seen[at].header(name);
    assert_eq!((&*seen[0].method, &*seen[0].target), ("GET", "/path?a=1&b=2"));
    assert_eq!(header(0, "accept"), Some("text/event-stream"));
    assert_eq!(header(0, "cache-control"), Some("no-store"));
    assert_eq!(header(0, "authorization"), Some("Bearer t0ken"));
    assert_eq!(header(0, "last-event-id"), None);
    assert_eq!(header(1, "accept"), Some("application/json"));
    assert_eq!(header(1, "last-event-id"), Some("41"));
    Ok(())
}

/// Each new request has the id of the last event, and the headers of the first.
async fn a_lost_connection_is_made_again_after_the_last_event(cx: Context) -> Verdict {
    let (server, seen) = serving(
        &cx,
        [
            Answer::Cut("retry: 1\nid: 1\ndata: one\n\nid: 2\ndata: lost"),
            Answer::Silence,
            Answer::Cut("data: two\nid: 2\n\n"),
            Answer::Events("data: three\n\n"),
        ],
    );
    let request = cx.client().sse(server.http_url("/")).header("x-own", "kept");
    let mut events = request.connect().await?;
    for data in ["one", "two", "three"] {
        assert_eq!(next(&cx, &mut events).await?.data, data);
    }
    assert_eq!(events.last_event_id(), Some("2"));
    let seen = seen.all();
    let ids: Vec<_> = seen.iter().map(|request| request.header("last-event-id")).collect();
    assert_eq!(ids, [None, Some("1"), Some("1"), Some("2")]);
    assert!(seen.iter().all(|request| request.header("x-own") == Some("kept")));
    Ok(())
}

/// The end of a response is not the end of the stream.
async fn a_response_that_ends_is_asked_for_again(cx: Context) -> Verdict {
    let (server, seen) = serving(
        &cx,
        [Answer::Events("id: 1\nretry: 1\ndata: one\n\n"), Answer::Events("data: two\n\n")],
    );
    let mut events = cx.client().sse(server.http_url("/")).connect().await?;
    assert_eq!(next(&cx, &mut events).await?.data, "one");
    assert_eq!(next(&cx, &mut events).await?.data, "two");
    assert_eq!(seen.all()[1].header("last-event-id"), Some("1"));
    Ok(())
}

/// 204 says that there will be nothing, at first and later.
async fn no_content_ends_the_stream(cx: Context) -> Verdict {
    let (server, seen) = serving(&cx, [Answer::Status(204)]);
    let mut events = cx.client().sse(server.http_url("/")).connect().await?;
    assert_eq!(events.next().await?, None);
    assert_eq!(seen.all().len(), 1);
    let (server, seen) =
        serving(&cx, [Answer::Events("retry: 1\ndata: one\n\n"), Answer::Status(204)]);
    let mut events = cx.client().sse(server.http_url("/")).connect().await?;
    next(&cx, &mut events).await?;
    for _ in 0..2 {
        assert_eq!(cx.within(PATIENCE, "it ends", events.next()).await??, None);
    }
    assert_eq!(seen.all().len(), 2);
    Ok(())
}

/// And there is no other try.
async fn a_status_or_another_content_type_is_an_error(cx: Context) -> Verdict {
    for (answer, kind) in [
        (Answer::Status(404), ErrorKind::Status),
        (Answer::Status(503), ErrorKind::Status),
        (Answer::Html, ErrorKind::Protocol),
    ] {
        let (server, seen) =
            serving(&cx, [answer, Answer::Events("retry: 1\ndata: one\n\n"), answer]);
        let client = cx.client();
        let error = fails(client.sse(server.http_url("/")).connect().await, kind)?;
        assert!(error.response().is_some() && error.engine().is_some(), "{error:?}");
        let mut events = client.sse(server.http_url("/")).connect().await?;
        next(&cx, &mut events).await?;
        for _ in 0..2 {
            fails(cx.within(PATIENCE, "it fails", events.next()).await?, kind)?;
        }
        assert_eq!(seen.all().len(), 3);
    }
    Ok(())
}

/// The error is the failure of the last attempt.
async fn a_server_that_is_gone_is_given_up_after_the_last_try(cx: Context) -> Verdict {
    let server = Server::start(|conn| {
        conn.read_request()?;
        begin(conn)?;
        conn.send_chunk(b"data: one\n\n")?;
        conn.drain()
    });
    let policy = Reconnect::new().delay(Duration::from_millis(1)).max_tries(2);
    let request = cx.client().sse(server.http_url("/")).reconnect(policy);
    let mut events = request.connect().await?;
    next(&cx, &mut events).await?;
    crate::context::blocking(move || drop(server)).await?;
    for _ in 0..2 {
        fails(cx.within(PATIENCE, "it is given up", events.next()).await?, ErrorKind::Connect)?;
    }
    let request = cx.client().sse(format!("http://{}/", super::http::closed_port()?));
    fails(request.connect().await, ErrorKind::Connect)?;
    Ok(())
}

/// A cut is told from an end.
async fn a_cut_stream_without_reconnecting_is_an_error(cx: Context) -> Verdict {
    let (server, seen) =
        serving(&cx, [Answer::Cut("data: one\n\n"), Answer::Events("data: one\n\n")]);
    let open = || cx.client().sse(server.http_url("/")).reconnect(None).connect();
    let mut events = open().await?;
    next(&cx, &mut events).await?;
    fails(events.next().await, ErrorKind::Io)?;
    let mut events = open().await?;
    next(&cx, &mut events).await?;
    assert_eq!(events.next().await?, None);
    assert_eq!(seen.all().len(), 2);
    Ok(())
}

/// If asked for, the request is repeated with its body.
async fn a_post_may_be_answered_by_events(cx: Context) -> Verdict {
    let (server, seen) =
        serving(&cx, [Answer::Cut("retry: 1\ndata: one\n\n"), Answer::Events("data: two\n\n")]);
    let request = cx.client().post(server.http_url("/")).body("question").sse();
    let mut events = request.reconnect(Reconnect::new()).connect().await?;
    for data in ["one", "two"] {
        assert_eq!(next(&cx, &mut events).await?.data, data);
    }
    for request in seen.all() {
        assert_eq!((&*request.method, &*request.body), ("POST", &b"question"[..]));
    }
    Ok(())
}

/// A base URL and default headers are applied, to each try.
async fn defaults_hold_for_event_streams(cx: Context) -> Verdict {
    let (server, seen) =
        serving(&cx, [Answer::Cut("retry: 1\ndata: one\n\n"), Answer::Events("data: two\n\n")]);
    let defaults = DefaultRequest::new().base_url(server.http_url("/api/"));
    let defaults = defaults.header("x-one", "default").header("accept", "*/*");
    let client = builder_for(cx.engine()).install(defaults).max_response_size(1).build()?;
    let mut events = client.sse("events").connect().await?;
    for data in ["one", "two"] {
        assert_eq!(next(&cx, &mut events).await?.data, data);
    }
    for request in seen.all() {
        assert_eq!(request.target, "/api/events");
        assert_eq!(request.header("x-one"), Some("default"));
        assert_eq!(request.header("accept"), Some("text/event-stream"));
    }
    Ok(())
}

/// Asked in vain again and again, while waiting and while connecting, the stream still gives each event.
async fn giving_up_the_wait_loses_no_event(cx: Context) -> Verdict {
    let (server, _seen) = serving(
        &cx,
        [
            Answer::Cut("retry: 1\nid: 1\ndata: 1\n\nid: 2\ndata: 2\n\n"),
            Answer::Silence,
            Answer::Events("data: 3\n\ndata: 4\n\n"),
        ],
    );
    let mut events = cx.client().sse(server.http_url("/")).connect().await?;
    let mut seen = Vec::new();
    let reading = async {
        while seen.len() < 4 {
            // A turn of the runtime is what each wait gets.
            let waiting = futures_util::future::select(
                Box::pin(events.next()),
                Box::pin(cx.sleep(Duration::from_millis(1))),
            );
            if let futures_util::future::Either::Left((event, _)) = waiting.await {
                seen.extend(event?.map(|event| event.data));
            }
        }
        Verdict::Ok(())
    };
    cx.within(PATIENCE, "all events come", reading).await??;
    assert_eq!(seen, ["1", "2", "3", "4"]);
    Ok(())
}

/// The stream has no task that would keep it.
async fn a_dropped_stream_frees_its_connection(cx: Context) -> Verdict {
    let server = cx.server(|conn| {
        conn.read_request()?;
        begin(conn)?;
        conn.send_chunk(b"data: one\n\n")?;
        conn.drain()
    });
    let client = cx.client();
    let mut events = client.sse(server.http_url("/")).connect().await?;
    next(&cx, &mut events).await?;
    assert_eq!(server.open(), 1);
    drop(events);
    cx.until("the connection is closed", || server.open() == 0).await?;
    assert_eq!(server.connections(), 1);
    Ok(())
}

/// The next event, which has to come.
async fn next(cx: &Context, events: &mut EventStream) -> Verdict<ServerSentEvent> {
    let event = cx.within(PATIENCE, "an event comes", events.next()).await??;
    event.ok_or_else(|| Failure::new("the stream has ended"))
}

/// What the server does with a request.
#[derive(Clone, Copy)]
enum Answer {
    /// Sends these events and ends the response.
    Events(&'static str),
    /// Sends these events and ends the connection in the middle of the response.
    Cut(&'static str),
    /// Ends the connection.
    Silence,
    Status(u16),
    Html,
}

/// The requests that were answered.
#[derive(Clone, Default)]
struct Seen(Arc<Mutex<Vec<Request>>>);

impl Seen {
    fn all(&self) -> Vec<Request> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// A server that gives these answers, one a request, whatever the connection.
fn serving<const N: usize>(cx: &Context, answers: [Answer; N]) -> (Arc<Server>, Seen) {
    let answers = Mutex::new(VecDeque::from(answers));
    let seen = Seen::default();
    let log = seen.clone();
    let server = cx.server(move |conn| {
        while let Some(request) = conn.read_request()? {
            log.0.lock().unwrap_or_else(PoisonError::into_inner).push(request);
            let answer = answers.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
            match answer.ok_or_else(|| io::Error::other("one request too many"))? {
                Answer::Events(events) => {
                    begin(conn)?;
                    conn.send_chunk(events.as_bytes())?;
                    conn.end_chunked()?;
                }
                Answer::Cut(events) => {
                    begin(conn)?;
                    return conn.send_chunk(events.as_bytes());
                }
                Answer::Silence => return Ok(()),
                Answer::Status(status) => conn.respond(status, &[], "")?,
                Answer::Html => conn.respond(200, &[("content-type", "text/html")], "<p>")?,
            }
        }
        Ok(())
    });
    (server, seen)
}

fn begin(conn: &mut Conn) -> io::Result<()> {
    conn.begin_chunked(200, &[("content-type", "text/event-stream; charset=utf-8")])
}
