//! A soak: on every engine in the build, some hundred sessions through a proxy that damages their
//! connections, held against the send invariant. The seed is printed; `DRIVETRAIN_SEED` sets it.
//!
//! After a clean close every accepted message arrived once; after an unclean end, what arrived is a
//! prefix of what was accepted. (If the *peer* closed first, no answer proves that its last bytes
//! arrived: then a clean end promises the prefix only.) `receive()` ends with `Ok(None)` if and only if
//! the close was clean. And nothing is left: no file, task, or memory.

use std::{
    collections::HashMap,
    io,
    ops::Range,
    sync::{Arc, LazyLock, Mutex},
    time::{Duration, Instant},
};

use drivetrain::{
    CloseReason, Frame, HttpClient, Incoming, Outcome, Outgoing, Session, engine::Engine,
};
use drivetrain_conformance::{
    Tasks, Watched,
    peer::{Conn, Fault, FaultProxy, Message, Server, SplitMix64},
};
use tokio::{
    task::JoinSet,
    time::{sleep, timeout},
};

/// Handshakes on each engine, in two halves; those that a fault kept from succeeding are no sessions.
const ATTEMPTS: u64 = 260;
const SESSIONS: u64 = 200;
const AT_A_TIME: usize = 26;
/// No wait is longer than the session's own timeouts add up to, with this much for a busy machine.
const HUNG: Duration = Duration::from_secs(120);
const LONGEST: usize = 200_000;
/// What the second half may leave behind. Live heap: counted, so only what fills up late in tables
/// and caches. Resident memory: the allocator's arenas of some hundred threads, server's and proxy's.
const HEAP_ALLOWANCE: i64 = 64 << 10;
const RESIDENT_ALLOWANCE: i64 = 16 << 20;

pub(crate) fn sessions_under_faults(engine: Arc<dyn Engine>) {
    let seed = std::env::var("DRIVETRAIN_SEED").map_or_else(
        |_| {
            let now = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap();
            u64::from(now.subsec_nanos()) ^ (now.as_secs() << 20)
        },
        |seed| seed.parse().expect("DRIVETRAIN_SEED is a number"),
    );
    let name = engine.name().to_owned();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (summary, wrong) = runtime.block_on(soak(engine, seed));
    println!("{name}, DRIVETRAIN_SEED={seed}: {summary}");
    assert!(wrong.is_empty(), "{} failures: {:#?}", wrong.len(), &wrong[..wrong.len().min(10)]);
}

#[derive(Default)]
struct Tally {
    clean: u64,
    unclean: u64,
    dropped: u64,
    refused: u64,
    accepted: u64,
    lost: u64,
    cancelled: u64,
    discarded: u64,
    wrong: Vec<String>,
}

async fn soak(engine: Arc<dyn Engine>, seed: u64) -> (String, Vec<String>) {
    let start = Instant::now();
    // On executors of their own, which do not count tasks, only those of the sessions are seen.
    let on_tokio = !["async-std", "smol"].iter().any(|runtime| engine.name().ends_with(runtime));
    let session_tasks = Tasks::default();
    let client = HttpClient::new(Watched::new(Box::new(engine), session_tasks.clone()));
    let records = Arc::new(Records::default());
    let server = {
        let records = Arc::clone(&records);
        Server::start(move |conn| serve(conn, &records))
    };
    let proxy = FaultProxy::start(server.addr(), seed);
    // Once for what is made at first use.
    let calm = client.web_socket(server.ws_url("/?session=9999")).connect().await.unwrap();
    assert!(calm.close(CloseReason::normal()).await.unwrap().clean);
    drop(calm);
    assert!(server.wait_until_idle(HUNG));
    let before = at_rest(&server, &proxy, &session_tasks, None).await.unwrap();
    let mut tally = Tally::default();
    let mut rest = Vec::new();
    for half in [0..ATTEMPTS / 2, ATTEMPTS / 2..ATTEMPTS] {
        run(half, &client, &proxy, &records, seed, &mut tally).await;
        match at_rest(&server, &proxy, &session_tasks, Some(&before)).await {
            Ok(now) => rest.push(now),
            Err(left) => tally.wrong.push(left),
        }
    }
    let Tally { clean, unclean, dropped, refused, accepted, lost, cancelled, discarded, mut wrong } =
        tally;
    let mut expect = |holds: bool, what: String| {
        if !holds {
            wrong.push(what)
        }
    };
    let mut left = String::from("left: see below");
    if let [first, second] = &rest[..] {
        let (heap, resident) = (second.heap - first.heap, second.resident - first.resident);
        expect(heap <= HEAP_ALLOWANCE, format!("the second half left {heap} bytes on the heap"));
        let what = format!("resident memory grew by {resident} in the second half");
        expect(resident <= RESIDENT_ALLOWANCE, what);
        let tasks = if on_tokio { "0 tasks" } else { "0 tasks of sessions" };
        left = format!(
            "left: 0 files, {tasks}; by the second half: heap {heap:+}, resident {resident:+} bytes"
        );
    }
    expect(clean > 20 && unclean > 20, "too few ends of one kind to mean anything".into());
    expect(clean + unclean + dropped >= SESSIONS, format!("fewer than {SESSIONS} sessions"));
    let faults: Vec<_> =
        Fault::ALL.iter().map(|&fault| format!("{fault:?} {}", proxy.applied(fault))).collect();
    let summary = format!(
        "{clean} clean, {unclean} unclean, {dropped} dropped, {refused} refused; {accepted} messages \
         accepted, {lost} of them lost by unclean ends, {cancelled} sends cancelled, \
         {discarded} incoming ones discarded; {left}; {} connections: {}; {:.1} s",
        proxy.connections(),
        faults.join(", "),
        start.elapsed().as_secs_f64(),
    );
    (summary, wrong)
}

