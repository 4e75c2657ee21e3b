//! The peer against raw sockets.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use super::server::STOP_TIMEOUT;
use super::*;

/// A guard against hanging.
const SOON: Duration = Duration::from_secs(60);
const MASK: Option<[u8; 4]> = Some([0x11, 0x22, 0x33, 0x44]);

/// A client that does nothing by itself.
struct Client<S> {
    stream: S,
    input: Vec<u8>,
}

fn connect(server: &Server) -> Client<TcpStream> {
    let stream = TcpStream::connect(server.addr()).expect("the server listens");
    stream.set_read_timeout(Some(SOON)).expect("not zero");
    Client { stream, input: Vec::new() }
}

fn open(server: &Server, path: &str) -> Client<TcpStream> {
    let mut client = connect(server);
    let head = client.handshake(path, "");
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    client
}

impl<S: Read + Write> Client<S> {
    fn handshake(&mut self, path: &str, headers: &str) -> String {
        self.write(
            format!(
                "GET {path} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n\
                 Connection: keep-alive, Upgrade\r\nSec-WebSocket-Version: 13\r\n\
                 Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{headers}\r\n"
            )
            .as_bytes(),
        );
        self.head()
    }

    fn write(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).expect("the peer reads");
        self.stream.flush().expect("the peer reads");
    }

    fn send(&mut self, frame: &WireFrame) {
        self.write(&frame.encode(MASK));
    }

    /// Whether there was more.
    fn fill(&mut self) -> bool {
        let mut bytes = [0; 16 * 1024];
        let read = self.stream.read(&mut bytes).expect("the peer answers");
        self.input.extend_from_slice(&bytes[..read]);
        read > 0
    }

    fn head(&mut self) -> String {
        loop {
            if let Some(at) = self.input.windows(4).position(|window| window == b"\r\n\r\n") {
                let head = self.input.drain(..at + 4).collect();
                let head = String::from_utf8(head).expect("heads are ASCII");
                assert!(head.starts_with("HTTP/1.1 "), "{head}");
                return head;
            }
            assert!(self.fill(), "the stream ended in a head");
        }
    }

    /// Head and body of a response with a length.
    fn response(&mut self) -> (String, String) {
        let head = self.head();
        let length = head.split("content-length: ").nth(1).and_then(|rest| rest.lines().next());
        let length: usize = length.expect("a length").parse().expect("a number");
        while self.input.len() < length {
            assert!(self.fill(), "the stream ended in a body");
        }
        (head, String::from_utf8_lossy(&self.input.drain(..length).collect::<Vec<_>>()).into())
    }

    fn receive(&mut self) -> Option<WireFrame> {
        loop {
            if let Some((frame, used)) = WireFrame::decode(&self.input).expect("legal frames") {
                self.input.drain(..used);
                return Some(frame);
            }
            if !self.fill() {
                assert!(self.input.is_empty(), "the stream ended in a frame");
                return None;
            }
        }
    }
}

#[test]
fn the_handshake_is_answered_as_in_rfc_6455() {
    let server = EchoServer::start();
    let head = connect(&server).handshake("/echo", "");
    assert!(head.starts_with("HTTP/1.1 101 Switching Protocols\r\n"), "{head}");
    assert!(head.contains("\r\nsec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"), "{head}");
    assert_eq!((server.connections(), server.requests()), (1, 1));
}

#[test]
fn a_malformed_handshake_is_refused_with_the_reason() {
    let server = EchoServer::start();
    let mut client = connect(&server);
    client.write(
        b"GET /echo HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
          Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: short\r\n\r\n",
    );
    let (head, body) = client.response();
    assert!(head.starts_with("HTTP/1.1 400 "), "{head}");
    assert!(body.contains("16 bytes"), "{body}");
}

