//! A stream that the caller brings.

use std::sync::{Arc, Mutex, PoisonError};

use drivetrain_engine::{Capability, Error, ErrorKind, Result, Support};
use tokio::io::{AsyncRead, AsyncWrite};

/// A stream of tokio's, whatever it is.
pub trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

/// A stream that a WebSocket runs over: an upgraded connection, or what the caller brought.
pub type BoxStream = Box<dyn Stream>;

/// A stream that the caller brought, until it is used.
#[derive(Clone)]
pub(crate) struct Brought(Arc<Mutex<Option<BoxStream>>>);

impl Brought {
    pub(crate) const ONE_STREAM: &'static str =
        "it runs over one stream that the caller brought: it opens one WebSocket";
    pub(crate) const NOTHING_TO_DIAL: &'static str =
        "a stream that the caller brings is connected already";
    const OWN_TLS: &'static str =
        "a stream that the caller brings has its own TLS: present the certificate there";

    pub(crate) fn new(stream: impl Stream + 'static) -> Self {
        Self(Arc::new(Mutex::new(Some(Box::new(stream)))))
    }

    pub(crate) fn take(&self, engine: &'static str) -> Result<BoxStream> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take().ok_or_else(|| {
            let message = "the stream that the caller brought has been used: bring another one";
            Error::new(ErrorKind::Connect, message).with_engine(engine)
        })
    }

    pub(crate) fn support(capability: Capability) -> Support {
        match capability {
            // The stream already is the TLS stream: it is used as it is.
            Capability::Tls => Support::Offered,
            Capability::ConnectTimeout | Capability::Proxies | Capability::SocksProxies => {
                Support::missing(Self::NOTHING_TO_DIAL)
            }
            Capability::ClientCertificates => Support::missing(Self::OWN_TLS),
            _ => Support::missing(Self::ONE_STREAM),
        }
    }
}
