//! Transient and permanent failures: the same on all engines.

use drivetrain::{Capability, Error, ErrorKind, HttpClient, Proxy, WebSockets};

use super::super::super::tls;
use crate::{
    case::{Case, case},
    context::{Context, PATIENCE, builder_for, client_for},
    expect::echoes,
    failure::{Failure, Verdict},
    peer::{EchoServer, ProxyScript, Refusal, Server, TestCa, http_proxy, socks5_proxy},
};

const NAME: &str = TestCa::PRIVATE_NAME;

/// What a proxy answers to `CONNECT`, and whether that may pass.
const REFUSALS: [(u16, bool); 8] = [
    (400, false),
    (401, false),
    (403, false),
    (407, false),
    (429, true),
    (502, true),
    (503, true),
    (504, true),
];

pub(super) fn cases() -> Vec<Case> {
    use Capability::{ConnectionReuse, Http1, Proxies, SocksProxies, Tls, WebSockets};
    let mut cases = Vec::new();
    let mut add = |name: String, case: Case, needs: &[Capability]| {
        cases.push(case.named("reports::handshake", name).needs(needs));
    };
    let schemes =
        [("ws", vec![WebSockets]), ("wss", vec![WebSockets, Tls]), ("https", vec![Http1, Tls])];
    for (scheme, needs) in schemes {
        let proxies = [needs, vec![Proxies]].concat();
        for (status, passes) in REFUSALS {
            let name = format!("a_proxys_{status}_for_{scheme}_has_its_status");
            add(name, case(move |cx| a_proxy_refuses(cx, scheme, status, passes)), &proxies);
        }
        for status in ["200", "204", "299 Whatever"] {
            let name = format!("a_proxys_{}_for_{scheme}_is_a_tunnel", &status[..3]);
            // It counts the connections of requests.
            let reuses = (scheme == "https").then_some(ConnectionReuse);
            let needs: Vec<_> = proxies.iter().copied().chain(reuses).collect();
            add(name, case(move |cx| a_proxy_agrees(cx, scheme, status)), &needs);
        }
        let name = format!("a_proxys_300_fields_for_{scheme}_are_too_big");
        let answer =
            || "HTTP/1.1 200 OK\r\n".to_owned() + &"x-field: value\r\n".repeat(300) + "\r\n";
        let too_big = (ErrorKind::TooBig, "max_headers");
        add(name, case(move |cx| a_proxy_answers(cx, scheme, answer(), too_big)), &proxies);
        let name = format!("a_proxy_without_http_for_{scheme}_is_not_transient");
        let answer = || "SSH-2.0-OpenSSH_9.2\r\n\r\n".to_owned();
        let no_http = (ErrorKind::Connect, "does not answer in HTTP");
        add(name, case(move |cx| a_proxy_answers(cx, scheme, answer(), no_http)), &proxies);
    }
    let schemes = [
        ("ws", vec![WebSockets]),
        ("wss", vec![WebSockets, Tls]),
        ("https", vec![Http1, Tls]),
        ("http", vec![Http1]),
    ];
    for (scheme, needs) in schemes {
        let socks = [needs, vec![SocksProxies]].concat();
        let name = format!("a_socks5_proxys_refusals_for_{scheme}_are_told_apart");
        add(name, case(move |cx| socks_refuses(cx, scheme)), &socks);
    }
    for (scheme, needs) in [("https", [Http1, Tls]), ("wss", [WebSockets, Tls])] {
        let name = format!("{scheme}_that_tls_refuses_is_not_transient");
        add(name, case(move |cx| tls_refuses(cx, scheme)), &needs);
        let name = format!("{scheme}_without_a_client_certificate_is_not_transient");
        add(name, case(move |cx| a_certificate_is_missing(cx, scheme)), &needs);
    }
    cases
}

