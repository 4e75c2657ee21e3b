//! Goals: bounds and measured figures.

use std::cmp::Ordering;

use serde::Serialize;

#[cfg(feature = "server")]
use crate::servers::{Measure, Servers, Subject};
use crate::{
    compare::{Compared, Row},
    libraries::LIMIT,
    results::Results,
    sample::Sample,
    spread::Spread,
    table::Table,
    work::{Shape, Work},
};

/// The reference library.
const PLAIN: &str = "tokio-tungstenite";
const SPLIT: &str = "tokio-tungstenite, split";

/// Ours.
const NATIVE: &str = "native";

/// The libraries that the native engine must beat.
const PEERS: [&str; 4] = [PLAIN, "raw fastwebsockets", "tokio-websockets", "yawc"];

#[derive(Debug, Serialize)]
pub(crate) struct Goal {
    what: String,
    bound: Bound,
    measured: Spread,
    holds: bool,
}

#[derive(Clone, Copy, Debug, Serialize)]
enum Bound {
    AtLeast(f64),
    AtMost(f64),
}

use Bound::{AtLeast, AtMost};

impl Goal {
    /// `None` if it was not measured.
    fn new(what: String, bound: Bound, measured: Option<Spread>) -> Option<Self> {
        let measured = measured?;
        let holds = match bound {
            AtLeast(bound) => measured.median >= bound,
            AtMost(bound) => measured.median <= bound,
        };
        Some(Self { what, bound, measured, holds })
    }
}

/// All goals that these results can decide.
pub(crate) fn goals(results: &Results) -> Vec<Goal> {
    let mut goals = Vec::new();
    if let Some(compared) = &results.work {
        goals.extend(faster_than_natural_use(compared));
        goals.extend(session_overhead(compared));
        goals.extend(ahead_of_every_library(compared));
    }
    if let Some(memory) = &results.memory {
        let used = |name: &str| {
            let row = memory.rows.iter().find(|row| row.who.subject == name)?;
            Some(row.after_a_message as f64)
        };
        goals.push(Goal::new(
            format!("{NATIVE}: bytes a used session, through HTTP"),
            AtMost(12_288.0),
            Spread::of(used(NATIVE)),
        ));
        let over = used("native, over TCP").and_then(|bytes| Some(bytes - used(LIMIT)?));
        goals.push(Goal::new(
            format!("{NATIVE}, over TCP: bytes a used session, above those of {LIMIT}"),
            AtMost(6_144.0),
            Spread::of(over),
        ));
        for row in memory.rows.iter().filter(|row| row.who.is_ours) {
            let name = &row.who.subject;
            let used = Spread::of([row.after_a_message as f64]);
            goals.push(Goal::new(format!("{name}: bytes a used session"), AtMost(24_576.0), used));
        }
    }
    if let Some(sessions) = &results.sessions {
        let rows = sessions.rows.iter().filter(|row| row.who.is_ours && row.sessions == 1000);
        goals.extend(rows.map(|row| {
            let name = &row.who.subject;
            let what = format!("{name}: p99 of 1000 sessions / {PLAIN}");
            Goal::new(what, AtMost(3.0), sessions.p99_by(1000, name, PLAIN))
        }));
    }
    if let Some(fairness) = &results.fairness {
        goals.extend(fairness.rows.iter().filter(|row| row.who.is_ours).map(|row| {
            let what = format!("{}: ms that another task waits, {}", row.who.subject, row.work);
            Goal::new(what, AtMost(5.0), row.thread_ms)
        }));
    }
    if let Some(instructions) = &results.instructions {
        for (shape, bound) in [(Shape::Receive, 400.0), (Shape::Send, 350.0)] {
            let work = Work::new(shape, 32);
            let counted = instructions.counts.of(NATIVE, &work.to_string());
            let what = format!("{NATIVE}: instructions of {work}");
            goals.push(Goal::new(what, AtMost(bound), Spread::of(counted.map(|each| each as f64))));
        }
        goals.extend(instructions.above_raw(Work::new(Shape::Receive, 32)).into_iter().map(
            |(pair, above)| {
                let what = format!("{pair}: instructions of receive 32 B above the library's");
                Goal::new(what, AtMost(120.0), Spread::of([above]))
            },
        ));
    }
    if let Some(idle) = &results.idle {
        goals.extend(idle.rows.iter().map(|row| {
            let what = format!("{}: % of two cores for {} idle", row.who.subject, idle.sessions);
            Goal::new(what, AtMost(1.0), Spread::of([row.cpu / 2.0 * 100.0]))
        }));
    }
    #[cfg(feature = "server")]
    if let Some(servers) = &results.servers {
        goals.extend(of_the_server(servers));
    }
    goals.into_iter().flatten().collect()
}

