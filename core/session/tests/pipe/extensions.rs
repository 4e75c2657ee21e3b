//! Extensions of sessions over an in-memory connection: frames in, frames out, and what becomes of them.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    time::Duration,
};

use drivetrain_engine::{
    Bytes, CloseCode, CloseReason, Duties, Error, ErrorKind, Extension, Frame, MessagePart,
    NegotiatedExtension, OpCode, RawFrame, Result, Role, Rsv, Transform,
};
use drivetrain_session::{MessageKind, Outgoing, PermessageDeflate, Session, WebSockets};

use crate::support::{Peer, TestRuntime, direct_pipe};

fn agreed() -> Vec<NegotiatedExtension> {
    vec![NegotiatedExtension::new("permessage-deflate", [])]
}

fn open(plugin: WebSockets) -> (Arc<TestRuntime>, Session, Peer) {
    let runtime = TestRuntime::new();
    let (connection, peer) = direct_pipe(&runtime);
    let session = runtime.session(connection.with_extensions(agreed()), plugin);
    (runtime, session, peer)
}

fn deflating() -> WebSockets {
    WebSockets::new().extension(PermessageDeflate::new().min_size(0))
}

/// The other end of the compression.
struct Other(Box<dyn Transform>);

impl Other {
    fn new() -> Self {
        let extension = PermessageDeflate::new().min_size(0);
        Self(extension.accept(&agreed()[0], Role::Server).unwrap())
    }

    fn compressed(&mut self, opcode: OpCode, message: &[u8]) -> RawFrame {
        let mut part = MessagePart::new(opcode, Bytes::copy_from_slice(message));
        self.0.outgoing(&mut part).unwrap();
        RawFrame { rsv: part.rsv, ..RawFrame::new(opcode, part.payload) }
    }

    /// The message that these frames are.
    fn read(&mut self, frames: &[RawFrame]) -> Vec<u8> {
        let mut message = Vec::new();
        for (i, frame) in frames.iter().enumerate() {
            assert_eq!((frame.rsv == Rsv::RSV1, frame.fin), (i == 0, i + 1 == frames.len()));
            let mut part = MessagePart {
                first: i == 0,
                fin: frame.fin,
                ..MessagePart::new(OpCode::Binary, frame.payload.clone())
            };
            while !part.payload.is_empty() {
                message.extend_from_slice(&self.0.incoming(&mut part, usize::MAX).unwrap());
                part.first = false;
            }
        }
        message
    }
}

/// What cannot be compressed.
fn noise(size: usize) -> Vec<u8> {
    let mut seed = 1_u32;
    let mut next = || {
        seed ^= seed << 13;
        seed ^= seed >> 17;
        seed ^= seed << 5;
        (seed >> 8) as u8
    };
    (0..size).map(|_| next()).collect()
}

fn written(peer: &mut Peer) -> Vec<RawFrame> {
    std::iter::from_fn(|| peer.receive()).collect()
}

fn close_code(peer: &mut Peer) -> Option<u16> {
    let close = written(peer).into_iter().find(|frame| frame.opcode == OpCode::Close)?;
    close.payload.first_chunk().map(|code| u16::from_be_bytes(*code))
}

