//! A pipe of frames with the ends of a TCP connection: each direction ends by itself, and a socket that is closed with
//! unread input is reset.

use std::{
    collections::VecDeque,
    io, mem,
    sync::{Arc, Mutex, MutexGuard},
    task::{Context, Poll, Waker},
    time::Duration,
};

use drivetrain_engine::{Bytes, Error, ErrorKind, OpCode, Progress, RawFrame, Result, Transport};

use super::{TestRuntime, lock};

const HIGH_WATER: usize = 32 << 10;

/// The two ends of a pipe.
pub(crate) fn pipe(runtime: &Arc<TestRuntime>) -> (PipeTransport, PipeTransport) {
    let runtime = runtime.clone();
    let pipe = Arc::new(Pipe { runtime, ends: Mutex::default() });
    (PipeTransport { pipe: pipe.clone(), side: 0 }, PipeTransport { pipe, side: 1 })
}

struct Pipe {
    runtime: Arc<TestRuntime>,
    ends: Mutex<[End; 2]>,
}

/// One end: what it holds, and what it received.
#[derive(Default)]
struct End {
    incoming: VecDeque<RawFrame>,
    /// Nothing comes any more: the end, or a reset.
    ended: Option<Result<(), ()>>,
    encoded: VecDeque<RawFrame>,
    /// It takes nothing: what the other end writes is stuck.
    stalled: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
    progress: Progress,
    reads: usize,
    writes: usize,
    /// Why its writes fail.
    write_error: Option<Error>,
    /// When it ended its direction, and when its socket was closed.
    shut_down: Option<Duration>,
    closed: Option<Duration>,
}

impl Pipe {
    /// Changes the ends, and wakes the tasks that can continue.
    fn with<R>(&self, change: impl FnOnce(&mut [End; 2]) -> R) -> R {
        let (result, woken) = {
            let mut ends: MutexGuard<'_, [End; 2]> = lock(&self.ends);
            let result = change(&mut ends);
            let mut woken = Vec::new();
            for side in [0, 1] {
                let flows = !ends[1 - side].stalled;
                let end = &mut ends[side];
                if !end.incoming.is_empty() || end.ended.is_some() {
                    woken.extend(end.reader.take());
                }
                if flows {
                    woken.extend(end.writer.take());
                }
            }
            (result, woken)
        };
        woken.into_iter().for_each(Waker::wake);
        result
    }

    fn receive(&self, side: usize) -> Option<Result<Option<RawFrame>>> {
        self.with(|ends| {
            let end = &mut ends[side];
            end.reads += 1;
            if let Some(frame) = end.incoming.pop_front() {
                end.progress.received += 1 + frame.payload.len();
                return Some(Ok(Some(frame)));
            }
            Some(match end.ended? {
                Ok(()) => Ok(None),
                Err(()) => Err(Error::from(io::Error::from(io::ErrorKind::ConnectionReset))),
            })
        })
    }

    /// Moves what is encoded to the other end. Returns whether nothing is left.
    fn flush(&self, side: usize) -> Result<bool> {
        self.with(|ends| {
            let [first, second] = ends;
            let (end, other) = if side == 0 { (first, second) } else { (second, first) };
            if let Some(error) = &end.write_error {
                return Err(error.clone());
            }
            if end.encoded.is_empty() {
                return Ok(true);
            }
            if end.ended == Some(Err(())) || end.shut_down.is_some() {
                return Err(Error::from(io::Error::from(io::ErrorKind::BrokenPipe)));
            }
            if other.stalled {
                return Ok(false);
            }
            let bytes: usize = end.encoded.iter().map(|frame| 1 + frame.payload.len()).sum();
            end.progress.written += bytes;
            end.writes += 1;
            if other.closed.is_some() {
                // To a socket that is closed: answered by a reset.
                end.encoded.clear();
                end.incoming.clear();
                end.ended = Some(Err(()));
            } else {
                other.incoming.append(&mut end.encoded);
            }
            Ok(true)
        })
    }

    fn shut_down(&self, side: usize) {
        let now = self.runtime.elapsed();
        self.with(|ends| {
            if ends[side].shut_down.is_none() {
                ends[side].shut_down = Some(now);
                ends[1 - side].ended.get_or_insert(Ok(()));
            }
        });
    }

    fn close(&self, side: usize) {
        let now = self.runtime.elapsed();
        let (unread, frames) = self.with(|ends| {
            ends[side].closed.get_or_insert(now);
            let unread = !ends[side].incoming.is_empty();
            if unread {
                // The reset overtakes what the other end has not read.
                ends[1 - side].ended = Some(Err(()));
                return (unread, mem::take(&mut ends[1 - side].incoming));
            }
            (unread, VecDeque::new())
        });
        drop(frames);
        if !unread {
            self.shut_down(side);
        }
    }
}

/// An end that a session has.
pub(crate) struct PipeTransport {
    pipe: Arc<Pipe>,
    side: usize,
}

