//! Raw sessions: frames as they are, and nothing automatic.

use std::time::Duration;

use drivetrain::{Capability, ErrorKind, OpCode, RawFrame, RawSession, Rsv, WebSockets};
use drivetrain_engine::Capability::{RawSessions, RsvBits};
use futures_util::{SinkExt, StreamExt as _};

use crate::{
    case::{Case, case},
    context::{Context, PATIENCE},
    expect::fails,
    failure::{Failure, Verdict},
    peer::{LengthEncoding, Server, WireFrame, frame_header, opcode},
    script::{PeerBehaviour::Silent, Script},
};

pub(super) fn cases() -> Vec<Case> {
    let cases = [
        case(fragments_and_control_frames_are_visible),
        case(fragments_and_control_frames_go_out_as_they_are)
            .needs(&[Capability::SendPing, Capability::SendFragments]),
        case(nothing_is_answered),
        case(a_dropped_raw_session_sends_no_close),
        case(what_is_fed_is_written_together),
        case(what_is_no_frame_is_refused).needs(&[Capability::SendFragments]),
        case(it_is_a_stream_and_a_sink),
        case(shutdown_ends_the_sending_direction),
        case(the_end_of_the_stream_is_none),
        case(fragments_of_text_are_not_checked).needs(&[Capability::SendFragments]),
        case(a_frame_above_the_limit_is_an_error).needs(&[Capability::MaxFrameSize]),
        case(options_of_sessions_are_refused),
        case(reserved_bits_travel_with_a_negotiated_extension).needs(&[RsvBits]),
        case(a_declined_extension_is_none).needs(&[RsvBits]),
        case(what_was_agreed_on_is_visible).needs(&[Capability::Subprotocols]),
    ];
    let needs = [Capability::WebSockets, RawSessions];
    cases.into_iter().map(|case| case.needs(&needs)).collect()
}

/// Frames come as they are, and nobody answers them.
pub(super) async fn works(cx: Context) -> Verdict {
    fragments_and_control_frames_are_visible(cx.clone()).await?;
    nothing_is_answered(cx).await
}

/// Every frame is received as the peer sent it.
async fn fragments_and_control_frames_are_visible(cx: Context) -> Verdict {
    let peer = cx.peer(Silent, |conn| {
        conn.feed(&WireFrame { fin: false, ..WireFrame::text("one") });
        conn.feed(&WireFrame::ping("ping"));
        conn.feed(&WireFrame::continuation("", false));
        conn.feed(&WireFrame::continuation("two", true));
        conn.feed(&WireFrame::pong("pong"));
        conn.feed(&WireFrame::binary(""));
        conn.feed(&WireFrame::close(4000, "bye"));
        // A raw session does not know that it is over.
        conn.feed(&WireFrame::text("after"));
        conn.flush()
    });
    let mut raw = connect(&cx, &peer).await?;
    for expected in [
        RawFrame::new(OpCode::Text, "one").not_final(),
        RawFrame::new(OpCode::Ping, "ping"),
        RawFrame::new(OpCode::Continuation, "").not_final(),
        RawFrame::new(OpCode::Continuation, "two"),
        RawFrame::new(OpCode::Pong, "pong"),
        RawFrame::new(OpCode::Binary, ""),
        RawFrame::new(OpCode::Close, &b"\x0f\xa0bye"[..]),
        RawFrame::new(OpCode::Text, "after"),
    ] {
        assert_eq!(frame(&cx, &mut raw).await?, expected);
    }
    Ok(())
}

