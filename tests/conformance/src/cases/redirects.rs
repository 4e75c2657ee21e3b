//! Redirects, of requests and of handshakes.

use drivetrain::{Body, Capability, ErrorKind, HttpClient, Redirects, http::HeaderValue};
use http_body_util::StreamBody;

use super::{
    http::description,
    tls::{echo_tls, trusting},
};
use crate::{
    case::{Case, case},
    context::{Context, builder_for, client_for},
    expect::{echoes, fails},
    failure::{Failure, Verdict},
};

pub(super) fn cases() -> Vec<Case> {
    use Capability::{HandshakeHeaders, Http1, Subprotocols, Tls, WebSockets};
    let mut cases = vec![
        case(a_request_follows).needs(&[Http1]),
        case(a_request_follows_to_another_server).needs(&[Http1]),
        case(too_many_are_an_error).needs(&[Http1]),
        case(none_makes_one_a_response).needs(&[Http1]),
        case(none_makes_one_a_refusal).needs(&[WebSockets]),
        case(a_handshake_follows).needs(&[WebSockets, HandshakeHeaders, Subprotocols]),
        case(a_handshake_follows_too_many).needs(&[WebSockets]),
        case(a_handshake_follows_to_tls).needs(&[WebSockets, Tls]),
        case(tls_is_not_given_up_unasked).needs(&[Http1, WebSockets, Tls]),
        case(credentials_stay_with_their_origin).needs(&[Http1, WebSockets, HandshakeHeaders]),
        case(a_location_that_leads_nowhere_is_not_followed).needs(&[Http1]),
        case(userinfo_in_a_location_is_basic_auth).needs(&[Http1]),
        case(a_body_that_streams_is_not_repeated).needs(&[Http1]),
    ];
    for (status, given, sent, body) in [
        (301, "POST", "GET", ""),
        (302, "POST", "GET", ""),
        (303, "POST", "GET", ""),
        (303, "PUT", "GET", ""),
        (307, "POST", "POST", "twice"),
        (308, "PUT", "PUT", "twice"),
    ] {
        let case = case(move |cx| methods_change(cx, status, given, sent, body));
        let name = format_args!("{status}_makes_{sent}_of_{given}").to_string();
        cases.push(case.named("redirects", name).needs(&[Http1]));
    }
    cases
}

/// Several in a row, absolute and relative; the response says where it came from.
async fn a_request_follows(cx: Context) -> Verdict {
    let server = cx.echo();
    let third = server.http_url("/get");
    let second = format!("/redirect?status=307&to={third}");
    let response = cx
        .client()
        .get(server.http_url(&format!("/redirect?to={}", escaped(&second))))
        .send()
        .await?;
    assert_eq!((response.status().as_u16(), server.requests()), (200, 3));
    assert_eq!(response.url().as_str(), third);
    assert_eq!(response.text().await?, "get");
    Ok(())
}

/// The location is another server.
async fn a_request_follows_to_another_server(cx: Context) -> Verdict {
    let (first, second) = (cx.echo(), cx.echo());
    let to = first.http_url(&format!("/redirect?to={}", second.http_url("/get")));
    assert_eq!(cx.client().get(to).send().await?.text().await?, "get");
    assert_eq!((first.requests(), second.requests()), (1, 1));
    Ok(())
}

/// As many as the limit says are followed, one more is an error.
async fn too_many_are_an_error(cx: Context) -> Verdict {
    let server = cx.server(|conn| {
        while conn.read_request()?.is_some() {
            conn.respond(302, &[("location", "/again")], "")?;
        }
        Ok(())
    });
    let error = fails(cx.client().get(server.http_url("/")).send().await, ErrorKind::Protocol)?;
    assert!(error.to_string().contains("more than 10"), "{error}");
    assert_eq!(server.requests(), 11);

    let client = limited(&cx, Redirects::new().limit(0))?;
    fails(client.get(server.http_url("/")).send().await, ErrorKind::Protocol)?;
    assert_eq!(server.requests(), 12);
    Ok(())
}

/// Switched off, a redirect is a response like any other.
async fn none_makes_one_a_response(cx: Context) -> Verdict {
    let server = cx.echo();
    let client = limited(&cx, Redirects::none())?;
    let response = client.get(server.http_url("/redirect?to=/get")).send().await?;
    assert_eq!((response.status().as_u16(), server.requests()), (302, 1));
    assert_eq!(response.headers()["location"], "/get");
    Ok(())
}

/// Switched off, a redirect refuses a handshake, with its `Location`.
async fn none_makes_one_a_refusal(cx: Context) -> Verdict {
    let server = cx.echo();
    let client = limited(&cx, Redirects::none())?;
    let connect = client.web_socket(server.ws_url("/redirect?to=/echo")).connect();
    let error = fails(connect.await, ErrorKind::Rejected)?;
    let response = error.response().ok_or_else(|| Failure::new("it has no response"))?;
    assert_eq!((response.status().as_u16(), server.requests()), (302, 1));
    assert_eq!(response.headers()["location"], "/echo");
    Ok(())
}

