//! HTTP/2 where both sides have it, and HTTP/1.1 for WebSockets whatever they have.

use std::sync::Arc;

use drivetrain::{Capability, HttpClient, http::Version};

use super::tls;
use crate::{
    case::{Case, case},
    context::Context,
    expect::echoes,
    failure::Verdict,
    peer::{Conn, EchoServer, Server, TestCa, serve_http2},
};

pub(super) fn cases() -> Vec<Case> {
    use Capability::{Http1, Http2, Tls, WebSockets};
    vec![
        case(requests_share_a_connection).needs(&[Http2]),
        case(a_body_is_sent_over_http_2).needs(&[Http2]),
        case(a_server_without_it_gets_http_1_1).needs(&[Http1, Tls]),
        case(a_web_socket_takes_http_1_1_beside_it).needs(&[Http1, Tls, WebSockets]),
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

/// It is the server's choice.
async fn a_server_without_it_gets_http_1_1(cx: Context) -> Verdict {
    let (ca, server) = tls::echo_tls(&cx);
    let client = HttpClient::new(tls::trusting(&cx, &ca)?);
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

/// A server that prefers HTTP/2, and a client that trusts it.
fn start(cx: &Context) -> Verdict<(HttpClient, Arc<Server>)> {
    let ca = TestCa::new();
    let serve = |conn: &mut Conn| match conn.tls().and_then(|tls| tls.alpn.as_deref()) {
        Some("h2") => serve_http2(conn),
        _ => EchoServer::serve(conn),
    };
    let server = cx.keep(Server::start_with_tls(serve, ca.http2_server_config()));
    Ok((HttpClient::new(tls::trusting(cx, &ca)?), server))
}
