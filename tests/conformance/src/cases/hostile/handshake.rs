//! Handshakes that are cut, wrong, without an end, or not answered.

use std::{io, time::Duration};

use drivetrain::{ErrorKind, Session};

use super::{
    super::accept_head,
    bytes::{READ, bytewise, write_segments},
    table::{End, Row, own},
};
use crate::{
    context::{Context, FACTORS, PATIENCE},
    expect::text,
    failure::{Failure, Verdict},
    peer::{Conn, WireFrame, accept_key},
};

const PROTOCOL: End = End::NoSession(ErrorKind::Protocol);
const IO: End = End::NoSession(ErrorKind::Io);
const TOO_BIG: End = End::NoSession(ErrorKind::TooBig);
const REJECTED: End = End::NoSession(ErrorKind::Rejected);
const TIMEOUT: End = End::NoSession(ErrorKind::Timeout);

/// The handshake's time limit where it has to pass.
const SHORT: Duration = Duration::from_millis(400);
/// And where it must not.
const LONG: Duration = PATIENCE;

const CONNECTION: &str = "connection: Upgrade";
const UPGRADE: &str = "upgrade: websocket";
const ACCEPT: &str = "sec-websocket-accept: {accept}";

/// Answers of 101 that are not valid (RFC 6455 section 4.1).
const WRONG: [(&str, &[&str]); 10] = [
    ("no_upgrade", &[CONNECTION, ACCEPT]),
    ("another_upgrade", &["upgrade: h2c", CONNECTION, ACCEPT]),
    ("no_connection", &[UPGRADE, ACCEPT]),
    ("another_connection", &[UPGRADE, "connection: keep-alive", ACCEPT]),
    ("no_accept", &[UPGRADE, CONNECTION]),
    (
        "a_wrong_accept",
        &[UPGRADE, CONNECTION, "sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo="],
    ),
    ("an_empty_accept", &[UPGRADE, CONNECTION, "sec-websocket-accept:"]),
    ("two_accepts", &[UPGRADE, CONNECTION, ACCEPT, ACCEPT]),
    (
        "an_extension_nobody_offered",
        &[UPGRADE, CONNECTION, ACCEPT, "sec-websocket-extensions: x-nobodys"],
    ),
    (
        "a_subprotocol_where_none_was_offered",
        &[UPGRADE, CONNECTION, ACCEPT, "sec-websocket-protocol: chat"],
    ),
];

/// A case, what its answer begins with, and what then comes again and again.
const ENDLESS: [(&str, &str, &str); 5] = [
    ("a_status_line", "HTTP/1.1 101 ", "Switching"),
    ("a_headers_name", "HTTP/1.1 101 Switching Protocols\r\n", "x-name"),
    ("a_headers_value", "HTTP/1.1 101 Switching Protocols\r\nx: ", "value "),
    ("small_headers", "HTTP/1.1 101 Switching Protocols\r\n", "a: b\r\n"),
    ("a_refusals_headers", "HTTP/1.1 403 Forbidden\r\n", "a: b\r\n"),
];

const HUGE: [(&str, &str); 3] = [
    ("a_header_line", "x-huge: {}"),
    ("a_headers_name", "{}: x"),
    ("a_subprotocol", "sec-websocket-protocol: {}"),
];

pub(super) fn rows() -> Vec<Row> {
    let mut rows = cut();
    for (name, lines) in WRONG {
        let name = format!("refusal::{name}_is_a_protocol_error");
        rows.push(own(name, PROTOCOL, move |cx, end| a_wrong_answer(cx, end, lines)));
    }
    rows.push(own("refusal::garbage_is_a_protocol_error", PROTOCOL, garbage));
    for (name, begin, again) in ENDLESS {
        let name = format!("hostile::{name}_without_end_is_an_error");
        let again = again.to_owned();
        rows.push(own(name, TOO_BIG, move |cx, end| endless(cx, end, begin, again.clone())));
    }
    let begin = "HTTP/1.1 101 Switching Protocols\r\n";
    let again = format!("x-endless: {}\r\n", "x".repeat(1000));
    rows.push(own(
        "refusal::an_endless_answer_is_an_error_and_no_memory",
        TOO_BIG,
        move |cx, end| endless(cx, end, begin, again.clone()),
    ));
    for (name, line) in HUGE {
        let name = format!("hostile::{name}_of_a_mib_is_an_error");
        rows.push(own(name, TOO_BIG, move |cx, end| huge(cx, end, line)));
    }
    rows.extend([
        own("refusal::no_answer_at_all_times_out", TIMEOUT, no_answer_at_all),
        own("refusal::an_answer_byte_by_byte_times_out", TIMEOUT, an_answer_byte_by_byte),
        own("refusal::a_refusal_without_its_body_is_told", REJECTED, a_refusal_without_its_body),
    ]);
    rows
}

