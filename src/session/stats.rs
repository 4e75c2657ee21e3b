//! What a session has carried: plain numbers, counted where the lock is held anyway.

use std::time::Duration;

use drivetrain_engine::OpCode;

/// What a session has carried so far.
///
/// A snapshot, made by [`Session::stats`](super::Session::stats) and by both halves; after the end it is
/// the sum. It is counted between the session and its engine: what the engine does by itself, such as a
/// browser that answers pings, is not in it.
///
/// # Example
/// ```no_run
/// # async fn example(session: drivetrain::Session) {
/// let stats = session.stats();
/// println!("{} messages in {} bytes came in", stats.received.messages, stats.received.bytes);
/// println!("{} went out", stats.sent.messages);
/// println!("round trip: {:?}, on average {:?}", stats.latency, stats.smoothed_latency);
/// # }
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct SessionStats {
    /// What came from the peer.
    pub received: Traffic,
    /// What was given to the engine. It is written, if not at once, by [`flush`](super::Session::flush).
    pub sent: Traffic,
    /// The latest round trip of a ping; `None` before the first.
    pub latency: Option<Duration>,
    /// The round trips of all pings, each of which moves the average by an eighth of its distance to it
    /// (as RFC 6298 section 2 does for TCP); `None` before the first.
    pub smoothed_latency: Option<Duration>,
}

/// What has gone in one direction of a session.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Traffic {
    /// Frames of any kind, fragments each for itself. Where an engine knows messages only, each is one.
    pub frames: u64,
    /// Bytes of payload, of control frames too; the frames' headers are not in it.
    pub bytes: u64,
    /// Whole messages, whoever got them: those that were thrown away are among them.
    pub messages: u64,
    /// Pings: the keepalive's, [`ping`](super::Session::ping)'s and the application's own.
    pub pings: u64,
    /// Pongs. Of those sent, each answers a ping, unless the application sent it.
    pub pongs: u64,
}

/// Counts one direction, with as little as can be per message: what a frame came to is counted only if it
/// is no message.
#[derive(Debug, Default)]
pub(super) struct Counter {
    frames: u64,
    bytes: u64,
    /// Frames that end no message.
    apart: u64,
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

    /// The same for so many frames, with so many bytes in all.
    #[inline]
    pub(super) fn frames(&mut self, frames: usize, bytes: usize) {
        self.frames += frames as u64;
        self.bytes += bytes as u64;
    }

    /// The frame just counted ends no message.
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
