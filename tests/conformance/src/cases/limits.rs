//! Limits, and peers that break rules: each gets its Close, and the session its error.

use std::sync::Arc;

use drivetrain::{Capability, ErrorKind, WebSockets};
use drivetrain_engine::Capability::{MaxFrameSize, MaxMessageSize};

use crate::{
    case::{Case, case},
    context::Context,
    expect::{echoes, ends_with, fails, message, reason},
    failure::Verdict,
    peer::{LengthEncoding, WireFrame, frame_header, opcode},
    script::Manners::Polite,
};

const MAX_FRAME: usize = 1000;
const MAX_MESSAGE: usize = 2500;

/// What a peer must not do.
struct Violation {
    name: String,
    bytes: Vec<u8>,
    kind: ErrorKind,
    code: u16,
}

pub(super) fn cases() -> Vec<Case> {
    let mut cases = vec![
        case(the_largest_frame_and_message_are_received),
        case(a_message_above_the_limit_is_not_sent).needs(&[MaxMessageSize]),
        case(messages_go_out_in_frames_within_the_limit)
            .needs(&[MaxFrameSize, Capability::SendFragments]),
        case(a_requests_limit_can_only_be_lower).needs(&[MaxMessageSize]),
    ];
    for Violation { name, bytes, kind, code } in violations() {
        let bytes = Arc::new(bytes);
        let violated = case(move |cx| a_violation_ends_the_session(cx, bytes.clone(), kind, code));
        cases.push(violated.named("limits", name).needs(&[MaxFrameSize, MaxMessageSize]));
    }
    cases.into_iter().map(|case| case.needs(&[Capability::WebSockets])).collect()
}

/// The peer gets a Close with this code and sees the stream end after it, and the session has the error.
async fn a_violation_ends_the_session(
    cx: Context,
    bytes: Arc<Vec<u8>>,
    kind: ErrorKind,
    code: u16,
) -> Verdict {
    let mut peer = cx.peer(Polite, move |conn| conn.write_all(&bytes));
    let mut session = limited(&cx)?.web_socket(peer.url()).connect().await?;
    let outcome = ends_with(&mut session, kind).await?;
    assert_eq!(reason(&outcome.sent).map(|(code, _)| code), Some(code));
    assert_eq!(peer.close().await?.0, Some(code));
    peer.end().await
}

/// `TooBig` and Close 1009, as soon as it is announced.
pub(super) async fn a_frame_above_the_limit_is_refused(cx: Context) -> Verdict {
    let mut peer = cx.peer(Polite, |conn| conn.send(&WireFrame::binary(vec![0; MAX_FRAME + 1])));
    let client = cx.client_with(WebSockets::new().max_frame_size(MAX_FRAME))?;
    let mut session = client.web_socket(peer.url()).connect().await?;
    ends_with(&mut session, ErrorKind::TooBig).await?;
    assert_eq!(peer.close().await?.0, Some(1009));
    Ok(())
}

/// `TooBig` and Close 1009, whether it comes whole or in fragments.
pub(super) async fn a_message_above_the_limit_is_refused(cx: Context) -> Verdict {
    for fin in [true, false] {
        let mut peer = cx.peer(Polite, move |conn| {
            conn.feed(&WireFrame { fin, ..WireFrame::binary(vec![0; MAX_MESSAGE]) });
            conn.send(&match fin {
                true => WireFrame::binary(vec![0; MAX_MESSAGE + 1]),
                false => WireFrame::continuation([0], true),
            })
        });
        let client = cx.client_with(WebSockets::new().max_message_size(MAX_MESSAGE))?;
        let mut session = client.web_socket(peer.url()).connect().await?;
        if fin {
            assert_eq!(message(&mut session).await?.read_bytes().len(), MAX_MESSAGE);
        }
        ends_with(&mut session, ErrorKind::TooBig).await?;
        assert_eq!(peer.close().await?.0, Some(1009));
    }
    Ok(())
}