/// Answers in chunks, whole or not.
fn cut() -> Vec<Row> {
    vec![
        own("hostile::an_answer_of_one_byte_a_segment_is_good", End::Open, one_byte_a_segment),
        own("hostile::an_answer_may_be_split_anywhere", End::Open, split_anywhere),
        own("hostile::a_reset_within_the_handshake_is_an_error", IO, a_reset_within_it),
        own("refusal::a_server_that_leaves_at_once_is_an_error", IO, leaves_at_once),
        own(
            "refusal::a_server_that_leaves_within_its_answer_is_an_error",
            IO,
            leaves_within_its_answer,
        ),
    ]
}

/// Every byte of the 101 and of the first frame comes by itself.
async fn one_byte_a_segment(cx: Context, end: End) -> Verdict {
    let server = cx.server(|conn| {
        let answer = answer(conn)?;
        write_segments(conn, &bytewise(&answer))?;
        conn.drain()
    });
    let mut session = cx.client().web_socket(server.ws_url("/")).connect().await?;
    assert_eq!(text(&mut session).await?, "first");
    end.of(&mut session).await?;
    Ok(())
}

/// In two segments, with the border behind each byte of the 101 and of the first frame: in the first of
/// these the frame is in the segment of the 101's end.
async fn split_anywhere(cx: Context, end: End) -> Verdict {
    let server = cx.server(|conn| {
        let answer = answer(conn)?;
        // The number of the connection is the place.
        let (head, tail) = answer.split_at(conn.id().min(answer.len()));
        write_segments(conn, &[head.to_vec(), tail.to_vec()])?;
        conn.drain()
    });
    for at in 1..140 {
        let connect = cx.client().web_socket(server.ws_url("/")).connect();
        let connected = connect.await;
        let mut session =
            connected.map_err(|error| Failure::new(format_args!("split at {at}: {error:?}")))?;
        assert_eq!(text(&mut session).await?, "first", "split at {at}");
        end.of(&mut session).await?;
    }
    Ok(())
}

/// Before the answer, within its first line, its headers, and the empty line at its end.
async fn a_reset_within_it(cx: Context, end: End) -> Verdict {
    for at in [0, 1, 12, 34, 60, 127, 128] {
        let connected = answered(&cx, LONG, move |conn| {
            let answer = answer(conn)?;
            conn.write_all(&answer[..at])?;
            conn.pause(READ)?;
            conn.reset()
        });
        end.of_connect(connected.await?)
            .map_err(|failure| Failure::new(format_args!("reset at {at}: {failure}")))?;
    }
    Ok(())
}

/// A server that ends the connection instead of answering.
async fn leaves_at_once(cx: Context, end: End) -> Verdict {
    end.of_connect(answered(&cx, LONG, |conn| conn.read_request().map(drop)).await?)?;
    Ok(())
}

/// A server that ends the connection within its answer.
async fn leaves_within_its_answer(cx: Context, end: End) -> Verdict {
    let connected = answered(&cx, LONG, |conn| {
        conn.read_request()?;
        conn.write_all(b"HTTP/1.1 101 Switching Protocols\r\nupgrade: webso")
    });
    end.of_connect(connected.await?)?;
    Ok(())
}

/// What is wrong about a 101 is told with the response.
async fn a_wrong_answer(cx: Context, end: End, lines: &'static [&str]) -> Verdict {
    let connected = answered(&cx, LONG, move |conn| accept_head(conn, lines)).await?;
    let error = end.of_connect(connected)?;
    assert_eq!(error.response().map(|response| response.status().as_u16()), Some(101), "{error:?}");
    Ok(())
}

