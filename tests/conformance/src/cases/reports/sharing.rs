//! Tasks that share a session, and the memory it holds.

use std::{
    pin::pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context as Task, Wake, Waker},
    time::{Duration, Instant},
};

use drivetrain::{
    Capability, MessageKind, WebSockets,
    extension::{MessagePart, PermessageDeflate},
};
use futures_util::{
    AsyncWriteExt as _, FutureExt as _,
    future::{self, Future as _},
};

use super::super::extensions::{NAME, accept};
use crate::{
    case::{Case, case},
    context::{Context, PATIENCE},
    expect::{fails, text},
    failure::{Failure, Verdict},
    peer::{DeflatePeer, WireFrame, opcode},
    script::PeerBehaviour::Polite,
};

const MIB: usize = 1 << 20;

pub(super) fn cases() -> Vec<Case> {
    let extension = [Capability::WebSockets, Capability::Extensions];
    vec![
        case(each_of_many_senders_has_its_turn).needs(&[Capability::WebSockets]),
        case(tasks_that_waited_are_forgotten).needs(&[Capability::WebSockets]),
        case(a_waker_may_use_the_session).needs(&[Capability::WebSockets]),
        case(a_panic_in_a_predicate_closes_the_socket).needs(&extension),
        case(dropping_a_session_compresses_no_backlog).needs(&extension),
        case(a_flush_brings_what_was_written_of_a_message)
            .needs(&extension)
            .needs(&[Capability::SendFragments]),
    ]
}

/// With a peer that reads slowly, and no sender that gives way to another.
async fn each_of_many_senders_has_its_turn(cx: Context) -> Verdict {
    const SENDERS: usize = 100;
    let server = cx.server(|conn| {
        conn.accept_web_socket()?;
        let mut turns = [0_u32; SENDERS];
        // While each sends again and again, none is left behind.
        while turns.contains(&0) && turns.iter().sum::<u32>() < 100 * SENDERS as u32 {
            let Some(frame) = conn.receive()? else { return Ok(()) };
            let sender = frame.payload.first().map_or(0, |&sender| usize::from(sender));
            if let Some(turn) = turns.get_mut(sender) {
                *turn += 1;
            }
        }
        let starved = turns.iter().filter(|&&turns| turns == 0).count();
        conn.send_text(&format!("{starved} starved"))?;
        conn.drain()
    });
    let client = cx.client_with(WebSockets::new().outgoing_capacity(100_000))?;
    let mut session = client.web_socket(server.ws_url("/")).connect().await?;
    let senders = (0..SENDERS).map(|sender| {
        let outgoing = session.outgoing();
        async move { while outgoing.send(vec![sender as u8; 50_000]).await.is_ok() {} }.boxed()
    });
    let mut senders: Vec<_> = senders.collect();
    senders.push(
        async {
            let said = text(&mut session).await;
            assert!(matches!(said.as_deref(), Ok("0 starved")), "{said:?}");
        }
        .boxed(),
    );
    let (_, ended, _) = cx.within(PATIENCE, "the peer counts", future::select_all(senders)).await?;
    assert_eq!(ended, SENDERS.min(ended), "one of them has ended");
    Ok(())
}

#[derive(Default)]
struct Counts(AtomicUsize);

