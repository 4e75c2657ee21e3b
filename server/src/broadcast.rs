//! One message to many sessions.

use std::{
    collections::{HashMap, hash_map::RandomState},
    fmt,
    hash::{BuildHasher, Hash},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use drivetrain_engine::{CloseCode, CloseReason, Frame, OpCode, RawFrame};
use drivetrain_session::{Lane, Overflow, Pushed, Session, SessionHandle};

/// What to do with a subscriber that takes messages more slowly than they come.
///
/// The limit is in bytes, for what waits in the subscriber's session of one [`Broadcast`]: payloads, and 64 bytes more for
/// each message. One message is always taken. Beside it a session has at most 32 KiB that its framing has encoded already.
#[derive(Clone, Debug)]
pub struct Lag {
    limit: usize,
    policy: Policy,
}

#[derive(Clone, Debug)]
enum Policy {
    Disconnect(CloseReason),
    DropNewest,
    DropOldest,
    Latest,
}

impl Lag {
    /// Closes the session, with 1013 and the reason `lagging`: for feeds where a gap is wrong. What waits is dropped, the
    /// Close goes out at once, nothing is sent after it, and the peer has `close_timeout` to answer.
    pub fn disconnect(limit: usize) -> Self {
        let reason = CloseReason::truncated(CloseCode::TRY_AGAIN_LATER, "lagging");
        Self { limit, policy: Policy::Disconnect(reason) }
    }

    /// Closes the session with this reason, such as a code of one's own from 4000 on. A code that must not travel is
    /// replaced by 1013.
    pub fn disconnect_with(limit: usize, reason: CloseReason) -> Self {
        match reason.code().may_travel() {
            true => Self { limit, policy: Policy::Disconnect(reason) },
            false => Self::disconnect(limit),
        }
    }

    /// Does not queue the message: for telemetry.
    pub fn drop_newest(limit: usize) -> Self {
        Self { limit, policy: Policy::DropNewest }
    }

    /// Drops the oldest messages that wait for it, but none that has begun to go out: for live values.
    pub fn drop_oldest(limit: usize) -> Self {
        Self { limit, policy: Policy::DropOldest }
    }

    /// Replaces a waiting message with the same key ([`Broadcast::publish_latest`]), whether there is room or not, and else
    /// drops the oldest: for tickers and cursors.
    pub fn latest(limit: usize) -> Self {
        Self { limit, policy: Policy::Latest }
    }
}

/// What became of a message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Delivered {
    /// How many sessions have it queued or written.
    pub queued: usize,
    /// How many messages were not queued, dropped or replaced: this one, or earlier ones.
    pub dropped: usize,
    /// How many sessions were closed because they lagged.
    pub disconnected: usize,
}

/// Sends messages to many sessions, whatever their handlers do meanwhile. A cheap clone is the same broadcast.
///
/// A message is encoded once; every session's queue has a reference to it, and the session's own task writes it, together
/// with those that come right after it. No subscriber waits for another one. Messages of one publisher reach each
/// subscriber in order; those of several that publish at the same time in any order, but whole.
///
/// ```no_run
/// # async fn example(session: drivetrain_session::Session) -> drivetrain_engine::Result<()> {
/// use drivetrain_server::{Broadcast, Lag};
///
/// let news = Broadcast::new();
/// let subscription = news.subscribe(&session, Lag::disconnect(256 << 10)); // until it is dropped
/// let delivered = news.publish("hello");
/// assert_eq!(delivered.queued, 1);
/// # drop(subscription);
/// # Ok(()) }
/// ```
#[derive(Clone, Default)]
pub struct Broadcast(Arc<Hub>);

#[derive(Default)]
struct Hub {
    /// Copied where a message is on its way while it changes.
    subscribers: Mutex<Arc<Vec<Arc<Subscriber>>>>,
    published: AtomicU64,
    dropped: AtomicU64,
    disconnected: AtomicU64,
}

struct Subscriber {
    session: SessionHandle,
    lane: Lane,
    lag: Lag,
    /// It was given up: nothing is sent any more.
    gone: AtomicBool,
}

/// A session's place in a [`Broadcast`]: it ends when this is dropped, or the session ends.
#[must_use = "the subscription ends when it is dropped"]
pub struct Subscription {
    hub: Broadcast,
    subscriber: Arc<Subscriber>,
}

impl Broadcast {
    /// A broadcast without subscribers.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sends what is published from now on to this session, until the subscription is dropped. It does not keep the session
    /// alive.
    pub fn subscribe(&self, session: &Session, lag: Lag) -> Subscription {
        self.subscribe_handle(session.handle(), lag)
    }

    /// The same for a session that somebody else owns.
    pub fn subscribe_handle(&self, session: SessionHandle, lag: Lag) -> Subscription {
        let (lane, gone) = (Lane::new(), AtomicBool::new(false));
        let subscriber = Arc::new(Subscriber { session, lane, lag, gone });
        Arc::make_mut(&mut *self.lock()).push(Arc::clone(&subscriber));
        Subscription { hub: self.clone(), subscriber }
    }

