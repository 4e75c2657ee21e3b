//! Go's net/http with TLS: HTTP/2, WebSockets over it, and a proxy before them.

use drivetrain::{
    Capability, CloseReason, ErrorKind, HttpClient, HttpClientBuilder, Protocol, Proxies, Session,
    http::{StatusCode, Version},
};
use futures_util::future::join_all;

use crate::{
    engines::Options,
    site::{Site, Verdict, close, echo, ends_with_code, ensure, fails, next, same, scenarios},
};

scenarios!(EVERY:
    an_authority_that_nobody_knows_is_refused,
    requests_over_http2,
    uploads_that_are_refused_early,
    bodies_over_http2,
    headers_over_http2,
    connections_that_go_away,
    gzip_over_http2,
    web_sockets_with_tls,
);

scenarios!(OVER_HTTP2:
    messages_over_http2,
    closes_over_http2,
    a_handler_that_fails_over_http2,
    many_sessions_over_http2,
    a_session_that_nobody_reads_stops_no_other,
);

scenarios!(PROXY: through_a_proxy, through_a_proxy_with_the_wrong_password);

const TLS: usize = 1;
const PROXY_PORT: usize = 2;

fn url(site: &Site, path: &str) -> String {
    format!("https://localhost:{}{path}", site.port(TLS))
}

async fn trusting(site: &Site, over_http2: bool) -> Verdict<HttpClientBuilder> {
    let options = Options::trusting_pem(site.get("/root").await?.into_bytes());
    site.configured(&if over_http2 { options.over_http2() } else { options })
}

async fn client(site: &Site) -> Verdict<HttpClient> {
    Ok(trusting(site, false).await?.build()?)
}

async fn an_authority_that_nobody_knows_is_refused(site: &Site) -> Verdict {
    fails(site.client.get(url(site, "/says")).send().await, ErrorKind::Tls)?;
    Ok(())
}

async fn requests_over_http2(site: &Site) -> Verdict {
    let client = client(site).await?;
    let expected = match client.support(Capability::Http2).is_offered() {
        true => Version::HTTP_2,
        false => Version::HTTP_11,
    };
    for _ in 0..3 {
        let response = client.get(url(site, "/early")).send().await?;
        same("the version", response.version(), expected)?;
        ensure(response.text().await?.starts_with("GET HTTP/"), "it is not what was sent")?;
    }
    let said = client.post(url(site, "/says")).body("four").send().await?.text().await?;
    ensure(said.contains("len=4 cl=4"), said)?;
    for status in [307, 308] {
        let path = format!("/redirect/{status}?to=/says");
        let said = client.post(url(site, &path)).body("four").send().await?.text().await?;
        ensure(said.contains("len=4 cl=4"), said)?;
    }
    Ok(())
}

async fn uploads_that_are_refused_early(site: &Site) -> Verdict {
    let client = client(site).await?;
    for (path, status) in [("/refuses", 403), ("/413", 413)] {
        for _ in 0..10 {
            let request = client.post(url(site, path)).body(vec![0; 4 << 20]);
            same("the status", request.send().await?.status().as_u16(), status)?;
        }
    }
    Ok(())
}

async fn bodies_over_http2(site: &Site) -> Verdict {
    let client = client(site).await?;
    let get = async |path: &str| client.get(url(site, path)).send().await?.bytes().await;
    same("the body", get("/trailers").await?, "piece 0;piece 1;piece 2;")?;
    same("the body", get("/chunks/4?ms=5").await?, "0\n1\n2\n3\n")?;
    same("the length", get("/bytes/3000000").await?.len(), 3_000_000)?;
    fails(get("/cut-chunks").await, ErrorKind::Io)?;
    Ok(())
}

async fn headers_over_http2(site: &Site) -> Verdict {
    let client = client(site).await?;
    for (count, size) in [(10, 10), (200, 20), (2, 20_000)] {
        let response = client.get(url(site, &format!("/headers/{count}/{size}"))).send().await?;
        let is_one = |name: &&drivetrain::http::HeaderName| name.as_str().starts_with("x-");
        same("how many came", response.headers().keys().filter(is_one).count(), count)?;
    }
    Ok(())
}

/// A GOAWAY behind an answer: whatever comes next goes over another connection (RFC 9113 section 6.8).
async fn connections_that_go_away(site: &Site) -> Verdict {
    let client = client(site).await?;
    for _ in 0..10 {
        let post = async || client.post(url(site, "/says")).body("four").send().await;
        let bye = async || client.get(url(site, "/bye")).send().await;
        let (posted, gone) = futures_util::future::join(post(), bye()).await;
        same("the status", posted?.status(), StatusCode::OK)?;
        same("the status", gone?.status(), StatusCode::OK)?;
        same("the status", post().await?.status(), StatusCode::OK)?;
    }
    Ok(())
}

async fn gzip_over_http2(site: &Site) -> Verdict {
    let client = client(site).await?;
    let body = client.get(url(site, "/gzip?members=1")).send().await?.bytes().await?;
    ensure(!body.is_empty(), "nothing came")
}

