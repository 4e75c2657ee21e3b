//! Pings and pongs, whatever the application does meanwhile.

use std::{pin::pin, time::Duration};

use drivetrain::{Bytes, Capability, CloseReason, Frame};
use drivetrain_engine::Capability::SendPing;
use futures_util::future;

use super::messages::while_receiving;
use crate::{
    case::{Case, case},
    context::{Context, PATIENCE, yield_now},
    expect::{echoes, text},
    failure::{Failure, Verdict},
    peer::{WireFrame, opcode},
    script::{
        PeerBehaviour::{Polite, Silent},
        Saw, Script,
    },
};

/// A pong is due within a second. The limit is that of a machine that stands still meanwhile, and far below the two minutes
/// after which a slow application has come to the ping by itself.
const DUE: Duration = Duration::from_secs(40);

pub(super) fn cases() -> Vec<Case> {
    let cases = [
        case(a_ping_is_answered_while_the_application_receives),
        case(a_ping_is_answered_while_the_application_is_idle),
        case(a_ping_is_answered_while_the_application_only_sends),
        case(a_ping_is_answered_while_the_application_computes),
        case(a_ping_is_answered_after_the_application_received),
        case(a_ping_is_answered_behind_what_a_slow_application_has_not_taken),
        case(a_pong_has_the_payload_of_its_ping),
        case(a_pong_nobody_asked_for_is_ignored),
        case(ping_gives_the_round_trip).needs(&[SendPing]),
        case(ping_works_while_nobody_receives).needs(&[SendPing]),
        case(pings_at_once_are_all_answered).needs(&[SendPing]),
        case(pings_and_pongs_of_the_applications_arrive).needs(&[SendPing]),
        case(a_flood_of_pings_is_survived),
    ];
    cases.into_iter().map(|case| case.needs(&[Capability::WebSockets])).collect()
}

/// At once, one after the other.
async fn a_ping_is_answered_while_the_application_receives(cx: Context) -> Verdict {
    let (_server, mut session) = cx.session("/pinger?count=10&ms=60000").await?;
    assert_eq!(text(&mut session).await?, "10");
    Ok(())
}

/// Within a second, though nothing is asked of the session.
async fn a_ping_is_answered_while_the_application_is_idle(cx: Context) -> Verdict {
    let mut peer = pinging(&cx);
    let _session = peer.connect().await?;
    cx.within(DUE, "the pong comes", peer.frame_of(opcode::PONG)).await??;
    Ok(())
}

/// Within a second, though only `send` is called.
async fn a_ping_is_answered_while_the_application_only_sends(cx: Context) -> Verdict {
    let mut peer = pinging(&cx);
    let session = peer.connect().await?;
    let sending = async {
        loop {
            session.send("x").await?;
            cx.sleep(Duration::from_millis(1)).await;
        }
    };
    until_pong(&cx, &mut peer, sending).await
}

/// Within a second, though the application only computes, and yields now and then.
async fn a_ping_is_answered_while_the_application_computes(cx: Context) -> Verdict {
    let mut peer = pinging(&cx);
    let _session = peer.connect().await?;
    let computing = async {
        loop {
            compute();
            yield_now().await;
        }
    };
    until_pong(&cx, &mut peer, computing).await
}

/// Within a second, though the application has received before and does so no more.
async fn a_ping_is_answered_after_the_application_received(cx: Context) -> Verdict {
    let mut peer = cx.peer(Polite, |conn| {
        conn.send_text("work")?;
        conn.receive()?;
        conn.send(&WireFrame::ping("busy?"))
    });
    let mut session = peer.connect().await?;
    text(&mut session).await?;
    session.send("busy now").await?;
    cx.within(DUE, "the pong comes", peer.frame_of(opcode::PONG)).await??;
    Ok(())
}

/// Within a second, though the application takes one message after the other, and is far behind.
async fn a_ping_is_answered_behind_what_a_slow_application_has_not_taken(cx: Context) -> Verdict {
    const MESSAGES: usize = 400;
    let mut peer = cx.peer(Polite, |conn| {
        for number in 0..MESSAGES {
            conn.feed(&WireFrame::text(number.to_string()));
        }
        conn.send(&WireFrame::ping("there?"))
    });
    let mut session = peer.connect().await?;
    let mut taken = 0;
    let slowly = async {
        loop {
            assert_eq!(text(&mut session).await?, taken.to_string());
            taken += 1;
            cx.sleep(Duration::from_millis(300)).await;
        }
    };
    until_pong(&cx, &mut peer, slowly).await?;
    for number in taken..MESSAGES {
        assert_eq!(text(&mut session).await?, number.to_string());
    }
    Ok(())
}

/// The pong carries the payload, an empty one and the largest too.
async fn a_pong_has_the_payload_of_its_ping(cx: Context) -> Verdict {
    let payloads = [Vec::new(), vec![0], vec![255; 125]];
    let pings = payloads.clone();
    let mut peer = cx.peer(Polite, move |conn| {
        for payload in &pings {
            conn.feed(&WireFrame::ping(payload.clone()));
        }
        conn.flush()
    });
    let mut session = peer.connect().await?;
    let pongs = async {
        for payload in payloads {
            assert_eq!(peer.frame_of(opcode::PONG).await?.payload, payload);
        }
        Ok(())
    };
    while_receiving(&mut session, pongs).await
}

