//! Messages that go out as they are written.

use std::collections::HashSet;

use drivetrain::{
    Capability, CloseReason, ErrorKind, MessageKind, MessageWriter, Outgoing, WebSockets,
};
use drivetrain_engine::Capability::{SendFragments, SendPing};
use futures_util::{AsyncWriteExt as _, future};

use super::{cancel::some_polls, messages::pattern};
use crate::{
    case::{Case, case},
    context::{Context, PATIENCE, yield_now},
    expect::{echoes, ends_with, fails},
    failure::{Failure, Verdict},
    peer::{Conn, Message, WireFrame, opcode},
    random::{Random, seed},
    script::{
        PeerBehaviour::{Polite, Silent},
        Script,
    },
};

/// The most that a frame of an outgoing message holds.
const FRAGMENT: usize = 64 << 10;
/// What is cut by text's borders: characters of one to four bytes.
pub(super) const TEXT: &str = "aé√🦀z";

pub(super) fn cases() -> Vec<Case> {
    let cases = [
        case(what_is_written_arrives_in_fragments),
        case(eight_mib_go_out_with_pings_between).needs(&[SendPing]),
        case(a_writer_that_is_held_keeps_no_ping_waiting),
        case(messages_of_many_tasks_and_streams_stay_whole),
        case(dropped_futures_lose_and_duplicate_nothing),
        case(a_writer_that_is_dropped_ends_the_session),
        case(a_writer_that_sent_nothing_may_be_dropped),
        case(closing_cuts_the_message),
        case(the_peers_close_cuts_the_message),
        case(a_text_may_be_cut_anywhere),
        case(what_is_no_text_does_not_leave),
        case(its_own_limit_holds),
    ];
    let needs = [Capability::WebSockets, SendFragments];
    cases.into_iter().map(|case| case.needs(&needs)).collect()
}

/// The exact bytes, opcodes and FIN. The session then continues with whole messages.
async fn what_is_written_arrives_in_fragments(cx: Context) -> Verdict {
    let mut peer = cx.peer(Polite, |_| Ok(()));
    let session = peer.connect().await?;
    let sent = pattern(3 * FRAGMENT + 1000);
    let mut writer = session.send_stream(MessageKind::Binary).await?;
    writer.write_all(&sent[..100]).await?;
    writer.flush().await?;
    let first = peer.frame().await?;
    assert_eq!((first.opcode, first.fin, first.payload.len()), (opcode::BINARY, false, 100));
    for bytes in sent[100..].chunks(7001) {
        writer.write_all(bytes).await?;
    }
    writer.close().await?;
    let mut received = first.payload;
    loop {
        let frame = peer.frame().await?;
        assert!(frame.opcode == opcode::CONTINUATION && frame.rsv == 0, "{frame:?}");
        assert!(frame.payload.len() <= FRAGMENT, "{frame:?}");
        received.extend(frame.payload);
        if frame.fin {
            break;
        }
    }
    assert!(received == sent, "it arrived as another message");
    session.send("whole").await?;
    assert_eq!(peer.text().await?, "whole");
    assert_eq!(session.stats().sent.messages, 2);
    Ok(())
}

/// The peer pings after each MiB that it has read, and every ping is answered before the message ends.
async fn eight_mib_go_out_with_pings_between(cx: Context) -> Verdict {
    const MIB: usize = 1 << 20;
    let server = cx.server(|conn| {
        conn.accept_web_socket()?;
        let (mut read, mut pings, mut pongs, mut right) = (0, 0, 0, true);
        while let Some(frame) = conn.receive()? {
            if frame.opcode == opcode::PONG {
                pongs += 1;
                continue;
            }
            if frame.opcode == opcode::PING {
                conn.send(&WireFrame::pong(frame.payload))?;
                continue;
            }
            right &= is_pattern(read, &frame.payload);
            read += frame.payload.len();
            if read / MIB > pings && pings < 6 {
                pings += 1;
                conn.send(&WireFrame::ping("between"))?;
            }
            if frame.fin {
                break;
            }
        }
        conn.send_text(&format!("{read} bytes, {pings} pings, {pongs} pongs, {right}"))?;
        conn.drain()
    });
    let client = cx.client_with(WebSockets::new().max_message_size(MIB))?;
    let mut session = client.web_socket(server.ws_url("/")).connect().await?;
    let mut writer = session.send_stream(MessageKind::Binary).await?;
    let chunk = pattern(251 * 400);
    let mut left = 8 * MIB;
    while left > 0 {
        let some = left.min(chunk.len());
        writer.write_all(&chunk[..some]).await?;
        left -= some;
    }
    // Until the peer has its pongs; it asks for the last one well before the end.
    let mut pings = session.stats().received.pings;
    while pings < 6 {
        session.ping().await?;
        pings = session.stats().received.pings;
    }
    writer.close().await?;
    drop(writer);
    let said = crate::expect::text(&mut session).await?;
    assert!(said.starts_with("8388608 bytes, 6 pings, 6"), "{said}");
    assert!(said.ends_with("true"), "{said}");
    Ok(())
}

