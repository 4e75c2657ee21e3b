//! Each protocol case, and what ends a connection.

use std::{
    future::poll_fn,
    io::{self, Read as _, Write as _},
    net::{Shutdown, TcpListener, TcpStream},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    task::{Context, Poll, Waker},
    time::Duration,
};

use bytes::Bytes;
use drivetrain_engine::{
    Capability, CloseCode, Error, ErrorKind, OpCode, RawFrame, Role, Rsv, Transport as _,
};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio_util::compat::TokioAsyncReadCompatExt as _;

use super::{Framer, Options};

fn run(test: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime")
        .block_on(test);
}

fn framer(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, early: &[u8]) -> Framer {
    of(Role::Client, stream, early, Options::default())
}

fn of(
    role: Role,
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    early: &[u8],
    options: Options,
) -> Framer {
    Framer::new(Box::new(stream.compat()), Bytes::copy_from_slice(early), role, options)
}

/// A framer whose peer has sent `bytes` and, if asked, ended; and that peer.
fn with(bytes: &[u8], end: bool, test: impl AsyncFnOnce(Framer, TcpStream)) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let client = TcpStream::connect(listener.local_addr().expect("bound")).expect("listening");
    let (mut peer, _) = listener.accept().expect("connected");
    peer.write_all(bytes).expect("fits");
    if end {
        peer.shutdown(Shutdown::Write).expect("open");
    }
    client.set_nonblocking(true).expect("a socket");
    run(async {
        let client = tokio::net::TcpStream::from_std(client).expect("a socket");
        test(framer(client, &[]), peer).await;
    });
}

async fn receive(framer: &mut Framer, max: usize) -> Result<Option<RawFrame>, Error> {
    let received = poll_fn(|cx| framer.poll_receive(cx, max));
    tokio::time::timeout(Duration::from_secs(60), received).await.expect("in time")
}

async fn frame(framer: &mut Framer, max: usize) -> RawFrame {
    receive(framer, max).await.expect("a sound stream").expect("a frame")
}

async fn failure(framer: &mut Framer, max: usize) -> Error {
    receive(framer, max).await.expect_err("must be refused")
}

fn fails_with(bytes: &[u8], max: usize, kind: ErrorKind, code: CloseCode) {
    with(bytes, false, async |mut framer, peer| {
        let error = failure(&mut framer, max).await;
        assert_eq!((error.kind(), error.close_code()), (kind, Some(code)), "{bytes:?}: {error}");
        drop(peer);
        assert!(receive(&mut framer, max).await.expect("told once").is_none(), "{bytes:?}");
    });
}

#[test]
fn a_violation_has_its_kind_and_close_code() {
    let protocol = |bytes: &[u8]| {
        fails_with(bytes, usize::MAX, ErrorKind::Protocol, CloseCode::PROTOCOL_ERROR)
    };
    protocol(&[0xc1, 1, b'x']); // a reserved bit
    protocol(&[0x91, 1, b'x']);
    protocol(&[0x83, 0]); // a reserved opcode
    protocol(&[0x09, 0]); // a fragmented ping
    protocol(&[0x89, 126, 0, 126]); // a ping, a close, a pong of 126
    protocol(&[0x88, 126, 0, 126]);
    protocol(&[0x8a, 126, 0, 126]);
    protocol(&[0x81, 0x81, 0, 0, 0, 0, b'x']); // masked
    protocol(&[0x82, 126, 0, 125]); // lengths that are not minimal
    protocol(&[0x82, 127, 0, 0, 0, 0, 0, 0, 255, 255]);
    protocol(&[0x82, 127, 128, 0, 0, 0, 0, 0, 0, 0]);
    let text = [0x81, 1, 0xff];
    fails_with(&text, 100, ErrorKind::Protocol, CloseCode::INVALID_PAYLOAD);
}

#[test]
fn the_limit_is_exact_and_refuses_the_announcement() {
    let too_big = |bytes: &[u8], max| fails_with(bytes, max, ErrorKind::TooBig, CloseCode::TOO_BIG);
    too_big(&[0x82, 126, 1, 1], 256);
    too_big(&[0x82, 11], 10);
    too_big(&[0x82, 1], 0);
    for max in [256, 1 << 40, usize::MAX] {
        too_big(&[0x82, 127, 0, 0, 0, 16, 0, 0, 0, 0], max);
        too_big(&[0x82, 127, 127, 255, 255, 255, 255, 255, 255, 255], max);
    }
    let exact = [&[0x82, 126, 1, 0][..], &[7; 256]].concat();
    with(&exact, true, async |mut framer, _| {
        assert_eq!(frame(&mut framer, 256).await.payload.len(), 256);
        assert!(receive(&mut framer, 256).await.expect("sound").is_none());
    });
}

