//! A WebSocket as its library is used, and the work done with it.

use std::{future::Future, time::Instant};

use crate::{
    Result,
    libraries::Spawner,
    work::{Shape, Work},
};

/// What sends.
pub(crate) trait Sending: Send + 'static {
    /// Sends a text as a program would: written, or about to be, when it returns.
    fn send(&mut self, text: &str) -> impl Future<Output = Result<()>> + Send;

    /// Sends a text with those after it.
    fn feed(&mut self, text: &str) -> impl Future<Output = Result<()>> + Send;

    /// Writes fed messages.
    fn flush(&mut self) -> impl Future<Output = Result<()>> + Send;
}

/// What receives.
pub(crate) trait Receiving: Send + 'static {
    /// Waits for the next message. Returns its length.
    fn receive(&mut self) -> impl Future<Output = Result<usize>> + Send;
}

/// An open WebSocket.
pub(crate) trait Socket: Sending + Receiving {
    type Sender: Sending;
    type Receiver: Receiving;

    /// The halves that two tasks use, by the library's own means.
    fn split(self) -> (Self::Sender, Self::Receiver);
}

/// Two halves are a socket, too.
pub(crate) struct Halves<S, R>(pub(crate) S, pub(crate) R);

impl<S: Sending, R: Send + 'static> Sending for Halves<S, R> {
    async fn send(&mut self, text: &str) -> Result<()> {
        self.0.send(text).await
    }

    async fn feed(&mut self, text: &str) -> Result<()> {
        self.0.feed(text).await
    }

    async fn flush(&mut self) -> Result<()> {
        self.0.flush().await
    }
}

impl<S: Send + 'static, R: Receiving> Receiving for Halves<S, R> {
    async fn receive(&mut self) -> Result<usize> {
        self.1.receive().await
    }
}

impl<S: Sending, R: Receiving> Socket for Halves<S, R> {
    type Sender = S;
    type Receiver = R;

    fn split(self) -> (S, R) {
        (self.0, self.1)
    }
}

impl Work {
    /// Does the work with this many messages. The last one has arrived when it returns. `trip` gets the duration of
    /// each round trip took, in nanoseconds.
    pub(crate) async fn run(
        self,
        socket: &mut impl Socket,
        messages: usize,
        mut trip: impl FnMut(u32),
    ) -> Result<()> {
        let text = "x".repeat(self.size);
        match self.shape {
            Shape::PingPong => {
                let mut sent = Instant::now();
                for _ in 0..messages {
                    socket.send(&text).await?;
                    self.receive(socket).await?;
                    let now = Instant::now();
                    // Nothing here takes four seconds.
                    trip((now - sent).as_nanos() as u32);
                    sent = now;
                }
            }
            Shape::EchoSend(window) => {
                for _ in 0..messages / window {
                    for _ in 0..window {
                        socket.send(&text).await?;
                    }
                    for _ in 0..window {
                        self.receive(socket).await?;
                    }
                }
            }
            Shape::EchoFeed(window) => {
                for _ in 0..messages / window {
                    for _ in 0..window {
                        socket.feed(&text).await?;
                    }
                    socket.flush().await?;
                    for _ in 0..window {
                        self.receive(socket).await?;
                    }
                }
            }
            Shape::EchoSliding(window) => {
                let mut sent = 0;
                for received in 0..messages {
                    while sent < messages.min(received + window) {
                        socket.send(&text).await?;
                        sent += 1;
                    }
                    self.receive(socket).await?;
                }
            }
            Shape::Receive => {
                socket.send(&messages.to_string()).await?;
                for _ in 0..messages {
                    self.receive(socket).await?;
                }
            }
            Shape::Send | Shape::Feed => {
                socket.send(&messages.to_string()).await?;
                for _ in 0..messages {
                    if self.shape == Shape::Feed {
                        socket.feed(&text).await?;
                    } else {
                        socket.send(&text).await?;
                    }
                }
                socket.flush().await?;
                self.expect("done".len(), socket.receive().await?)?;
            }
            Shape::Duplex | Shape::Handshake => {
                return Err(format!("{self} is not done on one socket in one task").into());
            }
        }
        Ok(())
    }

    async fn receive(self, socket: &mut impl Receiving) -> Result<()> {
        self.expect(self.size, socket.receive().await?)
    }

    fn expect(self, expected: usize, received: usize) -> Result<()> {
        if expected == received {
            return Ok(());
        }
        Err(format!("{self}: {received} bytes came, {expected} were expected").into())
    }
}

/// [`Shape::Duplex`]: another task sends, this one receives the echoes.
pub(crate) async fn duplex<S: Sending, R: Receiving>(
    Halves(mut sender, mut receiver): Halves<S, R>,
    spawner: Spawner,
    work: Work,
    messages: usize,
) -> Result<Halves<S, R>> {
    let sending = spawner.spawn(async move {
        let text = "x".repeat(work.size);
        for _ in 0..messages {
            sender.send(&text).await?;
        }
        sender.flush().await?;
        Ok(sender)
    });
    for _ in 0..messages {
        work.receive(&mut receiver).await?;
    }
    Ok(Halves(sending.await?, receiver))
}
