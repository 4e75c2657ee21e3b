//! Servers of Ktor, Go and Java: every route on every engine.
//!
//! Their programs are looked for in the folder that `DRIVETRAIN_PEERS` names: `ktor/ktor-peer.jar` and
//! `java/java-peer.jar`, which need Java, and `go/go-peer`. What is not there is printed, and its trials count as
//! ignored, never as passed; without the variable, all are. The same goes for a fault of a server's own, whose reason
//! stands in the trial's line.
//!
//! `DRIVETRAIN_PEERS=.. cargo test --features full --test foreign -- jetty::native` runs one server on one engine. A trial is named
//! `server::engine::behaviour`; a server starts with the first of its trials and stops with the last.
//!
//! A trial that fails while its server dies is run once more, on a new process; `died` and `again` begin the lines that
//! say so. Against a server that lives, a failure is a failure.
#![cfg_attr(not(feature = "full"), allow(dead_code, reason = "there may be no engine to test"))]
#![allow(clippy::print_stdout, reason = "a program of the test suite reports")]

mod answers;
#[path = "../engines.rs"]
#[allow(dead_code, reason = "some of it is the other program's")]
mod engines;
mod faults;
mod http2;
mod pages;
mod pings;
mod server;
mod site;
mod sockets;

use std::{process::ExitCode, sync::Arc, thread};

use drivetrain::{Capability, engine};
use libtest_mimic::{Arguments, Trial};

use server::{Program, Server};
use site::Scenario;

/// The servers of one program, and what is asked of each.
struct Group {
    program: Program,
    servers: &'static [&'static str],
    scenarios: &'static [&'static [Scenario]],
}

const GROUPS: &[Group] = &[
    Group {
        program: Program::Ktor,
        servers: &["netty", "cio"],
        scenarios: &[sockets::EVERY, sockets::RAW, pings::EVERY, pages::EVERY],
    },
    Group {
        program: Program::Go,
        servers: &["gorilla", "coder", "gobwas", "gws", "nbio", "fasthttp", "xnet"],
        scenarios: &[sockets::EVERY, sockets::RAW, sockets::GO, pings::EVERY, pages::EVERY],
    },
    Group {
        program: Program::Java,
        servers: &["jetty", "tomcat", "undertow", "vertx", "netty"],
        scenarios: &[
            sockets::EVERY,
            sockets::RAW,
            sockets::JAVA,
            sockets::LIMITED,
            pings::EVERY,
            pages::EVERY,
            pages::JAVA,
        ],
    },
    Group {
        program: Program::Java,
        servers: &["javaws"],
        scenarios: &[sockets::EVERY, sockets::JAVA, pings::EVERY],
    },
    Group {
        program: Program::GoHttp,
        servers: &["net_http"],
        scenarios: &[answers::EVERY, http2::EVERY, http2::OVER_HTTP2, http2::PROXY],
    },
];

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    // Most of them wait most of the time.
    arguments.test_threads.get_or_insert(4 * thread::available_parallelism().map_or(1, Into::into));
    let engines: Vec<_> = engine::all()
        .into_iter()
        .filter(|engine| engine.support(Capability::WebSockets).is_offered())
        .map(|engine| engine.name().to_owned())
        .collect();
    let servers: Vec<_> = GROUPS.iter().flat_map(servers).collect();
    let missing: Vec<_> = servers
        .iter()
        .filter_map(|(_, server)| server.missing().map(|why| (server, why)))
        .collect();
    if !arguments.list {
        for (server, why) in &missing {
            println!("skipped: {server}: {why}");
        }
        println!("{} of {} servers are skipped", missing.len(), servers.len());
    }
    let trials =
        servers.iter().flat_map(|(group, server)| trials(group, server, &engines)).collect();
    // A server is its trials' alone, and stops with the last of them.
    drop(missing);
    drop(servers);
    libtest_mimic::run(&arguments, trials).exit_code()
}

fn servers(group: &'static Group) -> impl Iterator<Item = (&'static Group, Arc<Server>)> {
    group.servers.iter().map(move |name| (group, Arc::new(Server::new(group.program, name))))
}

fn trials(group: &'static Group, server: &Arc<Server>, engines: &[String]) -> Vec<Trial> {
    let mut trials = Vec::new();
    for engine in engines {
        for &scenario in group.scenarios.iter().copied().flatten() {
            trials.push(trial(Arc::clone(server), engine.clone(), scenario));
        }
    }
    trials
}

fn trial(server: Arc<Server>, engine: String, scenario: Scenario) -> Trial {
    let name = format!("{}::{engine}::{}", server.name(), scenario.0);
    let fault = faults::of(server.name(), scenario.0);
    let missing = server.missing();
    let trial = Trial::test(name, move || Ok(site::run(&server, &engine, scenario)?));
    match (missing, fault) {
        (Some(_), _) => trial.with_ignored_flag(true),
        (None, Some(why)) => trial.with_ignored_flag(true).with_kind(why),
        (None, None) => trial,
    }
}
