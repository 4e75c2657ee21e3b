//! The options of the engine values on async-std and smol.
#![cfg(all(feature = "async-std", feature = "smol", feature = "rustls"))]

use std::{fmt, time::Duration};

use drivetrain_engine::{Capability, Engine, ErrorKind, Handshake, Support};
use drivetrain_native::{NativeAsyncStd, NativeSmol};

/// A stream that has ended.
fn ended() -> futures_util::io::Cursor<Vec<u8>> {
    futures_util::io::Cursor::new(Vec::new())
}

/// Calls a macro with the type and the name of each engine.
macro_rules! on_each {
    ($test:ident) => {
        $test!(NativeAsyncStd, "native-async-std");
        $test!(NativeSmol, "native-smol");
    };
}

#[test]
fn what_is_set_is_shown_and_keys_are_not() {
    macro_rules! test {
        ($Engine:ident, $name:literal) => {
            let engine = $Engine::new()
                .ping_interval(Duration::from_secs(20))
                .read_buffer_size(9000)
                .client_certificate_pem("a secret, not even PEM");
            let settings = engine.settings();
            assert_eq!(settings.ping_interval, Some(Duration::from_secs(20)));
            let native: Vec<_> = settings
                .native
                .iter()
                .map(|row| (&*row.name, &*row.value, row.is_default))
                .collect();
            assert_eq!(
                native,
                [
                    ("read_buffer_size", "9000 bytes", false),
                    ("write_buffer_size", "32768 bytes", true),
                    ("client_certificate_pem", "set", false),
                ]
            );
            let shown = format!("{engine:?}");
            assert!(
                shown.starts_with(concat!(stringify!($Engine), " {")) && shown.contains("20s"),
                "{shown}"
            );
            assert!(!shown.contains("secret"), "{shown}");
            assert!(!format!("{:?}", $Engine::over(ended())).contains("certificate"));
        };
    }
    on_each!(test);
}

#[test]
fn what_can_never_work_is_refused_by_name() {
    macro_rules! test {
        ($Engine:ident, $name:literal) => {
            let new = $Engine::new;
            assert!($Engine::default().check().is_ok());
            assert!($Engine::over(ended()).check().is_ok());
            for (engine, option) in [
                (new().ping_interval(Duration::ZERO), "ping_interval"),
                (new().read_buffer_size(0), "read_buffer_size"),
                (new().write_buffer_size(0), "write_buffer_size"),
                (new().client_certificate_pem("none"), "client certificate"),
                (new().root_certificate_der([1]), "root certificate 1"),
                (new().only_these_roots(), "only_these_roots"),
                ($Engine::over(ended()).only_these_roots(), "only_these_roots"),
            ] {
                let error = engine.check().expect_err(option);
                assert_eq!((error.kind(), error.engine()), (ErrorKind::InvalidInput, Some($name)));
                assert!(error.to_string().contains(option), "{error}");
            }
        };
    }
    on_each!(test);
}

#[test]
fn names_and_support_are_those_of_the_table() {
    macro_rules! test { ($Engine:ident, $name:literal) => {
        let (engine, over) = ($Engine::new(), $Engine::over(ended()));
        assert_eq!((engine.name(), over.name()), ($name, $name));
        for &capability in Capability::ALL {
            let (with_sockets, with_a_stream) = match capability {
                Capability::Http2 | Capability::WebSocketOverHttp2 => (false, false),
                Capability::Tls | Capability::HandshakePhases => (true, true),
                Capability::Http1
                | Capability::ConnectionReuse
                | Capability::ClientCertificates
                | Capability::ConnectTimeout
                | Capability::Proxies
                | Capability::HttpsProxies
                | Capability::SocksProxies
                | Capability::UnixSockets
                | Capability::Resolver => (true, false),
                of_frames => {
                    let is_offered = Support::of_frames(of_frames).is_offered();
                    (is_offered, is_offered)
                }
            };
            assert_eq!(engine.support(capability).is_offered(), with_sockets, "{capability}");
            assert_eq!(over.support(capability).is_offered(), with_a_stream, "{capability}");
        }
        let http2 = engine.support(Capability::Http2);
        assert!(matches!(http2, Support::Missing(why) if why.contains("tokio")));
    } }
    on_each!(test);
    let without_a_pool = NativeSmol::new().pool_max_idle_per_host(0);
    assert!(!without_a_pool.support(Capability::ConnectionReuse).is_offered());
}

#[test]
fn a_stream_that_has_ended_is_an_io_error_and_is_used_up() {
    macro_rules! test {
        ($Engine:ident, $name:literal) => {
            let engine = $Engine::over(ended());
            let connect = |engine: $Engine| {
                let handshake = Handshake::new("ws://localhost/".parse().expect("a URI"));
                async_io::block_on(engine.connect(handshake.expect("a handshake")))
                    .expect_err("nobody there")
            };
            for kind in [ErrorKind::Io, ErrorKind::Connect] {
                let error = connect(engine.clone());
                assert_eq!((error.kind(), error.engine()), (kind, Some($name)), "{error:?}");
            }
        };
    }
    on_each!(test);
}

/// On any thread, and without an executor of their own.
#[test]
fn engines_are_plain_values() {
    fn is_plain<T: Clone + Default + fmt::Debug + Send + Sync + 'static>() {}
    is_plain::<NativeAsyncStd>();
    is_plain::<NativeSmol>();
}