    /// Sends a message, Text or Binary, to every subscriber. It never waits; control frames are sent to nobody.
    pub fn publish(&self, message: impl Into<Frame>) -> Delivered {
        self.publish_where(message.into(), None, |_| true)
    }

    /// Sends a message to every subscriber but this session, which has published it.
    pub fn publish_except(&self, session: &Session, message: impl Into<Frame>) -> Delivered {
        let except = session.handle();
        self.publish_where(message.into(), None, |other| !other.is_of(&except))
    }

    /// Sends a message that replaces the waiting one with the same key at subscribers with [`Lag::latest`]; the others get
    /// it like any.
    pub fn publish_latest(&self, key: u64, message: impl Into<Frame>) -> Delivered {
        self.publish_where(message.into(), Some(key), |_| true)
    }

    /// How many subscribers there are.
    pub fn len(&self) -> usize {
        self.lock().len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.lock().is_empty()
    }

    /// How many messages were published so far.
    pub fn published(&self) -> u64 {
        self.0.published.load(Ordering::Relaxed)
    }

    /// How many messages subscribers have not got because they lagged.
    pub fn dropped(&self) -> u64 {
        self.0.dropped.load(Ordering::Relaxed)
    }

    /// How many subscribers were closed because they lagged.
    pub fn disconnected(&self) -> u64 {
        self.0.disconnected.load(Ordering::Relaxed)
    }

    fn publish_where(
        &self,
        frame: Frame,
        key: Option<u64>,
        to: impl Fn(&SessionHandle) -> bool,
    ) -> Delivered {
        let message = match frame {
            Frame::Text(text) => RawFrame::new(OpCode::Text, text),
            Frame::Binary(bytes) => RawFrame::new(OpCode::Binary, bytes),
            _ => return Delivered::default(),
        };
        self.0.published.fetch_add(1, Ordering::Relaxed);
        let subscribers = Arc::clone(&*self.lock());
        let mut delivered = Delivered::default();
        for subscriber in subscribers.iter().filter(|subscriber| to(&subscriber.session)) {
            subscriber.take(&message, key, &mut delivered);
        }
        self.0.dropped.fetch_add(delivered.dropped as u64, Ordering::Relaxed);
        self.0.disconnected.fetch_add(delivered.disconnected as u64, Ordering::Relaxed);
        delivered
    }

    fn remove(&self, subscriber: &Arc<Subscriber>) {
        let before = {
            let mut subscribers = self.lock();
            let at = subscribers.iter().position(|other| Arc::ptr_eq(other, subscriber));
            at.map(|at| Arc::make_mut(&mut *subscribers).swap_remove(at))
        };
        drop(before);
    }

    fn lock(&self) -> MutexGuard<'_, Arc<Vec<Arc<Subscriber>>>> {
        self.0.subscribers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Subscriber {
    fn take(&self, message: &RawFrame, key: Option<u64>, delivered: &mut Delivered) {
        if self.gone.load(Ordering::Acquire) {
            return;
        }
        let Lag { limit, policy } = &self.lag;
        let overflow = match (policy, key) {
            (Policy::Disconnect(_) | Policy::DropNewest, _) => Overflow::Refuse,
            (Policy::Latest, Some(key)) => Overflow::Replace(key),
            (Policy::DropOldest | Policy::Latest, _) => Overflow::DropOldest,
        };
        match (self.session.push(message, &self.lane, *limit, overflow), policy) {
            (Pushed::Queued { dropped }, _) => {
                delivered.queued += 1;
                delivered.dropped += dropped;
            }
            (Pushed::Full, Policy::Disconnect(reason)) => {
                delivered.dropped += 1;
                if !self.gone.swap(true, Ordering::AcqRel) {
                    delivered.disconnected += 1;
                    self.session.disconnect_lagging(reason);
                }
            }
            (Pushed::Full | Pushed::TooBig, _) => delivered.dropped += 1,
            (Pushed::Closed, _) => {}
        }
    }
}

impl Subscription {
    /// The bytes that wait in the session: see [`Lag`].
    pub fn waiting(&self) -> usize {
        self.subscriber.lane.waiting()
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.hub.remove(&self.subscriber);
    }
}

impl fmt::Debug for Broadcast {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Broadcast")
            .field("len", &self.len())
            .field("published", &self.published())
            .field("dropped", &self.dropped())
            .field("disconnected", &self.disconnected())
            .finish()
    }
}

impl fmt::Debug for Subscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscription").field("waiting", &self.waiting()).finish_non_exhaustive()
    }
}

/// [`Broadcast`]s by topic, such as the rooms of a chat. A topic is there as long as it has subscribers. A cheap clone is the
/// same topics.
///
/// ```no_run
/// # async fn example(session: drivetrain_session::Session) {
/// use drivetrain_server::{Lag, Topics};
///
/// let rooms: Topics<String> = Topics::new();
/// let subscription = rooms.subscribe("rust".into(), &session, Lag::disconnect(256 << 10));
/// rooms.publish("rust", "hello");
/// # drop(subscription);
/// # }
/// ```
///
/// `Hash` and `Eq` of a topic run without a lock: they may use the same `Topics`, and a panic in one of them reaches the
/// caller and changes nothing.
pub struct Topics<K>(Arc<Map<K>>);

