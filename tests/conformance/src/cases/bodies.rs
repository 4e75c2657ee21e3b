//! Bodies: streams, forms, progress, limits.

use std::{
    io,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use drivetrain::{
    Body, Bytes, ErrorKind, HttpClient, RequestBuilder, Response, SetBy,
    multipart::{Form, Part},
};
use drivetrain_engine::Capability;
use futures_util::{StreamExt as _, stream};
use serde_json::{Value, json};

use crate::{
    case::{Case, case},
    context::{Context, PATIENCE},
    expect::fails,
    failure::{Failure, Verdict},
};

pub(super) fn cases() -> Vec<Case> {
    let cases = [
        case(a_stream_is_sent_in_chunks_or_with_its_length),
        case(a_stream_of_another_length_fails_the_request),
        case(a_stream_that_fails_fails_the_request),
        case(a_form_is_encoded),
        case(another_library_reads_a_multipart_form),
        case(a_multipart_form_in_memory_has_a_length_and_one_with_a_stream_has_none),
        case(what_a_part_cannot_have_is_refused_before_anything_is_sent),
        case(an_upload_is_observed),
        case(a_download_is_observed),
        case(an_announced_body_above_the_limit_is_not_read),
        case(a_body_is_cut_at_the_limit),
        case(a_body_at_the_limit_is_read),
        case(the_request_overrides_the_clients_limit),
        case(a_cut_body_ends_its_stream_with_one_error),
        case(dropping_the_wait_for_a_piece_loses_nothing),
        case(dropping_a_body_in_the_middle_frees_its_connection),
        case(the_length_is_known_before_the_body),
        case(text_that_is_not_utf8_is_an_error),
    ];
    cases.into_iter().map(|case| case.needs(&[Capability::Http1])).collect()
}

/// A stream has `Content-Length` if its length is said, and goes in chunks otherwise.
async fn a_stream_is_sent_in_chunks_or_with_its_length(cx: Context) -> Verdict {
    let (client, url) = (cx.client(), cx.echo().http_url("/anything"));
    for (body, length, encoding) in [
        (pieces(&["one", "two"]), Value::Null, json!(["chunked"])),
        (pieces(&["one", "two"]).with_length(6), json!(["6"]), Value::Null),
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
        let body = pieces(&["one", "two"]).with_length(length);
        let request = cx.client().put(server.http_url("/anything")).body(body);
        fails(request.send().await, ErrorKind::InvalidInput)?;
    }
    Ok(())
}

/// The error of the caller's own stream is the request's.
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

/// A form is what a browser sends; a content type of the caller's stays.
async fn a_form_is_encoded(cx: Context) -> Verdict {
    let (client, url) = (cx.client(), cx.echo().http_url("/echo"));
    let pairs = [("a b", "c&d=e+f"), ("ü", "%\r\n"), ("a b", "")];
    let response = client.post(&url).form(&pairs).send().await?;
    assert_eq!(response.headers()["content-type"], "application/x-www-form-urlencoded");
    assert_eq!(response.text().await?, "a+b=c%26d%3De%2Bf&%C3%BC=%25%0D%0A&a+b=");
    let request = client.post(&url).header("content-type", "x/y").form(&pairs);
    assert_eq!(request.send().await?.headers()["content-type"], "x/y");
    let request = client.post(&url).form(&["not a pair"]);
    fails(request.send().await, ErrorKind::InvalidInput)?;
    Ok(())
}

/// Fields, files and streams arrive with names, types and headers.
async fn another_library_reads_a_multipart_form(cx: Context) -> Verdict {
    let photo: Bytes = (0..100_000).map(|i: u32| (i % 251) as u8).collect();
    let form = Form::new()
        .text("title", "Zoë\r\n--drivetrain-")
        .text("empty", "")
        .part(
            "photo",
            Part::new(photo.clone()).file_name("p \u{e9}.jpg").content_type("image/jpeg"),
        )
        .part("raw", Part::new(pieces(&["in ", "pieces"]).with_length(9)).file_name("a\\b\".bin"))
        .part("raw", Part::new(pieces(&["again"])).header("x-mark", "yes"))
        .text("od\"d\r\nname", "last");
    let request = cx.client().post(cx.echo().http_url("/echo")).multipart(form);
    let parts = read_form(request.send().await?).await?;
    let seen: Vec<_> = parts.iter().map(Read::as_tuple).collect();
    let binary = Some("application/octet-stream");
    assert_eq!(
        seen,
        [
            ("title", None, None, "Zoë\r\n--drivetrain-".as_bytes()),
            ("empty", None, None, b""),
            ("photo", Some("p \u{e9}.jpg"), Some("image/jpeg"), &photo[..]),
            ("raw", Some("a\\b%22.bin"), binary, b"in pieces"),
            ("raw", None, None, b"again"),
            ("od%22d%0D%0Aname", None, None, b"last"),
        ]
    );
    assert_eq!(parts[4].mark.as_deref(), Some("yes"));
    Ok(())
}

/// The length is sent if it can be known. Each form has a boundary of its own.
async fn a_multipart_form_in_memory_has_a_length_and_one_with_a_stream_has_none(
    cx: Context,
) -> Verdict {
    let (client, url) = (cx.client(), cx.echo().http_url("/anything"));
    let mut boundaries = Vec::new();
    for (part, known) in [
        (Part::new("bytes"), true),
        (Part::new(pieces(&["stream"]).with_length(6)), true),
        (Part::new(pieces(&["stream"])), false),
    ] {
        let form = Form::new().text("first", "1").part("second", part);
        let request = client.post(&url).header("content-type", "text/plain").multipart(form);
        let seen: Value = request.send().await?.json().await?;
        let headers = &seen["headers"];
        assert_eq!(headers["content-length"].is_array(), known, "{seen}");
        assert_eq!(headers["transfer-encoding"].is_array(), !known, "{seen}");
        boundaries.push(headers["content-type"].to_string());
    }
    assert!(boundaries.iter().all(|boundary| boundary.starts_with("[\"multipart/form-data; ")));
    boundaries.sort();
    boundaries.dedup();
    assert_eq!(boundaries.len(), 3, "{boundaries:?}");
    // No part at all is a form, too.
    let request = client.post(cx.echo().http_url("/echo")).multipart(Form::new());
    assert!(read_form(request.send().await?).await?.is_empty());
    Ok(())
}

/// Wrong headers of a part do not reach a server.
async fn what_a_part_cannot_have_is_refused_before_anything_is_sent(cx: Context) -> Verdict {
    let server = cx.echo();
    for part in [
        Part::new("x").content_type("text/plain\r\nx-injected: 1"),
        Part::new("x").header("content-disposition", "attachment"),
        Part::new("x").header("no name", "x"),
    ] {
        let form = Form::new().part("part", part);
        let request = cx.client().post(server.http_url("/echo")).multipart(form);
        fails(request.send().await, ErrorKind::InvalidInput)?;
    }
    assert_eq!(server.connections(), 0);
    Ok(())
}

/// Each piece that is sent is told, up to the total; a body that nobody asks for is not told.
async fn an_upload_is_observed(cx: Context) -> Verdict {
    let (client, url) = (cx.client(), cx.echo().http_url("/echo"));
    for (body, total, length) in [
        (Body::from(vec![7; 300 << 10]), Some(300 << 10), 300 << 10),
        (pieces(&["one", "two"]).with_length(6), Some(6), 6),
        (pieces(&["one", "two"]), None, 6),
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

/// Each piece that is read is told, up to the total; a body that nobody reads is not told.
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
    let client = HttpClient::builder(cx.engine()).max_response_size(10).build()?;
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
    assert!(body.next().await.is_none(), "it goes on after its error");
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
    let client = HttpClient::builder(cx.engine()).max_response_size(2).build()?;
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
                Some(Ok(piece)) => seen.extend_from_slice(&piece),
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

/// Giving up waiting for a piece and asking again later gives that piece.
async fn dropping_the_wait_for_a_piece_loses_nothing(cx: Context) -> Verdict {
    let server = cx.server(|conn| {
        conn.read_request()?;
        conn.begin_chunked(200, &[])?;
        conn.hold()?;
        for piece in ["a", "b", "c"] {
            conn.send_chunk(piece.as_bytes())?;
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
    while let Some(piece) = cx.within(PATIENCE, "the rest comes", body.next()).await? {
        seen.extend_from_slice(&piece?);
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

fn pieces(pieces: &[&'static str]) -> Body {
    Body::from_stream(stream::iter(pieces.to_vec()).map(Ok::<_, io::Error>))
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
            while let Some(piece) = body.next().await {
                piece?;
            }
            Ok(())
        })
    },
];

/// What an observer was told.
#[derive(Clone, Default)]
struct Progress(Arc<Mutex<Vec<(u64, Option<u64>)>>>);

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

/// A part as the other library saw it.
struct Read {
    name: String,
    file_name: Option<String>,
    content_type: Option<String>,
    mark: Option<String>,
    data: Bytes,
}

impl Read {
    fn as_tuple(&self) -> (&str, Option<&str>, Option<&str>, &[u8]) {
        (&self.name, self.file_name.as_deref(), self.content_type.as_deref(), &self.data)
    }
}

/// The parts of a form that was echoed.
async fn read_form(response: Response) -> Verdict<Vec<Read>> {
    let content_type = response.headers()["content-type"].to_str()?.to_owned();
    let boundary = multer::parse_boundary(content_type)?;
    let mut form = multer::Multipart::new(response.bytes_stream(), boundary);
    let mut parts = Vec::new();
    while let Some(field) = form.next_field().await? {
        let mark = field.headers().get("x-mark").map(|value| value.to_str().map(str::to_owned));
        parts.push(Read {
            name: field.name().unwrap_or_default().to_owned(),
            file_name: field.file_name().map(str::to_owned),
            content_type: field.content_type().map(ToString::to_string),
            mark: mark.transpose()?,
            data: field.bytes().await?,
        });
    }
    Ok(parts)
}
