//! Plugins of a client.

use drivetrain_engine::UnixSocket;
use drivetrain_session::WebSockets;

use crate::{default_request::DefaultRequest, http_timeout::HttpTimeout, proxy::Proxies};

/// A plugin to [`install`](crate::HttpClientBuilder::install): [`WebSockets`], [`HttpTimeout`] or [`DefaultRequest`].
///
/// Installed a second time, a plugin overrides the options that it sets. Sealed: use a tower
/// [layer](crate::HttpClientBuilder::layer) for anything that does not depend on an engine's capabilities.
pub trait Plugin: sealed::Plugin {}

impl<P: sealed::Plugin> Plugin for P {}

/// The installed plugins.
#[derive(Clone, Debug, Default)]
pub struct Installed {
    pub(crate) web_sockets: Option<WebSockets>,
    pub(crate) timeout: HttpTimeout,
    pub(crate) defaults: DefaultRequest,
    pub(crate) proxies: Proxies,
    pub(crate) unix_socket: Option<UnixSocket>,
    /// An option of the builder, not of a plugin.
    pub(crate) max_response_size: Option<u64>,
}

pub(crate) mod sealed {
    use super::Installed;

    pub trait Plugin {
        fn install(self, installed: &mut Installed);
    }
}

impl sealed::Plugin for WebSockets {
    fn install(self, installed: &mut Installed) {
        installed.web_sockets = Some(match installed.web_sockets.take() {
            None => self,
            Some(earlier) => earlier.overridden_by(self),
        });
    }
}

impl sealed::Plugin for HttpTimeout {
    fn install(self, installed: &mut Installed) {
        installed.timeout = installed.timeout.overridden_by(self);
    }
}

impl sealed::Plugin for DefaultRequest {
    fn install(self, installed: &mut Installed) {
        installed.defaults.override_by(self);
    }
}
