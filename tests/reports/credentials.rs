//! What must not travel further than its owner, nor be printed.
#![cfg(all(feature = "full", feature = "testing"))]

use std::{
    fmt::Debug,
    sync::{Arc, Mutex},
    time::Duration,
};

use drivetrain::{
    CookieJar, DefaultRequest, Error, ErrorKind, HttpClient, HttpClientBuilder, Proxies, Proxy,
    WebSockets,
    engine::{Handshake, Native, NativeSmol},
    http::{HeaderValue, Method, StatusCode, header},
    multipart::{Form, Part},
    reconnect::Backoff,
    testing::{MockEngine, Reply, Script},
};
use tower_http::set_header::SetRequestHeaderLayer;

/// Planted wherever a secret can be.
const SECRET: &str = "s3cr3t";

/// Neither form of `Debug` has the secret in it.
#[track_caller]
fn is_silent(value: impl Debug) {
    let printed = format!("{value:?}\n{value:#?}");
    assert!(!printed.contains(SECRET), "{printed}");
}

/// Nor has what an error says, down to its last cause.
#[track_caller]
fn error_is_silent(error: Error) {
    is_silent(&error);
    let mut cause: Option<&dyn std::error::Error> = Some(&error);
    while let Some(error) = cause {
        assert!(!error.to_string().contains(SECRET), "{error}");
        cause = error.source();
    }
}

fn planted(text: &str) -> String {
    text.replace('$', SECRET)
}

/// A client with secrets in everything that can be installed.
fn builder(mock: &MockEngine) -> HttpClientBuilder {
    let jar = CookieJar::new();
    jar.set("http://example.com/", planted("session=$")).expect("a cookie");
    is_silent(&jar);
    let defaults = DefaultRequest::new()
        .base_url(planted("http://me:$@example.com/api/?key=$#$"))
        .header("x-api-key", SECRET)
        .header("referer", planted("http://example.com/?token=$"));
    is_silent(&defaults);
    HttpClient::builder(mock.clone()).install(WebSockets::new()).install(defaults).cookie_jar(jar)
}

#[test]
fn requests_and_what_comes_of_them_print_no_secret() {
    let mock = MockEngine::new();
    let head = drivetrain::http::Response::builder()
        .status(StatusCode::NOT_FOUND)
        .header("set-cookie", planted("a=$"))
        .header("location", planted("/cb?code=$#$"))
        .header("x-auth-token", SECRET)
        .body(SECRET);
    let reply = Reply::from(head.expect("valid"));
    is_silent(&reply);
    mock.on(Method::POST, "/api/*").respond(reply);
    let client = builder(&mock).build().expect("a client");
    is_silent(&client);
    let form = Form::new()
        .text("password", SECRET)
        .part("file", Part::new(SECRET).header("x-api-key", SECRET));
    is_silent(&form);
    for request in [
        client.post(planted("x?token=$#$")).bearer_auth(SECRET).body(SECRET),
        client.post(planted("http://me:$@example.com/api/x?$")).form(&[("password", SECRET)]),
        client.post("x").query(&[("token", SECRET)]).basic_auth("me", Some(SECRET)).json(SECRET),
        client.post("x").multipart(form),
        client.post("x").header("cookie", SECRET).header("private-token", SECRET),
    ] {
        is_silent(&request);
        let response = mock.clock().block_on(request.send()).expect("an answer");
        is_silent(&response);
        let error = mock.clock().block_on(response.error_for_status());
        error_is_silent(error.expect_err("404"));
    }
    is_silent(mock.requests());
    is_silent(client.settings());
    assert!(!client.settings().to_string().contains(SECRET));
    let sse = client.sse(planted("/events?token=$")).bearer_auth(SECRET);
    is_silent(&sse);
}