/// Every frame arrives as it was sent, however it was fragmented.
async fn fragments_and_control_frames_go_out_as_they_are(cx: Context) -> Verdict {
    let mut peer = cx.peer(Silent, |_| Ok(()));
    let mut raw = connect(&cx, &peer).await?;
    let large = vec![7; 200_000];
    for sent in [
        RawFrame::new(OpCode::Text, "one").not_final(),
        RawFrame::new(OpCode::Ping, "between"),
        RawFrame::new(OpCode::Continuation, "").not_final(),
        RawFrame::new(OpCode::Continuation, "two"),
        RawFrame::new(OpCode::Pong, ""),
        RawFrame::new(OpCode::Binary, large.clone()),
        RawFrame::new(OpCode::Close, &b"\x03\xe8"[..]),
    ] {
        raw.send(sent.clone()).await?;
        let seen = peer.frame().await?;
        assert_eq!((seen.fin, seen.payload == sent.payload), (sent.fin, true), "{sent:?}");
        assert_eq!((seen.opcode, seen.rsv), (number(sent.opcode), 0), "{sent:?}");
    }
    Ok(())
}

/// Neither Ping nor Close.
async fn nothing_is_answered(cx: Context) -> Verdict {
    let mut peer = cx.peer(Silent, |conn| {
        conn.feed(&WireFrame::ping("anybody?"));
        conn.send(&WireFrame::close(1000, ""))
    });
    let mut raw = connect(&cx, &peer).await?;
    assert_eq!(frame(&cx, &mut raw).await?.opcode, OpCode::Ping);
    assert_eq!(frame(&cx, &mut raw).await?.opcode, OpCode::Close);
    raw.send(RawFrame::new(OpCode::Text, "only this")).await?;
    assert_eq!(peer.text().await?, "only this");
    drop(raw);
    peer.end().await
}

/// The stream just ends.
async fn a_dropped_raw_session_sends_no_close(cx: Context) -> Verdict {
    let mut peer = cx.peer(Silent, |_| Ok(()));
    drop(connect(&cx, &peer).await?);
    peer.end().await
}

/// By the next flush.
async fn what_is_fed_is_written_together(cx: Context) -> Verdict {
    let mut peer = cx.peer(Silent, |_| Ok(()));
    let mut raw = connect(&cx, &peer).await?;
    for text in ["a", "b", "c"] {
        raw.feed(RawFrame::new(OpCode::Text, text)).await?;
    }
    raw.flush().await?;
    for text in ["a", "b", "c"] {
        assert_eq!(peer.text().await?, text);
    }
    Ok(())
}

/// Refused before any byte is sent; the session stays open. The user is responsible for the order of fragments.
async fn what_is_no_frame_is_refused(cx: Context) -> Verdict {
    let mut peer = cx.peer(Silent, |_| Ok(()));
    let mut raw = connect(&cx, &peer).await?;
    for bad in [
        RawFrame::new(OpCode::Ping, vec![0; 126]),
        RawFrame::new(OpCode::Close, vec![0; 126]),
        RawFrame::new(OpCode::Pong, "").not_final(),
    ] {
        fails(raw.send(bad.clone()).await, ErrorKind::InvalidInput)?;
        fails(raw.feed(bad.clone()).await, ErrorKind::InvalidInput)?;
        fails(SinkExt::send(&mut raw, bad).await, ErrorKind::InvalidInput)?;
    }
    raw.send(RawFrame::new(OpCode::Continuation, "out of order")).await?;
    let seen = peer.frame().await?;
    assert_eq!((seen.opcode, seen.payload), (opcode::CONTINUATION, b"out of order".to_vec()));
    Ok(())
}

/// And so it can be split.
async fn it_is_a_stream_and_a_sink(cx: Context) -> Verdict {
    let server = cx.server(|conn| {
        conn.accept_web_socket()?;
        while let Some(frame) = conn.receive()? {
            conn.send(&WireFrame { masked: false, ..frame })?;
        }
        Ok(())
    });
    let raw = cx.client().web_socket(server.ws_url("/")).connect_raw().await?;
    let (mut sink, mut stream) = raw.split();
    let sending = cx.spawn(async move {
        for i in 0..100 {
            sink.feed(RawFrame::new(OpCode::Text, i.to_string())).await?;
        }
        SinkExt::<RawFrame>::close(&mut sink).await?;
        Verdict::Ok(())
    });
    for i in 0..100 {
        let frame = cx.within(PATIENCE, "it is echoed", stream.next()).await?;
        assert_eq!(frame.transpose()?, Some(RawFrame::new(OpCode::Text, i.to_string())));
    }
    sending.await?;
    assert!(stream.next().await.is_none());
    Ok(())
}

