//! What `tracing` is told of refusals: in a program of its own with one test. A thread that tells something while another one
//! gets its subscriber may leave the place disabled for both.

use std::{
    fmt,
    sync::{Arc, Mutex},
};

use drivetrain_native::NativeFraming;
use drivetrain_server::{RefusalKind, Upgrader};
use http::Request;
use tracing::{Event, Subscriber, field::Visit};
use tracing_subscriber::{Layer, Registry, layer::Context, layer::SubscriberExt as _};

#[derive(Clone, Default)]
struct Seen(Arc<Mutex<Vec<String>>>);

impl<S: Subscriber> Layer<S> for Seen {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        struct Fields(String);
        impl Visit for Fields {
            fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn fmt::Debug) {
                self.0.push_str(&format!(" {}={value:?}", field.name()));
            }
        }
        let mut fields = Fields(event.metadata().level().to_string());
        event.record(&mut fields);
        self.0.lock().expect("no panic").push(fields.0);
    }
}

fn request() -> http::request::Builder {
    Request::get("/chat?token=secret")
        .header("host", "a.test")
        .header("connection", "upgrade")
        .header("upgrade", "websocket")
        .header("sec-websocket-version", "13")
        .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")
        .header("cookie", "session=secret")
}

#[test]
fn refusals_are_told() {
    outside_a_runtime_the_wiring_is_at_fault();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(a_refusal_is_told_with_its_reason_and_without_secrets());
}

async fn a_refusal_is_told_with_its_reason_and_without_secrets() {
    let seen = Seen::default();
    let _guard = tracing::subscriber::set_default(Registry::default().with(seen.clone()));
    let sockets = Upgrader::new(NativeFraming::new());
    let mut foreign = request().header("origin", "https://evil.test").body(()).expect("a request");
    let refusal = sockets.upgrade(&mut foreign).expect_err("foreign");
    assert_eq!(refusal.kind(), RefusalKind::Origin);
    let mut unwired = request().body(()).expect("a request");
    assert_eq!(
        sockets.upgrade(&mut unwired).expect_err("no connection").kind(),
        RefusalKind::Wiring
    );
    let told = seen.0.lock().expect("no panic").clone();
    assert_eq!(told.len(), 2, "{told:#?}");
    for part in ["WARN", "handshake refused", "origin", "403", "/chat", "https://evil.test"] {
        assert!(told[0].contains(part), "{part}: {}", told[0]);
    }
    for part in ["ERROR", "handshake refused", "wiring", "500", "with_upgrades"] {
        assert!(told[1].contains(part), "{part}: {}", told[1]);
    }
    assert!(told.iter().all(|told| !told.contains("secret")), "{told:#?}");
    assert_eq!((sockets.registry().refused(), sockets.registry().len()), (2, 0));
}

fn outside_a_runtime_the_wiring_is_at_fault() {
    let sockets = Upgrader::new(NativeFraming::new());
    let refusal =
        sockets.upgrade(&mut request().body(()).expect("a request")).expect_err("no runtime");
    assert_eq!(refusal.kind(), RefusalKind::Wiring);
    assert!(refusal.to_string().contains("tokio runtime"), "{refusal}");
}
