//! The payload of a Close, in both directions, against the rules of RFC 6455 written down a second time.
#![no_main]

use bytes::Bytes;
use drivetrain_engine::{CloseCode, CloseReason, ErrorKind, Frame};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| run(data));

fn run(data: &[u8]) {
    let read = CloseReason::from_payload(&Bytes::copy_from_slice(data));
    let expected = expected(data);
    match (&read, expected) {
        (Ok(None), Ok(None)) => {}
        (Ok(Some(reason)), Ok(Some((code, text)))) => {
            assert_eq!((u16::from(reason.code()), reason.text().as_bytes()), (code, text));
            assert_eq!(reason.to_payload(), data, "the round trip");
            assert_eq!(Frame::from(reason.clone()).into_bytes(), data);
            let made = CloseReason::new(code, reason.text()).expect("what may come may be sent");
            assert_eq!(&made, reason);
            assert_eq!(&CloseReason::truncated(reason.code(), reason.text()), reason);
            let _ = format!("{reason} {reason:?}");
        }
        (Err(error), Err(code)) => {
            assert_eq!(error.kind(), ErrorKind::Protocol);
            assert_eq!(error.close_code().map(u16::from), Some(code), "{error}");
        }
        (read, expected) => panic!("{read:?}, but by the rules {expected:?}"),
    }

    // What a user makes.
    let Some((code, text)) = data.split_first_chunk() else { return };
    let code = u16::from_be_bytes(*code);
    assert_eq!(CloseCode::try_from(code).is_ok(), may_travel(code));
    let text = String::from_utf8_lossy(text);
    match CloseReason::new(code, &*text) {
        Ok(reason) => {
            assert!(may_travel(code) && text.len() <= 123);
            let payload = reason.to_payload();
            assert!(payload.len() <= 125);
            assert_eq!(CloseReason::from_payload(&payload).expect("valid"), Some(reason));
        }
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::InvalidInput);
            assert!(!may_travel(code) || text.len() > 123);
        }
    }
    for code in [CloseCode::NO_STATUS, CloseCode::ABNORMAL, CloseCode::TLS, CloseCode::TOO_BIG] {
        let cut = CloseReason::truncated(code, &text);
        assert!(cut.text().len() <= 123 && text.starts_with(cut.text()));
        assert!(cut.text().len() == text.len() || cut.text().len() > 119, "cut too short");
        assert_eq!(cut.to_payload().is_empty(), code != CloseCode::TOO_BIG);
        assert_eq!(CloseReason::new(code, "").is_ok(), code == CloseCode::TOO_BIG);
    }
}

type Expected<'a> = Result<Option<(u16, &'a [u8])>, u16>;

fn expected(data: &[u8]) -> Expected<'_> {
    match data {
        [] => Ok(None),
        [_] => Err(1002),
        _ if data.len() > 125 => Err(1002),
        [high, low, text @ ..] => {
            let code = u16::from(*high) << 8 | u16::from(*low);
            if !may_travel(code) {
                Err(1002)
            } else if !is_utf8(text) {
                Err(1007)
            } else {
                Ok(Some((code, text)))
            }
        }
    }
}

/// RFC 6455 section 7.4 and IANA's registry, one by one.
fn may_travel(code: u16) -> bool {
    let registered = [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014];
    registered.contains(&code) || (3000..5000).contains(&code)
}

/// The grammar of RFC 3629 section 4.
fn is_utf8(mut bytes: &[u8]) -> bool {
    const TAIL: std::ops::RangeInclusive<u8> = 0x80..=0xbf;
    let tails = |bytes: &[u8]| bytes.iter().all(|byte| TAIL.contains(byte));
    loop {
        bytes = match bytes {
            [] => return true,
            [0..=0x7f, rest @ ..] => rest,
            [0xc2..=0xdf, a, rest @ ..] if tails(&[*a]) => rest,
            [0xe0, 0xa0..=0xbf, a, rest @ ..] if tails(&[*a]) => rest,
            [0xe1..=0xec | 0xee..=0xef, a, b, rest @ ..] if tails(&[*a, *b]) => rest,
            [0xed, 0x80..=0x9f, a, rest @ ..] if tails(&[*a]) => rest,
            [0xf0, 0x90..=0xbf, a, b, rest @ ..] if tails(&[*a, *b]) => rest,
            [0xf1..=0xf3, a, b, c, rest @ ..] if tails(&[*a, *b, *c]) => rest,
            [0xf4, 0x80..=0x8f, a, b, rest @ ..] if tails(&[*a, *b]) => rest,
            _ => return false,
        }
    }
}