/// The peer sees the end, and the session receives the peer's later messages.
async fn shutdown_ends_the_sending_direction(cx: Context) -> Verdict {
    let server = cx.server(|conn| {
        conn.accept_web_socket()?;
        while conn.receive()?.is_some() {}
        conn.send_text("last words")
    });
    let mut raw = cx.client().web_socket(server.ws_url("/")).connect_raw().await?;
    raw.send(RawFrame::new(OpCode::Text, "a")).await?;
    raw.shutdown().await?;
    assert_eq!(frame(&cx, &mut raw).await?, RawFrame::new(OpCode::Text, "last words"));
    assert_eq!(raw.receive().await?, None);
    Ok(())
}

/// Without a Close, too; within a frame it is `Io`.
async fn the_end_of_the_stream_is_none(cx: Context) -> Verdict {
    let ending = |bytes: &'static [u8]| {
        cx.server(move |conn| {
            conn.accept_web_socket()?;
            conn.write_all(bytes)
        })
    };
    let whole = ending(b"\x81\x01a");
    let mut raw = cx.client().web_socket(whole.ws_url("/")).connect_raw().await?;
    assert_eq!(frame(&cx, &mut raw).await?, RawFrame::new(OpCode::Text, "a"));
    assert_eq!(raw.receive().await?, None);
    assert_eq!(raw.receive().await?, None);
    let half = ending(b"\x81\x02a");
    let mut raw = cx.client().web_socket(half.ws_url("/")).connect_raw().await?;
    fails(raw.receive().await, ErrorKind::Io)?;
    Ok(())
}

/// Text in fragments may be split within a character, in both directions.
async fn fragments_of_text_are_not_checked(cx: Context) -> Verdict {
    let mut peer = cx.peer(Silent, |conn| {
        conn.feed(&WireFrame { fin: false, ..WireFrame::text([0xC3]) });
        conn.send(&WireFrame::continuation([0xA9], true))
    });
    let mut raw = connect(&cx, &peer).await?;
    let first = RawFrame::new(OpCode::Text, &b"\xc3"[..]).not_final();
    let last = RawFrame::new(OpCode::Continuation, &b"\xa9"[..]);
    for half in [first, last] {
        assert_eq!(frame(&cx, &mut raw).await?, half);
        raw.send(half.clone()).await?;
        assert_eq!(peer.frame().await?.payload, half.payload);
    }
    Ok(())
}

/// It is refused as soon as it is announced.
async fn a_frame_above_the_limit_is_an_error(cx: Context) -> Verdict {
    let peer = cx.peer(Silent, |conn| {
        conn.write_all(&frame_header(true, 0, opcode::BINARY, false, LengthEncoding::Minimal, 1001))
    });
    let client = cx.client_with(WebSockets::new().max_frame_size(1000))?;
    let mut raw = client.web_socket(peer.url()).connect_raw().await?;
    let received = cx.within(PATIENCE, "it is refused", raw.receive()).await?;
    fails(received, ErrorKind::TooBig)?;
    Ok(())
}

/// What only a session applies is `InvalidInput`, before anything is dialled.
async fn options_of_sessions_are_refused(cx: Context) -> Verdict {
    let server = cx.echo();
    let request = || cx.client().web_socket(server.ws_url("/echo"));
    for request in [
        request().ping_interval(Duration::from_secs(1)),
        request().ping_timeout(Duration::from_secs(1)),
        request().max_message_size(1),
        request().max_stream_size(1),
    ] {
        fails(request.connect_raw().await, ErrorKind::InvalidInput)?;
    }
    assert_eq!(server.connections(), 0);
    Ok(())
}

