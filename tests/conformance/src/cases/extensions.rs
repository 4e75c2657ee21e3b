//! Extensions that sessions apply: negotiated, applied, refused; permessage-deflate (RFC 7692) above all.

use std::{io, sync::Arc};

use drivetrain::{
    Bytes, Capability, ErrorKind, Frame, NegotiatedExtension, Result, Rsv, Session, WebSockets,
    extension::{Extension, MessagePart, PermessageDeflate, Role, Transform},
};

use crate::{
    case::{Case, case},
    context::{Context, builder_for},
    expect::{echoes, ends_with, fails, message},
    failure::Verdict,
    peer::{Conn, DeflatePeer, Http2Sockets, Server, WireFrame, join, opcode},
};

pub(super) fn cases() -> Vec<Case> {
    let cases = [
        case(messages_are_compressed_both_ways),
        case(context_is_taken_over_or_not_as_agreed),
        case(fragments_and_control_frames_go_together),
        case(what_is_not_worth_it_goes_as_it_is),
        case(a_server_that_declines_gets_plain_messages),
        case(what_is_offered_and_agreed_on_is_visible),
        case(a_request_overrides_the_plugin),
        case(an_answer_that_cannot_be_fails_the_handshake),
        case(a_required_extension_that_is_declined_closes_with_1010),
        case(a_bomb_is_too_big),
        case(a_frame_that_no_message_within_the_limit_needs_is_too_big)
            .needs(&[Capability::MaxFrameSize]),
        case(what_is_no_compressed_data_is_refused),
        case(bits_that_nobody_agreed_on_are_a_violation),
        case(two_extensions_are_applied_in_the_servers_order),
        case(extensions_that_use_the_same_bit_are_refused),
        case(raw_sessions_offer_none_of_them).needs(&[Capability::RawSessions]),
    ];
    let needs = [Capability::WebSockets, Capability::Extensions];
    let over_http2 = case(over_http_2_it_is_the_same).needs(&[Capability::Tls]);
    cases.into_iter().chain([over_http2]).map(|case| case.needs(&needs)).collect()
}

pub(super) const NAME: &str = "permessage-deflate";

pub(super) fn deflate() -> PermessageDeflate {
    PermessageDeflate::new().min_size(0)
}

/// An echo that takes compressed messages only.
pub(super) fn deflating(
    cx: &Context,
    answer: &'static str,
    client_takeover: bool,
    server_takeover: bool,
) -> Arc<Server> {
    cx.server(move |conn| {
        accept(conn, answer)?;
        let mut deflate = DeflatePeer::new(client_takeover, server_takeover);
        let mut fragments = Vec::new();
        while let Some(frame) = conn.receive()? {
            match frame.opcode {
                opcode::CLOSE => {
                    conn.send(&WireFrame { masked: false, ..frame })?;
                    return conn.shutdown_write();
                }
                opcode::PING => conn.send(&WireFrame::pong(frame.payload))?,
                opcode::PONG => {}
                _ => {
                    let fin = frame.fin;
                    fragments.push(frame);
                    if fin {
                        let whole = join(&std::mem::take(&mut fragments))?;
                        let message = deflate.inflate(&whole)?;
                        conn.send(&deflate.compress(whole.opcode, &message))?;
                    }
                }
            }
        }
        Ok(())
    })
}

/// A server that answers with these extensions, sends these frames, and answers the Close.
pub(super) fn sending(cx: &Context, answer: &'static str, frames: Vec<WireFrame>) -> Arc<Server> {
    cx.server(move |conn| {
        accept(conn, answer)?;
        for frame in &frames {
            conn.feed(frame);
        }
        conn.flush()?;
        while let Some(frame) = conn.receive()? {
            if frame.opcode == opcode::CLOSE {
                conn.send(&WireFrame { masked: false, ..frame })?;
                return conn.shutdown_write();
            }
        }
        Ok(())
    })
}

pub(super) fn accept(conn: &mut Conn, answer: &str) -> io::Result<()> {
    let request = conn.read_request()?.ok_or(io::ErrorKind::UnexpectedEof)?;
    match answer {
        "" => conn.accept(&request, &[]),
        answer => conn.accept(&request, &[("sec-websocket-extensions", answer)]),
    }
}

pub(super) async fn connect(
    cx: &Context,
    server: &Server,
    extension: impl Extension,
) -> Verdict<Session> {
    let client = cx.client_with(WebSockets::new().extension(extension))?;
    Ok(client.web_socket(server.ws_url("/")).connect().await?)
}

