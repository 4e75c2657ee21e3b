//! Peers that are bytes: they are written, cut as they are given, and then the peer answers, ends or
//! resets.

use std::{io, time::Duration};

use drivetrain::WebSockets;
use drivetrain_engine::Capability;

use super::table::End;
use crate::{
    context::Context,
    expect::text,
    failure::{Failure, Verdict},
    line::Line,
    peer::{Conn, WireFrame, opcode},
    script::{PeerBehaviour::Polite, Saw, Script},
};

/// Between two segments, so that they are not read as one.
const GAP: Duration = Duration::from_micros(300);
/// Waits until the written bytes are read.
pub(super) const READ: Duration = Duration::from_millis(50);

/// Limits that are lower than what a peer promises.
pub(super) const MAX_FRAME: usize = 1000;
pub(super) const MAX_MESSAGE: usize = 2500;

/// One peer, or several with the same result.
#[derive(Default)]
pub(crate) struct Bytes {
    /// For each peer the TCP segments that it sends behind the handshake.
    pub(crate) peers: Vec<Vec<Vec<u8>>>,
    pub(crate) then: Then,
    pub(crate) limits: Limits,
    /// The texts that the application gets.
    pub(crate) texts: Vec<&'static str>,
    /// The payloads of the pongs that the peer gets.
    pub(crate) pongs: Vec<&'static str>,
}

/// What the peer does when it has sent everything.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Then {
    /// It answers as a server should.
    #[default]
    Attend,
    /// It ends its direction, and reads on.
    End,
    /// It resets the connection.
    Reset,
}

/// The limits of the session.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Limits {
    #[default]
    Default,
    /// [`MAX_FRAME`] and [`MAX_MESSAGE`].
    Low,
    Off,
}

impl Limits {
    /// What they take of an engine.
    pub(super) fn needs(self) -> &'static [Capability] {
        match self {
            Self::Default => &[],
            _ => &[Capability::MaxFrameSize, Capability::MaxMessageSize],
        }
    }

    pub(crate) fn plugin(self) -> WebSockets {
        let (frame, message) = match self {
            Self::Default => return WebSockets::new(),
            Self::Low => (MAX_FRAME, MAX_MESSAGE),
            Self::Off => (usize::MAX, usize::MAX),
        };
        WebSockets::new().max_frame_size(frame).max_message_size(message)
    }
}

/// Peers of one segment each.
pub(super) fn whole(peers: impl IntoIterator<Item = Vec<u8>>) -> Bytes {
    of(peers.into_iter().map(|peer| vec![peer]).collect())
}

/// Peers of these segments.
pub(super) fn of(peers: Vec<Vec<Vec<u8>>>) -> Bytes {
    Bytes { peers, ..Bytes::default() }
}

/// The expected end of each peer.
pub(super) async fn come_to(cx: Context, bytes: &Bytes, end: End) -> Verdict {
    for (number, segments) in bytes.peers.iter().enumerate() {
        one_comes_to(&cx, bytes, segments.clone(), end)
            .await
            .map_err(|failure| Failure::new(format_args!("peer {number}: {failure}")))?;
    }
    Ok(())
}

async fn one_comes_to(cx: &Context, bytes: &Bytes, segments: Vec<Vec<u8>>, end: End) -> Verdict {
    let then = bytes.then;
    let mut peer = cx.peer(Polite, move |conn| {
        // A client that has seen enough does not take the rest.
        let _ = write_segments(conn, &segments);
        match then {
            Then::Attend => Ok(()),
            Then::End => conn.shutdown_write(),
            Then::Reset => {
                conn.pause(READ)?;
                conn.reset()
            }
        }
    });
    let client = cx.client_with(bytes.limits.plugin())?;
    let mut session = client.web_socket(peer.url()).connect().await?;
    for expected in &bytes.texts {
        assert_eq!(text(&mut session).await?, *expected);
    }
    end.of(&mut session).await?;
    if then == Then::Reset {
        return Ok(());
    }
    let (mut frames, last) = to_the_end(&mut peer).await?;
    assert!(matches!(last, Saw::End), "{frames:?}, {last:?}");
    if let Some(code) = end.wire() {
        let close = frames.pop().filter(|frame| frame.opcode == opcode::CLOSE);
        let close = close.ok_or_else(|| Failure::new("the last frame is no Close"))?;
        // Without a code it is 1005 (RFC 6455 section 7.1.5).
        let came = close.close_code().unwrap_or(1005);
        assert_eq!(came, code, "the code of the Close that the peer saw");
    }
    assert!(frames.iter().all(|frame| frame.opcode == opcode::PONG), "{frames:?}");
    let pongs: Vec<_> = frames.iter().map(|frame| frame.payload.as_slice()).collect();
    let expected: Vec<_> = bytes.pongs.iter().map(|payload| payload.as_bytes()).collect();
    // Behind a Close that the library echoes, no Pong goes out (RFC 6455 section 5.5.2).
    let is_cut = pongs.len() < expected.len() && expected.starts_with(&pongs);
    if is_cut && Line::open(cx, &cx.echo().ws_url("/echo")).await?.duties.echoes_close {
        return Ok(());
    }
    assert_eq!(pongs, expected);
    Ok(())
}

/// A text's first fragment.
pub(super) fn unfinished(text: &str) -> Vec<u8> {
    WireFrame { fin: false, ..WireFrame::text(text) }.encode(None)
}

pub(super) fn two(bytes: &[u8], at: usize) -> Vec<Vec<u8>> {
    let (first, second) = bytes.split_at(at);
    vec![first.to_vec(), second.to_vec()]
}

pub(super) fn bytewise(bytes: &[u8]) -> Vec<Vec<u8>> {
    bytes.iter().map(|byte| vec![*byte]).collect()
}

/// Writes each by itself.
pub(super) fn write_segments(conn: &mut Conn, segments: &[Vec<u8>]) -> io::Result<()> {
    for (i, segment) in segments.iter().enumerate() {
        if i > 0 {
            conn.pause(GAP)?;
        }
        conn.write_all(segment)?;
    }
    Ok(())
}

/// All frames that the peer still sees, and how the stream ends.
pub(super) async fn to_the_end(peer: &mut Script) -> Verdict<(Vec<WireFrame>, Saw)> {
    let mut frames = Vec::new();
    loop {
        match peer.next().await? {
            Saw::Frame(frame) => frames.push(frame),
            end => return Ok((frames, end)),
        }
    }
}
