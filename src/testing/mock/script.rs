//! The steps of a scripted peer.

use std::{fmt, sync::Arc, time::Duration};

use bytes::Bytes;
use drivetrain_engine::{CloseCode, CloseReason, Frame, RawFrame};

use super::{MockPeer, describe::describe, log::ScriptProgress};
use crate::testing::Clock;

/// A scripted peer: the messages that it expects and sends.
///
/// Each connection runs the script from the start. An expecting step waits for the next frame. If another frame
/// arrives, the script ends: the client's session fails with an error that names the expected and the actual frame,
/// and [`assert_done`](super::MockEngine::assert_done) fails too. (A client that has closed by then has ended already.) If
/// the client ends the connection during a waiting step, the script ends in the same way. `assert_done` also names a
/// script that still waits. After its last step the peer stays until the client leaves. A further message fails the
/// script.
///
/// As [`MockPeer`], a script answers Pings and Closes automatically, unless the route is
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
    steps: Vec<ScriptStep>,
}

#[derive(Clone, Debug)]
enum ScriptStep {
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
    /// An empty script.
    pub fn new() -> Self {
        Self::default()
    }

    /// Expects this message, or this control frame.
    pub fn expect(self, frame: impl Into<Frame>) -> Self {
        self.step(ScriptStep::Expect(Expected::Frame(frame.into())))
    }

    /// Expects a message that satisfies the predicate; `what` describes it for errors.
    pub fn expect_matching(
        self,
        what: &'static str,
        matches: impl Fn(&Frame) -> bool + Send + Sync + 'static,
    ) -> Self {
        self.step(ScriptStep::Expect(Expected::Matching(what, Arc::new(matches))))
    }

    /// Expects any message.
    pub fn expect_any(self) -> Self {
        let is_message = |frame: &Frame| matches!(frame, Frame::Text(_) | Frame::Binary(_));
        self.expect_matching("a message", is_message)
    }

    /// Expects a Ping of the client, for example of its ping interval.
    pub fn expect_ping(self) -> Self {
        self.step(ScriptStep::Expect(Expected::Ping))
    }

    /// Expects a Pong with this payload.
    pub fn expect_pong(self, payload: impl Into<Bytes>) -> Self {
        self.expect(Frame::Pong(payload.into()))
    }

    /// Expects a Close with any reason.
    pub fn expect_close(self) -> Self {
        self.step(ScriptStep::Expect(Expected::Close))
    }

    /// Expects a Close with this code; [`CloseCode::NO_STATUS`] expects none.
    pub fn expect_close_code(self, code: CloseCode) -> Self {
        self.step(ScriptStep::Expect(Expected::CloseCode(code)))
    }

    /// Sends a message or a control frame.
    pub fn send(self, frame: impl Into<Frame>) -> Self {
        self.step(ScriptStep::Send(frame.into()))
    }

    /// Sends a Ping.
    pub fn ping(self, payload: impl Into<Bytes>) -> Self {
        self.send(Frame::Ping(payload.into()))
    }

    /// Sends a Close.
    pub fn close(self, reason: CloseReason) -> Self {
        self.send(reason)
    }

    /// Sends a frame unchanged: see [`MockPeer::send_frame`].
    pub fn send_frame(self, frame: RawFrame) -> Self {
        self.step(ScriptStep::SendFrame(frame))
    }

    /// Sends bytes unchanged: see [`MockPeer::send_raw`].
    pub fn send_raw(self, bytes: impl Into<Bytes>) -> Self {
        self.step(ScriptStep::SendRaw(bytes.into()))
    }

    /// Waits for this time on the mock's clock.
    pub fn pause(self, pause: Duration) -> Self {
        self.step(ScriptStep::Pause(pause))
    }

    /// Stops reading: see [`MockPeer::stall`].
    pub fn stall(self) -> Self {
        self.step(ScriptStep::Stall)
    }

    /// Ends a [`stall`](Self::stall).
    pub fn resume(self) -> Self {
        self.step(ScriptStep::Resume)
    }

    /// Ends the stream: see [`MockPeer::eof`].
    pub fn eof(self) -> Self {
        self.step(ScriptStep::Eof)
    }

    /// Resets the connection: see [`MockPeer::reset`].
    pub fn reset(self) -> Self {
        self.step(ScriptStep::Reset)
    }

    fn step(mut self, step: ScriptStep) -> Self {
        self.steps.push(step);
        self
    }

    /// Plays the script and waits for the client to leave. The error names the failed step and the reason.
    pub(super) async fn play(
        &self,
        peer: &mut MockPeer,
        clock: &Clock,
        progress: &ScriptProgress,
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

impl ScriptStep {
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

/// The next frame, or the reason for its absence.
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

    /// Whether the step skips this frame: a client may ping and pong at any time.
    fn passes_over(&self, frame: &Frame) -> bool {
        match frame {
            Frame::Ping(_) => true,
            Frame::Pong(_) => !matches!(self, Self::Frame(Frame::Pong(_))),
            _ => false,
        }
    }
}

impl fmt::Display for ScriptStep {
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
