//! TLS: whom the engine trusts, who it is, and what it offers.

use std::{process::Command, sync::mpsc};

use crate::server::{Ca, Result, Server, Stream, expect, header, read_head, switching};
use ::http::Request;
use drivetrain_engine::{
    Body, Connector as _, Engine, ErrorKind, Handshake, TlsVersion, UpgradeResult,
};
use drivetrain_reqwest::{Reqwest, ReqwestConnector};
use http_body_util::BodyExt;

fn get(url: &str) -> Request<Body> {
    Request::get(url).body(Body::empty()).expect("a valid request")
}

/// What a server saw of a connection.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    alpn: Option<String>,
    has_client_certificate: bool,
    upgrade: bool,
}

/// Answers every request over TLS: 200, or 101 to a handshake.
fn server(ca: &Ca, asks_for_certificate: bool, alpn: &[&str]) -> (Server, mpsc::Receiver<Seen>) {
    let (seen, sees) = mpsc::channel();
    let server =
        Server::tls(ca.server(asks_for_certificate, alpn), move |stream: &mut dyn Stream| {
            let head = read_head(stream)?;
            let upgrade = header(&head, "upgrade").is_some();
            seen.send(Seen {
                alpn: stream.alpn().map(|name| String::from_utf8_lossy(&name).into_owned()),
                has_client_certificate: stream.has_client_certificate(),
                upgrade,
            })
            .ok();
            if upgrade {
                stream.write_all(switching(&head).as_bytes())?;
                stream.write_all(b"\x81\x02hi")?;
            } else {
                stream.write_all(
                    b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok",
                )?;
            }
            stream.flush()
        });
    (server, sees)
}

/// Each TLS of this build, trusting this authority alone.
fn engines(ca: &Ca) -> Vec<Reqwest> {
    let engine = Reqwest::new().root_certificate_pem(ca.pem()).only_these_roots();
    #[cfg(all(feature = "rustls", feature = "native-tls"))]
    return vec![engine.clone(), engine.native_tls()];
    #[cfg(not(all(feature = "rustls", feature = "native-tls")))]
    vec![engine]
}

#[tokio::test]
async fn a_private_authority_is_trusted_when_its_root_is_given() -> Result {
    let ca = Ca::new();
    let (server, sees) = server(&ca, false, &["http/1.1"]);
    for engine in engines(&ca) {
        engine.check()?;
        let response = engine.execute(get(&server.url("https"))).await?;
        assert_eq!(response.into_body().collect().await?.to_bytes(), "ok");
        assert!(!expect(&sees).has_client_certificate);
        let connector = ReqwestConnector::new("outer", engine);
        let opened = connector.upgrade(&Handshake::new(server.url("wss").parse()?)?).await?;
        let UpgradeResult::Upgraded { mut stream, read_ahead, .. } = opened else {
            return Err("refused".into());
        };
        let mut frame = read_ahead.to_vec();
        while frame.len() < 4 {
            let mut chunk = [0; 4];
            let read = futures_util::AsyncReadExt::read(&mut stream, &mut chunk).await?;
            frame.extend_from_slice(&chunk[..read]);
        }
        assert_eq!(frame, b"\x81\x02hi");
        expect(&sees);
    }
    Ok(())
}

