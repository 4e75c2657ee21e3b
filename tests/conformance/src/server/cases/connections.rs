//! Clients that are slow, vanish, send garbage, or do not read.

use std::{
    io::{self, Write},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
        mpsc,
    },
    thread,
    time::Duration,
};

use drivetrain::{ErrorKind, Session, WebSockets};

use super::{ServerCase, case};
use crate::{
    context::PATIENCE,
    failure::{Failure, Verdict},
    peer::{Client, Opening, WireFrame, accepted, masked, opcode},
    server::context::{Ends, ServerContext, Started, drain, echo, eventually, pause, within},
};

/// More than the buffers of two sockets and of a session hold.
const FAR_TOO_MUCH: usize = 64 << 20;

/// After so long without progress a side counts as blocked. A machine that is slower makes a check weaker, not wrong.
const STILL: Duration = Duration::from_millis(500);

pub(super) fn cases() -> Vec<ServerCase> {
    vec![
        case(a_silent_connection_is_ended),
        case(half_a_head_is_ended),
        case(a_head_that_drips_is_ended),
        case(a_session_is_not_bound_by_the_limit_for_heads),
        case(garbage_instead_of_a_request_opens_nothing),
        case(a_head_of_a_mib_opens_nothing),
        case(a_client_that_leaves_before_the_answer_leaves_nothing),
        case(a_reset_while_the_handler_receives_ends_the_session),
        case(a_reset_while_the_handler_sends_ends_the_session),
        case(a_reset_while_the_handler_is_busy_is_seen),
        case(an_end_while_the_handler_is_busy_is_seen),
        case(a_client_that_does_not_read_stops_the_sender),
        case(a_handler_that_does_not_receive_stops_the_client),
        case(fragments_of_one_byte_count_for_the_limit),
        case(clients_do_not_disturb_each_other),
    ]
}

/// How long a head may take in these cases.
const HEAD: Duration = Duration::from_millis(200);

/// A server that ends slow heads; `None` if it cannot.
fn limited(cx: &ServerContext) -> Option<Started> {
    cx.limits_heads().then(|| cx.echo_with_head_limit(HEAD))
}

fn a_silent_connection_is_ended(cx: &ServerContext) -> Verdict {
    let Some(server) = limited(cx) else { return Ok(()) };
    let mut client = Client::dial(server.address())?;
    client.gone()?;
    assert_eq!(server.sessions.refused(), 0);
    Ok(())
}

fn half_a_head_is_ended(cx: &ServerContext) -> Verdict {
    let Some(server) = limited(cx) else { return Ok(()) };
    let whole = Opening::new("/").bytes(server.address());
    for at in [1, 4, 16, 40, whole.len() - 2, whole.len() - 1] {
        let mut client = Client::dial(server.address())?;
        // On a slow machine it is too late already.
        let _ = client.write(&whole[..at]);
        client.gone()?;
    }
    Ok(())
}

fn a_head_that_drips_is_ended(cx: &ServerContext) -> Verdict {
    let Some(server) = limited(cx) else { return Ok(()) };
    let mut client = Client::dial(server.address())?;
    let _ = client.write(b"GET / HTTP/1.1\r\nHost: a\r\nX-Slow: ");
    eventually("the server has had enough", || client.write(b"x").is_err())
}

fn a_session_is_not_bound_by_the_limit_for_heads(cx: &ServerContext) -> Verdict {
    if !cx.limits_heads() {
        return Ok(());
    }
    let limit = Duration::from_secs(2);
    let server = cx.echo_with_head_limit(limit);
    let mut client = server.client()?;
    thread::sleep(limit + HEAD);
    client.send(&WireFrame::text("still here"))?;
    assert_eq!(client.text()?, "still here");
    Ok(())
}

fn garbage_instead_of_a_request_opens_nothing(cx: &ServerContext) -> Verdict {
    let server = cx.echo();
    for garbage in [
        &b"\0\0\0\0\r\n\r\n"[..],
        b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03 a TLS hello\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET / HTTP/1.1\r\nno colon\r\n\r\n",
        b"\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58\r\n\r\n",
    ] {
        let mut client = Client::dial(server.address())?;
        client.write(garbage)?;
        // Some ends are an answer of 400 and some are none.
        let answered = client.answer().map(|answer| answer.status);
        assert!(!answered.as_ref().is_ok_and(|status| *status < 400), "{answered:?}");
        client.gone()?;
    }
    assert!(server.sessions.is_empty());
    // And the server serves on.
    server.client()?;
    Ok(())
}

