//! The behaviour suite over every engine in the build.
//!
//! `cargo test --features full --test engines -- tungstenite::closing` runs one topic of one engine.
#![allow(clippy::needless_update, reason = "the fields that are left depend on the build")]
#![cfg_attr(
    not(any(
        feature = "async-std",
        feature = "native-async-std",
        feature = "native-smol",
        feature = "smol",
        feature = "reqwest"
    )),
    allow(dead_code, unused_mut, reason = "there is no engine to make")
)]

#[cfg(all(feature = "native", feature = "rustls"))]
#[path = "../support/altered.rs"]
mod altered;
mod deviations;
#[macro_use]
#[path = "../support/engines.rs"]
mod list;
#[cfg(all(feature = "native", feature = "rustls"))]
mod lacking;

use std::{future::Future, pin::Pin, process::ExitCode, time::Duration};

use drivetrain::{
    Resolver, TlsVersion,
    engine::{self, Engine},
};
use drivetrain_conformance::{CountedStream, Deviation, Subject, run};

fn main() -> ExitCode {
    #[cfg(all(feature = "native", feature = "rustls"))]
    if std::env::var_os("DRIVETRAIN_LACKING").is_some() {
        return run(lacking::one_by_one());
    }
    let mut subjects: Vec<Box<dyn Subject>> = Vec::new();
    macro_rules! push {
        ($($engine:tt)+) => { subjects.push(Box::new(subject!($($engine)+, made))) };
    }
    for_each_engine!(push);
    let tested: Vec<_> = subjects.iter().map(|subject| subject.name().to_owned()).collect();
    let built: Vec<_> = engine::all().iter().map(|engine| engine.name().to_owned()).collect();
    assert_eq!(tested, built, "every engine in the build is tested");
    // Two halves that no engine of the facade combines.
    #[cfg(all(feature = "fastwebsockets", feature = "smol"))]
    subjects.push(Box::new(subject!(
        futures smol, Smol, "fastwebsockets-smol", |smol: engine::Smol| {
            let framing = engine::fastwebsockets::FastWebSocketsFraming::new();
            made(smol.with_framing("fastwebsockets-smol", framing))
        }
    )));
    if subjects.is_empty() {
        // The bare facade has nothing to test here.
        return ExitCode::SUCCESS;
    }
    #[cfg(all(feature = "native", feature = "rustls"))]
    subjects.extend(lacking::subjects());
    run(subjects)
}

type Block = Pin<Box<dyn Future<Output = ()> + Send>>;
type Made = Option<Box<dyn Engine>>;

/// How to make an engine, and what it runs on.
struct Built {
    name: &'static str,
    block_on: fn(Block),
    engine: fn() -> Made,
    with_root: fn(&[u8]) -> Made,
    with_min_tls_version: fn(&[u8], TlsVersion) -> Made,
    accepting_any_certificate: fn() -> Made,
    over_http2: fn(&[u8]) -> Made,
    with_client_certificate: fn(&[u8], &[u8]) -> Made,
    with_resolver: fn(Resolver) -> Made,
    with_ping_interval: fn(Duration) -> Made,
    over: fn(CountedStream) -> Made,
}

/// What an engine has where it says nothing else.
const NOTHING: Built = Built {
    name: "",
    block_on: |_| (),
    engine: || None,
    with_root: |_| None,
    with_min_tls_version: |_, _| None,
    accepting_any_certificate: || None,
    over_http2: |_| None,
    with_client_certificate: |_, _| None,
    with_resolver: |_| None,
    with_ping_interval: |_| None,
    over: |_| None,
};

