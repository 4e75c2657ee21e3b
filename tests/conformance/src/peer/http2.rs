//! The least of HTTP/2 (RFC 9113) that answers requests, frame by frame.

use std::io;

use super::conn::Conn;
use super::wire::invalid;

const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;

const ACK: u8 = 1;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// `:status: 200` of HPACK's static table.
const OK: [u8; 1] = [0x88];

/// A handler for connections on which `h2` was negotiated: it answers each request with 200 and the
/// number of the connection as its text.
pub fn serve_http2(conn: &mut Conn) -> io::Result<()> {
    let mut preface = [0; PREFACE.len()];
    conn.read_exact(&mut preface)?;
    if preface != *PREFACE {
        return Err(invalid("it is not HTTP/2"));
    }
    send(conn, SETTINGS, 0, 0, &[])?;
    while let Some(frame) = receive(conn)? {
        match (frame.kind, frame.flags & ACK != 0) {
            (SETTINGS, false) => send(conn, SETTINGS, ACK, 0, &[])?,
            (PING, false) => send(conn, PING, ACK, 0, &frame.payload)?,
            (HEADERS, _) if frame.flags & END_HEADERS == 0 => {
                return Err(invalid("the request's head is longer than a test's"));
            }
            // A request's head or, behind its body, its trailers.
            (HEADERS | DATA, _) if frame.flags & END_STREAM != 0 => {
                conn.count_request();
                let text = conn.id().to_string();
                send(conn, HEADERS, END_HEADERS, frame.stream, &OK)?;
                send(conn, DATA, END_STREAM, frame.stream, text.as_bytes())?;
            }
            (GOAWAY, _) => return Ok(()),
            _ => {}
        }
    }
    Ok(())
}

struct Frame {
    kind: u8,
    flags: u8,
    stream: u32,
    payload: Vec<u8>,
}

/// The next frame; `None` at the end of the stream.
fn receive(conn: &mut Conn) -> io::Result<Option<Frame>> {
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

fn send(conn: &mut Conn, kind: u8, flags: u8, stream: u32, payload: &[u8]) -> io::Result<()> {
    let [_, a, b, c] = u32::try_from(payload.len()).unwrap_or(u32::MAX).to_be_bytes();
    let mut frame = vec![a, b, c, kind, flags];
    frame.extend_from_slice(&stream.to_be_bytes());
    frame.extend_from_slice(payload);
    conn.write_all(&frame)
}