async fn web_sockets_with_tls(site: &Site) -> Verdict {
    let wss = url(site, "/echo").replacen("https", "wss", 1);
    let mut session = client(site).await?.web_socket(wss).connect().await?;
    same("the protocol", session.protocol(), Protocol::H1)?;
    echo(&mut session, "with TLS").await?;
    close(site, &mut session).await?;
    Ok(())
}

/// A client that opens WebSockets over HTTP/2, and what it uses, as its engine says.
async fn over_http2(site: &Site) -> Verdict<(HttpClient, Protocol)> {
    let client = trusting(site, true).await?.build()?;
    let protocol = match client.support(Capability::WebSocketOverHttp2).is_offered() {
        true => Protocol::H2,
        false => Protocol::H1,
    };
    Ok((client, protocol))
}

async fn open(site: &Site, client: &HttpClient, path: &str) -> Verdict<Session> {
    let wss = url(site, path).replacen("https", "wss", 1);
    Ok(client.web_socket(wss).connect().await?)
}

async fn messages_over_http2(site: &Site) -> Verdict {
    let (client, protocol) = over_http2(site).await?;
    let mut session = open(site, &client, "/echo").await?;
    same("the protocol", session.protocol(), protocol)?;
    for size in [0, 1, 126, 65_536, 1 << 20] {
        echo(&mut session, vec![b'x'; size]).await?;
    }
    close(site, &mut session).await?;
    Ok(())
}

async fn closes_over_http2(site: &Site) -> Verdict {
    let (client, _) = over_http2(site).await?;
    if client.support(Capability::WebSocketOverHttp2).is_offered() {
        for code in [1000, 4001] {
            let mut session = open(site, &client, &format!("/echo?close={code}")).await?;
            ends_with_code(&mut session, code).await?;
        }
    }
    let mut session = open(site, &client, "/echo").await?;
    let outcome = session.close(CloseReason::new(4002, "bye")?).await?;
    ensure(outcome.clean, format!("the end is not clean: {outcome}"))?;
    same("what comes then", session.receive().await?, None)
}

async fn a_handler_that_fails_over_http2(site: &Site) -> Verdict {
    let (client, protocol) = over_http2(site).await?;
    if protocol == Protocol::H2 {
        let mut session = open(site, &client, "/echo?fail=1").await?;
        fails(session.receive().await, ErrorKind::Io)?;
    }
    echo(&mut open(site, &client, "/echo").await?, "another one").await
}

async fn many_sessions_over_http2(site: &Site) -> Verdict {
    let (client, _) = over_http2(site).await?;
    let one = async |number: usize| -> Verdict {
        let mut session = open(site, &client, "/echo").await?;
        echo(&mut session, format!("number {number}")).await?;
        close(site, &mut session).await?;
        Ok(())
    };
    for result in join_all((0..120).map(one)).await {
        result?;
    }
    Ok(())
}

/// RFC 9113 section 5.2: a connection's window is shared.
async fn a_session_that_nobody_reads_stops_no_other(site: &Site) -> Verdict {
    let (client, protocol) = over_http2(site).await?;
    if protocol != Protocol::H2 {
        return Ok(());
    }
    let mut unread = Vec::new();
    for _ in 0..30 {
        unread.push(open(site, &client, "/echo?flood=20").await?);
    }
    let mut session = open(site, &client, "/echo").await?;
    let spoken = async {
        for _ in 0..20 {
            echo(&mut session, vec![b'x'; 50_000]).await?;
        }
        Verdict::Ok(())
    };
    site.within(std::time::Duration::from_secs(60), spoken).await??;
    for session in &mut unread {
        next(session).await?;
    }
    Ok(())
}

fn proxied(site: &Site, password: &str) -> Verdict<Proxies> {
    let proxy = format!("http://user:{password}@127.0.0.1:{}", site.port(PROXY_PORT));
    Ok(Proxies::new().all(&*proxy))
}

async fn through_a_proxy(site: &Site) -> Verdict {
    let builder = trusting(site, false).await?;
    let client = builder.proxy(proxied(site, "pa%3Ass")?).build()?;
    same("the status", client.get(site.http("/says")).send().await?.status(), StatusCode::OK)?;
    same("the status", client.get(url(site, "/says")).send().await?.status(), StatusCode::OK)?;
    for target in [site.ws("/echo"), url(site, "/echo").replacen("https", "wss", 1)] {
        let mut session = client.web_socket(target).connect().await?;
        echo(&mut session, "through a proxy").await?;
        close(site, &mut session).await?;
    }
    Ok(())
}

async fn through_a_proxy_with_the_wrong_password(site: &Site) -> Verdict {
    let client = site.builder().proxy(proxied(site, "wrong")?).build()?;
    let refused = client.web_socket(site.ws("/echo")).connect().await;
    let error = refused.err().ok_or("the proxy let it through")?;
    ensure(!error.is_transient(), format!("trying again does not help: {error}"))
}
