//! Plain HTTP.

use std::{
    convert::Infallible,
    io,
    net::SocketAddr,
    pin::Pin,
    sync::{Mutex, PoisonError},
    task::{Context as TaskContext, Poll},
    time::Duration,
};

use drivetrain::{
    Body, Bytes, DefaultRequest, ErrorKind, HttpTimeout, RequestBuilder, http::Method,
};
use drivetrain_engine::Capability;
use futures_channel::mpsc::{UnboundedReceiver, unbounded};
use futures_util::{Stream as _, StreamExt as _, future};
use serde_json::{Value, json};
use socket2::{Domain, Socket, Type};

use crate::{
    case::{Case, case},
    context::{Context, FACTORS, PATIENCE, builder_for},
    expect::fails,
    failure::{Failure, Verdict},
    peer::Conn,
};

/// A limit that passes, and one that does not.
const SHORT: Duration = Duration::from_millis(150);

pub(super) fn cases() -> Vec<Case> {
    let cases = [
        case(get_gives_text),
        case(status_and_headers_are_given),
        case(a_post_carries_a_body),
        case(every_method_arrives),
        case(json_goes_both_ways),
        case(a_query_is_encoded),
        case(basic_auth_is_sent),
        case(a_bearer_token_is_sent),
        case(userinfo_becomes_basic_auth),
        case(large_bodies_go_both_ways),
        case(a_download_streams),
        case(an_upload_streams),
        case(an_error_status_is_an_error_if_asked_for),
        case(head_has_no_body),
        case(a_request_times_out),
        case(a_body_that_pauses_times_out),
        case(a_dropped_request_frees_its_connection),
        case(a_refused_connection_is_a_connect_error),
        case(an_unknown_host_is_a_connect_error),
        case(an_encoded_body_is_left_as_it_is),
        case(a_body_that_ends_early_is_an_error),
        case(garbage_is_a_protocol_error),
        case(a_server_that_says_nothing_and_leaves_is_an_error),
        case(twenty_requests_at_once),
        case(defaults_are_applied),
    ];
    cases.into_iter().map(|case| case.needs(&[Capability::Http1])).collect()
}

/// The body of a GET is text.
async fn get_gives_text(cx: Context) -> Verdict {
    let response = cx.client().get(cx.echo().http_url("/get")).send().await?;
    assert_eq!(response.status(), 200);
    assert_eq!(response.text().await?, "get");
    Ok(())
}

/// Status, headers, URL and version are those of the server's answer.
async fn status_and_headers_are_given(cx: Context) -> Verdict {
    let url = cx.echo().http_url("/status/418");
    let response = cx.client().get(&url).send().await?;
    assert_eq!(response.status(), 418);
    assert_eq!(response.headers()["x-test"], "status");
    assert_eq!(response.url().as_str(), url);
    assert_eq!(format!("{:?}", response.version()), "HTTP/1.1");
    assert_eq!(response.bytes().await?, "status 418");
    Ok(())
}

/// A POST carries its body and headers.
async fn a_post_carries_a_body(cx: Context) -> Verdict {
    let request = cx.client().post(cx.echo().http_url("/echo")).header("content-type", "x/y");
    let response = request.body("hello").send().await?;
    assert_eq!(response.headers()["content-type"], "x/y");
    assert_eq!(response.text().await?, "hello");
    Ok(())
}

/// The request has the given method, also a custom one.
async fn every_method_arrives(cx: Context) -> Verdict {
    let (client, url) = (cx.client(), cx.echo().http_url("/anything"));
    for method in ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PURGE"] {
        let seen =
            description(client.request(Method::from_bytes(method.as_bytes())?, &url)).await?;
        assert_eq!(seen["method"], method);
    }
    Ok(())
}

/// A value is sent as JSON and echoed as the same value.
async fn json_goes_both_ways(cx: Context) -> Verdict {
    let value = json!({ "name": "Zoë", "list": [1, 2.5, null, true], "nested": { "a": "b" } });
    let response = cx.client().post(cx.echo().http_url("/echo")).json(&value).send().await?;
    assert_eq!(response.headers()["content-type"], "application/json");
    assert_eq!(response.json::<Value>().await?, value);
    let response = cx.client().get(cx.echo().http_url("/get")).send().await?;
    fails(response.json::<Value>().await, ErrorKind::Convert)?;
    Ok(())
}