#[test]
fn what_comes_compressed_is_received_whatever_is_between() {
    let (runtime, mut session, mut peer) = open(deflating());
    let mut other = Other::new();
    for round in 0..3 {
        let text = format!("a text that repeats itself, repeats itself, {round}");
        let frame = other.compressed(OpCode::Text, text.as_bytes());
        let third = frame.payload.len() / 3;
        let mut rest = frame.payload.clone();
        let first = RawFrame { payload: rest.split_to(third), fin: false, ..frame };
        peer.send(first);
        peer.send(RawFrame::new(OpCode::Ping, "between"));
        peer.send(RawFrame::new(OpCode::Continuation, rest.split_to(third)).not_final());
        peer.send(RawFrame::new(OpCode::Continuation, "").not_final());
        peer.send(RawFrame::new(OpCode::Continuation, rest));
        peer.send(RawFrame::new(OpCode::Binary, "as it is"));
        let received = runtime.block_on(session.receive()).unwrap();
        assert_eq!(received, Some(Frame::from(text)));
        let received = runtime.block_on(session.receive()).unwrap();
        assert_eq!(received, Some(Frame::Binary("as it is".into())));
        runtime.block_on(session.flush()).unwrap();
        assert_eq!(written(&mut peer), [RawFrame::new(OpCode::Pong, "between")]);
    }
    let received = session.stats().received;
    assert_eq!((received.messages, received.frames, received.pings), (6, 18, 3));
}

/// Nothing is inflated of it: it would be held as a whole before that.
#[test]
fn a_frame_that_no_message_within_the_limit_needs_is_refused() {
    let empty_blocks = |size: usize| {
        let payload: Vec<_> =
            [0x00, 0x00, 0x00, 0xff, 0xff].into_iter().cycle().take(size).collect();
        RawFrame { rsv: Rsv::RSV1, ..RawFrame::new(OpCode::Binary, payload) }
    };
    let limit = 1000;
    let largest = 2 * limit + (64 << 10);
    for (size, is_fine) in [(largest, true), (largest + 5, false)] {
        let (runtime, mut session, mut peer) = open(deflating().max_message_size(limit));
        assert_eq!(size % 5, 1, "blocks, and the first byte of another");
        peer.send(empty_blocks(size));
        if is_fine {
            let received = runtime.block_on(session.receive()).unwrap();
            assert_eq!(received, Some(Frame::Binary("".into())));
            continue;
        }
        assert!(runtime.poll_now(std::pin::pin!(session.receive())).is_none());
        assert_eq!(close_code(&mut peer), Some(1009));
    }
}

#[test]
fn what_is_sent_goes_out_compressed_and_in_fragments_of_what_it_came_to() {
    let (runtime, session, mut peer) = open(deflating());
    let mut other = Other::new();
    let noise = noise(200_000);
    for (message, most_frames) in
        [(b"short".to_vec(), 1), (vec![0; 1 << 20], 1), (noise, 5), (Vec::new(), 1)]
    {
        runtime.block_on(session.send(message.clone())).unwrap();
        runtime.block_on(session.flush()).unwrap();
        let frames = written(&mut peer);
        assert!(frames.len() <= most_frames, "{frames:?}");
        assert!(frames.iter().all(|frame| frame.payload.len() <= 64 << 10), "{frames:?}");
        assert!(other.read(&frames) == message, "{} bytes", message.len());
    }
    assert_eq!(session.stats().sent.messages, 4);
}

#[test]
fn a_burst_is_in_order_with_control_frames_and_the_close_behind_it() {
    let (runtime, session, mut peer) = open(deflating());
    let mut other = Other::new();
    runtime.block_on(async {
        for i in 0..100 {
            session.feed(format!("message {i}")).await.unwrap();
        }
        session.feed(Frame::Ping("ping".into())).await.unwrap();
        session.feed(vec![7; 300_000]).await.unwrap();
    });
    let mut closed = Box::pin(session.close(CloseReason::normal()));
    assert!(runtime.poll_now(closed.as_mut()).is_none());
    let frames = written(&mut peer);
    let (control, data): (Vec<_>, Vec<_>) =
        frames.into_iter().partition(|frame| frame.opcode.is_control());
    let opcodes: Vec<_> = control.iter().map(|frame| frame.opcode).collect();
    assert_eq!(opcodes, [OpCode::Ping, OpCode::Close]);
    for (i, frame) in data.iter().take(100).enumerate() {
        assert_eq!(other.read(std::slice::from_ref(frame)), format!("message {i}").as_bytes());
    }
    assert_eq!(other.read(&data[100..]), vec![7; 300_000]);
}

