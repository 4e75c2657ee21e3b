//! The options of a connector, and the state that its clones share.

use std::{fmt, sync::Arc};

use drivetrain_engine::Result;

#[cfg(feature = "http2")]
use crate::over_http2::connections::Http2Connections;
use crate::{
    options::ConnectOptions,
    pool::Pool,
    tls::{Made, TlsConnector},
};

/// The options, and what is made of them when it is first needed.
pub struct ConnectorState {
    pub(crate) options: ConnectOptions,
    tls: Made,
    pub(crate) pool: Pool,
    #[cfg(feature = "http2")]
    pub(crate) http2: Http2Connections,
}

impl ConnectorState {
    pub(crate) fn new(options: ConnectOptions) -> Arc<Self> {
        Arc::new(Self {
            pool: Pool::new(options.pool),
            options,
            tls: Made::default(),
            #[cfg(feature = "http2")]
            http2: Http2Connections::default(),
        })
    }

    /// TLS for HTTP/1.1 alone.
    pub(crate) fn tls(&self) -> Result<TlsConnector> {
        self.tls.get(|| self.options.tls.connector(&["http/1.1"]))
    }
}

impl fmt::Debug for ConnectorState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConnectorState").field("options", &self.options).finish_non_exhaustive()
    }
}
