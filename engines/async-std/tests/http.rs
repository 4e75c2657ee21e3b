//! HTTP, on both runtimes.
#![cfg(feature = "async-std")]

mod common;

use std::{
    convert::Infallible,
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    pin::Pin,
    sync::mpsc,
    task::{Context, Poll},
    thread,
    time::Duration,
};

use bytes::Bytes;
use common::*;
use drivetrain_engine::{Body, ConnectTimeout, Engine, Error, ErrorKind};
use futures_util::stream;
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};

/// A body of unknown length that takes its time.
fn slow(chunks: &'static [&'static str]) -> Body {
    Body::streaming(Box::pin(StreamBody::new(stream::unfold(0, move |index| async move {
        async_io::Timer::after(Duration::from_millis(30)).await;
        let chunk = Bytes::from_static(chunks.get(index)?.as_bytes());
        Some((Ok::<_, Infallible>(Frame::data(chunk)), index + 1))
    }))))
}

/// A chunked body, as it is on the wire.
fn chunked(reader: &mut impl BufRead) -> String {
    let mut body = String::new();
    while !body.ends_with("0\r\n\r\n") {
        assert_ne!(reader.read_line(&mut body).expect("a line"), 0, "cut off: {body}");
    }
    body
}

#[test]
fn a_get_goes_out_in_origin_form_with_a_host() {
    for engine in engines() {
        let server = Server::new(1, |_, stream| {
            let head = request_on(&stream);
            write(&stream, "HTTP/1.1 404 Not Found\r\nx-a: b\r\ncontent-length: 5\r\n\r\nhello");
            head
        });
        let port = server.port;
        let uri = format!("http://user:secret@localhost:{port}/a?b=c");
        let response = block_on(engine.execute(request("GET", uri, ()))).expect("answered");
        assert_eq!(
            (response.status().as_u16(), &response.headers()["x-a"]),
            (404, &"b".parse().expect("a value"))
        );
        assert_eq!(block_on(text(response)).expect("a body"), "hello");
        let expected = format!("GET /a?b=c HTTP/1.1\r\nHost: localhost:{port}\r\n\r\n");
        assert_eq!(server.finish(), [expected]);
    }
}

#[test]
fn a_host_of_the_callers_is_kept() {
    for engine in engines() {
        let server = Server::new(1, |_, stream| {
            let head = request_on(&stream);
            write(&stream, "HTTP/1.1 204 No Content\r\n\r\n");
            head
        });
        let mut request = request("POST", format!("http://127.0.0.1:{}", server.port), ());
        request.headers_mut().insert("host", "example.com".parse().expect("a value"));
        assert_eq!(block_on(engine.execute(request)).expect("answered").status(), 204);
        let heads = server.finish();
        assert!(heads[0].starts_with("POST / HTTP/1.1\r\nHost: example.com\r\n"), "{heads:?}");
    }
}

#[test]
fn bodies_stream_both_ways() {
    for engine in engines() {
        let (go, wait) = mpsc::channel();
        let server = Server::new(1, move |_, stream| {
            let mut reader = BufReader::new(&stream);
            let head = head(&mut reader);
            write(&stream, "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nout\r\n");
            let body = chunked(&mut reader);
            wait.recv_timeout(PATIENCE).expect("the first chunk was seen");
            write(&stream, "3\r\nend\r\n0\r\n\r\n");
            (head, body)
        });
        block_on(async {
            let uri = format!("http://127.0.0.1:{}/", server.port);
            let response = engine.execute(request("POST", uri, slow(&["one", "two"]))).await;
            let mut body = response.expect("answered before the upload has ended").into_body();
            for chunk in ["out", "end"] {
                let frame = body.frame().await.expect("more").expect("no error");
                assert_eq!(frame.into_data().expect("data"), chunk);
                // The second time the server has gone on already.
                let _ = go.send(());
            }
            assert!(body.frame().await.is_none());
        });
        let (head, body) = server.finish().remove(0);
        assert!(head.contains("Transfer-Encoding: chunked"), "{head}");
        assert_eq!(body, "3\r\none\r\n3\r\ntwo\r\n0\r\n\r\n");
    }
}

#[test]
fn a_large_upload_arrives_whole() {
    const SIZE: usize = 8 << 20;
    for engine in engines() {
        let server = Server::new(1, |_, stream| {
            let mut reader = BufReader::new(&stream);
            let head = head(&mut reader);
            let mut body = vec![0; SIZE];
            reader.read_exact(&mut body).expect("the body");
            write(&stream, "HTTP/1.1 201 Created\r\ncontent-length: 0\r\n\r\n");
            assert!(body.iter().all(|byte| *byte == 7));
            head
        });
        let uri = format!("http://127.0.0.1:{}/", server.port);
        let response = block_on(engine.execute(request("PUT", uri, vec![7; SIZE])));
        assert_eq!(response.expect("answered").status(), 201);
        assert!(server.finish()[0].contains(&format!("Content-Length: {SIZE}\r\n")));
    }
}

