//! `docs/reference/limitations.md` shows the engines' answers. `UPDATE=1 cargo test --features full --test reports
//! docs` writes the page. The conformance suite tests the answers.
// The page is about every engine.
#![cfg(all(
    feature = "tungstenite",
    feature = "fastwebsockets",
    feature = "async-std",
    feature = "native",
    feature = "native-async-std",
    feature = "native-smol",
    feature = "smol",
    feature = "rustls"
))]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../../engines/deviations.rs"]
mod deviations;

use std::{fmt::Write as _, fs, path::Path, sync::Arc};

use drivetrain::{
    Capability, Requirement, Support,
    engine::{self, Engine},
};
use drivetrain_conformance::Deviation;

/// What an engine stands on: its runtime, and the packages whose versions are of interest.
const BELOW: [(&str, &str, &[&str]); 8] = [
    ("async-std", "async-std", &["async-std", "async-tungstenite", "hyper"]),
    ("fastwebsockets", "tokio", &["fastwebsockets", "reqwest"]),
    ("native", "tokio", &["drivetrain-codec", "reqwest"]),
    ("native-async-std", "async-std", &["async-std", "drivetrain-codec", "hyper"]),
    ("native-smol", "smol", &["smol", "drivetrain-codec", "hyper"]),
    ("reqwest", "tokio", &["reqwest"]),
    ("smol", "smol", &["smol", "async-tungstenite", "hyper"]),
    ("tungstenite", "tokio", &["tokio-tungstenite", "reqwest"]),
];

#[test]
fn the_table_is_what_the_engines_say() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = page(&engine::all(), &fs::read_to_string(root.join("Cargo.lock")).unwrap());
    let path = root.join("docs/reference/limitations.md");
    if std::env::var_os("UPDATE").is_some() {
        fs::write(&path, &page).unwrap();
    }
    let committed = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        committed == page,
        "docs/reference/limitations.md is out of date: run UPDATE=1 cargo test --features full --test reports docs"
    );
}

#[test]
fn every_engine_answers_every_row_and_gives_its_reasons() {
    for engine in engine::all() {
        for &capability in Capability::ALL {
            if let Support::Missing(reason) = engine.support(capability) {
                assert!(reason.len() > 15, "{}: {capability}: {reason}", engine.name());
                assert!(!reason.ends_with('.'), "{}: {capability}: {reason}", engine.name());
            }
        }
    }
}

fn page(engines: &[Arc<dyn Engine>], lock: &str) -> String {
    let mut page = String::from(
        "# Limitations\n\n\
         This table lists the capabilities of each engine with default options. `tests/reports/docs/limitations.rs` \
         compares it with `Engine::support`. The conformance suite tests every cell on every engine, both \
         ways.\n\n\
         A missing *option* fails with `Unsupported` (or has no method) before a byte is sent. A missing \
         *behaviour* (in italics) is observably absent.\n\n",
    );
    table(&mut page, engines, lock);
    reasons(&mut page, engines);
    declared(&mut page, engines);
    page.push_str(OTHERS);
    page
}

fn table(page: &mut String, engines: &[Arc<dyn Engine>], lock: &str) {
    let row = |page: &mut String, first: &str, cells: &mut dyn Iterator<Item = String>| {
        let cells: Vec<_> = cells.collect();
        writeln!(page, "| {first} | {} |", cells.join(" | ")).unwrap();
    };
    row(page, "", &mut engines.iter().map(|engine| format!("`{}`", engine.name())));
    row(page, "---", &mut engines.iter().map(|_| "---".into()));
    let below = |engine: &Arc<dyn Engine>| {
        *BELOW.iter().find(|(name, ..)| *name == engine.name()).expect("an engine in BELOW")
    };
    row(page, "runtime", &mut engines.iter().map(|engine| below(engine).1.into()));
    row(
        page,
        "libraries",
        &mut engines.iter().map(|engine| {
            let versions = below(engine).2.iter().map(|package| version(lock, package));
            versions.collect::<Vec<_>>().join(", ")
        }),
    );
    for &capability in Capability::ALL {
        let name = match capability.requirement() {
            Requirement::Option => capability.name().to_owned(),
            Requirement::Behaviour => format!("*{}*", capability.name()),
        };
        row(
            page,
            &name,
            &mut engines.iter().map(|engine| {
                if engine.support(capability).is_offered() { "yes".into() } else { "no".into() }
            }),
        );
    }
    page.push('\n');
    for &capability in Capability::ALL {
        writeln!(page, "- **{}**: {}", capability.name(), capability.description()).unwrap();
    }
}

fn reasons(page: &mut String, engines: &[Arc<dyn Engine>]) {
    page.push_str("\n## Why a cell is \"no\"\n");
    for engine in engines {
        writeln!(page, "\n### `{}`\n", engine.name()).unwrap();
        let mut any = false;
        // Rows with the same reason stand together.
        let mut grouped: Vec<(String, Vec<&str>)> = Vec::new();
        for &capability in Capability::ALL {
            if let Support::Missing(reason) = engine.support(capability) {
                any = true;
                match grouped.iter_mut().find(|(known, _)| *known == reason) {
                    Some((_, names)) => names.push(capability.name()),
                    None => grouped.push((reason.into_owned(), vec![capability.name()])),
                }
            }
        }
        for (reason, names) in grouped {
            writeln!(page, "- {}: {reason}.", names.join(", ")).unwrap();
        }
        if !any {
            page.push_str("Every cell is \"yes\".\n");
        }
    }
}

