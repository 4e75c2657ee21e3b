//! What the mock says it can do is true, row by row; what a test has taken away is refused by name.

use std::time::Duration;

use drivetrain::{
    Capability, ErrorKind, Frame, HandshakePhases, HttpClient, HttpTimeout, OpCode, Proxy,
    RawFrame, Requirement, Result, Rsv, Support, WebSockets,
    engine::Engine as _,
    extension::PermessageDeflate,
    http::Method,
    testing::{MockEngine, Reply, Script},
};

use super::{SECOND, URL, while_time_passes};

/// Uses a capability. An error is how it is refused.
async fn uses(capability: Capability, mock: MockEngine) -> Result<()> {
    mock.on(Method::GET, "/").optional().respond("x");
    mock.web_socket("/").optional().subprotocol("v1").open();
    mock.web_socket("/chat").optional().open();
    let build = |plugin: WebSockets| HttpClient::builder(mock.clone()).install(plugin).build();
    let plain = HttpClient::new(mock.clone());
    match capability {
        Capability::Http1 => drop(plain.get("http://example.com/").send().await?),
        Capability::Tls => drop(plain.get("https://example.com/").send().await?),
        Capability::WebSockets => drop(plain.web_socket(URL).connect().await?),
        Capability::HandshakeHeaders => {
            plain.web_socket(URL).header("x-a", "b").connect().await?;
            assert_eq!(mock.requests()[0].header("x-a"), Some("b"));
        }
        Capability::HandshakeResponse => {
            let session = plain.web_socket(URL).connect().await?;
            assert_eq!(session.response().is_some(), mock.support(capability).is_offered());
        }
        Capability::Subprotocols => {
            let session = plain.web_socket("ws://example.com/").subprotocol("v1").connect().await?;
            assert_eq!(session.subprotocol(), Some("v1"));
        }
        Capability::MaxFrameSize | Capability::MaxMessageSize => {
            let plugin = match capability {
                Capability::MaxFrameSize => WebSockets::new().max_frame_size(10),
                _ => WebSockets::new().max_message_size(10),
            };
            let mut session = build(plugin)?.web_socket(URL).connect().await?;
            mock.accept().await?.send(vec![0; 11]);
            assert_eq!(session.receive().await.unwrap_err().kind(), ErrorKind::TooBig);
        }
        Capability::PluginPing | Capability::EnginePing => {
            let client = match capability {
                Capability::PluginPing => build(WebSockets::new().ping_interval(SECOND))?,
                _ => {
                    let mock = mock.clone().ping_interval(SECOND);
                    HttpClient::builder(mock).install(WebSockets::new()).build()?
                }
            };
            let _session = client.web_socket(URL).connect().await?;
            let mut peer = mock.accept().await?;
            mock.clock().advance(SECOND).await;
            assert_eq!(peer.receive_frame().await.unwrap().opcode, OpCode::Ping);
        }
        Capability::SendPing => {
            let session = plain.web_socket(URL).connect().await?;
            let _peer = mock.accept().await?;
            assert_eq!(session.ping().await?, Duration::ZERO);
        }
        Capability::SendFragments => {
            let session = plain.web_socket(URL).connect().await?;
            session.send(vec![0; 100_000]).await?;
            assert!(!mock.accept().await?.receive_frame().await.unwrap().fin);
        }
        Capability::BatchedWrites => {
            let session = plain.web_socket(URL).connect().await?;
            for _ in 0..100 {
                session.feed("x").await?;
            }
            session.flush().await?;
            assert_eq!(mock.accept().await?.writes(), 1);
        }
        Capability::RawSessions => {
            let mut raw = plain.web_socket(URL).connect_raw().await?;
            mock.accept().await?.send(Frame::Ping("x".into()));
            assert_eq!(raw.receive().await?.unwrap().opcode, OpCode::Ping);
        }
        Capability::RsvBits => {
            mock.web_socket("/x").optional().extension("x-foo").open();
            let request = plain.web_socket("ws://example.com/x").offer_extension("x-foo");
            let mut raw = request.connect_raw().await?;
            let mut peer = mock.accept().await?;
            let frame = RawFrame { rsv: Rsv::RSV1, ..RawFrame::new(OpCode::Text, "x") };
            peer.send_frame(frame.clone());
            assert_eq!(raw.receive().await?, Some(frame.clone()));
            raw.send(frame.clone()).await?;
            assert_eq!(peer.receive_frame().await, Some(frame));
        }
        Capability::Extensions => {
            mock.web_socket("/y").optional().extension("permessage-deflate").open();
            let deflate = PermessageDeflate::new().min_size(0);
            let request = plain.web_socket("ws://example.com/y").extension(deflate);
            let session = request.connect().await?;
            session.send("x").await?;
            let frame = mock.accept().await?.receive_frame().await.unwrap();
            assert_eq!(frame.rsv, Rsv::RSV1);
        }
        Capability::ConnectTimeout => {
            let timeout = HttpTimeout::new().connect(SECOND);
            let client = HttpClient::builder(mock.clone()).install(timeout).build()?;
            mock.on(Method::GET, "/far").optional().respond(Reply::unreachable());
            let sent = client.get("http://example.com/far").send();
            let (sent, elapsed) = while_time_passes(&mock, SECOND, sent).await;
            assert_eq!((sent.unwrap_err().kind(), elapsed), (ErrorKind::Timeout, SECOND));
        }
        Capability::Proxies | Capability::HttpsProxies | Capability::SocksProxies => {
            let scheme = match capability {
                Capability::Proxies => "http",
                Capability::HttpsProxies => "https",
                _ => "socks5",
            };
            let proxy: Proxy = format!("{scheme}://127.0.0.1:1").parse()?;
            HttpClient::builder(mock.clone()).proxy(proxy).build()?;
        }
        Capability::UnixSockets => {
            HttpClient::builder(mock.clone()).unix_socket("/run/mock.sock").build()?;
        }
        // No method asks for these.
        Capability::ClientCertificates | Capability::CallerStream | Capability::Resolver => {
            let Support::Missing(reason) = mock.support(capability) else { return Ok(()) };
            return Err(drivetrain::Error::new(ErrorKind::Unsupported, reason));
        }
        Capability::HandshakePhases => {
            let session = plain.web_socket(URL).connect().await?;
            let response = session.response().unwrap();
            assert!(response.extensions().get::<HandshakePhases>().is_none());
        }
        // Nothing in memory shows a connection.
        Capability::ConnectionReuse => assert!(!mock.support(capability).is_offered()),
        Capability::Http2 | Capability::WebSocketOverHttp2 => {
            let response = plain.get("https://example.com/").send().await?;
            let is_http2 = response.version() == drivetrain::http::Version::HTTP_2;
            assert_eq!(is_http2, mock.support(capability).is_offered());
        }
        other => assert!(!mock.support(other).is_offered(), "{other} has no row in this test"),
    }
    Ok(())
}

