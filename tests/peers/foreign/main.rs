//! Servers of Ktor, Go and Java: every route on every engine. Their clients: every check on every framing of the server.
//!
//! Their programs are looked for in the folder that `DRIVETRAIN_PEERS` names: `ktor/ktor-peer.jar` and
//! `java/java-peer.jar`, which need Java, and `go/go-peer`. What is not there is printed, and its trials count as
//! ignored, never as passed; without the variable, all are.
//!
//! `DRIVETRAIN_PEERS=.. cargo test --features full --test foreign -- jetty::native` runs one server on one engine. A trial is named
//! `server::engine::behaviour`, with `h2c`, `tls` or `reverse` before the behaviour where the server is asked in another
//! way. A server starts with the first of its trials and stops with the last. `clients::framing::library` is a client of
//! theirs against our server. A trial `readme::program` compares the routes that the program's README names with those of
//! the scenarios.
//!
//! A fault of a server's own stands in `faults.rs`, and in the trial's line: the trial passes if it shows just that fault.
//!
//! A trial that fails while its server dies is run once more, on a new process; `died` and `again` begin the lines that
//! say so. Against a server that lives, a failure is a failure.
#![cfg_attr(not(feature = "full"), allow(dead_code, reason = "there may be no engine to test"))]
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a program of the test suite reports"
)]

mod answers;
mod bytes;
mod clients;
#[path = "../engines.rs"]
#[allow(dead_code, reason = "some of it is the other program's")]
mod engines;
mod faults;
mod http2;
mod pages;
mod pings;
mod routes;
mod server;
mod site;
mod sockets;

use std::{process::ExitCode, sync::Arc, thread};

use drivetrain::{Capability, engine, engine::Engine};
use libtest_mimic::{Arguments, Trial};

use engines::Options;
use faults::Fault;
use server::{Program, Server};
use site::{Ending, Place, Scenario, Verdict};

/// The servers of one program that have the same routes, and what is asked of each.
struct Group {
    program: Program,
    servers: &'static [&'static str],
    lists: &'static [(Place, &'static [&'static [Scenario]])],
}

const PROGRAMS: &[Program] = &[Program::Ktor, Program::Go, Program::GoHttp, Program::Java];

/// What every server of WebSockets has.
const SOCKETS: &[&[Scenario]] = &[sockets::EVERY, sockets::RAW, pings::EVERY];

const GROUPS: &[Group] = &[
    Group {
        program: Program::Ktor,
        servers: &["netty", "cio"],
        lists: &[(Place::Plain, SOCKETS), (Place::Plain, &[sockets::CONTROL, pages::EVERY])],
    },
    Group {
        program: Program::Go,
        servers: &["nbio", "xnet"],
        lists: &[(Place::Plain, SOCKETS), (Place::Plain, &[sockets::GO, pages::EVERY])],
    },
    Group {
        program: Program::Go,
        servers: &["gobwas"],
        lists: &[
            (Place::Plain, SOCKETS),
            (Place::Plain, &[sockets::CONTROL, sockets::GO, pages::EVERY]),
        ],
    },
    Group {
        program: Program::Go,
        servers: &["gorilla"],
        lists: &[
            (Place::Plain, SOCKETS),
            (Place::Plain, &[sockets::GO, pages::EVERY, sockets::GORILLA, sockets::PREPARED]),
        ],
    },
    Group {
        program: Program::Go,
        servers: &["fasthttp"],
        lists: &[
            (Place::Plain, SOCKETS),
            (Place::Plain, &[sockets::GO, pages::EVERY, sockets::GORILLA]),
        ],
    },
    Group {
        program: Program::Go,
        servers: &["coder"],
        lists: &[
            (Place::Plain, SOCKETS),
            (Place::Plain, &[sockets::GO, pages::EVERY, sockets::TAKEOVER]),
        ],
    },
    Group {
        program: Program::Go,
        servers: &["gws"],
        lists: &[
            (Place::Plain, SOCKETS),
            (Place::Plain, &[sockets::GO, pages::EVERY, sockets::TAKEOVER, sockets::WINDOW]),
        ],
    },
    Group {
        program: Program::Java,
        servers: &["jetty"],
        lists: &[
            (Place::Plain, SOCKETS),
            (Place::Plain, &[sockets::JAVA, sockets::LIMITED, pages::EVERY, pages::JAVA]),
            // It alone has RFC 8441.
            (Place::ClearHttp2, &[sockets::EVERY, sockets::RAW, sockets::JAVA, sockets::LIMITED]),
            (Place::ClearHttp2, &[pages::EVERY, pages::JAVA]),
        ],
    },
    Group {
        program: Program::Java,
        servers: &["tomcat", "undertow"],
        lists: &[
            (Place::Plain, SOCKETS),
            (Place::Plain, &[sockets::JAVA, sockets::LIMITED, pages::EVERY, pages::JAVA]),
            (Place::ClearHttp2, &[pages::PAGES, pages::JAVA]),
        ],
    },
    Group {
        program: Program::Java,
        servers: &["vertx"],
        lists: &[
            (Place::Plain, SOCKETS),
            (Place::Plain, &[sockets::JAVA, pages::EVERY, pages::JAVA]),
            (Place::ClearHttp2, &[pages::PAGES, pages::JAVA]),
        ],
    },
    Group {
        program: Program::Java,
        servers: &["netty"],
        lists: &[
            (Place::Plain, SOCKETS),
            (Place::Plain, &[sockets::JAVA, sockets::LIMITED, pages::EVERY, pages::JAVA]),
        ],
    },
    Group {
        program: Program::Java,
        servers: &["javaws"],
        lists: &[(Place::Plain, SOCKETS), (Place::Plain, &[sockets::JAVA, pages::COOKIE_ECHO])],
    },
    Group {
        program: Program::GoHttp,
        servers: &["net_http"],
        lists: &[
            (Place::Plain, &[answers::EVERY, answers::DIRECT, answers::PLAIN, bytes::EVERY]),
            (Place::Tls, &[answers::EVERY, answers::DIRECT]),
            (Place::Tls, &[http2::EVERY, http2::OVER_HTTP2, http2::PROXY]),
            (Place::Reverse, &[answers::EVERY]),
        ],
    },
];

