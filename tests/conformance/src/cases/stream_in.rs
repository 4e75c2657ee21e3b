//! Messages that are read as they come.

use std::time::Duration;

use drivetrain::{Capability, CloseReason, ErrorKind, MessageKind, Session, WebSockets};
use drivetrain_engine::Unit;
use futures_util::AsyncReadExt as _;

use super::{
    cancel::some_polls,
    messages::pattern,
    stream_out::{TEXT, is_pattern},
};
use crate::{
    case::{Case, case},
    context::{Context, PATIENCE, yield_now},
    expect::{ends_cleanly, ends_with, fails, text},
    failure::{Failure, Verdict},
    line::Line,
    peer::{Conn, WireFrame, opcode},
    random::{Random, seed},
    script::PeerBehaviour::{Polite, Silent},
};

const SECOND: Duration = Duration::from_secs(1);

pub(super) fn cases() -> Vec<Case> {
    let cases = [
        case(what_is_sent_is_read),
        case(eight_mib_come_in_with_pings_between).needs_frames(),
        case(the_session_task_reads_on_for_a_slow_reader).needs_frames(),
        case(a_large_message_waits_for_its_reader).needs_frames(),
        case(dropped_futures_lose_and_duplicate_nothing),
        case(the_rest_of_a_dropped_reader_is_thrown_away).needs_frames(),
        case(a_text_may_be_cut_anywhere),
        case(what_is_no_text_ends_the_session).needs_frames(),
        case(a_message_that_is_not_whole_is_an_error).needs_frames(),
        case(its_own_limit_holds).needs_frames(),
        case(closing_does_not_cut_what_is_being_read).needs_frames(),
    ];
    cases.into_iter().map(|case| case.needs(&[Capability::WebSockets])).collect()
}

/// Whether the engine's connections yield whole messages.
pub(crate) async fn is_of_messages(cx: &Context) -> Verdict<bool> {
    let server = cx.echo();
    Ok(Line::open(cx, &server.ws_url("/echo")).await?.duties.unit == Unit::Messages)
}

/// What is read as a stream on an engine of whole messages: one chunk, which all limits hold for.
pub(crate) async fn a_message_comes_as_one(cx: &Context) -> Verdict {
    let peer = cx.peer(Polite, |conn| {
        conn.feed(&WireFrame { fin: false, ..WireFrame::text("a ") });
        conn.feed(&WireFrame::continuation("whole ", false));
        conn.send(&WireFrame::continuation("message", true))
    });
    let mut session = peer.connect().await?;
    let mut reader = next(&mut session).await?;
    let chunk = reader.chunk().await?.ok_or_else(|| Failure::new("the message is empty"))?;
    assert_eq!(chunk, "a whole message");
    assert_eq!(reader.chunk().await?, None);
    Ok(())
}

/// Of both kinds, in one frame and in many, and between whole messages.
async fn what_is_sent_is_read(cx: Context) -> Verdict {
    let peer = cx.peer(Polite, |conn| {
        for first in [WireFrame::text("o"), WireFrame::binary("o")] {
            conn.feed(&WireFrame { fin: false, ..first });
            conn.feed(&WireFrame::continuation("n", false));
            conn.feed(&WireFrame::continuation("", false));
            conn.feed(&WireFrame::continuation("e", true));
            conn.feed(&WireFrame::text("whole"));
        }
        conn.feed(&WireFrame::binary(""));
        conn.send(&WireFrame::close(1000, ""))
    });
    let mut session = peer.connect().await?;
    for kind in [MessageKind::Text, MessageKind::Binary] {
        assert_eq!(read(&mut session).await?, (kind, b"one".to_vec()));
        assert_eq!(text(&mut session).await?, "whole");
    }
    assert_eq!(read(&mut session).await?, (MessageKind::Binary, vec![]));
    assert!(session.receive_stream().await?.is_none());
    assert_eq!(ends_cleanly(&mut session).await?.discarded, 0);
    Ok(())
}

