//! TLS, on both runtimes and with each library of the build.

use std::{io, net::TcpStream, sync::Arc};

use drivetrain_async_std::AsyncStd;
#[cfg(feature = "smol")]
use drivetrain_async_std::Smol;
use drivetrain_engine::{Answer, Connection, Engine, ErrorKind, Handshake};
use rustls::{
    RootCertStore, ServerConfig, ServerConnection, StreamOwned,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer},
    server::WebPkiClientVerifier,
};

use crate::server::*;

type Issuer = rcgen::CertifiedIssuer<'static, rcgen::KeyPair>;

/// An authority, and a certificate and key it issued.
struct Pki {
    ca: Issuer,
    server: Arc<ServerConfig>,
    client: String,
}

fn pki(wants_client: bool) -> Pki {
    let mut params = rcgen::CertificateParams::new(Vec::new()).expect("params");
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    // OpenSSL takes a certificate for its own issuer if both have one name.
    params.distinguished_name.push(rcgen::DnType::CommonName, "an authority");
    let ca =
        rcgen::CertifiedIssuer::self_signed(params, rcgen::KeyPair::generate().expect("a key"))
            .expect("signed");
    let (certificate, key) = issue(&ca, &["localhost", "127.0.0.1"]);
    let builder = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions");
    let builder = if wants_client {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from(ca.der().to_vec())).expect("a root");
        let provider = Arc::new(ring::default_provider());
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
        builder.with_client_cert_verifier(verifier.build().expect("a verifier"))
    } else {
        builder.with_no_client_auth()
    };
    let mut server = builder
        .with_single_cert(
            vec![certificate.der().clone()],
            PrivateKeyDer::try_from(key.serialize_der()).expect("a key"),
        )
        .expect("a server");
    server.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let (certificate, key) = issue(&ca, &["client"]);
    let client = key.serialize_pem() + &certificate.pem();
    Pki { ca, server: Arc::new(server), client }
}

fn issue(ca: &Issuer, names: &[&str]) -> (rcgen::Certificate, rcgen::KeyPair) {
    let key = rcgen::KeyPair::generate().expect("a key");
    let names = names.iter().map(ToString::to_string).collect::<Vec<_>>();
    let params = rcgen::CertificateParams::new(names).expect("params");
    (params.signed_by(&key, ca).expect("signed"), key)
}

fn secure(
    config: &Arc<ServerConfig>,
    stream: TcpStream,
) -> StreamOwned<ServerConnection, TcpStream> {
    let connection = ServerConnection::new(config.clone()).expect("a connection");
    StreamOwned::new(connection, stream)
}

fn handshake(uri: String) -> Handshake {
    Handshake::new(uri.parse().expect("a URI")).expect("a handshake")
}

async fn open(engine: &dyn Engine, uri: String) -> Connection {
    match engine.connect(handshake(uri)).await.expect("an answer") {
        Answer::Open(connection) => connection,
        Answer::Refused(response) => panic!("refused: {response:?}"),
    }
}

/// An engine, and whether its TLS is the system's.
type Secure = (Box<dyn Engine>, bool);

fn trusting(pki: &Pki) -> Vec<Secure> {
    let pem = pki.ca.pem();
    vec![
        #[cfg(feature = "rustls")]
        (Box::new(AsyncStd::new().root_certificate_pem(&pem).only_these_roots()), false),
        #[cfg(all(feature = "smol", feature = "rustls"))]
        (Box::new(Smol::new().root_certificate_der(pki.ca.der()).only_these_roots()), false),
        #[cfg(feature = "native-tls")]
        (
            Box::new(AsyncStd::new().root_certificate_pem(&pem).only_these_roots().native_tls()),
            true,
        ),
        #[cfg(all(feature = "smol", feature = "native-tls"))]
        (Box::new(Smol::new().root_certificate_pem(&pem).only_these_roots().native_tls()), true),
    ]
}

