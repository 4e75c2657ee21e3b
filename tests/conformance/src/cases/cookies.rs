//! One cookie jar for requests and handshakes.

use std::io;

use drivetrain::{Capability, CookieJar, ErrorKind, HttpClient, WebSockets};

use super::{
    http::description,
    tls::{echo_tls, trusting},
};
use crate::{
    case::{Case, case},
    context::{Context, builder_for},
    expect::{fails, text},
    failure::Verdict,
    peer::{Conn, accept_key},
    watched::Watched,
};

pub(super) fn cases() -> Vec<Case> {
    use Capability::{HandshakeHeaders, HandshakeResponse, Http1, Tls, WebSockets};
    vec![
        case(a_response_sets_what_a_request_sends).needs(&[Http1]),
        case(a_response_sets_what_a_handshake_sends).needs(&[Http1, WebSockets, HandshakeHeaders]),
        case(an_accepted_handshake_sets_cookies).needs(&[WebSockets, HandshakeResponse]),
        case(a_refused_handshake_sets_cookies).needs(&[WebSockets]),
        case(a_redirect_sets_cookies_for_the_next_hop).needs(&[WebSockets, HandshakeHeaders]),
        case(secure_ones_go_over_tls_only).needs(&[WebSockets, HandshakeHeaders, Tls]),
        case(a_plain_server_cannot_set_cookies_of_one_with_tls).needs(&[Http1]),
        case(a_host_has_only_so_many),
        case(a_header_of_the_requests_stands_alone).needs(&[Http1]),
        case(what_is_no_cookie_is_refused),
    ]
}

async fn a_response_sets_what_a_request_sends(cx: Context) -> Verdict {
    let server = cx.server(setting);
    let (jar, client) = with_jar(cx.engine())?;
    client.get(server.http_url("/set?cookie=a")).send().await?.bytes().await?;
    client.get(server.http_url("/set?cookie=b")).send().await?.bytes().await?;
    let seen = description(client.get(server.http_url("/anything"))).await?;
    assert_eq!(sorted(seen["headers"]["cookie"][0].as_str().unwrap_or_default()), "a=1; b=1");
    assert_eq!(
        jar.cookies(server.http_url("/"))?.as_deref().map(sorted).as_deref(),
        Some("a=1; b=1")
    );
    jar.clear();
    let seen = description(client.get(server.http_url("/anything"))).await?;
    assert!(seen["headers"]["cookie"].is_null(), "{seen}");
    Ok(())
}

async fn a_response_sets_what_a_handshake_sends(cx: Context) -> Verdict {
    let server = cx.server(setting);
    let (_, client) = with_jar(cx.engine())?;
    client.get(server.http_url("/set?cookie=session")).send().await?.bytes().await?;
    assert_eq!(handshake(&client, &server.ws_url("/headers")).await?, "session=1");
    Ok(())
}

async fn an_accepted_handshake_sets_cookies(cx: Context) -> Verdict {
    let server = cx.server(|conn| {
        let request = conn.read_request()?.ok_or(io::ErrorKind::UnexpectedEof)?;
        let accept = accept_key(request.header("sec-websocket-key").unwrap_or_default());
        let head = format!(
            "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: Upgrade\r\n\
             set-cookie: socket=1\r\nsec-websocket-accept: {accept}\r\n\r\n"
        );
        conn.write_all(head.as_bytes())
    });
    let (jar, client) = with_jar(cx.engine())?;
    drop(client.web_socket(server.ws_url("/")).connect().await?);
    assert_eq!(jar.cookies(server.ws_url("/"))?.as_deref(), Some("socket=1"));
    Ok(())
}

async fn a_refused_handshake_sets_cookies(cx: Context) -> Verdict {
    let server = cx.server(setting);
    let (jar, client) = with_jar(cx.engine())?;
    let connect = client.web_socket(server.ws_url("/set?cookie=refused")).connect();
    fails(connect.await, ErrorKind::Rejected)?;
    assert_eq!(jar.cookies(server.ws_url("/"))?.as_deref(), Some("refused=1"));
    Ok(())
}

async fn a_redirect_sets_cookies_for_the_next_hop(cx: Context) -> Verdict {
    let server = cx.server(setting);
    let (_, client) = with_jar(cx.engine())?;
    let url = server.ws_url("/set?cookie=hop&to=/headers");
    assert_eq!(handshake(&client, &url).await?, "hop=1");
    Ok(())
}

async fn secure_ones_go_over_tls_only(cx: Context) -> Verdict {
    let (ca, secure) = echo_tls(&cx);
    let (jar, client) = with_jar(trusting(&cx, &ca)?)?;
    jar.set(secure.ws_url("/"), "safe=1; Secure")?;
    assert_eq!(handshake(&client, &secure.ws_url("/headers")).await?, "safe=1");
    // Cookies do not know ports: the same host without TLS.
    let plain = cx.echo().ws_url("/headers").replace("127.0.0.1", "localhost");
    jar.set(secure.ws_url("/"), "any=1")?;
    assert_eq!(handshake(&client, &plain).await?, "any=1");
    Ok(())
}

