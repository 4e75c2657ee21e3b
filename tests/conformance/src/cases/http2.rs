//! HTTP/2 where both sides have it, and HTTP/1.1 for WebSockets whatever they have.

use std::sync::Arc;

use drivetrain::{Capability, ErrorKind, HttpClient, Protocol, WebSockets, http::Version};
use drivetrain_engine::Engine as _;

use super::tls;
use crate::{
    case::{Case, case},
    context::{Context, builder_for, client_for},
    expect::{echoes, ends_with, fails},
    failure::Verdict,
    peer::{
        Conn, EchoServer, Http2Failure, Http2Sockets, ProxyScript, Server, TestCa, http_proxy,
        serve_http2, serve_http2_targets, socks5_proxy,
    },
};

pub(super) fn cases() -> Vec<Case> {
    use Capability::{ConnectionReuse, Http1, Http2, Proxies, Tls, WebSockets};
    vec![
        case(requests_share_a_connection).needs(&[Http2]),
        case(requests_share_a_tunnel).needs(&[Http2, Proxies, ConnectionReuse]),
        case(a_body_is_sent_over_http_2).needs(&[Http2]),
        case(a_host_of_the_callers_is_the_authority).needs(&[Http2]),
        case(a_host_of_the_callers_is_the_authority_behind_a_proxy).needs(&[Http2, Proxies]),
        case(a_host_of_the_callers_stays_with_its_origin).needs(&[Http2]),
        case(a_server_without_it_gets_http_1_1).needs(&[Http1, Tls]),
        case(a_web_socket_takes_http_1_1_beside_it).needs(&[Http1, Tls, WebSockets]),
        case(web_sockets_share_a_connection_where_that_is_switched_on).needs(&[Tls, WebSockets]),
        case(a_reset_behind_the_close_is_a_clean_end).needs(&[Tls, WebSockets]),
        case(a_stream_that_the_server_closes_is_not_reset).needs(&[Tls, WebSockets]),
        case(a_refusal_over_http_2_is_given).needs(&[Tls, WebSockets]),
        case(a_web_socket_through_a_proxy_uses_http_1_1).needs(&[Tls, WebSockets, Proxies]),
        case(a_server_without_web_sockets_over_http_2_gets_http_1_1).needs(&[Tls, WebSockets]),
        case(a_server_that_takes_one_socket_gets_connections).needs(&[Tls, WebSockets]),
        case(one_socket_that_fails_leaves_the_others).needs(&[Tls, WebSockets]),
        case(a_connection_that_breaks_its_rules_ends_its_sockets).needs(&[Tls, WebSockets]),
        case(a_connection_that_goes_away_keeps_what_is_open).needs(&[Tls, WebSockets]),
        case(a_handshake_over_http_2_that_fails_frees_its_connection).needs(&[Tls, WebSockets]),
        case(many_sockets_are_dropped_at_once).needs(&[Tls, WebSockets]),
    ]
}

/// What is negotiated is spoken, and one connection carries several requests.
pub(super) async fn requests_share_a_connection(cx: Context) -> Verdict {
    let (client, server) = start(&cx)?;
    for _ in 0..3 {
        let response = client.get(server.http_url("/")).send().await?;
        assert_eq!(response.version(), Version::HTTP_2);
        assert_eq!(response.text().await?, "1", "the number of the connection");
    }
    assert_eq!((server.connections(), server.requests()), (1, 3));
    Ok(())
}

/// It is negotiated with the server behind a proxy, too.
async fn requests_share_a_tunnel(cx: Context) -> Verdict {
    let (ca, server) = serve(&cx, Http2Sockets::Unknown);
    let script = ProxyScript::new().knowing(TestCa::PRIVATE_NAME, server.addr());
    let proxy = cx.server(http_proxy(&script));
    let engine = tls::trusting(&cx, &ca)?;
    let client = builder_for(engine).proxy(format!("http://{}", proxy.addr())).build()?;
    for _ in 0..3 {
        let url = format!("https://{}:{}/", TestCa::PRIVATE_NAME, server.addr().port());
        let response = client.get(url).send().await?;
        assert_eq!(response.version(), Version::HTTP_2);
        assert_eq!(response.text().await?, "1", "the number of the connection");
    }
    assert_eq!((proxy.connections(), server.requests()), (1, 3));
    Ok(())
}

/// Whether it is used for a request.
pub(super) async fn is_spoken(cx: &Context) -> Verdict<bool> {
    let (client, server) = start(cx)?;
    let response = client.get(server.http_url("/get")).send().await?;
    Ok(response.version() == Version::HTTP_2)
}