async fn run(
    numbers: Range<u64>,
    client: &HttpClient,
    proxy: &FaultProxy,
    records: &Arc<Records>,
    seed: u64,
    tally: &mut Tally,
) {
    let mut running = JoinSet::new();
    for number in numbers {
        if running.len() == AT_A_TIME {
            count(running.join_next().await.unwrap().unwrap(), tally);
        }
        let plan = Plan::draw(seed, number);
        let request = client
            .web_socket(proxy.ws_url(&plan.target()))
            .ping_interval(plan.ping_interval)
            .outgoing_capacity(plan.outgoing_capacity)
            .incoming_capacity(plan.incoming_capacity)
            .ping_timeout(plan.ping_timeout)
            .close_timeout(plan.close_timeout)
            .handshake_timeout(Duration::from_secs(10));
        let records = Arc::clone(records);
        running.spawn(async move {
            match timeout(HUNG, request.connect()).await {
                Err(_) => Err(format!("{plan:?}: connect() hangs")),
                Ok(Err(_)) => Ok(None),
                Ok(Ok(session)) => plan.run(session, &records).await.map(Some),
            }
        });
    }
    while let Some(ended) = running.join_next().await {
        count(ended.unwrap(), tally);
    }
}

fn count(ended: Result<Option<Ended>, String>, tally: &mut Tally) {
    match ended {
        Err(wrong) => tally.wrong.push(wrong),
        Ok(None) => tally.refused += 1,
        Ok(Some(ended)) => {
            match ended.clean {
                None => tally.dropped += 1,
                Some(true) => tally.clean += 1,
                Some(false) => tally.unclean += 1,
            }
            tally.accepted += ended.accepted;
            tally.lost += ended.lost;
            tally.cancelled += ended.cancelled;
            tally.discarded += ended.discarded;
        }
    }
}

/// Whether a session sends more than the sockets' buffers take, so that its sends have to wait and some
/// are cancelled. Each half begins with these: they take the longest.
fn is_bulk(number: u64) -> bool {
    number % (ATTEMPTS / 2) < 10
}

/// What one session does.
#[derive(Clone, Debug)]
struct Plan {
    number: u64,
    messages: u64,
    /// What the server sends for each message.
    answers: u64,
    ping_interval: Duration,
    ping_timeout: Duration,
    close_timeout: Duration,
    outgoing_capacity: usize,
    incoming_capacity: usize,
    slow_reader: bool,
    end: End,
    rng: SplitMix64,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum End {
    /// Closes after the last message.
    Close,
    /// Another task closes while messages are sent.
    CloseAmid,
    /// The server closes after this many messages.
    Server(u64),
    /// Both halves are dropped after the last message.
    Drop,
}

struct Ended {
    /// `None` for a dropped session: nobody is told.
    clean: Option<bool>,
    accepted: u64,
    lost: u64,
    cancelled: u64,
    discarded: u64,
}

impl Plan {
    fn draw(seed: u64, number: u64) -> Self {
        let mut rng = SplitMix64::new(!seed, number);
        let bulk = is_bulk(number);
        let messages = if bulk { 50 } else { rng.range(4, 60) };
        let end = match rng.range(0, 20) {
            0..3 => End::CloseAmid,
            3 => End::Drop,
            4 => End::Server(rng.range(1, messages)),
            _ => End::Close,
        };
        let ping_interval = Duration::from_millis(rng.range(50, 200));
        Self {
            number,
            messages,
            answers: if bulk { 0 } else { rng.range(0, 3) },
            ping_interval,
            // Pings, too, have to wait for what is in the sockets' buffers.
            ping_timeout: if bulk { Duration::from_secs(4) } else { ping_interval * 10 },
            close_timeout: Duration::from_secs(if bulk { 6 } else { 3 }),
            outgoing_capacity: rng.magnitude(12, 20) as usize,
            incoming_capacity: rng.magnitude(12, 20) as usize,
            slow_reader: rng.one_in(6),
            end,
            rng,
        }
    }