#[test]
fn a_peer_that_takes_nothing_gets_all_of_it_later() {
    let (runtime, session, mut peer) = open(deflating().outgoing_capacity(1 << 20));
    let mut other = Other::new();
    peer.set_stalled(true);
    let noise = noise(300_000);
    runtime.block_on(session.send(noise.clone())).unwrap();
    runtime.block_on(session.send("after")).unwrap();
    let mut flushed = Box::pin(session.flush());
    assert!(runtime.poll_now(flushed.as_mut()).is_none(), "nothing can be written");
    peer.set_stalled(false);
    runtime.block_on(flushed).unwrap();
    let frames = written(&mut peer);
    let (last, long) = frames.split_last().unwrap();
    assert!(other.read(long) == noise);
    assert_eq!(other.read(std::slice::from_ref(last)), b"after");
}

#[test]
fn violations_have_their_codes() {
    let hello: &[u8] = &[0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00];
    let frame = |opcode, rsv, payload: &[u8]| RawFrame {
        rsv,
        ..RawFrame::new(opcode, Bytes::copy_from_slice(payload))
    };
    let protocol = CloseCode::PROTOCOL_ERROR;
    let payload = CloseCode::INVALID_PAYLOAD;
    let not_utf8 = Other::new().compressed(OpCode::Text, b"\xff\xff").payload;
    let cases: &[(&str, &[RawFrame], CloseCode)] = &[
        ("RSV2", &[frame(OpCode::Text, Rsv::RSV2, hello)], protocol),
        ("RSV1 and RSV3", &[frame(OpCode::Text, Rsv::RSV1 | Rsv::RSV3, hello)], protocol),
        ("on a ping", &[frame(OpCode::Ping, Rsv::RSV1, hello)], protocol),
        (
            "on a continuation",
            &[
                frame(OpCode::Text, Rsv::RSV1, hello).not_final(),
                frame(OpCode::Continuation, Rsv::RSV1, hello),
            ],
            protocol,
        ),
        (
            "a new message within one",
            &[
                frame(OpCode::Text, Rsv::RSV1, hello).not_final(),
                frame(OpCode::Text, Rsv::RSV1, hello),
            ],
            protocol,
        ),
        ("a continuation of nothing", &[frame(OpCode::Continuation, Rsv::NONE, hello)], protocol),
        ("garbage", &[frame(OpCode::Binary, Rsv::RSV1, b"\xff\xff\xff")], payload),
        ("text that is none", &[frame(OpCode::Text, Rsv::RSV1, &not_utf8)], payload),
    ];
    for (what, frames, code) in cases {
        let (runtime, mut session, mut peer) = open(deflating());
        for frame in *frames {
            peer.send(frame.clone());
        }
        // What comes behind is thrown away, and not judged.
        peer.send(frame(OpCode::Binary, Rsv::RSV1, b"\xff\xff\xff"));
        peer.send(RawFrame::new(OpCode::Close, &b"\x03\xe8"[..]));
        let error = runtime.block_on(session.receive()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Protocol, "{what}: {error}");
        assert_eq!(close_code(&mut peer), Some((*code).into()), "{what}");
        let received = session.outcome().received.map(|reason| reason.code());
        assert_eq!(received, Some(CloseCode::NORMAL), "{what}: its Close was waited for");
    }
}