/// Our server on the native framing: CPU time and memory, on a core of its own.
#[cfg(feature = "server")]
fn of_the_server(servers: &Servers) -> Vec<Option<Goal>> {
    use Measure::{Broadcast, Echo, Handshake, Memory, PipelinedEcho};
    let ours = Subject::Native;
    let is = |measure: Measure, bound: f64| {
        Goal::new(format!("server: {measure}"), AtMost(bound), servers.of(measure, ours))
    };
    let by = |measure: Measure, other: Subject, bound: f64| {
        let what = format!("server: {measure} / {}", other.name());
        Goal::new(what, AtMost(bound), servers.by(measure, ours, other))
    };
    let mut goals = vec![
        is(Memory, 6_144.0),
        is(Broadcast(1), 8.0),
        by(Broadcast(1), Subject::Axum, 0.35),
        by(Broadcast(1), Subject::AxumSelect, 0.35),
        is(Broadcast(20), 1.0),
        by(Handshake, Subject::Axum, 1.0),
    ];
    for size in [32, 1024] {
        goals.push(by(Echo(size), Subject::Axum, 0.9));
        goals.push(by(Echo(size), Subject::RawFastWebSockets, 1.0));
        goals.push(by(PipelinedEcho(size), Subject::Axum, 0.3));
    }
    if let Some(stalled) = &servers.stalled {
        // The limit, what the framing has encoded, and the holes of the allocator.
        let what = "server: bytes that a stalled subscriber adds, limit 256 KiB".to_owned();
        goals.push(Goal::new(what, AtMost(327_680.0), Spread::of([stalled.bytes])));
        let what = "server: p99 of the others / without it".to_owned();
        goals.push(Goal::new(what, AtMost(1.1), Spread::of(stalled.p99.iter().copied())));
    }
    if let Some((sessions, cpu)) = servers.idle {
        let what = format!("server: % of a core for {sessions} idle");
        goals.push(Goal::new(what, AtMost(1.0), Spread::of([cpu * 100.0])));
    }
    if let Some(shutdown) = &servers.shutdown {
        for (what, left) in [
            ("sessions that saw neither 1001 nor 503", shutdown.with_nothing),
            ("sessions left", shutdown.sessions),
            ("descriptors left", shutdown.descriptors),
        ] {
            let what = format!("server: shutdown of 1000, {what}");
            goals.push(Goal::new(what, AtMost(0.0), Spread::of([left as f64])));
        }
    }
    goals
}

/// Against a plain `send().await` of tokio-tungstenite as shipped: by the clock and by CPU time.
fn faster_than_natural_use(compared: &Compared) -> Vec<Option<Goal>> {
    let bounds = [
        (Work::new(Shape::Send, 32), 15.0),
        (Work::new(Shape::EchoSend(256), 32), 8.0),
        (Work::new(Shape::EchoSend(64), 32), 5.0),
        (Work::new(Shape::EchoSliding(256), 32), 8.0),
        (Work::new(Shape::EchoSliding(64), 32), 5.0),
        (Work::new(Shape::Duplex, 32), 8.0),
    ];
    let mut goals = Vec::new();
    for (work, bound) in bounds {
        let Some(raw) = compared.row(work, PLAIN) else { continue };
        for ours in compared.rows.iter().filter(|row| row.work == work && row.who.is_ours) {
            let name = &ours.who.subject;
            // The flood has a goal on this engine only.
            if work.is_flood() && name != "tungstenite" {
                continue;
            }
            let what = format!("{name}: rate of {work} / {PLAIN}");
            goals.push(Goal::new(what, AtLeast(bound), raw.by(ours, |sample| Some(sample.wall))));
            let what = format!("{name}: messages by CPU time, {work} / {PLAIN}");
            goals.push(Goal::new(what, AtLeast(bound), raw.by(ours, |sample| Some(sample.cpu))));
        }
    }
    goals
}