fn presenting(pki: &Pki) -> Vec<Box<dyn Engine>> {
    let (ca, client) = (pki.ca.pem(), &pki.client);
    let async_std = AsyncStd::new().root_certificate_pem(&ca).only_these_roots();
    let async_std = async_std.client_certificate_pem(client);
    #[cfg(feature = "smol")]
    let smol = Smol::new().root_certificate_pem(&ca).only_these_roots();
    #[cfg(feature = "smol")]
    let smol = smol.client_certificate_pem(client);
    vec![
        Box::new(async_std.clone()),
        #[cfg(feature = "smol")]
        Box::new(smol.clone()),
        #[cfg(feature = "native-tls")]
        Box::new(async_std.native_tls()),
        #[cfg(all(feature = "smol", feature = "native-tls"))]
        Box::new(smol.native_tls()),
    ]
}

#[test]
fn a_private_authority_is_trusted_by_name_and_by_address() {
    let pki = pki(false);
    for (engine, is_native) in trusting(&pki) {
        for host in ["localhost", "127.0.0.1"] {
            let config = pki.server.clone();
            let server = Server::new(1, move |_, stream| {
                let mut stream = secure(&config, stream);
                let switch = switch(&request_on(&mut stream));
                write(&mut stream, [switch.as_bytes(), b"\x81\x05hello"].concat());
                assert_eq!(stream.conn.alpn_protocol(), Some(&b"http/1.1"[..]));
                // The system's library sends its close_notify, and leaves the socket open.
                let ended = is_ended(&mut stream) && (is_native || is_ended(&stream.sock));
                write(&mut stream, b"\x81\x03bye");
                stream.conn.send_close_notify();
                write(&mut stream, b"");
                ended
            });
            block_on(async {
                let uri = format!("wss://{host}:{}/", server.port);
                let mut transport = open(&*engine, uri).await.into_transport();
                assert_eq!(
                    receive(&mut *transport).await.expect("read").expect("a frame").payload,
                    "hello"
                );
                close(&mut *transport).await.expect("closed");
                assert_eq!(
                    receive(&mut *transport).await.expect("read").expect("a frame").payload,
                    "bye"
                );
                assert!(receive(&mut *transport).await.expect("a clean end").is_none());
            });
            assert_eq!(server.finish(), [true], "close_notify, then the end of TCP");
        }
    }
    assert!(rustls::crypto::CryptoProvider::get_default().is_none(), "the process is not touched");
}

#[test]
fn an_end_without_close_notify_is_an_io_error() {
    let pki = pki(false);
    // The system's library takes such an end for a clean one.
    for (engine, _) in trusting(&pki).into_iter().filter(|(_, is_native)| !is_native) {
        let config = pki.server.clone();
        let server = Server::new(1, move |_, stream| {
            let mut stream = secure(&config, stream);
            let switch = switch(&request_on(&mut stream));
            write(&mut stream, switch);
        });
        block_on(async {
            let uri = format!("wss://localhost:{}/", server.port);
            let mut transport = open(&*engine, uri).await.into_transport();
            let error = receive(&mut *transport).await.expect_err("it may be cut off");
            assert_eq!(error.kind(), ErrorKind::Io, "{error:?}");
        });
        server.finish();
    }
}