    fn target(&self) -> String {
        let close_after = if let End::Server(after) = self.end { after } else { 0 };
        format!("/?session={}&answers={}&close_after={close_after}", self.number, self.answers)
    }

    async fn run(mut self, session: Session, records: &Records) -> Result<Ended, String> {
        let plan = format!("{self:?}");
        let wrong = |what: String| format!("{plan}: {what}");
        let (outgoing, incoming) = session.split();
        let receiving = tokio::spawn(receive(self.number, incoming, self.slow_reader));
        if self.end == End::CloseAmid {
            let (outgoing, after) = (outgoing.clone(), self.rng.range(0, 200));
            tokio::spawn(async move {
                sleep(Duration::from_millis(after)).await;
                let _ = outgoing.close(CloseReason::normal()).await; // it is looked at below
            });
        }
        let sending = timeout(HUNG, self.send(&outgoing)).await;
        let (accepted, cancelled) = sending.map_err(|_| wrong("send() hangs".into()))?;
        let (outcome, received) = if self.end == End::Drop {
            receiving.abort();
            let _ = receiving.await; // aborted, or ended before
            drop(outgoing);
            (None, None)
        } else {
            let closing = timeout(HUNG, outgoing.close(CloseReason::normal())).await;
            let outcome = closing.map_err(|_| wrong("close() hangs".into()))?.unwrap();
            let received = timeout(HUNG, receiving).await;
            let received = received.map_err(|_| wrong("receive() hangs".into()))?.unwrap();
            (Some(outcome), Some(received))
        };
        let record = records.of_ended(self.number).await.map_err(wrong)?;
        let clean = outcome.as_ref().map(|outcome| outcome.clean);
        judge(accepted, outcome.as_ref(), received.as_ref(), &record).map_err(|what| {
            wrong(format!(
                "{what}\n        accepted {accepted}, {outcome:?}\n        server: {record:?}\n        \
                 client: {received:?}"
            ))
        })?;
        let discarded = outcome.map_or(0, |outcome| outcome.discarded);
        let lost = accepted - record.received.count;
        Ok(Ended { clean, accepted, lost, cancelled, discarded })
    }

