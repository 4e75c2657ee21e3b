//! Opens a WebSocket: reqwest dials and upgrades, the framer takes over.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use drivetrain_engine::{Answer, Duties, Error, ErrorKind, Handshake, Result, Role};
use drivetrain_reqwest::Hop;
use drivetrain_tungstenite_common::{Framer, Options as Framing};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::compat::{Compat, TokioAsyncReadCompatExt as _};

/// A stream that the caller brought, until it is used.
#[derive(Clone)]
pub(crate) struct Brought(Arc<Mutex<Option<Box<dyn Stream>>>>);

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

impl Brought {
    pub(crate) fn new(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) -> Self {
        Self(Arc::new(Mutex::new(Some(Box::new(stream)))))
    }

    fn take(&self) -> Result<Box<dyn Stream>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take().ok_or_else(|| {
            let message = "the stream that the caller brought has been used: bring another one";
            Error::new(ErrorKind::Connect, message).with_engine(crate::NAME)
        })
    }
}

/// Sends the handshake, over the stream that was brought or over a connection of its own.
pub(crate) async fn open(
    hop: &Hop,
    brought: Option<&Brought>,
    framing: &Framing,
    handshake: &Handshake,
) -> Result<Answer> {
    match brought {
        Some(brought) => {
            let opened = hop.open_over(brought.take()?, handshake).await?;
            Ok(opened
                .into_answer(Duties::frames(), |s, read_ahead, _| frame(s, read_ahead, framing)))
        }
        None => {
            let opened = hop.open(handshake).await?;
            Ok(opened
                .into_answer(Duties::frames(), |s, read_ahead, _| frame(s, read_ahead, framing)))
        }
    }
}

fn frame<S>(stream: S, read_ahead: Bytes, framing: &Framing) -> Framer<Compat<S>>
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
{
    Framer::with_leftover(stream.compat(), read_ahead, Role::Client, framing)
}
