//! Raw sessions on a server.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicUsize, Ordering},
    mpsc,
};

use drivetrain::{CloseReason, ErrorKind, OpCode, RawFrame, Result};
use drivetrain_server::RawSession;

use super::{ServerCase, case, connections::until_still};
use crate::{
    failure::{Failure, Verdict},
    peer::{WireFrame, opcode},
    server::context::{ServerContext, eventually, within},
};

pub(super) fn cases() -> Vec<ServerCase> {
    vec![
        case(every_frame_passes_unchanged),
        case(a_raw_handler_that_returns_ends_the_connection),
        case(ten_texts_and_a_close_arrive),
        case(a_raw_close_waits_for_the_clients),
        case(a_reset_ends_a_raw_session),
        case(a_client_that_has_ended_its_direction_still_gets_frames),
        case(a_registry_closes_a_raw_session),
        case(a_reset_while_a_raw_handler_sends_ends_the_session),
        case(a_client_that_does_not_read_stops_a_raw_sender),
    ]
}

/// Sends each frame back, and ends behind a Close.
async fn echo(mut session: RawSession) -> Result<()> {
    while let Some(frame) = session.receive().await? {
        let is_close = frame.opcode == OpCode::Close;
        session.send(frame).await?;
        if is_close {
            break;
        }
    }
    Ok(())
}

fn every_frame_passes_unchanged(cx: &ServerContext) -> Verdict {
    let server = cx.start_raw(cx.upgrader(), echo);
    let mut client = server.client()?;
    for frame in [
        WireFrame::ping("ping"),
        WireFrame::pong(""),
        WireFrame { fin: false, ..WireFrame::text("a") },
        WireFrame::ping("between"),
        WireFrame::continuation("b", false),
        WireFrame::continuation("", true),
        WireFrame::binary(vec![7; 70_000]),
        WireFrame::close(4001, "bye"),
    ] {
        client.send(&frame)?;
        assert_eq!(client.receive()?, Some(frame));
    }
    client.ended()?;
    Ok(())
}

fn a_raw_handler_that_returns_ends_the_connection(cx: &ServerContext) -> Verdict {
    let server = cx.start_raw(cx.upgrader(), async |mut session: RawSession| {
        session.send(RawFrame::new(OpCode::Text, "bye")).await
    });
    let mut client = server.client()?;
    assert_eq!(client.receive_frame()?, WireFrame::text("bye"));
    client.ended()?;
    Ok(())
}

fn ten_texts_and_a_close_arrive(cx: &ServerContext) -> Verdict {
    let server = cx.start_raw(cx.upgrader(), async |mut session: RawSession| {
        for i in 0..10 {
            session.feed(RawFrame::new(OpCode::Text, format!("text {i}"))).await?;
        }
        session.close(CloseReason::normal()).await.map(drop)
    });
    let mut client = server.client()?;
    for i in 0..10 {
        assert_eq!(client.receive_frame()?, WireFrame::text(format!("text {i}")));
    }
    assert_eq!(client.closed()?.0, 1000);
    client.close(1000)?;
    client.ended()?;
    Ok(())
}

fn a_raw_close_waits_for_the_clients(cx: &ServerContext) -> Verdict {
    let (ends, ended) = mpsc::channel();
    let server = cx.start_raw(cx.upgrader(), move |mut session: RawSession| {
        let ends = ends.clone();
        async move {
            let outcome = session.close(CloseReason::new(4001, "")?).await?;
            let _ = ends.send(outcome);
            Ok(())
        }
    });
    let mut client = server.client()?;
    client.send(&WireFrame::text("not read any more"))?;
    assert_eq!(client.closed()?.0, 4001);
    client.close(4002)?;
    let outcome = within(&ended)?;
    assert!(outcome.clean && outcome.discarded == 1, "{outcome:?}");
    assert_eq!(outcome.received.map(|reason| reason.code().into()), Some(4002_u16));
    client.ended()?;
    Ok(())
}