    /// Sends until the last message or the end. Returns how many were accepted, and how often a send
    /// was cancelled: the same message is then sent again.
    async fn send(&mut self, outgoing: &Outgoing) -> (u64, u64) {
        let (mut accepted, mut cancelled) = (0, 0);
        while accepted < self.messages {
            let frame = match message(self.number, Way::Up, accepted) {
                Message::Text(text) => Frame::from(text),
                Message::Binary(bytes) => Frame::from(bytes),
                Message::Close { .. } => unreachable!(),
            };
            let sent = match self.rng.range(0, 4) {
                0 => {
                    let patience = Duration::from_micros(self.rng.range(0, 2000));
                    let Ok(sent) = timeout(patience, outgoing.send(frame)).await else {
                        cancelled += 1;
                        continue;
                    };
                    sent
                }
                1 => outgoing.feed(frame).await,
                _ => outgoing.send(frame).await,
            };
            if sent.is_err() {
                break;
            }
            accepted += 1;
            match self.rng.range(0, 8) {
                0 => sleep(Duration::from_millis(self.rng.range(0, 20))).await,
                // An error is also that of the next call.
                1 => drop(outgoing.flush().await),
                _ => {}
            }
        }
        (accepted, cancelled)
    }
}

/// The invariant, and what else the design says of an end.
fn judge(
    accepted: u64,
    outcome: Option<&Outcome>,
    received: Option<&Received>,
    record: &Record,
) -> Result<(), String> {
    let holds = |holds: bool, what: &str| if holds { Ok(()) } else { Err(what.to_owned()) };
    if let Some(wrong) = &record.received.wrong {
        return Err(format!("the server received {wrong}"));
    }
    let arrived = record.received.count;
    holds(record.received.next == arrived, "a message is missing before one that arrived")?;
    holds(arrived <= accepted, "a message arrived that was not accepted")?;
    let (Some(outcome), Some(received)) = (outcome, received) else { return Ok(()) };
    if let Some(wrong) = &received.log.wrong {
        return Err(format!("the client received {wrong}"));
    }
    holds(received.log.next <= record.sent, "the client received more than was sent")?;
    let missing = received.log.next - received.log.count;
    holds(
        missing <= outcome.discarded,
        "received messages miss one that is not counted as discarded",
    )?;
    // The peer's Close wins: what fails behind it is in the outcome alone.
    let may_be_none = outcome.clean || outcome.received.is_some();
    let is_alike = if received.end.is_none() { may_be_none } else { !outcome.clean };
    holds(is_alike, "receive() and outcome() do not end alike")?;
    holds(
        outcome.error.is_none() == outcome.clean,
        "an unclean end has an error, a clean one none",
    )?;
    if outcome.clean {
        if !record.closed_first {
            holds(arrived == accepted, "a clean close, and not everything accepted arrived")?;
        }
        let got = received.log.count + outcome.discarded;
        holds(got == record.sent, "a clean close, and not everything sent was received")?;
    }
    Ok(())
}

/// What the receiving task saw.
#[derive(Debug)]
struct Received {
    log: Log,
    /// The error of an unclean end.
    end: Option<String>,
}

async fn receive(session: u64, mut incoming: Incoming, slow: bool) -> Received {
    let mut log = Log::default();
    loop {
        match incoming.receive().await {
            Ok(Some(frame)) => {
                let text = frame.read_text().is_some();
                log.add(session, Way::Down, text, frame.read_bytes());
            }
            end => {
                let again = incoming.receive().await;
                if !matches!((&end, &again), (Ok(None), Ok(None)) | (Err(_), Err(_))) {
                    log.wrong.get_or_insert(format!("{end:?}, and {again:?} when asked again"));
                }
                return Received { log, end: end.err().map(|error| error.to_string()) };
            }
        }
        if slow {
            sleep(Duration::from_millis(5)).await;
        }
    }
}

/// The messages of one session in one direction, each held against what it must be.
#[derive(Clone, Debug, Default)]
struct Log {
    count: u64,
    /// One more than the last one's number.
    next: u64,
    wrong: Option<String>,
}

impl Log {
    fn add(&mut self, session: u64, way: Way, text: bool, bytes: &[u8]) {
        let number =
            bytes.get(..8).and_then(|digits| std::str::from_utf8(digits).ok()?.parse().ok());
        let number = number.unwrap_or(u64::MAX);
        let whole = number < 10_000
            && match message(session, way, number) {
                Message::Text(expected) => text && expected.as_bytes() == bytes,
                Message::Binary(expected) => !text && expected == bytes,
                Message::Close { .. } => unreachable!(),
            };
        if !whole || number < self.next {
            let kind = if whole { "once more, or too late," } else { "torn or foreign:" };
            self.wrong.get_or_insert(format!("{kind} number {number} of {} bytes", bytes.len()));
        }
        self.count += 1;
        self.next = number.saturating_add(1);
    }
}

#[derive(Clone, Copy)]
enum Way {
    Up,
    Down,
}

/// The `number`-th message of a session: its number in 8 digits, and a stretch of noise that no other
/// message has at that place.
fn message(session: u64, way: Way, number: u64) -> Message {
    static NOISE: LazyLock<String> = LazyLock::new(|| {
        let mut rng = SplitMix64::new(0, 0);
        (0..LONGEST * 2).map(|_| char::from(rng.range(32, 127) as u8)).collect()
    });
    let mut rng = SplitMix64::new((session << 1) | way as u64, number);
    let smallest = if is_bulk(session) { 16 } else { 3 };
    let size = (rng.magnitude(smallest, 18) as usize).clamp(10, LONGEST) - 8;
    let from = rng.range(0, LONGEST as u64) as usize;
    let text = format!("{number:08}{}", &NOISE[from..from + size]);
    if rng.one_in(2) { Message::Text(text) } else { Message::Binary(text.into_bytes()) }
}

/// What the server saw of one session.
#[derive(Clone, Debug, Default)]
struct Record {
    received: Log,
    /// Messages given to the socket, or to a part.
    sent: u64,
    closed_first: bool,
    over: bool,
}

#[derive(Default)]
struct Records(Mutex<HashMap<u64, Record>>);

impl Records {
    fn with<T>(&self, session: u64, change: impl FnOnce(&mut Record) -> T) -> T {
        change(self.0.lock().unwrap().entry(session).or_default())
    }