/// Exactly at the limits there is no error.
async fn the_largest_frame_and_message_are_received(cx: Context) -> Verdict {
    let peer = cx.peer(Polite, |conn| {
        conn.feed(&WireFrame::binary(vec![1; MAX_FRAME]));
        conn.feed(&WireFrame { fin: false, ..WireFrame::binary(vec![1; MAX_FRAME]) });
        conn.feed(&WireFrame::continuation(vec![1; MAX_FRAME], false));
        conn.send(&WireFrame::continuation(vec![1; MAX_MESSAGE - 2 * MAX_FRAME], true))
    });
    let mut session = limited(&cx)?.web_socket(peer.url()).connect().await?;
    for len in [MAX_FRAME, MAX_MESSAGE] {
        assert_eq!(message(&mut session).await?.read_bytes().len(), len);
    }
    Ok(())
}

/// It is refused before anything is sent, and the session goes on.
async fn a_message_above_the_limit_is_not_sent(cx: Context) -> Verdict {
    let server = cx.echo();
    let client = cx.client_with(WebSockets::new().max_message_size(MAX_MESSAGE))?;
    let mut session = client.web_socket(server.ws_url("/echo")).connect().await?;
    for _ in 0..2 {
        fails(session.send(vec![0; MAX_MESSAGE + 1]).await, ErrorKind::TooBig)?;
        fails(session.feed("x".repeat(MAX_MESSAGE + 1)).await, ErrorKind::TooBig)?;
        echoes(&mut session, vec![0; MAX_MESSAGE]).await?;
    }
    assert_eq!(server.messages(), 2);
    Ok(())
}

/// The limit for frames holds for those that go out, too.
async fn messages_go_out_in_frames_within_the_limit(cx: Context) -> Verdict {
    let mut peer = cx.peer(Polite, |_| Ok(()));
    let client = cx.client_with(WebSockets::new().max_frame_size(MAX_FRAME))?;
    let session = client.web_socket(peer.url()).connect().await?;
    session.send(vec![0; 3 * MAX_FRAME + 1]).await?;
    for len in [MAX_FRAME, MAX_FRAME, MAX_FRAME, 1] {
        assert_eq!(peer.frame().await?.payload.len(), len);
    }
    Ok(())
}

/// Of the plugin's limit and the request's, the smaller one holds.
async fn a_requests_limit_can_only_be_lower(cx: Context) -> Verdict {
    let server = cx.echo();
    let client = cx.client_with(WebSockets::new().max_message_size(100))?;
    for (on_request, effective) in [(10, 10), (1000, 100)] {
        let request = client.web_socket(server.ws_url("/echo")).max_message_size(on_request);
        let mut session = request.connect().await?;
        echoes(&mut session, vec![0; effective]).await?;
        fails(session.send(vec![0; effective + 1]).await, ErrorKind::TooBig)?;
    }
    Ok(())
}

fn limited(cx: &Context) -> Verdict<drivetrain::HttpClient> {
    let plugin = WebSockets::new().max_frame_size(MAX_FRAME).max_message_size(MAX_MESSAGE);
    cx.client_with(plugin)
}