#[test]
fn web_sockets_and_what_comes_of_them_print_no_secret() {
    let mock = MockEngine::new();
    mock.web_socket("/api/chat").subprotocol(SECRET).script(Script::new().expect_close());
    mock.web_socket("/api/refused").respond(StatusCode::FORBIDDEN);
    let client = builder(&mock).build().expect("a client");
    let request = client
        .web_socket(planted("ws://me:$@example.com/api/chat?token=$"))
        .subprotocol("chat")
        .subprotocol(SECRET)
        .header("x-api-key", SECRET);
    is_silent(&request);
    is_silent(request.clone().reconnect(Backoff::new()));
    let outcome = mock.clock().block_on(async {
        let session = request.connect().await?;
        is_silent(&session);
        session.close(drivetrain::CloseReason::normal()).await
    });
    is_silent(outcome.expect("closed"));
    let request = client.web_socket(planted("refused?token=$")).subprotocol(SECRET);
    error_is_silent(mock.clock().block_on(request.connect()).expect_err("refused"));
    is_silent(mock.requests());
}

#[test]
fn a_handshake_and_its_connection_print_no_secret() {
    let uri = planted("ws://example.com/?token=$").parse().expect("a URI");
    let handshake = Handshake::new(uri).and_then(|handshake| handshake.subprotocol(SECRET));
    let handshake = handshake.and_then(|handshake| {
        handshake.header(header::AUTHORIZATION, HeaderValue::from_static(SECRET))
    });
    is_silent(handshake.expect("valid"));
    let (connection, _peer) = drivetrain::testing::pipe();
    is_silent(connection.with_subprotocol(Some(SECRET.into())));
}

#[test]
fn proxies_and_engines_print_no_secret() {
    let url = planted("http://me:$@proxy.example:1");
    is_silent(Proxy::parse(&url).expect("a proxy"));
    is_silent(Proxies::new().all(url.as_str()).https(planted("ftp://me:$@proxy.example")));
    let builder = HttpClient::builder(Native::new()).proxy(url.clone());
    is_silent(&builder);
    let client = builder.build().expect("a client");
    is_silent(&client);
    assert!(!client.settings().to_string().contains(SECRET));
    let pem = planted("-----BEGIN PRIVATE KEY-----\n$\n-----END PRIVATE KEY-----\n");
    let smol = NativeSmol::new().client_certificate_pem(&pem).root_certificate_pem(&pem);
    is_silent(&smol);
    error_is_silent(HttpClient::builder(smol).build().expect_err("no certificate"));
}

#[test]
fn what_is_refused_is_not_quoted() {
    let mock = MockEngine::new();
    let client = builder(&mock).build().expect("a client");
    let refused = |request: drivetrain::RequestBuilder| {
        error_is_silent(mock.clock().block_on(request.send()).expect_err("refused"));
    };
    refused(client.get(planted("http://me:$@exa mple/?token=$#$")));
    refused(client.get(planted("ftp://me:$@example.com/?token=$#$")));
    refused(client.get(planted("ws://me:$@example.com/?token=$#$")));
    refused(client.get("x").header("x-api-key", planted("$\n")));
    refused(client.get("x").bearer_auth(planted("$\n")));
    refused(client.get("x").basic_auth(planted("$:"), Some(SECRET)));
    refused(client.get("x").header("proxy-authorization", SECRET));
    let connect = |request: drivetrain::WebSocketRequest| {
        is_silent(&request);
        error_is_silent(mock.clock().block_on(request.connect()).expect_err("refused"));
    };
    connect(client.web_socket("x").subprotocol(planted("$ $")));
    connect(client.web_socket("x").subprotocol(SECRET).subprotocol(SECRET));
    connect(client.web_socket(planted("/?token=$#$")));
    connect(client.web_socket("x").header("sec-websocket-protocol", SECRET));
    connect(client.web_socket("x").header("x-api-key", planted("$\n")));
    assert!(mock.requests().is_empty());
    error_is_silent(CookieJar::new().set("http://me@x/", planted("a=$; Secure")).expect_err("no"));
}

