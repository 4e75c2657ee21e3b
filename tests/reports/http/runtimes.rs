//! Tokio runtimes that were made without timers or without I/O.

use std::net::TcpListener;

use drivetrain::{Capability, ErrorKind, HttpClient, WebSockets, engine};
use tokio::runtime::{Builder, Runtime};

/// What a runtime lacks, and one that does.
fn poor() -> [(&'static str, Runtime); 6] {
    type Make = fn() -> Builder;
    let runtime = |make: Make, with: fn(&mut Builder)| {
        let mut builder = make();
        with(&mut builder);
        builder.build().expect("a runtime")
    };
    let single: Make = Builder::new_current_thread;
    let multi: Make = Builder::new_multi_thread;
    let io = |builder: &mut Builder| {
        builder.enable_io();
    };
    let time = |builder: &mut Builder| {
        builder.enable_time();
    };
    [
        ("timers", runtime(single, |_| ())),
        ("timers", runtime(single, io)),
        ("I/O", runtime(single, time)),
        ("timers", runtime(multi, |_| ())),
        ("timers", runtime(multi, io)),
        ("I/O", runtime(multi, time)),
    ]
}

#[test]
fn a_tokio_runtime_without_timers_or_io_is_an_error() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    for engine in engine::all() {
        let name = engine.name().to_owned();
        if name.contains("std") || name.contains("smol") {
            continue;
        }
        let has_web_sockets = engine.support(Capability::WebSockets).is_offered();
        let builder = HttpClient::builder(engine);
        let client = match has_web_sockets {
            true => builder.install(WebSockets::new()).build().expect("a client"),
            false => builder.build().expect("a client"),
        };
        for (what, runtime) in poor() {
            let get = client.get(format!("http://{address}/")).send();
            let mut results = vec![runtime.block_on(get).map(drop)];
            let sse = client.sse(format!("http://{address}/")).connect();
            results.push(runtime.block_on(sse).map(drop));
            if has_web_sockets {
                let connect = client.web_socket(format!("ws://{address}/")).connect();
                results.push(runtime.block_on(connect).map(drop));
            }
            for result in results {
                let error = result.expect_err("it cannot work");
                assert_eq!(error.kind(), ErrorKind::Other, "{name}: {error:?}");
                assert!(error.to_string().contains(what), "{name} without {what}: {error}");
                assert!(error.to_string().contains("enable_all"), "{error}");
                assert!(!error.is_transient());
            }
        }
    }
}
