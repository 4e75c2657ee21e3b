//! The mock as an engine: matches requests with routes and handshakes with peers.

use std::{
    future::poll_fn,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    task::Poll,
    time::Duration,
};

use drivetrain_engine::{
    Answer, Body, Capability, ConnectTimeout, Connection, Engine, EngineSettings, Error, ErrorKind,
    Handshake, Result, Role, Runtime, Support, async_trait,
};
use drivetrain_session::wake_all;
use http::{HeaderMap, StatusCode, Version};
use http_body_util::BodyExt as _;

use super::{
    MockEngine, MockPeer, MockRequest, Script,
    log::Log,
    route::{Opening, PeerHandler, Route, RouteAnswer, RoutePeer},
};
use crate::testing::{Clock, pipe::ends};

const NAME: &str = "mock";

#[async_trait]
impl Engine for MockEngine {
    fn name(&self) -> &str {
        NAME
    }

    fn support(&self, capability: Capability) -> Support {
        self.support_of(capability)
    }

    fn settings(&self) -> EngineSettings {
        let mut settings = EngineSettings::default();
        settings.ping_interval = self.state(|state| state.ping_interval);
        settings
    }

    fn check(&self) -> Result<()> {
        let (problem, interval) = self.state(|state| (state.problem.clone(), state.ping_interval));
        if let Some(problem) = problem {
            return Err(problem.with_engine(NAME));
        }
        match (interval, self.support_of(Capability::EnginePing)) {
            (Some(Duration::ZERO), _) => {
                let message = "a ping_interval of zero is not possible: leave it out for no pings";
                Err(Error::new(ErrorKind::InvalidInput, message).with_engine(NAME))
            }
            (Some(_), Support::Missing(reason)) => {
                Err(Error::unsupported(NAME, Capability::EnginePing, &reason))
            }
            _ => Ok(()),
        }
    }

    fn runtime(&self) -> Result<Arc<dyn Runtime>> {
        Ok(self.clock().runtime())
    }

    async fn execute(&self, request: http::Request<Body>) -> Result<http::Response<Body>> {
        self.clock().note_activity();
        let (parts, body) = request.into_parts();
        let body = body.collect().await?.to_bytes();
        let request = MockRequest::new(&parts, body);
        match self.find(&request)? {
            RouteAnswer::Respond(handler) => {
                let reply = handler(request).await;
                let limit = parts.extensions.get().copied();
                reply.send(self.clock(), &parts.method, limit).await
            }
            // The route answers handshakes only.
            RouteAnswer::Open(..) => {
                Err(Error::new(ErrorKind::Other, "a request opens no WebSocket"))
            }
        }
    }

    async fn connect(&self, handshake: Handshake) -> Result<Answer> {
        self.clock().note_activity();
        let request = MockRequest::handshake(&handshake);
        match self.find(&request)? {
            RouteAnswer::Respond(handler) => {
                let method = request.method().clone();
                let reply = handler(request).await;
                let limit = handshake.extensions().get::<ConnectTimeout>().copied();
                let response = reply.send(self.clock(), &method, limit).await?;
                if response.status() == StatusCode::SWITCHING_PROTOCOLS {
                    let message = "a reply of 101 opens no WebSocket: use script, open or serve";
                    return Err(Error::new(ErrorKind::InvalidInput, message));
                }
                Ok(Answer::Refused(response))
            }
            RouteAnswer::Open(opening, end) => self.open(&handshake, request, opening, end).await,
        }
    }
}

impl MockEngine {
    /// Records the request and finds its answer.
    fn find(&self, request: &MockRequest) -> Result<RouteAnswer> {
        let answer = self.state(|state| {
            state.requests.push(request.clone());
            match state.routes.iter_mut().find(|route| route.takes(request)) {
                Some(route) => {
                    route.hits += 1;
                    Ok(route.answer.clone())
                }
                None => Err(unmatched(request, &state.routes)),
            }
        });
        answer.map_err(|message| {
            self.shared.log.fail(message.clone());
            Error::new(ErrorKind::Other, message).with_engine(NAME)
        })
    }

