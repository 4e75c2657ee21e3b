//! How sessions end, and how they say it.

use std::{fmt, io, time::Duration};

use drivetrain::{
    Capability::{
        MaxFrameSize, MaxMessageSize, RawSessions, SendFragments, SendPing, Tls, WebSockets,
    },
    CloseReason, Error, ErrorKind, MessageKind, OpCode, RawFrame, Session,
    reconnect::{Backoff, Event},
};
use futures_util::{FutureExt as _, SinkExt, StreamExt as _};

use super::super::super::tls::trusting;
use crate::{
    case::{Case, case},
    context::{Context, PATIENCE, client_for},
    expect::{ends_with, fails, message, reason},
    failure::{Failure, Verdict},
    peer::{Conn, LengthEncoding, Server, TestCa, WireFrame, accept_key, frame_header, opcode},
    script::PeerBehaviour::Polite,
};

/// A peer is gone sooner or later than it is read: often enough for both.
const ROUNDS: usize = 10;

/// What a peer does behind its Close.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Behind {
    /// It closes its socket with unread input, which is a reset.
    Unread,
    Reset,
    GarbageAndReset,
}

pub(super) fn cases() -> Vec<Case> {
    let mut cases = vec![
        case(a_failed_send_gives_the_peers_close_that_lies_unread).needs(&[SendPing]),
        case(a_stream_is_cut_by_the_peers_close_and_not_by_the_reset).needs(&[SendFragments]),
        case(a_raw_session_ends_with_the_peers_close).needs(&[RawSessions]),
        case(a_raw_session_that_cannot_send_says_that_the_peer_has_closed).needs(&[RawSessions]),
        case(a_reconnecting_session_ends_with_the_peers_close),
        case(the_peers_close_wins_over_tls).needs(&[Tls]),
        case(a_peer_that_dies_idle_is_a_lost_connection).needs(&[Tls]),
        case(a_close_that_the_peer_does_not_take_was_not_sent),
        case(a_101_in_http_1_0_is_refused),
        case(a_stream_of_messages_ends_after_its_error),
        case(a_cloned_sink_sends_nothing_twice),
        case(a_limit_for_messages_is_one_for_frames).needs(&[MaxMessageSize, MaxFrameSize]),
        case(what_is_too_big_names_its_option).needs(&[MaxMessageSize, MaxFrameSize]),
    ];
    for behind in [Behind::Unread, Behind::Reset, Behind::GarbageAndReset] {
        let closes = case(move |cx| the_peers_close_wins(cx, behind));
        let name = format_args!("the_peers_close_wins_over_{behind}").to_string();
        cases.push(closes.named("reports::session::ends", name));
    }
    cases.into_iter().map(|case| case.needs(&[WebSockets])).collect()
}

/// Both halves report the same end, independent of the half that notices the reset.
async fn the_peers_close_wins(cx: Context, behind: Behind) -> Verdict {
    let server = cx.server(move |conn| {
        conn.accept_web_socket()?;
        leave(conn, behind)
    });
    for _ in 0..ROUNDS {
        let session = cx.client().web_socket(server.ws_url("/")).connect().await?;
        gone_while_sending(&cx, session).await?;
    }
    Ok(())
}

/// The same over TLS, where the reset may cut records.
async fn the_peers_close_wins_over_tls(cx: Context) -> Verdict {
    let ca = TestCa::new();
    let handler = |conn: &mut Conn| {
        conn.accept_web_socket()?;
        leave(conn, Behind::Unread)
    };
    let server = cx.keep(Server::start_tls(handler, &ca));
    let client = client_for(trusting(&cx, &ca)?);
    for _ in 0..ROUNDS {
        let session = client.web_socket(server.ws_url("/")).connect().await?;
        gone_while_sending(&cx, session).await?;
    }
    Ok(())
}

