//! The queue of accepted messages that the transport has not taken yet. Pure.

use std::{collections::VecDeque, fmt};

use bytes::Bytes;
use drivetrain_engine::{CloseReason, OpCode, RawFrame};

use crate::lane::{Lane, Waiting};

/// The most control frames that wait; beyond it the oldest pong is dropped. A pong may answer several pings (RFC 6455
/// section 5.5.3), so a peer that floods pings without reading costs no memory.
const MOST_CONTROL: usize = 64;

/// The memory of a queued message beside its payload, at least. It bounds empty messages, too: payloads and overhead
/// together take at most four times the capacity. `FEW` messages may always wait.
const OVERHEAD: usize = 64;
const FEW: usize = 16;

/// The queue of a session. Control frames go first, also between fragments; then messages; the Close last.
#[derive(Debug)]
pub(crate) struct SendQueue {
    /// The largest fragment.
    fragment: usize,
    /// The largest message that is not split.
    whole: usize,
    capacity: usize,
    /// The Close was taken out: nothing may follow it.
    closed: bool,
    control: VecDeque<RawFrame>,
    messages: VecDeque<Message>,
    /// Messages of lanes that came while another message is being streamed.
    held: VecDeque<Message>,
    /// The bytes of queued messages.
    bytes: usize,
    /// A message is being streamed: no other may begin.
    streaming: bool,
    /// A sender waits for its turn: no other sender may pass it.
    awaited: bool,
    /// The latest popped fragment is to be flushed.
    flushes: bool,
    /// The payload of a Ping to send after the messages and before the Close.
    last_ping: Option<Bytes>,
    close: Option<CloseReason>,
}

struct Message {
    /// `Continuation` after the first fragment.
    opcode: OpCode,
    rest: Bytes,
    /// Whether this is the last fragment.
    last: bool,
    /// The extensions flush the message behind it.
    flush: bool,
    /// The lane that it came in.
    waiting: Option<Waiting>,
}

impl SendQueue {
    /// A queue of at most `capacity` bytes, for messages of at most `max_message_size` bytes. It splits messages above
    /// `fragment` bytes.
    pub(crate) fn new(fragment: usize, max_message_size: usize, capacity: usize) -> Self {
        Self {
            fragment,
            whole: fragment.min(max_message_size),
            capacity,
            closed: false,
            control: VecDeque::new(),
            messages: VecDeque::new(),
            held: VecDeque::new(),
            bytes: 0,
            streaming: false,
            awaited: false,
            flushes: false,
            last_ping: None,
            close: None,
        }
    }

    /// The largest fragment.
    pub(crate) fn fragment_size(&self) -> usize {
        self.fragment
    }

    /// Whether a message of this size may be queued: it fits or would be the only one, and no message is being streamed.
    pub(crate) fn has_room(&self, size: usize) -> bool {
        !self.streaming && self.has_room_for_fragment(size)
    }

    /// Whether a fragment of this size of the streamed message may be queued.
    pub(crate) fn has_room_for_fragment(&self, size: usize) -> bool {
        let waiting = self.messages.len();
        let fits = self.bytes.saturating_add(size) <= self.capacity
            && (waiting < FEW
                || waiting.saturating_mul(OVERHEAD) <= self.capacity.saturating_mul(2));
        self.messages.is_empty() || fits
    }

    /// Whether a control frame of the application may be queued. The session drops none of those.
    pub(crate) fn has_control_room(&self) -> bool {
        self.control.len() < MOST_CONTROL
    }

    /// Whether the queue is empty.
    pub(crate) fn is_empty(&self) -> bool {
        self.messages.is_empty() && self.control.is_empty() && self.close.is_none()
    }

    /// Whether a message, or a part of one, is queued.
    pub(crate) fn has_messages(&self) -> bool {
        !self.messages.is_empty()
    }

    /// How many messages wait to their end. Of the first one a beginning may be sent.
    pub(crate) fn messages(&self) -> u64 {
        self.messages.iter().filter(|message| message.last).count() as u64
    }

    /// Whether a message of this size may skip the queue of an open session, in which no Close waits: nothing waits, none
    /// is being streamed, and it need not be split.
    #[inline]
    pub(crate) fn may_pass(&self, size: usize) -> bool {
        debug_assert!(self.close.is_none(), "a session with a Close to send is not open");
        let is_idle = self.messages.is_empty() && self.control.is_empty();
        !(self.streaming | self.awaited) && is_idle && size <= self.whole
    }

    /// Sets whether a sender waits for its turn.
    pub(crate) fn set_awaited(&mut self, awaited: bool) {
        self.awaited = awaited;
    }

