//! Topics that several servers share.

use std::{
    collections::{HashMap, VecDeque},
    fmt,
    future::{Future, poll_fn},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use drivetrain_connect::Tokio;
use drivetrain_engine::{Frame, Result, Runtime};
use drivetrain_session::Session;
use tokio::sync::{Notify, oneshot, watch};

use crate::{
    backplane::{Backplane, BackplaneError, Envelope},
    broadcast::{Broadcast, Delivered, Lag, TopicSubscription, Topics},
};

/// What waits for the broker at most, in bytes.
const QUEUE: usize = 4 << 20;
/// What a message that waits takes beside its bytes.
const OVERHEAD: usize = 64;
/// The delay before a topic is subscribed to again: doubled each time, half of it random.
const FIRST_DELAY: Duration = Duration::from_millis(100);
const LONGEST_DELAY: Duration = Duration::from_secs(5);
/// Of so many topics, and servers in a topic, the last number is known. Then all are forgotten, and a gap is not seen.
const REMEMBERED: usize = 1 << 16;

/// [`Topics`] that several servers share, over a message broker: the rooms of a chat whose members are on many machines.
///
/// A message goes to the server's own subscribers first and at once, and then to the broker. A server has one subscription
/// per topic at the broker, while it has subscribers of its own. Without the broker the sessions go on, each server for
/// itself: up to 4 MiB of messages wait, later ones are not sent, and the topics are subscribed to again when it is back.
///
/// A message reaches another server once or not at all. What a broker delivers twice is dropped, and what does not arrive is
/// counted: [`stats`](Self::stats). Messages of one server come in order; those of several servers in any order. A cheap
/// clone is the same cluster.
///
/// ```no_run
/// # async fn example(session: drivetrain_session::Session, backplane: impl drivetrain_server::Backplane)
/// # -> drivetrain_engine::Result<()> {
/// use drivetrain_server::{Cluster, Lag};
///
/// let rooms = Cluster::new(backplane)?; // such as `drivetrain_nats::Nats`
/// let seat = rooms.subscribe("rust", &session, Lag::disconnect(256 << 10)); // until it is dropped
/// rooms.publish("rust", "hello");
/// # drop(seat);
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Cluster(Arc<Node>);

struct Node {
    shared: Arc<Shared>,
    joined: Mutex<HashMap<Arc<str>, Joined>>,
    /// Dropped, it ends the task that sends.
    _sends: oneshot::Sender<()>,
}

/// What the tasks have of it, so that they do not keep it alive.
struct Shared {
    id: u64,
    backplane: Box<dyn Backplane>,
    runtime: Arc<dyn Runtime>,
    topics: Topics<Arc<str>>,
    outgoing: Mutex<Outgoing>,
    queued: Notify,
    counters: Counters,
}

#[derive(Default)]
struct Outgoing {
    sequence: u64,
    indices: HashMap<Arc<str>, u64>,
    queue: VecDeque<(Arc<str>, Envelope)>,
    bytes: usize,
}

/// The subscription to a topic at the broker.
struct Joined {
    subscribers: usize,
    confirmed: watch::Receiver<bool>,
    /// Dropped, it ends the task.
    _listens: oneshot::Sender<()>,
}

#[derive(Default)]
struct Counters {
    sent: AtomicU64,
    unsent: AtomicU64,
    received: AtomicU64,
    duplicates: AtomicU64,
    missed: AtomicU64,
    malformed: AtomicU64,
    resubscribed: AtomicU64,
}

/// What became of a message that was published in a [`Cluster`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Published {
    /// At the subscribers of this server.
    pub local: Delivered,
    /// Whether it waits for the broker or was sent there: not if more than 4 MiB would wait with it, and no control frame.
    pub forwarded: bool,
}

