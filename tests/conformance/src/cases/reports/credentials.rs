//! What must not travel further than its owner, nor be printed.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use drivetrain::{
    Capability, CloseReason, DefaultRequest, ErrorKind, HttpClient, HttpClientBuilder, Redirects,
    WebSockets, http::HeaderValue, reconnect::Backoff,
};

use crate::{
    case::{Case, case},
    cases::{http::description, redirects::escaped, tls::trusting},
    context::{Context, builder_for},
    expect::{fails, text},
    failure::Verdict,
    peer::{Conn, EchoServer, ProxyScript, Server, TestCa, http_proxy},
};

const TOKEN: &str = "Bearer new";
/// Names that are known to carry credentials; their values are not marked sensitive.
const WELL_KNOWN: [&str; 8] = [
    "x-api-key",
    "api-key",
    "X-Auth-Token",
    "x-amz-security-token",
    "private-token",
    "cf-access-client-secret",
    "x-csrf-token",
    "dd-application-key",
];

pub(super) fn cases() -> Vec<Case> {
    use Capability::{HandshakeHeaders, Http1, Proxies, Subprotocols, Tls, WebSockets};
    vec![
        case(a_hook_is_asked_within_its_origin).needs(&[Http1, WebSockets, HandshakeHeaders]),
        case(a_hook_is_not_asked_by_another_origin).needs(&[Http1]),
        case(a_hook_is_not_asked_by_another_origin_for_a_handshake).needs(&[WebSockets]),
        case(a_hook_is_not_asked_on_the_way_back).needs(&[Http1]),
        case(a_hook_is_not_asked_by_the_same_host_over_tls).needs(&[Http1, Tls]),
        case(a_hook_is_not_asked_for_credentials_in_a_location).needs(&[Http1]),
        case(a_hook_is_asked_by_another_origin_if_that_is_allowed).needs(&[
            Http1,
            WebSockets,
            HandshakeHeaders,
        ]),
        case(subprotocols_stay_with_their_origin).needs(&[WebSockets, Subprotocols]),
        case(subprotocols_do_not_come_back).needs(&[WebSockets, Subprotocols]),
        case(subprotocols_go_along_if_that_is_allowed).needs(&[WebSockets, Subprotocols]),
        case(a_subprotocol_that_was_not_offered_again_is_refused)
            .needs(&[WebSockets, Subprotocols]),
        case(well_known_keys_stay_with_their_origin).needs(&[Http1, WebSockets, HandshakeHeaders]),
        case(a_proxy_authorization_is_refused_by_name).needs(&[Http1, WebSockets]),
        case(a_proxy_authorization_is_refused_beside_a_proxy).needs(&[Http1, WebSockets, Proxies]),
        case(what_is_printed_has_no_secret).needs(&[Http1, WebSockets, Subprotocols]),
    ]
}

/// The negative of the others: within one origin a redirect changes nothing.
async fn a_hook_is_asked_within_its_origin(cx: Context) -> Verdict {
    let server = guarded(&cx);
    let (calls, client) = client(&cx, Redirects::new())?;
    let url = server.http_url("/redirect?to=/get");
    assert_eq!(client.get(url).send().await?.text().await?, "get");
    let url = server.ws_url("/redirect?to=/echo");
    client.web_socket(url).run(async |_| Ok(())).await?;
    assert_eq!(calls.load(Ordering::Relaxed), 2);
    Ok(())
}

/// Whatever the method, and for an event stream.
async fn a_hook_is_not_asked_by_another_origin(cx: Context) -> Verdict {
    let (first, second) = (cx.echo(), guarded(&cx));
    let (calls, client) = client(&cx, Redirects::new())?;
    let url = first.http_url(&format!("/redirect?status=307&to={}", second.http_url("/echo")));
    assert_eq!(client.get(&url).send().await?.status(), 401);
    assert_eq!(client.post(&url).body("body").send().await?.status(), 401);
    let error = fails(client.sse(&url).connect().await, ErrorKind::Status)?;
    assert_eq!(error.response().map(|response| response.status().as_u16()), Some(401));
    assert_eq!((calls.load(Ordering::Relaxed), second.requests()), (0, 3));
    Ok(())
}

