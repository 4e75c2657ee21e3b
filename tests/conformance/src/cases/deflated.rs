//! What may not get past the extensions: streams, short texts, batches, and connections after the first.

use std::{
    io,
    sync::atomic::{AtomicUsize, Ordering},
};

use drivetrain::{
    Bytes, Capability, CloseReason, ErrorKind, Frame, MessageKind, OpCode, RawFrame, Rsv, Session,
    WebSockets,
    extension::{Extension, MessagePart, Role},
    reconnect::Event,
};
use futures_util::{AsyncReadExt as _, AsyncWriteExt as _};

use super::{
    extensions::{Letter, NAME, accept, connect, deflate, deflating, noise, sending},
    messages::pattern,
    raw,
    reconnect::{backoff, next},
    stream_out::is_pattern,
};
use crate::{
    case::{Case, case},
    context::{Context, PATIENCE},
    expect::{ends_cleanly, fails, message, text},
    failure::{Failure, Verdict},
    peer::{DeflatePeer, WireFrame, opcode},
};

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;

pub(super) fn cases() -> Vec<Case> {
    let cases = [
        case(streams_are_compressed_both_ways).needs(&[Capability::SendFragments]),
        case(the_rest_of_a_dropped_reader_is_inflated_all_the_same),
        case(a_dropped_writer_leaves_the_compression_whole).needs(&[Capability::SendFragments]),
        case(a_writer_that_is_dropped_half_way_ends_the_session)
            .needs(&[Capability::SendFragments]),
        case(a_stream_that_is_a_bomb_is_too_big),
        case(the_limit_for_streams_is_one_for_what_they_come_to)
            .needs(&[Capability::SendFragments]),
        case(no_short_text_leaves_as_it_is),
        case(no_short_text_arrives_as_it_is),
        case(fragments_have_the_size_that_is_set_when_compressed)
            .needs(&[Capability::SendFragments]),
        case(each_connection_has_its_own_compression),
        case(a_raw_session_shows_what_is_compressed).needs(&[Capability::RawSessions]),
    ];
    let needs = [Capability::WebSockets, Capability::Extensions];
    cases.into_iter().map(|case| case.needs(&needs)).collect()
}

async fn reader(session: &mut Session) -> Verdict<drivetrain::MessageReader<'_>> {
    let reader = session.receive_stream().await?;
    reader.ok_or_else(|| Failure::new("a message was expected, and the session has ended"))
}

/// It is the size on the wire, whatever the message had.
async fn fragments_have_the_size_that_is_set_when_compressed(cx: Context) -> Verdict {
    for (most, fragments) in [(1000, 200..=1000), (usize::MAX, 1..=1)] {
        let server = cx.server(|conn| {
            accept(conn, NAME)?;
            let mut sizes = Vec::new();
            while let Some(frame) = conn.receive()? {
                sizes.push(frame.payload.len());
                if frame.fin && frame.opcode != opcode::CLOSE {
                    conn.send(&WireFrame::text(format!("{sizes:?}")))?;
                }
            }
            Ok(())
        });
        let plugin = WebSockets::new().extension(deflate()).max_fragment_size(most);
        let mut session = cx.client_with(plugin)?.web_socket(server.ws_url("/")).connect().await?;
        session.send(noise(200_000)).await?;
        let sizes = text(&mut session).await?;
        let sizes = sizes.trim_matches(['[', ']']).split(", ").map(str::parse);
        let sizes: Vec<usize> = sizes.collect::<Result<_, _>>().map_err(Failure::new)?;
        assert!(
            sizes.iter().all(|&size| size <= most) && fragments.contains(&sizes.len()),
            "{sizes:?}"
        );
    }
    Ok(())
}

