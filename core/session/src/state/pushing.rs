//! Messages that come from outside: they never wait for room, and are bounded by their lane.

use std::task::{Context, Poll};

use bytes::Bytes;
use drivetrain_engine::{CloseReason, Error, ErrorKind, OpCode};

use super::{State, TraceEvent};
use crate::lane::{LANE_OVERHEAD, Lane, Overflow, Pushed};

impl State {
    /// Takes a message as its lane and the policy have it.
    pub(crate) fn push_message(
        &mut self,
        opcode: OpCode,
        payload: &Bytes,
        lane: &Lane,
        limit: usize,
        overflow: Overflow,
    ) -> Pushed {
        if !self.is_open() {
            return Pushed::Closed;
        }
        let mut dropped = 0;
        if let Overflow::Replace(key) = overflow {
            if let Some(before) = self.outbound.queue.replace(lane, key, payload) {
                self.deferred.drop_payload(before);
                return Pushed::Queued { dropped: 1 };
            }
        }
        let size = payload.len().saturating_add(LANE_OVERHEAD);
        while lane.waiting() > 0 && lane.waiting().saturating_add(size) > limit {
            let oldest = match overflow {
                Overflow::Refuse => None,
                Overflow::DropOldest | Overflow::Replace(_) => {
                    self.outbound.queue.drop_oldest(lane)
                }
            };
            let Some(oldest) = oldest else { return Pushed::Full };
            self.deferred.drop_payload(oldest);
            dropped += 1;
        }
        let key = match overflow {
            Overflow::Replace(key) => Some(key),
            _ => None,
        };
        if !self.give(opcode, payload) {
            self.outbound.queue.push_lane(opcode, payload.clone(), lane, key);
            self.pump(false);
        }
        Pushed::Queued { dropped }
    }

    /// Gives a message straight to the transport, if nothing is before it and it takes it without waiting.
    fn give(&mut self, opcode: OpCode, payload: &Bytes) -> bool {
        let may_pass = self.extensions.is_none()
            && self.outbound.send_log.is_none()
            && self.outbound.queue.may_pass(payload.len());
        let Some(transport) = self.transport.as_mut().filter(|_| may_pass) else { return false };
        if !transport.try_send(opcode, payload) {
            let mut cx = Context::from_waker(&self.send_waker);
            self.task.begin_poll();
            let ready = transport.poll_ready(&mut cx);
            let takes = matches!(ready, Poll::Ready(Ok(()))) && transport.try_send(opcode, payload);
            self.end_poll();
            if !takes {
                return false;
            }
        }
        self.outbound.counted.frame(payload.len());
        self.outbound.dirty = true;
        true
    }

    /// The peer takes too little of what is pushed: what waits is dropped, a Close says why, and nothing follows it.
    pub(crate) fn disconnect_lagging(&mut self, reason: &CloseReason) {
        if !self.is_open() {
            return;
        }
        let error =
            Error::new(ErrorKind::Other, "the peer reads too slowly: it lagged behind a broadcast")
                .with_close_code(reason.code());
        self.trace.record(self.deferred.events(), || TraceEvent::Lagged);
        let close = self.lifecycle.closing.failed(error, reason.text(), self.runtime.now());
        if let Some(reason) = close {
            self.clear_queue();
            self.outbound.queue.close(reason);
        }
        self.closing_begins();
        self.pump(true);
    }
}
