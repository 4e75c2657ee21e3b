//! `docs/limitations.md` says what the engines say. `UPDATE=1 cargo test --features full --test
//! limitations` writes it anew; that each answer is true is tested by the conformance suite.
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

use std::{fmt::Write as _, fs, path::Path, sync::Arc};

use drivetrain::{
    Capability, Requirement, Support,
    engine::{self, Engine},
};

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
    let path = root.join("docs/limitations.md");
    if std::env::var_os("UPDATE").is_some() {
        fs::write(&path, &page).unwrap();
    }
    let committed = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        committed == page,
        "docs/limitations.md is out of date: run UPDATE=1 cargo test --features full --test limitations"
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
         What each engine offers, with its default options. Written from `Engine::support` and compared \
         with it by `tests/limitations.rs`; the conformance suite tests every cell on every engine, both \
         ways.\n\n\
         A missing *option* is refused with `Unsupported` (or has no method) before a byte is sent; a \
         missing *behaviour* is observably absent.\n\n",
    );
    table(&mut page, engines, lock);
    reasons(&mut page, engines);
    page.push_str(DEVIATIONS);
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

/// What the table's cells cannot say.
const DEVIATIONS: &str = "
## Deviations

| engine | what | why |
| --- | --- | --- |
| `async-std`, `fastwebsockets`, `smol`, `tungstenite` | a text message that is not UTF-8 is refused when the frame is complete, not within it (Autobahn 6.4.3 and 6.4.4 are NON-STRICT) | frames are handed over whole |
| `fastwebsockets` | a frame above 1 GiB is `TooBig` whatever the limit | the library reserves the announced size at once |
| `fastwebsockets` | the peer's answer to a Close 1002 for reserved bits is not in `outcome().received` | the library refuses the header, and what follows is thrown away |
| `fastwebsockets` | a text in one frame must be UTF-8 on a raw session too | the library checks it, and cannot be told not to |
| `native`, `tungstenite`, `fastwebsockets` | over HTTP/2 (`web_socket_over_http2`) `flush` waits for the connection to take the frames, not for the socket | hyper hands over what is written by a channel |
| `async-std`, `native-async-std`, `native-smol`, `smol` | HTTP/1.1 only | hyper's HTTP/1.1 over futures-io; HTTP/2 needs a pool and a task of its own |
| `reqwest`, `native`, `tungstenite`, `fastwebsockets` | a request without `Accept` is sent with `Accept: */*` | reqwest adds it and has no switch for it |

Discontinued below: async-std itself (RUSTSEC-2025-0052). `smol` and `native-smol` are the same engines on a
runtime that is maintained.
";

/// `package version`, as the lock file has it.
fn version(lock: &str, package: &str) -> String {
    let entry = format!("name = \"{package}\"\nversion = \"");
    let at = lock.find(&entry).unwrap_or_else(|| panic!("{package} is not in Cargo.lock"));
    let version = lock[at + entry.len()..].split('"').next().unwrap();
    format!("{package} {version}")
}