/// HTTP/2 is offered, as it has the `:authority`. Where the server has HTTP/1.1 alone it is the `Host`. The certificate is
/// the URL's.
#[tokio::test]
async fn a_host_of_the_callers_is_what_the_server_is_told() -> Result {
    let ca = Ca::new();
    for engine in engines(&ca) {
        let (seen, sees) = mpsc::channel();
        let server = Server::tls(ca.server(false, &["http/1.1"]), move |stream| {
            seen.send(read_head(stream)?).ok();
            stream.write_all(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
        });
        for host in ["other.example", "other.example:443", "user@other.example"] {
            let mut request = get(&server.url("https"));
            request.headers_mut().insert("host", host.parse()?);
            assert_eq!(engine.execute(request).await?.status(), 200);
            let head = expect(&sees);
            assert_eq!(header(&head, "host"), Some(host));
            assert_eq!(head.to_ascii_lowercase().matches("\r\nhost:").count(), 1, "{head}");
        }
    }
    for (host, expected) in [
        ("other.example", "h2"),
        ("other.example:8443", "h2"),
        // hyper would leave out the port.
        ("other.example:443", "http/1.1"),
        ("user@other.example", "http/1.1"),
    ] {
        let (seen, sees) = mpsc::channel();
        let server = Server::tls(ca.server(false, &["h2", "http/1.1"]), move |stream| {
            seen.send(stream.alpn()).ok();
            Ok(())
        });
        for engine in engines(&ca) {
            let mut request = get(&server.url("https"));
            request.headers_mut().insert("host", host.parse()?);
            engine.execute(request).await.map(drop).ok();
            assert_eq!(expect(&sees).as_deref(), Some(expected.as_bytes()), "{host}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn another_authority_is_a_tls_error() -> Result {
    let (ca, other) = (Ca::new(), Ca::new());
    let (server, _sees) = server(&ca, false, &[]);
    for engine in engines(&other) {
        let error = engine.execute(get(&server.url("https"))).await.expect_err("not trusted");
        assert_eq!((error.kind(), error.engine()), (ErrorKind::Tls, Some("reqwest")), "{error:?}");
        let connector = ReqwestConnector::new("outer", engine);
        let error = connector.upgrade(&Handshake::new(server.url("wss").parse()?)?).await;
        let error = error.expect_err("not trusted");
        assert_eq!((error.kind(), error.engine()), (ErrorKind::Tls, Some("outer")), "{error:?}");
    }
    Ok(())
}

#[tokio::test]
async fn the_client_certificate_is_presented_when_set() -> Result {
    let ca = Ca::new();
    let (server, sees) = server(&ca, true, &[]);
    for engine in engines(&ca) {
        let error = engine.execute(get(&server.url("https"))).await.expect_err("none is set");
        // TLS 1.3 refuses after the handshake. rustls tells that from a broken connection; what the
        // system's library says then has no type that could be asked.
        let is_native =
            cfg!(not(feature = "rustls")) || format!("{engine:?}").contains("native_tls");
        assert!(
            error.kind() == ErrorKind::Tls || is_native && error.kind() == ErrorKind::Io,
            "{error:?}"
        );

        let engine = engine.client_certificate_pem(ca.leaf_pem("caller"));
        engine.check()?;
        engine.execute(get(&server.url("https"))).await?;
        assert!(expect(&sees).has_client_certificate);
        ReqwestConnector::new("outer", engine)
            .upgrade(&Handshake::new(server.url("wss").parse()?)?)
            .await?;
        assert!(expect(&sees).has_client_certificate);
    }
    Ok(())
}

#[tokio::test]
async fn requests_offer_h2_and_handshakes_only_http_1() -> Result {
    let ca = Ca::new();
    for engine in engines(&ca) {
        // A server that prefers h2 gets it offered by requests, and cannot have it in handshakes.
        let (alpn, offered) = mpsc::channel();
        let server = Server::tls(ca.server(false, &["h2", "http/1.1"]), move |stream| {
            let name = stream.alpn().map(|name| String::from_utf8_lossy(&name).into_owned());
            alpn.send(name.unwrap_or_default()).ok();
            Ok(())
        });
        let url = server.url("https");
        engine.execute(get(&url)).await.map(drop).ok();
        assert_eq!(expect(&offered), "h2");
        engine.clone().http1_only().execute(get(&url)).await.map(drop).ok();
        assert_eq!(expect(&offered), "http/1.1");
        let connector = ReqwestConnector::new("outer", engine);
        connector.upgrade(&Handshake::new(url.parse()?)?).await.map(drop).ok();
        assert_eq!(expect(&offered), "http/1.1");
    }
    Ok(())
}

#[test]
fn what_cannot_be_used_is_found_by_check_and_never_printed() {
    let ca = Ca::new();
    for engine in engines(&ca) {
        for (engine, expected) in [
            (engine.clone().root_certificate_pem("nonsense"), "root certificate 2"),
            (engine.clone().client_certificate_pem(ca.pem()), "client certificate"),
        ] {
            let error = engine.check().expect_err("refused");
            assert_eq!(error.kind(), ErrorKind::InvalidInput);
            assert!(error.to_string().contains(expected), "{error}");
            assert!(!format!("{engine:?}").contains("BEGIN"), "{engine:?}");
        }
    }
    let error = Reqwest::new().only_these_roots().check().expect_err("nobody is trusted");
    assert!(error.to_string().contains("root_certificate_pem"), "{error}");
}

#[cfg(feature = "rustls")]
#[tokio::test]
async fn a_rustls_configuration_is_used_with_our_alpn() -> Result {
    use std::sync::Arc;
    let ca = Ca::new();
    let (server, sees) = server(&ca, false, &["http/1.1"]);
    let mut roots = rustls::RootCertStore::empty();
    for der in rustls::pki_types::pem::PemObject::pem_slice_iter(ca.pem().as_bytes()) {
        roots.add(der.map_err(|error| format!("{error:?}"))?)?;
    }
    let config = rustls::ClientConfig::builder_with_provider(Arc::new(
        rustls::crypto::ring::default_provider(),
    ))
    .with_safe_default_protocol_versions()?
    .with_root_certificates(roots)
    .with_no_client_auth();
    let engine = Reqwest::new().rustls_config(Arc::new(config));
    engine.execute(get(&server.url("https"))).await?;
    assert_eq!(expect(&sees).alpn.as_deref(), Some("http/1.1"));
    assert!(engine.only_these_roots().check().is_err());
    Ok(())
}

#[test]
fn a_machine_without_a_ca_store_can_still_use_http() -> Result {
    let output = Command::new(std::env::current_exe()?)
        .args(["--exact", "--ignored", "tls::child_without_store"])
        .env("SSL_CERT_FILE", "/nonexistent/ca.pem")
        .env("SSL_CERT_DIR", "/nonexistent")
        .output()?;
    let printed = String::from_utf8_lossy(&output.stdout);
    assert!(printed.contains("1 passed"), "{printed}");
    Ok(())
}

#[tokio::test]
#[ignore = "run by a_machine_without_a_ca_store_can_still_use_http"]
async fn child_without_store() -> Result {
    let server = Server::plain(|stream| {
        let head = read_head(stream)?;
        if header(&head, "upgrade").is_some() {
            return stream.write_all(switching(&head).as_bytes());
        }
        stream.write_all(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
    });
    let engine = Reqwest::new();
    engine.check()?;
    assert_eq!(engine.execute(get(&server.url("http"))).await?.status(), 200);
    let connector = ReqwestConnector::new("outer", engine.clone());
    let opened = connector.upgrade(&Handshake::new(server.url("ws").parse()?)?).await?;
    assert!(matches!(opened, UpgradeResult::Upgraded { .. }));
    // Others find out when they see the server's certificate.
    #[cfg(feature = "rustls")]
    {
        let error = engine.execute(get(&server.url("https"))).await.expect_err("no roots");
        assert_eq!((error.kind(), error.engine()), (ErrorKind::Tls, Some("reqwest")), "{error:?}");
        assert!(error.to_string().contains("root_certificate_pem"), "{error}");
    }
    Ok(())
}

/// Each TLS of this build, with this set on it.
fn each(with: impl Fn(Reqwest) -> Reqwest) -> Vec<Reqwest> {
    let engine = with(Reqwest::new());
    #[cfg(all(feature = "rustls", feature = "native-tls"))]
    return vec![engine.clone(), engine.native_tls()];
    #[cfg(not(all(feature = "rustls", feature = "native-tls")))]
    vec![engine]
}

#[tokio::test]
async fn any_certificate_is_accepted_if_told_so_and_for_any_name() -> Result {
    let ca = Ca::new();
    let (server, _sees) = server(&ca, false, &["http/1.1"]);
    let addr = server.address;
    for engine in
        each(|engine| engine.danger_accept_any_certificate().resolve("another.test", [addr]))
    {
        engine.check()?;
        let url = server.url("https").replace("localhost", "another.test");
        engine.execute(get(&url)).await?;
        assert!(format!("{:?}", engine.settings()).contains("NO VERIFICATION"));
        let both = engine.root_certificate_pem(ca.pem()).check().expect_err("roots beside it");
        assert_eq!(both.kind(), ErrorKind::InvalidInput);
    }
    Ok(())
}

#[tokio::test]
async fn the_minimum_version_is_kept() -> Result {
    let ca = Ca::new();
    let (new, _sees) = server(&ca, false, &["http/1.1"]);
    for version in [TlsVersion::V1_2, TlsVersion::V1_3] {
        for engine in each(|engine| {
            engine.root_certificate_pem(ca.pem()).only_these_roots().min_tls_version(version)
        }) {
            engine.check()?;
            engine.execute(get(&new.url("https"))).await?;
        }
    }
    let old = Server::tls(ca.old_server(), |stream: &mut dyn Stream| {
        read_head(stream)?;
        stream.write_all(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
    });
    for (version, works) in [(TlsVersion::V1_2, true), (TlsVersion::V1_3, false)] {
        for engine in each(|engine| {
            engine.root_certificate_pem(ca.pem()).only_these_roots().min_tls_version(version)
        }) {
            let answer = engine.execute(get(&old.url("https"))).await;
            assert_eq!(answer.is_ok(), works, "{version}: {answer:?}");
            assert!(answer.err().is_none_or(|error| error.kind() == ErrorKind::Tls));
        }
    }
    Ok(())
}
