//! What each contender does.

use std::{fmt, time::Instant};

use crate::{Result, clock, report::Sample};

/// An open WebSocket, as its library is used.
pub(crate) trait Socket {
    /// Sends a text as a program would: written, or about to be, when it returns.
    async fn send(&mut self, text: &str) -> Result<()>;

    /// Sends a text with those after it.
    async fn feed(&mut self, text: &str) -> Result<()>;

    /// Writes what was fed.
    async fn flush(&mut self) -> Result<()>;

    /// Waits for the next message. Returns its length.
    async fn receive(&mut self) -> Result<usize>;
}

/// One kind of work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Work {
    pub(crate) shape: Shape,
    /// Bytes of a message.
    pub(crate) size: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    PingPong,
    Receive,
    Send,
    Feed,
}

impl Work {
    /// What the bench runs.
    pub(crate) const ALL: [Self; 7] = [
        Self::new(Shape::PingPong, 32),
        Self::new(Shape::Receive, 32),
        Self::new(Shape::Receive, 1024),
        Self::new(Shape::Send, 32),
        Self::new(Shape::Send, 1024),
        Self::new(Shape::Feed, 32),
        Self::new(Shape::Feed, 1024),
    ];

    pub(crate) const fn new(shape: Shape, size: usize) -> Self {
        Self { shape, size }
    }

    /// What to ask the server for.
    pub(crate) fn path(self) -> String {
        match self.shape {
            Shape::PingPong => "/echo".into(),
            Shape::Receive => format!("/source/{}", self.size),
            Shape::Send | Shape::Feed => "/sink".into(),
        }
    }

    /// Does it with so many messages, and measures this process meanwhile.
    pub(crate) async fn measure(
        self,
        socket: &mut impl Socket,
        messages: usize,
        trips: &mut Vec<u32>,
    ) -> Result<Sample> {
        let (start, cpu) = (Instant::now(), clock::cpu_time());
        self.run(socket, messages, |trip| trips.push(trip)).await?;
        let (cpu, wall) = (clock::cpu_time() - cpu, start.elapsed());
        Ok(Sample::new(messages, cpu, wall, trips))
    }

    /// Does it with so many messages. The last one has arrived when it returns. `trip` is told how long
    /// each round trip took, in nanoseconds.
    pub(crate) async fn run(
        self,
        socket: &mut impl Socket,
        messages: usize,
        mut trip: impl FnMut(u32),
    ) -> Result<()> {
        let text = "x".repeat(self.size);
        if self.shape == Shape::PingPong {
            let mut sent = Instant::now();
            for _ in 0..messages {
                socket.send(&text).await?;
                self.expect(self.size, socket.receive().await?)?;
                let now = Instant::now();
                // Nothing here takes four seconds.
                trip((now - sent).as_nanos() as u32);
                sent = now;
            }
            return Ok(());
        }
        socket.send(&messages.to_string()).await?;
        match self.shape {
            Shape::Receive => {
                for _ in 0..messages {
                    self.expect(self.size, socket.receive().await?)?;
                }
                return Ok(());
            }
            Shape::Feed => {
                for _ in 0..messages {
                    socket.feed(&text).await?;
                }
                socket.flush().await?;
            }
            _ => {
                for _ in 0..messages {
                    socket.send(&text).await?;
                }
            }
        }
        self.expect("done".len(), socket.receive().await?)
    }

    fn expect(self, expected: usize, received: usize) -> Result<()> {
        if expected == received {
            return Ok(());
        }
        Err(format!("{self}: {received} bytes came, {expected} were expected").into())
    }
}

impl fmt::Display for Work {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.shape {
            Shape::PingPong => "ping-pong",
            Shape::Receive => "receive",
            Shape::Send => "send",
            Shape::Feed => "feed",
        })?;
        match self.size {
            size if size % 1024 == 0 => write!(f, " {} KiB", size / 1024),
            size => write!(f, " {size} B"),
        }
    }
}
