//! What the docs say of the code: defaults, features, versions, and an example that is run.
#![cfg(all(feature = "full", feature = "testing"))]
#![allow(clippy::print_stdout, reason = "the page's example prints what it receives")]

#[allow(clippy::unwrap_used, reason = "as a page shows it")]
mod examples;
mod hostile;
mod ktor_server;
mod limitations;
mod options_page;
mod pages;
mod server_limitations;
mod whole_example;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::OnceLock,
};

use drivetrain::{
    Capability, HttpClient, HttpTimeout, Redirects, SetBy, WebSockets,
    engine::{self, Limits},
    extension::PermessageDeflate,
    reconnect::Backoff,
    sse::Reconnect,
    testing::{MockEngine, Script},
};
use drivetrain_engine::HeadLimits;
use drivetrain_session::{OPTIONS, SessionOption};

pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: impl AsRef<Path>) -> String {
    fs::read_to_string(root().join(&path)).unwrap_or_else(|_| panic!("{}", path.as_ref().display()))
}

/// The files below a directory whose name ends like this.
fn files(below: &Path, end: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(below).expect("a directory") {
        let path = entry.expect("an entry").path();
        match path.is_dir() {
            true if !path.ends_with("target") => found.extend(files(&path, end)),
            false if path.to_string_lossy().ends_with(end) => found.push(path),
            _ => {}
        }
    }
    found
}

fn pages() -> Vec<PathBuf> {
    let mut pages = files(&root().join("docs"), ".md");
    pages.push(root().join("README.md"));
    pages
}

/// What the doc comments of the functions of this name say of the default, each with its file.
fn documented(name: &str) -> Vec<(String, String)> {
    static SOURCES: OnceLock<Vec<(String, String)>> = OnceLock::new();
    let sources = SOURCES.get_or_init(|| {
        let paths = ["src", "core", "engines"].map(|below| files(&root().join(below), ".rs"));
        let text = |path: &PathBuf| fs::read_to_string(path).expect("UTF-8");
        paths.concat().iter().map(|path| (path.display().to_string(), text(path))).collect()
    });
    let mut found = Vec::new();
    for (path, text) in sources {
        let lines: Vec<_> = text.lines().map(str::trim).collect();
        let is_it = |line: &str| {
            line.strip_prefix("pub fn ")
                .and_then(|line| line.strip_prefix(name))
                .is_some_and(|rest| rest.starts_with(['(', '<']))
        };
        for at in (0..lines.len()).filter(|&at| is_it(lines[at])) {
            let above = lines[..at].iter().rev();
            let mut doc: Vec<_> = above
                .take_while(|line| line.starts_with("///") || line.starts_with("#["))
                .filter_map(|line| line.strip_prefix("///"))
                .map(str::trim)
                .collect();
            doc.reverse();
            if let Some((_, default)) = doc.join(" ").split_once("Default: ") {
                let clause = default.split(['.', ',', ';', ':']).next().unwrap_or_default();
                found.push((path.clone(), clause.to_owned()));
            }
        }
    }
    found
}

/// Both as one spelling: `16 MiB` and `16777216 bytes`, `5 s` and `5s`, `none` and `off`.
fn spelled(value: &str) -> String {
    let value =
        value.trim().trim_start_matches("at most ").trim_end_matches(" bytes").to_lowercase();
    let value = value.strip_prefix("some(").and_then(|it| it.strip_suffix(')')).unwrap_or(&value);
    let is_none = ["none", "off", "no ", "not set", "false"].iter().any(|it| value.starts_with(it));
    if is_none {
        return "none".into();
    }
    if value == "twice the interval" {
        return "2 × interval".into();
    }
    match value.split_once(' ') {
        Some((number, unit)) => match (number.parse::<f64>(), unit) {
            (Ok(number), "kib") => format!("{}", number * 1024.0),
            (Ok(number), "mib") => format!("{}", number * 1024.0 * 1024.0),
            (Ok(number), "min") => format!("{}s", number * 60.0),
            (Ok(_), "s" | "ms") => format!("{number}{unit}"),
            _ => value.to_owned(),
        },
        None => value.parse::<f64>().map_or(value.to_owned(), |number| number.to_string()),
    }
}

/// Compares the code's default with each place that says it; how many those are.
#[track_caller]
fn compare(name: &str, value: &str, only_in: &str) -> usize {
    let places = documented(name).into_iter().filter(|(file, _)| file.contains(only_in));
    // An engine's option beside the plugin's has no default of its own, and a link is followed by rustdoc.
    let places: Vec<_> =
        places.filter(|(_, says)| *says != "not set" && !says.starts_with('[')).collect();
    for (file, says) in &places {
        assert_eq!(spelled(says), spelled(value), "{name} in {file}: `{says}` and not `{value}`");
    }
    places.len()
}

