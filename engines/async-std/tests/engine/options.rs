//! The options of the engine value, and streams the caller brings.

use std::{net::TcpStream, time::Duration};

use async_io::Async;
#[cfg(feature = "smol")]
use drivetrain_async_std::Smol;
use drivetrain_async_std::{AsyncStd, WebSocketConfig};
use drivetrain_engine::{
    Answer, Capability, ConnectTimeout, Engine, ErrorKind, Handshake, Proxy, Support,
};

use crate::server::*;

/// Whether the build has a library for TLS.
const TLS: bool = cfg!(any(feature = "rustls", feature = "native-tls"));

fn handshake(uri: &str) -> Handshake {
    Handshake::new(uri.parse().expect("a URI")).expect("a handshake")
}

#[test]
fn what_is_set_is_shown() {
    let engine = AsyncStd::new()
        .ping_interval(Duration::from_secs(20))
        .preconfigured(WebSocketConfig::default().max_frame_size(Some(1000)).read_buffer_size(9000))
        .write_buffer_size(5000);
    let settings = engine.settings();
    assert_eq!(settings.ping_interval, Some(Duration::from_secs(20)));
    assert_eq!((settings.max_frame_size, settings.max_message_size), (Some(1000), None));
    let native: Vec<_> =
        settings.native.iter().map(|setting| (&*setting.name, &*setting.value)).collect();
    assert_eq!(native, [("read_buffer_size", "9000 bytes"), ("write_buffer_size", "5000 bytes"),]);
    let shown = format!("{engine:?}");
    assert!(
        shown.starts_with("AsyncStd { ping_interval: 20s, max_frame_size: 1000, read_buffer_size"),
        "{shown}"
    );
    #[cfg(feature = "smol")]
    assert!(format!("{:?}", Smol::new()).starts_with("Smol {"));
}

#[test]
fn the_limits_for_heads_can_be_set() {
    for (engine, option) in [
        (AsyncStd::new(), Some("max_headers")),
        (AsyncStd::new().max_headers(301), None),
        (AsyncStd::new().max_headers(301).max_header_size(1000), Some("max_header_size")),
        (AsyncStd::new().max_headers(301).max_header_size(1 << 20), None),
    ] {
        for is_handshake in [false, true] {
            let server = Server::new(1, |_, stream| {
                request_on(&stream);
                let fields = "x-field: value\r\n".repeat(300);
                let head = format!("HTTP/1.1 403 No\r\n{fields}content-length: 0\r\n\r\n");
                write(&stream, head);
            });
            let failed = block_on(async {
                match is_handshake {
                    true => engine
                        .connect(handshake(&format!("ws://127.0.0.1:{}/", server.port)))
                        .await
                        .err(),
                    false => engine
                        .execute(request("GET", format!("http://127.0.0.1:{}/", server.port), ""))
                        .await
                        .err(),
                }
            });
            assert_eq!(failed.is_some(), option.is_some(), "{failed:?}");
            if let Some((error, option)) = failed.zip(option) {
                assert_eq!(error.kind(), ErrorKind::TooBig, "{error:?}");
                assert!(error.to_string().contains(option), "{error}");
            }
            server.finish();
        }
    }
}

#[test]
fn what_can_never_work_is_refused_by_name() {
    let config = WebSocketConfig::default;
    for (engine, option) in [
        (AsyncStd::new().ping_interval(Duration::ZERO), "ping_interval"),
        (AsyncStd::new().read_buffer_size(0), "read_buffer_size"),
        (AsyncStd::new().max_headers(0), "max_headers"),
        (AsyncStd::new().max_header_size(0), "max_header_size"),
        (AsyncStd::new().preconfigured(config().accept_unmasked_frames(true)), "accept_unmasked"),
        #[cfg(feature = "rustls")]
        (AsyncStd::new().client_certificate_pem("none"), "client certificate"),
        #[cfg(feature = "rustls")]
        (AsyncStd::new().root_certificate_der([1]), "root certificate 1"),
        #[cfg(feature = "rustls")]
        (AsyncStd::new().only_these_roots(), "only_these_roots"),
        #[cfg(feature = "rustls")]
        (AsyncStd::over(futures_util::io::Cursor::new(vec![])).only_these_roots(), "only_these"),
    ] {
        let error = engine.check().expect_err(option);
        assert_eq!((error.kind(), error.engine()), (ErrorKind::InvalidInput, Some("async-std")));
        assert!(error.to_string().contains(option), "{error}");
    }
    assert!(AsyncStd::default().check().is_ok());
}