/// An engine of the list, as its user configures it; the last argument makes the subject's engine of it.
#[allow(unused_macros, reason = "there may be no engine in the build")]
macro_rules! subject {
    (futures $executor:ident, $Engine:ident, $name:literal, $made:expr) => {
        Built {
            name: $name,
            block_on: $executor,
            engine: || $made(engine::$Engine::new()),
            #[cfg(any(feature = "rustls", feature = "native-tls"))]
            with_root: |root| $made(engine::$Engine::new().root_certificate_pem(root)),
            #[cfg(any(feature = "rustls", feature = "native-tls"))]
            with_min_tls_version: |root, version| {
                $made(engine::$Engine::new().root_certificate_pem(root).min_tls_version(version))
            },
            #[cfg(any(feature = "rustls", feature = "native-tls"))]
            accepting_any_certificate: || {
                $made(engine::$Engine::new().danger_accept_any_certificate())
            },
            #[cfg(any(feature = "rustls", feature = "native-tls"))]
            with_client_certificate: |root, client| {
                let engine = engine::$Engine::new().root_certificate_pem(root);
                $made(engine.client_certificate_pem(client))
            },
            with_resolver: |resolver| $made(engine::$Engine::new().resolver(resolver)),
            with_ping_interval: |interval| $made(engine::$Engine::new().ping_interval(interval)),
            over: |stream| $made(engine::$Engine::over(stream)),
            ..NOTHING
        }
    };
    (tokio, $Engine:ident, $name:literal, $made:expr) => {
        Built {
            name: $name,
            block_on: on_tokio,
            engine: || $made(engine::$Engine::new()),
            #[cfg(any(feature = "rustls", feature = "native-tls"))]
            with_root: |root| $made(engine::$Engine::new().http(trusting(root))),
            #[cfg(any(feature = "rustls", feature = "native-tls"))]
            with_min_tls_version: |root, version| {
                $made(engine::$Engine::new().http(trusting(root).min_tls_version(version)))
            },
            #[cfg(any(feature = "rustls", feature = "native-tls"))]
            accepting_any_certificate: || $made(engine::$Engine::new().http(accepting_any())),
            #[cfg(feature = "rustls")]
            over_http2: |root| {
                $made(engine::$Engine::new().http(trusting(root).web_socket_over_http2()))
            },
            #[cfg(any(feature = "rustls", feature = "native-tls"))]
            with_client_certificate: |root, client| {
                let http = trusting(root).client_certificate_pem(client);
                $made(engine::$Engine::new().http(http))
            },
            with_resolver: |resolver| {
                $made(engine::$Engine::new().http(engine::Reqwest::new().resolver(resolver)))
            },
            with_ping_interval: |interval| $made(engine::$Engine::new().ping_interval(interval)),
            over: |stream| $made(engine::$Engine::over(tokio_stream(stream))),
            ..NOTHING
        }
    };
    (http, $Engine:ident, $name:literal, $made:expr) => {
        Built {
            name: $name,
            block_on: on_tokio,
            engine: || $made(engine::$Engine::new()),
            #[cfg(any(feature = "rustls", feature = "native-tls"))]
            with_root: |root| $made(trusting(root)),
            #[cfg(any(feature = "rustls", feature = "native-tls"))]
            with_min_tls_version: |root, version| $made(trusting(root).min_tls_version(version)),
            #[cfg(any(feature = "rustls", feature = "native-tls"))]
            accepting_any_certificate: || $made(accepting_any()),
            #[cfg(any(feature = "rustls", feature = "native-tls"))]
            with_client_certificate: |root, client| {
                $made(trusting(root).client_certificate_pem(client))
            },
            with_resolver: |resolver| $made(engine::Reqwest::new().resolver(resolver)),
            ..NOTHING
        }
    };
}
use subject;

impl Subject for Built {
    fn name(&self) -> &str {
        self.name
    }

    fn engine(&self) -> Box<dyn Engine> {
        (self.engine)().expect("every engine has defaults")
    }

    fn block_on(&self, future: Block) {
        (self.block_on)(future);
    }

    fn deviations(&self) -> &[Deviation] {
        deviations::of(self.name)
    }

    fn with_root(&self, pem: &[u8]) -> Made {
        (self.with_root)(pem)
    }

    fn with_min_tls_version(&self, root_pem: &[u8], version: TlsVersion) -> Made {
        (self.with_min_tls_version)(root_pem, version)
    }

    fn over_http2(&self, root_pem: &[u8]) -> Made {
        (self.over_http2)(root_pem)
    }

    fn accepting_any_certificate(&self) -> Made {
        (self.accepting_any_certificate)()
    }

    fn with_client_certificate(&self, root_pem: &[u8], client_pem: &[u8]) -> Made {
        (self.with_client_certificate)(root_pem, client_pem)
    }

    fn with_resolver(&self, resolver: Resolver) -> Made {
        (self.with_resolver)(resolver)
    }

    fn with_ping_interval(&self, interval: Duration) -> Made {
        (self.with_ping_interval)(interval)
    }

    fn over(&self, stream: CountedStream) -> Made {
        (self.over)(stream)
    }
}

fn made(engine: impl Engine) -> Made {
    Some(Box::new(engine))
}

#[cfg(all(feature = "reqwest", any(feature = "rustls", feature = "native-tls")))]
fn trusting(root: &[u8]) -> engine::Reqwest {
    engine::Reqwest::new().root_certificate_pem(root)
}

#[cfg(all(feature = "reqwest", any(feature = "rustls", feature = "native-tls")))]
fn accepting_any() -> engine::Reqwest {
    engine::Reqwest::new().danger_accept_any_certificate()
}

#[cfg(any(feature = "async-std", feature = "native-async-std"))]
fn async_std(future: Block) {
    ::async_std::task::block_on(future);
}

#[cfg(any(feature = "smol", feature = "native-smol"))]
fn smol(future: Block) {
    ::smol::block_on(future);
}

/// One runtime for all cases, as a program has it.
#[cfg(feature = "reqwest")]
fn on_tokio(future: Block) {
    use std::sync::LazyLock;
    use tokio::runtime::{Builder, Runtime};

    static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| {
        Builder::new_multi_thread().worker_threads(4).enable_all().build().expect("a runtime")
    });
    RUNTIME.block_on(future);
}

#[cfg(any(feature = "fastwebsockets", feature = "native", feature = "tungstenite"))]
fn tokio_stream(stream: CountedStream) -> tokio_util::compat::Compat<CountedStream> {
    use tokio_util::compat::FuturesAsyncReadCompatExt as _;
    stream.compat()
}