/// Exact bytes, of all sizes, written in parts and read in parts.
async fn streams_are_compressed_both_ways(cx: Context) -> Verdict {
    let server = deflating(&cx, NAME, true, true);
    let mut session = connect(&cx, &server, deflate()).await?;
    let mut expected = 0;
    for sent in [vec![], pattern(1), pattern(70_001), noise(200_000), pattern(MIB)] {
        for kind in [MessageKind::Binary, MessageKind::Text] {
            let sent = match kind {
                MessageKind::Text => sent.iter().map(|byte| b'a' + byte % 26).collect(),
                MessageKind::Binary => sent.clone(),
            };
            let mut writer = session.send_stream(kind).await?;
            for (i, part) in sent.chunks(7001).enumerate() {
                writer.write_all(part).await?;
                if i % 5 == 0 {
                    writer.flush().await?;
                }
            }
            writer.finish().await?;
            drop(writer);
            expected += 1;
            let mut reader = reader(&mut session).await?;
            let mut back = Vec::new();
            reader.read_to_end(&mut back).await?;
            assert_eq!(reader.kind(), kind);
            assert!(back == sent, "{kind:?}: {} bytes became {}", sent.len(), back.len());
        }
        let frame = Frame::from("whole, whole, whole");
        session.send(frame.clone()).await?;
        expected += 1;
        assert_eq!(message(&mut session).await?, frame);
    }
    assert_eq!(session.stats().sent.messages, expected);
    assert!(session.stats().sent.bytes < 500_000, "{:?}", session.stats());
    assert!(session.close(CloseReason::normal()).await?.clean);
    Ok(())
}

/// What comes after it refers to it.
async fn the_rest_of_a_dropped_reader_is_inflated_all_the_same(cx: Context) -> Verdict {
    let mut deflate_peer = DeflatePeer::new(true, true);
    let long = deflate_peer.compress(opcode::BINARY, &[noise(100_000), pattern(MIB)].concat());
    let mut frames = vec![];
    let count = long.payload.len().div_ceil(9000);
    for (i, part) in long.payload.chunks(9000).enumerate() {
        frames.push(match i {
            0 => WireFrame { fin: false, payload: part.into(), ..long.clone() },
            _ => WireFrame::continuation(part, i + 1 == count),
        });
    }
    let last = pattern(20 * KIB);
    frames.push(deflate_peer.compress(opcode::BINARY, &last));
    frames.push(WireFrame::close(1000, ""));
    let server = sending(&cx, NAME, frames);
    let mut session = connect(&cx, &server, deflate()).await?;
    let mut reader = reader(&mut session).await?;
    assert!(reader.chunk().await?.is_some_and(|chunk| noise(100_000).starts_with(&chunk)));
    drop(reader);
    assert_eq!(message(&mut session).await?, Frame::from(last));
    assert_eq!(ends_cleanly(&mut session).await?.discarded, 1);
    Ok(())
}

/// Nothing of its message was sent, so nothing after it may refer to it.
async fn a_dropped_writer_leaves_the_compression_whole(cx: Context) -> Verdict {
    let server = deflating(&cx, NAME, true, true);
    let mut session = connect(&cx, &server, deflate()).await?;
    for _ in 0..3 {
        let mut writer = session.send_stream(MessageKind::Text).await?;
        writer.write_chunk("never sent, never sent").await?;
        drop(writer);
        session.send("never sent, or is it?").await?;
        assert_eq!(text(&mut session).await?, "never sent, or is it?");
    }
    Ok(())
}

/// As without compression: the message cannot be taken back.
async fn a_writer_that_is_dropped_half_way_ends_the_session(cx: Context) -> Verdict {
    let (saw, mut seen) = futures_channel::mpsc::unbounded();
    let server = cx.server(move |conn| {
        accept(conn, NAME)?;
        while let Some(frame) = conn.receive()? {
            let closes = frame.opcode == opcode::CLOSE;
            let _ = saw.unbounded_send(frame.clone());
            if closes {
                conn.send(&WireFrame { masked: false, ..frame })?;
                return conn.shutdown_write();
            }
        }
        Ok(())
    });
    let mut session = connect(&cx, &server, deflate()).await?;
    let mut writer = session.send_stream(MessageKind::Binary).await?;
    writer.write_all(&noise(300_000)).await?;
    writer.flush().await?;
    drop(writer);
    fails(session.receive().await, ErrorKind::Other)?;
    let mut frames = vec![];
    while frames.last().is_none_or(|frame: &WireFrame| frame.opcode != opcode::CLOSE) {
        let frame = futures_util::StreamExt::next(&mut seen);
        let frame = cx.within(PATIENCE, "a frame arrives", frame).await?;
        frames.push(frame.ok_or_else(|| Failure::new("no Close came"))?);
    }
    let (_close, data) = frames.split_last().ok_or_else(|| Failure::new("nothing came"))?;
    assert!(!data.is_empty() && data.iter().all(|frame| !frame.fin), "the message ended");
    assert_eq!(data[0].rsv, 4);
    Ok(())
}