/// Within a grace, for which a machine may be too slow. It is enough if it is so once.
#[test]
fn an_upload_is_seen_through_when_the_answer_has_no_body() {
    for engine in engines() {
        assert!((0..5).any(|_| is_seen_through(&*engine)), "{}: it is cut", engine.name());
    }
}

fn is_seen_through(engine: &dyn Engine) -> bool {
    let (tells, told) = mpsc::channel();
    let server = Server::new(1, move |_, stream| {
        let mut reader = BufReader::new(&stream);
        head(&mut reader);
        write(&stream, "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
        let mut body = String::new();
        while !body.ends_with("0\r\n\r\n") {
            if reader.read_line(&mut body).unwrap_or(0) == 0 {
                return body;
            }
        }
        tells.send(()).expect("the test waits");
        // The connection is whole: another request follows.
        assert!(head(&mut reader).starts_with("HEAD /next"));
        write(&stream, "HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\n");
        assert!(head(&mut reader).starts_with("GET /last"));
        write(&stream, "HTTP/1.1 304 Not Modified\r\ncontent-length: 99\r\n\r\n");
        body
    });
    let uri = |path| format!("http://127.0.0.1:{}/{path}", server.port);
    let upload = request("POST", uri(""), slow(&["one", "two", "three"]));
    assert_eq!(block_on(engine.execute(upload)).expect("answered").status(), 200);
    if told.recv_timeout(PATIENCE).is_err() {
        server.finish();
        return false;
    }
    for (method, path) in [("HEAD", "next"), ("GET", "last")] {
        let response = block_on(engine.execute(request(method, uri(path), ())));
        let response = response.expect("answered");
        assert_eq!(response.headers()["content-length"], "99");
        assert_eq!(block_on(text(response)).expect("a body"), "");
    }
    assert_eq!(server.finish(), ["3\r\none\r\n3\r\ntwo\r\n5\r\nthree\r\n0\r\n\r\n"]);
    true
}

/// Answers requests until the peer ends the connection.
fn answer_all(stream: &TcpStream) -> usize {
    let mut reader = BufReader::new(stream);
    let mut answered = 0;
    while reader.fill_buf().is_ok_and(|bytes| !bytes.is_empty()) {
        head(&mut reader);
        write(stream, "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
        answered += 1;
    }
    answered
}

#[test]
fn a_connection_is_kept_and_used_again() {
    for engine in engines() {
        let server = Server::new(1, |_, stream| answer_all(&stream));
        for _ in 0..3 {
            let uri = format!("http://127.0.0.1:{}/", server.port);
            let response = block_on(engine.execute(request("GET", uri, ()))).expect("answered");
            assert_eq!(block_on(text(response)).expect("a body"), "ok");
        }
        assert_eq!(server.accepted(), 1);
        // Idle connections go with their engine.
        drop(engine);
        assert_eq!(server.finish(), [3]);
    }
}

#[test]
fn a_kept_connection_that_the_server_closed_is_replaced() {
    for engine in engines() {
        let (closed, wait) = mpsc::channel();
        let server = Server::new(3, move |_, stream| {
            request_on(&stream);
            write(&stream, "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
            drop(stream);
            closed.send(()).expect("the test waits");
        });
        for _ in 0..3 {
            let uri = format!("http://127.0.0.1:{}/", server.port);
            let response = block_on(engine.execute(request("GET", uri, ()))).expect("answered");
            assert_eq!(block_on(text(response)).expect("a body"), "ok");
            wait.recv_timeout(PATIENCE).expect("closed");
        }
        assert_eq!(server.finish().len(), 3);
    }
}

#[test]
fn a_request_that_was_sent_is_not_sent_again() {
    for engine in engines() {
        let server = Server::new(1, |_, stream| {
            request_on(&stream);
            write(&stream, "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
            request_on(&stream)
        });
        let uri = format!("http://127.0.0.1:{}/", server.port);
        let response = block_on(engine.execute(request("GET", &uri, ()))).expect("answered");
        assert_eq!(block_on(text(response)).expect("a body"), "ok");
        let failed = block_on(engine.execute(request("GET", &uri, ()))).expect_err("cut off");
        assert_eq!(failed.kind(), ErrorKind::Io, "{failed:?}");
        assert_eq!(failed.engine(), Some(engine.name()));
        assert_eq!(server.finish().len(), 1);
    }
}

#[test]
fn a_response_dropped_early_closes_its_connection() {
    for engine in engines() {
        let server = Server::new(1, |_, stream| {
            request_on(&stream);
            write(&stream, "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf");
            is_ended(&stream)
        });
        let uri = format!("http://127.0.0.1:{}/", server.port);
        drop(block_on(engine.execute(request("GET", uri, ()))).expect("answered"));
        assert_eq!(server.finish(), [true]);
    }
}

#[test]
fn a_body_cut_short_is_an_io_error() {
    for engine in engines() {
        let server = Server::new(1, |_, stream| {
            request_on(&stream);
            write(&stream, "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf");
        });
        let uri = format!("http://127.0.0.1:{}/", server.port);
        let response = block_on(engine.execute(request("GET", uri, ()))).expect("answered");
        let error = block_on(text(response)).expect_err("4 of 10 bytes");
        assert_eq!((error.kind(), error.engine()), (ErrorKind::Io, Some(engine.name())));
        server.finish();
    }
}

#[test]
fn what_the_server_says_is_checked() {
    for engine in engines() {
        let server = Server::new(1, |_, stream| {
            request_on(&stream);
            write(&stream, "SSH-2.0-OpenSSH_9.9\r\n");
        });
        let uri = format!("http://127.0.0.1:{}/", server.port);
        let error = block_on(engine.execute(request("GET", uri, ()))).expect_err("not HTTP");
        assert_eq!(error.kind(), ErrorKind::Protocol, "{error:?}");
        server.finish();
    }
}

/// A body of the caller's that fails.
struct Failing;

impl http_body::Body for Failing {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        Poll::Ready(Some(Err(Error::new(ErrorKind::Convert, "the caller's own"))))
    }
}

#[test]
fn an_error_of_the_requests_body_comes_back_as_it_is() {
    for engine in engines() {
        let server = Server::new(1, |_, mut stream| {
            let mut rest = Vec::new();
            stream.read_to_end(&mut rest).expect("an end");
        });
        let uri = format!("http://127.0.0.1:{}/", server.port);
        let request = request("POST", uri, Body::streaming(Failing));
        let error = block_on(engine.execute(request)).expect_err("no body");
        assert_eq!(
            (error.kind(), error.to_string().as_str()),
            (ErrorKind::Convert, "the caller's own")
        );
        server.finish();
    }
}

#[test]
fn an_upload_that_fails_behind_the_answer_ends_it_with_its_error() {
    for engine in engines() {
        let server = Server::new(1, |_, stream| {
            request_on(&stream);
            write(&stream, "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf");
            let mut rest = Vec::new();
            (&stream).read_to_end(&mut rest).expect("an end");
        });
        let (fail, fails) = futures_channel::oneshot::channel::<()>();
        let failing = stream::once(async {
            let _ = fails.await;
            Err::<Frame<Bytes>, _>(Error::new(ErrorKind::Convert, "the caller's own"))
        });
        let body = Body::streaming(Box::pin(StreamBody::new(failing)));
        let uri = format!("http://127.0.0.1:{}/", server.port);
        let response = block_on(engine.execute(request("POST", uri, body))).expect("answered");
        drop(fail);
        let error = block_on(text(response)).expect_err("half of it");
        assert_eq!(error.kind(), ErrorKind::Convert, "{error:?}");
        server.finish();
    }
}

#[test]
fn what_cannot_be_reached_says_why() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = free.local_addr().expect("bound").port();
    drop(free);
    for engine in engines() {
        for (uri, kind) in [
            (format!("http://127.0.0.1:{port}/"), ErrorKind::Connect),
            (format!("http://[::1]:{port}/"), ErrorKind::Connect),
            ("http://no-such-host.invalid/".into(), ErrorKind::Connect),
            ("ftp://127.0.0.1/".into(), ErrorKind::InvalidInput),
            ("/path".into(), ErrorKind::InvalidInput),
        ] {
            let error = block_on(engine.execute(request("GET", &uri, ()))).expect_err(&uri);
            assert_eq!((error.kind(), error.engine()), (kind, Some(engine.name())), "{error:?}");
        }
    }
}

#[cfg(feature = "rustls")]
#[test]
fn the_connect_timeout_covers_tls_and_names_itself() {
    // A listener that never accepts: TCP opens, TLS is not answered.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("bound").port();
    for engine in engines() {
        let mut request = request("GET", format!("https://127.0.0.1:{port}/"), ());
        request.extensions_mut().insert(ConnectTimeout(Duration::from_millis(100)));
        let start = std::time::Instant::now();
        let error = block_on(engine.execute(request)).expect_err("nobody answers");
        assert_eq!(error.kind(), ErrorKind::Timeout, "{error:?}");
        assert!(start.elapsed() < PATIENCE);
    }
}

#[test]
fn the_connect_timeout_does_not_limit_the_answer() {
    for engine in engines() {
        // A machine may be too slow to connect within the first limits.
        let is_answered = FACTORS.into_iter().any(|factor| {
            let limit = factor * Duration::from_millis(100);
            let server = Server::new(1, move |_, mut stream| {
                stream.set_read_timeout(None).expect("set");
                if stream.peek(&mut [0]).unwrap_or(0) > 0 {
                    request_on(&stream);
                    thread::sleep(2 * limit);
                    let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
                    stream.write_all(answer).ok();
                }
            });
            let mut request = request("GET", format!("http://127.0.0.1:{}/", server.port), ());
            request.extensions_mut().insert(ConnectTimeout(limit));
            match block_on(engine.execute(request)) {
                Err(error) if error.kind() == ErrorKind::Timeout => false,
                response => response.expect("answered").status() == 200,
            }
        });
        assert!(is_answered, "{}: the limit is for the answer, too", engine.name());
    }
}
