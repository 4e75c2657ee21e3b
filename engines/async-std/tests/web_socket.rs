//! WebSockets, on both runtimes.
#![cfg(feature = "async-std")]

mod common;

use std::{
    io::{Read, Write},
    net::TcpListener,
    sync::Mutex,
    time::Duration,
};

use common::*;
use drivetrain_engine::{
    Answer, Connection, Duties, Engine, ErrorKind, Handshake, OpCode, Protocol, RawFrame, Result,
    Role,
};

fn handshake(uri: impl AsRef<str>) -> Handshake {
    Handshake::new(uri.as_ref().parse().expect("a URI")).expect("a handshake")
}

fn opened(answer: Result<Answer>) -> Connection {
    match answer.expect("an answer") {
        Answer::Open(connection) => connection,
        Answer::Refused(response) => panic!("refused: {response:?}"),
    }
}

#[test]
fn a_frame_in_the_segment_of_the_101_is_kept_and_closing_ends_one_direction() {
    for engine in engines() {
        let server = Server::new(1, |_, stream| {
            let head = request_on(&stream);
            let switch = switch(&head).replacen(
                "\r\n\r\n",
                "\r\nsec-websocket-protocol: b\r\nx-a: b\r\n\r\n\u{81}\u{5}hello",
                1,
            );
            // As bytes: U+0081 is the byte 0x81 here.
            let bytes: Vec<_> = switch.chars().map(|char| char as u8).collect();
            write(&stream, bytes);
            assert!(is_ended(&stream), "poll_close ends the client's direction");
            write(&stream, b"\x81\x03bye");
            head
        });
        block_on(async {
            let handshake = handshake(format!("ws://localhost:{}/chat?x", server.port))
                .subprotocol("a")
                .and_then(|handshake| handshake.subprotocol("b"))
                .and_then(|handshake| {
                    handshake.header(
                        http::header::AUTHORIZATION,
                        http::HeaderValue::from_static("Bearer x"),
                    )
                })
                .expect("valid");
            let connection = opened(engine.connect(handshake).await);
            assert_eq!((connection.role(), connection.protocol()), (Role::Client, Protocol::H1));
            assert_eq!(
                (connection.subprotocol(), connection.duties()),
                (Some("b"), Duties::frames())
            );
            assert_eq!(connection.response().expect("shown").headers()["x-a"], "b");
            let mut transport = connection.into_transport();
            let first = transport.try_receive_buffered(100).expect("there").expect("a frame");
            assert_eq!(first.payload, "hello");
            close(&mut *transport).await.expect("closed");
            assert_eq!(
                receive(&mut *transport).await.expect("read").expect("a frame").payload,
                "bye"
            );
            assert!(receive(&mut *transport).await.expect("a clean end").is_none());
        });
        let port = server.port;
        let head = server.finish().remove(0);
        assert!(head.starts_with("GET /chat?x HTTP/1.1\r\n"), "{head}");
        assert!(head.contains(&format!("Host: localhost:{port}\r\n")), "{head}");
        assert!(head.contains("Authorization: Bearer x\r\n"), "{head}");
    }
}

#[test]
fn a_refusal_is_a_response_with_its_body() {
    for engine in engines() {
        for ending in [
            "content-length: 6\r\n\r\ndenied",
            "transfer-encoding: chunked\r\n\r\n6\r\ndenied\r\n0\r\n\r\n",
            "connection: close\r\n\r\ndenied",
        ] {
            let server = Server::new(1, move |_, stream| {
                request_on(&stream);
                write(
                    &stream,
                    format!("HTTP/1.1 401 Unauthorized\r\nwww-authenticate: Basic\r\n{ending}"),
                );
            });
            let uri = format!("ws://127.0.0.1:{}/", server.port);
            match block_on(engine.connect(handshake(uri))).expect("an answer") {
                Answer::Refused(response) => {
                    assert_eq!(response.status(), 401);
                    assert_eq!(response.headers()["www-authenticate"], "Basic");
                    assert_eq!(block_on(text(response)).expect("a body"), "denied");
                }
                Answer::Open(connection) => panic!("{connection:?}"),
            }
            server.finish();
        }
    }
}

#[test]
fn a_wrong_accept_is_a_protocol_error_and_frees_the_socket() {
    for engine in engines() {
        let server = Server::new(1, |_, stream| {
            let key = "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==";
            request_on(&stream);
            write(&stream, switch(key));
            is_ended(&stream)
        });
        let uri = format!("ws://127.0.0.1:{}/", server.port);
        let error = block_on(engine.connect(handshake(uri))).expect_err("a wrong key");
        assert_eq!((error.kind(), error.engine()), (ErrorKind::Protocol, Some(engine.name())));
        assert_eq!(error.response().expect("carried").status(), 101);
        assert_eq!(server.finish(), [true]);
    }
}

