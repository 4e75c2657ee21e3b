use std::sync::Arc;

use bytes::BytesMut;
use drivetrain_engine::{CloseCode, OpCode};
use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress};

use super::*;

const ROOM: usize = 64 << 10;

fn agreed(parameters: &str) -> NegotiatedExtension {
    let parameter = |text: &str| match text.trim().split_once('=') {
        None => (text.trim().to_owned(), None),
        Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
    };
    let parameters = parameters.split(';').filter(|part| !part.trim().is_empty());
    NegotiatedExtension::new(NAME, parameters.map(parameter))
}

fn transform(parameters: &str, role: Role) -> Box<dyn Transform> {
    PermessageDeflate::new().min_size(0).accept(&agreed(parameters), role).expect("it can be")
}

/// The inflated message, given in parts of this size, taken in chunks of this room.
fn inflated(
    transform: &mut dyn Transform,
    message: &[u8],
    size: usize,
    room: usize,
) -> Result<Bytes> {
    let mut all = BytesMut::new();
    let mut parts: Vec<&[u8]> = message.chunks(size).collect();
    if parts.is_empty() {
        parts.push(&[]);
    }
    let last = parts.len() - 1;
    for (i, bytes) in parts.into_iter().enumerate() {
        let mut part = MessagePart {
            rsv: Rsv::RSV1,
            first: i == 0,
            fin: i == last,
            ..MessagePart::new(OpCode::Binary, Bytes::copy_from_slice(bytes))
        };
        loop {
            let chunk = transform.incoming(&mut part, room)?;
            assert!(chunk.len() <= room, "{} bytes, where {room} were asked for", chunk.len());
            part.first = false;
            all.extend_from_slice(&chunk);
            if part.payload.is_empty() && chunk.len() < room {
                break;
            }
        }
    }
    Ok(all.freeze())
}

/// The compressed message, given in parts of this size.
fn deflated(transform: &mut dyn Transform, message: &[u8], size: usize) -> (Rsv, Bytes) {
    let mut all = BytesMut::new();
    let mut rsv = Rsv::NONE;
    let mut parts: Vec<&[u8]> = message.chunks(size).collect();
    if parts.is_empty() {
        parts.push(&[]);
    }
    let last = parts.len() - 1;
    for (i, bytes) in parts.into_iter().enumerate() {
        let mut part = MessagePart {
            rsv,
            first: i == 0,
            fin: i == last,
            ..MessagePart::new(OpCode::Binary, Bytes::copy_from_slice(bytes))
        };
        transform.outgoing(&mut part).expect("it can be compressed");
        rsv = part.rsv;
        all.extend_from_slice(&part.payload);
    }
    (rsv, all.freeze())
}

/// Text-like and random-like stretches, the same for the same seed.
fn sample(size: usize, mut seed: u64) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(size);
    while bytes.len() < size {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        match seed >> 61 {
            0 => bytes.extend_from_slice(&seed.to_le_bytes()),
            1 => bytes.extend_from_slice(&[(seed >> 40) as u8; 37]),
            other => bytes.extend_from_slice(format!("{{\"field\":{other}}}").as_bytes()),
        }
    }
    bytes.truncate(size);
    bytes
}