/// Text and binary of all sizes. The server refuses uncompressed frames.
pub(super) async fn messages_are_compressed_both_ways(cx: Context) -> Verdict {
    let server = deflating(&cx, NAME, true, true);
    let mut session = connect(&cx, &server, deflate()).await?;
    for size in [0, 1, 125, 126, 5000, 70_000, 1 << 20] {
        echoes(&mut session, "compressible, ".repeat(size / 14 + 1)).await?;
        echoes(&mut session, vec![7; size]).await?;
        echoes(&mut session, noise(size.min(200_000))).await?;
    }
    let traffic = session.stats().sent;
    assert!(traffic.bytes < 600_000, "of 3 MiB: {traffic:?}");
    assert!(session.close(drivetrain::CloseReason::normal()).await?.clean);
    Ok(())
}

/// All four combinations, as the server answers.
async fn context_is_taken_over_or_not_as_agreed(cx: Context) -> Verdict {
    for (answer, client_takeover, server_takeover) in [
        (NAME, true, true),
        ("permessage-deflate; client_no_context_takeover", false, true),
        ("permessage-deflate; server_no_context_takeover", true, false),
        (
            "permessage-deflate; server_no_context_takeover; client_no_context_takeover; \
             client_max_window_bits=10",
            false,
            false,
        ),
    ] {
        let server = deflating(&cx, answer, client_takeover, server_takeover);
        let mut session = connect(&cx, &server, deflate()).await?;
        for _ in 0..3 {
            echoes(&mut session, "the same again and again and again").await?;
            echoes(&mut session, noise(3000)).await?;
        }
        let sent = session.stats().sent.bytes;
        // What was said before is referred to, or said again.
        assert_eq!(sent > 8000, !client_takeover, "{answer}: {sent} bytes");
    }
    Ok(())
}

/// A message in fragments is one stream of compressed data, with control frames between.
async fn fragments_and_control_frames_go_together(cx: Context) -> Verdict {
    let server = cx.server(|conn| {
        accept(conn, NAME)?;
        let mut deflate = DeflatePeer::new(true, true);
        for text in ["one text, in fragments, in fragments", "and another in fragments"] {
            let whole = deflate.compress(opcode::TEXT, text.as_bytes());
            let mut chunks = whole.payload.chunks(5).peekable();
            let first = chunks.next().unwrap_or_default();
            conn.feed(&WireFrame {
                fin: false,
                ..WireFrame { payload: first.into(), ..whole.clone() }
            });
            while let Some(chunk) = chunks.next() {
                conn.feed(&WireFrame::ping("between"));
                conn.feed(&WireFrame::continuation(chunk, chunks.peek().is_none()));
            }
        }
        conn.flush()?;
        while conn.receive()?.is_some() {}
        Ok(())
    });
    let mut session = connect(&cx, &server, deflate()).await?;
    for expected in ["one text, in fragments, in fragments", "and another in fragments"] {
        assert_eq!(message(&mut session).await?, Frame::from(expected));
    }
    Ok(())
}

/// Short messages, and those that were not chosen, have no bit set.
async fn what_is_not_worth_it_goes_as_it_is(cx: Context) -> Verdict {
    let server = cx.server(|conn| {
        accept(conn, NAME)?;
        while let Some(frame) = conn.receive()? {
            if frame.opcode < opcode::CLOSE {
                conn.send_text(if frame.rsv == 4 { "compressed" } else { "plain" })?;
            }
        }
        Ok(())
    });
    let chosen = |part: &MessagePart| !part.payload.starts_with(b"secret");
    let deflate = PermessageDeflate::new().min_size(100).only_if(chosen);
    let mut session = connect(&cx, &server, deflate).await?;
    for (text, expected) in [
        ("short".to_owned(), "plain"),
        ("long".repeat(100), "compressed"),
        ("secret".repeat(100), "plain"),
    ] {
        session.send(text).await?;
        assert_eq!(message(&mut session).await?, Frame::from(expected));
    }
    Ok(())
}

/// Without an answer nothing is compressed.
async fn a_server_that_declines_gets_plain_messages(cx: Context) -> Verdict {
    let client = cx.client_with(WebSockets::new().extension(deflate()))?;
    let mut session = client.web_socket(cx.echo().ws_url("/echo")).connect().await?;
    assert_eq!(session.extensions(), []);
    echoes(&mut session, vec![7; 10_000]).await?;
    assert_eq!(session.stats().sent.bytes, 10_000);
    Ok(())
}

