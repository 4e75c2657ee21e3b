//! What a scripted peer does, step by step.

use std::{fmt, sync::Arc, time::Duration};

use bytes::Bytes;
use drivetrain_engine::{CloseCode, CloseReason, Frame, RawFrame};

use super::{MockPeer, describe::describe, log::Progress};
use crate::testing::Clock;

/// A peer written down beforehand: what it expects of the client, and what it sends.
///
/// Each connection runs the script anew. Steps come one after the other; one that expects waits until something
/// comes. If that is something else, the script ends there: the client's session fails with an error that says what
/// was expected and what came, and so does [`assert_done`](super::MockEngine::assert_done). (A client that has closed by
/// then has ended already.) A script that waits when the client ends the connection ends in the same way, and one that still waits when `assert_done` is called
/// is named by it. After its last step the peer stays until the client goes, and a message that comes then is one
/// too many.
///
/// As [`MockPeer`], it answers Pings and Closes by itself, unless the route is
/// [`silent`](super::MockWebSocket::silent): `expect` does not see Pings, and sees Pongs only if it is
/// [`expect_pong`](Self::expect_pong).
///
/// ```
/// use drivetrain::{CloseReason, testing::Script};
///
/// let chat = Script::new()
///     .expect("hi")
///     .send("ho")
///     .ping("are you there?")
///     .expect_pong("are you there?")
///     .close(CloseReason::new(4001, "moved")?)
///     .expect_close();
/// let garbage = Script::new().expect("hi").send_raw(&b"\xff\xff\xff"[..]);
/// let vanishes = Script::new().send("one").reset();
/// # Ok::<(), drivetrain::Error>(())
/// ```
#[derive(Clone, Debug, Default)]
#[must_use = "a script is given to a route"]
pub struct Script {
    steps: Vec<Step>,
}

#[derive(Clone, Debug)]
enum Step {
    Expect(Expected),
    Send(Frame),
    SendFrame(RawFrame),
    SendRaw(Bytes),
    Pause(Duration),
    Stall,
    Resume,
    Eof,
    Reset,
}

#[derive(Clone)]
enum Expected {
    Frame(Frame),
    Close,
    CloseCode(CloseCode),
    Ping,
    Matching(&'static str, Arc<dyn Fn(&Frame) -> bool + Send + Sync>),
}

impl Script {
    /// Nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Expects this message, or this control frame.
    pub fn expect(self, frame: impl Into<Frame>) -> Self {
        self.step(Step::Expect(Expected::Frame(frame.into())))
    }

    /// Expects a message of which this is true; `what` says in words what is expected.
    pub fn expect_matching(
        self,
        what: &'static str,
        matches: impl Fn(&Frame) -> bool + Send + Sync + 'static,
    ) -> Self {
        self.step(Step::Expect(Expected::Matching(what, Arc::new(matches))))
    }

    /// Expects a message, whatever it says.
    pub fn expect_any(self) -> Self {
        let is_message = |frame: &Frame| matches!(frame, Frame::Text(_) | Frame::Binary(_));
        self.expect_matching("a message", is_message)
    }

    /// Expects the client's Ping, of a ping interval for example.
    pub fn expect_ping(self) -> Self {
        self.step(Step::Expect(Expected::Ping))
    }

    /// Expects a Pong with this payload.
    pub fn expect_pong(self, payload: impl Into<Bytes>) -> Self {
        self.expect(Frame::Pong(payload.into()))
    }

    /// Expects a Close, whatever its reason.
    pub fn expect_close(self) -> Self {
        self.step(Step::Expect(Expected::Close))
    }

    /// Expects a Close with this code; [`CloseCode::NO_STATUS`] is one without.
    pub fn expect_close_code(self, code: CloseCode) -> Self {
        self.step(Step::Expect(Expected::CloseCode(code)))
    }

    /// Sends a message or a control frame.
    pub fn send(self, frame: impl Into<Frame>) -> Self {
        self.step(Step::Send(frame.into()))
    }

    /// Sends a Ping.
    pub fn ping(self, payload: impl Into<Bytes>) -> Self {
        self.send(Frame::Ping(payload.into()))
    }

    /// Sends a Close.
    pub fn close(self, reason: CloseReason) -> Self {
        self.send(reason)
    }

    /// Sends a frame as it is: see [`MockPeer::send_frame`].
    pub fn send_frame(self, frame: RawFrame) -> Self {
        self.step(Step::SendFrame(frame))
    }

    /// Sends bytes as they are: see [`MockPeer::send_raw`].
    pub fn send_raw(self, bytes: impl Into<Bytes>) -> Self {
        self.step(Step::SendRaw(bytes.into()))
    }