#[test]
fn answers_are_accepted_or_refused() {
    let plain = PermessageDeflate::new;
    let asking = || plain().server_no_context_takeover().server_max_window_bits(12);
    let small = || plain().client_max_window_bits(12);
    for (extension, answer, is_fine) in [
        (plain(), "", true),
        (plain(), "server_no_context_takeover", true),
        (plain(), "client_no_context_takeover; server_no_context_takeover", true),
        (plain(), "server_max_window_bits=8; client_max_window_bits=8", true),
        (plain(), "server_max_window_bits=15; client_max_window_bits=15", true),
        (plain(), "server_max_window_bits=7", false),
        (plain(), "server_max_window_bits=16", false),
        (plain(), "server_max_window_bits", false),
        (plain(), "server_max_window_bits=010", false),
        (plain(), "server_max_window_bits=+9", false),
        (plain(), "server_max_window_bits=1e1", false),
        (plain(), "client_max_window_bits", false),
        (plain(), "client_max_window_bits=256", false),
        (plain(), "client_max_window_bits=9; client_max_window_bits=9", false),
        (plain(), "server_no_context_takeover; server_no_context_takeover", false),
        (plain(), "server_no_context_takeover=1", false),
        (plain(), "client_no_context_takeover=true", false),
        (plain(), "x-unknown", false),
        (plain(), "Server_No_Context_Takeover", false),
        (asking(), "server_no_context_takeover; server_max_window_bits=12", true),
        (asking(), "server_no_context_takeover; server_max_window_bits=9", true),
        (asking(), "server_no_context_takeover; server_max_window_bits=13", false),
        (asking(), "server_no_context_takeover", false),
        (asking(), "server_max_window_bits=12", false),
        (small(), "", true),
        (small(), "client_max_window_bits=12", true),
        (small(), "client_max_window_bits=13", false),
    ] {
        let accepted = extension.accept(&agreed(answer), Role::Client);
        assert_eq!(accepted.is_ok(), is_fine, "{extension:?} answered by `{answer}`");
        if let Err(error) = accepted {
            assert_eq!(error.kind(), ErrorKind::Protocol, "`{answer}`: {error}");
            assert_eq!(error.close_code(), Some(CloseCode::PROTOCOL_ERROR));
            assert!(error.to_string().contains(NAME), "{error}");
        }
    }
}

#[test]
fn a_server_answers_the_first_offer_that_it_can_grant() {
    let plain = PermessageDeflate::new;
    let small = || plain().server_max_window_bits(12).client_max_window_bits(11);
    let alone = || plain().server_no_context_takeover().client_no_context_takeover();
    for (extension, offers, answered) in [
        (plain(), &[""][..], Some("")),
        (plain(), &["client_max_window_bits"], Some("")),
        (plain(), &["client_max_window_bits=9"], Some("")),
        (plain(), &["server_max_window_bits=9"], Some("server_max_window_bits=9")),
        (plain(), &["server_max_window_bits=15"], Some("server_max_window_bits=15")),
        (plain(), &["server_max_window_bits=8"], None),
        (
            plain(),
            &["server_max_window_bits=8", "server_max_window_bits=10"],
            Some("server_max_window_bits=10"),
        ),
        (plain(), &["server_max_window_bits=16"], None),
        (plain(), &["server_max_window_bits"], None),
        (plain(), &["server_max_window_bits=9; server_max_window_bits=9"], None),
        (plain(), &["x-unknown"], None),
        (plain(), &["x-unknown", "server_no_context_takeover"], Some("server_no_context_takeover")),
        (plain(), &["client_max_window_bits=7", ""], Some("")),
        (plain(), &["client_max_window_bits=16"], None),
        (plain(), &["client_no_context_takeover=1"], None),
        (plain(), &["client_no_context_takeover"], Some("client_no_context_takeover")),
        (small(), &[""], Some("server_max_window_bits=12")),
        (
            small(),
            &["client_max_window_bits"],
            Some("server_max_window_bits=12; client_max_window_bits=11"),
        ),
        (
            small(),
            &["client_max_window_bits=9; server_max_window_bits=10"],
            Some("server_max_window_bits=10; client_max_window_bits=9"),
        ),
        (
            small(),
            &["client_max_window_bits=15", ""],
            Some("server_max_window_bits=12; client_max_window_bits=11"),
        ),
        (alone(), &[""], Some("server_no_context_takeover; client_no_context_takeover")),
    ] {
        let offered: Vec<_> = offers.iter().map(|offer| agreed(offer)).collect();
        let answer = extension.answer(&offered);
        assert_eq!(answer, answered.map(agreed), "{offers:?}");
        if let Some(answer) = answer {
            extension.accept(&answer, Role::Server).expect("its own answer");
        }
    }
}