fn main() -> ExitCode {
    if let Some(served) = clients::serve_if_asked() {
        return served;
    }
    let mut arguments = Arguments::from_args();
    // Most of them wait most of the time.
    arguments.test_threads.get_or_insert(4 * thread::available_parallelism().map_or(1, Into::into));
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
    let mut trials: Vec<_> =
        servers.iter().flat_map(|(group, server)| trials(group, server)).collect();
    trials.extend(clients::trials());
    trials.extend(PROGRAMS.iter().map(|&program| readme(program, &servers)));
    // A server is its trials' alone, and stops with the last of them.
    drop(missing);
    drop(servers);
    libtest_mimic::run(&arguments, trials).exit_code()
}

fn servers(group: &'static Group) -> impl Iterator<Item = (&'static Group, Arc<Server>)> {
    group.servers.iter().map(move |name| (group, Arc::new(Server::new(group.program, name))))
}

impl Group {
    fn scenarios(&self) -> impl Iterator<Item = (Place, Scenario)> + '_ {
        self.lists.iter().flat_map(|(place, lists)| {
            lists.iter().copied().flatten().map(|scenario| (*place, *scenario))
        })
    }
}

fn trials(group: &'static Group, server: &Arc<Server>) -> Vec<Trial> {
    let mut trials = Vec::new();
    for engine in engine::all() {
        for (place, scenario) in group.scenarios() {
            if can(&*engine, place, scenario) {
                let name = engine.name().to_owned();
                trials.push(trial(Arc::clone(server), name, place, scenario));
            }
        }
    }
    trials
}

/// Whether the engine has what the scenario is about.
fn can(engine: &dyn Engine, place: Place, scenario: Scenario) -> bool {
    let needs = match (place, scenario.needs_web_sockets()) {
        (Place::ClearHttp2, true) => Capability::WebSocketOverHttp2,
        (Place::ClearHttp2, false) => Capability::Http2,
        (_, true) => Capability::WebSockets,
        (_, false) => Capability::Http1,
    };
    match place {
        Place::ClearHttp2 => engines::engine(engine.name(), &Options::default().prior_knowledge())
            .is_some_and(|engine| engine.support(needs).is_offered()),
        _ => engine.support(needs).is_offered(),
    }
}

fn trial(server: Arc<Server>, engine: String, place: Place, scenario: Scenario) -> Trial {
    let behaviour = format!("{}{}", place.prefix(), scenario.name);
    let name = format!("{}::{engine}::{behaviour}", server.name());
    let shown = name.clone();
    let fault = faults::of(server.name(), &behaviour);
    let missing = server.missing();
    let trial = Trial::test(name, move || {
        let Ending { verdict, is_lacking } = site::run(&server, &engine, place, scenario);
        Ok(judged(&shown, fault, verdict, is_lacking)?)
    });
    let trial = match fault {
        Some(fault) => trial.with_kind(fault.why),
        None => trial,
    };
    let is_by_chance = fault.is_some_and(|fault| fault.shows.is_none());
    trial.with_ignored_flag(missing.is_some() || is_by_chance)
}

/// Passes what shows the fault that it has to show.
fn judged(name: &str, fault: Option<&Fault>, verdict: Verdict, is_lacking: bool) -> Verdict {
    let Some(fault) = fault else { return verdict };
    let shows = fault.shows.unwrap_or_default();
    match verdict {
        Err(error) if error.to_string().contains(shows) => {
            println!("fault: {name}: {error}");
            Ok(())
        }
        Err(error) => Err(format!("`{shows}` was expected: {error}").into()),
        Ok(()) if is_lacking => Ok(()),
        Ok(()) => Err(format!("the server's fault is gone: {}", fault.why).into()),
    }
}

/// Each route of a program's README has a scenario on each of its servers.
fn readme(program: Program, servers: &[(&'static Group, Arc<Server>)]) -> Trial {
    let of_program = servers.iter().filter(|(_, server)| server.program() == program);
    let declared: Vec<_> = of_program
        .map(|(group, server)| {
            let scenarios = group.scenarios().map(|(_, scenario)| scenario).collect();
            (server.name().to_owned(), scenarios)
        })
        .collect();
    let name = format!("readme::{program:?}").to_lowercase();
    Trial::test(name, move || Ok(routes::check(program, &declared)?))
        .with_ignored_flag(routes::readme(program).is_none())
}
