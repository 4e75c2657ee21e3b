//! A TCP proxy that damages what goes through it, as its seed says.

use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

const STACK: usize = 256 * 1024;
const CHUNK: usize = 16 * 1024;
/// Small enough that a stall soon keeps the sender from writing; two of loopback's largest segments.
const SOCKET_BUFFER: usize = 128 * 1024;
/// How often a thread that waits looks whether its connection is over.
const TICK: Duration = Duration::from_millis(20);

/// A proxy on a free port of 127.0.0.1, on plain threads, that damages connections at random.
///
/// Delays, splits and stalls come again and again, at random points of either direction; a stream that
/// meets only these arrives whole. Half of the connections also have a point, if they get that far, where
/// one of the other [`Fault`]s ends one direction or both.
///
/// What happens to the n-th connection, and at which byte of which direction, depends on the seed and n
/// alone. A real end or reset of one side is passed on to the other. Dropping the proxy resets all
/// connections and joins its threads.
#[derive(Debug)]
pub struct FaultProxy {
    addr: SocketAddr,
    shared: Arc<Shared>,
    acceptor: Option<JoinHandle<()>>,
}

/// What a [`FaultProxy`] does to a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// A pause of at most 5 ms.
    Delay,
    /// A stretch written in chunks of at most 16 bytes.
    Split,
    /// A pause of 50 to 800 ms.
    Stall,
    /// FIN in one direction, whose rest is discarded, while the other continues.
    HalfClose,
    /// One direction is silently discarded from there on.
    Swallow,
    /// FIN both ways.
    Cut,
    /// RST both ways.
    Reset,
}

impl Fault {
    /// All of them.
    pub const ALL: [Self; 7] = {
        use Fault::*;
        [Delay, Split, Stall, HalfClose, Swallow, Cut, Reset]
    };
}

impl FaultProxy {
    /// Starts a proxy for the server at `upstream`. Panics if no port can be bound.
    pub fn start(upstream: SocketAddr, seed: u64) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port on 127.0.0.1");
        let addr = listener.local_addr().expect("a bound listener has an address");
        let shared = Arc::new(Shared::default());
        let accepting = Arc::clone(&shared);
        let acceptor = thread::spawn(move || accept(&listener, upstream, seed, &accepting));
        Self { addr, shared, acceptor: Some(acceptor) }
    }

    /// `ws://127.0.0.1:port`, followed by `path`, which starts with `/`.
    pub fn ws_url(&self, path: &str) -> String {
        format!("ws://{}{path}", self.addr)
    }

    /// Connections that have not ended yet.
    pub fn open(&self) -> usize {
        self.shared.open.load(Ordering::SeqCst)
    }

    /// Connections accepted so far.
    pub fn connections(&self) -> u64 {
        self.shared.accepted.load(Ordering::SeqCst)
    }

    /// How often it has done that so far.
    pub fn applied(&self, fault: Fault) -> u64 {
        self.shared.applied[fault as usize].load(Ordering::SeqCst)
    }
}

impl Drop for FaultProxy {
    fn drop(&mut self) {
        self.shared.stopping.store(true, Ordering::SeqCst);
        // `accept` has no timeout: a connection wakes it. If this fails, the listener has failed too.
        let woken = TcpStream::connect_timeout(&self.addr, Duration::from_secs(1));
        if let (Some(acceptor), true) = (self.acceptor.take(), woken.is_ok()) {
            // A panic in it was printed there; drop must not panic again.
            let _ = acceptor.join();
        }
    }
}

/// SplitMix64: a small generator of which each seed gives another sequence, for tests to be repeatable.
#[derive(Clone, Debug)]
pub struct SplitMix64(u64);

impl SplitMix64 {
    /// The `stream`-th sequence of this seed.
    pub fn new(seed: u64, stream: u64) -> Self {
        let start = Self(seed).next_u64();
        Self(Self(start ^ stream.rotate_left(32)).next_u64())
    }

    /// The next 64 bits.
    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^ (bits >> 31)
    }

    /// A number of `low..high`. Panics if there is none.
    pub fn range(&mut self, low: u64, high: u64) -> u64 {
        low + self.next_u64() % (high - low)
    }

    /// True once in `n` times.
    pub fn one_in(&mut self, n: u64) -> bool {
        self.next_u64() % n == 0
    }

    /// A number of `2^low..2^high`, each size as likely as the others.
    pub fn magnitude(&mut self, low: u32, high: u32) -> u64 {
        let floor = 1 << self.range(low.into(), high.into());
        self.range(floor, floor * 2)
    }
}

#[derive(Debug, Default)]
struct Shared {
    stopping: AtomicBool,
    accepted: AtomicU64,
    open: AtomicUsize,
    applied: [AtomicU64; 7],
}

