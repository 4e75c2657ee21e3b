//! Counters of a session: plain numbers, counted under the lock.

use std::time::Duration;

use drivetrain_engine::OpCode;

/// The counters of a session.
///
/// A snapshot from [`Session::stats`](super::Session::stats) or a half; after the end, the
/// total. Counted between the session and its engine: work of the engine alone, such as a
/// browser's answers to pings, is not included.
///
/// # Example
/// ```no_run
/// # async fn example(session: drivetrain_session::Session) {
/// let stats = session.stats();
/// println!("{} messages in {} bytes came in", stats.received.messages, stats.received.bytes);
/// println!("{} went out", stats.sent.messages);
/// println!("round trip: {:?}, on average {:?}", stats.latency, stats.smoothed_latency);
/// # }
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct SessionStats {
    /// Input from the peer.
    pub received: Traffic,
    /// Output that the engine has accepted. [`flush`](super::Session::flush) writes it.
    pub sent: Traffic,
    /// The latest round trip of a ping; `None` before the first.
    pub latency: Option<Duration>,
    /// The smoothed round trip of all pings: each moves the average by an eighth of the difference
    /// (as RFC 6298 section 2 does for TCP); `None` before the first.
    pub smoothed_latency: Option<Duration>,
}

/// The counters of one direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Traffic {
    /// Frames of any kind, each fragment separately. On an engine of whole messages, each message is one.
    pub frames: u64,
    /// Bytes of payload, including control frames, without frame headers.
    pub bytes: u64,
    /// Whole messages, including discarded ones.
    pub messages: u64,
    /// Pings: the keepalive's, [`ping`](super::Session::ping)'s and the application's own.
    pub pings: u64,
    /// Pongs. Of those sent, each answers a ping, unless the application sent it.
    pub pongs: u64,
}

/// Counts one direction with minimal work per message: the kind of a frame is counted only if it
/// ends no message.
#[derive(Debug, Default)]
pub(super) struct Counter {
    frames: u64,
    /// Frames that end no message.
    apart: u64,
    /// Not beside `frames`: two additions are cheaper than one of a pair, which has to be put together first.
    bytes: u64,
    pings: u64,
    pongs: u64,
}

impl Counter {
    /// Counts a frame of this payload, the last one of a message unless [`apart`](Self::apart) says
    /// otherwise.
    #[inline]
    pub(super) fn frame(&mut self, bytes: usize) {
        self.frames(1, bytes);
    }

    /// Counts this many frames with this many bytes in all.
    #[inline]
    pub(super) fn frames(&mut self, frames: usize, bytes: usize) {
        self.frames += frames as u64;
        self.bytes += bytes as u64;
    }

    /// Marks the last counted frame as not ending a message.
    pub(super) fn apart(&mut self, opcode: OpCode) {
        self.apart += 1;
        match opcode {
            OpCode::Ping => self.pings += 1,
            OpCode::Pong => self.pongs += 1,
            _ => {}
        }
    }

    pub(super) fn traffic(&self) -> Traffic {
        let Self { frames, bytes, apart, pings, pongs } = *self;
        Traffic { frames, bytes, messages: frames - apart, pings, pongs }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_fragment_is_the_message_and_control_frames_are_none() {
        let mut counter = Counter::default();
        for (opcode, fin, bytes) in [
            (OpCode::Text, false, 3),
            (OpCode::Ping, true, 2),
            (OpCode::Continuation, false, 3),
            (OpCode::Pong, true, 0),
            (OpCode::Continuation, true, 1),
            (OpCode::Binary, true, 10),
            (OpCode::Close, true, 2),
        ] {
            counter.frame(bytes);
            if !fin || opcode.is_control() {
                counter.apart(opcode);
            }
        }
        let expected = Traffic { frames: 7, bytes: 21, messages: 2, pings: 1, pongs: 1 };
        assert_eq!(counter.traffic(), expected);
    }
}
