//! The cases, by topic. In each file the list comes first.

mod batches;
mod bodies;
mod cancel;
mod closing;
mod control;
mod cookies;
mod deflated;
mod ending;
mod extensions;
mod forms;
mod handshake;
mod hostile;
mod hostile_proxies;
mod http;
mod http2;
mod in_flight;
mod input;
mod keepalive;
mod limitations;
mod limits;
mod messages;
mod option_table;
mod outbox;
mod proxies;
mod raw;
mod raw_closing;
mod reconnect;
mod redirects;
mod refusal;
mod reports;
mod resolver;
mod settings;
mod sse;
mod stats;
mod stream_in;
mod stream_out;
mod tls;
mod together;
mod unauthorized;
#[cfg(unix)]
mod unix_sockets;

use std::{
    io,
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::Arc,
    thread,
};

pub use hostile::page as hostile_page;
pub(crate) use limitations::refused;
pub(crate) use stream_in::{a_message_comes_as_one, is_of_messages};

use crate::{
    case::Case,
    peer::{Conn, accept_key},
};

/// Every case.
pub(crate) fn all() -> Vec<Case> {
    [
        limitations::cases(),
        http::cases(),
        bodies::cases(),
        forms::cases(),
        sse::cases(),
        tls::cases(),
        redirects::cases(),
        cookies::cases(),
        unauthorized::cases(),
        http2::cases(),
        together::cases(),
        proxies::cases(),
        hostile_proxies::cases(),
        resolver::cases(),
        #[cfg(unix)]
        unix_sockets::cases(),
        handshake::cases(),
        refusal::cases(),
        hostile::cases(),
        input::cases(),
        settings::cases(),
        stats::cases(),
        messages::cases(),
        batches::cases(),
        stream_out::cases(),
        stream_in::cases(),
        control::cases(),
        keepalive::cases(),
        outbox::cases(),
        limits::cases(),
        closing::cases(),
        ending::cases(),
        cancel::cases(),
        raw::cases(),
        extensions::cases(),
        deflated::cases(),
        reconnect::cases(),
        in_flight::cases(),
        raw_closing::cases(),
        reports::cases(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// Reads a handshake and answers 101 with these header lines, `{accept}` being the key's answer.
fn accept_head(conn: &mut Conn, lines: &[&str]) -> io::Result<()> {
    let request = conn.read_request()?.ok_or(io::ErrorKind::UnexpectedEof)?;
    let accept = accept_key(request.header("sec-websocket-key").unwrap_or_default());
    let lines = lines.join("\r\n").replace("{accept}", &accept);
    conn.write_all(format!("HTTP/1.1 101 Switching Protocols\r\n{lines}\r\n\r\n").as_bytes())
}

/// Carries one connection on to another address, both ways, up to its end.
fn relay(listener: &TcpListener, target: SocketAddr) -> io::Result<()> {
    let (client, server) = (Arc::new(listener.accept()?.0), Arc::new(TcpStream::connect(target)?));
    let back = {
        let (client, server) = (Arc::clone(&client), Arc::clone(&server));
        thread::spawn(move || carry(&server, &client))
    };
    let there = carry(&client, &server);
    let back = back.join().unwrap_or_else(|_| Err(io::Error::other("a relay panicked")));
    there.and(back)
}

fn carry(mut from: &TcpStream, mut to: &TcpStream) -> io::Result<()> {
    io::copy(&mut from, &mut to)?;
    match to.shutdown(Shutdown::Write) {
        // It has ended both directions already.
        Err(error) if error.kind() == io::ErrorKind::NotConnected => Ok(()),
        result => result,
    }
}
