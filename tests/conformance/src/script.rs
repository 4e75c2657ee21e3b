//! A peer that reports its input to the case.

use std::{io, sync::Arc};

use drivetrain::Session;
use futures_channel::mpsc::{UnboundedReceiver, UnboundedSender, unbounded};
use futures_util::StreamExt as _;

use crate::{
    context::{Context, PATIENCE},
    failure::{Failure, Verdict},
    peer::{Conn, Server, WireFrame, opcode},
};

/// An input of a peer.
#[derive(Debug)]
pub(crate) enum Saw {
    Frame(WireFrame),
    /// The client ended its stream between two frames.
    End,
    /// Reading failed, for example after a reset.
    Broken(io::ErrorKind),
}

/// The automatic answers of a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PeerBehaviour {
    /// Answers Pings and Closes, and then ends its stream, as a server should.
    Polite,
    /// Reads and answers nothing. It ends its stream once both Closes are through.
    Silent,
}

/// A server that reports the input of its WebSockets.
pub(crate) struct Script {
    cx: Context,
    server: Arc<Server>,
    seen: UnboundedReceiver<Saw>,
}

impl Script {
    pub(crate) fn start(
        cx: &Context,
        behaviour: PeerBehaviour,
        first: impl Fn(&mut Conn) -> io::Result<()> + Send + Sync + 'static,
    ) -> Self {
        let (sender, seen) = unbounded();
        let server = cx.server(move |conn| {
            conn.accept_web_socket()?;
            first(conn)?;
            attend(conn, behaviour, &sender);
            Ok(())
        });
        Self { cx: cx.clone(), server, seen }
    }

    pub(crate) fn server(&self) -> &Server {
        &self.server
    }

    pub(crate) fn url(&self) -> String {
        self.server.ws_url("/")
    }

    /// A session with this server.
    pub(crate) async fn connect(&self) -> Verdict<Session> {
        Ok(self.cx.client().web_socket(self.url()).connect().await?)
    }

    /// The next input.
    pub(crate) async fn next(&mut self) -> Verdict<Saw> {
        let next = self.cx.within(PATIENCE, "the peer sees something", self.seen.next());
        next.await?.ok_or_else(|| Failure::new("the peer is gone"))
    }

    /// The next frame.
    pub(crate) async fn frame(&mut self) -> Verdict<WireFrame> {
        match self.next().await? {
            Saw::Frame(frame) if frame.masked => Ok(frame),
            other => Err(Failure::new(format_args!("a masked frame was expected: {other:?}"))),
        }
    }

    /// The next frame of this kind, skipping others.
    pub(crate) async fn frame_of(&mut self, opcode: u8) -> Verdict<WireFrame> {
        loop {
            let frame = self.frame().await?;
            if frame.opcode == opcode {
                return Ok(frame);
            }
        }
    }

    /// The payload of the next frame, which must be a whole text.
    pub(crate) async fn text(&mut self) -> Verdict<String> {
        let frame = self.frame().await?;
        assert_eq!((frame.opcode, frame.fin), (opcode::TEXT, true), "{frame:?}");
        Ok(String::from_utf8(frame.payload)?)
    }

    /// The code and text of the next Close, skipping other frames.
    pub(crate) async fn close(&mut self) -> Verdict<(Option<u16>, String)> {
        read_close(&self.frame_of(opcode::CLOSE).await?)
    }

    /// Expects the end of the stream without further input.
    pub(crate) async fn end(&mut self) -> Verdict {
        match self.next().await? {
            Saw::End => Ok(()),
            other => Err(Failure::new(format_args!("the end was expected: {other:?}"))),
        }
    }

    /// Whether unread input exists.
    pub(crate) fn try_next(&mut self) -> Option<Saw> {
        self.seen.try_recv().ok()
    }
}

/// The code and text of a Close.
pub(crate) fn read_close(frame: &WireFrame) -> Verdict<(Option<u16>, String)> {
    let text = frame.payload.get(2..).unwrap_or_default().to_vec();
    Ok((frame.close_code(), String::from_utf8(text)?))
}

/// Reads to the end.
fn attend(conn: &mut Conn, behaviour: PeerBehaviour, seen: &UnboundedSender<Saw>) {
    loop {
        if conn.is_closed() {
            // A client that has left is seen below.
            let _ = conn.shutdown_write();
        }
        let saw = match conn.receive() {
            Ok(Some(frame)) => {
                // A client that has left sees no answer; the next read returns its end.
                let _ = answer(conn, behaviour, &frame);
                Saw::Frame(frame)
            }
            Ok(None) => Saw::End,
            Err(error) => Saw::Broken(error.kind()),
        };
        let is_over = !matches!(saw, Saw::Frame(_));
        // The case has finished.
        let _ = seen.unbounded_send(saw);
        if is_over {
            return;
        }
    }
}

fn answer(conn: &mut Conn, behaviour: PeerBehaviour, frame: &WireFrame) -> io::Result<()> {
    match (behaviour, frame.opcode) {
        (PeerBehaviour::Polite, opcode::PING) => conn.send(&WireFrame::pong(frame.payload.clone())),
        (PeerBehaviour::Polite, opcode::CLOSE) => {
            conn.send(&WireFrame::new(opcode::CLOSE, frame.payload.clone()))?;
            conn.shutdown_write()
        }
        _ => Ok(()),
    }
}
