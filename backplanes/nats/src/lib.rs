#![doc = include_str!("../README.md")]

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use async_nats::{Client, Subscriber};
use bytes::Bytes;
use drivetrain_server::{Backplane, BackplaneError, Messages, async_trait};
use futures_core::Stream;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

/// A [`Backplane`] over a connection to NATS.
///
/// The topic `a b` is the subject `drivetrain._a%20b`. The client reconnects and subscribes again by itself: a subscription
/// does not end with the connection. While the server is away, publishing waits.
#[derive(Clone, Debug)]
pub struct Nats {
    client: Client,
    prefix: String,
}

impl Nats {
    /// Over this client, whose options (credentials, TLS, the messages that a subscription holds) are its own.
    pub fn new(client: Client) -> Self {
        Self { client, prefix: "drivetrain".into() }
    }

    /// Sets what subjects begin with, so that several programs can use one NATS. Default: `drivetrain`.
    #[must_use]
    pub fn prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = prefix.into();
        self
    }

    /// A token has neither dots, wildcards nor spaces, and is not empty.
    fn subject(&self, topic: &str) -> String {
        format!("{}._{}", self.prefix, utf8_percent_encode(topic, NON_ALPHANUMERIC))
    }
}

#[async_trait]
impl Backplane for Nats {
    async fn publish(&self, topic: &str, message: Bytes) -> Result<(), BackplaneError> {
        Ok(self.client.publish(self.subject(topic), message).await?)
    }

    async fn subscribe(&self, topic: &str) -> Result<Messages, BackplaneError> {
        let subscriber = self.client.subscribe(self.subject(topic)).await?;
        // The server has the subscription when it has answered the ping of a flush.
        self.client.flush().await?;
        Ok(Box::pin(Payloads(subscriber)))
    }
}

struct Payloads(Subscriber);

impl Stream for Payloads {
    type Item = Bytes;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        let message = ready!(Pin::new(&mut self.0).poll_next(cx));
        Poll::Ready(message.map(|message| message.payload))
    }
}