fn accept(listener: &TcpListener, upstream: SocketAddr, seed: u64, shared: &Arc<Shared>) {
    // Accepted sockets inherit it. Where it is not available, stalls are only softer.
    let _ = socket2::SockRef::from(listener).set_recv_buffer_size(SOCKET_BUFFER);
    let mut connections: Vec<Weak<Link>> = Vec::new();
    thread::scope(|scope| {
        while let Ok((client, _)) = listener.accept() {
            if shared.stopping.load(Ordering::SeqCst) {
                break;
            }
            let number = shared.accepted.fetch_add(1, Ordering::SeqCst);
            let Ok(link) = Link::open(client, upstream, shared) else { continue };
            let mut rng = SplitMix64::new(seed, number * 3);
            let how = [Fault::HalfClose, Fault::Swallow, Fault::Cut, Fault::Reset];
            let end = (rng.magnitude(7, 20), how[rng.range(0, 4) as usize]);
            let end = Some(end).filter(|_| rng.one_in(2));
            let outward = rng.one_in(2);
            connections.retain(|link| link.strong_count() > 0);
            connections.push(Arc::downgrade(&link));
            for out in [true, false] {
                let link = Arc::clone(&link);
                let rng = SplitMix64::new(seed, number * 3 + 1 + u64::from(out));
                let script = Script { rng, end: end.filter(|_| out == outward) };
                let thread = thread::Builder::new().name("proxy-pipe".into()).stack_size(STACK);
                let carry = move || {
                    let ways = [(&link.server, &link.client), (&link.client, &link.server)];
                    let (from, to) = ways[usize::from(out)];
                    if link.copy(from, to, script).is_err() {
                        link.end(true); // an error is the end of both directions
                    }
                };
                thread.spawn_scoped(scope, carry).expect("a thread for a direction");
            }
        }
        connections.iter().filter_map(Weak::upgrade).for_each(|link| link.end(true));
    });
}

/// One connection: two sockets, and the two threads that hold it.
struct Link {
    client: TcpStream,
    server: TcpStream,
    over: AtomicBool,
    shared: Arc<Shared>,
}

impl Link {
    fn open(
        client: TcpStream,
        upstream: SocketAddr,
        shared: &Arc<Shared>,
    ) -> io::Result<Arc<Self>> {
        let server = TcpStream::connect(upstream)?;
        for socket in [&client, &server] {
            socket.set_nodelay(true)?;
            socket.set_write_timeout(Some(TICK))?;
            socket2::SockRef::from(socket).set_send_buffer_size(SOCKET_BUFFER)?;
        }
        shared.open.fetch_add(1, Ordering::SeqCst);
        Ok(Arc::new(Self { client, server, over: AtomicBool::new(false), shared: shared.clone() }))
    }

    /// Copies one direction until its end.
    fn copy(&self, mut from: &TcpStream, to: &TcpStream, mut script: Script) -> io::Result<()> {
        let mut chunk = vec![0; CHUNK];
        let (mut at, mut discards) = (0, false);
        let (mut point, mut fault) = script.next(0);
        loop {
            let read = match from.read(&mut chunk) {
                Ok(0) => return to.shutdown(Shutdown::Write).or(Ok(())),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                read => read?,
            };
            let mut bytes = &chunk[..read];
            while !discards && !bytes.is_empty() {
                let before = bytes.len().min(point.saturating_sub(at) as usize);
                self.write(to, &bytes[..before])?;
                bytes = &bytes[before..];
                at += before as u64;
                if at < point {
                    break;
                }
                self.shared.applied[fault as usize].fetch_add(1, Ordering::SeqCst);
                match fault {
                    Fault::Delay => self.pause(Duration::from_millis(script.rng.range(0, 6))),
                    Fault::Stall => self.pause(Duration::from_millis(script.rng.range(50, 800))),
                    Fault::Split => {
                        let stretch = bytes.len().min(script.rng.range(1, 300) as usize);
                        for chunk in bytes[..stretch].chunks(script.rng.range(1, 17) as usize) {
                            self.write(to, chunk)?;
                        }
                        (bytes, at) = (&bytes[stretch..], at + stretch as u64);
                    }
                    Fault::HalfClose => {
                        to.shutdown(Shutdown::Write)?;
                        discards = true;
                    }
                    Fault::Swallow => discards = true,
                    Fault::Cut => {
                        self.end(false);
                        return Ok(());
                    }
                    Fault::Reset => return Err(io::ErrorKind::ConnectionReset.into()),
                }
                (point, fault) = script.next(point);
            }
        }
    }

    fn write(&self, mut to: &TcpStream, mut bytes: &[u8]) -> io::Result<()> {
        use io::ErrorKind::{Interrupted, TimedOut, WouldBlock};
        while !bytes.is_empty() {
            if self.over.load(Ordering::SeqCst) {
                return Err(io::ErrorKind::ConnectionAborted.into());
            }
            match to.write(bytes) {
                Ok(written) => bytes = &bytes[written..],
                Err(error) if matches!(error.kind(), Interrupted | TimedOut | WouldBlock) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn pause(&self, time: Duration) {
        let end = Instant::now() + time;
        while !self.over.load(Ordering::SeqCst) {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            thread::sleep(left.min(TICK));
        }
    }

    /// Ends both ways, with FIN or with RST. That goes out when both threads have let go of the sockets:
    /// a shutdown for reading sends nothing, but wakes them.
    fn end(&self, reset: bool) {
        if !self.over.swap(true, Ordering::SeqCst) {
            for socket in [&self.client, &self.server] {
                // It fails where the socket is gone already.
                let _ = if reset {
                    let lingered = socket2::SockRef::from(socket).set_linger(Some(Duration::ZERO));
                    lingered.and(socket.shutdown(Shutdown::Read))
                } else {
                    socket.shutdown(Shutdown::Both)
                };
            }
        }
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.shared.open.fetch_sub(1, Ordering::SeqCst);
    }
}

/// What happens to one direction.
struct Script {
    rng: SplitMix64,
    /// The byte before which it ends, and how.
    end: Option<(u64, Fault)>,
}

impl Script {
    /// The fault after the one at `last`, and the byte before which it comes.
    fn next(&mut self, last: u64) -> (u64, Fault) {
        let point = last + self.rng.magnitude(6, 19);
        let fault = match self.rng.range(0, 12) {
            0 => Fault::Stall,
            1..5 => Fault::Split,
            _ => Fault::Delay,
        };
        self.end.filter(|(end, _)| *end <= point).map_or((point, fault), |(end, how)| {
            self.end = None;
            (end, how)
        })
    }
}