impl Wake for Counts {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

/// A future that is dropped leaves nothing behind.
async fn tasks_that_waited_are_forgotten(cx: Context) -> Verdict {
    let peer = cx.peer(Polite, |_| Ok(()));
    let session = peer.connect().await?;
    let counts = Arc::new(Counts::default());
    for _ in 0..100 {
        let waker = Waker::from(Arc::clone(&counts));
        let mut closed = pin!(session.closed());
        assert!(closed.as_mut().poll(&mut Task::from_waker(&waker)).is_pending());
        let mut ping = pin!(session.ping());
        let _ = ping.as_mut().poll(&mut Task::from_waker(&waker));
    }
    assert_eq!(Arc::strong_count(&counts), 1, "wakers that are still held");
    Ok(())
}

/// A waker is the user's code: it runs when nothing of the session is locked.
async fn a_waker_may_use_the_session(cx: Context) -> Verdict {
    struct Uses(Mutex<Option<drivetrain::Outgoing>>, AtomicUsize);
    impl Wake for Uses {
        fn wake(self: Arc<Self>) {
            let outgoing = self.0.lock().ok().and_then(|outgoing| outgoing.clone());
            outgoing.map(|outgoing| outgoing.stats());
            self.1.fetch_add(1, Ordering::SeqCst);
        }
    }
    let peer = cx.peer(Polite, |conn| {
        for _ in 0..2000 {
            conn.feed(&WireFrame::text("x"));
        }
        conn.flush()
    });
    let mut session = peer.connect().await?;
    let uses = Arc::new(Uses(Mutex::new(Some(session.outgoing())), AtomicUsize::new(0)));
    let waker = Waker::from(Arc::clone(&uses));
    let mut received = 0;
    while received < 2000 {
        let polled = {
            let mut receive = pin!(session.receive());
            receive.as_mut().poll(&mut Task::from_waker(&waker))
        };
        match polled {
            std::task::Poll::Ready(frame) => received += usize::from(frame?.is_some()),
            std::task::Poll::Pending => cx.sleep(Duration::from_millis(1)).await,
        }
    }
    assert!(uses.1.load(Ordering::SeqCst) > 0, "it was woken");
    // The session keeps the waker, and the waker the session.
    drop(uses.0.lock().map(|mut outgoing| outgoing.take()));
    Ok(())
}

/// No task waits forever.
async fn a_panic_in_a_predicate_closes_the_socket(cx: Context) -> Verdict {
    let server = cx.server(|conn| {
        accept(conn, NAME)?;
        conn.drain()
    });
    let panicking =
        PermessageDeflate::new().min_size(0).only_if(|_: &MessagePart| panic!("as it shall"));
    let client = cx.client_with(WebSockets::new().extension(panicking))?;
    let mut session = client.web_socket(server.ws_url("/")).connect().await?;
    let outgoing = session.outgoing();
    let other = cx.spawn(async move { outgoing.closed().await });
    let sending = std::panic::AssertUnwindSafe(session.send("x")).catch_unwind().await;
    assert!(sending.is_err(), "the panic propagates");
    let outcome = cx.within(PATIENCE, "a waiting task is notified", other).await??;
    assert!(outcome.error.is_some_and(|error| error.to_string().contains("panic")));
    fails(session.receive().await, drivetrain::ErrorKind::Io)?;
    cx.until("the socket is closed", || server.open() == 0).await
}

/// It takes a small part of the time that compressing all takes. It is enough if it does so once: a machine may stand still.
async fn dropping_a_session_compresses_no_backlog(cx: Context) -> Verdict {
    const TRIES: usize = 5;
    for _ in 1..TRIES {
        if a_backlog_is_dropped(&cx).await.is_ok() {
            return Ok(());
        }
    }
    a_backlog_is_dropped(&cx).await
}

async fn a_backlog_is_dropped(cx: &Context) -> Verdict {
    const MESSAGES: usize = 4;
    let message = drivetrain::Bytes::from(super::super::extensions::noise(MIB));
    let mut took = [Duration::ZERO; 2];
    for (drops, took) in took.iter_mut().enumerate() {
        let server = cx.server(|conn| {
            accept(conn, NAME)?;
            conn.drain()
        });
        let plugin = WebSockets::new()
            .outgoing_capacity((MESSAGES + 1) * MIB)
            .extension(PermessageDeflate::new());
        let session = cx.client_with(plugin)?.web_socket(server.ws_url("/")).connect().await?;
        let start = Instant::now();
        for _ in 0..MESSAGES {
            session.feed(message.clone()).await?;
        }
        if drops == 0 {
            session.flush().await?;
            *took = start.elapsed();
            continue;
        }
        let start = Instant::now();
        drop(session);
        *took = start.elapsed();
    }
    let [flushed, dropped] = took;
    match dropped < flushed / 3 {
        true => Ok(()),
        false => Err(Failure::new(format_args!("{dropped:?}, where writing it takes {flushed:?}"))),
    }
}

/// The peer sees the flushed part although the message continues.
async fn a_flush_brings_what_was_written_of_a_message(cx: Context) -> Verdict {
    let server = cx.server(|conn| {
        accept(conn, NAME)?;
        let mut deflate = DeflatePeer::new(true, true);
        let mut rsv = 0; // the first frame has the bit
        while let Some(frame) = conn.receive()? {
            if frame.opcode == opcode::CLOSE || frame.opcode > 7 {
                continue;
            }
            // The tail of a flush is what the helper puts behind a message itself.
            let tail: &[u8] = &[0, 0, 0xFF, 0xFF];
            let payload = frame.payload.strip_suffix(tail).unwrap_or(&frame.payload).to_vec();
            let chunk = deflate.inflate(&WireFrame { rsv: frame.rsv | rsv, payload, ..frame })?;
            rsv = 4;
            conn.send_text(&String::from_utf8_lossy(&chunk))?;
        }
        Ok(())
    });
    let client =
        cx.client_with(WebSockets::new().extension(PermessageDeflate::new().min_size(0)))?;
    let mut session = client.web_socket(server.ws_url("/")).connect().await?;
    let mut writer = session.send_stream(MessageKind::Text).await?;
    for part in ["one", "two", "three"] {
        writer.write_all(part.as_bytes()).await?;
        writer.flush().await?;
        let said = cx.within(PATIENCE, "the peer reads it", text(&mut session)).await??;
        assert_eq!(said, part);
    }
    writer.finish().await?;
    Ok(())
}
