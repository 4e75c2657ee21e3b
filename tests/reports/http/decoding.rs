//! Content codings of responses.
#![cfg(feature = "full")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{io::Write as _, pin::pin};

use compression_codecs::{
    BrotliEncoder, EncodeV2, ZstdEncoder,
    core::util::{PartialBuffer, WriteBuffer},
};
use drivetrain::{
    Bytes, Error, ErrorKind, HttpClient, Response, engine,
    http::{HeaderMap, Method, StatusCode, header},
    testing::{MockEngine, Reply},
};
use drivetrain_conformance::peer::Server;
use flate2::write::GzEncoder;
use futures_util::StreamExt as _;

const URL: &str = "http://a.example/x";

fn encoded(coding: &str, text: &[u8]) -> Vec<u8> {
    let mut encoder: Box<dyn EncodeV2> = match coding {
        "gzip" => return flushed(&[text]).concat(),
        "br" => Box::new(BrotliEncoder::new(Default::default())),
        _ => Box::new(ZstdEncoder::new(3)),
    };
    let mut bytes = vec![0; text.len() + 4096];
    let mut output = WriteBuffer::new_initialized(&mut bytes);
    encoder.encode(&mut PartialBuffer::new(text), &mut output).unwrap();
    while !encoder.finish(&mut output).unwrap() {}
    let length = output.written_len();
    bytes.truncate(length);
    bytes
}

/// Text that is not made small by any coding.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 1u32;
    let next = |_| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    (0..length).map(next).collect()
}

fn in_chunks(coding: &str, body: &[u8], size: usize) -> Reply {
    let reply = Reply::new(StatusCode::OK).header("content-encoding", coding);
    body.chunks(size).fold(reply, |reply, chunk| reply.body(Bytes::copy_from_slice(chunk)))
}

/// What is read, and the error that ends it.
fn read(reply: Reply) -> (Vec<u8>, Option<Error>) {
    let mock = MockEngine::new();
    mock.on(Method::GET, "/x").respond(reply);
    let client = HttpClient::new(mock.clone());
    mock.clock().block_on(async {
        let mut body = client.get(URL).send().await.unwrap().bytes_stream();
        let mut seen = Vec::new();
        loop {
            match body.next().await {
                Some(Ok(chunk)) => seen.extend_from_slice(&chunk),
                Some(Err(error)) => {
                    assert!(body.next().await.is_none(), "it yields more after its error");
                    return (seen, Some(error));
                }
                None => return (seen, None),
            }
        }
    })
}

#[track_caller]
fn is_broken(reply: Reply, what: &str) -> Vec<u8> {
    let (seen, error) = read(reply);
    let error = error.unwrap_or_else(|| panic!("{what} was read without an error"));
    assert_eq!(error.kind(), ErrorKind::Protocol, "{what}: {error:?}");
    assert!(!error.is_transient(), "{what}");
    seen
}

#[test]
fn members_are_read_whole_however_they_are_split() {
    // Sizes at which a chunk of what is decoded is just full, and not.
    for length in [0, 1, 5, 16 << 10, (16 << 10) + 1, 48 << 10] {
        let parts =
            [noise(length), b"second".to_vec(), vec![b'x'; length], Vec::new(), b"end".to_vec()];
        for coding in ["gzip", "zstd"] {
            let body: Vec<u8> = parts.iter().flat_map(|part| encoded(coding, part)).collect();
            for size in [1, 2, 7, 1000, 16 << 10, body.len()] {
                if body.len() / size > 5000 {
                    continue;
                }
                let (seen, error) = read(in_chunks(coding, &body, size));
                assert!(error.is_none(), "{coding}, {length} in chunks of {size}: {error:?}");
                assert!(seen == parts.concat(), "{coding}, {length} in chunks of {size}");
            }
        }
    }
}

#[test]
fn one_member_is_read_whole_however_it_is_split() {
    for coding in ["gzip", "br", "zstd"] {
        for text in [vec![], b"a".to_vec(), noise(40_000), vec![b'x'; 200_000], vec![0; 16 << 10]] {
            let body = encoded(coding, &text);
            for size in [1, 3, 1000, body.len()] {
                let (seen, error) = read(in_chunks(coding, &body, size));
                assert!(error.is_none(), "{coding}, {} in chunks of {size}: {error:?}", text.len());
                assert!(seen == text, "{coding}, {} in chunks of {size}", text.len());
            }
        }
    }
}

/// A header with everything that it may have (RFC 1952 section 2.3).
#[test]
fn a_gzip_header_may_have_names_and_more() {
    let plain = encoded("gzip", b"named");
    let mut body = plain[..10].to_vec();
    body[3] = 0b1_1100;
    body.extend(b"\x03\0abcfile name\0a comment\0");
    body.extend(&plain[10..]);
    for size in [1, 2, body.len()] {
        let (seen, error) = read(in_chunks("gzip", &[body.clone(), plain.clone()].concat(), size));
        assert_eq!((&*seen, error.map(|error| error.kind())), (&b"namednamed"[..], None));
    }
}