/// The table of options has the offers and required extensions; the session has the answer.
async fn what_is_offered_and_agreed_on_is_visible(cx: Context) -> Verdict {
    const ANSWER: &str = "permessage-deflate; server_max_window_bits=10; client_max_window_bits=11";
    let server = cx.server(|conn| {
        let request = conn.read_request()?.ok_or(io::ErrorKind::UnexpectedEof)?;
        let offer = request.header("sec-websocket-extensions").unwrap_or_default();
        let expected = "permessage-deflate; client_max_window_bits; server_max_window_bits=12";
        let answer = if offer == expected { ANSWER } else { "offered-something-else" };
        conn.accept(&request, &[("sec-websocket-extensions", answer)])?;
        while conn.receive()?.is_some() {}
        Ok(())
    });
    let deflate = deflate().server_max_window_bits(12).required();
    let session = connect(&cx, &server, deflate).await?;
    let agreed: Vec<String> = session.extensions().iter().map(ToString::to_string).collect();
    assert_eq!(agreed, [ANSWER]);
    let setting = session.settings().get("extensions").map(|setting| setting.value.to_string());
    let expected =
        "permessage-deflate; client_max_window_bits; server_max_window_bits=12 (required)";
    assert_eq!(setting.as_deref(), Some(expected));
    Ok(())
}

/// Other extensions, or none.
async fn a_request_overrides_the_plugin(cx: Context) -> Verdict {
    let server = deflating(&cx, NAME, true, true);
    let client = cx.client_with(WebSockets::new().extension(deflate().required()))?;
    let plain = client.web_socket(cx.echo().ws_url("/echo")).extensions([]).connect().await?;
    assert_eq!(plain.settings().get("extensions").map(|s| &*s.value), Some("none"));
    let client = cx.client();
    let request = client.web_socket(server.ws_url("/")).extension(deflate());
    echoes(&mut request.connect().await?, "compressed").await
}

/// `Protocol`, and a Close that says so.
async fn an_answer_that_cannot_be_fails_the_handshake(cx: Context) -> Verdict {
    for answer in [
        "permessage-deflate; x-unknown",
        "permessage-deflate; server_max_window_bits=16",
        "permessage-deflate; client_max_window_bits",
        "permessage-deflate; client_no_context_takeover; client_no_context_takeover",
        "permessage-deflate, permessage-deflate; client_no_context_takeover",
        "x-other",
        "permessage-deflate; ;",
    ] {
        let server = cx.server(move |conn| {
            accept(conn, answer)?;
            conn.drain()
        });
        let client = cx.client_with(WebSockets::new().extension(deflate()))?;
        let connect = client.web_socket(server.ws_url("/")).close_timeout(SHORT).connect();
        let error = fails(connect.await, ErrorKind::Protocol)?;
        assert_eq!(error.engine(), Some(client.engine_name()), "{answer}: {error}");
        cx.until("the connection is gone", || server.open() == 0).await?;
    }
    Ok(())
}

const SHORT: std::time::Duration = std::time::Duration::from_millis(200);

/// The server sees the Close, and `connect` says which extension it was.
async fn a_required_extension_that_is_declined_closes_with_1010(cx: Context) -> Verdict {
    let mut peer = cx.peer(crate::script::PeerBehaviour::Polite, |_| Ok(()));
    let client = cx.client_with(WebSockets::new().extension(deflate().required()))?;
    let error = fails(client.web_socket(peer.url()).connect().await, ErrorKind::Rejected)?;
    assert!(error.to_string().contains(NAME), "{error}");
    let status = error.response().map(|response| response.status().as_u16());
    assert_eq!(status.is_some(), cx.offers(Capability::HandshakeResponse));
    let (code, text) = peer.close().await?;
    assert_eq!(code, Some(1010));
    assert!(text.contains(NAME), "{text}");
    peer.end().await
}

/// A thousand times the limit: `TooBig` and Close 1009.
pub(super) async fn a_bomb_is_too_big(cx: Context) -> Verdict {
    let bomb = DeflatePeer::new(true, true).compress(opcode::BINARY, &vec![0; 20 << 20]);
    let half = bomb.payload.len() / 2;
    let (first, second) = bomb.payload.split_at(half);
    let in_two = vec![
        WireFrame { fin: false, payload: first.into(), ..bomb.clone() },
        WireFrame::continuation(second, true),
    ];
    for frames in [vec![bomb.clone()], in_two] {
        let server = sending(&cx, NAME, frames);
        let plugin = WebSockets::new().extension(deflate()).max_message_size(20 << 10);
        let mut session = cx.client_with(plugin)?.web_socket(server.ws_url("/")).connect().await?;
        let outcome = ends_with(&mut session, ErrorKind::TooBig).await?;
        assert_eq!(outcome.sent.map(|reason| u16::from(reason.code())), Some(1009));
        assert_eq!(outcome.received.map(|reason| u16::from(reason.code())), Some(1009));
    }
    Ok(())
}