#[test]
fn every_answer_is_true() {
    for &capability in Capability::ALL {
        let mock = MockEngine::new();
        let used = mock.clock().block_on(uses(capability, mock.clone()));
        match (mock.support(capability), capability.requirement()) {
            (Support::Offered, _) => used.unwrap_or_else(|error| panic!("{capability}: {error}")),
            (Support::Missing(reason), Requirement::Option) => {
                assert!(reason.len() > 15, "{capability}: {reason}");
                if let Err(error) = used {
                    assert_eq!(error.kind(), ErrorKind::Unsupported, "{capability}: {error}");
                }
            }
            (Support::Missing(_), Requirement::Behaviour) => used.unwrap(),
        }
    }
}

#[test]
fn what_a_test_takes_away_is_refused_by_name() {
    for &capability in Capability::ALL {
        let mock = MockEngine::new().missing(capability, "the product's engine has none");
        assert_eq!(
            mock.support(capability),
            Support::Missing("the product's engine has none".into())
        );
        let offered = MockEngine::new().support(capability).is_offered();
        let used = mock.clock().block_on(uses(capability, mock.clone()));
        match capability {
            Capability::SendFragments | Capability::BatchedWrites => {
                let error = used.unwrap_err();
                assert_eq!(error.kind(), ErrorKind::InvalidInput, "{capability}: {error}");
                assert!(error.to_string().contains(capability.name()), "{error}");
            }
            _ if capability.requirement() == Requirement::Behaviour => used.unwrap(),
            _ if offered => {
                let error = used.expect_err(capability.name());
                assert_eq!(error.kind(), ErrorKind::Unsupported, "{capability}: {error}");
                assert_eq!(error.capability(), Some(capability), "{error}");
                assert!(error.to_string().contains("the product's engine has none"), "{error}");
                let expected = usize::from(capability == Capability::SendPing);
                assert_eq!(mock.requests().len(), expected, "{capability}: nothing was sent");
            }
            _ => {}
        }
    }
}

#[test]
fn reserved_bits_that_are_missing_are_refused_in_a_raw_session() {
    let mock = MockEngine::new().missing(Capability::RsvBits, "no extensions here");
    mock.web_socket("/chat").script(Script::new());
    let client = HttpClient::new(mock.clone());
    mock.clock().block_on(async {
        let mut raw = client.web_socket(URL).connect_raw().await.unwrap();
        let frame = RawFrame { rsv: Rsv::RSV1, ..RawFrame::new(OpCode::Text, "x") };
        let error = raw.send(frame).await.unwrap_err();
        assert_eq!(error.capability(), Some(Capability::RsvBits));
    });
}

#[test]
fn a_ping_interval_of_zero_is_refused() {
    let mock = MockEngine::new().ping_interval(Duration::ZERO);
    assert_eq!(HttpClient::builder(mock).build().unwrap_err().kind(), ErrorKind::InvalidInput);
}