/// The map, by the topics' hashes, whose user code has run before it is locked.
struct Map<K> {
    hashes: RandomState,
    rooms: Mutex<HashMap<u64, Bucket<K>>>,
}

/// The topics of one hash. A change replaces the bucket, so that a snapshot tells whether there was one.
type Bucket<K> = Arc<Vec<Arc<Room<K>>>>;

/// A topic with subscribers.
struct Room<K> {
    topic: K,
    hash: u64,
    broadcast: Broadcast,
}

/// A session's place in a topic: it ends when this is dropped, or the session ends.
#[must_use = "the subscription ends when it is dropped"]
pub struct TopicSubscription<K> {
    topics: Topics<K>,
    room: Arc<Room<K>>,
    /// `None` while it is dropped.
    subscription: Option<Subscription>,
}

impl<K: Eq + Hash> Topics<K> {
    /// No topic.
    pub fn new() -> Self {
        Self(Arc::new(Map { hashes: RandomState::new(), rooms: Mutex::default() }))
    }

    /// Sends what is published in the topic from now on to this session, until the subscription is dropped.
    pub fn subscribe(&self, topic: K, session: &Session, lag: Lag) -> TopicSubscription<K> {
        let hash = self.0.hashes.hash_one(&topic);
        let new = Arc::new(Room { topic, hash, broadcast: Broadcast::new() });
        loop {
            let seen = self.bucket(hash);
            let mut known = seen.iter().flat_map(|bucket| bucket.iter());
            let found = known.find(|room| room.topic == new.topic);
            let room = Arc::clone(found.unwrap_or(&new));
            let mut rooms = self.lock();
            // What was compared may have changed meanwhile.
            if rooms.get(&hash).map(Arc::as_ptr) != seen.as_ref().map(Arc::as_ptr) {
                continue;
            }
            if found.is_none() {
                Arc::make_mut(rooms.entry(hash).or_default()).push(Arc::clone(&room));
            }
            // Under the lock, so that the topic does not vanish meanwhile.
            let subscription = Some(room.broadcast.subscribe(session, lag));
            drop(rooms);
            return TopicSubscription { topics: self.clone(), room, subscription };
        }
    }

    /// The topic's broadcast, if it has subscribers.
    pub fn get<Q>(&self, topic: &Q) -> Option<Broadcast>
    where
        K: std::borrow::Borrow<Q>,
        Q: Eq + Hash + ?Sized,
    {
        let bucket = self.bucket(self.0.hashes.hash_one(topic))?;
        let room = bucket.iter().find(|room| room.topic.borrow() == topic)?;
        Some(room.broadcast.clone())
    }

    /// Sends a message to the subscribers of the topic: see [`Broadcast::publish`].
    pub fn publish<Q>(&self, topic: &Q, message: impl Into<Frame>) -> Delivered
    where
        K: std::borrow::Borrow<Q>,
        Q: Eq + Hash + ?Sized,
    {
        self.get(topic).map(|topic| topic.publish(message)).unwrap_or_default()
    }
}

impl<K> Topics<K> {
    /// How many topics have subscribers.
    pub fn len(&self) -> usize {
        self.lock().values().map(|bucket| bucket.len()).sum()
    }

    /// Whether none has.
    pub fn is_empty(&self) -> bool {
        self.lock().is_empty()
    }

    fn bucket(&self, hash: u64) -> Option<Bucket<K>> {
        self.lock().get(&hash).cloned()
    }

    /// Removes the topic if it has no subscribers.
    fn tidy(&self, room: &Arc<Room<K>>) {
        let before = {
            let mut rooms = self.lock();
            let bucket = rooms.get(&room.hash).filter(|_| room.broadcast.is_empty());
            let Some(bucket) = bucket else { return };
            let others = bucket.iter().filter(|other| !Arc::ptr_eq(other, room)).cloned();
            match others.collect::<Vec<_>>() {
                others if others.is_empty() => rooms.remove(&room.hash),
                others => rooms.insert(room.hash, Arc::new(others)),
            }
        };
        drop(before);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u64, Bucket<K>>> {
        self.0.rooms.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K> TopicSubscription<K> {
    /// The bytes that wait in the session: see [`Lag`].
    pub fn waiting(&self) -> usize {
        self.subscription.as_ref().map_or(0, Subscription::waiting)
    }
}

impl<K> Drop for TopicSubscription<K> {
    fn drop(&mut self) {
        // Before the lock: payloads that wait may run user code when they are dropped.
        drop(self.subscription.take());
        self.topics.tidy(&self.room);
    }
}

impl<K> Clone for Topics<K> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<K: Eq + Hash> Default for Topics<K> {
    fn default() -> Self {
        Self::new()
    }
}

impl<K> fmt::Debug for Topics<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Topics").field("len", &self.len()).finish()
    }
}

impl<K> fmt::Debug for TopicSubscription<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TopicSubscription")
            .field("subscription", &self.subscription)
            .finish_non_exhaustive()
    }
}
