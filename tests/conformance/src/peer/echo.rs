//! The ready-made server's WebSocket endpoints; its HTTP resources are in `resources.rs`.

use std::collections::HashSet;
use std::io;
use std::ops::Deref;
use std::time::{Duration, Instant};

use serde_json::json;

use super::conn::Conn;
use super::http::Request;
use super::message::{FLUSH_THRESHOLD, Message};
use super::resources;
use super::server::Server;
use super::tls::TestCa;
use super::wire::{WireFrame, opcode};

/// A [`Server`] with an endpoint for each thing a client has to cope with. HTTP connections are kept
/// alive; parameters in brackets are optional.
///
/// | WebSocket | |
/// |---|---|
/// | `/echo`, `/json` | echoes whole messages, answers Ping, echoes Close |
/// | `/subprotocol[?select=s]` | selects `s` or the first subprotocol offered, then as `/echo` |
/// | `/slow?ms=n` | answers the handshake after `n` ms, then as `/echo` |
/// | `/source?[count=n&size=m&kind=text\|binary]` | sends `n` messages of `m` bytes (1 binary of 1), then as `/echo` |
/// | `/sink` | reads everything; answers the text `count?` with `{"messages":n,"bytes":m}` of those before it |
/// | `/headers` | sends the handshake as `/anything` shows it, then as `/echo` |
/// | `/pinger?[count=n&ms=t]` | sends `n` (1) Pings, then a text: how many were answered within `t` ms (2000) |
/// | `/close?[code=c&reason=r]` | sends Close after the first message, then reads up to the client's |
/// | `/drop` | ends the TCP stream after the first message, without Close |
/// | `/reset` | resets the TCP connection after the first message |
/// | `/mute` | never reads, until [`Server::release`]; then reads everything |
/// | `/silent` | reads everything, answers nothing: no Pong, no Close |
/// | `/refuse?[status=n&size=m&location=u]` | refuses the handshake with `n` (403), `x-test: refused` and a body of `m` bytes or `refused with n` |
///
/// Any other path is refused with 404, `/redirect` as over HTTP.
///
/// | HTTP | |
/// |---|---|
/// | `GET /get` | 200, a text |
/// | `POST /echo` | the request's body and content type |
/// | `/anything…` | JSON: `method`, `path`, `target`, `query`, `headers` (lower-case names, lists of values), `body`, `body_length`, `connection` (its number), `tls` |
/// | `/headers` | JSON: the `headers` of `/anything` |
/// | `/status/{n}` | status `n`, header `x-test: status`, body `status n` |
/// | `/slow?ms=n` | 200 after `n` ms |
/// | `/stream?[chunks=n&size=m&ms=t]` | a chunked body of `n` chunks (3) of `m` bytes (16), `t` ms (0) before each |
/// | `/redirect?to=u[&status=n]` | status `n` (302) and `location: u` |
#[derive(Debug)]
pub struct EchoServer {
    server: Server,
}

impl EchoServer {
    /// Starts it for `ws` and `http`.
    pub fn start() -> Self {
        Self { server: Server::start(Self::serve) }
    }

    /// Starts it for `wss` and `https` with a certificate of `ca`.
    pub fn start_tls(ca: &TestCa) -> Self {
        Self { server: Server::start_tls(Self::serve, ca) }
    }

    /// As [`start_tls`](Self::start_tls), and refuses clients without a certificate of `ca`.
    pub fn start_mutual_tls(ca: &TestCa) -> Self {
        Self { server: Server::start_mutual_tls(Self::serve, ca) }
    }

    /// What it does with a connection, for a handler of your own to fall back on.
    pub fn serve(conn: &mut Conn) -> io::Result<()> {
        Self::serve_but(conn, |_, _| Ok(false))
    }

    /// The same, but for the requests that `first` answers and returns `true` for.
    pub fn serve_but(
        conn: &mut Conn,
        first: impl Fn(&mut Conn, &Request) -> io::Result<bool>,
    ) -> io::Result<()> {
        while let Some(request) = conn.read_request()? {
            if first(conn, &request)? {
                continue;
            }
            if request.is_web_socket() && !resources::refuses(&request) {
                return web_socket(conn, &request);
            }
            resources::respond(conn, &request)?;
            if conn.last_request {
                break;
            }
        }
        Ok(())
    }
}

impl Deref for EchoServer {
    type Target = Server;

    fn deref(&self) -> &Server {
        &self.server
    }
}

/// The paths `web_socket` knows.
pub(super) const ENDPOINTS: [&str; 13] = [
    "/echo",
    "/json",
    "/subprotocol",
    "/slow",
    "/source",
    "/sink",
    "/headers",
    "/pinger",
    "/close",
    "/drop",
    "/reset",
    "/mute",
    "/silent",
];

