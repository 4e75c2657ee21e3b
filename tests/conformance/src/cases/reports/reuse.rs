//! Connections that are kept and used again, and answers that come early.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use drivetrain::{
    Body, Bytes, Capability, CloseReason, ErrorKind, HttpClient, WebSockets,
    http::{Method, StatusCode},
};
use futures_util::{StreamExt as _, stream};

use super::super::{http2::web_sockets_use_http_1_1, tls};
use crate::{
    case::{Case, case},
    context::{Context, PATIENCE, builder_for, client_for},
    expect::{echoes, fails},
    failure::{Failure, Verdict},
    peer::{Conn, Http2Nack, Http2Windows, Server, TestCa, serve_http2_nacks},
};

pub(super) fn cases() -> Vec<Case> {
    use Capability::{ConnectionReuse, Http1, Http2, Tls, WebSockets};
    let mut cases = vec![
        case(what_is_not_idempotent_is_not_repeated).needs(&[Http1, ConnectionReuse]),
        case(what_has_begun_to_stream_is_not_repeated).needs(&[Http1, ConnectionReuse]),
        case(what_failed_on_a_new_connection_is_not_repeated).needs(&[Http1]),
        case(an_answer_that_has_begun_is_not_repeated).needs(&[Http1, ConnectionReuse]),
        case(a_request_is_repeated_once).needs(&[Http1, ConnectionReuse]),
        case(a_repeat_uses_a_new_connection).needs(&[Http1, ConnectionReuse]),
        case(a_redirect_with_a_body_keeps_its_connection).needs(&[Http1, ConnectionReuse]),
        case(a_401_with_a_body_keeps_its_connection).needs(&[Http1, ConnectionReuse]),
        case(an_early_answer_is_read_though_a_reset_is_behind_it).needs(&[Http1]),
        case(an_upload_ends_after_its_answer).needs(&[Http1]),
        case(an_upload_that_pends_ends_after_its_answer).needs(&[Http1]),
        case(an_upload_that_nobody_reads_ends_after_its_answer).needs(&[Http1]),
        case(an_upload_ends_with_an_answer_that_is_dropped).needs(&[Http1]),
        case(an_answer_may_come_while_the_upload_goes_on).needs(&[Http1]),
        case(an_upload_over_http_2_is_reset_after_its_answer).needs(&[Http2]),
        case(streaming_what_was_not_processed_is_not_repeated).needs(&[Http2]),
        case(sessions_over_http_2_that_nobody_reads_stop_no_other).needs(&[Tls, WebSockets]),
        case(a_session_over_http_2_that_is_dropped_is_reset).needs(&[Tls, WebSockets]),
        case(a_session_over_http_2_whose_peer_takes_nothing_is_reset).needs(&[Tls, WebSockets]),
        case(a_session_over_http_2_that_ended_by_its_close_timeout_is_reset)
            .needs(&[Tls, WebSockets]),
    ];
    let kept = "an_idempotent_request_on_a_kept_connection_goes_out_again";
    for method in ["GET", "HEAD", "PUT", "DELETE", "OPTIONS", "TRACE"] {
        for end in [End::Closed, End::Reset] {
            let run = case(move |cx| goes_out_again(cx, method, end));
            let run = run.needs(&[Http1, ConnectionReuse]);
            let name = format!("{kept}::{}_{end:?}", method.to_lowercase()).to_lowercase();
            cases.push(run.named("reports::reuse", name));
        }
    }
    for nack in [Http2Nack::GoAway, Http2Nack::GoAwayAndClose, Http2Nack::RefusedStream] {
        let run = case(move |cx| is_sent_elsewhere(cx, nack)).needs(&[Http2]);
        let name = format!("what_was_not_processed_goes_out_again::{nack:?}").to_lowercase();
        cases.push(run.named("reports::reuse", name));
    }
    cases
}

/// How a server ends a connection.
#[derive(Clone, Copy, Debug)]
enum End {
    Closed,
    Reset,
}

