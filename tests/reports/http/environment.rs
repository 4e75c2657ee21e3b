//! Proxies of the environment, in programs of their own: a process has one environment.
#![cfg(feature = "full")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    env,
    process::Command,
    sync::{Arc, Mutex},
};

use drivetrain::{
    Capability, ErrorKind, HttpClient, Proxies, WebSockets, engine, testing::MockEngine,
};
use drivetrain_conformance::peer::Server;
use tracing::{
    Event, Metadata, Subscriber,
    field::{Field, Visit},
    span,
};

const SECRET: &str = "s3cr3t";
/// Says to this program that it is the child, and what it has to see.
const EXPECTED: &str = "DRIVETRAIN_TEST_EXPECTED";
const TARGET: &str = "DRIVETRAIN_TEST_TARGET";

fn child(expected: &str, target: &str, variables: &[(&str, &str)]) {
    let mut command = Command::new(env::current_exe().unwrap());
    for name in ["ALL_PROXY", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "REQUEST_METHOD"] {
        command.env_remove(name).env_remove(name.to_ascii_lowercase());
    }
    command.args(["--exact", "http::environment::what_a_child_sees", "--nocapture"]);
    command.envs(variables.iter().copied()).env(EXPECTED, expected).env(TARGET, target);
    let output = command.output().unwrap();
    let printed = String::from_utf8_lossy(&output.stderr);
    let seen = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && seen.contains("1 passed"), "{variables:?}: {printed}{seen}");
}

#[test]
fn what_cannot_be_used_fails_requests_and_not_the_build() {
    let target = Server::start(|conn| {
        conn.read_request()?;
        conn.respond(200, &[("connection", "close")], "direct")
    });
    for (name, value) in [
        ("ALL_PROXY", "socks4://u:s3cr3t@127.0.0.1:1"),
        ("all_proxy", "socks4a://127.0.0.1:1"),
        ("http_proxy", "ftp://u:s3cr3t@127.0.0.1:1"),
        ("HTTP_PROXY", "127.0.0.1:s3cr3t"),
    ] {
        child("fails", &target.http_url("/"), &[(name, value)]);
        // Where it is not asked for, it does not matter.
        child("works", &target.http_url("/"), &[(name, value), ("NO_PROXY", "[, 127.0.0.0/8")]);
    }
    assert!(target.requests() > 0);
}

#[test]
fn what_desktops_export_is_used() {
    let proxy = Server::start(|conn| {
        let Some(request) = conn.read_request()? else { return Ok(()) };
        let is_absolute = request.target.starts_with("http://target.example/");
        conn.respond(if is_absolute { 200 } else { 500 }, &[("connection", "close")], "")
    });
    let address = proxy.http_url("");
    let address = address.trim_start_matches("http://").trim_end_matches('/');
    for value in [address.to_owned(), format!("{address}/"), format!("HTTP://u:p^{{}}@{address}/x")]
    {
        child("works", "http://target.example/", &[("all_proxy", &value)]);
    }
    assert!(proxy.requests() > 0);
}

#[test]
fn what_the_engine_cannot_do_fails_requests_and_not_the_build() {
    child("unsupported", "http://target.example/", &[("ALL_PROXY", "socks://127.0.0.1:1080/")]);
}

/// The child; nothing to see for anybody else.
#[test]
fn what_a_child_sees() {
    let (Ok(expected), Ok(target)) = (env::var(EXPECTED), env::var(TARGET)) else { return };
    let told = Warnings::default();
    tracing::subscriber::set_global_default(told.clone()).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    if expected == "unsupported" {
        let mock = MockEngine::new().missing(Capability::SocksProxies, "it is a test");
        let client = HttpClient::builder(mock).proxy(Proxies::from_env()).build().unwrap();
        return runtime.block_on(fails(&client, &target, ErrorKind::Unsupported, &told));
    }
    for engine in engine::all() {
        let has_web_sockets = engine.support(Capability::WebSockets).is_offered();
        let builder = HttpClient::builder(engine).proxy(Proxies::from_env());
        let client = match has_web_sockets {
            true => builder.install(WebSockets::new()).build().unwrap(),
            false => builder.build().unwrap(),
        };
        runtime.block_on(async {
            if expected == "works" {
                let response = client.get(&target).send().await.unwrap();
                assert_eq!(response.status(), 200);
                return;
            }
            let kind = if env::var("http_proxy").is_ok() || env::var("HTTP_PROXY").is_ok() {
                ErrorKind::InvalidInput
            } else {
                ErrorKind::Unsupported
            };
            fails(&client, &target, kind, &told).await;
            if has_web_sockets {
                let url = target.replace("http://", "ws://");
                let error = client.web_socket(url).connect().await.unwrap_err();
                assert_eq!(error.kind(), kind, "{error:?}");
            }
        });
    }
}

async fn fails(client: &HttpClient, target: &str, kind: ErrorKind, told: &Warnings) {
    let error = client.get(target).send().await.unwrap_err();
    assert_eq!((error.kind(), error.is_transient()), (kind, false), "{error:?}");
    let table = client.settings().to_string();
    let warnings = told.0.lock().unwrap().join("\n");
    for text in [error.to_string(), table, warnings] {
        assert!(text.contains("_PROXY"), "{text}");
        assert!(!text.contains(SECRET), "{text}");
    }
}

/// The warnings that were told.
#[derive(Clone, Default)]
struct Warnings(Arc<Mutex<Vec<String>>>);

impl Subscriber for Warnings {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() == tracing::Level::WARN && metadata.target().starts_with("drivetrain")
    }
    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }
    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}
    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}
    fn event(&self, event: &Event<'_>) {
        let mut line = Line(String::new());
        event.record(&mut line);
        self.0.lock().unwrap().push(line.0);
    }
    fn enter(&self, _: &span::Id) {}
    fn exit(&self, _: &span::Id) {}
}

struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        self.0.push_str(&format!("{field}={value:?} "));
    }
}
