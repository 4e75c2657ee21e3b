//! What was written to a streamed message before a flush can be read by the peer.

use drivetrain::{
    Bytes, MessageKind, NegotiatedExtension, OpCode, RawFrame, Result, Rsv, Session, WebSockets,
    extension::{Extension, MessagePart, PermessageDeflate, Role, Transform},
    testing::PipePeer,
};
use futures_util::AsyncWriteExt as _;

use super::open_with;

/// The peer's side of a compressed message, as far as it has come.
struct Reads {
    transform: Box<dyn Transform>,
    first: bool,
    frames: usize,
    has_ended: bool,
}

impl Reads {
    fn new(extension: impl Extension) -> Self {
        let agreed = NegotiatedExtension::new(extension.name(), []);
        let transform = extension.accept(&agreed, Role::Server).unwrap();
        Self { transform, first: true, frames: 0, has_ended: false }
    }

    fn read(&mut self, peer: &mut PipePeer) -> Vec<u8> {
        let mut text = Vec::new();
        while let Some(frame) = peer.receive() {
            text.extend(self.take(&frame));
        }
        text
    }

    fn take(&mut self, frame: &RawFrame) -> Vec<u8> {
        assert_eq!(frame.opcode == OpCode::Continuation, !self.first);
        assert!(self.first || frame.rsv == Rsv::NONE, "only the first frame has bits");
        self.frames += 1;
        self.has_ended |= frame.fin;
        let mut part = MessagePart {
            first: self.first,
            fin: frame.fin,
            ..MessagePart::new(OpCode::Binary, frame.payload.clone())
        };
        self.first = frame.fin;
        let mut all = Vec::new();
        loop {
            let chunk = self.transform.incoming(&mut part, 1 << 16).unwrap();
            all.extend_from_slice(&chunk);
            part.first = false;
            if part.payload.is_empty() && chunk.len() < 1 << 16 {
                return all;
            }
        }
    }
}

fn deflate() -> PermessageDeflate {
    PermessageDeflate::new().min_size(0)
}

#[test]
fn each_flush_brings_the_peer_all_that_was_written_before() {
    for takeover in [true, false] {
        let extension = if takeover { deflate() } else { deflate().client_no_context_takeover() };
        let plugin = WebSockets::new().extension(extension.clone());
        let (runtime, session, mut peer) = open_with(plugin, "permessage-deflate");
        for _ in 0..2 {
            let mut reads = Reads::new(deflate());
            if takeover && reads.first {
                // One end for both messages: the second refers to the first.
            }
            let mut writer = runtime.block_on(session.send_stream(MessageKind::Text)).unwrap();
            for text in ["event: one\n\n", "event: two\n\n", ""] {
                runtime.block_on(writer.write_all(text.as_bytes())).unwrap();
                runtime.block_on(writer.flush()).unwrap();
                assert_eq!(reads.read(&mut peer), text.as_bytes());
            }
            let frames = reads.frames;
            assert_eq!(frames, 2, "nothing new is nothing");
            runtime.block_on(writer.write_chunk("the end")).unwrap();
            runtime.block_on(writer.finish()).unwrap();
            runtime.block_on(session.flush()).unwrap();
            assert_eq!(reads.read(&mut peer), b"the end");
            assert!(reads.has_ended);
            if takeover {
                break;
            }
        }
    }
}

/// A long part that was given away before, and nothing since.
#[test]
fn a_flush_brings_what_was_kept_back_of_earlier_fragments() {
    let (runtime, session, mut peer) =
        open_with(WebSockets::new().extension(deflate()), "permessage-deflate");
    let mut reads = Reads::new(deflate());
    let mut writer = runtime.block_on(session.send_stream(MessageKind::Binary)).unwrap();
    let long = vec![7; 64 << 10];
    runtime.block_on(writer.write_chunk(long.clone())).unwrap();
    runtime.block_on(writer.write_chunk(long.clone())).unwrap();
    let before = reads.read(&mut peer);
    runtime.block_on(writer.flush()).unwrap();
    let rest = reads.read(&mut peer);
    assert_eq!(before.len() + rest.len(), 2 * long.len());
    runtime.block_on(writer.finish()).unwrap();
    runtime.block_on(session.flush()).unwrap();
    assert!(reads.read(&mut peer).is_empty() && reads.has_ended);
}

/// Whichever task flushes: what was accepted of a streamed message is no less accepted than a whole one.
#[test]
fn the_sessions_flush_is_one_too() {
    let (runtime, session, mut peer) =
        open_with(WebSockets::new().extension(deflate()), "permessage-deflate");
    let mut reads = Reads::new(deflate());
    let mut writer = runtime.block_on(session.send_stream(MessageKind::Binary)).unwrap();
    runtime.block_on(writer.write_chunk(vec![7; 100_000])).unwrap();
    runtime.block_on(session.flush()).unwrap();
    assert_eq!(reads.read(&mut peer).len(), 100_000);
    runtime.block_on(writer.finish()).unwrap();
}