/// A server may choose what is like a token, and its error is not to have it either.
#[test]
fn a_chosen_subprotocol_is_quoted_only_if_it_is_a_stranger() {
    for (chosen, is_quoted) in [("stranger", true), ("S3CR3T", false), ("s3cr3t.v2", false)] {
        let mock = MockEngine::new();
        mock.web_socket("/").subprotocol(chosen).open();
        let client = HttpClient::new(mock.clone());
        let connect = client.web_socket("ws://example.com/").subprotocol(SECRET).connect();
        let error = mock.clock().block_on(connect).expect_err("refused");
        assert_eq!(error.kind(), ErrorKind::Protocol);
        assert_eq!(error.to_string().contains(chosen), is_quoted, "{error}");
    }
}

#[test]
fn the_hook_sees_the_headers_and_does_not_print_them() {
    let mock = MockEngine::new();
    mock.on(Method::GET, "/")
        .respond(Reply::new(StatusCode::UNAUTHORIZED).header("x-auth-token", SECRET));
    let seen = Arc::new(Mutex::new(None));
    let shown = Arc::clone(&seen);
    let client = HttpClient::builder(mock.clone())
        .on_unauthorized(move |unauthorized| {
            is_silent(&unauthorized);
            let header = unauthorized.headers().get("x-auth-token").cloned();
            *shown.lock().expect("no panic") = header;
            async { Ok(None) }
        })
        .build()
        .expect("a client");
    let request = client.get(planted("http://me:$@example.com/?token=$"));
    mock.clock().block_on(request.send()).expect("a response");
    assert_eq!(
        seen.lock().expect("no panic").as_ref().map(HeaderValue::as_bytes),
        Some(SECRET.as_bytes())
    );
}

/// It has not passed the edge where a caller's headers are read.
#[test]
fn a_proxy_authorization_of_a_layer_is_refused() {
    let mock = MockEngine::new();
    mock.on(Method::GET, "/").optional().respond("an answer");
    let value = HeaderValue::from_static(SECRET);
    let client = HttpClient::builder(mock.clone())
        .install(WebSockets::new())
        .layer(SetRequestHeaderLayer::overriding(header::PROXY_AUTHORIZATION, value))
        .build()
        .expect("a client");
    let clock = mock.clock();
    for error in [
        clock.block_on(client.get("http://example.com/").send()).map(drop),
        clock.block_on(client.web_socket("ws://example.com/").connect()).map(drop),
    ] {
        let error = error.expect_err("refused");
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(error.to_string().contains("proxy-authorization"), "{error}");
        error_is_silent(error);
    }
    assert!(mock.requests().is_empty());
}

/// The client of one host may call another, and the hook's user sees which.
#[test]
fn once_elsewhere_always_elsewhere() {
    let mock = MockEngine::new();
    let to = |location: &'static str| Reply::new(StatusCode::FOUND).header("location", location);
    mock.on(Method::GET, "http://a.example/").respond(to("http://b.example/"));
    mock.on(Method::GET, "http://b.example/").respond(to("http://a.example/end"));
    mock.on(Method::GET, "http://a.example/end").respond(StatusCode::UNAUTHORIZED);
    let client = HttpClient::builder(mock.clone())
        .on_unauthorized(|_| async { Err(Error::other("it is not to be asked")) })
        .build()
        .expect("a client");
    let request = client.get("http://a.example/").bearer_auth(SECRET).header("x-api-key", SECRET);
    let response = mock.clock().block_on(request.timeout(Duration::from_secs(9)).send());
    assert_eq!(response.expect("a response").status(), StatusCode::UNAUTHORIZED);
    let [first, rest @ ..] = &*mock.requests() else { panic!("no request") };
    assert_eq!((first.header("x-api-key"), rest.len()), (Some(SECRET), 2));
    for request in rest {
        assert_eq!((request.header("x-api-key"), request.header("authorization")), (None, None));
    }
}