/// Neither the peer's, within a second (a busy machine gets more), nor the application's.
async fn a_writer_that_is_held_keeps_no_ping_waiting(cx: Context) -> Verdict {
    let mut peer = cx.peer(Polite, |conn| conn.send(&WireFrame::ping("anybody?")));
    let session = peer.connect().await?;
    let mut writer = session.send_stream(MessageKind::Text).await?;
    writer.write_chunk("begun").await?;
    writer.flush().await?;
    cx.within(PATIENCE, "the pong comes", peer.frame_of(opcode::PONG)).await??;
    if cx.offers(SendPing) {
        cx.within(PATIENCE, "the ping is answered", session.ping()).await??;
    }
    writer.finish().await?;
    let last = peer.frame_of(opcode::CONTINUATION).await?;
    assert!(last.fin && last.payload.is_empty(), "{last:?}");
    Ok(())
}

/// Some of them streamed, by tasks that wait for each other.
async fn messages_of_many_tasks_and_streams_stay_whole(cx: Context) -> Verdict {
    const TASKS: u8 = 6;
    const EACH: u8 = 20;
    let (_server, session) = cx.session("/echo").await?;
    let (outgoing, mut incoming) = session.split();
    let sending = (0..TASKS).map(|task| {
        let outgoing = outgoing.clone();
        cx.spawn(async move {
            for number in 0..EACH {
                let payload = [task, number].repeat(100 + usize::from(number) * 2000);
                if task % 2 == 0 {
                    outgoing.send(payload).await?;
                    continue;
                }
                let mut writer = outgoing.send_stream(MessageKind::Binary).await?;
                for part in payload.chunks(9000) {
                    writer.write_all(part).await?;
                    writer.flush().await?;
                    yield_now().await;
                }
                writer.finish().await?;
            }
            Verdict::Ok(())
        })
    });
    let sending = future::try_join_all(sending.collect::<Vec<_>>());
    let receiving = async {
        let mut seen = HashSet::new();
        for _ in 0..usize::from(TASKS) * usize::from(EACH) {
            let frame = incoming.receive().await?.ok_or_else(|| Failure::new("it ended"))?;
            let payload = frame.into_bytes();
            let whole = payload.chunks(2).all(|pair| pair == &payload[..2]);
            assert!(whole, "messages are mixed");
            assert_eq!(payload.len(), 2 * (100 + usize::from(payload[1]) * 2000));
            assert!(seen.insert((payload[0], payload[1])), "one came twice");
        }
        Ok(())
    };
    future::try_join(sending, receiving).await?;
    Ok(())
}

/// Messages small and large, whole and streamed, while futures of all of it are dropped at random polls.
async fn dropped_futures_lose_and_duplicate_nothing(cx: Context) -> Verdict {
    const COUNT: usize = 500;
    let seed = seed();
    let server = cx.server(move |conn: &mut Conn| {
        conn.accept_web_socket()?;
        let mut number = 0;
        while let Some(Message::Binary(payload)) = conn.receive_message()? {
            if payload != numbered(seed, number) {
                break;
            }
            number += 1;
        }
        conn.send_close(if number == COUNT { 1000 } else { 4000 }, &number.to_string())
    });
    let client = cx.client_with(WebSockets::new().outgoing_capacity(1000))?;
    let session = client.web_socket(server.ws_url("/")).connect().await?;
    let outgoing = session.outgoing();
    let mut random = Random::new(seed ^ 1);
    for number in 0..COUNT {
        let payload = numbered(seed, number);
        let streamed = random.one_in(2);
        let sent = match streamed {
            true => stream_with_drops(&outgoing, &mut random, &payload).await,
            false => send_with_drops(&outgoing, &mut random, &payload).await,
        };
        sent.map_err(|what| Failure::new(format_args!("DRIVETRAIN_SEED={seed}: {what}")))?;
    }
    let outcome = session.close(CloseReason::normal()).await?;
    let received = crate::expect::reason(&outcome.received);
    assert_eq!(received.map(|(code, _)| code), Some(1000), "DRIVETRAIN_SEED={seed}: {outcome}");
    Ok(())
}

