//! Opens a WebSocket: reqwest dials and upgrades, the framer takes over.

use std::sync::{Arc, Mutex, PoisonError};

use drivetrain_engine::{Answer, Duties, Error, ErrorKind, Handshake, Result};
use drivetrain_reqwest::Hop;

use crate::framer::{BoxStream, Framer, Options, Stream};

/// A stream that the caller brought, until it is used.
#[derive(Clone)]
pub(crate) struct Brought(Arc<Mutex<Option<BoxStream>>>);

impl Brought {
    pub(crate) fn new(stream: impl Stream + 'static) -> Self {
        Self(Arc::new(Mutex::new(Some(Box::new(stream)))))
    }

    fn take(&self) -> Result<BoxStream> {
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
    options: &Options,
    handshake: &Handshake,
) -> Result<Answer> {
    let options = options.clone();
    Ok(match brought {
        Some(brought) => hop
            .open_over(brought.take()?, handshake)
            .await?
            .into_answer(Duties::frames(), |stream, early, _| Framer::new(stream, early, options)),
        None => hop.open(handshake).await?.into_answer(Duties::frames(), |stream, early, _| {
            Framer::new(Box::new(stream), early, options)
        }),
    })
}