/// An engine without it says so, and the same server answers in HTTP/1.1.
pub(super) async fn http_1_1_is_spoken(cx: Context) -> Verdict {
    let (client, server) = start(&cx)?;
    let response = client.get(server.http_url("/get")).send().await?;
    assert_eq!(response.version(), Version::HTTP_11);
    assert_eq!(response.text().await?, "get");
    Ok(())
}

/// A request with a body is one.
async fn a_body_is_sent_over_http_2(cx: Context) -> Verdict {
    let (client, server) = start(&cx)?;
    let response = client.post(server.http_url("/")).body("a body").send().await?;
    assert_eq!((response.version(), response.status().as_u16()), (Version::HTTP_2, 200));
    assert_eq!(server.requests(), 1);
    Ok(())
}

/// RFC 9113 section 8.3.1: it takes the place of the URL's, and there is no field beside it. The URL's host is what is
/// dialled, and what the certificate is for. Where the server chooses HTTP/1.1 it is the `Host`.
async fn a_host_of_the_callers_is_the_authority(cx: Context) -> Verdict {
    let (ca, server) = targets(&cx, "/");
    let old = cx.keep(Server::start_tls(EchoServer::serve, &ca));
    let client = HttpClient::new(tls::trusting(&cx, &ca)?);
    for host in ["b.test", "b.test:8080", "b.test"] {
        let response = client.get(server.http_url("/")).header("host", host).send().await?;
        assert_eq!((response.version(), &*response.text().await?), (Version::HTTP_2, host));
        let response = client.get(old.http_url("/headers")).header("host", host).send().await?;
        assert_eq!(response.version(), Version::HTTP_11);
        let seen: serde_json::Value = response.json().await?;
        assert_eq!(seen["host"], serde_json::json!([host]), "{seen}");
    }
    // A request without one has the URL's.
    let response = client.get(server.http_url("/")).send().await?;
    assert_eq!(response.text().await?, format!("localhost:{}", server.addr().port()));
    Ok(())
}

/// The proxy is asked for the URL's host.
async fn a_host_of_the_callers_is_the_authority_behind_a_proxy(cx: Context) -> Verdict {
    let (ca, server) = targets(&cx, "/");
    let script = ProxyScript::new().knowing(TestCa::PRIVATE_NAME, server.addr());
    let url = format!("https://{}:{}/", TestCa::PRIVATE_NAME, server.addr().port());
    let mut proxies = vec![("http", cx.server(http_proxy(&script)))];
    if cx.offers(Capability::SocksProxies) {
        proxies.push(("socks5", cx.server(socks5_proxy(&script))));
    }
    for (scheme, proxy) in proxies {
        let builder = HttpClient::builder(tls::trusting(&cx, &ca)?);
        let client = builder.proxy(format!("{scheme}://{}", proxy.addr())).build()?;
        let response = client.get(&url).header("host", "b.test").send().await?;
        assert_eq!((response.version(), &*response.text().await?), (Version::HTTP_2, "b.test"));
        assert_eq!(proxy.connections(), 1, "{scheme}");
    }
    Ok(())
}

/// A redirect to the same origin keeps it; one to another does not.
async fn a_host_of_the_callers_stays_with_its_origin(cx: Context) -> Verdict {
    let (ca, here) = targets(&cx, "/");
    let location = here.http_url("/");
    let away = cx.keep(Server::start_with_tls(
        move |conn: &mut Conn| serve_http2_targets(conn, &location),
        ca.http2_server_config(),
    ));
    let client = HttpClient::new(tls::trusting(&cx, &ca)?);
    let response = client.get(here.http_url("/moved")).header("host", "b.test").send().await?;
    assert_eq!((response.version(), &*response.text().await?), (Version::HTTP_2, "b.test"));
    assert_eq!(here.requests(), 2);
    let response = client.get(away.http_url("/moved")).header("host", "b.test").send().await?;
    assert_eq!(response.text().await?, format!("localhost:{}", here.addr().port()));
    Ok(())
}

/// It is the server's choice.
async fn a_server_without_it_gets_http_1_1(cx: Context) -> Verdict {
    let (ca, server) = tls::echo_tls(&cx);
    let client = client_for(tls::trusting(&cx, &ca)?);
    let response = client.get(server.http_url("/get")).send().await?;
    assert_eq!(response.version(), Version::HTTP_11);
    Ok(())
}