#[test]
fn names_and_support_are_those_of_the_table() {
    for (engine, name) in engines().into_iter().zip(["async-std", "smol"]) {
        assert_eq!(engine.name(), name);
        for &capability in Capability::ALL {
            let is_tls = matches!(
                capability,
                Capability::Tls | Capability::ClientCertificates | Capability::HttpsProxies
            );
            let is_http2 = matches!(capability, Capability::Http2 | Capability::WebSocketOverHttp2);
            let expected = if is_tls { TLS } else { !is_http2 };
            assert_eq!(engine.support(capability).is_offered(), expected, "{capability}");
        }
        assert!(matches!(
            engine.support(Capability::Http2),
            Support::Missing(why) if why.contains("tokio")
        ));
    }
}

#[cfg(feature = "rustls")]
#[test]
fn keys_are_not_shown() {
    let engine = AsyncStd::new().client_certificate_pem("a secret, not even PEM");
    let native = engine.settings().native.pop().expect("shown");
    assert_eq!((&*native.name, &*native.value), ("client_certificate_pem", "set"));
    assert!(!format!("{engine:?}").contains("secret"));
}

#[cfg(not(any(feature = "rustls", feature = "native-tls")))]
#[test]
fn without_tls_it_is_refused_with_nothing_dialled() {
    let server = Server::<()>::new(0, |_, _| ());
    for engine in engines() {
        let uri = format!("https://127.0.0.1:{}/", server.port);
        let errors = [
            block_on(engine.execute(request("GET", &uri, ()))).expect_err("no TLS"),
            block_on(engine.connect(handshake(&uri))).expect_err("no TLS"),
        ];
        for error in errors {
            assert_eq!(
                (error.kind(), error.capability(), error.engine()),
                (ErrorKind::Unsupported, Some(Capability::Tls), Some(engine.name()))
            );
        }
    }
    assert_eq!(server.accepted(), 0);
}

type Over = fn(Async<TcpStream>) -> Box<dyn Engine>;

const RUNTIMES: usize = if cfg!(feature = "smol") { 2 } else { 1 };

#[test]
fn a_stream_of_the_callers_carries_one_web_socket() {
    let over: [Over; RUNTIMES] = [
        |stream| Box::new(AsyncStd::over(stream)),
        #[cfg(feature = "smol")]
        |stream| Box::new(Smol::over(stream)),
    ];
    for over in over {
        let server = Server::new(1, |_, stream| {
            let head = request_on(&stream);
            write(&stream, switch(&head));
            write(&stream, b"\x81\x02hi");
            assert!(is_ended(&stream));
            head
        });
        let address = ([127, 0, 0, 1], server.port);
        let engine = over(block_on(Async::<TcpStream>::connect(address)).expect("connected"));
        assert!(!engine.support(Capability::Http1).is_offered());
        assert!(!engine.support(Capability::ConnectionReuse).is_offered());
        assert!(engine.support(Capability::CallerStream).is_offered());

        let plain = block_on(engine.execute(request("GET", "http://localhost/", ())));
        let plain = plain.expect_err("WebSockets only");
        assert_eq!(
            (plain.kind(), plain.capability()),
            (ErrorKind::Unsupported, Some(Capability::Http1))
        );
        let mut limited = handshake("ws://localhost/");
        limited.extensions_mut().insert(ConnectTimeout(Duration::from_secs(1)));
        let limited = block_on(engine.connect(limited)).expect_err("nothing to dial");
        assert_eq!(
            (limited.kind(), limited.capability()),
            (ErrorKind::Unsupported, Some(Capability::ConnectTimeout))
        );

        for proxy in ["http://127.0.0.1:1", "socks5://127.0.0.1:1"] {
            let proxy = Proxy::parse(proxy).expect("a proxy");
            let capability = proxy.capability();
            let mut proxied = handshake("ws://localhost/");
            proxied.extensions_mut().insert(proxy);
            let proxied = block_on(engine.connect(proxied)).expect_err("nothing to dial");
            assert_eq!(proxied.capability(), Some(capability));
            assert!(!engine.support(capability).is_offered());
        }

        let Ok(Answer::Open(connection)) = block_on(engine.connect(handshake("wss://elsewhere/a")))
        else {
            panic!("opened")
        };
        let mut transport = connection.into_transport();
        let frame = block_on(receive(&mut *transport)).expect("read").expect("a frame");
        assert_eq!(frame.payload, "hi");
        drop(transport);
        let again = block_on(engine.connect(handshake("ws://localhost/"))).expect_err("once");
        assert_eq!((again.kind(), again.engine()), (ErrorKind::Connect, Some(engine.name())));
        assert!(again.to_string().contains("used already"), "{again}");
        let head = server.finish().remove(0);
        assert!(head.starts_with("GET /a HTTP/1.1\r\n") && head.contains("Host: elsewhere\r\n"));
    }
}

/// Both engines, on any thread and without an executor of their own.
#[test]
fn engines_are_plain_values() {
    fn is_plain<T: Clone + Default + Send + Sync + 'static>() {}
    is_plain::<AsyncStd>();
    #[cfg(feature = "smol")]
    is_plain::<Smol>();
}
