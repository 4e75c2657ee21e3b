//! What an application that does not receive holds in memory, whatever the peer sends: counted by an allocator.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use drivetrain::{HttpClient, WebSockets};
use drivetrain_conformance::peer::{Conn, Server, WireFrame, opcode};

use crate::allocated;

const CAPACITY: usize = 256 << 10;
/// A read's buffer, and what a transport may hold beside it.
const ENGINE: usize = 256 << 10;
/// What the peer sends in one write.
const TURN: usize = 64 << 10;

/// What is sent again and again, until the session does not read any more.
fn flood() -> Vec<(&'static str, Vec<WireFrame>)> {
    let padded = |mut frames: Vec<WireFrame>| {
        let mut size: usize = frames.iter().map(|frame| frame.encode(None).len()).sum();
        while size < TURN - 127 {
            frames.push(WireFrame::pong([0; 125]));
            size += 127;
        }
        frames
    };
    let message = |size: usize| WireFrame::binary(vec![7; size]);
    let text = |size: usize| WireFrame::text(vec![b'x'; size]);
    vec![
        ("1025 bytes and pongs", padded(vec![message(1025)])),
        ("600 bytes and pongs", padded(vec![message(600)])),
        ("two bytes twice and pongs", padded(vec![message(2), message(2)])),
        ("20000 bytes and pongs", padded(vec![message(20_000)])),
        (
            "fragments and pongs",
            padded(vec![
                WireFrame { fin: false, ..message(1025) },
                WireFrame::continuation(vec![7; 1025], true),
            ]),
        ),
        ("empty messages", vec![message(0); 1000]),
        ("40 bytes of text", vec![text(40); 1000]),
    ]
}

pub(crate) fn what_waits_for_an_application_takes_at_most_four_times_the_capacity() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut exceeded = Vec::new();
    for engine in crate::engines() {
        let name = engine.name().to_owned();
        for (what, frames) in flood() {
            let written = Arc::new(AtomicUsize::new(0));
            let server = {
                let written = Arc::clone(&written);
                Server::start(move |conn| write(conn, &frames, &written))
            };
            let client = HttpClient::builder(Arc::clone(&engine))
                .install(WebSockets::new().incoming_capacity(CAPACITY))
                .build()
                .unwrap();
            let held = runtime.block_on(async {
                let mut session = client.web_socket(server.ws_url("/")).connect().await.unwrap();
                let first = session.receive().await.unwrap().unwrap();
                assert_eq!(first.read_text(), Some("begin"));
                let before = allocated();
                let mut most = 0;
                let (mut seen, mut quiet) = (0, 0);
                // Until nothing moves, once something has, for longer than the session waits for its application.
                while quiet < 40 || seen == 0 {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                    most = most.max(allocated().saturating_sub(before));
                    let now = written.load(Ordering::SeqCst);
                    quiet = if now == seen { quiet + 1 } else { 0 };
                    seen = now;
                }
                assert!(session.outcome().error.is_none(), "{name}: {what}");
                most
            });
            println!("{name}: {} KiB for {what}", held >> 10);
            assert!(held > 0, "{name}: {what}: nothing was counted");
            if held > 4 * CAPACITY + ENGINE {
                exceeded.push(format!("{name}: {} KiB for {what}", held >> 10));
            }
        }
    }
    assert!(exceeded.is_empty(), "{exceeded:#?}");
}

fn write(conn: &mut Conn, frames: &[WireFrame], written: &AtomicUsize) -> io::Result<()> {
    conn.accept_web_socket()?;
    conn.send_text("begin")?;
    let bytes: Vec<u8> = frames.iter().flat_map(|frame| frame.encode(None)).collect();
    assert!(frames.iter().all(|frame| frame.opcode != opcode::CLOSE));
    loop {
        for chunk in bytes.chunks(4096) {
            conn.write_all(chunk)?;
            written.fetch_add(chunk.len(), Ordering::SeqCst);
        }
    }
}