/// The upgrade to a host whose requests go over HTTP/2 has a connection in HTTP/1.1.
async fn a_web_socket_takes_http_1_1_beside_it(cx: Context) -> Verdict {
    let (client, server) = start(&cx)?;
    let version = |has: bool| if has { Version::HTTP_2 } else { Version::HTTP_11 };
    for _ in 0..2 {
        let response = client.get(server.http_url("/get")).send().await?;
        assert_eq!(response.version(), version(cx.offers(Capability::Http2)));
        response.text().await?;
        let mut session = client.web_socket(server.ws_url("/echo")).connect().await?;
        echoes(&mut session, "over HTTP/1.1").await?;
    }
    Ok(())
}

/// One connection carries them all, also if they are opened at once, and ends with the last of them. An
/// engine that has no such switch says so, and uses HTTP/1.1.
pub(super) async fn web_sockets_share_a_connection_where_that_is_switched_on(
    cx: Context,
) -> Verdict {
    let (ca, server) = serve(&cx, Http2Sockets::Echoed);
    let Some(engine) = cx.engine_over_http2(&ca) else {
        assert!(!cx.offers(Capability::WebSocketOverHttp2));
        return web_sockets_use_http_1_1(&cx).await;
    };
    assert!(engine.support(Capability::WebSocketOverHttp2).is_offered());
    let client = client_for(engine);
    let open = || client.web_socket(server.ws_url("/echo")).connect();
    let (first, second) = futures_util::future::join(open(), open()).await;
    let mut sessions = vec![first?, second?, open().await?];
    for session in &mut sessions {
        assert_eq!(session.protocol(), Protocol::H2);
        let status = session.response().map(|response| response.status().as_u16());
        assert_eq!(status, cx.offers(Capability::HandshakeResponse).then_some(200));
        for text in ["one", "two"] {
            echoes(session, text).await?;
        }
        echoes(session, vec![7; 200_000]).await?;
    }
    assert_eq!((server.connections(), server.requests()), (1, 3));
    for session in sessions {
        let outcome = session.close(drivetrain::CloseReason::normal()).await?;
        assert!(outcome.clean, "{outcome:?}");
    }
    cx.until("the connection ends with its last socket", || server.open() == 0).await?;
    echoes(&mut open().await?, "over a new connection").await?;
    assert_eq!(server.connections(), 2);
    Ok(())
}

/// A proxy may reset a stream after both Closes; the end stays clean.
async fn a_reset_behind_the_close_is_a_clean_end(cx: Context) -> Verdict {
    let Some((client, server)) = start_over_http2(&cx, Http2Sockets::Echoed) else {
        return web_sockets_use_http_1_1(&cx).await;
    };
    for _ in 0..50 {
        let mut session = client.web_socket(server.ws_url("/echo")).connect().await?;
        echoes(&mut session, vec![7; 50_000]).await?;
        let outcome = session.close(drivetrain::CloseReason::normal()).await?;
        assert!(outcome.clean, "{outcome:?}");
    }
    Ok(())
}

/// The answer to a server's Close has to get there, through whatever is on the way: the stream is not reset
/// before the server has ended it.
async fn a_stream_that_the_server_closes_is_not_reset(cx: Context) -> Verdict {
    let Some((client, server)) = start_over_http2(&cx, Http2Sockets::Closed) else {
        return web_sockets_use_http_1_1(&cx).await;
    };
    let open = || client.web_socket(server.ws_url("/")).connect();
    // The first keeps the connection, on which the server would tell.
    let mut first = open().await?;
    for _ in 0..10 {
        let mut session = open().await?;
        session.send("close").await?;
        assert_eq!(session.receive().await?, None);
        assert!(session.outcome().clean, "{:?}", session.outcome());
    }
    first.send("close").await?;
    assert_eq!(first.receive().await?, None);
    assert_eq!(server.connections(), 1);
    Ok(())
}

/// An answer that is not 200 is one like any other.
async fn a_refusal_over_http_2_is_given(cx: Context) -> Verdict {
    let Some((client, server)) = start_over_http2(&cx, Http2Sockets::Refused) else {
        return web_sockets_use_http_1_1(&cx).await;
    };
    let connect = client.web_socket(server.ws_url("/echo")).connect();
    let error = fails(connect.await, ErrorKind::Rejected)?;
    assert_eq!(error.response().map(|response| response.status().as_u16()), Some(404));
    assert_eq!((server.connections(), server.requests()), (1, 1));
    Ok(())
}

