//! What becomes of messages in flight: case by case, and at random.

use std::{
    pin::pin,
    sync::{Arc, Mutex},
};

use drivetrain::{
    Bytes, CloseReason, Error, ErrorKind, Frame, MessageKind, NegotiatedExtension, OpCode,
    RawFrame, Result,
    extension::{Extension, MessagePart, Role, Transform},
    reconnect::{Backoff, Event, ReconnectingSession, Unacknowledged},
    testing::PipePeer,
};

use super::script::{Server, arrived, close_frame, texts};

fn open() -> (Server, ReconnectingSession, PipePeer) {
    let server = Server::new([]);
    let session = server.open(Backoff::new().max_tries(None));
    let peer = server.peer();
    (server, session, peer)
}

fn send(server: &Server, session: &ReconnectingSession, text: &str) {
    server.runtime.block_on(session.send(text)).unwrap();
}

/// Has the peer answer a ping that comes after everything so far.
fn confirm(server: &Server, session: &ReconnectingSession, peer: &mut PipePeer) -> Vec<String> {
    let mut ping = pin!(session.connection().unwrap().ping());
    assert!(server.runtime.poll_now(ping.as_mut()).is_none());
    let frames: Vec<_> = std::iter::from_fn(|| peer.receive()).collect();
    let pong = frames.iter().find(|frame| frame.opcode == OpCode::Ping).unwrap();
    peer.send(RawFrame::new(OpCode::Pong, pong.payload.clone()));
    server.runtime.settle();
    server.runtime.poll_now(ping).expect("answered").unwrap();
    let messages = frames.into_iter().filter(|frame| frame.opcode == OpCode::Text);
    messages.map(|frame| String::from_utf8(frame.payload.to_vec()).unwrap()).collect()
}

/// What is in doubt at the end, when "mine" was sent between a ping and its pong.
fn in_doubt_behind_a_pong(
    server: &Server,
    session: &mut ReconnectingSession,
    peer: &mut PipePeer,
) -> Vec<String> {
    let mut ping = Box::pin(session.connection().unwrap().ping());
    assert!(server.runtime.poll_now(ping.as_mut()).is_none());
    send(server, session, "mine");
    let mut frames = std::iter::from_fn(|| peer.receive());
    let payload = frames.find(|frame| frame.opcode == OpCode::Ping).unwrap().payload;
    peer.send(RawFrame::new(OpCode::Pong, payload));
    server.runtime.settle();
    server.runtime.poll_now(ping.as_mut()).expect("answered").unwrap();
    drop(ping);
    peer.end();
    let unknown = server.disconnected(session).unacknowledged.unknown;
    texts(&unknown).into_iter().map(String::from).collect()
}

#[test]
fn what_is_written_may_or_may_not_have_arrived() {
    let (server, mut session, mut peer) = open();
    send(&server, &session, "one");
    send(&server, &session, "two");
    server.runtime.settle();
    assert_eq!(arrived(&mut peer), ["one", "two"]);
    peer.end();
    let Unacknowledged { unknown, unsent, forgotten, .. } =
        server.disconnected(&mut session).unacknowledged;
    assert_eq!((texts(&unknown), unsent.len(), forgotten), (vec!["one", "two"], 0, 0));
    server.retrying(&mut session);
    server.connected(&mut session);
    server.runtime.settle();
    assert!(arrived(&mut server.peer()).is_empty(), "nothing is sent again");
}

#[test]
fn what_a_pong_has_confirmed_is_not_reported() {
    let (server, mut session, mut peer) = open();
    send(&server, &session, "one");
    assert_eq!(confirm(&server, &session, &mut peer), ["one"]);
    send(&server, &session, "two");
    peer.end();
    assert_eq!(texts(&server.disconnected(&mut session).unacknowledged.unknown), ["two"]);
}

/// What the hook has sent is counted, but is not in it.
#[test]
fn a_pong_for_what_the_hook_sent_confirms_nothing_else() {
    let server = Server::new([]);
    let request = server.request(Backoff::new()).on_open(|session| {
        Box::pin(async move {
            session.send("auth").await?;
            session.send("subscribe").await
        })
    });
    let mut session = server.runtime.block_on(request.connect()).unwrap();
    let mut peer = server.peer();
    assert_eq!(in_doubt_behind_a_pong(&server, &mut session, &mut peer), ["mine"]);
}

