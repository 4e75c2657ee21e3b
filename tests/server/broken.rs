//! Servers that are broken on purpose: the server half of the suite finds each breakage.

use std::{future::Future, pin::Pin};

use drivetrain::{
    Bytes, WebSockets,
    engine::native::NativeFraming,
    http::{Request, Response, header},
    server::{Origins, Upgrader},
};
use drivetrain_conformance::{Running, ServerSubject, Site, server_verdicts};
use http_body_util::Full;
use hyper::body::Incoming;

use crate::servers::{RUNTIME, on_tokio};

type Answer = Response<Full<Bytes>>;

/// The native framing with something changed.
#[derive(Clone, Copy)]
struct Broken {
    upgrader: fn(Upgrader) -> Upgrader,
    request: fn(&mut Request<Incoming>),
    answer: fn(&mut Answer),
}

const WHOLE: Broken = Broken { upgrader: |it| it, request: |_| (), answer: |_| () };

impl ServerSubject for Broken {
    fn name(&self) -> &str {
        "broken"
    }

    fn upgrader(&self) -> Upgrader {
        (self.upgrader)(Upgrader::new(NativeFraming::new()))
    }

    fn start(&self, site: Site) -> Running {
        let Self { request: change, answer: spoil, .. } = *self;
        let limit = site.header_read_timeout();
        let answers = move |request: &mut Request<Incoming>| {
            change(request);
            let mut answer = site.answer(request);
            spoil(&mut answer);
            answer
        };
        let (address, stop) = on_tokio(answers, limit);
        Running::new(address, stop)
    }

    fn block_on(&self, future: Pin<Box<dyn Future<Output = ()> + Send>>) {
        RUNTIME.block_on(future);
    }
}

/// Of the cases with this in their name those fail that have one of the others in it, and no others.
#[track_caller]
fn finds(broken: Broken, filter: &str, failing: &[&str]) {
    let verdicts = server_verdicts(broken, filter);
    assert!(!verdicts.is_empty(), "no case has {filter} in its name");
    let mut failed = 0;
    for (name, verdict) in verdicts {
        let is_expected = failing.iter().any(|part| name.contains(part));
        assert_eq!(verdict.is_err(), is_expected, "{name}: {verdict:?}");
        failed += usize::from(is_expected);
    }
    assert!(failed >= failing.len(), "each of {failing:?}");
}

#[test]
fn nothing_is_found_where_nothing_is_broken() {
    finds(WHOLE, "handshake::a_key", &[]);
}

#[test]
fn any_origin_is_found() {
    let broken = Broken { upgrader: |it| it.origins(Origins::any()), ..WHOLE };
    finds(broken, "handshake::an_origin_of_another", &["another_port", "another_scheme"]);
}

#[test]
fn pings_that_are_off_are_found() {
    let plugin = |it: Upgrader| it.install(WebSockets::new().ping_interval(None));
    finds(Broken { upgrader: plugin, ..WHOLE }, "keepalive::pings", &["on_by_default"]);
}

#[test]
fn a_low_limit_is_found() {
    let plugin = |it: Upgrader| it.install(WebSockets::new().max_message_size(100_000));
    let broken = Broken { upgrader: plugin, ..WHOLE };
    finds(broken, "messages::messages_of_every", &["length_form"]);
}

#[test]
fn an_answer_without_the_accept_is_found() {
    let answer = |it: &mut Answer| drop(it.headers_mut().remove(header::SEC_WEBSOCKET_ACCEPT));
    let broken = Broken { answer, ..WHOLE };
    finds(broken, "handshake::tokens", &["tokens"]);
}

#[test]
fn an_answer_without_its_headers_is_found() {
    let answer = |it: &mut Answer| it.headers_mut().clear();
    let broken = Broken { answer, ..WHOLE };
    finds(broken, "handshake::version", &["version_8", "version_7"]);
    finds(broken, "deflate::a_plain", &["a_plain"]);
}

#[test]
fn a_first_line_for_a_list_is_found() {
    let request = |it: &mut Request<Incoming>| {
        let first = it.headers().get(header::CONNECTION).cloned();
        if let Some(first) = first {
            it.headers_mut().insert(header::CONNECTION, first);
        }
    };
    let broken = Broken { request, ..WHOLE };
    finds(broken, "handshake::the_upgrade_token", &["second_line"]);
}

#[test]
fn a_connection_that_cannot_be_upgraded_is_found() {
    let broken = Broken { request: |it| it.extensions_mut().clear(), ..WHOLE };
    finds(broken, "handshake::a_handshake", &["a_handshake_is_accepted"]);
}