/// Also for one that is tried again.
async fn a_hook_is_not_asked_by_another_origin_for_a_handshake(cx: Context) -> Verdict {
    let (first, second) = (cx.echo(), guarded(&cx));
    let (calls, client) = client(&cx, Redirects::new())?;
    let url = first.ws_url(&format!("/redirect?to={}", second.ws_url("/echo")));
    let error = fails(client.web_socket(&url).connect().await, ErrorKind::Rejected)?;
    assert_eq!(error.response().map(|response| response.status().as_u16()), Some(401));
    let again = client.web_socket(&url).reconnect(Backoff::new()).connect();
    fails(again.await, ErrorKind::Rejected)?;
    assert_eq!((calls.load(Ordering::Relaxed), second.requests()), (0, 2));
    Ok(())
}

/// Another origin has chosen where this request goes.
async fn a_hook_is_not_asked_on_the_way_back(cx: Context) -> Verdict {
    let (first, second) = (guarded(&cx), cx.echo());
    let (calls, client) = client(&cx, Redirects::new())?;
    let back = second.http_url(&format!("/redirect?to={}", first.http_url("/get")));
    let url = first.http_url(&format!("/redirect?to={}", escaped(&back)));
    assert_eq!(client.get(url).send().await?.status(), 401);
    assert_eq!(calls.load(Ordering::Relaxed), 0);
    Ok(())
}

/// Another scheme is another origin, and another port is.
async fn a_hook_is_not_asked_by_the_same_host_over_tls(cx: Context) -> Verdict {
    let plain = cx.echo();
    let ca = TestCa::new();
    let secure = cx.keep(Server::start_tls(guard, &ca));
    let builder = builder_for(trusting(&cx, &ca)?);
    let (calls, client) = hooked(&cx, builder)?;
    let url = plain.http_url(&format!("/redirect?to={}", secure.http_url("/get")));
    assert_eq!(client.get(url).send().await?.status(), 401);
    assert_eq!(calls.load(Ordering::Relaxed), 0);
    Ok(())
}

/// Userinfo in a `Location` is that server's, and does not make its place the caller's.
async fn a_hook_is_not_asked_for_credentials_in_a_location(cx: Context) -> Verdict {
    let (first, second) = (cx.echo(), guarded(&cx));
    let (calls, client) = client(&cx, Redirects::new())?;
    let to = second.http_url("/get").replace("http://", "http://me:pass@");
    let response = client.get(first.http_url(&format!("/redirect?to={to}"))).send().await?;
    assert_eq!((response.status().as_u16(), calls.load(Ordering::Relaxed)), (401, 0));
    Ok(())
}

async fn a_hook_is_asked_by_another_origin_if_that_is_allowed(cx: Context) -> Verdict {
    let (first, second) = (cx.echo(), guarded(&cx));
    let redirects = Redirects::new().ask_unauthorized_across_origins(true);
    let cross = Arc::new(AtomicUsize::new(0));
    let seen = Arc::clone(&cross);
    let builder = builder_for(cx.engine()).redirects(redirects).install(WebSockets::new());
    let client = builder
        .on_unauthorized(move |unauthorized| {
            seen.fetch_add(usize::from(unauthorized.is_cross_origin()), Ordering::Relaxed);
            async { Ok(Some(HeaderValue::from_static(TOKEN))) }
        })
        .build()?;
    let url = first.http_url(&format!("/redirect?to={}", second.http_url("/get")));
    assert_eq!(client.get(url).send().await?.text().await?, "get");
    let url = first.ws_url(&format!("/redirect?to={}", second.ws_url("/echo")));
    client.web_socket(url).run(async |_| Ok(())).await?;
    assert_eq!(client.get(second.http_url("/get")).send().await?.text().await?, "get");
    assert_eq!(cross.load(Ordering::Relaxed), 2, "a call to that origin itself is not redirected");
    Ok(())
}