async fn gone_while_sending(cx: &Context, session: Session) -> Verdict {
    let (outgoing, mut incoming) = session.split();
    let sender = outgoing.clone();
    let sending = cx.spawn(async move {
        loop {
            if let Err(error) = sender.send(vec![7; 1000]).await {
                return error;
            }
        }
    });
    let received = cx.within(PATIENCE, "the peer's close comes", incoming.receive()).await?;
    assert_eq!(received?, None, "the peer has closed");
    is_closed(&cx.within(PATIENCE, "sending fails", sending).await?);
    assert!(incoming.next().await.is_none() && incoming.receive().await?.is_none());
    is_closed(&fails(outgoing.send("late").await, ErrorKind::Closed)?);
    let outcome = outgoing.closed().await?;
    assert_eq!(reason(&outcome.received), Some((1000, "bye")), "{outcome:?}");
    SinkExt::<drivetrain::Frame>::close(&mut outgoing.clone()).await?;
    Ok(())
}

/// Without a receiver, available data is read before the failure is reported.
async fn a_failed_send_gives_the_peers_close_that_lies_unread(cx: Context) -> Verdict {
    for behind in [Behind::Unread, Behind::Reset] {
        let server = cx.server(move |conn| {
            conn.accept_web_socket()?;
            leave(conn, behind)
        });
        for _ in 0..ROUNDS {
            let mut session = cx.client().web_socket(server.ws_url("/")).connect().await?;
            let sending = async {
                loop {
                    if let Err(error) = session.send("is there anybody?").await {
                        return error;
                    }
                    cx.sleep(Duration::from_millis(1)).await;
                }
            };
            is_closed(&cx.within(PATIENCE, "sending fails", sending).await?);
            is_closed(&fails(session.ping().await, ErrorKind::Closed)?);
            assert_eq!(session.receive().await?, None);
        }
    }
    Ok(())
}

async fn a_stream_is_cut_by_the_peers_close_and_not_by_the_reset(cx: Context) -> Verdict {
    let server = cx.server(|conn| {
        conn.accept_web_socket()?;
        conn.send(&WireFrame { fin: false, ..WireFrame::binary([7; 100]) })?;
        leave(conn, Behind::Unread)
    });
    for _ in 0..ROUNDS {
        let session = cx.client().web_socket(server.ws_url("/")).connect().await?;
        let (outgoing, mut incoming) = session.split();
        let writing = cx.spawn(async move {
            let mut writer = outgoing.send_stream(MessageKind::Binary).await?;
            loop {
                writer.write_chunk(vec![7; 1000]).await?;
            }
            #[allow(unreachable_code, reason = "it gives the type")]
            drivetrain::Result::Ok(())
        });
        let reader = incoming.receive_stream().await?;
        let mut reader = reader.ok_or_else(|| Failure::new("a message was expected"))?;
        let mut read = 0;
        let error = loop {
            match cx.within(PATIENCE, "the message is cut", reader.chunk()).await? {
                Ok(Some(chunk)) => read += chunk.len(),
                Ok(None) => return Err(Failure::new("the message is not whole")),
                Err(error) => break error,
            }
        };
        assert_eq!(read, 100);
        is_closed(&error);
        drop(reader);
        is_closed(&fails(writing.await, ErrorKind::Closed)?);
        assert!(incoming.receive_stream().await?.is_none());
    }
    Ok(())
}

async fn a_raw_session_ends_with_the_peers_close(cx: Context) -> Verdict {
    for behind in [Behind::Unread, Behind::Reset, Behind::GarbageAndReset] {
        let server = cx.server(move |conn| {
            conn.accept_web_socket()?;
            leave(conn, behind)
        });
        for _ in 0..ROUNDS {
            let mut raw = cx.client().web_socket(server.ws_url("/")).connect_raw().await?;
            if let Err(error) = raw.send(RawFrame::new(OpCode::Text, "unread")).await {
                is_closed(&error); // it is gone already
            }
            let close = raw.receive().await?;
            assert_eq!(close.map(|frame| frame.opcode), Some(OpCode::Close));
            for _ in 0..3 {
                let next = cx.within(PATIENCE, "the end comes", raw.receive()).await?;
                assert_eq!(next?, None, "{behind:?}");
            }
            let outcome = raw.close(CloseReason::normal()).await?;
            assert_eq!(reason(&outcome.received), Some((1000, "bye")), "{outcome:?}");
        }
    }
    Ok(())
}