#[test]
fn both_ends_understand_what_they_agreed_on() {
    for (server, client) in [
        (PermessageDeflate::new(), PermessageDeflate::new()),
        (
            PermessageDeflate::new().server_max_window_bits(9),
            PermessageDeflate::new().client_max_window_bits(9),
        ),
        (
            PermessageDeflate::new().client_max_window_bits(10),
            PermessageDeflate::new().server_no_context_takeover(),
        ),
        (
            PermessageDeflate::new().client_no_context_takeover(),
            PermessageDeflate::new().server_max_window_bits(11),
        ),
    ] {
        let offered: Vec<_> = client.offers().iter().map(|offer| agreed(offer)).collect();
        let answer = server.answer(&offered).expect("it can be granted");
        let mut at_server = server.min_size(0).accept(&answer, Role::Server).expect("agreed");
        let mut at_client = client.min_size(0).accept(&answer, Role::Client).expect("agreed");
        for seed in 0..4 {
            let message = sample(50_000, seed);
            let (rsv, wire) = deflated(&mut *at_server, &message, 50_000);
            assert_eq!(rsv, Rsv::RSV1);
            assert!(
                inflated(&mut *at_client, &wire, 7000, ROOM).expect("it can be read") == message
            );
            let (_, wire) = deflated(&mut *at_client, &message, 50_000);
            assert!(
                inflated(&mut *at_server, &wire, 7000, ROOM).expect("it can be read") == message
            );
        }
    }
}

#[test]
fn what_is_asked_for_is_in_the_offer() {
    assert_eq!(PermessageDeflate::new().offers(), ["client_max_window_bits"]);
    let all = PermessageDeflate::new()
        .client_max_window_bits(10)
        .server_max_window_bits(11)
        .client_no_context_takeover()
        .server_no_context_takeover();
    let expected = "client_max_window_bits=10; server_max_window_bits=11; \
                    client_no_context_takeover; server_no_context_takeover";
    assert_eq!(all.offers(), [expected]);
}

#[test]
fn what_cannot_be_is_refused_by_name() {
    let new = PermessageDeflate::new;
    for (extension, name) in [
        (new().client_max_window_bits(8), "client_max_window_bits"),
        (new().server_max_window_bits(16), "server_max_window_bits"),
        (new().level(10), "level"),
    ] {
        let error = extension.check().expect_err(name);
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(error.to_string().contains(name), "{error}");
    }
    for bits in 9..=15 {
        new().client_max_window_bits(bits).server_max_window_bits(bits).check().expect("possible");
    }
}

#[test]
fn the_examples_of_section_7_2_3_are_read() {
    let hello = |message: &[u8]| {
        inflated(&mut *transform("", Role::Client), message, usize::MAX, ROOM).expect("valid")
    };
    // 1: one block; 3: a block without compression; 4: a block with BFINAL; 5: two blocks.
    assert_eq!(hello(&[0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00]), "Hello");
    let stored = [0x00, 0x05, 0x00, 0xfa, 0xff, 0x48, 0x65, 0x6c, 0x6c, 0x6f, 0x00];
    assert_eq!(hello(&stored), "Hello");
    assert_eq!(hello(&[0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00, 0x00]), "Hello");
    let two = [0xf2, 0x48, 0x05, 0x00, 0x00, 0x00, 0xff, 0xff, 0xca, 0xc9, 0xc9, 0x07, 0x00];
    assert_eq!(hello(&two), "Hello");
    // 6: nothing. And a last block without the byte that section 7.2.3.4 adds.
    assert_eq!(hello(&[0x00]), "");
    assert_eq!(hello(&[0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00]), "Hello");
    // 2: the second message refers to the first.
    let mut shared = transform("", Role::Client);
    let mut read = |message: &[u8]| inflated(&mut *shared, message, 1, ROOM).expect("valid");
    assert_eq!(read(&[0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00]), "Hello");
    assert_eq!(read(&[0xf2, 0x00, 0x11, 0x00, 0x00]), "Hello");
}

