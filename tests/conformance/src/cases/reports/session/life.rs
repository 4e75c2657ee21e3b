//! Signs of life that are no whole frames.

use std::{
    fmt, io,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use drivetrain::{
    Capability::{Extensions, PluginPing, SendFragments, Tls, WebSockets},
    CloseReason, ErrorKind, MessageKind, Session,
};
use futures_util::{AsyncReadExt as _, AsyncWriteExt as _};

use super::super::super::{
    extensions::{NAME, accept, deflate, noise},
    tls::trusting,
};
use crate::{
    case::{Case, case},
    context::{Context, PATIENCE, Pace, at_pace, builder_for},
    expect::{ends_with, message},
    failure::{Failure, Verdict},
    peer::{Conn, DeflatePeer, Server, TestCa, WireFrame, opcode},
};

const INTERVAL: Duration = Duration::from_millis(200);
const TIMEOUT: Duration = Duration::from_secs(1);
/// A frame takes twice the timeout: this many parts, with this pause after each.
const PARTS: usize = 40;
const PAUSE: Duration = Duration::from_millis(50);
/// A peer that rests for longer than this may be taken for dead.
const REST: Duration = Duration::from_millis(500);
/// How many bytes a slow peer reads in a second, and how many there are: more than sockets hold.
const SPEED: usize = 2_000_000;
const UPLOAD: usize = 10 << 20;

/// How a frame that takes long comes in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum In {
    Binary,
    Text,
    Compressed,
    Tls,
    Stream,
    Unread,
}

/// How a message that takes long goes out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Out {
    Messages,
    Stream,
    Tls,
}

pub(super) fn cases() -> Vec<Case> {
    let mut cases = vec![
        case(a_peer_that_goes_silent_inside_a_frame_is_dead),
        case(a_peer_that_reads_nothing_is_dead_though_the_socket_takes_messages),
    ];
    for how in [In::Binary, In::Text, In::Compressed, In::Tls, In::Stream, In::Unread] {
        let long = case(move |cx| a_frame_that_takes_long(cx, how));
        let name = format_args!("a_frame_that_takes_long_is_life_{how}").to_string();
        let needs: &[_] = match how {
            In::Compressed => &[Extensions],
            In::Tls => &[Tls],
            _ => &[],
        };
        cases.push(long.named("reports::session::life", name).needs(needs));
    }
    for how in [Out::Messages, Out::Stream, Out::Tls] {
        let slow = case(move |cx| a_peer_that_reads_slowly(cx, how));
        let name = format_args!("a_peer_that_reads_slowly_is_alive_{how}").to_string();
        let needs: &[_] = match how {
            Out::Stream => &[SendFragments],
            Out::Tls => &[Tls],
            Out::Messages => &[],
        };
        cases.push(slow.named("reports::session::life", name).needs(needs));
    }
    cases.into_iter().map(|case| case.needs(&[WebSockets, PluginPing])).collect()
}

/// A peer in the middle of a frame cannot answer a ping (RFC 6455 section 5.4).
async fn a_frame_that_takes_long(cx: Context, how: In) -> Verdict {
    at_pace(REST, |pace| a_trickling_frame_is_life(&cx, how, pace)).await
}

async fn a_trickling_frame_is_life(cx: &Context, how: In, pace: Pace) -> Verdict {
    let bytes = frame(how).encode(None);
    let peer = move |conn: &mut Conn| {
        pace.step();
        accept(conn, if how == In::Compressed { NAME } else { "" })?;
        trickle(conn, &bytes, PARTS, &pace)?;
        attend(conn, usize::MAX, &AtomicUsize::new(0), &pace)
    };
    let mut session = connect(cx, how == In::Tls, how == In::Compressed, peer).await?;
    match how {
        In::Stream => {
            let reader = session.receive_stream().await?;
            let mut reader = reader.ok_or_else(|| Failure::new("a message was expected"))?;
            let mut size = 0;
            let mut buffer = vec![0; 64 << 10];
            while let count @ 1.. = reader.read(&mut buffer).await? {
                size += count;
            }
            assert_eq!(size, SIZE);
        }
        In::Unread => {
            cx.sleep(PAUSE * PARTS as u32).await;
            assert_eq!(message(&mut session).await?.payload().len(), SIZE);
        }
        _ => assert_eq!(message(&mut session).await?.payload().len(), SIZE),
    }
    closes(cx, &session).await
}

/// It answers each ping that it reaches.
async fn a_peer_that_reads_slowly(cx: Context, how: Out) -> Verdict {
    at_pace(REST, |pace| slow_reading_is_life(&cx, how, pace)).await
}

