//! What carries messages between servers, and how they are written there.

use std::pin::Pin;

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use drivetrain_engine::{Frame, Utf8Bytes, async_trait};
use futures_core::Stream;

/// The error of a [`Backplane`].
pub type BackplaneError = Box<dyn std::error::Error + Send + Sync>;

/// The messages of one topic, in the order in which the broker sends them.
pub type Messages = Pin<Box<dyn Stream<Item = Bytes> + Send>>;

/// A message broker between the servers of a [`Cluster`](crate::Cluster), such as NATS or Redis.
///
/// It carries bytes and makes no promise: a [`Cluster`](crate::Cluster) drops what comes twice and counts what is missing.
/// The crates `drivetrain-nats` and `drivetrain-redis` have adapters. One for a process without a network:
///
/// ```
/// use bytes::Bytes;
/// use drivetrain_server::{Backplane, BackplaneError, Messages, async_trait};
/// use futures_util::stream;
/// use tokio::sync::broadcast;
///
/// struct InProcess(broadcast::Sender<(String, Bytes)>);
///
/// #[async_trait]
/// impl Backplane for InProcess {
///     async fn publish(&self, topic: &str, message: Bytes) -> Result<(), BackplaneError> {
///         self.0.send((topic.to_owned(), message)).ok(); // nobody has subscribed
///         Ok(())
///     }
///
///     async fn subscribe(&self, topic: &str) -> Result<Messages, BackplaneError> {
///         let state = (self.0.subscribe(), topic.to_owned());
///         Ok(Box::pin(stream::unfold(state, async |(mut all, topic)| loop {
///             let (of, message) = all.recv().await.ok()?; // the stream ends: the cluster subscribes again
///             if of == topic {
///                 return Some((message, (all, topic)));
///             }
///         })))
///     }
/// }
/// ```
#[async_trait]
pub trait Backplane: Send + Sync + 'static {
    /// Sends a message to every server that has subscribed to the topic; whether this one gets it too does not matter.
    ///
    /// It may wait for the broker: messages wait in the cluster's queue meanwhile.
    ///
    /// # Errors
    /// The message was not sent, and is not sent again.
    async fn publish(&self, topic: &str, message: Bytes) -> Result<(), BackplaneError>;

    /// Subscribes to the topic, until the stream is dropped. The broker has confirmed it, where it can, when this returns.
    ///
    /// A stream that ends tells that the subscription is lost; the cluster subscribes again. A stream that survives the loss
    /// of its connection need not end.
    ///
    /// # Errors
    /// The broker cannot be reached or refuses. The cluster tries again after a time.
    async fn subscribe(&self, topic: &str) -> Result<Messages, BackplaneError>;
}

const VERSION: u8 = 1;
const TEXT: u8 = 1;
const BINARY: u8 = 2;
const HEAD: usize = 2 + 3 * 8;

/// A message as it travels: 26 bytes before the payload, the numbers in network order.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Envelope {
    /// The server that has published it: a random number.
    pub(crate) node: u64,
    /// Grows with each message of the server.
    pub(crate) sequence: u64,
    /// Grows by one with each message of the server in the topic. It may begin anew.
    pub(crate) index: u64,
    /// Text or Binary.
    pub(crate) message: Frame,
}

impl Envelope {
    /// Its bytes; `None` for a control frame.
    pub(crate) fn encode(&self) -> Option<Bytes> {
        let kind = match &self.message {
            Frame::Text(_) => TEXT,
            Frame::Binary(_) => BINARY,
            _ => return None,
        };
        let payload = self.message.payload();
        let mut bytes = BytesMut::with_capacity(HEAD + payload.len());
        bytes.put_u8(VERSION);
        bytes.put_u8(kind);
        for number in [self.node, self.sequence, self.index] {
            bytes.put_u64(number);
        }
        bytes.put_slice(payload);
        Some(bytes.freeze())
    }

    /// The message of these bytes; `None` if they are none.
    pub(crate) fn decode(mut bytes: Bytes) -> Option<Self> {
        if bytes.len() < HEAD || bytes.get_u8() != VERSION {
            return None;
        }
        let kind = bytes.get_u8();
        let (node, sequence, index) = (bytes.get_u64(), bytes.get_u64(), bytes.get_u64());
        let message = match kind {
            TEXT => Frame::Text(Utf8Bytes::try_from(bytes).ok()?),
            BINARY => Frame::Binary(bytes),
            _ => return None,
        };
        Some(Self { node, sequence, index, message })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_read_as_it_was_written() {
        for message in [Frame::from("grüße"), Frame::from(""), Frame::from(vec![0, 255])] {
            let envelope = Envelope { node: u64::MAX, sequence: 7, index: 1 << 40, message };
            let bytes = envelope.encode().expect("a message");
            assert_eq!(bytes.len(), 26 + envelope.message.payload().len());
            assert_eq!(Envelope::decode(bytes), Some(envelope));
        }
    }

    #[test]
    fn what_is_no_message_is_refused() {
        let message = Frame::from("x");
        let good =
            Envelope { node: 1, sequence: 2, index: 3, message }.encode().expect("a message");
        let with = |at: usize, byte| {
            let mut bytes = good.to_vec();
            bytes[at] = byte;
            Bytes::from(bytes)
        };
        for (what, bytes) in [
            ("nothing", Bytes::new()),
            ("a head cut off", good.slice(..25)),
            ("another version", with(0, 2)),
            ("another kind", with(1, 3)),
            ("bytes that are no text", with(26, 0xff)),
        ] {
            assert_eq!(Envelope::decode(bytes), None, "{what}");
        }
        let ping = Envelope { node: 1, sequence: 2, index: 3, message: Frame::Ping(Bytes::new()) };
        assert_eq!(ping.encode(), None);
    }
}
