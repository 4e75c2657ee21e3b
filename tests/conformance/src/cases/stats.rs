//! What a session counts, against what the peer sent and saw.

use std::time::Duration;

use drivetrain::{CloseReason, Session, SessionStats, Traffic, WebSockets};
use drivetrain_engine::{Capability, ErrorKind};

use super::messages::pattern;
use crate::{
    case::{Case, case},
    context::{Context, PATIENCE},
    expect::{echoes, ends_with, text},
    failure::Verdict,
    peer::{WireFrame, opcode},
    script::PeerBehaviour::Polite,
};

/// The payload of a Close without a text.
const CLOSE: u64 = 2;
/// The payload of a session's own ping.
const PING: u64 = 8;

pub(super) fn cases() -> Vec<Case> {
    let cases = [
        case(messages_are_counted_each_way),
        case(frames_of_every_kind_are_counted).needs(&[Capability::RawSessions]),
        case(a_long_message_counts_its_fragments).needs(&[Capability::SendFragments]),
        case(pings_are_counted_and_timed).needs(&[Capability::SendPing]),
        case(what_nobody_reads_is_counted),
        case(the_counts_outlive_a_broken_connection),
    ];
    cases.into_iter().map(|case| case.needs(&[Capability::WebSockets])).collect()
}

/// The same figures from the session and from both halves, during it and after its end.
async fn messages_are_counted_each_way(cx: Context) -> Verdict {
    let mut session = open(&cx, &cx.echo().ws_url("/echo")).await?;
    assert_eq!(session.stats(), SessionStats::default(), "the handshake is not counted");
    let sizes = [0, 1, 32, 125, 126, 65_535, 65_536];
    for size in sizes {
        echoes(&mut session, pattern(size)).await?;
        echoes(&mut session, "x".repeat(size)).await?;
    }
    let messages = 2 * sizes.len() as u64;
    let bytes = 2 * sizes.iter().map(|&size| size as u64).sum::<u64>();
    let stats = session.stats();
    for traffic in [stats.received, stats.sent] {
        assert_counts(traffic, messages, messages, bytes);
    }
    assert_eq!((stats.latency, stats.smoothed_latency), (None, None), "nothing was pinged");

    assert!(session.close(CloseReason::normal()).await?.clean);
    let stats = session.stats();
    for traffic in [stats.received, stats.sent] {
        assert_counts(traffic, messages + 1, messages, bytes + CLOSE);
    }
    let (outgoing, incoming) = session.split();
    assert_eq!((outgoing.stats(), incoming.stats()), (stats, stats));
    Ok(())
}

/// Fragments, pings and pongs that the peer sends, and the pongs that answer it.
async fn frames_of_every_kind_are_counted(cx: Context) -> Verdict {
    let mut peer = cx.peer(Polite, |conn| {
        conn.feed(&WireFrame { fin: false, ..WireFrame::text("first, ") });
        conn.feed(&WireFrame::ping("one"));
        conn.feed(&WireFrame::continuation("second, ", false));
        conn.feed(&WireFrame::pong("nobody asked"));
        conn.feed(&WireFrame::continuation("third", true));
        conn.feed(&WireFrame::ping(""));
        conn.send_text("last")
    });
    let mut session = open(&cx, &peer.url()).await?;
    assert_eq!(text(&mut session).await?, "first, second, third");
    assert_eq!(text(&mut session).await?, "last");
    for payload in ["one", ""] {
        assert_eq!(peer.frame_of(opcode::PONG).await?.payload, payload.as_bytes());
    }
    let SessionStats { received, sent, .. } = session.stats();
    assert_counts(received, 7, 2, 7 + 3 + 8 + 12 + 5 + 4);
    assert_eq!((received.pings, received.pongs), (2, 1));
    assert_counts(sent, 2, 0, 3);
    assert_eq!((sent.pings, sent.pongs), (0, 2));
    Ok(())
}

/// One message, and each of its frames.
async fn a_long_message_counts_its_fragments(cx: Context) -> Verdict {
    const SIZE: usize = 300_000;
    let mut peer = cx.peer(Polite, |_| Ok(()));
    let session = open(&cx, &peer.url()).await?;
    session.send(pattern(SIZE)).await?;
    session.flush().await?;
    let mut frames = 1;
    while !peer.frame().await?.fin {
        frames += 1;
    }
    assert!(frames > 1, "it was sent as one");
    assert_counts(session.stats().sent, frames, 1, SIZE as u64);
    Ok(())
}

/// Each ping and its pong; the average is between the shortest and the longest round trip.
async fn pings_are_counted_and_timed(cx: Context) -> Verdict {
    const PINGS: u64 = 5;
    let mut session = open(&cx, &cx.echo().ws_url("/echo")).await?;
    let mut round_trips = Vec::new();
    for _ in 0..PINGS {
        round_trips.push(cx.within(PATIENCE, "the pong comes", session.ping()).await??);
    }
    echoes(&mut session, "a message").await?;
    let stats = session.stats();
    for traffic in [stats.received, stats.sent] {
        assert_counts(traffic, PINGS + 1, 1, PINGS * PING + 9);
    }
    assert_eq!((stats.sent.pings, stats.sent.pongs), (PINGS, 0));
    assert_eq!((stats.received.pings, stats.received.pongs), (0, PINGS));
    assert_eq!(stats.latency, round_trips.last().copied());
    let (shortest, longest) = (round_trips.iter().min(), round_trips.iter().max());
    let smoothed = stats.smoothed_latency.unwrap_or_default() + Duration::from_nanos(PINGS);
    assert!(Some(&smoothed) >= shortest, "{smoothed:?} of {round_trips:?}");
    assert!(stats.smoothed_latency.as_ref() <= longest, "{smoothed:?} of {round_trips:?}");
    Ok(())
}

/// Messages are counted when they come, not when they are taken.
async fn what_nobody_reads_is_counted(cx: Context) -> Verdict {
    const COUNT: u64 = 50;
    let session = open(&cx, &cx.echo().ws_url("/source?count=50&size=10")).await?;
    let (outgoing, incoming) = session.split();
    drop(incoming);
    let all_came = || outgoing.stats().received.messages == COUNT;
    cx.until("the messages come", all_came).await?;
    assert_counts(outgoing.stats().received, COUNT, COUNT, COUNT * 10);
    Ok(())
}

/// A session keeps its counters after an unclean end.
async fn the_counts_outlive_a_broken_connection(cx: Context) -> Verdict {
    let mut session = open(&cx, &cx.echo().ws_url("/drop")).await?;
    session.send("the last").await?;
    ends_with(&mut session, ErrorKind::Io).await?;
    let stats = session.stats();
    assert_counts(stats.sent, 1, 1, 8);
    assert_counts(stats.received, 0, 0, 0);
    Ok(())
}

/// A session that does nothing by itself.
async fn open(cx: &Context, url: &str) -> Verdict<Session> {
    let client = cx.client_with(WebSockets::new())?;
    Ok(client.web_socket(url).ping_interval(None).connect().await?)
}

#[track_caller]
fn assert_counts(traffic: Traffic, frames: u64, messages: u64, bytes: u64) {
    let seen = (traffic.frames, traffic.messages, traffic.bytes);
    assert_eq!(seen, (frames, messages, bytes), "frames, messages, bytes");
}
