//! The end of a server, and of chosen sessions.

use std::{
    future,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use drivetrain::{CloseCode, CloseReason, Session, WebSockets};
use drivetrain_server::Sessions;

use super::{ServerCase, case};
use crate::{
    context::PATIENCE,
    failure::{Failure, Verdict},
    peer::{Client, Opening, WireFrame, opcode},
    server::context::{ServerContext, drain, eventually, pause, within},
};

pub(super) fn cases() -> Vec<ServerCase> {
    vec![
        case(a_shutdown_tells_every_session_whatever_it_does),
        case(a_shutdown_says_the_code_that_it_is_given),
        case(a_shutdown_cuts_off_at_its_deadline),
        case(a_client_that_does_not_answer_a_shutdown_is_cut_off),
        case(a_registry_closes_the_sessions_that_are_chosen),
    ]
}

/// Sessions that wait, send, are busy, and close; and a handshake whose request is not complete.
fn a_shutdown_tells_every_session_whatever_it_does(cx: &ServerContext) -> Verdict {
    const EACH: usize = 10;
    let sessions = Sessions::new().shutdown_batches(7, Duration::from_millis(1));
    let plugin = WebSockets::new().close_timeout(PATIENCE).ping_interval(None);
    let (started, gate) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
    let (counts, passes) = (Arc::clone(&started), Arc::clone(&gate));
    let upgrader = cx.upgrader().sessions(&sessions).install(plugin);
    let server = cx.start(upgrader, move |mut session: Session| {
        counts.fetch_add(1, Ordering::Relaxed);
        let gate = Arc::clone(&passes);
        async move {
            let state = session.receive().await?.map(|frame| frame.into_bytes());
            match state.as_deref() {
                Some(b"send") => loop {
                    if session.send("more".repeat(10_000)).await.is_err() {
                        return Ok(());
                    }
                },
                Some(b"busy") => {
                    while !gate.load(Ordering::Relaxed) {
                        pause().await;
                    }
                    Ok(())
                }
                Some(b"close") => session.close(CloseReason::normal()).await.map(drop),
                _ => drain(session).await,
            }
        }
    });
    let mut clients = Vec::new();
    for _ in 0..EACH {
        for state in ["idle", "send", "busy", "close"] {
            let mut client = server.client()?;
            if state != "idle" {
                client.send(&WireFrame::text(state))?;
            }
            clients.push((state, client));
        }
    }
    eventually("all are open", || started.load(Ordering::Relaxed) == 4 * EACH)?;
    let mut late = Client::dial(server.address())?;
    let request = Opening::new("/").bytes(server.address());
    let (begin, end) = request.split_at(request.len() - 2);
    late.write(begin)?;

    let ending = sessions.clone();
    let report = cx.spawn(async move { ending.shutdown(PATIENCE).await });
    eventually("every session is closing", || server.open() == 0)?;
    late.write(end)?;
    assert_eq!(late.answer()?.status, 503);
    gate.store(true, Ordering::Relaxed);
    let readers: Vec<_> = clients
        .into_iter()
        .map(|(state, client)| thread::spawn(move || is_told(state, client)))
        .collect();
    for reader in readers {
        reader.join().map_err(|_| Failure::new("a reader panicked"))??;
    }
    let report = within(&report)?;
    assert_eq!((report.aborted, sessions.len()), (0, 0), "{report:?}");
    assert!(report.sessions >= 3 * EACH, "{report:?}");
    Ok(())
}

/// The client gets a Close with the code for its state, answers it, and then the server ends the connection.
fn is_told(state: &str, mut client: Client) -> Verdict {
    let close = loop {
        let frame = client.receive_frame()?;
        if frame.opcode == opcode::CLOSE {
            break frame;
        }
    };
    let expected = if state == "close" { 1000 } else { 1001 };
    assert_eq!(close.close_code(), Some(expected), "{state}");
    client.close(expected)?;
    Ok(client.ended()?)
}

fn a_shutdown_says_the_code_that_it_is_given(cx: &ServerContext) -> Verdict {
    let sessions = Sessions::new().shutdown_code(CloseCode::try_from(1012)?);
    let server = cx.start(cx.upgrader().sessions(&sessions), drain);
    let mut client = server.client()?;
    eventually("the session is open", || server.open() == 1)?;
    let ending = sessions.clone();
    let report = cx.spawn(async move { ending.shutdown(PATIENCE).await });
    assert_eq!(client.closed()?, (1012, "server is shutting down".into()));
    client.close(1012)?;
    client.ended()?;
    let report = within(&report)?;
    assert_eq!((report.sessions, report.drained, report.aborted), (1, 1, 0));
    Ok(())
}

fn a_shutdown_cuts_off_at_its_deadline(cx: &ServerContext) -> Verdict {
    let server = cx.start(cx.upgrader(), async |_session: Session| future::pending().await);
    let mut client = server.client()?;
    eventually("the session is open", || server.open() == 1)?;
    let sessions = server.sessions.clone();
    let report = cx.spawn(async move { sessions.shutdown(Duration::from_millis(100)).await });
    assert_eq!(client.closed()?.0, 1001);
    client.gone()?;
    let report = within(&report)?;
    assert_eq!((report.sessions, report.drained, report.aborted), (1, 0, 1));
    assert!(server.sessions.is_empty());
    Ok(())
}

fn a_client_that_does_not_answer_a_shutdown_is_cut_off(cx: &ServerContext) -> Verdict {
    let plugin = WebSockets::new().close_timeout(PATIENCE);
    let server = cx.start(cx.upgrader().install(plugin), drain);
    let mut client = server.client()?;
    eventually("the session is open", || server.open() == 1)?;
    let sessions = server.sessions.clone();
    let report = cx.spawn(async move { sessions.shutdown(Duration::from_millis(200)).await });
    assert_eq!(client.closed()?.0, 1001);
    client.gone()?;
    assert_eq!(within(&report)?.aborted, 1);
    assert!(server.sessions.is_empty());
    Ok(())
}

fn a_registry_closes_the_sessions_that_are_chosen(cx: &ServerContext) -> Verdict {
    let server = cx.start(cx.upgrader(), drain);
    let (mut one, mut other) =
        (Client::open(server.address(), "/one")?, Client::open(server.address(), "/other")?);
    eventually("both are open", || server.open() == 2)?;
    let reason = CloseReason::new(4002, "log out")?;
    assert_eq!(server.sessions.close_where(&reason, |info| info.path() == "/one"), 1);
    assert_eq!(one.closed()?, (4002, "log out".into()));
    one.close(4002)?;
    one.ended()?;
    other.close(1000)?;
    assert_eq!(other.closed()?.0, 1000);
    other.ended()?;
    Ok(())
}