/// With limits that allow a part of it only, in frames of all sizes; each ping is answered.
async fn eight_mib_come_in_with_pings_between(cx: Context) -> Verdict {
    const SIZE: usize = 8 << 20;
    let server = cx.server(|conn| {
        conn.accept_web_socket()?;
        let mut random = Random::new(1);
        let whole = pattern(251 * 500);
        let (mut sent, mut pings) = (0, 0);
        while sent < SIZE {
            let size = (1 + random.below(60_000)).min(SIZE - sent);
            let part = &whole[sent % 251..][..size];
            let fin = sent + size == SIZE;
            conn.feed(&match sent {
                0 => WireFrame { fin, ..WireFrame::binary(part) },
                _ => WireFrame::continuation(part, fin),
            });
            if random.one_in(8) {
                pings += 1;
                conn.send(&WireFrame::ping("between"))?;
                let pong = conn.receive()?;
                if pong.is_none_or(|frame| frame.opcode != opcode::PONG) {
                    return conn.send_close(4000, "no pong");
                }
            }
            sent += size;
        }
        conn.send_text(&format!("{pings} pings"))?;
        conn.drain()
    });
    let plugin = WebSockets::new().max_message_size(70_000).incoming_capacity(100_000);
    let mut session = cx.client_with(plugin)?.web_socket(server.ws_url("/")).connect().await?;
    let mut reader = next(&mut session).await?;
    let mut size = 0;
    while let Some(chunk) = reader.chunk().await? {
        assert!(!chunk.is_empty() && is_pattern(size, &chunk), "at {size}");
        size += chunk.len();
    }
    assert_eq!(size, SIZE);
    drop(reader);
    let pings: u64 = text(&mut session).await?.split(' ').next().unwrap_or_default().parse()?;
    assert_eq!(session.stats().received.pings, pings);
    Ok(())
}

/// It stays away in the middle of a message: a ping is answered, and nothing is lost.
async fn the_session_task_reads_on_for_a_slow_reader(cx: Context) -> Verdict {
    let mut peer = cx.peer(Silent, |conn| {
        conn.send(&WireFrame { fin: false, ..WireFrame::text("slow") })?;
        conn.send(&WireFrame::continuation("ly", false))?;
        conn.send(&WireFrame::ping("there?"))?;
        conn.send(&WireFrame::continuation(", but", true))?;
        conn.send_text("next")
    });
    let mut session = peer.connect().await?;
    let mut reader = next(&mut session).await?;
    assert_eq!(reader.chunk().await?.as_deref(), Some(&b"slow"[..]));
    cx.within(PATIENCE, "the pong comes", peer.frame_of(opcode::PONG)).await??;
    let mut rest = String::new();
    reader.read_to_string(&mut rest).await?;
    assert_eq!(rest, "ly, but");
    drop(reader);
    assert_eq!(text(&mut session).await?, "next");
    Ok(())
}

/// A message above the limit arrives without a receiver. This is no violation, because it may be
/// read in parts. Receiving it as a whole is a violation.
async fn a_large_message_waits_for_its_reader(cx: Context) -> Verdict {
    let client = cx.client_with(WebSockets::new().max_message_size(1000))?;
    for streams in [true, false] {
        let peer = cx.peer(Polite, |conn| {
            conn.feed(&WireFrame { fin: false, ..WireFrame::binary(pattern(1000)) });
            conn.feed(&WireFrame::continuation(pattern(1000), false));
            conn.send(&WireFrame::continuation(pattern(1000), true))
        });
        let mut session = client.web_socket(peer.url()).connect().await?;
        let was_read = || session.stats().received.frames == 3;
        cx.until("the session task has read it", was_read).await?;
        assert!(session.outcome().error.is_none(), "{}", session.outcome());
        if streams {
            assert_eq!(read(&mut session).await?.1.len(), 3000);
        } else {
            ends_with(&mut session, ErrorKind::TooBig).await?;
        }
    }
    Ok(())
}

/// Messages in fragments, received whole and in parts, while futures of all of it are dropped at random polls.
async fn dropped_futures_lose_and_duplicate_nothing(cx: Context) -> Verdict {
    const COUNT: usize = 1000;
    let seed = seed();
    let server = cx.server(move |conn: &mut Conn| {
        conn.accept_web_socket()?;
        let mut random = Random::new(seed);
        for number in 0..COUNT {
            feed_numbered(conn, &mut random, number);
            if random.one_in(4) {
                conn.flush()?;
            }
        }
        conn.send_close(1000, "")?;
        conn.await_close()
    });
    let client = cx.client_with(WebSockets::new().incoming_capacity(300))?;
    let mut session = client.web_socket(server.ws_url("/")).connect().await?;
    let mut random = Random::new(seed ^ 1);
    for number in 0..COUNT {
        let received = match random.one_in(2) {
            true => receive_with_drops(&mut session, &mut random).await,
            false => read_with_drops(&mut session, &mut random).await,
        };
        let failed = |what| Failure::new(format_args!("DRIVETRAIN_SEED={seed}: {what}"));
        let received = received.map_err(failed)?;
        assert_eq!(received, numbered(number), "DRIVETRAIN_SEED={seed}");
        if random.one_in(300) {
            // Now and then the session task takes over.
            cx.sleep(SECOND).await;
        }
    }
    assert_eq!(ends_cleanly(&mut session).await?.discarded, 0, "DRIVETRAIN_SEED={seed}");
    Ok(())
}