    /// Lets some time pass on the mock's clock.
    pub fn pause(self, pause: Duration) -> Self {
        self.step(Step::Pause(pause))
    }

    /// Stops taking anything: see [`MockPeer::stall`].
    pub fn stall(self) -> Self {
        self.step(Step::Stall)
    }

    /// Ends a [`stall`](Self::stall).
    pub fn resume(self) -> Self {
        self.step(Step::Resume)
    }

    /// Ends the stream: see [`MockPeer::eof`].
    pub fn eof(self) -> Self {
        self.step(Step::Eof)
    }

    /// Resets the connection: see [`MockPeer::reset`].
    pub fn reset(self) -> Self {
        self.step(Step::Reset)
    }

    fn step(mut self, step: Step) -> Self {
        self.steps.push(step);
        self
    }

    /// Plays it to its end and waits for the client to go. The error says which step was not to be had, and why.
    pub(super) async fn play(
        &self,
        peer: &mut MockPeer,
        clock: &Clock,
        progress: &Progress,
    ) -> Result<(), String> {
        let last = self.steps.len();
        for (step, number) in self.steps.iter().zip(1..) {
            progress.reaches(format!("step {number} of {last}, {step}"));
            step.play(peer, clock)
                .await
                .map_err(|came| format!("step {number} of {last}: {step}, but {came}"))?;
        }
        progress.ends();
        loop {
            match came(peer).await {
                Ok(frame @ (Frame::Text(_) | Frame::Binary(_))) => {
                    return Err(format!(
                        "its {last} steps were done, but {} came",
                        describe(&frame)
                    ));
                }
                Ok(_) => {}
                Err(_) => break,
            }
        }
        peer.dropped().await;
        Ok(())
    }
}

impl Step {
    async fn play(&self, peer: &mut MockPeer, clock: &Clock) -> Result<(), String> {
        match self {
            Self::Expect(expected) => loop {
                let frame = came(peer).await?;
                if expected.is_met_by(&frame) {
                    break;
                }
                if !expected.passes_over(&frame) {
                    return Err(format!("{} came", describe(&frame)));
                }
            },
            Self::Send(frame) => peer.send(frame.clone()),
            Self::SendFrame(frame) => peer.send_frame(frame.clone()),
            Self::SendRaw(bytes) => peer.send_raw(bytes.clone()),
            Self::Pause(pause) => clock.sleep(*pause).await,
            Self::Stall => peer.stall(),
            Self::Resume => peer.resume(),
            Self::Eof => peer.eof(),
            Self::Reset => peer.reset(),
        }
        Ok(())
    }
}

/// The next frame, or in words why there is none.
async fn came(peer: &mut MockPeer) -> Result<Frame, String> {
    match peer.next().await {
        Ok(Some(frame)) => Ok(frame),
        Ok(None) => Err("the client ended the connection".into()),
        Err(error) => Err(error.to_string()),
    }
}

impl Expected {
    fn is_met_by(&self, frame: &Frame) -> bool {
        match self {
            Self::Frame(expected) => expected == frame,
            Self::Close => matches!(frame, Frame::Close(_)),
            Self::CloseCode(code) => match frame {
                Frame::Close(reason) => {
                    reason.as_ref().map_or(CloseCode::NO_STATUS, CloseReason::code) == *code
                }
                _ => false,
            },
            Self::Ping => matches!(frame, Frame::Ping(_)),
            Self::Matching(_, matches) => matches(frame),
        }
    }

    /// What may come in between: a client pings and pongs when it wants to.
    fn passes_over(&self, frame: &Frame) -> bool {
        match frame {
            Frame::Ping(_) => true,
            Frame::Pong(_) => !matches!(self, Self::Frame(Frame::Pong(_))),
            _ => false,
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Expect(expected) => write!(f, "expected {expected}"),
            Self::Send(frame) => write!(f, "sends {}", describe(frame)),
            Self::SendFrame(frame) => write!(f, "sends {frame:?}"),
            Self::SendRaw(bytes) => write!(f, "sends {} raw bytes", bytes.len()),
            Self::Pause(pause) => write!(f, "pauses for {pause:?}"),
            Self::Stall => f.write_str("stalls"),
            Self::Resume => f.write_str("resumes"),
            Self::Eof => f.write_str("ends the stream"),
            Self::Reset => f.write_str("resets the connection"),
        }
    }
}

impl fmt::Display for Expected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Frame(frame) => f.write_str(&describe(frame)),
            Self::Close => f.write_str("a close"),
            Self::CloseCode(code) => write!(f, "a close with code {code}"),
            Self::Ping => f.write_str("a ping"),
            Self::Matching(what, _) => f.write_str(what),
        }
    }
}

impl fmt::Debug for Expected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
