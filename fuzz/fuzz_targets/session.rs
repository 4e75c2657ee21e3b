//! A whole session over an in-memory connection, in virtual time. The input is a script in ASCII: an
//! operation is a letter, some with a digit or letter behind it for a number (`script` below). What the
//! application does is polled in the order of the script, and only when it was woken.
#![no_main]

use std::{
    cell::Cell,
    collections::{HashSet, VecDeque},
    future::{Future, poll_fn},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    task::{Context, Poll, Wake, Waker},
    time::Duration,
};

use drivetrain::{
    Bytes, CloseCode, CloseReason, Error, ErrorKind, Frame, Incoming, MessageKind, MessageReader,
    MessageWriter, OpCode, Outcome, Outgoing, RawFrame, Result, Rsv, Session, WebSockets,
    testing::{PipePeer, TestRuntime, pipe},
};
use futures_io::AsyncWrite;
use libfuzzer_sys::fuzz_target;

const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

fuzz_target!(|data: &[u8]| {
    let mut world = World::new(data);
    world.script();
    world.end();
});

/// The last digit or letter of an operation as a number from 0 to 35.
fn number(byte: u8) -> usize {
    match byte {
        b'0'..=b'9' => usize::from(byte - b'0'),
        b'a'..=b'z' => usize::from(byte - b'a') + 10,
        _ => usize::from(byte) % 36,
    }
}

struct World {
    script: VecDeque<u8>,
    runtime: TestRuntime,
    peer: PipePeer,
    app: App,
    seen: Seen,
    /// What the peer has sent so far.
    sent: Sent,
    writable: bool,
    /// The peer took nothing for a while.
    stalled: bool,
    write_fails: bool,
    /// Counts what is sent, so that no two payloads are the same.
    serial: u32,
    /// Messages the session has taken, in order.
    accepted: Vec<Message>,
    delivered: Vec<Message>,
    app_pongs: HashSet<Bytes>,
    /// A message that is streamed, and what was written to it.
    writer: Option<(MessageWriter, bool, Vec<u8>)>,
    /// What `receive` said when there was nothing more.
    last_word: Option<String>,
    incoming_dropped: bool,
}

type Message = (bool, Bytes);

enum App {
    Whole(Session),
    Split(Option<Outgoing>, Option<Incoming>, Vec<Slot>),
    Gone,
}

/// A future of the application's that waits.
struct Slot {
    future: Pin<Box<dyn Future<Output = Done>>>,
    woken: Arc<Flag>,
}

enum Done {
    Sent(Result<()>, Message),
    Unit,
    Received(Incoming, Result<Option<Frame>>),
    Ended(Result<Outcome>),
}

struct Flag(AtomicBool);

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, SeqCst);
    }
}

/// What the peer got.
#[derive(Default)]
struct Seen {
    messages: Vec<Message>,
    partial: Option<(bool, Vec<u8>)>,
    close: Option<Bytes>,
    pings: Vec<Bytes>,
    pongs: usize,
}

/// What the peer sent.
#[derive(Default)]
struct Sent {
    /// Whole messages before the first Close, violation or end.
    messages: Vec<Message>,
    partial: Option<(bool, Vec<u8>)>,
    pings: Vec<Bytes>,
    close: bool,
    violation: bool,
    over: bool,
}

impl World {
    fn new(data: &[u8]) -> Self {
        let mut script: VecDeque<u8> = data.iter().copied().collect();
        let options = script.pop_front().map_or(0, number);
        let mut plugin = WebSockets::new().close_timeout(CLOSE_TIMEOUT);
        if options & 1 != 0 {
            plugin =
                plugin.ping_interval(Duration::from_secs(4)).ping_timeout(Duration::from_secs(2));
        }
        if options & 2 != 0 {
            plugin = plugin.incoming_capacity(300).outgoing_capacity(300);
        }
        if options & 4 != 0 {
            plugin = plugin.max_frame_size(1000).max_message_size(1500);
        }
        let runtime = TestRuntime::new();
        let (connection, peer) = pipe();
        let session = runtime.session(connection, plugin);
        let app = if options & 8 != 0 {
            App::Whole(session)
        } else {
            let (outgoing, incoming) = session.split();
            App::Split(Some(outgoing), Some(incoming), vec![])
        };
        Self {
            script,
            runtime,
            peer,
            app,
            seen: Seen::default(),
            sent: Sent::default(),
            writable: true,
            stalled: false,
            write_fails: false,
            serial: 0,
            accepted: vec![],
            delivered: vec![],
            app_pongs: HashSet::new(),
            writer: None,
            last_word: None,
            incoming_dropped: false,
        }
    }

