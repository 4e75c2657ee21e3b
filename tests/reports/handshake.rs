//! Handshakes in a task that has used up its cooperative budget, on every engine in the build.

use std::{
    future::{Future, poll_fn},
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Waker},
    time::Duration,
};

use bytes::Bytes;
use drivetrain::{
    Capability, ErrorKind, HttpClient, Proxy,
    engine::{self, Engine as _},
    http,
};
use drivetrain_conformance::peer::{EchoServer, Server};

/// Uses up what tokio lets a task do before it has to give way: from then on its channels are pending,
/// whatever is in them.
fn use_up_the_budget() {
    let mut cx = Context::from_waker(Waker::noop());
    while pin!(tokio::task::consume_budget()).poll(&mut cx).is_ready() {}
}

/// A future that is polled without a budget every other time, as in a task that is busy with other things.
async fn busy<F: Future>(future: F) -> F::Output {
    let mut future: Pin<Box<F>> = Box::pin(future);
    let mut is_used_up = false;
    poll_fn(move |cx| {
        is_used_up = !is_used_up;
        if is_used_up {
            use_up_the_budget();
            // The task runs again by itself, as a busy one does.
            cx.waker().wake_by_ref();
        }
        future.as_mut().poll(cx)
    })
    .await
}

/// The same, but the budget is used up only when something has come.
async fn exhausted<F: Future>(future: F) -> F::Output {
    let mut future: Pin<Box<F>> = Box::pin(future);
    let mut polls = 0;
    poll_fn(move |cx| {
        polls += 1;
        // Without the first polls nothing is sent.
        if polls % 3 != 0 {
            return future.as_mut().poll(cx);
        }
        use_up_the_budget();
        let polled = future.as_mut().poll(cx);
        if polled.is_pending() {
            cx.waker().wake_by_ref();
        }
        polled
    })
    .await
}

#[test]
fn a_handshake_needs_no_budget_of_its_task() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let server = Server::start(EchoServer::serve);
    let url = server.ws_url("/echo");
    runtime.expect("a runtime").block_on(async {
        for engine in engine::all() {
            let name = engine.name().to_owned();
            if !engine.support(Capability::WebSockets).is_offered() {
                continue;
            }
            let client = HttpClient::new(Arc::new(engine));
            for round in 0..20 {
                let (client, url) = (client.clone(), url.clone());
                let task = tokio::spawn(async move {
                    let open = async {
                        let mut session = client.web_socket(url).connect().await?;
                        session.send("hello").await?;
                        session.receive().await
                    };
                    let open = async {
                        match round % 2 {
                            0 => busy(open).await,
                            _ => exhausted(open).await,
                        }
                    };
                    tokio::time::timeout(Duration::from_secs(60), open).await
                });
                let received = task.await.expect("no panic");
                let received = received.unwrap_or_else(|_| panic!("{name} hangs in round {round}"));
                let frame = received.unwrap_or_else(|error| panic!("{name} {round}: {error:?}"));
                assert_eq!(frame.expect("an echo").read_text(), Some("hello"), "{name}");
            }
        }
    });
}

/// One rule for what a proxy says, whatever engine asks it.
#[test]
fn a_proxys_refusal_is_transient_by_its_status() {
    let proxy = Proxy::http("proxy.example", 3128).expect("a proxy");
    for (status, passes) in [
        (400, false),
        (401, false),
        (403, false),
        (407, false),
        (429, true),
        (500, true),
        (501, false),
        (502, true),
        (503, true),
        (504, true),
    ] {
        let mut response = http::Response::new(Bytes::new());
        *response.status_mut() = http::StatusCode::from_u16(status).expect("a status");
        let error = proxy.refused(response);
        assert_eq!((error.kind(), error.is_transient()), (ErrorKind::Connect, passes), "{status}");
        assert_eq!(error.response().map(|seen| seen.status().as_u16()), Some(status));
        assert!(error.to_string().contains("proxy.example:3128"), "{error}");
        // What an engine knows better holds for its copies as well.
        assert_eq!(error.clone().with_transient(!passes).clone().is_transient(), !passes);
    }
    assert!(proxy.failed("ended the connection").is_transient());
}
