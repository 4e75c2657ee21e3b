//! The engine's own options, and what it says about itself.

mod peer;

use std::{
    future::poll_fn,
    io::Write as _,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use drivetrain_engine::{
    Body, Capability, Connection, Duties, Engine as _, ErrorKind, OpCode, RawFrame, Result,
    Support, Transport,
};
use drivetrain_fastwebsockets::{FastWebSockets, Reqwest};
use peer::{encode, handshake, open, peer, read_frame, run};

async fn receive(transport: &mut dyn Transport) -> Result<Option<RawFrame>> {
    let received = poll_fn(|cx| transport.poll_receive(cx, 16 << 20));
    tokio::time::timeout(Duration::from_secs(60), received).await.expect("in time")
}

async fn send(transport: &mut dyn Transport, frame: RawFrame) -> Result<()> {
    poll_fn(|cx| transport.poll_ready(cx)).await?;
    transport.start_send(frame)?;
    poll_fn(|cx| transport.poll_flush(cx)).await
}

#[test]
fn frames_go_both_ways_and_those_behind_the_101_are_not_lost() {
    let (address, server) =
        peer(encode(0x81, b"early"), |mut socket| read_frame(&mut socket).expect("a frame"));
    run(async {
        let connection: Connection = open(&FastWebSockets::new(), address).await.expect("opens");
        assert_eq!(connection.duties(), Duties::frames().validating_utf8());
        assert_eq!(connection.response().expect("shown").status(), 101);
        let mut transport = connection.into_transport();
        let early = receive(&mut *transport).await.expect("sound").expect("a frame");
        assert_eq!(early, RawFrame::new(OpCode::Text, "early"));
        let frame = RawFrame::new(OpCode::Binary, vec![7; 300]).not_final();
        send(&mut *transport, frame).await.expect("open");
    });
    assert_eq!(server.join().expect("no panic"), (0x02, vec![7; 300]));
}

#[test]
fn max_frame_size_is_kept_and_reported() {
    let engine = FastWebSockets::new().max_frame_size(1000);
    assert_eq!(engine.settings().max_frame_size, Some(1000));
    assert_eq!(engine.settings().max_message_size, None);
    assert_eq!(FastWebSockets::new().settings().max_frame_size, None);
    for (length, fits) in [(1000, true), (1001, false)] {
        let (address, _) = peer(encode(0x82, &vec![1; length]), |_| ());
        run(async {
            let mut transport = open(&engine, address).await.expect("opens").into_transport();
            let received = receive(&mut *transport).await;
            assert_eq!(received.is_ok(), fits);
            if let Err(error) = received {
                assert_eq!(error.kind(), ErrorKind::TooBig);
            }
        });
    }
    let refused = FastWebSockets::new().max_frame_size(0).check().expect_err("never works");
    assert_eq!(refused.kind(), ErrorKind::InvalidInput);
}

#[test]
fn a_hook_sets_the_limit_as_the_library_means_it() {
    let calls = Arc::new(AtomicUsize::new(0));
    let counted = calls.clone();
    let engine = FastWebSockets::new().preconfigured(move |socket| {
        counted.fetch_add(1, Ordering::Relaxed);
        socket.set_max_message_size(1000);
    });
    assert_eq!(calls.load(Ordering::Relaxed), 0, "not before there is a connection");
    for (length, fits) in [(999, true), (1000, false)] {
        let (address, _) = peer(encode(0x82, &vec![1; length]), |_| ());
        run(async {
            let mut transport = open(&engine, address).await.expect("opens").into_transport();
            let received = receive(&mut *transport).await;
            assert_eq!(received.is_ok(), fits);
            if let Err(error) = received {
                assert_eq!(error.kind(), ErrorKind::TooBig);
            }
        });
    }
    assert_eq!(calls.load(Ordering::Relaxed), 2);
    let settings = engine.settings();
    assert_eq!(settings.native[0].name, "preconfigured");
    assert!(format!("{engine:?}").contains("preconfigured: a hook"));
}

#[test]
fn a_hook_cannot_make_the_library_answer() {
    let (address, server) = peer(vec![], |mut socket| {
        socket.write_all(&encode(0x89, b"ping")).expect("open");
        socket.write_all(&encode(0x88, &[3, 232])).expect("open");
        read_frame(&mut socket)
    });
    let engine = FastWebSockets::new().preconfigured(|socket| {
        socket.set_auto_pong(true);
        socket.set_auto_close(true);
        socket.set_auto_apply_mask(false);
    });
    run(async {
        let mut transport = open(&engine, address).await.expect("opens").into_transport();
        for expected in [OpCode::Ping, OpCode::Close] {
            let frame = receive(&mut *transport).await.expect("sound").expect("a frame");
            assert_eq!(frame.opcode, expected);
        }
        send(&mut *transport, RawFrame::new(OpCode::Text, "first")).await.expect("open");
    });
    assert_eq!(server.join().expect("no panic"), Some((0x81, b"first".to_vec())));
}

#[test]
fn the_ping_interval_is_reported_and_zero_is_refused() {
    let interval = Duration::from_secs(7);
    let engine = FastWebSockets::new().ping_interval(interval);
    assert_eq!(engine.settings().ping_interval, Some(interval));
    assert!(engine.check().is_ok());
    let refused = engine.ping_interval(Duration::ZERO).check().expect_err("never works");
    assert_eq!(refused.kind(), ErrorKind::InvalidInput);
    assert_eq!(refused.engine(), Some("fastwebsockets"));
}

#[test]
fn a_stream_of_the_callers_opens_one_web_socket_and_no_http() {
    let (address, server) = peer(encode(0x81, b"hi"), |mut socket| read_frame(&mut socket));
    run(async {
        let stream = tokio::net::TcpStream::connect(address).await.expect("listening");
        let engine = FastWebSockets::over(stream);
        let missing = |capability| matches!(engine.support(capability), Support::Missing(_));
        assert!(missing(Capability::Http1) && missing(Capability::ConnectTimeout));
        assert!(missing(Capability::ConnectionReuse));
        let error = engine.execute(http::Request::new(Body::empty())).await.expect_err("no HTTP");
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert_eq!(error.capability(), Some(Capability::Http1));

        let mut transport = open(&engine, address).await.expect("opens").into_transport();
        let frame = receive(&mut *transport).await.expect("sound").expect("a frame");
        assert_eq!(frame.payload, "hi");
        let again = engine.clone().connect(handshake(address)).await.expect_err("used");
        assert_eq!(again.kind(), ErrorKind::Connect);
        assert_eq!(again.engine(), Some("fastwebsockets"));
        poll_fn(|cx| transport.poll_close(cx)).await.expect("open");
    });
    assert_eq!(server.join().expect("no panic"), None, "the end is seen");
    let (stream, _) = tokio::io::duplex(1);
    let dead = FastWebSockets::over(stream).http(Reqwest::new().http1_only());
    assert_eq!(dead.check().expect_err("no effect").kind(), ErrorKind::InvalidInput);
}

#[test]
fn reserved_bits_are_missing_and_every_capability_is_answered() {
    let engine = FastWebSockets::new();
    for capability in Capability::ALL {
        let offered = engine.support(*capability).is_offered();
        let depends_on_the_build = matches!(
            capability,
            Capability::Tls | Capability::ClientCertificates | Capability::Http2
        );
        // The last one is switched on, the others are not available.
        let is_missing = matches!(
            capability,
            Capability::RsvBits | Capability::Extensions | Capability::WebSocketOverHttp2
        );
        assert!(offered || depends_on_the_build || is_missing, "{capability}");
    }
    let Support::Missing(why) = engine.support(Capability::RsvBits) else {
        panic!("fastwebsockets has none");
    };
    assert!(why.contains("use Tungstenite"));
}

#[test]
fn http_goes_through_reqwest_and_errors_name_this_engine() {
    let engine = FastWebSockets::new().http(Reqwest::new().http1_only());
    assert!(!engine.support(Capability::Http2).is_offered());
    assert!(engine.settings().native.iter().any(|setting| setting.name == "http1_only"));
    run(async {
        let mut request = http::Request::new(Body::empty());
        *request.uri_mut() = http::Uri::from_static("http://127.0.0.1:1/");
        let error = engine.execute(request).await.expect_err("nobody listens");
        assert_eq!(error.kind(), ErrorKind::Connect);
        assert_eq!(error.engine(), Some("fastwebsockets"));
    });
}