/// Goals of the native codec, against raw TCP and the best other library.
fn ahead_of_every_library(compared: &Compared) -> Vec<Option<Goal>> {
    let by_limit = |work: Work, figure: fn(&Sample) -> Option<f64>| {
        compared.row(work, NATIVE)?.by(compared.row(work, LIMIT)?, figure)
    };
    let rate_by = |work: Work, other: Option<&Row>| {
        other?.by(compared.row(work, NATIVE)?, |sample| Some(sample.wall))
    };
    let ping_pong = Work::PING_PONG;
    let cpu = by_limit(ping_pong, |sample| Some(sample.cpu));
    let p50 = by_limit(ping_pong, |sample| Some(sample.latency?.p50));
    let [small, large] = [32, 1024].map(|size| Work::new(Shape::Receive, size));
    let mut goals = vec![
        Goal::new(format!("{NATIVE}: CPU of a ping-pong / {LIMIT}"), AtMost(1.06), cpu),
        Goal::new(format!("{NATIVE}: p50 of a ping-pong / {LIMIT}"), AtMost(1.1), p50),
        Goal::new(
            format!("{NATIVE}: rate of {small} / {PLAIN}"),
            AtLeast(2.5),
            rate_by(small, compared.row(small, PLAIN)),
        ),
        Goal::new(
            format!("{NATIVE}: rate of {large} / {LIMIT}"),
            AtLeast(0.9),
            rate_by(large, compared.row(large, LIMIT)),
        ),
    ];
    for (window, bound) in [(256, 8.0), (64, 6.0)] {
        let work = Work::new(Shape::EchoSend(window), 32);
        let wall = |row: &&Row| row.spread(|sample| sample.wall).map(|wall| wall.median);
        let best = PEERS
            .iter()
            .filter_map(|peer| compared.row(work, peer))
            .min_by(|one, other| wall(one).partial_cmp(&wall(other)).unwrap_or(Ordering::Equal));
        let peer = best.map_or("its best peer", |row| &row.who.subject);
        let what = format!("{NATIVE}: rate of {work} / {peer}, the best of its peers");
        goals.push(Goal::new(what, AtLeast(bound), rate_by(work, best)));
    }
    goals
}

/// CPU time and latency against the raw library on the same engine.
fn session_overhead(compared: &Compared) -> Vec<Option<Goal>> {
    let cpu = |sample: &Sample| Some(sample.cpu);
    let mut goals = Vec::new();
    for raw in compared.rows.iter().filter(|row| !row.who.is_ours) {
        let beside = |row: &&Row| row.work == raw.work && row.who.is_beside(&raw.who);
        let Some(ours) = compared.rows.iter().find(beside) else { continue };
        let pair = format!("{} / {}", ours.who.subject, raw.who.subject);
        match (raw.work.shape, raw.work.size) {
            (Shape::PingPong, _) => {
                let bound = if raw.who.subject == PLAIN { 0.9 } else { 1.05 };
                let what = format!("{pair}: CPU of a ping-pong");
                goals.push(Goal::new(what, AtMost(bound), ours.by(raw, cpu)));
                let p50 = ours.by(raw, |sample| Some(sample.latency?.p50));
                goals.push(Goal::new(format!("{pair}: p50 of a ping-pong"), AtMost(1.1), p50));
            }
            (Shape::Receive, 32 | 1024) => {
                let is_natural = raw.work.size == 32 && raw.who.subject != SPLIT;
                let bound = if is_natural { 0.93 } else { 0.97 };
                let what = format!("{pair}: messages by CPU time, {}", raw.work);
                goals.push(Goal::new(what, AtLeast(bound), raw.by(ours, cpu)));
            }
            _ => {}
        }
    }
    goals
}

pub(crate) fn table(goals: &[Goal]) -> Table {
    let mut table = Table::new(["goal", "bound", "measured", "holds"]);
    for Goal { what, bound, measured, holds } in goals {
        let bound = match bound {
            AtLeast(bound) => format!("≥ {bound}"),
            AtMost(bound) => format!("≤ {bound}"),
        };
        let digits = if measured.median >= 100.0 { 0 } else { 2 };
        let measured = measured.show(digits);
        let holds = if *holds { "yes" } else { "**no**" };
        table.row([format!("  {what}"), bound, measured, holds.into()]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_goal_holds_by_its_median() {
        let holds = |bound, figures: [f64; 3]| {
            Goal::new(String::new(), bound, Spread::of(figures)).expect("measured").holds
        };
        assert!(holds(AtLeast(8.0), [1.0, 8.0, 9.0]));
        assert!(!holds(AtLeast(8.0), [1.0, 7.9, 90.0]));
        assert!(holds(AtMost(8.0), [1.0, 8.0, 90.0]));
        assert!(!holds(AtMost(8.0), [1.0, 8.1, 9.0]));
        assert!(Goal::new(String::new(), AtMost(1.0), None).is_none());
    }
}