    async fn open(
        &self,
        handshake: &Handshake,
        request: MockRequest,
        opening: Opening,
        end: RoutePeer,
    ) -> Result<Answer> {
        let Opening { headers, after, automatic, problem } = opening;
        if let Some(problem) = problem {
            return Err(problem);
        }
        if !after.is_zero() {
            self.clock().sleep(after).await;
        }
        let mut response = handshake.acceptance();
        *response.version_mut() = Version::HTTP_11;
        replace(response.headers_mut(), headers);
        let accepted = handshake.verify(&response)?;
        let (transport, mut pipe) = ends(Role::Client);
        if let Support::Missing(reason) = self.support_of(Capability::RsvBits) {
            pipe.refuse_rsv(Error::unsupported(NAME, Capability::RsvBits, &reason));
        }
        let mut connection = Connection::new(transport)
            .with_subprotocol(accepted.subprotocol)
            .with_extensions(accepted.extensions);
        if self.support_of(Capability::HandshakeResponse).is_offered() {
            connection = connection.with_response(response);
        }
        self.hand_over(MockPeer::new(pipe, request, automatic), end);
        Ok(Answer::Open(connection))
    }

    /// Passes the peer to the test, a handler or a script.
    fn hand_over(&self, peer: MockPeer, end: RoutePeer) {
        let log = self.shared.log.clone();
        match end {
            RoutePeer::Test => {
                let acceptors = self.state(|state| {
                    state.waiting.push_back(peer);
                    std::mem::take(&mut state.acceptors)
                });
                wake_all(acceptors);
            }
            RoutePeer::Script(script) => {
                let task = played(script, peer, self.clock().clone(), log);
                self.clock().runtime().spawn(Box::pin(task));
            }
            RoutePeer::Handler(handler) => {
                self.clock().runtime().spawn(Box::pin(served(handler, peer, log)));
            }
        }
    }
}

/// Plays a script. A failed script also fails the client's session.
async fn played(script: Script, mut peer: MockPeer, clock: Clock, log: Log) {
    let what = peer.request().to_string();
    let progress = log.script(&what);
    if let Err(came) = script.play(&mut peer, &clock, &progress).await {
        let message = format!("the script of {what}, {came}");
        progress.ends();
        log.fail(message.clone());
        peer.fail(Error::new(ErrorKind::Other, message).with_engine(NAME));
        peer.dropped().await;
    }
}

/// Runs a handler. A handler that fails or panics also fails the client's session.
async fn served(handler: PeerHandler, mut peer: MockPeer, log: Log) {
    let (what, mut pipe) = (peer.request().to_string(), peer.disown());
    let message = match caught(handler, peer).await {
        Some(Ok(())) => return pipe.end(),
        Some(Err(error)) => format!("the handler of {what} failed: {error}"),
        None => format!("the handler of {what} panicked"),
    };
    log.fail(message.clone());
    let error = Error::new(ErrorKind::Other, message).with_engine(NAME);
    pipe.fail(error.clone());
    pipe.fail_writes(error);
}

/// `None` after a panic.
async fn caught(handler: PeerHandler, peer: MockPeer) -> Option<Result<()>> {
    let mut future = catch_unwind(AssertUnwindSafe(|| handler(peer))).ok()?;
    poll_fn(|cx| match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(cx))) {
        Ok(poll) => poll.map(Some),
        Err(_) => Poll::Ready(None),
    })
    .await
}

/// Set headers replace existing headers of the same name.
fn replace(headers: &mut HeaderMap, set: HeaderMap) {
    for name in set.keys() {
        headers.remove(name);
    }
    let mut last = None;
    for (name, value) in set {
        last = name.or(last);
        if let Some(name) = &last {
            headers.append(name, value);
        }
    }
}

fn unmatched(request: &MockRequest, routes: &[Route]) -> String {
    let known: Vec<_> = routes
        .iter()
        .map(|route| match route.is_used_up() {
            true => format!("{route} (used up)"),
            false => route.to_string(),
        })
        .collect();
    match known.is_empty() {
        true => format!("the mock has no answer to {request}: nothing was set up"),
        false => format!("the mock has no answer to {request}: it has {}", known.join(", ")),
    }
}
