//! Go's net/http with TLS: HTTP/2, WebSockets over it, and a proxy before them.

use drivetrain::{
    Capability, CloseReason, ErrorKind, HttpClient, Protocol, Proxies, Session, http::StatusCode,
};
use futures_util::future::join_all;

use crate::site::{
    Place, Site, Verdict, close, echo, ends_with_code, ensure, fails, next, same, scenarios,
};

scenarios!(
    /// With TLS.
    EVERY:
    an_authority_that_nobody_knows_is_refused ["/root", "/says"],
    redirects_repeat_a_body ["/redirect/{code}?to"],
    headers_of_every_size ["/headers/{n}/{size}"],
    connections_that_go_away ["/bye", "/says"],
    web_sockets_with_tls ["ws:/echo"],
);

scenarios!(
    /// WebSockets over HTTP/2, on the engines that have them.
    OVER_HTTP2:
    messages_over_http2 ["ws:/echo"],
    closes_over_http2 ["ws:/echo?close"],
    a_handler_that_fails_over_http2 ["ws:/echo?fail"],
    many_sessions_over_http2 ["ws:/echo"],
    a_session_that_nobody_reads_stops_no_other ["ws:/echo?flood"],
);

scenarios!(
    /// Through a forward proxy, which wants to know who asks.
    PROXY:
    through_a_proxy ["/says"],
    web_sockets_through_a_proxy ["ws:/echo"],
    web_sockets_through_a_proxy_with_the_wrong_password ["ws:/echo"],
    through_a_proxy_with_the_wrong_password ["/says"],
);

async fn an_authority_that_nobody_knows_is_refused(site: &Site) -> Verdict {
    let client = site.untrusting()?;
    let root = client.get(site.http_at(Place::Plain, "/root")).send().await?.text().await?;
    ensure(root.contains("BEGIN CERTIFICATE"), root)?;
    fails(client.get(site.http("/says")).send().await, ErrorKind::Tls)?;
    Ok(())
}

async fn redirects_repeat_a_body(site: &Site) -> Verdict {
    for status in [307, 308] {
        let url = site.http(&format!("/redirect/{status}?to=/says"));
        let body = vec![b'x'; 300_000];
        let said = site.client.post(url).body(body).send().await?.text().await?;
        ensure(said.contains("len=300000 cl=300000"), said)?;
    }
    Ok(())
}

async fn headers_of_every_size(site: &Site) -> Verdict {
    for (count, size) in [(10, 10), (200, 20), (2, 20_000)] {
        let url = site.http(&format!("/headers/{count}/{size}"));
        let response = site.client.get(url).send().await?;
        let is_one = |name: &&drivetrain::http::HeaderName| name.as_str().starts_with("x-");
        same("how many came", response.headers().keys().filter(is_one).count(), count)?;
    }
    Ok(())
}

/// A GOAWAY behind an answer: whatever comes next goes over another connection (RFC 9113 section 6.8).
async fn connections_that_go_away(site: &Site) -> Verdict {
    for _ in 0..10 {
        let post = async || site.client.post(site.http("/says")).body("four").send().await;
        let bye = async || site.client.get(site.http("/bye")).send().await;
        let (posted, gone) = futures_util::future::join(post(), bye()).await;
        same("the status", posted?.status(), StatusCode::OK)?;
        same("the status", gone?.status(), StatusCode::OK)?;
        same("the status", post().await?.status(), StatusCode::OK)?;
    }
    Ok(())
}

async fn web_sockets_with_tls(site: &Site) -> Verdict {
    let mut session = site.open("/echo").await?;
    same("the protocol", session.protocol(), Protocol::H1)?;
    echo(&mut session, "with TLS").await?;
    close(site, &mut session).await?;
    Ok(())
}

/// A client that opens WebSockets over HTTP/2, and what it uses, as its engine says.
fn over_http2(site: &Site) -> Verdict<(HttpClient, Protocol)> {
    let client = site.over_http2()?;
    let protocol = match client.support(Capability::WebSocketOverHttp2).is_offered() {
        true => Protocol::H2,
        false => Protocol::H1,
    };
    Ok((client, protocol))
}

