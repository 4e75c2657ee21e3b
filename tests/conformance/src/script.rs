//! A peer that tells the case what it sees.

use std::{io, sync::Arc};

use drivetrain::Session;
use futures_channel::mpsc::{UnboundedReceiver, UnboundedSender, unbounded};
use futures_util::StreamExt as _;

use crate::{
    context::{Context, PATIENCE},
    failure::{Failure, Verdict},
    peer::{Conn, Server, WireFrame, opcode},
};

/// What a peer saw.
#[derive(Debug)]
pub(crate) enum Saw {
    Frame(WireFrame),
    /// The client ended its stream between two frames.
    End,
    /// Reading failed, such as by a reset.
    Broken(io::ErrorKind),
}

/// How a peer treats the frames that it reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Manners {
    /// It answers Ping, answers Close, and ends its stream then, as a server should.
    Polite,
    /// It reads, and answers nothing.
    Silent,
}

/// A server that tells what it sees on its WebSockets.
pub(crate) struct Script {
    cx: Context,
    server: Arc<Server>,
    seen: UnboundedReceiver<Saw>,
}

impl Script {
    pub(crate) fn start(
        cx: &Context,
        manners: Manners,
        first: impl Fn(&mut Conn) -> io::Result<()> + Send + Sync + 'static,
    ) -> Self {
        let (sender, seen) = unbounded();
        let server = cx.server(move |conn| {
            conn.accept_web_socket()?;
            first(conn)?;
            attend(conn, manners, &sender);
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

    /// A session with it.
    pub(crate) async fn connect(&self) -> Verdict<Session> {
        Ok(self.cx.client().web_socket(self.url()).connect().await?)
    }

    /// What it sees next.
    pub(crate) async fn next(&mut self) -> Verdict<Saw> {
        let next = self.cx.within(PATIENCE, "the peer sees something", self.seen.next());
        next.await?.ok_or_else(|| Failure::new("the peer is gone"))
    }

    /// The frame that it sees next.
    pub(crate) async fn frame(&mut self) -> Verdict<WireFrame> {
        match self.next().await? {
            Saw::Frame(frame) if frame.masked => Ok(frame),
            other => Err(Failure::new(format_args!("a masked frame was expected: {other:?}"))),
        }
    }

    /// The next frame of this kind; others are skipped.
    pub(crate) async fn frame_of(&mut self, opcode: u8) -> Verdict<WireFrame> {
        loop {
            let frame = self.frame().await?;
            if frame.opcode == opcode {
                return Ok(frame);
            }
        }
    }

    /// The payload of the next frame, which is a whole text.
    pub(crate) async fn text(&mut self) -> Verdict<String> {
        let frame = self.frame().await?;
        assert_eq!((frame.opcode, frame.fin), (opcode::TEXT, true), "{frame:?}");
        Ok(String::from_utf8(frame.payload)?)
    }

    /// The code and the text of the Close that comes after whatever else.
    pub(crate) async fn close(&mut self) -> Verdict<(Option<u16>, String)> {
        let payload = self.frame_of(opcode::CLOSE).await?.payload;
        let code = payload.first_chunk().map(|code| u16::from_be_bytes(*code));
        let text = payload.get(2..).unwrap_or_default().to_vec();
        Ok((code, String::from_utf8(text)?))
    }

    /// The end of the stream, and nothing before it.
    pub(crate) async fn end(&mut self) -> Verdict {
        match self.next().await? {
            Saw::End => Ok(()),
            other => Err(Failure::new(format_args!("the end was expected: {other:?}"))),
        }
    }

    /// Whether it has seen something that the case has not looked at.
    pub(crate) fn try_next(&mut self) -> Option<Saw> {
        self.seen.try_recv().ok()
    }
}

/// Reads to the end.
fn attend(conn: &mut Conn, manners: Manners, seen: &UnboundedSender<Saw>) {
    loop {
        let saw = match conn.receive() {
            Ok(Some(frame)) => {
                // A client that is gone sees no answer; its end is what is read next.
                let _ = answer(conn, manners, &frame);
                Saw::Frame(frame)
            }
            Ok(None) => Saw::End,
            Err(error) => Saw::Broken(error.kind()),
        };
        let is_over = !matches!(saw, Saw::Frame(_));
        // A case that has seen enough is over.
        let _ = seen.unbounded_send(saw);
        if is_over {
            return;
        }
    }
}

fn answer(conn: &mut Conn, manners: Manners, frame: &WireFrame) -> io::Result<()> {
    match (manners, frame.opcode) {
        (Manners::Polite, opcode::PING) => conn.send(&WireFrame::pong(frame.payload.clone())),
        (Manners::Polite, opcode::CLOSE) => {
            conn.send(&WireFrame::new(opcode::CLOSE, frame.payload.clone()))?;
            conn.shutdown_write()
        }
        _ => Ok(()),
    }
}