#[test]
fn the_limit_is_one_for_what_a_message_comes_to() {
    let mut other = Other::new();
    for (size, is_fine) in [(10_000, true), (10_001, false), (50 << 20, false)] {
        let (runtime, mut session, mut peer) = open(deflating().max_message_size(10_000));
        peer.send(Other::new().compressed(OpCode::Binary, &vec![0; size]));
        peer.send(RawFrame::new(OpCode::Close, &b"\x03\xe8"[..]));
        let received = runtime.block_on(session.receive());
        if is_fine {
            assert_eq!(received.unwrap().unwrap().read_bytes().len(), size);
            continue;
        }
        assert_eq!(received.unwrap_err().kind(), ErrorKind::TooBig, "{size}");
        assert_eq!(close_code(&mut peer), Some(1009), "{size}");
    }
    // A frame may be longer than its message, which a limit for messages does not refuse.
    let (runtime, mut session, mut peer) = open(deflating().max_message_size(1000));
    let noise = noise(1000);
    let frame = other.compressed(OpCode::Binary, &noise);
    assert!(frame.payload.len() > 1000);
    peer.send(frame);
    assert_eq!(runtime.block_on(session.receive()).unwrap(), Some(Frame::from(noise)));
    // A limit for frames is one for what is on the wire.
    let (runtime, mut session, mut peer) = open(deflating().max_frame_size(100));
    peer.send(Other::new().compressed(OpCode::Binary, &[0; 5000]));
    let received = runtime.block_on(session.receive()).unwrap();
    assert_eq!(received, Some(Frame::from(vec![0; 5000])));
}

#[test]
fn an_engine_that_applies_extensions_is_left_alone() {
    let runtime = TestRuntime::new();
    let (connection, mut peer) = direct_pipe(&runtime);
    let duties = Duties::frames().applying_extensions();
    let connection = connection.with_extensions(agreed()).with_duties(duties);
    let mut session = runtime.session(connection, deflating());
    assert_eq!(session.extensions(), agreed());
    runtime.block_on(session.send("as it is")).unwrap();
    assert_eq!(written(&mut peer), [RawFrame::new(OpCode::Text, "as it is")]);
    peer.send(RawFrame::new(OpCode::Text, "as it is"));
    assert_eq!(runtime.block_on(session.receive()).unwrap(), Some(Frame::from("as it is")));
}

/// Fails when it is told to.
#[derive(Debug, Default)]
struct Failing(Arc<AtomicUsize>);

impl Extension for Failing {
    fn name(&self) -> &str {
        "x-failing"
    }

    fn accept(&self, _agreed: &NegotiatedExtension, _role: Role) -> Result<Box<dyn Transform>> {
        Ok(Box::new(Self(Arc::clone(&self.0))))
    }
}

impl Transform for Failing {
    fn incoming(&mut self, part: &mut MessagePart, _room: usize) -> Result<Bytes> {
        self.0.fetch_add(1, Ordering::Relaxed);
        match part.payload.as_ref() {
            b"fail" => Err(Error::other("as told")),
            _ => Ok(std::mem::take(&mut part.payload)),
        }
    }

    fn outgoing(&mut self, part: &mut MessagePart) -> Result<()> {
        self.incoming(&mut part.clone(), 0).map(drop)
    }
}

#[test]
fn a_transform_that_fails_ends_the_session_and_is_asked_no_more() {
    for outgoing in [true, false] {
        let runtime = TestRuntime::new();
        let (connection, mut peer) = direct_pipe(&runtime);
        let agreed = vec![NegotiatedExtension::new("x-failing", [])];
        let calls = Arc::new(AtomicUsize::new(0));
        let plugin = WebSockets::new().extension(Failing(Arc::clone(&calls)));
        let mut session = runtime.session(connection.with_extensions(agreed), plugin);
        if outgoing {
            runtime.block_on(session.send("fine")).unwrap();
            runtime.block_on(session.send("fail")).unwrap(); // accepted, and then it fails
            runtime.block_on(session.send("more")).unwrap_err();
        } else {
            peer.send(RawFrame::new(OpCode::Text, "fine"));
            assert!(runtime.block_on(session.receive()).unwrap().is_some());
            peer.send(RawFrame::new(OpCode::Text, "fail"));
            peer.send(RawFrame::new(OpCode::Text, "more"));
        }
        peer.send(RawFrame::new(OpCode::Close, &b"\x03\xe8"[..]));
        let error = runtime.block_on(session.receive()).unwrap_err();
        assert_eq!((error.kind(), error.to_string().as_str()), (ErrorKind::Other, "as told"));
        assert_eq!(close_code(&mut peer), Some(1011));
        assert_eq!(calls.load(Ordering::Relaxed), 2);
    }
}

