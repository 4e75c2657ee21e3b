//! Many sessions in one process, and tasks that are in each other's way.

use std::{
    future::poll_fn,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::Poll,
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};

use crate::{
    Result, clock,
    libraries::Spawner,
    sample::Sample,
    socket::{Receiving, Sending, Socket},
    work::Work,
};

/// One message there and back.
pub(crate) async fn round_trip(socket: &mut (impl Sending + Receiving)) -> Result<()> {
    socket.send("01234567890123456789012345678901").await?;
    socket.receive().await.map(drop)
}

/// Each socket does its share of the ping-pongs in its own task. Slow initial work is done
/// before.
pub(crate) async fn spread<S: Socket>(
    mut sockets: Vec<S>,
    spawner: Spawner,
    messages: usize,
) -> Result<Sample> {
    for socket in &mut sockets {
        round_trip(socket).await?;
    }
    let each = messages.div_ceil(sockets.len());
    let all = each * sockets.len();
    let start = clock::Start::now();
    let task = |mut socket: S| {
        spawner.spawn(async move {
            let mut trips = Vec::with_capacity(each);
            Work::PING_PONG.run(&mut socket, each, |trip| trips.push(trip)).await?;
            Ok((socket, trips))
        })
    };
    let tasks: Vec<_> = sockets.into_iter().map(task).collect();
    let mut trips = Vec::with_capacity(all);
    let mut open = Vec::with_capacity(tasks.len());
    for task in tasks {
        let (socket, mut more) = task.await?;
        trips.append(&mut more);
        open.push(socket);
    }
    let sample = start.sample(all, &mut trips);
    drop(open);
    // Gives tasks time to close.
    spawner.sleep(Duration::from_millis(20)).await;
    Ok(sample)
}

/// For how long a task that is always ready had to wait at worst, in nanoseconds.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Delay {
    /// By the clock on the wall: with the time in which the machine did something else.
    pub(crate) wall: f64,
    /// By the CPU time of the thread, that is, of its tasks. It does not sleep with one of them
    /// ready.
    pub(crate) thread: f64,
}

/// How long that is while another task does this flood.
pub(crate) async fn delay<S: Socket>(
    mut socket: S,
    spawner: Spawner,
    work: Work,
    messages: usize,
) -> Result<Delay> {
    let is_over = Arc::new(AtomicBool::new(false));
    let over = Arc::clone(&is_over);
    let ready = spawner.spawn(async move {
        let (mut wall, mut thread) = (Duration::ZERO, Duration::ZERO);
        let mut last = (Instant::now(), clock::thread_time());
        while !over.load(Ordering::Relaxed) {
            yield_once().await;
            let now = (Instant::now(), clock::thread_time());
            wall = wall.max(now.0 - last.0);
            thread = thread.max(now.1.saturating_sub(last.1));
            last = now;
        }
        let nanos = |time: Duration| time.as_nanos() as f64;
        Ok(Delay { wall: nanos(wall), thread: nanos(thread) })
    });
    let flood = spawner.spawn(async move {
        let done = work.run(&mut socket, messages, drop).await;
        is_over.store(true, Ordering::Relaxed);
        done
    });
    flood.await?;
    ready.await
}

/// Lets all others have their turn.
async fn yield_once() {
    let mut has_yielded = false;
    poll_fn(|cx| {
        if std::mem::replace(&mut has_yielded, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// How to be idle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Idle {
    pub(crate) sessions: usize,
    /// Between two pings of a session.
    pub(crate) interval: Duration,
    /// How long to measure.
    pub(crate) measured: Duration,
}

/// What a process with idle sessions costs.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Rest {
    /// CPU time by wall-clock time, of one core.
    pub(crate) cpu: f64,
    /// Resident memory of a session.
    pub(crate) bytes: usize,
    /// When the measurement began and ended, by the monotonic clock, in milliseconds.
    pub(crate) from: u64,
    pub(crate) to: u64,
}

/// With the sessions open: lets them settle until each has pinged, then measures.
pub(crate) async fn idle(spawner: Spawner, idle: Idle, start: usize) -> Result<Rest> {
    spawner.sleep(idle.interval * 3 / 2).await;
    let (from, cpu, then) = (clock::monotonic(), clock::cpu_time(), Instant::now());
    spawner.sleep(idle.measured).await;
    let cpu = (clock::cpu_time() - cpu).as_secs_f64() / then.elapsed().as_secs_f64();
    let bytes = clock::resident()?.saturating_sub(start) / idle.sessions;
    Ok(Rest { cpu, bytes, from, to: clock::monotonic() })
}