/// A query is encoded and comes after the one in the URL.
async fn a_query_is_encoded(cx: Context) -> Verdict {
    let request = cx.client().get(cx.echo().http_url("/anything?first=1"));
    let seen = description(request.query(&[("a b", "c&d=e"), ("ü", "#?%")])).await?;
    assert_eq!(seen["query"], json!({ "first": "1", "a b": "c&d=e", "ü": "#?%" }));
    Ok(())
}

/// Basic auth is as RFC 7617 has it.
async fn basic_auth_is_sent(cx: Context) -> Verdict {
    let request = cx.client().get(cx.echo().http_url("/anything"));
    let seen = description(request.basic_auth("Aladdin", Some("open sesame"))).await?;
    assert_eq!(seen["headers"]["authorization"], json!(["Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="]));
    Ok(())
}

/// A bearer token is as RFC 6750 has it.
async fn a_bearer_token_is_sent(cx: Context) -> Verdict {
    let request = cx.client().get(cx.echo().http_url("/anything")).bearer_auth("t0ken");
    let seen = description(request).await?;
    assert_eq!(seen["headers"]["authorization"], json!(["Bearer t0ken"]));
    Ok(())
}

/// The URL's user and password are basic auth, and do not travel otherwise.
async fn userinfo_becomes_basic_auth(cx: Context) -> Verdict {
    let url = cx.echo().http_url("/anything").replace("://", "://Aladdin:open%20sesame@");
    let seen = description(cx.client().get(url)).await?;
    assert_eq!(seen["headers"]["authorization"], json!(["Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="]));
    assert!(!seen["headers"]["host"].to_string().contains('@'), "{seen}");
    assert_eq!(seen["target"], "/anything");
    Ok(())
}

/// Five MiB are sent and echoed unchanged.
async fn large_bodies_go_both_ways(cx: Context) -> Verdict {
    let body: Bytes = (0..5 << 20).map(|i: u32| (i % 251) as u8).collect();
    let request = cx.client().post(cx.echo().http_url("/echo")).body(body.clone());
    assert!(request.send().await?.bytes().await? == body);
    Ok(())
}

/// The first chunk of a body is there before the last one is sent.
async fn a_download_streams(cx: Context) -> Verdict {
    let server = cx.server(|conn| {
        conn.read_request()?;
        conn.begin_chunked(200, &[])?;
        conn.send_chunk(b"first")?;
        conn.hold()?;
        conn.send_chunk(b"last")?;
        conn.end_chunked()
    });
    let mut body = cx.client().get(server.http_url("/")).send().await?.bytes_stream();
    let first = cx.within(PATIENCE, "the first chunk comes", body.next()).await?;
    assert_eq!(first.transpose()?.as_deref(), Some(&b"first"[..]));
    server.release();
    let rest: Vec<Bytes> = body.map(Result::unwrap_or_default).collect().await;
    assert_eq!(rest.concat(), b"last");
    Ok(())
}

/// The first chunk of a body arrives before the last one exists.
async fn an_upload_streams(cx: Context) -> Verdict {
    let (saw, mut seen) = unbounded();
    let server = cx.server(move |conn| {
        read_until(conn, b"first")?;
        saw.unbounded_send(()).map_err(io::Error::other)?;
        read_until(conn, b"last")?;
        conn.respond(200, &[("connection", "close")], "both")
    });
    let (chunks, body) = unbounded();
    chunks.unbounded_send("first".into())?;
    let request = cx.client().post(server.http_url("/")).body(Body::streaming(Chunks(body)));
    let feed = async {
        cx.within(PATIENCE, "the first chunk arrives", seen.next()).await?;
        chunks.unbounded_send("last".into())?;
        drop(chunks);
        Verdict::Ok(())
    };
    let answer = async { Verdict::Ok(request.send().await?.text().await?) };
    assert_eq!(future::try_join(answer, feed).await?.0, "both");
    Ok(())
}