/// 64 MiB in 64 KiB: as much as the limit allows can be read, and then it is `TooBig` and Close 1009.
async fn a_stream_that_is_a_bomb_is_too_big(cx: Context) -> Verdict {
    const LIMIT: usize = 3 * MIB;
    let block = DeflatePeer::new(true, true).compress(opcode::BINARY, &vec![0; MIB]);
    let mut payload = [&block.payload[..], &[0, 0, 0xFF, 0xFF]].concat().repeat(64);
    payload.truncate(payload.len() - 4);
    let server = sending(&cx, NAME, vec![WireFrame { payload, ..block }]);
    let plugin = WebSockets::new().extension(deflate()).max_stream_size(LIMIT as u64);
    let mut session = cx.client_with(plugin)?.web_socket(server.ws_url("/")).connect().await?;
    let mut reader = reader(&mut session).await?;
    let mut size = 0;
    let error = loop {
        match reader.chunk().await {
            Ok(Some(chunk)) => {
                assert!(chunk.len() <= 64 * KIB, "{} bytes at once", chunk.len());
                assert!(chunk.iter().all(|&byte| byte == 0));
                size += chunk.len();
            }
            Ok(None) => return Err(Failure::new(format_args!("it ended after {size} bytes"))),
            Err(error) => break error,
        }
    };
    assert_eq!(error.kind(), ErrorKind::TooBig, "{error}");
    assert!(size <= LIMIT && size > LIMIT - 64 * KIB, "{size} bytes");
    drop(reader);
    let outcome = cx.within(PATIENCE, "it closes", session.closed()).await??;
    assert_eq!(outcome.sent.map(|reason| u16::from(reason.code())), Some(1009));
    Ok(())
}

/// Both ways, however little is on the wire.
async fn the_limit_for_streams_is_one_for_what_they_come_to(cx: Context) -> Verdict {
    for (size, fine) in [(10_000, true), (10_001, false)] {
        let frame = DeflatePeer::new(true, true).compress(opcode::BINARY, &pattern(size));
        assert!(frame.payload.len() < 1000);
        let server = sending(&cx, NAME, vec![frame]);
        let plugin = WebSockets::new().extension(deflate()).max_stream_size(10_000);
        let mut session = cx.client_with(plugin)?.web_socket(server.ws_url("/")).connect().await?;
        let mut writer = session.send_stream(MessageKind::Binary).await?;
        if fine {
            writer.write_chunk(pattern(size)).await?;
        } else {
            fails(writer.write_chunk(pattern(size)).await, ErrorKind::TooBig)?;
        }
        writer.finish().await?;
        drop(writer);
        let mut reader = reader(&mut session).await?;
        let mut received = Vec::new();
        match reader.read_to_end(&mut received).await {
            Ok(_) => assert!(fine && received == pattern(size), "{} bytes", received.len()),
            Err(error) => assert!(!fine, "{error}"),
        }
        assert!(is_pattern(0, &received));
    }
    Ok(())
}

/// The server takes compressed messages only. One by one, and in batches.
async fn no_short_text_leaves_as_it_is(cx: Context) -> Verdict {
    let server = deflating(&cx, NAME, true, true);
    let mut session = connect(&cx, &server, deflate()).await?;
    for text in texts().take(80) {
        session.send(&*text).await?;
        assert_eq!(message(&mut session).await?, Frame::from(text));
    }
    for _ in 0..3 {
        for text in texts() {
            session.feed(&*text).await?;
        }
        session.flush().await?;
        for text in texts() {
            assert_eq!(message(&mut session).await?, Frame::from(text));
        }
        for text in texts().take(100) {
            session.send(&*text).await?;
        }
        for text in texts().take(100) {
            assert_eq!(message(&mut session).await?, Frame::from(text));
        }
    }
    assert!(session.close(CloseReason::normal()).await?.clean);
    Ok(())
}

