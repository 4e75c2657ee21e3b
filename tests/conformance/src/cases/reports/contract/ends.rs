//! The end of a connection below the session, and its remains.

use std::{io, pin::pin, sync::Arc, time::Duration};

use drivetrain::{Capability, ErrorKind};
use drivetrain_engine::{Answer, Engine as _, Handshake};
use futures_util::future::{Either, select};

use crate::{
    case::{Case, case},
    context::{Context, blocking},
    failure::{Failure, Verdict},
    line::{Line, NO_LIMIT, WakeCounter},
    peer::{Conn, Server, WireFrame},
};

/// How soon a socket that was let go is closed, also on a busy machine.
const SOON: Duration = Duration::from_secs(5);
/// It is enough if it is so once: a machine may stand still.
const TRIES: usize = 3;

pub(super) fn cases() -> Vec<Case> {
    let cases = [
        case(an_end_between_two_frames_is_none),
        case(an_end_inside_a_frame_is_an_error),
        case(a_reset_is_an_error),
        case(a_reset_inside_a_frame_is_an_error),
        case(a_dropped_transport_frees_its_socket_at_once),
        case(a_dropped_transport_with_unread_input_frees_its_socket_at_once),
        case(a_dropped_handshake_frees_its_socket_at_once),
        case(a_dropped_refusal_frees_its_socket_at_once),
    ];
    cases.into_iter().map(|case| case.needs(&[Capability::WebSockets])).collect()
}

async fn an_end_between_two_frames_is_none(cx: Context) -> Verdict {
    let mut line = ended(&cx, b"", |conn| conn.shutdown_write()).await?;
    match line.receive(NO_LIMIT).await? {
        Ok(None) => Ok(()),
        other => Err(Failure::new(format_args!(
            "the stream ended between two frames, which is Ok(None) and not {other:?}"
        ))),
    }
}

async fn an_end_inside_a_frame_is_an_error(cx: Context) -> Verdict {
    let line = ended(&cx, b"\x82\x05fou", |conn| conn.shutdown_write()).await?;
    is_io(line, "the stream ended inside a frame").await
}

async fn a_reset_is_an_error(cx: Context) -> Verdict {
    let line = ended(&cx, b"", Conn::reset).await?;
    is_io(line, "the peer reset the connection (ECONNRESET), which is no end of the stream").await
}

async fn a_reset_inside_a_frame_is_an_error(cx: Context) -> Verdict {
    let line = ended(&cx, b"\x82\x05fou", Conn::reset).await?;
    is_io(line, "the peer reset the connection (ECONNRESET) inside a frame").await
}

/// A connection whose peer sends a message, these bytes, and ends it in that way.
async fn ended(
    cx: &Context,
    bytes: &'static [u8],
    end: fn(&mut Conn) -> io::Result<()>,
) -> Verdict<Line> {
    let server = cx.server(move |conn| {
        conn.accept_web_socket()?;
        conn.send(&WireFrame::text("whole"))?;
        // Until the message has been received.
        conn.hold()?;
        conn.write_all(bytes)?;
        end(conn)
    });
    let mut line = Line::open(cx, &server.ws_url("/")).await?;
    let whole = line.receive(NO_LIMIT).await??;
    assert!(whole.is_some_and(|frame| frame.payload == "whole"), "the message before the end");
    server.release();
    Ok(line)
}

async fn is_io(mut line: Line, what: &str) -> Verdict {
    match line.receive(NO_LIMIT).await? {
        Err(error) if error.kind() == ErrorKind::Io => Ok(()),
        other => Err(Failure::new(format_args!(
            "{what}: receiving is to give an error of kind Io, and gave {other:?}"
        ))),
    }
}

async fn a_dropped_transport_frees_its_socket_at_once(cx: Context) -> Verdict {
    let server = cx.server(|conn| {
        conn.accept_web_socket()?;
        conn.drain()
    });
    for _ in 0..TRIES {
        let mut line = Line::open(&cx, &server.ws_url("/")).await?;
        line.awaits_input(&WakeCounter::default())?;
        drop(line);
        if is_freed(&server).await? {
            return Ok(());
        }
    }
    Err(still_open("a transport"))
}

async fn a_dropped_transport_with_unread_input_frees_its_socket_at_once(cx: Context) -> Verdict {
    let server = cx.server(|conn| {
        conn.accept_web_socket()?;
        conn.send(&WireFrame::binary(vec![0; 100_000]))?;
        conn.drain()
    });
    for _ in 0..TRIES {
        drop(Line::open(&cx, &server.ws_url("/")).await?);
        if is_freed(&server).await? {
            return Ok(());
        }
    }
    Err(still_open("a transport with unread input"))
}

async fn a_dropped_handshake_frees_its_socket_at_once(cx: Context) -> Verdict {
    let server = cx.server(Conn::drain);
    for _ in 0..TRIES {
        let (engine, url) = (cx.engine(), server.ws_url("/").parse()?);
        let before = server.connections();
        let connecting = async move { engine.connect(Handshake::new(url)?).await };
        let dialled = cx.until("the server is dialled", || server.connections() > before);
        match select(pin!(connecting), pin!(dialled)).await {
            Either::Left(_) => return Err(Failure::new("a handshake that nobody answers is over")),
            Either::Right((dialled, _)) => dialled?,
        }
        if is_freed(&server).await? {
            return Ok(());
        }
    }
    Err(still_open("the future of a handshake"))
}

async fn a_dropped_refusal_frees_its_socket_at_once(cx: Context) -> Verdict {
    let server = cx.server(|conn| {
        conn.read_request()?;
        conn.write_all(b"HTTP/1.1 403 Forbidden\r\ncontent-length: 100\r\n\r\nsome")?;
        conn.drain()
    });
    for _ in 0..TRIES {
        match cx.engine().connect(Handshake::new(server.ws_url("/").parse()?)?).await? {
            Answer::Refused(response) => assert_eq!(response.status(), 403),
            Answer::Open(_) => return Err(Failure::new("a 403 is no open WebSocket")),
        }
        if is_freed(&server).await? {
            return Ok(());
        }
    }
    Err(still_open("a refusal whose body was not read"))
}

/// Whether the server sees the end soon.
async fn is_freed(server: &Arc<Server>) -> Verdict<bool> {
    let server = Arc::clone(server);
    blocking(move || server.wait_until_idle(SOON)).await
}

fn still_open(what: &str) -> Failure {
    Failure::new(format_args!(
        "{what} was dropped, and its socket was still open {SOON:?} later: dropping has to close it at once, not a \
         task or a timer"
    ))
}