fn a_reset_ends_a_raw_session(cx: &ServerContext) -> Verdict {
    let (ends, ended) = mpsc::channel();
    let server = cx.start_raw(cx.upgrader(), move |mut session: RawSession| {
        let ends = ends.clone();
        async move {
            let result = session.receive().await;
            let _ = ends.send(result.clone().err());
            result.map(drop)
        }
    });
    let client = server.client()?;
    eventually("the session is open", || server.open() == 1)?;
    client.reset()?;
    let error = within(&ended)?.ok_or_else(|| Failure::new("an error was expected"))?;
    assert_eq!(error.kind(), ErrorKind::Io, "{error:?}");
    Ok(())
}

/// The input ends, and a Close can still go out.
fn a_client_that_has_ended_its_direction_still_gets_frames(cx: &ServerContext) -> Verdict {
    let server = cx.start_raw(cx.upgrader(), async |mut session: RawSession| {
        while session.receive().await?.is_some() {}
        session.send(RawFrame::new(OpCode::Text, "I am still here")).await?;
        session.send(RawFrame::new(OpCode::Close, CloseReason::normal().to_payload())).await
    });
    let mut client = server.client()?;
    client.send(&WireFrame::text("last"))?;
    client.shutdown_write()?;
    assert_eq!(client.text()?, "I am still here");
    assert_eq!(client.closed()?.0, 1000);
    client.ended()?;
    Ok(())
}

fn a_registry_closes_a_raw_session(cx: &ServerContext) -> Verdict {
    let server = cx.start_raw(cx.upgrader(), echo);
    let mut client = server.client()?;
    eventually("the session is open", || server.open() == 1)?;
    let reason = CloseReason::new(4002, "log out")?;
    assert_eq!(server.sessions.close_where(&reason, |_| true), 1);
    assert_eq!(server.sessions.close_where(&reason, |_| true), 0, "once");
    let close = client.receive_frame()?;
    assert_eq!((close.opcode, close.close_code()), (opcode::CLOSE, Some(4002)));
    client.close(4002)?;
    client.ended()?;
    Ok(())
}

fn a_reset_while_a_raw_handler_sends_ends_the_session(cx: &ServerContext) -> Verdict {
    let (ends, ended) = mpsc::channel();
    let server = cx.start_raw(cx.upgrader(), move |mut session: RawSession| {
        let ends = ends.clone();
        async move {
            loop {
                let sent = session.send(RawFrame::new(OpCode::Binary, vec![0; 40_000])).await;
                if let Err(error) = sent {
                    let _ = ends.send(error.kind());
                    return Err(error);
                }
            }
        }
    });
    let mut client = server.client()?;
    assert_eq!(client.receive_frame()?.payload.len(), 40_000);
    client.reset()?;
    assert_eq!(within(&ended)?, ErrorKind::Io);
    Ok(())
}

/// When it reads, everything arrives.
fn a_client_that_does_not_read_stops_a_raw_sender(cx: &ServerContext) -> Verdict {
    const FRAME: usize = 64 << 10;
    let (sent, stop) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
    let (counts, stops) = (Arc::clone(&sent), Arc::clone(&stop));
    let server = cx.start_raw(cx.upgrader(), move |mut session: RawSession| {
        let (counts, stops) = (Arc::clone(&counts), Arc::clone(&stops));
        async move {
            while !stops.load(Ordering::Relaxed) {
                session.send(RawFrame::new(OpCode::Binary, vec![0; FRAME])).await?;
                counts.fetch_add(1, Ordering::Relaxed);
            }
            session.close(CloseReason::normal()).await.map(drop)
        }
    });
    let mut client = server.client()?;
    let accepted = until_still(|| sent.load(Ordering::Relaxed) * FRAME)?;
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
    assert_eq!(received, sent.load(Ordering::Relaxed) * FRAME, "nothing is lost");
    client.close(1000)?;
    client.ended()?;
    Ok(())
}
