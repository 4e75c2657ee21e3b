//! Frames that pass under any limit, and frames that no transport lets pass.

use drivetrain::{Capability, ErrorKind, OpCode};
use futures_util::TryFutureExt as _;

use crate::{
    CountedStream,
    case::{Case, case},
    context::{Context, PATIENCE},
    failure::{Failure, Verdict},
    line::{Line, NO_LIMIT},
    peer::{LengthEncoding, WireFrame, frame_header, opcode},
};

pub(super) fn cases() -> Vec<Case> {
    let mut cases = vec![
        case(control_frames_are_not_under_max_payload),
        case(frames_behind_the_101_are_not_lost_on_a_callers_stream)
            .needs(&[Capability::CallerStream]),
    ];
    for (name, bytes) in broken_frames() {
        let check = move |cx: Context| is_refused(cx, bytes.clone()).map_ok(drop);
        cases.push(
            case(check).named("reports::contract::frames", format_args!("{name}_is_refused")),
        );
    }
    cases.into_iter().map(|case| case.needs(&[Capability::WebSockets])).collect()
}

/// A Close has to arrive under any limit.
async fn control_frames_are_not_under_max_payload(cx: Context) -> Verdict {
    for limit in [0, 1, 124] {
        let server = cx.server(|conn| {
            conn.accept_web_socket()?;
            for opcode in [opcode::PING, opcode::PONG] {
                conn.send(&WireFrame::new(opcode, [b'x'; 125]))?;
            }
            conn.send(&WireFrame::close(1000, &"y".repeat(123)))?;
            conn.drain()
        });
        let mut line = Line::open(&cx, &server.ws_url("/")).await?;
        loop {
            let frame = match line.receive(limit).await? {
                Ok(frame) => frame,
                Err(error) => {
                    return Err(Failure::new(format_args!(
                        "a control frame of 125 bytes was refused with max_payload = {limit}, which is for data \
                         frames: {error:?}"
                    )));
                }
            };
            let frame = frame.ok_or_else(|| Failure::new("the stream ended without the Close"))?;
            assert_eq!(frame.payload.len(), 125, "{frame:?}");
            if frame.opcode == OpCode::Close {
                break;
            }
        }
    }
    Ok(())
}

/// Frames that break RFC 6455 section 5.
fn broken_frames() -> Vec<(String, Vec<u8>)> {
    use LengthEncoding::{Minimal, Sixteen, SixtyFour};
    let mut all = Vec::new();
    for (name, opcode) in [("close", opcode::CLOSE), ("ping", opcode::PING), ("pong", opcode::PONG)]
    {
        let mut frame = frame_header(false, 0, opcode, false, Minimal, 2);
        frame.extend([0x03, 0xe8]);
        all.push((format!("a_{name}_in_fragments"), frame));
        for length in [126, 127, 70_000] {
            let mut frame = frame_header(true, 0, opcode, false, Minimal, length);
            frame.extend([0x03, 0xe8]);
            frame.resize(frame.len() + length as usize - 2, b'x');
            all.push((format!("a_{name}_of_{length}_bytes"), frame));
        }
    }
    for opcode in (3..=7).chain(11..=15) {
        let mut frame = frame_header(true, 0, opcode, false, Minimal, 1);
        frame.push(b'x');
        all.push((format!("opcode_{opcode}"), frame));
    }
    for (name, encoding) in [("16", Sixteen), ("64", SixtyFour)] {
        let mut frame = frame_header(true, 0, opcode::BINARY, false, encoding, 5);
        frame.extend(b"five!");
        all.push((format!("a_length_of_5_in_{name}_bits"), frame));
    }
    all.push((
        "a_frame_with_a_mask".into(),
        WireFrame::binary("masked").encode(Some([1, 2, 3, 4])),
    ));
    all
}

/// By the transport, as the session sees frames only.
async fn is_refused(cx: Context, bytes: Vec<u8>) -> Verdict {
    let server = cx.server(move |conn| {
        conn.accept_web_socket()?;
        conn.write_all(&bytes)?;
        conn.drain()
    });
    let mut line = Line::open(&cx, &server.ws_url("/")).await?;
    let received = cx.within(PATIENCE / 4, "it is refused", line.receive(NO_LIMIT)).await;
    let received = received.map_err(|_| {
        Failure::new(
            "a frame that breaks RFC 6455 section 5 was ignored: it is an error of kind Protocol",
        )
    })?;
    match received? {
        Err(error) if error.kind() == ErrorKind::Protocol => Ok(()),
        Err(error) => Err(Failure::new(format_args!(
            "a frame that breaks RFC 6455 section 5 is an error of kind Protocol, not {error:?}"
        ))),
        Ok(came) => Err(Failure::new(format_args!(
            "a frame that breaks RFC 6455 section 5 was taken as {came:?}: it is an error of kind Protocol"
        ))),
    }
}

/// A server may send frames in the segment of its answer.
async fn frames_behind_the_101_are_not_lost_on_a_callers_stream(cx: Context) -> Verdict {
    for hesitates in [false, true] {
        let server = cx.server(|conn| {
            let request = conn.read_request()?.ok_or(std::io::ErrorKind::UnexpectedEof)?;
            let large = WireFrame::binary(vec![7; 20_000]).encode(None);
            let (part, rest) = large.split_at(5000);
            // In one write: the head, a frame, and a part of another.
            let behind = [&WireFrame::text("first").encode(None), part].concat();
            conn.accept_with_tail(&request, &[], &behind)?;
            conn.write_all(rest)?;
            conn.drain()
        });
        let stream = CountedStream::connect(server.addr())?;
        let stream = if hesitates { stream.hesitating(3) } else { stream };
        let opened = Line::over(&cx, stream, &server.ws_url("/")).await?;
        let mut line = opened.ok_or_else(|| Failure::new("the subject takes no stream"))?;
        for (length, which) in [(5, "the first"), (20_000, "the second")] {
            let came = cx
                .within(PATIENCE / 2, which, line.receive(NO_LIMIT))
                .await
                .map_err(|_| lost(which))??;
            // Of a frame whose beginning was lost the rest is taken for frames.
            let Ok(Some(frame)) = came else { return Err(lost(which)) };
            assert_eq!(frame.payload.len(), length, "{which} frame");
        }
    }
    Ok(())
}

fn lost(which: &str) -> Failure {
    Failure::new(format_args!(
        "{which} frame came in the segment of the 101 and was lost: what was read behind the head belongs to the \
         transport"
    ))
}