/// A streamed message that is dropped lets go out what was accepted; the transform may fail with that.
#[test]
fn a_transform_that_fails_behind_another_failure_is_asked_no_more() {
    let runtime = TestRuntime::new();
    let (connection, mut peer) = direct_pipe(&runtime);
    let agreed = vec![NegotiatedExtension::new("x-failing", [])];
    let calls = Arc::new(AtomicUsize::new(0));
    let plugin = WebSockets::new().extension(Failing(Arc::clone(&calls)));
    let session = runtime.session(connection.with_extensions(agreed), plugin);
    peer.set_stalled(true);
    runtime.block_on(session.send(vec![0; 40_000])).unwrap(); // all that goes out for now
    for text in ["fail", "more"] {
        runtime.block_on(session.send(text)).unwrap();
    }
    let mut writer = runtime.block_on(session.send_stream(MessageKind::Text)).unwrap();
    runtime.block_on(writer.write_chunk("never ended")).unwrap();
    assert!(
        runtime.poll_now(std::pin::pin!(futures_util::AsyncWriteExt::flush(&mut writer))).is_none()
    );
    drop(writer);
    peer.set_stalled(false);
    runtime.settle();
    assert_eq!(calls.load(Ordering::Relaxed), 2, "the one that fails is the last");
    assert_eq!(close_code(&mut peer), Some(1011));
    let error = session.outcome().error.unwrap();
    assert!(error.to_string().contains("dropped before its end"), "{error}");
}

/// Tells, when it is dropped, whether another thread could use the session then.
#[derive(Clone, Debug, Default)]
struct Farewell(Arc<Mutex<Option<Outgoing>>>, Arc<Mutex<Option<bool>>>);

impl Extension for Farewell {
    fn name(&self) -> &str {
        "x-farewell"
    }

    fn accept(&self, _agreed: &NegotiatedExtension, _role: Role) -> Result<Box<dyn Transform>> {
        Ok(Box::new(LastWords(self.clone())))
    }
}

#[derive(Debug)]
struct LastWords(Farewell);

impl Transform for LastWords {
    fn incoming(&mut self, part: &mut MessagePart, _room: usize) -> Result<Bytes> {
        Ok(std::mem::take(&mut part.payload))
    }

    fn outgoing(&mut self, _part: &mut MessagePart) -> Result<()> {
        Ok(())
    }
}

impl Drop for LastWords {
    fn drop(&mut self) {
        let Farewell(outgoing, was_free) = &self.0;
        let outgoing = outgoing.lock().unwrap().clone();
        let (done, is_done) = mpsc::channel();
        std::thread::spawn(move || done.send(outgoing.map(|outgoing| outgoing.stats())));
        *was_free.lock().unwrap() = Some(is_done.recv_timeout(Duration::from_secs(60)).is_ok());
    }
}

/// It is the user's code.
#[test]
fn a_transform_is_dropped_when_the_lock_is_free() {
    let runtime = TestRuntime::new();
    let (connection, mut peer) = direct_pipe(&runtime);
    let agreed = vec![NegotiatedExtension::new("x-farewell", [])];
    let farewell = Farewell::default();
    let plugin = WebSockets::new().extension(farewell.clone());
    let mut session = runtime.session(connection.with_extensions(agreed), plugin);
    *farewell.0.lock().unwrap() = Some(session.outgoing());
    peer.send(RawFrame::new(OpCode::Close, &b"\x03\xe8"[..]));
    assert_eq!(runtime.block_on(session.receive()).unwrap(), None);
    assert_eq!(*farewell.1.lock().unwrap(), Some(true));
}