fn target(cx: &Context, scheme: &str) -> (TestCa, std::sync::Arc<Server>) {
    match scheme {
        "wss" | "https" => tls::echo_tls(cx),
        _ => (TestCa::new(), cx.echo()),
    }
}

fn client(cx: &Context, ca: &TestCa, scheme: &str, proxy: Proxy) -> Verdict<HttpClient> {
    let engine = match scheme {
        "wss" | "https" => tls::trusting(cx, ca)?,
        _ => cx.engine(),
    };
    let builder = builder_for(engine).proxy(proxy);
    Ok(match scheme {
        "http" | "https" => builder.build()?,
        _ => builder.install(WebSockets::new()).build()?,
    })
}

async fn fails_to_connect(client: &HttpClient, url: &str) -> Verdict<Error> {
    let result = match url.starts_with("ws") {
        true => client.web_socket(url).connect().await.map(drop),
        false => client.get(url).send().await.map(drop),
    };
    result.err().ok_or_else(|| Failure::new("it worked"))
}

/// The error is one of connecting, and it has the proxy's answer.
async fn a_proxy_refuses(cx: Context, scheme: &'static str, status: u16, passes: bool) -> Verdict {
    let (ca, server) = target(&cx, scheme);
    let script = ProxyScript::new().knowing(NAME, server.addr()).failing(Refusal::Status(status));
    let proxy = cx.server(http_proxy(&script));
    let client = client(&cx, &ca, scheme, Proxy::http("127.0.0.1", proxy.addr().port())?)?;
    let url = format!("{scheme}://{NAME}:{}/echo", server.addr().port());
    let error = fails_to_connect(&client, &url).await?;
    assert_eq!(error.kind(), ErrorKind::Connect, "{error:?}");
    let seen = error.response().map(|response| response.status().as_u16());
    assert_eq!(seen, Some(status), "{error:?}");
    assert_eq!(error.is_transient(), passes, "{error:?}");
    let text = format!("the proxy {} refused the tunnel with {status}", proxy.addr());
    assert!(error.to_string().starts_with(&text), "{error}");
    Ok(())
}

/// The error says what is wrong with the answer, and that it will not change.
async fn a_proxy_answers(
    cx: Context,
    scheme: &'static str,
    answer: String,
    (kind, says): (ErrorKind, &str),
) -> Verdict {
    let (ca, _server) = target(&cx, scheme);
    let proxy = cx.server(move |conn| {
        conn.read_request()?;
        conn.write_all(answer.as_bytes())
    });
    let client = client(&cx, &ca, scheme, Proxy::http("127.0.0.1", proxy.addr().port())?)?;
    let error = fails_to_connect(&client, &format!("{scheme}://{NAME}:1/echo")).await?;
    assert_eq!((error.kind(), error.is_transient()), (kind, false), "{error:?}");
    assert!(error.to_string().contains(says), "{error}");
    Ok(())
}

/// Any 2xx opens the tunnel (RFC 9110 section 9.3.6), whatever fields it has.
async fn a_proxy_agrees(cx: Context, scheme: &'static str, status: &'static str) -> Verdict {
    let (ca, server) = target(&cx, scheme);
    let upstream = server.addr();
    let proxy = cx.server(move |conn| {
        conn.read_request()?;
        let head = format!("HTTP/1.1 {status}\r\ncontent-length: 5\r\n\r\n");
        conn.write_all(head.as_bytes())?;
        conn.relay(&std::net::TcpStream::connect(upstream)?)
    });
    let client = client(&cx, &ca, scheme, Proxy::http("127.0.0.1", proxy.addr().port())?)?;
    if scheme == "https" {
        for _ in 0..5 {
            let sending = client.get(format!("{scheme}://{NAME}:1/get")).send();
            let response = cx.within(PATIENCE, "the tunnel opens", sending).await??;
            assert_eq!(response.text().await?, "get");
        }
        // On a busy machine a request may come before the connection of the last one is back.
        assert!(proxy.connections() < 5, "a connection is kept for a later request");
        return Ok(());
    }
    let connect = client.web_socket(format!("{scheme}://{NAME}:1/echo")).connect();
    let mut session = cx.within(PATIENCE, "the tunnel opens", connect).await??;
    echoes(&mut session, "through the tunnel").await
}