impl End {
    fn then(self) -> Then {
        match self {
            Self::Closed => |conn| {
                conn.close();
                Ok(())
            },
            Self::Reset => Conn::reset,
        }
    }
}

/// What a server does with the second request of its first connection.
type Then = fn(&mut Conn) -> io::Result<()>;

/// What came of a request on a connection that had been used, and the server. It answers the first request of each
/// connection, or of its first one alone.
///
/// The first request has a body of the same kind as the second: those that stream may have connections of their own.
async fn on_a_kept_connection<R, F: Future<Output = R>>(
    cx: &Context,
    first: fn() -> Body,
    answers_others: bool,
    then: Then,
    send: impl Fn(HttpClient, String) -> F,
) -> Verdict<(R, Arc<Server>)> {
    // A library may take a moment to see that a connection is idle, and dial another one.
    for _ in 0..50 {
        let is_reused = Arc::new(AtomicBool::new(false));
        let reused = Arc::clone(&is_reused);
        let server = cx.server(move |conn| {
            conn.read_request()?;
            if conn.id() == 1 || answers_others {
                conn.respond(200, &[], "one")?;
            }
            if conn.id() == 1 && conn.read_request()?.is_some() {
                reused.store(true, Ordering::SeqCst);
                then(conn)?;
            }
            Ok(())
        });
        let client = cx.client();
        client.put(server.http_url("/")).body(first()).send().await?.bytes().await?;
        let result = send(client, server.http_url("/")).await;
        if is_reused.load(Ordering::SeqCst) {
            return Ok((result, server));
        }
    }
    Err(Failure::new("no connection was used twice"))
}

fn streamed() -> Body {
    Body::from_stream(stream::iter([io::Result::Ok("once")]))
}

/// RFC 9112 section 9.3.1: what may be done twice is, over another connection.
async fn goes_out_again(cx: Context, method: &'static str, end: End) -> Verdict {
    let method = Method::from_bytes(method.as_bytes())?;
    let send = |client: HttpClient, url: String| {
        let request = client.request(method.clone(), url);
        let request = if method == Method::PUT { request.body("again") } else { request };
        async move { request.send().await?.bytes().await }
    };
    let (result, server) = on_a_kept_connection(&cx, Body::empty, true, end.then(), send).await?;
    result?;
    assert_eq!(server.requests(), 3);
    Ok(())
}

async fn what_is_not_idempotent_is_not_repeated(cx: Context) -> Verdict {
    for end in [End::Closed, End::Reset] {
        for (method, body) in [("POST", ""), ("POST", "once"), ("PATCH", "once"), ("LOCK", "")] {
            let method = Method::from_bytes(method.as_bytes())?;
            let send = |client: HttpClient, url: String| {
                client.request(method.clone(), url).body(body).send()
            };
            let (result, server) =
                on_a_kept_connection(&cx, Body::empty, true, end.then(), send).await?;
            fails(result, ErrorKind::Io)?;
            assert_eq!(server.requests(), 2);
        }
    }
    Ok(())
}

/// The bytes are gone.
async fn what_has_begun_to_stream_is_not_repeated(cx: Context) -> Verdict {
    let send = |client: HttpClient, url: String| client.put(url).body(streamed()).send();
    let (result, server) =
        on_a_kept_connection(&cx, streamed, true, End::Closed.then(), send).await?;
    fails(result, ErrorKind::Io)?;
    assert_eq!(server.requests(), 2);
    Ok(())
}

/// A server that takes requests and answers none is not asked twice.
async fn what_failed_on_a_new_connection_is_not_repeated(cx: Context) -> Verdict {
    for end in [End::Closed, End::Reset] {
        let server = cx.server(move |conn| {
            conn.read_request()?;
            end.then()(conn)
        });
        fails(cx.client().get(server.http_url("/")).send().await, ErrorKind::Io)?;
        assert_eq!((server.connections(), server.requests()), (1, 1));
    }
    Ok(())
}

