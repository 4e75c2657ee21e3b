//! What a header costs whose payload has not come.

use std::{fs, time::Duration};

use drivetrain::Capability;

use crate::{
    case::{Case, case},
    context::Context,
    failure::{Failure, Verdict},
    line::{Line, NO_LIMIT},
    peer::{LengthEncoding, frame_header, opcode},
};

/// What each header announces.
const ANNOUNCED: u64 = 64 << 20;
const CONNECTIONS: u64 = 4;

pub(super) fn cases() -> Vec<Case> {
    vec![case(a_header_is_no_reason_to_take_memory).needs(&[Capability::WebSockets]).alone()]
}

/// Below the limit, memory grows with received bytes, not with announced ones. Measured on Linux only.
async fn a_header_is_no_reason_to_take_memory(cx: Context) -> Verdict {
    let server = cx.server(|conn| {
        conn.accept_web_socket()?;
        let binary = opcode::BINARY;
        let header = frame_header(true, 0, binary, false, LengthEncoding::Minimal, ANNOUNCED);
        conn.write_all(&header)?;
        conn.write_all(b"four")?;
        conn.hold()
    });
    // The header may be read with the answer to the handshake.
    let before = anonymous();
    let mut lines = Vec::new();
    for _ in 0..CONNECTIONS {
        lines.push(Line::open(&cx, &server.ws_url("/")).await?);
    }
    for line in &mut lines {
        // The header has come, and nothing of it is given out.
        let waiting = cx.within(Duration::from_millis(300), "", line.receive(NO_LIMIT)).await;
        if let Ok(came) = waiting {
            return Err(Failure::new(format_args!(
                "a frame that has not come was given: {came:?}"
            )));
        }
    }
    let grown = anonymous().saturating_sub(before);
    if grown >= CONNECTIONS * ANNOUNCED / 4 {
        let (grown, announced) = (grown >> 20, ANNOUNCED >> 20);
        return Err(Failure::new(format_args!(
            "{CONNECTIONS} headers of 10 bytes, each announcing {announced} MiB of which 4 bytes came, cost {grown} \
             MiB: memory has to grow with what arrives, not with what is announced"
        )));
    }
    Ok(())
}

/// Bytes of this process that are in memory and of no file; 0 where the system does not say.
fn anonymous() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"));
    let number = line.and_then(|line| line.trim().split(' ').next()?.parse::<u64>().ok());
    number.unwrap_or_default() << 10
}
