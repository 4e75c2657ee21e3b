//! Our server on each framing beside those of axum and fastwebsockets: each in a process on a core of its own, the clients on
//! another one.

mod crowd;
mod host;
mod subject;

use std::{
    fmt,
    time::{Duration, Instant},
};

use serde::Serialize;

use crate::{
    Result,
    arguments::Arguments,
    clock,
    cores::Apart,
    servers::{
        crowd::{Crowd, End, Habit},
        host::{Host, State},
    },
    spread::Spread,
    table::Table,
};
pub(crate) use host::serve;
pub(crate) use subject::Subject;

/// How many sessions a message is sent to, and how many end in a shutdown.
const MANY: usize = 1000;

/// The most that may wait in the session of a subscriber that reads nothing.
const STALLED_LIMIT: usize = 256 << 10;

/// How long after the last handshake each session has pinged once, and how long to measure then.
const SETTLED: Duration = Duration::from_secs(30);
const RESTED: Duration = Duration::from_secs(20);

/// What is measured of each server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(crate) enum Measure {
    /// Anonymous memory of a session that has said nothing, and of one that has echoed once.
    Memory,
    UsedMemory,
    Handshake,
    /// One message of so many bytes after the other.
    Echo(usize),
    /// 256 in one write.
    PipelinedEcho(usize),
    /// To 1 000 sessions, this many messages at once.
    Broadcast(usize),
}

impl Measure {
    /// Memory is measured apart.
    const TIMED: [Self; 7] = [
        Self::Handshake,
        Self::Echo(32),
        Self::Echo(1024),
        Self::PipelinedEcho(32),
        Self::PipelinedEcho(1024),
        Self::Broadcast(1),
        Self::Broadcast(20),
    ];

    fn is_asked_of(self, subject: Subject) -> bool {
        match self {
            Self::Broadcast(_) => subject.broadcasts(),
            // It differs in its subscribers only.
            _ => subject != Subject::AxumSelect,
        }
    }
}

impl fmt::Display for Measure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Memory => f.write_str("bytes of an idle session"),
            Self::UsedMemory => f.write_str("bytes of a session after an echo"),
            Self::Handshake => f.write_str("handshake, CPU µs"),
            Self::Echo(size) => write!(f, "echo {size} B, CPU µs"),
            Self::PipelinedEcho(size) => write!(f, "256 echoes of {size} B, CPU µs each"),
            Self::Broadcast(1) => write!(f, "100 B to {MANY}, CPU µs per delivery"),
            Self::Broadcast(times) => write!(f, "{times} × 100 B to {MANY}, CPU µs per delivery"),
        }
    }
}

/// One server at one measure, over all rounds.
#[derive(Debug, Serialize)]
struct Row {
    measure: Measure,
    server: &'static str,
    samples: Vec<f64>,
}

/// What a subscriber that reads nothing costs.
#[derive(Debug, Serialize)]
pub(crate) struct Stalled {
    /// Memory above that of a server without it.
    pub(crate) bytes: f64,
    /// The p99 of the others, by that without it, in each round.
    pub(crate) p99: Vec<f64>,
}

/// What is left of a shutdown.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Shutdown {
    pub(crate) with_1001: usize,
    pub(crate) with_503: usize,
    /// Those whose Close was on its way.
    pub(crate) with_own_close: usize,
    pub(crate) with_nothing: usize,
    pub(crate) aborted: usize,
    pub(crate) sessions: usize,
    pub(crate) descriptors: usize,
}

#[derive(Debug, Default, Serialize)]
pub(crate) struct Servers {
    rows: Vec<Row>,
    pub(crate) stalled: Option<Stalled>,
    /// Idle sessions, and the part of a core that they take.
    pub(crate) idle: Option<(usize, f64)>,
    pub(crate) shutdown: Option<Shutdown>,
}

