//! Servers on plain threads, and what the tests share.
#![cfg_attr(
    not(any(feature = "rustls", feature = "native-tls")),
    allow(dead_code, reason = "what is for TLS")
)]
#![allow(clippy::unwrap_used, reason = "a test that cannot set itself up fails there")]

use std::{
    io::{self, Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    time::Duration,
};

use ::http::Request;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use drivetrain_engine::Body;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, KeyUsagePurpose,
};
use rustls::{
    RootCertStore, ServerConfig, ServerConnection, StreamOwned,
    pki_types::{PrivateKeyDer, pem::PemObject},
    server::WebPkiClientVerifier,
};
use sha1::{Digest, Sha1};

pub(crate) type Result<T = (), E = Box<dyn std::error::Error>> = std::result::Result<T, E>;

pub(crate) fn get(url: &str) -> Request<Body> {
    Request::get(url).body(Body::empty()).expect("a valid request")
}

/// What a test server's thread works with: TCP or TLS.
pub(crate) trait Stream: Read + Write + Send {
    /// The protocol that TLS agreed on.
    fn alpn(&self) -> Option<Vec<u8>>;
    fn has_client_certificate(&self) -> bool;
}

impl Stream for TcpStream {
    fn alpn(&self) -> Option<Vec<u8>> {
        None
    }
    fn has_client_certificate(&self) -> bool {
        false
    }
}

impl Stream for StreamOwned<ServerConnection, TcpStream> {
    fn alpn(&self) -> Option<Vec<u8>> {
        self.conn.alpn_protocol().map(<[u8]>::to_vec)
    }
    fn has_client_certificate(&self) -> bool {
        self.conn.peer_certificates().is_some()
    }
}

/// A server that runs `serve` on each connection, one after the other.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    connections: Arc<AtomicUsize>,
}

impl Server {
    pub(crate) fn plain(
        serve: impl FnMut(&mut dyn Stream) -> io::Result<()> + Send + 'static,
    ) -> Self {
        Self::start(None, serve)
    }

    pub(crate) fn tls(
        config: ServerConfig,
        serve: impl FnMut(&mut dyn Stream) -> io::Result<()> + Send + 'static,
    ) -> Self {
        Self::start(Some(Arc::new(config)), serve)
    }

    fn start(
        tls: Option<Arc<ServerConfig>>,
        mut serve: impl FnMut(&mut dyn Stream) -> io::Result<()> + Send + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let connections = Arc::new(AtomicUsize::new(0));
        let counter = connections.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let socket = stream.try_clone().unwrap();
                counter.fetch_add(1, Ordering::SeqCst);
                stream.set_read_timeout(Some(PATIENCE)).unwrap();
                // A client that goes away early is what some tests are about.
                let _ = match &tls {
                    None => serve(&mut stream),
                    Some(config) => {
                        let connection = ServerConnection::new(config.clone()).unwrap();
                        let mut stream = StreamOwned::new(connection, stream);
                        while stream.conn.is_handshaking() {
                            if stream.conn.complete_io(&mut stream.sock).is_err() {
                                break;
                            }
                        }
                        let result = serve(&mut stream);
                        stream.conn.send_close_notify();
                        let _ = stream.conn.complete_io(&mut stream.sock);
                        result
                    }
                };
                let _ = socket.shutdown(Shutdown::Both);
            }
        });
        Self { address, connections }
    }

    pub(crate) fn url(&self, scheme: &str) -> String {
        format!("{scheme}://localhost:{}/path?q=1", self.address.port())
    }

    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

/// How long a test waits for what must come: a guard against hanging.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// The head of a request, up to and with the empty line.
pub(crate) fn read_head(stream: &mut dyn Stream) -> io::Result<String> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    Ok(String::from_utf8_lossy(&head).into_owned())
}

pub(crate) fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines().find_map(|line| {
        let (key, value) = line.split_once(':')?;
        key.eq_ignore_ascii_case(name).then(|| value.trim())
    })
}

/// The answer that accepts a handshake.
pub(crate) fn switching(head: &str) -> String {
    let key = header(head, "sec-websocket-key").unwrap_or_default();
    let digest = Sha1::digest(format!("{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11"));
    format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: keep-alive, Upgrade\r\n\
         Sec-WebSocket-Accept: {}\r\nX-Seen: yes\r\n\r\n",
        STANDARD.encode(digest)
    )
}

/// Reads until the client is gone; whether that happened within the read timeout.
pub(crate) fn is_closed(stream: &mut dyn Stream) -> bool {
    let mut buffer = [0; 1024];
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => return true,
            Ok(_) => {}
            Err(error) => {
                return !matches!(
                    error.kind(),
                    io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut
                );
            }
        }
    }
}

pub(crate) fn expect<T>(receiver: &mpsc::Receiver<T>) -> T {
    receiver.recv_timeout(PATIENCE).expect("the server sees it")
}

/// A certificate authority of the test's own.
pub(crate) struct Ca(CertifiedIssuer<'static, KeyPair>);

impl Ca {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        // A name of its own: OpenSSL takes a certificate for self-signed that has its issuer's name.
        params.distinguished_name.push(DnType::CommonName, "a test's authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    pub(crate) fn pem(&self) -> String {
        self.0.pem()
    }

    /// A certificate and its key in one PEM text.
    pub(crate) fn leaf_pem(&self, name: &str) -> String {
        let key = KeyPair::generate().unwrap();
        let leaf = CertificateParams::new([name.to_owned()]).unwrap().signed_by(&key, &self.0);
        leaf.unwrap().pem() + &key.serialize_pem()
    }

    /// A server for `localhost` that speaks these protocols.
    pub(crate) fn server(&self, asks_for_certificate: bool, alpn: &[&str]) -> ServerConfig {
        self.versions(rustls::ALL_VERSIONS, asks_for_certificate, alpn)
    }

    /// The same for TLS 1.2 alone.
    pub(crate) fn old_server(&self) -> ServerConfig {
        self.versions(&[&rustls::version::TLS12], false, &["http/1.1"])
    }

    fn versions(
        &self,
        versions: &[&'static rustls::SupportedProtocolVersion],
        asks_for_certificate: bool,
        alpn: &[&str],
    ) -> ServerConfig {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let key = KeyPair::generate().unwrap();
        let leaf = CertificateParams::new(["localhost".to_owned()]).unwrap();
        let leaf = leaf.signed_by(&key, &self.0).unwrap();
        let config = ServerConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(versions)
            .unwrap();
        let config = if asks_for_certificate {
            let mut roots = RootCertStore::empty();
            roots.add(self.0.der().clone()).unwrap();
            config.with_client_cert_verifier(
                WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
                    .build()
                    .unwrap(),
            )
        } else {
            config.with_no_client_auth()
        };
        let key = PrivateKeyDer::from_pem_slice(key.serialize_pem().as_bytes()).unwrap();
        let mut config = config.with_single_cert(vec![leaf.der().clone()], key).unwrap();
        config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        config
    }
}