/// To a path, to `ws` and to `http`, with the subprotocol and the caller's headers.
async fn a_handshake_follows(cx: Context) -> Verdict {
    for status in [301, 302, 303, 307, 308] {
        let (first, second) = (cx.echo(), cx.echo());
        for to in
            ["/subprotocol?select=chat".into(), second.ws_url("/echo"), second.http_url("/echo")]
        {
            let path = format!("/redirect?status={status}&to={}", escaped(&to));
            let request = cx.client().web_socket(first.ws_url(&path)).header("x-mine", "here");
            let mut session = request.subprotocol("chat").connect().await?;
            if to.starts_with('/') {
                assert_eq!(session.subprotocol(), Some("chat"), "after {status} to {to}");
            } else {
                echoes(&mut session, "hello").await?;
            }
            session.close(drivetrain::CloseReason::normal()).await?;
        }
    }
    Ok(())
}

/// A handshake has the same limit.
async fn a_handshake_follows_too_many(cx: Context) -> Verdict {
    let server = cx.server(|conn| {
        while conn.read_request()?.is_some() {
            conn.respond(302, &[("location", "/again")], "")?;
        }
        Ok(())
    });
    let connect = cx.client().web_socket(server.ws_url("/")).connect();
    fails(connect.await, ErrorKind::Protocol)?;
    assert_eq!(server.requests(), 11);
    Ok(())
}

/// `ws` to `wss`, and to `https`, which is the same.
async fn a_handshake_follows_to_tls(cx: Context) -> Verdict {
    let plain = cx.echo();
    let (ca, secure) = echo_tls(&cx);
    let client = client_for(trusting(&cx, &ca)?);
    for to in [secure.ws_url("/echo"), secure.http_url("/echo")] {
        let url = plain.ws_url(&format!("/redirect?to={to}"));
        let mut session = client.web_socket(url).connect().await?;
        echoes(&mut session, "hello").await?;
        session.close(drivetrain::CloseReason::normal()).await?;
    }
    assert_eq!(secure.requests(), 2);
    Ok(())
}

/// From TLS to none is an error, and nothing reaches the plain server, unless it was allowed.
async fn tls_is_not_given_up_unasked(cx: Context) -> Verdict {
    let plain = cx.echo();
    let (ca, secure) = echo_tls(&cx);
    let client = client_for(trusting(&cx, &ca)?);
    let request = secure.http_url(&format!("/redirect?to={}", plain.http_url("/get")));
    let handshake = secure.ws_url(&format!("/redirect?to={}", plain.ws_url("/echo")));
    let error = fails(client.get(&request).send().await, ErrorKind::Protocol)?;
    assert!(error.to_string().contains("allow_https_downgrade"), "{error}");
    fails(client.web_socket(&handshake).connect().await, ErrorKind::Protocol)?;
    assert_eq!(plain.connections(), 0);

    let client = builder_for(trusting(&cx, &ca)?)
        .install(drivetrain::WebSockets::new())
        .redirects(Redirects::new().allow_https_downgrade(true))
        .build()?;
    assert_eq!(client.get(request).send().await?.text().await?, "get");
    let mut session = client.web_socket(handshake).connect().await?;
    echoes(&mut session, "hello").await?;
    session.close(drivetrain::CloseReason::normal()).await?;
    Ok(())
}

/// `Authorization`, `Cookie`, `Host` and sensitive headers stay within an origin, and do not go to
/// another, nor from there on.
async fn credentials_stay_with_their_origin(cx: Context) -> Verdict {
    let (first, second) = (cx.echo(), cx.echo());
    let within = first.http_url("/redirect?to=/anything");
    let request = cx.client().get(&within).bearer_auth("secret").header("cookie", "a=secret");
    let seen = description(request).await?;
    assert_eq!(seen["headers"]["authorization"][0], "Bearer secret");
    assert_eq!(seen["headers"]["cookie"][0], "a=secret");

    let twice = second.http_url("/redirect?to=/anything");
    let away = first.http_url(&format!("/redirect?to={}", escaped(&twice)));
    let mut key = HeaderValue::from_static("secret");
    key.set_sensitive(true);
    let request = cx.client().get(&away).bearer_auth("secret").header("cookie", "a=secret");
    let request = request.header("x-mine", "here").header("x-api-key", key.clone());
    let seen = description(request.header("host", "secret.example")).await?;
    assert_eq!(seen["headers"]["x-mine"][0], "here");
    assert!(!seen.to_string().contains("secret"), "{seen}");

    let twice = second.ws_url("/redirect?to=/headers");
    let away = first.ws_url(&format!("/redirect?to={}", escaped(&twice)));
    let request = cx.client().web_socket(away).bearer_auth("secret").header("x-api-key", key);
    let mut session = request.connect().await?;
    let seen = crate::expect::text(&mut session).await?;
    assert!(!seen.contains("secret"), "{seen}");
    session.close(drivetrain::CloseReason::normal()).await?;
    Ok(())
}