/// Goes through as it is, but in fragments of the session's making.
#[derive(Debug)]
struct Plain;

impl Extension for Plain {
    fn name(&self) -> &str {
        "x-plain"
    }

    fn accept(&self, _: &NegotiatedExtension, _: Role) -> Result<Box<dyn Transform>> {
        Ok(Box::new(Plain))
    }
}

impl Transform for Plain {
    fn incoming(&mut self, part: &mut MessagePart, room: usize) -> Result<Bytes> {
        Ok(part.payload.split_to(part.payload.len().min(room)))
    }

    fn outgoing(&mut self, _: &mut MessagePart) -> Result<()> {
        Ok(())
    }
}

/// The end of what the hook has sent waits behind its extension, and is not the send log's first.
#[test]
fn what_the_hook_sent_is_not_in_it_wherever_it_waits() {
    let server = Server::new([]);
    let (kept, hooked) = (Arc::new(Mutex::new(None)), server.clone());
    let peer = Arc::clone(&kept);
    let request = server.request_with(Backoff::new(), Plain).on_open(move |session| {
        let mut peer = hooked.peer();
        peer.set_writable(false);
        *kept.lock().unwrap() = Some(peer);
        Box::pin(async move { session.send(vec![7; 70_000]).await })
    });
    let mut session = server.runtime.block_on(request.connect()).unwrap();
    let mut peer = peer.lock().unwrap().take().unwrap();
    peer.set_writable(true);
    server.runtime.settle();
    assert_eq!(in_doubt_behind_a_pong(&server, &mut session, &mut peer), ["mine"]);
}

/// Panics at a message of this payload.
#[derive(Debug)]
struct Fragile;

impl Extension for Fragile {
    fn name(&self) -> &str {
        "x-fragile"
    }

    fn accept(&self, _: &NegotiatedExtension, _: Role) -> Result<Box<dyn Transform>> {
        Ok(Box::new(Fragile))
    }
}

impl Transform for Fragile {
    fn incoming(&mut self, part: &mut MessagePart, room: usize) -> Result<Bytes> {
        Plain.incoming(part, room)
    }

    fn outgoing(&mut self, part: &mut MessagePart) -> Result<()> {
        assert_ne!(part.payload, "panic");
        Ok(())
    }
}

#[test]
fn a_panic_is_no_clean_end_and_leaves_everything_in_doubt() {
    let server = Server::new([]);
    let request = server.request_with(Backoff::new(), Fragile);
    let mut session = server.runtime.block_on(request.connect()).unwrap();
    send(&server, &session, "one");
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| send(&server, &session, "panic")))
        .unwrap_err();
    let lost = server.disconnected(&mut session);
    assert_eq!(lost.outcome.error.unwrap().kind(), ErrorKind::Io);
    assert_eq!(texts(&lost.unacknowledged.unknown), ["one", "panic"]);
    server.retrying(&mut session);
    server.connected(&mut session);
}

/// A ping passes what waits in the queue, and so its pong does not confirm it.
#[test]
fn a_pong_confirms_only_what_was_before_its_ping() {
    let (server, mut session, mut peer) = open();
    peer.set_writable(false);
    let big = "x".repeat(60_000);
    for text in ["first", &big, &big, "queued"] {
        send(&server, &session, text);
    }
    let mut ping = Box::pin(session.connection().unwrap().ping());
    assert!(server.runtime.poll_now(ping.as_mut()).is_none());
    send(&server, &session, "after the ping");
    peer.set_writable(true);
    server.runtime.settle();
    let frames: Vec<_> = std::iter::from_fn(|| peer.receive()).collect();
    let at = frames.iter().position(|frame| frame.opcode == OpCode::Ping).unwrap();
    let before = frames[..at].iter().filter(|frame| frame.opcode == OpCode::Text).count();
    peer.send(RawFrame::new(OpCode::Pong, frames[at].payload.clone()));
    server.runtime.settle();
    server.runtime.poll_now(ping.as_mut()).expect("answered").unwrap();
    drop(ping);
    peer.end();
    let left = server.disconnected(&mut session).unacknowledged;
    assert!((1..5).contains(&before), "the ping was in between");
    assert!(left.len() as usize >= 5 - before, "{left:?} of 5 after {before}");
    let frames: Vec<_> = left.into_frames().collect();
    assert_eq!(frames.last().unwrap().read_text(), Some("after the ping"));
}