#[test]
fn messages_of_every_length_form_come_back() {
    let server = EchoServer::start();
    let mut client = open(&server, "/echo");
    for len in [0, 1, 7, 8, 9, 125, 126, 127, 65_535, 65_536, 300_000] {
        let payload: Vec<u8> = (0..len).map(|i| (i * 7) as u8).collect();
        client.send(&WireFrame::binary(payload.clone()));
        assert_eq!(client.receive(), Some(WireFrame::binary(payload)));
        client.send(&WireFrame::text("é".repeat(len / 2)));
        assert_eq!(client.receive(), Some(WireFrame::text("é".repeat(len / 2))));
    }
    assert_eq!(server.messages(), 22);
    client.send(&WireFrame::close(1000, "bye"));
    assert_eq!(client.receive(), Some(WireFrame::close(1000, "")));
    assert_eq!(client.receive(), None);
    drop(client);
    assert!(server.wait_until_idle(SOON));
    assert_eq!(server.open(), 0);
}

#[test]
fn fragments_come_back_whole_and_a_ping_between_them_is_answered() {
    let server = EchoServer::start();
    let mut client = open(&server, "/echo");
    client.send(&WireFrame { fin: false, ..WireFrame::text([0xC3]) });
    client.send(&WireFrame::ping("between"));
    client.send(&WireFrame::continuation([0xA9], true));
    assert_eq!(client.receive(), Some(WireFrame::pong("between")));
    assert_eq!(client.receive(), Some(WireFrame::text("é")));
    assert_eq!((server.messages(), server.bytes()), (1, 2));
}

#[test]
fn violations_are_answered_with_their_code() {
    let masked = |frame: WireFrame| frame.encode(MASK);
    let long = frame_header(true, 0, opcode::BINARY, true, LengthEncoding::Sixteen, 5);
    let partial = masked(WireFrame { fin: false, ..WireFrame::text("a") });
    let cases = [
        (1002, WireFrame::text("unmasked").encode(None)),
        (1002, masked(WireFrame { rsv: 4, ..WireFrame::text("a") })),
        (1002, masked(WireFrame::new(3, "a"))),
        (1002, masked(WireFrame::new(0xB, "a"))),
        (1002, masked(WireFrame::continuation("a", true))),
        (1002, masked(WireFrame::ping([0; 126]))),
        (1002, masked(WireFrame { fin: false, ..WireFrame::ping("a") })),
        (1002, masked(WireFrame::close(1005, ""))),
        (1002, masked(WireFrame::new(opcode::CLOSE, [3]))),
        (1002, [partial, masked(WireFrame::text("b"))].concat()),
        (1002, [long, vec![0; 9]].concat()),
        (1007, masked(WireFrame::text([0xFF]))),
        (1007, masked(WireFrame::new(opcode::CLOSE, [3, 232, 0xFF]))),
    ];
    let server = EchoServer::start();
    for (code, bytes) in cases {
        let mut client = open(&server, "/echo");
        client.write(&bytes);
        let frame = client.receive().expect("a Close");
        assert_eq!(frame.opcode, opcode::CLOSE, "{bytes:x?}");
        assert_eq!(frame.payload[..2], u16::to_be_bytes(code), "{bytes:x?}");
        assert_eq!(client.receive(), None);
    }
}