/// Close 1009, as for a plain frame: the session would hold the whole frame before it knows the decompressed size.
async fn a_frame_that_no_message_within_the_limit_needs_is_too_big(cx: Context) -> Verdict {
    let payload = [&[0x00, 0x00, 0x00, 0xFF, 0xFF].repeat(40_000)[..], &[0x00]].concat();
    let server = sending(&cx, NAME, vec![WireFrame { rsv: 4, ..WireFrame::binary(payload) }]);
    for (limit, is_fine) in [(100_000, true), (20_000, false)] {
        let plugin = WebSockets::new().extension(deflate()).max_message_size(limit);
        let mut session = cx.client_with(plugin)?.web_socket(server.ws_url("/")).connect().await?;
        if is_fine {
            assert_eq!(message(&mut session).await?, Frame::from(Vec::new()));
            continue;
        }
        let outcome = ends_with(&mut session, ErrorKind::TooBig).await?;
        assert_eq!(outcome.sent.map(|reason| u16::from(reason.code())), Some(1009));
    }
    Ok(())
}

/// Close 1007, for compressed data that is none or lacks its end, and for text that is none.
async fn what_is_no_compressed_data_is_refused(cx: Context) -> Verdict {
    let garbage = WireFrame { rsv: 4, ..WireFrame::binary([0xFF; 50]) };
    let not_text = DeflatePeer::new(true, true).compress(opcode::TEXT, &[0xFF; 50]);
    let mut cut_off = DeflatePeer::new(true, true).compress(opcode::BINARY, &noise(5000));
    cut_off.payload.pop();
    for frame in [garbage, not_text, cut_off] {
        let server = sending(&cx, NAME, vec![frame]);
        let mut session = connect(&cx, &server, deflate()).await?;
        let outcome = ends_with(&mut session, ErrorKind::Protocol).await?;
        assert_eq!(outcome.sent.map(|reason| u16::from(reason.code())), Some(1007));
    }
    Ok(())
}

/// Close 1002: a bit of no extension, the bit on a control frame, on a continuation, or with none agreed on.
async fn bits_that_nobody_agreed_on_are_a_violation(cx: Context) -> Verdict {
    let hello = [0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00];
    let text = |rsv| WireFrame { rsv, ..WireFrame::text(hello) };
    for (answer, frames) in [
        (NAME, vec![text(2)]),
        (NAME, vec![WireFrame { rsv: 4, ..WireFrame::ping("") }]),
        (
            NAME,
            vec![
                WireFrame { fin: false, ..text(4) },
                WireFrame { rsv: 4, ..WireFrame::continuation(hello, true) },
            ],
        ),
        ("", vec![text(4)]),
    ] {
        let server = sending(&cx, answer, frames);
        let mut session = connect(&cx, &server, deflate()).await?;
        let outcome = ends_with(&mut session, ErrorKind::Protocol).await?;
        assert_eq!(outcome.sent.map(|reason| u16::from(reason.code())), Some(1002));
    }
    Ok(())
}

/// Out in the order of the answer, in the other way round; each sets its bit.
async fn two_extensions_are_applied_in_the_servers_order(cx: Context) -> Verdict {
    let server = cx.server(|conn| {
        accept(conn, "x-b, x-a")?;
        let frame = conn.receive()?.ok_or(io::ErrorKind::UnexpectedEof)?;
        let seen = format!("{} {}", frame.rsv, String::from_utf8_lossy(&frame.payload));
        conn.feed(&WireFrame { rsv: 3, ..WireFrame::text(format!("AB{seen}")) });
        conn.feed(&WireFrame { rsv: 2, ..WireFrame::text("Aonly one") });
        conn.flush()?;
        while conn.receive()?.is_some() {}
        Ok(())
    });
    let plugin = WebSockets::new().extension(Letter("x-a", b'A', Rsv::RSV2)).extension(Letter(
        "x-b",
        b'B',
        Rsv::RSV3,
    ));
    let mut session = cx.client_with(plugin)?.web_socket(server.ws_url("/")).connect().await?;
    session.send("text").await?;
    assert_eq!(message(&mut session).await?, Frame::from("3 ABtext"));
    assert_eq!(message(&mut session).await?, Frame::from("only one"));
    Ok(())
}

