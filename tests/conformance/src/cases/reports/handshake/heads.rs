//! Heads of responses: unusual forms and size limits.

use std::{io, sync::Arc};

use drivetrain::{Capability, Error, ErrorKind, HttpClient, http::Version};

use super::super::super::accept_head;
use crate::{
    case::{Case, case},
    context::{Context, PATIENCE, client_for},
    expect::fails,
    failure::{Failure, Verdict},
    peer::{Conn, Server, TestCa},
};

/// Lines of a head that say nothing a client needs, in ways that servers do.
const UNUSUAL: [(&str, &str); 5] = [
    ("a_folded_header", "x-folded: one\r\n two\r\n\tthree\r\nx-test: kept"),
    ("a_header_with_a_control_byte", "x-junk: a\x01b\r\nx-test: kept"),
    ("a_name_with_a_control_byte", "x\x01junk: a\r\nx-test: kept"),
    ("a_line_without_a_colon", "this is no header\r\nx-test: kept"),
    ("a_value_in_latin_1", "x-name: caf\u{e9}\r\nx-test: kept"),
];

/// How many fields of how many bytes each, and whether that is within the limits (256 fields, 64 KiB).
const SIZES: [(&str, usize, usize, Option<&str>); 5] = [
    ("200_fields", 200, 20, None),
    ("a_field_of_20_kb", 1, 20 << 10, None),
    ("a_field_of_50_kb", 1, 50 << 10, None),
    ("300_fields", 300, 20, Some("max_headers")),
    ("a_field_of_300_kb", 1, 300 << 10, Some("max_header_size")),
];

pub(super) fn cases() -> Vec<Case> {
    use Capability::{Http1, Http2, Tls, WebSockets};
    let mut cases = Vec::new();
    let mut add = |case: Case, what: &str, name: &str, needs: &[Capability]| {
        let name = format!("{name}_of_{what}_is_as_it_should");
        cases.push(case.named("reports::handshake", name).needs(needs));
    };
    for (name, line) in UNUSUAL {
        add(case(move |cx| a_handshake_has(cx, line)), "a_handshake", name, &[WebSockets]);
        add(case(move |cx| an_answer_has(cx, line)), "an_answer", name, &[Http1]);
    }
    for (name, count, size, option) in SIZES {
        let large = move |cx| a_handshake_is_large(cx, count, size, option);
        add(case(large), "a_handshake", name, &[WebSockets]);
        let large = move |cx| a_refusal_is_large(cx, count, size, option);
        add(case(large), "a_refusal", name, &[WebSockets]);
        let large = move |cx| an_answer_is_large(cx, count, size, option);
        add(case(large), "an_answer", name, &[Http1]);
        let large = move |cx| an_answer_over_http2_is_large(cx, count, size, option);
        add(case(large), "an_answer_over_http_2", name, &[Http2, Tls]);
        let large = move |cx| a_handshake_over_http2_is_large(cx, count, size, option);
        add(case(large), "a_handshake_over_http_2", name, &[WebSockets, Tls]);
    }
    cases.push(
        case(an_accept_that_is_folded_counts)
            .named("reports::handshake", "an_accept_that_is_folded_counts")
            .needs(&[WebSockets]),
    );
    cases.push(
        case(an_accept_with_a_control_byte_is_none)
            .named("reports::handshake", "an_accept_with_a_control_byte_is_none")
            .needs(&[WebSockets]),
    );
    cases
}

const UPGRADE: [&str; 2] = ["upgrade: websocket", "connection: Upgrade"];

async fn a_handshake_has(cx: Context, line: &'static str) -> Verdict {
    let server = cx.server(move |conn| {
        accept_head(conn, &[UPGRADE[0], UPGRADE[1], "sec-websocket-accept: {accept}", line])?;
        conn.drain()
    });
    let session = cx.client().web_socket(server.ws_url("/")).connect().await?;
    if let Some(response) = session.response() {
        assert_eq!(response.headers()["x-test"], "kept");
    }
    Ok(())
}

async fn an_accept_that_is_folded_counts(cx: Context) -> Verdict {
    let server = cx.server(move |conn| {
        accept_head(conn, &[UPGRADE[0], UPGRADE[1], "sec-websocket-accept:\r\n {accept}"])?;
        conn.drain()
    });
    cx.client().web_socket(server.ws_url("/")).connect().await?;
    Ok(())
}

/// A broken header does not count as a required one.
async fn an_accept_with_a_control_byte_is_none(cx: Context) -> Verdict {
    let server = cx.server(move |conn| {
        accept_head(conn, &[UPGRADE[0], UPGRADE[1], "sec-websocket-accept: {accept}\x01"])?;
        conn.drain()
    });
    fails(cx.client().web_socket(server.ws_url("/")).connect().await, ErrorKind::Protocol)?;
    Ok(())
}

