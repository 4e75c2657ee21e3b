//! Bad input: refused with `InvalidInput`, in words that help, before anything is dialled.

use std::time::Duration;

use drivetrain::{
    Bytes, CloseReason, ErrorKind, Frame, HttpClient, HttpTimeout, WebSocketRequest, WebSockets,
};
use drivetrain_engine::Capability::{
    self, EnginePing, HandshakeHeaders, Http1, SendPing, Subprotocols, WebSockets as Sockets,
};

use super::option_table::{OPTIONS, OptionRow};
use crate::{
    case::{Case, case},
    context::Context,
    expect::{echoes, fails},
    failure::{Failure, Verdict},
};

type OnRequest = fn(WebSocketRequest) -> WebSocketRequest;

const ZERO: Duration = Duration::ZERO;

/// What is wrong about a request, a word that its error has to have, and what the request needs.
const REQUESTS: [(&str, &str, &[Capability], OnRequest); 17] = [
    ("a_header_name_with_a_space", "header", &[], |r| r.header("x bad", "a")),
    ("an_empty_header_name", "header", &[], |r| r.header("", "a")),
    ("a_header_value_with_a_line_break", "x-bad", &[], |r| r.header("x-bad", "a\r\nb")),
    ("the_header_upgrade", "upgrade", &[HandshakeHeaders], |r| r.header("Upgrade", "websocket")),
    ("the_header_connection", "connection", &[HandshakeHeaders], |r| {
        r.header("Connection", "Upgrade")
    }),
    ("the_header_sec_websocket_key", "key", &[HandshakeHeaders], |r| {
        r.header("Sec-WebSocket-Key", "a")
    }),
    ("the_header_sec_websocket_version", "version", &[HandshakeHeaders], |r| {
        r.header("Sec-WebSocket-Version", "13")
    }),
    ("the_header_sec_websocket_accept", "accept", &[HandshakeHeaders], |r| {
        r.header("Sec-WebSocket-Accept", "a")
    }),
    ("the_header_sec_websocket_extensions", "extension", &[HandshakeHeaders], |r| {
        r.header("Sec-WebSocket-Extensions", "a")
    }),
    ("the_header_sec_websocket_protocol", "subprotocol", &[HandshakeHeaders], |r| {
        r.header("Sec-WebSocket-Protocol", "a")
    }),
    ("the_header_content_length", "content-length", &[HandshakeHeaders], |r| {
        r.header("Content-Length", "0")
    }),
    ("a_subprotocol_with_a_space", "subprotocol", &[Subprotocols], |r| r.subprotocol("chat room")),
    ("a_subprotocol_with_a_comma", "subprotocol", &[Subprotocols], |r| r.subprotocol("chat,room")),
    ("an_empty_subprotocol", "subprotocol", &[Subprotocols], |r| r.subprotocol("")),
    ("a_subprotocol_that_is_offered_twice", "twice", &[Subprotocols], |r| {
        r.subprotocol("a").subprotocol("a")
    }),
    ("an_extension_for_a_session", "connect_raw", &[], |r| r.offer_extension("permessage-deflate")),
    ("a_user_with_a_colon", "colon", &[], |r| r.basic_auth("a:b", None)),
];

/// URLs that are none for WebSockets, with `ADDR` for the server's address.
const WEB_SOCKET_URLS: [(&str, &str, &str); 7] = [
    ("an_unknown_scheme", "ftp://ADDR/", "ws"),
    ("no_scheme", "/echo", "scheme"),
    ("a_missing_host", "ws://", "host"),
    ("a_fragment", "ws://ADDR/echo#top", "fragment"),
    ("an_empty_fragment", "ws://ADDR/echo#", "fragment"),
    ("a_port_that_is_none", "ws://127.0.0.1:99999/", "port"),
    ("a_host_with_a_space", "ws://a b/", "valid"),
];

const HTTP_URLS: [(&str, &str, &str); 4] = [
    ("an_unknown_scheme", "gopher://ADDR/", "http"),
    ("a_scheme_for_web_sockets", "ws://ADDR/", "web_socket"),
    ("no_scheme", "ADDR", "scheme"),
    ("a_missing_host", "http://", "host"),
];

pub(super) fn cases() -> Vec<Case> {
    let mut cases = vec![
        case(an_engine_level_interval_of_zero).needs(&[Sockets, EnginePing]),
        case(time_limits_of_zero).needs(&[Http1]),
        case(bad_headers_of_http).needs(&[Http1]),
        case(control_frames_that_are_too_long).needs(&[Sockets, SendPing]),
        case(close_reasons_that_are_too_long),
        case(close_codes_that_must_not_travel),
        case(web_sockets_that_are_not_installed).needs(&[Sockets]),
    ];
    for OptionRow { name, on_plugin, on_request, .. } in OPTIONS {
        let plugin = case(move |cx| a_plugin_is_refused(cx, name, on_plugin));
        cases.push(plugin.named("input", format_args!("a_{name}_of_zero")).needs(&[Sockets]));
        let request =
            case(move |cx| a_request_is_refused(cx, name, |request| on_request(request, 0)));
        let name = format!("a_{name}_of_zero_on_a_request");
        cases.push(request.named("input", name).needs(&[Sockets]));
    }
    for (name, says, needs, on_request) in REQUESTS {
        let request = case(move |cx| a_request_is_refused(cx, says, on_request));
        cases.push(request.named("input", name).needs(&[Sockets]).needs(needs));
    }
    for (name, url, says) in WEB_SOCKET_URLS {
        let refused = case(move |cx| a_web_socket_url_is_refused(cx, url, says));
        cases.push(
            refused.named("input", format_args!("{name}_in_a_web_socket_url")).needs(&[Sockets]),
        );
    }
    for (name, url, says) in HTTP_URLS {
        let refused = case(move |cx| an_http_url_is_refused(cx, url, says));
        cases.push(refused.named("input", format_args!("{name}_in_an_http_url")).needs(&[Http1]));
    }
    cases
}

