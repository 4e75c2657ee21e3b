//! The least of HTTP/2 (RFC 9113) that answers requests, frame by frame.

use std::collections::{HashMap, HashSet};
use std::io;

use super::conn::Conn;
use super::wire::{WireFrame, invalid, opcode};

const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

pub(super) const DATA: u8 = 0;
pub(super) const HEADERS: u8 = 1;
pub(super) const RST_STREAM: u8 = 3;
pub(super) const SETTINGS: u8 = 4;
const PING: u8 = 6;
pub(super) const GOAWAY: u8 = 7;
pub(super) const WINDOW_UPDATE: u8 = 8;

/// What any peer takes in a frame.
const LONGEST: usize = 1 << 14;

/// SETTINGS_ENABLE_CONNECT_PROTOCOL, set to 1 (RFC 8441 section 3).
pub(super) const ALLOWED: [u8; 6] = [0, 8, 0, 0, 0, 1];

/// SETTINGS_MAX_CONCURRENT_STREAMS, set to 1 (RFC 9113 section 6.5.2).
const ONE_STREAM: [u8; 6] = [0, 3, 0, 0, 0, 1];

const ACK: u8 = 1;
pub(super) const END_STREAM: u8 = 1;
pub(super) const END_HEADERS: u8 = 4;

/// `:status: 200` of HPACK's static table.
pub(super) const OK: [u8; 1] = [0x88];
/// `:status: 404` of the same.
const NOT_FOUND: [u8; 1] = [0x8d];
/// `:method: POST` of the same: with a body. A head without an end that begins otherwise is a CONNECT.
const POST: u8 = 0x83;

/// An error code: the stream is no longer needed.
const CANCEL: [u8; 4] = [0, 0, 0, 8];

/// What a server does about WebSockets over HTTP/2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Http2Sockets {
    /// It does not say that it knows them.
    Unknown,
    /// It echoes what comes, on each of them. One that has been closed is reset, as haproxy does.
    Echoed,
    /// The same, and it agrees to permessage-deflate: what comes compressed goes back as it came.
    Deflated,
    /// It closes each at its first message, and ends the connection with the second if a client resets it before
    /// it has ended here: an intermediary may discard data that a reset overtakes.
    Closed,
    /// It says that it knows them, and answers 404.
    Refused,
    /// It echoes what comes on one of them a connection, which is all that it allows.
    One,
    /// It opens them, and breaks its word.
    Failing(Http2Failure),
}

/// What a server does instead of carrying a WebSocket on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Http2Failure {
    /// It sends nothing, not even its SETTINGS.
    NoSettings,
    /// It does not answer.
    Silence,
    /// Its answer is the end of the stream.
    EndsAtOnce,
    /// Its answer selects a subprotocol without an offer.
    UnaskedSubprotocol,
    /// It resets the connection's first stream when something comes on it, and echoes on the others.
    Resets,
    /// It ends the connection's first stream without a Close when something comes on it, and echoes on the
    /// others.
    EndsStream,
    /// It answers a second time when something comes.
    AnswersTwice,
    /// It announces the end of the connection, and continues open streams.
    GoesAway,
    /// It closes the connection when something comes.
    Leaves,
}

