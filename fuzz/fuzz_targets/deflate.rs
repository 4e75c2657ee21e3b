//! permessage-deflate in both roles: any input is inflated without a panic, and what is deflated inflates to what it was.
#![no_main]

use bytes::Bytes;
use drivetrain::{
    CloseCode, ErrorKind, NegotiatedExtension, OpCode, Result, Rsv,
    extension::{Extension, MessagePart, PermessageDeflate, Role, Transform},
};
use libfuzzer_sys::fuzz_target;

/// More output of one input than this shows nothing new.
const ENOUGH: usize = 1 << 20;

fuzz_target!(|data: &[u8]| run(data));

fn run(data: &[u8]) {
    let [mode, flags, bits, sizes, level, rest @ ..] = data else { return };
    let agreed = agreed(*flags, *bits);
    let extension = PermessageDeflate::new().min_size(0).level(level % 10);
    let make = |role| extension.accept(&agreed, role).expect("it can be");
    let (size, room) =
        (1 + usize::from(sizes & 15) * 7, [1, 10, 1000, 64 << 10][usize::from(sizes >> 6)]);
    match mode % 2 {
        0 => anything(
            &mut *make(if mode & 2 > 0 { Role::Client } else { Role::Server }),
            rest,
            size,
            room,
        ),
        _ => round_trips(&mut *make(Role::Client), &mut *make(Role::Server), rest, size, room),
    }
}

fn agreed(flags: u8, bits: u8) -> NegotiatedExtension {
    let flag = |bit: u8, name: &str| (flags & bit > 0).then(|| (name.to_owned(), None));
    let window = |bit: u8, name: &str, bits: u8| {
        (flags & bit > 0).then(|| (name.to_owned(), Some((8 + bits % 8).to_string())))
    };
    let parameters = [
        flag(1, "server_no_context_takeover"),
        flag(2, "client_no_context_takeover"),
        window(4, "server_max_window_bits", bits),
        window(8, "client_max_window_bits", bits >> 4),
    ];
    NegotiatedExtension::new("permessage-deflate", parameters.into_iter().flatten())
}

/// Messages, each behind its length, in parts of this size: never more than was asked for, and an error has its code.
fn anything(transform: &mut dyn Transform, mut data: &[u8], size: usize, room: usize) {
    let mut total = 0;
    while let [length, rest @ ..] = data {
        let length = usize::from(*length) * 8;
        let (message, behind) = rest.split_at(length.min(rest.len()));
        data = behind;
        match inflated(transform, Rsv::RSV1, message, size, room, ENOUGH - total) {
            Ok(message) => total += message.len(),
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Protocol);
                assert_eq!(error.close_code(), Some(CloseCode::INVALID_PAYLOAD));
                return;
            }
        }
        if total >= ENOUGH {
            return;
        }
    }
}

/// Messages there and back, each behind its length and how often it is repeated.
fn round_trips(
    client: &mut dyn Transform,
    server: &mut dyn Transform,
    mut data: &[u8],
    size: usize,
    room: usize,
) {
    let mut total = 0;
    while let [length, times, rest @ ..] = data {
        let (message, behind) = rest.split_at(usize::from(*length).min(rest.len()));
        data = behind;
        let message = message.repeat(1 + usize::from(*times));
        total += message.len();
        arrives(client, server, &message, size, room);
        arrives(server, client, &message, size, room);
        if total > ENOUGH / 16 {
            return;
        }
    }
}

fn arrives(
    from: &mut dyn Transform,
    to: &mut dyn Transform,
    message: &[u8],
    size: usize,
    room: usize,
) {
    let (rsv, sent) = deflated(from, message, size * 31);
    let size = if rsv.is_none() { usize::MAX } else { size };
    let limit = message.len() + room;
    let read = inflated(to, rsv, &sent, size, room, limit).expect("what was sent can be read");
    assert!(read == message, "{} bytes became {}", message.len(), read.len());
}

fn parts(message: &[u8], size: usize) -> impl Iterator<Item = MessagePart> {
    let count = message.len().div_ceil(size).max(1);
    (0..count).map(move |i| {
        let part = message.chunks(size).nth(i).unwrap_or_default();
        MessagePart {
            first: i == 0,
            fin: i + 1 == count,
            ..MessagePart::new(OpCode::Binary, Bytes::copy_from_slice(part))
        }
    })
}

fn inflated(
    transform: &mut dyn Transform,
    rsv: Rsv,
    message: &[u8],
    size: usize,
    room: usize,
    limit: usize,
) -> Result<Vec<u8>> {
    let mut all = Vec::new();
    for mut part in parts(message, size) {
        if rsv.is_none() {
            all.extend_from_slice(&part.payload);
            continue;
        }
        part.rsv = rsv;
        loop {
            let before = part.payload.len();
            let chunk = transform.incoming(&mut part, room)?;
            part.first = false;
            assert!(chunk.len() <= room, "{} bytes, where {room} were asked for", chunk.len());
            all.extend_from_slice(&chunk);
            if all.len() >= limit {
                return Ok(all); // here a session would have ended
            }
            if part.payload.is_empty() && chunk.len() < room {
                break;
            }
            assert!(part.payload.len() < before || !chunk.is_empty(), "it stands still");
        }
    }
    Ok(all)
}

fn deflated(transform: &mut dyn Transform, message: &[u8], size: usize) -> (Rsv, Vec<u8>) {
    let (mut rsv, mut all) = (Rsv::NONE, Vec::new());
    for mut part in parts(message, size) {
        part.rsv = rsv;
        transform.outgoing(&mut part).expect("anything can be compressed");
        rsv = part.rsv;
        all.extend_from_slice(&part.payload);
    }
    (rsv, all)
}