/// Wrong credentials and a rule stay; a host that is not there now may come.
async fn socks_refuses(cx: Context, scheme: &'static str) -> Verdict {
    let (ca, server) = target(&cx, scheme);
    let script = ProxyScript::new();
    let rows = [
        (script.clone().failing(Refusal::Status(403)), false),
        (script.clone().with_credentials("somebody", "else"), false),
        // It does not know the name.
        (script, true),
    ];
    for (script, passes) in rows {
        let socks = cx.server(socks5_proxy(&script));
        let proxy = Proxy::socks5("127.0.0.1", socks.addr().port())?;
        for proxy in [proxy.clone(), proxy.basic_auth("user", "password")?] {
            let client = client(&cx, &ca, scheme, proxy)?;
            let url = format!("{scheme}://{NAME}:{}/echo", server.addr().port());
            let error = fails_to_connect(&client, &url).await?;
            assert_eq!(error.kind(), ErrorKind::Connect, "{error:?}");
            // Unrequested credentials change nothing.
            assert_eq!(error.is_transient(), passes, "{error:?}");
            let text = format!("the proxy {} did not open the tunnel: ", socks.addr());
            assert!(error.to_string().starts_with(&text), "{error}");
        }
    }
    Ok(())
}

/// An issuer that is not known, a name that the certificate does not have, and a server that finds nothing
/// to agree on.
async fn tls_refuses(cx: Context, scheme: &'static str) -> Verdict {
    const STRANGE: &str = "stranger.invalid";
    /// A fatal `handshake_failure` (RFC 8446 section 6.2).
    const ALERT: &[u8] = &[21, 3, 3, 0, 2, 2, 40];
    let (ca, server) = target(&cx, scheme);
    let alert = cx.server(|conn| {
        conn.read_some(&mut [0; 512])?;
        conn.write_all(ALERT)
    });
    let url = |host: &str, server: &Server| format!("{scheme}://{host}:{}/", server.addr().port());
    let mut rows = vec![
        (client_for(tls::trusting(&cx, &TestCa::new())?), url("localhost", &server)),
        (client_for(tls::trusting(&cx, &ca)?), url("localhost", &alert)),
    ];
    if cx.offers(Capability::Proxies) {
        let script = ProxyScript::new().knowing(STRANGE, server.addr());
        let proxy = cx.server(http_proxy(&script));
        let proxy = Proxy::http("127.0.0.1", proxy.addr().port())?;
        rows.push((client(&cx, &ca, scheme, proxy)?, url(STRANGE, &server)));
    }
    for (client, url) in rows {
        let error = fails_to_connect(&client, &url).await?;
        assert_eq!(error.kind(), ErrorKind::Tls, "{error:?}");
        assert!(!error.is_transient(), "{error:?}");
        let place = url.split('/').nth(2).unwrap_or_default();
        assert!(error.to_string().starts_with(&format!("TLS with {place} failed: ")), "{error}");
    }
    Ok(())
}

/// The server's alert, which with TLS 1.3 comes when the client thinks that all is well.
async fn a_certificate_is_missing(cx: Context, scheme: &'static str) -> Verdict {
    let ca = TestCa::new();
    let server = cx.keep(Server::start_mutual_tls(EchoServer::serve, &ca));
    let client = client_for(tls::trusting(&cx, &ca)?);
    let url = format!("{scheme}://localhost:{}/echo", server.addr().port());
    let error = fails_to_connect(&client, &url).await?;
    assert_eq!(error.kind(), ErrorKind::Tls, "{error:?}");
    assert!(!error.is_transient(), "{error:?}");
    Ok(())
}
