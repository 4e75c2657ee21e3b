//! A capacity bounds what is held, not only what is counted as payload.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use drivetrain::{
    Bytes, OpCode, RawFrame, WebSockets, reconnect,
    testing::{MockEngine, PipePeer},
};

use super::{open, payload};

const BLOCK: usize = 64 << 10;
const CAPACITY: usize = 256 << 10;

/// A slice at the end of a large block, as a read's buffer is to a small frame; the block is counted while it lives.
fn slice_of_block(size: usize, live: &Arc<AtomicUsize>) -> Bytes {
    live.fetch_add(BLOCK, Ordering::SeqCst);
    let live = Arc::clone(live);
    let block = payload(BLOCK, move || {
        live.fetch_sub(BLOCK, Ordering::SeqCst);
    });
    block.slice(BLOCK - size..)
}

fn flood(peer: &mut PipePeer, live: &Arc<AtomicUsize>, frame: impl Fn(usize, Bytes) -> RawFrame) {
    for i in 0..400 {
        peer.send(frame(i, slice_of_block(1025, live)));
    }
}

#[test]
fn what_waits_for_an_application_pins_no_more_than_it_counts() {
    type Frame = fn(usize, Bytes) -> RawFrame;
    let frames: [(&str, Frame); 3] = [
        ("messages", |_, payload| RawFrame::new(OpCode::Binary, payload)),
        ("fragments", |i, payload| {
            let opcode = if i == 0 { OpCode::Binary } else { OpCode::Continuation };
            RawFrame::new(opcode, payload).not_final()
        }),
        ("fragmented messages", |i, payload| {
            let opcode = if i % 2 == 0 { OpCode::Binary } else { OpCode::Continuation };
            RawFrame { fin: i % 2 == 1, ..RawFrame::new(opcode, payload) }
        }),
    ];
    for (what, frame) in frames {
        let (runtime, mut session, mut peer) =
            open(WebSockets::new().ping_interval(None).incoming_capacity(CAPACITY));
        let live = Arc::default();
        flood(&mut peer, &live, frame);
        let sent = live.load(Ordering::SeqCst);
        runtime.advance(Duration::from_secs(5));
        let unread = 400 - CAPACITY / (1025 + 64) - 1;
        let pinned = live.load(Ordering::SeqCst) - unread * BLOCK;
        assert!(sent > 64 * CAPACITY && pinned <= 4 * CAPACITY, "{what}: {pinned} are held");
        // All of it comes all the same.
        if what == "messages" {
            for _ in 0..400 {
                let frame = runtime.block_on(session.receive()).unwrap().unwrap();
                assert_eq!(frame.read_bytes()[..], [b'x'; 1025]);
            }
        }
    }
}

/// A peer that pings and does not read.
#[test]
fn pongs_that_wait_pin_no_more_than_they_are() {
    let (runtime, session, mut peer) = open(WebSockets::new().ping_interval(None));
    peer.set_writable(false);
    runtime.block_on(session.send(vec![0; 40_000])).unwrap();
    let live: Arc<AtomicUsize> = Arc::default();
    for _ in 0..100 {
        peer.send(RawFrame::new(OpCode::Ping, slice_of_block(100, &live)));
    }
    runtime.advance(Duration::from_secs(5));
    assert_eq!(live.load(Ordering::SeqCst), 0);
    peer.set_writable(true);
    runtime.settle();
    let pongs = std::iter::from_fn(|| peer.receive()).filter(|frame| frame.opcode == OpCode::Pong);
    assert!(pongs.map(|pong| assert_eq!(pong.payload, [b'x'; 100][..])).count() >= 64);
}

/// Small ones are bounded by their number.
#[test]
fn empty_messages_do_not_queue_without_a_bound() {
    for size in [0, 1] {
        let (runtime, session, mut peer) = open(WebSockets::new().outgoing_capacity(CAPACITY));
        peer.set_writable(false);
        runtime.block_on(session.send(vec![0; 40_000])).unwrap();
        let mut accepted = 0;
        while accepted < 100_000 {
            let mut sending = std::pin::pin!(session.send(vec![0; size]));
            if runtime.poll_now(sending.as_mut()).is_none() {
                break;
            }
            accepted += 1;
        }
        // A place in the queue takes some 100 bytes.
        assert!(accepted * 100 <= 4 * CAPACITY, "{size}: {accepted} messages");
        assert!(accepted >= 1000, "{size}: {accepted} messages");
    }
}

#[test]
fn small_parts_of_a_streamed_message_do_not_queue_without_a_bound() {
    use futures_util::AsyncWriteExt as _;
    let (runtime, session, mut peer) = open(WebSockets::new().outgoing_capacity(CAPACITY));
    peer.set_writable(false);
    runtime.block_on(session.send(vec![0; 40_000])).unwrap();
    let mut writer = runtime.block_on(session.send_stream(drivetrain::MessageKind::Text)).unwrap();
    let mut accepted = 0;
    while accepted < 100_000 {
        runtime.block_on(writer.write_all(b"x")).unwrap();
        let mut flushing = std::pin::pin!(writer.flush());
        assert!(runtime.poll_now(flushing.as_mut()).is_none());
        accepted += 1;
        if accepted > 20_000 {
            break;
        }
    }
    // What finds no room is put together with what comes next.
    peer.set_writable(true);
    runtime.block_on(writer.flush()).unwrap();
    let frames = std::iter::from_fn(|| peer.receive()).count();
    assert!(frames * 100 <= 4 * CAPACITY, "{frames} frames waited");
}

/// The list of what may be lost, with messages that are not kept.
#[test]
fn the_send_log_does_not_grow_with_streamed_messages() {
    for capacity in [0, 10_000] {
        let mock = MockEngine::new();
        mock.web_socket("/").open();
        let client = drivetrain::HttpClient::new(mock.clone());
        let lost = mock.clock().block_on(async {
            let mut session = client
                .web_socket("ws://example.com/")
                .ping_interval(None)
                .reconnect(reconnect::Backoff::new())
                .unacknowledged_capacity(capacity)
                .connect()
                .await
                .unwrap();
            let mut peer = mock.accept().await.unwrap();
            let connection = session.connection().unwrap();
            for _ in 0..2000 {
                let mut writer =
                    connection.send_stream(drivetrain::MessageKind::Text).await.unwrap();
                writer.write_chunk("streamed").await.unwrap();
                writer.finish().await.unwrap();
                connection.flush().await.unwrap();
            }
            peer.reset();
            match session.receive().await.unwrap() {
                Some(reconnect::Event::Disconnected(lost)) => lost.unacknowledged,
                other => panic!("{other:?}"),
            }
        });
        assert_eq!(lost.len(), 2000, "{lost:?}");
        assert!(lost.streamed * 40 <= capacity as u64 + 100, "{capacity}: {lost:?}");
    }
}
