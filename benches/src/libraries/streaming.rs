//! Libraries whose WebSocket is a stream and a sink of messages: most of them.

use std::marker::PhantomData;

use futures_util::{
    Sink, SinkExt as _, Stream, StreamExt as _,
    stream::{SplitSink, SplitStream},
};

use crate::{
    Error, Result,
    socket::{Receiving, Sending, Socket},
};

/// A message as a library has it.
pub(crate) trait Message: Send + Unpin + 'static {
    fn of(text: &str) -> Self;
    fn size(&self) -> usize;
}

/// What a library's stream yields.
pub(crate) trait Received {
    fn size(self) -> Result<usize>;
}

impl<M: Message, E: Into<Error>> Received for Result<M, E> {
    fn size(self) -> Result<usize> {
        Ok(self.map_err(Into::into)?.size())
    }
}

/// A stream, a sink, or both, of messages `M`.
pub(crate) struct Streaming<S, M>(S, PhantomData<fn(M)>);

impl<S, M> Streaming<S, M> {
    pub(crate) fn new(stream: S) -> Self {
        Self(stream, PhantomData)
    }
}

impl<S, M> Sending for Streaming<S, M>
where
    S: Sink<M, Error: Into<Error>> + Send + Unpin + 'static,
    M: Message,
{
    async fn send(&mut self, text: &str) -> Result<()> {
        self.0.send(M::of(text)).await.map_err(Into::into)
    }

    async fn feed(&mut self, text: &str) -> Result<()> {
        self.0.feed(M::of(text)).await.map_err(Into::into)
    }

    async fn flush(&mut self) -> Result<()> {
        self.0.flush().await.map_err(Into::into)
    }
}

impl<S, M> Receiving for Streaming<S, M>
where
    S: Stream<Item: Received> + Send + Unpin + 'static,
    M: 'static,
{
    async fn receive(&mut self) -> Result<usize> {
        self.0.next().await.ok_or("the stream has ended")?.size()
    }
}

impl<S, M> Socket for Streaming<S, M>
where
    S: Sink<M, Error: Into<Error>> + Stream<Item: Received> + Send + Unpin + 'static,
    M: Message,
{
    type Sender = Streaming<SplitSink<S, M>, M>;
    type Receiver = Streaming<SplitStream<S>, M>;

    fn split(self) -> (Self::Sender, Self::Receiver) {
        let (sink, stream) = self.0.split();
        (Streaming::new(sink), Streaming::new(stream))
    }
}

/// It is the same type in tokio-tungstenite and in async-tungstenite.
#[cfg(any(feature = "tungstenite", feature = "async-std", feature = "smol"))]
mod tungstenite {
    #[cfg(not(feature = "tungstenite"))]
    use async_tungstenite::tungstenite::Message;
    #[cfg(feature = "tungstenite")]
    use tokio_tungstenite::tungstenite::Message;

    impl super::Message for Message {
        fn of(text: &str) -> Self {
            Self::text(text)
        }

        fn size(&self) -> usize {
            self.len()
        }
    }
}