#[test]
fn control_frames_are_exempt_from_the_limit() {
    let ping = [&[0x89, 125][..], &[1; 125], &[0x88, 2, 3, 232]].concat();
    with(&ping, true, async |mut framer, _| {
        assert_eq!(frame(&mut framer, 0).await.payload.len(), 125);
        assert_eq!(frame(&mut framer, 0).await.opcode, OpCode::Close);
    });
}

#[test]
fn each_frame_is_measured_by_its_own_limit() {
    // The second is half here when the first is read with a limit that is too small for it.
    let bytes = [&[0x82, 2, 1, 1, 0x82, 50][..], &[2; 20]].concat();
    for (limit, fits) in [(50, true), (49, false)] {
        with(&bytes, false, async |mut framer, mut peer| {
            assert_eq!(frame(&mut framer, 2).await.payload.len(), 2);
            if fits {
                peer.write_all(&[2; 30]).expect("fits");
            }
            let second = receive(&mut framer, limit).await;
            assert_eq!(second.is_ok(), fits);
        });
    }
}

#[test]
fn the_limit_of_the_engine_and_that_of_the_call_are_both_kept() {
    for (call, sent, fits) in [(100, 51, false), (100, 50, true), (40, 41, false)] {
        run(async {
            let (client, mut server) = tokio::io::duplex(1024);
            let options = Options { max_frame_size: Some(50), ..Options::default() };
            let mut framer = of(Role::Client, client, &[], options);
            server.write_all(&[&[0x82, sent][..], &[0; 100]].concat()).await.expect("fits");
            assert_eq!(receive(&mut framer, call).await.is_ok(), fits);
        });
    }
}

#[test]
fn an_end_inside_a_frame_is_an_error_and_at_a_boundary_is_not() {
    for whole in [&[][..], &[0x82, 0]] {
        with(whole, true, async |mut framer, _| {
            if !whole.is_empty() {
                assert!(frame(&mut framer, 9).await.payload.is_empty());
            }
            for _ in 0..2 {
                assert!(receive(&mut framer, 9).await.expect("an end").is_none());
            }
        });
    }
    for torn in [&[0x82][..], &[0x82, 5], &[0x82, 5, 1, 2], &[0x82, 126, 0]] {
        with(torn, true, async |mut framer, _| {
            for _ in 0..2 {
                assert_eq!(failure(&mut framer, 9).await.kind(), ErrorKind::Io, "{torn:?}");
            }
        });
    }
}

#[test]
fn frames_before_a_violation_are_delivered() {
    with(&[0x82, 1, 1, 0x82, 1, 2, 0xf2, 0], false, async |mut framer, _peer| {
        assert_eq!(frame(&mut framer, 9).await.payload[..], [1]);
        let second = framer.try_receive_buffered(9).expect("here").expect("sound");
        assert_eq!(second.payload[..], [2]);
        let third = framer.try_receive_buffered(9).expect("here").expect_err("reserved bits");
        assert_eq!(third.kind(), ErrorKind::Protocol);
        assert!(framer.try_receive_buffered(9).is_none(), "told once");
    });
    with(&[0x82, 1, 1, 0x82, 0x81, 0, 0, 0, 0, b'x'], false, async |mut framer, _peer| {
        assert_eq!(frame(&mut framer, 9).await.payload[..], [1]);
        assert!(framer.try_receive_buffered(9).is_none(), "the masked one is not delivered");
        assert_eq!(failure(&mut framer, 9).await.kind(), ErrorKind::Protocol);
    });
}

#[test]
fn a_violation_is_found_at_every_split() {
    let bytes = [0x82, 1, 1, 0x82, 126, 0, 126];
    let bytes = [&bytes[..], &[5; 126], &[0x8a, 126, 0, 200, 1, 2]].concat();
    run(async {
        for cut in 0..=bytes.len() {
            let (client, mut server) = tokio::io::duplex(1024);
            let mut framer = framer(client, &bytes[..cut]);
            let mut got = vec![];
            let mut cx = Context::from_waker(Waker::noop());
            for part in [&bytes[cut..], &[]] {
                while let Poll::Ready(result) = framer.poll_receive(&mut cx, 999) {
                    match result {
                        Ok(frame) => got.push(frame.expect("not the end").payload.len()),
                        Err(error) => {
                            assert_eq!(error.kind(), ErrorKind::Protocol);
                            got.push(0);
                        }
                    }
                }
                server.write_all(part).await.expect("fits");
            }
            assert_eq!(got, [1, 126, 0], "cut at {cut}");
        }
    });
}

