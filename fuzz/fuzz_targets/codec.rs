//! The codec without I/O: the frames of a wire are those of the rules, however it is cut; what it encodes the
//! other end reads; memory is bounded by what has come.
#![no_main]

mod wire;

use drivetrain_codec::{Decoder, Encoder};
use drivetrain_engine::{CloseCode, Error, ErrorKind, RawFrame, Role};
use libfuzzer_sys::fuzz_target;
use wire::{Counting, End, Input};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fuzz_target!(|data: &[u8]| {
    if let Some(input) = Input::new(data) {
        run(&input);
    }
});

fn run(input: &Input) {
    let (expected, end) = wire::read(&input.wire, input.server, input.limit);
    let whole = decode(input, &[], false);
    let cut = decode(input, &input.chunks, false);
    for (frames, error) in [&whole, &cut] {
        assert_eq!(frames, &expected);
        let due = match end {
            End::Clean | End::InPayload => None,
            // The first bytes of a head may show that, whatever comes, it breaks a rule.
            End::InHead if error.is_some() && breaks_a_rule(input) => Some(ErrorKind::Protocol),
            End::InHead => None,
            End::Violation => Some(ErrorKind::Protocol),
            End::TooBig => Some(ErrorKind::TooBig),
        };
        assert_eq!(error.as_ref().map(Error::kind), due, "{error:?}");
    }
    let say = |error: &Option<Error>| error.as_ref().map(ToString::to_string);
    assert_eq!(say(&whole.1), say(&cut.1), "the same error, however it is cut");

    // With texts looked at early there may be one more reason to stop.
    let (frames, error) = decode(input, &input.chunks, true);
    let is_text = error.as_ref().and_then(Error::close_code) == Some(CloseCode::INVALID_PAYLOAD);
    if is_text {
        assert!(expected.starts_with(&frames));
    } else {
        assert_eq!((&frames, say(&error)), (&expected, say(&whole.1)));
    }

    // The buffer doubles, and while it moves there are two.
    let ((), most) = wire::most_allocated(|| drop(each(input, &input.chunks, false, drop)));
    assert!(most <= 3 * input.wire.len() + (320 << 10), "{most} for {}", input.wire.len());
    round_trip(input, &expected);
}

/// Whether the head at the end of the wire does when the rest of it has come.
fn breaks_a_rule(input: &Input) -> bool {
    let whole = [&input.wire[..], &[0; 12]].concat();
    wire::read(&whole, input.server, input.limit).1 == End::Violation
}

fn role(server: bool) -> Role {
    if server { Role::Server } else { Role::Client }
}

/// All frames, which are kept until the end, and the error that ended them.
fn decode(input: &Input, chunks: &[u8], early: bool) -> (Vec<RawFrame>, Option<Error>) {
    let mut frames = vec![];
    let error = each(input, chunks, early, |frame| frames.push(frame));
    (frames, error)
}

fn each(
    input: &Input,
    chunks: &[u8],
    early: bool,
    mut take: impl FnMut(RawFrame),
) -> Option<Error> {
    let mut decoder = Decoder::new(role(input.server));
    if early {
        decoder.check_text_early();
    }
    let mut failed: Option<Error> = None;
    for part in Parts::of(&input.wire, chunks) {
        let Some(part) = part else {
            decoder.quiet();
            continue;
        };
        decoder.feed(part);
        loop {
            match decoder.decode(input.limit) {
                Ok(None) => break,
                Ok(Some(frame)) => {
                    assert!(failed.is_none(), "a frame after {failed:?}");
                    take(frame);
                }
                Err(error) => {
                    assert!(failed.is_none(), "{failed:?} and then {error:?}");
                    failed = Some(error);
                }
            }
        }
        assert!(failed.is_none() || decoder.is_empty(), "it is thrown away");
    }
    failed
}

/// What this end encodes, the other end reads.
fn round_trip(input: &Input, frames: &[RawFrame]) {
    let mut encoder = Encoder::new(role(!input.server));
    let mut written = vec![];
    let mut sizes = input.chunks.iter().cycle();
    for frame in frames {
        encoder.encode(frame).expect("what may come may be sent");
        let count = sizes.next().map_or(encoder.len(), |&size| usize::from(size));
        let count = count.min(encoder.len());
        written.extend_from_slice(&encoder.waiting()[..count]);
        encoder.written(count);
        if count == 0 {
            encoder.quiet();
        }
    }
    written.extend_from_slice(encoder.waiting());
    encoder.written(encoder.len());
    assert!(encoder.is_empty());
    assert_eq!(wire::read(&written, input.server, usize::MAX), (frames.to_vec(), End::Clean));
    let back = Input { wire: written, limit: usize::MAX, chunks: vec![], ..*input };
    let (back, error) = decode(&back, &[], false);
    assert_eq!(back, frames);
    assert!(error.is_none(), "{error:?}");
}

/// The parts in which a wire comes; `None` is to wait.
struct Parts<'a> {
    wire: &'a [u8],
    chunks: &'a [u8],
    next: usize,
}

impl<'a> Parts<'a> {
    fn of(wire: &'a [u8], chunks: &'a [u8]) -> Self {
        Self { wire, chunks, next: 0 }
    }
}

impl<'a> Iterator for Parts<'a> {
    type Item = Option<&'a [u8]>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.wire.is_empty() {
            return None;
        }
        let size = match self.chunks.get(self.next % self.chunks.len().max(1)) {
            Some(&size) if self.next < 500 => usize::from(size),
            _ => self.wire.len(), // enough of it
        };
        self.next += 1;
        if size == 0 {
            return Some(None);
        }
        // Sizes above 250 are large ones.
        let size = if size > 250 && size < 256 { (size - 250) << 13 } else { size };
        let (part, rest) = self.wire.split_at(size.min(self.wire.len()));
        self.wire = rest;
        Some(Some(part))
    }
}