/// A server that does not say that it knows them is asked over HTTP/1.1, and so is one that has no HTTP/2.
async fn a_server_without_web_sockets_over_http_2_gets_http_1_1(cx: Context) -> Verdict {
    let (ca, without) = serve(&cx, Http2Sockets::Unknown);
    let old = cx.keep(Server::start_tls(EchoServer::serve, &ca));
    let Some(engine) = cx.engine_over_http2(&ca) else {
        return web_sockets_use_http_1_1(&cx).await;
    };
    let client = client_for(engine);
    for server in [without, old] {
        for _ in 0..2 {
            let mut session = client.web_socket(server.ws_url("/echo")).connect().await?;
            assert_eq!(session.protocol(), Protocol::H1);
            echoes(&mut session, "over HTTP/1.1").await?;
        }
        assert_eq!(server.connections(), 3, "what a server can is found out once");
    }
    Ok(())
}

/// Whatever is switched on: the proxy is not gone past.
async fn a_web_socket_through_a_proxy_uses_http_1_1(cx: Context) -> Verdict {
    let (ca, server) = serve(&cx, Http2Sockets::Echoed);
    let script = ProxyScript::new();
    let proxy = cx.server(http_proxy(&script));
    let engine = match cx.engine_over_http2(&ca) {
        Some(engine) => engine,
        None => tls::trusting(&cx, &ca)?,
    };
    let builder = builder_for(engine).install(WebSockets::new());
    let client = builder.proxy(format!("http://{}", proxy.addr())).build()?;
    let mut session = client.web_socket(server.ws_url("/echo")).connect().await?;
    assert_eq!(session.protocol(), Protocol::H1);
    echoes(&mut session, "through the proxy").await?;
    assert_eq!((proxy.connections(), server.connections()), (1, 1));
    Ok(())
}

/// What a server allows a connection is kept.
async fn a_server_that_takes_one_socket_gets_connections(cx: Context) -> Verdict {
    let Some((client, server)) = start_over_http2(&cx, Http2Sockets::One) else {
        return web_sockets_use_http_1_1(&cx).await;
    };
    let mut sessions = Vec::new();
    for count in 1..=3 {
        let mut session = client.web_socket(server.ws_url("/echo")).connect().await?;
        echoes(&mut session, "alone").await?;
        assert_eq!(server.connections(), count);
        sessions.push(session);
    }
    drop(sessions);
    cx.until("the connections end", || server.open() == 0).await
}

/// A stream that is reset, or ends without a Close, is an unclean end of one session.
async fn one_socket_that_fails_leaves_the_others(cx: Context) -> Verdict {
    for failure in [Http2Failure::Resets, Http2Failure::EndsStream] {
        let Some((client, server)) = start_over_http2(&cx, Http2Sockets::Failing(failure)) else {
            return web_sockets_use_http_1_1(&cx).await;
        };
        let open = || client.web_socket(server.ws_url("/echo")).connect();
        let (mut first, mut second) = (open().await?, open().await?);
        first.send("to be lost").await?;
        ends_with(&mut first, ErrorKind::Io).await?;
        for session in [&mut second, &mut open().await?] {
            echoes(session, "still there").await?;
        }
        assert_eq!(server.connections(), 1, "{failure:?}");
    }
    Ok(())
}

/// All sessions of a connection end with it, uncleanly, and the next one has another connection.
async fn a_connection_that_breaks_its_rules_ends_its_sockets(cx: Context) -> Verdict {
    for failure in [Http2Failure::AnswersTwice, Http2Failure::Leaves] {
        let Some((client, server)) = start_over_http2(&cx, Http2Sockets::Failing(failure)) else {
            return web_sockets_use_http_1_1(&cx).await;
        };
        let open = || client.web_socket(server.ws_url("/echo")).connect();
        let (mut first, mut second) = (open().await?, open().await?);
        first.send("to be lost").await?;
        ends_with(&mut first, ErrorKind::Io).await?;
        if failure == Http2Failure::Leaves {
            ends_with(&mut second, ErrorKind::Io).await?;
            cx.until("the connection ends", || server.open() == 0).await?;
            drop(open().await?);
            assert_eq!(server.connections(), 2);
        }
    }
    Ok(())
}

/// GOAWAY (RFC 9113 section 6.8): open streams continue, new ones use another connection.
async fn a_connection_that_goes_away_keeps_what_is_open(cx: Context) -> Verdict {
    let sockets = Http2Sockets::Failing(Http2Failure::GoesAway);
    let Some((client, server)) = start_over_http2(&cx, sockets) else {
        return web_sockets_use_http_1_1(&cx).await;
    };
    let open = || client.web_socket(server.ws_url("/echo")).connect();
    let (mut first, mut second) = (open().await?, open().await?);
    for session in [&mut first, &mut second] {
        echoes(session, "before and after").await?;
    }
    let mut third = open().await?;
    echoes(&mut third, "elsewhere").await?;
    assert_eq!(server.connections(), 2);
    echoes(&mut first, "still there").await?;
    let outcome = first.close(drivetrain::CloseReason::normal()).await?;
    assert!(outcome.clean, "{outcome:?}");
    Ok(())
}