async fn open(site: &Site, client: &HttpClient, path: &str) -> Verdict<Session> {
    Ok(client.web_socket(site.ws(path)).connect().await?)
}

async fn messages_over_http2(site: &Site) -> Verdict {
    let (client, protocol) = over_http2(site)?;
    let mut session = open(site, &client, "/echo").await?;
    same("the protocol", session.protocol(), protocol)?;
    for size in [0, 1, 126, 65_536, 1 << 20] {
        echo(&mut session, vec![b'x'; size]).await?;
    }
    close(site, &mut session).await?;
    Ok(())
}

async fn closes_over_http2(site: &Site) -> Verdict {
    let (client, protocol) = over_http2(site)?;
    if protocol == Protocol::H2 {
        for code in [1000, 4001] {
            let mut session = open(site, &client, &format!("/echo?close={code}")).await?;
            ends_with_code(&mut session, code).await?;
        }
    } else {
        // Over HTTP/1.1 the page has no such query.
        site.leave_out();
    }
    let mut session = open(site, &client, "/echo").await?;
    let outcome = session.close(CloseReason::new(4002, "bye")?).await?;
    ensure(outcome.clean, format!("the end is not clean: {outcome}"))?;
    same("what comes then", session.receive().await?, None)
}

async fn a_handler_that_fails_over_http2(site: &Site) -> Verdict {
    let (client, protocol) = over_http2(site)?;
    if protocol == Protocol::H2 {
        let mut session = open(site, &client, "/echo?fail=1").await?;
        fails(session.receive().await, ErrorKind::Io)?;
    } else {
        site.leave_out();
    }
    echo(&mut open(site, &client, "/echo").await?, "another one").await
}

async fn many_sessions_over_http2(site: &Site) -> Verdict {
    let (client, _) = over_http2(site)?;
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
    let (client, protocol) = over_http2(site)?;
    if protocol != Protocol::H2 {
        site.leave_out();
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

fn proxied(site: &Site, password: &str) -> Verdict<HttpClient> {
    let proxy = site.proxy(&format!("user:{password}"));
    Ok(site.builder().proxy(Proxies::new().all(&*proxy)).build()?)
}

async fn through_a_proxy(site: &Site) -> Verdict {
    let client = proxied(site, "pa%3Ass")?;
    for place in [Place::Plain, Place::Tls] {
        let response = client.get(site.http_at(place, "/says")).send().await?;
        same("the status", response.status(), StatusCode::OK)?;
    }
    Ok(())
}

async fn web_sockets_through_a_proxy(site: &Site) -> Verdict {
    let client = proxied(site, "pa%3Ass")?;
    for place in [Place::Plain, Place::Tls] {
        let mut session = client.web_socket(site.ws_at(place, "/echo")).connect().await?;
        echo(&mut session, "through a proxy").await?;
        close(site, &mut session).await?;
    }
    Ok(())
}

async fn web_sockets_through_a_proxy_with_the_wrong_password(site: &Site) -> Verdict {
    let client = proxied(site, "wrong")?;
    for place in [Place::Plain, Place::Tls] {
        let refused = client.web_socket(site.ws_at(place, "/echo")).connect().await;
        let error = refused.err().ok_or("the proxy let it through")?;
        ensure(!error.is_transient(), format!("trying again does not help: {error}"))?;
    }
    Ok(())
}

/// A plain request gets the proxy's 407, one in a tunnel an error.
async fn through_a_proxy_with_the_wrong_password(site: &Site) -> Verdict {
    let client = proxied(site, "wrong")?;
    let plain = client.get(site.http_at(Place::Plain, "/says")).send().await?;
    same("the status", plain.status(), StatusCode::PROXY_AUTHENTICATION_REQUIRED)?;
    let refused = client.get(site.http("/says")).send().await;
    let error = refused.err().ok_or("the proxy let it through")?;
    ensure(!error.is_transient(), format!("trying again does not help: {error}"))
}