fn violations() -> Vec<Violation> {
    let mut violations = Vec::new();
    let mut add = |name: &str, frames: &[WireFrame], kind, code| {
        let bytes = frames.iter().flat_map(|frame| frame.encode(None)).collect();
        violations.push(Violation { name: name.into(), bytes, kind, code });
    };
    let part = |payload: &[u8]| WireFrame { fin: false, ..WireFrame::text(payload) };
    let (protocol, next) = (ErrorKind::Protocol, WireFrame::continuation);

    add("text_that_is_not_utf_8", &[WireFrame::text([b'a', 0xFF])], protocol, 1007);
    add("text_with_a_surrogate", &[WireFrame::text([0xED, 0xA0, 0x80])], protocol, 1007);
    add("text_that_ends_within_a_character", &[WireFrame::text([0xE2, 0x82])], protocol, 1007);
    let halves = [part(&[0xE2, 0x82]), next(vec![b'x'], true)];
    add("text_that_is_not_utf_8_across_fragments", &halves, protocol, 1007);
    let halves = [part(b"a"), next(vec![0xE2, 0x82], true)];
    add("fragments_that_end_within_a_character", &halves, protocol, 1007);

    for rsv in [1, 2, 4] {
        let frame = WireFrame { rsv, ..WireFrame::text("a") };
        add(&format!("reserved_bit_{rsv}"), &[frame], protocol, 1002);
    }
    let ping = WireFrame { rsv: 4, ..WireFrame::ping("a") };
    add("a_reserved_bit_on_a_ping", &[ping], protocol, 1002);
    for code in (3..=7).chain(11..=15) {
        let frame = WireFrame::new(code, "a");
        add(&format!("reserved_opcode_{code}"), &[frame], protocol, 1002);
    }
    for code in [opcode::PING, opcode::PONG, opcode::CLOSE] {
        let frame = WireFrame { fin: false, ..WireFrame::new(code, "") };
        add(&format!("a_fragmented_control_frame_{code}"), &[frame], protocol, 1002);
        let frame = WireFrame::new(code, vec![b'a'; 126]);
        add(&format!("a_control_frame_of_126_bytes_{code}"), &[frame], protocol, 1002);
    }
    add("a_continuation_of_nothing", &[next(b"a".into(), true)], protocol, 1002);
    add("an_unfinished_continuation_of_nothing", &[next(b"a".into(), false)], protocol, 1002);
    add("a_message_within_a_message", &[part(b"a"), WireFrame::text("b")], protocol, 1002);
    add("fragments_within_fragments", &[part(b"a"), part(b"b")], protocol, 1002);

    add("a_close_of_one_byte", &[WireFrame::new(opcode::CLOSE, [3])], protocol, 1002);
    for code in [0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 65_535] {
        let frame = WireFrame::close(code, "");
        add(&format!("close_code_{code}"), &[frame], protocol, 1002);
    }
    let close = WireFrame::new(opcode::CLOSE, [0x03, 0xE8, b'a', 0xFF]);
    add("a_close_reason_that_is_not_utf_8", &[close], protocol, 1007);

    let whole = |len: usize| next(vec![0; len], false);
    let begun = [WireFrame { fin: false, ..WireFrame::binary(vec![0; 900]) }, whole(900)];
    let begun: Vec<u8> = begun.iter().flat_map(|frame| frame.encode(None)).collect();
    let announced =
        |opcode, len| frame_header(true, 0, opcode, false, LengthEncoding::Minimal, len);
    let mut add_bytes = |name: &str, bytes: Vec<u8>, kind, code| {
        violations.push(Violation { name: name.into(), bytes, kind, code });
    };
    // Nothing of the payload follows: they are refused as soon as they are announced.
    let too_big = announced(opcode::BINARY, MAX_FRAME as u64 + 1);
    add_bytes("a_frame_that_is_too_big", too_big, ErrorKind::TooBig, 1009);
    let huge = announced(opcode::TEXT, 1 << 62);
    add_bytes("a_frame_that_is_far_too_big", huge, ErrorKind::TooBig, 1009);
    let rest = announced(opcode::CONTINUATION, (MAX_MESSAGE - 1800) as u64 + 1);
    let message = [begun, rest].concat();
    add_bytes("a_message_that_is_too_big", message, ErrorKind::TooBig, 1009);
    let masked = WireFrame::text("a").encode(Some([1, 2, 3, 4]));
    add_bytes("a_masked_frame", masked, protocol, 1002);
    let top_bit = frame_header(true, 0, opcode::BINARY, false, LengthEncoding::SixtyFour, 1 << 63);
    add_bytes("a_length_with_its_top_bit_set", top_bit, protocol, 1002);
    violations
}
