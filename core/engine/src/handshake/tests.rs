//! What is sent, and what is accepted for an answer.

use http::{Response, StatusCode};

use super::*;

fn handshake() -> Handshake {
    let mut handshake =
        Handshake::new(Uri::from_static("ws://server.example.com/chat")).expect("valid");
    // The key and its answer from RFC 6455 section 1.3.
    handshake.offer.key = HeaderValue::from_static("dGhlIHNhbXBsZSBub25jZQ==");
    handshake
}

fn answer(headers: &[(&'static str, &str)]) -> Response<()> {
    let mut response = Response::new(());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    for (name, value) in headers {
        let value = HeaderValue::from_str(value).expect("a header value");
        response.headers_mut().append(*name, value);
    }
    response
}

const RIGHT: [(&str, &str); 3] = [
    ("upgrade", "WebSocket"),
    ("connection", "keep-alive, Upgrade"),
    ("sec-websocket-accept", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="),
];

#[test]
fn the_answer_of_the_rfc_is_accepted() {
    assert_eq!(handshake().verify(&answer(&RIGHT)).expect("valid"), Accepted::default());
}

#[test]
fn a_missing_or_wrong_header_is_a_protocol_error_with_the_response() {
    for left_out in 0..3 {
        let mut headers = RIGHT.to_vec();
        headers.remove(left_out);
        let error = handshake().verify(&answer(&headers)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Protocol, "{error}");
        assert_eq!(error.response().expect("carries it").status(), 101);
    }
    for (place, wrong) in [(0, "websocket2"), (1, "close"), (2, "s3pPLMBiTxaQ9kYGzzhZRbK+xOX=")] {
        let mut headers = RIGHT.to_vec();
        headers[place].1 = wrong;
        assert!(handshake().verify(&answer(&headers)).is_err(), "{wrong}");
    }
}

#[test]
fn only_what_was_offered_may_be_chosen() {
    let offered = handshake()
        .subprotocol("chat")
        .and_then(|h| h.extension("permessage-deflate; client_max_window_bits"))
        .expect("valid");
    let with = |name: &'static str, value: &str| {
        let headers: Vec<_> = RIGHT.iter().copied().chain([(name, value)]).collect();
        offered.verify(&answer(&headers))
    };
    let accepted = with("sec-websocket-protocol", "chat").expect("offered");
    assert_eq!(accepted.subprotocol.as_deref(), Some("chat"));
    assert!(with("sec-websocket-protocol", "Chat").is_err());
    assert!(with("sec-websocket-protocol", "chat, other").is_err());
    let accepted =
        with("sec-websocket-extensions", "permessage-deflate; server_max_window_bits=\"10\"")
            .expect("offered");
    assert_eq!(accepted.extensions[0].to_string(), "permessage-deflate; server_max_window_bits=10");
    assert!(with("sec-websocket-extensions", "x-other").is_err());
    assert!(with("sec-websocket-extensions", "permessage-deflate; =").is_err());
}

#[test]
fn every_upgrade_header_has_to_be_websocket() {
    for other in ["h2c", "websocket2"] {
        for at in [0, 1] {
            let mut headers = RIGHT.to_vec();
            headers.insert(at, ("upgrade", other));
            assert!(handshake().verify(&answer(&headers)).is_err(), "{other} at {at}");
        }
    }
}

#[test]
fn an_offer_with_what_no_header_may_hold_is_refused_and_not_left_out() {
    for offer in ["x-foo\r", "\nx-foo", "x-foo\u{b}; a", "\u{a0}x-bar\u{2003}; a", "x; a=\u{85}b"] {
        let error = handshake().extension(offer).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{offer:?}");
    }
    let offered = handshake().extension("\tx-foo ;\ta = b").expect("spaces and tabs are fine");
    assert!(offered.request().headers().contains_key("sec-websocket-extensions"));
}

#[test]
fn what_belongs_to_the_handshake_cannot_be_set() {
    for name in OWN {
        let error = handshake().header(name, HeaderValue::from_static("x")).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
    }
    assert!(handshake().subprotocol("with space").is_err());
    assert!(handshake().subprotocol("").is_err());
    assert!(handshake().subprotocol("a").and_then(|h| h.subprotocol("a")).is_err());
}

#[test]
fn a_handshake_survives_being_a_request() {
    let original = handshake()
        .header(header::ORIGIN, HeaderValue::from_static("https://a.example"))
        .and_then(|h| h.subprotocol("chat"))
        .expect("valid");
    let mut request: Request<()> = original.clone().into();
    request.headers_mut().insert("x-added", HeaderValue::from_static("by a layer"));
    let back = Handshake::try_from(request).expect("the same");
    assert_eq!(back.headers().len(), 2);
    assert_eq!(back.subprotocols(), ["chat"]);
    assert_eq!(back.offer.key, original.offer.key);
    assert!(Handshake::try_from(Request::new(())).is_err());
}

#[test]
fn schemes_are_mapped_and_others_refused() {
    for (uri, scheme) in [("ws://a", "http"), ("http://a", "http"), ("wss://a", "https")] {
        let handshake = Handshake::new(uri.parse().expect("a URI")).expect("valid");
        assert_eq!(handshake.uri().scheme_str(), Some(scheme));
    }
    assert!(Handshake::new(Uri::from_static("ftp://a")).is_err());
    assert!(Handshake::new(Uri::from_static("/path")).is_err());
}