async fn slow_reading_is_life(cx: &Context, how: Out, pace: Pace) -> Verdict {
    let read = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&read);
    let peer = move |conn: &mut Conn| {
        pace.step();
        accept(conn, "")?;
        attend(conn, SPEED, &counter, &pace)
    };
    let session = connect(cx, how == Out::Tls, false, peer).await?;
    let sending = async {
        if how == Out::Stream {
            let mut writer = session.send_stream(MessageKind::Binary).await?;
            writer.write_all(&vec![7; UPLOAD]).await?;
            writer.finish().await?;
        } else {
            // The peer reads a frame and pauses. A pause after a frame of 1 MiB makes the system grow its buffers until
            // they hold all of the upload, and then no progress is seen.
            let size = if cx.offers(SendFragments) { 1 << 20 } else { 64 << 10 };
            for _ in 0..UPLOAD / size {
                session.send(vec![7; size]).await?;
            }
        }
        session.flush().await?;
        Verdict::Ok(())
    };
    cx.within(2 * PATIENCE, "the peer takes it all", sending).await??;
    closes(cx, &session).await?;
    assert_eq!(read.load(Ordering::SeqCst), UPLOAD);
    Ok(())
}

async fn closes(cx: &Context, session: &Session) -> Verdict {
    let closing = session.close(CloseReason::normal());
    let outcome = cx.within(PATIENCE, "the peer answers the close", closing).await??;
    match outcome.clean {
        true => Ok(()),
        false => Err(Failure::new(format_args!("a clean end was expected: {outcome:?}"))),
    }
}

/// What came of the frame is life once, not for ever.
async fn a_peer_that_goes_silent_inside_a_frame_is_dead(cx: Context) -> Verdict {
    let peer = |conn: &mut Conn| {
        accept(conn, "")?;
        let bytes = frame(In::Binary).encode(None);
        trickle(conn, &bytes[..SIZE / 2], 5, &Pace::default())?;
        conn.hold()
    };
    let mut session = connect(&cx, false, false, peer).await?;
    let ending = ends_with(&mut session, ErrorKind::Timeout);
    cx.within(PATIENCE, "the dead peer is found", ending).await??;
    Ok(())
}

/// Bytes that a socket accepts prove nothing about the peer.
async fn a_peer_that_reads_nothing_is_dead_though_the_socket_takes_messages(
    cx: Context,
) -> Verdict {
    let peer = |conn: &mut Conn| {
        accept(conn, "")?;
        conn.hold()
    };
    let mut session = connect(&cx, false, false, peer).await?;
    let sending = async {
        while session.send("x").await.is_ok() {
            cx.sleep(Duration::from_millis(5)).await;
        }
    };
    cx.within(PATIENCE, "the dead peer is found", sending).await?;
    ends_with(&mut session, ErrorKind::Timeout).await?;
    Ok(())
}

const SIZE: usize = 512 << 10;

fn frame(how: In) -> WireFrame {
    match how {
        In::Text => WireFrame::text(vec![b'x'; SIZE]),
        In::Compressed => DeflatePeer::new(true, true).compress(opcode::BINARY, &noise(SIZE)),
        _ => WireFrame::binary(vec![7; SIZE]),
    }
}

/// Writes in this many parts, with a pause after each.
fn trickle(conn: &mut Conn, bytes: &[u8], parts: usize, pace: &Pace) -> io::Result<()> {
    for part in bytes.chunks(bytes.len().div_ceil(parts)) {
        conn.write_all(part)?;
        pace.step();
        conn.pause(PAUSE)?;
    }
    Ok(())
}

/// Reads this many bytes per second, and answers as a server should.
fn attend(conn: &mut Conn, speed: usize, read: &AtomicUsize, pace: &Pace) -> io::Result<()> {
    while let Some(frame) = conn.receive()? {
        pace.step();
        match frame.opcode {
            opcode::PING => conn.send(&WireFrame::pong(frame.payload))?,
            opcode::CLOSE => {
                conn.send(&WireFrame { masked: false, ..frame })?;
                return conn.shutdown_write();
            }
            opcode::PONG => {}
            _ => {
                read.fetch_add(frame.payload.len(), Ordering::SeqCst);
                conn.pause(Duration::from_secs_f64(frame.payload.len() as f64 / speed as f64))?;
            }
        }
    }
    Ok(())
}

async fn connect(
    cx: &Context,
    over_tls: bool,
    compressed: bool,
    peer: impl Fn(&mut Conn) -> io::Result<()> + Send + Sync + 'static,
) -> Verdict<Session> {
    let plugin = drivetrain::WebSockets::new().ping_interval(INTERVAL).ping_timeout(TIMEOUT);
    let plugin = if compressed { plugin.extension(deflate()) } else { plugin };
    if !over_tls {
        let server = cx.server(peer);
        return Ok(cx.client_with(plugin)?.web_socket(server.ws_url("/")).connect().await?);
    }
    let ca = TestCa::new();
    let server = cx.keep(Server::start_tls(peer, &ca));
    let client = builder_for(trusting(cx, &ca)?).install(plugin).build()?;
    Ok(client.web_socket(server.ws_url("/")).connect().await?)
}

impl fmt::Display for In {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Binary => "received",
            Self::Text => "as_text",
            Self::Compressed => "compressed",
            Self::Tls => "over_tls",
            Self::Stream => "as_a_stream",
            Self::Unread => "while_nobody_receives",
        })
    }
}

impl fmt::Display for Out {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Messages => "messages",
            Self::Stream => "a_stream",
            Self::Tls => "over_tls",
        })
    }
}
