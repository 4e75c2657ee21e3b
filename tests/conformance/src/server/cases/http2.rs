//! WebSockets over HTTP/2 (RFC 8441): the decision table's lines for it, and the end of a stream.

use drivetrain_server::{Origins, Upgrader};

use super::{ServerCase, case};
use crate::{
    failure::{Failure, Verdict},
    peer::{Http2Client, WireFrame, opcode},
    server::context::{ServerContext, Started, drain, echo, eventually, within},
};

/// The fields of a handshake for this host.
const FIELDS: [(&str, &str); 6] = [
    (":method", "CONNECT"),
    (":protocol", "websocket"),
    (":scheme", "http"),
    (":path", "/"),
    (":authority", "example.com"),
    ("sec-websocket-version", "13"),
];

type Fields = Vec<(&'static str, &'static str)>;

pub(super) fn cases() -> Vec<ServerCase> {
    let row = |status: u16, name: &'static str, change: fn(&mut Fields)| {
        let same: fn(Upgrader) -> Upgrader = |it| it;
        answered(status, name, change, same)
    };
    vec![
        row(200, "a_connect_is_accepted", |_| ()),
        row(200, "a_key_is_not_needed_and_not_read", |it| it.push(("sec-websocket-key", "no key"))),
        row(200, "an_origin_of_the_same_authority", |it| {
            it.push(("origin", "http://example.com"));
        }),
        row(405, "a_get", |it| {
            it[0].1 = "GET";
            it.remove(1);
        }),
        row(405, "a_connect_for_another_protocol", |it| it[1].1 = "connect-udp"),
        row(426, "no_version", |it| it.truncate(5)),
        row(426, "version_8", |it| it[5].1 = "8"),
        row(400, "a_repeated_version", |it| it.push(("sec-websocket-version", "13"))),
        row(403, "a_foreign_origin", |it| it.push(("origin", "https://evil.test"))),
        answered(421, "a_host_that_is_not_served", |_| (), |it| it.hosts(["localhost"])),
        answered(
            403,
            "no_origin_where_one_is_insisted_on",
            |_| (),
            |it| it.origins(Origins::same_host().require()),
        ),
        answered(
            400,
            "a_required_subprotocol_is_missing",
            |_| (),
            |it| it.subprotocols(["v1"]).require_subprotocol(),
        ),
        case(a_session_over_http_2_talks_and_ends_its_stream),
        case(a_shutdown_closes_sessions_over_http_2),
        case(an_unmasked_frame_over_http_2_breaks_the_protocol),
    ]
}

fn answered(
    status: u16,
    name: &'static str,
    change: fn(&mut Fields),
    upgrader: fn(Upgrader) -> Upgrader,
) -> ServerCase {
    let checked = move |cx: &ServerContext| {
        if !cx.speaks_http2() {
            return Ok(());
        }
        let server = cx.start(upgrader(cx.upgrader()), echo);
        let mut fields = FIELDS.to_vec();
        change(&mut fields);
        let seen = Http2Client::dial(server.address())?.ask(&fields)?;
        match seen == status {
            true => Ok(()),
            false => Err(Failure::new(format_args!("{status} was expected, and not {seen}"))),
        }
    };
    case(checked).named("http2", name)
}

fn open(server: &Started) -> Verdict<Http2Client> {
    let mut client = Http2Client::dial(server.address())?;
    match client.ask(&FIELDS)? {
        200 => Ok(client),
        status => Err(Failure::new(format_args!("the handshake is refused with {status}"))),
    }
}

/// The next frame that is no Ping.
fn next(client: &mut Http2Client) -> Verdict<WireFrame> {
    loop {
        match client.receive()? {
            Some(frame) if frame.opcode == opcode::PING => {}
            Some(frame) => return Ok(frame),
            None => return Err(Failure::new("a frame was expected, and the stream has ended")),
        }
    }
}

fn a_session_over_http_2_talks_and_ends_its_stream(cx: &ServerContext) -> Verdict {
    if !cx.speaks_http2() {
        return Ok(());
    }
    let server = cx.echo();
    let mut client = open(&server)?;
    for size in [0, 1, 125, 126, 10_000] {
        let text = WireFrame::text("x".repeat(size));
        client.send(&text)?;
        assert_eq!(next(&mut client)?, text);
    }
    client.send(&WireFrame::ping("ping"))?;
    assert_eq!(next(&mut client)?, WireFrame::pong("ping"));
    client.send(&WireFrame::close(4001, "enough"))?;
    assert_eq!(next(&mut client)?.close_code(), Some(4001));
    // The server ends the stream first, and not by a reset.
    assert_eq!(client.receive()?, None);
    client.end()?;
    Ok(())
}

fn a_shutdown_closes_sessions_over_http_2(cx: &ServerContext) -> Verdict {
    if !cx.speaks_http2() {
        return Ok(());
    }
    let server = cx.start(cx.upgrader(), drain);
    let mut client = open(&server)?;
    eventually("the session is open", || server.open() == 1)?;
    let sessions = server.sessions.clone();
    let report = cx.spawn(async move { sessions.shutdown(crate::context::PATIENCE).await });
    assert_eq!(next(&mut client)?.close_code(), Some(1001));
    client.send(&WireFrame::close(1001, ""))?;
    assert_eq!(client.receive()?, None);
    client.end()?;
    assert_eq!(within(&report)?.drained, 1);
    assert_eq!(Http2Client::dial(server.address())?.ask(&FIELDS)?, 503);
    Ok(())
}

fn an_unmasked_frame_over_http_2_breaks_the_protocol(cx: &ServerContext) -> Verdict {
    if !cx.speaks_http2() {
        return Ok(());
    }
    let server = cx.echo();
    let mut client = open(&server)?;
    client.send_bytes(&WireFrame::text("no mask").encode(None))?;
    assert_eq!(next(&mut client)?.close_code(), Some(1002));
    Ok(())
}
