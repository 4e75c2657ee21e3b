//! Handshakes that fail: refused, answered wrongly, or not answered.

use std::{io, time::Duration};

use drivetrain::{Capability, Error, ErrorKind, Session};
use drivetrain_engine::Capability::Subprotocols;

use super::{accept_head, http::closed_port};
use crate::{
    case::{Case, case},
    context::{Context, PATIENCE},
    expect::fails,
    failure::{Failure, Verdict},
    peer::Conn,
};

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
        &[UPGRADE, CONNECTION, ACCEPT, "sec-websocket-extensions: permessage-deflate"],
    ),
    (
        "a_subprotocol_where_none_was_offered",
        &[UPGRADE, CONNECTION, ACCEPT, "sec-websocket-protocol: chat"],
    ),
];

pub(super) fn cases() -> Vec<Case> {
    let mut cases = vec![
        case(a_body_is_cut_at_64_kib),
        case(a_subprotocol_nobody_offered_is_a_protocol_error).needs(&[Subprotocols]),
        case(a_closed_port_is_a_connect_error),
        case(an_unknown_host_is_a_connect_error),
        case(garbage_is_a_protocol_error),
        case(a_server_that_leaves_at_once_is_an_error),
        case(a_server_that_leaves_within_its_answer_is_an_error),
        case(no_answer_at_all_times_out),
        case(an_answer_byte_by_byte_times_out),
        case(a_refusal_without_its_body_times_out),
        case(an_endless_answer_is_an_error_and_no_memory),
    ];
    for status in [200, 201, 400, 401, 403, 404, 426, 429, 500, 503] {
        let refused = case(move |cx| a_refusal_is_given(cx, status));
        cases.push(refused.named("refusal", format_args!("status_{status}_is_given")));
    }
    for (name, lines) in WRONG {
        let wrong = case(move |cx| a_wrong_answer_is_a_protocol_error(cx, lines));
        cases.push(wrong.named("refusal", format_args!("{name}_is_a_protocol_error")));
    }
    cases.into_iter().map(|case| case.needs(&[Capability::WebSockets])).collect()
}

/// Another status is `Rejected` with status, headers and body.
async fn a_refusal_is_given(cx: Context, status: u16) -> Verdict {
    let url = cx.echo().ws_url(&format!("/refuse?status={status}"));
    let error = fails(cx.client().web_socket(url).connect().await, ErrorKind::Rejected)?;
    let response = error.response().ok_or_else(|| Failure::new("it has no response"))?;
    assert_eq!(response.status(), status);
    assert_eq!(response.headers()["x-test"], "refused");
    assert_eq!(response.body(), &format!("refused with {status}"));
    assert_eq!(error.is_transient(), matches!(status, 429 | 500 | 503));
    assert!(error.engine().is_some());
    Ok(())
}

/// A refusal's body is read up to 64 KiB.
async fn a_body_is_cut_at_64_kib(cx: Context) -> Verdict {
    let url = cx.echo().ws_url("/refuse?size=1000000");
    let error = fails(cx.client().web_socket(url).connect().await, ErrorKind::Rejected)?;
    assert_eq!(error.response().map(|response| response.body().len()), Some(64 << 10));
    Ok(())
}

/// What is wrong about a 101 is `Protocol`, with the response.
async fn a_wrong_answer_is_a_protocol_error(cx: Context, lines: &'static [&str]) -> Verdict {
    let error = fails(
        answered(&cx, LONG, move |conn| accept_head(conn, lines)).await?,
        ErrorKind::Protocol,
    )?;
    assert_eq!(error.response().map(|response| response.status().as_u16()), Some(101), "{error:?}");
    Ok(())
}

/// A subprotocol that is none of those offered is `Protocol`.
async fn a_subprotocol_nobody_offered_is_a_protocol_error(cx: Context) -> Verdict {
    let request = cx.client().web_socket(cx.echo().ws_url("/subprotocol?select=stranger"));
    let error = fails(request.subprotocol("chat").connect().await, ErrorKind::Protocol)?;
    assert!(error.to_string().contains("stranger"), "{error}");
    Ok(())
}

/// A port that nobody listens on is `Connect`.
async fn a_closed_port_is_a_connect_error(cx: Context) -> Verdict {
    let connect = cx.client().web_socket(format!("ws://{}/", closed_port()?)).connect();
    let error = fails(connect.await, ErrorKind::Connect)?;
    assert!(error.is_transient() && error.engine().is_some(), "{error:?}");
    Ok(())
}