async fn send_with_drops(outgoing: &Outgoing, random: &mut Random, payload: &[u8]) -> Verdict {
    loop {
        let sent = some_polls(random, outgoing.send(payload.to_vec())).await;
        if let Some(sent) = sent {
            return Ok(sent?);
        }
        yield_now().await;
    }
}

async fn stream_with_drops(outgoing: &Outgoing, random: &mut Random, payload: &[u8]) -> Verdict {
    let mut writer: MessageWriter = loop {
        let begun = some_polls(random, outgoing.send_stream(MessageKind::Binary)).await;
        match begun {
            Some(writer) => break writer?,
            None => yield_now().await,
        }
    };
    let mut rest = payload;
    while !rest.is_empty() {
        let chunk = &rest[..1 + random.below(rest.len())];
        let written = match random.one_in(2) {
            true => {
                let chunk = chunk.to_vec();
                let size = chunk.len();
                some_polls(random, writer.write_chunk(chunk)).await.map(|done| done.map(|()| size))
            }
            false => {
                let written = some_polls(random, writer.write(chunk)).await;
                written.map(|done| done.map_err(drivetrain::Error::from))
            }
        };
        match written.transpose()? {
            Some(size) => rest = &rest[size..],
            None => yield_now().await,
        }
        if random.one_in(4) {
            some_polls(random, writer.flush()).await.transpose()?;
        }
    }
    while some_polls(random, writer.finish()).await.transpose()?.is_none() {
        yield_now().await;
    }
    Ok(())
}

/// What has gone out cannot be taken back: Close 1011, and never the message's end.
async fn a_writer_that_is_dropped_ends_the_session(cx: Context) -> Verdict {
    let mut peer = cx.peer(Polite, |_| Ok(()));
    let mut session = peer.connect().await?;
    let mut writer = session.send_stream(MessageKind::Binary).await?;
    writer.write_all(&pattern(FRAGMENT + 10)).await?;
    drop(writer);
    let first = peer.frame().await?;
    assert_eq!((first.opcode, first.fin), (opcode::BINARY, false));
    let close = peer.frame().await?;
    assert_eq!(close.close_code(), Some(1011), "{close:?}");
    peer.end().await?;
    ends_with(&mut session, ErrorKind::Other).await?;
    Ok(())
}

/// No part of the message was sent, so the session stays open.
async fn a_writer_that_sent_nothing_may_be_dropped(cx: Context) -> Verdict {
    let (server, mut session) = cx.session("/echo").await?;
    let mut writer = session.send_stream(MessageKind::Text).await?;
    writer.write_chunk("kept").await?;
    drop(writer);
    drop(session.send_stream(MessageKind::Binary).await?);
    echoes(&mut session, "still open").await?;
    assert_eq!(server.messages(), 1);
    Ok(())
}

/// The peer gets the accepted part and the Close; the writer gets `Closed`; the end is clean.
async fn closing_cuts_the_message(cx: Context) -> Verdict {
    let mut peer = cx.peer(Polite, |_| Ok(()));
    let session = peer.connect().await?;
    let mut writer = begun(&session).await?;
    let outcome = session.close(CloseReason::normal()).await?;
    assert!(outcome.clean, "{outcome}");
    is_cut(&mut peer, &mut writer).await
}

/// The same when the peer closes.
async fn the_peers_close_cuts_the_message(cx: Context) -> Verdict {
    let mut peer = cx.peer(Silent, |conn| {
        while conn.receive()?.is_some_and(|frame| frame.opcode != opcode::TEXT) {}
        conn.send_close(1000, "")?;
        // The echo, and no end of the message before it.
        let echo = conn.receive()?.map(|frame| frame.opcode);
        assert_eq!(echo, Some(opcode::CLOSE), "the message continued");
        Ok(())
    });
    let session = peer.connect().await?;
    let mut writer = begun(&session).await?;
    let outcome = cx.within(PATIENCE, "it closes", session.closed()).await??;
    assert!(outcome.clean, "{outcome}");
    fails(writer.finish().await, ErrorKind::Closed)?;
    drop(writer);
    peer.end().await
}