/// At `build()`.
async fn a_plugin_is_refused(
    cx: Context,
    says: &'static str,
    set: &fn(WebSockets, u8) -> WebSockets,
) -> Verdict {
    let client = HttpClient::builder(cx.engine()).install(set(WebSockets::new(), 0)).build();
    invalid(client, says)
}

/// At `connect()`, and nothing is dialled.
async fn a_request_is_refused(
    cx: Context,
    says: &'static str,
    set: impl Fn(WebSocketRequest) -> WebSocketRequest,
) -> Verdict {
    let server = cx.echo();
    let request = set(cx.client().web_socket(server.ws_url("/echo")));
    invalid(request.connect().await, says)?;
    assert_eq!(server.connections(), 0);
    Ok(())
}

/// At `connect()`, and nothing is dialled.
async fn a_web_socket_url_is_refused(
    cx: Context,
    url: &'static str,
    says: &'static str,
) -> Verdict {
    let server = cx.echo();
    let url = url.replace("ADDR", &server.addr().to_string());
    invalid(cx.client().web_socket(url).connect().await, says)?;
    assert_eq!(server.connections(), 0);
    Ok(())
}

/// At `send()`, and nothing is dialled.
async fn an_http_url_is_refused(cx: Context, url: &'static str, says: &'static str) -> Verdict {
    let server = cx.echo();
    let url = url.replace("ADDR", &server.addr().to_string());
    invalid(cx.client().get(url).send().await, says)?;
    assert_eq!(server.connections(), 0);
    Ok(())
}

/// At `build()`, and on a client that was made without it at `connect()`.
async fn an_engine_level_interval_of_zero(cx: Context) -> Verdict {
    let engine = || {
        let lacking = || Failure::new("it offers what with_ping_interval lacks");
        cx.engine_with_ping_interval(ZERO).ok_or_else(lacking)
    };
    invalid(HttpClient::builder(engine()?).install(WebSockets::new()).build(), "ping")?;
    let server = cx.echo();
    invalid(HttpClient::new(engine()?).web_socket(server.ws_url("/echo")).connect().await, "ping")?;
    assert_eq!(server.connections(), 0);
    Ok(())
}

/// Of the plugin at `build()`, of a request at `send()`.
async fn time_limits_of_zero(cx: Context) -> Verdict {
    for (timeout, says) in [
        (HttpTimeout::new().connect(ZERO), "connect"),
        (HttpTimeout::new().request(ZERO), "request"),
        (HttpTimeout::new().socket(ZERO), "socket"),
    ] {
        invalid(HttpClient::builder(cx.engine()).install(timeout).build(), says)?;
    }
    let server = cx.echo();
    invalid(cx.client().get(server.http_url("/get")).timeout(ZERO).send().await, "zero")?;
    assert_eq!(server.connections(), 0);
    Ok(())
}

/// Names and values that are none, and a query that is no query.
async fn bad_headers_of_http(cx: Context) -> Verdict {
    let server = cx.echo();
    let request = || cx.client().get(server.http_url("/get"));
    invalid(request().header("x bad", "a").send().await, "header")?;
    invalid(request().header("x-bad", "a\nb").send().await, "x-bad")?;
    invalid(request().bearer_auth("a\nb").send().await, "line break")?;
    invalid(request().query(&7).send().await, "query")?;
    assert_eq!(server.connections(), 0);
    Ok(())
}

/// The session stays open.
async fn control_frames_that_are_too_long(cx: Context) -> Verdict {
    let (_server, mut session) = cx.session("/echo").await?;
    let payload = Bytes::from(vec![0; 126]);
    invalid(session.send(Frame::Ping(payload.clone())).await, "125")?;
    invalid(session.send(Frame::Pong(payload)).await, "125")?;
    echoes(&mut session, "works").await
}

/// A reason of 123 bytes is one, of 124 is none.
async fn close_reasons_that_are_too_long(_: Context) -> Verdict {
    CloseReason::new(1000, "x".repeat(123))?;
    invalid(CloseReason::new(1000, "x".repeat(124)), "123")?;
    invalid(CloseReason::new(1000, "é".repeat(62)), "123")
}

/// Those that are only for reporting, those that are reserved, and those that are none.
async fn close_codes_that_must_not_travel(_: Context) -> Verdict {
    for code in [0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 65_535] {
        invalid(CloseReason::new(code, ""), &code.to_string())?;
    }
    Ok(())
}

/// A client without the plugin says what to do.
async fn web_sockets_that_are_not_installed(cx: Context) -> Verdict {
    let server = cx.echo();
    let client = HttpClient::builder(cx.engine()).build()?;
    invalid(client.web_socket(server.ws_url("/echo")).connect().await, "install")?;
    assert_eq!(server.connections(), 0);
    Ok(())
}

#[track_caller]
fn invalid<T>(result: drivetrain::Result<T>, says: &str) -> Verdict {
    let error = fails(result, ErrorKind::InvalidInput)?;
    let message = error.to_string().to_lowercase();
    if !message.contains(says) {
        return Err(Failure::new(format_args!("`{error}` does not say `{says}`")));
    }
    Ok(())
}