    fn script(&mut self) {
        for _ in 0..400 {
            let Some(operation) = self.script.pop_front() else { break };
            match operation {
                // The peer.
                b't' => self.peer_message(true),
                b'b' => self.peer_message(false),
                b'f' => self.peer_fragment(false),
                b'c' => self.peer_fragment(true),
                b'P' => {
                    let payload = self.payload(8);
                    self.sent.pings.push(payload.clone());
                    self.peer.send(RawFrame::new(OpCode::Ping, payload));
                }
                b'O' => {
                    if let Some(ping) = self.seen.pings.pop() {
                        self.peer.send(RawFrame::new(OpCode::Pong, ping));
                    }
                }
                b'o' => self.peer.send(RawFrame::new(OpCode::Pong, vec![0; 8])),
                b'C' => self.peer_close(),
                b'V' => self.peer_violation(),
                b'E' => {
                    self.peer.end();
                    self.sent.over = true;
                }
                b'F' => {
                    self.peer.fail(Error::new(ErrorKind::Io, "reading failed"));
                    self.sent.over = true;
                }
                b'W' => {
                    self.writable = false;
                    self.stalled = true;
                    self.peer.set_writable(false);
                }
                b'w' => {
                    self.writable = true;
                    self.peer.set_writable(true);
                }
                b'X' => {
                    self.write_fails = true;
                    self.peer.fail_writes(Error::new(ErrorKind::Io, "writing failed"));
                }
                // Time and the session task.
                b'a' => {
                    let steps = self.number() as u32;
                    self.runtime.advance(Duration::from_millis(100) * steps);
                }
                b'A' => {
                    let steps = self.number() as u32;
                    self.runtime.advance(Duration::from_secs(1) * steps);
                }
                b'k' => self.settle(),
                // The writer.
                b'M' | b'h' | b'H' | b'D' => self.write(operation),
                // The application.
                _ => self.application(operation),
            }
            self.look();
        }
    }

    fn number(&mut self) -> usize {
        self.script.pop_front().map_or(1, number)
    }

    /// A payload that no other message has. `size` is the least.
    fn payload(&mut self, size: usize) -> Bytes {
        self.serial += 1;
        let mut payload = format!("{:08}", self.serial).into_bytes();
        payload.resize(size.max(8), b'.');
        payload.into()
    }

    // The peer.

    fn peer_size(&mut self) -> usize {
        let number = self.number();
        number * number // up to 1225, above the smallest limit of a frame
    }

    fn peer_message(&mut self, text: bool) {
        let size = self.peer_size();
        let payload = self.payload(size);
        let opcode = if text { OpCode::Text } else { OpCode::Binary };
        self.peer_data(opcode, payload, true);
    }

    fn peer_fragment(&mut self, last: bool) {
        let size = self.peer_size();
        let payload = self.payload(size);
        let opcode = if self.sent.partial.is_some() { OpCode::Continuation } else { OpCode::Text };
        self.peer_data(opcode, payload, last);
    }

    fn peer_data(&mut self, opcode: OpCode, payload: Bytes, fin: bool) {
        let new = opcode != OpCode::Continuation;
        self.peer.send(RawFrame { fin, ..RawFrame::new(opcode, payload.clone()) });
        if new == self.sent.partial.is_some() {
            self.sent.violation = true;
        }
        let mut partial = match self.sent.partial.take() {
            Some(partial) if !new => partial,
            _ => (opcode == OpCode::Text, vec![]),
        };
        partial.1.extend_from_slice(&payload);
        if payload.len() > 1000 || partial.1.len() > 1500 {
            self.sent.violation = true; // if the limits are set low
        }
        if !fin {
            self.sent.partial = Some(partial);
        } else if !self.sent.close && !self.sent.over {
            self.sent.messages.push((partial.0, partial.1.into()));
        }
    }