/// What the engines' subjects declare.
fn declared(page: &mut String, engines: &[Arc<dyn Engine>]) {
    page.push_str("\n## Deviations\n\n| engine | deviation | reason |\n| --- | --- | --- |\n");
    for deviation in Deviation::ALL {
        let declares =
            |engine: &&Arc<dyn Engine>| deviations::of(engine.name()).contains(deviation);
        let names: Vec<_> =
            engines.iter().filter(declares).map(|engine| format!("`{}`", engine.name())).collect();
        if !names.is_empty() {
            writeln!(page, "| {} | {deviation} | {} |", names.join(", "), why(*deviation)).unwrap();
        }
    }
}

/// Why the engines of this repository do so.
fn why(deviation: Deviation) -> &'static str {
    match deviation {
        Deviation::LargestFrame => "the library reserves the announced size at once",
        unknown => panic!("why is {unknown:?}?"),
    }
}

/// What neither the table's cells nor the suite's deviations can say.
const OTHERS: &str = "\
| `fastwebsockets` | invalid UTF-8 in a text is refused at the end of the frame, not inside it (Autobahn 6.4.3 and 6.4.4 are NON-STRICT) | the library delivers whole frames |
| `fastwebsockets` | the peer's answer to a Close 1002 for reserved bits is not in `outcome().received` | the library refuses the header and discards the rest |
| `fastwebsockets` | a text in one frame must be UTF-8 on a raw session too | the library always checks it |
| `native`, `tungstenite`, `fastwebsockets` | over HTTP/2 (`web_socket_over_http2`) `flush` waits for the connection to take the frames, not for the socket | h2 buffers frames until its task writes them |
| `async-std`, `native-async-std`, `native-smol`, `smol` | HTTP/1.1 only | hyper's HTTP/1.1 over futures-io; HTTP/2 needs its own pool and task |
| `reqwest`, `native`, `tungstenite`, `fastwebsockets` | a request without `Accept` is sent with `Accept: */*` | reqwest adds it and has no switch for it |
| `reqwest`, `native`, `tungstenite`, `fastwebsockets` | beside a `configure` hook, by a preconfigured client, over a Unix socket, and to an HTTP proxy for `http`: an early answer may be lost to a reset behind it, and a server that has answered an upload, and neither reads nor closes, holds the connection for 30 s over TCP on Linux, else as long as it likes (the body is let go after a second) | reqwest owns these connections; its `tcp_user_timeout` ends them |
| `reqwest`, `native`, `tungstenite`, `fastwebsockets` | over HTTP/2 an upload that was answered keeps its stream while the server neither gives it more window nor resets it (the body is let go after a second; other requests have another connection) | hyper waits for the window and asks the body for nothing |
| `reqwest`, `native`, `tungstenite`, `fastwebsockets` | over HTTP/2 a request that is sent just as its connection goes away may wait for 30 s before it is sent again (2 of 340 000 in bursts); beside a `configure` hook and by a preconfigured client it waits for ever | hyper forgets it: a channel of tokio's keeps what is sent while its receiver is dropped |
| `reqwest`, `native`, `tungstenite`, `fastwebsockets` | a preconfigured client keeps its own limits of response heads, and works on the runtime that it was first used on only | the limits and the connections are that client's |
| `reqwest`, `native`, `tungstenite`, `fastwebsockets` | beside a `configure` hook, over a Unix socket, and to an HTTP proxy for `http`, a plain request with a `Host` of its own goes over HTTP/1.1; a preconfigured client sends it over HTTP/2 as a field beside the URL's `:authority` | reqwest derives `:authority` from the URL alone |
| `reqwest`, `native`, `tungstenite`, `fastwebsockets` | a request with a `Host` that is no authority, or names the scheme's own port over `https`, goes over HTTP/1.1 | HTTP/2 has no place for the one; hyper would leave out the port where the server chooses HTTP/1.1 |
| `fastwebsockets` | a session that has read holds about 10 KB, the others 6 KB | the library's read buffer of 8 KiB |
| all | SOCKS4 and SOCKS4a proxies are refused | tokio-socks, which speaks SOCKS5 over any stream, has them for TCP alone |

async-std itself is discontinued (RUSTSEC-2025-0052). `smol` and `native-smol` are the same engines on a maintained
runtime.
";

/// `package version`, as the lock file has it.
fn version(lock: &str, package: &str) -> String {
    let entry = format!("name = \"{package}\"\nversion = \"");
    // The newest, which is ours: an older one is what a crate of the benches stands on.
    let at = lock.rfind(&entry).unwrap_or_else(|| panic!("{package} is not in Cargo.lock"));
    let version = lock[at + entry.len()..].split('"').next().unwrap();
    format!("{package} {version}")
}