fn web_socket(conn: &mut Conn, request: &Request) -> io::Result<()> {
    match request.path.as_str() {
        "/subprotocol" => {
            let offered =
                request.header_values("sec-websocket-protocol").flat_map(|line| line.split(','));
            match request.parameter("select").or(offered.map(str::trim).next()) {
                Some(selected) => conn.accept(request, &[("sec-websocket-protocol", selected)])?,
                None => conn.accept(request, &[])?,
            }
        }
        "/slow" => {
            conn.pause(Duration::from_millis(request.parameter_or("ms", 0)))?;
            conn.accept(request, &[])?;
        }
        _ => conn.accept(request, &[])?,
    }
    match request.path.as_str() {
        "/source" => source(conn, request),
        "/sink" => sink(conn),
        "/headers" => {
            conn.send_text(&resources::describe(conn, request).to_string())?;
            echo(conn)
        }
        "/pinger" => pinger(conn, request),
        "/close" => close(conn, request),
        "/drop" => await_message(conn).map(|_| ()),
        "/reset" if await_message(conn)? => conn.reset(),
        "/reset" => Ok(()),
        "/mute" => {
            conn.hold()?;
            conn.drain()
        }
        "/silent" => {
            while conn.receive()?.is_some() {}
            Ok(())
        }
        _ => echo(conn),
    }
}

fn echo(conn: &mut Conn) -> io::Result<()> {
    conn.messages(Conn::echo, |conn, message| match message {
        Message::Text(text) => conn.send_text(&text).map(|()| true),
        Message::Binary(bytes) => conn.send_binary(&bytes).map(|()| true),
        Message::Close { code, .. } => conn.send_close(code, "").map(|()| false),
    })
}

fn source(conn: &mut Conn, request: &Request) -> io::Result<()> {
    let count = request.parameter_or("count", 1u64);
    let payload = vec![b'x'; request.parameter_or("size", 1)];
    let frame = match request.parameter("kind") {
        Some("text") => WireFrame::text(payload),
        _ => WireFrame::binary(payload),
    };
    for _ in 0..count {
        conn.feed(&frame);
        if conn.output.len() >= FLUSH_THRESHOLD {
            conn.flush()?;
        }
    }
    echo(conn)
}

fn sink(conn: &mut Conn) -> io::Result<()> {
    const QUESTION: &[u8] = b"count?";
    let (messages, bytes) = (std::cell::Cell::new(0u64), std::cell::Cell::new(0u64));
    let count = |len: usize| {
        messages.set(messages.get() + 1);
        bytes.set(bytes.get() + len as u64);
    };
    let answer = |conn: &mut Conn| {
        conn.send_text(&json!({ "messages": messages.get(), "bytes": bytes.get() }).to_string())
    };
    conn.messages(
        |conn, head| {
            if head.opcode == opcode::TEXT && conn.payload_is(head, QUESTION) {
                return answer(conn);
            }
            count(head.len);
            Ok(())
        },
        |conn, message| {
            match message {
                Message::Text(text) if text.as_bytes() == QUESTION => answer(conn)?,
                Message::Text(text) => count(text.len()),
                Message::Binary(bytes) => count(bytes.len()),
                Message::Close { code, .. } => return conn.send_close(code, "").map(|()| false),
            }
            Ok(true)
        },
    )
}

fn pinger(conn: &mut Conn, request: &Request) -> io::Result<()> {
    let count = request.parameter_or("count", 1usize);
    let deadline = Instant::now() + Duration::from_millis(request.parameter_or("ms", 2000));
    let mut waiting = HashSet::with_capacity(count);
    for number in 0..count {
        let payload = format!("ping {number}").into_bytes();
        conn.feed(&WireFrame::ping(payload.clone()));
        waiting.insert(payload);
    }
    conn.flush()?;
    while !waiting.is_empty() {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            break;
        }
        conn.set_read_timeout(Some(left))?;
        match conn.receive() {
            Ok(Some(frame)) if frame.opcode == opcode::PONG => {
                waiting.remove(&frame.payload);
            }
            Ok(Some(frame)) if frame.opcode == opcode::CLOSE => {
                return conn.send(&WireFrame::new(opcode::CLOSE, frame.payload));
            }
            Ok(Some(_)) => {}
            Ok(None) => return Ok(()),
            Err(error)
                if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) =>
            {
                break;
            }
            Err(error) => return Err(error),
        }
    }
    conn.set_read_timeout(None)?;
    conn.send_text(&(count - waiting.len()).to_string())?;
    echo(conn)
}

fn close(conn: &mut Conn, request: &Request) -> io::Result<()> {
    if !await_message(conn)? {
        return Ok(());
    }
    let code = request.parameter("code").and_then(|code| code.parse::<u16>().ok());
    conn.send_close(code, request.parameter("reason").unwrap_or_default())?;
    while let Some(message) = conn.receive_message()? {
        if matches!(message, Message::Close { .. }) {
            break;
        }
    }
    Ok(())
}

/// Waits for the first data message; `false` if the client closed instead, which is answered.
fn await_message(conn: &mut Conn) -> io::Result<bool> {
    match conn.receive_message()? {
        Some(Message::Text(_) | Message::Binary(_)) => Ok(true),
        Some(Message::Close { code, .. }) => conn.send_close(code, "").map(|()| false),
        None => Ok(false),
    }
}