/// In both directions, each bit.
pub(super) async fn reserved_bits_travel_with_a_negotiated_extension(cx: Context) -> Verdict {
    let (saw, mut seen) = futures_channel::mpsc::unbounded();
    let server = accepting(&cx, &[("sec-websocket-extensions", "x-test; level=3")], move |frame| {
        // The case has ended, with a better failure.
        let _ = saw.unbounded_send(frame);
    });
    let request = cx.client().web_socket(server.ws_url("/"));
    let mut raw = request.offer_extension("x-test; level=9").connect_raw().await?;
    let agreed: Vec<String> = raw.extensions().iter().map(ToString::to_string).collect();
    assert_eq!(agreed, ["x-test; level=3"]);
    let bits = [Rsv::RSV1, Rsv::RSV2, Rsv::RSV3, Rsv::RSV1 | Rsv::RSV2 | Rsv::RSV3];
    for (rsv, number) in bits.into_iter().zip([4, 2, 1, 7]) {
        assert_eq!(
            frame(&cx, &mut raw).await?,
            RawFrame { rsv, ..RawFrame::new(OpCode::Text, "a") }
        );
        raw.send(RawFrame { rsv, ..RawFrame::new(OpCode::Binary, "b") }).await?;
        let arrived = futures_util::StreamExt::next(&mut seen);
        let arrived = cx.within(PATIENCE, "the frame arrives", arrived).await?;
        let arrived: WireFrame = arrived.ok_or_else(|| Failure::new("the peer is gone"))?;
        assert_eq!((arrived.rsv, arrived.payload.as_slice()), (number, &b"b"[..]));
    }
    Ok(())
}

/// An offer that the server does not take up changes nothing.
async fn a_declined_extension_is_none(cx: Context) -> Verdict {
    let mut peer = cx.peer(Silent, |_| Ok(()));
    let mut raw =
        cx.client().web_socket(peer.url()).offer_extension("x-test").connect_raw().await?;
    assert!(raw.extensions().is_empty(), "{:?}", raw.extensions());
    raw.send(RawFrame::new(OpCode::Text, "a")).await?;
    assert_eq!(peer.text().await?, "a");
    Ok(())
}

/// Protocol and subprotocol.
async fn what_was_agreed_on_is_visible(cx: Context) -> Verdict {
    let request = cx.client().web_socket(cx.echo().ws_url("/subprotocol"));
    let raw = request.subprotocol("chat").connect_raw().await?;
    assert_eq!(raw.subprotocol(), Some("chat"));
    if cx.offers(Capability::HandshakeResponse) {
        assert_eq!(raw.response().map(|response| response.status().as_u16()), Some(101));
    }
    Ok(())
}

pub(super) async fn connect(cx: &Context, peer: &Script) -> Verdict<RawSession> {
    Ok(cx.client().web_socket(peer.url()).connect_raw().await?)
}

pub(super) async fn frame(cx: &Context, raw: &mut RawSession) -> Verdict<RawFrame> {
    let frame = cx.within(PATIENCE, "a frame comes", raw.receive()).await??;
    frame.ok_or_else(|| Failure::new("a frame was expected, and the stream has ended"))
}

/// A server that accepts with these headers, sends a frame with each reserved bit and with all of them,
/// and tells what it reads.
fn accepting(
    cx: &Context,
    headers: &'static [(&str, &str)],
    saw: impl Fn(WireFrame) + Send + Sync + 'static,
) -> std::sync::Arc<Server> {
    cx.server(move |conn| {
        let request = conn.read_request()?.ok_or(std::io::ErrorKind::UnexpectedEof)?;
        conn.accept(&request, headers)?;
        for rsv in [4, 2, 1, 7] {
            conn.feed(&WireFrame { rsv, ..WireFrame::text("a") });
        }
        while let Some(frame) = conn.receive()? {
            saw(frame);
        }
        Ok(())
    })
}

fn number(opcode: OpCode) -> u8 {
    match opcode {
        OpCode::Continuation => opcode::CONTINUATION,
        OpCode::Text => opcode::TEXT,
        OpCode::Binary => opcode::BINARY,
        OpCode::Close => opcode::CLOSE,
        OpCode::Ping => opcode::PING,
        OpCode::Pong => opcode::PONG,
    }
}