async fn an_answer_has(cx: Context, line: &'static str) -> Verdict {
    let server = cx.server(move |conn| {
        while conn.read_request()?.is_some() {
            // As Latin-1, which is what bytes beyond ASCII are in old servers.
            let head = format!("HTTP/1.1 200 OK\r\n{line}\r\ncontent-length: 2\r\n\r\nok");
            conn.write_all(&head.chars().map(|char| char as u8).collect::<Vec<_>>())?;
        }
        Ok(())
    });
    let response = cx.client().get(server.http_url("/")).send().await?;
    assert_eq!(response.headers()["x-test"], "kept");
    if line.starts_with("x-folded") {
        let folded = response.headers()["x-folded"].to_str()?;
        assert_eq!(folded.split_whitespace().collect::<Vec<_>>(), ["one", "two", "three"]);
    }
    assert_eq!(response.text().await?, "ok");
    Ok(())
}

fn fields(count: usize, size: usize) -> Vec<(String, String)> {
    (0..count).map(|n| (format!("x-field-{n}"), "v".repeat(size))).collect()
}

fn lines(count: usize, size: usize) -> String {
    let line = |(name, value): (String, String)| format!("{name}: {value}");
    fields(count, size).into_iter().map(line).collect::<Vec<_>>().join("\r\n")
}

/// The first error of what has to fail where an option limits it, and nothing where none does.
fn limited<T>(result: drivetrain::Result<T>, option: Option<&str>) -> Verdict<Option<T>> {
    let Some(option) = option else { return Ok(Some(result?)) };
    let error: Error = fails(result, ErrorKind::TooBig)?;
    assert!(error.to_string().contains(option), "{error} names no {option}");
    assert!(!error.is_transient(), "{error:?}");
    Ok(None)
}

async fn a_handshake_is_large(
    cx: Context,
    count: usize,
    size: usize,
    option: Option<&'static str>,
) -> Verdict {
    let server = cx.server(move |conn| {
        let lines = lines(count, size);
        accept_head(conn, &[UPGRADE[0], UPGRADE[1], "sec-websocket-accept: {accept}", &lines])?;
        conn.drain()
    });
    let connect = cx.client().web_socket(server.ws_url("/")).connect();
    limited(cx.within(PATIENCE, "it is answered", connect).await?, option)?;
    Ok(())
}

async fn a_refusal_is_large(
    cx: Context,
    count: usize,
    size: usize,
    option: Option<&'static str>,
) -> Verdict {
    let server = cx.server(move |conn| {
        conn.read_request()?;
        let lines = lines(count, size);
        conn.write_all(
            format!("HTTP/1.1 403 Forbidden\r\n{lines}\r\ncontent-length: 2\r\n\r\nno").as_bytes(),
        )
    });
    let connect = cx.client().web_socket(server.ws_url("/")).connect();
    let result = cx.within(PATIENCE, "it is answered", connect).await?;
    if option.is_none() {
        let error = fails(result, ErrorKind::Rejected)?;
        assert_eq!(error.response().map(|response| response.status().as_u16()), Some(403));
        return Ok(());
    }
    limited(result, option)?;
    Ok(())
}

async fn an_answer_is_large(
    cx: Context,
    count: usize,
    size: usize,
    option: Option<&'static str>,
) -> Verdict {
    let server = cx.server(move |conn| {
        while conn.read_request()?.is_some() {
            let lines = lines(count, size);
            let head = format!("HTTP/1.1 200 OK\r\n{lines}\r\ncontent-length: 2\r\n\r\nok");
            conn.write_all(head.as_bytes())?;
        }
        Ok(())
    });
    let send = cx.client().get(server.http_url("/")).send();
    let result = cx.within(PATIENCE, "it is answered", send).await?;
    if let Some(response) = limited(result, option)? {
        assert!(response.headers().len() > count, "{}", response.headers().len());
        assert_eq!(response.text().await?, "ok");
    }
    Ok(())
}

/// An oversized response ends its own request only.
async fn an_answer_over_http2_is_large(
    cx: Context,
    count: usize,
    size: usize,
    option: Option<&'static str>,
) -> Verdict {
    let (client, server) = http2(&cx, move |conn| answer_in_http2(conn, count, size))?;
    let first = client.get(server.http_url("/")).send().await?;
    assert_eq!(first.version(), Version::HTTP_2);
    let second = client.get(server.http_url("/")).send();
    let second = cx.within(PATIENCE, "it is answered", second).await?;
    if let Some(response) = limited(second, option)? {
        assert!(response.headers().len() >= count, "{}", response.headers().len());
    }
    assert_eq!(first.text().await?, "begun and ended");
    assert_eq!(client.get(server.http_url("/")).send().await?.status(), 200);
    assert_eq!(server.connections(), 1);
    Ok(())
}