pub(crate) fn run(arguments: &Arguments) -> Result<Servers> {
    clock::allow_most_files()?;
    let asked = |what: &str, subject: Subject| arguments.selects(&["server", what, subject.name()]);
    let rounds = arguments.rounds.min(5);
    let mut servers = Servers::default();
    let in_memory =
        |&subject: &Subject| Measure::Memory.is_asked_of(subject) && asked("memory", subject);
    for subject in Subject::ALL.into_iter().filter(in_memory) {
        eprint!("\rserver: memory: {:<30}", subject.name());
        servers.rows.extend(memory(subject, arguments.sessions.unwrap_or(2_000))?);
    }
    for measure in Measure::TIMED {
        let of = |&subject: &Subject| {
            measure.is_asked_of(subject) && asked(&measure.to_string(), subject)
        };
        let subjects: Vec<_> = Subject::ALL.into_iter().filter(of).collect();
        servers.rows.extend(timed(measure, &subjects, rounds)?);
    }
    if asked("stalled", Subject::Native) {
        eprint!("\rserver: {:<40}", "a stalled subscriber");
        servers.stalled = Some(stalled(arguments.rounds)?);
    }
    if asked("shutdown", Subject::Native) {
        eprint!("\rserver: {:<40}", "shutdown");
        servers.shutdown = Some(shutdown()?);
    }
    if asked("idle", Subject::Native) {
        eprint!("\rserver: {:<40}", "idle");
        let sessions = arguments.sessions.unwrap_or(10_000);
        servers.idle = Some((sessions, idle(sessions)?));
    }
    eprintln!();
    Ok(servers)
}

/// In a process that has done nothing else but one session.
fn memory(subject: Subject, sessions: usize) -> Result<[Row; 2]> {
    let mut host = Host::start(subject)?;
    let _apart = Apart::place(&[host.process()])?;
    let server = host.address()?;
    let mut first = Crowd::open(server, "/echo", 1)?;
    first.send(&crowd::text(32));
    first.receive(1)?;
    let before = host.state()?.anonymous;
    let mut crowd = Crowd::open(server, "/echo", sessions)?;
    let open = host.state()?.anonymous;
    crowd.send(&crowd::text(32));
    crowd.receive(sessions)?;
    let used = host.state()?.anonymous;
    let each = |now: usize| now.saturating_sub(before) as f64 / sessions as f64;
    let row = |measure, figure| Row { measure, server: subject.name(), samples: vec![figure] };
    Ok([row(Measure::Memory, each(open)), row(Measure::UsedMemory, each(used))])
}

/// All servers in turn, round after round; a round before the first one warms up.
fn timed(measure: Measure, subjects: &[Subject], rounds: usize) -> Result<Vec<Row>> {
    let mut hosts = Vec::new();
    for subject in subjects {
        hosts.push(Host::start(*subject)?);
    }
    let processes: Vec<_> = hosts.iter().map(Host::process).collect();
    let _apart = Apart::place(&processes)?;
    let mut crowds = Vec::new();
    for host in &mut hosts {
        let server = host.address()?;
        crowds.push(match measure {
            Measure::Broadcast(_) => Crowd::open(server, "/news", MANY)?,
            Measure::Echo(_) | Measure::PipelinedEcho(_) => Crowd::open(server, "/echo", 1)?,
            _ => Crowd::new()?,
        });
    }
    let row = |subject: &Subject| Row { measure, server: subject.name(), samples: Vec::new() };
    let mut rows: Vec<_> = subjects.iter().map(row).collect();
    for round in 0..=rounds {
        eprint!("\rserver: {measure}, round {round} of {rounds}{:<20}", "");
        for ((host, crowd), row) in hosts.iter_mut().zip(&mut crowds).zip(&mut rows) {
            let before = host.state()?;
            let units = work(measure, host, crowd)?;
            let micros = micros_since(&before, &host.state()?) / units as f64;
            if round > 0 {
                row.samples.push(micros);
            }
        }
    }
    Ok(rows)
}

fn micros_since(before: &State, now: &State) -> f64 {
    now.cpu.saturating_sub(before.cpu).as_secs_f64() * 1e6
}