#[test]
fn http_connections_are_kept_alive() {
    let server = EchoServer::start();
    let mut client = connect(&server);
    client
        .write(b"GET /get HTTP/1.1\r\nHost: a\r\n\r\nHEAD /status/418 HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(client.response().1, "get");
    assert!(client.head().contains("content-length: 10\r\n"));
    client.write(
        b"POST /anything/x?q=1 HTTP/1.1\r\nHost: a\r\nX-A: 1\r\nx-a: 2\r\n\
          Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;e=1\r\nde\r\n0\r\nTrailer: 1\r\n\r\n",
    );
    let body = client.response().1;
    let json: serde_json::Value = serde_json::from_str(&body).expect("JSON");
    assert_eq!(json["body"], "abcde");
    assert_eq!(json["headers"]["x-a"], serde_json::json!(["1", "2"]));
    assert_eq!((&json["path"], &json["query"]["q"]), (&"/anything/x".into(), &"1".into()));
    client.write(
        b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Type: a/b\r\nContent-Length: 4\r\n\
          Expect: 100-continue\r\n\r\n",
    );
    assert_eq!(client.head(), "HTTP/1.1 100 Continue\r\n\r\n");
    client.write(b"body");
    let (head, body) = client.response();
    assert!(head.contains("content-type: a/b\r\n"), "{head}");
    assert_eq!(body, "body");
    client.write(
        b"GET /stream?chunks=2&size=2&ms=1 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
    );
    assert!(client.head().contains("connection: close\r\n"));
    while client.fill() {}
    assert_eq!(client.input, b"2\r\nxx\r\n2\r\nxx\r\n0\r\n\r\n");
    assert_eq!((server.connections(), server.requests()), (1, 5));
}

#[test]
fn a_handshake_can_be_refused_and_redirected() {
    let server = EchoServer::start();
    let mut client = connect(&server);
    let head = client.handshake("/refuse?status=401&size=5", "");
    assert!(head.starts_with("HTTP/1.1 401 Unauthorized\r\n"), "{head}");
    assert!(
        head.contains("x-test: refused\r\n") && head.contains("content-length: 5\r\n"),
        "{head}"
    );
    client.input.clear();
    let head = connect(&server).handshake("/redirect?to=/echo&status=307", "");
    assert!(head.starts_with("HTTP/1.1 307 ") && head.contains("location: /echo\r\n"), "{head}");
    let head = connect(&server).handshake("/nowhere", "");
    assert!(head.starts_with("HTTP/1.1 404 "), "{head}");
    let offer = "Sec-WebSocket-Protocol: a, b\r\nSec-WebSocket-Protocol: c\r\n";
    let head = connect(&server).handshake("/subprotocol", offer);
    assert!(head.contains("sec-websocket-protocol: a\r\n"), "{head}");
    let head = connect(&server).handshake("/subprotocol?select=z", offer);
    assert!(head.contains("sec-websocket-protocol: z\r\n"), "{head}");
}

#[test]
fn every_endpoint_does_as_its_row_says() {
    let server = EchoServer::start();
    let mut client = open(&server, "/source?count=3&size=2&kind=text");
    for _ in 0..3 {
        assert_eq!(client.receive(), Some(WireFrame::text("xx")));
    }
    client.send(&WireFrame::close(None, ""));
    assert_eq!(client.receive(), Some(WireFrame::close(None, "")));

    let mut client = open(&server, "/sink");
    client.send(&WireFrame::binary("four"));
    client.send(&WireFrame { fin: false, ..WireFrame::binary("a") });
    client.send(&WireFrame::continuation("b", true));
    client.send(&WireFrame::text("count?"));
    assert_eq!(client.receive(), Some(WireFrame::text(r#"{"bytes":6,"messages":2}"#)));

    let mut client = open(&server, "/close?code=4001&reason=so%20long");
    client.send(&WireFrame::text("go"));
    assert_eq!(client.receive(), Some(WireFrame::close(4001, "so long")));
    client.send(&WireFrame::close(4001, ""));
    assert_eq!(client.receive(), None);

    // A machine may be too slow to answer in time, and once it is not.
    let is_counted = [400, 4000, 30_000].iter().any(|ms| {
        let mut client = open(&server, &format!("/pinger?count=3&ms={ms}"));
        let pings: Vec<_> = (0..3).map(|_| client.receive().expect("a Ping")).collect();
        client.send(&WireFrame::pong(pings[2].payload.clone()));
        client.send(&WireFrame::pong(pings[0].payload.clone()));
        client.send(&WireFrame::pong("ping 7"));
        client.receive() == Some(WireFrame::text("2"))
    });
    assert!(is_counted, "two of three were answered");

    let mut client = open(&server, "/headers");
    let json = client.receive().expect("a message").payload;
    let json: serde_json::Value = serde_json::from_slice(&json).expect("JSON");
    assert_eq!(json["headers"]["upgrade"][0], "websocket");

    let mut client = open(&server, "/drop");
    client.send(&WireFrame::text("go"));
    assert_eq!(client.receive(), None);

    let mut client = open(&server, "/reset");
    client.send(&WireFrame::text("go"));
    let error = client.stream.read(&mut [0]).expect_err("a reset");
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);

    let mut client = open(&server, "/silent");
    client.send(&WireFrame::ping("?"));
    client.send(&WireFrame::close(1000, ""));
    client.stream.set_read_timeout(Some(Duration::from_millis(50))).expect("not zero");
    client.stream.read(&mut [0]).expect_err("silence");
}

#[test]
fn mute_pushes_back_until_it_is_released() {
    let server = EchoServer::start();
    let mut client = open(&server, "/mute");
    client.stream.set_write_timeout(Some(Duration::from_millis(100))).expect("not zero");
    let frame = WireFrame::binary(vec![0; 1 << 20]).encode(MASK);
    let blocked = (0..64).any(|_| client.stream.write_all(&frame).is_err());
    assert!(blocked, "64 MiB were taken");
    drop(client);
    assert!(!server.wait_until_idle(Duration::from_millis(50)));
    server.release();
    assert!(server.wait_until_idle(SOON));
}

#[test]
fn a_handler_sees_frames_as_they_are_and_writes_what_it_likes() {
    let (sender, receiver) = mpsc::channel();
    let server = Server::start(move |conn| {
        let request = conn.read_request()?.expect("a request");
        conn.accept_with_tail(&request, &[("x-a", "1")], &WireFrame::text("tail").encode(None))?;
        sender.send(conn.receive()?).expect("the test waits");
        sender.send(conn.receive()?).expect("the test waits");
        conn.feed(&WireFrame { rsv: 7, ..WireFrame::text("a") });
        conn.write_all(&frame_header(false, 0, 15, true, LengthEncoding::SixtyFour, 1))?;
        conn.shutdown_write()?;
        sender.send(conn.receive()?).expect("the test waits");
        Ok(())
    });
    let mut client = connect(&server);
    assert!(client.handshake("/", "").contains("x-a: 1\r\n"));
    assert_eq!(client.receive(), Some(WireFrame::text("tail")));
    let next = || receiver.recv_timeout(SOON).expect("the handler sends");
    let odd = WireFrame { fin: false, rsv: 5, ..WireFrame::new(0xF, "odd") };
    client.send(&odd);
    assert_eq!(next(), Some(WireFrame { masked: true, ..odd }));
    client.write(&WireFrame::text("plain").encode(None));
    assert_eq!(next(), Some(WireFrame::text("plain")));
    while client.fill() {}
    assert_eq!(client.input, [0xF1, 1, b'a', 0x0F, 0xFF, 0, 0, 0, 0, 0, 0, 0, 1]);
    client.stream.shutdown(Shutdown::Write).expect("open");
    assert_eq!(next(), None);
}

#[test]
fn a_read_that_times_out_loses_nothing() {
    let server = Server::start(|conn| {
        conn.accept_web_socket()?;
        conn.set_read_timeout(Some(Duration::from_millis(20)))?;
        assert!(conn.receive_message().is_err(), "the second half has not been sent");
        conn.set_read_timeout(None)?;
        conn.send_text("more")?;
        assert_eq!(conn.receive_message()?, Some(Message::Text("in two".into())));
        conn.send_text("done")
    });
    let mut client = open(&server, "/");
    client.send(&WireFrame { fin: false, ..WireFrame::text("in ") });
    let rest = WireFrame::continuation("two", true).encode(MASK);
    client.write(&rest[..7]);
    assert_eq!(client.receive(), Some(WireFrame::text("more")));
    client.write(&rest[7..]);
    assert_eq!(client.receive(), Some(WireFrame::text("done")));
}

#[test]
fn dropping_the_server_ends_its_connections() {
    let server = EchoServer::start();
    let mut clients: Vec<_> =
        ["/echo", "/mute", "/silent"].iter().map(|path| open(&server, path)).collect();
    let idle = connect(&server);
    let before = Instant::now();
    drop(server);
    assert!(before.elapsed() < STOP_TIMEOUT / 2, "a handler was not woken");
    for client in &mut clients {
        assert_eq!(client.receive(), None);
    }
    drop(idle);
}

#[test]
fn a_response_survives_input_that_nobody_read() {
    let server = Server::start(|conn| {
        conn.read_some(&mut [0])?;
        conn.respond(413, &[], "too much")
    });
    let mut client = connect(&server);
    client.write(&vec![0; 16 << 20]);
    assert_eq!(client.response().1, "too much");
    assert!(!client.fill(), "ended with FIN");
}

#[test]
fn a_panic_in_a_handler_ends_its_connection() {
    let server = Server::start(|_| panic!("on purpose"));
    assert!(!connect(&server).fill());
    assert!(server.wait_until_idle(SOON));
}

fn tls(
    server: &Server,
    ca: &TestCa,
    identity: Option<&TestCa>,
) -> std::io::Result<Client<impl Read + Write>> {
    let mut roots = RootCertStore::empty();
    let ca = CertificateDer::from_pem_slice(ca.ca_pem().as_bytes()).expect("a certificate");
    roots.add(ca).expect("a certificate");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("ring has them")
        .with_root_certificates(roots);
    let mut config = match identity {
        Some(identity) => {
            let pem = identity.client_pem();
            let chain = CertificateDer::pem_slice_iter(pem.as_bytes())
                .collect::<Result<_, _>>()
                .expect("a certificate");
            let key = PrivateKeyDer::from_pem_slice(pem.as_bytes()).expect("a key");
            builder.with_client_auth_cert(chain, key).expect("they fit")
        }
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let name = "localhost".try_into().expect("a name");
    let mut connection =
        ClientConnection::new(Arc::new(config), name).expect("a valid configuration");
    let mut socket = TcpStream::connect(server.addr())?;
    socket.set_read_timeout(Some(SOON))?;
    while connection.is_handshaking() {
        connection.complete_io(&mut socket)?;
    }
    Ok(Client { stream: StreamOwned::new(connection, socket), input: Vec::new() })
}

#[test]
fn tls_echoes_and_shows_what_the_client_offered() {
    let ca = TestCa::new();
    let server = EchoServer::start_tls(&ca);
    assert!(server.ws_url("/echo").starts_with("wss://localhost:"));
    let mut client = tls(&server, &ca, None).expect("trusted");
    client.write(b"GET /anything HTTP/1.1\r\nHost: localhost\r\n\r\n");
    let json: serde_json::Value = serde_json::from_str(&client.response().1).expect("JSON");
    assert_eq!(
        json["tls"],
        serde_json::json!({
            "server_name": "localhost", "offered_alpn": ["h2", "http/1.1"], "alpn": "http/1.1",
            "client_certificate": false,
        })
    );
    assert!(client.handshake("/echo", "").starts_with("HTTP/1.1 101 "));
    for len in [5, 100_000] {
        client.send(&WireFrame::binary(vec![7; len]));
        assert_eq!(client.receive(), Some(WireFrame::binary(vec![7; len])));
    }
    client.send(&WireFrame::close(1000, ""));
    assert_eq!(client.receive(), Some(WireFrame::close(1000, "")));
    assert_eq!(client.receive(), None, "ended with close_notify");
}

#[test]
fn authorities_do_not_trust_each_other() {
    let (ca, other) = (TestCa::new(), TestCa::new());
    let server = EchoServer::start_tls(&ca);
    assert!(tls(&server, &other, None).is_err());
    assert!(server.wait_until_idle(SOON));
    assert_eq!((server.connections(), server.requests()), (1, 0));
}

#[test]
fn a_mutual_server_requires_a_certificate_of_its_authority() {
    let (ca, other) = (TestCa::new(), TestCa::new());
    let server = EchoServer::start_mutual_tls(&ca);
    for identity in [None, Some(&other)] {
        // With TLS 1.3 the client's handshake is over before the server has judged it.
        let refused = tls(&server, &ca, identity)
            .and_then(|mut client| client.stream.read(&mut [0; 1]).map(drop));
        assert!(refused.is_err());
    }
    let mut client = tls(&server, &ca, Some(&ca)).expect("trusted");
    client.write(b"GET /anything HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert!(client.response().1.contains(r#""client_certificate":true"#));
    assert_eq!(server.requests(), 1);
}