fn a_head_of_a_mib_opens_nothing(cx: &ServerContext) -> Verdict {
    let server = cx.echo();
    let mut client = Client::dial(server.address())?;
    let opening = Opening::new("/").with("X-Huge", &"x".repeat(1 << 20));
    // The server may answer before it has all of it.
    let _ = client.write(&opening.bytes(server.address()));
    let answered = client.answer().map(|answer| answer.status);
    assert!(!answered.as_ref().is_ok_and(|status| *status < 400), "{answered:?}");
    assert!(server.sessions.is_empty());
    Ok(())
}

fn a_client_that_leaves_before_the_answer_leaves_nothing(cx: &ServerContext) -> Verdict {
    let server = cx.echo();
    for reset in [false, true] {
        for _ in 0..20 {
            let mut client = Client::dial(server.address())?;
            client.write(&Opening::new("/").bytes(server.address()))?;
            if reset {
                client.reset()?;
            }
        }
    }
    eventually("every session has ended", || server.sessions.is_empty())?;
    server.client()?;
    Ok(())
}

fn a_reset_while_the_handler_receives_ends_the_session(cx: &ServerContext) -> Verdict {
    let (ends, ended) = Ends::new();
    let server = cx.start(cx.upgrader(), move |session| ends.clone().of(session));
    let client = server.client()?;
    eventually("the session is open", || server.open() == 1)?;
    client.reset()?;
    let error = within(&ended)?.ok_or_else(|| Failure::new("an error was expected"))?;
    assert_eq!(error.kind(), ErrorKind::Io, "{error:?}");
    Ok(())
}

fn a_reset_while_the_handler_sends_ends_the_session(cx: &ServerContext) -> Verdict {
    let (ends, ended) = mpsc::channel();
    let server = cx.start(cx.upgrader(), move |session: Session| {
        let ends = ends.clone();
        async move {
            loop {
                if let Err(error) = session.send("more".repeat(10_000)).await {
                    let _ = ends.send(error.clone());
                    return Err(error);
                }
            }
        }
    });
    let mut client = server.client()?;
    assert_eq!(client.text()?.len(), 40_000);
    client.reset()?;
    let error = within(&ended)?;
    assert_eq!(error.kind(), ErrorKind::Io, "{error:?}");
    Ok(())
}

/// The handler neither sends nor receives.
fn a_reset_while_the_handler_is_busy_is_seen(cx: &ServerContext) -> Verdict {
    while_busy(cx, Client::reset)
}

fn an_end_while_the_handler_is_busy_is_seen(cx: &ServerContext) -> Verdict {
    while_busy(cx, |client| {
        drop(client);
        Ok(())
    })
}

fn while_busy(cx: &ServerContext, leave: fn(Client) -> io::Result<()>) -> Verdict {
    let (ends, ended) = mpsc::channel();
    let server = cx.start(cx.upgrader(), move |session: Session| {
        let ends = ends.clone();
        async move {
            let ended = session.closed().await;
            let _ = ends.send(ended.as_ref().is_ok_and(|outcome| outcome.clean));
            ended.map(drop)
        }
    });
    let client = server.client()?;
    eventually("the session is open", || server.open() == 1)?;
    leave(client)?;
    assert!(!within(&ended)?, "that end is not clean");
    Ok(())
}

/// What is accepted for it is bounded. When it reads, everything arrives.
fn a_client_that_does_not_read_stops_the_sender(cx: &ServerContext) -> Verdict {
    const MESSAGE: usize = 64 << 10;
    let (sent, stop) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
    let (counts, stops) = (Arc::clone(&sent), Arc::clone(&stop));
    let plugin = WebSockets::new().ping_interval(None);
    let server = cx.start(cx.upgrader().install(plugin), move |session: Session| {
        let (counts, stops) = (Arc::clone(&counts), Arc::clone(&stops));
        async move {
            while !stops.load(Ordering::Relaxed) {
                session.send(vec![0; MESSAGE]).await?;
                counts.fetch_add(1, Ordering::Relaxed);
            }
            Ok(())
        }
    });
    let mut client = server.client()?;
    let accepted = until_still(|| sent.load(Ordering::Relaxed) * MESSAGE)?;
    stop.store(true, Ordering::Relaxed);
    let mut received = 0;
    loop {
        let frame = client.receive_frame()?;
        match frame.opcode {
            opcode::CLOSE => break,
            _ => received += frame.payload.len(),
        }
    }
    assert!(accepted > 0 && received >= accepted, "{accepted} {received}");
    assert_eq!(received, sent.load(Ordering::Relaxed) * MESSAGE, "nothing is lost");
    Ok(())
}