/// Pongs that answer nothing change nothing.
async fn a_pong_nobody_asked_for_is_ignored(cx: Context) -> Verdict {
    let mut peer = cx.peer(Polite, |conn| {
        for payload in [&b""[..], b"unasked", &[0; 8], &[0, 0, 0, 0, 0, 0, 0, 1], &[255; 125]] {
            conn.feed(&WireFrame::pong(payload));
        }
        conn.send_text("after")
    });
    let mut session = peer.connect().await?;
    assert_eq!(text(&mut session).await?, "after");
    assert_eq!(session.latency(), None);
    session.send("answer").await?;
    assert_eq!(peer.text().await?, "answer");
    Ok(())
}

/// The time from ping to pong, which is the latency from then on.
async fn ping_gives_the_round_trip(cx: Context) -> Verdict {
    const AWAY: Duration = Duration::from_millis(100);
    let peer = cx.peer(Polite, |conn| {
        conn.receive()?.map_or(Ok(()), |ping| {
            conn.pause(AWAY)?;
            conn.send(&WireFrame::pong(ping.payload))
        })
    });
    let session = peer.connect().await?;
    assert_eq!(session.latency(), None);
    let round_trip = cx.within(PATIENCE, "the pong comes", session.ping()).await??;
    assert!(round_trip >= AWAY / 2, "{round_trip:?}");
    assert_eq!(session.latency(), Some(round_trip));
    Ok(())
}

/// What comes before the pong is kept for `receive`.
async fn ping_works_while_nobody_receives(cx: Context) -> Verdict {
    let (_server, mut session) = cx.session("/source?count=100&size=10").await?;
    for _ in 0..3 {
        cx.within(PATIENCE, "the pong comes", session.ping()).await??;
    }
    for _ in 0..100 {
        assert_eq!(crate::expect::message(&mut session).await?.read_bytes().len(), 10);
    }
    echoes(&mut session, "and on").await
}

/// Several calls at once each get their pong.
async fn pings_at_once_are_all_answered(cx: Context) -> Verdict {
    let (_server, session) = cx.session("/echo").await?;
    let pings = future::try_join_all((0..20).map(|_| session.ping()));
    assert_eq!(cx.within(PATIENCE, "the pongs come", pings).await??.len(), 20);
    Ok(())
}

/// `send(Frame::Ping)` and `send(Frame::Pong)` arrive with their payloads, in order with messages or
/// before them.
pub(super) async fn pings_and_pongs_of_the_applications_arrive(cx: Context) -> Verdict {
    let mut peer = cx.peer(Silent, |_| Ok(()));
    let session = peer.connect().await?;
    for (frame, opcode, payload) in [
        (Frame::Ping(Bytes::from_static(b"ping")), opcode::PING, &b"ping"[..]),
        (Frame::Pong(Bytes::from_static(b"pong")), opcode::PONG, b"pong"),
        (Frame::Ping(Bytes::new()), opcode::PING, b""),
        (Frame::Pong(vec![7; 125].into()), opcode::PONG, &[7; 125]),
    ] {
        session.send(frame).await?;
        let seen = peer.frame().await?;
        assert_eq!((seen.opcode, seen.payload.as_slice()), (opcode, payload));
    }
    Ok(())
}

/// Ten thousand pings without a read between them: the last one is answered, and messages still come.
async fn a_flood_of_pings_is_survived(cx: Context) -> Verdict {
    const COUNT: u32 = 10_000;
    let mut peer = cx.peer(Polite, |conn| {
        for i in 0..COUNT {
            conn.feed(&WireFrame::ping([&i.to_be_bytes()[..], &[0; 100]].concat()));
            if i % 100 == 0 {
                conn.flush()?;
            }
        }
        conn.send_text("after the flood")
    });
    let mut session = peer.connect().await?;
    assert_eq!(text(&mut session).await?, "after the flood");
    let last_pong = async {
        let mut before = None;
        loop {
            let pong = peer.frame_of(opcode::PONG).await?.payload;
            let number = pong.first_chunk().map(|number| u32::from_be_bytes(*number));
            assert!(number > before, "{number:?} after {before:?}");
            if number == Some(COUNT - 1) {
                return Verdict::Ok(());
            }
            before = number;
        }
    };
    while_receiving(&mut session, last_pong).await?;
    let closing = async { Verdict::Ok(session.close(CloseReason::normal()).await?) };
    assert!(closing.await?.clean);
    Ok(())
}

/// A peer that pings once, when the client has begun to use the session.
fn pinging(cx: &Context) -> Script {
    cx.peer(Polite, |conn| conn.send(&WireFrame::ping("there?")))
}

/// The pong comes in time, while the application is busy with something that has no end.
async fn until_pong(
    cx: &Context,
    peer: &mut Script,
    busy: impl Future<Output = Verdict>,
) -> Verdict {
    let pong = async {
        loop {
            match peer.next().await? {
                Saw::Frame(frame) if frame.opcode == opcode::PONG => return Ok(()),
                Saw::Frame(_) => {}
                other => return Err(Failure::new(format_args!("no pong, but {other:?}"))),
            }
        }
    };
    let either = async { future::select(pin!(pong), pin!(busy)).await.factor_first().0 };
    cx.within(DUE, "the pong comes", either).await?
}

/// A little work that does not wait.
pub(super) fn compute() {
    let until = std::time::Instant::now() + Duration::from_micros(500);
    while std::time::Instant::now() < until {
        std::hint::spin_loop();
    }
}
