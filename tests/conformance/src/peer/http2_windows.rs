//! An HTTP/2 server that keeps to the windows of its client, and sees when a client gives a stream up.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::conn::Conn;
use super::http2::{
    ALLOWED, DATA, END_HEADERS, END_STREAM, Frame, GOAWAY, HEADERS, OK, RST_STREAM, SETTINGS,
    WINDOW_UPDATE, begin, receive, routine, send,
};
use super::wire::{WireFrame, opcode};

/// SETTINGS_INITIAL_WINDOW_SIZE (RFC 9113 section 6.5.2).
const INITIAL_WINDOW: u8 = 4;
/// What a window is before anybody has said so.
const FIRST_WINDOW: i64 = 65_535;

/// What such servers have seen. A clone is the same.
#[derive(Clone, Debug, Default)]
pub struct Http2Windows(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    full: AtomicUsize,
    held: AtomicUsize,
    resets: AtomicUsize,
}

impl Http2Windows {
    /// WebSockets that were flooded until their window was full.
    pub fn full(&self) -> usize {
        self.0.full.load(Ordering::SeqCst)
    }

    /// WebSockets that get no more window from here.
    pub fn held(&self) -> usize {
        self.0.held.load(Ordering::SeqCst)
    }

    /// Streams that the client has reset.
    pub fn resets(&self) -> usize {
        self.0.resets.load(Ordering::SeqCst)
    }

    /// A handler for connections that are HTTP/2. It echoes on each WebSocket, sends as much as it may on one on which
    /// `flood` came, and takes nothing more on one on which `hold` came. A Close is not answered there.
    pub fn serve(&self, conn: &mut Conn) -> io::Result<()> {
        begin(conn, &ALLOWED)?;
        let mut state = State {
            seen: self.clone(),
            initial: FIRST_WINDOW,
            window: FIRST_WINDOW,
            sockets: BTreeMap::new(),
        };
        while let Some(frame) = receive(conn)? {
            if frame.kind == GOAWAY {
                return Ok(());
            }
            state.take(conn, &frame)?;
            state.pump(conn)?;
        }
        Ok(())
    }
}

struct State {
    seen: Http2Windows,
    initial: i64,
    window: i64,
    sockets: BTreeMap<u32, Socket>,
}

struct Socket {
    window: i64,
    input: Vec<u8>,
    output: Vec<u8>,
    floods: bool,
    is_full: bool,
    holds: bool,
}

impl State {
    fn take(&mut self, conn: &mut Conn, frame: &Frame) -> io::Result<()> {
        let Frame { kind, flags, stream, .. } = *frame;
        match kind {
            SETTINGS => self.settings(&frame.payload),
            WINDOW_UPDATE => self.credit(stream, &frame.payload),
            HEADERS => {
                conn.count_request();
                self.sockets.insert(stream, Socket::new(self.initial));
                send(conn, HEADERS, END_HEADERS, stream, &OK)?;
            }
            DATA => self.data(conn, frame)?,
            // A stream is reset again for DATA that was on its way then.
            RST_STREAM if self.sockets.remove(&stream).is_some() => {
                self.seen.0.resets.fetch_add(1, Ordering::SeqCst);
            }
            _ => {}
        }
        let answers = self.sockets.get(&stream).is_some_and(|socket| !socket.is_stuck());
        if kind == DATA && flags & END_STREAM != 0 && answers {
            self.sockets.remove(&stream);
            send(conn, DATA, END_STREAM, stream, &[])?;
        }
        routine(conn, frame).map(drop)
    }

    fn settings(&mut self, payload: &[u8]) {
        for setting in payload.chunks_exact(6).filter(|setting| setting[1] == INITIAL_WINDOW) {
            let value = [setting[2], setting[3], setting[4], setting[5]];
            self.initial = i64::from(u32::from_be_bytes(value));
        }
    }

    fn credit(&mut self, stream: u32, payload: &[u8]) {
        let Ok(payload) = <[u8; 4]>::try_from(payload) else { return };
        let credit = i64::from(u32::from_be_bytes(payload));
        match stream {
            0 => self.window += credit,
            _ => {
                if let Some(socket) = self.sockets.get_mut(&stream) {
                    socket.window += credit;
                }
            }
        }
    }

    fn data(&mut self, conn: &mut Conn, frame: &Frame) -> io::Result<()> {
        let credit = u32::try_from(frame.payload.len()).unwrap_or(u32::MAX).to_be_bytes();
        if !frame.payload.is_empty() {
            send(conn, WINDOW_UPDATE, 0, 0, &credit)?;
        }
        let Some(socket) = self.sockets.get_mut(&frame.stream) else { return Ok(()) };
        if !socket.holds && !frame.payload.is_empty() && frame.flags & END_STREAM == 0 {
            send(conn, WINDOW_UPDATE, 0, frame.stream, &credit)?;
        }
        let before = socket.holds;
        socket.read(&frame.payload)?;
        if socket.holds && !before {
            self.seen.0.held.fetch_add(1, Ordering::SeqCst);
        }
        Ok(())
    }

    /// Sends what there is and what the windows allow.
    fn pump(&mut self, conn: &mut Conn) -> io::Result<()> {
        let flood = WireFrame::binary(vec![7; 1000]).encode(None);
        for (&stream, socket) in &mut self.sockets {
            loop {
                if socket.floods && socket.output.is_empty() {
                    socket.output.extend_from_slice(&flood);
                }
                let room = socket.window.min(self.window).clamp(0, 1 << 14);
                let length = socket.output.len().min(room as usize);
                if length == 0 {
                    break;
                }
                let chunk: Vec<u8> = socket.output.drain(..length).collect();
                send(conn, DATA, 0, stream, &chunk)?;
                socket.window -= length as i64;
                self.window -= length as i64;
            }
            if socket.floods && socket.window == 0 && !std::mem::replace(&mut socket.is_full, true)
            {
                self.seen.0.full.fetch_add(1, Ordering::SeqCst);
            }
        }
        Ok(())
    }
}

impl Socket {
    fn new(window: i64) -> Self {
        let (input, output) = Default::default();
        Self { window, input, output, floods: false, is_full: false, holds: false }
    }

    /// It answers no Close.
    fn is_stuck(&self) -> bool {
        self.floods || self.holds
    }

    fn read(&mut self, payload: &[u8]) -> io::Result<()> {
        self.input.extend_from_slice(payload);
        while let Some((frame, length)) = WireFrame::decode(&self.input)? {
            self.input.drain(..length);
            match &*frame.payload {
                b"flood" => self.floods = true,
                b"hold" => self.holds = true,
                _ if self.is_stuck() || frame.opcode == opcode::PONG => {}
                _ => {
                    let echo = WireFrame { masked: false, ..frame };
                    self.output.extend_from_slice(&echo.encode(None));
                }
            }
        }
        Ok(())
    }
}
