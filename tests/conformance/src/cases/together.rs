//! What a client knows about HTTP, all of it at once, for requests and for WebSockets alike.

use std::{io, time::Duration};

use drivetrain::{
    Capability, CookieJar, DefaultRequest, ErrorKind, HttpTimeout, Proxy, WebSockets,
};
use serde_json::{Value, json};

use super::{handshake::described, tls::trusting};
use crate::{
    case::{Case, case},
    context::{Context, PATIENCE, builder_for},
    expect::fails,
    failure::Verdict,
    peer::{Asked, Conn, EchoServer, ProxyScript, Server, TestCa, http_proxy},
};

/// A time limit that has to pass.
const SHORT: Duration = Duration::from_millis(400);

pub(super) fn cases() -> Vec<Case> {
    use Capability::{ConnectTimeout, HandshakeHeaders, Http1, Proxies, Tls, WebSockets};
    vec![
        case(defaults_are_applied_to_handshakes).needs(&[WebSockets, HandshakeHeaders]),
        case(proxy_tls_redirect_and_cookie_work_together).needs(&[
            WebSockets,
            HandshakeHeaders,
            Tls,
            Proxies,
        ]),
        case(a_server_that_says_nothing_to_tls_is_given_up).needs(&[Http1, Tls, ConnectTimeout]),
    ]
}

/// A path is enough, `http` is `ws`, and a header of the request's stands for a default one.
async fn defaults_are_applied_to_handshakes(cx: Context) -> Verdict {
    let server = cx.echo();
    for base in [server.http_url("/"), server.ws_url("/")] {
        let defaults = DefaultRequest::new().base_url(base);
        let defaults = defaults.header("x-one", "default").header("x-two", "default");
        let client = builder_for(cx.engine()).install(defaults).install(WebSockets::new());
        let client = client.build()?;
        for path in ["headers", "/headers"] {
            let seen = described(client.web_socket(path).header("x-two", "own")).await?;
            assert_eq!(seen["path"], "/headers");
            assert_eq!(seen["headers"]["x-one"], json!(["default"]));
            assert_eq!(seen["headers"]["x-two"], json!(["own"]));
        }
    }
    Ok(())
}

/// The same program on every engine: an authenticated `CONNECT`, a server with a private authority that only
/// the proxy can resolve, a redirect, and a cookie that comes with it.
async fn proxy_tls_redirect_and_cookie_work_together(cx: Context) -> Verdict {
    const NAME: &str = TestCa::PRIVATE_NAME;
    let ca = TestCa::new();
    let server = cx.keep(Server::start_tls(redirecting, &ca));
    let script = ProxyScript::new().knowing(NAME, server.addr()).with_credentials("me", "secret");
    let proxy_server = cx.server(http_proxy(&script));
    let (host, port) = (proxy_server.addr().ip().to_string(), proxy_server.addr().port());
    let proxy = Proxy::http(host, port)?.basic_auth("me", "secret")?;
    let authority = format!("{NAME}:{}", server.addr().port());
    let defaults = DefaultRequest::new().base_url(format!("https://{authority}/"));
    let jar = CookieJar::new();
    let client = builder_for(trusting(&cx, &ca)?)
        .proxy(proxy)
        .cookie_jar(jar.clone())
        .install(defaults.header("x-app", "one"))
        .install(WebSockets::new())
        .build()?;
    let check = |seen: &Value| {
        assert_eq!(seen["headers"]["cookie"], json!(["session=1"]), "{seen}");
        assert_eq!(seen["headers"]["authorization"], json!(["Bearer token"]), "{seen}");
        assert_eq!(seen["headers"]["x-app"], json!(["one"]), "{seen}");
        assert_eq!(seen["tls"]["server_name"], NAME, "{seen}");
        assert!(seen["headers"]["proxy-authorization"].is_null(), "{seen}");
    };
    check(&described(client.web_socket("/start?to=/headers").bearer_auth("token")).await?);
    jar.clear();
    if cx.offers(Capability::Http1) {
        let request = client.get("/start?to=/anything").bearer_auth("token");
        check(&request.send().await?.json().await?);
    }
    let credentials = Some("me:secret".to_owned());
    let tunnel = Asked { method: "CONNECT".into(), target: authority, credentials };
    assert!(script.asked().iter().all(|asked| *asked == tunnel), "{:?}", script.asked());

    // And nothing of it reaches the server if the proxy refuses.
    let refusing = ProxyScript::new().with_credentials("somebody", "else");
    let proxy_server = cx.server(http_proxy(&refusing));
    let before = server.connections();
    let client = builder_for(trusting(&cx, &ca)?)
        .proxy(format!("http://me:secret@{}", proxy_server.addr()))
        .install(WebSockets::new())
        .build()?;
    fails(client.web_socket(server.ws_url("/headers")).connect().await, ErrorKind::Connect)?;
    if cx.offers(Capability::Http1) {
        fails(client.get(server.http_url("/anything")).send().await, ErrorKind::Connect)?;
    }
    assert_eq!(server.connections(), before);
    Ok(())
}

/// The connect timeout is for TLS too.
async fn a_server_that_says_nothing_to_tls_is_given_up(cx: Context) -> Verdict {
    let server = cx.server(Conn::drain);
    let address = format!("localhost:{}", server.addr().port());
    let ca = TestCa::new();
    let engines = [Some(trusting(&cx, &ca)?), cx.engine_over_http2(&ca)];
    for engine in engines.into_iter().flatten() {
        let builder = builder_for(engine).install(HttpTimeout::new().connect(SHORT));
        let offers = cx.offers(Capability::WebSockets);
        let plugin = WebSockets::new().handshake_timeout(10 * PATIENCE);
        let client = if offers { builder.install(plugin).build()? } else { builder.build()? };
        let request = client.get(format!("https://{address}/")).send();
        fails(cx.within(PATIENCE, "the limit passes", request).await?, ErrorKind::Timeout)?;
        if offers {
            let connect = client.web_socket(format!("wss://{address}/")).connect();
            fails(cx.within(PATIENCE, "the limit passes", connect).await?, ErrorKind::Timeout)?;
        }
    }
    cx.until("the connections end", || server.open() == 0).await
}

/// Sets a cookie where it redirects, and is the ready-made server otherwise.
fn redirecting(conn: &mut Conn) -> io::Result<()> {
    EchoServer::serve_but(conn, |conn, request| {
        if request.path != "/start" {
            return Ok(false);
        }
        let to = request.parameter("to").unwrap_or("/");
        let headers = [("location", to), ("set-cookie", "session=1; Path=/; Secure; HttpOnly")];
        conn.respond(302, &headers, "")?;
        Ok(true)
    })
}
