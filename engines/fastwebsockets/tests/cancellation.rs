//! Nothing is lost, doubled or torn, however often the caller goes away.

mod peer;

use std::{
    future::poll_fn,
    io::{BufReader, Write as _},
    net::{Shutdown, SocketAddr, TcpStream},
    pin::pin,
    task::Poll,
    thread::JoinHandle,
    time::Duration,
};

use drivetrain_engine::{OpCode, RawFrame, Transport};
use drivetrain_fastwebsockets::FastWebSockets;
use peer::{encode, open, read_frame, run};

const MESSAGES: u32 = 4_000;

/// xorshift: the seed makes a failure repeatable.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}

#[test]
fn cancelled_operations_lose_nothing() {
    for seed in [1, 0xdead_beef, 77] {
        cancelled(seed, false);
    }
}

#[test]
fn cancelled_operations_lose_nothing_with_a_slow_peer() {
    cancelled(0x00ab_cdef, true);
}

fn cancelled(seed: u64, slow: bool) {
    let (address, server) = serve(seed, slow);
    run(async {
        let socket = tokio::net::TcpSocket::new_v4().expect("a socket");
        socket.set_send_buffer_size(8 << 10).expect("a socket");
        socket.set_recv_buffer_size(8 << 10).expect("a socket");
        let stream = socket.connect(address).await.expect("listening");
        stream.set_nodelay(true).expect("a socket");
        let connection = open(&FastWebSockets::over(stream), address).await.expect("opens");
        exchange(seed, &mut *connection.into_transport()).await;
    });
    assert_eq!(server.join().expect("no panic"), MESSAGES);
}

/// Sends and receives all messages at once, giving up in the middle again and again.
async fn exchange(seed: u64, transport: &mut dyn Transport) {
    let mut random = Random(seed);
    let mut expected = (0..MESSAGES).flat_map(frames);
    let mut outgoing = (0..MESSAGES).flat_map(frames).peekable();
    let (mut dropped, mut unsent) = (0, 0);
    let (mut is_received, mut is_sent) = (false, false);
    while !(is_received && is_sent) {
        if !is_received {
            let wait = Duration::from_micros(random.below(200));
            let received = match random.below(4) {
                0 => transport.try_receive_buffered(1 << 20).map(|result| result.map(Some)),
                1 => tokio::select! {
                    biased;
                    result = poll_fn(|cx| transport.poll_receive(cx, 1 << 20)) => Some(result),
                    () = tokio::time::sleep(wait) => None,
                },
                _ => {
                    let receive = poll_fn(|cx| transport.poll_receive(cx, 1 << 20));
                    at_most(1 + random.below(3), receive).await
                }
            };
            match received.map(|result| result.expect("a sound stream")) {
                Some(Some(frame)) => {
                    let (first, payload) = expected.next().expect("a frame too many");
                    assert_eq!(first_byte(&frame), first);
                    assert!(frame.payload == payload, "a frame was torn");
                }
                Some(None) => is_received = true,
                None => dropped += 1,
            }
        }
        if !is_sent {
            for _ in 0..random.below(4) {
                if outgoing.peek().is_none() {
                    break;
                }
                let wait = Duration::from_micros(random.below(100));
                tokio::select! {
                    biased;
                    ready = poll_fn(|cx| transport.poll_ready(cx)) => ready.expect("open"),
                    () = tokio::time::sleep(wait) => {
                        unsent += 1;
                        break;
                    }
                }
                let (first, payload) = outgoing.next().expect("peeked");
                transport.start_send(raw(first, payload)).expect("a sound frame");
            }
            if random.below(3) == 0 {
                let flush = poll_fn(|cx| transport.poll_flush(cx));
                unsent += u64::from(at_most(1, flush).await.is_none());
            }
            if outgoing.peek().is_none() {
                let close = poll_fn(|cx| transport.poll_close(cx));
                let closed = at_most(1 + random.below(3), close).await;
                is_sent = closed.is_some_and(|result| result.is_ok());
            }
        }
    }
    assert!(expected.next().is_none(), "frames are missing");
    assert!(dropped > 100 && unsent > 50, "{dropped} and {unsent}: too few were cancelled");
}