async fn a_raw_session_that_cannot_send_says_that_the_peer_has_closed(cx: Context) -> Verdict {
    let server = cx.server(move |conn| {
        conn.accept_web_socket()?;
        conn.send_text("before")?;
        leave(conn, Behind::Unread)
    });
    for _ in 0..ROUNDS {
        let mut raw = cx.client().web_socket(server.ws_url("/")).connect_raw().await?;
        let sending = async {
            loop {
                if let Err(error) = raw.send(RawFrame::new(OpCode::Text, "anybody?")).await {
                    return error;
                }
                cx.sleep(Duration::from_millis(1)).await;
            }
        };
        is_closed(&cx.within(PATIENCE, "sending fails", sending).await?);
        let mut received = Vec::new();
        while let Some(frame) = raw.receive().await? {
            received.push(frame.opcode);
        }
        assert_eq!(received, [OpCode::Text, OpCode::Close], "nothing is lost");
    }
    Ok(())
}

/// A Close with 1000 is the end, and no error.
async fn a_reconnecting_session_ends_with_the_peers_close(cx: Context) -> Verdict {
    let server = cx.server(move |conn| {
        conn.accept_web_socket()?;
        leave(conn, Behind::Unread)
    });
    for _ in 0..ROUNDS {
        let request = cx.client().web_socket(server.ws_url("/"));
        let mut session = request.reconnect(Backoff::new()).connect().await?;
        if let Err(error) = session.send("unread").await {
            is_closed(&error); // it is gone already
        }
        // The reset is here before the Close is read.
        cx.sleep(Duration::from_millis(60)).await;
        let lost = match session.receive().await? {
            Some(Event::Disconnected(lost)) => lost,
            other => return Err(Failure::new(format_args!("the end was expected: {other:?}"))),
        };
        assert_eq!(reason(&lost.outcome.received), Some((1000, "bye")));
        for _ in 0..3 {
            assert!(session.receive().await?.is_none(), "it is the end, and no error");
        }
        fails(session.send("late").await, ErrorKind::Closed)?;
    }
    Ok(())
}

/// Without `close_notify` between two frames, and inside one.
async fn a_peer_that_dies_idle_is_a_lost_connection(cx: Context) -> Verdict {
    for inside in [false, true] {
        let ca = TestCa::new();
        let handler = move |conn: &mut Conn| {
            conn.accept_web_socket()?;
            conn.send_text("alive")?;
            if inside {
                conn.write_all(b"\x81\x05hel")?;
            }
            conn.close();
            Ok(())
        };
        let server = cx.keep(Server::start_tls(handler, &ca));
        let client = client_for(trusting(&cx, &ca)?);
        let mut session = client.web_socket(server.ws_url("/")).connect().await?;
        message(&mut session).await?;
        let outcome = ends_with(&mut session, ErrorKind::Io).await?;
        let error = outcome.error.map(|error| error.to_string()).unwrap_or_default();
        assert_eq!(error.contains("in the middle of a frame"), inside, "{error}");
        assert_eq!(error.contains("the connection was lost"), !inside, "{error}");
    }
    Ok(())
}

/// It never reads: the Close waits behind what the socket does not take.
async fn a_close_that_the_peer_does_not_take_was_not_sent(cx: Context) -> Verdict {
    let server = cx.server(|conn| {
        conn.accept_web_socket()?;
        conn.hold()
    });
    let request = cx.client().web_socket(server.ws_url("/"));
    let session = request.close_timeout(Duration::from_millis(300)).connect().await?;
    session.send(vec![7; 48 << 20]).await?;
    let outcome = session.close(CloseReason::new(4000, "unheard")?).await?;
    assert_eq!(outcome.error.as_ref().map(Error::kind), Some(ErrorKind::Timeout));
    assert_eq!(reason(&outcome.sent), None, "{outcome:?}");
    server.release();
    Ok(())
}

