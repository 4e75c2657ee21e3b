//! What can be installed on a client.

use crate::{DefaultRequest, HttpTimeout, Proxies, WebSockets};

/// Something for [`install`](crate::HttpClientBuilder::install): [`WebSockets`], [`HttpTimeout`] and
/// [`DefaultRequest`]. Sealed: what needs no capability of an engine is no plugin.
///
/// Installing the same plugin again overrides the options that the second one sets.
pub trait Plugin: sealed::Plugin {}

impl<P: sealed::Plugin> Plugin for P {}

/// What is installed.
#[derive(Clone, Debug, Default)]
pub struct Installed {
    pub(crate) web_sockets: Option<WebSockets>,
    pub(crate) timeout: HttpTimeout,
    pub(crate) defaults: DefaultRequest,
    pub(crate) proxies: Proxies,
    /// No plugin: an option of the builder.
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