/// Polls this many times within 100 µs at most, then gives up and drops.
async fn at_most<F: Future>(polls: u64, future: F) -> Option<F::Output> {
    let mut future = pin!(future);
    let mut left = polls;
    let limited = poll_fn(|cx| match future.as_mut().poll(cx) {
        Poll::Ready(output) => Poll::Ready(Some(output)),
        Poll::Pending if left <= 1 => Poll::Ready(None),
        Poll::Pending => {
            left -= 1;
            Poll::Pending
        }
    });
    tokio::time::timeout(Duration::from_micros(100), limited).await.ok().flatten()
}

/// A peer that sends all messages, torn at random bytes, and checks those it receives.
fn serve(seed: u64, slow: bool) -> (SocketAddr, JoinHandle<u32>) {
    peer::peer(vec![], move |socket| {
        let out = socket.try_clone().expect("a socket");
        let writer = std::thread::spawn(move || write_torn(seed ^ 0x5555, out));
        let mut input = BufReader::with_capacity(4096, socket);
        let mut next = 0;
        let mut expected = Vec::new().into_iter();
        while let Some(received) = read_frame(&mut input) {
            let wanted = expected.next().unwrap_or_else(|| {
                expected = frames(next).into_iter();
                next += 1;
                expected.next().expect("each message has a frame")
            });
            assert!(received == wanted, "torn or lost at message {next}");
            if slow && next % 97 == 0 {
                std::thread::sleep(Duration::from_millis(3));
            }
        }
        assert!(expected.next().is_none(), "frames are missing");
        writer.join().expect("no panic");
        next
    })
}

fn write_torn(seed: u64, mut out: TcpStream) {
    let mut random = Random(seed);
    let mut pending = Vec::new();
    for index in 0..MESSAGES {
        for (first, payload) in frames(index) {
            pending.extend(encode(first, &payload));
        }
        while pending.len() > 6000 || (!pending.is_empty() && random.below(3) == 0) {
            let most = [3, 60, 2000, 9000][random.below(4) as usize].min(pending.len() as u64);
            let cut = 1 + random.below(most) as usize;
            out.write_all(&pending[..cut]).expect("open");
            pending.drain(..cut);
            if random.below(3) == 0 {
                std::thread::sleep(Duration::from_micros(random.below(60)));
            }
        }
    }
    out.write_all(&pending).expect("open");
    out.shutdown(Shutdown::Write).expect("open");
}

/// The frames of a message: first byte and payload.
fn frames(index: u32) -> Vec<(u8, Vec<u8>)> {
    let payload = |length| pattern(index, length);
    match index % 10 {
        0..=5 => vec![(0x81, payload(8 + (index % 30) as usize))],
        6 | 7 => vec![(0x82, payload(200))],
        8 => vec![(0x89, payload(8)), (0x81, payload(130))],
        _ if index % 100 == 9 => vec![
            (0x02, payload(70_000)),
            (0x89, payload(20)),
            (0x00, payload(140_000)),
            (0x80, payload(11)),
        ],
        _ => vec![(0x82, payload(1500))],
    }
}

/// Told apart from its neighbours at both ends.
fn pattern(index: u32, length: usize) -> Vec<u8> {
    let mut payload = vec![b'a' + (index % 26) as u8; length];
    let tag = format!("{index:08}");
    payload[..8].copy_from_slice(tag.as_bytes());
    payload[length - 8..].copy_from_slice(tag.as_bytes());
    payload
}

fn first_byte(frame: &RawFrame) -> u8 {
    let opcode = match frame.opcode {
        OpCode::Continuation => 0,
        OpCode::Text => 1,
        OpCode::Binary => 2,
        OpCode::Close => 8,
        OpCode::Ping => 9,
        OpCode::Pong => 10,
    };
    u8::from(frame.fin) << 7 | opcode
}

fn raw(first: u8, payload: Vec<u8>) -> RawFrame {
    let opcode = match first & 0x0f {
        0 => OpCode::Continuation,
        1 => OpCode::Text,
        2 => OpCode::Binary,
        _ => OpCode::Ping,
    };
    let frame = RawFrame::new(opcode, payload);
    if first & 0x80 == 0 { frame.not_final() } else { frame }
}
