//! The cookie jar.

use std::{
    io,
    sync::{Arc, Mutex, PoisonError},
};

use drivetrain::{Capability, CookieJar, ErrorKind};

use crate::{
    case::{Case, case},
    cases::cookies::with_jar,
    context::Context,
    expect::fails,
    failure::{Failure, Verdict},
    peer::{Conn, Server},
};

pub(super) fn cases() -> Vec<Case> {
    use Capability::{HandshakeHeaders, Http1, WebSockets};
    vec![
        case(bytes_beyond_ascii_are_sent_back_as_they_came).needs(&[Http1]),
        case(bytes_beyond_ascii_are_sent_back_by_handshakes).needs(&[WebSockets, HandshakeHeaders]),
        case(a_bad_cookie_set_by_hand_does_not_silence_the_jar).needs(&[Http1]),
    ]
}

/// In UTF-8, in Latin-1, and in neither.
const LINES: [&[u8]; 3] =
    [b"utf=gr\xc3\xb6\xc3\x9fe; Path=/", b"latin=gr\xf6\xdfe", b"\xff\xfe=\x80\x81"];
const HEADER: &[u8] = b"utf=gr\xc3\xb6\xc3\x9fe; latin=gr\xf6\xdfe; \xff\xfe=\x80\x81";

async fn bytes_beyond_ascii_are_sent_back_as_they_came(cx: Context) -> Verdict {
    let (server, seen) = refusing(&cx);
    let (_, client) = with_jar(cx.engine())?;
    for _ in 0..2 {
        client.get(server.http_url("/")).send().await?.bytes().await?;
    }
    is_sent(&seen)
}

async fn bytes_beyond_ascii_are_sent_back_by_handshakes(cx: Context) -> Verdict {
    let (server, seen) = refusing(&cx);
    let (_, client) = with_jar(cx.engine())?;
    for _ in 0..2 {
        fails(client.web_socket(server.ws_url("/")).connect().await, ErrorKind::Rejected)?;
    }
    is_sent(&seen)
}

async fn a_bad_cookie_set_by_hand_does_not_silence_the_jar(cx: Context) -> Verdict {
    let server = cx.echo();
    let (jar, client): (CookieJar, _) = with_jar(cx.engine())?;
    jar.set(server.http_url("/"), "good=1")?;
    for bad in ["a=\u{1}", "a=1\r\nx: y", "a\n=1", "a=\0"] {
        fails(jar.set(server.http_url("/"), bad), ErrorKind::InvalidInput)?;
    }
    let seen = super::super::http::description(client.get(server.http_url("/anything"))).await?;
    assert_eq!(seen["headers"]["cookie"], serde_json::json!(["good=1"]));
    Ok(())
}

type Heads = Arc<Mutex<Vec<Vec<u8>>>>;

/// Sets the cookies and refuses; records received bytes.
fn refusing(cx: &Context) -> (Arc<Server>, Heads) {
    let heads = Heads::default();
    let seen = Arc::clone(&heads);
    let server = cx.server(move |conn| {
        let head = read_head(conn)?;
        seen.lock().unwrap_or_else(PoisonError::into_inner).push(head);
        conn.write_all(b"HTTP/1.1 403 Forbidden\r\nconnection: close\r\ncontent-length: 0\r\n")?;
        for line in LINES {
            conn.write_all(&[b"set-cookie: ", line, b"\r\n"].concat())?;
        }
        conn.write_all(b"\r\n")
    });
    (server, heads)
}

fn read_head(conn: &mut Conn) -> io::Result<Vec<u8>> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        conn.read_exact(&mut byte)?;
        head.extend(byte);
    }
    Ok(head)
}

fn is_sent(heads: &Heads) -> Verdict {
    let heads = heads.lock().unwrap_or_else(PoisonError::into_inner);
    let head = heads.last().map(Vec::as_slice).unwrap_or_default();
    match head.windows(HEADER.len()).any(|window| window == HEADER) {
        true => Ok(()),
        false => {
            let head = String::from_utf8_lossy(head);
            Err(Failure::new(format_args!("the cookies are not in it: {head}")))
        }
    }
}
