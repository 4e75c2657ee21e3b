//! The behaviour suite over every engine in the build.
//!
//! `cargo test --features full --test engines -- tungstenite::closing` runs one topic of one engine.
#![allow(clippy::needless_update, reason = "which fields are left depends on the build")]
#![cfg_attr(
    not(any(
        feature = "async-std",
        feature = "native-async-std",
        feature = "native-smol",
        feature = "smol",
        feature = "reqwest"
    )),
    allow(dead_code, reason = "there is no engine to make")
)]

use std::{future::Future, pin::Pin, process::ExitCode, time::Duration};

use drivetrain::{
    TlsVersion,
    engine::{self, Engine},
};
use drivetrain_conformance::{CountedStream, Subject, run};

fn main() -> ExitCode {
    let subjects: Vec<Box<dyn Subject>> = vec![
        #[cfg(feature = "async-std")]
        Box::new(ASYNC_STD),
        #[cfg(feature = "fastwebsockets")]
        Box::new(FAST_WEB_SOCKETS),
        #[cfg(feature = "native")]
        Box::new(NATIVE),
        #[cfg(feature = "native-async-std")]
        Box::new(NATIVE_ASYNC_STD),
        #[cfg(feature = "native-smol")]
        Box::new(NATIVE_SMOL),
        #[cfg(feature = "reqwest")]
        Box::new(REQWEST),
        #[cfg(feature = "smol")]
        Box::new(SMOL),
        #[cfg(feature = "tungstenite")]
        Box::new(TUNGSTENITE),
    ];
    let tested: Vec<_> = subjects.iter().map(|subject| subject.name().to_owned()).collect();
    let built: Vec<_> = engine::all().iter().map(|engine| engine.name().to_owned()).collect();
    assert_eq!(tested, built, "every engine in the build is tested");
    if built.is_empty() {
        // The bare facade has nothing to test here.
        return ExitCode::SUCCESS;
    }
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
    with_ping_interval: |_| None,
    over: |_| None,
};

#[cfg(feature = "async-std")]
const ASYNC_STD: Built = Built {
    name: "async-std",
    block_on: |future| async_std::task::block_on(future),
    engine: || made(engine::AsyncStd::new()),
    #[cfg(feature = "rustls")]
    with_root: |root| made(engine::AsyncStd::new().root_certificate_pem(root)),
    #[cfg(feature = "rustls")]
    with_min_tls_version: |root, version| {
        let engine = engine::AsyncStd::new().root_certificate_pem(root);
        made(engine.min_tls_version(version))
    },
    #[cfg(feature = "rustls")]
    accepting_any_certificate: || made(engine::AsyncStd::new().danger_accept_any_certificate()),
    #[cfg(feature = "rustls")]
    with_client_certificate: |root, client| {
        let engine = engine::AsyncStd::new().root_certificate_pem(root);
        made(engine.client_certificate_pem(client))
    },
    with_ping_interval: |interval| made(engine::AsyncStd::new().ping_interval(interval)),
    over: |stream| made(engine::AsyncStd::over(stream)),
    ..NOTHING
};

#[cfg(feature = "native-async-std")]
const NATIVE_ASYNC_STD: Built = Built {
    name: "native-async-std",
    block_on: |future| async_std::task::block_on(future),
    engine: || made(engine::NativeAsyncStd::new()),
    #[cfg(feature = "rustls")]
    with_root: |root| made(engine::NativeAsyncStd::new().root_certificate_pem(root)),
    #[cfg(feature = "rustls")]
    with_min_tls_version: |root, version| {
        let engine = engine::NativeAsyncStd::new().root_certificate_pem(root);
        made(engine.min_tls_version(version))
    },
    #[cfg(feature = "rustls")]
    accepting_any_certificate: || {
        made(engine::NativeAsyncStd::new().danger_accept_any_certificate())
    },
    #[cfg(feature = "rustls")]
    with_client_certificate: |root, client| {
        let engine = engine::NativeAsyncStd::new().root_certificate_pem(root);
        made(engine.client_certificate_pem(client))
    },
    with_ping_interval: |interval| made(engine::NativeAsyncStd::new().ping_interval(interval)),
    over: |stream| made(engine::NativeAsyncStd::over(stream)),
    ..NOTHING
};

#[cfg(feature = "native-smol")]
const NATIVE_SMOL: Built = Built {
    name: "native-smol",
    block_on: |future| smol::block_on(future),
    engine: || made(engine::NativeSmol::new()),
    #[cfg(feature = "rustls")]
    with_root: |root| made(engine::NativeSmol::new().root_certificate_pem(root)),
    #[cfg(feature = "rustls")]
    with_min_tls_version: |root, version| {
        let engine = engine::NativeSmol::new().root_certificate_pem(root);
        made(engine.min_tls_version(version))
    },
    #[cfg(feature = "rustls")]
    accepting_any_certificate: || made(engine::NativeSmol::new().danger_accept_any_certificate()),
    #[cfg(feature = "rustls")]
    with_client_certificate: |root, client| {
        let engine = engine::NativeSmol::new().root_certificate_pem(root);
        made(engine.client_certificate_pem(client))
    },
    with_ping_interval: |interval| made(engine::NativeSmol::new().ping_interval(interval)),
    over: |stream| made(engine::NativeSmol::over(stream)),
    ..NOTHING
};

