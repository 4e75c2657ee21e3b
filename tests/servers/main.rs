//! The server half of the conformance suite on each framing, over `serve`, axum, and hyper without tokio's runtime.

use std::{
    future::{self, Future},
    pin::Pin,
    process::ExitCode,
};

use drivetrain::{
    engine::{
        self, Engine as _, fastwebsockets::FastWebSocketsFraming, native::NativeFraming,
        tungstenite::TungsteniteFraming,
    },
    http::Response,
    server::{Refusal, Upgrader, WebSocketUpgrade},
};
use drivetrain_conformance::{Deviation, Running, ServerSubject, Site, run_servers};

use crate::servers::{Http, RUNTIME, on_async_std, on_axum, on_smol, on_tokio};

#[path = "../engines/deviations.rs"]
mod deviations;
#[path = "../support/servers.rs"]
mod servers;

type Block = Pin<Box<dyn Future<Output = ()> + Send>>;

fn main() -> ExitCode {
    run_servers(vec![
        Box::new(OnTokio("native", || Upgrader::new(NativeFraming::new()))),
        Box::new(OnTokio("tungstenite", || Upgrader::new(TungsteniteFraming::new()))),
        Box::new(OnTokio("fastwebsockets", || Upgrader::new(FastWebSocketsFraming::new()))),
        Box::new(OnAxum),
        Box::new(OnSmol),
        Box::new(OnAsyncStd),
    ])
}

/// A framing with the server of this repository.
struct OnTokio(&'static str, fn() -> Upgrader);

impl ServerSubject for OnTokio {
    fn name(&self) -> &str {
        self.0
    }

    fn upgrader(&self) -> Upgrader {
        (self.1)()
    }

    fn start(&self, site: Site) -> Running {
        let limit = site.header_read_timeout();
        let (address, stop) = on_tokio(move |request| site.answer(request), limit);
        Running::new(address, stop)
    }

    fn block_on(&self, future: Block) {
        RUNTIME.block_on(future);
    }

    fn speaks_http2(&self) -> bool {
        true
    }

    fn deviations(&self) -> &[Deviation] {
        deviations::of(self.0)
    }
}

/// The native framing behind axum's extractor.
struct OnAxum;

impl ServerSubject for OnAxum {
    fn name(&self) -> &str {
        "axum"
    }

    fn upgrader(&self) -> Upgrader {
        Upgrader::new(NativeFraming::new())
    }

    fn start(&self, site: Site) -> Running {
        use axum::{Router, body::Body, response::IntoResponse as _};

        let upgrader = site.upgrader().clone();
        let answer = move |upgrade: Result<WebSocketUpgrade, Refusal>| {
            let response: Response<Body> = match upgrade {
                Ok(upgrade) => site.open(upgrade).map(Body::new),
                Err(refusal) => refusal.into_response(),
            };
            future::ready(response)
        };
        let (address, stop) = on_axum(Router::new().fallback(answer).with_state(upgrader));
        Running::new(address, stop)
    }

    fn block_on(&self, future: Block) {
        RUNTIME.block_on(future);
    }

    fn speaks_http2(&self) -> bool {
        true
    }

    /// `axum::serve` gives hyper no timer.
    fn limits_heads(&self) -> bool {
        false
    }
}

/// The native framing on smol.
struct OnSmol;

impl ServerSubject for OnSmol {
    fn name(&self) -> &str {
        "smol"
    }

    fn upgrader(&self) -> Upgrader {
        let runtime = engine::NativeSmol::new().runtime().expect("smol's");
        Upgrader::new(NativeFraming::new()).runtime(runtime)
    }

    fn start(&self, site: Site) -> Running {
        let (address, stop) = on_smol(move |request| site.answer(request), Http::One);
        Running::new(address, stop)
    }

    fn block_on(&self, future: Block) {
        smol::block_on(future);
    }

    /// hyper has no timer here.
    fn limits_heads(&self) -> bool {
        false
    }
}

/// The native framing on async-std.
struct OnAsyncStd;

impl ServerSubject for OnAsyncStd {
    fn name(&self) -> &str {
        "async-std"
    }

    fn upgrader(&self) -> Upgrader {
        let runtime = engine::NativeAsyncStd::new().runtime().expect("async-std's");
        Upgrader::new(NativeFraming::new()).runtime(runtime)
    }

    fn start(&self, site: Site) -> Running {
        let (address, stop) = on_async_std(move |request| site.answer(request), Http::One);
        Running::new(address, stop)
    }

    fn block_on(&self, future: Block) {
        async_std::task::block_on(future);
    }

    /// hyper has no timer here.
    fn limits_heads(&self) -> bool {
        false
    }
}
