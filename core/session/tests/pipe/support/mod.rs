//! Sessions without sockets: a pipe of frames between two ends, and a runtime in virtual time on one thread.
#![allow(dead_code, reason = "each test program uses a part of it")]

mod pipe;
mod runtime;

use std::{
    future::Future as _,
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
    time::Duration,
};

use drivetrain_engine::{
    CloseReason, Connection, OpCode, Outcome, Protocol, RawFrame, Role, Runtime as _, Support,
};
use drivetrain_session::{Outgoing, Session, SessionConfig, SetBy, WebSockets};

pub(crate) use pipe::{Peer, PipeTransport, pipe};
pub(crate) use runtime::TestRuntime;

/// The close timeout of these tests.
pub(crate) const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

pub(crate) fn config() -> SessionConfig {
    let mut config = SessionConfig::new("pipe");
    config.close_timeout = CLOSE_TIMEOUT;
    config
}

/// A session of this role on an end of a pipe, which is a TCP connection to it.
pub(crate) fn open(
    runtime: &Arc<TestRuntime>,
    role: Role,
    transport: PipeTransport,
    config: SessionConfig,
) -> Session {
    let connection = Connection::new(transport).with_role(role).with_protocol(Protocol::H1);
    open_on(runtime, connection, config)
}

pub(crate) fn open_on(
    runtime: &Arc<TestRuntime>,
    connection: Connection,
    config: SessionConfig,
) -> Session {
    Session::builder(connection, runtime.clone(), Arc::new(config)).open()
}

/// A connection that needs no end of TCP behind both Closes, and its peer.
pub(crate) fn direct_pipe(runtime: &Arc<TestRuntime>) -> (Connection, Peer) {
    let (ours, theirs) = pipe(runtime);
    (Connection::new(ours).with_protocol(Protocol::Direct), theirs.by_hand())
}

/// A client's session with these options on such a connection, and its peer.
pub(crate) fn open_with(plugin: WebSockets) -> (Arc<TestRuntime>, Session, Peer) {
    let runtime = TestRuntime::new();
    let (connection, peer) = direct_pipe(&runtime);
    let session = runtime.session(connection, plugin);
    (runtime, session, peer)
}

impl TestRuntime {
    /// A client's session with these options.
    pub(crate) fn session(self: &Arc<Self>, connection: Connection, plugin: WebSockets) -> Session {
        let scopes = [(SetBy::Plugin, &plugin)];
        let config = SessionConfig::resolve(Role::Client, "pipe", &|_| Support::Offered, &scopes);
        let extensions =
            config.extensions.negotiated(&connection).expect("agreed on what is offered");
        Session::builder(connection, self.clone(), Arc::new(config)).extensions(extensions).open()
    }
}

/// A session of this role and its peer, which the test writes by hand.
pub(crate) fn session_and_peer(
    role: Role,
    config: SessionConfig,
) -> (Arc<TestRuntime>, Session, Peer) {
    let runtime = TestRuntime::new();
    let (ours, theirs) = pipe(&runtime);
    let session = open(&runtime, role, ours, config);
    (runtime, session, theirs.by_hand())
}

/// The same, with an application that receives until the end.
pub(crate) fn receiving_session(
    role: Role,
    config: SessionConfig,
) -> (Arc<TestRuntime>, Outgoing, Peer) {
    let (runtime, session, peer) = session_and_peer(role, config);
    let outgoing = receives(&runtime, session);
    (runtime, outgoing, peer)
}

/// Has the application receive until the end.
pub(crate) fn receives(runtime: &TestRuntime, session: Session) -> Outgoing {
    let (outgoing, mut incoming) = session.split();
    runtime.spawn(Box::pin(async move { while let Ok(Some(_)) = incoming.receive().await {} }));
    outgoing
}

/// How a session has ended, which it has.
#[track_caller]
pub(crate) fn end_of(outgoing: &Outgoing) -> Outcome {
    let mut closed = pin!(outgoing.closed());
    match closed.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(outcome) => outcome.expect("an outcome"),
        Poll::Pending => panic!("the session has not ended"),
    }
}

/// A client's session and a server's on the ends of one pipe.
pub(crate) fn client_and_server() -> (Arc<TestRuntime>, Session, Session) {
    let runtime = TestRuntime::new();
    let (ours, theirs) = pipe(&runtime);
    let client = open(&runtime, Role::Client, ours, config());
    let server = open(&runtime, Role::Server, theirs, config());
    (runtime, client, server)
}

pub(crate) fn text(text: &'static str) -> RawFrame {
    RawFrame::new(OpCode::Text, text)
}

pub(crate) fn close(code: u16) -> RawFrame {
    let reason = CloseReason::new(code, "").expect("may travel");
    RawFrame::new(OpCode::Close, reason.to_payload())
}

/// The code of a Close.
pub(crate) fn close_code(frame: &RawFrame) -> u16 {
    assert_eq!(frame.opcode, OpCode::Close, "{frame:?}");
    let reason = CloseReason::from_payload(&frame.payload).expect("a Close's payload");
    reason.expect("with a code").code().into()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