async fn receive_with_drops(session: &mut Session, random: &mut Random) -> Verdict<Vec<u8>> {
    loop {
        if let Some(received) = some_polls(random, session.receive()).await.transpose()? {
            let frame = received.ok_or_else(|| Failure::new("it ended"))?;
            return Ok(frame.into_bytes().to_vec());
        }
        yield_now().await;
        if random.one_in(3) {
            // Another call continues the message.
            return Box::pin(read_with_drops(session, random)).await;
        }
    }
}

async fn read_with_drops(session: &mut Session, random: &mut Random) -> Verdict<Vec<u8>> {
    loop {
        if let Some(reader) = some_polls(random, session.receive_stream()).await.transpose()? {
            let mut reader = reader.ok_or_else(|| Failure::new("it ended"))?;
            let mut received = Vec::new();
            loop {
                match some_polls(random, reader.chunk()).await.transpose()? {
                    Some(Some(chunk)) => received.extend_from_slice(&chunk),
                    Some(None) => return Ok(received),
                    None => yield_now().await,
                }
            }
        }
        yield_now().await;
    }
}

/// And counted as one message; the next one is the next one.
async fn the_rest_of_a_dropped_reader_is_thrown_away(cx: Context) -> Verdict {
    let peer = cx.peer(Polite, |conn| {
        conn.feed(&WireFrame { fin: false, ..WireFrame::binary(pattern(1000)) });
        conn.flush()?;
        for _ in 0..100 {
            conn.feed(&WireFrame::continuation(pattern(1000), false));
        }
        conn.feed(&WireFrame::continuation("", true));
        conn.send_text("next")?;
        conn.send_close(1000, "")
    });
    let mut session = peer.connect().await?;
    let mut reader = next(&mut session).await?;
    assert_eq!(reader.chunk().await?.map(|chunk| chunk.len()), Some(1000));
    drop(reader);
    assert_eq!(text(&mut session).await?, "next");
    assert_eq!(ends_cleanly(&mut session).await?.discarded, 1);
    Ok(())
}

/// At every byte, into two frames.
async fn a_text_may_be_cut_anywhere(cx: Context) -> Verdict {
    let peer = cx.peer(Polite, |conn| {
        for cut in 0..=TEXT.len() {
            let (before, after) = TEXT.as_bytes().split_at(cut);
            conn.feed(&WireFrame { fin: false, ..WireFrame::text(before) });
            conn.feed(&WireFrame::continuation(after, true));
        }
        conn.flush()
    });
    let mut session = peer.connect().await?;
    for cut in 0..=TEXT.len() {
        assert_eq!(read(&mut session).await?.1, TEXT.as_bytes(), "cut at {cut}");
    }
    Ok(())
}

/// As soon as it comes, with 1007.
async fn what_is_no_text_ends_the_session(cx: Context) -> Verdict {
    for (bad, fin) in [(&b"\xff"[..], false), (b"(", false), (b"", true)] {
        let mut peer = cx.peer(Polite, move |conn| {
            conn.send(&WireFrame { fin: false, ..WireFrame::text(&b"good\xc3"[..]) })?;
            conn.send(&WireFrame::continuation(bad, fin))
        });
        let mut session = peer.connect().await?;
        let mut reader = next(&mut session).await?;
        assert_eq!(reader.chunk().await?.as_deref(), Some(&b"good\xc3"[..]));
        let error = fails(reader.chunk().await, ErrorKind::Protocol)?;
        assert!(error.outcome().is_some_and(|outcome| !outcome.clean), "{error:?}");
        drop(reader);
        assert_eq!(peer.close().await?.0, Some(1007));
        ends_with(&mut session, ErrorKind::Protocol).await?;
    }
    Ok(())
}