/// A name that does not exist (RFC 6761 section 6.4) is `Connect`.
async fn an_unknown_host_is_a_connect_error(cx: Context) -> Verdict {
    let connect = cx.client().web_socket("ws://drivetrain.invalid/").connect();
    fails(connect.await, ErrorKind::Connect)?;
    Ok(())
}

/// An answer that is not HTTP is `Protocol`.
async fn garbage_is_a_protocol_error(cx: Context) -> Verdict {
    for garbage in
        [&b"SSH-2.0-OpenSSH_9.6\r\n\r\n"[..], b"\x16\x03\x01\x02\x00\x01\x00", b"\r\r\r\r"]
    {
        let answer = answered(&cx, LONG, move |conn| {
            conn.read_request()?;
            conn.write_all(garbage)
        });
        fails(answer.await?, ErrorKind::Protocol)?;
    }
    Ok(())
}

/// A server that ends the connection instead of answering is `Io`.
async fn a_server_that_leaves_at_once_is_an_error(cx: Context) -> Verdict {
    fails(answered(&cx, LONG, |conn| conn.read_request().map(drop)).await?, ErrorKind::Io)?;
    Ok(())
}

/// A server that ends the connection within its answer is `Io`.
async fn a_server_that_leaves_within_its_answer_is_an_error(cx: Context) -> Verdict {
    let answer = answered(&cx, LONG, |conn| {
        conn.read_request()?;
        conn.write_all(b"HTTP/1.1 101 Switching Protocols\r\nupgrade: webso")
    });
    fails(answer.await?, ErrorKind::Io)?;
    Ok(())
}

/// A server that says nothing is given up within the handshake's time limit.
async fn no_answer_at_all_times_out(cx: Context) -> Verdict {
    fails(answered(&cx, SHORT, Conn::drain).await?, ErrorKind::Timeout)?;
    Ok(())
}

/// The limit is for the whole answer, not for each byte.
async fn an_answer_byte_by_byte_times_out(cx: Context) -> Verdict {
    let answer = answered(&cx, SHORT, |conn| {
        conn.read_request()?;
        for byte in b"HTTP/1.1 101 Switching Protocols\r\n".iter().cycle() {
            conn.write_all(&[*byte])?;
            conn.pause(Duration::from_millis(50))?;
        }
        Ok(())
    });
    fails(answer.await?, ErrorKind::Timeout)?;
    Ok(())
}

/// The limit covers the body of a refusal.
async fn a_refusal_without_its_body_times_out(cx: Context) -> Verdict {
    let answer = answered(&cx, SHORT, |conn| {
        conn.read_request()?;
        conn.respond(403, &[("content-length", "100")], "half")?;
        conn.drain()
    });
    fails(answer.await?, ErrorKind::Timeout)?;
    Ok(())
}

/// Headers without an end are refused before they are many.
async fn an_endless_answer_is_an_error_and_no_memory(cx: Context) -> Verdict {
    const MUCH: usize = 64 << 20;
    let (sent, mut taken) = futures_channel::mpsc::unbounded();
    let server = cx.server(move |conn| {
        conn.read_request()?;
        let line = format!("x-endless: {}\r\n", "x".repeat(1000)).into_bytes();
        let mut count = 0;
        let mut result = conn.write_all(b"HTTP/1.1 101 Switching Protocols\r\n");
        while result.is_ok() && count < MUCH {
            result = conn.write_all(&line);
            count += line.len();
        }
        sent.unbounded_send(count).map_err(io::Error::other)
    });
    let connect = cx.client().web_socket(server.ws_url("/")).connect();
    fails(cx.within(PATIENCE, "it is refused", connect).await?, ErrorKind::Protocol)?;
    let count = futures_util::StreamExt::next(&mut taken).await;
    assert!(count.is_some_and(|count| count < MUCH), "{count:?} bytes were taken");
    Ok(())
}

/// What a handshake with this time limit comes to, with this server.
async fn answered(
    cx: &Context,
    limit: Duration,
    handler: impl Fn(&mut Conn) -> io::Result<()> + Send + Sync + 'static,
) -> Verdict<Result<Session, Error>> {
    let server = cx.server(handler);
    let connect = cx.client().web_socket(server.ws_url("/")).handshake_timeout(limit).connect();
    cx.within(PATIENCE, "the handshake ends", connect).await
}