/// Without a connection to the location, the redirect is the response or an error.
async fn a_location_that_leads_nowhere_is_not_followed(cx: Context) -> Verdict {
    let long = format!("/{}", "x".repeat(70_000));
    let locations = [
        "javascript:alert(1)",
        "file:///etc/passwd",
        "data:text/plain,x",
        "mailto:a@127.0.0.1",
        "ftp://127.0.0.1/",
        "http://",
        "http://[::1",
        "http://a b/",
        &long,
    ];
    for location in locations {
        let sent = location.to_owned();
        let server = cx.server(move |conn| {
            conn.read_request()?;
            conn.respond(302, &[("location", &sent)], "")
        });
        let what = &location[..location.len().min(30)];
        match cx.client().get(server.http_url("/")).send().await {
            Ok(response) => assert_eq!(response.status(), 302, "{what}"),
            Err(error) => {
                let is_told = matches!(error.kind(), ErrorKind::Protocol | ErrorKind::TooBig);
                assert!(is_told, "{what}: {error:?}");
            }
        }
        assert_eq!(server.requests(), 1, "{what}");
        if cx.offers(Capability::WebSockets) {
            let connect = cx.client().web_socket(server.ws_url("/")).connect().await;
            let kind = connect.err().map(|error| error.kind());
            use ErrorKind::{Protocol, Rejected, TooBig};
            let is_told = matches!(kind, Some(Rejected | Protocol | TooBig));
            assert!(is_told, "{what}: {kind:?}");
        }
    }
    // A request does not become a WebSocket.
    let server = cx.echo();
    let to_ws = server.http_url(&format!("/redirect?to={}", server.ws_url("/echo")));
    fails(cx.client().get(to_ws).send().await, ErrorKind::Protocol)?;
    Ok(())
}

/// Credentials in a location are sent as basic authentication to their origin, and never printed.
async fn userinfo_in_a_location_is_basic_auth(cx: Context) -> Verdict {
    let (first, second) = (cx.echo(), cx.echo());
    let to = second.http_url("/anything").replace("http://", "http://me:pass@");
    let url = first.http_url(&format!("/redirect?to={to}"));
    let response = cx.client().get(url).bearer_auth("secret").send().await?;
    assert!(!format!("{response:?}").contains("pass"), "{response:?}");
    let seen: serde_json::Value = response.json().await?;
    assert_eq!(seen["headers"]["authorization"][0], "Basic bWU6cGFzcw==");
    Ok(())
}

/// What cannot be sent again leaves the redirect as the response.
async fn a_body_that_streams_is_not_repeated(cx: Context) -> Verdict {
    let server = cx.server(|conn| {
        conn.read_request()?;
        conn.respond(307, &[("location", "/again")], "")
    });
    let chunks = futures_util::stream::iter([Ok::<_, std::io::Error>(http_body::Frame::data(
        drivetrain::Bytes::from_static(b"once"),
    ))]);
    let request =
        cx.client().post(server.http_url("/")).body(Body::streaming(StreamBody::new(chunks)));
    let response = request.send().await?;
    assert_eq!((response.status().as_u16(), server.requests()), (307, 1));
    Ok(())
}

/// RFC 9110 section 15.4.
async fn methods_change(
    cx: Context,
    status: u16,
    given: &'static str,
    sent: &'static str,
    body: &'static str,
) -> Verdict {
    let method = given.parse().map_err(|_| Failure::new("no method"))?;
    let url = cx.echo().http_url(&format!("/redirect?status={status}&to=/anything"));
    let request = cx.client().request(method, url).header("content-type", "text/plain");
    let seen = description(request.body("twice")).await?;
    assert_eq!((&seen["method"], &seen["body"]), (&sent.into(), &body.into()));
    assert_eq!(seen["headers"]["content-type"].is_null(), body.is_empty(), "{seen}");
    Ok(())
}

fn limited(cx: &Context, redirects: Redirects) -> Verdict<HttpClient> {
    let client = builder_for(cx.engine()).redirects(redirects);
    match cx.offers(Capability::WebSockets) {
        true => Ok(client.install(drivetrain::WebSockets::new()).build()?),
        false => Ok(client.build()?),
    }
}

/// As a query parameter.
pub(super) fn escaped(text: &str) -> String {
    text.replace('%', "%25").replace('&', "%26").replace('?', "%3F").replace('=', "%3D")
}