#[test]
fn what_is_not_whole_or_not_valid_is_an_error_of_the_protocol() {
    for coding in ["gzip", "br", "zstd"] {
        let body = encoded(coding, &noise(1000));
        for size in [1, 100, body.len()] {
            for cut in [1, 5, 11, 500, body.len() - 4, body.len() - 1] {
                is_broken(in_chunks(coding, &body[..cut], size), &format!("{coding} cut at {cut}"));
            }
            let mut garbage = body.clone();
            garbage.extend(b"garbage behind it");
            let seen =
                is_broken(in_chunks(coding, &garbage, size), &format!("{coding} and garbage"));
            assert_eq!(seen, noise(1000), "what is before the garbage is given");
            is_broken(in_chunks(coding, b"this is plain text", size), &format!("no {coding}"));
        }
    }
    let mut body = encoded("gzip", &noise(1000));
    let second_cut = [body.clone(), body[..body.len() - 9].to_vec()].concat();
    is_broken(in_chunks("gzip", &second_cut, 7), "a second member that is cut");
    let checksum = body.len() - 8;
    body[checksum] ^= 1;
    is_broken(in_chunks("gzip", &body, 7), "a wrong checksum");
    // A frame that asks for a window of 16 MiB (RFC 9659).
    let greedy = b"\x28\xb5\x2f\xfd\x00\x70\x29\0\0hello";
    is_broken(in_chunks("zstd", greedy, greedy.len()), "a large window");
}

#[test]
fn zeros_behind_gzip_are_padding() {
    let mut body = encoded("gzip", b"tape");
    body.extend([0; 300]);
    for size in [1, 50, body.len()] {
        let (seen, error) = read(in_chunks("gzip", &body, size));
        assert_eq!((&*seen, error.map(|error| error.kind())), (&b"tape"[..], None));
    }
}

/// A fault of the connection is not one of the coding.
#[test]
fn a_cut_connection_is_still_told() {
    let body = encoded("gzip", &noise(1000));
    for reply in [in_chunks("gzip", &body[..500], 100).cut(), in_chunks("gzip", &body, 100).cut()] {
        let (_, error) = read(reply);
        assert_eq!(error.unwrap().kind(), ErrorKind::Io);
    }
}

fn answer(
    method: Method,
    status: u16,
    codings: &[&str],
    body: &[u8],
    asked: Option<(&str, &str)>,
) -> (HeaderMap, Vec<u8>, Option<String>) {
    let mock = MockEngine::new();
    let mut reply = Reply::new(StatusCode::from_u16(status).unwrap());
    for coding in codings {
        reply = reply.header("content-encoding", *coding);
    }
    let length = body.len().to_string();
    mock.on(method.clone(), "/x")
        .respond(reply.header("content-length", length).body(body.to_vec()));
    let client = HttpClient::new(mock.clone());
    let (headers, seen) = mock.clock().block_on(async {
        let mut request = client.request(method, URL);
        if let Some((name, value)) = asked {
            request = request.header(name, value);
        }
        let response: Response = request.send().await.unwrap();
        (response.headers().clone(), response.bytes().await.unwrap().to_vec())
    });
    let offered = mock.requests()[0].header("accept-encoding").map(str::to_owned);
    (headers, seen, offered)
}

#[test]
fn codings_are_named_in_any_case_and_in_lists() {
    let gzip = encoded("gzip", b"text");
    let both = encoded("br", &gzip);
    for (codings, body) in [
        (&["GZip"][..], &gzip),
        (&["x-gzip"], &gzip),
        (&["identity, gzip"], &gzip),
        (&["gzip, br"], &both),
        (&["gzip", "BR"], &both),
    ] {
        let (headers, seen, _) = answer(Method::GET, 200, codings, body, None);
        assert_eq!(seen, b"text", "{codings:?}");
        assert!(!headers.contains_key(header::CONTENT_ENCODING), "{codings:?}");
        assert!(!headers.contains_key(header::CONTENT_LENGTH), "{codings:?}");
    }
    for codings in [&["identity"][..], &["deflate"], &["gzip, deflate"], &["gzip", "unknown"]] {
        let (headers, seen, _) = answer(Method::GET, 200, codings, b"as it is", None);
        assert_eq!(seen, b"as it is", "{codings:?}");
        assert_eq!(headers.get_all(header::CONTENT_ENCODING).iter().count(), codings.len());
        assert_eq!(headers[header::CONTENT_LENGTH], "8");
    }
    // Nobody encodes five times but to do harm.
    let mock = MockEngine::new();
    let many =
        Reply::new(StatusCode::OK).header("content-encoding", "gzip, gzip, gzip, gzip, gzip");
    mock.on(Method::GET, "/x").respond(many.body("x"));
    let error = mock.clock().block_on(HttpClient::new(mock.clone()).get(URL).send()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Protocol);
}

