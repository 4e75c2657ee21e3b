//! The stack of `tower` services between the client and its engine, for plain requests and for handshakes.
//!
//! From the outside in: the user's layers, decompression, redirects, the answer to a 401, cookies, the engine
//! service.

#[cfg(feature = "cookies")]
mod cookies;
#[cfg(any(feature = "gzip", feature = "brotli", feature = "zstd"))]
mod decompression;
mod encodings;
mod engine_service;
mod exchange;
mod redirect;
mod service;
mod transfer_coding;
mod unauthorized;
mod upload;

use std::sync::Arc;

use drivetrain_engine::{ConnectTimeout, Engine};
use drivetrain_session::{AppliedBy, SetBy, Setting};
pub use redirect::Redirects;
pub use service::HttpService;
pub(crate) use service::erase;
use tower::Layer as _;
pub(crate) use unauthorized::Hook;
pub use unauthorized::Unauthorized;

use self::{encodings::ENCODINGS, engine_service::EngineService};
use crate::plugin::Installed;

/// Wraps the services inside of it in a layer of the user.
pub(crate) type Wrap = Box<dyn FnOnce(HttpService) -> HttpService + Send>;

/// The services to build the stack of.
#[derive(Default)]
pub(crate) struct Pipeline {
    pub(crate) redirects: Redirects,
    pub(crate) unauthorized: Option<Hook>,
    pub(crate) without_decompression: bool,
    #[cfg(feature = "cookies")]
    pub(crate) cookies: Option<crate::cookie_jar::CookieJar>,
    /// The outermost layer first.
    pub(crate) layers: Vec<Wrap>,
}

impl Pipeline {
    /// The rows for `settings()`.
    pub(crate) fn settings(&self) -> Vec<Setting> {
        let set_by = |is_default| if is_default { SetBy::Default } else { SetBy::Client };
        let row = |name, value: String, is_default| {
            Setting::new(name, value, set_by(is_default), AppliedBy::Client)
        };
        let is_default = self.redirects == Redirects::default();
        let mut rows = vec![row("redirects", self.redirects.to_string(), is_default)];
        #[cfg(feature = "cookies")]
        rows.push(match &self.cookies {
            Some(_) => row("cookie_jar", "kept".into(), false),
            None => row("cookie_jar", "none".into(), true),
        });
        rows.push(match &self.unauthorized {
            Some(_) => row("on_unauthorized", "a hook, once".into(), false),
            None => row("on_unauthorized", "none".into(), true),
        });
        let decompression = match (self.without_decompression, ENCODINGS) {
            (true, _) | (false, "") => "none",
            (false, encodings) => encodings,
        };
        rows.push(row("decompression", decompression.into(), !self.without_decompression));
        rows.push(row("layers", self.layers.len().to_string(), self.layers.is_empty()));
        rows
    }

    /// The stack over an engine.
    pub(crate) fn over(self, engine: Arc<dyn Engine>, installed: &Installed) -> HttpService {
        let mut stack = HttpService::new(EngineService {
            engine,
            connect_timeout: installed.timeout.connect.map(ConnectTimeout),
            proxies: Arc::new(installed.proxies.clone()),
            unix_socket: installed.unix_socket.clone(),
        });
        #[cfg(feature = "cookies")]
        if let Some(jar) = self.cookies {
            stack = erase(cookies::CookiesLayer(jar).layer(stack));
        }
        if let Some(hook) = self.unauthorized {
            stack = erase(unauthorized::UnauthorizedLayer(hook).layer(stack));
        }
        if let Some(layer) = self.redirects.layer() {
            stack = erase(layer.layer(stack));
        }
        #[cfg(any(feature = "gzip", feature = "brotli", feature = "zstd"))]
        if !self.without_decompression {
            stack = erase(decompression::ForRequests.layer(stack));
        }
        self.layers.into_iter().rev().fold(stack, |stack, wrap| wrap(stack))
    }
}