/// A handler for connections on which `h2` was negotiated: it answers each request with 200 and the
/// number of the connection as its text.
pub fn serve_http2(conn: &mut Conn, sockets: Http2Sockets) -> io::Result<()> {
    let mut preface = [0; PREFACE.len()];
    conn.read_exact(&mut preface)?;
    if preface != *PREFACE {
        return Err(invalid("it is not HTTP/2"));
    }
    if sockets == Http2Sockets::Failing(Http2Failure::NoSettings) {
        return conn.drain();
    }
    let settings = match sockets {
        Http2Sockets::Unknown => Vec::new(),
        Http2Sockets::One => [ALLOWED, ONE_STREAM].concat(),
        _ => ALLOWED.to_vec(),
    };
    send(conn, SETTINGS, 0, 0, &settings)?;
    let mut open: HashMap<u32, Vec<u8>> = HashMap::new();
    // What still comes on a socket that has ended here is no request.
    let (mut closing, mut ended) = (Vec::new(), HashSet::new());
    while let Some(frame) = receive(conn)? {
        let Frame { kind, flags, stream, payload } = frame;
        match (kind, flags & ACK != 0) {
            (SETTINGS, false) => send(conn, SETTINGS, ACK, 0, &[])?,
            (PING, false) => send(conn, PING, ACK, 0, &payload)?,
            (HEADERS, _) if flags & END_HEADERS == 0 => {
                return Err(invalid("the request's head is longer than a test's"));
            }
            (PING, true) => {
                for stream in closing.drain(..) {
                    send(conn, DATA, END_STREAM, stream, &[])?;
                    ended.insert(stream);
                }
            }
            (RST_STREAM, _) if sockets == Http2Sockets::Closed && !ended.contains(&stream) => {
                return Err(invalid("the stream was reset before it had ended here"));
            }
            (DATA, _) if sockets == Http2Sockets::Closed && open.contains_key(&stream) => {
                let waiting = open.entry(stream).or_default();
                waiting.extend_from_slice(&payload);
                while let Some((frame, length)) = WireFrame::decode(waiting)? {
                    waiting.drain(..length);
                    if frame.opcode != opcode::CLOSE {
                        send(conn, DATA, 0, stream, &WireFrame::close(1000, "").encode(None))?;
                    }
                }
                if flags & END_STREAM != 0 {
                    open.remove(&stream);
                    closing.push(stream);
                    // What the client did about the stream comes before the answer.
                    send(conn, PING, 0, 0, &[0; 8])?;
                }
            }
            (DATA, _) if open.contains_key(&stream) => {
                if let Http2Sockets::Failing(failure) = sockets {
                    match fail(conn, stream, failure)? {
                        Then::GoOn => {}
                        Then::Forget => {
                            open.remove(&stream);
                            ended.insert(stream);
                            continue;
                        }
                        Then::Leave => return Ok(()),
                    }
                }
                let is_over = flags & END_STREAM != 0;
                if echo(conn, stream, open.entry(stream).or_default(), &payload, is_over)? {
                    open.remove(&stream);
                    ended.insert(stream);
                }
            }
            (DATA, _) if ended.contains(&stream) => {}
            (HEADERS, false) if payload.first() != Some(&POST) => {
                conn.count_request();
                if answer(conn, stream, sockets)? {
                    open.insert(stream, Vec::new());
                }
            }
            // A request's head or, behind its body, its trailers.
            (HEADERS | DATA, _) if flags & END_STREAM != 0 => {
                conn.count_request();
                let text = conn.id().to_string();
                send(conn, HEADERS, END_HEADERS, stream, &OK)?;
                send(conn, DATA, END_STREAM, stream, text.as_bytes())?;
            }
            (GOAWAY, _) => return Ok(()),
            _ => {}
        }
    }
    Ok(())
}

/// Answers the request for a WebSocket; `true` if it is open.
fn answer(conn: &mut Conn, stream: u32, sockets: Http2Sockets) -> io::Result<bool> {
    use Http2Failure::{EndsAtOnce, Silence, UnaskedSubprotocol};
    let (flags, head) = match sockets {
        Http2Sockets::Unknown | Http2Sockets::Refused => {
            (END_HEADERS | END_STREAM, NOT_FOUND.to_vec())
        }
        Http2Sockets::Failing(Silence) => return Ok(false),
        Http2Sockets::Failing(EndsAtOnce) => (END_HEADERS | END_STREAM, OK.to_vec()),
        Http2Sockets::Failing(UnaskedSubprotocol) => {
            (END_HEADERS, [&OK[..], b"\0\x16sec-websocket-protocol\x04chat"].concat())
        }
        Http2Sockets::Deflated => {
            let header = b"\0\x18sec-websocket-extensions\x12permessage-deflate";
            (END_HEADERS, [&OK[..], header].concat())
        }
        _ => (END_HEADERS, OK.to_vec()),
    };
    send(conn, HEADERS, flags, stream, &head)?;
    Ok(flags & END_STREAM == 0)
}

/// What comes after a failure.
enum Then {
    GoOn,
    Forget,
    Leave,
}

/// Something has come on this stream.
fn fail(conn: &mut Conn, stream: u32, failure: Http2Failure) -> io::Result<Then> {
    const CANCEL: [u8; 4] = [0, 0, 0, 8];
    let is_first = stream == 1;
    match failure {
        Http2Failure::Resets if is_first => send(conn, RST_STREAM, 0, stream, &CANCEL)?,
        Http2Failure::EndsStream if is_first => send(conn, DATA, END_STREAM, stream, &[])?,
        Http2Failure::AnswersTwice => send(conn, HEADERS, END_HEADERS, stream, &OK)?,
        Http2Failure::GoesAway => {
            let last = u32::from(u16::MAX).to_be_bytes();
            send(conn, GOAWAY, 0, 0, &[last, [0; 4]].concat())?;
            return Ok(Then::GoOn);
        }
        Http2Failure::Leaves => return Ok(Then::Leave),
        _ => return Ok(Then::GoOn),
    }
    Ok(Then::Forget)
}