/// While the socket is full, it comes in its place.
#[test]
fn a_flush_that_waits_comes_in_its_place() {
    let (runtime, session, mut peer) =
        open_with(WebSockets::new().extension(deflate()), "permessage-deflate");
    let mut reads = Reads::new(deflate());
    runtime.block_on(session.send("before")).unwrap();
    runtime.block_on(session.flush()).unwrap();
    assert_eq!(reads.read(&mut peer), b"before");
    peer.set_writable(false);
    let mut writer = runtime.block_on(session.send_stream(MessageKind::Binary)).unwrap();
    runtime.block_on(writer.write_all(b"flushed")).unwrap();
    {
        let mut flushing = std::pin::pin!(writer.flush());
        assert!(runtime.poll_now(flushing.as_mut()).is_none());
        peer.set_writable(true);
        assert!(runtime.poll_now(flushing).unwrap().is_ok());
    }
    assert_eq!(reads.read(&mut peer), b"flushed");
    runtime.block_on(writer.finish()).unwrap();
    drop(session);
}

/// Keeps back all it can, and says so.
#[derive(Clone, Debug, Default)]
struct Hoards(Vec<u8>);

impl Extension for Hoards {
    fn name(&self) -> &str {
        "x-hoards"
    }

    fn accept(&self, _: &NegotiatedExtension, _: Role) -> Result<Box<dyn Transform>> {
        Ok(Box::new(Self::default()))
    }
}

impl Transform for Hoards {
    fn incoming(&mut self, part: &mut MessagePart, room: usize) -> Result<Bytes> {
        Ok(part.payload.split_to(part.payload.len().min(room)))
    }

    fn outgoing(&mut self, part: &mut MessagePart) -> Result<()> {
        self.0.extend_from_slice(&part.payload);
        part.payload = if part.fin { std::mem::take(&mut self.0).into() } else { Bytes::new() };
        Ok(())
    }

    fn flush(&mut self) -> Result<Bytes> {
        Ok(std::mem::take(&mut self.0).into())
    }
}

fn written(session: &Session, peer: &mut PipePeer) -> Vec<u8> {
    let _ = session.stats();
    std::iter::from_fn(|| peer.receive()).flat_map(|frame| frame.payload).collect()
}

#[test]
fn an_extension_is_asked_for_what_it_keeps_back() {
    let (runtime, session, mut peer) =
        open_with(WebSockets::new().extension(Hoards::default()), "x-hoards");
    let mut writer = runtime.block_on(session.send_stream(MessageKind::Text)).unwrap();
    for text in ["one", "two"] {
        runtime.block_on(writer.write_all(text.as_bytes())).unwrap();
        runtime.block_on(writer.flush()).unwrap();
        assert_eq!(written(&session, &mut peer), text.as_bytes());
    }
    runtime.block_on(writer.finish()).unwrap();
}

/// Refuses a part of no message.
#[derive(Clone, Debug)]
struct Strict;

impl Extension for Strict {
    fn name(&self) -> &str {
        "x-strict"
    }

    fn accept(&self, _: &NegotiatedExtension, _: Role) -> Result<Box<dyn Transform>> {
        Ok(Box::new(Self))
    }
}

impl Transform for Strict {
    fn incoming(&mut self, part: &mut MessagePart, room: usize) -> Result<Bytes> {
        Ok(part.payload.split_to(part.payload.len().min(room)))
    }

    fn outgoing(&mut self, part: &mut MessagePart) -> Result<()> {
        assert_eq!(part.opcode, OpCode::Binary);
        Ok(())
    }
}

/// A message before the stream is still going out, and the stream has nothing to flush yet.
#[test]
fn a_flush_of_a_stream_that_has_not_begun_is_none_of_the_message_before_it() {
    let (runtime, session, mut peer) = open_with(WebSockets::new().extension(Strict), "x-strict");
    peer.set_writable(false);
    let long = vec![7; 300_000];
    runtime.block_on(session.send(long.clone())).unwrap();
    let mut writer = runtime.block_on(session.send_stream(MessageKind::Binary)).unwrap();
    {
        let mut flushing = std::pin::pin!(writer.flush());
        assert!(runtime.poll_now(flushing.as_mut()).is_none());
        peer.set_writable(true);
        assert!(runtime.poll_now(flushing).unwrap().is_ok());
    }
    assert_eq!(written(&session, &mut peer), long);
    runtime.block_on(writer.write_all(b"streamed")).unwrap();
    runtime.block_on(writer.finish()).unwrap();
    runtime.block_on(session.flush()).unwrap();
    assert_eq!(written(&session, &mut peer), b"streamed");
}

/// What one keeps back passes through the next.
#[test]
fn what_an_extension_keeps_back_passes_through_those_behind_it() {
    let runtime = drivetrain::testing::TestRuntime::new();
    let (connection, mut peer) = drivetrain::testing::pipe();
    let agreed = ["x-hoards", "permessage-deflate"].map(|name| NegotiatedExtension::new(name, []));
    let plugin = WebSockets::new().extension(Hoards::default()).extension(deflate());
    let session = runtime.session(connection.with_extensions(agreed.into()), plugin);
    let mut reads = Reads::new(deflate());
    let mut writer = runtime.block_on(session.send_stream(MessageKind::Text)).unwrap();
    for text in ["one", "two"] {
        runtime.block_on(writer.write_all(text.as_bytes())).unwrap();
        runtime.block_on(writer.flush()).unwrap();
        assert_eq!(reads.read(&mut peer), text.as_bytes());
    }
    runtime.block_on(writer.finish()).unwrap();
    runtime.block_on(session.flush()).unwrap();
    assert!(reads.read(&mut peer).is_empty() && reads.has_ended);
}