async fn a_handshake_over_http2_is_large(
    cx: Context,
    count: usize,
    size: usize,
    option: Option<&'static str>,
) -> Verdict {
    let serve = move |conn: &mut Conn| answer_in_http2(conn, count, size);
    let ca = TestCa::new();
    let server = cx.keep(Server::start_with_tls(serve, ca.http2_server_config()));
    // An engine without that switch has nothing to be checked here.
    let Some(engine) = cx.engine_over_http2(&ca) else { return Ok(()) };
    let client = client_for(engine);
    let mut first = client.web_socket(server.ws_url("/")).connect().await?;
    let connect = client.web_socket(server.ws_url("/")).connect();
    limited(cx.within(PATIENCE, "it is answered", connect).await?, option)?;
    let text = first.receive().await?;
    let text = text.ok_or_else(|| Failure::new("the first session has ended"))?;
    assert_eq!(text.read_text(), Some("hello"));
    assert_eq!(server.connections(), 1);
    Ok(())
}

fn http2(
    cx: &Context,
    serve: impl Fn(&mut Conn) -> io::Result<()> + Send + Sync + 'static,
) -> Verdict<(HttpClient, Arc<Server>)> {
    let ca = TestCa::new();
    let server = cx.keep(Server::start_with_tls(serve, ca.http2_server_config()));
    let engine = cx.engine_with_root(&ca).ok_or_else(|| Failure::new("it has no TLS"))?;
    Ok((client_for(engine), server))
}

/// The least of HTTP/2 for this: the first request's answer ends after the second's, which has a head of
/// this many fields. A request whose stream the client leaves open is one for a WebSocket.
fn answer_in_http2(conn: &mut Conn, count: usize, size: usize) -> io::Result<()> {
    const DATA: u8 = 0;
    const HEADERS: u8 = 1;
    const SETTINGS: u8 = 4;
    const PING: u8 = 6;
    const CONTINUATION: u8 = 9;
    const END: u8 = 1;
    const END_HEADERS: u8 = 4;
    conn.read_exact(&mut [0; 24])?;
    // SETTINGS_ENABLE_CONNECT_PROTOCOL, set to 1 (RFC 8441 section 3).
    send(conn, SETTINGS, 0, 0, &[0, 8, 0, 0, 0, 1])?;
    loop {
        let mut head = [0; 9];
        if conn.read_some(&mut head[..1])? == 0 {
            return Ok(());
        }
        conn.read_exact(&mut head[1..])?;
        let mut payload = vec![0; u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize];
        conn.read_exact(&mut payload)?;
        let (kind, flags, stream) = (head[3], head[4], head[8]);
        match (kind, stream) {
            (SETTINGS, _) if flags & END == 0 => send(conn, SETTINGS, END, 0, &[])?,
            (PING, _) if flags & END == 0 => send(conn, PING, END, 0, &payload)?,
            (HEADERS, 1) => {
                send(conn, HEADERS, END_HEADERS, 1, &[0x88])?;
                if flags & END != 0 {
                    send(conn, DATA, 0, 1, b"begun ")?;
                }
            }
            (HEADERS, 3) => {
                let mut block = vec![0x88];
                for (name, value) in fields(count, size) {
                    block.push(0);
                    literal(&mut block, name.as_bytes());
                    literal(&mut block, value.as_bytes());
                }
                let end = if flags & END != 0 { END } else { 0 };
                let mut chunks = block.chunks(1 << 14).peekable();
                let mut kind = HEADERS;
                while let Some(chunk) = chunks.next() {
                    let last = if chunks.peek().is_none() { END_HEADERS } else { 0 };
                    let flags = last | if kind == HEADERS { end } else { 0 };
                    send(conn, kind, flags, 3, chunk)?;
                    kind = CONTINUATION;
                }
                if end != 0 {
                    send(conn, DATA, END, 1, b"and ended")?;
                } else {
                    send(conn, DATA, 0, 1, b"\x81\x05hello")?;
                }
            }
            (HEADERS, _) => send(conn, HEADERS, END_HEADERS | END, stream, &[0x88])?,
            _ => {}
        }
    }
}

fn send(conn: &mut Conn, kind: u8, flags: u8, stream: u8, payload: &[u8]) -> io::Result<()> {
    let [_, a, b, c] = u32::try_from(payload.len()).unwrap_or(u32::MAX).to_be_bytes();
    conn.write_all(&[&[a, b, c, kind, flags, 0, 0, 0, stream], payload].concat())
}

/// A string literal of HPACK (RFC 7541 section 5.2), not in Huffman's code.
fn literal(block: &mut Vec<u8>, text: &[u8]) {
    let mut left = text.len();
    if left < 127 {
        block.push(left as u8);
    } else {
        block.push(127);
        left -= 127;
        while left >= 128 {
            block.push((left % 128) as u8 | 128);
            left /= 128;
        }
        block.push(left as u8);
    }
    block.extend_from_slice(text);
}