/// An answer that is not HTTP.
async fn garbage(cx: Context, end: End) -> Verdict {
    for garbage in
        [&b"SSH-2.0-OpenSSH_9.6\r\n\r\n"[..], b"\x16\x03\x01\x02\x00\x01\x00", b"\r\r\r\r"]
    {
        let connected = answered(&cx, LONG, move |conn| {
            conn.read_request()?;
            conn.write_all(garbage)
        });
        end.of_connect(connected.await?)?;
    }
    Ok(())
}

/// It is refused before much is taken.
async fn endless(cx: Context, end: End, begin: &'static str, again: String) -> Verdict {
    const MUCH: usize = 64 << 20;
    let (sent, mut taken) = futures_channel::mpsc::unbounded();
    let connected = answered(&cx, LONG, move |conn| {
        conn.read_request()?;
        let block = again.repeat((16 << 10) / again.len());
        let mut count = 0;
        let mut result = conn.write_all(begin.as_bytes());
        while result.is_ok() && count < MUCH {
            result = conn.write_all(block.as_bytes());
            count += block.len();
        }
        sent.unbounded_send(count).map_err(io::Error::other)
    });
    end.of_connect(connected.await?)?;
    let count = futures_util::StreamExt::next(&mut taken).await;
    assert!(count.is_some_and(|count| count < MUCH), "{count:?} bytes were taken");
    Ok(())
}

/// A 101 that would be good otherwise.
async fn huge(cx: Context, end: End, line: &'static str) -> Verdict {
    let connected = answered(&cx, LONG, move |conn| {
        let line = line.replace("{}", &"x".repeat(1 << 20));
        // The client does not take it all.
        let _ = accept_head(conn, &[CONNECTION, UPGRADE, ACCEPT, &line]);
        Ok(())
    });
    end.of_connect(connected.await?)?;
    Ok(())
}

/// A server that says nothing is given up within the handshake's time limit.
async fn no_answer_at_all(cx: Context, end: End) -> Verdict {
    end.of_connect(answered(&cx, SHORT, Conn::drain).await?)?;
    Ok(())
}

/// The limit is for the whole answer, not for each byte.
async fn an_answer_byte_by_byte(cx: Context, end: End) -> Verdict {
    let connected = answered(&cx, SHORT, |conn| {
        conn.read_request()?;
        for byte in b"HTTP/1.1 101 Switching Protocols\r\n".iter().cycle() {
            conn.write_all(&[*byte])?;
            conn.pause(Duration::from_millis(50))?;
        }
        Ok(())
    });
    end.of_connect(connected.await?)?;
    Ok(())
}

/// The limit covers the body of a refusal, whose status is told then.
async fn a_refusal_without_its_body(cx: Context, end: End) -> Verdict {
    for limit in FACTORS.map(|factor| factor * SHORT) {
        let connected = answered(&cx, limit, |conn| {
            conn.read_request()?;
            conn.respond(403, &[("content-length", "100")], "half")?;
            conn.drain()
        });
        let connected = connected.await?;
        if connected.as_ref().is_err_and(|error| error.kind() == ErrorKind::Timeout) {
            continue; // the limit passed before there was a status
        }
        let error = end.of_connect(connected)?;
        assert_eq!(error.response().map(|response| &response.body()[..]), Some(&b"half"[..]));
        return Ok(());
    }
    Err(Failure::new("the status is not told"))
}

/// The result of a handshake with this time limit, with this server.
async fn answered(
    cx: &Context,
    limit: Duration,
    handler: impl Fn(&mut Conn) -> io::Result<()> + Send + Sync + 'static,
) -> Verdict<drivetrain::Result<Session>> {
    let server = cx.server(handler);
    let connect = cx.client().web_socket(server.ws_url("/")).handshake_timeout(limit).connect();
    cx.within(PATIENCE, "the handshake ends", connect).await
}

/// The answer to the handshake that comes next, and a text.
fn answer(conn: &mut Conn) -> io::Result<Vec<u8>> {
    let request = conn.read_request()?.ok_or(io::ErrorKind::UnexpectedEof)?;
    let accept = accept_key(request.header("sec-websocket-key").unwrap_or_default());
    let head = format!(
        "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: Upgrade\r\n\
         sec-websocket-accept: {accept}\r\n\r\n"
    );
    Ok([head.into_bytes(), WireFrame::text("first").encode(None)].concat())
}