    /// Whether a message is being streamed.
    pub(crate) fn is_streaming(&self) -> bool {
        self.streaming
    }

    /// Sets whether a message is being streamed.
    pub(crate) fn set_streaming(&mut self, streaming: bool) {
        self.streaming = streaming;
        if !streaming {
            self.messages.append(&mut self.held);
        }
    }

    /// Queues a message of a lane, behind the message that is being streamed.
    pub(crate) fn push_lane(&mut self, opcode: OpCode, rest: Bytes, lane: &Lane, key: Option<u64>) {
        self.bytes += rest.len();
        let waiting = Some(lane.count(rest.len(), key));
        let queue = if self.streaming { &mut self.held } else { &mut self.messages };
        queue.push_back(Message { opcode, rest, last: true, flush: false, waiting });
    }

    /// Drops the messages of lanes that wait for the end of the streamed message. Returns their payloads.
    pub(crate) fn drop_held(&mut self) -> Vec<Bytes> {
        let gone: Vec<_> = self.held.drain(..).map(|message| message.rest).collect();
        self.bytes -= gone.iter().map(Bytes::len).sum::<usize>();
        gone
    }

    /// Drops the oldest message of the lane of which nothing was sent. Returns its payload.
    pub(crate) fn drop_oldest(&mut self, lane: &Lane) -> Option<Bytes> {
        for queue in [&mut self.messages, &mut self.held] {
            let is_its = |message: &Message| message.waits_in(lane);
            if let Some(message) = queue.iter().position(is_its).and_then(|at| queue.remove(at)) {
                self.bytes -= message.rest.len();
                return Some(message.rest);
            }
        }
        None
    }

    /// Replaces the payload of the message of the lane with this key, of which nothing was sent. Returns the old payload.
    pub(crate) fn replace(&mut self, lane: &Lane, key: u64, payload: &Bytes) -> Option<Bytes> {
        let is_it = |message: &&mut Message| {
            message.waits_in(lane)
                && message.waiting.as_ref().is_some_and(|waiting| waiting.key == Some(key))
        };
        let message = self.messages.iter_mut().chain(&mut self.held).find(is_it)?;
        let before = std::mem::replace(&mut message.rest, payload.clone());
        message.waiting = Some(lane.count(payload.len(), Some(key)));
        self.bytes = self.bytes - before.len() + payload.len();
        Some(before)
    }

    /// Queues a message.
    pub(crate) fn push(&mut self, opcode: OpCode, payload: Bytes) {
        self.push_fragment(opcode, payload, true);
    }

    /// Queues a fragment of a message: the first one with the message's opcode, later ones as continuations.
    pub(crate) fn push_fragment(&mut self, opcode: OpCode, payload: Bytes, last: bool) {
        self.bytes += payload.len();
        let waiting = None;
        self.messages.push_back(Message { opcode, rest: payload, last, flush: false, waiting });
    }

    /// Flushes the extensions behind the last queued fragment of the streamed message. Returns whether there is one.
    pub(crate) fn flush_fragments(&mut self) -> bool {
        let part = self.messages.back_mut().filter(|part| !part.last);
        part.map(|part| part.flush = true).is_some()
    }

    /// Whether the latest popped fragment is to be flushed.
    pub(crate) fn take_flush(&mut self) -> bool {
        std::mem::take(&mut self.flushes)
    }

    /// Queues a control frame other than a Close. Returns the payload of the frame that is dropped, if one is.
    pub(crate) fn push_control(&mut self, opcode: OpCode, payload: Bytes) -> Option<Bytes> {
        if self.closed {
            return Some(payload);
        }
        let mut dropped = None;
        if self.control.len() >= MOST_CONTROL {
            let oldest = self.control.iter().position(|frame| frame.opcode == OpCode::Pong);
            dropped = self.control.remove(oldest.unwrap_or(0));
        }
        self.control.push_back(RawFrame::new(opcode, payload));
        dropped.map(|frame| frame.payload)
    }

    /// Queues a Ping behind the messages and before the Close. Its pong acknowledges everything that was accepted.
    pub(crate) fn ping_last(&mut self, payload: Bytes) {
        self.last_ping = Some(payload);
    }

    /// Queues the Close behind everything that was accepted.
    pub(crate) fn close(&mut self, reason: CloseReason) {
        self.close = Some(reason);
    }

    /// Drops a queued Close. Returns whether there was one.
    pub(crate) fn forget_close(&mut self) -> bool {
        self.close.take().is_some()
    }

    /// Empties the queue. Returns the payloads.
    pub(crate) fn clear(&mut self) -> Vec<Bytes> {
        self.close = None;
        self.keep_only_close()
    }