/// HTTP/1.0 has no 101 (RFC 9110 section 15.2).
async fn a_101_in_http_1_0_is_refused(cx: Context) -> Verdict {
    let server = cx.server(|conn| {
        let Some(request) = conn.read_request()? else { return Ok(()) };
        let key = request.header("sec-websocket-key").unwrap_or_default();
        let accept = accept_key(key);
        let head = format!(
            "HTTP/1.0 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: Upgrade\r\n\
             sec-websocket-accept: {accept}\r\n\r\n"
        );
        conn.write_all(head.as_bytes())?;
        conn.drain()
    });
    let opened = cx.client().web_socket(server.ws_url("/")).connect();
    let opened = cx.within(PATIENCE, "the handshake ends", opened).await?;
    fails(opened.map(drop), ErrorKind::Protocol)?;
    Ok(())
}

/// A loop over the stream ends after the error; `receive` repeats the error.
async fn a_stream_of_messages_ends_after_its_error(cx: Context) -> Verdict {
    let server = cx.server(|conn| {
        conn.accept_web_socket()?;
        conn.send_text("one")?;
        conn.write_all(&[0xff; 100])?;
        until_close(conn)
    });
    let request = || cx.client().web_socket(server.ws_url("/"));
    let mut session = request().connect().await?;
    let items = session.incoming().map(|item| item.is_ok()).take(10).collect::<Vec<_>>();
    assert_eq!(cx.within(PATIENCE, "the stream ends", items).await?, [true, false]);
    ends_with(&mut session, ErrorKind::Protocol).await?;

    if cx.offers(RawSessions) {
        let raw = request().connect_raw().await?;
        let items = raw.map(|item| item.is_ok()).take(10).collect::<Vec<_>>();
        assert_eq!(cx.within(PATIENCE, "the stream ends", items).await?, [true, false]);
    }

    let mut again = request().reconnect(Backoff::new()).connect().await?;
    let items = (&mut again).map(|item| item.is_ok()).take(10).collect::<Vec<_>>();
    let items = cx.within(PATIENCE, "the stream ends", items).await?;
    assert_eq!(items.iter().filter(|is_ok| !**is_ok).count(), 1, "{items:?}");
    assert!(again.next().now_or_never().is_some_and(|item| item.is_none()));
    Ok(())
}

async fn a_cloned_sink_sends_nothing_twice(cx: Context) -> Verdict {
    let mut peer = cx.peer(Polite, |_| Ok(()));
    let session = peer.connect().await?;
    let mut first = session.outgoing();
    SinkExt::feed(&mut first, drivetrain::Frame::from("one")).await?;
    let mut second = first.clone();
    SinkExt::<drivetrain::Frame>::flush(&mut second).await?;
    SinkExt::<drivetrain::Frame>::flush(&mut first).await?;
    session.send("two").await?;
    assert_eq!(peer.text().await?, "one");
    assert_eq!(peer.text().await?, "two");
    Ok(())
}

/// 20 MiB in one frame under a limit of 32 MiB for messages, and more than that is refused as a frame.
async fn a_limit_for_messages_is_one_for_frames(cx: Context) -> Verdict {
    const SIZE: usize = 20 << 20;
    let server = cx.server(|conn| {
        conn.accept_web_socket()?;
        conn.send(&WireFrame::binary(vec![7; SIZE]))?;
        announce(conn, opcode::BINARY, (32 << 20) + 1)?;
        until_close(conn)
    });
    let plugin = drivetrain::WebSockets::new().max_message_size(32 << 20);
    let client = cx.client_with(plugin)?;
    let mut session = client.web_socket(server.ws_url("/")).connect().await?;
    let limit = session.settings().get("max_frame_size").map(|row| row.value.to_string());
    assert_eq!(limit, Some(format!("{} bytes", 32 << 20)));
    assert_eq!(message(&mut session).await?.payload().len(), SIZE);
    let outcome = ends_with(&mut session, ErrorKind::TooBig).await?;
    names(outcome.error.as_ref(), "max_message_size", "max_frame_size")
}