/// Section 7.2.2: the appended bytes are then not the rest of an empty block.
#[test]
fn a_message_that_is_cut_off_is_refused() {
    let read = |message: &[u8], cut: usize, size: usize, room: usize| {
        inflated(&mut *transform("", Role::Client), &message[..cut], size, room)
    };
    let refused = |message: &[u8], cut: usize| {
        for (size, room) in [(usize::MAX, ROOM), (7, 100)] {
            let error = read(message, cut, size, room);
            let error = error.expect_err(&format!("{cut} of {} bytes", message.len()));
            assert_eq!(error.kind(), ErrorKind::Protocol);
            assert_eq!(error.close_code(), Some(CloseCode::INVALID_PAYLOAD));
        }
    };
    for plain in [&b"Hello"[..], &sample(3000, 1), &b"abc".repeat(99), b""] {
        for level in [1, 6] {
            let sender = PermessageDeflate::new().min_size(0).level(level);
            let mut sender = sender.accept(&agreed(""), Role::Server).expect("it can be");
            let (_, whole) = deflated(&mut *sender, plain, usize::MAX);
            (0..whole.len()).for_each(|cut| refused(&whole, cut));
            assert_eq!(read(&whole, whole.len(), 7, 100).expect("valid"), plain);
        }
    }
    // A block without compression. Where it begins, the message could have ended; and it could lack just as much as
    // is appended.
    let stored = [0x00, 0x05, 0x00, 0xfa, 0xff, 0x48, 0x65, 0x6c, 0x6c, 0x6f, 0x00];
    assert_eq!(read(&stored, 1, 1, 1).expect("valid"), "");
    [0].into_iter().chain(2..stored.len()).for_each(|cut| refused(&stored, cut));
}

/// The removed tail does not appear twice.
#[test]
fn a_message_whose_end_was_not_cut_off_is_refused() {
    let hello = [0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00, 0x00, 0x00, 0xff, 0xff];
    assert!(inflated(&mut *transform("", Role::Client), &hello, usize::MAX, ROOM).is_err());
}

#[test]
fn messages_go_on_after_last_blocks() {
    let last = [0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00];
    let mut client = transform("", Role::Client);
    for _ in 0..3 {
        let twice = [&last[..], &last, &[0x00]].concat();
        for size in [1, 3, usize::MAX] {
            let read = inflated(&mut *client, &twice, size, ROOM).expect("valid");
            assert_eq!(read, "HelloHello", "in parts of {size}");
            // The same without the byte that section 7.2.3.4 adds.
            let read = inflated(&mut *client, &last.repeat(2), size, ROOM).expect("valid");
            assert_eq!(read, "HelloHello", "in parts of {size}");
        }
    }
}

#[test]
fn the_empty_message_is_one_byte_whatever_was_before() {
    let mut client = transform("", Role::Client);
    let mut server = transform("", Role::Server);
    for message in [&b""[..], b"", b"one", b"", b"two", b"", b""] {
        let (rsv, out) = deflated(&mut *client, message, usize::MAX);
        assert_eq!(rsv, Rsv::RSV1);
        if message.is_empty() {
            assert_eq!(out.as_ref(), [0x00]);
        }
        assert_eq!(inflated(&mut *server, &out, usize::MAX, ROOM).expect("valid"), message);
    }
}

#[test]
fn what_was_sent_arrives_with_all_parameters_in_all_parts() {
    let bits = |name: &str| {
        let with = |bits: u8| format!("{name}={bits}");
        [String::new(), with(9), with(12), with(15)]
    };
    for server_bits in bits("server_max_window_bits") {
        for client_bits in bits("client_max_window_bits") {
            for flags in 0..4 {
                let flag = |bit: u8, name: &str| if flags & bit > 0 { name } else { "" }.to_owned();
                let server_flag = flag(1, "server_no_context_takeover");
                let client_flag = flag(2, "client_no_context_takeover");
                let all = [&server_bits, &client_bits, &server_flag, &client_flag];
                let answer = all.map(String::as_str).join(";");
                round_trips(&answer);
            }
        }
    }
}

fn round_trips(answer: &str) {
    let mut client = transform(answer, Role::Client);
    let mut server = transform(answer, Role::Server);
    let mut number = 0;
    for size in [0, 1, 100, 70_000] {
        for (out_parts, in_parts, room) in
            [(usize::MAX, usize::MAX, ROOM), (1000, 77, 100), (usize::MAX, 500, 1)]
        {
            if room == 1 && size > 1000 {
                continue; // byte by byte, it takes its time
            }
            number += 1;
            let message = sample(size, number);
            for way in 0..2 {
                let (from, to) = match way {
                    0 => (&mut client, &mut server),
                    _ => (&mut server, &mut client),
                };
                let (rsv, out) = deflated(&mut **from, &message, out_parts);
                assert_eq!(rsv, Rsv::RSV1);
                let read = inflated(&mut **to, &out, in_parts, room).expect("valid");
                assert_eq!(read, message, "`{answer}`, {size} bytes, way {way}");
            }
        }
    }
}

