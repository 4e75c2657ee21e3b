//! fastwebsockets' framing: it reads the frames that the rules say, in both roles, however the bytes are cut; the peer
//! reads the frames that it encodes.
#![no_main]

mod wire;

use std::{
    sync::Arc,
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use drivetrain_engine::{
    Accepted, CloseCode, Error, ErrorKind, Framing as _, OpCode, RawFrame, Role, Transport,
};
use drivetrain_fastwebsockets::FastWebSocketsFraming;
use libfuzzer_sys::fuzz_target;
use wire::{Counting, End, Input, Memory};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fuzz_target!(|data: &[u8]| {
    if let Some(input) = Input::new(data) {
        run(&input);
    }
});

/// What is announced is reserved in one piece, so that the bound of what is allocated is the limit.
const LARGEST: usize = 64 << 10;

fn run(input: &Input) {
    let limit = input.limit.min(LARGEST);
    let (mut expected, mut end) = wire::read(&input.wire, input.server, limit);
    // The library's own rules: no reserved bits, and a text in one frame is UTF-8.
    let mut code = None;
    if let Some(at) = expected.iter().position(|frame| refused(frame).is_some()) {
        code = refused(&expected[at]);
        expected.truncate(at);
        end = End::Violation;
    }
    for (leftover, chunks) in [(0, &[][..]), (input.leftover, &input.chunks)] {
        let (frames, last) = receive(input, leftover, chunks, limit);
        assert_eq!(frames, expected);
        let kind = last.as_ref().err().map(Error::kind);
        let due: &[_] = match end {
            End::Clean => &[None],
            // Of a head that is not complete it may have seen enough, or a bit that is reserved.
            End::InHead | End::InPayload => &[Some(ErrorKind::Io), Some(ErrorKind::Protocol)],
            // A head may break two rules, and be above the limit too.
            End::Violation | End::TooBig => &[Some(ErrorKind::Protocol), Some(ErrorKind::TooBig)],
        };
        assert!(due.contains(&kind), "{end:?}: {last:?}");
        if let (Some(code), Err(error)) = (code, &last) {
            assert_eq!(error.close_code(), Some(code), "{error}");
        }
    }
    memory_is_bounded(input, limit);
    round_trip(input, &expected);
}

fn refused(frame: &RawFrame) -> Option<CloseCode> {
    if !frame.rsv.is_none() {
        return Some(CloseCode::PROTOCOL_ERROR);
    }
    (frame.opcode == OpCode::Text && frame.fin && std::str::from_utf8(&frame.payload).is_err())
        .then_some(CloseCode::INVALID_PAYLOAD)
}

fn role(server: bool) -> Role {
    if server { Role::Server } else { Role::Client }
}

fn transport(stream: Memory, read_ahead: &[u8], role: Role) -> Box<dyn Transport> {
    let (stream, read_ahead) = (Box::new(stream), Bytes::copy_from_slice(read_ahead));
    FastWebSocketsFraming::new()
        .transport(stream, read_ahead, role, &Accepted::default())
        .expect("it never fails")
}

fn framer(input: &Input, leftover: usize, chunks: &[u8]) -> Box<dyn Transport> {
    let (leftover, rest) = input.wire.split_at(leftover);
    transport(Memory::new(rest, chunks), leftover, role(input.server))
}

fn receive(
    input: &Input,
    leftover: usize,
    chunks: &[u8],
    limit: usize,
) -> (Vec<RawFrame>, Result<(), Error>) {
    let mut framer = framer(input, leftover, chunks);
    let mut frames = vec![];
    let end = each(&mut *framer, input, limit, |frame| frames.push(frame));
    (frames, end)
}

fn each(
    framer: &mut dyn Transport,
    input: &Input,
    limit: usize,
    mut take: impl FnMut(RawFrame),
) -> Result<(), Error> {
    let mut cx = Context::from_waker(Waker::noop());
    let mut failed = None;
    for _ in 0..4 * input.wire.len() + 2000 {
        let buffered = if input.buffered { framer.try_receive_buffered(limit) } else { None };
        let received = match buffered {
            Some(frame) => frame.map(Some),
            None => match framer.poll_receive(&mut cx, limit) {
                Poll::Pending => continue,
                Poll::Ready(received) => received,
            },
        };
        match received {
            Ok(Some(frame)) => {
                assert!(failed.is_none(), "a frame after a violation");
                take(frame);
            }
            Ok(None) => return failed.map_or(Ok(()), Err),
            Err(error) => {
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

fn memory_is_bounded(input: &Input, limit: usize) {
    let mut framer = framer(input, input.leftover, &input.chunks);
    let ((), most) = wire::most_allocated(|| {
        // The end is checked elsewhere.
        let _ = each(&mut *framer, input, limit, drop);
    });
    let bound = 2 * input.wire.len() + 2 * limit + (256 << 10);
    assert!(most <= bound, "{most} for {}", input.wire.len());
}

/// The other end reads the frames that this end encodes.
fn round_trip(input: &Input, frames: &[RawFrame]) {
    let memory = Memory::new(&[], &input.chunks);
    let written = Arc::clone(&memory.written);
    let mut sender = transport(memory, &[], role(!input.server));
    let mut cx = Context::from_waker(Waker::noop());
    for frame in frames {
        while sender.poll_ready(&mut cx).is_pending() && !input.buffered {}
        sender.start_send(frame.clone()).expect("what may come may be sent");
    }
    while sender.poll_close(&mut cx).is_pending() {}
    let written = std::mem::take(&mut *written.lock().unwrap());
    let (back, end) = wire::read(&written, input.server, usize::MAX);
    assert_eq!((&*back, end), (frames, End::Clean));
}