/// `error_for_status` makes an error of 400 and above, with status and headers, and of nothing else.
async fn an_error_status_is_an_error_if_asked_for(cx: Context) -> Verdict {
    let (client, server) = (cx.client(), cx.echo());
    for status in [400, 404, 500, 503] {
        let response = client.get(server.http_url(&format!("/status/{status}"))).send().await?;
        let error = fails(response.error_for_status().await, ErrorKind::Status)?;
        let response = error.response().ok_or_else(|| Failure::new("it has no response"))?;
        assert_eq!(response.status(), status);
        assert_eq!(response.headers()["x-test"], "status");
    }
    client.get(server.http_url("/status/302")).send().await?.error_for_status().await?;
    Ok(())
}

/// A HEAD has the headers of a GET and no body.
async fn head_has_no_body(cx: Context) -> Verdict {
    let response = cx.client().head(cx.echo().http_url("/get")).send().await?;
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()["content-length"], "3");
    assert_eq!(response.bytes().await?, "");
    Ok(())
}

/// A server that does not answer is given up after the request's time limit.
async fn a_request_times_out(cx: Context) -> Verdict {
    let server = cx.server(Conn::drain);
    let request = cx.client().get(server.http_url("/")).timeout(SHORT).send();
    fails(cx.within(PATIENCE, "the limit passes", request).await?, ErrorKind::Timeout)?;
    let client = builder_for(cx.engine()).install(HttpTimeout::new().request(SHORT));
    let request = client.build()?.get(server.http_url("/")).send();
    fails(cx.within(PATIENCE, "the limit passes", request).await?, ErrorKind::Timeout)?;
    Ok(())
}

/// A body that stops in the middle is given up after the socket's time limit.
async fn a_body_that_pauses_times_out(cx: Context) -> Verdict {
    let server = cx.server(|conn| {
        conn.read_request()?;
        conn.begin_chunked(200, &[])?;
        conn.send_chunk(b"first")?;
        conn.drain()
    });
    for limit in FACTORS.map(|factor| factor * SHORT) {
        let client = builder_for(cx.engine()).install(HttpTimeout::new().socket(limit));
        let response = match client.build()?.get(server.http_url("/")).send().await {
            Err(error) if error.kind() == ErrorKind::Timeout => continue, // before there was a head
            response => response?,
        };
        let body = cx.within(PATIENCE, "the limit passes", response.bytes()).await?;
        fails(body, ErrorKind::Timeout)?;
        return Ok(());
    }
    Err(Failure::new("the head does not come in time"))
}

/// Dropping a request that waits for its answer closes its connection.
async fn a_dropped_request_frees_its_connection(cx: Context) -> Verdict {
    let server = cx.server(Conn::drain);
    let client = cx.client();
    let request = Box::pin(client.get(server.http_url("/")).send());
    cx.stays_pending(SHORT, "there is no answer", request).await?;
    assert_eq!(server.connections(), 1);
    cx.until("the connection ends", || server.open() == 0).await
}

/// A port without a listener is `Connect`.
async fn a_refused_connection_is_a_connect_error(cx: Context) -> Verdict {
    let url = format!("http://{}/", closed_port()?);
    let error = fails(cx.client().get(url).send().await, ErrorKind::Connect)?;
    assert!(error.is_transient() && error.engine().is_some(), "{error:?}");
    Ok(())
}

/// A name that does not exist (RFC 6761 section 6.4) is `Connect`.
async fn an_unknown_host_is_a_connect_error(cx: Context) -> Verdict {
    fails(cx.client().get("http://drivetrain.invalid/").send().await, ErrorKind::Connect)?;
    Ok(())
}

/// The library below neither asks for an encoding nor decodes one.
async fn an_encoded_body_is_left_as_it_is(cx: Context) -> Verdict {
    let client = builder_for(cx.engine()).no_decompression().build()?;
    let seen = description(client.get(cx.echo().http_url("/anything"))).await?;
    assert_eq!(seen["headers"]["accept-encoding"], Value::Null);
    let server = cx.server(|conn| {
        conn.read_request()?;
        conn.respond(200, &[("content-encoding", "gzip"), ("connection", "close")], "not gzip")
    });
    let response = client.get(server.http_url("/")).send().await?;
    assert_eq!(response.headers()["content-encoding"], "gzip");
    assert_eq!(response.text().await?, "not gzip");
    Ok(())
}

