//! Header names as RFC 6455 spells them, for servers that compare bytes.

use std::io;

use drivetrain::{Capability, HttpClient, Proxy, WebSocketRequest, WebSockets};

use crate::{
    case::{Case, case},
    context::{Context, builder_for, client_for},
    failure::{Failure, Verdict},
    peer::{Conn, ProxyScript, Server, TestCa, http_proxy, socks5_proxy},
    stream::CountedStream,
};

const NAME: &str = TestCa::PRIVATE_NAME;

/// The way to the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Direct,
    HttpProxy,
    Socks,
}

pub(super) fn cases() -> Vec<Case> {
    use Capability::{
        CallerStream, HandshakeHeaders, Http1, Proxies, SocksProxies, Subprotocols, Tls,
    };
    let mut cases = Vec::new();
    let ways = [
        ("directly", Way::Direct, None),
        ("through_an_http_proxy", Way::HttpProxy, Some(Proxies)),
        ("through_a_socks5_proxy", Way::Socks, Some(SocksProxies)),
    ];
    for (how, way, capability) in ways {
        for secure in [false, true] {
            let scheme = if secure { "wss" } else { "ws" };
            let case = case(move |cx| names_are_as_usual(cx, way, secure))
                .named("reports::handshake", format_args!("{scheme}_spells_its_headers_{how}"))
                .needs(&capability.into_iter().collect::<Vec<_>>());
            cases.push(if secure { case.needs(&[Tls]) } else { case });
        }
    }
    cases.push(
        case(names_are_as_usual_over_a_stream)
            .named("reports::handshake", "ws_spells_its_headers_over_a_stream_of_the_callers")
            .needs(&[CallerStream]),
    );
    let mut cases: Vec<_> = cases
        .into_iter()
        .map(|case| case.needs(&[Capability::WebSockets, HandshakeHeaders, Subprotocols]))
        .collect();
    cases.push(
        case(names_of_a_request_are_as_usual)
            .named("reports::handshake", "http_spells_its_headers")
            .needs(&[Http1]),
    );
    cases
}

/// The usual spelling of every name that a case sends.
const USUAL: [&str; 16] = [
    "Host",
    "Upgrade",
    "Connection",
    "Sec-WebSocket-Key",
    "Sec-WebSocket-Version",
    "Sec-WebSocket-Protocol",
    "Sec-WebSocket-Extensions",
    "Authorization",
    "Cookie",
    "Origin",
    "User-Agent",
    "X-Api-Key",
    "Accept",
    "Accept-Encoding",
    "Content-Length",
    "Content-Type",
];

/// Answers 400 to a client that spells a name in another way, as a server that compares bytes does.
fn strict(conn: &mut Conn) -> io::Result<()> {
    let request = conn.read_request()?.ok_or(io::ErrorKind::UnexpectedEof)?;
    let names = request.headers.iter().map(|(name, _)| name.as_str());
    let wrong: Vec<_> = names.filter(|name| !USUAL.contains(name)).collect();
    if !wrong.is_empty() {
        return conn.respond(400, &[], format!("these are not known: {wrong:?}"));
    }
    if !request.is_web_socket() {
        return conn.respond(200, &[], "well spelled");
    }
    conn.accept(&request, &[])?;
    conn.drain()
}

async fn opens(client: &HttpClient, url: &str, with_extension: bool) -> Verdict {
    let request = || {
        let request = client.web_socket(url).header("origin", "https://example.com");
        let request = request.header("cookie", "a=b").header("user-agent", "test");
        request.header("x-api-key", "k").bearer_auth("t").subprotocol("a").subprotocol("b")
    };
    fn told(error: drivetrain::Error) -> Failure {
        let body = error.response().map(|response| response.body().clone());
        Failure::new(format_args!("{error:?}: {body:?}"))
    }
    request().connect().await.map_err(told)?;
    if with_extension {
        let raw: WebSocketRequest = request().offer_extension("x-test");
        raw.connect_raw().await.map_err(told)?;
    }
    Ok(())
}

async fn names_are_as_usual(cx: Context, way: Way, secure: bool) -> Verdict {
    let ca = TestCa::new();
    let server = cx.keep(match secure {
        true => Server::start_tls(strict, &ca),
        false => Server::start(strict),
    });
    let script = ProxyScript::new().knowing(NAME, server.addr());
    let engine = match secure {
        true => cx.engine_with_root(&ca).ok_or_else(|| Failure::new("it has no TLS"))?,
        false => cx.engine(),
    };
    let scheme = if secure { "wss" } else { "ws" };
    let far = format!("{scheme}://{NAME}:{}/", server.addr().port());
    let builder = builder_for(engine).install(WebSockets::new());
    let (client, url) = match way {
        Way::Direct => (builder.build()?, server.ws_url("/")),
        Way::HttpProxy => {
            let proxy = cx.server(http_proxy(&script));
            (builder.proxy(Proxy::http("127.0.0.1", proxy.addr().port())?).build()?, far)
        }
        Way::Socks => {
            let proxy = cx.server(socks5_proxy(&script));
            (builder.proxy(Proxy::socks5("127.0.0.1", proxy.addr().port())?).build()?, far)
        }
    };
    let has = [Capability::RawSessions, Capability::RsvBits].iter().all(|&it| cx.offers(it));
    opens(&client, &url, has).await
}

async fn names_are_as_usual_over_a_stream(cx: Context) -> Verdict {
    let server = cx.server(strict);
    let stream = CountedStream::connect(server.addr())?;
    let engine = cx.engine_over(stream).ok_or_else(|| Failure::new("it takes no stream"))?;
    let request = client_for(engine).web_socket("ws://example.com/").subprotocol("a");
    request.header("cookie", "a=b").header("x-api-key", "k").connect().await?;
    Ok(())
}

async fn names_of_a_request_are_as_usual(cx: Context) -> Verdict {
    let server = cx.server(strict);
    let client = cx.client();
    let request = client.post(server.http_url("/")).header("x-api-key", "k").bearer_auth("t");
    let request = request.header("content-type", "text/plain").header("cookie", "a=b");
    assert_eq!(request.body("some").send().await?.text().await?, "well spelled");
    Ok(())
}
