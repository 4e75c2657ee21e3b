//! Bodies: streams, progress, limits.

use std::{
    io,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use drivetrain::{Body, ErrorKind, HttpClient, RequestBuilder, Response, SetBy};
use drivetrain_engine::Capability;
use futures_util::{StreamExt as _, stream};
use serde_json::{Value, json};

use crate::{
    case::{Case, case},
    context::{Context, PATIENCE, builder_for},
    expect::fails,
    failure::{Failure, Verdict},
};

pub(super) fn cases() -> Vec<Case> {
    let cases = [
        case(a_stream_is_sent_in_chunks_or_with_its_length),
        case(a_stream_of_another_length_fails_the_request),
        case(a_stream_that_fails_fails_the_request),
        case(an_upload_is_observed),
        case(a_download_is_observed),
        case(an_announced_body_above_the_limit_is_not_read),
        case(a_body_is_cut_at_the_limit),
        case(a_body_at_the_limit_is_read),
        case(the_request_overrides_the_clients_limit),
        case(a_cut_body_ends_its_stream_with_one_error),
        case(dropping_the_wait_for_a_chunk_loses_nothing),
        case(dropping_a_body_in_the_middle_frees_its_connection),
        case(the_length_is_known_before_the_body),
        case(text_that_is_not_utf8_is_an_error),
        case(a_body_in_an_unknown_transfer_coding_is_an_error),
    ];
    cases.into_iter().map(|case| case.needs(&[Capability::Http1])).collect()
}

/// A stream has `Content-Length` if its length is said, and goes in chunks otherwise.
async fn a_stream_is_sent_in_chunks_or_with_its_length(cx: Context) -> Verdict {
    let (client, url) = (cx.client(), cx.echo().http_url("/anything"));
    for (body, length, encoding) in [
        (chunks(&["one", "two"]), Value::Null, json!(["chunked"])),
        (chunks(&["one", "two"]).with_length(6), json!(["6"]), Value::Null),
        (Body::from("onetwo").with_length(6), json!(["6"]), Value::Null),
    ] {
        let seen: Value = client.put(&url).body(body).send().await?.json().await?;
        assert_eq!(seen["body"], "onetwo");
        assert_eq!(seen["headers"]["content-length"], length);
        assert_eq!(seen["headers"]["transfer-encoding"], encoding);
    }
    Ok(())
}

/// A body that is not as long as was said is the caller's mistake.
async fn a_stream_of_another_length_fails_the_request(cx: Context) -> Verdict {
    let server = cx.echo();
    for length in [5, 7] {
        let body = chunks(&["one", "two"]).with_length(length);
        let request = cx.client().put(server.http_url("/anything")).body(body);
        fails(request.send().await, ErrorKind::InvalidInput)?;
    }
    Ok(())
}

/// An error of the user's stream is the error of the request.
async fn a_stream_that_fails_fails_the_request(cx: Context) -> Verdict {
    let broken = io::Error::other("the disk is gone");
    let body = Body::from_stream(stream::iter([Ok("one"), Err(broken)]));
    let request = cx.client().put(cx.echo().http_url("/anything")).body(body);
    let error = fails(request.send().await, ErrorKind::Io)?;
    let mut cause: Option<&dyn std::error::Error> = Some(&error);
    while let Some(error) = cause {
        if error.to_string() == "the disk is gone" {
            return Ok(());
        }
        cause = error.source();
    }
    Err(Failure::new(format_args!("the cause is lost: {error:?}")))
}

/// The observer sees each sent chunk, up to the total, and no chunk of an unsent body.
async fn an_upload_is_observed(cx: Context) -> Verdict {
    let (client, url) = (cx.client(), cx.echo().http_url("/echo"));
    for (body, total, length) in [
        (Body::from(vec![7; 300 << 10]), Some(300 << 10), 300 << 10),
        (chunks(&["one", "two"]).with_length(6), Some(6), 6),
        (chunks(&["one", "two"]), None, 6),
        (Body::empty(), None, 0),
    ] {
        let progress = Progress::default();
        let request = client.post(&url).body(body).on_upload(progress.observer());
        assert_eq!(request.send().await?.bytes().await?.len(), length);
        progress.went_up_to(length as u64, total)?;
    }
    let progress = Progress::default();
    let request = client.post(format!("http://{}/", super::http::closed_port()?));
    let request = request.body("never sent").on_upload(progress.observer());
    fails(request.send().await, ErrorKind::Connect)?;
    progress.went_up_to(0, None)
}

/// The observer sees each read chunk, up to the total, and no chunk of an unread body.
async fn a_download_is_observed(cx: Context) -> Verdict {
    let (client, server) = (cx.client(), cx.echo());
    let whole = vec![7; 300 << 10];
    for (request, length, total) in [
        (client.post(server.http_url("/echo")).body(whole), 300 << 10, Some(300 << 10)),
        (client.get(server.http_url("/stream?chunks=3&size=100")), 300, None),
        (client.get(server.http_url("/status/204")), 0, None),
    ] {
        let progress = Progress::default();
        let response = request.on_download(progress.observer()).send().await?;
        progress.went_up_to(0, None)?;
        assert_eq!(response.bytes().await?.len(), length);
        progress.went_up_to(length as u64, total)?;
    }
    Ok(())
}

/// A response that says that it is above the limit is refused without waiting for its body.
async fn an_announced_body_above_the_limit_is_not_read(cx: Context) -> Verdict {
    let server = cx.server(|conn| {
        conn.read_request()?;
        conn.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 11\r\n\r\n")?;
        conn.drain()
    });
    let client = builder_for(cx.engine()).max_response_size(10).build()?;
    for read in READERS {
        let progress = Progress::default();
        let request = client.get(server.http_url("/")).on_download(progress.observer());
        let reading = read(request.send().await?);
        let result = cx.within(PATIENCE, "it is refused at once", reading).await?;
        let error = fails(result, ErrorKind::TooBig)?;
        assert!(error.to_string().contains("10 bytes"), "{error}");
        progress.went_up_to(0, None)?;
    }
    drop(client);
    cx.until("the connections are closed", || server.open() == 0).await
}

/// A body of unknown length is read up to the limit and no further.
async fn a_body_is_cut_at_the_limit(cx: Context) -> Verdict {
    let server = cx.server(|conn| {
        conn.read_request()?;
        conn.begin_chunked(200, &[])?;
        // It never ends.
        while conn.send_chunk(&[b'7'; 1024]).is_ok() {}
        Ok(())
    });
    for read in READERS {
        let request = cx.client().get(server.http_url("/")).max_response_size(10 << 10);
        let result = cx.within(PATIENCE, "it is given up", read(request.send().await?)).await?;
        fails(result, ErrorKind::TooBig)?;
    }
    let request = cx.client().get(server.http_url("/")).max_response_size(10 << 10);
    let mut body = request.send().await?.bytes_stream();
    while let Some(Ok(_)) = body.next().await {}
    assert!(body.next().await.is_none(), "the stream continues after its error");
    cx.until("the connections are closed", || server.open() == 0).await
}

/// The limit itself is allowed, with and without a length.
async fn a_body_at_the_limit_is_read(cx: Context) -> Verdict {
    let (client, server) = (cx.client(), cx.echo());
    for (url, size) in [("/get", 3), ("/stream?chunks=3&size=100", 300)] {
        let request = client.get(server.http_url(url)).max_response_size(size);
        assert_eq!(request.send().await?.bytes().await?.len() as u64, size);
    }
    Ok(())
}

/// The table has the client's limit; a request's own holds for it.
async fn the_request_overrides_the_clients_limit(cx: Context) -> Verdict {
    let value = |client: &HttpClient| {
        let settings = client.settings();
        let row = settings.get("max_response_size").map(|row| (row.value.to_string(), row.set_by));
        row.ok_or_else(|| Failure::new("the table has no such row"))
    };
    assert_eq!(value(&cx.client())?, ("off".into(), SetBy::Default));
    let client = builder_for(cx.engine()).max_response_size(2).build()?;
    assert_eq!(value(&client)?, ("2 bytes".into(), SetBy::Client));
    let get = || client.get(cx.echo().http_url("/get"));
    fails(get().send().await?.text().await, ErrorKind::TooBig)?;
    assert_eq!(get().max_response_size(u64::MAX).send().await?.text().await?, "get");
    Ok(())
}

/// What came is given, then one error, then nothing.
async fn a_cut_body_ends_its_stream_with_one_error(cx: Context) -> Verdict {
    for framing in
        ["content-length: 100\r\n\r\nhalf", "transfer-encoding: chunked\r\n\r\n4\r\nhalf\r\n"]
    {
        let head = format!("HTTP/1.1 200 OK\r\n{framing}");
        let server = cx.server(move |conn| {
            conn.read_request()?;
            conn.write_all(head.as_bytes())
        });
        let mut body = cx.client().get(server.http_url("/")).send().await?.bytes_stream();
        let mut seen = Vec::new();
        let error = loop {
            match body.next().await {
                Some(Ok(chunk)) => seen.extend_from_slice(&chunk),
                Some(Err(error)) => break error,
                None => return Err(Failure::new(format_args!("a quiet end with {framing:?}"))),
            }
        };
        assert_eq!(seen, b"half");
        assert_eq!(error.kind(), ErrorKind::Io, "{error:?}");
        assert!(body.next().await.is_none() && body.next().await.is_none());
    }
    Ok(())
}

/// Giving up waiting for a chunk and asking again later gives that chunk.
async fn dropping_the_wait_for_a_chunk_loses_nothing(cx: Context) -> Verdict {
    let server = cx.server(|conn| {
        conn.read_request()?;
        conn.begin_chunked(200, &[])?;
        conn.hold()?;
        for chunk in ["a", "b", "c"] {
            conn.send_chunk(chunk.as_bytes())?;
        }
        conn.end_chunked()
    });
    let mut body = cx.client().get(server.http_url("/")).send().await?.bytes_stream();
    for _ in 0..3 {
        let waiting = body.next();
        cx.stays_pending(Duration::from_millis(10), "nothing was sent", waiting).await?;
    }
    server.release();
    let mut seen = Vec::new();
    while let Some(chunk) = cx.within(PATIENCE, "the rest comes", body.next()).await? {
        seen.extend_from_slice(&chunk?);
    }
    assert_eq!(seen, b"abc");
    Ok(())
}

/// A body that is not read to its end does not keep its connection.
async fn dropping_a_body_in_the_middle_frees_its_connection(cx: Context) -> Verdict {
    let server = cx.server(|conn| {
        conn.read_request()?;
        conn.begin_chunked(200, &[])?;
        conn.send_chunk(b"first")?;
        conn.drain()
    });
    let client = cx.client();
    let mut body = client.get(server.http_url("/")).send().await?.bytes_stream();
    assert_eq!(body.next().await.transpose()?.as_deref(), Some(&b"first"[..]));
    assert_eq!(server.open(), 1);
    drop(body);
    cx.until("the connection is closed", || server.open() == 0).await
}

/// Known with `Content-Length`, unknown in chunks, nothing for a HEAD.
async fn the_length_is_known_before_the_body(cx: Context) -> Verdict {
    let (client, server) = (cx.client(), cx.echo());
    let length = async |request: RequestBuilder| {
        let response = request.send().await?;
        let length = response.content_length();
        response.bytes().await?;
        Verdict::Ok(length)
    };
    assert_eq!(length(client.get(server.http_url("/get"))).await?, Some(3));
    assert_eq!(length(client.get(server.http_url("/stream"))).await?, None);
    assert_eq!(length(client.head(server.http_url("/get"))).await?, Some(0));
    Ok(())
}

/// Nothing is replaced in silence, whatever the charset is said to be.
async fn text_that_is_not_utf8_is_an_error(cx: Context) -> Verdict {
    let url = cx.echo().http_url("/echo");
    for (charset, bytes, text) in [
        ("utf-8", &b"Zo\xeb"[..], None),
        ("iso-8859-1", b"Zo\xeb", None),
        ("iso-8859-1", b"Zoe", Some("Zoe")),
        ("utf-8", "Zoë".as_bytes(), Some("Zoë")),
    ] {
        let content_type = format!("text/plain; charset={charset}");
        let request = cx.client().post(&url).header("content-type", content_type).body(bytes);
        let result = request.send().await?.text().await;
        match text {
            Some(text) => assert_eq!(result?, text),
            None => drop(fails(result, ErrorKind::Convert)?),
        }
    }
    Ok(())
}

/// Only `chunked` is decoded. Bytes in another transfer coding are not the body, unless the caller asks for it by `TE`
/// (RFC 9112 section 6.1); the status is known all the same.
async fn a_body_in_an_unknown_transfer_coding_is_an_error(cx: Context) -> Verdict {
    for (line, is_body) in [
        ("transfer-encoding: chunked", true),
        ("transfer-encoding: Chunked", true),
        ("transfer-encoding: , chunked", true),
        ("transfer-encoding: gzip, chunked", false),
        ("transfer-encoding: gzip\r\ntransfer-encoding: chunked", false),
        ("transfer-encoding: chunked, chunked", false),
        ("transfer-encoding: x-own;level=\"1\", chunked", false),
        ("connection: close\r\ntransfer-encoding: gzip", false),
    ] {
        let server = cx.server(move |conn| {
            let Some(head) = conn.read_request()? else { return Ok(()) };
            conn.write_all(format!("HTTP/1.1 403 No\r\n{line}\r\n\r\n").as_bytes())?;
            if head.method != "HEAD" {
                conn.write_all(b"2\r\nok\r\n0\r\n\r\n")?;
            }
            conn.shutdown_write()?;
            conn.drain()
        });
        let (client, url) = (cx.client(), server.http_url("/"));
        let response = client.get(&url).send().await?;
        assert_eq!(response.status(), 403, "{line}");
        let body = response.bytes().await;
        match is_body {
            true => assert_eq!(body?, "ok", "{line}"),
            false => {
                let error = fails(body, ErrorKind::Protocol)?;
                assert!(error.to_string().contains("transfer coding"), "{error}");
            }
        }
        let mut refusals = vec![fails(
            client.get(&url).send().await?.error_for_status().await,
            ErrorKind::Status,
        )?];
        if client.support(Capability::WebSockets).is_offered() {
            let handshake = client.web_socket(server.ws_url("/")).connect().await;
            refusals.push(fails(handshake, ErrorKind::Rejected)?);
        }
        for refused in refusals {
            let body = refused.response().map(|response| response.body().clone());
            assert_eq!(body.as_deref(), Some(if is_body { &b"ok"[..] } else { b"" }), "{line}");
        }
        let body = client.get(&url).header("te", "gzip").send().await?.bytes().await;
        assert!(!matches!(body, Ok(body) if body.is_empty()), "{line}");
        assert_eq!(client.head(&url).send().await?.bytes().await?, "", "{line}");
    }
    Ok(())
}

/// A stream of these.
pub(super) fn chunks(chunks: &[&'static str]) -> Body {
    Body::from_stream(stream::iter(chunks.to_vec()).map(Ok::<_, io::Error>))
}

type Reading = Pin<Box<dyn Future<Output = drivetrain::Result<()>> + Send>>;

/// Each way to read a body.
const READERS: [fn(Response) -> Reading; 4] = [
    |response| Box::pin(async { response.bytes().await.map(drop) }),
    |response| Box::pin(async { response.text().await.map(drop) }),
    |response| Box::pin(async { response.json::<Value>().await.map(drop) }),
    |response| {
        Box::pin(async {
            let mut body = response.bytes_stream();
            while let Some(chunk) = body.next().await {
                chunk?;
            }
            Ok(())
        })
    },
];

/// How far, and how far it goes.
type Told = (u64, Option<u64>);

/// What an observer was told.
#[derive(Clone, Default)]
struct Progress(Arc<Mutex<Vec<Told>>>);

impl Progress {
    fn observer(&self) -> impl Fn(u64, Option<u64>) + Send + Sync + 'static {
        let told = Arc::clone(&self.0);
        move |done, total| {
            told.lock().unwrap_or_else(PoisonError::into_inner).push((done, total));
        }
    }

    /// It rose to `length`, which for 0 means that nothing was told.
    fn went_up_to(&self, length: u64, total: Option<u64>) -> Verdict {
        let told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let rises = told.windows(2).all(|pair| pair[0].0 < pair[1].0);
        let agrees = told.iter().all(|&(_, said)| said == total);
        let last = told.last().map_or(0, |&(done, _)| done);
        if rises && agrees && last == length && (length > 0 || told.is_empty()) {
            return Ok(());
        }
        Err(Failure::new(format_args!("not up to {length} of {total:?}: {told:?}")))
    }
}