/// Another implementation of DEFLATE reads our output, and ours reads its output, with context takeover.
#[test]
fn another_implementation_understands_it() {
    let mut client = transform("", Role::Client);
    let (mut theirs_in, mut theirs_out) =
        (Decompress::new(false), Compress::new(Compression::default(), false));
    for number in 0..20 {
        let message = sample(3000, number % 4);
        let (_, out) = deflated(&mut *client, &message, 999);
        let mut read = Vec::with_capacity(10_000);
        let whole = [&out[..], &[0, 0, 0xff, 0xff]].concat();
        theirs_in.decompress_vec(&whole, &mut read, FlushDecompress::Sync).expect("valid");
        assert_eq!(read, message);

        let mut written = Vec::with_capacity(10_000);
        theirs_out.compress_vec(&message, &mut written, FlushCompress::Sync).expect("possible");
        assert!(written.ends_with(&[0, 0, 0xff, 0xff]));
        written.truncate(written.len() - 4);
        assert_eq!(inflated(&mut *client, &written, 50, ROOM).expect("valid"), message);
    }
}

/// Random bytes, and the same again further back than the window: only a larger window sees it.
#[test]
fn the_window_is_no_larger_than_agreed_on() {
    let mut seed = 1_u32;
    let mut random = |size: usize| -> Vec<u8> {
        let mut next = || {
            seed ^= seed << 13;
            seed ^= seed >> 17;
            seed ^= seed << 5;
            (seed >> 8) as u8
        };
        (0..size).map(|_| next()).collect()
    };
    for bits in 9..=14 {
        let half = random(1 << bits);
        let message = [&half[..], &half].concat();
        let size = |bits: u8, role, name: &str| {
            deflated(&mut *transform(&format!("{name}={bits}"), role), &message, usize::MAX).1.len()
        };
        for (role, name) in
            [(Role::Client, "client_max_window_bits"), (Role::Server, "server_max_window_bits")]
        {
            assert!(size(bits, role, name) > message.len(), "{name}: {bits} bits were exceeded");
            assert!(size(bits + 1, role, name) < message.len() * 3 / 4, "{name}: {bits} + 1 bits");
        }
    }
}

#[test]
fn with_a_window_that_it_has_not_nothing_is_compressed_but_all_is_read() {
    let mut client = transform("client_max_window_bits=8; server_max_window_bits=8", Role::Client);
    let (rsv, out) = deflated(&mut *client, &[b'a'; 5000], usize::MAX);
    assert_eq!((rsv, out.len()), (Rsv::NONE, 5000));
    let hello = [0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00];
    assert_eq!(inflated(&mut *client, &hello, 2, ROOM).expect("valid"), "Hello");
}

#[test]
fn no_context_takeover_makes_each_message_the_same() {
    for (answer, role, is_same) in [
        ("", Role::Client, false),
        ("server_no_context_takeover", Role::Client, false),
        ("client_no_context_takeover", Role::Client, true),
        ("client_no_context_takeover", Role::Server, false),
        ("server_no_context_takeover", Role::Server, true),
    ] {
        let mut transform = transform(answer, role);
        let message = sample(2000, 7);
        let first = deflated(&mut *transform, &message, usize::MAX);
        let second = deflated(&mut *transform, &message, usize::MAX);
        assert_eq!(first == second, is_same, "`{answer}`, {role:?}");
        let has_state = !format!("{transform:?}").contains("takeover: false, has_state: true");
        assert!(has_state, "its memory is given back: {transform:?}");
    }
    let own = PermessageDeflate::new().client_no_context_takeover().min_size(0);
    let mut own = own.accept(&agreed(""), Role::Client).expect("it can be");
    let message = sample(2000, 7);
    let first = deflated(&mut *own, &message, usize::MAX);
    assert_eq!(first, deflated(&mut *own, &message, usize::MAX), "what it said it does it does");
}