#[test]
fn what_has_no_body_keeps_its_headers() {
    for (method, status) in [(Method::HEAD, 200), (Method::GET, 204), (Method::GET, 304)] {
        let (headers, seen, _) = answer(method, status, &["gzip"], b"gone", None);
        assert_eq!(
            (headers[header::CONTENT_ENCODING].as_bytes(), &*seen),
            (&b"gzip"[..], &b""[..])
        );
        assert_eq!(headers[header::CONTENT_LENGTH], "4");
    }
    for coding in ["gzip", "br", "zstd"] {
        let (_, seen, _) = answer(Method::GET, 200, &[coding], b"", None);
        assert_eq!(seen, b"", "{coding}");
        // It is empty, but this is known at its end alone.
        let late = Reply::new(StatusCode::OK).header("content-encoding", coding);
        let (seen, error) = read(late.body("").body(""));
        assert_eq!((&*seen, error.map(|error| error.kind())), (&b""[..], None), "{coding}");
    }
}

#[test]
fn who_asks_for_a_coding_or_a_part_gets_what_comes() {
    let gzip = encoded("gzip", b"text");
    for (asked, status, offered) in [
        (("range", "bytes=0-9"), 206, "identity"),
        (("range", "bytes=0-9"), 200, "identity"),
        (("accept-encoding", "gzip"), 200, "gzip"),
        (("accept-encoding", "identity"), 200, "identity"),
    ] {
        let (headers, seen, sent) = answer(Method::GET, status, &["gzip"], &gzip, Some(asked));
        assert_eq!((seen, sent.as_deref()), (gzip.clone(), Some(offered)), "{asked:?}");
        assert_eq!(headers[header::CONTENT_ENCODING], "gzip");
        assert_eq!(headers[header::CONTENT_LENGTH], gzip.len().to_string().as_str());
    }
    // A part that nobody asked for cannot be decoded either.
    let (headers, seen, sent) = answer(Method::GET, 206, &["gzip"], &gzip[..9], None);
    assert_eq!((&*seen, sent.as_deref()), (&gzip[..9], Some("gzip, br, zstd")));
    assert_eq!(headers[header::CONTENT_ENCODING], "gzip");
}

/// What is flushed is there while the body pauses: in a member of its own, or within one.
#[test]
fn an_event_is_not_held_back() {
    let events = ["data: one\n\n", "data: two\n\n", "data: three\n\n"];
    let members: Vec<Vec<u8>> =
        events.iter().map(|event| encoded("gzip", event.as_bytes())).collect();
    for chunks in [members, flushed(&events.map(str::as_bytes))] {
        for count in 1..=3 {
            let mock = MockEngine::new();
            let reply = Reply::event_stream().header("content-encoding", "gzip");
            let reply = chunks[..count].iter().cloned().fold(reply, Reply::body);
            mock.on(Method::GET, "/x").respond(reply.stall());
            let client = HttpClient::new(mock.clone());
            mock.clock().block_on(async {
                let mut stream = pin!(client.sse(URL).connect().await.unwrap());
                for expected in &["one", "two", "three"][..count] {
                    assert_eq!(stream.next().await.unwrap().unwrap().data, *expected);
                }
            });
            assert_eq!(mock.requests().len(), 1, "it does not connect again");
        }
    }
}

/// One gzip member in chunks that end in a flush, the last one in its end.
fn flushed(texts: &[&[u8]]) -> Vec<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::new(), flate2::Compression::default());
    let mut chunks = Vec::new();
    for text in texts {
        encoder.write_all(text).unwrap();
        if texts.len() > 1 {
            encoder.flush().unwrap();
        }
        chunks.push(std::mem::take(encoder.get_mut()));
    }
    chunks.push(encoder.finish().unwrap());
    chunks
}

/// The same over sockets, where the chunks are what TCP makes of them.
#[tokio::test]
async fn members_are_read_on_each_engine() {
    let parts: Vec<Vec<u8>> = vec![noise(70_000), b"second".to_vec(), vec![b'x'; 100_000]];
    let body: Vec<u8> = parts.iter().flat_map(|part| encoded("gzip", part)).collect();
    let plain = parts.concat();
    let server = Server::start(move |conn| {
        while let Some(request) = conn.read_request()? {
            let size = request.parameter_or("size", 1000);
            conn.begin_chunked(200, &[("content-encoding", "gzip")])?;
            for chunk in body.chunks(size) {
                conn.send_chunk(chunk)?;
            }
            conn.end_chunked()?;
        }
        Ok(())
    });
    for engine in engine::all() {
        let client = HttpClient::new(engine);
        for size in [10_000, 70_001, 1 << 20] {
            let request = client.get(server.http_url(&format!("/?size={size}")));
            let seen = request.send().await.unwrap().bytes().await.unwrap();
            assert!(seen == plain, "{} of {} bytes", seen.len(), plain.len());
        }
    }
}