/// One that is not answered ends with the handshake's time limit; a wrong answer is a protocol error.
async fn a_handshake_over_http_2_that_fails_frees_its_connection(cx: Context) -> Verdict {
    for (failure, kind) in [
        (Http2Failure::NoSettings, ErrorKind::Timeout),
        (Http2Failure::Silence, ErrorKind::Timeout),
        (Http2Failure::UnaskedSubprotocol, ErrorKind::Protocol),
    ] {
        let Some((client, server)) = start_over_http2(&cx, Http2Sockets::Failing(failure)) else {
            return web_sockets_use_http_1_1(&cx).await;
        };
        let request = client.web_socket(server.ws_url("/echo"));
        let limit = std::time::Duration::from_millis(400);
        let connect = match kind {
            ErrorKind::Timeout => request.handshake_timeout(limit).connect().await,
            _ => request.connect().await,
        };
        let error = fails(connect, kind)?;
        cx.until("the connection ends", || server.open() == 0).await?;
        drop(error);
    }
    // A stream that ends with the answer is a session that has ended.
    let sockets = Http2Sockets::Failing(Http2Failure::EndsAtOnce);
    if let Some((client, server)) = start_over_http2(&cx, sockets) {
        match client.web_socket(server.ws_url("/echo")).connect().await {
            Ok(mut session) => drop(ends_with(&mut session, ErrorKind::Io).await?),
            Err(error) => assert_eq!(error.kind(), ErrorKind::Io, "{error:?}"),
        }
        cx.until("the connection ends", || server.open() == 0).await?;
    }
    Ok(())
}

/// In the middle of what they send and receive.
async fn many_sockets_are_dropped_at_once(cx: Context) -> Verdict {
    let Some((client, server)) = start_over_http2(&cx, Http2Sockets::Echoed) else {
        return web_sockets_use_http_1_1(&cx).await;
    };
    let open = || client.web_socket(server.ws_url("/echo")).connect();
    let mut kept = open().await?;
    let opening = (0..40).map(|_| open());
    let sessions = futures_util::future::try_join_all(opening).await?;
    for session in &sessions {
        session.send(vec![7; 40_000]).await?;
    }
    drop(sessions);
    echoes(&mut kept, vec![7; 40_000]).await?;
    assert_eq!(server.connections(), 1);
    drop(kept);
    cx.until("the connection ends", || server.open() == 0).await
}

/// With default options a WebSocket is an upgrade in HTTP/1.1, whatever the server could.
pub(super) async fn web_sockets_use_http_1_1(cx: &Context) -> Verdict {
    let (ca, server) = serve(cx, Http2Sockets::Echoed);
    let client = client_for(tls::trusting(cx, &ca)?);
    let mut session = client.web_socket(server.ws_url("/echo")).connect().await?;
    assert_eq!(session.protocol(), Protocol::H1);
    echoes(&mut session, "over HTTP/1.1").await
}

/// A server that prefers HTTP/2, and a client that trusts it.
fn start(cx: &Context) -> Verdict<(HttpClient, Arc<Server>)> {
    let (ca, server) = serve(cx, Http2Sockets::Unknown);
    Ok((client_for(tls::trusting(cx, &ca)?), server))
}

/// A client with WebSockets over HTTP/2; `None` on an engine without.
fn start_over_http2(cx: &Context, sockets: Http2Sockets) -> Option<(HttpClient, Arc<Server>)> {
    let (ca, server) = serve(cx, sockets);
    Some((client_for(cx.engine_over_http2(&ca)?), server))
}

/// A server that tells where a request was sent to.
fn targets(cx: &Context, location: &'static str) -> (TestCa, Arc<Server>) {
    let ca = TestCa::new();
    let handler = move |conn: &mut Conn| serve_http2_targets(conn, location);
    let server = cx.keep(Server::start_with_tls(handler, ca.http2_server_config()));
    (ca, server)
}

pub(super) fn serve(cx: &Context, sockets: Http2Sockets) -> (TestCa, Arc<Server>) {
    let ca = TestCa::new();
    let handler = move |conn: &mut Conn| match conn.tls().and_then(|tls| tls.alpn.as_deref()) {
        Some("h2") => serve_http2(conn, sockets),
        _ => EchoServer::serve(conn),
    };
    let server = cx.keep(Server::start_with_tls(handler, ca.http2_server_config()));
    (ca, server)
}
