//! The suite's hostile peers as clients: the same bytes with masks, and the same ends.

use std::{io, net::Shutdown, thread, time::Duration};

use super::{ServerCase, case};
use crate::{
    cases::hostile::{self, Bytes, End, Peer, Then},
    failure::{Failure, Verdict},
    peer::{Client, WireFrame, is_end, mirrored, opcode},
    server::context::{ServerContext, Started, echo},
};

/// Between two segments, so that they are not read as one.
const GAP: Duration = Duration::from_micros(300);

pub(super) fn cases() -> Vec<ServerCase> {
    let rows = hostile::parts().into_iter().flat_map(|(_, rows)| rows);
    rows.filter_map(|row| {
        let Peer::Bytes(bytes) = row.peer else { return None };
        let (topic, name) = row.name.split_once("::").unwrap_or(("hostile", &row.name));
        let (end, deviation) = (row.end, row.deviation);
        let checked = case(move |cx: &ServerContext| {
            let deviates = |&(deviation, _): &_| cx.deviates(deviation);
            let end = deviation.filter(deviates).map_or(end, |(_, end)| end);
            come_to(cx, &bytes, end)
        });
        Some(checked.named(topic, name.replace("masked", "unmasked")))
    })
    .collect()
}

/// The expected end of each client.
fn come_to(cx: &ServerContext, bytes: &Bytes, end: End) -> Verdict {
    let server = cx.start(cx.upgrader().install(bytes.limits.plugin()), echo);
    for (number, segments) in bytes.peers.iter().enumerate() {
        one_comes_to(&server, bytes, &mirrored(segments), end)
            .map_err(|failure| Failure::new(format_args!("client {number}: {failure}")))?;
    }
    Ok(())
}

fn one_comes_to(server: &Started, bytes: &Bytes, segments: &[Vec<u8>], end: End) -> Verdict {
    let mut client = server.client()?;
    // A server that has seen enough does not take the rest.
    let is_cut = match write_segments(&mut client, segments) {
        Err(error) if !is_end(&error) => return Err(error.into()),
        written => written.is_err(),
    };
    if bytes.then == Then::Reset {
        for expected in &bytes.texts {
            assert_eq!(client.text()?, *expected);
        }
        return Ok(client.reset()?);
    }
    if bytes.then == Then::End && !is_cut {
        match client.socket().shutdown(Shutdown::Write) {
            Err(error) if error.kind() != io::ErrorKind::NotConnected => return Err(error.into()),
            _ => {}
        }
    }
    let mut frames = to_the_end(&mut client, end)?;
    if let Some(code) = end.wire() {
        let close = frames.pop().filter(|frame| frame.opcode == opcode::CLOSE);
        let close = close.ok_or_else(|| Failure::new("the last frame is no Close"))?;
        // Without a code it is 1005 (RFC 6455 section 7.1.5).
        assert_eq!(close.close_code().unwrap_or(1005), code, "the code of the server's Close");
    }
    let (pongs, messages): (Vec<_>, Vec<_>) =
        frames.into_iter().partition(|frame| frame.opcode == opcode::PONG);
    let pongs: Vec<_> = pongs.iter().map(|frame| frame.payload.as_slice()).collect();
    let expected: Vec<_> = bytes.pongs.iter().map(|payload| payload.as_bytes()).collect();
    // Behind a Close that the library echoes, no Pong goes out (RFC 6455 section 5.5.2).
    assert!(expected.starts_with(&pongs), "{pongs:?} instead of {expected:?}");
    let texts: Vec<_> = messages.iter().map(|frame| frame.payload.as_slice()).collect();
    let expected: Vec<_> = bytes.texts.iter().map(|text| text.as_bytes()).collect();
    // Behind the peer's Close no echo goes out.
    assert!(expected.starts_with(&texts), "{texts:?} instead of {expected:?}");
    Ok(())
}

fn write_segments(client: &mut Client, segments: &[Vec<u8>]) -> io::Result<()> {
    for (i, segment) in segments.iter().enumerate() {
        if i > 0 {
            thread::sleep(GAP);
        }
        client.write(segment)?;
    }
    Ok(())
}

/// The server's frames. A Close that says what is wrong is answered, then the server ends the connection.
fn to_the_end(client: &mut Client, end: End) -> Verdict<Vec<WireFrame>> {
    let mut frames = Vec::new();
    loop {
        match client.receive() {
            Ok(None) => return Ok(frames),
            // Where it ends by itself, and not with a Close, bytes of ours may lie unread at its end.
            Err(error) if is_end(&error) && (end.wire().is_none() || is_told(&frames)) => {
                return Ok(frames);
            }
            Err(error) => return Err(Failure::new(format_args!("{error}, after {frames:?}"))),
            Ok(Some(frame)) if frame.opcode == opcode::PING => {}
            Ok(Some(frame)) => {
                if frame.opcode == opcode::CLOSE && !end.is_clean() {
                    // The server may be gone already.
                    let _ = client.send(&WireFrame::close(frame.close_code(), ""));
                }
                frames.push(frame);
            }
        }
    }
}

fn is_told(frames: &[WireFrame]) -> bool {
    frames.last().is_some_and(|frame| frame.opcode == opcode::CLOSE)
}