#[test]
fn https_streams_and_its_connection_is_kept() {
    let pki = pki(false);
    for (engine, _) in trusting(&pki) {
        let config = pki.server.clone();
        let server = Server::new(1, move |_, stream| {
            let mut stream = secure(&config, stream);
            for _ in 0..2 {
                request_on(&mut stream);
                write(&mut stream, "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
            }
        });
        for _ in 0..2 {
            let uri = format!("https://localhost:{}/", server.port);
            let response = block_on(engine.execute(request("GET", uri, ()))).expect("answered");
            assert_eq!(block_on(text(response)).expect("a body"), "ok");
        }
        server.finish();
    }
}

#[test]
fn a_certificate_that_is_not_trusted_is_a_tls_error() {
    let (ours, stranger) = (pki(false), pki(false));
    for (engine, _) in trusting(&stranger) {
        let config = ours.server.clone();
        let server = Server::new(2, move |_, mut stream| {
            ServerConnection::new(config.clone())
                .expect("a connection")
                .complete_io(&mut stream)
                .map_err(|error: io::Error| error.kind())
        });
        let uri = format!("https://localhost:{}/", server.port);
        let errors = [
            block_on(engine.execute(request("GET", &uri, ()))).expect_err("not trusted"),
            block_on(engine.connect(handshake(uri))).expect_err("not trusted"),
        ];
        for error in errors {
            assert_eq!((error.kind(), error.engine()), (ErrorKind::Tls, Some(engine.name())));
            assert!(error.to_string().contains("certificate"), "{error}");
        }
        assert!(server.finish().iter().all(Result::is_err));
    }
}

#[test]
fn a_plain_server_is_a_tls_error() {
    for (engine, _) in trusting(&pki(false)) {
        let server = Server::new(1, |_, stream| write(&stream, "HTTP/1.1 400 Bad Request\r\n\r\n"));
        let uri = format!("wss://localhost:{}/", server.port);
        let error = block_on(engine.connect(handshake(uri))).expect_err("no TLS");
        assert_eq!(error.kind(), ErrorKind::Tls, "{error:?}");
        server.finish();
    }
}

#[test]
fn a_client_certificate_is_presented() {
    let pki = pki(true);
    for engine in presenting(&pki) {
        assert!(!format!("{engine:?}").contains("KEY"), "{engine:?}");
        let config = pki.server.clone();
        let server = Server::new(1, move |_, stream| {
            let mut stream = secure(&config, stream);
            let switch = switch(&request_on(&mut stream));
            write(&mut stream, switch);
            stream.conn.peer_certificates().map(<[_]>::len)
        });
        block_on(open(&*engine, format!("wss://localhost:{}/", server.port)));
        // OpenSSL sends the authority's certificate too, as it knows it.
        assert!(matches!(server.finish()[..], [Some(1..)]));
    }

    for (engine, is_native) in trusting(&pki) {
        let config = pki.server.clone();
        let server = Server::new(1, move |_, mut stream| {
            let mut connection = ServerConnection::new(config.clone()).expect("a connection");
            while connection.is_handshaking() && connection.complete_io(&mut stream).is_ok() {}
            // The client sees the alert, not a reset.
            is_ended(&stream);
        });
        let uri = format!("wss://localhost:{}/", server.port);
        let error = block_on(engine.connect(handshake(uri))).expect_err("none presented");
        // An alert behind the handshake, as in TLS 1.3, is an error of OpenSSL's that native-tls does not tell as its own.
        let kind = if is_native { ErrorKind::Io } else { ErrorKind::Tls };
        assert_eq!(error.kind(), kind, "{error:?}");
        server.finish();
    }
}

#[cfg(feature = "rustls")]
#[test]
fn a_configuration_of_rustls_is_used_but_for_its_alpn() {
    let pki = pki(false);
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from(pki.ca.der().to_vec())).expect("a root");
    let mut config =
        rustls::ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(roots)
            .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let engine = AsyncStd::new().rustls_config(Arc::new(config));
    let config = pki.server.clone();
    let server = Server::new(1, move |_, stream| {
        let mut stream = secure(&config, stream);
        let switch = switch(&request_on(&mut stream));
        write(&mut stream, switch);
        stream.conn.alpn_protocol().map(<[u8]>::to_vec)
    });
    block_on(open(&engine, format!("wss://localhost:{}/", server.port)));
    assert_eq!(server.finish(), [Some(b"http/1.1".to_vec())]);

    let error = engine.only_these_roots().check().expect_err("both");
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert!(error.to_string().contains("only_these_roots"), "{error}");
}