async fn subprotocols_stay_with_their_origin(cx: Context) -> Verdict {
    let (first, second) = (cx.echo(), cx.echo());
    let to = second.ws_url("/redirect?to=/headers");
    let url = first.ws_url(&format!("/redirect?to={}", escaped(&to)));
    let request = cx.client().web_socket(url).subprotocol("chat").subprotocol("token.secret");
    let mut session = request.connect().await?;
    let seen = text(&mut session).await?;
    assert!(!seen.contains("sec-websocket-protocol"), "{seen}");
    assert_eq!(session.subprotocol(), None);
    session.close(CloseReason::normal()).await?;
    Ok(())
}

/// Once elsewhere, always elsewhere.
async fn subprotocols_do_not_come_back(cx: Context) -> Verdict {
    let (first, second) = (cx.echo(), cx.echo());
    let back = second.ws_url(&format!("/redirect?to={}", first.ws_url("/headers")));
    let url = first.ws_url(&format!("/redirect?to={}", escaped(&back)));
    let mut session = cx.client().web_socket(url).subprotocol("token.secret").connect().await?;
    let seen = text(&mut session).await?;
    assert!(!seen.contains("secret"), "{seen}");
    session.close(CloseReason::normal()).await?;
    Ok(())
}

async fn subprotocols_go_along_if_that_is_allowed(cx: Context) -> Verdict {
    let (first, second) = (cx.echo(), cx.echo());
    let redirects = Redirects::new().offer_subprotocols_across_origins(true);
    let client = builder_for(cx.engine()).install(WebSockets::new()).redirects(redirects);
    let url = first.ws_url(&format!("/redirect?to={}", second.ws_url("/subprotocol")));
    let session = client.build()?.web_socket(url).subprotocol("chat").connect().await?;
    assert_eq!(session.subprotocol(), Some("chat"));
    session.close(CloseReason::normal()).await?;
    Ok(())
}

/// It was not offered to this server, which must not choose it then (RFC 6455 section 4.1).
async fn a_subprotocol_that_was_not_offered_again_is_refused(cx: Context) -> Verdict {
    let (first, second) = (cx.echo(), cx.echo());
    let to = second.ws_url("/subprotocol?select=secret");
    let url = first.ws_url(&format!("/redirect?to={}", escaped(&to)));
    let connect = cx.client().web_socket(url).subprotocol("secret").connect();
    let error = fails(connect.await, ErrorKind::Protocol)?;
    assert!(error.to_string().contains("another origin"), "{error}");
    assert!(!format!("{error:?}").contains("secret"), "{error:?}");
    Ok(())
}

async fn well_known_keys_stay_with_their_origin(cx: Context) -> Verdict {
    let (first, second) = (cx.echo(), cx.echo());
    for (to, is_kept) in [("/anything".to_owned(), true), (second.http_url("/anything"), false)] {
        let mut request = cx.client().get(first.http_url(&format!("/redirect?to={to}")));
        for name in WELL_KNOWN {
            request = request.header(name, "secret");
        }
        let seen = description(request.header("idempotency-key", "kept")).await?;
        for name in WELL_KNOWN {
            let value = &seen["headers"][name.to_ascii_lowercase()][0];
            assert_eq!(value == "secret", is_kept, "{name}: {seen}");
        }
        assert_eq!(seen["headers"]["idempotency-key"][0], "kept");
    }
    let url = first.ws_url(&format!("/redirect?to={}", second.ws_url("/headers")));
    let mut session = cx.client().web_socket(url).header("x-api-key", "secret").connect().await?;
    let seen = text(&mut session).await?;
    assert!(!seen.contains("secret"), "{seen}");
    session.close(CloseReason::normal()).await?;
    Ok(())
}

/// Set on a request, on a handshake, or as a default: nothing is sent.
async fn a_proxy_authorization_is_refused_by_name(cx: Context) -> Verdict {
    let server = cx.echo();
    let builder = || builder_for(cx.engine()).install(WebSockets::new());
    refuses_proxy_authorization(&builder().build()?, &server).await?;
    assert_eq!(server.connections(), 0);
    let defaults = DefaultRequest::new().header("proxy-authorization", "Basic secret");
    is_told(fails(builder().install(defaults).build(), ErrorKind::InvalidInput)?);
    Ok(())
}