async fn begun(session: &drivetrain::Session) -> Verdict<MessageWriter> {
    let mut writer = session.send_stream(MessageKind::Text).await?;
    writer.write_chunk("half").await?;
    writer.flush().await?;
    Ok(writer)
}

async fn is_cut(peer: &mut Script, writer: &mut MessageWriter) -> Verdict {
    let error = fails(writer.finish().await, ErrorKind::Closed)?;
    assert!(error.outcome().is_some_and(|outcome| outcome.clean), "{error:?}");
    fails(writer.write_chunk("more").await, ErrorKind::Closed)?;
    let half = peer.frame().await?;
    assert_eq!((half.opcode, half.fin, half.payload), (opcode::TEXT, false, b"half".to_vec()));
    let close = peer.frame().await?;
    assert_eq!(close.opcode, opcode::CLOSE, "the message ended: {close:?}");
    Ok(())
}

/// At every byte, with what came before flushed.
async fn a_text_may_be_cut_anywhere(cx: Context) -> Verdict {
    let (_server, mut session) = cx.session("/echo").await?;
    for cut in 0..=TEXT.len() {
        let (before, after) = TEXT.as_bytes().split_at(cut);
        let mut writer = session.send_stream(MessageKind::Text).await?;
        writer.write_all(before).await?;
        writer.flush().await?;
        writer.write_all(after).await?;
        writer.close().await?;
        drop(writer);
        assert_eq!(crate::expect::text(&mut session).await?, TEXT, "cut at {cut}");
    }
    Ok(())
}

/// The error belongs to the writer, and the message can continue.
async fn what_is_no_text_does_not_leave(cx: Context) -> Verdict {
    let (server, mut session) = cx.session("/echo").await?;
    let mut writer = session.send_stream(MessageKind::Text).await?;
    writer.write_chunk(&b"good\xc3"[..]).await?;
    writer.flush().await?;
    fails(writer.write_chunk("(").await, ErrorKind::InvalidInput)?;
    fails(writer.finish().await, ErrorKind::InvalidInput)?;
    let error = writer.write(b"(").await.expect_err("it is refused");
    assert_eq!(error.kind(), std::io::ErrorKind::InvalidInput);
    fails(writer.write_chunk(&b"\xa9\xff"[..]).await, ErrorKind::InvalidInput)?;
    writer.write_chunk(&b"\xa9"[..]).await?;
    writer.finish().await?;
    drop(writer);
    assert_eq!(crate::expect::text(&mut session).await?, "goodé");
    assert_eq!(server.bytes(), 6);
    Ok(())
}

/// And that of whole messages does not.
async fn its_own_limit_holds(cx: Context) -> Verdict {
    let client = cx.client_with(WebSockets::new().max_stream_size(1000))?;
    let server = cx.echo();
    let request = client.web_socket(server.ws_url("/sink"));
    let session = request.max_stream_size(100_000).connect().await?;
    let mut writer = session.send_stream(MessageKind::Binary).await?;
    fails(writer.write_chunk(vec![0; 1001]).await, ErrorKind::TooBig)?;
    writer.write_chunk(vec![0; 1000]).await?;
    assert!(writer.write(&[0]).await.is_err());
    writer.close().await?;
    session.close(CloseReason::normal()).await?;
    assert_eq!(server.bytes(), 1000);
    Ok(())
}

/// Whether these bytes are those of [`pattern`] from `at` on.
pub(super) fn is_pattern(at: usize, bytes: &[u8]) -> bool {
    bytes.iter().enumerate().all(|(i, &byte)| byte == ((at + i) % 251) as u8)
}

/// The message of this number.
fn numbered(seed: u64, number: usize) -> Vec<u8> {
    let mut random = Random::new(seed.wrapping_add(number as u64));
    let len = if random.one_in(20) { random.below(3 * FRAGMENT) } else { random.below(300) };
    let key = random.next();
    (0..len).map(|i| (key >> (i % 8 * 8)) as u8 ^ i as u8).collect()
}