/// What a [`Cluster`] has counted on this server since it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ClusterStats {
    /// Messages that the broker has taken.
    pub sent: u64,
    /// Messages that the broker has not taken: too many waited, or the adapter gave an error.
    pub unsent: u64,
    /// Messages of other servers that were given to subscribers.
    pub received: u64,
    /// Messages that came again, and were dropped.
    pub duplicates: u64,
    /// Messages of other servers that never came, as the next one of the same server and topic shows.
    pub missed: u64,
    /// What came and was no message of a cluster.
    pub malformed: u64,
    /// How many times a topic was subscribed to again.
    pub resubscribed: u64,
}

/// A session's place in a topic of a [`Cluster`]: it ends when this is dropped, or the session ends.
#[must_use = "the subscription ends when it is dropped"]
pub struct ClusterSubscription {
    cluster: Cluster,
    topic: Arc<str>,
    confirmed: watch::Receiver<bool>,
    /// `None` while it is dropped.
    local: Option<TopicSubscription<Arc<str>>>,
}

impl Cluster {
    /// A cluster without topics, whose tasks run on the current tokio runtime.
    ///
    /// # Errors
    /// [`Other`](drivetrain_engine::ErrorKind::Other) outside a tokio runtime, and in one without timers.
    pub fn new(backplane: impl Backplane) -> Result<Self> {
        Ok(Self::on(Tokio::current("cluster")?, backplane))
    }

    /// A cluster without topics, whose tasks run on this runtime.
    pub fn on(runtime: Arc<dyn Runtime>, backplane: impl Backplane) -> Self {
        let shared = Arc::new(Shared {
            id: u64::from(runtime.random()) << 32 | u64::from(runtime.random()),
            backplane: Box::new(backplane),
            runtime,
            topics: Topics::new(),
            outgoing: Mutex::default(),
            queued: Notify::new(),
            counters: Counters::default(),
        });
        let (sends, dropped) = oneshot::channel();
        shared.spawn_until(dropped, send(Arc::clone(&shared)));
        Self(Arc::new(Node { shared, joined: Mutex::default(), _sends: sends }))
    }

    /// Sends what is published in the topic from now on, on any server, to this session, until the subscription is dropped.
    ///
    /// Messages of other servers come from the moment when the broker has confirmed the topic:
    /// [`ClusterSubscription::confirmed`].
    pub fn subscribe(&self, topic: &str, session: &Session, lag: Lag) -> ClusterSubscription {
        let topic: Arc<str> = topic.into();
        let local = self.0.shared.topics.subscribe(Arc::clone(&topic), session, lag);
        let (listens, left) = oneshot::channel();
        let (confirms, confirmed) = watch::channel(false);
        let new = Joined { subscribers: 0, confirmed, _listens: listens };
        let (is_new, confirmed) = {
            let mut joined = lock(&self.0.joined);
            let entry = joined.entry(Arc::clone(&topic)).or_insert(new);
            entry.subscribers += 1;
            (entry.subscribers == 1, entry.confirmed.clone())
        };
        if is_new {
            let shared = &self.0.shared;
            shared.spawn_until(left, listen(Arc::clone(shared), Arc::clone(&topic), confirms));
        }
        ClusterSubscription { cluster: self.clone(), topic, confirmed, local: Some(local) }
    }

    /// Sends a message, Text or Binary, to the subscribers of the topic on every server. It never waits.
    pub fn publish(&self, topic: &str, message: impl Into<Frame>) -> Published {
        self.publish_with(topic, message.into(), Broadcast::publish)
    }

    /// Sends a message to every subscriber but this session, which has published it.
    pub fn publish_except(
        &self,
        session: &Session,
        topic: &str,
        message: impl Into<Frame>,
    ) -> Published {
        self.publish_with(topic, message.into(), |local, message| {
            local.publish_except(session, message)
        })
    }

    /// The subscribers of the topic on this server, if there are some.
    pub fn local(&self, topic: &str) -> Option<Broadcast> {
        self.0.shared.topics.get(topic)
    }

