#![doc = include_str!("../README.md")]

use std::{
    collections::HashMap,
    fmt,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use drivetrain_server::{Backplane, BackplaneError, Messages, async_trait};
use futures_core::Stream;
use redis::{
    Client, IntoConnectionInfo, ProtocolVersion, PushInfo, PushKind, RedisError, RedisResult,
    Value,
    aio::{ConnectionManager, ConnectionManagerConfig},
};
use tokio::sync::{mpsc, oneshot};

/// How many messages of a topic wait for the server at most; later ones are lost, which the cluster counts.
const WAITING: usize = 4096;
const LONGEST_DELAY: Duration = Duration::from_secs(5);

/// A [`Backplane`] over one connection to Redis.
///
/// The topic `a` is the channel `drivetrain:a`. The connection is opened again, and its channels subscribed to, as often as it
/// takes: a subscription does not end with the connection. Publishing waits meanwhile.
#[derive(Clone)]
pub struct Redis {
    manager: ConnectionManager,
    channels: Arc<Mutex<HashMap<String, mpsc::Sender<Bytes>>>>,
    changes: mpsc::UnboundedSender<Change>,
    prefix: String,
}

/// What one task asks Redis for in turn, so that a channel that is left and subscribed to again is subscribed to in the end.
/// There are no more of them than there are subscriptions.
enum Change {
    Subscribe(String, oneshot::Sender<RedisResult<()>>),
    Unsubscribe(String),
}

impl Redis {
    /// Connects to the server of this URL: `redis://`, or `redis+unix://` with the path of a socket.
    ///
    /// # Errors
    /// The URL is none, or the server cannot be reached.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub async fn connect(url: &str) -> Result<Self, RedisError> {
        let info = url.into_connection_info()?;
        let settings = info.redis_settings().clone().set_protocol(ProtocolVersion::RESP3);
        let client = Client::open(info.set_redis_settings(settings))?;
        let channels = Arc::new(Mutex::new(HashMap::<String, mpsc::Sender<Bytes>>::new()));
        let routes = Arc::clone(&channels);
        let config = ConnectionManagerConfig::new()
            .set_number_of_retries(usize::MAX)
            .set_max_delay(LONGEST_DELAY)
            .set_automatic_resubscription()
            .set_push_sender(move |push: PushInfo| {
                if let Some((channel, message)) = message(push)
                    && let Some(route) = lock(&routes).get(&channel)
                {
                    route.try_send(message).ok();
                }
                Ok::<(), redis::aio::SendError>(())
            });
        let manager = ConnectionManager::new_with_config(client, config).await?;
        let (changes, asked) = mpsc::unbounded_channel();
        tokio::spawn(change(manager.clone(), asked));
        Ok(Self { manager, channels, changes, prefix: "drivetrain:".into() })
    }

    /// Sets what channels begin with, so that several programs can use one Redis. Default: `drivetrain:`.
    #[must_use]
    pub fn prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = prefix.into();
        self
    }

    fn channel(&self, topic: &str) -> String {
        format!("{}{topic}", self.prefix)
    }
}

#[async_trait]
impl Backplane for Redis {
    async fn publish(&self, topic: &str, message: Bytes) -> Result<(), BackplaneError> {
        let mut publish = redis::cmd("PUBLISH");
        publish.arg(self.channel(topic)).arg(&message[..]);
        Ok(publish.exec_async(&mut self.manager.clone()).await?)
    }

    async fn subscribe(&self, topic: &str) -> Result<Messages, BackplaneError> {
        let channel = self.channel(topic);
        let (route, receiver) = mpsc::channel(WAITING);
        lock(&self.channels).insert(channel.clone(), route.clone());
        let subscription = Subscription {
            receiver,
            route,
            channel: channel.clone(),
            channels: Arc::clone(&self.channels),
            changes: self.changes.clone(),
        };
        let (done, confirmed) = oneshot::channel();
        self.changes
            .send(Change::Subscribe(channel, done))
            .map_err(|_| "the connection's task is gone")?;
        confirmed.await??;
        Ok(Box::pin(subscription))
    }
}

/// Subscribes and unsubscribes in the order in which it is asked.
async fn change(mut manager: ConnectionManager, mut asked: mpsc::UnboundedReceiver<Change>) {
    while let Some(change) = asked.recv().await {
        match change {
            Change::Subscribe(channel, done) => {
                done.send(manager.subscribe(channel).await).ok();
            }
            // What fails here is not there any more.
            Change::Unsubscribe(channel) => drop(manager.unsubscribe(channel).await),
        }
    }
}

/// The channel and the message that Redis has pushed.
fn message(push: PushInfo) -> Option<(String, Bytes)> {
    if push.kind != PushKind::Message {
        return None;
    }
    match <[Value; 2]>::try_from(push.data).ok()? {
        [Value::BulkString(channel), Value::BulkString(message)] => {
            Some((String::from_utf8(channel).ok()?, message.into()))
        }
        _ => None,
    }
}

/// The messages of a channel; dropped, it leaves the channel unless somebody else has it by then.
struct Subscription {
    receiver: mpsc::Receiver<Bytes>,
    route: mpsc::Sender<Bytes>,
    channel: String,
    channels: Arc<Mutex<HashMap<String, mpsc::Sender<Bytes>>>>,
    changes: mpsc::UnboundedSender<Change>,
}

impl Stream for Subscription {
    type Item = Bytes;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        self.receiver.poll_recv(cx)
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        let is_last = {
            let mut channels = lock(&self.channels);
            let is_mine =
                channels.get(&self.channel).is_some_and(|route| route.same_channel(&self.route));
            is_mine && channels.remove(&self.channel).is_some()
        };
        if is_last {
            self.changes.send(Change::Unsubscribe(self.channel.clone())).ok();
        }
    }
}

impl fmt::Debug for Redis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Redis").field("prefix", &self.prefix).finish_non_exhaustive()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
