//! What is accepted for sending: when it is written, and how much of it waits.

use std::{
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use drivetrain::{Capability, CloseReason, Session, WebSockets};
use drivetrain_engine::Capability::{BatchedWrites, CallerStream};
use futures_util::future;

use super::messages::pattern;
use crate::{
    CountedStream, Writes,
    case::{Case, case},
    context::{Context, client_for},
    expect::{echoes, text},
    failure::{Failure, Verdict},
    peer::{Conn, Server, WireFrame},
    script::PeerBehaviour::Polite,
};

/// Far more than any system's socket buffers hold.
const FAR_TOO_MUCH: usize = 64 << 20;
const MESSAGE: usize = 64 << 10;
/// After this long without progress there is none.
const STALLED: Duration = Duration::from_millis(400);

pub(super) fn cases() -> Vec<Case> {
    let cases = [
        case(a_message_is_written_without_further_ado),
        case(a_fed_message_is_written_soon),
        case(many_messages_cost_few_writes).needs(&[CallerStream, BatchedWrites]),
        case(a_message_after_waiting_costs_one_write).needs(&[CallerStream, BatchedWrites]),
        case(a_send_dropped_while_it_waits_has_sent_nothing),
        case(a_message_larger_than_the_capacity_is_sent),
        case(a_small_capacity_keeps_order),
        case(the_peer_waits_for_an_application_that_does_not_receive),
    ];
    cases.into_iter().map(|case| case.needs(&[Capability::WebSockets])).collect()
}

/// Neither `flush` nor `receive` is needed.
async fn a_message_is_written_without_further_ado(cx: Context) -> Verdict {
    let mut peer = cx.peer(Polite, |_| Ok(()));
    let session = peer.connect().await?;
    for message in ["first", "second", "third"] {
        session.send(message).await?;
        assert_eq!(peer.text().await?, message);
    }
    Ok(())
}

/// Though nothing comes after it.
async fn a_fed_message_is_written_soon(cx: Context) -> Verdict {
    let mut peer = cx.peer(Polite, |_| Ok(()));
    let session = peer.connect().await?;
    session.feed("fed").await?;
    assert_eq!(peer.text().await?, "fed");
    Ok(())
}

/// A thousand messages, sent one after the other, leave in a few writes.
pub(super) async fn many_messages_cost_few_writes(cx: Context) -> Verdict {
    let (_server, session, writes) = counted(&cx).await?;
    let cost = writes_of_many_messages(&session, &writes).await?;
    // The session task may write pending frames at any time, from another thread.
    assert!(cost <= MESSAGES / 4, "{cost} writes for {MESSAGES} messages");
    Ok(())
}

/// One write for each message of a conversation.
async fn a_message_after_waiting_costs_one_write(cx: Context) -> Verdict {
    const ROUNDS: usize = 20;
    let (_server, mut session, writes) = counted(&cx).await?;
    let before = writes.count();
    for i in 0..ROUNDS {
        echoes(&mut session, i.to_string()).await?;
    }
    assert_eq!(writes.count() - before, ROUNDS);
    Ok(())
}

/// The peer gets exactly the accepted messages, in order.
async fn a_send_dropped_while_it_waits_has_sent_nothing(cx: Context) -> Verdict {
    let (server, mut session) = muted_sink(&cx).await?;
    let accepted = until_send_waits(&cx, &session).await?;
    for _ in 0..10 {
        let dropped = future::poll_immediate(session.send(numbered(usize::MAX))).await;
        assert!(dropped.is_none(), "there is no room");
    }
    server.release();
    session.send("end").await?;
    assert_eq!(text(&mut session).await?, format!("{accepted} in order"));
    Ok(())
}

/// One message is accepted whatever its size, and goes out while the peer reads.
async fn a_message_larger_than_the_capacity_is_sent(cx: Context) -> Verdict {
    let client = cx.client_with(WebSockets::new().outgoing_capacity(1).incoming_capacity(1))?;
    let mut session = client.web_socket(cx.echo().ws_url("/echo")).connect().await?;
    echoes(&mut session, pattern(1 << 20)).await
}

/// Nothing overtakes, and nothing is lost, if there is room for one message only.
async fn a_small_capacity_keeps_order(cx: Context) -> Verdict {
    let client = cx.client_with(WebSockets::new().outgoing_capacity(1).incoming_capacity(1))?;
    let session = client.web_socket(cx.echo().ws_url("/echo")).connect().await?;
    let (outgoing, mut incoming) = session.split();
    let sending = cx.spawn(async move {
        for i in 0..2000 {
            outgoing.send(numbered(i)).await?;
        }
        Verdict::Ok(outgoing)
    });
    for i in 0..2000 {
        let frame = incoming.receive().await?.ok_or_else(|| Failure::new("it ended"))?;
        assert!(frame.into_bytes() == numbered(i), "message {i} is another one");
    }
    assert!(sending.await?.close(CloseReason::normal()).await?.clean);
    Ok(())
}

/// What is read ahead is bounded by the capacity and the socket's buffers, and all of it is received.
async fn the_peer_waits_for_an_application_that_does_not_receive(cx: Context) -> Verdict {
    let sent = Arc::new(AtomicUsize::new(0));
    let progress = Arc::clone(&sent);
    let peer = cx.peer(Polite, move |conn| {
        for i in 0..FAR_TOO_MUCH / MESSAGE {
            conn.send(&WireFrame::binary(numbered(i)))?;
            progress.store(i + 1, Ordering::SeqCst);
        }
        Ok(())
    });
    let client = cx.client_with(WebSockets::new().incoming_capacity(4 * MESSAGE))?;
    let mut session = client.web_socket(peer.url()).connect().await?;
    // The session task begins to read for an application that stays away only after a while.
    cx.sleep(Duration::from_secs(1)).await;
    let mut before = usize::MAX;
    while std::mem::replace(&mut before, sent.load(Ordering::SeqCst)) != before {
        cx.sleep(STALLED).await;
    }
    assert!(before * MESSAGE < FAR_TOO_MUCH / 2, "{before} messages were read ahead");
    for i in 0..FAR_TOO_MUCH / MESSAGE {
        let frame = crate::expect::message(&mut session).await?;
        assert!(frame.into_bytes() == numbered(i), "message {i} is another one");
    }
    Ok(())
}

pub(super) const MESSAGES: usize = 1000;

/// A session with the echo server over a stream that counts its writes.
pub(super) async fn counted(cx: &Context) -> Verdict<(Arc<Server>, Session, Writes)> {
    let server = cx.echo();
    let stream = CountedStream::connect(server.addr())?;
    let writes = stream.writes();
    let engine = cx.engine_over(stream);
    let engine = engine.ok_or_else(|| Failure::new("it offers what over lacks"))?;
    let session = client_for(engine).web_socket(server.ws_url("/echo")).connect().await?;
    assert_eq!(server.connections(), 1, "it has dialled, too");
    Ok((server, session, writes))
}

/// How many writes a thousand small messages take.
pub(super) async fn writes_of_many_messages(session: &Session, writes: &Writes) -> Verdict<usize> {
    let before = writes.count();
    for i in 0..MESSAGES {
        session.send(i.to_string()).await?;
    }
    session.flush().await?;
    Ok(writes.count() - before)
}

/// Sends numbered messages until there is no room; how many were accepted.
pub(super) async fn until_send_waits(cx: &Context, session: &Session) -> Verdict<usize> {
    let mut accepted = 0;
    loop {
        let mut sending = pin!(session.send(numbered(accepted)));
        match cx.within(STALLED, "a send", &mut sending).await {
            Ok(sent) => sent?,
            Err(_) => return Ok(accepted),
        }
        accepted += 1;
        if accepted * MESSAGE > FAR_TOO_MUCH {
            return Err(Failure::new(
                "the session accepts unlimited messages for a peer that does not read",
            ));
        }
    }
}

/// A session with a peer that, once released, reads up to a text and says how many numbered messages
/// came before it.
async fn muted_sink(cx: &Context) -> Verdict<(Arc<Server>, Session)> {
    let server = cx.server(|conn: &mut Conn| {
        conn.accept_web_socket()?;
        conn.hold()?;
        let mut count = 0;
        while let Some(crate::peer::Message::Binary(payload)) = conn.receive_message()? {
            if payload != numbered(count) {
                return conn.send_text(&format!("message {count} is another one"));
            }
            count += 1;
        }
        conn.send_text(&format!("{count} in order"))?;
        conn.drain()
    });
    let session = cx.client().web_socket(server.ws_url("/")).connect().await?;
    Ok((server, session))
}

/// A message that is unlike the one before it.
fn numbered(number: usize) -> Vec<u8> {
    let mut message = vec![number as u8; MESSAGE];
    message[..8].copy_from_slice(&(number as u64).to_be_bytes());
    message
}