async fn an_answer_that_has_begun_is_not_repeated(cx: Context) -> Verdict {
    let cut: Then = |conn| conn.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\ncut");
    let send = |client: HttpClient, url: String| async move {
        client.get(url).send().await?.bytes().await
    };
    let (result, server) = on_a_kept_connection(&cx, Body::empty, true, cut, send).await?;
    fails(result, ErrorKind::Io)?;
    assert_eq!(server.requests(), 2);
    Ok(())
}

async fn a_request_is_repeated_once(cx: Context) -> Verdict {
    let send = |client: HttpClient, url: String| client.get(url).send();
    let (result, server) =
        on_a_kept_connection(&cx, Body::empty, false, End::Closed.then(), send).await?;
    fails(result, ErrorKind::Io)?;
    assert_eq!(server.requests(), 3);
    Ok(())
}

/// Of several that are kept all may have ended.
async fn a_repeat_uses_a_new_connection(cx: Context) -> Verdict {
    let together = Arc::new(AtomicUsize::new(0));
    let arrived = Arc::clone(&together);
    let server = cx.server(move |conn| {
        conn.read_request()?;
        arrived.fetch_add(1, Ordering::SeqCst);
        if conn.id() <= 3 {
            conn.hold()?;
        }
        conn.respond(200, &[], "one")?;
        conn.read_request().map(drop)
    });
    let client = cx.client();
    let get = || async { client.get(server.http_url("/")).send().await?.bytes().await };
    let all = futures_util::future::try_join3(get(), get(), get());
    let released = async {
        cx.until("three are there", || together.load(Ordering::SeqCst) == 3).await?;
        server.release();
        Verdict::Ok(())
    };
    let (all, released) = futures_util::future::join(all, released).await;
    released?;
    all?;
    get().await?;
    // Five if the fourth met one that was kept, which a library may not have seen yet.
    assert!((4..=5).contains(&server.requests()), "{server:?}");
    Ok(())
}

/// Reading a few unwanted bytes is cheaper than a new connection.
async fn a_redirect_with_a_body_keeps_its_connection(cx: Context) -> Verdict {
    let server = cx.server(|conn| {
        while let Some(request) = conn.read_request()? {
            match &*request.path {
                "/" => conn.respond(302, &[("location", "/there")], "it is over there")?,
                _ => conn.respond(200, &[], "there")?,
            }
        }
        Ok(())
    });
    let client = cx.client();
    for _ in 0..3 {
        let text = client.get(server.http_url("/")).send().await?.text().await?;
        assert_eq!(text, "there");
    }
    assert_eq!(server.requests(), 6);
    // One would do; a library may dial while it waits for one that is about to be idle.
    assert!(server.connections() < 4, "{server:?}");
    Ok(())
}

async fn a_401_with_a_body_keeps_its_connection(cx: Context) -> Verdict {
    let server = cx.server(|conn| {
        while let Some(request) = conn.read_request()? {
            match request.header("authorization") {
                None => conn.respond(401, &[], "who are you?")?,
                Some(_) => conn.respond(200, &[], "you")?,
            }
        }
        Ok(())
    });
    let builder = builder_for(cx.engine())
        .on_unauthorized(|_| async { Ok(Some("Bearer me".parse().expect("a header"))) });
    let client = builder.build()?;
    for _ in 0..3 {
        let text = client.get(server.http_url("/")).send().await?.text().await?;
        assert_eq!(text, "you");
    }
    assert_eq!(server.requests(), 6);
    // One would do; a library may dial while it waits for one that is about to be idle.
    assert!(server.connections() < 4, "{server:?}");
    Ok(())
}

/// Reads the head of a request, and nothing of its body.
fn read_head(conn: &mut Conn) -> io::Result<()> {
    let mut last = [0; 4];
    while last != *b"\r\n\r\n" {
        last.rotate_left(1);
        conn.read_exact(&mut last[3..])?;
    }
    Ok(())
}

