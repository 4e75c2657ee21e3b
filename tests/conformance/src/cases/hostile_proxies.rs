//! Proxies that answer wrongly, without an end, or never to the end: nothing is reached, and nothing is kept.

use std::{io, time::Duration};

use drivetrain::{Capability, Error, ErrorKind, HttpTimeout, Proxy, WebSockets};

use crate::{
    case::{Case, case},
    context::{Context, PATIENCE, builder_for},
    failure::{Failure, Verdict},
    peer::Conn,
};

/// A time limit that has to pass.
const SHORT: Duration = Duration::from_millis(400);

/// What a proxy does when it was asked for a tunnel.
#[derive(Clone, Copy, Debug)]
enum Answer {
    /// This, and then it leaves.
    Cut(&'static [u8]),
    /// This, and then it waits for the client to leave.
    Whole(&'static [u8]),
    /// This, and then that again and again.
    Endless(&'static [u8], &'static [u8]),
    /// The same, a byte at a time.
    Slow(&'static [u8]),
}

use Answer::{Cut, Endless, Slow, Whole};

const HTTP: [(&str, Answer); 13] = [
    ("half_a_status_line", Cut(b"HTTP/1.1 200 Conn")),
    ("half_a_head", Cut(b"HTTP/1.1 200 OK\r\nx: y\r\n")),
    ("no_version", Whole(b"200 OK\r\n\r\n")),
    ("no_status", Whole(b"HTTP/1.1 OK\r\n\r\n")),
    ("a_101", Whole(b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n")),
    ("a_redirect", Whole(b"HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1/\r\ncontent-length: 0\r\n\r\n")),
    ("a_401", Whole(b"HTTP/1.1 401 Unauthorized\r\nwww-authenticate: Basic\r\ncontent-length: 0\r\n\r\n")),
    ("a_refusal_without_its_body", Whole(b"HTTP/1.1 403 Forbidden\r\ncontent-length: 100000\r\n\r\nx")),
    ("a_refusal_behind", Whole(b"HTTP/1.1 200 OK\r\n\r\nHTTP/1.1 400 Bad Request\r\n\r\n")),
    ("frames_behind", Cut(b"HTTP/1.1 200 OK\r\n\r\n\x81\x05hello\x88\x00")),
    ("headers_without_end", Endless(b"HTTP/1.1 200 OK\r\n", b"a: b\r\n")),
    ("a_line_without_end", Endless(b"HTTP/1.1 200 ", b"OK ")),
    ("head_byte_by_byte", Slow(b"HTTP/1.1 200 OK\r\nx: ")),
];

const SOCKS: [(&str, Answer); 12] = [
    ("another_version", Whole(&[4, 0])),
    ("half_a_greeting", Cut(&[5])),
    ("a_method_nobody_offered", Whole(&[5, 1])),
    ("a_password_nobody_has", Whole(&[5, 2])),
    ("half_a_reply", Cut(&[5, 0, 5, 0, 0])),
    ("half_an_address", Cut(&[5, 0, 5, 0, 0, 1, 127, 0])),
    ("half_a_name", Cut(&[5, 0, 5, 0, 0, 3, 255, b'a'])),
    ("an_unknown_kind_of_address", Whole(&[5, 0, 5, 0, 0, 9, 1, 2, 3, 4, 5, 6])),
    ("a_reply_of_another_version", Whole(&[5, 0, 4, 0, 0, 1, 127, 0, 0, 1, 0, 1])),
    ("an_unknown_failure", Whole(&[5, 0, 5, 0x77, 0, 1, 0, 0, 0, 0, 0, 0])),
    ("a_reply_without_end", Endless(&[5, 0, 5, 1, 0, 3, 255], &[b'a'; 64])),
    ("a_name_byte_by_byte", Slow(&[5, 0, 5, 0, 0, 3, 255])),
];

pub(super) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for scheme in ["https", "ws", "wss"] {
        let protocol = if scheme == "https" { Capability::Http1 } else { Capability::WebSockets };
        let mut needs = vec![protocol];
        if scheme != "ws" {
            needs.push(Capability::Tls);
        }
        let http = HTTP.map(|row| (Capability::Proxies, "an_http_proxy", row));
        let socks = SOCKS.map(|row| (Capability::SocksProxies, "a_socks5_proxy", row));
        for (capability, proxy, (name, answer)) in http.into_iter().chain(socks) {
            let needs = [needs.clone(), vec![capability]].concat();
            cases.push(
                case(move |cx| nothing_is_reached(cx, capability, scheme, answer))
                    .named("proxies", format_args!("{name}_of_{proxy}_is_no_way_for_{scheme}"))
                    .needs(&needs),
            );
        }
    }
    cases
}

/// The call fails, in time, at the proxy; the target hears nothing.
async fn nothing_is_reached(
    cx: Context,
    capability: Capability,
    scheme: &'static str,
    answer: Answer,
) -> Verdict {
    let target = cx.echo();
    let proxy = cx.server(move |conn| {
        match capability {
            Capability::Proxies => drop(conn.read_request()?),
            _ => drop(conn.read_some(&mut [0; 3])?),
        }
        give(conn, answer)
    });
    let (host, port) = (proxy.addr().ip().to_string(), proxy.addr().port());
    let gone_through = match capability {
        Capability::Proxies => Proxy::http(host, port)?,
        _ => Proxy::socks5(host, port)?,
    };
    let url = format!("{scheme}://127.0.0.1:{}/echo", target.addr().port());
    // Of an answer without an end too much has to come first.
    let limit = if matches!(answer, Endless(..)) { PATIENCE / 2 } else { SHORT };
    let calling = call(&cx, gone_through, &url, limit);
    let error = cx.within(PATIENCE, "the call fails", calling).await??;
    let is_told = match answer {
        Slow(_) => error.kind() == ErrorKind::Timeout,
        Endless(..) if capability == Capability::Proxies => error.kind() == ErrorKind::TooBig,
        // Behind an open tunnel the proxy speaks as the target.
        _ => matches!(error.kind(), ErrorKind::Connect | ErrorKind::Timeout),
    };
    let is_behind = matches!(answer, Whole(bytes) | Cut(bytes) if bytes.starts_with(b"HTTP/1.1 200 OK\r\n\r\n"));
    assert!(is_told || is_behind, "{error:?}");
    assert_eq!(target.connections(), 0, "it went past the proxy");
    // Also while the error is kept.
    cx.until("the connections to the proxy end", || proxy.open() == 0).await?;
    drop(error);
    Ok(())
}

async fn call(cx: &Context, proxy: Proxy, url: &str, limit: Duration) -> Verdict<Error> {
    let builder = builder_for(cx.engine()).proxy(proxy);
    let result = if url.starts_with("ws") {
        let client = builder.install(WebSockets::new().handshake_timeout(limit)).build()?;
        client.web_socket(url).connect().await.map(drop)
    } else {
        let client = builder.install(HttpTimeout::new().request(limit)).build()?;
        client.get(url).send().await.map(drop)
    };
    result.err().ok_or_else(|| Failure::new("it worked without a tunnel"))
}

fn give(conn: &mut Conn, answer: Answer) -> io::Result<()> {
    match answer {
        Cut(bytes) => conn.write_all(bytes),
        Whole(bytes) => {
            conn.write_all(bytes)?;
            conn.drain()
        }
        Endless(begin, again) => {
            conn.write_all(begin)?;
            let again = again.repeat(100);
            loop {
                if conn.write_all(&again).is_err() {
                    return Ok(());
                }
            }
        }
        Slow(begin) => {
            conn.write_all(begin)?;
            loop {
                // A name has 255 bytes: it must not end while the machine stands still.
                conn.pause(SHORT / 2)?;
                if conn.write_all(b"x").is_err() {
                    return Ok(());
                }
            }
        }
    }
}