/// Whether the session ended cleanly or not; never the message's end.
async fn a_message_that_is_not_whole_is_an_error(cx: Context) -> Verdict {
    for (closes, kind) in [(true, ErrorKind::Closed), (false, ErrorKind::Io)] {
        let server = cx.server(move |conn| {
            conn.accept_web_socket()?;
            conn.send(&WireFrame { fin: false, ..WireFrame::binary("half") })?;
            if closes {
                conn.send_close(1001, "")?;
                return conn.await_close();
            }
            Ok(())
        });
        let mut session = cx.client().web_socket(server.ws_url("/")).connect().await?;
        let mut reader = next(&mut session).await?;
        let mut half = [0; 4];
        reader.read_exact(&mut half).await?;
        assert_eq!(&half, b"half");
        for _ in 0..2 {
            fails(reader.chunk().await, kind)?;
        }
        let error = reader.read(&mut half).await.expect_err("it is not the end");
        assert_eq!(drivetrain::Error::from(error).kind(), kind);
    }
    Ok(())
}

/// 1009, as for whole messages.
async fn its_own_limit_holds(cx: Context) -> Verdict {
    let mut peer = cx.peer(Polite, |conn| {
        conn.send(&WireFrame { fin: false, ..WireFrame::binary(pattern(60)) })?;
        conn.send(&WireFrame::continuation(pattern(60), false))
    });
    let client = cx.client_with(WebSockets::new().max_stream_size(100))?;
    let mut session = client.web_socket(peer.url()).connect().await?;
    let mut reader = next(&mut session).await?;
    assert_eq!(reader.chunk().await?.map(|chunk| chunk.len()), Some(60));
    fails(reader.chunk().await, ErrorKind::TooBig)?;
    drop(reader);
    assert_eq!(peer.close().await?.0, Some(1009));
    Ok(())
}

/// The rest of it can be read, however little is read ahead.
async fn closing_does_not_cut_what_is_being_read(cx: Context) -> Verdict {
    let peer = cx.peer(Silent, |conn| {
        conn.send(&WireFrame { fin: false, ..WireFrame::binary(pattern(251)) })?;
        while conn.receive()?.is_some_and(|frame| frame.opcode != opcode::CLOSE) {}
        for part in 1..=100 {
            conn.feed(&WireFrame::continuation(pattern(251), part == 100));
        }
        conn.send_close(1000, "")
    });
    let client = cx.client_with(WebSockets::new().incoming_capacity(1000))?;
    let mut session = client.web_socket(peer.url()).connect().await?;
    let outgoing = session.outgoing();
    let mut reader = next(&mut session).await?;
    let closing = cx.spawn(async move { outgoing.close(CloseReason::normal()).await });
    let mut received = Vec::new();
    reader.read_to_end(&mut received).await?;
    assert!(received.len() == 101 * 251 && is_pattern(0, &received));
    drop(reader);
    let outcome = closing.await?;
    assert!(outcome.clean && outcome.discarded == 0, "{outcome}");
    Ok(())
}

async fn next(session: &mut Session) -> Verdict<drivetrain::MessageReader<'_>> {
    let reader = session.receive_stream().await?;
    reader.ok_or_else(|| Failure::new("a message was expected, and the session has ended"))
}

/// The next message, read in parts.
async fn read(session: &mut Session) -> Verdict<(MessageKind, Vec<u8>)> {
    let mut reader = next(session).await?;
    let mut bytes = Vec::new();
    reader.read_to_end(&mut bytes).await?;
    Ok((reader.kind(), bytes))
}

/// A message of any number of frames.
fn feed_numbered(conn: &mut Conn, random: &mut Random, number: usize) {
    let message = numbered(number);
    let mut rest = &message[..];
    let mut first = true;
    loop {
        let len = if random.one_in(3) { rest.len() } else { random.below(rest.len() + 1) };
        let (part, tail) = rest.split_at(len);
        let fin = tail.is_empty();
        conn.feed(&match std::mem::take(&mut first) {
            true => WireFrame { fin, ..WireFrame::binary(part) },
            false => WireFrame::continuation(part, fin),
        });
        if fin {
            return;
        }
        rest = tail;
    }
}

fn numbered(number: usize) -> Vec<u8> {
    let len = Random::new(number as u64).below(2000);
    (0..len).map(|i| (i + number) as u8).collect()
}