const TOO_LARGE: &[u8] = b"HTTP/1.1 413 Content Too Large\r\ncontent-length: 9\r\n\r\ntoo large";

/// What a server says before it closes on an upload is said (RFC 9112 section 9.6 asks servers for more). Not on every
/// system: some throw away what was not read yet when a reset comes.
async fn an_early_answer_is_read_though_a_reset_is_behind_it(cx: Context) -> Verdict {
    let server = cx.server(|conn| {
        read_head(conn)?;
        conn.write_all(TOO_LARGE)?;
        // With bytes unread it is a reset.
        conn.close();
        Ok(())
    });
    let client = cx.client();
    let whole = Bytes::from(vec![7; 30 << 20]);
    let mut read = 0;
    for _ in 0..40 {
        let sent = client.post(server.http_url("/")).body(whole.clone()).send().await;
        let Ok(response) = sent else { continue };
        assert_eq!(response.status(), StatusCode::PAYLOAD_TOO_LARGE);
        read += usize::from(response.text().await.is_ok_and(|text| text == "too large"));
    }
    let least = if cfg!(target_os = "linux") { 40 } else { 30 };
    assert!(read >= least, "{read} of 40 answers were read");
    Ok(())
}

/// A body that never ends, and whether it is still there.
fn endless(pends: bool) -> (Body, Arc<AtomicBool>) {
    struct Held(Arc<AtomicBool>);

    impl Drop for Held {
        fn drop(&mut self) {
            self.0.store(true, Ordering::SeqCst);
        }
    }

    let is_dropped = Arc::new(AtomicBool::new(false));
    let held = Held(Arc::clone(&is_dropped));
    let first = stream::iter([()]);
    let rest =
        if pends { stream::pending().left_stream() } else { stream::repeat(()).right_stream() };
    let chunks = first.chain(rest).map(move |()| {
        let _ = &held;
        io::Result::Ok(Bytes::from_static(&[7; 1000]))
    });
    (Body::from_stream(chunks), is_dropped)
}

/// A server that answers at once, and then takes whatever comes.
fn answers_at_once(cx: &Context, answer: &'static [u8]) -> Arc<Server> {
    cx.server(move |conn| {
        read_head(conn)?;
        conn.write_all(answer)?;
        conn.drain()
    })
}

async fn ends_with_its_answer(cx: &Context, pends: bool) -> Verdict {
    let server = answers_at_once(cx, TOO_LARGE);
    let client = cx.client();
    let (body, is_dropped) = endless(pends);
    let response = client.post(server.http_url("/")).body(body).send().await?;
    assert_eq!(response.text().await?, "too large");
    cx.until("the body is dropped", || is_dropped.load(Ordering::SeqCst)).await?;
    cx.until("the connection ends", || server.open() == 0).await
}

async fn an_upload_ends_after_its_answer(cx: Context) -> Verdict {
    ends_with_its_answer(&cx, false).await
}

async fn an_upload_that_pends_ends_after_its_answer(cx: Context) -> Verdict {
    ends_with_its_answer(&cx, true).await
}

/// Nor does the server close. What is written waits for it, and no chunk is asked for.
async fn an_upload_that_nobody_reads_ends_after_its_answer(cx: Context) -> Verdict {
    let server = cx.server(|conn| {
        read_head(conn)?;
        conn.write_all(TOO_LARGE)?;
        conn.hold()?;
        conn.drain()
    });
    let client = cx.client();
    let (body, is_dropped) = endless(false);
    let response = client.post(server.http_url("/")).body(body).send().await?;
    assert_eq!(response.text().await?, "too large");
    cx.until("the body is dropped", || is_dropped.load(Ordering::SeqCst)).await?;
    server.release();
    cx.until("the connection ends", || server.open() == 0).await
}