/// Wherever the limit is found: in an announced length, in fragments, in what is sent.
async fn what_is_too_big_names_its_option(cx: Context) -> Verdict {
    let (frame, message) = ("max_frame_size", "max_message_size");
    let plugin = drivetrain::WebSockets::new;
    for (plugin, fragments, size, named, other) in [
        (plugin().max_frame_size(1000), 0, 1001, frame, message),
        (plugin().max_message_size(1000), 0, 1001, message, frame),
        (plugin().max_message_size(1000).max_frame_size(500), 0, 501, frame, message),
        (plugin().max_message_size(1000).max_frame_size(500), 2, 500, message, frame),
        (plugin().max_message_size(1000).max_frame_size(5000), 0, 1001, message, frame),
        (plugin(), 0, (16 << 20) + 1, frame, message),
    ] {
        let server = cx.server(move |conn| {
            conn.accept_web_socket()?;
            for number in 0..fragments {
                let kind = if number == 0 { opcode::BINARY } else { opcode::CONTINUATION };
                conn.feed(&WireFrame { fin: false, ..WireFrame::new(kind, vec![7; 500]) });
            }
            let kind = if fragments == 0 { opcode::BINARY } else { opcode::CONTINUATION };
            announce(conn, kind, size)?;
            until_close(conn)
        });
        let client = cx.client_with(plugin)?;
        let mut session = client.web_socket(server.ws_url("/")).connect().await?;
        let ending = ends_with(&mut session, ErrorKind::TooBig);
        let outcome = cx.within(PATIENCE, "it is refused", ending).await??;
        names(outcome.error.as_ref(), named, other)?;
        server.release();
    }
    let (_server, session) = cx.session("/echo").await?;
    let error = fails(session.send(vec![7; (64 << 20) + 1]).await, ErrorKind::TooBig)?;
    names(Some(&error), message, frame)
}

fn names(error: Option<&Error>, option: &str, other: &str) -> Verdict {
    let error = error.map(Error::to_string).unwrap_or_default();
    assert!(error.contains(option) && !error.contains(other), "{option} limits: {error}");
    Ok(())
}

fn announce(conn: &mut Conn, opcode: u8, size: u64) -> io::Result<()> {
    let length = LengthEncoding::Minimal;
    conn.write_all(&frame_header(true, 0, opcode, false, length, size))
}

/// A peer that ends its stream when it has seen a Close.
fn until_close(conn: &mut Conn) -> io::Result<()> {
    while conn.receive()?.is_some_and(|frame| frame.opcode != opcode::CLOSE) {}
    conn.shutdown_write()
}

#[track_caller]
fn is_closed(error: &Error) {
    assert_eq!(error.kind(), ErrorKind::Closed, "{error:?}");
    let close = error.close_reason().map(|reason| (u16::from(reason.code()), reason.text()));
    assert_eq!(close, Some((1000, "bye")), "{error:?}");
}

/// Closes when something has come that it does not read, and is gone.
fn leave(conn: &mut Conn, behind: Behind) -> io::Result<()> {
    conn.pause(Duration::from_millis(20))?;
    conn.feed(&WireFrame::close(1000, "bye"));
    if behind == Behind::GarbageAndReset {
        conn.write_all(&[0xff; 100])?;
    }
    conn.flush()?;
    match behind {
        Behind::Unread => conn.close(),
        Behind::Reset | Behind::GarbageAndReset => conn.reset()?,
    }
    Ok(())
}

impl fmt::Display for Behind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unread => "a_socket_closed_with_unread_input",
            Self::Reset => "a_reset",
            Self::GarbageAndReset => "garbage_and_a_reset",
        })
    }
}