#[test]
fn after_an_error_the_close_arrives_and_input_is_discarded_until_the_end() {
    let flood = 8 << 20;
    with(&[0x83, 0], false, async |mut framer, mut peer| {
        assert_eq!(failure(&mut framer, 9).await.kind(), ErrorKind::Protocol);
        let peer = std::thread::spawn(move || {
            peer.write_all(&vec![0x82; flood]).expect("it is read");
            let mut close = [0; 8];
            peer.read_exact(&mut close).expect("no reset");
            peer.shutdown(Shutdown::Write).expect("open");
            close
        });
        let close = RawFrame::new(OpCode::Close, vec![3, 234]);
        framer.start_send(close).expect("a sound frame");
        poll_fn(|cx| framer.poll_flush(cx)).await.expect("open");
        for _ in 0..2 {
            assert!(receive(&mut framer, 9).await.expect("an end").is_none());
        }
        assert_eq!(peer.join().expect("no panic")[..2], [0x88, 0x82]);
    });
}

/// A peer that never stops and never makes anyone wait; it counts what was read.
struct Endless(Arc<AtomicUsize>);

impl AsyncRead for Endless {
    fn poll_read(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let length = buf.remaining();
        buf.initialize_unfilled().fill(0x83);
        buf.advance(length);
        assert!(self.0.fetch_add(length, Relaxed) < 1 << 20, "no end of reading in one poll");
        Poll::Ready(Ok(()))
    }
}

/// A flood of frames of 1 KiB that never makes anyone wait, a little short now and then; it notes the most that it was
/// offered.
struct Flood(Arc<AtomicUsize>, usize);

impl AsyncRead for Flood {
    fn poll_read(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let Self(offered, sent) = self.get_mut();
        offered.fetch_max(buf.remaining(), Relaxed);
        let frame = [&[0x82, 126, 4, 0][..], &[7; 1 << 10]].concat();
        let length = buf.remaining() - (*sent % 1_021).min(buf.remaining() / 2);
        for byte in frame.iter().cycle().skip(*sent % frame.len()).take(length) {
            buf.put_slice(&[*byte]);
            *sent += 1;
        }
        Poll::Ready(Ok(()))
    }
}

#[test]
fn reads_grow_in_a_flood_though_a_message_is_kept_meanwhile() {
    let offered = Arc::new(AtomicUsize::new(0));
    let mut framer = framer(tokio::io::join(Flood(offered.clone(), 0), tokio::io::sink()), &[]);
    run(async {
        let mut kept = None;
        for _ in 0..2_000 {
            let next = frame(&mut framer, usize::MAX).await.payload;
            assert_eq!(next, [7; 1 << 10][..]);
            kept = Some(next);
        }
        drop(kept);
    });
    assert!(offered.load(Relaxed) >= 60 << 10, "{}", offered.load(Relaxed));
}

#[test]
fn one_poll_discards_a_bounded_amount() {
    let count = Arc::new(AtomicUsize::new(0));
    let mut framer = framer(tokio::io::join(Endless(count.clone()), tokio::io::sink()), &[]);
    let mut cx = Context::from_waker(Waker::noop());
    assert!(matches!(framer.poll_receive(&mut cx, 9), Poll::Ready(Err(_))));
    let before = count.load(Relaxed);
    assert!(framer.poll_receive(&mut cx, 9).is_pending());
    assert!(count.load(Relaxed) - before <= 256 << 10);
}

#[test]
fn buffered_never_reads_and_early_bytes_come_first() {
    run(async {
        let (client, mut server) = tokio::io::duplex(1024);
        server.write_all(&[2, 0x82, 1, 3]).await.expect("fits");
        let mut framer = framer(client, &[0x82, 1, 1, 0x82, 1]);
        assert_eq!(frame(&mut framer, 9).await.payload[..], [1]);
        assert!(framer.try_receive_buffered(9).is_none(), "its rest is in the socket");
        assert_eq!(frame(&mut framer, 9).await.payload[..], [2]);
        let third = framer.try_receive_buffered(9).expect("here").expect("sound");
        assert_eq!(third.payload[..], [3]);
        server.write_all(&[0x82, 1, 4]).await.expect("fits");
        assert!(framer.try_receive_buffered(9).is_none());
        assert_eq!(frame(&mut framer, 9).await.payload[..], [4]);
    });
}