/// A body that is shorter than it was said to be is `Io`.
async fn a_body_that_ends_early_is_an_error(cx: Context) -> Verdict {
    let server = cx.server(|conn| {
        conn.read_request()?;
        conn.respond(200, &[("content-length", "100")], "half")
    });
    let response = cx.client().get(server.http_url("/")).send().await?;
    fails(response.bytes().await, ErrorKind::Io)?;
    Ok(())
}

/// An answer that is not HTTP is `Protocol`.
async fn garbage_is_a_protocol_error(cx: Context) -> Verdict {
    let server = cx.server(|conn| {
        conn.read_request()?;
        conn.write_all(b"SSH-2.0-OpenSSH_9.6\r\n\r\n")
    });
    fails(cx.client().get(server.http_url("/")).send().await, ErrorKind::Protocol)?;
    Ok(())
}

/// A server that ends the connection without an answer is `Io`.
async fn a_server_that_says_nothing_and_leaves_is_an_error(cx: Context) -> Verdict {
    let server = cx.server(|conn| conn.read_request().map(drop));
    fails(cx.client().get(server.http_url("/")).send().await, ErrorKind::Io)?;
    Ok(())
}

/// Requests of one client do not wait for each other, and each gets its own answer.
async fn twenty_requests_at_once(cx: Context) -> Verdict {
    let (client, server) = (cx.client(), cx.echo());
    let requests = (0..20).map(|i| {
        let request = client.get(server.http_url(&format!("/anything/{i}")));
        async move { Verdict::Ok((i, description(request).await?)) }
    });
    for (i, seen) in future::try_join_all(requests).await? {
        assert_eq!(seen["path"], format!("/anything/{i}"));
    }
    Ok(())
}

/// A base URL and default headers are applied, and a request's own header wins.
async fn defaults_are_applied(cx: Context) -> Verdict {
    let defaults = DefaultRequest::new().base_url(cx.echo().http_url("/anything/"));
    let defaults = defaults.header("x-one", "default").header("x-two", "default");
    let client = builder_for(cx.engine()).install(defaults).build()?;
    let seen = description(client.get("below").header("x-two", "own")).await?;
    assert_eq!(seen["path"], "/anything/below");
    assert_eq!(seen["headers"]["x-one"], json!(["default"]));
    assert_eq!(seen["headers"]["x-two"], json!(["own"]));
    Ok(())
}

/// What `/anything` says of a request.
pub(super) async fn description(request: RequestBuilder) -> Verdict<Value> {
    Ok(request.send().await?.error_for_status().await?.json().await?)
}

/// A port without a listener: bound, so that no other process gets it, and never listened on.
pub(super) fn closed_port() -> io::Result<SocketAddr> {
    static TAKEN: Mutex<Option<(Socket, SocketAddr)>> = Mutex::new(None);
    let mut taken = TAKEN.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((_, addr)) = &*taken {
        return Ok(*addr);
    }
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into())?;
    let addr = socket.local_addr()?.as_socket().ok_or(io::ErrorKind::AddrNotAvailable)?;
    *taken = Some((socket, addr));
    Ok(addr)
}

fn read_until(conn: &mut Conn, pattern: &[u8]) -> io::Result<()> {
    let mut seen = Vec::new();
    let mut buffer = [0; 1024];
    while !seen.windows(pattern.len()).any(|window| window == pattern) {
        match conn.read_some(&mut buffer)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            count => seen.extend_from_slice(&buffer[..count]),
        }
    }
    Ok(())
}

/// A body whose chunks come from elsewhere.
struct Chunks(UnboundedReceiver<Bytes>);

impl http_body::Body for Chunks {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut TaskContext<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Bytes>, Infallible>>> {
        let next = Pin::new(&mut self.0).poll_next(cx);
        next.map(|chunk| chunk.map(|chunk| Ok(http_body::Frame::data(chunk))))
    }
}
