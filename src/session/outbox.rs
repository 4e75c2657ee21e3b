//! What was accepted for sending and not yet given to the transport: pure.

use std::{collections::VecDeque, fmt};

use bytes::Bytes;
use drivetrain_engine::{CloseReason, OpCode, RawFrame, Unit};

/// A message above this is sent in fragments of this size, so that control frames do not wait for it
/// and no buffer below grows to its size.
pub(super) const FRAGMENT: usize = 64 << 10;

/// More control frames than this do not wait: the oldest pong is dropped. A pong may stand for those before
/// it (RFC 6455 section 5.5.3), so that a peer which floods pings without reading costs no memory.
const MOST_CONTROL: usize = 64;

/// The queue of one session, in the order in which frames go out: control frames first, between
/// fragments too; then messages; the Close last of all.
#[derive(Debug)]
pub(super) struct Outbox {
    /// The largest fragment; without a limit where the transport takes whole messages only.
    fragment: usize,
    capacity: usize,
    /// The Close is out: nothing may follow it.
    closed: bool,
    control: VecDeque<RawFrame>,
    messages: VecDeque<Message>,
    /// The bytes of the messages that wait.
    bytes: usize,
    /// A message is being streamed: no other may begin.
    streaming: bool,
    /// The payload of a Ping to go out behind the messages and before the Close.
    last_ping: Option<Bytes>,
    close: Option<CloseReason>,
}

struct Message {
    /// `Continuation` once its first fragment is out.
    opcode: OpCode,
    rest: Bytes,
    /// Whether the message ends with it.
    last: bool,
}

impl Outbox {
    /// A queue of at most `capacity` bytes for a transport of this unit, which sends no frame above
    /// `max_frame_size` if it can.
    pub(super) fn new(unit: Unit, max_frame_size: usize, capacity: usize) -> Self {
        Self {
            fragment: match unit {
                Unit::Frames => FRAGMENT.min(max_frame_size),
                _ => usize::MAX,
            },
            capacity,
            closed: false,
            control: VecDeque::new(),
            messages: VecDeque::new(),
            bytes: 0,
            streaming: false,
            last_ping: None,
            close: None,
        }
    }

    /// Whether a message of this size may be taken: it fits, or it would be the only one; and none is being
    /// streamed.
    pub(super) fn has_room(&self, size: usize) -> bool {
        !self.streaming && self.has_room_for_part(size)
    }

    /// Whether a part of this size may be taken of the message that is being streamed.
    pub(super) fn has_room_for_part(&self, size: usize) -> bool {
        self.messages.is_empty() || self.bytes.saturating_add(size) <= self.capacity
    }

    /// Whether a control frame of the application's may be taken: none of them is dropped.
    pub(super) fn has_control_room(&self) -> bool {
        self.control.len() < MOST_CONTROL
    }

    /// Whether nothing waits.
    pub(super) fn is_empty(&self) -> bool {
        self.messages.is_empty() && self.control.is_empty() && self.close.is_none()
    }

    /// How many whole messages wait, of which the first may be out in part.
    pub(super) fn messages(&self) -> u64 {
        self.messages.iter().filter(|message| message.last).count() as u64
    }

    /// Whether nothing waits, no other message is being streamed, and this one need not be split: it may pass
    /// the queue by.
    pub(super) fn may_pass(&self, size: usize) -> bool {
        !self.streaming && self.is_empty() && size <= self.fragment
    }

    /// Whether a message is being streamed.
    pub(super) fn is_streaming(&self) -> bool {
        self.streaming
    }

    /// A message begins or ceases to be streamed.
    pub(super) fn set_streaming(&mut self, streaming: bool) {
        self.streaming = streaming;
    }

    /// Takes a message.
    pub(super) fn push(&mut self, opcode: OpCode, payload: Bytes) {
        self.push_part(opcode, payload, true);
    }

    /// Takes a part of a message, the first one with the message's opcode, the others as continuations.
    pub(super) fn push_part(&mut self, opcode: OpCode, payload: Bytes, last: bool) {
        self.bytes += payload.len();
        self.messages.push_back(Message { opcode, rest: payload, last });
    }

    /// Takes a control frame other than a Close.
    pub(super) fn push_control(&mut self, opcode: OpCode, payload: Bytes) {
        if self.closed {
            return;
        }
        if self.control.len() >= MOST_CONTROL {
            let oldest = self.control.iter().position(|frame| frame.opcode == OpCode::Pong);
            self.control.remove(oldest.unwrap_or(0));
        }
        self.control.push_back(RawFrame::new(opcode, payload));
    }

    /// Takes a Ping that asks whether everything accepted has arrived: it goes out before the Close.
    pub(super) fn ping_last(&mut self, payload: Bytes) {
        self.last_ping = Some(payload);
    }

    /// Takes the Close, to go out after everything accepted.
    pub(super) fn close(&mut self, reason: CloseReason) {
        self.close = Some(reason);
    }

    /// Takes the Close of a session that has failed: what was accepted is not sent any more.
    pub(super) fn close_now(&mut self, reason: CloseReason) {
        self.clear();
        self.close = Some(reason);
    }

    /// Throws everything away.
    pub(super) fn clear(&mut self) {
        self.keep_only_close();
        self.close = None;
    }

    /// Throws away everything but a Close that waits.
    pub(super) fn keep_only_close(&mut self) {
        self.messages.clear();
        self.control.clear();
        self.last_ping = None;
        self.bytes = 0;
    }

    /// The next control frame to send, the Close not among them.
    pub(super) fn pop_control(&mut self) -> Option<RawFrame> {
        self.control.pop_front()
    }