#[test]
fn what_was_not_sent_is_told_apart_from_what_may_have_arrived() {
    let (server, mut session, mut peer) = open();
    peer.set_writable(false);
    let big = "x".repeat(40_000);
    for text in [&*big, "queued", "behind"] {
        send(&server, &session, text);
    }
    peer.fail(Error::new(ErrorKind::Io, "reset"));
    let left = server.disconnected(&mut session).unacknowledged;
    assert_eq!((left.unknown.len(), left.forgotten), (1, 0));
    assert_eq!(texts(&left.unsent), ["queued", "behind"]);
    assert!(arrived(&mut peer).is_empty());
}

/// Some fragments of it are out: it cannot have arrived.
#[test]
fn a_message_that_was_sent_in_part_was_not_sent() {
    let (server, mut session, mut peer) = open();
    peer.set_writable(false);
    let sent = Frame::from(vec![7; 200_000]);
    server.runtime.block_on(session.send(sent.clone())).unwrap();
    peer.set_writable(true);
    peer.fail_writes(Error::new(ErrorKind::Io, "broken"));
    peer.end();
    let left = server.disconnected(&mut session).unacknowledged;
    assert_eq!(left.unsent, [sent]);
    assert!(left.unknown.is_empty());
}

#[test]
fn beyond_the_capacity_they_are_counted() {
    let server = Server::new([]);
    let request = server.request(Backoff::new()).unacknowledged_capacity(0);
    let mut session = server.runtime.block_on(request.connect()).unwrap();
    let mut peer = server.peer();
    for text in ["one", "two", "three"] {
        send(&server, &session, text);
    }
    server.runtime.settle();
    peer.end();
    let left = server.disconnected(&mut session).unacknowledged;
    assert_eq!((left.len(), left.unsent.len()), (3, 0));
    assert!(left.forgotten >= 2, "{left:?}");
    assert_eq!(left.forgotten, 3 - left.unknown.len() as u64);
}

/// It may have stopped reading before.
#[test]
fn a_close_of_the_peer_confirms_nothing() {
    for code in [1000, 1012] {
        let (server, mut session, mut peer) = open();
        send(&server, &session, "one");
        peer.send(close_frame(code));
        let lost = server.disconnected(&mut session);
        assert!(lost.outcome.clean);
        assert_eq!(texts(&lost.unacknowledged.unknown), ["one"], "{code}");
    }
}

/// The peer's Close was on its way: it looks like the answer to this end's, and is none.
#[test]
fn a_close_that_crosses_this_ends_confirms_nothing() {
    for arrives_first in [false, true] {
        let (server, mut session, mut peer) = open();
        send(&server, &session, "one");
        peer.set_writable(!arrives_first);
        let outgoing = session.sender();
        let mut closing = pin!(outgoing.close(CloseReason::normal()));
        assert!(server.runtime.poll_now(closing.as_mut()).is_none());
        peer.send(close_frame(1000));
        server.runtime.settle();
        peer.set_writable(true);
        assert!(server.runtime.poll_now(closing).unwrap().unwrap().clean);
        let left = server.disconnected(&mut session).unacknowledged;
        assert_eq!(texts(&left.unknown), ["one"]);
    }
}

/// The ping before the Close goes out behind everything.
#[test]
fn what_waits_when_this_end_closes_is_confirmed_too() {
    let (server, mut session, mut peer) = open();
    peer.set_writable(false);
    let big = "x".repeat(60_000);
    for text in ["first", &big, &big, "queued"] {
        send(&server, &session, text);
    }
    let sender = session.sender();
    let mut closing = pin!(sender.close(CloseReason::normal()));
    assert!(server.runtime.poll_now(closing.as_mut()).is_none());
    peer.set_writable(true);
    server.runtime.settle();
    let frames: Vec<_> = std::iter::from_fn(|| peer.receive()).collect();
    let opcodes: Vec<_> = frames.iter().map(|frame| frame.opcode).collect();
    assert_eq!(opcodes[opcodes.len() - 2..], [OpCode::Ping, OpCode::Close]);
    peer.send(RawFrame::new(OpCode::Pong, frames[frames.len() - 2].payload.clone()));
    peer.send(close_frame(1000));
    assert!(server.runtime.poll_now(closing).unwrap().unwrap().clean);
    assert!(server.disconnected(&mut session).unacknowledged.is_empty());
}

