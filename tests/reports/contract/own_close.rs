//! A library that sends control frames by itself: the session sends none beside them, and sees to it that they go out.

use std::{
    pin::pin,
    task::{Context, Poll},
};

use drivetrain::{
    CloseCode, CloseReason, ErrorKind, OpCode, RawFrame, Result, Session, WebSockets,
    engine::{Duties, Transport},
    testing::{PipePeer, TestRuntime, pipe},
};

use super::engines::wrapped;

/// A pipe whose end sends this Close before it tells of a violation. A library that has room for it whatever waits.
struct Polite {
    inner: Box<dyn Transport>,
    close: CloseReason,
    has_closed: bool,
    /// Nothing of the session's is taken.
    stalls: bool,
}

impl Transport for Polite {
    fn poll_receive(
        &mut self,
        cx: &mut Context<'_>,
        max_payload: usize,
    ) -> Poll<Result<Option<RawFrame>>> {
        let received = self.inner.poll_receive(cx, max_payload);
        if let Poll::Ready(Err(error)) = &received {
            if error.close_code().is_some() && !self.has_closed {
                self.has_closed = true;
                self.stalls = false;
                self.inner.start_send(RawFrame::new(OpCode::Close, self.close.to_payload()))?;
            }
        }
        received
    }

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<()>> {
        if self.stalls { Poll::Pending } else { self.inner.poll_ready(cx) }
    }