/// What a client can have a session hold is bounded. When the handler receives, everything is there.
fn a_handler_that_does_not_receive_stops_the_client(cx: &ServerContext) -> Verdict {
    const MESSAGE: usize = 64 << 10;
    const ALL: usize = FAR_TOO_MUCH / MESSAGE;
    let (receives, received) = (Arc::new(AtomicBool::new(false)), mpsc::channel());
    let (go, counts) = (Arc::clone(&receives), received.0);
    let plugin = WebSockets::new().ping_interval(None);
    let server = cx.start(cx.upgrader().install(plugin), move |mut session: Session| {
        let (go, counts) = (Arc::clone(&go), counts.clone());
        async move {
            while !go.load(Ordering::Relaxed) {
                pause().await;
            }
            let mut count = 0;
            while session.receive().await?.is_some() {
                count += 1;
            }
            let _ = counts.send(count);
            Ok(())
        }
    });
    let mut client = server.client()?;
    let written = Arc::new(AtomicUsize::new(0));
    let mut socket = client.socket().try_clone()?;
    let progress = Arc::clone(&written);
    let writer = thread::spawn(move || -> io::Result<()> {
        let frame = masked(&WireFrame::binary(vec![0; MESSAGE]));
        for _ in 0..ALL {
            for part in frame.chunks(8 << 10) {
                socket.write_all(part)?;
                progress.fetch_add(part.len(), Ordering::Relaxed);
            }
        }
        socket.write_all(&masked(&WireFrame::close(1000, "")))
    });
    let taken = until_still(|| written.load(Ordering::Relaxed));
    receives.store(true, Ordering::Relaxed);
    assert!(taken? > 0);
    assert!(writer.join().is_ok_and(|written| written.is_ok()));
    assert_eq!(client.closed()?.0, 1000);
    assert_eq!(within(&received.1)?, ALL, "nothing is lost");
    Ok(())
}

/// The value at which a counter stays, which must be far below what is offered.
pub(super) fn until_still(mut count: impl FnMut() -> usize) -> Verdict<usize> {
    let (mut last, mut since) = (0, std::time::Instant::now());
    let begin = since;
    loop {
        let now = count();
        if now >= FAR_TOO_MUCH {
            return Err(Failure::new(format_args!(
                "{now} bytes are taken, and nothing stops them"
            )));
        }
        if now != last {
            (last, since) = (now, std::time::Instant::now());
        } else if now > 0 && since.elapsed() > STILL {
            return Ok(now);
        }
        if begin.elapsed() > 3 * PATIENCE {
            return Err(Failure::new(format_args!("{now} bytes, and still more")));
        }
        thread::sleep(Duration::from_millis(5));
    }
}

fn fragments_of_one_byte_count_for_the_limit(cx: &ServerContext) -> Verdict {
    let plugin = WebSockets::new().max_message_size(1023);
    let server = cx.start(cx.upgrader().install(plugin), drain);
    let mut client = server.client()?;
    let first = masked(&WireFrame { fin: false, ..WireFrame::text("x") });
    let next = masked(&WireFrame::continuation("x", false));
    client.write(&[first, next.repeat(1022)].concat())?;
    client.send(&WireFrame::ping("all are taken"))?;
    assert_eq!(client.receive_frame()?, WireFrame::pong("all are taken"));
    client.write(&next)?;
    assert_eq!(client.closed()?.0, 1009);
    client.close(1009)?;
    client.gone()?;
    Ok(())
}

/// One sends nonsense, one says nothing, one does not read, and others talk.
fn clients_do_not_disturb_each_other(cx: &ServerContext) -> Verdict {
    let plugin = WebSockets::new().close_timeout(STILL);
    let server = cx.start(cx.upgrader().install(plugin), echo);
    let mut good = Vec::new();
    for _ in 0..5 {
        good.push(server.client()?);
    }
    let silent = server.client()?;
    let mut mute = server.client()?;
    mute.socket().set_write_timeout(Some(STILL))?;
    let frame = masked(&WireFrame::binary(vec![0; 64 << 10]));
    // Its echoes fill both sockets.
    for _ in 0..FAR_TOO_MUCH / frame.len() {
        if mute.write(&frame).is_err() {
            break;
        }
    }
    let mut hostile = server.client()?;
    hostile.write(&[0xff; 100])?;
    for client in &mut good {
        client.send(&WireFrame::text("hello"))?;
        assert_eq!(client.text()?, "hello");
    }
    assert_eq!(hostile.closed()?.0, 1002);
    drop((silent, hostile));
    mute.reset()?;
    for mut client in good {
        client.close(1000)?;
        assert_eq!(client.closed()?.0, 1000);
        client.ended()?;
    }
    let (_, answer) = Client::ask(server.address(), &Opening::new("/"))?;
    Ok(accepted(&answer)?)
}