async fn an_upload_ends_with_an_answer_that_is_dropped(cx: Context) -> Verdict {
    let server = answers_at_once(&cx, b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf");
    let client = cx.client();
    for pends in [false, true] {
        let (body, is_dropped) = endless(pends);
        drop(client.post(server.http_url("/")).body(body).send().await?);
        cx.until("the body is dropped", || is_dropped.load(Ordering::SeqCst)).await?;
    }
    cx.until("the connections end", || server.open() == 0).await
}

/// Both directions at once: an answer that has not ended ends nothing.
async fn an_answer_may_come_while_the_upload_goes_on(cx: Context) -> Verdict {
    let server = cx.server(|conn| {
        read_head(conn)?;
        conn.begin_chunked(200, &[])?;
        conn.send_chunk(b"one")?;
        // "3\r\ntwo\r\n0\r\n\r\n"
        let mut rest = [0; 13];
        conn.read_exact(&mut rest)?;
        conn.send_chunk(&rest[3..6])?;
        conn.end_chunked()
    });
    let (sender, receiver) = futures_channel::mpsc::unbounded::<io::Result<&'static str>>();
    let request = cx.client().post(server.http_url("/")).body(Body::from_stream(receiver));
    let mut answer = request.send().await?.bytes_stream();
    assert_eq!(answer.next().await.transpose()?.as_deref(), Some(&b"one"[..]));
    cx.sleep(drivetrain_engine::UPLOAD_GRACE + std::time::Duration::from_millis(200)).await;
    sender.unbounded_send(Ok("two"))?;
    drop(sender);
    assert_eq!(answer.next().await.transpose()?.as_deref(), Some(&b"two"[..]));
    assert!(answer.next().await.is_none());
    Ok(())
}

/// A server that speaks HTTP/2 and refuses some of the work, and a client that trusts it.
fn nacking(cx: &Context, nack: Http2Nack) -> Verdict<(HttpClient, Arc<Server>)> {
    let ca = TestCa::new();
    let handler = move |conn: &mut Conn| serve_http2_nacks(conn, nack);
    let server = cx.keep(Server::start_with_tls(handler, ca.http2_server_config()));
    Ok((client_for(tls::trusting(cx, &ca)?), server))
}

/// RFC 9113 sections 6.8 and 8.7, whatever the method.
async fn is_sent_elsewhere(cx: Context, nack: Http2Nack) -> Verdict {
    let (client, server) = nacking(&cx, nack)?;
    for _ in 0..4 {
        for method in [Method::GET, Method::POST] {
            let request = client.request(method.clone(), server.http_url("/"));
            let request = if method == Method::POST { request.body("a body") } else { request };
            assert_eq!(request.send().await?.text().await?, "done");
        }
    }
    assert!(server.connections() >= 2, "{}", server.connections());
    Ok(())
}

async fn streaming_what_was_not_processed_is_not_repeated(cx: Context) -> Verdict {
    let (client, server) = nacking(&cx, Http2Nack::RefusedStream)?;
    let post = || client.post(server.http_url("/")).body(streamed()).send();
    assert_eq!(post().await?.text().await?, "done");
    assert_eq!(post().await?.text().await?, "done");
    fails(post().await, ErrorKind::Io)?;
    Ok(())
}

/// The stream is given back to a server that counts them.
async fn an_upload_over_http_2_is_reset_after_its_answer(cx: Context) -> Verdict {
    let (client, server) = nacking(&cx, Http2Nack::AnswersEarly)?;
    for pends in [true, false] {
        let (body, is_dropped) = endless(pends);
        let response = client.post(server.http_url("/")).body(body).send().await?;
        assert_eq!(response.text().await?, "done");
        cx.until("the body is dropped", || is_dropped.load(Ordering::SeqCst)).await?;
    }
    // It answers this only after both were reset.
    let last = client.post(server.http_url("/")).body(streamed());
    assert_eq!(last.send().await?.text().await?, "done");
    assert_eq!(server.connections(), 1);
    Ok(())
}

/// A Close that the peer does not answer is waited for: not for long, as it is the end of these cases.
fn short() -> WebSockets {
    WebSockets::new().close_timeout(std::time::Duration::from_secs(2))
}

/// A server that keeps to the windows of HTTP/2, and a client with WebSockets over it; `None` on an engine without.
fn windowed(
    cx: &Context,
    plugin: WebSockets,
) -> Verdict<Option<(HttpClient, Http2Windows, Arc<Server>)>> {
    let ca = TestCa::new();
    let Some(engine) = cx.engine_over_http2(&ca) else { return Ok(None) };
    let windows = Http2Windows::default();
    let serving = windows.clone();
    let handler = move |conn: &mut Conn| serving.serve(conn);
    let server = cx.keep(Server::start_with_tls(handler, ca.http2_server_config()));
    let client = builder_for(engine).install(plugin).build()?;
    Ok(Some((client, windows, server)))
}

/// More than fill a connection's window with what they have not read.
async fn sessions_over_http_2_that_nobody_reads_stop_no_other(cx: Context) -> Verdict {
    let Some((client, windows, server)) = windowed(&cx, short())? else {
        return web_sockets_use_http_1_1(&cx).await;
    };
    let open = || client.web_socket(server.ws_url("/")).connect();
    let mut healthy = open().await?;
    let mut unread = Vec::new();
    for _ in 0..25 {
        let session = open().await?;
        session.send("flood").await?;
        unread.push(session);
    }
    cx.until("each has all that it may have", || windows.full() == 25).await?;
    // Kept to the end: one that is dropped is reset, too, where the peer takes long to end it.
    let mut late = open().await?;
    for session in [&mut healthy, &mut late] {
        cx.within(PATIENCE, "the others continue", echoes(session, vec![7; 50_000])).await??;
    }
    assert_eq!(server.connections(), 1);
    drop(unread);
    cx.until("those that were dropped are reset", || windows.resets() == 25).await?;
    echoes(&mut healthy, "still there").await
}

/// Its peer need not answer the Close.
async fn a_session_over_http_2_that_is_dropped_is_reset(cx: Context) -> Verdict {
    a_dropped_session_over_http_2_is_reset(cx, None).await
}

/// What waits for a window that does not come is given up too.
async fn a_session_over_http_2_whose_peer_takes_nothing_is_reset(cx: Context) -> Verdict {
    a_dropped_session_over_http_2_is_reset(cx, Some(vec![7; 200_000])).await
}

async fn a_dropped_session_over_http_2_is_reset(cx: Context, waits: Option<Vec<u8>>) -> Verdict {
    let Some((client, windows, server)) = windowed(&cx, short())? else {
        return web_sockets_use_http_1_1(&cx).await;
    };
    let open = || client.web_socket(server.ws_url("/")).connect();
    let mut other = open().await?;
    let session = open().await?;
    session.send("hold").await?;
    cx.until("it holds", || windows.held() == 1).await?;
    if let Some(message) = waits {
        session.send(message).await?;
    }
    drop(session);
    cx.until("it is reset", || windows.resets() == 1).await?;
    echoes(&mut other, "still there").await
}

/// Whether the peer reads or not, an answer that does not come is not waited for any longer.
async fn a_session_over_http_2_that_ended_by_its_close_timeout_is_reset(cx: Context) -> Verdict {
    let plugin = WebSockets::new().close_timeout(std::time::Duration::from_millis(200));
    let Some((client, windows, server)) = windowed(&cx, plugin)? else {
        return web_sockets_use_http_1_1(&cx).await;
    };
    let open = || client.web_socket(server.ws_url("/")).connect();
    let mut other = open().await?;
    for (count, size) in [(1, 10), (2, 200_000)] {
        let session = open().await?;
        session.send("hold").await?;
        cx.until("it holds", || windows.held() == count).await?;
        session.send(vec![7; size]).await?;
        let outcome = session.close(CloseReason::normal()).await?;
        assert!(!outcome.clean, "{outcome:?}");
        cx.until("it is reset", || windows.resets() == count).await?;
    }
    echoes(&mut other, "still there").await
}