    fn start_send(&mut self, frame: RawFrame) -> Result<()> {
        self.has_closed |= frame.opcode == OpCode::Close;
        self.inner.start_send(frame)
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<()>> {
        self.inner.poll_flush(cx)
    }

    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<Result<()>> {
        self.inner.poll_close(cx)
    }
}

fn open(stalls: bool) -> (TestRuntime, Session, PipePeer) {
    let (connection, peer) = pipe();
    let close = CloseReason::new(CloseCode::PROTOCOL_ERROR, "the library's").expect("a reason");
    let polite = |inner| Polite { inner, close, has_closed: false, stalls };
    let connection = wrapped(connection, polite).with_duties(Duties::frames().sending_close());
    let runtime = TestRuntime::new();
    let session = runtime.session(connection, WebSockets::new());
    (runtime, session, peer)
}

/// A frame with an opcode that is none, and the end.
fn violates(peer: &mut PipePeer) {
    peer.send_bytes(vec![0x83, 0]);
    peer.end();
}

/// The error is the library's and stays, and the only Close is its own, the last frame.
fn ends_with_one_close(runtime: &TestRuntime, session: &mut Session, peer: &mut PipePeer) {
    for _ in 0..3 {
        let error = runtime.block_on(session.receive()).expect_err("it is refused");
        assert_eq!(error.kind(), ErrorKind::Protocol, "{error:?}");
    }
    runtime.settle();
    let sent: Vec<_> = std::iter::from_fn(|| peer.receive()).collect();
    let closes = sent.iter().filter(|frame| frame.opcode == OpCode::Close).count();
    let last = sent.last().expect("a Close");
    assert_eq!((closes, last.opcode), (1, OpCode::Close), "{sent:?}");
    assert!(last.payload.ends_with(b"the library's"), "{:?}", last.payload);
    let outcome = session.outcome();
    assert!(!outcome.clean, "{outcome:?}");
    assert_eq!(outcome.error.as_ref().map(|error| error.kind()), Some(ErrorKind::Protocol));
    let code = outcome.sent.as_ref().map(CloseReason::code);
    assert_eq!(code, Some(CloseCode::PROTOCOL_ERROR), "{outcome:?}");
}

#[test]
fn the_session_sends_no_close_beside_the_librarys() {
    let (runtime, mut session, mut peer) = open(false);
    runtime.block_on(session.send("before")).expect("it is sent");
    violates(&mut peer);
    ends_with_one_close(&runtime, &mut session, &mut peer);
    let error = runtime.block_on(session.send("late")).expect_err("it is over");
    assert_eq!(error.kind(), ErrorKind::Protocol, "{error:?}");
}

/// What waits is not sent behind it.
#[test]
fn nothing_is_sent_behind_the_librarys_close() {
    let (runtime, mut session, mut peer) = open(true);
    let outgoing = session.outgoing();
    let mut sending = pin!(async {
        for _ in 0..1000 {
            outgoing.send(vec![7; 1000]).await?;
        }
        Result::<()>::Ok(())
    });
    assert!(runtime.poll_now(sending.as_mut()).is_none(), "it waits");
    violates(&mut peer);
    ends_with_one_close(&runtime, &mut session, &mut peer);
    runtime.poll_now(sending).expect("it is over").expect_err("nothing is sent");
}

/// The session's Close waits when the library sends its own.
#[test]
fn a_close_that_waits_is_not_sent_behind_the_librarys() {
    let (runtime, mut session, mut peer) = open(true);
    let outgoing = session.outgoing();
    let mut closing = pin!(outgoing.close(CloseReason::normal()));
    assert!(runtime.poll_now(closing.as_mut()).is_none(), "it waits");
    violates(&mut peer);
    ends_with_one_close(&runtime, &mut session, &mut peer);
}

/// Text that is not UTF-8 is found by the session, which tells the peer then.
#[test]
fn what_the_session_finds_it_tells_the_peer() {
    let (runtime, mut session, mut peer) = open(false);
    peer.send(RawFrame::new(OpCode::Text, &b"\xff"[..]));
    {
        let mut receive = pin!(session.receive());
        assert!(runtime.poll_now(receive.as_mut()).is_none(), "it waits for the peer's Close");
    }
    let sent: Vec<_> = std::iter::from_fn(|| peer.receive()).collect();
    let code = sent.first().and_then(|close| close.payload.first_chunk().copied());
    assert_eq!((sent.len(), code.map(u16::from_be_bytes)), (1, Some(1007)), "{sent:?}");
    peer.end();
    assert!(runtime.block_on(session.receive()).is_err());
}

/// A session on a library with duties.
#[cfg(feature = "rustls")]
fn dutiful(duties: Duties) -> (TestRuntime, Session, PipePeer) {
    let (connection, peer) = pipe();
    let altered = crate::altered::Altered::lacking("dutiful", &[]).doing(duties);
    let connection = altered.connection(connection).expect("a connection");
    let runtime = TestRuntime::new();
    let session = runtime.session(connection, WebSockets::new());
    (runtime, session, peer)
}

#[test]
#[cfg(feature = "rustls")]
fn the_librarys_pong_is_flushed() {
    let (runtime, mut session, mut peer) = dutiful(Duties::frames().answering_ping());
    peer.send(RawFrame::new(OpCode::Ping, "there?"));
    let mut receive = pin!(session.receive());
    assert!(runtime.poll_now(receive.as_mut()).is_none(), "no message came");
    let pong = peer.receive().expect("a Pong");
    assert_eq!((pong.opcode, &pong.payload[..]), (OpCode::Pong, &b"there?"[..]));
    assert!(peer.receive().is_none(), "one answer");
}

/// The session's Pong comes too late for it.
#[test]
#[cfg(feature = "rustls")]
fn nothing_is_sent_behind_the_librarys_echo() {
    let (runtime, mut session, mut peer) = dutiful(Duties::frames().echoing_close());
    peer.send(RawFrame::new(OpCode::Ping, "there?"));
    peer.send(RawFrame::new(OpCode::Close, CloseReason::normal().to_payload()));
    assert_eq!(runtime.block_on(session.receive()).expect("it ended well"), None);
    peer.end();
    runtime.settle();
    let sent: Vec<_> = std::iter::from_fn(|| peer.receive()).collect();
    let last = sent.last().map(|frame| frame.opcode);
    assert_eq!(last, Some(OpCode::Close), "{sent:?}");
    let outcome = session.outcome();
    assert!(outcome.clean && outcome.error.is_none(), "{outcome:?}");
}