#[test]
fn what_cannot_be_sent_is_refused_and_leaves_nothing_behind() {
    with(&[], false, async |mut framer, _peer| {
        let mut refused = |frame: RawFrame| framer.start_send(frame).expect_err("must be refused");
        let mut compressed = RawFrame::new(OpCode::Text, "x");
        compressed.rsv = Rsv::RSV1;
        let error = refused(compressed);
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert_eq!(error.capability(), Some(Capability::RsvBits));
        let error = refused(RawFrame::new(OpCode::Ping, vec![0; 126]));
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        let error = refused(RawFrame::new(OpCode::Pong, "x").not_final());
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(format!("{framer:?}").contains("unwritten: 0"));
    });
}

#[test]
fn a_pending_write_does_not_block_a_read() {
    with(&[0x82, 1, 7], false, async |mut framer, _peer| {
        let mut cx = Context::from_waker(Waker::noop());
        loop {
            if framer.poll_ready(&mut cx).is_pending() {
                tokio::task::yield_now().await;
                if framer.poll_ready(&mut cx).is_pending() {
                    break; // the peer reads nothing: both socket buffers are full
                }
            }
            let full = RawFrame::new(OpCode::Binary, vec![0; 60_000]);
            framer.start_send(full).expect("a sound frame");
        }
        assert_eq!(frame(&mut framer, 9).await.payload[..], [7]);
    });
}

#[test]
fn frames_around_a_renewed_buffer_are_whole() {
    run(async {
        let (client, mut server) = tokio::io::duplex(64 << 10);
        let mut framer = framer(client, &[]);
        let large = [&[0x82, 127, 0, 0, 0, 0, 0, 4, 0, 0][..], &[9; 256 << 10]].concat();
        let all = [&large[..], &large, &[0x82, 1, 1], &large, &[0x82, 1, 2]].concat();
        let server = tokio::spawn(async move {
            server.write_all(&all).await.expect("it is read");
            tokio::time::sleep(Duration::from_millis(20)).await; // the framer is idle meanwhile
            server.write_all(&large).await.expect("it is read");
            tokio::time::sleep(Duration::from_millis(20)).await;
            server.write_all(&[0x82, 1, 3]).await.expect("it is read");
        });
        let mut got = vec![];
        while let Some(frame) = receive(&mut framer, usize::MAX).await.expect("sound") {
            got.push((frame.payload.len(), frame.payload[0]));
        }
        let large = (256 << 10, 9);
        assert_eq!(got, [large, large, (1, 1), large, (1, 2), large, (1, 3)]);
        server.await.expect("no panic");
    });
}

#[test]
fn a_server_reads_masked_frames_and_writes_plain_ones() {
    run(async {
        let (client, server) = tokio::io::duplex(1 << 10);
        let mut client = of(Role::Client, client, &[], Options::default());
        let mut server = of(Role::Server, server, &[], Options::default());
        for length in [0, 1, 125, 126, 300, 65_535, 65_536, 200_000] {
            let sent = RawFrame::new(OpCode::Binary, vec![7; length]);
            client.start_send(sent.clone()).expect("a sound frame");
            server.start_send(sent.clone()).expect("a sound frame");
            let both = async |from: &mut Framer, to: &mut Framer| {
                poll_fn(|cx| {
                    let _ = from.poll_flush(cx)?;
                    to.poll_receive(cx, usize::MAX)
                })
                .await
                .expect("sound")
                .expect("a frame")
            };
            assert_eq!(both(&mut client, &mut server).await, sent, "{length} bytes to the server");
            assert_eq!(both(&mut server, &mut client).await, sent, "{length} bytes to the client");
        }
    });
}

#[test]
fn a_server_refuses_a_frame_without_a_mask() {
    for bytes in [&[0x82, 1, 7][..], &[0x89, 0], &[0x82, 126, 1, 0]] {
        for cut in 0..bytes.len() {
            run(async {
                let (mut client, server) = tokio::io::duplex(1 << 10);
                let mut server = of(Role::Server, server, &bytes[..cut], Options::default());
                client.write_all(&bytes[cut..]).await.expect("fits");
                let error = failure(&mut server, 999).await;
                assert_eq!(error.kind(), ErrorKind::Protocol, "{bytes:?}");
                assert!(error.to_string().contains("did not mask"), "{error}");
            });
        }
    }
}