/// A proxy would take it from a request in absolute form, and pass it on in a tunnel.
async fn a_proxy_authorization_is_refused_beside_a_proxy(cx: Context) -> Verdict {
    let server = cx.echo();
    let proxy = cx.server(http_proxy(&ProxyScript::new()));
    let builder = builder_for(cx.engine()).install(WebSockets::new());
    let client = builder.proxy(proxy.http_url("/").trim_end_matches('/').to_owned()).build()?;
    refuses_proxy_authorization(&client, &server).await?;
    assert_eq!((proxy.connections(), server.connections()), (0, 0));
    Ok(())
}

async fn refuses_proxy_authorization(client: &HttpClient, server: &Server) -> Verdict {
    let name = "Proxy-Authorization";
    let request = client.get(server.http_url("/get")).header(name, "Basic secret").send();
    is_told(fails(request.await, ErrorKind::InvalidInput)?);
    let url = server.ws_url("/echo");
    let connect = client.web_socket(url).header(name, "Basic secret").connect();
    is_told(fails(connect.await, ErrorKind::InvalidInput)?);
    Ok(())
}

fn is_told(error: drivetrain::Error) {
    assert!(error.to_string().contains("proxy-authorization"), "{error}");
    assert!(!format!("{error:?}").contains("secret"), "{error:?}");
}

/// On live calls, for all that a caller is given.
async fn what_is_printed_has_no_secret(cx: Context) -> Verdict {
    let server = cx.server(|conn| {
        EchoServer::serve_but(conn, |conn, request| {
            if request.path != "/moved" {
                return Ok(false);
            }
            let headers = [("location", "/x?code=secret#secret"), ("x-api-key", "secret")];
            conn.respond(404, &headers, "secret").map(|()| true)
        })
    });
    let client = cx.client();
    let request = client.post(server.http_url("/moved?token=secret#secret")).body("secret");
    let response = request.send().await?;
    has_no_secret(&response);
    has_no_secret(&fails(response.error_for_status().await, ErrorKind::Status)?);

    let refused = server.ws_url("/refuse?token=secret");
    let connect = client.web_socket(refused).subprotocol("secret").connect();
    has_no_secret(&fails(connect.await, ErrorKind::Rejected)?);

    let url = server.ws_url("/subprotocol?select=secret&token=secret");
    let request = client.web_socket(&url).subprotocol("secret");
    has_no_secret(&request);
    let session = request.connect().await?;
    assert_eq!(session.subprotocol(), Some("secret"));
    has_no_secret(&session);
    has_no_secret(&session.close(CloseReason::normal()).await?);
    Ok(())
}

fn has_no_secret(value: &impl std::fmt::Debug) {
    let printed = format!("{value:?} {value:#?}");
    assert!(!printed.contains("secret"), "{printed}");
}

fn client(cx: &Context, redirects: Redirects) -> Verdict<(Arc<AtomicUsize>, HttpClient)> {
    hooked(cx, builder_for(cx.engine()).redirects(redirects))
}

/// A hook that returns the token for each request, and counts.
fn hooked(cx: &Context, builder: HttpClientBuilder) -> Verdict<(Arc<AtomicUsize>, HttpClient)> {
    let calls = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&calls);
    let builder = builder.on_unauthorized(move |_| {
        counted.fetch_add(1, Ordering::Relaxed);
        async { Ok(Some(HeaderValue::from_static(TOKEN))) }
    });
    let client = match cx.offers(Capability::WebSockets) {
        true => builder.install(WebSockets::new()).build()?,
        false => builder.build()?,
    };
    Ok((calls, client))
}

/// The default server for clients with the token; it redirects all clients.
fn guarded(cx: &Context) -> Arc<Server> {
    cx.server(guard)
}

fn guard(conn: &mut Conn) -> io::Result<()> {
    EchoServer::serve_but(conn, |conn, request| {
        let is_open = request.path == "/redirect" || request.header("authorization") == Some(TOKEN);
        if !is_open {
            conn.respond(401, &[("www-authenticate", "Bearer")], "who are you?")?;
        }
        Ok(!is_open)
    })
}