/// Does the work of a measure once. Returns the number of messages, deliveries or handshakes.
fn work(measure: Measure, host: &mut Host, crowd: &mut Crowd) -> Result<usize> {
    match measure {
        Measure::Memory | Measure::UsedMemory => Err("memory is no work".into()),
        Measure::Handshake => {
            let server = host.address()?;
            for _ in 0..300 {
                drop(Crowd::open(server, "/echo", 1)?);
            }
            Ok(300)
        }
        Measure::Echo(size) => {
            let text = crowd::text(size);
            for _ in 0..2_000 {
                crowd.send(&text);
                crowd.receive(1)?;
            }
            Ok(2_000)
        }
        Measure::PipelinedEcho(size) => {
            let texts = crowd::text(size).repeat(256);
            for _ in 0..60 {
                crowd.send(&texts);
                crowd.receive(256)?;
            }
            Ok(60 * 256)
        }
        Measure::Broadcast(times) => {
            let publications = if times == 1 { 20 } else { 5 };
            for _ in 0..publications {
                host.publish(times, 100)?;
                crowd.receive(times * MANY)?;
            }
            Ok(publications * times * MANY)
        }
    }
}

/// Two servers with the same subscribers; at one of them, one more reads nothing.
fn stalled(rounds: usize) -> Result<Stalled> {
    let mut hosts = [Host::start(Subject::Native)?, Host::start(Subject::Native)?];
    let _apart = Apart::place(&[hosts[0].process(), hosts[1].process()])?;
    let mut crowds = Vec::new();
    for host in &mut hosts {
        crowds.push(Crowd::open(host.address()?, "/news", MANY - 1)?);
    }
    // It is never polled.
    let mut silent = Crowd::open(hosts[1].address()?, "/stalled", 1)?;
    let mut grown = [0.0; 2];
    let mut dropped = 0;
    let before = [hosts[0].state()?.anonymous, hosts[1].state()?.anonymous];
    // Until the buffers of the system are full, and then the limit.
    for _ in 0..2_000 {
        for (host, crowd) in hosts.iter_mut().zip(&mut crowds) {
            dropped = host.publish(1, 16 << 10)?.dropped;
            crowd.receive(MANY - 1)?;
        }
        if dropped > 0 {
            break;
        }
    }
    if dropped == 0 {
        return Err("a subscriber that reads nothing never came to its limit".into());
    }
    for ((host, before), grown) in hosts.iter_mut().zip(before).zip(&mut grown) {
        *grown = host.state()?.anonymous as f64 - before as f64;
    }
    let mut p99 = Vec::new();
    for _ in 0..rounds {
        let mut both = [0.0; 2];
        for ((host, crowd), p99) in hosts.iter_mut().zip(&mut crowds).zip(&mut both) {
            let mut times = Vec::new();
            for _ in 0..20 {
                crowd.time_from(Instant::now());
                host.publish(1, 100)?;
                crowd.receive(MANY - 1)?;
                times.extend(crowd.take_times());
            }
            times.sort_unstable();
            *p99 = f64::from(times[times.len() * 99 / 100]);
        }
        p99.push(both[1] / both[0]);
    }
    silent.rest(Duration::ZERO)?;
    Ok(Stalled { bytes: grown[1] - grown[0], p99 })
}

fn idle(sessions: usize) -> Result<f64> {
    let mut host = Host::start(Subject::Native)?;
    let _apart = Apart::place(&[host.process()])?;
    let mut crowd = Crowd::open(host.address()?, "/echo", sessions)?;
    crowd.rest(SETTLED)?;
    let (before, then) = (host.state()?, Instant::now());
    crowd.rest(RESTED)?;
    let cpu = micros_since(&before, &host.state()?) / 1e6;
    Ok(cpu / then.elapsed().as_secs_f64())
}

