//! An HTTP/2 server that says where a request was sent to.

use std::io;

use super::conn::Conn;
use super::hpack::{Decoder, Target};
use super::http2::{
    DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, OK, begin, receive, routine, send,
};
use super::wire::invalid;

/// A handler for connections on which `h2` was negotiated: it answers each request with its `:authority`, behind which
/// a field `host` is told too. A path that begins with `/moved` leads to this location.
pub fn serve_http2_targets(conn: &mut Conn, location: &str) -> io::Result<()> {
    begin(conn, &[])?;
    let mut decoder = Decoder::default();
    while let Some(frame) = receive(conn)? {
        if frame.kind == GOAWAY || routine(conn, &frame)? || frame.kind != HEADERS {
            continue;
        }
        if frame.flags & END_HEADERS == 0 || frame.flags & END_STREAM == 0 {
            return Err(invalid("the request has a body, or a head that is longer than a test's"));
        }
        conn.count_request();
        let Target { authority, path, host } = decoder.read(&frame.payload)?;
        let mut text = authority.unwrap_or_default();
        if let Some(host) = host {
            text += " and the field ";
            text += &host;
        }
        let is_moved = path.is_some_and(|path| path.starts_with("/moved"));
        let head = if is_moved { moved(location) } else { OK.to_vec() };
        send(conn, HEADERS, END_HEADERS, frame.stream, &head)?;
        send(conn, DATA, END_STREAM, frame.stream, text.as_bytes())?;
    }
    Ok(())
}

/// `:status: 302` and `location`, whose names are in HPACK's static table.
fn moved(location: &str) -> Vec<u8> {
    let length = u8::try_from(location.len()).expect("a test's are short");
    [b"\x08\x03302\x0f\x1f", &[length][..], location.as_bytes()].concat()
}