#[test]
fn memory_is_taken_with_the_first_message() {
    let mut client = transform("", Role::Client);
    assert!(!format!("{client:?}").contains("has_state: true"), "{client:?}");
    deflated(&mut *client, b"a", 1);
    assert_eq!(format!("{client:?}").matches("has_state: true").count(), 1, "{client:?}");
    inflated(&mut *client, &[0x00], 1, ROOM).expect("valid");
    assert_eq!(format!("{client:?}").matches("has_state: true").count(), 2, "{client:?}");
}

#[test]
fn only_what_is_long_enough_and_chosen_is_compressed() {
    let text = |part: &MessagePart| part.opcode == OpCode::Text;
    let extension = PermessageDeflate::new().min_size(10).only_if(text);
    let mut transform = extension.accept(&agreed(""), Role::Client).expect("it can be");
    for (opcode, size, fin, compressed) in [
        (OpCode::Text, 9, true, false),
        (OpCode::Text, 10, true, true),
        (OpCode::Binary, 10, true, false),
        (OpCode::Text, 1, false, true),
    ] {
        let mut part =
            MessagePart { fin, ..MessagePart::new(opcode, Bytes::from(vec![b'a'; size])) };
        transform.outgoing(&mut part).expect("it can be sent");
        assert_eq!(part.rsv == Rsv::RSV1, compressed, "{opcode:?} of {size} bytes");
        assert!(compressed || part.payload == vec![b'a'; size]);
    }
    let with_default = PermessageDeflate::new().accept(&agreed(""), Role::Client);
    let mut with_default = with_default.expect("it can be");
    assert_eq!(deflated(&mut *with_default, &[0; 1023], usize::MAX).0, Rsv::NONE);
    assert_eq!(deflated(&mut *with_default, &[0; 1024], usize::MAX).0, Rsv::RSV1);
}

#[test]
fn what_is_not_compressed_data_is_refused() {
    for garbage in [&[0xff; 10][..], &[0x06], b"Hello, this is just text", &[0xf2, 0x00, 0x11]] {
        let mut transform = transform("", Role::Client);
        let error = inflated(&mut *transform, garbage, 3, ROOM).expect_err("garbage");
        assert_eq!(error.kind(), ErrorKind::Protocol, "{garbage:x?}");
        assert_eq!(error.close_code(), Some(CloseCode::INVALID_PAYLOAD), "{garbage:x?}");
    }
}

/// A thousand times as large as the input: in chunks of the requested size, without holding more.
#[test]
fn a_bomb_comes_in_chunks() {
    let mut server = transform("", Role::Server);
    let (_, bomb) = deflated(&mut *server, &vec![0; 64 << 20], 1 << 20);
    assert!(bomb.len() < 80 << 10, "{} bytes", bomb.len());
    let mut client = transform("", Role::Client);
    let mut part = MessagePart { rsv: Rsv::RSV1, ..MessagePart::new(OpCode::Binary, bomb) };
    let mut total = 0;
    loop {
        let chunk = client.incoming(&mut part, ROOM).expect("valid");
        part.first = false;
        total += chunk.len();
        assert!(chunk.len() <= ROOM);
        if part.payload.is_empty() && chunk.len() < ROOM {
            break;
        }
    }
    assert_eq!(total, 64 << 20);
}

/// Blocks without content, of which two bytes are one: each call takes a bounded number of them.
#[test]
fn many_last_blocks_are_not_taken_at_once() {
    let mut client = transform("", Role::Client);
    let blocks: Bytes = [0x03, 0x00].repeat(1 << 20).into();
    let mut part = MessagePart { rsv: Rsv::RSV1, ..MessagePart::new(OpCode::Text, blocks) };
    let mut before = part.payload.len();
    while !part.payload.is_empty() {
        assert_eq!(client.incoming(&mut part, ROOM).expect("valid"), "");
        part.first = false;
        assert!(before - part.payload.len() <= 64 << 10);
        before = part.payload.len();
    }
}

#[test]
fn it_is_shared_and_named() {
    let shared: Arc<dyn Extension> = Arc::new(PermessageDeflate::new().required());
    assert!(shared.is_required());
    assert_eq!((shared.name(), shared.rsv()), (NAME, Rsv::RSV1));
}