/// Echoes the frames that are whole by now; `true` if the stream is over.
fn echo(
    conn: &mut Conn,
    stream: u32,
    waiting: &mut Vec<u8>,
    payload: &[u8],
    is_over: bool,
) -> io::Result<bool> {
    if !payload.is_empty() {
        let credit = u32::try_from(payload.len()).unwrap_or(u32::MAX).to_be_bytes();
        send(conn, WINDOW_UPDATE, 0, 0, &credit)?;
        if !is_over {
            send(conn, WINDOW_UPDATE, 0, stream, &credit)?;
        }
    }
    waiting.extend_from_slice(payload);
    while let Some((frame, length)) = WireFrame::decode(waiting)? {
        waiting.drain(..length);
        if !frame.masked {
            return Err(invalid("a client's frame is masked over HTTP/2 too"));
        }
        let is_close = frame.opcode == opcode::CLOSE;
        // Within the client's window, as a test's messages are.
        for chunk in (WireFrame { masked: false, ..frame }).encode(None).chunks(LONGEST) {
            send(conn, DATA, 0, stream, chunk)?;
        }
        if is_close {
            send(conn, DATA, END_STREAM, stream, &[])?;
            send(conn, RST_STREAM, 0, stream, &CANCEL)?;
            return Ok(true);
        }
    }
    if is_over {
        send(conn, DATA, END_STREAM, stream, &[])?;
    }
    Ok(is_over)
}

pub(super) struct Frame {
    pub(super) kind: u8,
    pub(super) flags: u8,
    pub(super) stream: u32,
    pub(super) payload: Vec<u8>,
}

/// Reads the client's preface and sends these settings.
pub(super) fn begin(conn: &mut Conn, settings: &[u8]) -> io::Result<()> {
    let mut preface = [0; PREFACE.len()];
    conn.read_exact(&mut preface)?;
    if preface != *PREFACE {
        return Err(invalid("it is not HTTP/2"));
    }
    send(conn, SETTINGS, 0, 0, settings)
}

/// Answers frames of the connection; `true` if it was one.
pub(super) fn routine(conn: &mut Conn, frame: &Frame) -> io::Result<bool> {
    match (frame.kind, frame.flags & ACK != 0) {
        (SETTINGS, false) => send(conn, SETTINGS, ACK, 0, &[])?,
        (PING, false) => send(conn, PING, ACK, 0, &frame.payload)?,
        (SETTINGS | PING, true) => {}
        _ => return Ok(false),
    }
    Ok(true)
}

/// The next frame; `None` at the end of the stream.
pub(super) fn receive(conn: &mut Conn) -> io::Result<Option<Frame>> {
    let mut first = [0];
    if conn.read_some(&mut first)? == 0 {
        return Ok(None);
    }
    let mut rest = [0; 8];
    conn.read_exact(&mut rest)?;
    let [b, c, kind, flags, stream @ ..] = rest;
    let mut payload = vec![0; u32::from_be_bytes([0, first[0], b, c]) as usize];
    conn.read_exact(&mut payload)?;
    Ok(Some(Frame { kind, flags, stream: u32::from_be_bytes(stream), payload }))
}

pub(super) fn send(
    conn: &mut Conn,
    kind: u8,
    flags: u8,
    stream: u32,
    payload: &[u8],
) -> io::Result<()> {
    let [_, a, b, c] = u32::try_from(payload.len()).unwrap_or(u32::MAX).to_be_bytes();
    let mut frame = vec![a, b, c, kind, flags];
    frame.extend_from_slice(&stream.to_be_bytes());
    frame.extend_from_slice(payload);
    conn.write_all(&frame)
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpStream;

    use super::super::Server;
    use super::*;

    fn frame(kind: u8, flags: u8, stream: u8, payload: &[u8]) -> Vec<u8> {
        let mut frame = vec![0, 0, payload.len() as u8, kind, flags, 0, 0, 0, stream];
        frame.extend_from_slice(payload);
        frame
    }

    /// The kinds of frames that come on a stream, up to the answer to a ping.
    fn answers(server: &Server, stream: u8, frames: &[Vec<u8>]) -> Vec<u8> {
        let mut client = TcpStream::connect(server.addr()).expect("the server listens");
        let ping = frame(PING, 0, 0, &[7; 8]);
        let sent = [&PREFACE[..], &frame(SETTINGS, 0, 0, &[]), &frames.concat(), &ping].concat();
        client.write_all(&sent).expect("the server reads");
        let mut kinds = Vec::new();
        loop {
            let mut head = [0; 9];
            client.read_exact(&mut head).expect("the ping is answered");
            let mut payload = vec![0; usize::from(head[2])];
            client.read_exact(&mut payload).expect("the frame is whole");
            match head[3] {
                PING => return kinds,
                kind if head[8] == stream => kinds.push(kind),
                _ => {}
            }
        }
    }

    #[test]
    fn what_comes_behind_a_sockets_end_is_no_request() {
        let server = Server::start(|conn: &mut Conn| serve_http2(conn, Http2Sockets::Echoed));
        let connect = frame(HEADERS, END_HEADERS, 1, &[0x82]);
        let close = frame(DATA, 0, 1, &WireFrame::close(1001, "").encode(Some([1; 4])));
        let end = frame(DATA, END_STREAM, 1, &[]);
        let kinds = answers(&server, 1, &[connect, close, end]);
        assert_eq!(kinds, [HEADERS, WINDOW_UPDATE, DATA, DATA, RST_STREAM]);
        assert_eq!(server.requests(), 1);
    }
}
