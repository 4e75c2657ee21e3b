//! What a message that inflates to a thousand times its size costs in resident memory, measured on the whole
//! process: engine, session and runtime.
#![cfg(target_os = "linux")]

use std::{fs, io, sync::Arc};

use drivetrain::{
    Capability, ErrorKind, HttpClient, WebSockets, engine, extension::PermessageDeflate,
};
use drivetrain_conformance::peer::{Server, WireFrame, opcode};
use flate2::{Compress, Compression, FlushCompress};

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;
/// The limit for messages.
const LIMIT: usize = MIB;
/// The limit for streams, which is well above what may be held.
const STREAMED: usize = 32 * MIB;
/// What a session may hold beyond the frame that it received and the message that it makes of it.
const SLACK: usize = MIB / 2;

/// A field of this process's `status` that is a size in memory.
fn status(field: &str) -> usize {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with(field)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() * KIB
}

/// The same compressed MiB again and again: 1 GiB, or what there is of it.
fn bomb(mebibytes: usize) -> Vec<u8> {
    let mut deflate = Compress::new(Compression::best(), false);
    let mut block = Vec::with_capacity(64 * KIB);
    deflate.compress_vec(&vec![0; MIB], &mut block, FlushCompress::Full).unwrap();
    assert_eq!(deflate.total_in(), MIB as u64);
    block.repeat(mebibytes)
}

pub(crate) fn a_gibibyte_of_one_mebibyte_costs_no_more_than_the_limit() {
    let tokio =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let small = Arc::new(bomb(2));
    let large = Arc::new(bomb(1024));
    assert!(large.len() < 2 * MIB, "{} bytes", large.len());
    for engine in engine::all() {
        if !engine.support(Capability::Extensions).is_offered() {
            continue;
        }
        let name = engine.name().to_owned();
        let plugin = WebSockets::new()
            .extension(PermessageDeflate::new())
            .max_message_size(LIMIT)
            .max_stream_size(STREAMED as u64);
        let client = HttpClient::builder(engine).install(plugin).build().unwrap();
        // Once with little, for what is made at first use.
        growth(&tokio, &client, &small);
        let grown = growth(&tokio, &client, &large);
        println!("{name}: 1 GiB in {} KiB cost {} KiB", large.len() / KIB, grown / KIB);
        // The frame is in memory twice while it is read: with the peer, and here.
        // And so is the message, when it grows.
        let most = 2 * large.len() + 2 * LIMIT + SLACK;
        assert!(grown <= most, "{name}: {} KiB, more than {} KiB", grown / KIB, most / KIB);
        let grown = streamed(&tokio, &client, &large);
        println!("{name}: {} MiB of it as a stream cost {} KiB", STREAMED / MIB, grown / KIB);
        // The frame, as often as the peer and a buffer that grows have it, and nothing of what was read.
        let most = 4 * large.len() + SLACK;
        assert!(grown <= most, "{name}: {} KiB, more than {} KiB", grown / KIB, most / KIB);
    }
}

/// By how much the process grows at the most while a session receives this and refuses it.
fn growth(tokio: &tokio::runtime::Runtime, client: &HttpClient, bomb: &Arc<Vec<u8>>) -> usize {
    let server = dropping(bomb);
    tokio.block_on(async {
        let mut session = client.web_socket(server.ws_url("/")).connect().await.unwrap();
        fs::write("/proc/self/clear_refs", "5").unwrap(); // the peak is what is now
        let before = status("VmHWM:");
        session.send("now").await.unwrap();
        let error = session.receive().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TooBig, "{error}");
        status("VmHWM:").saturating_sub(before)
    })
}

/// The same while it is read as a stream, up to the limit for those.
fn streamed(tokio: &tokio::runtime::Runtime, client: &HttpClient, bomb: &Arc<Vec<u8>>) -> usize {
    let server = dropping(bomb);
    tokio.block_on(async {
        let mut session = client.web_socket(server.ws_url("/")).connect().await.unwrap();
        fs::write("/proc/self/clear_refs", "5").unwrap();
        let before = status("VmHWM:");
        session.send("now").await.unwrap();
        let mut reader = session.receive_stream().await.unwrap().unwrap();
        let mut size = 0;
        let error = loop {
            match reader.chunk().await {
                Ok(chunk) => size += chunk.unwrap().len(),
                Err(error) => break error,
            }
        };
        assert_eq!(error.kind(), ErrorKind::TooBig, "{error}");
        assert!(size > STREAMED - MIB && size <= STREAMED, "{size} bytes");
        status("VmHWM:").saturating_sub(before)
    })
}

/// A server that sends this when it is told to.
fn dropping(bomb: &Arc<Vec<u8>>) -> Server {
    let payload = Arc::clone(bomb);
    Server::start(move |conn| {
        let request = conn.read_request()?.ok_or(io::ErrorKind::UnexpectedEof)?;
        conn.accept(&request, &[("sec-websocket-extensions", "permessage-deflate")])?;
        conn.receive()?; // it is measured from here on
        conn.send(&WireFrame { rsv: 4, ..WireFrame::new(opcode::BINARY, payload.to_vec()) })?;
        while let Some(frame) = conn.receive()? {
            if frame.opcode == opcode::CLOSE {
                conn.send(&WireFrame { masked: false, ..frame })?;
                return conn.shutdown_write();
            }
        }
        Ok(())
    })
}
