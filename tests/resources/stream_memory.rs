//! What a message costs in memory that is streamed: counted by an allocator while 64 MiB go out and come in.

use std::{io, sync::Arc, time::Duration};

use drivetrain::{CloseReason, HttpClient, MessageKind, Session, engine::Engine};
use drivetrain_conformance::peer::{Conn, Server, WireFrame, opcode};
use futures_util::AsyncWriteExt as _;

use crate::allocated;

const MIB: usize = 1 << 20;
const SIZE: usize = 64 * MIB;
const PART: usize = 32 << 10;
/// Both ends of it: the capacities of 256 KiB, the engine's buffers, and those of the peer, which is a thread
/// of this process.
const MOST: usize = 2 * MIB;

/// The most that was allocated at any look, more than at the first one.
struct Peak {
    before: usize,
    most: usize,
}

impl Peak {
    fn new() -> Self {
        Self { before: allocated(), most: 0 }
    }

    fn look(&mut self) {
        self.most = self.most.max(allocated().saturating_sub(self.before));
    }
}

pub(crate) fn a_streamed_message_is_not_held(engine: Arc<dyn Engine>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let name = engine.name().to_owned();
    // First, while nothing is in use that may be freed meanwhile.
    let whole = runtime.block_on(received(&engine, true));
    // What the handshake held may be freed meanwhile.
    assert!(whole >= SIZE - MIB, "{name}: {whole}: is anything measured?");
    let (out, into) =
        runtime.block_on(async { (sent(&engine, false).await, received(&engine, false).await) });
    println!(
        "{name}: {} KiB out, {} KiB in; {} MiB as a whole",
        out >> 10,
        into >> 10,
        whole / MIB
    );
    assert!(out > 0 && out <= MOST, "{name}: {out} bytes for what goes out");
    assert!(into > 0 && into <= MOST, "{name}: {into} bytes for what comes in");
    let stalled = runtime.block_on(sent(&engine, true));
    assert!(stalled <= MOST, "{name}: {stalled} bytes for a peer that does not read");
}

async fn open(engine: &Arc<dyn Engine>, server: &Server) -> Session {
    let client = HttpClient::new(Arc::clone(engine));
    client.web_socket(server.ws_url("/")).connect().await.unwrap()
}

/// The peak while a message goes out; to a peer that does not read for a while, if it `stalls`.
async fn sent(engine: &Arc<dyn Engine>, stalls: bool) -> usize {
    let server = Server::start(move |conn| sink(conn, stalls));
    let mut session = open(engine, &server).await;
    let part = vec![7; PART];
    let mut peak = Peak::new();
    let mut writer = session.send_stream(MessageKind::Binary).await.unwrap();
    let mut held = stalls;
    for _ in 0..SIZE / PART {
        let writing = writer.write_all(&part);
        if !held {
            writing.await.unwrap();
        } else if tokio::time::timeout(Duration::from_millis(500), writing).await.is_err() {
            peak.look();
            // What of the part was taken is not known, and does not matter: it is written again.
            held = false;
            server.release();
            writer.write_all(&part).await.unwrap();
        }
        peak.look();
    }
    assert!(!held, "the peer does not read, and the writer does not wait");
    writer.close().await.unwrap();
    drop(writer);
    peak.look();
    let said = session.receive().await.unwrap().unwrap();
    let size: usize = said.read_text().unwrap().parse().unwrap();
    assert!((SIZE..=SIZE + 2 * PART).contains(&size), "{size}");
    session.close(CloseReason::normal()).await.unwrap();
    peak.most
}

fn sink(conn: &mut Conn, stalls: bool) -> io::Result<()> {
    conn.accept_web_socket()?;
    if stalls {
        conn.hold()?;
    }
    let mut size = 0;
    while let Some(frame) = conn.receive()? {
        size += frame.payload.len();
        if frame.fin {
            break;
        }
    }
    conn.send_text(&size.to_string())?;
    // The Close, for its answer.
    while let Some(frame) = conn.receive()? {
        if frame.opcode == opcode::CLOSE {
            conn.send(&WireFrame::new(opcode::CLOSE, frame.payload))?;
        }
    }
    Ok(())
}

/// The peak while a message comes in; received as a `whole`, or read, with a pause in which the session task reads.
async fn received(engine: &Arc<dyn Engine>, whole: bool) -> usize {
    let server = Server::start(source);
    let mut session = open(engine, &server).await;
    let mut peak = Peak::new();
    if whole {
        let frame = session.receive().await.unwrap().unwrap();
        peak.look();
        assert_eq!(frame.read_bytes().len(), SIZE);
        return peak.most;
    }
    let mut reader = session.receive_stream().await.unwrap().unwrap();
    let mut size = 0;
    while let Some(chunk) = reader.chunk().await.unwrap() {
        size += chunk.len();
        peak.look();
        if size == SIZE / 2 {
            tokio::time::sleep(Duration::from_secs(1)).await;
            peak.look();
        }
    }
    assert_eq!(size, SIZE);
    peak.most
}

fn source(conn: &mut Conn) -> io::Result<()> {
    conn.accept_web_socket()?;
    for i in 0..SIZE / PART {
        let part = vec![7; PART];
        let fin = (i + 1) * PART == SIZE;
        conn.send(&match i {
            0 => WireFrame { fin, ..WireFrame::binary(part) },
            _ => WireFrame::continuation(part, fin),
        })?;
    }
    conn.drain()
}