    /// The counts of this server.
    pub fn stats(&self) -> ClusterStats {
        let counters = &self.0.shared.counters;
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        ClusterStats {
            sent: read(&counters.sent),
            unsent: read(&counters.unsent),
            received: read(&counters.received),
            duplicates: read(&counters.duplicates),
            missed: read(&counters.missed),
            malformed: read(&counters.malformed),
            resubscribed: read(&counters.resubscribed),
        }
    }

    fn publish_with(
        &self,
        topic: &str,
        message: Frame,
        publish: impl FnOnce(&Broadcast, Frame) -> Delivered,
    ) -> Published {
        let local = self.local(topic).map(|local| publish(&local, message.clone()));
        Published {
            local: local.unwrap_or_default(),
            forwarded: self.0.shared.forward(topic, message),
        }
    }
}

impl Shared {
    /// Runs this until the sender is dropped.
    fn spawn_until(
        &self,
        dropped: oneshot::Receiver<()>,
        task: impl Future<Output = ()> + Send + 'static,
    ) {
        self.runtime.spawn(Box::pin(async move {
            tokio::select! {
                _ = dropped => {}
                () = task => {}
            }
        }));
    }

    /// Queues a message for the broker.
    fn forward(&self, topic: &str, message: Frame) -> bool {
        if matches!(message, Frame::Ping(_) | Frame::Pong(_) | Frame::Close(_)) {
            return false;
        }
        // One that is refused is dropped without the lock: its payload may run user code then.
        let refused = lock(&self.outgoing).push(self.id, topic, message).err();
        let forwarded = refused.is_none();
        match forwarded {
            true => self.queued.notify_one(),
            false => self.unsent(topic, "too much waits for the broker"),
        }
        forwarded
    }

    fn unsent(&self, topic: &str, error: impl fmt::Display) {
        if self.counters.unsent.fetch_add(1, Ordering::Relaxed) == 0 {
            tracing::warn!(target: "drivetrain::server", topic, %error, "message not sent to other servers");
        }
    }

    /// A message of the broker's.
    fn receive(&self, topic: &str, bytes: Bytes, last: &mut HashMap<u64, Seen>) {
        let counters = &self.counters;
        let Some(envelope) = Envelope::decode(bytes) else {
            counters.malformed.fetch_add(1, Ordering::Relaxed);
            tracing::debug!(target: "drivetrain::server", topic, "what came is no message of a cluster");
            return;
        };
        if envelope.node == self.id {
            return;
        }
        if last.len() >= REMEMBERED && !last.contains_key(&envelope.node) {
            last.clear();
        }
        let seen = Seen { sequence: envelope.sequence, index: envelope.index };
        if let Some(before) = last.get(&envelope.node) {
            if before.sequence >= seen.sequence {
                counters.duplicates.fetch_add(1, Ordering::Relaxed);
                return;
            }
            // An index that is smaller was begun anew.
            let missed = seen.index.saturating_sub(before.index).saturating_sub(1);
            counters.missed.fetch_add(missed, Ordering::Relaxed);
        }
        last.insert(envelope.node, seen);
        counters.received.fetch_add(1, Ordering::Relaxed);
        self.topics.publish(topic, envelope.message);
    }

    async fn sleep(&self, duration: Duration) {
        let until = self.runtime.now() + duration;
        let mut timer = self.runtime.timer(until);
        poll_fn(|cx| timer.poll(cx)).await;
    }
}

impl Outgoing {
    /// Gives the message back if there is no room. The number is taken in any case, so that the others see what they miss.
    fn push(&mut self, node: u64, topic: &str, message: Frame) -> std::result::Result<(), Frame> {
        self.sequence += 1;
        let (topic, index) = match self.indices.get_key_value(topic) {
            Some((topic, index)) => (Arc::clone(topic), index + 1),
            None => (topic.into(), 1),
        };
        if index == 1 && self.indices.len() >= REMEMBERED {
            self.indices.clear();
        }
        self.indices.insert(Arc::clone(&topic), index);
        let envelope = Envelope { node, sequence: self.sequence, index, message };
        let bytes = self.bytes.saturating_add(cost(&envelope));
        if bytes > QUEUE {
            return Err(envelope.message);
        }
        self.bytes = bytes;
        self.queue.push_back((topic, envelope));
        Ok(())
    }

