//! What each subject does.

use std::fmt;

/// One kind of work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Work {
    pub(crate) shape: Shape,
    /// Bytes of a message.
    pub(crate) size: usize,
    pub(crate) cores: Cores,
}

/// Where subject and server run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cores {
    /// Where the system puts them.
    Any,
    /// Both on one.
    One,
    /// Each on its own core.
    Two,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    /// A message and its echo, one after the other.
    PingPong,
    /// This many messages by `send`, then their echoes, and again.
    EchoSend(usize),
    /// The same by `feed` and one `flush`.
    EchoFeed(usize),
    /// This many messages are on their way at any time: for each echo one more `send`.
    EchoSliding(usize),
    /// A flood from the server.
    Receive,
    /// A flood to the server by `send`.
    Send,
    /// A flood to the server by `feed` and one `flush`.
    Feed,
    /// One task sends, another one receives the echoes, without a window.
    Duplex,
    /// Connecting, and no message.
    Handshake,
}

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;

impl Work {
    /// What the bench runs.
    pub(crate) const ALL: [Self; 24] = [
        Self::PING_PONG,
        Self::new(Shape::EchoSend(64), 32),
        Self::new(Shape::EchoSend(256), 32),
        Self::new(Shape::EchoFeed(64), 32),
        Self::new(Shape::EchoFeed(256), 32),
        Self::new(Shape::EchoSliding(64), 32),
        Self::new(Shape::EchoSliding(256), 32),
        Self::new(Shape::EchoSend(64), 32).on_two_cores(),
        Self::new(Shape::EchoSend(256), 32).on_two_cores(),
        Self::new(Shape::Duplex, 32),
        Self::new(Shape::Duplex, KIB),
        Self::new(Shape::Receive, 32),
        Self::new(Shape::Receive, KIB),
        Self::new(Shape::Receive, 64 * KIB),
        Self::new(Shape::Receive, MIB),
        Self::new(Shape::Send, 32),
        Self::new(Shape::Send, KIB),
        Self::new(Shape::Send, 64 * KIB),
        Self::new(Shape::Send, MIB),
        Self::new(Shape::Feed, 32),
        Self::new(Shape::Feed, KIB),
        Self::new(Shape::Feed, 64 * KIB),
        Self::new(Shape::Feed, MIB),
        Self::new(Shape::Handshake, 0),
    ];

    pub(crate) const PING_PONG: Self = Self::new(Shape::PingPong, 32);

    /// On one core where the two wait for each other in turn.
    pub(crate) const fn new(shape: Shape, size: usize) -> Self {
        let cores = match shape {
            Shape::PingPong | Shape::EchoSend(_) | Shape::EchoFeed(_) | Shape::EchoSliding(_) => {
                Cores::One
            }
            _ => Cores::Any,
        };
        Self { shape, size, cores }
    }

    const fn on_two_cores(self) -> Self {
        Self { cores: Cores::Two, ..self }
    }

    /// What to ask the server for.
    pub(crate) fn path(self) -> String {
        match self.shape {
            Shape::Receive => format!("/source/{}", self.size),
            Shape::Send | Shape::Feed => "/sink".into(),
            _ => "/echo".into(),
        }
    }

    /// Number of messages of the calibration run.
    pub(crate) fn trial(self) -> usize {
        match self.shape {
            Shape::Handshake => 50,
            _ => (8 * MIB / self.size.max(1)).clamp(8, 2_000),
        }
    }

    /// The number of messages that make a run of this length, if one takes `each` nanoseconds.
    pub(crate) fn messages(self, run: std::time::Duration, each: f64) -> usize {
        let (least, most) = match self.shape {
            // Each uses a port of the machine up for a while.
            Shape::Handshake => (50, 500),
            _ => ((16 * MIB / self.size.max(1)).clamp(16, 1_000), 2_000_000),
        };
        let messages = ((run.as_nanos() as f64 / each) as usize).clamp(least, most);
        // Whole windows only.
        match self.shape {
            Shape::EchoSend(window) | Shape::EchoFeed(window) => messages.next_multiple_of(window),
            _ => messages,
        }
    }

    pub(crate) fn is_flood(self) -> bool {
        matches!(self.shape, Shape::Receive | Shape::Send | Shape::Feed)
    }

    /// Whether bytes are of more interest than messages.
    pub(crate) fn is_large(self) -> bool {
        self.size > KIB
    }

    /// Whether it can only be done by a library that can send without writing at once.
    pub(crate) fn feeds(self) -> bool {
        matches!(self.shape, Shape::Feed | Shape::EchoFeed(_))
    }

    /// Whether how long each message takes is of interest.
    pub(crate) fn has_latency(self) -> bool {
        matches!(self.shape, Shape::PingPong | Shape::Handshake)
    }
}

impl fmt::Display for Work {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.shape {
            Shape::PingPong => f.write_str("ping-pong"),
            Shape::EchoSend(window) => write!(f, "echo of {window}, send"),
            Shape::EchoFeed(window) => write!(f, "echo of {window}, feed"),
            Shape::EchoSliding(window) => write!(f, "echo of {window}, sliding"),
            Shape::Receive => f.write_str("receive"),
            Shape::Send => f.write_str("send"),
            Shape::Feed => f.write_str("feed"),
            Shape::Duplex => f.write_str("duplex"),
            Shape::Handshake => return f.write_str("handshake"),
        }?;
        if self.cores == Cores::Two {
            f.write_str(", two cores")?;
        }
        match self.size {
            size if size % MIB == 0 => write!(f, " {} MiB", size / MIB),
            size if size % KIB == 0 => write!(f, " {} KiB", size / KIB),
            size => write!(f, " {size} B"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::HashSet, time::Duration};

    use super::*;

    #[test]
    fn each_work_has_a_name_of_its_own() {
        let names: HashSet<_> = Work::ALL.iter().map(Work::to_string).collect();
        assert_eq!(names.len(), Work::ALL.len());
        assert!(names.contains("receive 1 MiB") && names.contains("send 64 KiB"));
    }

    #[test]
    fn a_run_is_whole_windows_within_bounds() {
        let run = Duration::from_millis(60);
        assert_eq!(Work::new(Shape::EchoSend(256), 32).messages(run, 1e9), 1_024);
        assert_eq!(Work::new(Shape::Send, 32).messages(run, 0.001), 2_000_000);
        assert_eq!(Work::new(Shape::Send, MIB).messages(run, 1e9), 16);
        assert_eq!(Work::new(Shape::Handshake, 0).messages(run, 100_000.0), 500);
    }
}
