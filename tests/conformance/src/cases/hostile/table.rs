//! The table of hostile peers: behaviour, and the result on every engine.

use std::{future::Future, sync::Arc};

use drivetrain::{Error, ErrorKind, Outcome, Session};
use drivetrain_engine::Capability;
use futures_util::{FutureExt as _, future::BoxFuture};

use super::bytes::{self, Bytes};
use crate::{
    Deviation,
    case::{Case, case},
    context::Context,
    expect::{ends_cleanly, ends_with, fails, reason},
    failure::Verdict,
};

/// One kind of peer and its result.
pub(super) struct Row {
    /// The case's name, with its topic.
    pub(super) name: String,
    pub(super) peer: Peer,
    pub(super) end: End,
    /// How it ends on engines that are declared to do otherwise.
    pub(super) deviation: Option<(Deviation, End)>,
}

/// What a peer does.
pub(super) enum Peer {
    /// After a good handshake it sends these bytes.
    Bytes(Bytes),
    /// The row's own check compares its input with the row's end.
    Own(Arc<dyn Fn(Context, End) -> BoxFuture<'static, Verdict> + Send + Sync>),
}

/// The result of a peer.
#[derive(Clone, Copy, Debug)]
pub(super) enum End {
    /// The session stays open.
    Open,
    /// `connect()` fails.
    NoSession(ErrorKind),
    /// The session ends.
    Over(Over),
}

/// How a session ends.
#[derive(Clone, Copy, Debug)]
pub(super) struct Over {
    /// Clean if there is none.
    pub(super) kind: Option<ErrorKind>,
    /// The code of the one Close on the wire.
    pub(super) wire: Option<u16>,
    /// `outcome().sent`: as on the wire.
    pub(super) sent: Option<u16>,
    /// `outcome().received`, or for a peer that was refused: its answer to our Close may be there too.
    pub(super) received: Option<u16>,
}

impl End {
    /// The connection ends.
    pub(super) const LOST: Self =
        Self::Over(Over { kind: Some(ErrorKind::Io), wire: None, sent: None, received: None });

    /// The peer closes, and gets its code back.
    pub(super) const fn clean(code: u16) -> Self {
        let code = Some(code);
        Self::Over(Over { kind: None, wire: code, sent: code, received: code })
    }

    /// The peer is told that it broke a rule. What it answers is read if it still can be told where its
    /// next frame begins, and only then: RFC 6455 section 7.1.7 asks for neither.
    pub(super) const fn refused(kind: ErrorKind, code: u16) -> Self {
        Self::Over(Over { kind: Some(kind), wire: Some(code), sent: Some(code), received: None })
    }

    /// We close with this code, and the peer does not answer as it should.
    pub(super) const fn unanswered(kind: ErrorKind, code: u16) -> Self {
        Self::refused(kind, code)
    }

    /// The same, with a peer that takes nothing, our Close neither.
    pub(super) const fn unread(kind: ErrorKind) -> Self {
        Self::Over(Over { kind: Some(kind), wire: None, sent: None, received: None })
    }

    /// The result of `connect()`.
    #[track_caller]
    pub(super) fn of_connect(self, connected: drivetrain::Result<Session>) -> Verdict<Error> {
        match self {
            Self::NoSession(kind) => fails(connected, kind),
            end => panic!("{end:?} is no end of a handshake"),
        }
    }

    /// The end of the session, also on repeated calls.
    pub(super) async fn of(self, session: &mut Session) -> Verdict<Outcome> {
        let over = match self {
            Self::Open => {
                session.feed("still open").await?;
                let outcome = session.outcome();
                self.is_so_far(&outcome)?;
                return Ok(outcome);
            }
            Self::NoSession(kind) => panic!("there is a session, and not {kind:?}"),
            Self::Over(over) => over,
        };
        let outcome = match over.kind {
            None => ends_cleanly(session).await?,
            Some(kind) => ends_with(session, kind).await?,
        };
        let code = |close| reason(close).map(|(code, _)| code);
        assert_eq!(code(&outcome.sent), over.sent, "{outcome:?}");
        let received = code(&outcome.received);
        assert!(received == over.received || over.may_receive() == received, "{outcome:?}");
        Ok(outcome)
    }

    /// The session stays open and usable.
    pub(super) fn is_so_far(self, outcome: &Outcome) -> Verdict {
        assert!(matches!(self, Self::Open), "{self:?}");
        assert!(outcome.error.is_none() && !outcome.clean, "{outcome:?}");
        assert!(outcome.sent.is_none() && outcome.received.is_none(), "{outcome:?}");
        Ok(())
    }

    /// The code of the Close on the wire.
    pub(super) fn wire(self) -> Option<u16> {
        if let Self::Over(over) = self { over.wire } else { None }
    }
}

impl Over {
    /// What `outcome().received` may be instead: a peer that was refused answers with the code it got.
    pub(super) fn may_receive(&self) -> Option<u16> {
        let refused = [Some(ErrorKind::Protocol), Some(ErrorKind::TooBig)].contains(&self.kind);
        if refused { self.wire } else { self.received }
    }
}

/// A row of bytes.
pub(super) fn row(name: impl Into<String>, end: End, bytes: Bytes) -> Row {
    Row { name: name.into(), peer: Peer::Bytes(bytes), end, deviation: None }
}

/// A row with its own check.
pub(super) fn own<F, R>(name: impl Into<String>, end: End, check: F) -> Row
where
    F: Fn(Context, End) -> R + Send + Sync + 'static,
    R: Future<Output = Verdict> + Send + 'static,
{
    let check = Arc::new(move |cx, end| check(cx, end).boxed());
    Row { name: name.into(), peer: Peer::Own(check), end, deviation: None }
}

impl Row {
    /// How many peers it has.
    pub(super) fn scripts(&self) -> usize {
        if let Peer::Bytes(bytes) = &self.peer { bytes.peers.len() } else { 1 }
    }

    /// The case that checks it.
    pub(super) fn into_case(self) -> Case {
        let Self { name, peer, end, deviation } = self;
        let needs: &[Capability] = match &peer {
            Peer::Bytes(bytes) => bytes.limits.needs(),
            Peer::Own(_) => &[],
        };
        let peer = Arc::new(peer);
        let checked = case(move |cx: Context| {
            let deviates = |&(deviation, _): &_| cx.deviates(deviation);
            let end = deviation.filter(deviates).map_or(end, |(_, end)| end);
            let peer = Arc::clone(&peer);
            async move {
                match &*peer {
                    Peer::Bytes(bytes) => bytes::come_to(cx, bytes, end).await,
                    Peer::Own(check) => check(cx, end).await,
                }
            }
        });
        let (topic, name) = name.split_once("::").unwrap_or(("hostile", &name));
        checked.named(topic, name).needs(needs).needs(&[Capability::WebSockets])
    }
}