    /// The next frame to send.
    pub(super) fn pop(&mut self) -> Option<RawFrame> {
        if let Some(frame) = self.control.pop_front() {
            return Some(frame);
        }
        let Some(message) = self.messages.front_mut() else {
            self.close.as_ref()?;
            if let Some(payload) = self.last_ping.take() {
                return Some(RawFrame::new(OpCode::Ping, payload));
            }
            let reason = self.close.take()?;
            self.closed = true;
            return Some(RawFrame::new(OpCode::Close, reason.to_payload()));
        };
        if message.rest.len() > self.fragment {
            let fragment = RawFrame::new(message.opcode, message.rest.split_to(self.fragment));
            message.opcode = OpCode::Continuation;
            self.bytes -= self.fragment;
            return Some(fragment.not_final());
        }
        let Message { opcode, rest, last } = self.messages.pop_front()?;
        self.bytes -= rest.len();
        Some(RawFrame { fin: last, ..RawFrame::new(opcode, rest) })
    }
}

impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { opcode, rest, last } = self;
        write!(f, "Message({opcode:?}, last: {last}, {} bytes)", rest.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drain(outbox: &mut Outbox) -> Vec<(OpCode, usize, bool)> {
        std::iter::from_fn(|| outbox.pop()).map(|f| (f.opcode, f.payload.len(), f.fin)).collect()
    }

    #[test]
    fn long_messages_are_split_and_control_frames_go_between() {
        let mut outbox = Outbox::new(Unit::Frames, usize::MAX, 1 << 20);
        outbox.push(OpCode::Binary, vec![0; 2 * FRAGMENT + 1].into());
        let first = outbox.pop().expect("a fragment");
        assert_eq!(
            (first.opcode, first.payload.len(), first.fin),
            (OpCode::Binary, FRAGMENT, false)
        );
        outbox.push_control(OpCode::Pong, Bytes::new());
        outbox.close(CloseReason::normal());
        let rest = [
            (OpCode::Pong, 0, true),
            (OpCode::Continuation, FRAGMENT, false),
            (OpCode::Continuation, 1, true),
            (OpCode::Close, 2, true),
        ];
        assert_eq!(drain(&mut outbox), rest);
        assert!(outbox.is_empty());
    }

    #[test]
    fn parts_are_fragments_of_one_message_and_no_other_begins_between_them() {
        let mut outbox = Outbox::new(Unit::Frames, usize::MAX, 1 << 20);
        outbox.set_streaming(true);
        outbox.push_part(OpCode::Text, vec![0; FRAGMENT + 1].into(), false);
        assert!(!outbox.has_room(0) && outbox.has_room_for_part(1));
        outbox.push_part(OpCode::Continuation, Bytes::new(), true);
        outbox.set_streaming(false);
        assert!(outbox.has_room(0));
        let parts = [
            (OpCode::Text, FRAGMENT, false),
            (OpCode::Continuation, 1, false),
            (OpCode::Continuation, 0, true),
        ];
        assert_eq!(drain(&mut outbox), parts);
    }

    #[test]
    fn the_last_ping_goes_between_what_was_accepted_and_the_close() {
        for fails in [false, true] {
            let mut outbox = Outbox::new(Unit::Frames, usize::MAX, 1 << 20);
            outbox.push(OpCode::Binary, vec![0; FRAGMENT + 1].into());
            outbox.ping_last("?".into());
            outbox.close(CloseReason::normal());
            outbox.push_control(OpCode::Pong, Bytes::new());
            if fails {
                outbox.keep_only_close();
                assert_eq!(drain(&mut outbox), [(OpCode::Close, 2, true)]);
                continue;
            }
            let all = [
                (OpCode::Pong, 0, true),
                (OpCode::Binary, FRAGMENT, false),
                (OpCode::Continuation, 1, true),
                (OpCode::Ping, 1, true),
                (OpCode::Close, 2, true),
            ];
            assert_eq!(drain(&mut outbox), all);
        }
    }

    #[test]
    fn a_transport_of_messages_gets_them_whole() {
        let mut outbox = Outbox::new(Unit::Messages, usize::MAX, 10);
        outbox.push(OpCode::Text, vec![b'x'; 3 * FRAGMENT].into());
        assert_eq!(drain(&mut outbox), [(OpCode::Text, 3 * FRAGMENT, true)]);
    }

    #[test]
    fn room_is_counted_in_bytes_and_one_message_always_fits() {
        let mut outbox = Outbox::new(Unit::Frames, usize::MAX, 10);
        assert!(outbox.has_room(1000));
        outbox.push(OpCode::Binary, vec![0; 6].into());
        assert!(outbox.has_room(4) && !outbox.has_room(5));
        outbox.pop();
        assert!(outbox.has_room(5));
    }

    #[test]
    fn payloads_are_not_printed() {
        let mut outbox = Outbox::new(Unit::Frames, usize::MAX, 10);
        outbox.push(OpCode::Text, "secret".into());
        outbox.push_control(OpCode::Ping, "secret".into());
        let printed = format!("{outbox:?}");
        assert!(printed.contains("6 bytes") && !printed.contains("secret"), "{printed}");
    }

    #[test]
    fn a_flood_of_pings_keeps_only_the_latest_pongs() {
        let mut outbox = Outbox::new(Unit::Frames, usize::MAX, 10);
        for i in 0..=u8::MAX {
            outbox.push_control(OpCode::Pong, vec![i].into());
        }
        let kept: Vec<_> = std::iter::from_fn(|| outbox.pop()).map(|f| f.payload[0]).collect();
        assert_eq!(kept.len(), MOST_CONTROL);
        assert_eq!(kept.last(), Some(&u8::MAX));
    }
}