    fn pop(&mut self) -> Option<(Arc<str>, Envelope)> {
        let (topic, envelope) = self.queue.pop_front()?;
        self.bytes = self.bytes.saturating_sub(cost(&envelope));
        Some((topic, envelope))
    }
}

/// What a message takes in the queue.
fn cost(envelope: &Envelope) -> usize {
    OVERHEAD + envelope.message.payload().len()
}

/// The last message of a server in a topic.
struct Seen {
    sequence: u64,
    index: u64,
}

/// Gives the broker what waits.
async fn send(shared: Arc<Shared>) {
    loop {
        let next = lock(&shared.outgoing).pop();
        let Some((topic, envelope)) = next else {
            shared.queued.notified().await;
            continue;
        };
        // Copied here, where no publisher waits for it.
        let Some(bytes) = envelope.encode() else { continue };
        match shared.backplane.publish(&topic, bytes).await {
            Ok(()) => drop(shared.counters.sent.fetch_add(1, Ordering::Relaxed)),
            Err(error) => shared.unsent(&topic, error),
        }
    }
}

/// Gives the topic's subscribers what other servers publish.
async fn listen(shared: Arc<Shared>, topic: Arc<str>, confirms: watch::Sender<bool>) {
    let mut last = HashMap::new();
    let mut delay = FIRST_DELAY;
    loop {
        let ended: BackplaneError = match shared.backplane.subscribe(&topic).await {
            Ok(mut messages) => {
                confirms.send_replace(true);
                delay = FIRST_DELAY;
                while let Some(bytes) = poll_fn(|cx| messages.as_mut().poll_next(cx)).await {
                    shared.receive(&topic, bytes, &mut last);
                }
                confirms.send_replace(false);
                "the subscription ended".into()
            }
            Err(error) => error,
        };
        tracing::warn!(target: "drivetrain::server", topic = &*topic, error = %ended, "topic without other servers");
        // Between half and all of it, so that the servers do not come at the same time.
        let part = 0.5 + f64::from(shared.runtime.random()) / f64::from(u32::MAX) / 2.0;
        shared.sleep(delay.mul_f64(part)).await;
        delay = (delay * 2).min(LONGEST_DELAY);
        shared.counters.resubscribed.fetch_add(1, Ordering::Relaxed);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl ClusterSubscription {
    /// Waits until the broker has confirmed the topic: from then on no message of another server is missed while the broker
    /// is there. At once if another subscriber has waited for it.
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub async fn confirmed(&mut self) {
        // An error would say that the task is gone, which lives as long as the subscription.
        self.confirmed.wait_for(|confirmed| *confirmed).await.ok();
    }

    /// The bytes that wait in the session: see [`Lag`].
    pub fn waiting(&self) -> usize {
        self.local.as_ref().map_or(0, TopicSubscription::waiting)
    }
}

impl Drop for ClusterSubscription {
    fn drop(&mut self) {
        drop(self.local.take());
        let left = {
            let mut joined = lock(&self.cluster.0.joined);
            let entry = joined.get_mut(&self.topic);
            let is_last = entry.is_some_and(|entry| {
                entry.subscribers -= 1;
                entry.subscribers == 0
            });
            is_last.then(|| joined.remove(&self.topic))
        };
        // It wakes the task.
        drop(left);
    }
}

impl fmt::Debug for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cluster")
            .field("topics", &self.0.shared.topics.len())
            .field("stats", &self.stats())
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for ClusterSubscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClusterSubscription")
            .field("waiting", &self.waiting())
            .finish_non_exhaustive()
    }
}
