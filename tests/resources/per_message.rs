//! What a message costs above its engine, counted: allocations by an allocator, task switches by the polls
//! of the session's one task. The server is another process, so that only this end is counted.

use std::{
    future::{Future, poll_fn},
    io::{BufRead as _, BufReader},
    pin::pin,
    process::{Child, Command, Stdio},
    sync::Arc,
    task::{Context, Waker},
    time::Duration,
};

use bytes::Bytes;
use drivetrain::{HttpClient, OpCode, RawFrame, RawSession, Session};
use drivetrain_conformance::{Tasks, Watched, peer::EchoServer};

const SIZE: usize = 32;
const SERVE: &str = "DRIVETRAIN_TEST_SERVE";
const URL: &str = "serving at ";

/// What is counted, and how many messages are enough that what happens now and then (a buffer that grows,
/// a look of the session task at the clock) is nothing beside them.
const WORKS: [(Work, usize); 4] = [
    (Work::PingPong, 2_000),
    (Work::Receive, 20_000),
    (Work::Send, 20_000),
    (Work::Pipelined, 20_000),
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Work {
    PingPong,
    Receive,
    Send,
    /// Echoes, 64 of them on their way.
    Pipelined,
}

pub(crate) fn a_message_costs_no_allocation_and_no_task_switch_above_its_engine() {
    if std::env::var_os(SERVE).is_some() {
        return serve();
    }
    let mut server = Server::start();
    let mut costly = Vec::new();
    for engine in crate::engines() {
        let name = engine.name().to_owned();
        let tasks = Tasks::default();
        let client = HttpClient::new(Watched::new(Box::new(Arc::clone(&engine)), tasks.clone()));
        for (work, messages) in WORKS {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let (raw, whole) = runtime.block_on(async {
                // A session has one: what timers cost is the engine's, too.
                let engine = engine.runtime().unwrap();
                let mut timer = engine.timer(engine.now() + Duration::from_secs(3600));
                assert!(timer.poll(&mut Context::from_waker(Waker::noop())).is_pending());
                let request =
                    || client.web_socket(format!("{}{}", server.url, work.path(messages)));
                let raw = End::Raw(Box::new(request().connect_raw().await.unwrap()));
                let raw = count(raw, work, messages, &tasks).await;
                let whole = End::Whole(request().connect().await.unwrap());
                (raw, count(whole, work, messages, &tasks).await)
            });
            println!(
                "{name}, {work:?}: {:.3} allocations and {:.3} waits a message, the engine alone \
                 {:.3} and {:.3}; {:.3} polls",
                whole.allocations, whole.waits, raw.allocations, raw.waits, whole.polls
            );
            // One reactor allocates whenever it is waited for, and once more while there is any timer.
            let waits = 2.0 * (whole.waits - raw.waits).max(0.0);
            let above = whole.allocations - raw.allocations - waits;
            if above >= work.share() || whole.polls >= work.share() {
                costly.push(format!("{name}, {work:?}"));
            }
        }
    }
    server.process.kill().unwrap();
    server.process.wait().unwrap();
    assert!(costly.is_empty(), "{costly:?}");
}

/// A message's share.
struct Counted {
    allocations: f64,
    /// How often the task had to wait.
    waits: f64,
    polls: f64,
}

async fn count(mut end: End, work: Work, messages: usize, tasks: &Tasks) -> Counted {
    let payload = Bytes::from(vec![b'x'; SIZE]);
    // Half as many before, so that what is made at first use is there.
    work.run(&mut end, messages / 2, &payload).await;
    let mut waits = 0;
    let now = || (crate::ALLOCATOR.stats(), tasks.polls());
    let before = now();
    let mut run = pin!(work.run(&mut end, messages, &payload));
    poll_fn(|cx| {
        let polled = run.as_mut().poll(cx);
        waits += usize::from(polled.is_pending());
        polled
    })
    .await;
    let after = now();
    let allocations = |stats: stats_alloc::Stats| stats.allocations + stats.reallocations;
    let share = |count: usize| count as f64 / messages as f64;
    Counted {
        allocations: share(allocations(after.0) - allocations(before.0)),
        waits: share(waits),
        polls: share(after.1 - before.1),
    }
}

impl Work {
    /// Below this share of the messages it does not happen with each. Where tasks run on several threads,
    /// the session's task may run beside a burst and write a part of it.
    fn share(self) -> f64 {
        match self {
            Self::PingPong | Self::Receive => 0.1,
            Self::Send | Self::Pipelined => 0.3,
        }
    }

    fn path(self, messages: usize) -> String {
        match self {
            Self::PingPong | Self::Pipelined => "/echo".to_owned(),
            Self::Receive => format!("/source?count={}&size={SIZE}", 2 * messages),
            Self::Send => "/sink".to_owned(),
        }
    }

    async fn run(self, end: &mut End, messages: usize, payload: &Bytes) {
        match self {
            Self::PingPong => {
                for _ in 0..messages {
                    end.send(payload).await;
                    end.receive().await;
                }
            }
            Self::Receive => {
                for _ in 0..messages {
                    end.receive().await;
                }
            }
            Self::Send => {
                for _ in 0..messages {
                    end.send(payload).await;
                }
                end.flush().await;
            }
            Self::Pipelined => {
                let mut open = 0;
                for _ in 0..messages {
                    while open < 64 {
                        end.send(payload).await;
                        open += 1;
                    }
                    end.receive().await;
                    open -= 1;
                }
                for _ in 0..open {
                    end.receive().await;
                }
            }
        }
    }
}

/// A session, or its engine alone: a raw session is the engine's own connection and nothing else.
enum End {
    Raw(Box<RawSession>),
    Whole(Session),
}

impl End {
    async fn send(&mut self, payload: &Bytes) {
        match self {
            Self::Raw(raw) => {
                raw.send(RawFrame::new(OpCode::Binary, payload.clone())).await.unwrap();
            }
            Self::Whole(session) => session.send(payload.clone()).await.unwrap(),
        }
    }

    async fn flush(&mut self) {
        match self {
            Self::Raw(raw) => raw.flush().await.unwrap(),
            Self::Whole(session) => session.flush().await.unwrap(),
        }
    }

    async fn receive(&mut self) {
        let size = match self {
            Self::Raw(raw) => raw.receive().await.unwrap().unwrap().payload.len(),
            Self::Whole(session) => session.receive().await.unwrap().unwrap().into_bytes().len(),
        };
        assert_eq!(size, SIZE);
    }
}

struct Server {
    process: Child,
    url: String,
}

impl Server {
    /// Starts this program again as a server.
    fn start() -> Self {
        let name = "a_message_costs_no_allocation_and_no_task_switch_above_its_engine";
        let mut process = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", name, "--nocapture"])
            .env(SERVE, "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let url = lines.find_map(|line| line.unwrap().split_once(URL).map(|(_, url)| url.into()));
        Self { process, url: url.unwrap() }
    }
}

/// Serves until the parent is gone.
fn serve() {
    let server = EchoServer::start();
    println!("\n{URL}{}", server.ws_url(""));
    let _ = std::io::stdin().read_line(&mut String::new());
}
