//! The framer over a scripted stream.

use std::{
    collections::VecDeque,
    io,
    pin::Pin,
    task::{Context, Poll, Waker},
};

use drivetrain_engine::{Error, RawFrame, Role, Transport};
use futures_io::{AsyncRead, AsyncWrite};

use crate::{Framer, Options};

mod receive;
mod send;

enum Step {
    Bytes(Vec<u8>),
    Wait,
    Fail(io::ErrorKind),
}

/// Reads what the script says, then ends; writes at most `accepts` bytes at a time, every other call.
#[derive(Default)]
struct Scripted {
    script: VecDeque<Step>,
    written: Vec<u8>,
    accepts: Option<usize>,
    hesitates: bool,
    writes: usize,
    closed: bool,
}

impl AsyncRead for Scripted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        assert!(!buffer.is_empty(), "a read without room");
        match self.script.pop_front() {
            None => Poll::Ready(Ok(0)),
            Some(Step::Wait) => {
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            Some(Step::Fail(kind)) => Poll::Ready(Err(kind.into())),
            Some(Step::Bytes(mut bytes)) => {
                let count = bytes.len().min(buffer.len());
                let rest = bytes.split_off(count);
                buffer[..count].copy_from_slice(&bytes);
                if !rest.is_empty() {
                    self.script.push_front(Step::Bytes(rest));
                }
                Poll::Ready(Ok(count))
            }
        }
    }
}

impl AsyncWrite for Scripted {
    fn poll_write(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        assert!(!bytes.is_empty(), "a write of nothing");
        self.writes += 1;
        if self.hesitates && self.writes % 2 == 1 {
            return Poll::Pending;
        }
        let count = bytes.len().min(self.accepts.unwrap_or(usize::MAX));
        self.written.extend_from_slice(&bytes[..count]);
        Poll::Ready(Ok(count))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.closed = true;
        Poll::Ready(Ok(()))
    }
}

fn framer(role: Role, script: impl IntoIterator<Item = Step>) -> Framer<Scripted> {
    let stream = Scripted { script: script.into_iter().collect(), ..Scripted::default() };
    Framer::new(stream, role, &Options::default())
}

fn client(bytes: impl Into<Vec<u8>>) -> Framer<Scripted> {
    framer(Role::Client, [Step::Bytes(bytes.into())])
}

fn cx() -> Context<'static> {
    Context::from_waker(Waker::noop())
}

fn wait<T>(mut poll: impl FnMut(&mut Context<'_>) -> Poll<T>) -> T {
    for _ in 0..10_000_000 {
        if let Poll::Ready(value) = poll(&mut cx()) {
            return value;
        }
    }
    panic!("never ready");
}

fn receive(framer: &mut Framer<Scripted>) -> Result<Option<RawFrame>, Error> {
    wait(|cx| framer.poll_receive(cx, 2 << 30))
}

fn frame(framer: &mut Framer<Scripted>) -> RawFrame {
    receive(framer).expect("receives").expect("a frame")
}

fn payload(length: usize) -> Vec<u8> {
    (0..length).map(|at| (at * 31 % 251) as u8).collect()
}

/// A frame as it is on the wire, encoded without the code under test.
fn wire(first: u8, payload: &[u8], mask: Option<[u8; 4]>) -> Vec<u8> {
    let flag = if mask.is_some() { 0x80 } else { 0 };
    let mut bytes = vec![first];
    match payload.len() {
        length @ 0..126 => bytes.push(flag | length as u8),
        length @ 126..0x1_0000 => {
            bytes.push(flag | 126);
            bytes.extend((length as u16).to_be_bytes());
        }
        length => {
            bytes.push(flag | 127);
            bytes.extend((length as u64).to_be_bytes());
        }
    }
    bytes.extend(mask.into_iter().flatten());
    let key = mask.unwrap_or_default();
    bytes.extend(payload.iter().enumerate().map(|(at, byte)| byte ^ key[at % 4]));
    bytes
}