/// What a server without TLS must not do to the cookies of one with it (RFC 6265bis section 5.7), and what
/// promises more by its name than it keeps.
async fn a_plain_server_cannot_set_cookies_of_one_with_tls(cx: Context) -> Verdict {
    let long = format!("long={}; Path=/", "x".repeat(5000));
    let wrong = [
        "secure=1; Path=/; Secure",
        "__Secure-a=1; Path=/",
        "__Host-a=1; Path=/",
        "__Host-b=1; Path=/; Secure",
        "__host-c=1; Path=/; Secure",
        "session=planted; Path=/",
        &long,
    ];
    let lines: Vec<String> = wrong.iter().map(|cookie| (*cookie).to_owned()).collect();
    let server = cx.server(move |conn| {
        conn.read_request()?;
        let mut headers: Vec<_> = lines.iter().map(|line| ("set-cookie", line.as_str())).collect();
        headers.push(("set-cookie", "fine=1; Path=/"));
        conn.respond(200, &headers, "")
    });
    let (jar, client) = with_jar(cx.engine())?;
    jar.set("https://127.0.0.1/", "session=1; Path=/; Secure")?;
    client.get(server.http_url("/")).send().await?.bytes().await?;
    assert_eq!(jar.cookies(server.http_url("/"))?.as_deref(), Some("fine=1"));
    let kept = jar.cookies("https://127.0.0.1/")?.unwrap_or_default();
    assert_eq!(sorted(&kept), "fine=1; session=1");
    for cookie in wrong {
        fails(jar.set("http://127.0.0.1/", cookie), ErrorKind::InvalidInput)?;
    }
    for cookie in ["__Host-a=1; Secure; Path=/x", "__Host-a=1; Secure; Path=/; Domain=a.example"] {
        fails(jar.set("https://a.example/", cookie), ErrorKind::InvalidInput)?;
    }
    jar.set("https://a.example/", "__Host-a=1; Secure; Path=/")?;
    Ok(())
}

/// What one host may leave behind is bounded.
async fn a_host_has_only_so_many(_: Context) -> Verdict {
    let jar = CookieJar::new();
    for number in 0..180 {
        jar.set("http://a.example/", format!("c{number}=1"))?;
    }
    jar.set("http://a.example/", "c0=changed")?;
    jar.set("http://a.example/", "more=1")?;
    jar.set("http://b.example/", "other=1")?;
    let kept = jar.cookies("http://a.example/")?.unwrap_or_default();
    let kept: Vec<_> = kept.split("; ").collect();
    assert_eq!(kept.len(), 180, "{kept:?}");
    assert!(kept.contains(&"c0=changed") && kept.contains(&"more=1"), "{kept:?}");
    assert!(!kept.contains(&"c1=1"), "the oldest makes room");
    Ok(())
}

async fn a_header_of_the_requests_stands_alone(cx: Context) -> Verdict {
    let server = cx.echo();
    let (jar, client) = with_jar(cx.engine())?;
    jar.set(server.http_url("/"), "jar=1")?;
    let request = client.get(server.http_url("/anything")).header("cookie", "own=1");
    assert_eq!(description(request).await?["headers"]["cookie"], serde_json::json!(["own=1"]));
    Ok(())
}

async fn what_is_no_cookie_is_refused(_: Context) -> Verdict {
    let jar = CookieJar::new();
    for (url, cookie) in [
        ("not a url", "a=1"),
        ("http://a.example/", "no pair"),
        ("http://a.example/", "a=1; Domain=b.example"),
    ] {
        fails(jar.set(url, cookie), ErrorKind::InvalidInput)?;
    }
    fails(jar.cookies("ftp://a.example/"), ErrorKind::InvalidInput)?;
    Ok(())
}

/// Sets a cookie, redirects if it is told where to, and is the ready-made server otherwise.
fn setting(conn: &mut Conn) -> io::Result<()> {
    crate::peer::EchoServer::serve_but(conn, |conn, request| {
        if request.path != "/set" {
            return Ok(false);
        }
        let cookie = format!("{}=1; Path=/", request.parameter("cookie").unwrap_or("x"));
        let mut headers = vec![("set-cookie", cookie.as_str())];
        headers.extend(request.parameter("to").map(|to| ("location", to)));
        let status = if headers.len() > 1 { 302 } else { 403 };
        conn.respond(status, &headers, "")?;
        Ok(true)
    })
}

pub(super) fn with_jar(engine: Watched) -> Verdict<(CookieJar, HttpClient)> {
    use drivetrain_engine::Engine as _;
    let jar = CookieJar::new();
    let offers_sessions = engine.support(Capability::WebSockets).is_offered();
    let client = builder_for(engine).cookie_jar(jar.clone());
    let client = if offers_sessions { client.install(WebSockets::new()) } else { client };
    Ok((jar, client.build()?))
}

/// The cookies of a handshake, as the server saw them.
async fn handshake(client: &HttpClient, url: &str) -> Verdict<String> {
    let mut session = client.web_socket(url).connect().await?;
    let seen: serde_json::Value =
        serde_json::from_str(&text(&mut session).await?).unwrap_or_default();
    session.close(drivetrain::CloseReason::normal()).await?;
    Ok(seen["headers"]["cookie"][0].as_str().unwrap_or_default().to_owned())
}

fn sorted(cookies: &str) -> String {
    let mut pairs: Vec<_> = cookies.split("; ").collect();
    pairs.sort_unstable();
    pairs.join("; ")
}