#[test]
fn what_is_fed_and_what_goes_through_the_connection_is_in_it() {
    let (server, mut session, mut peer) = open();
    server.runtime.block_on(session.feed("fed")).unwrap();
    server.runtime.block_on(session.connection().unwrap().send("direct")).unwrap();
    server.runtime.block_on(session.connection().unwrap().outgoing().feed("half")).unwrap();
    server.runtime.block_on(session.send(Frame::Ping("no message".into()))).unwrap();
    peer.end();
    let left = server.disconnected(&mut session).unacknowledged;
    let all: Vec<_> = left.into_frames().collect();
    assert_eq!(texts(&all), ["fed", "direct", "half"]);
}

/// Nobody keeps them, but they count, and do not shift what is confirmed.
#[test]
fn streamed_messages_are_counted() {
    let (server, mut session, mut peer) = open();
    server.runtime.block_on(async {
        for chunk in ["streamed", "streamed too"] {
            let connection = session.connection().unwrap();
            let mut writer = connection.send_stream(MessageKind::Text).await.unwrap();
            writer.write_chunk(chunk).await.unwrap();
            writer.finish().await.unwrap();
        }
    });
    assert!(!confirm(&server, &session, &mut peer).is_empty());
    send(&server, &session, "after");
    server.runtime.block_on(async {
        let connection = session.connection().unwrap();
        let mut writer = connection.send_stream(MessageKind::Text).await.unwrap();
        writer.write_chunk("once more").await.unwrap();
        writer.finish().await.unwrap();
    });
    peer.end();
    let left = server.disconnected(&mut session).unacknowledged;
    assert_eq!((left.streamed, left.len()), (1, 2));
    assert_eq!(texts(&left.into_frames().collect::<Vec<_>>()), ["after"]);
}

/// A send that is dropped or fails is not in it, and nothing of it arrives.
#[test]
fn what_was_not_accepted_is_nowhere() {
    let (server, mut session, mut peer) = open();
    peer.set_writable(false);
    let big = "x".repeat(100_000);
    let mut accepted = 0;
    while server.runtime.poll_now(pin!(session.send(&*big))).is_some() {
        accepted += 1;
    }
    assert!(accepted > 2, "until the capacity is used up");
    peer.end();
    let left = server.disconnected(&mut session).unacknowledged;
    assert_eq!(left.len(), accepted);
    let refused = server.runtime.block_on(session.send("too late")).unwrap_err();
    assert!(refused.is_transient(), "{refused:?}");
    server.retrying(&mut session);
    server.connected(&mut session);
    let mut peer = server.peer();
    send(&server, &session, "in time");
    server.runtime.settle();
    assert_eq!(arrived(&mut peer), ["in time"]);
}

/// SplitMix64.
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) % end
    }
}

/// What is known of one connection.
struct Life {
    peer: PipePeer,
    accepted: Vec<u64>,
    arrived: Vec<u64>,
    /// The first bytes of a message in fragments.
    partial: Vec<u8>,
}

impl Life {
    fn new(peer: PipePeer) -> Self {
        Self { peer, accepted: Vec::new(), arrived: Vec::new(), partial: Vec::new() }
    }

    /// The peer reads at most this many frames, and answers a ping or not.
    fn read(&mut self, most: u64, pongs: bool) {
        for _ in 0..most {
            let Some(frame) = self.peer.receive() else { return };
            match frame.opcode {
                OpCode::Ping if pongs => {
                    self.peer.send(RawFrame::new(OpCode::Pong, frame.payload));
                }
                OpCode::Binary | OpCode::Continuation => {
                    self.partial.extend_from_slice(&frame.payload);
                    if frame.fin {
                        self.arrived.push(number(&std::mem::take(&mut self.partial)));
                    }
                }
                _ => {}
            }
        }
    }

    /// Compares what arrived with what was reported.
    fn check(mut self, left: Unacknowledged, seed: u64) {
        self.read(u64::MAX, false);
        let known = self.accepted.len() as u64 - left.len();
        let (unknown, forgotten) = (left.unknown.len() as u64, left.forgotten);
        let kept: Vec<_> = left.into_frames().map(|frame| number(frame.read_bytes())).collect();
        let (Self { accepted, arrived, .. }, most) = (self, known + forgotten + unknown);
        assert_eq!(
            kept,
            accepted[(known + forgotten) as usize..],
            "seed {seed}: each one once, in order"
        );
        assert!(arrived.len() as u64 >= known, "seed {seed}: what is not reported has arrived");
        assert!(arrived.len() as u64 <= most, "seed {seed}: what was not sent has not arrived");
        assert_eq!(arrived, accepted[..arrived.len()], "seed {seed}: a prefix, once, in order");
    }
}

