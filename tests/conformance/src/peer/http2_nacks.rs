//! HTTP/2 servers that refuse some of the work: what a client has to send again, or to stop sending.

use std::collections::HashSet;
use std::io;

use super::conn::Conn;
use super::http2::{
    DATA, END_HEADERS, END_STREAM, Frame, GOAWAY, HEADERS, OK, RST_STREAM, WINDOW_UPDATE, begin,
    receive, routine, send,
};

/// What a server does with every third request of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Http2Nack {
    /// It says GOAWAY with the last one that it has processed, and closes when the client does.
    GoAway,
    /// The same, and closes at once.
    GoAwayAndClose,
    /// It resets the stream with REFUSED_STREAM, and every other one after it.
    RefusedStream,
    /// It answers the first two before they have ended, and the third when no other is open.
    AnswersEarly,
}

/// An error code: the stream has not been processed.
const REFUSED_STREAM: [u8; 4] = [0, 0, 0, 7];

/// A handler for connections on which `h2` was negotiated: it answers `done`, two requests a connection.
pub fn serve_http2_nacks(conn: &mut Conn, nack: Http2Nack) -> io::Result<()> {
    begin(conn, &[])?;
    let mut state = State { nack, heads: 0, last: 0, uploads: HashSet::new(), waiting: None };
    while let Some(frame) = receive(conn)? {
        if frame.kind == GOAWAY || routine(conn, &frame)? {
            continue;
        }
        if !state.take(conn, &frame)? {
            return Ok(());
        }
    }
    Ok(())
}

struct State {
    nack: Http2Nack,
    heads: usize,
    /// The last stream that was processed.
    last: u32,
    uploads: HashSet<u32>,
    waiting: Option<u32>,
}

impl State {
    /// Whether the connection stays open.
    fn take(&mut self, conn: &mut Conn, frame: &Frame) -> io::Result<bool> {
        let Frame { kind, flags, stream, .. } = *frame;
        let is_end = flags & END_STREAM != 0;
        match kind {
            HEADERS => {
                conn.count_request();
                self.heads += 1;
                match self.nack {
                    Http2Nack::AnswersEarly if self.heads > 2 => self.waiting = Some(stream),
                    Http2Nack::AnswersEarly => {
                        self.uploads.insert(stream);
                        answer(conn, stream)?;
                    }
                    _ if self.heads > 2 => return self.refuse(conn, stream),
                    _ => {
                        self.last = stream;
                        if is_end {
                            answer(conn, stream)?;
                        }
                    }
                }
            }
            DATA if self.nack != Http2Nack::AnswersEarly && is_end && stream <= self.last => {
                answer(conn, stream)?;
            }
            DATA | RST_STREAM if self.nack == Http2Nack::AnswersEarly => {
                if is_end || kind == RST_STREAM {
                    self.uploads.remove(&stream);
                }
                credit(conn, frame)?;
            }
            _ => {}
        }
        if self.uploads.is_empty() {
            if let Some(stream) = self.waiting.take() {
                answer(conn, stream)?;
            }
        }
        Ok(true)
    }

    fn refuse(&mut self, conn: &mut Conn, stream: u32) -> io::Result<bool> {
        match self.nack {
            Http2Nack::RefusedStream => send(conn, RST_STREAM, 0, stream, &REFUSED_STREAM)?,
            _ if self.heads == 3 => {
                let last = self.last.to_be_bytes();
                send(conn, GOAWAY, 0, 0, &[last, [0; 4]].concat())?;
            }
            _ => {}
        }
        Ok(self.nack != Http2Nack::GoAwayAndClose)
    }
}

/// Gives back what a chunk took of the windows.
fn credit(conn: &mut Conn, frame: &Frame) -> io::Result<()> {
    if frame.kind != DATA || frame.payload.is_empty() {
        return Ok(());
    }
    let credit = u32::try_from(frame.payload.len()).unwrap_or(u32::MAX).to_be_bytes();
    send(conn, WINDOW_UPDATE, 0, 0, &credit)?;
    if frame.flags & END_STREAM == 0 {
        send(conn, WINDOW_UPDATE, 0, frame.stream, &credit)?;
    }
    Ok(())
}

fn answer(conn: &mut Conn, stream: u32) -> io::Result<()> {
    send(conn, HEADERS, END_HEADERS, stream, &OK)?;
    send(conn, DATA, END_STREAM, stream, b"done")
}