    /// Waits for the end of the server's side.
    async fn of_ended(&self, session: u64) -> Result<Record, String> {
        let deadline = Instant::now() + HUNG;
        while !self.with(session, |record| record.over) {
            if Instant::now() > deadline {
                return Err("the server still has the connection".into());
            }
            sleep(Duration::from_millis(5)).await;
        }
        Ok(self.0.lock().unwrap().remove(&session).unwrap())
    }
}

fn serve(conn: &mut Conn, records: &Records) -> io::Result<()> {
    let Some(request) = conn.read_request()? else { return Ok(()) };
    let session = request.parameter_or("session", u64::MAX);
    let close_after = request.parameter_or("close_after", 0);
    let answers = request.parameter_or("answers", 0);
    let result = conn
        .accept(&request, &[])
        .and_then(|()| serve_session(conn, records, session, answers, close_after));
    if let Err(error) = &result {
        if error.kind() == io::ErrorKind::InvalidData {
            let what = format!("what is no WebSocket: {error}");
            records.with(session, |record| record.received.wrong.get_or_insert(what).len());
        }
    }
    records.with(session, |record| record.over = true);
    result
}

fn serve_session(
    conn: &mut Conn,
    records: &Records,
    session: u64,
    answers: u64,
    close_after: u64,
) -> io::Result<()> {
    while let Some(message) = conn.receive_message()? {
        let (text, bytes) = match &message {
            Message::Text(text) => (true, text.as_bytes()),
            Message::Binary(bytes) => (false, &bytes[..]),
            Message::Close { code, .. } => {
                let closed_first = records.with(session, |record| record.closed_first);
                return if closed_first { Ok(()) } else { conn.send_close(*code, "") };
            }
        };
        let (count, sent, closed) = records.with(session, |record| {
            record.received.add(session, Way::Up, text, bytes);
            (record.received.count, record.sent, record.closed_first)
        });
        if closed {
            continue;
        }
        for number in sent..sent + answers {
            records.with(session, |record| record.sent += 1);
            match self::message(session, Way::Down, number) {
                Message::Text(text) => conn.send_text(&text)?,
                Message::Binary(bytes) => conn.send_binary(&bytes)?,
                Message::Close { .. } => unreachable!(),
            }
        }
        if count == close_after {
            records.with(session, |record| record.closed_first = true);
            conn.send_close(1001, "enough")?;
        }
    }
    Ok(())
}

/// What the process holds while no session is open.
struct Rest {
    files: usize,
    tasks: usize,
    heap: i64,
    resident: i64,
}

/// Waits until nothing is open, and no more files and tasks than before. An error says what is left.
async fn at_rest(
    server: &Server,
    proxy: &FaultProxy,
    session_tasks: &Tasks,
    before: Option<&Rest>,
) -> Result<Rest, String> {
    let deadline = Instant::now() + HUNG;
    loop {
        sleep(Duration::from_millis(50)).await;
        let now = Rest::measure(session_tasks);
        let open = server.open() + proxy.open();
        let (files, tasks) =
            before.map_or((usize::MAX, usize::MAX), |rest| (rest.files, rest.tasks));
        if open == 0 && now.files <= files && now.tasks <= tasks {
            return Ok(now);
        }
        if Instant::now() > deadline {
            return Err(format!(
                "left over: {open} connections, {} files (before: {files}), {} tasks (before: {tasks})",
                now.files, now.tasks
            ));
        }
    }
}

impl Rest {
    fn measure(session_tasks: &Tasks) -> Self {
        let stats = crate::ALLOCATOR.stats();
        let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
        let pages = statm.split(' ').nth(1).and_then(|pages| pages.parse::<i64>().ok());
        Self {
            files: std::fs::read_dir("/proc/self/fd").map_or(0, Iterator::count),
            tasks: tokio::runtime::Handle::current().metrics().num_alive_tasks()
                + session_tasks.running(),
            heap: stats.bytes_allocated as i64 - stats.bytes_deallocated as i64,
            resident: pages.unwrap_or(0) * 4096,
        }
    }
}