#[test]
fn a_server_that_hangs_up_is_an_io_error() {
    for engine in engines() {
        let server = Server::new(1, |_, stream| drop(request_on(&stream)));
        let uri = format!("ws://127.0.0.1:{}/", server.port);
        let error = block_on(engine.connect(handshake(uri))).expect_err("no answer");
        assert_eq!(error.kind(), ErrorKind::Io, "{error:?}");
        server.finish();
    }
}

#[test]
fn what_cannot_be_reached_says_why() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("bound").port();
    drop(listener);
    for engine in engines() {
        let refused = handshake(format!("ws://localhost:{port}/"));
        let error = block_on(engine.connect(refused)).expect_err("nobody listens");
        assert_eq!((error.kind(), error.engine()), (ErrorKind::Connect, Some(engine.name())));
    }
}

#[cfg(feature = "rustls")]
#[test]
fn the_connect_timeout_covers_tls() {
    // It never accepts: TCP opens, TLS is not answered.
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("bound").port();
    for engine in engines() {
        let mut slow = handshake(format!("wss://127.0.0.1:{port}/"));
        slow.extensions_mut().insert(drivetrain_engine::ConnectTimeout(Duration::from_millis(100)));
        let error = block_on(engine.connect(slow)).expect_err("TLS is not answered");
        assert_eq!((error.kind(), error.engine()), (ErrorKind::Timeout, Some(engine.name())));
    }
}

#[test]
fn a_connect_that_is_dropped_frees_the_socket() {
    for engine in engines() {
        let (tells, told) = futures_channel::oneshot::channel::<()>();
        let tells = Mutex::new(Some(tells));
        let server = Server::new(1, move |_, stream| {
            request_on(&stream);
            drop(tells.lock().expect("no panic").take());
            is_ended(&stream)
        });
        let uri = format!("ws://127.0.0.1:{}/", server.port);
        block_on(async {
            let connecting = engine.connect(handshake(uri));
            let first = futures_util::future::select(connecting, told).await;
            assert!(matches!(first, futures_util::future::Either::Right(_)));
        });
        assert_eq!(server.finish(), [true]);
    }
}

#[test]
fn tasks_run_and_time_passes() {
    for engine in engines() {
        let runtime = engine.runtime().expect("always there");
        let (sender, receiver) = std::sync::mpsc::channel();
        let mut timer = runtime.timer(runtime.now() + Duration::from_millis(50));
        let start = runtime.now();
        let clock = runtime.clone();
        runtime.spawn(Box::pin(async move {
            std::future::poll_fn(|cx| timer.poll(cx)).await;
            sender.send(clock.now().saturating_since(start)).expect("the test waits");
        }));
        let passed = receiver.recv_timeout(PATIENCE).expect("the task runs by itself");
        assert!(passed >= Duration::from_millis(45), "{passed:?}");
    }
}

#[test]
fn sending_reaches_the_wire_masked() {
    for engine in engines() {
        let server = Server::new(1, |_, mut stream| {
            let head = request_on(&stream);
            write(&stream, switch(&head));
            let mut frame = [0; 8];
            stream.read_exact(&mut frame).expect("a frame");
            stream.write_all(b"\x82\x00").expect("written");
            frame
        });
        block_on(async {
            let uri = format!("ws://127.0.0.1:{}/", server.port);
            let connection = opened(engine.connect(handshake(uri)).await);
            let mut transport = connection.into_transport();
            std::future::poll_fn(|cx| transport.poll_ready(cx)).await.expect("ready");
            transport.start_send(RawFrame::new(OpCode::Text, "hi")).expect("taken");
            std::future::poll_fn(|cx| transport.poll_flush(cx)).await.expect("written");
            assert!(receive(&mut *transport).await.expect("read").is_some());
        });
        let frame = server.finish().remove(0);
        assert_eq!(frame[..2], [0x81, 0x82]);
        assert_eq!([frame[6] ^ frame[2], frame[7] ^ frame[3]], *b"hi");
    }
}

#[allow(dead_code, reason = "it compiles: an engine is used from any task")]
fn futures_are_send(engine: &'static dyn Engine) -> impl Send {
    engine.connect(handshake("ws://localhost"))
}
