//! Topics that several servers share, over a broker in memory that can be made to fail.

mod peer;

use std::{
    collections::HashMap,
    future::{IntoFuture as _, pending},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use bytes::Bytes;
use drivetrain_native::NativeFraming;
use drivetrain_server::{
    Backplane, BackplaneError, Cluster, ClusterStats, Lag, Messages, Session, Upgrader,
    async_trait, serve,
};
use futures_util::stream;
use peer::{Peer, TEXT, eventually};
use tokio::{net::TcpListener, sync::broadcast};

/// A broker in memory.
#[derive(Clone, Default)]
struct Broker(Arc<Inner>);

#[derive(Default)]
struct Inner {
    topics: Mutex<HashMap<String, broadcast::Sender<Bytes>>>,
    /// It is away: nobody can publish or subscribe.
    away: AtomicBool,
    /// Each message is sent so many times more.
    extra: AtomicUsize,
    /// So many messages are taken and not delivered.
    loses: AtomicUsize,
    subscriptions: AtomicUsize,
}

impl Broker {
    /// It is gone, and all subscriptions with it.
    fn stop(&self) {
        self.0.away.store(true, Ordering::SeqCst);
        self.0.topics.lock().expect("no panic").clear();
    }

    fn start(&self) {
        self.0.away.store(false, Ordering::SeqCst);
    }

    fn topic(&self, topic: &str) -> Result<broadcast::Sender<Bytes>, BackplaneError> {
        if self.0.away.load(Ordering::SeqCst) {
            return Err("the broker is away".into());
        }
        let mut topics = self.0.topics.lock().expect("no panic");
        Ok(topics.entry(topic.into()).or_insert_with(|| broadcast::channel(4096).0).clone())
    }

    /// How many servers have subscribed to the topic.
    fn servers(&self, topic: &str) -> usize {
        self.0
            .topics
            .lock()
            .expect("no panic")
            .get(topic)
            .map_or(0, broadcast::Sender::receiver_count)
    }
}

#[async_trait]
impl Backplane for Broker {
    async fn publish(&self, topic: &str, message: Bytes) -> Result<(), BackplaneError> {
        let sender = self.topic(topic)?;
        let is_lost = |left: usize| left.checked_sub(1);
        if self.0.loses.fetch_update(Ordering::SeqCst, Ordering::SeqCst, is_lost).is_ok() {
            return Ok(());
        }
        for _ in 0..=self.0.extra.load(Ordering::SeqCst) {
            sender.send(message.clone()).ok();
        }
        Ok(())
    }

    async fn subscribe(&self, topic: &str) -> Result<Messages, BackplaneError> {
        let receiver = self.topic(topic)?.subscribe();
        self.0.subscriptions.fetch_add(1, Ordering::SeqCst);
        Ok(Box::pin(stream::unfold(receiver, |mut receiver| async move {
            Some((receiver.recv().await.ok()?, receiver))
        })))
    }
}

/// A server of a cluster: its sessions are in the topic that their path names, and publish there.
struct Server {
    cluster: Cluster,
    address: std::net::SocketAddr,
}

impl Server {
    async fn start(backplane: impl Backplane) -> Self {
        let cluster = Cluster::new(backplane).expect("a runtime");
        let rooms = cluster.clone();
        let sockets = Upgrader::new(NativeFraming::new()).keep_requests();
        let service = sockets.service(move |mut session: Session| {
            let rooms = rooms.clone();
            async move {
                let topic = session.request().map(|request| request.uri().path().to_owned());
                let topic = topic.unwrap_or_default();
                let mut seat = rooms.subscribe(&topic, &session, Lag::disconnect(1 << 20));
                seat.confirmed().await;
                session.send("ready").await?;
                while let Some(frame) = session.receive().await? {
                    rooms.publish_except(&session, &topic, frame);
                }
                Ok(())
            }
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        tokio::spawn(serve(listener, service).into_future());
        Self { cluster, address }
    }

    async fn peer(&self, path: &str) -> Peer {
        let mut peer = Peer::open(self.address, path).await;
        assert_eq!(peer.text().await, "ready");
        peer
    }

    fn stats(&self) -> ClusterStats {
        self.cluster.stats()
    }
}

#[tokio::test]
async fn a_message_reaches_the_subscribers_of_every_server_once() {
    let broker = Broker::default();
    let (one, other) = (Server::start(broker.clone()).await, Server::start(broker.clone()).await);
    let (mut ann, mut bob) = (one.peer("/a").await, one.peer("/a").await);
    let (mut cid, mut dan) = (other.peer("/a").await, other.peer("/b").await);
    assert_eq!(broker.servers("/a"), 2, "one subscription per server");

    ann.send(TEXT, b"from ann").await;
    assert_eq!((bob.text().await, cid.text().await), ("from ann".into(), "from ann".into()));
    cid.send(TEXT, b"from cid").await;
    // Neither has heard itself, and neither has heard the other twice.
    assert_eq!((ann.text().await, bob.text().await), ("from cid".into(), "from cid".into()));
    let published = one.cluster.publish("/b", "to b");
    assert_eq!((published.local.queued, published.forwarded), (0, true));
    assert_eq!(dan.text().await, "to b");
    let published = other.cluster.publish("/a", Bytes::from_static(b"\0"));
    assert_eq!((published.local.queued, published.forwarded), (1, true));
    assert_eq!(ann.receive().await, (peer::BINARY, b"\0".to_vec()));

    eventually("all is sent", || (one.stats().sent, other.stats().sent) == (2, 2)).await;
    assert_eq!((one.stats().received, other.stats().received), (2, 2));
    assert_eq!((one.stats().duplicates, one.stats().missed), (0, 0));

    drop(ann);
    bob.close(1000).await;
    eventually("the topic is left", || broker.servers("/a") == 1).await;
    assert!(one.cluster.local("/a").is_none());
    let before = broker.0.subscriptions.load(Ordering::SeqCst);
    let mut eve = one.peer("/a").await;
    assert_eq!(broker.0.subscriptions.load(Ordering::SeqCst), before + 1);
    cid.send(TEXT, b"again").await;
    assert_eq!(eve.text().await, "again");
}

#[tokio::test]
async fn what_comes_twice_is_dropped_and_what_is_missing_is_counted() {
    let broker = Broker::default();
    let (one, other) = (Server::start(broker.clone()).await, Server::start(broker.clone()).await);
    let mut ann = one.peer("/a").await;

    broker.0.extra.store(2, Ordering::SeqCst);
    for i in 0..10 {
        other.cluster.publish("/a", i.to_string());
        other.cluster.publish("/b", "in another topic"); // which is no gap
    }
    for i in 0..10 {
        assert_eq!(ann.text().await, i.to_string());
    }
    eventually("all is sent", || other.stats().sent == 20).await;
    broker.0.extra.store(0, Ordering::SeqCst);
    broker.0.loses.store(3, Ordering::SeqCst);
    for text in ["lost", "lost", "lost", "last"] {
        other.cluster.publish("/a", text);
    }
    assert_eq!(ann.text().await, "last");
    let stats = one.stats();
    assert_eq!((stats.received, stats.duplicates, stats.missed), (11, 20, 3));

    broker.topic("/a").expect("it is there").send(Bytes::from_static(b"of somebody else")).ok();
    eventually("it is seen", || one.stats().malformed == 1).await;
}

#[tokio::test]
async fn a_broker_that_is_away_ends_no_session_and_is_found_again() {
    let broker = Broker::default();
    let (one, other) = (Server::start(broker.clone()).await, Server::start(broker.clone()).await);
    let (mut ann, mut bob) = (one.peer("/a").await, one.peer("/a").await);
    let mut cid = other.peer("/a").await;
    ann.send(TEXT, b"before").await;
    assert_eq!((bob.text().await, cid.text().await), ("before".into(), "before".into()));

    broker.stop();
    for _ in 0..5 {
        ann.send(TEXT, b"meanwhile").await;
        assert_eq!(bob.text().await, "meanwhile", "this server's own subscribers");
    }
    eventually("they are counted", || one.stats().unsent == 5).await;

    broker.start();
    eventually("all are back", || broker.servers("/a") == 2).await;
    assert!(one.stats().resubscribed > 0);
    ann.send(TEXT, b"after").await;
    assert_eq!((bob.text().await, cid.text().await), ("after".into(), "after".into()));
    assert_eq!(other.stats().missed, 5);
    cid.send(TEXT, b"from cid").await;
    assert_eq!((ann.text().await, bob.text().await), ("from cid".into(), "from cid".into()));
}

/// Takes the first message and never returns.
struct Stuck {
    _alive: Arc<()>,
}

#[async_trait]
impl Backplane for Stuck {
    async fn publish(&self, _: &str, _: Bytes) -> Result<(), BackplaneError> {
        pending().await
    }

    async fn subscribe(&self, _: &str) -> Result<Messages, BackplaneError> {
        pending().await
    }
}

#[tokio::test]
async fn a_broker_that_takes_nothing_costs_so_much_and_nobody_waits() {
    let alive = Arc::new(());
    let cluster = Cluster::new(Stuck { _alive: Arc::clone(&alive) }).expect("a runtime");
    let message = Bytes::from(vec![0; 1 << 20]);
    tokio::task::yield_now().await;
    cluster.publish("a", "this one is with the broker");
    tokio::task::yield_now().await;
    let forwarded = (0..10).filter(|_| cluster.publish("a", message.clone()).forwarded).count();
    assert_eq!(forwarded, 3, "of 1 MiB each, and a little more, in 4 MiB");
    assert_eq!(cluster.stats().unsent, 7);
    // Small ones have their price too.
    let forwarded = (0..100_000).filter(|_| cluster.publish("a", "").forwarded).count();
    assert!((10_000..20_000).contains(&forwarded), "{forwarded}");

    drop(cluster);
    eventually("its tasks are gone", || Arc::strong_count(&alive) == 1).await;
}

/// A payload whose drop publishes.
struct Publishes(Cluster);

impl AsRef<[u8]> for Publishes {
    fn as_ref(&self) -> &[u8] {
        &[0; 5 << 20]
    }
}

impl Drop for Publishes {
    fn drop(&mut self) {
        self.0.publish("a", "");
    }
}

#[tokio::test]
async fn a_message_that_is_refused_may_publish_when_it_is_dropped() {
    let cluster = Cluster::new(Stuck { _alive: Arc::default() }).expect("a runtime");
    let (tells, told) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let message = Bytes::from_owner(Publishes(cluster.clone()));
        tells.send(cluster.publish("a", message).forwarded).ok();
    });
    assert_eq!(told.recv_timeout(peer::LONG), Ok(false), "5 MiB never fit");
}
