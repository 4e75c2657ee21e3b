//! The framer, with its own codec for heads and with tungstenite's: it reads the frames that the rules say, however the
//! bytes are cut; the peer reads the frames that it encodes; its memory is bounded by the bytes that have come.
#![no_main]

mod wire;

use std::{
    sync::Arc,
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use drivetrain_codec::{Buffers, Framer, TungsteniteFraming};
use drivetrain_engine::{Accepted, Error, ErrorKind, Framing as _, RawFrame, Role, Transport};
use libfuzzer_sys::fuzz_target;
use wire::{Counting, End, Input, Memory};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fuzz_target!(|data: &[u8]| {
    if let Some(input) = Input::new(data) {
        for heads in [Heads::Own, Heads::Tungstenites] {
            run(&input, heads);
        }
    }
});

/// The codec for heads.
#[derive(Clone, Copy)]
enum Heads {
    Own,
    Tungstenites,
}

impl Heads {
    fn transport(self, stream: Memory, read_ahead: &[u8], role: Role) -> Box<dyn Transport> {
        match self {
            Self::Own => Box::new(Framer::new(stream, read_ahead, role, &Buffers::default())),
            Self::Tungstenites => {
                let (stream, ahead) = (Box::new(stream), Bytes::copy_from_slice(read_ahead));
                TungsteniteFraming::new()
                    .transport(stream, ahead, role, &Accepted::default())
                    .expect("it never fails")
            }
        }
    }
}

fn run(input: &Input, heads: Heads) {
    let (expected, end) = wire::read(&input.wire, input.server, input.limit);
    let is_broken = end == End::InHead && wire::cannot_be_mended(input, &expected);
    let whole = receive(input, heads, 0, &[]);
    let cut = receive(input, heads, input.leftover, &input.chunks);
    for (frames, last) in [&whole, &cut] {
        assert_eq!(frames, &expected);
        let kind = last.as_ref().err().map(Error::kind);
        let due = match end {
            End::Clean => None,
            // A head that no rest can mend is refused before the rest has come; a library may want the rest.
            End::InHead if is_broken && kind == Some(ErrorKind::Protocol) => continue,
            End::InHead | End::InPayload => Some(ErrorKind::Io),
            End::Violation => Some(ErrorKind::Protocol),
            End::TooBig => Some(ErrorKind::TooBig),
        };
        assert_eq!(kind, due, "{last:?}");
    }
    let say = |result: &Result<(), Error>| result.as_ref().err().map(ToString::to_string);
    assert_eq!(say(&whole.1), say(&cut.1), "the same error, however it is cut");
    memory_is_bounded(input, heads);
    round_trip(input, heads, &expected);
}

fn role(server: bool) -> Role {
    if server { Role::Server } else { Role::Client }
}

fn framer(input: &Input, heads: Heads, leftover: usize, chunks: &[u8]) -> Box<dyn Transport> {
    let (leftover, rest) = input.wire.split_at(leftover);
    heads.transport(Memory::new(rest, chunks), leftover, role(input.server))
}

/// All frames up to the end, and the end.
fn receive(
    input: &Input,
    heads: Heads,
    leftover: usize,
    chunks: &[u8],
) -> (Vec<RawFrame>, Result<(), Error>) {
    let mut framer = framer(input, heads, leftover, chunks);
    let mut frames = vec![];
    let end = each(&mut *framer, input, |frame| frames.push(frame));
    (frames, end)
}

fn each(
    framer: &mut dyn Transport,
    input: &Input,
    mut take: impl FnMut(RawFrame),
) -> Result<(), Error> {
    let mut cx = Context::from_waker(Waker::noop());
    let mut failed = None;
    for _ in 0..4 * input.wire.len() + 2000 {
        if input.buffered
            && let Some(frame) = framer.try_receive_buffered(input.limit)
        {
            match frame {
                Ok(frame) => {
                    assert!(failed.is_none(), "a frame after a violation");
                    take(frame);
                }
                Err(error) => failed = Some(error),
            }
            continue;
        }
        match framer.poll_receive(&mut cx, input.limit) {
            Poll::Pending => {}
            Poll::Ready(Ok(Some(frame))) => {
                assert!(failed.is_none(), "a frame after a violation");
                take(frame);
            }
            Poll::Ready(Ok(None)) => {
                let again = framer.poll_receive(&mut cx, input.limit);
                assert!(matches!(again, Poll::Ready(Ok(None))), "the end is the end");
                return failed.map_or(Ok(()), Err);
            }
            Poll::Ready(Err(error)) => {
                assert!(failed.is_none(), "{failed:?} and then {error:?}");
                if error.close_code().is_none() {
                    return Err(error);
                }
                failed = Some(error);
            }
        }
    }
    panic!("it never ends");
}

/// What is allocated is in proportion to what has come, whatever a header announces.
fn memory_is_bounded(input: &Input, heads: Heads) {
    let mut framer = framer(input, heads, input.leftover, &input.chunks);
    let ((), most) = wire::most_allocated(|| {
        // The end is checked elsewhere.
        let _ = each(&mut *framer, input, drop);
    });
    // The buffer doubles, and while it moves there are two.
    assert!(most <= 3 * input.wire.len() + (320 << 10), "{most} for {}", input.wire.len());
}

/// What this end encodes, the other end reads.
fn round_trip(input: &Input, heads: Heads, frames: &[RawFrame]) {
    let memory = Memory::new(&[], &input.chunks);
    let written = Arc::clone(&memory.written);
    let mut sender = heads.transport(memory, &[], role(!input.server));
    let mut cx = Context::from_waker(Waker::noop());
    let mut sent = vec![];
    for frame in frames {
        match sender.poll_ready(&mut cx) {
            Poll::Pending if input.buffered => {} // it may be given one more
            Poll::Pending => while sender.poll_ready(&mut cx).is_pending() {},
            Poll::Ready(ready) => ready.expect("memory takes it"),
        }
        sender.start_send(frame.clone()).expect("what may come may be sent");
        sent.push(frame.clone());
    }
    while sender.poll_close(&mut cx).is_pending() {}
    let written = std::mem::take(&mut *written.lock().unwrap());
    let (back, end) = wire::read(&written, input.server, usize::MAX);
    assert_eq!((&back, end), (&sent, End::Clean));
    let input = Input {
        server: input.server,
        buffered: input.buffered,
        leftover: 0,
        limit: usize::MAX,
        chunks: vec![],
        wire: written,
    };
    let (back, end) = receive(&input, heads, 0, &[]);
    assert_eq!(back, sent);
    end.expect("a sound stream");
}