/// In batches, from a server that compresses every other one; and through an extension that uses no bit, so
/// that nothing on the wire tells its messages from others.
async fn no_short_text_arrives_as_it_is(cx: Context) -> Verdict {
    let mut compress = DeflatePeer::new(true, true);
    let mixed: Vec<_> = texts()
        .enumerate()
        .map(|(i, text)| match i % 2 {
            0 => compress.compress(opcode::TEXT, text.as_bytes()),
            _ => WireFrame::text(text),
        })
        .collect();
    let lettered = texts().map(|text| WireFrame::text(format!("L{text}"))).collect();
    let plugin = WebSockets::new().extension(deflate());
    let letter = WebSockets::new().extension(Letter("x-letter", b'L', Rsv::NONE));
    for (plugin, answer, frames) in [(plugin, NAME, mixed), (letter, "x-letter", lettered)] {
        let server = sending(&cx, answer, frames);
        let mut session = cx.client_with(plugin)?.web_socket(server.ws_url("/")).connect().await?;
        for expected in texts() {
            assert_eq!(text(&mut session).await?, expected, "{answer}");
        }
        assert_eq!(session.stats().received.messages, texts().count() as u64);
        assert!(session.close(CloseReason::normal()).await?.clean);
    }
    Ok(())
}

/// Of 1 to 40 bytes, again and again.
fn texts() -> impl Iterator<Item = String> {
    (0..1000_usize)
        .map(|i| (0..=i % 40).map(|at| char::from(b'a' + ((i + at) % 26) as u8)).collect())
}

/// It is negotiated each time, and nothing refers to a connection before.
async fn each_connection_has_its_own_compression(cx: Context) -> Verdict {
    const TEXT: &str = "the same text on each connection, the same text";
    let connections = AtomicUsize::new(0);
    let server = cx.server(move |conn| {
        let number = connections.fetch_add(1, Ordering::Relaxed);
        // The third connection has no extension: earlier agreements do not matter.
        accept(conn, if number == 2 { "" } else { NAME })?;
        let mut deflate = DeflatePeer::new(true, true);
        for _ in 0..2 {
            let frame = conn.receive()?.ok_or(io::ErrorKind::UnexpectedEof)?;
            let back = match number {
                2 => frame.payload,
                _ => deflate.inflate(&frame)?,
            };
            conn.send(&match number {
                2 => WireFrame::text(back),
                _ => deflate.compress(frame.opcode, &back),
            })?;
        }
        match number {
            3 => conn.drain(),
            _ => Ok(()), // and it is gone
        }
    });
    let client = cx.client_with(WebSockets::new().extension(deflate()))?;
    let request = client.web_socket(server.ws_url("/")).reconnect(backoff());
    let mut session = request.connect().await?;
    for number in 0..4 {
        let agreed = session.connection().map_or(0, |session| session.extensions().len());
        assert_eq!(agreed, usize::from(number != 2), "connection {number}");
        for _ in 0..2 {
            session.send(TEXT).await?;
            match next(&cx, &mut session).await? {
                Event::Message(frame) => assert_eq!(frame.read_text(), Some(TEXT)),
                other => return Err(Failure::new(format_args!("{number}: {other:?}"))),
            }
        }
        while number < 3 && !matches!(next(&cx, &mut session).await?, Event::Connected(_)) {}
    }
    Ok(())
}

/// What was offered by hand is applied by hand: the frames are those of the wire, both ways.
async fn a_raw_session_shows_what_is_compressed(cx: Context) -> Verdict {
    let server = deflating(&cx, NAME, true, true);
    let request = cx.client().web_socket(server.ws_url("/")).offer_extension(NAME);
    let mut raw = request.connect_raw().await?;
    let mut transform = deflate().accept(&raw.extensions()[0], Role::Client)?;
    for text in texts().take(50) {
        let mut part = MessagePart::new(OpCode::Text, Bytes::from(text.clone()));
        transform.outgoing(&mut part)?;
        assert_eq!(part.rsv, Rsv::RSV1);
        raw.send(RawFrame { rsv: part.rsv, ..RawFrame::new(OpCode::Text, part.payload) }).await?;
        let frame = raw::frame(&cx, &mut raw).await?;
        assert_eq!((frame.opcode, frame.rsv, frame.fin), (OpCode::Text, Rsv::RSV1, true));
        let mut part =
            MessagePart { rsv: frame.rsv, ..MessagePart::new(OpCode::Text, frame.payload) };
        assert_eq!(transform.incoming(&mut part, KIB)?, text);
    }
    Ok(())
}