impl PipeTransport {
    /// The same end in the hands of the test.
    pub(crate) fn by_hand(self) -> Peer {
        Peer(self)
    }

    fn has_room(&self) -> bool {
        self.end(|end| {
            let waits: usize = end.encoded.iter().map(|frame| frame.payload.len()).sum();
            waits < HIGH_WATER && end.write_error.is_none()
        })
    }

    fn end<R>(&self, look: impl FnOnce(&mut End) -> R) -> R {
        look(&mut lock(&self.pipe.ends)[self.side])
    }
}

impl Transport for PipeTransport {
    fn poll_receive(
        &mut self,
        cx: &mut Context<'_>,
        max_payload: usize,
    ) -> Poll<Result<Option<RawFrame>>> {
        match self.pipe.receive(self.side) {
            Some(Ok(Some(frame)))
                if !frame.opcode.is_control() && frame.payload.len() > max_payload =>
            {
                let size = frame.payload.len();
                let message =
                    format!("a frame of {size} bytes is above the limit of {max_payload}");
                Poll::Ready(Err(Error::new(ErrorKind::TooBig, message)))
            }
            Some(received) => Poll::Ready(received),
            None => {
                self.end(|end| end.reader = Some(cx.waker().clone()));
                Poll::Pending
            }
        }
    }

    fn progress(&self) -> Option<Progress> {
        Some(self.end(|end| end.progress))
    }

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<()>> {
        if self.has_room() { Poll::Ready(Ok(())) } else { self.poll_flush(cx) }
    }

    fn start_send(&mut self, frame: RawFrame) -> Result<()> {
        self.end(|end| end.encoded.push_back(frame));
        Ok(())
    }

    fn try_send(&mut self, opcode: OpCode, payload: &[u8]) -> bool {
        let takes = payload.len() <= 125 && self.has_room();
        if takes {
            let frame = RawFrame::new(opcode, Bytes::copy_from_slice(payload));
            self.end(|end| end.encoded.push_back(frame));
        }
        takes
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<()>> {
        match self.pipe.flush(self.side) {
            Ok(true) => Poll::Ready(Ok(())),
            Ok(false) => {
                self.end(|end| end.writer = Some(cx.waker().clone()));
                Poll::Pending
            }
            Err(error) => Poll::Ready(Err(error)),
        }
    }

    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<Result<()>> {
        let flushed = self.poll_flush(cx);
        if matches!(flushed, Poll::Ready(Ok(()))) {
            self.pipe.shut_down(self.side);
        }
        flushed
    }
}

impl Drop for PipeTransport {
    fn drop(&mut self) {
        self.pipe.close(self.side);
    }
}

/// An end that the test writes by hand.
pub(crate) struct Peer(PipeTransport);

impl Peer {
    /// Sends a frame.
    pub(crate) fn send(&mut self, frame: RawFrame) {
        self.0.end(|end| end.encoded.push_back(frame));
        // Nobody is told that what it sends is lost.
        let _ = self.0.pipe.flush(self.0.side);
    }

    /// The next frame that has come, if there is one.
    #[track_caller]
    pub(crate) fn receive(&mut self) -> Option<RawFrame> {
        match self.0.pipe.receive(self.0.side)? {
            Ok(frame) => frame,
            Err(error) => panic!("the session's end was reset: {error}"),
        }
    }

    /// Whether the session's end has ended its direction, and all of it was received.
    pub(crate) fn sees_the_end(&mut self) -> bool {
        matches!(self.0.pipe.receive(self.0.side), Some(Ok(None)))
    }

    /// Ends its direction.
    pub(crate) fn shut_down(&mut self) {
        self.0.pipe.shut_down(self.0.side);
    }

    /// Whether it takes what the session writes. Default: it does.
    pub(crate) fn set_stalled(&mut self, stalled: bool) {
        let side = self.0.side;
        self.0.pipe.with(|ends| ends[side].stalled = stalled);
    }

    /// Fails the session's writes from now on.
    pub(crate) fn fail_writes(&mut self, error: Error) {
        self.of_session(|end| end.write_error = Some(error));
    }

    /// How many reads and how many writes the session has made; a write has all that is encoded.
    pub(crate) fn reads(&self) -> usize {
        self.of_session(|end| end.reads)
    }

    pub(crate) fn writes(&self) -> usize {
        self.of_session(|end| end.writes)
    }

    fn of_session<R>(&self, look: impl FnOnce(&mut End) -> R) -> R {
        look(&mut lock(&self.0.pipe.ends)[1 - self.0.side])
    }

    /// Whether the session closed the socket.
    pub(crate) fn is_closed(&self) -> bool {
        self.closed_at().is_some()
    }

    /// When the session ended its direction, if it did.
    pub(crate) fn shut_down_at(&self) -> Option<Duration> {
        self.of_session(|end| end.shut_down)
    }

    /// When the session closed the socket, if it did.
    pub(crate) fn closed_at(&self) -> Option<Duration> {
        self.of_session(|end| end.closed)
    }
}