fn number(payload: &[u8]) -> u64 {
    u64::from_be_bytes(payload[..8].try_into().unwrap())
}

/// Breaks the connection in many ways at many points, while messages of many sizes are sent. Each message that
/// was accepted has arrived, once and on the connection that accepted it, or was reported, once.
#[test]
fn no_message_is_lost_silently_or_sent_twice() {
    let seeds = match std::env::var("DRIVETRAIN_SEED") {
        Ok(seed) => vec![seed.parse().unwrap()],
        Err(_) => (0..200).collect(),
    };
    let (mut reported, mut confirmed) = (0, 0);
    for seed in seeds {
        let mut random = Random(seed);
        let server = Server::new([]);
        let capacity = [0, 3_000, 1 << 20][random.below(3) as usize];
        let request =
            server.request(Backoff::new().max_tries(None)).unacknowledged_capacity(capacity);
        let mut session = server.runtime.block_on(request.connect()).unwrap();
        let mut life = Life::new(server.peer());
        let mut next = 0_u64;
        for _ in 0..8 {
            for _ in 0..random.below(60) {
                step(&mut random, &server, &mut session, &mut life, &mut next);
            }
            break_connection(&mut random, &server, &mut life);
            // Some are sent after the break and before anybody has seen it.
            for _ in 0..random.below(3) {
                try_send(&mut random, &server, &session, &mut life, &mut next);
            }
            let left = loop {
                match server.next(&mut session).unwrap() {
                    Some(Event::Disconnected(lost)) => break lost.unacknowledged,
                    Some(Event::Message(_)) => {}
                    other => panic!("seed {seed}: {other:?}"),
                }
            };
            reported += left.len();
            confirmed += life.accepted.len() as u64 - left.len();
            life.check(left, seed);
            server.retrying(&mut session);
            server.connected(&mut session);
            life = Life::new(server.peer());
        }
    }
    assert!(reported > 0 && confirmed > 0, "{reported} reported, {confirmed} confirmed");
}

fn step(
    random: &mut Random,
    server: &Server,
    session: &mut ReconnectingSession,
    life: &mut Life,
    next: &mut u64,
) {
    match random.below(12) {
        0..=5 => try_send(random, server, session, life, next),
        6 => life.peer.set_writable(random.below(2) == 0),
        7 => life.read(random.below(10), true),
        8 => {
            let ping = session.connection().unwrap().ping();
            let _ = server.runtime.poll_now(pin!(ping));
        }
        9 => {
            let _ = server.runtime.poll_now(pin!(session.flush()));
        }
        10 => life.peer.send(RawFrame::new(OpCode::Text, "from the peer")),
        _ => {
            if let Some(event) = server.runtime.poll_now(pin!(session.receive())) {
                assert!(matches!(event, Ok(Some(Event::Message(_)))), "{event:?}");
            }
        }
    }
}

fn try_send(
    random: &mut Random,
    server: &Server,
    session: &ReconnectingSession,
    life: &mut Life,
    next: &mut u64,
) {
    let sizes = [8, 8, 100, 1_000, 20_000, 100_000];
    let size = sizes[random.below(6) as usize];
    let mut payload = next.to_be_bytes().to_vec();
    payload.resize(size, 0);
    let sent = match random.below(2) {
        0 => server.runtime.poll_now(pin!(session.send(payload))),
        _ => server.runtime.poll_now(pin!(session.feed(payload))),
    };
    if let Some(Ok(())) = sent {
        life.accepted.push(*next);
    }
    *next += 1;
}

fn break_connection(random: &mut Random, server: &Server, life: &mut Life) {
    let error = || Error::new(ErrorKind::Io, "broken");
    match random.below(6) {
        0 => life.peer.end(),
        1 => life.peer.fail(error()),
        2 => {
            life.peer.fail_writes(error());
            life.peer.end();
        }
        3 => life.peer.send(close_frame(1012)),
        4 => {
            life.peer.send(close_frame(1012));
            life.peer.end();
        }
        _ => {
            life.read(u64::MAX, true);
            life.peer.end();
        }
    }
    if random.below(2) == 0 {
        server.runtime.settle();
    }
}