    /// Empties the queue but for a Close. Returns the payloads.
    pub(crate) fn keep_only_close(&mut self) -> Vec<Bytes> {
        let control = self.control.drain(..).map(|frame| frame.payload);
        let messages = self.messages.drain(..).chain(self.held.drain(..));
        let gone = control.chain(messages.map(|message| message.rest)).collect();
        self.last_ping = None;
        self.bytes = 0;
        gone
    }

    /// The next control frame to send, other than the Close.
    pub(crate) fn pop_control(&mut self) -> Option<RawFrame> {
        self.control.pop_front()
    }

    /// The next frame to send.
    pub(crate) fn pop(&mut self) -> Option<RawFrame> {
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
        let Message { opcode, rest, last, flush, waiting: _ } = self.messages.pop_front()?;
        self.flushes = flush;
        self.bytes -= rest.len();
        Some(RawFrame { fin: last, ..RawFrame::new(opcode, rest) })
    }
}

impl Message {
    /// Whether it is of this lane, and nothing of it was sent.
    fn waits_in(&self, lane: &Lane) -> bool {
        self.opcode != OpCode::Continuation
            && self.waiting.as_ref().is_some_and(|waiting| waiting.lane.is(lane))
    }
}

impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { opcode, rest, last, flush: _, waiting: _ } = self;
        write!(f, "Message({opcode:?}, last: {last}, {} bytes)", rest.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FRAGMENT: usize = 64 << 10;

    fn queue(capacity: usize) -> SendQueue {
        SendQueue::new(FRAGMENT, usize::MAX, capacity)
    }

    fn drain(queue: &mut SendQueue) -> Vec<(OpCode, usize, bool)> {
        std::iter::from_fn(|| queue.pop()).map(|f| (f.opcode, f.payload.len(), f.fin)).collect()
    }

    #[test]
    fn a_lane_is_counted_until_its_message_is_sent_and_gives_up_its_oldest() {
        let mut queue = queue(1 << 20);
        let (lane, other) = (Lane::new(), Lane::new());
        let message = |size: usize| Bytes::from(vec![0; size]);
        queue.push(OpCode::Text, message(1));
        queue.push_lane(OpCode::Text, message(FRAGMENT + 2), &lane, None);
        queue.push_lane(OpCode::Text, message(3), &other, None);
        queue.push_lane(OpCode::Text, message(4), &lane, None);
        assert_eq!(lane.waiting(), FRAGMENT + 6 + 128);
        queue.pop();
        queue.pop();
        assert_eq!(lane.waiting(), FRAGMENT + 6 + 128, "not all of the first was sent");
        assert_eq!(queue.drop_oldest(&lane).map(|gone| gone.len()), Some(4), "the first has begun");
        assert_eq!(queue.drop_oldest(&lane), None);
        assert_eq!(drain(&mut queue), [(OpCode::Continuation, 2, true), (OpCode::Text, 3, true)]);
        assert_eq!((lane.waiting(), other.waiting(), queue.bytes), (0, 0, 0));
    }

    #[test]
    fn a_key_is_replaced_where_it_waits() {
        let mut queue = queue(1 << 20);
        let lane = Lane::new();
        queue.push_lane(OpCode::Text, "one".into(), &lane, Some(1));
        queue.push_lane(OpCode::Text, "two".into(), &lane, Some(2));
        assert_eq!(queue.replace(&lane, 1, &"three".into()), Some("one".into()));
        assert_eq!(queue.replace(&lane, 3, &"four".into()), None);
        assert_eq!(queue.replace(&Lane::new(), 2, &"four".into()), None);
        assert_eq!((lane.waiting(), queue.bytes), (8 + 128, 8));
        assert_eq!(drain(&mut queue), [(OpCode::Text, 5, true), (OpCode::Text, 3, true)]);
        assert_eq!(lane.waiting(), 0);
    }

    #[test]
    fn a_lane_waits_for_the_end_of_a_streamed_message() {
        let mut queue = queue(1 << 20);
        let lane = Lane::new();
        queue.set_streaming(true);
        queue.push_fragment(OpCode::Text, "a".into(), false);
        queue.push_lane(OpCode::Binary, "lane".into(), &lane, None);
        queue.push_fragment(OpCode::Continuation, "b".into(), true);
        queue.set_streaming(false);
        let sent =
            [(OpCode::Text, 1, false), (OpCode::Continuation, 1, true), (OpCode::Binary, 4, true)];
        assert_eq!(drain(&mut queue), sent);
        for drop in [SendQueue::clear, SendQueue::drop_held] {
            queue.set_streaming(true);
            queue.push_lane(OpCode::Binary, "lane".into(), &lane, None);
            assert_eq!(drop(&mut queue).len(), 1);
            queue.set_streaming(false);
            assert_eq!((lane.waiting(), queue.bytes, queue.is_empty()), (0, 0, true));
        }
    }

    #[test]
    fn long_messages_are_split_and_control_frames_go_between() {
        let mut queue = queue(1 << 20);
        queue.push(OpCode::Binary, vec![0; 2 * FRAGMENT + 1].into());
        let first = queue.pop().expect("a fragment");
        assert_eq!(
            (first.opcode, first.payload.len(), first.fin),
            (OpCode::Binary, FRAGMENT, false)
        );
        queue.push_control(OpCode::Pong, Bytes::new());
        queue.close(CloseReason::normal());
        let rest = [
            (OpCode::Pong, 0, true),
            (OpCode::Continuation, FRAGMENT, false),
            (OpCode::Continuation, 1, true),
            (OpCode::Close, 2, true),
        ];
        assert_eq!(drain(&mut queue), rest);
        assert!(queue.is_empty());
    }

    #[test]
    fn parts_are_fragments_of_one_message_and_no_other_begins_between_them() {
        let mut queue = queue(1 << 20);
        queue.set_streaming(true);
        queue.push_fragment(OpCode::Text, vec![0; FRAGMENT + 1].into(), false);
        assert!(!queue.has_room(0) && queue.has_room_for_fragment(1));
        queue.push_fragment(OpCode::Continuation, Bytes::new(), true);
        queue.set_streaming(false);
        assert!(queue.has_room(0));
        let parts = [
            (OpCode::Text, FRAGMENT, false),
            (OpCode::Continuation, 1, false),
            (OpCode::Continuation, 0, true),
        ];
        assert_eq!(drain(&mut queue), parts);
    }

    #[test]
    fn the_last_ping_goes_between_what_was_accepted_and_the_close() {
        for fails in [false, true] {
            let mut queue = queue(1 << 20);
            queue.push(OpCode::Binary, vec![0; FRAGMENT + 1].into());
            queue.ping_last("?".into());
            queue.close(CloseReason::normal());
            queue.push_control(OpCode::Pong, Bytes::new());
            if fails {
                queue.keep_only_close();
                assert_eq!(drain(&mut queue), [(OpCode::Close, 2, true)]);
                continue;
            }
            let all = [
                (OpCode::Pong, 0, true),
                (OpCode::Binary, FRAGMENT, false),
                (OpCode::Continuation, 1, true),
                (OpCode::Ping, 1, true),
                (OpCode::Close, 2, true),
            ];
            assert_eq!(drain(&mut queue), all);
        }
    }

    #[test]
    fn a_transport_of_messages_gets_them_whole() {
        let mut queue = SendQueue::new(usize::MAX, usize::MAX, 10);
        queue.push(OpCode::Text, vec![b'x'; 3 * FRAGMENT].into());
        assert_eq!(drain(&mut queue), [(OpCode::Text, 3 * FRAGMENT, true)]);
    }

    #[test]
    fn room_is_counted_in_bytes_and_one_message_always_fits() {
        let mut queue = queue(10);
        assert!(queue.has_room(1000));
        queue.push(OpCode::Binary, vec![0; 6].into());
        assert!(queue.has_room(4) && !queue.has_room(5));
        queue.pop();
        assert!(queue.has_room(5));
    }

    #[test]
    fn empty_messages_are_bounded_by_their_number() {
        let mut queue = queue(32 * OVERHEAD);
        while queue.has_room(0) {
            queue.push(OpCode::Text, Bytes::new());
        }
        assert_eq!(queue.messages(), 65);
    }

    #[test]
    fn payloads_are_not_printed() {
        let mut queue = queue(10);
        queue.push(OpCode::Text, "secret".into());
        queue.push_control(OpCode::Ping, "secret".into());
        let printed = format!("{queue:?}");
        assert!(printed.contains("6 bytes") && !printed.contains("secret"), "{printed}");
    }

    #[test]
    fn a_flood_of_pings_keeps_only_the_latest_pongs() {
        let mut queue = queue(10);
        for i in 0..=u8::MAX {
            queue.push_control(OpCode::Pong, vec![i].into());
        }
        let kept: Vec<_> = std::iter::from_fn(|| queue.pop()).map(|f| f.payload[0]).collect();
        assert_eq!(kept.len(), MOST_CONTROL);
        assert_eq!(kept.last(), Some(&u8::MAX));
    }
}