/// Sessions that are idle, sending, busy, closing and just coming.
fn shutdown() -> Result<Shutdown> {
    let mut host = Host::start(Subject::Native)?;
    let _apart = Apart::place(&[host.process()])?;
    let server = host.address()?;
    drop(Crowd::open(server, "/echo", 1)?);
    let each = MANY / 5;
    let before = host.state()?;
    let mut crowd = Crowd::new()?;
    crowd.join(server, "/echo", each, &Habit::Repeats(crowd::text(32)))?;
    crowd.send(&crowd::text(32));
    crowd.join(server, "/echo", each, &Habit::Listens)?;
    crowd.join(server, "/closing", each, &Habit::KeepsOpen)?;
    crowd.join(server, "/busy", each, &Habit::Listens)?;
    for _ in 0..each {
        crowd.begin(server, "/echo", &Habit::Listens)?;
    }
    host.stop()?;
    crowd.answer_closes();
    crowd.wait_for_the_end()?;
    let after = host.stopped()?;
    let mut shutdown = Shutdown {
        aborted: after.dropped,
        sessions: after.sessions.unwrap_or(0),
        descriptors: after.descriptors.saturating_sub(before.descriptors),
        ..Shutdown::default()
    };
    for (i, end) in crowd.ends().into_iter().enumerate() {
        let is_closing = (2 * each..3 * each).contains(&i);
        *match end {
            End { code: Some(1001), .. } => &mut shutdown.with_1001,
            End { status: 503, .. } => &mut shutdown.with_503,
            End { code: Some(1000), .. } if is_closing => &mut shutdown.with_own_close,
            _ => &mut shutdown.with_nothing,
        } += 1;
    }
    Ok(shutdown)
}

impl Servers {
    fn row(&self, measure: Measure, subject: Subject) -> Option<&Row> {
        self.rows.iter().find(|row| row.measure == measure && row.server == subject.name())
    }

    /// A figure of a server.
    pub(crate) fn of(&self, measure: Measure, subject: Subject) -> Option<Spread> {
        Spread::of(self.row(measure, subject)?.samples.iter().copied())
    }

    /// A figure of one server by that of another, round by round.
    pub(crate) fn by(&self, measure: Measure, one: Subject, other: Subject) -> Option<Spread> {
        let (one, other) = (self.row(measure, one)?, self.row(measure, other)?);
        Spread::of(one.samples.iter().zip(&other.samples).map(|(one, other)| one / other))
    }

    pub(crate) fn tables(&self) -> Vec<Table> {
        let mut table = Table::new(["server"; 1]);
        let asked = |&subject: &Subject| self.rows.iter().any(|row| row.server == subject.name());
        let subjects: Vec<_> = Subject::ALL.into_iter().filter(asked).collect();
        table.columns.extend(subjects.iter().map(|subject| {
            let whose = if subject.is_ours() { "drivetrain " } else { "" };
            format!("{whose}{}", subject.name())
        }));
        for measure in [Measure::Memory, Measure::UsedMemory].into_iter().chain(Measure::TIMED) {
            let figures: Vec<_> =
                subjects.iter().map(|&subject| self.of(measure, subject)).collect();
            if figures.iter().all(Option::is_none) {
                continue;
            }
            let show = |figure: Option<Spread>| {
                figure.map_or_else(String::new, |figure| {
                    figure.show(if figure.median < 100.0 { 2 } else { 0 })
                })
            };
            let cells = figures.into_iter().map(show);
            table.rows.push(std::iter::once(format!("  {measure}")).chain(cells).collect());
        }
        let mut tables = vec![table];
        tables.extend(self.shutdown.as_ref().map(Shutdown::table));
        tables.retain(|table| !table.rows.is_empty());
        tables
    }
}

impl Shutdown {
    fn table(&self) -> Table {
        let mut table = Table::new([
            "shutdown of 1000",
            "1001",
            "503",
            "own Close",
            "nothing",
            "aborted",
            "sessions left",
            "descriptors left",
        ]);
        let Self {
            with_1001,
            with_503,
            with_own_close,
            with_nothing,
            aborted,
            sessions,
            descriptors,
        } = self;
        let row =
            [with_1001, with_503, with_own_close, with_nothing, aborted, sessions, descriptors];
        let name = "idle, sending, busy, closing, coming".to_owned();
        let cells = row.into_iter().map(usize::to_string);
        table.rows.push(std::iter::once(name).chain(cells).collect());
        table
    }
}