#[cfg(feature = "smol")]
const SMOL: Built = Built {
    name: "smol",
    block_on: |future| smol::block_on(future),
    engine: || made(engine::Smol::new()),
    #[cfg(feature = "rustls")]
    with_root: |root| made(engine::Smol::new().root_certificate_pem(root)),
    #[cfg(feature = "rustls")]
    with_min_tls_version: |root, version| {
        let engine = engine::Smol::new().root_certificate_pem(root);
        made(engine.min_tls_version(version))
    },
    #[cfg(feature = "rustls")]
    accepting_any_certificate: || made(engine::Smol::new().danger_accept_any_certificate()),
    #[cfg(feature = "rustls")]
    with_client_certificate: |root, client| {
        let engine = engine::Smol::new().root_certificate_pem(root);
        made(engine.client_certificate_pem(client))
    },
    with_ping_interval: |interval| made(engine::Smol::new().ping_interval(interval)),
    over: |stream| made(engine::Smol::over(stream)),
    ..NOTHING
};

#[cfg(feature = "fastwebsockets")]
const FAST_WEB_SOCKETS: Built = Built {
    name: "fastwebsockets",
    block_on: on_tokio,
    engine: || made(engine::FastWebSockets::new()),
    #[cfg(any(feature = "rustls", feature = "native-tls"))]
    with_root: |root| made(engine::FastWebSockets::new().http(trusting(root))),
    #[cfg(any(feature = "rustls", feature = "native-tls"))]
    with_min_tls_version: |root, version| {
        made(engine::FastWebSockets::new().http(trusting(root).min_tls_version(version)))
    },
    #[cfg(any(feature = "rustls", feature = "native-tls"))]
    accepting_any_certificate: || made(engine::FastWebSockets::new().http(accepting_any())),
    #[cfg(feature = "rustls")]
    over_http2: |root| {
        made(engine::FastWebSockets::new().http(trusting(root).web_socket_over_http2()))
    },
    #[cfg(any(feature = "rustls", feature = "native-tls"))]
    with_client_certificate: |root, client| {
        let http = trusting(root).client_certificate_pem(client);
        made(engine::FastWebSockets::new().http(http))
    },
    with_ping_interval: |interval| made(engine::FastWebSockets::new().ping_interval(interval)),
    over: |stream| made(engine::FastWebSockets::over(tokio_stream(stream))),
    ..NOTHING
};

#[cfg(feature = "native")]
const NATIVE: Built = Built {
    name: "native",
    block_on: on_tokio,
    engine: || made(engine::Native::new()),
    #[cfg(any(feature = "rustls", feature = "native-tls"))]
    with_root: |root| made(engine::Native::new().http(trusting(root))),
    #[cfg(any(feature = "rustls", feature = "native-tls"))]
    with_min_tls_version: |root, version| {
        made(engine::Native::new().http(trusting(root).min_tls_version(version)))
    },
    #[cfg(any(feature = "rustls", feature = "native-tls"))]
    accepting_any_certificate: || made(engine::Native::new().http(accepting_any())),
    #[cfg(feature = "rustls")]
    over_http2: |root| made(engine::Native::new().http(trusting(root).web_socket_over_http2())),
    #[cfg(any(feature = "rustls", feature = "native-tls"))]
    with_client_certificate: |root, client| {
        let http = trusting(root).client_certificate_pem(client);
        made(engine::Native::new().http(http))
    },
    with_ping_interval: |interval| made(engine::Native::new().ping_interval(interval)),
    over: |stream| made(engine::Native::over(tokio_stream(stream))),
    ..NOTHING
};

#[cfg(feature = "tungstenite")]
const TUNGSTENITE: Built = Built {
    name: "tungstenite",
    block_on: on_tokio,
    engine: || made(engine::Tungstenite::new()),
    #[cfg(any(feature = "rustls", feature = "native-tls"))]
    with_root: |root| made(engine::Tungstenite::new().http(trusting(root))),
    #[cfg(any(feature = "rustls", feature = "native-tls"))]
    with_min_tls_version: |root, version| {
        made(engine::Tungstenite::new().http(trusting(root).min_tls_version(version)))
    },
    #[cfg(any(feature = "rustls", feature = "native-tls"))]
    accepting_any_certificate: || made(engine::Tungstenite::new().http(accepting_any())),
    #[cfg(feature = "rustls")]
    over_http2: |root| {
        made(engine::Tungstenite::new().http(trusting(root).web_socket_over_http2()))
    },
    #[cfg(any(feature = "rustls", feature = "native-tls"))]
    with_client_certificate: |root, client| {
        let http = trusting(root).client_certificate_pem(client);
        made(engine::Tungstenite::new().http(http))
    },
    with_ping_interval: |interval| made(engine::Tungstenite::new().ping_interval(interval)),
    over: |stream| made(engine::Tungstenite::over(tokio_stream(stream))),
    ..NOTHING
};

#[cfg(feature = "reqwest")]
const REQWEST: Built = Built {
    name: "reqwest",
    block_on: on_tokio,
    engine: || made(engine::Reqwest::new()),
    #[cfg(any(feature = "rustls", feature = "native-tls"))]
    with_root: |root| made(trusting(root)),
    #[cfg(any(feature = "rustls", feature = "native-tls"))]
    with_min_tls_version: |root, version| made(trusting(root).min_tls_version(version)),
    #[cfg(any(feature = "rustls", feature = "native-tls"))]
    accepting_any_certificate: || made(accepting_any()),
    #[cfg(any(feature = "rustls", feature = "native-tls"))]
    with_client_certificate: |root, client| made(trusting(root).client_certificate_pem(client)),
    ..NOTHING
};

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