/// `settings()` has the values in force: the documentation of whatever sets one says the same.
#[test]
fn defaults_are_documented_as_they_are() {
    let compared = [
        "converter",
        "read_buffer_size",
        "write_buffer_size",
        "redirects",
        "cookie_jar",
        "on_unauthorized",
        "max_response_size",
        "proxy",
        "unix_socket",
    ];
    let mut places = BTreeMap::new();
    for engine in engine::all() {
        let client = HttpClient::builder(engine).build().expect("a client");
        for setting in client.settings().iter().filter(|it| it.set_by == SetBy::Default) {
            let name = compared.iter().find(|name| **name == setting.name);
            if let Some(name) = name {
                places.insert((*name).to_owned(), compare(name, &setting.value, ""));
            }
            let limit = setting.name.strip_suffix("_timeout");
            if let Some(limit @ ("connect" | "request" | "socket")) = limit {
                places.insert(limit.to_owned(), compare(limit, &setting.value, "http_timeout.rs"));
            }
        }
    }
    for name in compared {
        assert!(places.get(name).is_some_and(|places| *places > 0), "{name} is not documented");
    }
    assert!(places["read_buffer_size"] >= 2, "each framing that has one documents it: {places:?}");
}

/// The rustdoc of a session's options has the words of their table: they are the values in force, and these those of
/// the engines' contract.
#[test]
fn the_table_of_options_has_the_defaults_in_force() {
    let client = HttpClient::builder(MockEngine::new()).build().expect("a client");
    let settings = client.settings();
    for SessionOption { name, default, .. } in OPTIONS {
        let setting = settings.get(name).expect(name);
        assert_eq!(spelled(default), spelled(&setting.value), "{name}");
    }
    let Limits { max_frame_size, max_message_size } = Limits::default();
    for (name, bytes) in
        [("max_frame_size", max_frame_size), ("max_message_size", max_message_size)]
    {
        assert_eq!(settings.get(name).expect(name).value, format!("{bytes} bytes"));
    }
}

/// The same for what is no setting of a client: `Debug` shows the fields, which are called as what sets them.
#[test]
fn defaults_of_policies_are_documented_as_they_are() {
    let client = HttpClient::builder(MockEngine::new()).build().expect("a client");
    let mut places = 0;
    for (file, shown) in [
        ("sse/reconnect.rs", format!("{:?}", Reconnect::new())),
        ("sse/request.rs", format!("{:?}", client.sse("http://example.com/"))),
        ("reconnect/backoff.rs", format!("{:?}", Backoff::new())),
        ("pipeline/redirect.rs", format!("{:?}", Redirects::new())),
        ("session/src/deflate.rs", format!("{:?}", PermessageDeflate::new())),
        ("http_timeout.rs", format!("{:?}", HttpTimeout::new())),
    ] {
        let inner = shown.split_once('{').map_or("", |(_, inner)| inner);
        for field in inner.split([',', '{', '}']) {
            let field = field.trim().split_once(": ");
            // What a switch does is told in words.
            if let Some((name, value)) =
                field.filter(|(_, value)| !["true", "false"].contains(value))
            {
                places += compare(name, value, file);
            }
        }
    }
    assert!(places >= 10, "{places}");
    let Limits { max_frame_size, max_message_size } = Limits::default();
    let HeadLimits { max_headers, max_header_size, .. } = HeadLimits::default();
    for (file, field, value) in [
        ("handshake", "max_frame_size", max_frame_size),
        ("handshake", "max_message_size", max_message_size),
        ("head_limits", "max_headers", max_headers),
        ("head_limits", "max_header_size", max_header_size),
    ] {
        let text = read(format!("core/engine/src/{file}.rs"));
        let (before, _) = text.split_once(&format!("pub {field}: usize")).expect("a field");
        let (_, says) = before.rsplit_once("Default: ").expect("a default");
        assert_eq!(spelled(says.split('.').next().expect("a clause")), value.to_string());
    }
}

/// The rows of a table of features: the names in the first cell, and whether the last says that they are on.
fn features_of(page: &str) -> BTreeMap<String, bool> {
    let rows = page.lines().map(|line| line.trim_start_matches("//!").trim());
    let rows = rows.skip_while(|line| !line.starts_with("| feature |")).skip(2);
    let mut features = BTreeMap::new();
    for row in rows.take_while(|line| line.starts_with('|')) {
        let cells: Vec<_> = row.trim_matches('|').split(" |").map(str::trim).collect();
        let default = cells.last().copied().unwrap_or_default();
        for name in cells[0].split('`').skip(1).step_by(2) {
            let is_default = default == "yes" || default.contains(&format!("`{name}`"));
            features.insert(name.to_owned(), is_default);
        }
    }
    features
}