/// At `build`, naming both, and before anything is dialled.
async fn extensions_that_use_the_same_bit_are_refused(cx: Context) -> Verdict {
    let server = cx.echo();
    for (one, other, names) in [
        (Letter("x-a", b'A', Rsv::RSV1), Letter("x-b", b'B', Rsv::RSV2), &["x-b", NAME][..0]),
        (Letter("x-a", b'A', Rsv::RSV2), Letter("x-b", b'B', Rsv::RSV2), &["x-a", "x-b"]),
        (Letter("x-a", b'A', Rsv::RSV2), Letter("x-a", b'B', Rsv::RSV3), &["x-a"]),
        (Letter("not a token", b'A', Rsv::RSV2), Letter("x-b", b'B', Rsv::RSV3), &["not a token"]),
    ] {
        let plugin = WebSockets::new().extension(one).extension(other);
        let built = builder_for(cx.engine()).install(plugin).build();
        if names.is_empty() {
            built?;
            continue;
        }
        let error = fails(built, ErrorKind::InvalidInput)?;
        assert!(names.iter().all(|name| error.to_string().contains(name)), "{error}");
        let request = cx.client().web_socket(server.ws_url("/echo"));
        let request = request.extension(deflate()).extension(Letter("x-c", b'C', Rsv::RSV1));
        let error = fails(request.connect().await, ErrorKind::InvalidInput)?;
        assert!([NAME, "x-c"].iter().all(|name| error.to_string().contains(name)), "{error}");
    }
    assert_eq!(server.connections(), 0);
    Ok(())
}

/// The plugin's are for sessions, and a request's is refused.
async fn raw_sessions_offer_none_of_them(cx: Context) -> Verdict {
    let client = cx.client_with(WebSockets::new().extension(deflate().required()))?;
    let raw = client.web_socket(cx.echo().ws_url("/echo")).connect_raw().await?;
    assert_eq!(raw.extensions(), []);
    let request = client.web_socket(cx.echo().ws_url("/echo")).extension(deflate());
    fails(request.connect_raw().await, ErrorKind::InvalidInput)?;
    Ok(())
}

/// RFC 8441 has the same header. The server sends back what came as it came, which is compressed.
async fn over_http_2_it_is_the_same(cx: Context) -> Verdict {
    let (ca, server) = super::http2::serve(&cx, Http2Sockets::Deflated);
    let Some(engine) = cx.engine_over_http2(&ca) else {
        assert!(!cx.offers(Capability::WebSocketOverHttp2));
        return Ok(());
    };
    let plugin = WebSockets::new().extension(deflate().required());
    let client = builder_for(engine).install(plugin).build()?;
    let mut session = client.web_socket(server.ws_url("/")).connect().await?;
    assert_eq!(session.protocol(), drivetrain::Protocol::H2);
    assert_eq!(session.extensions()[0].name(), NAME);
    for size in [10, 10_000] {
        echoes(&mut session, vec![7; size]).await?;
    }
    assert!(session.stats().sent.bytes < 1000);
    Ok(())
}

/// What hardly compresses.
pub(super) fn noise(size: usize) -> Vec<u8> {
    let mut seed = 0x9E37_79B9_u32;
    let mut next = || {
        seed ^= seed << 13;
        seed ^= seed >> 17;
        seed ^= seed << 5;
        (seed >> 8) as u8
    };
    (0..size).map(|_| next()).collect()
}

/// An extension that puts its letter before a message, and takes it away.
#[derive(Clone, Debug)]
pub(super) struct Letter(pub(super) &'static str, pub(super) u8, pub(super) Rsv);

impl Extension for Letter {
    fn name(&self) -> &str {
        self.0
    }

    fn rsv(&self) -> Rsv {
        self.2
    }

    fn accept(&self, _agreed: &NegotiatedExtension, _role: Role) -> Result<Box<dyn Transform>> {
        Ok(Box::new(self.clone()))
    }
}

impl Transform for Letter {
    fn incoming(&mut self, part: &mut MessagePart, room: usize) -> Result<Bytes> {
        if part.first && !part.payload.is_empty() && part.payload.split_to(1) != [self.1][..] {
            return Err(drivetrain::Error::other("another letter"));
        }
        Ok(part.payload.split_to(part.payload.len().min(room)))
    }

    fn outgoing(&mut self, part: &mut MessagePart) -> Result<()> {
        if part.first {
            part.rsv = part.rsv | self.2;
            part.payload = [&[self.1], &part.payload[..]].concat().into();
        }
        Ok(())
    }
}