    fn peer_close(&mut self) {
        let payload: &'static [u8] = match self.number() % 8 {
            0..3 => &[3, 232],
            3 => &[],
            4 => &[15, 160, b'x'],
            5 => &[3],
            6 => &[3, 237],
            _ => &[3, 232, 0xff],
        };
        self.peer.send(RawFrame::new(OpCode::Close, payload));
        if !self.sent.close && !self.sent.over {
            self.sent.close = true;
            self.sent.violation |= CloseReason::from_payload(&payload.into()).is_err();
        }
    }

    fn peer_violation(&mut self) {
        let frame = match self.number() % 5 {
            0 => RawFrame { rsv: Rsv::RSV1, ..RawFrame::new(OpCode::Text, "x") },
            1 => RawFrame::new(OpCode::Ping, "").not_final(),
            2 => RawFrame::new(OpCode::Pong, vec![0; 126]),
            3 => RawFrame::new(OpCode::Text, &b"\xff"[..]),
            _ => RawFrame::new(OpCode::Close, vec![3; 126]),
        };
        self.peer.send(frame);
        self.sent.violation = true;
    }

    /// Takes what the session has written, and checks it.
    fn look(&mut self) {
        while let Some(frame) = self.peer.receive() {
            assert!(self.seen.close.is_none(), "{frame:?} after the Close");
            assert!(frame.rsv.is_none());
            if frame.opcode.is_control() {
                assert!(frame.fin && frame.payload.len() <= 125);
            }
            assert!(frame.payload.len() <= 64 << 10, "a fragment of {}", frame.payload.len());
            match frame.opcode {
                OpCode::Ping => self.seen.pings.push(frame.payload),
                OpCode::Pong if self.app_pongs.remove(&frame.payload) => {}
                OpCode::Pong => {
                    let pings = &self.sent.pings;
                    let at = pings[self.seen.pongs..].iter().position(|p| *p == frame.payload);
                    self.seen.pongs += 1 + at.expect("a pong is the answer to a later ping");
                }
                OpCode::Close => {
                    CloseReason::from_payload(&frame.payload).expect("a valid Close");
                    self.seen.close = Some(frame.payload);
                }
                OpCode::Continuation => {
                    let (_, payload) = self.seen.partial.as_mut().expect("a message to continue");
                    payload.extend_from_slice(&frame.payload);
                }
                opcode => {
                    assert!(self.seen.partial.is_none(), "a message inside another");
                    self.seen.partial = Some((opcode == OpCode::Text, frame.payload.into()));
                }
            }
            if !frame.opcode.is_control() && frame.fin {
                let (text, payload) = self.seen.partial.take().expect("there is one");
                self.seen.messages.push((text, payload.into()));
            }
        }
        // What a poll has accepted is noted when the poll is over.
        let seen = &self.seen.messages;
        assert!(self.accepted.starts_with(seen), "what arrives is a prefix of what was accepted");
    }

    // The application.

    fn settle(&mut self) {
        self.runtime.settle();
        self.look();
        let Some(outcome) = self.outcome() else { return };
        // A session that ended while the peer took nothing says what it would have sent.
        if self.writable && !self.write_fails && !(self.stalled && self.peer.is_dropped()) {
            assert_eq!(
                outcome.sent.is_some(),
                self.seen.close.is_some(),
                "the outcome says what went out: {outcome}"
            );
        }
    }

    fn application(&mut self, operation: u8) {
        match std::mem::replace(&mut self.app, App::Gone) {
            App::Whole(session) => self.whole(session, operation),
            App::Split(outgoing, incoming, slots) => {
                self.app = App::Split(outgoing, incoming, slots);
                self.split(operation);
            }
            App::Gone => {}
        }
    }

    /// What is done to a message that is streamed.
    fn write(&mut self, operation: u8) {
        let size = if operation == b'M' { self.number() << 11 } else { 0 };
        let payload = self.payload(size);
        let Some((writer, text, written)) = &mut self.writer else { return };
        match operation {
            b'M' => {
                if let Some(Ok(())) = poll_once(&mut Box::pin(writer.write_chunk(payload.clone())))
                {
                    written.extend_from_slice(&payload);
                }
            }
            b'h' => {
                let mut writer = Pin::new(writer);
                // That it fails is seen elsewhere.
                let _ = poll_once(&mut Box::pin(poll_fn(|cx| writer.as_mut().poll_flush(cx))));
            }
            b'H' => {
                let finished = poll_once(&mut Box::pin(writer.finish()));
                if let Some(Ok(())) = finished {
                    self.accepted.push((*text, std::mem::take(written).into()));
                    self.writer = None;
                }
            }
            _ => self.writer = None,
        }
    }

    /// Keeps a writer, or drops it, if there is one already, which nothing was written to.
    fn begun(&mut self, writer: Option<Result<MessageWriter>>) {
        if let Some(Ok(writer)) = writer {
            let text = writer.kind() == MessageKind::Text;
            assert!(self.writer.replace((writer, text, vec![])).is_none(), "two at once");
        }
    }

    /// Reads some chunks of the next message, and then drops the reader.
    fn read(&mut self, started: Option<Result<Option<MessageReader<'_>>>>, most: usize) {
        let mut reader = match started {
            Some(Ok(Some(reader))) => reader,
            end => return self.received(end.map(|end| end.map(|_| None))),
        };
        assert!(self.last_word.is_none(), "a message after the end");
        let text = reader.kind() == MessageKind::Text;
        let mut bytes = vec![];
        for _ in 0..most {
            match poll_once(&mut Box::pin(reader.chunk())) {
                Some(Ok(Some(chunk))) => bytes.extend_from_slice(&chunk),
                Some(Ok(None)) => return self.delivered.push((text, bytes.into())),
                Some(Err(error)) => {
                    error.outcome().expect("it has the outcome");
                    return;
                }
                None => {
                    self.runtime.settle();
                }
            }
        }
        // All of it was read, and only the word that it was all was not waited for.
        if self.sent.messages.iter().any(|(_, sent)| *sent == bytes) {
            self.delivered.push((text, bytes.into()));
        }
    }

    /// Each future is polled as long as it is woken, and then dropped.
    fn whole(&mut self, mut session: Session, operation: u8) {
        match operation {
            b's' | b'S' | b'e' => {
                let (frame, message) = self.outgoing_message(operation);
                let sent = if operation == b'e' {
                    poll_once(&mut Box::pin(session.feed(frame)))
                } else {
                    poll_once(&mut Box::pin(session.send(frame)))
                };
                if let Some(Ok(())) = sent {
                    self.accepted.push(message);
                }
            }
            b'g' | b'G' => {
                // Sent or refused: what arrives is checked to be one of these.
                let _ = poll_once(&mut Box::pin(session.send(self.control(operation))));
            }
            b'l' => {
                let _ = poll_once(&mut Box::pin(session.flush()));
            }
            b'r' | b'R' => {
                let received = poll_once(&mut Box::pin(session.receive()));
                self.received(received);
            }
            b'm' => {
                let kind = self.kind();
                let writer = poll_once(&mut Box::pin(session.send_stream(kind)));
                self.begun(writer);
            }
            b'v' => {
                let most = self.number();
                let started = poll_once(&mut Box::pin(session.receive_stream()));
                self.read(started, most);
            }
            b'p' => {
                // It waits while the peer does something.
                let mut ping = Box::pin(session.ping());
                let over = poll_once(&mut ping).is_some();
                let steps = self.number() as u32;
                if steps % 2 == 1 {
                    self.runtime.settle();
                    self.look();
                    if let Some(ping) = self.seen.pings.last() {
                        self.peer.send(RawFrame::new(OpCode::Pong, ping.clone()));
                    }
                }
                self.runtime.advance(Duration::from_millis(100) * steps);
                if !over && let Some(Ok(took)) = poll_once(&mut ping) {
                    assert!(took <= Duration::from_millis(100) * steps);
                }
            }
            b'i' => {
                let interval = self.number() as u64;
                // Zero is refused.
                let set = session.set_ping_interval(Duration::from_secs(interval));
                assert_eq!(set.is_err(), interval == 0);
            }
            b'x' => {
                let reason = self.reason();
                let _ = poll_once(&mut Box::pin(session.close(reason)));
            }
            b'd' => return self.drop_all(App::Whole(session)),
            b'/' => {
                let (outgoing, incoming) = session.split();
                self.app = App::Split(Some(outgoing), Some(incoming), vec![]);
                return;
            }
            _ => {}
        }
        self.app = App::Whole(session);
    }

    /// Futures stay until they are done, and are polled when they are woken.
    fn split(&mut self, operation: u8) {
        let App::Split(Some(outgoing), _, slots) = &self.app else {
            return self.split_rest(operation);
        };
        let (outgoing, busy) = (outgoing.clone(), slots.len() >= 6);
        match operation {
            b's' | b'S' | b'e' if !busy => {
                let (frame, message) = self.outgoing_message(operation);
                self.start(async move {
                    let sent = match operation {
                        b'e' => outgoing.feed(frame).await,
                        _ => outgoing.send(frame).await,
                    };
                    Done::Sent(sent, message)
                });
            }
            b'g' | b'G' if !busy => {
                let frame = self.control(operation);
                self.start(async move {
                    // As above.
                    let _ = outgoing.send(frame).await;
                    Done::Unit
                });
            }
            b'm' => {
                let kind = self.kind();
                let writer = poll_once(&mut Box::pin(outgoing.send_stream(kind)));
                drop(outgoing);
                self.begun(writer);
            }
            b'l' if !busy => self.start(async move {
                // That it fails is seen elsewhere.
                let _ = outgoing.flush().await;
                Done::Unit
            }),
            b'x' if !busy => {
                let reason = self.reason();
                self.start(async move { Done::Ended(outgoing.close(reason).await) });
            }
            b'y' if !busy => self.start(async move { Done::Ended(outgoing.closed().await) }),
            _ => {
                drop(outgoing);
                self.split_rest(operation);
            }
        }
    }

    fn split_rest(&mut self, operation: u8) {
        let number = if matches!(operation, b'q' | b'v') { self.number() } else { 0 };
        if operation == b'v' {
            let App::Split(_, incoming, _) = &mut self.app else { return };
            let Some(mut half) = incoming.take() else { return };
            let started = poll_once(&mut Box::pin(half.receive_stream()));
            self.read(started, number);
            let App::Split(_, incoming, _) = &mut self.app else { return };
            *incoming = Some(half);
            return;
        }
        let App::Split(outgoing, incoming, slots) = &mut self.app else { return };
        match operation {
            b'r' => {
                if let Some(incoming) = incoming {
                    let received = poll_once(&mut Box::pin(incoming.receive()));
                    self.received(received);
                }
            }
            b'R' => {
                if let Some(mut incoming) = incoming.take() {
                    self.start(async move {
                        let received = incoming.receive().await;
                        Done::Received(incoming, received)
                    });
                }
            }
            b'j' => {
                self.incoming_dropped |= incoming.take().is_some();
            }
            b'u' => *outgoing = None,
            b'q' if !slots.is_empty() => {
                let at = number % slots.len();
                let slot = slots.remove(at);
                // A receiving half may have gone with it.
                drop(slot);
                self.incoming_dropped |= !self.has_incoming();
            }
            b'n' => self.poll_woken(),
            b'd' => {
                let app = std::mem::replace(&mut self.app, App::Gone);
                self.drop_all(app);
            }
            _ => {}
        }
    }

    fn has_incoming(&self) -> bool {
        // Whether a slot holds it is not seen from outside: then it is assumed to be gone.
        matches!(&self.app, App::Whole(_) | App::Split(_, Some(_), _))
    }

    fn start(&mut self, future: impl Future<Output = Done> + 'static) {
        let slot = Slot { future: Box::pin(future), woken: Arc::new(Flag(AtomicBool::new(true))) };
        let App::Split(_, _, slots) = &mut self.app else { return };
        slots.push(slot);
        let last = slots.len() - 1;
        self.poll_slot(last);
    }

    /// Polls whatever was woken, once each.
    fn poll_woken(&mut self) {
        let mut at = 0;
        loop {
            let App::Split(_, _, slots) = &self.app else { return };
            let Some(slot) = slots.get(at) else { return };
            if !slot.woken.0.load(SeqCst) || !self.poll_slot(at) {
                at += 1;
            }
        }
    }

    /// Polls one. Returns whether it is done.
    fn poll_slot(&mut self, at: usize) -> bool {
        let App::Split(_, incoming, slots) = &mut self.app else { return true };
        let slot = &mut slots[at];
        slot.woken.0.store(false, SeqCst);
        let waker = Waker::from(Arc::clone(&slot.woken));
        let Poll::Ready(done) = slot.future.as_mut().poll(&mut Context::from_waker(&waker)) else {
            return false;
        };
        drop(slots.remove(at));
        match done {
            Done::Unit => {}
            Done::Sent(result, message) => {
                if result.is_ok() {
                    self.accepted.push(message);
                }
            }
            Done::Received(half, received) => {
                *incoming = Some(half);
                self.received(Some(received));
            }
            Done::Ended(outcome) => {
                outcome.expect("no lock is poisoned");
            }
        }
        true
    }

    fn outgoing_message(&mut self, operation: u8) -> (Frame, Message) {
        let number = self.number();
        let size = if operation == b'S' { number << 13 } else { number * number };
        let payload = self.payload(size);
        let text = number % 2 == 0;
        let frame = if text {
            Frame::from(String::from_utf8(payload.to_vec()).expect("ASCII"))
        } else {
            Frame::from(payload.clone())
        };
        (frame, (text, payload))
    }

    fn kind(&mut self) -> MessageKind {
        if self.number() % 2 == 0 { MessageKind::Text } else { MessageKind::Binary }
    }

    fn control(&mut self, operation: u8) -> Frame {
        let payload = self.payload(9);
        if operation == b'G' {
            return Frame::Ping(payload);
        }
        self.app_pongs.insert(payload.clone());
        Frame::Pong(payload)
    }

    fn reason(&mut self) -> CloseReason {
        match self.number() {
            0 => CloseReason::normal(),
            number => CloseReason::new(4000 + number as u16, "bye").expect("valid"),
        }
    }

    fn received(&mut self, received: Option<Result<Option<Frame>>>) {
        let Some(received) = received else {
            assert!(self.last_word.is_none(), "it waits after the end");
            return;
        };
        match received {
            Ok(Some(frame)) => {
                assert!(self.last_word.is_none(), "a message after the end");
                let text = frame.read_text().is_some();
                self.delivered.push((text, frame.into_bytes()));
            }
            end => {
                let outcome = self.outcome();
                if let Err(error) = &end {
                    let told = error.outcome().expect("it has the outcome");
                    assert!(!told.clean);
                    assert_eq!(told.to_string(), outcome.as_ref().unwrap_or(told).to_string());
                }
                // What fails once the peer's Close was read is in the outcome alone.
                let is_told = |outcome: Outcome| outcome.clean || outcome.received.is_some();
                assert!(end.is_err() || outcome.is_none_or(is_told));
                let word = format!("{end:?}");
                assert_eq!(self.last_word.get_or_insert_with(|| word.clone()), &word);
            }
        }
    }

    /// As the session reports it, while there is one.
    fn outcome(&self) -> Option<Outcome> {
        match &self.app {
            App::Whole(session) => Some(session.outcome()),
            // Of halves only the end is seen.
            App::Split(Some(outgoing), ..) => poll_once(&mut Box::pin(outgoing.closed()))?.ok(),
            // The error of `receive` carries it; there is nothing to compare it with.
            _ => None,
        }
    }

    fn drop_all(&mut self, app: App) {
        drop(app);
        self.writer = None;
        self.runtime.settle();
        assert_eq!(self.runtime.tasks(), 0, "the session task has ended");
        assert!(self.peer.is_dropped(), "the connection is dropped");
        self.app = App::Gone;
        // The clock forgets the timers that nobody has: until then they hold the runtime in a circle.
        self.runtime.advance(Duration::ZERO);
        self.look();
    }

    /// No wake-up is lost, and everything ends.
    fn end(&mut self) {
        // The task that waits for it has its turn.
        self.writer = None;
        loop {
            self.settle();
            let App::Split(_, _, slots) = &self.app else { break };
            if slots.iter().any(|slot| slot.woken.0.load(SeqCst)) {
                self.poll_woken();
                continue;
            }
            let before = slots.len();
            for at in (0..before).rev() {
                assert!(!self.poll_slot(at), "it was ready and nobody woke it");
            }
            break;
        }
        let open = match &self.app {
            App::Whole(session) => {
                let outcome = session.outcome();
                outcome.sent.is_none() && outcome.received.is_none() && outcome.error.is_none()
            }
            _ => false,
        };
        let leave = self.serial % 2 == 0;
        if leave && !matches!(self.app, App::Gone) {
            let app = std::mem::replace(&mut self.app, App::Gone);
            self.drop_all(app);
            if open && self.writable && !self.write_fails {
                let close = self.seen.close.as_ref().expect("a dropped session says so");
                assert_eq!(close[..2], 1001_u16.to_be_bytes());
                assert_eq!(self.seen.messages, self.accepted, "what was accepted is written first");
            }
            return;
        }
        let reason = CloseReason::normal();
        match &self.app {
            App::Whole(session) => drop(poll_once(&mut Box::pin(session.close(reason)))),
            App::Split(Some(outgoing), ..) => {
                drop(poll_once(&mut Box::pin(outgoing.close(reason))))
            }
            _ => {}
        }
        self.runtime.advance(CLOSE_TIMEOUT + Duration::from_secs(1));
        self.poll_woken();
        self.look();
        let closed = match &self.app {
            App::Whole(session) => poll_once(&mut Box::pin(session.closed())),
            App::Split(Some(outgoing), ..) => poll_once(&mut Box::pin(outgoing.closed())),
            _ => None,
        };
        if let Some(outcome) = self.outcome() {
            let closed =
                closed.expect("it ends by the close timeout").expect("no lock is poisoned");
            assert_eq!(closed.to_string(), outcome.to_string());
            assert!(self.peer.is_dropped());
            assert_eq!(self.runtime.tasks(), 0, "the session task has ended");
            self.read_to_the_end();
            self.check(&outcome);
        }
        let app = std::mem::replace(&mut self.app, App::Gone);
        if !matches!(app, App::Gone) {
            self.drop_all(app);
        }
    }

    fn read_to_the_end(&mut self) {
        let limit = Cell::new(0);
        while self.last_word.is_none() {
            limit.set(limit.get() + 1);
            assert!(limit.get() < 2000, "there is no end");
            self.application(b'r');
            self.poll_woken();
            if !self.has_incoming() {
                return;
            }
        }
        self.application(b'r');
        self.application(b'r');
    }

    fn check(&self, outcome: &Outcome) {
        assert_eq!(outcome.clean, outcome.error.is_none(), "{outcome}");
        if let (Some(sent), Some(payload)) = (&outcome.sent, &self.seen.close) {
            let seen = CloseReason::from_payload(payload).expect("valid");
            let code = seen.map_or(CloseCode::NO_STATUS, |reason| reason.code());
            assert_eq!(sent.code(), code);
        }
        assert!(outcome.sent.is_some() || self.seen.close.is_none());
        if outcome.clean {
            assert!(self.seen.close.is_some() && self.sent.close);
            assert_eq!(self.seen.messages, self.accepted, "after a clean end everything arrived");
        }
        if self.incoming_dropped || self.last_word.is_none() {
            return;
        }
        // What came in is what was sent, in order; what is missing is counted.
        let mut sent = self.sent.messages.iter();
        for message in &self.delivered {
            assert!(sent.any(|sent| sent == message), "delivered, but not sent in this order");
        }
        if outcome.clean && !self.sent.violation {
            let known = self.delivered.len() as u64 + outcome.discarded;
            assert_eq!(known, self.sent.messages.len() as u64, "{outcome}");
        }
    }
}

/// Polls as long as it is woken.
fn poll_once<T>(future: &mut Pin<Box<impl Future<Output = T>>>) -> Option<T> {
    let woken = Arc::new(Flag(AtomicBool::new(true)));
    let waker = Waker::from(Arc::clone(&woken));
    while woken.0.swap(false, SeqCst) {
        if let Poll::Ready(value) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return Some(value);
        }
    }
    None
}
