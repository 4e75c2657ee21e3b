//! The decision table, line by line.

use std::sync::Arc;

use http::{Method, Request, Version, header};

use super::*;
use crate::{connection::Role, error::Error, extension::Transform, frame::Rsv};

const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";

/// A handshake that is accepted as it stands; the headers of these names are replaced.
fn request(with: &[(&str, &str)]) -> Request<()> {
    let base = [
        ("host", "example.com"),
        ("connection", "Upgrade"),
        ("upgrade", "websocket"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-key", KEY),
    ];
    let mut request = Request::get("/chat");
    for (name, value) in base {
        if !with.iter().any(|(other, _)| *other == name) {
            request = request.header(name, value);
        }
    }
    for (name, value) in with.iter().filter(|(_, value)| !value.is_empty()) {
        request = request.header(*name, *value);
    }
    request.body(()).expect("a request")
}

fn status(rules: &UpgradeRules, with: &[(&str, &str)]) -> u16 {
    match rules.check(&request(with), None) {
        Ok(upgrade) => upgrade.response.status().as_u16(),
        Err(refusal) => refusal.status().as_u16(),
    }
}

fn refused(rules: &UpgradeRules, request: &Request<()>) -> Response<bytes::Bytes> {
    let response = rules.check(request, None).expect_err("must be refused").response();
    let text = std::str::from_utf8(response.body()).expect("plain text");
    assert!(text.ends_with('\n') && text.lines().count() == 1, "{text}");
    response
}

#[test]
fn what_asks_for_a_websocket_is_accepted() {
    let upgrade = UpgradeRules::new().check(&request(&[]), None).expect("acceptable");
    assert_eq!(upgrade.protocol, Protocol::H1);
    assert_eq!(upgrade.accepted, Accepted::default());
    let headers = upgrade.response.headers();
    assert_eq!(upgrade.response.status(), 101);
    assert_eq!(headers[header::SEC_WEBSOCKET_ACCEPT], "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    assert_eq!(headers[header::CONNECTION], "Upgrade");
    assert_eq!(headers[header::UPGRADE], "websocket");
    assert_eq!(headers.len(), 3, "nothing that was not offered: {headers:?}");
}

#[test]
fn what_the_client_half_sends_is_accepted_and_its_answer_is_verified() {
    let handshake =
        crate::handshake::Handshake::new("ws://example.com/chat".parse().expect("a URI"))
            .and_then(|handshake| handshake.subprotocol("chat"))
            .expect("a handshake");
    let mut request = handshake.request();
    request.headers_mut().insert(header::HOST, HeaderValue::from_static("example.com"));
    let rules = UpgradeRules::new().subprotocols(["chat"]);
    let upgrade = rules.check(&request, None).expect("acceptable");
    let accepted = handshake.verify(&upgrade.response).expect("a right answer");
    assert_eq!(accepted, upgrade.accepted);
    assert_eq!(accepted.subprotocol.as_deref(), Some("chat"));
}

#[test]
fn connection_and_upgrade_are_lists_over_all_lines_without_case() {
    let rules = UpgradeRules::new();
    for (with, expected) in [
        (&[("connection", "keep-alive, UPGRADE")][..], 101),
        (&[("connection", "keep-alive"), ("connection", "upgrade")], 101),
        (&[("upgrade", "h2c , WebSocket")], 101),
        (&[("upgrade", "h2c"), ("upgrade", "websocket")], 101),
        (&[("connection", "")], 426),
        (&[("connection", "keep-alive")], 426),
        (&[("connection", "upgrades")], 426),
        (&[("upgrade", "")], 426),
        (&[("upgrade", "websockets")], 426),
    ] {
        assert_eq!(status(&rules, with), expected, "{with:?}");
    }
}

#[test]
fn a_request_that_asks_for_no_websocket_is_told_what_to_ask_for() {
    let rules = UpgradeRules::new();
    let response = refused(&rules, &request(&[("upgrade", "")]));
    assert_eq!(response.headers()[header::UPGRADE], "websocket");
    assert_eq!(response.headers()[header::CONNECTION], "Upgrade");
    let mut old = request(&[]);
    *old.version_mut() = Version::HTTP_10;
    assert_eq!(refused(&rules, &old).status(), 426);
}

#[test]
fn another_method_is_told_which_is_allowed() {
    for method in [Method::POST, Method::HEAD, Method::CONNECT, Method::OPTIONS] {
        let mut request = request(&[]);
        *request.method_mut() = method;
        let response = refused(&UpgradeRules::new(), &request);
        assert_eq!(
            (response.status().as_u16(), &response.headers()[header::ALLOW]),
            (405, &"GET".parse().expect("a value"))
        );
    }
}

#[test]
fn another_version_is_told_which_is_spoken() {
    let rules = UpgradeRules::new();
    for (with, expected) in [
        (&[("sec-websocket-version", "")][..], 426),
        (&[("sec-websocket-version", "8")], 426),
        (&[("sec-websocket-version", "130")], 426),
        (&[("sec-websocket-version", "13, 8")], 426),
        (&[("sec-websocket-version", "13"), ("sec-websocket-version", "13")], 400),
    ] {
        assert_eq!(status(&rules, with), expected, "{with:?}");
    }
    let response = refused(&rules, &request(&[("sec-websocket-version", "8")]));
    assert_eq!(response.headers()[header::SEC_WEBSOCKET_VERSION], "13");
}

#[test]
fn a_key_is_sixteen_bytes_once() {
    let rules = UpgradeRules::new();
    for (with, expected) in [
        (&[("sec-websocket-key", "")][..], 400),
        (&[("sec-websocket-key", KEY), ("sec-websocket-key", KEY)], 400),
        (&[("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=")], 400),
        (&[("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ")], 400),
        (&[("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZS4u")], 400),
        (&[("sec-websocket-key", "!!!!IHNhbXBsZSBub25jZQ==")], 400),
        (&[("sec-websocket-key", "dGhlIHNhbXBsZSBub25j")], 400),
        (&[("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZR==")], 101),
    ] {
        assert_eq!(status(&rules, with), expected, "{with:?}");
    }
}

#[test]
fn pages_of_another_origin_are_refused_and_clients_without_one_are_not() {
    let rules = UpgradeRules::new();
    for (origin, host, expected) in [
        ("", "example.com", 101),
        ("http://example.com", "example.com", 101),
        ("https://example.com", "example.com", 101),
        ("HTTPS://Example.COM", "eXample.com", 101),
        ("https://example.com", "example.com:443", 101),
        ("http://example.com:80", "example.com", 101),
        ("http://example.com:8080", "example.com:8080", 101),
        ("http://[::1]:8080", "[0:0:0:0:0:0:0:1]:8080", 101),
        ("http://127.0.0.1:3000", "127.0.0.1:3000", 101),
        ("http://example.com", "example.com:443", 403),
        ("http://example.com:8081", "example.com:8080", 403),
        ("http://example.com.", "example.com", 403),
        ("https://example.com.evil.test", "example.com", 403),
        ("https://evilexample.com", "example.com", 403),
        ("https://example.com@evil.test", "example.com", 403),
        ("https://evil.test/example.com", "example.com", 403),
        ("ftp://example.com", "example.com", 403),
        ("chrome-extension://example.com", "example.com", 403),
        ("null", "null", 403),
        ("example.com", "example.com", 403),
        ("http://localhost:3000", "127.0.0.1:3000", 403),
        ("http://example.com:+80", "example.com", 403),
        ("http://", "example.com", 403),
    ] {
        assert_eq!(
            status(&rules, &[("origin", origin), ("host", host)]),
            expected,
            "{origin} at {host}"
        );
    }
    let twice = [("origin", "http://example.com"), ("origin", "http://example.com")];
    assert_eq!(status(&rules, &twice), 403);
    let hosts = [("origin", "http://a.test"), ("host", "a.test"), ("host", "b.test")];
    assert_eq!(status(&rules, &hosts), 403);
    assert_eq!(status(&rules, &[("origin", "http://example.com"), ("host", "")]), 403);
}

#[test]
fn listed_origins_are_compared_as_a_whole() {
    let list =
        ["https://app.example.com", "https://*.example.org", "localhost:3000", "tauri://localhost"];
    let rules = UpgradeRules::new().origins(Origins::list(list));
    for (origin, expected) in [
        ("https://app.example.com", 101),
        ("https://APP.example.com:443", 101),
        ("https://a.example.org", 101),
        ("https://a.b.example.org", 101),
        ("http://localhost:3000", 101),
        ("https://localhost:3000", 101),
        ("tauri://localhost", 101),
        ("", 101),
        ("http://app.example.com", 403),
        ("https://app.example.com:444", 403),
        ("https://example.org", 403),
        ("https://.example.org", 403),
        ("https://evilexample.org", 403),
        ("https://a.example.org.evil.test", 403),
        ("http://localhost", 403),
        ("http://example.com", 403),
        ("null", 403),
    ] {
        assert_eq!(status(&rules, &[("origin", origin)]), expected, "{origin}");
    }
    let rules = UpgradeRules::new().origins(Origins::same_host().and("https://app.test"));
    assert_eq!(status(&rules, &[("origin", "https://example.com")]), 101);
    assert_eq!(status(&rules, &[("origin", "https://app.test")]), 101);
}

#[test]
fn origins_may_be_required_named_null_decided_by_code_or_all_let_in() {
    let rules = |origins| UpgradeRules::new().origins(origins);
    let evil = [("origin", "https://evil.test")];
    assert_eq!(status(&rules(Origins::same_host().require()), &[]), 403);
    assert_eq!(status(&rules(Origins::any()), &evil), 101);
    assert_eq!(status(&rules(Origins::same_host().and("null")), &[("origin", "null")]), 101);
    let by_code = rules(Origins::check(|origin, headers| {
        origin == Some("https://evil.test") && headers.contains_key("host")
    }));
    assert_eq!(status(&by_code, &evil), 101);
    assert_eq!(status(&by_code, &[]), 403);
}

#[test]
fn a_wrong_entry_is_named_and_lets_nobody_in() {
    for entry in [
        "https//app.test",
        "https://a.test/path",
        "https://u@a.test",
        "https://*",
        "*",
        "a.*.test",
        "",
        "a b",
    ] {
        let rules = UpgradeRules::new().origins(Origins::any().and(entry));
        let error = rules.validate().expect_err(entry);
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(error.to_string().contains(&format!("`{entry}`")), "{error}");
        assert_eq!(status(&rules, &[]), 403, "{entry}");
    }
    let error = UpgradeRules::new().hosts(["http://a.test"]).validate().expect_err("no host");
    assert!(error.to_string().contains("`http://a.test`"), "{error}");
}

#[test]
fn a_host_that_is_not_served_is_misdirected() {
    let rules =
        UpgradeRules::new().hosts(["localhost", "127.0.0.1", "[::1]", "a.test:81", "*.b.test"]);
    rules.validate().expect("hosts");
    for (host, expected) in [
        ("localhost", 101),
        ("LOCALHOST:8080", 101),
        ("127.0.0.1:9", 101),
        ("[::1]:80", 101),
        ("a.test:81", 101),
        ("x.b.test", 101),
        ("a.test", 421),
        ("b.test", 421),
        ("evil.test", 421),
        ("localhost.evil.test", 421),
        ("", 421),
    ] {
        assert_eq!(status(&rules, &[("host", host)]), expected, "{host}");
    }
    // Rebinding: both headers name the attacker's domain.
    let rebound = [("host", "evil.test"), ("origin", "http://evil.test")];
    assert_eq!(status(&rules, &rebound), 421);
    assert_eq!(status(&UpgradeRules::new(), &rebound), 101);
}

#[test]
fn the_servers_preference_chooses_the_subprotocol() {
    let rules = UpgradeRules::new().subprotocols(["v2", "v1"]);
    for (offered, chosen) in [
        (&[][..], None),
        (&["v1"], Some("v1")),
        (&["v1, v2"], Some("v2")),
        (&["v1", "v0,v2"], Some("v2")),
        (&["V2"], None),
        (&["v0"], None),
    ] {
        let with: Vec<_> = offered.iter().map(|it| ("sec-websocket-protocol", *it)).collect();
        let upgrade = rules.check(&request(&with), None).expect("acceptable");
        assert_eq!(upgrade.accepted.subprotocol.as_deref(), chosen, "{offered:?}");
        let answered = upgrade.response.headers().get(header::SEC_WEBSOCKET_PROTOCOL);
        assert_eq!(answered.map(HeaderValue::as_bytes), chosen.map(str::as_bytes));
    }
    // Nothing set: offers are ignored.
    let upgrade = UpgradeRules::new().check(&request(&[("sec-websocket-protocol", "v1")]), None);
    assert_eq!(upgrade.expect("acceptable").accepted.subprotocol, None);
}

#[test]
fn a_required_subprotocol_is_told_and_wrong_offers_are_refused() {
    let rules = UpgradeRules::new().subprotocols(["v2", "v1"]).require_subprotocol();
    for with in [&[][..], &[("sec-websocket-protocol", "v0")]] {
        let response = refused(&rules, &request(with));
        assert_eq!(response.status(), 400);
        assert_eq!(response.headers()[header::SEC_WEBSOCKET_PROTOCOL], "v2, v1");
    }
    for offered in ["v1, v1", "v 1", "v1, \"v2\"", "v1/2"] {
        assert_eq!(
            status(&UpgradeRules::new(), &[("sec-websocket-protocol", offered)]),
            400,
            "{offered}"
        );
    }
    let twice = [("sec-websocket-protocol", "v1"), ("sec-websocket-protocol", "v1")];
    assert_eq!(status(&UpgradeRules::new(), &twice), 400);
}

#[test]
fn rules_that_cannot_work_are_refused_by_name() {
    for (rules, names) in [
        (UpgradeRules::new().subprotocols(["a b"]), "a b"),
        (UpgradeRules::new().subprotocols(["a", "a"]), "twice"),
        (UpgradeRules::new().require_subprotocol(), "none is set"),
        (UpgradeRules::new().extensions([extension("x", false), extension("x", false)]), "twice"),
        (
            UpgradeRules::new().extensions([extension("x", false), extension("y", false)]),
            "reserved bit",
        ),
    ] {
        let error = rules.validate().expect_err(names);
        assert!(
            error.kind() == ErrorKind::InvalidInput && error.to_string().contains(names),
            "{error}"
        );
    }
}

#[derive(Debug)]
struct Named(&'static str, bool);

fn extension(name: &'static str, required: bool) -> Arc<dyn Extension> {
    Arc::new(Named(name, required))
}

impl Extension for Named {
    fn name(&self) -> &str {
        self.0
    }

    fn rsv(&self) -> Rsv {
        Rsv::RSV2
    }

    fn is_required(&self) -> bool {
        self.1
    }

    fn accept(&self, _: &NegotiatedExtension, _: Role) -> Result<Box<dyn Transform>> {
        Err(Error::new(ErrorKind::Other, "not in these tests"))
    }
}

#[test]
fn only_extensions_that_were_offered_are_answered_in_the_servers_order() {
    let rules =
        UpgradeRules::new().extensions([extension("x-one", false), extension("x-two", false)]);
    for (offered, answered) in [
        (&[][..], None),
        (&["x-two, x-one"], Some("x-one, x-two")),
        (&["x-three; a=1", "x-two; a, x-two"], Some("x-two")),
        (&["x-one; a=\"1\""], None),
        (&["X-ONE"], None),
    ] {
        let with: Vec<_> = offered.iter().map(|it| ("sec-websocket-extensions", *it)).collect();
        let upgrade = rules.check(&request(&with), None).expect("acceptable");
        let seen = upgrade.response.headers().get(header::SEC_WEBSOCKET_EXTENSIONS);
        assert_eq!(seen.map(HeaderValue::as_bytes), answered.map(str::as_bytes), "{offered:?}");
    }
    for broken in ["x-one; ", "x one", "x-one; a=\"b", "; a"] {
        assert_eq!(status(&rules, &[("sec-websocket-extensions", broken)]), 400, "{broken}");
    }
    let required = UpgradeRules::new().extensions([extension("x-one", true)]);
    assert_eq!(status(&required, &[]), 400);
    assert_eq!(status(&required, &[("sec-websocket-extensions", "x-one; a")]), 400);
    assert_eq!(status(&required, &[("sec-websocket-extensions", "x-one")]), 101);
}

#[test]
fn a_body_is_refused() {
    let rules = UpgradeRules::new();
    assert_eq!(status(&rules, &[("content-length", "0")]), 101);
    assert_eq!(status(&rules, &[("content-type", "application/json")]), 101);
    assert_eq!(status(&rules, &[("content-length", "1")]), 400);
    assert_eq!(status(&rules, &[("content-length", "0"), ("content-length", "5")]), 400);
    assert_eq!(status(&rules, &[("transfer-encoding", "chunked")]), 400);
}

#[test]
fn over_http2_the_method_and_the_protocol_ask() {
    let request = |method| {
        let mut request = Request::builder()
            .method(method)
            .uri("https://example.com/chat")
            .version(Version::HTTP_2)
            .header("sec-websocket-version", "13")
            .header("sec-websocket-protocol", "chat");
        request = request.header("origin", "https://example.com");
        request.body(()).expect("a request")
    };
    let rules = UpgradeRules::new().subprotocols(["chat"]);
    let upgrade = rules.check(&request("CONNECT"), Some("websocket")).expect("acceptable");
    assert_eq!((upgrade.protocol, upgrade.response.status().as_u16()), (Protocol::H2, 200));
    let headers = upgrade.response.headers();
    assert_eq!(headers[header::SEC_WEBSOCKET_PROTOCOL], "chat");
    assert_eq!(headers.len(), 1, "{headers:?}");
    for (method, protocol) in
        [("GET", Some("websocket")), ("CONNECT", None), ("CONNECT", Some("connect-udp"))]
    {
        let refusal = rules.check(&request(method), protocol).expect_err("must be refused");
        assert_eq!(refusal.response().headers()[header::ALLOW], "CONNECT");
        assert_eq!(refusal.status(), 405);
    }
    let mut foreign = request("CONNECT");
    foreign.headers_mut().insert(header::ORIGIN, HeaderValue::from_static("https://evil.test"));
    assert_eq!(rules.check(&foreign, Some("websocket")).expect_err("foreign").status(), 403);
}

#[test]
fn checks_come_in_the_order_of_the_table() {
    let rules = UpgradeRules::new()
        .hosts(["example.com"])
        .subprotocols(["v1"])
        .require_subprotocol()
        .extensions([extension("x-one", true)]);
    // Everything is wrong; each row is put right in turn.
    let mut request = Request::post("/chat")
        .header("host", "evil.test")
        .header("origin", "https://other.test")
        .header("content-length", "5")
        .body(())
        .expect("a request");
    let kind = |request: &Request<()>| {
        rules.check(request, None).map_or_else(|it| Some(it.kind()), |_| None)
    };
    let rows: [(RefusalKind, &[(&str, &str)]); 9] = [
        (RefusalKind::NotAnUpgrade, &[("connection", "upgrade"), ("upgrade", "websocket")]),
        (RefusalKind::Method, &[]),
        (RefusalKind::Version, &[("sec-websocket-version", "13")]),
        (RefusalKind::Key, &[("sec-websocket-key", KEY)]),
        (RefusalKind::Host, &[("host", "example.com")]),
        (RefusalKind::Origin, &[("origin", "http://example.com")]),
        (RefusalKind::Subprotocol, &[("sec-websocket-protocol", "v1")]),
        (RefusalKind::Extension, &[("sec-websocket-extensions", "x-one")]),
        (RefusalKind::Body, &[("content-length", "0")]),
    ];
    for (expected, remedy) in rows {
        assert_eq!(kind(&request), Some(expected));
        if expected == RefusalKind::Method {
            *request.method_mut() = Method::GET;
        }
        for (name, value) in remedy {
            let name: header::HeaderName = name.parse().expect("a name");
            request.headers_mut().insert(name, value.parse().expect("a value"));
        }
    }
    assert_eq!(kind(&request), None);
}

#[test]
fn a_full_server_says_when_to_come_back_and_a_miswired_one_says_nothing() {
    let response =
        UpgradeRefusal::unavailable("too many sessions", std::time::Duration::ZERO).response();
    assert_eq!(response.status(), 503);
    assert_eq!(response.headers()[header::RETRY_AFTER], "1");
    assert_eq!(response.headers()[header::CONNECTION], "close");
    let wiring = UpgradeRefusal::wiring("serve connections with upgrades");
    assert_eq!(wiring.response().status(), 500);
    assert_eq!(wiring.response().body(), "internal error\n");
    assert!(wiring.to_string().contains("with upgrades"));
}