#[test]
fn the_tables_of_features_are_those_of_the_manifest() {
    let manifest = read("Cargo.toml");
    let (_, section) = manifest.split_once("[features]\n").expect("features");
    let (section, _) = section.split_once("\n[").expect("an end");
    let declared: BTreeMap<_, _> =
        section.lines().filter_map(|line| line.split_once(" = ")).collect();
    // What is on by default, and what that brings along.
    let mut is_on: BTreeSet<&str> = BTreeSet::from(["default"]);
    while let Some(more) = is_on
        .iter()
        .filter_map(|name| declared.get(name))
        .flat_map(|brings| brings.split('"').skip(1).step_by(2))
        .find(|name| declared.contains_key(name) && !is_on.contains(name))
    {
        is_on.insert(more);
    }
    for page in ["README.md", "src/lib.rs"] {
        let listed = features_of(&read(page));
        for name in declared.keys().filter(|name| **name != "default") {
            let default = listed.get(*name);
            assert!(default.is_some(), "{page} does not list the feature `{name}`");
            // It comes along with the engines, which one table says and the other marks.
            if *name != "reqwest" {
                assert_eq!(default, Some(&is_on.contains(name)), "{page}: {name}");
            }
        }
        for name in listed.keys() {
            assert!(declared.contains_key(name.as_str()), "{page}: there is no feature `{name}`");
        }
    }
}

/// An engine's feature is called as the engine, and each page that lists engines lists all.
#[test]
fn the_lists_of_engines_have_all_of_them() {
    let all = engine::all();
    for page in ["README.md", "docs/how-to/coming-from-ktor.md", "src/lib.rs"] {
        let text = read(page);
        for engine in &all {
            assert!(text.contains(&format!("`{}`", engine.name())), "{page}: {}", engine.name());
        }
    }
}

/// No registry has a version yet: what a page tells to depend on is the repository.
#[test]
fn pages_name_what_a_manifest_can_have() {
    let manifest = read("Cargo.toml");
    let (_, repository) = manifest.split_once("repository = \"").expect("a repository");
    let (repository, _) = repository.split_once('"').expect("an end");
    let mut lines = 0;
    for page in pages() {
        for line in fs::read_to_string(&page).expect("UTF-8").lines() {
            let is_ours = line.starts_with("drivetrain") && line.contains(" = ");
            if is_ours {
                lines += 1;
                assert!(line.contains(&format!("git = \"{repository}\"")), "{page:?}: {line}");
            }
        }
    }
    assert!(lines >= 4, "{lines}");
}

/// One place says when the first ping comes; what is true of it is tested in virtual time.
#[test]
fn when_the_first_ping_comes_is_said_once() {
    for page in pages() {
        let text = fs::read_to_string(&page).expect("UTF-8");
        assert!(!text.contains("half an interval"), "{page:?}");
    }
    let interval = OPTIONS.iter().find(|option| option.name == "ping_interval");
    assert!(
        interval.is_some_and(|it| it.doc.contains("up to seven eighths of the interval early"))
    );
}

/// The page's example is the one that is run below.
#[test]
fn the_whole_example_is_the_pages() {
    let example = read("tests/reports/docs/whole_example.rs");
    let (_, example) = example.split_once("pub(crate) async fn chat").expect("the example");
    let page = read("docs/how-to/ktor-loop.md");
    assert!(page.contains(&format!("async fn chat{example}")), "the page has another");
}

/// In a process of its own, whose input has ended: not one message is sent, and the session is closed.
#[test]
fn the_whole_example_ends_with_its_input() {
    const CHILD: &str = "DRIVETRAIN_WHOLE_EXAMPLE";
    const NAME: &str = "docs::the_whole_example_ends_with_its_input";
    if std::env::var_os(CHILD).is_some() {
        let mock = MockEngine::new();
        let script = Script::new().send("who is there?").expect_close();
        mock.web_socket("/chat").script(script);
        let client = HttpClient::builder(mock.clone()).install(WebSockets::new()).build();
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        runtime.block_on(whole_example::chat(client.expect("a client"))).expect("it ends well");
        mock.assert_done();
        return;
    }
    assert!(engine::all().iter().any(|it| it.support(Capability::WebSockets).is_offered()));
    let test = std::env::current_exe().expect("this program");
    let child = Command::new(test)
        .args([NAME, "--exact", "--nocapture"])
        .env(CHILD, "1")
        .stdin(Stdio::null())
        .output()
        .expect("a process");
    let printed = String::from_utf8_lossy(&child.stdout);
    assert!(child.status.success(), "{printed}\n{}", String::from_utf8_lossy(&child.stderr));
    assert!(printed.contains("who is there?"), "{printed}");
}
